//! At the door of a centre: check in by code, served, did not come, came without a booking.

use std::path::{Path, PathBuf};

use jiff::ToSpan;
use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::{Home, Server, claim, claims, programme_path, session_line, sha256, tomorrow};

/// A server with an operator of centre c1 and one of centre c2.
pub(crate) fn server() -> Server {
    server_under(&programme_path())
}

pub(crate) fn server_under(programme: &Path) -> Server {
    let operator = |centre: &str| {
        let hash = sha256(&format!("operator-{centre}"));
        format!("[[keys]]\nrole = 'operator'\nname = '{centre}'\nsha256 = '{hash}'\ncentres = ['{centre}']\n")
    };
    let server = Home::with_programme(&(operator("c1") + &operator("c2")), programme).start();
    server.add_places();
    server.add_parties(10);
    server
}

/// The programme, in this directory, where who is not there as a window opens has not come.
pub(crate) fn without_grace(dir: &Path) -> PathBuf {
    let programme = dir.join("programme.toml");
    let india = std::fs::read_to_string(programme_path()).unwrap();
    std::fs::write(&programme, india.replace("no_show_grace_minutes = 30", "no_show_grace_minutes = 0")).unwrap();
    programme
}

pub(crate) fn at_the_door(server: &Server, centre: &str, key: &str, path: &str, body: &Value) -> Reply {
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
pub(crate) fn booked_today(server: &Server, parties: &[&str]) -> Vec<Value> {
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

pub(crate) fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}"))
}

#[test]
fn a_party_is_checked_in_by_its_code_and_served_once() {
    let server = server();
    let booked = booked_today(&server, &["p1.0"]);
    let (booking, code) = (text(&booked[0], "booking"), text(&booked[0], "check_in_code"));
    let path = format!("/v1/bookings/{booking}/check-in");
    let wrong = format!("{:04}", (code.parse::<u32>().unwrap() + 1) % 10_000);
    at_the_door(&server, "c1", "w", &path, &json!({"code": wrong})).expect_problem(403, "wrong_check_in_code");
    for (body, problem) in [
        (Value::Null, "malformed_json"),
        (json!({}), "malformed_request"),
        (json!({"code": 1234}), "malformed_request"),
        (json!({"code": "123"}), "malformed_request"),
        (json!({"code": "12 4"}), "malformed_request"),
        (json!({"code": code, "by": "me"}), "malformed_request"),
    ] {
        at_the_door(&server, "c1", "k", &path, &body).expect_problem(400, problem);
    }
    let complete = format!("/v1/bookings/{booking}/complete");
    let early = at_the_door(&server, "c1", "e", &complete, &Value::Null).expect_problem(409, "wrong_state");
    assert_eq!((&early["from"], &early["to"]), (&json!("booked"), &json!("completed")));
    // A key of another centre knows of no such booking.
    at_the_door(&server, "c2", "k", &path, &json!({"code": code})).expect_problem(404, "unknown_booking");

    let checked_in = at_the_door(&server, "c1", "in", &path, &json!({"code": code}));
    assert_eq!(
        (&checked_in.expect(200)["state"], checked_in.json().get("check_in_code")),
        (&json!("checked_in"), None)
    );
    let again = at_the_door(&server, "c1", "in", &path, &json!({"code": code}));
    assert_eq!((again.text(), again.header("idempotent-replayed")), (checked_in.text(), Some("true")));
    at_the_door(&server, "c1", "in2", &path, &json!({"code": code})).expect_problem(409, "wrong_state");

    let served = at_the_door(&server, "c1", "done", &complete, &Value::Null);
    assert_eq!(served.expect(200)["state"], "completed");
    at_the_door(&server, "c1", "done2", &complete, &Value::Null).expect_problem(409, "wrong_state");
    let slots = server.add_slots("later", &[1]);
    let had = server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect_problem(409, "not_eligible");
    assert_eq!(had["rule"], "dose_given");

    let server = server.kill_and_restart();
    assert_eq!(server.read(&format!("/v1/bookings/{booking}")).expect(200)["state"], "completed");
    let again = at_the_door(&server, "c1", "done", &complete, &Value::Null);
    assert_eq!((again.text(), again.header("idempotent-replayed")), (served.text(), Some("true")));
}

#[test]
fn wrong_codes_are_counted_and_then_none_is_taken() {
    let server = server();
    let booked = booked_today(&server, &["p1.0", "p1.1"]);
    let path = |at: usize| format!("/v1/bookings/{}/check-in", text(&booked[at], "booking"));
    let right = |at: usize| json!({"code": text(&booked[at], "check_in_code")});
    let wrong =
        json!({"code": format!("{:04}", (text(&booked[0], "check_in_code").parse::<u32>().unwrap() + 1) % 10_000)});
    let mut tries = 0;
    let locked = loop {
        let reply = at_the_door(&server, "c1", &format!("k{tries}"), &path(0), &wrong);
        tries += 1;
        assert!(tries < 20, "codes may be tried for ever");
        if reply.status != 403 {
            break reply;
        }
    };
    locked.expect_problem(429, "too_many_codes");
    assert!(locked.header("retry-after").is_some());
    // Also the right one, and only for this booking.
    at_the_door(&server, "c1", "right", &path(0), &right(0)).expect_problem(429, "too_many_codes");
    at_the_door(&server, "c1", "other", &path(1), &right(1)).expect(200);
}

#[test]
fn who_did_not_come_gives_the_unit_to_a_walk_in() {
    // Without a grace: in the first minutes of a day its windows have only just opened.
    let dir = tempfile::tempdir().unwrap();
    let server = server_under(&without_grace(dir.path()));
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
    // A booking at another centre is that one's business: its code opens it.
    let centre = json!({"id": "c2", "name": "PHC Two", "district": "395", "pincode": "400001"});
    server.publish("/v1/centres", &centre.to_string()).expect(200);
    let windows = json!([{"start": "09:00", "end": "10:00", "pools": {"dose1": 1}}]);
    server.publish("/v1/sessions", &session_line("two", &windows).replace("\"c1\"", "\"c2\"")).expect(200);
    let two = server.get("/v1/sessions/two").expect(200)["slots"][0]["slot"].as_str().unwrap().to_owned();
    let elsewhere = server.post("/v1/bookings", &claims(&[claim("p1.7", &two)])).expect(201);
    let claimed = json!({"party": "p1.7", "slot": slot, "dose": 1});
    let hidden = at_the_door(&server, "c1", "w5", "/v1/walk-ins", &claimed).expect_problem(409, "already_claimed");
    assert_eq!(hidden.get("booking"), None);
    assert!(!hidden.to_string().contains(text(&elsewhere, "hold")), "{hidden}");
    let seen = server.post("/v1/walk-ins", &claimed).expect_problem(409, "already_claimed");
    assert_eq!(seen["booking"], elsewhere["hold"]);
    assert_eq!(server.slot_counts(&slot), (10, 0, 2));

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
    let code = json!({"code": text(booking, "check_in_code")});
    let early = at_the_door(&server, "c1", "k", &path("check-in"), &code).expect_problem(409, "not_eligible");
    assert_eq!(
        (&early["rule"], &early["from"]),
        (&json!("check_in_day"), &json!(format!("{}T00:00:00+05:30", tomorrow())))
    );
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
fn the_code_is_shown_to_the_holder_and_not_at_the_door() {
    let server = server();
    let booked = booked_today(&server, &["p1.0"]);
    let path = format!("/v1/bookings/{}", text(&booked[0], "booking"));
    let code = text(&booked[0], "check_in_code");
    assert!(code.len() == 4 && code.bytes().all(|b| b.is_ascii_digit()), "{code}");
    let shown = |key: &str| server.send("GET", &path, &[("authorization", key)], b"").expect(200);
    assert_eq!(shown("Bearer platform-key")["check_in_code"], *code);
    assert_eq!(shown("Bearer operator-c1").get("check_in_code"), None);
    // A hold has none yet.
    let slots = server.add_slots("later", &[5]);
    let held = server.post("/v1/holds", &claims(&[claim("p1.1", &slots[0])])).expect(201);
    let held = server.read(&format!("/v1/bookings/{}", text(&held, "hold"))).expect(200);
    assert_eq!((&held["state"], held.get("check_in_code")), (&json!("held"), None));
}

#[test]
fn the_routes_of_the_door_are_for_operators_and_platforms() {
    let server = server();
    for path in ["/v1/bookings/x/check-in", "/v1/bookings/x/complete", "/v1/bookings/x/no-show", "/v1/walk-ins"] {
        server.send("POST", path, &[("idempotency-key", "k")], b"").expect_problem(401, "unauthenticated");
        let admin = [("authorization", "Bearer admin-key"), ("idempotency-key", "k")];
        server.send("POST", path, &admin, b"").expect_problem(403, "forbidden");
        let keyless = [("authorization", "Bearer operator-c1")];
        server.send("POST", path, &keyless, b"").expect_problem(400, "idempotency_key_missing");
        let body = if path.ends_with("check-in") { json!({"code": "0000"}) } else { Value::Null };
        if path != "/v1/walk-ins" {
            at_the_door(&server, "c1", "k", path, &body).expect_problem(400, "malformed_id");
        }
    }
}
