//! What happened in a simulation: every fault by kind, every place in which the power went, and the work done in between.

use std::collections::BTreeMap;
use std::fmt;

use crate::testing::disk::{DiskFault, OPERATIONS};
use crate::testing::stream::StreamFault;

/// Counts by name, over one run or many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Faults injected, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Crashes, by the operation in which they came.
    pub points: BTreeMap<String, u64>,
    /// What was done and checked.
    pub work: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn fault(&mut self, name: &str, times: u64) {
        *self.faults.entry(name.to_owned()).or_default() += times;
    }

    pub(super) fn point(&mut self, name: &str) {
        *self.points.entry(name.to_owned()).or_default() += 1;
    }

    pub(super) fn work(&mut self, name: &str, times: u64) {
        *self.work.entry(name.to_owned()).or_default() += times;
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Tally) {
        for (mine, theirs) in
            [(&mut self.faults, &other.faults), (&mut self.points, &other.points), (&mut self.work, &other.work)]
        {
            for (name, times) in theirs {
                *mine.entry(name.clone()).or_default() += times;
            }
        }
    }

    /// What should have happened in a long run and did not. A simulation that never injects a fault proves nothing about it.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let faults = DiskFault::ALL.map(|fault| format!("{fault:?}"));
        let redis = StreamFault::ALL.map(|fault| format!("redis {fault:?}"));
        let more = super::FAULTS.map(str::to_owned);
        let faults = faults.into_iter().chain(redis).chain(more).filter(|name| !self.faults.contains_key(name));
        let points = OPERATIONS.iter().chain(&super::POINTS).map(|name| (*name).to_owned());
        let points = points.filter(|name| !self.points.contains_key(name)).map(|name| format!("crash in {name}"));
        faults.chain(points).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, counts) in
            [("fault injected", &self.faults), ("crash in", &self.points), ("done and checked", &self.work)]
        {
            writeln!(f, "{title:<28} {:>10}", "times")?;
            for (name, times) in counts {
                writeln!(f, "  {name:<26} {times:>10}")?;
            }
        }
        Ok(())
    }
}
