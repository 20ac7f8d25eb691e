//! Who waits for the store: how far it has come, shared by the thread that applies and those who read.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use berth_engine::Seq;
use parking_lot::Mutex;

use super::{At, StoreError};

/// What both sides share.
pub(super) struct Shared {
    state: Mutex<State>,
}

struct State {
    at: At,
    /// What is on the disk: reads never go back behind it.
    persisted: Seq,
    waiting: BTreeMap<(Seq, u64), Waker>,
    tickets: u64,
    /// Sleeps while nobody waits.
    follower: Option<Thread>,
    still: Option<StoreError>,
    closing: bool,
    /// The thread has ended: nothing comes any more.
    ended: bool,
}

impl Shared {
    pub(super) fn new(at: At) -> Shared {
        let state = State {
            at,
            persisted: at.applied,
            waiting: BTreeMap::new(),
            tickets: 0,
            follower: None,
            still: None,
            closing: false,
            ended: false,
        };
        Shared { state: Mutex::new(state) }
    }

    pub(super) fn at(&self) -> At {
        self.state.lock().at
    }

    pub(super) fn persisted(&self) -> Seq {
        self.state.lock().persisted
    }

    /// What was applied up to here is on the disk.
    pub(super) fn persist(&self, at: At) {
        self.state.lock().persisted = at.applied;
    }

    /// Reads see everything up to here: whoever waits for it goes on.
    pub(super) fn advance(&self, at: At) {
        let woken = {
            let mut state = self.state.lock();
            state.at = at;
            state.still = None;
            let later = state.waiting.split_off(&(at.applied.next(), 0));
            std::mem::replace(&mut state.waiting, later)
        };
        woken.into_values().for_each(Waker::wake);
    }

    /// It stands still, and the database was opened anew: reads see no more than this.
    pub(super) fn go_back(&self, at: At) {
        self.state.lock().at = at;
    }

    /// It stands still: whoever waits is told so.
    pub(super) fn stand_still(&self, why: StoreError) {
        let waiting = {
            let mut state = self.state.lock();
            state.still = Some(why);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    pub(super) fn standing_still(&self) -> Option<StoreError> {
        self.state.lock().still.clone()
    }

    pub(super) fn close(&self) {
        self.state.lock().closing = true;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    /// Whether anybody waits. If not, this thread is unparked as soon as somebody does.
    pub(super) fn is_waited_for(&self) -> bool {
        let mut state = self.state.lock();
        let waited_for = !state.waiting.is_empty();
        if !waited_for {
            state.follower = Some(std::thread::current());
        }
        waited_for
    }

    /// The thread has ended.
    pub(super) fn end(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.ended = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    /// Blocks until then. Each thread is woken for its own entry alone: with all of them woken for each, 256 got nothing done but
    /// that.
    pub(super) fn wait(self: &Arc<Self>, seq: Seq, time: Duration) -> Result<(), StoreError> {
        let until = Instant::now() + time;
        let mut reached = pin!(Reached::new(Arc::clone(self), seq));
        let waker = Waker::from(Arc::new(Parked(std::thread::current())));
        loop {
            if let Poll::Ready(answer) = reached.as_mut().poll(&mut Context::from_waker(&waker)) {
                return answer;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(StoreError::Behind(seq));
            }
            std::thread::park_timeout(left);
        }
    }
}

/// A thread that waits, blocked.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl State {
    fn wake_follower(&mut self) {
        self.follower.take().iter().for_each(Thread::unpark);
    }

    /// What there is to say to who waits for `seq`; `None`: wait on.
    fn answer(&self, seq: Seq) -> Option<Result<(), StoreError>> {
        match &self.still {
            _ if self.at.applied >= seq => Some(Ok(())),
            Some(why) => Some(Err(why.clone())),
            None if self.ended => Some(Err(StoreError::Behind(seq))),
            None => None,
        }
    }
}

/// Resolves when reads see an entry, or the store stands still.
#[must_use]
pub struct Reached {
    shared: Arc<Shared>,
    seq: Seq,
    /// Its place among those who wait.
    ticket: Option<u64>,
}

impl Drop for Reached {
    fn drop(&mut self) {
        // Whoever gave up is not kept.
        if let Some(ticket) = self.ticket {
            self.shared.state.lock().waiting.remove(&(self.seq, ticket));
        }
    }
}

impl Reached {
    pub(super) fn new(shared: Arc<Shared>, seq: Seq) -> Reached {
        Reached { shared, seq, ticket: None }
    }
}

impl Future for Reached {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        if let Some(answer) = state.answer(self.seq) {
            return Poll::Ready(answer);
        }
        let ticket = *self.ticket.get_or_insert_with(|| {
            state.tickets += 1;
            state.tickets
        });
        state.waiting.insert((self.seq, ticket), context.waker().clone());
        state.wake_follower();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_follower_sleeps_while_nobody_waits_and_is_woken_by_the_first_who_does() {
        let shared = Arc::new(Shared::new(At::default()));
        let woken = || {
            let began = Instant::now();
            std::thread::park_timeout(Duration::from_secs(60));
            began.elapsed() < Duration::from_secs(50)
        };
        assert!(!shared.is_waited_for());
        {
            let mut reached = pin!(Reached::new(Arc::clone(&shared), Seq(1)));
            assert!(reached.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert!(woken() && shared.is_waited_for());
        }
        assert!(!shared.is_waited_for(), "it gave up");
        std::thread::scope(|scope| {
            scope.spawn(|| shared.wait(Seq(1), Duration::from_secs(120)));
            assert!(woken() && shared.is_waited_for());
            shared.advance(At { applied: Seq(1), ..At::default() });
        });
        assert!(!shared.is_waited_for(), "it has what it waited for");
    }
}
