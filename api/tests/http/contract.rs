//! Holds every answer that a test gets against the OpenAPI document: is the path and method there, does it tell of this
//! status and type, has the body the shape it says, is the code of a refusal one it names. A member that the document does
//! not tell of is a fault too, so the document stays whole.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::client::Reply;
use crate::server::berth;

/// What `berth openapi` prints.
pub(crate) fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let output = berth(&["openapi"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    })
}

/// The path's item and its template.
fn item<'d>(document: &'d Value, path: &str) -> Option<(&'d str, &'d Value)> {
    let path = path.split('?').next().unwrap_or(path).replace("%24", "$");
    let path = path.as_str();
    let paths = document["paths"].as_object().unwrap();
    let exact = paths.get_key_value(path);
    let fits = |template: &str| {
        let (a, b) = (template.split('/'), path.split('/'));
        a.clone().count() == b.clone().count()
            && a.zip(b).all(|(a, b)| if a.starts_with('{') { !b.is_empty() } else { a == b })
    };
    exact.or_else(|| paths.iter().find(|(template, _)| fits(template))).map(|(t, i)| (t.as_str(), i))
}

/// Fails the test if the document does not tell of this answer.
#[track_caller]
pub(crate) fn check(method: &str, path: &str, reply: &Reply) {
    let document = document();
    // HEAD is GET without the body.
    let method = if method == "HEAD" { "GET" } else { method };
    let media = reply.header("content-type").map(|t| t.split(';').next().unwrap_or(t).trim());
    let what = format!("{method} {path} -> {} {media:?}", reply.status);
    let outcome = media == Some("application/fhir+json") && reply.status >= 400;
    let problem = media == Some("application/problem+json") || outcome;
    let at = if outcome { "/issue/0/details/coding/0/code" } else { "/code" };
    let told = || reply.json().pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let code = (problem && !reply.body.is_empty()).then(told);
    let Some((_, item)) = item(document, path) else {
        assert!(matches!(reply.status, 400 | 404), "{what}: no such path in the document");
        return;
    };
    let Some(operation) = item.get(method.to_ascii_lowercase()) else {
        assert_eq!(code.as_deref(), Some("method_not_allowed"), "{what}: no such method in the document");
        return;
    };
    let response = resolve(document, &operation["responses"][reply.status.to_string()]);
    assert!(response.is_object(), "{what}: the document has no such status: {}", reply.text());
    if let Some(code) = code {
        let named = operation["x-berth-codes"][reply.status.to_string()].as_array().into_iter().flatten();
        let named = named.into_iter().any(|named| *named == code.as_str());
        assert!(named, "{what}: the document does not name the code {code}");
    }
    if reply.body.is_empty() {
        return;
    }
    let Some(content) = media.and_then(|media| response["content"].get(media)) else {
        panic!("{what}: the document has no such type: {response}");
    };
    if reply.header("content-encoding").is_some() {
        // Whoever asked for it decodes it.
        return;
    }
    match media {
        Some("application/json" | "application/problem+json" | "application/fhir+json") => {
            valid(document, &content["schema"], &reply.json(), &what);
        }
        Some("application/x-ndjson" | "application/fhir+ndjson") => {
            let lines: Vec<Value> = reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            all_valid(document, &content["schema"], &lines, &what);
        }
        _ => {}
    }
}

/// Fails unless `value` is of `schema`, and has no member it does not tell of.
#[track_caller]
pub(crate) fn valid(document: &Value, schema: &Value, value: &Value, what: &str) {
    all_valid(document, schema, std::slice::from_ref(value), what);
}

#[track_caller]
fn all_valid(document: &Value, schema: &Value, values: &[Value], what: &str) {
    let mut root = json!({"components": document["components"], "schema": schema, "$ref": "#/schema"});
    close(&mut root);
    let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&root);
    let validator = validator.unwrap_or_else(|error| panic!("{what}: {error}"));
    for value in values {
        let faults: Vec<_> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(faults.is_empty(), "{what}: {faults:?}\n{value}");
    }
}

/// No members but those told of, wherever the document leaves it open.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.get("type").is_some_and(|t| t == "object") && members.contains_key("properties") {
                members.entry("additionalProperties").or_insert(json!(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

pub(crate) fn resolve<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(to) => document.pointer(to.strip_prefix('#').unwrap()).unwrap_or(&Value::Null),
        None => value,
    }
}
