//! What the simulator found about starts, each as a test of its own.

use super::*;
use crate::command::{Command, Outcome, Request, SlotFacts, SlotSpec};
use crate::ids::CentreKey;
use crate::journal::tail::Cursor;
use crate::journal::writer::Turn;
use crate::policy::AllowAll;
use crate::testing::disk::MemoryDisk;
use crate::units::Units;

fn config() -> Config {
    let mut config = Config::new("memory:");
    config.limits = Limits { parties_max: 100, slots_max: 100, bookings_max: 100, ..Limits::default() };
    config.journal.buffer_bytes = 4096;
    config.journal.segment_bytes = 16 << 10;
    config
}

fn start(disk: &MemoryDisk, config: &Config) -> Result<(Engine, Parts, ReplayReport), OpenError> {
    Engine::assemble(Arc::new(disk.clone()), None, config, Arc::new(AllowAll), &Clock::start, &mut |_| {})
}

fn note(engine: &Engine, bytes: usize) -> Seq {
    let request = Request { command: Command::Note { note: &vec![7; bytes] }, idempotency: None };
    let told = engine.submit(&request, engine.now()).unwrap();
    told.result.unwrap();
    told.seq
}

/// A new cell with one entry, and a snapshot that has seen it.
fn with_a_snapshot(disk: &MemoryDisk) -> (Engine, Parts) {
    let (engine, mut parts, _) = start(disk, &config()).unwrap();
    note(&engine, 10);
    let _ = parts.writer.turn();
    let taken = engine.begin_snapshot().unwrap().unwrap();
    engine.publish_snapshot(taken).unwrap();
    (engine, parts)
}

/// A process killed between a write and its sync leaves the frame to the operating system. The next start reads it, so it is
/// shown; then the power goes, on every disk that loses what was not synced.
// rule: JNL-2
#[test]
fn what_a_start_has_read_is_durable_before_anything_rests_on_it() {
    for seed in 0..40 {
        let disk = MemoryDisk::new(seed);
        let (engine, mut parts, _) = start(&disk, &config()).unwrap();
        note(&engine, 10);
        let _ = parts.writer.turn();
        note(&engine, 10);
        // The third write that changes something from here on is the sync behind the frame.
        disk.cut_power_in("sync");
        let _ = parts.writer.turn();
        drop((engine, parts));
        disk.restart(true);

        let (engine, mut parts, _) = start(&disk, &config()).unwrap();
        assert_eq!(engine.marks.durable(), Seq(2), "the process was killed, the operating system was not");
        note(&engine, 10);
        let _ = parts.writer.turn();
        drop((engine, parts));
        disk.restart(false);
        let (engine, ..) = start(&disk, &config()).unwrap_or_else(|error| panic!("disk {seed}: {error}"));
        assert_eq!(engine.appended(), Seq(3), "disk {seed}");
    }
}

/// A start needs a segment to begin in, and only a cell that has started can trim its log.
// rule: JNL-5
#[test]
fn a_spent_budget_does_not_keep_a_cell_from_starting() {
    let disk = MemoryDisk::new(1);
    let mut config = config();
    config.journal.log_bytes_max = 8 * config.journal.segment_bytes;
    let mut slot = None;
    for n in 1..30 {
        let (engine, mut parts, _) = start(&disk, &config).unwrap_or_else(|error| panic!("start {n}: {error}"));
        if slot.is_none() {
            let spec = SlotSpec { centre: CentreKey(1), capacity: Units::ONE, facts: SlotFacts::default() };
            let command = Command::Publish { slots: &[spec], note: b"" };
            let told = engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap();
            let Ok(Outcome::Published { slots, .. }) = told.result else { panic!("not published") };
            slot = slots.first().copied();
        }
        // It settles, so it goes on in what is left, and each start uses a segment up.
        let command = Command::Open { slot: slot.unwrap() };
        engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap().result.unwrap();
        assert_eq!(parts.writer.turn(), Turn::Wrote);
        drop((engine, parts));
        disk.restart(true);
    }
}

/// The next snapshot is made from the one before it, so a damaged one must not stay in its place.
// rule: SNP-1
#[test]
fn snapshots_go_on_after_one_was_damaged() {
    let disk = MemoryDisk::new(1);
    let (engine, mut parts) = with_a_snapshot(&disk);
    note(&engine, 10);
    let _ = parts.writer.turn();
    drop((engine, parts));
    disk.restart(true);
    disk.flip_bit(&snapshot_file::name(Seq(1)), 80, 200).unwrap();

    let (engine, _parts, report) = start(&disk, &config()).unwrap();
    assert_eq!((report.snapshot, report.snapshots_damaged.len()), (None, 1));
    let taken = engine.begin_snapshot().unwrap().unwrap();
    assert_eq!(engine.publish_snapshot(taken).unwrap().s0, Seq(2));
}

/// Without a snapshot this would pass for a torn tail. The snapshot was named when the log was durable up to there.
// rule: JNL-4
#[test]
fn a_flip_in_the_last_frame_is_damage_by_name_where_a_snapshot_has_seen_it() {
    let disk = MemoryDisk::new(1);
    drop(with_a_snapshot(&disk));
    disk.restart(true);
    disk.flip_bit(&segment::name(1), 64, 130).unwrap();
    match start(&disk, &config()).map(drop).unwrap_err() {
        OpenError::Read(ReadError::Damaged { path, offset, .. }) => {
            assert_eq!((path, offset), (disk.path(&segment::name(1)), 64));
        }
        other => panic!("{other}"),
    }
}

/// Segments are made ahead by a thread of their own, and a file appears before its bytes do.
// rule: SNP-1
#[test]
fn a_segment_that_is_only_being_made_disturbs_no_reader() {
    let disk = MemoryDisk::new(1);
    let (engine, mut parts, _) = start(&disk, &config()).unwrap();
    note(&engine, 10);
    let _ = parts.writer.turn();
    // The one that lies ready is not what this is about.
    disk.remove(&segment::name(2)).unwrap();
    let _half_made = disk.create(&segment::name(2)).unwrap();
    let taken = engine.begin_snapshot().unwrap().unwrap();
    engine.publish_snapshot(taken).unwrap();
    assert_eq!(Cursor::after(Arc::new(disk), Seq(1)).unwrap().place().0, Seq(1));
}

/// The snapshot before is what the next one's catalogue is copied from; one that went bad while the cell serves must not stop
/// every later one, nor be counted as the older of two that the log is trimmed behind.
// rule: SNP-1, SNP-2
#[test]
fn snapshots_go_on_after_one_went_bad_while_serving() {
    let disk = MemoryDisk::new(1);
    let (engine, mut parts) = with_a_snapshot(&disk);
    note(&engine, 20);
    let _ = parts.writer.turn();
    disk.flip_bit(&snapshot_file::name(Seq(1)), 80, 200).unwrap();
    let taken = engine.begin_snapshot().unwrap().unwrap();
    let report = engine.publish_snapshot(taken).unwrap();
    assert_eq!((report.s0, report.set_aside), (Seq(2), 1));
    assert_eq!(snapshot_file::list(&disk).unwrap(), [Seq(2)]);
    drop((engine, parts));
    disk.restart(true);
    let mut notes = 0;
    let (_, _, report) =
        Engine::assemble(Arc::new(disk), None, &config(), Arc::new(AllowAll), &Clock::start, &mut |_| notes += 1)
            .unwrap();
    assert_eq!((report.snapshot, notes), (Some(Seq(2)), 2), "the catalogue is whole");
}

/// A write that fails for want of room says nothing about the snapshot before.
// rule: SNP-1
#[test]
fn a_full_disk_does_not_condemn_the_snapshot_before() {
    let disk = MemoryDisk::new(1);
    let (engine, mut parts) = with_a_snapshot(&disk);
    note(&engine, 20);
    let _ = parts.writer.turn();
    for space in (0..400).step_by(20) {
        disk.set_space(Some(space));
        engine.begin_snapshot().unwrap_err();
        assert_eq!(snapshot_file::list(&disk).unwrap(), [Seq(1)], "{space} bytes");
    }
}

// rule: JNL-3
#[test]
fn after_a_failed_sync_nothing_is_acknowledged_though_the_next_would_succeed() {
    let disk = MemoryDisk::new(1);
    let (engine, mut parts, _) = start(&disk, &config()).unwrap();
    let kept = note(&engine, 10);
    assert_eq!(parts.writer.turn(), Turn::Wrote);
    let lost = note(&engine, 10);
    disk.arm(crate::testing::disk::DiskFault::SyncFails);
    assert_eq!(parts.writer.turn(), Turn::Ended);
    assert_eq!(parts.writer.turn(), Turn::Ended);
    assert_eq!(engine.durable(), kept);
    engine.ticket(kept).wait().unwrap();
    engine.ticket(lost).wait().unwrap_err();
    let refused = engine.submit(&Request { command: Command::Note { note: b"x" }, idempotency: None }, engine.now());
    assert!(refused.is_err(), "nothing more is taken");
    let why = engine.stats().journal_failure.unwrap();
    assert!(why.contains("segment 1, offset ") && why.contains("the sync failed"), "{why}");
    drop((engine, parts));
    disk.restart(false);
    let (engine, ..) = start(&disk, &config()).unwrap();
    assert_eq!(engine.durable(), kept);
}

/// What a snapshot comes to that nothing has happened behind: asked again at once, it would be asked for without end.
// rule: SNP-1
#[test]
fn a_start_with_nothing_behind_its_snapshot_has_nothing_to_replay() {
    let disk = MemoryDisk::new(1);
    drop(with_a_snapshot(&disk));
    disk.restart(true);
    let (engine, ..) = start(&disk, &config()).unwrap();
    assert_eq!(engine.snapshot(), Ok(None));
    assert_eq!(engine.snapshot_stats().log_bytes_since, 0);
}

/// The budget is of bytes, and each segment keeps the size it was made with.
// rule: JNL-5
#[test]
fn the_bytes_of_a_log_of_segments_of_two_sizes_are_those_of_its_files() {
    let disk = MemoryDisk::new(1);
    let bytes = || reader::bytes_behind(&disk, Seq(0)).unwrap();
    let mut config = config();
    let mut taken = 0;
    for pages in [8, 3, 5, 4] {
        config.journal.segment_bytes = pages * 4096;
        let (engine, mut parts, _) = start(&disk, &config).unwrap();
        for _ in 0..20 {
            let _ = parts.reserve.make();
            note(&engine, 2000);
            assert_eq!(parts.writer.turn(), Turn::Wrote);
            if let Some(snapshot) = engine.begin_snapshot().unwrap() {
                taken += engine.publish_snapshot(snapshot).unwrap().segments_trimmed;
            }
            assert_eq!(engine.stats().log_bytes, bytes());
        }
        drop((engine, parts));
        disk.restart(true);
    }
    assert!(taken > 10, "{taken} segments were trimmed");
}

/// The log begins behind the older snapshot: with neither whole there is nothing to begin from, and the operator is told why.
// rule: SNP-2
#[test]
fn a_trimmed_log_whose_snapshots_are_damaged_says_what_is_wrong_with_each() {
    let disk = MemoryDisk::new(1);
    let (engine, mut parts) = with_a_snapshot(&disk);
    while engine.trim(&disk).unwrap() == 0 {
        let _ = parts.reserve.make();
        note(&engine, 2000);
        assert_eq!(parts.writer.turn(), Turn::Wrote);
        let taken = engine.begin_snapshot().unwrap().unwrap();
        if engine.publish_snapshot(taken).unwrap().segments_trimmed > 0 {
            break;
        }
    }
    drop((engine, parts));
    disk.restart(true);
    let snapshots = snapshot_file::list(&disk).unwrap();
    for s0 in &snapshots {
        disk.flip_bit(&snapshot_file::name(*s0), 80, 200).unwrap();
    }
    let told = start(&disk, &config()).map(drop).unwrap_err().to_string();
    assert!(told.contains("the log begins at") && told.contains("berth restore"), "{told}");
    for s0 in snapshots {
        assert!(told.contains(&format!("{:020}.snap", s0.0)), "{told}");
    }
}

/// The power goes in each operation of a trim in turn: whatever is left of what was being removed, the next start knows nothing of
/// it, and takes it away.
// rule: SNP-2
#[test]
fn a_trim_cut_off_anywhere_leaves_a_whole_log_and_the_next_start_removes_the_rest() {
    let mut cut_off = 0;
    for operation in 1.. {
        let disk = MemoryDisk::new(operation);
        let (engine, mut parts) = with_a_snapshot(&disk);
        engine.set_removal_step(4096);
        let mut last = Seq(0);
        // Two more snapshots: behind the second of them there are an older one, and segments that nobody needs.
        for snapshot in 1..=2 {
            for _ in 0..20 {
                while parts.reserve.make().unwrap() {}
                last = note(&engine, 2000);
                assert_eq!(parts.writer.turn(), Turn::Wrote);
            }
            let taken = engine.begin_snapshot().unwrap().unwrap();
            if snapshot == 2 {
                disk.cut_power_after(operation);
            }
            let done = engine.publish_snapshot(taken);
            assert_eq!(done.is_err(), disk.is_off().is_some());
            assert!(done.is_err() || snapshot == 1 || done.unwrap().segments_trimmed > 1);
        }
        let off = disk.is_off().is_some();
        drop((engine, parts));
        disk.restart(false);
        let opened = start(&disk, &config()).unwrap_or_else(|error| panic!("operation {operation}: {error}"));
        assert_eq!(opened.2.last, last);
        // All of it, and not only what a start reads behind its snapshot.
        let begin = reader::log_start(&disk).unwrap();
        let whole = reader::read_directory(&disk, CellId(1), begin, &mut |_| Ok(()));
        whole.unwrap_or_else(|error| panic!("operation {operation}: {error}"));
        for dir in [segment::DIR, snapshot_file::DIR] {
            let names = disk.list(dir).unwrap();
            assert!(!names.iter().any(|name| name.ends_with(removal::GONE)), "operation {operation}: {names:?}");
        }
        if !off {
            break;
        }
        cut_off += 1;
    }
    assert!(cut_off > 20, "{cut_off} operations");
}
