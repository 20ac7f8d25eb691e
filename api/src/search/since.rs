//! Since when an answer tells what it tells, as `Last-Modified` says it in whole seconds.
//!
//! Apart from the answers that are kept: an address has one date, in whatever encoding it was given, and the date outlives an answer
//! that was dropped to make room. So a date that was said is never said of anything else, and of what has not changed it stays.

use std::collections::HashMap;

use berth_engine::TimestampMs;
use parking_lot::Mutex;

/// Addresses that are known; far more than the files of a nation. One more, and all are forgotten.
const KNOWN_MAX: usize = 65_536;

#[derive(Default)]
pub(crate) struct Since(Mutex<HashMap<Box<str>, Told>>);

struct Told {
    digest: u128,
    second: i64,
}

impl Since {
    /// The second since which what is found under a key has been what this digest is of; it was read at `now`.
    pub(crate) fn second(&self, key: &str, digest: u128, now: TimestampMs) -> i64 {
        let now = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
        let mut known = self.0.lock();
        if let Some(told) = known.get_mut(key) {
            if told.digest != digest {
                // Never a second that was said of something else: a client compares seconds.
                *told = Told { digest, second: now.max(told.second + 1) };
            }
            return told.second;
        }
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(key.into(), Told { digest, second: now });
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_said_of_one_thing_alone() {
        let since = Since::default();
        let at = |key: &str, digest, ms| since.second(key, digest, TimestampMs(ms));
        assert_eq!(at("a", 1, 10_100), 10);
        assert_eq!(at("a", 2, 10_900), 11, "another within the same second");
        assert_eq!(at("a", 2, 50_000), 11, "it has not changed");
        assert_eq!(at("a", 1, 50_000), 50, "what was told once is told since now");
        assert_eq!(at("b", 2, 60_000), 60);
        for n in 0..KNOWN_MAX {
            at(&n.to_string(), 1, 70_000);
        }
        assert!(since.0.lock().len() <= KNOWN_MAX);
    }
}
