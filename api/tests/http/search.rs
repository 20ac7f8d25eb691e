//! Searches: places, filters, pages, and what is kept of them.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::{Server, claim, claims, tomorrow};

/// Kept for as long as a test runs.
const KEPT: &str = "[admission]\nmode = 'off'\n[search]\nstaleness_ms = 60000\n";

/// Two districts; c1 to c5 on a line north of Mumbai, ten kilometres apart; c6 says not where it is.
fn with_centres(config: &str) -> Server {
    let server = Server::start_with(config);
    let regions = [
        json!({"id": "27", "kind": "state", "name": "Maharashtra"}),
        json!({"id": "395", "kind": "district", "name": "Mumbai", "parent": "27"}),
        json!({"id": "392", "kind": "district", "name": "Thane", "parent": "27"}),
    ];
    server.publish("/v1/regions", &ndjson(&regions)).expect(200);
    let centre = |n: u32| {
        let district = if n % 2 == 1 { "395" } else { "392" };
        let mut line =
            json!({"id": format!("c{n}"), "name": "PHC", "district": district, "pincode": format!("40000{n}")});
        if n < 6 {
            line["lat"] = json!(19.0 + f64::from(n - 1) * 0.089_932);
            line["lon"] = json!(73);
        }
        line
    };
    server.publish("/v1/centres", &ndjson(&(1..=6).map(centre).collect::<Vec<_>>())).expect(200);
    let session = |n: u32| {
        let (date, windows) =
            (tomorrow().to_string(), json!([{"start": "09:00", "end": "11:00", "pools": {"dose1": 5, "dose2": 5}}]));
        json!({"id": format!("s{n}"), "centre": format!("c{n}"), "date": date, "product": "covishield", "windows": windows})
    };
    server.publish("/v1/sessions", &ndjson(&(1..=6).map(session).collect::<Vec<_>>())).expect(200);
    server.add_parties(50);
    server
}

fn ndjson(lines: &[Value]) -> String {
    lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

fn ask(server: &Server, query: &str) -> Value {
    server.get(&format!("/v1/availability?{query}")).expect(200)
}

/// The ids of the centres found, in order.
fn centres(found: &Value) -> String {
    let ids: Vec<_> = found["centres"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    ids.join(" ")
}

fn metric(server: &Server, name: &str) -> u64 {
    let page = server.get("/metrics");
    let line = page
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no {name}"));
    line.parse().unwrap()
}

#[test]
fn places_can_be_several_or_around_a_point() {
    let server = with_centres("");
    for (query, expected) in [
        ("district=395", "c1 c3 c5"),
        ("district=395,392", "c1 c2 c3 c4 c5 c6"),
        ("pincode=400004,400001,999999", "c1 c4"),
        ("centre=c6,c2", "c2 c6"),
        ("near=19,73&radius_km=25", "c1 c2 c3"),
        ("near=19.179,73&radius_km=10.5", "c3 c2 c4"),
        ("near=19,73&radius_km=200&limit=2", "c1 c2"),
        ("near=-19,73", ""),
    ] {
        assert_eq!(centres(&ask(&server, query)), expected, "{query}");
    }
    let near = ask(&server, "near=19.0001,72.9999&radius_km=25");
    let distances: Vec<_> =
        near["centres"].as_array().unwrap().iter().map(|c| c["distance_km"].as_f64().unwrap()).collect();
    assert_eq!(distances, [0.0, 10.0, 20.0]);
    let place = ["lat", "lon"].map(|name| near["centres"][0][name].as_f64().unwrap());
    assert_eq!(place.map(|degrees| degrees.to_string()), ["19", "73"]);
    assert!(ask(&server, "centre=c1")["centres"][0].get("distance_km").is_none());
    for (query, status, code) in [
        ("district=395,1", 404, "unknown_region"),
        ("centre=c1,c9", 404, "unknown_centre"),
        ("district=395&district=392", 400, "malformed_request"),
        ("near=19", 400, "malformed_request"),
        ("near=19,73&radius_km=201", 400, "malformed_request"),
    ] {
        server.get(&format!("/v1/availability?{query}")).expect_problem(status, code);
    }
    // The journal keeps where centres are.
    let server = server.kill_and_restart();
    assert_eq!(centres(&ask(&server, "near=19.179,73&radius_km=10.5")), "c3 c2 c4");
}

#[test]
fn ages_doses_fees_and_products_leave_out_what_was_not_asked_for() {
    let server = with_centres("");
    let windows = json!([{"start": "13:00", "end": "15:00", "pools": {"dose1": 1, "dose2": 1, "open": 1}}]);
    let line = json!({"id": "paid", "centre": "c1", "date": tomorrow().to_string(), "product": "covaxin", "min_age": 18,
        "max_age": 44, "fee": 25_000, "windows": windows});
    server.publish("/v1/sessions", &line.to_string()).expect(200);
    let wrong = line
        .to_string()
        .replace("\"max_age\":44", "\"max_age\":17")
        .replace("25000", "-1")
        .replace("\"paid\"", "\"x\"");
    let faults = server.publish("/v1/sessions", &wrong).expect_problem(422, "invalid_lines")["faults"].clone();
    let fields: BTreeSet<_> = faults.as_array().unwrap().iter().map(|f| f["field"].as_str().unwrap()).collect();
    assert_eq!(fields, BTreeSet::from(["fee", "max_age"]));
    let wrong = ndjson(&[
        json!({"id": "x1", "name": "X", "district": "395", "pincode": "400001", "lat": 91, "lon": 73}),
        json!({"id": "x2", "name": "X", "district": "395", "pincode": "400001", "lat": 19.5}),
        json!({"id": "x3", "name": "X", "district": "395", "pincode": "400001", "lat": "19", "lon": -180.5}),
    ]);
    let faults = server.publish("/v1/centres", &wrong).expect_problem(422, "invalid_lines")["faults"].clone();
    let told: Vec<_> =
        faults.as_array().unwrap().iter().map(|f| format!("{} {}", f["line"], f["field"].as_str().unwrap())).collect();
    assert_eq!(told, ["1 lat", "2 lon", "3 lat", "3 lon"]);
    let server = server.kill_and_restart();
    let sessions = |query: &str| {
        let found = ask(&server, &format!("centre=c1&{query}"));
        let sessions = found["centres"][0]["sessions"].as_array().cloned().unwrap_or_default();
        let told = |s: &Value| format!("{}:{}", s["id"].as_str().unwrap(), s["slots"].as_array().unwrap().len());
        sessions.iter().map(told).collect::<Vec<_>>().join(" ")
    };
    for (query, expected) in [
        ("", "s1:2 paid:3"),
        ("age=17", "s1:2"),
        ("age=18", "s1:2 paid:3"),
        ("age=44", "s1:2 paid:3"),
        ("age=45", "s1:2"),
        ("fee=free", "s1:2"),
        ("fee=paid", "paid:3"),
        ("product=covaxin", "paid:3"),
        ("product=covaxin,covishield", "s1:2 paid:3"),
        ("dose=2", "s1:1 paid:2"),
        ("dose=2&pool=open,dose1", "paid:1"),
        ("pool=open,dose1", "s1:1 paid:2"),
        ("age=30&fee=paid&dose=1&product=covaxin&pool=dose1", "paid:1"),
    ] {
        assert_eq!(sessions(query), expected, "{query}");
    }
    let paid = &ask(&server, "centre=c1&fee=paid")["centres"][0]["sessions"][0];
    assert_eq!(paid["fee"], json!({"amount": 25_000, "currency": "INR"}));
    assert_eq!((&paid["min_age"], &paid["max_age"]), (&json!(18), &json!(44)));
    let session = server.get("/v1/sessions/paid").expect(200);
    assert_eq!((&session["fee"], &session["min_age"]), (&paid["fee"], &json!(18)));
    assert_eq!(server.get("/v1/centres/c1").expect(200)["lon"].as_f64(), Some(73.0));
    server.get("/v1/availability?centre=c1&dose=3").expect_problem(400, "malformed_request");
}

#[test]
fn pages_neither_repeat_nor_miss_a_centre() {
    let server = with_centres("");
    for (query, expected) in [
        ("district=395,392&limit=1", "c1 c2 c3 c4 c5 c6"),
        ("district=392,395&limit=4", "c1 c2 c3 c4 c5 c6"),
        ("district=395&limit=3", "c1 c3 c5"),
        ("near=19.179,73&radius_km=100&limit=2", "c3 c2 c4 c1 c5"),
    ] {
        let (mut path, mut pages) = (format!("/v1/availability?{query}"), Vec::new());
        loop {
            let reply = server.get(&path);
            let page = reply.expect(200);
            pages.push(centres(&page));
            let link = reply
                .header("link")
                .map(|link| link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap());
            assert_eq!(link.is_some(), page.get("next").is_some());
            let Some(link) = link else { break };
            assert!(link.ends_with(&format!("cursor={}", page["next"].as_str().unwrap())), "{link}");
            path = link.to_owned();
        }
        assert_eq!(pages.join(" "), expected, "{query}");
        assert!(pages.iter().all(|page| !page.is_empty()), "{query}: {pages:?}");
    }
}

#[test]
fn an_answer_is_kept_for_every_spelling_and_for_so_long_as_configured() {
    let server = with_centres(KEPT);
    let first = ask(&server, "district=395&days=7");
    let slot = first["centres"][0]["sessions"][0]["slots"][0]["slot"].as_str().unwrap().to_owned();
    server.post("/v1/bookings", &claims(&[claim("p1.0", &slot)])).expect(201);
    for spelling in ["district=395&days=7", "days=7&district=395", "dist%72ict=395", "district=395,395&available=false"]
    {
        assert_eq!(ask(&server, spelling), first, "{spelling}");
        assert_eq!(ask(&server, spelling), first, "{spelling}, as it came before");
    }
    assert_eq!(metric(&server, "berth_search_renders_total{changed=\"yes\"}"), 1);
    let fresh = ask(&server, "district=395&days=8");
    assert_eq!(fresh["centres"][0]["sessions"][0]["slots"][0]["free"], 4, "another question has its own answer");
    assert_eq!(metric(&server, "berth_search_answers_total{source=\"rendered\"}"), 2);
    assert_eq!(metric(&server, "berth_search_answers_total{source=\"cache\"}"), 8);
    let reply = server.get("/v1/availability?district=395");
    let (control, age) = (reply.header("cache-control").unwrap(), reply.header("age").unwrap());
    let max_age: u64 =
        control.strip_prefix("public, max-age=").unwrap().strip_suffix(", must-revalidate").unwrap().parse().unwrap();
    assert!((58..=60).contains(&max_age) && age.parse::<u64>().unwrap() <= max_age, "{control} {age}");
    assert_eq!(reply.header("vary"), Some("accept-encoding"));
}

/// What was booked, published or given back is seen by who asks no earlier than the staleness after it. By the clock that
/// `as_of` is of: a slow machine makes answers late, never older than they may be.
// rule: SCH-1
#[test]
fn no_answer_is_older_than_the_configured_staleness() {
    const STALENESS: Duration = Duration::from_millis(300);
    let server = with_centres("[search]\nstaleness_ms = 300\n");
    let path = "/v1/availability?district=395,392&available=true";
    let as_of = |reply: &Reply| {
        let told = reply.expect(200)["as_of"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert_eq!(reply.header("berth-as-of"), reply.json()["as_of"].as_str());
        assert_eq!(reply.header("cache-control"), Some("public, max-age=0, must-revalidate"));
        told
    };
    // The server's clock and ours may be some milliseconds apart.
    let slack = Duration::from_millis(20);
    let (began, mut asked, mut distinct) = (Instant::now(), 0u32, BTreeSet::new());
    while began.elapsed() < Duration::from_secs(2) || distinct.len() < 3 {
        let now = jiff::Timestamp::now();
        let told = as_of(&server.get(path));
        let age = now.as_millisecond() - told.as_millisecond();
        assert!(age <= i64::try_from((STALENESS + slack).as_millis()).unwrap(), "{age} ms old");
        distinct.insert(told);
        asked += 1;
    }
    assert!(u32::try_from(distinct.len()).unwrap() < asked, "{asked} answers, {} of them their own", distinct.len());
}

#[test]
fn what_is_published_shows_in_the_first_answer_after_the_staleness() {
    let server = with_centres("[search]\nstaleness_ms = 200\n");
    let path = format!("centre=c6&from={}&days=1", tomorrow());
    assert_eq!(ask(&server, &path)["centres"][0]["sessions"].as_array().unwrap().len(), 1);
    let line = json!({"id": "more", "centre": "c6", "date": tomorrow().to_string(), "product": "covaxin",
        "windows": [{"start": "09:00", "end": "11:00", "pools": {"open": 1}}]});
    server.publish("/v1/sessions", &line.to_string()).expect(200);
    std::thread::sleep(Duration::from_millis(200));
    let found = ask(&server, &path);
    assert_eq!(found["centres"][0]["sessions"].as_array().unwrap().len(), 2);
    let slot = found["centres"][0]["sessions"][1]["slots"][0]["slot"].as_str().unwrap().to_owned();
    server.post("/v1/holds", &claims(&[claim("p1.0", &slot)])).expect(201);
    std::thread::sleep(Duration::from_millis(200));
    let slot = &ask(&server, &path)["centres"][0]["sessions"][1]["slots"][0];
    assert_eq!((&slot["held_may_return"], &slot["held"]), (&json!(true), &json!(1)));
}

#[test]
fn encodings_are_of_one_answer_and_each_has_its_tag() {
    let server = with_centres(KEPT);
    let get =
        |encoding: &str| server.send("GET", "/v1/availability?district=395,392", &[("accept-encoding", encoding)], b"");
    let without_time = |plain: &[u8]| {
        let mut answer: Value = serde_json::from_slice(plain).unwrap();
        answer.as_object_mut().unwrap().remove("as_of").unwrap();
        answer
    };
    let plain = get("identity");
    assert_eq!(plain.header("content-encoding"), None);
    let mut tags = BTreeSet::from([plain.header("etag").unwrap().to_owned()]);
    for (asked, expected) in [("gzip, deflate, br", "gzip"), ("gzip, deflate, br, zstd", "zstd")] {
        let reply = get(asked);
        assert_eq!((reply.status, reply.header("content-encoding")), (200, Some(expected)));
        assert_eq!(
            (reply.header("vary"), reply.header("content-type")),
            (Some("accept-encoding"), Some("application/json"))
        );
        let mut decoded = Vec::new();
        match expected {
            "gzip" => flate2::bufread::GzDecoder::new(reply.body.as_slice()).read_to_end(&mut decoded).unwrap(),
            _ => zstd::Decoder::new(reply.body.as_slice()).unwrap().single_frame().read_to_end(&mut decoded).unwrap(),
        };
        assert_eq!(without_time(&decoded), without_time(&plain.body));
        assert!(reply.body.len() * 3 < plain.body.len());
        tags.insert(reply.header("etag").unwrap().to_owned());
    }
    assert_eq!(tags.len(), 3);
    get("identity;q=0").expect_problem(406, "not_acceptable");
    let head = server.send("HEAD", "/v1/availability?district=395,392", &[("accept-encoding", "gzip")], b"");
    assert_eq!(head.header("content-length").unwrap(), get("gzip").body.len().to_string());
}

#[test]
fn who_has_an_answer_that_is_still_true_is_told_so() {
    // Each answer is rendered anew, so only what it tells can keep its tag.
    let server = with_centres("[search]\nstaleness_ms = 0\n");
    let get = |tag: &str| {
        let headers = [("if-none-match", tag), ("accept-encoding", "zstd")];
        server.send("GET", "/v1/availability?district=395&limit=2", &headers, b"")
    };
    let first = get("\"other\"");
    let tag = first.header("etag").unwrap().to_owned();
    assert!(first.status == 200 && tag.starts_with("W/\""), "{tag}");
    std::thread::sleep(Duration::from_millis(2));
    let second = get(&format!("\"x\", {tag}"));
    assert_eq!((second.status, second.body.len(), second.header("etag")), (304, 0, Some(tag.as_str())));
    assert_ne!(second.header("berth-as-of"), first.header("berth-as-of"), "it says since when that is known");
    for header in ["cache-control", "vary", "link", "date"] {
        assert!(second.header(header).is_some(), "{header}");
    }
    assert_eq!((second.header("content-type"), second.header("content-encoding")), (None, None));
    assert_eq!(get("*").status, 304);
    let tags = ["days=1", "days=2"].map(|days| {
        let reply = server.get(&format!("/v1/availability?pincode=999999&{days}"));
        reply.header("etag").unwrap().to_owned()
    });
    assert_ne!(tags[0], tags[1], "an answer tells its days, too");
    let slot = ask(&server, "centre=c1")["centres"][0]["sessions"][0]["slots"][0]["slot"].as_str().unwrap().to_owned();
    let hold = server.post("/v1/holds", &claims(&[claim("p1.0", &slot)])).expect(201);
    let third = get(&tag);
    assert_eq!(third.status, 200, "a unit is held");
    assert_ne!(third.header("etag"), Some(tag.as_str()));
    server.post(&format!("/v1/holds/{}/release", hold["hold"].as_str().unwrap()), &json!(null)).expect(200);
    assert_eq!(get(&tag).status, 304, "all is as it was");
    assert_eq!(metric(&server, "berth_search_not_modified_total"), 3);
}

#[test]
fn those_who_ask_at_once_wait_for_one_rendering() {
    let server = with_centres(KEPT);
    // The first is small and rendered where it is asked, the second goes to the pool.
    for (rendered, days) in [(1, 1), (2, 28)] {
        let path = format!("district=392,395&days={days}");
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| assert_eq!(ask(&server, &path)["days"], days));
            }
        });
        assert_eq!(metric(&server, "berth_search_renders_total{changed=\"yes\"}"), rendered);
    }
}

#[test]
fn searches_that_are_switched_off_are_not_answered_from_what_is_kept() {
    let server = with_centres(KEPT);
    let switch = |shed: Value| {
        let headers = [("authorization", "Bearer admin-key"), ("content-type", "application/json")];
        let body = json!({"shed": shed}).to_string();
        server.send("PATCH", "/v1/admin/admission", &headers, body.as_bytes()).expect(200);
    };
    ask(&server, "district=395");
    switch(json!(["search"]));
    server.get("/v1/availability?district=395").expect_problem(503, "overloaded");
    switch(json!([]));
    ask(&server, "district=395");
}

#[test]
fn an_answer_that_has_not_changed_is_not_compressed_again() {
    let server = with_centres("[search]\nstaleness_ms = 1\n");
    let get = || server.send("GET", "/v1/availability?district=395", &[("accept-encoding", "gzip")], b"");
    let plain = |reply: &Reply| {
        let mut decoded = String::new();
        flate2::bufread::GzDecoder::new(reply.body.as_slice()).read_to_string(&mut decoded).unwrap();
        serde_json::from_str::<Value>(&decoded).unwrap()
    };
    let (first, began) = (plain(&get()), Instant::now());
    let mut last = first.clone();
    while metric(&server, "berth_search_renders_total{changed=\"no\"}") == 0 || last["as_of"] == first["as_of"] {
        assert!(began.elapsed() < crate::client::PATIENCE);
        last = plain(&get());
        assert_eq!(last["centres"], first["centres"]);
    }
    assert_eq!(metric(&server, "berth_search_renders_total{changed=\"yes\"}"), 1);
}
