//! The OpenAPI document: put together from the router's table, which says which paths, methods, roles and body types there
//! are, and the files of `api/openapi/`, which say what they mean. So the document cannot name a route that is not there,
//! and what holds of every route is written once, here.
//!
//! `docs/openapi.json` is what comes out, checked in for whoever wants it without a server; a test holds it against this.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::access::Role;
use crate::problem::Code;
use crate::router::{Endpoint, TABLE};

pub(crate) mod page;

/// One file for each kind of thing asked: paths, and the schemas they alone use.
const PIECES: [(&str, &str); 21] = [
    ("search", include_str!("../openapi/search.json")),
    ("booking", include_str!("../openapi/booking.json")),
    ("sessions", include_str!("../openapi/sessions.json")),
    ("sessions", include_str!("../openapi/session-bookings.json")),
    ("booking", include_str!("../openapi/group.json")),
    ("parties", include_str!("../openapi/parties.json")),
    ("parties", include_str!("../openapi/history.json")),
    ("door", include_str!("../openapi/door.json")),
    ("waitlist", include_str!("../openapi/waitlist.json")),
    ("doses", include_str!("../openapi/doses.json")),
    ("supply", include_str!("../openapi/supply.json")),
    ("programme", include_str!("../openapi/programme.json")),
    ("programme", include_str!("../openapi/invitations.json")),
    ("catalogue", include_str!("../openapi/catalogue.json")),
    ("lotteries", include_str!("../openapi/lotteries.json")),
    ("certificates", include_str!("../openapi/certificates.json")),
    ("people", include_str!("../openapi/accounts.json")),
    ("people", include_str!("../openapi/people.json")),
    ("fhir", include_str!("../openapi/fhir.json")),
    ("access", include_str!("../openapi/access.json")),
    ("operations", include_str!("../openapi/operations.json")),
];

/// Title, tags, and what all files share.
const BASE: &str = include_str!("../openapi/base.json");

/// What any request may be told.
const ALWAYS: [Code; 5] =
    [Code::NotAcceptable, Code::MalformedRequest, Code::RateLimited, Code::Overloaded, Code::Draining];
/// Who shows a credential, besides.
const WITH_CREDENTIAL: [Code; 13] = [
    Code::Unauthenticated,
    Code::InvalidKey,
    Code::KeyExpired,
    Code::InvalidToken,
    Code::TokenExpired,
    Code::TokenRevoked,
    Code::Forbidden,
    Code::AuditUnavailable,
    Code::JournalStopped,
    Code::AckUnavailable,
    Code::RedisStopped,
    Code::RedisLate,
    Code::IdempotencyInFlight,
];
/// Who sends a body, besides.
const WITH_BODY: [Code; 8] = [
    Code::MalformedJson,
    Code::UnsupportedMediaType,
    Code::BodyTimeout,
    Code::BodyTooLarge,
    Code::IdempotencyKeyMissing,
    Code::IdempotencyKeyMalformed,
    Code::IdempotencyConflict,
    Code::JournalFull,
];

/// The document in the two forms in which it is served.
pub(crate) struct Document {
    /// `GET /openapi.json`
    pub(crate) json: Bytes,
    /// `GET /docs`
    pub(crate) page: Bytes,
}

/// The document as it is served.
pub(crate) fn rendered() -> Document {
    let document = document();
    Document { json: text(&document).into(), page: page::render(&document).into() }
}

/// The document as it is served, printed and checked in.
pub(crate) fn text(document: &Value) -> String {
    let mut text = serde_json::to_string_pretty(document).expect("a document has only string keys");
    text.push('\n');
    text
}

/// The whole document.
///
/// # Panics
/// If a file of `api/openapi/` is no JSON of the right shape, or lacks a route of the table: a test calls this.
pub(crate) fn document() -> Value {
    let mut document = parse("base", BASE);
    let mut paths = Map::new();
    for (tag, text) in PIECES {
        let piece = parse(tag, text);
        for (path, item) in members(&piece, "paths") {
            for (method, operation) in item.as_object().into_iter().flatten() {
                let endpoint =
                    TABLE.iter().find(|e| e.template == path && e.method.as_str().eq_ignore_ascii_case(method));
                let endpoint = endpoint.unwrap_or_else(|| panic!("{tag}: there is no route {method} {path}"));
                let slot = object(paths.entry(path).or_insert_with(|| json!({})));
                slot.insert(method.clone(), complete(operation.clone(), endpoint, tag));
            }
        }
        for kind in ["schemas", "parameters", "responses"] {
            let all = object(object(&mut document["components"]).entry(kind).or_insert_with(|| json!({})));
            for (name, value) in members(&piece, kind) {
                assert!(all.insert(name.to_owned(), value.clone()).is_none(), "{tag}: {kind} {name} is there twice");
            }
        }
    }
    for endpoint in TABLE {
        let method = endpoint.method.as_str().to_ascii_lowercase();
        let there = paths.get(endpoint.template).is_some_and(|item| item.get(&method).is_some());
        assert!(there, "no file of api/openapi tells of {method} {}", endpoint.template);
    }
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    document["components"]["schemas"]["Code"] =
        json!({"type": "string", "enum": codes, "description": "Why. Stable; there may be more one day."});
    document["paths"] = paths.into();
    document
}

fn parse(name: &str, text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("api/openapi/{name}.json: {error}"))
}

fn members<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = (&'v str, &'v Value)> {
    value.get(name).and_then(Value::as_object).into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("the files of api/openapi have objects here")
}

/// Adds what holds of every operation like this one: who may ask, headers, refusals.
fn complete(mut operation: Value, endpoint: &Endpoint, tag: &str) -> Value {
    let operation_members = object(&mut operation);
    let keyed = operation_members.remove("x-berth-key").is_some();
    let posts = endpoint.method == hyper::Method::POST || keyed;
    operation_members.insert("tags".to_owned(), json!([tag]));
    let key_optional = operation_members.remove("x-berth-key-optional").is_some();
    let roles: Vec<_> = endpoint.roles.iter().map(ToString::to_string).collect();
    let security = if roles.is_empty() { json!([]) } else { json!([{"bearer": []}]) };
    operation_members.insert("security".to_owned(), security);
    operation_members.insert("x-berth-roles".to_owned(), json!(roles));

    let parameters = operation_members.entry("parameters").or_insert_with(|| json!([]));
    let parameters = parameters.as_array_mut().expect("parameters are a list");
    let mut shared = |name: &str| parameters.push(json!({"$ref": format!("#/components/parameters/{name}")}));
    if posts && !key_optional {
        shared("IdempotencyKey");
    }
    if !roles.is_empty() {
        shared("BerthAck");
    }
    if endpoint.roles.contains(&Role::Platform) {
        shared("BerthAccount");
    }

    let mut codes: Vec<Code> = ALWAYS.to_vec();
    if !roles.is_empty() {
        codes.extend(WITH_CREDENTIAL);
    }
    if posts {
        codes.extend(WITH_BODY);
    }
    let own = operation_members.get("x-berth-codes").and_then(Value::as_array).cloned().unwrap_or_default();
    for code in own {
        let known = Code::ALL.iter().find(|known| code == known.as_str());
        codes.push(*known.unwrap_or_else(|| panic!("{} has the unknown code {code}", endpoint.template)));
    }
    let mut by_status: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status().as_str().to_owned()).or_default().insert(code.as_str());
    }
    let responses = object(operation_members.get_mut("responses").expect("an operation has responses"));
    for status in by_status.keys() {
        let name = if crate::fhir::speaks(endpoint.template) { "Outcome" } else { "Problem" };
        let problem = || json!({"$ref": format!("#/components/responses/{name}")});
        responses.entry(status.clone()).or_insert_with(problem);
    }
    operation_members.insert("x-berth-codes".to_owned(), json!(by_status));
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_each_route_and_nothing_else() {
        let document = document();
        let mut told = 0;
        for (path, item) in members(&document, "paths") {
            for (method, operation) in item.as_object().unwrap() {
                told += 1;
                let endpoint =
                    TABLE.iter().find(|e| e.template == path && e.method.as_str().eq_ignore_ascii_case(method));
                let endpoint = endpoint.unwrap_or_else(|| panic!("{method} {path}"));
                let takes = operation.pointer("/requestBody/content").and_then(Value::as_object);
                for media in takes.into_iter().flat_map(Map::keys) {
                    assert_eq!(media, endpoint.takes.essence(), "{method} {path}");
                }
                let placeholders: Vec<_> =
                    path.split('{').skip(1).map(|rest| rest.split_once('}').unwrap().0).collect();
                let parameters = operation["parameters"].as_array().unwrap();
                let resolved = parameters.iter().map(|p| resolve(&document, p));
                let in_path: Vec<_> = resolved.filter(|p| p["in"] == "path").map(|p| p["name"].clone()).collect();
                assert_eq!(in_path, placeholders, "{method} {path}");
            }
        }
        assert_eq!(told, TABLE.len());
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        fn walk<'d>(document: &'d Value, value: &'d Value, ids: &mut Vec<&'d str>) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(_)) = members.get("$ref") {
                        assert!(!resolve(document, value).is_null(), "{value}");
                    }
                    if members.contains_key("responses") && members.contains_key("operationId") {
                        ids.push(members["operationId"].as_str().unwrap());
                    }
                    members.values().for_each(|v| walk(document, v, ids));
                }
                Value::Array(items) => items.iter().for_each(|v| walk(document, v, ids)),
                _ => {}
            }
        }
        let document = document();
        let mut ids = Vec::new();
        walk(&document, &document, &mut ids);
        assert_eq!(ids.len(), TABLE.len());
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), TABLE.len(), "{ids:?}");
    }

    fn resolve<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(to) => document.pointer(to.strip_prefix('#').unwrap()).unwrap_or(&Value::Null),
            None => value,
        }
    }
}
