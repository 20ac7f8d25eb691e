//! One rendering per key at a time: the first to miss leads, who comes meanwhile follows.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::answer::Answer;
use super::encoding::Encoding;

/// Renderings at once, those that wait for their turn among them.
const FLIGHTS_MAX: usize = 1024;

type Key = (Encoding, Box<str>);
type Running = Arc<Mutex<HashMap<Key, watch::Receiver<Option<Arc<Answer>>>>>>;

/// The renderings that run.
#[derive(Default)]
pub(crate) struct Flights(Running);

/// What a request is to a rendering.
pub(crate) enum Joined {
    /// The one that renders.
    Leading(Leader),
    /// One that waits.
    Following(Following),
    /// One too many.
    Full,
}

/// The duty to render. Dropped without an answer, as by a panic, it tells followers that there will be none.
pub(crate) struct Leader {
    running: Running,
    key: Key,
    told: watch::Sender<Option<Arc<Answer>>>,
}

/// Waits for a leader.
pub(crate) struct Following(watch::Receiver<Option<Arc<Answer>>>);

impl Flights {
    pub(crate) fn join(&self, encoding: Encoding, key: &str) -> Joined {
        let key = (encoding, Box::from(key));
        let mut running = self.0.lock();
        if let Some(told) = running.get(&key) {
            return Joined::Following(Following(told.clone()));
        }
        if running.len() >= FLIGHTS_MAX {
            return Joined::Full;
        }
        let (told, follow) = watch::channel(None);
        running.insert(key.clone(), follow);
        drop(running);
        Joined::Leading(Leader { running: Arc::clone(&self.0), key, told })
    }
}

impl Leader {
    pub(crate) fn follow(&self) -> Following {
        Following(self.told.subscribe())
    }

    /// Whether anybody still waits: whoever follows, beside the one that new followers are made of.
    pub(crate) fn is_awaited(&self) -> bool {
        self.told.receiver_count() > 1
    }

    /// The answer is there, and kept where the next one to miss looks first.
    pub(crate) fn done(&self, answer: &Arc<Answer>) {
        self.told.send_replace(Some(Arc::clone(answer)));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.running.lock().remove(&self.key);
    }
}

impl Following {
    /// `None` if the leader failed.
    pub(crate) async fn answer(&mut self) -> Option<Arc<Answer>> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}
