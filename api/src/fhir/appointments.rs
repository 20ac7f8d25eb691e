//! Holds and bookings as Appointments, for who may read them at `/v1`: in the same way, and after the same wait for the disk.

use berth_engine::{BookingView, Refusal, State};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::bundle::Bundle;
use super::by_patient::{ByPatient, bad_cursor};
use super::query::{PARTY, Params};
use super::resources::{VACCINE_DOSE, services};
use super::{ids, status};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{self, Problem};
use crate::router::{Call, respond};
use crate::routes::bookings::{json, place};
use crate::routes::safe;

const PATH: &str = "/fhir/Appointment";
/// The system of booking codes.
const BOOKING: &str = "urn:berth:booking";
const STATUSES: [&str; 6] = ["pending", "booked", "checked-in", "fulfilled", "noshow", "cancelled"];

/// `GET /fhir/Appointment/{appointment}`
pub(crate) async fn read(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    let app = &call.app;
    let booking = ids::booking(&app.names(), &call.parameter)?;
    call.caller().may_touch(booking, app)?;
    Params::read(call.query.as_deref(), &[]).checked()?;
    let unknown = || problem::refused(&Refusal::UnknownBooking { booking }, &app.names());
    let view = app.campaign.engine.booking(booking).ok_or_else(unknown)?;
    safe(app, call.ack, view.seq).await?;
    Ok(respond(StatusCode::OK, call.gives, json(&appointment(app, &view).await?)))
}

/// `GET /fhir/Appointment`
pub(crate) async fn search(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    let (app, names) = (&call.app, call.app.names());
    let asked = ByPatient::parse(call, &STATUSES)?;
    let party = names.parse_party(&asked.party)?;
    call.caller().may_act_for(party, &names)?;
    let after = asked.after(|id| ids::booking(&names, id))?;
    let count = asked.params.count;
    let page = app.campaign.engine.party_history(party, after, count.max(1)).map_err(|refusal| match refusal {
        Refusal::UnknownBooking { .. } => bad_cursor(),
        refusal => problem::refused(&refusal, &names),
    })?;
    safe(app, call.ack, page.seq).await?;
    let mut bundle = Bundle::new(app.limits.fhir.base(), PATH);
    for view in page.bookings.iter().take(count) {
        if asked.wants(status::appointment(view.state)) && asked.span.has(place(app, view.claim.slot).await?.start) {
            let resource = appointment(app, view).await?;
            bundle.push(&ids::of_code(&names.booking(view.number)), "", |out| out.extend_from_slice(&json(&resource)));
        }
    }
    // Of a long list it is not known how much of it matches before the end is seen.
    let total = (page.next.is_none() && after.is_none() && count > 0).then_some(bundle.len);
    let next = page.next.filter(|_| count > 0).map(|next| ids::of_code(&names.booking(next)));
    Ok(asked.answer(call, bundle, total, next))
}

/// Whom something is of: a party is known here by its number alone.
pub(super) fn patient(party: &str) -> Value {
    json!({"type": "Patient", "identifier": {"system": PARTY, "value": party}})
}

async fn appointment(app: &App, view: &BookingView) -> Result<Value, Problem> {
    let names = app.names();
    let place = place(app, view.claim.slot).await?;
    let catalogue = &app.campaign.catalogue;
    let (session, code) = (&place.session, names.booking(view.number));
    let product = app.campaign.programme.get().product(session.product).map(|product| product.name.clone());
    let location = format!("Location/{}", ids::of_centre(catalogue, &session.centre));
    let mut appointment = json!({
        "resourceType": "Appointment",
        "id": ids::of_code(&code),
        "extension": [{"url": VACCINE_DOSE, "valueInteger": view.claim.dose.0}],
        "identifier": [{"system": BOOKING, "value": code}],
        "status": status::appointment(view.state),
        "serviceType": [services(&app.limits.fhir.services)],
        "start": names.time(place.start),
        "end": names.time(place.end),
        "slot": [{"reference": format!("Slot/{}", names.slot(view.claim.slot))}],
        "participant": [
            {"actor": patient(&names.party(view.claim.party)), "required": "required", "status": status::participant(view.state)},
            {"actor": {"reference": location}, "required": "required", "status": "accepted"},
        ],
    });
    if let Some(product) = product {
        appointment["description"] = product.into();
    }
    if let Some(why) = status::why_cancelled(view.state) {
        appointment["cancelationReason"] = json!({"text": why});
    }
    if let (State::Moved, Some(next)) = (view.state, view.link) {
        appointment["comment"] = format!("moved to {}", names.booking(next)).into();
    }
    Ok(appointment)
}
