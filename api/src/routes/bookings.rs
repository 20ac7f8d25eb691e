//! Bookings: made in one step, read, given up, moved.

use std::time::Duration;

use berth_engine::{BookingNumber, BookingView, By, Command, NumberedClaim, SlotId, State};
use berth_programme::SlotPlace;
use hyper::{Response, StatusCode};

use super::{
    apply, claims_of, execute, execute_for, fingerprint, key, mark_replayed, outcomes, parse, read_json, read_nothing,
    safe, settled, with_claims,
};
use crate::access::{Role, Sight};
use crate::ack::AckMode;
use crate::app::App;
use crate::audit::{CameTo, in_rows};
use crate::body::ResponseBody;
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};
use crate::wire::{BookRequest, BookingAnswer, CancelRequest, MoveRequest};

/// `POST /v1/bookings`
pub(crate) async fn book(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let BookRequest { claims } = parse(&body)?;
    let claims = claims_of(&call.app, call.caller(), &claims)?;
    let idempotency = with_claims(fingerprint(&call), &claims).under(key);
    let mut response = execute_for(&call, Command::Book { claims: &claims }, idempotency).await?;
    // Of the others no line is written.
    if call.caller().role == Role::Operator {
        let parties = claims.iter().map(|claim| claim.party).collect();
        response.extensions_mut().insert(CameTo(in_rows(&call.app.names(), parties)));
    }
    Ok(response)
}

/// `GET /v1/bookings/{booking}`
pub(crate) async fn read(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let booking = call.app.names().parse_booking(&call.parameter)?;
    call.caller().may_touch(booking, &call.app)?;
    shown(&call.app, call.ack, call.sight(), booking).await
}

/// `GET /v1/booking-references/{reference}`
pub(crate) async fn read_reference(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let booking = call.app.names().parse_reference(&call.parameter)?;
    let unknown = || Problem::new(Code::UnknownBooking, format!("there is no booking {}", call.parameter));
    if call.app.campaign.engine.booking(booking).is_none() {
        return Err(unknown());
    }
    shown(&call.app, call.ack, call.sight(), booking).await
}

async fn shown(
    app: &App,
    ack: AckMode,
    sight: Sight,
    booking: BookingNumber,
) -> Result<Response<ResponseBody>, Problem> {
    let Some(view) = app.campaign.engine.booking(booking) else {
        return Err(problem::refused(&berth_engine::Refusal::UnknownBooking { booking }, &app.names()));
    };
    safe(app, ack, view.seq).await?;
    let answer = of_view(app, sight, &view).await?;
    Ok(respond(StatusCode::OK, Media::Json, json(&answer)))
}

/// `POST /v1/bookings/{booking}/cancel`
pub(crate) async fn cancel(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    read_nothing(&mut call).await?;
    let booking = call.app.names().parse_booking(&call.parameter)?;
    call.caller().may_touch(booking, &call.app)?;
    let idempotency = fingerprint(&call).number(booking.0).under(key);
    execute(&call.app, call.ack, call.sight(), Command::Cancel { booking, by: By::Holder }, idempotency).await
}

/// `POST /v1/bookings/cancel`
pub(crate) async fn cancel_group(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let CancelRequest { bookings } = parse(&body)?;
    let names = call.app.names();
    let bookings: Vec<_> = bookings.iter().map(|code| names.parse_booking(code)).collect::<Result<_, _>>()?;
    for booking in &bookings {
        call.caller().may_touch(*booking, &call.app)?;
    }
    // What is to be given up is the same in whatever order.
    let mut sorted = bookings.clone();
    sorted.sort_unstable();
    let idempotency = sorted.iter().fold(fingerprint(&call), |print, booking| print.number(booking.0)).under(key);
    let command = Command::CancelGroup { bookings: &bookings, by: By::Holder };
    let submitted = settled(&call.app, call.ack, apply(&call.app, command, idempotency)?).await?;
    let mut response = outcomes::given_up(&call.app, call.sight(), &submitted).await?;
    if submitted.replayed {
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// `POST /v1/bookings/{booking}/move`
pub(crate) async fn move_to(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let MoveRequest { slot } = parse(&body)?;
    let names = call.app.names();
    let (booking, to) = (names.parse_booking(&call.parameter)?, names.parse_slot(&slot)?);
    call.caller().may_touch(booking, &call.app)?;
    call.caller().may_use_slot(to, &call.app)?;
    let idempotency = fingerprint(&call).number(booking.0).number(to.0.into()).under(key);
    execute(&call.app, call.ack, call.sight(), Command::Move { booking, to, by: By::Holder }, idempotency).await
}

/// A hold or booking as it stands.
pub(crate) async fn of_view(app: &App, sight: Sight, view: &BookingView) -> Result<BookingAnswer, Problem> {
    let claim = NumberedClaim { number: view.number, claim: view.claim };
    let mut answer = of_claim(app, sight, &claim, view.hold, view.state).await?;
    let names = app.names();
    // What was booked in one step never had a deadline; a booking's has no meaning any more.
    if matches!(view.state, State::Held | State::Expired) {
        answer.expires_at = Some(names.time(view.expires_at));
    }
    let link = view.link.map(|link| names.booking(link));
    match view.state {
        State::Moved => answer.moved_to = link,
        _ => answer.moved_from = link,
    }
    Ok(answer)
}

/// A claim as an outcome tells of it: nothing in it changes later, so a repeat gets the same answer.
pub(crate) async fn of_claim(
    app: &App,
    sight: Sight,
    claim: &NumberedClaim,
    hold: BookingNumber,
    state: State,
) -> Result<BookingAnswer, Problem> {
    let names = app.names();
    let NumberedClaim { number, claim } = claim;
    let place = place(app, claim.slot).await?;
    Ok(BookingAnswer {
        booking: names.booking(*number),
        hold: names.booking(hold),
        state: state.as_str(),
        party: names.party(claim.party),
        slot: names.slot(claim.slot),
        dose: claim.dose.0,
        session: place.session.id.to_string(),
        centre: place.session.centre.to_string(),
        start: names.time(place.start),
        end: names.time(place.end),
        expires_at: None,
        moved_to: None,
        moved_from: None,
        dose_record: (state == State::Completed).then(|| names.dose(*number)),
        check_in_code: (sight == Sight::Holder && state == State::Booked)
            .then(|| format!("{:04}", app.campaign.engine.check_in_code(*number))),
    })
}

/// How often and how long to look for a slot in the catalogue.
const PLACE_LOOKS: u32 = 5000;
const PLACE_LOOK_EVERY: Duration = Duration::from_millis(1);

/// Where and when a claimed slot is.
///
/// A publish opens its slots in the engine, becomes durable and is then shown in the catalogue. Only who
/// guesses a slot's number can claim it in the moment between, and waits here for that moment to pass.
pub(crate) async fn place(app: &App, slot: SlotId) -> Result<SlotPlace, Problem> {
    for _ in 0..PLACE_LOOKS {
        if let Some(place) = app.campaign.catalogue.slot(slot) {
            return Ok(place);
        }
        tokio::time::sleep(PLACE_LOOK_EVERY).await;
    }
    let detail = "the session of this slot is still being published: repeat with the same key";
    Err(Problem::new(Code::Overloaded, detail))
}

/// An answer's bytes.
pub(crate) fn json(answer: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("an answer has only string keys, and writing to memory cannot fail")
}
