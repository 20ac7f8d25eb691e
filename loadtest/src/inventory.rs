//! What is for sale: regions, centres and sessions, ready to be published as NDJSON.
//!
//! Two makers: [`from_shape`] counts out a scenario's inventory; [`crate::replay`] builds one from a campaign's series.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Serialize;

use crate::apportion::by_largest_remainder;
use crate::error::{CannotRun, Doing};
use crate::scenario::{FirstDay, InventoryShape, Population};

/// Everything a run publishes, and who lives where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) regions: Vec<Region>,
    pub(crate) centres: Vec<Centre>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) districts: Vec<District>,
    pub(crate) days: u32,
}

/// A district as the plan and the report need it.
#[derive(Clone, Debug)]
pub(crate) struct District {
    pub(crate) id: String,
    pub(crate) name: String,
    /// How many of the people live here, in any unit.
    pub(crate) weight: f64,
    pub(crate) units: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Region {
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Centre {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) district: String,
    pub(crate) pincode: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) centre: String,
    pub(crate) date: String,
    pub(crate) product: String,
    pub(crate) windows: Vec<Window>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min_age: Option<u32>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Window {
    pub(crate) start: String,
    pub(crate) end: String,
    pub(crate) pools: BTreeMap<String, u64>,
}

/// What was published: session, then pool, to the units of each of its windows, the smallest first.
pub(crate) type Published = BTreeMap<String, BTreeMap<String, Vec<u64>>>;

impl Inventory {
    /// What the run publishes, to be compared with what the server then says it has.
    pub(crate) fn published(&self) -> Published {
        let mut published = Published::new();
        for session in &self.sessions {
            let pools = published.entry(session.id.clone()).or_default();
            for (pool, &units) in session.windows.iter().flat_map(|window| &window.pools) {
                pools.entry(pool.clone()).or_default().push(units);
            }
            pools.values_mut().for_each(|units| units.sort_unstable());
        }
        published
    }

    /// All units for sale.
    pub(crate) fn units(&self) -> u64 {
        self.sessions.iter().flat_map(|session| &session.windows).flat_map(|window| window.pools.values()).sum()
    }

    pub(crate) fn slots(&self) -> usize {
        self.sessions.iter().flat_map(|session| &session.windows).map(|window| window.pools.len()).sum()
    }

    /// Each session's district, by its place in `districts`.
    pub(crate) fn sessions_by_district(&self) -> BTreeMap<String, usize> {
        let places: BTreeMap<&str, usize> =
            self.districts.iter().enumerate().map(|(place, district)| (district.id.as_str(), place)).collect();
        let centres: BTreeMap<&str, usize> = self
            .centres
            .iter()
            .filter_map(|centre| Some((centre.id.as_str(), *places.get(centre.district.as_str())?)))
            .collect();
        self.sessions
            .iter()
            .filter_map(|session| Some((session.id.clone(), *centres.get(session.centre.as_str())?)))
            .collect()
    }

    /// Puts a run's mark before every name, so that it meets nothing that is there already.
    pub(crate) fn mark_as(&mut self, mark: &str) {
        let name = |id: &mut String| *id = format!("{mark}-{id}");
        for region in &mut self.regions {
            name(&mut region.id);
            region.parent.iter_mut().for_each(name);
        }
        self.districts.iter_mut().for_each(|district| name(&mut district.id));
        for centre in &mut self.centres {
            name(&mut centre.id);
            name(&mut centre.district);
        }
        for session in &mut self.sessions {
            name(&mut session.id);
            name(&mut session.centre);
        }
    }

    /// Each session with its centre and its date, in the order of publishing.
    pub(crate) fn sessions_with_centres(&self) -> Vec<[String; 3]> {
        let of = |session: &Session| [session.id.clone(), session.centre.clone(), session.date.clone()];
        self.sessions.iter().map(of).collect()
    }

    pub(crate) fn weights(&self) -> Vec<f64> {
        self.districts.iter().map(|district| district.weight).collect()
    }
}

/// The time zone of the programme, and the first day for sale.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    pub(crate) zone: String,
    pub(crate) first_day: Date,
}

/// Where the programme is at home, unless the day has to be young.
const ZONE: &str = "Asia/Kolkata";

impl Calendar {
    /// Tomorrow in the programme's zone is never past a booking cut-off and always within the horizon. Today is so only where
    /// the day has just begun, so the programme then lives in a zone where it is one o'clock in the night.
    pub(crate) fn of(first_day: FirstDay) -> Result<Self, CannotRun> {
        let now = jiff::Timestamp::now();
        let zone = match first_day {
            FirstDay::Tomorrow => ZONE.to_owned(),
            FirstDay::Today => night_zone(now.as_second().div_euclid(3_600).rem_euclid(24)),
        };
        let here = now.in_tz(&zone).doing(|| format!("find the time zone {zone}"))?.date();
        let first_day = match first_day {
            FirstDay::Tomorrow => here.tomorrow().doing(|| "find tomorrow".into())?,
            FirstDay::Today => here,
        };
        Ok(Self { zone, first_day })
    }
}

/// The zone in which it is one o'clock when it is `hour` in UTC. The names of these count westward.
fn night_zone(hour: i64) -> String {
    let east = (1 - hour + 11).rem_euclid(24) - 11;
    match east {
        0 => "Etc/GMT".into(),
        1.. => format!("Etc/GMT-{east}"),
        _ => format!("Etc/GMT+{}", -east),
    }
}

/// The windows of a day, from nine o'clock, each an hour long.
pub(crate) fn window(index: u32, pools: BTreeMap<String, u64>) -> Window {
    Window { start: format!("{:02}:00", 9 + index), end: format!("{:02}:00", 10 + index), pools }
}

/// A pincode for the n-th district: six digits, the same for all its centres.
pub(crate) fn pincode(district_index: usize) -> String {
    format!("{:06}", 110_001 + district_index)
}

/// Counts out a scenario's inventory for so many people. Districts are of one size in units, and uneven in people, so that
/// some run out at once and others late.
pub(crate) fn from_shape(
    shape: &InventoryShape,
    population: &Population,
    people: f64,
    first_day: Date,
) -> Result<Inventory, CannotRun> {
    let state = Region { id: "surge".into(), kind: "state", name: "Surge".into(), parent: None };
    let mut inventory = Inventory { regions: vec![state], days: shape.days, ..Inventory::default() };
    let pools: BTreeMap<String, u64> =
        shape.pools.iter().map(|(pool, &units)| (pool.clone(), u64::from(units))).collect();
    let windows = shape.centres_per_district * shape.days * shape.windows_per_day;
    let equal = vec![1; usize::try_from(shape.districts).unwrap_or(0)];
    let scarce = shape.seekers_per_slot.map(|seekers| by_largest_remainder(units_for(people, seekers), &equal));
    for (district, weight) in (1..=shape.districts).zip(weights(shape.districts, population)) {
        let id = format!("d{district:03}");
        let name = format!("District {district}");
        inventory.regions.push(Region {
            id: id.clone(),
            kind: "district",
            name: name.clone(),
            parent: Some("surge".into()),
        });
        // The units of each window and pool, window by window.
        let cells: Vec<u64> = (0..windows).flat_map(|_| pools.values().copied()).collect();
        let index = usize::try_from(district - 1).unwrap_or(0);
        let cells = match scarce.as_ref().and_then(|scarce| scarce.get(index)) {
            Some(&units) => by_largest_remainder(units, &cells),
            None => cells,
        };
        inventory.districts.push(District { id: id.clone(), name, weight, units: cells.iter().sum() });
        let mut cells = cells.into_iter();
        for number in 1..=shape.centres_per_district {
            let centre = format!("{id}-c{number:03}");
            inventory.centres.push(Centre {
                id: centre.clone(),
                name: format!("Centre {number} of district {district}"),
                district: id.clone(),
                pincode: pincode(inventory.districts.len()),
            });
            for day in 0..shape.days {
                let date = first_day
                    .checked_add(jiff::Span::new().days(i64::from(day)))
                    .doing(|| "count the days on sale".into())?
                    .to_string();
                let windows: Vec<Window> = (0..shape.windows_per_day)
                    .map(|index| {
                        let units = pools.keys().cloned().zip(cells.by_ref().take(pools.len()));
                        window(index, units.filter(|(_, units)| *units > 0).collect())
                    })
                    .filter(|window| !window.pools.is_empty())
                    .collect();
                if windows.is_empty() {
                    continue;
                }
                inventory.sessions.push(Session {
                    id: format!("{centre}-{date}"),
                    centre: centre.clone(),
                    date,
                    product: shape.product.clone(),
                    windows,
                    min_age: shape.min_age,
                });
            }
        }
    }
    Ok(inventory)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of units, checked by validate()")]
fn units_for(people: f64, seekers: f64) -> u64 {
    (people / seekers).round().max(1.0) as u64
}

/// How many of the people live in each district: by name, and what is for the others by how popular they are.
fn weights(districts: u32, population: &Population) -> Vec<f64> {
    let own = |district: u32| f64::from(district).powf(-population.district_skew);
    let named = |district: u32| population.regions.get(&format!("d{district:03}")).copied();
    if population.regions.is_empty() {
        return (1..=districts).map(own).collect();
    }
    let others = population.regions.get("others").copied().unwrap_or(0.0);
    let sum: f64 = (1..=districts).filter(|&district| named(district).is_none()).map(own).sum();
    (1..=districts)
        .map(|district| named(district).unwrap_or_else(|| others * own(district) / sum.max(f64::MIN_POSITIVE)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, tests::SMALL};

    fn shaped(scenario: &Scenario, people: f64) -> Inventory {
        let shape = scenario.inventory.as_ref().unwrap();
        from_shape(shape, &scenario.population, people, jiff::civil::date(2026, 11, 24)).unwrap()
    }

    #[test]
    fn scarcity_says_how_many_units_there_are() {
        let mut scenario: Scenario = toml::from_str(SMALL).unwrap();
        scenario.inventory.as_mut().unwrap().seekers_per_slot = Some(13.0);
        let inventory = shaped(&scenario, 130.0);
        assert_eq!(inventory.units(), 10);
        let by_district: Vec<u64> = inventory.districts.iter().map(|district| district.units).collect();
        assert_eq!(by_district, [4, 3, 3]);
        // No window and no session without a unit is published.
        assert!(inventory.sessions.iter().all(|session| !session.windows.is_empty()));
        scenario.inventory.as_mut().unwrap().seekers_per_slot = Some(1_000.0);
        assert_eq!(shaped(&scenario, 130.0).units(), 1);
    }

    #[test]
    fn a_mark_is_before_every_name_and_all_still_fit() {
        let scenario: Scenario = toml::from_str(SMALL).unwrap();
        let mut inventory = shaped(&scenario, 130.0);
        let before = inventory.sessions_by_district();
        inventory.mark_as("run7");
        assert_eq!(inventory.sessions[0].id, "run7-d001-c001-2026-11-24");
        assert_eq!(inventory.regions[1].parent.as_deref(), Some("run7-surge"));
        let after = inventory.sessions_by_district();
        assert!(before.values().eq(after.values()) && after.keys().all(|session| session.starts_with("run7-")));
    }

    #[test]
    fn regions_have_their_shares() {
        let mut scenario: Scenario = toml::from_str(SMALL).unwrap();
        scenario.population.regions = [("d002".into(), 6.0), ("others".into(), 4.0)].into();
        scenario.population.district_skew = 0.0;
        let weights = shaped(&scenario, 130.0).weights();
        assert!((weights[0] - 2.0).abs() < 1e-9 && (weights[1] - 6.0).abs() < 1e-9 && (weights[2] - 2.0).abs() < 1e-9);
    }

    #[test]
    fn where_the_day_is_young_it_is_one_o_clock() {
        for hour in 0..24_i8 {
            let now: jiff::Timestamp = format!("2026-11-26T{hour:02}:30:00Z").parse().unwrap();
            let zone = night_zone(hour.into());
            assert_eq!(now.in_tz(&zone).unwrap().hour(), 1, "{zone}");
        }
        let today = Calendar::of(FirstDay::Today).unwrap();
        assert!(today.zone.starts_with("Etc/GMT"));
    }

    #[test]
    fn a_shape_is_counted_out() {
        let scenario: Scenario = toml::from_str(SMALL).unwrap();
        let inventory = shaped(&scenario, 130.0);
        assert_eq!((inventory.regions.len(), inventory.centres.len(), inventory.sessions.len()), (4, 6, 6));
        assert_eq!((inventory.slots(), inventory.units()), (12, 60));
        assert_eq!(inventory.districts.iter().map(|district| district.units).sum::<u64>(), 60);
        assert!(inventory.districts[0].weight > inventory.districts[2].weight);
        assert_eq!(inventory.sessions[0].id, "d001-c001-2026-11-24");
        assert_eq!(inventory.sessions[0].windows[1].start, "10:00");
        let published = inventory.published();
        assert_eq!(published.len(), 6);
        assert_eq!(published["d001-c001-2026-11-24"]["dose1"], [5, 5]);
    }
}
