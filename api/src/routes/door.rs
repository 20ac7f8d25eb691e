//! At the door of a centre: the person is there, did not come, or came without a booking. What was given is in `doses`.

use berth_engine::{BookingNumber, CodeTry, Command, Refusal, State};
use hyper::Response;

use super::{execute, execute_for, fingerprint, key, parse, read_json, read_nothing, safe, with_claims};
use crate::ack::AckMode;
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{self, Code, Problem};
use crate::router::Call;
use crate::wire::{CheckInRequest, ClaimRequest, Object};

/// `POST /v1/bookings/{booking}/check-in`
pub(crate) async fn check_in(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let CheckInRequest { code } = parse(&body)?;
    let said = four_digits(&code)?;
    let booking = booking(&call)?;
    let idempotency = fingerprint(&call).number(booking.0).number(said.into()).under(key);
    judge_code(&call.app, call.ack, booking, said).await?;
    execute(&call.app, call.ack, call.sight(), Command::CheckIn { booking }, idempotency).await
}

/// `POST /v1/bookings/{booking}/no-show`
pub(crate) async fn no_show(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    read_nothing(&mut call).await?;
    let booking = booking(&call)?;
    let idempotency = fingerprint(&call).number(booking.0).under(key);
    execute(&call.app, call.ack, call.sight(), Command::NoShow { booking }, idempotency).await
}

/// `POST /v1/walk-ins`
pub(crate) async fn walk_in(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let asked: ClaimRequest<'_> = parse(&body)?;
    let claims = call.app.names().parse_claims(&[Object(asked)])?;
    let Some(&claim) = claims.first() else {
        return Err(Problem::new(Code::MalformedRequest, "a walk-in is one claim"));
    };
    // Whoever stands at the door may name any party, at its own door.
    let (app, catalogue) = (&call.app, &call.app.campaign.catalogue);
    match catalogue.slot(claim.slot) {
        Some(place) => call.caller().may_work_at(&place.session.centre, catalogue)?,
        // Not shown yet, so nobody knows whose it is: only who works everywhere may try.
        None if !call.caller().works_at_slot(claim.slot, catalogue) => {
            return Err(problem::refused(&Refusal::UnknownSlot { slot: claim.slot }, &app.names()));
        }
        None => {}
    }
    let idempotency = with_claims(fingerprint(&call), &claims).under(key);
    execute_for(&call, Command::WalkIn { claim }, idempotency).await
}

/// The booking of the path, which the caller may work on.
fn booking(call: &Call) -> Result<BookingNumber, Problem> {
    let booking = call.app.names().parse_booking(&call.parameter)?;
    call.caller().may_touch(booking, &call.app)?;
    Ok(booking)
}

/// A check-in code as it is said.
pub(super) fn four_digits(code: &str) -> Result<u16, Problem> {
    let digits = code.len() == 4 && code.bytes().all(|byte| byte.is_ascii_digit());
    let code = digits.then(|| code.parse().ok()).flatten();
    code.ok_or_else(|| Problem::new(Code::MalformedRequest, "code: must be four digits, as \"0417\""))
}

/// Whether the code is the booking's, where the booking is one to be checked in. What else there is to say the engine says, the
/// first answer to a repeat too.
// rule: IDM-2 a no that tells of a booking waits for it
async fn judge_code(app: &App, ack: AckMode, booking: BookingNumber, said: u16) -> Result<(), Problem> {
    let engine = &app.campaign.engine;
    let Some(view) = engine.booking(booking).filter(|view| view.state == State::Booked) else { return Ok(()) };
    let tried = engine.try_check_in_code(booking, said, engine.now());
    safe(app, ack, view.seq).await?;
    match tried {
        CodeTry::Right => Ok(()),
        CodeTry::Wrong { tries_left } => Err(problem::wrong_check_in_code(tries_left)),
        CodeTry::Locked { until } => Err(problem::codes_locked(until, &app.names())),
    }
}
