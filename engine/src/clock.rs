//! The only place that reads a clock.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::units::TimestampMs;

/// The time of one run: an anchor plus monotonic time.
///
/// A wall clock that jumps during the run changes nothing; a wall clock that went back while the process was
/// down cannot put a new entry before an old one, because the anchor is no earlier than the newest entry.
// rule: TIM-1 within a run time is an anchor plus monotonic time; a start anchors no earlier than the newest entry
#[derive(Clone, Debug)]
pub struct Clock {
    anchor: TimestampMs,
    started: Started,
}

#[derive(Clone, Debug)]
enum Started {
    Here(Instant),
    /// By a simulator's time, when its monotonic part stood there.
    Simulated(Arc<SimulatedTime>, u64),
}

/// A time that passes only when a simulator says so.
#[derive(Debug, Default)]
pub(crate) struct SimulatedTime {
    wall_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl SimulatedTime {
    /// Lets time pass.
    pub(crate) fn pass(&self, ms: u64) {
        self.wall_ms.fetch_add(ms, Relaxed);
        self.monotonic_ms.fetch_add(ms, Relaxed);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_wall(&self, to: TimestampMs) {
        self.wall_ms.store(to.0, Relaxed);
    }

    pub(crate) fn wall(&self) -> TimestampMs {
        TimestampMs(self.wall_ms.load(Relaxed))
    }
}

impl Clock {
    /// Anchors at the wall clock, or at `newest_entry` if that is later.
    #[must_use]
    pub fn start(newest_entry: TimestampMs) -> Self {
        Self::anchored(wall_clock().max(newest_entry))
    }

    /// As [`Clock::start`], by a wall clock that is `back` behind. For rehearsals of a clock that was set back.
    pub(crate) fn start_back(newest_entry: TimestampMs, back: Duration) -> Self {
        let back = u64::try_from(back.as_millis()).unwrap_or(u64::MAX);
        Self::anchored(TimestampMs(wall_clock().0.saturating_sub(back)).max(newest_entry))
    }

    fn anchored(anchor: TimestampMs) -> Self {
        #[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
        let started = Instant::now();
        Self { anchor, started: Started::Here(started) }
    }

    /// As [`Clock::start`], by a simulator's time.
    pub(crate) fn simulated(time: Arc<SimulatedTime>, newest_entry: TimestampMs) -> Self {
        let began = time.monotonic_ms.load(Relaxed);
        Self { anchor: time.wall().max(newest_entry), started: Started::Simulated(time, began) }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> TimestampMs {
        match &self.started {
            Started::Here(started) => self.anchor.plus(started.elapsed()),
            Started::Simulated(time, began) => {
                let passed = time.monotonic_ms.load(Relaxed) - began;
                self.anchor.plus(Duration::from_millis(passed))
            }
        }
    }
}

fn wall_clock() -> TimestampMs {
    #[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    TimestampMs(0).plus(since)
}

/// Nothing happens for so long: a rehearsal's disk is slow, and nothing interrupts a slow disk either.
pub(crate) fn stand_still(how_long: Duration) {
    #[expect(clippy::disallowed_methods, reason = "this file is where time is spent, too")]
    std::thread::sleep(how_long);
}

/// Measures how long something took: for metrics and time-outs, never for a command's outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) fn nanos(self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    // rule: TIM-1
    #[test]
    fn a_start_anchors_no_earlier_than_the_newest_entry() {
        let far = wall_clock().plus(Duration::from_secs(1_000_000));
        let clock = Clock::start(far);
        assert!(clock.now() >= far);
        assert!(Clock::start(TimestampMs(0)).now() < far);
        let hour = Duration::from_secs(3_600);
        let now = Clock::start(TimestampMs(0)).now();
        assert!(Clock::start_back(TimestampMs(0), hour).now() < now, "the wall clock was set back");
        assert!(Clock::start_back(now, hour).now() >= now, "and time did not go back");
    }
}
