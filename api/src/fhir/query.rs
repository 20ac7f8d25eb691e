//! The parameters of a FHIR search. An unknown one is a fault, and not passed over: who asked for less must not be shown more.

use std::fmt::Write as _;

use berth_engine::TimestampMs;
use berth_programme::Calendar;
use jiff::civil::{Date, DateTime};
use jiff::{Timestamp, ToSpan};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::problem::{Code, Problem};

/// By which a party is named.
pub(super) const PATIENT: [&str; 2] = ["patient", "patient.identifier"];
/// The system of parties.
pub(super) const PARTY: &str = "urn:berth:party";
/// Parameters of one search.
const PARAMETERS_MAX: usize = 24;
/// Values of one parameter.
const VALUES_MAX: usize = 50;
/// Entries of a page, where the search does not say.
const COUNT_DEFAULT: usize = 100;
const COUNT_MAX: usize = 1000;
/// What needs no escaping in a query string.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b':').remove(b'/').remove(b',').remove(b'~');

/// A query string, read.
#[derive(Debug)]
pub(super) struct Params {
    given: Vec<(String, String)>,
    wrong: Vec<String>,
    pub(super) count: usize,
    /// Where an earlier page ended.
    pub(super) after: Option<String>,
}

impl Params {
    /// Reads it; `known` are the names that this search takes beside those that every search does.
    pub(super) fn read(query: Option<&str>, known: &[&str]) -> Params {
        let mut params = Params { given: Vec::new(), wrong: Vec::new(), count: COUNT_DEFAULT, after: None };
        let (mut counted, mut paged) = (false, false);
        let all = form_urlencoded::parse(query.unwrap_or("").as_bytes());
        for (place, (name, value)) in all.enumerate() {
            if place == PARAMETERS_MAX {
                params.wrong.push(format!("there are more than {PARAMETERS_MAX} parameters"));
                break;
            }
            let mut twice = |seen: &mut bool| {
                if std::mem::replace(seen, true) {
                    params.wrong.push(format!("{name}: stands twice"));
                }
            };
            match &*name {
                "_format" => {}
                "_count" => {
                    twice(&mut counted);
                    match value.parse().ok().filter(|count| *count <= COUNT_MAX) {
                        Some(count) => params.count = count,
                        None => params.wrong.push(format!("_count: must be from 0 to {COUNT_MAX}")),
                    }
                }
                "_after" => {
                    twice(&mut paged);
                    params.after = Some(value.into_owned());
                }
                known_name if known.contains(&known_name) => {
                    if value.is_empty() {
                        params.wrong.push(format!("{known_name}: is empty"));
                    }
                    params.given.push((name.into_owned(), value.into_owned()));
                }
                other => {
                    let shown: String = other.chars().take(80).collect();
                    params.wrong.push(format!("{shown:?} is not a parameter of this search"));
                }
            }
        }
        // One search has one spelling.
        params.given.sort();
        params.given.dedup();
        params
    }

    /// What is wrong with it, all of it.
    pub(super) fn fault(&mut self, fault: impl Into<String>) {
        self.wrong.push(fault.into());
    }

    /// Whether anything was.
    pub(super) fn checked(&self) -> Result<(), Problem> {
        if self.wrong.is_empty() { Ok(()) } else { Err(Problem::new(Code::MalformedRequest, self.wrong.join("; "))) }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| given == name)
    }

    /// The values of a parameter that may stand once, with commas between them.
    pub(super) fn list(&mut self, name: &str) -> Vec<String> {
        let mut values = self.given.iter().filter(|(given, _)| given == name).map(|(_, value)| value);
        let (value, more) = (values.next(), values.next().is_some());
        let mut list: Vec<String> = value.into_iter().flat_map(|value| value.split(',')).map(str::to_owned).collect();
        if more {
            self.wrong.push(format!("{name}: stands twice, give several values with commas"));
        }
        if list.len() > VALUES_MAX || list.iter().any(String::is_empty) {
            self.wrong.push(format!("{name}: must have 1 to {VALUES_MAX} values, none of them empty"));
        }
        list.truncate(VALUES_MAX);
        list
    }

    /// The only value of a parameter.
    pub(super) fn one(&mut self, name: &str) -> Option<String> {
        let mut values = self.given.iter().filter(|(given, _)| given == name).map(|(_, value)| value.clone());
        let (value, more) = (values.next(), values.next().is_some());
        if more {
            self.wrong.push(format!("{name}: stands twice"));
        }
        value
    }

    /// Ids that may stand as references: `Location/c1`, the whole address, or the id alone.
    pub(super) fn references(&mut self, name: &str, kind: &str) -> Vec<String> {
        let list = self.list(name);
        let bare = |text: &String| match text.rsplit_once('/') {
            None => Some(text.clone()),
            Some((before, id)) => before.rsplit('/').next().is_some_and(|k| k == kind).then(|| id.to_owned()),
        };
        let ids: Vec<_> = list.iter().filter_map(bare).collect();
        if ids.len() < list.len() {
            self.wrong.push(format!("{name}: must be an id, or a reference as {kind}/id"));
        }
        ids
    }

    /// Identifiers of one system of ours: `urn:berth:centre|c1`, `|` before none, or the value alone.
    pub(super) fn identifiers(&mut self, name: &str, system: &str) -> Vec<String> {
        let of_system = |text: String| match text.split_once('|') {
            Some((said, value)) => (said == system).then(|| value.to_owned()),
            None => Some(text),
        };
        // Of another system nothing is here.
        self.list(name).into_iter().filter_map(of_system).collect()
    }

    /// The span of time that all values of a parameter leave.
    pub(super) fn span(&mut self, name: &str, calendar: &Calendar) -> Span {
        let values: Vec<_> =
            self.given.iter().filter(|(given, _)| given == name).map(|(_, value)| value.clone()).collect();
        let mut span = Span::default();
        for value in values {
            if let Err(why) = span.narrow(&value, calendar) {
                self.wrong.push(format!("{name}: {why}"));
            }
        }
        span
    }

    /// The one spelling of what was asked, for this page.
    pub(super) fn spelled(&self) -> String {
        self.after(self.after.as_deref())
    }

    /// The same for the page behind this.
    pub(super) fn after(&self, after: Option<&str>) -> String {
        let mut text = String::new();
        let mut say = |name: &str, value: &str| {
            let between = if text.is_empty() { "" } else { "&" };
            // Writing to a String cannot fail.
            let _ = write!(text, "{between}{name}={}", utf8_percent_encode(value, PLAIN));
        };
        for (name, value) in &self.given {
            say(name, value);
        }
        if self.count != COUNT_DEFAULT {
            say("_count", &self.count.to_string());
        }
        if let Some(after) = after {
            say("_after", after);
        }
        text
    }

    /// The number behind which the page begins; such a page is asked for only with what an earlier one gave.
    pub(super) fn after_number<N: std::str::FromStr + ToString>(&mut self) -> Option<N> {
        let text = self.after.clone()?;
        let number = text.parse::<N>().ok().filter(|number| number.to_string() == text);
        if number.is_none() {
            self.wrong.push("_after: is none that an answer gave".to_owned());
        }
        number
    }
}

/// A party as a search names it: by reference or by identifier.
pub(super) fn party(text: &str) -> &str {
    let text = text.rsplit_once("Patient/").map_or(text, |(_, id)| id);
    text.strip_prefix(PARTY).and_then(|rest| rest.strip_prefix('|')).unwrap_or(text)
}

/// From an instant on, and before another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Option<TimestampMs>,
    pub(super) until: Option<TimestampMs>,
}

impl Span {
    /// Whether an instant lies in it.
    pub(super) fn has(&self, at: TimestampMs) -> bool {
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until)
    }

    /// The first date that may have an instant of it, and the first behind it that has none.
    pub(super) fn dates(&self, calendar: &Calendar) -> (Date, Date) {
        let first = self.from.map_or(Date::MIN, |from| calendar.date(from));
        let last = self.until.map_or(Date::MAX, |until| calendar.date(until).saturating_add(1.days()));
        (first, last)
    }

    fn narrow(&mut self, value: &str, calendar: &Calendar) -> Result<(), String> {
        let (prefix, rest) = match value.get(..2) {
            Some(prefix) if prefix.bytes().all(|b| b.is_ascii_lowercase()) => (prefix, value.get(2..).unwrap_or("")),
            _ => ("eq", value),
        };
        let (lo, hi) =
            bounds(rest, calendar).ok_or("must be a date or time as ge2026-11-24 or lt2026-11-24T09:00:00%2B05:30")?;
        let (from, until) = match prefix {
            "eq" => (Some(lo), Some(hi)),
            "ge" => (Some(lo), None),
            "gt" | "sa" => (Some(hi), None),
            "le" => (None, Some(hi)),
            "lt" | "eb" => (None, Some(lo)),
            other => return Err(format!("the prefix {other} is not one of eq ge gt le lt sa eb")),
        };
        self.from = self.from.max(from);
        self.until = [self.until, until].into_iter().flatten().min();
        Ok(())
    }
}

/// Behind all that can be.
const FAR: TimestampMs = TimestampMs(u64::MAX >> 1);

/// The first instant that a date or time means, and the first behind it: one without an offset is of the programme's zone.
fn bounds(text: &str, calendar: &Calendar) -> Option<(TimestampMs, TimestampMs)> {
    // Before the first day there is, and behind the last, nothing is.
    let beyond = |date: Date| if date.year() < 1970 { TimestampMs(0) } else { FAR };
    let start = |date: Date| Calendar::day_of(date).map_or_else(|| beyond(date), |day| calendar.start_of_day(day));
    let of_dates = |first: Date, next: Date| Some((start(first), start(next)));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    match text.len() {
        4 if digits(text) => {
            let first = Date::new(text.parse().ok()?, 1, 1).ok()?;
            of_dates(first, first.saturating_add(1.years()))
        }
        7 if digits(text) => {
            let first: Date = format!("{text}-01").parse().ok()?;
            of_dates(first, first.saturating_add(1.months()))
        }
        10 if digits(text) => {
            let date: Date = text.parse().ok()?;
            of_dates(date, date.saturating_add(1.days()))
        }
        16.. => {
            // A plus sign that was not encoded is a blank.
            let text = text.replace(' ', "+");
            let (_, time) = text.split_once('T')?;
            let clock = time.split(['Z', '+', '-']).next().unwrap_or_default();
            let wide = match clock.len() {
                5 => 60_000,
                8 => 1000,
                _ => 1,
            };
            let offset = time.get(clock.len()..).unwrap_or_default();
            let civil: DateTime = text.get(..text.len() - offset.len())?.parse().ok()?;
            let at = match (offset, Calendar::day_of(civil.date())) {
                ("", Some(_)) => calendar.instant(civil.date(), civil.time())?,
                ("", None) => beyond(civil.date()),
                _ => match text.parse::<Timestamp>() {
                    Ok(at) => TimestampMs(u64::try_from(at.as_millisecond()).unwrap_or(0)),
                    // The last day of all, as who wants no end says it, is behind the last instant there is.
                    Err(_) if civil.year() == 9999 && is_offset(offset) => FAR,
                    Err(_) => return None,
                },
            };
            Some((at, TimestampMs(at.0.checked_add(wide)?)))
        }
        _ => None,
    }
}

/// `Z`, or as `+05:30`.
fn is_offset(text: &str) -> bool {
    let clock = text.strip_prefix(['+', '-']).and_then(|clock| clock.split_once(':'));
    let two = |digits: &str, most: u8| digits.len() == 2 && digits.parse::<u8>().is_ok_and(|number| number <= most);
    text == "Z" || clock.is_some_and(|(hours, minutes)| two(hours, 14) && two(minutes, 59))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_has_one_spelling_and_every_fault_is_named() {
        let read = |query: &str| Params::read(Some(query), &["status", "schedule", "start"]);
        let a = read("status=free,busy&schedule=Schedule/x&_count=100&_format=json");
        let b = read("schedule=Schedule%2Fx&status=free%2Cbusy&status=free,busy");
        assert_eq!((a.spelled(), a.spelled()), ("schedule=Schedule/x&status=free,busy".to_owned(), b.spelled()));
        assert_eq!(read("_count=7").after(Some("a b")), "_count=7&_after=a%20b");
        let mut wrong = read("_count=x&_count=1001&_after=x&_after=y&color=1&status=&status=a&start=soon");
        let calendar = Calendar::utc();
        wrong.span("start", &calendar);
        wrong.list("status");
        wrong.after_number::<u32>();
        let told = wrong.checked().unwrap_err().detail().to_owned();
        for part in [
            "_count: must be",
            "_count: stands twice",
            "_after: stands twice",
            "\"color\"",
            "status: is empty",
            "start: must",
            "_after: is none",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert!(
            Params::read(Some(&"a=1&".repeat(99)), &["a"]).checked().unwrap_err().detail().contains("more than 24")
        );
    }

    #[test]
    fn references_and_identifiers_are_read_as_clients_write_them() {
        let mut params = Params::read(
            Some("actor=Location/a,b,https://x.example/fhir/Location/c&identifier=urn:berth:centre|d,e,urn:other|f"),
            &["actor", "identifier"],
        );
        assert_eq!(params.references("actor", "Location"), ["a", "b", "c"]);
        assert_eq!(params.identifiers("identifier", "urn:berth:centre"), ["d", "e"]);
        params.checked().unwrap();
        params.references("actor", "Schedule");
        assert!(params.checked().is_err());
        for text in ["p1.17", "Patient/p1.17", "https://x/fhir/Patient/p1.17", "urn:berth:party|p1.17"] {
            assert_eq!(party(text), "p1.17", "{text}");
        }
    }

    #[test]
    fn times_are_spans_and_prefixes_cut_them() {
        let calendar = Calendar::new("Asia/Kolkata").unwrap();
        let at = |text: &str| TimestampMs(u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap());
        let span = |values: &str| {
            let mut params = Params::read(Some(values), &["start"]);
            let span = params.span("start", &calendar);
            params.checked().map(|()| (span.from, span.until)).map_err(|problem| problem.detail().to_owned())
        };
        let far = at("2900-01-01T00:00Z");
        let (day, next) = (at("2026-11-24T00:00+05:30"), at("2026-11-25T00:00+05:30"));
        assert_eq!(span("start=2026-11-24"), Ok((Some(day), Some(next))));
        assert_eq!(span("start=ge2026-11-24&start=lt2026-11-25"), Ok((Some(day), Some(next))));
        assert_eq!(span("start=gt2026-11-24"), Ok((Some(next), None)));
        assert_eq!(span("start=le2026-11-24&start=le2026-12"), Ok((None, Some(next))));
        assert_eq!(span("start=2026-11"), Ok((Some(at("2026-11-01T00:00+05:30")), Some(at("2026-12-01T00:00+05:30")))));
        assert_eq!(span("start=ge2026"), Ok((Some(at("2026-01-01T00:00+05:30")), None)));
        assert_eq!(span("start=ge1900&start=lt2999"), Ok((Some(TimestampMs(0)), Some(FAR))));
        assert_eq!(span("start=gt1900-01-01T00:00:00Z"), Ok((Some(TimestampMs(1000)), None)));
        assert_eq!(span("start=le9999-12-31&start=le9999"), Ok((None, Some(FAR))));
        for end in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59%2B05:30", "9999-12-31T23:59:59", "2999-01-01T00:00"] {
            assert!(
                span(&format!("start=le{end}")).is_ok_and(|(from, until)| from.is_none() && until > Some(far)),
                "{end}"
            );
        }
        let nine = at("2026-11-24T09:00+05:30");
        for same in
            ["2026-11-24T09:00:00%2B05:30", "2026-11-24T09:00:00+05:30", "2026-11-24T03:30:00Z", "2026-11-24T09:00:00"]
        {
            assert_eq!(span(&format!("start={same}")), Ok((Some(nine), Some(TimestampMs(nine.0 + 1000)))), "{same}");
        }
        assert_eq!(span("start=lt2026-11-24T09:00Z"), Ok((None, Some(at("2026-11-24T09:00Z")))));
        for bad in [
            "",
            "ge",
            "2026-13",
            "2026-11-31",
            "ne2026-11-24",
            "ap2026",
            "24/11/2026",
            "2026-11-24T25:00:00Z",
            "ge2026-11-24T09",
            "é2026",
            "le9999-12-31T23:59:59X",
            "le9999-12-31T23:59:59+25:00",
            "le9999-12-32T23:59:59Z",
        ] {
            assert!(span(&format!("start={bad}")).is_err(), "{bad}");
        }
        let (from, until) = Span { from: Some(nine), until: Some(next) }.dates(&calendar);
        assert_eq!((from.to_string(), until.to_string()), ("2026-11-24".into(), "2026-11-26".into()));
    }
}
