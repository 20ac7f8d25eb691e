//! How the shipper stands, for who does not turn it: read at any time from any thread, each figure by itself.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::Mutex;

use crate::clock::Stopwatch;
use crate::ids::Seq;
use crate::journal::stream::ServerState;
use crate::journal::watermark::Watermark;

/// How the write-behind stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShipperStats {
    /// 1 while connected.
    pub connected: u64,
    /// The newest entry known to be in Redis.
    pub shipped: u64,
    /// Durable entries not yet there.
    pub lag_entries: u64,
    /// Bytes of the log that hold them; the unused ends of segments are counted.
    pub lag_bytes: u64,
    /// For how long at most an entry has been durable and not in Redis, in nanoseconds.
    pub lag_nanos: u64,
    /// Frames appended in this run.
    pub frames: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Connections lost, and calls that were refused.
    pub errors: u64,
    /// How often Redis had lost entries that were there, and they were shipped again.
    pub rewinds: u64,
    /// How often a snapshot and the head behind it were installed in one step, because the log no longer reached back.
    pub installs: u64,
    /// Where the newest snapshot begins of which every piece is in Redis; 0 if there is none.
    pub snapshot: u64,
    /// Bytes that Redis has in use.
    pub memory_used_bytes: u64,
    /// Bytes that it may use; 0 is no bound.
    pub memory_max_bytes: u64,
    /// What an operator should change in how Redis is set up, in sentences.
    pub warnings: Vec<String>,
    /// 1 once shipping has stopped for good: another owner took over, or Redis holds another history.
    pub stopped: u64,
    /// 1 once another owner has taken over: the journal has stopped too.
    pub fenced: u64,
    /// Why it stopped, or the last error.
    pub last_error: Option<String>,
}

/// What the shipper shares with who asks how it stands.
#[derive(Debug)]
pub(crate) struct Shipping {
    pub(super) marks: Arc<Watermark>,
    pub(super) connected: AtomicBool,
    pub(super) stopped: AtomicBool,
    pub(super) fenced: AtomicBool,
    pub(super) closing: AtomicBool,
    /// Waited for long enough when closing.
    pub(super) given_up: AtomicBool,
    pub(super) frames: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) rewinds: AtomicU64,
    pub(super) installs: AtomicU64,
    /// The newest snapshot that is whole on the local disk, and in Redis.
    pub(super) snapshot_here: AtomicU64,
    pub(super) snapshot_there: AtomicU64,
    /// Where the shipper reads the log: segment index times segment bytes, and the offset.
    pub(super) place: AtomicU64,
    /// An entry that was durable at this time and was not in Redis when last looked.
    behind: Mutex<Option<(Seq, Stopwatch)>>,
    pub(super) last_error: Mutex<Option<String>>,
    /// How the server stood when it was last asked.
    pub(super) server: Mutex<ServerState>,
}

impl Shipping {
    /// Of a shipper that has not connected yet; the newest snapshot on the local disk begins at `newest`.
    pub(super) fn new(marks: Arc<Watermark>, newest: Seq) -> Self {
        Self {
            marks,
            connected: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            rewinds: AtomicU64::new(0),
            installs: AtomicU64::new(0),
            snapshot_here: AtomicU64::new(newest.0),
            snapshot_there: AtomicU64::new(0),
            place: AtomicU64::new(0),
            behind: Mutex::new(None),
            last_error: Mutex::new(None),
            server: Mutex::default(),
        }
    }

    pub(crate) fn stats(&self) -> ShipperStats {
        let (shipped, durable) = (self.marks.in_redis(), self.marks.durable());
        let server = self.server.lock().clone();
        ShipperStats {
            connected: u64::from(self.connected.load(Relaxed)),
            shipped: shipped.0,
            lag_entries: durable.0.saturating_sub(shipped.0),
            lag_bytes: match durable > shipped {
                true => self.marks.log_place.load(Relaxed).saturating_sub(self.place.load(Relaxed)),
                false => 0,
            },
            lag_nanos: self.lag_nanos(),
            frames: self.frames.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            errors: self.errors.load(Relaxed),
            rewinds: self.rewinds.load(Relaxed),
            installs: self.installs.load(Relaxed),
            snapshot: self.snapshot_there.load(Relaxed),
            memory_used_bytes: server.memory_used_bytes,
            memory_max_bytes: server.memory_max_bytes,
            warnings: server.warnings,
            stopped: u64::from(self.stopped.load(Relaxed)),
            fenced: u64::from(self.fenced.load(Relaxed)),
            last_error: self.last_error.lock().clone(),
        }
    }

    /// One mark at a time follows the watermark: set when something is durable and not in Redis, set anew when Redis
    /// has reached it. So the time is at most that of the oldest entry, and at least half of it.
    fn lag_nanos(&self) -> u64 {
        let (shipped, durable) = (self.marks.in_redis(), self.marks.durable());
        let mut behind = self.behind.lock();
        if behind.is_some_and(|(seq, _)| seq <= shipped) {
            *behind = None;
        }
        if shipped < durable && behind.is_none() {
            *behind = Some((durable, Stopwatch::start()));
        }
        behind.map_or(0, |(_, since)| since.nanos())
    }

    /// The newest entry known to be in Redis: the log behind it is still to be read.
    pub(crate) fn shipped(&self) -> Seq {
        self.marks.in_redis()
    }

    /// A snapshot got its name: it is to be brought to Redis.
    pub(crate) fn snapshot_published(&self, s0: Seq) {
        self.snapshot_here.store(s0.0, Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Acquire)
    }
}
