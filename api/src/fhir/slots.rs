//! Slots as Slots: FHIR's word for them is ours.

use std::sync::Arc;

use berth_engine::{Refusal, TimestampMs};
use berth_programme::{Session, SlotRef};
use hyper::{Response, StatusCode};

use super::bundle::Bundle;
use super::kept::{self, Question, Rendered};
use super::query::{Params, Span};
use super::resources::{Audience, Teller};
use super::schedules::{Named, from_today};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{self, Problem};
use crate::router::{Call, respond};
use crate::search::SLOTS_INLINE;
use crate::wire::slot_status;

const PATH: &str = "/fhir/Slot";
const PARAMETERS: [&str; 5] = ["_id", "schedule", "schedule.actor", "status", "start"];
/// Every status there is of a slot.
const STATUSES: [&str; 5] = ["free", "busy", "busy-unavailable", "busy-tentative", "entered-in-error"];
/// Slots of one search, beyond which it has to be narrowed.
const SLOTS_MAX: usize = 100_000;

/// `GET /fhir/Slot/{slot}`
pub(crate) fn read(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    Params::read(call.query.as_deref(), &[]).checked()?;
    let app = &call.app;
    let slot = app.names().parse_slot(&call.parameter)?;
    let unknown = || problem::refused(&Refusal::UnknownSlot { slot }, &app.names());
    // Before the counts are read.
    let mut teller = Teller::new(app, app.campaign.engine.now());
    let place = app.campaign.catalogue.slot(slot).ok_or_else(unknown)?;
    let counts = app.campaign.engine.counts(slot).ok_or_else(unknown)?;
    let found = SlotRef { slot, pool: place.pool };
    let window = place.session.windows.iter().find(|window| place.session.slots_of(window).contains(&found));
    let mut body = Vec::new();
    let window = window.ok_or_else(unknown)?;
    teller.slot((&place.session, window), found, counts, Audience::Asking, &mut body);
    Ok(respond(StatusCode::OK, call.gives, body))
}

struct Asked {
    named: Named,
    /// These alone, ascending.
    slots: Option<Vec<u32>>,
    span: Span,
    statuses: Vec<String>,
    after: Option<u32>,
    params: Params,
}

/// `GET /fhir/Slot`
pub(crate) async fn search(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    let app = &call.app;
    let asked = Arc::new(Asked::parse(app, call.query.as_deref())?);
    let question = Question::of_search(asked.params.spelled());
    let (bounds, how) = ((SLOTS_INLINE, SLOTS_MAX), "fewer schedules or centres, or a shorter start");
    let is_small = |app: &App| kept::is_small(asked.looks(app), bounds, "slots", how);
    let asked = Arc::clone(&asked);
    kept::answer(call, question, is_small, move |app, now| asked.render(app, now)).await
}

impl Asked {
    fn parse(app: &App, query: Option<&str>) -> Result<Asked, Problem> {
        let mut params = Params::read(query, &PARAMETERS);
        let sessions = params.has("schedule").then(|| params.references("schedule", "Schedule"));
        let centres = params.has("schedule.actor").then(|| params.references("schedule.actor", "Location"));
        let named = Named { sessions, centres };
        let slots = params.has("_id").then(|| {
            let ids = params.references("_id", "Slot").into_iter();
            let mut slots: Vec<_> = ids.filter_map(|id| Some(app.names().parse_slot(&id).ok()?.0)).collect();
            slots.sort_unstable();
            slots
        });
        if named.is_nothing() && slots.is_none() {
            params.fault(
                "give schedule, schedule.actor or _id: not every slot is listed, /smart/$bulk-publish has them all",
            );
        }
        let statuses = params.list("status");
        if let Some(other) = statuses.iter().find(|status| !STATUSES.contains(&status.as_str())) {
            let shown: String = other.chars().take(40).collect();
            params.fault(format!("status: {shown:?} is none of {}", STATUSES.join(" ")));
        }
        let span = params.span("start", app.campaign.programme.calendar());
        let after = params.after_number();
        params.checked()?;
        Ok(Asked { named, slots, span, statuses, after, params })
    }

    fn sessions(&self, app: &App) -> Vec<(u32, Arc<Session>)> {
        if let (Some(slots), true) = (&self.slots, self.named.is_nothing()) {
            let catalogue = &app.campaign.catalogue;
            let sessions = slots.iter().filter_map(|slot| catalogue.slot(berth_engine::SlotId(*slot)));
            let mut found = catalogue.with_numbers(sessions.map(|place| place.session).collect());
            found.sort_by_key(|(number, _)| *number);
            found.dedup_by_key(|(number, _)| *number);
            return found;
        }
        self.named.sessions(app, &self.from(app))
    }

    /// All that a centre ever had is of little use, and never ends.
    fn from(&self, app: &App) -> Span {
        let by_centre = self.named.sessions.is_none();
        let (calendar, now) = (app.campaign.programme.calendar(), app.campaign.engine.now());
        if by_centre { from_today(self.span, calendar, now) } else { self.span }
    }

    /// How many slots there are to look at.
    fn looks(&self, app: &App) -> usize {
        // At most fifty, each in a session of its own.
        let alone = self.named.is_nothing().then(|| self.sessions(app).iter().map(|(_, s)| s.slots.len()).sum());
        alone.unwrap_or_else(|| self.named.looks(app, &self.from(app), true))
    }

    fn render(&self, app: &App, now: TimestampMs) -> Rendered {
        let mut teller = Teller::new(app, now);
        let mut bundle = Bundle::new(app.limits.fhir.base(), PATH);
        let sessions = self.sessions(app);
        let (mut all, mut found) = (0, Vec::new());
        for (_, session) in &sessions {
            for window in session.windows.iter().filter(|window| self.span.has(window.start)) {
                let of_window = session.slots_of(window).iter().copied();
                let asked = of_window
                    .filter(|slot| self.slots.as_ref().is_none_or(|only| only.binary_search(&slot.slot.0).is_ok()));
                for slot in asked {
                    all += 1;
                    // What earlier pages told is not looked at again.
                    if self.after.is_none_or(|after| slot.slot.0 > after) {
                        found.push((slot, window, session));
                    }
                }
            }
        }
        // By number, which never changes: so pages repeat nothing and miss nothing that is there all the while.
        found.sort_unstable_by_key(|(slot, ..)| slot.slot.0);
        // Windows are mostly asked for again and again.
        let mut last = None;
        let mut in_time = |start| match last {
            Some((of, is)) if of == start => is,
            _ => last.insert((start, app.campaign.programme.in_time(start, now).is_ok())).1,
        };
        let mut matching = found.into_iter().filter_map(|(slot, window, session)| {
            let counts = app.campaign.engine.counts(slot.slot)?;
            let is_wanted = |status| self.statuses.is_empty() || self.statuses.iter().any(|s| s == status);
            is_wanted(slot_status(counts, in_time(window.start))).then_some((slot, window, session, counts))
        });
        let next = bundle.fill(&self.params, &mut matching, |bundle, (slot, window, session, counts)| {
            let id = app.names().slot(slot.slot);
            bundle.push(&id, "", |out| teller.slot((session, window), slot, counts, Audience::Asking, out));
            slot.slot.0.to_string()
        });
        // How many have a status is counted for the first page; the others end where they are full.
        let total = match (self.statuses.is_empty(), self.after) {
            (true, _) => Some(all),
            (false, None) => Some(bundle.len + usize::from(next.is_some()) + matching.count()),
            (false, Some(_)) => None,
        };
        bundle.rendered(&self.params, total, next)
    }
}
