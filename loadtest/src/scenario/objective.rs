//! What a scenario wants of a phase: how fast, how much, and how rarely refused. Not a promise: a run that kept every promise
//! and missed an objective is `missed`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::history::Op;

/// One row of `[[objectives]]`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Objective {
    /// The phase in which it counts; default the whole drive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) phase: Option<String>,
    /// The operation whose latency and refusals count; default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operation: Option<Op>,
    /// The most that the median, and the slowest of a hundred and of a thousand, may take from their intended start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p50_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p99_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p999_ms: Option<f64>,
    /// The least bookings acknowledged per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) goodput_min: Option<f64>,
    /// Code of a refusal (or `unknown`: no answer) to the largest share of all answers it may have, 0 to 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) share_max: BTreeMap<String, f64>,
}

impl Objective {
    /// What is wrong with it, as path behind `objectives[N]`, and in words.
    pub(super) fn wrong(&self, phases: &[&str]) -> Vec<(String, String, &'static str)> {
        let mut wrong = Vec::new();
        if let Some(phase) = self.phase.as_deref().filter(|phase| !phases.contains(phase)) {
            let what = format!("names no phase of the arrivals: {phase:?}");
            wrong.push((".phase".into(), what, "a `phase` of an [[arrivals]], or leave it out for the whole drive"));
        }
        let latencies = [("p50_ms", self.p50_ms), ("p99_ms", self.p99_ms), ("p999_ms", self.p999_ms)];
        for (field, value) in latencies.into_iter().chain([("goodput_min", self.goodput_min)]) {
            if value.is_some_and(|value| !value.is_finite() || value <= 0.0) {
                wrong.push((format!(".{field}"), "is not a number above 0".into(), "as p99_ms = 50.0"));
            }
        }
        for (code, share) in &self.share_max {
            if !(0.0..=1.0).contains(share) {
                let hint = "a share of all answers: { full = 0.5, unknown = 0.0 }";
                wrong.push((format!(".share_max.{code}"), "is not within 0..=1".into(), hint));
            }
        }
        let asks = latencies.iter().any(|(_, value)| value.is_some());
        if !asks && self.goodput_min.is_none() && self.share_max.is_empty() {
            let hint = "give it one of p50_ms, p99_ms, p999_ms, goodput_min, share_max";
            wrong.push((String::new(), " asks for nothing".into(), hint));
        }
        wrong
    }
}
