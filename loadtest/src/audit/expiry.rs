//! Promise `expiry`: a hold whose deadline has passed gives its units back within a bound.

use std::collections::BTreeSet;

use super::evidence::Evidence;
use super::findings::Found;
use super::journal::Walk;
use super::lives::Lives;
use super::{EXPIRY_SLACK_US, Promise, seconds};
use crate::history::{MarkKind, Op, Outcome};
use crate::name::Name;

pub(crate) fn judge(evidence: &Evidence, lives: &Lives<'_>, walk: &Walk) -> (String, Found) {
    let mut found = Found::none(Promise::Expiry);
    never_run_out(evidence, lives, &mut found);
    shown_as_held(evidence, lives, &mut found);
    for one in walk.untimely.iter().filter(|one| !one.confirmed && one.at_us > one.deadline_us) {
        let past_us = one.at_us - one.deadline_us.max(back_before(evidence, one.at_us));
        if past_us > EXPIRY_SLACK_US {
            let what = || format!("by journal entry {} hold {} ran out {} late", one.seq, one.code, seconds(past_us));
            found.about(what, &[one.code]);
        }
    }
    let expired = walk.codes.values().filter(|born| born.state == "expired").count();
    (format!("{expired} units of holds that ran out, with a bound of {}", seconds(EXPIRY_SLACK_US)), found)
}

/// When the server was last back, or its disk was freed, before an instant: it owes nothing for the time that it was away.
fn back_before(evidence: &Evidence, at_us: i64) -> i64 {
    let backs = evidence.marks.iter().filter(|mark| {
        matches!(mark.mark, MarkKind::Restarted { .. } | MarkKind::Healed { .. }) && mark.at_us <= at_us
    });
    backs.map(|mark| mark.at_us).max().unwrap_or(i64::MIN / 2)
}

/// Holds that are still held in an export taken when each had long run out, by the earliest deadline named for it.
fn never_run_out(evidence: &Evidence, lives: &Lives<'_>, found: &mut Found) {
    let Some(exported_us) = evidence.settled_us else { return };
    let exports = || std::iter::once(&evidence.export).chain(&evidence.live_export);
    let held = exports().flat_map(|export| &export.bookings);
    let held: BTreeSet<Name> = held.filter(|(_, line)| &*line.state == "held").map(|(code, _)| *code).collect();
    for code in held {
        let lines = exports().filter_map(|export| export.bookings.get(&code));
        let told = lives.get(code).and_then(|life| life.deadline_us);
        match told.into_iter().chain(lines.filter_map(super::evidence::BookingLine::expires_us)).min() {
            None => found.about(|| format!("hold {code} is still held at the end and has no deadline"), &[code]),
            Some(deadline_us) if deadline_us < exported_us - EXPIRY_SLACK_US => {
                let past = seconds(exported_us - deadline_us);
                found.about(|| format!("hold {code} is still held {past} after its deadline"), &[code]);
            }
            Some(_) => {}
        }
    }
}

/// Reads that showed a hold as held long after its deadline, where nothing was done to the server that may have put it off.
fn shown_as_held(evidence: &Evidence, lives: &Lives<'_>, found: &mut Found) {
    if evidence.was_hurt() {
        return;
    }
    for read in evidence.operations.iter().filter(|one| one.op == Op::Read && one.outcome == Outcome::Ok) {
        for told in read.told.iter().filter(|told| told.state.as_deref() == Some("held")) {
            let Some(deadline_us) = lives.get(told.booking).and_then(|life| life.deadline_us) else { continue };
            let past_us = read.sent_us - deadline_us;
            if past_us > EXPIRY_SLACK_US {
                let what =
                    || format!("hold {} was shown as held {} after its deadline", told.booking, seconds(past_us));
                found.about(what, &[told.booking]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{Scene, broken};
    use super::*;

    #[test]
    fn a_hold_that_never_runs_out_is_found_once_all_had_their_time() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").state("A", "held").wait_seconds(12);
        assert_eq!(broken(&scene, Promise::Expiry), [""; 0]);
        scene.settled();
        let found = broken(&scene, Promise::Expiry);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("still held 4.100s after its deadline"), "{found:?}");
        // Of a hold that nobody was told of, the export must name the deadline.
        let mut scene = Scene::new();
        scene.exists("A", "p1.1", "s1.1", "held").settled();
        assert!(broken(&scene, Promise::Expiry)[0].contains("has no deadline"));
        // Within the slack the server may still be about to let it go.
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").state("A", "held").wait_seconds(10).settled();
        assert_eq!(broken(&scene, Promise::Expiry), [""; 0]);
    }

    #[test]
    fn a_hold_that_ran_out_late_is_found_in_the_journals_own_times() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").state("A", "expired").entry_times_of("A", 0, 10);
        assert_eq!(broken(&scene, Promise::Expiry), [""; 0], "two seconds are within the bound");
        scene.entry_times_of("A", 0, 12);
        assert_eq!(broken(&scene, Promise::Expiry), ["by journal entry 2 hold A ran out 4.000s late"]);
        // Not while the server was away.
        scene.wait_seconds(11).kill();
        assert_eq!(broken(&scene, Promise::Expiry), [""; 0]);
    }

    #[test]
    fn a_hold_shown_as_held_after_its_time_is_found() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").wait_seconds(10).read_shows("A", "held").state("A", "expired");
        assert_eq!(broken(&scene, Promise::Expiry), [""; 0]);
        scene.wait_seconds(2).read_shows("A", "held");
        assert!(broken(&scene, Promise::Expiry)[0].contains("shown as held 4.2"));
    }
}
