//! One key, one effect; every repeat the first answer.

use serde_json::{Value, json};

use crate::server::{Server, claim, claims};

#[test]
fn a_repeat_gets_the_first_answer_whatever_happened_since() {
    let (server, slots) = Server::with_slots(&[1, 1]);
    let body = claims(&[claim("p1.0", &slots[0])]);
    let first = server.post_under("k1", "/v1/bookings", &body);
    let booking = first.expect(201)["hold"].as_str().unwrap().to_owned();
    assert_eq!(first.header("idempotent-replayed"), None);
    let cancel = format!("/v1/bookings/{booking}/cancel");
    let cancelled = server.post_under("k2", &cancel, &Value::Null);
    cancelled.expect(200);

    let again = server.post_under("k1", "/v1/bookings", &body);
    assert_eq!((again.status, again.text()), (201, first.text()));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let again = server.post_under("k2", &cancel, &Value::Null);
    assert_eq!((again.status, again.text()), (200, cancelled.text()));
    assert_eq!(server.slot_counts(&slots[0]), (1, 0, 0), "the repeat booked nothing");
}

#[test]
fn repeats_and_outcomes_survive_a_kill() {
    let (server, slots) = Server::with_slots(&[2, 2]);
    let hold = claims(&[claim("p1.0", &slots[0]), claim("p1.1", &slots[0])]);
    let held = server.post_under("hold/1", "/v1/holds", &hold);
    let code = held.expect(201)["hold"].as_str().unwrap().to_owned();
    let confirm = format!("/v1/holds/{code}/confirm");
    let confirmed = server.post_under("confirm-1", &confirm, &Value::Null);
    let first = confirmed.expect(200)["bookings"][0]["booking"].as_str().unwrap().to_owned();
    let move_path = format!("/v1/bookings/{first}/move");
    let moved = server.post_under("move-1", &move_path, &json!({"slot": slots[1]}));
    moved.expect(200);

    let server = server.kill_and_restart();
    for (key, path, body, answer) in [
        ("hold/1", "/v1/holds", &hold, &held),
        ("confirm-1", confirm.as_str(), &Value::Null, &confirmed),
        ("move-1", move_path.as_str(), &json!({"slot": slots[1]}), &moved),
    ] {
        let again = server.post_under(key, path, body);
        assert_eq!((again.status, again.text()), (answer.status, answer.text()), "{key}");
        let outcome = server.read(&format!("/v1/outcomes/{}", key.replace('/', "%2F")));
        assert_eq!((outcome.status, outcome.text()), (answer.status, answer.text()), "{key}");
    }
    server.read("/v1/outcomes/never").expect_problem(404, "unknown_key");
}

#[test]
fn a_key_for_another_request_is_a_conflict() {
    let (server, slots) = Server::with_slots(&[5]);
    server.post_under("k", "/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let before = server.export();
    let other = claims(&[claim("p1.1", &slots[0])]);
    server.post_under("k", "/v1/bookings", &other).expect_problem(422, "idempotency_conflict");
    server
        .post_under("k", "/v1/holds", &claims(&[claim("p1.0", &slots[0])]))
        .expect_problem(422, "idempotency_conflict");
    assert_eq!(server.export(), before);
}

#[test]
fn a_refused_request_leaves_its_key_free() {
    let (server, slots) = Server::with_slots(&[1]);
    let hold = server.post("/v1/holds", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let body = claims(&[claim("p1.1", &slots[0])]);
    server.post_under("k", "/v1/bookings", &body).expect_problem(409, "full");
    let release = format!("/v1/holds/{}/release", hold["hold"].as_str().unwrap());
    server.post(&release, &Value::Null).expect(200);
    let booked = server.post_under("k", "/v1/bookings", &body);
    booked.expect(201);
    assert_eq!(booked.header("idempotent-replayed"), None);
}

#[test]
fn keys_of_two_credentials_do_not_meet() {
    let other = format!("[[keys]]\nrole = 'platform'\nname = 'q'\nsha256 = '{}'", crate::server::sha256("other-key"));
    let server = Server::start_with(&other);
    server.add_places();
    server.add_parties(2);
    let slots = server.add_slots("s", &[2]);
    server.post_under("same", "/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let headers = [("authorization", "Bearer other-key"), ("idempotency-key", "same")];
    let body = claims(&[claim("p1.1", &slots[0])]).to_string();
    server.send("POST", "/v1/bookings", &headers, body.as_bytes()).expect(201);
    let outcome = |key| server.send("GET", "/v1/outcomes/same", &[("authorization", key)], b"").expect(201);
    assert_eq!(outcome("Bearer platform-key")["bookings"][0]["party"], "p1.0");
    assert_eq!(outcome("Bearer other-key")["bookings"][0]["party"], "p1.1");
}

#[test]
fn a_repeated_publish_is_answered_though_its_lines_are_there_already() {
    let server = Server::start();
    let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", "publish")];
    let body = br#"{"id":"27","kind":"state","name":"Maharashtra"}"#;
    let first = server.send("POST", "/v1/regions", &headers, body);
    assert_eq!(first.expect(200), json!({"published": 1}));
    let server = server.kill_and_restart();
    let again = server.send("POST", "/v1/regions", &headers, body);
    assert_eq!((again.expect(200), again.header("idempotent-replayed")), (json!({"published": 1}), Some("true")));
    let spaced = [body.as_slice(), b"\r\n\n"].concat();
    let again = server.send("POST", "/v1/regions", &headers, &spaced);
    assert_eq!(again.expect(200), json!({"published": 1}), "the end of a line is not another request");
    let other = br#"{"id":"28","kind":"state","name":"Goa"}"#;
    server.send("POST", "/v1/regions", &headers, other).expect_problem(422, "idempotency_conflict");
    assert_eq!(server.get("/v1/regions").expect(200)["regions"].as_array().unwrap().len(), 1);
}

#[test]
fn racing_twins_have_one_effect() {
    let (server, slots) = Server::with_slots(&[10]);
    let body = claims(&[claim("p1.0", &slots[0])]);
    let replies: Vec<_> = std::thread::scope(|scope| {
        let twins: Vec<_> = (0..8).map(|_| scope.spawn(|| server.post_under("twin", "/v1/bookings", &body))).collect();
        twins.into_iter().map(|twin| twin.join().unwrap()).collect()
    });
    let booked: Vec<_> = replies.iter().filter(|r| r.status == 201).collect();
    assert!(!booked.is_empty());
    assert!(booked.iter().all(|r| r.text() == booked[0].text()));
    for other in replies.iter().filter(|r| r.status != 201) {
        other.expect_problem(409, "idempotency_in_flight");
    }
    assert_eq!(booked.iter().filter(|r| r.header("idempotent-replayed").is_none()).count(), 1);
    assert_eq!(server.slot_counts(&slots[0]), (10, 0, 1));
}

#[test]
fn an_admin_asks_for_the_outcome_of_its_keys_and_of_no_others() {
    let server = Server::start();
    let post = |path: &str, key: &str, body: &str| {
        let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", key)];
        server.send("POST", path, &headers, body.as_bytes())
    };
    let regions = post("/v1/regions", "regions", r#"{"id":"27","kind":"state","name":"Maharashtra"}"#);
    let parties = post("/v1/parties", "parties", r#"{"count":3}"#);
    let firsts = [("regions", 200, regions), ("parties", 201, parties)];
    let check = |server: &Server| {
        for (key, status, first) in &firsts {
            let path = format!("/v1/outcomes/{key}");
            let outcome = server.send("GET", &path, &[("authorization", "Bearer admin-key")], b"");
            assert_eq!((outcome.status, outcome.text()), (*status, first.text()), "{key}");
            server.read(&path).expect_problem(404, "unknown_key");
            server.get(&path).expect_problem(401, "unauthenticated");
        }
    };
    check(&server);
    check(&server.kill_and_restart());
}
