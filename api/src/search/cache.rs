//! Answers by query string, for as long as there is room.
//!
//! Two generations: what is asked is in the young one, or moves there when it is found in the old one. When the
//! young one has taken half of the bytes the old one is dropped and the young one grows old. So what is asked often stays, a lookup takes
//! one shared lock and changes nothing, and there is no list to keep in order. A flood of queries that nobody repeats
//! drops only itself.
//!
//! The canonical spelling and every other that was asked share one answer, whose bytes count once; each spelling's own count, too.
//! Bytes that are only still being sent are counted apart: who does not take answers must not cost others what is kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use super::answer::Answer;
use super::encoding::Encoding;

/// What an entry of the map costs beside its text.
const ENTRY_BYTES: usize = 96;
/// The largest part of the limit that one answer may take.
const LARGEST_PART: usize = 4;
/// A longer spelling is not kept: no honest one has so many bytes.
const SPELLING_BYTES_MAX: usize = 4096;

/// Answers that may be given again.
pub(crate) struct Cache {
    generations: RwLock<Generations>,
    /// Of the maps.
    bytes: Arc<AtomicUsize>,
    /// Of all answers that live, kept or sent.
    living: Arc<AtomicUsize>,
    bytes_max: usize,
    /// The bytes there were when the old generation was last dropped: what has come since is the young one's.
    bytes_of_old: AtomicUsize,
    evictions: AtomicU64,
    turning: Mutex<()>,
}

#[derive(Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

/// One map per encoding.
type Generation = [HashMap<Box<str>, Entry>; Encoding::COUNT];

struct Entry {
    answer: Arc<Answer>,
    /// The spelling's.
    charge: Charge,
}

impl Entry {
    fn new(of: &Arc<AtomicUsize>, spelling: &str, answer: &Arc<Answer>) -> Entry {
        // Relaxed: counts.
        if answer.keepers.fetch_add(1, Relaxed) == 0 {
            of.fetch_add(answer.bytes(), Relaxed);
        }
        Entry { answer: Arc::clone(answer), charge: Charge::new(of, spelling.len() + ENTRY_BYTES) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.answer.keepers.fetch_sub(1, Relaxed) == 1 {
            self.charge.of.fetch_sub(self.answer.bytes(), Relaxed);
        }
    }
}

/// Bytes that count until it is dropped.
pub(crate) struct Charge {
    of: Arc<AtomicUsize>,
    bytes: usize,
}

impl Charge {
    fn new(of: &Arc<AtomicUsize>, bytes: usize) -> Charge {
        // Relaxed: a count, nothing is published by it.
        of.fetch_add(bytes, Relaxed);
        Charge { of: Arc::clone(of), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Relaxed);
    }
}

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Cache {
        Cache {
            generations: RwLock::default(),
            bytes: Arc::default(),
            living: Arc::default(),
            bytes_max,
            bytes_of_old: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            turning: Mutex::new(()),
        }
    }

    /// Counts an answer's bytes for as long as it lives, kept or not.
    pub(crate) fn charge(&self, bytes: usize) -> Charge {
        Charge::new(&self.living, bytes)
    }

    /// Bytes of answers that are not kept and not yet taken.
    pub(crate) fn sent_bytes(&self) -> usize {
        self.living.load(Relaxed).saturating_sub(self.bytes.load(Relaxed))
    }

    /// An answer for a request that came at `arrived`.
    pub(crate) fn fresh(&self, encoding: Encoding, query: &str, arrived: Instant) -> Option<Arc<Answer>> {
        let generations = self.generations.read();
        if let Some(entry) = generations.young[encoding as usize].get(query) {
            return entry.answer.is_fresh(arrived).then(|| Arc::clone(&entry.answer));
        }
        let entry = generations.old[encoding as usize].get(query)?;
        let answer = entry.answer.is_fresh(arrived).then(|| Arc::clone(&entry.answer))?;
        drop(generations);
        self.insert(encoding, query, &answer);
        Some(answer)
    }

    /// The answer that was last made, however old.
    pub(crate) fn any(&self, encoding: Encoding, query: &str) -> Option<Arc<Answer>> {
        let generations = self.generations.read();
        let young = generations.young[encoding as usize].get(query);
        let entry = young.or_else(|| generations.old[encoding as usize].get(query))?;
        Some(Arc::clone(&entry.answer))
    }

    /// Bytes of the largest answer that is kept.
    pub(crate) fn largest_kept(&self) -> usize {
        self.bytes_max / LARGEST_PART
    }

    /// Keeps an answer under a spelling of its query.
    pub(crate) fn insert(&self, encoding: Encoding, query: &str, answer: &Arc<Answer>) {
        if answer.bytes() > self.largest_kept() || query.len() > SPELLING_BYTES_MAX {
            return;
        }
        let entry = Entry::new(&self.bytes, query, answer);
        let replaced = {
            let mut generations = self.generations.write();
            generations.young[encoding as usize].insert(query.into(), entry)
        };
        // Freeing is nothing to do under a lock.
        drop(replaced);
        let half_more = self.bytes_of_old.load(Relaxed) + self.bytes_max / 2;
        if self.bytes.load(Relaxed) > half_more.min(self.bytes_max) {
            self.make_room();
        }
    }

    /// Drops the old generation, and then the young one if it must be.
    #[cold]
    fn make_room(&self) {
        // Two at once would drop twice as much as they need.
        let Some(_turn) = self.turning.try_lock() else { return };
        for _ in 0..2 {
            let gone = {
                let mut generations = self.generations.write();
                let young = std::mem::take(&mut generations.young);
                std::mem::replace(&mut generations.old, young)
            };
            self.evictions.fetch_add(gone.iter().map(|map| map.len() as u64).sum(), Relaxed);
            drop(gone);
            let bytes = self.bytes.load(Relaxed);
            self.bytes_of_old.store(bytes, Relaxed);
            if bytes <= self.bytes_max {
                return;
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use Encoding::{Gzip, Zstd};

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(1000)
    }

    #[test]
    fn an_answer_is_found_in_its_encoding_until_it_is_too_old() {
        let cache = Cache::new(1 << 20);
        let fresh_until = later();
        let answer = Answer::for_test(&cache, 2000, fresh_until);
        cache.insert(Gzip, "district=1", &answer);
        cache.insert(Gzip, "district=1&days=7", &answer);
        let before = fresh_until.checked_sub(Duration::from_nanos(1)).unwrap();
        for spelling in ["district=1", "district=1&days=7"] {
            assert!(cache.fresh(Gzip, spelling, before).is_some_and(|found| Arc::ptr_eq(&found, &answer)));
            assert!(cache.fresh(Gzip, spelling, fresh_until).is_none(), "it is as old as it may be");
            assert!(cache.any(Gzip, spelling).is_some());
        }
        assert!(cache.fresh(Zstd, "district=1", before).is_none());
        assert!(cache.fresh(Gzip, "district=2", before).is_none());
    }

    #[test]
    fn what_is_asked_stays_and_the_bytes_are_bounded() {
        let cache = Cache::new(100_000);
        let now = Instant::now();
        for n in 0..500 {
            cache.insert(Zstd, &format!("district={n}"), &Answer::for_test(&cache, 2000, later()));
            cache.insert(Zstd, &format!("district={n}&days=7"), &cache.any(Zstd, &format!("district={n}")).unwrap());
            assert!(cache.bytes() <= 100_000, "{}", cache.bytes());
            assert!(cache.fresh(Zstd, "district=0", now).is_some(), "it is asked for all the time");
        }
        assert!(cache.any(Zstd, "district=300").is_none());
        assert!(cache.evictions() > 800, "{}", cache.evictions());
        drop(cache.generations.write().young.iter_mut().map(HashMap::drain).collect::<Vec<_>>());
        drop(std::mem::take(&mut cache.generations.write().old));
        assert_eq!(cache.bytes(), 0, "every byte that was counted in is counted out");
    }

    #[test]
    fn a_flood_of_spellings_of_one_query_is_bounded_too() {
        let cache = Cache::new(100_000);
        let answer = Answer::for_test(&cache, 2000, later());
        for n in 0..5000 {
            cache.insert(Zstd, &format!("district=1&days=7&%{n:04}"), &answer);
            assert!(cache.bytes() <= 100_000, "{}", cache.bytes());
        }
        cache.insert(Zstd, &"x".repeat(SPELLING_BYTES_MAX + 1), &answer);
        assert!(cache.any(Zstd, &"x".repeat(SPELLING_BYTES_MAX + 1)).is_none());
        let before = cache.bytes();
        let sent: Vec<_> = (0..100).map(|_| Answer::for_test(&cache, 20_000, later())).collect();
        assert_eq!(cache.bytes(), before, "what is only sent takes no room from what is kept");
        assert!(cache.sent_bytes() > 1_900_000);
        drop(sent);
        let large = Answer::for_test(&cache, 26_000, later());
        cache.insert(Zstd, "large", &large);
        assert!(cache.any(Zstd, "large").is_none(), "one answer takes no more than its part");
    }
}
