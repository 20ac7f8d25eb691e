//! Whether a run proves anything: the generator kept up, the kills landed among open requests, enough was acknowledged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::lives::{Fate, Lives};
use super::overload::OverloadFacts;
use super::record::Operation;
use crate::fault::Fault;
use crate::history::{MarkKind, Op, Outcome};
use crate::scenario::Overload;

/// What the audit has to know of the generator and of what was planned. Kept beside the history, so that a run can be
/// audited again.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct GeneratorFacts {
    pub(crate) late_ms: u64,
    pub(crate) late_share_max: f64,
    pub(crate) fast_ms: u64,
    /// What was planned to be done to the server and its ground.
    pub(crate) faults: Vec<Fault>,
    pub(crate) acknowledged_bookings_min: u64,
    pub(crate) arrivals_planned: u64,
    pub(crate) arrivals_dropped: u64,
    /// Seconds in which the generator's own loop was late.
    pub(crate) lagging_seconds: u64,
    pub(crate) cut_short: Option<String>,
    /// What the scenario says of an overload, and what was seen of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) overload: Option<Overload>,
    #[serde(default)]
    pub(crate) overload_facts: OverloadFacts,
}

/// One kill, as the history shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct KillFacts {
    /// Which of the scenario's faults, from 0. One whose blow missed strikes again.
    pub(crate) fault: u32,
    pub(crate) at_us: i64,
    pub(crate) back_us: Option<i64>,
    pub(crate) how: String,
    /// Changes in flight, counted live when it struck.
    pub(crate) changes_in_flight: u64,
    /// All operations whose client was waiting at that moment.
    pub(crate) operations_in_flight: u64,
    /// How many of those were changes, and how many of these never got an answer.
    pub(crate) changes_waiting: u64,
    pub(crate) unknown: u64,
}

/// One second of the drive.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Second {
    /// First sendings meant for this second, and how many of them left late.
    pub(crate) starts: u64,
    pub(crate) late: u64,
    /// Answers received in this second.
    pub(crate) ok: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) bookings: u64,
    /// From the intended start, of the answers received in this second.
    pub(crate) latency_p50_us: i64,
    pub(crate) latency_p99_us: i64,
    /// From the sending, of the same.
    pub(crate) service_p50_us: i64,
}

/// The drive, second by second, from its beginning.
pub(crate) fn seconds_of(evidence: &Evidence, late_ms: u64) -> Vec<Second> {
    #[derive(Default)]
    struct Samples {
        second: Second,
        latency: Vec<i64>,
        service: Vec<i64>,
    }
    let began_us = evidence.began_us();
    let index = |us: i64| usize::try_from((us - began_us).div_euclid(1_000_000)).unwrap_or(0);
    let late_us = i64::try_from(late_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let mut seconds: BTreeMap<usize, Samples> = BTreeMap::new();
    for operation in evidence.operations.iter().filter(|operation| operation.op != Op::Outcome) {
        if operation.attempt == 1 {
            let samples = seconds.entry(index(operation.intended_us)).or_default();
            samples.second.starts += 1;
            samples.second.late += u64::from(operation.sent_us - operation.intended_us > late_us);
        }
        let samples = seconds.entry(index(operation.received_us)).or_default();
        match operation.outcome {
            Outcome::Ok => samples.second.ok += 1,
            Outcome::Refused => samples.second.refused += 1,
            Outcome::Unknown => samples.second.unknown += 1,
        }
        if is_new_booking(operation) {
            samples.second.bookings += u64::try_from(operation.told.len()).unwrap_or(0);
        }
        if operation.outcome != Outcome::Unknown {
            samples.latency.push(operation.received_us - operation.intended_us);
            samples.service.push(operation.received_us - operation.sent_us);
        }
    }
    let count = seconds.keys().next_back().map_or(0, |last| last + 1);
    (0..count)
        .map(|index| {
            let Samples { mut second, mut latency, mut service } = seconds.remove(&index).unwrap_or_default();
            second.latency_p50_us = quantile(&mut latency, 0.5);
            second.latency_p99_us = quantile(&mut latency, 0.99);
            second.service_p50_us = quantile(&mut service, 0.5);
            second
        })
        .collect()
}

/// A booking acknowledged for the first time.
pub(super) fn is_new_booking(operation: &Operation) -> bool {
    operation.outcome == Outcome::Ok && !operation.replayed && matches!(operation.op, Op::Confirm | Op::Book)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index under the length"
)]
pub(super) fn quantile(samples: &mut [i64], share: f64) -> i64 {
    samples.sort_unstable();
    let index = (samples.len() as f64 * share) as usize;
    samples.get(index.min(samples.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// The kills of the history, in order.
pub(crate) fn kills(evidence: &Evidence) -> Vec<KillFacts> {
    let mut kills = Vec::new();
    for mark in &evidence.marks {
        match &mark.mark {
            MarkKind::Killed { fault, how, changes_in_flight, .. } => {
                let waiting: Vec<&Operation> = evidence
                    .operations
                    .iter()
                    .filter(|operation| operation.sent_us <= mark.at_us && mark.at_us <= operation.received_us)
                    .collect();
                // A search or a read that was cut puts nothing at stake.
                let changes = waiting.iter().filter(|operation| operation.op.changes());
                let unknown = changes.clone().filter(|operation| operation.outcome == Outcome::Unknown).count();
                kills.push(KillFacts {
                    fault: *fault,
                    at_us: mark.at_us,
                    back_us: None,
                    how: how.clone(),
                    changes_in_flight: *changes_in_flight,
                    operations_in_flight: u64::try_from(waiting.len()).unwrap_or(u64::MAX),
                    changes_waiting: u64::try_from(changes.count()).unwrap_or(u64::MAX),
                    unknown: u64::try_from(unknown).unwrap_or(u64::MAX),
                });
            }
            MarkKind::Restarted { .. } => {
                if let Some(kill) = kills.last_mut() {
                    kill.back_us = Some(mark.at_us);
                }
            }
            _ => {}
        }
    }
    kills
}

/// Every reason why the run proves nothing; none when it does.
pub(crate) fn reasons_invalid(evidence: &Evidence, lives: &Lives<'_>, facts: &GeneratorFacts) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(why) = &facts.cut_short {
        reasons.push(format!("the drive was cut short: {why}"));
    }
    let bookings = lives.iter().filter(|(_, life)| life.booked_us.is_some()).count();
    if u64::try_from(bookings).unwrap_or(u64::MAX) < facts.acknowledged_bookings_min {
        reasons.push(format!(
            "{bookings} bookings were acknowledged, and the scenario asks for at least {}",
            facts.acknowledged_bookings_min
        ));
    }
    reasons.extend(kills_missed(evidence, facts));
    reasons.extend(super::disk::proves_nothing(evidence, &facts.faults));
    reasons.extend(super::redis::proves_nothing(evidence, &facts.faults));
    reasons.extend(never_struck(evidence, &facts.faults));
    reasons.extend(generator_behind(evidence, facts));
    reasons.extend(refused_for_nothing(evidence, facts));
    reasons.extend(facts.overload.iter().flat_map(|overload| super::overload::proves_nothing(evidence, overload)));
    let open = lives.keys.iter().filter(|key| key.fate == Fate::Open).count();
    if open * 100 > lives.keys.len() {
        reasons.push(format!("{open} of {} keys were still open at the end, after all retries", lives.keys.len()));
    }
    reasons
}

/// Each planned kill must have landed at least once.
fn kills_missed(evidence: &Evidence, facts: &GeneratorFacts) -> Vec<String> {
    let mut reasons = Vec::new();
    let kills = kills(evidence);
    for (number, fault) in (0_u32..).zip(&facts.faults).filter(|(_, fault)| fault.kill.is_some()) {
        let needed = fault.in_flight_min;
        let blows: Vec<&KillFacts> = kills.iter().filter(|kill| kill.fault == number).collect();
        let misses: Vec<String> = blows.iter().filter_map(|kill| why_missed(kill, needed)).collect();
        if blows.is_empty() {
            reasons.push(format!("planned kill {} never struck", number + 1));
        } else if misses.len() == blows.len() {
            reasons.push(format!("planned kill {} {}", number + 1, misses.join(", and then ")));
        }
    }
    reasons
}

/// Faults of other kinds must have struck.
fn never_struck(evidence: &Evidence, faults: &[Fault]) -> Vec<String> {
    let struck: Vec<u32> = super::hurts(evidence).iter().map(|hurt| hurt.fault).collect();
    (0_u32..)
        .zip(faults)
        .filter(|(_, fault)| fault.kill.is_none() && fault.redis.is_none() && !fault.fills_disk())
        .filter(|(number, _)| !struck.contains(number))
        .map(|(number, fault)| format!("fault {} ({}) never struck", number + 1, fault.word()))
        .collect()
}

/// Why a kill proves nothing, if it does not.
fn why_missed(kill: &KillFacts, needed: u32) -> Option<String> {
    let seen = kill.changes_in_flight.min(kill.changes_waiting);
    if seen < u64::from(needed) {
        return Some(format!("landed with {seen} changes in flight, under the {needed} it needs"));
    }
    if kill.unknown == 0 {
        return Some("left no outcome unknown, so nothing was at stake".into());
    }
    kill.back_us.is_none().then(|| "was not followed by a restart".into())
}

/// Late starts count against the generator only while the server answered fast and was not down or catching up.
fn generator_behind(evidence: &Evidence, facts: &GeneratorFacts) -> Vec<String> {
    let mut reasons = Vec::new();
    let seconds = seconds_of(evidence, facts.late_ms);
    let fast_us = i64::try_from(facts.fast_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let began_us = evidence.began_us();
    let outages: Vec<(i64, i64)> = kills(evidence)
        .iter()
        .map(|kill| {
            let back_us = kill.back_us.unwrap_or(i64::MAX / 4);
            (kill.at_us - began_us, back_us - began_us + (back_us - kill.at_us).saturating_mul(3).max(5_000_000))
        })
        .collect();
    let starts: u64 = seconds.iter().map(|second| second.starts).sum();
    let late: u64 = (0_i64..)
        .zip(&seconds)
        .filter(|(index, second)| {
            let (from, to) = (index * 1_000_000, (index + 1) * 1_000_000);
            second.service_p50_us < fast_us && !outages.iter().any(|&(down, up)| from < up && down < to)
        })
        .map(|(_, second)| second.late)
        .sum();
    if percent(late, starts) > facts.late_share_max * 100.0 {
        reasons.push(format!(
            "the generator was the bottleneck: {late} of {starts} starts were more than {} ms late while the server answered fast",
            facts.late_ms
        ));
    }
    let drive_seconds = u64::try_from(seconds.len()).unwrap_or(u64::MAX);
    if percent(facts.lagging_seconds, drive_seconds) > facts.late_share_max.max(0.25) * 100.0 {
        reasons.push(format!(
            "the generator was the bottleneck: its own loop was late in {} of {drive_seconds} seconds",
            facts.lagging_seconds
        ));
    }
    if percent(facts.arrivals_dropped, facts.arrivals_planned) > facts.late_share_max * 100.0 {
        reasons.push(format!(
            "{} of {} people could not be started in time and were dropped",
            facts.arrivals_dropped, facts.arrivals_planned
        ));
    }
    reasons
}

/// Refusals that no person's doing explains: the harness and the server do not speak the same contract.
fn refused_for_nothing(evidence: &Evidence, facts: &GeneratorFacts) -> Option<String> {
    const EXPECTED: [&str; 17] = [
        "full",
        "slot_closed",
        "already_claimed",
        "too_many_claims",
        "hold_expired",
        "wrong_state",
        "not_the_hold",
        "same_slot",
        "not_eligible",
        "idempotency_in_flight",
        "unknown_key",
        // Whether these are true is the business of the promise `acknowledged`.
        "unknown_booking",
        "below_taken",
        // Of who sets too much aside, or asks too often, where the scenario limits that.
        "hoarding",
        "rate_limited",
        "wrong_check_in_code",
        // With its reason it is a true no. How many there may be, the scenario says (`objectives.share_max`, `overload`).
        "overloaded",
    ];
    let disk_fills = facts.faults.iter().any(|fault| fault.fills_disk());
    let mut strange: BTreeMap<&str, u64> = BTreeMap::new();
    for operation in evidence.operations.iter().filter(|operation| operation.outcome == Outcome::Refused) {
        let code = operation.code.as_deref().unwrap_or("no code");
        // When these are in order is the business of the promise `full-disk`.
        let full_disk = code == "journal_full" && disk_fills;
        if !EXPECTED.contains(&code) && !full_disk {
            *strange.entry(code).or_default() += 1;
        }
    }
    let sum: u64 = strange.values().sum();
    let operations = u64::try_from(evidence.operations.len()).unwrap_or(u64::MAX);
    if percent(sum, operations) <= 0.1 {
        return None;
    }
    let list: Vec<String> = strange.iter().map(|(code, count)| format!("{code} {count} times")).collect();
    Some(format!("the server refused what should have been in order: {}", list.join(", ")))
}

#[expect(clippy::cast_precision_loss, reason = "a share for a threshold")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::lives::by_key;
    use super::super::scenes::Scene;
    use super::*;

    fn facts() -> GeneratorFacts {
        GeneratorFacts {
            late_ms: 100,
            late_share_max: 0.05,
            fast_ms: 20,
            arrivals_planned: 10,
            ..GeneratorFacts::default()
        }
    }

    /// A planned kill that needs so many changes in flight.
    fn kill(in_flight_min: u32) -> Fault {
        Fault { in_flight_min, ..Fault::power_cut_after(0) }
    }

    fn reasons(scene: &Scene, facts: &GeneratorFacts) -> Vec<String> {
        let evidence = scene.evidence();
        let by_key = by_key(&evidence);
        reasons_invalid(&evidence, &Lives::of(&evidence, &by_key), facts)
    }

    #[test]
    fn a_quiet_run_is_valid() {
        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").state("A", "booked");
        assert_eq!(reasons(&scene, &facts()), [""; 0]);
    }

    #[test]
    fn too_few_bookings_a_missing_kill_and_a_cut_are_named() {
        let scene = Scene::new();
        let facts = GeneratorFacts {
            acknowledged_bookings_min: 1,
            faults: vec![kill(100)],
            cut_short: Some("stopped".into()),
            ..facts()
        };
        let found = reasons(&scene, &facts).join("\n");
        for part in ["cut short: stopped", "asks for at least 1", "planned kill 1 never struck"] {
            assert!(found.contains(part), "{found}");
        }
    }

    #[test]
    fn a_kill_between_requests_proves_nothing() {
        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").kill().state("A", "booked");
        let facts = GeneratorFacts { faults: vec![kill(1)], ..facts() };
        assert!(reasons(&scene, &facts)[0].contains("landed with 0 changes in flight"));

        let mut scene = Scene::new();
        scene.caught_by_kill("k1", "p1.1", "s1.1");
        assert_eq!(reasons(&scene, &facts), ["1 of 1 keys were still open at the end, after all retries"]);
    }

    #[test]
    fn a_kill_that_cut_only_a_search_proves_nothing() {
        let mut scene = Scene::new();
        scene.search_caught_by_kill();
        let facts = GeneratorFacts { faults: vec![kill(1)], ..facts() };
        assert!(reasons(&scene, &facts)[0].contains("landed with 0 changes in flight"));
        // Nor among changes that all had their answers.
        let facts = GeneratorFacts { faults: vec![kill(0)], ..facts };
        assert!(reasons(&scene, &facts)[0].contains("left no outcome unknown"));
    }

    #[test]
    fn a_blow_that_missed_is_made_good_by_one_that_landed() {
        let mut scene = Scene::new();
        scene.kill().caught_by_kill("k1", "p1.1", "s1.1").no_outcome_of("k1");
        let facts = GeneratorFacts { faults: vec![kill(1)], ..facts() };
        assert_eq!(reasons(&scene, &facts), [""; 0]);
    }

    #[test]
    fn late_starts_count_only_while_the_server_is_fast() {
        let mut scene = Scene::new();
        scene.late_read(500, 5);
        assert!(reasons(&scene, &facts())[0].contains("generator was the bottleneck"));
        let mut scene = Scene::new();
        scene.late_read(500, 900);
        assert_eq!(reasons(&scene, &facts()), [""; 0]);
    }

    #[test]
    fn refusals_that_nobody_earned_make_a_run_invalid() {
        let mut scene = Scene::new();
        scene.refused_claim("k1", "p1.1", "s1.1", "malformed_request");
        assert!(reasons(&scene, &facts())[0].contains("malformed_request 1 times"));
    }
}
