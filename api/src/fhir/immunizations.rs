//! Doses as Immunizations, for who may read them at `/v1`: in the same way, and with no more of what is on record.

use berth_engine::{PartyId, Refusal};
use berth_programme::doses::{Details, DoseRecord};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::appointments::patient;
use super::bundle::Bundle;
use super::by_patient::{ByPatient, bad_cursor};
use super::query::Params;
use super::resources::Teller;
use super::{ids, status};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{self, Problem};
use crate::router::{Call, respond};
use crate::routes::bookings::{json, place};
use crate::routes::doses::{self, may_read, owner, records};

const PATH: &str = "/fhir/Immunization";
/// Systems of dose numbers, and of staff.
const DOSE: &str = "urn:berth:dose";
const STAFF: &str = "urn:berth:staff";
const STATUSES: [&str; 2] = ["completed", "entered-in-error"];
/// Places on the body that others have a code for.
const SITES: [(&str, &str, &str); 2] = [("left_arm", "LA", "left arm"), ("right_arm", "RA", "right arm")];
const ACT_SITE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActSite";

/// `GET /fhir/Immunization/{immunization}`
pub(crate) async fn read(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    let app = &call.app;
    let booking = ids::dose(&app.names(), &call.parameter)?;
    let party = doses::reached(app, call.caller(), booking)?;
    Params::read(call.query.as_deref(), &[]).checked()?;
    let (_, records) = records(app, call.ack, party).await?;
    let record = records.iter().find(|record| record.booking == booking);
    let record = record.ok_or_else(|| doses::unknown(app, booking))?;
    Ok(respond(StatusCode::OK, call.gives, json(&immunization(app, party, record).await?)))
}

/// `GET /fhir/Immunization`
pub(crate) async fn search(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    let (app, names) = (&call.app, call.app.names());
    let asked = ByPatient::parse(call, &STATUSES)?;
    let after = asked.after(|id| ids::dose(&names, id))?;
    let party = owner(app, names.parse_party(&asked.party)?)?;
    may_read(call, party)?;
    let (_, records) = records(app, call.ack, party).await?;
    let wanted = |record: &&DoseRecord| {
        asked.wants(status::immunization(record.valid)) && asked.span.has(record.details.given_at)
    };
    // Behind the last that was told, whatever has become of it: records are never taken away.
    let first = match after {
        Some(after) => 1 + records.iter().position(|record| record.booking == after).ok_or_else(bad_cursor)?,
        None => 0,
    };
    let total = records.iter().filter(wanted).count();
    let mut rest = records.iter().skip(first).filter(wanted).peekable();
    let mut last = None;
    let mut bundle = Bundle::new(app.limits.fhir.base(), PATH);
    while bundle.len < asked.params.count
        && let Some(record) = rest.next()
    {
        let resource = immunization(app, party, record).await?;
        let id = ids::of_code(&names.dose(record.booking));
        bundle.push(&id, "", |out| out.extend_from_slice(&json(&resource)));
        last = Some(id);
    }
    let next = last.filter(|_| rest.peek().is_some());
    Ok(asked.answer(call, bundle, Some(total), next))
}

async fn immunization(app: &App, party: PartyId, record: &DoseRecord) -> Result<Value, Problem> {
    let (names, engine) = (app.names(), &app.campaign.engine);
    let DoseRecord { booking, details, valid, recorded_at, .. } = record;
    let Details { given_at, product, batch, site, vaccinator } = details;
    let unknown = Refusal::UnknownBooking { booking: *booking };
    let (claim, _) = engine.claimed(*booking).ok_or_else(|| problem::refused(&unknown, &names))?;
    let place = place(app, claim.slot).await?;
    let number = names.dose(*booking);
    let teller = Teller::new(app, engine.now());
    let given = teller.rules.product(*product);
    let vaccine = match given {
        Some(known) => json!({"coding": teller.vaccine(*product), "text": known.name}),
        // Of a programme that has taken it out of its file.
        None => json!({"text": "unknown"}),
    };
    let mut protocol = json!({"doseNumberPositiveInt": claim.dose.0});
    if let Some(product) = given {
        protocol["seriesDosesPositiveInt"] = product.doses.into();
    }
    let location = ids::of_centre(&app.campaign.catalogue, &place.session.centre);
    let mut immunization = json!({
        "resourceType": "Immunization",
        "id": ids::of_code(&number),
        "identifier": [{"system": DOSE, "value": number}],
        "status": status::immunization(*valid),
        "vaccineCode": vaccine,
        "patient": patient(&names.party(party)),
        "occurrenceDateTime": names.time(*given_at),
        "recorded": names.time(*recorded_at),
        "primarySource": true,
        "location": {"reference": format!("Location/{location}")},
        "protocolApplied": [protocol],
    });
    if !batch.is_empty() {
        immunization["lotNumber"] = batch.as_str().into();
    }
    if !site.is_empty() {
        let known = SITES.iter().find(|(word, ..)| word == site);
        let coding = known.map(|(_, code, display)| json!([{"system": ACT_SITE, "code": code, "display": display}]));
        immunization["site"] = match coding {
            Some(coding) => json!({"coding": coding, "text": site}),
            None => json!({"text": site}),
        };
    }
    if !vaccinator.is_empty() {
        immunization["performer"] = json!([{"actor": {"identifier": {"system": STAFF, "value": vaccinator}}}]);
    }
    Ok(immunization)
}
