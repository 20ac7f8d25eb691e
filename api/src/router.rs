//! From a request to the one function that answers it.
//!
//! The table below is the whole surface. For every request, in this order: is there such a path (404) and
//! method (405 with `Allow`), is there room for it (503), is the server still taking requests (503), does the key carry the role (401, 403), is it
//! within its rate (429) and audited (503), can the answer be of an accepted type (406), is the body of the right type (415), can it be as safe as was asked (503).

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use crate::access::{AccountId, Caller, NOBODY, Role, Sight};
use crate::ack::{self, AckMode};
use crate::admission::{self, Class, Place, Reason, Shed};
use crate::app::{App, Phase};
use crate::body::ResponseBody;
use crate::gate::{Asked, Gate, Who};
use crate::problem::{Code, Problem};
use crate::routes;
use crate::search;
use crate::trace::{self, Trace};
use crate::traffic::{Door, Running, Traffic};

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    PublishRegions,
    PublishCentres,
    PublishSessions,
    AddParties,
    ListRegions,
    Availability,
    Hold,
    Confirm,
    Release,
    Book,
    ReadBooking,
    ReadReference,
    Cancel,
    Move,
    CancelGroup,
    BulkBookings,
    CheckIn,
    Complete,
    NoShow,
    WalkIn,
    DayBookings,
    PartyHistory,
    MoveSessionBookings,
    CancelSessionBookings,
    CloseSession,
    OpenSession,
    ResizeSession,
    ReadSession,
    ReadCentre,
    ReadSlot,
    PartyBookings,
    Outcome,
    RevokeToken,
    Export,
    ReadAdmission,
    ChangeAdmission,
    Healthz,
    Livez,
    Readyz,
    Metrics,
    Version,
    OpenApi,
    Docs,
}

/// What a body is, in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Ndjson,
    Csv,
    Text,
    Html,
}

impl Media {
    pub(crate) fn essence(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Ndjson => "application/x-ndjson",
            Media::Csv => "text/csv",
            Media::Text => "text/plain",
            Media::Html => "text/html",
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Ndjson => "application/x-ndjson",
            Media::Csv => "text/csv; charset=utf-8; header=present",
            Media::Text => "text/plain; version=0.0.4; charset=utf-8",
            Media::Html => "text/html; charset=utf-8",
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) route: Route,
    pub(crate) method: Method,
    /// The path, with at most two `{parameters}`; also the metrics label.
    pub(crate) template: &'static str,
    /// Who may ask; empty: everybody, without a key.
    pub(crate) roles: &'static [Role],
    pub(crate) takes: Media,
    pub(crate) gives: Media,
    /// What the answer can be instead, if the client would rather have it.
    pub(crate) also: Option<Media>,
}

impl Endpoint {
    pub(crate) fn is_for_admins_only(&self) -> bool {
        self.roles == ADMIN
    }
}

const fn get(template: &'static str, roles: &'static [Role], route: Route, gives: Media) -> Endpoint {
    Endpoint { route, method: Method::GET, template, roles, takes: Media::Json, gives, also: None }
}

const fn post(template: &'static str, roles: &'static [Role], route: Route, takes: Media) -> Endpoint {
    Endpoint { route, method: Method::POST, template, roles, takes, gives: Media::Json, also: None }
}

/// What can be had as a table, too.
const fn list(template: &'static str, roles: &'static [Role], route: Route) -> Endpoint {
    let (method, also) = (Method::GET, Some(Media::Csv));
    Endpoint { route, method, template, roles, takes: Media::Json, gives: Media::Json, also }
}

/// Lines in, a result for each out.
const fn stream(template: &'static str, roles: &'static [Role], route: Route, takes: Media) -> Endpoint {
    Endpoint { route, method: Method::POST, template, roles, takes, gives: Media::Ndjson, also: None }
}

const fn patch(template: &'static str, roles: &'static [Role], route: Route) -> Endpoint {
    Endpoint { route, method: Method::PATCH, template, roles, takes: Media::Json, gives: Media::Json, also: None }
}

const ANYBODY: &[Role] = &[];
const ADMIN: &[Role] = &[Role::Admin];
const PLATFORM: &[Role] = &[Role::Platform];
/// Who claims for parties: a citizen for its own.
const CLAIMS: &[Role] = &[Role::Platform, Role::Citizen];
/// Who may see a booking: a citizen its own, an operator those at its centres.
const SEES: &[Role] = &[Role::Platform, Role::Citizen, Role::Operator];
/// Who works at the door of a centre: an operator at its own.
const DOOR: &[Role] = &[Role::Operator, Role::Platform];
/// Everybody who has a key for anything that is posted.
const POSTS: &[Role] = &[Role::Platform, Role::Citizen, Role::Operator, Role::Admin];

/// Every endpoint. What is asked most often stands first.
pub(crate) static TABLE: &[Endpoint] = &[
    get("/v1/availability", ANYBODY, Route::Availability, Media::Json),
    post("/v1/holds", CLAIMS, Route::Hold, Media::Json),
    post("/v1/holds/{hold}/confirm", CLAIMS, Route::Confirm, Media::Json),
    post("/v1/holds/{hold}/release", CLAIMS, Route::Release, Media::Json),
    post("/v1/bookings", CLAIMS, Route::Book, Media::Json),
    get("/v1/bookings/{booking}", SEES, Route::ReadBooking, Media::Json),
    post("/v1/bookings/{booking}/cancel", CLAIMS, Route::Cancel, Media::Json),
    post("/v1/bookings/{booking}/move", CLAIMS, Route::Move, Media::Json),
    post("/v1/bookings/cancel", CLAIMS, Route::CancelGroup, Media::Json),
    post("/v1/bookings/{booking}/check-in", DOOR, Route::CheckIn, Media::Json),
    post("/v1/bookings/{booking}/complete", DOOR, Route::Complete, Media::Json),
    post("/v1/bookings/{booking}/no-show", DOOR, Route::NoShow, Media::Json),
    post("/v1/walk-ins", DOOR, Route::WalkIn, Media::Json),
    list("/v1/centres/{centre}/days/{date}/bookings", DOOR, Route::DayBookings),
    get("/v1/parties/{party}/history", CLAIMS, Route::PartyHistory, Media::Json),
    stream("/v1/sessions/{session}/move-bookings", ADMIN, Route::MoveSessionBookings, Media::Json),
    stream("/v1/sessions/{session}/cancel-bookings", ADMIN, Route::CancelSessionBookings, Media::Json),
    stream("/v1/bulk/bookings", PLATFORM, Route::BulkBookings, Media::Ndjson),
    get("/v1/sessions/{session}", ANYBODY, Route::ReadSession, Media::Json),
    post("/v1/sessions/{session}/close", ADMIN, Route::CloseSession, Media::Json),
    post("/v1/sessions/{session}/open", ADMIN, Route::OpenSession, Media::Json),
    post("/v1/sessions/{session}/resize", ADMIN, Route::ResizeSession, Media::Json),
    get("/v1/centres/{centre}", ANYBODY, Route::ReadCentre, Media::Json),
    get("/v1/slots/{slot}", ANYBODY, Route::ReadSlot, Media::Json),
    get("/v1/parties/{party}/bookings", CLAIMS, Route::PartyBookings, Media::Json),
    get("/v1/booking-references/{reference}", PLATFORM, Route::ReadReference, Media::Json),
    get("/v1/outcomes/{key}", POSTS, Route::Outcome, Media::Json),
    get("/v1/regions", ANYBODY, Route::ListRegions, Media::Json),
    post("/v1/regions", ADMIN, Route::PublishRegions, Media::Ndjson),
    post("/v1/centres", ADMIN, Route::PublishCentres, Media::Ndjson),
    post("/v1/sessions", ADMIN, Route::PublishSessions, Media::Ndjson),
    post("/v1/parties", ADMIN, Route::AddParties, Media::Json),
    post("/v1/admin/revocations", ADMIN, Route::RevokeToken, Media::Json),
    get("/v1/export", ADMIN, Route::Export, Media::Ndjson),
    get("/v1/admin/admission", ADMIN, Route::ReadAdmission, Media::Json),
    patch("/v1/admin/admission", ADMIN, Route::ChangeAdmission),
    get("/healthz", ANYBODY, Route::Healthz, Media::Json),
    get("/livez", ANYBODY, Route::Livez, Media::Json),
    get("/readyz", ANYBODY, Route::Readyz, Media::Json),
    get("/metrics", ANYBODY, Route::Metrics, Media::Text),
    get("/version", ANYBODY, Route::Version, Media::Json),
    get("/openapi.json", ANYBODY, Route::OpenApi, Media::Json),
    get("/docs", ANYBODY, Route::Docs, Media::Html),
];

/// A request on its way to its route.
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) endpoint: &'static Endpoint,
    /// What stands at the template's parameter, as sent; of two, the first.
    pub(crate) parameter: String,
    /// What stands at the template's second parameter.
    pub(crate) parameter2: String,
    /// What the answer is to be, of what the endpoint gives.
    pub(crate) gives: Media,
    pub(crate) query: Option<String>,
    /// How safe what the answer rests on must be; the server's default until the router has read the header.
    pub(crate) ack: AckMode,
    /// Who asks, once they are through the gate; nobody where no key is needed.
    who: Who,
    /// Whose trace it belongs to.
    pub(crate) trace: Trace,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
}

impl Call {
    /// Who asks. The gate has checked that the role may; the route checks whom and where it reaches.
    pub(crate) fn caller(&self) -> &Caller {
        self.who.caller.as_deref().unwrap_or(&NOBODY)
    }

    /// The account it is for, if there is one.
    pub(crate) fn account(&self) -> Option<&AccountId> {
        self.who.account.as_ref()
    }

    /// What they may be shown of a booking.
    pub(crate) fn sight(&self) -> Sight {
        self.caller().sight()
    }
}

/// Answers one request. Never fails: what goes wrong is an answer too.
pub(crate) async fn answer(
    app: Arc<App>,
    traffic: Arc<Traffic>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let started = Instant::now();
    let running = traffic.request(started);
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let trace = app.traces.of(&head.headers);
    let found = find(&head.method, path).and_then(|found| {
        let answered_here = running.traffic().door == Door::Main || is_probe(found.0);
        answered_here
            .then_some(found)
            .ok_or_else(|| Problem::new(Code::NotFound, "this listener answers probes and metrics, and nothing else"))
    });
    let endpoint = found.as_ref().ok().map(|(endpoint, _)| *endpoint);
    // Probes and scrapes neither take room nor need any.
    let entered = endpoint.is_none_or(|e| !is_probe(e)).then(|| app.enter());
    let (inflight, room) = entered.map_or((None, true), |(inflight, room)| (Some(inflight), room));
    let mut gate = Gate::default();
    let kept = if room { search::kept(&app, endpoint, &head, started) } else { None };
    let answered = match (kept, found) {
        (Some(response), _) => Ok(response),
        (None, Err(problem)) => Err(problem),
        (None, Ok((endpoint, [parameter, parameter2]))) => {
            // Before anything is copied or read: what is refused here must cost less than what is served.
            match admit(&app, endpoint, parameter, &head.headers, room).await {
                Err(shed) => {
                    app.metrics.refused(Code::Overloaded);
                    let leave = app.admission.is_strained() && !running.traffic().is_known();
                    Ok(shed.into_response(path, head.version, leave))
                }
                Ok(place) => {
                    let call = Call {
                        ack: app.limits.ack,
                        who: Who::default(),
                        trace,
                        app: Arc::clone(&app),
                        endpoint,
                        parameter: parameter.to_owned(),
                        parameter2: parameter2.to_owned(),
                        gives: endpoint.gives,
                        query: head.uri.query().map(str::to_owned),
                        headers: head.headers,
                        body,
                    };
                    let gated = Gated { app: &app, peer, now: started, gate: &mut gate };
                    enter(call, place, &running, gated).await
                }
            }
        }
    };
    let refused = answered.as_ref().err().map(Problem::code);
    let mut response = answered.unwrap_or_else(|problem| {
        app.metrics.refused(problem.code());
        problem.into_response(path)
    });
    gate.tell(&mut response, refused);
    if head.method == Method::HEAD {
        without_body(&mut response);
    }
    let now = Instant::now();
    let (status, took) = (response.status(), now.saturating_duration_since(started));
    // What is read by everybody and went well is told of its trace only if that was asked for: it is most of all answers.
    if trace.asked
        || !(status.is_success() || status == StatusCode::NOT_MODIFIED)
        || endpoint.is_none_or(|endpoint| endpoint.method != Method::GET)
    {
        response.headers_mut().insert(trace::HEADER, trace.header());
    }
    app.metrics.answered(endpoint, status, took);
    app.access_log.request(&head.method, endpoint, status, took, &trace);
    Ok(response.map(|body| body.of(inflight, running, now)))
}

/// What a request brings to the gate.
struct Gated<'a, 'g> {
    app: &'a App,
    peer: IpAddr,
    now: Instant,
    gate: &'g mut Gate<'a>,
}

/// Runs a request in its place.
async fn enter(
    call: Call,
    place: Option<(Place, Class)>,
    running: &Running,
    gated: Gated<'_, '_>,
) -> Result<Response<ResponseBody>, Problem> {
    let Some((place, class)) = place else { return dispatch(call, gated).await };
    let _counted = call.app.admission.running(class);
    let answered = place.run(dispatch(call, gated)).await;
    if class <= Class::Claim && answered.as_ref().is_ok_and(|answer| answer.status().is_success()) {
        running.traffic().know();
    }
    answered
}

/// A place for a request; probes need none. `room`: fewer run than may.
async fn admit(
    app: &Arc<App>,
    endpoint: &Endpoint,
    parameter: &str,
    headers: &HeaderMap,
    room: bool,
) -> Result<Option<(Place, Class)>, Shed> {
    if is_probe(endpoint) {
        return Ok(None);
    }
    let rank = admission::rank(app, endpoint, parameter, headers);
    if !room && !rank.exempt {
        return Err(app.admission.refuse(rank.class, Reason::Running));
    }
    app.admission.enter(rank).await.map(|place| Some((place, rank.class)))
}

async fn dispatch(mut call: Call, gated: Gated<'_, '_>) -> Result<Response<ResponseBody>, Problem> {
    let endpoint = call.endpoint;
    if call.app.phase() == Phase::Draining && !is_probe(endpoint) {
        return Err(Problem::new(Code::Draining, "this server is stopping: ask another, or again soon"));
    }
    let parameters = [call.parameter.as_str(), call.parameter2.as_str()];
    let Gated { app, peer, now, gate } = gated;
    let (headers, trace) = (&call.headers, &call.trace);
    let asked = Asked { endpoint, parameters: &parameters, headers, trace, peer, now };
    call.who = gate.pass(app, &asked).await?;
    call.gives = accepted(&call.headers, endpoint.gives, endpoint.also)?;
    is_of_type(&call.headers, endpoint)?;
    // Who needs no key is shown no claim.
    if !endpoint.roles.is_empty() {
        call.ack = ack::asked(&call.headers, &call.app)?;
        call.app.metrics.asked(call.ack);
    }
    match endpoint.route {
        Route::PublishRegions | Route::PublishCentres | Route::PublishSessions => routes::bulk::publish(call).await,
        Route::AddParties => routes::parties::add(call).await,
        Route::BulkBookings => routes::bulk_bookings::stream(call).await,
        Route::CancelGroup => routes::bookings::cancel_group(call).await,
        Route::CheckIn => routes::door::check_in(call).await,
        Route::Complete | Route::NoShow => routes::door::step(call).await,
        Route::WalkIn => routes::door::walk_in(call).await,
        Route::DayBookings => routes::listing::day(call).await,
        Route::PartyHistory => routes::listing::history(call).await,
        Route::MoveSessionBookings => routes::session_bookings::move_all(call).await,
        Route::CancelSessionBookings => routes::session_bookings::cancel_all(call).await,
        Route::CloseSession | Route::OpenSession => routes::sessions::set_open(call).await,
        Route::ResizeSession => routes::sessions::resize(call).await,
        Route::ReadSession => routes::catalogue::session(&call),
        Route::ReadCentre => routes::catalogue::centre(&call),
        Route::ReadSlot => routes::catalogue::slot(&call),
        Route::PartyBookings => routes::parties::bookings(call).await,
        Route::ListRegions => routes::regions::regions(&call),
        Route::Availability => search::search(&call.app, call.query.as_deref(), &call.headers).await,
        Route::Hold => routes::holds::hold(call).await,
        Route::Confirm => routes::holds::confirm(call).await,
        Route::Release => routes::holds::release(call).await,
        Route::Book => routes::bookings::book(call).await,
        Route::ReadBooking => routes::bookings::read(call).await,
        Route::ReadReference => routes::bookings::read_reference(call).await,
        Route::Cancel => routes::bookings::cancel(call).await,
        Route::Move => routes::bookings::move_to(call).await,
        Route::Outcome => routes::outcomes::read(call).await,
        Route::RevokeToken => routes::revocations::revoke(call).await,
        Route::Export => Ok(routes::export::export(&call)),
        Route::ReadAdmission => Ok(routes::admission::read(&call.app)),
        Route::ChangeAdmission => routes::admission::change(call).await,
        Route::Healthz | Route::Livez => Ok(routes::operations::healthz()),
        Route::Readyz => Ok(routes::operations::readyz(&call.app)),
        Route::Metrics => Ok(routes::operations::metrics(&call.app)),
        Route::Version => Ok(routes::operations::version(&call.app)),
        Route::OpenApi => Ok(routes::operations::openapi(&call.app)),
        Route::Docs => Ok(routes::operations::docs(&call.app)),
    }
}

/// Probes and metrics answer whatever the load and to the last moment.
fn is_probe(endpoint: &Endpoint) -> bool {
    matches!(endpoint.route, Route::Healthz | Route::Livez | Route::Readyz | Route::Metrics | Route::Version)
}

/// The endpoint of a path and method, with what stands at the template's parameters.
fn find<'p>(method: &Method, path: &'p str) -> Result<(&'static Endpoint, [&'p str; 2]), Problem> {
    // HEAD is GET without the body.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let mut allowed: Vec<&str> = Vec::new();
    for endpoint in TABLE {
        if let Some(parameters) = matches(endpoint.template, path) {
            if endpoint.method == method {
                return Ok((endpoint, parameters));
            }
            allowed.push(endpoint.method.as_str());
            if endpoint.method == Method::GET {
                allowed.push("HEAD");
            }
        }
    }
    if allowed.is_empty() {
        return Err(Problem::new(Code::NotFound, "there is no such path, see docs/http-api.md"));
    }
    // A path that stands in the table as it is, and would also pass for a parameter, takes what its own rows take.
    let own: Vec<_> = TABLE.iter().filter(|e| e.template == path).map(|e| e.method.as_str()).collect();
    let allowed = if own.is_empty() || own.contains(&"GET") { allowed } else { own }.join(", ");
    Err(Problem::new(Code::MethodNotAllowed, format!("this path takes {allowed}")).allowing(allowed))
}

/// The texts at the parameters if `path` is of the template; empty where it has none.
fn matches<'p>(mut template: &str, mut path: &'p str) -> Option<[&'p str; 2]> {
    let mut found = [""; 2];
    let mut places = found.iter_mut();
    while let Some((before, rest)) = template.split_once('{') {
        path = path.strip_prefix(before)?;
        let (text, after) = path.split_at(path.find('/').unwrap_or(path.len()));
        if text.is_empty() {
            return None;
        }
        *places.next()? = text;
        path = after;
        template = rest.split_once('}').map_or("", |(_, after)| after);
    }
    (template == path).then_some(found)
}

/// Which of these types the client would rather have. Problems are told whatever it takes.
pub(crate) fn accepted(headers: &HeaderMap, gives: Media, also: Option<Media>) -> Result<Media, Problem> {
    let given = || [Some(gives), also].into_iter().flatten();
    if !headers.contains_key(ACCEPT) {
        return Ok(gives);
    }
    let ranges = || headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let mut best = (None, 0.0);
    for media in given() {
        let liking = ranges().map(|range| liking(range, media.essence())).fold(0.0, f32::max);
        if liking > best.1 {
            best = (Some(media), liking);
        }
    }
    best.0.ok_or_else(|| {
        let given: Vec<_> = given().map(Media::essence).collect();
        Problem::new(Code::NotAcceptable, format!("the answer is {}", given.join(" or ")))
    })
}

/// How much a client that sends this range likes a type, from 0, not at all, to 1.
fn liking(range: &str, essence: &str) -> f32 {
    let mut parts = range.split(';').map(str::trim);
    let takes = match parts.next().unwrap_or("") {
        "" => false,
        "*/*" => true,
        range => match range.strip_suffix("/*") {
            Some(kind) => essence.split('/').next().is_some_and(|k| k.eq_ignore_ascii_case(kind)),
            None => range.eq_ignore_ascii_case(essence),
        },
    };
    let quality = parts.find_map(|p| p.strip_prefix("q=")?.trim().parse().ok()).unwrap_or(1.0);
    if takes { quality } else { 0.0 }
}

/// A body of a stated other type is refused; one of no stated type is taken for the right one.
fn is_of_type(headers: &HeaderMap, endpoint: &Endpoint) -> Result<(), Problem> {
    if endpoint.method != Method::POST && endpoint.method != Method::PATCH {
        return Ok(());
    }
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let wanted = endpoint.takes.essence();
    let essence = value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, format!("the body must be {wanted}")))
}

fn without_body(response: &mut Response<ResponseBody>) {
    if let ResponseBody::Whole(Some(bytes)) = response.body() {
        let length = HeaderValue::from(bytes.len());
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    *response.body_mut() = ResponseBody::Whole(None);
}

/// A good answer.
pub(crate) fn respond(status: StatusCode, media: Media, body: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::whole(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media.content_type()));
    // What was true a moment ago of a slot or booking is nothing for a cache to repeat.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_whole_paths() {
        assert_eq!(matches("/v1/holds/{hold}/confirm", "/v1/holds/AB-1/confirm"), Some(["AB-1", ""]));
        assert_eq!(matches("/v1/bookings/{booking}", "/v1/bookings/x"), Some(["x", ""]));
        assert_eq!(matches("/v1/holds", "/v1/holds"), Some(["", ""]));
        let days = "/v1/centres/{centre}/days/{date}/bookings";
        assert_eq!(matches(days, "/v1/centres/c1/days/2026-11-24/bookings"), Some(["c1", "2026-11-24"]));
        for path in ["/v1/centres/c1/days//bookings", "/v1/centres/c1/days/x", "/v1/centres/c1/days/x/bookings/y"] {
            assert_eq!(matches(days, path), None, "{path}");
        }
        for path in ["/v1/holds//confirm", "/v1/holds/a/b/confirm", "/v1/holds/confirm", "/v1/holds/a/confirm/"] {
            assert_eq!(matches("/v1/holds/{hold}/confirm", path), None, "{path}");
        }
    }

    #[test]
    fn a_path_and_method_find_their_route() {
        let route = |method, path| find(&method, path).map(|(e, _)| e.route).map_err(|p| p.code());
        assert_eq!(route(Method::GET, "/v1/regions"), Ok(Route::ListRegions));
        assert_eq!(route(Method::POST, "/v1/regions"), Ok(Route::PublishRegions));
        assert_eq!(route(Method::HEAD, "/healthz"), Ok(Route::Healthz));
        assert_eq!(route(Method::DELETE, "/v1/regions"), Err(Code::MethodNotAllowed));
        assert_eq!(route(Method::GET, "/v1"), Err(Code::NotFound));
    }

    #[test]
    fn no_two_rows_of_the_table_are_the_same() {
        for (i, a) in TABLE.iter().enumerate() {
            for b in &TABLE[i + 1..] {
                assert!(a.route != b.route && (a.template, &a.method) != (b.template, &b.method), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn an_accept_header_is_honoured() {
        let ask = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, value.parse().unwrap());
            accepted(&headers, Media::Json, Some(Media::Csv)).map_err(|p| p.code())
        };
        let (json, csv) = (Ok(Media::Json), Ok(Media::Csv));
        for good in ["*/*", "application/json", "text/html, application/*;q=0.5", "Application/JSON; charset=utf-8"] {
            assert_eq!(ask(good), json, "{good}");
        }
        for other in ["text/csv", "text/*", "application/json;q=0.1, text/csv", "text/csv, application/*;q=0.9"] {
            assert_eq!(ask(other), csv, "{other}");
        }
        for bad in ["text/html", "application/json;q=0", "image/*", "application/xml, text/html;q=0.9"] {
            assert_eq!(ask(bad), Err(Code::NotAcceptable), "{bad}");
        }
    }
}
