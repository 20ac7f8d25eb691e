//! Live counters: for the progress line, for aiming a kill, and for nothing that is judged (the history is).

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// What is going on right now. Every field is a plain count; readers may see them a moment apart.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Requests that change state and have no answer yet.
    pub(crate) changes_in_flight: AtomicU64,
    pub(crate) operations_in_flight: AtomicU64,
    pub(crate) operations: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unknown: AtomicU64,
    /// Bookings acknowledged, replays not counted.
    pub(crate) bookings: AtomicU64,
    pub(crate) arrivals_started: AtomicU64,
    pub(crate) arrivals_dropped: AtomicU64,
    /// When the last kill struck; 0 before the first.
    pub(crate) killed_us: AtomicI64,
    /// Changes sent before that whose answers never came.
    pub(crate) cut_by_kill: AtomicU64,
    /// Of a million requests so many lose their connection; mostly 0.
    pub(crate) cut_in_a_million: AtomicU32,
    draws: AtomicU64,
    cut_short: Mutex<Option<&'static str>>,
}

/// A connection that is cut is cut within so long after the sending.
const CUT_WITHIN_US: u64 = 4_000;

impl Meter {
    pub(crate) fn note_cut_short(&self, why: &'static str) {
        let mut cut = self.cut_short.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        cut.get_or_insert(why);
    }

    pub(crate) fn cut_short(&self) -> Option<&'static str> {
        *self.cut_short.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// When this request's connection is cut, if it is.
    pub(crate) fn cut_after(&self) -> Option<Duration> {
        let share = self.cut_in_a_million.load(Relaxed);
        if share == 0 {
            return None;
        }
        let mut rng = SmallRng::seed_from_u64(self.draws.fetch_add(1, Relaxed));
        (rng.random_range(0..1_000_000) < share).then(|| Duration::from_micros(rng.random_range(0..CUT_WITHIN_US)))
    }

    pub(crate) fn line(&self, elapsed: Duration, waiting: usize, planned: u64) -> String {
        format!(
            "{:>4}s  people {}/{planned} (waiting {waiting})  operations {}  in flight {}  bookings {}  refused {}  unknown {}",
            elapsed.as_secs(),
            self.arrivals_started.load(Relaxed),
            self.operations.load(Relaxed),
            self.operations_in_flight.load(Relaxed),
            self.bookings.load(Relaxed),
            self.refused.load(Relaxed),
            self.unknown.load(Relaxed),
        )
    }
}
