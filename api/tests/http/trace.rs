//! Whom a batch was given to, and whom to call; what became of doses by day; sessions that offer no more than there is.

use serde_json::{Value, json};

use crate::client::{PATIENCE, Reply};
use crate::door::text;
use crate::people::{citizen, home_with, person};
use crate::server::{Server, claim, claims, lines, programme_path, session_line, sha256, tomorrow};
use crate::stock::{
    admin, admin_reads, batch, give, operator, operator_reads, receive, server, stocked, today_walk_in, walked_in,
};

fn recall_list(server: &Server, bearer: &str, path: &str, reason: Option<&str>) -> (Vec<Value>, Value) {
    let bearer = format!("Bearer {bearer}");
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(reason.map(|reason| ("berth-reason", reason)));
    let reply = server.send("GET", path, &headers, b"");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")), "{}", reply.text());
    let mut told = lines(reply.text());
    let end = told.pop().expect("there is a last line");
    (told, end)
}

/// Where people register, and stock is enforced; with an operator of each centre.
fn with_people() -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let programme = dir.path().join("programme.toml");
    let india = std::fs::read_to_string(programme_path()).unwrap();
    std::fs::write(&programme, india.replace("enforce = \"warn\"", "enforce = \"refuse\"")).unwrap();
    let operator = |centre: &str| {
        let hash = sha256(&format!("operator-{centre}"));
        format!("[[keys]]\nrole = 'operator'\nname = '{centre}'\nsha256 = '{hash}'\ncentres = ['{centre}']\n")
    };
    let home = home_with(&(operator("c1") + &operator("c2")));
    let path = home.path("berth.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let own = config.replace(&format!("{:?}", programme_path()), &format!("{programme:?}"));
    assert_ne!(own, config);
    std::fs::write(&path, own).unwrap();
    let server = home.start();
    server.add_places();
    let second = r#"{"id":"c2","name":"PHC Two","district":"395","pincode":"400002"}"#;
    server.publish("/v1/centres", second).expect(200);
    (server, dir)
}

fn deleted(server: &Server, path: &str) -> Reply {
    let headers =
        [("authorization", "Bearer admin-key"), ("idempotency-key", "erase"), ("berth-reason", "asked for it")];
    server.send("DELETE", path, &headers, b"")
}

// rule: SUP-2
// rule: SUP-3
#[test]
fn from_a_batch_to_whom_to_call_and_nobody_is_named_who_was_forgotten() {
    let (server, _programme) = with_people();
    batch(&server, "L1", "covishield", "2099-12-31");
    receive(&server, "L1", "c1", 10);
    stocked(&server);
    let slot = today_walk_in(&server);
    let asha = citizen(&server, "+919876543210");
    let parties = [("Asha Rao", "Z1"), ("Ravi Iyer", "Z2"), ("Mira Nair", "Z3")];
    let parties = parties.map(|(name, document)| asha.register(&person(name, document)));
    let numbers = parties.clone().map(|party| {
        let booking = walked_in(&server, &slot, &party);
        text(&give(&server, &booking, "L1").expect(200), "dose_record").to_owned()
    });
    // From a dose to its batch, and back.
    let dose = operator_reads(&server, "c1", &format!("/v1/doses/{}", numbers[0]));
    assert_eq!(dose.expect(200)["batch"], "L1");
    assert_eq!(dose.header("link"), Some("</v1/batches/L1>; rel=\"related\""));
    let page = operator_reads(&server, "c1", "/v1/batches/L1/doses?limit=2").expect(200);
    let next = text(&page, "next").to_owned();
    let rest = operator_reads(&server, "c1", &format!("/v1/batches/L1/doses?limit=2&cursor={next}")).expect(200);
    let found = [&page["doses"], &rest["doses"]].map(|doses| doses.as_array().unwrap().clone()).concat();
    let records: Vec<_> = found.iter().map(|dose| text(dose, "dose_record")).collect();
    assert_eq!((records, rest.get("next")), (numbers.iter().map(String::as_str).collect(), None));
    assert_eq!(
        (&found[1]["party"], &found[1]["centre"], &found[1]["state"]),
        (&json!(parties[1]), &json!("c1"), &json!("valid"))
    );

    admin(&server, "/v1/batches/L1/recall", &json!({"reason": "quality_defect"})).expect(200);
    let late = asha.register(&person("Late Comer", "Z4"));
    give(&server, &walked_in(&server, &slot, &late), "L1").expect_problem(409, "batch_recalled");
    let path = "/v1/batches/L1/recall-list";
    let (told, end) = recall_list(&server, "admin-key", path, None);
    assert_eq!(end, json!({"end": true, "doses": 3, "people": 3, "complete": true}));
    assert_eq!(
        (&told[0]["person"]["masked"], text(&told[0]["person"], "name") != "Asha Rao"),
        (&json!(true), true),
        "{told:?}"
    );
    let (told, _) = recall_list(&server, "admin-key", path, Some("batch L1 is recalled"));
    let called: Vec<_> = told.iter().map(|line| (text(line, "party"), text(&line["person"], "name"))).collect();
    let expected = ["Asha Rao", "Ravi Iyer", "Mira Nair"];
    assert_eq!(called, parties.iter().map(String::as_str).zip(expected).collect::<Vec<_>>());
    assert_eq!(told[0]["person"]["account_phone"], "+919876543210");
    // Whoever works at the centre sees who it is, and no phone; whoever works elsewhere, nobody.
    let (told, _) = recall_list(&server, "operator-c1", path, Some("batch L1 is recalled"));
    assert_eq!((told.len(), &told[0]["person"]["masked"]), (3, &json!(true)));
    assert!(!told.iter().any(|line| line.to_string().contains("9876543210")), "{told:?}");
    assert_eq!(recall_list(&server, "operator-c2", path, None).1["doses"], 0);
    let looks = || {
        let audited = std::fs::read_to_string(server.home.path("audit.ndjson")).unwrap();
        let whole = audited.rfind('\n').map_or("", |end| &audited[..end]);
        let of = |line: &Value| line["route"] == "/v1/batches/{batch}/recall-list";
        lines(whole).into_iter().filter(of).collect::<Vec<_>>()
    };
    // Written within moments, by a thread of its own.
    let began = std::time::Instant::now();
    while looks().len() < 4 {
        assert!(began.elapsed() < PATIENCE, "{:?}", looks());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let looks = looks();
    assert_eq!((looks.len(), &looks[1]["reason"], &looks[1]["who"]), (4, &json!("batch L1 is recalled"), &json!("a")));

    // Revoked: nobody to call. Corrected: on the list of what it was. Erased: counted, and nobody is named.
    batch(&server, "L2", "covishield", "2099-12-31");
    operator(&server, "c1", &format!("/v1/doses/{}/revoke", numbers[1]), &json!({"reason": "wrong_person"}))
        .expect(200);
    operator(&server, "c1", &format!("/v1/doses/{}/correct", numbers[2]), &json!({"reason": "typo", "batch": "L2"}))
        .expect(200);
    deleted(&server, &format!("/v1/people/{}", parties[0])).expect(200);
    let server = server.kill_and_restart();
    let (told, end) = recall_list(&server, "admin-key", path, Some("batch L1 is recalled"));
    assert_eq!(
        (told.len(), &told[0]["erased"], told[0].get("person"), &end["people"]),
        (1, &json!(true), None, &json!(1))
    );
    assert_eq!(told[0]["dose_record"], numbers[0].as_str());
    let (told, _) = recall_list(&server, "admin-key", "/v1/batches/L2/recall-list", Some("a question"));
    assert_eq!(told[0]["person"]["name"], "Mira Nair");
    // Merged: the dose is hers whose the record is now.
    let ravi = citizen(&server, "+919876543211");
    let other = ravi.register(&person("Mira Nayar", "Z5"));
    let merge = json!({"merge": parties[2]}).to_string();
    let headers =
        [("authorization", "Bearer admin-key"), ("idempotency-key", "merge"), ("berth-reason", "twice registered")];
    server.send("POST", &format!("/v1/people/{other}/merge"), &headers, merge.as_bytes()).expect(200);
    let (told, end) = recall_list(&server, "admin-key", "/v1/batches/L2/recall-list", Some("a question"));
    assert_eq!((text(&told[0], "party"), &told[0]["person"]["name"]), (other.as_str(), &json!("Mira Nayar")));
    assert_eq!((&told[0]["dose_record"], &end["people"]), (&json!(numbers[2]), &json!(1)));
    assert_eq!(admin_reads(&server, "/v1/batches/L2/doses").expect(200)["doses"][0]["party"], other.as_str());
    let sums = admin_reads(&server, "/v1/batches/L1").expect(200);
    assert_eq!((&sums["given"], &sums["revoked"], &sums["on_hand"]), (&json!(1), &json!(1), &json!(8)));
    // The dose of who was erased finds its batch, and nothing else is left of it.
    let dose = admin_reads(&server, &format!("/v1/doses/{}", numbers[0])).expect(200);
    assert_eq!((&dose["batch"], dose.get("vaccinator")), (&json!("L1"), None), "{dose}");
    let page = admin_reads(&server, "/v1/batches/L1/doses").expect(200);
    assert_eq!(page["doses"].as_array().unwrap().len(), 2);
}

#[test]
fn a_trace_is_for_who_works_there() {
    let (server, _programme) = server("off");
    batch(&server, "B", "covishield", "2099-12-31");
    receive(&server, "B", "c2", 5);
    let slot = today_walk_in(&server);
    give(&server, &walked_in(&server, &slot, "p1.0"), "B").expect(200);
    let at = |centre: &str, query: &str| operator_reads(&server, centre, &format!("/v1/batches/B/doses{query}"));
    assert_eq!(at("c2", "").expect(200)["doses"], json!([]));
    assert_eq!(at("c1", "").expect(200)["doses"][0]["party"], "p1.0");
    at("c2", "?centre=c1").expect_problem(403, "forbidden");
    at("c2", "?centre=c9").expect_problem(404, "unknown_centre");
    for bad in ["?limit=0", "?cursor=x", "?cursor=c1~x", "?x=1"] {
        at("c1", bad).expect_problem(400, "malformed_request");
    }
    for path in ["/v1/batches/none/doses", "/v1/batches/none/recall-list", "/v1/batches/a%20b/doses"] {
        admin_reads(&server, path).expect_problem(404, "unknown_batch");
    }
    admin_reads(&server, "/v1/batches/B/recall-list?limit=1").expect_problem(400, "malformed_request");
    server.read("/v1/batches/B/recall-list").expect_problem(403, "forbidden");
    // A batch that nobody made known, and that doses name, is found.
    give(&server, &walked_in(&server, &slot, "p1.1"), "stray").expect(200);
    let stray = admin_reads(&server, "/v1/batches/stray/doses?centre=c1").expect(200);
    assert_eq!(stray["doses"][0]["party"], "p1.1");
}

#[test]
fn a_day_tells_what_came_what_went_and_what_is_left() {
    let (server, _programme) = server("off");
    batch(&server, "B", "covishield", "2099-12-31");
    receive(&server, "B", "c1", 40);
    receive(&server, "B", "c2", 7);
    let slot = today_walk_in(&server);
    for party in ["p1.0", "p1.1"] {
        give(&server, &walked_in(&server, &slot, party), "B").expect(200);
    }
    give(&server, &walked_in(&server, &slot, "p1.2"), "").expect(200);
    for (reason, quantity) in [("broken", 3), ("opened_unused", 2)] {
        let body = json!({"batch": "B", "centre": "c1", "quantity": quantity, "reason": reason});
        operator(&server, "c1", "/v1/wastage", &body).expect(201);
    }
    let told = operator_reads(&server, "c1", "/v1/centres/c1/waste").expect(200);
    let day = &told["days"][0];
    let sums = json!({"received": 40, "arrived": 0, "sent": 0, "given": 3, "revoked": 0, "wasted": {"broken": 3, "opened_unused": 2},
        "wasted_in_all": 5, "found": 0, "missing": 0, "no_shows": 0});
    assert_eq!((&told["sum"], &day["on_hand"], told["days"].as_array().unwrap().len()), (&sums, &json!(33), 1));
    // What was there goes on to the days after it, and before it nothing was.
    let (before, after) = (day_of(-2), day_of(3));
    let told = operator_reads(&server, "c1", &format!("/v1/centres/c1/waste?from={before}&to={after}")).expect(200);
    let on_hand: Vec<_> = told["days"].as_array().unwrap().iter().map(|day| day["on_hand"].as_u64().unwrap()).collect();
    assert_eq!((on_hand, &told["sum"]), (vec![0, 0, 33, 33, 33, 33], &sums));
    let district = admin_reads(&server, "/v1/districts/395/waste").expect(200);
    assert_eq!((&district["days"][0]["on_hand"], &district["sum"]["received"]), (&json!(40), &json!(47)));
    assert_eq!(district["centres"].as_array().unwrap().len(), 2);
    let own = operator_reads(&server, "c2", "/v1/districts/395/waste").expect(200);
    assert_eq!((own["centres"].as_array().unwrap().len(), &own["sum"]["received"]), (1, &json!(7)));
    let headers = [("authorization", "Bearer admin-key"), ("accept", "text/csv")];
    let table = server.send("GET", "/v1/districts/395/waste", &headers, b"");
    let rows: Vec<_> = table.text().lines().collect();
    assert!(
        rows[0].starts_with("centre,date,received,arrived,sent,given,") && rows[0].ends_with(",wasted_other,on_hand")
    );
    assert!(
        rows[1].starts_with(&format!("c1,{},40,0,0,3,0,0,0,0,3,0,2,", day_of(0))) && rows[1].ends_with(",33"),
        "{rows:?}"
    );
    assert_eq!((table.header("content-type"), rows.len()), (Some("text/csv; charset=utf-8; header=present"), 3));
    operator_reads(&server, "c2", "/v1/centres/c1/waste").expect_problem(403, "forbidden");
    operator_reads(&server, "c2", "/v1/centres/c9/waste").expect_problem(404, "unknown_centre");
    admin_reads(&server, "/v1/districts/9/waste").expect_problem(404, "unknown_region");
    for bad in ["from=x", "x=1", "from=2026-02-01&to=2026-01-01", "from=2024-01-01&to=2026-01-01"] {
        admin_reads(&server, &format!("/v1/centres/c1/waste?{bad}")).expect_problem(400, "malformed_request");
    }
}

fn day_of(from_today: i64) -> String {
    use jiff::ToSpan;
    tomorrow().saturating_add((from_today - 1).days()).to_string()
}

// rule: SUP-4
#[test]
fn sessions_offer_no_more_than_their_centre_can_give() {
    let (server, _programme) = server("refuse");
    let windows = |units: u32| json!([{"start": "09:00", "end": "11:00", "pools": {"dose1": units}}]);
    let publish = |lines: &[String]| server.publish("/v1/sessions", &lines.join("\n"));
    let told = publish(&[session_line("a", &windows(1))]).expect_problem(422, "invalid_lines");
    let fault = &told["faults"][0];
    assert_eq!(fault["line"], 1);
    let reason = text(fault, "reason");
    assert!(reason.contains("1 units would be on offer there, and 0 doses can be given then: 0 on hand"), "{reason}");

    // Ten that expire today are nothing for tomorrow; six are there, and four on the way.
    batch(&server, "TODAY", "covishield", &day_of(0));
    batch(&server, "LONG", "covishield", "2099-12-31");
    batch(&server, "OTHER", "covaxin", "2099-12-31");
    receive(&server, "TODAY", "c1", 10);
    receive(&server, "OTHER", "c1", 10);
    receive(&server, "LONG", "c1", 6);
    receive(&server, "LONG", "c2", 4);
    let send = json!({"batch": "LONG", "from": "c2", "to": "c1", "quantity": 4});
    operator(&server, "c2", "/v1/transfers", &send).expect(201);
    // Of one body the line that is too much is named, and nothing is published.
    let told =
        publish(&[session_line("a", &windows(7)), session_line("b", &windows(4))]).expect_problem(422, "invalid_lines");
    let fault = &told["faults"][0];
    assert_eq!((&fault["line"], told["faults"].as_array().unwrap().len()), (&json!(2), 1));
    assert!(text(fault, "reason").contains("11 units") && text(fault, "reason").contains("6 on hand"), "{fault}");
    publish(&[session_line("a", &windows(7)), session_line("b", &windows(3))]).expect(200);
    publish(&[session_line("c", &windows(1))]).expect_problem(422, "invalid_lines");
    // What expires today is for today.
    let today = |id: &str, units: u32| session_line(id, &windows(units)).replace(&tomorrow().to_string(), &day_of(0));
    publish(&[today("d", 10)]).expect(200);
    publish(&[today("e", 1)]).expect_problem(422, "invalid_lines");
    let resize = |capacity: u32| {
        let body = json!({"window": "09:00", "pool": "dose1", "capacity": capacity});
        admin(&server, "/v1/sessions/a/resize", &body)
    };
    let told = resize(8).expect_problem(409, "no_stock");
    assert_eq!((&told["on_hand"], &told["on_the_way"]), (&json!(6), &json!(4)));
    resize(6).expect(200);
    resize(7).expect(200);
    // A recall takes nothing from anybody who has booked, and nothing more is offered.
    admin(&server, "/v1/batches/LONG/recall", &json!({"reason": "quality_defect"})).expect(200);
    resize(6).expect(200);
    resize(7).expect_problem(409, "no_stock");
    let booked = server.post(
        "/v1/bookings",
        &claims(&[claim("p1.0", text(&server.get("/v1/sessions/b").expect(200)["slots"][0], "slot"))]),
    );
    booked.expect(201);
}
