//! The OpenAPI document: what is checked in is what is served, and its examples work.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::client::{connect, read_reply, request};
use crate::contract::{document, resolve, valid};
use crate::server::{Server, berth};

#[test]
fn what_is_checked_in_printed_and_served_is_one() {
    let printed = String::from_utf8(berth(&["openapi"]).output().unwrap().stdout).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let checked_in = std::fs::read_to_string(file).unwrap();
    assert!(printed == checked_in, "do: cargo run -p berth-api -- openapi > docs/openapi.json");
    let server = Server::start();
    let served = server.get("/openapi.json");
    assert_eq!((served.status, served.text()), (200, printed.as_str()));
    let page = server.send("GET", "/docs", &[("accept", "text/html")], b"");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(page.text().contains("/v1/holds/{hold}/confirm"));
}

/// Every example is of its schema, and every request for which there is one can be sent as it stands: in a campaign like
/// the demo's it is answered with a success. So is every operation that an answer's
/// links lead to.
#[test]
fn the_examples_work() {
    // Without one nothing is published.
    let server = Server::start_with("public_url = 'https://book.example.org'");
    let publish = |path: &str, line: &Value| server.publish(path, &line.to_string()).expect(200);
    publish("/v1/regions", &json!({"id": "21", "kind": "state", "name": "Maharashtra"}));
    publish("/v1/regions", &json!({"id": "395", "kind": "district", "name": "Mumbai", "parent": "21"}));
    publish("/v1/centres", &json!({"id": "c395-01", "name": "PHC", "district": "395", "pincode": "400001"}));
    publish("/v1/centres", &json!({"id": "c395-02", "name": "PHC", "district": "395", "pincode": "400001"}));
    let windows = json!([{"start": "09:00", "end": "11:00", "pools": {"dose1": 20}}]);
    let day = crate::server::tomorrow().to_string();
    let id = "c395-01-1";
    publish(
        "/v1/sessions",
        &json!({"id": id, "centre": "c395-01", "date": day, "product": "covishield", "windows": windows}),
    );
    server.add_parties(20);

    let mut worked = HashSet::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let mut tried = Tried { server: &server, worked: &mut worked };
            tried.operation(method, path, operation, &[]);
        }
    }
    // Those that need what only a link can tell them, or that would say no by right, are not among them.
    for id in [
        "searchAvailability",
        "hold",
        "confirmHold",
        "book",
        "readBooking",
        "cancelBooking",
        "readPartyBookings",
        "addParties",
    ] {
        assert!(worked.contains(id), "{id} was not tried: {worked:?}");
    }
}

struct Tried<'a> {
    server: &'a Server,
    worked: &'a mut HashSet<String>,
}

impl Tried<'_> {
    /// Sends the operation's example with these values, if it has one, and follows the answer's links.
    fn operation(&mut self, method: &str, path: &str, operation: &Value, given: &[(String, String)]) {
        let document = document();
        let id = operation["operationId"].as_str().unwrap();
        let Some(target) = target(document, path, operation, given) else { return };
        let mut body = Vec::new();
        let mut media = None;
        if let Some(content) = operation.pointer("/requestBody/content").and_then(Value::as_object) {
            let (name, content) = content.iter().next().unwrap();
            let Some(example) = content.get("example") else { return };
            valid(document, &content["schema"], example, id);
            let mut example = example.clone();
            // A date of the document is past one day.
            if let Some(date) = example.get_mut("date") {
                *date = json!(crate::server::tomorrow().to_string());
            }
            body = example.to_string().into_bytes();
            media = Some(name.as_str());
        }
        // Of people each step rests on the one before: people.rs goes through them; waitlist.rs has a programme with one, certificates.rs the
        // keys of certificates. That the
        // example is of its shape was seen here.
        let elsewhere = ["/v1/account", "/v1/people", "/v1/bulk/people", "/v1/waitlist", "/.well-known"];
        if elsewhere.iter().any(|of_people| path.starts_with(of_people)) {
            return;
        }
        let roles = operation["x-berth-roles"].as_array().unwrap();
        let key = self.server.fresh_key();
        let mut headers = vec![("connection", "close")];
        if roles.iter().any(|r| r == "platform") {
            headers.push(("authorization", "Bearer platform-key"));
        } else if !roles.is_empty() {
            headers.push(("authorization", "Bearer admin-key"));
        }
        if method != "get" {
            headers.push(("idempotency-key", if id == "hold" { "intent-1" } else { &key }));
        }
        if let Some(media) = media {
            headers.push(("content-type", media));
        }
        let method = method.to_ascii_uppercase();
        let mut stream = connect(self.server.address);
        std::io::Write::write_all(&mut stream, &request(&method, &target, &headers, &body)).unwrap();
        let reply = read_reply(&mut stream, false);
        crate::contract::check(&method, &target, &reply);
        assert!((200..300).contains(&reply.status), "{id}: {}", reply.text());
        let response = &operation["responses"][reply.status.to_string()];
        self.worked.insert(id.to_owned());
        let links = response.get("links").and_then(Value::as_object).into_iter().flatten();
        for link in links.map(|(_, link)| link) {
            let to = link["operationId"].as_str().unwrap();
            let told = reply.json();
            let values: Vec<_> = link["parameters"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, from)| {
                    let pointer = from.as_str().unwrap().strip_prefix("$response.body#").unwrap();
                    (name.clone(), told.pointer(pointer).unwrap().as_str().unwrap().to_owned())
                })
                .collect();
            let (method, path, operation) = named(document, to);
            // A hold is confirmed or given back, not both: who comes second is told so.
            let too_late = to == "releaseHold" && self.worked.contains("confirmHold");
            if !too_late && !self.worked.contains(to) {
                self.operation(method, path, operation, &values);
            }
        }
    }
}

/// The path and query of an operation's example.
fn target(document: &Value, path: &str, operation: &Value, given: &[(String, String)]) -> Option<String> {
    let mut target = path.to_owned();
    let mut query = Vec::new();
    for parameter in operation["parameters"].as_array().unwrap() {
        let parameter = resolve(document, parameter);
        let name = parameter["name"].as_str().unwrap();
        let given = given.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        let example = || parameter.get("example").map(|e| e.as_str().map_or_else(|| e.to_string(), str::to_owned));
        match parameter["in"].as_str().unwrap() {
            "path" => target = target.replace(&format!("{{{name}}}"), &given.or_else(example)?),
            "query" => query.extend(example().map(|value| format!("{name}={value}"))),
            _ => {}
        }
    }
    Some(if query.is_empty() { target } else { format!("{target}?{}", query.join("&")) })
}

fn named<'d>(document: &'d Value, id: &str) -> (&'d str, &'d str, &'d Value) {
    let paths = document["paths"].as_object().unwrap();
    let mut all = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(m, o)| (m.as_str(), path.as_str(), o)));
    all.find(|(_, _, operation)| operation["operationId"] == id).unwrap_or_else(|| panic!("no operation {id}"))
}
