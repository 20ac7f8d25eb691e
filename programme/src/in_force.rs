//! The programme in force: taken up whole, kept in the journal, and given to whoever asks without a lock.
//!
//! **Order.** A new programme is checked, then its note is made durable, then it is in force. So no claim is judged by rules that a
//! crash would forget. A claim that is judged at that very moment may be judged by either.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use berth_engine::{Dose, Given, HoldLimits, PartyFacts, Policy, PolicyRefusal, Seq, SlotFacts, TimestampMs};

use crate::calendar::Calendar;
use crate::file::{KeyFault, ProgrammeFile};
use crate::programme::Programme;

/// A programme, and since when it is in force.
#[derive(Debug)]
pub struct Standing {
    programme: Programme,
    /// When it was taken up.
    pub since: TimestampMs,
    /// The entry that says so; none where the journal had no room for it.
    pub entry: Option<Seq>,
    /// Whether it came by a call, and not from the file that a start reads.
    pub by_call: bool,
}

/// A look at the programme in force.
pub type Rules = Guard<Arc<Standing>>;

impl Deref for Standing {
    type Target = Programme;

    fn deref(&self) -> &Programme {
        &self.programme
    }
}

/// The rules in force, and the engine's policy. One for a cell; its zone never changes.
#[derive(Debug)]
pub struct InForce {
    current: ArcSwap<Standing>,
    calendar: Calendar,
}

impl InForce {
    pub(crate) fn new(programme: Programme) -> InForce {
        let calendar = programme.calendar().clone();
        let standing = Standing { programme, since: TimestampMs(0), entry: None, by_call: false };
        InForce { current: ArcSwap::from_pointee(standing), calendar }
    }

    /// The programme now. What is asked of one guard is answered by one programme; hold it for no longer than an answer takes.
    #[must_use]
    pub fn get(&self) -> Rules {
        self.current.load()
    }

    /// Civil time in the campaign's zone.
    #[must_use]
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// As [`Programme::in_time`].
    ///
    /// # Errors
    /// The rule of time that says no.
    pub fn in_time(&self, starts_at: TimestampMs, now: TimestampMs) -> Result<(), PolicyRefusal> {
        self.get().in_time(starts_at, now)
    }

    /// From now on this one. Whoever calls has its entry durable.
    pub(crate) fn set(&self, programme: Programme, since: TimestampMs, entry: Option<Seq>, by_call: bool) {
        self.current.store(Arc::new(Standing { programme, since, entry, by_call }));
    }
}

impl Policy for InForce {
    fn may_claim(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.get().may_claim(party, slot, dose, now)
    }

    fn may_leave(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        self.get().may_leave(slot, now)
    }

    fn may_move_away(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        self.get().may_move_away(slot, now)
    }

    fn may_be_moved(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.get().may_be_moved(party, slot, dose, now)
    }

    fn may_be_offered(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.get().may_be_offered(party, slot, dose, now)
    }

    fn may_walk_in(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.get().may_walk_in(party, slot, dose, now)
    }

    fn may_check_in(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        self.get().may_check_in(slot, now)
    }

    fn may_be_no_show(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        self.get().may_be_no_show(slot, now)
    }

    fn invitations(&self, party: &PartyFacts, slot: &SlotFacts, dose: Dose, now: TimestampMs) -> Option<u32> {
        self.get().invitations(party, slot, dose, now)
    }

    fn given(&self, party: &PartyFacts, slot: &SlotFacts, dose: Dose, now: TimestampMs) -> Given {
        self.get().given(party, slot, dose, now)
    }

    fn hold_limits(&self) -> HoldLimits {
        self.get().hold_limits()
    }

    fn hold_ttl_max(&self) -> Duration {
        self.get().hold_ttl_max()
    }

    fn offer_ttl_max(&self) -> Duration {
        self.get().offer_ttl_max()
    }
}

impl ProgrammeFile {
    /// What of an earlier file this one does not keep, though journal and people rest on it: every fault, by key.
    #[must_use]
    pub fn breaks_with(&self, before: &ProgrammeFile) -> Vec<KeyFault> {
        let mut faults = Vec::new();
        let mut fault = |key: String, reason: String| faults.push(KeyFault { key, reason });
        if self.time_zone != before.time_zone {
            fault("time_zone".to_owned(), format!("is {} in force: published sessions are in it", before.time_zone));
        }
        if before.currency.is_some() && self.currency != before.currency {
            let kept = before.currency.as_deref().unwrap_or_default();
            fault("currency".to_owned(), format!("is {kept} in force: published fees are in it"));
        }
        let ids = |file: &ProgrammeFile| {
            let products = file.products.iter().map(|product| product.id.clone()).collect::<Vec<_>>();
            let pools = file.pools.iter().map(|pool| pool.id.clone()).collect::<Vec<_>>();
            let cohorts = file.cohorts.iter().map(|cohort| cohort.id.clone()).collect::<Vec<_>>();
            [("products", products), ("pools", pools), ("cohorts", cohorts)]
        };
        for ((list, kept), (_, found)) in ids(before).into_iter().zip(ids(self)) {
            for (at, kept) in kept.iter().enumerate() {
                if found.get(at) != Some(kept) {
                    let found = found.get(at).map_or("nothing", String::as_str);
                    let reason = format!("is {kept} in force, and {found} here: numbers are kept, append at the end");
                    fault(format!("{list}[{at}].id"), reason);
                }
            }
        }
        for (at, (pool, kept)) in self.pools.iter().zip(&before.pools).enumerate() {
            if pool.id == kept.id && pool.dose != kept.dose {
                let dose = |dose: Option<u8>| dose.map_or_else(|| "any dose".to_owned(), |dose| format!("dose {dose}"));
                let reason = format!("is for {} in force: slots were published with it", dose(kept.dose));
                fault(format!("pools[{at}].dose"), reason);
            }
            if pool.id == kept.id && pool.invitation != kept.invitation {
                let reason =
                    format!("is {} in force: what is known of people counts invitations by it", kept.invitation);
                fault(format!("pools[{at}].invitation"), reason);
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDIA: &str = include_str!("../../programmes/india-2021.toml");

    fn parsed(text: &str) -> ProgrammeFile {
        ProgrammeFile::parse(text).unwrap()
    }

    #[test]
    fn a_file_may_append_and_rename_and_change_rules() {
        let more = INDIA
            .replace("name = \"Covaxin\"", "name = \"COVAXIN\"")
            .replace("booking_horizon_days = 28", "booking_horizon_days = 30")
            .replacen("[[cohorts]]", "[[pools]]\nid = \"new\"\nname = \"New\"\n\n[[cohorts]]", 1);
        assert_eq!(parsed(&more).breaks_with(&parsed(INDIA)), []);
        let keys = |text: &str, before: &str| -> Vec<String> {
            parsed(text).breaks_with(&parsed(before)).into_iter().map(|fault| fault.key).collect()
        };
        assert_eq!(keys(INDIA, &more), ["pools[3].id"], "what was appended stays");
    }

    #[test]
    fn what_journal_and_people_rest_on_is_kept() {
        let other = INDIA
            .replace("Asia/Kolkata", "Asia/Dhaka")
            .replace("\"INR\"", "\"BDT\"")
            .replace("id = \"covaxin\"", "id = \"x\"")
            .replace("[\"covaxin\"]", "[\"x\"]")
            .replace("id = \"dose1\"", "id = \"d1\"")
            .replace("dose = 2\nwalk_in", "dose = 1\nwalk_in")
            .replace("id = \"frontline\"", "id = \"f\"")
            .replace("\"frontline\"]", "\"f\"]");
        let file = parsed(&other);
        assert_eq!(file.validate(), Ok(()));
        let faults = file.breaks_with(&parsed(INDIA));
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["time_zone", "currency", "products[1].id", "pools[0].id", "cohorts[1].id", "pools[1].dose"]);
    }
}
