//! The timer wheel: which holds to look at when.
//!
//! A hold is put in once and never taken out early: a confirmed or released one is skipped when its time
//! comes. The wheel decides nothing; the expiry itself is a command like any other, judged under the party's lock.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

use crate::ids::BookingNumber;
use crate::units::TimestampMs;

/// Milliseconds per bucket: how late, at most, an expiry is noticed beyond the caller's own ticking.
const TICK_MS: u64 = 64;
/// Buckets: one turn is a little over 17 minutes; a later deadline waits in its bucket for its turn.
const BUCKETS: usize = 1 << 14;

#[derive(Clone, Copy, Debug)]
struct Timer {
    deadline: TimestampMs,
    hold: BookingNumber,
}

/// Deadlines of all live holds.
#[derive(Debug)]
pub(crate) struct Wheel {
    buckets: Box<[Mutex<Vec<Timer>>]>,
    /// Every bucket up to this tick is being or was emptied: a timer that comes later goes to `due`.
    swept: AtomicU64,
    /// Due and not yet handed out. Also the lock of the one sweeper.
    due: Mutex<Vec<BookingNumber>>,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        let buckets = if cfg!(any(loom, shuttle)) { 4 } else { BUCKETS };
        Self {
            buckets: (0..buckets).map(|_| Mutex::new(Vec::new())).collect(),
            swept: AtomicU64::new(0),
            due: Mutex::new(Vec::new()),
        }
    }

    /// Will hand `hold` out once, at or a little after `deadline`.
    pub(crate) fn add(&self, hold: BookingNumber, deadline: TimestampMs) {
        // The bucket after the deadline's own tick: when the hand is past it, the deadline has passed.
        let tick = deadline.0 / TICK_MS + 1;
        let mut bucket = self.bucket(tick).lock();
        // Relaxed: the sweeper stores `swept` before it locks a bucket, so if it emptied this one already, the
        // bucket's lock shows us the store; if it did not, it will find the timer.
        if tick > self.swept.load(Relaxed) {
            bucket.push(Timer { deadline, hold });
        } else {
            drop(bucket);
            self.due.lock().push(hold);
        }
    }

    /// Up to `budget` holds whose deadline has passed. The rest come at the next call: a million deadlines
    /// in one second are handed out in portions, so that bookings go on between them.
    // rule: HLD-3 an expiry is noticed at most a tick and a sweep after the deadline
    pub(crate) fn due(&self, now: TimestampMs, budget: usize) -> Vec<BookingNumber> {
        let mut due = self.due.lock();
        let tick = now.0 / TICK_MS;
        let swept = self.swept.load(Relaxed);
        // The current tick stays open: a timer may yet be added to it, so it is swept again next time.
        self.swept.store(swept.max(tick.saturating_sub(1)), Relaxed);
        // One turn sweeps every bucket, however long the caller stayed away.
        let from = (swept + 1).max(tick.saturating_sub(self.buckets.len() as u64 - 1));
        for tick in from..=tick {
            let mut bucket = self.bucket(tick).lock();
            due.extend(bucket.extract_if(.., |timer| timer.deadline <= now).map(|timer| timer.hold));
        }
        let keep = due.len().saturating_sub(budget);
        due.split_off(keep)
    }

    /// Takes out every hold with a deadline in `from..until`, with its deadline. Before anything was due.
    pub(crate) fn take_between(&self, from: TimestampMs, until: TimestampMs) -> Vec<(BookingNumber, TimestampMs)> {
        let within = |timer: &mut Timer| from <= timer.deadline && timer.deadline < until;
        let mut taken = Vec::new();
        for bucket in &self.buckets {
            taken.extend(bucket.lock().extract_if(.., within).map(|timer| (timer.hold, timer.deadline)));
        }
        taken
    }

    /// Puts back what could not be expired now.
    pub(crate) fn retry(&self, hold: BookingNumber) {
        self.due.lock().push(hold);
    }

    #[expect(clippy::cast_possible_truncation, reason = "a remainder of the bucket count fits")]
    fn bucket(&self, tick: u64) -> &Mutex<Vec<Timer>> {
        &self.buckets[(tick % self.buckets.len() as u64) as usize]
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_budget_spreads_many_deadlines_over_calls() {
        let wheel = Wheel::new();
        for n in 0..10 {
            wheel.add(BookingNumber(n), TimestampMs(1000));
        }
        assert_eq!(wheel.due(TimestampMs(999), 100), []);
        assert_eq!(wheel.due(TimestampMs(2000), 4).len(), 4);
        assert_eq!(wheel.due(TimestampMs(2000), 100).len(), 6);
        assert_eq!(wheel.due(TimestampMs(9000), 100), []);
    }

    proptest! {
        /// Every hold comes out once, not before its deadline and at the first sweep a tick or more after it.
        // rule: HLD-3
        #[test]
        fn every_hold_comes_out_once_and_in_time(
            adds in prop::collection::vec((0u64..3_000_000, 0u64..3_000_000), 1..60),
            sweeps in prop::collection::vec(0u64..4_000_000, 1..20),
        ) {
            let wheel = Wheel::new();
            let mut events: BTreeMap<u64, (Vec<(u64, u64)>, bool)> = BTreeMap::new();
            for (n, (at, ttl)) in adds.iter().enumerate() {
                events.entry(*at).or_default().0.push((n as u64, at + ttl));
            }
            for at in &sweeps {
                events.entry(*at).or_default().1 = true;
            }
            events.entry(10_000_000).or_default().1 = true;
            let mut live: BTreeMap<u64, u64> = BTreeMap::new();
            for (now, (added, sweep)) in events {
                for (n, deadline) in added {
                    wheel.add(BookingNumber(n), TimestampMs(deadline));
                    live.insert(n, deadline);
                }
                if sweep {
                    for hold in wheel.due(TimestampMs(now), usize::MAX) {
                        let deadline = live.remove(&hold.0);
                        prop_assert!(deadline.is_some_and(|d| d <= now), "hold {hold} at {now}: {deadline:?}");
                    }
                    prop_assert!(live.values().all(|d| d + 2 * TICK_MS > now), "late at {now}: {live:?}");
                }
            }
            prop_assert!(live.is_empty());
        }
    }
}
