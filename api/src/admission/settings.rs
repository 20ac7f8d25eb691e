//! What admission is told, by the configuration and at run time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::class::Class;

/// How the limit is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// By the delay, between `limit_min` and `limit_max`.
    Adaptive,
    /// `limit_max`, whatever the delay.
    Fixed,
    /// There is none; only `http.inflight_requests_max` holds.
    Off,
}

/// The settings in force. Checked by [`Entry::over`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    /// How long requests may wait before the limit comes down.
    pub(crate) target_delay: Duration,
    /// The bounds of the limit.
    pub(crate) limit_min: usize,
    pub(crate) limit_max: usize,
    /// Requests that may wait for a place, at most as many as may be at work.
    pub(crate) queue_max: usize,
    /// How long they may.
    pub(crate) queue_time: Duration,
    /// Let connections in one for one while requests wait.
    pub(crate) gate_connections: bool,
    /// Classes that are refused, whatever the load.
    pub(crate) shed: Vec<Class>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            mode: Mode::Adaptive,
            target_delay: Duration::from_millis(5),
            limit_min: 16,
            limit_max: 20_000,
            queue_max: 1000,
            queue_time: Duration::from_millis(20),
            gate_connections: true,
            shed: Vec::new(),
        }
    }
}

/// `[admission]` of the configuration, and the body of `PATCH /v1/admin/admission`: what is not said stays.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// `adaptive`, `fixed` or `off`. Default `adaptive`.
    pub(crate) mode: Option<Mode>,
    /// Requests may wait so long before the limit comes down. 1 to 1000. Default 5; more lets more requests wait longer before
    /// any is refused, less refuses bursts that would have passed.
    pub(crate) target_delay_ms: Option<u64>,
    /// The least the limit may be. 1 to 1000000. Default 16.
    pub(crate) limit_min: Option<usize>,
    /// The most, and the limit in `fixed` mode. 1 to 1000000. Default 20000.
    pub(crate) limit_max: Option<usize>,
    /// Requests that may wait for a place at once; never more than may be at work. 0 to 1000000. Default 1000.
    pub(crate) queue_max: Option<usize>,
    /// How long one may wait for a place. 1 to 10000. Default 20.
    pub(crate) queue_time_ms: Option<u64>,
    /// While requests wait, connections are let in one for one with requests that end. Default true.
    pub(crate) gate_connections: Option<bool>,
    /// Classes to refuse whatever the load: `settle`, `claim`, `search`, `admin`. Default none.
    pub(crate) shed: Option<Vec<String>>,
}

/// A field and what is wrong with it.
pub(crate) type Wrong = (&'static str, String);

impl Entry {
    /// These settings with what the entry says put over them.
    ///
    /// # Errors
    /// Every fault, by its field.
    pub(crate) fn over(&self, settings: &Settings) -> Result<Settings, Vec<Wrong>> {
        let mut wrong = Vec::new();
        let mut within = |field: &'static str, value: Option<u64>, or: u64, min: u64, max: u64| {
            let value = value.unwrap_or(or);
            if !(min..=max).contains(&value) {
                wrong.push((field, format!("must be from {min} to {max}, is {value}")));
            }
            value
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let wide = |count: usize| count as u64;
        let target = within("target_delay_ms", self.target_delay_ms, millis(settings.target_delay), 1, 1000);
        let least = within("limit_min", self.limit_min.map(wide), wide(settings.limit_min), 1, 1_000_000);
        let most = within("limit_max", self.limit_max.map(wide), wide(settings.limit_max), 1, 1_000_000);
        let queue_max = within("queue_max", self.queue_max.map(wide), wide(settings.queue_max), 0, 1_000_000);
        let queue_time = within("queue_time_ms", self.queue_time_ms, millis(settings.queue_time), 1, 10_000);
        if least > most {
            wrong.push(("limit_min", format!("must not be more than limit_max, {most}, is {least}")));
        }
        let mut shed = settings.shed.clone();
        if let Some(named) = &self.shed {
            shed = named.iter().filter_map(|name| Class::parse(name)).collect();
            if shed.len() != named.len() {
                wrong.push(("shed", "may name settle, claim, search and admin".to_owned()));
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let narrow = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Ok(Settings {
            mode: self.mode.unwrap_or(settings.mode),
            target_delay: Duration::from_millis(target),
            limit_min: narrow(least),
            limit_max: narrow(most),
            queue_max: narrow(queue_max),
            queue_time: Duration::from_millis(queue_time),
            gate_connections: self.gate_connections.unwrap_or(settings.gate_connections),
            shed,
        })
    }
}
