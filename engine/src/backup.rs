//! A data directory copied while a server may be writing to it, and put back elsewhere.
//!
//! What makes a copy of a living log honest: segments are only ever appended to, and a segment is begun when the one before
//! is full and durable; snapshots never change once they have their name. So the newest snapshot, the segments from its S0 on as
//! they stood when the list of them was read, and of the last one its whole frames, are a state that a crash could have left, and hold
//! everything that was acknowledged before the copy began. What is trimmed away under the copy makes it begin again.
//!
//! The lock is not taken, nothing of the source is written. A copy is judged by every rule before it is called one, from the files
//! that were written. A restore that is interrupted leaves a directory that nothing serves from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{CellId, Epoch, Seq};
use crate::journal::directory::{self, JournalFiles, OpenError};
use crate::journal::frame::Frame;
use crate::journal::reader::{self, Torn};
use crate::journal::segment::{self, SEGMENT_HEADER_BYTES, SegmentHeader, fill_with_zeros};
use crate::journal::snapshot;
use crate::journal::storage::{Disk, Storage};
use crate::verify::Finding;
use crate::verify::directory::{self as judging, Report, each_record, verify};

/// How often a copy begins again because something was trimmed under it.
const ATTEMPTS: u32 = 10;
/// How often the end of the growing segment is read again before it is left to the reader to tell a tear from damage.
const LOOKS: u32 = 20;
const COPY_BYTES: usize = 1 << 20;
/// A restored copy takes epochs from this many behind the newest it knows, so that it never takes one that the original took
/// after the backup: stream and log would not tell the two apart.
pub const EPOCHS_SKIPPED: u32 = 1000;
/// The file with the key behind booking codes, in a data directory and in a copy that was asked to have it.
pub const CODE_KEY: &str = directory::CODE_KEY;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Something that cannot be read, or damage.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The operating system said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The copy was trimmed away again and again while it was made.
    #[error("what was being copied was trimmed {ATTEMPTS} times; take the backup between two snapshots")]
    Restless,
    /// The copy breaks a rule: so does its source.
    #[error("the copy breaks {} at entry {}: {}", .0.rule, .0.seq, .0.detail)]
    Broken(Finding),
    /// The target is not empty.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Whose it is.
    pub cell: CellId,
    /// The newest epoch taken.
    pub epoch: Epoch,
    /// The snapshot it has.
    pub snapshot: Option<Seq>,
    /// Newer snapshots that are damaged and were left out: the path in the source and what is wrong.
    pub snapshots_damaged: Vec<(PathBuf, String)>,
    /// The files, relative to the directory.
    pub files: Vec<String>,
    /// What judging it came to.
    pub report: Report,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Files are being copied.
    Copying {
        /// So many bytes are.
        bytes: u64,
        /// Of so many that there were when it began.
        of: u64,
    },
    /// The copy is being judged.
    Judging(judging::Progress),
}

/// Counts the bytes that are copied.
struct Count<'a> {
    bytes: u64,
    of: u64,
    on_progress: &'a mut dyn FnMut(Progress),
}

impl Count<'_> {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        (self.on_progress)(Progress::Copying { bytes: self.bytes.min(self.of), of: self.of });
    }
}

fn io_at(storage: &dyn Storage, name: &str) -> impl Fn(io::Error) -> CopyError + use<> {
    let path = storage.path(name);
    move |error| CopyError::Io { path: path.clone(), error }
}

/// Copies a data directory into an empty one, durably, and judges the copy. Of the code key the copy has the check value, and
/// only if it is asked for also the key.
///
/// # Errors
/// Why there is none; what is in `into` is then worth nothing.
pub fn copy(
    source: &Path,
    into: &Path,
    with_code_key: bool,
    idempotency_window: Duration,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Copied, CopyError> {
    let files = JournalFiles::open_beside(source)?;
    let to: Arc<dyn Storage> = Arc::new(Disk::new(into, false));
    empty(&*to)?;
    let mut copied = Copy::of(&files, &to, on_progress)?;
    if with_code_key {
        if !copy_file(&**files.storage(), CODE_KEY, &*to, &mut |_| {})? {
            return Err(io_at(&**files.storage(), CODE_KEY)(io::ErrorKind::NotFound.into()));
        }
        directory::check_code_key(&*to)?;
        to.sync_dir("").map_err(io_at(&*to, ""))?;
        copied.files.push(CODE_KEY.to_owned());
    }
    copied.judge(&files, &to, idempotency_window, on_progress)
}

/// A file system's own directory is nobody's file.
fn empty(to: &dyn Storage) -> Result<(), CopyError> {
    match to.list("") {
        Ok(names) if names.iter().all(|name| name == "lost+found") => Ok(()),
        Ok(_) => Err(CopyError::NotEmpty(to.path(""))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_at(to, "")(error)),
    }
}

/// Files that belong together, copied and not judged yet.
struct Copy {
    files: Vec<String>,
    snapshot: Option<Seq>,
    damaged: Vec<(PathBuf, String)>,
}

impl Copy {
    /// Begins again for as long as something is trimmed before it is copied.
    fn of(
        files: &JournalFiles,
        to: &Arc<dyn Storage>,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Copy, CopyError> {
        for _ in 0..ATTEMPTS {
            let mut count = Count { bytes: 0, of: files.log_bytes().unwrap_or_default(), on_progress };
            if let Some(copied) = Copy::attempt(files, &**to, &mut count)? {
                return Ok(copied);
            }
            for dir in [segment::DIR, snapshot::DIR] {
                for name in to.list(dir).unwrap_or_default() {
                    let name = format!("{dir}/{name}");
                    to.remove(&name).map_err(io_at(&**to, &name))?;
                }
            }
        }
        Err(CopyError::Restless)
    }

    /// The files of one consistent state; `None` if something was trimmed before it was copied.
    fn attempt(files: &JournalFiles, to: &dyn Storage, count: &mut Count<'_>) -> Result<Option<Copy>, CopyError> {
        let from = &**files.storage();
        let mut names = Vec::new();
        let (mut newest, mut damaged) = (None, Vec::new());
        for s0 in files.snapshots()? {
            let looked = files.snapshot(s0).and_then(|reader| {
                each_record(&reader, &mut |_| Ok(()))?;
                Ok(reader.bytes())
            });
            match looked {
                Ok(bytes) => {
                    newest = Some(s0);
                    count.of += bytes;
                    break;
                }
                // Trimmed while it was read.
                Err(_) if is_gone(from, &snapshot::name(s0)) => return Ok(None),
                Err(error) => damaged.push((files.snapshot_path(s0), error.to_string())),
            }
        }
        for dir in ["", segment::DIR, snapshot::DIR] {
            to.create_dir(dir).map_err(io_at(to, dir))?;
        }
        if let Some(s0) = newest {
            let name = snapshot::name(s0);
            if !copy_file(from, &name, to, &mut |bytes| count.add(bytes))? {
                return Ok(None);
            }
            names.push(name);
        }
        let Some(used) = used_segments(from)? else { return Ok(None) };
        let needed = newest.unwrap_or_default().next();
        let begin = used.iter().rposition(|(_, header)| header.first <= needed);
        let Some(begin) = begin.or(used.is_empty().then_some(0)) else {
            // Trimmed behind a newer snapshot than the one copied, or there is no whole one: the next look tells.
            return if files.snapshots()?.first().copied() == newest {
                let what = "the log begins here, and no whole snapshot says what was before".to_owned();
                Err(OpenError::Replay { seq: files.log_start()?.next(), what }.into())
            } else {
                Ok(None)
            };
        };
        let needed = used.get(begin..).unwrap_or_default();
        for (at, (name, _)) in needed.iter().enumerate() {
            let copied = if at + 1 == needed.len() {
                copy_growing(from, name, to)?
            } else {
                copy_file(from, name, to, &mut |bytes| count.add(bytes))?
            };
            if !copied {
                return Ok(None);
            }
            names.push(name.clone());
        }
        // After the log: no older epoch than its newest frame's.
        for name in [directory::EPOCH, directory::META] {
            if copy_file(from, name, to, &mut |_| {})? {
                names.push(name.to_owned());
            }
        }
        for dir in [segment::DIR, snapshot::DIR, ""] {
            to.sync_dir(dir).map_err(io_at(to, dir))?;
        }
        Ok(Some(Copy { files: names, snapshot: newest, damaged }))
    }

    fn judge(
        self,
        source: &JournalFiles,
        to: &Arc<dyn Storage>,
        idempotency_window: Duration,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Copied, CopyError> {
        let cell = source.cell();
        let files = JournalFiles::of(Arc::clone(to), cell);
        let mut report = judged(&files, idempotency_window, on_progress)?;
        if let Some((path, offset)) = report.torn.take() {
            // The source is at rest after a crash: its next start would cut this too.
            let name = path.file_name().map(|name| format!("{}/{}", segment::DIR, name.to_string_lossy()));
            directory::cut(&**to, &Torn { name: name.unwrap_or_default(), offset })?;
        }
        let epoch = Epoch(report.epoch.0.max(directory::epoch_taken(&**to)?.0));
        let Copy { files, snapshot, damaged } = self;
        Ok(Copied { cell, epoch, snapshot, snapshots_damaged: damaged, files, report })
    }
}

/// The report if every rule held.
fn judged(
    files: &JournalFiles,
    idempotency_window: Duration,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Report, CopyError> {
    let report = verify(files, idempotency_window, &mut |progress| on_progress(Progress::Judging(progress)))?;
    match report.findings.first() {
        None => Ok(report),
        Some(finding) => Err(CopyError::Broken(finding.clone())),
    }
}

/// The segments in use, in order; `None` if one was trimmed between the look at their names and the look into it, for what
/// lies behind it must not pass for the end of the log.
fn used_segments(from: &dyn Storage) -> Result<Option<Vec<(String, SegmentHeader)>>, CopyError> {
    let mut used = Vec::new();
    for (_, name) in reader::segments(from).map_err(OpenError::from)? {
        match reader::header(from, &name).map_err(io_at(from, &name))? {
            Some(header) => used.push((name, header)),
            None if is_gone(from, &name) => return Ok(None),
            // Made ahead, or torn in its first bytes.
            None => break,
        }
    }
    Ok(Some(used))
}

/// Whether a file was trimmed. Its name goes before it is cut shorter: what was read while it had its name is what it held.
fn is_gone(from: &dyn Storage, name: &str) -> bool {
    from.open(name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// False if it is no longer there, or went while it was read.
fn copy_file(
    from: &dyn Storage,
    name: &str,
    to: &dyn Storage,
    on_copied: &mut dyn FnMut(usize),
) -> Result<bool, CopyError> {
    let source = match from.open(name) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io_at(from, name)(error)),
    };
    let _ = to.remove(name);
    let target = to.create(name).map_err(io_at(to, name))?;
    let mut bytes = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let len = source.read_at(at, &mut bytes).map_err(io_at(from, name))?;
        if len == 0 {
            break;
        }
        target.write_all_at(at, &bytes[..len]).map_err(io_at(to, name))?;
        at += len as u64;
        on_copied(len);
    }
    target.sync().map_err(io_at(to, name))?;
    Ok(!is_gone(from, name))
}

/// Copies the whole frames of the segment that is being written.
///
/// A read of it is not of one instant: it may miss a frame and see the one behind. So what lies behind the last whole frame is
/// looked at again; a log that has grown since shows that it was such a read, and nothing but zeros that it was the end.
fn copy_growing(from: &dyn Storage, name: &str, to: &dyn Storage) -> Result<bool, CopyError> {
    let mut ends = None;
    for look in 1..=LOOKS {
        let bytes = match from.read(name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(_) if is_gone(from, name) => return Ok(false),
            Err(error) => return Err(io_at(from, name)(error)),
        };
        if is_gone(from, name) {
            return Ok(false);
        }
        let mut end = SEGMENT_HEADER_BYTES.min(bytes.len());
        while let Ok(frame) = Frame::read(&bytes[end..]) {
            end += frame.bytes.len();
        }
        let clean = bytes[end..].iter().all(|byte| *byte == 0) || ends.is_some_and(|before| before < end);
        if clean || look == LOOKS {
            let _ = to.remove(name);
            let target = to.create(name).map_err(io_at(to, name))?;
            // At rest and not clean: torn or damaged, which the reader tells.
            let whole = if clean { end } else { bytes.len() };
            target
                .write_all_at(0, &bytes[..whole])
                .and_then(|()| fill_with_zeros(&*target, whole as u64, bytes.len() as u64))
                .and_then(|()| target.sync())
                .map_err(io_at(to, name))?;
            return Ok(true);
        }
        ends = Some(end);
        std::thread::yield_now();
    }
    Ok(true)
}

/// Puts a copy into an empty directory, as a data directory that a server can open, and judges it there. `code_key` is the text of
/// its file. The epochs it will take are past any that the original took.
///
/// Two cells that run on from one journal give the same places to different people: whoever calls this has made sure that the
/// original never runs again.
///
/// # Errors
/// Why not; `into` is then empty again. Where even that fails, or the process is killed, nothing serves from it.
pub fn restore(
    copied: &Path,
    into: &Path,
    files: &[String],
    code_key: &[u8],
    idempotency_window: Duration,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Report, CopyError> {
    let copy = JournalFiles::open_beside(copied)?;
    let to: Arc<dyn Storage> = Arc::new(Disk::new(into, false));
    empty(&*to)?;
    let restored = put(&copy, &to, files, code_key, idempotency_window, on_progress);
    if restored.is_err() {
        // What cannot be removed is marked as what it is.
        let _ = clear(into);
    }
    restored
}

fn put(
    copy: &JournalFiles,
    to: &Arc<dyn Storage>,
    files: &[String],
    code_key: &[u8],
    idempotency_window: Duration,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Report, CopyError> {
    let from = &**copy.storage();
    let at = |name: &str| io_at(&**to, name);
    to.create_dir("").and_then(|()| to.write_whole(directory::RECOVERING, b"")).map_err(at(directory::RECOVERING))?;
    for dir in [segment::DIR, snapshot::DIR] {
        to.create_dir(dir).map_err(at(dir))?;
    }
    let mut count = Count { bytes: 0, of: 0, on_progress: &mut *on_progress };
    for name in files {
        count.of += from.open(name).and_then(|file| file.len()).unwrap_or_default();
    }
    for name in files.iter().filter(|name| ![directory::EPOCH, CODE_KEY].contains(&name.as_str())) {
        if !copy_file(from, name, &**to, &mut |bytes| count.add(bytes))? {
            return Err(io_at(from, name)(io::ErrorKind::NotFound.into()));
        }
    }
    to.write_whole(CODE_KEY, code_key).map_err(at(CODE_KEY))?;
    directory::check_code_key(&**to)?;
    let report = judged(&JournalFiles::of(Arc::clone(to), copy.cell()), idempotency_window, on_progress)?;
    let epoch = report.epoch.0.max(directory::epoch_taken(from)?.0).saturating_add(EPOCHS_SKIPPED);
    to.write_whole(directory::EPOCH, directory::epoch_text(Epoch(epoch)).as_bytes()).map_err(at(directory::EPOCH))?;
    for dir in [segment::DIR, snapshot::DIR, ""] {
        to.sync_dir(dir).map_err(at(dir))?;
    }
    // From here on it is a data directory.
    to.remove(directory::RECOVERING).and_then(|()| to.sync_dir("")).map_err(at(directory::RECOVERING))?;
    Ok(report)
}

/// Removes what an attempt has made, the mark that nothing may serve from it last.
fn clear(dir: &Path) -> io::Result<()> {
    let marker = dir.join(directory::RECOVERING);
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == "lost+found") || path == marker {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    fs::remove_file(marker)
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests;
