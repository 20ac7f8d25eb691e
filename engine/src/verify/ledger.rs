//! Books kept from entries alone, and what they say of each rule.
//!
//! Begun empty, or with a snapshot's records. Those are fuzzy: up to S1 each record says for itself whether it has seen an
//! entry, and units and live claims are counted when S1 has been passed; until then CAP-1 and PTY-1 are not judged.

mod door;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::numbered::Numbered;
use super::records::{Record, Totals};
use super::{Finding, Judged};
use crate::booking::State;
use crate::command::{Claim, NumberedClaim};
use crate::ids::{BookingNumber, Dose, IdempotencyKey, PartyId, ProgrammeId, Seq, SlotId};
use crate::journal::entry::{Entry, Event};
use crate::units::TimestampMs;

/// Findings kept; a journal that breaks rules everywhere need not be listed whole.
const FINDINGS_MAX: usize = 1000;

/// For numbers of our own and for keys that are hashes already: nobody outside can choose them to collide.
#[derive(Default)]
pub(crate) struct NumberHasher(u64);

pub(crate) type Numbers = BuildHasherDefault<NumberHasher>;

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_u128(&mut self, number: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "both halves are written")]
        let (low, high) = (number as u64, (number >> 64) as u64);
        self.write_u64(low);
        self.write_u64(high);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(29)
    }
}

type Map<K, V> = HashMap<K, V, Numbers>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SlotAccount {
    capacity: u64,
    held: u64,
    booked: u64,
    open: bool,
    programme: ProgrammeId,
    starts_at: TimestampMs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClaimAccount {
    state: State,
    claim: Claim,
    programme: ProgrammeId,
    group_index: u8,
    group_len: u8,
    offered: bool,
    expires_at: TimestampMs,
    link: Option<BookingNumber>,
    seq: Seq,
}

/// The books.
#[derive(Debug, Default)]
pub struct Ledger {
    next: Option<Seq>,
    parties: u64,
    slots: Map<SlotId, SlotAccount>,
    claims: Numbered<ClaimAccount>,
    live: Map<(PartyId, ProgrammeId, Dose), BookingNumber>,
    keys: Map<IdempotencyKey, (TimestampMs, Seq)>,
    /// Entries of the catalogue, and a checksum over their bytes.
    catalogue: (u64, u64),
    window_ms: u64,
    /// From a snapshot, and not yet past its S1.
    span: Option<Seq>,
    newest: TimestampMs,
    /// The newest time of an entry of an earlier run.
    newest_before: TimestampMs,
    judged: Judged,
    findings: Vec<Finding>,
}

impl Ledger {
    /// Empty books. A key used again after `idempotency_window` is not a finding.
    #[must_use]
    pub fn new(idempotency_window: std::time::Duration) -> Self {
        let window_ms = u64::try_from(idempotency_window.as_millis()).unwrap_or(u64::MAX);
        Self { window_ms, ..Self::default() }
    }

    /// Takes a record of a snapshot into empty books. The one of the last chunk comes last.
    ///
    /// # Errors
    /// The record contradicts one before it.
    pub fn load(&mut self, s0: Seq, record: Record) -> Result<(), String> {
        match record {
            Record::Catalogue(seq, entry) => {
                if seq > s0 {
                    return Err(format!("entry {seq} of the catalogue is behind S0 {s0}"));
                }
                self.note_catalogue(seq, &entry);
                if let Event::Published { .. } = entry.event {
                    self.published(seq, &entry.event);
                }
            }
            Record::Parties { count, .. } => self.parties += u64::from(count),
            Record::Slot { slot, capacity, open } => {
                // One that is not there was published after S0 and comes with the log, and so does its change.
                if let Some(account) = self.slots.get_mut(&slot) {
                    (account.capacity, account.open) = (u64::from(capacity.get()), open);
                }
            }
            Record::Booking(record) => {
                let number = record.number;
                let account = ClaimAccount::of(record);
                if self.claims.insert(number, account).is_some() {
                    return Err(format!("booking {number} is listed twice"));
                }
            }
            Record::Key { key, at, seq, .. } => {
                self.keys.insert(key, (at, seq));
            }
            Record::End(Totals { s1, parties, keys, catalogue, .. }) => {
                let found = (self.parties, self.keys.len() as u64, self.catalogue.0);
                // A key that was done anew after its window is listed twice.
                if found.0 != parties || found.1 > keys || found.2 != catalogue {
                    return Err(format!(
                        "{found:?} parties, keys and entries where {parties}, {keys}, {catalogue} are due"
                    ));
                }
                self.next = Some(s0.next());
                if s1 > s0 {
                    self.span = Some(s1);
                } else {
                    self.settle(s0);
                }
            }
        }
        Ok(())
    }

    /// Everything found so far, the first thousand.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many times each rule was judged.
    #[must_use]
    pub fn judged(&self) -> Judged {
        self.judged
    }

    /// Whether entries up to the S1 of the snapshot it began with are still to come.
    #[must_use]
    pub fn in_span(&self) -> bool {
        self.span.is_some()
    }

    /// Idempotency keys met.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// How many entries of the catalogue there were, and a checksum over them.
    #[must_use]
    pub fn catalogue(&self) -> (u64, u64) {
        self.catalogue
    }

    /// Capacity, held and booked of a slot, as the journal so far says.
    #[must_use]
    pub fn slot(&self, slot: SlotId) -> Option<(u64, u64, u64)> {
        self.slots.get(&slot).map(|account| (account.capacity, account.held, account.booked))
    }

    /// Another run of the cell wrote what follows.
    pub fn begin_run(&mut self) {
        self.newest_before = self.newest;
    }

    /// Takes one entry into the books and checks every rule it touches.
    pub fn apply(&mut self, seq: Seq, entry: &Entry) {
        self.judged.jnl_1 += 1;
        if self.next.is_some_and(|next| next != seq) || seq.0 == 0 {
            self.find("JNL-1", seq, format!("entry {seq} where {:?} was due", self.next));
        }
        self.next = Some(seq.next());
        self.judged.tim_1 += 1;
        if entry.at < self.newest_before {
            let detail = format!("judged at {}, and an earlier run had come to {}", entry.at.0, self.newest_before.0);
            self.find("TIM-1", seq, detail);
        }
        self.newest = self.newest.max(entry.at);
        if let Some(idempotency) = entry.idempotency {
            self.judged.idm_1 += 1;
            let before = self.keys.insert(idempotency.key, (entry.at, seq)).filter(|(_, before)| *before != seq);
            if before.is_some_and(|(at, _)| entry.at.0.saturating_sub(at.0) < self.window_ms) {
                self.find("IDM-1", seq, "an idempotency key has a second effect inside its window".to_owned());
            }
        }
        if self.span.is_some_and(|s1| seq > s1) {
            self.span = None;
            self.settle(Seq(seq.0 - 1));
        }
        self.event(seq, entry);
        if self.span == Some(seq) {
            self.span = None;
            self.settle(seq);
        }
    }

    fn event(&mut self, seq: Seq, entry: &Entry) {
        match &entry.event {
            Event::PartiesAdded { first, count, .. } => {
                let end = u64::from(first.0) + u64::from(*count);
                let seen = self.span.is_some() && end <= self.parties;
                if !seen && u64::from(first.0) != self.parties {
                    self.find("PTY-1", seq, format!("parties from {first} where {} was due", self.parties));
                }
                self.parties = self.parties.max(end);
            }
            Event::Published { .. } => {
                self.note_catalogue(seq, entry);
                self.published(seq, &entry.event);
            }
            Event::Note { .. } => self.note_catalogue(seq, entry),
            Event::Held { first, expires_at, claims } => self.born(seq, *first, State::Held, *expires_at, claims),
            Event::Offered { number, expires_at, claim, .. } => {
                self.offered(seq, *number, *expires_at, *claim);
            }
            Event::Booked { first, claims } => self.born(seq, *first, State::Booked, TimestampMs(0), claims),
            Event::Confirmed { hold, len } => self.resolve(seq, *hold, *len, State::Booked, entry.at),
            Event::Released { hold, len } => self.resolve(seq, *hold, *len, State::Released, entry.at),
            Event::Expired { hold, len } => self.resolve(seq, *hold, *len, State::Expired, entry.at),
            Event::Cancelled { booking } => self.leave(seq, *booking, State::Cancelled, None),
            Event::GroupCancelled { hold, places, .. } => self.group_cancelled(seq, *hold, *places),
            Event::Moved { from, to, .. } => self.moved(seq, *from, to),
            Event::CheckedIn { booking } => drop(self.serve(seq, *booking, State::Booked, State::CheckedIn)),
            Event::Completed { booking, given } | Event::CompletedNoted { booking, given, .. } => {
                self.completed(seq, *booking, *given);
            }
            Event::FactsChanged { party, .. } => {
                self.judged.pty_1 += 1;
                if u64::from(party.0) >= self.parties {
                    self.find("PTY-1", seq, format!("party {party} was never created"));
                }
            }
            Event::Recorded { .. } => {}
            Event::NoShow { booking } => self.no_show(seq, *booking, entry.at),
            Event::WalkedIn { claim } => self.walked_in(seq, claim),
            Event::HoldsGraced { from, until } => self.graced(seq, *from, *until),
            Event::SlotChanged { slot, capacity, open } => {
                let account = self.slots.entry(*slot).or_default();
                (account.capacity, account.open) = (u64::from(capacity.get()), *open);
                self.check_slot(seq, *slot);
            }
        }
    }

    fn graced(&mut self, seq: Seq, from: TimestampMs, until: TimestampMs) {
        if until <= from {
            self.find("HLD-5", seq, format!("deadlines from {} on are brought forward to {}", from.0, until.0));
        }
        let in_span = self.span.is_some();
        for account in self.claims.values_mut() {
            let seen = in_span && account.seq >= seq;
            if account.state == State::Held && from <= account.expires_at && account.expires_at < until && !seen {
                (account.expires_at, account.seq) = (until, seq);
                self.judged.hld_5 += 1;
            }
        }
    }

    fn note_catalogue(&mut self, seq: Seq, entry: &Entry) {
        let mut bytes = self.catalogue.1.to_le_bytes().to_vec();
        bytes.extend_from_slice(&seq.0.to_le_bytes());
        entry.encode(&mut bytes);
        self.catalogue = (self.catalogue.0 + 1, crc_fast::crc64_nvme(&bytes));
    }

    fn published(&mut self, seq: Seq, event: &Event) {
        let Event::Published { slots, .. } = event else { return };
        for slot in slots {
            let account = SlotAccount {
                capacity: u64::from(slot.capacity.get()),
                programme: slot.facts.programme,
                starts_at: slot.facts.starts_at,
                open: true,
                ..SlotAccount::default()
            };
            if self.slots.insert(slot.slot, account).is_some() {
                self.find("CAP-1", seq, format!("slot {} is published twice", slot.slot));
            }
        }
    }

    // rule: CAP-3
    fn born(&mut self, seq: Seq, first: BookingNumber, state: State, expires_at: TimestampMs, claims: &[Claim]) {
        self.judged.cap_3 += u64::from(claims.len() > 1);
        let group_len = u8::try_from(claims.len()).unwrap_or(u8::MAX);
        for (group_index, claim) in (0u8..).zip(claims) {
            let number = BookingNumber(first.0.saturating_add(u64::from(group_index)));
            let programme = self.slots.get(&claim.slot).map(|slot| slot.programme).unwrap_or_default();
            let claim = *claim;
            let (offered, link) = (false, None);
            let account =
                ClaimAccount { state, claim, programme, group_index, group_len, offered, expires_at, link, seq };
            self.birth(seq, number, account);
        }
        // After the whole group: it takes all its units in one step.
        for claim in claims {
            self.check_slot(seq, claim.slot);
        }
    }

    fn birth(&mut self, seq: Seq, number: BookingNumber, account: ClaimAccount) {
        let ClaimAccount { claim, programme, .. } = account;
        if self.span.is_some()
            && let Some(seen) = self.claims.get(number).filter(|seen| seen.seq >= seq)
        {
            let same = seen.claim == claim && seen.expires_at == account.expires_at && seen.programme == programme;
            let same = same && seen.offered == account.offered;
            if !same {
                self.find("SNP-3", seq, format!("booking {number} is of another claim in the snapshot"));
            }
            return;
        }
        self.judged.bkg_1 += 1;
        if u64::from(claim.party.0) >= self.parties {
            self.find("PTY-1", seq, format!("party {} was never created", claim.party));
        }
        if self.claims.insert(number, account).is_some() {
            self.find("BKG-1", seq, format!("booking {number} was given out twice"));
        }
        if self.span.is_some() {
            return;
        }
        self.count(seq, number, account);
    }

    /// Adds a claim that has its unit to its slot's count, and if it is live to its party's claims.
    fn count(&mut self, seq: Seq, number: BookingNumber, account: ClaimAccount) {
        let ClaimAccount { claim, programme, .. } = account;
        let slot = self.slots.entry(claim.slot).or_default();
        *(if account.state == State::Held { &mut slot.held } else { &mut slot.booked }) += 1;
        if account.state == State::Completed {
            return;
        }
        self.judged.pty_1 += 1;
        if let Some(other) = self.live.insert((claim.party, programme, claim.dose), number) {
            let detail = format!(
                "party {} has live claims {other} and {number} for dose {} of programme {programme}",
                claim.party, claim.dose
            );
            self.find("PTY-1", seq, detail);
        }
    }

    /// Whether the snapshot has seen what `seq` did to this booking.
    fn seen(&self, account: &ClaimAccount, seq: Seq) -> bool {
        self.span.is_some() && account.seq >= seq
    }

    /// A hold's one resolution.
    fn resolve(&mut self, seq: Seq, hold: BookingNumber, len: u8, to: State, at: TimestampMs) {
        self.judged.cap_3 += u64::from(len > 1);
        for (index, number) in (0u8..len).zip(hold.0..hold.0.saturating_add(u64::from(len))) {
            let number = BookingNumber(number);
            let Some(account) = self.claims.get(number).copied() else {
                self.find("HLD-1", seq, format!("hold {number} was never made"));
                continue;
            };
            if self.seen(&account, seq) {
                continue;
            }
            if (account.group_index, account.group_len) != (index, len) {
                let ClaimAccount { group_index, group_len, .. } = account;
                let detail = format!(
                    "booking {number}, place {group_index} of a group of {group_len}, is resolved as {index} of {len}"
                );
                self.find("CAP-3", seq, detail);
            }
            let (from, claim, deadline) = (account.state, account.claim, account.expires_at);
            self.claims.insert(number, ClaimAccount { state: to, seq, ..account });
            self.judged.hld_1 += 1;
            self.judged.bkg_1 += 1;
            if from != State::Held {
                self.find("HLD-1", seq, format!("hold {number} is resolved as {to} though it was {from}"));
                continue;
            }
            self.judged.hld_4 += 1;
            if (to == State::Expired) != (at >= deadline) {
                let detail = format!("hold {number} with deadline {} became {to} at {}", deadline.0, at.0);
                self.find("HLD-4", seq, detail);
            }
            if self.span.is_some() {
                continue;
            }
            let slot = self.slots.entry(claim.slot).or_default();
            // Saturating: what went wrong before this is a finding already.
            slot.held = slot.held.saturating_sub(1);
            if to == State::Booked {
                slot.booked += 1;
            } else {
                self.end_claim(seq, number, &account);
            }
        }
    }

    fn leave(&mut self, seq: Seq, booking: BookingNumber, to: State, link: Option<BookingNumber>) {
        let Some(account) = self.claims.get(booking).copied() else {
            return self.find("BKG-1", seq, format!("booking {booking} was never made"));
        };
        if self.seen(&account, seq) {
            return;
        }
        self.claims.insert(booking, ClaimAccount { state: to, seq, link: link.or(account.link), ..account });
        self.judged.bkg_1 += 1;
        if account.state != State::Booked {
            let from = account.state;
            return self.find("BKG-1", seq, format!("booking {booking} became {to} though it was {from}"));
        }
        if self.span.is_some() {
            return;
        }
        let slot = self.slots.entry(account.claim.slot).or_default();
        slot.booked = slot.booked.saturating_sub(1);
        self.end_claim(seq, booking, &account);
    }

    /// Takes the new unit while the old one still counts, then gives that back.
    // rule: BKG-2
    fn moved(&mut self, seq: Seq, from: BookingNumber, to: &NumberedClaim) {
        self.judged.bkg_2 += 1;
        let NumberedClaim { number, claim } = *to;
        let programme = self.slots.get(&claim.slot).map(|slot| slot.programme).unwrap_or_default();
        if let Some(old) = self.claims.get(from) {
            let kept = (old.claim.party, old.claim.dose) == (claim.party, claim.dose);
            if !kept || old.claim.slot == claim.slot {
                let detail = format!("booking {from} moves from {:?} to {claim:?}", old.claim);
                self.find("BKG-2", seq, detail);
            }
        }
        if self.span.is_none() {
            let slot = self.slots.entry(claim.slot).or_default();
            slot.booked += 1;
            self.check_slot(seq, claim.slot);
            let slot = self.slots.entry(claim.slot).or_default();
            slot.booked -= 1;
        }
        self.leave(seq, from, State::Moved, Some(number));
        let account = ClaimAccount {
            state: State::Booked,
            claim,
            programme,
            group_index: 0,
            group_len: 1,
            offered: false,
            expires_at: TimestampMs(0),
            link: Some(from),
            seq,
        };
        self.birth(seq, number, account);
        self.check_slot(seq, claim.slot);
    }

    fn end_claim(&mut self, seq: Seq, number: BookingNumber, account: &ClaimAccount) {
        let ClaimAccount { claim, programme, .. } = account;
        let ended = self.live.remove(&(claim.party, *programme, claim.dose));
        if ended != Some(number) {
            self.find("PTY-1", seq, format!("booking {number} ends, but the party's live claim was {ended:?}"));
        }
    }

    fn check_slot(&mut self, seq: Seq, slot: SlotId) {
        if self.span.is_some() {
            return;
        }
        self.judged.cap_1 += 1;
        let account = self.slots.entry(slot).or_default();
        if account.held + account.booked > account.capacity {
            let SlotAccount { capacity, held, booked, .. } = *account;
            self.find("CAP-1", seq, format!("slot {slot}: held {held} + booked {booked} over capacity {capacity}"));
        }
    }

    /// Counts units and live claims from the records, once all of them have come to the same entry.
    fn settle(&mut self, seq: Seq) {
        let with_unit = [State::Held, State::Booked, State::CheckedIn, State::Completed];
        let live = self.claims.iter().filter(|(_, account)| with_unit.contains(&account.state));
        let mut live: Vec<_> = live.map(|(number, account)| (number, *account)).collect();
        live.sort_unstable_by_key(|(number, _)| *number);
        for (number, account) in live {
            self.count(seq, number, account);
        }
        let slots: Vec<_> = self.slots.keys().copied().collect();
        for slot in slots {
            self.check_slot(seq, slot);
        }
    }

    /// Where these books and `other`, which began elsewhere and came to the same entry, differ; and how many records were
    /// compared.
    // rule: SNP-3
    #[must_use]
    pub fn differences(&self, other: &Ledger) -> (u64, Vec<String>) {
        let mut differences = Vec::new();
        let mut differ = |what: String| {
            if differences.len() < 20 {
                differences.push(what);
            }
        };
        if self.parties != other.parties {
            differ(format!("{} parties and {}", self.parties, other.parties));
        }
        if self.claims.len() != other.claims.len() {
            differ(format!("{} bookings and {}", self.claims.len(), other.claims.len()));
        }
        if self.slots.len() != other.slots.len() {
            differ(format!("{} slots and {}", self.slots.len(), other.slots.len()));
        }
        if self.catalogue != other.catalogue {
            differ(format!("catalogues {:?} and {:?}", self.catalogue, other.catalogue));
        }
        for (number, account) in self.claims.iter() {
            if other.claims.get(number) != Some(account) {
                differ(format!("booking {number}: {account:?} and {:?}", other.claims.get(number)));
            }
        }
        for (slot, account) in &self.slots {
            if other.slots.get(slot) != Some(account) {
                differ(format!("slot {slot}: {account:?} and {:?}", other.slots.get(slot)));
            }
        }
        for (key, kept) in &self.keys {
            // One that the other side began without may have been dropped in time.
            if other.keys.get(key).is_some_and(|other| other != kept) {
                differ(format!("a key of entry {} is of entry {:?}", kept.1, other.keys.get(key).map(|(_, seq)| *seq)));
            }
        }
        ((self.claims.len() + self.slots.len() + self.keys.len()) as u64 + self.parties, differences)
    }

    fn find(&mut self, rule: &'static str, seq: Seq, detail: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { rule, seq, detail });
        }
    }
}
