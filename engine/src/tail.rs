//! The log followed from outside while it grows: the one decoder for whoever works downstream of the journal.
//!
//! A [`LogTail`] reads durable entries in order, from any frame on, and never past the durable watermark: what it has
//! shown no crash undoes. It reads the segment files, not the engine's memory, so however slow its owner is,
//! booking goes on. While it lives, the log is not trimmed past what its owner has [let go](LogTail::let_go).
//!
//! A place in the log names its link too, so that the copy of another history is noticed instead of followed. Nothing
//! here survives a crash: the owner keeps its own place, and begins again from it.
// rule: SNP-2 the log is trimmed behind every reader's cursor

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::Engine;
use crate::error::Failure;
use crate::ids::{Epoch, Seq};
use crate::journal::entry::Entry;
use crate::journal::frame::{Frame, Link};
use crate::journal::storage::Storage;
use crate::journal::tail::{Cursor, TailError};
use crate::journal::watermark::{Ack, Ticket, Watermark};

/// A place between two frames of a log. The default is before every entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPlace {
    /// The newest entry before it.
    pub seq: Seq,
    /// The link of the frame that entry ends.
    pub link: Link,
}

/// Why the log could not be followed. Nothing was skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The log was trimmed past the place. What is left begins at `oldest`.
    #[error("the log begins behind entry {}", .oldest.seq)]
    Trimmed {
        /// Where to go on, if what is lost may be lost.
        oldest: LogPlace,
    },
    /// The place is not one of this log: it belongs to another history.
    #[error("entry {} with link {:016x} does not end a frame of this log", .0.seq, .0.link.0)]
    OtherLog(LogPlace),
    /// The files could not be read now. Worth another attempt, from the same place.
    #[error("{0}")]
    Unreadable(String),
}

impl From<TailError> for FollowError {
    fn from(error: TailError) -> Self {
        match error {
            TailError::Now(why) | TailError::Never(why) => FollowError::Unreadable(why),
        }
    }
}

/// What each living tail still needs.
#[derive(Debug, Default)]
pub(crate) struct Readers(Mutex<Vec<Weak<AtomicU64>>>);

impl Readers {
    fn register(&self, behind: Seq) -> Arc<AtomicU64> {
        let let_go = Arc::new(AtomicU64::new(behind.0));
        self.0.lock().push(Arc::downgrade(&let_go));
        let_go
    }

    /// The smallest entry that some tail has let go; entries behind it are needed. `None` without tails.
    pub(crate) fn needed(&self) -> Option<Seq> {
        let mut readers = self.0.lock();
        readers.retain(|reader| reader.strong_count() > 0);
        // Relaxed: what is let go only grows, and an older figure only keeps more.
        readers.iter().filter_map(Weak::upgrade).map(|let_go| Seq(let_go.load(Relaxed))).min()
    }
}

/// Follows a log. Owned by one thread; dropped, it holds nothing back any more.
#[derive(Debug)]
pub struct LogTail {
    storage: Arc<dyn Storage>,
    marks: Arc<Watermark>,
    let_go: Arc<AtomicU64>,
    /// Opened when there is something to read: a fresh log has no frame to stand behind.
    cursor: Option<Cursor>,
    place: LogPlace,
}

impl Engine {
    /// Follows the log from `from` on; `None` if this engine keeps no log on a disk. From this call on entries behind
    /// `from` are not trimmed.
    #[must_use]
    pub fn tail(&self, from: LogPlace) -> Option<LogTail> {
        let storage = Arc::clone(&self.directory.as_ref()?.storage);
        let let_go = self.readers.register(from.seq);
        Some(LogTail { storage, marks: Arc::clone(&self.marks), let_go, cursor: None, place: from })
    }

    /// The newest durable entry: what every [`LogTail`] can read up to.
    #[must_use]
    pub fn durable(&self) -> Seq {
        self.marks.durable()
    }
}

impl LogTail {
    /// Shows the entries of the next frame, each with its number and the epoch that wrote it. False if everything durable was
    /// shown.
    ///
    /// # Errors
    /// Why not. The tail stands where it stood.
    pub fn next(&mut self, each: &mut dyn FnMut(Seq, Epoch, &Entry)) -> Result<bool, FollowError> {
        let until = self.marks.durable();
        if self.place.seq >= until {
            return Ok(false);
        }
        let cursor = match &mut self.cursor {
            Some(cursor) => cursor,
            none => none.insert(open(&self.storage, self.place)?),
        };
        // A cursor that has failed may stand in a segment that is gone: the next attempt opens another.
        let shipment = match cursor.next(until) {
            Ok(Some(shipment)) => shipment,
            Ok(None) => return Ok(false),
            Err(error) => {
                self.cursor = None;
                return Err(error.into());
            }
        };
        let unreadable = |error| FollowError::Unreadable(format!("entry {}: {error}", self.place.seq.next()));
        let frame = Frame { header: shipment.header, link: shipment.link, bytes: &shipment.bytes };
        let epoch = frame.header.epoch;
        if let Err(error) = frame.entries(|seq, entry| each(seq, epoch, &entry)) {
            // It stands behind the frame already: the next attempt opens another, in front of it.
            self.cursor = None;
            return Err(unreadable(error));
        }
        self.place = LogPlace { seq: frame.header.last(), link: frame.link };
        Ok(true)
    }

    /// Where it stands: behind the last frame it has shown.
    #[must_use]
    pub fn place(&self) -> LogPlace {
        self.place
    }

    /// Entries up to `seq` are not needed any more: the owner has kept what it made of them, and its place. Never goes
    /// back.
    pub fn let_go(&self, seq: Seq) {
        self.let_go.fetch_max(seq.0, Relaxed);
    }

    /// Waits until there is more to read, at most `time`; false if there is not.
    ///
    /// # Errors
    /// The journal has stopped or is closed, and everything durable was shown.
    pub fn wait(&self, time: Duration) -> Result<bool, Failure> {
        Ticket::new(Arc::clone(&self.marks), self.place.seq.next(), Ack::Disk).wait_at_most(time)
    }
}

/// The cursor behind the frame that ends at `place`, which must be this log's.
fn open(storage: &Arc<dyn Storage>, place: LogPlace) -> Result<Cursor, FollowError> {
    let mut cursor = match Cursor::before(Arc::clone(storage), place.seq) {
        Ok(cursor) => cursor,
        Err(error) => {
            let oldest = Cursor::oldest(Arc::clone(storage))?.place();
            if oldest.0 > place.seq {
                return Err(FollowError::Trimmed { oldest: LogPlace { seq: oldest.0, link: oldest.1 } });
            }
            return Err(error.into());
        }
    };
    while cursor.place().0 < place.seq && cursor.next(place.seq)?.is_some() {}
    if cursor.place() == (place.seq, place.link) { Ok(cursor) } else { Err(FollowError::OtherLog(place)) }
}
