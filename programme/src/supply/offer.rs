//! Sessions bounded by stock: what a centre offers of a product is no more than it can give.
//!
//! A dose of a batch can be given up to its last day. So for each day on which a centre has a session: what is offered on that day and later must not be more
//! than what is on hand that has not expired by then, and on the way. That is all that is needed: what expires first is given first.

use std::collections::BTreeMap;

use berth_engine::{BookingNumber, ProductId, SlotId, State, TimestampMs};
use jiff::civil::Date;

use super::books::{Books, Known};
use super::ledger::Ledger;
use crate::file::Enforce;
use crate::store::StoreError;

/// Bookings of a slot looked at in one go.
const LOOK: usize = 256;

/// More on offer than there is to give, and how that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// From this day on.
    pub from: Date,
    /// Units on offer, with those that are to be.
    pub offered: u64,
    /// Doses on hand that can be given then.
    pub on_hand: u64,
    /// Doses on the way that can.
    pub on_the_way: u64,
}

impl std::fmt::Display for Beyond {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Beyond { from, offered, on_hand, on_the_way } = self;
        let there = on_hand + on_the_way;
        write!(
            f,
            "from {from} on {offered} units would be on offer there, and {there} doses can be given then: {on_hand} on hand that \
             have not expired by then, and {on_the_way} on the way"
        )
    }
}

/// What is offered of a product at a centre, by day.
pub(crate) type Offered = BTreeMap<Date, u64>;

impl Ledger {
    /// What a centre offers of a product from today on, and has not given.
    #[must_use]
    pub(crate) fn offered(&self, centre: &str, product: ProductId, today: Date) -> Offered {
        let mut offered = Offered::new();
        let Some(centre) = self.catalogue.centre(centre) else { return offered };
        for session in centre.sessions().iter().filter(|session| session.date >= today && session.product == product) {
            let units: u64 = session.slots.iter().map(|slot| self.units(slot.slot, session.date == today)).sum();
            *offered.entry(session.date).or_default() += units;
        }
        offered
    }

    /// Of a slot that is closed, what is booked.
    fn units(&self, slot: SlotId, today: bool) -> u64 {
        let Some(counts) = self.engine.counts(slot) else { return 0 };
        let on_offer = if counts.is_open() { counts.capacity() } else { counts.booked() };
        // Before its day nobody was served.
        let given = if today { self.given_of(slot) } else { 0 };
        u64::from(on_offer.get()).saturating_sub(given)
    }

    fn given_of(&self, slot: SlotId) -> u64 {
        let (mut given, mut after): (u64, Option<BookingNumber>) = (0, None);
        while let Ok(page) = self.engine.slot_bookings(slot, after, LOOK) {
            given += page.bookings.iter().filter(|view| view.state == State::Completed).count() as u64;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        given
    }

    /// Whether a centre may offer so much of a product; each day is looked at up to `until`, the last that is new. Where stock is not enforced it may.
    ///
    /// # Errors
    /// The books cannot be had.
    // rule: SUP-4 sessions offer no more than their centre can give
    pub(crate) fn may_offer(
        &self,
        centre: &str,
        product: ProductId,
        offered: &Offered,
        until: Date,
    ) -> Result<Result<(), Beyond>, StoreError> {
        if self.enforce() != Enforce::Refuse {
            return Ok(Ok(()));
        }
        let books = self.books()?;
        let mut units = 0;
        for (day, here) in offered.iter().rev() {
            units += here;
            if *day > until {
                continue;
            }
            let (on_hand, on_the_way) = books.usable(centre, product, *day);
            if units > on_hand + on_the_way {
                return Ok(Err(Beyond { from: *day, offered: units, on_hand, on_the_way }));
            }
        }
        Ok(Ok(()))
    }

    /// Whether a slot may have a larger capacity.
    ///
    /// # Errors
    /// The books cannot be had.
    pub fn may_resize(&self, slot: SlotId, capacity: u32, now: TimestampMs) -> Result<Result<(), Beyond>, StoreError> {
        let (Some(place), Some(counts)) = (self.catalogue.slot(slot), self.engine.counts(slot)) else {
            return Ok(Ok(()));
        };
        let today = self.programme.calendar().date(now);
        let more = u64::from(capacity.saturating_sub(counts.capacity().get()));
        let session = &place.session;
        if more == 0 || session.date < today {
            return Ok(Ok(()));
        }
        let mut offered = self.offered(&session.centre, session.product, today);
        *offered.entry(session.date).or_default() += more;
        self.may_offer(&session.centre, session.product, &offered, session.date)
    }
}

impl Books {
    /// Doses of a product at a centre that can be given on this day or later, and those on the way to it.
    fn usable(&self, centre: &str, product: ProductId, day: Date) -> (u64, u64) {
        let usable = |known: &Known| {
            let good = known.spec.expires >= day && known.recalled.is_none();
            known.is_known() && known.spec.product() == product && good
        };
        let of = self.batches.iter().filter(|(_, known)| usable(known));
        let here = of.map(|(batch, _)| self.held(batch, centre).on_hand).sum();
        let coming = self.transfers.values().filter(|sending| sending.to == centre);
        let coming = coming.filter(|sending| self.batches.get(sending.batch.as_str()).is_some_and(usable));
        (here, coming.map(|sending| sending.quantity).sum())
    }
}
