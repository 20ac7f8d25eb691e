//! Certificates where people do not register: the platform says who they are, the record says the rest, and nothing of who they are is kept.

use std::path::Path;
use std::sync::Arc;

use berth_engine::{AllowAll, Command, Config, Engine, Request};
use berth_programme::certificates::register::RECORDED_CERTIFICATES;
use serde_json::{Value, json};

use crate::certificates::{KINDS, signing, staff, verify};
use crate::client::Reply;
use crate::doses::today_walk_in;
use crate::server::{ADMIN, Home, PLATFORM, Server};

const NAME: &str = "Quillon Zanzibary";

/// A dose on record of party `p1.0`, whom nothing is known of.
fn recorded() -> Server {
    let audit = "[audit]\nfile = 'AUDIT'\nsync_ms = 0";
    let home = signing(Home::new(audit));
    let config = std::fs::read_to_string(home.path("berth.toml")).unwrap();
    let audit = home.path("audit.ndjson");
    std::fs::write(home.path("berth.toml"), config.replace("AUDIT", audit.to_str().unwrap())).unwrap();
    let server = home.start();
    server.add_places();
    server.add_parties(1);
    let slot = today_walk_in(&server);
    let came = server.post("/v1/walk-ins", &json!({"party": "p1.0", "slot": slot, "dose": 1})).expect(201);
    let complete = format!("/v1/bookings/{}/complete", came["booking"].as_str().unwrap());
    server.post(&complete, &json!({"batch": "4120Z001"})).expect(200);
    server
}

fn id(server: &Server) -> String {
    let listed = server.read("/v1/parties/p1.0/certificates").expect(200);
    listed["certificates"][0]["certificate"].as_str().unwrap().to_owned()
}

fn holder(name: &str) -> Value {
    json!({"holder": {"name": name, "born": "1975-03-01", "sex": "female", "document": "Passport xxxx1234"}})
}

fn issue(server: &Server, path: &str, body: &Value) -> Reply {
    staff(server, PLATFORM, "POST", &format!("/v1/certificates/{path}"), body)
}

// rule: CRT-6
#[test]
fn a_platform_says_who_a_certificate_is_of_and_ends_it_when_that_was_wrong() {
    let server = recorded();
    let first = id(&server);
    let path = format!("/v1/certificates/{first}");
    let none = staff(&server, PLATFORM, "GET", &path, &Value::Null).expect_problem(404, "no_certificates");
    assert!(none["detail"].as_str().unwrap().contains("POST"), "{none}");
    let mut texts = Vec::new();
    for kind in KINDS {
        let made = issue(&server, &format!("{first}?kind={kind}"), &holder(NAME));
        assert_eq!(made.header("cache-control"), Some("private, no-store"));
        let made = made.expect(200);
        assert_eq!((&made["certificate"], &made["kind"]), (&json!(first), &json!(kind)));
        let good = verify(&server, made["text"].as_str().unwrap());
        assert_eq!((&good["valid"], &good["certificate"]), (&json!(true), &json!(first)), "{good}");
        assert!(good["name"].as_str().unwrap().contains("Zanzibary"), "{good}");
        texts.push(made["text"].as_str().unwrap().to_owned());
        for (rest, media, begins) in [
            ("qr.svg", "image/svg+xml", &b"<svg "[..]),
            ("qr.png", "image/png", b"\x89PNG"),
            ("paper.pdf", "application/pdf", b"%PDF-"),
        ] {
            let made = issue(&server, &format!("{first}/{rest}?kind={kind}"), &holder(NAME));
            assert_eq!((made.status, made.header("content-type")), (200, Some(media)));
            assert!(made.body.starts_with(begins), "{rest}");
        }
    }
    // What is of the record the record says.
    assert!(texts[0].contains("4120Z001") && texts[0].contains("PHC One"), "{}", texts[0]);
    issue(&server, &format!("{first}/paper.pdf?language=xx"), &holder(NAME)).expect_problem(400, "malformed_request");
    issue(&server, &first.replace(|c: char| c.is_ascii_digit(), "7"), &holder(NAME))
        .expect_problem(404, "unknown_certificate");
    // As the administration, without a key of idempotency: it changes nothing.
    let bearer = format!("Bearer {ADMIN}");
    server.send("POST", &path, &[("authorization", &bearer)], holder(NAME).to_string().as_bytes()).expect(200);

    // They are called otherwise: the first ends, and its next says so.
    let next = issue(&server, &format!("{first}/revoke"), &json!({"reason": "person_corrected"})).expect(200);
    let second = next["certificate"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    let ended = issue(&server, &first, &holder(NAME)).expect_problem(409, "certificate_ended");
    assert_eq!(ended["certificate"], second);
    let now = issue(&server, &format!("{second}?kind=eu_dcc"), &holder("Quillon Other")).expect(200);
    assert_eq!(verify(&server, now["text"].as_str().unwrap())["valid"], true);
    for text in &texts {
        assert_eq!(verify(&server, text)["reason"], "revoked");
    }
    let list = server.get("/.well-known/certificates/revoked.json").expect(200);
    assert_eq!(list["revoked"][0]["reason"], "person_corrected");
    // What is withheld is let go by the administration alone.
    issue(&server, &format!("{second}/revoke"), &json!({"reason": "fraud", "replace": false})).expect(200);
    issue(&server, &second, &holder(NAME)).expect_problem(409, "certificate_ended");
    issue(&server, &format!("{second}/release"), &Value::Null).expect_problem(403, "forbidden");
    staff(&server, ADMIN, "POST", &format!("/v1/certificates/{second}/release"), &Value::Null).expect(200);
}

/// Every file below a directory that has this text.
fn with_text(dir: &Path, text: &str, found: &mut Vec<String>) -> usize {
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            seen += with_text(&path, text, found);
            continue;
        }
        seen += 1;
        let bytes = std::fs::read(&path).unwrap();
        if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    seen
}

#[test]
fn nothing_of_who_they_are_is_kept_or_told_back() {
    let server = recorded();
    let id = id(&server);
    for (body, names) in [
        (json!({}), "missing field `holder`"),
        (json!({"holder": {"name": NAME}}), "missing field `born`"),
        (json!({"holder": {"name": NAME, "born": "yesterday"}}), "holder.born: must be"),
        (json!({"holder": {"name": " ", "born": "1980"}}), "holder.name: must not"),
        (json!({"holder": {"name": NAME, "born": "1980", "phone": NAME}}), "unknown field `phone`"),
        (json!({"holder": NAME}), "a value of another type"),
        (json!({"holder": {"name": {"first": NAME}, "born": "1980"}}), "a value of another type"),
        (json!({"holder": {"name": NAME, "born": 1980}}), "a value of another type"),
    ] {
        let told = issue(&server, &id, &body).expect_problem(400, "malformed_request");
        let detail = told["detail"].as_str().unwrap();
        assert!(detail.contains(names), "{names} in {detail}");
        assert!(!detail.contains("Zanzibary") && !detail.contains("1980"), "{detail}");
    }
    // A letter that no format takes is told, and not which.
    let odd = issue(&server, &id, &holder("Quillon\u{1}Zanzibary")).expect_problem(409, "not_certifiable");
    assert!(!odd["detail"].as_str().unwrap().contains("Zanzibary"), "{odd}");
    for rest in ["", "/qr.svg", "/qr.png", "/paper.pdf"] {
        assert_eq!(issue(&server, &format!("{id}{rest}"), &holder(NAME)).status, 200);
    }
    server.terminate();
    let (status, home) = server.ended();
    assert!(status.success());
    let audited = std::fs::read_to_string(home.path("audit.ndjson")).unwrap();
    let lines = crate::server::lines(&audited);
    let line = lines.iter().find(|line| line["route"] == "/v1/certificates/{certificate}/paper.pdf").expect("a line");
    assert_eq!((&line["method"], &line["role"], &line["party"]), (&json!("POST"), &json!("platform"), &json!("p1.0")));
    for text in [NAME, "Zanzibary", "1975-03-01", "xxxx1234"] {
        let mut found = Vec::new();
        let seen = with_text(&home.path(""), text, &mut found);
        assert!(seen > 5, "{seen} files");
        assert!(found.is_empty(), "{text} in {found:?}");
    }
}

// rule: CRT-6
#[test]
fn where_the_store_stands_still_no_certificate_is_called_good() {
    let server = recorded();
    let certificate = id(&server);
    let made = issue(&server, &certificate, &holder(NAME)).expect(200);
    let text = made["text"].as_str().unwrap().to_owned();
    assert_eq!(verify(&server, &text)["valid"], true);
    server.terminate();
    let (_, home) = server.ended();
    // An entry that no store of this release understands: of another one, whose server ran here meanwhile.
    let mut config = Config::new(home.path("data"));
    (config.journal.segment_bytes, config.journal.buffer_bytes) = (5 << 20, 4 << 20);
    let engine = Engine::open(config, Arc::new(AllowAll), &mut |_| {}).unwrap().0;
    let command = Command::Record { kind: RECORDED_CERTIFICATES, bytes: b"of another release", urgent: false };
    let seq = engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap().seq;
    engine.ticket(seq).wait().unwrap();
    engine.close().unwrap();
    drop(engine);
    let server = home.start();
    let body = json!({"certificate": text}).to_string();
    let refused = server.send("POST", "/v1/certificates/verify", &[], body.as_bytes());
    refused.expect_problem(503, "store_unavailable");
    for list in ["/.well-known/certificates/revoked.json", "/.well-known/jwks.json"] {
        server.get(list).expect_problem(503, "store_unavailable");
    }
    issue(&server, &certificate, &holder(NAME)).expect_problem(503, "store_unavailable");
    issue(&server, &format!("{certificate}/revoke"), &json!({"reason": "lost"}))
        .expect_problem(503, "store_unavailable");
    assert!(server.home.told().contains("stands still"), "{}", server.home.told());
}
