//! Promises `capacity` and `no-false-full`: what the counts say, and what the acknowledgements add up to.

use std::collections::BTreeMap;

use super::evidence::{Evidence, Export};
use super::kept::is_live;
use super::lives::{Lives, story_of, tell};
use super::{Finding, Promise};
use crate::history::Outcome;

/// Over capacity in either export, by its counts or its bookings; or, at any moment, by the acknowledgements alone.
/// The journal's prefixes are looked at by [`super::journal`].
pub(crate) fn judge(evidence: &Evidence, lives: &Lives<'_>) -> (String, Vec<Finding>) {
    let mut findings = Vec::new();
    in_export(&evidence.export, "after the end", &mut findings);
    in_export(&evidence.live_export, "of the running server", &mut findings);
    in_history(evidence, lives, &mut findings);
    let full = evidence.export.slots.values().filter(|slot| slot.held + slot.booked >= slot.capacity).count();
    (format!("{} slots, {full} of them full at the end", evidence.export.slots.len()), findings)
}

fn finding(promise: Promise, what: String, story: Vec<String>) -> Finding {
    Finding { promise, what, story }
}

fn in_export(export: &Export, which: &str, findings: &mut Vec<Finding>) {
    let mut live: BTreeMap<&str, u64> = BTreeMap::new();
    for line in export.bookings.values().filter(|line| is_live(line)) {
        *live.entry(&line.slot).or_default() += 1;
    }
    for slot in export.slots.values() {
        let claims = live.get(slot.slot.as_str()).copied().unwrap_or(0);
        if slot.held + slot.booked > slot.capacity || claims > slot.capacity {
            let what = format!("slot {} is over its capacity of {} in the export {which}", slot.slot, slot.capacity);
            let story = vec![
                format!("slot {} of session {}: held {}, booked {}", slot.slot, slot.session, slot.held, slot.booked),
                format!("{claims} live holds and bookings stand on it"),
            ];
            findings.push(finding(Promise::Capacity, what, story));
        }
    }
}

/// Counts, slot by slot, the claims that were live beyond doubt at one moment.
fn in_history(evidence: &Evidence, lives: &Lives<'_>, findings: &mut Vec<Finding>) {
    // Ends sort before beginnings at the same moment: a doubt counts for the server.
    let mut changes: BTreeMap<&str, Vec<(i64, i64, &str)>> = BTreeMap::new();
    for (&code, life) in &lives.bookings {
        if let Some((from, until)) = life.certainly_live() {
            let slot = changes.entry(&life.claim.slot).or_default();
            slot.push((from, 1, code));
            slot.push((until, -1, code));
        }
    }
    for (name, mut changes) in changes {
        let Some(slot) = evidence.export.slots.get(name) else {
            let codes: Vec<&str> = changes.iter().map(|&(_, _, code)| code).take(2).collect();
            let what = format!("slot {name} took claims and is not in the export");
            findings.push(finding(Promise::Capacity, what, story_of(evidence, &codes)));
            continue;
        };
        changes.sort_unstable();
        let mut live: Vec<&str> = Vec::new();
        for (at_us, change, code) in changes {
            if change < 0 {
                live.retain(|other| *other != code);
                continue;
            }
            live.push(code);
            if live.len() > usize::try_from(slot.capacity).unwrap_or(usize::MAX) {
                let after = at_us - evidence.began_us();
                let what = format!(
                    "slot {name} had {} acknowledged live claims at {}.{:06}s and has a capacity of {}",
                    live.len(),
                    after / 1_000_000,
                    after % 1_000_000,
                    slot.capacity
                );
                findings.push(finding(Promise::Capacity, what, story_of(evidence, &live)));
                break;
            }
        }
    }
}

/// A refusal `full` names its counts; for a request of one slot they must leave too little room.
pub(crate) fn judge_refusals(evidence: &Evidence) -> (String, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut seen = 0;
    for operation in &evidence.operations {
        if operation.outcome != Outcome::Refused || operation.code.as_deref() != Some("full") {
            continue;
        }
        seen += 1;
        let Some([capacity, held, booked]) = operation.counts else {
            let what = "a refusal `full` does not say what it counted".to_owned();
            findings.push(finding(Promise::NoFalseFull, what, vec![tell(operation, evidence.began_us())]));
            continue;
        };
        let slot = operation.asked.first().map(|claim| claim.slot.as_str());
        if !operation.asked.iter().all(|claim| Some(claim.slot.as_str()) == slot) {
            // Of several slots one was full; the answer does not say which.
            continue;
        }
        let wanted = u64::try_from(operation.asked.len()).unwrap_or(u64::MAX);
        if capacity.saturating_sub(held + booked) >= wanted {
            let what =
                format!("slot {} was called full with {} of {capacity} taken", slot.unwrap_or("?"), held + booked);
            findings.push(finding(Promise::NoFalseFull, what, vec![tell(operation, evidence.began_us())]));
        }
    }
    (format!("{seen} refusals `full`"), findings)
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{Scene, broken};
    use super::*;
    use crate::history::Op;

    #[test]
    fn a_full_slot_is_not_over_its_capacity() {
        let mut scene = Scene::new();
        scene.capacity("s1.1", 2).book("k1", "p1.1", "s1.1", "A").book("k2", "p1.2", "s1.1", "B");
        scene.state("A", "booked").state("B", "booked");
        assert_eq!(broken(&scene, Promise::Capacity), [""; 0]);
    }

    #[test]
    fn an_oversold_slot_is_found_in_export_and_history() {
        let mut scene = Scene::new();
        scene.capacity("s1.1", 1).book("k1", "p1.1", "s1.1", "A").book("k2", "p1.2", "s1.1", "B");
        scene.state("A", "booked").state("B", "booked");
        let found = broken(&scene, Promise::Capacity);
        assert!(found.iter().any(|what| what.contains("in the export")), "{found:?}");
        assert!(found.iter().any(|what| what.contains("acknowledged live claims")), "{found:?}");
    }

    #[test]
    fn a_passing_oversale_is_found_in_the_history_alone() {
        let mut scene = Scene::new();
        scene.capacity("s1.1", 1).hold("k1", "p1.1", "s1.1", "A").hold("k2", "p1.2", "s1.1", "B");
        scene.state("A", "expired").state("B", "expired");
        let found = broken(&scene, Promise::Capacity);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("2 acknowledged live claims"));
    }

    #[test]
    fn a_unit_that_may_have_come_back_may_be_sold_again() {
        let mut scene = Scene::new();
        scene.capacity("s1.1", 1).book("k1", "p1.1", "s1.1", "A").lost("k2", Op::Cancel, "A");
        scene.book("k3", "p1.2", "s1.1", "B").state("A", "cancelled").state("B", "booked");
        assert_eq!(broken(&scene, Promise::Capacity), [""; 0]);
    }

    #[test]
    fn a_slot_that_vanished_is_found() {
        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").state("A", "booked").without_slot("s1.1");
        assert!(broken(&scene, Promise::Capacity)[0].contains("not in the export"));
    }

    #[test]
    fn a_false_full_is_found_and_a_true_one_is_not() {
        let mut scene = Scene::new();
        scene.full("k1", "p1.1", "s1.1", [5, 2, 3]);
        assert_eq!(broken(&scene, Promise::NoFalseFull), [""; 0]);
        scene.full("k2", "p1.2", "s1.1", [5, 2, 2]);
        assert!(broken(&scene, Promise::NoFalseFull)[0].contains("4 of 5 taken"));
        let mut scene = Scene::new();
        scene.full_uncounted("k1", "p1.1", "s1.1");
        assert!(broken(&scene, Promise::NoFalseFull)[0].contains("does not say what it counted"));
    }
}
