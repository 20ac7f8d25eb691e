//! Admission: what is refused and what never is, and how an operator sees and changes it.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::client::{Reply, connect, request};
use crate::server::{Server, claim, claims};

fn change(server: &Server, settings: &Value) -> Reply {
    let headers = [("authorization", "Bearer admin-key"), ("content-type", "application/json")];
    server.send("PATCH", "/v1/admin/admission", &headers, settings.to_string().as_bytes())
}

fn read(server: &Server) -> Value {
    server.send("GET", "/v1/admin/admission", &[("authorization", "Bearer admin-key")], b"").expect(200)
}

/// A refusal that says why and when to come again.
#[track_caller]
fn is_shed(reply: &Reply, reason: &str) {
    let problem = reply.expect_problem(503, "overloaded");
    assert_eq!(problem["reason"], reason, "{problem}");
    let seconds: u16 = reply.header("retry-after").expect("it says when").parse().unwrap();
    assert!((1..=20).contains(&seconds));
}

// rule: ADM-1
#[test]
fn a_live_hold_is_confirmed_where_everything_else_is_refused() {
    let (server, slots) = Server::with_slots(&[5]);
    let hold = |party: &str| server.post("/v1/holds", &claims(&[claim(party, &slots[0])])).expect(201);
    let code = |hold: &Value| hold["hold"].as_str().unwrap().to_owned();
    let (first, second) = (code(&hold("p1.0")), code(&hold("p1.1")));
    let done = code(&server.post("/v1/bookings", &claims(&[claim("p1.2", &slots[0])])).expect(201));
    let changed = change(&server, &json!({"shed": ["settle", "claim", "search", "admin"]})).expect(200);
    assert_eq!(changed["settings"]["shed"], json!(["settle", "claim", "search", "admin"]));

    is_shed(&server.get("/v1/regions"), "switched_off");
    is_shed(&server.post("/v1/holds", &claims(&[claim("p1.3", &slots[0])])), "switched_off");
    is_shed(&server.post(&format!("/v1/holds/{second}/release"), &Value::Null), "switched_off");
    is_shed(&server.publish("/v1/regions", "{}"), "switched_off");
    // No priority for a code that is none, is another's, or is of a hold that is no more.
    for code in ["0126-YN8ZR-4W7CK", "x", done.as_str()] {
        is_shed(&server.post(&format!("/v1/holds/{code}/confirm"), &Value::Null), "switched_off");
    }
    server.post(&format!("/v1/holds/{first}/confirm"), &Value::Null).expect(200);
    // Probes and the switch itself are outside of it.
    server.get("/healthz").expect(200);
    for line in [
        "berth_admission_sheds_total{class=\"search\",reason=\"switched_off\"} 1",
        "berth_admission_sheds_total{class=\"settle\",reason=\"switched_off\"} 1",
        "berth_http_refusals_total{code=\"overloaded\"} 7",
        "berth_admission_running{class=\"claim\"} 0",
        "berth_admission_at_work 0",
    ] {
        server.wait_for_metric(line);
    }
    let sheds = &read(&server)["state"]["sheds"];
    assert_eq!((&sheds["admin"]["switched_off"], &sheds["claim"]["switched_off"]), (&json!(3), &json!(2)));

    change(&server, &json!({"shed": []})).expect(200);
    server.get("/v1/regions").expect(200);
    // Nothing was done for what was refused, and its key is free.
    assert_eq!(server.slot_counts(&slots[0]), (5, 1, 2));
}

// rule: ADM-1
#[test]
fn a_live_hold_is_confirmed_by_who_made_it_though_no_more_requests_may_run() {
    let server = Server::start_with("http.inflight_requests_max = 1");
    server.add_places();
    server.add_parties(3);
    let slots = server.add_slots("s", &[5]);
    let held = server.post("/v1/holds", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let confirm = format!("/v1/holds/{}/confirm", held["hold"].as_str().unwrap());
    // Its body never comes.
    let mut slow = connect(server.address);
    let headers = [("authorization", "Bearer platform-key"), ("idempotency-key", "slow"), ("content-length", "100")];
    slow.write_all(&request("POST", "/v1/bookings", &headers, b"{")).unwrap();
    server.wait_for_metric("berth_http_inflight_requests 1");
    is_shed(&server.post("/v1/holds", &claims(&[claim("p1.1", &slots[0])])), "too_many_running");
    is_shed(&server.post("/v1/holds/0126-YN8ZR-4W7CK/confirm", &Value::Null), "too_many_running");
    // Who only knows the code has no way past, and waits for nothing.
    server.send("POST", &confirm, &[], b"").expect_problem(401, "unauthenticated");
    let wrong = [("authorization", "Bearer wrong-key"), ("idempotency-key", "wrong")];
    server.send("POST", &confirm, &wrong, b"").expect_problem(401, "invalid_key");
    let admin = [("authorization", "Bearer admin-key"), ("idempotency-key", "admin")];
    is_shed(&server.send("POST", &confirm, &admin, b""), "too_many_running");
    server.post(&confirm, &Value::Null).expect(200);
}

#[test]
fn admission_is_changed_at_run_time_by_an_admin_and_as_a_whole() {
    let server = Server::start_with("admission.target_delay_ms = 7");
    let before = read(&server);
    assert_eq!(
        before["settings"],
        json!({
        "mode": "adaptive", "target_delay_ms": 7, "limit_min": 16, "limit_max": 20000, "queue_max": 1000,
        "queue_time_ms": 20, "gate_connections": true, "shed": []})
    );
    let wrong = json!({"mode": "fixed", "target_delay_ms": 0, "limit_min": 50, "limit_max": 40, "shed": ["hold"]});
    let problem = change(&server, &wrong).expect_problem(400, "malformed_request");
    let detail = problem["detail"].as_str().unwrap();
    for field in ["target_delay_ms: ", "limit_min: ", "shed: "] {
        assert!(detail.contains(field), "{detail}");
    }
    change(&server, &json!({"speed": 1})).expect_problem(400, "malformed_request");
    assert_eq!(read(&server)["settings"], before["settings"], "nothing is half-applied");
    let fixed = change(&server, &json!({"mode": "fixed", "limit_max": 40})).expect(200);
    assert_eq!((&fixed["settings"]["mode"], &fixed["state"]["limit"]), (&json!("fixed"), &json!(40)));
    server.wait_for_metric("berth_admission_limit 40");
    assert_eq!(change(&server, &json!({"mode": "off"})).expect(200)["state"]["limit"], Value::Null);
    server.wait_for_metric("berth_admission_limit +Inf");
    server.get("/v1/regions").expect(200);

    let platform = [("authorization", "Bearer platform-key")];
    server.send("PATCH", "/v1/admin/admission", &platform, b"{}").expect_problem(403, "forbidden");
    server.get("/v1/admin/admission").expect_problem(401, "unauthenticated");
    let headers = [("authorization", "Bearer admin-key"), ("content-type", "text/plain")];
    server.send("PATCH", "/v1/admin/admission", &headers, b"{}").expect_problem(415, "unsupported_media_type");
}
