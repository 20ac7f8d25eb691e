//! Stopping early, and never leaving a server behind.
//!
//! One handler for Ctrl-C and SIGTERM, installed before Goose installs its own (which would exit on a second Ctrl-C
//! without ending the server). The first signal ends the run in order; the second kills the server and leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{CannotRun, Doing};

/// What the signal handler and the run share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicBool,
    /// The running server's process id; 0 for none.
    server: AtomicI32,
}

impl Stop {
    /// Installs the handler. At most once per process.
    pub(crate) fn install() -> Result<Self, CannotRun> {
        let stop = Self::default();
        let seen = stop.clone();
        ctrlc::set_handler(move || seen.on_signal()).doing(|| "install the Ctrl-C handler".into())?;
        Ok(stop)
    }

    /// Whether somebody asked the run to end.
    pub(crate) fn asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// Names the server that must not outlive this process, or none.
    pub(crate) fn guard(&self, server: Option<u32>) {
        let pid = server.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        self.0.server.store(pid, Ordering::SeqCst);
    }

    fn on_signal(&self) {
        if self.0.asked.swap(true, Ordering::SeqCst) {
            if let Some(pid) = Pid::from_raw(self.0.server.load(Ordering::SeqCst)) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::process::exit(130);
        }
        goose::trigger_killswitch("stopped by a signal");
    }
}
