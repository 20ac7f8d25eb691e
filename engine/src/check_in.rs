//! The four digits that whoever comes to a centre says, and how often a wrong code may be tried.
//!
//! A code follows from the booking's number and the code key ([`crate::code`]) and is never stored. Ten thousand codes are few: so wrong
//! ones are counted by booking, in memory; a restart begins anew. What is kept is bounded: when it is full, the oldest
//! is let go, and to bring that about takes as many wrong codes of other bookings.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::Engine;
use crate::ids::BookingNumber;
use crate::units::TimestampMs;

/// Wrong codes for one booking within an hour, after which even the right one is refused.
pub const WRONG_CODES_MAX: u8 = 5;
const HOUR: Duration = Duration::from_secs(3600);
/// Bookings whose wrong codes are remembered: 4 MB or so.
const KEPT_MAX: usize = 1 << 16;

/// What came of a code that somebody said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum CodeTry {
    /// It is the booking's.
    Right,
    /// It is not.
    Wrong {
        /// How many more may be wrong.
        tries_left: u8,
    },
    /// Too many were wrong. This one was not looked at.
    Locked {
        /// From when one may be tried again.
        until: TimestampMs,
    },
}

#[derive(Clone, Copy, Debug)]
struct Wrong {
    count: u8,
    /// An hour from the first.
    until: TimestampMs,
}

/// Wrong codes of the last hour.
#[derive(Debug, Default)]
pub(crate) struct CodeTries {
    wrong: Mutex<WrongCodes>,
}

#[derive(Debug, Default)]
struct WrongCodes {
    by_booking: HashMap<BookingNumber, Wrong>,
    /// In the order of their first.
    order: VecDeque<BookingNumber>,
}

impl CodeTries {
    fn judge(&self, booking: BookingNumber, is_right: bool, now: TimestampMs) -> CodeTry {
        let WrongCodes { by_booking, order } = &mut *self.wrong.lock();
        // Whoever is over, and the oldest where there is no room for one more.
        while let Some(first) = order.front() {
            let is_over = by_booking.get(first).is_none_or(|wrong| wrong.until <= now);
            if !is_over && order.len() < KEPT_MAX {
                break;
            }
            by_booking.remove(first);
            order.pop_front();
        }
        if let Some(wrong) = by_booking.get_mut(&booking) {
            if wrong.count >= WRONG_CODES_MAX {
                return CodeTry::Locked { until: wrong.until };
            }
            if !is_right {
                wrong.count += 1;
                return CodeTry::Wrong { tries_left: WRONG_CODES_MAX - wrong.count };
            }
        } else if !is_right {
            by_booking.insert(booking, Wrong { count: 1, until: now.plus(HOUR) });
            order.push_back(booking);
            return CodeTry::Wrong { tries_left: WRONG_CODES_MAX - 1 };
        }
        CodeTry::Right
    }
}

impl Engine {
    /// The four digits of a booking, 0 to 9999, for whoever may see the booking.
    #[must_use]
    pub fn check_in_code(&self, booking: BookingNumber) -> u16 {
        self.codes().check_in(booking)
    }

    /// Looks at a code that somebody said for a booking. Wrong ones are counted; after [`WRONG_CODES_MAX`] within an hour none is looked
    /// at until that hour is over.
    pub fn try_check_in_code(&self, booking: BookingNumber, code: u16, now: TimestampMs) -> CodeTry {
        self.code_tries.judge(booking, self.check_in_code(booking) == code, now)
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    const NOW: TimestampMs = TimestampMs(1_000_000);

    fn later(seconds: u64) -> TimestampMs {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn after_five_wrong_codes_the_right_one_is_refused_for_the_rest_of_the_hour() {
        let (tries, one, other) = (CodeTries::default(), BookingNumber(7), BookingNumber(8));
        assert_eq!(tries.judge(one, true, NOW), CodeTry::Right);
        for second in 0..5u8 {
            let told = tries.judge(one, false, later(second.into()));
            assert_eq!(told, CodeTry::Wrong { tries_left: 4 - second });
            assert_eq!(tries.judge(other, true, NOW), CodeTry::Right, "another booking is not meant");
        }
        let locked = CodeTry::Locked { until: later(3600) };
        assert_eq!((tries.judge(one, true, later(3599)), tries.judge(one, false, later(3599))), (locked, locked));
        assert_eq!(tries.judge(one, true, later(3600)), CodeTry::Right);
        assert_eq!(tries.judge(one, false, later(3600)), CodeTry::Wrong { tries_left: 4 });
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let tries = CodeTries::default();
        let wrong = |number| tries.judge(BookingNumber(number), false, NOW);
        for _ in 0..4 {
            let _ = wrong(0);
        }
        for number in 1..KEPT_MAX as u64 - 1 {
            let _ = wrong(number);
        }
        assert_eq!(wrong(0), CodeTry::Wrong { tries_left: 0 }, "there was room for all");
        let _ = wrong(1 << 30);
        let _ = wrong((1 << 30) + 1);
        {
            let kept = tries.wrong.lock();
            assert_eq!(kept.order.len(), kept.by_booking.len());
            assert!(kept.order.len() <= KEPT_MAX);
        }
        assert_eq!(wrong(0), CodeTry::Wrong { tries_left: 4 }, "its turn to be let go came");
    }
}
