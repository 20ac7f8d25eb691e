//! A snapshot while bookings go on: the latency of durable single bookings at a steady offered rate, with and without a snapshot
//! being taken, in one run. In process: what is measured is the engine, its log and its disk.
//!
//! Each snapshot is told by itself, in two parts: until it has its name, and while what is behind it is removed (nothing is behind
//! the first). With `BERTH_BENCH_REMOVAL` in the environment:
//!
//! - `steps` (or nothing): files are removed step by step, as a server does it; three snapshots;
//! - `at-once`: each in one go; three snapshots;
//! - `both`: one way and the other in turns, in one run; nine snapshots, and the two ways told apart at the end.
//!
//! `cargo bench -p berth-benches --bench snapshot`

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use berth_engine::{
    AllowAll, CentreKey, Claim, Command, Config, Dose, Engine, Idempotency, IdempotencyKey, PartyFacts, PartyId,
    Refusal, Request, SlotFacts, SlotId, SlotSpec, SnapshotReport, Submitted, Units,
};
use criterion::Criterion;

/// How much of everything.
#[derive(Clone, Copy)]
struct Size {
    parties: u32,
    /// Parties that have a booking, made under a key, before anything is measured.
    booked: u32,
    callers: u32,
    /// Bookings offered in a second by all callers together.
    rate: u32,
    /// How long a stretch without a snapshot is.
    quiet: Duration,
    rounds: u32,
}

/// How what is behind a snapshot is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Steps,
    AtOnce,
}

impl Way {
    const ENVIRONMENT: &str = "BERTH_BENCH_REMOVAL";

    /// What the environment asks for: the ways in turns, and how many snapshots there are to be.
    fn asked(rounds: u32) -> (Vec<Way>, u32) {
        match std::env::var(Self::ENVIRONMENT).as_deref() {
            Ok("at-once") => (vec![Way::AtOnce], rounds),
            Ok("both") => (vec![Way::AtOnce, Way::Steps], rounds * 2 + 3),
            Ok("steps") | Err(_) => (vec![Way::Steps], rounds),
            Ok(other) => panic!("{} is steps, at-once or both, not {other}", Self::ENVIRONMENT),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Way::Steps => "in steps",
            Way::AtOnce => "in one go",
        }
    }

    fn set(self, engine: &Engine) {
        engine.set_removal_step(match self {
            // As a server does it: the default.
            Way::Steps => 4 << 20,
            Way::AtOnce => u64::MAX,
        });
    }
}

/// A booking: when it was due, from the start of its stretch, and how long it took from then.
#[derive(Clone, Copy)]
struct Took {
    due: Duration,
    time: Duration,
}

impl Took {
    fn end(self) -> Duration {
        self.due + self.time
    }
}

/// A booking that took so long waited in a stall.
const STALL: Duration = Duration::from_millis(25);

const FULL: Size =
    Size { parties: 10_000_000, booked: 3_000_000, callers: 32, rate: 2000, quiet: Duration::from_secs(5), rounds: 3 };
const TINY: Size =
    Size { parties: 20_000, booked: 5000, callers: 4, rate: 500, quiet: Duration::from_millis(100), rounds: 1 };
const SLOTS: u32 = 1 << 14;

fn submit(engine: &Engine, command: Command<'_>, key: Option<u64>) -> Submitted {
    let key = key.map(|key| IdempotencyKey(u128::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_0C61_5C7D_9E35)));
    let request = Request { command, idempotency: key.map(|key| Idempotency { key, fingerprint: 1 }) };
    loop {
        let told = engine.submit(&request, engine.now()).expect("the journal runs");
        match told.result {
            Err(Refusal::JournalFull) => std::thread::yield_now(),
            _ => return told,
        }
    }
}

fn book(engine: &Engine, party: u32) -> Submitted {
    let claims =
        [Claim { party: PartyId(party), slot: SlotId(party.wrapping_mul(2_654_435_761) % SLOTS), dose: Dose(1) }];
    let told = submit(engine, Command::Book { claims: &claims }, Some(u64::from(party)));
    assert!(told.result.is_ok(), "{:?}", told.result);
    told
}

/// A cell of that size, in runs of 10,000 parties with the same facts.
fn cell(size: Size) -> (tempfile::TempDir, Engine) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (engine, _) =
        Engine::open(Config::new(dir.path()), Arc::new(AllowAll), &mut |_| {}).expect("a new directory opens");
    let run = 10_000.min(size.parties);
    for year in 0..size.parties / run {
        let birth_year = 1900 + u16::try_from(year % 100).expect("below 100");
        let facts = PartyFacts { birth_year, ..PartyFacts::default() };
        submit(&engine, Command::AddParties { count: run, facts }, None).result.expect("nothing to refuse");
    }
    let facts = SlotFacts { starts_at: engine.now().plus(Duration::from_secs(86_400)), ..SlotFacts::default() };
    for centre in 0..SLOTS / 64 {
        let specs = [SlotSpec { centre: CentreKey(centre), capacity: Units::MAX, facts }; 64];
        submit(&engine, Command::Publish { slots: &specs, note: b"" }, None).result.expect("nothing to refuse");
    }
    let last = (0..size.booked).map(|party| book(&engine, party).seq).last().expect("some");
    engine.ticket(last).wait().expect("the journal runs");
    (dir, engine)
}

/// Durable bookings at the offered rate until `over`; how long each took from when it was due.
fn offered(engine: &Engine, size: Size, next: &mut u32, over: &(dyn Fn() -> bool + Sync)) -> Vec<Took> {
    let from = *next;
    let start = Instant::now();
    let gap = Duration::from_secs(1) * size.callers / size.rate;
    let caller = |caller: u32| {
        let mut took = Vec::new();
        for turn in 0.. {
            let due = start + gap * turn + gap * caller / size.callers;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if over() {
                break;
            }
            let told = book(engine, from + turn * size.callers + caller);
            engine.ticket(told.seq).wait().expect("the journal runs");
            took.push(Took { due: due.saturating_duration_since(start), time: due.elapsed() });
        }
        took
    };
    let took: Vec<Vec<Took>> = std::thread::scope(|scope| {
        let caller = &caller;
        let callers: Vec<_> = (0..size.callers).map(|number| scope.spawn(move || caller(number))).collect();
        callers.into_iter().map(|caller| caller.join().expect("no caller panics")).collect()
    });
    *next += size.callers * u32::try_from(took.iter().map(Vec::len).max().unwrap_or(0) + 1).expect("few");
    took.into_iter().flatten().collect()
}

fn with_snapshot(engine: &Engine, size: Size, next: &mut u32) -> (Vec<Took>, SnapshotReport) {
    let done = AtomicBool::new(false);
    // The file system may give blocks back when it has said that it did.
    let after = size.quiet / 5;
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| {
            let report = engine.snapshot().expect("a snapshot is taken").expect("something has happened");
            std::thread::sleep(after);
            done.store(true, Relaxed);
            report
        });
        let took = offered(engine, size, next, &|| done.load(Relaxed));
        (took, taking.join().expect("taking a snapshot does not panic"))
    })
}

/// Percentiles of a stretch.
fn told(name: &str, took: &[Took]) -> String {
    let mut took: Vec<Duration> = took.iter().map(|took| took.time).collect();
    took.sort_unstable();
    let at = |per_mille: usize| took.get((took.len() * per_mille / 1000).min(took.len().saturating_sub(1)));
    let ms = |time: Option<&Duration>| format!("{:.2}", time.copied().unwrap_or_default().as_secs_f64() * 1e3);
    let (p50, p99, p999, max) = (ms(at(500)), ms(at(990)), ms(at(999)), ms(took.last()));
    format!("{name}: {} bookings, p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms, max {max} ms", took.len())
}

/// The stalls in a stretch: bookings that waited at the same time waited in the same one. Each with its end and the longest wait.
fn stalls(took: &[Took]) -> Vec<Took> {
    let mut long: Vec<Took> = took.iter().copied().filter(|took| took.time >= STALL).collect();
    long.sort_unstable_by_key(|took| took.due);
    let mut stalls: Vec<Took> = Vec::new();
    for wait in long {
        match stalls.last_mut() {
            Some(stall) if wait.due < stall.end() => stall.time = stall.time.max(wait.end() - stall.due),
            _ => stalls.push(wait),
        }
    }
    stalls
}

/// What was behind one snapshot, and how bookings fared until it had its name and while that was removed.
fn of_one(number: u32, way: Way, report: &SnapshotReport, took: &[Took]) -> (Vec<String>, Vec<Took>) {
    let named = Duration::from_nanos(report.nanos);
    let removed = Duration::from_nanos(report.trim_nanos);
    // A booking that was due before the name may have waited for what came after it.
    let (taking, removing): (Vec<Took>, Vec<Took>) = took.iter().partition(|took| took.end() < named);
    let mut lines = vec![
        told(
            &format!("snapshot {number} of {} MiB, named after {:.2} s", report.bytes >> 20, named.as_secs_f64()),
            &taking,
        ),
        told(
            &format!(
                "  {} segments and what was old removed {} in {:.2} s",
                report.segments_trimmed,
                way.name(),
                removed.as_secs_f64()
            ),
            &removing,
        ),
    ];
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    lines.extend(stalls(took).iter().map(|stall| {
        let when = if stall.end() < named { "while it was taken" } else { "while what was old was removed" };
        format!("  a stall of {:.0} ms, {:.2} s from its start, {when}", ms(stall.time), stall.due.as_secs_f64())
    }));
    (lines, removing)
}

/// All of it; the bookings made meanwhile.
fn run(size: Size) -> u32 {
    let (_dir, engine) = cell(size);
    let mut next = size.booked;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let say = |line: String| {
        // A bench that cannot print has nobody to tell.
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    let Size { parties, booked, rate, callers, .. } = size;
    say(format!("{parties} parties, {booked} with a booking, {rate} bookings/s offered by {callers} callers"));
    let (ways, rounds) = Way::asked(size.rounds);
    let mut removing: Vec<(Way, Vec<Took>)> = ways.iter().map(|way| (*way, Vec::new())).collect();
    for number in 1..=rounds {
        let until = Instant::now() + size.quiet;
        without.extend(offered(&engine, size, &mut next, &|| Instant::now() >= until));
        let turn = number as usize % ways.len();
        let way = ways[turn];
        way.set(&engine);
        let (took, report) = with_snapshot(&engine, size, &mut next);
        assert!(report.bytes > u64::from(booked) * 80, "a record and a key for each booking");
        let (lines, meanwhile) = of_one(number, way, &report, &took);
        lines.into_iter().for_each(say);
        // Behind the first is nothing, behind the second the log from before it: only the later ones are alike.
        if number > 2 {
            removing[turn].1.extend(meanwhile);
        }
        with.extend(took);
    }
    say(told("without a snapshot", &without));
    say(told("from the start of a snapshot to the end of its removals", &with));
    for (way, took) in &removing {
        say(told(&format!("while what was old was removed {}", way.name()), took));
    }
    engine.close().expect("the journal runs");
    next - booked
}

fn main() {
    // `cargo bench` says --bench; as a test every bench runs once and tiny.
    if std::env::args().any(|arg| arg == "--bench") {
        run(FULL);
        return;
    }
    let mut harness = Criterion::default().configure_from_args().sample_size(10);
    harness.bench_function("bookings_during_a_snapshot", |b| {
        b.iter_custom(|n| {
            let start = Instant::now();
            (0..n).for_each(|_| assert!(run(TINY) > 0));
            start.elapsed()
        });
    });
    harness.final_summary();
}
