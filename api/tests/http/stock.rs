//! Stock over HTTP: batches, what moves between centres, what stands against a dose, and who may do what of it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use jiff::ToSpan;
use serde_json::{Value, json};

use crate::client::Reply;
use crate::door::{at_the_door, server_under, text};
use crate::server::{ADMIN, Server, lines, programme_path, session_line, tomorrow};

/// A server whose programme does so about what the books of stock do not cover, with a second centre.
pub(crate) fn server(enforce: &str) -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let programme = dir.path().join("programme.toml");
    let india = std::fs::read_to_string(programme_path()).unwrap();
    std::fs::write(&programme, india.replace("enforce = \"warn\"", &format!("enforce = \"{enforce}\""))).unwrap();
    let server = server_under(&programme);
    let second = r#"{"id":"c2","name":"PHC Two","district":"395","pincode":"400002"}"#;
    server.publish("/v1/centres", second).expect(200);
    (server, dir)
}

/// A key of its own over restarts, too.
fn fresh() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("stock-{}", NEXT.fetch_add(1, Relaxed))
}

pub(crate) fn admin(server: &Server, path: &str, body: &Value) -> Reply {
    admin_under(server, &fresh(), path, body)
}

pub(crate) fn admin_under(server: &Server, key: &str, path: &str, body: &Value) -> Reply {
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", key), ("content-type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    server.send("POST", path, &headers, body.as_bytes())
}

pub(crate) fn admin_reads(server: &Server, path: &str) -> Reply {
    server.send("GET", path, &[("authorization", "Bearer admin-key")], b"")
}

pub(crate) fn operator(server: &Server, centre: &str, path: &str, body: &Value) -> Reply {
    at_the_door(server, centre, &fresh(), path, body)
}

pub(crate) fn operator_reads(server: &Server, centre: &str, path: &str) -> Reply {
    let bearer = format!("Bearer operator-{centre}");
    server.send("GET", path, &[("authorization", &bearer)], b"")
}

pub(crate) fn batch(server: &Server, id: &str, product: &str, expires: &str) {
    let body = json!({"id": id, "product": product, "quantity": 1000, "expires": expires});
    admin(server, "/v1/batches", &body).expect(201);
}

pub(crate) fn receive(server: &Server, batch: &str, centre: &str, quantity: u64) {
    let body = json!({"batch": batch, "centre": centre, "quantity": quantity});
    operator(server, centre, "/v1/receipts", &body).expect(201);
}

/// Enough at centre c1 for a session of twenty, of a batch that nobody gives.
pub(crate) fn stocked(server: &Server) {
    batch(server, "DEPOT", "covishield", "2099-12-31");
    receive(server, "DEPOT", "c1", 20);
}

/// A slot of today at centre c1 for who comes without a booking.
pub(crate) fn today_walk_in(server: &Server) -> String {
    let windows = json!([{"start": "00:00", "end": "23:59", "pools": {"open": 20}}]);
    let (next, day) = (tomorrow(), tomorrow().saturating_sub(1.days()));
    let line = session_line("open-today", &windows).replace(&next.to_string(), &day.to_string());
    server.publish("/v1/sessions", &line).expect(200);
    text(&server.get("/v1/sessions/open-today").expect(200)["slots"][0], "slot").to_owned()
}

/// A party that came to centre c1 without a booking; the booking of it.
pub(crate) fn walked_in(server: &Server, slot: &str, party: &str) -> String {
    let body = json!({"party": party, "slot": slot, "dose": 1});
    text(&operator(server, "c1", "/v1/walk-ins", &body).expect(201), "booking").to_owned()
}

pub(crate) fn give(server: &Server, booking: &str, batch: &str) -> Reply {
    let body = if batch.is_empty() { Value::Null } else { json!({"batch": batch, "vaccinator": "nurse-17"}) };
    operator(server, "c1", &format!("/v1/bookings/{booking}/complete"), &body)
}

// rule: SUP-1
#[test]
fn doses_move_between_stocks_and_every_sum_adds_up() {
    let (server, _programme) = server("off");
    let made = json!({"id": "4120Z/1", "product": "covishield", "quantity": 100, "expires": "2099-12-31",
        "manufacturer": "Serum Institute", "doses_per_vial": 10});
    let first = admin_under(&server, "made", "/v1/batches", &made);
    first.expect(201);
    let again = admin_under(&server, "made", "/v1/batches", &made);
    assert_eq!((again.text(), again.header("idempotent-replayed")), (first.text(), Some("true")));
    admin(&server, "/v1/batches", &made).expect_problem(409, "batch_exists");
    for (key, value, names) in [
        ("id", json!("a b"), "id: must be 1 to 32"),
        ("product", json!("water"), "product: is none"),
        ("quantity", json!(0), "quantity: must be from 1"),
        ("expires", json!("soon"), "expires: must be a date"),
        ("doses_per_vial", json!(0), "doses_per_vial: must be"),
        ("colour", json!("red"), "unknown field"),
    ] {
        let mut wrong = made.clone();
        wrong["id"] = json!("other");
        wrong[key] = value;
        let told = admin(&server, "/v1/batches", &wrong).expect_problem(400, "malformed_request");
        assert!(text(&told, "detail").contains(names), "{told}");
    }
    let path = "/v1/batches/4120Z%2F1";
    receive(&server, "4120Z/1", "c1", 80);
    let more = json!({"batch": "4120Z/1", "centre": "c2", "quantity": 21});
    let beyond = operator(&server, "c2", "/v1/receipts", &more).expect_problem(409, "beyond_batch");
    assert_eq!((&beyond["quantity"], beyond.get("received")), (&json!(100), None));
    let none = json!({"batch": "none", "centre": "c1", "quantity": 1});
    operator(&server, "c1", "/v1/receipts", &none).expect_problem(404, "unknown_batch");
    let nowhere = json!({"batch": "4120Z/1", "centre": "c9", "quantity": 1});
    admin(&server, "/v1/receipts", &nowhere).expect_problem(404, "unknown_centre");

    // Sent, and there but for three.
    let send = json!({"batch": "4120Z/1", "from": "c1", "to": "c2", "quantity": 30});
    let sent = operator(&server, "c1", "/v1/transfers", &send).expect(201);
    let transfer = format!("/v1/transfers/{}", text(&sent, "transfer"));
    let stock = operator_reads(&server, "c2", "/v1/centres/c2/stock").expect(200);
    assert_eq!((&stock["on_hand"], &stock["transfers"][0]["quantity"]), (&json!(0), &json!(30)));
    let stock = operator_reads(&server, "c1", "/v1/centres/c1/stock").expect(200);
    assert_eq!((&stock["on_hand"], &stock["batches"][0]["on_the_way"]), (&json!(50), &json!(30)));
    operator(&server, "c2", &format!("{transfer}/receive"), &json!({"arrived": 31}))
        .expect_problem(400, "malformed_request");
    let arrived = at_the_door(&server, "c2", "there", &format!("{transfer}/receive"), &json!({"arrived": 27}));
    assert_eq!((&arrived.expect(200)["state"], &arrived.json()["arrived"]), (&json!("arrived"), &json!(27)));
    let again = at_the_door(&server, "c2", "there", &format!("{transfer}/receive"), &json!({"arrived": 27}));
    assert_eq!((again.text(), again.header("idempotent-replayed")), (arrived.text(), Some("true")));
    operator(&server, "c1", &format!("{transfer}/cancel"), &Value::Null).expect_problem(409, "transfer_over");
    // Sent, and back.
    let sent = operator(&server, "c1", "/v1/transfers", &send).expect(201);
    let back = format!("/v1/transfers/{}/cancel", text(&sent, "transfer"));
    assert_eq!(operator(&server, "c1", &back, &Value::Null).expect(200)["state"], "cancelled");
    let much = json!({"batch": "4120Z/1", "from": "c1", "to": "c2", "quantity": 51});
    let short = operator(&server, "c1", "/v1/transfers", &much).expect_problem(409, "no_stock");
    assert_eq!(short["on_hand"], 50);
    let own = json!({"batch": "4120Z/1", "from": "c1", "to": "c1", "quantity": 1});
    operator(&server, "c1", "/v1/transfers", &own).expect_problem(400, "malformed_request");
    admin_reads(&server, "/v1/transfers/t1.1").expect_problem(404, "unknown_transfer");
    admin_reads(&server, "/v1/transfers/x").expect_problem(404, "unknown_transfer");

    // Wasted, and counted.
    let wasted = json!({"batch": "4120Z/1", "centre": "c1", "quantity": 4, "reason": "opened_unused"});
    operator(&server, "c1", "/v1/wastage", &wasted).expect(201);
    let why = json!({"batch": "4120Z/1", "centre": "c1", "quantity": 4, "reason": "tired"});
    let told = operator(&server, "c1", "/v1/wastage", &why).expect_problem(400, "malformed_request");
    assert!(text(&told, "detail").contains("lost_in_transit"), "{told}");
    let much = json!({"batch": "4120Z/1", "centre": "c1", "quantity": 47, "reason": "broken"});
    operator(&server, "c1", "/v1/wastage", &much).expect_problem(409, "no_stock");
    let counted = json!({"batch": "4120Z/1", "centre": "c1", "counted": 44, "reason": "monthly_count"});
    operator(&server, "c1", "/v1/stock-takes", &counted).expect(201);
    let why = json!({"batch": "4120Z/1", "centre": "c1", "counted": 44, "reason": "We counted"});
    operator(&server, "c1", "/v1/stock-takes", &why).expect_problem(400, "malformed_request");

    let server = server.kill_and_restart();
    let told = admin_reads(&server, path).expect(200);
    let sums = json!({"id": "4120Z/1", "product": "covishield", "quantity": 100, "expires": "2099-12-31", "state": "usable",
        "manufacturer": "Serum Institute", "doses_per_vial": 10, "received": 80, "arrived": 30, "sent": 30, "on_the_way": 0,
        "on_hand": 71, "given": 0, "revoked": 0, "wasted": {"lost_in_transit": 3, "opened_unused": 4}, "found": 0, "missing": 2,
        "uncovered": 0, "centres": told["centres"], "centres_in_all": 2, "complete": true});
    assert_eq!(told, sums);
    // An operator is told of its own.
    let told = operator_reads(&server, "c2", path).expect(200);
    assert_eq!((&told["on_hand"], &told["centres_in_all"]), (&json!(27), &json!(1)));
    batch(&server, "A1", "covaxin", "2021-01-31");
    let listed = operator_reads(&server, "c2", "/v1/batches?limit=1").expect(200);
    assert_eq!((&listed["batches"][0]["id"], &listed["next"]), (&json!("4120Z/1"), &json!("4120Z/1")));
    let listed = operator_reads(&server, "c2", "/v1/batches?after=4120Z/1").expect(200);
    assert_eq!((&listed["batches"][0]["state"], listed.get("next")), (&json!("expired"), None));
    for bad in ["limit=0", "x=1"] {
        admin_reads(&server, &format!("/v1/batches?{bad}")).expect_problem(400, "malformed_request");
    }
    admin_reads(&server, "/v1/batches/none").expect_problem(404, "unknown_batch");
}

#[test]
fn an_operator_acts_for_its_own_centres_and_a_platform_for_none() {
    let (server, _programme) = server("off");
    batch(&server, "B", "covishield", "2099-12-31");
    receive(&server, "B", "c1", 10);
    let body = |more: Value| {
        let mut body = json!({"batch": "B", "centre": "c1"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let asked = [
        ("/v1/receipts", body(json!({"quantity": 1}))),
        ("/v1/wastage", body(json!({"quantity": 1, "reason": "broken"}))),
        ("/v1/stock-takes", body(json!({"counted": 1, "reason": "count"}))),
        ("/v1/transfers", json!({"batch": "B", "from": "c1", "to": "c2", "quantity": 4})),
    ];
    for (path, body) in &asked {
        operator(&server, "c2", path, body).expect_problem(403, "forbidden");
        server.post(path, body).expect_problem(403, "forbidden");
    }
    let made = json!({"id": "C", "product": "covishield", "quantity": 1, "expires": "2099-12-31"});
    for path in ["/v1/batches", "/v1/batches/B/correct", "/v1/batches/B/recall", "/v1/batches/B/lift-recall"] {
        operator(&server, "c1", path, &made).expect_problem(403, "forbidden");
    }
    operator_reads(&server, "c2", "/v1/centres/c1/stock").expect_problem(403, "forbidden");
    operator_reads(&server, "c2", "/v1/centres/c9/stock").expect_problem(404, "unknown_centre");
    let sent = operator(&server, "c1", "/v1/transfers", &asked[3].1).expect(201);
    let transfer = format!("/v1/transfers/{}", text(&sent, "transfer"));
    // Who sends cancels, and who gets it receives.
    operator(&server, "c1", &format!("{transfer}/receive"), &json!({"arrived": 4})).expect_problem(403, "forbidden");
    operator(&server, "c2", &format!("{transfer}/cancel"), &Value::Null).expect_problem(403, "forbidden");
    operator_reads(&server, "c1", &transfer).expect(200);
    let elsewhere = json!({"batch": "B", "from": "c1", "to": "c3", "quantity": 1});
    operator(&server, "c1", "/v1/transfers", &elsewhere).expect_problem(404, "unknown_centre");
    server.publish("/v1/centres", r#"{"id":"c3","name":"Three","district":"395","pincode":"400003"}"#).expect(200);
    let sent = operator(&server, "c1", "/v1/transfers", &elsewhere).expect(201);
    let stranger = format!("/v1/transfers/{}", text(&sent, "transfer"));
    operator_reads(&server, "c2", &stranger).expect_problem(404, "unknown_transfer");
}

// rule: SUP-3
#[test]
fn a_dose_is_held_against_the_books_and_what_was_given_is_on_record() {
    let (server, _programme) = server("refuse");
    batch(&server, "GOOD", "covishield", "2099-12-31");
    batch(&server, "OLD", "covishield", "2021-01-31");
    batch(&server, "BACK", "covishield", "2099-12-31");
    batch(&server, "OTHER", "covaxin", "2099-12-31");
    for id in ["OLD", "BACK", "OTHER"] {
        receive(&server, id, "c1", 5);
    }
    let reason = json!({"reason": "quality_defect"});
    let told = admin_under(&server, "recall", "/v1/batches/BACK/recall", &reason);
    assert_eq!(told.expect(200), json!({"batch": "BACK", "recalled": true, "reason": "quality_defect"}));
    assert_eq!(admin_under(&server, "recall", "/v1/batches/BACK/recall", &reason).text(), told.text());
    admin(&server, "/v1/batches/BACK/recall", &reason).expect_problem(409, "recall_state");
    admin(&server, "/v1/batches/NONE/recall", &reason).expect_problem(404, "unknown_batch");
    admin(&server, "/v1/batches/BACK/recall", &json!({"reason": "It is bad"})).expect_problem(400, "malformed_request");
    let away = json!({"batch": "BACK", "from": "c1", "to": "c2", "quantity": 1});
    operator(&server, "c1", "/v1/transfers", &away).expect_problem(409, "batch_recalled");

    receive(&server, "GOOD", "c1", 1);
    stocked(&server);
    let slot = today_walk_in(&server);
    let booking = walked_in(&server, &slot, "p1.0");
    for (batch, code) in [
        ("OLD", "batch_expired"),
        ("BACK", "batch_recalled"),
        ("OTHER", "batch_other_product"),
        ("NONE", "batch_unknown"),
        ("", "batch_unknown"),
    ] {
        let told = give(&server, &booking, batch).expect_problem(409, code);
        assert_eq!((&told["centre"], told.get("batch").is_some()), (&json!("c1"), !batch.is_empty()), "{told}");
    }
    let given = give(&server, &booking, "GOOD");
    assert_eq!((given.status, given.header("berth-supply-warning")), (200, None));
    let number = text(&given.json(), "dose_record").to_owned();
    let second = walked_in(&server, &slot, "p1.1");
    give(&server, &second, "GOOD").expect_problem(409, "no_stock");
    receive(&server, "GOOD", "c1", 1);
    // The last one, and once: also of who asks again.
    let complete = format!("/v1/bookings/{second}/complete");
    let body = json!({"batch": "GOOD", "vaccinator": "nurse-17"});
    let first = at_the_door(&server, "c1", "the-last", &complete, &body);
    first.expect(200);
    let again = at_the_door(&server, "c1", "the-last", &complete, &body);
    assert_eq!((again.text(), again.header("idempotent-replayed")), (first.text(), Some("true")));
    let good = admin_reads(&server, "/v1/batches/GOOD").expect(200);
    assert_eq!((&good["given"], &good["on_hand"], &good["uncovered"]), (&json!(2), &json!(0), &json!(0)));
    // Under another key it is told what it is, and not that nothing is left.
    give(&server, &second, "GOOD").expect_problem(409, "wrong_state");

    // What a centre gave while it had no network is on record, with what stands against it.
    let at = jiff::Timestamp::now().to_string();
    let line = |party: &str, batch: &str| {
        json!({"party": party, "slot": slot, "dose": 1, "came_at": at, "given_at": at, "batch": batch}).to_string()
    };
    let body = [line("p1.2", "BACK"), line("p1.3", "OTHER"), line("p1.4", "NONE"), line("p1.5", "GOOD")].join("\n");
    let bearer = "Bearer operator-c1";
    let headers = [("authorization", bearer), ("content-type", "application/x-ndjson"), ("idempotency-key", "up")];
    let upload = server.send("POST", "/v1/bulk/doses", &headers, body.as_bytes());
    let told: Vec<_> = lines(upload.text()).iter().map(|line| line["supply"].clone()).collect();
    let expected = [
        json!(["batch_recalled"]),
        json!(["batch_other_product"]),
        json!(["batch_unknown"]),
        json!(["no_stock"]),
        Value::Null,
    ];
    assert_eq!(told, expected, "{}", upload.text());
    // The file again: each line is on record, and counted once.
    let before = admin_reads(&server, "/v1/batches/BACK").expect(200);
    let again = server.send("POST", "/v1/bulk/doses", &headers, body.as_bytes());
    let states: Vec<_> =
        lines(again.text()).iter().map(|line| (line["status"].clone(), line["already"].clone())).collect();
    assert_eq!(states[..4], vec![(json!(200), json!(true)); 4], "{}", again.text());
    assert_eq!(admin_reads(&server, "/v1/batches/BACK").expect(200), before);
    let told = admin_reads(&server, "/v1/batches/BACK").expect(200);
    assert_eq!((&told["given"], &told["on_hand"], &told["state"]), (&json!(1), &json!(4), &json!("recalled")));
    assert_eq!(admin_reads(&server, "/v1/batches/NONE").expect(200)["state"], "unknown");
    let told = admin_reads(&server, "/v1/batches/GOOD").expect(200);
    assert_eq!((&told["given"], &told["uncovered"]), (&json!(3), &json!(1)));

    // A correction moves the dose, also to what must not be given, for that is what was.
    let correct = |body: Value| operator(&server, "c1", &format!("/v1/doses/{number}/correct"), &body);
    correct(json!({"reason": "typo", "batch": "OTHER"})).expect_problem(409, "batch_other_product");
    correct(json!({"reason": "typo", "batch": "NOBODY"})).expect_problem(409, "batch_unknown");
    correct(json!({"reason": "typo", "product": "covaxin"})).expect_problem(409, "batch_other_product");
    let moved = correct(json!({"reason": "typo", "batch": "BACK"}));
    assert_eq!((moved.status, moved.header("berth-supply-warning")), (200, Some("batch_recalled")));
    let both = json!({"reason": "typo", "batch": "OTHER", "product": "covaxin"});
    let told = |id: &str| admin_reads(&server, &format!("/v1/batches/{id}")).expect(200);
    assert_eq!((&told("BACK")["given"], &told("GOOD")["uncovered"]), (&json!(2), &json!(0)));
    correct(both).expect(200);
    assert_eq!((&told("BACK")["given"], &told("OTHER")["given"]), (&json!(1), &json!(2)));
    // The vial of what was revoked is gone.
    let before = told("OTHER");
    operator(&server, "c1", &format!("/v1/doses/{number}/revoke"), &json!({"reason": "typo"})).expect(200);
    let after = told("OTHER");
    assert_eq!((&after["given"], &after["revoked"], &after["on_hand"]), (&json!(1), &json!(1), &before["on_hand"]));
    admin(&server, "/v1/batches/BACK/lift-recall", &json!({"reason": "tested"})).expect(200);
    assert_eq!(told("BACK")["state"], "usable");
    give(&server, &walked_in(&server, &slot, "p1.6"), "BACK").expect(200);
}

#[test]
fn a_programme_that_warns_is_told_of_and_one_that_keeps_no_books_hears_nothing() {
    for (enforce, told) in [("warn", Some("batch_unknown")), ("off", None)] {
        let (server, _programme) = server(enforce);
        let slot = today_walk_in(&server);
        let given = give(&server, &walked_in(&server, &slot, "p1.0"), "4120Z001");
        assert_eq!((given.status, given.header("berth-supply-warning")), (200, told), "{enforce}");
        let number = text(&given.json(), "dose_record").to_owned();
        let moved = operator(
            &server,
            "c1",
            &format!("/v1/doses/{number}/correct"),
            &json!({"reason": "typo", "batch": "4120Z001x"}),
        );
        assert_eq!((moved.status, moved.header("berth-supply-warning")), (200, told), "{enforce}");
        let back = json!({"reason": "typo", "batch": "4120Z001"});
        operator(&server, "c1", &format!("/v1/doses/{number}/correct"), &back).expect(200);
        batch(&server, "4120Z001", "covishield", "2099-12-31");
        // What was given before anything came in is covered by what comes.
        receive(&server, "4120Z001", "c1", 3);
        let told = operator_reads(&server, "c1", "/v1/batches/4120Z001").expect(200);
        assert_eq!((&told["on_hand"], &told["given"], &told["uncovered"]), (&json!(2), &json!(1), &json!(0)));
    }
}
