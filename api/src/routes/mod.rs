//! One file per kind of thing asked. Each route reads its request, makes one engine command of it and renders the
//! outcome; what they share stands here.

pub(crate) mod admission;
pub(crate) mod bookings;
pub(crate) mod bulk;
pub(crate) mod bulk_bookings;
pub(crate) mod bulk_parties;
pub(crate) mod catalogue;
pub(crate) mod certificates;
pub(crate) mod door;
pub(crate) mod doses;
pub(crate) mod export;
pub(crate) mod facts;
pub(crate) mod holds;
pub(crate) mod invitations;
pub(crate) mod listing;
pub(crate) mod lotteries;
pub(crate) mod operations;
pub(crate) mod outcomes;
pub(crate) mod parties;
pub(crate) mod people;
pub(crate) mod programme;
pub(crate) mod regions;
pub(crate) mod revocations;
pub(crate) mod session_bookings;
pub(crate) mod sessions;
pub(crate) mod supply;
pub(crate) mod waitlist;

mod line_by_line;
mod line_input;
mod lines;

use berth_engine::{Claim, Command, Idempotency, Refusal, Request, Seq, Submitted};
use bytes::Bytes;
use hyper::Response;
use hyper::header::HeaderValue;
use serde::Deserialize;

use crate::access::{Caller, Sight};
use crate::ack::{self, AckMode, Unsafe};
use crate::app::App;
use crate::body::{self, ResponseBody};
use crate::idempotency::{self, Fingerprint};
use crate::problem::{self, Code, Problem};
use crate::router::Call;
use crate::wire::{ClaimRequest, Object};

/// Reads the JSON body of a call.
async fn read_json(call: &mut Call) -> Result<Bytes, Problem> {
    read_body(call, body::JSON_BYTES_MAX).await
}

/// Reads the body of a call, which keeps its place for a moment meanwhile.
async fn read_body(call: &mut Call, bytes_max: usize) -> Result<Bytes, Problem> {
    let _reading = call.reading.begin();
    body::read(&call.headers, &mut call.body, bytes_max, call.app.limits.body_time).await
}

/// A JSON body as the shape it must have, which is an object.
fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map(|Object(request)| request).map_err(|error| {
        let code = if error.is_data() { Code::MalformedRequest } else { Code::MalformedJson };
        Problem::new(code, format!("the body: {error}"))
    })
}

/// A body where none is needed: nothing, or `{}` from clients that cannot send nothing.
async fn read_nothing(call: &mut Call) -> Result<(), Problem> {
    let body = read_json(call).await?;
    match body.trim_ascii() {
        b"" | b"{}" => Ok(()),
        _ => Err(Problem::new(Code::MalformedRequest, "this takes no body")),
    }
}

/// The claims of a request, within the programme's group size, each for a party that the caller may act for.
fn claims_of(app: &App, caller: &Caller, claims: &[Object<ClaimRequest<'_>>]) -> Result<Vec<Claim>, Problem> {
    let (found, max) = (claims.len(), app.campaign.programme.get().group_claims_max());
    let names = app.names();
    if !(1..=max).contains(&found) {
        let refusal = Refusal::GroupSize { found, max };
        return Err(problem::refused(&refusal, &names));
    }
    let claims = names.parse_claims(claims)?;
    caller.may_claim(&claims, app)?;
    Ok(claims)
}

/// The claims as the fingerprint sees them.
fn with_claims(mut fingerprint: Fingerprint, claims: &[Claim]) -> Fingerprint {
    for claim in claims {
        fingerprint = fingerprint.number(claim.party.0.into()).number(claim.slot.0.into()).number(claim.dose.0.into());
    }
    fingerprint
}

/// The fingerprint of a call, to be completed with what its request says.
fn fingerprint(call: &Call) -> Fingerprint {
    Fingerprint::new(call.endpoint.method.as_str(), call.endpoint.template)
}

/// The engine's key for the call's `Idempotency-Key`.
fn key(call: &Call) -> Result<berth_engine::IdempotencyKey, Problem> {
    idempotency::key_of(&call.headers, call.caller())
}

/// Submits a command. What came of it is not to be shown yet.
fn apply(app: &App, command: Command<'_>, idempotency: Idempotency) -> Result<Submitted, Problem> {
    let engine = &app.campaign.engine;
    let request = Request { command, idempotency: Some(idempotency) };
    engine.submit(&request, engine.now()).map_err(|failure| problem::failed(&failure))
}

/// Waits until what was submitted may be shown.
// rule: IDM-2 no answer shows what is not yet as safe as was asked, refusals and repeats included
async fn settled(app: &App, mode: AckMode, submitted: Submitted) -> Result<Submitted, Problem> {
    safe(app, mode, submitted.seq).await?;
    if submitted.replayed {
        app.metrics.replayed();
    }
    Ok(submitted)
}

/// Waits until entries up to this one are as safe as was asked.
pub(crate) async fn safe(app: &App, mode: AckMode, seq: Seq) -> Result<(), Problem> {
    ack::wait(&app.campaign.engine, seq, mode, app.limits.ack_redis_time).await.map_err(|why| match why {
        Unsafe::Failed(failure) => problem::failed(&failure),
        Unsafe::Late => problem::redis_late(),
    })
}

/// Submits a command and renders what came of it, as the first time and every time.
async fn execute(
    app: &App,
    mode: AckMode,
    sight: Sight,
    command: Command<'_>,
    idempotency: Idempotency,
) -> Result<Response<ResponseBody>, Problem> {
    let submitted = settled(app, mode, apply(app, command, idempotency)?).await?;
    told(app, sight, &submitted).await
}

/// As [`execute`], of who may know nothing of a booking elsewhere that stands in the way.
async fn execute_for(
    call: &Call,
    command: Command<'_>,
    idempotency: Idempotency,
) -> Result<Response<ResponseBody>, Problem> {
    let app = &call.app;
    let submitted = settled(app, call.ack, apply(app, command, idempotency)?).await?;
    if let Err(refusal @ Refusal::AlreadyClaimed { booking, .. }) = &submitted.result
        && call.caller().may_touch(*booking, app).is_err()
    {
        // A code opens its booking, and that one is another centre's business.
        return Err(problem::claimed_elsewhere(refusal, &app.names()));
    }
    told(app, call.sight(), &submitted).await
}

/// The answer to what is settled.
async fn told(app: &App, sight: Sight, submitted: &Submitted) -> Result<Response<ResponseBody>, Problem> {
    let mut response = outcomes::render(app, sight, submitted).await?;
    if submitted.replayed {
        mark_replayed(&mut response);
    }
    Ok(response)
}

fn mark_replayed(response: &mut Response<ResponseBody>) {
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
}
