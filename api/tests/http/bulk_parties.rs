//! Parties with what is known of each, by lines: a repeat makes nobody twice, and what was said is what is judged.

use serde_json::{Value, json};

use crate::server::{Server, lines};

fn send(server: &Server, bearer: &str, key: Option<&str>, body: &[Value]) -> (Vec<Value>, Value) {
    let bearer = format!("Bearer {bearer}");
    let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    let body = body.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let reply = server.send("POST", "/v1/bulk/parties", &headers, body.as_bytes());
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")), "{}", reply.text());
    let mut told = lines(reply.text());
    let end = told.pop().expect("there is a last line");
    (told, end)
}

#[test]
fn a_line_makes_a_party_with_what_is_known_of_it_and_a_repeat_makes_nobody() {
    let server = Server::start();
    let body = [
        json!({"birth_year": 1975, "cohorts": ["frontline"], "doses": 1, "last_product": "covishield", "last_dose_on": "2021-03-01"}),
        json!({"birth_year": 1800}),
        json!({"key": "row-3"}),
        json!({"cohorts": ["nobody"]}),
        json!({"doses": 0, "last_product": "covishield"}),
        json!({"name": "somebody"}),
        json!([1]),
        json!({"key": "bad key"}),
        json!({"birth_year": 1990, "doses": 1, "last_product": "covaxin", "last_dose_on": "2999-01-01"}),
        json!({"birth_year": 1990}),
    ];
    let (told, end) = send(&server, "admin-key", Some("move-1"), &body);
    assert_eq!(end, json!({"end": true, "lines": 10, "done": 3, "repeated": 0, "refused": 7}), "{told:?}");
    let status: Vec<_> = told.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(status, [201, 400, 201, 400, 400, 400, 400, 400, 400, 201]);
    assert_eq!(
        (&told[0]["party"], &told[2]["key"], &told[9]["party"]),
        (&json!("p1.0"), &json!("row-3"), &json!("p1.2"))
    );
    let known = server.read("/v1/parties/p1.0/facts").expect(200);
    let expected = json!({
        "party": "p1.0", "birth_year": 1975, "cohorts": ["frontline"], "doses": 1,
        "last_product": "covishield", "last_dose_on": "2021-03-01",
    });
    assert_eq!(known, expected);
    let may = server.read("/v1/parties/p1.0/eligibility?product=covaxin&dose=2").expect(200);
    assert_eq!(may["rule"], "same_product");

    // The whole again, after a crash too, and with members in another order: nobody more.
    let server = server.kill_and_restart();
    let (again, end) = send(&server, "admin-key", Some("move-1"), &body);
    assert_eq!(end["repeated"], 3);
    assert_eq!((&end["done"], &again[0]["replayed"], &again[0]["party"]), (&json!(3), &json!(true), &json!("p1.0")));
    server.read("/v1/parties/p1.3/facts").expect_problem(404, "unknown_party");
    // Another line under a key that was used is no repeat.
    let (conflict, _) = send(&server, "admin-key", None, &[json!({"key": "row-3", "birth_year": 1990}), json!({})]);
    assert_eq!(conflict[0]["problem"]["code"], "idempotency_conflict");
    assert_eq!(conflict[1]["problem"]["code"], "idempotency_key_missing");

    // A platform says who they are, and not what they have had.
    let (by_platform, end) =
        send(&server, "platform-key", Some("k"), &[json!({"birth_year": 1980}), json!({"doses": 1})]);
    assert_eq!((&by_platform[0]["party"], &by_platform[1]["problem"]["code"]), (&json!("p1.3"), &json!("forbidden")));
    assert_eq!(end["refused"], 1);
}
