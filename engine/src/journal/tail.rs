//! The log read while it grows: frames in order, never past the durable watermark.

use std::io;
use std::sync::Arc;

use super::frame::{FRAME_HEADER_BYTES, Frame, FrameHeader, Link};
use super::reader;
use super::segment::{self, SEGMENT_HEADER_BYTES};
use super::storage::{Storage, StorageFile};
use super::stream::Shipment;
use crate::ids::Seq;

/// Why a place in the log could not be read.
#[derive(Debug)]
pub(crate) enum TailError {
    /// Not now: a disk that failed, or a log that does not reach back so far.
    Now(String),
    /// Never: the log has no such place.
    Never(String),
}

impl From<io::Error> for TailError {
    fn from(error: io::Error) -> Self {
        TailError::Now(error.to_string())
    }
}

/// A place in the segment files.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    storage: Arc<dyn Storage>,
    index: u64,
    file: Arc<dyn StorageFile>,
    at: u64,
    /// The newest entry before this place.
    last: Seq,
    /// The link of the frame before this place.
    link: Link,
    /// Bytes that are read at once.
    ahead: usize,
    /// What they are read into.
    chunk: Vec<u8>,
}

/// Bytes of the log that are read at once, at least and at most.
const AHEAD_MIN: usize = 16 << 10;
const AHEAD_MAX: usize = 1 << 20;

impl Cursor {
    /// The place just behind the frame that entry `head` ends.
    pub(crate) fn after(storage: Arc<dyn Storage>, head: Seq) -> Result<Self, TailError> {
        let mut cursor = Self::before(storage, head)?;
        while cursor.last < head {
            if cursor.next(head)?.is_none() {
                return Err(TailError::Never(format!("entry {head} does not end a frame of the log")));
            }
        }
        Ok(cursor)
    }

    /// The start of the segment in which the entry after `head` lies: at or before it.
    pub(crate) fn before(storage: Arc<dyn Storage>, head: Seq) -> Result<Self, TailError> {
        let mut found = None;
        let segments = reader::segments(&*storage).map_err(|error| TailError::Now(error.to_string()))?;
        for (index, name) in segments {
            match reader::header(&*storage, &name)? {
                Some(header) if header.first <= head.next() => found = Some((index, name, header)),
                _ => break,
            }
        }
        let Some((index, name, header)) = found else {
            return Err(TailError::Now(format!("the log does not reach back to entry {}", head.next())));
        };
        let file = storage.open(&name)?;
        let (at, last) = (SEGMENT_HEADER_BYTES as u64, Seq(header.first.0 - 1));
        let link = header.previous;
        Ok(Cursor { storage, index, file, at, last, link, ahead: AHEAD_MIN, chunk: Vec::new() })
    }

    /// The start of the log.
    pub(crate) fn oldest(storage: Arc<dyn Storage>) -> Result<Self, TailError> {
        let segments = reader::segments(&*storage).map_err(|error| TailError::Now(error.to_string()))?;
        let Some((_, name)) = segments.first() else { return Err(TailError::Now("there is no log".to_owned())) };
        match reader::header(&*storage, name)? {
            Some(header) => Self::before(storage, Seq(header.first.0 - 1)),
            None => Err(TailError::Now("the log has no entry yet".to_owned())),
        }
    }

    /// The newest entry before this place, and the link of the frame it ends.
    pub(crate) fn place(&self) -> (Seq, Link) {
        (self.last, self.link)
    }

    /// Bytes of the frames from here to the one that entry `until` ends. Reads nothing of them but their headers.
    pub(crate) fn bytes_until(&self, until: Seq) -> Result<u64, TailError> {
        let mut ahead = self.clone();
        let mut bytes = 0;
        while ahead.last < until {
            match ahead.header_here()? {
                Some(header) if header.last() <= until => {
                    let len = header.total_bytes() as u64;
                    bytes += len;
                    ahead.at += len;
                    ahead.last = header.last();
                }
                Some(_) => break,
                None => ahead.next_segment()?,
            }
        }
        Ok(bytes)
    }

    /// The next frame, if it ends at or before `until`.
    pub(crate) fn next(&mut self, until: Seq) -> Result<Option<Shipment>, TailError> {
        if self.last >= until {
            return Ok(None);
        }
        loop {
            if let Some(frame) = self.frame_here()? {
                if frame.header.last() > until {
                    return Ok(None);
                }
                self.pass(&frame);
                return Ok(Some(frame));
            }
            // Entries up to `until` are on disk, so they go on in the next segment.
            self.next_segment()?;
        }
    }

    /// The next frames, of those that end at or before `until`: at most `count`, and none behind those that come to `bytes`. Read many
    /// at a time, and checked one by one.
    pub(crate) fn next_many(&mut self, until: Seq, count: usize, bytes: usize) -> Result<Vec<Shipment>, TailError> {
        let (mut frames, mut taken) = (Vec::new(), 0);
        let mut chunk = std::mem::take(&mut self.chunk);
        while self.last < until && frames.len() < count && taken < bytes {
            chunk.resize(self.ahead, 0);
            let len = self.file.read_at(self.at, &mut chunk)?;
            let mut rest = &chunk[..len];
            while self.last < until && frames.len() < count && taken < bytes {
                // What is not whole here, or no frame at all, is for the careful reading to tell. Behind `until` nothing is looked at
                // but a header: the writer may be writing there.
                let Some(header) = FrameHeader::peek(rest) else { break };
                let end = header.first.0.saturating_add(u64::from(header.count));
                let Some(whole) = rest.get(..header.total_bytes()).filter(|_| end <= until.next().0) else { break };
                let frame = self.checked(whole)?;
                rest = &rest[frame.bytes.len()..];
                taken += frame.bytes.len();
                self.pass(&frame);
                frames.push(frame);
            }
            let used = len - rest.len();
            if used == 0 {
                // The end of a segment, or a frame that is longer than what was read.
                let Some(frame) = self.next(until)? else { break };
                taken += frame.bytes.len();
                frames.push(frame);
            }
            // As much as is used at once, and more where that was not enough.
            let enough = self.last >= until || frames.len() >= count || taken >= bytes;
            self.ahead = if enough { used + used / 4 } else { self.ahead * 2 }.clamp(AHEAD_MIN, AHEAD_MAX);
        }
        self.chunk = chunk;
        Ok(frames)
    }

    fn next_segment(&mut self) -> Result<(), TailError> {
        self.file = self.storage.open(&segment::name(self.index + 1))?;
        self.index += 1;
        self.at = SEGMENT_HEADER_BYTES as u64;
        Ok(())
    }

    fn header_here(&self) -> Result<Option<FrameHeader>, TailError> {
        let mut head = [0u8; FRAME_HEADER_BYTES];
        match self.file.read_exact_at(self.at, &mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        if head[..4] == [0; 4] {
            return Ok(None);
        }
        // The header has a checksum of its own, so a length read from it can be trusted.
        match FrameHeader::peek(&head) {
            Some(header) => Ok(Some(header)),
            None => Err(self.wrong("no frame starts here")),
        }
    }

    fn wrong(&self, what: &str) -> TailError {
        TailError::Now(format!("segment {} offset {}: {what}", self.index, self.at))
    }

    fn frame_here(&self) -> Result<Option<Shipment>, TailError> {
        let Some(header) = self.header_here()? else { return Ok(None) };
        let mut bytes = vec![0u8; header.total_bytes()];
        self.file.read_exact_at(self.at, &mut bytes)?;
        self.checked(&bytes).map(Some)
    }

    /// The frame in these bytes, if it is the one that follows.
    fn checked(&self, bytes: &[u8]) -> Result<Shipment, TailError> {
        let frame = Frame::read(bytes).map_err(|error| self.wrong(&error.to_string()))?;
        if frame.header.first != self.last.next() || frame.header.previous != self.link {
            return Err(self.wrong(&format!("the frame does not follow entry {}", self.last)));
        }
        Ok(Shipment { header: frame.header, link: frame.link, bytes: frame.bytes.to_vec() })
    }

    /// Moves behind it.
    fn pass(&mut self, frame: &Shipment) {
        self.at += frame.bytes.len() as u64;
        self.last = frame.header.last();
        self.link = frame.link;
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::command::{Command, Request};
    use crate::config::Config;
    use crate::engine::Engine;
    use crate::journal::writer::Turn;
    use crate::open::Parts;
    use crate::policy::AllowAll;
    use crate::testing::disk::MemoryDisk;

    /// A log of several segments, with frames that are longer than what is read at once.
    fn log(disk: &MemoryDisk) -> Seq {
        let mut config = Config::new("memory");
        config.journal.segment_bytes = 64 << 10;
        config.journal.buffer_bytes = 32 << 10;
        let storage = Arc::new(disk.clone());
        let opened = Engine::assemble(storage, None, &config, Arc::new(AllowAll), &Clock::start, &mut |_| {});
        let (engine, Parts { mut writer, reserve, .. }, _) = opened.unwrap();
        for n in 0..200usize {
            let note = vec![7; if n % 40 == 39 { AHEAD_MIN + n } else { n * n % 500 }];
            let request = Request { command: Command::Note { note: &note }, idempotency: None };
            // One frame in three has two entries.
            for _ in 0..1 + usize::from(n % 3 == 0 && n % 40 != 39) {
                engine.submit(&request, engine.now()).unwrap().result.unwrap();
            }
            assert_eq!(writer.turn(), Turn::Wrote);
            while reserve.make().unwrap() {}
        }
        engine.durable()
    }

    #[test]
    fn frames_read_many_at_a_time_are_those_read_one_by_one() {
        let disk = MemoryDisk::new(1);
        let durable = log(&disk);
        let oldest = || Cursor::oldest(Arc::new(disk.clone())).unwrap();
        let (mut cursor, mut all) = (oldest(), Vec::new());
        while let Some(frame) = cursor.next(durable).unwrap() {
            all.push(frame);
        }
        assert!(all.len() == 200 && cursor.index > 1);
        // The writer is about to write the next frame: its header is there, and nothing of the rest.
        let next = FrameHeader { first: durable.next(), previous: cursor.link, payload_bytes: 64, ..all[0].header };
        let mut bytes = vec![0; FRAME_HEADER_BYTES + 64];
        next.seal(&mut bytes);
        cursor.file.write_all_at(cursor.at, &bytes[..FRAME_HEADER_BYTES]).unwrap();
        for (count, bytes) in [(1, 1), (64, 1 << 20), (3, 1 << 20), (64, 1), (64, 3000)] {
            for until in (1..20).chain([53, 54, 55, 100, durable.0]).map(Seq) {
                let (mut cursor, mut read) = (oldest(), Vec::new());
                loop {
                    let some = cursor.next_many(until, count, bytes).unwrap();
                    assert!(some.len() <= count, "{} for {count}", some.len());
                    let before: usize = some.iter().rev().skip(1).map(|frame| frame.bytes.len()).sum();
                    assert!(before < bytes, "{before} bytes, and more, for {bytes}");
                    if some.is_empty() {
                        break;
                    }
                    read.extend(some);
                }
                let expected = all.iter().take_while(|frame| frame.header.last() <= until);
                assert!(read.iter().eq(expected), "{count}, {bytes}, until {until}");
            }
        }
    }
}
