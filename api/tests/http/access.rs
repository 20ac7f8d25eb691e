//! Who may ask what, and for whom: roles, scopes, keys.

use serde_json::Value;

use crate::client::Reply;
use crate::server::{Server, claim, claims, sha256};

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
    // An operator takes nothing and gives nothing up.
    let book = claims(&[claim("p1.1", &slots[0])]);
    ask(&server, "here", "POST", "/v1/bookings", &book).expect_problem(403, "forbidden");
    ask(&server, "here", "POST", &format!("{path}/cancel"), &Value::Null).expect_problem(403, "forbidden");
    ask(&server, "here", "GET", "/v1/parties/p1.0/bookings", &Value::Null).expect_problem(403, "forbidden");
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
