//! Idempotency: what each client key stands for, for a bounded window and number.

use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use crossbeam::queue::SegQueue;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as MapEntry;
use parking_lot::Mutex;

use crate::ids::{BookingNumber, Idempotency, IdempotencyKey, Seq};
use crate::units::TimestampMs;

/// Enough of an outcome to answer again: the rest never changes and is read from the booking records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remembered {
    PartiesAdded { first: u32, count: u32 },
    Published { count: u32 },
    Noted,
    Held { first: BookingNumber, len: u8 },
    Booked { first: BookingNumber, len: u8 },
    Confirmed { first: BookingNumber, len: u8 },
    Released { first: BookingNumber, len: u8 },
    Expired { first: BookingNumber, len: u8 },
    Cancelled { booking: BookingNumber },
    Moved { from: BookingNumber, to: BookingNumber },
    SlotChanged { slot: u32 },
}

#[derive(Clone, Copy, Debug)]
enum Known {
    /// The first request is inside `submit` at this instant.
    Running,
    Done {
        fingerprint: u64,
        seq: Seq,
        outcome: Remembered,
    },
}

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
        for byte in bytes {
            self.0 = (self.0.rotate_left(8) ^ u64::from(*byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn write_u128(&mut self, key: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let folded = (key as u64) ^ ((key >> 64) as u64).rotate_left(32);
        let mixed = (folded ^ (folded >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

/// All keys of a cell. No guard of the map is held while any other lock is taken.
pub(crate) struct Keys {
    known: DashMap<IdempotencyKey, Known, BuildHasherDefault<KeyHasher>>,
    /// Done keys, oldest first.
    order: SegQueue<(TimestampMs, IdempotencyKey)>,
    /// The head of `order` that was not yet due.
    oldest: Mutex<Option<(TimestampMs, IdempotencyKey)>>,
    len_max: usize,
    window: Duration,
}

impl Keys {
    /// Keeps at most about `len_max` keys, each for `window`, whichever is less.
    pub(crate) fn new(len_max: usize, window: Duration) -> Self {
        let shards = if cfg!(any(loom, shuttle)) { 2 } else { 1024 };
        Self {
            known: DashMap::with_capacity_and_hasher_and_shard_amount(0, BuildHasherDefault::default(), shards),
            order: SegQueue::new(),
            oldest: Mutex::new(None),
            len_max,
            window,
        }
    }

    /// Claims the key, or says what it stands for.
    // rule: IDM-1 one key has at most one effect
    pub(crate) fn begin(&self, idempotency: Idempotency, now: TimestampMs) -> Begun<'_> {
        match self.known.entry(idempotency.key) {
            MapEntry::Vacant(vacant) => {
                vacant.insert(Known::Running);
                Begun::Fresh(KeyClaim {
                    keys: self,
                    idempotency,
                    now,
                    done: false,
                })
            }
            MapEntry::Occupied(occupied) => match *occupied.get() {
                Known::Running => Begun::Running,
                Known::Done {
                    fingerprint,
                    seq,
                    outcome,
                } if fingerprint == idempotency.fingerprint => Begun::Done { seq, outcome },
                Known::Done { seq, .. } => Begun::Conflict { seq },
            },
        }
    }

    /// What the key stands for, if it is done.
    pub(crate) fn get(&self, key: IdempotencyKey) -> Option<(Seq, Remembered)> {
        match *self.known.get(&key)? {
            Known::Running => None,
            Known::Done { seq, outcome, .. } => Some((seq, outcome)),
        }
    }

    /// Puts a key back at replay.
    pub(crate) fn restore(&self, idempotency: Idempotency, at: TimestampMs, seq: Seq, outcome: Remembered) {
        self.known.insert(
            idempotency.key,
            Known::Done {
                fingerprint: idempotency.fingerprint,
                seq,
                outcome,
            },
        );
        self.order.push((at, idempotency.key));
        self.evict_over(self.len_max);
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Forgets what is older than the window, at most `budget` keys.
    pub(crate) fn forget_old(&self, now: TimestampMs, budget: usize) {
        for _ in 0..budget {
            let mut oldest = self.oldest.lock();
            let Some((at, key)) = oldest.take().or_else(|| self.order.pop()) else {
                return;
            };
            if at.plus(self.window) > now {
                *oldest = Some((at, key));
                return;
            }
            drop(oldest);
            self.known.remove(&key);
        }
    }

    fn evict_over(&self, len_max: usize) {
        if self.order.len() > len_max
            && let Some((_, key)) = self.order.pop()
        {
            self.known.remove(&key);
        }
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
        self.keys.known.insert(
            key,
            Known::Done {
                fingerprint,
                seq,
                outcome,
            },
        );
        self.keys.order.push((self.now, key));
        self.keys.evict_over(self.keys.len_max);
    }
}

impl Drop for KeyClaim<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.keys.known.remove(&self.idempotency.key);
        }
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    fn idempotency(key: u128) -> Idempotency {
        Idempotency {
            key: IdempotencyKey(key),
            fingerprint: 1,
        }
    }

    fn finish(keys: &Keys, key: u128, now: u64) {
        let Begun::Fresh(claim) = keys.begin(idempotency(key), TimestampMs(now)) else {
            panic!("not fresh")
        };
        claim.done(Seq(9), Remembered::Noted);
    }

    // rule: IDM-1
    #[test]
    fn a_refused_key_is_free_again_and_a_done_one_is_not() {
        let keys = Keys::new(10, Duration::from_secs(1));
        let Begun::Fresh(claim) = keys.begin(idempotency(1), TimestampMs(0)) else {
            panic!("not fresh")
        };
        assert!(matches!(keys.begin(idempotency(1), TimestampMs(0)), Begun::Running));
        drop(claim);
        finish(&keys, 1, 0);
        assert!(matches!(
            keys.begin(idempotency(1), TimestampMs(0)),
            Begun::Done { seq: Seq(9), .. }
        ));
        let other = Idempotency {
            fingerprint: 2,
            ..idempotency(1)
        };
        assert!(matches!(keys.begin(other, TimestampMs(0)), Begun::Conflict { .. }));
    }

    #[test]
    fn keys_are_kept_for_the_window_and_number_whichever_is_less() {
        let keys = Keys::new(3, Duration::from_millis(100));
        for key in 0..4 {
            finish(&keys, key, 0);
        }
        assert!(
            keys.get(IdempotencyKey(0)).is_none(),
            "the oldest gives way to the fourth"
        );
        assert!(keys.get(IdempotencyKey(1)).is_some());
        keys.forget_old(TimestampMs(99), 10);
        assert!(keys.get(IdempotencyKey(1)).is_some(), "still inside the window");
        keys.forget_old(TimestampMs(100), 10);
        assert!(keys.get(IdempotencyKey(1)).is_none() && keys.get(IdempotencyKey(3)).is_none());
        assert_eq!(keys.len(), 0);
    }
}
