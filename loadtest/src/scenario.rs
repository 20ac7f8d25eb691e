//! A scenario as an SRE writes it: the TOML, its defaults, and every fault of it named at once.
//!
//! Nothing here acts. [`crate::plan`] turns a scenario and a seed into arrivals, [`crate::inventory`] into what is for
//! sale.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::audit::Promise;
use crate::fault::Fault;

pub(crate) use self::behaviour::{Behaviour, Manner};
pub(crate) use self::load::all_words;
pub(crate) use self::objective::Objective;
pub(crate) use self::overload::Overload;
pub(crate) use self::phase::Phase;

mod behaviour;
mod check;
mod document;
mod load;
mod objective;
mod overload;
mod phase;
mod scale;

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
    pub(crate) behaviours: BTreeMap<Behaviour, Manner>,
    pub(crate) arrivals: Vec<Phase>,
    #[serde(default)]
    pub(crate) faults: Vec<Fault>,
    /// What is wanted beside the promises.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) objectives: Vec<Objective>,
    /// What `--small` makes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) small: Option<Small>,
    /// Too many come for the CPU that the server has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) overload: Option<Overload>,
    #[serde(default)]
    pub(crate) driver: Driver,
    #[serde(default)]
    pub(crate) audit: Audit,
}

/// The small version of a scenario: under a minute, for every change.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Small {
    /// As `--scale`.
    pub(crate) scale: f64,
    /// As `--times`.
    pub(crate) times: f64,
}

impl Default for Small {
    fn default() -> Self {
        Self { scale: 1.0, times: 1.0 }
    }
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
    /// Fields of the programme over those of the rehearsal's own.
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub(crate) programme: toml::Table,
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
            programme: toml::Table::new(),
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
    /// District to its share of the people, in any unit; `others` is for all that are not named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) regions: BTreeMap<String, f64>,
    /// How many accounts the people come by, each with as many people; default none is named to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accounts: Option<u32>,
    /// Size of a family to how common it is. Default 2 to 4, or the largest group, all alike.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) family_sizes: BTreeMap<String, f64>,
    /// Age in years to how common it is. Default everybody was born in 1980.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) ages: BTreeMap<String, f64>,
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
    /// So many people come for each unit: then `pools` only says how the units are shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seekers_per_slot: Option<f64>,
    /// Who is younger is not eligible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min_age: Option<u32>,
    #[serde(default)]
    pub(crate) first_day: FirstDay,
    /// Everything is closed until so long after the first person came. Default it is open from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) opens_at_seconds: Option<f64>,
}

/// The first day for sale.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FirstDay {
    /// Nobody can be at a door yet.
    #[default]
    Tomorrow,
    /// The doors are open: the programme's time zone is one in which the day has just begun.
    Today,
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

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

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
    fn a_behaviour_is_a_weight_or_a_table_and_has_the_names_people_give_it() {
        let behaviours = "[behaviours]\nbrowser = 2\nrefresher = { weight = 3, think_ms = [5, 9] }\n";
        let scenario: Scenario = toml::from_str(
            &SMALL.replace("book = 3", "").replace("browse = 1", "").replace("[behaviours]", behaviours),
        )
        .unwrap();
        assert_eq!(scenario.behaviours[&Behaviour::Browse], Manner::of(2));
        assert_eq!(scenario.behaviours[&Behaviour::Refresher], Manner { weight: 3, think_ms: Some([5, 9]) });
    }

    #[test]
    fn scaling_changes_people_and_units_and_only_what_it_is_told_to_of_times() {
        let text = format!("{SMALL}\n[[faults]]\nkill = \"plain\"\nat_seconds = 1.0\n");
        let scenario: Scenario = toml::from_str(&text).unwrap();
        let half = scenario.clone().scaled(0.5, 1.0);
        assert_eq!(half.population.parties, 200);
        assert_eq!(half.inventory.unwrap().pools["dose1"], 3);
        assert!(
            matches!(half.arrivals[0], Phase::Constant { per_second, seconds, .. } if per_second == 25.0 && seconds == 2.0)
        );
        assert!(matches!(half.arrivals[1], Phase::Spike { people: 15, .. }));
        assert_eq!(half.faults[0].at_seconds, Some(1.0));
        let short = scenario.scaled(1.0, 0.5);
        assert!(
            matches!(short.arrivals[0], Phase::Constant { per_second, seconds, .. } if per_second == 50.0 && seconds == 1.0)
        );
        assert_eq!((short.faults[0].at_seconds, short.population.parties), (Some(0.5), 200));
    }

    #[test]
    fn the_shipped_scenarios_are_sound_and_so_are_their_small_versions() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let mut read = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let scenario = Scenario::load(&path, &[]).map_err(|wrong| all_words(&wrong)).unwrap();
                let small = scenario.small.unwrap_or_default();
                scenario.scaled(small.scale, small.times).validate(&path.display().to_string()).unwrap();
                read += 1;
            }
        }
        assert!(read >= 20, "{read}");
    }
}
