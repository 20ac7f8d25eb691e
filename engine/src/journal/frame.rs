//! One batch of entries as it lies in a segment, and travels to Redis.
//!
//! ```text
//! u32 magic "BRTF"   u32 entries   u32 payload bytes   u32 epoch
//! u64 first sequence number
//! u64 checksum of the frame before (the chain)
//! u64 CRC-64/NVME of the 32 bytes above: whether the header itself got through
//! u64 checksum: CRC-64/NVME of those 32 bytes and the payload
//! payload, then zeros to a multiple of 8
//! ```
//! How each half-write is detected: a frame cut anywhere fails its checksum; a frame of another log or
//! an older life of the file fails the chain; a lost frame in the middle breaks the chain and the sequence.

use crc_fast::{CrcAlgorithm, Digest};

use super::entry::{DecodeError, Entry};
use crate::ids::{Epoch, Seq};

/// Bytes before the payload.
pub const FRAME_HEADER_BYTES: usize = 48;
/// The fields, before the two checksums.
const FIELD_BYTES: usize = 32;
const MAGIC: u32 = u32::from_le_bytes(*b"BRTF");

/// The checksum that links a frame to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link(pub u64);

/// What a frame's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// How many entries.
    pub count: u32,
    /// Bytes of payload.
    pub payload_bytes: u32,
    /// Who wrote it.
    pub epoch: Epoch,
    /// The number of its first entry.
    pub first: Seq,
    /// The checksum of the frame before.
    pub previous: Link,
}

/// Bytes that are not a whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not the start of a frame: no magic, or a header that is not whole.
    #[error("no frame starts here")]
    NoMagic,
    /// The frame goes past the end of the bytes.
    #[error("the frame is cut short")]
    Short,
    /// The checksum is of other bytes.
    #[error("the frame's checksum does not match")]
    Checksum,
    /// A whole frame whose entries cannot be read.
    #[error("entry {index} of the frame: {error}")]
    Entry {
        /// Which entry, from 0.
        index: u32,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The payload does not hold as many entries as the header says.
    #[error("the frame holds other than the {0} entries it announces")]
    Count(u32),
}

impl FrameHeader {
    /// The number of its last entry.
    #[must_use]
    pub const fn last(&self) -> Seq {
        Seq(self.first.0 + self.count as u64 - 1)
    }

    /// Bytes in the file, header and padding included.
    #[must_use]
    pub const fn total_bytes(&self) -> usize {
        (FRAME_HEADER_BYTES + self.payload_bytes as usize).next_multiple_of(8)
    }

    /// The header at the front of `bytes`; `None` if no whole header is there.
    pub(crate) fn peek(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk()?;
        (u32_at(header, 0) == MAGIC && u64_at(header, 32) == crc_fast::crc64_nvme(&header[..FIELD_BYTES])).then(|| {
            Self {
                count: u32_at(header, 4),
                payload_bytes: u32_at(header, 8),
                epoch: Epoch(u32_at(header, 12)),
                first: Seq(u64_at(header, 16)),
                previous: Link(u64_at(header, 24)),
            }
        })
    }

    /// Writes the header over the first [`FRAME_HEADER_BYTES`] of `frame`, whose payload follows them,
    /// pads the frame and returns its link.
    ///
    /// # Panics
    /// If `frame` is not as long as the header says.
    pub fn seal(&self, frame: &mut Vec<u8>) -> Link {
        assert_eq!(frame.len(), FRAME_HEADER_BYTES + self.payload_bytes as usize);
        frame[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        frame[4..8].copy_from_slice(&self.count.to_le_bytes());
        frame[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        frame[12..16].copy_from_slice(&self.epoch.0.to_le_bytes());
        frame[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        frame[24..32].copy_from_slice(&self.previous.0.to_le_bytes());
        let link = checksum(&frame[..FIELD_BYTES], &frame[FRAME_HEADER_BYTES..]);
        let check = crc_fast::crc64_nvme(&frame[..FIELD_BYTES]);
        frame[32..40].copy_from_slice(&check.to_le_bytes());
        frame[40..48].copy_from_slice(&link.0.to_le_bytes());
        frame.resize(self.total_bytes(), 0);
        link
    }
}

fn u32_at(header: &[u8; FRAME_HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn u64_at(header: &[u8; FRAME_HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(header, at)) | u64::from(u32_at(header, at + 4)) << 32
}

fn checksum(header: &[u8], payload: &[u8]) -> Link {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    digest.update(header);
    digest.update(payload);
    Link(digest.finalize())
}

/// A checked frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// Its own link, which the next frame must name.
    pub link: Link,
    /// All its bytes, padding included.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Checks the frame at the front of `bytes`.
    ///
    /// # Errors
    /// Why there is no whole frame. Never panics, whatever the bytes.
    pub fn read(bytes: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let header: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk().ok_or(FrameError::Short)?;
        let head = FrameHeader::peek(bytes).ok_or(FrameError::NoMagic)?;
        let whole = bytes.get(..head.total_bytes()).ok_or(FrameError::Short)?;
        let payload = &whole[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + head.payload_bytes as usize];
        let link = Link(u64_at(header, 40));
        let padding = &whole[FRAME_HEADER_BYTES + head.payload_bytes as usize..];
        let right = checksum(&header[..FIELD_BYTES], payload) == link && padding.iter().all(|byte| *byte == 0);
        if !right && !cfg!(berth_fault = "ignore_checksum") {
            return Err(FrameError::Checksum);
        }
        if head.count == 0 || head.first.0 == 0 || head.first.0.checked_add(u64::from(head.count)).is_none() {
            return Err(FrameError::Count(head.count));
        }
        Ok(Frame { header: head, link, bytes: whole })
    }

    /// The bytes of its entries.
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.bytes[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + self.header.payload_bytes as usize]
    }

    /// Reads the entries in order.
    ///
    /// # Errors
    /// The first entry that cannot be read, or a wrong count.
    pub fn entries(&self, mut each: impl FnMut(Seq, Entry)) -> Result<(), FrameError> {
        let mut rest = self.payload();
        for index in 0..self.header.count {
            let (entry, len) = Entry::decode(rest).map_err(|error| FrameError::Entry { index, error })?;
            each(Seq(self.header.first.0 + u64::from(index)), entry);
            rest = &rest[len..];
        }
        if rest.is_empty() { Ok(()) } else { Err(FrameError::Count(self.header.count)) }
    }
}
