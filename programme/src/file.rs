//! The programme file: TOML as a ministry writes it, and every fault in it by key.
//!
//! Products and pools are numbered by their place in the file and the journal keeps those numbers, so
//! entries may be appended and renamed in their `name`, but never reordered or removed once sessions were
//! published with them. A start with a reordered file is refused (see `note`).

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use berth_engine::GROUP_CLAIMS_MAX;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::names::{NAME_RULE, is_name};

/// A programme as its file says it. [`ProgrammeFile::validate`] before use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgrammeFile {
    /// What people call the campaign. 1 to 200 characters.
    pub name: String,
    /// IANA name of the zone in which session times are civil times, as `Asia/Kolkata`.
    pub time_zone: String,
    /// How long a hold lives unless the caller asks for less; also the longest. 5 to 3600. Too short and
    /// people lose units while they type; too long and hoarders keep them.
    pub hold_seconds: u32,
    /// Claims one request may make. 1 to 16, the engine's own limit.
    pub group_claims_max: usize,
    /// How many days ahead of its date a session can be booked, from midnight of that day on. 1 to 365.
    pub booking_horizon_days: u16,
    /// How long before its start a slot stops taking claims. 0 to 10080 (a week).
    pub booking_cutoff_minutes: u32,
    /// How long before its start a booking can no longer be cancelled or moved away. 0 to 10080.
    pub cancel_cutoff_minutes: u32,
    /// How long after its start nobody of a slot's bookings is a no-show yet. 0 to 1440 (a day); default 30. Too short and who was
    /// late finds the unit given away; too long and nobody is left at the door to have it.
    #[serde(default = "no_show_grace_minutes")]
    pub no_show_grace_minutes: u32,
    /// Live holds that one party may have at once. 0 to 100; 0 for no limit but one live claim for each dose; default 2.
    #[serde(default = "holds_live_max")]
    pub holds_live_max: u16,
    /// Holds that one party may let expire within an hour before it has to wait. 0 to 100; 0 for no limit; default 5. Without it
    /// a handful of people can keep units from everybody by holding them again and again.
    #[serde(default = "holds_expired_per_hour_max")]
    pub holds_expired_per_hour_max: u16,
    /// Whether a dose can be claimed only by who has had the one before. Default true. A platform that keeps no record of the
    /// doses given elsewhere says false.
    #[serde(default = "doses_in_order")]
    pub doses_in_order: bool,
    /// What fees are in: three capital letters of ISO 4217, as `INR`. Absent: no session can have a fee.
    pub currency: Option<String>,
    /// What is given. 1 to 200 products.
    pub products: Vec<ProductFile>,
    /// Who parts of a session's capacity are for. 1 to 200 pools.
    pub pools: Vec<PoolFile>,
}

/// A product.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductFile {
    /// The name used in session lines and searches.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Doses of a full course. 1 to 10.
    pub doses: u8,
    /// Days from one dose to the next, at least. 0 to 3650; default 0.
    #[serde(default)]
    pub gap_days_min: u16,
}

/// A pool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolFile {
    /// The name used in session lines and searches.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The one dose this pool serves. Absent: any.
    pub dose: Option<u8>,
    /// Whether its free units can be had at the door, without a booking, on the day. Default false.
    #[serde(default)]
    pub walk_in: bool,
}

/// One thing wrong with a file of ours, by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFault {
    /// The key, as `products[1].doses`.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

/// Why a programme file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgrammeFileError {
    /// Not TOML, or not of this shape. The text names line and key.
    #[error("{0}")]
    Shape(String),
    /// Values out of bounds: every one of them.
    #[error("{}", crate::faults::joined(.0))]
    Values(Vec<KeyFault>),
}

const WEEK_MINUTES: u32 = 7 * 24 * 60;
const DAY_MINUTES: u32 = 24 * 60;
const HOLDS_MAX: u64 = 100;
const GAP_DAYS_MAX: u16 = 3650;
const LIST_LEN_MAX: usize = 200;
const DOSES_MAX: u8 = 10;

const fn no_show_grace_minutes() -> u32 {
    30
}

const fn holds_live_max() -> u16 {
    2
}

const fn holds_expired_per_hour_max() -> u16 {
    5
}

const fn doses_in_order() -> bool {
    true
}

impl ProgrammeFile {
    /// Reads the file's text; checks its shape, not its values.
    ///
    /// # Errors
    /// [`ProgrammeFileError::Shape`].
    pub fn parse(text: &str) -> Result<ProgrammeFile, ProgrammeFileError> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            ProgrammeFileError::Shape(toml_fault(text, error.message(), error.span()))
        })
    }

    /// Checks every value.
    ///
    /// # Errors
    /// Every fault, not only the first.
    pub fn validate(&self) -> Result<(), Vec<KeyFault>> {
        let mut faults = Vec::new();
        let mut fault = |key: String, reason: String| faults.push(KeyFault { key, reason });

        title("name".to_owned(), &self.name, &mut fault);
        if TimeZone::get(&self.time_zone).is_err() {
            fault("time_zone".to_owned(), format!("{:?} is not the name of an IANA time zone", self.time_zone));
        }
        if let Some(currency) = &self.currency
            && !(currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase()))
        {
            fault("currency".to_owned(), format!("must be three capital letters, as INR, is {currency:?}"));
        }
        let mut within = |key: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                fault(key.to_owned(), format!("must be from {min} to {max}, is {value}"));
            }
        };
        within("hold_seconds", self.hold_seconds.into(), 5, 3600);
        within("group_claims_max", self.group_claims_max as u64, 1, GROUP_CLAIMS_MAX as u64);
        within("booking_horizon_days", self.booking_horizon_days.into(), 1, 365);
        within("booking_cutoff_minutes", self.booking_cutoff_minutes.into(), 0, WEEK_MINUTES.into());
        within("cancel_cutoff_minutes", self.cancel_cutoff_minutes.into(), 0, WEEK_MINUTES.into());
        within("no_show_grace_minutes", self.no_show_grace_minutes.into(), 0, DAY_MINUTES.into());
        within("holds_live_max", self.holds_live_max.into(), 0, HOLDS_MAX);
        within("holds_expired_per_hour_max", self.holds_expired_per_hour_max.into(), 0, HOLDS_MAX);
        within("products", self.products.len() as u64, 1, LIST_LEN_MAX as u64);
        within("pools", self.pools.len() as u64, 1, LIST_LEN_MAX as u64);

        let mut seen = HashSet::new();
        for (i, product) in self.products.iter().enumerate() {
            identity(&format!("products[{i}]"), &product.id, &product.name, &mut seen, &mut fault);
            if !(1..=DOSES_MAX).contains(&product.doses) {
                fault(format!("products[{i}].doses"), format!("must be from 1 to {DOSES_MAX}, is {}", product.doses));
            }
            if product.gap_days_min > GAP_DAYS_MAX {
                let reason = format!("must be from 0 to {GAP_DAYS_MAX}, is {}", product.gap_days_min);
                fault(format!("products[{i}].gap_days_min"), reason);
            }
        }
        let doses_max = self.products.iter().map(|p| p.doses).max().unwrap_or(0);
        let mut seen = HashSet::new();
        for (i, pool) in self.pools.iter().enumerate() {
            identity(&format!("pools[{i}]"), &pool.id, &pool.name, &mut seen, &mut fault);
            if let Some(dose) = pool.dose
                && !(1..=doses_max).contains(&dose)
            {
                let reason = format!("must be a dose of some product, from 1 to {doses_max}, is {dose}");
                fault(format!("pools[{i}].dose"), reason);
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// What a TOML parser says of a text, in one sentence: the place, if it is known, and the message.
#[must_use]
pub fn toml_fault(text: &str, message: &str, span: Option<Range<usize>>) -> String {
    let message = message.trim().replace('\n', ", ");
    match span.and_then(|span| text.get(..span.start)) {
        Some(before) => {
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            format!("line {line}, column {column}: {message}")
        }
        None => message,
    }
}

fn title(key: String, text: &str, fault: &mut impl FnMut(String, String)) {
    if text.trim().is_empty() || text.chars().count() > 200 {
        fault(key, "must be 1 to 200 characters".to_owned());
    }
}

fn identity<'a>(
    key: &str,
    id: &'a str,
    name: &str,
    seen: &mut HashSet<&'a str>,
    fault: &mut impl FnMut(String, String),
) {
    if !is_name(id) {
        fault(format!("{key}.id"), NAME_RULE.to_owned());
    } else if !seen.insert(id) {
        fault(format!("{key}.id"), format!("{id:?} stands twice"));
    }
    title(format!("{key}.name"), name, fault);
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDIA: &str = include_str!("../../programmes/india-2021.toml");

    #[test]
    fn the_shipped_programme_is_valid() {
        let file = ProgrammeFile::parse(INDIA).unwrap();
        assert_eq!(file.validate(), Ok(()));
        assert_eq!(file.time_zone, "Asia/Kolkata");
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = INDIA
            .replace("Asia/Kolkata", "Asia/Atlantis")
            .replace("hold_seconds = 300", "hold_seconds = 3")
            .replace("group_claims_max = 4", "group_claims_max = 17")
            .replace("id = \"covaxin\"", "id = \"covishield\"")
            .replace("no_show_grace_minutes = 30", "no_show_grace_minutes = 1441")
            .replace("holds_live_max = 2", "holds_live_max = 101")
            .replace("holds_expired_per_hour_max = 5", "holds_expired_per_hour_max = 101")
            .replace("gap_days_min = 28", "gap_days_min = 3651")
            .replace("dose = 2", "dose = 9");
        let faults = ProgrammeFile::parse(&text).unwrap().validate().unwrap_err();
        let keys: Vec<_> = faults.iter().map(|f| f.key.as_str()).collect();
        let expected = [
            "time_zone",
            "hold_seconds",
            "group_claims_max",
            "no_show_grace_minutes",
            "holds_live_max",
            "holds_expired_per_hour_max",
            "products[0].gap_days_min",
            "products[1].id",
            "products[1].gap_days_min",
            "pools[1].dose",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let text = format!("overbook_percent = 10\n{INDIA}");
        let error = ProgrammeFile::parse(&text).unwrap_err().to_string();
        assert!(error.starts_with("line 1, column 1: unknown field `overbook_percent`"), "{error}");
        assert!(!error.contains('\n'), "one line: {error}");
    }
}
