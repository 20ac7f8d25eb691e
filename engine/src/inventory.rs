//! All tables of a cell, and how an event changes the records in them.
//!
//! Used by the kernel, which decides and holds the locks, and by replay, which applies and never
//! re-decides: what an entry does to a record is written once, here.

use std::collections::HashMap;
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::booking::{Birth, BookingTable, State};
use crate::command::{Claim, GROUP_CLAIMS_MAX, Given};
use crate::dedupe::Keys;
use crate::expiry::Wheel;
use crate::ids::{BookingNumber, CentreKey, PartyId, Seq, SlotId};
use crate::party::{PartyRecord, PartyTable};
use crate::slot::{Give, SlotTable, SlotWord};
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{Mutex, MutexGuard};
use crate::units::{TimestampMs, Units};

/// Slots of one centre come in blocks of this many numbers: eight cache lines of words.
const BLOCK_SLOTS: u32 = 64;

/// How large a cell may grow. Only directories are allocated ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Parties; 48 bytes each. Default 300 million.
    pub parties_max: u32,
    /// Slots; 32 bytes each. Default 50 million.
    pub slots_max: u32,
    /// Holds and bookings ever made; 48 bytes each, kept for the life of the process. Default 1 thousand million.
    pub bookings_max: u64,
    /// Idempotency keys kept. Default 32 million.
    pub idempotency_keys_max: usize,
    /// How long an idempotency key is kept. Default 24 hours.
    pub idempotency_window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parties_max: 300_000_000,
            slots_max: 50_000_000,
            bookings_max: 1_000_000_000,
            idempotency_keys_max: 32_000_000,
            idempotency_window: Duration::from_secs(24 * 3600),
        }
    }
}

/// Where the next slots of each centre go.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// Next number and end of each centre's newest block.
    open: HashMap<CentreKey, (u32, u32)>,
    next_block: u32,
}

impl Blocks {
    /// The next number for `centre`.
    pub(crate) fn allocate(&mut self, centre: CentreKey) -> SlotId {
        let (next, end) = self.open.entry(centre).or_default();
        if next == end {
            *next = self.next_block * BLOCK_SLOTS;
            *end = *next + BLOCK_SLOTS;
            self.next_block += 1;
        }
        let slot = SlotId(*next);
        *next += 1;
        slot
    }

    /// Learns from an entry that `slot` was given to `centre`.
    pub(crate) fn restore(&mut self, centre: CentreKey, slot: SlotId) {
        let block = slot.0 / BLOCK_SLOTS;
        let end = (block + 1) * BLOCK_SLOTS;
        let open = self.open.entry(centre).or_default();
        if slot.0 >= open.0 {
            *open = (slot.0 + 1, end);
        }
        self.next_block = self.next_block.max(block + 1);
    }

    /// Slots are below this number.
    pub(crate) fn slots_end(&self) -> u32 {
        self.next_block * BLOCK_SLOTS
    }

    /// The end of the numbers after publishing these many slots more for these centres.
    pub(crate) fn end_after(&self, wanted: &HashMap<CentreKey, u32>) -> u64 {
        let blocks = |(centre, slots): (&CentreKey, &u32)| {
            let left = self.open.get(centre).map_or(0, |(next, end)| end - next);
            u64::from(slots.saturating_sub(left).div_ceil(BLOCK_SLOTS))
        };
        (u64::from(self.next_block) + wanted.iter().map(blocks).sum::<u64>()) * u64::from(BLOCK_SLOTS)
    }
}

/// The tables.
pub(crate) struct Inventory {
    pub(crate) slots: SlotTable,
    pub(crate) parties: PartyTable,
    pub(crate) bookings: BookingTable,
    pub(crate) keys: Keys,
    pub(crate) wheel: Wheel,
    /// The next booking number to give out.
    pub(crate) next_booking: AtomicU64,
    /// The administrative lock: publishing slots, adding parties, changing slots.
    pub(crate) blocks: Mutex<Blocks>,
    /// Who writes down what the engine keeps nothing of but the key.
    pub(crate) records: Mutex<()>,
    pub(crate) slots_max: u32,
}

/// Records of up to a group of parties, locked in ascending number.
pub(crate) type Locked<'a> = LockedUpTo<'a, GROUP_CLAIMS_MAX>;

/// Records of up to `N` parties, locked in ascending number: replay moves no room for a group where there is one.
pub(crate) struct LockedUpTo<'a, const N: usize> {
    records: ArrayVec<(PartyId, MutexGuard<'a, PartyRecord>), N>,
}

impl<'a, const N: usize> LockedUpTo<'a, N> {
    /// Locks each party once; the first unknown one otherwise.
    pub(crate) fn lock(table: &'a PartyTable, parties: impl Iterator<Item = PartyId>) -> Result<Self, PartyId> {
        let mut wanted: ArrayVec<PartyId, N> = parties.collect();
        wanted.sort_unstable();
        let mut records: ArrayVec<(PartyId, _), N> = ArrayVec::new();
        for party in wanted {
            if records.last().is_some_and(|(last, _)| *last == party) {
                continue;
            }
            records.push((party, table.lock(party).ok_or(party)?));
        }
        Ok(Self { records })
    }

    pub(crate) fn of(&mut self, party: PartyId) -> &mut PartyRecord {
        let found = self.records.iter_mut().find(|(locked, _)| *locked == party);
        &mut found.expect("every party of the command was locked").1
    }

    /// The newest entry any of the locked records rests on.
    pub(crate) fn newest(&self) -> Seq {
        self.records.iter().map(|(_, record)| record.seq()).max().unwrap_or_default()
    }
}

/// Units asked of each slot by one request, summed, in ascending slot number.
pub(crate) type Demand = ArrayVec<(SlotId, u32), GROUP_CLAIMS_MAX>;

pub(crate) fn demand<const N: usize>(claims: impl Iterator<Item = SlotId>) -> ArrayVec<(SlotId, u32), N> {
    let mut slots: ArrayVec<SlotId, N> = claims.collect();
    slots.sort_unstable();
    let mut demand = ArrayVec::<_, N>::new();
    for slot in slots {
        match demand.last_mut() {
            Some((last, units)) if *last == slot => *units += 1,
            _ => demand.push((slot, 1)),
        }
    }
    demand
}

impl Inventory {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            slots: SlotTable::new(limits.slots_max as usize),
            parties: PartyTable::new(limits.parties_max),
            bookings: BookingTable::new(limits.bookings_max),
            keys: Keys::new(limits.idempotency_keys_max, limits.idempotency_window),
            wheel: Wheel::new(),
            next_booking: AtomicU64::new(0),
            blocks: Mutex::new(Blocks::default()),
            records: Mutex::new(()),
            slots_max: limits.slots_max,
        }
    }

    /// Booking numbers are below this.
    pub(crate) fn bookings_end(&self) -> u64 {
        self.next_booking.load(Relaxed)
    }

    /// Writes the records of new claims numbered from `first`, and the parties' side of them.
    // rule: PTY-1 the claim is noted under the party's lock that found none
    pub(crate) fn record_claims<const N: usize>(
        &self,
        first: BookingNumber,
        state: State,
        expires_at: TimestampMs,
        claims: &[Claim],
        locked: &mut LockedUpTo<'_, N>,
        seq: Seq,
    ) {
        let group_len = u8::try_from(claims.len()).expect("GROUP_CLAIMS_MAX fits a byte");
        for (claim, group_index) in claims.iter().zip(0u8..) {
            let number = BookingNumber(first.0 + u64::from(group_index));
            let birth = Birth {
                state,
                claim: *claim,
                programme: self.programme(claim),
                group_index,
                group_len,
                expires_at,
                offered: false,
                link: None,
            };
            self.record_birth(number, &birth, locked, seq);
        }
    }

    /// As [`Inventory::record_claims`], of one that was offered.
    pub(crate) fn record_offer<const N: usize>(
        &self,
        number: BookingNumber,
        expires_at: TimestampMs,
        claim: Claim,
        locked: &mut LockedUpTo<'_, N>,
        seq: Seq,
    ) {
        let birth = Birth {
            state: State::Held,
            claim,
            programme: self.programme(&claim),
            group_index: 0,
            group_len: 1,
            expires_at,
            offered: true,
            link: None,
        };
        self.record_birth(number, &birth, locked, seq);
    }

    /// Writes a booking that came from a move, and the end of its predecessor.
    pub(crate) fn record_move<const N: usize>(
        &self,
        from: BookingNumber,
        to: BookingNumber,
        claim: Claim,
        locked: &mut LockedUpTo<'_, N>,
        seq: Seq,
    ) {
        if let Some(cell) = self.bookings.get(from) {
            cell.set_state(State::Moved, Some(to), seq);
            locked.of(claim.party).remove(from);
        }
        let birth = Birth {
            state: State::Booked,
            claim,
            programme: self.programme(&claim),
            group_index: 0,
            group_len: 1,
            expires_at: TimestampMs(0),
            offered: false,
            link: Some(from),
        };
        self.record_birth(to, &birth, locked, seq);
    }

    fn record_birth<const N: usize>(
        &self,
        number: BookingNumber,
        birth: &Birth,
        locked: &mut LockedUpTo<'_, N>,
        seq: Seq,
    ) {
        let cell = self.bookings.blank(number).expect("a number below len_max, as was checked when it was given out");
        let record = locked.of(birth.claim.party);
        cell.create(birth, record.newest(), seq);
        record.add(number, birth.programme, birth.claim.dose);
        record.set_seq(seq);
        cell.join_slot(self.slots.push(birth.claim.slot, number));
    }

    /// Reads the records of claims that are about to be written, one table after the other, so that the cache misses of all overlap.
    /// What it returns means nothing.
    pub(crate) fn warm(&self, claims: &[Claim]) -> bool {
        let parties = claims.iter().fold(false, |read, claim| read ^ self.parties.warm(claim.party.0));
        // A record may lie in two cache lines; the next one's lock then lies in the second.
        let ends = claims.iter().fold(false, |read, claim| read ^ self.parties.warm(claim.party.0.wrapping_add(1)));
        parties ^ ends ^ claims.iter().fold(false, |read, claim| read ^ self.slots.facts(claim.slot).is_some())
    }

    fn programme(&self, claim: &Claim) -> crate::ids::ProgrammeId {
        self.slots.facts(claim.slot).map(|facts| facts.programme).unwrap_or_default()
    }

    /// Puts off the deadline of a hold's records. Only while nobody may submit.
    // rule: HLD-5
    pub(crate) fn record_grace(&self, hold: BookingNumber, until: TimestampMs, seq: Seq) {
        let Some(view) = self.bookings.get(hold).and_then(|cell| cell.view(hold)) else { return };
        for number in (hold.0..hold.0 + u64::from(view.group_len)).map(BookingNumber) {
            let Some(cell) = self.bookings.get(number) else { continue };
            cell.set_deadline(until, seq);
            if let Some(mut record) = self.parties.lock(cell.party()) {
                let newest = record.seq().max(seq);
                record.set_seq(newest);
            }
        }
    }

    /// Moves `len` records from `first` on to state `to`, and drops the parties' claims if that is an end.
    pub(crate) fn record_step<const N: usize>(
        &self,
        first: BookingNumber,
        len: u8,
        to: State,
        locked: &mut LockedUpTo<'_, N>,
        seq: Seq,
    ) {
        self.record_steps((first.0..first.0 + u64::from(len)).map(BookingNumber), to, locked, seq);
    }

    /// As [`Inventory::record_step`], for any numbers.
    // rule: BKG-1 the kernel has looked the step up in the lifecycle table
    pub(crate) fn record_steps<const N: usize>(
        &self,
        numbers: impl Iterator<Item = BookingNumber>,
        to: State,
        locked: &mut LockedUpTo<'_, N>,
        seq: Seq,
    ) {
        for number in numbers {
            let Some(cell) = self.bookings.get(number) else {
                continue;
            };
            cell.set_state(to, None, seq);
            let record = locked.of(cell.party());
            if !to.is_live() {
                record.remove(number);
            }
            record.set_seq(seq);
        }
    }

    /// Completes a booking, and tells its party's facts of the dose.
    pub(crate) fn record_given<const N: usize>(
        &self,
        booking: BookingNumber,
        given: Given,
        locked: &mut LockedUpTo<'_, N>,
        seq: Seq,
    ) {
        self.record_step(booking, 1, State::Completed, locked, seq);
        if let Some(cell) = self.bookings.get(booking) {
            let record = locked.of(cell.party());
            record.facts = record.facts.after(given);
        }
    }

    /// Gives units back to each slot, or makes held ones booked. A word that has them not is a bug.
    // rule: CAP-1 what is given was taken
    pub(crate) fn change_words(&self, demand: &Demand, change: impl Fn(&SlotWord, Units) -> Give) {
        for (slot, units) in demand {
            let word = self.slots.word(*slot).expect("a claimed slot is published");
            let units = Units::new(*units).expect("a group is far below Units::MAX");
            if let Give::Missing(counts) = change(word, units) {
                panic!("CAP-1: slot {slot} has not the {units} units its bookings say: {counts}");
            }
        }
    }
}
