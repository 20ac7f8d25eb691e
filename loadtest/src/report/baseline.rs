//! This run beside an earlier one: the figures that both have, and by how much they differ.
//!
//! Whether a difference is more than noise is the business of `berth-surge compare`.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::error::{CannotRun, Doing};

/// One figure of two runs.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) before: f64,
    pub(super) now: f64,
}

/// The report of the run in `directory`.
pub(crate) fn read(directory: &Path) -> Result<Value, CannotRun> {
    let path = directory.join("report.json");
    let text = std::fs::read_to_string(&path).doing(|| format!("read the baseline {}", path.display()))?;
    serde_json::from_str(&text).doing(|| format!("read the baseline {}", path.display()))
}

/// What both reports say, in order.
pub(super) fn rows(before: &Value, now: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |name: String, of: &dyn Fn(&Value) -> Option<f64>| {
        if let (Some(before), Some(now)) = (of(before), of(now)) {
            rows.push(Row { name, before, now });
        }
    };
    let figure = |report: &Value, name: &str| report["figures"][name].as_f64();
    for (name, field) in [
        ("bookings acknowledged", "bookings_acknowledged"),
        ("operations", "operations"),
        ("refused", "refused"),
        ("without an answer", "unknown"),
        ("late starts", "late_starts"),
    ] {
        add(name.into(), &|report| figure(report, field));
    }
    add("bookings a second".into(), &|report| {
        Some(figure(report, "bookings_acknowledged")? / figure(report, "drive_seconds").filter(|&s| s > 0.0)?)
    });
    let operations = now["figures"]["by_operation"].as_array().cloned().unwrap_or_default();
    for operation in operations.iter().filter_map(|row| row["op"].as_str()) {
        for (name, field) in [("p50", "p50_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms")] {
            add(format!("{operation}: {name}, ms"), &|report| {
                let rows = report["figures"]["by_operation"].as_array()?;
                rows.iter().find(|row| row["op"] == operation)?[field].as_f64()
            });
        }
    }
    rows
}

impl Row {
    /// As `+12 %`; nothing where there was nothing before.
    pub(super) fn change(&self) -> String {
        if self.before == 0.0 {
            return if self.now == 0.0 { "0 %".into() } else { "-".into() };
        }
        format!("{:+.0} %", (self.now - self.before) * 100.0 / self.before)
    }
}

/// The table of the page.
pub(super) fn table(html: &mut String, before: &Value, now: &Value) {
    let name = |report: &Value, field: &str| report["run"][field].as_str().unwrap_or("unknown").to_owned();
    let _ = write!(
        html,
        "<h2>Beside the baseline</h2><p class=\"soft\">The baseline was started at {} and ended as {}. Differences are shown as they are; `berth-surge compare` says which are more than noise.</p><div class=\"wide\"><table><tr><th>figure</th><th class=\"n\">baseline</th><th class=\"n\">this run</th><th class=\"n\">change</th></tr>",
        super::html::escape(&name(before, "started_at")),
        super::html::escape(before["judgement"]["verdict"].as_str().unwrap_or("unknown"))
    );
    for row in rows(before, now) {
        let number = |value: f64| if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") };
        let _ = write!(
            html,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            super::html::escape(&row.name),
            number(row.before),
            number(row.now),
            row.change()
        );
    }
    html.push_str("</table></div>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_have_stands_side_by_side() {
        let report = |bookings: u64, p99: f64| {
            serde_json::json!({ "figures": { "bookings_acknowledged": bookings, "drive_seconds": 10.0, "refused": 0,
                "by_operation": [{ "op": "hold", "p99_ms": p99 }] } })
        };
        let rows = rows(&report(100, 20.0), &report(150, 10.0));
        let told: Vec<(String, String)> = rows.iter().map(|row| (row.name.clone(), row.change())).collect();
        let told: Vec<(&str, &str)> = told.iter().map(|(name, change)| (name.as_str(), change.as_str())).collect();
        assert_eq!(
            told,
            [
                ("bookings acknowledged", "+50 %"),
                ("refused", "0 %"),
                ("bookings a second", "+50 %"),
                ("hold: p99, ms", "-50 %")
            ]
        );
    }
}
