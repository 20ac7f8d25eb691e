//! Snapshots: taken while commands go on, used only when whole, and what is trimmed behind them.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use berth_engine::*;
use support::{book, config, open, run, seed};

fn files(dir: &Path, what: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir.join(what)) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Everything an engine can be asked about, but for the time.
fn state(engine: &Engine) -> Vec<String> {
    let mut lines = Vec::new();
    engine.for_each_slot(&mut |slot, facts, counts| lines.push(format!("{slot} {facts:?} {counts:?}")));
    engine.for_each_booking(&mut |view| lines.push(format!("{view:?}")));
    let stats = engine.stats();
    for party in (0..u32::try_from(stats.parties).unwrap()).map(PartyId) {
        let view = engine.party_bookings(party).unwrap();
        let mut live: Vec<_> = view.bookings.iter().map(|booking| booking.number).collect();
        live.sort_unstable();
        lines.push(format!("{party} {:?} {live:?}", view.facts));
    }
    lines.push(format!("{} {} {} {}", stats.parties, stats.slots, stats.bookings, stats.idempotency_keys));
    lines
}

fn keyed(engine: &Engine, key: u128, command: Command<'_>) -> Submitted {
    let idempotency = Some(Idempotency { key: IdempotencyKey(key), fingerprint: 1 });
    engine.submit(&Request { command, idempotency }, engine.now()).unwrap()
}

fn reopen(config: &Config) -> (Engine, ReplayReport, Vec<Vec<u8>>) {
    let mut notes = Vec::new();
    let (engine, report) =
        Engine::open(config.clone(), Arc::new(AllowAll), &mut |note| notes.push(note.note.to_vec())).unwrap();
    (engine, report, notes)
}

// rule: SNP-1
#[test]
fn a_start_from_a_snapshot_is_the_start_from_the_whole_log() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 10, 5);
    let (kept, _) = book(&engine, 0, slot);
    let (gone, _) = book(&engine, 1, slot);
    run(&engine, Command::Cancel { booking: gone, by: By::Holder });
    let claim = [2, 3].map(|party| Claim { party: PartyId(party), slot, dose: Dose(1) });
    let held = keyed(&engine, 7, Command::Hold { claims: &claim, ttl: Duration::from_secs(600) });
    run(&engine, Command::Resize { slot, capacity: Units::new(4).unwrap() });
    let (_, seq) = run(&engine, Command::Close { slot });
    engine.ticket(seq).wait().unwrap();
    let taken = engine.snapshot().unwrap().unwrap();
    assert_eq!((taken.s0, taken.s1, taken.segments_trimmed), (seq, seq, 0));
    assert_eq!(engine.snapshot().unwrap(), None, "nothing has happened since");
    run(&engine, Command::Open { slot });
    run(&engine, Command::Note { note: b"later" });
    let Ok(Outcome::Held { claims, .. }) = &held.result else { panic!("not held") };
    let (_, seq) = run(&engine, Command::Confirm { hold: claims[0].number });
    engine.ticket(seq).wait().unwrap();
    engine.close().unwrap();
    let before = state(&engine);
    drop(engine);

    let (engine, report, notes) = reopen(&config);
    assert_eq!((report.snapshot, report.entries), (Some(taken.s0), 3));
    assert_eq!(notes, [b"a note".to_vec(), b"later".to_vec()]);
    assert_eq!(state(&engine), before);
    assert_eq!(engine.booking(kept).unwrap().state, State::Booked);
    let again = keyed(&engine, 7, Command::Hold { claims: &claim, ttl: Duration::from_secs(600) });
    assert!(again.replayed);
    assert_eq!(again.result, held.result);
    // The log goes on where it ended.
    let (_, next) = run(&engine, Command::Note { note: b"more" });
    assert_eq!(next, seq.next());
}

/// Commands of four threads race with snapshots taken one after the other: each, with the log behind it, leads to where the
/// whole log leads.
// rule: SNP-3
#[test]
fn a_snapshot_taken_in_a_race_leads_to_where_the_whole_log_leads() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.limits.idempotency_keys_max = 3000;
    let engine = Arc::new(open(&config));
    run(&engine, Command::AddParties { count: 40, facts: PartyFacts::default() });
    let facts = SlotFacts { starts_at: engine.now().plus(Duration::from_secs(86_400)), ..SlotFacts::default() };
    let spec = SlotSpec { centre: CentreKey(1), capacity: Units::new(6).unwrap(), facts };
    run(&engine, Command::Publish { slots: &[spec; 3], note: b"first" });
    let (done, paused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let served = Arc::new(AtomicU32::new(0));
    let racers: Vec<_> = (0..4u64)
        .map(|thread| {
            let (engine, done, paused) = (Arc::clone(&engine), Arc::clone(&done), Arc::clone(&paused));
            let served = Arc::clone(&served);
            std::thread::spawn(move || {
                let mut state = thread + 1;
                let mut random = move |below: u64| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) % below
                };
                let mut round = 0u64;
                while !done.load(Relaxed) {
                    // So that the log does not grow while a copy is looked at.
                    if paused.load(Relaxed) {
                        std::thread::yield_now();
                        continue;
                    }
                    round += 1;
                    let party = u32::try_from(random(40)).unwrap();
                    let other = (party + 1) % 40;
                    let slot = SlotId(u32::try_from(random(3)).unwrap());
                    let claims = [party, other].map(|party| Claim { party: PartyId(party), slot, dose: Dose(1) });
                    let key = u128::from(round) << 8 | u128::from(thread);
                    let ttl = Duration::from_secs(600);
                    let held = keyed(&engine, key, Command::Hold { claims: &claims, ttl });
                    let Ok(Outcome::Held { claims, .. }) = held.result else {
                        // Somebody else's claim is in the way, or the slot is full: end one.
                        let any = u32::try_from(random(40)).unwrap();
                        for booking in engine.party_bookings(PartyId(any)).unwrap().bookings {
                            let submit = |command| engine.submit(&Request { command, idempotency: None }, engine.now());
                            submit(Command::Cancel { booking: booking.number, by: By::Holder }).unwrap().result.ok();
                            submit(Command::Release { hold: booking.hold }).unwrap().result.ok();
                        }
                        continue;
                    };
                    let hold = claims[0].number;
                    let tell = |command| engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap();
                    match random(9) {
                        // A unit that was used up never comes back, so only a few are.
                        5 if served.fetch_add(1, Relaxed) < 6 => {
                            drop(tell(Command::Confirm { hold }));
                            drop(tell(Command::CheckIn { booking: hold }));
                            let (given_at, note) = (engine.now(), &[7; 40][..]);
                            drop(tell(Command::CompleteNoted { booking: hold, given_at, product: None, note }));
                        }
                        6 => {
                            // One after the other, so that a scan meets the first and the log has both.
                            for birth_year in [1900, 1901].map(|year| year + u16::from(thread.to_le_bytes()[0])) {
                                let facts = PartyFacts { birth_year, ..PartyFacts::default() };
                                let (expected, note) = (None, &b"why"[..]);
                                drop(tell(Command::ChangeFacts { party: PartyId(party), facts, expected, note }));
                            }
                        }
                        7 => drop(keyed(
                            &engine,
                            key | 1 << 100,
                            Command::Record { kind: 1, bytes: &[8; 300], urgent: false },
                        )),
                        0 => drop(tell(Command::Release { hold })),
                        1 => {
                            drop(tell(Command::Confirm { hold }));
                            let to = SlotId((slot.0 + 1) % 3);
                            drop(tell(Command::Move { booking: hold, to, by: By::Holder }));
                        }
                        2 => drop(tell(Command::AddParties { count: 1, facts: PartyFacts::default() })),
                        3 => drop(tell(Command::Resize { slot, capacity: Units::new(6 + (slot.0 % 2)).unwrap() })),
                        4 => drop(tell(Command::Publish { slots: &[spec], note: b"more" })),
                        _ => drop(tell(Command::Confirm { hold })),
                    }
                    if round.is_multiple_of(64) {
                        engine.ticket(engine.appended()).wait().unwrap();
                    }
                }
            })
        })
        .collect();
    let mut spans = 0;
    for round in 0..12 {
        engine.ticket(Seq(engine.appended().0 + 200)).wait().unwrap();
        let taken = engine.snapshot().unwrap().unwrap();
        spans += taken.s1.0 - taken.s0.0;
        paused.store(true, Relaxed);
        // A copy now: this snapshot and the log as it is at this instant.
        let copy = tempfile::tempdir().unwrap();
        copy_directory(dir.path(), copy.path());
        let mut copied = config.clone();
        copied.journal.dir = copy.path().to_owned();
        let (loaded, report, notes) = reopen(&copied);
        assert_eq!(report.snapshot, Some(taken.s0), "{:?}", report.snapshots_damaged);
        let from_snapshot = state(&loaded);
        drop(loaded);
        if round < 2 {
            // The log is whole while there are not two snapshots that it was trimmed behind.
            fs::remove_dir_all(copy.path().join("snapshots")).unwrap();
            let (whole, report, whole_notes) = reopen(&copied);
            assert_eq!(report.snapshot, None);
            assert_eq!(from_snapshot, state(&whole));
            assert_eq!(notes, whole_notes);
        }
        paused.store(false, Relaxed);
    }
    done.store(true, Relaxed);
    racers.into_iter().for_each(|racer| racer.join().unwrap());
    assert!(spans > 0, "no snapshot was taken while anything happened");
    engine.close().unwrap();
    let before = state(&engine);
    drop(engine);
    let (engine, ..) = reopen(&config);
    assert_eq!(state(&engine), before);
}

/// Copies a directory that is being written to: a tail torn by the copy is what a crash could leave.
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

fn fill(engine: &Engine, segments: usize) {
    let note = vec![7u8; 300_000];
    for _ in 0..segments * 3 {
        let (_, seq) = run(engine, Command::Note { note: &note });
        engine.ticket(seq).wait().unwrap();
    }
}

// rule: SNP-2
#[test]
fn the_log_is_trimmed_behind_the_older_of_two_snapshots_and_a_damaged_one_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 10, 5);
    let mut trimmed = Vec::new();
    for party in 0..4 {
        book(&engine, party, slot);
        fill(&engine, 2);
        trimmed.push(engine.snapshot().unwrap().unwrap().segments_trimmed);
    }
    assert_eq!(trimmed[0], 0, "one snapshot trims nothing");
    assert!(trimmed[1..].iter().all(|trimmed| *trimmed > 0), "{trimmed:?}");
    assert_eq!(files(dir.path(), "snapshots").len(), 2);
    book(&engine, 4, slot);
    engine.close().unwrap();
    let before = state(&engine);
    drop(engine);
    fs::write(dir.path().join("snapshots/00000000000000000009.snap.new"), "half").unwrap();

    let [older, newer] = &files(dir.path(), "snapshots")
        .into_iter()
        .filter(|f| f.extension().unwrap() == "snap")
        .collect::<Vec<_>>()[..]
    else {
        panic!("not two snapshots")
    };
    let whole = fs::read(newer).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 37).chain([whole.len() - 1]) {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        // Bytes that no checksum covers and that mean nothing: the header's last eight.
        if (56..64).contains(&at) {
            continue;
        }
        fs::write(newer, &flipped).unwrap();
        let (engine, report, _) = reopen(&config);
        assert_eq!(report.snapshots_damaged.len(), 1, "flipped at {at}");
        assert_eq!(report.snapshots_damaged[0].0, *newer);
        assert_eq!(state(&engine), before, "flipped at {at}");
    }
    fs::write(newer, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(reopen(&config).1.snapshots_damaged.len(), 1, "cut short");
    // Without either, the log does not reach back: an error that says so, not an empty cell.
    assert!(!newer.exists(), "a damaged snapshot is set aside");
    fs::remove_file(older).unwrap();
    let error = Engine::open(config, Arc::new(AllowAll), &mut |_| {}).expect_err("opened without its beginning");
    assert!(error.to_string().contains("first entry needed"), "{error}");
}

/// A snapshot newer than the log means that the log lost what was acknowledged.
#[test]
fn a_log_that_ends_before_its_snapshot_refuses_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 10, 5);
    let (_, seq) = book(&engine, 0, slot);
    engine.ticket(seq).wait().unwrap();
    engine.snapshot().unwrap().unwrap();
    engine.close().unwrap();
    drop(engine);
    for segment in files(dir.path(), "journal") {
        fs::remove_file(segment).unwrap();
    }
    // Nothing at all behind the snapshot is what a recovery without a log leaves; it reaches S1 and is whole.
    let (engine, report, _) = reopen(&config);
    assert_eq!((report.snapshot, report.entries), (Some(seq), 0));
    drop(engine);
    // A log that stops inside the span is not.
    let other = tempfile::tempdir().unwrap();
    let config = support::config(other.path());
    let engine = open(&config);
    let slot = seed(&engine, 10, 5);
    let (_, seq) = book(&engine, 0, slot);
    engine.ticket(seq).wait().unwrap();
    engine.close().unwrap();
    drop(engine);
    fs::create_dir(other.path().join("snapshots")).unwrap();
    let newer = files(dir.path(), "snapshots").pop().unwrap();
    let mut bytes = fs::read(&newer).unwrap();
    // S0 one further than this log goes.
    bytes[24..32].copy_from_slice(&(seq.0 + 1).to_le_bytes());
    fs::write(other.path().join(format!("snapshots/{:020}.snap", seq.0 + 1)), bytes).unwrap();
    let (_, report, _) = reopen(&config);
    assert_eq!(report.snapshots_damaged.len(), 1, "a header that was tampered with is damage");
}
