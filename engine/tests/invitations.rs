//! Invitations: what spends one, what does not, and two claims for one at the same moment.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Barrier};
use std::time::Duration;

use berth_engine::*;

fn run(engine: &Engine, command: Command<'_>) -> (Outcome, Seq) {
    let told = engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap();
    (told.result.unwrap(), told.seq)
}

const INVITED: PoolId = PoolId(1);
const OPEN: PoolId = PoolId(2);

/// Pool 1 is for who was invited; the cohorts of the facts are how often.
struct ByInvitation;

impl Policy for ByInvitation {
    fn may_claim(&self, _: &PartyFacts, _: &SlotFacts, _: Dose, _: TimestampMs) -> Result<(), PolicyRefusal> {
        Ok(())
    }

    fn may_leave(&self, _: &SlotFacts, _: TimestampMs) -> Result<(), PolicyRefusal> {
        Ok(())
    }

    fn invitations(&self, party: &PartyFacts, slot: &SlotFacts, _: Dose, _: TimestampMs) -> Option<u32> {
        (slot.pool == INVITED).then_some(party.cohorts)
    }

    fn hold_ttl_max(&self) -> Duration {
        Duration::from_secs(600)
    }
}

/// Ten parties, two slots by invitation and one for everybody.
fn seeded(engine: &Engine) -> [SlotId; 3] {
    run(engine, Command::AddParties { count: 10, facts: PartyFacts::default() });
    let starts_at = engine.now().plus(Duration::from_secs(3600));
    let spec = |pool| SlotSpec {
        centre: CentreKey(1),
        capacity: Units::new(100).unwrap(),
        facts: SlotFacts { pool, starts_at, ..SlotFacts::default() },
    };
    let slots = [spec(INVITED), spec(INVITED), spec(OPEN)];
    let (Outcome::Published { slots, .. }, _) = run(engine, Command::Publish { slots: &slots, note: b"" }) else {
        panic!("not published")
    };
    [slots[0], slots[1], slots[2]]
}

fn invite(engine: &Engine, party: u32, times: u32) {
    let facts = PartyFacts { cohorts: times, ..PartyFacts::default() };
    run(engine, Command::ChangeFacts { party: PartyId(party), facts, expected: None, note: b"" });
}

fn tried(engine: &Engine, command: Command<'_>, now: TimestampMs) -> Result<BookingNumber, &'static str> {
    match engine.submit(&Request { command, idempotency: None }, now).unwrap().result {
        Ok(Outcome::Held { claims, .. } | Outcome::Booked { claims } | Outcome::Confirmed { claims }) => {
            Ok(claims[0].number)
        }
        Ok(Outcome::Moved { to, .. }) => Ok(to.number),
        Ok(Outcome::WalkedIn { claim } | Outcome::Cancelled { claim }) => Ok(claim.number),
        Ok(Outcome::Released { claims }) => Ok(claims[0].number),
        Err(Refusal::NotEligible { rule, .. }) => Err(rule),
        other => panic!("{other:?}"),
    }
}

fn claim(party: u32, slot: SlotId, dose: u8) -> [Claim; 1] {
    [Claim { party: PartyId(party), slot, dose: Dose(dose) }]
}

fn book(engine: &Engine, party: u32, slot: SlotId, dose: u8) -> Result<BookingNumber, &'static str> {
    tried(engine, Command::Book { claims: &claim(party, slot, dose) }, engine.now())
}

const SPENT: Result<BookingNumber, &str> = Err(INVITATION_SPENT);

// rule: ELG-3
#[test]
fn an_invitation_is_spent_by_a_booking_and_by_nothing_less() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    config.limits = Limits { parties_max: 100, slots_max: 1000, bookings_max: 10_000, ..Limits::default() };
    (config.journal.segment_bytes, config.journal.buffer_bytes) = (1 << 20, 512 << 10);
    let open = || Engine::open(config.clone(), Arc::new(ByInvitation), &mut |_| {}).unwrap().0;
    let engine = open();
    let [slot, other, everybodys] = seeded(&engine);
    assert_eq!(book(&engine, 0, slot, 1), SPENT, "it was never invited");
    assert!(book(&engine, 0, everybodys, 1).is_ok());

    // Holds that came to nothing have spent nothing; a live one is in the way.
    invite(&engine, 1, 1);
    let ttl = Duration::from_secs(60);
    let now = engine.now();
    let hold = |party, dose, now| tried(&engine, Command::Hold { claims: &claim(party, slot, dose), ttl }, now);
    let held = hold(1, 1, now).unwrap();
    assert_eq!(hold(1, 2, now), SPENT);
    tried(&engine, Command::Release { hold: held }, now).unwrap();
    hold(1, 1, now).unwrap();
    let after = now.plus(Duration::from_secs(61));
    assert_eq!(engine.expire_due(after, 10), 1);
    let held = hold(1, 2, after).unwrap();
    tried(&engine, Command::Confirm { hold: held }, after).unwrap();
    assert_eq!(hold(1, 1, after), SPENT);

    // A move takes the invitation along, within the pool; out of the pool it has spent it.
    let moved = |booking, to| tried(&engine, Command::Move { booking, to, by: By::Holder }, after);
    let there = moved(held, other).unwrap();
    let spent = |engine: &Engine, party| {
        engine.invitations_spent(PartyId(party), ProgrammeId::default(), INVITED, after).unwrap()
    };
    assert_eq!(spent(&engine, 1), 1);
    moved(there, everybodys).unwrap();
    assert_eq!((spent(&engine, 1), book(&engine, 1, slot, 1)), (1, SPENT));
    // Into the pool only by another one.
    invite(&engine, 1, 2);
    let second = book(&engine, 1, slot, 1).unwrap();
    assert_eq!(moved(book(&engine, 1, everybodys, 3).unwrap(), slot), SPENT);

    // What was given up is spent until the administration invites again.
    tried(&engine, Command::Cancel { booking: second, by: By::Holder }, after).unwrap();
    assert_eq!((spent(&engine, 1), book(&engine, 1, slot, 1)), (2, SPENT));
    // At the door as well.
    assert_eq!(tried(&engine, Command::WalkIn { claim: claim(1, slot, 1)[0] }, after), SPENT);
    invite(&engine, 1, 3);
    tried(&engine, Command::WalkIn { claim: claim(1, slot, 1)[0] }, after).unwrap();
    assert_eq!(spent(&engine, 1), 3);

    // And all that after a restart, from log or snapshot.
    engine.snapshot().unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine = open();
    assert_eq!((spent(&engine, 1), spent(&engine, 0)), (3, 0));
    assert_eq!(book(&engine, 1, slot, 4), SPENT);
    assert_eq!(engine.invitations_spent(PartyId(99), ProgrammeId::default(), INVITED, after), None);
}

// rule: ELG-3
#[test]
fn of_two_claims_for_one_invitation_one_wins() {
    let engine =
        Engine::in_memory(&Limits { parties_max: 100, slots_max: 1000, ..Limits::default() }, Arc::new(ByInvitation));
    let [slot, other, _] = seeded(&engine);
    for round in 0..10 {
        invite(&engine, round, 1);
        let start = Barrier::new(2);
        let won: Vec<_> = std::thread::scope(|scope| {
            let race = |slot, dose| {
                let (engine, start) = (&engine, &start);
                scope.spawn(move || {
                    start.wait();
                    book(engine, round, slot, dose)
                })
            };
            let racers = [race(slot, 1), race(other, 2)];
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(won.iter().filter(|told| told.is_ok()).count(), 1, "{won:?}");
        assert_eq!(won.iter().filter(|told| **told == SPENT).count(), 1, "{won:?}");
    }
}
