//! How many may be at work: additive increase, multiplicative decrease, by the delay.
//!
//! Requests wait about as long as there are requests before them, so a limit on those at work is a bound on the delay, and
//! which limit that is, nobody has to know: it is taken down by a tenth while the delay is over the target, and up by a twentieth and one
//! while it is under the target and the limit was met. The delay is smoothed over some looks, so that one long answer, or one
//! stop of the whole process, is no overload. The idea of going by queueing delay alone is `CoDel`'s (RFC 8289); that of
//! AIMD on the number at work is TCP's, as in Netflix's concurrency limits.

use std::time::Duration;

use super::settings::{Mode, Settings};

/// How much the newest look weighs.
const WEIGHT: f64 = 0.25;
const DOWN: f64 = 0.9;
const UP: f64 = 1.05;
/// Looks between two steps: what a step has done must show in the smoothed delay before the next.
const LOOKS_PER_STEP: u32 = 4;
/// While nothing waits the limit goes up by so much, so that what was learnt of one crowd is not held against the next.
const CALM_UP: f64 = 1.1;

pub(super) struct Limit {
    limit: f64,
    delay_seconds: f64,
    strained: bool,
    looks: u32,
    /// The most that wanted to be at work since the last step.
    most: f64,
}

impl Limit {
    pub(super) fn new() -> Limit {
        Limit { limit: 0.0, delay_seconds: 0.0, strained: false, looks: 0, most: 0.0 }
    }

    /// Begins anew under other settings.
    pub(super) fn reset(&mut self, settings: &Settings) {
        *self = Limit { limit: exact(settings.limit_max), ..Limit::new() };
    }

    pub(super) fn now(&self, settings: &Settings) -> usize {
        match settings.mode {
            Mode::Off => usize::MAX,
            Mode::Fixed => settings.limit_max,
            Mode::Adaptive => whole(self.limit).clamp(settings.limit_min, settings.limit_max),
        }
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_secs_f64(self.delay_seconds)
    }

    pub(super) fn strained(&self) -> bool {
        self.strained
    }

    /// Takes a look into account: how long requests wait now, and how many wanted to be at work at once.
    pub(super) fn look(&mut self, delay: Duration, most: usize, settings: &Settings) {
        self.delay_seconds += (delay.as_secs_f64() - self.delay_seconds) * WEIGHT;
        let target = settings.target_delay.as_secs_f64();
        // Two thresholds, so that it does not go to and fro with every look.
        self.strained = self.delay_seconds > if self.strained { target / 4.0 } else { target / 2.0 };
        self.most = self.most.max(exact(most));
        self.looks += 1;
        if !self.looks.is_multiple_of(LOOKS_PER_STEP) {
            return;
        }
        let most = std::mem::take(&mut self.most);
        if self.delay_seconds > target {
            // From what there really was: a limit far above it would take long to come down.
            self.limit = self.limit.min(most.max(exact(settings.limit_min))) * DOWN;
        } else if !self.strained {
            self.limit *= CALM_UP;
        } else if most >= self.limit {
            self.limit = self.limit * UP + 1.0;
        }
        self.limit = self.limit.clamp(exact(settings.limit_min), exact(settings.limit_max));
    }
}

/// Limits are at most a million, so a float holds them exactly.
#[expect(clippy::cast_precision_loss, reason = "at most a million")]
fn exact(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within the settings' limits, which are positive"
)]
fn whole(limit: f64) -> usize {
    limit as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { limit_min: 8, limit_max: 1000, target_delay: Duration::from_millis(10), ..Settings::default() }
    }

    /// A server at which each request at work takes so long, asked by more than it can serve.
    /// Where the limit stands on average, once it has settled.
    fn settled(each: Duration) -> usize {
        let settings = settings();
        let mut limit = Limit::new();
        limit.reset(&settings);
        let mut sum = 0;
        for look in 0..2000 {
            let at_work = limit.now(&settings);
            limit.look(each * u32::try_from(at_work).unwrap(), at_work, &settings);
            sum += if look < 1000 { 0 } else { at_work };
        }
        sum / 1000
    }

    #[test]
    fn the_limit_finds_the_number_that_meets_the_target() {
        // 10 ms of 100 us each are 100, of 50 us 200.
        let (slow, fast) = (settled(Duration::from_micros(100)), settled(Duration::from_micros(50)));
        assert!((75..=120).contains(&slow) && (150..=240).contains(&fast), "{slow} {fast}");
        assert_eq!(settled(Duration::from_millis(50)), 8, "the least there is");
    }

    #[test]
    fn a_calm_server_is_not_limited_for_long() {
        let settings = settings();
        let mut limit = Limit::new();
        limit.reset(&settings);
        for _ in 0..300 {
            limit.look(Duration::from_millis(50), 300, &settings);
        }
        assert_eq!((limit.now(&settings), limit.strained()), (8, true));
        for _ in 0..400 {
            limit.look(Duration::ZERO, 1, &settings);
        }
        assert_eq!((limit.now(&settings), limit.strained()), (1000, false));
    }

    #[test]
    fn one_stop_is_no_overload() {
        let settings = settings();
        let mut limit = Limit::new();
        limit.reset(&settings);
        limit.look(Duration::from_millis(35), 4, &settings);
        assert_eq!(limit.now(&settings), 1000);
    }
}
