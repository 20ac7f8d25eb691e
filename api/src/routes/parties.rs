//! Parties: made in bulk until registration exists, and what each one holds.

use berth_engine::{Command, PartyFacts};
use hyper::{Response, StatusCode};

use super::bookings::{json, of_view};
use super::{execute, fingerprint, key, parse, read_json, safe};
use crate::body::ResponseBody;
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};
use crate::wire::{BookingAnswer, PartiesRequest};

/// Parties of one request.
const COUNT_MAX: u32 = 1_000_000;

/// `POST /v1/parties`
pub(crate) async fn add(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let PartiesRequest { count, birth_year, cohorts } = parse(&body)?;
    if !(1..=COUNT_MAX).contains(&count) {
        let detail = format!("count: must be from 1 to {COUNT_MAX}, is {count}");
        return Err(Problem::new(Code::MalformedRequest, detail));
    }
    if birth_year.is_some_and(|year| !super::facts::YEARS.contains(&year)) {
        return Err(Problem::new(Code::MalformedRequest, "birth_year: must be from 1880 to 2200"));
    }
    let cohorts = super::facts::cohort_bits(&cohorts, &call.app.campaign.programme.get())?;
    let facts = PartyFacts { birth_year: birth_year.unwrap_or(0), cohorts, ..PartyFacts::default() };
    let mut print = fingerprint(&call).number(count.into()).number(facts.birth_year.into());
    // As before there were any, where there are none.
    if cohorts != 0 {
        print = print.number(cohorts.into());
    }
    let idempotency = print.under(key);
    execute(&call.app, call.ack, call.sight(), Command::AddParties { count, facts }, idempotency).await
}

/// `GET /v1/parties/{party}/bookings`
pub(crate) async fn bookings(call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(serde::Serialize)]
    struct Answer {
        party: String,
        bookings: Vec<BookingAnswer>,
    }
    let names = call.app.names();
    let party = names.parse_party(&call.parameter)?;
    call.caller().may_act_for(party, &names)?;
    let Some(view) = call.app.campaign.engine.party_bookings(party) else {
        return Err(problem::refused(&berth_engine::Refusal::UnknownParty { party }, &names));
    };
    safe(&call.app, call.ack, view.seq).await?;
    let mut views = view.bookings;
    views.sort_by_key(|view| view.number);
    let mut bookings = Vec::with_capacity(views.len());
    for view in &views {
        bookings.push(of_view(&call.app, call.sight(), view).await?);
    }
    Ok(respond(StatusCode::OK, Media::Json, json(&Answer { party: names.party(party), bookings })))
}
