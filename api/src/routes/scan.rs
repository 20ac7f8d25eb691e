//! The holds and bookings of a slot and of a party, newest first, a page at a time, found by looking through all there are.
//!
//! What a page costs grows with the number of bookings of the cell. The engine is to have these lists itself.

use berth_engine::{BookingNumber, BookingView, Claim, Engine, PartyId, Refusal, Seq, SlotId};

/// Some holds and bookings, the newest first.
pub(super) struct BookingPage {
    pub(super) bookings: Vec<BookingView>,
    /// Behind which the next page begins, if there is more.
    pub(super) next: Option<BookingNumber>,
    /// The newest entry this rests on: not to be shown before that is durable.
    pub(super) seq: Seq,
}

/// Up to `limit` of a slot, those made before `after`.
pub(super) fn slot_bookings(
    engine: &Engine,
    slot: SlotId,
    after: Option<BookingNumber>,
    limit: usize,
) -> Result<BookingPage, Refusal> {
    engine.counts(slot).ok_or(Refusal::UnknownSlot { slot })?;
    page(engine, after, limit, |claim| claim.slot == slot)
}

/// Up to `limit` of a party, those made before `after`.
pub(super) fn party_history(
    engine: &Engine,
    party: PartyId,
    after: Option<BookingNumber>,
    limit: usize,
) -> Result<BookingPage, Refusal> {
    let record = engine.party_bookings(party).ok_or(Refusal::UnknownParty { party })?;
    let page = page(engine, after, limit, |claim| claim.party == party)?;
    Ok(BookingPage { seq: page.seq.max(record.seq), ..page })
}

fn page(
    engine: &Engine,
    after: Option<BookingNumber>,
    limit: usize,
    of: impl Fn(&Claim) -> bool,
) -> Result<BookingPage, Refusal> {
    let is_one = |number| engine.claimed(number).is_some_and(|(claim, _)| of(&claim));
    if let Some(booking) = after
        && !is_one(booking)
    {
        return Err(Refusal::UnknownBooking { booking });
    }
    let end = after.map_or_else(|| engine.stats().bookings, |after| after.0);
    let mut found = (0..end).rev().map(BookingNumber).filter(|number| is_one(*number));
    let bookings: Vec<_> = found.by_ref().take(limit).filter_map(|number| engine.booking(number)).collect();
    let more = found.next().is_some();
    let seq = bookings.iter().map(|view| view.seq).max().unwrap_or_default();
    Ok(BookingPage { next: bookings.last().filter(|_| more).map(|view| view.number), bookings, seq })
}
