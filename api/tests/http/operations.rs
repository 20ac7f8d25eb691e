//! Export, probes, metrics, version.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::observability::page;
use crate::server::{Server, berth, claim, claims, lines};

#[test]
fn the_export_tells_everything_and_ends_with_end() {
    let (server, slots) = Server::with_slots(&[2, 7]);
    let hold = server.post("/v1/holds", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.1", &slots[1])])).expect(201);
    let export = server.export();
    let slot = |slot: &str, capacity, held, booked| {
        json!({"kind": "slot", "slot": slot, "session": "s", "pool": "dose1",
               "capacity": capacity, "held": held, "booked": booked})
    };
    assert_eq!(export[..2], [slot(&slots[0], 2, 1, 0), slot(&slots[1], 7, 0, 1)]);
    assert_eq!((&export[2]["booking"], &export[2]["state"]), (&hold["hold"], &json!("held")));
    let line = json!({"kind": "booking", "booking": booked["hold"], "hold": booked["hold"], "state": "booked",
                      "party": "p1.1", "slot": slots[1], "dose": 1, "expires_at": null});
    assert_eq!(export[3], line);
    // The programme, regions, centres, parties, sessions, hold, booking.
    assert_eq!(export[4], json!({"kind": "end", "slots": 2, "bookings": 2, "seq": 7}));
    assert_eq!(export.len(), 5);
}

#[test]
fn a_directory_at_rest_exports_the_same_and_verifies() {
    let (server, slots) = Server::with_slots(&[2, 2]);
    let hold = server.post("/v1/holds", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    server.post(&format!("/v1/holds/{}/confirm", hold["hold"].as_str().unwrap()), &Value::Null).expect(200);
    let moved =
        server.post(&format!("/v1/bookings/{}/move", hold["hold"].as_str().unwrap()), &json!({"slot": slots[1]}));
    let moved = moved.expect(200)["booking"].as_str().unwrap().to_owned();
    server.post(&format!("/v1/bookings/{moved}/cancel"), &Value::Null).expect(200);
    let live = server.export();

    let locked = berth(&["export", "--data-dir", &server.data_dir()]).output().unwrap();
    assert_eq!(locked.status.code(), Some(2), "a server owns the directory");
    server.terminate();
    let (status, home) = server.ended();
    assert!(status.success());
    let data = home.path("data");
    let run = |arguments: &[&str]| {
        let output = berth(arguments).args(["--data-dir", data.to_str().unwrap()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        lines(std::str::from_utf8(&output.stdout).unwrap())
    };
    assert_eq!(run(&["export"]), live);
    let told = &run(&["verify"])[0];
    assert_eq!((&told["verdict"], &told["entries"], &told["findings"]), (&json!("held"), &json!(9), &json!([])));
    let judged = ["CAP-1", "PTY-1", "HLD-1", "HLD-4", "BKG-1", "BKG-2", "IDM-1", "JNL-1", "JNL-4", "FNC-1", "TIM-1"];
    for rule in judged {
        assert!(told["judged"][rule].as_u64().unwrap() > 0, "{rule}: {told}");
    }
    assert_eq!(told["judged"]["BKG-2"], 1);
    assert!(told["not_judged"]["JNL-2"].is_string() && told["entries_per_second"].as_u64().unwrap() > 0, "{told}");
    let entries = run(&["export", "--entries"]);
    assert_eq!(run(&["journal", "dump"]), entries);
    let kinds: Vec<_> = entries.iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["note", "note", "note", "parties_added", "published", "held", "confirmed", "moved", "cancelled"]
    );
    entries[5]["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().expect("RFC 3339");
    let claim = |booking: &Value, slot: &str| json!([{"booking": booking, "party": "p1.0", "slot": slot, "dose": 1}]);
    assert_eq!(entries[6]["claims"], claim(&hold["hold"], &slots[0]));
    assert_eq!((&entries[7]["from"], &entries[7]["claims"]), (&hold["hold"], &claim(&json!(moved), &slots[1])));
    assert_eq!(entries[8]["claims"], claim(&json!(moved), &slots[1]));
    assert!(entries.iter().zip(1..).all(|(e, seq)| e["seq"] == seq && e["epoch"] == 1));
}

#[test]
fn offline_commands_take_the_limits_of_the_servers_file() {
    let server = Server::start_with("limits.idempotency_keys_max = 1");
    server.add_places();
    server.terminate();
    let (_, home) = server.ended();
    let (config, data) = (home.path("berth.toml"), home.path("data"));
    let run = |command: &str, config: &str| {
        let arguments = [command, "--data-dir", data.to_str().unwrap(), "--config", config];
        berth(&arguments).output().unwrap()
    };
    let told = run("verify", config.to_str().unwrap());
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told = &lines(std::str::from_utf8(&told.stdout).unwrap())[0];
    assert_eq!((&told["verdict"], &told["entries"]), (&json!("held"), &json!(3)));
    assert!(told["idempotency"].as_str().unwrap().starts_with("not judged: 2 entries have keys"), "{told}");

    // A file of limits alone is enough, and they are the ones in force.
    let small = home.path("small.toml");
    std::fs::write(&small, "limits.parties_max = 0").unwrap();
    for command in ["verify", "export"] {
        let refused = run(command, small.to_str().unwrap());
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr.contains("small.toml: limits.parties_max: "), "{stderr}");
    }
}

#[test]
fn probes_version_and_head_answer() {
    let server = Server::start();
    server.get("/healthz").expect(200);
    server.get("/readyz").expect(200);
    let version = server.get("/version").expect(200);
    assert_eq!(version, json!({"version": env!("CARGO_PKG_VERSION"), "fault": null, "cell": 1, "epoch": 1}));
    let head = server.send("HEAD", "/version", &[], b"");
    let length = server.get("/version").body.len().to_string();
    assert_eq!((head.status, head.header("content-length")), (200, Some(length.as_str())));
    server.add_parties(1);
    let server = server.kill_and_restart();
    assert_eq!(
        server.get("/version").expect(200)["epoch"],
        2,
        "a start takes the epoch after the newest in the journal"
    );
}

#[test]
fn the_units_of_all_slots_are_counted() {
    let (server, slots) = Server::with_slots(&[3, 4]);
    server.post("/v1/holds", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    server.post("/v1/bookings", &claims(&[claim("p1.1", &slots[1]), claim("p1.2", &slots[1])])).expect(201);
    for line in ["berth_units_slots 2", "berth_units_capacity 7", "berth_units_held 1", "berth_units_booked 2"] {
        server.wait_for_metric(line);
    }
}

#[test]
fn every_metric_has_help_and_type_and_bounded_labels() {
    let reply = page();
    assert!(reply.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = reply.text();
    let mut declared = HashSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            declared.insert(rest.split(' ').next().unwrap());
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.split_once(' ').is_some_and(|(_, help)| help.ends_with('.')), "{line}");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
            assert!(declared.contains(family) || declared.contains(name), "{line}");
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        }
    }
    for line in [
        "berth_http_requests_total{method=\"POST\",route=\"/v1/bookings\",status=\"201\"} 1",
        "berth_http_requests_total{method=\"POST\",route=\"/v1/bookings\",status=\"409\"} 1",
        "berth_http_requests_total{method=\"\",route=\"\",status=\"404\"} 1",
        "berth_http_refusals_total{code=\"full\"} 1",
        "berth_journal_entries_total{kind=\"booked\"} 1",
        "berth_parties 10",
        "berth_journal_starved 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    assert!(!text.contains("12345"), "no label holds a path");

    // What the pages name is there, and all of Redis and the events is on a page.
    let named = named_on_the_pages();
    let families: HashSet<&str> = declared.iter().map(|name| family(name)).collect();
    let unknown: Vec<_> =
        named.iter().filter(|name| families.contains(family(name)) && !declared.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "named on a page and not there: {unknown:?}");
    let silent: Vec<_> = declared
        .iter()
        .filter(|name| ["berth_redis", "berth_events"].contains(&family(name)) && !named.contains(**name))
        .collect();
    assert!(silent.is_empty(), "on no page: {silent:?}");
}

/// `berth_redis` of `berth_redis_lag_bytes`.
fn family(name: &str) -> &str {
    name.match_indices('_').nth(1).map_or(name, |(at, _)| &name[..at])
}

/// Every metric that a page of `docs/` names; `_lag_bytes` behind `berth_redis_lag_entries` in one paragraph is of its family.
fn named_on_the_pages() -> HashSet<String> {
    let mut named = HashSet::new();
    for page in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).unwrap() {
        let Ok(text) = std::fs::read_to_string(page.unwrap().path()) else { continue };
        for paragraph in text.split("\n\n") {
            let mut of = None;
            for word in paragraph.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                if word.starts_with("berth_") {
                    of = Some(family(word).to_owned());
                    named.insert(word.to_owned());
                } else if let (Some(of), true) = (&of, word.starts_with('_') && word.len() > 1) {
                    named.insert(format!("{of}{word}"));
                }
            }
        }
    }
    named
}
