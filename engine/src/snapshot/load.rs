//! A snapshot at a start: checked whole before anything is loaded from it, then loaded; both in all threads there are.
//!
//! The chunks' places are read from their headers alone. A chunk is then checked wherever it lies, the one before it named by its
//! place, so that the first damaged one, in the order of the file, is what a reader from front to back would have found.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

use super::{END_WORDS, RUN_BYTES, SLOT_BYTES, SLOT_OPEN, Totals};
use crate::clock::Stopwatch;
use crate::command::PartyFacts;
use crate::dedupe::{KEY_WORDS, KeyRow, Sorter};
use crate::ids::{BookingNumber, ProductId, Seq, SlotId};
use crate::inventory::Inventory;
use crate::journal::snapshot::{ChunkKind, ChunkPlace, RawChunk, SnapshotError, SnapshotReader};
use crate::progress::{Progress, Stage};
use crate::readahead::KEYS_AT_ONCE;
use crate::units::Units;

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|index| u64::from_le_bytes(words[index]))
}

/// Who is told how far it is.
type OnProgress<'a> = dyn FnMut(Progress) + 'a;

/// Chunks that several threads take in turn, and the first of them, in the order of the file, that is wrong.
struct Shared<'a> {
    reader: &'a SnapshotReader,
    places: &'a [ChunkPlace],
    next: AtomicUsize,
    wrong: Mutex<Option<(usize, SnapshotError)>>,
}

impl<'a> Shared<'a> {
    fn new(reader: &'a SnapshotReader, places: &'a [ChunkPlace]) -> Self {
        Self { reader, places, next: AtomicUsize::new(0), wrong: Mutex::new(None) }
    }

    /// Takes chunks until none is left or one is wrong: `each` sees those that were found right, in no order over the threads.
    fn work(&self, each: &mut dyn FnMut(&RawChunk, &ChunkPlace) -> Result<(), String>) {
        let mut buffer = Vec::new();
        loop {
            let index = self.next.fetch_add(1, Relaxed);
            let Some(place) = self.places.get(index) else { return };
            match read(self.reader, place, std::mem::take(&mut buffer), each) {
                Ok(bytes) => buffer = bytes,
                Err(error) => {
                    let mut wrong = self.wrong.lock();
                    if wrong.as_ref().is_none_or(|(first, _)| index < *first) {
                        *wrong = Some((index, error));
                    }
                    // What lies before this one was taken already.
                    self.next.fetch_max(self.places.len(), Relaxed);
                    return;
                }
            }
        }
    }

    fn done(self) -> Result<(), SnapshotError> {
        self.wrong.into_inner().map_or(Ok(()), |(_, error)| Err(error))
    }
}

fn read(
    reader: &SnapshotReader,
    place: &ChunkPlace,
    buffer: Vec<u8>,
    each: &mut dyn FnMut(&RawChunk, &ChunkPlace) -> Result<(), String>,
) -> Result<Vec<u8>, SnapshotError> {
    let chunk = reader.chunk(&mut place.clone(), buffer)?;
    each(&chunk, place).map_err(|what| SnapshotError::Damaged { offset: place.offset(), what })?;
    Ok(chunk.bytes)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Checks every chunk's checksum and shape, and reads the last.
pub(crate) fn check(reader: &SnapshotReader) -> Result<Totals, SnapshotError> {
    check_watched(reader, &mut |_| {})
}

/// As [`check`], with progress.
pub(crate) fn check_watched(
    reader: &SnapshotReader,
    on_progress: &mut OnProgress<'_>,
) -> Result<Totals, SnapshotError> {
    let watch = Stopwatch::start();
    let (places, ended) = reader.places()?;
    let shared = Shared::new(reader, &places);
    let totals = Mutex::new(None);
    let check = |chunk: &RawChunk| {
        if let Some(found) = check_chunk(chunk.kind, chunk.records(), chunk.payload())? {
            *totals.lock() = Some(found);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 1..threads().min(places.len()) {
            scope.spawn(|| shared.work(&mut |chunk, _| check(chunk)));
        }
        shared.work(&mut |chunk, place| {
            let (bytes, bytes_max) = (place.offset(), reader.bytes());
            on_progress(Progress { stage: Stage::CheckSnapshot, entries: 0, bytes, bytes_max, nanos: watch.nanos() });
            check(chunk)
        });
    });
    shared.done()?;
    ended.map_or(Ok(()), Err)?;
    totals.into_inner().ok_or(SnapshotError::Damaged { offset: 0, what: "no last chunk".to_owned() })
}

/// The totals, if it is the last.
fn check_chunk(kind: ChunkKind, records: u32, payload: &[u8]) -> Result<Option<Totals>, String> {
    let records = records as usize;
    let expected = match kind {
        ChunkKind::Catalogue => None,
        ChunkKind::Parties => Some(records * RUN_BYTES),
        ChunkKind::Slots => Some(records * SLOT_BYTES),
        ChunkKind::Bookings => Some(8 + records * 40),
        ChunkKind::Keys => Some(records * KEY_WORDS * 8),
        ChunkKind::End => Some(END_WORDS * 8),
    };
    if expected.is_some_and(|expected| expected != payload.len()) {
        return Err(format!("{} bytes do not hold {records} records", payload.len()));
    }
    if kind != ChunkKind::End {
        return Ok(None);
    }
    let [s1, parties, bookings_end, keys, catalogue] = words(payload);
    let parties = u32::try_from(parties).map_err(|_| "more parties than there are numbers")?;
    Ok(Some(Totals { s1: Seq(s1), parties, bookings_end, keys, catalogue }))
}

/// What loading hands out that is not the inventory's own.
pub(crate) type EachCatalogueEntry<'a> = dyn FnMut(Seq, &crate::journal::Entry) -> Result<(), String> + 'a;

/// Puts a checked snapshot's records into empty tables, but for words and claims, which are counted after the log was
/// replayed up to S1. Entries of the catalogue go to `each`, which publishes their slots.
///
/// Catalogue, parties and slots go in the order of the file in this thread, keys in theirs; bookings in any.
pub(crate) fn load(
    reader: &SnapshotReader,
    totals: &Totals,
    inventory: &Inventory,
    each: &mut EachCatalogueEntry<'_>,
    on_progress: &mut OnProgress<'_>,
) -> Result<(), SnapshotError> {
    let watch = Stopwatch::start();
    if totals.parties > inventory.parties.len_max() || totals.bookings_end > inventory.bookings.len_max() {
        let what = format!("{} parties and {} bookings are over the limits", totals.parties, totals.bookings_end);
        return Err(SnapshotError::Damaged { offset: 0, what });
    }
    let (places, _) = reader.places()?;
    let of = |kinds: &[ChunkKind]| -> Vec<ChunkPlace> {
        places.iter().filter(|place| place.kind().is_some_and(|kind| kinds.contains(&kind))).copied().collect()
    };
    let (bookings, keys) = (of(&[ChunkKind::Bookings]), of(&[ChunkKind::Keys]));
    let bookings = Shared::new(reader, &bookings);
    let load_bookings = |chunk: &RawChunk| load_bookings(inventory, chunk.payload());
    let mut progress = |place: &ChunkPlace| {
        let (bytes, bytes_max) = (place.offset(), reader.bytes());
        on_progress(Progress { stage: Stage::LoadSnapshot, entries: 0, bytes, bytes_max, nanos: watch.nanos() });
    };
    let (rest, keys) = std::thread::scope(|scope| {
        let keys = scope.spawn(|| load_keys(reader, &keys, totals.keys, inventory));
        for _ in 1..threads() {
            scope.spawn(|| bookings.work(&mut |chunk, _| load_bookings(chunk)));
        }
        let rest = load_rest(
            reader,
            &of(&[ChunkKind::Catalogue, ChunkKind::Parties, ChunkKind::Slots]),
            &mut |chunk, place| {
                progress(place);
                match chunk.kind {
                    ChunkKind::Catalogue => load_catalogue(chunk, each),
                    ChunkKind::Parties => load_parties(inventory, chunk.payload()).map(|()| 0),
                    _ => load_slots(inventory, chunk.payload()).map(|()| 0),
                }
            },
        );
        bookings.work(&mut |chunk, place| {
            progress(place);
            load_bookings(chunk)
        });
        (rest, keys.join().expect("loading keys does not panic"))
    });
    let (catalogue, keys) = (rest?, keys?);
    bookings.done()?;
    if inventory.parties.count() != totals.parties || keys != totals.keys || catalogue != totals.catalogue {
        let what = "fewer records than the last chunk says".to_owned();
        return Err(SnapshotError::Damaged { offset: 0, what });
    }
    inventory.next_booking.store(totals.bookings_end, crate::sync::atomic::Ordering::Relaxed);
    Ok(())
}

/// Entries of the catalogue among these chunks.
fn load_rest(
    reader: &SnapshotReader,
    places: &[ChunkPlace],
    each: &mut dyn FnMut(&RawChunk, &ChunkPlace) -> Result<u64, String>,
) -> Result<u64, SnapshotError> {
    let (mut buffer, mut entries) = (Vec::new(), 0);
    for place in places {
        buffer = read(reader, place, buffer, &mut |chunk, place| each(chunk, place).map(|n| entries += n))?;
    }
    Ok(entries)
}

fn load_catalogue(chunk: &RawChunk, each: &mut EachCatalogueEntry<'_>) -> Result<u64, String> {
    let mut rest = chunk.payload();
    for _ in 0..chunk.records() {
        let seq: &[u8; 8] = rest.first_chunk().ok_or("an entry is cut short")?;
        let seq = Seq(u64::from_le_bytes(*seq));
        let (entry, len) = crate::journal::Entry::decode(&rest[8..]).map_err(|error| error.to_string())?;
        each(seq, &entry)?;
        rest = &rest[8 + len..];
    }
    if rest.is_empty() { Ok(u64::from(chunk.records())) } else { Err("bytes behind the last entry".to_owned()) }
}

fn load_keys(
    reader: &SnapshotReader,
    places: &[ChunkPlace],
    keys: u64,
    inventory: &Inventory,
) -> Result<u64, SnapshotError> {
    inventory.keys.reserve(keys);
    let (mut buffer, mut rows, mut total) = (Vec::new(), Vec::new(), 0);
    let mut sorter = Sorter::default();
    for place in places {
        buffer = read(reader, place, buffer, &mut |chunk, place| {
            rows.extend(chunk.payload().as_chunks::<{ KEY_WORDS * 8 }>().0.iter().map(|row| KeyRow(words(row))));
            total += u64::from(chunk.records());
            let last = places.last().is_some_and(|last| last.offset() == place.offset());
            if rows.len() >= KEYS_AT_ONCE || last {
                if !inventory.keys.restore(&rows, Seq(0), &mut sorter) {
                    return Err("a key without an outcome".to_owned());
                }
                rows.clear();
            }
            Ok(())
        })?;
    }
    Ok(total)
}

fn load_parties(inventory: &Inventory, payload: &[u8]) -> Result<(), String> {
    let (runs, _) = payload.as_chunks::<RUN_BYTES>();
    for run in runs {
        let u32_at = |at: usize| u32::from_le_bytes([run[at], run[at + 1], run[at + 2], run[at + 3]]);
        let u16_at = |at: usize| u16::from_le_bytes([run[at], run[at + 1]]);
        let len = u32_at(0);
        let facts = PartyFacts {
            birth_year: u16_at(4),
            cohorts: u32_at(6),
            doses: run[10],
            product: ProductId(run[11]),
            last_dose_day: u16_at(12),
        };
        if len > inventory.parties.len_max() - inventory.parties.count() {
            return Err("more parties than the limit".to_owned());
        }
        // Their own sequence comes with their bookings; before it they rest on nothing that could be lost.
        inventory.parties.add(len, facts, Seq(0));
    }
    Ok(())
}

fn load_slots(inventory: &Inventory, payload: &[u8]) -> Result<(), String> {
    let (rows, _) = payload.as_chunks::<SLOT_BYTES>();
    for row in rows {
        let slot = SlotId(u32::from_le_bytes([row[0], row[1], row[2], row[3]]));
        let state = u32::from_le_bytes([row[4], row[5], row[6], row[7]]);
        let capacity = Units::new(state & !SLOT_OPEN).ok_or_else(|| format!("slot {slot}: capacity out of range"))?;
        // One published after S0 comes with the log, and so does its change.
        let Some(word) = inventory.slots.word(slot) else { continue };
        let _ = word.resize(capacity);
        let _ = if state & SLOT_OPEN != 0 { word.open() } else { word.close() };
        inventory.slots.mark_changed(slot);
    }
    Ok(())
}

fn load_bookings(inventory: &Inventory, payload: &[u8]) -> Result<(), String> {
    let (first, rows) = payload.split_first_chunk::<8>().ok_or("no first number")?;
    let first = u64::from_le_bytes(*first);
    let (rows, _) = rows.as_chunks::<40>();
    let numbers = first..first.checked_add(rows.len() as u64).ok_or("a booking number past the end")?;
    for (number, row) in numbers.map(BookingNumber).zip(rows) {
        let words: [u64; 5] = words(row);
        if words[0] == 0 {
            continue;
        }
        let cell = inventory.bookings.blank(number).ok_or_else(|| format!("booking {number} is over the limit"))?;
        cell.restore(words);
        if cell.view(number).is_none() {
            return Err(format!("booking {number} has no state"));
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::{CellId, Epoch};
    use crate::journal::snapshot::{self as file, SnapshotHeader, SnapshotWriter};
    use crate::journal::storage::Storage;
    use crate::testing::disk::MemoryDisk;
    use crate::units::TimestampMs;

    const S0: Seq = Seq(7);

    fn written(chunks: u64) -> Arc<dyn Storage> {
        let disk: Arc<dyn Storage> = Arc::new(MemoryDisk::new(0));
        let header = SnapshotHeader { cell: CellId(1), epoch: Epoch(1), s0: S0, newest: TimestampMs(1) };
        let mut writer = SnapshotWriter::create(Arc::clone(&disk), header).unwrap();
        for number in 0..chunks {
            let mut payload = (number * 3).to_le_bytes().to_vec();
            payload.resize(8 + 3 * 40, 5);
            writer.chunk(ChunkKind::Bookings, 3, &payload).unwrap();
        }
        let totals = [S0.0, 0, chunks * 3, 0, 0];
        writer.chunk(ChunkKind::End, 1, &totals.map(u64::to_le_bytes).concat()).unwrap();
        writer.sync().unwrap();
        writer.publish().unwrap();
        disk
    }

    proptest! {
        /// However many threads look: what is named is what a reader from front to back would have stopped at.
        // rule: SNP-1
        #[test]
        fn the_first_damaged_chunk_is_named_whoever_finds_it(
            flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..=255), 0..4), cut in prop::option::of(0usize..2000),
        ) {
            let disk = written(40);
            let name = file::name(S0);
            let mut bytes = disk.read(&name).unwrap();
            for (at, flip) in flips {
                // The header is looked at by whoever opens the file.
                let at = 64 + at.index(bytes.len() - 64);
                bytes[at] ^= flip;
            }
            bytes.truncate(bytes.len() - cut.unwrap_or(0));
            disk.write_whole(&name, &bytes).unwrap();
            let reader = SnapshotReader::open(&*disk, &name, CellId(1)).unwrap();
            let mut totals = None;
            let from_the_front = reader.chunks(&mut |kind, records, payload| {
                totals = totals.or(check_chunk(kind, records, payload)?);
                Ok(())
            });
            let expected = from_the_front.map(|()| totals.unwrap());
            prop_assert_eq!(check(&reader), expected);
        }
    }
}
