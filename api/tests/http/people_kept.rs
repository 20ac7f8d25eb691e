//! What a power cut leaves of people, and where nothing of them may stand.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::people::{Citizen, OPERATOR, citizen, home, home_with, person};
use crate::redis::{Redis, free_port, patiently};
use crate::server::{Server, berth, claim, claims};

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

/// People and doses through a backup and a restore; the keys by an explicit choice, and a copy of them from before an erasure undoes none.
// rule: PPL-3
#[test]
fn people_and_doses_are_restored_and_who_was_erased_stays_erased() {
    let server = home().start();
    server.add_places();
    let slot = crate::doses::today_walk_in(&server);
    let as_operator = |path: &str, body: &Value, status: u16| {
        let (bearer, key) = (format!("Bearer {OPERATOR}"), server.fresh_key());
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", key.as_str())];
        server.send("POST", path, &headers, body.to_string().as_bytes()).expect(status)
    };
    let asha = citizen(&server, "+919876543210");
    let [kept, erased] = ["Z1", "Z2"].map(|document| asha.register(&person("Asha Rao", document)));
    let give = |party: &str, batch: &str| {
        let came = as_operator("/v1/walk-ins", &json!({"party": party, "slot": slot, "dose": 1}), 201);
        let complete = format!("/v1/bookings/{}/complete", came["booking"].as_str().unwrap());
        as_operator(&complete, &json!({"batch": batch}), 200)["dose_record"].as_str().unwrap().to_owned()
    };
    let (kept_dose, erased_dose) = (give(&kept, "KEPT1"), give(&erased, "GONE1"));
    let places = tempfile::tempdir().unwrap();
    let place = |name: &str| places.path().join(name);
    // A copy of the keys from before the erasure.
    std::fs::copy(server.home.path("data/people.keys"), place("old.keys")).unwrap();
    asha.ask("DELETE", &format!("/v1/account/members/{erased}"), &Value::Null).expect(200);
    let run = |arguments: &[&str]| {
        let output = berth(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told)
    };
    let data = server.data_dir();
    let backup = |name: &str, more: &[&str]| {
        let into = place(name);
        let all =
            [&["backup", "--with-code-key", "--data-dir", &data, "--into", into.to_str().unwrap()], more].concat();
        let (status, told) = run(&all);
        assert_eq!(status, Some(0), "{told}");
        told
    };
    assert!(backup("apart", &[]).contains("NOT in the backup"));
    assert!(backup("whole", &["--with-people-keys"]).contains("destroy it by "));
    let old = asha.bearer.clone();
    let home = server.kill();
    let (data, old_keys) = (home.path("data"), place("old.keys"));
    let (data, old_keys) = (data.to_str().unwrap(), old_keys.to_str().unwrap());
    let restore = |from: &str, more: &[&str]| {
        let _ = std::fs::remove_dir_all(data);
        let from = place(from);
        let all =
            [&["restore", "--old-owner-is-dead", "--from", from.to_str().unwrap(), "--into", data], more].concat();
        run(&all)
    };
    let (status, told) = restore("apart", &[]);
    assert_eq!(status, Some(2), "{told}");
    assert!(told.contains("--people-keys") && told.contains("--without-people-keys"), "{told}");
    let mut home = home;
    for (from, more, again) in [("apart", &["--people-keys", old_keys][..], true), ("whole", &[], false)] {
        let (status, told) = restore(from, more);
        assert_eq!((status, told.contains("a copy from before 1 erasures")), (Some(0), again), "{told}");
        let server = home.start();
        assert_eq!(server.home.told().contains("those keys are destroyed again"), again);
        let asha = Citizen { server: &server, bearer: old.clone() };
        let members = asha.ask("GET", "/v1/account", &Value::Null).expect(200)["members"].clone();
        assert_eq!((members[0]["name"].as_str(), members.as_array().unwrap().len()), (Some("Asha Rao"), 1));
        assert_eq!(asha.ask("GET", &format!("/v1/doses/{kept_dose}"), &Value::Null).expect(200)["batch"], "KEPT1");
        let gone = server.read(&format!("/v1/doses/{erased_dose}")).expect(200);
        // Of the dose its batch is known still, and nothing else that was noted.
        assert_eq!(
            (&gone["batch"], gone.get("site"), gone.get("recorded_by")),
            (&json!("GONE1"), None, None),
            "{gone}"
        );
        // The document is free, and whoever has it is somebody new.
        assert_ne!(asha.register(&person("Asha Rao", "Z2")), erased);
        home = server.kill();
        std::fs::write(home.path("stderr.log"), "").unwrap();
    }
    let (status, told) = restore("whole", &["--without-people-keys"]);
    assert_eq!(status, Some(0), "{told}");
    // A backup that was kept longer than was promised.
    let manifest = place("whole").join("backup.json");
    let mut text: Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    text["keep_until"] = "2021-04-28T00:00:00Z".into();
    std::fs::write(&manifest, text.to_string()).unwrap();
    std::fs::write(place("whole").join("backup.json.sha256"), crate::server::sha256(&text.to_string())).unwrap();
    let (status, told) = restore("whole", &[]);
    assert!(status == Some(2) && told.contains("were to be destroyed by 2021-04-28"), "{told}");
    assert_eq!(restore("whole", &["--past-its-time"]).0, Some(0));
}

#[test]
fn the_master_key_is_changed_and_everything_reads_as_before() {
    let server = home().start();
    let asha = citizen(&server, "+919876543210");
    asha.register(&person("Asha Rao", "Z1"));
    let bearer = asha.bearer.clone();
    let home = server.kill();
    let (data, old, new) = (home.path("data"), home.path("people.key"), home.path("new.key"));
    let rekey = |old: &Path| {
        let (data, old, new) = (data.to_str().unwrap(), old.to_str().unwrap(), new.to_str().unwrap());
        berth(&["people", "rekey", "--data-dir", data, "--master-key-file", old, "--new-master-key-file", new])
            .output()
            .unwrap()
    };
    let wrong = home.path("wrong.key");
    std::fs::write(&wrong, "ab".repeat(32)).unwrap();
    std::fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let refused = rekey(&wrong);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && told.contains("another master key"), "{told}");
    for already in [false, true] {
        let done = rekey(&old);
        let told: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(
            (done.status.code(), &told["already"], told["keys"].as_u64() > Some(1)),
            (Some(0), &json!(already), !already)
        );
    }
    let output = home.serve().output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(2) && told.contains("another master key"),
        "the old one opens nothing: {told}"
    );
    let config = std::fs::read_to_string(home.path("berth.toml")).unwrap();
    let named = |path: &Path| format!("{:?}", path.to_str().unwrap());
    std::fs::write(home.path("berth.toml"), config.replace(&named(&old), &named(&new))).unwrap();
    let server = home.start();
    // Tokens were signed with what came of the old one; the phone and the document are found as ever.
    Citizen { server: &server, bearer }.ask("GET", "/v1/account", &Value::Null).expect(401);
    let asha = citizen(&server, "+919876543210");
    assert_eq!(asha.ask("GET", "/v1/account", &Value::Null).expect(200)["members"][0]["name"], "Asha Rao");
    asha.ask("POST", "/v1/account/members", &person("Asha Rao", "Z1")).expect_problem(409, "already_registered");
    asha.register(&person("Ravi Rao", "Z2"));
}
