//! Holds and bookings as Appointments, for who may read them at `/v1`: in the same way, and after the same wait for the disk.

use berth_engine::{BookingView, Refusal, State};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::bundle::{self, Bundle};
use super::query::{PARTY, PATIENT, Params};
use super::resources::{VACCINE_DOSE, services};
use super::{ids, status};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{self, Code, Problem};
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
    let mut params = Params::read(call.query.as_deref(), &[PATIENT[0], PATIENT[1], "status", "date"]);
    let party = super::patient(call.endpoint, call.query.as_deref());
    let one = PATIENT.into_iter().filter_map(|name| params.one(name)).count() == 1;
    if !one {
        params.fault("patient: give one, as Patient/p1.17");
    }
    let statuses = params.list("status");
    if statuses.iter().any(|status| !STATUSES.contains(&status.as_str())) {
        params.fault(format!("status: must be of {}", STATUSES.join(" ")));
    }
    let span = params.span("date", app.campaign.programme.calendar());
    params.checked()?;
    let party = names.parse_party(party.as_deref().unwrap_or_default())?;
    call.caller().may_act_for(party, &names)?;
    let bad_cursor = || Problem::new(Code::MalformedRequest, "_after: is none that an answer gave");
    let after = params.after.as_deref().map(|id| ids::booking(&names, id).map_err(|_| bad_cursor())).transpose()?;
    let page =
        app.campaign.engine.party_history(party, after, params.count.max(1)).map_err(|refusal| match refusal {
            Refusal::UnknownBooking { .. } => bad_cursor(),
            refusal => problem::refused(&refusal, &names),
        })?;
    safe(app, call.ack, page.seq).await?;
    let mut bundle = Bundle::new(app.limits.fhir.base(), PATH);
    for view in page.bookings.iter().take(params.count) {
        let wanted = statuses.is_empty() || statuses.iter().any(|s| s == status::appointment(view.state));
        if wanted && span.has(place(app, view.claim.slot).await?.start) {
            let resource = appointment(app, view).await?;
            bundle.push(&ids::of_code(&names.booking(view.number)), "", |out| out.extend_from_slice(&json(&resource)));
        }
    }
    let next =
        page.next.filter(|_| params.count > 0).map(|next| params.after(Some(&ids::of_code(&names.booking(next)))));
    // Of a long list it is not known how much of it matches before the end is seen.
    let total = (page.next.is_none() && after.is_none() && params.count > 0).then_some(bundle.len);
    let mut body = bundle::head(&names.time(app.campaign.engine.now()));
    body.extend(bundle.finish(total, &params.spelled(), next.as_deref()));
    Ok(respond(StatusCode::OK, call.gives, body))
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
