//! Invitations over HTTP: who was invited books once, and whoever was not is told so.

use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::{ADMIN, Home, PLATFORM, Server, claim, claims, programme_path};

/// India's programme with one more pool, in which dose 1 is had by invitation.
fn server() -> (Server, tempfile::NamedTempFile, Vec<String>) {
    let text = std::fs::read_to_string(programme_path()).unwrap();
    let pool = "[[pools]]\nid = \"invited\"\nname = \"By invitation\"\ndose = 1\ninvitation = true\n\n[[cohorts]]";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text.replacen("[[cohorts]]", pool, 1)).unwrap();
    let server = Home::with_programme("", file.path()).start();
    server.add_places();
    server.add_parties(5);
    let windows = json!([{"start": "09:00", "end": "10:00", "pools": {"invited": 10, "dose1": 10}}]);
    let mut slots = server.add_session("s", &windows);
    slots.sort();
    (server, file, slots)
}

fn change(server: &Server, bearer: &str, key: &str, path: &str, parties: &[&str]) -> Reply {
    let (bearer, body) = (format!("Bearer {bearer}"), json!({"pool": "invited", "parties": parties}).to_string());
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", key), ("content-type", "application/json")];
    server.send("POST", path, &headers, body.as_bytes())
}

fn by_pool(server: &Server, slots: &[String], pool: &str) -> String {
    let is = |slot: &&String| server.get(&format!("/v1/slots/{slot}")).expect(200)["pool"] == pool;
    slots.iter().find(is).unwrap().clone()
}

// rule: ELG-3
#[test]
fn who_was_invited_books_once_and_nobody_else() {
    let (server, _file, slots) = server();
    let invited = by_pool(&server, &slots, "invited");
    let book = |key: &str, party: &str| server.post_under(key, "/v1/bookings", &claims(&[claim(party, &invited)]));
    let rule = |reply: Reply| reply.expect_problem(409, "not_eligible")["rule"].as_str().unwrap().to_owned();
    let may = |server: &Server| {
        let told = server.read("/v1/parties/p1.0/eligibility?product=covishield&dose=1&pool=invited").expect(200);
        told["rule"].as_str().unwrap_or("yes").to_owned()
    };
    assert_eq!((rule(book("a", "p1.0")), may(&server)), ("invitation".to_owned(), "invitation".to_owned()));

    let told = change(&server, PLATFORM, "i1", "/v1/invitations", &["p1.0", "p1.99", "x", "p1.1"]).expect(200);
    let states: Vec<_> = told["parties"].as_array().unwrap().iter().map(|told| &told["state"]).collect();
    assert_eq!(states, [&json!("invited"), &Value::Null, &Value::Null, &json!("invited")]);
    assert_eq!(told["parties"][1]["problem"]["code"], "unknown_party");
    let given = |server: &Server, party: &str| {
        server.read(&format!("/v1/parties/{party}/facts")).expect(200)["invitations"].clone()
    };
    assert_eq!(given(&server, "p1.0"), json!([{"pool": "invited", "given": 1, "spent": 0}]));
    assert_eq!((given(&server, "p1.2"), may(&server)), (Value::Null, "yes".to_owned()));
    // A change of cohorts takes no invitation away.
    let headers =
        [("authorization", "Bearer admin-key"), ("idempotency-key", "f"), ("content-type", "application/json")];
    let cohorts = json!({"cohorts": ["frontline"]}).to_string();
    server.send("PATCH", "/v1/parties/p1.0/facts", &headers, cohorts.as_bytes()).expect(200);

    let booked = book("b", "p1.0").expect(201);
    let booking = booked["bookings"][0]["booking"].as_str().unwrap();
    assert_eq!(given(&server, "p1.0"), json!([{"pool": "invited", "given": 1, "spent": 1}]));
    server.post_under("c", &format!("/v1/bookings/{booking}/cancel"), &Value::Null).expect(200);
    assert_eq!((rule(book("d", "p1.0")), may(&server)), ("invitation_spent".to_owned(), "invitation_spent".to_owned()));

    // The request again does nothing again, after a crash too; another one gives another chance.
    let server = server.kill_and_restart();
    let book = |key: &str, party: &str| server.post_under(key, "/v1/bookings", &claims(&[claim(party, &invited)]));
    let again = change(&server, PLATFORM, "i1", "/v1/invitations", &["p1.0", "p1.99", "x", "p1.1"]);
    assert_eq!(again.expect(200)["parties"][0]["state"], "invited");
    assert_eq!(rule(book("e", "p1.0")), "invitation_spent");
    change(&server, ADMIN, "i2", "/v1/invitations", &["p1.0"]).expect(200);
    let twice = change(&server, ADMIN, "i2", "/v1/invitations", &["p1.0"]);
    assert_eq!(twice.header("idempotent-replayed"), Some("true"));
    change(&server, ADMIN, "i3", "/v1/invitations", &["p1.0"]).expect(200);
    assert_eq!(given(&server, "p1.0"), json!([{"pool": "invited", "given": 2, "spent": 1}]), "one left is enough");
    book("f", "p1.0").expect(201);

    // What is not spent can be taken back.
    change(&server, ADMIN, "w", "/v1/invitations/withdraw", &["p1.1", "p1.0"]).expect(200);
    assert_eq!(rule(book("g", "p1.1")), "invitation");
    assert_eq!(server.read("/v1/parties/p1.0/bookings").expect(200)["bookings"][0]["state"], "booked");
    // A pool without invitations, and nobody at all.
    let key = server.fresh_key();
    let body = json!({"pool": "dose1", "parties": ["p1.1"]});
    server.post_under(&key, "/v1/invitations", &body).expect_problem(400, "malformed_request");
    change(&server, ADMIN, "n", "/v1/invitations", &[]).expect_problem(400, "malformed_request");
}
