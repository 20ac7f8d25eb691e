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
        let state = State { ready, next_index, left: 0, failed: None, maker: None };
        Self { storage, segment_bytes, log_bytes, log_bytes_max, buffer, state: Mutex::new(state) }
    }

    /// Makes one segment if fewer than [`READY`] lie ready; false if there are enough.
    ///
    /// # Errors
    /// Why none could be made.
    pub(crate) fn make(&self) -> io::Result<bool> {
        self.make_within(self.log_bytes_max)
    }

    /// As [`Reserve::make`], whatever the budget: a start needs one segment to begin in, and a cell that cannot start cannot trim
    /// its log either.
    pub(crate) fn make_first(&self) -> io::Result<bool> {
        self.make_within(u64::MAX)
    }

    fn make_within(&self, log_bytes_max: u64) -> io::Result<bool> {
        let index = {
            let state = self.state.lock();
            if state.ready.len() >= READY {
                return Ok(false);
            }
            state.next_index
        };
        // Not under the lock: the writer must not wait for a segment being filled with zeros. One maker at a time.
        let within = self.log_bytes.load(Relaxed) + self.segment_bytes <= log_bytes_max;
        let made = if within {
            SegmentFile::create(&*self.storage, index, self.segment_bytes)
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

    /// The next segment, if one lies ready.
    pub(crate) fn next(&self) -> Option<SegmentFile> {
        let mut state = self.state.lock();
        let next = state.ready.pop_front();
        state.left = self.segment_bytes;
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
        self.state.lock().maker = Some(std::thread::current());
        while !self.buffer.is_closing() {
            match self.make() {
                Ok(true) => {}
                Ok(false) => std::thread::park_timeout(AGAIN * 10),
                Err(_) => std::thread::park_timeout(AGAIN),
            }
        }
    }

    /// What is accepted has a place, also while the maker is only slow. Three batches of a third of what is left fit there:
    /// one that the writer has, the open one that was filled under an earlier limit, and the one after it.
    fn judge(&self, state: &State) {
        let overhead = SEGMENT_HEADER_BYTES as u64 + FRAME_HEADER_BYTES as u64 + 8;
        let third = |bytes: u64| usize::try_from((bytes / 3).saturating_sub(overhead)).unwrap_or(usize::MAX);
        let limit = match state.ready.len() {
            0 => third(state.left),
            1 => third(self.segment_bytes.max(state.left)),
            _ => self.buffer.capacity(),
        };
        self.buffer.set_place(limit, state.failed.is_some() && state.ready.len() < READY);
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
        reserve.next().unwrap();
        reserve.next().unwrap();
        assert_eq!(buffer.limit(), 64 << 10, "a whole segment is left");
        for left in [100 << 10, 30 << 10, 300] {
            reserve.written(left);
            assert!(buffer.limit() as u64 <= left / 3, "{left} bytes are left, and {} accepted", buffer.limit());
        }
        assert!(buffer.reserve(100).is_none());
        reserve.make().unwrap();
        assert_eq!((buffer.limit(), buffer.is_settling()), (64 << 10, false));
    }
}
