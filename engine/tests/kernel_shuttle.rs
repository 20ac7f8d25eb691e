//! The real submit kernel under shuttle: threads race over few slots and parties, and the journal they wrote is
//! proved at every prefix.
//!
//! Run with `cargo xtask test --only shuttle`. Each of the three swaps of the kernel's order
//! (`--cfg berth_fault`) makes this fail: `cargo xtask test --only swaps`.
#![cfg(shuttle)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use berth_engine::verify::Ledger;
use berth_engine::*;
use shuttle::rand::Rng;
use shuttle::thread;

fn limits() -> Limits {
    Limits {
        parties_max: 16,
        slots_max: 256,
        bookings_max: 64,
        idempotency_keys_max: 64,
        idempotency_window: Duration::from_secs(60),
    }
}

const NOW: TimestampMs = TimestampMs(1_000_000);
const LATER: TimestampMs = TimestampMs(2_000_000);

fn submit(engine: &Engine, command: Command<'_>, now: TimestampMs) -> Result<Outcome, Refusal> {
    engine.submit(&Request { command, idempotency: None }, now).unwrap().result
}

/// Two slots of one unit, and four parties.
fn cell() -> (Arc<Engine>, Vec<SlotId>) {
    let engine = Engine::in_memory(&limits(), Arc::new(AllowAll));
    submit(&engine, Command::AddParties { count: 4, facts: PartyFacts::default() }, NOW).unwrap();
    let facts = SlotFacts {
        programme: ProgrammeId(1),
        dose: Dose(0),
        product: ProductId(1),
        pool: PoolId(1),
        starts_at: LATER,
    };
    let spec = SlotSpec { centre: CentreKey(1), capacity: Units::ONE, facts };
    let published = submit(&engine, Command::Publish { slots: &[spec, spec], note: b"" }, NOW);
    let Ok(Outcome::Published { slots, .. }) = published else { panic!("not published") };
    (Arc::new(engine), slots)
}

/// The numbers that a slot lists, page by page; none twice.
fn listed(engine: &Engine, slot: SlotId) -> BTreeSet<BookingNumber> {
    let (mut all, mut after) = (BTreeSet::new(), None);
    loop {
        let page = engine.slot_bookings(slot, after, 2).unwrap();
        for view in &page.bookings {
            assert!(view.claim.slot == slot && all.insert(view.number), "{} stands twice", view.number);
        }
        let Some(next) = page.next else { return all };
        after = Some(next);
    }
}

/// Every record is in its slot's chain and in its party's, whoever raced whom.
fn prove_chains(engine: &Engine, slots: &[SlotId]) {
    let (mut by_slot, mut by_party) = (BTreeSet::new(), BTreeSet::new());
    for slot in slots {
        by_slot.extend(listed(engine, *slot));
    }
    for party in (0..4).map(PartyId) {
        let page = engine.party_history(party, None, usize::MAX).unwrap();
        assert!(page.bookings.windows(2).all(|pair| pair[0].number > pair[1].number), "newest first");
        by_party.extend(page.bookings.iter().map(|view| view.number));
    }
    let mut all = BTreeSet::new();
    engine.for_each_booking(&mut |view| drop(all.insert(view.number)));
    assert_eq!((&by_slot, &by_party), (&all, &all));
}

/// Proves every prefix, and that the words agree with the books at rest.
fn prove(engine: &Engine, slots: &[SlotId]) {
    let mut ledger = Ledger::new(Duration::from_secs(60));
    for (seq, entry) in engine.journal_so_far() {
        ledger.apply(seq, &entry);
        assert!(ledger.findings().is_empty(), "{:?}", ledger.findings());
    }
    for slot in slots {
        let counts = engine.counts(*slot).unwrap();
        let found = (counts.capacity().get(), counts.held().get(), counts.booked().get());
        let (capacity, held, booked) = ledger.slot(*slot).unwrap();
        assert_eq!((u64::from(found.0), u64::from(found.1), u64::from(found.2)), (capacity, held, booked), "CAP-1");
    }
    prove_chains(engine, slots);
}

fn claim(party: u32, slot: SlotId) -> Claim {
    Claim { party: PartyId(party), slot, dose: Dose(1) }
}

/// Somebody comes without a booking, and somebody with one does or does not.
fn at_the_door(engine: &Engine, claim: Claim, what: u32) {
    if what == 0 {
        let Ok(Outcome::WalkedIn { claim }) = submit(engine, Command::WalkIn { claim }, LATER) else { return };
        let _ = submit(engine, Command::Complete { booking: claim.number }, LATER);
        return;
    }
    let Ok(Outcome::Booked { claims }) = submit(engine, Command::Book { claims: &[claim] }, NOW) else { return };
    let booking = claims[0].number;
    if what == 1 {
        let _ = submit(engine, Command::NoShow { booking }, LATER);
    } else {
        let _ = submit(engine, Command::CheckIn { booking }, NOW);
    }
}

/// What one racing thread does with the things at hand.
fn act(engine: &Engine, slots: &[SlotId]) {
    let mut rng = shuttle::rand::thread_rng();
    let slot = slots[rng.gen_range(0..slots.len())];
    let party = rng.gen_range(0..3);
    let ttl = Duration::from_secs(60);
    let claims = [claim(party, slot), claim(3, slots[0])];
    let _ = engine.reserve(slot, ReservedFor::Lottery, rng.gen_range(0..4) == 0);
    match rng.gen_range(0..9) {
        8 => {
            let offer = Command::Offer { claim: claims[0], ttl, note: b"" };
            let Ok(Outcome::Held { claims, .. }) = submit(engine, offer, NOW) else { return };
            let hold = claims[0].number;
            let resolve = if rng.gen_range(0..2) == 0 { Command::Confirm { hold } } else { Command::Release { hold } };
            let _ = submit(engine, resolve, NOW);
        }
        4 => drop(listed(engine, slot)),
        0 => drop(submit(engine, Command::Book { claims: &claims[..1] }, NOW)),
        2 => at_the_door(engine, claims[0], rng.gen_range(0..3)),
        3 => {
            let Ok(Outcome::Booked { claims }) = submit(engine, Command::Book { claims: &claims }, NOW) else { return };
            let bookings = [claims[0].number, claims[1].number];
            let _ = submit(engine, Command::CancelGroup { bookings: &bookings, by: By::Holder }, NOW);
        }
        1 => drop(submit(engine, Command::Hold { claims: &claims, ttl }, NOW)),
        _ => {
            let Ok(Outcome::Held { claims, .. }) = submit(engine, Command::Hold { claims: &claims[..1], ttl }, NOW)
            else {
                return;
            };
            let hold = claims[0].number;
            match rng.gen_range(0..4) {
                0 => drop(submit(engine, Command::Release { hold }, NOW)),
                1 => drop(submit(engine, Command::Expire { hold }, LATER)),
                2 => {
                    let _ = submit(engine, Command::Confirm { hold }, NOW);
                    let _ = submit(engine, Command::Cancel { booking: hold, by: By::Holder }, NOW);
                }
                _ => {
                    let _ = submit(engine, Command::Confirm { hold }, NOW);
                    let to = slots[rng.gen_range(0..slots.len())];
                    let _ = submit(engine, Command::Move { booking: hold, to, by: By::Holder }, NOW);
                }
            }
        }
    }
}

// rule: JNL-1
// rule: PTY-1
// rule: CAP-1
#[test]
fn every_prefix_of_a_raced_journal_is_a_state_that_could_have_been() {
    shuttle::check_random(
        || {
            let (engine, slots) = cell();
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let (engine, slots) = (Arc::clone(&engine), slots.clone());
                    thread::spawn(move || {
                        act(&engine, &slots);
                        act(&engine, &slots);
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            prove(&engine, &slots);
        },
        20_000,
    );
}

/// The same party through two doors at once: one gets in.
// rule: PTY-1
#[test]
fn one_party_claims_one_dose_once() {
    shuttle::check_pct(
        || {
            let (engine, slots) = cell();
            let threads: Vec<_> = slots
                .iter()
                .map(|slot| {
                    let (engine, slot) = (Arc::clone(&engine), *slot);
                    thread::spawn(move || submit(&engine, Command::Book { claims: &[claim(0, slot)] }, NOW).is_ok())
                })
                .collect();
            let won = threads.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count();
            prove(&engine, &slots);
            assert_eq!(won, 1, "PTY-1");
        },
        5_000,
        3,
    );
}

/// Twins under one key: one effect, one answer.
// rule: IDM-1
#[test]
fn twins_under_one_key_have_one_effect_and_one_answer() {
    shuttle::check_random(
        || {
            let (engine, slots) = cell();
            let idempotency = Some(Idempotency { key: IdempotencyKey(7), fingerprint: 1 });
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let (engine, slot) = (Arc::clone(&engine), slots[0]);
                    thread::spawn(move || {
                        let command = Command::Book { claims: &[claim(0, slot)] };
                        engine.submit(&Request { command, idempotency }, NOW).unwrap()
                    })
                })
                .collect();
            let answers: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            prove(&engine, &slots);
            let told: Vec<_> = answers.iter().filter_map(|answer| answer.result.as_ref().ok()).collect();
            assert!(!told.is_empty() && told.windows(2).all(|pair| pair[0] == pair[1]), "IDM-1: {answers:?}");
            for answer in &answers {
                let fine = matches!(answer.result, Ok(_) | Err(Refusal::IdempotencyInFlight));
                assert!(fine, "IDM-1: {answer:?}");
            }
        },
        5_000,
    );
}
