//! Hold + confirm in memory beside the bare floor, and one hot slot beside one thread.
//!
//! `cargo bench -p berth-benches --bench reserve`

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_benches::floor::Floor;
use berth_benches::reserve::{engine, hold_confirm, random};
use berth_benches::sides::{Round, side_by_side};
use criterion::Criterion;

const SLOTS: usize = 1 << 20;

fn engine_round(pairs: usize, slots: usize) -> Round {
    let (engine, numbers) = engine(pairs, slots);
    let mut next = random(slots);
    let start = Instant::now();
    let (mut sum, mut spare) = (0, None);
    for party in 0..u32::try_from(pairs).expect("fewer than 2^32") {
        sum += hold_confirm(&engine, party, numbers[next()], &mut spare);
    }
    (start.elapsed(), black_box(sum))
}

fn floor_round(pairs: usize, slots: usize) -> Round {
    let floor = Floor::new(pairs, slots);
    let mut next = random(slots);
    let start = Instant::now();
    let sum = (0..pairs).map(|party| floor.hold_confirm(party, next(), 1_800_000_000_000)).sum();
    (start.elapsed(), black_box(sum))
}

/// All threads on one slot: total time for `pairs` pairs.
fn hot_round(pairs: usize, threads: usize) -> Round {
    let (engine, numbers) = engine(pairs, 1);
    let engine = Arc::new(engine);
    let share = u32::try_from(pairs / threads).expect("fewer than 2^32");
    let start = Instant::now();
    let sum = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..u32::try_from(threads).expect("few"))
            .map(|thread| {
                let (engine, slot) = (&engine, numbers[0]);
                scope.spawn(move || {
                    let mut spare = None;
                    let parties = thread * share..(thread + 1) * share;
                    parties.map(|party| hold_confirm(engine, party, slot, &mut spare)).sum::<u64>()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no worker panics")).sum()
    });
    (start.elapsed(), black_box(sum))
}

fn criterion(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hold_confirm");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    let iters = |n: u64| usize::try_from(n).expect("fits");
    group.bench_function("floor", |b| b.iter_custom(|n| floor_round(iters(n), SLOTS).0));
    group.bench_function("engine", |b| b.iter_custom(|n| engine_round(iters(n), SLOTS).0));
    group.finish();
}

fn main() {
    // `cargo bench` says --bench; as a test every bench runs once and tiny.
    if std::env::args().any(|arg| arg == "--bench") {
        let pairs = 1 << 20;
        side_by_side(
            "hold + confirm, one thread, 2^20 random slots, distinct parties, keys and journal bytes included",
            pairs as u64,
            9,
            ("floor", || floor_round(pairs, SLOTS)),
            ("engine", || engine_round(pairs, SLOTS)),
        );
        // Twenty bits of capacity: one slot cannot be booked 2^20 times.
        let hot = pairs / 2;
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        side_by_side(
            &format!("hold + confirm, one hot slot, {threads} threads"),
            hot as u64,
            9,
            ("one thread", || hot_round(hot, 1)),
            ("all threads", || hot_round(hot, threads)),
        );
    }
    let mut harness = Criterion::default().configure_from_args();
    criterion(&mut harness);
    harness.final_summary();
}
