//! Durable bookings in process beside a bare append + fdatasync of as many bytes in as many batches, and how long each waited.
//!
//! `cargo bench -p berth-benches --bench journal`; with ` -- 256_callers` only that.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_benches::sides::{Round, side_by_side};
use berth_engine::{
    AllowAll, CentreKey, Claim, Command, Config, Dose, Engine, Idempotency, IdempotencyKey, Outcome, PartyFacts,
    PartyId, Request, SlotFacts, SlotId, SlotSpec, Ticket, Units,
};
use criterion::Criterion;

/// Enough that no run fills them.
const SLOTS: usize = 64;

fn durable_engine(parties: u32) -> (tempfile::TempDir, Engine, Vec<SlotId>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (engine, _) =
        Engine::open(Config::new(dir.path()), Arc::new(AllowAll), &mut |_| {}).expect("a new directory opens");
    let submit = |command| {
        let told = engine.submit(&Request { command, idempotency: None }, engine.now()).expect("the journal runs");
        told.result.expect("nothing to refuse")
    };
    submit(Command::AddParties { count: parties, facts: PartyFacts::default() });
    let facts = SlotFacts { starts_at: engine.now().plus(Duration::from_secs(86_400)), ..SlotFacts::default() };
    let spec = SlotSpec { centre: CentreKey(1), capacity: Units::MAX, facts };
    let Outcome::Published { slots, .. } = submit(Command::Publish { slots: &[spec; SLOTS], note: b"" }) else {
        unreachable!("a publish answers Published")
    };
    (dir, engine, slots)
}

fn book(engine: &Engine, party: u32, slots: &[SlotId]) -> Ticket {
    let slot = slots[party as usize % slots.len()];
    let claims = [Claim { party: PartyId(party), slot, dose: Dose(1) }];
    let idempotency = Some(Idempotency { key: IdempotencyKey(u128::from(party)), fingerprint: 1 });
    let told = engine.submit(&Request { command: Command::Book { claims: &claims }, idempotency }, engine.now());
    let told = told.expect("the journal runs");
    assert!(told.result.is_ok(), "{:?}", told.result);
    engine.ticket(told.seq)
}

/// What a round took beside its time.
#[derive(Clone, Default)]
struct Shape {
    batches: u64,
    bytes: u64,
    /// How much of the time the writer was in a sync.
    syncing: f64,
    /// From the call to the durable answer of every booking, or of every batch on the bare side.
    waits: Vec<Duration>,
}

impl Shape {
    /// p50, p99 and p99.9 in microseconds.
    fn percentiles(&mut self) -> String {
        self.waits.sort_unstable();
        let at = |thousandths: usize| self.waits[(self.waits.len() - 1) * thousandths / 1000].as_micros();
        format!("p50 {} us, p99 {} us, p99.9 {} us", at(500), at(990), at(999))
    }
}

/// These parties book, with at most `callers` waiting at once; how long each waited.
fn make(engine: &Engine, slots: &[SlotId], parties: impl Iterator<Item = u32>, callers: usize) -> Vec<Duration> {
    let mut waiting = std::collections::VecDeque::with_capacity(callers);
    let mut waits = Vec::with_capacity(parties.size_hint().0);
    let mut answered = |(asked, ticket): (Instant, Ticket)| {
        ticket.wait().expect("the journal runs");
        waits.push(asked.elapsed());
    };
    for party in parties {
        if waiting.len() == callers {
            // The oldest caller is answered before the next may ask.
            answered(waiting.pop_front().expect("callers is not zero"));
        }
        waiting.push_back((Instant::now(), book(engine, party, slots)));
    }
    waiting.into_iter().for_each(&mut answered);
    waits
}

/// `bookings` durable bookings with at most `callers` waiting at once, made by so many threads.
fn engine_round(bookings: u32, callers: usize, makers: usize, shape: &mut Shape) -> Round {
    let (_dir, engine, slots) = durable_engine(bookings);
    let before = engine.stats();
    let start = Instant::now();
    let waits = std::thread::scope(|scope| {
        let (engine, slots) = (&engine, &slots[..]);
        let makers = (0..makers).map(|maker| {
            let parties = (u32::try_from(maker).expect("few")..bookings).step_by(makers);
            scope.spawn(move || make(engine, slots, parties, callers / makers))
        });
        let makers: Vec<_> = makers.collect();
        makers.into_iter().flat_map(|maker| maker.join().expect("no maker panics")).collect()
    });
    let time = start.elapsed();
    let after = engine.stats();
    let (batches, bytes) = (after.journal_batches - before.journal_batches, after.journal_bytes - before.journal_bytes);
    let syncing = Duration::from_nanos(after.journal_sync_nanos - before.journal_sync_nanos);
    *shape = Shape { batches, bytes, syncing: syncing.as_secs_f64() / time.as_secs_f64(), waits };
    (time, after.durable)
}

/// The same bytes in as many equal batches, appended and synced on a preallocated file.
fn bare_round(shape: &mut Shape) -> Round {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = File::create(dir.path().join("bare")).expect("a new file");
    let (batches, bytes) = (shape.batches, shape.bytes);
    shape.waits = Vec::with_capacity(usize::try_from(batches).expect("fits"));
    let batch = vec![7u8; usize::try_from(bytes / batches.max(1)).expect("fits")];
    let zeros = vec![0u8; 1 << 20];
    for at in (0..bytes + batch.len() as u64).step_by(zeros.len()) {
        file.write_all_at(&zeros, at).expect("room on the disk");
    }
    file.sync_all().expect("sync");
    let start = Instant::now();
    for n in 0..batches {
        let asked = Instant::now();
        file.write_all_at(&batch, n * batch.len() as u64).expect("room on the disk");
        file.sync_data().expect("sync");
        shape.waits.push(asked.elapsed());
    }
    (start.elapsed(), batches)
}

fn criterion(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("durable_booking");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for callers in [1usize, 256] {
        group.bench_function(format!("{callers}_callers"), |b| {
            b.iter_custom(|n| engine_round(u32::try_from(n).expect("fits"), callers, 1, &mut Shape::default()).0);
        });
    }
    group.finish();
}

fn main() {
    // `cargo bench` says --bench; as a test every bench runs once and tiny.
    if std::env::args().any(|arg| arg == "--bench") {
        // One thread that makes every booking is the limit where many wait; two are as many as the machine has cores.
        let rows = [
            (1, 1, 2000u32),
            (16, 1, 20_000),
            (256, 1, 200_000),
            (256, 2, 200_000),
            (1024, 1, 500_000),
            (1024, 2, 500_000),
            (4096, 1, 1_000_000),
            (4096, 2, 1_000_000),
        ];
        for (callers, makers, bookings) in rows {
            if std::env::args().skip(1).any(|arg| !arg.starts_with('-') && arg != format!("{callers}_callers")) {
                continue;
            }
            let (engine, bare) = (RefCell::new(Shape::default()), RefCell::new(Shape::default()));
            side_by_side(
                &format!(
                    "durable booking, {callers} callers in {makers} threads, beside append + fdatasync of its bytes in its batches"
                ),
                u64::from(bookings),
                7,
                ("engine", || engine_round(bookings, callers, makers, &mut engine.borrow_mut())),
                ("bare", || {
                    let mut shape = Shape { waits: Vec::new(), ..*engine.borrow() };
                    let round = bare_round(&mut shape);
                    bare.replace(shape);
                    round
                }),
            );
            let (mut engine, mut bare) = (engine.take(), bare.take());
            let each = f64::from(bookings) / f64::from(u32::try_from(engine.batches).expect("fits"));
            // A bench that cannot print has nobody to tell.
            let _ = writeln!(
                std::io::stdout(),
                "  the last round: {each:.0} bookings a batch; the writer was in a sync for {:.0} % of the time; a booking waited \
                 {}; a bare batch took {}",
                engine.syncing * 100.0,
                engine.percentiles(),
                bare.percentiles(),
            );
        }
    }
    let mut harness = Criterion::default().configure_from_args();
    criterion(&mut harness);
    harness.final_summary();
}
