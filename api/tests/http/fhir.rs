//! FHIR: centres, sessions and slots as others read them, and refusals in their words.

use std::path::Path;

use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::{Home, Server, claim, claims, programme_path, tomorrow};

const URL: &str = "https://book.example.org/in";

/// Two districts of two states; centres whose names FHIR takes as they are, and some that it does not.
pub(crate) fn server(config: &str) -> Server {
    server_under(config, &programme_path())
}

pub(crate) fn server_under(config: &str, programme: &Path) -> Server {
    let server = Home::with_programme(&format!("public_url = '{URL}'\n{config}"), programme).start();
    let region = |id: &str, kind: &str, name: &str| json!({"id": id, "kind": kind, "name": name});
    let district =
        |id: &str, name: &str, parent: &str| json!({"id": id, "kind": "district", "name": name, "parent": parent});
    let regions = [
        region("27", "state", "Maharashtra"),
        region("a_b", "state", "Goa"),
        district("395", "Mumbai", "27"),
        district("1", "North Goa", "a_b"),
    ];
    server.publish("/v1/regions", &ndjson(&regions)).expect(200);
    let centres = [
        json!({"id": "c1", "name": "PHC One", "district": "395", "pincode": "400001", "lat": 19.0, "lon": 73.0,
            "address": "1 Station Road", "phone": "+91 22 2301 0000", "url": "https://one.example.org/"}),
        json!({"id": "phc_2", "name": "PHC Two", "district": "395", "pincode": "400002", "lat": 19.05, "lon": 73.0}),
        json!({"id": long(), "name": "Clinic", "district": "1", "pincode": "403001"}),
    ];
    server.publish("/v1/centres", &ndjson(&centres)).expect(200);
    let windows = json!([{"start": "09:00", "end": "11:00", "pools": {"dose1": 5, "dose2": 2}},
        {"start": "11:00", "end": "13:00", "pools": {"open": 1}}]);
    let session = |id: &str, centre: &str| json!({"id": id, "centre": centre, "date": tomorrow().to_string(), "product": "covishield", "windows": windows});
    server
        .publish("/v1/sessions", &ndjson(&[session("s-1", "c1"), session("s_2", "phc_2"), session("s3", &long())]))
        .expect(200);
    server.add_parties(5);
    server
}

/// So long that its low line has no room to be spelled.
fn long() -> String {
    format!("{}_", "x".repeat(63))
}

pub(crate) fn ndjson(lines: &[Value]) -> String {
    lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

/// The resources of a bundle.
fn found(bundle: &Value) -> Vec<Value> {
    bundle["entry"].as_array().into_iter().flatten().map(|entry| entry["resource"].clone()).collect()
}

fn ids(bundle: &Value) -> Vec<String> {
    found(bundle).iter().map(|resource| resource["id"].as_str().unwrap().to_owned()).collect()
}

pub(crate) fn refused(reply: &Reply, status: u16, issue: &str, code: &str) {
    let outcome = reply.expect(status);
    assert_eq!(reply.header("content-type"), Some("application/fhir+json"));
    assert_eq!(outcome["resourceType"], "OperationOutcome");
    let told = &outcome["issue"][0];
    assert_eq!((&told["code"], &told["details"]["coding"][0]["code"]), (&json!(issue), &json!(code)), "{outcome}");
}

#[test]
fn a_centre_is_a_location_whatever_its_name_is() {
    let server = server("[fhir]\nphone = '1075'\n");
    let one = server.get("/fhir/Location/c1");
    assert_eq!(one.header("content-type"), Some("application/fhir+json"));
    let expected = json!({"resourceType": "Location", "id": "c1", "identifier": [{"system": "urn:berth:centre", "value": "c1"}],
        "status": "active", "name": "PHC One", "mode": "instance",
        "telecom": [{"system": "phone", "value": "+91 22 2301 0000"}, {"system": "url", "value": "https://one.example.org/"}],
        "address": {"line": ["1 Station Road"], "city": "Mumbai", "district": "Mumbai", "state": "Maharashtra", "postalCode": "400001"},
        "position": {"longitude": 73.0, "latitude": 19.0}});
    assert_eq!(one.expect(200), expected);
    let centre = server.get("/v1/centres/c1").expect(200);
    assert_eq!((&centre["phone"], &centre["url"]), (&json!("+91 22 2301 0000"), &json!("https://one.example.org/")));
    // Without a phone of its own it has the programme's, without an address its name.
    let two = server.get("/fhir/Location/.phc.u2").expect(200);
    assert_eq!(two["telecom"], json!([{"system": "phone", "value": "1075"}]));
    assert_eq!((&two["identifier"][0]["value"], &two["address"]["line"]), (&json!("phc_2"), &json!(["PHC Two"])));
    let three = server.get("/fhir/Location/..n2").expect(200);
    assert_eq!(three["identifier"][0]["value"], long());
    for none in ["c9", "phc_2", "..n1", "..n9", ".c1", "x%20y"] {
        refused(&server.get(&format!("/fhir/Location/{none}")), 404, "not-found", "unknown_centre");
    }
    // The journal keeps phones and pages.
    let server = server.kill_and_restart();
    assert_eq!(server.get("/fhir/Location/c1").expect(200), expected);
}

#[test]
fn locations_are_found_by_place_and_name_in_pages() {
    let server = server("");
    let ask = |query: &str| server.get(&format!("/fhir/Location{query}")).expect(200);
    let all = ask("");
    assert_eq!((ids(&all), &all["total"]), (vec!["c1".into(), ".phc.u2".into(), "..n2".into()], &json!(3)));
    assert_eq!(all["link"], json!([{"relation": "self", "url": format!("{URL}/fhir/Location")}]));
    assert_eq!(all["entry"][1]["fullUrl"], format!("{URL}/fhir/Location/.phc.u2"));
    for (query, expected) in [
        ("?address-state=maha", "c1 .phc.u2"),
        ("?address-state=GOA,x", "..n2"),
        ("?address-city=mumbai&name=phc%20t", ".phc.u2"),
        ("?address-postalcode=400001,403001", "c1 ..n2"),
        ("?address-postalcode=400001&address-state=goa", ""),
        ("?_id=c1,Location/.phc.u2,c9", "c1 .phc.u2"),
        ("?identifier=urn:berth:centre%7Cphc_2", ".phc.u2"),
        ("?identifier=urn:other%7Cphc_2", ""),
        ("?name=clinic", "..n2"),
        ("?near=19.04%7C73%7C3%7Ckm", ".phc.u2"),
        ("?near=19.04%7C73%7C3%7Ckm&address-state=goa", ""),
        ("?near=0%7C0%7C3%7Ckm&_id=c1", ""),
        ("?near=19%7C73%7C3%7Ckm&_id=c1", "c1"),
    ] {
        assert_eq!(ids(&ask(query)).join(" "), expected, "{query}");
    }
    let near = ask("?near=19.04%7C73%7C50");
    assert_eq!(ids(&near), [".phc.u2", "c1"], "the nearest first");
    let distance = near["entry"][0].pointer("/search/extension/0/valueDistance/value");
    assert_eq!(distance.and_then(Value::as_f64), Some(1.1));
    // Page by page, each once.
    for start in ["?_count=1", "?_count=1&near=19.04%7C73%7C50", "?_count=1&address-state=maha"] {
        let (mut next, mut pages) = (Some(start.to_owned()), Vec::new());
        while let Some(query) = next.take() {
            let page = ask(&query);
            pages.extend(ids(&page));
            let links = page["link"].as_array().unwrap().iter();
            let link = links
                .clone()
                .find(|link| link["relation"] == "next")
                .map(|link| link["url"].as_str().unwrap().to_owned());
            next = link.map(|url| url.strip_prefix(&format!("{URL}/fhir/Location")).unwrap().to_owned());
        }
        assert_eq!(pages, ids(&ask(&start.replace("_count=1", "_count=9"))), "{start}");
    }
    let none = ask("?_count=0");
    assert_eq!((&none["total"], ids(&none).len(), none["link"].as_array().unwrap().len()), (&json!(3), 0, 1));
    for bad in ["?color=red", "?near=x", "?_count=x", "?_count=1001", "?_after=x", "?_after=1-2-3", "?name=a&name=b"] {
        refused(&server.get(&format!("/fhir/Location{bad}")), 400, "invalid", "malformed_request");
    }
}

#[test]
fn a_session_is_a_schedule_and_is_found_by_centre_and_date() {
    let server = server("");
    let day = tomorrow();
    let smart = "http://fhir-registry.smarthealthit.org/StructureDefinition";
    let schedule = server.get("/fhir/Schedule/.s.u2").expect(200);
    assert_eq!(
        (&schedule["identifier"], &schedule["actor"]),
        (&json!([{"system": "urn:berth:session", "value": "s_2"}]), &json!([{"reference": "Location/.phc.u2"}]))
    );
    let horizon = json!({"start": format!("{day}T09:00:00+05:30"), "end": format!("{day}T13:00:00+05:30")});
    assert_eq!(schedule["planningHorizon"], horizon);
    let codes: Vec<_> =
        schedule["serviceType"][0]["coding"].as_array().unwrap().iter().map(|c| c["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["57", "covid19-immunization"]);
    let extensions = schedule["extension"].as_array().unwrap();
    assert_eq!(extensions[0]["url"], format!("{smart}/vaccine-product"));
    let cvx = json!({"system": "http://hl7.org/fhir/sid/cvx", "code": "210", "display": "Covishield"});
    assert_eq!(extensions[0]["valueCoding"], cvx);
    let doses: Vec<_> = extensions
        .iter()
        .filter(|e| e["url"] == format!("{smart}/vaccine-dose"))
        .map(|e| e["valueInteger"].as_u64().unwrap())
        .collect();
    assert_eq!(doses, [1, 2]);
    let next = day.tomorrow().unwrap();
    for (query, expected) in [
        ("actor=Location/c1".to_owned(), "s-1"),
        (format!("actor={URL}/fhir/Location/.phc.u2,c1"), "s-1 .s.u2"),
        (format!("actor=c1&date={day}"), "s-1"),
        (format!("actor=c1&date=gt{day}"), ""),
        (format!("actor=c1&date=ge{day}&date=lt{next}"), "s-1"),
        ("_id=s-1,s3,none".to_owned(), "s-1 s3"),
        ("_id=s-1,s3&actor=c1".to_owned(), "s-1"),
        (format!("_id=s-1,s3&date=lt{day}"), ""),
        (format!("actor=c1&date=ge{day}T11:00:00%2B05:30"), "s-1"),
        (format!("actor=c1&date=gt{day}T11:00:00%2B05:30"), ""),
        (format!("actor=c1&date=le9999-12-31T23:59:59Z&date=ge{day}"), "s-1"),
        ("identifier=urn:berth:session%7Cs_2".to_owned(), ".s.u2"),
        ("actor=c1&service-type=57".to_owned(), "s-1"),
        ("actor=c1&service-type=urn:berth:product%7Ccovishield".to_owned(), "s-1"),
        ("actor=c1&service-type=urn:berth:product%7Ccovaxin".to_owned(), ""),
        ("actor=c1&service-type=surgery".to_owned(), ""),
        ("actor=c9".to_owned(), ""),
    ] {
        assert_eq!(ids(&server.get(&format!("/fhir/Schedule?{query}")).expect(200)).join(" "), expected, "{query}");
    }
    let empty = server.get("/fhir/Schedule?actor=c9").expect(200);
    assert!(empty.get("entry").is_none() && empty["total"] == 0, "FHIR has no empty lists: {empty}");
    // A name that has no spelling, and is none, is not taken for another that has none.
    let other = format!("identifier={}_", "y".repeat(63));
    assert!(ids(&server.get(&format!("/fhir/Schedule?{other}")).expect(200)).is_empty());
    refused(&server.get("/fhir/Schedule"), 400, "invalid", "malformed_request");
    refused(&server.get("/fhir/Schedule?actor=Patient/c1"), 400, "invalid", "malformed_request");
    refused(&server.get("/fhir/Schedule/none"), 404, "not-found", "unknown_session");
}

#[test]
fn a_slot_is_told_as_searches_tell_it() {
    let server = server("[fhir]\nbooking_link = 'https://book.example.org/?slot={slot}&at={centre}'\n");
    let day = tomorrow();
    let slots = |query: &str| server.get(&format!("/fhir/Slot?{query}")).expect(200);
    let all = slots("schedule=Schedule/s-1");
    assert_eq!((ids(&all), &all["total"]), (vec!["s1.0".into(), "s1.1".into(), "s1.2".into()], &json!(3)));
    let slot = server.get("/fhir/Slot/s1.0").expect(200);
    assert_eq!(found(&all)[0], slot);
    assert_eq!(
        (&slot["start"], &slot["end"]),
        (&json!(format!("{day}T09:00:00+05:30")), &json!(format!("{day}T11:00:00+05:30")))
    );
    let value = |slot: &Value, name: &str, kind: &str| {
        let url = format!("http://fhir-registry.smarthealthit.org/StructureDefinition/{name}");
        slot["extension"].as_array().unwrap().iter().find(|e| e["url"] == url).map(|e| e[kind].clone())
    };
    assert_eq!(value(&slot, "slot-capacity", "valueInteger"), Some(json!(5)));
    assert_eq!(value(&slot, "booking-deep-link", "valueUrl"), Some(json!("https://book.example.org/?slot=s1.0&at=c1")));
    assert_eq!(value(&slot, "vaccine-dose", "valueInteger"), Some(json!(1)));
    assert_eq!(value(&server.get("/fhir/Slot/s1.2").expect(200), "vaccine-dose", "valueInteger"), None, "for any dose");

    let hold = server.post("/v1/holds", &claims(&[claim("p1.0", "s1.2")])).expect(201);
    let status = |slot: &str| server.get(&format!("/fhir/Slot/{slot}")).expect(200)["status"].clone();
    assert_eq!((status("s1.2"), status("s1.0")), (json!("busy-tentative"), json!("free")));
    let held = server.get("/fhir/Slot/s1.2").expect(200);
    assert_eq!(value(&held, "slot-capacity", "valueInteger"), Some(json!(1)), "of what is not free it is all there is");
    let code = hold["hold"].as_str().unwrap();
    server.post(&format!("/v1/holds/{code}/confirm"), &json!(null)).expect(200);
    assert_eq!(status("s1.2"), "busy");
    let next = day.tomorrow().unwrap();
    for (query, expected) in [
        ("schedule=s-1&status=busy".to_owned(), "s1.2"),
        ("schedule=s-1&status=free,busy".to_owned(), "s1.0 s1.1 s1.2"),
        (format!("schedule=s-1&start=ge{day}T11:00:00%2B05:30"), "s1.2"),
        (format!("schedule=s-1&start=lt{day}T11:00:00%2B05:30"), "s1.0 s1.1"),
        (format!("schedule=s-1,.s.u2&start=ge{day}&start=lt{next}&status=busy"), "s1.2"),
        (format!("schedule=s-1&start=ge{next}"), ""),
        ("schedule.actor=Location/c1&_count=2".to_owned(), "s1.0 s1.1"),
        ("schedule.actor=Location/c1&_count=2&_after=1".to_owned(), "s1.2"),
        ("_id=s1.1,s1.99".to_owned(), "s1.1"),
        ("schedule=none".to_owned(), ""),
    ] {
        assert_eq!(ids(&slots(&query)).join(" "), expected, "{query}");
    }
    for bad in
        ["", "status=gone&schedule=s-1", "start=soon&schedule=s-1", "schedule=Location/s-1", "schedule=s-1&_after=01"]
    {
        refused(&server.get(&format!("/fhir/Slot?{bad}")), 400, "invalid", "malformed_request");
    }
    refused(&server.get("/fhir/Slot/s1.999"), 404, "not-found", "unknown_slot");
    refused(&server.get("/fhir/Slot/x"), 400, "invalid", "malformed_id");
}

#[test]
fn json_is_json_under_whatever_name_it_is_asked_for() {
    let server = server("");
    let kind = |path: &str, accept: &str| {
        let reply = server.send("GET", path, &[("accept", accept)], b"");
        (reply.status, reply.header("content-type").map(str::to_owned))
    };
    let fhir = (200, Some("application/fhir+json".to_owned()));
    let plain = (200, Some("application/json".to_owned()));
    assert_eq!(server.get("/fhir/Location").header("vary"), Some("accept, accept-encoding"));
    for path in ["/fhir/Location", "/fhir/Location/c1", "/fhir/metadata"] {
        assert_eq!(kind(path, "*/*"), fhir);
        assert_eq!(kind(path, "application/fhir+json; fhirVersion=4.0"), fhir);
        assert_eq!(kind(path, "application/json"), plain);
        assert_eq!(kind(&format!("{path}?_format=json"), "text/html"), fhir);
        assert_eq!(kind(&format!("{path}?_format=application/json"), "text/html"), plain);
        refused(
            &server.send("GET", path, &[("accept", "application/fhir+xml")], b""),
            406,
            "not-supported",
            "not_acceptable",
        );
        refused(&server.get(&format!("{path}?_format=xml")), 406, "not-supported", "not_acceptable");
    }
    refused(&server.get("/fhir/Patient/p1.0"), 404, "not-supported", "not_found");
    let post = server.send("POST", "/fhir/Location", &[], b"{}");
    refused(&post, 405, "not-supported", "method_not_allowed");
    assert_eq!(post.header("allow"), Some("GET, HEAD"));
    let statement = server.get("/fhir/metadata").expect(200);
    assert_eq!(
        (&statement["fhirVersion"], &statement["implementation"]["url"]),
        (&json!("4.0.1"), &json!(format!("{URL}/fhir")))
    );
    let kinds: Vec<_> =
        statement["rest"][0]["resource"].as_array().unwrap().iter().map(|r| r["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Location", "Schedule", "Slot", "Appointment", "Immunization"]);
}

/// Page by page, each once, whatever is asked for; how many have a status is told once.
#[test]
fn slots_and_schedules_are_told_in_pages() {
    let server = server("");
    server.post("/v1/bookings", &claims(&[claim("p1.0", "s1.2")])).expect(201);
    for (path, start, total, once) in [
        ("/fhir/Slot", "?schedule.actor=c1,.phc.u2,..n2&_count=2", 9, false),
        ("/fhir/Slot", "?schedule.actor=c1,.phc.u2,..n2&status=free&_count=3", 8, true),
        ("/fhir/Slot", "?schedule.actor=c1,.phc.u2&status=free,busy&_count=1", 6, true),
        ("/fhir/Schedule", "?actor=c1,.phc.u2,..n2&_count=1", 3, false),
    ] {
        let (mut next, mut told, mut first) = (Some(start.to_owned()), Vec::new(), true);
        while let Some(query) = next.take() {
            let reply = server.get(&format!("{path}{query}"));
            let page = reply.expect(200);
            told.extend(ids(&page));
            let expected = if first || !once { json!(total) } else { Value::Null };
            assert_eq!(page["total"], expected, "{path}{query}");
            first = false;
            let link = page["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next");
            next = link
                .map(|link| link["url"].as_str().unwrap().strip_prefix(&format!("{URL}{path}")).unwrap().to_owned());
            let header = next.as_ref().map(|next| format!("<{URL}{path}{next}>; rel=\"next\""));
            assert_eq!(reply.header("link").map(str::to_owned), header);
        }
        let (all, _) = start.split_once("&_count").unwrap();
        let whole = ids(&server.get(&format!("{path}{all}")).expect(200));
        assert_eq!((whole.len(), told), (total, whole), "{path}{start}");
        let none = server.get(&format!("{path}{all}&_count=0")).expect(200);
        assert_eq!((&none["total"], ids(&none).len(), none["link"].as_array().unwrap().len()), (&json!(total), 0, 1));
    }
}

/// Fifty names of sixty-four letters are more than is kept as it stands, but their answer is kept.
#[test]
fn the_answer_to_a_long_query_is_kept_too() {
    let server = server("[search]\nstaleness_ms = 60000\n");
    let names: Vec<_> = (10..60).map(|n| format!("{}{n}", "s".repeat(62))).collect();
    let query =
        |last: &str| format!("/fhir/Slot?schedule={},{last}&schedule.actor={}", names[1..].join(","), names.join(","));
    for last in ["s-1", "s-1", "s3"] {
        let path = query(last);
        assert!(path.len() > 6000);
        server.get(&path).expect(200);
    }
    let page = server.get("/metrics");
    let answered = |source: &str| {
        let name = format!("berth_fhir_answers_total{{kind=\"search\",source=\"{source}\"}} ");
        page.text().lines().find_map(|line| line.strip_prefix(&name)).expect("the metric is there").to_owned()
    };
    assert_eq!((answered("rendered"), answered("cache")), ("2".to_owned(), "1".to_owned()));
}

/// Without an address of its own a server says none, and nothing is made up from what a client sent.
#[test]
fn without_a_public_address_links_are_paths() {
    let server = Server::start();
    server.add_places();
    let bundle = server.send("GET", "/fhir/Location", &[("host", "evil.example")], b"").expect(200);
    assert_eq!(bundle["link"][0]["url"], "/fhir/Location");
    assert!(bundle["entry"][0].get("fullUrl").is_none() && !bundle.to_string().contains("evil"));
    for path in ["/smart/$bulk-publish", "/smart/locations/27/0.ndjson", "/smart/slots/27/0.ndjson"] {
        let nothing = server.get(path);
        refused(&nothing, 404, "not-supported", "not_found");
        assert!(nothing.text().contains("public_url"), "{path}: {}", nothing.text());
    }
    let metadata = server.get("/fhir/metadata").expect(200);
    assert!(metadata["implementation"].get("url").is_none());
}
