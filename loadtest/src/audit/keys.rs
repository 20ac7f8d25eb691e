//! Promise `one-effect`: whatever was sent under one key has one effect and one answer, and nothing exists that nobody
//! asked for.

use std::collections::{BTreeMap, HashMap};

use super::evidence::Evidence;
use super::lives::{Fate, Key, Lives, story_of, tell};
use super::{Finding, Promise};
use crate::history::{Claim, Op, Operation, Outcome, Told};

pub(crate) fn judge(evidence: &Evidence, lives: &Lives<'_>) -> (String, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut repeated = 0;
    let mut open = 0;
    for (name, key) in &lives.keys {
        repeated += usize::from(key.sendings.len() > 1);
        open += usize::from(key.fate == Fate::Open);
        findings.extend(one_answer(name, key, evidence));
    }
    written_twice(evidence, &mut findings);
    shared_codes(evidence, lives, &mut findings);
    nobody_asked(evidence, lives, &mut findings);
    let looked_at =
        format!("{} keys, {repeated} of them sent more than once, {open} open to the end", lives.keys.len());
    (looked_at, findings)
}

fn finding(what: String, story: Vec<String>) -> Finding {
    Finding { promise: Promise::OneEffect, what, story }
}

/// What an answer says was done: the hold and the bookings, in any order.
fn effect(answer: &Operation) -> (Option<&str>, Vec<(&str, &str)>) {
    let mut codes: Vec<(&str, &str)> =
        answer.told.iter().map(|told| (told.booking.as_str(), told.slot.as_str())).collect();
    codes.sort_unstable();
    (answer.hold.as_deref(), codes)
}

fn one_answer(name: &str, key: &Key<'_>, evidence: &Evidence) -> Option<Finding> {
    let story = || key.sendings.iter().map(|operation| tell(operation, evidence.began_us())).collect();
    let mut answers = key.answers();
    let first = answers.next()?;
    if answers.any(|answer| effect(answer) != effect(first)) {
        return Some(finding(format!("key {name} was answered with two different effects"), story()));
    }
    let known_us = first.received_us;
    let forgotten = key.sendings.iter().find(|again| {
        again.outcome == Outcome::Refused
            && again.sent_us >= known_us
            && again.code.as_deref() != Some("idempotency_in_flight")
    });
    if let Some(again) = forgotten {
        let code = again.code.as_deref().unwrap_or("no code");
        return Some(finding(format!("key {name} was acknowledged, and then refused as {code}"), story()));
    }
    let fresh = key.answers().filter(|answer| answer.op != Op::Outcome && !answer.replayed).count();
    if fresh > 1 {
        return Some(finding(
            format!("key {name} was acted on {fresh} times: that many answers are not replays"),
            story(),
        ));
    }
    // The answer must be to what was asked: the same people on the same slots.
    if key.op.claims() || key.op == Op::Move {
        let mut asked: Vec<&Claim> = key.asked.iter().collect();
        let told: Vec<Claim> = first.told.iter().map(Told::claim).collect();
        let mut told: Vec<&Claim> = told.iter().collect();
        asked.sort_unstable();
        told.sort_unstable();
        if asked != told {
            return Some(finding(format!("key {name} was answered with claims it did not ask for"), story()));
        }
    }
    None
}

/// A key that the journal holds two entries for.
fn written_twice(evidence: &Evidence, findings: &mut Vec<Finding>) {
    let mut first: HashMap<&str, u64> = HashMap::new();
    for entry in &evidence.entries {
        let Some(key) = entry.key.as_deref() else { continue };
        if let Some(seq) = first.insert(key, entry.seq) {
            let what = format!("journal entries {seq} and {} were written for one key, {key}", entry.seq);
            let codes: Vec<&str> = entry.claims.iter().map(|claim| claim.booking.as_str()).collect();
            findings.push(finding(what, story_of(evidence, &codes)));
        }
    }
}

/// One code, acknowledged to two keys that each asked for something new.
fn shared_codes(evidence: &Evidence, lives: &Lives<'_>, findings: &mut Vec<Finding>) {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, key) in lives.keys.iter().filter(|(_, key)| key.op.claims() || key.op == Op::Move) {
        let Some(answer) = key.answers().next() else { continue };
        for told in &answer.told {
            if let Some(other) = owners.insert(&told.booking, name)
                && other != *name
            {
                let what = format!("booking {} was given to two requests, keys {other} and {name}", told.booking);
                findings.push(finding(what, story_of(evidence, &[other, name])));
            }
        }
    }
    for code in &evidence.export.repeated {
        findings
            .push(finding(format!("booking {code} stands on two lines of the export"), story_of(evidence, &[code])));
    }
}

/// Holds and bookings that no answer named. Each needs a key of its own that asked for just that claim and is still
/// open; a key that was answered otherwise has had its effect, or has none.
fn nobody_asked(evidence: &Evidence, lives: &Lives<'_>, findings: &mut Vec<Finding>) {
    let mut open: HashMap<&Claim, usize> = HashMap::new();
    for key in lives.keys.values().filter(|key| key.fate == Fate::Open) {
        for claim in key.asked {
            *open.entry(claim).or_default() += 1;
        }
    }
    for line in evidence.export.bookings.values() {
        if lives.bookings.contains_key(line.booking.as_str()) {
            continue;
        }
        let claim = line.claim();
        if let Some(left) = open.get_mut(&claim).filter(|left| **left > 0) {
            *left -= 1;
            continue;
        }
        let what = format!(
            "booking {} ({}) of {} on {} for dose {} exists, and no request explains it",
            line.booking, line.state, line.party, line.slot, line.dose
        );
        findings.push(finding(what, asked_for(evidence, &claim)));
    }
}

fn asked_for(evidence: &Evidence, claim: &Claim) -> Vec<String> {
    let began_us = evidence.began_us();
    let mut story: Vec<String> = evidence
        .operations
        .iter()
        .filter(|operation| operation.asked.contains(claim))
        .map(|operation| tell(operation, began_us))
        .take(10)
        .collect();
    if story.is_empty() {
        story.push("no operation of the history asked for it".into());
    }
    story
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{Scene, broken};
    use super::*;

    #[test]
    fn a_replay_is_one_effect() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").replay("k1").state("A", "expired");
        assert_eq!(broken(&scene, Promise::OneEffect), [""; 0]);
    }

    #[test]
    fn a_second_effect_is_found() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").wait_seconds(9).hold("k1", "p1.1", "s1.1", "B");
        scene.state("A", "expired").state("B", "expired");
        assert!(broken(&scene, Promise::OneEffect)[0].contains("two different effects"));
    }

    #[test]
    fn the_same_answer_twice_without_a_replay_is_found() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").hold("k1", "p1.1", "s1.1", "A").state("A", "expired");
        assert!(broken(&scene, Promise::OneEffect)[0].contains("acted on 2 times"));
    }

    #[test]
    fn an_acknowledged_key_that_is_refused_later_is_found() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").refused_claim("k1", "p1.1", "s1.1", "already_claimed");
        scene.state("A", "expired");
        assert!(broken(&scene, Promise::OneEffect)[0].contains("and then refused as already_claimed"));
        // A twin that was refused first, and then found room, is no contradiction.
        let mut scene = Scene::new();
        scene.refused_claim("k1", "p1.1", "s1.1", "full").hold("k1", "p1.1", "s1.1", "A").state("A", "expired");
        assert_eq!(broken(&scene, Promise::OneEffect), [""; 0]);
    }

    #[test]
    fn a_lost_answer_explains_one_booking_and_not_two() {
        let mut scene = Scene::new();
        scene.lost_claim("k1", "p1.1", "s1.1").exists("A", "p1.1", "s1.1", "expired");
        assert_eq!(broken(&scene, Promise::OneEffect), [""; 0]);
        scene.exists("B", "p1.1", "s1.1", "held");
        assert!(broken(&scene, Promise::OneEffect)[0].contains("no request explains it"));
    }

    #[test]
    fn a_key_forgotten_over_a_kill_is_found() {
        // The first sending took effect, the retry was refused as if there had been none.
        let mut scene = Scene::new();
        scene.lost_claim("k1", "p1.1", "s1.1").kill();
        scene.refused_claim("k1", "p1.1", "s1.1", "already_claimed").exists("A", "p1.1", "s1.1", "held");
        assert!(broken(&scene, Promise::OneEffect)[0].contains("no request explains it"));
    }

    #[test]
    fn a_refusal_without_a_kill_leaves_the_first_sending_open() {
        // The first sending may still be waiting in a socket when its retry is refused.
        let mut scene = Scene::new();
        scene.lost_claim("k1", "p1.1", "s1.1").refused_claim("k1", "p1.1", "s1.1", "full");
        scene.exists("A", "p1.1", "s1.1", "held");
        assert_eq!(broken(&scene, Promise::OneEffect), [""; 0]);
    }

    #[test]
    fn an_outcome_read_settles_a_lost_answer() {
        let mut scene = Scene::new();
        scene.lost_claim("k1", "p1.1", "s1.1").outcome_of("k1", Op::Hold, "A", "p1.1", "s1.1").state("A", "held");
        assert_eq!(broken(&scene, Promise::OneEffect), [""; 0]);
        let mut scene = Scene::new();
        scene.lost_claim("k1", "p1.1", "s1.1").no_outcome_of("k1").exists("A", "p1.1", "s1.1", "held");
        assert_eq!(broken(&scene, Promise::OneEffect).len(), 1);
    }

    #[test]
    fn one_code_for_two_requests_is_found() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").hold("k2", "p1.2", "s1.1", "A").state("A", "held");
        assert!(broken(&scene, Promise::OneEffect).iter().any(|what| what.contains("two requests")));
    }

    #[test]
    fn two_entries_for_one_key_are_found() {
        let mut scene = Scene::new();
        scene.entry_held(1, "A", "p1.1", "s1.1").entry_key("k").entry_turn(2, "expired", "A").entry_key("l");
        assert_eq!(written(&scene), 0);
        scene.entry_held(3, "B", "p1.1", "s1.1").entry_key("k");
        assert_eq!(written(&scene), 1);
    }

    fn written(scene: &Scene) -> usize {
        broken(scene, Promise::OneEffect).iter().filter(|what| what.contains("written for one key")).count()
    }

    #[test]
    fn an_answer_to_something_else_is_found() {
        let mut scene = Scene::new();
        scene.answered_with("k1", ("p1.1", "s1.1"), "A", ("p1.1", "s1.7")).state("A", "held");
        assert!(broken(&scene, Promise::OneEffect)[0].contains("did not ask for"));
    }
}
