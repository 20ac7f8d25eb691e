//! A citizen's own account: who is in it, and what is kept of them.

use std::sync::Arc;

use berth_programme::people::{PeopleError, Person};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::bookings::json;
use super::super::{parse, read_json};
use super::sessions::{address, codes, limited, phone, wrong_code};
use super::shapes::{PartyAnswer, PersonAnswer, PersonSaid, Shown};
use super::{account, blocking, intent, marked, refused, settled, today, with_region};
use crate::body::ResponseBody;
use crate::problem::Problem;
use crate::router::{Call, Media, respond};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptRequest {
    party: String,
    code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PhoneRequest {
    phone: String,
    code: String,
}

/// `GET /v1/account`
pub(crate) async fn read(call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer {
        account: String,
        phone: String,
        members_max: usize,
        members: Vec<PersonAnswer>,
    }
    let account = account(call.caller())?;
    let read = blocking(&call.app, move |_, people| {
        let phone = people.account_phone(account)?.ok_or(PeopleError::NoAccount)?;
        let mut views = Vec::new();
        for party in people.members(account)? {
            match people.view(party) {
                Ok(view) => views.push(view),
                // Gone since the list was read.
                Err(PeopleError::Unknown(_) | PeopleError::Merged(..)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((phone, views, people.members_max()))
    });
    let (phone, views, members_max) = match read.await? {
        Ok(read) => read,
        Err(error) => return Err(refused(&call.app, call.caller(), error).await),
    };
    let names = call.app.names();
    let members = views.into_iter().map(|view| PersonAnswer::of(&names, view, Shown::Own)).collect();
    let answer = Answer { account: account.to_string(), phone: phone.as_str().to_owned(), members_max, members };
    Ok(respond(StatusCode::OK, Media::Json, json(&answer)))
}

/// `POST /v1/account/phone`: another phone, which a code was sent to.
pub(crate) async fn change_phone(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer {
        account: String,
        phone: String,
    }
    let body = read_json(&mut call).await?;
    let asked: PhoneRequest = parse(&body)?;
    let account = account(call.caller())?;
    let intent = intent(&call, &body)?;
    let app = Arc::clone(&call.app);
    let phone = phone(&app, &asked.phone)?;
    let now = app.campaign.engine.now();
    // A code opens once: who repeats what was done says it again, and needs none.
    if !matches!(blocking(&app, move |_, people| people.was_done(&intent)).await?, Ok(true)) {
        let opens = codes(&app)?.desk.opens(&phone, &asked.code, address(&call), now);
        if !opens.map_err(|refusal| limited(&app, refusal, now))? {
            return Err(wrong_code());
        }
    }
    let shown = phone.as_str().to_owned();
    let done = blocking(&app, move |_, people| people.change_phone(account, &phone, &intent, now)).await?;
    let done = settled(&call, done).await?;
    let answer = json(&Answer { account: account.to_string(), phone: shown });
    Ok(marked(respond(StatusCode::OK, Media::Json, answer), done.replayed))
}

/// `DELETE /v1/account`
pub(crate) async fn close(call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer {
        account: String,
    }
    let account = account(call.caller())?;
    let key = intent(&call, b"")?.record;
    let now = call.app.campaign.engine.now();
    let done = blocking(&call.app, move |_, people| people.close_account(account, key, now)).await?;
    let done = settled(&call, done).await?;
    let answer = json(&Answer { account: account.to_string() });
    Ok(marked(respond(StatusCode::OK, Media::Json, answer), done.replayed))
}

/// `POST /v1/account/members`
pub(crate) async fn add(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let body = read_json(&mut call).await?;
    let said: PersonSaid = parse(&body)?;
    let account = account(call.caller())?;
    let intent = intent(&call, &body)?;
    let (now, today) = (call.app.campaign.engine.now(), today(&call.app));
    let done = blocking(&call.app, move |app, people| {
        let said = with_region(app, said.into())?;
        let person = people.rules().person(said, today).map_err(PeopleError::Faults)?;
        people.register(Some(account), person, &intent, now)
    });
    let done = done.await?;
    let done = settled(&call, done).await?;
    let answer = json(&PartyAnswer::of(&call.app.names(), done.what));
    Ok(marked(respond(StatusCode::CREATED, Media::Json, answer), done.replayed))
}

/// `PATCH /v1/account/members/{party}`: what is not said stays.
pub(crate) async fn correct(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let body = read_json(&mut call).await?;
    let said: PersonSaid = parse(&body)?;
    let account = account(call.caller())?;
    let party = call.app.names().parse_party(&call.parameter)?;
    let intent = intent(&call, &body)?;
    let (now, today) = (call.app.campaign.engine.now(), today(&call.app));
    let done = blocking(&call.app, move |app, people| {
        let said = with_region(app, said.into())?;
        let change = |before: &Person| {
            let changed = people.rules().changed(Some(before), said.clone(), today);
            changed.map_err(PeopleError::Faults)
        };
        people.correct(party, Some(account), change, &intent, now)
    });
    let done = done.await?;
    let done = settled(&call, done).await?;
    let answer = json(&PartyAnswer::of(&call.app.names(), done.what));
    Ok(marked(respond(StatusCode::OK, Media::Json, answer), done.replayed))
}

/// `DELETE /v1/account/members/{party}`
pub(crate) async fn erase(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let account = account(call.caller())?;
    let party = call.app.names().parse_party(&call.parameter)?;
    let key = intent(&call, b"")?.record;
    let now = call.app.campaign.engine.now();
    let done = blocking(&call.app, move |_, people| people.erase(party, Some(account), key, now)).await?;
    let done = settled(&call, done).await?;
    let answer = json(&PartyAnswer::of(&call.app.names(), done.what));
    Ok(marked(respond(StatusCode::OK, Media::Json, answer), done.replayed))
}

/// `POST /v1/account/members/{party}/transfer`: offers them. Whoever has the code takes them with [`accept`].
pub(crate) async fn offer(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer {
        party: String,
        code: String,
        expires_at: String,
    }
    super::super::read_nothing(&mut call).await?;
    let account = account(call.caller())?;
    let party = call.app.names().parse_party(&call.parameter)?;
    let intent = intent(&call, b"")?;
    let now = call.app.campaign.engine.now();
    let done = blocking(&call.app, move |_, people| people.offer(party, account, &intent, now)).await?;
    let done = settled(&call, done).await?;
    let (code, until) = done.what;
    let names = call.app.names();
    let answer = Answer { party: names.party(party), code, expires_at: names.time(until) };
    Ok(marked(respond(StatusCode::CREATED, Media::Json, json(&answer)), done.replayed))
}

/// `POST /v1/account/transfers`: takes a person whom another account offers.
pub(crate) async fn accept(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let body = read_json(&mut call).await?;
    let AcceptRequest { party, code } = parse(&body)?;
    let account = account(call.caller())?;
    let app = Arc::clone(&call.app);
    let party = app.names().parse_party(&party)?;
    let intent = intent(&call, &body)?;
    let now = app.campaign.engine.now();
    let done = blocking(&app, move |_, people| people.accept(party, account, &code, &intent, now)).await?;
    let done = settled(&call, done).await?;
    let answer = json(&PartyAnswer::of(&app.names(), done.what));
    Ok(marked(respond(StatusCode::OK, Media::Json, answer), done.replayed))
}
