//! What takes a while to find out: looked at by a thread that may block, by one at a time, and nobody waits for it for long. Then
//! what was seen last is told, for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// How long a look is waited for.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Who looks.
pub(super) struct Sampler<T> {
    last: Arc<Mutex<Option<Seen<T>>>>,
    looking: Arc<Semaphore>,
    /// What was seen longer ago is told to nobody.
    told_for: Duration,
}

struct Seen<T> {
    at: Instant,
    took: Duration,
    sample: Arc<T>,
}

impl<T: Send + Sync + 'static> Sampler<T> {
    pub(super) fn new(told_for: Duration) -> Sampler<T> {
        Sampler { last: Arc::default(), looking: Arc::new(Semaphore::new(1)), told_for }
    }

    /// What there is to see, at most as old as `age` makes of how long the last look took; older, if nothing is to be seen now.
    pub(super) async fn sample<L>(&self, age: impl Fn(Duration) -> Duration, look: impl FnOnce() -> L) -> Option<Arc<T>>
    where
        L: FnOnce() -> T + Send + 'static,
    {
        let seen = |age: &dyn Fn(Duration) -> Duration| {
            let last = self.last.lock();
            last.as_ref().filter(|seen| seen.at.elapsed() < age(seen.took)).map(|seen| Arc::clone(&seen.sample))
        };
        if let Some(sample) = seen(&age) {
            return Some(sample);
        }
        let came = Instant::now();
        let looking = async {
            let turn = Arc::clone(&self.looking).acquire_owned().await.ok()?;
            // Whoever began to look after this one came has looked for it, too.
            if let Some(sample) = seen(&|took| age(took).max(came.elapsed())) {
                return Some(sample);
            }
            let (look, last) = (look(), Arc::clone(&self.last));
            let look = move || {
                let _turn = turn;
                let at = Instant::now();
                let sample = Arc::new(look());
                *last.lock() = Some(Seen { at, took: at.elapsed(), sample: Arc::clone(&sample) });
                sample
            };
            tokio::task::spawn_blocking(look).await.ok()
        };
        tokio::time::timeout(WAIT_MAX, looking).await.ok().flatten().or_else(|| seen(&|_| self.told_for))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_look_is_made_anew_when_it_is_too_old_and_not_before() {
        let sampler = Sampler::new(LONG);
        let ask = async |age, says: u32| sampler.sample(|_| age, || move || says).await.map(|seen| *seen);
        assert_eq!(ask(LONG, 1).await, Some(1));
        assert_eq!(ask(LONG, 2).await, Some(1), "it is young enough");
        assert_eq!(ask(Duration::ZERO, 3).await, Some(3), "the newest was asked for");
    }

    #[tokio::test]
    async fn what_does_not_answer_keeps_one_thread_and_nobody() {
        let sampler = Sampler::new(LONG);
        sampler.sample(|_| Duration::ZERO, || || 7).await.expect("it answers");
        let (answer, hangs) = std::sync::mpsc::channel::<()>();
        let stuck = sampler.sample(
            |_| Duration::ZERO,
            || {
                move || {
                    let _ = hangs.recv();
                    8
                }
            },
        );
        assert_eq!(stuck.await.as_deref(), Some(&7), "what was seen last");
        let looked = Arc::new(Mutex::new(false));
        let look = Arc::clone(&looked);
        let other = sampler.sample(
            |_| Duration::ZERO,
            || {
                move || {
                    *look.lock() = true;
                    9
                }
            },
        );
        assert_eq!(other.await.as_deref(), Some(&7));
        assert!(!*looked.lock(), "no second thread hangs beside the first");
        drop(answer);
    }
}
