//! Days and years of a zone as a table, so that a rule that counts days needs no calendar while it is judged.
//!
//! Between two changes of the clocks every day is as long as the next, so a few runs of days say where each midnight is. They are
//! made once, from the zone's own transitions, up to the last day that 16 bits hold (2149).

use berth_engine::TimestampMs;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

pub(super) const DAY_MS: i64 = 24 * 3600 * 1000;
const EPOCH: Date = Date::constant(1970, 1, 1);
const FIRST_YEAR: u16 = 1970;
/// The year of the last day that 16 bits hold.
const LAST_YEAR: u16 = 2149;

/// Where the midnights of a zone are.
#[derive(Debug)]
pub(super) struct Days {
    /// Ascending by day, and never descending by midnight. The first is day 0.
    runs: Box<[Run]>,
    /// The first day of each year from 1970 on.
    years: Box<[u16]>,
}

/// Days that are 24 hours each, but for the last one, which ends where the next run begins.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u16,
    /// Milliseconds since 1970-01-01T00:00Z: before it, for day 0 east of Greenwich.
    midnight_ms: i64,
}

impl Run {
    fn midnight_ms_of(self, day: u16) -> i64 {
        self.midnight_ms + i64::from(day.saturating_sub(self.first)) * DAY_MS
    }
}

impl Days {
    pub(super) fn new(zone: &TimeZone) -> Days {
        let mut near_changes = vec![0];
        for transition in zone.following(Timestamp::UNIX_EPOCH) {
            let Some(day) = number(transition.timestamp().to_zoned_datetime(zone.clone()).date()) else { break };
            // A change at midnight may lie in either day, and one across the date line skips one.
            near_changes.extend((-2..=2).filter_map(|by| day.checked_add_signed(by)));
        }
        near_changes.sort_unstable();
        let mut runs: Vec<Run> = Vec::new();
        for day in near_changes {
            let Some(midnight_ms) = midnight_ms(zone, day) else { continue };
            if runs.last().is_none_or(|run| run.midnight_ms_of(day) != midnight_ms) {
                runs.push(Run { first: day, midnight_ms });
            }
        }
        let new_year = |year: u16| number(Date::new(i16::try_from(year).ok()?, 1, 1).ok()?);
        Days { runs: runs.into(), years: (FIRST_YEAR..=LAST_YEAR).filter_map(new_year).collect() }
    }

    /// The day of an instant; of what lies outside, the first or the last.
    pub(super) fn day(&self, at: TimestampMs) -> u16 {
        let at = i64::try_from(at.0).unwrap_or(i64::MAX);
        let next = self.runs.partition_point(|run| run.midnight_ms <= at);
        let Some(run) = next.checked_sub(1).and_then(|run| self.runs.get(run)) else { return 0 };
        let day = i64::from(run.first) + at.saturating_sub(run.midnight_ms) / DAY_MS;
        // The last day before the clocks go back is longer than others.
        let last = self.runs.get(next).map_or(u16::MAX, |next| next.first.saturating_sub(1).max(run.first));
        u16::try_from(day).unwrap_or(u16::MAX).min(last)
    }

    /// The first instant of a day.
    pub(super) fn start(&self, day: u16) -> TimestampMs {
        let next = self.runs.partition_point(|run| run.first <= day);
        let run = next.checked_sub(1).and_then(|run| self.runs.get(run));
        let midnight = run.map_or(0, |run| run.midnight_ms_of(day));
        TimestampMs(u64::try_from(midnight).unwrap_or(0))
    }

    /// The civil year that a day lies in.
    pub(super) fn year(&self, day: u16) -> u16 {
        let years = u16::try_from(self.years.partition_point(|&first| first <= day)).unwrap_or(1);
        FIRST_YEAR + years.saturating_sub(1)
    }

    /// The first day of a year; before 1970 the first of all, after 2149 none.
    pub(super) fn first_of_year(&self, year: u16) -> Option<u16> {
        self.years.get(usize::from(year.saturating_sub(FIRST_YEAR))).copied()
    }
}

/// The number of a date: days since 1970-01-01. `None` if 16 bits do not hold it.
pub(super) fn number(date: Date) -> Option<u16> {
    let days = date.duration_since(EPOCH).as_hours() / 24;
    u16::try_from(days).ok()
}

/// The date of a number.
pub(super) fn date(day: u16) -> Date {
    EPOCH.saturating_add(i32::from(day).days())
}

fn midnight_ms(zone: &TimeZone, day: u16) -> Option<i64> {
    date(day).to_zoned_datetime(zone.clone()).ok().map(|midnight| midnight.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ZONES: [&str; 10] = [
        "Asia/Kolkata",
        "Europe/Paris",
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Chatham",
        "Asia/Beirut",
        "UTC",
    ];

    proptest! {
        /// The table says what jiff says, in zones whose clocks change at midnight, by half an hour, or across the date line.
        #[test]
        fn the_table_and_the_calendar_agree(zone in 0..ZONES.len(), day: u16, second in 0..86_400i64) {
            let zone = TimeZone::get(ZONES[zone]).unwrap();
            let days = Days::new(&zone);
            let midnight = midnight_ms(&zone, day).unwrap();
            prop_assert_eq!(days.start(day).0, u64::try_from(midnight).unwrap_or(0));
            let at = midnight + second * 1000;
            if let Ok(ms) = u64::try_from(at) {
                let civil = Timestamp::from_millisecond(at).unwrap().to_zoned_datetime(zone.clone()).date();
                prop_assert_eq!(days.day(TimestampMs(ms)), number(civil).unwrap_or(u16::MAX));
            }
            let year = u16::try_from(date(day).year()).unwrap();
            prop_assert_eq!(days.year(day), year);
            let first = days.first_of_year(year).unwrap();
            prop_assert!(first <= day && date(first).day_of_year() == 1 && date(first).year() == date(day).year());
        }
    }

    #[test]
    fn every_change_of_the_clocks_is_in_the_table() {
        for name in ZONES {
            let zone = TimeZone::get(name).unwrap();
            let days = Days::new(&zone);
            for day in 0..=u16::MAX {
                let midnight = u64::try_from(midnight_ms(&zone, day).unwrap()).unwrap_or(0);
                assert_eq!(days.start(day).0, midnight, "{name} {}", date(day));
            }
        }
    }

    #[test]
    fn a_day_of_25_hours_ends_after_them() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let days = Days::new(&zone);
        let long = number(Date::constant(2026, 10, 25)).unwrap();
        let (begins, ends) = (days.start(long), days.start(long + 1));
        assert_eq!(ends.0 - begins.0, 25 * 3_600_000);
        assert_eq!(days.day(TimestampMs(ends.0 - 1)), long);
        assert_eq!(days.day(ends), long + 1);
        assert_eq!((days.first_of_year(1900), days.first_of_year(2150)), (Some(0), None));
    }
}
