//! People as those see them who help: a call centre, the staff of a centre, an administrator. Everything here is audited, and says why.
//!
//! A record is shown masked. With a `Berth-Reason` it is shown whole, and the reason stands in the audit log.

use std::sync::Arc;

use berth_engine::{PartyId, Refusal, TimestampMs};
use berth_programme::people::{Document, Done, Intent, PHONE_RULE, People, PeopleError, Person, Said, View};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::bookings::json;
use super::super::{parse, read_json, safe};
use super::shapes::{DocumentSaid, PartyAnswer, PersonAnswer, PersonSaid, Shown};
use super::{blocking, intent, marked, refused, registration, settled, today, with_region};
use crate::access::Scope;
use crate::audit::{CameTo, in_rows};
use crate::body::ResponseBody;
use crate::gate;
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};

/// A person, and the phone of the account they are to be in.
#[derive(Deserialize)]
struct AssistedSaid {
    account_phone: Option<String>,
    #[serde(flatten)]
    person: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FindRequest {
    phone: Option<String>,
    document: Option<DocumentSaid>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergeRequest {
    merge: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountRequest {
    account_phone: String,
}

/// What is said of a person, and the account's phone beside it.
pub(super) fn assisted(body: &[u8]) -> Result<(PersonSaid, Option<String>), Problem> {
    let AssistedSaid { account_phone, person } = parse(body)?;
    // What is not known is named by the shape itself; serde has no unknown members where another shape is flattened.
    let person = serde_json::from_value(serde_json::Value::Object(person));
    let person = person.map_err(|error| Problem::new(Code::MalformedRequest, format!("the body: {error}")))?;
    Ok((person, account_phone))
}

/// `POST /v1/people`
pub(crate) async fn register(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    gate::reason_needed(&call.headers)?;
    let body = read_json(&mut call).await?;
    let (said, account_phone) = assisted(&body)?;
    let intent = intent(&call, &body)?;
    let (now, today) = (call.app.campaign.engine.now(), today(&call.app));
    let done = blocking(&call.app, move |app, people| {
        let said = with_region(app, said.into())?;
        let person = people.rules().person(said, today).map_err(PeopleError::Faults)?;
        let account = account_phone.map(|text| super::account_of(people, &text, now)).transpose()?;
        people.register(account, person, &intent, now)
    });
    let done = done.await?;
    let done = settled(&call, done).await?;
    let answer = PartyAnswer::of(&call.app.names(), done.what);
    let mut response = respond(StatusCode::CREATED, Media::Json, json(&answer));
    response.extensions_mut().insert(CameTo(vec![answer.party]));
    Ok(marked(response, done.replayed))
}

/// The party of the path. An operator meets people through the bookings at its centres.
async fn party(call: &Call) -> Result<PartyId, Problem> {
    let names = call.app.names();
    let party = names.parse_party(&call.parameter)?;
    if !matches!(call.caller().scope, Scope::Centres { .. }) {
        return Ok(party);
    }
    let (engine, catalogue) = (&call.app.campaign.engine, &call.app.campaign.catalogue);
    let unknown = || problem::refused(&Refusal::UnknownParty { party }, &names);
    let view = engine.party_bookings(party).ok_or_else(unknown)?;
    safe(&call.app, call.ack, view.seq).await?;
    let here = view.bookings.iter().any(|view| call.caller().works_at_slot(view.claim.slot, catalogue));
    if here { Ok(party) } else { Err(unknown()) }
}

/// `GET /v1/people/{party}`
pub(crate) async fn read(call: Call) -> Result<Response<ResponseBody>, Problem> {
    registration(&call.app)?;
    let shown = if gate::reason(&call.headers)?.is_some() { Shown::All } else { Shown::Masked };
    let party = party(&call).await?;
    let view = match blocking(&call.app, move |_, people| people.view(party)).await? {
        Ok(view) => view,
        Err(error) => return Err(refused(&call.app, call.caller(), error).await),
    };
    let answer = PersonAnswer::of(&call.app.names(), view, shown);
    Ok(respond(StatusCode::OK, Media::Json, json(&answer)))
}

/// `POST /v1/people/find`: who has this phone, or this document. In a body, for a path stands in logs.
pub(crate) async fn find(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer {
        people: Vec<PersonAnswer>,
    }
    // Whoever works at one centre finds anybody, and sees whole whom it meets there alone.
    let everywhere = !matches!(call.caller().scope, Scope::Centres { .. });
    let shown = if gate::reason(&call.headers)?.is_some() && everywhere { Shown::All } else { Shown::Masked };
    let body = read_json(&mut call).await?;
    let FindRequest { phone, document } = parse(&body)?;
    let one_of = || Problem::new(Code::MalformedRequest, "one of phone and document says whom to find");
    if phone.is_some() == document.is_some() {
        return Err(one_of());
    }
    let found = blocking(&call.app, move |_, people| {
        let mut parties = Vec::new();
        if let Some(text) = phone {
            let phone = people.rules().phone(&text).ok_or_else(super::phone_fault)?;
            parties = people.of_phone(&phone)?;
        } else if let Some(DocumentSaid { kind, number }) = document
            && let Some(document) = Document::new(&kind, &number)
        {
            parties.extend(people.of_document(&document)?);
        }
        let views = parties.into_iter().map(|party| people.view(party));
        // Gone since they were found.
        views
            .filter(|view| !matches!(view, Err(PeopleError::Unknown(_) | PeopleError::Merged(..))))
            .collect::<Result<Vec<View>, _>>()
    });
    let views = match found.await? {
        Ok(views) => views,
        Err(error) => return Err(refused(&call.app, call.caller(), error).await),
    };
    let names = call.app.names();
    let came_to = in_rows(&names, views.iter().map(|view| view.party).collect());
    let people = views.into_iter().map(|view| PersonAnswer::of(&names, view, shown)).collect();
    let mut response = respond(StatusCode::OK, Media::Json, json(&Answer { people }));
    response.extensions_mut().insert(CameTo(came_to));
    Ok(response)
}

/// `PATCH /v1/people/{party}`
pub(crate) async fn correct(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    gate::reason_needed(&call.headers)?;
    let body = read_json(&mut call).await?;
    let said: PersonSaid = parse(&body)?;
    let intent = intent(&call, &body)?;
    let party = party(&call).await?;
    let (now, today) = (call.app.campaign.engine.now(), today(&call.app));
    let done = blocking(&call.app, move |app, people| {
        let said: Said = with_region(app, said.into())?;
        let change =
            |before: &Person| people.rules().changed(Some(before), said.clone(), today).map_err(PeopleError::Faults);
        people.correct(party, None, change, &intent, now)
    });
    let done = done.await?;
    let done = settled(&call, done).await?;
    let answer = json(&PartyAnswer::of(&call.app.names(), done.what));
    Ok(marked(respond(StatusCode::OK, Media::Json, answer), done.replayed))
}

/// `DELETE /v1/people/{party}`
pub(crate) async fn erase(call: Call) -> Result<Response<ResponseBody>, Problem> {
    gate::reason_needed(&call.headers)?;
    let party = party(&call).await?;
    let key = intent(&call, b"")?.record;
    let now = call.app.campaign.engine.now();
    let done = blocking(&call.app, move |_, people| people.erase(party, None, key, now)).await?;
    let done = settled(&call, done).await?;
    let answer = json(&PartyAnswer::of(&call.app.names(), done.what));
    Ok(marked(respond(StatusCode::OK, Media::Json, answer), done.replayed))
}

/// `POST /v1/people/{party}/account-phone`: another phone for the account they are in, whose own is lost.
pub(crate) async fn change_phone(call: Call) -> Result<Response<ResponseBody>, Problem> {
    of_account(call, |people, party, text, intent, now| {
        let phone = people.rules().phone(text).ok_or_else(|| super::fault("account_phone", PHONE_RULE))?;
        let account = people.account_of_person(party)?;
        let Done { seq, replayed, .. } = people.change_phone(account, &phone, intent, now)?;
        Ok(Done { what: party, seq, replayed })
    })
    .await
}

/// `POST /v1/people/{party}/transfer`: into the account of this phone, opened if there is none.
pub(crate) async fn put_into(call: Call) -> Result<Response<ResponseBody>, Problem> {
    of_account(call, |people, party, text, intent, now| {
        let account = super::account_of(people, text, now)?;
        people.put_into(party, account, intent, now)
    })
    .await
}

async fn of_account(
    mut call: Call,
    work: impl FnOnce(&People, PartyId, &str, &Intent, TimestampMs) -> Result<Done<PartyId>, PeopleError> + Send + 'static,
) -> Result<Response<ResponseBody>, Problem> {
    gate::reason_needed(&call.headers)?;
    let body = read_json(&mut call).await?;
    let AccountRequest { account_phone } = parse(&body)?;
    let intent = intent(&call, &body)?;
    let party = party(&call).await?;
    let now = call.app.campaign.engine.now();
    let done = blocking(&call.app, move |_, people| work(people, party, &account_phone, &intent, now)).await?;
    let done = settled(&call, done).await?;
    let answer = json(&PartyAnswer::of(&call.app.names(), done.what));
    Ok(marked(respond(StatusCode::OK, Media::Json, answer), done.replayed))
}

/// `POST /v1/people/{party}/merge`: that of the path stays.
pub(crate) async fn merge(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer {
        party: String,
        merged: String,
        doses: u8,
    }
    gate::reason_needed(&call.headers)?;
    let body = read_json(&mut call).await?;
    let MergeRequest { merge } = parse(&body)?;
    let app = Arc::clone(&call.app);
    let (stays, goes) = (app.names().parse_party(&call.parameter)?, app.names().parse_party(&merge)?);
    let intent = intent(&call, &body)?;
    let now = app.campaign.engine.now();
    let done = blocking(&app, move |_, people| people.merge(stays, goes, &intent, now)).await?;
    let done = settled(&call, done).await?;
    let names = app.names();
    let answer =
        Answer { party: names.party(done.what.stays), merged: names.party(done.what.goes), doses: done.what.doses };
    Ok(marked(respond(StatusCode::OK, Media::Json, json(&answer)), done.replayed))
}
