//! The lock of a data directory: it has one owner, whom the next may wait for.

use std::fmt;
use std::io;
use std::time::Duration;

use parking_lot::Mutex;

use super::directory::OpenError;
use super::storage::Storage;
use crate::clock::Stopwatch;

/// How often a lock that another process has is tried again.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Given back with the value, or before.
#[derive(Debug)]
pub(crate) struct Lock(Mutex<Option<Box<dyn fmt::Debug + Send + Sync>>>);

impl Lock {
    /// Takes it, and waits so long for whoever has it.
    pub(crate) fn take(storage: &dyn Storage, wait: Duration) -> Result<Lock, OpenError> {
        let watch = Stopwatch::start();
        loop {
            match storage.lock() {
                Ok(lock) => return Ok(Lock(Mutex::new(Some(lock)))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(OpenError::Io { path: storage.path("LOCK"), error }),
            }
            let left = wait.saturating_sub(watch.elapsed());
            if left.is_zero() {
                return Err(OpenError::Locked { dir: storage.path(""), waited: wait });
            }
            // A process that ends tells nobody, so it is looked for.
            std::thread::park_timeout(LOOK_EVERY.min(left));
        }
    }

    pub(super) fn give_back(&self) {
        drop(self.0.lock().take());
    }

    pub(super) fn is_given_back(&self) -> bool {
        self.0.lock().is_none()
    }
}

/// What an error says of a wait.
pub(super) fn after(waited: Duration) -> String {
    if waited.is_zero() { String::new() } else { format!(" still, after {} s", waited.as_secs()) }
}
