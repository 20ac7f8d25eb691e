//! The one writer: take the open batch, write it, sync it, advance the watermark, again.
//!
//! While a sync runs, `submit` fills the next batch: that is the group commit. A failed write or sync stops the journal for
//! good (after a failed fsync the kernel may have dropped the dirty pages, so no later success proves anything). A next
//! segment that cannot be made is not such a failure: see [`super::reserve`].
//!
//! The writer is driven turn by turn: by its thread here, or by a simulator that decides when it runs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::buffer::{Batch, Buffer, Taken, recycle};
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, Link};
use super::reserve::Reserve;
use super::segment::{FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentFile, SegmentHeader};
use super::watermark::Watermark;
use crate::clock::Stopwatch;
use crate::ids::{CellId, Epoch, Seq};
use crate::sync::atomic::Ordering::Relaxed;

/// How long a batch waits before it looks for a segment again.
const SPACE_RETRY: Duration = Duration::from_millis(20);

/// How long what nobody waits for is left to grow behind a batch that nobody waited for. Lines in bulk are waited for by the
/// hundred; a sync for each few of them would only take processor time.
const GATHER: Duration = Duration::from_millis(1);

/// What a turn of the writer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A batch is durable.
    Wrote,
    /// Nothing to write; the thread that asked is unparked when there is.
    Idle,
    /// A batch waits for a segment.
    Waits,
    /// Closed and everything written, or failed.
    Ended,
}

pub(crate) struct Writer {
    cell: CellId,
    epoch: Epoch,
    buffer: Arc<Buffer>,
    marks: Arc<Watermark>,
    on_durable: Box<dyn Fn() + Send>,
    reserve: Arc<Reserve>,
    segment: SegmentFile,
    /// Where the next frame goes; 0 before the segment's header is written.
    at: u64,
    link: Link,
    /// Taken from the buffer, and without a segment to go to.
    pending: Option<Batch>,
    spare: Option<Vec<u8>>,
    /// Nobody waited for the last batch.
    unawaited: bool,
}

impl Writer {
    /// A writer that begins in `segment`, behind the frame with `link`.
    pub(crate) fn new(
        cell: CellId,
        epoch: Epoch,
        link: Link,
        segment: SegmentFile,
        buffer: Arc<Buffer>,
        marks: Arc<Watermark>,
        reserve: Arc<Reserve>,
    ) -> Self {
        let on_durable = Box::new(|| ());
        Self {
            cell,
            epoch,
            buffer,
            marks,
            on_durable,
            reserve,
            segment,
            at: 0,
            link,
            pending: None,
            spare: None,
            unawaited: false,
        }
    }

    /// To be called whenever the watermark has moved.
    pub(crate) fn on_durable(&mut self, ring: Box<dyn Fn() + Send>) {
        self.on_durable = ring;
    }

    /// Turns until it has ended.
    pub(crate) fn run(mut self) {
        loop {
            match self.turn() {
                Turn::Wrote if self.unawaited && self.marks.unparks_when_waited_for(std::thread::current()) => {
                    std::thread::park_timeout(GATHER);
                }
                Turn::Wrote => {}
                Turn::Idle => std::thread::park(),
                Turn::Waits => std::thread::park_timeout(SPACE_RETRY),
                Turn::Ended => return,
            }
            if crate::planted!("ack_before_durable") {
                // The planted fault syncs lazily, as a store that acknowledges early would. One park is not enough: each
                // append ends it, and a power cut would seldom find anything to lose.
                let watch = Stopwatch::start();
                while watch.nanos() < 100_000_000 {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
            }
        }
    }

    /// Writes one batch, if there is one. Never waits for anything but the disk.
    pub(crate) fn turn(&mut self) -> Turn {
        // Another owner was seen, or the last write failed.
        if self.marks.failure().is_some() {
            return Turn::Ended;
        }
        let batch = match self.pending.take() {
            Some(batch) => batch,
            None => match self.buffer.take(&mut self.spare) {
                Taken::Batch(batch) => batch,
                Taken::Nothing => return Turn::Idle,
                Taken::Closed => {
                    self.marks.fail("the journal is closed".to_owned());
                    return Turn::Ended;
                }
            },
        };
        match self.commit(batch) {
            Ok(true) => Turn::Wrote,
            Ok(false) if !self.buffer.is_closing() => Turn::Waits,
            Ok(false) => self.fail("no room for another segment, and the journal is closing"),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    fn fail(&self, why: &str) -> Turn {
        self.marks.fail(format!("segment {}, offset {}: {why}", self.segment.index, self.at));
        Turn::Ended
    }

    /// False if the batch has to wait for a segment.
    fn commit(&mut self, mut batch: Batch) -> io::Result<bool> {
        let header = FrameHeader {
            count: batch.count,
            payload_bytes: u32::try_from(batch.frame.len() - FRAME_HEADER_BYTES)
                .map_err(|_| io::Error::other("a batch over 4 GiB"))?,
            epoch: self.epoch,
            first: batch.first,
            previous: self.link,
        };
        let previous = self.link;
        let len = header.total_bytes() as u64;
        if self.at != 0 && self.at + len > self.segment.bytes {
            match self.reserve.next(len) {
                Some(segment) => self.segment = segment,
                None => {
                    self.pending = Some(batch);
                    return Ok(false);
                }
            }
            self.at = 0;
        }
        let link = header.seal(&mut batch.frame);
        if self.at == 0 {
            self.begin_segment(batch.first, previous)?;
        }
        self.segment.write(self.at, &batch.frame)?;
        self.at += len;
        self.link = link;
        let watch = Stopwatch::start();
        self.segment.sync()?;
        self.marks.sync_nanos.fetch_add(watch.nanos(), Relaxed);
        self.marks.batches.fetch_add(1, Relaxed);
        self.marks.bytes.fetch_add(len, Relaxed);
        // Before anybody is told: who then submits meets the new figure.
        self.reserve.written(self.segment.bytes - self.at);
        if !crate::planted!("ack_before_durable") {
            self.unawaited = !self.marks.advance(header.last());
        }
        (self.on_durable)();
        self.spare = Some(recycle(batch.frame));
        Ok(true)
    }

    fn begin_segment(&mut self, first: Seq, previous: Link) -> io::Result<()> {
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            cell: self.cell,
            index: self.segment.index,
            epoch: self.epoch,
            segment_bytes: self.segment.bytes,
            first,
            previous,
        };
        // Synced together with the first frame: until then the file reads as never used.
        self.segment.write(0, &header.to_bytes())?;
        self.at = SEGMENT_HEADER_BYTES as u64;
        Ok(())
    }
}

/// Whatever ends the writer, a panic included, nobody waits for it for ever.
impl Drop for Writer {
    fn drop(&mut self) {
        // Keeps the first reason, if one was given.
        self.marks.fail("the journal is closed".to_owned());
    }
}
