//! Who waits for what is given back: joined, offered, passed by nobody, kept over a kill.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::{ADMIN, Home, Server, claim, claims, programme_path, tomorrow};
use crate::tokens::Issuer;

/// The programme of the other tests, with a waitlist.
fn programme(more: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = std::fs::read_to_string(programme_path()).unwrap();
    std::fs::write(file.path(), format!("{text}\n[waitlist]\n{more}\n")).unwrap();
    file
}

fn server() -> (Server, tempfile::NamedTempFile) {
    let file = programme("offer_minutes = 30");
    (Home::with_programme("", file.path()).start(), file)
}

fn wish(party: &str, scope: (&str, &str)) -> Value {
    let day = tomorrow().to_string();
    json!({"party": party, scope.0: scope.1, "from": day, "to": day, "dose": 1})
}

fn join(server: &Server, party: &str) -> String {
    let joined = server.post("/v1/waitlist", &wish(party, ("centre", "c1"))).expect(201);
    joined["entry"].as_str().unwrap().to_owned()
}

/// Reads an entry until it stands so.
#[track_caller]
fn stands(server: &Server, entry: &str, state: &str) -> Value {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let told = server.read(&format!("/v1/waitlist/{entry}")).expect(200);
        if told["state"] == state {
            return told;
        }
        assert!(Instant::now() < until, "{state} in a minute, and not {told}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn until(so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < until, "not so in a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn as_admin(server: &Server, method: &str, path: &str) -> Reply {
    let (bearer, key) = (format!("Bearer {ADMIN}"), server.fresh_key());
    server.send(method, path, &[("authorization", bearer.as_str()), ("idempotency-key", key.as_str())], b"")
}

/// A slot of one unit that `p1.0` has booked.
fn with_a_full_slot() -> (Server, tempfile::NamedTempFile, Vec<String>, String) {
    let (server, _file) = server();
    server.add_places();
    server.add_parties(8);
    let slots = server.add_slots("s", &[1]);
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let booking = booked["bookings"][0]["booking"].as_str().unwrap().to_owned();
    (server, _file, slots, booking)
}

// rule: WTL-1
// rule: WTL-2
#[test]
fn a_cancelled_unit_is_offered_in_order_and_the_public_is_told_reserved() {
    let (server, _file, slots, booking) = with_a_full_slot();
    let (first, second) = (join(&server, "p1.1"), join(&server, "p1.2"));
    assert_eq!(server.read(&format!("/v1/waitlist/{second}")).expect(200)["ahead"], 1);
    let counts = as_admin(&server, "GET", "/v1/centres/c1/waitlist").expect(200);
    assert_eq!((&counts["days"][0]["waiting"], &counts["district_days"]), (&json!(2), &json!([])));

    server.post(&format!("/v1/bookings/{booking}/cancel"), &json!({})).expect(200);
    let told = stands(&server, &first, "offered");
    assert_eq!((&told["offer"]["slot"], &told["offer"]["state"]), (&json!(slots[0]), &json!("held")));
    assert_eq!(told["offer"]["party"], "p1.1");
    let full = server.post("/v1/bookings", &claims(&[claim("p1.5", &slots[0])])).expect_problem(409, "full");
    assert_eq!((&full["held"], &full["held_may_return"]), (&json!(1), &json!(false)), "what returns is the second's");
    // Declined: the second has it, and nobody else a chance.
    let hold = told["offer"]["hold"].as_str().unwrap().to_owned();
    server.post(&format!("/v1/holds/{hold}/release"), &json!({})).expect(200);
    let taken = server.post("/v1/bookings", &claims(&[claim("p1.5", &slots[0])]));
    assert!(taken.status == 409 && matches!(taken.json()["code"].as_str(), Some("reserved" | "full")), "{taken:?}");
    let told = stands(&server, &second, "offered");
    let declined = stands(&server, &first, "waiting");
    assert_eq!(declined["offers_not_taken"], 1);
    let hold = told["offer"]["hold"].as_str().unwrap().to_owned();
    server.post(&format!("/v1/holds/{hold}/confirm"), &json!({})).expect(200);
    assert_eq!(stands(&server, &second, "ended")["why"], "served");
    let again = server.post("/v1/waitlist", &wish("p1.2", ("centre", "c1")));
    again.expect_problem(409, "already_served");
    let metrics = server.get("/metrics");
    for line in ["berth_waitlist_offers_total 2", "berth_waitlist_offers_ended_total{how=\"taken\"} 1"] {
        assert!(metrics.text().contains(line), "{line}");
    }
}

/// The flag stands on a full slot, and a free unit that waits for a new offer is shown as nobody's.
// rule: WTL-2
#[test]
fn a_reserved_slot_is_refused_and_shown_as_not_free() {
    let (server, _file, slots, booking) = with_a_full_slot();
    for party in 1..6 {
        join(&server, &format!("p1.{party}"));
    }
    // Each offer is declined at once; in between there is a free unit, which nobody may have but the next.
    server.post(&format!("/v1/bookings/{booking}/cancel"), &json!({})).expect(200);
    let mut refused = 0;
    for party in 1..6 {
        let path = format!("/v1/parties/p1.{party}/waitlist");
        let until = Instant::now() + Duration::from_secs(60);
        let hold = loop {
            let entry = server.read(&path).expect(200)["entries"][0].clone();
            let book = server.post("/v1/bookings", &claims(&[claim("p1.7", &slots[0])]));
            assert_eq!(book.status, 409, "{}", book.text());
            refused += u32::from(book.json()["code"] == "reserved");
            let slot = server.get(&format!("/v1/slots/{}", slots[0])).expect(200);
            assert_eq!((&slot["free"], slot["status"] == "free"), (&json!(0), false), "{slot}");
            if entry["state"] == "offered" {
                break entry["offer"]["hold"].as_str().unwrap().to_owned();
            }
            assert!(Instant::now() < until, "{entry}");
        };
        if party == 5 {
            break;
        }
        let slot = server.get(&format!("/v1/slots/{}", slots[0])).expect(200);
        assert_eq!(slot["reserved"], json!(true), "{slot}");
        server.post(&format!("/v1/holds/{hold}/release"), &json!({})).expect(200);
    }
    println!("refused as reserved {refused} times");
    // The last has it; nobody else waits for this slot.
    let slot = server.get(&format!("/v1/slots/{}", slots[0])).expect(200);
    assert_eq!(slot.get("reserved"), None, "{slot}");
}

// rule: WTL-1
#[test]
fn a_kill_keeps_the_order_and_offers_nothing_twice() {
    let (server, _file) = server();
    server.add_places();
    server.add_parties(8);
    let slots = server.add_slots("s", &[2]);
    let booked =
        server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0]), claim("p1.1", &slots[0])])).expect(201);
    let booking = |n: usize| booked["bookings"][n]["booking"].as_str().unwrap().to_owned();
    let entries: Vec<_> = (2..5).map(|party| join(&server, &format!("p1.{party}"))).collect();
    server.post(&format!("/v1/bookings/{}/cancel", booking(0)), &json!({})).expect(200);
    let before = stands(&server, &entries[0], "offered");
    let server = server.kill_and_restart();
    assert_eq!(server.read(&format!("/v1/waitlist/{}", entries[0])).expect(200)["offer"], before["offer"]);
    let passed = server.post("/v1/bookings", &claims(&[claim("p1.7", &slots[0])]));
    passed.expect_problem(409, "full");
    server.post(&format!("/v1/bookings/{}/cancel", booking(1)), &json!({})).expect(200);
    let second = stands(&server, &entries[1], "offered");
    assert_ne!(second["offer"]["hold"], before["offer"]["hold"]);
    assert_eq!(server.read(&format!("/v1/waitlist/{}", entries[2])).expect(200)["ahead"], 0);
}

#[test]
fn an_entry_is_its_own_partys_and_a_repeat_is_one_entry() {
    let issuer = Issuer::new();
    let file = programme("offer_minutes = 30\nentries_per_party_max = 2");
    let server = issuer.server_of_programme("", file.path());
    server.add_places();
    server.add_parties(8);
    server.add_slots("s", &[1]);
    let bearer = |token: &str| format!("Bearer {token}");
    let (own, other) = (
        bearer(&issuer.token("a", &json!({"parties": ["p1.1"]}))),
        bearer(&issuer.token("b", &json!({"parties": ["p1.2"]}))),
    );
    let ask = |method: &str, path: &str, who: &str, key: &str, body: &Value| {
        let headers = [("authorization", who), ("idempotency-key", key), ("content-type", "application/json")];
        let body = if method == "POST" { body.to_string() } else { String::new() };
        server.send(method, path, &headers, body.as_bytes())
    };
    let body = wish("p1.1", ("district", "395"));
    let first = ask("POST", "/v1/waitlist", &own, "k1", &body);
    let entry = first.expect(201)["entry"].as_str().unwrap().to_owned();
    let again = ask("POST", "/v1/waitlist", &own, "k1", &body);
    assert_eq!((again.header("idempotent-replayed"), &again.expect(201)["entry"]), (Some("true"), &json!(entry)));
    ask("POST", "/v1/waitlist", &own, "k1", &wish("p1.1", ("centre", "c1")))
        .expect_problem(422, "idempotency_conflict");
    let same = ask("POST", "/v1/waitlist", &own, "k2", &body).expect_problem(409, "already_waiting");
    assert_eq!(same["entry"], json!(entry));
    ask("POST", "/v1/waitlist", &own, "k3", &wish("p1.1", ("centre", "c1"))).expect(201);
    let mut second = wish("p1.1", ("centre", "c1"));
    second["dose"] = json!(2);
    ask("POST", "/v1/waitlist", &own, "k4", &second).expect_problem(409, "too_many_entries");
    ask("POST", "/v1/waitlist", &other, "k5", &body).expect_problem(404, "unknown_party");
    ask("POST", "/v1/waitlist", &own, "k6", &wish("p1.1", ("centre", "x"))).expect_problem(404, "unknown_centre");
    let mut late = body.clone();
    late["from"] = json!("2020-01-01");
    ask("POST", "/v1/waitlist", &own, "k7", &late).expect_problem(400, "malformed_request");
    let path = format!("/v1/waitlist/{entry}");
    ask("GET", &path, &other, "", &json!({})).expect_problem(404, "unknown_entry");
    ask("DELETE", &path, &other, "k8", &json!({})).expect_problem(404, "unknown_entry");
    ask("GET", "/v1/waitlist/w1.999999", &own, "", &json!({})).expect_problem(404, "unknown_entry");
    ask("GET", "/v1/waitlist/9", &own, "", &json!({})).expect_problem(400, "malformed_id");
    let left = ask("DELETE", &path, &own, "k9", &json!({})).expect(200);
    assert_eq!((&left["state"], &left["why"]), (&json!("ended"), &json!("left")));
    assert_eq!(ask("DELETE", &path, &own, "k9", &json!({})).expect(200)["why"], "left");
    let entries = ask("GET", "/v1/parties/p1.1/waitlist", &own, "", &json!({})).expect(200);
    let states: Vec<_> = entries["entries"].as_array().unwrap().iter().map(|entry| entry["state"].clone()).collect();
    assert_eq!((states.len(), states.last()), (2, Some(&json!("ended"))));
    let district = as_admin(&server, "GET", "/v1/districts/395/waitlist").expect(200);
    assert_eq!(district["days"], json!([]));
}

#[test]
fn without_a_waitlist_each_endpoint_says_so_and_with_one_taken_up_it_begins() {
    let server = Server::start();
    server.add_places();
    server.add_parties(2);
    server.add_slots("s", &[1]);
    server.post("/v1/waitlist", &wish("p1.1", ("centre", "c1"))).expect_problem(409, "no_waitlist");
    let text = std::fs::read_to_string(programme("offer_minutes = 30").path()).unwrap();
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "up"), ("content-type", "application/toml")];
    server.send("POST", "/v1/admin/programme", &headers, text.as_bytes()).expect(200);
    let entry = join(&server, "p1.1");
    stands(&server, &entry, "offered");
    // Of a programme that has none any more: nothing is kept, and whoever waits is told.
    let slot = server.read(&format!("/v1/waitlist/{entry}")).expect(200)["offer"]["slot"].as_str().unwrap().to_owned();
    let waits = join(&server, "p1.0");
    let reserved = || server.get(&format!("/v1/slots/{slot}")).expect(200).get("reserved").is_some();
    until(reserved);
    let headers =
        [("authorization", bearer.as_str()), ("idempotency-key", "off"), ("content-type", "application/toml")];
    let without = std::fs::read(programme_path()).unwrap();
    server.send("POST", "/v1/admin/programme", &headers, &without).expect(200);
    server.post("/v1/waitlist", &wish("p1.1", ("district", "395"))).expect_problem(409, "no_waitlist");
    until(|| !reserved());
    assert_eq!(server.read(&format!("/v1/waitlist/{waits}")).expect(200)["state"], "waiting");
    let wrong = text.replace("offer_minutes = 30", "offer_minutes = 0");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "no"), ("content-type", "application/toml")];
    let faults = server.send("POST", "/v1/admin/programme", &headers, wrong.as_bytes());
    assert_eq!(faults.expect_problem(422, "invalid_programme")["faults"][0]["key"], "waitlist.offer_minutes");
}
