//! Idempotency keys back from entries: what each stands for.

use super::len;
use crate::booking::State;
use crate::dedupe::{KeyRow, Keys, Remembered, Sorter};
use crate::ids::Seq;
use crate::journal::entry::{Entry, Event};

/// Puts idempotency keys back, some at a time. It needs nothing of the other tables.
#[derive(Clone, Copy)]
pub(crate) struct KeyReplayer<'a> {
    keys: &'a Keys,
    /// What a snapshot may have seen.
    seen: Seq,
}

impl<'a> KeyReplayer<'a> {
    pub(super) fn new(keys: &'a Keys, seen: Seq) -> Self {
        Self { keys, seen }
    }

    /// Rows of entries, in their order.
    pub(crate) fn restore(&self, rows: &[KeyRow], sorter: &mut Sorter) {
        assert!(self.keys.restore(rows, self.seen, sorter), "an entry's row has an outcome");
    }

    /// Makes room ahead.
    pub(crate) fn reserve(&self, keys: u64) {
        self.keys.reserve(keys);
    }
}

/// What an entry says of its key, if it has one.
pub(crate) fn key_row(seq: Seq, entry: &Entry) -> Option<KeyRow> {
    entry.idempotency.map(|idempotency| KeyRow::new(idempotency, entry.at, seq, remembered(&entry.event)))
}

/// What a key stands for that had this effect.
fn remembered(event: &Event) -> Remembered {
    match event {
        Event::PartiesAdded { first, count, .. } => Remembered::PartiesAdded { first: first.0, count: *count },
        Event::Published { slots, .. } => {
            Remembered::Published { count: u32::try_from(slots.len()).expect("its bytes bound the count") }
        }
        // No command makes a grace, so none has a key.
        Event::Note { .. } | Event::HoldsGraced { .. } => Remembered::Noted,
        Event::Held { first, claims, .. } => Remembered::Held { first: *first, len: len(claims) },
        Event::Offered { number, .. } => Remembered::Held { first: *number, len: 1 },
        Event::Booked { first, claims } => Remembered::Booked { first: *first, len: len(claims) },
        Event::Confirmed { hold, len } => Remembered::Confirmed { first: *hold, len: *len },
        Event::Released { hold, len } => Remembered::Released { first: *hold, len: *len },
        Event::Expired { hold, len } => Remembered::Expired { first: *hold, len: *len },
        Event::Cancelled { booking } => Remembered::Cancelled { booking: *booking },
        Event::Moved { from, .. } => Remembered::Moved { from: *from },
        Event::SlotChanged { slot, .. } => Remembered::SlotChanged { slot: slot.0 },
        // One booking that the administration gave up has the outcome of any other.
        Event::GroupCancelled { hold, places, .. } => match places.numbers(*hold).next() {
            Some(booking) if places.count() == 1 => Remembered::Cancelled { booking },
            _ => Remembered::GroupCancelled { hold: *hold, places: *places },
        },
        Event::CheckedIn { booking } => Remembered::Stepped { booking: *booking, to: State::CheckedIn },
        Event::Completed { booking, .. } | Event::CompletedNoted { booking, .. } => {
            Remembered::Stepped { booking: *booking, to: State::Completed }
        }
        Event::NoShow { booking } => Remembered::Stepped { booking: *booking, to: State::NoShow },
        Event::WalkedIn { claim } => Remembered::WalkedIn { number: claim.number },
        Event::FactsChanged { party, .. } => Remembered::FactsChanged { party: party.0 },
        Event::Recorded { .. } => Remembered::Recorded,
    }
}
