//! FHIR: bookings and doses, for who may read them at `/v1`, and nobody else.

use serde_json::{Value, json};

use crate::client::Reply;
use crate::door::{at_the_door, booked_today, server_under, text, without_grace};
use crate::doses::recorded;
use crate::server::{Server, claim, claims, lines};
use crate::tokens::Issuer;

/// The id of a code: a check symbol that FHIR does not take is spelled, as docs/fhir.md says.
pub(crate) fn fhir_id(code: &str) -> String {
    let spelled = [("*", ".a"), ("~", ".b"), ("$", ".c"), ("=", ".d")];
    let check = spelled.iter().find_map(|(symbol, id)| Some(format!("{}{id}", code.strip_suffix(symbol)?)));
    check.unwrap_or_else(|| code.to_owned())
}

fn resources(bundle: &Value) -> Vec<Value> {
    bundle["entry"].as_array().into_iter().flatten().map(|entry| entry["resource"].clone()).collect()
}

fn patient(party: &str) -> Value {
    json!({"type": "Patient", "identifier": {"system": "urn:berth:party", "value": party}})
}

/// The code of a refusal.
fn refused(reply: &Reply, status: u16) -> String {
    let outcome = reply.expect(status);
    outcome["issue"][0]["details"]["coding"][0]["code"].as_str().unwrap().to_owned()
}

#[test]
fn a_booking_is_an_appointment_in_every_state() {
    let (server, slots) = Server::with_slots(&[5, 5]);
    let status = |party: &str| {
        let found = server.read(&format!("/fhir/Appointment?patient=Patient/{party}")).expect(200);
        resources(&found).iter().map(|a| text(a, "status").to_owned()).collect::<Vec<_>>().join(" ")
    };
    let book = |party: &str| {
        text(&server.post("/v1/bookings", &claims(&[claim(party, &slots[0])])).expect(201), "hold").to_owned()
    };
    let hold = |party: &str| {
        text(&server.post("/v1/holds", &claims(&[claim(party, &slots[1])])).expect(201), "hold").to_owned()
    };
    let post = |path: String, body: &Value| server.post(&path, body).expect(200);
    hold("p1.0");
    assert_eq!(status("p1.0"), "pending");
    post(format!("/v1/holds/{}/release", hold("p1.1")), &Value::Null);
    assert_eq!(status("p1.1"), "cancelled");
    let booked = book("p1.2");
    assert_eq!(status("p1.2"), "booked");
    let moved = post(format!("/v1/bookings/{booked}/move"), &json!({"slot": slots[1]}));
    assert_eq!(status("p1.2"), "booked cancelled", "the newest first");
    post(format!("/v1/bookings/{}/cancel", text(&moved, "booking")), &Value::Null);
    assert_eq!(status("p1.2"), "cancelled cancelled");

    let code = book("p1.3");
    let one = server.read(&format!("/fhir/Appointment/{}", fhir_id(&code)));
    assert_eq!(one.header("content-type"), Some("application/fhir+json"));
    let (one, read) = (one.expect(200), server.read(&format!("/v1/bookings/{code}")).expect(200));
    assert_eq!(one["identifier"], json!([{"system": "urn:berth:booking", "value": code}]));
    assert_eq!((&one["start"], &one["end"]), (&read["start"], &read["end"]));
    assert_eq!(one["slot"], json!([{"reference": format!("Slot/{}", slots[0])}]));
    assert_eq!(one["participant"][0]["actor"], patient("p1.3"));
    assert_eq!(one["participant"][1]["actor"], json!({"reference": "Location/c1"}));
    // What its holder says at the door is for the door.
    let digits = text(&read, "check_in_code");
    assert!(!one.to_string().replace(&code, "").contains(&format!("\"{digits}\"")), "{one}");
    assert!(one.get("cancelationReason").is_none());
    let old = server.read(&format!("/fhir/Appointment/{}", fhir_id(&booked))).expect(200);
    assert_eq!(old["cancelationReason"]["text"], "moved to another appointment");

    for (query, expected) in [
        ("patient=p1.2&status=cancelled&_count=1".to_owned(), 1),
        ("patient=urn:berth:party%7Cp1.2".to_owned(), 2),
        ("patient.identifier=urn:berth:party%7Cp1.2".to_owned(), 2),
        ("patient=p1.2&status=booked,fulfilled".to_owned(), 0),
        (format!("patient=p1.3&date={}", crate::server::tomorrow()), 1),
        (format!("patient=p1.3&date=lt{}", crate::server::tomorrow()), 0),
    ] {
        let found = server.read(&format!("/fhir/Appointment?{query}")).expect(200);
        assert_eq!(resources(&found).len(), expected, "{query}");
    }
    let first = server.read("/fhir/Appointment?patient=p1.2&_count=1").expect(200);
    assert!(first.get("total").is_none(), "not known yet");
    let next = first["link"][1]["url"].as_str().unwrap();
    let second = server.read(next).expect(200);
    assert_ne!(resources(&first)[0]["id"], resources(&second)[0]["id"]);
    assert_eq!(second["link"].as_array().unwrap().len(), 1);
    for (query, status, code) in [
        ("", 400, "malformed_request"),
        ("?patient=p1.1&patient.identifier=p1.2", 400, "malformed_request"),
        ("?patient=p1.1,p1.2", 400, "malformed_id"),
        ("?patient=p1.1&status=done", 400, "malformed_request"),
        ("?patient=p1.1&_after=x", 400, "malformed_request"),
        ("?patient=p1.99", 404, "unknown_party"),
        ("/0000-00000-0000x", 400, "malformed_id"),
    ] {
        assert_eq!(refused(&server.read(&format!("/fhir/Appointment{query}")), status), code, "{query}");
    }
    assert_eq!(refused(&server.get("/fhir/Appointment?patient=p1.1"), 401), "unauthenticated");
}

#[test]
fn who_comes_and_who_does_not_is_an_appointment_too() {
    // Without a grace: in the first minutes of a day its windows have only just opened.
    let dir = tempfile::tempdir().unwrap();
    let server = server_under(&without_grace(dir.path()));
    let booked = booked_today(&server, &["p1.0", "p1.1"]);
    let one =
        |booking: &Value| server.read(&format!("/fhir/Appointment/{}", fhir_id(text(booking, "booking")))).expect(200);
    let path = |booking: &Value, what: &str| format!("/v1/bookings/{}/{what}", text(booking, "booking"));
    let code = json!({"code": text(&booked[0], "check_in_code")});
    at_the_door(&server, "c1", "in", &path(&booked[0], "check-in"), &code).expect(200);
    assert_eq!(one(&booked[0])["status"], "checked-in");
    at_the_door(&server, "c1", "done", &path(&booked[0], "complete"), &Value::Null).expect(200);
    assert_eq!(one(&booked[0])["status"], "fulfilled");
    at_the_door(&server, "c1", "missed", &path(&booked[1], "no-show"), &Value::Null).expect(200);
    assert_eq!(one(&booked[1])["status"], "noshow");
    let operator = |centre: &str| {
        let bearer = format!("Bearer operator-{centre}");
        let path = format!("/fhir/Appointment/{}", fhir_id(text(&booked[0], "booking")));
        server.send("GET", &path, &[("authorization", &bearer)], b"")
    };
    operator("c1").expect(200);
    assert_eq!(refused(&operator("c2"), 404), "unknown_booking");
}

#[test]
fn a_dose_is_an_immunization_as_it_stands_now() {
    let (server, number) = recorded();
    let path = format!("/fhir/Immunization/{}", fhir_id(&number));
    let dose = server.read(&format!("/v1/doses/{number}")).expect(200);
    let one = server.read(&path).expect(200);
    let expected = json!({"resourceType": "Immunization", "id": fhir_id(&number),
        "identifier": [{"system": "urn:berth:dose", "value": number}], "status": "completed",
        "vaccineCode": one["vaccineCode"], "patient": patient("p1.0"),
        "occurrenceDateTime": dose["given_at"], "recorded": dose["recorded_at"], "primarySource": true,
        "location": {"reference": "Location/c1"}, "lotNumber": "4120Z001",
        "site": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActSite", "code": "LA", "display": "left arm"}], "text": "left_arm"},
        "performer": [{"actor": {"identifier": {"system": "urn:berth:staff", "value": "nurse-17"}}}],
        "protocolApplied": [{"doseNumberPositiveInt": 1, "seriesDosesPositiveInt": 2}]});
    assert_eq!(one, expected);
    let coding = |system: &str, code: &str| json!({"system": system, "code": code, "display": "Covishield"});
    let codings = [coding("http://hl7.org/fhir/sid/cvx", "210"), coding("urn:berth:product", "covishield")];
    assert_eq!(one["vaccineCode"], json!({"coding": codings, "text": "Covishield"}));
    let found = server.read("/fhir/Immunization?patient=Patient/p1.0").expect(200);
    assert_eq!((resources(&found), &found["total"]), (vec![one], &json!(1)));

    let admin = |path: String, body: Value| {
        let key = server.fresh_key();
        let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", key.as_str())];
        server.send("POST", &path, &headers, body.to_string().as_bytes()).expect(200)
    };
    admin(
        format!("/v1/doses/{number}/correct"),
        json!({"reason": "wrong_batch", "batch": "4120Z002", "site": "thigh"}),
    );
    let corrected = server.read(&path).expect(200);
    assert_eq!((&corrected["lotNumber"], &corrected["site"]), (&json!("4120Z002"), &json!({"text": "thigh"})));
    admin(format!("/v1/doses/{number}/revoke"), json!({"reason": "wrong_person"}));
    assert_eq!(server.read(&path).expect(200)["status"], "entered-in-error");
    let count =
        |query: &str| resources(&server.read(&format!("/fhir/Immunization?patient=p1.0{query}")).expect(200)).len();
    assert_eq!(
        (count("&status=completed"), count("&status=entered-in-error"), count("&_count=0"), count("&date=ge2999")),
        (0, 1, 0, 0)
    );
    for (rest, status, code) in [
        ("?patient=p1.0&status=not-done", 400, "malformed_request"),
        ("?patient=p1.99", 404, "unknown_party"),
        ("", 400, "malformed_request"),
        ("/x", 400, "malformed_id"),
    ] {
        assert_eq!(refused(&server.read(&format!("/fhir/Immunization{rest}")), status), code, "{rest}");
    }
}

/// A page begins behind the dose that the last one ended with, whatever has become of that meanwhile.
#[test]
fn doses_are_told_in_pages() {
    let (server, first) = recorded();
    let admin = |path: String, body: Value| {
        let key = server.fresh_key();
        let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", key.as_str())];
        server.send("POST", &path, &headers, body.to_string().as_bytes()).expect(200)
    };
    let again = |number: &str, key: &str| {
        admin(format!("/v1/doses/{number}/revoke"), json!({"reason": "wrong_person"}));
        let slot = server.get("/v1/sessions/today").expect(200)["slots"][0]["slot"].clone();
        let walk_in = json!({"party": "p1.0", "slot": slot, "dose": 1});
        let come = at_the_door(&server, "c1", &format!("w{key}"), "/v1/walk-ins", &walk_in).expect(201);
        let complete = format!("/v1/bookings/{}/complete", text(&come, "booking"));
        text(&at_the_door(&server, "c1", &format!("c{key}"), &complete, &Value::Null).expect(200), "dose_record")
            .to_owned()
    };
    let second = again(&first, "1");
    let third = again(&second, "2");
    let page = |query: &str| server.read(query).expect(200);
    let ids = |bundle: &Value| resources(bundle).iter().map(|one| text(one, "id").to_owned()).collect::<Vec<_>>();
    let next = |bundle: &Value| bundle["link"][1]["url"].as_str().map(str::to_owned);
    let one = page("/fhir/Immunization?patient=p1.0&_count=1");
    let two = page(&next(&one).unwrap());
    let three = page(&next(&two).unwrap());
    let told = [ids(&one), ids(&two), ids(&three)].concat();
    assert_eq!(told, [&first, &second, &third].map(|number| fhir_id(number)));
    assert_eq!((&one["total"], next(&three)), (&json!(3), None));
    // The last that is completed is a page of its own; it ends, and so does the list behind it.
    let completed = page("/fhir/Immunization?patient=p1.0&status=completed&_count=1");
    assert_eq!((ids(&completed), next(&completed)), (vec![fhir_id(&third)], None));
    let wrong = page("/fhir/Immunization?patient=p1.0&status=entered-in-error&_count=1");
    let behind = page(&next(&wrong).unwrap());
    assert_eq!((ids(&wrong), ids(&behind), next(&behind)), (vec![fhir_id(&first)], vec![fhir_id(&second)], None));
    let gone = server.read("/fhir/Immunization?patient=p1.0&_after=x");
    assert_eq!(refused(&gone, 400), "malformed_request");
}

/// Whoever reads somebody is on record, by whichever door they came; and so is whoever was refused.
#[test]
fn the_audit_log_names_whom_a_search_was_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.ndjson");
    let issuer = Issuer::new();
    let server = issuer.server_with(&format!("[audit]\nfile = {file:?}\nsync_ms = 0\n"));
    server.add_places();
    server.add_parties(5);
    let slots = server.add_slots("s", &[5]);
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.2", &slots[0])])).expect(201);
    let id = fhir_id(text(&booked, "hold"));
    server.read("/fhir/Appointment?patient=Patient/p1.2").expect(200);
    server.read(&format!("/fhir/Appointment/{id}")).expect(200);
    server.read("/fhir/Immunization?patient=urn:berth:party%7Cp1.3").expect(200);
    let token = issuer.token("asha", &json!({"parties": ["p1.1"]}));
    let bearer = format!("Bearer {token}");
    let citizen = |path: &str| server.send("GET", path, &[("authorization", &bearer)], b"");
    citizen("/fhir/Appointment?patient=p1.1").expect(200);
    assert_eq!(refused(&citizen("/fhir/Appointment?patient=p1.2"), 404), "unknown_party");
    assert_eq!(refused(&citizen(&format!("/fhir/Appointment/{id}")), 404), "unknown_booking");
    server.get("/fhir/Location").expect(200);
    server.terminate();
    let _home = server.ended();
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(!log.contains(text(&booked, "hold")) && !log.contains(&id), "a code lets whoever reads the log act: {log}");
    let lines = lines(&log);
    let told = lines.iter().filter(|line| text(line, "route").starts_with("/fhir"));
    let told: Vec<_> = told.map(|line| (text(line, "route"), text(line, "party"), text(line, "outcome"))).collect();
    assert_eq!(
        told,
        [
            ("/fhir/Appointment", "p1.2", "ok"),
            ("/fhir/Appointment/{appointment}", "p1.2", "ok"),
            ("/fhir/Immunization", "p1.3", "ok"),
            ("/fhir/Appointment", "p1.1", "ok"),
            ("/fhir/Appointment", "p1.2", "unknown_party"),
            ("/fhir/Appointment/{appointment}", "p1.2", "unknown_booking"),
        ]
    );
}
