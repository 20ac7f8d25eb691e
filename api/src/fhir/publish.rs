//! SMART Scheduling Links: all that can be booked, as a manifest and files of lines, for whoever copies it.
//!
//! A file is of one state and one kind, and of so many of the state's centres in the order of publishing, which never changes: so a
//! file keeps its address, and no file grows with the nation. Where what such centres have is very much there is a file for each
//! day, and where that is too much still, one for each centre of the day. Files are rendered one at a time, apart from what books,
//! and kept while they are fresh.
//!
//! Nothing is published that lacks what SMART Scheduling Links asks for: a centre that nobody can ring up and that has no page is left
//! out, and all it offers with it, for that would lead nowhere.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use berth_engine::TimestampMs;
use berth_programme::{Centre, Offered, RegionKind};
use hyper::Response;
use jiff::ToSpan;
use jiff::civil::Date;
use serde::Serialize;

use super::ids;
use super::kept::{self, Question, Rendered};
use super::query::Params;
use super::resources::{Audience, Teller, has_telecom, write};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Call, Route};

/// Centres of one file.
const LOCATIONS: usize = 1024;
const SCHEDULES: usize = 128;
const SLOTS: usize = 32;
/// A file that would have more slots is several instead: some 10 MB.
const SLOTS_MAX: usize = 20_000;
/// The same of schedules.
const SCHEDULES_MAX: usize = 10_000;
/// What a line of a slot takes, about, beside the link it may have.
const LINE_BYTES: usize = 480;

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

/// What a line of a slot takes.
fn line_bytes(app: &App) -> usize {
    LINE_BYTES + app.limits.fhir.booking_link.as_ref().map_or(0, String::len)
}

/// Lines of a file: what would be larger than a cache keeps is cut, too.
fn lines_max(app: &App, kind: Kind) -> usize {
    match kind {
        Kind::Location => LOCATIONS,
        Kind::Schedule => SCHEDULES_MAX,
        Kind::Slot => SLOTS_MAX.min(app.published.largest_kept() / line_bytes(app)),
    }
}

/// A run of centres by number, of which those that can be published are held one at a time.
fn published(app: &App, numbers: &[u32]) -> impl Iterator<Item = (u32, Arc<Centre>)> {
    let centres =
        numbers.iter().filter_map(|number| Some((*number, app.campaign.catalogue.centre_of_number(*number)?)));
    centres.filter(|(_, centre)| has_telecom(&app.limits.fhir, centre))
}

/// What a file has of the centres of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    run: usize,
    /// This day alone.
    day: Option<Date>,
    /// This centre alone, by its place in the run.
    place: Option<usize>,
}

/// As it stands in the file's name.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.run)?;
        self.day.map_or(Ok(()), |day| write!(f, ".{day}"))?;
        self.place.map_or(Ok(()), |place| write!(f, ".{place}"))
    }
}

/// The files of a run, in order. No session is looked at.
fn parts(app: &App, kind: Kind, run: usize, numbers: &[u32], (first, end): (Date, Date)) -> Vec<Part> {
    let whole = Part { run, day: None, place: None };
    let (most, lines) = (lines_max(app, kind), |offered: Offered| match kind {
        Kind::Schedule => offered.sessions,
        _ => offered.slots,
    });
    let (mut centres, mut all) = (0, Offered::default());
    for (_, centre) in published(app, numbers) {
        centres += 1;
        all += centre.offered(first, end);
    }
    match kind {
        Kind::Location => return if centres > 0 { vec![whole] } else { Vec::new() },
        _ if lines(all) == 0 => return Vec::new(),
        _ if lines(all) <= most => return vec![whole],
        _ => {}
    }
    let mut by_day: Vec<(Date, usize, usize)> = Vec::new();
    for (number, centre) in published(app, numbers) {
        let place = numbers.binary_search(&number).unwrap_or_default();
        by_day.extend(centre.offered_by_date(first, end).map(|(day, offered)| (day, place, lines(offered))));
    }
    by_day.sort_unstable();
    let of_day = |day: &[(Date, usize, usize)]| {
        let whole = Part { day: day.first().map(|(day, ..)| *day), ..whole };
        match day.iter().map(|(.., lines)| lines).sum::<usize>() > most {
            true => day.iter().map(|(_, place, _)| Part { place: Some(*place), ..whole }).collect(),
            false => vec![whole],
        }
    };
    by_day.chunk_by(|(day, ..), (next, ..)| day == next).flat_map(of_day).collect()
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
    something_is_published(&call.app)?;
    let head = |as_of: &str| format!("{{\"transactionTime\":\"{as_of}\"").into_bytes();
    // Who has this one has not what the files tell since.
    let question = Question { query: String::new(), head, says_modified: true, is_always_new: true };
    kept::answer(call, question, |_| Ok(false), render_manifest).await
}

fn something_is_published(app: &App) -> Result<(), Problem> {
    if app.limits.fhir.public_url.is_some() {
        return Ok(());
    }
    let detail = "nothing is published: the server's configuration has no public_url, which stands in every address of the manifest";
    Err(Problem::new(Code::NotFound, detail))
}

fn render_manifest(app: &App, now: TimestampMs) -> Rendered {
    let base = app.limits.fhir.base();
    let dates = dates(app, now);
    let mut tail = Vec::new();
    tail.extend_from_slice(b",\"request\":");
    write(&mut tail, &format!("{base}/smart/$bulk-publish"));
    tail.extend_from_slice(b",\"output\":[");
    let (mut first, mut told) = (true, 0);
    let regions = app.campaign.catalogue.regions();
    for (number, state) in (0..).zip(&regions).filter(|(_, region)| region.kind == RegionKind::State) {
        let centres = app.campaign.catalogue.centres_of_state(&state.id);
        let folder = ids::of(&state.id, || number);
        told += published(app, &centres).count();
        for kind in [Kind::Location, Kind::Schedule, Kind::Slot] {
            let runs = centres.chunks(kind.centres()).enumerate();
            for part in runs.flat_map(|(run, centres)| parts(app, kind, run, centres, dates)) {
                let (kind, name) = kind.names();
                let url = format!("{base}/smart/{name}/{folder}/{part}.ndjson");
                tail.extend_from_slice(if std::mem::take(&mut first) { b"" } else { b"," });
                write(&mut tail, &Output { kind, url, extension: OfState { state: [&state.name] } });
            }
        }
    }
    left_out(app, app.campaign.catalogue.centre_count().saturating_sub(told));
    tail.extend_from_slice(b"],\"error\":[]}");
    Rendered { tail, next: None }
}

/// Says of how many centres nothing is published, whenever that has changed.
fn left_out(app: &App, centres: usize) {
    // Relaxed: a count, nothing is published by it.
    if app.unpublished_centres.swap(centres, Relaxed) != centres {
        tracing::warn!(
            centres,
            "so many centres are not in what is published: each must have a phone or url, or fhir.phone or fhir.url be set, and a district of a state"
        );
    }
}

/// Which file.
struct Asked {
    kind: Kind,
    /// By number: what is asked for waits for its turn, and must not keep others from changing what it is of.
    centres: Vec<u32>,
    day: Option<Date>,
}

/// `GET /smart/slots/{state}/{part}`, and the same of schedules and locations
pub(crate) async fn file(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    Params::read(call.query.as_deref(), &[]).checked()?;
    something_is_published(&call.app)?;
    let (kind, state, part) = (Kind::of(call.endpoint.route), call.parameter.clone(), call.parameter2.clone());
    let found = Arc::new(OnceLock::new());
    let found_by = Arc::clone(&found);
    // Only where it is not kept: what it is of is found by a look at each of its centres.
    let is_there = move |app: &App| match Asked::find(app, kind, &state, &part) {
        Some(asked) => Ok(found.set(asked).is_err()),
        None => Err(Problem::new(
            Code::NotFound,
            "there is no such file, or no longer: /smart/$bulk-publish names those that there are",
        )),
    };
    let question = Question { query: String::new(), head: |_| Vec::new(), says_modified: true, is_always_new: false };
    let render = move |app: &App, now| found_by.get().map(|asked: &Asked| asked.render(app, now)).unwrap_or_default();
    kept::answer(call, question, is_there, render).await
}

impl Asked {
    /// A file is there if the manifest names it, and for no other reason.
    fn find(app: &App, kind: Kind, state_id: &str, part: &str) -> Option<Asked> {
        let name = part.strip_suffix(".ndjson")?;
        let run: usize = name.split('.').next()?.parse().ok()?;
        let regions = app.campaign.catalogue.regions();
        let mut states = (0..).zip(&regions).filter(|(_, region)| region.kind == RegionKind::State);
        let (_, state) = states.find(|(number, state)| ids::of(&state.id, || *number) == state_id)?;
        let centres = app.campaign.catalogue.centres_of_state(&state.id);
        let centres = centres.chunks(kind.centres()).nth(run)?;
        let parts = parts(app, kind, run, centres, dates(app, app.campaign.engine.now()));
        let part = parts.into_iter().find(|part| part.to_string() == name)?;
        let centres = part.place.map_or(Some(centres), |place| centres.get(place..=place))?.to_vec();
        Some(Asked { kind, centres, day: part.day })
    }

    fn render(&self, app: &App, now: TimestampMs) -> Rendered {
        let (first, end) = match self.day {
            Some(day) => (day, day.saturating_add(1.days())),
            None => dates(app, now),
        };
        let mut teller = Teller::new(app, now);
        let mut tail = Vec::new();
        for (_, centre) in published(app, &self.centres) {
            let sessions = centre.sessions_between(first, end);
            match self.kind {
                Kind::Location => {
                    teller.location(&centre, &mut tail);
                    tail.push(b'\n');
                }
                Kind::Schedule => {
                    for session in sessions {
                        teller.schedule(session, &mut tail);
                        tail.push(b'\n');
                    }
                }
                Kind::Slot => {
                    tail.reserve(centre.offered(first, end).slots * line_bytes(app));
                    for (session, window) in sessions.iter().flat_map(|s| s.windows.iter().map(move |w| (s, w))) {
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
