//! What an operator looks at: metrics by the book, and dashboards and alerts that name what exists.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::client::Reply;
use crate::redis::{Redis, free_port};
use crate::server::{Server, claim, claims};

fn docs(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file)
}

/// Runs Debian's `promtool` (package `prometheus`), with this on its standard input; what it says.
#[track_caller]
fn promtool(arguments: &[&str], input: &str) {
    let command = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = command.expect("promtool is there: apt-get install -y --no-install-recommends prometheus");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
}

/// A page that has every family: Redis and events are there, and something was asked, booked and refused.
pub(crate) fn page() -> Reply {
    let store = tempfile::tempdir().unwrap();
    let redis = Redis::start(store.path(), free_port());
    let audit = store.path().join("audit.ndjson");
    let server = Server::start_with(&format!(
        "redis.url = '{}'\nevents.booking_codes = false\naudit.file = {audit:?}",
        redis.url()
    ));
    server.add_places();
    server.add_parties(10);
    let slots = server.add_slots("s", &[1]);
    server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    server.post("/v1/bookings", &claims(&[claim("p1.1", &slots[0])])).expect_problem(409, "full");
    server.get("/no/such/path/12345").expect_problem(404, "not_found");
    server.get("/metrics")
}

/// Names of metrics in a text, as the page spells them with `_bucket` and the like.
fn named(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| ["berth_", "process_"].iter().any(|family| word.starts_with(family)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_metrics_are_by_the_book_and_all_that_dashboard_and_alerts_name_exist() {
    let page = page();
    let page = page.text();
    promtool(&["check", "metrics"], page);
    // Of a family with labels a sample may be missing; its TYPE never is.
    let there: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let exists = |name: &str| {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        there.contains(name) || histogram.is_some_and(|family| there.contains(family))
    };
    for file in ["grafana/berth.json", "alerts/berth.rules.yml", "alerts/berth.rules.test.yml"] {
        let text = std::fs::read_to_string(docs(file)).unwrap();
        let names = named(&text);
        assert!(names.len() > 10, "{file}: {names:?}");
        let missing: Vec<_> = names.iter().filter(|name| !exists(name)).collect();
        assert!(missing.is_empty(), "{file} names what does not exist: {missing:?}");
    }
    for page_of_alert in std::fs::read_dir(docs("alerts")).unwrap() {
        let path = page_of_alert.unwrap().path();
        let missing: Vec<_> =
            named(&std::fs::read_to_string(&path).unwrap()).into_iter().filter(|name| !exists(name)).collect();
        assert!(missing.is_empty(), "{} names what does not exist: {missing:?}", path.display());
    }
    let line = "berth_http_request_duration_seconds_count{method=\"POST\",route=\"/v1/bookings\",code=\"2xx\"} 1";
    assert!(page.lines().any(|l| l == line), "{page}");
}

#[test]
fn every_alert_is_sound_fires_when_it_should_and_has_its_page() {
    let rules = docs("alerts/berth.rules.yml");
    promtool(&["check", "rules", rules.to_str().unwrap()], "");
    promtool(&["test", "rules", docs("alerts/berth.rules.test.yml").to_str().unwrap()], "");
    let text = std::fs::read_to_string(&rules).unwrap();
    let test = std::fs::read_to_string(docs("alerts/berth.rules.test.yml")).unwrap();
    let index = std::fs::read_to_string(docs("alerts/README.md")).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 15, "{names:?}");
    for name in &names {
        let page = std::fs::read_to_string(docs(&format!("alerts/{name}.md"))).expect("each alert has its page");
        for head in
            [format!("# {name}"), "## What it means".into(), "## What to look at".into(), "## What to do".into()]
        {
            assert!(page.lines().any(|line| line == head), "{name}: {head}");
        }
        assert!(text.contains(&format!("runbook: docs/alerts/{name}.md")), "{name}");
        assert!(index.contains(&format!("({name}.md)")), "{name}");
        assert!(test.lines().any(|line| line.trim() == format!("alertname: {name}")), "{name} is tested");
    }
    let pages = std::fs::read_dir(docs("alerts"))
        .unwrap()
        .filter(|page| page.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "md"));
    assert_eq!(pages.count(), names.len() + 1, "no page of an alert that is no more");
}

#[test]
fn the_dashboard_can_be_read_by_grafana() {
    let text = std::fs::read_to_string(docs("grafana/berth.json")).unwrap();
    let board: Value = serde_json::from_str(&text).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "ids differ");
    let mut expressions = String::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let plain = expression.replace("$__rate_interval", "5m").replace("$instance", ".*");
            expressions += &format!("      - record: r{}\n        expr: >-\n          {plain}\n", expressions.len());
        }
    }
    // Every expression is one that Prometheus can read.
    let home = tempfile::tempdir().unwrap();
    let rules = home.path().join("board.yml");
    std::fs::write(&rules, format!("groups:\n  - name: board\n    rules:\n{expressions}")).unwrap();
    promtool(&["check", "rules", rules.to_str().unwrap()], "");
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_trace_is_gone_on_with_in_answers_and_in_the_log() {
    let server = Server::start_with("log.format = 'json'\nlog.access_one_in = 1");
    let asked = server.send("GET", "/v1/regions", &[("traceparent", PARENT)], b"");
    let said = asked.header("traceparent").expect("a trace that was asked for is told").to_owned();
    assert!(said.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && said != PARENT, "{said}");
    // A refusal has one to ask about, whoever began it.
    let refused = server.get("/v1/bookings/0126-YN8ZR-4W7CK?phone=9876543210");
    refused.expect_problem(401, "unauthenticated");
    let own = refused.header("traceparent").expect("a refusal tells its trace").to_owned();
    assert_eq!(server.get("/v1/regions").header("traceparent"), None);
    server.get("/no/such/secret-path").expect_problem(404, "not_found");

    let told = server.home.told();
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    let of = |trace: &str| {
        let id = trace.split('-').nth(1).unwrap();
        lines.iter().find(|line| line["trace_id"] == id).unwrap_or_else(|| panic!("{id} in {told}"))
    };
    let line = of(&own);
    assert_eq!(
        (&line["route"], &line["status"], &line["method"]),
        (&"/v1/bookings/{booking}".into(), &401.into(), &"GET".into())
    );
    assert_eq!((&of(&said)["level"], &of(&said)["message"]), (&"INFO".into(), &"request".into()));
    for secret in ["YN8ZR", "9876543210", "secret-path", "127.0.0.1:"] {
        let hidden =
            lines.iter().filter(|line| line["message"] == "request").all(|line| !line.to_string().contains(secret));
        assert!(hidden, "{secret} in {told}");
    }
}

#[test]
fn a_log_line_for_a_request_is_written_only_if_asked_for() {
    let server = Server::start();
    server.get("/v1/regions").expect(200);
    server.get("/healthz").expect(200);
    assert!(!server.home.told().contains("/v1/regions"), "{}", server.home.told());
}
