//! What a scenario does to the server and to what it stands on: kills, a Redis that fails, a disk that fills.
//!
//! Only what is written in the TOML, its defaults and what is wrong with it. [`crate::drive`] strikes.

use serde::{Deserialize, Serialize};

/// One fault: one of `kill`, `redis` and `disk`, and one of `at_seconds`, `within_seconds` and `after_bookings`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// `kill -9` of the server, and a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kill: Option<Kill>,
    /// Something that happens to Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redis: Option<RedisFault>,
    /// Something that happens to the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<DiskFault>,
    /// Strikes this long after the first arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at_seconds: Option<f64>,
    /// Strikes at a moment between these two, drawn from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) within_seconds: Option<[f64; 2]>,
    /// Strikes when this many bookings are acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after_bookings: Option<u64>,
    /// Of Redis and the disk: how long it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) for_seconds: Option<f64>,
    /// Of a kill: people who rush in at once just before the blow, so that it lands among open requests.
    #[serde(default = "default_crowd")]
    pub(crate) crowd: u32,
    /// Of a kill: changes that must be in flight for the blow to count.
    #[serde(default = "default_in_flight_min")]
    pub(crate) in_flight_min: u32,
    #[serde(default = "default_restart_after")]
    pub(crate) restart_after_seconds: f64,
    /// Of a failover: how long the replica has been cut off when it is promoted.
    #[serde(default = "default_lost_tail")]
    pub(crate) lost_tail_seconds: f64,
    /// Of Redis: bookings that must have been acknowledged while it was away for the run to show anything.
    #[serde(default = "one")]
    pub(crate) acknowledged_min: u64,
    /// Of a full disk: claims that must have been refused, changes of live claims that must have been settled meanwhile,
    /// and holds that must have succeeded after it, for the run to show anything.
    #[serde(default = "one")]
    pub(crate) refused_min: u64,
    #[serde(default = "one")]
    pub(crate) settled_min: u64,
    #[serde(default = "one")]
    pub(crate) resumed_min: u64,
}

fn default_crowd() -> u32 {
    400
}
fn default_in_flight_min() -> u32 {
    100
}
fn default_restart_after() -> f64 {
    0.3
}
fn default_lost_tail() -> f64 {
    1.0
}
fn one() -> u64 {
    1
}

/// How a server dies. Both are `kill -9`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kill {
    /// What was not synced is lost as well, as if the power had gone (`berth serve --power-cut-rehearsal`).
    PowerCut,
    /// The process dies; what it had handed to the kernel survives.
    Plain,
}

impl Kill {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::PowerCut => "power-cut",
            Self::Plain => "plain",
        }
    }
}

/// What happens to Redis.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RedisFault {
    /// It is told to end, and is started again with what it had written.
    Stop,
    /// `kill -9`, and a start with what its append-only file kept.
    Kill,
    /// `kill -9`, its files are gone, and it is started empty.
    Wipe,
    /// It stands still with its connections open, and goes on.
    Pause,
    /// A replica is cut off; a while later the primary is killed and wiped, and the replica takes its place.
    FailoverLostTail,
}

/// What happens to the disk.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiskFault {
    /// Not a byte is left, until what filled it goes.
    Fill,
}

impl Fault {
    /// A power cut after so many bookings, with the defaults.
    pub(crate) fn power_cut_after(bookings: u64) -> Self {
        Self {
            kill: Some(Kill::PowerCut),
            redis: None,
            disk: None,
            at_seconds: None,
            within_seconds: None,
            after_bookings: Some(bookings),
            for_seconds: None,
            crowd: default_crowd(),
            in_flight_min: default_in_flight_min(),
            restart_after_seconds: default_restart_after(),
            lost_tail_seconds: default_lost_tail(),
            acknowledged_min: one(),
            refused_min: one(),
            settled_min: one(),
            resumed_min: one(),
        }
    }

    /// How a report calls it.
    pub(crate) fn word(&self) -> &'static str {
        match (self.kill, self.redis, self.disk) {
            (Some(kill), ..) => kill.word(),
            (_, Some(RedisFault::Stop), _) => "redis-stop",
            (_, Some(RedisFault::Kill), _) => "redis-kill",
            (_, Some(RedisFault::Wipe), _) => "redis-wipe",
            (_, Some(RedisFault::Pause), _) => "redis-pause",
            (_, Some(RedisFault::FailoverLostTail), _) => "redis-failover-lost-tail",
            (_, _, Some(DiskFault::Fill)) => "disk-fill",
            (None, None, None) => "nothing",
        }
    }

    /// What is wrong with the fault in itself, as what follows `faults[N]`.
    pub(crate) fn wrong(&self, workers: u32) -> Vec<&'static str> {
        let mut wrong = Vec::new();
        let mut need = |good: bool, sentence: &'static str| {
            if !good {
                wrong.push(sentence);
            }
        };
        let kinds = [self.kill.is_some(), self.redis.is_some(), self.disk.is_some()];
        need(kinds.iter().filter(|&&there| there).count() == 1, " needs one of kill, redis and disk");
        let moments = [self.at_seconds.is_some(), self.within_seconds.is_some(), self.after_bookings.is_some()];
        need(
            moments.iter().filter(|&&there| there).count() == 1,
            " needs one of at_seconds, within_seconds and after_bookings",
        );
        need(self.at_seconds.is_none_or(is_time), ".at_seconds is not a time");
        need(
            self.within_seconds.is_none_or(|[from, to]| is_time(from) && is_time(to) && from < to),
            ".within_seconds is not two times, the earlier first",
        );
        need(
            self.kill.is_none() || (self.in_flight_min <= workers && self.in_flight_min <= self.crowd),
            ".in_flight_min is above driver.workers or its crowd, so the blow could never land",
        );
        need((0.0..=60.0).contains(&self.restart_after_seconds), ".restart_after_seconds is not within 0..=60");
        need((0.1..=60.0).contains(&self.lost_tail_seconds), ".lost_tail_seconds is not within 0.1..=60");
        need(
            self.for_seconds.is_some() != self.kill.is_some(),
            ".for_seconds goes with redis and disk, and is needed there",
        );
        need(
            self.for_seconds.is_none_or(|seconds| (0.1..=3_600.0).contains(&seconds)),
            ".for_seconds is not within 0.1..=3600",
        );
        wrong
    }
}

fn is_time(seconds: f64) -> bool {
    seconds.is_finite() && (0.0..=86_400.0).contains(&seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<&'static str> {
        toml::from_str::<Fault>(text).unwrap().wrong(400)
    }

    #[test]
    fn faults_of_every_kind_are_read() {
        for (text, word) in [
            ("kill = \"plain\"\nat_seconds = 1.0", "plain"),
            ("redis = \"stop\"\nat_seconds = 0.0\nfor_seconds = 2.0", "redis-stop"),
            (
                "redis = \"failover-lost-tail\"\nwithin_seconds = [0.5, 2.0]\nfor_seconds = 2.0",
                "redis-failover-lost-tail",
            ),
            ("disk = \"fill\"\nafter_bookings = 10\nfor_seconds = 2.0", "disk-fill"),
        ] {
            let fault: Fault = toml::from_str(text).unwrap();
            assert_eq!((fault.word(), fault.wrong(400)), (word, Vec::new()), "{text}");
        }
        assert!(Fault::power_cut_after(7).wrong(400).is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_fault_is_named() {
        assert_eq!(
            wrong("redis = \"stop\"\nat_seconds = 1.0"),
            [".for_seconds goes with redis and disk, and is needed there"]
        );
        assert_eq!(
            wrong("kill = \"plain\"\nredis = \"stop\"\nat_seconds = 1.0"),
            [" needs one of kill, redis and disk"]
        );
        assert_eq!(
            wrong("kill = \"plain\"\nwithin_seconds = [2.0, 1.0]"),
            [".within_seconds is not two times, the earlier first"]
        );
        assert_eq!(
            wrong("kill = \"plain\"\nwithin_seconds = [1.0, 2.0]\nafter_bookings = 3"),
            [" needs one of at_seconds, within_seconds and after_bookings"]
        );
        assert_eq!(
            wrong("kill = \"plain\"\nat_seconds = 1.0\nin_flight_min = 401"),
            [".in_flight_min is above driver.workers or its crowd, so the blow could never land"]
        );
    }
}
