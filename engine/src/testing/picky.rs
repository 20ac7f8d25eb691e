//! A policy that says no now and then.

use std::time::Duration;

use crate::command::{PartyFacts, SlotFacts};
use crate::ids::Dose;
use crate::policy::{Policy, PolicyRefusal};
use crate::units::TimestampMs;

/// A programme with a rule about parties, one about doses and one about time.
#[derive(Clone, Copy, Debug)]
pub struct Picky {
    /// The longest a hold may live.
    pub hold_ttl_max: Duration,
}

impl Policy for Picky {
    fn may_claim(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        if slot.dose != Dose(0) && slot.dose != dose {
            return Err(PolicyRefusal { rule: "dose", from: None });
        }
        if party.birth_year > 2010 && now < slot.starts_at {
            return Err(PolicyRefusal { rule: "age", from: Some(slot.starts_at) });
        }
        Ok(())
    }

    fn may_leave(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        if now >= slot.starts_at { Err(PolicyRefusal { rule: "cut_off", from: None }) } else { Ok(()) }
    }

    fn hold_ttl_max(&self) -> Duration {
        self.hold_ttl_max
    }
}
