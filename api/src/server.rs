//! A server from its listener to its end: accepting, expiring, draining.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use berth_engine::{Engine, Failure, Stats};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admission::{self, Gate};
use crate::app::{App, Phase};
use crate::audit::Audit;
use crate::connection;
use crate::events::Events;
use crate::panics::OnPanic;
use crate::traffic::Door;
use crate::waking;

/// How often due holds are looked for.
const EXPIRE_EVERY: Duration = Duration::from_millis(20);
/// Holds expired in one go: 200 thousand a second, so that a wave of deadlines does not hold up bookings.
const EXPIRE_BUDGET: usize = 4096;
/// How long to wait when the system has no descriptor for another connection; twice as long each time.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
const ACCEPT_AGAIN_MAX: Duration = Duration::from_secs(1);

/// How often the log is told of changes of state.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How a server ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Requests that were cut off because they did not end in time.
    pub(crate) cut_off: usize,
    /// The journal's last words.
    pub(crate) journal: Result<(), Failure>,
}

/// Serves until `stop` resolves, then drains and closes the engine.
///
/// # Errors
/// The listener cannot be used.
pub(crate) async fn serve(
    app: Arc<App>,
    listener: std::net::TcpListener,
    stop: impl Future<Output = ()>,
) -> io::Result<Ended> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let expiry = Expiry::start(&app)?;
    waking::start(&app.campaign.engine);
    if let Some(codes) = app.registration.as_ref().and_then(|registration| registration.codes.as_ref()) {
        codes.sink.start();
    }
    crate::lottery::look_after(&app);
    crate::certificates::follow(Arc::clone(&app))?;
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(app.limits.connections_max));

    // Among the other tasks of the runtime, so that it waits as they do.
    let looking = tokio::spawn(admission::control(Arc::clone(&app.admission)));
    let probing = probes(&app)?;
    let accepting = async {
        let mut gate = Gate::default();
        loop {
            gate.room(&app.admission, &listener).await;
            let (stream, permit) = accept(&listener, &connections).await;
            let (app, watcher) = (Arc::clone(&app), graceful.watcher());
            tokio::spawn(async move {
                let _permit = permit;
                let _open = app.metrics.connection();
                connection::serve(Arc::clone(&app), stream, Door::Main, watcher).await;
            });
        }
    };
    let leaving = async {
        stop.await;
        tracing::info!("draining");
        app.phase.send_replace(Phase::Leaving);
        tokio::time::sleep(app.limits.drain_notice).await;
    };
    tokio::select! {
        () = accepting => {}
        () = watch(&app.campaign.engine) => {}
        () = leaving => {}
    }
    app.phase.send_replace(Phase::Draining);
    drop(listener);
    tracing::info!(requests = app.inflight(), "closed the listener; running requests may end");
    let drained = async {
        graceful.shutdown().await;
        app.bulk_ended().await;
    };
    let in_time = tokio::time::timeout(app.limits.drain_time, drained).await.is_ok();
    for task in std::iter::once(looking).chain(probing) {
        task.abort();
    }
    let cut_off = if in_time { 0 } else { app.inflight() };
    expiry.stop();
    app.waitlist.iter().for_each(|waitlist| waitlist.close());
    let closing = Arc::clone(&app);
    let close = move || {
        let journal = closing.campaign.engine.close();
        // After the journal: what became durable last is told, too.
        closing.events.iter().for_each(Events::close);
        closing.store.iter().for_each(|store| store.close());
        closing.audit.iter().for_each(Audit::close);
        closing.campaign.engine.leave();
        journal
    };
    let journal = tokio::task::spawn_blocking(close).await.expect("closing does not panic");
    Ok(Ended { cut_off, journal })
}

/// Connections to the listener for probes that may be open at once.
const PROBES_MAX: usize = 64;

/// Answers on the listener for probes, if there is one, to the last moment; it is not gated.
fn probes(app: &Arc<App>) -> io::Result<Option<tokio::task::JoinHandle<()>>> {
    let Some(listener) = app.probes.lock().take() else { return Ok(None) };
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let app = Arc::clone(app);
    let room = Arc::new(Semaphore::new(PROBES_MAX));
    Ok(Some(tokio::spawn(async move {
        // Nobody waits for these connections at the end.
        let graceful = GracefulShutdown::new();
        loop {
            let (stream, permit) = accept(&listener, &room).await;
            let (app, watcher) = (Arc::clone(&app), graceful.watcher());
            tokio::spawn(async move {
                let _permit = permit;
                connection::serve(app, stream, Door::Probes, watcher).await;
            });
        }
    })))
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    // Before accepting: who waits in the backlog costs nothing here.
    let permit = Arc::clone(connections).acquire_owned().await.expect("nobody closes the semaphore");
    let mut pause = ACCEPT_AGAIN;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            // Reset before it was accepted: the next one may be good.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // No descriptors or no memory: that does not end the server.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_AGAIN_MAX);
            }
        }
    }
}

/// Binds, before anything is opened or written.
///
/// # Errors
/// In one sentence, with the address.
pub(crate) fn bind(listen: &str) -> Result<(std::net::TcpListener, SocketAddr), String> {
    let listener =
        std::net::TcpListener::bind(listen).map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr().map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    Ok((listener, address))
}

/// Tells the log when the journal starves and when Redis is lost, and when that is over.
async fn watch(engine: &Engine) {
    let mut watched = Watched::default();
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let stats = engine.stats();
        for change in watched.changes(&stats) {
            match change {
                Change::Starved => tracing::error!(
                    why = stats.journal_shortage,
                    log_bytes = stats.log_bytes,
                    durable_seq = stats.durable,
                    snapshot_seq = stats.snapshots.s0.0,
                    redis_seq = stats.redis.as_ref().map(|redis| redis.shipped),
                    "the journal is starved: no further segment can be made, what takes units is refused; \
                     the log is kept behind the snapshot before the newest, and for Redis, the events stream and the store"
                ),
                Change::Abandoned => tracing::error!(
                    "the thread that makes segments has panicked: what lies ready is the last; restart this server"
                ),
                Change::Stopped => tracing::error!(
                    why = stats.journal_failure,
                    "the journal has stopped: nothing more is acknowledged; see docs/durability.md for what to do"
                ),
                Change::RedisStopped => tracing::error!(
                    why = stats.redis.as_ref().and_then(|redis| redis.last_error.as_deref()),
                    "shipping to Redis has stopped for this run: the log is all there is, `redis` mode is refused"
                ),
                Change::Fed => tracing::info!("the journal is no longer starved"),
                Change::RedisLost => {
                    let why = stats.redis.as_ref().and_then(|redis| redis.last_error.as_deref()).unwrap_or("");
                    tracing::warn!(why, "Redis is not connected: the write-behind lags");
                }
                Change::RedisBack => tracing::info!("Redis is connected again"),
                Change::RedisWarns => {
                    for warning in stats.redis.iter().flat_map(|redis| &redis.warnings) {
                        tracing::warn!("{warning}");
                    }
                }
                Change::Fenced => tracing::error!(
                    "another owner has taken this cell over: the journal has stopped, and nothing more is acknowledged"
                ),
            }
        }
    }
}

/// What the log was last told, or may take for granted.
#[derive(Default)]
struct Watched {
    starved: bool,
    redis_lost: bool,
    redis_warns: Vec<String>,
    fenced: bool,
    stopped: bool,
    redis_stopped: bool,
    abandoned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Starved,
    Fed,
    RedisLost,
    RedisBack,
    RedisWarns,
    Fenced,
    Stopped,
    RedisStopped,
    Abandoned,
}

impl Watched {
    fn changes(&mut self, stats: &Stats) -> Vec<Change> {
        let starved = stats.journal_starved != 0;
        let lost = stats.redis.as_ref().is_some_and(|redis| redis.connected == 0);
        let mut changes = Vec::new();
        if std::mem::replace(&mut self.starved, starved) != starved {
            changes.push(if starved { Change::Starved } else { Change::Fed });
        }
        if std::mem::replace(&mut self.redis_lost, lost) != lost {
            changes.push(if lost { Change::RedisLost } else { Change::RedisBack });
        }
        let redis = stats.redis.as_ref();
        if let Some(warns) = redis.map(|redis| &redis.warnings).filter(|warns| **warns != self.redis_warns) {
            self.redis_warns.clone_from(warns);
            changes.push(Change::RedisWarns);
        }
        // Each is for good.
        let redis_stopped = redis.is_some_and(|redis| redis.stopped != 0);
        for (known, now, change) in [
            (&mut self.fenced, redis.is_some_and(|redis| redis.fenced != 0), Change::Fenced),
            (&mut self.stopped, stats.journal_stopped != 0, Change::Stopped),
            (&mut self.redis_stopped, redis_stopped && stats.journal_stopped == 0, Change::RedisStopped),
            (&mut self.abandoned, stats.journal_abandoned != 0, Change::Abandoned),
        ] {
            if now && !std::mem::replace(known, now) {
                changes.push(change);
            }
        }
        changes
    }
}

/// The thread that gives expired holds back.
struct Expiry {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Expiry {
    fn start(app: &App) -> io::Result<Expiry> {
        let (engine, failed) = (Arc::clone(&app.campaign.engine), Arc::clone(&app.expiry_failed));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            let _told = told_of_panic(failed);
            // Relaxed: only this flag is communicated, and `unpark` orders it anyway.
            while !stopped.load(Relaxed) {
                engine.expire_due(engine.now(), EXPIRE_BUDGET);
                std::thread::park_timeout(EXPIRE_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("berth-expiry".to_owned()).spawn(run)?;
        Ok(Expiry { stop, thread })
    }

    fn stop(self) {
        self.stop.store(true, Relaxed);
        self.thread.thread().unpark();
        // A panic was told of when it happened.
        let _ = self.thread.join();
    }
}

/// Tells the log and `/readyz` at once when the thread panics: holds would live for ever, and nobody would know.
fn told_of_panic(failed: Arc<AtomicBool>) -> OnPanic<impl FnMut()> {
    OnPanic(move || {
        tracing::error!("the expiry thread panicked: holds no longer expire");
        // Relaxed: only this flag is communicated.
        failed.store(true, Relaxed);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once() {
        let mut watched = Watched::default();
        let mut told = |starved, connected: Option<u64>| {
            let mut stats = Stats { journal_starved: starved, ..Stats::default() };
            if let Some(connected) = connected {
                stats.redis.get_or_insert_default().connected = connected;
            }
            watched.changes(&stats)
        };
        assert_eq!(told(0, Some(1)), []);
        assert_eq!(told(1, Some(0)), [Change::Starved, Change::RedisLost]);
        assert_eq!(told(1, Some(0)), []);
        assert_eq!(told(0, Some(1)), [Change::Fed, Change::RedisBack]);
        assert_eq!(told(0, None), []);
        let stopped = Stats { journal_stopped: 1, ..Stats::default() };
        assert_eq!(watched.changes(&stopped), [Change::Stopped]);
        assert_eq!(watched.changes(&stopped), []);
    }

    #[test]
    fn a_server_whose_expiry_thread_panicked_is_not_ready() {
        let dir = tempfile::tempdir().unwrap();
        let app = App::for_test(dir.path());
        let run = |panics: bool| {
            let told = told_of_panic(Arc::clone(&app.expiry_failed));
            let thread = std::thread::spawn(move || {
                let _told = told;
                assert!(!panics, "planted");
            });
            let _ = thread.join();
            app.not_ready()
        };
        assert_eq!(run(false), None);
        assert_eq!(run(true), Some("expiry_stopped"));
        app.campaign.engine.close().unwrap();
    }
}
