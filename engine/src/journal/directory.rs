//! A cell's data directory: its lock, its version, its code key, its segments.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::entry::Entry;
use super::reader::{ReadError, Tail, Torn, read_directory};
use super::segment::sync_directory;
use crate::code::BookingCodes;
use crate::ids::{CellId, Epoch, Seq};

/// The layout this build writes and reads.
const LAYOUT_VERSION: u32 = 1;

/// Why a data directory cannot be used. Nothing was written to it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns it.
    #[error("data directory {} is locked by another process", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// Written by another version.
    #[error("data directory {} has layout {found}, this build reads layout {LAYOUT_VERSION}", dir.display())]
    Version {
        /// The directory.
        dir: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// Another cell's.
    #[error("data directory {} is of cell {found}, not {expected}", dir.display())]
    OtherCell {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: CellId,
    },
    /// Not a data directory, and not empty.
    #[error("{} holds files but is not a berth data directory", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
    },
    /// The operating system said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The journal cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal does not fit the configured limits, or contradicts itself.
    #[error("the journal cannot be replayed: entry {seq}: {what}")]
    Replay {
        /// The entry.
        seq: crate::ids::Seq,
        /// Why.
        what: String,
    },
    /// A limit in the configuration that cannot be.
    #[error("{field}: {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// Why not.
        reason: String,
    },
}

/// An owned data directory. The lock goes with the value.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) journal: PathBuf,
    pub(crate) code_key: [u8; 16],
    _lock: File,
}

impl Directory {
    /// Opens or creates the directory and takes its lock.
    pub(crate) fn open(dir: &Path, cell: CellId) -> Result<Self, OpenError> {
        let existing = check(dir, cell)?;
        fs::create_dir_all(dir).map_err(|error| OpenError::Io { path: dir.to_owned(), error })?;
        let lock = lock(dir)?;
        let journal = dir.join("journal");
        if !existing {
            initialise(dir, &journal, cell).map_err(|error| OpenError::Io { path: dir.to_owned(), error })?;
        }
        let key_path = dir.join("code.key");
        let code_key = read_key(&key_path).map_err(|error| OpenError::Io { path: key_path, error })?;
        Ok(Self { journal, code_key, _lock: lock })
    }
}

impl Directory {
    /// Takes the epoch of a new run: past every one in the journal and every one taken by a start that wrote nothing.
    pub(crate) fn next_epoch(&self, newest: Epoch) -> Result<Epoch, OpenError> {
        let path = self.journal.with_file_name("epoch");
        let io = |error| OpenError::Io { path: path.clone(), error };
        let taken = match fs::read_to_string(&path) {
            Ok(text) => text.trim_end().parse().map_err(|_| io(io::Error::other("not a number")))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(io(error)),
        };
        let epoch = newest.0.max(taken) + 1;
        write_whole(&path, &format!("{epoch}\n")).map_err(io)?;
        Ok(Epoch(epoch))
    }
}

/// Opens an existing data directory for reading, as whatever cell it is, and takes its lock.
pub(crate) fn open_existing(dir: &Path) -> Result<(Directory, CellId), OpenError> {
    let meta = dir.join("berth.meta");
    let text = fs::read_to_string(&meta).map_err(|error| OpenError::Io { path: meta, error })?;
    let cell = text.split_whitespace().find_map(|word| word.strip_prefix("cell=")?.parse().ok()).map(CellId);
    let cell = cell.unwrap_or_default();
    Directory::open(dir, cell).map(|directory| (directory, cell))
}

/// A data directory open for reading its journal, entry by entry, while no server owns it.
#[derive(Debug)]
pub struct JournalFiles {
    directory: Directory,
    cell: CellId,
}

impl JournalFiles {
    /// Takes the directory's lock. Writes nothing.
    ///
    /// # Errors
    /// It is no data directory, another process owns it, or it is of another version.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let (directory, cell) = open_existing(dir)?;
        Ok(Self { directory, cell })
    }

    /// Which cell's it is.
    #[must_use]
    pub fn cell(&self) -> CellId {
        self.cell
    }

    /// Booking numbers to public codes and back.
    #[must_use]
    pub fn codes(&self) -> BookingCodes {
        BookingCodes::new(self.cell, self.directory.code_key)
    }

    /// Calls `each` for every entry in order, with the epoch of its writer. A torn tail is left out.
    ///
    /// # Errors
    /// Damage; `each` may have seen the entries before it.
    pub fn entries(&self, each: &mut dyn FnMut(Seq, Epoch, &Entry)) -> Result<Tail, OpenError> {
        let tail = read_directory(&self.directory.journal, self.cell, &mut |frame| {
            let epoch = frame.header.epoch;
            frame.entries(|seq, entry| each(seq, epoch, &entry))
        })?;
        Ok(tail)
    }
}

/// Whether `dir` is a data directory of this cell (false: absent or empty). Writes nothing.
pub(crate) fn check(dir: &Path, cell: CellId) -> Result<bool, OpenError> {
    let meta = dir.join("berth.meta");
    match fs::read_to_string(&meta) {
        Ok(text) => {
            let mut words = text.split_whitespace();
            let version = words.next().unwrap_or_default().to_owned();
            let found_cell = words.next().unwrap_or_default().to_owned();
            if version != format!("layout={LAYOUT_VERSION}") {
                let found = version.trim_start_matches("layout=").to_owned();
                return Err(OpenError::Version { dir: dir.to_owned(), found });
            }
            if found_cell != format!("cell={cell}") {
                let found = found_cell.trim_start_matches("cell=").to_owned();
                return Err(OpenError::OtherCell { dir: dir.to_owned(), found, expected: cell });
            }
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // `LOCK` alone is what a start leaves that was refused or killed before it wrote anything else.
            let foreign = |name: &std::ffi::OsStr| {
                !["LOCK", "journal", "code.key", "code.key.new", "berth.meta.new", "lost+found"]
                    .iter()
                    .any(|own| name == *own)
            };
            match fs::read_dir(dir) {
                Ok(mut entries) => {
                    if entries.any(|entry| entry.is_ok_and(|entry| foreign(&entry.file_name()))) {
                        return Err(OpenError::Foreign { dir: dir.to_owned() });
                    }
                    Ok(false)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(OpenError::Io { path: dir.to_owned(), error }),
            }
        }
        Err(error) => Err(OpenError::Io { path: meta, error }),
    }
}

/// Takes the single-owner lock of a data directory.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("LOCK");
    let io = |error| OpenError::Io { path: path.clone(), error };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// `berth.meta` comes last: a directory without it was never used. A start killed at any point of this leaves what the
/// next start completes.
fn initialise(dir: &Path, journal: &Path, cell: CellId) -> io::Result<()> {
    fs::create_dir_all(journal)?;
    let key_path = dir.join("code.key");
    if !key_path.exists() {
        let mut key = [0u8; 16];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        write_whole(&key_path, &format!("{:032x}\n", u128::from_be_bytes(key)))?;
    }
    sync_directory(journal)?;
    sync_directory(dir)?;
    write_whole(&dir.join("berth.meta"), &format!("layout={LAYOUT_VERSION} cell={cell}\n"))?;
    // The name of the directory itself.
    let parent = dir.canonicalize()?;
    parent.parent().map_or(Ok(()), sync_directory)
}

/// The file is there with all its text, or not at all. Readable by its owner only.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// The key behind booking codes: outside journal and stream, so that neither gives codes away.
pub(crate) fn read_key(path: &Path) -> io::Result<[u8; 16]> {
    let text = fs::read_to_string(path)?;
    let digits = text.trim_end();
    let key = u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32);
    let key = key.ok_or_else(|| io::Error::other("not 32 hexadecimal digits"))?;
    Ok(key.to_be_bytes())
}

/// Zeroes a segment from the torn frame on and makes that durable, so that no later read can meet it. A
/// segment torn in its very header is removed.
pub(crate) fn cut(torn: &Torn) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: torn.path.clone(), error };
    set_aside(torn).map_err(io)?;
    if torn.offset == 0 {
        return remove(&torn.path);
    }
    let file = OpenOptions::new().write(true).open(&torn.path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let zeros = vec![0u8; 1 << 20];
    let mut at = torn.offset;
    while at < len {
        let chunk = usize::try_from((len - at).min(zeros.len() as u64)).expect("at most a MiB");
        file.write_all_at(&zeros[..chunk], at).map_err(io)?;
        at += chunk as u64;
    }
    file.sync_all().map_err(io)
}

/// Keeps a copy of what is about to be cut, for whoever has to find out what it was. Nothing reads it.
fn set_aside(torn: &Torn) -> io::Result<()> {
    let bytes = fs::read(&torn.path)?;
    let from = usize::try_from(torn.offset).unwrap_or(usize::MAX).min(bytes.len());
    let used = bytes[from..].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let copy = torn.path.with_extension(format!("torn-at-{}", torn.offset));
    let mut file = File::create(copy)?;
    file.write_all(&bytes[from..from + used])?;
    file.sync_all()
}

/// Removes a segment file that holds nothing, and makes that durable.
pub(crate) fn remove(path: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: path.to_owned(), error };
    fs::remove_file(path).map_err(io)?;
    path.parent().map_or(Ok(()), sync_directory).map_err(io)
}
