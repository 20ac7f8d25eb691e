//! Promise `group`: of a request for several people all claims are made or none, and what settles a hold settles all of it.
//!
//! Judged from the answers, from the export and from the journal. Once they are booked, the claims of a group are bookings of their
//! own: each may be cancelled or moved alone.

use super::Promise;
use super::evidence::Evidence;
use super::findings::Found;
use super::journal::Walk;
use super::lives::{Fate, Key, Lives};
use crate::name::{Map, Name};

pub(crate) fn judge(evidence: &Evidence, lives: &Lives<'_>, walk: &Walk) -> (String, Found) {
    let mut found = Found::none(Promise::Group);
    let mut groups = 0_usize;
    let mut half_open: Vec<&Key<'_>> = Vec::new();
    for key in lives.keys.iter().filter(|key| key.op().claims() && key.asked().len() > 1) {
        groups += 1;
        if key.fate == Fate::Open {
            half_open.push(key);
        }
        let Some(answer) = key.answers().next() else { continue };
        let (asked, told) = (key.asked().len(), answer.told.len());
        if told != asked {
            found.about(|| format!("key {} asked for {asked} claims and was given {told}", key.name), &[key.name]);
            continue;
        }
        let codes: Vec<Name> = answer.told.iter().map(|told| told.booking).collect();
        let about = || codes.iter().copied().chain([key.name]).collect::<Vec<_>>();
        if let Some(what) = in_export(evidence, &codes) {
            found.about(|| format!("the group of key {} {what}", key.name), &about());
        } else if !written_at_once(walk, &codes) {
            found.about(|| format!("the group of key {} was not written by one entry", key.name), &about());
        }
    }
    unanswered(evidence, lives, &half_open, &mut found);
    (format!("{groups} requests for several people"), found)
}

/// What is wrong with a group in the export: some of it is there and some is not, or one hold is in two states.
fn in_export(evidence: &Evidence, codes: &[Name]) -> Option<String> {
    let lines: Vec<_> = codes.iter().filter_map(|code| evidence.export.bookings.get(code)).collect();
    if !lines.is_empty() && lines.len() < codes.len() {
        return Some(format!("is there with {} of its {} claims", lines.len(), codes.len()));
    }
    let whole = |state: &str| matches!(state, "held" | "expired" | "released");
    let first = lines.first()?;
    let other = lines.iter().find(|line| line.state != first.state && (whole(&line.state) || whole(&first.state)))?;
    Some(format!("is {} in part and {} in part", first.state, other.state))
}

fn written_at_once(walk: &Walk, codes: &[Name]) -> bool {
    let mut seqs = codes.iter().filter_map(|code| walk.codes.get(code)).map(|born| born.born_seq);
    let first = seqs.next();
    seqs.all(|seq| Some(seq) == first)
}

/// Groups whose answer never came: either no claim of one is there, or all are.
fn unanswered(evidence: &Evidence, lives: &Lives<'_>, keys: &[&Key<'_>], found: &mut Found) {
    if keys.is_empty() {
        return;
    }
    // What nobody was told of, by who it is for. Where another open request asks for the same, nothing is said of either.
    let mut there: Map<_, usize> = Map::default();
    for (_, line) in evidence.export.bookings.iter().filter(|(code, _)| lives.get(**code).is_none()) {
        *there.entry(line.claim()).or_default() += 1;
    }
    let mut asked: Map<_, usize> = Map::default();
    for claim in lives.keys.iter().filter(|key| key.fate == Fate::Open).flat_map(Key::asked) {
        *asked.entry(*claim).or_default() += 1;
    }
    for key in keys.iter().filter(|key| key.asked().iter().all(|claim| asked.get(claim) == Some(&1))) {
        let made = key.asked().iter().filter(|claim| there.contains_key(*claim)).count();
        if made != 0 && made != key.asked().len() {
            let what =
                || format!("of the {} claims of key {}, never answered, {made} are there", key.asked().len(), key.name);
            found.about(what, &[key.name]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{Scene, broken};
    use super::*;

    /// Two people held on one slot, codes A and B.
    fn pair() -> Scene {
        let mut scene = Scene::new();
        scene.hold_group("k1", &[("p1.1", "s1.1", "A"), ("p1.2", "s1.1", "B")]);
        scene
    }

    #[test]
    fn a_group_in_one_state_is_whole_and_so_are_its_bookings_apart() {
        for state in ["held", "expired", "released", "booked"] {
            let mut scene = pair();
            scene.state("A", state).state("B", state).entry_group(1, &["A", "B"]);
            assert_eq!(broken(&scene, Promise::Group), [""; 0], "{state}");
        }
        let mut scene = pair();
        scene.state("A", "booked").state("B", "cancelled").entry_group(1, &["A", "B"]);
        assert_eq!(broken(&scene, Promise::Group), [""; 0]);
    }

    #[test]
    fn half_a_group_in_the_answer_is_found() {
        let mut scene = pair();
        scene.told_only(1).state("A", "held").entry_group(1, &["A"]);
        assert_eq!(broken(&scene, Promise::Group), ["key k1 asked for 2 claims and was given 1"]);
    }

    #[test]
    fn half_a_group_in_the_export_is_found() {
        let mut scene = pair();
        scene.state("A", "held").state("B", "held").export_forgets("B").entry_group(1, &["A", "B"]);
        assert_eq!(broken(&scene, Promise::Group), ["the group of key k1 is there with 1 of its 2 claims"]);
        let mut scene = pair();
        scene.state("A", "booked").state("B", "expired").entry_group(1, &["A", "B"]);
        assert_eq!(broken(&scene, Promise::Group), ["the group of key k1 is booked in part and expired in part"]);
    }

    #[test]
    fn a_group_of_two_entries_is_found() {
        let mut scene = pair();
        scene.state("A", "held").state("B", "held").entry_group(1, &["A"]).entry_group(2, &["B"]);
        assert_eq!(broken(&scene, Promise::Group), ["the group of key k1 was not written by one entry"]);
    }

    #[test]
    fn a_group_that_was_never_answered_is_there_whole_or_not_at_all() {
        for (there, found) in [(0, 0), (1, 1), (2, 0)] {
            let mut scene = Scene::new();
            scene.lost_group("k1", &[("p1.1", "s1.1"), ("p1.2", "s1.1")]);
            for (code, party) in [("A", "p1.1"), ("B", "p1.2")].into_iter().take(there) {
                scene.exists(code, party, "s1.1", "held");
            }
            assert_eq!(broken(&scene, Promise::Group).len(), found, "{there} are there");
        }
    }
}
