//! Who may ask what, and for whom: roles, scopes, keys.

use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::{Server, claim, claims, session_line, sha256};

/// One more key of the configuration.
fn key(role: &str, name: &str, secret: &str, more: &str) -> String {
    format!("[[keys]]\nrole = '{role}'\nname = '{name}'\nsha256 = '{}'\n{more}\n", sha256(secret))
}

/// As whoever has this key or token.
fn ask(server: &Server, secret: &str, method: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (bearer, key) = (format!("Bearer {secret}"), server.fresh_key());
    server.send(method, path, &[("authorization", &bearer), ("idempotency-key", &key)], body.as_bytes())
}

#[test]
fn an_operator_sees_the_bookings_at_its_centres_and_no_others() {
    let config = key("operator", "here", "here", "centres = ['c1']")
        + &key("operator", "district", "district", "districts = ['395']")
        + &key("operator", "elsewhere", "elsewhere", "centres = ['c2']\ndistricts = ['396']");
    let server = Server::start_with(&config);
    server.add_places();
    server.add_parties(2);
    let slots = server.add_slots("s", &[2]);
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let path = format!("/v1/bookings/{}", booked["hold"].as_str().unwrap());
    let read = |secret: &str, path: &str| ask(&server, secret, "GET", path, &Value::Null);
    assert_eq!(read("here", &path).expect(200)["centre"], "c1");
    assert_eq!(read("district", &path).expect(200)["party"], "p1.0");
    let hidden = read("elsewhere", &path).expect_problem(404, "unknown_booking");
    // As what was never booked, but for the code.
    let code = booked["hold"].as_str().unwrap();
    assert_eq!(hidden["detail"], format!("there is no hold or booking {code}"));
    ask(&server, "elsewhere", "POST", &format!("{path}/cancel"), &Value::Null).expect_problem(404, "unknown_booking");
    ask(&server, "here", "GET", "/v1/parties/p1.0/bookings", &Value::Null).expect_problem(403, "forbidden");
}

/// Those who help book for whoever asks them, at their own centres, and every time it is told who did it.
#[test]
fn who_helps_at_a_centre_books_and_gives_up_there_alone_and_is_audited() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.ndjson");
    let config = format!("[audit]\nfile = {file:?}\nsync_ms = 0\n")
        + &key("operator", "here", "here", "centres = ['c1']")
        + &key("operator", "elsewhere", "elsewhere", "centres = ['c2']");
    let server = Server::start_with(&config);
    server.add_places();
    server.add_parties(2);
    let slots = server.add_slots("s", &[2, 2]);
    let book = claims(&[claim("p1.1", &slots[0])]);
    ask(&server, "elsewhere", "POST", "/v1/bookings", &book).expect_problem(403, "forbidden");
    let unknown = claims(&[claim("p1.1", "s1.999")]);
    ask(&server, "here", "POST", "/v1/bookings", &unknown).expect_problem(404, "unknown_slot");
    let booked = ask(&server, "here", "POST", "/v1/bookings", &book).expect(201);
    let path = format!("/v1/bookings/{}", booked["hold"].as_str().unwrap());
    // What stands in the way is told, and the code of it to nobody whose business it is not.
    let centre = r#"{"id":"c2","name":"PHC Two","district":"395","pincode":"400002"}"#;
    server.publish("/v1/centres", centre).expect(200);
    let there = session_line("there", &json!([{"start": "09:00", "end": "12:00", "pools": {"dose1": 2}}]));
    server.publish("/v1/sessions", &there.replace("\"c1\"", "\"c2\"")).expect(200);
    let away = server.get("/v1/sessions/there").expect(200)["slots"][0]["slot"].as_str().unwrap().to_owned();
    let again = claims(&[claim("p1.1", &away)]);
    let told = ask(&server, "elsewhere", "POST", "/v1/bookings", &again).expect_problem(409, "already_claimed");
    assert!(told["booking"].is_null(), "{told}");
    // A move ends where they work, too.
    let to = |slot: &str| json!({"slot": slot});
    ask(&server, "here", "POST", &format!("{path}/move"), &to(&away)).expect_problem(403, "forbidden");
    let moved = ask(&server, "here", "POST", &format!("{path}/move"), &to(&slots[1])).expect(200);
    let path = format!("/v1/bookings/{}", moved["booking"].as_str().unwrap());
    ask(&server, "elsewhere", "POST", &format!("{path}/cancel"), &Value::Null).expect_problem(404, "unknown_booking");
    ask(&server, "here", "POST", &format!("{path}/cancel"), &Value::Null).expect(200);
    assert_eq!((server.slot_counts(&slots[0]).1, server.slot_counts(&slots[1]).1), (0, 0));
    let (_, _home) = {
        server.terminate();
        server.ended()
    };
    let audit = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |route: &str| lines.iter().filter(|line| line["who"] == "here" && line["route"] == route).count();
    let counts = (of("/v1/bookings"), of("/v1/bookings/{booking}/move"), of("/v1/bookings/{booking}/cancel"));
    assert_eq!(counts, (2, 2, 1), "{audit}");
    let named = lines.iter().find(|line| line["parties"] == json!(["p1.1"]) && line["outcome"] == "ok");
    assert_eq!(named.map(|line| &line["route"]), Some(&json!("/v1/bookings")), "{audit}");
}

#[test]
fn a_key_past_its_end_opens_nothing() {
    let config = key("platform", "old", "old", "expires = '2021-04-28T16:00:00+05:30'")
        + &key("platform", "new", "new", "expires = '2999-01-01T00:00:00Z'");
    let server = Server::start_with(&config);
    let read = |secret: &str| ask(&server, secret, "GET", "/v1/bookings/x", &Value::Null);
    let gone = read("old");
    gone.expect_problem(401, "key_expired");
    assert_eq!(gone.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    read("new").expect_problem(400, "malformed_id");
}
