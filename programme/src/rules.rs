//! The programme's answers to the engine's questions. Pure: called with party locks held.
//!
//! The names of the rules are part of the HTTP contract (`rule` of a `not_eligible` answer).

use std::time::Duration;

use berth_engine::{Dose, Given, HoldLimits, PartyFacts, Policy, PolicyRefusal, ProgrammeId, SlotFacts, TimestampMs};

use crate::programme::Programme;

/// The one programme of a cell, until a cell can host several.
pub const PROGRAMME: ProgrammeId = ProgrammeId(1);

const DAY_MS: u64 = 24 * 3600 * 1000;

/// The slot's pool serves another dose.
const POOL_DOSE: &str = "pool_dose";
/// The product has no such dose.
const COURSE_DOSES: &str = "course_doses";
/// Too close to the start, or past it.
const BOOKING_CUTOFF: &str = "booking_cutoff";
/// Too far ahead; `from` says when it opens.
const BOOKING_HORIZON: &str = "booking_horizon";
/// Too late to cancel or move.
const CANCEL_CUTOFF: &str = "cancel_cutoff";
/// The party has had this dose.
const DOSE_GIVEN: &str = "dose_given";
/// The party has not had the dose before.
const DOSE_ORDER: &str = "dose_order";
/// Too soon after the dose before; `from` says when the first slot may start.
const DOSE_GAP: &str = "dose_gap";
/// The pool is not for who comes without a booking.
const WALK_IN_POOL: &str = "walk_in_pool";
/// The slot is not of today.
const WALK_IN_DAY: &str = "walk_in_day";
/// Before the day of the slot; `from` says when it begins.
const CHECK_IN_DAY: &str = "check_in_day";
/// Who is late may still come; `from` says until when.
const NO_SHOW_GRACE: &str = "no_show_grace";

impl Policy for Programme {
    fn may_claim(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.eligible(party, slot, dose)?;
        self.in_time(slot.starts_at, now)
    }

    fn may_be_moved(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        _now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.eligible(party, slot, dose)
    }

    fn may_walk_in(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        if !self.pool(slot.pool).is_some_and(|pool| pool.walk_in) {
            return no(WALK_IN_POOL);
        }
        if self.calendar().date(now) != self.calendar().date(slot.starts_at) {
            return no(WALK_IN_DAY);
        }
        self.eligible(party, slot, dose)
    }

    fn may_check_in(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        let from = self.calendar().midnight_before(slot.starts_at, 0);
        if now < from { Err(PolicyRefusal { rule: CHECK_IN_DAY, from: Some(from) }) } else { Ok(()) }
    }

    fn may_be_no_show(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        let grace = u64::from(self.file().no_show_grace_minutes) * 60_000;
        let from = TimestampMs(slot.starts_at.0.saturating_add(grace));
        if now < from { Err(PolicyRefusal { rule: NO_SHOW_GRACE, from: Some(from) }) } else { Ok(()) }
    }

    fn given(&self, party: &PartyFacts, slot: &SlotFacts, dose: Dose, now: TimestampMs) -> Given {
        Given { doses: party.doses.max(dose.0), product: slot.product, day: self.calendar().day(now) }
    }

    fn may_leave(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        if too_late(slot.starts_at, self.file().cancel_cutoff_minutes, now) { no(CANCEL_CUTOFF) } else { Ok(()) }
    }

    fn hold_limits(&self) -> HoldLimits {
        let file = self.file();
        HoldLimits { live_max: file.holds_live_max, expired_per_hour_max: file.holds_expired_per_hour_max }
    }

    fn hold_ttl_max(&self) -> Duration {
        self.hold_ttl()
    }
}

impl Programme {
    /// Whether this dose of what is given there is the party's due, whenever that is.
    fn eligible(&self, party: &PartyFacts, slot: &SlotFacts, dose: Dose) -> Result<(), PolicyRefusal> {
        if slot.dose != Dose(0) && slot.dose != dose {
            return no(POOL_DOSE);
        }
        // A product the file no longer knows can be given to nobody.
        let Some(product) = self.product(slot.product) else { return no(COURSE_DOSES) };
        if !(1..=product.doses).contains(&dose.0) {
            return no(COURSE_DOSES);
        }
        if dose.0 <= party.doses {
            return no(DOSE_GIVEN);
        }
        if self.file().doses_in_order && dose.0 > party.doses.saturating_add(1) {
            return no(DOSE_ORDER);
        }
        if product.gap_days_min > 0 && party.doses > 0 {
            let from = self.calendar().start_of_day(party.last_dose_day.saturating_add(product.gap_days_min));
            if slot.starts_at < from {
                return Err(PolicyRefusal { rule: DOSE_GAP, from: Some(from) });
            }
        }
        Ok(())
    }

    /// Whether what starts then can be booked now, as far as time goes: by anybody, for any dose.
    ///
    /// # Errors
    /// The rule of time that says no.
    pub fn in_time(&self, starts_at: TimestampMs, now: TimestampMs) -> Result<(), PolicyRefusal> {
        if too_late(starts_at, self.file().booking_cutoff_minutes, now) {
            return no(BOOKING_CUTOFF);
        }
        match self.not_before(starts_at, now) {
            Some(from) => Err(PolicyRefusal { rule: BOOKING_HORIZON, from: Some(from) }),
            None => Ok(()),
        }
    }

    /// From when what starts then can be booked, if that is not yet.
    fn not_before(&self, starts_at: TimestampMs, now: TimestampMs) -> Option<TimestampMs> {
        let days = self.file().booking_horizon_days;
        // Midnight `days` ahead of the session's is at most a day and a clock change before the same time
        // of day, so nearly every claim is decided without the calendar.
        let surely_open = u64::from(days).saturating_sub(1) * DAY_MS;
        if starts_at.0.saturating_sub(now.0) <= surely_open {
            return None;
        }
        let from = self.calendar().midnight_before(starts_at, days);
        (now < from).then_some(from)
    }
}

fn too_late(starts_at: TimestampMs, cutoff_minutes: u32, now: TimestampMs) -> bool {
    now.0 > starts_at.0.saturating_sub(u64::from(cutoff_minutes) * 60_000)
}

fn no(rule: &'static str) -> Result<(), PolicyRefusal> {
    Err(PolicyRefusal { rule, from: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_engine::{PoolId, ProductId};
    use jiff::civil::{date, time};

    fn india() -> Programme {
        Programme::from_toml(include_str!("../../programmes/india-2021.toml")).unwrap()
    }

    fn slot(programme: &Programme, dose: u8) -> SlotFacts {
        let starts_at = programme.calendar().instant(date(2026, 11, 24), time(9, 0, 0, 0)).unwrap();
        SlotFacts { programme: PROGRAMME, dose: Dose(dose), product: ProductId(1), pool: PoolId(1), starts_at }
    }

    fn rule(programme: &Programme, slot: &SlotFacts, dose: u8, now: TimestampMs) -> Option<&'static str> {
        programme.may_claim(&PartyFacts::default(), slot, Dose(dose), now).err().map(|r| r.rule)
    }

    #[test]
    fn a_pool_serves_its_dose_and_a_product_its_course() {
        let india = india();
        let (first, any) = (slot(&india, 1), slot(&india, 0));
        let now = TimestampMs(first.starts_at.0 - DAY_MS);
        assert_eq!(rule(&india, &first, 1, now), None);
        assert_eq!(rule(&india, &first, 2, now), Some(POOL_DOSE));
        assert_eq!(rule(&india, &any, 2, now), Some(DOSE_ORDER));
        assert_eq!(rule(&india, &any, 3, now), Some(COURSE_DOSES));
        assert_eq!(rule(&india, &any, 0, now), Some(COURSE_DOSES));
        let unknown = SlotFacts { product: ProductId(99), ..any };
        assert_eq!(rule(&india, &unknown, 1, now), Some(COURSE_DOSES));
    }

    #[test]
    fn a_dose_is_given_once_in_its_turn_and_not_too_soon() {
        let india = india();
        let any = slot(&india, 0);
        let now = TimestampMs(any.starts_at.0 - DAY_MS);
        let asked = |doses, last_dose_day, dose| {
            let party = PartyFacts { doses, last_dose_day, ..PartyFacts::default() };
            india.may_claim(&party, &any, Dose(dose), now).err()
        };
        let day = india.calendar().day(any.starts_at);
        assert_eq!(asked(1, day - 28, 1).unwrap().rule, DOSE_GIVEN);
        assert_eq!(asked(0, 0, 2).unwrap().rule, DOSE_ORDER);
        assert_eq!(asked(1, day - 28, 2), None);
        let midnight = india.calendar().midnight_before(any.starts_at, 0);
        let from = TimestampMs(midnight.0 + DAY_MS);
        assert_eq!(asked(1, day - 27, 2), Some(PolicyRefusal { rule: DOSE_GAP, from: Some(from) }));

        let loose =
            include_str!("../../programmes/india-2021.toml").replace("doses_in_order = true", "doses_in_order = false");
        let loose = Programme::from_toml(&loose).unwrap();
        assert_eq!(rule(&loose, &any, 2, now), None);
        let given = india.given(&PartyFacts::default(), &any, Dose(1), any.starts_at);
        assert_eq!(given, Given { doses: 1, product: ProductId(1), day });
        let party = PartyFacts::default().after(given);
        assert_eq!(india.may_claim(&party, &any, Dose(1), now).unwrap_err().rule, DOSE_GIVEN);
    }

    // rule: WLK-1
    #[test]
    fn the_door_is_open_on_the_day_in_pools_that_say_so() {
        let text = include_str!("../../programmes/india-2021.toml");
        let india = india();
        let any = SlotFacts { pool: PoolId(3), ..slot(&india, 0) };
        let midnight = india.calendar().midnight_before(any.starts_at, 0);
        let asked = |now: u64, dose| {
            india.may_walk_in(&PartyFacts::default(), &any, Dose(dose), TimestampMs(now)).err().map(|no| no.rule)
        };
        // Neither the cut-off nor the horizon binds, the day does.
        assert_eq!(asked(any.starts_at.0 + 3_600_000, 1), None);
        assert_eq!(asked(midnight.0, 1), None);
        assert_eq!(asked(midnight.0 - 1, 1), Some(WALK_IN_DAY));
        assert_eq!(asked(midnight.0 + DAY_MS, 1), Some(WALK_IN_DAY));
        assert_eq!(asked(midnight.0, 2), Some(DOSE_ORDER));
        let shut = Programme::from_toml(&text.replace("walk_in = true", "walk_in = false")).unwrap();
        let refused = shut.may_walk_in(&PartyFacts::default(), &any, Dose(1), any.starts_at).unwrap_err();
        assert_eq!(refused.rule, WALK_IN_POOL);

        assert_eq!(india.may_check_in(&any, midnight), Ok(()));
        let early = PolicyRefusal { rule: CHECK_IN_DAY, from: Some(midnight) };
        assert_eq!(india.may_check_in(&any, TimestampMs(midnight.0 - 1)), Err(early));
    }

    // rule: NSH-1
    #[test]
    fn who_is_late_has_the_grace() {
        let india = india();
        let slot = slot(&india, 1);
        let from = TimestampMs(slot.starts_at.0 + 30 * 60_000);
        assert_eq!(india.may_be_no_show(&slot, from), Ok(()));
        let early = PolicyRefusal { rule: NO_SHOW_GRACE, from: Some(from) };
        assert_eq!(india.may_be_no_show(&slot, TimestampMs(from.0 - 1)), Err(early));
    }

    // rule: HLD-2
    #[test]
    fn the_limits_on_holds_are_the_files() {
        let limits = HoldLimits { live_max: 2, expired_per_hour_max: 5 };
        assert_eq!(india().hold_limits(), limits);
        let text = include_str!("../../programmes/india-2021.toml");
        let without = text.replace("holds_live_max = 2\n", "").replace("holds_expired_per_hour_max = 5\n", "");
        assert_eq!(Programme::from_toml(&without).unwrap().hold_limits(), limits, "the defaults");
        let none = text.replace("holds_live_max = 2", "holds_live_max = 0");
        assert_eq!(Programme::from_toml(&none).unwrap().hold_limits().live_max, 0);
    }

    #[test]
    fn the_administration_moves_whom_it_must() {
        let india = india();
        let slot = slot(&india, 1);
        let late = TimestampMs(slot.starts_at.0 + 1);
        assert_eq!(india.may_be_moved(&PartyFacts::default(), &slot, Dose(1), late), Ok(()));
        assert_eq!(india.may_be_moved(&PartyFacts::default(), &slot, Dose(2), late).unwrap_err().rule, POOL_DOSE);
    }

    #[test]
    fn the_horizon_opens_at_midnight_of_its_day() {
        let india = india();
        let slot = slot(&india, 1);
        let opens = india.calendar().instant(date(2026, 10, 27), time(0, 0, 0, 0)).unwrap();
        let refused = india.may_claim(&PartyFacts::default(), &slot, Dose(1), TimestampMs(opens.0 - 1)).unwrap_err();
        assert_eq!(refused, PolicyRefusal { rule: BOOKING_HORIZON, from: Some(opens) });
        assert_eq!(rule(&india, &slot, 1, opens), None);
    }

    #[test]
    fn the_shortcut_before_the_calendar_never_opens_early() {
        let berlin = include_str!("../../programmes/india-2021.toml").replace("Asia/Kolkata", "Europe/Berlin");
        let berlin = Programme::from_toml(&berlin).unwrap();
        // The clocks change inside the horizon, in both directions.
        for (year, month, day) in [(2026, 4, 10), (2026, 11, 10)] {
            for hour in [0, 1, 9, 23] {
                let starts_at = berlin.calendar().instant(date(year, month, day), time(hour, 0, 0, 0)).unwrap();
                let facts = SlotFacts { starts_at, ..slot(&berlin, 1) };
                let opens = berlin.calendar().midnight_before(starts_at, 28);
                assert_eq!(rule(&berlin, &facts, 1, opens), None);
                assert_eq!(rule(&berlin, &facts, 1, TimestampMs(opens.0 - 1)), Some(BOOKING_HORIZON));
            }
        }
    }

    #[test]
    fn the_cutoffs_count_back_from_the_start() {
        let india = india();
        let slot = slot(&india, 1);
        assert_eq!(rule(&india, &slot, 1, slot.starts_at), None);
        assert_eq!(rule(&india, &slot, 1, TimestampMs(slot.starts_at.0 + 1)), Some(BOOKING_CUTOFF));
        assert_eq!(india.in_time(slot.starts_at, slot.starts_at), Ok(()));
        let late = india.in_time(slot.starts_at, TimestampMs(slot.starts_at.0 + 1));
        assert_eq!(late.unwrap_err().rule, BOOKING_CUTOFF);
        let last = TimestampMs(slot.starts_at.0 - 3_600_000);
        assert_eq!(india.may_leave(&slot, last), Ok(()));
        assert_eq!(india.may_leave(&slot, TimestampMs(last.0 + 1)).unwrap_err().rule, CANCEL_CUTOFF);
    }
}
