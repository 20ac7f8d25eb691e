//! Where centres are, how far apart, and which are near a point.
//!
//! A [`Grid`] of quarter degrees holds the positions: a search looks into the cells that its circle can touch and
//! measures what lies in them. Centres are some hundred thousand in a nation and never move, so more is not needed.

use std::collections::HashMap;

use crate::catalogue::CentreIndex;

/// The Earth's mean radius, IUGG.
const EARTH_RADIUS_M: f64 = 6_371_008.8;
const DEGREE_E6: i32 = 1_000_000;
/// The edge of a cell.
const CELL_E6: i32 = DEGREE_E6 / 4;
const CELLS_AROUND: i32 = 360 * DEGREE_E6 / CELL_E6;

/// A point on the Earth, in millionths of a degree: a tenth of a metre.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    latitude_e6: i32,
    longitude_e6: i32,
}

impl Position {
    /// `None` if that is no place on Earth.
    #[must_use]
    pub fn from_degrees(latitude: f64, longitude: f64) -> Option<Position> {
        Position::from_e6(in_e6(latitude)?, in_e6(longitude)?)
    }

    /// The same of millionths of a degree.
    #[must_use]
    pub fn from_e6(latitude_e6: i32, longitude_e6: i32) -> Option<Position> {
        let within = |e6: i32, degrees: i32| (-degrees * DEGREE_E6..=degrees * DEGREE_E6).contains(&e6);
        (within(latitude_e6, 90) && within(longitude_e6, 180)).then_some(Position { latitude_e6, longitude_e6 })
    }

    /// Millionths of a degree north.
    #[must_use]
    pub fn latitude_e6(self) -> i32 {
        self.latitude_e6
    }

    /// Millionths of a degree east.
    #[must_use]
    pub fn longitude_e6(self) -> i32 {
        self.longitude_e6
    }

    /// Degrees north.
    #[must_use]
    pub fn latitude(self) -> f64 {
        f64::from(self.latitude_e6) / f64::from(DEGREE_E6)
    }

    /// Degrees east.
    #[must_use]
    pub fn longitude(self) -> f64 {
        f64::from(self.longitude_e6) / f64::from(DEGREE_E6)
    }

    /// Along a great circle, in whole metres; of a sphere, so up to half a per cent off.
    #[must_use]
    pub fn distance_m(self, other: Position) -> u32 {
        let (a, b) = (self.latitude().to_radians(), other.latitude().to_radians());
        let half = |from: f64, to: f64| ((to - from) / 2.0).sin().powi(2);
        let across = (other.longitude() - self.longitude()).to_radians();
        let haversine = half(a, b) + a.cos() * b.cos() * half(0.0, across);
        let metres = 2.0 * EARTH_RADIUS_M * haversine.clamp(0.0, 1.0).sqrt().asin();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most half the Earth around")]
        let metres = metres.round() as u32;
        metres
    }
}

/// Degrees as millionths; `None` of what is no number of degrees.
fn in_e6(degrees: f64) -> Option<i32> {
    let e6 = (degrees * f64::from(DEGREE_E6)).round();
    #[expect(clippy::cast_possible_truncation, reason = "at most 360 degrees")]
    let within = (e6.abs() <= f64::from(360 * DEGREE_E6)).then_some(e6 as i32);
    within
}

/// The centres that have a position, by the cell they lie in.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    cells: HashMap<(i32, i32), Vec<(Position, CentreIndex)>>,
}

fn row(latitude_e6: i32) -> i32 {
    latitude_e6.div_euclid(CELL_E6)
}

fn column(longitude_e6: i32) -> i32 {
    longitude_e6.div_euclid(CELL_E6).rem_euclid(CELLS_AROUND)
}

impl Grid {
    pub(crate) fn add(&mut self, position: Position, centre: CentreIndex) {
        let cell = (row(position.latitude_e6), column(position.longitude_e6));
        self.cells.entry(cell).or_default().push((position, centre));
    }

    /// What lies at most `radius_m` from a point, nearest first; of equal distance in the order of publishing.
    pub(crate) fn within(&self, point: Position, radius_m: u32) -> Vec<(u32, CentreIndex)> {
        let reach = (f64::from(radius_m) + 1.0) / EARTH_RADIUS_M;
        // One millionth more than needed: a cell too many costs a look, one too few a centre.
        let reach_e6 = in_e6(reach.to_degrees()).unwrap_or(360 * DEGREE_E6) + 1;
        let south = point.latitude_e6.saturating_sub(reach_e6).max(-90 * DEGREE_E6);
        let north = point.latitude_e6.saturating_add(reach_e6).min(90 * DEGREE_E6);
        // How far the circle goes east and west; all around once it has a pole in it.
        let sine = reach.min(1.5).sin() / point.latitude().to_radians().cos().max(1e-12);
        let (west, columns) = if reach >= 1.5 || sine >= 1.0 {
            (0, CELLS_AROUND)
        } else {
            let aside_e6 = in_e6(sine.asin().to_degrees()).unwrap_or(180 * DEGREE_E6) + 1;
            let (west, east) = (point.longitude_e6 - aside_e6, point.longitude_e6 + aside_e6);
            let columns = east.div_euclid(CELL_E6) - west.div_euclid(CELL_E6) + 1;
            (column(west), columns.min(CELLS_AROUND))
        };
        let mut found = Vec::new();
        let mut measure = |cell: &[(Position, CentreIndex)]| {
            let measured = cell.iter().map(|&(at, centre)| (point.distance_m(at), centre));
            found.extend(measured.filter(|&(distance, _)| distance <= radius_m));
        };
        let rows = row(south)..=row(north);
        if rows.clone().count().saturating_mul(columns.unsigned_abs() as usize) > self.cells.len() {
            self.cells.values().for_each(|cell| measure(cell));
        } else {
            for row in rows {
                let cells = (0..columns).map(|step| (row, (west + step).rem_euclid(CELLS_AROUND)));
                cells.filter_map(|at| self.cells.get(&at)).for_each(|cell| measure(cell));
            }
        }
        found.sort_unstable_by_key(|&(distance, centre)| (distance, centre.0));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(latitude: f64, longitude: f64) -> Position {
        Position::from_degrees(latitude, longitude).unwrap()
    }

    #[test]
    fn distances_are_those_of_an_atlas() {
        let (mumbai, delhi) = (at(19.0760, 72.8777), at(28.6139, 77.2090));
        assert_eq!(mumbai.distance_m(mumbai), 0);
        assert!((1_145_000..1_157_000).contains(&mumbai.distance_m(delhi)), "{}", mumbai.distance_m(delhi));
        assert_eq!(mumbai.distance_m(delhi), delhi.distance_m(mumbai));
        assert_eq!(at(0.0, 179.9).distance_m(at(0.0, -179.9)), 22_239, "over the date line, not around");
        assert_eq!(at(90.0, 0.0).distance_m(at(-90.0, 77.0)), 20_015_114, "half around");
    }

    #[test]
    fn what_is_no_place_is_none() {
        for (latitude, longitude) in [(90.1, 0.0), (0.0, -180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY), (1e300, 0.0)] {
            assert_eq!(Position::from_degrees(latitude, longitude), None);
        }
        assert!(Position::from_degrees(-90.0, 180.0).is_some());
        for (latitude, longitude) in [(i32::MIN, 0), (0, i32::MIN), (i32::MAX, i32::MAX)] {
            assert_eq!(Position::from_e6(latitude, longitude), None, "as a note of the journal might say");
        }
    }

    proptest! {
        /// The grid finds what looking at every centre finds: over the poles and the date line, too.
        #[test]
        fn the_grid_misses_nobody(
            centres in proptest::collection::vec((-90_000_000..=90_000_000i32, -180_000_000..=180_000_000i32), 1..200),
            near in (-20_000..20_000i32, -20_000..20_000i32),
            radius_m in prop_oneof![3 => 0..60_000u32, 1 => 0..500_000u32, 1 => Just(21_000_000)],
            edge in 0usize..4,
        ) {
            // Half of the points lie about a centre, so that there is something to find; some at edges of the map.
            let corner = [(0, 180_000_000), (90_000_000, 0), (-90_000_000, 10_000_000), centres[0]][edge];
            let point = Position::from_e6((corner.0 + near.0).clamp(-90_000_000, 90_000_000),
                (corner.1 + near.1).clamp(-180_000_000, 180_000_000)).unwrap();
            let mut grid = Grid::default();
            let mut all = Vec::new();
            let by_hand = [(corner.0 - corner.0.signum() * 300_000, -corner.1), (corner.0, corner.1)];
            for (index, &(lat, lon)) in centres.iter().chain(&by_hand).enumerate() {
                let position = Position::from_e6(lat, lon).unwrap();
                let centre = CentreIndex(u32::try_from(index).unwrap());
                grid.add(position, centre);
                all.push((point.distance_m(position), centre));
            }
            all.retain(|(distance, _)| *distance <= radius_m);
            all.sort_by_key(|(distance, centre)| (*distance, centre.0));
            prop_assert_eq!(grid.within(point, radius_m), all);
        }
    }
}
