//! What an administrator does to a session: takes it off sale, puts it back, changes a capacity.
//!
//! A session is several slots and each change of one is an entry of its own. So a request of several has a step for each,
//! under a key made of the request's, and the last step under the request's own key: when that has an outcome everything is
//! done, and a repeat after a crash goes on where it stopped.

use std::sync::Arc;

use berth_engine::{Command, Request, Seq, SlotId, Units};
use berth_programme::{Session, SlotRef};
use hyper::{Response, StatusCode};
use jiff::civil::Time;

use super::bookings::json;
use super::{apply, fingerprint, key, mark_replayed, parse, read_json, read_nothing, safe, settled, told};
use crate::app::App;
use crate::body::ResponseBody;
use crate::idempotency::{self, KeySpace};
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, Route, respond};
use crate::store;
use crate::wire::ResizeRequest;

/// `POST /v1/sessions/{session}/close` and `/open`
pub(crate) async fn set_open(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = idempotency::needed(&call.headers)?.to_owned();
    let scope = KeySpace::of(call.caller());
    read_nothing(&mut call).await?;
    let app = Arc::clone(&call.app);
    let session = session(&app, &call.parameter)?;
    let print = fingerprint(&call).piece(session.id.as_bytes());
    let engine = &app.campaign.engine;
    let whole = print.clone().under(scope.key(&key));
    let mut newest = Seq(0);
    // The first time, a key that stands for something else is found before anything is done.
    let mut last = engine.repeat_of(whole);
    for (at, SlotRef { slot, .. }) in session.slots.iter().enumerate() {
        if last.is_some() {
            break;
        }
        let is_last = at + 1 == session.slots.len();
        let step = if is_last { whole } else { print.clone().under(scope.step(&key, "slot", slot.0.into())) };
        let slot = *slot;
        let command =
            if call.endpoint.route == Route::OpenSession { Command::Open { slot } } else { Command::Close { slot } };
        let request = Request { command, idempotency: Some(step) };
        let submitted = engine.submit(&request, engine.now()).map_err(|failure| problem::failed(&failure))?;
        newest = newest.max(submitted.seq);
        if is_last || submitted.result.is_err() {
            last = Some(submitted);
        }
    }
    let Some(last) = last else { return Err(no_slots(&session)) };
    safe(&app, call.ack, newest.max(last.seq)).await?;
    if let Err(refusal) = &last.result {
        return Err(problem::refused(refusal, &app.names()));
    }
    let slots: Vec<SlotId> = session.slots.iter().map(|s| s.slot).collect();
    let mut response = changed(&app, &session.id, &slots);
    if last.replayed {
        app.metrics.replayed();
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// `POST /v1/sessions/{session}/resize`
pub(crate) async fn resize(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let asked: ResizeRequest = parse(&body)?;
    let session = session(&call.app, &call.parameter)?;
    let slot = slot_of(&call.app, &session, &asked)?;
    let capacity = Units::new(asked.capacity).ok_or_else(|| {
        Problem::new(Code::MalformedRequest, format!("capacity: must be at most {}", Units::MAX.get()))
    })?;
    let idempotency = fingerprint(&call).number(slot.0.into()).number(asked.capacity.into()).under(key);
    let app = Arc::clone(&call.app);
    // The turn of who publishes may be another's for a while: on a thread where waiting is welcome.
    let work = tokio::task::spawn_blocking(move || {
        let engine = &app.campaign.engine;
        let repeated = || engine.repeat_of(idempotency).is_some();
        let submit = || apply(&app, Command::Resize { slot, capacity }, idempotency);
        app.campaign.publisher.resize((slot, capacity.get()), repeated, submit, engine.now())
    });
    let submitted = match work.await.expect("resizing does not panic, and nobody cancels it") {
        Ok(Ok(submitted)) => submitted?,
        Ok(Err(beyond)) => {
            let detail = format!("centre {} has not so much: {beyond}", session.centre);
            let problem = Problem::new(Code::NoStock, detail).with("centre", &*session.centre);
            return Err(problem.with("on_hand", beyond.on_hand).with("on_the_way", beyond.on_the_way));
        }
        Err(error) => return Err(store::failed(&error)),
    };
    told(&call.app, call.sight(), &settled(&call.app, call.ack, submitted).await?).await
}

/// The slot that is meant, by its name or by its window and pool.
fn slot_of(app: &App, session: &Session, asked: &ResizeRequest) -> Result<SlotId, Problem> {
    let malformed = |detail: &str| Problem::new(Code::MalformedRequest, detail);
    match (&asked.slot, &asked.window, &asked.pool) {
        (Some(slot), None, None) => {
            let slot = app.names().parse_slot(slot)?;
            let stands = session.slots.iter().any(|s| s.slot == slot);
            stands.then_some(slot).ok_or_else(|| {
                let detail = format!("session {} has no slot {}", session.id, app.names().slot(slot));
                Problem::new(Code::UnknownSlot, detail)
            })
        }
        (None, Some(window), Some(pool)) => {
            let programme = app.campaign.programme.get();
            let opens: Time = (window.len() == 5)
                .then(|| window.parse().ok())
                .flatten()
                .ok_or_else(|| malformed("window: must be the time its window opens, as 09:00"))?;
            let number =
                programme.pool_number(pool).ok_or_else(|| malformed("pool: the programme has no such pool"))?;
            let opens = programme.calendar().instant(session.date, opens);
            let window = session.windows.iter().find(|w| Some(w.start) == opens);
            let slot = window.and_then(|w| session.slots_of(w).iter().find(|s| s.pool == number));
            slot.map(|s| s.slot).ok_or_else(|| {
                let detail = format!("session {} has no such pool in a window that opens then", session.id);
                Problem::new(Code::UnknownSlot, detail)
            })
        }
        _ => Err(malformed("give either slot, or window and pool")),
    }
}

/// The session of a path.
pub(super) fn session(app: &App, id: &str) -> Result<Arc<Session>, Problem> {
    app.campaign.catalogue.session(id).ok_or_else(|| {
        let shown: String = id.chars().take(80).collect();
        Problem::new(Code::UnknownSession, format!("there is no session {shown}"))
    })
}

fn no_slots(session: &Session) -> Problem {
    Problem::new(Code::UnknownSlot, format!("session {} has no slots", session.id))
}

/// The answer: which slots of the session were changed.
pub(super) fn changed(app: &App, session: &str, slots: &[SlotId]) -> Response<ResponseBody> {
    #[derive(serde::Serialize)]
    struct Answer<'a> {
        session: &'a str,
        slots: Vec<String>,
    }
    let slots = slots.iter().map(|slot| app.names().slot(*slot)).collect();
    respond(StatusCode::OK, Media::Json, json(&Answer { session, slots }))
}
