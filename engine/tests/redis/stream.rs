//! Shipped whole and in order, caught up after an outage, fenced.

use crate::server::{Redis, entries, free_port, patiently, shipped, with_redis};
use crate::support::{book, config, open, seed};
use berth_engine::*;
use redis::Commands;

// rule: FNC-1
#[test]
fn the_stream_holds_the_log_through_outage_wipe_and_restart() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let redis = Redis::start(store.path(), port);
    drop(redis.connection());
    let config = with_redis(data.path(), port);
    let engine = open(&config);
    let slot = seed(&engine, 1000, 1000);
    for party in 0..100 {
        book(&engine, party, slot);
    }
    let seq = shipped(&engine);
    assert_eq!(entries(&mut redis.connection()), (1..=seq).collect::<Vec<_>>());

    // Redis gone: booking goes on and is durable; the lag is told; Redis back: it catches up.
    drop(redis);
    for party in 100..200 {
        let (_, seq) = book(&engine, party, slot);
        engine.ticket(seq).wait().unwrap();
    }
    patiently("the loss is noticed", || (engine.stats().redis.unwrap().connected == 0).then_some(()));
    assert!(engine.stats().redis.unwrap().lag_entries >= 100);
    let redis = Redis::start(store.path(), port);
    let seq = shipped(&engine);
    assert_eq!(entries(&mut redis.connection()), (1..=seq).collect::<Vec<_>>());

    // Wiped: noticed without new entries, and shipped again from the start of the log.
    let () = redis::cmd("FLUSHALL").query(&mut redis.connection()).unwrap();
    patiently("the wipe is healed", || (entries(&mut redis.connection()).len() as u64 == seq).then_some(()));

    // The stream alone removed, its head left: noticed, and shipped again.
    let () = redis.connection().del("berth:1:journal").unwrap();
    patiently("the removal is healed", || (entries(&mut redis.connection()).len() as u64 == seq).then_some(()));

    // A restarted engine goes on where the stream ends, in a new epoch.
    engine.close().unwrap();
    drop(engine);
    let engine = open(&config);
    for party in 200..300 {
        book(&engine, party, slot);
    }
    let seq = shipped(&engine);
    assert_eq!(entries(&mut redis.connection()), (1..=seq).collect::<Vec<_>>());
    let epoch: u32 = redis.connection().hget("berth:1:head", "epoch").unwrap();
    assert_eq!(Epoch(epoch), engine.epoch());
}

/// A copy of the directory started elsewhere, an older owner, or a stream of another history does not ship.
// rule: FNC-1, FNC-3
#[test]
fn an_older_epoch_and_another_history_are_fenced() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    let mut connection = redis.connection();
    let engine = open(&with_redis(data.path(), redis.port));
    seed(&engine, 1000, 1000);
    let before = shipped(&engine);
    let () = connection.hset("berth:1:head", "epoch", 99).unwrap();
    patiently("it is fenced", || (engine.stats().redis.unwrap().fenced == 1).then_some(()));
    assert_eq!(entries(&mut connection).len() as u64, before);
    // Fail-stop: nothing more is acknowledged.
    let command = Command::AddParties { count: 1, facts: PartyFacts::default() };
    assert!(engine.submit(&Request { command, idempotency: None }, engine.now()).is_err());

    // A start that would have another history's stream says so.
    let (other, mut config) = (tempfile::tempdir().unwrap(), config(data.path()));
    config.journal = with_redis(other.path(), redis.port).journal;
    let () = connection.hset("berth:1:head", "epoch", 0).unwrap();
    let opened = Engine::open(config, std::sync::Arc::new(AllowAll), &mut |_| {}).map(|_| ());
    assert!(matches!(opened, Err(OpenError::EmptyBehindRedis { .. })), "{opened:?}");
    assert_eq!(entries(&mut connection).len() as u64, before, "another history was mixed in");
}
