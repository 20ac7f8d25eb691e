//! Append-only chunked tables: a lookup takes no lock, growth moves nothing, references stay good.

use std::sync::OnceLock;

use super::word::{Counts, SlotWord};
use crate::command::SlotFacts;
use crate::ids::{BookingNumber, Dose, PoolId, ProductId, ProgrammeId, SlotId};
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::units::{TimestampMs, Units};

/// Elements per chunk. Tiny under a model checker, where every cell is a heavy object.
const CHUNK_LEN: usize = if cfg!(any(loom, shuttle)) { 16 } else { 1 << 14 };

/// A table of `T` by dense number, grown a chunk at a time up to a fixed maximum.
#[derive(Debug)]
pub(crate) struct ChunkTable<T> {
    chunks: Box<[OnceLock<Box<[T]>>]>,
}

impl<T: Default> ChunkTable<T> {
    /// Room for at least `len_max` elements; only the directory is allocated.
    pub(crate) fn new(len_max: usize) -> Self {
        let chunks = len_max.div_ceil(CHUNK_LEN);
        Self { chunks: (0..chunks).map(|_| OnceLock::new()).collect() }
    }

    /// The element, if its chunk exists.
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK_LEN)?.get().map(|chunk| &chunk[index % CHUNK_LEN])
    }

    /// The element, its chunk made if need be; `None` past the table's maximum.
    pub(crate) fn get_or_grow(&self, index: usize) -> Option<&T> {
        let chunk = self.chunks.get(index / CHUNK_LEN)?;
        let chunk = chunk.get_or_init(|| (0..CHUNK_LEN).map(|_| T::default()).collect());
        Some(&chunk[index % CHUNK_LEN])
    }
}

/// What is fixed about a slot, packed, and written once before its word is published; and where the chain of its bookings begins.
#[derive(Debug)]
struct FactsCell {
    /// programme 16 | dose 8 | product 8 | pool 8 | changed 1 | unused 23
    attributes: AtomicU64,
    starts_at: AtomicU64,
    /// The newest hold or booking of the slot: number + 1, zero for none. The others are chained behind it.
    newest: AtomicU64,
}

impl Default for FactsCell {
    fn default() -> Self {
        Self { attributes: AtomicU64::new(0), starts_at: AtomicU64::new(0), newest: AtomicU64::new(0) }
    }
}

impl FactsCell {
    // Relaxed throughout: the release in `SlotWord::publish` orders these writes before the word is seen
    // published, and every reader has seen it published.
    fn store(&self, facts: SlotFacts) {
        let attributes = u64::from(facts.programme.0)
            | u64::from(facts.dose.0) << 16
            | u64::from(facts.product.0) << 24
            | u64::from(facts.pool.0) << 32;
        self.attributes.store(attributes, Relaxed);
        self.starts_at.store(facts.starts_at.0, Relaxed);
    }

    fn load(&self) -> SlotFacts {
        let bytes = self.attributes.load(Relaxed).to_le_bytes();
        SlotFacts {
            programme: ProgrammeId(u16::from_le_bytes([bytes[0], bytes[1]])),
            dose: Dose(bytes[2]),
            product: ProductId(bytes[3]),
            pool: PoolId(bytes[4]),
            starts_at: TimestampMs(self.starts_at.load(Relaxed)),
        }
    }
}

/// In the attributes: capacity or flag were changed since the slot was published.
const CHANGED: u64 = 1 << 40;

/// All slots of a cell by number. Words lie apart from facts, eight to a cache line, because a search
/// reads words only.
#[derive(Debug)]
pub(crate) struct SlotTable {
    words: ChunkTable<SlotWord>,
    facts: ChunkTable<FactsCell>,
}

impl SlotTable {
    pub(crate) fn new(slots_max: usize) -> Self {
        Self { words: ChunkTable::new(slots_max), facts: ChunkTable::new(slots_max) }
    }

    /// The word of a published slot.
    pub(crate) fn word(&self, slot: SlotId) -> Option<&SlotWord> {
        let word = self.words.get(slot.0 as usize)?;
        word.counts().is_some().then_some(word)
    }

    pub(crate) fn counts(&self, slot: SlotId) -> Option<Counts> {
        self.words.get(slot.0 as usize)?.counts()
    }

    pub(crate) fn facts(&self, slot: SlotId) -> Option<SlotFacts> {
        self.counts(slot)?;
        self.facts.get(slot.0 as usize).map(FactsCell::load)
    }

    /// Notes that capacity or flag is not what it was when the slot was published. Only under the engine's administrative lock.
    pub(crate) fn mark_changed(&self, slot: SlotId) {
        if let Some(cell) = self.facts.get(slot.0 as usize) {
            cell.attributes.store(cell.attributes.load(Relaxed) | CHANGED, Relaxed);
        }
    }

    /// Whether [`SlotTable::mark_changed`] was called. Only under the engine's administrative lock.
    pub(crate) fn is_changed(&self, slot: SlotId) -> bool {
        self.facts.get(slot.0 as usize).is_some_and(|cell| cell.attributes.load(Relaxed) & CHANGED != 0)
    }

    /// Makes `number`, whose record is written, the slot's newest; returns which was before. Nothing of a slot that was never made.
    pub(crate) fn push(&self, slot: SlotId, number: BookingNumber) -> Option<BookingNumber> {
        // Release: who finds the number here finds its record written. Acquire: so is that of the one before.
        let before = self.facts.get(slot.0 as usize)?.newest.swap(number.0 + 1, AcqRel);
        before.checked_sub(1).map(BookingNumber)
    }

    /// The newest hold or booking of the slot.
    pub(crate) fn newest(&self, slot: SlotId) -> Option<BookingNumber> {
        self.facts.get(slot.0 as usize)?.newest.load(Acquire).checked_sub(1).map(BookingNumber)
    }

    /// Makes the chunk of `slot`; false past the table's maximum.
    pub(crate) fn grow(&self, slot: SlotId) -> bool {
        self.words.get_or_grow(slot.0 as usize).is_some() && self.facts.get_or_grow(slot.0 as usize).is_some()
    }

    /// Puts a slot on sale; false if it was published before or lies past the table's maximum.
    pub(crate) fn publish(&self, slot: SlotId, facts: SlotFacts, capacity: Units) -> bool {
        let (Some(word), Some(cell)) =
            (self.words.get_or_grow(slot.0 as usize), self.facts.get_or_grow(slot.0 as usize))
        else {
            return false;
        };
        if word.counts().is_some() {
            return false;
        }
        cell.store(facts);
        word.publish(capacity)
    }
}
