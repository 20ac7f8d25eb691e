//! Copies of a directory that is being written to: each is a state that could have been, with everything acknowledged before it.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use berth_engine::backup::{self, CopyError, EPOCHS_SKIPPED};
use berth_engine::verify::directory::Report;
use berth_engine::*;
use support::{book, config, open, run, seed};

const WINDOW: Duration = Duration::from_secs(86_400);

fn copy(from: &Path, into: &Path) -> Result<backup::Copied, CopyError> {
    backup::copy(from, into, false, WINDOW, &mut |_| {})
}

fn restore(copied: &backup::Copied, from: &Path, into: &Path, key: &[u8]) -> Result<Report, CopyError> {
    backup::restore(from, into, &copied.files, key, WINDOW, &mut |_| {})
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Two threads book and cancel, and write notes that fill segments; a third takes snapshots, behind which the log is trimmed.
#[test]
fn a_copy_taken_under_load_has_everything_acknowledged_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = Arc::new(open(&config));
    let slot = seed(&engine, 9_000, 9_000);
    let done = Arc::new(AtomicBool::new(false));
    let acknowledged: Arc<[std::sync::Mutex<Vec<BookingNumber>>; 2]> = Arc::default();
    let mut threads: Vec<_> = (0..2u32)
        .map(|worker| {
            let (engine, done, acknowledged) = (Arc::clone(&engine), Arc::clone(&done), Arc::clone(&acknowledged));
            std::thread::spawn(move || {
                let note = vec![7u8; 100_000];
                for round in (0..u32::MAX).take_while(|_| !done.load(Relaxed)) {
                    // When everybody has a place, notes alone keep the log growing.
                    if round < 4_000 {
                        let (number, seq) = book(&engine, round * 2 + worker, slot);
                        engine.ticket(seq).wait().unwrap();
                        acknowledged[worker as usize].lock().unwrap().push(number);
                    }
                    if round % 4 == 0 {
                        let (_, seq) = run(&engine, Command::Note { note: &note });
                        engine.ticket(seq).wait().unwrap();
                    }
                }
            })
        })
        .collect();
    let (snapshots, stop) = (Arc::clone(&engine), Arc::clone(&done));
    threads.push(std::thread::spawn(move || {
        while !stop.load(Relaxed) {
            snapshots.snapshot().unwrap();
            let next = Seq(snapshots.appended().0 + 40);
            while !stop.load(Relaxed) && snapshots.appended() < next {
                std::thread::yield_now();
            }
        }
    }));
    let key = fs::read(dir.path().join("code.key")).unwrap();
    let mut trimmed = false;
    for round in 0..3 {
        engine.ticket(Seq(engine.appended().0 + 60)).wait().unwrap();
        let before: Vec<_> = acknowledged.iter().flat_map(|list| list.lock().unwrap().clone()).collect();
        let places = tempfile::tempdir().unwrap();
        let (backup, restored) = (places.path().join("backup"), places.path().join("restored"));
        let copied = copy(dir.path(), &backup).unwrap();
        assert_eq!(copied.report.findings, []);
        assert!(!backup.join("code.key").exists() && !backup.join("LOCK").exists());
        trimmed |= copied.report.first > Seq(1);
        restore(&copied, &backup, &restored, &key).unwrap();
        let mut config = config.clone();
        config.journal.dir = restored;
        let (copy, report) = Engine::open(config, Arc::new(AllowAll), &mut |_| {}).unwrap();
        assert!(report.epoch.0 > EPOCHS_SKIPPED, "it takes an epoch that the original may have taken");
        assert!(before.len() > round, "nothing was acknowledged");
        for number in before {
            assert_eq!(copy.booking(number).map(|view| view.state), Some(State::Booked), "booking {number}");
        }
        // It is a cell that goes on.
        let (_, seq) = run(&copy, Command::Note { note: b"on" });
        copy.ticket(seq).wait().unwrap();
    }
    done.store(true, Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(trimmed, "no copy was of a trimmed log");
}

#[test]
fn a_torn_tail_is_cut_in_the_copy_and_damage_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 10, 5);
    let (first, seq) = book(&engine, 0, slot);
    engine.ticket(seq).wait().unwrap();
    let (last, seq) = book(&engine, 1, slot);
    engine.ticket(seq).wait().unwrap();
    engine.close().unwrap();
    drop(engine);
    let key = fs::read(dir.path().join("code.key")).unwrap();
    let segment = &segments(dir.path())[0];
    let whole = fs::read(segment).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();

    let mut torn = whole.clone();
    torn[end] = 0;
    fs::write(segment, torn).unwrap();
    let places = tempfile::tempdir().unwrap();
    let (backup, restored) = (places.path().join("backup"), places.path().join("restored"));
    let copied = copy(dir.path(), &backup).unwrap();
    assert_eq!(copied.report.last, Seq(seq.0 - 1));
    let report = restore(&copied, &backup, &restored, &key).unwrap();
    assert_eq!((report.torn, report.last), (None, copied.report.last));
    let engine = open(&support::config(&restored));
    assert_eq!(engine.booking(first).unwrap().state, State::Booked);
    assert!(engine.booking(last).is_none());
    drop(engine);

    let mut damaged = whole.clone();
    damaged[64 + 20] ^= 1;
    fs::write(segment, damaged).unwrap();
    let error = copy(dir.path(), &places.path().join("other")).expect_err("damage was copied").to_string();
    assert!(error.contains("0000000001.seg at offset 64"), "{error}");
    fs::write(segment, &whole).unwrap();
    let error = copy(dir.path(), &backup).expect_err("over another").to_string();
    assert!(error.contains("is not empty"), "{error}");
    // Another key than the codes were made with.
    let other = b"000102030405060708090a0b0c0d0e0f\n";
    let third = places.path().join("third");
    let error = restore(&copied, &backup, &third, other).expect_err("restored").to_string();
    assert!(error.contains("code.key is not the key"), "{error}");
    assert_eq!(fs::read_dir(&third).unwrap().count(), 0, "what failed is still there");
    // A file that is missing is noticed where nothing serves from it, and so is a restore that was killed.
    let mut less = copied.clone();
    less.files.push("journal/0000000009.seg".to_owned());
    let error = restore(&less, &backup, &third, &key).expect_err("restored").to_string();
    assert!(error.contains("0000000009.seg"), "{error}");
    restore(&copied, &backup, &third, &key).unwrap();
    fs::write(third.join("recovering"), b"").unwrap();
    let error = Engine::open(support::config(&third), Arc::new(AllowAll), &mut |_| {}).expect_err("served").to_string();
    assert!(error.contains("a restore that did not end"), "{error}");
}

/// With the newest snapshot damaged the copy has the one before it and the log from there on.
#[test]
fn a_damaged_snapshot_is_left_out_and_named_and_the_key_comes_only_if_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path()));
    let slot = seed(&engine, 10, 5);
    let snapshots: Vec<_> = (0..2)
        .map(|party| {
            let (_, seq) = book(&engine, party, slot);
            engine.ticket(seq).wait().unwrap();
            engine.snapshot().unwrap().unwrap().s0
        })
        .collect();
    engine.close().unwrap();
    drop(engine);
    let places = tempfile::tempdir().unwrap();
    let backup = places.path().join("backup");
    let newest = fs::read_dir(dir.path().join("snapshots")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    bytes[100] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let copied = backup::copy(dir.path(), &backup, true, WINDOW, &mut |_| {}).unwrap();
    assert_eq!((copied.snapshot, copied.snapshots_damaged[0].0.as_path()), (Some(snapshots[0]), newest.as_path()));
    let key = fs::read(dir.path().join("code.key")).unwrap();
    assert_eq!(fs::read(backup.join("code.key")).unwrap(), key);
    restore(&copied, &backup, &places.path().join("restored"), &key).unwrap();
    fs::write(dir.path().join("code.key"), b"000102030405060708090a0b0c0d0e0f\n").unwrap();
    let again = backup::copy(dir.path(), &places.path().join("again"), true, WINDOW, &mut |_| {});
    let error = again.expect_err("a key that fits nothing was copied").to_string();
    assert!(error.contains("code.key is not the key"), "{error}");
}
