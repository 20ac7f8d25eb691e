//! What no client should send: each gets its status, code and place, and nothing is half-applied.

use serde_json::{Value, json};

use crate::client::{connect, exchange, read_reply, request};
use crate::server::{Server, claim, claims, session_line, tomorrow};

const GOOD_WINDOWS: &str = r#"[{"start":"09:00","end":"11:00","pools":{"dose1":20}}]"#;

fn good_line(id: &str) -> String {
    session_line(id, &serde_json::from_str(GOOD_WINDOWS).unwrap())
}

/// Publishes sessions that must be refused whole; the faults.
#[track_caller]
fn refused_lines(server: &Server, body: &str) -> Value {
    let before = server.export();
    let problem = server.publish("/v1/sessions", body).expect_problem(422, "invalid_lines");
    assert_eq!(server.export(), before, "nothing is half-applied");
    let found = server.get(&format!("/v1/availability?centre=c1&from={}", tomorrow())).expect(200);
    assert_eq!(found["centres"], json!([]), "nothing can be searched");
    problem
}

#[test]
fn broken_lines_are_named_and_none_is_applied() {
    let server = Server::start();
    server.add_places();
    let body = [good_line("a"), good_line("b"), "{\"id\":\"c\",".to_owned(), good_line("d")].join("\n");
    let problem = refused_lines(&server, &body);
    assert_eq!((&problem["fault_count"], &problem["faults"][0]["line"]), (&json!(1), &json!(3)));
    assert_eq!(problem["faults"][0]["field"], "");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with("1 fault, in line 3: ") && !detail.contains(": :"), "{detail}");

    let unknown = [good_line("a"), good_line("b").replacen('{', "{\"colour\":\"red\",", 1)].join("\n");
    let fault = &refused_lines(&server, &unknown)["faults"][0];
    assert_eq!((&fault["line"], &fault["field"]), (&json!(2), &json!("colour")));

    let negative = [good_line("a").as_str(), &good_line("b").replace(":20", ":-20")].join("\n");
    let fault = refused_lines(&server, &negative)["faults"][0].clone();
    assert_eq!(fault, json!({"line": 2, "field": "windows[0].pools.dose1", "reason": "must not be negative, is -20"}));

    let many = vec!["{}"; 150].join("\n");
    let problem = refused_lines(&server, &many);
    // id, centre, date, product, windows of 150 lines.
    assert_eq!((problem["faults"].as_array().unwrap().len(), &problem["fault_count"]), (100, &json!(750)));

    // The same lines without the broken one are good: it was nothing else.
    let body = [good_line("a"), good_line("b"), good_line("d")].join("\n") + "\n\n";
    assert_eq!(server.publish("/v1/sessions", &body).expect(200), json!({"published": 3, "slots": 3}));
}

#[test]
fn a_body_over_8_mib_is_refused_whether_or_not_it_says_so() {
    let server = Server::start();
    server.add_places();
    let before = server.export();
    let line = good_line("x") + "\n";
    let mut body = line.repeat(10_000_000 / line.len() + 1).into_bytes();
    body.truncate(10_000_000);
    let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", "big")];
    server.send("POST", "/v1/sessions", &headers, &body).expect_problem(413, "body_too_large");

    let mut chunked = headers.to_vec();
    chunked.extend([("transfer-encoding", "chunked"), ("connection", "close")]);
    let mut bytes = request("POST", "/v1/sessions", &chunked, b"");
    bytes.extend(format!("{:x}\r\n", body.len()).bytes());
    bytes.extend(&body);
    bytes.extend(b"\r\n0\r\n\r\n");
    exchange(server.address, &bytes).expect_problem(413, "body_too_large");

    let long = vec![b' '; 100_000];
    server.send("POST", "/v1/parties", &headers, &long).expect_problem(413, "body_too_large");
    assert_eq!(server.export(), before);
    assert_eq!(server.publish("/v1/sessions", &good_line("x")).expect(200)["published"], 1);
}

#[test]
fn a_truncated_body_is_refused() {
    let server = Server::start();
    server.add_places();
    let before = server.export();
    let (first, second) = (good_line("a"), good_line("b"));
    let body = [first.as_str(), &second].join("\n");
    let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", "cut")];
    let whole = request("POST", "/v1/sessions", &headers, body.as_bytes());

    // After the first line, where what came would pass for a whole body.
    let mut stream = connect(server.address);
    std::io::Write::write_all(&mut stream, &whole[..whole.len() - second.len() - 1]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    read_reply(&mut stream, false).expect_problem(400, "malformed_request");
    assert_eq!(server.export(), before);

    // The key is still free, for the whole body.
    exchange(server.address, &whole).expect(200);
}

#[test]
fn keys_and_roles_are_checked_before_anything_is_read() {
    let (server, slots) = Server::with_slots(&[1]);
    let before = server.export();
    let body = claims(&[claim("p1.0", &slots[0])]).to_string();
    for (path, authorization, status, code) in [
        ("/v1/bookings", None, 401, "unauthenticated"),
        ("/v1/bookings", Some("platform-key"), 401, "unauthenticated"),
        ("/v1/bookings", Some("Bearer wrong"), 401, "invalid_key"),
        ("/v1/bookings", Some("Bearer admin-key"), 403, "forbidden"),
        ("/v1/sessions", Some("Bearer platform-key"), 403, "forbidden"),
        ("/v1/parties", Some("Bearer platform-key"), 403, "forbidden"),
    ] {
        let mut headers = vec![("idempotency-key", "k")];
        headers.extend(authorization.map(|a| ("authorization", a)));
        let reply = server.send("POST", path, &headers, body.as_bytes());
        reply.expect_problem(status, code);
        assert_eq!(reply.header("www-authenticate").is_some(), status == 401);
    }
    for path in ["/v1/export", "/v1/bookings/x", "/v1/parties/p1.0/bookings", "/v1/outcomes/k"] {
        server.get(path).expect_problem(401, "unauthenticated");
    }
    server.read("/v1/export").expect_problem(403, "forbidden");
    assert_eq!(server.export(), before);
}

#[test]
fn idempotency_keys_are_asked_for_and_checked() {
    let (server, slots) = Server::with_slots(&[1]);
    let body = claims(&[claim("p1.0", &slots[0])]).to_string();
    let authorization = ("authorization", "Bearer platform-key");
    for path in ["/v1/bookings", "/v1/holds", "/v1/holds/x/confirm", "/v1/bookings/x/cancel"] {
        let missing = server.send("POST", path, &[authorization], body.as_bytes());
        missing.expect_problem(400, "idempotency_key_missing");
    }
    let long = "x".repeat(129);
    for key in ["a b", "\u{e9}", "", long.as_str()] {
        let headers = [authorization, ("idempotency-key", key)];
        server.send("POST", "/v1/bookings", &headers, body.as_bytes()).expect_problem(400, "idempotency_key_malformed");
    }
    let twice = [authorization, ("idempotency-key", "a"), ("idempotency-key", "b")];
    server.send("POST", "/v1/bookings", &twice, body.as_bytes()).expect_problem(400, "idempotency_key_malformed");
    assert_eq!(server.slot_counts(&slots[0]), (1, 0, 0));
}

#[test]
fn bodies_and_ids_of_another_shape_are_told_apart() {
    let (server, slots) = Server::with_slots(&[1]);
    let before = server.export();
    let send = |path: &str, body: &str| {
        let key = server.fresh_key();
        let headers = [("authorization", "Bearer platform-key"), ("idempotency-key", key.as_str())];
        server.send("POST", path, &headers, body.as_bytes())
    };
    for (body, code) in [
        ("", "malformed_json"),
        ("{", "malformed_json"),
        ("{\"claims\":[]} x", "malformed_json"),
        ("\u{0}", "malformed_json"),
        ("[]", "malformed_request"),
        ("[[[\"p1.0\",\"s1.0\",1]]]", "malformed_request"),
        ("[[{\"party\":\"p1.0\",\"slot\":\"s1.0\",\"dose\":1}]]", "malformed_request"),
        ("{\"claims\":[[\"p1.0\",\"s1.0\",1]]}", "malformed_request"),
        ("{}", "malformed_request"),
        ("{\"claims\":[],\"note\":1}", "malformed_request"),
        ("{\"claims\":[{\"party\":\"p1.0\",\"slot\":\"s1.0\"}]}", "malformed_request"),
        ("{\"claims\":[{\"party\":\"p1.0\",\"slot\":\"s1.0\",\"dose\":-1}]}", "malformed_request"),
        ("{\"claims\":[{\"party\":\"p1.0\",\"slot\":\"s1.0\",\"dose\":300}]}", "malformed_request"),
        ("{\"claims\":[{\"party\":\"17\",\"slot\":\"s1.0\",\"dose\":1}]}", "malformed_id"),
        ("{\"claims\":[{\"party\":\"p1.0\",\"slot\":\"p1.0\",\"dose\":1}]}", "malformed_id"),
        ("{\"claims\":[{\"party\":\"p1.0\",\"slot\":\"s1.4294967296\",\"dose\":1}]}", "malformed_id"),
    ] {
        send("/v1/bookings", body).expect_problem(400, code);
    }
    let zero = json!({"claims": [claim("p1.0", &slots[0])], "ttl_seconds": 0}).to_string();
    send("/v1/holds", &zero).expect_problem(400, "malformed_request");
    send("/v1/holds/0126-YN8ZR-4W7CX/confirm", "{\"really\":true}").expect_problem(400, "malformed_request");
    for code in ["x", "0126-YN8ZR", "%F0%9F%92%89", &"0".repeat(500)] {
        server.read(&format!("/v1/bookings/{code}")).expect_problem(400, "malformed_id");
        send(&format!("/v1/holds/{code}/confirm"), "").expect_problem(400, "malformed_id");
    }
    server.read("/v1/parties/0/bookings").expect_problem(400, "malformed_id");
    server.read("/v1/parties/p1.999/bookings").expect_problem(404, "unknown_party");
    assert_eq!(server.export(), before);
}

#[test]
fn parties_come_in_bounded_numbers() {
    let server = Server::start();
    for (body, code) in [
        ("[1,1980]", "malformed_request"),
        ("{\"count\":0}", "malformed_request"),
        ("{\"count\":1000001}", "malformed_request"),
        ("{\"count\":1,\"birth_year\":20}", "malformed_request"),
        ("{\"count\":\"1\"}", "malformed_request"),
        ("{\"count\":1,\"name\":\"Asha\"}", "malformed_request"),
    ] {
        let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", "k")];
        server.send("POST", "/v1/parties", &headers, body.as_bytes()).expect_problem(400, code);
    }
    let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", "k")];
    let made = server.send("POST", "/v1/parties", &headers, b"{\"count\":3}").expect(201);
    assert_eq!(made, json!({"first": "p1.0", "count": 3}));
}

#[test]
fn methods_paths_and_types_are_checked() {
    let server = Server::start();
    for (method, path, allow) in [
        ("DELETE", "/v1/regions", "GET, HEAD, POST"),
        ("PUT", "/v1/bookings", "POST"),
        ("GET", "/v1/holds", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("TRACE", "/v1/availability", "GET, HEAD"),
        ("OPTIONS", "/v1/bookings/x/cancel", "POST"),
        ("BREW", "/v1/export", "GET, HEAD"),
    ] {
        let reply = server.send(method, path, &[], b"");
        reply.expect_problem(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
    }
    for path in ["/", "/v1", "/v1/", "/v1/bookings/", "/v2/regions", "/v1/bookings/a/b", "/v1/holds/a/confirm/"] {
        server.get(path).expect_problem(404, "not_found");
    }
    let html = ("accept", "text/html");
    server.send("GET", "/v1/regions", &[html], b"").expect_problem(406, "not_acceptable");
    server.send("GET", "/v1/regions", &[("accept", "text/html, */*;q=0.1")], b"").expect(200);
    let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", "k"), ("content-type", "text/csv")];
    server.send("POST", "/v1/regions", &headers, b"a,b").expect_problem(415, "unsupported_media_type");
}

#[test]
fn a_path_that_would_also_pass_for_a_booking_tells_its_own_methods() {
    let server = Server::start();
    let refused = server.send("DELETE", "/v1/bookings/cancel", &[], b"");
    refused.expect_problem(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("POST"));
    assert_eq!(server.send("DELETE", "/v1/bookings/x", &[], b"").header("allow"), Some("GET, HEAD"));
}
