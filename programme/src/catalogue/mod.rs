//! Regions, centres and sessions: what there is to search and what slot numbers mean.
//!
//! A projection of the journal: [`Catalogue::apply`] is the only way in, called with one note at a time in journal
//! order, once the entry is durable or as it is replayed. So every process that has read the same journal has the
//! same catalogue, down to the numbers.
//!
//! Readers hold the lock only to copy out shared pointers; a bulk publish holds it only to put finished
//! sessions in their places. The memory of a slot here is 8 bytes in its session and 4 in the table of slot numbers.

mod apply;
mod places;
mod types;
mod walk;

use std::collections::HashMap;
use std::sync::Arc;

use berth_engine::{PoolId, ProductId, Seq, SlotId, TimestampMs};
use parking_lot::RwLock;

pub use apply::ApplyError;
pub(crate) use types::CentreIndex;
pub use types::{Ages, Centre, Offered, Region, RegionKind, Session, SlotPlace, SlotRef, Window};
pub use walk::Numbered;

use crate::note::{NoteError, Numbering, ProgrammeNote};
use crate::position::Grid;
use crate::programme::Programme;
use crate::publish::Published;
use crate::take_up::Source;

/// What can be found. Shared; every method takes `&self`.
#[derive(Debug, Default)]
pub struct Catalogue {
    index: RwLock<Index>,
}

#[derive(Debug, Default)]
struct Index {
    /// In the order of publishing.
    regions: Vec<Arc<Region>>,
    region_by_id: HashMap<(RegionKind, Arc<str>), u32>,
    centres: Vec<Arc<Centre>>,
    centre_by_id: HashMap<Arc<str>, CentreIndex>,
    /// By district id.
    by_district: HashMap<Arc<str>, Vec<CentreIndex>>,
    by_pincode: HashMap<Arc<str>, Vec<CentreIndex>>,
    /// Those that say where they are.
    grid: Grid,
    sessions: Vec<Arc<Session>>,
    session_by_id: HashMap<Arc<str>, u32>,
    /// Slot number to index in `sessions`; [`NO_SESSION`] where the engine's blocks have gaps.
    session_of_slot: Vec<u32>,
    /// The names behind the engine's numbers, as the journal has them.
    numbering: Numbering,
    /// Every programme that was taken up, in order.
    programmes: Vec<Arc<KeptProgramme>>,
    /// What each bulk entry published, for the answer to a repeat of its request.
    published: HashMap<Seq, Published>,
}

/// A programme as the journal has it.
#[derive(Debug)]
pub struct KeptProgramme {
    /// The entry that put it in force.
    pub entry: Seq,
    pub(crate) note: ProgrammeNote,
}

impl KeptProgramme {
    /// When it was put in force.
    #[must_use]
    pub fn since(&self) -> TimestampMs {
        self.note.at
    }

    /// Whether it came by a call, and not from a file.
    #[must_use]
    pub fn by_call(&self) -> bool {
        self.note.source != Source::File
    }

    /// The SHA-256 of the file that a start would have read when it came by a call.
    #[must_use]
    pub fn file_sha256(&self) -> Option<[u8; 32]> {
        match self.note.source {
            Source::File => None,
            Source::Call { file_sha256 } => Some(file_sha256),
        }
    }

    /// The whole of its file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.note.text
    }
}

const NO_SESSION: u32 = u32::MAX;

impl Catalogue {
    /// Every region, in the order of publishing.
    #[must_use]
    pub fn regions(&self) -> Vec<Arc<Region>> {
        self.index.read().regions.clone()
    }

    /// Every programme that was ever in force, in order: which rules held when.
    #[must_use]
    pub fn programmes(&self) -> Vec<Arc<KeptProgramme>> {
        self.index.read().programmes.clone()
    }

    /// Whether a programme means the same by the numbers that sessions were published with.
    pub(crate) fn fits(&self, programme: &Programme) -> Result<(), NoteError> {
        self.index.read().numbering.check(programme)
    }

    /// Keeps what an entry put in force. Call it in journal order.
    pub(crate) fn took_up(&self, entry: Seq, note: ProgrammeNote) {
        self.index.write().programmes.push(Arc::new(KeptProgramme { entry, note }));
    }

    /// How many centres there are.
    #[must_use]
    pub fn centre_count(&self) -> usize {
        self.index.read().centres.len()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.index.read().sessions.len()
    }

    /// Where and when a slot is; `None` if its publish is not durable yet, or never was.
    #[must_use]
    pub fn slot(&self, slot: SlotId) -> Option<SlotPlace> {
        let index = self.index.read();
        let session = *index.session_of_slot.get(usize::try_from(slot.0).ok()?)?;
        let session = Arc::clone(index.sessions.get(usize::try_from(session).ok()?)?);
        drop(index);
        SlotPlace::new(session, slot)
    }

    /// Whether there is such a region.
    #[must_use]
    pub fn has_region(&self, kind: RegionKind, id: &str) -> bool {
        // Two lookups would do without the allocation, but only publishers come here.
        self.index.read().region_by_id.contains_key(&(kind, Arc::from(id)))
    }

    /// Whether there is such a session.
    #[must_use]
    pub fn has_session(&self, id: &str) -> bool {
        self.index.read().session_by_id.contains_key(id)
    }

    /// The session of an id; `None` if its publish is not durable yet, or never was.
    #[must_use]
    pub fn session(&self, id: &str) -> Option<Arc<Session>> {
        let index = self.index.read();
        index.session_by_id.get(id).and_then(|&s| index.sessions.get(usize::try_from(s).ok()?)).map(Arc::clone)
    }

    /// The centre of an id.
    #[must_use]
    pub fn centre(&self, id: &str) -> Option<Arc<Centre>> {
        let index = self.index.read();
        index.centre_by_id.get(id).and_then(|&c| index.centres.get(c.as_usize())).map(Arc::clone)
    }

    /// The centre of this number.
    pub(crate) fn centre_at(&self, index: CentreIndex) -> Option<Arc<Centre>> {
        self.index.read().centres.get(index.as_usize()).map(Arc::clone)
    }

    /// What the bulk entry of this number published.
    #[must_use]
    pub fn published(&self, seq: Seq) -> Option<Published> {
        self.index.read().published.get(&seq).copied()
    }

    /// The name of a product that sessions were published with; empty if there are none.
    #[must_use]
    pub fn product_name(&self, number: ProductId) -> String {
        self.index.read().numbering.products.get(&number).cloned().unwrap_or_default()
    }

    /// The name of a pool that sessions were published with; empty if there are none.
    #[must_use]
    pub fn pool_name(&self, number: PoolId) -> String {
        self.index.read().numbering.pools.get(&number).cloned().unwrap_or_default()
    }

    pub(crate) fn centre_index(&self, id: &str) -> Option<CentreIndex> {
        self.index.read().centre_by_id.get(id).copied()
    }
}
