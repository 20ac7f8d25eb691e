//! Versions of the data directory: what this build reads of the one before, and what it refuses by name.
//!
//! `fixtures/version-2` was written by a build of segments of format 2 and snapshots of format 1: two runs with every kind of
//! entry of then, a snapshot in the second, its segments without the zeros behind them, and what that build itself said of its
//! state.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_engine::*;
use support::{book, config, run, seed};

const SEGMENT_BYTES: usize = 1 << 20;
const VERSION_AT: usize = 8;

/// Puts the fixture into `dir`, whole again.
fn unpack(dir: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-2");
    fs::create_dir_all(dir.join("journal")).unwrap();
    fs::create_dir_all(dir.join("snapshots")).unwrap();
    for name in ["berth.meta", "code.key", "epoch"] {
        fs::copy(from.join(name), dir.join(name)).unwrap();
    }
    for entry in fs::read_dir(from.join("snapshots")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.join("snapshots").join(entry.file_name())).unwrap();
    }
    for entry in fs::read_dir(from.join("journal")).unwrap() {
        let entry = entry.unwrap();
        let mut bytes = fs::read(entry.path()).unwrap();
        bytes.resize(SEGMENT_BYTES, 0);
        fs::write(dir.join("journal").join(entry.file_name()), bytes).unwrap();
    }
}

/// As the old build described itself.
fn state(engine: &Engine) -> String {
    let mut out = String::new();
    engine.for_each_slot(&mut |slot, facts, counts| {
        let SlotFacts { programme, dose, product, pool, starts_at } = facts;
        let (capacity, held, booked) = (counts.capacity(), counts.held(), counts.booked());
        writeln!(
            out,
            "slot {slot} centre-facts {programme} {dose} {product} {pool} {} capacity {capacity} held {held} \
             booked {booked} open {}",
            starts_at.0,
            counts.is_open()
        )
        .unwrap();
    });
    engine.for_each_booking(&mut |view| {
        let BookingView { number, hold, group_len, state, claim, programme, expires_at, link, seq, offered } = view;
        writeln!(
            out,
            "booking {number}{} hold {hold} of {group_len} state {state} party {} slot {} dose {} programme {programme} \
             deadline {} link {:?} seq {seq}",
            if offered { " offered" } else { "" },
            claim.party,
            claim.slot,
            claim.dose,
            expires_at.0,
            link.map(|number| number.0)
        )
        .unwrap();
    });
    let Stats { parties, slots, bookings, appended, .. } = engine.stats();
    writeln!(out, "parties {parties} slots {slots} bookings {bookings} last {appended}").unwrap();
    writeln!(out, "code {:?}", engine.codes().encode(BookingNumber(0)).to_string()).unwrap();
    out
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn version(segment: &Path) -> u8 {
    fs::read(segment).unwrap()[VERSION_AT]
}

fn refusal(config: &Config) -> String {
    Engine::open(config.clone(), Arc::new(AllowAll), &mut |_| {}).expect_err("opened").to_string()
}

/// Changes a checksummed header of 64 bytes, of a segment or a snapshot.
fn change_header(file: &Path, at: usize, byte: u8) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] = byte;
    let check = crc_fast::crc64_nvme(&bytes[..48]);
    bytes[48..56].copy_from_slice(&check.to_le_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn version_3_opens_what_version_2_wrote_and_goes_on_in_it() {
    let expected = include_str!("fixtures/version-2/expected.txt");
    let from_snapshot = tempfile::tempdir().unwrap();
    unpack(from_snapshot.path());
    let (engine, report) = Engine::open(config(from_snapshot.path()), Arc::new(AllowAll), &mut |_| {}).unwrap();
    assert_eq!((report.snapshot.is_some(), state(&engine).as_str()), (true, expected));

    let dir = tempfile::tempdir().unwrap();
    unpack(dir.path());
    fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    let config = config(dir.path());
    let (engine, report) = Engine::open(config.clone(), Arc::new(AllowAll), &mut |_| {}).unwrap();
    assert_eq!((report.entries, report.snapshot.is_some(), report.epoch), (19, false, Epoch(3)));
    assert_eq!(state(&engine), expected);
    // A key of version 2 still stands for its first effect.
    let repeat = Request {
        command: Command::Hold {
            claims: &[0, 1].map(|party| Claim { party: PartyId(party), slot: SlotId(0), dose: Dose(1) }),
            ttl: Duration::from_secs(600),
        },
        idempotency: Some(Idempotency { key: IdempotencyKey(5), fingerprint: 105 }),
    };
    assert!(engine.submit(&repeat, TimestampMs(1_795_701_500_000)).unwrap().replayed);
    let (number, seq) = book(&engine, 15, SlotId(0));
    engine.ticket(seq).wait().unwrap();
    engine.snapshot().unwrap().unwrap();
    engine.close().unwrap();
    drop(engine);

    let versions: Vec<_> = segments(dir.path()).iter().map(|segment| version(segment)).collect();
    assert_eq!(versions[..3], [2, 2, 3], "two of the old build, one of this");
    assert!(versions[3..].iter().all(|made_ahead| *made_ahead == 0), "{versions:?}");
    let engine = support::open(&config);
    assert_eq!(engine.booking(number).unwrap().state, State::Booked);
    engine.close().unwrap();
    drop(engine);
    // Nothing of the new snapshot was needed for that.
    fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    let engine = support::open(&config);
    assert_eq!(engine.booking(number).unwrap().state, State::Booked);
}

#[test]
fn what_a_later_version_wrote_is_refused_by_name_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    unpack(dir.path());
    fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    let config = config(dir.path());
    let engine = support::open(&config);
    let (_, seq) = run(&engine, Command::Note { note: b"of version 3" });
    engine.ticket(seq).wait().unwrap();
    engine.snapshot().unwrap().unwrap();
    engine.close().unwrap();
    drop(engine);

    let newest = &segments(dir.path())[2];
    change_header(newest, VERSION_AT, 4);
    fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    let before = fs::read(newest).unwrap();
    let told = refusal(&config);
    assert!(told.contains("0000000003.seg has journal format 4, this build reads 2 to 3"), "{told}");
    assert_eq!(fs::read(newest).unwrap(), before);
    // An older format cannot stand behind a newer one: no build goes on in what it cannot read.
    change_header(newest, VERSION_AT, 2);
    change_header(&segments(dir.path())[1], VERSION_AT, 3);
    let told = refusal(&config);
    assert!(told.contains("0000000003.seg at offset 0: format 2 behind a segment of format 3"), "{told}");
    change_header(newest, VERSION_AT, 3);
    // Nor is what the version before the last one wrote.
    change_header(&segments(dir.path())[0], VERSION_AT, 1);
    let told = refusal(&config);
    assert!(told.contains("0000000001.seg has journal format 1, this build reads 2 to 3"), "{told}");
    change_header(&segments(dir.path())[0], VERSION_AT, 2);

    let engine = support::open(&config);
    let (_, seq) = run(&engine, Command::Note { note: b"more" });
    engine.ticket(seq).wait().unwrap();
    engine.snapshot().unwrap().unwrap();
    engine.close().unwrap();
    drop(engine);
    let snapshot = fs::read_dir(dir.path().join("snapshots")).unwrap().next().unwrap().unwrap().path();
    change_header(&snapshot, VERSION_AT, 9);
    let told = refusal(&config);
    assert!(told.contains("snapshot format 9, this build reads"), "{told}");
}

#[test]
fn another_code_key_is_noticed_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    unpack(dir.path());
    let config = config(dir.path());
    let meta = || fs::read_to_string(dir.path().join("berth.meta")).unwrap();
    // A directory of before the check value was kept: reading it adds nothing, serving from it adds the value.
    fs::write(dir.path().join("berth.meta"), "layout=1 cell=1\n").unwrap();
    assert_eq!(meta(), "layout=1 cell=1\n");
    drop(Engine::open_read_only(dir.path(), &config.limits, Arc::new(AllowAll), &mut |_| {}).unwrap());
    assert_eq!(meta(), "layout=1 cell=1\n");
    drop(support::open(&config));
    assert!(meta().starts_with("layout=1 cell=1 key="), "{}", meta());

    let (key, before) = (dir.path().join("code.key"), fs::read(dir.path().join("epoch")).unwrap());
    let right = fs::read(&key).unwrap();
    fs::write(&key, "000102030405060708090a0b0c0d0e0f\n").unwrap();
    let named = |told: String| assert!(told.contains("code.key is not the key"), "{told}");
    named(refusal(&config));
    named(
        Engine::open_read_only(dir.path(), &config.limits, Arc::new(AllowAll), &mut |_| {})
            .expect_err("opened")
            .to_string(),
    );
    named(JournalFiles::open(dir.path()).expect_err("opened").to_string());
    assert_eq!(fs::read(dir.path().join("epoch")).unwrap(), before);
    fs::write(&key, right).unwrap();
    drop(support::open(&config));

    // A new directory has the value from its first moment.
    let dir = tempfile::tempdir().unwrap();
    let config = support::config(dir.path());
    let engine = support::open(&config);
    seed(&engine, 1, 1);
    drop(engine);
    fs::write(dir.path().join("code.key"), "000102030405060708090a0b0c0d0e0f\n").unwrap();
    named(refusal(&config));
}
