//! Answers that are made once and given many times, whatever they tell: kept while they are fresh, made by one at a time for each
//! question, and encoded for who takes them so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{HeaderMap, Response};
use tokio::sync::Semaphore;

use super::answer::Answer;
use super::cache::{Cache, Charge};
use super::encoding::{Encoding, Presses};
use super::flight::{Flights, Joined};
use super::since::Since;
use super::stats::SearchStats;
use crate::body::ResponseBody;
use crate::problem::{Code, Problem};

/// What an operator sets. Checked by [`crate::config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SearchConfig {
    /// How old an answer may be; zero: every request is rendered anew.
    pub(crate) staleness: Duration,
    /// Bytes of answers that are kept.
    pub(crate) cache_bytes: usize,
}

/// How long a large search waits for its turn to be rendered before it is told `overloaded`.
const TURN_TIME: Duration = Duration::from_secs(2);
/// Answers that are sent may take so much more than those that are kept; then nothing more is rendered until some are taken.
const SENT_BYTES_MIN: usize = 64 << 20;

/// Answers of one kind, and how they are kept.
pub(crate) struct Search {
    pub(super) config: SearchConfig,
    cache: Cache,
    flights: Flights,
    pub(super) presses: Presses,
    renderers: Renderers,
    /// Since when what is said to have been modified tells what it tells.
    pub(crate) since: Since,
    pub(crate) stats: SearchStats,
}

/// Who renders large answers at once; the others wait.
#[derive(Clone)]
pub(crate) struct Renderers {
    own: Arc<Semaphore>,
    /// Those that others render with, too.
    shared: Option<Arc<Semaphore>>,
}

impl Renderers {
    pub(crate) fn new(count: usize) -> Renderers {
        Renderers { own: Arc::new(Semaphore::new(count)), shared: None }
    }

    /// At most so many of these, who go on rendering for whom they were made: together they never use more of the machine.
    pub(crate) fn at_most(&self, count: usize) -> Renderers {
        Renderers { own: Arc::new(Semaphore::new(count)), shared: Some(Arc::clone(&self.own)) }
    }
}

/// A question, as it came and in its one spelling.
pub(crate) struct Asking<'a> {
    pub(crate) spelling: &'a str,
    pub(crate) key: String,
    pub(crate) encoding: Encoding,
    /// When it came.
    pub(crate) arrived: Instant,
    /// It may be answered where it was asked.
    pub(crate) is_small: bool,
}

impl Search {
    pub(crate) fn new(config: SearchConfig, renderers: Renderers) -> Arc<Search> {
        Arc::new(Search {
            config,
            cache: Cache::new(config.cache_bytes),
            flights: Flights::default(),
            presses: Presses::default(),
            renderers,
            since: Since::default(),
            stats: SearchStats::default(),
        })
    }

    /// Bytes of the answers that are kept.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Bytes of the largest answer that is kept.
    pub(crate) fn largest_kept(&self) -> usize {
        self.cache.largest_kept()
    }

    /// Answers and spellings that were dropped to make room.
    pub(crate) fn evictions(&self) -> u64 {
        self.cache.evictions()
    }

    /// Counts an answer's bytes for as long as it lives.
    pub(super) fn charge(&self, bytes: usize) -> Charge {
        self.cache.charge(bytes)
    }

    /// An answer that is kept, for a request that came at `arrived`.
    pub(crate) fn fresh(&self, encoding: Encoding, spelling: &str, arrived: Instant) -> Option<Arc<Answer>> {
        let answer = self.cache.fresh(encoding, spelling, arrived)?;
        self.stats.hit();
        Some(answer)
    }

    /// Whether there is such an answer.
    pub(crate) fn has(&self, encoding: Encoding, key: &str, arrived: Instant) -> bool {
        self.cache.fresh(encoding, key, arrived).is_some()
    }

    /// An answer as it is sent.
    pub(crate) fn given(&self, answer: &Answer, headers: &HeaderMap, now: Instant) -> Response<ResponseBody> {
        let (response, modified) = answer.respond(headers, now, self.config.staleness);
        if !modified {
            self.stats.not_modified();
        }
        response
    }

    /// Has an answer made, or waits for one that is being made. `make` is told the last answer to the same question: of what has not
    /// changed since, what was compressed then is used again.
    pub(crate) async fn made(
        self: &Arc<Self>,
        asking: Asking<'_>,
        make: impl Fn(Option<Arc<Answer>>) -> Result<Arc<Answer>, Problem> + Send + Sync + 'static,
    ) -> Result<Arc<Answer>, Problem> {
        let Asking { spelling, key, encoding, arrived, is_small } = asking;
        // Who does not take answers keeps them in memory; the limits of time end that, and this bounds it until then. A few who take
        // them as they are weigh as much as a hundred others: half of the room is not for them.
        let most = self.config.cache_bytes.max(SENT_BYTES_MIN);
        let sent = self.cache.sent_bytes();
        if sent > most || (encoding == Encoding::Identity && sent > most / 2) {
            return Err(too_much_is_sent(encoding));
        }
        let make = Arc::new(make);
        if self.config.staleness.is_zero() {
            self.stats.miss();
            if is_small {
                return make(None);
            }
            return self.in_pool(move || make(None)).await?;
        }
        loop {
            if let Some(answer) = self.fresh(encoding, &key, arrived) {
                self.cache.insert(encoding, spelling, &answer);
                return Ok(answer);
            }
            let mut following = match self.flights.join(encoding, &key) {
                Joined::Full => return Err(could_not()),
                // Somebody was done between the look and the joining.
                Joined::Leading(leader) if self.has(encoding, &key, arrived) => {
                    drop(leader);
                    continue;
                }
                Joined::Leading(leader) if is_small => {
                    self.stats.miss();
                    let answer = self.render(&key, encoding, &*make)?;
                    leader.done(&answer);
                    self.cache.insert(encoding, spelling, &answer);
                    return Ok(answer);
                }
                Joined::Leading(leader) => {
                    self.stats.miss();
                    let following = leader.follow();
                    // On its own, so that who waits for it does not depend on this client's patience.
                    let (search, make, key) = (Arc::clone(self), Arc::clone(&make), key.clone());
                    tokio::spawn(async move {
                        let rendering = Arc::clone(&search);
                        let render = move || {
                            // Who asked may be gone by now.
                            if leader.is_awaited()
                                && let Ok(answer) = rendering.render(&key, encoding, &*make)
                            {
                                leader.done(&answer);
                            }
                        };
                        // Without a turn the leader is dropped, which tells those who wait.
                        let _ = search.in_pool(render).await;
                    });
                    following
                }
                Joined::Following(following) => {
                    self.stats.waited();
                    following
                }
            };
            let answer = following.answer().await.ok_or_else(could_not)?;
            // One that was begun long before this request came is too old for it; the next one is not.
            if answer.is_fresh(arrived) {
                self.cache.insert(encoding, spelling, &answer);
                return Ok(answer);
            }
        }
    }

    /// Renders and keeps.
    fn render(
        &self,
        key: &str,
        encoding: Encoding,
        make: &impl Fn(Option<Arc<Answer>>) -> Result<Arc<Answer>, Problem>,
    ) -> Result<Arc<Answer>, Problem> {
        let answer = make(self.cache.any(encoding, key))?;
        self.cache.insert(encoding, key, &answer);
        Ok(answer)
    }

    /// Runs in a thread that may take its time, once there is room among the renderers.
    async fn in_pool<T: Send + 'static>(&self, render: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let Renderers { own, shared } = self.renderers.clone();
        let turn = tokio::time::timeout(TURN_TIME, async move {
            let own = own.acquire_owned().await;
            let shared = match shared {
                Some(shared) => Some(shared.acquire_owned().await),
                None => None,
            };
            (own, shared)
        });
        let permits = turn.await.map_err(|_| could_not())?;
        let rendering = tokio::task::spawn_blocking(move || {
            let answer = render();
            drop(permits);
            answer
        });
        rendering.await.map_err(|_| could_not())
    }
}

/// Too many large answers are asked for at once.
fn too_much_is_sent(encoding: Encoding) -> Problem {
    let detail = match encoding {
        Encoding::Identity => {
            "too many answers wait for their clients to take them: ask again, with Accept-Encoding: zstd, gzip, which is far less"
        }
        _ => "too many answers wait for their clients to take them: ask again",
    };
    Problem::new(Code::Overloaded, detail)
}

fn could_not() -> Problem {
    Problem::new(Code::Overloaded, "too many searches are being answered: ask again")
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::task::Poll;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    fn search(renderers: Renderers) -> Arc<Search> {
        Search::new(SearchConfig { staleness: Duration::from_secs(60), cache_bytes: 1 << 20 }, renderers)
    }

    /// Who takes answers as they are, and slowly, keeps nobody from those that are compressed.
    #[test]
    fn half_of_the_room_is_for_who_takes_answers_compressed() {
        let search = search(Renderers::new(1));
        let until = Instant::now() + Duration::from_secs(60);
        let asked = |encoding: Encoding, n: usize| {
            let (of, spelling) = (Arc::clone(&search), n.to_string());
            let make = move |_| Ok(Answer::for_test(&of.cache, 2000, until));
            let asking =
                Asking { spelling: &spelling, key: n.to_string(), encoding, arrived: Instant::now(), is_small: true };
            run(search.made(asking, make)).map_err(|problem| problem.code()).map(drop)
        };
        let slow = Answer::for_test(&search.cache, SENT_BYTES_MIN / 2 + 10_000, until);
        assert_eq!(asked(Encoding::Identity, 1), Err(Code::Overloaded));
        assert_eq!((asked(Encoding::Gzip, 2), asked(Encoding::Zstd, 3)), (Ok(()), Ok(())));
        let slower = Answer::for_test(&search.cache, SENT_BYTES_MIN / 2, until);
        assert_eq!(asked(Encoding::Gzip, 4), Err(Code::Overloaded));
        drop((slow, slower));
        assert_eq!((asked(Encoding::Identity, 5), asked(Encoding::Gzip, 6)), (Ok(()), Ok(())));
    }

    /// Those of FHIR are so many at most, and are of those that there are for all.
    #[test]
    fn who_renders_for_others_too_is_one_of_those_there_are() {
        let all = Renderers::new(3);
        let (fhir, others) = (search(all.at_most(2)), search(all.clone()));
        let (own, shared) = (Arc::clone(&fhir.renderers.own), Arc::clone(&all.own));
        let left = move || (own.available_permits(), shared.available_permits());
        run(async {
            assert_eq!(fhir.in_pool(left.clone()).await.ok(), Some((1, 2)), "one of its own and one of all");
            assert_eq!(others.in_pool(left.clone()).await.ok(), Some((2, 2)), "one of all");
            // Who others keep waiting renders when they have ended, and gives both back.
            let taken = Arc::clone(&all.own).acquire_many_owned(3).await.unwrap();
            let mut waits = Box::pin(fhir.in_pool(left.clone()));
            assert!(poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
            assert_eq!(left(), (1, 0));
            drop(taken);
            assert_eq!(waits.await.ok(), Some((1, 2)));
        });
    }
}
