//! Reads a journal entry by entry and proves the rules at every prefix.
//!
//! A second reading of the rules, on plain maps: it shares no code with the inventory, so that a bug there
//! is not repeated here.

use std::collections::HashMap;

use crate::booking::State;
use crate::command::Claim;
use crate::ids::{BookingNumber, Dose, IdempotencyKey, PartyId, ProgrammeId, Seq, SlotId};
use crate::journal::entry::{Entry, Event};
use crate::units::TimestampMs;

/// A rule broken at one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's id, as in RULES.md.
    pub rule: &'static str,
    /// The entry after which it no longer held.
    pub seq: Seq,
    /// What was found, with both values.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct SlotAccount {
    capacity: u64,
    held: u64,
    booked: u64,
    programme: ProgrammeId,
}

#[derive(Clone, Copy, Debug)]
struct ClaimAccount {
    state: State,
    claim: Claim,
    expires_at: TimestampMs,
}

/// The books kept from the journal alone.
#[derive(Debug, Default)]
pub struct Ledger {
    next: Option<Seq>,
    parties: u64,
    slots: HashMap<SlotId, SlotAccount>,
    claims: HashMap<BookingNumber, ClaimAccount>,
    live: HashMap<(PartyId, ProgrammeId, Dose), BookingNumber>,
    keys: HashMap<IdempotencyKey, TimestampMs>,
    window_ms: u64,
    findings: Vec<Finding>,
}

impl Ledger {
    /// Empty books. A key used again after `idempotency_window` is not a finding.
    #[must_use]
    pub fn new(idempotency_window: std::time::Duration) -> Self {
        let window_ms = u64::try_from(idempotency_window.as_millis()).unwrap_or(u64::MAX);
        Self { window_ms, ..Self::default() }
    }

    /// Everything found so far.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Capacity, held and booked of a slot, as the journal so far says.
    #[must_use]
    pub fn slot(&self, slot: SlotId) -> Option<(u64, u64, u64)> {
        self.slots.get(&slot).map(|account| (account.capacity, account.held, account.booked))
    }

    /// Takes one entry into the books and checks every rule it touches.
    pub fn apply(&mut self, seq: Seq, entry: &Entry) {
        if self.next.is_some_and(|next| next != seq) || seq.0 == 0 {
            self.find("JNL-1", seq, format!("entry {seq} where {:?} was due", self.next));
        }
        self.next = Some(seq.next());
        if let Some(idempotency) = entry.idempotency {
            let before = self.keys.insert(idempotency.key, entry.at);
            if before.is_some_and(|at| entry.at.0.saturating_sub(at.0) < self.window_ms) {
                self.find("IDM-1", seq, "an idempotency key has a second effect inside its window".to_owned());
            }
        }
        match &entry.event {
            Event::PartiesAdded { count, .. } => self.parties += u64::from(*count),
            Event::Published { slots, .. } => {
                for slot in slots {
                    let account = SlotAccount {
                        capacity: u64::from(slot.capacity.get()),
                        programme: slot.facts.programme,
                        ..SlotAccount::default()
                    };
                    if self.slots.insert(slot.slot, account).is_some() {
                        self.find("CAP-1", seq, format!("slot {} is published twice", slot.slot));
                    }
                }
            }
            Event::Note { .. } => {}
            Event::Held { first, expires_at, claims } => self.born(seq, *first, State::Held, *expires_at, claims),
            Event::Booked { first, claims } => self.born(seq, *first, State::Booked, TimestampMs(0), claims),
            Event::Confirmed { hold, len } => self.resolve(seq, *hold, *len, State::Booked, entry.at),
            Event::Released { hold, len } => self.resolve(seq, *hold, *len, State::Released, entry.at),
            Event::Expired { hold, len } => self.resolve(seq, *hold, *len, State::Expired, entry.at),
            Event::Cancelled { booking } => self.leave(seq, *booking, State::Cancelled),
            Event::Moved { from, to } => {
                self.leave(seq, *from, State::Moved);
                self.born(seq, to.number, State::Booked, TimestampMs(0), &[to.claim]);
            }
            Event::SlotChanged { slot, capacity, .. } => {
                self.slots.entry(*slot).or_default().capacity = u64::from(capacity.get());
                self.check_slot(seq, *slot);
            }
        }
    }

    fn born(&mut self, seq: Seq, first: BookingNumber, state: State, expires_at: TimestampMs, claims: &[Claim]) {
        for (index, claim) in (0u64..).zip(claims) {
            let number = BookingNumber(first.0.saturating_add(index));
            if u64::from(claim.party.0) >= self.parties {
                self.find("PTY-1", seq, format!("party {} was never created", claim.party));
            }
            if self.claims.insert(number, ClaimAccount { state, claim: *claim, expires_at }).is_some() {
                self.find("BKG-1", seq, format!("booking {number} was given out twice"));
            }
            let account = self.slots.entry(claim.slot).or_default();
            *(if state == State::Held { &mut account.held } else { &mut account.booked }) += 1;
            let key = (claim.party, account.programme, claim.dose);
            if let Some(other) = self.live.insert(key, number) {
                let detail = format!(
                    "party {} has live claims {other} and {number} for dose {} of programme {}",
                    claim.party, claim.dose, key.1
                );
                self.find("PTY-1", seq, detail);
            }
        }
        // After the whole group: it takes all its units in one step.
        for claim in claims {
            self.check_slot(seq, claim.slot);
        }
    }

    /// A hold's one resolution.
    fn resolve(&mut self, seq: Seq, hold: BookingNumber, len: u8, to: State, at: TimestampMs) {
        for number in (hold.0..hold.0.saturating_add(u64::from(len))).map(BookingNumber) {
            let Some(account) = self.claims.get_mut(&number) else {
                self.find("HLD-1", seq, format!("hold {number} was never made"));
                continue;
            };
            let (from, claim, deadline) = (account.state, account.claim, account.expires_at);
            account.state = to;
            if from != State::Held {
                self.find("HLD-1", seq, format!("hold {number} is resolved as {to} though it was {from}"));
                continue;
            }
            if (to == State::Expired) != (at >= deadline) {
                let detail = format!("hold {number} with deadline {} became {to} at {}", deadline.0, at.0);
                self.find("HLD-4", seq, detail);
            }
            let slot = self.slots.entry(claim.slot).or_default();
            // Saturating: what went wrong before this is a finding already.
            slot.held = slot.held.saturating_sub(1);
            if to == State::Booked {
                slot.booked += 1;
            } else {
                self.end_claim(seq, number, claim);
            }
        }
    }

    fn leave(&mut self, seq: Seq, booking: BookingNumber, to: State) {
        let Some(account) = self.claims.get_mut(&booking) else {
            return self.find("BKG-1", seq, format!("booking {booking} was never made"));
        };
        let (from, claim) = (account.state, account.claim);
        account.state = to;
        if from != State::Booked {
            return self.find("BKG-1", seq, format!("booking {booking} became {to} though it was {from}"));
        }
        let slot = self.slots.entry(claim.slot).or_default();
        slot.booked = slot.booked.saturating_sub(1);
        self.end_claim(seq, booking, claim);
    }

    fn end_claim(&mut self, seq: Seq, number: BookingNumber, claim: Claim) {
        let programme = self.slots.entry(claim.slot).or_default().programme;
        let ended = self.live.remove(&(claim.party, programme, claim.dose));
        if ended != Some(number) {
            self.find("PTY-1", seq, format!("booking {number} ends, but the party's live claim was {ended:?}"));
        }
    }

    fn check_slot(&mut self, seq: Seq, slot: SlotId) {
        let account = self.slots.entry(slot).or_default();
        if account.held + account.booked > account.capacity {
            let SlotAccount { capacity, held, booked, .. } = *account;
            self.find("CAP-1", seq, format!("slot {slot}: held {held} + booked {booked} over capacity {capacity}"));
        }
    }

    fn find(&mut self, rule: &'static str, seq: Seq, detail: String) {
        self.findings.push(Finding { rule, seq, detail });
    }
}
