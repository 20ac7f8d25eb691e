//! The durable watermark and who waits for it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::error::Failure;
use crate::ids::Seq;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// How safe an effect must be before its answer is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ack {
    /// It is applied in memory. Any crash of the process may lose it, and with it all that came after.
    Memory,
    /// It is in the local log and synced. A lost or lying disk may lose it.
    #[default]
    Disk,
    /// It is also in Redis, as durable as that Redis is configured.
    Redis,
}

/// Wakes many; see [`Watermark::wake_through`].
type Waking = dyn Fn(Vec<Waker>) + Send + Sync;

#[derive(Default)]
struct Waiting {
    /// By position and ticket, so that one pass finds all whom the watermark passed.
    wakers: BTreeMap<(Seq, u64), Waker>,
    tickets: u64,
    failure: Option<Failure>,
    waking: Option<Arc<Waking>>,
    /// Sleeps until somebody waits.
    sleeper: Option<Thread>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("waiting", &self.wakers.len()).field("failure", &self.failure).finish()
    }
}

/// One place that entries reach in order, and who waits for them to.
#[derive(Debug)]
struct Line {
    reached: AtomicU64,
    /// 1 once it will never go on in this run.
    stopped: AtomicU64,
    waiting: Mutex<Waiting>,
}

impl Line {
    fn new(reached: Seq) -> Self {
        let waiting = Mutex::new(Waiting::default());
        Self { reached: AtomicU64::new(reached.0), stopped: AtomicU64::new(0), waiting }
    }

    fn reached(&self) -> Seq {
        // Acquire pairs with the release in `advance`.
        Seq(self.reached.load(Acquire))
    }

    /// Wakes, in one pass, everyone whom it passes; false if that is nobody.
    fn advance(&self, to: Seq) -> bool {
        self.reached.store(to.0, Release);
        let (woken, waking) = {
            let mut waiting = self.waiting.lock();
            if waiting.wakers.is_empty() {
                return false;
            }
            let still = waiting.wakers.split_off(&(to.next(), 0));
            (std::mem::replace(&mut waiting.wakers, still), waiting.waking.clone())
        };
        let some = !woken.is_empty();
        // Outside the lock: a waker may run arbitrary code.
        match waking {
            // One is woken as cheaply from here.
            Some(waking) if woken.len() > 1 => waking(woken.into_values().collect()),
            _ => woken.into_values().for_each(Waker::wake),
        }
        some
    }

    fn fail(&self, failure: Failure) {
        let woken = {
            let mut waiting = self.waiting.lock();
            waiting.failure.get_or_insert(failure);
            self.stopped.store(1, Release);
            std::mem::take(&mut waiting.wakers)
        };
        woken.into_values().for_each(Waker::wake);
    }

    fn failure(&self) -> Option<Failure> {
        if self.stopped.load(Relaxed) == 0 {
            return None;
        }
        self.waiting.lock().failure.clone()
    }

    fn poll(&self, seq: Seq, ticket: &mut Option<u64>, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.reached() >= seq {
            return Poll::Ready(Ok(()));
        }
        let mut waiting = self.waiting.lock();
        // Again under the lock: `advance` stores before it locks, so either we see the store or it sees us.
        if self.reached() >= seq {
            return Poll::Ready(Ok(()));
        }
        if let Some(failure) = &waiting.failure {
            return Poll::Ready(Err(failure.clone()));
        }
        let number = *ticket.get_or_insert_with(|| {
            waiting.tickets += 1;
            waiting.tickets
        });
        // Polled again, a ticket replaces its waker.
        waiting.wakers.insert((seq, number), context.waker().clone());
        let sleeper = waiting.sleeper.take();
        drop(waiting);
        sleeper.iter().for_each(Thread::unpark);
        Poll::Pending
    }

    fn forget(&self, seq: Seq, ticket: u64) {
        // Already passed: its waker is gone.
        if self.reached() < seq {
            self.waiting.lock().wakers.remove(&(seq, ticket));
        }
    }
}

/// How far the journal is durable, how far it is in Redis, and what was measured on the way.
#[derive(Debug)]
pub(crate) struct Watermark {
    disk: Line,
    redis: Line,
    pub(crate) batches: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) sync_nanos: AtomicU64,
}

impl Watermark {
    pub(crate) fn new(durable: Seq) -> Self {
        Self {
            disk: Line::new(durable),
            redis: Line::new(Seq(0)),
            batches: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            sync_nanos: AtomicU64::new(0),
        }
    }

    /// Everything up to here survives a crash.
    pub(crate) fn durable(&self) -> Seq {
        self.disk.reached()
    }

    /// Moves the watermark and wakes, in one pass, everyone whom it passed; false if that is nobody. Called by the writer only.
    // rule: JNL-2 the watermark never passes an entry that is not durable
    pub(crate) fn advance(&self, to: Seq) -> bool {
        // Stopped by somebody else than the writer, it passes nothing more.
        // rule: JNL-3
        self.failure().is_none() && self.disk.advance(to)
    }

    /// Has this thread, which is about to park, unparked as soon as anybody waits for the disk; false if somebody does already.
    pub(crate) fn unparks_when_waited_for(&self, thread: Thread) -> bool {
        let mut waiting = self.disk.waiting.lock();
        let nobody = waiting.wakers.is_empty() && waiting.failure.is_none();
        if nobody {
            waiting.sleeper = Some(thread);
        }
        nobody
    }

    /// From now on those who are passed together are handed over together.
    pub(crate) fn wake_through(&self, waking: Arc<Waking>) {
        for line in [&self.disk, &self.redis] {
            line.waiting.lock().waking = Some(Arc::clone(&waking));
        }
    }

    /// Everything up to here is known to be in Redis. Goes back when Redis is found to have lost its tail.
    pub(crate) fn in_redis(&self) -> Seq {
        self.redis.reached()
    }

    /// Called by the shipper only, which never ships what is not durable.
    pub(crate) fn set_in_redis(&self, to: Seq) {
        self.redis.advance(to);
    }

    /// Nothing more reaches Redis in this run.
    pub(crate) fn fail_redis(&self, failure: Failure) {
        self.redis.fail(failure);
    }

    /// Whether [`Watermark::fail_redis`] was called, or the journal stopped.
    pub(crate) fn redis_stopped(&self) -> bool {
        self.redis.failure().is_some()
    }

    /// Stops for good: every waiter, present and future, is told.
    // rule: JNL-3 a failed write or sync stops the journal; nothing is acknowledged after it
    pub(crate) fn fail(&self, reason: String) {
        let failure = Failure::JournalStopped { reason };
        self.disk.fail(failure.clone());
        self.redis.fail(failure);
    }

    /// The failure that stopped the journal, if it has.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.disk.failure()
    }

    /// What a ticket waits for; `None` if it need not wait.
    fn line(&self, ack: Ack) -> Option<&Line> {
        match ack {
            Ack::Memory => None,
            Ack::Disk => Some(&self.disk),
            Ack::Redis => Some(&self.redis),
        }
    }
}

/// Resolves when the journal has brought a sequence number as far as was asked, or has stopped.
///
/// A plain future that any executor can drive; [`Ticket::wait`] blocks a thread instead. Dropping a
/// ticket loses nothing: what was submitted stays submitted.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    marks: Arc<Watermark>,
    seq: Seq,
    ack: Ack,
    /// Its number among the waiting, once it waits.
    waiting: Option<u64>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let (Some(number), Some(line)) = (self.waiting, self.marks.line(self.ack)) {
            line.forget(self.seq, number);
        }
    }
}

impl Ticket {
    pub(crate) fn new(marks: Arc<Watermark>, seq: Seq, ack: Ack) -> Self {
        Self { marks, seq, ack, waiting: None }
    }

    /// The position waited for.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether the wait would end at once, and well.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.marks.line(self.ack).is_none_or(|line| line.reached() >= self.seq)
    }

    /// Blocks this thread until the ticket resolves.
    ///
    /// # Errors
    /// The journal stopped before it got there.
    pub fn wait(mut self) -> Result<(), Failure> {
        self.park_until(|| {
            std::thread::park();
            true
        })
        .map(|_| ())
    }

    /// Blocks this thread until the ticket resolves, at most `time`; false if it has not.
    ///
    /// # Errors
    /// The journal stopped before it got there.
    pub fn wait_at_most(mut self, time: Duration) -> Result<bool, Failure> {
        let watch = Stopwatch::start();
        self.park_until(|| match time.checked_sub(watch.elapsed()) {
            Some(left) if !left.is_zero() => {
                std::thread::park_timeout(left);
                true
            }
            _ => false,
        })
    }

    /// Parks until the ticket resolves; false if `park` says that it was too long.
    fn park_until(&mut self, mut park: impl FnMut() -> bool) -> Result<bool, Failure> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut *self).poll(&mut context) {
                Poll::Ready(result) => return result.map(|()| true),
                Poll::Pending if park() => {}
                Poll::Pending => return Ok(false),
            }
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Ticket { marks, seq, ack, waiting } = self.get_mut();
        marks.line(*ack).map_or(Poll::Ready(Ok(())), |line| line.poll(*seq, waiting, context))
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::pin::pin;

    use super::*;

    // rule: JNL-2
    #[test]
    fn a_ticket_resolves_when_the_watermark_passes_it_and_not_before() {
        let marks = Arc::new(Watermark::new(Seq(3)));
        assert!(Ticket::new(Arc::clone(&marks), Seq(3), Ack::Disk).wait().is_ok());
        let ticket = Ticket::new(Arc::clone(&marks), Seq(5), Ack::Disk);
        let waiter = std::thread::spawn(move || ticket.wait());
        marks.advance(Seq(4));
        assert!(!waiter.is_finished());
        marks.advance(Seq(5));
        assert_eq!(waiter.join().unwrap(), Ok(()));
    }

    #[test]
    fn a_ticket_keeps_one_waker_and_takes_it_away_with_it() {
        let marks = Arc::new(Watermark::new(Seq(0)));
        let mut ticket = Ticket::new(Arc::clone(&marks), Seq(1), Ack::Disk);
        for _ in 0..3 {
            assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(marks.disk.waiting.lock().wakers.len(), 1);
        drop(ticket);
        assert_eq!(marks.disk.waiting.lock().wakers.len(), 0);
    }

    #[test]
    fn who_sleeps_while_nobody_waits_is_woken_by_the_first_who_does() {
        let marks = Arc::new(Watermark::new(Seq(4)));
        assert!(marks.unparks_when_waited_for(std::thread::current()));
        let mut ticket = pin!(Ticket::new(Arc::clone(&marks), Seq(5), Ack::Disk));
        assert!(ticket.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let watch = Stopwatch::start();
        std::thread::park_timeout(Duration::from_secs(60));
        assert!(watch.nanos() < 50_000_000_000, "it had been unparked");
        assert!(!marks.unparks_when_waited_for(std::thread::current()), "somebody waits");
        assert!(marks.advance(Seq(5)) && !marks.advance(Seq(6)));
        assert!(marks.unparks_when_waited_for(std::thread::current()), "and nobody any more");
        marks.fail("over".to_owned());
        assert!(!marks.unparks_when_waited_for(std::thread::current()), "there is nothing to sleep for");
    }

    #[test]
    fn who_is_passed_together_is_handed_over_together() {
        let marks = Arc::new(Watermark::new(Seq(0)));
        let handed = Arc::new(Mutex::new(Vec::new()));
        let taking = Arc::clone(&handed);
        marks.wake_through(Arc::new(move |wakers: Vec<Waker>| taking.lock().push(wakers.len())));
        let mut tickets: Vec<_> = [1, 1, 2, 3].map(|seq| Ticket::new(Arc::clone(&marks), Seq(seq), Ack::Disk)).into();
        for ticket in &mut tickets {
            assert!(Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        marks.advance(Seq(2));
        marks.advance(Seq(3));
        assert_eq!(*handed.lock(), [3], "the last is woken from here");
    }

    // rule: JNL-3
    #[test]
    fn a_stopped_journal_fails_who_waits_and_who_comes_later_but_not_what_is_durable() {
        let marks = Arc::new(Watermark::new(Seq(3)));
        let ticket = Ticket::new(Arc::clone(&marks), Seq(4), Ack::Disk);
        let waiter = std::thread::spawn(move || ticket.wait());
        marks.fail("no space".to_owned());
        assert!(waiter.join().unwrap().is_err());
        assert!(Ticket::new(Arc::clone(&marks), Seq(4), Ack::Disk).wait().is_err());
        assert!(Ticket::new(marks, Seq(3), Ack::Disk).wait().is_ok());
    }

    // rule: JNL-2
    #[test]
    fn each_ticket_waits_for_the_place_that_was_asked_for() {
        let marks = Arc::new(Watermark::new(Seq(0)));
        let reached = |seq, ack| Ticket::new(Arc::clone(&marks), Seq(seq), ack).is_reached();
        assert!(reached(5, Ack::Memory) && !reached(5, Ack::Disk) && !reached(5, Ack::Redis));
        marks.advance(Seq(5));
        assert!(reached(5, Ack::Disk) && !reached(5, Ack::Redis));
        let ticket = Ticket::new(Arc::clone(&marks), Seq(5), Ack::Redis);
        let waiter = std::thread::spawn(move || ticket.wait());
        marks.set_in_redis(Seq(5));
        assert_eq!(waiter.join().unwrap(), Ok(()));
    }
}
