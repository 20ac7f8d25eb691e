//! The journal, read once from beginning to end: what its entries add up to, and where they break a rule at some prefix.
//!
//! The walk is this harness's own and shares no code with the server's. Promise `journal` is judged here, with what `berth
//! verify` says; deadlines, keys, groups and the sum of it are judged by others from what the walk notes.

use super::Promise;
use super::entries::{Entry, EntryClaim};
use super::evidence::Evidence;
use super::findings::Found;
use super::record::Claim;
use crate::error::CannotRun;
use crate::name::{Map, Name};

/// What the journal says of one code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Born {
    pub(crate) claim: Claim,
    /// The entry that gave it out, and the last one that changed it.
    pub(crate) born_seq: u64,
    pub(crate) seq: u64,
    pub(crate) state: &'static str,
    /// Of one that began as a hold.
    deadline_us: i64,
}

/// An entry that came at a wrong time, in the journal's own times.
#[derive(Debug)]
pub(crate) struct Untimely {
    pub(crate) seq: u64,
    pub(crate) code: Name,
    pub(crate) at_us: i64,
    pub(crate) deadline_us: i64,
    pub(crate) confirmed: bool,
}

/// What the journal adds up to.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) entries: u64,
    pub(crate) codes: Map<Name, Born>,
    /// Each slot's capacity, where the entries that published it say so.
    pub(crate) capacities: Map<Name, u64>,
    /// Confirmations and expiries away from their deadline by more than nothing.
    pub(crate) untimely: Vec<Untimely>,
    /// The hashes of the keys that entries were written for, sorted.
    pub(crate) keys: Vec<u128>,
    found: Found,
    /// Which entries the findings that are shown are at.
    at: Vec<u64>,
    /// Codes of holds of several, by the first.
    groups: Map<Name, Vec<Name>>,
    taken: Map<Name, u64>,
    live: Map<(Name, u8), Name>,
}

/// Judges the promise from a walk and from what `berth verify` said.
pub(crate) fn judge(evidence: &Evidence, walk: &mut Walk) -> (String, Found) {
    let mut found = std::mem::replace(&mut walk.found, Found::none(Promise::Journal));
    let verify = &evidence.verify;
    if verify.verdict != "held" {
        let story = || verify.findings.iter().take(10).map(ToString::to_string).collect();
        found.told(|| format!("`berth verify` says {:?}", verify.verdict), story);
    }
    // A verification is a witness only if it read the same journal, and if all it says is one thing.
    let mut doubt = |what: String| found.told(|| what, Vec::new);
    if walk.entries != verify.entries {
        doubt(format!("`berth verify` read {} entries of a journal of {}", verify.entries, walk.entries));
    }
    if let Some(code) = evidence.verify_exit.filter(|&code| (code == 0) != (verify.verdict == "held")) {
        doubt(format!("`berth verify` says {:?} and ended with {code}", verify.verdict));
    }
    if verify.verdict == "held" && !verify.findings.is_empty() {
        doubt(format!("`berth verify` says \"held\" and lists {} findings", verify.findings.len()));
    }
    (format!("{} entries; `berth verify` read {}", walk.entries, verify.entries), found)
}

/// Applies the entries in order. After a broken rule the entry is applied all the same, so that one fault is not
/// followed by a hundred echoes.
pub(crate) fn walk(evidence: &Evidence) -> Result<Walk, CannotRun> {
    let mut walk = Walk {
        entries: 0,
        codes: Map::with_capacity_and_hasher(evidence.export.bookings.len(), Default::default()),
        capacities: Map::default(),
        untimely: Vec::new(),
        keys: Vec::new(),
        found: Found::none(Promise::Journal),
        at: Vec::new(),
        groups: Map::default(),
        taken: Map::default(),
        live: Map::default(),
    };
    let mut last = 0;
    evidence.entries.each(|entry| {
        if entry.seq != last + 1 {
            walk.break_at(entry.seq, || format!("its number does not follow {last}, the one before"));
        }
        last = entry.seq;
        walk.entries += 1;
        walk.keys.extend(entry.key);
        walk.apply(entry, evidence);
    })?;
    walk.keys.sort_unstable();
    walk.tell_around(evidence)?;
    // What is left of the walk is its sum.
    (walk.taken, walk.live) = Default::default();
    Ok(walk)
}

impl Walk {
    fn break_at(&mut self, seq: u64, what: impl FnOnce() -> String) {
        let shown = self.found.shown.len();
        self.found.told(|| format!("at journal entry {seq}: {}", what()), Vec::new);
        if self.found.shown.len() > shown {
            self.at.push(seq);
        }
    }

    fn apply(&mut self, entry: &Entry, evidence: &Evidence) {
        match &*entry.kind {
            "held" | "offered" => self.claim(entry, "held", evidence),
            "booked" => self.claim(entry, "booked", evidence),
            "confirmed" => self.turn(entry, &["held"], "booked"),
            "released" => self.turn(entry, &["held"], "released"),
            "expired" => self.turn(entry, &["held"], "expired"),
            "cancelled" | "group_cancelled" => self.turn(entry, &["booked"], "cancelled"),
            "no_show" => self.turn(entry, &["booked"], "no_show"),
            "checked_in" => self.turn(entry, &["booked"], "checked_in"),
            "completed" | "completed_noted" => self.turn(entry, &["checked_in"], "completed"),
            "walked_in" => self.claim(entry, "checked_in", evidence),
            "moved" | "reassigned" => {
                // One entry, both at once: the old place is given back only because the new one is taken, and between
                // the two the person has no second claim.
                self.turn(entry, &["booked"], "moved");
                self.claim(entry, "booked", evidence);
            }
            "published" | "slot_changed" => self.capacities.extend(entry.capacities.iter().copied()),
            "holds_graced" => {
                if let Some((from_us, until_us)) = entry.grace_us {
                    // Of a hold that was resolved before it, the deadline no longer matters.
                    let deadlines = self.codes.values_mut().map(|born| &mut born.deadline_us);
                    let within = deadlines.filter(|deadline_us| (from_us..until_us).contains(*deadline_us));
                    within.for_each(|deadline_us| *deadline_us = until_us);
                }
            }
            _ => {}
        }
    }

    /// What the journal itself gave the slot; of one that names no capacities, what the export says.
    fn capacity_of(&self, slot: Name, evidence: &Evidence) -> u64 {
        if self.capacities.is_empty() {
            evidence.export.slots.get(&slot).map_or(0, |slot| slot.capacity)
        } else {
            self.capacities.get(&slot).copied().unwrap_or(0)
        }
    }

    fn claim(&mut self, entry: &Entry, state: &'static str, evidence: &Evidence) {
        for claim in &entry.claims {
            let EntryClaim { booking: code, party, slot, dose } = *claim;
            let deadline_us = entry.expires_us.filter(|_| state == "held").unwrap_or(i64::MAX);
            let born = Born { claim: claim.claim(), born_seq: entry.seq, seq: entry.seq, state, deadline_us };
            if let Some(before) = self.codes.insert(code, born) {
                self.break_at(entry.seq, || format!("code {code} was already given out by entry {}", before.seq));
            }
            let capacity = self.capacity_of(slot, evidence);
            let taken = self.taken.entry(slot).or_default();
            *taken += 1;
            if *taken > capacity {
                let taken = *taken;
                self.break_at(entry.seq, || format!("slot {slot} has {taken} claims and a capacity of {capacity}"));
            }
            if let Some(other) = self.live.insert((party, dose), code) {
                self.break_at(entry.seq, || format!("party {party} has claim {code} beside {other} for dose {dose}"));
            }
        }
        // A hold's code is that of its first claim.
        if let [first, _, ..] = &entry.claims[..] {
            self.groups.insert(first.booking, entry.claims.iter().map(|claim| claim.booking).collect());
        }
    }

    fn turn(&mut self, entry: &Entry, from: &[&str], to: &'static str) {
        let by_hold = matches!(&*entry.kind, "confirmed" | "released" | "expired");
        let group = entry.changes.first().filter(|_| by_hold && entry.changes.len() == 1);
        let group = group.and_then(|first| self.groups.get(first)).cloned();
        self.time(entry);
        for &code in group.as_deref().unwrap_or(&entry.changes) {
            let Some(born) = self.codes.get_mut(&code) else {
                self.break_at(entry.seq, || format!("code {code} becomes {to}, having been never given out"));
                continue;
            };
            let was = born.state;
            (born.state, born.seq) = (to, entry.seq);
            let claim = born.claim;
            if !from.contains(&was) {
                self.break_at(entry.seq, || format!("code {code} becomes {to}, having been {was}"));
            }
            let live = matches!(was, "held" | "booked" | "checked_in");
            if !matches!(to, "booked" | "checked_in") && live {
                self.end(code, claim, to);
            }
        }
    }

    /// Notes a confirmation after its deadline, and an expiry at any other time than the deadline.
    fn time(&mut self, entry: &Entry) {
        let Some(at_us) = entry.at_us else { return };
        let confirmed = &*entry.kind == "confirmed";
        if !confirmed && &*entry.kind != "expired" {
            return;
        }
        let Some(&code) = entry.changes.first() else { return };
        let Some(born) = self.codes.get(&code).filter(|born| born.deadline_us != i64::MAX) else { return };
        let deadline_us = born.deadline_us;
        let past_us = at_us - deadline_us;
        if (confirmed && past_us > super::CLOCK_SLACK_US)
            || (!confirmed && !(-super::CLOCK_SLACK_US..=super::EXPIRY_SLACK_US).contains(&past_us))
        {
            self.untimely.push(Untimely { seq: entry.seq, code, at_us, deadline_us, confirmed });
        }
    }

    fn end(&mut self, code: Name, claim: Claim, to: &str) {
        // Who was served has used the unit up.
        if to != "completed"
            && let Some(taken) = self.taken.get_mut(&claim.slot)
        {
            *taken = taken.saturating_sub(1);
        }
        let person = (claim.party, claim.dose);
        if self.live.get(&person) == Some(&code) {
            self.live.remove(&person);
        }
    }

    /// Puts beside each finding a few entries up to the one at fault that speak of the same things.
    fn tell_around(&mut self, evidence: &Evidence) -> Result<(), CannotRun> {
        const LINES_MAX: usize = 6;
        if self.at.is_empty() {
            return Ok(());
        }
        // Of several entries with one number the last is meant.
        let mut faults: Map<u64, Entry> = Map::default();
        evidence.entries.each(|entry| {
            if self.at.contains(&entry.seq) {
                faults.insert(entry.seq, entry.clone());
            }
        })?;
        let mut around: Map<u64, Vec<String>> = Map::default();
        evidence.entries.each(|entry| {
            for (seq, _) in faults.iter().filter(|(seq, fault)| entry.seq <= **seq && related(entry, fault)) {
                let lines = around.entry(*seq).or_default();
                lines.push(tell(entry));
                if lines.len() > LINES_MAX {
                    lines.remove(0);
                }
            }
        })?;
        for (finding, seq) in self.found.shown.iter_mut().zip(&self.at) {
            finding.story = around.get(seq).cloned().unwrap_or_default();
        }
        Ok(())
    }
}

fn related(entry: &Entry, fault: &Entry) -> bool {
    entry.claims.iter().any(|claim| {
        fault.changes.contains(&claim.booking)
            || fault.claims.iter().any(|own| own.slot == claim.slot || own.party == claim.party)
    }) || entry.changes.iter().any(|code| fault.changes.contains(code))
}

pub(crate) fn tell(entry: &Entry) -> String {
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
