//! A run as per-second values: by phase and operation, from its history alone.

use std::collections::BTreeMap;
use std::path::Path;

use crate::audit::{Operation, for_each_operation};
use crate::error::{CannotRun, Doing};
use crate::history::{Op, Outcome};
use crate::run::RunRecord;

/// What of a run is compared.
#[derive(Debug)]
pub(crate) struct Run {
    pub(super) name: String,
    pub(super) directory: String,
    pub(super) seed: u64,
    pub(super) version: String,
    /// Phases in their order.
    pub(super) phases: Vec<Phase>,
}

#[derive(Debug, Default)]
pub(super) struct Phase {
    pub(super) name: String,
    from_us: i64,
    pub(super) seconds: Vec<Second>,
}

/// One whole second of a phase.
#[derive(Debug, Default)]
pub(super) struct Second {
    pub(super) bookings: u64,
    pub(super) by_operation: BTreeMap<Op, Answers>,
    /// Refusals of all operations, by code.
    pub(super) refusals: BTreeMap<String, u64>,
}

/// The answers of one operation in one second.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) ok: u64,
    pub(super) unknown: u64,
    /// From the intended start, of everything that was answered.
    pub(super) latencies_us: Vec<i64>,
}

impl Run {
    /// Reads a report directory.
    pub(crate) fn read(directory: &Path) -> Result<Self, CannotRun> {
        let path = directory.join("run.json");
        let text = std::fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
        let record: RunRecord = serde_json::from_str(&text).doing(|| format!("read {}", path.display()))?;
        let mut run = Self {
            name: record.scenario.name.clone(),
            directory: directory.display().to_string(),
            seed: record.seed,
            version: record.server.version.clone(),
            phases: phases(&record.generator.overload_facts.phases),
        };
        let whole = run.phases.is_empty();
        for_each_operation(&directory.join("history.ndjson"), |operation| {
            if whole && run.phases.is_empty() {
                run.phases.push(Phase { name: "drive".into(), from_us: operation.sent_us, seconds: Vec::new() });
            }
            run.add(&operation, whole);
        })?;
        Ok(run)
    }

    /// An operation counts in the second in which its answer came; what lies outside of all phases is left out.
    fn add(&mut self, operation: &Operation, grows: bool) {
        let at_us = operation.received_us;
        let Some(phase) = self.phases.iter_mut().rev().find(|phase| phase.from_us <= at_us) else { return };
        let place = usize::try_from((at_us - phase.from_us) / 1_000_000).unwrap_or(usize::MAX);
        if grows && place < 86_400 && phase.seconds.len() <= place {
            phase.seconds.resize_with(place + 1, Second::default);
        }
        let Some(second) = phase.seconds.get_mut(place).filter(|_| operation.op != Op::Outcome) else { return };
        if operation.outcome == Outcome::Ok && !operation.replayed && matches!(operation.op, Op::Confirm | Op::Book) {
            second.bookings += operation.told.len() as u64;
        }
        let answers = second.by_operation.entry(operation.op).or_default();
        match operation.outcome {
            Outcome::Ok => answers.ok += 1,
            Outcome::Refused => {
                let code = operation.code.as_deref().unwrap_or("no code");
                *second.refusals.entry(code.to_owned()).or_default() += 1;
            }
            Outcome::Unknown => {
                answers.unknown += 1;
                return;
            }
        }
        answers.latencies_us.push(operation.received_us - operation.intended_us);
    }
}

/// Each phase lasts to the beginning of the next; only whole seconds count, but a shorter phase counts as one.
fn phases(noted: &[(String, i64, i64)]) -> Vec<Phase> {
    let ends = noted.iter().skip(1).map(|(_, from_us, _)| Some(*from_us)).chain([None]);
    noted
        .iter()
        .zip(ends)
        .map(|((name, from_us, to_us), next_us)| {
            let seconds = (next_us.unwrap_or(*to_us) - from_us) / 1_000_000;
            let mut phase = Phase { name: name.clone(), from_us: *from_us, seconds: Vec::new() };
            phase.seconds.resize_with(usize::try_from(seconds).unwrap_or(0).clamp(1, 86_400), Second::default);
            phase
        })
        .collect()
}

#[cfg(test)]
impl Run {
    /// One phase of so many seconds, each with holds of the latencies that `latency` gives.
    pub(super) fn made_up(seconds: usize, latency: impl Fn(usize, usize) -> i64) -> Self {
        let mut phase = Phase { name: "rush".into(), from_us: 0, seconds: Vec::new() };
        for place in 0..seconds {
            let latencies_us = (0..100).map(|request| latency(place, request)).collect();
            let answers = Answers { ok: 100, unknown: 0, latencies_us };
            phase.seconds.push(Second {
                bookings: 50,
                by_operation: [(Op::Hold, answers)].into(),
                refusals: BTreeMap::new(),
            });
        }
        let (name, directory) = ("made up".to_owned(), "here".to_owned());
        Self { name, directory, seed: 1, version: "0".into(), phases: vec![phase] }
    }
}
