//! One centre, session or slot as it stands. Like a search these need no key and name no claim.

use berth_engine::{Counts, SlotId, TimestampMs};
use berth_programme::{Position, Session, Window};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::bookings::json;
use super::sessions;
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};
use crate::wire::slot_status;

#[derive(Serialize)]
struct SlotAnswer {
    slot: String,
    start: String,
    end: String,
    pool: String,
    capacity: u32,
    free: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reserved: bool,
    held: u32,
    open: bool,
    status: &'static str,
}

/// Whom a session is for, and what it costs.
#[derive(Serialize)]
struct Terms {
    #[serde(skip_serializing_if = "Option::is_none")]
    min_age: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fee: Option<FeeAnswer>,
}

#[derive(Serialize)]
struct FeeAnswer {
    amount: u64,
    currency: String,
}

impl Terms {
    fn of(app: &App, session: &Session) -> Terms {
        let currency = || app.campaign.programme.get().file().currency.clone().unwrap_or_default();
        let fee = session.fee.map(|amount| FeeAnswer { amount: amount.get(), currency: currency() });
        Terms { min_age: session.ages.min, max_age: session.ages.max, fee }
    }
}

/// `GET /v1/sessions/{session}`
pub(crate) fn session(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer<'a> {
        as_of: String,
        id: &'a str,
        centre: &'a str,
        date: String,
        product: String,
        #[serde(flatten)]
        terms: Terms,
        slots: Vec<SlotAnswer>,
    }
    no_query(call)?;
    let app = &call.app;
    // Before the counts are read, so that the answer is never older than it says.
    let as_of = app.campaign.engine.now();
    let session = sessions::session(app, &call.parameter)?;
    let windows = session.windows.iter().map(|window| (window, session.slots_of(window)));
    let slots = windows
        .flat_map(|(window, slots)| slots.iter().filter_map(move |s| slot_answer(app, s.slot, window, as_of)))
        .collect();
    let answer = Answer {
        as_of: app.names().time(as_of),
        id: &session.id,
        centre: &session.centre,
        date: session.date.to_string(),
        product: app.campaign.catalogue.product_name(session.product),
        terms: Terms::of(app, &session),
        slots,
    };
    Ok(respond(StatusCode::OK, Media::Json, json(&answer)))
}

/// `GET /v1/slots/{slot}`
pub(crate) fn slot(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer<'a> {
        as_of: String,
        session: &'a str,
        centre: &'a str,
        date: String,
        product: String,
        #[serde(flatten)]
        slot: SlotAnswer,
    }
    no_query(call)?;
    let app = &call.app;
    let as_of = app.campaign.engine.now();
    let slot = app.names().parse_slot(&call.parameter)?;
    let unknown = || problem::refused(&berth_engine::Refusal::UnknownSlot { slot }, &app.names());
    let place = app.campaign.catalogue.slot(slot).ok_or_else(unknown)?;
    let session: &Session = &place.session;
    let window = session.windows.iter().find(|w| session.slots_of(w).iter().any(|s| s.slot == slot));
    let answer = Answer {
        as_of: app.names().time(as_of),
        session: &session.id,
        centre: &session.centre,
        date: session.date.to_string(),
        product: app.campaign.catalogue.product_name(session.product),
        slot: window.and_then(|window| slot_answer(app, slot, window, as_of)).ok_or_else(unknown)?,
    };
    Ok(respond(StatusCode::OK, Media::Json, json(&answer)))
}

/// `GET /v1/centres/{centre}`: with its sessions from today on.
pub(crate) fn centre(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct SessionRow<'a> {
        id: &'a str,
        date: String,
        product: String,
    }
    #[derive(Serialize)]
    struct Answer<'a> {
        id: &'a str,
        name: &'a str,
        district: &'a str,
        pincode: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        lat: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        lon: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        phone: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<&'a str>,
        sessions: Vec<SessionRow<'a>>,
    }
    no_query(call)?;
    let app = &call.app;
    let centre = app.campaign.catalogue.centre(&call.parameter).ok_or_else(|| unknown_centre(&call.parameter))?;
    let today = app.campaign.programme.calendar().date(app.campaign.engine.now());
    let sessions = centre
        .sessions()
        .iter()
        .filter(|session| session.date >= today)
        .map(|session| SessionRow {
            id: &session.id,
            date: session.date.to_string(),
            product: app.campaign.catalogue.product_name(session.product),
        })
        .collect();
    let answer = Answer {
        id: &centre.id,
        name: &centre.name,
        district: &centre.district,
        pincode: &centre.pincode,
        address: centre.address.as_deref(),
        lat: centre.position.map(Position::latitude),
        lon: centre.position.map(Position::longitude),
        phone: centre.phone.as_deref(),
        url: centre.url.as_deref(),
        sessions,
    };
    Ok(respond(StatusCode::OK, Media::Json, json(&answer)))
}

/// The no to a centre that is not there.
pub(super) fn unknown_centre(id: &str) -> Problem {
    let shown: String = id.chars().take(80).collect();
    Problem::new(Code::UnknownCentre, format!("there is no centre {shown}"))
}

fn slot_answer(app: &App, slot: SlotId, window: &Window, as_of: TimestampMs) -> Option<SlotAnswer> {
    let engine = &app.campaign.engine;
    let counts: Counts = engine.counts(slot)?;
    let pool = engine.slot_facts(slot)?.pool;
    let names = app.names();
    Some(SlotAnswer {
        slot: names.slot(slot),
        start: names.time(window.start),
        end: names.time(window.end),
        pool: app.campaign.catalogue.pool_name(pool),
        capacity: counts.capacity().get(),
        free: counts.free_to_all().get(),
        reserved: counts.is_reserved(),
        held: counts.held().get(),
        open: counts.is_open(),
        status: slot_status(counts, app.campaign.programme.in_time(window.start, as_of).is_ok()),
    })
}

/// These take no parameters.
fn no_query(call: &Call) -> Result<(), Problem> {
    match call.query.as_deref() {
        None | Some("") => Ok(()),
        Some(_) => Err(Problem::new(Code::MalformedRequest, "this takes no query parameters")),
    }
}
