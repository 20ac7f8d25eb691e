//! Doses: recorded at the centre, read by whom they concern, corrected and revoked by entries of their own.

use serde_json::{Value, json};

use crate::client::Reply;
use crate::door::{at_the_door, booked_today, server, server_under, text};
use crate::server::{Server, claim, claims, programme_path};

/// As an operator of this centre.
fn read(server: &Server, centre: &str, path: &str) -> Reply {
    let bearer = format!("Bearer operator-{centre}");
    server.send("GET", path, &[("authorization", &bearer)], b"")
}

fn check_in(server: &Server, booked: &Value) -> String {
    let booking = text(booked, "booking");
    let body = json!({"code": text(booked, "check_in_code")});
    at_the_door(server, "c1", &format!("in-{booking}"), &format!("/v1/bookings/{booking}/check-in"), &body).expect(200);
    booking.to_owned()
}

fn details() -> Value {
    json!({"batch": "4120Z001", "site": "left_arm", "vaccinator": "nurse-17"})
}

/// A server with a dose of party `p1.0` on record; the number of it.
pub(crate) fn recorded() -> (Server, String) {
    let server = server();
    let booked = booked_today(&server, &["p1.0"]);
    let booking = check_in(&server, &booked[0]);
    let done = at_the_door(&server, "c1", "done", &format!("/v1/bookings/{booking}/complete"), &details()).expect(200);
    let number = text(&done, "dose_record").to_owned();
    (server, number)
}

// rule: DOS-1
#[test]
fn a_dose_is_recorded_on_who_was_checked_in_and_read_with_what_was_given() {
    let server = server();
    let booked = booked_today(&server, &["p1.0", "p1.1"]);
    let booking = text(&booked[0], "booking");
    let complete = format!("/v1/bookings/{booking}/complete");
    let early = at_the_door(&server, "c1", "e", &complete, &details()).expect_problem(409, "wrong_state");
    assert_eq!((&early["from"], &early["to"]), (&json!("booked"), &json!("completed")));
    check_in(&server, &booked[0]);
    for (body, names) in [
        (json!({"batch": "a b"}), "batch: must be 1 to 32"),
        (json!({"site": "Left Arm"}), "site: must be 1 to 24"),
        (json!({"vaccinator": "A. Person"}), "vaccinator: must be 1 to 40"),
        (json!({"vaccinator": ""}), "vaccinator: must be 1 to 40"),
        (json!({"product": "water"}), "product: is none"),
        (json!({"given_at": "yesterday"}), "given_at: must be an instant"),
        (json!({"given_at": "2999-01-01T00:00:00Z"}), "given_at: lies ahead"),
        (json!({"name": "x"}), "unknown field"),
        (json!([]), "the body"),
    ] {
        let told = at_the_door(&server, "c1", "k", &complete, &body).expect_problem(400, "malformed_request");
        assert!(text(&told, "detail").contains(names), "{told}");
    }
    let before = json!({"given_at": "2021-04-28T16:00:00+05:30"});
    let told = at_the_door(&server, "c1", "k", &complete, &before).expect_problem(409, "not_eligible");
    assert_eq!(told["rule"], "check_in_day");
    at_the_door(&server, "c2", "k", &complete, &details()).expect_problem(404, "unknown_booking");

    let done = at_the_door(&server, "c1", "done", &complete, &details());
    let number = text(&done.expect(200), "dose_record").to_owned();
    assert!(number.starts_with("D-") && number[2..] != *booking, "{number}");
    let again = at_the_door(&server, "c1", "done", &complete, &details());
    assert_eq!((again.text(), again.header("idempotent-replayed")), (done.text(), Some("true")));
    let other = json!({"batch": "other"});
    at_the_door(&server, "c1", "done", &complete, &other).expect_problem(422, "idempotency_conflict");
    at_the_door(&server, "c1", "done2", &complete, &details()).expect_problem(409, "wrong_state");

    let dose = read(&server, "c1", &format!("/v1/doses/{number}")).expect(200);
    let given = json!({"number": number, "party": "p1.0", "dose": 1, "state": "valid", "product": "covishield",
        "batch": "4120Z001", "site": "left_arm", "vaccinator": "nurse-17", "centre": "c1", "session": "today",
        "given_at": dose["given_at"], "recorded_at": dose["recorded_at"], "recorded_by": "operator:c1", "changes": []});
    assert_eq!(dose, given);
    read(&server, "c2", &format!("/v1/doses/{number}")).expect_problem(404, "unknown_dose");
    server.read("/v1/doses/D-0000-00000-00000").expect_problem(400, "malformed_id");
    server.read(&format!("/v1/doses/{booking}")).expect_problem(400, "malformed_id");
    let listed = server.read("/v1/parties/p1.0/doses").expect(200);
    assert_eq!(listed, json!({"party": "p1.0", "known": 1, "doses": [given], "complete": true}));
    let none = json!({"party": "p1.1", "known": 0, "doses": [], "complete": true});
    assert_eq!(server.read("/v1/parties/p1.1/doses").expect(200), none);
    server.read("/v1/parties/p1.99/doses").expect_problem(404, "unknown_party");
    // An operator reads of whom it has before it, and of nobody else.
    assert_eq!(read(&server, "c1", "/v1/parties/p1.1/doses").expect(200), none);
    read(&server, "c1", "/v1/parties/p1.0/doses").expect_problem(404, "unknown_party");
    read(&server, "c2", "/v1/parties/p1.1/doses").expect_problem(404, "unknown_party");

    // Without a body a booking is completed as ever, and there is a dose of which nothing else is known.
    let booking = check_in(&server, &booked[1]);
    at_the_door(&server, "c1", "bare", &format!("/v1/bookings/{booking}/complete"), &Value::Null).expect(200);
    let listed = server.read("/v1/parties/p1.1/doses").expect(200);
    assert_eq!((listed["doses"][0].get("batch"), &listed["doses"][0]["product"]), (None, &json!("covishield")));
}

// rule: PTY-2
#[test]
fn corrections_and_revocations_are_read_beside_what_was_written_and_the_rules_follow() {
    let (server, number) = recorded();
    let path = |what: &str| format!("/v1/doses/{number}/{what}");
    let change = |key: &str, what: &str, body: &Value| at_the_door(&server, "c1", key, &path(what), body);
    for body in
        [json!({}), json!({"reason": "typo"}), json!({"batch": "X"}), json!({"reason": "A Person", "batch": "X"})]
    {
        change("k", "correct", &body).expect_problem(400, "malformed_request");
    }
    let body = json!({"reason": "wrong_batch", "batch": "4120Z002"});
    at_the_door(&server, "c2", "k", &path("correct"), &body).expect_problem(404, "unknown_dose");
    server.post(&path("correct"), &body).expect_problem(403, "forbidden");
    let corrected = change("fix", "correct", &body);
    let dose = corrected.expect(200);
    assert_eq!(
        (&dose["batch"], &dose["vaccinator"], &dose["state"]),
        (&json!("4120Z002"), &json!("nurse-17"), &json!("valid"))
    );
    let changed = &dose["changes"][0];
    let told = json!({"kind": "corrected", "at": changed["at"], "by": "operator:c1", "reason": "wrong_batch", "batch": "4120Z002"});
    assert_eq!(*changed, told);
    let again = change("fix", "correct", &body);
    assert_eq!((again.json(), again.header("idempotent-replayed")), (dose.clone(), Some("true")));
    let other = json!({"reason": "wrong_batch", "batch": "4120Z003"});
    change("fix", "correct", &other).expect_problem(422, "idempotency_conflict");

    // Covaxin it was: from now on its gap decides about the second dose, and not covishield's.
    let product = json!({"reason": "wrong_product", "product": "covaxin"});
    assert_eq!(change("product", "correct", &product).expect(200)["product"], "covaxin");
    let event = json!({"event": "fever", "severity": "minor", "case": "AEFI-2026/17"});
    let told = change("aefi", "adverse-events", &event).expect(200);
    assert_eq!(
        (told["changes"][2]["kind"].as_str(), &told["changes"][2]["case"]),
        (Some("adverse_event"), &json!("AEFI-2026/17"))
    );
    let bad = json!({"event": "felt unwell after lunch", "severity": "minor"});
    change("k", "adverse-events", &bad).expect_problem(400, "malformed_request");
    let early = json!({"event": "fever", "severity": "minor", "began_at": "2021-04-28T16:00:00+05:30"});
    change("k", "adverse-events", &early).expect_problem(400, "malformed_request");
    let early = json!({"reason": "typo", "given_at": "2021-04-28T16:00:00+05:30"});
    assert_eq!(change("k", "correct", &early).expect_problem(409, "not_eligible")["rule"], "check_in_day");
    let bad = json!({"event": "fever", "severity": "mild"});
    change("k", "adverse-events", &bad).expect_problem(400, "malformed_request");

    let slots = server.add_slots("later", &[5]);
    let book = |server: &Server| server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])]));
    assert_eq!(book(&server).expect_problem(409, "not_eligible")["rule"], "dose_given");
    let revoked = change("gone", "revoke", &json!({"reason": "wrong_person"})).expect(200);
    assert_eq!((&revoked["state"], &revoked["changes"][3]["reason"]), (&json!("revoked"), &json!("wrong_person")));
    change("gone2", "revoke", &json!({"reason": "wrong_person"})).expect_problem(409, "dose_revoked");
    change("k", "correct", &body).expect_problem(409, "dose_revoked");
    assert_eq!(server.read("/v1/parties/p1.0/doses").expect(200)["known"], 0);
    let server = server.kill_and_restart();
    let after = server.read(&format!("/v1/doses/{number}")).expect(200);
    assert_eq!(after, revoked);
    book(&server).expect(201);
}

/// The power may go behind any step: what was answered is there, and whoever repeats what was not gets one effect.
// rule: DOS-1
// rule: IDM-1
#[test]
fn the_road_from_check_in_to_correction_survives_a_kill_at_every_step() {
    let server = server();
    let booked = booked_today(&server, &["p1.0"]);
    let booking = text(&booked[0], "booking").to_owned();
    let code = json!({"code": text(&booked[0], "check_in_code")});
    let (check_in, complete) = (format!("/v1/bookings/{booking}/check-in"), format!("/v1/bookings/{booking}/complete"));
    let twice = |server: Server, key: &str, path: &str, body: &Value| {
        let first = at_the_door(&server, "c1", key, path, body);
        first.expect(200);
        let server = server.kill_and_restart();
        let again = at_the_door(&server, "c1", key, path, body);
        assert_eq!((again.json(), again.header("idempotent-replayed")), (first.json(), Some("true")), "{path}");
        (server, first.json())
    };
    let (server, _) = twice(server, "in", &check_in, &code);
    let (server, done) = twice(server, "done", &complete, &details());
    let number = text(&done, "dose_record").to_owned();
    let path = |what: &str| format!("/v1/doses/{number}/{what}");
    let (server, _) = twice(server, "fix", &path("correct"), &json!({"reason": "typo", "site": "right_arm"}));
    let (server, _) = twice(server, "event", &path("adverse-events"), &json!({"event": "rash", "severity": "severe"}));
    let (server, last) = twice(server, "gone", &path("revoke"), &json!({"reason": "wrong_person"}));
    let kinds: Vec<_> = last["changes"].as_array().unwrap().iter().map(|change| text(change, "kind")).collect();
    assert_eq!(kinds, ["corrected", "adverse_event", "revoked"]);
    let listed = server.read("/v1/parties/p1.0/doses").expect(200);
    assert_eq!((listed["doses"].as_array().unwrap().len(), &listed["known"]), (1, &json!(0)));
    // Nothing of it depends on the store's own files: what the log has is made again.
    let home = server.kill();
    std::fs::remove_dir_all(home.path("data").join("store")).unwrap();
    let server = home.start();
    assert_eq!(server.read("/v1/parties/p1.0/doses").expect(200), listed);
}

/// Many at once correct one dose and record another of the same party: all are there, and none is lost under another.
// rule: PTY-2
#[test]
fn changes_that_meet_are_made_one_after_the_other() {
    let (server, number) = recorded();
    let path = format!("/v1/doses/{number}/correct");
    let batches: Vec<String> = (0..6).map(|n| format!("B{n}")).collect();
    std::thread::scope(|scope| {
        for batch in &batches {
            let (server, path) = (&server, &path);
            scope.spawn(move || {
                at_the_door(server, "c1", batch, path, &json!({"reason": "typo", "batch": batch})).expect(200);
            });
        }
    });
    let dose = server.read(&format!("/v1/doses/{number}")).expect(200);
    let mut told: Vec<_> = dose["changes"].as_array().unwrap().iter().map(|change| text(change, "batch")).collect();
    assert_eq!(dose["batch"], *told.last().unwrap());
    told.sort_unstable();
    assert_eq!(told, batches);
    // The dose of another day does not get lost among them.
    let slot = today_walk_in(&server);
    let walked = json!({"party": "p1.5", "slot": slot, "dose": 1});
    let booking = at_the_door(&server, "c1", "w", "/v1/walk-ins", &walked).expect(201);
    let complete = format!("/v1/bookings/{}/complete", text(&booking, "booking"));
    at_the_door(&server, "c1", "w2", &complete, &json!({"product": "covaxin"})).expect(200);
    assert_eq!(server.read("/v1/parties/p1.5/doses").expect(200)["doses"][0]["product"], "covaxin");
}

/// A slot of today for those without a booking.
pub(crate) fn today_walk_in(server: &Server) -> String {
    use jiff::ToSpan;
    let windows = json!([{"start": "00:00", "end": "23:59", "pools": {"open": 3}}]);
    let (next, day) = (crate::server::tomorrow(), crate::server::tomorrow().saturating_sub(1.days()));
    let line = crate::server::session_line("open-today", &windows).replace(&next.to_string(), &day.to_string());
    server.publish("/v1/sessions", &line).expect(200);
    server.get("/v1/sessions/open-today").expect(200)["slots"][0]["slot"].as_str().unwrap().to_owned()
}

#[test]
fn a_later_dose_goes_first() {
    let programme = tempfile::tempdir().unwrap();
    let path = programme.path().join("no-gap.toml");
    let text_of = std::fs::read_to_string(programme_path()).unwrap();
    let days = ["21", "28", "42", "84"].map(|days| format!("gap_days_min = {days}"));
    let without = days.iter().fold(text_of, |text, gap| text.replace(gap, "gap_days_min = 0"));
    std::fs::write(&path, without).unwrap();
    let server = server_under(&path);
    let slot = today_walk_in(&server);
    let give = |dose: u8, product: &str| {
        let walked = json!({"party": "p1.0", "slot": slot, "dose": dose});
        let booking = at_the_door(&server, "c1", &format!("w{dose}"), "/v1/walk-ins", &walked).expect(201);
        let complete = format!("/v1/bookings/{}/complete", text(&booking, "booking"));
        let done = at_the_door(&server, "c1", &format!("d{dose}"), &complete, &json!({"product": product})).expect(200);
        text(&done, "dose_record").to_owned()
    };
    let first = give(1, "covishield");
    let revoke = |key: &str, number: &str| {
        at_the_door(&server, "c1", key, &format!("/v1/doses/{number}/revoke"), &json!({"reason": "typo"}))
    };
    // A place for the second rests on the first.
    let line =
        crate::server::session_line("second", &json!([{"start": "09:00", "end": "10:00", "pools": {"dose2": 9}}]));
    server.publish("/v1/sessions", &line).expect(200);
    let second = server.get("/v1/sessions/second").expect(200)["slots"][0]["slot"].clone();
    let book = json!({"claims": [{"party": "p1.0", "slot": second, "dose": 2}]});
    for (path, gives_up) in [("/v1/bookings", "/cancel"), ("/v1/holds", "/release")] {
        let taken = server.post(path, &book).expect(201);
        revoke(path, &first).expect_problem(409, "later_dose");
        server.post(&format!("{path}/{}{gives_up}", text(&taken, "hold")), &Value::Null).expect(200);
    }
    let second = give(2, "covishield");
    revoke("a", &first).expect_problem(409, "later_dose");
    revoke("b", &second).expect(200);
    assert_eq!(server.read("/v1/parties/p1.0/doses").expect(200)["known"], 1);
    revoke("c", &first).expect(200);
    let listed = server.read("/v1/parties/p1.0/doses").expect(200);
    assert_eq!((&listed["known"], listed["doses"].as_array().unwrap().len()), (&json!(0), 2));
}
