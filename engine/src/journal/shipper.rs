//! Write-behind to Redis: tails the log behind the durable watermark and appends its frames to a stream.
//!
//! Redis is a copy, never asked whether a unit is free. While it is slow, full, restarted or gone, booking goes
//! on and the lag grows; when it is back the shipper takes its epoch again, reads the head and goes on from there. What
//! the server checks is in [`super::stream`].
//!
//! The shipper is turned step by step: by [`ShipperThread`] here, or by a simulator that decides when it runs. A crash
//! loses nothing of it: where it stands is in Redis.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use self::upload::Upload;
use super::fence::OTHER_HISTORY;
use super::frame::Link;
use super::reader;
use super::snapshot::{self, SnapshotError};
use super::storage::Storage;
use super::stream::{Head, SNAPSHOTS_KEPT, Shipment, Stream, StreamError, Whole};
use super::tail::{Cursor, TailError};
use super::watermark::Watermark;
use crate::clock::Stopwatch;
use crate::ids::{CellId, Epoch, Seq};

pub use self::shared::ShipperStats;
pub(crate) use self::shared::Shipping;
pub(crate) use self::thread::ShipperThread;

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

impl From<SnapshotError> for Ended {
    fn from(error: SnapshotError) -> Self {
        Ended::Lost(format!("the snapshot that is brought to Redis: {error}"))
    }
}

/// Where the head of the stream was found, and how far it was brought since.
#[derive(Debug)]
struct Place {
    last: Seq,
    link: Option<Link>,
    /// The stream has what is behind this entry.
    base: Seq,
    /// Behind `last`; absent while the log has nothing.
    cursor: Option<Cursor>,
    /// Bytes appended and not yet counted as there: the server is still to say that it has them on its disk.
    uncounted_bytes: u64,
    /// Something is uncounted: since when, or since the server was last asked in vain.
    uncounted: Option<Stopwatch>,
    /// It was asked in vain.
    late: bool,
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
    /// A snapshot that was found damaged here, and is not tried again.
    damaged: Option<Seq>,
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
            damaged: None,
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
            self.ask_server()?;
        }
        let shipped = self.ship()?;
        self.settle()?;
        let uploaded = !self.shared.is_closing() && self.upload()?;
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
        self.place = Some(Place { last, link, base, cursor, uncounted_bytes: 0, uncounted, late: false });
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
        *self.shared.server.lock() = self.stream.server()?;
        Ok(())
    }

    fn keep_known(&mut self, head: &Head) {
        self.kept.clone_from(&head.snapshots);
        self.shared.snapshot_there.store(self.kept.first().map_or(0, |whole| whole.s0.0), Relaxed);
    }

    /// The stream is to begin anew behind the newest snapshot that is whole here, because the log no longer reaches back to
    /// the head. Its pieces go first; what is in Redis stays until they are all there.
    fn begin_install(&mut self, start: Seq) -> Result<(), Ended> {
        self.installing = true;
        let fits = |upload: &Upload| upload.s0() >= start;
        if self.upload.as_ref().is_some_and(fits) {
            return self.resume_upload();
        }
        let found = snapshot::list(&*self.storage).map_err(|error| Ended::Lost(error.to_string()))?;
        let newest = found.into_iter().find(|s0| *s0 >= start && self.damaged != Some(*s0));
        let Some(s0) = newest else {
            return Err(Ended::Lost(format!("the log begins behind entry {start}, and no snapshot here reaches that")));
        };
        self.upload = Some(self.open_snapshot(s0)?);
        Ok(())
    }

    fn open_snapshot(&mut self, s0: Seq) -> Result<Upload, Ended> {
        let upload = Upload::begin(&*self.storage, self.cell, s0);
        upload.map_err(|error| self.spoilt(s0, error))
    }

    /// Passes over a snapshot whose file is damaged.
    fn spoilt(&mut self, s0: Seq, error: SnapshotError) -> Ended {
        if !matches!(error, SnapshotError::Io(_)) {
            self.damaged = Some(s0);
        }
        self.upload = None;
        error.into()
    }

    /// Goes on with the snapshot that was on its way when the connection was lost, if its pieces are still there.
    fn resume_upload(&mut self) -> Result<(), Ended> {
        let Some(upload) = &self.upload else { return Ok(()) };
        if !upload.fits(self.stream.pieces(upload.s0())?) {
            self.upload = None;
        }
        Ok(())
    }

    /// Sends one piece; what is to be kept, once all are there.
    fn send_piece(&mut self) -> Result<Option<Whole>, Ended> {
        let Some(upload) = &mut self.upload else { return Ok(None) };
        if let Some((number, bytes)) = upload.held() {
            self.stream.put_piece(self.epoch, upload.s0(), number, bytes)?;
            let (s0, sent) = (upload.s0(), upload.sent());
            sent.map_err(|error| self.spoilt(s0, error))?;
        }
        Ok(self.upload.as_ref().and_then(Upload::whole))
    }

    fn install(&mut self) -> Result<(), Ended> {
        if self.upload.is_none() {
            // Its pieces were lost on the way.
            self.installing = false;
            return Ok(());
        }
        let Some(whole) = self.send_piece()? else { return Ok(()) };
        let (_, link) = Cursor::after(Arc::clone(&self.storage), whole.s0)?.place();
        self.upload = None;
        self.stream.install(self.epoch, whole.s0, link, Some(whole))?;
        self.shared.installs.fetch_add(1, Relaxed);
        // Its place is found anew, with nothing that was known before.
        self.installing = false;
        Ok(())
    }

    /// Brings the newest snapshot to Redis, a piece at a turn, and trims the stream behind the one before it. False if
    /// there is nothing to do.
    // rule: FNC-4
    fn upload(&mut self) -> Result<bool, Ended> {
        if self.upload.is_none() {
            let newest = Seq(self.shared.snapshot_here.load(Relaxed));
            let known = self.kept.first().map_or(Seq(0), |whole| whole.s0);
            if newest <= known || self.damaged == Some(newest) {
                return self.trim();
            }
            self.upload = Some(self.open_snapshot(newest)?);
        }
        let Some(whole) = self.send_piece()? else { return Ok(true) };
        if self.place.as_ref().is_none_or(|place| place.last < whole.s1) {
            // Of use only to who has the stream up to S1, which is being shipped.
            return Ok(false);
        }
        self.upload = None;
        self.stream.keep(self.epoch, whole)?;
        self.kept.retain(|kept| kept.s0 != whole.s0);
        self.kept.insert(0, whole);
        self.kept.truncate(SNAPSHOTS_KEPT);
        self.shared.snapshot_there.store(whole.s0.0, Relaxed);
        Ok(true)
    }

    /// Trims the stream behind the older of the snapshots kept beside it.
    fn trim(&mut self) -> Result<bool, Ended> {
        let Some(place) = &mut self.place else { return Ok(false) };
        let older = self.kept.get(SNAPSHOTS_KEPT - 1).map_or(Seq(0), |whole| whole.s0);
        if older <= place.base {
            return Ok(false);
        }
        self.stream.trim(self.epoch, older)?;
        place.base = older;
        Ok(true)
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
        match self.stream.append(self.epoch, &batch) {
            // The planted fault sends on, as a shipper would that does not look.
            Err(_) if cfg!(berth_fault = "skip_head_check") => {}
            done => done?,
        }
        (place.last, place.link) = (newest.header.last(), Some(newest.link));
        place.uncounted_bytes += bytes as u64;
        place.uncounted.get_or_insert_with(Stopwatch::start);
        self.shared.frames.fetch_add(batch.len() as u64, Relaxed);
        self.shared.bytes.fetch_add(bytes as u64, Relaxed);
        place.cursor = Some(cursor);
        self.place = Some(place);
        Ok(true)
    }

    /// Where the server can tell, an entry counts as in Redis when it is on the server's disk. That is asked when there is
    /// nothing more to append, or for so long or so many bytes it was not.
    fn settle(&mut self) -> Result<(), Ended> {
        let Some(place) = &mut self.place else { return Ok(()) };
        let Some(since) = place.uncounted else { return Ok(()) };
        if !self.stream.settles() {
            self.count();
            return Ok(());
        }
        let rests = place.last >= self.marks.durable() || place.uncounted_bytes >= SETTLE_BYTES;
        if since.elapsed() < self.settle_time.max(SETTLE_TIME_MIN) && (place.late || !rests) {
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
            place.late = true;
            place.uncounted = Some(Stopwatch::start());
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
