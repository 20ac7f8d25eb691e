//! Runs the simulator over many seeds, on every core: what `cargo xtask sim` starts.
//!
//! `sim --first-seed N --seeds N`. Prints how fast it goes, every broken promise with the command that repeats it, what was
//! injected and checked, and `N passed, M failed`.
#![expect(clippy::print_stdout, reason = "a command-line chore speaks on stdout")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use berth_engine::testing::sim::{Tally, run};

/// A run of fewer seeds may miss a fault by chance.
const SEEDS_FOR_ALL: u64 = 300;

struct Runs {
    first_seed: u64,
    seeds: u64,
    next: AtomicU64,
    stop: AtomicBool,
    done: Mutex<(u64, u64, Tally)>,
    started: Instant,
}

impl Runs {
    /// One core's share.
    fn work(&self) {
        while !self.stop.load(Relaxed) {
            let n = self.next.fetch_add(1, Relaxed);
            if n >= self.seeds {
                return;
            }
            let ended = run(self.first_seed + n);
            let mut done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match ended {
                Ok(tally) => {
                    done.0 += 1;
                    done.2.add(&tally);
                }
                Err(violation) => {
                    done.1 += 1;
                    println!("{violation}");
                    self.stop.store(true, Relaxed);
                }
            }
            if done.0.is_multiple_of(500) {
                let rate = done.0 as f64 / self.started.elapsed().as_secs_f64();
                println!("{} of {} seeds, {rate:.0} seeds/s", done.0, self.seeds);
            }
        }
    }
}

fn main() -> ExitCode {
    let (mut first_seed, mut seeds) = (1, 300);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().and_then(|value| value.parse::<u64>().ok());
        match (word.as_str(), value) {
            ("--first-seed", Some(value)) => first_seed = value,
            ("--seeds", Some(value)) => seeds = value,
            _ => {
                println!("sim --first-seed N --seeds N");
                return ExitCode::from(2);
            }
        }
    }
    #[expect(clippy::disallowed_methods, reason = "how fast it goes; nothing in the simulation reads it")]
    let started = Instant::now();
    let runs = Runs {
        first_seed,
        seeds,
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        done: Mutex::default(),
        started,
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| runs.work());
        }
    });
    let (passed, mut failed, tally) = runs.done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("{tally}");
    let missing = tally.missing();
    if seeds >= SEEDS_FOR_ALL && failed == 0 && !missing.is_empty() {
        println!("never happened: {}", missing.join(", "));
        failed = 1;
    }
    println!(
        "{:.1} s, {:.0} seeds/s",
        started.elapsed().as_secs_f64(),
        passed as f64 / started.elapsed().as_secs_f64()
    );
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
