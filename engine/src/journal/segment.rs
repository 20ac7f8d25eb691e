//! Segment files: preallocated, zero-filled, written once from front to back.
//!
//! Header, 64 bytes, little-endian:
//! ```text
//! "BERTHSEG"  u32 version  u32 cell  u64 index  u32 epoch  u32 segment bytes / 4096
//! u64 first sequence number  u64 link of the last frame before  u64 CRC-64/NVME of the 48 bytes before it  u64 0
//! ```
//! A file whose header is all zeros was prepared and never used.

use std::io;
use std::sync::Arc;

use super::frame::Link;
use super::storage::{Storage, StorageFile};
use crate::ids::{CellId, Epoch, Seq};

pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
/// What this build writes. 2 knows more kinds of entry than 1 did and is otherwise the same, byte for byte.
pub(crate) const FORMAT_VERSION: u32 = 3;
/// What this build reads: its own version and the one before. docs/journal-format.md says what each has.
pub(crate) const FORMAT_VERSION_MIN: u32 = FORMAT_VERSION - 1;
/// Segments are whole pages long.
pub(crate) const PAGE_BYTES: u64 = 4096;
const MAGIC: &[u8; 8] = b"BERTHSEG";

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) version: u32,
    pub(crate) cell: CellId,
    pub(crate) index: u64,
    pub(crate) epoch: Epoch,
    /// The file is this long: a shorter one was cut by something other than a crash.
    pub(crate) segment_bytes: u64,
    pub(crate) first: Seq,
    pub(crate) previous: Link,
}

impl SegmentHeader {
    pub(crate) fn to_bytes(self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.cell.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.index.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.epoch.0.to_le_bytes());
        let pages = u32::try_from(self.segment_bytes / PAGE_BYTES).expect("validated: at most 16 TiB");
        bytes[28..32].copy_from_slice(&pages.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.previous.0.to_le_bytes());
        let check = crc_fast::crc64_nvme(&bytes[..48]);
        bytes[48..56].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// `None` if the bytes are not a whole header of any version.
    pub(crate) fn from_bytes(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Option<Self> {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if &bytes[..8] != MAGIC || u64_at(48) != crc_fast::crc64_nvme(&bytes[..48]) {
            return None;
        }
        Some(Self {
            version: u32_at(8),
            cell: CellId(u16::from_le_bytes([bytes[12], bytes[13]])),
            index: u64_at(16),
            epoch: Epoch(u32_at(24)),
            segment_bytes: u64::from(u32_at(28)) * PAGE_BYTES,
            first: Seq(u64_at(32)),
            previous: Link(u64_at(40)),
        })
    }
}

/// Where segments lie.
pub(crate) const DIR: &str = "journal";

/// The file of a segment.
pub(crate) fn name(index: u64) -> String {
    format!("{DIR}/{index:010}.seg")
}

/// A segment open for writing.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    file: Arc<dyn StorageFile>,
    pub(crate) index: u64,
    pub(crate) bytes: u64,
}

impl SegmentFile {
    /// Creates the file with every block written, and makes its name durable. `between` is called between two pieces of that,
    /// and may wait, or end it with an error.
    pub(crate) fn create(
        storage: &dyn Storage,
        index: u64,
        bytes: u64,
        between: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<Self> {
        let name = name(index);
        // What an attempt left that failed, and whose remains could not be removed either: no index is ever used again.
        match storage.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = storage.create(&name)?;
        let filled = fill(&*file, 0, bytes, between).and_then(|()| file.sync()).and_then(|()| storage.sync_dir(DIR));
        if let Err(error) = filled {
            // A half-filled file must not be taken for a prepared one, nor keep a full disk full.
            let _ = storage.remove(&name);
            return Err(error);
        }
        Ok(Self { file, index, bytes })
    }

    /// A file that was prepared by an earlier run, which never wrote to it: whole, and all zeros, as the caller has seen. Filled
    /// again: that run may have been killed before it synced, or its sync may have failed.
    pub(crate) fn adopt(storage: &dyn Storage, index: u64, bytes: u64) -> io::Result<Self> {
        let file = storage.open(&name(index))?;
        fill_with_zeros(&*file, 0, bytes)?;
        file.sync()?;
        Ok(Self { file, index, bytes })
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(at + bytes.len() as u64 <= self.bytes, "a write past the end of segment {}", self.index);
        self.file.write_all_at(at, bytes)
    }

    /// What was written is durable when this returns `Ok`.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if crate::planted!("no_fdatasync") { Ok(()) } else { self.file.sync() }
    }
}

/// Bytes of zeros between two syncs.
const FILL_BYTES: u64 = 256 << 10;

/// Written, not only allocated: an unwritten extent would cost a metadata update in every later sync.
pub(crate) fn fill_with_zeros(file: &dyn StorageFile, from: u64, to: u64) -> io::Result<()> {
    fill(file, from, to, &mut || Ok(()))
}

/// Synced piece by piece, but for the last, which is the caller's to sync: behind a whole segment of dirty pages the
/// writer's syncs would wait for 100 ms.
fn fill(file: &dyn StorageFile, from: u64, to: u64, between: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
    let piece = usize::try_from((to - from).min(FILL_BYTES)).expect("a piece fits");
    let zeros = vec![0u8; piece];
    for at in (from..to).step_by(piece.max(1)) {
        if at > from {
            file.sync()?;
            between()?;
        }
        let len = usize::try_from(to - at).map_or(piece, |left| left.min(piece));
        file.write_all_at(at, &zeros[..len])?;
    }
    Ok(())
}
