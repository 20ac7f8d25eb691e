//! The journal on disk: what survives, what is cut, what is refused as damage, and who may open it.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_engine::journal::reader::{ReadError, read_directory};
use berth_engine::journal::storage::Disk;
use berth_engine::*;
use support::{book, config, open, run, seed};

fn newest_used_segment(dir: &Path) -> PathBuf {
    let mut segments: Vec<_> = fs::read_dir(dir.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    segments.into_iter().rfind(|path| fs::read(path).unwrap()[..8] == *b"BERTHSEG").unwrap()
}

/// Where each frame of a segment begins, and where the last ends.
fn frame_starts(segment: &Path) -> Vec<usize> {
    let bytes = fs::read(segment).unwrap();
    let mut at = 64;
    let mut starts = vec![at];
    while let Ok(frame) = journal::frame::Frame::read(&bytes[at..]) {
        at += frame.bytes.len();
        starts.push(at);
    }
    starts
}

fn counts(engine: &Engine, slot: SlotId) -> (u32, u32, u32) {
    let counts = engine.counts(slot).unwrap();
    (counts.capacity().get(), counts.held().get(), counts.booked().get())
}

/// A closed log of `bookings` bookings, each in a frame of its own, on a slot of five units.
fn log_of(bookings: u32) -> (tempfile::TempDir, Config, SlotId) {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 10, 5);
    for party in 0..bookings {
        let (_, seq) = book(&engine, party, slot);
        engine.ticket(seq).wait().unwrap();
    }
    engine.close().unwrap();
    (dir, config, slot)
}

#[test]
fn what_a_ticket_resolved_for_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 10, 5);
    let (kept, _) = book(&engine, 0, slot);
    let (gone, _) = book(&engine, 1, slot);
    let (_, seq) = run(&engine, Command::Cancel { booking: gone, by: By::Holder });
    engine.ticket(seq).wait().unwrap();
    engine.close().unwrap();
    let code = engine.codes().encode(kept);
    drop(engine);

    let mut notes = Vec::new();
    let (engine, report) = Engine::open(config.clone(), Arc::new(AllowAll), &mut |note| {
        notes.push((note.slots.to_vec(), note.note.to_vec()));
    })
    .unwrap();
    assert_eq!((report.entries, report.cut), (5, None));
    assert_eq!(notes, [(vec![slot], b"a note".to_vec())]);
    assert_eq!(counts(&engine, slot), (5, 0, 1));
    assert_eq!(engine.booking(kept).unwrap().state, State::Booked);
    assert_eq!(engine.booking(gone).unwrap().state, State::Cancelled);
    assert_eq!(engine.codes().encode(kept), code, "codes outlive a restart");
    // A new start takes a new epoch and new numbers.
    assert_eq!(report.epoch, Epoch(2));
    let (next, _) = book(&engine, 1, slot);
    assert_eq!(next, BookingNumber(2));
}

#[test]
fn idempotent_outcomes_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 10, 5);
    let claim = [Claim { party: PartyId(3), slot, dose: Dose(1) }];
    let idempotency = Some(Idempotency { key: IdempotencyKey(99), fingerprint: 4 });
    let request =
        Request { command: Command::Hold { claims: &claim, ttl: std::time::Duration::from_secs(9) }, idempotency };
    let first = engine.submit(&request, engine.now()).unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine = open(&config);
    let again = engine.submit(&request, engine.now()).unwrap();
    assert!(again.replayed && !first.replayed);
    assert_eq!(again.result, first.result);
    assert_eq!(engine.outcome(IdempotencyKey(99)).unwrap().result, first.result);
    assert_eq!(counts(&engine, slot), (5, 1, 0));
}

/// Answers, refusals that name a claim, repeats and reads: each says the newest entry it rests on.
// rule: IDM-2
#[test]
fn every_answer_that_shows_a_claim_rests_on_its_newest_entry() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path()));
    let slot = seed(&engine, 10, 5);
    let claim = [Claim { party: PartyId(3), slot, dose: Dose(1) }];
    let idempotency = Some(Idempotency { key: IdempotencyKey(1), fingerprint: 4 });
    let request = Request { command: Command::Book { claims: &claim }, idempotency };
    let first = engine.submit(&request, engine.now()).unwrap();
    let Ok(Outcome::Booked { claims }) = &first.result else { panic!("not booked") };
    let booking = claims[0].number;
    assert_eq!(first.seq, engine.appended());
    assert_eq!(engine.submit(&request, engine.now()).unwrap().seq, first.seq, "a repeat");
    assert_eq!(engine.outcome(IdempotencyKey(1)).unwrap().seq, first.seq, "a look by key");
    assert_eq!(engine.booking(booking).unwrap().seq, first.seq, "a read");
    assert_eq!(engine.party_bookings(PartyId(3)).unwrap().seq, first.seq, "a party's read");
    let again = engine.submit(&Request { idempotency: None, ..request }, engine.now()).unwrap();
    assert!(matches!(again.result, Err(Refusal::AlreadyClaimed { .. })));
    assert_eq!(again.seq, first.seq, "a refusal that names the claim");
    let confirm = Request { command: Command::Confirm { hold: booking }, idempotency: None };
    let told = engine.submit(&confirm, engine.now()).unwrap();
    assert!(matches!(told.result, Err(Refusal::WrongState { from: State::Booked, .. })));
    assert_eq!(told.seq, first.seq, "a refusal that tells its state");

    let (_, cancelled) = run(&engine, Command::Cancel { booking, by: By::Holder });
    assert_eq!(engine.booking(booking).unwrap().seq, cancelled);
    assert_eq!(engine.party_bookings(PartyId(3)).unwrap().seq, cancelled, "an empty list rests on what emptied it");
    let told = engine
        .submit(&Request { command: Command::Cancel { booking, by: By::Holder }, idempotency: None }, engine.now())
        .unwrap();
    assert_eq!(told.seq, cancelled, "a refusal that tells it is gone");
}

#[test]
fn entries_go_on_over_many_segments_and_concurrent_callers() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = Arc::new(open(&config));
    let slot = seed(&engine, 8000, 8000);
    let note = vec![7u8; 100_000];
    let threads: Vec<_> = (0..4u32)
        .map(|thread| {
            let (engine, note) = (Arc::clone(&engine), note.clone());
            std::thread::spawn(move || {
                for round in 0..500 {
                    let (_, seq) = book(&engine, thread * 2000 + round, slot);
                    if round % 50 == 0 {
                        // Fills segments; waits so that the buffer is never the limit.
                        engine.ticket(seq).wait().unwrap();
                        let (_, seq) = run(&engine, Command::Note { note: &note });
                        engine.ticket(seq).wait().unwrap();
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    engine.close().unwrap();
    let stats = engine.stats();
    assert_eq!(stats.durable, stats.appended);
    drop(engine);
    let segments = fs::read_dir(dir.path().join("journal")).unwrap().count();
    assert!(segments > 3, "only {segments} segments");
    let engine = open(&config);
    assert_eq!(counts(&engine, slot), (8000, 0, 2000));
}

/// The last batch cut at every byte: what came before it is all there, what was in it is gone whole.
// rule: JNL-4
#[test]
fn a_tail_torn_at_any_byte_is_cut_and_loses_only_the_last_batch() {
    let (dir, _, slot) = log_of(2);
    let segment = newest_used_segment(dir.path());
    let whole = fs::read(&segment).unwrap();
    let starts = frame_starts(&segment);
    let [start, end] = starts[starts.len() - 2..] else { panic!("no frame") };
    for cut in start..end {
        for garbage in [0u8, 0xA5] {
            let mut torn = whole.clone();
            torn[cut..end].fill(garbage);
            if torn == whole {
                continue;
            }
            let copy = tempfile::tempdir().unwrap();
            copy_directory(dir.path(), copy.path());
            fs::write(copy.path().join("journal").join(segment.file_name().unwrap()), &torn).unwrap();
            let config = support::config(copy.path());
            let (engine, report) = Engine::open(config.clone(), Arc::new(AllowAll), &mut |_| {}).unwrap();
            let expected = if cut == start && garbage == 0 { None } else { Some(start as u64) };
            assert_eq!(report.cut.map(|(_, offset)| offset), expected, "cut at {cut}");
            assert_eq!(counts(&engine, slot), (5, 0, 1), "cut at {cut}");
            if cut % 16 == 0 {
                // The cut is durable and the log goes on behind it.
                book(&engine, 7, slot);
                engine.close().unwrap();
                drop(engine);
                assert_eq!(counts(&open(&config), slot), (5, 0, 2));
            }
        }
    }
}

fn copy_directory(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A flipped bit anywhere before the last batch is damage that names its place, and nothing is written.
// rule: JNL-4
#[test]
fn damage_before_the_tail_is_an_error_that_names_segment_and_offset() {
    let (dir, config, _) = log_of(3);
    let segment = newest_used_segment(dir.path());
    let whole = fs::read(&segment).unwrap();
    let starts = frame_starts(&segment);
    let last = starts[starts.len() - 2];
    for at in (0..last).step_by(3) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(&segment, &flipped).unwrap();
        // The last eight bytes of a segment header are not covered by its checksum and mean nothing.
        if (56..64).contains(&at) {
            continue;
        }
        let error = Engine::open(config.clone(), Arc::new(AllowAll), &mut |_| {}).expect_err("opened damaged");
        let OpenError::Read(ReadError::Damaged { path, offset, .. }) = &error else { panic!("{at}: {error}") };
        let frame = starts.iter().rev().find(|start| **start <= at).copied().unwrap_or(0);
        assert_eq!((path, *offset), (&segment, frame as u64), "{error}");
        assert_eq!(fs::read(&segment).unwrap(), flipped, "a refused start wrote");
    }
}

#[test]
fn a_missing_segment_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    for _ in 0..3 {
        let engine = open(&config);
        let (_, seq) = run(&engine, Command::Note { note: b"x" });
        engine.ticket(seq).wait().unwrap();
    }
    fs::remove_file(dir.path().join("journal/0000000002.seg")).unwrap();
    let error = Engine::open(config, Arc::new(AllowAll), &mut |_| {}).expect_err("opened with a hole");
    assert!(error.to_string().contains("0000000003.seg"), "{error}");
}

#[test]
fn a_start_without_a_write_leaves_nothing_that_a_later_start_stumbles_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    for epoch in 1..5 {
        assert_eq!(open(&config).epoch(), Epoch(epoch), "a start that writes nothing takes its epoch too");
    }
    let engine = open(&config);
    let slot = seed(&engine, 2, 1);
    engine.close().unwrap();
    drop(engine);
    assert_eq!(counts(&open(&config), slot), (1, 0, 0));
}

#[test]
fn a_directory_has_one_owner_one_version_and_one_cell() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let open = |config: &Config| Engine::open(config.clone(), Arc::new(AllowAll), &mut |_| {});
    let owner = open(&config).unwrap();
    assert!(matches!(open(&config), Err(OpenError::Locked { .. })));
    drop(owner);
    let other = Config { cell: CellId(2), ..config.clone() };
    assert!(matches!(open(&other), Err(OpenError::OtherCell { .. })));
    fs::write(dir.path().join("berth.meta"), "layout=9 cell=1\n").unwrap();
    let error = open(&config).expect_err("opened another version");
    assert!(matches!(&error, OpenError::Version { found, .. } if found == "9"), "{error}");

    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("thesis.txt"), "mine").unwrap();
    assert!(matches!(open(&Config::new(foreign.path())), Err(OpenError::Foreign { .. })));
    assert_eq!(fs::read_dir(foreign.path()).unwrap().count(), 1, "a refused start wrote");
}

/// The one that waits reads nothing before the owner has left: what that wrote last is there.
#[test]
fn a_start_that_waits_gets_the_directory_as_its_owner_left_it() {
    let dir = tempfile::tempdir().unwrap();
    let owned = config(dir.path());
    let engine = open(&owned);
    let slot = seed(&engine, 100, 100);
    let patient = Config { lock_wait: Duration::from_secs(60), ..owned.clone() };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| open(&patient));
        // Long enough for it to have begun, on a machine that is not too busy.
        std::thread::park_timeout(Duration::from_millis(100));
        for party in 0..100 {
            book(&engine, party, slot);
        }
        engine.close().unwrap();
        let (last, epoch) = (engine.appended(), engine.epoch());
        // The engine is still there, as its memory would be.
        engine.leave();
        assert!(engine.snapshot().unwrap().is_none(), "it is another's directory by now");
        let next = waiting.join().unwrap();
        assert_eq!((next.appended(), next.epoch()), (last, Epoch(epoch.0 + 1)));
    });
    let impatient = Config { lock_wait: Duration::from_millis(20), ..owned.clone() };
    let _owner = open(&owned);
    let error = Engine::open(impatient, Arc::new(AllowAll), &mut |_| {}).expect_err("it has an owner");
    assert!(matches!(error, OpenError::Locked { waited, .. } if waited == Duration::from_millis(20)), "{error}");
}

/// A buffer that the disk does not empty refuses, and takes again what fits once it is emptied.
#[test]
fn a_full_buffer_refuses_and_changes_nothing() {
    let engine = Engine::in_memory(&config(Path::new("/nowhere")).limits, Arc::new(AllowAll));
    let slot = seed(&engine, 10, 5);
    let note = vec![0u8; 15 << 20];
    let told = |command| engine.submit(&Request { command, idempotency: None }, TimestampMs(1)).unwrap().result;
    while told(Command::Note { note: &note }).is_ok() {}
    while told(Command::Note { note: b"" }).is_ok() {}
    let claim = [Claim { party: PartyId(1), slot, dose: Dose(1) }];
    assert_eq!(told(Command::Book { claims: &claim }), Err(Refusal::JournalFull));
    assert_eq!(counts(&engine, slot), (5, 0, 0));
    assert!(!engine.journal_so_far().is_empty());
    assert!(told(Command::Book { claims: &claim }).is_ok());
}

#[test]
fn a_closed_engine_acknowledges_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path()));
    let slot = seed(&engine, 10, 5);
    engine.close().unwrap();
    let claim = [Claim { party: PartyId(1), slot, dose: Dose(1) }];
    let request = Request { command: Command::Book { claims: &claim }, idempotency: None };
    assert!(engine.submit(&request, engine.now()).is_err());
}

#[test]
fn any_bytes_in_a_segment_are_read_or_refused_and_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("journal")).unwrap();
    let mut state = 1u64;
    for len in (0..4000).step_by(37) {
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        fs::write(dir.path().join("journal/0000000001.seg"), &bytes).unwrap();
        let _ = read_directory(&Disk::new(dir.path(), false), CellId(1), Seq(0), &mut |frame| frame.entries(|_, _| {}));
        let _ = journal::Entry::decode(&bytes);
    }
}

/// Damage in several of the last frames, or a file cut short, is not taken for the one tear a crash can leave.
// rule: JNL-4
#[test]
fn more_than_the_last_frame_or_a_shorter_file_is_damage_not_a_tear() {
    let (dir, config, slot) = log_of(4);
    let segment = newest_used_segment(dir.path());
    let whole = fs::read(&segment).unwrap();
    let starts = frame_starts(&segment);
    let mut flipped = whole.clone();
    for start in &starts[starts.len() - 4..starts.len() - 1] {
        flipped[start + 45] ^= 1;
    }
    let refused = |bytes: &[u8]| {
        fs::write(&segment, bytes).unwrap();
        let error = Engine::open(config.clone(), Arc::new(AllowAll), &mut |_| {}).expect_err("opened damaged");
        assert!(matches!(error, OpenError::Read(ReadError::Damaged { .. })), "{error}");
    };
    refused(&flipped);
    refused(&whole[..starts[starts.len() - 2]]);
    refused(&whole[..whole.len() - 4096]);
    fs::write(&segment, &whole).unwrap();
    assert_eq!(counts(&open(&config), slot), (5, 0, 4));
}

/// A note may hold anything, a whole frame included, and a tear inside it is still a tear.
// rule: JNL-4
#[test]
fn a_frame_inside_a_note_is_not_taken_for_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 10, 5);
    let (_, seq) = book(&engine, 0, slot);
    engine.ticket(seq).wait().unwrap();
    let segment = newest_used_segment(dir.path());
    let first = frame_starts(&segment);
    let note = fs::read(&segment).unwrap()[first[0]..*first.last().unwrap()].to_vec();
    let (_, seq) = run(&engine, Command::Note { note: &note });
    engine.ticket(seq).wait().unwrap();
    engine.close().unwrap();
    drop(engine);
    let starts = frame_starts(&segment);
    let [.., last, end] = starts[..] else { panic!("no frame") };
    let mut torn = fs::read(&segment).unwrap();
    torn[end - 9] ^= 1;
    fs::write(&segment, &torn).unwrap();
    let (engine, report) = Engine::open(config, Arc::new(AllowAll), &mut |_| {}).unwrap();
    assert_eq!(report.cut.map(|(_, offset)| offset), Some(last as u64));
    assert_eq!(counts(&engine, slot), (5, 0, 1));
    assert!(
        fs::read_dir(dir.path().join("journal"))
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().contains(".torn-at-") })
    );
}

/// A start killed between any two steps of making the directory leaves one that the next start completes.
#[test]
fn a_half_made_directory_is_completed() {
    let steps: [&[(&str, &str)]; 5] = [
        &[("LOCK", "")],
        &[("LOCK", ""), ("code.key.new", "0123")],
        &[("LOCK", ""), ("code.key", "000102030405060708090a0b0c0d0e0f\n")],
        &[("LOCK", ""), ("code.key", "000102030405060708090a0b0c0d0e0f\n"), ("berth.meta.new", "lay")],
        &[("lost+found", "")],
    ];
    for files in steps {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let config = config(dir.path());
        let engine = open(&config);
        let slot = seed(&engine, 2, 1);
        engine.close().unwrap();
        drop(engine);
        assert_eq!(counts(&open(&config), slot), (1, 0, 0), "{files:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    drop(open(&config(dir.path())));
    fs::write(dir.path().join("code.key"), "0123\n").unwrap();
    let error = Engine::open(config(dir.path()), Arc::new(AllowAll), &mut |_| {}).expect_err("a short key");
    assert!(error.to_string().contains("code.key"), "{error}");
}

/// Only what is still held has a timer after a restart, and it expires.
// rule: HLD-3
#[test]
fn what_was_held_before_a_restart_expires_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 10, 5);
    let ttl = std::time::Duration::from_secs(5);
    for party in 0..4 {
        let claim = [Claim { party: PartyId(party), slot, dose: Dose(1) }];
        let (Outcome::Held { claims, .. }, _) = run(&engine, Command::Hold { claims: &claim, ttl }) else {
            panic!("not held")
        };
        if party % 2 == 0 {
            run(&engine, Command::Release { hold: claims[0].number });
        }
    }
    engine.close().unwrap();
    drop(engine);
    let engine = open(&config);
    assert_eq!(counts(&engine, slot), (5, 2, 0));
    assert_eq!(engine.expire_due(engine.now(), 100), 0, "not before its deadline");
    let later = engine.now().plus(std::time::Duration::from_secs(60));
    assert_eq!(engine.expire_due(later, 1), 1, "within the budget");
    assert_eq!(engine.expire_due(later, 100), 1);
    assert_eq!(counts(&engine, slot), (5, 0, 0));
}

/// When no further segment can be made, what takes units is refused, what ends them goes on and is durable at once, and
/// service resumes by itself. A repeat of what has had its effect takes nothing, so it gets its first answer throughout.
// rule: JNL-5
// rule: IDM-1
#[test]
fn without_a_next_segment_holds_are_refused_until_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 100, 100);
    let (booking, seq) = book(&engine, 0, slot);
    engine.ticket(seq).wait().unwrap();
    let second = [Claim { party: PartyId(2), slot, dose: Dose(1) }];
    let keyed = |fingerprint| {
        let idempotency = Some(Idempotency { key: IdempotencyKey(7), fingerprint });
        engine.submit(&Request { command: Command::Book { claims: &second }, idempotency }, engine.now()).unwrap()
    };
    let first = keyed(1);
    // Two segments lie ready behind the first; the name of the one after them is taken.
    let fourth = dir.path().join("journal/0000000004.seg");
    fs::create_dir(&fourth).unwrap();
    let note = vec![7u8; 400_000];
    let tell = |command| engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap();
    let refused = (0..1000).any(|_| {
        let told = tell(Command::Note { note: &note });
        if told.result.is_ok() {
            engine.ticket(told.seq).wait().unwrap();
        } else {
            // Told at once when nothing can be made, and also while the next segment is only being made.
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
        told.result == Err(Refusal::JournalFull) && engine.stats().journal_starved == 1
    });
    assert!(refused);
    let claim = [Claim { party: PartyId(1), slot, dose: Dose(1) }];
    assert_eq!(tell(Command::Book { claims: &claim }).result, Err(Refusal::JournalFull));
    let record = |urgent| tell(Command::Record { kind: 1, bytes: b"recalled", urgent });
    assert_eq!(record(false).result, Err(Refusal::JournalFull));
    let warned = record(true);
    assert!(warned.result.is_ok(), "a warning goes into what is left: {warned:?}");
    engine.ticket(warned.seq).wait().unwrap();
    let again = keyed(1);
    assert_eq!((again.result, again.seq, again.replayed), (first.result, first.seq, true));
    assert_eq!(keyed(2).result, Err(Refusal::JournalFull), "another request under that key is no repeat");
    let cancelled = tell(Command::Cancel { booking, by: By::Holder });
    assert!(cancelled.result.is_ok(), "{cancelled:?}");
    engine.ticket(cancelled.seq).wait().unwrap();
    fs::remove_dir(&fourth).unwrap();
    while engine.stats().journal_starved == 1 {
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    assert!(tell(Command::Book { claims: &claim }).result.is_ok());
    engine.close().unwrap();
    drop(engine);
    assert_eq!(counts(&open(&config), slot), (100, 0, 2));
}
