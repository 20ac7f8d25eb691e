//! Wakes requests whose effect has become durable from inside the runtime.
//!
//! Tasks that the journal's thread wakes one by one each cost a lock and often a system call, and they lie in the queue for
//! what comes from outside, of which a busy worker takes one in a while: under an overload those who only have to be answered
//! would wait behind everybody who is new. So the thread wakes one task, and that wakes the others, where they are ready at once.

use std::sync::Arc;
use std::task::Waker;

use berth_engine::Engine;
use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Default)]
struct Handed {
    /// None once the task has ended: from then on nobody takes any.
    batches: Mutex<Option<Vec<Vec<Waker>>>>,
    some: Notify,
}

impl Handed {
    fn take(&self, wakers: Vec<Waker>) {
        let left = match &mut *self.batches.lock() {
            Some(batches) => {
                batches.push(wakers);
                self.some.notify_one();
                return;
            }
            None => wakers,
        };
        // Threads wait for the journal, too, and go on to the end of the process.
        left.into_iter().for_each(Waker::wake);
    }
}

/// Wakes whoever is left when the task ends, with the runtime or by a panic.
struct Last(Arc<Handed>);

impl Drop for Last {
    fn drop(&mut self) {
        let left = self.0.batches.lock().take();
        left.into_iter().flatten().flatten().for_each(Waker::wake);
    }
}

/// Begins; it ends with the runtime.
pub(crate) fn start(engine: &Engine) {
    let handed = Arc::new(Handed { batches: Mutex::new(Some(Vec::new())), some: Notify::new() });
    let taking = Arc::clone(&handed);
    engine.wake_through(move |wakers| taking.take(wakers));
    tokio::spawn(relay(Last(handed)));
}

async fn relay(last: Last) {
    let handed = &last.0;
    loop {
        handed.some.notified().await;
        let batches = handed.batches.lock().as_mut().map(std::mem::take);
        batches.into_iter().flatten().flatten().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn everybody_is_woken_by_the_task_and_who_comes_after_its_end_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handed = Arc::new(Handed { batches: Mutex::new(Some(Vec::new())), some: Notify::new() });
        let counted = Arc::new(Counted::default());
        let batch = |wakers: usize| vec![Waker::from(Arc::clone(&counted)); wakers];
        let woken = || counted.0.load(Relaxed);
        let task = runtime.spawn(relay(Last(Arc::clone(&handed))));
        handed.take(batch(3));
        handed.take(batch(2));
        assert_eq!(woken(), 0, "not by who hands them over");
        runtime.block_on(async {
            while woken() < 5 {
                tokio::task::yield_now().await;
            }
        });
        // Handed over, and then the runtime goes.
        handed.take(batch(4));
        drop((task, runtime));
        assert_eq!(woken(), 9);
        handed.take(batch(2));
        assert_eq!(woken(), 11);
    }
}
