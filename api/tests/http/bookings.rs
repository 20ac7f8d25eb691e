//! The life of holds and bookings, one happy path each.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client::PATIENCE;
use crate::server::{Server, claim, claims, tomorrow};

fn code<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap_or_else(|| panic!("{answer} has a {name}"))
}

#[test]
fn a_hold_is_confirmed_and_read() {
    let (server, slots) = Server::with_slots(&[5]);
    let slot = &slots[0];
    let mut body = claims(&[claim("p1.3", slot)]);
    body["ttl_seconds"] = json!(60);
    let hold = server.post("/v1/holds", &body).expect(201);
    let hold_code = code(&hold, "hold");
    assert_eq!(hold["claims"], json!([{"booking": hold_code, "party": "p1.3", "slot": slot, "dose": 1}]));
    assert_eq!(server.slot_counts(slot), (5, 1, 0));

    let read = server.read(&format!("/v1/bookings/{hold_code}")).expect(200);
    assert_eq!((&read["state"], &read["expires_at"]), (&json!("held"), &hold["expires_at"]));

    let confirmed = server.post(&format!("/v1/holds/{hold_code}/confirm"), &Value::Null).expect(200);
    let said = code(&confirmed["bookings"][0], "check_in_code");
    let day = tomorrow();
    let booking = json!({"check_in_code": said,
        "booking": hold_code, "hold": hold_code, "state": "booked", "party": "p1.3", "slot": slot, "dose": 1,
        "session": "s", "centre": "c1", "start": format!("{day}T09:00:00+05:30"), "end": format!("{day}T10:00:00+05:30"),
    });
    assert_eq!(confirmed, json!({"hold": hold_code, "bookings": [booking]}));
    assert_eq!(server.slot_counts(slot), (5, 0, 1));
    // Codes are read over the phone: case and dashes do not matter.
    let spoken = hold_code.replace('-', "").to_lowercase();
    assert_eq!(server.read(&format!("/v1/bookings/{spoken}")).expect(200), booking);
    let party = server.read("/v1/parties/p1.3/bookings").expect(200);
    assert_eq!(party, json!({"party": "p1.3", "bookings": [booking]}));
}

#[test]
fn a_hold_is_released() {
    let (server, slots) = Server::with_slots(&[1]);
    let hold = server.post("/v1/holds", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let hold = code(&hold, "hold");
    let released = server.post(&format!("/v1/holds/{hold}/release"), &json!({})).expect(200);
    assert_eq!(released, json!({"hold": hold, "state": "released"}));
    assert_eq!(server.slot_counts(&slots[0]), (1, 0, 0));
    assert_eq!(server.read("/v1/parties/p1.0/bookings").expect(200)["bookings"], json!([]));
    assert_eq!(server.read(&format!("/v1/bookings/{hold}")).expect(200)["state"], "released");
}

#[test]
fn a_hold_that_is_left_alone_expires() {
    let (server, slots) = Server::with_slots(&[1]);
    let mut body = claims(&[claim("p1.0", &slots[0])]);
    body["ttl_seconds"] = json!(1);
    let hold = server.post("/v1/holds", &body).expect(201);
    let hold = code(&hold, "hold");
    let started = Instant::now();
    while server.read(&format!("/v1/bookings/{hold}")).expect(200)["state"] == "held" {
        assert!(started.elapsed() < PATIENCE, "the hold never expires");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(server.read(&format!("/v1/bookings/{hold}")).expect(200)["state"], "expired");
    let confirm = server.post(&format!("/v1/holds/{hold}/confirm"), &Value::Null);
    assert_eq!(confirm.status, 409, "{}", confirm.text());
    assert_eq!(server.slot_counts(&slots[0]), (1, 0, 0));
    server.post("/v1/bookings", &claims(&[claim("p1.1", &slots[0])])).expect(201);
}

#[test]
fn a_family_is_booked_in_one_step_all_or_none() {
    let (server, slots) = Server::with_slots(&[3, 1]);
    let family: Vec<_> = (0..3).map(|i| claim(&format!("p1.{i}"), &slots[0])).collect();
    let booked = server.post("/v1/bookings", &claims(&family)).expect(201);
    let bookings = booked["bookings"].as_array().unwrap();
    assert_eq!(bookings.len(), 3);
    assert!(bookings.iter().all(|b| b["hold"] == booked["hold"] && b["state"] == "booked"));
    assert_eq!(bookings[0]["booking"], booked["hold"]);
    assert_ne!(bookings[1]["booking"], booked["hold"]);

    let two = [claim("p1.4", &slots[1]), claim("p1.5", &slots[1])];
    server.post("/v1/bookings", &claims(&two)).expect_problem(409, "full");
    assert_eq!(server.slot_counts(&slots[1]), (1, 0, 0));
    assert_eq!(server.read("/v1/parties/p1.4/bookings").expect(200)["bookings"], json!([]));
}

#[test]
fn a_booking_is_cancelled() {
    let (server, slots) = Server::with_slots(&[1]);
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let mut expected = booked["bookings"][0].clone();
    let booking = code(&expected, "booking").to_owned();
    let cancelled = server.post(&format!("/v1/bookings/{booking}/cancel"), &Value::Null).expect(200);
    expected["state"] = json!("cancelled");
    // Nobody says its code any more.
    expected.as_object_mut().unwrap().remove("check_in_code").expect("a booking has one");
    assert_eq!(cancelled, expected);
    assert_eq!(server.slot_counts(&slots[0]), (1, 0, 0));
}

#[test]
fn a_booking_is_moved_and_both_ends_know() {
    let (server, slots) = Server::with_slots(&[1, 1]);
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let old = code(&booked["bookings"][0], "booking");
    let moved = server.post(&format!("/v1/bookings/{old}/move"), &json!({"slot": slots[1]})).expect(200);
    assert_eq!(
        (&moved["moved_from"], &moved["slot"], &moved["state"]),
        (&json!(old), &json!(slots[1]), &json!("booked"))
    );
    let new = code(&moved, "booking");
    assert_ne!(new, old);
    let before = server.read(&format!("/v1/bookings/{old}")).expect(200);
    assert_eq!((&before["state"], &before["moved_to"]), (&json!("moved"), &json!(new)));
    assert_eq!(server.read(&format!("/v1/bookings/{new}")).expect(200), moved);
    assert_eq!((server.slot_counts(&slots[0]), server.slot_counts(&slots[1])), ((1, 0, 0), (1, 0, 1)));

    let cancelled = server.post(&format!("/v1/bookings/{new}/cancel"), &Value::Null).expect(200);
    assert_eq!((&cancelled["state"], &cancelled["moved_from"]), (&json!("cancelled"), &json!(old)));
}

#[test]
fn a_hold_lives_no_longer_than_the_programme_allows() {
    let (server, slots) = Server::with_slots(&[2]);
    let mut long = claims(&[claim("p1.0", &slots[0])]);
    long["ttl_seconds"] = json!(86_400);
    let long = server.post("/v1/holds", &long).expect(201);
    let short = server.post("/v1/holds", &claims(&[claim("p1.1", &slots[0])])).expect(201);
    let at = |hold: &Value| code(hold, "expires_at").parse::<jiff::Timestamp>().unwrap();
    // Asked first, so capped to no later than the other's default.
    assert!(at(&long) <= at(&short), "{long} {short}");
}
