//! What a start makes of a Redis that is ahead, of another history, or another owner's.

use std::sync::Arc;

use super::*;
use crate::clock::Clock;
use crate::command::{Command, PartyFacts, Request};
use crate::config::Config;
use crate::engine::Engine;
use crate::inventory::Limits;
use crate::journal::reader::read_directory;
use crate::journal::segment;
use crate::open::{Parts, ReplayReport};
use crate::policy::AllowAll;
use crate::testing::disk::MemoryDisk;
use crate::testing::stream::{MemoryRedis, StreamFault};

fn open(disk: &MemoryDisk, redis: &MemoryRedis) -> Result<(Engine, Parts, ReplayReport), OpenError> {
    let mut config = Config::new("memory");
    config.limits = Limits { parties_max: 100_000, ..Limits::default() };
    config.journal.segment_bytes = 1 << 20;
    config.journal.buffer_bytes = 64 << 10;
    Engine::assemble(
        Arc::new(disk.clone()),
        Some(Box::new(redis.connect())),
        &config,
        Arc::new(AllowAll),
        &Clock::start,
        &mut |_| {},
    )
}

/// Every file with what is in it.
fn files(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for dir in ["", segment::DIR] {
        for name in disk.list(dir).unwrap_or_default() {
            let name = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            found.extend(disk.read(&name).ok().map(|bytes| (name, bytes)));
        }
    }
    found
}

/// A run that writes `entries` frames, ships them and is killed.
fn run(disk: &MemoryDisk, redis: &MemoryRedis, entries: u32) {
    let (engine, mut parts, _) = open(disk, redis).unwrap();
    for _ in 0..entries {
        let command = Command::AddParties { count: 1, facts: PartyFacts::default() };
        let _ = engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap();
        parts.writer.turn();
    }
    let mut shipper = parts.shipper.take().unwrap();
    while shipper.turn() == crate::journal::shipper::ShipTurn::Shipped {}
    drop(engine);
    disk.restart(true);
}

/// A disk with the other's `code.key` and nothing else yet.
fn of_the_same_cell(disk: &MemoryDisk, seed: u64) -> MemoryDisk {
    let other = MemoryDisk::new(seed);
    other.write_whole("code.key", &disk.read("code.key").unwrap()).unwrap();
    other
}

// rule: FNC-5
#[test]
fn redis_ahead_of_the_log_is_an_error_that_names_recover_and_writes_nothing() {
    let (disk, redis) = (MemoryDisk::new(1), MemoryRedis::new(1));
    run(&disk, &redis, 3);
    let older = disk.copy();
    run(&disk, &redis, 3);
    let before = redis.head();
    for (disk, log) in [(older, 3), (MemoryDisk::new(2), 0)] {
        let kept = files(&disk);
        let error = open(&disk, &redis).map(|_| ()).unwrap_err();
        match &error {
            OpenError::Fenced { redis: Epoch(2), own: Epoch(1) } if log == 3 => {}
            OpenError::EmptyBehindRedis { redis: Seq(6), .. } if log == 0 => {}
            other => panic!("{log}: {other}"),
        }
        let said = error.to_string();
        let told = ["berth recover", "--into", "--old-owner-is-dead", "--code-key"];
        assert!(told.iter().all(|word| said.contains(word)), "{said}");
        assert_eq!(files(&disk), kept, "something was written");
        assert_eq!(kept.is_empty(), log == 0);
    }
    // With the epochs of both alike only the entries tell.
    let disk = of_the_same_cell(&disk, 3);
    run(&disk, &MemoryRedis::new(9), 1);
    disk.write_whole("epoch", b"0000000009\n").unwrap();
    let error = open(&disk, &redis).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::RedisAhead { redis: Seq(6), log: Seq(1) }), "{error}");
    assert_eq!(redis.head(), before);
}

// rule: FNC-5
#[test]
fn an_older_copy_of_the_directory_is_fenced_at_its_start() {
    let (disk, redis) = (MemoryDisk::new(4), MemoryRedis::new(4));
    run(&disk, &redis, 3);
    let copy = disk.copy();
    run(&disk, &redis, 0);
    let error = open(&copy, &redis).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Fenced { redis: Epoch(2), own: Epoch(1) }), "{error}");
}

// rule: FNC-5
#[test]
fn another_history_as_long_as_the_log_is_an_error() {
    let (disk, redis) = (MemoryDisk::new(5), MemoryRedis::new(5));
    run(&disk, &redis, 3);
    let other = of_the_same_cell(&disk, 6);
    run(&other, &MemoryRedis::new(6), 2);
    run(&other, &MemoryRedis::new(6), 2);
    let error = open(&other, &redis).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::RedisDiverged { redis: Seq(3) }), "{error}");
}

// rule: FNC-8
#[test]
fn a_redis_of_another_cell_is_an_error_and_is_left_as_it_is() {
    let (disk, redis) = (MemoryDisk::new(8), MemoryRedis::new(8));
    run(&disk, &redis, 3);
    let before = redis.head();
    let other = MemoryDisk::new(9);
    for entries in [0, 9] {
        run(&other, &MemoryRedis::new(9), entries);
        let error = open(&other, &redis).map(|_| ()).unwrap_err();
        assert!(matches!(error, OpenError::RedisOtherCell), "{error}");
        assert_eq!(redis.head(), before);
    }
}

// rule: JNL-4
#[test]
fn a_bad_last_frame_that_redis_has_is_damage_and_not_cut() {
    for in_redis in [true, false] {
        let (disk, redis) = (MemoryDisk::new(7), MemoryRedis::new(7));
        run(&disk, &redis, 3);
        if !in_redis {
            redis.wipe();
        }
        let name = segment::name(1);
        let bytes = disk.read(&name).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        disk.flip_bit(&name, end - 30, end - 10).unwrap();
        let damaged = disk.read(&name).unwrap();
        match open(&disk, &redis) {
            Err(OpenError::Read(ReadError::Damaged { what, .. })) if in_redis => {
                assert!(what.contains("Redis holds entries up to 3"), "{what}");
                assert_eq!(disk.read(&name).unwrap(), damaged, "it was cut");
            }
            Ok((_, _, report)) if !in_redis => assert!(report.cut.is_some()),
            other => panic!("in Redis: {in_redis}: {:?}", other.map(|_| ())),
        }
    }
}

/// An owner that was thought to be dead appends and acknowledges until the epoch is taken from it.
// rule: FNC-5
#[test]
fn what_a_living_owner_ships_before_the_epoch_is_taken_is_seen() {
    let (disk, redis) = (MemoryDisk::new(9), MemoryRedis::new(9));
    run(&disk, &redis, 3);
    let (engine, mut parts, _) = open(&disk, &redis).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(disk.copy());
    let tail = read_directory(&*storage, engine.cell(), Seq(0), &mut |_| Ok(())).unwrap();
    let mut stream = redis.connect();
    let met = meet(&mut stream, &storage, &tail, engine.epoch()).unwrap();
    assert_eq!(met, Met { unreachable: None, there: Seq(3) });
    let command = Command::AddParties { count: 1, facts: PartyFacts::default() };
    let _ = engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap();
    parts.writer.turn();
    let mut shipper = parts.shipper.take().unwrap();
    while shipper.turn() == crate::journal::shipper::ShipTurn::Shipped {}
    let error = take(&mut stream, &storage, &tail, Epoch(engine.epoch().0 + 1)).unwrap_err();
    assert!(matches!(error, OpenError::RedisAhead { redis: Seq(4), log: Seq(3) }), "{error}");
}

/// An empty directory would take units that the lost one has sold.
// rule: FNC-5
#[test]
fn an_empty_directory_begins_a_cell_only_when_redis_says_that_it_has_none() {
    let (disk, redis) = (MemoryDisk::new(10), MemoryRedis::new(10));
    redis.arm(StreamFault::Gone);
    let error = open(&disk, &redis).map(|_| ()).unwrap_err();
    assert!(matches!(&error, OpenError::RedisUnknown { why, .. } if why == "nobody answers"), "{error}");
    assert_eq!(files(&disk), []);
    redis.mend();
    redis.connect().take(Epoch(4)).unwrap();
    let error = open(&disk, &redis).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::EmptyBehindOwner { redis: Epoch(4), .. }), "{error}");
    assert_eq!((files(&disk), redis.head().epoch), (Vec::new(), Epoch(4)));
    redis.wipe();
    open(&disk, &redis).unwrap();
}

#[test]
fn a_redis_that_cannot_be_asked_keeps_no_cell_from_starting_that_has_a_directory() {
    let (disk, redis) = (MemoryDisk::new(8), MemoryRedis::new(8));
    run(&disk, &redis, 1);
    redis.arm(StreamFault::Gone);
    let (_, _, report) = open(&disk, &redis).unwrap();
    assert_eq!(report.redis_unreachable.as_deref(), Some("nobody answers"));
    disk.restart(true);
    redis.mend();
    let (engine, _, report) = open(&disk, &redis).unwrap();
    assert_eq!((report.redis_unreachable, redis.head().epoch), (None, engine.epoch()), "the epoch is taken at once");
}
