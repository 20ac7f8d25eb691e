//! At the door of a centre: served, did not come, came without a booking.

use jiff::ToSpan;
use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::{Server, claim, claims, session_line, sha256, tomorrow};

/// A server with an operator of centre c1 and one of centre c2.
fn server() -> Server {
    let operator = |centre: &str| {
        let hash = sha256(&format!("operator-{centre}"));
        format!("[[keys]]\nrole = 'operator'\nname = '{centre}'\nsha256 = '{hash}'\ncentres = ['{centre}']\n")
    };
    let server = Server::start_with(&(operator("c1") + &operator("c2")));
    server.add_places();
    server.add_parties(10);
    server
}

fn at_the_door(server: &Server, centre: &str, key: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let bearer = format!("Bearer operator-{centre}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", key)];
    server.send("POST", path, &headers, body.as_bytes())
}

/// Slots of a session of today that began at midnight, in pool `dose1`.
fn today(server: &Server, capacity: u32) -> String {
    let windows = json!([{"start": "00:00", "end": "23:59", "pools": {"dose1": capacity}}]);
    let (next, day) = (tomorrow(), tomorrow().saturating_sub(1.days()));
    let line = session_line("today", &windows).replace(&next.to_string(), &day.to_string());
    server.publish("/v1/sessions", &line).expect(200);
    server.get("/v1/sessions/today").expect(200)["slots"][0]["slot"].as_str().unwrap().to_owned()
}

/// Bookings of these parties in a session of today whose window has opened long ago: nobody can book that, but the
/// administration can move bookings there.
fn booked_today(server: &Server, parties: &[&str]) -> Vec<Value> {
    let slots = server.add_slots("next", &[10]);
    for party in parties {
        server.post("/v1/bookings", &claims(&[claim(party, &slots[0])])).expect(201);
    }
    today(server, 10);
    let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", "move-all")];
    let body = json!({"to": "today", "windows": "any"}).to_string();
    let moved = server.send("POST", "/v1/sessions/next/move-bookings", &headers, body.as_bytes());
    assert_eq!((moved.status, moved.text().lines().count()), (200, parties.len() + 1), "{}", moved.text());
    let live = |party: &&str| server.read(&format!("/v1/parties/{party}/bookings")).expect(200)["bookings"][0].clone();
    parties.iter().map(live).collect()
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}"))
}

#[test]
fn who_did_not_come_gives_the_unit_to_a_walk_in() {
    let server = server();
    let booked = booked_today(&server, &["p1.0", "p1.1"]);
    let slot = text(&booked[0], "slot").to_owned();
    let path = format!("/v1/bookings/{}/no-show", text(&booked[0], "booking"));
    at_the_door(&server, "c2", "n", &path, &Value::Null).expect_problem(404, "unknown_booking");
    let gone = at_the_door(&server, "c1", "n", &path, &Value::Null);
    assert_eq!(gone.expect(200)["state"], "no_show");
    at_the_door(&server, "c1", "n2", &path, &Value::Null).expect_problem(409, "wrong_state");
    assert_eq!(server.slot_counts(&slot), (10, 0, 1));

    let walk_in = json!({"party": "p1.5", "slot": slot, "dose": 1});
    at_the_door(&server, "c2", "w", "/v1/walk-ins", &walk_in).expect_problem(403, "forbidden");
    let there = at_the_door(&server, "c1", "w", "/v1/walk-ins", &walk_in);
    assert_eq!((&there.expect(201)["state"], &there.json()["party"]), (&json!("checked_in"), &json!("p1.5")));
    let again = at_the_door(&server, "c1", "w", "/v1/walk-ins", &walk_in);
    assert_eq!((again.text(), again.header("idempotent-replayed")), (there.text(), Some("true")));
    let twice = at_the_door(&server, "c1", "w2", "/v1/walk-ins", &walk_in).expect_problem(409, "already_claimed");
    assert_eq!(twice["booking"], there.json()["booking"]);
    assert_eq!(server.slot_counts(&slot), (10, 0, 2));

    let complete = format!("/v1/bookings/{}/complete", text(&there.json(), "booking"));
    let served = at_the_door(&server, "c1", "done", &complete, &Value::Null);
    assert_eq!(served.expect(200)["state"], "completed");
    at_the_door(&server, "c1", "done2", &complete, &Value::Null).expect_problem(409, "wrong_state");
    let early = format!("/v1/bookings/{}/complete", text(&booked[1], "booking"));
    let early = at_the_door(&server, "c1", "e", &early, &Value::Null).expect_problem(409, "wrong_state");
    assert_eq!((&early["from"], &early["to"]), (&json!("booked"), &json!("completed")));

    let resize = json!({"slot": slot, "capacity": 2}).to_string();
    let admin = [("authorization", "Bearer admin-key"), ("idempotency-key", "less")];
    server.send("POST", "/v1/sessions/today/resize", &admin, resize.as_bytes()).expect(200);
    let full = json!({"party": "p1.6", "slot": slot, "dose": 1});
    at_the_door(&server, "c1", "w3", "/v1/walk-ins", &full).expect_problem(409, "full");
    for (body, status, code) in [
        (json!({"party": "p1.6", "slot": slot}), 400, "malformed_request"),
        (json!({"party": "x", "slot": slot, "dose": 1}), 400, "malformed_id"),
        (json!({"party": "p1.99", "slot": slot, "dose": 1}), 404, "unknown_party"),
        (json!({"party": "p1.6", "slot": "s1.9999", "dose": 1}), 404, "unknown_slot"),
    ] {
        at_the_door(&server, "c1", "w4", "/v1/walk-ins", &body).expect_problem(status, code);
    }
}

#[test]
fn the_door_is_for_its_own_day() {
    let server = server();
    let slots = server.add_slots("next", &[5]);
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let booking = &booked["bookings"][0];
    let path = |step: &str| format!("/v1/bookings/{}/{step}", text(booking, "booking"));
    let early = at_the_door(&server, "c1", "k", &path("no-show"), &Value::Null).expect_problem(409, "not_eligible");
    assert_eq!(
        (&early["rule"], &early["from"]),
        (&json!("no_show_grace"), &json!(format!("{}T09:30:00+05:30", tomorrow())))
    );
    let walk_in = json!({"party": "p1.1", "slot": slots[0], "dose": 1});
    let early = at_the_door(&server, "c1", "k", "/v1/walk-ins", &walk_in).expect_problem(409, "not_eligible");
    assert_eq!(early["rule"], "walk_in_day");
}

#[test]
fn the_routes_of_the_door_are_for_operators_and_platforms() {
    let server = server();
    for path in ["/v1/bookings/x/complete", "/v1/bookings/x/no-show", "/v1/walk-ins"] {
        server.send("POST", path, &[("idempotency-key", "k")], b"").expect_problem(401, "unauthenticated");
        let admin = [("authorization", "Bearer admin-key"), ("idempotency-key", "k")];
        server.send("POST", path, &admin, b"").expect_problem(403, "forbidden");
        let keyless = [("authorization", "Bearer operator-c1")];
        server.send("POST", path, &keyless, b"").expect_problem(400, "idempotency_key_missing");
        if path != "/v1/walk-ins" {
            at_the_door(&server, "c1", "k", path, &Value::Null).expect_problem(400, "malformed_id");
        }
    }
}
