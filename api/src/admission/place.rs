//! A place at work, and how long a request keeps it.
//!
//! From its head until it waits for the disk or Redis. Its body is mostly there already, but the server's HTTP brings it only once it
//! was asked for; so a request that waits for its body keeps its place for a moment, and what it does with the body
//! is done in its place. A body that takes longer is a slow client's, and takes no place from others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::{Admission, Class};

/// How long a place is kept for a body that is on its way.
const BODY_GRACE: Duration = Duration::from_millis(5);

/// A place at work. Dropped, it is given to the next who waits.
pub(crate) struct Place(Option<Arc<Admission>>);

/// Whether a request waits for its body now; its route says so, and its place looks.
#[derive(Clone, Default)]
pub(crate) struct Reading(Arc<AtomicBool>);

/// A body is being read for as long as this lives.
pub(crate) struct ReadingNow(Reading);

impl Reading {
    /// The body is being read from now on.
    pub(crate) fn begin(&self) -> ReadingNow {
        // Relaxed, all three: a request is polled by one thread at a time, and the runtime orders one poll before the next.
        self.0.store(true, Relaxed);
        ReadingNow(self.clone())
    }

    fn is_on(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Drop for ReadingNow {
    fn drop(&mut self) {
        self.0.0.store(false, Relaxed);
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Place")
    }
}

impl Place {
    /// Of one that is counted as at work already.
    pub(super) fn new(admission: &Arc<Admission>) -> Place {
        Place(Some(Arc::clone(admission)))
    }

    /// Runs a request: the place is given up as soon as it ends, or waits for anything but its body, or for that too long.
    pub(crate) async fn run<F: Future>(self, reading: &Reading, request: F) -> F::Output {
        let mut place = Some(self);
        let mut request = std::pin::pin!(request);
        let mut grace = std::pin::pin!(None);
        std::future::poll_fn(|context| {
            let polled = request.as_mut().poll(context);
            let keeps = place.is_some() && polled.is_pending() && reading.is_on() && {
                if grace.is_none() {
                    grace.set(Some(tokio::time::sleep(BODY_GRACE)));
                }
                grace.as_mut().as_pin_mut().is_some_and(|grace| grace.poll(context).is_pending())
            };
            if !keeps {
                drop(place.take());
            }
            polled
        })
        .await
    }

    /// Forgets the place; the count is the caller's to mend.
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(admission) = self.0.take() else { return };
        admission.at_work.fetch_sub(1, Relaxed);
        admission.hand_over();
    }
}

/// A request of a class, counted while it runs.
pub(crate) struct RunningOfClass(pub(super) Arc<Admission>, pub(super) Class);

impl Drop for RunningOfClass {
    fn drop(&mut self) {
        self.0.classes[self.1 as usize].running.fetch_sub(1, Relaxed);
    }
}
