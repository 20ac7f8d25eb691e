//! Shipped whole and in order, caught up after an outage, fenced.

use crate::server::{Redis, entries, free_port, patiently, shipped, with_redis};
use crate::support::{book, config, open, seed};
use berth_engine::journal::frame::Link;
use berth_engine::journal::redis_stream::RedisStream;
use berth_engine::journal::stream::{Stream as _, StreamError, Whole};
use berth_engine::testing::shipping::frames;
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

/// The server's own checks, asked past those of the shipper: who is wrong about epoch, place or link changes nothing, and neither
/// does who would trim behind, keep or begin anew with a snapshot that is not there.
// rule: FNC-1
// rule: FNC-2
// rule: FNC-4
#[test]
fn the_server_refuses_another_epoch_place_or_link_and_a_snapshot_that_is_not_there() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = open(&config(data.path()));
    let slot = seed(&engine, 10, 10);
    for party in 0..5 {
        let (_, seq) = book(&engine, party, slot);
        engine.ticket(seq).wait().unwrap();
    }
    engine.close().unwrap();
    drop(engine);
    let frames = frames(data.path()).unwrap();
    assert!(frames.len() >= 5);
    let redis = Redis::start(store.path(), free_port());
    let mut connection = redis.connection();
    let connect = || {
        let config = RedisConfig::new(format!("redis://127.0.0.1:{}", redis.port), "berth:1");
        RedisStream::new(&config).unwrap()
    };
    let (mut owner, mut other) = (connect(), connect());
    let epoch = Epoch(3);
    owner.identify(17);
    owner.take(epoch).unwrap();
    owner.append(epoch, &frames[..2]).unwrap();
    let before = entries(&mut connection);
    let fenced = Err(StreamError::Fenced { epoch });
    assert_eq!(other.append(Epoch(2), &frames[2..3]), fenced, "an older epoch");
    assert_eq!(other.append(epoch, &frames[2..3]), fenced, "the same epoch of another owner");
    assert_eq!(other.take(epoch).map(|_| ()), fenced);
    // rule: FNC-8
    other.identify(18);
    let other_cell = || Err(StreamError::OtherCell);
    assert_eq!((other.take(Epoch(9)).map(|_| ()), other.head().map(|_| ())), (other_cell(), other_cell()));
    assert_eq!(other.append(Epoch(9), &frames[2..3]), other_cell());
    assert_eq!(owner.head().unwrap().epoch, epoch, "the owner's epoch stands");
    assert_eq!(connect().head().unwrap().epoch, epoch, "who only looks need not say who asks");
    assert_eq!(owner.append(epoch, &frames[1..2]), Err(StreamError::Elsewhere), "a repeat");
    assert_eq!(owner.append(epoch, &frames[3..4]), Err(StreamError::Elsewhere), "a hole");
    let mut forged = frames[2].clone();
    forged.header.previous = Link(7);
    assert_eq!(owner.append(epoch, &[forged]), Err(StreamError::Diverged));
    let last = frames[0].header.last();
    let absent = Whole { s0: last, s1: last, pieces: 1, bytes: 9 };
    assert_eq!(owner.trim(epoch, last), Err(StreamError::NotWhole));
    assert_eq!(owner.keep(epoch, absent), Err(StreamError::NotWhole));
    assert_eq!(owner.install(epoch, last, frames[0].link, Some(absent)), Err(StreamError::NotWhole));
    assert_eq!(entries(&mut connection), before);
    owner.append(epoch, &frames[2..]).unwrap();
    assert_eq!(entries(&mut connection).last().copied(), Some(frames.last().unwrap().header.last().0));
}

/// Two appends are on their way at a time. One that is refused takes the one behind it along, and the answers behind it are of no
/// use; a server that has forgotten the script is given it again.
// rule: FNC-2
#[test]
fn what_follows_a_refused_append_is_refused_and_the_owner_goes_on_from_the_head() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = open(&config(data.path()));
    let slot = seed(&engine, 20, 20);
    for party in 0..10 {
        let (_, seq) = book(&engine, party, slot);
        engine.ticket(seq).wait().unwrap();
    }
    engine.close().unwrap();
    drop(engine);
    let frames = frames(data.path()).unwrap();
    let redis = Redis::start(store.path(), free_port());
    let config = RedisConfig::new(format!("redis://127.0.0.1:{}", redis.port), "berth:1");
    let mut owner = RedisStream::new(&config).unwrap();
    let epoch = Epoch(1);
    owner.take(epoch).unwrap();
    let ends = |frame: usize| frames[frame].header.last();
    owner.send(epoch, &frames[..2]).unwrap();
    owner.send(epoch, &frames[2..4]).unwrap();
    assert_eq!((owner.appended(), owner.appended()), (Ok(()), Ok(())));
    // A hole, what would follow it, and what would follow the head.
    owner.send(epoch, &frames[5..6]).unwrap();
    owner.send(epoch, &frames[6..7]).unwrap();
    assert_eq!(owner.appended(), Err(StreamError::Elsewhere));
    assert!(matches!(owner.appended(), Err(StreamError::Lost(_))), "nothing was sent on this connection");
    assert_eq!(owner.head().unwrap().last, ends(3));
    // Another call in between has its own answer, and the append may be done or not.
    owner.send(epoch, &frames[4..5]).unwrap();
    let head = owner.head().unwrap().last;
    assert!(head == ends(3) || head == ends(4), "{head}");
    patiently("it is done", || (owner.head().unwrap().last == ends(4)).then_some(()));
    owner.append(epoch, &frames[5..6]).unwrap();
    let () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut redis.connection()).unwrap();
    assert!(
        matches!(owner.append(epoch, &frames[6..7]), Err(StreamError::Refused(_))),
        "it was not sent with the call"
    );
    owner.append(epoch, &frames[6..7]).unwrap();
    assert_eq!(owner.head().unwrap().last, ends(6));
}
