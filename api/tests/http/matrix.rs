//! Every cell of role x operation, from the OpenAPI document: whoever it names may ask, and nobody else.

use serde_json::Value;

use crate::contract::document;
use crate::server::sha256;
use crate::tokens::Issuer;

const ROLES: [&str; 5] = ["public", "platform", "citizen", "operator", "admin"];

/// What is asked is never right, so nothing happens: a role that may gets another refusal than 401 and 403, or an answer.
#[test]
fn each_operation_takes_the_roles_that_the_document_names_and_no_others() {
    let key = |role: &str, more: &str| {
        format!(
            "[[keys]]\nrole = '{role}'\nname = 'matrix'\nsha256 = '{}'\n{more}\n",
            sha256(&format!("{role}-matrix"))
        )
    };
    let keys = key("public", "") + &key("platform", "") + &key("operator", "centres = ['c1']") + &key("admin", "");
    let issuer = Issuer::new();
    let server = issuer.server_with(&keys);
    server.add_places();
    let citizen = issuer.token("account", &serde_json::json!({}));
    let mut cells = 0;
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let named: Vec<_> =
                operation["x-berth-roles"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
            assert!(named.iter().all(|role| ROLES.contains(role)), "{named:?}");
            let media = operation.pointer("/requestBody/content").and_then(Value::as_object);
            let media = media.and_then(|content| content.keys().next()).map_or("application/json", String::as_str);
            let target = path.split('/').map(|part| match part {
                "{centre}" => "c1",
                part if part.starts_with('{') => "x",
                part => part,
            });
            let target = target.collect::<Vec<_>>().join("/");
            let method = method.to_ascii_uppercase();
            let ask = |secret: Option<&str>| {
                let (bearer, key) = (format!("Bearer {}", secret.unwrap_or_default()), server.fresh_key());
                let mut headers = vec![("content-type", media), ("idempotency-key", key.as_str())];
                headers.extend(secret.map(|_| ("authorization", bearer.as_str())));
                server.send(&method, &target, &headers, b"").status
            };
            assert_eq!(ask(None) == 401, !named.is_empty(), "{method} {path} without a credential");
            for role in ROLES {
                let secret = if role == "citizen" { citizen.clone() } else { format!("{role}-matrix") };
                let may = named.is_empty() || named.contains(&role);
                let status = ask(Some(&secret));
                cells += 1;
                assert_eq!(!matches!(status, 401 | 403), may, "{method} {path} as {role}: {status}");
                assert!(may || status == 403, "{method} {path} as {role}: {status}");
            }
        }
    }
    assert!(cells >= 5 * 30, "{cells} cells");
}
