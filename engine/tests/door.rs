//! At the door of a centre: check in, complete, no-show, walk-in; and several bookings of one group given up together.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use berth_engine::testing::Picky;
use berth_engine::*;
use support::{book, config, open, run, seed};

fn submit(engine: &Engine, command: Command<'_>, now: TimestampMs) -> Result<Outcome, Refusal> {
    engine.submit(&Request { command, idempotency: None }, now).unwrap().result
}

fn claim(party: u32, slot: SlotId) -> Claim {
    Claim { party: PartyId(party), slot, dose: Dose(1) }
}

/// Held and booked of a slot.
fn counts(engine: &Engine, slot: SlotId) -> (u32, u32) {
    let counts = engine.counts(slot).unwrap();
    (counts.held().get(), counts.booked().get())
}

fn state(engine: &Engine, number: BookingNumber) -> State {
    engine.booking(number).unwrap().state
}

fn booked(engine: &Engine, parties: &[u32], slot: SlotId) -> Vec<BookingNumber> {
    let claims: Vec<_> = parties.iter().map(|party| claim(*party, slot)).collect();
    let (Outcome::Booked { claims }, _) = run(engine, Command::Book { claims: &claims }) else { panic!("not booked") };
    claims.iter().map(|claim| claim.number).collect()
}

// rule: CAP-3
#[test]
fn several_of_a_group_are_given_up_together_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path()));
    let slot = seed(&engine, 20, 10);
    let family = booked(&engine, &[3, 1, 4, 2], slot);
    let other = booked(&engine, &[7], slot);
    let by = By::Holder;

    let cancel = |bookings: &[BookingNumber]| submit(&engine, Command::CancelGroup { bookings, by }, engine.now());
    let unknown = BookingNumber(999);
    assert_eq!(cancel(&[]), Err(Refusal::GroupSize { found: 0, max: GROUP_CLAIMS_MAX }));
    assert_eq!(cancel(&[other[0]; 17]), Err(Refusal::GroupSize { found: 17, max: GROUP_CLAIMS_MAX }));
    assert_eq!(cancel(&[family[0], family[0]]), Err(Refusal::BookingRepeated { booking: family[0] }));
    assert_eq!(cancel(&[family[0], unknown]), Err(Refusal::UnknownBooking { booking: unknown }));
    let strange = Refusal::NotOfGroup { booking: other[0], hold: family[0] };
    assert_eq!(cancel(&[other[0], family[1]]), Err(strange));
    run(&engine, Command::CheckIn { booking: family[2] });
    let refused = cancel(&[family[3], family[2], family[1]]).unwrap_err();
    let there = Refusal::WrongState { booking: family[2], from: State::CheckedIn, to: State::Cancelled };
    assert_eq!(refused, there);
    assert_eq!(counts(&engine, slot), (0, 5), "none of them went");

    let Ok(Outcome::GroupCancelled { claims }) = cancel(&[family[3], family[0]]) else { panic!("not cancelled") };
    assert_eq!(claims.iter().map(|claim| claim.number).collect::<Vec<_>>(), [family[0], family[3]]);
    assert_eq!(counts(&engine, slot), (0, 3));
    assert!(matches!(cancel(&[family[1]]), Ok(Outcome::Cancelled { .. })), "one of a group is as any other");
    engine.close().unwrap();
    drop(engine);

    let engine = open(&config(dir.path()));
    let found = family.iter().map(|number| state(&engine, *number)).collect::<Vec<_>>();
    assert_eq!(found, [State::Cancelled, State::Cancelled, State::CheckedIn, State::Cancelled]);
    assert_eq!(counts(&engine, slot), (0, 2));
    // Whoever gave it up may book again.
    assert_eq!(booked(&engine, &[3, 2], slot).len(), 2);
}

// rule: IDM-1
#[test]
fn every_outcome_at_the_door_is_told_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 20, 20);
    let group = booked(&engine, &[0, 1, 2], slot);
    let [one, late, served, off, noted] = [3, 4, 5, 6, 7].map(|party| book(&engine, party, slot).0);
    run(&engine, Command::CheckIn { booking: served });
    run(&engine, Command::CheckIn { booking: noted });
    let nothing = engine.party_bookings(PartyId(11)).unwrap().facts;
    let starts_at = engine.slot_facts(slot).unwrap().starts_at;
    let (holder, by) = (By::Holder, By::Administration);
    let commands = [
        Command::CancelGroup { bookings: &group[..2], by },
        Command::CancelGroup { bookings: &group[2..], by: holder },
        Command::CheckIn { booking: one },
        Command::Complete { booking: served },
        Command::NoShow { booking: late },
        Command::CompleteNoted { booking: noted, given_at: starts_at, product: None, note: b"batch" },
        Command::ChangeFacts {
            party: PartyId(11),
            facts: PartyFacts { doses: 1, ..PartyFacts::default() },
            expected: Some(&nothing),
            note: b"",
        },
        Command::Record { kind: 2, bytes: b"sealed", urgent: false },
        Command::WalkIn { claim: claim(9, slot) },
        Command::Cancel { booking: off, by },
    ];
    let request = |at: usize, engine: &Engine| {
        let idempotency = Some(Idempotency { key: IdempotencyKey(at as u128), fingerprint: 7 });
        engine.submit(&Request { command: commands[at], idempotency }, starts_at).unwrap()
    };
    let told: Vec<_> = (0..commands.len()).map(|at| request(at, &engine).result).collect();
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    engine.ticket(engine.appended()).wait().unwrap();
    let again: Vec<_> = (0..commands.len()).map(|at| request(at, &engine)).collect();
    engine.snapshot().unwrap().unwrap();
    engine.close().unwrap();
    drop(engine);
    let from_snapshot = open(&config);
    let later: Vec<_> = (0..commands.len()).map(|at| request(at, &from_snapshot)).collect();
    from_snapshot.close().unwrap();
    drop(from_snapshot);
    std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    let from_log = open(&config);
    let last: Vec<_> = (0..commands.len()).map(|at| request(at, &from_log)).collect();
    for (at, told) in told.iter().enumerate() {
        for repeat in [&again[at], &later[at], &last[at]] {
            assert_eq!((&repeat.result, repeat.replayed), (told, true), "{:?}", commands[at]);
        }
    }
}

/// A dose that was given is known to the policy from the same entry on, and after a start from log or snapshot.
// rule: BKG-1
// rule: SNP-3
#[test]
fn what_was_given_is_known_of_the_party_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let picky = || Arc::new(Picky { hold_ttl_max: Duration::from_secs(60) });
    let open = || Engine::open(config.clone(), picky(), &mut |_| {}).unwrap().0;
    let engine = open();
    let slot = seed(&engine, 5, 3);
    let starts_at = engine.slot_facts(slot).unwrap().starts_at;
    let given = Refusal::NotEligible { party: PartyId(0), slot, rule: "given", from: None };
    let claims = [claim(0, slot)];
    let Ok(Outcome::Booked { claims: made }) = submit(&engine, Command::Book { claims: &claims }, engine.now()) else {
        panic!("not booked")
    };
    let booking = made[0].number;
    let wrong = Refusal::WrongState { booking, from: State::Booked, to: State::Completed };
    assert_eq!(submit(&engine, Command::Complete { booking }, starts_at), Err(wrong));
    let from = TimestampMs(starts_at.0 - 1000);
    let early = Refusal::NotEligible { party: PartyId(0), slot, rule: "early", from: Some(from) };
    assert_eq!(submit(&engine, Command::CheckIn { booking }, engine.now()), Err(early));
    submit(&engine, Command::CheckIn { booking }, starts_at).unwrap();
    let live = engine.party_bookings(PartyId(0)).unwrap();
    assert_eq!((live.bookings.len(), live.facts.doses), (1, 0), "who is there still has the claim");
    submit(&engine, Command::Complete { booking }, starts_at).unwrap();
    engine.ticket(engine.appended()).wait().unwrap();

    let check = |engine: &Engine| {
        let view = engine.party_bookings(PartyId(0)).unwrap();
        let day = u16::try_from(starts_at.0 / 86_400_000).unwrap();
        assert_eq!((view.facts.doses, view.facts.last_dose_day, view.bookings.len()), (1, day, 0));
        assert_eq!(submit(engine, Command::Book { claims: &claims }, engine.now()), Err(given.clone()));
        assert_eq!(counts(engine, slot), (0, 1), "its unit is used up");
        assert_eq!(state(engine, booking), State::Completed);
    };
    check(&engine);
    engine.close().unwrap();
    drop(engine);
    let engine = open();
    check(&engine);
    engine.snapshot().unwrap().unwrap();
    engine.close().unwrap();
    drop(engine);
    check(&open());
}

/// A dose that is told late counts for its own day, and what its entry says beside it is there for whoever follows the log; a
/// correction of the facts too.
// rule: DOS-1
// rule: PTY-2
// rule: SNP-3
#[test]
fn what_is_noted_of_a_dose_and_corrected_is_in_the_log_and_in_the_facts() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let picky = || Arc::new(Picky { hold_ttl_max: Duration::from_secs(60) });
    let open = || Engine::open(config.clone(), picky(), &mut |_| {}).unwrap().0;
    let engine = open();
    let slot = seed(&engine, 5, 3);
    let starts_at = engine.slot_facts(slot).unwrap().starts_at;
    let later = starts_at.plus(Duration::from_secs(3 * 86_400));
    let day = u16::try_from(starts_at.0 / 86_400_000).unwrap();
    let (booking, _) = book(&engine, 0, slot);
    let noted = |engine: &Engine, given_at, note: &[u8], now| {
        submit(engine, Command::CompleteNoted { booking, given_at, product: Some(ProductId(8)), note }, now)
    };
    let wrong = Refusal::WrongState { booking, from: State::Booked, to: State::Completed };
    assert_eq!(noted(&engine, starts_at, b"", later), Err(wrong));
    submit(&engine, Command::CheckIn { booking }, starts_at).unwrap();
    let from = TimestampMs(starts_at.0 - 1000);
    let early = Refusal::NotEligible { party: PartyId(0), slot, rule: "early", from: Some(from) };
    assert_eq!(noted(&engine, TimestampMs(from.0 - 1), b"", later), Err(early), "before the doors opened");
    let long = Refusal::TooMany { what: "bytes of a note", found: 256, max: 255 };
    assert_eq!(noted(&engine, starts_at, &[0; 256], later), Err(long));
    let claim = NumberedClaim { number: booking, claim: claim(0, slot) };
    assert_eq!(noted(&engine, starts_at, &[9; 255], later), Ok(Outcome::Completed { claim }));
    let facts = |engine: &Engine, party| engine.party_bookings(PartyId(party)).unwrap().facts;
    let given = facts(&engine, 0);
    let told = (given.doses, given.product, given.last_dose_day);
    assert_eq!(told, (1, ProductId(8), day), "what it was, on the day on which it was");
    // Somebody who was given one elsewhere since: what is told late of the first is not the last.
    let since = PartyFacts { doses: 2, last_dose_day: day + 1, product: ProductId(9), ..PartyFacts::default() };
    let change = |party, facts, expected: Option<&PartyFacts>, now| {
        submit(&engine, Command::ChangeFacts { party: PartyId(party), facts, expected, note: b"from abroad" }, now)
    };
    let Ok(Outcome::WalkedIn { claim: walked }) =
        submit(&engine, Command::WalkIn { claim: Claim { party: PartyId(1), slot, dose: Dose(1) } }, starts_at)
    else {
        panic!("not taken")
    };
    assert_eq!(change(1, since, None, later), Ok(Outcome::FactsChanged { party: PartyId(1) }));
    assert_eq!(state(&engine, walked.number), State::CheckedIn, "its claim lives on");
    let late = Command::CompleteNoted { booking: walked.number, given_at: starts_at, product: None, note: b"" };
    submit(&engine, late, later).unwrap();
    assert_eq!(facts(&engine, 1), since);
    // Who rests on what is no longer so changes nothing, whether a dose or another correction came between.
    let before = PartyFacts { birth_year: 1980, ..PartyFacts::default() };
    let none = PartyFacts::default();
    assert_eq!(change(0, before, Some(&none), later), Err(Refusal::ChangedMeanwhile { party: PartyId(0) }));
    let corrected = PartyFacts { product: ProductId(3), ..given };
    change(0, corrected, Some(&given), later).unwrap();
    assert_eq!(change(9, corrected, None, later), Err(Refusal::UnknownParty { party: PartyId(9) }));
    submit(&engine, Command::Record { kind: 4, bytes: &[1; RECORD_BYTES_MAX], urgent: false }, later).unwrap();
    let long = Refusal::TooMany { what: "bytes of a record", found: 65_537, max: 65_536 };
    assert_eq!(
        submit(&engine, Command::Record { kind: 4, bytes: &[1; RECORD_BYTES_MAX + 1], urgent: true }, later),
        Err(long)
    );
    engine.ticket(engine.appended()).wait().unwrap();

    let mut seen = Vec::new();
    let mut tail = engine.tail(LogPlace::default()).unwrap();
    while tail.next(&mut |_, _, entry| seen.push(entry.event.clone())).unwrap() {}
    drop(tail);
    use berth_engine::journal::entry::Event;
    let own: Vec<_> = seen
        .iter()
        .filter_map(|event| match event {
            Event::CompletedNoted { note, .. } => Some((21, note.len())),
            Event::FactsChanged { note, .. } => Some((19, note.len())),
            Event::Recorded { kind: 4, bytes } => Some((20, bytes.len())),
            _ => None,
        })
        .collect();
    assert_eq!(own, [(21, 255), (19, 11), (21, 0), (19, 11), (20, RECORD_BYTES_MAX)]);

    let expected = [corrected, since];
    engine.close().unwrap();
    drop(engine);
    let engine = open();
    assert_eq!([0, 1].map(|party| facts(&engine, party)), expected, "from the log");
    engine.snapshot().unwrap().unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine = open();
    assert_eq!([0, 1].map(|party| facts(&engine, party)), expected, "from a snapshot");
}

// rule: NSH-1
// rule: WLK-1
#[test]
fn the_unit_of_who_did_not_come_goes_to_who_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path()));
    let slot = seed(&engine, 5, 1);
    let starts_at = engine.slot_facts(slot).unwrap().starts_at;
    let (booking, _) = book(&engine, 0, slot);
    let walk_in = |party, now| submit(&engine, Command::WalkIn { claim: claim(party, slot) }, now);
    assert!(matches!(walk_in(1, starts_at), Err(Refusal::Full { .. })));
    let before = TimestampMs(starts_at.0 - 1);
    let early = Refusal::NotEligible { party: PartyId(0), slot, rule: "no_show_grace", from: Some(starts_at) };
    assert_eq!(submit(&engine, Command::NoShow { booking }, before), Err(early));
    submit(&engine, Command::NoShow { booking }, starts_at).unwrap();
    assert_eq!(counts(&engine, slot), (0, 0));
    let twice = Refusal::WrongState { booking, from: State::NoShow, to: State::NoShow };
    assert_eq!(submit(&engine, Command::NoShow { booking }, starts_at), Err(twice));

    run(&engine, Command::Close { slot });
    assert!(matches!(walk_in(1, starts_at), Err(Refusal::SlotClosed { .. })));
    run(&engine, Command::Open { slot });
    let Ok(Outcome::WalkedIn { claim: walked }) = walk_in(1, starts_at) else { panic!("not taken") };
    assert_eq!((state(&engine, walked.number), counts(&engine, slot)), (State::CheckedIn, (0, 1)));
    let again =
        Refusal::AlreadyClaimed { party: PartyId(1), booking: walked.number, programme: ProgrammeId(0), dose: Dose(1) };
    assert_eq!(walk_in(1, starts_at), Err(again));
    assert!(matches!(walk_in(9, starts_at), Err(Refusal::UnknownParty { .. })));
}

/// The administration is not bound by the cut-off, and the journal says that it was not the holder.
#[test]
fn the_administration_passes_the_cut_off_and_is_journaled() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let picky = Arc::new(Picky { hold_ttl_max: Duration::from_secs(60) });
    let engine = Engine::open(config, picky, &mut |_| {}).unwrap().0;
    let slot = seed(&engine, 5, 5);
    let facts = engine.slot_facts(slot).unwrap();
    let spec = SlotSpec { centre: CentreKey(2), capacity: Units::ONE, facts };
    let (Outcome::Published { slots, .. }, _) = run(&engine, Command::Publish { slots: &[spec], note: b"" }) else {
        panic!("not published")
    };
    let pair = booked(&engine, &[0, 1, 2], slot);
    let late = facts.starts_at;
    let too_late = |party, rule| Err(Refusal::NotEligible { party: PartyId(party), slot, rule, from: None });
    let cancel = |by| submit(&engine, Command::Cancel { booking: pair[0], by }, late);
    let shift = |by| submit(&engine, Command::Move { booking: pair[1], to: slots[0], by }, late);
    assert_eq!((cancel(By::Holder), shift(By::Holder)), (too_late(0, "cut_off"), too_late(1, "move_cut_off")));
    let group = Command::CancelGroup { bookings: &[pair[2], pair[1]], by: By::Holder };
    assert_eq!(submit(&engine, group, late), too_late(1, "cut_off"));
    cancel(By::Administration).unwrap();
    shift(By::Administration).unwrap();
    let kinds = engine.stats().entries;
    let written = |kind| kinds.iter().find(|(known, _)| *known == kind).unwrap().1;
    assert_eq!((written("group_cancelled"), written("reassigned")), (1, 1));
    assert_eq!((written("cancelled"), written("moved")), (0, 0));
}
