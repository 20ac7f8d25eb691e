//! The auditor: judges a finished run from its evidence, and knows nothing of how the run was made.
//!
//! It is a pure function of its witnesses: the history (what clients were told), the export (what the server says it
//! holds), the journal's entries (what it wrote down), `berth verify` (what the server thinks of its journal) and, where
//! there was one, Redis. A
//! promise is broken only when no honest order of events could explain what the witnesses say: whatever is unfinished
//! or unknown counts in the server's favour.

mod capacity;
mod claims;
mod conservation;
mod deadlines;
mod disk;
mod evidence;
mod hurts;
mod journal;
mod kept;
mod keys;
mod lives;
mod overload;
mod redis;
#[cfg(test)]
mod scenes;
mod validity;

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::scenario::Overload;

pub(crate) use evidence::{Evidence, EvidenceFiles};
pub(crate) use hurts::{HurtFacts, hurts};
pub(crate) use overload::{CpuSample, OverloadFacts, PhaseFigures, phases};
pub(crate) use validity::{GeneratorFacts, KillFacts, Second, kills, reasons_invalid, seconds_of};

/// What the server owes its users, as far as a run can show it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Promise {
    Capacity,
    Acknowledged,
    OneClaim,
    OneEffect,
    Conservation,
    Deadline,
    NoFalseFull,
    Journal,
    FullDisk,
    RedisCopy,
    Overload,
}

impl Promise {
    pub(crate) fn all() -> BTreeSet<Self> {
        [
            Self::Capacity,
            Self::Acknowledged,
            Self::OneClaim,
            Self::OneEffect,
            Self::Conservation,
            Self::Deadline,
            Self::NoFalseFull,
            Self::Journal,
            Self::FullDisk,
            Self::RedisCopy,
            Self::Overload,
        ]
        .into()
    }

    /// The name in scenarios, reports and exit messages.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Acknowledged => "acknowledged",
            Self::OneClaim => "one-claim",
            Self::OneEffect => "one-effect",
            Self::Conservation => "conservation",
            Self::Deadline => "deadline",
            Self::NoFalseFull => "no-false-full",
            Self::Journal => "journal",
            Self::FullDisk => "full-disk",
            Self::RedisCopy => "redis-copy",
            Self::Overload => "overload",
        }
    }

    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Capacity => "No slot is ever over its capacity.",
            Self::Acknowledged => "Everything acknowledged is still there, and nothing acknowledged is undone.",
            Self::OneClaim => "A party has at most one live claim per dose.",
            Self::OneEffect => "A request sent again under its key has one effect and one answer.",
            Self::Conservation => "Capacity is free plus held plus booked, and the counts are those of the bookings.",
            Self::Deadline => "No hold is confirmed after its deadline, and none runs out before it.",
            Self::NoFalseFull => "A refusal `full` was true when it was given.",
            Self::Journal => "The journal keeps the rules at every prefix, and `berth verify` agrees.",
            Self::FullDisk => {
                "On a full disk claims are refused, live ones are settled, and service resumes by itself."
            }
            Self::Overload => {
                "Under an overload goodput stays at its peak, who is let in is served in time, and no confirm is refused."
            }
            Self::RedisCopy => "Whatever happens to Redis, booking goes on, and in the end its stream is the journal.",
        }
    }
}

/// One way in which one promise is broken, with the few facts that prove it.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) promise: Promise,
    pub(crate) what: String,
    /// The operations, export lines or entries that prove it, in order of time.
    pub(crate) story: Vec<String>,
}

/// What became of one promise.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Judged {
    pub(crate) promise: Promise,
    pub(crate) sentence: &'static str,
    pub(crate) broken: usize,
    /// What was looked at, so that an empty search is not mistaken for a kept promise.
    pub(crate) looked_at: String,
    /// At most [`FINDINGS_SHOWN`] of the findings.
    pub(crate) findings: Vec<Finding>,
}

/// How many findings of one promise a report shows; all are counted.
const FINDINGS_SHOWN: usize = 12;

/// What the run shows.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Every promise looked at held.
    Held,
    /// At least one promise is broken.
    Broken,
    /// The run proves nothing.
    Invalid,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Broken => "broken",
            Self::Invalid => "invalid",
        }
    }

    pub(crate) fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Held => 0,
            Self::Broken => 1,
            Self::Invalid => 3,
        })
    }
}

/// The whole judgement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) promises: Vec<Judged>,
    /// Why the run proves nothing, if it does; also shown beside a broken promise.
    pub(crate) invalid_because: Vec<String>,
}

/// Judges the run. A broken promise outweighs an invalid run: what is proved stays proved.
pub(crate) fn judge(
    evidence: &Evidence,
    promises: &BTreeSet<Promise>,
    overload: Option<&Overload>,
    invalid_because: Vec<String>,
) -> Judgement {
    let lives = lives::Lives::of(evidence);
    let judged: Vec<Judged> = promises
        .iter()
        .map(|&promise| {
            let (looked_at, findings) = match promise {
                Promise::Capacity => capacity::judge(evidence, &lives),
                Promise::Acknowledged => kept::judge(evidence, &lives),
                Promise::OneClaim => claims::judge(evidence, &lives),
                Promise::OneEffect => keys::judge(evidence, &lives),
                Promise::Conservation => conservation::judge(evidence),
                Promise::Deadline => deadlines::judge(evidence, &lives),
                Promise::NoFalseFull => capacity::judge_refusals(evidence),
                Promise::Journal => journal::judge(evidence),
                Promise::FullDisk => disk::judge(evidence),
                Promise::RedisCopy => redis::judge(evidence),
                Promise::Overload => overload::judge(evidence, overload),
            };
            let broken = findings.len();
            let findings = findings.into_iter().take(FINDINGS_SHOWN).collect();
            Judged { promise, sentence: promise.sentence(), broken, looked_at, findings }
        })
        .collect();
    let verdict = if judged.iter().any(|judged| judged.broken > 0) {
        Verdict::Broken
    } else if invalid_because.is_empty() {
        Verdict::Held
    } else {
        Verdict::Invalid
    };
    Judgement { verdict, promises: judged, invalid_because }
}

/// Client and server clocks are read on one machine, but not at one instant.
const CLOCK_SLACK_US: i64 = 1_000_000;
/// A hold that is still held this long after its deadline does not run out.
const EXPIRY_SLACK_US: i64 = 3_000_000;
/// How long after the last possible deadline the exports are taken: more than that slack, so that every hold is judged.
pub(crate) const SETTLE_SECONDS: u64 = 4;
