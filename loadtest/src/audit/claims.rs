//! Promise `one-claim`: at most one live claim per party and dose, in the export and at every moment of the history.

use std::collections::HashMap;

use super::evidence::{Evidence, Export};
use super::kept::is_live;
use super::lives::{Life, Lives, story_of};
use super::{Finding, Promise};

pub(crate) fn judge(evidence: &Evidence, lives: &Lives<'_>) -> (String, Vec<Finding>) {
    let mut findings = Vec::new();
    in_export(&evidence.export, "after the end", evidence, &mut findings);
    in_export(&evidence.live_export, "of the running server", evidence, &mut findings);
    let people = in_history(evidence, lives, &mut findings);
    (format!("{} holds and bookings of {people} parties and doses", evidence.export.bookings.len()), findings)
}

fn finding(what: String, story: Vec<String>) -> Finding {
    Finding { promise: Promise::OneClaim, what, story }
}

fn in_export(export: &Export, which: &str, evidence: &Evidence, findings: &mut Vec<Finding>) {
    let mut live: HashMap<(&str, u8), Vec<&str>> = HashMap::new();
    for line in export.bookings.values().filter(|line| is_live(line)) {
        live.entry((&line.party, line.dose)).or_default().push(&line.booking);
    }
    let mut twice: Vec<_> = live.into_iter().filter(|(_, codes)| codes.len() > 1).collect();
    twice.sort_unstable();
    for ((party, dose), codes) in twice {
        let what = format!(
            "party {party} has {} live claims for dose {dose} in the export {which}: {}",
            codes.len(),
            codes.join(", ")
        );
        findings.push(finding(what, story_of(evidence, &codes)));
    }
}

/// Two claims of one person, both live beyond doubt at one moment.
fn in_history(evidence: &Evidence, lives: &Lives<'_>, findings: &mut Vec<Finding>) -> usize {
    type Span<'a> = (i64, i64, &'a str, &'a Life<'a>);
    let mut people: HashMap<(&str, u8), Vec<Span<'_>>> = HashMap::new();
    for (code, life) in &lives.bookings {
        if let Some((from, until)) = life.certainly_live() {
            people.entry((&life.claim.party, life.claim.dose)).or_default().push((from, until, code, life));
        }
    }
    for spans in people.values_mut() {
        spans.sort_by_key(|&(from, until, code, _)| (from, until, code));
        let mut longest: Option<&Span<'_>> = None;
        for span in spans.iter() {
            if let Some(&(_, until, code, life)) = longest
                && span.0 < until
            {
                let what = format!(
                    "party {} had two live claims for dose {} at once: {code} and {}",
                    life.claim.party, life.claim.dose, span.2
                );
                findings.push(finding(what, story_of(evidence, &[code, life.hold, span.2, span.3.hold])));
            }
            if longest.is_none_or(|longest| span.1 > longest.1) {
                longest = Some(span);
            }
        }
    }
    people.len()
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{Scene, broken};
    use super::*;
    use crate::history::Op;

    #[test]
    fn one_claim_after_another_is_fine() {
        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").cancel("k2", "A").book("k3", "p1.1", "s1.2", "B");
        scene.state("A", "cancelled").state("B", "booked");
        assert_eq!(broken(&scene, Promise::OneClaim), [""; 0]);
    }

    #[test]
    fn two_live_claims_are_found_in_the_export() {
        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").lost("k2", Op::Cancel, "A").book("k3", "p1.1", "s1.2", "B");
        scene.state("A", "booked").state("B", "booked");
        // The open cancel excuses the history, not the export.
        assert!(broken(&scene, Promise::OneClaim)[0].contains("2 live claims"));
    }

    #[test]
    fn two_live_claims_are_found_in_the_history_alone() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").hold("k2", "p1.1", "s1.2", "B");
        scene.state("A", "expired").state("B", "expired");
        assert!(broken(&scene, Promise::OneClaim)[0].contains("at once: A and B"));
    }

    #[test]
    fn an_expired_hold_does_not_count_against_the_next() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").wait_seconds(9).hold("k2", "p1.1", "s1.2", "B");
        scene.state("A", "expired").state("B", "held");
        assert_eq!(broken(&scene, Promise::OneClaim), [""; 0]);
    }

    #[test]
    fn another_dose_is_another_claim() {
        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").dose(2).book("k2", "p1.1", "s1.2", "B");
        scene.state("A", "booked").state("B", "booked");
        assert_eq!(broken(&scene, Promise::OneClaim), [""; 0]);
    }
}
