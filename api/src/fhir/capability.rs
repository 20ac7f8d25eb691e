//! What there is of FHIR here: the CapabilityStatement.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::query::Params;
use crate::body::ResponseBody;
use crate::problem::Problem;
use crate::router::{Call, respond};
use crate::routes::bookings::json;

/// When what is told here was last changed.
const CHANGED: &str = "2026-11-27";

/// Each resource, with its parameters: name, type, and what it finds.
type Parameters = &'static [(&'static str, &'static str, &'static str)];
const RESOURCES: [(&str, &str, Parameters); 5] = [
    (
        "Location",
        "A centre. Open.",
        &[
            ("_id", "token", "ids, with commas between them"),
            ("identifier", "token", "urn:berth:centre|name"),
            ("name", "string", "what the name begins with"),
            ("address-city", "string", "what the district's name begins with"),
            ("address-state", "string", "what the state's name begins with"),
            ("address-postalcode", "string", "postal codes"),
            ("near", "special", "latitude|longitude|distance|km, at most 200 km; nearest first"),
        ],
    ),
    (
        "Schedule",
        "A session: what a centre offers of one product on one date. Open; actor, _id or identifier is needed.",
        &[
            ("_id", "token", "ids, with commas between them"),
            ("identifier", "token", "urn:berth:session|name"),
            ("actor", "reference", "Location"),
            ("service-type", "token", "a coding of this server's services, or urn:berth:product|name"),
            ("date", "date", "with a window that begins then"),
        ],
    ),
    (
        "Slot",
        "A window of a session for those whom one of its pools serves. Open; schedule, schedule.actor or _id is needed.",
        &[
            ("_id", "token", "ids, with commas between them"),
            ("schedule", "reference", "Schedule"),
            ("schedule.actor", "reference", "Location; from today on, unless start says otherwise"),
            ("status", "token", "free, busy, busy-tentative, busy-unavailable"),
            ("start", "date", "prefixes eq ge gt le lt sa eb"),
        ],
    ),
    (
        "Appointment",
        "A hold or booking. For who may read it at /v1.",
        &[
            ("patient", "reference", "needed: Patient/p1.17, or urn:berth:party|p1.17"),
            ("status", "token", "pending, booked, checked-in, fulfilled, noshow, cancelled"),
            ("date", "date", "when it begins"),
        ],
    ),
    (
        "Immunization",
        "A dose. For who may read it at /v1.",
        &[
            ("patient", "reference", "needed: Patient/p1.17, or urn:berth:party|p1.17"),
            ("status", "token", "completed, entered-in-error"),
            ("date", "date", "when it was given"),
        ],
    ),
];

/// `GET /fhir/metadata`
pub(crate) fn metadata(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    Params::read(call.query.as_deref(), &["mode"]).checked()?;
    let config = &call.app.limits.fhir;
    let mut implementation = json!({"description": "Appointments and doses of a campaign, read only"});
    if let Some(url) = &config.public_url {
        implementation["url"] = format!("{url}/fhir").into();
    }
    let statement = json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": CHANGED,
        "kind": "instance",
        "software": {"name": "Berth", "version": env!("CARGO_PKG_VERSION")},
        "implementation": implementation,
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [{
            "mode": "server",
            "documentation": "Read only. Bookings are made at /v1. An unknown parameter is refused.",
            "security": {
                "cors": false,
                "description": "Location, Schedule and Slot are open. Appointment and Immunization need Authorization: Bearer, a key or a token as at /v1.",
            },
            "resource": RESOURCES.map(resource),
        }],
    });
    Ok(respond(StatusCode::OK, call.gives, json(&statement)))
}

fn resource((kind, documentation, parameters): (&str, &str, Parameters)) -> Value {
    let parameters = parameters
        .iter()
        .map(|(name, kind, documentation)| json!({"name": name, "type": kind, "documentation": documentation}));
    json!({
        "type": kind,
        "documentation": documentation,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "versioning": "no-version",
        "readHistory": false,
        "conditionalRead": "not-supported",
        "searchParam": parameters.collect::<Vec<_>>(),
    })
}
