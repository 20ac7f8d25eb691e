//! The lifecycle of a hold or booking: one table of steps, and the records.

use std::fmt;

use arrayvec::ArrayVec;

use crate::command::{BookingView, Claim, NumberedClaim};
use crate::ids::{BookingNumber, Dose, PartyId, ProgrammeId, Seq, SlotId};
use crate::slot::ChunkTable;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::units::TimestampMs;

/// Where a claim stands. `held -> booked -> checked in -> completed`; the others are the other ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Units set aside until a deadline.
    Held = 1,
    /// Confirmed.
    Booked = 2,
    /// The party is there.
    CheckedIn = 3,
    /// Served.
    Completed = 4,
    /// The holder gave the hold back.
    Released = 5,
    /// The clock gave the hold back.
    Expired = 6,
    /// The booking was given up.
    Cancelled = 7,
    /// Nobody came.
    NoShow = 8,
    /// It lives on in another slot under another number.
    Moved = 9,
}

impl State {
    /// Every state, in the order of their codes.
    pub const ALL: [State; 9] = [
        State::Held,
        State::Booked,
        State::CheckedIn,
        State::Completed,
        State::Released,
        State::Expired,
        State::Cancelled,
        State::NoShow,
        State::Moved,
    ];

    /// The name used on the wire and in exports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Held => "held",
            State::Booked => "booked",
            State::CheckedIn => "checked_in",
            State::Completed => "completed",
            State::Released => "released",
            State::Expired => "expired",
            State::Cancelled => "cancelled",
            State::NoShow => "no_show",
            State::Moved => "moved",
        }
    }

    /// Whether a claim in this state counts against "one live claim".
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, State::Held | State::Booked | State::CheckedIn)
    }

    /// Whether a claim in this state has a unit of its slot: one that was served has used it up.
    #[must_use]
    pub const fn has_unit(self) -> bool {
        self.is_live() || matches!(self, State::Completed)
    }

    pub(crate) fn from_code(code: u8) -> Option<State> {
        State::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// Where `step` leads from here; `None` if the table has no such row.
    // rule: BKG-1 a booking changes state only along the lifecycle table
    #[must_use]
    pub fn after(self, step: Step) -> Option<State> {
        let (from, to) = step.row();
        (self == from).then_some(to)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One row of the lifecycle table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A hold becomes a booking.
    Confirm,
    /// A hold is given back by its holder.
    Release,
    /// A hold is given back by the clock.
    Expire,
    /// A booking is given up.
    Cancel,
    /// A booking goes to another slot.
    Move,
    /// The party of a booking is there.
    CheckIn,
    /// The party was served.
    Complete,
    /// The party of a booking did not come.
    NoShow,
}

impl Step {
    /// Every step.
    pub const ALL: [Step; 8] = [
        Step::Confirm,
        Step::Release,
        Step::Expire,
        Step::Cancel,
        Step::Move,
        Step::CheckIn,
        Step::Complete,
        Step::NoShow,
    ];

    /// `From => To`, each pair once.
    #[must_use]
    pub const fn row(self) -> (State, State) {
        match self {
            Step::Confirm => (State::Held, State::Booked),
            Step::Release => (State::Held, State::Released),
            Step::Expire => (State::Held, State::Expired),
            Step::Cancel => (State::Booked, State::Cancelled),
            Step::Move => (State::Booked, State::Moved),
            Step::CheckIn => (State::Booked, State::CheckedIn),
            Step::Complete => (State::CheckedIn, State::Completed),
            Step::NoShow => (State::Booked, State::NoShow),
        }
    }
}

/// One record. Who, where and which dose never change, and the deadline only while nobody may submit; the rest changes
/// only under the party's lock.
#[derive(Debug)]
pub(crate) struct BookingCell {
    /// party 32 | slot 32
    who_where: AtomicU64,
    /// state 8 | dose 8 | index in group 8 | group length 7, offered 1 | programme 16 | low part of the party's booking before 16; zero: not
    /// yet written
    status: AtomicU64,
    expires_at: AtomicU64,
    /// Successor of a moved booking, or predecessor; number + 1, zero for none.
    link: AtomicU64,
    seq: AtomicU64,
    /// The slot's booking before 40 | high part of the party's booking before 24. The slot's is number + 2, 1 for none, 0 while it is
    /// not written yet; the party's number + 1, 0 for none.
    chain: AtomicU64,
}

impl Default for BookingCell {
    fn default() -> Self {
        Self {
            who_where: AtomicU64::new(0),
            status: AtomicU64::new(0),
            expires_at: AtomicU64::new(0),
            link: AtomicU64::new(0),
            seq: AtomicU64::new(0),
            chain: AtomicU64::new(0),
        }
    }
}

/// Words of a record in a snapshot, which has no chains: a start makes them anew.
pub(crate) const CELL_WORDS: usize = 5;
/// In the byte of the group's length: it was offered.
pub(crate) const OFFERED: u8 = 0x80;
/// What of the status a snapshot keeps.
const STATUS_MASK: u64 = (1 << 48) - 1;
/// Bits of the slot's booking before.
const CHAIN_BITS: u32 = 40;
const CHAIN_MASK: u64 = (1 << CHAIN_BITS) - 1;
/// Numbers end below this, so that one fits a chain and a party's place, with what else stands there.
pub(crate) const NUMBER_BITS: u32 = 39;

/// What is written when a claim gets its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    pub(crate) state: State,
    pub(crate) claim: Claim,
    pub(crate) programme: ProgrammeId,
    pub(crate) group_index: u8,
    pub(crate) group_len: u8,
    pub(crate) expires_at: TimestampMs,
    pub(crate) offered: bool,
    pub(crate) link: Option<BookingNumber>,
}

impl BookingCell {
    /// Writes a new record. The number was given out once, so nobody else writes this cell before the
    /// record is visible. `before` is the party's booking before, and the slot's is told with [`BookingCell::join_slot`].
    pub(crate) fn create(&self, birth: &Birth, before: Option<BookingNumber>, seq: Seq) {
        let Birth { claim, .. } = birth;
        let before = before.map_or(0, |number| number.0 + 1);
        self.chain.store(before >> 16 << CHAIN_BITS, Relaxed);
        self.who_where.store(u64::from(claim.party.0) | u64::from(claim.slot.0) << 32, Relaxed);
        self.expires_at.store(birth.expires_at.0, Relaxed);
        self.link.store(birth.link.map_or(0, |n| n.0 + 1), Relaxed);
        self.seq.store(seq.0, Relaxed);
        let status = [
            birth.state as u8,
            claim.dose.0,
            birth.group_index,
            birth.group_len | if birth.offered { OFFERED } else { 0 },
            birth.programme.0.to_le_bytes()[0],
            birth.programme.0.to_le_bytes()[1],
            before.to_le_bytes()[0],
            before.to_le_bytes()[1],
        ];
        // Release pairs with the Acquire in `is_written`: who sees a state sees the rest of the record.
        self.status.store(u64::from_le_bytes(status), Release);
    }

    /// Tells which booking of the slot comes behind this one, once its record is written and the slot names it.
    pub(crate) fn join_slot(&self, before: Option<BookingNumber>) {
        let chain = self.chain.load(Relaxed) | before.map_or(1, |number| number.0 + 2);
        // Nobody else writes this word. Release orders nothing that `create` has not: the record before is found by its own status.
        self.chain.store(chain, Release);
    }

    /// The slot's booking before; `None` while another thread is about to tell it.
    pub(crate) fn before_in_slot(&self) -> Option<Option<BookingNumber>> {
        let code = (self.chain.load(Acquire) & CHAIN_MASK).checked_sub(1)?;
        Some(code.checked_sub(1).map(BookingNumber))
    }

    /// The party's booking before. Only under the party's lock.
    pub(crate) fn before_of_party(&self) -> Option<BookingNumber> {
        let (status, chain) = (self.status.load(Relaxed), self.chain.load(Relaxed));
        (status >> 48 | chain >> CHAIN_BITS << 16).checked_sub(1).map(BookingNumber)
    }

    /// As [`BookingCell::join_slot`] for a restored record: another thread may write the party's part at the same time.
    pub(crate) fn restore_in_slot(&self, before: Option<BookingNumber>) {
        self.chain.fetch_or(before.map_or(1, |number| number.0 + 2), Relaxed);
    }

    /// The party's booking before, of a restored record.
    pub(crate) fn restore_of_party(&self, before: Option<BookingNumber>) {
        let before = before.map_or(0, |number| number.0 + 1);
        self.status.fetch_or(before << 48, Relaxed);
        self.chain.fetch_or(before >> 16 << CHAIN_BITS, Relaxed);
    }

    /// Changes the state. Only under the party's lock.
    pub(crate) fn set_state(&self, state: State, link: Option<BookingNumber>, seq: Seq) {
        let mut status = self.status.load(Relaxed).to_le_bytes();
        status[0] = state as u8;
        if let Some(link) = link {
            self.link.store(link.0 + 1, Relaxed);
        }
        self.seq.store(seq.0, Relaxed);
        self.status.store(u64::from_le_bytes(status), Release);
    }

    /// Puts the deadline off. Only while nobody may submit.
    pub(crate) fn set_deadline(&self, deadline: TimestampMs, seq: Seq) {
        self.expires_at.store(deadline.0, Relaxed);
        self.seq.store(seq.0, Relaxed);
    }

    /// The record as a snapshot keeps it. Consistent only under the party's lock.
    pub(crate) fn words(&self) -> [u64; CELL_WORDS] {
        // The Acquire of `is_written`, by which the caller found the cell, orders the others.
        let [who_where, expires_at, link, seq] =
            [&self.who_where, &self.expires_at, &self.link, &self.seq].map(|word| word.load(Relaxed));
        [self.status.load(Relaxed) & STATUS_MASK, who_where, expires_at, link, seq]
    }

    /// Writes a record as a snapshot kept it. Only before anybody else looks.
    pub(crate) fn restore(&self, [status, who_where, expires_at, link, seq]: [u64; CELL_WORDS]) {
        self.who_where.store(who_where, Relaxed);
        self.expires_at.store(expires_at, Relaxed);
        self.link.store(link, Relaxed);
        self.seq.store(seq, Relaxed);
        self.chain.store(0, Relaxed);
        self.status.store(status & STATUS_MASK, Release);
    }

    /// The entry that last changed the record.
    pub(crate) fn seq(&self) -> Seq {
        Seq(self.seq.load(Relaxed))
    }

    fn is_written(&self) -> bool {
        self.status.load(Acquire) != 0
    }

    /// The party. Never changes.
    pub(crate) fn party(&self) -> PartyId {
        PartyId(self.who_where_bytes().0)
    }

    fn who_where_bytes(&self) -> (u32, u32) {
        let bytes = self.who_where.load(Relaxed).to_le_bytes();
        let (party, slot) = bytes.split_at(4);
        let read = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        (read(party), read(slot))
    }

    /// The whole record. Consistent only under the party's lock.
    pub(crate) fn view(&self, number: BookingNumber) -> Option<BookingView> {
        let [state, dose, group_index, group_len, programme_low, programme_high, _, _] =
            self.status.load(Acquire).to_le_bytes();
        let (party, slot) = self.who_where_bytes();
        Some(BookingView {
            number,
            hold: BookingNumber(number.0.checked_sub(u64::from(group_index))?),
            group_len: group_len & !OFFERED,
            offered: group_len & OFFERED != 0,
            state: State::from_code(state)?,
            claim: Claim { party: PartyId(party), slot: SlotId(slot), dose: Dose(dose) },
            programme: ProgrammeId(u16::from_le_bytes([programme_low, programme_high])),
            expires_at: TimestampMs(self.expires_at.load(Relaxed)),
            link: self.link.load(Relaxed).checked_sub(1).map(BookingNumber),
            seq: Seq(self.seq.load(Relaxed)),
        })
    }
}

/// All records of a cell by booking number.
///
/// Kept for the life of the process: 48 bytes for every hold ever made. Two chains go through the records, from the newest to the
/// oldest: those of a slot and those of a party.
#[derive(Debug)]
pub(crate) struct BookingTable {
    cells: ChunkTable<BookingCell>,
    len_max: u64,
}

impl BookingTable {
    pub(crate) fn new(bookings_max: u64) -> Self {
        Self {
            cells: ChunkTable::new(usize::try_from(bookings_max).expect("validated against usize")),
            len_max: bookings_max,
        }
    }

    pub(crate) fn len_max(&self) -> u64 {
        self.len_max
    }

    /// The record, if one was written.
    pub(crate) fn get(&self, number: BookingNumber) -> Option<&BookingCell> {
        let cell = self.cells.get(usize::try_from(number.0).ok()?)?;
        cell.is_written().then_some(cell)
    }

    /// The cell for a number just given out; `None` past the table's maximum.
    pub(crate) fn blank(&self, number: BookingNumber) -> Option<&BookingCell> {
        self.cells.get_or_grow(usize::try_from(number.0).ok()?)
    }

    /// The claims of `len` consecutive numbers: what never changes about them, so no lock is needed.
    pub(crate) fn claims<const N: usize>(&self, first: BookingNumber, len: u8) -> ArrayVec<NumberedClaim, N> {
        (0..u64::from(len))
            .filter_map(|i| {
                let number = BookingNumber(first.0.checked_add(i)?);
                let view = self.get(number)?.view(number)?;
                Some(NumberedClaim { number, claim: view.claim })
            })
            .collect()
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    // rule: BKG-1
    #[test]
    fn the_lifecycle_table_has_these_rows_and_no_other() {
        let mut rows = Vec::new();
        for from in State::ALL {
            for step in Step::ALL {
                if let Some(to) = from.after(step) {
                    rows.push(format!("{from} -{step:?}-> {to}"));
                }
            }
        }
        assert_eq!(
            rows,
            [
                "held -Confirm-> booked",
                "held -Release-> released",
                "held -Expire-> expired",
                "booked -Cancel-> cancelled",
                "booked -Move-> moved",
                "booked -CheckIn-> checked_in",
                "booked -NoShow-> no_show",
                "checked_in -Complete-> completed",
            ]
        );
    }

    #[test]
    fn a_record_is_48_bytes_and_its_chains_disturb_nothing() {
        assert_eq!(size_of::<BookingCell>(), 48);
        let last = BookingNumber((1 << NUMBER_BITS) - 3);
        let claim = Claim { party: PartyId(1), slot: SlotId(2), dose: Dose(255) };
        let birth = Birth {
            state: State::Booked,
            claim,
            programme: ProgrammeId(u16::MAX),
            group_index: 0,
            group_len: 1,
            expires_at: TimestampMs(3),
            offered: true,
            link: Some(last),
        };
        for before in [None, Some(BookingNumber(0)), Some(last)] {
            let cell = BookingCell::default();
            cell.create(&birth, before, Seq(4));
            assert_eq!((cell.before_of_party(), cell.before_in_slot()), (before, None));
            cell.join_slot(before);
            cell.set_state(State::CheckedIn, None, Seq(5));
            assert_eq!((cell.before_of_party(), cell.before_in_slot()), (before, Some(before)));
            let view = cell.view(BookingNumber(9)).unwrap();
            assert_eq!((view.state, view.programme, view.claim), (State::CheckedIn, ProgrammeId(u16::MAX), claim));
            assert_eq!((view.offered, view.group_len), (true, 1));

            let again = BookingCell::default();
            again.restore(cell.words());
            assert_eq!((again.before_of_party(), again.before_in_slot()), (None, None), "a snapshot has no chains");
            again.restore_in_slot(before);
            again.restore_of_party(before);
            assert_eq!((again.before_of_party(), again.before_in_slot()), (before, Some(before)));
            assert_eq!(again.view(BookingNumber(9)), cell.view(BookingNumber(9)));
        }
    }

    #[test]
    fn a_record_reads_back_as_written() {
        let table = BookingTable::new(10);
        let number = BookingNumber(7);
        assert!(table.get(number).is_none());
        let claim = Claim { party: PartyId(u32::MAX), slot: SlotId(3), dose: Dose(2) };
        let birth = Birth {
            state: State::Held,
            claim,
            programme: ProgrammeId(0xABCD),
            group_index: 2,
            group_len: 3,
            expires_at: TimestampMs(99),
            offered: false,
            link: None,
        };
        let cell = table.blank(number).unwrap();
        cell.create(&birth, None, Seq(5));
        let view = table.get(number).unwrap().view(number).unwrap();
        assert_eq!((view.claim, view.programme, view.hold), (claim, ProgrammeId(0xABCD), BookingNumber(5)));
        assert_eq!((view.state, view.seq, view.link), (State::Held, Seq(5), None));
        assert_eq!((view.offered, view.group_len), (false, 3));
        cell.set_state(State::Moved, Some(BookingNumber(0)), Seq(6));
        let view = cell.view(number).unwrap();
        assert_eq!((view.state, view.seq, view.link), (State::Moved, Seq(6), Some(BookingNumber(0))));
    }
}
