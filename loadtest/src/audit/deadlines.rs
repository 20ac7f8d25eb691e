//! Promise `deadline`: a hold can be confirmed until its deadline and not after, and does not run out before.

use super::evidence::Evidence;
use super::findings::Found;
use super::journal::Walk;
use super::lives::{Fate, Lives};
use super::{CLOCK_SLACK_US, Promise, seconds};
use crate::history::Op;

pub(crate) fn judge(evidence: &Evidence, lives: &Lives<'_>, walk: &Walk) -> (String, Found) {
    let mut found = Found::none(Promise::Deadline);
    let late = confirmed_late(evidence, lives, &mut found);
    expired_early(evidence, lives, &mut found);
    for one in walk.untimely.iter().filter(|one| one.confirmed || one.at_us < one.deadline_us) {
        let wrong = if one.confirmed { "confirmed after" } else { "expired before" };
        let what = || format!("by journal entry {} hold {} was {wrong} its deadline", one.seq, one.code);
        found.about(what, &[one.code]);
    }
    (format!("{late} confirmations sent after a deadline"), found)
}

/// A confirmation whose first sending left after the deadline, plus slack, and that was acknowledged all the same. The
/// later of the deadlines that the server named counts, should it have given grace.
fn confirmed_late(evidence: &Evidence, lives: &Lives<'_>, found: &mut Found) -> usize {
    let mut late = 0;
    for key in lives.keys.iter().filter(|key| key.op() == Op::Confirm) {
        let Some((hold, life)) = key.target().and_then(|hold| Some((hold, lives.get(hold)?))) else { continue };
        let exported = evidence.export.bookings.get(&hold).and_then(super::evidence::BookingLine::expires_us);
        let Some(deadline_us) = life.deadline_us.max(exported) else { continue };
        let past_us = key.first_sent_us() - deadline_us;
        if past_us <= CLOCK_SLACK_US {
            continue;
        }
        late += 1;
        if key.fate == Fate::Done {
            found.about(|| format!("hold {hold} was confirmed {} after its deadline", seconds(past_us)), &[hold]);
        }
    }
    late
}

/// The other way round: told that it had expired while the deadline was still clearly ahead.
fn expired_early(evidence: &Evidence, lives: &Lives<'_>, found: &mut Found) {
    for operation in evidence.operations.iter().filter(|one| one.refused_as("hold_expired")) {
        let Some((hold, life)) = operation.target.and_then(|hold| Some((hold, lives.get(hold)?))) else { continue };
        if life.deadline_us.is_some_and(|deadline_us| operation.received_us < deadline_us - CLOCK_SLACK_US) {
            found.about(|| format!("hold {hold} was called expired before its deadline"), &[hold]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{Scene, broken};
    use super::*;

    #[test]
    fn a_confirmation_in_time_is_fine_even_when_its_answer_comes_late() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").lost("k2", Op::Confirm, "A").wait_seconds(20).confirm("k2", "A");
        scene.state("A", "booked").entry_times_of("A", 0, 1);
        assert_eq!(broken(&scene, Promise::Deadline), [""; 0]);
    }

    #[test]
    fn a_late_confirmation_is_found() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").wait_seconds(10).confirm("k2", "A").state("A", "booked");
        assert!(broken(&scene, Promise::Deadline)[0].contains("after its deadline"));
    }

    #[test]
    fn a_refused_late_confirmation_is_the_rule() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").wait_seconds(10);
        scene.refused("k2", Op::Confirm, "A", "hold_expired").state("A", "expired");
        assert_eq!(broken(&scene, Promise::Deadline), [""; 0]);
    }

    #[test]
    fn a_hold_called_expired_too_early_is_found() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").wait_seconds(2);
        scene.refused("k2", Op::Confirm, "A", "hold_expired").state("A", "expired");
        assert!(broken(&scene, Promise::Deadline)[0].contains("before its deadline"));
    }

    #[test]
    fn the_journals_own_times_are_looked_at() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").state("A", "expired").entry_times_of("A", 0, 3);
        assert!(broken(&scene, Promise::Deadline)[0].contains("expired before"));
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").confirm("k2", "A").state("A", "booked").entry_times_of("A", 0, 12);
        assert!(broken(&scene, Promise::Deadline)[0].contains("confirmed after"));
    }
}
