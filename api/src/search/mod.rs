//! Searching: nine of ten requests, so an answer is made once and given many times.
//!
//! A query string is looked up as it came ([`cache`]). If no fresh answer is kept under it, it is read
//! ([`asked`]) and spelled in its one canonical way; under that spelling at most one answer is rendered at a time
//! ([`flight`]), from the slot words, and encoded ([`encoding`]). Both spellings then find it.
//!
//! **Freshness.** An answer is given only to requests that came at most the configured staleness after the instant
//! before its counts were read. Nothing else ends its life: publishing, closing, booking and the clock all show in the
//! next rendering, so they are seen no later than that.
//!
//! **What an `ETag` says.** It is made of everything in the answer but `as_of`, so that an answer that has not changed
//! keeps it. It is weak, because the bytes differ in `as_of`; `Berth-As-Of` says the instant in a 304, too.
//!
//! What others are told of the catalogue ([`crate::fhir`]) is kept in the same way, apart from searches ([`kept`]).

mod answer;
mod asked;
mod cache;
mod encoding;
mod flight;
mod kept;
mod render;
mod since;
mod stats;

use std::sync::Arc;
use std::time::Instant;

use hyper::http::request::Parts;
use hyper::{HeaderMap, Response};

pub(crate) use self::answer::{Told, etag_is_listed};
use self::asked::Asked;
pub(crate) use self::encoding::Encoding;
use self::encoding::asked as encoding_asked;
pub(crate) use self::kept::{Asking, Renderers, Search, SearchConfig};
pub(crate) use self::stats::SearchCounts;
use crate::admission::Class;
use crate::app::{App, Phase};
use crate::body::ResponseBody;
use crate::fhir;
use crate::problem::{Code, Problem};
use crate::router::{Endpoint, Media, Route, negotiated};

/// A search that looks at so many slots or fewer is answered where it was asked: well under a millisecond. A larger one would hold
/// up what else the thread has to do.
pub(crate) const SLOTS_INLINE: usize = 640;

/// The encoding for who sent these headers.
pub(crate) fn encoding_for(headers: &HeaderMap) -> Result<Encoding, Problem> {
    encoding_asked(headers)
        .ok_or_else(|| Problem::new(Code::NotAcceptable, "the answer is zstd, gzip or identity encoded"))
}

/// `GET /v1/availability`
pub(crate) async fn search(
    app: &Arc<App>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, Problem> {
    let encoding = encoding_for(headers)?;
    let arrived = Instant::now();
    let query = query.unwrap_or("");
    let answer = match app.search.fresh(encoding, query, arrived) {
        Some(answer) => answer,
        None => {
            let asked = Asked::parse(query)?.resolve(app)?;
            let asking = Asking { spelling: query, key: asked.key(), encoding, arrived, is_small: asked.is_small };
            let of = Arc::clone(app);
            app.search.made(asking, move |last| answer::make(&of, &asked, encoding, last)).await?
        }
    };
    // Now: it may have had to wait.
    Ok(app.search.given(&answer, headers, Instant::now()))
}

/// The answer to a search that is kept as it was asked for: most of all requests, so before anything is made for them. It
/// takes no place in the queue: to give it costs no more than to refuse it. Where rates are limited it goes through the gate.
pub(crate) fn kept(
    app: &App,
    endpoint: Option<&'static Endpoint>,
    head: &Parts,
    arrived: Instant,
) -> Option<Response<ResponseBody>> {
    let endpoint = endpoint?;
    let query = head.uri.query();
    let (search, spelling) = match endpoint.route {
        Route::Availability => (&app.search, query.unwrap_or("")),
        route => (fhir::kept_in(app, route)?, head.uri.path_and_query()?.as_str()),
    };
    let open = app.phase() != Phase::Draining && app.admission.takes(Class::Search) && !app.rates.is_on();
    if !open {
        return None;
    }
    let media = negotiated(&head.headers, endpoint, query).ok()?;
    let encoding = encoding_asked(&head.headers)?;
    let answer = search.fresh(encoding, spelling, arrived)?;
    Some(as_media(search.given(&answer, &head.headers, arrived), endpoint, media))
}

/// The same answer under the type that the client would rather have.
pub(crate) fn as_media(
    mut response: Response<ResponseBody>,
    endpoint: &Endpoint,
    media: Media,
) -> Response<ResponseBody> {
    if media != endpoint.gives
        && let Some(kind) = response.headers_mut().get_mut(hyper::header::CONTENT_TYPE)
    {
        *kind = hyper::header::HeaderValue::from_static(media.content_type());
    }
    response
}
