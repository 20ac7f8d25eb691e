//! Long lists, a page at a time: the bookings of a centre's day, and all that a party ever had.

use std::fmt::Write as _;

use berth_engine::{BookingNumber, BookingView, Refusal, Seq, SlotId, State, TimestampMs};
use berth_programme::{Centre, Session};
use hyper::header::{HeaderValue, LINK};
use hyper::{Response, StatusCode};
use jiff::civil::Date;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::bookings::{json, of_view};
use super::catalogue::unknown_centre;
use super::safe;
use crate::app::App;
use crate::body::ResponseBody;

use crate::problem::{self, Code, Problem};
use crate::router::{Call, Media, respond};
use crate::table::Table;
use crate::wire::BookingAnswer;

/// Rows of a page, where the request does not say.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// Records looked at for a page: one of a filtered list may be shorter than asked, and go on.
const LOOKS_MAX: usize = 20_000;

/// `GET /v1/parties/{party}/history`
pub(crate) async fn history(call: Call) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Serialize)]
    struct Answer {
        party: String,
        bookings: Vec<BookingAnswer>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    }
    let names = call.app.names();
    let party = names.parse_party(&call.parameter)?;
    call.caller().may_act_for(party, &names)?;
    let asked = Asked::parse(call.query.as_deref().unwrap_or(""), false)?;
    let after = asked.cursor.as_deref().map(|code| names.parse_booking(code).map_err(|_| bad_cursor())).transpose()?;
    let page = call.app.campaign.engine.party_history(party, after, asked.limit).map_err(|refusal| match refusal {
        Refusal::UnknownBooking { .. } => bad_cursor(),
        refusal => problem::refused(&refusal, &names),
    })?;
    safe(&call.app, call.ack, page.seq).await?;
    let next = page.next.map(|next| names.booking(next));
    let mut bookings = Vec::with_capacity(page.bookings.len());
    for view in &page.bookings {
        bookings.push(of_view(&call.app, call.sight(), view).await?);
    }
    let link = next.as_deref().map(|next| asked.link(&format!("/v1/parties/{}/history", call.parameter), next));
    let answer = Answer { party: names.party(party), bookings, next };
    Ok(linked(respond(StatusCode::OK, Media::Json, json(&answer)), link))
}

/// A hold or booking of the day.
#[derive(Serialize)]
struct DayRow {
    start: String,
    end: String,
    session: String,
    slot: String,
    pool: String,
    booking: String,
    hold: String,
    state: &'static str,
    party: String,
    dose: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// `GET /v1/centres/{centre}/days/{date}/bookings`
pub(crate) async fn day(call: Call) -> Result<Response<ResponseBody>, Problem> {
    let app = &call.app;
    let centre = app.campaign.catalogue.centre(&call.parameter).ok_or_else(|| unknown_centre(&call.parameter))?;
    call.caller().may_work_at(&centre.id, &app.campaign.catalogue)?;
    let date = (call.parameter2.len() == 10).then(|| call.parameter2.parse::<Date>().ok()).flatten();
    let date = date.ok_or_else(|| Problem::new(Code::MalformedRequest, "the date must be as 2026-11-24"))?;
    let asked = Asked::parse(call.query.as_deref().unwrap_or(""), true)?;
    let mut day = Day { app, asked: &asked, rows: Vec::new(), seq: Seq(0), looks: 0 };
    let next = day.read(&places(&centre, date)).await?;
    let Day { rows, seq, .. } = day;
    safe(app, call.ack, seq).await?;
    let path = format!("/v1/centres/{}/days/{date}/bookings", centre.id);
    let link = next.as_deref().map(|next| asked.link(&path, next));
    let response = if call.gives == Media::Csv {
        respond(StatusCode::OK, Media::Csv, table(&rows))
    } else {
        #[derive(Serialize)]
        struct Answer<'a> {
            centre: &'a str,
            date: String,
            bookings: Vec<DayRow>,
            #[serde(skip_serializing_if = "Option::is_none")]
            next: Option<String>,
        }
        let answer = Answer { centre: &centre.id, date: date.to_string(), bookings: rows, next };
        respond(StatusCode::OK, Media::Json, json(&answer))
    };
    Ok(linked(response, link))
}

/// A slot of the day.
struct Place<'a> {
    session: &'a Session,
    start: TimestampMs,
    end: TimestampMs,
    slot: SlotId,
}

/// The slots of a day, by window.
fn places(centre: &Centre, date: Date) -> Vec<Place<'_>> {
    let mut places: Vec<Place<'_>> = centre
        .sessions()
        .iter()
        .filter(|session| session.date == date)
        .flat_map(|session| session.windows.iter().map(move |window| (session, window)))
        .flat_map(|(session, window)| {
            let place = |slot| Place { session, start: window.start, end: window.end, slot };
            session.slots_of(window).iter().map(move |s| place(s.slot))
        })
        .collect();
    // Stable: of one start in the order of publishing.
    places.sort_by_key(|place| place.start);
    places
}

/// A page of a day in the making.
struct Day<'a> {
    app: &'a App,
    asked: &'a Asked,
    rows: Vec<DayRow>,
    seq: Seq,
    looks: usize,
}

impl Day<'_> {
    /// Reads the page; where the next one begins, if there is one.
    async fn read(&mut self, places: &[Place<'_>]) -> Result<Option<String>, Problem> {
        let names = self.app.names();
        let (mut at, mut after) = (0, None);
        if let Some(cursor) = &self.asked.cursor {
            let (slot, booking) = cursor.split_once('~').ok_or_else(bad_cursor)?;
            let slot = names.parse_slot(slot).map_err(|_| bad_cursor())?;
            at = places.iter().position(|place| place.slot == slot).ok_or_else(bad_cursor)?;
            // At the beginning of a slot there is none before.
            if !booking.is_empty() {
                after = Some(names.parse_booking(booking).map_err(|_| bad_cursor())?);
            }
        }
        for place in places.iter().skip(at) {
            if let Some(next) = self.read_slot(place, after.take())? {
                return Ok(Some(next));
            }
            // A day may have a thousand slots, and others have requests, too.
            tokio::task::yield_now().await;
        }
        Ok(None)
    }

    /// The bookings of a slot, newest first, until the page is full; then where it goes on.
    fn read_slot(&mut self, place: &Place<'_>, mut after: Option<BookingNumber>) -> Result<Option<String>, Problem> {
        let names = self.app.names();
        loop {
            let page = self.app.campaign.engine.slot_bookings(place.slot, after, LIMIT_MAX);
            // The slot is in the catalogue, so it can only be the cursor.
            let page = page.map_err(|_| bad_cursor())?;
            self.seq = self.seq.max(page.seq);
            for view in &page.bookings {
                if self.rows.len() == self.asked.limit || self.looks == LOOKS_MAX {
                    let after = after.map(|after| names.booking(after)).unwrap_or_default();
                    return Ok(Some(format!("{}~{after}", names.slot(place.slot))));
                }
                self.looks += 1;
                after = Some(view.number);
                if self.asked.states.is_empty() || self.asked.states.contains(&view.state) {
                    self.rows.push(self.row(place, view));
                }
            }
            if page.next.is_none() {
                return Ok(None);
            }
            after = page.next;
        }
    }

    fn row(&self, place: &Place<'_>, view: &BookingView) -> DayRow {
        let names = self.app.names();
        let pool = self.app.campaign.engine.slot_facts(place.slot).map(|facts| facts.pool).unwrap_or_default();
        DayRow {
            start: names.time(place.start),
            end: names.time(place.end),
            session: place.session.id.to_string(),
            slot: names.slot(place.slot),
            pool: self.app.campaign.catalogue.pool_name(pool),
            booking: names.booking(view.number),
            hold: names.booking(view.hold),
            state: view.state.as_str(),
            party: names.party(view.claim.party),
            dose: view.claim.dose.0,
            expires_at: (view.state == State::Held).then(|| names.time(view.expires_at)),
        }
    }
}

/// The rows as a spreadsheet takes them.
fn table(rows: &[DayRow]) -> Vec<u8> {
    let header = ["start", "end", "session", "slot", "pool", "booking", "hold", "state", "party", "dose", "expires_at"];
    let mut table = Table::new(&header);
    for row in rows {
        let dose = row.dose.to_string();
        table.row(&[
            &row.start,
            &row.end,
            &row.session,
            &row.slot,
            &row.pool,
            &row.booking,
            &row.hold,
            row.state,
            &row.party,
            &dose,
            row.expires_at.as_deref().unwrap_or(""),
        ]);
    }
    table.finish()
}

/// What the query of a list asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    limit: usize,
    cursor: Option<String>,
    /// Empty: all.
    states: Vec<State>,
    /// As it came, to be asked again.
    state: Option<String>,
}

impl Asked {
    fn parse(query: &str, by_state: bool) -> Result<Asked, Problem> {
        let malformed = |detail: String| Problem::new(Code::MalformedRequest, detail);
        let mut asked = Asked { limit: LIMIT_DEFAULT, cursor: None, states: Vec::new(), state: None };
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if seen.iter().any(|s| *s == name) {
                return Err(malformed(format!("{name}: stands twice")));
            }
            match &*name {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    asked.limit = limit.ok_or_else(|| malformed(format!("limit: must be from 1 to {LIMIT_MAX}")))?;
                }
                "cursor" => asked.cursor = Some(value.into_owned()),
                "state" if by_state => {
                    for state in value.split(',') {
                        let found = State::ALL.into_iter().find(|s| s.as_str() == state);
                        asked.states.push(found.ok_or_else(|| malformed(format!("state: there is no {state:?}")))?);
                    }
                    asked.state = Some(value.into_owned());
                }
                other => return Err(malformed(format!("{other:?} is not a parameter of this list"))),
            }
            seen.push(name.into_owned());
        }
        Ok(asked)
    }

    /// Where the next page is.
    fn link(&self, path: &str, cursor: &str) -> String {
        let cursor = utf8_percent_encode(cursor, NON_ALPHANUMERIC);
        let mut link = format!("<{path}?limit={}&cursor={cursor}", self.limit);
        if let Some(state) = &self.state {
            let _ = write!(link, "&state={state}");
        }
        link.push_str(">; rel=\"next\"");
        link
    }
}

fn bad_cursor() -> Problem {
    Problem::new(Code::MalformedRequest, "cursor: is not one that this list gave")
}

fn linked(mut response: Response<ResponseBody>, link: Option<String>) -> Response<ResponseBody> {
    if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
        response.headers_mut().insert(LINK, link);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_asked_for_in_pages_and_by_state() {
        let asked = Asked::parse("limit=5&state=held,no_show&cursor=s1.4~0126%2DX%2A", true).unwrap();
        assert_eq!((asked.limit, asked.cursor.as_deref()), (5, Some("s1.4~0126-X*")));
        assert_eq!(asked.states, [State::Held, State::NoShow]);
        let link = "</v1/x?limit=5&cursor=s1%2E4%7E0126%2DX%2A&state=held,no_show>; rel=\"next\"";
        assert_eq!(asked.link("/v1/x", "s1.4~0126-X*"), link);
        for bad in ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "state=gone", "state=", "page=2"] {
            assert_eq!(Asked::parse(bad, true).map_err(|p| p.code()), Err(Code::MalformedRequest), "{bad}");
        }
        assert!(Asked::parse("state=held", false).is_err());
    }
}
