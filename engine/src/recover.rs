//! A data directory rebuilt from Redis alone, for a machine that is lost with its disk.
//!
//! The next epoch is taken in Redis before anything is read, so that an old owner that is not dead after all is refused
//! from then on and stops. Everything is checked by checksum and chain; what cannot be used ends the recovery. A recovery
//! that is interrupted leaves a directory that nothing serves from: it is removed by hand and begun again.
//!
//! Not in Redis, and so not rebuilt: what was acknowledged and not yet shipped, and the key of the booking codes.
// rule: FNC-6 a recovery takes the next epoch in Redis before it reads, and writes only into an empty directory

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{CellId, Epoch, Seq};
use crate::journal::directory::{self, CodeKey, Directory, OpenError, RECOVERING};
use crate::journal::frame::{Frame, Link};
use crate::journal::lock::Lock;
use crate::journal::segment::{self, FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentFile, SegmentHeader};
use crate::journal::snapshot::{self as snapshot_file, SnapshotReader};
use crate::journal::storage::{Disk, Storage};
use crate::journal::stream::{Head, Stream, StreamError, Whole};
use crate::snapshot;

/// Frames asked for at once.
const FRAMES_AT_ONCE: usize = 64;

/// What a recovery is told.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The directory to make; absent or empty.
    pub dir: PathBuf,
    /// Which cell it is of.
    pub cell: CellId,
    /// Bytes per segment, as in [`crate::JournalConfig::segment_bytes`].
    pub segment_bytes: u64,
    /// The key of the booking codes; a new one if absent, under which no code given out so far is valid.
    pub code_key: Option<CodeKey>,
}

/// What a recovery came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoverReport {
    /// The epoch it took in Redis: older owners are refused.
    pub epoch: Epoch,
    /// The snapshot it brought.
    pub snapshot: Option<Seq>,
    /// Snapshots in Redis that were passed over, and why.
    pub snapshots_damaged: Vec<(Seq, String)>,
    /// The stream went from the entry behind this one.
    pub base: Seq,
    /// To this one: the newest that Redis has.
    pub last: Seq,
    /// Frames of the stream.
    pub frames: u64,
    /// Bytes of those and of the snapshot.
    pub bytes: u64,
}

/// How far a recovery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The epoch is taken: an older owner is refused from here on.
    Fenced {
        /// The epoch.
        epoch: Epoch,
    },
    /// So many pieces of a snapshot are there.
    Snapshot {
        /// Where it begins.
        s0: Seq,
        /// Pieces that are here.
        pieces: u64,
        /// Of so many.
        of: u64,
    },
    /// The journal is there up to this entry.
    Journal {
        /// The entry.
        seq: Seq,
        /// Of so many.
        of: Seq,
    },
}

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The directory is not there to be filled.
    #[error("{} is not empty: a recovery makes a new directory", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// Nothing was ever shipped to these keys, or it was all lost.
    #[error("Redis holds no entry of a journal under this prefix: there is nothing to recover")]
    Nothing,
    /// What Redis holds is not what was shipped.
    #[error("what Redis holds cannot be used: {0}")]
    Damaged(String),
    /// Redis.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The operating system.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// Rebuilds a directory. Only for who knows that the old owner is dead, or wants it stopped: it is refused by Redis from here
/// on, and stops when it sees that.
///
/// # Errors
/// Why there is no directory to serve from. The epoch may have been taken all the same.
pub fn recover(
    stream: &mut dyn Stream,
    recovery: &Recovery,
    progress: &mut dyn FnMut(Progress),
) -> Result<RecoverReport, RecoverError> {
    let storage: Arc<dyn Storage> = Arc::new(Disk::new(&recovery.dir, false));
    recover_into(stream, &storage, recovery, progress)
}

pub(crate) fn recover_into(
    stream: &mut dyn Stream,
    storage: &Arc<dyn Storage>,
    recovery: &Recovery,
    progress: &mut dyn FnMut(Progress),
) -> Result<RecoverReport, RecoverError> {
    let io = |error| RecoverError::Io { path: storage.path(""), error };
    let empty = || match storage.list("") {
        Ok(names) if names.iter().all(|name| ["LOCK", "lost+found"].contains(&name.as_str())) => Ok(()),
        Ok(_) => Err(RecoverError::NotEmpty { dir: storage.path("") }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(error)),
    };
    // Another's directory is not even locked; and looked at again under the lock, so that of two recoveries into one the second
    // finds it taken.
    empty()?;
    storage.create_dir("").map_err(io)?;
    let lock = Lock::take(&**storage, Duration::ZERO)?;
    empty()?;
    let found = stream.head()?;
    // Before the epoch is taken: an owner that lives and has shipped nothing is not to be fenced for nothing.
    if found.last == Seq(0) {
        return Err(RecoverError::Nothing);
    }
    let next =
        found.epoch.0.checked_add(1).ok_or_else(|| RecoverError::Damaged("its epoch is past every one".to_owned()));
    let epoch = Epoch(next?);
    let head = stream.take(epoch)?;
    progress(Progress::Fenced { epoch });
    if let Some(damaged) = head.damaged {
        return Err(RecoverError::Damaged(damaged));
    }
    if head.last == Seq(0) {
        return Err(RecoverError::Nothing);
    }
    storage.write_whole(RECOVERING, b"").map_err(io)?;
    storage.create_dir(segment::DIR).map_err(io)?;
    let mut report = RecoverReport { epoch, base: head.base, ..RecoverReport::default() };
    bring_snapshot(stream, storage, recovery.cell, &head, &mut report, progress)?;
    bring_journal(stream, &**storage, recovery, &head, &mut report, progress)?;
    directory::prepare(&**storage, recovery.cell, epoch, recovery.code_key).map_err(io)?;
    storage.remove(RECOVERING).and_then(|()| storage.sync_dir("")).map_err(io)?;
    // From here on it is a directory.
    drop(lock);
    Directory::open(Arc::clone(storage), recovery.cell, Duration::ZERO)?;
    Ok(report)
}

/// The newest snapshot that is whole and that the stream goes on from.
fn bring_snapshot(
    stream: &mut dyn Stream,
    storage: &Arc<dyn Storage>,
    cell: CellId,
    head: &Head,
    report: &mut RecoverReport,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), RecoverError> {
    for whole in head.snapshots.iter().filter(|whole| whole.s0 >= head.base && whole.s1 <= head.last) {
        match bring_pieces(stream, storage, cell, whole, progress)? {
            Ok(bytes) => {
                report.snapshot = Some(whole.s0);
                report.bytes += bytes;
                return Ok(());
            }
            Err(why) => report.snapshots_damaged.push((whole.s0, why)),
        }
    }
    if head.base == Seq(0) {
        return Ok(());
    }
    let mut why = format!("the stream begins behind entry {}, and no snapshot there can be used", head.base);
    if head.snapshots.iter().any(|whole| whole.s1 > head.last) {
        why += ": the newest one needs more of the stream than there is";
    }
    for (s0, damage) in &report.snapshots_damaged {
        why += &format!("; the one at {s0}: {damage}");
    }
    Err(RecoverError::Damaged(why))
}

/// The inner error is what is wrong with the snapshot.
fn bring_pieces(
    stream: &mut dyn Stream,
    storage: &Arc<dyn Storage>,
    cell: CellId,
    whole: &Whole,
    progress: &mut dyn FnMut(Progress),
) -> Result<Result<u64, String>, RecoverError> {
    let name = snapshot_file::name(whole.s0);
    let new = format!("{name}.new");
    let io = |error| RecoverError::Io { path: storage.path(&new), error };
    storage.create_dir(snapshot_file::DIR).map_err(io)?;
    snapshot_file::remove_unfinished(&**storage).map_err(io)?;
    let file = storage.create(&new).map_err(io)?;
    let mut at = 0;
    for number in 0..whole.pieces {
        let Some(piece) = stream.piece(whole.s0, number)? else {
            return Ok(Err(format!("piece {number} is missing")));
        };
        file.write_all_at(at, &piece).map_err(io)?;
        at += piece.len() as u64;
        progress(Progress::Snapshot { s0: whole.s0, pieces: number + 1, of: whole.pieces });
    }
    file.sync().map_err(io)?;
    let checked = SnapshotReader::open(&**storage, &new, cell).and_then(|reader| snapshot::check(&reader));
    match checked {
        Ok(totals) if totals.s1 == whole.s1 => {}
        Ok(totals) => return Ok(Err(format!("it needs the log up to {}, not {}", totals.s1, whole.s1))),
        Err(error) => return Ok(Err(error.to_string())),
    }
    storage.rename(&new, &name).and_then(|()| storage.sync_dir(snapshot_file::DIR)).map_err(io)?;
    Ok(Ok(at))
}

/// The frames of the stream in segments of their own.
fn bring_journal(
    stream: &mut dyn Stream,
    storage: &dyn Storage,
    recovery: &Recovery,
    head: &Head,
    report: &mut RecoverReport,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), RecoverError> {
    let mut log = Log { storage, recovery, segment: None, index: 0, at: 0, epoch: Epoch(0) };
    let (mut last, mut link) = (head.base, None);
    while last < head.last {
        let frames = stream.frames(last, FRAMES_AT_ONCE)?;
        if frames.is_empty() {
            return Err(RecoverError::Damaged(format!("the stream ends at entry {last}, not {}", head.last)));
        }
        for bytes in frames {
            let wrong = |what: &str| RecoverError::Damaged(format!("the frame behind entry {last}: {what}"));
            let frame = Frame::read(&bytes).map_err(|error| wrong(&error.to_string()))?;
            let header = frame.header;
            if header.first != last.next() || link.is_some_and(|link| link != header.previous) {
                return Err(wrong("another one is there"));
            }
            if header.epoch < log.epoch || frame.bytes.len() != bytes.len() {
                return Err(wrong("it is of an older epoch, or has bytes behind it"));
            }
            log.write(&frame)?;
            (last, link) = (header.last(), Some(frame.link));
            report.frames += 1;
            report.bytes += bytes.len() as u64;
        }
        progress(Progress::Journal { seq: last, of: head.last });
    }
    if let (None, Some(link)) = (link, head.link) {
        // The snapshot has it all. What follows is chained to the frame that the head names, and only a segment says which.
        log.begin(last.next(), link, report.epoch, 0)?;
    }
    log.close()?;
    if last != head.last || (link.is_some() && link != head.link) {
        return Err(RecoverError::Damaged(format!("the stream ends with another frame than its head says, at {last}")));
    }
    report.last = last;
    Ok(())
}

/// Segments being written, each synced when it is full.
struct Log<'a> {
    storage: &'a dyn Storage,
    recovery: &'a Recovery,
    segment: Option<SegmentFile>,
    index: u64,
    at: u64,
    epoch: Epoch,
}

impl Log<'_> {
    fn write(&mut self, frame: &Frame<'_>) -> Result<(), RecoverError> {
        let len = frame.bytes.len() as u64;
        let full = self.segment.as_ref().is_none_or(|segment| self.at + len > segment.bytes);
        if full || frame.header.epoch != self.epoch {
            self.begin(frame.header.first, frame.header.previous, frame.header.epoch, len)?;
        }
        let path = self.storage.path(&segment::name(self.index));
        let segment = self.segment.as_ref().expect("one was begun");
        segment.write(self.at, frame.bytes).map_err(|error| RecoverError::Io { path, error })?;
        self.at += len;
        Ok(())
    }

    fn begin(&mut self, first: Seq, previous: Link, epoch: Epoch, len: u64) -> Result<(), RecoverError> {
        self.close()?;
        self.index += 1;
        self.epoch = epoch;
        let path = self.storage.path(&segment::name(self.index));
        // A frame of a server with larger segments has one of its own size.
        let needed = (SEGMENT_HEADER_BYTES as u64 + len).next_multiple_of(segment::PAGE_BYTES);
        let segment_bytes = self.recovery.segment_bytes.max(needed);
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            cell: self.recovery.cell,
            index: self.index,
            epoch,
            segment_bytes,
            first,
            previous,
        };
        let made = SegmentFile::create(self.storage, self.index, segment_bytes, &mut || Ok(())).and_then(|segment| {
            segment.write(0, &header.to_bytes())?;
            Ok(segment)
        });
        self.segment = Some(made.map_err(|error| RecoverError::Io { path, error })?);
        self.at = SEGMENT_HEADER_BYTES as u64;
        Ok(())
    }

    fn close(&mut self) -> Result<(), RecoverError> {
        let path = self.storage.path(&segment::name(self.index));
        self.segment.take().map_or(Ok(()), |segment| segment.sync()).map_err(|error| RecoverError::Io { path, error })
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests;
