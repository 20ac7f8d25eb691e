//! What a power cut leaves of people, and where nothing of them may stand.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::people::{Citizen, citizen, home, home_with, person};
use crate::redis::{Redis, free_port, patiently};
use crate::server::{Server, claim, claims};

const CUT: &[&str] = &["--power-cut-rehearsal"];

/// What was answered is there after a power cut at each step, and goes on from there.
// rule: PPL-2
#[test]
fn every_step_of_a_family_survives_a_power_cut_behind_it() {
    let mut server = home().start_with_flags(CUT);
    server.add_places();
    let slots = server.add_slots("s", &[9]);
    let cut = |server: Server| server.kill().start_with_flags(CUT);
    let (from, to) = {
        let (from, to) = (citizen(&server, "+919876543210"), citizen(&server, "+919876543211"));
        (from.bearer, to.bearer)
    };
    server = cut(server);
    // The token is of before the cut, and so is the account.
    let asha = |server: &Server, method: &str, path: &str, body: &Value, status: u16| {
        Citizen { server, bearer: from.clone() }.ask(method, path, body).expect(status)
    };
    let party = asha(&server, "POST", "/v1/account/members", &person("Asha Rao", "Z1"), 201);
    let party = party["party"].as_str().unwrap().to_owned();
    server = cut(server);
    let booked = asha(&server, "POST", "/v1/bookings", &claims(&[claim(&party, &slots[0])]), 201);
    let booking = booked["bookings"][0]["booking"].as_str().unwrap().to_owned();
    let member = format!("/v1/account/members/{party}");
    asha(&server, "PATCH", &member, &json!({"name": "Asha Iyer"}), 200);
    server = cut(server);
    let account = asha(&server, "GET", "/v1/account", &Value::Null, 200);
    assert_eq!(account["members"][0]["name"], "Asha Iyer");
    let offered = asha(&server, "POST", &format!("{member}/transfer"), &Value::Null, 201);
    server = cut(server);
    let accept = json!({"party": party, "code": offered["code"]});
    Citizen { server: &server, bearer: to.clone() }.ask("POST", "/v1/account/transfers", &accept).expect(200);
    server = cut(server);
    asha(&server, "GET", &format!("/v1/parties/{party}/bookings"), &Value::Null, 404);
    let taker = |server: &Server, method: &str, path: &str, status: u16| {
        Citizen { server, bearer: to.clone() }.ask(method, path, &Value::Null).expect(status)
    };
    taker(&server, "POST", &format!("/v1/bookings/{booking}/cancel"), 200);
    let before = server.slot_counts(&slots[0]);
    taker(&server, "DELETE", &member, 200);
    server = cut(server);
    assert_eq!(taker(&server, "GET", "/v1/account", 200)["members"], json!([]));
    assert_eq!(server.slot_counts(&slots[0]), before, "what is counted stays");
    // The document is free again, and nothing is left that is not readable: one entry each of who was erased.
    asha(&server, "POST", "/v1/account/members", &person("Asha Rao", "Z1"), 201);
}

fn files_of(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_of(&path, files) } else { files.push(path) }
    }
}

// rule: PPL-6
#[test]
fn names_and_numbers_stand_in_no_log_metric_journal_snapshot_store_or_redis() {
    let redis_dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(redis_dir.path(), free_port());
    let url = redis.url();
    let server =
        home_with(&format!("[redis]\nurl = '{url}'\nprefix = 'p'\n[events]\nurl = '{url}'\nstream = 'p:events'"));
    let server = server.start();
    server.add_places();
    let slots = server.add_slots("s", &[9]);
    let asha = citizen(&server, "+919876543210");
    let said = json!({"name": "Quetzalcoatl Unmistakable", "born": "1975-03-19", "phone": "+447700900123",
                      "document": {"kind": "npr_smart_card", "number": "ZQ77XW31"}});
    let party = asha.register(&said);
    asha.ask("POST", "/v1/bookings", &claims(&[claim(&party, &slots[0])])).expect(201);
    asha.ask("PATCH", &format!("/v1/account/members/{party}"), &json!({"name": "Xiuhtecuhtli Unmistakable"}))
        .expect(200);
    asha.ask("POST", "/v1/account/members", &said).expect_problem(409, "already_registered");
    let wrong = json!({"name": "Quetzalcoatl", "born": "Unmistakable"});
    asha.ask("POST", "/v1/account/members", &wrong).expect_problem(422, "invalid_person");
    server.signal("-USR1");
    server.wait_for_metric("berth_snapshots_total 1");
    let metrics = server.get("/metrics").text().to_owned();
    let shipped = |page: &str| {
        let of = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        of("berth_redis_shipped_seq ").is_some_and(|shipped| Some(shipped) == of("berth_journal_durable_seq "))
    };
    patiently("Redis has it all", || shipped(server.get("/metrics").text()).then_some(()));
    server.terminate();
    let (status, home) = server.ended();
    assert_eq!(status.code(), Some(0), "{}", home.told());
    let mut files = Vec::new();
    files_of(&home.path("data"), &mut files);
    files_of(redis_dir.path(), &mut files);
    files.extend([home.path("stderr.log"), home.path("audit.ndjson")]);
    let mut texts: Vec<(String, Vec<u8>)> = vec![("metrics".to_owned(), metrics.into_bytes())];
    texts.extend(files.into_iter().map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())));
    assert!(texts.len() > 10, "{}", texts.len());
    let has = |text: &[u8], word: &str| text.windows(word.len()).any(|window| window == word.as_bytes());
    assert!(texts.iter().any(|(name, text)| name.contains(redis_dir.path().to_str().unwrap()) && text.len() > 1000));
    for word in ["Quetzalcoatl", "Unmistakable", "Xiuhtecuhtli", "9876543210", "7700900123", "ZQ77XW31", "1975-03-19"] {
        for (name, text) in &texts {
            assert!(!has(text, word), "{word} stands in {name}");
        }
    }
    // And the search is one that finds.
    let codes = std::fs::read(home.path("codes.ndjson")).unwrap();
    assert!(has(&codes, "9876543210"));
}
