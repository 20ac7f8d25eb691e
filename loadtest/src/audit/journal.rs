//! Promise `journal`: the entries, applied one by one, keep the rules at every prefix; and `berth verify` says so too.
//!
//! The walk is this harness's own and shares no code with the server's.

use std::collections::HashMap;

use super::evidence::{Entry, EntryClaim, Evidence};
use super::{Finding, Promise};

/// What the journal adds up to.
#[derive(Debug, Default)]
pub(crate) struct Walk<'a> {
    /// Each code's state, and the entry that put it there.
    pub(crate) states: HashMap<&'a str, (&'static str, u64)>,
    /// Each slot's capacity, where the entries that published it say so.
    pub(crate) capacities: HashMap<&'a str, u64>,
    findings: Vec<(u64, String)>,
    claims: HashMap<&'a str, &'a EntryClaim>,
    group_of: HashMap<&'a str, Vec<&'a str>>,
    taken: HashMap<&'a str, u64>,
    live: HashMap<(&'a str, u8), &'a str>,
}

pub(crate) fn judge(evidence: &Evidence) -> (String, Vec<Finding>) {
    let walk = walk(evidence);
    let mut findings: Vec<Finding> = walk
        .findings
        .iter()
        .map(|(seq, what)| Finding {
            promise: Promise::Journal,
            what: format!("at journal entry {seq}: {what}"),
            story: around(evidence, *seq),
        })
        .collect();
    if evidence.verify.verdict != "held" {
        findings.push(Finding {
            promise: Promise::Journal,
            what: format!("`berth verify` says {:?}", evidence.verify.verdict),
            story: evidence.verify.findings.iter().take(10).map(ToString::to_string).collect(),
        });
    }
    verify_trusted(evidence, &mut findings);
    let looked_at = format!("{} entries; `berth verify` read {}", evidence.entries.len(), evidence.verify.entries);
    (looked_at, findings)
}

/// A verification is a witness only if it read the same journal, and if all it says is one thing.
fn verify_trusted(evidence: &Evidence, findings: &mut Vec<Finding>) {
    let verify = &evidence.verify;
    let mut doubt = |what: String| findings.push(Finding { promise: Promise::Journal, what, story: Vec::new() });
    if u64::try_from(evidence.entries.len()) != Ok(verify.entries) {
        doubt(format!("`berth verify` read {} entries of a journal of {}", verify.entries, evidence.entries.len()));
    }
    if let Some(code) = evidence.verify_exit.filter(|&code| (code == 0) != (verify.verdict == "held")) {
        doubt(format!("`berth verify` says {:?} and ended with {code}", verify.verdict));
    }
    if verify.verdict == "held" && !verify.findings.is_empty() {
        doubt(format!("`berth verify` says \"held\" and lists {} findings", verify.findings.len()));
    }
}

/// Applies the entries in order. After a broken rule the entry is applied all the same, so that one fault is not
/// followed by a hundred echoes.
pub(crate) fn walk(evidence: &Evidence) -> Walk<'_> {
    let mut walk = Walk::default();
    let mut last = 0;
    for entry in &evidence.entries {
        if entry.seq != last + 1 {
            walk.findings.push((entry.seq, format!("its number does not follow {last}, the one before")));
        }
        last = entry.seq;
        walk.apply(entry, evidence);
    }
    walk
}

impl<'a> Walk<'a> {
    fn apply(&mut self, entry: &'a Entry, evidence: &Evidence) {
        match entry.kind.as_str() {
            "held" => self.claim(entry, "held", evidence),
            "booked" => self.claim(entry, "booked", evidence),
            "confirmed" => self.turn(entry, &["held"], "booked"),
            "released" => self.turn(entry, &["held"], "released"),
            "expired" => self.turn(entry, &["held"], "expired"),
            "cancelled" | "group_cancelled" => self.turn(entry, &["booked"], "cancelled"),
            "no_show" => self.turn(entry, &["booked"], "no_show"),
            "checked_in" => self.turn(entry, &["booked"], "checked_in"),
            "completed" => self.turn(entry, &["checked_in"], "completed"),
            "walked_in" => self.claim(entry, "checked_in", evidence),
            "moved" | "reassigned" => {
                // One entry, both at once: the old place is given back only because the new one is taken, and between
                // the two the person has no second claim.
                self.turn(entry, &["booked"], "moved");
                self.claim(entry, "booked", evidence);
            }
            "published" | "slot_changed" => {
                self.capacities.extend(entry.capacities.iter().map(|(slot, capacity)| (slot.as_str(), *capacity)));
            }
            _ => {}
        }
    }

    /// What the journal itself gave the slot; of one that names no capacities, what the export says.
    fn capacity_of(&self, slot: &str, evidence: &Evidence) -> u64 {
        if self.capacities.is_empty() {
            evidence.export.slots.get(slot).map_or(0, |slot| slot.capacity)
        } else {
            self.capacities.get(slot).copied().unwrap_or(0)
        }
    }

    fn claim(&mut self, entry: &'a Entry, state: &'static str, evidence: &Evidence) {
        let codes: Vec<&str> = entry.claims.iter().map(|claim| claim.booking.as_str()).collect();
        for claim in &entry.claims {
            let code = claim.booking.as_str();
            if let Some((_, seq)) = self.states.insert(code, (state, entry.seq)) {
                self.findings.push((entry.seq, format!("code {code} was already given out by entry {seq}")));
            }
            self.claims.insert(code, claim);
            let capacity = self.capacity_of(&claim.slot, evidence);
            let taken = self.taken.entry(&claim.slot).or_default();
            *taken += 1;
            if *taken > capacity {
                let what = format!("slot {} has {taken} claims and a capacity of {capacity}", claim.slot);
                self.findings.push((entry.seq, what));
            }
            if let Some(other) = self.live.insert((&claim.party, claim.dose), code) {
                let what = format!("party {} has claim {code} beside {other} for dose {}", claim.party, claim.dose);
                self.findings.push((entry.seq, what));
            }
        }
        // A hold's code is that of its first claim.
        if let Some(&first) = codes.first() {
            self.group_of.insert(first, codes);
        }
    }

    fn turn(&mut self, entry: &'a Entry, from: &[&str], to: &'static str) {
        let mut codes: Vec<&'a str> = entry.changes.iter().map(String::as_str).collect();
        let by_hold = matches!(entry.kind.as_str(), "confirmed" | "released" | "expired") && codes.len() == 1;
        if by_hold && let Some(group) = codes.first().and_then(|first| self.group_of.get(first)) {
            codes.clone_from(group);
        }
        for code in codes {
            let was = self.states.get(code).map(|(state, _)| *state);
            if !was.is_some_and(|was| from.contains(&was)) {
                let what = format!("code {code} becomes {to}, having been {}", was.unwrap_or("never given out"));
                self.findings.push((entry.seq, what));
            }
            let live = matches!(was, Some("held" | "booked" | "checked_in"));
            self.states.insert(code, (to, entry.seq));
            if !matches!(to, "booked" | "checked_in")
                && live
                && let Some(claim) = self.claims.get(code).copied()
            {
                self.end(code, claim, to);
            }
        }
    }

    fn end(&mut self, code: &str, claim: &'a EntryClaim, to: &str) {
        // Who was served has used the unit up.
        if to != "completed"
            && let Some(taken) = self.taken.get_mut(claim.slot.as_str())
        {
            *taken = taken.saturating_sub(1);
        }
        let person = (claim.party.as_str(), claim.dose);
        if self.live.get(&person) == Some(&code) {
            self.live.remove(&person);
        }
    }
}

/// A few entries up to the one at fault that speak of the same things.
fn around(evidence: &Evidence, seq: u64) -> Vec<String> {
    const LINES_MAX: usize = 6;
    let Some(at) = evidence.entries.iter().rposition(|entry| entry.seq == seq) else { return Vec::new() };
    let fault = &evidence.entries[at];
    let related = |entry: &Entry| {
        entry.claims.iter().any(|claim| {
            fault.changes.contains(&claim.booking)
                || fault.claims.iter().any(|own| own.slot == claim.slot || own.party == claim.party)
        }) || entry.changes.iter().any(|code| fault.changes.contains(code))
    };
    let mut lines: Vec<String> =
        evidence.entries[..=at].iter().rev().filter(|entry| related(entry)).take(LINES_MAX).map(tell).collect();
    lines.reverse();
    lines
}

fn tell(entry: &Entry) -> String {
    let mut line = format!("entry {} {}", entry.seq, entry.kind);
    for code in &entry.changes {
        line.push_str(&format!(" {code}"));
    }
    for claim in &entry.claims {
        line.push_str(&format!(" {} [{} {} dose {}]", claim.booking, claim.party, claim.slot, claim.dose));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::scenes::{Scene, broken};
    use super::*;

    #[test]
    fn a_whole_life_is_fine() {
        let mut scene = Scene::new();
        scene.capacity("s1.1", 1);
        scene.hold("k1", "p1.1", "s1.1", "A").confirm("k2", "A").moved("k3", "A", "s1.2", "B").cancel("k4", "B");
        scene.book("k5", "p1.2", "s1.1", "C");
        scene.state("A", "moved").state("B", "cancelled").state("C", "booked");
        assert_eq!(broken(&scene, Promise::Journal), [""; 0]);
    }

    #[test]
    fn a_prefix_over_capacity_is_found_though_the_end_is_fine() {
        let mut scene = Scene::new();
        scene.capacity("s1.1", 1).entry_held(1, "A", "p1.1", "s1.1").entry_held(2, "B", "p1.2", "s1.1");
        scene.entry_turn(3, "expired", "A");
        let found = broken(&scene, Promise::Journal);
        assert_eq!(found, ["at journal entry 2: slot s1.1 has 2 claims and a capacity of 1"]);
    }

    #[test]
    fn at_the_door_a_unit_goes_back_or_is_used_up() {
        let served = |scene: &mut Scene| {
            scene.capacity("s1.1", 1).entry_held(1, "A", "p1.1", "s1.1").entry_turn(2, "confirmed", "A");
            scene.entry_turn(3, "checked_in", "A").entry_turn(4, "completed", "A");
        };
        let mut scene = Scene::new();
        served(&mut scene);
        scene.entry_held(5, "B", "p1.1", "s1.2");
        assert_eq!(broken(&scene, Promise::Journal), [""; 0], "it is no live claim any more");
        let mut scene = Scene::new();
        served(&mut scene);
        scene.entry_held(5, "B", "p1.2", "s1.1");
        let found = broken(&scene, Promise::Journal);
        assert_eq!(found, ["at journal entry 5: slot s1.1 has 2 claims and a capacity of 1"]);

        let mut scene = Scene::new();
        scene.capacity("s1.1", 1).entry_held(1, "A", "p1.1", "s1.1").entry_turn(2, "confirmed", "A");
        scene.entry_turn(3, "no_show", "A").entry_held(4, "B", "p1.2", "s1.1");
        assert_eq!(broken(&scene, Promise::Journal), [""; 0]);
        scene.entry_turn(5, "completed", "B");
        assert!(broken(&scene, Promise::Journal)[0].contains("becomes completed, having been held"));
    }

    #[test]
    fn two_claims_of_one_person_are_found() {
        let mut scene = Scene::new();
        scene.entry_held(1, "A", "p1.1", "s1.1").entry_held(2, "B", "p1.1", "s1.2");
        assert!(broken(&scene, Promise::Journal)[0].contains("claim B beside A"));
    }

    #[test]
    fn a_wrong_turn_a_reused_code_and_a_wrong_number_are_found() {
        let mut scene = Scene::new();
        scene.entry_held(1, "A", "p1.1", "s1.1").entry_turn(2, "expired", "A").entry_turn(3, "confirmed", "A");
        assert!(broken(&scene, Promise::Journal)[0].contains("becomes booked, having been expired"));
        let mut scene = Scene::new();
        scene.entry_held(1, "A", "p1.1", "s1.1").entry_held(1, "A", "p1.2", "s1.1");
        let found = broken(&scene, Promise::Journal);
        assert!(found[0].contains("does not follow 1") && found[1].contains("already given out"), "{found:?}");
    }

    #[test]
    fn a_missing_entry_is_found() {
        let mut scene = Scene::new();
        scene.entry_held(2, "A", "p1.1", "s1.1").entry_turn(4, "expired", "A");
        let found = broken(&scene, Promise::Journal);
        assert_eq!(
            found,
            [
                "at journal entry 2: its number does not follow 0, the one before",
                "at journal entry 4: its number does not follow 2, the one before"
            ]
        );
    }

    #[test]
    fn the_capacity_that_counts_is_the_published_one() {
        let mut scene = Scene::new();
        scene.entry_published(&[("s1.1", 1)]).capacity("s1.1", 5);
        scene.entry_held(2, "A", "p1.1", "s1.1").entry_held(3, "B", "p1.2", "s1.1");
        assert_eq!(
            broken(&scene, Promise::Journal),
            ["at journal entry 3: slot s1.1 has 2 claims and a capacity of 1"]
        );
    }

    #[test]
    fn a_verification_that_contradicts_itself_or_the_journal_counts() {
        let mut scene = Scene::new();
        scene.entry_held(1, "A", "p1.1", "s1.1").verify_read(7);
        assert_eq!(broken(&scene, Promise::Journal), ["`berth verify` read 7 entries of a journal of 1"]);
        let mut scene = Scene::new();
        scene.verify_ended(1);
        assert_eq!(broken(&scene, Promise::Journal), ["`berth verify` says \"held\" and ended with 1"]);
        scene.verify_ended(0);
        assert_eq!(broken(&scene, Promise::Journal), [""; 0]);
    }

    #[test]
    fn verifys_own_verdict_counts() {
        let mut scene = Scene::new();
        scene.verify_says("broken");
        assert!(broken(&scene, Promise::Journal)[0].contains("`berth verify` says \"broken\""));
    }
}
