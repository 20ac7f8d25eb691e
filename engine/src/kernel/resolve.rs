//! What becomes of a hold or booking: confirm, release, expire, cancel, move. What happens at the door is in `door`.

use arrayvec::ArrayVec;

use super::claim::parties;
use super::{Answer, Appended, Context, No};
use crate::booking::{State, Step};
use crate::command::{BookingView, By, Claim, GROUP_CLAIMS_MAX, Group, NumberedClaim, Outcome, Places};
use crate::dedupe::Remembered;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::ids::{BookingNumber, SlotId};
use crate::inventory::{Demand, Locked, demand};
use crate::journal::entry::Event;
use crate::slot::{Give, SlotWord, Take};
use crate::units::{TimestampMs, Units};

/// A hold or booking with its parties locked, and found able to take a step.
pub(super) struct Able<'a> {
    /// The record asked for; of several, that of the lowest number.
    pub(super) view: BookingView,
    /// The claims that take the step, in ascending number.
    pub(super) group: Group,
    pub(super) locked: Locked<'a>,
    pub(super) to: State,
}

impl Engine {
    // rule: HLD-1 a hold resolves at most once
    pub(super) fn confirm(&self, hold: BookingNumber, context: Context<'_>) -> Answer {
        let mut able = self.able_hold(hold, Step::Confirm, context.now)?;
        let len = able.view.group_len;
        let appended = context.append(Event::Confirmed { hold, len });
        self.inventory.record_step(hold, len, able.to, &mut able.locked, appended.seq);
        // Held to booked takes nothing and gives nothing, so it belongs with the records.
        self.inventory.change_words(&group_demand(&able.group), SlotWord::confirm);
        let seq = appended.seq;
        appended.keep(Remembered::Confirmed { first: hold, len });
        Ok((seq, Outcome::Confirmed { claims: able.group }))
    }

    pub(super) fn release(&self, hold: BookingNumber, context: Context<'_>) -> Answer {
        let able = self.able_hold(hold, Step::Release, context.now)?;
        let (first, len) = (hold, able.view.group_len);
        let claims = able.group.clone();
        let seq = self.give_back(
            able,
            Event::Released { hold, len },
            Remembered::Released { first, len },
            SlotWord::release,
            context,
        );
        Ok((seq, Outcome::Released { claims }))
    }

    /// Step by the clock. A deadline is judged here, once, before the append.
    pub(super) fn expire(&self, hold: BookingNumber, context: Context<'_>) -> Answer {
        let able = self.able_hold(hold, Step::Expire, context.now)?;
        let (first, len) = (hold, able.view.group_len);
        let claims = able.group.clone();
        let remembered = Remembered::Expired { first, len };
        if crate::planted!("unwritten_expiry") {
            return Ok((self.give_back_unwritten(able), Outcome::Expired { claims }));
        }
        let twice = if crate::planted!("give_twice") { group_demand(&able.group) } else { Demand::new() };
        let seq = self.give_back(able, Event::Expired { hold, len }, remembered, SlotWord::expire, context);
        for (slot, units) in twice {
            if let (Some(word), Some(units)) = (self.inventory.slots.word(slot), Units::new(units)) {
                let _ = word.cancel(units);
            }
        }
        Ok((seq, Outcome::Expired { claims }))
    }

    pub(super) fn cancel(&self, booking: BookingNumber, by: By, context: Context<'_>) -> Answer {
        let able = self.able_booking(booking, Step::Cancel)?;
        self.judge_leaving(&able, Step::Cancel, by, context.now)?;
        let claim = NumberedClaim { number: booking, claim: able.view.claim };
        if crate::planted!("unwritten_cancel") {
            // Until a restart it looks cancelled. Its unit stays taken, so that only this is wrong.
            let seq = able.view.seq;
            self.inventory.bookings.get(booking).into_iter().for_each(|cell| cell.set_state(able.to, None, seq));
            Appended { seq, key: context.key }.keep(Remembered::Cancelled { booking });
            return Ok((seq, Outcome::Cancelled { claim }));
        }
        let event = match by {
            By::Holder => Event::Cancelled { booking },
            By::Administration => {
                let hold = able.view.hold;
                Event::GroupCancelled { hold, places: places(hold, &able.group), by }
            }
        };
        let seq = self.give_back(able, event, Remembered::Cancelled { booking }, SlotWord::cancel, context);
        Ok((seq, Outcome::Cancelled { claim }))
    }

    /// Several bookings of one group, by one entry.
    // rule: CAP-3
    pub(super) fn cancel_group(&self, bookings: &[BookingNumber], by: By, context: Context<'_>) -> Answer {
        if let [booking] = bookings {
            return self.cancel(*booking, by, context);
        }
        let able = self.able_group(bookings, Step::Cancel)?;
        self.judge_leaving(&able, Step::Cancel, by, context.now)?;
        let (hold, claims) = (able.view.hold, able.group.clone());
        let places = places(hold, &claims);
        let remembered = Remembered::GroupCancelled { hold, places };
        let event = Event::GroupCancelled { hold, places, by };
        let seq = self.give_back(able, event, remembered, SlotWord::cancel, context);
        Ok((seq, Outcome::GroupCancelled { claims }))
    }

    /// Steps 6 to 9 of everything that ends a claim: append, write records, and only then give the units back.
    // rule: JNL-1 capacity is given back after the entry has its number
    pub(super) fn give_back(
        &self,
        mut able: Able<'_>,
        event: Event,
        remembered: Remembered,
        give: impl Fn(&SlotWord, Units) -> Give,
        context: Context<'_>,
    ) -> crate::ids::Seq {
        let demand = group_demand(&able.group);
        if cfg!(berth_fault = "give_before_append") {
            self.inventory.change_words(&demand, &give);
            crate::sync::yield_now();
        }
        if let Some(step) = &self.between_steps {
            step();
        }
        let appended = context.append(event);
        let seq = appended.seq;
        let numbers = able.group.iter().map(|numbered| numbered.number);
        self.inventory.record_steps(numbers, able.to, &mut able.locked, seq);
        appended.keep(remembered);
        if !cfg!(berth_fault = "give_before_append") {
            self.inventory.change_words(&demand, give);
        }
        seq
    }

    /// The planted fault: as [`Engine::give_back`], but for the entry.
    fn give_back_unwritten(&self, mut able: Able<'_>) -> crate::ids::Seq {
        let seq = able.view.seq;
        let numbers = able.group.iter().map(|numbered| numbered.number);
        self.inventory.record_steps(numbers, able.to, &mut able.locked, seq);
        self.inventory.change_words(&group_demand(&able.group), SlotWord::expire);
        seq
    }

    /// Takes the new slot before it gives the old one back, as one entry.
    // rule: BKG-2 a move never leaves the party without a unit
    pub(super) fn move_booking(&self, booking: BookingNumber, to: SlotId, by: By, context: Context<'_>) -> Answer {
        let word = self.inventory.slots.word(to).ok_or(Refusal::UnknownSlot { slot: to })?;
        let mut able = self.able_booking(booking, Step::Move)?;
        let claim = Claim { slot: to, ..able.view.claim };
        let resting = |refusal| No::resting_on(able.view.seq, refusal);
        if to == able.view.claim.slot {
            return Err(resting(Refusal::SameSlot { booking, slot: to }));
        }
        self.judge_leaving(&able, Step::Move, by, context.now)?;
        let (policy, now) = (&self.policy, context.now);
        self.judge_policy(&claim, &mut able.locked, |party, slot| match by {
            By::Holder => policy.may_claim(party, slot, claim.dose, now),
            By::Administration => policy.may_be_moved(party, slot, claim.dose, now),
        })?;
        self.judge_uniqueness(&claim, Some(booking), &mut able.locked)?;
        self.judge_invitation(&claim, Some(booking), now, &mut able.locked)?;
        let take = match by {
            By::Holder => word.book(Units::ONE),
            By::Administration => word.book_passed(Units::ONE),
        };
        match take {
            Take::Taken(_) => {}
            Take::Closed(counts) => return Err(resting(Refusal::SlotClosed { slot: to, counts })),
            Take::Full(counts) => return Err(resting(Refusal::Full { slot: to, counts })),
            Take::Reserved(counts) => return Err(resting(Refusal::Reserved { slot: to, counts })),
        }
        let taken: Demand = [(to, 1)].into_iter().collect();
        let number = self.number(1).inspect_err(|_| self.inventory.change_words(&taken, SlotWord::cancel))?;
        let moved = NumberedClaim { number, claim };
        let appended = context.append(Event::Moved { from: booking, to: moved, by });
        let seq = appended.seq;
        self.inventory.record_move(booking, number, claim, &mut able.locked, seq);
        appended.keep(Remembered::Moved { from: booking });
        if crate::planted!("move_keeps_old") {
            return Ok((seq, Outcome::Moved { from: booking, to: moved }));
        }
        self.inventory.change_words(&group_demand(&able.group), SlotWord::cancel);
        Ok((seq, Outcome::Moved { from: booking, to: moved }))
    }

    /// Steps 3 and 4 for a whole hold.
    fn able_hold(&self, hold: BookingNumber, step: Step, now: TimestampMs) -> Result<Able<'_>, No> {
        let unknown = Refusal::UnknownBooking { booking: hold };
        let bookings = &self.inventory.bookings;
        let cell = bookings.get(hold).ok_or_else(|| unknown.clone())?;
        // What never changes, before the lock: the group and its parties.
        let born = cell.view(hold).ok_or_else(|| unknown.clone())?;
        if born.hold != hold {
            return Err(No::resting_on(born.seq, Refusal::NotTheHold { booking: hold, hold: born.hold }));
        }
        let group = bookings.claims(hold, born.group_len);
        if group.len() != usize::from(born.group_len) {
            // Its other records are being written at this instant: nobody was told the number yet.
            return Err(unknown.into());
        }
        let locked =
            Locked::lock(&self.inventory.parties, parties(&group)).map_err(|party| Refusal::UnknownParty { party })?;
        let view = cell.view(hold).ok_or(unknown)?;
        let (from, to) = (view.state, step.row().1);
        let expired = Refusal::HoldExpired { hold, expired_at: view.expires_at };
        // rule: HLD-4 a hold is confirmed only before its deadline and expires only from it on
        let forgiven = step == Step::Confirm && crate::planted!("confirm_past_deadline");
        let deadline_passed = view.expires_at <= now && !forgiven;
        let refusal = match (from, step) {
            (State::Held, Step::Expire) if !deadline_passed => Refusal::WrongState { booking: hold, from, to },
            (State::Held, Step::Confirm | Step::Release) if deadline_passed => expired,
            (State::Expired, Step::Confirm | Step::Release) => expired,
            _ => match from.after(step) {
                Some(to) => {
                    return Ok(Able { view, group, locked, to });
                }
                None => Refusal::WrongState { booking: hold, from, to },
            },
        };
        Err(No::resting_on(locked.newest().max(view.seq), refusal))
    }

    /// Steps 3 and 4 for one booking.
    pub(super) fn able_booking(&self, booking: BookingNumber, step: Step) -> Result<Able<'_>, No> {
        let unknown = Refusal::UnknownBooking { booking };
        let cell = self.inventory.bookings.get(booking).ok_or_else(|| unknown.clone())?;
        let party = cell.party();
        let locked = Locked::lock(&self.inventory.parties, std::iter::once(party))
            .map_err(|party| Refusal::UnknownParty { party })?;
        let view = cell.view(booking).ok_or(unknown)?;
        let Some(to) = view.state.after(step) else {
            let refusal = Refusal::WrongState { booking, from: view.state, to: step.row().1 };
            return Err(No::resting_on(view.seq, refusal));
        };
        let group = std::iter::once(NumberedClaim { number: booking, claim: view.claim }).collect();
        Ok(Able { view, group, locked, to })
    }

    /// Steps 3 and 4 for several bookings of one group, 1 to [`GROUP_CLAIMS_MAX`](crate::command::GROUP_CLAIMS_MAX).
    fn able_group(&self, bookings: &[BookingNumber], step: Step) -> Result<Able<'_>, No> {
        let table = &self.inventory.bookings;
        let mut numbers: ArrayVec<BookingNumber, GROUP_CLAIMS_MAX> = bookings.iter().copied().collect();
        numbers.sort_unstable();
        let view = |booking| table.get(booking).and_then(|cell| cell.view(booking));
        // What never changes, before the lock: who it is, and which group it is of.
        let mut group = Group::new();
        let mut hold = None;
        for number in &numbers {
            let born = view(*number).ok_or(Refusal::UnknownBooking { booking: *number })?;
            group.push(NumberedClaim { number: *number, claim: born.claim });
            hold = hold.or(Some(born.hold));
        }
        for number in &numbers {
            let born = view(*number).ok_or(Refusal::UnknownBooking { booking: *number })?;
            if let Some(hold) = hold.filter(|hold| *hold != born.hold) {
                return Err(No::resting_on(born.seq, Refusal::NotOfGroup { booking: *number, hold }));
            }
        }
        let locked =
            Locked::lock(&self.inventory.parties, parties(&group)).map_err(|party| Refusal::UnknownParty { party })?;
        let mut first = None;
        let mut to = step.row().1;
        for number in &numbers {
            let view = view(*number).ok_or(Refusal::UnknownBooking { booking: *number })?;
            to = view.state.after(step).ok_or_else(|| {
                No::resting_on(view.seq, Refusal::WrongState { booking: *number, from: view.state, to })
            })?;
            first = first.or(Some(view));
        }
        let view = first.ok_or(Refusal::GroupSize { found: 0, max: GROUP_CLAIMS_MAX })?;
        Ok(Able { view, group, locked, to })
    }

    /// May these bookings' slots still be left? The administration may always.
    fn judge_leaving(&self, able: &Able<'_>, step: Step, by: By, now: TimestampMs) -> Result<(), No> {
        if by == By::Administration {
            return Ok(());
        }
        for NumberedClaim { claim: Claim { party, slot, .. }, .. } in &able.group {
            let (party, slot) = (*party, *slot);
            let facts = self.inventory.slots.facts(slot).ok_or(Refusal::UnknownSlot { slot })?;
            let may = match step {
                Step::Move => self.policy.may_move_away(&facts, now),
                _ => self.policy.may_leave(&facts, now),
            };
            may.map_err(|no| {
                let refusal = Refusal::NotEligible { party, slot, rule: no.rule, from: no.from };
                No::resting_on(able.locked.newest().max(able.view.seq), refusal)
            })?;
        }
        Ok(())
    }
}

/// The places of these claims in their group.
fn places(hold: BookingNumber, group: &Group) -> Places {
    let numbers = group.iter().map(|numbered| numbered.number);
    Places::of(hold, numbers).expect("the records say that these are of the hold's group")
}

pub(super) fn group_demand(group: &Group) -> Demand {
    demand(group.iter().map(|numbered| numbered.claim.slot))
}
