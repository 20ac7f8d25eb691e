//! Civil dates and times in the programme's zone, and instants.
//!
//! A session says `2026-11-24, 09:00 to 11:00` and means the clocks on the wall there, so every window is
//! resolved with the zone's rules of its own date. Where clocks go forward some times do not exist: those are
//! faults. Where they go back some exist twice: the first is meant.

mod days;

use std::sync::Arc;

use berth_engine::TimestampMs;
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};

use days::Days;

/// A time zone with the conversions that the programme needs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    days: Arc<Days>,
}

impl Calendar {
    /// A calendar of an IANA zone; `None` if there is no such zone.
    #[must_use]
    pub fn new(zone: &str) -> Option<Calendar> {
        TimeZone::get(zone).ok().map(Calendar::of)
    }

    /// Universal time, for what is read by machines in many zones.
    #[must_use]
    pub fn utc() -> Calendar {
        Calendar::of(TimeZone::UTC)
    }

    fn of(zone: TimeZone) -> Calendar {
        let days = Arc::new(Days::new(&zone));
        Calendar { zone, days }
    }

    /// The instant of a wall-clock time; `None` if the clocks skip it.
    #[must_use]
    pub fn instant(&self, date: Date, time: Time) -> Option<TimestampMs> {
        let ambiguous = self.zone.to_ambiguous_zoned_datetime(date.to_datetime(time));
        if let AmbiguousOffset::Gap { .. } = ambiguous.offset() {
            return None;
        }
        from_jiff(ambiguous.compatible().ok()?.timestamp())
    }

    /// The time on the wall at an instant.
    #[must_use]
    pub fn time(&self, at: TimestampMs) -> Time {
        to_jiff(at).to_zoned_datetime(self.zone.clone()).time()
    }

    /// The date on the wall at an instant.
    #[must_use]
    pub fn date(&self, at: TimestampMs) -> Date {
        to_jiff(at).to_zoned_datetime(self.zone.clone()).date()
    }

    /// The date on the wall at an instant as days since 1970-01-01; past what 16 bits hold, the last of those. Like all that
    /// follows here up to the year, a look into a table: fit for where claims are judged.
    ///
    /// Where the clocks go back across midnight the day that has begun goes on.
    #[must_use]
    pub fn day(&self, at: TimestampMs) -> u16 {
        self.days.day(at)
    }

    /// The first instant of such a day.
    #[must_use]
    pub fn start_of_day(&self, day: u16) -> TimestampMs {
        self.days.start(day)
    }

    /// The first instant of the day `days` before the date of `at`.
    #[must_use]
    pub fn midnight_before(&self, at: TimestampMs, days: u16) -> TimestampMs {
        self.days.start(self.days.day(at).saturating_sub(days))
    }

    /// The civil year that such a day lies in.
    #[must_use]
    pub fn year(&self, day: u16) -> u16 {
        self.days.year(day)
    }

    /// The first day of a civil year: before 1970 day 0, after 2149 none.
    #[must_use]
    pub fn first_of_year(&self, year: u16) -> Option<u16> {
        self.days.first_of_year(year)
    }

    /// The number of a date: days since 1970-01-01; `None` if 16 bits do not hold it.
    #[must_use]
    pub fn day_of(date: Date) -> Option<u16> {
        days::number(date)
    }

    /// The date of such a number.
    #[must_use]
    pub fn date_of(day: u16) -> Date {
        days::date(day)
    }

    /// RFC 3339 with the zone's offset at that instant, as `2026-11-24T09:00:00+05:30`.
    #[must_use]
    pub fn rfc3339(&self, at: TimestampMs) -> String {
        let at = to_jiff(at);
        at.display_with_offset(self.zone.to_offset(at)).to_string()
    }
}

/// Instants past year 9999 read as its end.
fn to_jiff(at: TimestampMs) -> Timestamp {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

fn from_jiff(at: Timestamp) -> Option<TimestampMs> {
    u64::try_from(at.as_millisecond()).ok().map(TimestampMs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::{date, time};

    #[test]
    fn a_window_is_an_instant_of_its_own_date() {
        let india = Calendar::new("Asia/Kolkata").unwrap();
        let at = india.instant(date(2026, 11, 24), time(9, 0, 0, 0)).unwrap();
        assert_eq!(india.rfc3339(at), "2026-11-24T09:00:00+05:30");
        assert_eq!((india.date(at), india.time(at)), (date(2026, 11, 24), time(9, 0, 0, 0)));
        let berlin = Calendar::new("Europe/Berlin").unwrap();
        let winter = berlin.instant(date(2026, 1, 5), time(9, 0, 0, 0)).unwrap();
        let summer = berlin.instant(date(2026, 7, 5), time(9, 0, 0, 0)).unwrap();
        assert_eq!(berlin.rfc3339(winter), "2026-01-05T09:00:00+01:00");
        assert_eq!(berlin.rfc3339(summer), "2026-07-05T09:00:00+02:00");
    }

    #[test]
    fn a_time_that_the_clocks_skip_is_none_and_a_double_one_is_the_first() {
        let berlin = Calendar::new("Europe/Berlin").unwrap();
        assert_eq!(berlin.instant(date(2026, 3, 29), time(2, 30, 0, 0)), None);
        let fold = berlin.instant(date(2026, 10, 25), time(2, 30, 0, 0)).unwrap();
        assert_eq!(berlin.rfc3339(fold), "2026-10-25T02:30:00+02:00");
    }

    #[test]
    fn midnight_is_the_zones_own() {
        let berlin = Calendar::new("Europe/Berlin").unwrap();
        let at = berlin.instant(date(2026, 3, 30), time(9, 0, 0, 0)).unwrap();
        // 33 hours before by the clock on the wall, but one of them was skipped.
        assert_eq!(berlin.rfc3339(berlin.midnight_before(at, 1)), "2026-03-29T00:00:00+01:00");
    }

    #[test]
    fn a_day_has_a_number_and_begins_at_its_midnight() {
        let india = Calendar::new("Asia/Kolkata").unwrap();
        let at = india.instant(date(2026, 11, 24), time(0, 0, 0, 0)).unwrap();
        assert_eq!(india.day(at), 20_781);
        assert_eq!(india.day(TimestampMs(at.0 - 1)), 20_780);
        assert_eq!(india.start_of_day(20_781), at);
        assert_eq!((india.day(TimestampMs(0)), india.day(TimestampMs(u64::MAX))), (0, u16::MAX));
    }

    #[test]
    fn milliseconds_show_only_when_there_are_some_and_no_instant_panics() {
        let india = Calendar::new("Asia/Kolkata").unwrap();
        assert_eq!(india.rfc3339(TimestampMs(1_796_000_000_123)), "2026-11-30T06:23:20.123+05:30");
        assert!(!india.rfc3339(TimestampMs(u64::MAX)).is_empty());
        assert_eq!(india.midnight_before(TimestampMs(0), 365), TimestampMs(0));
    }
}
