//! What is wrong with a scenario that can be read: ranges, and things that do not go together.

use super::{Phase, Scenario};
use crate::error::CannotRun;

/// The plan is drawn before the run begins and kept in memory.
const ARRIVALS_MAX: f64 = 50_000_000.0;

/// One thing that is wrong: where, in words, and what to do.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: String,
    pub(super) what: String,
    pub(super) hint: Option<String>,
}

/// What was found so far.
#[derive(Default)]
struct List(Vec<Found>);

impl List {
    /// `what` follows the path in words; an empty hint is none.
    fn need(&mut self, good: bool, path: &str, what: &str, hint: &str) {
        if !good {
            let hint = (!hint.is_empty()).then(|| hint.to_owned());
            self.0.push(Found { path: path.to_owned(), what: format!("{path} {what}"), hint });
        }
    }

    /// A sentence of its own about what stands at `path`.
    fn say(&mut self, path: &str, what: String, hint: &str) {
        self.0.push(Found { path: path.to_owned(), what, hint: (!hint.is_empty()).then(|| hint.to_owned()) });
    }
}

impl Scenario {
    /// Names every fault of the scenario in one error.
    pub(crate) fn validate(&self, origin: &str) -> Result<(), CannotRun> {
        let faults: Vec<String> = self.faults_found().into_iter().map(|found| found.what).collect();
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

    /// Every fault of the scenario, in about the order of the file.
    pub(super) fn faults_found(&self) -> Vec<Found> {
        let mut list = List::default();
        list.need(!self.name.trim().is_empty(), "name", "is empty", "the report is called by it");
        self.server_wrong(&mut list);
        self.population_wrong(&mut list);
        self.inventory_wrong(&mut list);
        let weighs = self.behaviours.values().any(|manner| manner.weight > 0);
        list.need(weighs, "behaviours", "give nobody a weight", "as book = 10");
        for (behaviour, manner) in &self.behaviours {
            let name = serde_json::to_value(behaviour).ok();
            let name = name.as_ref().and_then(|name| name.as_str()).unwrap_or_default();
            let path = format!("behaviours.{name}.think_ms");
            let forward = manner.think_ms.is_none_or(|[from, to]| from <= to);
            list.need(forward, &path, "runs backwards", "the shorter first");
        }
        self.arrivals_wrong(&mut list);
        self.faults_wrong(&mut list);
        self.driver_wrong(&mut list);
        if let Some(small) = self.small {
            for (field, value) in [("scale", small.scale), ("times", small.times)] {
                let path = format!("small.{field}");
                list.need(value > 0.0 && value <= 1.0, &path, "is not above 0 and up to 1", "as 0.05");
            }
        }
        let promises = !self.audit.promises.is_empty();
        list.need(promises, "audit.promises", "is empty, so nothing would be judged", "leave it out to judge all");
        list.0
    }

    fn server_wrong(&self, list: &mut List) {
        let server = &self.server;
        // Five is the least that a Berth programme may say.
        let hold = (5..=3_600).contains(&server.hold_seconds);
        list.need(hold, "server.hold_seconds", "is not within 5..=3600", "short, so that holds run out within the run");
        let group = (1..=16).contains(&server.group_claims_max);
        list.need(group, "server.group_claims_max", "is not within 1..=16", "the largest family");
        for (field, value) in [("segment_mib", server.segment_mib), ("buffer_mib", server.buffer_mib)] {
            let good = value.is_none_or(|mib| (1..=4_096).contains(&mib));
            list.need(good, &format!("server.{field}"), "is not within 1..=4096", "");
        }
        let every = server.snapshot_every_seconds.is_none_or(|seconds| (0.1..=3_600.0).contains(&seconds));
        list.need(every, "server.snapshot_every_seconds", "is not within 0.1..=3600", "");
        let share = server.cpu_share.is_none_or(|share| (0.01..=1.0).contains(&share));
        list.need(share, "server.cpu_share", "is not within 0.01..=1", "0.2 is a fifth of one CPU");
        if let Some(disk) = &self.disk {
            list.need((8..=4_096).contains(&disk.mib), "disk.mib", "is not within 8..=4096", "");
        }
    }

    fn population_wrong(&self, list: &mut List) {
        let people = &self.population;
        list.need(people.parties >= 4, "population.parties", "is under 4", "many times the largest family");
        let skew = (0.0..=3.0).contains(&people.district_skew);
        list.need(skew, "population.district_skew", "is not within 0.0..=3.0", "0 is even, 1 is Zipf's law");
        let accounts = people.accounts.is_none_or(|accounts| (1..=people.parties).contains(&accounts));
        list.need(accounts, "population.accounts", "is not within 1 and population.parties", "");
        for (field, weights) in
            [("regions", &people.regions), ("family_sizes", &people.family_sizes), ("ages", &people.ages)]
        {
            for (key, weight) in weights {
                let path = format!("population.{field}.{key}");
                list.need(weight.is_finite() && *weight >= 0.0, &path, "is not a share from 0 up", "any unit will do");
            }
            let some = weights.is_empty() || weights.values().sum::<f64>() > 0.0;
            list.need(some, &format!("population.{field}"), "gives nothing any weight", "");
        }
        for size in people.family_sizes.keys() {
            let good = size.parse::<u32>().is_ok_and(|size| (1..=self.server.group_claims_max).contains(&size));
            let path = format!("population.family_sizes.{size}");
            list.need(good, &path, "is not within 1 and server.group_claims_max", "as { 2 = 5, 3 = 3, 4 = 2 }");
        }
        for age in people.ages.keys() {
            let good = age.parse::<u32>().is_ok_and(|age| age <= 120);
            list.need(good, &format!("population.ages.{age}"), "is not within 0..=120", "as { 25 = 6, 67 = 4 }");
        }
        let districts = self.inventory.as_ref().map_or(0, |shape| shape.districts);
        for region in people.regions.keys().filter(|region| *region != "others") {
            let known = region.strip_prefix('d').and_then(|number| number.parse::<u32>().ok());
            let good = known.is_some_and(|number| (1..=districts).contains(&number));
            list.need(good, &format!("population.regions.{region}"), "is no district", "d001, d002 .. or others");
        }
    }

    fn inventory_wrong(&self, list: &mut List) {
        let Some(shape) = &self.inventory else { return };
        for (field, value, most) in [
            ("districts", shape.districts, 5_000),
            ("centres_per_district", shape.centres_per_district, 1_000),
            ("days", shape.days, 28),
            ("windows_per_day", shape.windows_per_day, 12),
        ] {
            let within = format!("is not within 1..={most}");
            list.need((1..=most).contains(&value), &format!("inventory.{field}"), &within, "");
        }
        list.need(!shape.pools.is_empty(), "inventory.pools", "is empty", "as { dose1 = 20, open = 5 }");
        for (pool, units) in &shape.pools {
            let path = format!("inventory.pools.{pool}");
            list.need((1..=100_000).contains(units), &path, "is not within 1..=100000", "units of each window");
        }
        let seekers = shape.seekers_per_slot.is_none_or(|seekers| (0.01..=1_000_000.0).contains(&seekers));
        list.need(seekers, "inventory.seekers_per_slot", "is not within 0.01..=1000000", "230 people for each unit");
        let age = shape.min_age.is_none_or(|age| age <= 120);
        list.need(age, "inventory.min_age", "is not within 0..=120", "");
        let opens = shape.opens_at_seconds.is_none_or(|at| (0.0..=86_400.0).contains(&at));
        list.need(opens, "inventory.opens_at_seconds", "is not within 0..=86400", "seconds after the first arrival");
    }

    fn arrivals_wrong(&self, list: &mut List) {
        list.need(!self.arrivals.is_empty(), "arrivals", "has no phase", "add an [[arrivals]] with a kind");
        for (index, phase) in self.arrivals.iter().enumerate() {
            if let Some(wrong) = phase.wrong() {
                let what = format!("arrivals phase {:?} {wrong}", phase.name());
                list.say(&format!("arrivals[{index}]"), what, "every rate and time is a number from 0 up");
            }
        }
        let sound = self.arrivals.iter().filter(|phase| phase.wrong().is_none());
        let people: f64 = sound.map(Phase::people).sum();
        if people > ARRIVALS_MAX {
            let what =
                format!("arrivals bring {people:.0} people in all, more than the {ARRIVALS_MAX:.0} a plan can hold");
            list.say("arrivals", what, "fewer per second, or --scale");
        }
        let phases: Vec<(&str, f64)> = self.arrivals.iter().map(|phase| (phase.name(), phase.seconds())).collect();
        for wrong in self.overload.iter().flat_map(|overload| overload.wrong(&phases)) {
            list.say("overload", wrong, "");
        }
        let names: Vec<&str> = phases.iter().map(|(name, _)| *name).collect();
        for (index, objective) in self.objectives.iter().enumerate() {
            for (field, what, hint) in objective.wrong(&names) {
                let path = format!("objectives[{index}]{field}");
                list.say(&path, format!("{path} {}", what.trim_start()), hint);
            }
        }
    }

    fn faults_wrong(&self, list: &mut List) {
        for (index, fault) in self.faults.iter().enumerate() {
            for (field, what, hint) in fault.wrong(self.driver.workers) {
                let dot = if field.is_empty() { "" } else { "." };
                list.need(false, &format!("faults[{index}]{dot}{field}"), what, hint);
            }
            let redis = fault.redis.is_none() || self.redis.is_some();
            list.need(redis, &format!("faults[{index}].redis"), "needs a [redis]", "an empty table will do");
            let disk = !fault.fills_disk() || self.disk.is_some();
            list.need(disk, &format!("faults[{index}].disk"), "needs a [disk]", "as [disk] mib = 64");
            let others = self.inventory.as_ref().is_none_or(|shape| shape.centres_per_district >= 2);
            let centre = fault.centre.is_none() || others;
            let hint = "its bookings have to go somewhere: inventory.centres_per_district = 2";
            list.need(centre, &format!("faults[{index}].centre"), "needs a second centre in the district", hint);
        }
    }

    fn driver_wrong(&self, list: &mut List) {
        let driver = &self.driver;
        let workers = (1..=10_000).contains(&driver.workers);
        list.need(workers, "driver.workers", "is not within 1..=10000", "as many as requests may be open at once");
        list.need(driver.think_ms[0] <= driver.think_ms[1], "driver.think_ms", "runs backwards", "the shorter first");
        list.need(driver.attempts_max >= 1, "driver.attempts_max", "is 0", "1 sends once and never again");
        let late = (0.0..=1.0).contains(&driver.late_share_max);
        list.need(late, "driver.late_share_max", "is not within 0..=1", "1 forgives every late start");
        list.need(driver.drop_after_seconds > 0.0, "driver.drop_after_seconds", "is not above 0", "");
        list.need(driver.seconds_max >= 1, "driver.seconds_max", "is 0", "the drive is cut off there");
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::SMALL;
    use super::*;

    fn said(text: &str) -> Result<(), String> {
        toml::from_str::<Scenario>(text).unwrap().validate("small").map_err(|error| error.to_string())
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = SMALL
            .replace("parties = 400", "parties = 1")
            .replace("dose1 = 5", "dose1 = 0")
            .replace("seconds = 2.0", "seconds = -2.0");
        let error = said(&format!("{text}\n[[faults]]\nkill = \"plain\"\n")).unwrap_err();
        for part in ["4 faults", "population.parties", "inventory.pools.dose1", "\"day\"", "faults[0] needs one of"] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }

    #[test]
    fn a_hold_time_that_no_programme_may_have_is_a_fault() {
        let with = |seconds: u32| said(&format!("{SMALL}\n[server]\nhold_seconds = {seconds}\n"));
        assert!(with(4).unwrap_err().contains("server.hold_seconds is not within 5..=3600"));
        with(5).unwrap();
    }

    #[test]
    fn more_people_than_a_plan_can_hold_are_a_fault() {
        let with = |phase: &str| said(&format!("{SMALL}\n[[arrivals]]\nphase = \"many\"\n{phase}\n"));
        for phase in [
            "kind = \"constant\"\nper_second = 10000.0\nseconds = 5000.0",
            "kind = \"ramp\"\nfrom_per_second = 0.0\nto_per_second = 20000.0\nseconds = 5000.0",
            "kind = \"spike\"\npeople = 50000000",
        ] {
            // With the 130 of the others.
            assert!(with(phase).unwrap_err().contains("bring 50000130 people in all"), "{phase}");
        }
        with("kind = \"spike\"\npeople = 49999870").unwrap();
    }

    #[test]
    fn what_does_not_go_together_is_a_fault() {
        for (text, part) in [
            ("[[faults]]\ncentre = \"close\"\nat_seconds = 1.0", ""),
            ("[[faults]]\nredis = \"stop\"\nat_seconds = 1.0\nfor_seconds = 1.0", "faults[0].redis needs a [redis]"),
            ("[[faults]]\ndisk = \"fill\"\nat_seconds = 1.0\nfor_seconds = 1.0", "faults[0].disk needs a [disk]"),
            ("[[faults]]\ndisk = \"slow\"\nat_seconds = 1.0\nfor_seconds = 1.0", ""),
            ("[[objectives]]\nphase = \"night\"\np99_ms = 5.0", "objectives[0].phase names no phase"),
            ("[[objectives]]\nphase = \"day\"", "objectives[0] asks for nothing"),
            ("[[objectives]]\np99_ms = 0.0", "objectives[0].p99_ms is not a number above 0"),
            ("[[objectives]]\nshare_max = { full = 1.5 }", "objectives[0].share_max.full is not within 0..=1"),
            ("[small]\nscale = 2.0", "small.scale is not above 0"),
        ] {
            let said = said(&format!("{SMALL}\n{text}\n"));
            match part {
                "" => said.unwrap(),
                part => assert!(said.unwrap_err().contains(part), "{text}"),
            }
        }
        let people = |text: &str| said(&SMALL.replace("parties = 400", &format!("parties = 400\n{text}")));
        for (text, part) in [
            ("regions = { d004 = 1.0 }", "population.regions.d004 is no district"),
            ("regions = { d001 = 0.0 }", "population.regions gives nothing any weight"),
            ("family_sizes = { 9 = 1.0 }", "population.family_sizes.9 is not within"),
            ("ages = { 130 = 1.0 }", "population.ages.130 is not within 0..=120"),
            ("accounts = 401", "population.accounts is not within"),
        ] {
            assert!(people(text).unwrap_err().contains(part), "{text}");
        }
        people("regions = { d001 = 5.0, others = 1.0 }\nages = { 30 = 1.0 }\nfamily_sizes = { 2 = 1.0 }").unwrap();
    }
}
