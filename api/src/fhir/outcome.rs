//! A refusal in FHIR's words: an OperationOutcome with the same status and headers, and our code beside FHIR's.

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::json;

use crate::admission::Shed;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::Media;

/// The system of our codes.
const SYSTEM: &str = "urn:berth:problem";

/// The answer to a request for `path`.
pub(crate) fn of(problem: Problem, path: &str) -> Response<ResponseBody> {
    let body = body(problem.code(), problem.detail());
    in_place(problem.into_response(path), body)
}

/// The answer to one for which there was no room.
pub(crate) fn of_shed(shed: Shed, path: &str) -> Response<ResponseBody> {
    let body = body(Code::Overloaded, shed.reason.detail());
    in_place(shed.into_response(path), body)
}

fn in_place(mut response: Response<ResponseBody>, body: Bytes) -> Response<ResponseBody> {
    *response.body_mut() = ResponseBody::whole(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Media::Fhir.content_type()));
    response
}

fn body(code: Code, detail: &str) -> Bytes {
    let outcome = json!({
        "resourceType": "OperationOutcome",
        "issue": [{
            "severity": "error",
            "code": issue(code),
            "details": {"coding": [{"system": SYSTEM, "code": code.as_str()}], "text": code.title()},
            "diagnostics": detail,
        }],
    });
    outcome.to_string().into()
}

/// FHIR's word for why.
fn issue(code: Code) -> &'static str {
    match (code, code.status().as_u16()) {
        (Code::NotFound | Code::MethodNotAllowed | Code::NotAcceptable, _) => "not-supported",
        (Code::KeyExpired | Code::TokenExpired, _) => "expired",
        (_, 400 | 422) => "invalid",
        (_, 401) => "login",
        (_, 403) => "forbidden",
        (_, 404) => "not-found",
        (_, 409) => "conflict",
        (_, 429) => "throttled",
        (_, 503) => "transient",
        _ => "processing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_issue_and_keeps_status_and_headers() {
        for &code in Code::ALL {
            let status = code.status();
            let response = of(Problem::new(code, "why \"so\""), "/fhir/Slot");
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[CONTENT_TYPE], "application/fhir+json");
            assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
            let ResponseBody::Whole(Some(bytes)) = response.body() else { panic!("it has a body") };
            let outcome: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            let issue = &outcome["issue"][0];
            assert_eq!(
                (issue["details"]["coding"][0]["code"].as_str(), &issue["diagnostics"]),
                (Some(code.as_str()), &json!("why \"so\""))
            );
            assert!(
                issue["code"]
                    .as_str()
                    .is_some_and(|word| word != "processing" || status == 408 || status == 413 || status == 415),
                "{code:?}: {issue}"
            );
        }
        let shed = Shed { class: crate::admission::Class::Search, reason: crate::admission::Reason::SwitchedOff };
        let response = of_shed(shed, "/fhir/Slot");
        assert!(response.status() == 503 && response.headers().contains_key("retry-after"));
    }
}
