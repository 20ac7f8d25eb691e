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
    /// The backlog that the listener was last told; none yet, what it was bound with.
    backlog: Option<i32>,
}

impl Gate {
    /// Waits until one more connection may be let in.
    pub(crate) async fn room(&mut self, admission: &Admission, listener: &TcpListener) {
        let began = Instant::now();
        loop {
            let gated = admission.is_strained() && admission.settings.read().gate_connections;
            self.set_backlog(gated.then(|| backlog(admission)), listener);
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

    /// `None`: what it is while nothing waits.
    fn set_backlog(&mut self, short: Option<i32>, listener: &TcpListener) {
        let Some(backlog) = self.next_backlog(short) else { return };
        self.backlog = Some(backlog);
        if let Err(error) = rustix::net::listen(listener.as_fd(), backlog) {
            tracing::warn!(%error, backlog, "could not change the backlog of the listener");
        }
    }

    /// What the listener is to be told, if that is another backlog than it has. It is followed down at once and up by doubling:
    /// a call for every step of the limit would be too many.
    fn next_backlog(&self, short: Option<i32>) -> Option<i32> {
        let now = self.backlog.unwrap_or(BACKLOG);
        match short {
            None => (self.backlog != Some(BACKLOG)).then_some(BACKLOG),
            Some(wanted) => (wanted < now || wanted >= now.saturating_mul(2)).then_some(wanted),
        }
    }
}

/// The listener's backlog while requests wait: as many as could be at work, by the limit or by how many there were just now. The
/// limit alone is no guide when a crowd has just come: it stands where it was when nobody waited.
fn backlog(admission: &Admission) -> i32 {
    // Relaxed: counts.
    let there = admission.recent_most.load(Relaxed).max(admission.at_work.load(Relaxed));
    let most = there.min(admission.limit.load(Relaxed));
    i32::try_from(most).unwrap_or(i32::MAX).clamp(BACKLOG_MIN, BACKLOG / 2)
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    #[test]
    fn the_backlog_is_short_from_the_first_moment_and_follows_the_limit() {
        let admission = Admission::new(Settings { limit_min: 4, ..Settings::default() });
        let mut gate = Gate::default();
        let mut told = |admission: &Arc<Admission>| {
            let next = gate.next_backlog(admission.is_strained().then(|| backlog(admission)));
            gate.backlog = next.or(gate.backlog);
            next
        };
        assert_eq!((told(&admission), told(&admission)), (Some(BACKLOG), None), "calm");
        admission.at_work.store(40, Relaxed);
        admission.look(Duration::from_millis(30));
        assert!(admission.is_strained() && admission.state().limit == 20_000, "the limit has not come down yet");
        assert_eq!(told(&admission), Some(40));
        assert_eq!(told(&admission), None, "it is told once");
        for _ in 0..200 {
            admission.look(Duration::from_millis(100));
        }
        assert_eq!((admission.state().limit, told(&admission)), (4, Some(BACKLOG_MIN)));
        admission.at_work.store(0, Relaxed);
        for _ in 0..200 {
            admission.look(Duration::ZERO);
        }
        assert_eq!(told(&admission), Some(BACKLOG), "calm again");
    }
}
