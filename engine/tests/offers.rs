//! Offers and reserved slots: who passes the flag, who does not, and what stands on the disk of it.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use berth_engine::verify::directory;
use berth_engine::*;
use support::{book, config, open, run, seed};

const MINUTE: Duration = Duration::from_secs(60);
const T0: TimestampMs = TimestampMs(10_000_000);

/// Offers to everybody but party 9; holds of one at once and one expired within the hour.
struct Offering;

impl Policy for Offering {
    fn may_claim(&self, _: &PartyFacts, _: &SlotFacts, _: Dose, _: TimestampMs) -> Result<(), PolicyRefusal> {
        Ok(())
    }

    fn may_leave(&self, _: &SlotFacts, _: TimestampMs) -> Result<(), PolicyRefusal> {
        Ok(())
    }

    fn may_be_offered(&self, party: &PartyFacts, _: &SlotFacts, _: Dose, _: TimestampMs) -> Result<(), PolicyRefusal> {
        if party.birth_year == 9 { Err(PolicyRefusal { rule: "not_nine", from: None }) } else { Ok(()) }
    }

    fn hold_limits(&self) -> HoldLimits {
        HoldLimits { live_max: 1, expired_per_hour_max: 1 }
    }

    fn hold_ttl_max(&self) -> Duration {
        MINUTE
    }

    fn offer_ttl_max(&self) -> Duration {
        MINUTE * 60
    }
}

fn engine() -> (Engine, SlotId, SlotId) {
    let limits = Limits { parties_max: 100, slots_max: 1000, bookings_max: 10_000, ..Limits::default() };
    let engine = Engine::in_memory(&limits, Arc::new(Offering));
    let (slot, other) = (seed(&engine, 9, 2), seed(&engine, 0x1, 2));
    let facts = PartyFacts { birth_year: 9, ..PartyFacts::default() };
    let change = Command::ChangeFacts { party: PartyId(9), facts, expected: None, note: b"" };
    run(&engine, change);
    (engine, slot, other)
}

fn ask(engine: &Engine, command: Command<'_>, now: TimestampMs) -> Result<Outcome, Refusal> {
    engine.submit(&Request { command, idempotency: None }, now).unwrap().result
}

fn claim(party: u32, slot: SlotId, dose: u8) -> Claim {
    Claim { party: PartyId(party), slot, dose: Dose(dose) }
}

fn offer(
    engine: &Engine,
    claim: Claim,
    ttl: Duration,
    now: TimestampMs,
) -> Result<(BookingNumber, TimestampMs), Refusal> {
    match ask(engine, Command::Offer { claim, ttl, note: b"for whom" }, now)? {
        Outcome::Held { expires_at, claims } => Ok((claims[0].number, expires_at)),
        other => panic!("{other:?}"),
    }
}

// rule: WTL-2
#[test]
fn nobody_passes_the_flag_but_an_offer_the_door_and_the_administration() {
    let (engine, slot, other) = engine();
    let (booking, _) = book(&engine, 0, other);
    let counts = engine.reserve(slot, ReservedFor::Waitlist, true).unwrap();
    let refused = Err(Refusal::Reserved { slot, counts });
    assert_eq!(ask(&engine, Command::Hold { claims: &[claim(1, slot, 1)], ttl: MINUTE }, T0), refused);
    assert_eq!(ask(&engine, Command::Book { claims: &[claim(1, slot, 1)] }, T0), refused);
    assert_eq!(ask(&engine, Command::Book { claims: &[claim(2, other, 1), claim(1, slot, 1)] }, T0), refused);
    assert_eq!(engine.counts(other).unwrap().booked(), Units::ONE, "a group takes nothing of the other slot");
    let mine = Command::Move { booking, to: slot, by: By::Holder };
    assert_eq!(ask(&engine, mine, T0), refused);

    assert!(ask(&engine, Command::WalkIn { claim: claim(3, slot, 1) }, T0).is_ok());
    assert!(ask(&engine, Command::Move { booking, to: slot, by: By::Administration }, T0).is_ok());
    let full = ask(&engine, Command::Book { claims: &[claim(1, slot, 1)] }, T0);
    assert!(matches!(full, Err(Refusal::Full { .. })), "{full:?}: where nothing is free, that is what is told");
    assert!(matches!(offer(&engine, claim(1, slot, 1), MINUTE, T0), Err(Refusal::Full { .. })));
    assert!(!engine.reserve(slot, ReservedFor::Waitlist, false).unwrap().is_reserved());
    assert_eq!(engine.reserve(SlotId(9_999), ReservedFor::Waitlist, true), None);
}

// rule: WTL-1
#[test]
fn an_offer_is_a_hold_of_one_party_with_the_programmes_own_deadline() {
    let (engine, slot, _) = engine();
    let _ = engine.reserve(slot, ReservedFor::Lottery, true);
    let refusal = offer(&engine, claim(9, slot, 1), MINUTE, T0).unwrap_err();
    assert_eq!(refusal, Refusal::NotEligible { party: PartyId(9), slot, rule: "not_nine", from: None });
    let (hold, expires_at) = offer(&engine, claim(1, slot, 1), MINUTE * 600, T0).unwrap();
    assert_eq!(expires_at, T0.plus(MINUTE * 60), "as long as an offer may stand, which is longer than a hold may");
    let again = offer(&engine, claim(1, slot, 1), MINUTE, T0).unwrap_err();
    assert!(matches!(again, Refusal::AlreadyClaimed { booking, .. } if booking == hold), "{again:?}");
    let (second, _) = offer(&engine, claim(2, slot, 1), MINUTE, T0).unwrap();
    assert!(ask(&engine, Command::Confirm { hold }, T0).is_ok());
    let view = engine.booking(hold).unwrap();
    assert_eq!((view.state, view.offered, view.group_len), (State::Booked, true, 1));
    assert!(matches!(
        ask(&engine, Command::Confirm { hold: second }, T0.plus(MINUTE)),
        Err(Refusal::HoldExpired { .. })
    ));
    assert!(ask(&engine, Command::Expire { hold: second }, T0.plus(MINUTE)).is_ok());
    assert_eq!(engine.counts(slot).unwrap().free(), Units::ONE);
    let long = ask(&engine, Command::Offer { claim: claim(1, slot, 2), ttl: MINUTE, note: &[0; 256] }, T0);
    assert!(matches!(long, Err(Refusal::TooMany { .. })), "{long:?}");
}

/// An offer is neither refused for what its party holds nor counted when it holds again.
// rule: HLD-2
#[test]
fn what_is_offered_is_no_hoarding() {
    let (engine, slot, other) = engine();
    let hold = |dose, now| ask(&engine, Command::Hold { claims: &[claim(1, other, dose)], ttl: MINUTE }, now);
    let (first, _) = offer(&engine, claim(1, slot, 1), MINUTE, T0).unwrap();
    assert!(hold(2, T0).is_ok(), "the offer is no hold of its own");
    assert!(matches!(hold(3, T0), Err(Refusal::Hoarding { .. })), "its own hold is");
    offer(&engine, claim(1, slot, 3), MINUTE, T0).unwrap();
    // Two offers and one hold are let go by: one has expired, as far as the party is to blame.
    let later = T0.plus(MINUTE);
    assert!(ask(&engine, Command::Expire { hold: first }, later).is_ok());
    assert!(ask(&engine, Command::Expire { hold: BookingNumber(first.0 + 2) }, later).is_ok());
    let no = Refusal::Hoarding {
        party: PartyId(1),
        limit: HoardingLimit::ExpiredPerHour,
        max: 1,
        from: later.plus(MINUTE * 60),
    };
    assert_eq!(hold(5, later), Err(no));
    // Of somebody who has let offers go by and nothing else.
    let (lapsed, _) = offer(&engine, claim(2, slot, 1), MINUTE, later).unwrap();
    let after = later.plus(MINUTE);
    assert!(ask(&engine, Command::Expire { hold: lapsed }, after).is_ok());
    assert!(ask(&engine, Command::Hold { claims: &[claim(2, other, 2)], ttl: MINUTE }, after).is_ok());
}

/// A restart from the log and one from a snapshot know who was offered what; the flag is nobody's but its owner's.
// rule: SNP-3
#[test]
fn an_offer_is_known_after_a_restart_and_the_flag_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 5, 3);
    assert!(engine.reserve(slot, ReservedFor::Waitlist, true).unwrap().is_reserved());
    let one = |party| {
        let command = Command::Offer { claim: claim(party, slot, 1), ttl: MINUTE * 10, note: b"entry" };
        let key = Some(Idempotency { key: IdempotencyKey(u128::from(party)), fingerprint: 1 });
        let told = engine.submit(&Request { command, idempotency: key }, engine.now()).unwrap();
        let Ok(Outcome::Held { claims, .. }) = told.result else { panic!("not offered") };
        (claims[0].number, told.seq)
    };
    let (first, seq) = one(1);
    engine.ticket(seq).wait().unwrap();
    engine.snapshot().unwrap().unwrap();
    let (second, _) = one(2);
    let (_, seq) = run(&engine, Command::Confirm { hold: first });
    engine.ticket(seq).wait().unwrap();
    let before = [first, second].map(|number| engine.booking(number).unwrap());
    assert!(before.iter().all(|view| view.offered));
    engine.close().unwrap();
    drop(engine);

    for round in 0..2 {
        if round == 1 {
            std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
        }
        let engine = open(&config);
        let now = [first, second].map(|number| engine.booking(number).unwrap());
        assert_eq!(now.map(|view| (view.offered, view.state)), before.map(|view| (view.offered, view.state)));
        let counts = engine.counts(slot).unwrap();
        assert_eq!((counts.free().get(), counts.held().get(), counts.is_reserved()), (1, 1, false));
        let again = engine.outcome(IdempotencyKey(2)).unwrap();
        assert!(matches!(&again.result, Ok(Outcome::Held { claims, .. }) if claims[0].number == second), "{again:?}");
        engine.close().unwrap();
        drop(engine);
        let files = JournalFiles::open(dir.path()).unwrap();
        let report = directory::verify(&files, Duration::from_secs(60), &mut |_| {}).unwrap();
        assert_eq!(report.findings, []);
    }
}
