//! A lost machine rebuilt from a real Redis alone, and its old owner refused.

use std::collections::BTreeSet;

use crate::server::{Redis, entries, free_port, patiently, shipped, with_redis};
use crate::support::{book, open, run, seed};
use berth_engine::journal::redis_stream::RedisStream;
use berth_engine::journal::stream::Stream;
use berth_engine::recover::{Recovery, recover};
use berth_engine::*;
use redis::Commands;

fn bookings(engine: &Engine) -> BTreeSet<(u64, u32)> {
    let mut found = BTreeSet::new();
    engine.for_each_booking(&mut |view| {
        if view.state == State::Booked {
            found.insert((view.number.0, view.claim.party.0));
        }
    });
    found
}

fn head(config: &Config) -> journal::stream::Head {
    RedisStream::new(config.journal.redis.as_ref().unwrap()).unwrap().head().unwrap()
}

// rule: FNC-4, FNC-6
#[test]
fn what_was_acknowledged_in_redis_is_there_after_a_recovery_and_the_old_owner_stops() {
    let (data, store, target) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    let config = with_redis(data.path(), redis.port);
    let old = open(&config);
    let slot = seed(&old, 5000, 5000);
    let mut acknowledged = BTreeSet::new();
    let mut last = Seq(0);
    for round in 0..4 {
        for party in round * 500..(round + 1) * 500 {
            let (number, seq) = book(&old, party, slot);
            acknowledged.insert((number.0, party));
            last = seq;
        }
        // Fills segments, so that the log is trimmed too.
        for _ in 0..30 {
            run(&old, Command::Note { note: &vec![1; 100 << 10] });
        }
        old.ticket_for(last, Ack::Redis).wait().unwrap();
        let s0 = old.snapshot().unwrap().unwrap().s0.0;
        patiently("the snapshot is in Redis", || (old.stats().redis.unwrap().snapshot == s0).then_some(()));
    }
    for party in 2000..2100 {
        let (number, seq) = book(&old, party, slot);
        acknowledged.insert((number.0, party));
        last = seq;
    }
    old.ticket_for(last, Ack::Redis).wait().unwrap();
    let found = patiently("the stream is trimmed", || Some(head(&config)).filter(|head| head.base > Seq(0)));
    assert_eq!((found.snapshots.len(), found.base), (2, found.snapshots[1].s0));

    // The machine is thought to be lost; its process lives on.
    let mut stream = RedisStream::new(config.journal.redis.as_ref().unwrap()).unwrap();
    let key = std::fs::read_to_string(data.path().join("code.key")).unwrap();
    let recovery = Recovery {
        dir: target.path().to_owned(),
        cell: config.cell,
        segment_bytes: config.journal.segment_bytes,
        code_key: CodeKey::from_text(&key),
    };
    let report = recover(&mut stream, &recovery, &mut |_| {}).unwrap();
    assert_eq!((report.last, report.snapshot), (last, Some(found.snapshots[0].s0)));
    patiently("the old owner stops", || (old.stats().journal_stopped == 1).then_some(()));
    assert_eq!(old.stats().redis.unwrap().fenced, 1);
    let command = Command::AddParties { count: 1, facts: PartyFacts::default() };
    assert!(old.submit(&Request { command, idempotency: None }, old.now()).is_err());
    let code = old.codes().encode(BookingNumber(7));
    drop(old);

    let new = open(&with_redis(target.path(), redis.port));
    assert_eq!(bookings(&new), acknowledged);
    assert_eq!(new.codes().encode(BookingNumber(7)), code);
    book(&new, 4000, slot);
    assert_eq!(shipped(&new), last.0 + 1);
    // A start of the old directory is refused, in one sentence.
    let again = Engine::open(config, std::sync::Arc::new(AllowAll), &mut |_| {}).map(|_| ());
    assert!(matches!(again, Err(OpenError::Fenced { .. })), "{again:?}");
}

/// The same through every way of losing the stream, with a log that no longer reaches back.
// rule: FNC-2
#[test]
fn a_wiped_redis_whose_log_was_trimmed_is_healed_by_a_snapshot() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    let config = with_redis(data.path(), redis.port);
    let engine = open(&config);
    for _ in 0..3 {
        for _ in 0..30 {
            run(&engine, Command::Note { note: &vec![1; 100 << 10] });
        }
        shipped(&engine);
        engine.snapshot().unwrap().unwrap();
    }
    let mut connection = redis.connection();
    let before: Option<u64> = connection.hget("berth:1:head", "base").unwrap();
    let () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
    let installs = patiently("a snapshot is installed", || {
        Some(engine.stats().redis.unwrap().installs).filter(|installs| *installs > 0)
    });
    let seq = shipped(&engine);
    let head = head(&config);
    assert_eq!((installs, head.last, head.epoch), (1, Seq(seq), engine.epoch()));
    assert!(head.base.0 >= before.unwrap_or(0) && head.usable().is_some(), "{head:?}");
    assert_eq!(entries(&mut connection), (head.base.0 + 1..=seq).collect::<Vec<_>>());

    // A snapshot removed by hand is brought again by the next start.
    let () = connection.del(format!("berth:1:snapshot:{}", head.snapshots[0].s0)).unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine = open(&config);
    patiently("it is there again", || (engine.stats().redis.unwrap().snapshot > 0).then_some(()));
}

/// An idle cell whose stream was begun anew with a snapshot that has everything: there is not one frame, and the next one follows
/// that which the head names.
// rule: FNC-6
#[test]
fn a_stream_without_a_frame_is_recovered_and_gone_on_with() {
    let (data, store, target) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    let config = with_redis(data.path(), redis.port);
    let old = open(&config);
    let slot = seed(&old, 100, 100);
    for party in 0..3 {
        book(&old, party, slot);
        for _ in 0..30 {
            run(&old, Command::Note { note: &vec![1; 100 << 10] });
        }
        shipped(&old);
        old.snapshot().unwrap().unwrap();
    }
    let () = redis::cmd("FLUSHALL").query(&mut redis.connection()).unwrap();
    patiently("a snapshot is installed", || (old.stats().redis.unwrap().installs == 1).then_some(()));
    let last = Seq(shipped(&old));
    assert_eq!((head(&config).base, head(&config).last), (last, last));
    let sold = bookings(&old);
    old.close().unwrap();
    drop((old, data));

    let mut stream = RedisStream::new(config.journal.redis.as_ref().unwrap()).unwrap();
    let recovery = Recovery {
        dir: target.path().to_owned(),
        cell: config.cell,
        segment_bytes: config.journal.segment_bytes,
        code_key: None,
    };
    let report = recover(&mut stream, &recovery, &mut |_| {}).unwrap();
    assert_eq!((report.last, report.frames), (last, 0));
    let config = with_redis(target.path(), redis.port);
    for party in 10..12 {
        let new = open(&config);
        book(&new, party, slot);
        assert_eq!(shipped(&new), new.appended().0);
        assert_eq!((new.stats().redis.unwrap().stopped, bookings(&new).is_superset(&sold)), (0, true));
        new.close().unwrap();
    }
    assert_eq!(head(&config).last, Seq(last.0 + 2));
}
