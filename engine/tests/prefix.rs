//! Racing threads over few slots write a journal; it is cut after every entry, and every cut is replayed and
//! checked for every rule.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Barrier};
use std::time::Duration;

use berth_engine::journal::Entry;
use berth_engine::verify::Ledger;
use berth_engine::*;

const THREADS: u32 = 4;
const ROUNDS: u64 = 150;
const PARTIES: u32 = 6;

fn limits() -> Limits {
    Limits { parties_max: 64, slots_max: 640, bookings_max: 50_000, ..Limits::default() }
}

/// A small generator, so that a thread's choices repeat for its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn submit(engine: &Engine, command: Command<'_>, now: TimestampMs) -> Result<Outcome, Refusal> {
    engine.submit(&Request { command, idempotency: None }, now).unwrap().result
}

fn race(seed: u64) -> (Arc<Engine>, Vec<SlotId>, Vec<(Seq, Entry)>) {
    let engine = Arc::new(Engine::in_memory(&limits(), Arc::new(AllowAll)));
    let now = TimestampMs(1000);
    submit(&engine, Command::AddParties { count: PARTIES, facts: PartyFacts::default() }, now).unwrap();
    let facts = SlotFacts {
        programme: ProgrammeId(1),
        dose: Dose(0),
        product: ProductId(1),
        pool: PoolId(1),
        starts_at: TimestampMs(9_000_000),
    };
    let specs = [1, 2, 3].map(|n| SlotSpec { centre: CentreKey(n), capacity: Units::new(n).unwrap(), facts });
    let Ok(Outcome::Published { slots, .. }) = submit(&engine, Command::Publish { slots: &specs, note: b"" }, now)
    else {
        panic!("not published")
    };
    let start = Arc::new(Barrier::new(usize::try_from(THREADS).unwrap()));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (engine, slots, start) = (Arc::clone(&engine), slots.clone(), Arc::clone(&start));
            std::thread::spawn(move || {
                let mut random = Random(seed * 1000 + u64::from(thread) + 1);
                start.wait();
                for _ in 0..ROUNDS {
                    act(&engine, &slots, &mut random);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let journal = engine.journal_so_far();
    (engine, slots, journal)
}

fn act(engine: &Engine, slots: &[SlotId], random: &mut Random) {
    let now = TimestampMs(1000);
    let mut slot = || slots[usize::try_from(random.below(3)).unwrap()];
    let (one, other) = (slot(), slot());
    let party = u32::try_from(random.below(u64::from(PARTIES))).unwrap();
    let claims = [
        Claim { party: PartyId(party), slot: one, dose: Dose(1) },
        Claim { party: PartyId((party + 1) % PARTIES), slot: other, dose: Dose(1) },
    ];
    let claims = &claims[..1 + usize::try_from(random.below(2)).unwrap()];
    if random.below(8) == 0 {
        let capacity = Units::new(1 + u32::try_from(random.below(4)).unwrap()).unwrap();
        let _ = submit(engine, Command::Resize { slot: one, capacity }, now);
        return;
    }
    let ttl = Duration::from_secs(1);
    // Now and then the slot is kept for offers; an offer takes its unit either way.
    let _ = engine.reserve(one, ReservedFor::Waitlist, random.below(4) == 0);
    let offer = random.below(3) == 0;
    let hold =
        if offer { Command::Offer { claim: claims[0], ttl, note: b"who" } } else { Command::Hold { claims, ttl } };
    let Ok(Outcome::Held { claims, .. }) = submit(engine, hold, now) else {
        return;
    };
    let hold = claims[0].number;
    match random.below(5) {
        0 => drop(submit(engine, Command::Release { hold }, now)),
        1 => drop(submit(engine, Command::Expire { hold }, TimestampMs(2000))),
        _ => {
            let _ = submit(engine, Command::Confirm { hold }, now);
            let _ = submit(engine, Command::Move { booking: hold, to: other, by: By::Holder }, now);
            for claim in &claims {
                let _ = submit(engine, Command::Cancel { booking: claim.number, by: By::Holder }, now);
            }
            if let Some(view) = engine.booking(hold).and_then(|view| view.link) {
                let _ = submit(engine, Command::Cancel { booking: view, by: By::Holder }, now);
            }
        }
    }
}

fn counts(engine: &Engine, slot: SlotId) -> (u64, u64, u64) {
    let counts = engine.counts(slot).unwrap();
    (counts.capacity().get().into(), counts.held().get().into(), counts.booked().get().into())
}

// rule: JNL-1
// rule: CAP-1
// rule: PTY-1
// rule: HLD-1
#[test]
fn a_journal_cut_after_any_entry_replays_to_a_state_that_could_have_been() {
    for seed in 1..=3 {
        let (engine, slots, journal) = race(seed);
        assert!(journal.len() > 500, "seed {seed}: only {} entries, nothing was raced", journal.len());
        let mut ledger = Ledger::new(Duration::from_secs(60));
        for (cut, (seq, entry)) in journal.iter().enumerate() {
            ledger.apply(*seq, entry);
            assert!(ledger.findings().is_empty(), "seed {seed}, cut after {seq}: {:?}", ledger.findings());
            // The real replay of the same prefix: refuses what breaks a rule, and counts what the ledger counts.
            let replayed = Engine::from_journal(&limits(), Arc::new(AllowAll), &journal[..=cut])
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            for slot in slots.iter().filter(|_| cut >= 1) {
                assert_eq!(Some(counts(&replayed, *slot)), ledger.slot(*slot), "seed {seed}, cut after {seq}");
            }
        }
        for slot in &slots {
            assert_eq!(Some(counts(&engine, *slot)), ledger.slot(*slot), "CAP-1: memory and journal differ");
        }
    }
}
