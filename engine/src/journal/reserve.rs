//! Segments made ahead, so that a full disk is known before a command is accepted.
//!
//! Two segments lie ready behind the one in use: the next, and the reserve. While the third cannot be made, whatever the
//! reason (a full disk, the log's budget spent, no free file descriptor), what takes units or memory is refused with
//! `journal_full`; what settles a claim goes on in what lies ready. When that too is nearly used up, everything
//! is refused, so that nothing is ever accepted that has no place on the disk. Service resumes by itself.
// rule: JNL-5 nothing is accepted that has no place on the disk; what settles a claim is refused last

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::buffer::Buffer;
use super::frame::FRAME_HEADER_BYTES;
use super::segment::{SEGMENT_HEADER_BYTES, SegmentFile};
use super::storage::Storage;

/// Segments that lie ready behind the one in use.
pub(crate) const READY: usize = 2;
/// The wait between two pieces of a segment that is made while another lies ready, so that the writer's syncs come
/// through. 256 KiB each time: 100 MiB/s at most.
const PACE: Duration = Duration::from_millis(2);
/// The wait between attempts to create a segment.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct State {
    ready: VecDeque<SegmentFile>,
    next_index: u64,
    /// Bytes behind the newest frame in the segment in use.
    left: u64,
    /// Why the last attempt to make one failed.
    failed: Option<String>,
    /// Nobody makes segments any more: the thread that did has panicked.
    abandoned: bool,
    maker: Option<Thread>,
}

/// The segments that lie ready, and the room in them.
#[derive(Debug)]
pub(crate) struct Reserve {
    storage: Arc<dyn Storage>,
    segment_bytes: u64,
    /// Bytes of all segments there are.
    log_bytes: Arc<AtomicU64>,
    log_bytes_max: u64,
    buffer: Arc<Buffer>,
    state: Mutex<State>,
}

impl Reserve {
    /// With what an earlier run left `ready`, in order and without gaps up to `next_index`.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        segment_bytes: u64,
        log_bytes: Arc<AtomicU64>,
        log_bytes_max: u64,
        buffer: Arc<Buffer>,
        ready: VecDeque<SegmentFile>,
        next_index: u64,
    ) -> Self {
        let state = State { ready, next_index, left: 0, failed: None, abandoned: false, maker: None };
        Self { storage, segment_bytes, log_bytes, log_bytes_max, buffer, state: Mutex::new(state) }
    }

    /// Makes one segment if fewer than [`READY`] lie ready; false if there are enough.
    ///
    /// # Errors
    /// Why none could be made.
    pub(crate) fn make(&self) -> io::Result<bool> {
        self.make_within(self.log_bytes_max, &mut || Ok(()))
    }

    /// As [`Reserve::make`], without haste while another segment lies ready.
    fn make_paced(&self) -> io::Result<bool> {
        self.make_within(self.log_bytes_max, &mut || {
            // None ready, and the writer may be waiting for this one, also to end well.
            if self.state.lock().ready.is_empty() {
                return Ok(());
            }
            if self.buffer.is_closing() {
                return Err(io::Error::other("the journal is closing"));
            }
            std::thread::park_timeout(PACE);
            Ok(())
        })
    }

    /// As [`Reserve::make`], whatever the budget: a start needs one segment to begin in, and a cell that cannot start cannot trim
    /// its log either.
    pub(crate) fn make_first(&self) -> io::Result<bool> {
        self.make_within(u64::MAX, &mut || Ok(()))
    }

    fn make_within(&self, log_bytes_max: u64, between: &mut dyn FnMut() -> io::Result<()>) -> io::Result<bool> {
        let index = {
            let state = self.state.lock();
            if state.ready.len() >= READY {
                return Ok(false);
            }
            state.next_index
        };
        // Not under the lock: the writer must not wait for a segment being filled with zeros. One maker at a time.
        let within = self.log_bytes.load(Relaxed).saturating_add(self.segment_bytes) <= log_bytes_max;
        let made = if within {
            SegmentFile::create(&*self.storage, index, self.segment_bytes, between)
        } else {
            Err(io::Error::other("the log's budget of bytes is spent"))
        };
        let mut state = self.state.lock();
        let done = match made {
            Ok(segment) => {
                self.log_bytes.fetch_add(self.segment_bytes, Relaxed);
                state.ready.push_back(segment);
                state.next_index = index + 1;
                state.failed = None;
                Ok(true)
            }
            Err(error) => {
                state.failed = Some(error.to_string());
                Err(error)
            }
        };
        self.judge(&state);
        done
    }

    /// The next segment, if one lies ready, to begin with so many bytes.
    pub(crate) fn next(&self, bytes: u64) -> Option<SegmentFile> {
        let mut state = self.state.lock();
        let next = state.ready.pop_front();
        if next.is_some() {
            // Without one the writer still stands in the segment before, with what is left there.
            state.left = self.segment_bytes.saturating_sub(SEGMENT_HEADER_BYTES as u64 + bytes);
        }
        self.judge(&state);
        if let Some(maker) = &state.maker {
            maker.unpark();
        }
        next
    }

    /// Said by the writer: so many bytes are left in the segment in use.
    pub(crate) fn written(&self, left: u64) {
        let mut state = self.state.lock();
        state.left = left;
        self.judge(&state);
    }

    /// Makes segments until the buffer closes. For a thread of its own.
    pub(crate) fn keep(&self) {
        let _told = Abandons(self);
        self.state.lock().maker = Some(std::thread::current());
        while !self.buffer.is_closing() {
            match self.make_paced() {
                Ok(true) => {}
                Ok(false) => std::thread::park_timeout(AGAIN * 10),
                Err(_) => std::thread::park_timeout(AGAIN),
            }
        }
    }

    /// Why no further segment can be made, while that is so.
    pub(crate) fn shortage(&self) -> Option<String> {
        let state = self.state.lock();
        state.failed.clone().filter(|_| state.ready.len() < READY)
    }

    /// Whether nobody makes segments any more, so that what lies ready is the last.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.state.lock().abandoned
    }

    /// What is accepted has a place, also while the maker is only slow.
    ///
    /// A batch is filled under the limit that was set two writes before it is written, so with a part 1/k of what is left as the
    /// limit the room goes x' = x - y/k, y being the room before x: that stays above zero for k = 4, and for no smaller one. While
    /// one segment lies ready, a whole buffer may be on its way to it, and may waste the end of the one in use.
    fn judge(&self, state: &State) {
        let overhead = SEGMENT_HEADER_BYTES as u64 + FRAME_HEADER_BYTES as u64 + 8;
        let quarter = |bytes: u64| usize::try_from((bytes / 4).saturating_sub(overhead)).unwrap_or(usize::MAX);
        let limit = match state.ready.len() {
            0 => quarter(state.left),
            1 => quarter(self.segment_bytes.max(state.left).saturating_sub(self.buffer.capacity() as u64)),
            _ => self.buffer.capacity(),
        };
        self.buffer.set_place(limit, state.failed.is_some() && state.ready.len() < READY);
    }
}

/// Tells at once when its thread panics: no segment would ever be made again, and nobody would know before the last is full.
struct Abandons<'a>(&'a Reserve);

impl Drop for Abandons<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.0.state.lock();
            state.abandoned = true;
            state.failed = Some("the thread that makes segments panicked".to_owned());
            self.0.judge(&state);
        }
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;
    use crate::ids::Seq;
    use crate::journal::segment;
    use crate::journal::watermark::Watermark;
    use crate::testing::disk::MemoryDisk;

    // rule: JNL-5
    #[test]
    fn nothing_is_accepted_without_a_place_while_the_maker_is_only_slow() {
        let disk = MemoryDisk::new(1);
        disk.create_dir(segment::DIR).unwrap();
        let buffer = Arc::new(Buffer::new(64 << 10, Seq(1), Arc::new(Watermark::new(Seq(0)))));
        let bytes = 256 << 10;
        let log_bytes = Arc::default();
        let reserve = Reserve::new(Arc::new(disk), bytes, log_bytes, u64::MAX, Arc::clone(&buffer), VecDeque::new(), 1);
        assert!(reserve.make().unwrap() && reserve.make().unwrap());
        assert!(!reserve.make().unwrap(), "two lie ready");
        assert_eq!(buffer.limit(), 64 << 10);
        reserve.next(0).unwrap();
        assert!(buffer.limit() <= 48 << 10, "a whole buffer may be on its way to the one that lies ready");
        reserve.next(0).unwrap();
        for left in [100 << 10, 30 << 10, 300] {
            reserve.written(left);
            assert!(buffer.limit() as u64 <= left / 4, "{left} bytes are left, and {} accepted", buffer.limit());
            assert!(reserve.next(1000).is_none());
            assert!(buffer.limit() as u64 <= left / 4, "asked for in vain, a segment makes no room");
        }
        assert!(buffer.reserve(100).is_none());
        while reserve.make().unwrap() {}
        assert_eq!((buffer.limit(), buffer.is_settling()), (64 << 10, false));
    }

    /// Whoever submits fills every batch to the limit that counts while it is open; no maker comes.
    // rule: JNL-5
    #[test]
    fn batches_filled_to_the_limit_always_have_a_place() {
        let header = SEGMENT_HEADER_BYTES as u64;
        for (buffer_bytes, segment_bytes) in [(4096usize, 8192u64), (4096, 16 << 10), (64 << 10, 1 << 20)] {
            for share in [1, 2, 3, 7] {
                let disk = MemoryDisk::new(1);
                disk.create_dir(segment::DIR).unwrap();
                let buffer = Arc::new(Buffer::new(buffer_bytes, Seq(1), Arc::new(Watermark::new(Seq(0)))));
                let reserve = Reserve::new(
                    Arc::new(disk),
                    segment_bytes,
                    Arc::default(),
                    u64::MAX,
                    Arc::clone(&buffer),
                    VecDeque::new(),
                    1,
                );
                while reserve.make().unwrap() {}
                reserve.next(0).unwrap();
                while reserve.make().unwrap() {}
                let mut left = segment_bytes - header;
                let framed = |payload: usize| (FRAME_HEADER_BYTES + payload).next_multiple_of(8) as u64;
                let mut accepted = 0;
                // What is open while a batch is written was filled under the limit from before that write.
                let mut open = buffer.limit() / share;
                for batch in 0..1000 {
                    let taken = framed(open);
                    open = buffer.limit() / share;
                    if taken > left {
                        let next = reserve.next(taken);
                        assert!(next.is_some(), "batch {batch} of {taken} bytes has no place, {left} are left");
                        left = segment_bytes - header;
                    }
                    left -= taken;
                    reserve.written(left);
                    accepted += taken;
                    if open == 0 {
                        break;
                    }
                }
                assert!(accepted > segment_bytes / 8, "{accepted} bytes of two segments of {segment_bytes} were used");
            }
        }
    }

    // rule: JNL-5
    #[test]
    fn a_maker_that_panicked_is_told_of_and_what_lies_ready_is_the_last() {
        let disk = MemoryDisk::new(1);
        disk.create_dir(segment::DIR).unwrap();
        let buffer = Arc::new(Buffer::new(4096, Seq(1), Arc::new(Watermark::new(Seq(0)))));
        let reserve =
            Reserve::new(Arc::new(disk), 16 << 10, Arc::default(), u64::MAX, Arc::clone(&buffer), VecDeque::new(), 1);
        while reserve.make().unwrap() {}
        std::thread::scope(|scope| {
            let maker = scope.spawn(|| {
                let _told = Abandons(&reserve);
                panic!("planted");
            });
            maker.join().unwrap_err();
        });
        assert!(reserve.is_abandoned() && !buffer.is_settling() && reserve.shortage().is_none());
        reserve.next(0).unwrap();
        assert!(buffer.is_settling());
        assert_eq!(reserve.shortage().as_deref(), Some("the thread that makes segments panicked"));
    }
}
