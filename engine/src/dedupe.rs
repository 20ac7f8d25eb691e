//! Idempotency: what each client key stands for, for a bounded window and number.

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::Duration;

use dashmap::mapref::entry::Entry as MapEntry;
use dashmap::{DashMap, SharedValue};
use parking_lot::Mutex;

use crate::booking::State;
use crate::command::Places;
use crate::ids::{BookingNumber, Idempotency, IdempotencyKey, Seq};
use crate::units::TimestampMs;

/// Enough of an outcome to answer again: the rest never changes and is read from the booking records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remembered {
    PartiesAdded {
        first: u32,
        count: u32,
    },
    Published {
        count: u32,
    },
    Noted,
    Held {
        first: BookingNumber,
        len: u8,
    },
    Booked {
        first: BookingNumber,
        len: u8,
    },
    Confirmed {
        first: BookingNumber,
        len: u8,
    },
    Released {
        first: BookingNumber,
        len: u8,
    },
    Expired {
        first: BookingNumber,
        len: u8,
    },
    Cancelled {
        booking: BookingNumber,
    },
    /// Its successor is the record's link.
    Moved {
        from: BookingNumber,
    },
    SlotChanged {
        slot: u32,
    },
    /// Two or more bookings of one group.
    GroupCancelled {
        hold: BookingNumber,
        places: Places,
    },
    /// Checked in, completed or no-show.
    Stepped {
        booking: BookingNumber,
        to: State,
    },
    WalkedIn {
        number: BookingNumber,
    },
    FactsChanged {
        party: u32,
    },
    Recorded,
}

/// A key's record in 24 bytes: with its key 40, of which a cell may keep 32 million.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// kind 4 bits | sequence number 60 bits. Kind 0: the first request is inside `submit` at this instant.
    kind_seq: u64,
    fingerprint: u64,
    /// By kind: booking number 56 bits | group length or state 8, booking number 40 bits | places 16, or two 32-bit numbers.
    detail: u64,
}

const KIND_SHIFT: u32 = 60;
const LEN_SHIFT: u32 = 56;
const PLACES_SHIFT: u32 = 40;

impl Known {
    const RUNNING: Known = Known { kind_seq: 0, fingerprint: 0, detail: 0 };

    fn done(fingerprint: u64, seq: Seq, outcome: Remembered) -> Self {
        let group = |first: BookingNumber, len: u8| first.0 | u64::from(len) << LEN_SHIFT;
        let (kind, detail) = match outcome {
            Remembered::PartiesAdded { first, count } => (1, u64::from(first) | u64::from(count) << 32),
            Remembered::Published { count } => (2, u64::from(count)),
            Remembered::Noted => (3, 0),
            Remembered::Held { first, len } => (4, group(first, len)),
            Remembered::Booked { first, len } => (5, group(first, len)),
            Remembered::Confirmed { first, len } => (6, group(first, len)),
            Remembered::Released { first, len } => (7, group(first, len)),
            Remembered::Expired { first, len } => (8, group(first, len)),
            Remembered::Cancelled { booking } => (9, booking.0),
            Remembered::Moved { from } => (10, from.0),
            Remembered::SlotChanged { slot } => (11, u64::from(slot)),
            Remembered::GroupCancelled { hold, places } => (12, hold.0 | u64::from(places.bits()) << PLACES_SHIFT),
            Remembered::Stepped { booking, to } => (13, group(booking, to as u8)),
            Remembered::WalkedIn { number } => (14, number.0),
            Remembered::Recorded => (15, 0),
            Remembered::FactsChanged { party } => (15, group(BookingNumber(u64::from(party)), 1)),
        };
        Self { kind_seq: kind << KIND_SHIFT | seq.0, fingerprint, detail }
    }

    /// `None` while the first request is running.
    fn outcome(self) -> Option<(Seq, Remembered)> {
        let first = BookingNumber(self.detail & ((1 << LEN_SHIFT) - 1));
        let len = self.detail.to_le_bytes()[7];
        #[expect(clippy::cast_possible_truncation, reason = "the low half of a pair")]
        let (low, high) = (self.detail as u32, (self.detail >> 32) as u32);
        let outcome = match self.kind_seq >> KIND_SHIFT {
            1 => Remembered::PartiesAdded { first: low, count: high },
            2 => Remembered::Published { count: low },
            3 => Remembered::Noted,
            4 => Remembered::Held { first, len },
            5 => Remembered::Booked { first, len },
            6 => Remembered::Confirmed { first, len },
            7 => Remembered::Released { first, len },
            8 => Remembered::Expired { first, len },
            9 => Remembered::Cancelled { booking: first },
            10 => Remembered::Moved { from: first },
            11 => Remembered::SlotChanged { slot: low },
            12 => {
                let [_, _, _, _, _, places @ .., _] = self.detail.to_le_bytes();
                let hold = BookingNumber(self.detail & ((1 << PLACES_SHIFT) - 1));
                Remembered::GroupCancelled { hold, places: Places::new(u16::from_le_bytes(places))? }
            }
            13 => Remembered::Stepped { booking: first, to: State::from_code(len)? },
            14 => Remembered::WalkedIn { number: first },
            // The last kind there is room for: a byte says which.
            15 if len == 0 => Remembered::Recorded,
            15 if len == 1 => Remembered::FactsChanged { party: low },
            _ => return None,
        };
        Some((self.seq(), outcome))
    }

    /// The entry of the outcome; 0 while the first request is running.
    fn seq(self) -> Seq {
        Seq(self.kind_seq & ((1 << KIND_SHIFT) - 1))
    }
}

/// A key without its sixteen-byte alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MapKey([u64; 2]);

impl Hash for MapKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
        state.write_u64(self.0[1]);
    }
}

impl From<IdempotencyKey> for MapKey {
    fn from(key: IdempotencyKey) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "both halves are kept")]
        Self([key.0 as u64, (key.0 >> 64) as u64])
    }
}

/// Room made ahead, 42 MB untouched until used: the map grows by doubling, and a shard that grows stalls its callers.
const PRESIZED_KEYS: usize = 1 << 20;

/// What a key turned out to be.
pub(crate) enum Begun<'a> {
    /// New, and now claimed by the caller.
    Fresh(KeyClaim<'a>),
    /// Done before, by the same request.
    Done {
        seq: Seq,
        outcome: Remembered,
    },
    /// Done before, by another request. The answer rests on that entry.
    Conflict {
        seq: Seq,
    },
    Running,
}

/// Keys are hashes already where they come from a client, but an embedder may count them up.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, half: u64) {
        let mixed = (self.0.rotate_left(32) ^ half).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

/// A done key in the order of doing. It names its entry, because the same key may be done again after it was
/// forgotten, and the older line must then not take the younger outcome with it.
#[derive(Clone, Copy, Debug)]
struct Kept {
    at: TimestampMs,
    key: MapKey,
    seq: Seq,
}

/// Done keys per chunk of the order.
const ORDER_CHUNK: usize = 4096;

/// Done keys, oldest first, in chunks that never move: a queue of 32 million must not be copied when it grows.
#[derive(Debug, Default)]
struct Order {
    chunks: VecDeque<Vec<Kept>>,
    /// Keys of the first chunk that were taken.
    taken: usize,
    /// Keys ever taken.
    popped: u64,
    len: usize,
}

impl Order {
    fn push(&mut self, kept: Kept) {
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < ORDER_CHUNK => chunk.push(kept),
            _ => {
                let mut chunk = Vec::with_capacity(ORDER_CHUNK);
                chunk.push(kept);
                self.chunks.push_back(chunk);
            }
        }
        self.len += 1;
    }

    fn first(&self) -> Option<Kept> {
        self.chunks.front()?.get(self.taken).copied()
    }

    fn pop(&mut self) -> Option<Kept> {
        let kept = self.first()?;
        self.taken += 1;
        self.popped += 1;
        self.len -= 1;
        if self.taken == ORDER_CHUNK {
            self.chunks.pop_front();
            self.taken = 0;
        }
        Some(kept)
    }

    /// Up to a chunk of keys from the `position`-th ever pushed on, and the position behind them.
    fn copy_from(&self, position: u64) -> (Vec<Kept>, u64) {
        let skip = usize::try_from(position.saturating_sub(self.popped)).unwrap_or(usize::MAX);
        let at = self.taken.saturating_add(skip);
        let copied = match self.chunks.get(at / ORDER_CHUNK) {
            Some(chunk) => chunk.get(at % ORDER_CHUNK..).unwrap_or_default().to_vec(),
            None => Vec::new(),
        };
        let end = position.max(self.popped) + copied.len() as u64;
        (copied, end)
    }
}

/// Words of a key in a snapshot.
pub(crate) const KEY_WORDS: usize = 6;

/// A done key as a snapshot keeps it and replay collects it: key, time, outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRow(pub(crate) [u64; KEY_WORDS]);

impl KeyRow {
    /// What an entry says of its key.
    pub(crate) fn new(idempotency: Idempotency, at: TimestampMs, seq: Seq, outcome: Remembered) -> Self {
        let kept = Kept { at, key: idempotency.key.into(), seq };
        Self::of(kept, Known::done(idempotency.fingerprint, seq, outcome))
    }

    fn of(kept: Kept, known: Known) -> Self {
        let [low, high] = kept.key.0;
        Self([low, high, kept.at.0, known.kind_seq, known.fingerprint, known.detail])
    }

    fn key(&self) -> MapKey {
        MapKey([self.0[0], self.0[1]])
    }

    fn known(&self) -> Known {
        Known { kind_seq: self.0[3], fingerprint: self.0[4], detail: self.0[5] }
    }

    fn kept(&self) -> Kept {
        Kept { at: TimestampMs(self.0[2]), key: self.key(), seq: self.known().seq() }
    }
}

type Map = DashMap<MapKey, Known, BuildHasherDefault<KeyHasher>>;

/// A row with the hash of its key.
#[derive(Clone, Copy, Debug)]
struct Sorted {
    hash: u64,
    row: KeyRow,
}

/// Room to sort keys by the shard of the map that they fall in, used again and again.
#[derive(Debug, Default)]
pub(crate) struct Sorter {
    hashes: Vec<(usize, u64)>,
    sorted: Vec<Sorted>,
    /// Where the keys of each shard end.
    ends: Vec<usize>,
}

impl Sorter {
    /// A counting sort: within a shard the rows stay in order.
    fn sort(&mut self, map: &Map, rows: &[KeyRow]) {
        self.hashes.clear();
        self.hashes.extend(rows.iter().map(|row| {
            let hash = map.hash_usize(&row.key());
            (map.determine_shard(hash), hash as u64)
        }));
        self.ends.clear();
        self.ends.resize(map.shards().len() + 1, 0);
        self.hashes.iter().for_each(|(shard, _)| self.ends[shard + 1] += 1);
        for shard in 1..self.ends.len() {
            self.ends[shard] += self.ends[shard - 1];
        }
        self.sorted.resize(rows.len(), Sorted { hash: 0, row: KeyRow([0; KEY_WORDS]) });
        for (row, (shard, hash)) in rows.iter().zip(&self.hashes) {
            self.sorted[self.ends[*shard]] = Sorted { hash: *hash, row: *row };
            self.ends[*shard] += 1;
        }
    }

    /// Each shard that has keys, with them.
    fn by_shard<'a, S>(&'a self, shards: &'a [S]) -> impl Iterator<Item = (&'a S, &'a [Sorted])> {
        let mut from = 0;
        let parts = shards.iter().zip(&self.ends).map(move |(shard, end)| {
            let keys = &self.sorted[from..*end];
            from = *end;
            (shard, keys)
        });
        parts.filter(|(_, keys)| !keys.is_empty())
    }
}

/// All keys of a cell. No guard of the map is held while any other lock is taken.
pub(crate) struct Keys {
    known: Map,
    /// Never locked while a guard of `known` is held, nor the other way round.
    order: Mutex<Order>,
    len_max: usize,
    window: Duration,
}

impl Keys {
    /// Keeps at most about `len_max` keys, each for `window`, whichever is less.
    pub(crate) fn new(len_max: usize, window: Duration) -> Self {
        let (shards, capacity) = if cfg!(any(loom, shuttle)) { (2, 0) } else { (1024, len_max.min(PRESIZED_KEYS)) };
        Self {
            known: DashMap::with_capacity_and_hasher_and_shard_amount(capacity, BuildHasherDefault::default(), shards),
            order: Mutex::new(Order::default()),
            len_max,
            window,
        }
    }

    /// Claims the key, or says what it stands for.
    // rule: IDM-1 one key has at most one effect
    pub(crate) fn begin(&self, idempotency: Idempotency, now: TimestampMs) -> Begun<'_> {
        match self.known.entry(idempotency.key.into()) {
            MapEntry::Vacant(vacant) => {
                vacant.insert(Known::RUNNING);
                Begun::Fresh(KeyClaim { keys: self, idempotency, now, done: false })
            }
            MapEntry::Occupied(occupied) => match (occupied.get().outcome(), occupied.get().fingerprint) {
                (None, _) => Begun::Running,
                (Some((seq, outcome)), same) if same == idempotency.fingerprint => Begun::Done { seq, outcome },
                (Some((seq, _)), _) => Begun::Conflict { seq },
            },
        }
    }

    /// What the key stands for: `None` if nothing, the inner `None` while the first request is running.
    pub(crate) fn get(&self, key: IdempotencyKey) -> Option<Option<(Seq, Remembered)>> {
        self.known.get(&key.into()).map(|known| known.outcome())
    }

    /// The fingerprint of the request that had the key's effect.
    pub(crate) fn fingerprint(&self, key: IdempotencyKey) -> Option<u64> {
        let known = *self.known.get(&key.into())?;
        known.outcome().map(|_| known.fingerprint)
    }

    /// Puts keys back in the order of their doing, shard by shard: each shard is locked once for all keys of `rows` that fall in
    /// it, and their cache misses overlap. A key whose entry is at or before `seen` may have come with a snapshot already, and
    /// is then left as it is. False if a row is no outcome: nothing is put back then.
    pub(crate) fn restore(&self, rows: &[KeyRow], seen: Seq, sorter: &mut Sorter) -> bool {
        if rows.iter().any(|row| row.known().outcome().is_none()) {
            return false;
        }
        sorter.sort(&self.known, rows);
        // Entries whose keys came with the snapshot already; there are none behind it.
        let mut had = Vec::new();
        for (shard, keys) in sorter.by_shard(self.known.shards()) {
            let mut table = shard.write();
            for &Sorted { hash, row } in keys {
                let (key, known) = (row.key(), row.known());
                if let Some((_, old)) = table.get_mut(hash, |(other, _)| *other == key) {
                    if known.seq() <= seen && old.get().seq() == known.seq() {
                        had.push(known.seq());
                    }
                    *old.get_mut() = known;
                } else {
                    table.insert(hash, (key, SharedValue::new(known)), |(key, _)| self.hash(*key));
                }
            }
        }
        had.sort_unstable();
        let mut too_many = Vec::new();
        let mut order = self.order.lock();
        for row in rows.iter().filter(|row| had.binary_search(&row.known().seq()).is_err()) {
            order.push(row.kept());
            if order.len > self.len_max {
                too_many.extend(order.pop());
            }
        }
        drop(order);
        too_many.into_iter().for_each(|kept| self.forget(kept));
        true
    }

    /// Makes room for so many keys more, or for as many as are ever kept: no shard has to grow while they come.
    pub(crate) fn reserve(&self, keys: u64) {
        let keys = usize::try_from(keys).unwrap_or(usize::MAX).min(self.len_max);
        let shards = self.known.shards();
        // A shard may get a few more than the mean.
        let share = keys / shards.len() + keys / shards.len() / 16;
        for shard in shards {
            shard.write().reserve(share, |(key, _)| self.hash(*key));
        }
    }

    fn hash(&self, key: MapKey) -> u64 {
        self.known.hash_usize(&key) as u64
    }

    /// Done keys as a snapshot keeps them, from the `position`-th ever done on, and the position behind them.
    pub(crate) fn copy_from(&self, position: u64) -> (Vec<KeyRow>, u64) {
        let (copied, end) = self.order.lock().copy_from(position);
        let rows = copied.iter().filter_map(|kept| {
            let known = *self.known.get(&kept.key)?;
            (known.seq() == kept.seq).then_some(KeyRow::of(*kept, known))
        });
        (rows.collect(), end)
    }

    /// Keys ever done: the position behind the newest.
    pub(crate) fn ever_done(&self) -> u64 {
        let order = self.order.lock();
        order.popped + order.len as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.order.lock().len
    }

    /// Forgets what is older than the window, at most `budget` keys.
    pub(crate) fn forget_old(&self, now: TimestampMs, budget: usize) {
        for _ in 0..budget {
            let mut order = self.order.lock();
            if order.first().is_none_or(|kept| kept.at.plus(self.window) > now) {
                return;
            }
            let Some(kept) = order.pop() else { return };
            drop(order);
            self.forget(kept);
        }
    }

    /// Puts a done key in order, and forgets the oldest if it is one too many.
    fn keep(&self, kept: Kept) {
        let mut order = self.order.lock();
        order.push(kept);
        let oldest = if order.len > self.len_max { order.pop() } else { None };
        drop(order);
        if let Some(oldest) = oldest {
            self.forget(oldest);
        }
    }

    fn forget(&self, kept: Kept) {
        self.known.remove_if(&kept.key, |_, known| known.outcome().is_some_and(|(seq, _)| seq == kept.seq));
    }
}

/// A key being executed. Dropped without [`KeyClaim::done`] (a refusal, or a panic) it is free again.
#[must_use]
pub(crate) struct KeyClaim<'a> {
    keys: &'a Keys,
    idempotency: Idempotency,
    now: TimestampMs,
    done: bool,
}

impl KeyClaim<'_> {
    /// Keeps the outcome under the key.
    pub(crate) fn done(mut self, seq: Seq, outcome: Remembered) {
        let Idempotency { key, fingerprint } = self.idempotency;
        self.done = true;
        self.keys.known.insert(key.into(), Known::done(fingerprint, seq, outcome));
        self.keys.keep(Kept { at: self.now, key: key.into(), seq });
    }
}

impl Drop for KeyClaim<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.keys.known.remove(&self.idempotency.key.into());
        }
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests;
