//! What people do, how many of them do it, and how long they think.

use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

/// What a person does. The names are the keys of `[behaviours]`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Behaviour {
    /// Looks and leaves.
    #[serde(alias = "browser")]
    Browse,
    /// Looks, holds, thinks, confirms.
    Book,
    /// Books in one step.
    Direct,
    /// Holds and walks away: the hold has to expire.
    #[serde(alias = "abandoner")]
    Abandon,
    /// Holds and gives the hold back.
    Release,
    /// Books, and sends the same request with the same key again after it succeeded.
    Retry,
    /// Sends one request twice at once, with one key.
    Twins,
    /// One person on two devices: two requests at once with different keys, for different slots.
    TwoDevices,
    /// Books, cancels, and sometimes books again.
    #[serde(alias = "canceller")]
    Cancel,
    /// Books and moves to another slot.
    #[serde(alias = "mover")]
    Move,
    /// A household books together, all or none.
    Family,
    /// Holds, and confirms only after the deadline has passed.
    Latecomer,
    /// Comes before the opening, looks, waits for the minute, and books in it.
    EarlyBird,
    /// Finds the district full and looks again and again until something is free.
    Refresher,
    /// Looks and books as fast as the answers come, and takes no refusal for an answer.
    Bot,
    /// Does not wait for an answer: sends hold and confirm again, with their keys, while the first is under way.
    RetryStorm,
    /// Comes for the second dose; on a day with a door, has the first one given before.
    SecondDose,
    /// Somebody at the door of a centre: books for who stands there, checks in, gives the dose; or takes a walk-in.
    Operator,
    /// Sets units aside for several people, lets the holds run out, and does it again.
    Hoarder,
}

/// How many behave so, and how they think.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) weight: u32,
    /// Between two steps, from and to. Default that of the driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) think_ms: Option<[u64; 2]>,
}

impl Manner {
    pub(crate) fn of(weight: u32) -> Self {
        Self { weight, think_ms: None }
    }
}

/// A weight alone, or a table.
impl<'de> Deserialize<'de> for Manner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            weight: u32,
            #[serde(default)]
            think_ms: Option<[u64; 2]>,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Manner;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a weight, as 5, or { weight = 5, think_ms = [100, 2000] }")
            }

            fn visit_i64<E: Error>(self, weight: i64) -> Result<Manner, E> {
                let wrong = || E::custom(format!("a weight of {weight} is not within 0..=4294967295"));
                u32::try_from(weight).map(Manner::of).map_err(|_| wrong())
            }

            fn visit_u64<E: Error>(self, weight: u64) -> Result<Manner, E> {
                self.visit_i64(i64::try_from(weight).unwrap_or(i64::MAX))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Manner, A::Error> {
                let Table { weight, think_ms } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Manner { weight, think_ms })
            }
        }
        deserializer.deserialize_any(Either)
    }
}
