//! What the engine asks the programme, inside the party's lock.

use std::time::Duration;

use crate::command::{Given, PartyFacts, SlotFacts};
use crate::ids::Dose;
use crate::units::TimestampMs;

/// The rule that every invitation to a slot's pool is spent ([`Policy::invitations`]).
pub const INVITATION_SPENT: &str = "invitation_spent";

/// A programme's no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRefusal {
    /// The programme's stable name for the rule that decided.
    pub rule: &'static str,
    /// From when the answer would be yes, where that is known: the time of asking, or of a slot that may be asked for, as the
    /// rule has it.
    pub from: Option<TimestampMs>,
}

/// How much one party may hold, in one programme. 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldLimits {
    /// Live holds at once.
    pub live_max: u16,
    /// Holds that expired within the last hour.
    pub expired_per_hour_max: u16,
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

    /// May a booking of this slot still be given up?
    ///
    /// # Errors
    /// The rule that says no.
    fn may_leave(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal>;

    /// May a booking of this slot still be moved away? Without another answer, as long as it may be given up.
    ///
    /// # Errors
    /// The rule that says no.
    fn may_move_away(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        self.may_leave(slot, now)
    }

    /// May the administration move this party's booking to this slot? What binds is who the party is and what the slot is for, not
    /// how far off it is.
    ///
    /// # Errors
    /// The rule that says no.
    fn may_be_moved(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.may_claim(party, slot, dose, now)
    }

    /// May this party be offered a free unit of this slot as this dose?
    ///
    /// # Errors
    /// The rule that says no.
    fn may_be_offered(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.may_claim(party, slot, dose, now)
    }

    /// May this party, who has come without a booking, have a free unit of this slot now?
    ///
    /// # Errors
    /// The rule that says no.
    // rule: WLK-1
    fn may_walk_in(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.may_claim(party, slot, dose, now)
    }

    /// May the party of a booking of this slot be checked in now?
    ///
    /// # Errors
    /// The rule that says no.
    fn may_check_in(&self, _slot: &SlotFacts, _now: TimestampMs) -> Result<(), PolicyRefusal> {
        Ok(())
    }

    /// May it be said now that nobody came for a booking of this slot? Never before the slot's start.
    ///
    /// # Errors
    /// The rule that says no.
    // rule: NSH-1
    fn may_be_no_show(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        let (rule, from) = ("no_show_grace", Some(slot.starts_at));
        if now < slot.starts_at { Err(PolicyRefusal { rule, from }) } else { Ok(()) }
    }

    /// How often this party was invited to the slot's pool, where only who was invited may have a unit of it. The engine counts what
    /// the party's bookings have spent, under its lock, and refuses as [`INVITATION_SPENT`] once nothing is left; whether it was
    /// invited at all is for the other questions to judge. `None`: no invitation is needed.
    // rule: ELG-3
    fn invitations(&self, _party: &PartyFacts, _slot: &SlotFacts, _dose: Dose, _now: TimestampMs) -> Option<u32> {
        None
    }

    /// What a party's facts say once this dose was given at this slot. The day is the programme's civil one; without another
    /// answer, UTC's.
    fn given(&self, party: &PartyFacts, slot: &SlotFacts, dose: Dose, now: TimestampMs) -> Given {
        let day = u16::try_from(now.0 / 86_400_000).unwrap_or(u16::MAX);
        Given { doses: party.doses.max(dose.0), product: slot.product, day }
    }

    /// How much one party may hold. Without another answer, as much as one live claim for each dose allows.
    // rule: HLD-2
    fn hold_limits(&self) -> HoldLimits {
        HoldLimits::default()
    }

    /// The longest a hold may live. The engine caps what a caller asks for.
    fn hold_ttl_max(&self) -> Duration;

    /// The longest an offer may stand.
    fn offer_ttl_max(&self) -> Duration {
        self.hold_ttl_max()
    }
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
