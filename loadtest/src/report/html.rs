//! The page: one file that opens anywhere, verdict and promises first.

use std::fmt::Write as _;

use serde_json::Value;

use super::charts::{Line, Outage, district_field, over_time};
use super::figures::{Figures, milliseconds};
use super::{baseline, crowd, machine};
use crate::audit::{Evidence, Judged, Judgement};
use crate::run::RunRecord;
use crate::samples::Sample;

const STYLE: &str = "
:root{--ink:#1c2430;--soft:#5d6b7c;--line:#dde3ea;--ground:#fff;--panel:#f6f8fa;--a:#2463c7;--b:#178a5b;--c:#c9780a;--d:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#98a5b5;--line:#2d3743;--ground:#12171d;--panel:#1a2129;--a:#72a5f2;--b:#4fc393;--c:#e6a44a;--d:#ef7a72}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);max-width:980px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.4rem 0}
.verdict{border-left:8px solid;background:var(--panel);padding:1rem 1.2rem;margin:1rem 0}
.verdict b{font-size:1.6rem}.held{border-color:var(--b)}.broken{border-color:var(--d)}.invalid,.missed{border-color:var(--c)}
.soft,.legend{color:var(--soft)}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right}.ok{color:var(--b)}.no{color:var(--d);font-weight:600}
details{margin:.3rem 0}pre{background:var(--panel);padding:.6rem;overflow-x:auto;font-size:12px;margin:.3rem 0}
svg{width:100%;height:auto}.grid{stroke:var(--line)}.mark{fill:var(--soft);font-size:11px}.kill{fill:var(--d);font-size:11px}
.outage{fill:var(--d);fill-opacity:.13}.line{fill:none;stroke-width:1.6;stroke-linecap:round}.line.a{stroke:var(--a)}.line.b{stroke:var(--b)}
.line.c{stroke:var(--c)}.line.d{stroke:var(--d)}.key{display:inline-block;width:.8rem;height:.25rem;margin:0 .3rem .2rem .8rem}
.key.a{background:var(--a)}.key.b{background:var(--b)}.key.c{background:var(--c)}.key.d{background:var(--d)}
.cell{fill:var(--b)}.empty{fill:none;stroke:var(--line)}code{font-size:13px;overflow-wrap:anywhere}
";

/// What a page is made of.
pub(crate) struct Page<'a> {
    pub(crate) record: &'a RunRecord,
    pub(crate) evidence: &'a Evidence,
    pub(crate) judgement: &'a Judgement,
    pub(crate) figures: &'a Figures,
    pub(crate) samples: &'a [Sample],
    /// The baseline's report and this run's own.
    pub(crate) beside: Option<(&'a Value, &'a Value)>,
}

/// The whole page.
pub(crate) fn page(page: &Page<'_>) -> String {
    let Page { record, evidence, judgement, figures, samples, beside } = *page;
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{} - {}</title><style>{STYLE}</style><h1>Surge: {}</h1>",
        escape(&record.scenario.name),
        judgement.verdict.word(),
        escape(&record.scenario.name),
    );
    verdict(&mut html, record, judgement, figures);
    promises(&mut html, judgement);
    objectives(&mut html, judgement);
    if let Some((before, now)) = beside {
        baseline::table(&mut html, before, now);
    }
    let outages = outages(evidence, figures);
    charts(&mut html, figures, &outages);
    html.push_str(&machine::filling(record, evidence, figures.seconds.len(), &outages));
    html.push_str(&machine::server(samples, figures.began_us, figures.seconds.len(), &outages));
    tables(&mut html, figures);
    districts(&mut html, figures);
    about(&mut html, record, figures);
    html.push_str("</html>\n");
    html
}

fn verdict(html: &mut String, record: &RunRecord, judgement: &Judgement, figures: &Figures) {
    let word = judgement.verdict.word();
    let _ = write!(
        html,
        "<div class=\"verdict {word}\"><b>{word}</b><p>{} bookings acknowledged in {:.0} s across {} kill{}; {} operations, {} refused, {} left open at first.</p>",
        figures.bookings_acknowledged,
        figures.drive_seconds,
        figures.kills.len(),
        if figures.kills.len() == 1 { "" } else { "s" },
        figures.operations,
        figures.refused,
        figures.unknown
    );
    if let Some(fault) = &record.server.fault {
        let _ = write!(html, "<p class=\"no\">This server has a planted fault: {}</p>", escape(fault));
    }
    for reason in &judgement.invalid_because {
        let _ = write!(html, "<p>The run proves less than it should: {}.</p>", escape(reason));
    }
    html.push_str("</div>");
}

fn promises(html: &mut String, judgement: &Judgement) {
    html.push_str("<h2>Promises</h2><div class=\"wide\"><table><tr><th>promise</th><th></th><th>looked at</th></tr>");
    for judged in &judgement.promises {
        let (class, word) =
            if judged.broken == 0 { ("ok", "held".into()) } else { ("no", format!("broken {} times", judged.broken)) };
        let _ = write!(
            html,
            "<tr><td><b>{}</b><br>{}</td><td class=\"{class}\">{word}</td><td class=\"soft\">{}</td></tr>",
            judged.promise.word(),
            prose(judged.sentence),
            prose(&judged.looked_at)
        );
    }
    html.push_str("</table></div>");
    for judged in judgement.promises.iter().filter(|judged| judged.broken > 0) {
        findings(html, judged);
    }
}

fn findings(html: &mut String, judged: &Judged) {
    let _ = write!(html, "<h2>{} is broken</h2>", judged.promise.word());
    for (index, finding) in judged.findings.iter().enumerate() {
        let open = if index == 0 { " open" } else { "" };
        let _ = write!(html, "<details{open}><summary>{}</summary><pre>", prose(&finding.what));
        for line in &finding.story {
            let _ = writeln!(html, "{}", escape(line));
        }
        html.push_str("</pre></details>");
    }
    if judged.broken > judged.findings.len() {
        let _ = write!(html, "<p class=\"soft\">and {} more</p>", judged.broken - judged.findings.len());
    }
}

fn objectives(html: &mut String, judgement: &Judgement) {
    if judgement.objectives.is_empty() {
        return;
    }
    html.push_str("<h2>Objectives</h2><div class=\"wide\"><table><tr><th>wanted</th><th></th><th>measured</th></tr>");
    for measured in &judgement.objectives {
        let (class, word) = if measured.met { ("ok", "met") } else { ("no", "missed") };
        let (wanted, found) = (escape(&measured.wanted), escape(&measured.found));
        let _ =
            write!(html, "<tr><td>{wanted}</td><td class=\"{class}\">{word}</td><td class=\"soft\">{found}</td></tr>");
    }
    html.push_str("</table></div>");
}

/// Every stretch in which something was hurt, for the charts.
fn outages(evidence: &Evidence, figures: &Figures) -> Vec<Outage> {
    let began_us = evidence.began_us();
    let seconds = |us: i64| milliseconds(us - began_us) / 1_000.0;
    let outage = |word, from_us, to_us: Option<i64>| {
        let (from_s, to_s) = (seconds(from_us), seconds(to_us.unwrap_or(from_us)));
        Outage { word, from_s, to_s }
    };
    let kills = figures.kills.iter().map(|kill| outage("kill", kill.at_us, kill.back_us));
    kills.chain(figures.hurts.iter().map(|hurt| outage(short(&hurt.what), hurt.from_us, hurt.to_us))).collect()
}

/// A fault in a word or two.
fn short(what: &str) -> &'static str {
    match what {
        "disk-fill" => "disk full",
        "disk-slow" => "slow disk",
        "server-pause" => "pause",
        "connections-cut" => "cut",
        "centre-close" => "centre closes",
        "command" => "command",
        _ => "Redis",
    }
}

fn charts(html: &mut String, figures: &Figures, outages: &[Outage]) {
    let values = |of: &dyn Fn(&crate::audit::Second) -> i64| -> Vec<Option<f64>> {
        figures.seconds.iter().map(|second| Some(milliseconds(of(second)) * 1_000.0)).collect()
    };
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let line = |name, class, values| Line { name, class, values };
    html.push_str("<h2>What was asked and what came of it, per second</h2>");
    html.push_str(&over_time(
        &[
            line("starts", "a", values(&|second| count(second.starts))),
            line("ok", "b", values(&|second| count(second.ok))),
            line("refused", "c", values(&|second| count(second.refused))),
            line("unknown", "d", values(&|second| count(second.unknown))),
        ],
        outages,
        false,
    ));
    html.push_str("<h2>Bookings acknowledged per second</h2>");
    html.push_str(&over_time(&[line("bookings", "b", values(&|second| count(second.bookings)))], outages, false));
    html.push_str("<h2>Latency from the intended start, in milliseconds</h2>");
    let latency = |of: &dyn Fn(&crate::audit::Second) -> i64| -> Vec<Option<f64>> {
        // A second without answers has no latency.
        let answered = |second: &&crate::audit::Second| second.ok + second.refused > 0;
        figures.seconds.iter().map(|second| Some(second).filter(answered).map(|one| milliseconds(of(one)))).collect()
    };
    html.push_str(&over_time(
        &[
            line("median", "a", latency(&|second| second.latency_p50_us)),
            line("p99", "d", latency(&|second| second.latency_p99_us)),
            line("median from the sending", "b", latency(&|second| second.service_p50_us)),
        ],
        outages,
        true,
    ));
}

fn tables(html: &mut String, figures: &Figures) {
    html.push_str("<h2>Latencies by operation</h2><p class=\"soft\">Milliseconds from the intended start, of everything that was answered; a request that had to be sent again counts from its first intention.</p><div class=\"wide\"><table><tr><th>operation</th>");
    for head in ["ok", "refused", "unknown", "p50", "p99", "p99.9", "max", "p50 from sending"] {
        let _ = write!(html, "<th class=\"n\">{head}</th>");
    }
    html.push_str("</tr>");
    for row in &figures.by_operation {
        let _ = write!(html, "<tr><td>{}</td>", row.op);
        for count in [row.ok, row.refused, row.unknown] {
            let _ = write!(html, "<td class=\"n\">{count}</td>");
        }
        for time in [row.p50_ms, row.p99_ms, row.p999_ms, row.max_ms, row.service_p50_ms] {
            let _ = write!(html, "<td class=\"n\">{time:.1}</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>");
    for (head, counts) in [("Refusals by reason", &figures.refusals), ("Answers that never came", &figures.unknowns)] {
        let _ = write!(html, "<h2>{head}</h2><div class=\"wide\"><table>");
        for (code, count) in counts {
            let _ = write!(html, "<tr><td>{}</td><td class=\"n\">{count}</td></tr>", escape(code));
        }
        html.push_str("</table></div>");
    }
    crowd::table(html, figures);
    if !figures.kills.is_empty() {
        html.push_str("<h2>Kills</h2><div class=\"wide\"><table><tr><th>how</th><th class=\"n\">changes in flight</th><th class=\"n\">changes waiting</th><th class=\"n\">of them left unknown</th><th class=\"n\">back after</th></tr>");
        for kill in &figures.kills {
            let back = kill
                .back_us
                .map_or_else(|| "never".into(), |back| format!("{:.2} s", milliseconds(back - kill.at_us) / 1_000.0));
            let _ = write!(
                html,
                "<tr><td>kill -9, {}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{back}</td></tr>",
                escape(&kill.how),
                kill.changes_in_flight,
                kill.changes_waiting,
                kill.unknown
            );
        }
        html.push_str("</table></div>");
    }
    if !figures.hurts.is_empty() {
        html.push_str("<h2>Other faults</h2><div class=\"wide\"><table><tr><th>what</th><th class=\"n\">at</th><th class=\"n\">for</th><th class=\"n\">entries lost from Redis</th></tr>");
        for hurt in &figures.hurts {
            let seconds = |us: i64| format!("{:.2} s", milliseconds(us) / 1_000.0);
            let _ = write!(
                html,
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                escape(&hurt.what),
                seconds(hurt.from_us - figures.began_us),
                hurt.to_us.map_or_else(|| "to the end".into(), |to_us| seconds(to_us - hurt.from_us)),
                hurt.lost_entries.map_or_else(String::new, |lost| lost.to_string())
            );
        }
        html.push_str("</table></div>");
    }
}

fn districts(html: &mut String, figures: &Figures) {
    let units: u64 = figures.districts.iter().map(|district| district.units).sum();
    let taken: u64 = figures.districts.iter().map(|district| district.taken).sum();
    let _ = write!(
        html,
        "<h2>Slots filled by district</h2><p class=\"soft\">{taken} of {units} units taken at the end, in {} districts; an empty frame has nothing for sale.</p>",
        figures.districts.len()
    );
    html.push_str(&district_field(&figures.districts));
}

fn about(html: &mut String, record: &RunRecord, figures: &Figures) {
    html.push_str("<h2>The run</h2><div class=\"wide\"><table>");
    let mut row = |name: &str, value: &str| {
        let _ = write!(html, "<tr><td>{name}</td><td><code>{}</code></td></tr>", escape(value));
    };
    row("command", &record.command);
    row("seed", &record.seed.to_string());
    row("started", &record.started_at);
    let fault = record.server.fault.as_deref().unwrap_or("none");
    row("server", &format!("berth {}, planted fault: {fault}", record.server.version));
    row("server ready after", &ready_after(&record.server_starts_ms));
    row("for sale", &format!("{} units in {} slots, {} districts", record.units, record.slots, record.districts.len()));
    row(
        "people",
        &format!(
            "{} planned, {} dropped; {} of {} starts late",
            record.generator.arrivals_planned, record.generator.arrivals_dropped, figures.late_starts, figures.starts
        ),
    );
    for note in record.notes.iter().filter(|note| !note.is_empty()) {
        row("note", note);
    }
    html.push_str("</table></div><p class=\"soft\">Beside this page: report.json (these figures), goose.html (Goose's own report), history.ndjson, samples.ndjson, export.ndjson, entries.ndjson, verify.json, server.log.</p>");
}

/// How long each start of the server took, in words.
fn ready_after(starts_ms: &[u64]) -> String {
    let starts: Vec<String> = (1..).zip(starts_ms).map(|(start, ms)| format!("{ms} ms at start {start}")).collect();
    if starts.is_empty() { "no start seen".into() } else { starts.join(", ") }
}

/// Text that cannot become markup, with what stands between backticks as code.
fn prose(text: &str) -> String {
    let text = escape(text);
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        // A backtick without its partner is only a backtick.
        return text;
    }
    let mut html = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index % 2 == 1 {
            let _ = write!(html, "<code>{part}</code>");
        } else {
            html.push_str(part);
        }
    }
    html
}

/// Text that cannot become markup.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_become_code_and_nothing_else_becomes_markup() {
        assert_eq!(prose("a `full` <b>"), "a <code>full</code> &lt;b&gt;");
        assert_eq!(prose("a `<i>` `"), "a `&lt;i&gt;` `");
    }

    #[test]
    fn starts_are_said_in_words() {
        assert_eq!(ready_after(&[412, 380]), "412 ms at start 1, 380 ms at start 2");
        assert_eq!(ready_after(&[]), "no start seen");
    }
}
