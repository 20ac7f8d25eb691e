//! Where a cell's files lie: a trait, so that the journal can be run against a disk that fails on purpose.
//!
//! What the journal asks of a disk, and all it may rely on: bytes are durable when [`StorageFile::sync`] has returned
//! `Ok`; a name is durable when [`Storage::sync_dir`] has; before that a crash may keep any part of either. A rename is all or
//! nothing.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::stand_still;

/// A directory of files. Names are relative to it and use `/`, at most one deep: `epoch`, `journal/0000000001.seg`.
pub trait Storage: Send + Sync + fmt::Debug {
    /// The place, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// The names in `dir` (`""` for the directory itself), in no order. An absent directory is an error of kind `NotFound`.
    ///
    /// # Errors
    /// What the operating system said.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes `dir` and what is above it, if it is not there.
    ///
    /// # Errors
    /// What the operating system said.
    fn create_dir(&self, dir: &str) -> io::Result<()>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// What the operating system said; `NotFound` if it is not there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;

    /// Makes a new, empty file, readable by its owner only.
    ///
    /// # Errors
    /// What the operating system said; `AlreadyExists` if it is there.
    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;

    /// Gives a file another name, over whatever had it.
    ///
    /// # Errors
    /// What the operating system said.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system said.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names in `dir` are durable when this returns `Ok`.
    ///
    /// # Errors
    /// What the operating system said.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Takes the single-owner lock, the file `LOCK`; it goes with the value. An error of kind `WouldBlock` means that another
    /// has it.
    ///
    /// # Errors
    /// `WouldBlock`, or what the operating system said.
    fn lock(&self) -> io::Result<Box<dyn fmt::Debug + Send + Sync>>;

    /// The whole of a file.
    ///
    /// # Errors
    /// What the operating system said.
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(name, &mut bytes)?;
        Ok(bytes)
    }

    /// The whole of a file in place of what `bytes` held.
    ///
    /// # Errors
    /// What the operating system said; `bytes` may hold anything then.
    fn read_into(&self, name: &str, bytes: &mut Vec<u8>) -> io::Result<()> {
        let file = self.open(name)?;
        let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
        bytes.resize(len, 0);
        file.read_exact_at(0, bytes)
    }

    /// The file is there with all these bytes, or as it was before.
    ///
    /// # Errors
    /// What the operating system said.
    fn write_whole(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = format!("{name}.new");
        match self.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.create(&new)?;
        file.write_all_at(0, bytes)?;
        file.sync()?;
        self.rename(&new, name)?;
        self.sync_dir(name.rsplit_once('/').map_or("", |(dir, _)| dir))
    }
}

/// An open file.
pub trait StorageFile: Send + Sync + fmt::Debug {
    /// Writes all of `bytes` at `at`, growing the file if need be.
    ///
    /// # Errors
    /// What the operating system said; any part of the bytes may be there then.
    fn write_all_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads up to `bytes.len()` bytes from `at`; 0 at the end.
    ///
    /// # Errors
    /// What the operating system said.
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// What was written is durable when this returns `Ok`. After an error nothing is known about what was
    /// written since the last success, and no later success proves anything.
    ///
    /// # Errors
    /// What the operating system said.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file off behind so many bytes, and gives back what they took. Durable as a write is.
    ///
    /// # Errors
    /// What the operating system said.
    fn shrink(&self, to: u64) -> io::Result<()>;

    /// How long the file is.
    ///
    /// # Errors
    /// What the operating system said.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// What the operating system said.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Fills `bytes` from `at`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends first, or what the operating system said.
    fn read_exact_at(&self, mut at: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.read_at(at, bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => {
                    bytes = &mut bytes[len..];
                    at += len as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A real directory.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    power_cut: bool,
    /// Where each sync of a file reads how many milliseconds longer it is to take.
    slow_syncs: Option<Arc<Path>>,
    /// Files are opened for reading only: it may be a medium, or belong to somebody, that lets no one write.
    read_only: bool,
}

impl Disk {
    /// The directory `root`; nothing is made or looked at yet. With `power_cut`, what is written stays in this process until
    /// it is synced, so that killing the process loses exactly what a power cut could.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, power_cut: bool) -> Self {
        Self { root: root.into(), power_cut, slow_syncs: None, read_only: false }
    }

    /// The same, as slow as a file says: each sync takes so many milliseconds longer as stand in it, as text. Without the file,
    /// or a number in it, none.
    #[must_use]
    pub fn as_slow_as(mut self, file: Option<&Path>) -> Self {
        self.slow_syncs = file.map(Arc::from);
        self
    }

    /// The directory `root`, of which nothing is ever written: a write to a file of it is an error.
    #[must_use]
    pub fn read_only(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), power_cut: false, slow_syncs: None, read_only: true }
    }

    fn handle(&self, file: File) -> Arc<dyn StorageFile> {
        let unsynced = self.power_cut.then(Mutex::default);
        Arc::new(DiskFile { file, unsynced, slow_syncs: self.slow_syncs.clone() })
    }
}

impl Storage for Disk {
    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        fs::read_dir(self.path(dir))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let path = self.path(dir);
        if self.read_only {
            return path.read_dir().map(drop);
        }
        let made = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).count();
        fs::create_dir_all(&path)?;
        // The name of the directory itself, and of each above it that was made with it.
        let path = path.canonicalize()?;
        path.ancestors().skip(1).take(made.max(1)).try_for_each(|above| File::open(above)?.sync_all())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(!self.read_only).open(self.path(name))?;
        Ok(self.handle(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path(name))?;
        Ok(self.handle(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all()
    }

    fn lock(&self) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        let mut options = OpenOptions::new();
        if self.read_only {
            options.read(true);
        } else {
            options.create(true).truncate(false).write(true);
        }
        let file = match options.open(self.path("LOCK")) {
            // Whoever owns a directory has made the file: a copy without it is nobody's.
            Err(error) if self.read_only && error.kind() == io::ErrorKind::NotFound => return Ok(Box::new(())),
            file => file?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(name))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Writes in order: where, and what.
type Unsynced = Vec<(u64, Vec<u8>)>;

/// A file, and with a power cut rehearsed what was written to it and not yet synced. Reads see what is synced: the
/// journal reads nothing back that it has not synced.
#[derive(Debug)]
struct DiskFile {
    file: File,
    unsynced: Option<Mutex<Unsynced>>,
    slow_syncs: Option<Arc<Path>>,
}

impl StorageFile for DiskFile {
    fn write_all_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match &self.unsynced {
            Some(unsynced) => unsynced.lock().push((at, bytes.to_vec())),
            None => self.file.write_all_at(bytes, at)?,
        }
        Ok(())
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(unsynced) = &self.unsynced {
            for (at, bytes) in unsynced.lock().drain(..) {
                self.file.write_all_at(&bytes, at)?;
            }
        }
        if let Some(file) = &self.slow_syncs {
            let ms = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            stand_still(Duration::from_millis(ms));
        }
        // Also the length, where it changed; no more than that.
        self.file.sync_data()
    }

    fn shrink(&self, to: u64) -> io::Result<()> {
        self.file.set_len(to)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}
