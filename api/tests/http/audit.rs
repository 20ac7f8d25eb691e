//! The audit log: what is in it, what is not, and what happens when it cannot be written.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::acks::without_its_redis_and;
use crate::client::{PATIENCE, connect};
use crate::server::{Server, berth, claim, claims, lines};

struct Audited {
    server: Server,
    dir: TempDir,
}

fn start() -> Audited {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(&format!("[audit]\nfile = {:?}\nsync_ms = 0\n", dir.path().join("audit.ndjson")));
    Audited { server, dir }
}

impl Audited {
    fn path(&self) -> PathBuf {
        self.dir.path().join("audit.ndjson")
    }

    /// The log, once it has so many lines.
    #[track_caller]
    fn log(&self, count: usize) -> Vec<Value> {
        wait_for_lines(&self.path(), count)
    }
}

#[track_caller]
fn wait_for_lines(path: &Path, count: usize) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.ends_with('\n') && text.lines().count() >= count {
            assert_eq!(text.lines().count(), count, "{text}");
            return lines(&text);
        }
        assert!(started.elapsed() < PATIENCE, "{count} lines never come: {text}");
    }
}

#[test]
fn who_read_whom_is_on_record_and_what_would_let_anybody_act_is_not() {
    let audited = start();
    let server = &audited.server;
    server.add_places();
    server.add_parties(3);
    let slots = server.add_slots("s", &[3]);
    // Four publishes and one call of parties by the admin, none of the searches.
    let mut done = audited.log(4);
    assert_eq!(done.len(), 4);
    assert!(
        done.iter().all(|line| line["role"] == "admin" && line["who"] == "a" && line["outcome"] == "ok"),
        "{done:?}"
    );
    assert_eq!(done[2]["route"], "/v1/parties");

    // A platform's writes are in the journal, not here.
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.2", &slots[0])])).expect(201);
    let code = booked["hold"].as_str().unwrap();
    let headers = [
        ("authorization", "Bearer platform-key"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    server.send("GET", &format!("/v1/bookings/{code}"), &headers, b"").expect(200);
    server.read("/v1/parties/p1.2/bookings").expect(200);
    server.read("/v1/bookings/nonsense").expect_problem(400, "malformed_id");
    server.read("/v1/export").expect_problem(403, "forbidden");
    server.send("GET", "/v1/export", &[("authorization", "Bearer wrong")], b"").expect_problem(401, "invalid_key");
    done = audited.log(8);
    let read = &done[4];
    assert_eq!(
        (&read["role"], &read["who"], &read["route"], &read["status"], &read["outcome"]),
        (&json!("platform"), &json!("p"), &json!("/v1/bookings/{booking}"), &json!(200), &json!("ok"))
    );
    assert_eq!((&read["booking"], &read["party"], &read["slot"]), (&json!("b1.0"), &json!("p1.2"), &json!(slots[0])));
    assert_eq!(read["trace"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!((&done[5]["party"], &done[5]["route"]), (&json!("p1.2"), &json!("/v1/parties/{party}/bookings")));
    assert_eq!(
        (&done[6]["status"], &done[6]["outcome"], &done[6]["booking"]),
        (&json!(400), &json!("malformed_id"), &Value::Null)
    );
    assert_eq!(
        (&done[7]["status"], &done[7]["outcome"], &done[7]["who"]),
        (&json!(403), &json!("forbidden"), &json!("p"))
    );
    let text = std::fs::read_to_string(audited.path()).unwrap();
    for secret in [code, "platform-key", "wrong", "nonsense"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    server.wait_for_metric("berth_audit_records_total 8");
}

#[test]
fn the_log_is_printed_by_who_and_whom() {
    let audited = start();
    audited.server.add_parties(3);
    for party in ["p1.0", "p1.1", "p1.0"] {
        audited.server.read(&format!("/v1/parties/{party}/bookings")).expect(200);
    }
    audited.log(4);
    let print = |arguments: &[&str]| {
        let path = audited.path();
        let mut all = vec!["audit", path.to_str().unwrap()];
        all.extend(arguments);
        let output = berth(&all).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(lines(&print(&[])).len(), 4);
    assert_eq!(lines(&print(&["--party", "p1.0"])).len(), 2);
    assert_eq!(lines(&print(&["--role", "admin"])).len(), 1);
    assert_eq!(lines(&print(&["--who", "p", "--from", "2021-01-01T00:00:00Z"])).len(), 3);
    assert_eq!(print(&["--who", "nobody"]), "");
    assert_eq!(print(&["--to", "2021-01-01T00:00:00Z"]), "");
    let text = print(&["--party", "p1.1", "--text"]);
    assert!(text.ends_with("Z  platform p  GET /v1/parties/{party}/bookings  p1.1  200 ok\n"), "{text}");
    let config = audited.server.home.path("berth.toml");
    let by_config = berth(&["audit", "--config", config.to_str().unwrap()]).output().unwrap();
    assert_eq!(lines(std::str::from_utf8(&by_config.stdout).unwrap()).len(), 4);
}

#[test]
fn what_cannot_be_audited_is_not_done_for_an_admin_and_counted_for_a_platform() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.ndjson");
    // Every write to it fails for want of room.
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let server = Server::start_with(&format!("[audit]\nfile = {path:?}\nsync_ms = 0\n"));
    server.read("/v1/parties/p1.0/bookings").expect_problem(404, "unknown_party");
    server.wait_for_metric("berth_audit_failing 1");
    let region = r#"{"id":"27","kind":"state","name":"Maharashtra"}"#;
    let refused = server.publish("/v1/regions", region);
    refused.expect_problem(503, "audit_unavailable");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(server.get("/v1/regions").expect(200)["regions"], json!([]), "nothing was done");
    server.read("/v1/parties/p1.0/bookings").expect_problem(404, "unknown_party");
    server.wait_for_metric("berth_audit_lost_total 1");
    server.wait_for_metric("berth_audit_refused_total 1");
    // The disk has room again.
    std::fs::remove_file(&path).unwrap();
    server.wait_for_metric("berth_audit_failing 0");
    server.publish("/v1/regions", region).expect(200);
    let log = wait_for_lines(&path, 2);
    assert_eq!((&log[0]["outcome"], &log[1]["route"]), (&json!("unknown_party"), &json!("/v1/regions")));
}

/// The client of an HTTP/2 stream resets it while its request waits: nobody gets the answer, and the line is there.
#[test]
fn a_request_that_was_reset_has_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.ndjson");
    let config = format!("ack_redis_time_ms = 600000\naudit.file = {path:?}\naudit.sync_ms = 0");
    let (server, slots, _) = without_its_redis_and(&config);
    server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let before = wait_for_lines(&path, 4).len();
    let mut stream = connect(server.address);
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], payload].concat()
    };
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    // GET, http, then fields that are never indexed: by name of the static table, or spelled.
    let block = [
        &[0x82, 0x86, 0x04][..],
        &text("/v1/parties/p1.0/bookings"),
        &[0x01],
        &text("test"),
        &[0x1f, 8], // authorization
        &text("Bearer platform-key"),
        &[0x10],
        &text("berth-ack"),
        &text("redis"),
    ]
    .concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    stream.write_all(&[preface, frame(4, 0, 0, &[]), frame(1, 0x05, 1, &block)].concat()).unwrap();
    // It waits for Redis, which is away.
    server.wait_for_metric("berth_http_acks_total{ack=\"redis\"} 1");
    server.wait_for_metric("berth_audit_queued 1");
    stream.write_all(&frame(3, 0, 1, &8u32.to_be_bytes())).unwrap();
    let log = wait_for_lines(&path, before + 1);
    let line = &log[before];
    assert_eq!((&line["route"], &line["party"]), (&json!("/v1/parties/{party}/bookings"), &json!("p1.0")));
    assert_eq!((&line["outcome"], &line["status"]), (&json!("cut_off"), &json!(0)), "{line}");
    server.wait_for_metric("berth_audit_queued 0");
    server.wait_for_metric("berth_http_inflight_requests 0");
}

#[test]
fn a_log_that_was_moved_away_is_begun_anew_on_a_signal_and_flushed_at_the_end() {
    let audited = start();
    audited.server.add_parties(1);
    audited.log(1);
    let moved = audited.dir.path().join("moved.ndjson");
    std::fs::rename(audited.path(), &moved).unwrap();
    audited.server.signal("-HUP");
    let started = Instant::now();
    while !audited.path().exists() {
        assert!(started.elapsed() < PATIENCE, "never begun anew");
    }
    audited.server.read("/v1/parties/p1.0/bookings").expect(200);
    let Audited { server, dir } = audited;
    server.terminate();
    assert!(server.ended().0.success());
    assert_eq!(wait_for_lines(&moved, 1).len(), 1);
    assert_eq!(wait_for_lines(&dir.path().join("audit.ndjson"), 1)[0]["party"], "p1.0");
}
