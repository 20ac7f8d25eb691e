//! What projections of the journal keep on disk: one embedded database for a cell, one cursor, one thread that follows the log.
//!
//! The journal is the truth; everything here can be made from it again, as far as the log still reaches. So nothing is synced for the
//! sake of an answer: once a second the database is, with its cursor, and only then the log is let go. A crash loses nothing but the
//! work of that second, which the next start does again.
//!
//! - [`Store::open`] opens the database; [`Store::table`] gives a projection its tables.
//! - [`Store::follow`] starts the thread: each [`Projection`] says what an entry changes, and one atomic batch has all of it and the cursor.
//! - A disk that was full stops the database for good; the thread opens it anew once there is room ([`database`]).
//! - Who has just written asks [`Store::reached`] before reading: a read after a write waits for it.

pub mod copy;
mod database;
mod follow;
mod waiting;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use berth_engine::journal::entry::Entry;
use berth_engine::journal::frame::Link;
use berth_engine::{Engine, LogPlace, LogTail, Seq};
use parking_lot::Mutex;

use self::database::Open;
pub use self::database::Table;
use self::follow::Follower;
pub use self::waiting::Reached;
use self::waiting::Shared;

/// The database's own table: the cursor.
const META: &str = "meta";
const CURSOR: &[u8] = b"cursor";
/// Frame, link, newest entry applied, where this store began.
const CURSOR_BYTES: usize = 32;

/// Why the store cannot do its part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database, the disk below it, or what is in it.
    #[error("the store of projections: {0}")]
    Broken(String),
    /// The log begins behind what the store has seen, or is another one: what is between is lost to it.
    #[error("the store of projections does not fit the log: {0}")]
    Gap(String),
    /// It did not come so far in time, or is closed.
    #[error("the store of projections has not come to entry {0} yet")]
    Behind(Seq),
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        StoreError::Broken(error.to_string())
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        StoreError::Broken(error.to_string())
    }
}

/// What an owner makes of the journal. Called by one thread, entry by entry, in order, for durable entries only.
pub trait Projection: Send + Sync {
    /// What this entry changes. It may be shown the same entry again after a crash, on the tables as they were before it.
    ///
    /// # Errors
    /// The store stands still until a later attempt, from this entry, is better: what is not understood must not be skipped.
    fn apply(&self, change: &mut Change, seq: Seq, entry: &Entry) -> Result<(), StoreError>;
}

/// Everything that one entry changes: there whole or not at all. Of several words on one row the last counts.
#[derive(Default)]
pub struct Change {
    /// By table and key. The database does not say which of two in one batch it takes.
    rows: BTreeMap<(u64, Vec<u8>), Row>,
}

/// A row that is set, or taken away.
struct Row {
    table: Table,
    value: Option<Vec<u8>>,
}

impl Change {
    /// Sets a row.
    pub fn put(&mut self, table: &Table, key: &[u8], value: &[u8]) {
        self.rows.insert((table.number(), key.to_vec()), Row { table: table.clone(), value: Some(value.to_vec()) });
    }

    /// Takes a row away.
    pub fn remove(&mut self, table: &Table, key: &[u8]) {
        self.rows.insert((table.number(), key.to_vec()), Row { table: table.clone(), value: None });
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// How far the store has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    /// Behind the last frame that was applied whole.
    place: LogPlace,
    /// The newest entry applied.
    applied: Seq,
    /// The newest entry that was trimmed before this store began: what was before is not in it.
    began: Seq,
}

impl At {
    /// As a database has it.
    fn of(meta: &Table) -> Result<At, StoreError> {
        let Some(bytes) = meta.get(CURSOR)? else { return Ok(At::default()) };
        At::read(&bytes).ok_or_else(|| StoreError::Broken("the store's cursor has another shape".to_owned()))
    }

    fn read(bytes: &[u8]) -> Option<At> {
        let bytes: &[u8; CURSOR_BYTES] = bytes.try_into().ok()?;
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let place = LogPlace { seq: Seq(number(0)?), link: Link(number(8)?) };
        Some(At { place, applied: Seq(number(16)?), began: Seq(number(24)?) })
    }

    fn bytes(self) -> [u8; CURSOR_BYTES] {
        let mut bytes = [0; CURSOR_BYTES];
        let numbers = [self.place.seq.0, self.place.link.0, self.applied.0, self.began.0];
        for (to, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// The database of a cell's projections.
pub struct Store {
    open: Arc<Open>,
    meta: Table,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Keeps the log for what is not on the disk yet; also where the thread has panicked.
    pin: Arc<Mutex<Option<LogTail>>>,
}

impl Store {
    /// Opens the database in this directory, made if it is not there. Only one process may have it open.
    ///
    /// # Errors
    /// It is open elsewhere, or damaged.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let open = Arc::new(Open::at(path)?);
        let meta = open.table(META)?;
        let at = At::of(&meta)?;
        Ok(Store { open, meta, shared: Arc::new(Shared::new(at)), thread: Mutex::new(None), pin: Arc::default() })
    }

    /// A table, made if it is not there. Names are `owner.what`.
    ///
    /// # Errors
    /// The database cannot make it.
    pub fn table(&self, name: &str) -> Result<Table, StoreError> {
        self.open.table(name)
    }

    /// Follows the log in a thread of its own, until [`Store::close`]. To be called before anything trims the log. `tell` is told once when
    /// the store stands still, and once when it goes on.
    ///
    /// # Errors
    /// There is no log to follow, or the thread cannot be started.
    pub fn follow(
        &self,
        engine: &Arc<Engine>,
        projections: Vec<Arc<dyn Projection>>,
        tell: impl Fn(Told) + Send + 'static,
    ) -> Result<(), StoreError> {
        let at = self.shared.at();
        let tail = engine.tail(at.place).ok_or_else(|| StoreError::Broken("there is no log to follow".to_owned()))?;
        *self.pin.lock() = Some(tail);
        let follower = Follower {
            engine: Arc::clone(engine),
            open: Arc::clone(&self.open),
            meta: self.meta.clone(),
            shared: Arc::clone(&self.shared),
            projections,
            pin: Arc::clone(&self.pin),
            at,
            durable: at,
            tell: Box::new(tell),
            told: false,
        };
        let run = move || follower.run();
        *self.thread.lock() = Some(std::thread::Builder::new().name("berth-store".to_owned()).spawn(run)?);
        Ok(())
    }

    /// The newest entry that reads are sure to see.
    #[must_use]
    pub fn applied(&self) -> Seq {
        self.shared.at().applied
    }

    /// The newest entry that reads see, whatever becomes of the database: one that is opened anew goes back as far as this.
    pub(crate) fn persisted(&self) -> Seq {
        self.shared.persisted()
    }

    /// Behind the last frame that was applied whole: what a log must have to be followed on.
    #[must_use]
    pub fn place(&self) -> LogPlace {
        self.shared.at().place
    }

    /// The newest entry that was trimmed before this store began; 0: it has seen everything.
    #[must_use]
    pub fn began(&self) -> Seq {
        self.shared.at().began
    }

    /// Resolves when reads see entry `seq`. What is not durable is never reached: await its ticket first.
    pub fn reached(&self, seq: Seq) -> Reached {
        Reached::new(Arc::clone(&self.shared), seq)
    }

    /// As [`Store::reached`], for a thread that may block.
    ///
    /// # Errors
    /// It did not come so far in time, or stands still.
    pub fn wait(&self, seq: Seq, time: Duration) -> Result<(), StoreError> {
        self.shared.wait(seq, time)
    }

    /// Why the store stands still, if it does.
    #[must_use]
    pub fn standing_still(&self) -> Option<StoreError> {
        self.shared.standing_still()
    }

    /// Bytes on disk, of all tables.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.open.disk_bytes()
    }

    /// How often the database was opened anew in this run, after a full disk had stopped it.
    #[must_use]
    pub fn opened_anew(&self) -> u64 {
        self.open.opened_anew()
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.open.path()
    }

    /// Applies what is durable, syncs, and ends the thread. Nothing is applied after it.
    pub fn close(&self) {
        self.shared.close();
        if let Some(thread) = self.thread.lock().take() {
            thread.thread().unpark();
            // A panic was told of when it happened.
            let _ = thread.join();
        }
        *self.pin.lock() = None;
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the operator is told of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It stands still, and why; tried again until it goes on.
    StandsStill(StoreError),
    /// It goes on.
    GoesOn,
    /// It was made after the log had been trimmed: what was before this entry is not in it.
    BeganLate(Seq),
}

#[cfg(test)]
mod tests;
