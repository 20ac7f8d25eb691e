//! Objectives judged: how fast, how much and how rarely refused each phase was, beside what the scenario wanted.
//!
//! An operation is of the phase in which it was meant to be sent, so that a stall is charged to those it kept waiting. Goodput is
//! what was acknowledged within the phase.

use serde::Serialize;

use crate::audit::{Evidence, Operation};
use crate::history::{Op, Outcome};
use crate::scenario::Objective;

/// One objective: what was wanted, what was measured, and whether that will do.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub(crate) struct Measured {
    pub(crate) met: bool,
    /// As `rush: p99 of hold at most 50 ms`.
    pub(crate) wanted: String,
    /// As `38.2 ms`.
    pub(crate) found: String,
}

/// Judges every part of every objective, in their order.
pub(crate) fn judge(objectives: &[Objective], evidence: &Evidence) -> Vec<Measured> {
    objectives.iter().flat_map(|objective| judge_one(objective, evidence)).collect()
}

fn judge_one(objective: &Objective, evidence: &Evidence) -> Vec<Measured> {
    let (name, from_us, to_us) = match &objective.phase {
        None => ("all", i64::MIN, i64::MAX),
        Some(name) => match evidence.overload.phases.iter().find(|(phase, ..)| phase == name) {
            Some((_, from_us, to_us)) => (name.as_str(), *from_us, *to_us),
            // It is held against the scenario when that is read; a run of an older one may lack it.
            None => (name.as_str(), i64::MAX, i64::MAX),
        },
    };
    let of_op = |one: &&Operation| one.op != Op::Outcome && objective.operation.is_none_or(|op| op == one.op);
    let meant: Vec<&Operation> =
        evidence.operations.iter().filter(of_op).filter(|one| (from_us..to_us).contains(&one.intended_us)).collect();
    let what = objective.operation.map_or("all operations", Op::word);
    let mut rows = Vec::new();
    let mut row = |met: bool, wanted: String, found: String| {
        rows.push(Measured { met, wanted: format!("{name}: {wanted}"), found });
    };
    let mut waits: Vec<i64> = meant
        .iter()
        .filter(|one| one.outcome != Outcome::Unknown)
        .map(|one| one.received_us - one.intended_us)
        .collect();
    waits.sort_unstable();
    for (word, most, share) in
        [("p50", objective.p50_ms, 0.5), ("p99", objective.p99_ms, 0.99), ("p99.9", objective.p999_ms, 0.999)]
    {
        let Some(most) = most else { continue };
        let wanted = format!("{word} of {what} at most {most} ms");
        // Without an answer nothing was fast.
        match at(&waits, share) {
            Some(ms) => row(ms <= most, wanted, format!("{ms:.1} ms of {}", waits.len())),
            None => row(false, wanted, "no answer".into()),
        }
    }
    if let Some(least) = objective.goodput_min {
        let (bookings, seconds) = goodput(evidence, from_us, to_us);
        let rate = bookings / seconds.max(1e-6);
        row(rate >= least, format!("at least {least} bookings a second"), format!("{rate:.1} a second"));
    }
    for (code, most) in &objective.share_max {
        let hits = meant.iter().filter(|one| match one.outcome {
            Outcome::Unknown => code == "unknown",
            Outcome::Refused => one.code.as_deref() == Some(code.as_str()),
            Outcome::Ok => false,
        });
        let (hits, all) = (hits.count(), meant.len());
        let share = float(hits) / float(all.max(1));
        let wanted = format!("{code} at most {} of {what}", percent(*most));
        row(all > 0 && share <= *most, wanted, format!("{} ({hits} of {all})", percent(share)));
    }
    rows
}

/// Bookings acknowledged for the first time within, and over how many seconds.
fn goodput(evidence: &Evidence, from_us: i64, to_us: i64) -> (f64, f64) {
    let received = || evidence.operations.iter().map(|one| one.received_us);
    let from_us = if from_us == i64::MIN { evidence.began_us() } else { from_us };
    let to_us = if to_us == i64::MAX { received().max().unwrap_or(from_us) + 1 } else { to_us };
    let bookings: usize = evidence
        .operations
        .iter()
        .filter(|one| matches!(one.op, Op::Confirm | Op::Book) && one.outcome == Outcome::Ok && !one.replayed)
        .filter(|one| (from_us..to_us).contains(&one.received_us))
        .map(|one| one.told.len())
        .sum();
    (float(bookings), micros(to_us - from_us) / 1_000_000.0)
}

/// The slowest of the fastest `share`, in milliseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the length")]
fn at(sorted: &[i64], share: f64) -> Option<f64> {
    let index = (float(sorted.len()) * share).ceil() as usize;
    sorted.get(index.saturating_sub(1)).map(|&us| micros(us) / 1_000.0)
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[expect(clippy::cast_precision_loss, reason = "a count for a share")]
fn float(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "a time for a threshold")]
fn micros(us: i64) -> f64 {
    us as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{self, Told};

    /// A hundred holds in the phase `rush`, the n-th of which took n milliseconds; the last two were refused, one as `full` and
    /// one without an answer. And four bookings in its two seconds.
    fn evidence() -> Evidence {
        let mut evidence = Evidence::default();
        evidence.overload.phases = vec![("before".into(), 0, 1_000_000), ("rush".into(), 1_000_000, 3_000_000)];
        for number in 1..=100_i64 {
            let (outcome, code) = match number {
                99 => (Outcome::Refused, Some("full".to_owned())),
                100 => (Outcome::Unknown, Some("timed_out".to_owned())),
                _ => (Outcome::Ok, None),
            };
            let intended_us = 1_000_000 + number * 1_000;
            let received_us = intended_us + number * 1_000;
            let sent_us = intended_us;
            let op = Op::Hold;
            let operation =
                history::Operation { op, intended_us, sent_us, received_us, outcome, code, ..Default::default() };
            evidence.operations.push(Operation::from(&operation));
        }
        let told = |number: i64| Told {
            booking: format!("B{number}"),
            party: "p1.1".into(),
            slot: "s1.1".into(),
            dose: 1,
            state: None,
        };
        for number in 0..4 {
            let received_us = 1_500_000 + number;
            let (op, outcome, told) = (Op::Book, Outcome::Ok, vec![told(number)]);
            let operation = history::Operation { op, outcome, told, received_us, ..Default::default() };
            evidence.operations.push(Operation::from(&operation));
        }
        evidence
    }

    fn judged(text: &str) -> Vec<(bool, String)> {
        let objective: Objective = toml::from_str(text).unwrap();
        judge(&[objective], &evidence()).into_iter().map(|row| (row.met, row.found)).collect()
    }

    #[test]
    fn latencies_are_of_the_phase_in_which_they_were_meant() {
        let rows = judged("phase = \"rush\"\noperation = \"hold\"\np50_ms = 50.0\np99_ms = 98.0\np999_ms = 99.0");
        let told: Vec<(bool, &str)> = rows.iter().map(|(met, found)| (*met, found.as_str())).collect();
        assert_eq!(told, [(true, "50.0 ms of 99"), (false, "99.0 ms of 99"), (true, "99.0 ms of 99")]);
        assert_eq!(judged("phase = \"before\"\noperation = \"hold\"\np99_ms = 500.0"), [(false, "no answer".into())]);
    }

    #[test]
    fn goodput_and_shares_are_counted() {
        assert_eq!(judged("phase = \"rush\"\ngoodput_min = 2.0"), [(true, "2.0 a second".into())]);
        assert!(!judged("phase = \"rush\"\ngoodput_min = 2.1")[0].0);
        let rows = judged("phase = \"rush\"\noperation = \"hold\"\nshare_max = { full = 0.01, unknown = 0.0 }");
        assert_eq!(rows, [(true, "1.00 % (1 of 100)".into()), (false, "1.00 % (1 of 100)".into())]);
    }
}
