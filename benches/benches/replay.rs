//! Replay: how fast a start reads back a journal of holds and their confirmations, each with a key of its own, beside reading,
//! checking and decoding the same entries in one thread and doing nothing with them.
//!
//! `cargo bench -p berth-benches --bench replay`

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_benches::sides::{Round, side_by_side};
use berth_engine::{
    AllowAll, CentreKey, Claim, Command, Config, Dose, Engine, Idempotency, IdempotencyKey, JournalFiles, Outcome,
    PartyFacts, PartyId, Refusal, ReplayReport, Request, SlotFacts, SlotId, SlotSpec, Submitted, Units,
};
use criterion::Criterion;

/// Slots the claims are spread over.
const SLOTS: u32 = 1 << 16;

/// A bijection of 64 bits: keys that look like hashes.
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn config(dir: &tempfile::TempDir) -> Config {
    Config::new(dir.path())
}

fn submit(engine: &Engine, request: &Request<'_>) -> Submitted {
    loop {
        let told = engine.submit(request, engine.now()).expect("the journal runs");
        match told.result {
            Err(Refusal::JournalFull) => std::thread::yield_now(),
            _ => return told,
        }
    }
}

/// A data directory with so many holds, each confirmed, of distinct parties in random slots and in no order of their numbers.
fn journal(holds: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (engine, _) = Engine::open(config(&dir), Arc::new(AllowAll), &mut |_| {}).expect("a new directory opens");
    let command = Command::AddParties { count: holds, facts: PartyFacts::default() };
    submit(&engine, &Request { command, idempotency: None }).result.expect("nothing to refuse");
    let facts = SlotFacts { starts_at: engine.now().plus(Duration::from_secs(86_400)), ..SlotFacts::default() };
    for centre in 0..SLOTS / 64 {
        let specs = [SlotSpec { centre: CentreKey(centre), capacity: Units::MAX, facts }; 64];
        submit(&engine, &Request { command: Command::Publish { slots: &specs, note: b"" }, idempotency: None })
            .result
            .expect("nothing to refuse");
    }
    let keyed = |number: u64| {
        let key = IdempotencyKey(u128::from(mixed(number)) << 64 | u128::from(mixed(!number)));
        Some(Idempotency { key, fingerprint: number })
    };
    // Odd, and no factor of the count in sight: each party once.
    let stride = 2_654_435_761u64;
    for n in 0..u64::from(holds) {
        let party = u32::try_from(n * stride % u64::from(holds)).expect("below holds");
        let slot = u32::try_from(mixed(n) % u64::from(SLOTS)).expect("below SLOTS");
        let claims = [Claim { party: PartyId(party), slot: SlotId(slot), dose: Dose(1) }];
        let ttl = Duration::from_secs(3600);
        let request = Request { command: Command::Hold { claims: &claims, ttl }, idempotency: keyed(2 * n) };
        let Ok(Outcome::Held { claims, .. }) = submit(&engine, &request).result else { panic!("hold {n} is refused") };
        let command = Command::Confirm { hold: claims[0].number };
        let told = submit(&engine, &Request { command, idempotency: keyed(2 * n + 1) });
        assert!(told.result.is_ok(), "{:?}", told.result);
    }
    engine.close().expect("the journal runs");
    dir
}

fn open(dir: &tempfile::TempDir) -> ReplayReport {
    let (engine, report) = Engine::open(config(dir), Arc::new(AllowAll), &mut |_| {}).expect("what was written opens");
    engine.close().expect("nothing to write");
    report
}

fn replayed(dir: &tempfile::TempDir) -> Round {
    let report = open(dir);
    (Duration::from_nanos(report.nanos), report.entries)
}

fn decoded(dir: &tempfile::TempDir) -> Round {
    let files = JournalFiles::open(dir.path()).expect("it is a data directory");
    let start = Instant::now();
    let mut sum = 0;
    files.entries(&mut |seq, _, entry| sum += seq.0 ^ entry.at.0).expect("it is whole");
    (start.elapsed(), sum)
}

fn main() {
    // `cargo bench` says --bench; as a test every bench runs once and tiny.
    if std::env::args().any(|arg| arg == "--bench") {
        let dir = journal(3_000_000);
        let report = open(&dir);
        // A bench that cannot print has nobody to tell.
        let _ = writeln!(std::io::stdout(), "{} entries, {} MiB of frames", report.entries, report.bytes >> 20);
        side_by_side(
            "replay of holds and confirmations, each with a key, beside reading and decoding them",
            report.entries,
            5,
            ("replay", || replayed(&dir)),
            ("decode", || decoded(&dir)),
        );
    }
    let mut harness = Criterion::default().configure_from_args();
    let dir = journal(1 << 12);
    let mut group = harness.benchmark_group("replay");
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    group.bench_function("8192_entries", |b| b.iter_custom(|n| (0..n).map(|_| replayed(&dir).0).sum()));
    group.finish();
    harness.final_summary();
}
