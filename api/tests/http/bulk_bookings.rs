//! Many bookings in one request: a result for each line, in order, whatever became of the others.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};

use crate::acks::{ready, without_its_redis};
use crate::client::{Reply, connect, read_reply, request};
use crate::server::{Server, claim, claims, lines};

const PATH: &str = "/v1/bulk/bookings";
const PLATFORM: (&str, &str) = ("authorization", "Bearer platform-key");

fn bulk_with(server: &Server, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut all = vec![PLATFORM, ("content-type", "application/x-ndjson")];
    all.extend(headers);
    server.send("POST", PATH, &all, body.as_bytes())
}

/// The results of these lines, and the last line.
#[track_caller]
fn bulk(server: &Server, headers: &[(&str, &str)], body: &str) -> (Vec<Value>, Value) {
    let reply = bulk_with(server, headers, body);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")), "{}", reply.text());
    let mut results = lines(reply.text());
    let end = results.pop().expect("there is a last line");
    assert_eq!(end["end"], true, "{end}");
    (results, end)
}

fn book(key: &str, party: &str, slot: &str) -> String {
    json!({"key": key, "claims": [claim(party, slot)]}).to_string()
}

fn code(result: &Value) -> (u64, u64, &str) {
    let number = |member: &str| result[member].as_u64().unwrap();
    (number("line"), number("status"), result["problem"]["code"].as_str().unwrap_or(""))
}

#[test]
fn every_line_has_its_result_in_order() {
    let (server, slots) = Server::with_slots(&[3, 3]);
    let group = json!({"op": "book", "key": "g", "claims": [claim("p1.1", &slots[0]), claim("p1.2", &slots[0])]});
    let hold = json!({"op": "hold", "key": "h", "claims": [claim("p1.3", &slots[1])], "ttl_seconds": 60});
    let body = [book("b", "p1.0", &slots[0]), group.to_string(), hold.to_string()].join("\n");
    let (first, end) = bulk(&server, &[], &body);
    assert_eq!(end, json!({"end": true, "lines": 3, "done": 3, "repeated": 0, "refused": 0}));
    assert_eq!((&first[0]["line"], &first[0]["key"], &first[0]["status"]), (&json!(1), &json!("b"), &json!(201)));
    assert_eq!((&first[1]["hold"], first[1]["bookings"].as_array().unwrap().len()), (&first[1]["bookings"][0], 2));
    assert!(first[2]["expires_at"].is_string() && first[0].get("expires_at").is_none());

    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (booked, held) = (text(&first[0]["hold"]), text(&first[2]["hold"]));
    let (grouped, second) = (text(&first[1]["bookings"][0]), text(&first[1]["bookings"][1]));
    let body = [
        json!({"op": "confirm", "key": "c", "hold": held}),
        json!({"op": "cancel", "key": "x", "booking": grouped}),
        json!({"op": "move", "key": "m", "booking": booked, "slot": slots[1]}),
        json!({"op": "hold", "key": "h2", "claims": [claim("p1.4", &slots[0])]}),
    ]
    .map(|line| line.to_string())
    .join("\n");
    let (then, end) = bulk(&server, &[], &body);
    assert_eq!(end["done"], 4);
    assert_eq!(
        (&then[0]["status"], &then[0]["bookings"], &then[0]["hold"]),
        (&json!(200), &json!([held]), &json!(held))
    );
    assert_eq!((&then[1]["booking"], &then[1]["state"]), (&json!(grouped), &json!("cancelled")));
    assert_eq!((&then[2]["moved_from"], &then[2]["slot"]), (&json!(booked), &json!(slots[1])));
    let release = json!({"op": "release", "key": "r", "hold": then[3]["hold"]}).to_string();
    let (released, _) = bulk(&server, &[], &release);
    assert_eq!((&released[0]["hold"], &released[0]["state"]), (&then[3]["hold"], &json!("released")));

    let shown = server.read(&format!("/v1/bookings/{second}")).expect(200);
    assert_eq!((&shown["state"], &shown["party"], &shown["hold"]), (&json!("booked"), &json!("p1.2"), &json!(grouped)));
    assert_eq!((server.slot_counts(&slots[0]), server.slot_counts(&slots[1])), ((3, 0, 1), (3, 0, 2)));
    server.wait_for_metric("berth_bulk_lines_total{outcome=\"done\"} 8");
}

#[test]
fn a_bad_line_is_a_result_and_stops_no_other() {
    let (server, slots) = Server::with_slots(&[2, 9]);
    let slot = slots[0].as_str();
    let long = format!("{{\"key\":\"{}\"}}", "x".repeat(70_000));
    let bad = [
        ("{\"key\":\"k1\",", 400, "malformed_json"),
        ("[]", 400, "malformed_request"),
        ("{\"key\":\"k2\",\"claims\":[],\"colour\":1}", 400, "malformed_request"),
        ("{\"claims\":[]}", 400, "idempotency_key_missing"),
        ("{\"key\":\"a b\",\"claims\":[]}", 400, "idempotency_key_malformed"),
        ("{\"key\":\"k3\"}", 400, "malformed_request"),
        ("{\"op\":\"steal\",\"key\":\"k4\"}", 400, "malformed_request"),
        ("{\"op\":\"confirm\",\"key\":\"k5\",\"claims\":[]}", 400, "malformed_request"),
        ("{\"op\":\"cancel\",\"key\":\"k5\",\"booking\":\"x\"}", 400, "malformed_id"),
        ("{\"op\":\"hold\",\"key\":\"k5\",\"claims\":[],\"ttl_seconds\":0}", 400, "malformed_request"),
        ("{\"key\":\"k5\",\"claims\":[],\"ttl_seconds\":9}", 400, "malformed_request"),
        ("{\"key\":\"k6\",\"claims\":[]}", 400, "group_size"),
        (long.as_str(), 413, "body_too_large"),
        ("\u{0}", 400, "malformed_json"),
    ];
    let mut body = String::new();
    let mut expected = Vec::new();
    for (line, status, code) in bad {
        writeln!(body, "{line}").unwrap();
        expected.push((expected.len() as u64 + 1, status, code));
    }
    // A blank line has no result, but counts.
    body.push_str("  \r\n");
    let line = expected.len() as u64 + 2;
    for (at, (key, party, status, code)) in [
        ("g1", "p1.0", 201, ""),
        ("g2", "p1.0", 409, "already_claimed"),
        ("g3", "p1.99", 404, "unknown_party"),
        ("g4", "p1.1", 201, ""),
        ("g5", "p1.2", 409, "full"),
        ("g1", "p1.3", 422, "idempotency_conflict"),
    ]
    .into_iter()
    .enumerate()
    {
        writeln!(body, "{}\r", book(key, party, slot)).unwrap();
        expected.push((line + at as u64, status, code));
    }
    // The last line needs no end.
    body.push_str(&book("g6", "p1.4", &slots[1]));
    expected.push((line + 6, 201, ""));
    let (results, end) = bulk(&server, &[], &body);
    let found: Vec<_> = results.iter().map(code).collect();
    assert_eq!(found, expected);
    assert_eq!(end, json!({"end": true, "lines": 22, "done": 3, "repeated": 0, "refused": 18}));
    let full = &results[18]["problem"];
    assert_eq!((&full["held_may_return"], &full["booked"], &full["status"]), (&json!(false), &json!(2), &json!(409)));
    assert_eq!((server.slot_counts(slot), server.slot_counts(&slots[1])), ((2, 0, 2), (9, 0, 1)));
    server.wait_for_metric("berth_bulk_lines_total{outcome=\"refused\"} 18");
}

#[test]
fn a_line_is_the_request_it_stands_for() {
    let (server, slots) = Server::with_slots(&[9]);
    let (results, _) = bulk(&server, &[], &book("k1", "p1.0", &slots[0]));
    let again = server.post_under("k1", "/v1/bookings", &claims(&[claim("p1.0", &slots[0])]));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(201)["hold"], results[0]["hold"]);
    assert_eq!(server.read("/v1/outcomes/k1").expect(201), again.json());

    let single = server.post_under("k2", "/v1/holds", &claims(&[claim("p1.1", &slots[0])])).expect(201);
    let line = json!({"op": "hold", "key": "k2", "claims": [claim("p1.1", &slots[0])]}).to_string();
    let (results, _) = bulk(&server, &[], &line);
    assert_eq!((&results[0]["replayed"], &results[0]["hold"]), (&json!(true), &single["hold"]));
    assert_eq!(results[0]["expires_at"], single["expires_at"]);
    assert_eq!(server.slot_counts(&slots[0]), (9, 1, 1));
}

#[test]
fn a_repeat_of_the_whole_has_the_results_of_the_first_also_after_a_kill() {
    let (server, slots) = Server::with_slots(&[9, 9]);
    let without_keys = [
        json!({"claims": [claim("p1.0", &slots[0])]}),
        json!({"claims": [claim("p1.1", &slots[0])]}),
        json!({"key": "own", "claims": [claim("p1.2", &slots[0])]}),
    ]
    .map(|line| line.to_string());
    let body = without_keys.join("\n");
    let key = [("idempotency-key", "whole")];
    let (first, _) = bulk(&server, &key, &body);
    assert!(first.iter().all(|result| result["status"] == 201 && result.get("replayed").is_none()), "{first:?}");
    assert_eq!((first[0].get("key"), &first[2]["key"]), (None, &json!("own")));

    let server = server.kill_and_restart();
    let (again, end) = bulk(&server, &key, &body);
    let mut expected = first.clone();
    expected.iter_mut().for_each(|result| result["replayed"] = json!(true));
    assert_eq!(again, expected);
    assert_eq!(end["done"], 3);

    // The place of a line is its key: the same line elsewhere is another one.
    let swapped = [without_keys[1].as_str(), &without_keys[0]].join("\n");
    let (results, _) = bulk(&server, &key, &swapped);
    assert!(results.iter().all(|result| result["problem"]["code"] == "idempotency_conflict"), "{results:?}");
    let other = [("idempotency-key", "another")];
    let (results, _) = bulk(&server, &other, &without_keys[0]);
    assert_eq!(code(&results[0]), (1, 409, "already_claimed"));
    assert_eq!(server.slot_counts(&slots[0]), (9, 0, 3));
    server.wait_for_metric("berth_bulk_lines_total{outcome=\"replayed\"} 3");
}

#[test]
fn keys_roles_and_types_are_checked_before_the_first_line() {
    let (server, slots) = Server::with_slots(&[9]);
    let line = book("k", "p1.0", &slots[0]);
    server.send("POST", PATH, &[], line.as_bytes()).expect_problem(401, "unauthenticated");
    let admin = [("authorization", "Bearer admin-key")];
    server.send("POST", PATH, &admin, line.as_bytes()).expect_problem(403, "forbidden");
    bulk_with(&server, &[("idempotency-key", "a b")], &line).expect_problem(400, "idempotency_key_malformed");
    bulk_with(&server, &[("accept", "application/json")], &line).expect_problem(406, "not_acceptable");
    bulk_with(&server, &[("berth-ack", "redis")], &line).expect_problem(503, "ack_unavailable");
    let json = [PLATFORM, ("content-type", "application/json")];
    server.send("POST", PATH, &json, line.as_bytes()).expect_problem(415, "unsupported_media_type");
    server.get(PATH).expect_problem(405, "method_not_allowed");
    assert_eq!(server.slot_counts(&slots[0]), (9, 0, 0));
    let (results, end) = bulk(&server, &[], "");
    assert_eq!((results.len(), end), (0, json!({"end": true, "lines": 0, "done": 0, "repeated": 0, "refused": 0})));
}

/// A request whose lines go out one by one.
struct Stream {
    stream: TcpStream,
    body: Vec<u8>,
}

impl Stream {
    fn open(server: &Server) -> Stream {
        Stream::open_with(server, PLATFORM)
    }

    fn open_with(server: &Server, bearer: (&str, &str)) -> Stream {
        let mut stream = connect(server.address);
        let headers = [bearer, ("transfer-encoding", "chunked"), ("connection", "close")];
        stream.write_all(&request("POST", PATH, &headers, b"")).unwrap();
        Stream { stream, body: Vec::new() }
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).unwrap();
    }

    fn read_head(&mut self) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    }

    fn read_line(&mut self) -> Value {
        loop {
            if let Some(end) = self.body.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.body.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            let mut size = Vec::new();
            while !size.ends_with(b"\r\n") {
                let mut byte = [0];
                self.stream.read_exact(&mut byte).expect("the answer goes on");
                size.extend(byte);
            }
            let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).unwrap();
            self.body.extend(&chunk[..size]);
        }
    }
}

#[test]
fn a_result_comes_before_the_next_line_is_sent() {
    let (server, slots) = Server::with_slots(&[9]);
    let mut stream = Stream::open(&server);
    // Also a line in pieces.
    let line = book("k0", "p1.0", &slots[0]);
    stream.send(&line[..10]);
    stream.send(&format!("{}\n", &line[10..]));
    stream.read_head();
    let booked = stream.read_line();
    assert_eq!((&booked["line"], &booked["status"]), (&json!(1), &json!(201)));
    let cancel = json!({"op": "cancel", "key": "k1", "booking": booked["hold"]});
    stream.send(&format!("{cancel}\n"));
    assert_eq!(stream.read_line()["state"], "cancelled");
    stream.send("\n");
    stream.stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(stream.read_line(), json!({"end": true, "lines": 3, "done": 2, "repeated": 0, "refused": 0}));
}

#[test]
fn a_body_that_breaks_off_ends_with_a_problem_and_keeps_what_it_did() {
    let (server, slots) = Server::with_slots(&[9]);
    let mut stream = Stream::open(&server);
    stream.send(&format!("{}\n{}", book("k0", "p1.0", &slots[0]), book("k1", "p1.1", &slots[0])));
    stream.read_head();
    assert_eq!(stream.read_line()["status"], 201);
    stream.stream.shutdown(Shutdown::Write).unwrap();
    let end = stream.read_line();
    assert_eq!((&end["end"], &end["lines"], &end["done"]), (&json!(true), &json!(1), &json!(1)));
    assert_eq!(end["problem"]["code"], "malformed_request");
    // Half a line is none, though it would pass for a whole one.
    assert_eq!(server.slot_counts(&slots[0]), (9, 0, 1));
}

#[test]
fn a_line_that_does_not_come_and_a_server_that_stops_end_the_answer() {
    let server = Server::start_with("http.body_time_ms = 300");
    let slots = ready(&server);
    let mut stream = Stream::open(&server);
    stream.send(&format!("{}\n", book("k0", "p1.0", &slots[0])));
    stream.read_head();
    assert_eq!(stream.read_line()["status"], 201);
    stream.send("{");
    assert_eq!(stream.read_line()["problem"]["code"], "body_timeout");

    let (server, slots) = Server::with_slots(&[9]);
    let mut stream = Stream::open(&server);
    stream.send(&format!("{}\n", book("k0", "p1.0", &slots[0])));
    stream.read_head();
    assert_eq!(stream.read_line()["status"], 201);
    server.terminate();
    let end = stream.read_line();
    assert_eq!((&end["problem"]["code"], &end["done"]), (&json!("draining"), &json!(1)));
    drop(stream);
    let (status, home) = server.ended();
    assert!(status.success(), "{}", home.told());
}

#[test]
fn far_more_than_a_batch_goes_through_while_the_client_reads_late() {
    const LINES: usize = 12_000;
    let (server, slots) = Server::with_slots(&[1]);
    let mut body = String::new();
    for line in 0..LINES {
        writeln!(body, "{}", book(&format!("k{line}"), "p1.0", &slots[0])).unwrap();
    }
    let mut stream = connect(server.address);
    stream.write_all(&request("POST", PATH, &[PLATFORM, ("connection", "close")], body.as_bytes())).unwrap();
    // Everything is sent before anything is read.
    let reply = read_reply(&mut stream, false);
    let mut results = lines(reply.text());
    assert_eq!(
        results.pop().unwrap(),
        json!({"end": true, "lines": LINES, "done": 1, "repeated": 0, "refused": LINES - 1})
    );
    assert!(results.iter().enumerate().all(|(at, result)| result["line"] == at + 1), "in order");
    assert_eq!((&results[0]["status"], &results[1]["problem"]["code"]), (&json!(201), &json!("already_claimed")));
}

// rule: HLD-6
#[test]
fn the_holds_of_lines_count_for_their_account() {
    let server = Server::start_with("[accounts]\nholds_live_max = 2\n");
    ready(&server);
    let slots = server.add_slots("t", &[20]);
    let hold = |key: &str, party: &str, account: Value| {
        let mut line = json!({"op": "hold", "key": key, "claims": [claim(party, &slots[0])]});
        if !account.is_null() {
            line["account"] = account;
        }
        line.to_string()
    };
    let body = [
        hold("k0", "p1.0", Value::Null),
        hold("k1", "p1.1", Value::Null),
        hold("k2", "p1.2", Value::Null),
        hold("k3", "p1.2", json!("ravi")),
        // A repeat is answered however much the account holds.
        hold("k0", "p1.0", Value::Null),
        book("k4", "p1.3", &slots[0]),
        hold("k5", "p1.4", json!("a b")),
    ];
    let (results, _) = bulk(&server, &[("berth-account", "asha")], &body.join("\n"));
    let codes: Vec<_> = results.iter().map(code).collect();
    let expected =
        [(201, ""), (201, ""), (409, "hoarding"), (201, ""), (201, ""), (201, ""), (400, "malformed_request")];
    let expected: Vec<_> = (1..).zip(expected).map(|(line, (status, code))| (line, status, code)).collect();
    assert_eq!(codes, expected, "{results:?}");
    assert_eq!((&results[2]["problem"]["limit"], &results[4]["replayed"]), (&json!("holds_live"), &json!(true)));
    // What the lines hold counts for a request, and the other way round.
    let single = |account: &str, key: &str, party: &str| {
        let headers = [PLATFORM, ("idempotency-key", key), ("berth-account", account)];
        server.send("POST", "/v1/holds", &headers, claims(&[claim(party, &slots[0])]).to_string().as_bytes())
    };
    single("asha", "s0", "p1.5").expect_problem(409, "hoarding");
    single("ravi", "s1", "p1.5").expect(201);
    let (results, _) = bulk(&server, &[("berth-account", "ravi")], &hold("k6", "p1.6", Value::Null));
    assert_eq!(code(&results[0]), (1, 409, "hoarding"));
    // For nobody is for nobody.
    let (results, _) =
        bulk(&server, &[], &[hold("k7", "p1.6", Value::Null), hold("k8", "p1.7", Value::Null)].join("\n"));
    assert!(results.iter().all(|result| result["status"] == 201), "{results:?}");
}

#[test]
fn a_stream_ends_at_the_next_line_when_its_key_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.toml");
    let row = |name: &str, key: &str| {
        format!("[[keys]]\nrole = 'platform'\nname = '{name}'\nsha256 = '{}'\n", crate::server::sha256(key))
    };
    std::fs::write(&file, row("web", "web-key") + &row("other", "other-key")).unwrap();
    let server = Server::start_with(&format!("keys_file = {file:?}"));
    ready(&server);
    let slots = server.add_slots("t", &[20]);
    let mut streams =
        ["web-key", "other-key"].map(|key| Stream::open_with(&server, ("authorization", &format!("Bearer {key}"))));
    for (stream, (key, party)) in streams.iter_mut().zip([("k0", "p1.0"), ("k1", "p1.1")]) {
        stream.send(&format!("{}\n", book(key, party, &slots[0])));
        stream.read_head();
        assert_eq!(stream.read_line()["status"], 201);
    }
    std::fs::write(&file, row("other", "other-key")).unwrap();
    server.signal("-HUP");
    let known = || server.send("GET", "/v1/bookings/x", &[("authorization", "Bearer web-key")], b"").status != 401;
    let started = std::time::Instant::now();
    while known() {
        assert!(started.elapsed() < crate::client::PATIENCE, "the file is not taken up");
    }
    let [mut gone, mut stays] = streams;
    gone.send(&format!("{}\n", book("k2", "p1.2", &slots[0])));
    let end = gone.read_line();
    assert_eq!((&end["end"], &end["done"], &end["problem"]["code"]), (&json!(true), &json!(1), &json!("invalid_key")));
    stays.send(&format!("{}\n", book("k3", "p1.3", &slots[0])));
    assert_eq!(stays.read_line()["status"], 201, "another key of the same file");
    assert_eq!(server.slot_counts(&slots[0]), (20, 0, 3));
}

/// 8 MiB of results wait for a client that reads late; from one that does not read, no further line is read.
#[test]
fn a_client_that_does_not_read_is_read_no_further() {
    const WRITTEN_MAX: usize = 48 << 20;
    let (server, slots) = Server::with_slots(&[1]);
    let mut stream = connect(server.address);
    let headers = [PLATFORM, ("transfer-encoding", "chunked"), ("connection", "close")];
    stream.write_all(&request("POST", PATH, &headers, b"")).unwrap();
    stream.set_write_timeout(Some(std::time::Duration::from_secs(3))).unwrap();
    // Each is refused, in more bytes than it has.
    let line = format!("{}\n", book("k", "p1.99", &slots[0]));
    let chunk = line.repeat(200);
    let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
    let mut written = 0;
    while written < WRITTEN_MAX && stream.write_all(chunk.as_bytes()).is_ok() {
        written += chunk.len();
    }
    assert!(written < WRITTEN_MAX, "the server goes on reading: {written}");
    // Others are served meanwhile, and what it has read is not much more than it may keep answers of.
    server.get("/v1/regions").expect(200);
    drop(stream);
    server.wait_for_metric("berth_http_inflight_requests 0");
}

/// While Redis is away nothing of a piece is shown to who waits for it; what was done is there all the same.
// rule: IDM-2
#[test]
fn no_line_is_shown_before_it_is_as_safe_as_was_asked() {
    let (server, slots, _) = without_its_redis();
    let body = book("k", "p1.0", &slots[0]);
    let reply = bulk_with(&server, &[("berth-ack", "redis")], &body);
    let shown = lines(reply.text());
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!((&shown[0]["end"], &shown[0]["problem"]["code"]), (&json!(true), &json!("redis_late")));
    let (results, _) = bulk(&server, &[("berth-ack", "disk")], &body);
    assert_eq!((&results[0]["replayed"], &results[0]["status"]), (&json!(true), &json!(201)));
}
