//! The figures of a report, worked out once from the witnesses and shared by page, JSON and terminal.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::audit::{Evidence, HurtFacts, KillFacts, Operation, PhaseFigures, Second, hurts, kills, phases, seconds_of};
use crate::history::{MarkKind, Op, Outcome};
use crate::run::RunRecord;

/// Everything a report shows besides the judgement.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Microseconds since 1970 when the history begins; seconds count from here.
    pub(crate) began_us: i64,
    pub(crate) drive_seconds: f64,
    pub(crate) operations: u64,
    pub(crate) ok: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// Bookings acknowledged for the first time, however they ended.
    pub(crate) bookings_acknowledged: u64,
    pub(crate) keys_sent_again: u64,
    pub(crate) late_starts: u64,
    pub(crate) starts: u64,
    pub(crate) kills: Vec<KillFacts>,
    pub(crate) hurts: Vec<HurtFacts>,
    pub(crate) snapshots_asked: u64,
    /// Changes acknowledged, replays not counted.
    pub(crate) changes_acknowledged: u64,
    pub(crate) by_operation: Vec<OperationFigures>,
    /// Code to how often.
    pub(crate) refusals: BTreeMap<String, u64>,
    pub(crate) unknowns: BTreeMap<String, u64>,
    pub(crate) districts: Vec<DistrictFigures>,
    pub(crate) seconds: Vec<Second>,
    /// Of an overload, phase by phase, and how the server was held.
    pub(crate) overload: Vec<PhaseFigures>,
    pub(crate) share: Option<String>,
}

/// Latencies of one operation, in milliseconds, from the intended start, of everything that was answered.
#[derive(Debug, Serialize)]
pub(crate) struct OperationFigures {
    pub(crate) op: &'static str,
    pub(crate) ok: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
    /// The median from the sending, to tell a slow server from a late start.
    pub(crate) service_p50_ms: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct DistrictFigures {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) units: u64,
    pub(crate) taken: u64,
}

impl Figures {
    pub(crate) fn of(record: &RunRecord, evidence: &Evidence) -> Self {
        let operations: Vec<&Operation> =
            evidence.operations.iter().filter(|operation| operation.op != Op::Outcome).collect();
        let count =
            |outcome: Outcome| tally(operations.iter().filter(|operation| operation.outcome == outcome).count());
        let seconds = seconds_of(evidence, record.generator.late_ms);
        let began_us = evidence.began_us();
        let ended_us = operations.iter().map(|operation| operation.received_us).max().unwrap_or(began_us);
        Self {
            began_us,
            drive_seconds: milliseconds(ended_us - began_us) / 1_000.0,
            operations: tally(operations.len()),
            ok: count(Outcome::Ok),
            refused: count(Outcome::Refused),
            unknown: count(Outcome::Unknown),
            bookings_acknowledged: seconds.iter().map(|second| second.bookings).sum(),
            keys_sent_again: tally(operations.iter().filter(|one| one.attempt == 2 && one.key.is_some()).count()),
            late_starts: seconds.iter().map(|second| second.late).sum(),
            starts: seconds.iter().map(|second| second.starts).sum(),
            kills: kills(evidence),
            hurts: hurts(evidence),
            snapshots_asked: tally(
                evidence.marks.iter().filter(|mark| matches!(mark.mark, MarkKind::SnapshotAsked)).count(),
            ),
            changes_acknowledged: tally(
                operations.iter().filter(|one| one.op.changes() && one.outcome == Outcome::Ok && !one.replayed).count(),
            ),
            by_operation: Op::ALL.iter().filter_map(|&op| OperationFigures::of(op, evidence)).collect(),
            refusals: by_code(&operations, Outcome::Refused),
            unknowns: by_code(&operations, Outcome::Unknown),
            districts: districts(record, evidence),
            seconds,
            overload: record.scenario.overload.iter().flat_map(|overload| phases(evidence, overload)).collect(),
            share: record.generator.overload_facts.share.clone(),
        }
    }
}

impl OperationFigures {
    fn of(op: Op, evidence: &Evidence) -> Option<Self> {
        // Microseconds, up to an hour.
        let mut latency = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).ok()?;
        let mut service = latency.clone();
        let (mut ok, mut refused, mut unknown) = (0, 0, 0);
        for operation in evidence.operations.iter().filter(|operation| operation.op == op) {
            match operation.outcome {
                Outcome::Ok => ok += 1,
                Outcome::Refused => refused += 1,
                Outcome::Unknown => {
                    unknown += 1;
                    continue;
                }
            }
            latency.saturating_record(u64::try_from(operation.received_us - operation.intended_us).unwrap_or(0));
            service.saturating_record(u64::try_from(operation.received_us - operation.sent_us).unwrap_or(0));
        }
        let at = |histogram: &Histogram<u64>, quantile: f64| {
            milliseconds(i64::try_from(histogram.value_at_quantile(quantile)).unwrap_or(i64::MAX))
        };
        (ok + refused + unknown > 0).then(|| Self {
            op: op.word(),
            ok,
            refused,
            unknown,
            p50_ms: at(&latency, 0.5),
            p99_ms: at(&latency, 0.99),
            p999_ms: at(&latency, 0.999),
            max_ms: milliseconds(i64::try_from(latency.max()).unwrap_or(i64::MAX)),
            service_p50_ms: at(&service, 0.5),
        })
    }
}

fn by_code(operations: &[&Operation], outcome: Outcome) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for operation in operations.iter().filter(|operation| operation.outcome == outcome) {
        *counts.entry(operation.code.as_deref().unwrap_or("no code").to_owned()).or_default() += 1;
    }
    counts
}

fn districts(record: &RunRecord, evidence: &Evidence) -> Vec<DistrictFigures> {
    let mut figures: Vec<DistrictFigures> = record
        .districts
        .iter()
        .map(|district| DistrictFigures {
            id: district.id.clone(),
            name: district.name.clone(),
            units: district.units,
            taken: 0,
        })
        .collect();
    for slot in evidence.export.slots.values() {
        if let Some(district) = record.sessions.get(&slot.session).and_then(|&place| figures.get_mut(place)) {
            district.taken += slot.held + slot.booked;
        }
    }
    figures
}

fn tally(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a time for people to read")]
pub(crate) fn milliseconds(us: i64) -> f64 {
    us as f64 / 1_000.0
}
