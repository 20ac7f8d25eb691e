//! What a run leaves for people: a page, a JSON file, and a summary on the terminal.

mod baseline;
mod charts;
mod crowd;
mod figures;
mod html;
mod machine;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::audit::{Evidence, Judgement};
use crate::console::say;
use crate::error::{CannotRun, Doing};
use crate::plan::Plan;
use crate::run::{Order, RunRecord};
use crate::samples;
use crate::wire::Version;
use figures::Figures;

pub(crate) use baseline::read as read_baseline;

#[derive(Serialize)]
struct Report<'a> {
    run: &'a RunRecord,
    judgement: &'a Judgement,
    figures: &'a Figures,
}

/// Says what is about to happen.
pub(crate) fn announce(order: &Order, plan: &Plan, version: &Version) {
    let fault = version.fault.as_deref().map(|fault| format!(", planted fault: {fault}")).unwrap_or_default();
    say(&format!("scenario {}  seed {}  server {}{fault}", order.scenario.name, order.seed, version.version));
    for note in order.notes.iter().filter(|note| !note.is_empty()) {
        say(&format!("  {}", note.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    let phases: Vec<String> =
        plan.phases.iter().map(|(name, at)| format!("{name} from {:.0}s", at.as_secs_f64())).collect();
    say(&format!(
        "  {} people for {} units in {} slots: {}",
        plan.arrivals.len(),
        order.inventory.units(),
        order.inventory.slots(),
        phases.join(", ")
    ));
}

/// Writes `report.html` and `report.json`, and prints the summary.
pub(crate) fn write(
    directory: &Path,
    record: &RunRecord,
    evidence: &Evidence,
    judgement: &Judgement,
    baseline: Option<&Path>,
) -> Result<(), CannotRun> {
    let figures = Figures::of(record, evidence);
    let before = baseline.map(baseline::read).transpose()?;
    let own = serde_json::to_value(Report { run: record, judgement, figures: &figures })
        .doing(|| "write the report".into())?;
    let json = serde_json::to_string_pretty(&Report { run: record, judgement, figures: &figures })
        .doing(|| "write the report".into())?;
    let samples = samples::read(directory)?;
    let beside = before.as_ref().map(|before| (before, &own));
    let page = html::Page { record, evidence, judgement, figures: &figures, samples: &samples, beside };
    for (name, text) in [("report.json", json), ("report.html", html::page(&page))] {
        let path = directory.join(name);
        std::fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
    }
    summary(directory, record, judgement, &figures);
    if let Some((before, now)) = beside {
        beside_baseline(before, now);
    }
    Ok(())
}

/// The run in one line, for who counts many of them: of the kill that landed best, how many changes were in flight and how
/// many were left unknown; what was acknowledged in all; and what was done to the server.
fn brief(figures: &Figures) -> String {
    let landed =
        figures.kills.iter().map(|kill| (kill.unknown, kill.changes_in_flight.min(kill.changes_waiting))).max();
    let (unknown, in_flight) = landed.unwrap_or((0, 0));
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    let hurts = figures.hurts.iter().map(|hurt| hurt.what.as_str());
    for fault in figures.kills.iter().map(|kill| kill.how.as_str()).chain(hurts) {
        *faults.entry(fault).or_default() += 1;
    }
    let faults: Vec<String> = faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
    format!(
        "in brief: {in_flight} in flight, {unknown} unknown, {} acknowledged, {} snapshots asked for; faults: {}",
        figures.changes_acknowledged,
        figures.snapshots_asked,
        if faults.is_empty() { "none".into() } else { faults.join(", ") }
    )
}

/// What moved against the baseline, by more than a tenth.
fn beside_baseline(before: &serde_json::Value, now: &serde_json::Value) {
    for row in baseline::rows(before, now) {
        if (row.now - row.before).abs() > row.before.abs() * 0.1 {
            say(&format!("beside the baseline: {} {:.1}, was {:.1} ({})", row.name, row.now, row.before, row.change()));
        }
    }
}

fn summary(directory: &Path, record: &RunRecord, judgement: &Judgement, figures: &Figures) {
    say("");
    say(&format!(
        "{} bookings acknowledged in {:.1} s; {} operations: {} ok, {} refused, {} unknown at first",
        figures.bookings_acknowledged,
        figures.drive_seconds,
        figures.operations,
        figures.ok,
        figures.refused,
        figures.unknown
    ));
    for (number, kill) in (1..).zip(&figures.kills) {
        say(&format!(
            "kill {number} ({}): {} operations in flight, {} of them changes, {} of these left unknown; {}",
            kill.how,
            kill.operations_in_flight,
            kill.changes_waiting,
            kill.unknown,
            kill.back_us.map_or_else(
                || "it did not come back".into(),
                |back| format!("back after {:.2} s", figures::milliseconds(back - kill.at_us) / 1_000.0)
            )
        ));
    }
    for hurt in &figures.hurts {
        let seconds = |us: i64| figures::milliseconds(us) / 1_000.0;
        let lasted = hurt
            .to_us
            .map_or_else(|| "to the end".into(), |to_us| format!("for {:.2} s", seconds(to_us - hurt.from_us)));
        let lost = hurt.lost_entries.map_or_else(String::new, |lost| format!("; back with {lost} entries fewer"));
        say(&format!("{} at {:.2} s {lasted}{lost}", hurt.what, seconds(hurt.from_us - figures.began_us)));
    }
    let generator = &record.generator;
    say(&format!(
        "people: {} planned, {} dropped; {} of {} starts more than {} ms late; the generator's loop late in {} s",
        generator.arrivals_planned,
        generator.arrivals_dropped,
        figures.late_starts,
        figures.starts,
        generator.late_ms,
        generator.lagging_seconds
    ));
    say(&brief(figures));
    say(&format!(
        "{:<9} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "", "ok", "refused", "unknown", "p50 ms", "p99 ms", "p99.9 ms", "max ms"
    ));
    for row in &figures.by_operation {
        say(&format!(
            "{:<9} {:>8} {:>8} {:>8} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
            row.op, row.ok, row.refused, row.unknown, row.p50_ms, row.p99_ms, row.p999_ms, row.max_ms
        ));
    }
    crowd::lines(figures).iter().for_each(|line| say(line));
    let refusals: Vec<String> = figures.refusals.iter().map(|(code, count)| format!("{code} {count}")).collect();
    say(&format!("refusals: {}", if refusals.is_empty() { "none".into() } else { refusals.join(", ") }));
    say("");
    for judged in &judgement.promises {
        let word = if judged.broken == 0 { "held".into() } else { format!("BROKEN {} times", judged.broken) };
        say(&format!("{:<13} {word:<8} {} ({})", judged.promise.word(), judged.sentence, judged.looked_at));
        for finding in judged.findings.iter().take(2) {
            say(&format!("    {}", finding.what));
            for line in &finding.story {
                say(&format!("        {line}"));
            }
        }
    }
    for measured in &judgement.objectives {
        let word = if measured.met { "met" } else { "MISSED" };
        say(&format!("objective     {word:<8} {} ({})", measured.wanted, measured.found));
    }
    for reason in &judgement.invalid_because {
        say(&format!("not enough to judge by: {reason}"));
    }
    say("");
    let broken: Vec<&str> =
        judgement.promises.iter().filter(|judged| judged.broken > 0).map(|judged| judged.promise.word()).collect();
    let names = if broken.is_empty() { String::new() } else { format!(": {}", broken.join(", ")) };
    say(&format!("verdict: {}{names}", judgement.verdict.word()));
    say(&format!("report: {}", directory.join("report.html").display()));
}
