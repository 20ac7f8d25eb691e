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
    batches: Mutex<Vec<Vec<Waker>>>,
    some: Notify,
}

/// Begins; it ends with the runtime.
pub(crate) fn start(engine: &Engine) {
    let handed = Arc::new(Handed::default());
    let taking = Arc::clone(&handed);
    engine.wake_through(move |wakers| {
        taking.batches.lock().push(wakers);
        taking.some.notify_one();
    });
    tokio::spawn(async move {
        loop {
            handed.some.notified().await;
            let batches = std::mem::take(&mut *handed.batches.lock());
            batches.into_iter().flatten().for_each(Waker::wake);
        }
    });
}

#[cfg(test)]
mod tests {
    use berth_engine::{Ack, Command, PartyFacts, Request};

    use super::*;

    #[tokio::test]
    async fn everybody_is_woken() {
        let dir = tempfile::tempdir().unwrap();
        let app = crate::app::App::for_test(dir.path());
        let engine = Arc::clone(&app.campaign.engine);
        start(&engine);
        let waiting: Vec<_> = (0..64)
            .map(|_| {
                let engine = Arc::clone(&engine);
                tokio::spawn(async move {
                    let command = Command::AddParties { count: 1, facts: PartyFacts::default() };
                    let submitted = engine.submit(&Request { command, idempotency: None }, engine.now()).unwrap();
                    engine.ticket_for(submitted.seq, Ack::Disk).await
                })
            })
            .collect();
        for task in waiting {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        engine.close().unwrap();
    }
}
