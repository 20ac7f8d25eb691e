//! What a scenario says of an overload: how little of a CPU the server has, and what is judged.

use serde::{Deserialize, Serialize};

/// The server is held to a share of a CPU, so that the generator can offer many times what it can serve.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Overload {
    /// The phase in which too many come; the best of all others is the peak.
    pub(crate) phase: String,
    /// How many times the peak must be offered in it, or the run proves nothing.
    #[serde(default = "default_times")]
    pub(crate) times: f64,
    /// The least goodput in it, as a share of the peak.
    #[serde(default = "default_goodput_share")]
    pub(crate) goodput_share_min: f64,
    /// The most that the slowest of a hundred admitted requests may take in it.
    #[serde(default = "default_p99")]
    pub(crate) admitted_p99_ms_max: f64,
    /// The first seconds of each phase are not counted: people take some to come to their last step.
    #[serde(default = "default_settle")]
    pub(crate) settle_seconds: f64,
}

fn default_times() -> f64 {
    5.0
}

fn default_goodput_share() -> f64 {
    0.95
}

fn default_p99() -> f64 {
    50.0
}

fn default_settle() -> f64 {
    2.0
}

impl Overload {
    /// What is wrong with it, given the phases' names and lengths.
    pub(super) fn wrong(&self, phases: &[(&str, f64)]) -> Vec<String> {
        let mut wrong = Vec::new();
        if !phases.iter().any(|(name, _)| *name == self.phase) {
            wrong.push(format!("overload.phase names no phase of the arrivals: {:?}", self.phase));
        }
        if phases.len() < 2 {
            wrong.push("overload needs another phase, to have a peak to compare with".into());
        }
        if self.times < 1.0 || !self.times.is_finite() {
            wrong.push("overload.times is under 1".into());
        }
        if !(0.0..=1.0).contains(&self.goodput_share_min) {
            wrong.push("overload.goodput_share_min is not within 0..=1".into());
        }
        if let Some((name, _)) = phases.iter().find(|(_, seconds)| *seconds < self.settle_seconds + 1.0) {
            wrong.push(format!("arrivals phase {name:?} is not a second longer than overload.settle_seconds"));
        }
        wrong
    }
}
