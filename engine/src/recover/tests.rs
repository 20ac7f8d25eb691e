//! Recoveries from a Redis in memory, whole and damaged.

use super::*;
use crate::clock::Clock;
use crate::command::{Command, PartyFacts, Request};
use crate::config::Config;
use crate::engine::Engine;
use crate::inventory::Limits;
use crate::journal::shipper::ShipTurn;
use crate::journal::writer::Turn;
use crate::open::Parts;
use crate::policy::AllowAll;
use crate::testing::disk::MemoryDisk;
use crate::testing::stream::MemoryRedis;

fn assemble(disk: &MemoryDisk, redis: &MemoryRedis) -> Result<(Engine, Parts), OpenError> {
    let mut config = Config::new("memory");
    config.limits = Limits { parties_max: 100_000, ..Limits::default() };
    config.journal.segment_bytes = 1 << 20;
    config.journal.buffer_bytes = 64 << 10;
    let stream = Box::new(redis.connect());
    Engine::assemble(Arc::new(disk.clone()), Some(stream), &config, Arc::new(AllowAll), &Clock::start, &mut |_| {})
        .map(|(engine, parts, _)| (engine, parts))
}

/// Runs of a cell, each with a snapshot, shipped whole.
fn runs(redis: &MemoryRedis, runs: u32) -> MemoryDisk {
    let disk = MemoryDisk::new(1);
    for _ in 0..runs {
        let (engine, mut parts) = assemble(&disk, redis).unwrap();
        let mut shipper = parts.shipper.take().unwrap();
        for _ in 0..20 {
            let command = Command::AddParties { count: 3, facts: PartyFacts::default() };
            let _ = engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap();
            assert_eq!(parts.writer.turn(), Turn::Wrote);
        }
        let taken = engine.begin_snapshot().unwrap().unwrap();
        engine.publish_snapshot(taken).unwrap();
        let command = Command::AddParties { count: 3, facts: PartyFacts::default() };
        let _ = engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap();
        assert_eq!(parts.writer.turn(), Turn::Wrote);
        while shipper.turn() == ShipTurn::Shipped {}
        drop(engine);
        disk.restart(true);
    }
    disk
}

fn recovery(code_key: Option<CodeKey>) -> Recovery {
    Recovery { dir: PathBuf::new(), cell: CellId(1), segment_bytes: 1 << 20, code_key }
}

fn into(redis: &MemoryRedis, disk: &MemoryDisk, code_key: Option<CodeKey>) -> Result<RecoverReport, RecoverError> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    recover_into(&mut redis.connect(), &storage, &recovery(code_key), &mut |_| {})
}

// rule: FNC-6
#[test]
fn a_lost_machine_is_rebuilt_from_the_stream_with_and_without_snapshots() {
    for count in [1, 2, 4] {
        let redis = MemoryRedis::new(2);
        let lost = runs(&redis, count);
        let key = CodeKey::from_text(&String::from_utf8(lost.read("code.key").unwrap()).unwrap()).unwrap();
        let disk = MemoryDisk::new(3);
        let report = into(&redis, &disk, Some(key)).unwrap();
        assert_eq!((report.last, report.epoch), (Seq(u64::from(count) * 21), Epoch(count + 1)));
        assert_eq!(report.base > Seq(0), count > 1, "trimmed behind the older of two snapshots");
        assert!(report.snapshot.is_some());
        let (engine, _) = assemble(&disk, &redis).unwrap();
        assert_eq!(engine.stats().parties, u64::from(count) * 63);
        assert_eq!(engine.codes().encode(crate::BookingNumber(5)), {
            let (old, _) = assemble(&lost.copy(), &MemoryRedis::new(9)).unwrap();
            old.codes().encode(crate::BookingNumber(5))
        });
        // The old owner comes back: it is refused, and so is a start of its directory.
        assert!(matches!(assemble(&lost, &redis), Err(OpenError::Fenced { .. })));
    }
}

// rule: FNC-6
#[test]
fn the_old_owner_is_fenced_before_anything_is_read() {
    let redis = MemoryRedis::new(4);
    runs(&redis, 1);
    let mut seen = Vec::new();
    let storage: Arc<dyn Storage> = Arc::new(MemoryDisk::new(5));
    recover_into(&mut redis.connect(), &storage, &recovery(None), &mut |progress| {
        // Also at the first word, before which nothing was read: the owner cannot append to what is being read.
        assert_eq!(redis.head().epoch, Epoch(2), "{progress:?}");
        seen.push(progress);
    })
    .unwrap();
    assert_eq!(seen[0], Progress::Fenced { epoch: Epoch(2) });
    assert_eq!(seen.last(), Some(&Progress::Journal { seq: Seq(21), of: Seq(21) }));
}

// rule: FNC-6
#[test]
fn a_directory_that_is_not_empty_is_left_alone() {
    let redis = MemoryRedis::new(6);
    let disk = runs(&redis, 1);
    assert!(matches!(into(&redis, &disk, None), Err(RecoverError::NotEmpty { .. })));
    assert_eq!(redis.head().epoch, Epoch(1), "and nobody was fenced");
    assert!(matches!(into(&MemoryRedis::new(7), &MemoryDisk::new(7), None), Err(RecoverError::Nothing)));
}

#[test]
fn a_damaged_snapshot_is_passed_over_and_a_damaged_frame_ends_the_recovery() {
    let redis = MemoryRedis::new(8);
    runs(&redis, 4);
    let newest = redis.head().snapshots[0].s0;
    redis.connect().put_piece(Epoch(9), newest, 1, b"no chunk").unwrap();
    let report = into(&redis, &MemoryDisk::new(8), None).unwrap();
    assert_eq!(report.snapshots_damaged[0].0, newest);
    assert_eq!(report.snapshot, Some(redis.head().snapshots[1].s0));

    redis.spoil_frame(redis.head().last);
    let disk = MemoryDisk::new(9);
    let error = into(&redis, &disk, None).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    // What it left is not served from, and not recovered into.
    assert!(matches!(assemble(&disk, &MemoryRedis::new(1)), Err(OpenError::Recovering { .. })));
    assert!(matches!(into(&redis, &disk, None), Err(RecoverError::NotEmpty { .. })));
}

#[test]
fn a_stream_without_its_snapshots_is_not_taken_for_a_whole_one() {
    let redis = MemoryRedis::new(10);
    runs(&redis, 4);
    for whole in redis.head().snapshots {
        redis.connect().put_piece(Epoch(9), whole.s0, 0, b"").unwrap();
    }
    let error = into(&redis, &MemoryDisk::new(10), None).unwrap_err();
    assert!(error.to_string().contains("no snapshot there can be used"), "{error}");
}

/// Wiped, with an owner that took its epoch again and has shipped nothing yet.
// rule: FNC-6
#[test]
fn an_empty_stream_is_nothing_to_recover_and_its_owner_is_not_fenced() {
    let redis = MemoryRedis::new(11);
    runs(&redis, 1);
    redis.wipe();
    let mut owner = redis.connect();
    // The first call on a dead connection fails.
    let _ = owner.take(Epoch(2));
    owner.take(Epoch(2)).unwrap();
    let disk = MemoryDisk::new(11);
    assert!(matches!(into(&redis, &disk, None), Err(RecoverError::Nothing)));
    assert_eq!(redis.head().epoch, Epoch(2));
    owner.take(Epoch(2)).unwrap();
}

// rule: FNC-6
#[test]
fn of_two_recoveries_into_one_directory_the_second_finds_it_taken() {
    let redis = MemoryRedis::new(12);
    runs(&redis, 1);
    let disk = MemoryDisk::new(12);
    let lock = disk.lock().unwrap();
    assert!(matches!(into(&redis, &disk, None), Err(RecoverError::Open(OpenError::Locked { .. }))));
    assert_eq!(redis.head().epoch, Epoch(1), "and nobody was fenced");
    drop(lock);
    into(&redis, &disk, None).unwrap();
}
