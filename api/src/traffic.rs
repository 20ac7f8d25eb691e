//! What one connection has running and what its client has not taken yet, to tell when to give it up.
//!
//! Answers count from their making until the last of their bytes is written to the socket: a client that reads
//! nothing, or opens its HTTP/2 windows by a byte, keeps answers in memory, and neither writes nor pings show it.
//! So every piece of an answer carries a guard in its bytes ([`carrying`]), wherever hyper keeps them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{HeaderMap, Version};
use parking_lot::Mutex;
use tokio::sync::Notify;

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
    /// The client is to come again by a new connection.
    leave: Notify,
    pub(crate) door: Door,
}

struct State {
    /// Requests whose answer is not wholly on its way.
    running: usize,
    /// When a request last came or went.
    changed: Instant,
    next: u64,
    /// Pieces of answers that are not written yet, oldest first, with the time of their making. Of HTTP/1 hardly ever
    /// more than one; no list that allocates for each.
    unsent: VecDeque<(u64, Instant)>,
}

impl State {
    fn made(&mut self, now: Instant) -> u64 {
        let id = self.next;
        self.next += 1;
        self.unsent.push_back((id, now));
        id
    }

    fn written(&mut self, id: u64) {
        // The oldest is written first, but for streams of one connection that go at their own pace.
        if let Some(at) = self.unsent.iter().position(|(unsent, _)| *unsent == id) {
            self.unsent.remove(at);
        }
        self.changed = Instant::now();
    }
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
        let state = State { running: 0, changed: Instant::now(), next: 0, unsent: VecDeque::new() };
        Arc::new(Traffic { state: Mutex::new(state), known: AtomicBool::new(false), leave: Notify::new(), door })
    }

    /// A claim was made or settled on this connection.
    pub(crate) fn know(&self) {
        // Relaxed, here and below: a hint, nothing is published by it.
        self.known.store(true, Relaxed);
    }

    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Relaxed)
    }

    /// Tells the client of this connection to leave it: by the answer's head in HTTP/1, by GOAWAY in HTTP/2.
    pub(crate) fn leave(&self, version: Version, answer: &mut HeaderMap) {
        if version <= Version::HTTP_11 {
            answer.insert(CONNECTION, HeaderValue::from_static("close"));
        } else {
            self.leave.notify_one();
        }
    }

    /// Waits until the client of this HTTP/2 connection is to be told to leave.
    pub(crate) async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }

    /// A request came at this instant; it is over when the guard is dropped.
    pub(crate) fn request(self: &Arc<Self>, now: Instant) -> Running {
        let mut state = self.state.lock();
        state.running += 1;
        state.changed = now;
        Running(Arc::clone(self))
    }

    /// A piece of an answer was made; it is written when the guard is dropped.
    pub(crate) fn piece(self: &Arc<Self>) -> Unsent {
        let id = self.state.lock().made(Instant::now());
        Unsent { traffic: Arc::clone(self), id }
    }

    pub(crate) fn verdict(&self, now: Instant, idle_time: Duration, send_time: Duration) -> Verdict {
        let state = self.state.lock();
        let oldest = state.unsent.front().map(|(_, made)| *made);
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

    /// The whole answer was made at this instant; the request is over once it is written and the guard dropped. What an answer
    /// in pieces takes two guards for, in one.
    pub(crate) fn answered(self, now: Instant) -> Answered {
        let id = self.0.state.lock().made(now);
        Answered { running: self, id }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.running -= 1;
        state.changed = Instant::now();
    }
}

/// A request whose whole answer is not written yet.
pub(crate) struct Answered {
    running: Running,
    id: u64,
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.running.0.state.lock().written(self.id);
    }
}

/// A piece of an answer that is not written yet.
pub(crate) struct Unsent {
    traffic: Arc<Traffic>,
    id: u64,
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.traffic.state.lock().written(self.id);
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
        let request = traffic.request(Instant::now());
        assert_eq!(after(1000), Keep, "a long request is its own affair");
        let bytes = carrying(Bytes::from_static(b"answer"), traffic.piece());
        drop(request);
        let rest = bytes.slice(3..);
        drop(bytes);
        assert_eq!((after(9), after(11)), (Keep, Stuck), "half an answer is not taken yet");
        drop(rest);
        assert_eq!((after(29), after(31)), (Keep, Idle));
    }

    #[test]
    fn whole_answers_are_stuck_until_written_in_whatever_order() {
        let traffic = Traffic::new(Door::Main);
        let after = |seconds| traffic.verdict(Instant::now() + Duration::from_secs(seconds), IDLE, SEND);
        let now = Instant::now();
        let [first, second, third] = [0, 1, 2].map(|_| traffic.request(now).answered(now));
        assert_eq!((after(9), after(11)), (Keep, Stuck));
        drop(second);
        drop(first);
        assert_eq!(after(11), Stuck, "the third is not taken yet");
        let fourth = traffic.request(now);
        drop(third);
        assert_eq!((after(11), after(1000)), (Keep, Keep), "the fourth runs");
        drop(fourth);
        assert_eq!((after(29), after(31)), (Keep, Idle));
    }
}
