//! What the oracle says in place of the engine's refusals: it does not build the engine's counts.

use crate::error::Refusal;
use crate::ids::SlotId;

/// A refusal the engine should give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelRefusal {
    /// This one, to the letter.
    Exactly(Refusal),
    /// The slot is closed.
    Closed(SlotId),
    /// The slot is full, and whether live holds stand on it.
    Full(SlotId, bool),
    /// The slot has room, for who is offered it.
    Reserved(SlotId),
    /// The slot cannot shrink that far.
    BelowTaken(SlotId),
}

impl From<Refusal> for ModelRefusal {
    fn from(refusal: Refusal) -> Self {
        ModelRefusal::Exactly(refusal)
    }
}

impl From<&Refusal> for ModelRefusal {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::SlotClosed { slot, .. } => ModelRefusal::Closed(*slot),
            Refusal::Full { slot, counts } => ModelRefusal::Full(*slot, counts.held().get() > 0),
            Refusal::Reserved { slot, .. } => ModelRefusal::Reserved(*slot),
            Refusal::BelowTaken { slot, .. } => ModelRefusal::BelowTaken(*slot),
            other => ModelRefusal::Exactly(other.clone()),
        }
    }
}
