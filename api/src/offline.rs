//! Reading a data directory that no server owns: `berth export` and `berth verify`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use berth_engine::verify::directory::{self, Progress, Report};
use berth_engine::{JournalFiles, Limits};
use serde_json::{Map, Value, json};

use crate::cli;
use crate::export::{self, Sink, Stopped};
use crate::meter::{Meter, Unit};
use crate::progress::doing;

/// Rules that are about what a process does, or about Redis, and leave no trace in its files.
const NOT_SHOWN: &str = "a data directory does not show it";
const NOT_SHOWN_RULES: [&str; 44] = [
    "CAP-2", "PTY-2", "HLD-2", "HLD-3", "HLD-6", "IDM-2", "JNL-2", "JNL-3", "JNL-5", "FNC-2", "FNC-3", "FNC-4",
    "FNC-5", "FNC-6", "FNC-7", "FNC-8", "EVT-1", "ADM-1", "ADM-2", "ADM-3", "SCH-1", "ELG-1", "ELG-2", "ELG-3",
    "PPL-1", "PPL-2", "PPL-3", "PPL-4", "PPL-5", "PPL-6", "WTL-1", "WTL-2", "LOT-1", "LOT-2", "SUP-1", "SUP-2",
    "SUP-3", "SUP-4", "CRT-1", "CRT-2", "CRT-3", "CRT-4", "CRT-5", "CRT-6",
];

/// `berth export`
pub(crate) fn export(data_dir: &Path, limits: &Limits, quiet: bool) -> Result<ExitCode, String> {
    let mut meter = Meter::new(quiet);
    let opened = berth_programme::open_read_only(data_dir, limits, &mut |progress| {
        meter.show(doing(progress.stage), progress.bytes, progress.bytes_max, Unit::Bytes);
    });
    drop(meter);
    let (engine, catalogue) = opened.map_err(|error| error.to_string())?;
    let mut stdout = Stdout { meter: Meter::beside_output(quiet), of: engine.stats().bookings };
    export::everything(&engine, &catalogue, &mut stdout).map_err(|Stopped| cli::CANNOT_WRITE.to_owned())?;
    Ok(ExitCode::SUCCESS)
}

/// `berth verify`
pub(crate) fn verify(data_dir: &Path, limits: &Limits, quiet: bool) -> Result<ExitCode, String> {
    let files = JournalFiles::open(data_dir).map_err(|error| error.to_string())?;
    let mut meter = Meter::new(quiet);
    let report = directory::verify(&files, limits.idempotency_window, &mut |progress| judged(&mut meter, progress));
    drop(meter);
    let told = told(&report.map_err(|error| error.to_string())?, limits);
    let held = told["verdict"] == "held";
    cli::tell(&summary(&told));
    cli::say(&told.to_string())?;
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The report as it is printed.
pub(crate) fn told(report: &Report, limits: &Limits) -> Value {
    let mut not_judged: Map<String, Value> =
        NOT_SHOWN_RULES.iter().map(|rule| ((*rule).to_owned(), NOT_SHOWN.into())).collect();
    // The journal does not say when a key had to make room for newer ones, and after that it may be used again.
    let (keys, keys_max) = (report.judged.idm_1, limits.idempotency_keys_max);
    let keys_judged = keys <= keys_max as u64;
    if !keys_judged {
        let reason = format!("{keys} entries have keys, the server keeps {keys_max} and may have dropped some early");
        not_judged.insert("IDM-1".to_owned(), reason.into());
    }
    let (first, from, counted) = (report.first, report.judged_from, report.counted_from);
    if from >= first {
        let reason = format!("entries {first} to {from} are in the snapshot that the books begin with");
        not_judged.insert("JNL-1".to_owned(), reason.into());
    }
    if counted > from {
        let reason = format!("units and claims are counted from entry {counted} on, the S1 of the snapshot at {from}");
        not_judged.insert("CAP-1".to_owned(), reason.clone().into());
        not_judged.insert("PTY-1".to_owned(), reason.into());
    }
    if report.judged.snp_3 == 0 {
        let reason = "there is no snapshot but the one the books begin with, or none at all";
        not_judged.insert("SNP-3".to_owned(), reason.into());
    }
    let findings: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| keys_judged || finding.rule != "IDM-1")
        .map(|finding| json!({"rule": finding.rule, "seq": finding.seq.0, "detail": finding.detail}))
        .collect();
    let snapshots: Vec<_> = report
        .snapshots
        .iter()
        .map(|seen| json!({"s0": seen.s0.0, "s1": seen.s1.map(|s1| s1.0), "bytes": seen.bytes, "fault": seen.fault}))
        .collect();
    let judged = report.judged.by_rule().into_iter().map(|(rule, n)| (rule.to_owned(), n.into()));
    let judged: Map<String, Value> = judged.collect();
    let milliseconds = report.nanos / 1_000_000;
    let mut told = json!({
        "verdict": if findings.is_empty() { "held" } else { "broken" },
        "entries": report.entries,
        "findings": findings,
        "first": first.0,
        "last": report.last.0,
        "judged_from": from.0,
        "epoch": report.epoch.0,
        "bytes": report.bytes,
        "snapshots": snapshots,
        "judged": judged,
        "not_judged": not_judged,
        "milliseconds": milliseconds,
        "entries_per_second": per_second(report.entries, report.nanos),
    });
    if let Some((path, offset)) = &report.torn {
        told["torn"] = json!({"segment": path.display().to_string(), "offset": offset});
    }
    if !keys_judged {
        told["idempotency"] =
            format!("not judged: {}", told["not_judged"]["IDM-1"].as_str().unwrap_or_default()).into();
    }
    told
}

fn per_second(entries: u64, nanos: u64) -> u64 {
    u64::try_from(u128::from(entries) * 1_000_000_000 / u128::from(nanos.max(1))).unwrap_or(u64::MAX)
}

/// For whoever watches.
fn summary(told: &Value) -> String {
    let judged = told["judged"].as_object().into_iter().flatten();
    let judged: Vec<_> = judged.map(|(rule, n)| format!("{rule} {n}")).collect();
    let findings = told["findings"].as_array().map_or(0, Vec::len);
    let mut lines = vec![
        format!(
            "berth: {}: {} entries to {}, {} snapshots, {findings} findings, {} entries/s",
            told["verdict"].as_str().unwrap_or_default(),
            told["entries"],
            told["last"],
            told["snapshots"].as_array().map_or(0, Vec::len),
            told["entries_per_second"],
        ),
        format!("berth: times judged: {}", judged.join(", ")),
    ];
    for finding in told["findings"].as_array().into_iter().flatten().take(10) {
        let part = |name: &str| finding[name].to_string();
        lines.push(format!("berth: {} at entry {}: {}", part("rule"), part("seq"), part("detail")));
    }
    lines.join("\n")
}

/// Shows how far judging a directory is.
pub(crate) fn judged(meter: &mut Meter, progress: Progress) {
    let Progress { bytes, bytes_total, .. } = progress;
    meter.show("judging", bytes, bytes_total, Unit::Bytes);
}

struct Stdout {
    meter: Meter,
    /// Bookings that there are.
    of: u64,
}

impl Sink for Stdout {
    fn at(&mut self, bookings: u64) {
        self.meter.show("printing", bookings, self.of, Unit::Things("bookings"));
    }

    fn piece(&mut self, bytes: Vec<u8>) -> Result<(), Stopped> {
        std::io::stdout().lock().write_all(&bytes).map_err(|_| Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_judged_or_said_not_to_be() {
        let told = told(&Report::default(), &Limits::default());
        let named = |rule: &str| told["judged"].get(rule).is_some() || told["not_judged"].get(rule).is_some();
        let rules = include_str!("../../RULES.md").lines().filter_map(|line| {
            let id = line.strip_prefix("| ")?.split_once(' ')?.0;
            id.contains('-').then_some(id)
        });
        let missing: Vec<_> = rules.clone().filter(|rule| !named(rule)).collect();
        assert!(missing.is_empty(), "neither judged nor said not to be: {missing:?}");
        assert!(rules.count() > 20, "the table was read");
    }
}
