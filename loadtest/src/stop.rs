//! Stopping early, and never leaving a server behind.
//!
//! One handler for Ctrl-C and SIGTERM, installed before Goose installs its own (which would exit on a second Ctrl-C
//! without ending the server). The first signal ends the run in order; the second kills what the run started, unmounts
//! what it mounted, and leaves.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// What else must not outlive this process. Locked for single statements only, so the handler never waits.
    ground: Mutex<Ground>,
}

#[derive(Debug, Default)]
struct Ground {
    processes: Vec<u32>,
    mount: Option<PathBuf>,
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

    /// The running server's process id, if there is one of this run's own.
    pub(crate) fn server(&self) -> Option<u32> {
        u32::try_from(self.0.server.load(Ordering::SeqCst)).ok().filter(|&pid| pid != 0)
    }

    /// Sends `signal` to the running server, if there is one.
    pub(crate) fn tell_server(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.0.server.load(Ordering::SeqCst)) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Names one more process that must not.
    pub(crate) fn guard_also(&self, process: u32) {
        self.0.ground.lock().unwrap_or_else(PoisonError::into_inner).processes.push(process);
    }

    /// That process has ended, so its id may be another's by now.
    pub(crate) fn forget(&self, process: u32) {
        let mut ground = self.0.ground.lock().unwrap_or_else(PoisonError::into_inner);
        ground.processes.retain(|&other| other != process);
    }

    /// Names what is mounted and must not stay so, or none.
    pub(crate) fn guard_mount(&self, mount: Option<PathBuf>) {
        self.0.ground.lock().unwrap_or_else(PoisonError::into_inner).mount = mount;
    }

    fn on_signal(&self) {
        if self.0.asked.swap(true, Ordering::SeqCst) {
            let ground = std::mem::take(&mut *self.0.ground.lock().unwrap_or_else(PoisonError::into_inner));
            let processes = ground.processes.into_iter().filter_map(|pid| i32::try_from(pid).ok());
            for pid in processes.chain([self.0.server.load(Ordering::SeqCst)]).filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            if let Some(mount) = ground.mount {
                crate::ground::unmount(&mount);
            }
            std::process::exit(130);
        }
        goose::trigger_killswitch("stopped by a signal");
    }
}
