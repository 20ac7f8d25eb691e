//! The one writer: take the open batch, write it, sync it, advance the watermark, again.
//!
//! While a sync runs, `submit` fills the next batch: that is the group commit. A helper thread keeps the
//! next segment prepared. A failed write or sync stops the journal for good (after a failed fsync the kernel may
//! have dropped the dirty pages, so no later success proves anything). A next segment that cannot be made
//! is not such a failure: `submit` refuses what would take more units with `journal_full` until there is room again.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::buffer::{Batch, Buffer, Taken, recycle};
use super::frame::{FrameHeader, Link};
use super::segment::{self, FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentFile, SegmentHeader};
use super::watermark::Watermark;
use crate::clock::Stopwatch;
use crate::ids::{CellId, Epoch, Seq};
use crate::sync::atomic::Ordering::Relaxed;

/// The wait between attempts to create a segment.
const SPACE_RETRY: Duration = Duration::from_millis(100);

/// Where a run of the writer begins.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) dir: PathBuf,
    pub(crate) cell: CellId,
    pub(crate) epoch: Epoch,
    /// The index of the segment to begin.
    pub(crate) index: u64,
    /// The link of the newest frame.
    pub(crate) link: Link,
    pub(crate) segment_bytes: u64,
    pub(crate) power_cut: bool,
}

struct Writer {
    start: Start,
    buffer: Arc<Buffer>,
    marks: Arc<Watermark>,
    on_durable: Box<dyn Fn() + Send>,
    segment: SegmentFile,
    at: u64,
    link: Link,
    prepared: Receiver<io::Result<SegmentFile>>,
    prepare: Sender<u64>,
}

/// Starts the writer and its helper. The first segment is created here, so that a disk that cannot be
/// written fails the start.
pub(crate) fn spawn(
    start: Start,
    buffer: Arc<Buffer>,
    marks: Arc<Watermark>,
    on_durable: Box<dyn Fn() + Send>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let segment = SegmentFile::create(&start.dir, start.index, start.segment_bytes, start.power_cut)?;
    let (prepare, to_prepare) = bounded::<u64>(1);
    let (done, prepared) = bounded(1);
    let (dir, bytes, power_cut) = (start.dir.clone(), start.segment_bytes, start.power_cut);
    let helper = std::thread::Builder::new().name("berth-segments".to_owned()).spawn(move || {
        while let Ok(index) = to_prepare.recv() {
            if done.send(SegmentFile::create(&dir, index, bytes, power_cut)).is_err() {
                return;
            }
        }
    })?;
    let link = start.link;
    let writer = Writer { start, buffer, marks, on_durable, segment, at: 0, link, prepared, prepare };
    let writer = std::thread::Builder::new().name("berth-journal".to_owned()).spawn(move || writer.run())?;
    Ok(vec![writer, helper])
}

impl Writer {
    fn run(mut self) {
        let _ended = Ended(Arc::clone(&self.marks));
        let mut spare = None;
        let first_next = self.segment.index + 1;
        // The channel is empty and the helper alive: a send cannot fail or block.
        let _ = self.prepare.send(first_next);
        loop {
            match self.buffer.take(&mut spare) {
                Taken::Batch(batch) => match self.commit(batch) {
                    Ok(frame) => spare = Some(recycle(frame)),
                    Err(error) => {
                        let reason = format!("segment {}, offset {}: {error}", self.segment.index, self.at);
                        return self.marks.fail(reason);
                    }
                },
                Taken::Nothing => std::thread::park(),
                Taken::Closed => return,
            }
            if cfg!(berth_fault = "ack_before_durable") {
                // The planted fault syncs lazily, as a store that acknowledges early would.
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
    }

    fn commit(&mut self, batch: Batch) -> io::Result<Vec<u8>> {
        let Batch { mut frame, first, count } = batch;
        let header = FrameHeader {
            count,
            payload_bytes: u32::try_from(frame.len() - super::frame::FRAME_HEADER_BYTES)
                .map_err(|_| io::Error::other("a batch over 4 GiB"))?,
            epoch: self.start.epoch,
            first,
            previous: self.link,
        };
        let previous = self.link;
        let link = header.seal(&mut frame);
        let len = frame.len() as u64;
        if self.at != 0 && self.at + len > self.segment.bytes {
            self.segment = self.next_segment()?;
            self.at = 0;
        }
        if self.at == 0 {
            self.begin_segment(first, previous)?;
        }
        self.segment.write(self.at, &frame)?;
        self.at += len;
        self.link = link;
        let watch = Stopwatch::start();
        self.segment.sync()?;
        self.marks.sync_nanos.fetch_add(watch.nanos(), Relaxed);
        self.marks.batches.fetch_add(1, Relaxed);
        self.marks.bytes.fetch_add(len, Relaxed);
        if !cfg!(berth_fault = "ack_before_durable") {
            self.marks.advance(header.last());
        }
        (self.on_durable)();
        Ok(frame)
    }

    fn begin_segment(&mut self, first: Seq, previous: Link) -> io::Result<()> {
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            cell: self.start.cell,
            index: self.segment.index,
            epoch: self.start.epoch,
            segment_bytes: self.segment.bytes,
            first,
            previous,
        };
        // Synced together with the first frame: until then the file reads as never used.
        self.segment.write(0, &header.to_bytes())?;
        self.at = SEGMENT_HEADER_BYTES as u64;
        Ok(())
    }

    /// The prepared segment. While none can be made, whatever the reason (a full disk, no free file descriptor), it waits
    /// and tries again: nothing was written to it, so nothing is in doubt, and `submit` refuses what takes more.
    fn next_segment(&mut self) -> io::Result<SegmentFile> {
        let index = self.segment.index + 1;
        loop {
            let made = self.prepared.recv().map_err(|_| io::Error::other("the segment helper ended"))?;
            match made {
                Ok(segment) => {
                    self.buffer.set_starved(false);
                    let _ = self.prepare.send(index + 1);
                    return Ok(segment);
                }
                Err(_) if !self.buffer.is_closing() => {
                    self.buffer.set_starved(true);
                    std::thread::park_timeout(SPACE_RETRY);
                    let _ = self.prepare.send(index);
                }
                Err(error) => {
                    let path = segment::path(&self.start.dir, index);
                    return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
                }
            }
        }
    }
}

/// Whatever ends the writer, a panic included, nobody waits for it for ever.
struct Ended(Arc<Watermark>);

impl Drop for Ended {
    fn drop(&mut self) {
        // Keeps the first reason, if one was given.
        self.0.fail("the journal is closed".to_owned());
    }
}
