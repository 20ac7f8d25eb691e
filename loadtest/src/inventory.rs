//! What is for sale: regions, centres and sessions, ready to be published as NDJSON.
//!
//! Two makers: [`from_shape`] counts out a scenario's inventory; [`crate::replay`] builds one from a campaign's series.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Serialize;

use crate::error::{CannotRun, Doing};
use crate::scenario::InventoryShape;

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

    pub(crate) fn weights(&self) -> Vec<f64> {
        self.districts.iter().map(|district| district.weight).collect()
    }
}

/// Tomorrow in the programme's zone: never past a booking cut-off, always within the horizon.
pub(crate) fn first_day(zone: &str) -> Result<Date, CannotRun> {
    let now = jiff::Timestamp::now().in_tz(zone).doing(|| format!("find the time zone {zone}"))?;
    now.date().tomorrow().doing(|| "find tomorrow".into())
}

/// The windows of a day, from nine o'clock, each an hour long.
pub(crate) fn window(index: u32, pools: BTreeMap<String, u64>) -> Window {
    Window { start: format!("{:02}:00", 9 + index), end: format!("{:02}:00", 10 + index), pools }
}

/// A pincode for the n-th district: six digits, the same for all its centres.
pub(crate) fn pincode(district_index: usize) -> String {
    format!("{:06}", 110_001 + district_index)
}

/// Counts out a scenario's inventory. Districts are of one size in units, and uneven in people by `skew`, so that some
/// run out at once and others late.
pub(crate) fn from_shape(shape: &InventoryShape, skew: f64, first_day: Date) -> Result<Inventory, CannotRun> {
    let state = Region { id: "surge".into(), kind: "state", name: "Surge".into(), parent: None };
    let mut inventory = Inventory { regions: vec![state], days: shape.days, ..Inventory::default() };
    let pools: BTreeMap<String, u64> =
        shape.pools.iter().map(|(pool, &units)| (pool.clone(), u64::from(units))).collect();
    for district in 1..=shape.districts {
        let id = format!("d{district:03}");
        let name = format!("District {district}");
        inventory.regions.push(Region {
            id: id.clone(),
            kind: "district",
            name: name.clone(),
            parent: Some("surge".into()),
        });
        let slots_each = u64::from(shape.centres_per_district * shape.days * shape.windows_per_day);
        inventory.districts.push(District {
            id: id.clone(),
            name,
            weight: f64::from(district).powf(-skew),
            units: slots_each * pools.values().sum::<u64>(),
        });
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
                inventory.sessions.push(Session {
                    id: format!("{centre}-{date}"),
                    centre: centre.clone(),
                    date,
                    product: shape.product.clone(),
                    windows: (0..shape.windows_per_day).map(|index| window(index, pools.clone())).collect(),
                });
            }
        }
    }
    Ok(inventory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, tests::SMALL};

    #[test]
    fn a_shape_is_counted_out() {
        let scenario: Scenario = toml::from_str(SMALL).unwrap();
        let inventory = from_shape(&scenario.inventory.unwrap(), 1.0, jiff::civil::date(2026, 11, 24)).unwrap();
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
