//! The holds and bookings of a slot, and those of a party, page by page, by the chains through their records: what a page costs does
//! not depend on how many others there are.

use crate::command::BookingView;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::ids::{BookingNumber, PartyId, Seq, SlotId};

/// Some holds and bookings, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookingPage {
    /// In whatever state they are.
    pub bookings: Vec<BookingView>,
    /// Where the next page begins, if there is more: behind the last one of this page.
    pub next: Option<BookingNumber>,
    /// The newest entry this rests on: not to be shown before that is durable.
    // rule: IDM-2
    pub seq: Seq,
}

impl Engine {
    /// Up to `limit` holds and bookings that were ever made of a slot, those behind `after`, the `next` of the page before. Each is as
    /// it was at an instant of its own. They come as they were made, but of several that were made at the same instant; after a
    /// restart in descending number.
    ///
    /// # Errors
    /// `UnknownSlot`, or `UnknownBooking` if `after` is none of the slot's.
    pub fn slot_bookings(
        &self,
        slot: SlotId,
        after: Option<BookingNumber>,
        limit: usize,
    ) -> Result<BookingPage, Refusal> {
        if self.inventory.slots.word(slot).is_none() {
            return Err(Refusal::UnknownSlot { slot });
        }
        let next = match after {
            None => self.inventory.slots.newest(slot),
            Some(booking) => match self.booking(booking).filter(|view| view.claim.slot == slot) {
                Some(_) => self.before_in_slot(booking),
                None => return Err(Refusal::UnknownBooking { booking }),
            },
        };
        Ok(page(next, limit, Seq(0), |number| self.booking(number), |number| self.before_in_slot(number)))
    }

    /// The booking behind this one in its slot's chain. Whoever is just making this one tells it within a moment, and holds up
    /// nobody meanwhile; no lock is held here.
    fn before_in_slot(&self, number: BookingNumber) -> Option<BookingNumber> {
        let cell = self.inventory.bookings.get(number)?;
        loop {
            match cell.before_in_slot() {
                Some(before) => return before,
                None => crate::sync::yield_now(),
            }
        }
    }

    /// Up to `limit` holds and bookings that a party ever had, those behind `after`, the `next` of the page before; all as they were at
    /// one instant, the newest first.
    ///
    /// # Errors
    /// `UnknownParty`, or `UnknownBooking` if `after` is none of the party's.
    pub fn party_history(
        &self,
        party: PartyId,
        after: Option<BookingNumber>,
        limit: usize,
    ) -> Result<BookingPage, Refusal> {
        let record = self.inventory.parties.lock(party).ok_or(Refusal::UnknownParty { party })?;
        let cell = |number| self.inventory.bookings.get(number);
        let next = match after {
            None => record.newest(),
            Some(booking) => match cell(booking).filter(|cell| cell.party() == party) {
                Some(cell) => cell.before_of_party(),
                None => return Err(Refusal::UnknownBooking { booking }),
            },
        };
        let view = |number| cell(number)?.view(number);
        Ok(page(next, limit, record.seq(), view, |number| cell(number)?.before_of_party()))
    }
}

fn page(
    mut next: Option<BookingNumber>,
    limit: usize,
    mut seq: Seq,
    view: impl Fn(BookingNumber) -> Option<BookingView>,
    before: impl Fn(BookingNumber) -> Option<BookingNumber>,
) -> BookingPage {
    let mut bookings = Vec::new();
    while let Some(number) = next.filter(|_| bookings.len() < limit) {
        if let Some(view) = view(number) {
            seq = seq.max(view.seq);
            bookings.push(view);
        }
        next = before(number);
    }
    let last = bookings.last().map(|view| view.number);
    BookingPage { bookings, next: last.filter(|_| next.is_some()), seq }
}
