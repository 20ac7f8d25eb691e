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
use crate::problem::{self, Code, Problem};
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
    let is_small = |app: &App| match asked.looks(app) {
        looks if looks > SLOTS_MAX => {
            let detail = format!(
                "this looks at more than {SLOTS_MAX} slots: name fewer schedules or centres, or a shorter start"
            );
            Err(Problem::new(Code::MalformedRequest, detail))
        }
        looks => Ok(looks <= SLOTS_INLINE),
    };
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
            let number = |session: &Session| catalogue.session_number(&session.id).unwrap_or(u32::MAX);
            let mut found: Vec<_> = sessions.map(|place| (number(&place.session), place.session)).collect();
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

    /// How many slots there are to look at, and no more than it takes to pass the most.
    fn looks(&self, app: &App) -> usize {
        // At most fifty, each in a session of its own.
        let alone = self.named.is_nothing().then(|| self.sessions(app).iter().map(|(_, s)| s.slots.len()).sum());
        alone.unwrap_or_else(|| self.named.looks(app, &self.from(app), true, SLOTS_MAX))
    }

    fn render(&self, app: &App, now: TimestampMs) -> Rendered {
        let mut teller = Teller::new(app, now);
        let mut bundle = Bundle::new(app.limits.fhir.base(), PATH);
        let engine = &app.campaign.engine;
        let sessions = self.sessions(app);
        let mut found = Vec::new();
        for (_, session) in &sessions {
            for window in session.windows.iter().filter(|window| self.span.has(window.start)) {
                let in_time = app.campaign.programme.in_time(window.start, now).is_ok();
                for slot in session.slots_of(window) {
                    if self.slots.as_ref().is_some_and(|only| only.binary_search(&slot.slot.0).is_err()) {
                        continue;
                    }
                    let Some(counts) = engine.counts(slot.slot) else { continue };
                    if self.statuses.is_empty() || self.statuses.iter().any(|s| s == slot_status(counts, in_time)) {
                        found.push((*slot, window, session, counts));
                    }
                }
            }
        }
        // By number, which never changes: so pages repeat nothing and miss nothing that is there all the while.
        found.sort_by_key(|(slot, ..)| slot.slot.0);
        let total = found.len();
        let mut rest = found.into_iter().filter(|(slot, ..)| self.after.is_none_or(|after| slot.slot.0 > after));
        let mut last = None;
        for (slot, window, session, counts) in rest.by_ref().take(self.params.count) {
            let id = app.names().slot(slot.slot);
            bundle.push(&id, "", |out| teller.slot((session, window), slot, counts, Audience::Asking, out));
            last = Some(slot.slot.0);
        }
        let more = rest.next().is_some();
        let next = last.filter(|_| more).map(|last| self.params.after(Some(&last.to_string())));
        let link = next.as_deref().map(|next| bundle.address(next));
        Rendered { tail: bundle.finish(Some(total), &self.params.spelled(), next.as_deref()), next: link }
    }
}
