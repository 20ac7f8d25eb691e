//! The only place that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::units::TimestampMs;

/// The time of one run: an anchor plus monotonic time.
///
/// A wall clock that jumps during the run changes nothing; a wall clock that went back while the process was
/// down cannot put a new entry before an old one, because the anchor is no earlier than the newest entry.
// rule: TIM-1 within a run time is an anchor plus monotonic time; a start anchors no earlier than the newest entry
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: TimestampMs,
    started: Instant,
}

impl Clock {
    /// Anchors at the wall clock, or at `newest_entry` if that is later.
    #[must_use]
    pub fn start(newest_entry: TimestampMs) -> Self {
        Self::anchored(wall_clock().max(newest_entry))
    }

    fn anchored(anchor: TimestampMs) -> Self {
        #[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
        let started = Instant::now();
        Self { anchor, started }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> TimestampMs {
        self.anchor.plus(self.started.elapsed())
    }
}

fn wall_clock() -> TimestampMs {
    #[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    TimestampMs(0).plus(since)
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
    }
}
