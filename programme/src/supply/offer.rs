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

    /// What a centre can give of a product, gathered once under the books' lock; `None` where stock is not enforced.
    ///
    /// # Errors
    /// The books cannot be had.
    pub(crate) fn at_hand(&self, centre: &str, product: ProductId) -> Result<Option<AtHand>, StoreError> {
        let enforced = self.enforce() == Enforce::Refuse;
        enforced.then(|| Ok(self.books()?.at_hand(centre, product))).transpose()
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
        let at_hand = self.at_hand(&session.centre, session.product)?;
        Ok(at_hand.map_or(Ok(()), |at_hand| at_hand.may_offer(&offered, session.date)))
    }
}

/// Doses of a product that a centre has or that are on the way to it, by the last day on which they can be given: on hand, on the way.
#[derive(Debug, Default)]
pub(crate) struct AtHand(BTreeMap<Date, (u64, u64)>);

impl AtHand {
    /// Whether a centre may offer so much; each day is looked at up to `until`, the last that is new.
    // rule: SUP-4 sessions offer no more than their centre can give
    pub(crate) fn may_offer(&self, offered: &Offered, until: Date) -> Result<(), Beyond> {
        let mut units = 0;
        for (day, here) in offered.iter().rev() {
            units += here;
            if *day > until {
                continue;
            }
            let usable = self.0.range(*day..).map(|(_, doses)| *doses);
            let (on_hand, on_the_way) = usable.fold((0, 0), |(a, b), (here, coming)| (a + here, b + coming));
            if units > on_hand + on_the_way {
                return Err(Beyond { from: *day, offered: units, on_hand, on_the_way });
            }
        }
        Ok(())
    }
}

impl Books {
    fn at_hand(&self, centre: &str, product: ProductId) -> AtHand {
        let good = |known: &Known| known.is_known() && known.spec.product() == product && known.recalled.is_none();
        let mut at_hand = AtHand::default();
        for (batch, known) in self.batches.iter().filter(|(_, known)| good(known)) {
            let on_hand = self.held(batch, centre).on_hand;
            if on_hand > 0 {
                at_hand.0.entry(known.spec.expires).or_default().0 += on_hand;
            }
        }
        for sending in self.transfers.values().filter(|sending| sending.to == centre) {
            if let Some(known) = self.batches.get(sending.batch.as_str()).filter(|known| good(known)) {
                at_hand.0.entry(known.spec.expires).or_default().1 += sending.quantity;
            }
        }
        at_hand
    }
}
