//! Who comes when, and what they mean to do: a pure function of a scenario and a seed.
//!
//! The same scenario, inventory and seed give the same arrivals, whatever the machine does later. Within a phase people
//! come at random (as in a Poisson process of which the count is known), so that bursts happen as they do outside.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::scenario::{Behaviour, Scenario};

/// One person (and those they book for) who comes at a set time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Arrival {
    pub(crate) number: u64,
    /// From the start of the drive.
    pub(crate) at: Duration,
    /// Index into the plan's districts.
    pub(crate) district: usize,
    /// Numbers of the people, from 0: the person first, then the household.
    pub(crate) parties: Vec<u32>,
    pub(crate) behaviour: Behaviour,
    /// Seeds every further choice of this person.
    pub(crate) seed: u64,
    /// Comes with the crowd that a fault calls in, and acts on what everybody knows instead of looking first.
    pub(crate) rushes: bool,
}

/// All arrivals of a run, by time.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) arrivals: Vec<Arrival>,
    /// Where each phase begins, for the report.
    pub(crate) phases: Vec<(String, Duration)>,
    people: People,
    seed: u64,
}

/// How a single arrival is drawn.
#[derive(Clone, Debug)]
struct People {
    parties: u32,
    household_max: u32,
    /// Sizes of families, with running sums of their weights; none to draw all sizes alike.
    families: Vec<(u32, f64)>,
    /// Running sums of the districts' weights.
    districts: Vec<f64>,
    /// Running sums of the behaviours' weights.
    behaviours: Vec<(Behaviour, u32)>,
}

impl Plan {
    /// Draws the arrivals. `district_weights` says how many of the people live where, in any unit.
    pub(crate) fn draw(scenario: &Scenario, district_weights: &[f64], seed: u64) -> Self {
        let people = People::new(scenario, district_weights);
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut times = Vec::new();
        let mut phases = Vec::new();
        let mut begins = 0.0;
        for phase in &scenario.arrivals {
            phases.push((phase.name().to_owned(), Duration::from_secs_f64(begins)));
            times.extend(phase.times(&mut rng).into_iter().map(|at| begins + at));
            begins += phase.seconds();
        }
        times.sort_by(f64::total_cmp);
        let arrivals = (0_u64..)
            .zip(times)
            .map(|(number, at)| people.draw(number, Duration::from_secs_f64(at), seed, false))
            .collect();
        Self { arrivals, phases, people, seed }
    }

    /// People beyond the plan who rush in at `at`, numbered from `first`.
    pub(crate) fn crowd(&self, first: u64, count: u32, at: Duration) -> Vec<Arrival> {
        (first..first + u64::from(count)).map(|number| self.people.draw(number, at, self.seed, true)).collect()
    }
}

impl People {
    fn new(scenario: &Scenario, district_weights: &[f64]) -> Self {
        let mut sum = 0.0;
        let districts = district_weights
            .iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        Self {
            parties: scenario.population.parties,
            household_max: scenario.server.group_claims_max.min(4),
            families: family_sums(&scenario.population.family_sizes),
            districts,
            behaviours: scenario.behaviours.iter().map(|(&behaviour, manner)| (behaviour, manner.weight)).collect(),
        }
    }

    fn draw(&self, number: u64, at: Duration, seed: u64, rushes: bool) -> Arrival {
        // One generator per arrival, so that a crowd called in at run time shifts nobody else's choices.
        let mut rng = SmallRng::seed_from_u64(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17));
        let behaviour = if rushes {
            if rng.random_bool(0.5) { Behaviour::Book } else { Behaviour::Direct }
        } else {
            pick_weighted(&self.behaviours, &mut rng)
        };
        let point = rng.random::<f64>() * self.districts.last().copied().unwrap_or(0.0);
        let district = self.districts.partition_point(|&sum| sum <= point).min(self.districts.len().saturating_sub(1));
        let first = rng.random_range(0..self.parties);
        let count = match behaviour {
            Behaviour::Family => self.family(&mut rng),
            // Whoever hoards does it for several.
            Behaviour::Hoarder => 4,
            _ => 1,
        };
        let parties = (0..count.min(self.parties)).map(|member| (first + member) % self.parties).collect();
        Arrival { number, at, district, parties, behaviour, seed: rng.random(), rushes }
    }

    fn family(&self, rng: &mut SmallRng) -> u32 {
        let Some(&(largest, sum)) = self.families.last() else {
            return rng.random_range(self.household_max.min(2)..=self.household_max);
        };
        let point = rng.random::<f64>() * sum;
        self.families.iter().find(|(_, sum)| point < *sum).map_or(largest, |(size, _)| *size)
    }
}

fn family_sums(sizes: &BTreeMap<String, f64>) -> Vec<(u32, f64)> {
    let mut sum = 0.0;
    let sizes = sizes.iter().filter_map(|(size, weight)| Some((size.parse().ok()?, *weight)));
    sizes
        .map(|(size, weight)| {
            sum += weight;
            (size, sum)
        })
        .collect()
}

fn pick_weighted(weights: &[(Behaviour, u32)], rng: &mut SmallRng) -> Behaviour {
    let sum: u32 = weights.iter().map(|(_, weight)| weight).sum();
    let mut point = rng.random_range(0..sum.max(1));
    for &(behaviour, weight) in weights {
        if point < weight {
            return behaviour;
        }
        point -= weight;
    }
    Behaviour::Browse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Manner;
    use crate::scenario::tests::SMALL;

    fn small() -> Scenario {
        toml::from_str(SMALL).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_people() {
        let weights = [3.0, 2.0, 1.0];
        let one = Plan::draw(&small(), &weights, 7);
        let two = Plan::draw(&small(), &weights, 7);
        assert_eq!(one.arrivals, two.arrivals);
        assert_ne!(one.arrivals, Plan::draw(&small(), &weights, 8).arrivals);
        assert_eq!(one.crowd(130, 20, Duration::ZERO), two.crowd(130, 20, Duration::ZERO));
    }

    #[test]
    fn each_phase_brings_its_people_at_its_time() {
        let plan = Plan::draw(&small(), &[1.0, 1.0, 1.0], 1);
        assert_eq!(plan.arrivals.len(), 130);
        let at_the_opening = plan.arrivals.iter().filter(|arrival| arrival.at == Duration::from_secs(2)).count();
        assert_eq!(at_the_opening, 30);
        assert!(plan.arrivals.windows(2).all(|pair| pair[0].at <= pair[1].at));
        assert_eq!(plan.phases[1], ("opening".to_owned(), Duration::from_secs(2)));
    }

    #[test]
    fn a_district_without_weight_has_no_people() {
        let plan = Plan::draw(&small(), &[1.0, 0.0, 1.0], 3);
        assert!(plan.arrivals.iter().all(|arrival| arrival.district != 1));
        assert!(plan.arrivals.iter().any(|arrival| arrival.district == 2));
    }

    #[test]
    fn a_household_holds_nobody_twice() {
        let mut scenario = small();
        scenario.behaviours = [(Behaviour::Family, Manner::of(1))].into();
        let plan = Plan::draw(&scenario, &[1.0], 5);
        for arrival in &plan.arrivals {
            let mut parties = arrival.parties.clone();
            parties.sort_unstable();
            parties.dedup();
            assert_eq!(parties.len(), arrival.parties.len());
            assert!(parties.len() >= 2);
        }
    }

    #[test]
    fn families_are_as_large_as_the_scenario_says() {
        let mut scenario = small();
        scenario.behaviours = [(Behaviour::Family, Manner::of(1))].into();
        scenario.population.family_sizes = [("2".into(), 3.0), ("4".into(), 1.0), ("3".into(), 0.0)].into();
        let plan = Plan::draw(&scenario, &[1.0], 5);
        let of = |size: usize| plan.arrivals.iter().filter(|arrival| arrival.parties.len() == size).count();
        assert_eq!(of(2) + of(4), 130);
        assert!((80..115).contains(&of(2)), "{}", of(2));
    }
}
