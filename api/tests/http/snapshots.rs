//! Snapshots while serving: when they are taken, what a start makes of them, and that they bound the log.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::PATIENCE;
use crate::server::{Server, claim, claims};

fn metric(server: &Server, name: &str) -> u64 {
    let page = server.get("/metrics");
    let line = page.text().lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {}", page.text())).parse().unwrap()
}

fn log_of(home: &crate::server::Home) -> String {
    std::fs::read_to_string(home.path("stderr.log")).unwrap()
}

#[test]
fn a_snapshot_asked_for_is_where_the_next_start_begins() {
    let (server, slots) = Server::with_slots(&[3]);
    server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    assert_eq!(metric(&server, "berth_snapshot_seq"), 0);
    assert!(metric(&server, "berth_snapshot_replay_bytes") > 0);
    server.signal("-USR1");
    server.wait_for_metric("berth_snapshots_total 1");
    assert_eq!((metric(&server, "berth_snapshot_seq"), metric(&server, "berth_snapshot_replay_bytes")), (6, 0));
    assert!(metric(&server, "berth_snapshot_bytes") > 0 && metric(&server, "berth_snapshot_age_seconds") < 3600);
    let held = server.post("/v1/holds", &claims(&[claim("p1.1", &slots[0])])).expect(201);
    let before = server.export();
    let server = server.kill_and_restart();
    assert_eq!(server.export(), before);
    assert_eq!(metric(&server, "berth_snapshot_seq"), 6);
    assert!(metric(&server, "berth_snapshot_replay_bytes") > 0);
    let log = log_of(&server.home);
    assert!(log.contains("snapshot=6 entries=1 "), "{log}");
    server.post(&format!("/v1/holds/{}/confirm", held["hold"].as_str().unwrap()), &json!({})).expect(200);
}

#[test]
fn a_planned_stop_takes_one_when_the_next_start_would_have_much_to_replay() {
    let server = Server::start_with("snapshots.stop_log_mib = 0");
    server.add_parties(3);
    server.terminate();
    let (status, home) = server.ended();
    assert_eq!(status.code(), Some(0));
    let server = home.start();
    assert_eq!((metric(&server, "berth_snapshot_seq"), metric(&server, "berth_parties")), (2, 3));
    // And none where there is little.
    let server = Server::start();
    server.add_parties(3);
    server.terminate();
    let server = server.ended().1.start();
    assert_eq!((metric(&server, "berth_snapshot_seq"), metric(&server, "berth_parties")), (0, 3));
}

#[test]
fn a_snapshot_that_fails_hurts_nobody_is_told_once_and_counted() {
    let (server, slots) = Server::with_slots(&[3]);
    let in_the_way = server.home.path("data/snapshots");
    std::fs::write(&in_the_way, "not a directory").unwrap();
    for failures in 1..=3 {
        server.signal("-USR1");
        server.wait_for_metric(&format!("berth_snapshot_failures_total {failures}"));
    }
    server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    assert_eq!(log_of(&server.home).matches("no snapshot could be taken").count(), 1);
    std::fs::remove_file(&in_the_way).unwrap();
    server.signal("-USR1");
    server.wait_for_metric("berth_snapshots_total 1");
}

#[test]
fn snapshots_by_size_keep_the_log_within_its_budget() {
    let budget = 40 << 20;
    let server = Server::start_with("log_mib_max = 40\nsnapshots.log_mib = 8\nsnapshots.every_minutes = 0");
    // Some fifty mebibytes of entries, of which the log may keep forty.
    let (bodies, lines, name) = (45, 1200, "\u{1F489}".repeat(200));
    for n in 0..bodies {
        let line = |m: usize| format!("{{\"id\":\"{n}-{m}\",\"kind\":\"state\",\"name\":\"{name}\"}}\n");
        let body: String = (0..lines).map(line).collect();
        // Refused while the log is at its budget, a publish succeeds once a snapshot has trimmed it.
        let started = Instant::now();
        while let reply = server.publish("/v1/regions", &body)
            && reply.status != 200
        {
            reply.expect_problem(503, "journal_full");
            assert!(started.elapsed() < PATIENCE, "the log is never trimmed");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(metric(&server, "berth_log_bytes") <= budget);
    }
    assert!(metric(&server, "berth_snapshots_total") >= 2);
    let server = server.kill_and_restart();
    assert_eq!(server.get("/v1/regions").expect(200)["regions"].as_array().unwrap().len(), bodies * lines);
}

// rule: HLD-5
#[test]
fn a_hold_that_lived_through_an_outage_has_its_grace() {
    let (server, slots) = Server::with_slots(&[3]);
    let mut body = claims(&[claim("p1.0", &slots[0])]);
    body["ttl_seconds"] = json!(60);
    let held = server.post_under("first", "/v1/holds", &body).expect(201);
    let code = held["hold"].as_str().unwrap();
    let expires = |server: &Server| {
        let read = server.read(&format!("/v1/bookings/{code}")).expect(200);
        read["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let before = expires(&server);
    let server = server.kill_and_restart();
    let graced = expires(&server);
    assert!(graced > before, "{graced} after {before}");
    let repeat = server.post_under("first", "/v1/holds", &body).expect(201);
    assert_eq!(repeat["hold"], held["hold"]);
    assert_eq!(repeat["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap(), graced);
    let (_, home) = {
        server.terminate();
        server.ended()
    };
    let server = home.start_with_flags(&["--hold-grace-seconds", "0"]);
    assert_eq!(expires(&server), graced);
    server.post(&format!("/v1/holds/{code}/confirm"), &json!({})).expect(200);
}
