//! Durable bookings in process beside a bare append + fdatasync of as many bytes in as many batches.
//!
//! `cargo bench -p berth-benches --bench journal`

use std::fs::File;
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

/// `bookings` durable bookings with at most `callers` waiting at once; also the batches and bytes it took.
fn engine_round(bookings: u32, callers: usize, shape: &mut (u64, u64)) -> Round {
    let (_dir, engine, slots) = durable_engine(bookings);
    let before = engine.stats();
    let mut waiting = std::collections::VecDeque::new();
    let start = Instant::now();
    for party in 0..bookings {
        if waiting.len() == callers {
            // The oldest caller is answered before the next may ask.
            let ticket: Ticket = waiting.pop_front().expect("callers is not zero");
            ticket.wait().expect("the journal runs");
        }
        waiting.push_back(book(&engine, party, &slots));
    }
    for ticket in waiting {
        ticket.wait().expect("the journal runs");
    }
    let time = start.elapsed();
    let after = engine.stats();
    *shape = (after.journal_batches - before.journal_batches, after.journal_bytes - before.journal_bytes);
    (time, after.durable)
}

/// The same bytes in as many equal batches, appended and synced on a preallocated file.
fn bare_round(shape: (u64, u64)) -> Round {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = File::create(dir.path().join("bare")).expect("a new file");
    let (batches, bytes) = shape;
    let batch = vec![7u8; usize::try_from(bytes / batches.max(1)).expect("fits")];
    let zeros = vec![0u8; 1 << 20];
    for at in (0..bytes + batch.len() as u64).step_by(zeros.len()) {
        file.write_all_at(&zeros, at).expect("room on the disk");
    }
    file.sync_all().expect("sync");
    let start = Instant::now();
    for n in 0..batches {
        file.write_all_at(&batch, n * batch.len() as u64).expect("room on the disk");
        file.sync_data().expect("sync");
    }
    (start.elapsed(), batches)
}

fn criterion(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("durable_booking");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for callers in [1usize, 256] {
        group.bench_function(format!("{callers}_callers"), |b| {
            b.iter_custom(|n| engine_round(u32::try_from(n).expect("fits"), callers, &mut (0, 0)).0);
        });
    }
    group.finish();
}

fn main() {
    // `cargo bench` says --bench; as a test every bench runs once and tiny.
    if std::env::args().any(|arg| arg == "--bench") {
        for (callers, bookings) in [(1, 1000u32), (256, 100_000), (4096, 1_000_000)] {
            let shape = std::cell::Cell::new((0, 0));
            side_by_side(
                &format!("durable booking, {callers} callers, beside append + fdatasync of its bytes in its batches"),
                u64::from(bookings),
                5,
                ("engine", || {
                    let mut took = (0, 0);
                    let round = engine_round(bookings, callers, &mut took);
                    shape.set(took);
                    round
                }),
                ("bare", || bare_round(shape.get())),
            );
        }
    }
    let mut harness = Criterion::default().configure_from_args();
    criterion(&mut harness);
    harness.final_summary();
}
