//! `berth-surge compare A B`: what moved from one run to the other, and whether it is more than noise.

mod samples;
mod statistics;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::audit::Verdict;
use crate::console::say;
use crate::error::{CannotRun, Doing};
use crate::history::Op;
pub(crate) use samples::Run;
use samples::{Phase, Second};
use statistics::{SECONDS_MIN, mann_whitney, stands_out};

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The report directory that the other is measured by.
    before: PathBuf,
    /// The report directory that is asked about.
    after: PathBuf,
    /// Prints one JSON object in place of the table.
    #[arg(long)]
    json: bool,
}

/// The level for all questions of one comparison together.
const LEVEL: f64 = 0.05;
/// A smaller difference does not matter to anybody, however sure it is.
const CHANGE_MIN_PERCENT: f64 = 5.0;
/// Nor does less than this of a latency.
const CHANGE_MIN_MS: f64 = 0.2;

/// Two runs side by side.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) before: Side,
    pub(crate) after: Side,
    /// What makes the two hard to compare.
    pub(crate) cautions: Vec<String>,
    pub(crate) verdict: Change,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) directory: String,
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    pub(crate) server: String,
}

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Same,
    Better,
    Worse,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Better => "better",
            Self::Worse => "worse",
        }
    }
}

/// One measure of one phase.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) phase: String,
    /// An operation, a refusal's code, or `all`.
    pub(crate) of: String,
    pub(crate) measure: &'static str,
    /// The median of the seconds' values.
    pub(crate) before: f64,
    pub(crate) after: f64,
    pub(crate) change_percent: Option<f64>,
    /// Whole seconds on either side.
    pub(crate) seconds: [usize; 2],
    /// Of the Mann-Whitney test; none with fewer than 5 seconds on a side.
    pub(crate) probability: Option<f64>,
    pub(crate) verdict: Change,
}

/// Compares, prints, and gives the exit status: 0 unless something is worse, then 1.
pub(crate) fn run(args: &CompareArgs) -> Result<Verdict, CannotRun> {
    let comparison = compare(&Run::read(&args.before)?, &Run::read(&args.after)?);
    if args.json {
        say(&serde_json::to_string_pretty(&comparison).doing(|| "write the comparison".into())?);
    } else {
        comparison.lines().iter().for_each(|line| say(line));
    }
    Ok(if comparison.verdict == Change::Worse { Verdict::Broken } else { Verdict::Held })
}

/// How a measure is taken of a second, and which way is better.
struct Measure {
    name: &'static str,
    /// Where less is better.
    less: bool,
    is_latency: bool,
    of: fn(&Second, &str) -> Option<f64>,
}

const LATENCIES: [Measure; 3] = [
    Measure { name: "p50 ms", less: true, is_latency: true, of: |second, of| latency(second, of, 500) },
    Measure { name: "p99 ms", less: true, is_latency: true, of: |second, of| latency(second, of, 990) },
    Measure { name: "p99.9 ms", less: true, is_latency: true, of: |second, of| latency(second, of, 999) },
];
const SERVED: Measure = Measure {
    name: "ok/s",
    less: false,
    is_latency: false,
    of: |second, of| Some(exact(answers(second, of).map_or(0, |answers| answers.ok))),
};
const LEFT_OPEN: Measure = Measure {
    name: "unknown/s",
    less: true,
    is_latency: false,
    of: |second, of| Some(exact(answers(second, of).map_or(0, |answers| answers.unknown))),
};
const GOODPUT: Measure =
    Measure { name: "bookings/s", less: false, is_latency: false, of: |second, _| Some(exact(second.bookings)) };
const REFUSED: Measure = Measure {
    name: "refused/s",
    less: true,
    is_latency: false,
    of: |second, of| Some(exact(second.refusals.get(of).copied().unwrap_or(0))),
};

fn answers<'a>(second: &'a Second, of: &str) -> Option<&'a samples::Answers> {
    second.by_operation.iter().find(|(op, _)| op.word() == of).map(|(_, answers)| answers)
}

/// The latency that so many of a thousand answers are within; a second without an answer has none.
fn latency(second: &Second, of: &str, per_mille: usize) -> Option<f64> {
    let mut sorted = answers(second, of)?.latencies_us.clone();
    sorted.sort_unstable();
    let place = (sorted.len() * per_mille).div_ceil(1_000).saturating_sub(1);
    sorted.get(place).map(|us| exact(u64::try_from(*us).unwrap_or(0)) / 1_000.0)
}

/// Compares two runs, phase by phase of the same name.
pub(crate) fn compare(before: &Run, after: &Run) -> Comparison {
    let (mut rows, mut cautions) = (Vec::new(), cautions(before, after));
    for one in &before.phases {
        let Some(other) = after.phases.iter().find(|phase| phase.name == one.name) else { continue };
        rows.push(row(one, other, "all", &GOODPUT));
        for op in Op::ALL.into_iter().filter(|op| has(one, *op) || has(other, *op)) {
            // How long nobody waited is not zero: it is nothing to compare.
            let latencies = match (answered(one, op), answered(other, op)) {
                (true, true) => &LATENCIES[..],
                (false, false) => &[],
                (here, _) => {
                    let alone = if here { &before.directory } else { &after.directory };
                    cautions.push(format!("{} of phase {} was answered in {alone} alone", op.word(), one.name));
                    &[]
                }
            };
            for measure in latencies.iter().chain([&SERVED, &LEFT_OPEN]) {
                rows.push(row(one, other, op.word(), measure));
            }
        }
        let seconds = one.seconds.iter().chain(&other.seconds);
        let codes: BTreeSet<&String> = seconds.flat_map(|second| second.refusals.keys()).collect();
        rows.extend(codes.into_iter().map(|code| row(one, other, code, &REFUSED)));
    }
    // What nobody left open on either side is not worth a line, nor a share of the level.
    rows.retain(|row| row.measure != LEFT_OPEN.name || row.before != row.after);
    let probabilities: Vec<Option<f64>> = rows.iter().map(|row| row.probability).collect();
    for (row, stands) in rows.iter_mut().zip(stands_out(&probabilities, LEVEL)) {
        row.judge(stands);
    }
    let any = |change| rows.iter().any(|row| row.verdict == change);
    let verdict = match (any(Change::Worse), any(Change::Better)) {
        (true, _) => Change::Worse,
        (false, true) => Change::Better,
        (false, false) => Change::Same,
    };
    Comparison { before: side(before), after: side(after), cautions, verdict, rows }
}

fn has(phase: &Phase, op: Op) -> bool {
    phase.seconds.iter().any(|second| second.by_operation.contains_key(&op))
}

fn answered(phase: &Phase, op: Op) -> bool {
    let mut answers = phase.seconds.iter().filter_map(|second| second.by_operation.get(&op));
    answers.any(|answers| !answers.latencies_us.is_empty())
}

fn side(run: &Run) -> Side {
    let (directory, scenario) = (run.directory.clone(), run.name.clone());
    Side { directory, scenario, seed: run.seed, server: run.version.clone() }
}

fn cautions(before: &Run, after: &Run) -> Vec<String> {
    let mut cautions = Vec::new();
    if before.name != after.name {
        cautions.push(format!("the scenarios are two: {} and {}", before.name, after.name));
    }
    if before.seed != after.seed {
        cautions.push(format!("the seeds are two, {} and {}: other people came", before.seed, after.seed));
    }
    for (one, other) in [(before, after), (after, before)] {
        let only = one.phases.iter().filter(|phase| other.phases.iter().all(|of| of.name != phase.name));
        cautions.extend(only.map(|phase| format!("phase {} is in {} alone", phase.name, one.directory)));
    }
    let short = before.phases.iter().chain(&after.phases).filter(|phase| phase.seconds.len() < SECONDS_MIN);
    let short: BTreeSet<&str> = short.map(|phase| phase.name.as_str()).collect();
    cautions.extend(
        short.iter().map(|name| format!("phase {name} has fewer than {SECONDS_MIN} seconds: nothing is said of it")),
    );
    cautions
}

fn row(before: &Phase, after: &Phase, of: &str, measure: &Measure) -> Row {
    let values =
        |phase: &Phase| -> Vec<f64> { phase.seconds.iter().filter_map(|second| (measure.of)(second, of)).collect() };
    let (one, other) = (values(before), values(after));
    let (a, b) = (median(&one), median(&other));
    Row {
        phase: before.name.clone(),
        of: of.to_owned(),
        measure: measure.name,
        before: a,
        after: b,
        change_percent: (a > 0.0).then(|| (b - a) / a * 100.0),
        seconds: [one.len(), other.len()],
        probability: mann_whitney(&one, &other),
        verdict: Change::Same,
    }
}

impl Row {
    /// More than noise, and large enough to matter.
    fn judge(&mut self, stands_out: bool) {
        let measures = LATENCIES.iter().chain([&SERVED, &LEFT_OPEN, &GOODPUT, &REFUSED]);
        let Some(measure) = measures.into_iter().find(|measure| measure.name == self.measure) else { return };
        let change = self.after - self.before;
        let matters = self.change_percent.is_none_or(|percent| percent.abs() >= CHANGE_MIN_PERCENT)
            && (!measure.is_latency || change.abs() >= CHANGE_MIN_MS);
        if stands_out && matters && change != 0.0 {
            self.verdict = if (change < 0.0) == measure.less { Change::Better } else { Change::Worse };
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[expect(clippy::cast_precision_loss, reason = "counts of one second")]
fn exact(count: u64) -> f64 {
    count as f64
}

impl Comparison {
    /// The table for people: what moved first of all, then everything.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (word, side) in [("before", &self.before), ("after ", &self.after)] {
            lines.push(format!(
                "{word}  {}: {} with seed {}, server {}",
                side.directory, side.scenario, side.seed, side.server
            ));
        }
        lines.extend(self.cautions.iter().map(|caution| format!("  note: {caution}")));
        lines.push(format!(
            "{:<12} {:<12} {:<10} {:>12} {:>12} {:>9} {:>8}  verdict",
            "phase", "of", "measure", "before", "after", "change", "p"
        ));
        for row in &self.rows {
            let change = row.change_percent.map_or_else(|| "-".into(), |percent| format!("{percent:+.1} %"));
            let p = row.probability.map_or_else(|| "-".into(), |p| format!("{p:.4}"));
            lines.push(format!(
                "{:<12} {:<12} {:<10} {:>12.2} {:>12.2} {change:>9} {p:>8}  {}",
                row.phase,
                row.of,
                row.measure,
                row.before,
                row.after,
                row.verdict.word()
            ));
        }
        let moved = |change| self.rows.iter().filter(|row| row.verdict == change).count();
        lines.push(format!(
            "verdict: {} ({} better, {} worse of {} measures)",
            self.verdict.word(),
            moved(Change::Better),
            moved(Change::Worse),
            self.rows.len()
        ));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latencies that scatter by a third, in no order that a second or a request gives away.
    fn noisy(second: usize, request: usize, salt: usize) -> i64 {
        let scatter = (second * 7_919 + request * 104_729 + salt * 1_299_709) % 1_000;
        10_000 + i64::try_from(scatter * 3).unwrap()
    }

    fn verdict(comparison: &Comparison, measure: &str) -> Change {
        comparison.rows.iter().find(|row| row.measure == measure).unwrap().verdict
    }

    #[test]
    fn two_runs_of_one_kind_are_the_same() {
        let one = Run::made_up(30, |second, request| noisy(second, request, 1));
        for salt in 2..12 {
            let other = Run::made_up(30, |second, request| noisy(second, request, salt));
            let comparison = compare(&one, &other);
            assert_eq!(comparison.verdict, Change::Same, "{:#?}", comparison.rows);
        }
    }

    #[test]
    fn a_run_that_is_slower_is_worse_and_the_other_way_round_better() {
        let fast = Run::made_up(30, |second, request| noisy(second, request, 1));
        let slow = Run::made_up(30, |second, request| noisy(second, request, 2) * 12 / 10);
        let comparison = compare(&fast, &slow);
        assert_eq!((comparison.verdict, verdict(&comparison, "p50 ms")), (Change::Worse, Change::Worse));
        assert_eq!(verdict(&comparison, "bookings/s"), Change::Same);
        assert_eq!(compare(&slow, &fast).verdict, Change::Better);
    }

    #[test]
    fn a_sure_difference_that_nobody_would_feel_is_none() {
        let fast = Run::made_up(60, |second, request| noisy(second, request, 1));
        let slow = Run::made_up(60, |second, request| noisy(second, request, 1) + 150);
        let comparison = compare(&fast, &slow);
        let row = comparison.rows.iter().find(|row| row.measure == "p50 ms").unwrap();
        assert!(row.after > row.before && row.verdict == Change::Same, "{row:?}");
    }

    #[test]
    fn a_wait_that_nobody_had_is_not_compared() {
        let one = Run::made_up(30, |second, request| noisy(second, request, 1));
        let mut other = Run::made_up(30, |second, request| noisy(second, request, 2));
        for second in &mut other.phases[0].seconds {
            second.by_operation.values_mut().for_each(|answers| answers.latencies_us.clear());
        }
        for (before, after) in [(&one, &other), (&other, &one)] {
            let comparison = compare(before, after);
            assert!(comparison.rows.iter().all(|row| !row.measure.ends_with(" ms")), "{:#?}", comparison.rows);
            assert!(comparison.cautions.iter().any(|caution| caution.ends_with(" alone")), "{:?}", comparison.cautions);
        }
    }

    #[test]
    fn of_a_few_seconds_nothing_is_said() {
        let fast = Run::made_up(4, |_, _| 1_000);
        let slow = Run::made_up(4, |_, _| 90_000);
        let comparison = compare(&fast, &slow);
        assert_eq!(comparison.verdict, Change::Same);
        assert!(comparison.cautions[0].contains("fewer than 5 seconds"), "{:?}", comparison.cautions);
    }
}
