//! SMART Scheduling Links: all that can be booked, as a manifest and files of lines, for whoever copies it.
//!
//! A file is of one state and one kind, and of so many of the state's centres in the order of publishing, which never changes: so a
//! file keeps its address, and no file grows with the nation. Where what such centres have is very much there is a file for each
//! day. Files are rendered one at a time, apart from what books, and kept while they are fresh.

use std::sync::Arc;

use berth_engine::TimestampMs;
use berth_programme::{Centre, RegionKind, Session};
use hyper::Response;
use jiff::ToSpan;
use jiff::civil::Date;
use serde::Serialize;

use super::ids;
use super::kept::{self, Question, Rendered};
use super::query::Params;
use super::resources::{Audience, Teller, write};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Call, Route};

/// Centres of one file.
const LOCATIONS: usize = 1024;
const SCHEDULES: usize = 128;
const SLOTS: usize = 32;
/// A file that would have more slots is one for each day instead: some 10 MB. A quarter of the smallest cache keeps one.
const SLOTS_MAX: usize = 20_000;
/// The same of schedules.
const SCHEDULES_MAX: usize = 10_000;
/// What a line takes, about.
const LINE_BYTES: usize = 540;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Location,
    Schedule,
    Slot,
}

impl Kind {
    fn of(route: Route) -> Kind {
        match route {
            Route::PublishedLocations => Kind::Location,
            Route::PublishedSchedules => Kind::Schedule,
            _ => Kind::Slot,
        }
    }

    /// FHIR's name, and the folder.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Kind::Location => ("Location", "locations"),
            Kind::Schedule => ("Schedule", "schedules"),
            Kind::Slot => ("Slot", "slots"),
        }
    }

    fn centres(self) -> usize {
        match self {
            Kind::Location => LOCATIONS,
            Kind::Schedule => SCHEDULES,
            Kind::Slot => SLOTS,
        }
    }
}

/// The dates that are told of: from today to the last on which something can be booked.
fn dates(app: &App, now: TimestampMs) -> (Date, Date) {
    let rules = app.campaign.programme.get();
    let today = rules.calendar().date(now);
    (today, today.saturating_add((i32::from(rules.booking_horizon_days(now)) + 1).days()))
}

fn sessions(centres: &[Arc<Centre>], (first, end): (Date, Date)) -> impl Iterator<Item = &Arc<Session>> {
    centres.iter().flat_map(move |centre| centre.sessions_between(first, end))
}

/// Whether so many lines are too many for one file; found out with no more looks than that takes.
fn is_too_large(kind: Kind, centres: &[Arc<Centre>], dates: (Date, Date)) -> bool {
    match kind {
        Kind::Location => false,
        Kind::Schedule => sessions(centres, dates).nth(SCHEDULES_MAX).is_some(),
        Kind::Slot => {
            let mut slots = 0;
            sessions(centres, dates).any(|session| {
                slots += session.slots.len();
                slots > SLOTS_MAX
            })
        }
    }
}

#[derive(Serialize)]
struct Output<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    url: String,
    extension: OfState<'a>,
}

#[derive(Serialize)]
struct OfState<'a> {
    state: [&'a str; 1],
}

/// `GET /smart/$bulk-publish`
pub(crate) async fn manifest(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    // Servers are free to pass `_since` over, and clients to ask with it.
    Params::read(call.query.as_deref(), &["_since", "_outputFormat"]).checked()?;
    if call.app.limits.fhir.public_url.is_none() {
        let detail = "nothing is published: the server's configuration has no public_url, which stands in every address of the manifest";
        return Err(Problem::new(Code::NotFound, detail));
    }
    let head = |as_of: &str| format!("{{\"transactionTime\":\"{as_of}\"").into_bytes();
    // Who has this one has not what the files tell since.
    let question = Question { query: String::new(), head, says_modified: true, is_always_new: true };
    kept::answer(call, question, |_| Ok(false), render_manifest).await
}

fn render_manifest(app: &App, now: TimestampMs) -> Rendered {
    let base = app.limits.fhir.base();
    let dates = dates(app, now);
    let mut tail = Vec::new();
    tail.extend_from_slice(b",\"request\":");
    write(&mut tail, &format!("{base}/smart/$bulk-publish"));
    tail.extend_from_slice(b",\"output\":[");
    let mut first = true;
    let regions = app.campaign.catalogue.regions();
    for (number, state) in (0..).zip(&regions).filter(|(_, region)| region.kind == RegionKind::State) {
        let centres = app.campaign.catalogue.centres_of_state(&state.id);
        let folder = ids::of(&state.id, || number);
        let mut tell = |kind: Kind, part: String| {
            let (kind, name) = kind.names();
            let url = format!("{base}/smart/{name}/{folder}/{part}.ndjson");
            tail.extend_from_slice(if std::mem::take(&mut first) { b"" } else { b"," });
            write(&mut tail, &Output { kind, url, extension: OfState { state: [&state.name] } });
        };
        for kind in [Kind::Location, Kind::Schedule, Kind::Slot] {
            for (part, centres) in centres.chunks(kind.centres()).enumerate() {
                if kind != Kind::Location && sessions(centres, dates).next().is_none() {
                    continue;
                }
                if !is_too_large(kind, centres, dates) {
                    tell(kind, part.to_string());
                    continue;
                }
                let mut days: Vec<Date> = sessions(centres, dates).map(|session| session.date).collect();
                days.sort_unstable();
                days.dedup();
                days.into_iter().for_each(|day| tell(kind, format!("{part}.{day}")));
            }
        }
    }
    tail.extend_from_slice(b"],\"error\":[]}");
    Rendered { tail, next: None }
}

/// Which file.
struct Asked {
    kind: Kind,
    centres: Vec<Arc<Centre>>,
    day: Option<Date>,
}

/// `GET /smart/slots/{state}/{part}`, and the same of schedules and locations
pub(crate) async fn file(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    Params::read(call.query.as_deref(), &[]).checked()?;
    let asked = Asked::parse(call).ok_or_else(|| {
        Problem::new(
            Code::NotFound,
            "there is no such file, or no longer: /smart/$bulk-publish names those that there are",
        )
    })?;
    let question = Question { query: String::new(), head: |_| Vec::new(), says_modified: true, is_always_new: false };
    kept::answer(call, question, |_| Ok(false), move |app, now| asked.render(app, now)).await
}

impl Asked {
    fn parse(call: &Call) -> Option<Asked> {
        let (app, kind) = (&call.app, Kind::of(call.endpoint.route));
        let regions = app.campaign.catalogue.regions();
        let mut states = (0..).zip(&regions).filter(|(_, region)| region.kind == RegionKind::State);
        let (_, state) = states.find(|(number, state)| ids::of(&state.id, || *number) == call.parameter)?;
        let part = call.parameter2.strip_suffix(".ndjson")?;
        let (part, day) = match part.split_once('.') {
            Some((part, day)) => (part, Some(day.parse::<Date>().ok().filter(|date| date.to_string() == day)?)),
            None => (part, None),
        };
        let number: usize = part.parse().ok().filter(|number: &usize| number.to_string() == part)?;
        let centres = app.campaign.catalogue.centres_of_state(&state.id);
        let centres = centres.chunks(kind.centres()).nth(number)?.to_vec();
        let dates = dates(app, app.campaign.engine.now());
        let is_of_days = is_too_large(kind, &centres, dates);
        let there = day.map_or(!is_of_days, |day| is_of_days && (dates.0..dates.1).contains(&day));
        there.then_some(Asked { kind, centres, day })
    }

    fn render(&self, app: &App, now: TimestampMs) -> Rendered {
        let dates = match self.day {
            Some(day) => (day, day.saturating_add(1.days())),
            None => dates(app, now),
        };
        let mut teller = Teller::new(app, now);
        let mut tail = Vec::new();
        match self.kind {
            Kind::Location => {
                for centre in &self.centres {
                    teller.location(centre, &mut tail);
                    tail.push(b'\n');
                }
            }
            Kind::Schedule => {
                for session in sessions(&self.centres, dates) {
                    teller.schedule(session, &mut tail);
                    tail.push(b'\n');
                }
            }
            Kind::Slot => {
                let slots: usize = sessions(&self.centres, dates).map(|session| session.slots.len()).sum();
                tail.reserve(slots * LINE_BYTES);
                for session in sessions(&self.centres, dates) {
                    for window in &session.windows {
                        for slot in session.slots_of(window) {
                            let Some(counts) = app.campaign.engine.counts(slot.slot) else { continue };
                            teller.slot((session, window), *slot, counts, Audience::Copying, &mut tail);
                            tail.push(b'\n');
                        }
                    }
                }
            }
        }
        Rendered { tail, next: None }
    }
}
