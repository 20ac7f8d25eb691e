//! Write-behind to Redis: tails the log behind the durable watermark and appends its frames to a stream.
//!
//! Redis is a copy, never asked whether a unit is free. While it is slow, full, restarted or gone, booking goes
//! on and the lag grows; when it is back the shipper takes its epoch again, reads the head and goes on from there. What
//! the server checks is in [`super::stream`].
//!
//! The shipper is turned step by step: by [`ShipperThread`] here, or by a simulator that decides when it runs. A crash
//! loses nothing of it: where it stands is in Redis.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use parking_lot::Mutex;

use super::frame::Link;
use super::reader;
use super::storage::Storage;
use super::stream::{Shipment, Stream, StreamError};
use super::tail::{Cursor, TailError};
use super::watermark::Watermark;
use crate::clock::Stopwatch;
use crate::error::Failure;
use crate::ids::{Epoch, Seq};

/// How long the thread sleeps when nobody rings, and the shortest wait after a failure.
const IDLE: Duration = Duration::from_millis(200);
/// The longest wait after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long a closing engine waits for Redis to take what it has not. The log has it, and the next start ships it.
const CLOSING_MAX: Duration = Duration::from_secs(2);
/// Frames in one append.
const BATCH_FRAMES: usize = 64;
/// An append is closed at this size; one frame may be larger.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes appended before the server is asked to have them on its disk, while there is more to ship.
const SETTLE_BYTES: usize = 64 << 20;

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
    /// 1 once shipping has stopped for good: another owner took over, or Redis holds another history.
    pub stopped: u64,
    /// 1 once another owner has taken over: the journal has stopped too.
    pub fenced: u64,
    /// Why it stopped, or the last error.
    pub last_error: Option<String>,
}

/// What a turn of the shipper came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShipTurn {
    /// Something was done, and more may be to do.
    Shipped,
    /// Nothing to ship.
    Idle,
    /// It failed, and is to be tried again after this time.
    Lost(Duration),
    /// Never again in this run.
    Stopped,
}

/// What the shipper shares with who asks how it stands.
#[derive(Debug)]
pub(crate) struct Shipping {
    marks: Arc<Watermark>,
    connected: AtomicBool,
    stopped: AtomicBool,
    fenced: AtomicBool,
    closing: AtomicBool,
    /// Waited for long enough when closing.
    given_up: AtomicBool,
    frames: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    rewinds: AtomicU64,
    /// Where the shipper reads the log: segment index times segment bytes, and the offset.
    place: AtomicU64,
    /// An entry that was durable at this time and was not in Redis when last looked.
    behind: Mutex<Option<(Seq, Stopwatch)>>,
    last_error: Mutex<Option<String>>,
}

impl Shipping {
    pub(crate) fn stats(&self) -> ShipperStats {
        let (shipped, durable) = (self.marks.in_redis(), self.marks.durable());
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

    fn is_closing(&self) -> bool {
        self.closing.load(Acquire)
    }
}

/// Why a turn failed.
enum Ended {
    /// Try again.
    Lost(String),
    /// Never again in this run; booking goes on.
    Stopped(String),
    /// Never again, and nothing more may be acknowledged.
    Fenced(Epoch),
}

impl From<StreamError> for Ended {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Fenced { epoch } => Ended::Fenced(epoch),
            StreamError::Diverged => Ended::Stopped(error.to_string()),
            _ => Ended::Lost(error.to_string()),
        }
    }
}

impl From<TailError> for Ended {
    fn from(error: TailError) -> Self {
        match error {
            TailError::Never(why) => Ended::Stopped(why),
            TailError::Now(why) => Ended::Lost(why),
        }
    }
}

/// Where the head of the stream was found, and how far it was brought since.
#[derive(Debug)]
struct Place {
    last: Seq,
    link: Option<Link>,
    /// Behind `last`; absent while the log has nothing.
    cursor: Option<Cursor>,
    /// Appended and not yet known to be on the server's disk.
    unsettled_bytes: usize,
}

/// The shipper of one cell, turned step by step by one thread.
#[derive(Debug)]
pub(crate) struct Shipper {
    stream: Box<dyn Stream>,
    storage: Arc<dyn Storage>,
    epoch: Epoch,
    marks: Arc<Watermark>,
    shared: Arc<Shipping>,
    /// `None` until the head is read, and after every failure.
    place: Option<Place>,
    /// Waited after the last failure.
    backoff: Duration,
}

impl Shipper {
    /// A shipper that has not connected yet.
    pub(crate) fn new(stream: Box<dyn Stream>, storage: Arc<dyn Storage>, epoch: Epoch, marks: Arc<Watermark>) -> Self {
        let shared = Arc::new(Shipping {
            marks: Arc::clone(&marks),
            connected: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            rewinds: AtomicU64::new(0),
            place: AtomicU64::new(0),
            behind: Mutex::new(None),
            last_error: Mutex::new(None),
        });
        Self { stream, storage, epoch, marks, shared, place: None, backoff: Duration::ZERO }
    }

    /// How it stands, for who does not turn it.
    pub(crate) fn shared(&self) -> Arc<Shipping> {
        Arc::clone(&self.shared)
    }

    /// Does the next thing there is to do: finds its place, or appends what is durable. One call or two to Redis.
    pub(crate) fn turn(&mut self) -> ShipTurn {
        self.run(Self::step)
    }

    /// Looks whether the stream is still as it was left. To be called now and then while there is nothing to ship, so that
    /// a Redis that was restarted empty, lost its tail or got another owner is noticed.
    pub(crate) fn look(&mut self) -> ShipTurn {
        self.run(|shipper| {
            let Some(place) = &shipper.place else { return shipper.step() };
            let head = shipper.stream.head()?;
            if head.epoch > shipper.epoch {
                return Err(Ended::Fenced(head.epoch));
            }
            let same = head.epoch == shipper.epoch && (head.last, head.link) == (place.last, place.link);
            if !same || head.damaged.is_some() {
                shipper.place = None;
            }
            Ok(!same)
        })
    }

    fn run(&mut self, does: impl FnOnce(&mut Self) -> Result<bool, Ended>) -> ShipTurn {
        if self.shared.stopped.load(Relaxed) {
            return ShipTurn::Stopped;
        }
        let frames = self.shared.frames.load(Relaxed);
        let ended = match does(self) {
            Ok(more) => {
                if self.shared.frames.load(Relaxed) > frames {
                    self.backoff = Duration::ZERO;
                }
                return if more { ShipTurn::Shipped } else { ShipTurn::Idle };
            }
            Err(ended) => ended,
        };
        self.place = None;
        self.shared.connected.store(false, Relaxed);
        match ended {
            Ended::Lost(why) => {
                *self.shared.last_error.lock() = Some(why);
                self.shared.errors.fetch_add(1, Relaxed);
                self.backoff = (self.backoff * 2).clamp(IDLE, BACKOFF_MAX);
                ShipTurn::Lost(self.backoff)
            }
            Ended::Stopped(why) => self.stop(why),
            Ended::Fenced(epoch) => {
                let why = format!("another owner took epoch {epoch}, this one has {}", self.epoch);
                self.shared.fenced.store(true, Relaxed);
                // rule: FNC-3 an owner that sees a newer epoch stops its journal; nothing more is acknowledged
                self.marks.fail(why.clone());
                self.stop(why)
            }
        }
    }

    fn stop(&mut self, why: String) -> ShipTurn {
        self.marks.fail_redis(Failure::RedisStopped { reason: why.clone() });
        *self.shared.last_error.lock() = Some(why);
        self.shared.stopped.store(true, Relaxed);
        ShipTurn::Stopped
    }

    /// False if there is nothing to do.
    fn step(&mut self) -> Result<bool, Ended> {
        if self.place.is_none() {
            self.arrive()?;
            return Ok(true);
        }
        let shipped = self.ship()?;
        self.settle(shipped)?;
        Ok(shipped)
    }

    /// Takes the epoch, reads the head, and finds its place in the log.
    fn arrive(&mut self) -> Result<(), Ended> {
        let head = self.stream.take(self.epoch)?;
        let durable = self.marks.durable();
        if head.last > durable {
            let last = head.last;
            return Err(Ended::Stopped(format!("Redis is ahead of the log: it holds entry {last}, the log {durable}")));
        }
        if head.last < self.marks.in_redis() {
            // What it lost is in the log, and an answer that waits for Redis waits again.
            self.marks.set_in_redis(head.last);
            self.shared.rewinds.fetch_add(1, Relaxed);
        }
        let start = reader::log_start(&*self.storage).map_err(|error| Ended::Lost(error.to_string()))?;
        let (mut last, mut link) = (head.last, head.link);
        if head.damaged.is_some() || head.last < start {
            if start > Seq(0) {
                return Err(Ended::Lost(format!("the log does not reach back to entry {}", head.last.next())));
            }
            self.stream.install(self.epoch, Seq(0), Link(0), None)?;
            (last, link) = (Seq(0), None);
        }
        let cursor = if durable > Seq(0) { Some(self.cursor(last, link)?) } else { None };
        let unsettled_bytes = usize::from(self.stream.settles());
        self.place = Some(Place { last, link, cursor, unsettled_bytes });
        if !self.stream.settles() {
            self.marks.set_in_redis(last);
        }
        self.shared.connected.store(true, Relaxed);
        Ok(())
    }

    /// Behind entry `last`, if the log has the same frame there as the stream.
    fn cursor(&self, last: Seq, link: Option<Link>) -> Result<Cursor, Ended> {
        let cursor = Cursor::after(Arc::clone(&self.storage), last)?;
        match link {
            Some(link) if cursor.place().1 != link => Err(StreamError::Diverged.into()),
            _ => Ok(cursor),
        }
    }

    /// Appends one batch, if something is durable that is not there.
    fn ship(&mut self) -> Result<bool, Ended> {
        let durable = self.marks.durable();
        let Some(mut place) = self.place.take() else { return Ok(false) };
        if place.last >= durable {
            self.place = Some(place);
            return Ok(false);
        }
        // A fresh log has no segment in use until the watermark has moved.
        let mut cursor = match place.cursor.take() {
            Some(cursor) => cursor,
            None => self.cursor(place.last, place.link)?,
        };
        let (mut batch, mut bytes) = (Vec::<Shipment>::new(), 0);
        while batch.len() < BATCH_FRAMES && bytes < BATCH_BYTES {
            let Some(frame) = cursor.next(durable)? else { break };
            bytes += frame.bytes.len();
            batch.push(frame);
        }
        let Some(newest) = batch.last() else {
            return Err(Ended::Lost(format!("no frame of the log ends at entry {durable}")));
        };
        self.stream.append(self.epoch, &batch)?;
        (place.last, place.link) = (newest.header.last(), Some(newest.link));
        place.unsettled_bytes += bytes;
        self.shared.place.store(cursor.log_place(), Relaxed);
        self.shared.frames.fetch_add(batch.len() as u64, Relaxed);
        self.shared.bytes.fetch_add(bytes as u64, Relaxed);
        place.cursor = Some(cursor);
        if !self.stream.settles() {
            self.marks.set_in_redis(place.last);
        }
        self.place = Some(place);
        Ok(true)
    }

    /// Where the server can tell, an entry counts as in Redis when it is on the server's disk. That is asked when there is
    /// nothing more to append, or so many bytes were.
    fn settle(&mut self, shipped: bool) -> Result<(), Ended> {
        let Some(place) = &mut self.place else { return Ok(()) };
        if !self.stream.settles() || place.unsettled_bytes == 0 {
            return Ok(());
        }
        if shipped && place.unsettled_bytes < SETTLE_BYTES && place.last < self.marks.durable() {
            return Ok(());
        }
        self.stream.settle()?;
        place.unsettled_bytes = 0;
        self.marks.set_in_redis(place.last);
        Ok(())
    }
}

/// Wakes the shipper when the watermark has moved.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Thread);

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.unpark();
    }
}

/// The thread that turns a shipper.
#[derive(Debug)]
pub(crate) struct ShipperThread {
    shared: Arc<Shipping>,
    bell: Bell,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ShipperThread {
    pub(crate) fn spawn(mut shipper: Shipper) -> io::Result<Self> {
        let shared = shipper.shared();
        let run = move || while Self::turn(&mut shipper) {};
        let thread = std::thread::Builder::new().name("berth-shipper".to_owned()).spawn(run)?;
        let bell = Bell(thread.thread().clone());
        Ok(Self { shared, bell, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// False when it is over.
    fn turn(shipper: &mut Shipper) -> bool {
        let closing = shipper.shared.is_closing();
        let mut came_to = shipper.turn();
        if came_to == ShipTurn::Idle && !closing {
            let watch = Stopwatch::start();
            std::thread::park_timeout(IDLE);
            if watch.elapsed() < IDLE {
                // Woken: there is something to ship.
                return true;
            }
            came_to = shipper.look();
        }
        match came_to {
            ShipTurn::Shipped => !shipper.shared.given_up.load(Relaxed),
            ShipTurn::Idle => !closing,
            ShipTurn::Lost(backoff) => !closing && Self::sleep(&shipper.shared, backoff),
            ShipTurn::Stopped => false,
        }
    }

    /// Sleeps through the bell; false if the engine is closing.
    fn sleep(shared: &Shipping, time: Duration) -> bool {
        let watch = Stopwatch::start();
        while !shared.is_closing() {
            match time.checked_sub(watch.elapsed()) {
                Some(left) if !left.is_zero() => std::thread::park_timeout(left),
                _ => return true,
            }
        }
        false
    }

    /// Ships what is durable, if Redis takes it within [`CLOSING_MAX`], and ends. A thread that waits for a silent
    /// Redis is left to its own time-out.
    pub(crate) fn close(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        self.shared.closing.store(true, Release);
        self.bell.ring();
        let watch = Stopwatch::start();
        while !thread.is_finished() && watch.elapsed() < CLOSING_MAX {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.shared.given_up.store(true, Relaxed);
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

impl Drop for ShipperThread {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests;
