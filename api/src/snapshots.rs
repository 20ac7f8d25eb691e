//! Snapshots while serving: when one is due, and the thread that takes them.
//!
//! The thread runs at a lower priority than those that answer. A snapshot that fails costs nothing but the longer
//! start and the longer log: the one before stays, the log is told once, and the next attempt comes a little later.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use berth_engine::{Engine, SnapshotStats, TimestampMs};

use crate::panics::OnPanic;

/// How often it is looked whether one is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The wait after one that failed.
const AGAIN: Duration = Duration::from_secs(30);
/// Between two that a starved journal asks for.
const STARVED_EVERY: Duration = Duration::from_secs(5);
/// Added to the niceness of the thread: it yields to those that answer, and is not starved while it holds a lock.
const NICER: i32 = 5;

/// When a snapshot is due. Checked by [`crate::config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotPolicy {
    /// So long after the last one, if anything has happened since. `None`: never by the clock.
    pub(crate) every: Option<Duration>,
    /// When a start would have to replay so many bytes of the log. `None`: never by size.
    pub(crate) log_bytes: Option<u64>,
    /// Before a planned stop, when a start would have to replay so many bytes.
    pub(crate) stop_log_bytes: u64,
}

/// What a look found.
#[derive(Clone, Copy, Debug)]
struct Look {
    now: TimestampMs,
    /// When this run began.
    began: TimestampMs,
    stats: SnapshotStats,
    /// When the last attempt failed, if it did.
    failed: Option<TimestampMs>,
    starved: bool,
}

impl SnapshotPolicy {
    fn is_due(&self, look: &Look) -> bool {
        let Look { now, began, stats, failed, starved } = *look;
        let waits = failed.is_some_and(|failed| now < failed.plus(AGAIN));
        // Starved and without news: what keeps the log may have let go of it, and then it is trimmed.
        if waits || stats.log_bytes_since == 0 && !starved {
            return false;
        }
        // Without any, from the start of this run.
        let last = if stats.at == TimestampMs(0) { began } else { stats.at };
        self.every.is_some_and(|every| now >= last.plus(every))
            || self.log_bytes.is_some_and(|bytes| stats.log_bytes_since >= bytes)
            || starved && now >= last.plus(STARVED_EVERY)
    }
}

/// The thread that takes snapshots.
pub(crate) struct Snapshots {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    engine: Arc<Engine>,
    policy: SnapshotPolicy,
    stop: AtomicBool,
    asked: AtomicBool,
}

/// Asks for a snapshot now.
#[derive(Clone)]
pub(crate) struct Asker(Arc<Shared>, std::thread::Thread);

impl Asker {
    pub(crate) fn ask(&self) {
        // Relaxed: only this flag is communicated, and `unpark` orders it anyway.
        self.0.asked.store(true, Relaxed);
        self.1.unpark();
    }
}

impl Snapshots {
    pub(crate) fn start(engine: Arc<Engine>, policy: SnapshotPolicy) -> io::Result<Snapshots> {
        let shared = Shared { engine, policy, stop: AtomicBool::new(false), asked: AtomicBool::new(false) };
        let shared = Arc::new(shared);
        let running = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("berth-snapshots".to_owned()).spawn(move || running.run())?;
        Ok(Snapshots { shared, thread })
    }

    pub(crate) fn asker(&self) -> Asker {
        Asker(Arc::clone(&self.shared), self.thread.thread().clone())
    }

    /// Ends the thread, after the snapshot it is taking; then takes one more, if the next start would have to replay much.
    /// Serving goes on meanwhile.
    pub(crate) fn stop(self) {
        self.shared.stop.store(true, Relaxed);
        self.thread.thread().unpark();
        self.shared.engine.hurry_removals();
        // A panic was told of when it happened.
        let _ = self.thread.join();
        let Shared { engine, policy, .. } = &*self.shared;
        if engine.snapshot_stats().log_bytes_since >= policy.stop_log_bytes {
            take(engine, &mut None);
        }
    }
}

impl Shared {
    fn run(&self) {
        // The log would grow, and nobody would know why.
        let _told = OnPanic(|| {
            tracing::error!("the snapshot thread panicked: none is taken any more until a restart, and the log grows");
        });
        // Refused, it runs at the priority of the others.
        let nice = rustix::process::getpriority_process(None).unwrap_or(0);
        let _ = rustix::process::setpriority_process(None, nice + NICER);
        let began = self.engine.now();
        let mut failed = None;
        while !self.stop.load(Relaxed) {
            let starved = self.engine.stats().journal_starved != 0;
            let look = Look { now: self.engine.now(), began, stats: self.engine.snapshot_stats(), failed, starved };
            if self.asked.swap(false, Relaxed) || self.policy.is_due(&look) {
                take(&self.engine, &mut failed);
                if starved {
                    std::thread::park_timeout(LOOK_EVERY);
                }
            } else {
                std::thread::park_timeout(LOOK_EVERY);
            }
        }
    }
}

/// Takes one and tells of it; of failures only the first in a row.
fn take(engine: &Engine, failed: &mut Option<TimestampMs>) {
    match engine.snapshot() {
        Ok(None) => *failed = None,
        Ok(Some(report)) => {
            *failed = None;
            tracing::info!(
                entries = report.s0.0,
                bytes = report.bytes,
                milliseconds = report.nanos / 1_000_000,
                segments_trimmed = report.segments_trimmed,
                trim_milliseconds = report.trim_nanos / 1_000_000,
                "took a snapshot"
            );
            if report.set_aside > 0 {
                tracing::error!(
                    snapshots = report.set_aside,
                    "could not be read and were renamed to *.damaged: look at the disk"
                );
            }
        }
        Err(error) => {
            if failed.replace(engine.now()).is_none() {
                tracing::error!(%error, "no snapshot could be taken: the log grows, and a start takes longer");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: SnapshotPolicy =
        SnapshotPolicy { every: Some(Duration::from_secs(60)), log_bytes: Some(1000), stop_log_bytes: 10 };

    fn look(now: u64, at: u64, log_bytes_since: u64) -> Look {
        let stats = SnapshotStats { at: TimestampMs(at), log_bytes_since, ..SnapshotStats::default() };
        Look { now: TimestampMs(now), began: TimestampMs(100_000), stats, failed: None, starved: false }
    }

    #[test]
    fn one_is_due_by_the_clock_or_by_the_size_of_the_log_and_never_without_news() {
        assert!(!POLICY.is_due(&look(159_999, 0, 1)) && POLICY.is_due(&look(160_000, 0, 1)), "from the start");
        assert!(!POLICY.is_due(&look(179_999, 120_000, 1)) && POLICY.is_due(&look(180_000, 120_000, 1)));
        assert!(POLICY.is_due(&look(500_000, 1, 1)), "one of an earlier run is old");
        assert!(!POLICY.is_due(&look(120_001, 120_000, 999)) && POLICY.is_due(&look(120_001, 120_000, 1000)));
        assert!(!POLICY.is_due(&look(900_000, 120_000, 0)));
        let never = SnapshotPolicy { every: None, log_bytes: None, ..POLICY };
        assert!(!never.is_due(&look(900_000, 0, 1 << 40)));
    }

    #[test]
    fn a_starved_journal_asks_for_one_early_and_a_failed_one_is_waited_out() {
        let starved = |now| Look { starved: true, ..look(now, 120_000, 1) };
        assert!(!POLICY.is_due(&starved(124_999)) && POLICY.is_due(&starved(125_000)));
        assert!(
            POLICY.is_due(&Look { starved: true, ..look(125_000, 120_000, 0) }),
            "to trim what was let go of since"
        );
        let failed = |now| Look { failed: Some(TimestampMs(125_000)), ..starved(now) };
        assert!(!POLICY.is_due(&failed(154_999)) && POLICY.is_due(&failed(155_000)));
    }
}
