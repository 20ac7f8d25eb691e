//! What the tests with a journal on disk share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_engine::*;

/// A small cell in `dir`: segments of a MiB, so that a test fills several.
pub(crate) fn config(dir: &Path) -> Config {
    let mut config = Config::new(dir);
    config.limits = Limits { parties_max: 10_000, slots_max: 10_000, bookings_max: 1 << 20, ..Limits::default() };
    config.journal.segment_bytes = 1 << 20;
    config.journal.buffer_bytes = 512 << 10;
    config
}

pub(crate) fn open(config: &Config) -> Engine {
    Engine::open(config.clone(), Arc::new(AllowAll), &mut |_| {}).unwrap().0
}

/// Submits at the engine's own time; a refusal is a test failure, but for the one that every client tries again after.
pub(crate) fn run(engine: &Engine, command: Command<'_>) -> (Outcome, Seq) {
    loop {
        let told = engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap();
        match told.result {
            // Small segments fill faster than a busy machine makes the next.
            Err(Refusal::JournalFull) => std::thread::park_timeout(Duration::from_millis(5)),
            result => return (result.unwrap(), told.seq),
        }
    }
}

/// Creates `parties` parties and one slot of `capacity` units.
pub(crate) fn seed(engine: &Engine, parties: u32, capacity: u32) -> SlotId {
    run(engine, Command::AddParties { count: parties, facts: PartyFacts::default() });
    let facts = SlotFacts { starts_at: engine.now().plus(Duration::from_secs(86_400)), ..SlotFacts::default() };
    let spec = SlotSpec { centre: CentreKey(1), capacity: Units::new(capacity).unwrap(), facts };
    let (Outcome::Published { slots, .. }, _) = run(engine, Command::Publish { slots: &[spec], note: b"a note" })
    else {
        panic!("not published")
    };
    slots[0]
}

pub(crate) fn book(engine: &Engine, party: u32, slot: SlotId) -> (BookingNumber, Seq) {
    let claim = Claim { party: PartyId(party), slot, dose: Dose(1) };
    let (Outcome::Booked { claims }, seq) = run(engine, Command::Book { claims: &[claim] }) else {
        panic!("not booked")
    };
    (claims[0].number, seq)
}
