//! Promises `capacity`, `no-false-full` and `fresh-search`: what slots had room for, at every instant.
//!
//! Slot by slot, from the acknowledgements alone. A claim is certainly live between two instants and may be live between two
//! others (`lives`), so at any moment at least so many units were taken and at most so many others. More than the capacity taken for
//! certain is an oversale; a refusal `full` while even all that may be would have left room is a lie; and so is a search
//! that shows more units than could still have been free as long ago as the counts may be old.

use super::evidence::{Evidence, Export};
use super::findings::Found;
use super::lives::{Fate, Lives, tell};
use super::record::Operation;
use super::{Promise, seconds};
use crate::history::{Op, Outcome};
use crate::name::{Map, Name};

/// What was looked at and what was found, of the three promises.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) capacity: (String, Found),
    pub(crate) no_false_full: (String, Found),
    pub(crate) fresh_search: (String, Found),
}

/// How much older than the staleness the counts of a search may be, for the time that an answer takes to be made.
const SEARCH_SLACK_US: i64 = 500_000;

/// What is known of one slot.
#[derive(Default)]
struct Slot<'a> {
    /// Instants from which on and until which claims were live for certain, each list in order.
    certain: Vec<(i64, i64, Name)>,
    /// The same of claims that may have been.
    may_from: Vec<i64>,
    may_until: Vec<i64>,
    refusals: Vec<&'a Operation>,
    /// Searches that showed it, and with how many free units.
    shown: Vec<(&'a Operation, u64)>,
}

/// Judges all three.
pub(crate) fn judge(evidence: &Evidence, lives: &Lives<'_>) -> Judged {
    let mut capacity = Found::none(Promise::Capacity);
    in_export(&evidence.export, "after the end", &mut capacity);
    evidence.live_export.iter().for_each(|live| in_export(live, "of the running server", &mut capacity));

    let mut full = Found::none(Promise::NoFalseFull);
    let mut fresh = Found::none(Promise::FreshSearch);
    let began_us = evidence.began_us();
    let (refusals, searches) = asked(evidence, &mut full, &mut fresh);
    let (refused, shown) = (refusals.len(), searches.len());
    for (name, mut slot) in slots(evidence, lives, refusals, searches) {
        let Some(line) = evidence.export.slots.get(&name) else {
            let codes: Vec<Name> = slot.certain.iter().take(2).map(|(_, _, code)| *code).collect();
            if !codes.is_empty() {
                capacity.about(|| format!("slot {name} took claims and is not in the export"), &codes);
            }
            continue;
        };
        slot.certain.sort_unstable();
        oversold(name, &slot, line.capacity, began_us, &mut capacity);
        slot.may_from.sort_unstable();
        slot.may_until.sort_unstable();
        for operation in &slot.refusals {
            false_full(name, &slot, line.capacity, operation, began_us, &mut full);
        }
        let from: Vec<i64> = slot.certain.iter().map(|(from, ..)| *from).collect();
        let mut until: Vec<i64> = slot.certain.iter().map(|(_, until, _)| *until).collect();
        until.sort_unstable();
        for &(search, free) in &slot.shown {
            // Since before the oldest instant that the counts may be of until after the answer: gone all the time.
            let since_us = search.sent_us - evidence.search_staleness_us - SEARCH_SLACK_US;
            let gone = before(&from, since_us).saturating_sub(before(&until, search.received_us));
            if free + gone > line.capacity {
                let what = || {
                    format!(
                        "slot {name} was shown with {free} free when {gone} of {} had long been taken",
                        line.capacity
                    )
                };
                fresh.told(what, || vec![tell(search, began_us)]);
            }
        }
    }
    let at_end = evidence.export.slots.values().filter(|slot| slot.held + slot.booked >= slot.capacity).count();
    Judged {
        capacity: (format!("{} slots, {at_end} of them full at the end", evidence.export.slots.len()), capacity),
        no_false_full: (format!("{refused} refusals `full`"), full),
        fresh_search: (format!("{shown} counts that searches showed"), fresh),
    }
}

fn in_export(export: &Export, which: &str, found: &mut Found) {
    let mut live: Map<Name, u64> = Map::default();
    for line in export.bookings.values().filter(|line| line.is_live()) {
        *live.entry(line.slot).or_default() += 1;
    }
    for slot in export.slots.values() {
        let claims = live.get(&slot.slot).copied().unwrap_or(0);
        if slot.held + slot.booked > slot.capacity || claims > slot.capacity {
            let story = || {
                vec![
                    format!(
                        "slot {} of session {}: held {}, booked {}",
                        slot.slot, slot.session, slot.held, slot.booked
                    ),
                    format!("{claims} live holds and bookings stand on it"),
                ]
            };
            found.told(
                || format!("slot {} is over its capacity of {} in the export {which}", slot.slot, slot.capacity),
                story,
            );
        }
    }
}

type Shown<'a> = (Name, &'a Operation, u64);

/// The refusals `full` of one slot, and what searches showed; what is wrong with them in themselves is found here.
fn asked<'a>(
    evidence: &'a Evidence,
    full: &mut Found,
    fresh: &mut Found,
) -> (Vec<(Name, &'a Operation)>, Vec<Shown<'a>>) {
    let (mut refusals, mut searches) = (Vec::new(), Vec::new());
    let began_us = evidence.began_us();
    for operation in &evidence.operations {
        if let Some(shown) = operation.shown() {
            let old_us = operation.sent_us - shown.as_of_us;
            if old_us > evidence.search_staleness_us + SEARCH_SLACK_US {
                let what = || format!("a search was answered with counts {} old", seconds(old_us));
                fresh.told(what, || vec![tell(operation, began_us)]);
            }
            searches.extend(shown.free.iter().map(|(slot, free)| (*slot, operation, *free)));
        }
        if !operation.refused_as("full") {
            continue;
        }
        if operation.counts().is_none() {
            let what = || "a refusal `full` does not say what it counted".to_owned();
            full.told(what, || vec![tell(operation, began_us)]);
        }
        // Of several slots one was full; the answer does not say which.
        if let Some(first) = operation.asked.first()
            && operation.asked.iter().all(|claim| claim.slot == first.slot)
        {
            refusals.push((first.slot, operation));
        }
    }
    (refusals, searches)
}

/// All that is known, slot by slot, in the order of their names.
fn slots<'a>(
    evidence: &Evidence,
    lives: &Lives<'_>,
    refusals: Vec<(Name, &'a Operation)>,
    searches: Vec<Shown<'a>>,
) -> Vec<(Name, Slot<'a>)> {
    let was_hurt = evidence.was_hurt();
    let mut slots: Map<Name, Slot<'a>> = Map::default();
    for (code, life) in lives.iter() {
        let slot = slots.entry(life.claim.slot).or_default();
        slot.certain.extend(life.certainly_live().map(|(from, until)| (from, until, code)));
        let (from, until) = life.maybe_live(was_hurt);
        slot.may_from.push(from);
        slot.may_until.push(until);
    }
    for key in lives.keys.iter().filter(|key| key.fate != Fate::Done && (key.op().claims() || key.op() == Op::Move)) {
        // One slot, and a plain no: nothing was ever taken.
        let several = key.asked().iter().any(|claim| claim.slot != key.asked()[0].slot);
        let unsure = key.sendings.iter().any(|one| one.outcome == Outcome::Unknown || one.refused_as("too_many"));
        if !several && !unsure {
            continue;
        }
        let until = if key.fate == Fate::Open { i64::MAX } else { key.last_received_us() };
        for claim in key.asked() {
            let slot = slots.entry(claim.slot).or_default();
            slot.may_from.push(key.first_sent_us());
            slot.may_until.push(until);
        }
    }
    for (slot, operation) in refusals {
        slots.entry(slot).or_default().refusals.push(operation);
    }
    for (slot, operation, free) in searches {
        slots.entry(slot).or_default().shown.push((operation, free));
    }
    let mut slots: Vec<(Name, Slot<'_>)> = slots.into_iter().collect();
    slots.sort_unstable_by_key(|(name, _)| *name);
    slots
}

/// How many of the instants, which are in order, are before this one.
fn before(instants: &[i64], at_us: i64) -> u64 {
    instants.partition_point(|instant| *instant < at_us) as u64
}

/// Counts the claims that were live beyond doubt at one moment.
fn oversold(name: Name, slot: &Slot<'_>, capacity: u64, began_us: i64, found: &mut Found) {
    // Ends come before beginnings at the same moment: a doubt counts for the server.
    let mut ends: Vec<i64> = slot.certain.iter().map(|(_, until, _)| *until).collect();
    ends.sort_unstable();
    for (begun, &(from, ..)) in (1_u64..).zip(&slot.certain) {
        let ended = ends.partition_point(|end| *end <= from) as u64;
        let live = begun - ended;
        if live > capacity {
            let codes: Vec<Name> = slot.certain[..usize::try_from(begun).unwrap_or(0)]
                .iter()
                .filter(|(_, until, _)| *until > from)
                .map(|(_, _, code)| *code)
                .collect();
            let what = || {
                let at = seconds(from - began_us);
                format!("slot {name} had {live} acknowledged live claims at {at} and has a capacity of {capacity}")
            };
            found.about(what, &codes);
            return;
        }
    }
}

/// A refusal `full` names its counts: they must leave too little room, and so must all that may have been taken.
fn false_full(name: Name, slot: &Slot<'_>, capacity: u64, operation: &Operation, began_us: i64, found: &mut Found) {
    let wanted = operation.asked.len() as u64;
    if let Some([told, held, booked]) = operation.counts()
        && told.saturating_sub(held + booked) >= wanted
    {
        let what = || format!("slot {name} was called full with {} of {told} taken", held + booked);
        found.told(what, || vec![tell(operation, began_us)]);
        return;
    }
    let ended = before(&slot.may_until, operation.sent_us);
    let most = (slot.may_from.partition_point(|from| *from <= operation.received_us) as u64).saturating_sub(ended);
    if most + wanted <= capacity {
        let what = || {
            format!(
                "slot {name} was called full when at most {most} of {capacity} can have been taken by all that was asked for"
            )
        };
        found.told(what, || vec![tell(operation, began_us)]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{Scene, broken};
    use super::*;

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
        scene.capacity("s1.1", 1).book("k0", "p1.0", "s1.1", "A").state("A", "booked");
        scene.full("k1", "p1.1", "s1.1", [5, 2, 3]);
        assert_eq!(broken(&scene, Promise::NoFalseFull), [""; 0]);
        scene.full("k2", "p1.2", "s1.1", [5, 2, 2]);
        assert!(broken(&scene, Promise::NoFalseFull)[0].contains("4 of 5 taken"));
        let mut scene = Scene::new();
        scene.full_uncounted("k1", "p1.1", "s1.1");
        assert!(broken(&scene, Promise::NoFalseFull)[0].contains("does not say what it counted"));
    }

    #[test]
    fn a_false_full_with_counts_that_lie_as_well_is_found() {
        let mut scene = Scene::new();
        scene.capacity("s1.1", 2).book("k1", "p1.1", "s1.1", "A").full("k2", "p1.2", "s1.1", [2, 1, 1]);
        scene.state("A", "booked");
        assert!(broken(&scene, Promise::NoFalseFull)[0].contains("at most 1 of 2"));
        // A claim without an answer may have had the other unit, and so may a hold that may still be there.
        for open in [true, false] {
            let mut scene = Scene::new();
            scene.capacity("s1.1", 2).book("k1", "p1.1", "s1.1", "A").state("A", "booked");
            if open {
                scene.lost_claim("k3", "p1.3", "s1.1");
            } else {
                scene.hold("k3", "p1.3", "s1.1", "B").wait_seconds(10).state("B", "expired");
            }
            scene.full("k2", "p1.2", "s1.1", [2, 1, 1]);
            assert_eq!(broken(&scene, Promise::NoFalseFull), [""; 0]);
        }
        // Long after its deadline it is not.
        let mut scene = Scene::new();
        scene.capacity("s1.1", 1).hold("k3", "p1.3", "s1.1", "B").wait_seconds(12).state("B", "expired");
        scene.full("k2", "p1.2", "s1.1", [1, 1, 0]);
        assert_eq!(broken(&scene, Promise::NoFalseFull).len(), 1);
    }

    #[test]
    fn a_search_may_show_what_was_free_a_moment_ago_and_no_more() {
        let mut scene = Scene::new();
        scene.capacity("s1.1", 2).book("k1", "p1.1", "s1.1", "A").state("A", "booked");
        scene.search_shows(0, &[("s1.1", 2)]);
        assert_eq!(broken(&scene, Promise::FreshSearch), [""; 0], "the booking is younger than the counts may be");
        scene.wait_seconds(3).search_shows(0, &[("s1.1", 1)]);
        assert_eq!(broken(&scene, Promise::FreshSearch), [""; 0]);
        scene.search_shows(0, &[("s1.1", 2)]);
        let found = broken(&scene, Promise::FreshSearch);
        assert_eq!(found, ["slot s1.1 was shown with 2 free when 1 of 2 had long been taken"]);
    }

    #[test]
    fn an_answer_that_says_itself_that_it_is_old_is_found() {
        let mut scene = Scene::new();
        scene.search_shows(900_000, &[]);
        assert_eq!(broken(&scene, Promise::FreshSearch), [""; 0]);
        scene.search_shows(4_000_000, &[]);
        assert_eq!(broken(&scene, Promise::FreshSearch), ["a search was answered with counts 4.000s old"]);
    }

    #[test]
    fn a_claim_that_ended_does_not_count_against_a_search() {
        let mut scene = Scene::new();
        scene.capacity("s1.1", 1).book("k1", "p1.1", "s1.1", "A").wait_seconds(3).cancel("k2", "A");
        scene.search_shows(0, &[("s1.1", 1)]).state("A", "cancelled");
        assert_eq!(broken(&scene, Promise::FreshSearch), [""; 0]);
    }
}
