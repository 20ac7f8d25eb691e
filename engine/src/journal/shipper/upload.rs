//! A snapshot on its way to Redis, piece by piece, each checked before it is sent.

use crate::ids::{CellId, Seq};
use crate::journal::snapshot::{self, ChunkKind, ChunkPlace, SnapshotError, SnapshotReader};
use crate::journal::storage::Storage;
use crate::journal::stream::Whole;

/// The pieces of one snapshot file in order: its header, then its chunks.
#[derive(Debug)]
pub(super) struct Upload {
    reader: SnapshotReader,
    s0: Seq,
    /// Behind the piece that is held.
    place: ChunkPlace,
    /// Read, and not yet known to be in Redis. `None` when all are there.
    held: Option<Vec<u8>>,
    /// The number of the held piece.
    number: u64,
    bytes: u64,
    /// Known when the last chunk was read.
    s1: Option<Seq>,
}

impl Upload {
    pub(super) fn begin(storage: &dyn Storage, cell: CellId, s0: Seq) -> Result<Self, SnapshotError> {
        let reader = SnapshotReader::open(storage, &snapshot::name(s0), cell)?;
        let (held, place) = (Some(reader.header_bytes()?), reader.first_chunk());
        Ok(Self { reader, s0, place, held, number: 0, bytes: 0, s1: None })
    }

    pub(super) fn s0(&self) -> Seq {
        self.s0
    }

    /// The next piece to send and its number.
    pub(super) fn held(&self) -> Option<(u64, &[u8])> {
        self.held.as_deref().map(|bytes| (self.number, bytes))
    }

    /// The held piece is there: reads the next.
    pub(super) fn sent(&mut self) -> Result<(), SnapshotError> {
        self.bytes += self.held.take().map_or(0, |bytes| bytes.len() as u64);
        self.number += 1;
        if self.s1.is_none() {
            let chunk = self.reader.chunk(&mut self.place, Vec::new())?;
            if chunk.kind == ChunkKind::End {
                self.s1 = Some(chunk.s1().unwrap_or_default());
            }
            self.held = Some(chunk.bytes);
        }
        Ok(())
    }

    /// What is to be kept, once every piece was sent.
    pub(super) fn whole(&self) -> Option<Whole> {
        let s1 = self.s1.filter(|_| self.held.is_none())?;
        Some(Whole { s0: self.s0, s1, pieces: self.number, bytes: self.bytes })
    }

    /// Whether it can go on where Redis has `there` pieces: an answer may have been lost.
    pub(super) fn fits(&self, there: u64) -> bool {
        there == self.number || (there == self.number + 1 && self.held.is_some())
    }
}
