//! What a snapshot does not keep, made from its records once all of them have come to the same entry: units counted, the parties' live
//! claims, and the chains through the records.
//!
//! A chain is as its bookings came, so a party's and a slot's are each made by one thread, in ascending number. Threads share the
//! parties and the slots among them; each reads all records, which lie one after the other, and writes those that are its own.

use arrayvec::ArrayVec;

use crate::booking::{BookingCell, State};
use crate::command::{BookingView, Claim};
use crate::ids::BookingNumber;
use crate::inventory::Inventory;
use crate::slot::Take;
use crate::units::Units;

/// Records whose parties or slots are read together before they are changed, so that the cache misses overlap.
const WARM: usize = 128;
/// Neighbours are one thread's: they share cache lines.
const NEIGHBOURS: u32 = 64;

/// One thread's part of the parties, or of the slots.
#[derive(Clone, Copy)]
struct Share {
    index: u32,
    of: u32,
}

impl Share {
    fn has(self, number: u32) -> bool {
        number / NEIGHBOURS % self.of == self.index
    }
}

/// The whole of it, in all threads there are.
pub(super) fn settle(inventory: &Inventory) -> Result<(), String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let of = u32::try_from(threads / 2).unwrap_or(1).max(1);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..of)
            .map(|index| Share { index, of })
            .flat_map(|share| {
                [scope.spawn(move || parties(inventory, share)), scope.spawn(move || slots(inventory, share))]
            })
            .collect();
        running.into_iter().try_for_each(|part| part.join().expect("counting does not panic"))
    })
}

fn parties(inventory: &Inventory, share: Share) -> Result<(), String> {
    let warm = |claim: &Claim| inventory.parties.warm(claim.party.0);
    scan(
        inventory,
        |claim| share.has(claim.party.0),
        warm,
        |cell, view| {
            let Claim { party, dose, .. } = view.claim;
            let mut record = inventory.parties.lock(party).ok_or_else(|| format!("party {party} is unknown"))?;
            let newest = record.seq().max(view.seq);
            record.set_seq(newest);
            cell.restore_of_party(record.newest());
            if !view.state.is_live() {
                let number = view.number;
                let kept = record.add_ended(number);
                return if kept { Ok(()) } else { Err(format!("party {party} had no room for booking {number}")) };
            }
            if let Some(other) = record.live_claim(view.programme, dose) {
                return Err(format!("PTY-1: party {party} has the live claims {other} and {}", view.number));
            }
            if record.is_full() {
                return Err(format!("party {party} has no room for another live claim"));
            }
            record.add(view.number, view.programme, dose);
            Ok(())
        },
    )
}

fn slots(inventory: &Inventory, share: Share) -> Result<(), String> {
    let warm = |claim: &Claim| inventory.slots.facts(claim.slot).is_some();
    scan(
        inventory,
        |claim| share.has(claim.slot.0),
        warm,
        |cell, view| {
            let (slot, number) = (view.claim.slot, view.number);
            let word = inventory.slots.word(slot).ok_or_else(|| format!("slot {slot} is unknown"))?;
            cell.restore_in_slot(inventory.slots.push(slot, number));
            if !view.state.has_unit() {
                return Ok(());
            }
            let units = Units::ONE;
            let took = if view.state == State::Held { word.replay_hold(units) } else { word.replay_book(units) };
            match took {
                Take::Taken(_) => Ok(()),
                Take::Full(counts) | Take::Closed(counts) | Take::Reserved(counts) => {
                    Err(format!("CAP-1: slot {slot} has no room for booking {number}: {counts}"))
                }
            }
        },
    )
}

/// Every record of the share in ascending number.
fn scan(
    inventory: &Inventory,
    has: impl Fn(&Claim) -> bool,
    warm: impl Fn(&Claim) -> bool,
    mut each: impl FnMut(&BookingCell, &BookingView) -> Result<(), String>,
) -> Result<(), String> {
    let end = inventory.bookings_end();
    let mut from = 0;
    while from < end {
        let to = end.min(from + WARM as u64);
        let own = |number| {
            let cell = inventory.bookings.get(number)?;
            let view = cell.view(number)?;
            has(&view.claim).then_some((cell, view))
        };
        let found: ArrayVec<_, WARM> = (from..to).map(BookingNumber).filter_map(own).collect();
        std::hint::black_box(found.iter().fold(false, |read, (_, view)| read ^ warm(&view.claim)));
        found.iter().try_for_each(|(cell, view)| each(cell, view))?;
        from = to;
    }
    Ok(())
}
