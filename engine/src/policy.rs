//! What the engine asks the programme, inside the party's lock.

use std::time::Duration;

use crate::command::{PartyFacts, SlotFacts};
use crate::ids::Dose;
use crate::units::TimestampMs;

/// A programme's no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRefusal {
    /// The programme's stable name for the rule that decided.
    pub rule: &'static str,
    /// From when the answer would be yes, where that is known.
    pub from: Option<TimestampMs>,
}

/// The programme's rules as pure functions of what they are given.
///
/// Called with party locks held: an implementation must not block, must not call the engine and must
/// not read a clock. Eligibility, uniqueness and claim are thereby one decision.
pub trait Policy: Send + Sync + 'static {
    /// May this party have a unit of this slot as this dose?
    ///
    /// # Errors
    /// The rule that says no.
    fn may_claim(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal>;

    /// May a booking of this slot still be given up or moved away?
    ///
    /// # Errors
    /// The rule that says no.
    fn may_leave(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal>;

    /// The longest a hold may live. The engine caps what a caller asks for.
    fn hold_ttl_max(&self) -> Duration;
}

/// Everyone may claim everything: for embedding without a programme, and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Policy for AllowAll {
    fn may_claim(&self, _: &PartyFacts, _: &SlotFacts, _: Dose, _: TimestampMs) -> Result<(), PolicyRefusal> {
        Ok(())
    }

    fn may_leave(&self, _: &SlotFacts, _: TimestampMs) -> Result<(), PolicyRefusal> {
        Ok(())
    }

    fn hold_ttl_max(&self) -> Duration {
        Duration::from_secs(3600)
    }
}
