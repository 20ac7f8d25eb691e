//! Snapshots of a serving cell: taken without stopping anybody, so that a start need not replay from the beginning.
//!
//! Fuzzy: while the tables are scanned, commands go on. S0 is a durable entry; before the records are scanned every party
//! was locked once, so all commands up to S0 are through (they hold their parties' locks from before their append until
//! their records are written). A record scanned later may already show entries up to S1, the newest when the scan
//! ended. Held and booked counts and the parties' claims are not stored: a start replays from S0 + 1, skips what a
//! record has already seen, and counts afresh when it has passed S1 ([`crate::replay`]).
//!
//! What a crash loses: a snapshot that has no name yet. Whole ones stay, the newest two.
// rule: SNP-1 a snapshot gets its name only when it is whole and the log is durable up to S1

mod load;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock::Stopwatch;
use crate::command::PartyFacts;
use crate::engine::Engine;
use crate::error::Failure;
use crate::ids::{BookingNumber, PartyId, Seq, SlotId};
use crate::journal::entry::Event;
use crate::journal::reader;
use crate::journal::removal;
use crate::journal::segment;
use crate::journal::snapshot::{self as file, ChunkKind, SnapshotHeader, SnapshotReader, SnapshotWriter};
use crate::journal::storage::Storage;
use crate::journal::tail::{Cursor, TailError};
pub(crate) use load::{check, check_watched, load};

/// Records per chunk, of those that are 40 bytes or so.
const RECORDS: usize = 4096;
/// A chunk of the catalogue is closed at this size.
const CATALOGUE_CHUNK_BYTES: usize = 1 << 20;
/// Slots looked at under one hold of the administrative lock.
const SLOTS_PER_LOCK: u32 = 1 << 14;
/// u32 length of the run, u16 birth year, u32 cohorts, u8 doses, u8 product, u16 last dose day.
const RUN_BYTES: usize = 14;
/// u32 slot, u32 capacity with the flag in the highest bit.
const SLOT_BYTES: usize = 8;
const SLOT_OPEN: u32 = 1 << 31;
/// S1, parties, booking numbers given out, keys, catalogue entries.
const END_WORDS: usize = 5;

/// What taking a snapshot came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotReport {
    /// Every entry up to here is in it.
    pub s0: Seq,
    /// No record in it has seen a later entry.
    pub s1: Seq,
    /// Bytes of the file.
    pub bytes: u64,
    /// How long it took until it had its name, the wait for S1 included, in nanoseconds.
    pub nanos: u64,
    /// Segments of the log that were removed behind it.
    pub segments_trimmed: u64,
    /// How long removing those and older snapshots took, in nanoseconds.
    pub trim_nanos: u64,
    /// Older snapshots that could not be read, and were set aside under another name.
    pub set_aside: u64,
}

/// Why no snapshot was taken. The ones before are as they were, and serving goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// The disk, or the log it was to be read from.
    #[error("{0}")]
    Io(String),
    /// The journal stopped before it was durable up to S1.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl From<std::io::Error> for TakeError {
    fn from(error: std::io::Error) -> Self {
        TakeError::Io(error.to_string())
    }
}

impl From<TailError> for TakeError {
    fn from(error: TailError) -> Self {
        match error {
            TailError::Now(why) | TailError::Never(why) => TakeError::Io(why),
        }
    }
}

/// What the last chunk says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) s1: Seq,
    pub(crate) parties: u32,
    pub(crate) bookings_end: u64,
    pub(crate) keys: u64,
    pub(crate) catalogue: u64,
}

/// A snapshot that is written and waits for the log.
#[derive(Debug)]
#[must_use]
pub(crate) struct Taken {
    writer: SnapshotWriter,
    s0: Seq,
    pub(crate) s1: Seq,
    set_aside: u64,
    watch: Stopwatch,
}

/// Why a scan ended early.
enum ScanError {
    /// The snapshot before, which the catalogue is copied from, cannot be read.
    Before,
    Take(TakeError),
}

impl<E: Into<TakeError>> From<E> for ScanError {
    fn from(error: E) -> Self {
        ScanError::Take(error.into())
    }
}

impl Engine {
    /// Called in the turn of who takes a snapshot.
    pub(crate) fn take_snapshot(&self) -> Result<Option<SnapshotReport>, TakeError> {
        let Some(taken) = self.begin_snapshot()? else {
            // Nothing is new, but who follows the log may have let go of more of it since: on a full disk nothing new comes before that.
            if let Some(directory) = self.directory.as_ref().filter(|directory| !directory.is_left()) {
                self.trim(&*directory.storage)?;
            }
            return Ok(None);
        };
        if let Err(failure) = self.ticket(taken.s1).wait() {
            taken.writer.discard();
            return Err(failure.into());
        }
        self.publish_snapshot(taken).map(Some)
    }

    /// Scans and writes; the file has no name yet.
    pub(crate) fn begin_snapshot(&self) -> Result<Option<Taken>, TakeError> {
        let Some(directory) = self.directory.as_ref().filter(|directory| !directory.is_left()) else { return Ok(None) };
        let storage = Arc::clone(&directory.storage);
        let watch = Stopwatch::start();
        let s0 = self.marks.durable();
        let snapshots = file::list(&*storage)?;
        if s0 == snapshots.first().copied().unwrap_or_default() {
            return Ok(None);
        }
        // Who holds one of these locks has appended; once we have had it, all such up to S0 are through.
        drop(self.inventory.records.lock());
        let parties = {
            let _admin = self.inventory.blocks.lock();
            self.inventory.parties.count()
        };
        let header = SnapshotHeader { cell: self.cell(), epoch: self.epoch(), s0, newest: self.now() };
        let mut set_aside = 0;
        let mut before = snapshots.into_iter();
        loop {
            let base = before.next();
            let mut writer = SnapshotWriter::create(Arc::clone(&storage), header)?;
            match self.scan(&storage, &mut writer, base, s0, parties) {
                Ok(s1) => return Ok(Some(Taken { writer, s0, s1, set_aside, watch })),
                Err(ScanError::Take(error)) => {
                    writer.discard();
                    return Err(error);
                }
                // Made from the one before that, or from the log alone, if it reaches back so far. The bad one is out of the way: it
                // must not be counted as the older of two, nor stop every later one.
                Err(ScanError::Before) => {
                    writer.discard();
                    file::set_aside(&*storage, &file::name(base.unwrap_or_default()))?;
                    set_aside += 1;
                }
            }
        }
    }

    fn scan(
        &self,
        storage: &Arc<dyn Storage>,
        writer: &mut SnapshotWriter,
        before: Option<Seq>,
        s0: Seq,
        parties: u32,
    ) -> Result<Seq, ScanError> {
        let catalogue = self.write_catalogue(storage, writer, before, s0)?;
        self.write_parties(writer, parties)?;
        self.write_slots(writer)?;
        let bookings_end = self.write_bookings(writer)?;
        let keys = self.write_keys(writer)?;
        let s1 = self.buffer.appended();
        let totals = [s1.0, u64::from(parties), bookings_end, keys, catalogue];
        writer.chunk(ChunkKind::End, 1, &totals.map(u64::to_le_bytes).concat())?;
        writer.sync()?;
        Ok(s1)
    }

    /// Gives the file its name; the log is durable up to S1.
    pub(crate) fn publish_snapshot(&self, taken: Taken) -> Result<SnapshotReport, TakeError> {
        let Taken { writer, s0, s1, set_aside, watch } = taken;
        let storage = &self.directory.as_ref().expect("a snapshot was begun in it").storage;
        let bytes = writer.bytes();
        if self.marks.durable() < s1 {
            writer.discard();
            return Err(TakeError::Io(format!("the log is not durable up to {s1}")));
        }
        writer.publish()?;
        if let Some(shipping) = &self.shipping {
            shipping.snapshot_published(s0);
        }
        let (nanos, watch) = (watch.nanos(), Stopwatch::start());
        let segments_trimmed = self.trim(&**storage)?;
        Ok(SnapshotReport { s0, s1, bytes, nanos, segments_trimmed, trim_nanos: watch.nanos(), set_aside })
    }

    /// Gives back at most so many bytes in one step when snapshots and segments are removed. Default 4 MiB; `u64::MAX` removes each
    /// in one go, which holds up the log: for benches that compare the two.
    pub fn set_removal_step(&self, bytes: u64) {
        self.removal.set_step(bytes);
    }

    /// From now on snapshots and segments are removed in one go: somebody waits for the end of this process.
    pub fn hurry_removals(&self) {
        self.removal.hurry();
    }

    /// Removes all snapshots but the newest two and one that is on its way to Redis, and the segments that neither the two nor Redis
    /// nor anybody else who reads the log needs.
    // rule: SNP-2 the log is trimmed behind the older of two snapshots, Redis's head and every reader's cursor
    pub(crate) fn trim(&self, storage: &dyn Storage) -> Result<u64, TakeError> {
        // What an earlier one could not remove. One file that cannot go keeps no other from going.
        let swept = [file::DIR, segment::DIR].map(|dir| removal::sweep(storage, dir));
        let snapshots = file::list(storage)?;
        let on_its_way = self.shipping.as_ref().and_then(|shipping| shipping.snapshot_on_its_way());
        let on_its_way = on_its_way.filter(|s0| snapshots.contains(s0));
        let old = snapshots.iter().skip(2).filter(|s0| Some(**s0) != on_its_way);
        let gone = old.map(|s0| removal::set_aside(storage, &file::name(*s0))).collect::<Result<Vec<_>, _>>()?;
        if !gone.is_empty() {
            storage.sync_dir(file::DIR)?;
        }
        // The log first: it may be what bookings wait for. The snapshots it no longer reaches have lost their names by now.
        let trimmed = self.trim_log(storage, &snapshots, on_its_way);
        let removed = self.removal.remove_all(storage, &gone);
        let trimmed = trimmed?;
        swept.into_iter().fold(removed, Result::and)?;
        Ok(trimmed)
    }

    /// `on_its_way`: a snapshot that is kept for Redis; the log goes on behind it as it does behind the two.
    fn trim_log(&self, storage: &dyn Storage, snapshots: &[Seq], on_its_way: Option<Seq>) -> Result<u64, TakeError> {
        let planted = cfg!(berth_fault = "trim_without_snapshot");
        let Some(behind) = snapshots.get(1).copied().or_else(|| planted.then(|| self.marks.durable())) else {
            return Ok(0);
        };
        let behind = on_its_way.map_or(behind, |kept| behind.min(kept));
        let behind = if planted { self.marks.durable() } else { behind };
        let behind = self.needed_by_readers().map_or(behind, |needed| behind.min(needed));
        let mut starts = Vec::new();
        for (_, name) in reader::segments(storage).map_err(|error| TakeError::Io(error.to_string()))? {
            let Some(header) = reader::header(storage, &name)? else { break };
            starts.push((name, header));
        }
        let mut gone = Vec::new();
        // A segment goes when the one after it begins at or before the first entry that is needed. Oldest first: whatever a
        // crash leaves of this is a log without a hole.
        for pair in starts.windows(2) {
            if pair[1].1.first > behind.next() {
                break;
            }
            gone.push(removal::set_aside(storage, &pair[0].0)?);
            // Also of one that the disk does not let go: nothing waits for it, and the next trim tries again.
            self.log_bytes.fetch_sub(pair[0].1.segment_bytes, Relaxed);
        }
        if !gone.is_empty() {
            storage.sync_dir(segment::DIR)?;
        }
        self.removal.remove_all(storage, &gone)?;
        Ok(gone.len() as u64)
    }

    /// The catalogue's entries up to S0: those of the snapshot before, and those the log has since.
    fn write_catalogue(
        &self,
        storage: &Arc<dyn Storage>,
        writer: &mut SnapshotWriter,
        before: Option<Seq>,
        s0: Seq,
    ) -> Result<u64, ScanError> {
        let mut total = 0;
        let mut from = Seq(0);
        if let Some(before) = before {
            let mut not_written = None;
            let old = SnapshotReader::open(&**storage, &file::name(before), self.cell());
            let copied = old.and_then(|old| {
                old.chunks(&mut |kind, records, payload| {
                    if kind == ChunkKind::Catalogue {
                        total += u64::from(records);
                        writer.chunk(kind, records, payload).map_err(|error| {
                            not_written = Some(error);
                            String::new()
                        })?;
                    }
                    Ok(())
                })
            });
            if let Some(error) = not_written {
                return Err(error.into());
            }
            copied.map_err(|_| ScanError::Before)?;
            from = before;
        }
        let mut cursor = Cursor::before(Arc::clone(storage), from)?;
        let (mut payload, mut records) = (Vec::new(), 0u32);
        while cursor.place().0 < s0 {
            let Some(frame) = cursor.next(self.marks.durable())? else { break };
            let mut seq = frame.header.first;
            let mut rest = &frame.bytes[crate::journal::frame::FRAME_HEADER_BYTES..];
            for _ in 0..frame.header.count {
                let (entry, code) =
                    crate::journal::entry::peek(rest).map_err(|error| TakeError::Io(error.to_string()))?;
                if Event::is_catalogue(code) && seq > from && seq <= s0 {
                    payload.extend_from_slice(&seq.0.to_le_bytes());
                    payload.extend_from_slice(entry);
                    records += 1;
                    if payload.len() >= CATALOGUE_CHUNK_BYTES {
                        writer.chunk(ChunkKind::Catalogue, records, &payload)?;
                        total += u64::from(std::mem::take(&mut records));
                        payload.clear();
                    }
                }
                rest = &rest[entry.len()..];
                seq = seq.next();
            }
        }
        if records > 0 {
            writer.chunk(ChunkKind::Catalogue, records, &payload)?;
        }
        Ok(total + u64::from(records))
    }

    /// Locks every party once: all commands up to S0 are through after this.
    fn write_parties(&self, writer: &mut SnapshotWriter, count: u32) -> Result<(), TakeError> {
        let (mut payload, mut records) = (Vec::new(), 0u32);
        let mut run: Option<(PartyFacts, u32)> = None;
        let mut put = |writer: &mut SnapshotWriter, run: Option<(PartyFacts, u32)>, last: bool| {
            if let Some((facts, len)) = run {
                payload.extend_from_slice(&len.to_le_bytes());
                payload.extend_from_slice(&facts.birth_year.to_le_bytes());
                payload.extend_from_slice(&facts.cohorts.to_le_bytes());
                payload.extend_from_slice(&[facts.doses, facts.product.0]);
                payload.extend_from_slice(&facts.last_dose_day.to_le_bytes());
                records += 1;
            }
            if records > 0 && (last || payload.len() >= RECORDS * RUN_BYTES) {
                writer.chunk(ChunkKind::Parties, records, &payload)?;
                payload.clear();
                records = 0;
            }
            Ok::<(), TakeError>(())
        };
        for party in (0..count).map(PartyId) {
            let facts = self.inventory.parties.lock(party).expect("below the count").facts;
            match &mut run {
                Some((same, len)) if *same == facts => *len += 1,
                _ => put(writer, run.replace((facts, 1)), false)?,
            }
        }
        put(writer, run, true)
    }

    /// Capacity and flag of a slot change under the administrative lock, together with their entry.
    fn write_slots(&self, writer: &mut SnapshotWriter) -> Result<(), TakeError> {
        let mut from = 0;
        let end = self.inventory.blocks.lock().slots_end();
        while from < end {
            let (mut payload, mut records) = (Vec::new(), 0u32);
            {
                let _admin = self.inventory.blocks.lock();
                for slot in (from..end.min(from + SLOTS_PER_LOCK)).map(SlotId) {
                    let slots = &self.inventory.slots;
                    let Some(counts) = slots.counts(slot).filter(|_| slots.is_changed(slot)) else { continue };
                    let flag = if counts.is_open() { SLOT_OPEN } else { 0 };
                    payload.extend_from_slice(&slot.0.to_le_bytes());
                    payload.extend_from_slice(&(counts.capacity().get() | flag).to_le_bytes());
                    records += 1;
                }
            }
            if records > 0 {
                writer.chunk(ChunkKind::Slots, records, &payload)?;
            }
            from += SLOTS_PER_LOCK;
        }
        Ok(())
    }

    fn write_bookings(&self, writer: &mut SnapshotWriter) -> Result<u64, TakeError> {
        let end = self.inventory.bookings_end();
        let mut payload = Vec::with_capacity((RECORDS + 1) * 40);
        let mut from = 0;
        while from < end {
            let to = end.min(from + RECORDS as u64);
            payload.clear();
            payload.extend_from_slice(&from.to_le_bytes());
            for number in (from..to).map(BookingNumber) {
                // A number that was given out and refused after, or whose record is being written: its entry is behind S0.
                let words = self.inventory.bookings.get(number).map_or([0; 5], |cell| {
                    let _party = self.inventory.parties.lock(cell.party());
                    cell.words()
                });
                payload.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            }
            let records = u32::try_from(to - from).expect("at most RECORDS");
            writer.chunk(ChunkKind::Bookings, records, &payload)?;
            from = to;
        }
        Ok(end)
    }

    fn write_keys(&self, writer: &mut SnapshotWriter) -> Result<u64, TakeError> {
        let (mut position, mut total) = (0, 0);
        // What is done from now on is behind S0; whoever waited for the end of it might never see it.
        let last = self.inventory.keys.ever_done();
        while position < last {
            let (keys, end) = self.inventory.keys.copy_from(position);
            position = end;
            let payload: Vec<u8> = keys.iter().flat_map(|row| row.0).flat_map(u64::to_le_bytes).collect();
            let records = u32::try_from(keys.len()).expect("at most a chunk of the order");
            if records > 0 {
                writer.chunk(ChunkKind::Keys, records, &payload)?;
            }
            total += u64::from(records);
        }
        Ok(total)
    }
}
