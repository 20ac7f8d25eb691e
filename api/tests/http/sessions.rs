//! What an administrator does to a session: off sale, on sale, another capacity; and how it is read.

use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::{Server, claim, claims, tomorrow};

fn admin(server: &Server, key: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", key)];
    server.send("POST", path, &headers, body.as_bytes())
}

fn statuses(server: &Server, query: &str) -> Vec<(String, u64)> {
    let found = server.get(&format!("/v1/availability?centre=c1&{query}")).expect(200);
    let slots = found["centres"][0]["sessions"][0]["slots"].as_array().cloned().unwrap_or_default();
    slots.iter().map(|s| (s["status"].as_str().unwrap().to_owned(), s["free"].as_u64().unwrap())).collect()
}

#[test]
fn a_closed_session_takes_no_claims_and_says_so() {
    let (server, slots) = Server::with_slots(&[2, 2]);
    let hold = server.post("/v1/holds", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let closed = admin(&server, "close", "/v1/sessions/s/close", &Value::Null);
    assert_eq!(closed.expect(200), json!({"session": "s", "slots": slots}));

    server.post("/v1/bookings", &claims(&[claim("p1.1", &slots[1])])).expect_problem(409, "slot_closed");
    let unavailable = |free| ("busy-unavailable".to_owned(), free);
    assert_eq!(statuses(&server, ""), [unavailable(1), unavailable(2)]);
    assert!(statuses(&server, "available=true").is_empty());
    let shown = server.get("/v1/sessions/s").expect(200);
    assert!(shown["slots"].as_array().unwrap().iter().all(|s| s["open"] == false && s["status"] == "busy-unavailable"));
    // Who holds already may confirm.
    server.post(&format!("/v1/holds/{}/confirm", hold["hold"].as_str().unwrap()), &Value::Null).expect(200);

    // A repeat is told the same and does nothing, also when it has been opened since and the server was killed.
    admin(&server, "open", "/v1/sessions/s/open", &Value::Null).expect(200);
    let server = server.kill_and_restart();
    let again = admin(&server, "close", "/v1/sessions/s/close", &Value::Null);
    assert_eq!((again.text(), again.header("idempotent-replayed")), (closed.text(), Some("true")));
    assert_eq!(statuses(&server, "available=true"), [("free".to_owned(), 1), ("free".to_owned(), 2)]);
    let outcome = server.send("GET", "/v1/outcomes/close", &[("authorization", "Bearer admin-key")], b"").expect(200);
    assert_eq!(outcome, json!({"session": "s", "slots": [slots[1]]}), "the last step of it");
}

#[test]
fn a_slot_is_resized_by_its_name_or_by_its_window_and_pool() {
    let (server, slots) = Server::with_slots(&[2, 2]);
    let path = "/v1/sessions/s/resize";
    let grown = admin(&server, "k1", path, &json!({"slot": slots[0], "capacity": 5}));
    assert_eq!(grown.expect(200), json!({"session": "s", "slots": [slots[0]]}));
    let shrunk = json!({"window": "10:00", "pool": "dose1", "capacity": 0});
    assert_eq!(admin(&server, "k2", path, &shrunk).expect(200)["slots"], json!([slots[1]]));
    assert_eq!((server.slot_counts(&slots[0]).0, server.slot_counts(&slots[1]).0), (5, 0));

    server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0]), claim("p1.1", &slots[0])])).expect(201);
    let below =
        admin(&server, "k3", path, &json!({"slot": slots[0], "capacity": 1})).expect_problem(409, "below_taken");
    assert_eq!((&below["asked"], &below["booked"]), (&json!(1), &json!(2)));
    let again = admin(&server, "k1", path, &json!({"slot": slots[0], "capacity": 5}));
    assert_eq!((again.text(), again.header("idempotent-replayed")), (grown.text(), Some("true")));
    let other = json!({"slot": slots[0], "capacity": 6});
    admin(&server, "k1", path, &other).expect_problem(422, "idempotency_conflict");
    assert_eq!(server.slot_counts(&slots[0]), (5, 0, 2));
}

#[test]
fn what_cannot_be_done_to_a_session_is_told_and_changes_nothing() {
    let (server, slots) = Server::with_slots(&[2]);
    let other = server.add_slots("other", &[1]);
    let before = server.export();
    for path in ["/v1/sessions/s/close", "/v1/sessions/s/open", "/v1/sessions/s/resize"] {
        let keyed = [("idempotency-key", "k")];
        server.send("POST", path, &keyed, b"").expect_problem(401, "unauthenticated");
        let platform = [("authorization", "Bearer platform-key"), ("idempotency-key", "k")];
        server.send("POST", path, &platform, b"").expect_problem(403, "forbidden");
        let keyless = [("authorization", "Bearer admin-key")];
        server.send("POST", path, &keyless, b"").expect_problem(400, "idempotency_key_missing");
        let body = if path.ends_with("resize") { json!({"slot": "s1.0", "capacity": 1}) } else { Value::Null };
        admin(&server, "k", &path.replace("/s/", "/nowhere/"), &body).expect_problem(404, "unknown_session");
    }
    admin(&server, "k", "/v1/sessions/s/close", &json!({"slot": slots[0]})).expect_problem(400, "malformed_request");
    for (body, status, code) in [
        (json!({}), 400, "malformed_request"),
        (json!({"capacity": 3}), 400, "malformed_request"),
        (json!({"slot": slots[0]}), 400, "malformed_request"),
        (json!({"slot": slots[0], "window": "09:00", "pool": "dose1", "capacity": 3}), 400, "malformed_request"),
        (json!({"window": "09:00", "capacity": 3}), 400, "malformed_request"),
        (json!({"window": "9", "pool": "dose1", "capacity": 3}), 400, "malformed_request"),
        (json!({"window": "09:00", "pool": "vip", "capacity": 3}), 400, "malformed_request"),
        (json!({"slot": slots[0], "capacity": -1}), 400, "malformed_request"),
        (json!({"slot": slots[0], "capacity": 1_048_576}), 400, "malformed_request"),
        (json!({"slot": "x", "capacity": 3}), 400, "malformed_id"),
        (json!({"slot": other[0], "capacity": 3}), 404, "unknown_slot"),
        (json!({"window": "09:30", "pool": "dose1", "capacity": 3}), 404, "unknown_slot"),
        (json!({"window": "09:00", "pool": "dose2", "capacity": 3}), 404, "unknown_slot"),
    ] {
        admin(&server, "k", "/v1/sessions/s/resize", &body).expect_problem(status, code);
    }
    assert_eq!(server.export(), before);
    // A key that stands for something else is found before the first slot is touched.
    admin(&server, "k", "/v1/sessions/other/close", &Value::Null).expect(200);
    admin(&server, "k", "/v1/sessions/other/open", &Value::Null).expect_problem(422, "idempotency_conflict");
    assert_eq!(server.get("/v1/sessions/other").expect(200)["slots"][0]["open"], false);
}

#[test]
fn centres_sessions_and_slots_are_read_by_name() {
    let server = Server::start();
    server.add_places();
    server.add_parties(2);
    let slots = server.add_session("s", &json!([{"start": "09:00", "end": "11:00", "pools": {"dose1": 2, "open": 0}}]));
    server.post("/v1/holds", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let day = tomorrow();
    let centre = server.get("/v1/centres/c1").expect(200);
    let sessions = json!([{"id": "s", "date": day.to_string(), "product": "covishield"}]);
    assert_eq!(
        centre,
        json!({"id": "c1", "name": "PHC One", "district": "395", "pincode": "400001", "sessions": sessions})
    );

    let session = server.get("/v1/sessions/s").expect(200);
    assert!(session["as_of"].is_string());
    assert_eq!((&session["centre"], &session["date"]), (&json!("c1"), &json!(day.to_string())));
    let first = json!({"slot": slots[0], "start": format!("{day}T09:00:00+05:30"), "end": format!("{day}T11:00:00+05:30"),
        "pool": "dose1", "capacity": 2, "free": 1, "held": 1, "open": true, "status": "free"});
    assert_eq!(session["slots"][0], first);
    assert_eq!((&session["slots"][1]["pool"], &session["slots"][1]["status"]), (&json!("open"), &json!("busy")));

    let slot = server.get(&format!("/v1/slots/{}", slots[0])).expect(200);
    assert_eq!((&slot["session"], &slot["product"]), (&json!("s"), &json!("covishield")));
    for (member, value) in first.as_object().unwrap() {
        assert_eq!(&slot[member], value, "{member}");
    }
    server.get("/v1/centres/c9").expect_problem(404, "unknown_centre");
    server.get("/v1/sessions/c9").expect_problem(404, "unknown_session");
    server.get("/v1/slots/s1.7").expect_problem(404, "unknown_slot");
    server.get("/v1/slots/s2.0").expect_problem(404, "unknown_slot");
    server.get("/v1/slots/7").expect_problem(400, "malformed_id");
    for path in ["/v1/centres/c1?days=7", "/v1/sessions/s?x", "/v1/slots/s1.0?x=1"] {
        server.get(path).expect_problem(400, "malformed_request");
    }
}
