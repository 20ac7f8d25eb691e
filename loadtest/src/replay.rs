//! One day of a real campaign as an inventory, and more people than it had doses.
//!
//! Units are exact: the day's doses times the scale, rounded once, are shared over the states by their doses and over a
//! state's districts alike, both by the largest remainder. The series has no doses by district, so districts of one state
//! are of one size; which ones get the odd unit is by the file's order.

use std::collections::BTreeMap;

use jiff::civil::Date;

use crate::apportion::by_largest_remainder;
use crate::audit::Promise;
use crate::error::CannotRun;
use crate::fault::Fault;
use crate::inventory::{Centre, District, Inventory, Region, Session, pincode, window};
use crate::scenario::{Audit, Behaviour, Driver, Manner, Phase, Population, Scenario, Server};
pub(crate) use crate::series::Series;
use crate::series::StateDay;

/// How many windows a centre's day has.
const WINDOWS: u32 = 4;
/// People look for a place even where there is none.
const WEIGHT_WITHOUT_UNITS: f64 = 0.2;

/// The day's inventory at `scale`, and notes that say how it came about.
pub(crate) fn inventory(series: &Series, scale: f64, on: Date) -> Result<(Inventory, Vec<String>), CannotRun> {
    let total = scaled(series.doses(), scale);
    if total == 0 {
        return Err(CannotRun::because(format!("{} doses at a scale of {scale} are no units", series.doses())));
    }
    let doses: Vec<u64> = series.states.iter().map(|state| state.doses).collect();
    let units = by_largest_remainder(total, &doses);
    let mut inventory = Inventory { days: 1, ..Inventory::default() };
    for (state, units) in series.states.iter().zip(units) {
        add_state(&mut inventory, state, units, scale, on);
    }
    let notes = notes(series, &inventory, scale);
    Ok((inventory, notes))
}

fn add_state(inventory: &mut Inventory, state: &StateDay, units: u64, scale: f64, on: Date) {
    let equal = vec![1; state.districts.len()];
    let shares = by_largest_remainder(units, &equal);
    // Sites go where there are doses to give.
    let with_units: Vec<u64> = shares.iter().map(|&share| u64::from(share > 0)).collect();
    let sites = by_largest_remainder(scaled(state.sites, scale), &with_units);
    for ((district, share), sites) in state.districts.iter().zip(shares).zip(sites) {
        let parent = format!("state-{}", district.state_id);
        if !inventory.regions.iter().any(|region| region.id == parent) {
            let region = Region { id: parent.clone(), kind: "state", name: district.state.clone(), parent: None };
            inventory.regions.push(region);
        }
        inventory.regions.push(Region {
            id: district.id.clone(),
            kind: "district",
            name: district.name.clone(),
            parent: Some(parent),
        });
        let weight = if share == 0 { WEIGHT_WITHOUT_UNITS } else { as_weight(share) };
        inventory.districts.push(District {
            id: district.id.clone(),
            name: district.name.clone(),
            weight,
            units: share,
        });
        if share > 0 {
            // At least one centre, and none without a unit.
            add_centres(inventory, &district.id, &district.name, share, sites.clamp(1, share), on);
        }
    }
}

fn add_centres(inventory: &mut Inventory, district: &str, name: &str, units: u64, centres: u64, on: Date) {
    let equal = vec![1; usize::try_from(centres).unwrap_or(1)];
    for (number, units) in (1..).zip(by_largest_remainder(units, &equal)) {
        let id = format!("c{district}-{number:02}");
        inventory.centres.push(Centre {
            id: id.clone(),
            name: format!("{name} {number}"),
            district: district.to_owned(),
            pincode: pincode(inventory.districts.len()),
        });
        let windows = (0..WINDOWS)
            .zip(by_largest_remainder(units, &[1; WINDOWS as usize]))
            .filter(|&(_, units)| units > 0)
            .map(|(index, units)| window(index, BTreeMap::from([("dose1".to_owned(), units)])))
            .collect();
        inventory.sessions.push(Session {
            id: format!("{id}-{on}"),
            centre: id,
            date: on.to_string(),
            product: "covishield".into(),
            windows,
            min_age: None,
        });
    }
}

fn notes(series: &Series, inventory: &Inventory, scale: f64) -> Vec<String> {
    let without = inventory.districts.iter().filter(|district| district.units == 0).count();
    let mut notes = vec![
        format!(
            "{}: {} doses in {} states, by the difference of two days' totals.",
            series.day,
            series.doses(),
            series.states.len()
        ),
        format!(
            "At a scale of {scale}: {} units in {} slots at {} centres; {} districts, {without} of them without a unit.",
            inventory.units(),
            inventory.slots(),
            inventory.centres.len(),
            inventory.districts.len()
        ),
        "Series: covid19india.org.".into(),
    ];
    if let Some(country) = series.country_doses {
        let sum = i128::from(series.doses());
        notes.insert(1, match i128::from(country) - sum {
            0 => format!("Check sum: the country's own row gained the same {country}."),
            difference => format!(
                "Check sum: the country's own row gained {country}, which differs from the states' sum by {difference:+}."
            ),
        });
    }
    notes
}

/// The people of a replay: more than there are units, in a ramp, a rush at the opening, and a long tail.
pub(crate) fn scenario(day: Date, inventory: &Inventory, people_per_slot: f64, seconds: f64, kill: bool) -> Scenario {
    let units = as_weight(inventory.units());
    let people = units * people_per_slot;
    let (ramp_seconds, tail_seconds) = (seconds * 0.2, seconds * 0.8);
    let ramp_people = people * 0.15;
    let behaviours = [
        (Behaviour::Book, 46),
        (Behaviour::Direct, 12),
        (Behaviour::Family, 8),
        (Behaviour::Abandon, 6),
        (Behaviour::Release, 4),
        (Behaviour::Retry, 6),
        (Behaviour::Twins, 4),
        (Behaviour::TwoDevices, 3),
        (Behaviour::Cancel, 4),
        (Behaviour::Move, 3),
        (Behaviour::Latecomer, 1),
        (Behaviour::Browse, 3),
    ];
    let fault = Fault::power_cut_after(scaled(inventory.units(), 0.35).max(1));
    Scenario {
        name: format!("replay-{day}"),
        about: String::new(),
        server: Server::default(),
        redis: None,
        disk: None,
        population: Population {
            parties: u32::try_from(scaled(inventory.units(), people_per_slot * 1.5)).unwrap_or(u32::MAX).max(1_000),
            district_skew: 0.0,
            regions: BTreeMap::new(),
            accounts: None,
            family_sizes: BTreeMap::new(),
            ages: BTreeMap::new(),
        },
        inventory: None,
        behaviours: behaviours.map(|(behaviour, weight)| (behaviour, Manner::of(weight))).into(),
        arrivals: vec![
            Phase::Ramp {
                phase: "before".into(),
                from_per_second: 0.0,
                to_per_second: 2.0 * ramp_people / ramp_seconds,
                seconds: ramp_seconds,
            },
            Phase::Spike {
                phase: "opening".into(),
                people: u32::try_from(scaled(inventory.units(), people_per_slot * 0.2)).unwrap_or(u32::MAX).max(1),
                seconds: (seconds * 0.05).max(1.0),
            },
            Phase::Constant { phase: "day".into(), per_second: people * 0.65 / tail_seconds, seconds: tail_seconds },
        ],
        faults: if kill { vec![fault] } else { Vec::new() },
        objectives: Vec::new(),
        small: None,
        overload: None,
        driver: Driver::default(),
        audit: Audit {
            promises: Promise::all(),
            settle: true,
            acknowledged_bookings_min: scaled(inventory.units(), 0.5).max(1),
        },
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rounded count of units, far below 2^53")]
fn scaled(count: u64, factor: f64) -> u64 {
    (as_weight(count) * factor).round().max(0.0) as u64
}

#[expect(clippy::cast_precision_loss, reason = "counts of a campaign are far below 2^53")]
fn as_weight(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::tests::{DISTRICTS, STATES, day, files};

    fn small(scale: f64) -> (Inventory, Vec<String>) {
        let files = files(STATES, DISTRICTS);
        let series = Series::read(&files.states, &files.districts, day()).unwrap();
        inventory(&series, scale, jiff::civil::date(2026, 11, 24)).unwrap()
    }

    fn units(inventory: &Inventory) -> BTreeMap<&str, u64> {
        inventory.districts.iter().map(|district| (district.id.as_str(), district.units)).collect()
    }

    #[test]
    fn units_are_exact_and_the_joint_row_goes_by_district() {
        let (inventory, notes) = small(0.01);
        assert_eq!(inventory.units(), 73);
        let by_district = units(&inventory);
        assert_eq!((by_district["10"] + by_district["11"], by_district["20"] + by_district["21"]), (40, 30));
        assert_eq!((by_district["30"], by_district["40"], by_district["41"]), (1, 1, 1));
        assert!(notes[1].contains("-200"), "{notes:?}");
    }

    #[test]
    fn every_district_is_listed_though_some_have_no_unit() {
        let (inventory, _) = small(0.001);
        assert_eq!(inventory.units(), 7);
        assert_eq!(inventory.districts.len(), 7);
        assert_eq!(inventory.regions.iter().filter(|region| region.kind == "district").count(), 7);
        assert_eq!(units(&inventory).values().filter(|&&units| units == 0).count(), 3);
        assert!(inventory.districts.iter().all(|district| district.weight > 0.0));
    }

    #[test]
    fn centres_come_from_the_sites_and_each_has_a_unit() {
        let (inventory, _) = small(0.01);
        // North has 4000 sites and 40 units: 40 centres at the most, one unit each.
        let north = inventory.centres.iter().filter(|centre| ["10", "11"].contains(&centre.district.as_str())).count();
        assert_eq!(north, 40);
        // South has 1000 sites, so 10 centres for 30 units.
        let south = inventory.centres.iter().filter(|centre| ["20", "21"].contains(&centre.district.as_str())).count();
        assert_eq!(south, 10);
        assert!(inventory.sessions.iter().all(|session| !session.windows.is_empty()));
        assert_eq!(inventory.sessions.len(), inventory.centres.len());
    }

    #[test]
    fn more_people_come_than_there_are_units() {
        let (inventory, _) = small(1.0);
        let scenario = scenario(day(), &inventory, 1.5, 40.0, true);
        scenario.validate("the replay").unwrap();
        let plan = crate::plan::Plan::draw(&scenario, &inventory.weights(), 1);
        // Each phase rounds its own people.
        assert!(u64::try_from(plan.arrivals.len()).unwrap().abs_diff(inventory.units() * 3 / 2) <= 2);
        assert_eq!(scenario.faults.len(), 1);
    }

    #[test]
    fn a_scale_that_leaves_nothing_is_an_error() {
        let files = files(STATES, DISTRICTS);
        let series = Series::read(&files.states, &files.districts, day()).unwrap();
        assert!(inventory(&series, 0.000_01, day()).is_err());
    }
}
