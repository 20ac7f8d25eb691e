//! What was done to the ground the server stands on, as the history shows it.

use serde::Serialize;

use super::evidence::Evidence;
use crate::history::MarkKind;

/// One fault of Redis or of the disk.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub(crate) struct HurtFacts {
    /// Which of the scenario's faults, from 0.
    pub(crate) fault: u32,
    /// Its name, as `redis-stop` or `disk-fill`.
    pub(crate) what: String,
    pub(crate) from_us: i64,
    /// None if it was never healed.
    pub(crate) to_us: Option<i64>,
    /// Of Redis: entries its stream had lost when it was back.
    pub(crate) lost_entries: Option<u64>,
}

/// In order of time.
pub(crate) fn hurts(evidence: &Evidence) -> Vec<HurtFacts> {
    let mut hurts: Vec<HurtFacts> = Vec::new();
    for mark in &evidence.marks {
        match &mark.mark {
            MarkKind::Hurt { fault, what } => hurts.push(HurtFacts {
                fault: *fault,
                what: what.clone(),
                from_us: mark.at_us,
                to_us: None,
                lost_entries: None,
            }),
            MarkKind::Healed { fault, lost_entries } => {
                if let Some(hurt) = hurts.iter_mut().rev().find(|hurt| hurt.fault == *fault) {
                    hurt.to_us = Some(mark.at_us);
                    hurt.lost_entries = *lost_entries;
                }
            }
            _ => {}
        }
    }
    hurts
}
