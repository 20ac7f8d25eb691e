//! A policy that says no now and then.

use std::time::Duration;

use crate::command::{PartyFacts, SlotFacts};
use crate::ids::Dose;
use crate::policy::{HoldLimits, Policy, PolicyRefusal};
use crate::units::TimestampMs;

/// Before its start a slot's doors open so early.
const DOORS_OPEN_MS: u64 = 1000;
/// A booking cannot be moved away any more so long before the start.
const MOVE_CUT_OFF_MS: u64 = 20;
/// Nobody is a no-show sooner after the start.
const GRACE_MS: u64 = 50;

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
        if dose.0 <= party.doses {
            return Err(PolicyRefusal { rule: "given", from: None });
        }
        if party.birth_year > 2010 && now < slot.starts_at {
            return Err(PolicyRefusal { rule: "age", from: Some(slot.starts_at) });
        }
        Ok(())
    }

    fn may_leave(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        if now >= slot.starts_at { Err(PolicyRefusal { rule: "cut_off", from: None }) } else { Ok(()) }
    }

    fn may_move_away(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        let late = now.0 + MOVE_CUT_OFF_MS >= slot.starts_at.0;
        if late { Err(PolicyRefusal { rule: "move_cut_off", from: None }) } else { Ok(()) }
    }

    fn may_be_moved(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        _: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.may_claim(party, slot, dose, slot.starts_at)
    }

    /// Whoever is old enough on the day.
    fn may_be_offered(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.may_claim(party, slot, dose, now.max(slot.starts_at))
    }

    fn may_walk_in(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.may_check_in(slot, now)?;
        self.may_claim(party, slot, dose, slot.starts_at)
    }

    fn may_check_in(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        let from = TimestampMs(slot.starts_at.0.saturating_sub(DOORS_OPEN_MS));
        if now < from { Err(PolicyRefusal { rule: "early", from: Some(from) }) } else { Ok(()) }
    }

    fn may_be_no_show(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        let from = TimestampMs(slot.starts_at.0 + GRACE_MS);
        if now < from { Err(PolicyRefusal { rule: "grace", from: Some(from) }) } else { Ok(()) }
    }

    fn hold_limits(&self) -> HoldLimits {
        HoldLimits { live_max: 2, expired_per_hour_max: 3 }
    }

    fn hold_ttl_max(&self) -> Duration {
        self.hold_ttl_max
    }

    fn offer_ttl_max(&self) -> Duration {
        self.hold_ttl_max * 2
    }
}
