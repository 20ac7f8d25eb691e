//! Certificates over HTTP: they follow the record, in every format, and anybody can verify them.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use berth_programme::certificates::key_files::{self, NewKey};
use berth_programme::certificates::{CertificateKind, PublicKey};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::Reply;
use crate::doses::today_walk_in;
use crate::people::{Citizen, OPERATOR, citizen, person};
use crate::server::{ADMIN, Home, PLATFORM, Server, lines, programme_path};

pub(crate) const KINDS: [&str; 3] = ["w3c", "eu_dcc", "smart_health_card"];

fn make_key(dir: &Path, kind: CertificateKind, name: &str) -> PublicKey {
    let (not_before, not_after) = (Timestamp::UNIX_EPOCH, "2090-01-01T00:00:00Z".parse().unwrap());
    let new = NewKey {
        kind,
        name,
        not_before,
        not_after,
        certified_until: not_after,
        country: "IN",
        issuer: "Ministry of Health",
    };
    key_files::make(dir, &new).unwrap()
}

/// With the keys of all kinds, and a programme that issues them.
pub(crate) fn signing(home: Home) -> Home {
    for kind in CertificateKind::ALL {
        make_key(&home.path("keys"), kind, kind.name());
    }
    let programme = std::fs::read_to_string(programme_path()).unwrap();
    let programme =
        programme.replace("kinds = [\"w3c\", \"eu_dcc\"]", "kinds = [\"w3c\", \"eu_dcc\", \"smart_health_card\"]");
    assert!(programme.contains("smart_health_card"));
    std::fs::write(home.path("programme.toml"), programme).unwrap();
    let config = std::fs::read_to_string(home.path("berth.toml")).unwrap();
    let config = config.replace(programme_path().to_str().unwrap(), home.path("programme.toml").to_str().unwrap());
    let keys = format!("\n[certificates]\nkeys_dir = {:?}\n", home.path("keys"));
    std::fs::write(home.path("berth.toml"), config + &keys).unwrap();
    home
}

/// A server that registers people and signs all kinds.
fn home() -> Home {
    signing(crate::people::home())
}

/// A server where Asha Rao has registered, and where people come today.
struct World {
    server: Server,
    bearer: String,
    party: String,
    slot: String,
}

impl World {
    fn begin(flags: &[&str]) -> World {
        let server = home().start_with_flags(flags);
        server.add_places();
        let slot = today_walk_in(&server);
        let bearer = citizen(&server, "+919876543210").bearer;
        let party = again(&server, &bearer).register(&person("Asha Rao", "Z1"));
        World { server, bearer, party, slot }
    }

    fn asha(&self) -> Citizen<'_> {
        again(&self.server, &self.bearer)
    }

    /// Her first dose; its number.
    fn give(&self) -> String {
        give(&self.server, &self.party, &self.slot, 1)
    }

    fn standing(&self) -> Value {
        standing(&self.asha(), &self.party)
    }

    fn id(&self) -> String {
        id_of(&self.standing())
    }

    fn power_cut(self, flags: &[&str]) -> World {
        World { server: self.server.kill().start_with_flags(flags), ..self }
    }
}

/// A dose given at the door today; its number.
fn give(server: &Server, party: &str, slot: &str, dose: u8) -> String {
    let came = staff(server, OPERATOR, "POST", "/v1/walk-ins", &json!({"party": party, "slot": slot, "dose": dose}))
        .expect(201);
    let complete = format!("/v1/bookings/{}/complete", came["booking"].as_str().unwrap());
    let done = staff(server, OPERATOR, "POST", &complete, &json!({"batch": "4120Z001"})).expect(200);
    done["dose_record"].as_str().unwrap().to_owned()
}

/// Somebody whose token is of before this start.
fn again<'s>(server: &'s Server, bearer: &str) -> Citizen<'s> {
    Citizen { server, bearer: bearer.to_owned() }
}

/// As staff, with a reason; under keys that no restart gives again.
pub(crate) fn staff(server: &Server, secret: &str, method: &str, path: &str, body: &Value) -> Reply {
    static KEYS: AtomicU64 = AtomicU64::new(0);
    let (bearer, key) = (format!("Bearer {secret}"), format!("staff-{}", KEYS.fetch_add(1, Ordering::Relaxed)));
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", &key), ("berth-reason", "test: by phone")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    server.send(method, path, &headers, body.as_bytes())
}

/// What stands of the party's only dose.
fn standing(of: &Citizen<'_>, party: &str) -> Value {
    let listed = of.ask("GET", &format!("/v1/parties/{party}/certificates"), &Value::Null).expect(200);
    let rows = listed["certificates"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{listed}");
    rows[0].clone()
}

fn text(of: &Citizen<'_>, id: &str, kind: &str) -> String {
    let read = of.ask("GET", &format!("/v1/certificates/{id}?kind={kind}"), &Value::Null).expect(200);
    assert_eq!((&read["certificate"], &read["kind"]), (&json!(id), &json!(kind)));
    read["text"].as_str().unwrap().to_owned()
}

pub(crate) fn verify(server: &Server, text: &str) -> Value {
    let body = json!({"certificate": text}).to_string();
    server.send("POST", "/v1/certificates/verify", &[], body.as_bytes()).expect(200)
}

fn id_of(standing: &Value) -> String {
    standing["certificate"].as_str().unwrap_or_else(|| panic!("{standing}")).to_owned()
}

fn fetch(of: &Citizen<'_>, path: &str) -> Reply {
    of.ask("GET", path, &Value::Null)
}

// rule: CRT-6
#[test]
fn a_certificate_follows_the_record_and_what_it_said_before_is_revoked() {
    let rehearsal = &["--power-cut-rehearsal"];
    let mut world = World::begin(rehearsal);
    let party = world.party.clone();
    let listed = fetch(&world.asha(), &format!("/v1/parties/{party}/certificates")).expect(200);
    assert_eq!(listed, json!({"party": party, "kinds": KINDS, "certificates": []}));
    let dose = world.give();
    let first = world.standing();
    assert_eq!((&first["dose_record"], &first["version"], &first["state"]), (&json!(dose), &json!(1), &json!("valid")));
    let first = id_of(&first);
    let old: Vec<String> = KINDS.iter().map(|kind| text(&world.asha(), &first, kind)).collect();
    for (kind, text) in KINDS.iter().zip(&old) {
        let good = verify(&world.server, text);
        assert_eq!(
            (&good["valid"], &good["kind"], &good["certificate"]),
            (&json!(true), &json!(kind), &json!(first)),
            "{good}"
        );
        assert!(good["name"].as_str().unwrap().contains("Asha"), "{good}");
    }
    // A power cut later it is the same one.
    world = world.power_cut(rehearsal);
    assert_eq!(world.id(), first);

    let wrong = json!({"reason": "wrong_batch", "batch": "4120Z002"});
    staff(&world.server, OPERATOR, "POST", &format!("/v1/doses/{dose}/correct"), &wrong).expect(200);
    let second = world.standing();
    assert_eq!((&second["version"], &second["state"]), (&json!(2), &json!("valid")));
    let second = id_of(&second);
    assert_ne!(first, second);
    for text in &old {
        assert_eq!(verify(&world.server, text)["reason"], "revoked");
    }
    let ended = fetch(&world.asha(), &format!("/v1/certificates/{first}")).expect_problem(409, "certificate_ended");
    assert_eq!(ended["certificate"], second, "who has the old one is told of the new one");
    for kind in KINDS {
        let now = text(&world.asha(), &second, kind);
        assert_eq!(verify(&world.server, &now)["valid"], true);
    }
    assert!(text(&world.asha(), &second, "w3c").contains("4120Z002"));

    // The batch that was given is recalled: they are whom to call. Of the one that was written down by mistake nobody is.
    for batch in ["4120Z001", "4120Z002"] {
        let made = json!({"id": batch, "product": "covishield", "quantity": 100, "expires": "2099-12-31"});
        staff(&world.server, ADMIN, "POST", "/v1/batches", &made).expect(201);
        let recall = format!("/v1/batches/{batch}/recall");
        staff(&world.server, ADMIN, "POST", &recall, &json!({"reason": "quality_defect"})).expect(200);
        let list = staff(&world.server, ADMIN, "GET", &format!("/v1/batches/{batch}/recall-list"), &Value::Null);
        assert_eq!(list.status, 200);
        let called = lines(list.text());
        let called: Vec<_> = called.iter().filter_map(|line| line["person"]["name"].as_str()).collect();
        assert_eq!(called, if batch == "4120Z002" { vec!["Asha Rao"] } else { vec![] }, "{batch}");
    }

    // A name ends it; a telephone number, which no certificate says, does not.
    let people = format!("/v1/people/{party}");
    staff(&world.server, ADMIN, "PATCH", &people, &json!({"phone": "+447700900123"})).expect(200);
    assert_eq!(world.id(), second);
    staff(&world.server, ADMIN, "PATCH", &people, &json!({"name": "Asha Iyer"})).expect(200);
    let third = world.id();
    let now = text(&world.asha(), &third, "eu_dcc");
    assert_eq!(verify(&world.server, &now)["name"].as_str().map(|name| name.contains("Iyer")), Some(true));

    let revoked = |server: &Server, after: &str| {
        let list = server.get(&format!("/.well-known/certificates/revoked.json?after={after}")).expect(200);
        let rows = list["revoked"].as_array().unwrap().iter();
        let rows: Vec<(String, String)> = rows
            .map(|row| (row["certificate"].as_str().unwrap().to_owned(), row["reason"].as_str().unwrap().to_owned()))
            .collect();
        (list["count"].as_u64().unwrap(), rows, list["after"].as_str().unwrap().to_owned())
    };
    let (count, rows, after) = revoked(&world.server, "0");
    let corrected = |id: &str, why: &str| (id.to_owned(), why.to_owned());
    assert_eq!((count, rows), (2, vec![corrected(&first, "dose_corrected"), corrected(&second, "person_corrected")]));

    // The administration ends one, first with a next, then without until it says so.
    let end = |server: &Server, id: &str, body: &Value| {
        staff(server, ADMIN, "POST", &format!("/v1/certificates/{id}/revoke"), body)
    };
    end(&world.server, &third, &json!({"reason": "whim"})).expect_problem(400, "malformed_request");
    let fourth = id_of(&end(&world.server, &third, &json!({"reason": "lost"})).expect(200));
    end(&world.server, &third, &json!({"reason": "lost"})).expect_problem(409, "certificate_ended");
    let withheld = end(&world.server, &fourth, &json!({"reason": "fraud", "replace": false})).expect(200);
    assert_eq!((&withheld["state"], &withheld["certificate"]), (&json!("withheld"), &Value::Null));
    world = world.power_cut(rehearsal);
    fetch(&world.asha(), &format!("/v1/certificates/{fourth}")).expect_problem(409, "certificate_ended");
    let release = |server: &Server, id: &str| {
        staff(server, ADMIN, "POST", &format!("/v1/certificates/{id}/release"), &Value::Null)
    };
    let fifth = id_of(&release(&world.server, &fourth).expect(200));
    release(&world.server, &fifth).expect_problem(409, "certificate_stands");
    assert_eq!(verify(&world.server, &text(&world.asha(), &fifth, "w3c"))["valid"], true);
    let (count, rows, _) = revoked(&world.server, &after);
    assert_eq!((count, rows), (4, vec![corrected(&third, "lost"), corrected(&fourth, "fraud")]));

    // A dose that was never given proves nothing.
    staff(&world.server, OPERATOR, "POST", &format!("/v1/doses/{dose}/revoke"), &json!({"reason": "not_given"}))
        .expect(200);
    let gone = world.standing();
    assert_eq!((&gone["state"], &gone["certificate"]), (&json!("dose_revoked"), &Value::Null));
    let jwks = world.server.get("/.well-known/jwks.json").expect(200);
    let kid = jwks["keys"][0]["kid"].as_str().unwrap();
    let list = world.server.get(&format!("/.well-known/crl/{kid}.json")).expect(200);
    assert_eq!((&list["kid"], &list["ctr"], &list["rids"][4]), (&json!(kid), &json!(5), &json!(fifth)));
    world.server.get("/.well-known/crl/other.json").expect_problem(404, "not_found");
}

#[test]
fn a_certificate_is_text_code_and_paper_and_nobody_elses_business() {
    let world = World::begin(&[]);
    world.give();
    let (server, asha, party, id) = (&world.server, world.asha(), &world.party, world.id());
    let path = |rest: &str| format!("/v1/certificates/{id}{rest}");
    for kind in KINDS {
        let svg = fetch(&asha, &path(&format!("/qr.svg?kind={kind}")));
        assert_eq!((svg.status, svg.header("content-type")), (200, Some("image/svg+xml")));
        assert!(svg.text().starts_with("<svg "));
        let png = fetch(&asha, &path(&format!("/qr.png?kind={kind}&scale=2")));
        assert_eq!((png.status, png.header("content-type")), (200, Some("image/png")));
        assert!(png.body.starts_with(b"\x89PNG"));
        for language in ["en", "hi", "mr"] {
            let pdf = fetch(&asha, &path(&format!("/paper.pdf?kind={kind}&language={language}")));
            assert_eq!((pdf.status, pdf.header("content-type")), (200, Some("application/pdf")), "{kind} {language}");
            assert_eq!(pdf.header("cache-control"), Some("private, no-store"));
            assert!(pdf.body.starts_with(b"%PDF-"));
        }
    }
    for bad in ["?kind=paper", "?kind=w3c&kind=w3c", "?colour=red", "/qr.png?scale=0", "/paper.pdf?language=xx"] {
        fetch(&asha, &path(bad)).expect_problem(400, "malformed_request");
    }
    for none in ["0126YN8ZR4W7C01ABCDEF2", "x", &id[..21], &format!("{}0", &id[..21])] {
        if none != id {
            fetch(&asha, &format!("/v1/certificates/{none}")).expect_problem(404, "unknown_certificate");
        }
    }
    let other = citizen(server, "+919876543211");
    for rest in ["", "/qr.svg", "/qr.png", "/paper.pdf"] {
        fetch(&other, &path(rest)).expect_problem(404, "unknown_certificate");
        server.get(&path(rest)).expect_problem(401, "unauthenticated");
    }
    fetch(&other, &format!("/v1/parties/{party}/certificates")).expect_problem(404, "unknown_party");
    asha.ask("POST", &path("/revoke"), &json!({"reason": "lost"})).expect_problem(403, "forbidden");
    staff(server, OPERATOR, "GET", &path(""), &Value::Null).expect(200);
    // Who helps says why, and it is written down whose it was.
    let bearer = format!("Bearer {OPERATOR}");
    server.send("GET", &path(""), &[("authorization", &bearer)], b"").expect_problem(400, "reason_missing");
    let audited = std::fs::read_to_string(server.home.path("audit.ndjson")).unwrap();
    let read = |line: &Value| line["route"] == "/v1/certificates/{certificate}" && line["role"] == "operator";
    let read = lines(&audited).into_iter().find(read).expect("a line");
    assert_eq!((&read["party"], &read["reason"]), (&json!(party), &json!("test: by phone")));

    let text = text(&asha, &id, "eu_dcc");
    let changed = format!("{}{}", &text[..text.len() - 1], if text.ends_with('0') { "1" } else { "0" });
    let refused = verify(server, &changed);
    assert_eq!(refused["valid"], false);
    assert!(["malformed", "bad_signature"].contains(&refused["reason"].as_str().unwrap()), "{refused}");
    assert_eq!(verify(server, "good morning")["reason"], "malformed");
    // A credential as an object is judged as it was sent: what stands twice in it is no credential, whichever a reader takes.
    let object: String = self::text(&asha, &id, "w3c");
    let judged = |object: &str| {
        let body = format!("{{\"certificate\": {object}}}");
        server.send("POST", "/v1/certificates/verify", &[], body.as_bytes()).expect(200)
    };
    assert_eq!(judged(&object)["valid"], true);
    let twice = object.replacen('{', "{\"issuer\": \"did:key:other\", ", 1);
    assert_eq!(judged(&twice)["reason"], "malformed");
    let inner = object.replacen("\"name\":", "\"name\": \"Usha Rao\", \"name\":", 1);
    assert_ne!(inner, object);
    assert_eq!(judged(&inner)["reason"], "malformed");
    for bad in ["3", "[]", "null", "\"\\ud800\""] {
        let body = format!("{{\"certificate\": {bad}}}");
        let problem = server.send("POST", "/v1/certificates/verify", &[], body.as_bytes());
        assert_eq!(problem.status, 400, "{bad}");
    }
    // Another server's keys.
    let stranger = home().start();
    assert_eq!(verify(&stranger, &text)["reason"], "unknown_key");

    // Who it is of is on record here, and told by nobody; nor is it ended by a platform.
    let holder = json!({"holder": {"name": "Usha Rao", "born": "1980"}});
    for rest in ["", "/qr.svg", "/qr.png", "/paper.pdf"] {
        staff(server, PLATFORM, "POST", &path(rest), &holder).expect_problem(409, "holder_on_record");
    }
    staff(server, PLATFORM, "POST", &path("/revoke"), &json!({"reason": "lost"})).expect_problem(403, "forbidden");
    let reason = json!({"reason": "person_corrected"});
    staff(server, ADMIN, "POST", &path("/revoke"), &reason).expect_problem(400, "malformed_request");

    // Who is forgotten has none.
    asha.ask("DELETE", &format!("/v1/account/members/{party}"), &Value::Null).expect(200);
    staff(server, ADMIN, "GET", &path(""), &Value::Null).expect_problem(404, "nobody_on_record");
}

#[test]
fn a_new_key_takes_over_while_serving_and_what_the_old_one_signed_verifies_on() {
    let world = World::begin(&[]);
    world.give();
    let (server, asha, id) = (&world.server, world.asha(), world.id());
    let old = text(&asha, &id, "w3c");
    let dir = server.home.path("keys");
    let (not_before, not_after) = ("2020-01-01T00:00:00Z".parse().unwrap(), "2090-01-01T00:00:00Z".parse().unwrap());
    let new = NewKey {
        kind: CertificateKind::W3c,
        name: "next",
        not_before,
        not_after,
        certified_until: not_after,
        country: "IN",
        issuer: "Ministry of Health",
    };
    let next = key_files::make(&dir, &new).unwrap().key_id;
    server.signal("-HUP");
    let path = format!("/v1/certificates/{id}?kind=w3c");
    crate::redis::patiently("the new key signs", || {
        (fetch(&asha, &path).expect(200)["key_id"] == json!(next)).then_some(())
    });
    assert_eq!(verify(server, &old)["valid"], true);
    assert_eq!(server.get("/.well-known/certificates/keys.json").expect(200)["keys"].as_array().unwrap().len(), 4);
    // A list that is wrong changes nothing.
    std::fs::write(dir.join("keys.toml"), "keys = 3").unwrap();
    server.signal("-HUP");
    crate::redis::patiently("it is told", || server.home.told().contains("those before go on").then_some(()));
    assert_eq!(fetch(&asha, &path).expect(200)["key_id"], json!(next));
}

#[test]
fn a_server_without_keys_issues_none_and_says_so() {
    let server = crate::people::home().start();
    let body = json!({"certificate": "HC1:X"}).to_string();
    server.send("POST", "/v1/certificates/verify", &[], body.as_bytes()).expect_problem(404, "no_certificates");
    server.get("/.well-known/jwks.json").expect_problem(404, "no_certificates");
    let none = server.get("/.well-known/certificates/revoked.json").expect(200);
    assert_eq!(none, json!({"count": 0, "complete": true, "revoked": [], "after": "0", "next": null}));
}
