//! Hoarding limits: how much one party may hold, and how often it may let a hold go by.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use berth_engine::*;
use support::{book, config, open, run, seed};

/// Everything is allowed, but for what is here.
struct Limited(HoldLimits);

impl Policy for Limited {
    fn may_claim(&self, _: &PartyFacts, _: &SlotFacts, _: Dose, _: TimestampMs) -> Result<(), PolicyRefusal> {
        Ok(())
    }

    fn may_leave(&self, _: &SlotFacts, _: TimestampMs) -> Result<(), PolicyRefusal> {
        Ok(())
    }

    fn hold_limits(&self) -> HoldLimits {
        self.0
    }

    fn hold_ttl_max(&self) -> Duration {
        Duration::from_secs(600)
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn engine(live_max: u16, expired_per_hour_max: u16) -> (Engine, SlotId) {
    let limits = Limits { parties_max: 100, slots_max: 1000, bookings_max: 10_000, ..Limits::default() };
    let engine = Engine::in_memory(&limits, Arc::new(Limited(HoldLimits { live_max, expired_per_hour_max })));
    let slot = seed(&engine, 10, 100);
    (engine, slot)
}

fn hold(engine: &Engine, claims: &[(u32, u8)], slot: SlotId, now: TimestampMs) -> Result<BookingNumber, Refusal> {
    let claims: Vec<_> =
        claims.iter().map(|(party, dose)| Claim { party: PartyId(*party), slot, dose: Dose(*dose) }).collect();
    let request = Request { command: Command::Hold { claims: &claims, ttl: MINUTE }, idempotency: None };
    match engine.submit(&request, now).unwrap().result? {
        Outcome::Held { claims, .. } => Ok(claims[0].number),
        other => panic!("{other:?}"),
    }
}

fn refused(party: u32, limit: HoardingLimit, max: u16, from: TimestampMs) -> Result<BookingNumber, Refusal> {
    Err(Refusal::Hoarding { party: PartyId(party), limit, max, from })
}

// rule: HLD-2
#[test]
fn a_party_has_so_many_live_holds_and_no_more() {
    let (engine, slot) = engine(2, 0);
    let now = TimestampMs(10_000_000);
    let later = now.plus(Duration::from_secs(10));
    let first = hold(&engine, &[(0, 1)], slot, now).unwrap();
    hold(&engine, &[(0, 2)], slot, later).unwrap();
    let no = refused(0, HoardingLimit::Live, 2, now.plus(MINUTE));
    assert_eq!(hold(&engine, &[(0, 3)], slot, later), no);
    assert_eq!(hold(&engine, &[(5, 1), (0, 3)], slot, later), no, "nor with others");
    assert_eq!(engine.counts(slot).unwrap().held().get(), 2, "they have none of it");
    hold(&engine, &[(1, 1)], slot, later).unwrap();
    // A booking is no hold: whoever confirms may hold again.
    let confirm = Request { command: Command::Confirm { hold: first }, idempotency: None };
    engine.submit(&confirm, later).unwrap().result.unwrap();
    hold(&engine, &[(0, 3)], slot, later).unwrap();
}

// rule: HLD-2
#[test]
fn whoever_lets_holds_expire_waits_until_the_hour_is_over() {
    let (engine, slot) = engine(0, 3);
    let start = TimestampMs(10_000_000);
    let at = |minutes: u64| start.plus(Duration::from_secs(60 * minutes));
    for round in 0..3u64 {
        let held = hold(&engine, &[(0, 1)], slot, at(10 * round)).unwrap();
        if round == 1 {
            // One that is given back in time counts for nothing.
            let release = Request { command: Command::Release { hold: held }, idempotency: None };
            engine.submit(&release, at(10 * round)).unwrap().result.unwrap();
            hold(&engine, &[(0, 1)], slot, at(10 * round)).unwrap();
        }
        assert_eq!(engine.expire_due(at(10 * round + 2), 10), 1);
    }
    let no = refused(0, HoardingLimit::ExpiredPerHour, 3, at(1).plus(HOUR));
    assert_eq!(hold(&engine, &[(0, 1)], slot, at(30)), no);
    assert_eq!(hold(&engine, &[(0, 1)], slot, TimestampMs(at(61).0 - 1)), no);
    let last = hold(&engine, &[(0, 1)], slot, at(61)).unwrap();
    // One whose deadline has passed has expired, whether or not the clock has noticed.
    let no = refused(0, HoardingLimit::ExpiredPerHour, 3, at(11).plus(HOUR));
    assert_eq!(hold(&engine, &[(0, 2)], slot, at(62)), no);
    // To book in one step is no hoarding.
    let claims = [Claim { party: PartyId(0), slot, dose: Dose(2) }];
    run(&engine, Command::Book { claims: &claims });
    assert_eq!(engine.booking(last).unwrap().state, State::Held);
    // A day later nothing of it counts.
    hold(&engine, &[(0, 3)], slot, at(24 * 60)).unwrap();
}

/// The limits are of what is in the journal, so a restart lifts none.
// rule: HLD-2
#[test]
fn a_restart_forgives_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let policy = || Arc::new(Limited(HoldLimits { live_max: 0, expired_per_hour_max: 2 }));
    let open_limited = || Engine::open(config.clone(), policy(), &mut |_| {}).unwrap().0;
    let engine = open_limited();
    let slot = seed(&engine, 10, 10);
    let now = engine.now();
    let later = now.plus(MINUTE * 2);
    for dose in [1, 2] {
        hold(&engine, &[(0, dose)], slot, now).unwrap();
    }
    assert_eq!(engine.expire_due(later, 10), 2);
    let no = refused(0, HoardingLimit::ExpiredPerHour, 2, now.plus(MINUTE).plus(HOUR));
    assert_eq!(hold(&engine, &[(0, 3)], slot, later), no);
    engine.ticket(engine.appended()).wait().unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine = open_limited();
    assert_eq!(hold(&engine, &[(0, 3)], slot, later), no);
    // Nobody else is meant.
    book(&engine, 1, slot);
    engine.snapshot().unwrap().unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine = open_limited();
    assert_eq!(hold(&engine, &[(0, 3)], slot, later), no);
    engine.close().unwrap();
    drop(engine);
    // The limits are the programme's, and not in the journal.
    hold(&open(&config), &[(0, 3)], slot, later).unwrap();
}
