//! What an outage does to live holds: it takes no time from them, by one entry that every reader of the journal sees.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::verify::Ledger;
use berth_engine::*;
use support::{book, config, open, seed};

const GRACE: Duration = Duration::from_secs(120);
/// The longest hold there may be.
const LONG: Duration = Duration::from_secs(3600);

fn hold(engine: &Engine, party: u32, slot: SlotId, ttl: Duration, now: TimestampMs) -> BookingNumber {
    let claims = [party, party + 1].map(|party| Claim { party: PartyId(party), slot, dose: Dose(1) });
    let command = Command::Hold { claims: &claims, ttl };
    let told = engine.submit(&Request { command, idempotency: None }, now).unwrap().result.unwrap();
    let Outcome::Held { claims, .. } = told else { panic!("not held") };
    claims[0].number
}

fn confirm(engine: &Engine, hold: BookingNumber, now: TimestampMs) -> Result<Outcome, Refusal> {
    engine.submit(&Request { command: Command::Confirm { hold }, idempotency: None }, now).unwrap().result
}

fn deadline(engine: &Engine, number: BookingNumber) -> TimestampMs {
    engine.booking(number).unwrap().expires_at
}

fn start(config: &Config) -> (Engine, ReplayReport) {
    Engine::open(config.clone(), Arc::new(AllowAll), &mut |_| {}).unwrap()
}

fn entries(config: &Config) -> Vec<(Seq, Entry)> {
    let files = JournalFiles::open(&config.journal.dir).unwrap();
    let mut entries = Vec::new();
    files.entries(&mut |seq, _, entry| entries.push((seq, entry.clone()))).unwrap();
    entries
}

// rule: HLD-5
#[test]
fn an_outage_takes_no_time_from_a_live_hold() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.hold_grace = GRACE;
    let engine = open(&config);
    let slot = seed(&engine, 10, 10);
    let now = engine.now();
    let past = hold(&engine, 0, slot, Duration::from_millis(1), now);
    let near = hold(&engine, 2, slot, Duration::from_secs(60), now.plus(Duration::from_millis(10)));
    let far = hold(&engine, 4, slot, LONG, now.plus(Duration::from_millis(10)));
    let settled = hold(&engine, 6, slot, Duration::from_secs(60), now.plus(Duration::from_millis(10)));
    confirm(&engine, settled, now.plus(Duration::from_millis(10))).unwrap();
    let before = [past, far, settled].map(|number| deadline(&engine, number));
    engine.close().unwrap();
    drop(engine);

    let (engine, report) = start(&config);
    assert_eq!(report.holds_graced, 1, "of a group of two, one hold");
    let until = deadline(&engine, near);
    assert!(until >= now.plus(GRACE), "{until:?}");
    assert_eq!(deadline(&engine, BookingNumber(near.0 + 1)), until, "the whole group");
    assert_eq!([past, far, settled].map(|number| deadline(&engine, number)), before, "nobody else's is touched");
    // The clock's own view of it: not at the first deadline, but at the later.
    assert_eq!(engine.expire_due(now.plus(Duration::from_secs(90)), 100), 1, "only the one that had run out before");
    assert!(matches!(confirm(&engine, past, engine.now()), Err(Refusal::HoldExpired { .. })));
    confirm(&engine, near, now.plus(Duration::from_secs(100))).unwrap();
    engine.close().unwrap();
    drop(engine);

    // Every reader of the journal comes to the same.
    let entries = entries(&config);
    assert_eq!(entries.iter().filter(|(_, entry)| matches!(entry.event, Event::HoldsGraced { .. })).count(), 1);
    let judge = |skipped: bool| {
        let mut ledger = Ledger::new(LONG);
        let mut seqs = (1..).map(Seq);
        let kept = entries.iter().filter(|(_, entry)| !(skipped && matches!(entry.event, Event::HoldsGraced { .. })));
        kept.for_each(|(_, entry)| ledger.apply(seqs.next().unwrap(), entry));
        ledger.findings().iter().map(|finding| finding.rule).collect::<Vec<_>>()
    };
    assert_eq!(judge(false), [""; 0]);
    assert_eq!(judge(true), ["HLD-4", "HLD-4"], "without the entry both confirmations are too late");
}

// rule: HLD-5
// rule: SNP-3
#[test]
fn a_grace_survives_a_restart_from_the_log_and_from_a_snapshot() {
    for with_snapshot in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let engine = open(&config);
        let slot = seed(&engine, 10, 10);
        let number = hold(&engine, 0, slot, Duration::from_secs(60), engine.now());
        engine.close().unwrap();
        drop(engine);
        config.hold_grace = GRACE;
        let (engine, report) = start(&config);
        assert_eq!(report.holds_graced, 1);
        let until = deadline(&engine, number);
        if with_snapshot {
            // Taken at once, its span may hold the entry: the record in it has seen it.
            engine.snapshot().unwrap().unwrap();
        }
        book(&engine, 8, slot);
        engine.close().unwrap();
        drop(engine);
        config.hold_grace = Duration::ZERO;
        let (engine, report) = start(&config);
        assert_eq!((report.snapshot.is_some(), report.holds_graced), (with_snapshot, 0));
        assert_eq!(deadline(&engine, number), until);
        assert_eq!(engine.expire_due(TimestampMs(until.0 - 1), 100), 0);
        assert_eq!(engine.expire_due(until.plus(Duration::from_secs(1)), 100), 1);
    }
}

// rule: IDM-2
#[test]
fn a_repeat_rests_on_the_entry_that_put_its_deadline_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.hold_grace = GRACE;
    let engine = open(&config);
    let slot = seed(&engine, 10, 10);
    let claims = [Claim { party: PartyId(0), slot, dose: Dose(1) }];
    let idempotency = Idempotency { key: IdempotencyKey(7), fingerprint: 7 };
    let command = Command::Hold { claims: &claims, ttl: Duration::from_secs(60) };
    let request = Request { command, idempotency: Some(idempotency) };
    let first = engine.submit(&request, engine.now()).unwrap();
    engine.close().unwrap();
    drop(engine);
    let (engine, _) = start(&config);
    let graced = engine.appended();
    assert_eq!(graced, first.seq.next());
    let repeat = engine.submit(&request, engine.now()).unwrap();
    assert_eq!((repeat.seq, repeat.replayed), (graced, true));
    let until = deadline(&engine, BookingNumber(0));
    assert!(matches!(repeat.result, Ok(Outcome::Held { expires_at, .. }) if expires_at == until));
    assert_eq!(engine.outcome(idempotency.key).unwrap().seq, graced);
}

/// A start that has nobody to be kind to, or is not to be, writes nothing.
#[test]
fn without_live_holds_or_without_grace_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.hold_grace = GRACE;
    let engine = open(&config);
    let slot = seed(&engine, 10, 10);
    engine.close().unwrap();
    drop(engine);
    let (engine, report) = start(&config);
    assert_eq!((report.holds_graced, engine.appended()), (0, Seq(2)));
    hold(&engine, 0, slot, Duration::from_secs(60), engine.now());
    engine.close().unwrap();
    drop(engine);
    config.hold_grace = Duration::ZERO;
    let (engine, report) = start(&config);
    assert_eq!((report.holds_graced, engine.appended()), (0, Seq(3)));
}
