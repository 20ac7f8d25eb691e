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

mod answer;
mod asked;
mod cache;
mod encoding;
mod flight;
mod render;
mod stats;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::IF_NONE_MATCH;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response};
use tokio::sync::Semaphore;

use self::answer::Answer;
pub(crate) use self::answer::etag_is_listed;
use self::asked::{Asked, Resolved};
use self::cache::Cache;
use self::encoding::{Encoding, Presses};
use self::flight::{Flights, Joined};
pub(crate) use self::stats::{SearchCounts, SearchStats};
use crate::admission::Class;
use crate::app::{App, Phase};
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};
use crate::router::{Endpoint, Route, accepted};

/// What an operator sets. Checked by [`crate::config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SearchConfig {
    /// How old an answer may be; zero: every request is rendered anew.
    pub(crate) staleness: Duration,
    /// Bytes of answers that are kept.
    pub(crate) cache_bytes: usize,
}

/// A search that looks at so many slots or fewer is answered where it was asked: well under a millisecond. A larger one would hold
/// up what else the thread has to do.
const SLOTS_INLINE: usize = 640;
/// How long a large search waits for its turn to be rendered before it is told `overloaded`.
const TURN_TIME: Duration = Duration::from_secs(2);
/// Answers that are sent may take so much more than those that are kept; then nothing more is rendered until some are taken.
const SENT_BYTES_MIN: usize = 64 << 20;

/// The state of searching.
pub(crate) struct Search {
    config: SearchConfig,
    cache: Cache,
    flights: Flights,
    presses: Presses,
    /// Who renders large answers: as many at once as there are cores, the others wait.
    renderers: Arc<Semaphore>,
    pub(crate) stats: SearchStats,
}

impl Search {
    pub(crate) fn new(config: SearchConfig) -> Search {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Search {
            config,
            cache: Cache::new(config.cache_bytes),
            flights: Flights::default(),
            presses: Presses::default(),
            renderers: Arc::new(Semaphore::new(cores)),
            stats: SearchStats::default(),
        }
    }

    /// Bytes of the answers that are kept.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Answers and spellings that were dropped to make room.
    pub(crate) fn evictions(&self) -> u64 {
        self.cache.evictions()
    }
}

/// `GET /v1/availability`
pub(crate) async fn search(
    app: &Arc<App>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, Problem> {
    let encoding = encoding::asked(headers)
        .ok_or_else(|| Problem::new(Code::NotAcceptable, "the answer is zstd, gzip or identity encoded"))?;
    let arrived = Instant::now();
    let query = query.unwrap_or("");
    let answer = match app.search.cache.fresh(encoding, query, arrived) {
        Some(answer) => {
            app.search.stats.hit();
            answer
        }
        None => made(app, query, encoding, arrived).await?,
    };
    // Now: it may have had to wait.
    Ok(given(&app.search, &answer, headers, Instant::now()))
}

/// The answer to a search that is kept as it was asked for: most of all requests, so before anything is made for them. It
/// takes no place in the queue: to give it costs no more than to refuse it. Where rates are limited it goes through the gate.
pub(crate) fn kept(
    app: &App,
    endpoint: Option<&'static Endpoint>,
    head: &Parts,
    arrived: Instant,
) -> Option<Response<ResponseBody>> {
    let endpoint = endpoint.filter(|endpoint| endpoint.route == Route::Availability)?;
    let open = app.phase() != Phase::Draining && app.admission.takes(Class::Search) && !app.rates.is_on();
    if !open || accepted(&head.headers, endpoint.gives, endpoint.also).is_err() {
        return None;
    }
    let encoding = encoding::asked(&head.headers)?;
    let answer = app.search.cache.fresh(encoding, head.uri.query().unwrap_or(""), arrived)?;
    app.search.stats.hit();
    Some(given(&app.search, &answer, &head.headers, arrived))
}

fn given(search: &Search, answer: &Answer, headers: &HeaderMap, now: Instant) -> Response<ResponseBody> {
    let (response, modified) = answer.respond(headers.get(IF_NONE_MATCH), now, search.config.staleness);
    if !modified {
        search.stats.not_modified();
    }
    response
}

async fn made(app: &Arc<App>, query: &str, encoding: Encoding, arrived: Instant) -> Result<Arc<Answer>, Problem> {
    let search = &app.search;
    let asked = Asked::parse(query)?.resolve(app)?;
    // Who does not take answers keeps them in memory; the limits of time end that, and this bounds it until then.
    if search.cache.sent_bytes() > search.config.cache_bytes.max(SENT_BYTES_MIN) {
        return Err(could_not());
    }
    if search.config.staleness.is_zero() {
        search.stats.miss();
        return alone(app, asked, encoding).await;
    }
    let key = asked.key();
    loop {
        if let Some(answer) = search.cache.fresh(encoding, &key, arrived) {
            search.stats.hit();
            search.cache.insert(encoding, query, &answer);
            return Ok(answer);
        }
        let mut following = match search.flights.join(encoding, &key) {
            Joined::Full => return Err(could_not()),
            Joined::Leading(leader) if asked.is_small => {
                search.stats.miss();
                let answer = render(app, &asked, &key, encoding)?;
                leader.done(&answer);
                search.cache.insert(encoding, query, &answer);
                return Ok(answer);
            }
            Joined::Leading(leader) => {
                search.stats.miss();
                let following = leader.follow();
                // On its own, so that who waits for it does not depend on this client's patience.
                let (app, asked, key) = (Arc::clone(app), asked.clone(), key.clone());
                tokio::spawn(async move {
                    let render = move |app: &App| {
                        // Who asked may be gone by now.
                        if leader.is_awaited()
                            && let Ok(answer) = render(app, &asked, &key, encoding)
                        {
                            leader.done(&answer);
                        }
                    };
                    // Without a turn the leader is dropped, which tells those who wait.
                    let _ = in_pool(&app, render).await;
                });
                following
            }
            Joined::Following(following) => {
                search.stats.waited();
                following
            }
        };
        let answer = following.answer().await.ok_or_else(could_not)?;
        // One that was begun long before this request came is too old for it; the next one is not.
        if answer.is_fresh(arrived) {
            search.cache.insert(encoding, query, &answer);
            return Ok(answer);
        }
    }
}

/// Renders for one request and keeps nothing.
async fn alone(app: &Arc<App>, asked: Resolved, encoding: Encoding) -> Result<Arc<Answer>, Problem> {
    if asked.is_small {
        return answer::make(app, &asked, encoding, None);
    }
    in_pool(app, move |app| answer::make(app, &asked, encoding, None)).await?
}

/// Renders and keeps. Of what has not changed since it was last rendered, what was compressed then is used again.
fn render(app: &App, asked: &Resolved, key: &str, encoding: Encoding) -> Result<Arc<Answer>, Problem> {
    let cache = &app.search.cache;
    let answer = answer::make(app, asked, encoding, cache.any(encoding, key))?;
    cache.insert(encoding, key, &answer);
    Ok(answer)
}

/// Runs in a thread that may take its time, once there is room among the renderers.
async fn in_pool<T: Send + 'static>(
    app: &Arc<App>,
    render: impl FnOnce(&App) -> T + Send + 'static,
) -> Result<T, Problem> {
    let turn = tokio::time::timeout(TURN_TIME, Arc::clone(&app.search.renderers).acquire_owned());
    let permit = turn.await.map_err(|_| could_not())?;
    let app = Arc::clone(app);
    let rendering = tokio::task::spawn_blocking(move || {
        let answer = render(&app);
        drop(permit);
        answer
    });
    rendering.await.map_err(|_| could_not())
}

/// Too many large answers are asked for at once.
fn could_not() -> Problem {
    Problem::new(Code::Overloaded, "too many searches are being answered: ask again")
}
