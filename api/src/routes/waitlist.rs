//! The waitlist: who waits for what is given back, and what they are offered. An offer is a hold in the party's name: it is confirmed and
//! released as any other.

use std::str::FromStr as _;
use std::sync::Arc;

use berth_engine::{Dose, PartyId, ProductId, Refusal, Seq};
use berth_programme::Calendar;
use berth_programme::waitlist::{JoinError, Scope as Place, Seen, Stand, Waitlist, Wish};
use hyper::{Response, StatusCode};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::bookings::{json, of_view};
use super::{fingerprint, key, mark_replayed, parse, read_json, safe};
use crate::access::Scope;
use crate::ack::AckMode;
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};
use crate::store;
use crate::wire::{BookingAnswer, numbered};

/// Entries of a party that are listed.
const LISTED_MAX: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinRequest {
    party: String,
    centre: Option<String>,
    district: Option<String>,
    from: String,
    to: String,
    dose: u8,
    product: Option<String>,
}

#[derive(Serialize)]
struct EntryAnswer {
    entry: String,
    party: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    centre: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    district: Option<String>,
    from: String,
    to: String,
    dose: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<String>,
    joined_at: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead: Option<usize>,
    offers_not_taken: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<BookingAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
}

#[derive(Serialize)]
struct DayAnswer {
    date: String,
    dose: u8,
    waiting: u64,
    offered: u64,
}

fn waitlist(app: &App) -> Result<&Arc<Waitlist>, Problem> {
    app.waitlist.as_ref().ok_or_else(off)
}

fn off() -> Problem {
    Problem::new(Code::NoWaitlist, "the programme in force has no [waitlist]")
}

/// Whether the caller may do this for a party: a platform and an administrator for each, a citizen for its own, an operator for whoever
/// waits at its own centre.
fn may(call: &Call, party: PartyId, place: &Place) -> Result<(), Problem> {
    let (names, catalogue) = (call.app.names(), &call.app.campaign.catalogue);
    match (&call.caller().scope, place) {
        (Scope::Centres { .. }, Place::Centre(centre)) => call.caller().may_work_at(centre, catalogue),
        (Scope::Centres { .. }, Place::District(_)) => {
            Err(Problem::new(Code::Forbidden, "an operator joins people at its own centre"))
        }
        _ => call.caller().may_act_for(party, &names),
    }
}

fn wish(call: &Call, body: &[u8]) -> Result<Wish, Problem> {
    let JoinRequest { party, centre, district, from, to, dose, product } = parse(body)?;
    let malformed = |detail: &str| Problem::new(Code::MalformedRequest, detail);
    let party = call.app.names().parse_party(&party)?;
    let scope = match (centre, district) {
        (Some(centre), None) => Place::Centre(Arc::from(centre)),
        (None, Some(district)) => Place::District(Arc::from(district)),
        _ => return Err(malformed("either centre or district")),
    };
    let day = |text: &str| Date::from_str(text).ok().and_then(Calendar::day_of);
    let (first, last) = (day(&from), day(&to));
    let (first, last) = first.zip(last).ok_or_else(|| malformed("from and to: dates as 2026-11-27"))?;
    let programme = call.app.campaign.programme.get();
    let doses_max = programme.file().products.iter().map(|product| product.doses).max().unwrap_or(1);
    if !(1..=doses_max).contains(&dose) {
        return Err(malformed("dose: no product has it"));
    }
    let product = match product {
        None => ProductId(0),
        Some(id) => {
            programme.product_number(&id).ok_or_else(|| malformed("product: the programme has none of this id"))?
        }
    };
    Ok(Wish { party, scope, first, last, dose: Dose(dose), product })
}

/// `POST /v1/waitlist`
pub(crate) async fn join(mut call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let body = read_json(&mut call).await?;
    let wish = wish(&call, &body)?;
    may(&call, wish.party, &wish.scope)?;
    let kind = u64::from(matches!(wish.scope, Place::Centre(_)));
    let print = fingerprint(&call).number(wish.party.0.into()).number(kind).piece(wish.scope.id().as_bytes());
    let print = print.number(wish.first.into()).number(wish.last.into());
    let idempotency = print.number(wish.dose.0.into()).number(wish.product.0.into()).under(key);
    let app = &call.app;
    let engine = &app.campaign.engine;
    let repeated = engine.repeat_of(idempotency).is_some();
    let joined = waitlist(app)?.join(wish, Some(idempotency), engine.now());
    let entry = match joined {
        Ok(entry) => entry,
        Err(error) => return Err(refused(&call, error).await),
    };
    safe(app, call.ack, entry).await?;
    if repeated {
        app.metrics.replayed();
        // Of this run it is in memory; of the one before it is in the store.
        safe(app, AckMode::Disk, entry).await?;
        store::reached(app, entry).await?;
    }
    let seen = see(app, entry)?;
    let mut response = respond(StatusCode::CREATED, Media::Json, json(&answer(&call, seen).await?));
    if repeated {
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// `GET /v1/waitlist/{entry}`
pub(crate) async fn read(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let seen = own(&call)?;
    safe(&call.app, call.ack, seen.seq).await?;
    Ok(respond(StatusCode::OK, Media::Json, json(&answer(&call, seen).await?)))
}

/// `DELETE /v1/waitlist/{entry}`: what is offered goes to the next.
pub(crate) async fn leave(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let key = key(&call)?;
    let seen = own(&call)?;
    let app = &call.app;
    let idempotency = fingerprint(&call).number(seen.entry.0).under(key);
    let repeated = app.campaign.engine.repeat_of(idempotency).is_some();
    let left = waitlist(app)?.leave(seen.entry, Some(idempotency), app.campaign.engine.now());
    let seq = match left {
        Ok(seq) => seq,
        Err(error) => return Err(refused(&call, error).await),
    };
    safe(app, call.ack, seq).await?;
    let seen = see(app, seen.entry)?;
    safe(app, call.ack, seen.seq).await?;
    let mut response = respond(StatusCode::OK, Media::Json, json(&answer(&call, seen).await?));
    if repeated {
        app.metrics.replayed();
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// `GET /v1/parties/{party}/waitlist`
pub(crate) async fn of_party(call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer {
        party: String,
        entries: Vec<EntryAnswer>,
    }
    let names = call.app.names();
    let party = names.parse_party(&call.parameter)?;
    call.caller().may_act_for(party, &names)?;
    let waitlist = waitlist(&call.app)?;
    if call.app.campaign.engine.party_bookings(party).is_none() {
        return Err(problem::refused(&Refusal::UnknownParty { party }, &names));
    }
    let seen = waitlist.of_party(party, LISTED_MAX).map_err(|error| store::failed(&error))?;
    let newest = seen.iter().map(|seen| seen.seq).max().unwrap_or_default();
    safe(&call.app, call.ack, newest).await?;
    let mut entries = Vec::with_capacity(seen.len());
    for seen in seen {
        entries.push(answer(&call, seen).await?);
    }
    let answer = Answer { party: names.party(party), entries };
    Ok(respond(StatusCode::OK, Media::Json, json(&answer)))
}

/// `GET /v1/centres/{centre}/waitlist`: who waits for this centre alone, and who for any of its district.
pub(crate) async fn of_centre(call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer<'a> {
        centre: &'a str,
        district: &'a str,
        days: Vec<DayAnswer>,
        district_days: Vec<DayAnswer>,
    }
    let catalogue = &call.app.campaign.catalogue;
    call.caller().may_work_at(&call.parameter, catalogue)?;
    let centre = catalogue.centre(&call.parameter).ok_or_else(|| super::catalogue::unknown_centre(&call.parameter))?;
    let waitlist = waitlist(&call.app)?;
    let days = days(waitlist, &Place::Centre(Arc::clone(&centre.id)));
    let district_days = self::days(waitlist, &Place::District(Arc::clone(&centre.district)));
    let answer = Answer { centre: &centre.id, district: &centre.district, days, district_days };
    Ok(respond(StatusCode::OK, Media::Json, json(&answer)))
}

/// `GET /v1/districts/{district}/waitlist`
pub(crate) async fn of_district(call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer<'a> {
        district: &'a str,
        days: Vec<DayAnswer>,
    }
    let district: Arc<str> = Arc::from(call.parameter.as_str());
    let known = call.app.campaign.catalogue.has_region(berth_programme::RegionKind::District, &district);
    if !known {
        return Err(unknown_district(&district));
    }
    let days = days(waitlist(&call.app)?, &Place::District(Arc::clone(&district)));
    Ok(respond(StatusCode::OK, Media::Json, json(&Answer { district: &district, days })))
}

fn unknown_district(id: &str) -> Problem {
    let shown: String = id.chars().take(80).collect();
    Problem::new(Code::UnknownRegion, format!("there is no district {shown}"))
}

fn days(waitlist: &Waitlist, place: &Place) -> Vec<DayAnswer> {
    let day = |(day, dose, waiting, offered): (u16, u8, u64, u64)| DayAnswer {
        date: Calendar::date_of(day).to_string(),
        dose,
        waiting,
        offered,
    };
    waitlist.waiting_for(place).into_iter().map(day).collect()
}

/// The entry of the path, which the caller may see; what is not their own is unknown to them.
fn own(call: &Call) -> Result<Seen, Problem> {
    let text = &call.parameter;
    let malformed = || {
        let shown: String = text.chars().take(80).collect();
        Problem::new(Code::MalformedId, format!("{shown:?} is not an entry as w1.42"))
    };
    let (cell, number) = numbered(text, 'w').ok_or_else(malformed)?;
    if cell != call.app.cell {
        return Err(unknown(Seq(number), call));
    }
    let seen = see_of(&call.app, Seq(number))?.ok_or_else(|| unknown(Seq(number), call))?;
    may(call, seen.wish.party, &seen.wish.scope).map_err(|_| unknown(seen.entry, call))?;
    Ok(seen)
}

fn unknown(entry: Seq, call: &Call) -> Problem {
    Problem::new(Code::UnknownEntry, format!("there is no entry {}", name(&call.app, entry)))
}

fn name(app: &App, entry: Seq) -> String {
    format!("w{}.{entry}", app.cell)
}

fn see_of(app: &App, entry: Seq) -> Result<Option<Seen>, Problem> {
    waitlist(app)?.see(entry).map_err(|error| store::failed(&error))
}

fn see(app: &App, entry: Seq) -> Result<Seen, Problem> {
    see_of(app, entry)?.ok_or_else(store::unavailable)
}

/// An entry as it is told, once what is offered may be shown.
// rule: IDM-2
async fn answer(call: &Call, seen: Seen) -> Result<EntryAnswer, Problem> {
    let app = &call.app;
    let names = app.names();
    let Wish { party, scope, first, last, dose, product } = seen.wish;
    let (centre, district) = match scope {
        Place::Centre(id) => (Some(id.to_string()), None),
        Place::District(id) => (None, Some(id.to_string())),
    };
    let mut told = EntryAnswer {
        entry: name(app, seen.entry),
        party: names.party(party),
        centre,
        district,
        from: Calendar::date_of(first).to_string(),
        to: Calendar::date_of(last).to_string(),
        dose: dose.0,
        product: (product.0 != 0)
            .then(|| app.campaign.programme.get().product(product).map(|p| p.id.clone()))
            .flatten(),
        joined_at: names.time(seen.joined),
        state: "waiting",
        ahead: None,
        offers_not_taken: seen.not_taken,
        offer: None,
        why: None,
        ended_at: None,
    };
    match seen.stand {
        Stand::Waiting { ahead } => told.ahead = Some(ahead),
        Stand::PassedOver => told.state = "passed_over",
        Stand::Offered { booking } => {
            told.state = "offered";
            if let Some(view) = app.campaign.engine.booking(booking) {
                safe(app, call.ack, view.seq).await?;
                told.offer = Some(of_view(app, call.sight(), &view).await?);
            }
        }
        Stand::Ended { why, at } => {
            told.state = "ended";
            (told.why, told.ended_at) = (Some(why.as_str()), Some(names.time(at)));
        }
    }
    Ok(told)
}

/// A no, once what it rests on may be shown.
async fn refused(call: &Call, error: JoinError) -> Problem {
    let app = &call.app;
    let names = app.names();
    // rule: IDM-2 a no that tells of a claim waits for it
    if let Err(problem) = safe(app, call.ack, app.campaign.engine.appended()).await {
        return problem;
    }
    match error {
        JoinError::Off => off(),
        JoinError::UnknownParty(party) => problem::refused(&Refusal::UnknownParty { party }, &names),
        JoinError::UnknownScope(Place::Centre(id)) => super::catalogue::unknown_centre(&id),
        JoinError::UnknownScope(Place::District(id)) => unknown_district(&id),
        JoinError::Days { max } => {
            let detail = format!("from and to: today or later, in order, and at most {max} days");
            Problem::new(Code::MalformedRequest, detail).with("days_max", max)
        }
        JoinError::TooMany { party, max } => {
            let detail = format!("{} waits {max} times, as often as it may", names.party(party));
            Problem::new(Code::TooManyEntries, detail).with("max", max)
        }
        JoinError::Twice(entry) => {
            let entry = name(app, entry);
            Problem::new(Code::AlreadyWaiting, format!("entry {entry} is the same")).with("entry", entry)
        }
        JoinError::Served(party) => {
            let detail = format!("{} has the dose, or a booking for it", names.party(party));
            Problem::new(Code::AlreadyServed, detail)
        }
        JoinError::Refused(refusal) => problem::refused(&refusal, &names),
        JoinError::Failed(failure) => problem::failed(&failure),
        JoinError::Store(error) => store::failed(&error),
    }
}
