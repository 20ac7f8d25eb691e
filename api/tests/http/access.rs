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

/// Every route that there is, and who may ask it. What is asked is never right, so nothing happens: a role that may gets
/// another refusal than 401 and 403.
#[test]
fn each_route_takes_its_roles_and_no_others() {
    let config = key("public", "x", "public", "") + &key("operator", "x", "operator", "centres = ['c1']");
    let server = Server::start_with(&config);
    let keys = [("public", "public"), ("platform", "platform-key"), ("operator", "operator"), ("admin", "admin-key")];
    let table: [(&str, &str, &[&str]); 25] = [
        ("POST", "/v1/holds", &["platform"]),
        ("POST", "/v1/holds/x/confirm", &["platform"]),
        ("POST", "/v1/holds/x/release", &["platform"]),
        ("POST", "/v1/bookings", &["platform"]),
        ("GET", "/v1/bookings/x", &["platform", "operator"]),
        ("POST", "/v1/bookings/x/cancel", &["platform"]),
        ("POST", "/v1/bookings/x/move", &["platform"]),
        ("GET", "/v1/parties/x/bookings", &["platform"]),
        ("GET", "/v1/booking-references/x", &["platform"]),
        ("GET", "/v1/outcomes/x", &["platform", "operator", "admin"]),
        ("POST", "/v1/regions", &["admin"]),
        ("POST", "/v1/centres", &["admin"]),
        ("POST", "/v1/sessions", &["admin"]),
        ("POST", "/v1/parties", &["admin"]),
        ("GET", "/v1/export", &["admin"]),
        ("POST", "/v1/bulk/bookings", &["platform"]),
        ("POST", "/v1/sessions/x/close", &["admin"]),
        ("POST", "/v1/sessions/x/open", &["admin"]),
        ("POST", "/v1/sessions/x/resize", &["admin"]),
        ("GET", "/v1/sessions/x", &["public", "platform", "operator", "admin"]),
        ("GET", "/v1/centres/x", &["public", "platform", "operator", "admin"]),
        ("GET", "/v1/slots/x", &["public", "platform", "operator", "admin"]),
        ("POST", "/v1/admin/revocations", &["admin"]),
        ("GET", "/v1/regions", &["public", "platform", "operator", "admin"]),
        ("GET", "/v1/availability", &["public", "platform", "operator", "admin"]),
    ];
    for (method, path, roles) in table {
        for (role, secret) in keys {
            let status = ask(&server, secret, method, path, &Value::Null).status;
            assert_eq!(status != 403 && status != 401, roles.contains(&role), "{role} {method} {path}: {status}");
        }
        let nobody = server.send(method, path, &[], b"").status;
        assert_eq!(nobody == 401, !roles.contains(&"public"), "{method} {path}: {nobody}");
    }
}
