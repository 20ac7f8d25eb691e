//! A scenario as an SRE writes it: the TOML, its defaults, and every fault of it named at once.
//!
//! Nothing here acts. [`crate::plan`] turns a scenario and a seed into arrivals, [`crate::inventory`] into what is for
//! sale.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::audit::Promise;
use crate::error::{CannotRun, Doing};
use crate::fault::Fault;

pub(crate) use self::overload::Overload;

mod overload;

/// One scenario file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) about: String,
    #[serde(default)]
    pub(crate) server: Server,
    /// A Redis of the run's own, for the server to write behind to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redis: Option<Redis>,
    /// A small filesystem of the run's own, for the data directory to lie on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<SmallDisk>,
    pub(crate) population: Population,
    /// What is for sale; absent when a replay brings its own.
    pub(crate) inventory: Option<InventoryShape>,
    /// How many of a hundred (or of any sum) people behave in which way.
    pub(crate) behaviours: BTreeMap<Behaviour, u32>,
    pub(crate) arrivals: Vec<Phase>,
    #[serde(default)]
    pub(crate) faults: Vec<Fault>,
    /// Too many come for the CPU that the server has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) overload: Option<Overload>,
    #[serde(default)]
    pub(crate) driver: Driver,
    #[serde(default)]
    pub(crate) audit: Audit,
}

/// What the server is told.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    /// How long a hold lives. Short, so that abandoned units come back within the run.
    pub(crate) hold_seconds: u32,
    pub(crate) group_claims_max: u32,
    /// How long a start may take before the run gives up.
    pub(crate) start_seconds_max: u64,
    /// MiB of a segment and of the buffer of entries. Default the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) segment_mib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) buffer_mib: Option<u64>,
    /// How often it is asked for a snapshot, until it is first restarted; and once more after that. Default never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot_every_seconds: Option<f64>,
    /// The share of one CPU that the server has while it is driven. Default all it wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_share: Option<f64>,
    /// Further tables of its configuration file, as they stand there.
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub(crate) config: toml::Table,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            hold_seconds: 8,
            group_claims_max: 4,
            start_seconds_max: 60,
            segment_mib: None,
            buffer_mib: None,
            snapshot_every_seconds: None,
            cpu_share: None,
            config: toml::Table::new(),
        }
    }
}

/// The run's own Redis.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Redis {
    /// When it syncs its append-only file.
    pub(crate) appendfsync: AppendFsync,
    /// How long the write-behind may take to catch up after the drive.
    pub(crate) caught_up_within_seconds: u64,
}

impl Default for Redis {
    fn default() -> Self {
        Self { appendfsync: AppendFsync::Everysec, caught_up_within_seconds: 60 }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AppendFsync {
    Everysec,
    Always,
}

/// The run's own filesystem.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SmallDisk {
    pub(crate) mib: u64,
}

/// Who may come.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Population {
    /// How many people exist. Arrivals pick among them, so the same person may come twice.
    pub(crate) parties: u32,
    /// How uneven the districts are: 0 sends people everywhere alike, 1 is Zipf's law.
    #[serde(default = "default_skew")]
    pub(crate) district_skew: f64,
}

fn default_skew() -> f64 {
    0.6
}

/// What is for sale, made by counting.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InventoryShape {
    pub(crate) districts: u32,
    pub(crate) centres_per_district: u32,
    pub(crate) days: u32,
    pub(crate) windows_per_day: u32,
    pub(crate) product: String,
    /// Units per window, by pool. One window and pool is one slot.
    pub(crate) pools: BTreeMap<String, u32>,
}

/// What a person does. The names are the keys of `[behaviours]`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Behaviour {
    /// Looks and leaves.
    Browse,
    /// Looks, holds, thinks, confirms.
    Book,
    /// Books in one step.
    Direct,
    /// Holds and walks away: the hold has to expire.
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
    Cancel,
    /// Books and moves to another slot.
    Move,
    /// A household books together, all or none.
    Family,
    /// Holds, and confirms only after the deadline has passed.
    Latecomer,
}

/// A stretch of arrivals. People come whether or not the server keeps up.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Phase {
    /// The same rate throughout.
    Constant { phase: String, per_second: f64, seconds: f64 },
    /// A rate that grows or falls evenly.
    Ramp { phase: String, from_per_second: f64, to_per_second: f64, seconds: f64 },
    /// Everybody at the opening minute: `people` within `seconds` (0: at one instant).
    Spike {
        phase: String,
        people: u32,
        #[serde(default)]
        seconds: f64,
    },
}

/// The generator itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Driver {
    /// Goose users: how many people can be in the middle of a request at once.
    pub(crate) workers: u32,
    pub(crate) request_timeout_ms: u64,
    /// How long people think between two steps, from and to.
    pub(crate) think_ms: [u64; 2],
    /// How often one request is sent again while its outcome is unknown.
    pub(crate) attempts_max: u32,
    /// A start later than this is late.
    pub(crate) late_ms: u64,
    /// More late starts than this share, while the server answered fast, and the run is invalid.
    pub(crate) late_share_max: f64,
    /// A server whose median answer is under this is fast.
    pub(crate) fast_ms: u64,
    /// Someone who could not be started within this is dropped, and reported as dropped.
    pub(crate) drop_after_seconds: f64,
    /// The whole drive, arrivals and stragglers, is cut off here.
    pub(crate) seconds_max: u64,
    /// Each person comes with a connection of their own and keeps it; else workers keep theirs, as the pool of a platform does.
    pub(crate) own_connections: bool,
    /// How long the making of a connection may take.
    pub(crate) connect_timeout_ms: u64,
}

impl Default for Driver {
    fn default() -> Self {
        Self {
            workers: 400,
            request_timeout_ms: 10_000,
            think_ms: [20, 400],
            attempts_max: 12,
            late_ms: 250,
            late_share_max: 0.05,
            fast_ms: 20,
            drop_after_seconds: 30.0,
            seconds_max: 300,
            own_connections: false,
            connect_timeout_ms: 10_000,
        }
    }
}

/// What is judged.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Audit {
    pub(crate) promises: BTreeSet<Promise>,
    /// Wait for every hold to run out before the end is judged.
    pub(crate) settle: bool,
    /// A run that acknowledged fewer bookings shows too little to be called held.
    pub(crate) acknowledged_bookings_min: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Self { promises: Promise::all(), settle: true, acknowledged_bookings_min: 1 }
    }
}

/// The plan is drawn before the run begins and kept in memory.
const ARRIVALS_MAX: f64 = 50_000_000.0;

impl Scenario {
    /// Reads and checks a scenario file.
    pub(crate) fn read(path: &Path) -> Result<Self, CannotRun> {
        let text = std::fs::read_to_string(path).doing(|| format!("read the scenario {}", path.display()))?;
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(text: &str, origin: &str) -> Result<Self, CannotRun> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| place_in(text, span.start)).unwrap_or_default();
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            CannotRun::because(format!("{origin} is not a scenario: {message}{place}"))
        })?;
        scenario.validate(origin)?;
        Ok(scenario)
    }

    /// Names every fault of the scenario, in file order.
    pub(crate) fn validate(&self, origin: &str) -> Result<(), CannotRun> {
        let faults = self.fault_list();
        if faults.is_empty() {
            return Ok(());
        }
        let count = faults.len();
        Err(CannotRun::because(format!(
            "{origin} has {count} fault{}: {}",
            if count == 1 { "" } else { "s" },
            faults.join("; ")
        )))
    }

    fn fault_list(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut need = |good: bool, sentence: String| {
            if !good {
                faults.push(sentence);
            }
        };
        need(!self.name.trim().is_empty(), "name is empty".into());
        // Five is the least that a Berth programme may say.
        need((5..=3_600).contains(&self.server.hold_seconds), "server.hold_seconds is not within 5..=3600".into());
        need((1..=16).contains(&self.server.group_claims_max), "server.group_claims_max is not within 1..=16".into());
        need(self.population.parties >= 4, "population.parties is under 4".into());
        need(
            (0.0..=3.0).contains(&self.population.district_skew),
            "population.district_skew is not within 0.0..=3.0".into(),
        );
        if let Some(shape) = &self.inventory {
            for (field, value, most) in [
                ("districts", shape.districts, 5_000),
                ("centres_per_district", shape.centres_per_district, 1_000),
                ("days", shape.days, 28),
                ("windows_per_day", shape.windows_per_day, 12),
            ] {
                need((1..=most).contains(&value), format!("inventory.{field} is not within 1..={most}"));
            }
            need(!shape.pools.is_empty(), "inventory.pools is empty".into());
            for (pool, units) in &shape.pools {
                need((1..=100_000).contains(units), format!("inventory.pools.{pool} is not within 1..=100000"));
            }
        }
        need(self.behaviours.values().any(|&weight| weight > 0), "behaviours give nobody a weight".into());
        need(!self.arrivals.is_empty(), "arrivals has no phase".into());
        for phase in &self.arrivals {
            need(
                phase.is_sound(),
                format!(
                    "arrivals phase {:?} has a rate or a time that is not a number from 0 up, or nobody comes",
                    phase.name()
                ),
            );
        }
        let people: f64 = self.arrivals.iter().filter(|phase| phase.is_sound()).map(Phase::people).sum();
        need(
            people <= ARRIVALS_MAX,
            format!("arrivals bring {people:.0} people in all, more than the {ARRIVALS_MAX:.0} a plan can hold"),
        );
        for (index, fault) in self.faults.iter().enumerate() {
            for wrong in fault.wrong(self.driver.workers) {
                need(false, format!("faults[{index}]{wrong}"));
            }
            need(fault.redis.is_none() || self.redis.is_some(), format!("faults[{index}].redis needs a [redis]"));
            need(fault.disk.is_none() || self.disk.is_some(), format!("faults[{index}].disk needs a [disk]"));
        }
        for (field, value) in [("segment_mib", self.server.segment_mib), ("buffer_mib", self.server.buffer_mib)] {
            need(value.is_none_or(|mib| (1..=4_096).contains(&mib)), format!("server.{field} is not within 1..=4096"));
        }
        need(
            self.server.snapshot_every_seconds.is_none_or(|seconds| (0.1..=3_600.0).contains(&seconds)),
            "server.snapshot_every_seconds is not within 0.1..=3600".into(),
        );
        need(
            self.server.cpu_share.is_none_or(|share| (0.01..=1.0).contains(&share)),
            "server.cpu_share is not within 0.01..=1".into(),
        );
        let phases: Vec<(&str, f64)> = self.arrivals.iter().map(|phase| (phase.name(), phase.seconds())).collect();
        for wrong in self.overload.iter().flat_map(|overload| overload.wrong(&phases)) {
            need(false, wrong);
        }
        if let Some(disk) = &self.disk {
            need((8..=4_096).contains(&disk.mib), "disk.mib is not within 8..=4096".into());
        }
        need((1..=10_000).contains(&self.driver.workers), "driver.workers is not within 1..=10000".into());
        need(self.driver.think_ms[0] <= self.driver.think_ms[1], "driver.think_ms runs backwards".into());
        need(self.driver.attempts_max >= 1, "driver.attempts_max is 0".into());
        need((0.0..=1.0).contains(&self.driver.late_share_max), "driver.late_share_max is not within 0..=1".into());
        need(self.driver.drop_after_seconds > 0.0, "driver.drop_after_seconds is not above 0".into());
        need(self.driver.seconds_max >= 1, "driver.seconds_max is 0".into());
        need(!self.audit.promises.is_empty(), "audit.promises is empty, so nothing would be judged".into());
        faults
    }

    /// The same scenario with fewer or more people, units and bookings before a kill; times stay.
    pub(crate) fn scaled(mut self, factor: f64) -> Self {
        self.population.parties = scale_count(self.population.parties, factor).max(4);
        if let Some(shape) = &mut self.inventory {
            for units in shape.pools.values_mut() {
                *units = scale_count(*units, factor).max(1);
            }
        }
        for phase in &mut self.arrivals {
            match phase {
                Phase::Constant { per_second, .. } => *per_second *= factor,
                Phase::Ramp { from_per_second, to_per_second, .. } => {
                    *from_per_second *= factor;
                    *to_per_second *= factor;
                }
                Phase::Spike { people, .. } => *people = scale_count(*people, factor),
            }
        }
        for fault in &mut self.faults {
            fault.after_bookings = fault.after_bookings.map(|bookings| scale_big(bookings, factor));
        }
        self.audit.acknowledged_bookings_min = scale_big(self.audit.acknowledged_bookings_min, factor);
        self
    }
}

impl Phase {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Constant { phase, .. } | Self::Ramp { phase, .. } | Self::Spike { phase, .. } => phase,
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        match self {
            Self::Constant { seconds, .. } | Self::Ramp { seconds, .. } | Self::Spike { seconds, .. } => *seconds,
        }
    }

    /// About how many people come.
    fn people(&self) -> f64 {
        match *self {
            Self::Constant { per_second, seconds, .. } => per_second * seconds,
            Self::Ramp { from_per_second, to_per_second, seconds, .. } => {
                f64::midpoint(from_per_second, to_per_second) * seconds
            }
            Self::Spike { people, .. } => f64::from(people),
        }
    }

    fn is_sound(&self) -> bool {
        let good = |value: f64| value.is_finite() && (0.0..=10_000_000.0).contains(&value);
        match *self {
            Self::Constant { per_second, seconds, .. } => good(per_second) && good(seconds) && seconds > 0.0,
            Self::Ramp { from_per_second, to_per_second, seconds, .. } => {
                good(from_per_second) && good(to_per_second) && good(seconds) && seconds > 0.0
            }
            Self::Spike { people, seconds, .. } => people > 0 && good(seconds),
        }
    }
}

/// Line and column of a byte, in words; columns count characters.
fn place_in(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(" (line {line}, column {column})")
}

fn scale_count(count: u32, factor: f64) -> u32 {
    u32::try_from(scale_big(u64::from(count), factor)).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rounded count of people or units"
)]
fn scale_big(count: u64, factor: f64) -> u64 {
    (count as f64 * factor).round().max(0.0) as u64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SMALL: &str = r#"
        name = "small"
        [population]
        parties = 400
        [inventory]
        districts = 3
        centres_per_district = 2
        days = 1
        windows_per_day = 2
        product = "covishield"
        pools = { dose1 = 5 }
        [behaviours]
        book = 3
        browse = 1
        [[arrivals]]
        kind = "constant"
        phase = "day"
        per_second = 50.0
        seconds = 2.0
        [[arrivals]]
        kind = "spike"
        phase = "opening"
        people = 30
    "#;

    #[test]
    fn a_small_scenario_reads_with_its_defaults() {
        let scenario: Scenario = toml::from_str(SMALL).unwrap();
        scenario.validate("small").unwrap();
        assert_eq!(scenario.driver.workers, 400);
        assert_eq!(scenario.audit.promises, Promise::all());
    }

    #[test]
    fn an_unknown_field_is_an_error_that_names_it() {
        let text = SMALL.replace("parties = 400", "parties = 400\n partys = 3");
        let error = Scenario::parse(&text, "small").unwrap_err().to_string();
        assert!(error.starts_with("small is not a scenario: unknown field `partys`"), "{error}");
        assert!(error.ends_with("(line 5, column 2)"), "{error}");
        let text = SMALL.replace("people = 30", "people = 30\n per_second = 3");
        assert!(toml::from_str::<Scenario>(&text).is_err());
    }

    #[test]
    fn a_file_that_is_no_toml_is_one_sentence_with_its_place() {
        for text in [SMALL.replace("parties = 400", "parties = "), SMALL.replace("parties = 400", "parties = \"é\"")] {
            let error = Scenario::parse(&text, "small").unwrap_err().to_string();
            assert!(!error.contains('\n') && error.contains("(line 4, column "), "{error}");
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = SMALL
            .replace("parties = 400", "parties = 1")
            .replace("dose1 = 5", "dose1 = 0")
            .replace("seconds = 2.0", "seconds = -2.0");
        let text = format!("{text}\n[[faults]]\nkill = \"plain\"\n");
        let scenario: Scenario = toml::from_str(&text).unwrap();
        let error = scenario.validate("small").unwrap_err().to_string();
        for part in ["4 faults", "population.parties", "inventory.pools.dose1", "\"day\"", "faults[0] needs one of"] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }

    #[test]
    fn a_hold_time_that_no_programme_may_have_is_a_fault() {
        let said = |seconds: u32| {
            let text = format!("{SMALL}\n[server]\nhold_seconds = {seconds}\n");
            toml::from_str::<Scenario>(&text).unwrap().validate("small").map_err(|error| error.to_string())
        };
        assert!(said(4).unwrap_err().contains("server.hold_seconds is not within 5..=3600"));
        said(5).unwrap();
    }

    #[test]
    fn more_people_than_a_plan_can_hold_are_a_fault() {
        let said = |phase: &str| {
            let text = format!("{SMALL}\n[[arrivals]]\nphase = \"many\"\n{phase}\n");
            toml::from_str::<Scenario>(&text).unwrap().validate("small").map_err(|error| error.to_string())
        };
        for phase in [
            "kind = \"constant\"\nper_second = 10000.0\nseconds = 5000.0",
            "kind = \"ramp\"\nfrom_per_second = 0.0\nto_per_second = 20000.0\nseconds = 5000.0",
            "kind = \"spike\"\npeople = 50000000",
        ] {
            // With the 130 of the others.
            assert!(said(phase).unwrap_err().contains("bring 50000130 people in all"), "{phase}");
        }
        said("kind = \"spike\"\npeople = 49999870").unwrap();
    }

    #[test]
    fn scaling_changes_people_and_units_but_no_times() {
        let scenario: Scenario = toml::from_str(SMALL).unwrap();
        let half = scenario.scaled(0.5);
        assert_eq!(half.population.parties, 200);
        assert_eq!(half.inventory.unwrap().pools["dose1"], 3);
        assert!(
            matches!(half.arrivals[0], Phase::Constant { per_second, seconds, .. } if per_second == 25.0 && seconds == 2.0)
        );
        assert!(matches!(half.arrivals[1], Phase::Spike { people: 15, .. }));
    }

    #[test]
    fn the_shipped_scenarios_are_sound() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let mut read = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                Scenario::read(&path).unwrap();
                read += 1;
            }
        }
        assert!(read >= 1);
    }
}
