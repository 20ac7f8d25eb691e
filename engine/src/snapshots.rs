//! How snapshots fare: one at a time, and what is told of them.

use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

use crate::engine::Engine;
use crate::ids::Seq;
use crate::snapshot::{SnapshotReport, TakeError};
use crate::units::TimestampMs;

/// How snapshots fare. What is of this run is lost with it; the rest is read from the newest file at the next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStats {
    /// Taken in this run.
    pub taken: u64,
    /// Attempts that failed in this run.
    pub failed: u64,
    /// 1 while one is being taken.
    pub running: u64,
    /// Every entry up to here is in the newest one, whichever run took it; 0 if there is none.
    pub s0: Seq,
    /// When that one was taken; 0 if there is none.
    pub at: TimestampMs,
    /// Bytes of that one.
    pub bytes: u64,
    /// How long the newest of this run took, in nanoseconds.
    pub nanos: u64,
    /// Bytes of frames that a start would have to replay behind it.
    pub log_bytes_since: u64,
}

/// The turn of who takes a snapshot, and how they fared.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    turn: Mutex<()>,
    stats: Mutex<SnapshotStats>,
    /// Bytes the writer had written when the newest began, counted from this run's start: before it, below zero and
    /// wrapped. Only in the turn or before there are threads.
    began_at: Mutex<u64>,
}

impl Snapshots {
    /// What a start found: the newest snapshot, and so many bytes of frames behind it.
    pub(crate) fn found(s0: Seq, at: TimestampMs, bytes: u64, log_bytes_since: u64) -> Self {
        let stats = SnapshotStats { s0, at, bytes, ..SnapshotStats::default() };
        let began_at = Mutex::new(0u64.wrapping_sub(log_bytes_since));
        Self { turn: Mutex::new(()), stats: Mutex::new(stats), began_at }
    }
}

impl Engine {
    /// Takes a snapshot while serving, keeps the one before it, and trims the log behind that. `None` if nothing
    /// has happened since the last one. Blocks the caller for as long as it takes: to be called from a thread of its own.
    ///
    /// # Errors
    /// Why there is none. Nothing else is affected.
    pub fn snapshot(&self) -> Result<Option<SnapshotReport>, TakeError> {
        let _one = self.snapshots.turn.lock();
        let written = self.marks.bytes.load(Relaxed);
        self.snapshots.stats.lock().running = 1;
        let taken = self.take_snapshot();
        let mut stats = self.snapshots.stats.lock();
        stats.running = 0;
        match &taken {
            Ok(Some(report)) => {
                stats.taken += 1;
                stats.s0 = report.s0;
                stats.at = self.now();
                stats.bytes = report.bytes;
                stats.nanos = report.nanos;
                *self.snapshots.began_at.lock() = written;
            }
            // Nothing is behind the newest one: what was counted as such were frames of the segment it begins in.
            Ok(None) => *self.snapshots.began_at.lock() = written,
            Err(_) => stats.failed += 1,
        }
        drop(stats);
        taken
    }

    /// How snapshots fare.
    #[must_use]
    pub fn snapshot_stats(&self) -> SnapshotStats {
        let log_bytes_since = self.marks.bytes.load(Relaxed).wrapping_sub(*self.snapshots.began_at.lock());
        SnapshotStats { log_bytes_since, ..*self.snapshots.stats.lock() }
    }
}
