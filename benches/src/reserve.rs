//! The engine under measure: hold + confirm by distinct parties over random slots, journal encode and keys included.

use std::sync::Arc;
use std::time::Duration;

use berth_engine::{
    AllowAll, CentreKey, Claim, Command, Dose, Engine, Idempotency, IdempotencyKey, Limits, Outcome, PartyFacts,
    PartyId, Request, SlotFacts, SlotId, SlotSpec, TimestampMs, Units,
};

/// The time at which everything in a bench happens.
pub const NOW: TimestampMs = TimestampMs(1_800_000_000_000);

/// An in-memory engine with `parties` parties and `slots` slots of enough capacity.
///
/// # Panics
/// If the engine refuses what a bench sets up.
#[must_use]
pub fn engine(parties: usize, slots: usize) -> (Engine, Vec<SlotId>) {
    let limits = Limits { idempotency_keys_max: usize::MAX, bookings_max: 1 << 32, ..Limits::default() };
    let engine = Engine::in_memory(&limits, Arc::new(AllowAll));
    let submit = |command| {
        let request = Request { command, idempotency: None };
        engine.submit(&request, NOW).expect("an in-memory journal never stops").result.expect("nothing to refuse")
    };
    let count = u32::try_from(parties).expect("fewer parties than 2^32");
    submit(Command::AddParties { count, facts: PartyFacts::default() });
    let facts = SlotFacts { starts_at: NOW.plus(Duration::from_secs(86_400)), ..SlotFacts::default() };
    let spec = SlotSpec { centre: CentreKey(1), capacity: Units::MAX, facts };
    let mut numbers = Vec::new();
    for chunk in vec![spec; slots].chunks(10_000) {
        let Outcome::Published { slots, .. } = submit(Command::Publish { slots: chunk, note: b"" }) else {
            unreachable!("a publish answers Published")
        };
        numbers.extend(slots);
    }
    engine.forget_journal(&mut None);
    (engine, numbers)
}

/// One hold and one confirm under keys; returns the booking number as a checksum. Now and then it empties the journal
/// into `spare`.
///
/// # Panics
/// If the engine refuses.
pub fn hold_confirm(engine: &Engine, party: u32, slot: SlotId, spare: &mut Option<Vec<u8>>) -> u64 {
    let key = |n: u64| {
        let key = u128::from(u64::from(party) * 2 + n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_0C61_5C7D_9E35);
        Some(Idempotency { key: IdempotencyKey(key), fingerprint: 1 })
    };
    let claims = [Claim { party: PartyId(party), slot, dose: Dose(1) }];
    let ttl = Duration::from_secs(300);
    let request = Request { command: Command::Hold { claims: &claims, ttl }, idempotency: key(0) };
    let held = engine.submit(&request, NOW).expect("never stops").result;
    let Ok(Outcome::Held { claims, .. }) = held else { panic!("not held: {held:?}") };
    let hold = claims[0].number;
    let request = Request { command: Command::Confirm { hold }, idempotency: key(1) };
    let confirmed = engine.submit(&request, NOW).expect("never stops").result;
    assert!(confirmed.is_ok(), "{confirmed:?}");
    if party.is_multiple_of(65_536) {
        engine.forget_journal(spare);
    }
    hold.0
}

/// A repeatable sequence of pseudo-random indexes below `n`.
pub fn random(n: usize) -> impl FnMut() -> usize {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % n as u64).unwrap_or(0)
    }
}
