//! Every no of the rules: status, code, members, and nothing changed by it.

use serde_json::{Value, json};

use crate::server::{Server, claim, claims};

#[test]
fn full_says_its_counts_and_whether_held_units_may_return() {
    let (server, slots) = Server::with_slots(&[1]);
    let hold = server.post("/v1/holds", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let full = server.post("/v1/bookings", &claims(&[claim("p1.1", &slots[0])])).expect_problem(409, "full");
    assert_eq!(full["held_may_return"], true);
    assert_eq!((&full["capacity"], &full["held"], &full["booked"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!((&full["type"], &full["instance"]), (&json!("urn:berth:problem:full"), &json!("/v1/bookings")));
    server.post(&format!("/v1/holds/{}/confirm", hold["hold"].as_str().unwrap()), &Value::Null).expect(200);
    let full = server.post("/v1/bookings", &claims(&[claim("p1.1", &slots[0])])).expect_problem(409, "full");
    assert_eq!((&full["held_may_return"], &full["booked"]), (&json!(false), &json!(1)));
}

#[test]
fn claims_that_cannot_be_are_refused_and_change_nothing() {
    let (server, slots) = Server::with_slots(&[5, 5]);
    let [one, two] = slots.as_slice() else { panic!("two slots") };
    let hold = server.post("/v1/holds", &claims(&[claim("p1.0", one), claim("p1.1", one)])).expect(201);
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.2", one)])).expect(201);
    let before = server.export();

    let book = |body: &Value, status, code| server.post("/v1/bookings", body).expect_problem(status, code);
    let again = book(&claims(&[claim("p1.2", two)]), 409, "already_claimed");
    assert_eq!((&again["booking"], &again["party"]), (&booked["hold"], &json!("p1.2")));
    book(&claims(&[]), 400, "group_size");
    let five: Vec<_> = (3..8).map(|i| claim(&format!("p1.{i}"), one)).collect();
    assert_eq!(book(&claims(&five), 400, "group_size")["max"], 4, "the programme's limit, not the engine's");
    book(&claims(&[claim("p1.3", one), claim("p1.3", two)]), 400, "party_repeated");
    book(&claims(&[claim("p1.99", one)]), 404, "unknown_party");
    book(&claims(&[claim("p1.3", "s1.9999")]), 404, "unknown_slot");
    book(&claims(&[claim("p2.3", one)]), 404, "unknown_party");
    book(&claims(&[claim("p1.3", "s2.0")]), 404, "unknown_slot");
    let wrong_dose = json!({"claims": [{"party": "p1.3", "slot": one, "dose": 2}]});
    assert_eq!(book(&wrong_dose, 409, "not_eligible")["rule"], "pool_dose");

    let hold_code = hold["hold"].as_str().unwrap();
    let second = hold["claims"][1]["booking"].as_str().unwrap();
    let not_the_hold =
        server.post(&format!("/v1/holds/{second}/confirm"), &Value::Null).expect_problem(409, "not_the_hold");
    assert_eq!(not_the_hold["hold"], hold_code);
    let booking = booked["hold"].as_str().unwrap();
    let wrong = server.post(&format!("/v1/holds/{booking}/confirm"), &Value::Null).expect_problem(409, "wrong_state");
    assert_eq!((&wrong["from"], &wrong["to"]), (&json!("booked"), &json!("booked")));
    let wrong = server.post(&format!("/v1/bookings/{hold_code}/cancel"), &Value::Null);
    assert_eq!(wrong.expect_problem(409, "wrong_state")["from"], "held");
    let same = server.post(&format!("/v1/bookings/{booking}/move"), &json!({"slot": one}));
    same.expect_problem(409, "same_slot");

    assert_eq!(server.export(), before);
}

#[test]
fn a_session_beyond_the_horizon_says_from_when_it_can_be_booked() {
    let server = Server::start();
    server.add_places();
    server.add_parties(1);
    let day = crate::server::tomorrow().saturating_add(jiff::ToSpan::days(60));
    let windows = json!([{"start": "09:00", "end": "10:00", "pools": {"dose1": 1}}]);
    let line = json!({"id": "far", "centre": "c1", "date": day.to_string(), "product": "covaxin", "windows": windows});
    server.publish("/v1/sessions", &line.to_string()).expect(200);
    let refused = server.post("/v1/bookings", &claims(&[claim("p1.0", "s1.0")])).expect_problem(409, "not_eligible");
    assert_eq!(refused["rule"], "booking_horizon");
    let opens = day.saturating_sub(jiff::ToSpan::days(28));
    assert_eq!(refused["from"], format!("{opens}T00:00:00+05:30"));
}

#[test]
fn a_refusal_never_shows_a_number_of_the_engine() {
    let (server, slots) = Server::with_slots(&[5, 5]);
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.7", &slots[0])])).expect(201);
    let refused =
        server.post("/v1/bookings", &claims(&[claim("p1.7", &slots[1])])).expect_problem(409, "already_claimed");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains(booked["hold"].as_str().unwrap()), "{detail}");
    assert!(!detail.contains("programme"), "{detail}");
}
