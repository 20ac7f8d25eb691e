//! Whom and what each role reaches of people and doses: its own, another's, of its centre, of another centre.

use serde_json::{Value, json};

use crate::doses::today_walk_in;
use crate::fhir_people::fhir_id;
use crate::people::{OPERATOR, citizen, home_with, person};
use crate::server::{ADMIN, PLATFORM, sha256};

/// Columns: the person's own account, another's, an operator of the centre, one of another centre, a platform, an admin.
type Row = (&'static str, &'static str, Value, [u16; 6]);

/// Bodies are such that who may ask changes nothing; but for the last, which shows that it could.
fn rows() -> Vec<Row> {
    let (none, empty) = (Value::Null, json!({}));
    let name = json!({"name": "Asha Rao"});
    vec![
        ("GET", "/v1/parties/{p}/doses", none.clone(), [200, 404, 404, 404, 200, 200]),
        ("GET", "/v1/doses/{d}", none.clone(), [200, 404, 200, 404, 200, 200]),
        // In FHIR's words neither more nor less.
        ("GET", "/fhir/Immunization?patient=Patient/{p}", none.clone(), [200, 404, 404, 404, 200, 200]),
        ("GET", "/fhir/Immunization/{f}", none.clone(), [200, 404, 200, 404, 200, 200]),
        ("GET", "/fhir/Appointment?patient=Patient/{p}", none.clone(), [200, 404, 403, 403, 200, 403]),
        ("GET", "/fhir/Appointment/{a}", none.clone(), [200, 404, 200, 404, 200, 403]),
        ("GET", "/v1/bookings/{b}", none.clone(), [200, 404, 200, 404, 200, 403]),
        ("POST", "/v1/doses/{d}/correct", empty.clone(), [403, 403, 400, 404, 403, 400]),
        ("POST", "/v1/doses/{d}/revoke", empty.clone(), [403, 403, 400, 404, 403, 400]),
        ("POST", "/v1/doses/{d}/adverse-events", empty.clone(), [403, 403, 400, 404, 403, 400]),
        ("GET", "/v1/parties/{p}/facts", none.clone(), [200, 404, 403, 403, 200, 200]),
        ("GET", "/v1/parties/{p}/bookings", none.clone(), [200, 404, 403, 403, 200, 403]),
        ("GET", "/v1/parties/{p}/history", none.clone(), [200, 404, 403, 403, 200, 403]),
        ("GET", "/v1/people/{p}", none.clone(), [403, 403, 404, 404, 200, 200]),
        ("PATCH", "/v1/people/{p}", json!({"name": 5}), [403, 403, 403, 403, 400, 400]),
        ("POST", "/v1/people/{p}/merge", empty.clone(), [403, 403, 403, 403, 400, 400]),
        ("POST", "/v1/people/{p}/account-phone", empty.clone(), [403, 403, 403, 403, 400, 400]),
        ("POST", "/v1/people/{p}/transfer", empty.clone(), [403, 403, 403, 403, 400, 400]),
        ("POST", "/v1/account/phone", empty.clone(), [400, 400, 403, 403, 403, 403]),
        ("POST", "/v1/people/find", empty.clone(), [403, 403, 400, 400, 400, 400]),
        ("POST", "/v1/people", empty, [403, 403, 422, 422, 422, 422]),
        ("GET", "/v1/bulk/people", none.clone(), [403, 403, 403, 403, 403, 200]),
        ("GET", "/v1/account", none.clone(), [200, 200, 403, 403, 403, 403]),
        ("PATCH", "/v1/account/members/{p}", name, [200, 404, 403, 403, 403, 403]),
        ("POST", "/v1/account/members/{p}/transfer", none.clone(), [201, 404, 403, 403, 403, 403]),
        ("POST", "/v1/account/transfers", json!({"party": "{p}", "code": "0"}), [409, 409, 403, 403, 403, 403]),
        ("DELETE", "/v1/people/{p}", none.clone(), [403, 403, 403, 403, 0, 0]),
        // From the right, so that it is there for those who may not.
        ("DELETE", "/v1/account/members/{p}", none, [200, 404, 403, 403, 403, 403]),
    ]
}

#[test]
fn each_role_reaches_its_own_people_and_doses_and_no_others() {
    let elsewhere = format!(
        "[[keys]]\nrole = 'operator'\nname = 'elsewhere'\nsha256 = '{}'\ncentres = ['c2']",
        sha256("elsewhere-key")
    );
    let server = home_with(&elsewhere).start();
    server.add_places();
    let (own, other) = (citizen(&server, "+919876543210"), citizen(&server, "+919876543211"));
    let party = own.register(&person("Asha Rao", "Z1"));
    let slot = today_walk_in(&server);
    let key = |secret: &str| format!("Bearer {secret}");
    let columns =
        [own.bearer.clone(), other.bearer.clone(), key(OPERATOR), key("elsewhere-key"), key(PLATFORM), key(ADMIN)];
    let ask = |bearer: &str, method: &str, path: &str, body: &Value| {
        let (body, key) = (if body.is_null() { String::new() } else { body.to_string() }, server.fresh_key());
        let headers = [("authorization", bearer), ("idempotency-key", &key), ("berth-reason", "test: the matrix")];
        server.send(method, path, &headers, body.as_bytes())
    };
    let came = ask(&columns[2], "POST", "/v1/walk-ins", &json!({"party": party, "slot": slot, "dose": 1})).expect(201);
    let complete = format!("/v1/bookings/{}/complete", came["booking"].as_str().unwrap());
    let done = ask(&columns[2], "POST", &complete, &json!({"batch": "B1"})).expect(200);
    let dose = done["dose_record"].as_str().unwrap();
    let booking = came["booking"].as_str().unwrap();
    for (method, path, body, expected) in rows() {
        let fill = |text: &str| {
            let text = text.replace("{p}", &party).replace("{d}", dose).replace("{b}", booking);
            text.replace("{f}", &fhir_id(dose)).replace("{a}", &fhir_id(booking))
        };
        let body = serde_json::from_str(&fill(&body.to_string())).unwrap();
        for (bearer, expected) in columns.iter().zip(expected).rev().filter(|(_, expected)| *expected != 0) {
            let reply = ask(bearer, method, &fill(path), &body);
            let column = columns.iter().position(|of| of == bearer).unwrap();
            assert_eq!(reply.status, expected, "{method} {path}, column {column}: {}", reply.text());
        }
    }
}
