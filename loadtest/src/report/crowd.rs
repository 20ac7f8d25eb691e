//! An overload, phase by phase, for page and terminal.

use std::fmt::Write;

use super::figures::Figures;
use crate::audit::PhaseFigures;

const HEADS: [&str; 11] = [
    "offered/s",
    "away/s",
    "no conn/s",
    "shed/s",
    "admitted/s",
    "bookings/s",
    "p50 ms",
    "p99 ms",
    "p99 ms*",
    "server",
    "client",
];

fn cells(phase: &PhaseFigures) -> [String; 11] {
    [
        format!("{:.0}", phase.offered_per_second),
        format!("{:.0}", phase.turned_away_per_second),
        format!("{:.0}", phase.no_connection_per_second),
        format!("{:.0}", phase.overloaded_per_second),
        format!("{:.0}", phase.admitted_per_second),
        format!("{:.1}", phase.bookings_per_second),
        format!("{:.1}", phase.p50_ms),
        format!("{:.1}", phase.p99_ms),
        format!("{:.1}", phase.p99_from_intended_ms),
        format!("{:.3}", phase.server_cpu),
        format!("{:.2}", phase.generator_cpu),
    ]
}

const LEGEND: &str = "away: sent off at their first request; p50 and p99 of what was admitted, from the sending; * from the intended \
    start; server and client: CPUs used";

/// Lines for the terminal; none without an overload.
pub(super) fn lines(figures: &Figures) -> Vec<String> {
    if figures.overload.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    if let Some(share) = &figures.share {
        lines.push(format!("the server was held to {share}"));
    }
    let row = |name: &str, cells: &[String]| {
        cells.iter().fold(format!("{name:<10}"), |mut line, cell| {
            let _ = write!(line, " {cell:>10}");
            line
        })
    };
    lines.push(row("phase", &HEADS.map(str::to_owned)));
    lines.extend(figures.overload.iter().map(|phase| row(&phase.phase, &cells(phase))));
    lines.push(LEGEND.split_whitespace().collect::<Vec<_>>().join(" "));
    lines
}

/// The same as a table.
pub(super) fn table(html: &mut String, figures: &Figures) {
    if figures.overload.is_empty() {
        return;
    }
    let share = figures.share.as_deref().unwrap_or("all it wanted");
    let _ = write!(
        html,
        "<h2>Overload</h2><p class=\"soft\">The server was held to {}. {LEGEND}.</p><div class=\"wide\"><table><tr><th>phase</th>",
        super::html::escape(share)
    );
    for head in HEADS {
        let _ = write!(html, "<th class=\"n\">{head}</th>");
    }
    html.push_str("</tr>");
    for phase in &figures.overload {
        let _ = write!(html, "<tr><td>{}</td>", super::html::escape(&phase.phase));
        for cell in cells(phase) {
            let _ = write!(html, "<td class=\"n\">{cell}</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>");
}
