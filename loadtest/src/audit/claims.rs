//! Promise `one-claim`: at most one live claim per party and dose, in the export and at every moment of the history.

use super::Promise;
use super::evidence::{Evidence, Export};
use super::findings::Found;
use super::lives::Lives;
use crate::name::Name;

pub(crate) fn judge(evidence: &Evidence, lives: &Lives<'_>) -> (String, Found) {
    let mut found = Found::none(Promise::OneClaim);
    in_export(&evidence.export, "after the end", &mut found);
    evidence.live_export.iter().for_each(|live| in_export(live, "of the running server", &mut found));
    let people = in_history(lives, &mut found);
    (format!("{} holds and bookings of {people} parties and doses", evidence.export.bookings.len()), found)
}

fn in_export(export: &Export, which: &str, found: &mut Found) {
    let live = export.bookings.iter().filter(|(_, line)| line.is_live());
    let mut live: Vec<(Name, u8, Name)> = live.map(|(code, line)| (line.party, line.dose, *code)).collect();
    live.sort_unstable();
    for of_one in live.chunk_by(|one, next| (one.0, one.1) == (next.0, next.1)).filter(|of_one| of_one.len() > 1) {
        let (party, dose, _) = of_one[0];
        let codes: Vec<Name> = of_one.iter().map(|(_, _, code)| *code).collect();
        let listed = || codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let what = || {
            format!("party {party} has {} live claims for dose {dose} in the export {which}: {}", codes.len(), listed())
        };
        found.about(what, &codes);
    }
}

/// Two claims of one person, both live beyond doubt at one moment.
fn in_history(lives: &Lives<'_>, found: &mut Found) -> usize {
    type Span = (Name, u8, i64, i64, Name);
    let mut spans: Vec<Span> = lives
        .iter()
        .filter_map(|(code, life)| {
            let (from, until) = life.certainly_live()?;
            Some((life.claim.party, life.claim.dose, from, until, code))
        })
        .collect();
    spans.sort_unstable();
    let mut people = 0;
    for of_one in spans.chunk_by(|one, next| (one.0, one.1) == (next.0, next.1)) {
        people += 1;
        let mut longest: Option<&Span> = None;
        for span in of_one {
            let &(party, dose, from, until, code) = span;
            if let Some(&(_, _, _, other_until, other)) = longest
                && from < other_until
            {
                let hold = |code| lives.get(code).map_or(code, |life| life.hold);
                let what = || format!("party {party} had two live claims for dose {dose} at once: {other} and {code}");
                found.about(what, &[other, hold(other), code, hold(code)]);
            }
            if longest.is_none_or(|longest| until > longest.3) {
                longest = Some(span);
            }
        }
    }
    people
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
