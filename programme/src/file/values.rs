//! Values that TOML has no plain type for: civil dates and times, and who may come to the door.

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A name in other languages than the file's first: `{ hi = "..." }`.
pub type Names = BTreeMap<String, String>;

/// A civil date of the programme's zone: `2021-05-13`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CivilDate(pub civil::Date);

/// A civil time of a date, or a date for its first instant: `2021-04-28T16:00:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CivilTime(pub civil::DateTime);

/// Whether a pool's units can be had at the door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalkIn {
    /// Only with a booking.
    #[default]
    No,
    /// Those that are free on the day.
    Yes,
    /// All of them, and nobody can book one.
    Only,
}

impl<'de> Deserialize<'de> for CivilDate {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<CivilDate, D::Error> {
        match toml::value::Datetime::deserialize(input)? {
            toml::value::Datetime { date: Some(date), time: None, offset: None } => civil_date(date).map(CivilDate),
            other => Err(de::Error::custom(format!("must be a date as 2021-05-13, without quotes, is {other}"))),
        }
    }
}

impl<'de> Deserialize<'de> for CivilTime {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<CivilTime, D::Error> {
        let wrong = |found| {
            let reason = "must be a time on the clocks there, as 2021-04-28T16:00:00, without quotes and offset, is";
            Err(de::Error::custom(format!("{reason} {found}")))
        };
        match toml::value::Datetime::deserialize(input)? {
            toml::value::Datetime { date: Some(date), time, offset: None } => {
                let date = civil_date(date)?;
                let Some(time) = time else { return Ok(CivilTime(date.to_datetime(civil::Time::midnight()))) };
                let part = |value: u8| i8::try_from(value).unwrap_or(-1);
                let (hour, minute, second) = (part(time.hour), part(time.minute), part(time.second.unwrap_or(0)));
                let time = civil::Time::new(hour, minute, second, 0);
                Ok(CivilTime(date.to_datetime(time.map_err(de::Error::custom)?)))
            }
            other => wrong(other),
        }
    }
}

fn civil_date<E: de::Error>(date: toml::value::Date) -> Result<civil::Date, E> {
    let year = i16::try_from(date.year).unwrap_or(i16::MAX);
    let part = |value: u8| i8::try_from(value).unwrap_or(-1);
    civil::Date::new(year, part(date.month), part(date.day)).map_err(E::custom)
}

impl<'de> Deserialize<'de> for WalkIn {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<WalkIn, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = WalkIn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"only\"")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<WalkIn, E> {
                Ok(if value { WalkIn::Yes } else { WalkIn::No })
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<WalkIn, E> {
                if value == "only" {
                    Ok(WalkIn::Only)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(value), &self))
                }
            }
        }
        input.deserialize_any(Words)
    }
}

impl fmt::Display for CivilDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for CivilDate {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&self.0)
    }
}

impl Serialize for CivilTime {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&self.0)
    }
}

impl Serialize for WalkIn {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self {
            WalkIn::No => out.serialize_bool(false),
            WalkIn::Yes => out.serialize_bool(true),
            WalkIn::Only => out.serialize_str("only"),
        }
    }
}
