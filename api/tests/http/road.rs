//! The whole road of a family, step by step, and what is left of it where nothing of them may stand.
//!
//! One table of steps. It is walked as it is, and once more with a power cut behind each step: what was answered is there, and the repeat
//! under the same key is answered with the same words.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::client::Reply;
use crate::door::text;
use crate::people::{OPERATOR, citizen, help, home_with};
use crate::redis::{Redis, free_port, patiently};
use crate::server::{ADMIN, Home, PLATFORM, Server, session_line, tomorrow};

const CUT: &[&str] = &["--power-cut-rehearsal"];
const PHONE: &str = "+919876543210";

/// Who asks.
#[derive(Clone, Copy)]
enum Who {
    Citizen,
    /// Of another account.
    Other,
    Operator,
    Platform,
    Admin,
}

/// One step: who asks what, with which status and, of a problem, which code it is answered, and what of the answer is kept under which name.
struct Step {
    who: Who,
    ask: (&'static str, &'static str),
    body: Value,
    answer: (u16, &'static str),
    keeps: &'static [(&'static str, &'static str)],
}

fn step(who: Who, method: &'static str, path: &'static str, body: Value, answer: (u16, &'static str)) -> Step {
    Step { who, ask: (method, path), body, answer, keeps: &[] }
}

impl Step {
    fn keeps(self, keeps: &'static [(&'static str, &'static str)]) -> Step {
        Step { keeps, ..self }
    }
}

/// `{name}` in paths and bodies is what an answer before had there.
fn road() -> Vec<Step> {
    use Who::{Admin, Citizen, Operator, Other, Platform};
    let none = Value::Null;
    let claims = |party: &str, slot: &str, dose: u8| json!({"claims": [{"party": party, "slot": slot, "dose": dose}]});
    let family = json!({"claims": [{"party": "{asha}", "slot": "{slot}", "dose": 1}, {"party": "{ravi}", "slot": "{slot}", "dose": 1}]});
    vec![
        step(Citizen, "POST", "/v1/account/members", asha(), (201, "")).keeps(&[("asha", "/party")]),
        step(Citizen, "POST", "/v1/account/members", ravi(), (201, "")).keeps(&[("ravi", "/party")]),
        step(Other, "POST", "/v1/account/members", asha(), (409, "already_registered")),
        step(Citizen, "GET", "/v1/availability?centre=c1&days=2", none.clone(), (200, "")),
        step(Citizen, "POST", "/v1/holds", family, (201, "")).keeps(&[("hold", "/hold")]),
        step(Citizen, "POST", "/v1/holds/{hold}/confirm", none.clone(), (200, "")),
        // Who comes is there on the day; the administration has put the session forward.
        step(Admin, "POST", "/v1/sessions/next/move-bookings", json!({"to": "today", "windows": "any"}), (200, "")),
        step(Citizen, "GET", "/v1/parties/{asha}/bookings", none.clone(), (200, ""))
            .keeps(&[("booking", "/bookings/0/booking"), ("code", "/bookings/0/check_in_code")]),
        step(Operator, "POST", "/v1/bookings/{booking}/check-in", json!({"code": "{code}"}), (200, "")),
        step(Operator, "POST", "/v1/bookings/{booking}/complete", details(), (200, ""))
            .keeps(&[("dose", "/dose_record")]),
        step(Citizen, "POST", "/v1/holds", claims("{asha}", "{second}", 2), (409, "not_eligible"))
            .keeps(&[("from", "/from"), ("rule", "/rule")]),
        step(Citizen, "GET", "/v1/parties/{asha}/doses", none.clone(), (200, "")),
        step(Other, "GET", "/v1/parties/{asha}/doses", none.clone(), (404, "unknown_party")),
        step(Other, "GET", "/v1/doses/{dose}", none.clone(), (404, "unknown_dose")),
        step(Operator, "POST", "/v1/doses/{dose}/correct", correction(), (200, "")),
        step(
            Operator,
            "POST",
            "/v1/doses/{dose}/adverse-events",
            json!({"event": "zz_fever_zz", "severity": "minor", "case": "ZZCASE/77"}),
            (200, ""),
        ),
        step(Citizen, "GET", "/v1/doses/{dose}", none.clone(), (200, ""))
            .keeps(&[("batch", "/batch"), ("site", "/site")]),
        step(Citizen, "DELETE", "/v1/account/members/{asha}", none.clone(), (200, "")),
        step(Citizen, "GET", "/v1/parties/{asha}/doses", none.clone(), (404, "unknown_party")),
        // Nobody takes a place for a number that is nobody any more, nor touches what was given to it.
        step(Platform, "POST", "/v1/bookings", claims("{asha}", "{second}", 2), (409, "not_eligible")),
        step(Platform, "POST", "/v1/holds", claims("{asha}", "{slot}", 3), (409, "not_eligible")),
        step(
            Operator,
            "POST",
            "/v1/walk-ins",
            json!({"party": "{asha}", "slot": "{walk_in}", "dose": 2}),
            (409, "not_eligible"),
        ),
        step(Operator, "POST", "/v1/doses/{dose}/revoke", json!({"reason": "typo"}), (404, "unknown_party")),
        step(Operator, "GET", "/v1/doses/{dose}", none, (200, "")).keeps(&[("left", "")]),
    ]
}

fn asha() -> Value {
    json!({"name": "Quetzalcoatl Unmistakable", "born": "1975-03-19", "sex": "f", "phone": "+447700900123",
           "document": {"kind": "npr_smart_card", "number": "ZQ77XW31"}})
}

fn ravi() -> Value {
    json!({"name": "Xiuhtecuhtli Unmistakable", "born": "1990-11-23"})
}

fn details() -> Value {
    json!({"batch": "ZBATCH4120", "site": "zz_left_arm_zz", "vaccinator": "vx-nurse-9917"})
}

fn correction() -> Value {
    json!({"reason": "zz_misread_zz", "batch": "ZBATCH4121", "site": "zz_right_arm_zz"})
}

/// What must be found nowhere: who they are, and what was noted of their doses.
const SECRETS: [&str; 15] = [
    "Quetzalcoatl",
    "Unmistakable",
    "Xiuhtecuhtli",
    "9876543210",
    "7700900123",
    "ZQ77XW31",
    "1975-03-19",
    "1990-11-23",
    "zz_left_arm_zz",
    "vx-nurse-9917",
    "zz_misread_zz",
    "zz_right_arm_zz",
    "zz_fever_zz",
    "ZZCASE",
    "operator:door",
];

fn filled(text: &str, kept: &HashMap<&'static str, String>) -> String {
    kept.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

fn ask(server: &Server, bearers: &[String; 2], key: &str, step: &Step, kept: &HashMap<&'static str, String>) -> Reply {
    let secret = |secret: &str| format!("Bearer {secret}");
    let bearer = match step.who {
        Who::Citizen => bearers[0].clone(),
        Who::Other => bearers[1].clone(),
        Who::Operator => secret(OPERATOR),
        Who::Platform => secret(PLATFORM),
        Who::Admin => secret(ADMIN),
    };
    let body = if step.body.is_null() { String::new() } else { filled(&step.body.to_string(), kept) };
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", key)];
    server.send(step.ask.0, &filled(step.ask.1, kept), &headers, body.as_bytes())
}

/// What is counted: every slot and every booking, as they are exported.
fn counts(server: &Server) -> Vec<Value> {
    let mut lines = server.export();
    lines.retain(|line| line["kind"] == "slot" || line["kind"] == "booking" || line["kind"] == "session");
    lines
}

/// Walks the road; with a power cut behind each step if there is one to be rehearsed.
fn walk(home: Home, flags: &[&str]) -> (Server, HashMap<&'static str, String>) {
    let cut = !flags.is_empty();
    let mut server = home.start_with_flags(flags);
    server.add_places();
    let second = session_line("second", &json!([{"start": "09:00", "end": "10:00", "pools": {"dose2": 9}}]));
    server.publish("/v1/sessions", &second).expect(200);
    let second = text(&server.get("/v1/sessions/second").expect(200)["slots"][0], "slot").to_owned();
    let mut kept = HashMap::from([("slot", server.add_slots("next", &[9]).remove(0)), ("second", second)]);
    let day = tomorrow().yesterday().unwrap().to_string();
    let window = json!([{"start": "00:00", "end": "23:59", "pools": {"dose1": 9, "open": 3}}]);
    let line = session_line("today", &window).replace(&tomorrow().to_string(), &day);
    server.publish("/v1/sessions", &line).expect(200);
    let slots = server.get("/v1/sessions/today").expect(200)["slots"].as_array().unwrap().clone();
    let open = slots.iter().find(|slot| slot["pool"] == "open").expect("a pool for who comes without a booking");
    kept.insert("walk_in", text(open, "slot").to_owned());
    let bearers = [citizen(&server, PHONE).bearer, citizen(&server, "+919876543211").bearer];
    let mut before_erasure = Vec::new();
    for (at, step) in road().iter().enumerate() {
        let (key, told) = (format!("road-{at}"), format!("step {at}, {} {}", step.ask.0, step.ask.1));
        if step.ask.0 == "DELETE" {
            before_erasure = counts(&server);
        }
        let first = ask(&server, &bearers, &key, step, &kept);
        assert_eq!(first.status, step.answer.0, "{told}: {}", first.text());
        if !step.answer.1.is_empty() {
            assert_eq!(first.json()["code"], step.answer.1, "{told}");
        }
        if cut {
            server = server.kill().start_with_flags(flags);
        }
        let streams = first.header("content-type") == Some("application/x-ndjson");
        if (cut || at % 2 == 0) && !streams && !step.ask.1.contains("availability") {
            let again = ask(&server, &bearers, &key, step, &kept);
            assert_eq!((again.status, again.text()), (first.status, first.text()), "{told}: the repeat");
            let changes = step.ask.0 != "GET" && first.status < 300;
            assert!(!changes || again.header("idempotent-replayed") == Some("true"), "{told}: is done once more");
        }
        if step.ask.0 == "DELETE" {
            assert_eq!(counts(&server), before_erasure, "what is counted stays");
        }
        for (name, pointer) in step.keeps {
            let answer = first.json();
            let value = answer.pointer(pointer).unwrap_or_else(|| panic!("{told}: {pointer} in {answer}"));
            kept.insert(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
    // The gap's own date, after the dose of today: covishield's 84 days.
    let from: jiff::Timestamp = kept["from"].parse().unwrap();
    let zone = jiff::tz::TimeZone::get("Asia/Kolkata").unwrap();
    assert_eq!(kept["rule"], "dose_gap");
    let days = tomorrow().until(from.to_zoned_datetime(zone).date()).unwrap().get_days();
    assert_eq!(days, 83, "{}", kept["from"]);
    assert_eq!((kept["batch"].as_str(), kept["site"].as_str()), ("ZBATCH4121", "zz_right_arm_zz"), "corrected");
    // What is left of the dose: that it was given, where, and of which batch, which says nothing of a person.
    let left: Value = serde_json::from_str(&kept["left"]).unwrap();
    assert_eq!((&left["state"], &left["centre"], &left["changes"]), (&json!("valid"), &json!("c1"), &json!([])));
    assert_eq!(left["batch"], "ZBATCH4121");
    for member in ["site", "vaccinator", "recorded_by"] {
        assert!(left.get(member).is_none(), "{member} in {left}");
    }
    (server, kept)
}

fn files_of(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_of(&path, files) } else { files.push(path) }
    }
}

/// Nothing of the people stands in these.
fn nothing_in(texts: &[(String, Vec<u8>)]) {
    for (name, bytes) in texts {
        // What is no text stays apart, and words of ASCII are found whole.
        let text = String::from_utf8_lossy(bytes);
        for word in SECRETS {
            assert!(!text.contains(word), "{word} stands in {name}");
        }
    }
}

fn read_all(folders: &[&Path], files: &[PathBuf]) -> Vec<(String, Vec<u8>)> {
    let mut all = files.to_vec();
    folders.iter().for_each(|folder| files_of(folder, &mut all));
    all.into_iter().map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

// rule: PPL-2
// rule: PPL-3
// rule: IDM-2
#[test]
fn every_step_of_the_road_survives_a_power_cut_and_is_repeated_in_the_same_words() {
    let (server, _) = walk(home_with(""), CUT);
    let home = server.kill();
    nothing_in(&read_all(&[&home.path("data")], &[home.path("stderr.log"), home.path("audit.ndjson")]));
}

// rule: PPL-6
#[test]
fn nothing_of_a_family_stands_in_log_metric_journal_snapshot_store_or_redis() {
    let redis_dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(redis_dir.path(), free_port());
    let url = redis.url();
    let config = format!("[redis]\nurl = '{url}'\nprefix = 'p'\n[events]\nurl = '{url}'\nstream = 'p:events'");
    let (server, _) = walk(home_with(&config), &[]);
    server.signal("-USR1");
    server.wait_for_metric("berth_snapshots_total 1");
    let metrics = server.get("/metrics").body;
    let shipped = |page: &str| {
        let of = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        of("berth_redis_shipped_seq ").is_some_and(|shipped| Some(shipped) == of("berth_journal_durable_seq "))
    };
    patiently("Redis has it all", || shipped(server.get("/metrics").text()).then_some(()));
    server.terminate();
    let (status, home) = server.ended();
    assert_eq!(status.code(), Some(0), "{}", home.told());
    let mut texts =
        read_all(&[&home.path("data"), redis_dir.path()], &[home.path("stderr.log"), home.path("audit.ndjson")]);
    texts.push(("metrics".to_owned(), metrics));
    assert!(texts.iter().any(|(name, text)| name.contains(redis_dir.path().to_str().unwrap()) && text.len() > 1000));
    nothing_in(&texts);
    // And the search is one that finds.
    let codes = std::fs::read_to_string(home.path("codes.ndjson")).unwrap();
    assert!(codes.contains("9876543210"));
}

/// Two records of one person, a dose on each: after the merge who stays has both, and the later goes first.
// rule: PPL-4
#[test]
fn doses_of_two_records_are_one_persons_after_their_merge() {
    let server = home_with("").start();
    server.add_places();
    let slot = crate::doses::today_walk_in(&server);
    let give = |number: u32, batch: &str| {
        let person = json!({"name": "Asha Rao", "born": "1975", "document": {"kind": "npr_smart_card", "number": format!("Z{number:07}")}});
        let party = text(&help(&server, ADMIN, "POST", "/v1/people", &person).expect(201), "party").to_owned();
        let at_the_door = |path: &str, body: &Value| {
            let (bearer, key) = (format!("Bearer {OPERATOR}"), server.fresh_key());
            let headers = [("authorization", bearer.as_str()), ("idempotency-key", key.as_str())];
            server.send("POST", path, &headers, body.to_string().as_bytes()).expect(if path.ends_with("ins") {
                201
            } else {
                200
            })
        };
        let came = at_the_door("/v1/walk-ins", &json!({"party": party, "slot": slot, "dose": 1}));
        let done = at_the_door(&format!("/v1/bookings/{}/complete", text(&came, "booking")), &json!({"batch": batch}));
        (party, text(&done, "dose_record").to_owned())
    };
    let (goes, first) = give(1, "ONE");
    let (stays, second) = give(2, "TWO");
    let merged =
        help(&server, ADMIN, "POST", &format!("/v1/people/{stays}/merge"), &json!({"merge": goes})).expect(200);
    assert_eq!(merged["doses"], 2);
    for asked in [&stays, &goes] {
        let doses = server.read(&format!("/v1/parties/{asked}/doses")).expect(200);
        assert_eq!((&doses["party"], &doses["known"]), (&json!(stays), &json!(2)));
        let told: Vec<_> =
            doses["doses"].as_array().unwrap().iter().map(|dose| (&dose["batch"], &dose["party"])).collect();
        assert_eq!(told, [(&json!("ONE"), &json!(stays)), (&json!("TWO"), &json!(stays))]);
    }
    let change =
        |dose: &str, what: &str, body: &Value| help(&server, ADMIN, "POST", &format!("/v1/doses/{dose}/{what}"), body);
    let typo = json!({"reason": "typo"});
    change(&first, "revoke", &typo).expect_problem(409, "later_dose");
    let corrected = change(&first, "correct", &json!({"reason": "typo", "batch": "ONE1"})).expect(200);
    assert_eq!((&corrected["batch"], &corrected["party"]), (&json!("ONE1"), &json!(stays)));
    change(&second, "revoke", &typo).expect(200);
    change(&first, "revoke", &typo).expect(200);
    assert_eq!(server.read(&format!("/v1/parties/{stays}/doses")).expect(200)["known"], 0);
}
