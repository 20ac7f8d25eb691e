//! The database behind the tables. One that a full disk or a failed sync has stopped takes nothing more until it is opened anew: that is
//! done here, under the tables that their owners go on holding.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use parking_lot::{Mutex, RwLock};

use super::{At, CURSOR, Change, Row, StoreError};

/// Blocks of tables that are kept in memory.
const CACHE_BYTES: u64 = 64 << 20;
/// How long a start waits for the process before it to let go of the database.
const LOCK_WAIT: Duration = Duration::from_secs(60);
const LOCK_LOOK: Duration = Duration::from_millis(20);
/// So much room there must be before the database is opened anew: it writes while it opens, and a full disk would stop it again.
const ROOM_BYTES: usize = 16 << 20;
const ROOM: &str = "room";

/// A table, sorted by key.
#[derive(Clone)]
pub struct Table(Arc<Named>);

struct Named {
    name: String,
    number: u64,
    /// `None` while the database is opened anew.
    keyspace: RwLock<Option<Keyspace>>,
}

/// The database, and what is open of it.
pub(super) struct Open {
    path: PathBuf,
    database: RwLock<Option<Database>>,
    tables: Mutex<Vec<Table>>,
    /// It takes nothing any more.
    stopped: AtomicBool,
    /// How often it was opened anew.
    anew: AtomicU64,
}

fn away() -> StoreError {
    StoreError::Broken("the database is being opened anew".to_owned())
}

impl Table {
    pub(super) fn number(&self) -> u64 {
        self.0.number
    }

    fn keyspace(&self) -> Result<Keyspace, StoreError> {
        self.0.keyspace.read().clone().ok_or_else(away)
    }

    /// A row.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.keyspace()?.get(key)?.map(|value| value.to_vec()))
    }

    /// Sets a row at once: for an owner's own notes, before the store follows the log.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        Ok(self.keyspace()?.insert(key, value)?)
    }

    /// Puts rows into a table that has none, ascending by key and past the database's own journal: for very many at once.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn fill(&self, rows: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<(), StoreError> {
        let keyspace = self.keyspace()?;
        let mut ingestion = keyspace.start_ingestion()?;
        for (key, value) in rows {
            ingestion.write(key, value)?;
        }
        Ok(ingestion.finish()?)
    }

    /// Whether there is such a row.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub fn has(&self, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.keyspace()?.contains_key(key)?)
    }

    /// The rows whose key begins so, in order, as of one instant.
    pub fn scan(&self, prefix: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + use<> {
        rows(self.keyspace().map(|keyspace| keyspace.prefix(prefix)))
    }

    /// The rows from this key on, in order, as of one instant.
    pub fn from(&self, key: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + use<> {
        rows(self.keyspace().map(|keyspace| keyspace.range(key.to_vec()..)))
    }
}

/// The rows of a read, or why there are none.
fn rows<I: Iterator<Item = fjall::Guard>>(
    found: Result<I, StoreError>,
) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> {
    let (found, why) = match found {
        Ok(found) => (Some(found), None),
        Err(why) => (None, Some(Err(why))),
    };
    found.into_iter().flatten().map(row).chain(why)
}

fn row(guard: fjall::Guard) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let (key, value) = guard.into_inner()?;
    Ok((key.to_vec(), value.to_vec()))
}

fn open(path: &Path) -> Result<Database, StoreError> {
    let until = Instant::now() + LOCK_WAIT;
    let opened = loop {
        match Database::builder(path).cache_size(CACHE_BYTES).worker_threads(1).open() {
            // The process before this one has left the journal, and is about to end; or a read of this one is.
            Err(fjall::Error::Locked) if Instant::now() < until => std::thread::sleep(LOCK_LOOK),
            opened => break opened,
        }
    };
    opened.map_err(|error| StoreError::Broken(format!("{}: {error}", path.display())))
}

impl Open {
    pub(super) fn at(path: &Path) -> Result<Open, StoreError> {
        // Doses by party are for nobody else on the machine.
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        Ok(Open {
            path: path.to_owned(),
            database: RwLock::new(Some(open(path)?)),
            tables: Mutex::default(),
            stopped: AtomicBool::new(false),
            anew: AtomicU64::new(0),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn database(&self) -> Result<Database, StoreError> {
        self.database.read().clone().ok_or_else(away)
    }

    /// A table, made if it is not there; the same for whoever asks for the same name.
    pub(super) fn table(&self, name: &str) -> Result<Table, StoreError> {
        let mut tables = self.tables.lock();
        if let Some(table) = tables.iter().find(|table| table.0.name == name) {
            return Ok(table.clone());
        }
        let keyspace = self.database()?.keyspace(name, KeyspaceCreateOptions::default)?;
        let keyspace = RwLock::new(Some(keyspace));
        let table = Table(Arc::new(Named { name: name.to_owned(), number: tables.len() as u64, keyspace }));
        tables.push(table.clone());
        Ok(table)
    }

    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.database()?.list_keyspace_names().into_iter().map(|name| name.to_string()).collect())
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.database().ok().and_then(|database| database.disk_space().ok()).unwrap_or(0)
    }

    /// What the database says no to; some of it is for good.
    fn note(&self, error: fjall::Error) -> StoreError {
        if matches!(error, fjall::Error::Poisoned) {
            self.stopped.store(true, Relaxed);
        }
        error.into()
    }

    pub(super) fn commit(&self, change: Change) -> Result<(), StoreError> {
        let mut batch = self.database()?.batch();
        for ((_, key), Row { table, value }) in change.rows {
            match value {
                Some(value) => batch.insert(&table.keyspace()?, key, value),
                None => batch.remove(&table.keyspace()?, key),
            }
        }
        batch.commit().map_err(|error| self.note(error))
    }

    /// Writes the cursor and syncs everything before it.
    pub(super) fn persist(&self, meta: &Table, at: At) -> Result<(), StoreError> {
        meta.keyspace()?.insert(CURSOR, at.bytes()).map_err(|error| self.note(error))?;
        self.sync()
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.database()?.persist(PersistMode::SyncAll).map_err(|error| self.note(error))
    }

    /// Whether only opening it anew helps.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.load(Relaxed) || self.database.read().is_none()
    }

    pub(super) fn opened_anew(&self) -> u64 {
        self.anew.load(Relaxed)
    }

    #[cfg(test)]
    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// Opens the database anew, once there is room for it. What was not synced may be gone: the cursor in it says how far it is.
    pub(super) fn open_anew(&self) -> Result<(), StoreError> {
        self.room()?;
        let tables = self.tables.lock();
        tables.iter().for_each(|table| *table.0.keyspace.write() = None);
        // The last handle of it, but for reads that are under way: then it lets go of its lock.
        *self.database.write() = None;
        let database = open(&self.path)?;
        for table in &*tables {
            let keyspace = database.keyspace(&table.0.name, KeyspaceCreateOptions::default)?;
            *table.0.keyspace.write() = Some(keyspace);
        }
        *self.database.write() = Some(database);
        self.stopped.store(false, Relaxed);
        self.anew.fetch_add(1, Relaxed);
        Ok(())
    }

    fn room(&self) -> Result<(), StoreError> {
        let path = self.path.join(ROOM);
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&vec![0; ROOM_BYTES])?;
            file.sync_all()
        });
        let _ = fs::remove_file(&path);
        written.map_err(|error| StoreError::Broken(format!("there is no room to open the database anew: {error}")))
    }
}
