//! Promise `acknowledged`: what a client was told is there, and an acknowledged end is not undone.

use super::Promise;
use super::evidence::{Evidence, Export};
use super::findings::Found;
use super::lives::{Life, Lives, tell};
use super::record::Operation;
use crate::history::{Op, Outcome};
use crate::name::Name;

pub(crate) fn judge(evidence: &Evidence, lives: &Lives<'_>) -> (String, Found) {
    let mut found = Found::none(Promise::Acknowledged);
    let (mut booked, mut ended) = (0_usize, 0_usize);
    for (code, life) in lives.iter() {
        booked += usize::from(life.booked_us.is_some());
        ended += usize::from(life.ends.iter().any(|end| end.acknowledged()));
        if let Some(what) = lost(code, life, &evidence.export, "after the end")
            .or_else(|| lost(code, life, evidence.live_export.as_ref()?, "of the running server"))
            .or_else(|| two_ends(code, life))
            .or_else(|| two_claims(code, life))
        {
            found.about(|| what, &[code, life.hold]);
        }
    }
    denied(evidence, lives, &mut found);
    let looked_at = format!(
        "{} acknowledged claims, {booked} of them acknowledged bookings, {ended} with an acknowledged end",
        lives.len()
    );
    (looked_at, found)
}

fn lost(code: Name, life: &Life, export: &Export, which: &str) -> Option<String> {
    let Some(line) = export.bookings.get(&code) else {
        return Some(format!("{} {code} was acknowledged and is not in the export {which}", thing(life)));
    };
    if line.claim() != life.claim {
        let (told, there) = (life.claim, line.claim());
        return Some(format!("{} {code} was acknowledged as {told} and is {there} in the export {which}", thing(life)));
    }
    // Nearly all, without a list of what else might be.
    if life.ends.is_empty() && life.booked_us.is_some() && &*line.state == "booked" {
        return None;
    }
    let allowed = allowed_states(life);
    (!allowed.contains(&&*line.state)).then(|| {
        format!(
            "{} {code} is {} in the export {which}; what its clients were told and tried allows only {}",
            thing(life),
            line.state,
            allowed.join(", ")
        )
    })
}

fn thing(life: &Life) -> &'static str {
    if life.booked_us.is_some() { "booking" } else { "hold" }
}

/// The states that the acknowledgements and the open requests of a booking leave possible.
fn allowed_states(life: &Life) -> Vec<&'static str> {
    if let Some(end) = life.ends.iter().find(|end| end.acknowledged()) {
        return vec![end.state()];
    }
    let mut allowed = Vec::new();
    if let Some(reached) = at_the_door(life, i64::MAX) {
        allowed.push(reached);
        let open = life.door.iter().filter(|end| reached == "checked_in" && end.op == Op::Complete);
        allowed.extend(open.map(|end| end.state()));
        return allowed;
    }
    allowed.extend(life.door.iter().map(|end| end.state()));
    let booked = life.booked_us.is_some();
    if booked || life.maybe_confirmed {
        allowed.push("booked");
    }
    if !booked {
        allowed.extend(["held", "expired"]);
    }
    for end in &life.ends {
        if (end.op == Op::Release) != booked {
            allowed.push(end.state());
        }
    }
    allowed
}

/// How far somebody certainly was at the door by then: neither is ever taken back.
fn at_the_door(life: &Life, by_us: i64) -> Option<&'static str> {
    let known = life.door.iter().filter(|end| end.known_us.is_some_and(|known_us| known_us <= by_us));
    known.map(|end| end.state()).max_by_key(|state| *state == "completed")
}

/// The states in which a read may have shown a booking: what was acknowledged before it was sent holds, and what was
/// sent before its answer came may have happened.
fn states_at(life: &Life, read: &Operation) -> Vec<&'static str> {
    let known = life.ends.iter().filter(|end| end.known_us.is_some_and(|known_us| known_us <= read.sent_us));
    let ended: Vec<&str> = known.map(|end| end.state()).collect();
    if !ended.is_empty() {
        return ended;
    }
    let mut allowed = Vec::new();
    let met = life.door.iter().filter(|end| end.sent_us < read.received_us);
    allowed.extend(met.map(|end| end.state()));
    match at_the_door(life, read.sent_us) {
        Some("completed") => return vec!["completed"],
        Some(_) => return allowed,
        None => {}
    }
    if life.booked_us.is_some() || life.maybe_confirmed {
        allowed.push("booked");
    }
    if life.booked_us.is_none_or(|booked_us| booked_us > read.sent_us) {
        allowed.extend(["held", "expired"]);
    }
    allowed.extend(life.ends.iter().filter(|end| end.sent_us < read.received_us).map(|end| end.state()));
    allowed
}

/// A code that was acknowledged as two claims. At most one of them is still there, whichever it is.
fn two_claims(code: Name, life: &Life) -> Option<String> {
    let rival = life.rival.as_ref()?;
    Some(format!("{} {code} was acknowledged as {} and as {rival}", thing(life), life.claim))
}

fn two_ends(code: Name, life: &Life) -> Option<String> {
    let mut ends = life.ends.iter().filter(|end| end.acknowledged());
    let (first, second) = (ends.next()?, ends.next());
    if let Some(second) = second {
        return Some(format!("booking {code} was acknowledged as {} and as {}", first.state(), second.state()));
    }
    (first.op == Op::Release && life.booked_us.is_some())
        .then(|| format!("hold {code} was acknowledged as confirmed and as released"))
}

/// Reads and changes that were told "no such booking", or shown another, of a booking acknowledged before they were sent.
fn denied(evidence: &Evidence, lives: &Lives<'_>, found: &mut Found) {
    for operation in &evidence.operations {
        let Some(code) = operation.target.filter(|_| operation.op != Op::Search) else { continue };
        let Some(life) = lives.get(code).filter(|life| life.known_us <= operation.sent_us) else { continue };
        let read = operation.op == Op::Read && operation.outcome == Outcome::Ok;
        let told = operation.told.iter().find(|told| read && told.booking == code);
        let impossible =
            told.and_then(|told| told.state.as_deref()).filter(|state| !states_at(life, operation).contains(state));
        let what = if operation.refused_as("unknown_booking") {
            let word = operation.op.word();
            format!("{} {code} was acknowledged, and a later {word} was told there is none", thing(life))
        } else if let Some(state) = impossible {
            format!(
                "{} {code} was shown as {state}; what its clients knew and tried by then allows only {}",
                thing(life),
                states_at(life, operation).join(", ")
            )
        } else if told.is_some_and(|told| told.claim() != life.claim) {
            format!("{} {code} was acknowledged, and a later read showed another claim", thing(life))
        } else {
            continue;
        };
        let began_us = evidence.began_us();
        found.with(|| what, &[code, life.hold], || vec![tell(operation, began_us)]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{Scene, broken};
    use super::*;

    fn findings(scene: &Scene) -> Vec<String> {
        broken(scene, Promise::Acknowledged)
    }

    #[test]
    fn a_booking_that_is_there_is_kept() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").confirm("k2", "A").state("A", "booked");
        scene.hold("k3", "p1.2", "s1.1", "B").state("B", "expired");
        assert_eq!(findings(&scene), [""; 0]);
    }

    #[test]
    fn a_lost_booking_is_found() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").confirm("k2", "A").state("A", "booked").forget("A");
        let found = findings(&scene);
        assert!(found[0].contains("booking A was acknowledged and is not in the export"), "{found:?}");
    }

    #[test]
    fn a_lost_hold_is_found_even_when_its_code_went_to_somebody_else() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").state("A", "held").hand_over("A", "p1.9");
        assert!(findings(&scene)[0].contains("p1.9"));
    }

    #[test]
    fn one_code_acknowledged_to_two_people_is_found_whoever_has_it_in_the_end() {
        for (first, second) in [("k1", "k2"), ("k2", "k1")] {
            let mut scene = Scene::new();
            scene.hold(first, "p1.1", "s1.1", "A").kill();
            scene.hold(second, "p1.2", "s1.1", "A").state("A", "held");
            let found = findings(&scene);
            assert!(found[0].contains("p1.1") && found[0].contains("p1.2"), "{found:?}");
        }
    }

    #[test]
    fn an_unconfirmed_confirmation_is_found() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").confirm("k2", "A").state("A", "expired");
        assert!(findings(&scene)[0].contains("allows only booked"));
    }

    #[test]
    fn an_undone_cancel_is_found_and_an_open_one_is_not_held_against_the_server() {
        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").cancel("k2", "A").state("A", "booked");
        assert!(findings(&scene)[0].contains("allows only cancelled"));

        for state in ["booked", "cancelled"] {
            let mut scene = Scene::new();
            scene.book("k1", "p1.1", "s1.1", "A").lost("k2", Op::Cancel, "A").state("A", state);
            assert_eq!(findings(&scene), [""; 0]);
        }
    }

    #[test]
    fn a_cancel_refused_after_a_kill_did_not_happen() {
        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").lost("k2", Op::Cancel, "A").kill();
        scene.refused("k2", Op::Cancel, "A", "wrong_state").state("A", "cancelled");
        assert_eq!(findings(&scene).len(), 1);
    }

    #[test]
    fn a_confirm_whose_answer_was_lost_may_have_happened() {
        for state in ["held", "booked", "expired"] {
            let mut scene = Scene::new();
            scene.hold("k1", "p1.1", "s1.1", "A").lost("k2", Op::Confirm, "A").state("A", state);
            assert_eq!(findings(&scene), [""; 0]);
        }
    }

    #[test]
    fn a_moved_booking_lives_on_at_its_new_place() {
        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").moved("k2", "A", "s1.2", "B");
        scene.state("A", "moved").state("B", "booked");
        assert_eq!(findings(&scene), [""; 0]);
        scene.state("A", "booked");
        assert!(findings(&scene)[0].contains("allows only moved"));
    }

    #[test]
    fn two_acknowledged_ends_are_found() {
        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").cancel("k2", "A").moved("k3", "A", "s1.2", "B");
        scene.state("A", "cancelled").state("B", "booked");
        assert!(findings(&scene)[0].contains("cancelled and as moved"));
    }

    #[test]
    fn a_read_must_show_a_state_that_can_be() {
        let mut scene = Scene::new();
        scene.hold("k1", "p1.1", "s1.1", "A").read_shows("A", "held").confirm("k2", "A").read_shows("A", "booked");
        scene.lost("k3", Op::Cancel, "A").read_shows("A", "booked").read_shows("A", "cancelled");
        scene.state("A", "cancelled");
        assert_eq!(findings(&scene), [""; 0]);

        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").cancel("k2", "A").read_shows("A", "booked").state("A", "cancelled");
        assert!(findings(&scene)[0].contains("shown as booked"), "{:?}", findings(&scene));

        for state in ["cancelled", "expired", "held"] {
            let mut scene = Scene::new();
            scene.book("k1", "p1.1", "s1.1", "A").read_shows("A", state).cancel("k2", "A").state("A", "cancelled");
            assert!(findings(&scene)[0].contains("allows only booked"), "{:?}", findings(&scene));
        }
    }

    #[test]
    fn who_was_checked_in_stays_so_until_the_dose() {
        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").read_shows("A", "booked").turn("k2", Op::CheckIn, "A");
        scene.read_shows("A", "checked_in").turn("k3", Op::Complete, "A").read_shows("A", "completed");
        scene.state("A", "completed");
        assert_eq!(findings(&scene), [""; 0]);
        scene.state("A", "checked_in");
        assert!(findings(&scene)[0].contains("allows only completed"), "{:?}", findings(&scene));
        scene.state("A", "completed").read_shows("A", "checked_in");
        assert!(findings(&scene)[0].contains("shown as checked_in"), "{:?}", findings(&scene));

        for state in ["booked", "checked_in"] {
            let mut scene = Scene::new();
            scene.book("k1", "p1.1", "s1.1", "A").lost("k2", Op::CheckIn, "A").state("A", state);
            assert_eq!(findings(&scene), [""; 0]);
        }
    }

    #[test]
    fn a_later_denial_is_found() {
        let mut scene = Scene::new();
        scene.book("k1", "p1.1", "s1.1", "A").state("A", "booked");
        scene.read_refused("A", "unknown_booking");
        assert!(findings(&scene)[0].contains("told there is none"));
    }
}
