//! A cell's data directory: its lock, its version, its code key, its segments.

use std::fmt;
use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher24;

use super::entry::Entry;
use super::frame::{Frame, FrameError};
use super::lock::Lock;
use super::reader::{self, FramePlace, Tail, Torn, log_start, read_directory, used_segments};
use super::segment::{self, SEGMENT_HEADER_BYTES, fill_with_zeros};
use super::snapshot::{self, SnapshotError, SnapshotReader};
use super::storage::{Disk, Storage};
use crate::code::BookingCodes;
use crate::ids::{CellId, Epoch, Seq};

pub use self::error::OpenError;

mod error;

/// The layout this build writes and reads.
const LAYOUT_VERSION: u32 = 1;

/// What a data directory says of itself.
pub(crate) const META: &str = "berth.meta";
/// The key behind booking codes: outside journal and stream, so that neither gives codes away.
pub(crate) const CODE_KEY: &str = "code.key";
/// The newest epoch that a start took.
pub(crate) const EPOCH: &str = "epoch";
/// There while a recovery or a restore fills the directory, which is not to be served from then.
pub(crate) const RECOVERING: &str = "recovering";

/// The key behind booking codes, as it lies in `code.key`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CodeKey([u8; 16]);

impl CodeKey {
    /// The key in the text of a `code.key` file; `None` if it is not 32 hexadecimal digits.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let digits = text.trim_end();
        let key = u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32);
        key.map(|key| Self(key.to_be_bytes()))
    }

    fn to_text(self) -> String {
        format!("{:032x}\n", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeKey")
    }
}

/// An owned data directory. The lock goes with the value.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) code_key: [u8; 16],
    cell: CellId,
    /// `berth.meta` is of before it knew the key's check value.
    unchecked: bool,
    lock: Lock,
}

impl Directory {
    /// Opens or creates the directory and takes its lock, for which it waits as long as that.
    pub(crate) fn open(storage: Arc<dyn Storage>, cell: CellId, wait: Duration) -> Result<Self, OpenError> {
        check(&*storage, cell)?;
        let io = |error| OpenError::Io { path: storage.path(""), error };
        storage.create_dir("").map_err(io)?;
        let lock = Lock::take(&*storage, wait)?;
        // Again: whoever was waited for may have made it.
        if !check(&*storage, cell)? {
            initialise(&*storage, cell).map_err(io)?;
        }
        let code_key = read_key(&*storage).map_err(|error| OpenError::Io { path: storage.path(CODE_KEY), error })?;
        let unchecked = !check_key(&*storage, code_key)?;
        Ok(Self { storage, code_key, cell, unchecked, lock })
    }

    /// Gives the lock back before the process ends. Nothing may be written here any more.
    pub(crate) fn leave(&self) {
        self.lock.give_back();
    }

    /// Whether it may be another's by now.
    pub(crate) fn is_left(&self) -> bool {
        self.lock.is_given_back()
    }

    /// The newest epoch that a start has taken; 0 if none has.
    pub(crate) fn epoch_taken(&self) -> Result<Epoch, OpenError> {
        epoch_taken(&*self.storage)
    }

    /// Takes the epoch of a new run: past every one in the journal and every one taken by a start that wrote nothing.
    pub(crate) fn next_epoch(&self, newest: Epoch) -> Result<Epoch, OpenError> {
        let io = |error| OpenError::Io { path: self.storage.path(EPOCH), error };
        let taken = self.epoch_taken()?.0;
        if self.unchecked {
            // Best effort: a full disk must not keep a cell from starting, and the next start tries again.
            let _ = self.storage.write_whole(META, meta(self.cell, self.code_key).as_bytes());
        }
        let epoch = newest.0.max(taken) + 1;
        let text = epoch_text(Epoch(epoch));
        // In place where it can be: a full disk must not keep a cell from starting. Eleven bytes are within one sector.
        match self.storage.open(EPOCH) {
            Ok(file) if file.len().map_err(io)? == text.len() as u64 => {
                file.write_all_at(0, text.as_bytes()).and_then(|()| file.sync()).map_err(io)?;
            }
            _ => self.storage.write_whole(EPOCH, text.as_bytes()).map_err(io)?,
        }
        Ok(Epoch(epoch))
    }
}

/// The newest epoch that a start has taken in this directory; 0 if none has.
pub(crate) fn epoch_taken(storage: &dyn Storage) -> Result<Epoch, OpenError> {
    let io = |error| OpenError::Io { path: storage.path(EPOCH), error };
    match storage.read(EPOCH) {
        Ok(text) => number(&text).map(Epoch).ok_or_else(|| io(io::Error::other("not a number"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Epoch(0)),
        Err(error) => Err(io(error)),
    }
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim_end().parse().ok()
}

/// Opens an existing data directory for reading, as whatever cell it is, and takes its lock, if there is one. Writes nothing: it
/// may lie on a medium that cannot be written to.
pub(crate) fn open_existing(dir: &Path) -> Result<(Directory, CellId), OpenError> {
    let storage = Disk::read_only(dir);
    let cell = cell_of(&storage)?;
    Directory::open(Arc::new(storage), cell, Duration::ZERO).map(|directory| (directory, cell))
}

/// Holds a key against the check value of the directory; false if that has none yet.
fn check_key(storage: &dyn Storage, code_key: [u8; 16]) -> Result<bool, OpenError> {
    let meta = Meta::read(storage).map_err(|error| OpenError::Io { path: storage.path(META), error })?;
    match meta.and_then(|meta| meta.key_check) {
        Some(check) if check != key_check(code_key) => Err(OpenError::CodeKey { path: storage.path(CODE_KEY) }),
        check => Ok(check.is_some()),
    }
}

/// Whether `code.key` is the key that `berth.meta` tells of.
pub(crate) fn check_code_key(storage: &dyn Storage) -> Result<(), OpenError> {
    let key = read_key(storage).map_err(|error| OpenError::Io { path: storage.path(CODE_KEY), error })?;
    check_key(storage, key).map(drop)
}

/// Whose an existing directory is.
fn cell_of(storage: &dyn Storage) -> Result<CellId, OpenError> {
    let io = |error| OpenError::Io { path: storage.path(META), error };
    let meta = Meta::read(storage).map_err(io)?.ok_or_else(|| io(io::ErrorKind::NotFound.into()))?;
    Ok(meta.cell.unwrap_or_default())
}

/// A data directory open for reading its journal, entry by entry, while no server owns it.
#[derive(Debug)]
pub struct JournalFiles {
    storage: Arc<dyn Storage>,
    cell: CellId,
    codes: Option<BookingCodes>,
    _owned: Option<Directory>,
}

impl JournalFiles {
    /// Takes the directory's lock. Writes nothing.
    ///
    /// # Errors
    /// It is no data directory, another process owns it, or it is of another version.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let (directory, cell) = open_existing(dir)?;
        let codes = Some(BookingCodes::new(cell, directory.code_key));
        Ok(Self { storage: Arc::clone(&directory.storage), cell, codes, _owned: Some(directory) })
    }

    /// As [`JournalFiles::open`], without the lock and without the code key: beside a server that may be writing, or in a copy. What
    /// is read may change, grow or be trimmed between two calls.
    ///
    /// # Errors
    /// It is no data directory, or it is of another version.
    pub fn open_beside(dir: &Path) -> Result<Self, OpenError> {
        let storage = Disk::read_only(dir);
        let cell = cell_of(&storage)?;
        check(&storage, cell)?;
        Ok(Self::of(Arc::new(storage), cell))
    }

    /// Of files that the caller knows to be a journal of this cell, whatever else the directory has or lacks.
    pub(crate) fn of(storage: Arc<dyn Storage>, cell: CellId) -> Self {
        Self { storage, cell, codes: None, _owned: None }
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Which cell's it is.
    #[must_use]
    pub fn cell(&self) -> CellId {
        self.cell
    }

    /// Booking numbers to public codes and back; `None` if it was opened without the key.
    #[must_use]
    pub fn codes(&self) -> Option<&BookingCodes> {
        self.codes.as_ref()
    }

    /// Where a file of the directory lies.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.storage.path(name)
    }

    /// The newest entry that was trimmed: the log begins behind it. 0 if the log is whole.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn log_start(&self) -> Result<Seq, OpenError> {
        Ok(log_start(&*self.storage)?)
    }

    /// Bytes of the segments in use.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn log_bytes(&self) -> Result<u64, OpenError> {
        let used = used_segments(&*self.storage)?;
        Ok(used.iter().map(|(_, header)| header.segment_bytes).sum())
    }

    /// Bytes of the segments from the one in which the entry after `from` lies, those made ahead included.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn log_bytes_behind(&self, from: Seq) -> Result<u64, OpenError> {
        Ok(reader::bytes_behind(&*self.storage, from)?)
    }

    /// The snapshots there are, by their S0, newest first.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn snapshots(&self) -> Result<Vec<Seq>, OpenError> {
        let storage = &*self.storage;
        snapshot::list(storage).map_err(|error| OpenError::Io { path: storage.path(snapshot::DIR), error })
    }

    /// Where the snapshot with this S0 lies.
    #[must_use]
    pub fn snapshot_path(&self, s0: Seq) -> PathBuf {
        self.path(&snapshot::name(s0))
    }

    /// Opens the snapshot with this S0.
    ///
    /// # Errors
    /// As [`SnapshotReader::open`].
    pub fn snapshot(&self, s0: Seq) -> Result<SnapshotReader, SnapshotError> {
        SnapshotReader::open(&*self.storage, &snapshot::name(s0), self.cell)
    }

    /// Calls `each` for every checked frame in order, from the segment in which the entry after `from` lies. A torn tail is left
    /// out.
    ///
    /// # Errors
    /// Damage; `each` may have seen the frames before it.
    pub fn frames(
        &self,
        from: Seq,
        each: &mut dyn FnMut(&Frame<'_>) -> Result<(), FrameError>,
    ) -> Result<Tail, OpenError> {
        Ok(read_directory(&*self.storage, self.cell, from, each)?)
    }

    /// Calls `each` for every entry of the log in order, with the epoch of its writer. A torn tail is left out.
    ///
    /// # Errors
    /// Damage; `each` may have seen the entries before it.
    pub fn entries(&self, each: &mut dyn FnMut(Seq, Epoch, &Entry)) -> Result<Tail, OpenError> {
        self.entries_after(self.log_start()?, each)
    }

    /// Calls `each` for every entry behind `from` in order, with the epoch of its writer. A torn tail is left out.
    ///
    /// # Errors
    /// Damage; `each` may have seen the entries before it.
    pub fn entries_after(&self, from: Seq, each: &mut dyn FnMut(Seq, Epoch, &Entry)) -> Result<Tail, OpenError> {
        self.frames(from, &mut |frame| {
            let epoch = frame.header.epoch;
            frame.entries(|seq, entry| {
                if seq > from {
                    each(seq, epoch, &entry);
                }
            })
        })
    }
}

/// Whether this is a data directory of this cell (false: absent or empty). Writes nothing.
pub(crate) fn check(storage: &dyn Storage, cell: CellId) -> Result<bool, OpenError> {
    let dir = || storage.path("");
    if storage.open(RECOVERING).is_ok() {
        return Err(OpenError::Recovering { dir: dir() });
    }
    match storage.read(META) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let mut words = text.split_whitespace();
            let version = words.next().unwrap_or_default().to_owned();
            let found_cell = words.next().unwrap_or_default().to_owned();
            if version != format!("layout={LAYOUT_VERSION}") {
                let found = version.trim_start_matches("layout=").to_owned();
                return Err(OpenError::Version { dir: dir(), found });
            }
            if found_cell != format!("cell={cell}") {
                let found = found_cell.trim_start_matches("cell=").to_owned();
                return Err(OpenError::OtherCell { dir: dir(), found, expected: cell });
            }
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // What a start leaves that was refused or killed before it wrote anything else.
            const OWN: [&str; 6] = ["LOCK", "journal", "code.key", "code.key.new", "berth.meta.new", "lost+found"];
            match storage.list("") {
                Ok(names) if names.iter().any(|name| !OWN.contains(&name.as_str())) => {
                    Err(OpenError::Foreign { dir: dir() })
                }
                Ok(_) => Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(OpenError::Io { path: dir(), error }),
            }
        }
        Err(error) => Err(OpenError::Io { path: storage.path(META), error }),
    }
}

/// `berth.meta` comes last: a directory without it was never used. A start killed at any point of this leaves what the
/// next start completes.
fn initialise(storage: &dyn Storage, cell: CellId) -> io::Result<()> {
    storage.create_dir(segment::DIR)?;
    if storage.open(CODE_KEY).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let mut key = [0u8; 16];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        storage.write_whole(CODE_KEY, CodeKey(key).to_text().as_bytes())?;
    }
    storage.sync_dir(segment::DIR)?;
    storage.sync_dir("")?;
    storage.write_whole(META, meta(cell, read_key(storage)?).as_bytes())
}

/// Makes a directory of what a recovery brought, with the epoch that it took.
pub(crate) fn prepare(storage: &dyn Storage, cell: CellId, epoch: Epoch, key: Option<CodeKey>) -> io::Result<()> {
    if let Some(key) = key {
        storage.write_whole(CODE_KEY, key.to_text().as_bytes())?;
    }
    storage.write_whole(EPOCH, epoch_text(epoch).as_bytes())?;
    initialise(storage, cell)
}

pub(crate) fn epoch_text(epoch: Epoch) -> String {
    format!("{:010}\n", epoch.0)
}

/// What `berth.meta` says beyond its version.
#[derive(Clone, Copy, Debug)]
struct Meta {
    cell: Option<CellId>,
    /// Absent in directories of before it was kept.
    key_check: Option<u64>,
}

impl Meta {
    /// `None` if there is none.
    fn read(storage: &dyn Storage) -> io::Result<Option<Self>> {
        let bytes = match storage.read(META) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&bytes);
        let word = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name));
        let key_check = match word("key=") {
            None => None,
            Some(digits) => Some(u64::from_str_radix(digits, 16).map_err(|_| io::Error::other("key= is no number"))?),
        };
        Ok(Some(Self { cell: word("cell=").and_then(|cell| cell.parse().ok()).map(CellId), key_check }))
    }
}

/// The whole of `berth.meta`. A build that does not know a word behind the second passes over it.
pub(crate) fn meta(cell: CellId, code_key: [u8; 16]) -> String {
    format!("layout={LAYOUT_VERSION} cell={cell} key={:016x}\n", key_check(code_key))
}

/// Tells a key from another and gives nothing of it away: a hash under the key itself.
pub(crate) fn key_check(code_key: [u8; 16]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(&code_key);
    hasher.write(b"berth code key");
    hasher.finish()
}

fn read_key(storage: &dyn Storage) -> io::Result<[u8; 16]> {
    let bytes = storage.read(CODE_KEY)?;
    let key = CodeKey::from_text(&String::from_utf8_lossy(&bytes));
    Ok(key.ok_or_else(|| io::Error::other("not 32 hexadecimal digits"))?.0)
}

/// Zeroes a segment from the torn frame on and makes that durable, so that no later read can meet it.
pub(crate) fn cut(storage: &dyn Storage, torn: &Torn) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: storage.path(&torn.name), error };
    // Best effort: what was torn was never acknowledged, and a full disk must not keep a cell from starting.
    let _ = set_aside(storage, torn);
    let file = storage.open(&torn.name).map_err(io)?;
    let len = file.len().map_err(io)?;
    fill_with_zeros(&*file, torn.offset, len).and_then(|()| file.sync()).map_err(io)
}

/// Makes durable what replay has read, before anything rests on it: a process that was killed between a write and its sync, or
/// whose sync failed, left in the page cache what a power cut would take away. Each frame is synced before the next is
/// written, so that is the newest frame and the header of the segment in use; they are written again, because pages whose
/// sync failed once count as clean.
// rule: JNL-2
pub(crate) fn settle(storage: &dyn Storage, tail: &Tail) -> Result<(), OpenError> {
    let again = |name: &str, offset: u64, bytes: u64| {
        let file = storage.open(name)?;
        let mut same = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        file.read_exact_at(offset, &mut same)?;
        file.write_all_at(offset, &same)?;
        file.sync()
    };
    let used = segment::name(tail.index);
    if tail.index > 0 {
        again(&used, 0, SEGMENT_HEADER_BYTES as u64)
            .map_err(|error| OpenError::Io { path: storage.path(&used), error })?;
    }
    if let Some(FramePlace { name, offset, bytes }) = &tail.newest {
        again(name, *offset, *bytes).map_err(|error| OpenError::Io { path: storage.path(name), error })?;
    }
    // Names too: a directory that this start found may have been made a moment before the crash.
    for dir in ["", segment::DIR, super::snapshot::DIR] {
        match storage.sync_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::Io { path: storage.path(dir), error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Keeps a copy of what is about to be cut, for whoever has to find out what it was. Nothing reads it.
fn set_aside(storage: &dyn Storage, torn: &Torn) -> io::Result<()> {
    let bytes = storage.read(&torn.name)?;
    let from = usize::try_from(torn.offset).unwrap_or(usize::MAX).min(bytes.len());
    let used = bytes[from..].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let stem = torn.name.trim_end_matches(".seg");
    storage.write_whole(&format!("{stem}.torn-at-{}", torn.offset), &bytes[from..from + used])
}

/// Removes a segment file that holds nothing, and makes that durable.
pub(crate) fn remove(storage: &dyn Storage, name: &str) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: storage.path(name), error };
    storage.remove(name).and_then(|()| storage.sync_dir(segment::DIR)).map_err(io)
}
