//! At the door of a centre: the person was served, did not come, or came without a booking.

use berth_engine::{BookingNumber, Command};
use hyper::Response;

use super::{execute, fingerprint, key, parse, read_json, read_nothing, with_claims};
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Call, Route};
use crate::wire::{ClaimRequest, Object};

/// `POST /v1/bookings/{booking}/complete` and `/no-show`
pub(crate) async fn step(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    read_nothing(&mut call).await?;
    let booking = booking(&call)?;
    let idempotency = fingerprint(&call).number(booking.0).under(key);
    let command = match call.endpoint.route {
        Route::Complete => Command::Complete { booking },
        _ => Command::NoShow { booking },
    };
    execute(&call.app, call.ack, command, idempotency).await
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
    if let Some(place) = call.app.campaign.catalogue.slot(claim.slot) {
        call.caller().may_work_at(&place.session.centre, &call.app.campaign.catalogue)?;
    }
    let idempotency = with_claims(fingerprint(&call), &claims).under(key);
    execute(&call.app, call.ack, Command::WalkIn { claim }, idempotency).await
}

/// The booking of the path, which the caller may work on.
fn booking(call: &Call) -> Result<BookingNumber, Problem> {
    let booking = call.app.names().parse_booking(&call.parameter)?;
    call.caller().may_touch(booking, &call.app)?;
    Ok(booking)
}
