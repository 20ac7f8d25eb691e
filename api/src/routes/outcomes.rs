//! What came of a request, rendered from the engine's outcome: by the request itself, by its repeats, and by who
//! asks for the outcome of a key. One function, so that the three cannot differ.

use berth_engine::{BookingNumber, Group, NumberedClaim, Outcome, State, Submitted};
use hyper::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::bookings::{json, of_claim, place};
use super::safe;
use crate::access::{Role, Sight};
use crate::app::App;
use crate::body::ResponseBody;
use crate::idempotency;
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};
use crate::wire::{BookingAnswer, HeldClaim};

/// `GET /v1/outcomes/{key}`
pub(crate) async fn read(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let unknown = || Problem::new(Code::UnknownKey, "no outcome is kept under this key for this credential");
    let key = percent_decode_str(&call.parameter).decode_utf8().ok().filter(|key| idempotency::is_key(key));
    let key = key.ok_or_else(|| Problem::new(Code::IdempotencyKeyMalformed, "this cannot be an Idempotency-Key"))?;
    let key = idempotency::scoped(&key, call.caller());
    let submitted = call.app.campaign.engine.outcome(key).ok_or_else(unknown)?;
    // Whom a caller reaches is judged when it asks, not as of when it asked first: a party may have gone to others since.
    if let Ok(outcome) = &submitted.result
        && claimed(outcome).iter().any(|number| call.caller().may_touch(*number, &call.app).is_err())
    {
        return Err(unknown());
    }
    if let Ok(Outcome::FactsChanged { party }) = submitted.result
        && call.caller().role == Role::Citizen
        && call.caller().may_act_for(party, &call.app.names()).is_err()
    {
        return Err(unknown());
    }
    safe(&call.app, call.ack, submitted.seq).await?;
    render(&call.app, call.sight(), &submitted).await
}

/// The holds and bookings that an outcome tells of.
fn claimed(outcome: &Outcome) -> Vec<BookingNumber> {
    match outcome {
        Outcome::PartiesAdded { .. }
        | Outcome::Published { .. }
        | Outcome::Noted
        | Outcome::FactsChanged { .. }
        | Outcome::Recorded
        | Outcome::SlotChanged { .. } => Vec::new(),
        Outcome::Held { claims, .. }
        | Outcome::Booked { claims }
        | Outcome::Confirmed { claims }
        | Outcome::Released { claims }
        | Outcome::Expired { claims }
        | Outcome::GroupCancelled { claims } => claims.iter().map(|claim| claim.number).collect(),
        Outcome::Cancelled { claim }
        | Outcome::CheckedIn { claim }
        | Outcome::Completed { claim }
        | Outcome::NoShow { claim }
        | Outcome::WalkedIn { claim } => vec![claim.number],
        Outcome::Moved { from, to } => vec![*from, to.number],
    }
}

/// The answer to the first request. Its ticket must have resolved.
pub(crate) async fn render(app: &App, sight: Sight, submitted: &Submitted) -> Result<Response<ResponseBody>, Problem> {
    let names = app.names();
    // A refusal leaves its key free, so of outcomes only one can be: the first request is still running.
    let outcome = submitted.result.as_ref().map_err(|refusal| problem::refused(refusal, &names))?;
    let (status, answer) = match outcome {
        Outcome::PartiesAdded { first, count } => {
            (StatusCode::CREATED, json!({"first": names.party(*first), "count": count}))
        }
        Outcome::FactsChanged { party } => (StatusCode::OK, json!({"party": names.party(*party)})),
        Outcome::Recorded => (StatusCode::OK, json!({"recorded": true})),
        Outcome::Published { .. } | Outcome::Noted => (StatusCode::OK, published(app, submitted)?),
        Outcome::Held { expires_at, claims } => {
            let held: Vec<_> = claims.iter().map(|claim| held_claim(app, claim)).collect();
            let answer = json!({
                "hold": hold_code(app, claims),
                "expires_at": names.time(*expires_at),
                "claims": held,
            });
            (StatusCode::CREATED, answer)
        }
        Outcome::Booked { claims } => return booked(app, sight, claims, StatusCode::CREATED).await,
        Outcome::Confirmed { claims } => return booked(app, sight, claims, StatusCode::OK).await,
        Outcome::Released { claims } => {
            (StatusCode::OK, json!({"hold": hold_code(app, claims), "state": State::Released.as_str()}))
        }
        Outcome::Expired { claims } => {
            (StatusCode::OK, json!({"hold": hold_code(app, claims), "state": State::Expired.as_str()}))
        }
        Outcome::Cancelled { claim } => return one(app, claim, State::Cancelled, StatusCode::OK).await,
        Outcome::GroupCancelled { claims } => return gone(app, claims).await,
        Outcome::CheckedIn { claim } => return one(app, claim, State::CheckedIn, StatusCode::OK).await,
        Outcome::Completed { claim } => return one(app, claim, State::Completed, StatusCode::OK).await,
        Outcome::NoShow { claim } => return one(app, claim, State::NoShow, StatusCode::OK).await,
        Outcome::WalkedIn { claim } => return one(app, claim, State::CheckedIn, StatusCode::CREATED).await,
        Outcome::Moved { from, to } => {
            let mut answer = of_claim(app, sight, to, hold_of(app, to.number), State::Booked).await?;
            answer.moved_from = Some(names.booking(*from));
            return Ok(respond(StatusCode::OK, Media::Json, json(&answer)));
        }
        Outcome::SlotChanged { slot } => {
            let place = place(app, *slot).await?;
            return Ok(super::sessions::changed(app, &place.session.id, &[*slot]));
        }
    };
    Ok(respond(status, Media::Json, answer.to_string()))
}

/// One booking in a state from which it is never moved, so its link is where it came from.
async fn one(
    app: &App,
    claim: &NumberedClaim,
    state: State,
    status: StatusCode,
) -> Result<Response<ResponseBody>, Problem> {
    let answer = ended(app, claim, state).await?;
    Ok(respond(status, Media::Json, json(&answer)))
}

/// In these states nobody says the code at the door any more.
async fn ended(app: &App, claim: &NumberedClaim, state: State) -> Result<BookingAnswer, Problem> {
    let mut answer = of_claim(app, Sight::Door, claim, hold_of(app, claim.number), state).await?;
    // A booking that is checked in can be moved no more, either.
    let from = app.campaign.engine.booking(claim.number).and_then(|view| view.link);
    answer.moved_from = from.map(|from| app.names().booking(from));
    Ok(answer)
}

/// The answer to a list of bookings given up, of one also.
pub(super) async fn given_up(
    app: &App,
    sight: Sight,
    submitted: &Submitted,
) -> Result<Response<ResponseBody>, Problem> {
    match &submitted.result {
        Ok(Outcome::Cancelled { claim }) => gone(app, &std::iter::once(*claim).collect()).await,
        _ => render(app, sight, submitted).await,
    }
}

/// Several bookings of one group that were given up together.
async fn gone(app: &App, claims: &Group) -> Result<Response<ResponseBody>, Problem> {
    let mut bookings = Vec::with_capacity(claims.len());
    for claim in claims {
        bookings.push(ended(app, claim, State::Cancelled).await?);
    }
    let hold = bookings.first().map(|booking| booking.hold.clone());
    Ok(respond(StatusCode::OK, Media::Json, json(&Answer { hold, bookings })))
}

/// Bookings that were claimed together.
#[derive(serde::Serialize)]
struct Answer {
    hold: Option<String>,
    bookings: Vec<BookingAnswer>,
}

async fn booked(
    app: &App,
    sight: Sight,
    claims: &Group,
    status: StatusCode,
) -> Result<Response<ResponseBody>, Problem> {
    let mut bookings = Vec::with_capacity(claims.len());
    let hold = claims.first().map(|c| c.number).unwrap_or_default();
    for claim in claims {
        bookings.push(of_claim(app, sight, claim, hold, State::Booked).await?);
    }
    Ok(respond(status, Media::Json, json(&Answer { hold: hold_code(app, claims), bookings })))
}

fn held_claim(app: &App, claim: &NumberedClaim) -> HeldClaim {
    let names = app.names();
    let NumberedClaim { number, claim } = claim;
    HeldClaim {
        booking: names.booking(*number),
        party: names.party(claim.party),
        slot: names.slot(claim.slot),
        dose: claim.dose.0,
    }
}

/// A hold is named by its first number.
fn hold_code(app: &App, claims: &Group) -> Option<String> {
    claims.first().map(|claim| app.names().booking(claim.number))
}

/// The hold a booking came from; never changes.
fn hold_of(app: &App, number: BookingNumber) -> BookingNumber {
    app.campaign.engine.booking(number).map_or(number, |view| view.hold)
}

fn published(app: &App, submitted: &Submitted) -> Result<Value, Problem> {
    let programmes = app.campaign.catalogue.programmes();
    if let Some(taken) = programmes.iter().find(|kept| kept.entry == submitted.seq) {
        return Ok(super::programme::taken(app, taken));
    }
    match app.campaign.catalogue.published(submitted.seq) {
        Some(published) => Ok(super::bulk::answer(&published)),
        // Durable, but not shown yet: a moment later it is.
        None => Err(Problem::new(Code::IdempotencyInFlight, "what was published is about to be shown")),
    }
}

#[cfg(test)]
mod tests {
    use berth_engine::{Refusal, Seq};

    use super::*;

    #[tokio::test]
    async fn a_first_request_that_still_runs_is_a_conflict_and_not_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let app = App::for_test(dir.path());
        let running = Submitted { result: Err(Refusal::IdempotencyInFlight), seq: Seq(0), replayed: false };
        let Err(problem) = render(&app, Sight::Holder, &running).await else { panic!("there is no outcome yet") };
        assert_eq!(problem.code(), Code::IdempotencyInFlight);
        app.campaign.engine.close().unwrap();
    }
}
