//! What one connection has running and what its client has not taken yet, to tell when to give it up.
//!
//! Answers count from their making until the last of their bytes is written to the socket: a client that reads
//! nothing, or opens its HTTP/2 windows by a byte, keeps answers in memory, and neither writes nor pings show it.
//! So every piece of an answer carries a guard in its bytes ([`carrying`]), wherever hyper keeps them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Where a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Main,
    /// The listener for probes and scrapes, which answers nothing else.
    Probes,
}

/// One connection's requests and answers.
pub(crate) struct Traffic {
    state: Mutex<State>,
    /// A claim was made or settled here: whoever is on the other side is one of those who are inside.
    known: AtomicBool,
    pub(crate) door: Door,
}

struct State {
    /// Requests whose answer is not wholly on its way.
    running: usize,
    /// When a request last came or went.
    changed: Instant,
    next: u64,
    /// Pieces of answers that are not written yet, oldest first, with the time of their making.
    unsent: BTreeMap<u64, Instant>,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    /// Nothing runs, and nothing has for the limit of time.
    Idle,
    /// An answer was not taken within the limit of time.
    Stuck,
}

impl Traffic {
    pub(crate) fn new(door: Door) -> Arc<Traffic> {
        let state = State { running: 0, changed: Instant::now(), next: 0, unsent: BTreeMap::new() };
        Arc::new(Traffic { state: Mutex::new(state), known: AtomicBool::new(false), door })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A claim was made or settled on this connection.
    pub(crate) fn know(&self) {
        // Relaxed, here and below: a hint, nothing is published by it.
        self.known.store(true, Relaxed);
    }

    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Relaxed)
    }

    /// A request came; it is over when the guard is dropped.
    pub(crate) fn request(self: &Arc<Self>) -> Running {
        let mut state = self.state();
        state.running += 1;
        state.changed = Instant::now();
        Running(Arc::clone(self))
    }

    /// A piece of an answer was made; it is written when the guard is dropped.
    pub(crate) fn piece(self: &Arc<Self>) -> Unsent {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.unsent.insert(id, Instant::now());
        Unsent { traffic: Arc::clone(self), id }
    }

    pub(crate) fn verdict(&self, now: Instant, idle_time: Duration, send_time: Duration) -> Verdict {
        let state = self.state();
        let oldest = state.unsent.first_key_value().map(|(_, made)| *made);
        if oldest.is_some_and(|made| now.saturating_duration_since(made) > send_time) {
            return Verdict::Stuck;
        }
        let quiet = state.running == 0 && state.unsent.is_empty();
        if quiet && now.saturating_duration_since(state.changed) > idle_time {
            return Verdict::Idle;
        }
        Verdict::Keep
    }
}

/// A request of a connection.
pub(crate) struct Running(Arc<Traffic>);

impl Running {
    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        state.changed = Instant::now();
    }
}

/// A piece of an answer that is not written yet.
pub(crate) struct Unsent {
    traffic: Arc<Traffic>,
    id: u64,
}

impl Drop for Unsent {
    fn drop(&mut self) {
        let mut state = self.traffic.state();
        state.unsent.remove(&self.id);
        state.changed = Instant::now();
    }
}

/// The same bytes; the guard is dropped with the last of them.
pub(crate) fn carrying<G: Send + 'static>(bytes: Bytes, guard: G) -> Bytes {
    struct Carrying<G>(Bytes, G);
    impl<G> AsRef<[u8]> for Carrying<G> {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Carrying(bytes, guard))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Idle, Keep, Stuck};

    const IDLE: Duration = Duration::from_secs(30);
    const SEND: Duration = Duration::from_secs(10);

    #[test]
    fn a_connection_is_idle_when_nothing_runs_and_stuck_when_an_answer_stays() {
        let traffic = Traffic::new(Door::Main);
        let after = |seconds| traffic.verdict(Instant::now() + Duration::from_secs(seconds), IDLE, SEND);
        assert_eq!((after(29), after(31)), (Keep, Idle));
        let request = traffic.request();
        assert_eq!(after(1000), Keep, "a long request is its own affair");
        let bytes = carrying(Bytes::from_static(b"answer"), traffic.piece());
        drop(request);
        let rest = bytes.slice(3..);
        drop(bytes);
        assert_eq!((after(9), after(11)), (Keep, Stuck), "half an answer is not taken yet");
        drop(rest);
        assert_eq!((after(29), after(31)), (Keep, Idle));
    }
}
