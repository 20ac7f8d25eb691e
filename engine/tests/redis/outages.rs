//! A real Redis that is slow, hangs, is full, evicts, is restarted empty, or failed over to a replica that lost its tail:
//! booking goes on, and the stream comes to be the log again.

use std::time::Duration;

use berth_engine::journal::redis_stream::RedisStream;
use berth_engine::journal::stream::Stream as _;
use berth_engine::*;

use crate::server::{Redis, entries, free_port, patiently, shipped, with_redis};
use crate::support::{book, open, run, seed};

fn redis_stats(engine: &Engine) -> journal::ShipperStats {
    engine.stats().redis.unwrap()
}

fn is_the_log(engine: &Engine, redis: &Redis) {
    let seq = shipped(engine);
    assert_eq!(entries(&mut redis.connection()), (1..=seq).collect::<Vec<_>>());
}

/// Books for `parties` and waits until it is durable, which no Redis can hold up.
fn book_all(engine: &Engine, slot: SlotId, parties: std::ops::Range<u32>) -> Seq {
    let last = parties.map(|party| book(engine, party, slot).1).last().unwrap();
    engine.ticket(last).wait().unwrap();
    last
}

// rule: FNC-2
#[test]
fn a_redis_that_hangs_past_the_time_out_is_left_and_found_again() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    drop(redis.connection());
    let mut config = with_redis(data.path(), redis.port);
    let time = Duration::from_millis(300);
    config.journal.redis.as_mut().unwrap().timeouts = journal::stream::Timeouts { connect: time, answer: time };
    let engine = open(&config);
    let slot = seed(&engine, 1000, 1000);
    shipped(&engine);
    redis.hang(true);
    let last = book_all(&engine, slot, 0..100);
    patiently("the hanging is noticed", || (redis_stats(&engine).errors > 0).then_some(()));
    assert!(!engine.ticket_for(last, Ack::Redis).is_reached());
    let stats = redis_stats(&engine);
    assert!(stats.lag_entries >= 100 && stats.lag_bytes > 0 && stats.lag_nanos > 0, "{stats:?}");
    // What was sent before it hung is done when it goes on; the head tells.
    redis.hang(false);
    engine.ticket_for(last, Ack::Redis).wait().unwrap();
    is_the_log(&engine, &redis);
    // Slow and within the time-out: just slow.
    let errors = redis_stats(&engine).errors;
    let () = redis::cmd("CLIENT").arg("PAUSE").arg(100).query(&mut redis.connection()).unwrap();
    book_all(&engine, slot, 100..200);
    is_the_log(&engine, &redis);
    assert_eq!(redis_stats(&engine).errors, errors);
}

#[test]
fn a_full_redis_refuses_whole_appends_and_is_caught_up_with_when_it_has_room() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = ["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"];
    let redis = Redis::start_with(store.path(), free_port(), &settings);
    drop(redis.connection());
    let config = with_redis(data.path(), redis.port);
    let engine = open(&config);
    let slot = seed(&engine, 1000, 1000);
    for _ in 0..60 {
        run(&engine, Command::Note { note: &vec![1; 100 << 10] });
    }
    let full =
        patiently("it is full", || redis_stats(&engine).last_error.filter(|error| error.contains("out of memory")));
    assert_eq!(full, "Redis is out of memory");
    book_all(&engine, slot, 0..100);
    let stats = redis_stats(&engine);
    assert_eq!(stats.memory_max_bytes, 4 << 20);
    assert!(stats.memory_used_bytes > 0 && stats.lag_entries >= 100, "{stats:?}");
    let there = entries(&mut redis.connection());
    assert_eq!(there, (1..=there.len() as u64).collect::<Vec<_>>(), "no hole, whatever was refused");
    let memory_max = |bytes: &str| {
        let mut set = redis::cmd("CONFIG");
        let () = set.arg("SET").arg("maxmemory").arg(bytes).query(&mut redis.connection()).unwrap();
    };
    memory_max("100mb");
    is_the_log(&engine, &redis);
    // A new owner is let in also when it is full: fencing takes no memory.
    memory_max("1mb");
    let mut newer = RedisStream::new(config.journal.redis.as_ref().unwrap()).unwrap();
    newer.take(Epoch(99)).unwrap();
    patiently("the old one stops", || (engine.stats().journal_stopped == 1).then_some(()));
}

#[test]
fn nothing_is_shipped_to_a_redis_that_evicts_and_serving_goes_on() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = ["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"];
    let redis = Redis::start_with(store.path(), free_port(), &settings);
    drop(redis.connection());
    let config = with_redis(data.path(), redis.port);
    // It is no first start.
    drop(open(&crate::support::config(data.path())));
    let (engine, report) = Engine::open(config, std::sync::Arc::new(AllowAll), &mut |_| {}).unwrap();
    let why = report.redis_unreachable.unwrap();
    assert!(why.contains("allkeys-lru") && why.contains("noeviction"), "{why}");
    let slot = seed(&engine, 1000, 1000);
    book_all(&engine, slot, 0..10);
    assert_eq!(entries(&mut redis.connection()), []);
    let set = |policy: &str| {
        let mut set = redis::cmd("CONFIG");
        let () = set.arg("SET").arg("maxmemory-policy").arg(policy).query(&mut redis.connection()).unwrap();
    };
    set("noeviction");
    is_the_log(&engine, &redis);
    // Changed while connected: found within some looks.
    set("volatile-lru");
    patiently("the change is noticed", || {
        redis_stats(&engine).last_error.filter(|error| error.contains("volatile-lru"))
    });
    // And while there is always something to ship.
    set("noeviction");
    patiently("it is connected again", || (redis_stats(&engine).connected == 1).then_some(()));
    set("allkeys-random");
    let mut parties = 10..1000;
    patiently("the change is noticed under load", || {
        book(&engine, parties.next().expect("it is noticed before there is an idle moment"), slot);
        redis_stats(&engine).last_error.filter(|error| error.contains("allkeys-random"))
    });
}

// rule: FNC-2
#[test]
fn a_failover_to_a_replica_that_lost_its_tail_is_healed() {
    let (data, store, spare) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let master = Redis::start(store.path(), port);
    drop(master.connection());
    let replica = Redis::start_with(spare.path(), free_port(), &["--replicaof", "127.0.0.1", &port.to_string()]);
    let engine = open(&with_redis(data.path(), port));
    let slot = seed(&engine, 1000, 1000);
    book_all(&engine, slot, 0..50);
    let before = shipped(&engine);
    let mut connection = replica.connection();
    patiently("the replica has it", || (entries(&mut connection).last() == Some(&before)).then_some(()));
    let () = redis::cmd("REPLICAOF").arg("NO").arg("ONE").query(&mut connection).unwrap();
    let last = book_all(&engine, slot, 50..100);
    engine.ticket_for(last, Ack::Redis).wait().unwrap();
    // Promoted: it answers where the master did, without the tail.
    drop((master, connection, replica));
    let promoted = Redis::start(spare.path(), port);
    patiently("the loss is noticed", || (redis_stats(&engine).rewinds > 0).then_some(()));
    is_the_log(&engine, &promoted);
    assert!(engine.ticket_for(last, Ack::Redis).is_reached());
    assert_eq!(redis_stats(&engine).stopped, 0);
}

// rule: FNC-2
#[test]
fn a_redis_restarted_empty_in_mid_load_is_filled_again() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let redis = Redis::start(store.path(), port);
    drop(redis.connection());
    let engine = open(&with_redis(data.path(), port));
    let slot = seed(&engine, 1000, 1000);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| book_all(&engine, slot, 0..800));
        drop(redis);
        let empty = tempfile::tempdir().unwrap();
        let redis = Redis::start(empty.path(), port);
        let last = load.join().unwrap();
        engine.ticket_for(last, Ack::Redis).wait().unwrap();
        is_the_log(&engine, &redis);
        drop(redis);
    });
}

/// Nothing is refused for a Redis that is gone until the log that is kept for it has no room left; then what takes units is, and
/// it ends when Redis is back.
// rule: JNL-5, SNP-2
#[test]
fn while_redis_is_gone_claims_are_taken_until_the_logs_budget_is_spent() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let redis = Redis::start(store.path(), port);
    let mut config = with_redis(data.path(), port);
    config.journal.log_bytes_max = 12 << 20;
    let engine = open(&config);
    let slot = seed(&engine, 1000, 1000);
    let before = shipped(&engine);
    drop(redis);
    patiently("it is gone", || (redis_stats(&engine).connected == 0).then_some(()));
    let note = vec![1; 100 << 10];
    let submit =
        |command: Command<'_>| engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap().result;
    let claim = |party: u32| Claim { party: PartyId(party), slot, dose: Dose(1) };
    patiently("the budget is spent", || {
        let full = submit(Command::Note { note: &note }) == Err(Refusal::JournalFull);
        (full && engine.stats().journal_starved == 1).then_some(())
    });
    let stats = engine.stats();
    assert!(stats.log_bytes > 10 << 20, "refused with room left: {stats:?}");
    assert_eq!(submit(Command::Book { claims: &[claim(1)] }), Err(Refusal::JournalFull));
    // No snapshot helps: Redis lacks what they would trim.
    for _ in 0..2 {
        submit(Command::Open { slot }).unwrap();
        // There is another once the change is durable.
        let taken = patiently("another snapshot", || engine.snapshot().unwrap());
        assert_eq!(taken.segments_trimmed, 0);
    }
    assert_eq!(
        (redis_stats(&engine).shipped, submit(Command::Note { note: &note })),
        (before, Err(Refusal::JournalFull))
    );
    let _redis = Redis::start(store.path(), port);
    shipped(&engine);
    for _ in 0..2 {
        submit(Command::Open { slot }).unwrap();
        shipped(&engine);
        engine.snapshot().unwrap().unwrap();
    }
    patiently("there is room", || submit(Command::Book { claims: &[claim(1)] }).ok());
    assert_eq!(engine.stats().journal_starved, 0);
}

/// A start asks with little patience, whatever the shipper is given; and says whom it asked, without user or password.
#[test]
fn a_redis_that_hangs_holds_no_start_up_for_long() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    drop(redis.connection());
    let mut config = with_redis(data.path(), redis.port);
    drop(open(&config));
    let settings = config.journal.redis.as_mut().unwrap();
    settings.url = format!("redis://someone:sesame-17@127.0.0.1:{}", redis.port);
    let time = Duration::from_secs(100_000);
    settings.timeouts = journal::stream::Timeouts { connect: time, answer: time };
    redis.hang(true);
    let (engine, report) = Engine::open(config, std::sync::Arc::new(AllowAll), &mut |_| {}).unwrap();
    let why = report.redis_unreachable.unwrap();
    assert_eq!(why, format!("127.0.0.1:{}: no connection within 2000 ms", redis.port));
    drop(engine);
}
