//! The programme: read by everybody, taken up while serving, kept in the journal; and what it says to a party.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::{ADMIN, Home, PLATFORM, Server, berth, claim, claims, lines, programme_path, sha256, tomorrow};
use crate::tokens::Issuer;

fn india() -> String {
    std::fs::read_to_string(programme_path()).unwrap()
}

/// Sends a programme, or asks for the file to be read again.
fn take_up(server: &Server, key: &str, text: &str) -> Reply {
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", key), ("content-type", "application/toml")];
    server.send("POST", "/v1/admin/programme", &headers, text.as_bytes())
}

fn as_admin(server: &Server, path: &str) -> Reply {
    server.send("GET", path, &[("authorization", &format!("Bearer {ADMIN}"))], b"")
}

fn change_facts(server: &Server, bearer: &str, party: &str, change: &Value) -> Reply {
    // Another one after a restart, too.
    let key = format!("facts of {party} {}", sha256(&change.to_string()));
    let (bearer, key) = (format!("Bearer {bearer}"), key.replace(' ', "-"));
    let headers =
        [("authorization", bearer.as_str()), ("idempotency-key", key.as_str()), ("content-type", "application/json")];
    server.send("PATCH", &format!("/v1/parties/{party}/facts"), &headers, change.to_string().as_bytes())
}

/// A server whose programme file is its own.
fn with_own_file(text: &str) -> (Server, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    (Home::with_programme("", file.path()).start(), file)
}

#[test]
fn everybody_reads_the_programme_and_a_cache_may_keep_it() {
    let server = Server::start();
    let reply = server.get("/v1/programme");
    let programme = reply.expect(200);
    assert_eq!(
        (&programme["name"], &programme["time_zone"]),
        (&json!("India Covid-19 vaccination 2021"), &json!("Asia/Kolkata"))
    );
    assert_eq!(programme["products"][0]["names"]["hi"], "कोविशील्ड");
    assert_eq!(programme["changes"][1]["products"][0]["gap_days_min"], 84);
    assert_eq!(
        (&programme["age_bands"][4]["from"], &programme["age_bands"][4]["books_from"]),
        (&json!("2021-05-01"), &json!("2021-04-28T16:00:00"))
    );
    let tag = reply.header("etag").unwrap().to_owned();
    assert!(reply.header("cache-control").unwrap().starts_with("public, max-age="));
    let again = server.send("GET", "/v1/programme", &[("if-none-match", &tag)], b"");
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag.as_str())));
}

// rule: ELG-2
#[test]
fn a_programme_taken_up_by_a_call_is_in_force_at_once_and_after_a_kill() {
    let (server, file) = with_own_file(&india());
    server.add_places();
    let slots = server.add_slots("s", &[5, 5]);
    server.add_parties(4);
    server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let before = server.get("/v1/programme");

    // Older than anybody is: nobody may book any more, and who has booked keeps it.
    let old = |text: String, age: &str| text.replace(&format!("age_min = {age}\n"), "age_min = 150\n");
    let strict = ["18", "60", "45", "15"].into_iter().fold(india(), old);
    let taken = take_up(&server, "strict", &strict).expect(200);
    assert_eq!(taken["changed"], true);
    let refused = server.post("/v1/bookings", &claims(&[claim("p1.1", &slots[0])])).expect_problem(409, "not_eligible");
    assert_eq!(refused["rule"], "age_band");
    assert_eq!(server.read("/v1/parties/p1.0/bookings").expect(200)["bookings"][0]["state"], "booked");
    let in_force = server.get("/v1/programme");
    assert_ne!(in_force.header("etag"), before.header("etag"));
    assert_eq!(in_force.expect(200)["in_force"]["sha256"], taken["sha256"]);
    server.wait_for_metric("berth_programme_reloads_total 1");
    assert!(server.get("/metrics").text().contains(&format!("berth_programme_info{{sha256={}}} 1", taken["sha256"])));

    // The same again is the same answer, and nothing new.
    let again = take_up(&server, "strict", &strict);
    assert_eq!((again.header("idempotent-replayed"), &again.expect(200)["sha256"]), (Some("true"), &taken["sha256"]));
    assert_eq!(take_up(&server, "once-more", &strict).expect(200)["changed"], false);
    take_up(&server, "strict", &india()).expect_problem(422, "idempotency_conflict");

    // A start goes on with it, for the file has not changed since; once it has, the file is what counts.
    let server = server.kill_and_restart();
    assert_eq!(server.get("/v1/programme").expect(200)["in_force"], in_force.expect(200)["in_force"]);
    let home = server.kill();
    std::fs::write(file.path(), india().replace("hold_seconds = 300", "hold_seconds = 200")).unwrap();
    let server = home.start();
    assert_eq!(server.get("/v1/programme").expect(200)["hold_seconds"], 200);
    server.post("/v1/bookings", &claims(&[claim("p1.1", &slots[0])])).expect(201);

    let history = as_admin(&server, "/v1/admin/programme").expect(200);
    let by: Vec<_> = history["history"].as_array().unwrap().iter().map(|kept| kept["by"].as_str().unwrap()).collect();
    assert_eq!(by, ["file", "call", "file"]);
    assert_eq!(history["history"][1]["sha256"], taken["sha256"]);

    // The journal says it without a server, and without any file.
    server.terminate();
    let (_, home) = server.ended();
    let data = home.path("data");
    let offline = |more: &[&str]| {
        let output =
            berth(&["programme", "history", "--data-dir", data.to_str().unwrap()]).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let told = lines(&offline(&[]));
    assert_eq!(told.len(), 3);
    assert_eq!((&told[1]["sha256"], &told[1]["by"]), (&taken["sha256"], &json!("call")));
    assert_eq!(offline(&["--text", &told[1]["entry"].to_string()]).trim_end(), strict.trim_end());
}

#[test]
fn sighup_and_an_empty_call_read_the_file_again() {
    let (server, file) = with_own_file(&india());
    let path = file.path();
    std::fs::write(path, india().replace("hold_seconds = 300", "hold_seconds = 100")).unwrap();
    server.signal("-HUP");
    let hold_seconds = |server: &Server| server.get("/v1/programme").expect(200)["hold_seconds"].as_u64().unwrap();
    let began = Instant::now();
    while hold_seconds(&server) != 100 {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", server.home.told());
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::write(path, india().replace("hold_seconds = 300", "hold_seconds = 50")).unwrap();
    assert_eq!(take_up(&server, "again", "").expect(200)["changed"], true);
    assert_eq!(hold_seconds(&server), 50);

    // What came by a call stays though the signal comes, which is for other files, too.
    let by_call = india().replace("hold_seconds = 300", "hold_seconds = 70");
    assert_eq!(take_up(&server, "call", &by_call).expect(200)["changed"], true);
    server.signal("-HUP");
    let began = Instant::now();
    while !server.home.told().contains("its file has not changed since") {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", server.home.told());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(hold_seconds(&server), 70);
    assert_eq!(take_up(&server, "file", "").expect(200)["changed"], true);
    // The first answer again, whatever came since.
    assert_eq!(take_up(&server, "call", &by_call).expect(200)["changed"], true);
    assert_eq!(hold_seconds(&server), 50);

    // What is wrong leaves what was there, and the log says why.
    std::fs::write(path, "name = 1").unwrap();
    server.signal("-HUP");
    server.wait_for_metric("berth_programme_reload_failures_total 1");
    assert!(server.home.told().contains("what was in force goes on"), "{}", server.home.told());
    assert_eq!(hold_seconds(&server), 50);
}

#[test]
fn a_programme_that_breaks_with_the_one_in_force_is_refused_with_all_its_faults() {
    let server = Server::start();
    let before = server.get("/v1/programme").expect(200);
    let wrong = india().replace("Asia/Kolkata", "Asia/Dhaka").replace("id = \"dose1\"", "id = \"first\"");
    let problem = take_up(&server, "a", &wrong).expect_problem(422, "invalid_programme");
    let keys: Vec<_> =
        problem["faults"].as_array().unwrap().iter().map(|fault| fault["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["time_zone", "pools[0].id"]);
    let wrong = india().replace("hold_seconds = 300", "hold_seconds = 1").replace("dose = 2", "dose = 9");
    let problem = take_up(&server, "b", &wrong).expect_problem(422, "invalid_programme");
    assert_eq!(problem["faults"].as_array().unwrap().len(), 2);
    take_up(&server, "c", "name = ").expect_problem(422, "invalid_programme");
    let bearer = format!("Bearer {PLATFORM}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "d")];
    server.send("POST", "/v1/admin/programme", &headers, india().as_bytes()).expect_problem(403, "forbidden");
    assert_eq!(server.get("/v1/programme").expect(200), before);
}

#[test]
fn a_party_is_told_what_it_may_have_and_why() {
    let issuer = Issuer::new();
    let server = issuer.server_with("");
    server.add_parties(3);
    let of = |party: &str, query: &str| server.read(&format!("/v1/parties/{party}/eligibility?{query}"));
    let yes = of("p1.0", "product=covishield").expect(200);
    assert_eq!((&yes["eligible"], &yes["dose"]), (&json!(true), &json!(1)));
    let no = of("p1.0", "product=covishield&dose=2").expect(200);
    assert_eq!((&no["eligible"], &no["rule"]), (&json!(false), &json!("dose_order")));

    // A dose given elsewhere is on record by an admin's word, and not by a platform's.
    let today = tomorrow().yesterday().unwrap();
    let day = today.to_string();
    let dose = json!({"doses": 1, "last_product": "covishield", "last_dose_on": day});
    change_facts(&server, PLATFORM, "p1.0", &dose).expect_problem(403, "forbidden");
    let future = json!({"doses": 1, "last_product": "covishield", "last_dose_on": "2102-01-01"});
    change_facts(&server, ADMIN, "p1.0", &future).expect_problem(400, "malformed_request");
    change_facts(&server, ADMIN, "p1.0", &dose).expect(200);
    let no = of("p1.0", "product=covishield").expect(200);
    assert_eq!((&no["dose"], &no["rule"]), (&json!(2), &json!("dose_gap")));
    let from = today.checked_add(jiff::Span::new().days(84)).unwrap().to_string();
    assert_eq!(no["from"], json!(from));
    assert_eq!(no["rules"].as_array().unwrap().last().unwrap()["says"], "no");
    assert_eq!(of("p1.0", "product=covaxin").expect(200)["rule"], "same_product");
    let facts = server.read("/v1/parties/p1.0/facts").expect(200);
    let known = json!({"party": "p1.0", "birth_year": 1980, "cohorts": [], "doses": 1, "last_product": "covishield", "last_dose_on": day});
    assert_eq!(facts, known);

    // What is not named stays.
    change_facts(&server, PLATFORM, "p1.0", &json!({"cohorts": ["frontline"]})).expect(200);
    let facts = server.read("/v1/parties/p1.0/facts").expect(200);
    assert_eq!((&facts["cohorts"], &facts["doses"]), (&json!(["frontline"]), &json!(1)));
    let server = server.kill_and_restart();
    assert_eq!(server.read("/v1/parties/p1.0/facts").expect(200), facts, "after a kill, too");
    change_facts(&server, PLATFORM, "p1.0", &json!({"cohorts": ["nobody"]})).expect_problem(400, "malformed_request");
    change_facts(&server, PLATFORM, "p1.0", &json!({"birth_year": 1800})).expect_problem(400, "malformed_request");
    change_facts(&server, PLATFORM, "p1.99", &json!({"birth_year": 1990})).expect_problem(404, "unknown_party");

    // A child: not now, and from the year it is of age.
    change_facts(&server, PLATFORM, "p1.1", &json!({"birth_year": i64::from(tomorrow().year()) - 17})).expect(200);
    let child = server.read("/v1/parties/p1.1/eligibility?product=covishield").expect(200);
    assert_eq!(
        (&child["rule"], &child["from"]),
        (&json!("age_band"), &json!(format!("{}-01-01", tomorrow().year() + 1)))
    );

    let citizen = issuer.token("asha", &json!({"parties": ["p1.1"]}));
    let ask = |party: &str| {
        let bearer = format!("Bearer {citizen}");
        server.send(
            "GET",
            &format!("/v1/parties/{party}/eligibility?product=covaxin"),
            &[("authorization", &bearer)],
            b"",
        )
    };
    ask("p1.1").expect(200);
    ask("p1.0").expect_problem(404, "unknown_party");
    for wrong in
        ["", "product=x", "product=covaxin&dose=0", "product=covaxin&on=tomorrow", "product=covaxin&pool=x", "q=1"]
    {
        server.read(&format!("/v1/parties/p1.1/eligibility?{wrong}")).expect_problem(400, "malformed_request");
    }
}

#[test]
fn a_file_is_asked_on_the_command_line() {
    let file = programme_path();
    let run = |arguments: &[&str]| {
        let output = berth(&[&["programme"], arguments].concat()).output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        (output.status.code().unwrap(), out, err)
    };
    let file = file.to_str().unwrap();
    let question =
        ["explain", file, "--birth-year", "1975", "--product", "covishield", "--dose", "2", "--last", "2021-03-01"];
    let ask = |more: &[&str]| run(&[&question[..], more].concat());
    let (status, out, _) = ask(&["--on", "2021-05-20"]);
    assert_eq!(status, 1);
    for line in [
        "no: covishield, dose 2, on 2021-05-20",
        "decided by dose_gap",
        "from 2021-05-24 on",
        "in force since 2021-05-13",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let (status, out, _) = ask(&["--on", "2021-05-20", "--asked", "2021-05-12", "--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &answer["eligible"], &answer["since"]), (0, &json!(true), &json!("2021-04-12")));
    assert_eq!(ask(&["--on", "2021-05-24"]).0, 0);
    let (status, _, err) = ask(&["--pool", "vip"]);
    assert!(status == 2 && err.contains("there are dose1, dose2, open"), "{status} {err}");
    let (status, out, _) = run(&["check", file]);
    assert!(status == 0 && out.contains("good."), "{out}");
    let bad = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        bad.path(),
        india().replace("hold_seconds = 300", "hold_seconds = 1").replace("dose = 2", "dose = 9"),
    )
    .unwrap();
    let (status, _, err) = run(&["check", bad.path().to_str().unwrap()]);
    assert!(status == 2 && err.contains("hold_seconds: ") && err.contains("pools[1].dose: "), "{err}");
}
