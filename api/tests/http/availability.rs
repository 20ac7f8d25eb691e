//! Publishing and searching.

use jiff::ToSpan;
use serde_json::json;

use crate::server::{Server, claim, claims, session_line, tomorrow};

#[test]
fn what_is_published_is_found_by_district_pincode_and_centre() {
    let server = Server::start();
    server.add_places();
    let windows = json!([{"start": "09:00", "end": "11:00", "pools": {"dose1": 20, "dose2": 10}},
                         {"start": "11:00", "end": "13:00", "pools": {"open": 0}}]);
    let line = session_line("c1-a", &windows);
    assert_eq!(server.publish("/v1/sessions", &line).expect(200), json!({"published": 1, "slots": 3}));

    let day = tomorrow();
    let by_district = server.get("/v1/availability?district=395").expect(200);
    assert_eq!(by_district["days"], 7);
    let expected = json!({"id": "c1", "name": "PHC One", "district": "395", "pincode": "400001", "sessions": [
        {"id": "c1-a", "date": day.to_string(), "product": "covishield", "slots": [
            {"slot": "s1.0", "start": format!("{day}T09:00:00+05:30"), "end": format!("{day}T11:00:00+05:30"),
             "pool": "dose1", "capacity": 20, "free": 20, "held": 0, "status": "free"},
            {"slot": "s1.1", "start": format!("{day}T09:00:00+05:30"), "end": format!("{day}T11:00:00+05:30"),
             "pool": "dose2", "capacity": 10, "free": 10, "held": 0, "status": "free"},
            {"slot": "s1.2", "start": format!("{day}T11:00:00+05:30"), "end": format!("{day}T13:00:00+05:30"),
             "pool": "open", "capacity": 0, "free": 0, "held": 0, "status": "busy"}]}]});
    assert_eq!(by_district["centres"], json!([expected]));
    for place in ["pincode=400001", "centre=c1"] {
        assert_eq!(server.get(&format!("/v1/availability?{place}")).expect(200)["centres"], json!([expected]));
    }

    let regions = server.get("/v1/regions").expect(200);
    assert_eq!(
        regions["regions"],
        json!([{"id": "27", "kind": "state", "name": "Maharashtra", "parent": null},
               {"id": "395", "kind": "district", "name": "Mumbai", "parent": "27"}])
    );
}

#[test]
fn filters_leave_out_what_was_not_asked_for() {
    let server = Server::start();
    server.add_places();
    let windows = json!([{"start": "09:00", "end": "11:00", "pools": {"dose1": 20, "open": 0}}]);
    server.add_session("a", &windows);
    let slots = |query: &str| {
        let found = server.get(&format!("/v1/availability?centre=c1&{query}")).expect(200);
        let sessions = found["centres"][0]["sessions"].as_array().cloned().unwrap_or_default();
        sessions.iter().map(|s| s["slots"].as_array().unwrap().len()).sum::<usize>()
    };
    assert_eq!(slots(""), 2);
    assert_eq!(slots("pool=open"), 1);
    assert_eq!(slots("available=true"), 1);
    assert_eq!(slots("pool=open&available=true"), 0);
    assert_eq!(slots("product=covishield"), 2);
    assert_eq!(slots("product=covaxin"), 0);
    assert_eq!(slots("days=1"), 0, "today has none");
    assert_eq!(slots(&format!("from={}&days=1", tomorrow())), 2);
    let nobody = server.get("/v1/availability?pincode=999999").expect(200);
    assert_eq!(nobody["centres"], json!([]));
}

#[test]
fn wrong_searches_are_told_what_is_wrong() {
    let server = Server::start();
    server.add_places();
    for (query, status, code) in [
        ("", 400, "malformed_request"),
        ("?district=395&centre=c1", 400, "malformed_request"),
        ("?district=395&days=29", 400, "malformed_request"),
        ("?district=395&from=tomorrow", 400, "malformed_request"),
        ("?district=395&pool=vip", 400, "malformed_request"),
        ("?district=395&product=aspirin", 400, "malformed_request"),
        ("?district=395&limit=0", 400, "malformed_request"),
        ("?district=27", 404, "unknown_region"),
        ("?district=%00", 404, "unknown_region"),
        ("?centre=c9", 404, "unknown_centre"),
    ] {
        server.get(&format!("/v1/availability{query}")).expect_problem(status, code);
    }
}

#[test]
fn a_slot_whose_last_unit_is_held_is_busy_tentative() {
    let (server, slots) = Server::with_slots(&[1]);
    let status = || {
        let found = server.get("/v1/availability?centre=c1").expect(200);
        found["centres"][0]["sessions"][0]["slots"][0].clone()
    };
    assert_eq!(status()["status"], "free");
    let hold = server.post("/v1/holds", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    assert_eq!((&status()["status"], &status()["held"]), (&json!("busy-tentative"), &json!(1)));
    assert_eq!(status()["held_may_return"], true);
    let code = hold["hold"].as_str().unwrap();
    server.post(&format!("/v1/holds/{code}/confirm"), &json!(null)).expect(200);
    assert_eq!((&status()["status"], &status()["free"]), (&json!("busy"), &json!(0)));
    assert!(status().get("held_may_return").is_none());
}

#[test]
fn a_slot_beyond_the_horizon_is_busy_unavailable_and_not_available() {
    let server = Server::start();
    server.add_places();
    let (near, far) = (tomorrow(), tomorrow().saturating_add(39.days()));
    let windows = json!([{"start": "09:00", "end": "11:00", "pools": {"dose1": 5, "open": 0}}]);
    let line = session_line("far", &windows).replace(&near.to_string(), &far.to_string());
    server.publish("/v1/sessions", &line).expect(200);
    server.add_session("near", &windows);
    let statuses = |query: &str| {
        let found = server.get(&format!("/v1/availability?centre=c1&{query}")).expect(200);
        let slots = found["centres"][0]["sessions"][0]["slots"].as_array().cloned().unwrap_or_default();
        slots.iter().map(|slot| slot["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(statuses(&format!("from={near}&days=1")), ["free", "busy"]);
    assert_eq!(statuses(&format!("from={near}&days=1&available=true")), ["free"]);
    assert_eq!(statuses(&format!("from={far}&days=1")), ["busy-unavailable", "busy"]);
    assert!(statuses(&format!("from={far}&days=1&available=true")).is_empty());
}
