//! Lotteries: made, registered for, drawn, and told of to everybody.

use std::sync::Arc;

use berth_engine::{BookingNumber, PartyId, SlotId, TimestampMs};
use berth_programme::lottery::draw::Preference;
use berth_programme::lottery::{Done, Lotteries, Lottery, LotteryError, Making, Registered, State};
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{fingerprint, key, mark_replayed, parse, read_json, read_nothing, safe};
use crate::app::App;
use crate::body::{CutShort, ResponseBody};
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};
use crate::store;

/// Pieces of a result made ahead of the client.
const PIECES_AHEAD: usize = 4;
const PIECE_BYTES: usize = 32 << 10;

/// `POST /v1/lotteries`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MakingRequest {
    id: String,
    name: String,
    dose: u8,
    /// By id; or all that these centres have from one day to another.
    #[serde(default)]
    sessions: Vec<String>,
    #[serde(default)]
    centres: Vec<String>,
    from: Option<String>,
    until: Option<String>,
    /// Only what lies in this pool.
    pool: Option<String>,
    registration: Window,
    draws_at: String,
    offers_until: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    opens_at: String,
    closes_at: String,
}

/// `POST /v1/lotteries/{lottery}/registrations`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistrationRequest {
    party: String,
    preferences: Vec<WishRequest>,
}

/// A session, or a centre's day.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WishRequest {
    session: Option<String>,
    centre: Option<String>,
    date: Option<String>,
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Code::MalformedRequest, detail)
}

fn lotteries(app: &App) -> Result<&Arc<Lotteries>, Problem> {
    app.lotteries.as_ref().ok_or_else(store::unavailable)
}

fn instant(key: &str, text: &str) -> Result<TimestampMs, Problem> {
    let at = text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
    at.map(TimestampMs).ok_or_else(|| malformed(format!("{key}: must be an instant as 2026-12-01T09:00:00+05:30")))
}

fn date(key: &str, text: Option<&String>) -> Result<Date, Problem> {
    let date = text.filter(|text| text.len() == 10).and_then(|text| text.parse().ok());
    date.ok_or_else(|| malformed(format!("{key}: must be a date as 2026-12-01")))
}

/// What goes wrong with a lottery, as a problem.
fn of_error(app: &App, error: &LotteryError) -> Problem {
    match error {
        LotteryError::Faults(faults) => {
            malformed(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        }
        LotteryError::Unknown(_) => Problem::new(Code::UnknownLottery, error.to_string()),
        LotteryError::State(state, why) => Problem::new(Code::LotteryState, why.clone()).with("state", state.as_str()),
        LotteryError::NotRegistered(party) => {
            Problem::new(Code::NotRegistered, format!("party {} is not registered", app.names().party(*party)))
        }
        LotteryError::SeedLost(_) => {
            tracing::error!(%error, "a lottery cannot be drawn");
            Problem::new(Code::StoreUnavailable, "the lottery cannot be drawn: its seed is lost")
        }
        LotteryError::Stopping => {
            Problem::new(Code::Draining, "this server is stopping: the draw goes on at the next start")
        }
        LotteryError::Refused(refusal) => problem::refused(refusal, &app.names()),
        LotteryError::Failed(failure) => problem::failed(failure),
        LotteryError::Store(error) => store::failed(error),
    }
}

/// Does something that may block, on a thread where that is welcome.
async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&Lotteries) -> Result<T, LotteryError> + Send + 'static,
) -> Result<T, Problem> {
    let lotteries = Arc::clone(lotteries(app)?);
    let done = tokio::task::spawn_blocking(move || work(&lotteries)).await;
    done.expect("what is done of lotteries does not panic, and nobody cancels it")
        .map_err(|error| of_error(app, &error))
}

/// Waits until what was done may be shown, and reads see it.
async fn shown(call: &Call, done: Done) -> Result<(), Problem> {
    safe(&call.app, call.ack, done.seq).await?;
    store::reached(&call.app, done.seq).await
}

fn answer(status: StatusCode, body: &Value, replayed: bool) -> Response<ResponseBody> {
    let mut response = respond(status, Media::Json, body.to_string());
    if replayed {
        mark_replayed(&mut response);
    }
    response
}

/// What everybody may know of a lottery.
fn told(app: &App, lottery: &Lottery, whole: bool) -> Value {
    let Lottery { spec, standing, registrations } = lottery;
    let time = |at: u64| app.names().time(TimestampMs(at));
    let mut told = json!({
        "id": spec.id,
        "name": spec.name,
        "state": standing.state.as_str(),
        "dose": spec.dose,
        "registration": {"opens_at": time(spec.opens_at), "closes_at": time(spec.closes_at)},
        "draws_at": time(spec.draws_at),
        "offers_until": time(spec.offers_until),
        "commitment": spec.commitment,
        "registrations": registrations,
    });
    if let Some(digest) = &standing.digest {
        told["digest"] = digest.clone().into();
    }
    if let Some(seed) = standing.seed.as_ref().filter(|_| standing.state >= State::Drawn) {
        told["seed"] = seed.clone().into();
        told["given"] = standing.given.into();
    }
    if whole {
        let mut sessions: Vec<String> = Vec::new();
        for slot in &spec.slots {
            let id = app.campaign.catalogue.slot(SlotId(*slot)).map(|place| place.session.id.to_string());
            sessions.extend(id.filter(|id| !sessions.contains(id)));
        }
        told["sessions"] = sessions.into();
        told["slots"] = spec.slots.iter().map(|slot| app.names().slot(SlotId(*slot))).collect::<Vec<_>>().into();
    }
    told
}

/// `POST /v1/lotteries`
pub(crate) async fn make(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let asked: MakingRequest = parse(&body)?;
    let slots = slots(&call.app, &asked)?;
    let making = Making {
        id: asked.id.clone(),
        name: asked.name,
        dose: asked.dose,
        slots,
        opens_at: instant("registration.opens_at", &asked.registration.opens_at)?,
        closes_at: instant("registration.closes_at", &asked.registration.closes_at)?,
        draws_at: instant("draws_at", &asked.draws_at)?,
        offers_until: instant("offers_until", &asked.offers_until)?,
    };
    let idempotency = fingerprint(&call).piece(body.trim_ascii()).under(key);
    let now = call.app.campaign.engine.now();
    let done = blocking(&call.app, move |lotteries| lotteries.make(making, idempotency, now)).await?;
    shown(&call, done).await?;
    let lottery = lotteries(&call.app)?.get(&asked.id).map_err(|error| of_error(&call.app, &error))?;
    Ok(answer(StatusCode::CREATED, &told(&call.app, &lottery, true), done.replayed))
}

/// What is drawn for.
fn slots(app: &App, asked: &MakingRequest) -> Result<Vec<SlotId>, Problem> {
    let catalogue = &app.campaign.catalogue;
    let pool = asked.pool.as_ref().map(|id| {
        let pool = app.campaign.programme.get().pool_number(id);
        pool.ok_or_else(|| malformed("pool: is not a pool of the programme"))
    });
    let pool = pool.transpose()?;
    let mut sessions = Vec::new();
    for id in &asked.sessions {
        sessions.push(super::sessions::session(app, id)?);
    }
    if !asked.centres.is_empty() {
        let (from, until) = (date("from", asked.from.as_ref())?, date("until", asked.until.as_ref())?);
        for id in &asked.centres {
            let unknown = || Problem::new(Code::UnknownCentre, "centres: there is no centre of one of these ids");
            let centre = catalogue.centre(id).ok_or_else(unknown)?;
            sessions
                .extend(centre.sessions().iter().filter(|held| (from..=until).contains(&held.date)).map(Arc::clone));
        }
    }
    let of_pool = sessions.iter().flat_map(|session| session.slots.iter());
    Ok(of_pool.filter(|slot| pool.is_none_or(|pool| slot.pool == pool)).map(|slot| slot.slot).collect())
}

/// `GET /v1/lotteries`
pub(crate) fn list(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    let all = lotteries(&call.app)?.all().map_err(|error| of_error(&call.app, &error))?;
    let all: Vec<_> = all.iter().map(|lottery| told(&call.app, lottery, false)).collect();
    Ok(answer(StatusCode::OK, &json!({"lotteries": all}), false))
}

/// `GET /v1/lotteries/{lottery}`
pub(crate) fn read(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    let lottery = lotteries(&call.app)?.get(&call.parameter).map_err(|error| of_error(&call.app, &error))?;
    Ok(answer(StatusCode::OK, &told(&call.app, &lottery, true), false))
}

/// `POST /v1/lotteries/{lottery}/registrations`
pub(crate) async fn register(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let asked: RegistrationRequest = parse(&body)?;
    let names = call.app.names();
    let party = names.parse_party(&asked.party)?;
    call.caller().may_act_for(party, &names)?;
    let preferences = asked.preferences.iter().enumerate().map(|(at, wish)| preference(at, wish));
    let preferences = preferences.collect::<Result<Vec<_>, Problem>>()?;
    let mut print = fingerprint(&call).piece(call.parameter.as_bytes()).number(party.0.into());
    for preference in &preferences {
        print = print.piece(preference.to_string().as_bytes());
    }
    let (id, idempotency, now) = (call.parameter.clone(), print.under(key), call.app.campaign.engine.now());
    let wishes = preferences.clone();
    let done = blocking(&call.app, move |all| all.register(&id, party, preferences, idempotency, now)).await?;
    shown(&call, done).await?;
    let told = json!({"lottery": call.parameter, "party": asked.party, "preferences": wished(&wishes)});
    Ok(answer(StatusCode::CREATED, &told, done.replayed))
}

fn preference(at: usize, wish: &WishRequest) -> Result<Preference, Problem> {
    let text = match (&wish.session, &wish.centre, &wish.date) {
        (Some(session), None, None) => Some(format!("session:{session}")),
        (None, Some(centre), Some(date)) => Some(format!("centre:{centre}@{date}")),
        _ => None,
    };
    let wish = text.and_then(|text| text.parse().ok());
    wish.ok_or_else(|| malformed(format!("preferences[{at}]: must have a session, or a centre and a date")))
}

fn wished(preferences: &[Preference]) -> Vec<Value> {
    let wish = |preference: &Preference| match preference {
        Preference::Session(id) => json!({"session": id}),
        Preference::CentreDay(centre, date) => json!({"centre": centre, "date": date.to_string()}),
    };
    preferences.iter().map(wish).collect()
}

/// The party of the path, whom the caller reaches.
fn party_of(call: &Call) -> Result<PartyId, Problem> {
    let names = call.app.names();
    let party = names.parse_party(&call.parameter2)?;
    call.caller().may_act_for(party, &names)?;
    Ok(party)
}

/// `GET /v1/lotteries/{lottery}/registrations/{party}`
pub(crate) async fn read_registration(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let party = party_of(&call)?;
    safe(&call.app, call.ack, call.app.campaign.engine.durable()).await?;
    let found = lotteries(&call.app)?.registration(&call.parameter, party);
    let Registered { preferences, came } = found.map_err(|error| of_error(&call.app, &error))?;
    let names = call.app.names();
    let mut told = json!({
        "lottery": call.parameter,
        "party": names.party(party),
        "preferences": wished(&preferences),
    });
    if let Some((place, came)) = came {
        told["place"] = place.into();
        told["passed"] = json!(came.passed);
        if let Some((slot, hold)) = came.given {
            told["slot"] = names.slot(SlotId(slot)).into();
            told["hold"] = names.booking(BookingNumber(hold)).into();
        }
    }
    Ok(answer(StatusCode::OK, &told, false))
}

/// `DELETE /v1/lotteries/{lottery}/registrations/{party}`
pub(crate) async fn withdraw(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    read_nothing(&mut call).await?;
    let party = party_of(&call)?;
    let print = fingerprint(&call).piece(call.parameter.as_bytes()).number(party.0.into());
    let (id, idempotency, now) = (call.parameter.clone(), print.under(key), call.app.campaign.engine.now());
    let done = blocking(&call.app, move |all| all.withdraw(&id, party, idempotency, now)).await?;
    shown(&call, done).await?;
    let told = json!({"lottery": call.parameter, "party": call.app.names().party(party)});
    Ok(answer(StatusCode::OK, &told, done.replayed))
}

/// `POST /v1/lotteries/{lottery}/draw`: it has no effect twice, whatever its key.
pub(crate) async fn draw(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    key(&call)?;
    read_nothing(&mut call).await?;
    let (id, now) = (call.parameter.clone(), call.app.campaign.engine.now());
    let lottery = blocking(&call.app, move |all| all.draw_now(&id, now)).await?;
    safe(&call.app, call.ack, call.app.campaign.engine.appended()).await?;
    Ok(answer(StatusCode::OK, &told(&call.app, &lottery, true), false))
}

/// `GET /v1/lotteries/{lottery}/result`
pub(crate) fn result(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    let lotteries = Arc::clone(lotteries(&call.app)?);
    let id = call.parameter.clone();
    // Whether there is one is told before the first line.
    drop(lotteries.result(&id).map_err(|error| of_error(&call.app, &error))?);
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write_all(&lotteries, &id, &pieces) {
            if let Some(error) = error {
                tracing::error!(%error, "the result of a lottery was cut short");
            }
            // Without the last line nobody takes it for whole.
            let _ = pieces.blocking_send(Err(CutShort));
        }
    });
    let mut response = Response::new(ResponseBody::pieces(receiver));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Media::Ndjson.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `Err(None)`: nobody takes it any more.
fn write_all(
    lotteries: &Lotteries,
    id: &str,
    pieces: &mpsc::Sender<Result<Bytes, CutShort>>,
) -> Result<(), Option<LotteryError>> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    for line in lotteries.result(id).map_err(Some)? {
        serde_json::to_writer(&mut piece, &line.map_err(Some)?).expect("a line has only string keys");
        piece.push(b'\n');
        if piece.len() >= PIECE_BYTES {
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES));
            pieces.blocking_send(Ok(full.into())).map_err(|_| None)?;
        }
    }
    pieces.blocking_send(Ok(piece.into())).map_err(|_| None)
}
