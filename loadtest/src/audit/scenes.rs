//! A small language for histories in tests: each call is one thing that happened, a tenth of a second after the last.
//!
//! What is told in order is also written to the export and the journal, as an honest server would; a test then bends one
//! witness.

mod ground;
mod groups;

use std::collections::BTreeMap;

use super::entries::{Entries, Entry, EntryClaim, key_of};
use super::evidence::{BookingLine, Evidence, Export, SlotLine, Verify};
use super::{Lives, Promise, by_key, judge};
use crate::ground::Witness;
use crate::history::{Claim, Mark, MarkKind, Op, Operation, Outcome, Told};
use crate::name::{Name, Word};

const STEP_US: i64 = 100_000;
const HOLD_US: i64 = 8_000_000;

/// A history under construction.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    now_us: i64,
    dose: u8,
    operations: Vec<Operation>,
    marks: Vec<Mark>,
    claims: BTreeMap<String, Claim>,
    deadlines: BTreeMap<String, i64>,
    states: BTreeMap<String, String>,
    capacities: BTreeMap<String, u64>,
    without: Vec<String>,
    miscounts: BTreeMap<String, (u64, u64)>,
    forgotten: Vec<String>,
    only_export: BTreeMap<String, Option<String>>,
    entry_times: BTreeMap<String, (i64, i64)>,
    entries: Vec<Entry>,
    verdict: String,
    published: Option<Vec<u64>>,
    published_slots: Vec<(String, u64)>,
    settled_us: Option<i64>,
    verify_read: Option<u64>,
    verify_exit: Option<i32>,
    redis: Option<Witness>,
}

/// What `promise` finds in the scene.
pub(super) fn broken(scene: &Scene, promise: Promise) -> Vec<String> {
    let evidence = scene.evidence();
    let by_key = by_key(&evidence);
    let lives = Lives::of(&evidence, &by_key);
    let judgement = judge(&evidence, &lives, &[promise].into(), None, Vec::new()).unwrap();
    judgement.promises.into_iter().flat_map(|judged| judged.findings).map(|finding| finding.what).collect()
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            now_us: 1_000_000_000,
            dose: 1,
            operations: Vec::new(),
            marks: Vec::new(),
            claims: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            states: BTreeMap::new(),
            capacities: BTreeMap::new(),
            without: Vec::new(),
            miscounts: BTreeMap::new(),
            forgotten: Vec::new(),
            only_export: BTreeMap::new(),
            entry_times: BTreeMap::new(),
            entries: Vec::new(),
            verdict: "held".into(),
            published: None,
            published_slots: Vec::new(),
            settled_us: None,
            verify_read: None,
            verify_exit: None,
            redis: None,
        }
    }

    // What clients did.

    pub(super) fn hold(&mut self, key: &str, party: &str, slot: &str, code: &str) -> &mut Self {
        let deadline_us = self.now_us + HOLD_US;
        self.claims_made(Op::Hold, key, self.claim(party, slot), code, self.claim(party, slot), Some(deadline_us))
    }

    pub(super) fn book(&mut self, key: &str, party: &str, slot: &str, code: &str) -> &mut Self {
        self.claims_made(Op::Book, key, self.claim(party, slot), code, self.claim(party, slot), None)
    }

    pub(super) fn answered_with(
        &mut self,
        key: &str,
        asked: (&str, &str),
        code: &str,
        told: (&str, &str),
    ) -> &mut Self {
        self.claims_made(Op::Book, key, self.claim(asked.0, asked.1), code, self.claim(told.0, told.1), None)
    }

    pub(super) fn confirm(&mut self, key: &str, hold: &str) -> &mut Self {
        let told = self.told(hold);
        let operation = Operation { hold: Some(hold.into()), told: vec![told], ..self.on(Op::Confirm, key, hold) };
        self.push(operation)
    }

    pub(super) fn cancel(&mut self, key: &str, booking: &str) -> &mut Self {
        let told = self.told(booking);
        let operation = Operation { told: vec![told], ..self.on(Op::Cancel, key, booking) };
        self.push(operation)
    }

    pub(super) fn moved(&mut self, key: &str, from: &str, slot: &str, to: &str) -> &mut Self {
        let claim = Claim { slot: slot.into(), ..self.claims[from].clone() };
        self.claims.insert(to.into(), claim.clone());
        let told = self.told(to);
        let operation = Operation { asked: vec![claim], told: vec![told], ..self.on(Op::Move, key, from) };
        self.push(operation)
    }

    /// The last answer to `key` once more, marked as a replay.
    pub(super) fn replay(&mut self, key: &str) -> &mut Self {
        let last = self.operations.iter().rev().find(|operation| operation.key.as_deref() == Some(key)).unwrap();
        let again = Operation { attempt: 2, replayed: true, ..last.clone() };
        self.push(again)
    }

    /// A change of `target` that was acknowledged and names it.
    pub(super) fn turn(&mut self, key: &str, op: Op, target: &str) -> &mut Self {
        let told = vec![self.told(target)];
        let operation = Operation { told, ..self.on(op, key, target) };
        self.push(operation)
    }

    /// A change of `target` whose answer never came.
    pub(super) fn lost(&mut self, key: &str, op: Op, target: &str) -> &mut Self {
        let operation = Operation { outcome: Outcome::Unknown, ..self.on(op, key, target) };
        self.push(operation)
    }

    pub(super) fn lost_claim(&mut self, key: &str, party: &str, slot: &str) -> &mut Self {
        let operation = self.unanswered(key, party, slot);
        self.push(operation)
    }

    /// A hold under way while a kill strikes, and the server back a moment later.
    pub(super) fn caught_by_kill(&mut self, key: &str, party: &str, slot: &str) -> &mut Self {
        let operation = self.unanswered(key, party, slot);
        let at_us = self.now_us + STEP_US / 4;
        self.marks.push(Mark { at_us, mark: killed() });
        self.push(operation);
        self.marks.push(Mark { at_us: self.now_us, mark: MarkKind::Restarted { fault: 0 } });
        self
    }

    pub(super) fn refused(&mut self, key: &str, op: Op, target: &str, code: &str) -> &mut Self {
        let operation = Operation { outcome: Outcome::Refused, code: Some(code.into()), ..self.on(op, key, target) };
        self.push(operation)
    }

    pub(super) fn refused_claim(&mut self, key: &str, party: &str, slot: &str, code: &str) -> &mut Self {
        let operation =
            Operation { outcome: Outcome::Refused, code: Some(code.into()), ..self.unanswered(key, party, slot) };
        self.push(operation)
    }

    pub(super) fn full(&mut self, key: &str, party: &str, slot: &str, counts: [u64; 3]) -> &mut Self {
        self.refused_claim(key, party, slot, "full");
        self.operations.last_mut().unwrap().counts = Some(counts);
        self
    }

    pub(super) fn read_refused(&mut self, booking: &str, code: &str) -> &mut Self {
        let operation = Operation {
            key: None,
            outcome: Outcome::Refused,
            code: Some(code.into()),
            ..self.on(Op::Read, "", booking)
        };
        self.push(operation)
    }

    pub(super) fn outcome_of(&mut self, key: &str, op: Op, code: &str, party: &str, slot: &str) -> &mut Self {
        let claim = self.claim(party, slot);
        self.claims.insert(code.into(), claim);
        let told = self.told(code);
        let expires_us = (op == Op::Hold).then_some(self.now_us + HOLD_US);
        let operation = Operation {
            key: None,
            hold: Some(code.into()),
            told: vec![told],
            expires_us,
            ..self.on(Op::Outcome, "", key)
        };
        self.push(operation)
    }

    pub(super) fn no_outcome_of(&mut self, key: &str) -> &mut Self {
        let operation = Operation {
            key: None,
            outcome: Outcome::Refused,
            code: Some("unknown_key".into()),
            ..self.on(Op::Outcome, "", key)
        };
        self.push(operation)
    }

    /// A read that left `late_ms` late and took `service_ms`.
    pub(super) fn late_read(&mut self, late_ms: i64, service_ms: i64) -> &mut Self {
        let operation = self.on(Op::Read, "", "X");
        self.operations.push(Operation {
            key: None,
            intended_us: self.now_us,
            sent_us: self.now_us + late_ms * 1_000,
            received_us: self.now_us + (late_ms + service_ms) * 1_000,
            ..operation
        });
        self
    }

    pub(super) fn kill(&mut self) -> &mut Self {
        self.marks.push(Mark { at_us: self.now_us, mark: killed() });
        self.now_us += STEP_US;
        self.marks.push(Mark { at_us: self.now_us, mark: MarkKind::Restarted { fault: 0 } });
        self
    }

    pub(super) fn wait_seconds(&mut self, seconds: i64) -> &mut Self {
        self.now_us += seconds * 1_000_000;
        self
    }

    pub(super) fn dose(&mut self, dose: u8) -> &mut Self {
        self.dose = dose;
        self
    }

    // What the witnesses of the server's side say.

    pub(super) fn capacity(&mut self, slot: &str, capacity: u64) -> &mut Self {
        self.capacities.insert(slot.into(), capacity);
        self
    }

    pub(super) fn state(&mut self, code: &str, state: &str) -> &mut Self {
        self.states.insert(code.into(), state.into());
        self
    }

    /// Something on the server's side that no answer named.
    pub(super) fn exists(&mut self, code: &str, party: &str, slot: &str, state: &str) -> &mut Self {
        self.claims.insert(code.into(), self.claim(party, slot));
        self.state(code, state)
    }

    pub(super) fn forget(&mut self, code: &str) -> &mut Self {
        self.forgotten.push(code.into());
        self
    }

    pub(super) fn hand_over(&mut self, code: &str, party: &str) -> &mut Self {
        self.claims.get_mut(code).unwrap().party = party.into();
        self
    }

    pub(super) fn export_says(&mut self, code: &str, state: &str) -> &mut Self {
        self.only_export.insert(code.into(), Some(state.into()));
        self
    }

    pub(super) fn export_forgets(&mut self, code: &str) -> &mut Self {
        self.only_export.insert(code.into(), None);
        self
    }

    pub(super) fn miscount(&mut self, slot: &str, held: u64, booked: u64) -> &mut Self {
        self.miscounts.insert(slot.into(), (held, booked));
        self
    }

    pub(super) fn without_slot(&mut self, slot: &str) -> &mut Self {
        self.without.push(slot.into());
        self
    }

    /// The journal's times of a hold and its end, in seconds after the hold was made.
    pub(super) fn entry_times_of(&mut self, code: &str, held: i64, ended: i64) -> &mut Self {
        self.entry_times.insert(code.into(), (held, ended));
        self
    }

    pub(super) fn entry_held(&mut self, seq: u64, code: &str, party: &str, slot: &str) -> &mut Self {
        let claims = vec![entry_claim(code, &self.claim(party, slot))];
        self.entries.push(Entry { seq, kind: Word::new("held"), claims, ..Entry::default() });
        let capacity = self.capacities.get(slot).copied().unwrap_or(10);
        self.capacity(slot, capacity)
    }

    pub(super) fn entry_turn(&mut self, seq: u64, kind: &str, code: &str) -> &mut Self {
        let changes = vec![Name::new(code)];
        self.entries.push(Entry { seq, kind: Word::new(kind), changes, ..Entry::default() });
        self
    }

    /// An entry that holds claims which were told of before.
    pub(super) fn entry_group(&mut self, seq: u64, codes: &[&str]) -> &mut Self {
        let claims = codes.iter().map(|code| entry_claim(code, &self.claims[*code])).collect();
        self.entries.push(Entry { seq, kind: Word::new("held"), claims, ..Entry::default() });
        self
    }

    /// Names the key that the last entry was written for.
    pub(super) fn entry_key(&mut self, key: &str) -> &mut Self {
        self.entries.last_mut().unwrap().key = Some(key_of(key));
        self
    }

    /// The units that the run published, slot by slot of one session, the smallest first.
    pub(super) fn published(&mut self, units: &[u64]) -> &mut Self {
        self.published = Some(units.to_vec());
        self
    }

    /// The journal's first entry, which publishes slots.
    pub(super) fn entry_published(&mut self, slots: &[(&str, u64)]) -> &mut Self {
        self.published_slots = slots.iter().map(|&(slot, units)| (slot.to_owned(), units)).collect();
        self
    }

    /// The exports were taken now, after the wait for all holds to run out.
    pub(super) fn settled(&mut self) -> &mut Self {
        self.settled_us = Some(self.now_us);
        self
    }

    pub(super) fn verify_read(&mut self, entries: u64) -> &mut Self {
        self.verify_read = Some(entries);
        self
    }

    pub(super) fn verify_ended(&mut self, code: i32) -> &mut Self {
        self.verify_exit = Some(code);
        self
    }

    /// A read of a booking that showed it in `state`.
    pub(super) fn read_shows(&mut self, booking: &str, state: &str) -> &mut Self {
        let told = Told { state: Some(state.into()), ..self.told(booking) };
        let operation = Operation { key: None, told: vec![told], ..self.on(Op::Read, "", booking) };
        self.push(operation)
    }

    /// A search under way while a kill strikes.
    pub(super) fn search_caught_by_kill(&mut self) -> &mut Self {
        let operation = Operation { key: None, outcome: Outcome::Unknown, ..self.on(Op::Search, "", "d001") };
        self.marks.push(Mark { at_us: self.now_us + STEP_US / 4, mark: killed() });
        self.push(operation);
        self.marks.push(Mark { at_us: self.now_us, mark: MarkKind::Restarted { fault: 0 } });
        self
    }

    /// A refusal `full` that does not say what it counted.
    pub(super) fn full_uncounted(&mut self, key: &str, party: &str, slot: &str) -> &mut Self {
        self.refused_claim(key, party, slot, "full")
    }

    pub(super) fn verify_says(&mut self, verdict: &str) -> &mut Self {
        self.verdict = verdict.into();
        self
    }

    /// The witnesses.
    pub(super) fn evidence(&self) -> Evidence {
        let mut entries = if self.entries.is_empty() { self.written() } else { self.entries.clone() };
        if !self.published_slots.is_empty() {
            // Entries that a test numbered itself leave room for this one.
            if self.entries.is_empty() {
                entries.iter_mut().for_each(|entry| entry.seq += 1);
            }
            let capacities = self.published_slots.iter().map(|(slot, units)| (Name::new(slot), *units)).collect();
            entries.insert(0, Entry { seq: 1, kind: Word::new("published"), capacities, ..Entry::default() });
        }
        let read = self.verify_read.unwrap_or(u64::try_from(entries.len()).unwrap());
        Evidence {
            operations: self.operations.iter().map(Into::into).collect(),
            marks: self.marks.clone(),
            export: self.export(),
            live_export: Some(self.export()),
            entries: Entries::Listed(entries),
            verify: Verify { verdict: self.verdict.clone(), entries: read, findings: Vec::new() },
            published: self.published.clone().map(|units| [("x".into(), [("dose1".into(), units)].into())].into()),
            settled_us: self.settled_us,
            verify_exit: self.verify_exit,
            search_staleness_us: 500_000,
            redis: self.redis.clone(),
            ..Evidence::default()
        }
    }

    fn export(&self) -> Export {
        let mut export = Export::default();
        for (code, claim) in &self.claims {
            let slot = export.slots.entry(Name::new(&claim.slot)).or_insert_with(|| SlotLine {
                slot: Name::new(&claim.slot),
                session: "x".into(),
                pool: "dose1".into(),
                capacity: self.capacities.get(&claim.slot).copied().unwrap_or(10),
                held: 0,
                booked: 0,
            });
            match self.states.get(code).map(String::as_str) {
                Some("held") => slot.held += 1,
                Some("booked") => slot.booked += 1,
                _ => {}
            }
        }
        for (name, &capacity) in &self.capacities {
            export.slots.entry(Name::new(name)).or_insert_with(|| SlotLine {
                slot: Name::new(name),
                session: "x".into(),
                pool: "dose1".into(),
                capacity,
                held: 0,
                booked: 0,
            });
        }
        for (name, &(held, booked)) in &self.miscounts {
            let slot = export.slots.get_mut(&Name::new(name)).unwrap();
            (slot.held, slot.booked) = (held, booked);
        }
        export.slots.retain(|name, _| !self.without.contains(&name.to_string()));
        for (code, state) in &self.states {
            if self.forgotten.contains(code) {
                continue;
            }
            let state = match self.only_export.get(code) {
                Some(None) => continue,
                Some(Some(other)) => other,
                None => state,
            };
            let claim = &self.claims[code];
            export.add(Name::new(code), BookingLine::new(claim.into(), state, None));
        }
        export
    }

    /// The journal an honest server would have written to reach the states.
    fn written(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut add = |entry: Entry| {
            let seq = u64::try_from(entries.len()).unwrap() + 1;
            entries.push(Entry { seq, ..entry });
        };
        let targets: Vec<&str> = self
            .operations
            .iter()
            .filter(|operation| operation.op == Op::Move)
            .flat_map(|operation| &operation.told)
            .map(|told| told.booking.as_str())
            .collect();
        let moved_to = |from: &str| {
            self.operations
                .iter()
                .find(|one| one.op == Op::Move && one.target.as_deref() == Some(from))
                .map(|one| &one.told[0])
        };
        // First what a move does not make, then the moves, then the ends.
        for (code, state) in self.states.iter().filter(|(code, _)| !targets.contains(&code.as_str())) {
            let claim = |code: &str| {
                let claim = &self.claims[code];
                vec![entry_claim(code, claim)]
            };
            let deadline_us = self.deadlines.get(code).copied();
            let made_us = deadline_us.map(|deadline_us| deadline_us - HOLD_US);
            let (held, ended) =
                self.entry_times.get(code).copied().unwrap_or((0, if state == "expired" { 8 } else { 1 }));
            let at = |seconds: i64| made_us.map(|made_us| made_us + seconds * 1_000_000);
            let begins = if deadline_us.is_some() { "held" } else { "booked" };
            add(Entry {
                kind: Word::new(begins),
                claims: claim(code),
                at_us: at(held),
                expires_us: deadline_us,
                ..Entry::default()
            });
            let turn = |kind: &str| Entry {
                kind: Word::new(kind),
                changes: vec![Name::new(code)],
                at_us: at(ended),
                ..Entry::default()
            };
            let ends_booked = matches!(state.as_str(), "booked" | "cancelled" | "moved");
            if begins == "held" && ends_booked {
                add(turn("confirmed"));
            }
            match state.as_str() {
                "moved" => {
                    let to = &moved_to(code).unwrap().booking;
                    add(Entry {
                        kind: Word::new("moved"),
                        changes: vec![Name::new(code)],
                        claims: claim(to),
                        ..Entry::default()
                    });
                    if self.states.get(to).map(String::as_str) == Some("cancelled") {
                        let changes = vec![Name::new(to)];
                        add(Entry { kind: Word::new("cancelled"), changes, ..Entry::default() });
                    }
                }
                "held" | "booked" => {}
                other => add(turn(other)),
            }
        }
        entries
    }

    fn claims_made(
        &mut self,
        op: Op,
        key: &str,
        asked: Claim,
        code: &str,
        told: Claim,
        expires_us: Option<i64>,
    ) -> &mut Self {
        self.claims.entry(code.into()).or_insert_with(|| told.clone());
        if let Some(expires_us) = expires_us {
            self.deadlines.entry(code.into()).or_insert(expires_us);
        }
        let told = Told { booking: code.into(), party: told.party, slot: told.slot, dose: told.dose, state: None };
        let operation = Operation {
            target: None,
            asked: vec![asked],
            hold: Some(code.into()),
            told: vec![told],
            expires_us,
            ..self.on(op, key, "")
        };
        self.push(operation)
    }

    fn claim(&self, party: &str, slot: &str) -> Claim {
        Claim { party: party.into(), slot: slot.into(), dose: self.dose }
    }

    fn told(&self, code: &str) -> Told {
        let claim = &self.claims[code];
        Told {
            booking: code.into(),
            party: claim.party.clone(),
            slot: claim.slot.clone(),
            dose: claim.dose,
            state: None,
        }
    }

    fn unanswered(&self, key: &str, party: &str, slot: &str) -> Operation {
        let asked = vec![self.claim(party, slot)];
        Operation { target: None, asked, outcome: Outcome::Unknown, ..self.on(Op::Hold, key, "") }
    }

    fn on(&self, op: Op, key: &str, target: &str) -> Operation {
        Operation {
            op,
            key: Some(key.into()),
            target: Some(target.into()),
            attempt: 1,
            outcome: Outcome::Ok,
            ..Operation::default()
        }
    }

    fn push(&mut self, operation: Operation) -> &mut Self {
        self.operations.push(Operation {
            intended_us: self.now_us,
            sent_us: self.now_us,
            received_us: self.now_us + STEP_US / 2,
            ..operation
        });
        self.now_us += STEP_US;
        self
    }
}

fn entry_claim(code: &str, claim: &Claim) -> EntryClaim {
    let Claim { party, slot, dose } = claim;
    EntryClaim { booking: Name::new(code), party: Name::new(party), slot: Name::new(slot), dose: *dose }
}

fn killed() -> MarkKind {
    MarkKind::Killed { fault: 0, how: "plain".into(), changes_in_flight: 1, operations_in_flight: 1 }
}
