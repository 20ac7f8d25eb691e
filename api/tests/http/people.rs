//! People over HTTP: registered by a code and by those who help, and what becomes of their records.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{PATIENCE, Reply};
use crate::server::{ADMIN, Home, PLATFORM, Server, claim, claims, sha256};

const WHY: (&str, &str) = ("berth-reason", "test: asked by phone");
pub(crate) const OPERATOR: &str = "operator-key";

/// A server with registration, its codes in a file and its master key beside it.
pub(crate) fn home() -> Home {
    home_with("")
}

pub(crate) fn home_with(more: &str) -> Home {
    // Relative to nothing: both lie in the server's own directory, which is known only once it is made.
    let home = Home::new("");
    let config = std::fs::read_to_string(home.path("berth.toml")).unwrap();
    let people = format!(
        "[audit]\nfile = {audit:?}\nsync_ms = 0\n[people]\nmaster_key_file = {key:?}\ncodes_file = {codes:?}\ncountry_code = '91'\n\
         sexes = ['f', 'm', 'x']\n{more}\n\
         [[keys]]\nrole = 'operator'\nname = 'door'\nsha256 = '{operator}'\ncentres = ['c1']\n",
        audit = home.path("audit.ndjson"),
        key = home.path("people.key"),
        codes = home.path("codes.ndjson"),
        operator = sha256(OPERATOR),
    );
    std::fs::write(home.path("berth.toml"), config + &people).unwrap();
    home
}

/// Somebody with a token.
pub(crate) struct Citizen<'s> {
    pub(crate) server: &'s Server,
    pub(crate) bearer: String,
}

impl Citizen<'_> {
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Reply {
        // No two of a test's, whichever of its servers they go to.
        static KEYS: AtomicU64 = AtomicU64::new(0);
        let key = format!("citizen-{}", KEYS.fetch_add(1, Ordering::Relaxed));
        self.ask_under(&key, method, path, body)
    }

    fn ask_under(&self, key: &str, method: &str, path: &str, body: &Value) -> Reply {
        send(self.server, &self.bearer, key, method, path, &[], body)
    }

    pub(crate) fn register(&self, person: &Value) -> String {
        let there = self.ask("POST", "/v1/account/members", person).expect(201);
        there["party"].as_str().unwrap().to_owned()
    }
}

fn send(
    server: &Server,
    bearer: &str,
    key: &str,
    method: &str,
    path: &str,
    more: &[(&str, &str)],
    body: &Value,
) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut headers = vec![("authorization", bearer), ("idempotency-key", key)];
    headers.extend_from_slice(more);
    server.send(method, path, &headers, body.as_bytes())
}

pub(crate) fn help(server: &Server, secret: &str, method: &str, path: &str, body: &Value) -> Reply {
    send(server, &format!("Bearer {secret}"), &server.fresh_key(), method, path, &[WHY], body)
}

/// As a platform, without a reason.
fn plain(server: &Server, method: &str, path: &str, body: &Value) -> Reply {
    send(server, &format!("Bearer {PLATFORM}"), &server.fresh_key(), method, path, &[], body)
}

/// The newest code for this phone.
fn code(file: &Path, phone: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let newest = lines.rfind(|line| line["phone"] == phone).expect("a code was sent");
    newest["code"].as_str().unwrap().to_owned()
}

/// Lets somebody in by a code.
pub(crate) fn citizen<'s>(server: &'s Server, phone: &str) -> Citizen<'s> {
    open("POST", server, "/v1/accounts/codes", &json!({"phone": phone})).expect(200);
    let code = code(&server.home.path("codes.ndjson"), phone);
    let opened = open("POST", server, "/v1/accounts/sessions", &json!({"phone": phone, "code": code})).expect(201);
    Citizen { server, bearer: format!("Bearer {}", opened["token"].as_str().unwrap()) }
}

fn open(method: &str, server: &Server, path: &str, body: &Value) -> Reply {
    server.send(method, path, &[], body.to_string().as_bytes())
}

pub(crate) fn person(name: &str, document: &str) -> Value {
    let document = json!({"kind": "npr_smart_card", "number": format!("{document:0>8}")});
    json!({"name": name, "born": "1975-03-01", "sex": "f", "document": document})
}

/// The whole road of a family.
#[test]
fn a_family_registers_by_a_code_books_and_is_forgotten() {
    let server = home().start();
    server.add_places();
    let slots = server.add_slots("s", &[9]);
    let asha = citizen(&server, "+919876543210");
    let party = asha.register(&person("Asha Rao", "Z1234567"));
    let child = asha.register(&json!({"name": "Ravi Rao", "born": "1990"}));
    let account = asha.ask("GET", "/v1/account", &Value::Null).expect(200);
    assert_eq!(account["phone"], "+919876543210");
    let members = account["members"].as_array().unwrap();
    assert_eq!((members.len(), &members[0]["name"], &members[1]["born"]), (2, &json!("Asha Rao"), &json!("1990")));
    assert_eq!(members[0]["document"]["number"], "xxxxxxxx", "a number is not shown again");
    // The token of before reaches whoever was registered after it.
    let booked = asha.ask("POST", "/v1/bookings", &claims(&[claim(&party, &slots[0]), claim(&child, &slots[0])]));
    let booking = booked.expect(201)["bookings"][0]["booking"].as_str().unwrap().to_owned();
    let other = citizen(&server, "+919876543211");
    other.ask("POST", "/v1/bookings", &claims(&[claim(&party, &slots[0])])).expect_problem(404, "unknown_party");
    other.ask("GET", &format!("/v1/bookings/{booking}"), &Value::Null).expect_problem(404, "unknown_booking");
    let member = format!("/v1/account/members/{party}");
    other.ask("PATCH", &member, &json!({"name": "Mine"})).expect_problem(404, "unknown_party");
    other.ask("DELETE", &member, &Value::Null).expect_problem(404, "unknown_party");
    asha.ask("PATCH", &member, &json!({"name": "Asha Iyer", "born": "1960"})).expect_problem(409, "record_fixed");
    asha.ask("PATCH", &member, &json!({"name": "Asha Iyer"})).expect(200);
    asha.ask("PATCH", &format!("/v1/account/members/{child}"), &json!({"born": "1991"}))
        .expect_problem(409, "record_fixed");
    let account = asha.ask("GET", "/v1/account", &Value::Null).expect(200);
    assert_eq!(account["members"][0]["name"], "Asha Iyer");
    let refused = asha.ask("DELETE", &member, &Value::Null).expect_problem(409, "live_claims");
    assert_eq!(refused["bookings"][0], booking);
    asha.ask("DELETE", "/v1/account", &Value::Null).expect_problem(409, "account_not_empty");
    asha.ask("POST", &format!("/v1/bookings/{booking}/cancel"), &Value::Null).expect(200);
    asha.ask("DELETE", &member, &Value::Null).expect(200);
    asha.ask("DELETE", &member, &Value::Null).expect_problem(404, "unknown_party");
    asha.ask("GET", &format!("/v1/parties/{party}/bookings"), &Value::Null).expect_problem(404, "unknown_party");
    let account = asha.ask("GET", "/v1/account", &Value::Null).expect(200);
    assert_eq!(account["members"].as_array().unwrap().len(), 1);
    // What is counted is as it was.
    let slot = server.get(&format!("/v1/slots/{}", slots[0])).expect(200);
    assert_eq!((&slot["capacity"], &slot["free"]), (&json!(9), &json!(8)), "{slot}");
}

// rule: PPL-1
#[test]
fn a_person_registers_once_and_whose_document_it_is_is_told_to_who_helps_alone() {
    let server = home().start();
    let (one, two) = (citizen(&server, "+919876543210"), citizen(&server, "+919876543211"));
    let party = one.register(&person("Asha Rao", "Z1234567"));
    let refused = two.ask("POST", "/v1/account/members", &person("Asha R", "z-123 4567"));
    let refused = refused.expect_problem(409, "already_registered");
    assert!(refused.get("party").is_none(), "{refused}");
    let refused = help(&server, PLATFORM, "POST", "/v1/people", &person("Asha", "Z1234567"));
    assert_eq!(refused.expect_problem(409, "already_registered")["party"], party);
    let faults =
        two.ask("POST", "/v1/account/members", &json!({"born": "1975-02-30", "sex": "?", "region": "nowhere"}));
    let faults = faults.expect_problem(422, "invalid_person");
    assert_eq!(faults["faults"].as_array().unwrap().len(), 1, "the region first: {faults}");
    let faults = two.ask("POST", "/v1/account/members", &json!({"born": "1975-02-30", "sex": "?"}));
    let faults = faults.expect_problem(422, "invalid_person");
    let fields: Vec<_> = faults["faults"].as_array().unwrap().iter().map(|fault| fault["field"].clone()).collect();
    assert_eq!(fields, ["born", "name", "sex"]);
    for i in 0..4 {
        two.register(&person("Child", &format!("C{i}")));
    }
    let full = two.ask("POST", "/v1/account/members", &person("Child", "C9")).expect_problem(409, "members_full");
    assert_eq!(full["max"], 4);
}

// rule: PPL-5
#[test]
fn codes_are_bounded_open_once_and_say_nothing_of_who_is_known() {
    let server = home_with("codes_per_phone_per_hour_max = 3").start();
    let ask = |phone: &str| open("POST", &server, "/v1/accounts/codes", &json!({"phone": phone}));
    let known = citizen(&server, "+919876543210");
    known.register(&person("Asha Rao", "Z1"));
    let (of_known, of_stranger) = (ask("98765 43210").expect(200), ask("98765 43219").expect(200));
    let keys = |answer: &Value| answer.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&of_known), keys(&of_stranger));
    ask("9876543210").expect(200);
    let limited = ask("+91 98765 43210");
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&wait), "{wait}");
    limited.expect_problem(429, "codes_limited");
    let session = |phone: &str, code: &str| {
        open("POST", &server, "/v1/accounts/sessions", &json!({"phone": phone, "code": code}))
    };
    let right = code(&server.home.path("codes.ndjson"), "+919876543219");
    let wrong = format!("{:06}", (right.parse::<u32>().unwrap() + 1) % 1_000_000);
    session("+919876543219", &wrong).expect_problem(403, "wrong_code");
    session("+919876543218", &right).expect_problem(403, "wrong_code");
    session("+919876543219", &right).expect(201);
    session("+919876543219", &right).expect_problem(403, "wrong_code");
    ask("no phone").expect_problem(400, "malformed_request");
}

#[test]
fn a_person_goes_to_another_account_when_both_say_so() {
    let server = home().start();
    let (from, to) = (citizen(&server, "+919876543210"), citizen(&server, "+919876543211"));
    let party = from.register(&person("Asha Rao", "Z1"));
    let offer = format!("/v1/account/members/{party}/transfer");
    to.ask("POST", &offer, &Value::Null).expect_problem(404, "unknown_party");
    let key = server.fresh_key();
    let offered = from.ask_under(&key, "POST", &offer, &Value::Null).expect(201);
    let again = from.ask_under(&key, "POST", &offer, &Value::Null);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(201), offered);
    let accept = |code: &Value| to.ask("POST", "/v1/account/transfers", &json!({"party": party, "code": code}));
    accept(&json!("0000000000")).expect_problem(409, "no_offer");
    accept(&offered["code"]).expect(200);
    accept(&offered["code"]).expect_problem(409, "no_offer");
    from.ask("GET", &format!("/v1/parties/{party}/bookings"), &Value::Null).expect_problem(404, "unknown_party");
    to.ask("GET", &format!("/v1/parties/{party}/bookings"), &Value::Null).expect(200);
}

#[test]
fn those_who_help_say_why_and_see_little_unless_they_do() {
    let server = home().start();
    server.add_places();
    let slots = server.add_slots("s", &[9]);
    let said = json!({"name": "Meera Old", "born": "1940", "phone": "98765 00001", "account_phone": "98765 00002"});
    let without = send(&server, &format!("Bearer {PLATFORM}"), &server.fresh_key(), "POST", "/v1/people", &[], &said);
    without.expect_problem(400, "reason_missing");
    let party = help(&server, PLATFORM, "POST", "/v1/people", &said).expect(201)["party"].as_str().unwrap().to_owned();
    let path = format!("/v1/people/{party}");
    let masked = plain(&server, "GET", &path, &Value::Null).expect(200);
    assert_eq!(
        (&masked["masked"], &masked["name"], &masked["born"]),
        (&json!(true), &json!("M*** O***"), &json!("1940"))
    );
    assert_eq!(masked["phone"], "xxxxxxxxxx001");
    let whole = help(&server, PLATFORM, "GET", &path, &Value::Null).expect(200);
    assert_eq!((&whole["name"], &whole["account_phone"]), (&json!("Meera Old"), &json!("+919876500002")));
    // An operator meets people through the bookings at its centre.
    let bearer = format!("Bearer {OPERATOR}");
    let operator = || send(&server, &bearer, "k", "GET", &path, &[], &Value::Null);
    operator().expect_problem(404, "unknown_party");
    plain(&server, "POST", "/v1/bookings", &claims(&[claim(&party, &slots[0])])).expect(201);
    assert_eq!(operator().expect(200)["masked"], true);
    for said in [json!({"phone": "9876500001"}), json!({"phone": "9876500002"})] {
        let found = help(&server, PLATFORM, "POST", "/v1/people/find", &said).expect(200);
        assert_eq!(found["people"][0]["party"], party, "{said}");
    }
    let none = json!({"document": {"kind": "passport", "number": "nobody"}});
    assert_eq!(help(&server, PLATFORM, "POST", "/v1/people/find", &none).expect(200)["people"], json!([]));
    help(&server, PLATFORM, "POST", "/v1/people/find", &json!({})).expect_problem(400, "malformed_request");
    help(&server, PLATFORM, "PATCH", &path, &json!({"name": "Meera Young"})).expect(200);
    // Whoever has the phone of the account finds her there.
    let account = citizen(&server, "+919876500002").ask("GET", "/v1/account", &Value::Null).expect(200);
    assert_eq!(account["members"][0]["name"], "Meera Young");
    let path_of_log = server.home.path("audit.ndjson");
    let started = Instant::now();
    let audited = loop {
        let text = std::fs::read_to_string(&path_of_log).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |method: &str| {
            let route = if method == "POST" { "/v1/people" } else { "/v1/people/{party}" };
            lines.iter().filter(|line| line["route"] == route && line["method"] == method).cloned().collect::<Vec<_>>()
        };
        if of("PATCH").len() == 1 {
            let found = lines.iter().filter(|line| line["route"] == "/v1/people/find").cloned().collect::<Vec<_>>();
            break (of("POST"), of("GET"), found);
        }
        assert!(started.elapsed() < PATIENCE, "{text}");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!((audited.0.len(), &audited.0[1]["reason"]), (2, &json!(WHY.1)), "{audited:?}");
    // Whom a registration came to, and a search.
    assert_eq!((audited.0[0].get("parties"), &audited.0[1]["parties"]), (None, &json!([party])), "{audited:?}");
    let found: Vec<_> = audited.2.iter().map(|line| line.get("parties").cloned()).collect();
    assert_eq!(found, [Some(json!([party])), Some(json!([party])), None, None], "{audited:?}");
    let reasons: Vec<_> = audited.1.iter().map(|line| line.get("reason").is_some()).collect();
    assert_eq!(reasons, [false, true, false, false], "{audited:?}");
}

// rule: PPL-4
#[test]
fn two_records_of_one_person_become_one() {
    let server = home().start();
    server.add_places();
    let slots = server.add_slots("s", &[9]);
    let register = |document: &str| {
        let there = help(&server, PLATFORM, "POST", "/v1/people", &person("Asha Rao", document)).expect(201);
        there["party"].as_str().unwrap().to_owned()
    };
    let (one, two) = (register("Z1"), register("Z2"));
    let book = |party: &str| plain(&server, "POST", "/v1/bookings", &claims(&[claim(party, &slots[0])]));
    let booking = book(&two).expect(201)["bookings"][0]["booking"].as_str().unwrap().to_owned();
    let merge = |stays: &str, goes: &str| {
        help(&server, ADMIN, "POST", &format!("/v1/people/{stays}/merge"), &json!({"merge": goes}))
    };
    assert_eq!(merge(&one, &two).expect_problem(409, "live_claims")["bookings"], json!([booking]));
    let merged = merge(&two, &one).expect(200);
    assert_eq!((&merged["party"], &merged["merged"], &merged["doses"]), (&json!(two), &json!(one), &json!(0)));
    book(&one).expect_problem(409, "not_eligible");
    let gone = plain(&server, "GET", &format!("/v1/people/{one}"), &Value::Null).expect_problem(409, "person_merged");
    assert_eq!(gone["into"], two);
    merge(&two, &two).expect_problem(400, "malformed_request");
}

#[test]
fn a_register_is_taken_over_and_told_line_by_line() {
    let server = home().start();
    let lines: Vec<String> = (0..200)
        .map(|i| {
            let mut line = person(&format!("Person {i}"), &format!("D{}", i % 190));
            line["key"] = format!("row-{i}").into();
            line["account_phone"] = format!("98765{:05}", i % 100).into();
            line.to_string()
        })
        .collect();
    let body = format!("{}\nno json\n{{\"name\":\"x\",\"key\":\"bad\"}}\n", lines.join("\n"));
    let import = || {
        let headers =
            [("authorization", &format!("Bearer {ADMIN}") as &str), ("content-type", "application/x-ndjson"), WHY];
        let reply = server.send("POST", "/v1/bulk/people", &headers, body.as_bytes());
        assert_eq!(reply.status, 200);
        reply.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let (first, again) = (import(), import());
    let end = |repeated| json!({"end": true, "lines": 202, "done": 190, "repeated": repeated, "refused": 12});
    assert_eq!((first.last(), again.last()), (Some(&end(0)), Some(&end(190))));
    assert_eq!(first.len(), 203);
    assert_eq!(first[195]["problem"]["code"], "already_registered");
    assert_eq!((&first[200]["problem"]["code"], &first[201]["status"]), (&json!("malformed_json"), &json!(422)));
    for (one, other) in first.iter().zip(&again).take(190) {
        assert_eq!((&one["party"], &other["replayed"]), (&other["party"], &json!(true)));
    }
    let headers = [("authorization", &format!("Bearer {ADMIN}") as &str), WHY];
    let exported = server.send("GET", "/v1/bulk/people", &headers, b"");
    let exported: Vec<Value> = exported.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((exported.len(), exported.last()), (191, Some(&json!({"end": true, "people": 190}))));
    let named = |line: &Value| line["name"].as_str().is_some_and(|name| name.starts_with("Person "));
    assert!(exported[..190].iter().all(|line| line["masked"] == false && named(line)), "whole, as they were said");
}

/// A server whose configuration has no people says so.
#[test]
fn without_people_nobody_is_registered() {
    let server = Server::start();
    open("POST", &server, "/v1/accounts/codes", &json!({"phone": "+919876543210"})).expect_problem(404, "not_found");
    help(&server, PLATFORM, "POST", "/v1/people", &person("A", "1")).expect_problem(404, "not_found");
}

#[test]
fn an_account_gets_another_phone_by_a_code_to_it_or_by_those_who_help() {
    let server = home().start();
    let asha = citizen(&server, "+919876543210");
    let party = asha.register(&person("Asha Rao", "Z1"));
    let other = citizen(&server, "+919876543211");
    other.register(&person("Meera Rao", "Z2"));
    let sent = |phone: &str| {
        open("POST", &server, "/v1/accounts/codes", &json!({"phone": phone})).expect(200);
        code(&server.home.path("codes.ndjson"), phone)
    };
    let change = |key: &str, phone: &str, code: &str| {
        asha.ask_under(key, "POST", "/v1/account/phone", &json!({"phone": phone, "code": code}))
    };
    change("taken", "+919876543211", &sent("+919876543211")).expect_problem(409, "phone_taken");
    let new = sent("+919876543212");
    let wrong = format!("{:06}", (new.parse::<u32>().unwrap() + 1) % 1_000_000);
    change("wrong", "+919876543212", &wrong).expect_problem(403, "wrong_code");
    let changed = change("right", "+919876543212", &new);
    assert_eq!(changed.expect(200)["phone"], "+919876543212");
    let again = change("right", "+919876543212", &new);
    assert_eq!((again.json(), again.header("idempotent-replayed")), (changed.json(), Some("true")));
    let members = |citizen: &Citizen<'_>| {
        citizen.ask("GET", "/v1/account", &Value::Null).expect(200)["members"].as_array().unwrap().len()
    };
    assert_eq!(members(&citizen(&server, "+919876543212")), 1, "the new phone opens it");
    let old = citizen(&server, "+919876543210");
    assert_eq!(members(&old), 0, "the old one opens another");

    // The phone is lost: somebody who helps makes sure of who asks.
    let path = |what: &str| format!("/v1/people/{party}/{what}");
    let to = |phone: &str| json!({"account_phone": phone});
    plain(&server, "POST", &path("account-phone"), &to("+919876543213")).expect_problem(400, "reason_missing");
    help(&server, PLATFORM, "POST", &path("account-phone"), &to("x")).expect_problem(422, "invalid_person");
    help(&server, PLATFORM, "POST", &path("account-phone"), &to("+919876543211")).expect_problem(409, "phone_taken");
    help(&server, PLATFORM, "POST", &path("account-phone"), &to("+919876543213")).expect(200);
    let asha = citizen(&server, "+919876543213");
    assert_eq!((members(&asha), members(&citizen(&server, "+919876543212"))), (1, 0));
    // And a person goes to another account where nobody can offer them.
    help(&server, PLATFORM, "POST", &path("transfer"), &to("+919876543213")).expect_problem(409, "same_account");
    help(&server, PLATFORM, "POST", &path("transfer"), &to("+919876543211")).expect(200);
    assert_eq!((members(&asha), members(&other)), (0, 2));
    let alone = help(&server, PLATFORM, "POST", "/v1/people", &json!({"name": "Ravi", "born": "1990"})).expect(201);
    let path = format!("/v1/people/{}/account-phone", alone["party"].as_str().unwrap());
    help(&server, PLATFORM, "POST", &path, &to("+919876543219")).expect_problem(404, "unknown_account");
    // After a restart all is where it was put.
    let server = server.kill_and_restart();
    assert_eq!(members(&citizen(&server, "+919876543211")), 2);
}

#[test]
fn a_field_is_taken_off_by_null_and_a_document_is_free_again() {
    let server = home().start();
    let (asha, other) = (citizen(&server, "+919876543210"), citizen(&server, "+919876543211"));
    let mut said = person("Asha Rao", "Z1");
    (said["phone"], said["language"]) = ("+447700900123".into(), "hi".into());
    let party = asha.register(&said);
    let member = format!("/v1/account/members/{party}");
    let faults = asha.ask("PATCH", &member, &json!({"name": null, "born": null})).expect_problem(422, "invalid_person");
    assert_eq!(faults["faults"].as_array().unwrap().len(), 2, "{faults}");
    asha.ask("PATCH", &member, &json!({"phone": null, "document": null, "language": null})).expect(200);
    let account = asha.ask("GET", "/v1/account", &Value::Null).expect(200);
    let left = &account["members"][0];
    assert_eq!((&left["name"], &left["sex"]), (&json!("Asha Rao"), &json!("f")));
    for gone in ["phone", "document", "language"] {
        assert!(left.get(gone).is_none(), "{gone} in {left}");
    }
    let found = help(&server, PLATFORM, "POST", "/v1/people/find", &json!({"phone": "+447700900123"})).expect(200);
    assert_eq!(found["people"], json!([]), "nor is she found by it");
    other.register(&person("Meera Rao", "Z1"));
}
