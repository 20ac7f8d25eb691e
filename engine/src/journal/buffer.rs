//! Where `submit` appends: one open batch behind one short lock.
//!
//! Room is reserved before anything is taken, so that an append can neither fail nor allocate
//! (DESIGN 4.5, steps 1 and 6). Invariant: bytes reserved + bytes in the open batch <= `capacity`; what is accepted also
//! keeps to `limit`, which is less while the disk has few segments ready.

use std::sync::Arc;
use std::thread::Thread;

use super::entry::Event;
use super::frame::FRAME_HEADER_BYTES;
use super::watermark::Watermark;
use crate::ids::Seq;
use crate::sync::Mutex;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicUsize};

/// Entries by kind code since the start, counted under the append lock.
pub(crate) type KindCounts = [u64; Event::CODES];

#[derive(Debug)]
struct Open {
    /// Header space, then entries.
    frame: Vec<u8>,
    count: u32,
    next: Seq,
    kinds: KindCounts,
    /// The writer, while it sleeps.
    sleeper: Option<Thread>,
}

/// A batch taken by the writer: header space, then `count` entries from `first`.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) frame: Vec<u8>,
    pub(crate) first: Seq,
    pub(crate) count: u32,
}

#[derive(Debug)]
pub(crate) struct Buffer {
    used: AtomicUsize,
    capacity: usize,
    /// At most `capacity`: the bytes of a batch that surely has a place on the disk.
    limit: AtomicUsize,
    open: Mutex<Open>,
    /// No command is taken any more.
    closing: AtomicBool,
    /// The disk has room for what settles a claim, and for nothing else.
    settling: AtomicBool,
    marks: Arc<Watermark>,
}

/// What the writer finds.
pub(crate) enum Taken {
    Batch(Batch),
    /// Nothing to write. The caller is registered to be unparked and should park.
    Nothing,
    /// Nothing to write, and nothing will come.
    Closed,
}

/// Bytes set aside in the buffer. Given back when dropped unused.
#[must_use]
pub(crate) struct Room<'a> {
    buffer: &'a Buffer,
    bytes: usize,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        // Relaxed: `used` is a budget; what the bytes hold is ordered by the lock.
        self.buffer.used.fetch_sub(self.bytes, Relaxed);
    }
}

impl Room<'_> {
    /// Gives the entry the next sequence number and copies its bytes.
    // rule: JNL-1 one lock gives numbers in the order of appends
    pub(crate) fn append(mut self, entry: &[u8], code: usize) -> Seq {
        assert!(entry.len() <= self.bytes, "an entry of {} bytes in room for {}", entry.len(), self.bytes);
        let mut open = self.buffer.open.lock();
        open.frame.extend_from_slice(entry);
        open.count += 1;
        open.kinds[code] += 1;
        let seq = open.next;
        open.next = seq.next();
        if crate::planted!("ack_before_durable") {
            self.buffer.marks.advance(seq);
        }
        let sleeper = open.sleeper.take();
        drop(open);
        if let Some(writer) = sleeper {
            writer.unpark();
        }
        // The entry's own bytes stay used until the writer takes the batch; the rest goes back in drop.
        self.bytes -= entry.len();
        seq
    }
}

impl Buffer {
    /// `capacity` is in bytes, for each of the two batches in turn; the first entry gets number `next`.
    pub(crate) fn new(capacity: usize, next: Seq, marks: Arc<Watermark>) -> Self {
        let open = Open { frame: empty_frame(capacity), count: 0, next, kinds: [0; Event::CODES], sleeper: None };
        Self {
            used: AtomicUsize::new(0),
            capacity,
            limit: AtomicUsize::new(capacity),
            open: Mutex::new(open),
            closing: AtomicBool::new(false),
            settling: AtomicBool::new(false),
            marks,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sets `bytes` aside, or says that the disk is behind.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Room<'_>> {
        // Looked at first, so that a large reservation that is refused takes no room from small ones meanwhile.
        // Relaxed: the limit leaves a third to spare, more than what may pass it while it is lowered.
        if self.used.load(Relaxed).saturating_add(bytes) > self.limit.load(Relaxed) {
            return None;
        }
        // AcqRel keeps the budget exact across threads; a reservation that went over takes itself back.
        let before = self.used.fetch_add(bytes, AcqRel);
        let room = Room { buffer: self, bytes };
        (before + bytes <= self.capacity).then_some(room)
    }

    /// The number of the newest entry.
    pub(crate) fn appended(&self) -> Seq {
        Seq(self.open.lock().next.0 - 1)
    }

    pub(crate) fn kinds(&self) -> KindCounts {
        self.open.lock().kinds
    }

    /// Swaps the open batch for `spare` and hands it out.
    pub(crate) fn take(&self, spare: &mut Option<Vec<u8>>) -> Taken {
        let mut open = self.open.lock();
        if open.count == 0 {
            if self.is_closing() {
                return Taken::Closed;
            }
            open.sleeper = Some(std::thread::current());
            return Taken::Nothing;
        }
        let fresh = spare.take().unwrap_or_else(|| empty_frame(self.capacity));
        let frame = std::mem::replace(&mut open.frame, fresh);
        let count = std::mem::take(&mut open.count);
        let first = Seq(open.next.0 - u64::from(count));
        drop(open);
        self.used.fetch_sub(frame.len() - FRAME_HEADER_BYTES, AcqRel);
        Taken::Batch(Batch { frame, first, count })
    }

    /// Takes no more commands, and lets the writer end once everything appended is written. Commands that were
    /// inside `submit` at this instant may still append.
    pub(crate) fn close(&self) {
        self.closing.store(true, Release);
        let sleeper = self.open.lock().sleeper.take();
        if let Some(writer) = sleeper {
            writer.unpark();
        }
    }

    /// Whether [`Buffer::close`] was called.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Acquire)
    }

    /// Said by the reserve of segments: the bytes of a batch that surely has a place, and whether only what settles a claim
    /// is to be taken.
    pub(crate) fn set_place(&self, limit: usize, settling: bool) {
        self.limit.store(limit.min(self.capacity), Relaxed);
        self.settling.store(settling, Release);
    }

    #[cfg(test)]
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    pub(crate) fn is_settling(&self) -> bool {
        self.settling.load(Acquire)
    }
}

fn empty_frame(capacity: usize) -> Vec<u8> {
    // The padding of a sealed frame must not make it grow either.
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + capacity + 8);
    frame.resize(FRAME_HEADER_BYTES, 0);
    frame
}

/// Makes a written frame ready to be filled again.
pub(crate) fn recycle(mut frame: Vec<u8>) -> Vec<u8> {
    frame.clear();
    frame.resize(FRAME_HEADER_BYTES, 0);
    frame
}
