//! The shipper against a Redis that fails on purpose: whatever happens, the stream is a prefix of the log.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::command::{Command, PartyFacts, Request};
use crate::config::Config;
use crate::engine::Engine;
use crate::error::Failure;
use crate::inventory::Limits;
use crate::journal::directory::OpenError;
use crate::journal::reader::read_directory;
use crate::journal::stream::{ServerState, Whole};
use crate::journal::watermark::Ack;
use crate::journal::writer::{Turn, Writer};
use crate::open::Parts;
use crate::policy::AllowAll;
use crate::testing::disk::MemoryDisk;
use crate::testing::random::Random;
use crate::testing::stream::{MemoryRedis, StreamFault};

mod lag;

/// A cell on a disk in memory, whose writer and shipper are turned by hand.
pub(super) struct Cell {
    pub(super) disk: MemoryDisk,
    pub(super) redis: MemoryRedis,
    pub(super) engine: Engine,
    pub(super) writer: Writer,
    pub(super) shipper: Shipper,
    pub(super) reserve: Arc<crate::journal::reserve::Reserve>,
}

impl Cell {
    pub(super) fn open(disk: &MemoryDisk, redis: &MemoryRedis) -> Cell {
        Self::try_open(disk, redis).unwrap()
    }

    pub(super) fn try_open(disk: &MemoryDisk, redis: &MemoryRedis) -> Result<Cell, OpenError> {
        let mut config = Config::new("memory");
        config.limits = Limits { parties_max: 100_000, ..Limits::default() };
        config.journal.segment_bytes = 1 << 20;
        config.journal.buffer_bytes = 64 << 10;
        let stream = Box::new(redis.connect());
        let (engine, parts, _) = Engine::assemble(
            Arc::new(disk.clone()),
            Some(stream),
            &config,
            Arc::new(AllowAll),
            &Clock::start,
            &mut |_| {},
        )?;
        let Parts { writer, reserve, shipper, .. } = parts;
        let shipper = shipper.unwrap();
        Ok(Cell { disk: disk.clone(), redis: redis.clone(), engine, writer, shipper, reserve })
    }

    pub(super) fn new(seed: u64) -> Cell {
        Self::open(&MemoryDisk::new(seed), &MemoryRedis::new(seed))
    }

    /// One entry in a frame of its own, durable.
    pub(super) fn write(&mut self) -> Seq {
        let command = Command::AddParties { count: 1, facts: PartyFacts::default() };
        let told = self.engine.submit(&Request { command, idempotency: None }, self.engine.now()).unwrap();
        assert_eq!(self.writer.turn(), Turn::Wrote);
        let _ = self.reserve.make();
        told.seq
    }

    /// Turns and looks until there is nothing to do; false if shipping has stopped.
    pub(super) fn settle(&mut self) -> bool {
        for _ in 0..10_000 {
            match self.shipper.turn() {
                ShipTurn::Shipped | ShipTurn::Lost(_) => {}
                ShipTurn::Idle if self.shipper.look() == ShipTurn::Idle => return true,
                ShipTurn::Idle => {}
                ShipTurn::Stopped => return false,
            }
        }
        panic!("it never comes to rest: {:?}", self.shipper.shared.stats());
    }

    /// The links of the frames behind `base`, in the log and in the stream.
    pub(super) fn frames(&self) -> (Vec<u64>, Vec<u64>) {
        let base = self.redis.head().base;
        let start = reader::log_start(&self.disk).unwrap();
        let mut log = Vec::new();
        let each = &mut |frame: &crate::journal::frame::Frame<'_>| {
            if frame.header.first > base {
                log.push(frame.link.0);
            }
            Ok(())
        };
        read_directory(&self.disk, self.engine.cell(), start, each).unwrap();
        (log, self.redis.frames().iter().map(|frame| frame.link.0).collect())
    }

    /// A snapshot of everything so far.
    pub(super) fn snapshot(&mut self) {
        let taken = self.engine.begin_snapshot().unwrap().expect("something happened since the last");
        self.engine.publish_snapshot(taken).unwrap();
    }

    /// Fills the log by half a segment.
    pub(super) fn fill(&mut self) -> Seq {
        let note = vec![7; 60 << 10];
        let mut last = Seq(0);
        for _ in 0..9 {
            let command = Command::Note { note: &note };
            last = self.engine.submit(&Request { command, idempotency: None }, self.engine.now()).unwrap().seq;
            assert_eq!(self.writer.turn(), Turn::Wrote);
            let _ = self.reserve.make();
        }
        last
    }

    pub(super) fn stats(&self) -> ShipperStats {
        self.shipper.shared.stats()
    }
}

// rule: FNC-2
#[test]
fn a_lost_answer_and_a_lost_append_leave_neither_a_hole_nor_a_duplicate() {
    for fault in [StreamFault::ReplyLost, StreamFault::ConnectionLost] {
        let mut cell = Cell::new(1);
        for _ in 0..3 {
            cell.write();
        }
        assert!(cell.settle());
        cell.write();
        cell.redis.arm(fault);
        assert!(matches!(cell.shipper.turn(), ShipTurn::Lost(_)));
        assert_eq!(cell.redis.hits()[&fault], 1);
        cell.write();
        assert!(cell.settle());
        let (log, stream) = cell.frames();
        assert_eq!((log.len(), &log), (5, &stream), "{fault:?}");
    }
}

// rule: FNC-2
#[test]
fn what_redis_has_lost_is_shipped_again() {
    for fault in [StreamFault::Wiped, StreamFault::LostTail] {
        let mut cell = Cell::new(2);
        let mut last = cell.write();
        assert!(cell.settle());
        for _ in 0..20 {
            last = cell.write();
            assert!(cell.settle());
        }
        assert!(cell.engine.ticket_for(last, Ack::Redis).is_reached());
        cell.redis.arm(fault);
        // Noticed without anything to ship, and told to whoever waits.
        assert!(matches!(cell.shipper.look(), ShipTurn::Lost(_)));
        assert_eq!(cell.shipper.turn(), ShipTurn::Lost(IDLE * 2));
        let lost = cell.redis.head().last < last;
        assert_eq!(cell.shipper.turn(), ShipTurn::Shipped);
        assert_eq!(cell.engine.ticket_for(last, Ack::Redis).is_reached(), !lost, "{fault:?}");
        assert_eq!(cell.stats().rewinds, u64::from(lost));
        assert!(cell.settle());
        assert!(cell.engine.ticket_for(last, Ack::Redis).is_reached());
        let (log, stream) = cell.frames();
        assert_eq!((log.len(), &log), (21, &stream), "{fault:?}");
    }
}

#[test]
fn a_full_redis_and_one_that_is_gone_stop_nobody() {
    for fault in [StreamFault::Full, StreamFault::Gone] {
        let mut cell = Cell::new(3);
        cell.write();
        assert!(cell.settle());
        cell.redis.arm(fault);
        let last = (0..50).map(|_| cell.write()).last().unwrap();
        let mut waits: Vec<_> = (0..6)
            .filter_map(|_| match cell.shipper.turn() {
                ShipTurn::Lost(wait) => Some(wait),
                _ => None,
            })
            .collect();
        waits.dedup();
        assert!(waits.is_sorted() && waits.len() > 2, "{fault:?}: it waits longer each time: {waits:?}");
        let stats = cell.stats();
        assert_eq!(stats.lag_entries, 50, "{fault:?}");
        assert!(fault == StreamFault::Full || stats.connected == 0);
        assert!(stats.lag_bytes > 0 && stats.lag_nanos > 0 && stats.errors > 2);
        cell.redis.mend();
        assert!(cell.settle());
        assert_eq!(cell.stats().shipped, last.0);
        assert_eq!((cell.stats().lag_bytes, cell.stats().lag_nanos), (0, 0));
    }
}

// rule: FNC-3
#[test]
fn an_owner_that_sees_a_newer_epoch_acknowledges_nothing_more() {
    for idle in [true, false] {
        let mut cell = Cell::new(4);
        let before = cell.write();
        assert!(cell.settle());
        let epoch = cell.engine.epoch();
        cell.redis.connect().take(Epoch(epoch.0 + 1)).unwrap();
        let after = if idle { Seq(before.0 + 1) } else { cell.write() };
        assert!(!cell.settle() || idle);
        assert_eq!(cell.shipper.turn(), ShipTurn::Stopped);
        assert_eq!(cell.stats().fenced, 1);
        // In the log already: its waiter may be told. Nothing after it.
        let command = Command::AddParties { count: 1, facts: PartyFacts::default() };
        let refused = cell.engine.submit(&Request { command, idempotency: None }, cell.engine.now());
        assert!(matches!(refused, Err(Failure::JournalStopped { .. })), "{refused:?}");
        assert_eq!(cell.writer.turn(), Turn::Ended);
        assert!(cell.engine.ticket(Seq(after.0 + 1)).wait().is_err());
        assert_eq!(cell.redis.head().last, before);
    }
}

// rule: FNC-3
#[test]
fn of_two_copies_that_take_the_same_epoch_one_is_fenced() {
    let mut cell = Cell::new(5);
    cell.write();
    assert!(cell.settle());
    let epoch = cell.engine.epoch();
    let taken = cell.redis.connect().take(epoch);
    assert_eq!(taken, Err(StreamError::Fenced { epoch }));
    // It itself may come again.
    cell.redis.arm(StreamFault::ConnectionLost);
    cell.write();
    assert!(cell.settle());
}

/// Of another cell, or of a copy of this one that went another way.
// rule: FNC-1
// rule: FNC-8
#[test]
fn another_history_is_not_mixed_in() {
    for copy in [false, true] {
        let redis = MemoryRedis::new(6);
        let first = MemoryDisk::new(6);
        let mut cell = Cell::open(&first, &redis);
        for _ in 0..3 {
            cell.write();
        }
        assert!(cell.settle());
        // It starts while Redis is away: otherwise the start itself would say so.
        let disk = MemoryDisk::new(7);
        if copy {
            disk.write_whole("code.key", &first.read("code.key").unwrap()).unwrap();
        }
        drop(Cell::open(&disk, &MemoryRedis::new(7)));
        disk.restart(true);
        redis.arm(StreamFault::Gone);
        let mut other = Cell::open(&disk, &redis);
        redis.mend();
        for _ in 0..5 {
            other.write();
        }
        assert!(!other.settle());
        assert_eq!((other.stats().fenced, other.stats().stopped), (0, 1), "booking goes on");
        other.write();
        cell.write();
        // Of two copies both would go on selling; another cell is none of the owner's business.
        assert_eq!(cell.settle(), !copy);
        let there = if copy { Seq(3) } else { Seq(4) };
        assert_eq!((cell.stats().fenced, redis.head().last), (u64::from(copy), there));
        // The log is not kept for it any more: it would fill the disk.
        let mut trimmed = 0;
        for _ in 0..4 {
            other.fill();
            let taken = other.engine.begin_snapshot().unwrap().unwrap();
            trimmed += other.engine.publish_snapshot(taken).unwrap().segments_trimmed;
        }
        assert!(trimmed > 0 && reader::log_start(&disk).unwrap() > there);
        // And what cannot be compared any more is still not taken for this log's.
        drop(other);
        disk.restart(true);
        let refused = Cell::try_open(&disk, &redis).map(drop).unwrap_err();
        let said = if copy {
            matches!(refused, OpenError::RedisDiverged { redis: Seq(3) })
        } else {
            matches!(refused, OpenError::RedisOtherCell)
        };
        assert!(said, "{refused}");
        assert_eq!(redis.head().last, there);
        // With a stream that is this log's it is forgotten.
        redis.wipe();
        let mut other = Cell::open(&disk, &redis);
        assert!(other.settle() && other.stats().installs == 1);
        assert!(disk.open(OTHER_HISTORY).is_err());
    }
}

/// Whatever a snapshot covers, Redis still needs it.
// rule: SNP-2
#[test]
fn the_log_is_kept_while_redis_lacks_it() {
    let mut cell = Cell::new(14);
    cell.write();
    assert!(cell.settle());
    cell.redis.arm(StreamFault::Gone);
    for _ in 0..4 {
        cell.fill();
        let _ = cell.shipper.turn();
        let taken = cell.engine.begin_snapshot().unwrap().unwrap();
        assert_eq!(cell.engine.publish_snapshot(taken).unwrap().segments_trimmed, 0);
    }
    cell.redis.mend();
    assert!(cell.settle());
    cell.fill();
    let taken = cell.engine.begin_snapshot().unwrap().unwrap();
    assert!(cell.engine.publish_snapshot(taken).unwrap().segments_trimmed > 0);
}

/// Any accidents in any order: after each calm the stream is the log.
// rule: FNC-2
#[test]
fn through_random_accidents_the_stream_stays_a_prefix_of_the_log_and_comes_to_be_the_log() {
    let mut rewinds = 0;
    for seed in 0..8 {
        let mut random = Random::new(seed);
        let mut cell = Cell::new(seed);
        for step in 0..60 {
            match random.below(10) {
                0 => cell.redis.arm(StreamFault::ALL[usize::try_from(random.below(7)).unwrap()]),
                1 => cell.redis.mend(),
                2..6 => drop(cell.write()),
                6 => drop(cell.shipper.look()),
                7 if random.below(3) == 0 => {
                    cell.fill();
                    if let Some(taken) = cell.engine.begin_snapshot().unwrap() {
                        cell.engine.publish_snapshot(taken).unwrap();
                    }
                }
                _ => drop(cell.shipper.turn()),
            }
            if step % 6 == 0 {
                // Until the log itself is trimmed further than a stream that lost its tail.
                if cell.redis.head().base >= reader::log_start(&cell.disk).unwrap() {
                    let (log, stream) = cell.frames();
                    assert!(log.starts_with(&stream), "seed {seed}");
                }
            }
        }
        cell.redis.mend();
        assert!(cell.settle(), "seed {seed}: {:?}", cell.stats());
        let (log, stream) = cell.frames();
        assert_eq!(log[log.len() - stream.len()..], stream, "seed {seed}");
        let head = cell.redis.head();
        assert!(head.base == Seq(0) || head.usable().is_some(), "seed {seed}: not enough to recover from");
        rewinds += cell.stats().rewinds;
    }
    assert!(rewinds > 0, "no seed lost a tail");
}

// rule: FNC-4
#[test]
fn the_stream_is_not_trimmed_behind_a_snapshot_that_is_not_whole() {
    let mut cell = Cell::new(9);
    for _ in 0..4 {
        cell.write();
    }
    assert!(cell.settle());
    let epoch = cell.engine.epoch();
    let stream = &mut cell.shipper.stream;
    let whole = Whole { s0: Seq(2), s1: Seq(3), pieces: 2, bytes: 2 };
    stream.put_piece(epoch, whole.s0, 0, b"a").unwrap();
    assert_eq!(stream.keep(epoch, whole), Err(StreamError::NotWhole));
    assert_eq!(stream.trim(epoch, Seq(2)), Err(StreamError::NotWhole));
    stream.put_piece(epoch, whole.s0, 1, b"b").unwrap();
    assert_eq!(stream.keep(epoch, Whole { s1: Seq(5), ..whole }), Err(StreamError::NotWhole));
    stream.keep(epoch, whole).unwrap();
    assert_eq!(stream.trim(epoch, Seq(3)), Err(StreamError::NotWhole));
    stream.trim(epoch, Seq(2)).unwrap();
    let head = stream.head().unwrap();
    assert_eq!((head.base, head.last, head.usable()), (Seq(2), Seq(4), Some(&whole)));
    let (log, stream) = cell.frames();
    assert_eq!((log.len(), &log), (2, &stream));
}

// rule: FNC-4
#[test]
fn snapshots_go_to_redis_and_the_stream_is_trimmed_behind_the_older() {
    let mut cell = Cell::new(10);
    cell.fill();
    assert!(cell.settle());
    cell.snapshot();
    let first = cell.engine.appended();
    assert!(cell.settle());
    let head = cell.redis.head();
    assert_eq!((head.snapshots.len(), head.base), (1, Seq(0)), "one snapshot alone trims nothing");
    cell.fill();
    assert!(cell.settle());
    for fault in [StreamFault::ReplyLost, StreamFault::ConnectionLost, StreamFault::Full] {
        cell.snapshot();
        cell.redis.arm(fault);
        for _ in 0..4 {
            let _ = cell.shipper.turn();
        }
        cell.redis.mend();
        assert!(cell.settle());
        let head = cell.redis.head();
        assert_eq!(head.snapshots[0].s0, cell.engine.appended(), "{fault:?}");
        assert_eq!((head.snapshots.len(), head.base), (2, head.snapshots[1].s0));
        assert_eq!(cell.stats().snapshot, head.snapshots[0].s0.0);
        cell.fill();
        assert!(cell.settle());
        let (log, stream) = cell.frames();
        assert_eq!(log, stream);
    }
    assert!(cell.redis.head().base > first);
}

/// Redis lost what the log no longer has.
// rule: FNC-2
#[test]
fn a_head_behind_the_start_of_the_log_is_healed_by_a_snapshot_and_its_head_in_one_step() {
    let mut cell = Cell::new(11);
    for _ in 0..4 {
        cell.fill();
        assert!(cell.settle());
        cell.snapshot();
        assert!(cell.settle());
    }
    let start = reader::log_start(&cell.disk).unwrap();
    assert!(start > Seq(0), "the log was trimmed");
    cell.fill();
    cell.redis.wipe();
    // Lost again on the way, and its pieces with it.
    for _ in 0..4 {
        let _ = cell.shipper.turn();
    }
    cell.redis.wipe();
    assert!(cell.settle());
    let head = cell.redis.head();
    assert_eq!((cell.stats().installs, head.snapshots.len()), (1, 1));
    assert_eq!((head.base, head.usable()), (head.snapshots[0].s0, head.snapshots.first()));
    let (log, stream) = cell.frames();
    assert!(!stream.is_empty() && log == stream);
}

#[test]
fn frames_removed_by_hand_are_shipped_again() {
    let mut cell = Cell::new(13);
    for trimmed in [false, true] {
        for _ in 0..3 {
            cell.fill();
            assert!(cell.settle());
            if trimmed {
                cell.snapshot();
                assert!(cell.settle());
            }
        }
        cell.redis.lose_frames();
        let rewinds = cell.stats().rewinds;
        assert!(cell.settle());
        assert_eq!(cell.stats().rewinds, rewinds + 1);
        let (log, stream) = cell.frames();
        assert_eq!(log, stream);
        assert_eq!(cell.redis.head().last, cell.engine.appended());
    }
    assert_eq!(cell.stats().installs, 1);
}

#[test]
fn in_place_of_a_snapshot_that_cannot_be_read_the_older_one_is_brought_and_that_is_told() {
    let mut cell = Cell::new(12);
    let warns = |cell: &Cell| cell.stats().warnings.iter().any(|why| why.contains("damaged at"));
    cell.fill();
    cell.snapshot();
    let older = cell.engine.appended();
    cell.fill();
    cell.snapshot();
    let spoil = |cell: &Cell, s0: Seq, from: usize| cell.disk.flip_bit(&snapshot::name(s0), from, from + 8).unwrap();
    // Found in its second piece, on the way.
    spoil(&cell, cell.engine.appended(), 120);
    assert!(cell.settle());
    let brought = |cell: &Cell| cell.redis.head().snapshots.iter().map(|whole| whole.s0).collect::<Vec<_>>();
    assert_eq!((brought(&cell), cell.stats().errors), (vec![older], 0), "it ended no turn");
    assert!(warns(&cell));
    cell.fill();
    assert!(cell.settle());
    assert_eq!(cell.redis.head().last, cell.engine.appended(), "frames go on");
    // The next one is whole.
    cell.snapshot();
    assert!(cell.settle());
    assert_eq!(brought(&cell), [cell.engine.appended(), older]);
    assert!(!warns(&cell));
    // Also where the stream begins anew: one that is spoilt from its first byte on.
    let whole = cell.engine.appended();
    cell.fill();
    cell.snapshot();
    spoil(&cell, cell.engine.appended(), 0);
    cell.redis.wipe();
    assert!(cell.settle());
    assert_eq!((brought(&cell), cell.stats().installs), (vec![whole], 1));
    let (log, stream) = cell.frames();
    assert!(warns(&cell) && !stream.is_empty() && log == stream);
}

#[test]
fn a_snapshot_that_could_not_be_read_once_is_brought_later_and_a_damaged_one_is_not() {
    for damaged in [false, true] {
        let mut cell = Cell::new(14);
        cell.fill();
        assert!(cell.settle());
        cell.snapshot();
        let s0 = cell.engine.appended();
        cell.shipper.passed_over.push((s0, damaged));
        assert!(cell.settle());
        assert_eq!(cell.redis.head().snapshots, []);
        // Whenever the server is asked how it stands.
        assert!((0..=ASK_SERVER_EVERY).all(|_| cell.settle()));
        let brought = cell.redis.head().snapshots.iter().map(|whole| whole.s0).collect::<Vec<_>>();
        assert_eq!(brought, if damaged { vec![] } else { vec![s0] });
    }
}

/// Without any that can be read, frames go on, and the stream is not trimmed.
#[test]
fn a_damaged_snapshot_is_not_brought_to_redis() {
    let mut cell = Cell::new(12);
    cell.fill();
    cell.snapshot();
    cell.disk.flip_bit(&snapshot::name(cell.engine.appended()), 200, 2000).unwrap();
    assert!(cell.settle());
    assert_eq!(cell.redis.head().snapshots, []);
    assert!(cell.stats().warnings.iter().any(|why| why.contains("damaged")));
    cell.fill();
    assert!(cell.settle());
    assert_eq!(cell.redis.head().last, cell.engine.appended(), "frames go on");
}

/// A snapshot is on its way for longer than it takes to take two more.
#[test]
fn a_snapshot_that_is_being_brought_stays_until_it_is_there() {
    let mut cell = Cell::new(21);
    cell.fill();
    cell.snapshot();
    let slow = cell.engine.appended();
    while cell.shipper.upload.is_none() {
        assert_eq!(cell.shipper.turn(), ShipTurn::Shipped);
    }
    for _ in 0..3 {
        cell.fill();
        cell.snapshot();
    }
    let there = |cell: &Cell, s0: Seq| cell.disk.open(&snapshot::name(s0)).is_ok();
    assert!(there(&cell, slow) && snapshot::list(&cell.disk).unwrap().len() == 3);
    assert!(cell.settle());
    assert_eq!(cell.stats().last_error, None, "it could be read to its end");
    assert_eq!(cell.redis.head().snapshots[0].s0, cell.engine.appended());
    cell.fill();
    cell.snapshot();
    assert!(!there(&cell, slow) && snapshot::list(&cell.disk).unwrap().len() == 2);
}

/// Behind the newest two alone, what is kept for Redis would be a snapshot without its log.
// rule: SNP-2
#[test]
fn the_log_stays_behind_a_snapshot_that_is_kept_for_redis() {
    let mut cell = Cell::new(22);
    cell.fill();
    cell.snapshot();
    let slow = cell.engine.appended();
    while cell.shipper.upload.is_none() {
        assert_eq!(cell.shipper.turn(), ShipTurn::Shipped);
    }
    for _ in 0..3 {
        cell.fill();
        // Its frames are there long before the snapshot is.
        cell.engine.marks.set_in_redis(cell.engine.appended());
        cell.snapshot();
    }
    let (_, oldest) = crate::journal::reader::segments(&cell.disk).unwrap().swap_remove(0);
    let begins = crate::journal::reader::header(&cell.disk, &oldest).unwrap().unwrap().first;
    assert!(begins <= slow.next(), "the log begins at {begins}, the snapshot is of {slow}");
}

#[test]
fn the_longest_wait_is_bounded() {
    let mut cell = Cell::new(8);
    cell.redis.arm(StreamFault::Gone);
    let longest = (0..20).map(|_| match cell.shipper.turn() {
        ShipTurn::Lost(wait) => wait,
        _ => Duration::MAX,
    });
    assert_eq!(longest.max(), Some(BACKOFF_MAX));
}
