//! Stretches of arrivals: how many people come when. People come whether or not the server keeps up.

use rand::Rng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

/// A stretch of arrivals.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Phase {
    /// The same rate throughout, of a number of people that is known.
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
    /// A Poisson process: the gaps are random, and so is the number of people.
    Poisson { phase: String, per_second: f64, seconds: f64 },
    /// A curve: points of second and rate with straight lines between them.
    Series {
        phase: String,
        /// Where the points stand, as CSV; they are read when the scenario is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        #[serde(default)]
        points: Vec<[f64; 2]>,
        /// The length to which the curve is stretched; default its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
        /// How many people come in all; default the area under the curve.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        people: Option<f64>,
    },
}

impl Phase {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Constant { phase, .. }
            | Self::Ramp { phase, .. }
            | Self::Spike { phase, .. }
            | Self::Poisson { phase, .. }
            | Self::Series { phase, .. } => phase,
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        match self {
            Self::Constant { seconds, .. }
            | Self::Ramp { seconds, .. }
            | Self::Spike { seconds, .. }
            | Self::Poisson { seconds, .. } => *seconds,
            Self::Series { points, seconds, .. } => {
                seconds.unwrap_or_else(|| points.last().map_or(0.0, |point| point[0]))
            }
        }
    }

    /// About how many people come.
    pub(crate) fn people(&self) -> f64 {
        match self {
            Self::Constant { per_second, seconds, .. } | Self::Poisson { per_second, seconds, .. } => {
                per_second * seconds
            }
            Self::Ramp { from_per_second, to_per_second, seconds, .. } => {
                f64::midpoint(*from_per_second, *to_per_second) * seconds
            }
            Self::Spike { people, .. } => f64::from(*people),
            Self::Series { points, people, .. } => people.unwrap_or_else(|| area(points) * self.stretch()),
        }
    }

    /// What is wrong with it, in words; nothing when it is sound.
    pub(super) fn wrong(&self) -> Option<&'static str> {
        let good = |value: f64| value.is_finite() && (0.0..=10_000_000.0).contains(&value);
        let sound = match self {
            Self::Constant { per_second, seconds, .. } | Self::Poisson { per_second, seconds, .. } => {
                good(*per_second) && good(*seconds) && *seconds > 0.0
            }
            Self::Ramp { from_per_second, to_per_second, seconds, .. } => {
                good(*from_per_second) && good(*to_per_second) && good(*seconds) && *seconds > 0.0
            }
            Self::Spike { people, seconds, .. } => *people > 0 && good(*seconds),
            Self::Series { points, seconds, people, .. } => {
                if points.len() < 2 || points[0][0] != 0.0 || !points.windows(2).all(|pair| pair[0][0] < pair[1][0]) {
                    return Some("needs two points or more, the first at second 0, each later than the one before");
                }
                let numbers = points.iter().flatten().chain(seconds).chain(people).all(|&value| good(value));
                numbers && area(points) > 0.0 && self.seconds() > 0.0 && self.people() > 0.0
            }
        };
        (!sound).then_some("has a rate or a time that is not a number from 0 up, or nobody comes")
    }

    /// With `factor` times the people, in `times` times the time.
    pub(super) fn scale(&mut self, factor: f64, times: f64) {
        let people = self.people() * factor * times;
        match self {
            Self::Constant { per_second, seconds, .. } | Self::Poisson { per_second, seconds, .. } => {
                *per_second *= factor;
                *seconds *= times;
            }
            Self::Ramp { from_per_second, to_per_second, seconds, .. } => {
                *from_per_second *= factor;
                *to_per_second *= factor;
                *seconds *= times;
            }
            Self::Spike { people, seconds, .. } => {
                // A spike is so many people, however long it takes.
                *people = super::scale::count(*people, factor);
                *seconds *= times;
            }
            Self::Series { points, seconds, people: all, .. } => {
                *seconds = Some(seconds.unwrap_or_else(|| points.last().map_or(0.0, |point| point[0])) * times);
                *all = Some(people);
            }
        }
    }

    /// The seconds, from the phase's beginning, at which its people come; in no order.
    pub(crate) fn times(&self, rng: &mut SmallRng) -> Vec<f64> {
        match *self {
            Self::Constant { per_second, seconds, .. } => {
                (0..whole(per_second * seconds)).map(|_| rng.random::<f64>() * seconds).collect()
            }
            Self::Ramp { from_per_second: from, to_per_second: to, seconds, .. } => {
                (0..whole((from + to) / 2.0 * seconds)).map(|_| ramp_time(rng.random(), from, to) * seconds).collect()
            }
            Self::Spike { people, seconds, .. } => (0..people).map(|_| rng.random::<f64>() * seconds).collect(),
            Self::Poisson { per_second, seconds, .. } => {
                let mut times = Vec::new();
                let mut at = gap(rng, per_second);
                while at < seconds {
                    times.push(at);
                    at += gap(rng, per_second);
                }
                times
            }
            Self::Series { ref points, .. } => {
                let stretch = self.stretch();
                (0..whole(self.people())).map(|_| series_time(rng.random(), points) * stretch).collect()
            }
        }
    }

    /// How much longer a series is than its points say.
    fn stretch(&self) -> f64 {
        match self {
            Self::Series { points, seconds: Some(seconds), .. } => {
                seconds / points.last().map_or(1.0, |point| point[0]).max(f64::MIN_POSITIVE)
            }
            _ => 1.0,
        }
    }
}

/// The time to the next of a Poisson process. Without a rate nobody comes.
fn gap(rng: &mut SmallRng, per_second: f64) -> f64 {
    if per_second <= 0.0 { f64::INFINITY } else { -(1.0 - rng.random::<f64>()).ln() / per_second }
}

/// The area under straight lines between the points.
fn area(points: &[[f64; 2]]) -> f64 {
    points.windows(2).map(trapezium).sum()
}

fn trapezium(pair: &[[f64; 2]]) -> f64 {
    f64::midpoint(pair[0][1], pair[1][1]) * (pair[1][0] - pair[0][0])
}

/// The second at which the share `point` of a curve's people has come.
fn series_time(point: f64, points: &[[f64; 2]]) -> f64 {
    let mut left = point * area(points);
    for pair in points.windows(2) {
        let here = trapezium(pair);
        if left < here {
            return pair[0][0] + ramp_time(left / here, pair[0][1], pair[1][1]) * (pair[1][0] - pair[0][0]);
        }
        left -= here;
    }
    points.last().map_or(0.0, |point| point[0])
}

/// Where in a ramp (0 to 1) the share `point` of its people has come: the inverse of the integral of the rate.
fn ramp_time(point: f64, from: f64, to: f64) -> f64 {
    let slope = to - from;
    if slope.abs() < f64::EPSILON * (from + to) {
        return point;
    }
    ((from * from + point * (to * to - from * from)).sqrt() - from) / slope
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of people, checked by validate()")]
fn whole(people: f64) -> u64 {
    people.round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn phase(text: &str) -> Phase {
        toml::from_str(&format!("phase = \"x\"\n{text}")).unwrap()
    }

    #[test]
    fn a_ramp_brings_more_people_later() {
        assert!((ramp_time(0.25, 0.0, 100.0) - 0.5).abs() < 1e-9);
        assert!((ramp_time(0.5, 10.0, 10.0) - 0.5).abs() < 1e-9);
        assert!((ramp_time(0.75, 100.0, 0.0) - 0.5).abs() < 1e-9);
        assert!(ramp_time(1.0, 5.0, 50.0) <= 1.0 + 1e-9);
    }

    #[test]
    fn a_poisson_process_has_its_mean_and_its_spread() {
        let phase = phase("kind = \"poisson\"\nper_second = 100.0\nseconds = 1.0");
        let counts: Vec<f64> = (0..400_u32)
            .map(|seed| {
                let times = phase.times(&mut SmallRng::seed_from_u64(seed.into()));
                assert!(times.iter().all(|at| (0.0..1.0).contains(at)));
                f64::from(u32::try_from(times.len()).unwrap())
            })
            .collect();
        let mean = counts.iter().sum::<f64>() / 400.0;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 399.0;
        // Of a Poisson count both are the same; with a known count there would be no spread at all.
        assert!((95.0..105.0).contains(&mean) && (75.0..130.0).contains(&variance), "{mean} {variance}");
    }

    #[test]
    fn a_series_follows_its_curve_stretched_and_with_its_people() {
        let series =
            phase("kind = \"series\"\npoints = [[0, 0], [10, 10], [20, 10], [30, 0]]\nseconds = 60.0\npeople = 4000.0");
        assert_eq!((series.seconds(), series.people(), series.wrong()), (60.0, 4000.0, None));
        let times = series.times(&mut SmallRng::seed_from_u64(1));
        let within = |from: f64, to: f64| times.iter().filter(|&&at| (from..to).contains(&at)).count();
        // A quarter rises, half stays, a quarter falls.
        assert_eq!(times.len(), 4000);
        let parts = [within(0.0, 20.0), within(20.0, 40.0), within(40.0, 60.0)];
        assert!(parts[0].abs_diff(1000) < 120 && parts[1].abs_diff(2000) < 140 && parts[2].abs_diff(1000) < 120);
        let own = phase("kind = \"series\"\npoints = [[0, 4], [10, 4]]");
        assert_eq!((own.seconds(), own.people()), (10.0, 40.0));
    }

    #[test]
    fn a_curve_that_runs_back_is_no_curve() {
        for points in ["[[0, 1]]", "[[1, 1], [2, 1]]", "[[0, 1], [5, 1], [5, 2]]", "[[0, 0], [5, 0]]"] {
            assert!(phase(&format!("kind = \"series\"\npoints = {points}")).wrong().is_some(), "{points}");
        }
    }
}
