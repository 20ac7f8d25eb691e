//! What stands of lotteries in the journal: a `Recorded` entry's bytes, a version and JSON. Of people there are numbers, and nothing else.

use berth_engine::{SlotId, TimestampMs};
use serde::{Deserialize, Serialize};

use super::draw::{Passed, Preference};

/// The kind of `Recorded` entries that are of lotteries.
pub const RECORDED_LOTTERIES: u8 = 4;

const VERSION: u8 = 1;

/// A lottery as it was made. Nothing of it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Unique.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// As which dose its units are had.
    pub dose: u8,
    /// What is drawn for, in the order in which a preference's slots are tried: the earliest first.
    pub slots: Vec<u32>,
    /// From when on people register.
    pub opens_at: u64,
    /// Until when.
    pub closes_at: u64,
    /// When it is drawn.
    pub draws_at: u64,
    /// Until when what was offered can be confirmed; then what is left is everybody's.
    pub offers_until: u64,
    /// What the seed was derived with, beside the cell's key. 64 hexadecimal digits.
    pub nonce: String,
    /// SHA-256 of the seed.
    pub commitment: String,
}

impl Spec {
    /// Whether people register at this instant, as far as time goes.
    #[must_use]
    pub fn registers_at(&self, now: TimestampMs) -> bool {
        (self.opens_at..self.closes_at).contains(&now.0)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Said {
    Made { lottery: Spec },
    Registered { id: String, party: u32, preferences: Vec<Preference> },
    Withdrawn { id: String, party: u32 },
    Closed { id: String, digest: String, registrations: u64 },
    Drawing { id: String, seed: String, units: Vec<u32> },
    Came { id: String, place: u64, came: CameRow },
    Drawn { id: String, given: u64 },
    Opened { id: String, slots: Vec<u32> },
}

/// What came of one registration, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CameRow {
    /// Whose.
    pub party: u32,
    /// What was passed over, and why.
    pub passed: Vec<Passed>,
    /// The slot and the hold that were offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<(u32, u64)>,
}

/// The slots that a `Recorded` entry says are drawn for no more: who waits may have what is left.
pub(crate) fn opened(kind: u8, bytes: &[u8]) -> Vec<SlotId> {
    match Said::read(bytes).filter(|_| kind == RECORDED_LOTTERIES) {
        Some(Said::Opened { slots, .. }) => slots.into_iter().map(SlotId).collect(),
        _ => Vec::new(),
    }
}

impl Said {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        serde_json::to_writer(&mut bytes, self).expect("it has only string keys, and memory takes it");
        bytes
    }

    /// `None`: nothing that any Berth wrote, or a newer one did.
    pub(super) fn read(bytes: &[u8]) -> Option<Said> {
        let (&VERSION, json) = bytes.split_first()? else { return None };
        serde_json::from_slice(json).ok()
    }
}
