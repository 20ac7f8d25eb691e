//! Write-behind to Redis: tails the log behind the durable watermark and appends its frames to a stream.
//!
//! Redis is a copy, never asked whether a unit is free. While it is slow, full, restarted or gone, booking goes
//! on and the lag grows; when it is back the shipper takes its epoch again, reads the head and goes on from there. What
//! the server checks is in [`super::stream`].
//!
//! The shipper is turned step by step: by [`ShipperThread`] here, or by a simulator that decides when it runs. A crash
//! loses nothing of it: where it stands is in Redis.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use self::upload::Upload;
use super::fence::OTHER_HISTORY;
use super::frame::Link;
use super::reader;
use super::snapshot;
use super::storage::Storage;
use super::stream::{Head, Stream, StreamError, Whole};
use super::tail::{Cursor, TailError};
use super::watermark::Watermark;
use crate::clock::Stopwatch;
use crate::ids::{CellId, Epoch, Seq};

pub use self::shared::ShipperStats;
pub(crate) use self::shared::Shipping;
pub(crate) use self::thread::ShipperThread;

mod bring;
mod shared;
mod thread;
mod upload;

/// How long the thread sleeps when nobody rings, and the shortest wait after a failure.
const IDLE: Duration = Duration::from_millis(200);
/// The longest wait after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Frames in one append.
const BATCH_FRAMES: usize = 64;
/// An append is closed at this size; one frame may be larger.
const BATCH_BYTES: usize = 1 << 20;
/// One look in so many also asks how the server stands.
const ASK_SERVER_EVERY: u32 = 25;
/// Appends that are sent and not answered: while the server does one, the next is read and sent.
const SENT_MAX: usize = 2;
/// Bytes appended before the server is asked to have them on its disk, while there is more to ship.
const SETTLE_BYTES: u64 = 64 << 20;
/// And the time after which it is asked, whatever comes: as long as asking took, so that half of the time is for shipping.
const SETTLE_TIME_MIN: Duration = Duration::from_millis(50);

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
            StreamError::OtherCell => Ended::Stopped(format!("{error}: give this one a redis.prefix of its own")),
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

/// An append that was sent and is not answered.
#[derive(Debug)]
struct Sent {
    last: Seq,
    link: Link,
    frames: u64,
    bytes: u64,
}

/// Where the head of the stream was found, and how far it was brought since.
#[derive(Debug)]
struct Place {
    last: Seq,
    link: Option<Link>,
    /// The stream has what is behind this entry.
    base: Seq,
    /// Behind `last`, oldest first. Forgotten with the place, whenever something fails: the head then tells what was done of it.
    sent: VecDeque<Sent>,
    /// Behind all that was sent; absent while the log has nothing.
    cursor: Option<Cursor>,
    /// Bytes appended and not yet counted as there: the server is still to say that it has them on its disk.
    uncounted_bytes: u64,
    /// Something is uncounted: since when, or since the server was last asked in vain.
    uncounted: Option<Stopwatch>,
    /// It was asked in vain.
    late: bool,
}

impl Place {
    /// The newest entry that was sent.
    fn sent_to(&self) -> Seq {
        self.sent.back().map_or(self.last, |sent| sent.last)
    }
}

/// The shipper of one cell, turned step by step by one thread.
#[derive(Debug)]
pub(crate) struct Shipper {
    stream: Box<dyn Stream>,
    storage: Arc<dyn Storage>,
    cell: CellId,
    epoch: Epoch,
    marks: Arc<Watermark>,
    shared: Arc<Shipping>,
    /// `None` until the head is read, and after every failure.
    place: Option<Place>,
    /// Snapshots that are whole in Redis, newest first.
    kept: Vec<Whole>,
    /// On its way there.
    upload: Option<Upload>,
    /// The epoch is taken on this connection, and the stream begins anew with the snapshot on its way.
    installing: bool,
    /// Snapshots here that could not be read, and whether they are damaged.
    passed_over: Vec<(Seq, bool)>,
    /// Between the newest in Redis and the newest here none can be read, while they are these.
    nothing_between: (Seq, Seq),
    /// Looks since the server was last asked how it stands.
    looks: u32,
    /// Waited after the last failure.
    backoff: Duration,
    /// How long asking the server to have everything on its disk took the last time.
    settle_time: Duration,
}

impl Shipper {
    /// A shipper that has not connected yet.
    pub(crate) fn new(
        stream: Box<dyn Stream>,
        storage: Arc<dyn Storage>,
        cell: CellId,
        epoch: Epoch,
        marks: Arc<Watermark>,
    ) -> Self {
        // A directory that cannot be listed now is listed when the next snapshot is there.
        let newest = snapshot::list(&*storage).ok().and_then(|found| found.first().copied()).unwrap_or_default();
        let shared = Arc::new(Shipping::new(Arc::clone(&marks), newest));
        Self {
            stream,
            storage,
            cell,
            epoch,
            marks,
            shared,
            place: None,
            kept: Vec::new(),
            upload: None,
            installing: false,
            passed_over: Vec::new(),
            nothing_between: (Seq(0), Seq(0)),
            looks: 0,
            backoff: Duration::ZERO,
            settle_time: Duration::ZERO,
        }
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
            shipper.answer_all()?;
            shipper.looks += 1;
            if shipper.looks >= ASK_SERVER_EVERY {
                shipper.ask_server()?;
            }
            let Some(place) = &shipper.place else { return shipper.step() };
            let head = shipper.stream.head()?;
            if head.epoch > shipper.epoch {
                return Err(Ended::Fenced(head.epoch));
            }
            let same = head.epoch == shipper.epoch && (head.last, head.link) == (place.last, place.link);
            let lost = !same || head.damaged.is_some();
            if lost {
                shipper.place = None;
            }
            Ok(lost)
        })
    }

    /// The next turn asks how the server stands, also while there is no time to look.
    pub(crate) fn ask_soon(&mut self) {
        self.looks = ASK_SERVER_EVERY;
    }

    fn run(&mut self, does: impl FnOnce(&mut Self) -> Result<bool, Ended>) -> ShipTurn {
        if self.shared.stopped.load(Relaxed) {
            return ShipTurn::Stopped;
        }
        self.shared.look();
        let frames = self.shared.frames.load(Relaxed);
        let came_to = does(self);
        self.shared.snapshot_read.store(self.upload.as_ref().map_or(0, |upload| upload.s0().0), Relaxed);
        let ended = match came_to {
            Ok(more) => {
                if self.shared.frames.load(Relaxed) > frames {
                    self.backoff = Duration::ZERO;
                }
                return if more { ShipTurn::Shipped } else { ShipTurn::Idle };
            }
            Err(ended) => ended,
        };
        self.place = None;
        self.installing = false;
        self.shared.connected.store(false, Relaxed);
        match ended {
            Ended::Lost(why) => {
                *self.shared.last_error.lock() = Some(why);
                self.shared.errors.fetch_add(1, Relaxed);
                self.backoff = (self.backoff * 2).clamp(IDLE, BACKOFF_MAX);
                ShipTurn::Lost(self.backoff)
            }
            Ended::Stopped(why) => {
                // The log is not kept for this stream any more, so a later start may have nothing left to compare it with.
                let _ = self.storage.write_whole(OTHER_HISTORY, format!("{why}\n").as_bytes());
                self.stop(why)
            }
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
        self.shared.stop(why);
        ShipTurn::Stopped
    }

    /// False if there is nothing to do.
    fn step(&mut self) -> Result<bool, Ended> {
        if self.installing {
            self.install()?;
            return Ok(true);
        }
        if self.place.is_none() {
            self.arrive()?;
            return Ok(true);
        }
        if self.looks >= ASK_SERVER_EVERY {
            self.answer_all()?;
            self.ask_server()?;
        }
        let shipped = self.ship()?;
        let uploads = !self.shared.is_closing() && self.has_to_bring();
        if !uploads && !self.is_unsettled() {
            if !self.stream.settles() {
                self.count();
            }
            return Ok(shipped);
        }
        // Every other call has an answer of its own.
        self.answer_all()?;
        self.settle()?;
        let uploaded = uploads && self.upload()?;
        Ok(shipped || uploaded)
    }

    /// Takes the epoch, reads the head, and finds its place in the log.
    fn arrive(&mut self) -> Result<(), Ended> {
        let head = self.stream.take(self.epoch)?;
        self.ask_server()?;
        let written = self.marks.bytes.load(Relaxed);
        let durable = self.marks.durable();
        if head.last > durable {
            let last = head.last;
            return Err(Ended::Stopped(format!("Redis is ahead of the log: it holds entry {last}, the log {durable}")));
        }
        let there = if head.damaged.is_some() { Seq(0) } else { head.last };
        self.shared.found_at_most(there);
        if there < self.marks.in_redis() {
            // What it lost is in the log, and an answer that waits for Redis waits again.
            self.marks.set_in_redis(there);
            self.shared.rewinds.fetch_add(1, Relaxed);
        }
        let start = reader::log_start(&*self.storage).map_err(|error| Ended::Lost(error.to_string()))?;
        let (mut last, mut link) = (head.last, head.link);
        self.keep_known(&head);
        if head.damaged.is_some() || head.last < start {
            if start > Seq(0) {
                return self.begin_install(start);
            }
            self.stream.install(self.epoch, Seq(0), Link(0), None)?;
            (last, link) = (Seq(0), None);
            self.kept.clear();
        }
        self.resume_upload()?;
        let cursor = if durable > Seq(0) { Some(self.cursor(last, link)?) } else { None };
        let behind = cursor.as_ref().map_or(Ok(0), |cursor| cursor.bytes_until(durable))?;
        self.shared.anchor(behind, written);
        if self.storage.open(OTHER_HISTORY).is_ok() {
            // The stream is this log's again.
            let _ = self.storage.remove(OTHER_HISTORY);
        }
        let base = head.base.min(last);
        let uncounted = Some(Stopwatch::start());
        let sent = VecDeque::new();
        self.place = Some(Place { last, link, base, sent, cursor, uncounted_bytes: 0, uncounted, late: false });
        if !self.stream.settles() {
            self.count();
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

    /// An evicting Redis is found out here too, if it was changed while we were connected.
    fn ask_server(&mut self) -> Result<(), Ended> {
        self.looks = 0;
        self.look_again();
        *self.shared.server.lock() = self.stream.server()?;
        Ok(())
    }

    fn keep_known(&mut self, head: &Head) {
        self.kept.clone_from(&head.snapshots);
        self.shared.snapshot_there.store(self.kept.first().map_or(0, |whole| whole.s0.0), Relaxed);
    }

    /// Sends what is durable and was not sent, some batches ahead of the answers, and waits for the oldest answer. False if there
    /// is none to wait for.
    fn ship(&mut self) -> Result<bool, Ended> {
        let durable = self.marks.durable();
        let Some(mut place) = self.place.take() else { return Ok(false) };
        while place.sent.len() < SENT_MAX && place.sent_to() < durable {
            self.send(&mut place, durable)?;
        }
        let answered = self.answer(&mut place)?;
        self.place = Some(place);
        Ok(answered)
    }

    fn send(&mut self, place: &mut Place, durable: Seq) -> Result<(), Ended> {
        // A fresh log has no segment in use until the watermark has moved.
        let mut cursor = match place.cursor.take() {
            Some(cursor) => cursor,
            None => self.cursor(place.last, place.link)?,
        };
        let batch = cursor.next_many(durable, BATCH_FRAMES, BATCH_BYTES)?;
        let Some(newest) = batch.last() else {
            return Err(Ended::Lost(format!("no frame of the log ends at entry {durable}")));
        };
        let dropped = usize::from(crate::planted!("redis_drops_frames") && batch.len() > 1);
        self.stream.send(self.epoch, &batch[dropped..])?;
        let bytes = batch.iter().map(|frame| frame.bytes.len() as u64).sum();
        place.sent.push_back(Sent { last: newest.header.last(), link: newest.link, frames: batch.len() as u64, bytes });
        place.cursor = Some(cursor);
        Ok(())
    }

    /// Waits for the answer to the oldest append that was sent; false if there is none.
    fn answer(&mut self, place: &mut Place) -> Result<bool, Ended> {
        let Some(sent) = place.sent.pop_front() else { return Ok(false) };
        match self.stream.appended() {
            // The planted fault sends on, as a shipper would that does not look.
            Err(_) if crate::planted!("skip_head_check") => {}
            done => done?,
        }
        (place.last, place.link) = (sent.last, Some(sent.link));
        place.uncounted_bytes += sent.bytes;
        place.uncounted.get_or_insert_with(Stopwatch::start);
        self.shared.frames.fetch_add(sent.frames, Relaxed);
        self.shared.bytes.fetch_add(sent.bytes, Relaxed);
        Ok(true)
    }

    /// Waits for every answer that is still to come.
    fn answer_all(&mut self) -> Result<(), Ended> {
        let Some(mut place) = self.place.take() else { return Ok(()) };
        while self.answer(&mut place)? {}
        self.place = Some(place);
        Ok(())
    }

    /// Whether it is time to ask the server to have everything on its disk.
    fn is_unsettled(&self) -> bool {
        let Some(place) = self.place.as_ref().filter(|_| self.stream.settles()) else { return false };
        let Some(since) = place.uncounted else { return false };
        let rests = place.last >= self.marks.durable() || place.uncounted_bytes >= SETTLE_BYTES;
        since.elapsed() >= self.settle_time.max(SETTLE_TIME_MIN) || (rests && !place.late)
    }

    /// Where the server can tell, an entry counts as in Redis when it is on the server's disk. That is asked when there is
    /// nothing more to append, or for so long or so many bytes it was not.
    fn settle(&mut self) -> Result<(), Ended> {
        if !self.stream.settles() {
            self.count();
        }
        if !self.is_unsettled() {
            return Ok(());
        }
        let watch = Stopwatch::start();
        let settled = self.stream.settle()?;
        self.settle_time = watch.elapsed();
        if settled {
            self.count();
        } else {
            self.shared.disk_late.store(true, Relaxed);
            // Asked again after a while. Meanwhile everything else goes on.
            if let Some(place) = &mut self.place {
                place.late = true;
                place.uncounted = Some(Stopwatch::start());
            }
        }
        Ok(())
    }

    /// What was appended is as safe as this server can make it.
    fn count(&mut self) {
        let Some(place) = &mut self.place else { return };
        (place.uncounted, place.late) = (None, false);
        self.shared.disk_late.store(false, Relaxed);
        self.shared.in_redis(place.last, std::mem::take(&mut place.uncounted_bytes));
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests;
