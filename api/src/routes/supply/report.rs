//! What became of doses, day by day: of a centre, and of a district's centres together. As JSON, or as a table.

use std::collections::BTreeMap;

use berth_programme::supply::{Day, Waste};
use berth_programme::{Calendar, RegionKind};
use hyper::{Response, StatusCode};
use jiff::civil::Date;
use serde_json::{Value, json};

use super::super::catalogue::unknown_centre;
use super::batches::{merge, wasted};
use super::{answer, blocking, current, date};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Call, Media, respond};
use crate::table::Table;

/// Days of one report.
const DAYS_MAX: u16 = 366;

/// A centre's days of a report, each of them.
type Days = BTreeMap<u16, (Day, u64)>;

/// From when to when, both counted.
fn span(call: &Call) -> Result<(u16, u16), Problem> {
    let malformed = |detail: String| Problem::new(Code::MalformedRequest, detail);
    let (mut from, mut to) = (None, None);
    for (name, value) in form_urlencoded::parse(call.query.as_deref().unwrap_or("").as_bytes()) {
        match &*name {
            "from" => from = Some(date("from", &value)?),
            "to" => to = Some(date("to", &value)?),
            other => return Err(malformed(format!("{other:?} is not a parameter of this report"))),
        }
    }
    let today = call.app.campaign.programme.calendar().date(call.app.campaign.engine.now());
    let to = to.or(from).unwrap_or(today);
    let from = from.unwrap_or(to);
    let day = |date: Date| Calendar::day_of(date).ok_or_else(|| malformed("a date: is too far away".to_owned()));
    let (from, to) = (day(from)?, day(to)?);
    match to.checked_sub(from) {
        Some(days) if days < DAYS_MAX => Ok((from, to)),
        _ => Err(malformed(format!("from and to must be in order, and at most {DAYS_MAX} days"))),
    }
}

/// Every day of a centre from `from` to `to`, with what was on hand at its end: that of the last day before on which anything was
/// written down, where nothing was.
fn days(
    ledger: &berth_programme::supply::Ledger,
    centre: &str,
    (from, to): (u16, u16),
) -> Result<Days, berth_programme::supply::SupplyError> {
    let mut rows: Days = (from..=to).map(|day| (day, (Day::default(), 0))).collect();
    let (mut there, mut next) = (0, from);
    for row in ledger.days(centre, to) {
        let (day, counted) = row?;
        for between in next..day {
            rows.entry(between).or_default().1 = there;
        }
        there = counted.on_hand().unwrap_or(there);
        if day >= from {
            rows.insert(day, (counted, there));
            next = day + 1;
        }
    }
    for after in next..=to {
        rows.entry(after).or_default().1 = there;
    }
    Ok(rows)
}

fn told(day: &Day) -> Value {
    json!({
        "received": day.received,
        "arrived": day.arrived,
        "sent": day.sent,
        "given": day.given,
        "revoked": day.revoked,
        "wasted": wasted(&day.wasted),
        "wasted_in_all": day.wasted.iter().sum::<u64>(),
        "found": day.found,
        "missing": day.missing,
        "no_shows": day.no_shows,
    })
}

fn with(mut head: Value, day: &Day, on_hand: Option<u64>) -> Value {
    merge(&mut head, told(day));
    if let Some(on_hand) = on_hand {
        head["on_hand"] = json!(on_hand);
    }
    head
}

fn table(all: &BTreeMap<String, Days>) -> Vec<u8> {
    let own = ["centre", "date", "received", "arrived", "sent", "given", "revoked", "no_shows", "found", "missing"];
    let reasons = Waste::ALL.map(|reason| format!("wasted_{}", reason.as_str()));
    let header: Vec<&str> = own.into_iter().chain(reasons.iter().map(String::as_str)).chain(["on_hand"]).collect();
    let mut table = Table::new(&header);
    for (centre, days) in all {
        for (day, (counted, on_hand)) in days {
            let Day { received, arrived, sent, given, revoked, no_shows, found, missing, wasted, .. } = counted;
            let numbers = [received, arrived, sent, given, revoked, no_shows, found, missing];
            let numbers = numbers.into_iter().chain(wasted).chain([on_hand]).map(u64::to_string);
            let cells: Vec<String> =
                [centre.clone(), Calendar::date_of(*day).to_string()].into_iter().chain(numbers).collect();
            table.row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    table.finish()
}

fn shown(day: u16) -> String {
    Calendar::date_of(day).to_string()
}

/// `GET /v1/centres/{centre}/waste`
pub(crate) async fn of_centre(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let (app, id) = (&call.app, call.parameter.clone());
    if app.campaign.catalogue.centre(&id).is_none() {
        return Err(unknown_centre(&id));
    }
    call.caller().may_work_at(&id, &app.campaign.catalogue)?;
    let span = span(&call)?;
    current(app).await?;
    let asked = id.clone();
    let found = blocking(app, move |_, ledger| days(ledger, &asked, span)).await?;
    if call.gives == Media::Csv {
        return Ok(respond(StatusCode::OK, Media::Csv, table(&[(id, found)].into())));
    }
    let mut sum = Day::default();
    found.values().for_each(|(day, _)| sum.add(day));
    let rows = found.iter().map(|(at, (day, on_hand))| with(json!({"date": shown(*at)}), day, Some(*on_hand)));
    let told = json!({
        "centre": id,
        "from": shown(span.0),
        "to": shown(span.1),
        "days": rows.collect::<Vec<_>>(),
        "sum": with(json!({}), &sum, None),
    });
    Ok(answer(StatusCode::OK, &told, false))
}

/// `GET /v1/districts/{district}/waste`: of the centres that the caller works at.
pub(crate) async fn of_district(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let (app, id) = (&call.app, call.parameter.clone());
    let catalogue = &app.campaign.catalogue;
    if !catalogue.has_region(RegionKind::District, &id) {
        let known: String = id.chars().take(80).collect();
        return Err(Problem::new(Code::UnknownRegion, format!("there is no district {known}")));
    }
    let span = span(&call)?;
    let here = catalogue.centres_of(&id);
    let works = |centre: &str| call.caller().may_work_at(centre, catalogue).is_ok();
    let centres: Vec<String> = here.iter().map(|centre| centre.id.to_string()).filter(|id| works(id)).collect();
    if centres.is_empty() && !here.is_empty() {
        return Err(Problem::new(Code::Forbidden, format!("the key reaches no centre of district {id}")));
    }
    current(app).await?;
    let found = blocking(app, move |_, ledger| {
        centres.into_iter().map(|centre| days(ledger, &centre, span).map(|days| (centre, days))).collect()
    });
    let found: BTreeMap<String, Days> = found.await?;
    if call.gives == Media::Csv {
        return Ok(respond(StatusCode::OK, Media::Csv, table(&found)));
    }
    Ok(answer(StatusCode::OK, &district(app, &id, span, &found), false))
}

fn district(_: &App, id: &str, span: (u16, u16), found: &BTreeMap<String, Days>) -> Value {
    let mut sum = Day::default();
    let mut by_day: Days = (span.0..=span.1).map(|day| (day, (Day::default(), 0))).collect();
    let mut centres = Vec::with_capacity(found.len());
    for (centre, days) in found {
        let mut own = Day::default();
        for (at, (day, on_hand)) in days {
            own.add(day);
            let all = by_day.entry(*at).or_default();
            all.0.add(day);
            all.1 += on_hand;
        }
        sum.add(&own);
        let on_hand = days.values().next_back().map(|(_, on_hand)| *on_hand);
        centres.push(with(json!({"centre": centre}), &own, on_hand));
    }
    let rows = by_day.iter().map(|(at, (day, on_hand))| with(json!({"date": shown(*at)}), day, Some(*on_hand)));
    json!({
        "district": id,
        "from": shown(span.0),
        "to": shown(span.1),
        "centres": centres,
        "days": rows.collect::<Vec<_>>(),
        "sum": with(json!({}), &sum, None),
    })
}
