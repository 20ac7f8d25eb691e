//! Measuring the delay, and letting connections in by it.
//!
//! The loop is a task among the others of the runtime: it sleeps, and how much later than due it runs again is how long
//! whatever is ready waits for a thread. Beside it counts what requests waited that were counted before they ran.
//!
//! While requests wait, the listener is asked for as many connections only as there are free places, and its backlog is as
//! short as the limit: whoever finds no place in it is not answered by the kernel and comes again a second later by TCP's own rules. To
//! refuse them one by one would cost a large part of what serving costs, and be paid for by those who are inside.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::Admission;

/// How often the loop looks, while nothing waits and while something does.
const LOOK_EVERY_CALM: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The timer's own grain: later than this is late.
const GRAIN: Duration = Duration::from_millis(1);
/// How often the gate looks for room, and after how long it lets one connection in all the same: whoever already is inside may keep
/// every place busy.
const GATE_EVERY: Duration = Duration::from_millis(1);
const GATE_TRICKLE: Duration = Duration::from_millis(20);
/// The listener's backlog while nothing waits.
const BACKLOG: i32 = 1024;
const BACKLOG_MIN: i32 = 8;

/// Looks for as long as the server serves.
pub(crate) async fn control(admission: Arc<Admission>) {
    loop {
        let every = if admission.is_strained() { LOOK_EVERY } else { LOOK_EVERY_CALM };
        let due = Instant::now() + every;
        tokio::time::sleep_until(due).await;
        admission.look(due.elapsed().saturating_sub(GRAIN));
    }
}

/// What a listener knows of the gate.
#[derive(Default)]
pub(crate) struct Gate {
    /// Connections that may still be let in before the next look.
    credit: usize,
    /// The backlog is short.
    short: bool,
}

impl Gate {
    /// Waits until one more connection may be let in.
    pub(crate) async fn room(&mut self, admission: &Admission, listener: &TcpListener) {
        let began = Instant::now();
        loop {
            let gated = admission.is_strained() && admission.settings.read().gate_connections;
            self.set_backlog(gated, admission, listener);
            if !gated {
                return;
            }
            if self.credit > 0 || began.elapsed() >= GATE_TRICKLE {
                self.credit = self.credit.saturating_sub(1);
                admission.gated.fetch_add(1, Relaxed);
                return;
            }
            tokio::time::sleep(GATE_EVERY).await;
            // Relaxed: counts. Who was let in at the last look has asked by now, and is at work.
            let taken = admission.at_work.load(Relaxed) + admission.queued.load(Relaxed);
            self.credit = admission.limit.load(Relaxed).saturating_sub(taken);
        }
    }

    fn set_backlog(&mut self, short: bool, admission: &Admission, listener: &TcpListener) {
        if self.short == short {
            return;
        }
        self.short = short;
        let limit = i32::try_from(admission.limit.load(Relaxed)).unwrap_or(i32::MAX);
        let backlog = if short { limit.clamp(BACKLOG_MIN, BACKLOG) } else { BACKLOG };
        if let Err(error) = rustix::net::listen(listener.as_fd(), backlog) {
            tracing::warn!(%error, backlog, "could not change the backlog of the listener");
        }
    }
}
