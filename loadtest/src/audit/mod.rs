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
mod entries;
mod evidence;
mod expiry;
mod findings;
mod groups;
mod hurts;
mod journal;
mod kept;
mod keys;
mod lines;
mod lives;
mod overload;
mod record;
mod redis;
#[cfg(test)]
mod scenes;
mod validity;

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::objectives::Measured;
use crate::scenario::Overload;

use crate::error::CannotRun;
pub(crate) use evidence::{Evidence, EvidenceFiles, for_each_operation};
pub(crate) use findings::Finding;
use findings::Found;
pub(crate) use hurts::{HurtFacts, hurts};
pub(crate) use lives::{Lives, by_key};
pub(crate) use overload::{CpuSample, OverloadFacts, PhaseFigures, phases};
pub(crate) use record::Operation;
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
    Expiry,
    NoFalseFull,
    Group,
    FreshSearch,
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
            Self::Expiry,
            Self::NoFalseFull,
            Self::Group,
            Self::FreshSearch,
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
            Self::Expiry => "expiry",
            Self::NoFalseFull => "no-false-full",
            Self::Group => "group",
            Self::FreshSearch => "fresh-search",
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
            Self::Expiry => "A hold that runs out gives its units back within a bound.",
            Self::Group => "Of a request for several people all claims are made or none.",
            Self::FreshSearch => "No search shows a unit that was gone longer than its counts may be old.",
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

/// What became of one promise.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Judged {
    pub(crate) promise: Promise,
    pub(crate) sentence: &'static str,
    pub(crate) broken: usize,
    /// What was looked at, so that an empty search is not mistaken for a kept promise.
    pub(crate) looked_at: String,
    /// The first of the findings.
    pub(crate) findings: Vec<Finding>,
}

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
    /// Every promise held, and something the scenario wanted beside them was not reached.
    Missed,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Broken => "broken",
            Self::Invalid => "invalid",
            Self::Missed => "missed",
        }
    }

    pub(crate) fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Held => 0,
            Self::Broken => 1,
            Self::Invalid => 3,
            Self::Missed => 4,
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
    /// What the scenario wanted beside the promises.
    pub(crate) objectives: Vec<Measured>,
}

impl Judgement {
    /// The same with the objectives, of which one that was missed turns `held` into `missed`.
    pub(crate) fn with_objectives(mut self, objectives: Vec<Measured>) -> Self {
        if self.verdict == Verdict::Held && objectives.iter().any(|measured| !measured.met) {
            self.verdict = Verdict::Missed;
        }
        self.objectives = objectives;
        self
    }
}

/// Judges the run. A broken promise outweighs an invalid run: what is proved stays proved.
pub(crate) fn judge(
    evidence: &Evidence,
    lives: &Lives<'_>,
    promises: &BTreeSet<Promise>,
    overload: Option<&Overload>,
    invalid_because: Vec<String>,
) -> Result<Judgement, CannotRun> {
    let mut walk = journal::walk(evidence)?;
    let slots = capacity::judge(evidence, lives);
    let (mut capacity, mut full, mut fresh) =
        (Some(slots.capacity), Some(slots.no_false_full), Some(slots.fresh_search));
    let mut judged = Vec::new();
    for &promise in promises {
        let (looked_at, found) = match promise {
            Promise::Capacity => capacity.take().unwrap_or_else(|| nothing(promise)),
            Promise::Acknowledged => kept::judge(evidence, lives),
            Promise::OneClaim => claims::judge(evidence, lives),
            Promise::OneEffect => keys::judge(evidence, lives, &walk)?,
            Promise::Conservation => conservation::judge(evidence, &walk),
            Promise::Deadline => deadlines::judge(evidence, lives, &walk),
            Promise::Expiry => expiry::judge(evidence, lives, &walk),
            Promise::NoFalseFull => full.take().unwrap_or_else(|| nothing(promise)),
            Promise::Group => groups::judge(evidence, lives, &walk),
            Promise::FreshSearch => fresh.take().unwrap_or_else(|| nothing(promise)),
            Promise::Journal => journal::judge(evidence, &mut walk),
            Promise::FullDisk => all(promise, disk::judge(evidence)),
            Promise::RedisCopy => all(promise, redis::judge(evidence)),
            Promise::Overload => all(promise, overload::judge(evidence, overload)),
        };
        let (broken, findings) = (found.count, found.shown);
        judged.push(Judged { promise, sentence: promise.sentence(), broken, looked_at, findings });
    }
    findings::tell_stories(evidence, judged.iter_mut().flat_map(|judged| &mut judged.findings));
    let verdict = if judged.iter().any(|judged| judged.broken > 0) {
        Verdict::Broken
    } else if invalid_because.is_empty() {
        Verdict::Held
    } else {
        Verdict::Invalid
    };
    Ok(Judgement { verdict, promises: judged, invalid_because, objectives: Vec::new() })
}

/// A promise is asked for once.
fn nothing(promise: Promise) -> (String, Found) {
    (String::new(), Found::none(promise))
}

fn all(promise: Promise, (looked_at, findings): (String, Vec<Finding>)) -> (String, Found) {
    (looked_at, Found::from_all(promise, findings))
}

/// What an audit took, for who waits for large ones.
pub(crate) fn cost(operations: usize, took: std::time::Duration) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let memory = peak.map(|kib| format!(", with {} MiB of memory at most", kib / 1024)).unwrap_or_default();
    format!("audited {operations} operations in {:.1} s{memory}", took.as_secs_f64())
}

/// How old the counts of a search may be, by the server's configuration or its default.
pub(crate) fn search_staleness_us(config: &toml::Table) -> i64 {
    const DEFAULT_MS: i64 = 500;
    let search = config.get("search").and_then(|search| search.get("staleness_ms"));
    search.and_then(toml::Value::as_integer).unwrap_or(DEFAULT_MS).saturating_mul(1_000)
}

/// A span of time for people.
fn seconds(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let ms = us.unsigned_abs() / 1_000;
    format!("{sign}{}.{:03}s", ms / 1_000, ms % 1_000)
}

/// Client and server clocks are read on one machine, but not at one instant.
const CLOCK_SLACK_US: i64 = 1_000_000;
/// A hold that is still held this long after its deadline does not run out.
const EXPIRY_SLACK_US: i64 = 3_000_000;
/// How long after the last possible deadline the exports are taken: more than that slack, so that every hold is judged.
pub(crate) const SETTLE_SECONDS: u64 = 4;
