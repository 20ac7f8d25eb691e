//! Promise `one-effect`: whatever was sent under one key has one effect and one answer, and nothing exists that nobody
//! asked for.

use super::Promise;
use super::entries::Entry;
use super::evidence::Evidence;
use super::findings::Found;
use super::journal::Walk;
use super::lives::{Fate, Key, Lives, tell};
use super::record::{Claim, Operation, Told};
use crate::error::CannotRun;
use crate::history::{Op, Outcome};
use crate::name::{Map, Name};

pub(crate) fn judge(evidence: &Evidence, lives: &Lives<'_>, walk: &Walk) -> Result<(String, Found), CannotRun> {
    let mut found = Found::none(Promise::OneEffect);
    let (mut repeated, mut open) = (0_usize, 0_usize);
    let began_us = evidence.began_us();
    for key in &lives.keys {
        repeated += usize::from(key.sendings.len() > 1);
        open += usize::from(key.fate == Fate::Open);
        if let Some(what) = two_answers(key) {
            found.told(|| what, || key.sendings.iter().map(|operation| tell(operation, began_us)).collect());
        }
    }
    written_twice(evidence, walk, &mut found)?;
    shared_codes(evidence, lives, &mut found);
    nobody_asked(evidence, lives, &mut found);
    let looked_at =
        format!("{} keys, {repeated} of them sent more than once, {open} open to the end", lives.keys.len());
    Ok((looked_at, found))
}

/// What an answer says was done: the hold and the bookings, in any order.
fn effect(answer: &Operation) -> (Option<Name>, Vec<(Name, Name)>) {
    let mut codes: Vec<(Name, Name)> = answer.told.iter().map(|told| (told.booking, told.slot)).collect();
    codes.sort_unstable();
    (answer.hold, codes)
}

fn two_answers(key: &Key<'_>) -> Option<String> {
    let name = key.name;
    let mut answers = key.answers();
    let first = answers.next()?;
    if answers.any(|answer| effect(answer) != effect(first)) {
        return Some(format!("key {name} was answered with two different effects"));
    }
    let forgotten = key.sendings.iter().find(|again| {
        again.outcome == Outcome::Refused && again.sent_us >= first.received_us && !again.is_turned_away()
    });
    if let Some(again) = forgotten {
        let code = again.code.as_deref().unwrap_or("no code");
        return Some(format!("key {name} was acknowledged, and then refused as {code}"));
    }
    let fresh = key.answers().filter(|answer| answer.op != Op::Outcome && !answer.replayed).count();
    if fresh > 1 {
        return Some(format!("key {name} was acted on {fresh} times: that many answers are not replays"));
    }
    // The answer must be to what was asked: the same people on the same slots.
    let differs = match (key.asked(), &first.told[..]) {
        _ if !key.op().claims() && key.op() != Op::Move => false,
        ([asked], [told]) => *asked != told.claim(),
        (asked, told) => {
            let (mut asked, mut told): (Vec<Claim>, Vec<Claim>) =
                (asked.to_vec(), told.iter().map(Told::claim).collect());
            asked.sort_unstable();
            told.sort_unstable();
            asked != told
        }
    };
    differs.then(|| format!("key {name} was answered with claims it did not ask for"))
}

/// A key that the journal holds two entries for.
fn written_twice(evidence: &Evidence, walk: &Walk, found: &mut Found) -> Result<(), CannotRun> {
    let twice = walk.keys.windows(2).filter(|pair| pair[0] == pair[1]);
    let twice: Vec<u128> = twice.map(|pair| pair[0]).collect();
    if twice.is_empty() {
        return Ok(());
    }
    let mut first: Map<u64, u64> = Map::default();
    evidence.entries.each(|entry: &Entry| {
        let Some(place) = entry.key.and_then(|key| twice.binary_search(&key).ok()) else { return };
        if let Some(seq) = first.insert(place as u64, entry.seq) {
            let what =
                || format!("journal entries {seq} and {} were written for one key, {:032x}", entry.seq, twice[place]);
            let codes: Vec<Name> = entry.claims.iter().map(|claim| claim.booking).collect();
            found.about(what, &codes);
        }
    })
}

/// One code, acknowledged to two keys that each asked for something new.
fn shared_codes(evidence: &Evidence, lives: &Lives<'_>, found: &mut Found) {
    let makes = lives.keys.iter().filter(|key| key.op().claims() || key.op() == Op::Move);
    let mut owners: Vec<(Name, Name)> = makes
        .filter_map(|key| Some((key.name, key.answers().next()?)))
        .flat_map(|(name, answer)| answer.told.iter().map(move |told| (told.booking, name)))
        .collect();
    owners.sort_unstable();
    owners.dedup();
    for pair in owners.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let ((code, one), (_, other)) = (pair[0], pair[1]);
        found.about(|| format!("booking {code} was given to two requests, keys {one} and {other}"), &[one, other]);
    }
    for &code in &evidence.export.repeated {
        found.about(|| format!("booking {code} stands on two lines of the export"), &[code]);
    }
}

/// Holds and bookings that no answer named. Each needs a key of its own that asked for just that claim and is still
/// open; a key that was answered otherwise has had its effect, or has none.
fn nobody_asked(evidence: &Evidence, lives: &Lives<'_>, found: &mut Found) {
    let mut open: Map<Claim, usize> = Map::default();
    for claim in lives.keys.iter().filter(|key| key.fate == Fate::Open).flat_map(Key::asked) {
        *open.entry(*claim).or_default() += 1;
    }
    let mut unknown: Vec<Name> =
        evidence.export.bookings.keys().copied().filter(|code| lives.get(*code).is_none()).collect();
    unknown.sort_unstable();
    for code in unknown {
        let line = &evidence.export.bookings[&code];
        let claim = line.claim();
        if let Some(left) = open.get_mut(&claim).filter(|left| **left > 0) {
            *left -= 1;
            continue;
        }
        let what = || format!("booking {code} ({}) of {claim} exists, and no request explains it", line.state);
        found.told(what, || asked_for(evidence, &claim));
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
        // Turned away before its key was looked at, it was told nothing of it.
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").refused_claim("k1", "p1.1", "s1.1", "overloaded").state("A", "expired");
        assert_eq!(broken(&scene, Promise::OneEffect), [""; 0]);
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
    fn a_retry_that_was_turned_away_after_a_kill_leaves_the_first_sending_open() {
        let mut scene = Scene::new();
        scene.lost_claim("k1", "p1.1", "s1.1").kill();
        scene.refused_claim("k1", "p1.1", "s1.1", "overloaded").exists("A", "p1.1", "s1.1", "held");
        assert_eq!(broken(&scene, Promise::OneEffect), [""; 0]);
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
