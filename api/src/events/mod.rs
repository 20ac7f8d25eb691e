//! The events stream: every transition as a JSON `CloudEvent` in a Redis stream, for integrators (`docs/events.md`).
//!
//! A projection of the journal, never of memory that a crash could undo: one thread follows the log behind the durable
//! watermark ([`berth_engine::LogTail`]), makes events of each entry ([`project`]) and appends them ([`stream`]) together
//! with its cursor, in one server-side step that checks epoch and cursor first. So a repeated append duplicates nothing in the
//! stream, and a lost reply leaves no hole.
//!
//! Booking never waits for it. While its Redis is gone the lag grows and the log is kept for it, up to a bound past which
//! what was not told is lost and a gap event says so. What a crash loses: nothing; the next start goes on from the cursor.

mod project;
mod stream;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use berth_engine::{Engine, LogPlace, RedisConfig, Seq};
use berth_programme::Campaign;
use parking_lot::Mutex;

/// How long a closing server waits for Redis to take what it has not. The log has it, and the next start tells it.
const CLOSING_MAX: Duration = Duration::from_secs(2);

/// Where events go. Checked by [`crate::config`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EventsConfig {
    /// Which Redis, and how to be let in.
    pub(crate) redis: RedisConfig,
    /// The stream's key. Its cursor is the hash `{stream}:cursor`.
    pub(crate) stream: String,
    /// About how many events the stream keeps; older ones go.
    pub(crate) len_max: u64,
    /// The attribute `source` of every event.
    pub(crate) source: String,
    /// Whether events show booking codes.
    pub(crate) booking_codes: bool,
    /// Entries of lag past which the log is no longer kept for the stream.
    pub(crate) lag_entries_max: u64,
    /// Where the stream is not of this log, what it tells of entries behind this one is taken back.
    pub(crate) resume: Option<Seq>,
}

impl std::fmt::Debug for EventsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventsConfig({})", self.stream)
    }
}

/// How the stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventsStats {
    pub(crate) connected: bool,
    /// Every event up to this entry is known to be in the stream.
    pub(crate) told: u64,
    /// Durable entries behind it.
    pub(crate) lag_entries: u64,
    /// The age of the oldest of those.
    pub(crate) lag: Duration,
    /// Appended in this run.
    pub(crate) events: u64,
    /// Gap events among them.
    pub(crate) gaps: u64,
    /// Connections lost and failed.
    pub(crate) errors: u64,
    /// Another owner took over, or the stream is of another history: nothing more is told in this run.
    pub(crate) stopped: bool,
}

/// What the thread says of itself.
#[derive(Debug, Default)]
struct Shared {
    connected: AtomicBool,
    stopped: AtomicBool,
    closing: AtomicBool,
    told: AtomicU64,
    /// When the oldest untold entry was judged, in milliseconds since 1970; 0 while there is none.
    oldest: AtomicU64,
    events: AtomicU64,
    gaps: AtomicU64,
    errors: AtomicU64,
}

/// The running projection. Dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Events {
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Events {
    /// Starts the thread. From now on the log is kept for it: to be called before the first snapshot trims.
    ///
    /// # Errors
    /// No thread can be started, or the engine keeps no log to follow.
    pub(crate) fn start(config: EventsConfig, campaign: &Campaign) -> io::Result<Events> {
        let engine = Arc::clone(&campaign.engine);
        let shared = Arc::new(Shared::default());
        let pin = engine.tail(LogPlace::default()).ok_or_else(|| io::Error::other("there is no log to follow"))?;
        let worker = worker::Worker::new(config, campaign.clone(), pin, Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("berth-events".to_owned()).spawn(move || worker.run())?;
        Ok(Events { engine, shared, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn stats(&self) -> EventsStats {
        let shared = &self.shared;
        let told = shared.told.load(Relaxed);
        let lag_entries = self.engine.durable().0.saturating_sub(told);
        let oldest = shared.oldest.load(Relaxed);
        let age = if lag_entries == 0 || oldest == 0 { 0 } else { self.engine.now().0.saturating_sub(oldest) };
        EventsStats {
            connected: shared.connected.load(Relaxed),
            told,
            lag_entries,
            lag: Duration::from_millis(age),
            events: shared.events.load(Relaxed),
            gaps: shared.gaps.load(Relaxed),
            errors: shared.errors.load(Relaxed),
            stopped: shared.stopped.load(Relaxed),
        }
    }

    /// Tells what is durable, if Redis takes it within [`CLOSING_MAX`], and ends. To be called after the engine was closed.
    /// A thread that waits for a silent Redis is left to its own time-out.
    pub(crate) fn close(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        self.shared.closing.store(true, Release);
        let started = Instant::now();
        while !thread.is_finished() && started.elapsed() < CLOSING_MAX {
            thread.thread().unpark();
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            // A panic was told of when it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_closing(&self) -> bool {
        self.closing.load(Acquire)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.close();
    }
}
