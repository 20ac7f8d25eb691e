//! What the clients of a simulated cell ask for.

use std::time::Duration;

use super::history::{Deed, History};
use crate::booking::State;
use crate::command::{By, Claim, PartyFacts, SlotFacts, SlotSpec};
use crate::ids::{
    BookingNumber, CentreKey, Dose, Idempotency, IdempotencyKey, PartyId, PoolId, ProductId, ProgrammeId, SlotId,
};
use crate::testing::random::Random;
use crate::units::{TimestampMs, Units};

/// No more than these, so that they meet.
const PARTIES_MAX: u32 = 20;
const SLOTS_MAX: usize = 8;

/// The next request of some client.
pub(super) fn next(random: &mut Random, history: &mut History, now: TimestampMs) -> (Deed, Option<Idempotency>) {
    if random.chance(12) && !history.asked.is_empty() {
        let at = index(random, history.asked.len());
        let (idempotency, deed) = history.asked[at].clone();
        // Now and then the key of one request with another.
        let fingerprint = idempotency.fingerprint + u64::from(random.chance(10));
        return (deed, Some(Idempotency { fingerprint, ..idempotency }));
    }
    let deed = fresh(random, history, now);
    if matches!(deed, Deed::Publish(..)) || random.chance(50) {
        return (deed, None);
    }
    let key = history.asked.len() as u64;
    let idempotency = Idempotency { key: IdempotencyKey(u128::from(key)), fingerprint: key * 16 };
    history.asked.push((idempotency, deed.clone()));
    (deed, Some(idempotency))
}

fn fresh(random: &mut Random, history: &History, now: TimestampMs) -> Deed {
    let slots: Vec<SlotId> = history.model.slots().collect();
    let parties = history.model.parties();
    if parties == 0 || (parties < PARTIES_MAX && random.chance(2)) {
        let birth_year = if random.chance(70) { 1980 } else { 2020 };
        return Deed::AddParties(2 + small(random, 5), PartyFacts { birth_year, ..PartyFacts::default() });
    }
    if slots.is_empty() || (slots.len() < SLOTS_MAX && random.chance(2)) {
        let specs = (0..1 + small(random, 3)).map(|_| spec(random, now)).collect();
        return Deed::Publish(specs, vec![7; index(random, 40)]);
    }
    let slot = slots[index(random, slots.len())];
    match random.below(100) {
        0..36 => {
            let claims = claims(random, parties, &slots);
            if random.chance(15) {
                let ttl = Duration::from_millis(random.below(80_000));
                Deed::Offer(claims[0], ttl, vec![4; index(random, 40)])
            } else if random.chance(60) {
                Deed::Hold(claims, Duration::from_millis(random.below(40_000)))
            } else {
                Deed::Book(claims)
            }
        }
        36..50 => Deed::Confirm(booking(random, history, State::Held)),
        50..56 => Deed::Release(booking(random, history, State::Held)),
        56..59 => Deed::Expire(booking(random, history, State::Held)),
        59..64 => Deed::Cancel(booking(random, history, State::Booked), by(random)),
        64..68 => Deed::CancelGroup(group(random, history), by(random)),
        68..74 => Deed::Move(booking(random, history, State::Booked), slot, by(random)),
        74..76 => Deed::CheckIn(booking(random, history, State::Booked)),
        76..78 => {
            let booking = booking(random, history, State::CheckedIn);
            if random.chance(50) {
                return Deed::Complete(booking);
            }
            // Some are told late, a day or more; some of what has not been yet.
            let ago = Duration::from_millis(random.below(3) * 86_400_000 + random.below(2_000));
            let given_at = TimestampMs((now.0 + 1_000).saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(0)));
            let product = random.chance(20).then_some(ProductId(2));
            Deed::CompleteNoted(booking, given_at, product, vec![3; index(random, 256)])
        }
        78..80 => Deed::NoShow(booking(random, history, State::Booked)),
        80..82 => {
            let claim = claims(random, parties, &slots)[0];
            if random.chance(60) {
                return Deed::WalkIn(claim);
            }
            Deed::WalkInLate(claim, TimestampMs((now.0 + 500).saturating_sub(random.below(3_000))))
        }
        82..85 => Deed::Resize(slot, Units::new(small(random, 5)).unwrap_or(Units::ONE)),
        85..86 => Deed::Close(slot),
        86..88 => Deed::Open(slot),
        // What fills segments.
        88..94 => Deed::Note(vec![random.next().to_le_bytes()[0]; 200 + index(random, 2500)]),
        94..96 => {
            let urgent = random.chance(20);
            // What is urgent is small.
            let length = if urgent { 20 + index(random, 200) } else { 200 + index(random, 2500) };
            Deed::Record(1 + u8::from(random.chance(50)), vec![9; length], urgent)
        }
        96..98 => change_facts(random, history),
        _ => Deed::Note(Vec::new()),
    }
}

/// Of what is known of a party, or of what somebody once knew.
fn change_facts(random: &mut Random, history: &History) -> Deed {
    let party = PartyId(small(random, history.model.parties()));
    let known = history.model.facts(party);
    let facts = PartyFacts {
        birth_year: if random.chance(80) { 1980 } else { 2020 },
        doses: if random.chance(70) { known.doses } else { random.below(3).to_le_bytes()[0] },
        ..known
    };
    let expected = match random.below(3) {
        0 => None,
        1 => Some(known),
        _ => Some(PartyFacts { cohorts: small(random, 2), ..known }),
    };
    Deed::ChangeFacts(party, facts, expected, vec![5; index(random, 40)])
}

fn spec(random: &mut Random, now: TimestampMs) -> SlotSpec {
    // Some begin while the run goes on, so that there is somebody at the door.
    let soon = if random.chance(50) { 3_000 } else { 900_000 };
    let starts_at = now.plus(Duration::from_millis(random.below(soon)));
    let facts = SlotFacts {
        programme: ProgrammeId(1 + u16::from(random.chance(20))),
        dose: Dose(u8::from(random.chance(30))),
        product: ProductId(1),
        pool: PoolId(1),
        starts_at,
    };
    let capacity = Units::new(1 + small(random, 4)).unwrap_or(Units::ONE);
    SlotSpec { centre: CentreKey(small(random, 3)), capacity, facts }
}

/// One to three parties; now and then one that does not exist.
fn claims(random: &mut Random, parties: u32, slots: &[SlotId]) -> Vec<Claim> {
    let first = small(random, parties + 1);
    let slot = slots[index(random, slots.len())];
    (0..1 + small(random, 3))
        .map(|n| {
            let party = PartyId(if random.chance(90) { (first + n) % parties } else { first + n });
            let slot = if random.chance(70) { slot } else { slots[index(random, slots.len())] };
            Claim { party, slot, dose: Dose(1 + u8::from(random.chance(20))) }
        })
        .collect()
}

/// A hold or booking in this state, or any, or none that is.
fn booking(random: &mut Random, history: &History, state: State) -> BookingNumber {
    let all = history.model.bookings();
    let fit: Vec<BookingNumber> = all
        .filter(|(number, hold, found, ..)| *found == state && (state != State::Held || number == hold))
        .map(|row| row.0)
        .collect();
    if fit.is_empty() || random.chance(10) {
        return BookingNumber(random.below(history.model.bookings().count() as u64 + 1));
    }
    fit[index(random, fit.len())]
}

fn by(random: &mut Random) -> By {
    if random.chance(30) { By::Administration } else { By::Holder }
}

/// Some bookings of one group; now and then one of another, or one twice.
fn group(random: &mut Random, history: &History) -> Vec<BookingNumber> {
    let one = booking(random, history, State::Booked);
    let rows: Vec<_> = history.model.bookings().map(|row| (row.0, row.1, row.2)).collect();
    let hold = rows.iter().find(|row| row.0 == one).map(|row| row.1);
    let same = rows.iter().filter(|row| Some(row.1) == hold && (row.2 == State::Booked || random.chance(5)));
    let mut numbers: Vec<_> = same.map(|row| row.0).collect();
    if numbers.is_empty() || random.chance(8) {
        numbers.push(booking(random, history, State::Booked));
    }
    if random.chance(50) {
        numbers.reverse();
    }
    if random.chance(30) && numbers.len() > 1 {
        numbers.pop();
    }
    numbers
}

pub(super) fn index(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).expect("below a length")
}

pub(super) fn small(random: &mut Random, end: u32) -> u32 {
    u32::try_from(random.below(u64::from(end))).expect("below a u32")
}
