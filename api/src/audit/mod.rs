//! The audit log: every read of a person, and everything that admins and operators do, as one line each in a file.
//!
//! A request that is to be audited reserves its line before it runs, and gets it when its outcome is known; so no answer
//! leaves without its line in the queue, and a queue that is full, or a file that cannot be written, is known before anything is
//! done. The request is then refused, or goes on and is counted as lost, by its role. A line is written and synced
//! by a thread of its own, within [`AuditConfig::sync_every`] of the answer: a killed process may lose the lines of that time.

pub(crate) mod command;
mod record;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

pub(crate) use self::record::{CameTo, Record, Whom, in_rows, who};
use self::writer::{Order, Writer};
use crate::access::Role;
use crate::problem::{Code, Problem};

/// What the configuration says of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditConfig {
    pub(crate) file: PathBuf,
    /// The file is set aside when it has so many bytes. `None`: never.
    pub(crate) rotate_bytes: Option<u64>,
    /// Lines are synced so long after they were written, at most.
    pub(crate) sync_every: Duration,
    /// Lines that may wait to be written.
    pub(crate) queue_max: usize,
    /// Whose requests are refused when they cannot be audited.
    pub(crate) refuse: Vec<Role>,
}

/// The log, as the requests see it.
pub(crate) struct Audit {
    refuse: Vec<Role>,
    queue_max: usize,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What requests and the writer share.
#[derive(Debug, Default)]
struct Shared {
    /// Lines reserved and not yet written.
    queued: AtomicUsize,
    /// The last attempt to write failed.
    failing: AtomicBool,
    written: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    rotated: AtomicU64,
    /// The server ends: what cannot be written now never will be.
    stopping: AtomicBool,
    /// The thread that writes has ended before its time: nothing will be written any more.
    dead: AtomicBool,
}

/// Counters for the metrics page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuditStats {
    pub(crate) written: u64,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
    pub(crate) rotated: u64,
    pub(crate) queued: u64,
    pub(crate) failing: bool,
    pub(crate) dead: bool,
}

/// Room for one line. Dropped without [`Reserved::begin`] it is given back.
pub(crate) struct Reserved<'a> {
    audit: &'a Audit,
    filled: bool,
}

/// A line whose end is not known yet. Dropped, its request was cut off, and what it did or showed nobody knows: that is its line.
pub(crate) struct Line<'a> {
    reserved: Reserved<'a>,
    record: Option<Record>,
}

/// How a request ended whose client was gone before its answer.
const CUT_OFF: &str = "cut_off";

impl Audit {
    /// Opens the file and starts the thread that writes it.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub(crate) fn start(config: AuditConfig) -> std::io::Result<Audit> {
        let AuditConfig { refuse, queue_max, .. } = config.clone();
        let shared = Arc::new(Shared::default());
        let (orders, received) = mpsc::channel();
        let writer = Writer::open(config, Arc::clone(&shared))?;
        let told = ToldOfEnd(Arc::clone(&shared));
        let run = move || {
            let _told = told;
            writer.run(&received);
        };
        let thread = std::thread::Builder::new().name("berth-audit".to_owned()).spawn(run)?;
        Ok(Audit { refuse, queue_max, shared, orders, thread: Mutex::new(Some(thread)) })
    }

    /// Room for the line of a request by this role. `Ok(None)`: there is none, and the request goes on without, unless it `must` not.
    pub(crate) fn reserve(&self, role: Role, must: bool) -> Result<Option<Reserved<'_>>, Problem> {
        // Relaxed, here and below: counts and a hint; the queue itself orders what is written.
        if !self.shared.failing.load(Relaxed) {
            if self.shared.queued.fetch_add(1, Relaxed) < self.queue_max {
                return Ok(Some(Reserved { audit: self, filled: false }));
            }
            self.shared.queued.fetch_sub(1, Relaxed);
        }
        if must || self.refuse.contains(&role) {
            self.shared.refused.fetch_add(1, Relaxed);
            let detail = "the audit log cannot be written, and nothing is shown or done for this role without it";
            return Err(Problem::new(Code::AuditUnavailable, detail));
        }
        self.shared.lost.fetch_add(1, Relaxed);
        Ok(None)
    }

    /// Opens the file anew, for who has moved it away.
    pub(crate) fn reopen(&self) {
        // The thread ends only with the server.
        let _ = self.orders.send(Order::Reopen);
    }

    pub(crate) fn stats(&self) -> AuditStats {
        let Shared { queued, failing, written, refused, lost, rotated, dead, .. } = &*self.shared;
        AuditStats {
            written: written.load(Relaxed),
            refused: refused.load(Relaxed),
            lost: lost.load(Relaxed),
            rotated: rotated.load(Relaxed),
            queued: queued.load(Relaxed) as u64,
            failing: failing.load(Relaxed),
            dead: dead.load(Relaxed),
        }
    }

    /// Writes and syncs what is queued, and ends the thread.
    pub(crate) fn close(&self) {
        self.shared.stopping.store(true, Relaxed);
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.lock().take() {
            // A panic was told of when it happened.
            let _ = thread.join();
        }
    }
}

impl<'a> Reserved<'a> {
    /// The line of a request that is about to run.
    pub(crate) fn begin(self, record: Record) -> Line<'a> {
        Line { reserved: self, record: Some(record) }
    }

    fn fill(&mut self, record: Record) {
        // The writer gives the room back when the line is written.
        self.filled = self.audit.orders.send(Order::Write(Box::new(record))).is_ok();
        if !self.filled {
            // Its thread has died: from now on that is known before anything is done.
            self.audit.shared.failing.store(true, Relaxed);
            self.audit.shared.lost.fetch_add(1, Relaxed);
        }
    }
}

/// Tells of the end of the thread that writes, at once and not with the next line: it is for good.
struct ToldOfEnd(Arc<Shared>);

impl Drop for ToldOfEnd {
    fn drop(&mut self) {
        if !self.0.stopping.load(Relaxed) {
            tracing::error!(
                "the thread that writes the audit log has ended: nothing is audited any more; restart this server"
            );
            self.0.dead.store(true, Relaxed);
            self.0.failing.store(true, Relaxed);
        }
    }
}

impl Line<'_> {
    /// The request came to these parties.
    pub(crate) fn came_to(&mut self, CameTo(parties): CameTo) {
        if let Some(record) = &mut self.record {
            record.whom.parties = parties;
        }
    }

    /// The request has ended like this.
    pub(crate) fn end(mut self, status: u16, outcome: &'static str) {
        if let Some(record) = self.record.take() {
            self.reserved.fill(Record { status, outcome, ..record });
        }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            self.reserved.fill(Record { outcome: CUT_OFF, ..record });
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.filled {
            self.audit.shared.queued.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
