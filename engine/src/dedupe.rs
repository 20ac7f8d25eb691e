//! Idempotency: what each client key stands for, for a bounded window and number.

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as MapEntry;
use parking_lot::Mutex;

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
}

/// A key's record in 24 bytes: with its key 40, of which a cell may keep 32 million.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// kind 4 bits | sequence number 60 bits. Kind 0: the first request is inside `submit` at this instant.
    kind_seq: u64,
    fingerprint: u64,
    /// By kind: booking number 56 bits | group length 8, or two 32-bit numbers.
    detail: u64,
}

const KIND_SHIFT: u32 = 60;
const LEN_SHIFT: u32 = 56;

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
            _ => return None,
        };
        Some((Seq(self.kind_seq & ((1 << KIND_SHIFT) - 1)), outcome))
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

/// All keys of a cell. No guard of the map is held while any other lock is taken.
pub(crate) struct Keys {
    known: DashMap<MapKey, Known, BuildHasherDefault<KeyHasher>>,
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

    /// Puts a key back at replay.
    pub(crate) fn restore(&self, idempotency: Idempotency, at: TimestampMs, seq: Seq, outcome: Remembered) {
        let key = idempotency.key.into();
        self.known.insert(key, Known::done(idempotency.fingerprint, seq, outcome));
        self.keep(Kept { at, key, seq });
    }

    /// As [`Keys::restore`], unless the key came from a snapshot that had seen the entry.
    pub(crate) fn restore_once(&self, idempotency: Idempotency, at: TimestampMs, seq: Seq, outcome: Remembered) {
        let known = self.known.get(&idempotency.key.into()).and_then(|known| known.outcome());
        if known.is_none_or(|(known, _)| known != seq) {
            self.restore(idempotency, at, seq, outcome);
        }
    }

    /// Done keys as a snapshot keeps them, from the `position`-th ever done on, and the position behind them.
    pub(crate) fn copy_from(&self, position: u64) -> (Vec<[u64; KEY_WORDS]>, u64) {
        let (copied, end) = self.order.lock().copy_from(position);
        let words = copied.iter().filter_map(|kept| {
            let known = *self.known.get(&kept.key)?;
            let same = known.outcome().is_some_and(|(seq, _)| seq == kept.seq);
            same.then_some([kept.key.0[0], kept.key.0[1], kept.at.0, known.kind_seq, known.fingerprint, known.detail])
        });
        (words.collect(), end)
    }

    /// Keys ever done: the position behind the newest.
    pub(crate) fn ever_done(&self) -> u64 {
        let order = self.order.lock();
        order.popped + order.len as u64
    }

    /// Puts a key back as a snapshot kept it; false if it is no outcome.
    pub(crate) fn restore_words(&self, words: [u64; KEY_WORDS]) -> bool {
        let [low, high, at, kind_seq, fingerprint, detail] = words;
        let known = Known { kind_seq, fingerprint, detail };
        let Some((seq, _)) = known.outcome() else { return false };
        let key = MapKey([low, high]);
        self.known.insert(key, known);
        self.keep(Kept { at: TimestampMs(at), key, seq });
        true
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
mod tests {
    use super::*;

    fn idempotency(key: u128) -> Idempotency {
        Idempotency { key: IdempotencyKey(key), fingerprint: 1 }
    }

    fn finish(keys: &Keys, key: u128, now: u64) {
        let Begun::Fresh(claim) = keys.begin(idempotency(key), TimestampMs(now)) else { panic!("not fresh") };
        claim.done(Seq(9), Remembered::Noted);
    }

    #[test]
    fn every_outcome_is_remembered_whole() {
        let first = BookingNumber((1 << 56) - 1);
        for outcome in [
            Remembered::PartiesAdded { first: u32::MAX, count: 1 },
            Remembered::Published { count: u32::MAX },
            Remembered::Noted,
            Remembered::Held { first, len: 16 },
            Remembered::Booked { first, len: 1 },
            Remembered::Confirmed { first, len: 255 },
            Remembered::Released { first, len: 2 },
            Remembered::Expired { first, len: 3 },
            Remembered::Cancelled { booking: first },
            Remembered::Moved { from: first },
            Remembered::SlotChanged { slot: u32::MAX },
        ] {
            let seq = Seq((1 << 60) - 1);
            assert_eq!(Known::done(7, seq, outcome).outcome(), Some((seq, outcome)));
        }
        assert!(Known::RUNNING.outcome().is_none());
        assert_eq!(size_of::<(MapKey, Known)>(), 40);
    }

    // rule: IDM-1
    #[test]
    fn a_refused_key_is_free_again_and_a_done_one_is_not() {
        let keys = Keys::new(10, Duration::from_secs(1));
        let Begun::Fresh(claim) = keys.begin(idempotency(1), TimestampMs(0)) else { panic!("not fresh") };
        assert!(matches!(keys.begin(idempotency(1), TimestampMs(0)), Begun::Running));
        drop(claim);
        finish(&keys, 1, 0);
        assert!(matches!(keys.begin(idempotency(1), TimestampMs(0)), Begun::Done { seq: Seq(9), .. }));
        let other = Idempotency { fingerprint: 2, ..idempotency(1) };
        assert!(matches!(keys.begin(other, TimestampMs(0)), Begun::Conflict { .. }));
    }

    /// Done, forgotten, done again, and read back from a journal with both: the old line forgets nothing new.
    // rule: IDM-1
    #[test]
    fn a_key_done_again_after_its_window_is_kept_for_its_second_window() {
        let keys = Keys::new(10, Duration::from_millis(100));
        keys.restore(idempotency(1), TimestampMs(0), Seq(1), Remembered::Noted);
        keys.restore(idempotency(1), TimestampMs(150), Seq(2), Remembered::Noted);
        keys.forget_old(TimestampMs(160), 10);
        assert!(matches!(keys.begin(idempotency(1), TimestampMs(160)), Begun::Done { seq: Seq(2), .. }));
        keys.forget_old(TimestampMs(250), 10);
        assert!(keys.get(IdempotencyKey(1)).is_none());
    }

    #[test]
    fn keys_are_kept_for_the_window_and_number_whichever_is_less() {
        let keys = Keys::new(3, Duration::from_millis(100));
        for key in 0..4 {
            finish(&keys, key, 0);
        }
        assert!(keys.get(IdempotencyKey(0)).is_none(), "the oldest gives way to the fourth");
        assert!(keys.get(IdempotencyKey(1)).is_some());
        keys.forget_old(TimestampMs(99), 10);
        assert!(keys.get(IdempotencyKey(1)).is_some(), "still inside the window");
        keys.forget_old(TimestampMs(100), 10);
        assert!(keys.get(IdempotencyKey(1)).is_none() && keys.get(IdempotencyKey(3)).is_none());
        assert_eq!(keys.len(), 0);
    }
}
