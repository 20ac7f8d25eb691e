//! Sessions as Schedules.

use std::sync::Arc;

use berth_engine::TimestampMs;
use berth_programme::{Calendar, Catalogue, Session};
use hyper::{Response, StatusCode};

use super::bundle::Bundle;
use super::ids;
use super::kept::{self, Question, Rendered};
use super::query::{Params, Span};
use super::resources::{PRODUCT, SESSION, Teller};
use crate::app::App;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Call, respond};

const PATH: &str = "/fhir/Schedule";
const PARAMETERS: [&str; 5] = ["_id", "identifier", "actor", "service-type", "date"];
/// Sessions of one search, beyond which it has to be narrowed.
const SESSIONS_MAX: usize = 50_000;
/// A search that looks at so many or fewer is answered where it was asked.
const INLINE: usize = 100;

/// `GET /fhir/Schedule/{schedule}`
pub(crate) fn read(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    Params::read(call.query.as_deref(), &[]).checked()?;
    let session = ids::session(&call.app.campaign.catalogue, &call.parameter);
    let session = session.ok_or_else(|| {
        let shown: String = call.parameter.chars().take(80).collect();
        Problem::new(Code::UnknownSession, format!("there is no Schedule {shown}"))
    })?;
    let mut body = Vec::new();
    Teller::new(&call.app, call.app.campaign.engine.now()).schedule(&session, &mut body);
    Ok(respond(StatusCode::OK, call.gives, body))
}

/// Sessions by what a search names them by.
pub(super) struct Named {
    /// By their own ids; `None`: by none.
    pub(super) sessions: Option<Vec<String>>,
    /// By the ids of their centres; `None`: by none.
    pub(super) centres: Option<Vec<String>>,
}

impl Named {
    /// Whether it names any place or session at all.
    pub(super) fn is_nothing(&self) -> bool {
        self.sessions.is_none() && self.centres.is_none()
    }

    /// How many sessions there are to look at, or with `slots` how many slots: what it will cost, found out without looking at those of
    /// centres.
    pub(super) fn looks(&self, app: &App, span: &Span, slots: bool) -> usize {
        let (Some(centres), None) = (&self.centres, &self.sessions) else {
            let named = self.sessions.iter().flatten().filter_map(|id| ids::session(&app.campaign.catalogue, id));
            return if slots { named.map(|session| session.slots.len()).sum() } else { named.count() };
        };
        let (first, end) = span.dates(app.campaign.programme.calendar());
        let mut looks = 0;
        for centre in centres.iter().filter_map(|id| ids::centre(&app.campaign.catalogue, id)) {
            let offered = centre.offered(first, end);
            looks += if slots { offered.slots } else { offered.sessions };
        }
        looks
    }

    /// Those on the dates of a span, by number, each once. An id that names nothing finds nothing.
    pub(super) fn sessions(&self, app: &App, span: &Span) -> Vec<(u32, Arc<Session>)> {
        let catalogue = &app.campaign.catalogue;
        let calendar = app.campaign.programme.calendar();
        let mut found: Vec<Arc<Session>> = match (&self.sessions, &self.centres) {
            (Some(named), centres) => {
                let named = named.iter().filter_map(|id| ids::session(catalogue, id));
                let of = |session: &Arc<Session>| centres.as_ref().is_none_or(|c| is_at(catalogue, session, c));
                named.filter(of).collect()
            }
            (None, Some(centres)) => {
                let (first, end) = span.dates(calendar);
                let mut centres: Vec<_> = centres.iter().filter_map(|id| ids::centre(catalogue, id)).collect();
                centres.sort_by(|a, b| a.id.cmp(&b.id));
                centres.dedup_by(|a, b| a.id == b.id);
                let all = centres.iter().flat_map(|centre| centre.sessions_between(first, end));
                all.map(Arc::clone).collect()
            }
            (None, None) => Vec::new(),
        };
        found.retain(|session| overlaps(session, span));
        let mut numbered = catalogue.with_numbers(found);
        numbered.sort_by_key(|(number, _)| *number);
        numbered.dedup_by_key(|(number, _)| *number);
        numbered
    }
}

fn is_at(catalogue: &Catalogue, session: &Session, centres: &[String]) -> bool {
    let id = ids::of_centre(catalogue, &session.centre);
    centres.contains(&id)
}

/// Whether any of its windows begins within the span.
fn overlaps(session: &Session, span: &Span) -> bool {
    session.windows.iter().any(|window| span.has(window.start))
}

struct Asked {
    named: Named,
    span: Span,
    products: Vec<String>,
    /// Nothing that a service of this server has was asked for.
    other_service: bool,
    after: Option<u32>,
    params: Params,
}

/// `GET /fhir/Schedule`
pub(crate) async fn search(call: &Call) -> Result<Response<ResponseBody>, Problem> {
    let app = &call.app;
    let asked = Arc::new(Asked::parse(app, call.query.as_deref())?);
    let question = Question::of_search(asked.params.spelled());
    let (bounds, how) = ((INLINE, SESSIONS_MAX), "fewer centres, or a shorter date");
    let is_small = |app: &App| kept::is_small(asked.named.looks(app, &asked.span, false), bounds, "schedules", how);
    let asked = Arc::clone(&asked);
    kept::answer(call, question, is_small, move |app, now| asked.render(app, now)).await
}

impl Asked {
    fn parse(app: &App, query: Option<&str>) -> Result<Asked, Problem> {
        let mut params = Params::read(query, &PARAMETERS);
        let catalogue = &app.campaign.catalogue;
        let mut sessions = params.has("_id").then(|| params.references("_id", "Schedule"));
        if params.has("identifier") {
            let named = params.identifiers("identifier", SESSION);
            let named = named.iter().filter(|name| catalogue.has_session(name));
            let of: Vec<String> = named.map(|name| ids::of_session(catalogue, name)).collect();
            match &mut sessions {
                Some(sessions) => sessions.retain(|id| of.contains(id)),
                None => sessions = Some(of),
            }
        }
        let centres = params.has("actor").then(|| params.references("actor", "Location"));
        let named = Named { sessions, centres };
        if named.is_nothing() {
            params.fault(
                "give actor, _id or identifier: not every schedule is listed, /smart/$bulk-publish has them all",
            );
        }
        let span = params.span("date", app.campaign.programme.calendar());
        let services = params.list("service-type");
        let (products, other_service) = services_of(app, &services);
        let after = params.after_number();
        params.checked()?;
        Ok(Asked { named, span, products, other_service, after, params })
    }

    fn render(&self, app: &App, now: TimestampMs) -> Rendered {
        let teller = Teller::new(app, now);
        let mut bundle = Bundle::new(app.limits.fhir.base(), PATH);
        let mut found = if self.other_service { Vec::new() } else { self.named.sessions(app, &self.span) };
        if !self.products.is_empty() {
            found.retain(|(_, session)| {
                teller.rules.product(session.product).is_some_and(|product| self.products.contains(&product.id))
            });
        }
        let total = found.len();
        let mut rest = found.iter().filter(|(number, _)| self.after.is_none_or(|after| *number > after));
        let next = bundle.fill(&self.params, &mut rest, |bundle, (number, session)| {
            let id = ids::of_session(&app.campaign.catalogue, &session.id);
            bundle.push(&id, "", |out| teller.schedule(session, out));
            number.to_string()
        });
        bundle.rendered(&self.params, Some(total), next)
    }
}

/// The products that tokens of a service type name, and whether they name nothing that is here: every schedule has every service of
/// the configuration, and one product.
fn services_of(app: &App, tokens: &[String]) -> (Vec<String>, bool) {
    let rules = app.campaign.programme.get();
    let split = |token: &String| match token.split_once('|') {
        Some((system, code)) => (Some(system.to_owned()), code.to_owned()),
        None => (None, token.clone()),
    };
    let tokens: Vec<_> = tokens.iter().map(split).collect();
    let offered = |(system, code): &(Option<String>, String)| {
        let is = |s: &super::Service| s.code == *code && system.as_ref().is_none_or(|system| *system == s.system);
        app.limits.fhir.services.iter().any(is)
    };
    if tokens.is_empty() || tokens.iter().any(offered) {
        return (Vec::new(), false);
    }
    let products = tokens.iter().filter(|(system, code)| {
        system.as_deref().is_none_or(|system| system == PRODUCT) && rules.product_number(code).is_some()
    });
    let products: Vec<String> = products.map(|(_, code)| code.clone()).collect();
    let other = products.is_empty();
    (products, other)
}

/// Where a search says no time: from today on.
pub(super) fn from_today(span: Span, calendar: &Calendar, now: TimestampMs) -> Span {
    if span == Span::default() { Span { from: Some(calendar.midnight_before(now, 0)), until: None } } else { span }
}
