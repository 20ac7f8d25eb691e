//! `berth journal dump` and `berth verify` on directories that an engine wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_engine::{
    AllowAll, By, CentreKey, Claim, Command, Config, Dose, Engine, Limits, Outcome, PartyFacts, PartyId, Refusal,
    Request, Seq, SlotFacts, SlotId, SlotSpec, TimestampMs, Units,
};
use serde_json::{Value, json};

use crate::server::{berth, lines};

/// 2026-11-24T00:00:00Z
const MIDNIGHT: TimestampMs = TimestampMs(1_795_478_400_000);

/// An engine with segments of a MiB.
pub(crate) fn engine(dir: &Path) -> Engine {
    let mut config = Config::new(dir);
    config.limits = Limits { parties_max: 100, slots_max: 1000, bookings_max: 10_000, ..Limits::default() };
    config.journal.segment_bytes = 1 << 20;
    config.journal.buffer_bytes = 512 << 10;
    Engine::open(config, Arc::new(AllowAll), &mut |_| {}).unwrap().0
}

/// Submits at so many seconds past midnight and waits until it is durable. Asks again, as clients do, while the next of the small
/// segments is only being made.
pub(crate) fn submit(engine: &Engine, seconds: u64, command: Command<'_>) -> (Outcome, Seq) {
    let at = MIDNIGHT.plus(Duration::from_secs(seconds));
    let told = loop {
        let told = engine.submit(&Request { command, idempotency: None }, at).unwrap();
        if told.result != Err(Refusal::JournalFull) {
            break told;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    engine.ticket(told.seq).wait().unwrap();
    (told.result.unwrap(), told.seq)
}

pub(crate) fn claim(party: u32, slot: u32) -> Claim {
    Claim { party: PartyId(party), slot: SlotId(slot), dose: Dose(1) }
}

/// Ten parties and two slots.
pub(crate) fn seed(engine: &Engine) {
    submit(engine, 0, Command::AddParties { count: 10, facts: PartyFacts::default() });
    let spec = SlotSpec { centre: CentreKey(1), capacity: Units::new(5).unwrap(), facts: SlotFacts::default() };
    submit(engine, 1, Command::Publish { slots: &[spec, spec], note: b"catalogue" });
}

/// Entries 3 to 8: a hold of two on slot 0, its confirmation, a booking on slot 1, a move of it to slot 0, a cancellation of the
/// hold's first, slot 1 closed.
fn day(engine: &Engine) {
    seed(engine);
    let ttl = Duration::from_secs(600);
    let (Outcome::Held { claims, .. }, _) =
        submit(engine, 10, Command::Hold { claims: &[claim(0, 0), claim(1, 0)], ttl })
    else {
        panic!("not held")
    };
    submit(engine, 20, Command::Confirm { hold: claims[0].number });
    let (Outcome::Booked { claims: other }, _) = submit(engine, 30, Command::Book { claims: &[claim(2, 1)] }) else {
        panic!("not booked")
    };
    submit(engine, 40, Command::Move { booking: other[0].number, to: SlotId(0), by: By::Holder });
    submit(engine, 50, Command::Cancel { booking: claims[0].number, by: By::Holder });
    submit(engine, 60, Command::Close { slot: SlotId(1) });
}

fn dump(dir: &Path, filters: &[&str]) -> Vec<Value> {
    let output = berth(&["journal", "dump", "--data-dir"]).arg(dir).args(filters).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lines(std::str::from_utf8(&output.stdout).unwrap())
}

fn seqs(dir: &Path, filters: &[&str]) -> Vec<u64> {
    dump(dir, filters).iter().map(|line| line["seq"].as_u64().unwrap()).collect()
}

#[test]
fn a_dump_is_narrowed_by_slot_party_booking_time_and_kind_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    day(&engine);
    engine.close().unwrap();
    drop(engine);
    let dir = dir.path();
    let all = dump(dir, &[]);
    assert_eq!(all.len(), 8);
    assert_eq!(all[2]["at"], "2026-11-24T00:00:10+00:00");
    assert_eq!(seqs(dir, &["--slot", "s1.0"]), [2, 3, 4, 6, 7]);
    assert_eq!(seqs(dir, &["--slot", "s1.1"]), [2, 5, 6, 8], "what moved away is of both");
    assert_eq!(seqs(dir, &["--party", "p1.1"]), [1, 3, 4]);
    assert_eq!(seqs(dir, &["--party", "p1.2"]), [1, 5, 6]);
    let (moved, hold) = (all[4]["claims"][0]["booking"].as_str().unwrap(), all[2]["hold"].as_str().unwrap());
    assert_eq!(seqs(dir, &["--booking", moved]), [5, 6]);
    assert_eq!(seqs(dir, &["--booking", hold]), [3, 4, 7]);
    let times = ["--from", "2026-11-24T00:00:20Z", "--to", "2026-11-24T05:30:50+05:30"];
    assert_eq!(seqs(dir, &times), [4, 5, 6], "from is in, to is out");
    assert_eq!(seqs(dir, &["--kind", "moved", "--kind", "cancelled"]), [6, 7]);
    assert_eq!(seqs(dir, &["--kind", "moved", "--slot", "s1.1", "--party", "p1.0"]), [0; 0]);
    // A second part is what the whole would have said.
    assert_eq!(dump(dir, &["--after", "5"]), all[5..]);
    assert_eq!(seqs(dir, &["--after", "8"]), [0; 0]);
    for (filter, told) in [
        (["--kind", "confirm"], "the kinds are parties_added published"),
        (["--slot", "s2.0"], "--slot: no such name in this cell"),
        (["--booking", "0126-YN8ZR-4W7CJ"], "--booking: no such name"),
        (["--from", "yesterday"], "--from yesterday: no time in RFC 3339"),
    ] {
        let output = berth(&["journal", "dump", "--data-dir"]).arg(dir).args(filter).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr.contains(told), "{stderr}");
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir.join("journal")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_trimmed_log_is_dumped_with_whole_claims_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    day(&engine);
    let note = vec![7u8; 300_000];
    for _ in 0..4 {
        for _ in 0..4 {
            submit(&engine, 70, Command::Note { note: &note });
        }
        engine.snapshot().unwrap().unwrap();
    }
    // Booked in an entry that is trimmed: entry 3.
    let booking = engine.party_bookings(PartyId(1)).unwrap().bookings[0].number;
    let (_, last) = submit(&engine, 80, Command::Cancel { booking, by: By::Holder });
    engine.close().unwrap();
    drop(engine);
    let lines = dump(dir.path(), &[]);
    assert!(lines[0]["seq"].as_u64().unwrap() > 8, "nothing was trimmed");
    let cancelled = lines.last().unwrap();
    assert_eq!((&cancelled["seq"], &cancelled["kind"]), (&json!(last.0), &json!("cancelled")));
    assert_eq!((&cancelled["claims"][0]["party"], &cancelled["claims"][0]["slot"]), (&json!("p1.1"), &json!("s1.0")));
    let only = std::slice::from_ref(cancelled);
    assert_eq!(dump(dir.path(), &["--party", "p1.1"]), only);
    assert_eq!(dump(dir.path(), &["--after", &(last.0 - 1).to_string()]), only);

    let output = berth(&["verify", "--data-dir"]).arg(dir.path()).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &told["verdict"]), (Some(0), &json!("held")), "{told}");
    assert_eq!(told["entries"], lines.len());
    assert_eq!(told["judged_from"], told["snapshots"][0]["s0"]);
    assert!(told["judged"]["SNP-3"].as_u64().unwrap() > 0, "{told}");
    let summary = String::from_utf8_lossy(&output.stderr);
    assert!(summary.contains("berth: held: ") && summary.contains("SNP-3"), "{summary}");

    // A snapshot that is not what was written breaks the verdict, by its rule.
    let newest = std::fs::read_dir(dir.path().join("snapshots")).unwrap().map(|e| e.unwrap().path()).max().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let output = berth(&["verify", "--data-dir"]).arg(dir.path()).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &told["findings"][0]["rule"]), (Some(1), &json!("SNP-1")), "{told}");
}

#[test]
fn damage_ends_a_dump_with_its_place_and_the_lines_before_it_stand() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    day(&engine);
    engine.close().unwrap();
    drop(engine);
    let whole = dump(dir.path(), &[]);
    let segment = &segments(dir.path())[0];
    let mut bytes = std::fs::read(segment).unwrap();
    // In the payload of the fifth frame: entries came one by one.
    let mut at = 64;
    for _ in 0..4 {
        let len = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        at += (48 + len).next_multiple_of(8);
    }
    bytes[at + 60] ^= 1;
    std::fs::write(segment, bytes).unwrap();
    let output = berth(&["journal", "dump", "--data-dir"]).arg(dir.path()).output().unwrap();
    assert_eq!(lines(std::str::from_utf8(&output.stdout).unwrap()), whole[..4]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("0000000001.seg") && stderr.contains(&format!("offset {at}")), "{stderr}");
    let output = berth(&["verify", "--data-dir"]).arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("offset {at}")));
}

/// A copy may lie where nothing can be written: an image of a volume, a backup.
#[test]
fn reading_a_copy_without_a_lock_file_leaves_the_directory_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    day(&engine);
    engine.close().unwrap();
    drop(engine);
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    for command in [&["verify"][..], &["journal", "dump"]] {
        let output = berth(command).arg("--data-dir").arg(dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(names(), before, "{command:?}");
    }
}
