//! Snapshot files: chunks of records, checksummed and chained, there whole or not at all.
//!
//! `snapshots/<S0 as 20 digits>.snap`, little-endian. Header, 64 bytes:
//! ```text
//! "BERTHSNP"  u32 version  u16 cell  u16 0  u32 epoch  u32 0  u64 S0  u64 newest entry time in ms  u64 0
//! u64 CRC-64/NVME of the 48 bytes before it  u64 0
//! ```
//! Then chunks, each
//! ```text
//! u32 "BRTC"  u32 kind  u32 records  u32 payload bytes  u64 number from 0
//! u64 checksum of the chunk before (of the header for the first)
//! u64 checksum: CRC-64/NVME of those 32 bytes and the payload
//! payload, then zeros to a multiple of 8
//! ```
//! The last chunk is of kind [`ChunkKind::End`]; a file without it is not whole. A file gets its name only when it is whole,
//! synced, and the log is durable up to S1.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crc_fast::{CrcAlgorithm, Digest};

use super::storage::{Storage, StorageFile};
use crate::clock::Stopwatch;
use crate::ids::{CellId, Epoch, Seq};
use crate::units::TimestampMs;

/// Where snapshots lie.
pub(crate) const DIR: &str = "snapshots";
pub(crate) const VERSION: u32 = 2;
/// What this build reads: its own version and the one before. docs/journal-format.md says what each has.
const VERSION_MIN: u32 = VERSION - 1;
const MAGIC: &[u8; 8] = b"BERTHSNP";
const HEADER_BYTES: usize = 64;
const CHUNK_MAGIC: u32 = u32::from_le_bytes(*b"BRTC");
const CHUNK_FIELD_BYTES: usize = 32;
const CHUNK_HEADER_BYTES: usize = 40;
/// A file is synced in portions, so that no sync of the log ever waits for more: a disk that is told to flush flushes all it has.
const SYNC_EVERY: u64 = 512 << 10;
/// After a portion the disk is left to the log for as long as it took, and no longer than this.
const REST_MAX: Duration = Duration::from_millis(100);

/// What the records of a chunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ChunkKind {
    /// Entries of the catalogue, in journal order: u64 sequence number and the entry as in a frame.
    Catalogue = 1,
    /// Runs of parties with the same facts.
    Parties = 2,
    /// Slots whose capacity or flag was changed since they were published.
    Slots = 3,
    /// Holds and bookings in ascending number.
    Bookings = 4,
    /// Idempotency keys in the order of their doing.
    Keys = 5,
    /// S1 and the totals.
    End = 6,
}

impl ChunkKind {
    fn from_code(code: u32) -> Option<Self> {
        use ChunkKind::{Bookings, Catalogue, End, Keys, Parties, Slots};
        [Catalogue, Parties, Slots, Bookings, Keys, End].into_iter().find(|kind| *kind as u32 == code)
    }
}

/// What a snapshot's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Whose it is.
    pub cell: CellId,
    /// Who took it.
    pub epoch: Epoch,
    /// Every entry up to here is in it.
    pub s0: Seq,
    /// The newest time of an entry when it was taken.
    pub newest: TimestampMs,
}

impl SnapshotHeader {
    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.cell.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.s0.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.newest.0.to_le_bytes());
        let check = crc_fast::crc64_nvme(&bytes[..48]);
        bytes[48..56].copy_from_slice(&check.to_le_bytes());
        bytes
    }
}

/// Why a snapshot cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not what was written.
    #[error("damaged at offset {offset}: {what}")]
    Damaged {
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A format this build does not read.
    #[error("snapshot format {0}, this build reads {VERSION_MIN} to {VERSION}")]
    Version(u32),
    /// Another cell's.
    #[error("the snapshot is of cell {0}")]
    OtherCell(CellId),
    /// The operating system said no.
    #[error("{0}")]
    Io(String),
}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> Self {
        SnapshotError::Io(error.to_string())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn checksum(fields: &[u8], payload: &[u8]) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    digest.update(fields);
    digest.update(payload);
    digest.finalize()
}

/// The file of a snapshot.
pub(crate) fn name(s0: Seq) -> String {
    format!("{DIR}/{:020}.snap", s0.0)
}

/// The whole snapshots there are, newest first.
pub(crate) fn list(storage: &dyn Storage) -> io::Result<Vec<Seq>> {
    let names = match storage.list(DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    let mut found: Vec<Seq> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".snap").filter(|stem| stem.len() == 20)?.parse().ok().map(Seq))
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Removes what a run left that ended while it wrote a snapshot.
pub(crate) fn remove_unfinished(storage: &dyn Storage) -> io::Result<()> {
    let names = match storage.list(DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    for name in names.iter().filter(|name| name.ends_with(".new")) {
        storage.remove(&format!("{DIR}/{name}"))?;
    }
    Ok(())
}

/// Takes a damaged snapshot out of the way of the next one, which would be made from it and counted beside it. Kept for
/// whoever has to find out what happened; nothing reads it.
pub(crate) fn set_aside(storage: &dyn Storage, name: &str) -> io::Result<()> {
    storage.rename(name, &format!("{name}.damaged"))?;
    storage.sync_dir(DIR)
}

/// A snapshot being written, under a name nobody reads.
#[derive(Debug)]
pub(crate) struct SnapshotWriter {
    storage: Arc<dyn Storage>,
    file: Arc<dyn StorageFile>,
    s0: Seq,
    at: u64,
    synced: u64,
    chunks: u64,
    link: u64,
}

impl SnapshotWriter {
    pub(crate) fn create(storage: Arc<dyn Storage>, header: SnapshotHeader) -> io::Result<Self> {
        storage.create_dir(DIR)?;
        remove_unfinished(&*storage)?;
        let file = storage.create(&format!("{}.new", name(header.s0)))?;
        let bytes = header.to_bytes();
        file.write_all_at(0, &bytes)?;
        let at = HEADER_BYTES as u64;
        Ok(Self { storage, file, s0: header.s0, at, synced: 0, chunks: 0, link: u64_at(&bytes, 48) })
    }

    pub(crate) fn chunk(&mut self, kind: ChunkKind, records: u32, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len()).map_err(|_| io::Error::other("a chunk over 4 GiB"))?;
        let mut bytes = Vec::with_capacity(CHUNK_HEADER_BYTES + payload.len() + 8);
        bytes.extend_from_slice(&CHUNK_MAGIC.to_le_bytes());
        bytes.extend_from_slice(&(kind as u32).to_le_bytes());
        bytes.extend_from_slice(&records.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&self.chunks.to_le_bytes());
        bytes.extend_from_slice(&self.link.to_le_bytes());
        let link = checksum(&bytes, payload);
        bytes.extend_from_slice(&link.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        self.file.write_all_at(self.at, &bytes)?;
        self.at += bytes.len() as u64;
        self.chunks += 1;
        self.link = link;
        if self.at - self.synced >= SYNC_EVERY {
            let watch = Stopwatch::start();
            self.file.sync()?;
            self.synced = self.at;
            // Nobody unparks who takes a snapshot; woken early, it only goes on early.
            std::thread::park_timeout(Duration::from_nanos(watch.nanos()).min(REST_MAX));
        }
        Ok(())
    }

    /// Syncs the file; it has no name yet that anybody reads.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.at
    }

    /// Gives the file its name.
    pub(crate) fn publish(self) -> io::Result<()> {
        let name = name(self.s0);
        self.storage.rename(&format!("{name}.new"), &name)?;
        self.storage.sync_dir(DIR)
    }

    /// Removes what was written.
    pub(crate) fn discard(self) {
        // What cannot be removed now is removed before the next one is begun.
        let _ = self.storage.remove(&format!("{}.new", name(self.s0)));
    }
}

/// Where a chunk begins, and what comes before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkPlace {
    at: u64,
    link: u64,
    number: u64,
    /// What its header says of its kind, where it was looked at.
    kind: Option<ChunkKind>,
}

impl ChunkPlace {
    pub(crate) fn offset(&self) -> u64 {
        self.at
    }

    pub(crate) fn kind(&self) -> Option<ChunkKind> {
        self.kind
    }
}

/// A chunk as it lies in the file, found right.
#[derive(Debug)]
pub(crate) struct RawChunk {
    pub(crate) kind: ChunkKind,
    records: u32,
    len: usize,
    /// Header and padding included.
    pub(crate) bytes: Vec<u8>,
}

impl RawChunk {
    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[CHUNK_HEADER_BYTES..CHUNK_HEADER_BYTES + self.len]
    }

    /// S1, which the last chunk begins with.
    pub(crate) fn s1(&self) -> Option<Seq> {
        (self.kind == ChunkKind::End && self.len >= 8).then(|| Seq(u64_at(self.payload(), 0)))
    }
}

/// What is called with a chunk's kind, its number of records and their bytes; an error is what is wrong with them.
pub type EachChunk<'a> = dyn FnMut(ChunkKind, u32, &[u8]) -> Result<(), String> + 'a;

/// A snapshot open for reading.
#[derive(Debug)]
pub struct SnapshotReader {
    file: Arc<dyn StorageFile>,
    header: SnapshotHeader,
    header_check: u64,
    len: u64,
}

impl SnapshotReader {
    /// Reads the header.
    ///
    /// # Errors
    /// Damage, another version, another cell, or what the operating system said.
    pub fn open(storage: &dyn Storage, name: &str, cell: CellId) -> Result<Self, SnapshotError> {
        let file = storage.open(name)?;
        let len = file.len()?;
        let mut bytes = [0; HEADER_BYTES];
        let damaged = |what: &str| SnapshotError::Damaged { offset: 0, what: what.to_owned() };
        if len < HEADER_BYTES as u64 {
            return Err(damaged("shorter than its header"));
        }
        file.read_exact_at(0, &mut bytes)?;
        let check = u64_at(&bytes, 48);
        if &bytes[..8] != MAGIC
            || (check != crc_fast::crc64_nvme(&bytes[..48]) && !cfg!(berth_fault = "ignore_checksum"))
        {
            return Err(damaged("the header is not whole"));
        }
        if !(VERSION_MIN..=VERSION).contains(&u32_at(&bytes, 8)) {
            return Err(SnapshotError::Version(u32_at(&bytes, 8)));
        }
        let header = SnapshotHeader {
            cell: CellId(u16::from_le_bytes([bytes[12], bytes[13]])),
            epoch: Epoch(u32_at(&bytes, 16)),
            s0: Seq(u64_at(&bytes, 24)),
            newest: TimestampMs(u64_at(&bytes, 32)),
        };
        if header.cell != cell {
            return Err(SnapshotError::OtherCell(header.cell));
        }
        Ok(Self { file, header, header_check: check, len })
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> SnapshotHeader {
        self.header
    }

    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// The header's own bytes.
    pub(crate) fn header_bytes(&self) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = vec![0; HEADER_BYTES];
        self.file.read_exact_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Where the first chunk begins.
    pub(crate) fn first_chunk(&self) -> ChunkPlace {
        ChunkPlace { at: HEADER_BYTES as u64, link: self.header_check, number: 0, kind: None }
    }

    /// The chunk at `place`, after its checksum was found right; `place` moves behind it. `bytes` is a buffer to use.
    pub(crate) fn chunk(&self, place: &mut ChunkPlace, mut bytes: Vec<u8>) -> Result<RawChunk, SnapshotError> {
        let ChunkPlace { at, link, number, .. } = *place;
        let damaged = |what: String| SnapshotError::Damaged { offset: at, what };
        let mut head = [0; CHUNK_HEADER_BYTES];
        if at + CHUNK_HEADER_BYTES as u64 > self.len {
            return Err(damaged("the file ends before its last chunk".to_owned()));
        }
        self.file.read_exact_at(at, &mut head)?;
        let len = u32_at(&head, 12) as usize;
        let total = (CHUNK_HEADER_BYTES + len).next_multiple_of(8);
        let end = at + total as u64;
        if u32_at(&head, 0) != CHUNK_MAGIC || end > self.len {
            return Err(damaged("no whole chunk is here".to_owned()));
        }
        bytes.resize(total, 0);
        self.file.read_exact_at(at, &mut bytes)?;
        let found = checksum(&head[..CHUNK_FIELD_BYTES], &bytes[CHUNK_HEADER_BYTES..CHUNK_HEADER_BYTES + len]);
        let right = found == u64_at(&head, 32) && u64_at(&head, 16) == number && u64_at(&head, 24) == link;
        if !right && !cfg!(berth_fault = "ignore_checksum") {
            return Err(damaged("the chunk's checksum does not match".to_owned()));
        }
        let Some(kind) = ChunkKind::from_code(u32_at(&head, 4)) else {
            return Err(damaged(format!("unknown chunk kind {}", u32_at(&head, 4))));
        };
        if kind == ChunkKind::End && end != self.len {
            return Err(SnapshotError::Damaged { offset: end, what: "bytes behind the last chunk".to_owned() });
        }
        *place = ChunkPlace { at: end, link: u64_at(&head, 32), number: number + 1, kind: None };
        Ok(RawChunk { kind, records: u32_at(&head, 8), len, bytes })
    }

    /// Where each chunk begins, by their headers alone, up to the last or to the first that is none; then also what is wrong there. A
    /// header may lie: [`SnapshotReader::chunk`] finds out at its place.
    ///
    /// # Errors
    /// What the operating system said.
    pub(crate) fn places(&self) -> Result<(Vec<ChunkPlace>, Option<SnapshotError>), SnapshotError> {
        let mut places = Vec::new();
        let mut place = self.first_chunk();
        loop {
            let damaged = |what: &str| SnapshotError::Damaged { offset: place.at, what: what.to_owned() };
            if place.at + CHUNK_HEADER_BYTES as u64 > self.len {
                return Ok((places, Some(damaged("the file ends before its last chunk"))));
            }
            let mut head = [0; CHUNK_HEADER_BYTES];
            self.file.read_exact_at(place.at, &mut head)?;
            let end = place.at + (CHUNK_HEADER_BYTES + u32_at(&head, 12) as usize).next_multiple_of(8) as u64;
            if u32_at(&head, 0) != CHUNK_MAGIC || end > self.len {
                return Ok((places, Some(damaged("no whole chunk is here"))));
            }
            place.kind = ChunkKind::from_code(u32_at(&head, 4));
            places.push(place);
            if place.kind == Some(ChunkKind::End) {
                return Ok((places, None));
            }
            place = ChunkPlace { at: end, link: u64_at(&head, 32), number: place.number + 1, kind: None };
        }
    }

    /// Calls `each` for every chunk in order with its number of records, after its checksum was found right.
    ///
    /// # Errors
    /// The first chunk that is damaged, or what `each` found wrong in it; a file without its last chunk.
    pub fn chunks(&self, each: &mut EachChunk<'_>) -> Result<(), SnapshotError> {
        let (mut place, mut buffer) = (self.first_chunk(), Vec::new());
        loop {
            let offset = place.at;
            let chunk = self.chunk(&mut place, buffer)?;
            each(chunk.kind, chunk.records, chunk.payload()).map_err(|what| SnapshotError::Damaged { offset, what })?;
            if chunk.kind == ChunkKind::End {
                return Ok(());
            }
            buffer = chunk.bytes;
        }
    }
}
