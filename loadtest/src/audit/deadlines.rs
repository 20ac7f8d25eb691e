//! Promise `deadline`: a hold can be confirmed until its deadline and not after, and does not run out before.

use std::collections::{BTreeSet, HashMap};

use super::evidence::Evidence;
use super::lives::{Fate, Lives, story_of};
use super::{CLOCK_SLACK_US, EXPIRY_SLACK_US, Finding, Promise};
use crate::history::{Op, Outcome};

pub(crate) fn judge(evidence: &Evidence, lives: &Lives<'_>) -> (String, Vec<Finding>) {
    let mut findings = Vec::new();
    let late = confirmed_late(evidence, lives, &mut findings);
    in_entries(evidence, &mut findings);
    never_run_out(evidence, lives, &mut findings);
    (format!("{late} confirmations sent after a deadline"), findings)
}

fn finding(what: String, story: Vec<String>) -> Finding {
    Finding { promise: Promise::Deadline, what, story }
}

/// A confirmation whose first sending left after the deadline, plus slack, and that was acknowledged all the same. The
/// later of the deadlines that the server named counts, should it have given grace.
fn confirmed_late(evidence: &Evidence, lives: &Lives<'_>, findings: &mut Vec<Finding>) -> usize {
    let mut late = 0;
    for key in lives.keys.values().filter(|key| key.op == Op::Confirm) {
        let Some((hold, life)) = key.target.and_then(|hold| Some((hold, lives.bookings.get(hold)?))) else { continue };
        let exported = evidence.export.bookings.get(hold).and_then(super::evidence::BookingLine::expires_us);
        let Some(deadline_us) = life.deadline_us.max(exported) else { continue };
        let past_us = key.first_sent_us - deadline_us;
        if past_us <= CLOCK_SLACK_US {
            continue;
        }
        late += 1;
        if key.fate == Fate::Done {
            let what = format!(
                "hold {hold} was confirmed {}.{:03}s after its deadline",
                past_us / 1_000_000,
                past_us / 1_000 % 1_000
            );
            findings.push(finding(what, story_of(evidence, &[hold])));
        }
    }
    // The other way round: told that it had expired while the deadline was still clearly ahead.
    for operation in &evidence.operations {
        let expired = operation.outcome == Outcome::Refused && operation.code.as_deref() == Some("hold_expired");
        let Some(life) = operation.target.as_deref().filter(|_| expired).and_then(|hold| lives.bookings.get(hold))
        else {
            continue;
        };
        if life.deadline_us.is_some_and(|deadline_us| operation.received_us < deadline_us - CLOCK_SLACK_US) {
            let hold = operation.target.as_deref().unwrap_or_default();
            let what = format!("hold {hold} was called expired before its deadline");
            findings.push(finding(what, story_of(evidence, &[hold])));
        }
    }
    late
}

/// The same in the journal's own times.
fn in_entries(evidence: &Evidence, findings: &mut Vec<Finding>) {
    let mut deadlines: HashMap<&str, i64> = HashMap::new();
    for entry in &evidence.entries {
        if entry.kind == "held" {
            if let Some(expires_us) = entry.expires_us {
                deadlines.extend(entry.claims.iter().map(|claim| (claim.booking.as_str(), expires_us)));
            }
            continue;
        }
        if let Some((from_us, until_us)) = entry.grace_us {
            // Of a hold that was resolved before it, the deadline no longer matters.
            let within = deadlines.values_mut().filter(|deadline_us| (from_us..until_us).contains(deadline_us));
            within.for_each(|deadline_us| *deadline_us = until_us);
            continue;
        }
        let Some(at_us) = entry.at_us else { continue };
        let deadline_us = entry.changes.iter().find_map(|code| deadlines.get(code.as_str()));
        let Some(&deadline_us) = deadline_us else { continue };
        let code = entry.changes.first().map_or("?", String::as_str);
        let wrong = match entry.kind.as_str() {
            "confirmed" if at_us > deadline_us + CLOCK_SLACK_US => "confirmed after",
            "expired" if at_us < deadline_us - CLOCK_SLACK_US => "expired before",
            _ => continue,
        };
        let what = format!("by journal entry {} hold {code} was {wrong} its deadline", entry.seq);
        findings.push(finding(what, story_of(evidence, &[code])));
    }
}

/// Holds that are still held in an export taken when each had long run out, by the earliest deadline named for it.
fn never_run_out(evidence: &Evidence, lives: &Lives<'_>, findings: &mut Vec<Finding>) {
    let Some(exported_us) = evidence.settled_us else { return };
    let mut named = BTreeSet::new();
    for line in evidence.export.bookings.values().chain(evidence.live_export.bookings.values()) {
        let code = line.booking.as_str();
        if line.state != "held" || !named.insert(code) {
            continue;
        }
        let told = lives.bookings.get(code).and_then(|life| life.deadline_us);
        let what = match told.into_iter().chain(line.expires_us()).min() {
            None => format!("hold {code} is still held at the end and has no deadline"),
            Some(deadline_us) if deadline_us < exported_us - EXPIRY_SLACK_US => {
                let past_ms = (exported_us - deadline_us) / 1_000;
                format!("hold {code} is still held {}.{:03}s after its deadline", past_ms / 1_000, past_ms % 1_000)
            }
            Some(_) => continue,
        };
        findings.push(finding(what, story_of(evidence, &[code])));
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
    fn a_hold_that_never_runs_out_is_found_once_all_had_their_time() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").state("A", "held").wait_seconds(12);
        assert_eq!(broken(&scene, Promise::Deadline), [""; 0]);
        scene.settled();
        let found = broken(&scene, Promise::Deadline);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("still held 4.100s after its deadline"), "{found:?}");
        // Of a hold that nobody was told of, the export must name the deadline.
        let mut scene = Scene::new();
        scene.exists("A", "p1.1", "s1.1", "held").settled();
        assert!(broken(&scene, Promise::Deadline)[0].contains("has no deadline"));
        // Within the slack the server may still be about to let it go.
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").state("A", "held").wait_seconds(10).settled();
        assert_eq!(broken(&scene, Promise::Deadline), [""; 0]);
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
