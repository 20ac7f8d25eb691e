//! What every decoder of stored bytes promises, whatever the bytes: no panic, no allocation that the bytes do not bound, and what
//! it takes is what would be written.
//!
//! Each function takes bytes that nobody wrote, panics if a promise is broken, and says whether something in them was taken as whole. The fuzz targets call them, and so does a
//! test with mutations of real files. `raw` bytes rarely get past a checksum, so each also makes the checksums right and goes
//! on behind them.

use std::sync::Arc;
use std::time::Duration;

use super::disk::MemoryDisk;
use crate::ids::{CellId, Epoch, Seq};
use crate::inventory::{Inventory, Limits};
use crate::journal::directory::{self, CodeKey};
use crate::journal::entry::Entry;
use crate::journal::frame::{FRAME_HEADER_BYTES, Frame, FrameHeader, Link};
use crate::journal::reader::read_directory;
use crate::journal::redis_stream;
use crate::journal::segment::{self, FORMAT_VERSION, PAGE_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::journal::snapshot::{self as snapshot_file, ChunkKind, SnapshotHeader, SnapshotReader, SnapshotWriter};
use crate::journal::storage::Storage;
use crate::journal::stream::{Head, ServerState, Shipment, Stream, StreamError, Whole};
use crate::recover::{Recovery, recover_into};
use crate::replay::Replayer;
use crate::units::TimestampMs;
use crate::verify::Ledger;
use crate::verify::directory::each_record;

const CELL: CellId = CellId(1);
/// A segment's used bytes are made as long as their header says, up to this.
const WHOLE_BYTES: u64 = 1 << 20;

/// An entry: what decodes encodes to the same bytes.
///
/// # Panics
/// If a promise is broken.
pub fn entry(data: &[u8]) -> bool {
    let Ok((entry, len)) = Entry::decode(data) else { return false };
    let mut again = Vec::new();
    entry.encode(&mut again);
    assert_eq!(again, data[..len], "an entry decodes to something else than it was");
    true
}

/// A frame, as in a segment and as in Redis: raw, and with these bytes as the payload.
///
/// # Panics
/// If a promise is broken.
pub fn frame(data: &[u8]) -> bool {
    let raw = Frame::read(data);
    if let Ok(frame) = raw {
        let _ = frame.entries(|_, _| {});
        let mut again = frame.bytes[..FRAME_HEADER_BYTES + frame.header.payload_bytes as usize].to_vec();
        assert_eq!(frame.header.seal(&mut again), frame.link);
        assert_eq!(again, frame.bytes, "a frame reads as something else than it was");
    }
    let Some((count, payload)) = data.split_first() else { return false };
    let (sealed, link) = seal(u32::from(*count) + 1, Seq(1), Link(7), payload);
    let frame = Frame::read(&sealed).expect("a sealed frame reads back");
    assert_eq!((frame.link, frame.bytes.len()), (link, sealed.len()));
    let mut entries = Vec::new();
    let read = frame.entries(|_, entry| entries.push(entry)).is_ok();
    if read {
        let mut again = Vec::new();
        entries.iter().for_each(|entry| entry.encode(&mut again));
        assert_eq!(again, payload, "the entries of a frame are not its payload");
    }
    read || raw.is_ok()
}

fn seal(count: u32, first: Seq, previous: Link, payload: &[u8]) -> (Vec<u8>, Link) {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    frame.extend_from_slice(payload);
    let payload_bytes = u32::try_from(payload.len()).expect("inputs are small");
    let link = FrameHeader { count, payload_bytes, epoch: Epoch(1), first, previous }.seal(&mut frame);
    (frame, link)
}

/// Cuts bytes into pieces: a byte of what it is, two of its length, then so many.
fn pieces(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let ([kind, low, high], rest) = data.split_first_chunk::<3>()?;
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (piece, behind) = rest.split_at(len);
        data = behind;
        Some((*kind, piece))
    })
}

/// A segment: raw, and as a whole header with frames in their places, the last bytes as they are. What is torn reads as whole
/// once it is cut.
///
/// # Panics
/// If a promise is broken.
pub fn segment(data: &[u8]) -> bool {
    let mut whole = data.to_vec();
    if let Some(header) = data.first_chunk().and_then(SegmentHeader::from_bytes)
        && header.segment_bytes <= WHOLE_BYTES
    {
        whole.resize(usize::try_from(header.segment_bytes).expect("small").max(data.len()), 0);
    }
    let raw = read_segment(whole);
    let pages = (data.len() as u64 * 2 + 64).div_ceil(PAGE_BYTES) + 1;
    let header = SegmentHeader {
        version: FORMAT_VERSION,
        cell: CELL,
        index: 1,
        epoch: Epoch(1),
        segment_bytes: pages * PAGE_BYTES,
        first: Seq(1),
        previous: Link(0),
    };
    let mut bytes = header.to_bytes().to_vec();
    let (mut first, mut link) = (Seq(1), Link(0));
    for (kind, piece) in pieces(data) {
        if kind >= 0x80 {
            bytes.extend_from_slice(piece);
            continue;
        }
        let count = u32::from(kind % 4) + 1;
        let (frame, next) = seal(count, first, link, piece);
        bytes.extend(frame);
        (first, link) = (Seq(first.0 + u64::from(count)), next);
    }
    bytes.resize(usize::try_from(header.segment_bytes).expect("small").max(bytes.len()), 0);
    read_segment(bytes) || raw
}

fn read_segment(bytes: Vec<u8>) -> bool {
    let disk = MemoryDisk::new(0);
    let name = segment::name(1);
    put(&disk, segment::DIR, &name, &bytes);
    let mut seen = Seq(0);
    let read = |seen: &mut Seq| {
        read_directory(&disk, CELL, Seq(0), &mut |frame| {
            frame.entries(|seq, _| {
                assert!(seq > *seen, "entries go back");
                *seen = seq;
            })
        })
    };
    let Ok(tail) = read(&mut seen) else { return false };
    if let Some(torn) = &tail.torn {
        directory::cut(&disk, torn).expect("a disk without faults");
        let again = read(&mut Seq(0)).expect("what was torn reads as whole once it is cut");
        assert_eq!((again.torn, again.last, again.link), (None, tail.last, tail.link));
    }
    assert!(bytes.len() >= SEGMENT_HEADER_BYTES || tail.frames == 0);
    tail.frames > 0
}

fn put(disk: &MemoryDisk, dir: &str, name: &str, bytes: &[u8]) {
    disk.create_dir(dir).expect("a disk without faults");
    disk.create(name).and_then(|file| file.write_all_at(0, bytes)).expect("a disk without faults");
}

/// A snapshot: raw, and as a whole header with chunks in their places. What is whole is loaded into tables and into books.
///
/// # Panics
/// If a promise is broken.
pub fn snapshot(data: &[u8]) -> bool {
    let disk = MemoryDisk::new(0);
    put(&disk, snapshot_file::DIR, &snapshot_file::name(Seq(1)), data);
    let raw = read_snapshot(&disk, Seq(1));
    read_snapshot(&made(Seq(9), data), Seq(9)) || raw
}

/// A disk with a snapshot whose header and checksums are right.
fn made(s0: Seq, data: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::new(0);
    let header = SnapshotHeader { cell: CELL, epoch: Epoch(1), s0, newest: TimestampMs(1) };
    let mut writer = SnapshotWriter::create(Arc::new(disk.clone()), header).expect("a disk without faults");
    const KINDS: [ChunkKind; 5] =
        [ChunkKind::Catalogue, ChunkKind::Parties, ChunkKind::Slots, ChunkKind::Bookings, ChunkKind::Keys];
    let mut end = Vec::new();
    for (kind, piece) in pieces(data) {
        match KINDS.get(usize::from(kind >> 4)) {
            Some(chunk) => writer.chunk(*chunk, u32::from(kind & 15), piece).expect("a disk without faults"),
            None => end = piece.to_vec(),
        }
    }
    end.resize(40, 0);
    writer.chunk(ChunkKind::End, 1, &end).expect("a disk without faults");
    writer.publish().expect("a disk without faults");
    disk
}

fn read_snapshot(disk: &dyn Storage, s0: Seq) -> bool {
    let name = snapshot_file::name(s0);
    let Ok(reader) = SnapshotReader::open(disk, &name, CELL) else { return false };
    let mut ledger = Ledger::new(Duration::from_secs(1));
    let _ = each_record(&reader, &mut |record| ledger.load(s0, record));
    let Ok(totals) = crate::snapshot::check(&reader) else { return false };
    let limits = Limits {
        parties_max: 1000,
        slots_max: 1000,
        bookings_max: 1000,
        idempotency_keys_max: 100,
        ..Limits::default()
    };
    let inventory = Inventory::new(&limits);
    let mut nothing = |_: crate::engine::Note<'_>| {};
    let mut replayer = Replayer::new(&inventory, &mut nothing);
    let loaded = crate::snapshot::load(
        &reader,
        &totals,
        &inventory,
        &mut |seq, entry| replayer.catalogue(seq, entry),
        &mut |_| {},
    );
    if loaded.is_ok() {
        replayer.begin_at(s0, totals.s1, TimestampMs(1));
        let _ = replayer.finish();
    }
    loaded.is_ok()
}

/// What Redis hands out, head and frames and a snapshot, recovered into a directory: an error, or one that reads to the head.
/// Raw, and with checksums and chain made right.
///
/// # Panics
/// If a promise is broken.
pub fn stream(data: &[u8]) -> bool {
    let said: Vec<_> = String::from_utf8_lossy(data).split('\n').map(str::to_owned).collect();
    let _ = redis_stream::head(&said);

    let Some(([flags, epoch, base, last, s0, s1, pieces_of_it], rest)) = data.split_first_chunk::<7>() else {
        return false;
    };
    let base = Seq(u64::from(*base));
    let mut hostile = Hostile { head: Head::default(), frames: Vec::new(), snapshot: Vec::new() };
    let (mut first, mut link) = (base.next(), Link(0));
    for (kind, piece) in pieces(rest) {
        match kind {
            0xC0.. => hostile.snapshot.push(piece.to_vec()),
            0x80.. => {
                // Of a whole one the head may tell, and the next may follow it.
                link = Frame::read(piece).map_or(link, |frame| frame.link);
                hostile.frames.push(piece.to_vec());
            }
            _ => {
                let count = u32::from(kind % 4) + 1;
                let (frame, next) = seal(count, first, link, piece);
                hostile.frames.push(frame);
                (first, link) = (Seq(first.0 + u64::from(count)), next);
            }
        }
    }
    let s0 = Seq(u64::from(*s0));
    if flags & 1 != 0 {
        // One that is whole by its checksums, in one piece.
        let file = made(s0, &hostile.snapshot.concat()).read(&snapshot_file::name(s0));
        hostile.snapshot = vec![file.expect("a disk without faults")];
    }
    let pieces = if flags & 1 != 0 { 1 } else { u64::from(*pieces_of_it) };
    let whole = Whole { s0, s1: Seq(u64::from(*s1)), pieces, bytes: 0 };
    let end = if flags & 2 != 0 { Seq(first.0 - 1) } else { Seq(u64::from(*last)) };
    hostile.head = Head {
        last: end,
        link: (flags & 4 != 0).then_some(link),
        epoch: Epoch(u32::from(*epoch) * (u32::MAX / 255)),
        base,
        snapshots: if flags & 8 != 0 { vec![whole] } else { Vec::new() },
        damaged: None,
    };
    let disk: Arc<dyn Storage> = Arc::new(MemoryDisk::new(0));
    let code_key = CodeKey::from_text("000102030405060708090a0b0c0d0e0f");
    let recovery = Recovery { dir: "memory".into(), cell: CELL, segment_bytes: 4 * PAGE_BYTES, code_key };
    let Ok(report) = recover_into(&mut hostile, &disk, &recovery, &mut |_| {}) else { return false };
    assert!(report.snapshot.unwrap_or_default() >= base && report.last == end, "{report:?} of {:?}", hostile.head);
    let tail = read_directory(&*disk, CELL, base, &mut |_| Ok(())).expect("a recovered log reads back");
    assert!(tail.torn.is_none() && (tail.index == 0 || tail.last == end), "{tail:?} of {:?}", hostile.head);
    true
}

/// The frames of a segment as an input of [`stream`], and a head that ends with them: what leads to a directory that has them.
///
/// # Panics
/// If they are more than fit one.
#[must_use]
pub fn shipped(segment: &[u8]) -> Vec<u8> {
    let (mut frames, mut at, mut last) = (Vec::new(), SEGMENT_HEADER_BYTES, Seq(0));
    while let Ok(frame) = Frame::read(&segment[at..]) {
        frames.push(0x80);
        frames.extend(u16::try_from(frame.bytes.len()).expect("small frames").to_le_bytes());
        frames.extend_from_slice(frame.bytes);
        (at, last) = (at + frame.bytes.len(), frame.header.last());
    }
    let last = u8::try_from(last.0).expect("few entries");
    // The head tells the last one's link.
    [vec![4, 1, 0, last, 0, 0, 0], frames].concat()
}

/// A Redis that hands out whatever it was given.
#[derive(Debug)]
struct Hostile {
    head: Head,
    frames: Vec<Vec<u8>>,
    snapshot: Vec<Vec<u8>>,
}

impl Stream for Hostile {
    fn head(&mut self) -> Result<Head, StreamError> {
        Ok(self.head.clone())
    }

    fn take(&mut self, epoch: Epoch) -> Result<Head, StreamError> {
        self.head.epoch = epoch;
        self.head()
    }

    fn send(&mut self, _: Epoch, _: &[Shipment]) -> Result<(), StreamError> {
        Err(StreamError::Elsewhere)
    }

    fn appended(&mut self) -> Result<(), StreamError> {
        Err(StreamError::Elsewhere)
    }

    fn settles(&self) -> bool {
        false
    }

    fn settle(&mut self) -> Result<bool, StreamError> {
        Ok(true)
    }

    fn server(&mut self) -> Result<ServerState, StreamError> {
        Ok(ServerState::default())
    }

    fn put_piece(&mut self, _: Epoch, _: Seq, _: u64, _: &[u8]) -> Result<(), StreamError> {
        Err(StreamError::OutOfMemory)
    }

    fn pieces(&mut self, _: Seq) -> Result<u64, StreamError> {
        Ok(self.snapshot.len() as u64)
    }

    fn keep(&mut self, _: Epoch, _: Whole) -> Result<(), StreamError> {
        Err(StreamError::NotWhole)
    }

    fn trim(&mut self, _: Epoch, _: Seq) -> Result<(), StreamError> {
        Err(StreamError::NotWhole)
    }

    fn install(&mut self, _: Epoch, _: Seq, _: Link, _: Option<Whole>) -> Result<(), StreamError> {
        Err(StreamError::NotWhole)
    }

    /// The next ones, whatever is asked for.
    fn frames(&mut self, _: Seq, count: usize) -> Result<Vec<Vec<u8>>, StreamError> {
        Ok(self.frames.drain(..count.min(self.frames.len())).collect())
    }

    fn piece(&mut self, _: Seq, number: u64) -> Result<Option<Vec<u8>>, StreamError> {
        Ok(usize::try_from(number).ok().and_then(|number| self.snapshot.get(number).cloned()))
    }
}
