//! How the shipper stands, for who does not turn it: read at any time from any thread, each figure by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::Mutex;

use crate::clock::Stopwatch;
use crate::error::Failure;
use crate::ids::Seq;
use crate::journal::snapshot::SnapshotError;
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
    /// Bytes of the frames that hold them.
    pub lag_bytes: u64,
    /// How long the oldest of them has been durable in this run, in nanoseconds: never less, and more by at most the time
    /// between two looks, or a tenth.
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

const DISK_LATE: &str = "Redis was asked to have what it was sent on its disk, and had not in time: answers in mode redis wait. \
                         With appendfsync no it never says that it has";

/// Of frames, in bytes.
#[derive(Debug, Default)]
struct Lag {
    behind: u64,
    written: u64,
    shipped: u64,
}

impl Lag {
    fn bytes(&self, written: u64) -> u64 {
        (self.behind + written.saturating_sub(self.written)).saturating_sub(self.shipped)
    }
}

/// When which entries became durable: bounded, and good to a tenth of the time that it spans.
#[derive(Debug)]
struct Behind {
    /// Every entry up to this one was durable when looked at, and those behind the mark before it were not at the look before.
    marks: VecDeque<(Seq, Stopwatch)>,
    looked: Stopwatch,
}

impl Behind {
    const MARKS_MAX: usize = 64;

    fn new() -> Self {
        Self { marks: VecDeque::with_capacity(Self::MARKS_MAX), looked: Stopwatch::start() }
    }

    /// How long the oldest entry behind `shipped` has been durable, in nanoseconds; 0 if there is none.
    fn look(&mut self, shipped: Seq, durable: Seq) -> u64 {
        while self.marks.front().is_some_and(|(seq, _)| *seq <= shipped) {
            self.marks.pop_front();
        }
        let newest = self.marks.back().map_or(shipped, |(seq, _)| *seq);
        let now = Stopwatch::start();
        let looked = std::mem::replace(&mut self.looked, now);
        if durable > newest {
            if self.marks.len() == Self::MARKS_MAX {
                self.merge_two();
            }
            self.marks.push_back((durable, looked));
        }
        self.marks.front().map_or(0, |(_, since)| since.nanos())
    }

    /// Of two neighbours that are closest in time, the older speaks for both.
    fn merge_two(&mut self) {
        let ages: Vec<u64> = self.marks.iter().map(|(_, since)| since.nanos()).collect();
        let wide = |at: usize| ages[at].saturating_sub(ages.get(at + 2).copied().unwrap_or(0));
        let Some(at) = (0..ages.len() - 1).min_by_key(|at| wide(*at)) else { return };
        if let Some((seq, _)) = self.marks.remove(at + 1) {
            self.marks[at].0 = seq;
        }
    }
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
    /// The one whose file is being read to be brought there; 0 if none is.
    pub(super) snapshot_read: AtomicU64,
    /// The newest entry that a start found in Redis; 0 once the shipper knows better.
    found: AtomicU64,
    /// Bytes of the log behind what is in Redis: those at one time, those written then, and those that came to be there since.
    lag: Mutex<Lag>,
    /// When which entries became durable that are not in Redis.
    behind: Mutex<Behind>,
    /// The server was asked to have what it was sent on its disk, and had not in time.
    pub(super) disk_late: AtomicBool,
    pub(super) last_error: Mutex<Option<String>>,
    /// The newest snapshot here that could not be read to be brought there, and why.
    unread: Mutex<Option<(Seq, String)>>,
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
            snapshot_read: AtomicU64::new(0),
            found: AtomicU64::new(0),
            lag: Mutex::default(),
            behind: Mutex::new(Behind::new()),
            disk_late: AtomicBool::new(false),
            last_error: Mutex::new(None),
            unread: Mutex::default(),
            server: Mutex::default(),
        }
    }

    pub(crate) fn stats(&self) -> ShipperStats {
        let (shipped, durable) = (self.shipped(), self.marks.durable());
        let mut server = self.server.lock().clone();
        if self.disk_late.load(Relaxed) {
            server.warnings.push(DISK_LATE.to_owned());
        }
        let there = self.snapshot_there.load(Relaxed);
        if let Some((s0, why)) = self.unread.lock().as_ref().filter(|(s0, _)| s0.0 > there) {
            server.warnings.push(format!(
                "the snapshot at {s0} here cannot be brought to Redis, which keeps an older one, if any, until the next is taken: {why}"
            ));
        }
        ShipperStats {
            connected: u64::from(self.connected.load(Relaxed)),
            shipped: shipped.0,
            lag_entries: durable.0.saturating_sub(shipped.0),
            lag_bytes: match durable > shipped {
                true => self.lag.lock().bytes(self.marks.bytes.load(Relaxed)),
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

    /// Looks how far the log has come. To be called whenever it may have gone on.
    pub(super) fn look(&self) {
        let _ = self.lag_nanos();
    }

    fn lag_nanos(&self) -> u64 {
        self.behind.lock().look(self.shipped(), self.marks.durable())
    }

    /// The newest entry known to be in Redis: the log behind it is still to be read.
    pub(crate) fn shipped(&self) -> Seq {
        self.marks.in_redis().max(Seq(self.found.load(Relaxed)))
    }

    /// What is behind it has to be kept for Redis; nothing has to once shipping has stopped for good.
    pub(crate) fn needs_behind(&self) -> Option<Seq> {
        (!self.stopped.load(Relaxed)).then(|| self.shipped())
    }

    /// A start has found that Redis holds this log up to `there`; `bytes` of it are behind that.
    pub(crate) fn found(&self, there: Seq, bytes: u64) {
        self.found.store(there.0, Relaxed);
        self.anchor(bytes, 0);
    }

    /// It does not hold more than this any more.
    pub(super) fn found_at_most(&self, there: Seq) {
        self.found.fetch_min(there.0, Relaxed);
    }

    /// So many bytes of the log were not in Redis when so many had been written in this run.
    pub(super) fn anchor(&self, behind: u64, written: u64) {
        *self.lag.lock() = Lag { behind, written, shipped: 0 };
    }

    /// Everything up to `seq` is in Redis, and with it so many more bytes.
    pub(super) fn in_redis(&self, seq: Seq, bytes: u64) {
        self.lag.lock().shipped += bytes;
        self.marks.set_in_redis(seq);
        self.found.store(0, Relaxed);
        self.look();
    }

    /// Nothing more is shipped in this run, and whoever waits for it is told.
    pub(super) fn stop(&self, why: String) {
        *self.last_error.lock() = Some(why.clone());
        self.connected.store(false, Relaxed);
        self.stopped.store(true, Relaxed);
        self.snapshot_read.store(0, Relaxed);
        // Last: whoever is told finds the rest as it is.
        self.marks.fail_redis(Failure::RedisStopped { reason: why });
    }

    /// A snapshot cannot be read, and an older one is brought in its place.
    pub(super) fn passed_over(&self, s0: Seq, error: &SnapshotError) {
        let mut unread = self.unread.lock();
        if unread.as_ref().is_none_or(|(newest, _)| *newest < s0) {
            *unread = Some((s0, error.to_string()));
        }
    }

    /// A snapshot got its name: it is to be brought to Redis.
    pub(crate) fn snapshot_published(&self, s0: Seq) {
        self.snapshot_here.store(s0.0, Relaxed);
    }

    /// The snapshot whose file is being read, which is to stay until then.
    pub(crate) fn snapshot_on_its_way(&self) -> Option<Seq> {
        Some(Seq(self.snapshot_read.load(Relaxed))).filter(|s0| *s0 > Seq(0))
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Acquire)
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_age_of_the_oldest_entry_is_never_less_than_it_is_and_not_much_more() {
        let mut behind = Behind::new();
        assert_eq!(behind.look(Seq(7), Seq(7)), 0);
        // When each entry became durable: after the look before it and before its own.
        let durable: Vec<_> = (0..500)
            .map(|n| {
                let at = Stopwatch::start();
                std::thread::park_timeout(Duration::from_micros(200));
                behind.look(Seq(0), Seq(n + 1));
                at
            })
            .collect();
        assert!(behind.marks.len() <= Behind::MARKS_MAX);
        // Between two looks a busy machine may do something else.
        let slowest = durable.windows(2).map(|pair| pair[0].nanos().saturating_sub(pair[1].nanos())).max().unwrap();
        for shipped in [0, 100, 300, 499] {
            let at = usize::try_from(shipped).unwrap();
            let least = durable[at].nanos();
            let told = behind.look(Seq(shipped), Seq(500));
            assert!(told >= least, "behind {shipped}");
            assert!(told <= durable[at].nanos() + durable[0].nanos() / 10 + slowest, "behind {shipped}");
        }
        assert_eq!(behind.look(Seq(500), Seq(500)), 0);
    }
}
