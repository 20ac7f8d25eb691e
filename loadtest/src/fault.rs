//! What a scenario does to the server and to what it stands on: kills, a Redis that fails, a disk that fills.
//!
//! Only what is written in the TOML, its defaults and what is wrong with it. [`crate::drive`] strikes.

use serde::{Deserialize, Serialize};

/// One fault: one thing that is done, and one condition that says when.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// `kill -9` of the server, and a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kill: Option<Kill>,
    /// Something that happens to the server's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<ServerFault>,
    /// Something that happens to Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redis: Option<RedisFault>,
    /// Something that happens to the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<DiskFault>,
    /// Something that happens to people's connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<ConnectionFault>,
    /// Something that the administration does to a centre.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) centre: Option<CentreFault>,
    /// A command for the shell, and one that heals: what is done to a server that the run did not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) heal: Option<String>,
    /// Strikes this long after the first arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at_seconds: Option<f64>,
    /// Strikes at a moment between these two, drawn from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) within_seconds: Option<[f64; 2]>,
    /// Strikes when this many bookings are acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after_bookings: Option<u64>,
    /// Strikes when this share of all units is booked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) when_full_share: Option<f64>,
    /// How long it lasts, where it lasts.
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
    /// Of a kill: the wall clock is so much further back when the server is started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clock_back_seconds: Option<f64>,
    /// Of a failover: how long the replica has been cut off when it is promoted.
    #[serde(default = "default_lost_tail")]
    pub(crate) lost_tail_seconds: f64,
    /// Of a slow disk: how much longer each sync takes.
    #[serde(default = "default_sync_ms")]
    pub(crate) sync_ms: u32,
    /// Of cut connections: how many of the requests lose theirs.
    #[serde(default = "default_share")]
    pub(crate) share: f64,
    /// Of a centre: which; default the one that is listed first, to which most people go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) which: Option<String>,
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
fn default_sync_ms() -> u32 {
    50
}
fn default_share() -> f64 {
    0.1
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
    /// It stands still for nine tenths of each tenth of a second.
    Slow,
    /// A replica is cut off; a while later the primary is killed and wiped, and the replica takes its place.
    FailoverLostTail,
}

/// What happens to the disk.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiskFault {
    /// Not a byte is left, until what filled it goes.
    Fill,
    /// Each sync takes longer.
    Slow,
}

/// What happens to the server's process.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ServerFault {
    /// It stands still (SIGSTOP), its connections open, and goes on (SIGCONT).
    Pause,
}

/// What happens to people's connections.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ConnectionFault {
    /// A share of the requests loses its connection while the answer is waited for.
    Cut,
}

/// What the administration does to a centre.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CentreFault {
    /// It closes: its sessions sell no more, their bookings move to the district's other centres, and are cancelled where there
    /// is no room.
    Close,
}

/// What is wrong with a fault: the field, what is wrong, and what to do.
pub(crate) type WrongWith = (&'static str, &'static str, &'static str);

impl Fault {
    /// A power cut after so many bookings, with the defaults.
    pub(crate) fn power_cut_after(bookings: u64) -> Self {
        Self {
            kill: Some(Kill::PowerCut),
            after_bookings: Some(bookings),
            crowd: default_crowd(),
            in_flight_min: default_in_flight_min(),
            restart_after_seconds: default_restart_after(),
            lost_tail_seconds: default_lost_tail(),
            sync_ms: default_sync_ms(),
            share: default_share(),
            acknowledged_min: one(),
            refused_min: one(),
            settled_min: one(),
            resumed_min: one(),
            ..Self::default()
        }
    }

    /// How a report calls it.
    pub(crate) fn word(&self) -> &'static str {
        let redis = self.redis.map(|redis| match redis {
            RedisFault::Stop => "redis-stop",
            RedisFault::Kill => "redis-kill",
            RedisFault::Wipe => "redis-wipe",
            RedisFault::Pause => "redis-pause",
            RedisFault::Slow => "redis-slow",
            RedisFault::FailoverLostTail => "redis-failover-lost-tail",
        });
        let disk = self.disk.map(|disk| if disk == DiskFault::Fill { "disk-fill" } else { "disk-slow" });
        self.kill
            .map(Kill::word)
            .or(redis)
            .or(disk)
            .or(self.server.map(|ServerFault::Pause| "server-pause"))
            .or(self.connections.map(|ConnectionFault::Cut| "connections-cut"))
            .or(self.centre.map(|CentreFault::Close| "centre-close"))
            .or(self.command.as_ref().map(|_| "command"))
            .unwrap_or("nothing")
    }

    /// Whether it leaves no room on the disk.
    pub(crate) fn fills_disk(&self) -> bool {
        self.disk == Some(DiskFault::Fill)
    }

    /// What is wrong with the fault in itself.
    pub(crate) fn wrong(&self, workers: u32) -> Vec<WrongWith> {
        let mut wrong = Vec::new();
        let mut need = |good: bool, field: &'static str, what: &'static str, hint: &'static str| {
            if !good {
                wrong.push((field, what, hint));
            }
        };
        let kinds = [
            self.kill.is_some(),
            self.server.is_some(),
            self.redis.is_some(),
            self.disk.is_some(),
            self.connections.is_some(),
            self.centre.is_some(),
            self.command.is_some(),
        ];
        let count = |of: &[bool]| of.iter().filter(|&&there| there).count();
        need(
            count(&kinds) == 1,
            "",
            "needs one of kill, server, redis, disk, connections, centre and command",
            "two things that happen together are two [[faults]] with the same moment",
        );
        let moments = [
            self.at_seconds.is_some(),
            self.within_seconds.is_some(),
            self.after_bookings.is_some(),
            self.when_full_share.is_some(),
        ];
        need(
            count(&moments) == 1,
            "",
            "needs one of at_seconds, within_seconds, after_bookings and when_full_share",
            "at_seconds = 5.0 is five seconds after the first person came",
        );
        need(self.at_seconds.is_none_or(is_time), "at_seconds", "is not a time", "seconds, 0 to 86400");
        need(
            self.within_seconds.is_none_or(|[from, to]| is_time(from) && is_time(to) && from < to),
            "within_seconds",
            "is not two times, the earlier first",
            "as [2.0, 5.0]",
        );
        let share = |share: f64| share > 0.0 && share <= 1.0;
        let hint = "a share, as 0.8";
        need(self.when_full_share.is_none_or(share), "when_full_share", "is not above 0 and up to 1", hint);
        need(share(self.share), "share", "is not above 0 and up to 1", "a share, as 0.1");
        need((1..=10_000).contains(&self.sync_ms), "sync_ms", "is not within 1..=10000", "milliseconds, as 50");
        need(
            self.kill.is_none() || (self.in_flight_min <= workers && self.in_flight_min <= self.crowd),
            "in_flight_min",
            "is above driver.workers or its crowd, so the blow could never land",
            "raise driver.workers and crowd, or lower it",
        );
        let seconds = "seconds";
        let (restart, tail) = (self.restart_after_seconds, self.lost_tail_seconds);
        need((0.0..=60.0).contains(&restart), "restart_after_seconds", "is not within 0..=60", seconds);
        need((0.1..=60.0).contains(&tail), "lost_tail_seconds", "is not within 0.1..=60", seconds);
        let back = self.clock_back_seconds;
        need(
            back.is_none() || self.kill.is_some(),
            "clock_back_seconds",
            "goes with kill",
            "a server reads the wall clock when it starts",
        );
        need(
            back.is_none_or(|back| (1.0..=86_400.0).contains(&back)),
            "clock_back_seconds",
            "is not within 1..=86400",
            seconds,
        );
        let lasts = count(&kinds[1..5]) > 0;
        need(
            if lasts { self.for_seconds.is_some() } else { self.for_seconds.is_none() || self.heal.is_some() },
            "for_seconds",
            "goes with server, redis, disk, connections and a command with heal, and is needed there",
            "how long it lasts, as for_seconds = 3.0",
        );
        need(
            self.heal.is_none() || (self.command.is_some() && self.for_seconds.is_some()),
            "heal",
            "goes with command and for_seconds",
            "command = \"systemctl stop x\", heal = \"systemctl start x\", for_seconds = 5.0",
        );
        need(
            self.for_seconds.is_none_or(|seconds| (0.1..=3_600.0).contains(&seconds)),
            "for_seconds",
            "is not within 0.1..=3600",
            seconds,
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

    fn wrong(text: &str) -> Vec<String> {
        let fault = toml::from_str::<Fault>(text).unwrap();
        fault.wrong(400).into_iter().map(|(field, what, _)| format!("{field} {what}")).collect()
    }

    #[test]
    fn faults_of_every_kind_are_read() {
        for (text, word) in [
            ("kill = \"plain\"\nat_seconds = 1.0", "plain"),
            ("kill = \"power-cut\"\nat_seconds = 1.0\nclock_back_seconds = 3600.0", "power-cut"),
            ("redis = \"stop\"\nat_seconds = 0.0\nfor_seconds = 2.0", "redis-stop"),
            ("redis = \"slow\"\nat_seconds = 0.0\nfor_seconds = 2.0", "redis-slow"),
            (
                "redis = \"failover-lost-tail\"\nwithin_seconds = [0.5, 2.0]\nfor_seconds = 2.0",
                "redis-failover-lost-tail",
            ),
            ("disk = \"fill\"\nafter_bookings = 10\nfor_seconds = 2.0", "disk-fill"),
            ("disk = \"slow\"\nwhen_full_share = 0.5\nfor_seconds = 2.0\nsync_ms = 80", "disk-slow"),
            ("server = \"pause\"\nat_seconds = 1.0\nfor_seconds = 2.0", "server-pause"),
            ("connections = \"cut\"\nat_seconds = 1.0\nfor_seconds = 2.0\nshare = 0.3", "connections-cut"),
            ("centre = \"close\"\nat_seconds = 1.0", "centre-close"),
            ("command = \"true\"\nat_seconds = 1.0", "command"),
            ("command = \"true\"\nheal = \"true\"\nfor_seconds = 1.0\nat_seconds = 1.0", "command"),
        ] {
            let fault: Fault = toml::from_str(text).unwrap();
            assert_eq!((fault.word(), fault.wrong(400)), (word, Vec::new()), "{text}");
        }
        assert!(Fault::power_cut_after(7).wrong(400).is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_fault_is_named() {
        for (text, field, part) in [
            ("redis = \"stop\"\nat_seconds = 1.0", "for_seconds", "is needed there"),
            ("server = \"pause\"\nat_seconds = 1.0", "for_seconds", "is needed there"),
            ("kill = \"plain\"\nat_seconds = 1.0\nfor_seconds = 1.0", "for_seconds", "goes with"),
            ("kill = \"plain\"\nserver = \"pause\"\nfor_seconds = 1.0\nat_seconds = 1.0", "", "needs one of kill"),
            ("kill = \"plain\"\nwithin_seconds = [2.0, 1.0]", "within_seconds", "the earlier first"),
            ("kill = \"plain\"\nwithin_seconds = [1.0, 2.0]\nafter_bookings = 3", "", "needs one of at_seconds"),
            ("kill = \"plain\"\nat_seconds = 1.0\nin_flight_min = 401", "in_flight_min", "could never land"),
            ("kill = \"plain\"\nwhen_full_share = 1.5", "when_full_share", "up to 1"),
            ("centre = \"close\"\nat_seconds = 1.0\nclock_back_seconds = 5.0", "clock_back_seconds", "with kill"),
            ("command = \"true\"\nheal = \"true\"\nat_seconds = 1.0", "heal", "for_seconds"),
        ] {
            let found = wrong(text);
            assert!(found.len() == 1 && found[0].starts_with(field) && found[0].contains(part), "{text}: {found:?}");
        }
    }
}
