//! The programme's answers to the engine's questions. Pure: called with party locks held. What they read are the tables of
//! `compiled`: no allocation, no calendar.
//!
//! The names of the rules are part of the HTTP contract (`rule` of a `not_eligible` answer). They are judged in the order of
//! [`RULES`], and the first that says no is told.

use std::time::Duration;

use berth_engine::{
    Dose, Given, HoldLimits, INVITATION_SPENT, PartyFacts, Policy, PolicyRefusal, ProgrammeId, SlotFacts, TimestampMs,
};

use crate::compiled::{Band, Era, Gap, Pool};
use crate::file::WalkIn;
use crate::invitations;
use crate::programme::Programme;

/// The one programme of a cell, until a cell can host several.
pub const PROGRAMME: ProgrammeId = ProgrammeId(1);

const DAY_MS: u64 = 24 * 3600 * 1000;
/// The longest that any offer stands, whoever makes it.
const OFFER_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The pool is only for who comes without a booking.
pub(crate) const WALK_IN_ONLY: &str = "walk_in_only";
/// The pool is not for who comes without a booking.
const WALK_IN_POOL: &str = "walk_in_pool";
/// The slot is not of today.
const WALK_IN_DAY: &str = "walk_in_day";
/// The slot's pool serves another dose; `from` says when it spills to one that does not.
pub(crate) const POOL_DOSE: &str = "pool_dose";
/// The party is in none of the pool's cohorts; `from` as in [`POOL_DOSE`].
pub(crate) const POOL_COHORT: &str = "pool_cohort";
/// The party was not invited to the pool; `from` as in [`POOL_DOSE`].
pub(crate) const INVITATION: &str = "invitation";
/// The product has no such dose.
pub(crate) const COURSE_DOSES: &str = "course_doses";
/// The party has had this dose.
pub(crate) const DOSE_GIVEN: &str = "dose_given";
/// The party has not had the dose before.
pub(crate) const DOSE_ORDER: &str = "dose_order";
/// The dose before was of another product; `from` says from when on that is no hindrance.
pub(crate) const SAME_PRODUCT: &str = "same_product";
/// The party's year of birth is not known.
pub(crate) const AGE_UNKNOWN: &str = "age_unknown";
/// The party's cohort has not opened; `from` says on which day it does.
pub(crate) const COHORT_OPENING: &str = "cohort_opening";
/// No age band covers the party; `from` says on which day one does.
pub(crate) const AGE_BAND: &str = "age_band";
/// Too soon after the dose before; `from` says when the first slot may start.
pub(crate) const DOSE_GAP: &str = "dose_gap";
/// Too close to the start, or past it.
pub(crate) const BOOKING_CUTOFF: &str = "booking_cutoff";
/// Too far ahead; `from` says when it opens.
pub(crate) const BOOKING_HORIZON: &str = "booking_horizon";
/// Who is covered cannot book yet; `from` says when.
pub(crate) const BOOKING_OPENING: &str = "booking_opening";
/// Too late to cancel.
const CANCEL_CUTOFF: &str = "cancel_cutoff";
/// Too late to move.
const MOVE_CUTOFF: &str = "move_cutoff";
/// Before the day of the slot; `from` says when it begins.
const CHECK_IN_DAY: &str = "check_in_day";
/// Who is late may still come; `from` says until when.
const NO_SHOW_GRACE: &str = "no_show_grace";

/// Every rule with what it asks for, in the order in which they are judged.
pub const RULES: &[(&str, &str)] = &[
    (WALK_IN_ONLY, "the pool can be booked, and is not for the door alone"),
    (WALK_IN_POOL, "the pool is for who comes without a booking, too"),
    (WALK_IN_DAY, "who comes without a booking comes on the day of the slot"),
    (POOL_DOSE, "the pool is for this dose, or has spilled into one that is"),
    (POOL_COHORT, "the party is in one of the pool's cohorts, or the pool has spilled"),
    (INVITATION, "the party was invited to the pool, or the pool has spilled"),
    (COURSE_DOSES, "the product's course has this dose"),
    (DOSE_GIVEN, "the party has not had this dose"),
    (DOSE_ORDER, "the party has had the dose before it"),
    (SAME_PRODUCT, "the dose before was of the same product, or of one that this may follow"),
    (AGE_UNKNOWN, "the party's year of birth is known"),
    (COHORT_OPENING, "the party's cohort has opened by the day of the visit"),
    (AGE_BAND, "an age band covers the party, the product and the dose on the day of the visit"),
    (DOSE_GAP, "enough days have passed since the dose before"),
    (BOOKING_CUTOFF, "it is not too late to book the slot"),
    (BOOKING_HORIZON, "it is not too early to book the slot"),
    (BOOKING_OPENING, "who is covered may book already"),
    (INVITATION_SPENT, "no booking has spent the party's invitation yet"),
    (CANCEL_CUTOFF, "it is not too late to cancel"),
    (MOVE_CUTOFF, "it is not too late to move"),
    (CHECK_IN_DAY, "the day of the slot has come"),
    (NO_SHOW_GRACE, "who is late has had the grace"),
];

/// What a rule asks for, in words.
#[must_use]
pub fn sentence(rule: &str) -> &'static str {
    RULES.iter().find(|(name, _)| *name == rule).map_or("", |(_, sentence)| sentence)
}

/// Who wants to know of each rule that was met on the way.
pub(crate) trait Trace {
    /// This rule says yes; `since` when, if it has not always.
    fn passed(&mut self, rule: &'static str, since: impl FnOnce() -> Option<TimestampMs>);
}

/// Nobody: the engine wants the answer.
impl Trace for () {
    #[inline]
    fn passed(&mut self, _: &'static str, _: impl FnOnce() -> Option<TimestampMs>) {}
}

impl Policy for Programme {
    fn may_claim(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.judge_claim(party, slot, dose, now, &mut ())
    }

    fn may_be_moved(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        self.eligible(party, slot, dose, now, &mut ()).or_else(|no| {
            // Who booked by rules that have changed since keeps the booking, also where it has to go elsewhere.
            let before = self.compiled().changes().filter(|&from| from <= now).map(|from| TimestampMs(from.0 - 1));
            let mut before = before.filter(|&then| self.eligible(party, slot, dose, then, &mut ()).is_ok());
            before.next().map(|_| ()).ok_or(no)
        })
    }

    /// What could be booked, but for the cut-off of bookings: what is given back late is offered late, on the day itself too.
    fn may_be_offered(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        if self.pool_tables(slot).is_some_and(|pool| pool.walk_in == WalkIn::Only) {
            return no(WALK_IN_ONLY);
        }
        self.eligible(party, slot, dose, now, &mut ())?;
        if self.calendar().day(now) > self.calendar().day(slot.starts_at) {
            return no(BOOKING_CUTOFF);
        }
        if now < slot.starts_at {
            match self.in_time(slot.starts_at, now) {
                Err(refusal) if refusal.rule == BOOKING_HORIZON => return Err(refusal),
                Ok(()) | Err(_) => {}
            }
        }
        self.booking_opened(party, slot, dose, now, &mut ())
    }

    fn may_walk_in(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<(), PolicyRefusal> {
        if self.pool_tables(slot).is_none_or(|pool| pool.walk_in == WalkIn::No) {
            return no(WALK_IN_POOL);
        }
        if self.calendar().day(now) != self.calendar().day(slot.starts_at) {
            return no(WALK_IN_DAY);
        }
        self.eligible(party, slot, dose, now, &mut ())
    }

    fn may_check_in(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        let from = self.calendar().midnight_before(slot.starts_at, 0);
        if now < from { not_before(CHECK_IN_DAY, from) } else { Ok(()) }
    }

    fn may_be_no_show(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        let from = TimestampMs(slot.starts_at.0.saturating_add(self.compiled().era(now).no_show_grace_ms));
        if now < from { not_before(NO_SHOW_GRACE, from) } else { Ok(()) }
    }

    // rule: ELG-3 whom a spill lets in needs none
    fn invitations(&self, party: &PartyFacts, slot: &SlotFacts, dose: Dose, now: TimestampMs) -> Option<u32> {
        let pool = self.pool_tables(slot)?;
        let given = invitations::count(party.cohorts, pool.invitation?);
        let spilled = self.spills_since(pool, party, slot, dose).is_some_and(|since| since <= now);
        (!spilled).then_some(given)
    }

    fn given(&self, party: &PartyFacts, slot: &SlotFacts, dose: Dose, now: TimestampMs) -> Given {
        Given { doses: party.doses.max(dose.0), product: slot.product, day: self.calendar().day(now) }
    }

    fn may_leave(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        let cutoff_ms = self.compiled().era(now).cancel_cutoff_ms;
        if too_late(slot.starts_at, cutoff_ms, now) { no(CANCEL_CUTOFF) } else { Ok(()) }
    }

    fn may_move_away(&self, slot: &SlotFacts, now: TimestampMs) -> Result<(), PolicyRefusal> {
        let cutoff_ms = self.compiled().era(now).move_cutoff_ms;
        if too_late(slot.starts_at, cutoff_ms, now) { no(MOVE_CUTOFF) } else { Ok(()) }
    }

    fn hold_limits(&self) -> HoldLimits {
        let file = self.file();
        HoldLimits { live_max: file.holds_live_max, expired_per_hour_max: file.holds_expired_per_hour_max }
    }

    fn hold_ttl_max(&self) -> Duration {
        self.hold_ttl()
    }

    fn offer_ttl_max(&self) -> Duration {
        OFFER_TTL_MAX
    }
}

impl Programme {
    /// Everything that is judged before a claim.
    // rule: ELG-1 the file as it stands at the moment of asking; a move by the administration asks for less
    pub(crate) fn judge_claim(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
        trace: &mut impl Trace,
    ) -> Result<(), PolicyRefusal> {
        if self.pool_tables(slot).is_some_and(|pool| pool.walk_in == WalkIn::Only) {
            return no(WALK_IN_ONLY);
        }
        self.eligible(party, slot, dose, now, trace)?;
        self.in_time(slot.starts_at, now)?;
        trace.passed(BOOKING_CUTOFF, || None);
        trace.passed(BOOKING_HORIZON, || Some(self.horizon_opens(slot.starts_at, now)));
        self.booking_opened(party, slot, dose, now, trace)
    }

    /// Whether this dose of what is given there is the party's due, whenever that is.
    fn eligible(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
        trace: &mut impl Trace,
    ) -> Result<(), PolicyRefusal> {
        self.may_use_pool(party, slot, dose, now, trace)?;
        // A product the file no longer knows can be given to nobody.
        let Some(product) = self.product(slot.product) else { return no(COURSE_DOSES) };
        if !(1..=product.doses).contains(&dose.0) {
            return no(COURSE_DOSES);
        }
        trace.passed(COURSE_DOSES, || None);
        if dose.0 <= party.doses {
            return no(DOSE_GIVEN);
        }
        trace.passed(DOSE_GIVEN, || None);
        if self.compiled().era(now).doses_in_order && dose.0 > party.doses.saturating_add(1) {
            return Err(PolicyRefusal { rule: DOSE_ORDER, from: self.changes_to(now, |era| !era.doses_in_order) });
        }
        trace.passed(DOSE_ORDER, || None);
        let gap = self.gap(party, slot, dose, now)?;
        trace.passed(SAME_PRODUCT, || None);
        self.may_come(party, slot, dose, trace)?;
        if gap.min > 0 && party.doses > 0 {
            let from = self.calendar().start_of_day(party.last_dose_day.saturating_add(gap.min));
            if slot.starts_at < from {
                return not_before(DOSE_GAP, from);
            }
            trace.passed(DOSE_GAP, || (party.last_dose_day > 0).then_some(from));
        } else {
            trace.passed(DOSE_GAP, || None);
        }
        Ok(())
    }

    fn pool_tables(&self, slot: &SlotFacts) -> Option<&Pool> {
        self.compiled().pool(place(slot.pool.0)?)
    }

    /// Whether the slot's pool is for this party and dose.
    fn may_use_pool(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
        trace: &mut impl Trace,
    ) -> Result<(), PolicyRefusal> {
        let fits = slot.dose == Dose(0) || slot.dose == dose;
        let Some(pool) = self.pool_tables(slot) else { return if fits { Ok(()) } else { no(POOL_DOSE) } };
        let is_for_all = fits && pool.cohorts == 0 && pool.invitation.is_none();
        let spilled = if is_for_all { None } else { self.spilled(pool, party, slot, dose, now)? };
        trace.passed(POOL_DOSE, || spilled);
        trace.passed(POOL_COHORT, || spilled);
        if pool.invitation.is_some() {
            trace.passed(INVITATION, || spilled);
        }
        Ok(())
    }

    /// Since when a pool that is not for everybody lets this party in, if that is by a spill.
    fn spilled(
        &self,
        pool: &Pool,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
    ) -> Result<Option<TimestampMs>, PolicyRefusal> {
        let rules = self.compiled();
        let day = self.calendar().day(slot.starts_at);
        let admits = |cohorts: u32| cohorts == 0 || rules.is_open(party.cohorts & cohorts, day);
        let own = if !serves(slot.dose, dose) {
            PolicyRefusal { rule: POOL_DOSE, from: None }
        } else if admits(pool.cohorts) {
            let invited = pool.invitation.is_none_or(|shift| invitations::count(party.cohorts, shift) > 0);
            if invited {
                return Ok(None);
            }
            PolicyRefusal { rule: INVITATION, from: None }
        } else {
            match rules.opens_at(party.cohorts & pool.cohorts) {
                Some(opens) => PolicyRefusal { rule: COHORT_OPENING, from: Some(self.calendar().start_of_day(opens)) },
                None => PolicyRefusal { rule: POOL_COHORT, from: None },
            }
        };
        match self.spills_since(pool, party, slot, dose) {
            Some(opens) if now >= opens => Ok(Some(opens)),
            opens => Err(PolicyRefusal { from: own.from.or(opens), ..own }),
        }
    }

    /// From when on the pool spills into one that is for this party.
    fn spills_since(&self, pool: &Pool, party: &PartyFacts, slot: &SlotFacts, dose: Dose) -> Option<TimestampMs> {
        let (rules, day) = (self.compiled(), self.calendar().day(slot.starts_at));
        let admits = |cohorts: u32| cohorts == 0 || rules.is_open(party.cohorts & cohorts, day);
        // The first that fits is the first to come.
        let spill = pool.spills.iter().find(|spill| serves(spill.dose, dose) && admits(spill.cohorts))?;
        Some(TimestampMs(slot.starts_at.0.saturating_sub(spill.before_ms)))
    }

    /// The gap before this dose, if what is given there may follow what the party had last.
    fn gap(&self, party: &PartyFacts, slot: &SlotFacts, dose: Dose, now: TimestampMs) -> Result<Gap, PolicyRefusal> {
        let rules = self.compiled();
        let era = rules.era(now);
        let gap = place(slot.product.0).map_or_else(Gap::default, |product| era.gap(product, dose));
        // Of doses given elsewhere the product may not be known: that is for the centre to find out.
        if party.doses == 0 || party.product == slot.product || party.product.0 == 0 {
            return Ok(gap);
        }
        // The newest in force; of two from the same day the one further down.
        let mixes = rules.mixed(party.product.0, slot.product.0, dose);
        match mixes.filter(|mix| mix.from <= now).max_by_key(|mix| mix.from) {
            Some(mix) => Ok(mix.gap(gap)),
            None if era.same_product => {
                let mixed = rules.mixed(party.product.0, slot.product.0, dose).map(|mix| mix.from);
                let from = mixed.chain(self.changes_to(now, |era| !era.same_product)).min();
                Err(PolicyRefusal { rule: SAME_PRODUCT, from })
            }
            None => Ok(gap),
        }
    }

    /// By which day the party should have had this dose, by the rules in force.
    pub(crate) fn due_by(&self, party: &PartyFacts, slot: &SlotFacts, dose: Dose, now: TimestampMs) -> Option<u16> {
        let gap = self.gap(party, slot, dose, now).ok()?;
        let is_next = party.doses > 0 && party.last_dose_day > 0 && dose.0 > party.doses;
        (is_next && gap.max > 0).then(|| party.last_dose_day.saturating_add(gap.max))
    }

    /// Whether an age band covers the party on the day of the visit.
    fn may_come(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        trace: &mut impl Trace,
    ) -> Result<(), PolicyRefusal> {
        let rules = self.compiled();
        if !rules.is_banded {
            return Ok(());
        }
        if party.birth_year == 0 && rules.refuses_unknown_age {
            return no(AGE_UNKNOWN);
        }
        if party.birth_year != 0 {
            trace.passed(AGE_UNKNOWN, || None);
        }
        let day = self.calendar().day(slot.starts_at);
        let bands = place(slot.product.0).map_or(&[][..], |product| rules.bands(product));
        let year = self.calendar().year(day);
        if !bands.iter().any(|band| self.covers(band, party, dose, day, year)) {
            return Err(self.not_covered(bands, party, dose, day));
        }
        trace.passed(COHORT_OPENING, || None);
        trace.passed(AGE_BAND, || {
            let covering = bands.iter().filter(|band| self.covers(band, party, dose, day, year));
            let since = covering.filter_map(|band| self.days_of(band, party)).map(|days| days.open).min();
            since.map(|day| self.calendar().start_of_day(day))
        });
        Ok(())
    }

    fn covers(&self, band: &Band, party: &PartyFacts, dose: Dose, day: u16, year: u16) -> bool {
        // Who is born after the year of the visit is of no age.
        let of_age = |age: u16| (band.age_min..=band.age_max).contains(&age);
        band.is_for(dose)
            && (band.from..=band.until).contains(&day)
            && (party.birth_year == 0 || year.checked_sub(party.birth_year).is_some_and(of_age))
            && (band.cohorts == 0 || self.compiled().is_open(party.cohorts & band.cohorts, day))
    }

    /// Which rule keeps a party out that no band covers, and from which day on one will: the earliest of them.
    #[cold]
    fn not_covered(&self, bands: &[Band], party: &PartyFacts, dose: Dose, day: u16) -> PolicyRefusal {
        let ahead = bands.iter().filter(|band| band.is_for(dose)).filter_map(|band| self.days_of(band, party));
        let ahead = ahead.filter(|days| days.open > day && days.open <= days.last);
        match ahead.min_by_key(|days| days.open) {
            None => PolicyRefusal { rule: AGE_BAND, from: None },
            Some(days) => {
                // Whose age would do already waits for the cohort.
                let rule = if days.of_age <= day { COHORT_OPENING } else { AGE_BAND };
                PolicyRefusal { rule, from: Some(self.calendar().start_of_day(days.open)) }
            }
        }
    }

    /// On which days a band covers the party; `None`: on none.
    fn days_of(&self, band: &Band, party: &PartyFacts) -> Option<Days> {
        let calendar = self.calendar();
        let (mut of_age, mut last) = (band.from, band.until);
        if party.birth_year != 0 {
            of_age = of_age.max(calendar.first_of_year(party.birth_year.saturating_add(band.age_min))?);
            if let Some(next) = calendar.first_of_year(party.birth_year.saturating_add(band.age_max).saturating_add(1))
            {
                last = last.min(next.checked_sub(1)?);
            }
        }
        let opens = if band.cohorts == 0 { 0 } else { self.compiled().opens_at(party.cohorts & band.cohorts)? };
        Some(Days { of_age, open: of_age.max(opens), last })
    }

    /// Whether those that the party is one of may book already.
    fn booking_opened(
        &self,
        party: &PartyFacts,
        slot: &SlotFacts,
        dose: Dose,
        now: TimestampMs,
        trace: &mut impl Trace,
    ) -> Result<(), PolicyRefusal> {
        let rules = self.compiled();
        if !rules.has_openings {
            return Ok(());
        }
        let day = self.calendar().day(slot.starts_at);
        let year = self.calendar().year(day);
        let bands = place(slot.product.0).map_or(&[][..], |product| rules.bands(product));
        let covering = bands.iter().filter(|band| self.covers(band, party, dose, day, year));
        match covering.map(|band| band.books_from).min() {
            Some(from) if now < from => not_before(BOOKING_OPENING, from),
            from => {
                trace.passed(BOOKING_OPENING, || from.filter(|from| from.0 > 0));
                Ok(())
            }
        }
    }

    /// Whether what starts then can be booked now, as far as time goes: by anybody, for any dose.
    ///
    /// # Errors
    /// The rule of time that says no.
    pub fn in_time(&self, starts_at: TimestampMs, now: TimestampMs) -> Result<(), PolicyRefusal> {
        let era = self.compiled().era(now);
        if too_late(starts_at, era.booking_cutoff_ms, now) {
            return no(BOOKING_CUTOFF);
        }
        // Midnight so many days ahead of the session's is at most a day and a clock change before the same time
        // of day, so nearly every claim is decided without looking for it.
        let surely_open = u64::from(era.horizon_days).saturating_sub(1) * DAY_MS;
        if starts_at.0.saturating_sub(now.0) <= surely_open {
            return Ok(());
        }
        match now < self.horizon_opens(starts_at, now) {
            true => Err(PolicyRefusal { rule: BOOKING_HORIZON, from: self.horizon_opens_first(starts_at, now) }),
            false => Ok(()),
        }
    }

    /// From when what starts then can be booked, by the rules in force now.
    fn horizon_opens(&self, starts_at: TimestampMs, now: TimestampMs) -> TimestampMs {
        self.calendar().midnight_before(starts_at, self.compiled().era(now).horizon_days)
    }

    /// From when on, by the rules that will be in force then: another horizon may come before this one has opened.
    #[cold]
    fn horizon_opens_first(&self, starts_at: TimestampMs, now: TimestampMs) -> Option<TimestampMs> {
        self.compiled().eras_from(now).find_map(|(era, end)| {
            let opens = self.calendar().midnight_before(starts_at, era.horizon_days).max(era.from).max(now);
            (opens < end).then_some(opens)
        })
    }

    /// The instant from which rules of this kind hold, if that is to come.
    #[cold]
    fn changes_to(&self, now: TimestampMs, kind: impl Fn(&Era) -> bool) -> Option<TimestampMs> {
        self.compiled().eras_from(now).skip(1).find(|(era, _)| kind(era)).map(|(era, _)| era.from)
    }
}

/// Days on which a band covers somebody.
struct Days {
    /// The first, as far as the age and the band go.
    of_age: u16,
    /// The first.
    open: u16,
    /// The last; may lie before the first.
    last: u16,
}

/// The place in the file of a number; numbers start at 1.
fn place(number: u8) -> Option<usize> {
    usize::from(number).checked_sub(1)
}

/// Whether what is for one dose, or for any, is for this one.
fn serves(only: Dose, dose: Dose) -> bool {
    only == Dose(0) || only == dose
}

fn too_late(starts_at: TimestampMs, cutoff_ms: u64, now: TimestampMs) -> bool {
    now.0 > starts_at.0.saturating_sub(cutoff_ms)
}

fn no(rule: &'static str) -> Result<(), PolicyRefusal> {
    Err(PolicyRefusal { rule, from: None })
}

fn not_before(rule: &'static str, from: TimestampMs) -> Result<(), PolicyRefusal> {
    Err(PolicyRefusal { rule, from: Some(from) })
}

#[cfg(test)]
mod tests;
