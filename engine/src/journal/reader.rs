//! Segment files back to frames: what is whole, what is a torn tail, what is damage.
//!
//! The writer syncs each frame before it writes the next, so a crash can tear only the very last one. A bad
//! frame with anything valid after it is therefore damage, and damage is an error that names the place, never
//! skipped. What cannot be told apart: a bit that flipped in the very last frame, and a torn write of it.

use std::io;
use std::path::PathBuf;

use super::frame::{Frame, FrameError, FrameHeader, Link};
use super::segment::{self, FORMAT_VERSION, FORMAT_VERSION_MIN, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::storage::Storage;
use crate::ids::{CellId, Epoch, Seq};

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The journal is not what a crash could have left.
    #[error("damaged journal: {} at offset {offset}: {what}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A format this build does not read.
    #[error(
        "{} has journal format {found}, this build reads {FORMAT_VERSION_MIN} to {FORMAT_VERSION}", path.display()
    )]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// A last frame that was cut by a crash. Nothing in it was ever acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment's file, in its storage.
    pub name: String,
    /// From here on it is to be zeroed.
    pub offset: u64,
}

/// A segment that was prepared and never used: all zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// The number in its name.
    pub index: u64,
    /// Its file, in its storage.
    pub name: String,
    /// How long it is.
    pub bytes: u64,
}

/// Where a frame lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramePlace {
    /// The segment's file, in its storage.
    pub name: String,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// Where a journal ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The number of the newest entry.
    pub last: Seq,
    /// The link of the newest frame.
    pub link: Link,
    /// The highest epoch seen.
    pub epoch: Epoch,
    /// The format of the newest segment; 0 without one.
    pub version: u32,
    /// The highest index of a segment in use.
    pub index: u64,
    /// Frames read.
    pub frames: u64,
    /// Bytes of those frames.
    pub bytes: u64,
    /// The newest frame.
    pub newest: Option<FramePlace>,
    /// The torn tail, if there is one.
    pub torn: Option<Torn>,
    /// Segments that were prepared and never used.
    pub unused: Vec<Unused>,
}

/// The segments in order of their index, by name.
pub(crate) fn segments(storage: &dyn Storage) -> Result<Vec<(u64, String)>, ReadError> {
    let io = |error| ReadError::Io { path: storage.path(segment::DIR), error };
    let mut found = Vec::new();
    for name in storage.list(segment::DIR).map_err(io)? {
        let Some(stem) = name.strip_suffix(".seg") else { continue };
        let name = format!("{}/{name}", segment::DIR);
        let index = stem.parse::<u64>().map_err(|_| ReadError::Damaged {
            path: storage.path(&name),
            offset: 0,
            what: "the file's name is not a segment number".to_owned(),
        })?;
        found.push((index, name));
    }
    found.sort();
    Ok(found)
}

/// A segment's header, if it has a whole one. A file that is shorter, or gone by now, is one that is only being made.
pub(crate) fn header(storage: &dyn Storage, name: &str) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    match storage.open(name).and_then(|file| file.read_exact_at(0, &mut bytes)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) => Ok(None),
        read => read.map(|()| SegmentHeader::from_bytes(&bytes)),
    }
}

/// The segments in use, in order, with what their headers say. Those behind the first that has no whole header are not: they
/// were made ahead, or it is torn.
pub(crate) fn used_segments(storage: &dyn Storage) -> Result<Vec<(String, SegmentHeader)>, ReadError> {
    let mut used = Vec::new();
    for (_, name) in segments(storage)? {
        let header = header(storage, &name).map_err(|error| ReadError::Io { path: storage.path(&name), error })?;
        let Some(header) = header else { break };
        used.push((name, header));
    }
    Ok(used)
}

/// Reads the frames of the log in order, from the segment in which the entry after `from` lies. Writes nothing.
///
/// # Errors
/// Damage, an unknown version, or what the operating system said; `each` may have seen frames before that.
pub fn read_directory(
    storage: &dyn Storage,
    cell: CellId,
    from: Seq,
    each: &mut dyn FnMut(&Frame<'_>) -> Result<(), FrameError>,
) -> Result<Tail, ReadError> {
    let mut tail = Tail {
        last: Seq(0),
        link: Link(0),
        epoch: Epoch(0),
        version: 0,
        index: 0,
        frames: 0,
        bytes: 0,
        newest: None,
        torn: None,
        unused: Vec::new(),
    };
    let segments = segments(storage)?;
    let begin = begin(storage, &segments, from)?;
    // One buffer for all: segments are mostly of one size, and fresh memory costs more than what is read into it.
    let mut bytes = Vec::new();
    for (index, name) in segments.into_iter().skip(begin) {
        let path = storage.path(&name);
        storage.read_into(&name, &mut bytes).map_err(|error| ReadError::Io { path: path.clone(), error })?;
        if is_zero(&bytes) {
            tail.unused.push(Unused { index, name, bytes: bytes.len() as u64 });
            continue;
        }
        // Something used after something torn or unused: the crash cannot have done that.
        if let Some(torn) = &tail.torn {
            let what = format!("a bad frame, yet segment {index} follows");
            return Err(ReadError::Damaged { path: storage.path(&torn.name), offset: torn.offset, what });
        }
        if let Some(unused) = tail.unused.first() {
            let what = format!("an empty segment, yet segment {index} follows");
            return Err(ReadError::Damaged { path: storage.path(&unused.name), offset: 0, what });
        }
        Segment { index, name: &name, path: &path, bytes: &bytes, from }.read(cell, &mut tail, each)?;
    }
    Ok(tail)
}

/// Bytes of the segments from the one in which the entry after `from` lies, those made ahead included. They may differ in size:
/// each keeps the one it was made with.
pub(crate) fn bytes_behind(storage: &dyn Storage, from: Seq) -> Result<u64, ReadError> {
    let segments = segments(storage)?;
    let begin = begin(storage, &segments, from)?;
    let mut bytes = 0;
    for (_, name) in segments.iter().skip(begin) {
        let len = storage.open(name).and_then(|file| file.len());
        bytes += len.map_err(|error| ReadError::Io { path: storage.path(name), error })?;
    }
    Ok(bytes)
}

/// The newest entry that was trimmed: the log begins behind it.
pub(crate) fn log_start(storage: &dyn Storage) -> Result<Seq, ReadError> {
    let mut before = None;
    loop {
        let Some((index, name)) = segments(storage)?.into_iter().next() else { return Ok(Seq(0)) };
        let header = header(storage, &name).map_err(|error| ReadError::Io { path: storage.path(&name), error })?;
        match header {
            Some(header) => return Ok(Seq(header.first.0.saturating_sub(1))),
            // Seen twice, it is one that was never used; seen once, it may have been trimmed since it was listed.
            None if before == Some(index) => return Ok(Seq(0)),
            None => before = Some(index),
        }
    }
}

/// Which of the segments holds the entry after `from`: the last that begins at or before it. The first, if none tells.
fn begin(storage: &dyn Storage, segments: &[(u64, String)], from: Seq) -> Result<usize, ReadError> {
    let mut begin = 0;
    if from == Seq(0) {
        return Ok(begin);
    }
    for (at, (_, name)) in segments.iter().enumerate() {
        match header(storage, name).map_err(|error| ReadError::Io { path: storage.path(name), error })? {
            Some(header) if header.first <= from.next() => begin = at,
            _ => break,
        }
    }
    Ok(begin)
}

struct Segment<'a> {
    /// Entries up to here need not be there.
    from: Seq,
    index: u64,
    name: &'a str,
    path: &'a std::path::Path,
    bytes: &'a [u8],
}

impl Segment<'_> {
    // rule: JNL-4 a torn tail is cut; damage before it is an error that names segment and offset
    fn read(
        &self,
        cell: CellId,
        tail: &mut Tail,
        each: &mut dyn FnMut(&Frame<'_>) -> Result<(), FrameError>,
    ) -> Result<(), ReadError> {
        let header = self.bytes.first_chunk::<SEGMENT_HEADER_BYTES>().and_then(SegmentHeader::from_bytes);
        let Some(header) = header else {
            return self.torn_or_damaged(0, "the segment header is not whole", tail);
        };
        if !(FORMAT_VERSION_MIN..=FORMAT_VERSION).contains(&header.version) {
            return Err(ReadError::Version { path: self.path.to_owned(), found: header.version });
        }
        self.check_header(&header, cell, tail)?;
        if self.bytes.len() as u64 != header.segment_bytes {
            let what = format!("the file ends here, its header says {} bytes", header.segment_bytes);
            return Err(self.damaged(self.bytes.len(), what));
        }
        if tail.index == 0 {
            tail.last = Seq(header.first.0.saturating_sub(1));
            tail.link = header.previous;
        }
        tail.epoch = header.epoch;
        tail.version = header.version;
        tail.index = self.index;
        let mut at = SEGMENT_HEADER_BYTES;
        while at < self.bytes.len() && !is_zero(&self.bytes[at..]) {
            let frame = match Frame::read(&self.bytes[at..]) {
                Ok(frame) => frame,
                Err(error) => return self.torn_or_damaged(at, &error.to_string(), tail),
            };
            let (found, expected) = (frame.header, tail.last.next());
            if found.previous != tail.link || found.first != expected || found.epoch != header.epoch {
                let what = format!(
                    "the frame begins at {} of epoch {} where {expected} of epoch {} with its link was due",
                    found.first, found.epoch, header.epoch
                );
                return Err(self.damaged(at, what));
            }
            each(&frame).map_err(|error| self.damaged(at, error.to_string()))?;
            tail.last = found.last();
            tail.link = frame.link;
            tail.frames += 1;
            tail.bytes += frame.bytes.len() as u64;
            match &mut tail.newest {
                Some(newest) if newest.name == self.name => {
                    (newest.offset, newest.bytes) = (at as u64, frame.bytes.len() as u64);
                }
                newest => {
                    let (offset, bytes) = (at as u64, frame.bytes.len() as u64);
                    *newest = Some(FramePlace { name: self.name.to_owned(), offset, bytes });
                }
            }
            at += frame.bytes.len();
        }
        Ok(())
    }

    fn check_header(&self, header: &SegmentHeader, cell: CellId, tail: &Tail) -> Result<(), ReadError> {
        let expected_index = if tail.index == 0 { self.index } else { tail.index + 1 };
        if header.cell != cell {
            return Err(self.damaged(0, format!("the segment is of cell {}, not {cell}", header.cell)));
        }
        if header.index != self.index || self.index != expected_index {
            return Err(self.damaged(0, format!("segment {} stands where {expected_index} was due", header.index)));
        }
        // The log may begin anywhere up to the first entry that is needed: what was before it was trimmed.
        let first_read = tail.index == 0;
        if first_read && header.first > self.from.next() {
            let what =
                format!("the log begins at {}, and {} is the first entry needed", header.first, self.from.next());
            return Err(self.damaged(0, what));
        }
        if first_read {
            return Ok(());
        }
        if header.first != tail.last.next() || header.previous != tail.link || header.epoch < tail.epoch {
            let what = format!("the segment begins at {}, the one before ended at {}", header.first, tail.last);
            return Err(self.damaged(0, what));
        }
        // An older build refuses what a newer one wrote, so it cannot have gone on in it.
        if header.version < tail.version {
            let what = format!("format {} behind a segment of format {}", header.version, tail.version);
            return Err(self.damaged(0, what));
        }
        Ok(())
    }

    fn torn_or_damaged(&self, at: usize, what: &str, tail: &mut Tail) -> Result<(), ReadError> {
        // Nothing was written behind the last frame, so what lies behind this one tells a tear from damage.
        let behind = match self.bytes.get(at..).and_then(FrameHeader::peek) {
            // Its header got through and is the one that was due: the frame ends where it says.
            Some(header) if header.first == tail.last.next() && header.previous == tail.link => {
                let end = at + header.total_bytes();
                self.bytes.get(end..).and_then(|rest| rest.iter().position(|byte| *byte != 0)).map(|found| end + found)
            }
            // Its header is lost: only another whole frame proves that this was not the last.
            _ => {
                let later = (at / 8 + 1..self.bytes.len() / 8).map(|word| word * 8);
                later.into_iter().find(|&later| Frame::read(&self.bytes[later..]).is_ok())
            }
        };
        if let Some(behind) = behind {
            return Err(self.damaged(at, format!("{what}, yet the log goes on at {behind}")));
        }
        if at != 0 {
            tail.index = self.index;
        }
        tail.torn = Some(Torn { name: self.name.to_owned(), offset: at as u64 });
        Ok(())
    }

    fn damaged(&self, at: usize, what: String) -> ReadError {
        ReadError::Damaged { path: self.path.to_owned(), offset: at as u64, what }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| *word == [0; 16]) && rest.iter().all(|byte| *byte == 0)
}
