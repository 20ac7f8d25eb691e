//! Searching: the only routes that need no key, and most of all requests.

use std::collections::HashMap;
use std::rc::Rc;

use berth_engine::TimestampMs;
use berth_programme::{Availability, Place, Query, SlotRef};
use hyper::{Response, StatusCode};
use jiff::civil::Date;
use serde::{Serialize, Serializer};

use super::bookings::json;
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Call, Media, respond};
use crate::wire::{Names, slot_status};

const DAYS_DEFAULT: u16 = 7;
const DAYS_MAX: u16 = 28;

/// `GET /v1/regions`
pub(crate) fn regions(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct RegionAnswer<'a> {
        id: &'a str,
        kind: String,
        name: &'a str,
        parent: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Answer<'a> {
        regions: Vec<RegionAnswer<'a>>,
    }
    let all = call.app.campaign.catalogue.regions();
    let regions = all
        .iter()
        .map(|r| RegionAnswer { id: &r.id, kind: r.kind.to_string(), name: &r.name, parent: r.parent.as_deref() })
        .collect();
    Ok(respond(StatusCode::OK, Media::Json, json(&Answer { regions })))
}

/// `GET /v1/availability`
pub(crate) fn search(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    let asked = Asked::parse(call.query.as_deref().unwrap_or(""))?;
    let app = &call.app;
    let programme = &app.campaign.programme;
    // Before the counts are read, so that the answer is never older than it says.
    let as_of = app.campaign.engine.now();
    let number = |what: &str, name: &Option<String>, known: bool| match name {
        Some(name) if !known => Err(malformed(format!("{what}: the programme has no {what} {name:?}"))),
        _ => Ok(()),
    };
    let product = asked.product.as_ref().and_then(|name| programme.product_number(name));
    number("product", &asked.product, product.is_some())?;
    let pool = asked.pool.as_ref().and_then(|name| programme.pool_number(name));
    number("pool", &asked.pool, pool.is_some())?;
    let query = Query {
        place: asked.place.as_place(),
        from: asked.from.unwrap_or_else(|| programme.calendar().date(as_of)),
        days: asked.days,
        product,
        pool,
        only_free: asked.available,
    };
    let engine = &app.campaign.engine;
    let in_time = |starts_at| programme.in_time(starts_at, as_of).is_ok();
    let Some(found) = app.campaign.catalogue.availability(&query, in_time, |slot| engine.counts(slot)) else {
        return Err(match query.place {
            Place::Centre(id) => Problem::new(Code::UnknownCentre, format!("there is no centre {id}")),
            Place::District(id) | Place::Pincode(id) => {
                Problem::new(Code::UnknownRegion, format!("there is no district {id}"))
            }
        });
    };
    Ok(respond(StatusCode::OK, Media::Json, render(app, &query, as_of, &found)))
}

/// What a query string asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    place: AskedPlace,
    from: Option<Date>,
    days: u16,
    product: Option<String>,
    pool: Option<String>,
    available: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum AskedPlace {
    District(String),
    Pincode(String),
    Centre(String),
}

impl AskedPlace {
    fn as_place(&self) -> Place<'_> {
        match self {
            AskedPlace::District(id) => Place::District(id),
            AskedPlace::Pincode(pincode) => Place::Pincode(pincode),
            AskedPlace::Centre(id) => Place::Centre(id),
        }
    }
}

fn malformed(detail: String) -> Problem {
    Problem::new(Code::MalformedRequest, detail)
}

impl Asked {
    fn parse(query: &str) -> Result<Asked, Problem> {
        let mut place = None;
        let mut asked = Asked {
            place: AskedPlace::Centre(String::new()),
            from: None,
            days: DAYS_DEFAULT,
            product: None,
            pool: None,
            available: false,
        };
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if seen.iter().any(|s| *s == name) {
                return Err(malformed(format!("{name}: stands twice")));
            }
            let value = value.into_owned();
            match &*name {
                "district" | "pincode" | "centre" if place.is_some() => {
                    return Err(malformed("give exactly one of district, pincode, centre".to_owned()));
                }
                "district" => place = Some(AskedPlace::District(value)),
                "pincode" => place = Some(AskedPlace::Pincode(value)),
                "centre" => place = Some(AskedPlace::Centre(value)),
                "from" => asked.from = Some(date(&value)?),
                "days" => asked.days = days(&value)?,
                "product" => asked.product = Some(value),
                "pool" => asked.pool = Some(value),
                "available" => asked.available = flag(&value)?,
                other => return Err(malformed(format!("{other:?} is not a parameter of this search"))),
            }
            seen.push(name.into_owned());
        }
        asked.place = place.ok_or_else(|| malformed("give exactly one of district, pincode, centre".to_owned()))?;
        Ok(asked)
    }
}

fn date(value: &str) -> Result<Date, Problem> {
    let date = (value.len() == 10).then(|| value.parse().ok()).flatten();
    date.ok_or_else(|| malformed("from: must be a date as 2026-11-24".to_owned()))
}

fn days(value: &str) -> Result<u16, Problem> {
    let days = value.parse().ok().filter(|days| (1..=DAYS_MAX).contains(days));
    days.ok_or_else(|| malformed(format!("days: must be from 1 to {DAYS_MAX}")))
}

fn flag(value: &str) -> Result<bool, Problem> {
    value.parse().map_err(|_| malformed("available: must be true or false".to_owned()))
}

#[derive(Serialize)]
struct Answer<'a> {
    as_of: String,
    from: String,
    days: u16,
    centres: Vec<CentreAnswer<'a>>,
}

#[derive(Serialize)]
struct CentreAnswer<'a> {
    id: &'a str,
    name: &'a str,
    district: &'a str,
    pincode: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    sessions: Vec<SessionAnswer<'a>>,
}

#[derive(Serialize)]
struct SessionAnswer<'a> {
    id: &'a str,
    date: String,
    product: &'a str,
    slots: Vec<SlotAnswer<'a>>,
}

#[derive(Serialize)]
struct SlotAnswer<'a> {
    slot: String,
    #[serde(serialize_with = "text")]
    start: Rc<str>,
    #[serde(serialize_with = "text")]
    end: Rc<str>,
    pool: &'a str,
    capacity: u32,
    free: u32,
    held: u32,
    status: &'static str,
}

fn text<S: Serializer>(text: &Rc<str>, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(text)
}

/// The windows of a district are mostly the same few, so each instant is written once per answer.
struct Times<'a> {
    names: Names<'a>,
    written: HashMap<TimestampMs, Rc<str>>,
}

impl Times<'_> {
    fn text(&mut self, at: TimestampMs) -> Rc<str> {
        let names = self.names;
        self.written.entry(at).or_insert_with(|| names.time(at).into()).clone()
    }
}

fn render(app: &App, query: &Query<'_>, as_of: TimestampMs, found: &Availability) -> Vec<u8> {
    let names = app.names();
    let programme = &app.campaign.programme;
    let pool_name = |slot: &SlotRef| programme.pool(slot.pool).map_or("", |pool| pool.id.as_str());
    let mut times = Times { names, written: HashMap::new() };
    let mut centres = Vec::with_capacity(found.centres().len());
    for offer in found.centres() {
        let mut sessions = Vec::with_capacity(found.sessions(offer).len());
        for session_offer in found.sessions(offer) {
            let session = &session_offer.session;
            let mut slots = Vec::with_capacity(found.slots(session_offer).len());
            for slot in found.slots(session_offer) {
                let Some(window) = slot.window_of(session) else { continue };
                slots.push(SlotAnswer {
                    slot: names.slot(slot.slot.slot),
                    start: times.text(window.start),
                    end: times.text(window.end),
                    pool: pool_name(&slot.slot),
                    capacity: slot.counts.capacity().get(),
                    free: slot.counts.free().get(),
                    held: slot.counts.held().get(),
                    status: slot_status(slot.counts, slot.in_time),
                });
            }
            let product = programme.product(session.product).map_or("", |product| product.id.as_str());
            sessions.push(SessionAnswer { id: &session.id, date: session.date.to_string(), product, slots });
        }
        let centre = &offer.centre;
        centres.push(CentreAnswer {
            id: &centre.id,
            name: &centre.name,
            district: &centre.district,
            pincode: &centre.pincode,
            address: centre.address.as_deref(),
            sessions,
        });
    }
    json(&Answer { as_of: names.time(as_of), from: query.from.to_string(), days: query.days, centres })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_names_one_place() {
        let asked = Asked::parse("district=395&from=2026-11-24&days=28&pool=dose1&available=true").unwrap();
        assert_eq!(asked.place, AskedPlace::District("395".to_owned()));
        assert_eq!((asked.days, asked.available, asked.pool.as_deref()), (28, true, Some("dose1")));
        for bad in [
            "",
            "days=7",
            "district=1&centre=2",
            "district=1&district=1",
            "district=1&days=0",
            "district=1&days=29",
            "district=1&from=24.11.2026",
            "district=1&from=2026-11-24T00",
            "district=1&available=1",
            "district=1&sort=name",
        ] {
            let code = Asked::parse(bad).map_err(|p| p.code());
            assert_eq!(code, Err(Code::MalformedRequest), "{bad}");
        }
    }
}
