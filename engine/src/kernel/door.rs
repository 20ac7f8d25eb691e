//! What happens at the door of a centre: check in, complete, no-show, walk-in.

use super::{Answer, Context, No};
use crate::booking::{State, Step};
use crate::command::{Claim, Given, NumberedClaim, Outcome};
use crate::dedupe::Remembered;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::ids::{BookingNumber, ProductId};
use crate::inventory::{Demand, Locked};
use crate::journal::entry::Event;
use crate::slot::{SlotWord, Take};
use crate::units::{TimestampMs, Units};

/// The outcome of a step of one booking.
pub(super) fn stepped(claim: NumberedClaim, to: State) -> Outcome {
    match to {
        State::Completed => Outcome::Completed { claim },
        State::NoShow => Outcome::NoShow { claim },
        _ => Outcome::CheckedIn { claim },
    }
}

impl Engine {
    /// Booked to checked in: no unit is taken or given.
    pub(super) fn check_in(&self, booking: BookingNumber, context: Context<'_>) -> Answer {
        let mut able = self.able_booking(booking, Step::CheckIn)?;
        let claim = able.group[0];
        let may = |slot: &_| self.policy.may_check_in(slot, context.now);
        self.judge_policy(&claim.claim, &mut able.locked, |_, slot| may(slot))?;
        let appended = context.append(Event::CheckedIn { booking });
        let seq = appended.seq;
        self.inventory.record_step(booking, 1, able.to, &mut able.locked, seq);
        appended.keep(Remembered::Stepped { booking, to: able.to });
        Ok((seq, stepped(claim, able.to)))
    }

    /// Checked in to completed. The unit is used up; the party's facts change by the same entry, so that what is judged of the party
    /// from then on knows of the dose.
    ///
    /// With a note it may be told late: the dose counts for the day on which it was given, which is not before that of the slot.
    // rule: DOS-1 no dose but on a booking that is checked in
    pub(super) fn complete(
        &self,
        booking: BookingNumber,
        noted: Option<(TimestampMs, Option<ProductId>, &[u8])>,
        context: Context<'_>,
    ) -> Answer {
        let mut able = self.able_booking(booking, Step::Complete)?;
        let claim = able.group[0];
        let Claim { party, slot, dose } = claim.claim;
        let facts = self.inventory.slots.facts(slot).ok_or(Refusal::UnknownSlot { slot })?;
        let known = able.locked.of(party).facts;
        let event = match noted {
            None => Event::Completed { booking, given: self.policy.given(&known, &facts, dose, context.now) },
            Some((given_at, product, note)) => {
                let given_at = given_at.min(context.now);
                self.judge_policy(&claim.claim, &mut able.locked, |_, slot| self.policy.may_check_in(slot, given_at))?;
                let given = self.policy.given(&known, &facts, dose, given_at);
                let given = known.told_late(Given { product: product.unwrap_or(given.product), ..given });
                Event::CompletedNoted { booking, given, note: note.to_vec() }
            }
        };
        let (Event::Completed { given, .. } | Event::CompletedNoted { given, .. }) = event else {
            unreachable!("one of the two was made")
        };
        let appended = context.append(event);
        let seq = appended.seq;
        self.inventory.record_given(booking, given, &mut able.locked, seq);
        appended.keep(Remembered::Stepped { booking, to: able.to });
        Ok((seq, stepped(claim, able.to)))
    }

    /// Booked to no-show: a walk-in may have the unit.
    // rule: NSH-1 a no-show gives its unit back once, after its entry, and not before the programme says so
    pub(super) fn no_show(&self, booking: BookingNumber, context: Context<'_>) -> Answer {
        let mut able = self.able_booking(booking, Step::NoShow)?;
        let (claim, to) = (able.group[0], able.to);
        let may = |slot: &_| self.policy.may_be_no_show(slot, context.now);
        self.judge_policy(&claim.claim, &mut able.locked, |_, slot| may(slot))?;
        let remembered = Remembered::Stepped { booking, to };
        let seq = self.give_back(able, Event::NoShow { booking }, remembered, SlotWord::cancel, context);
        Ok((seq, stepped(claim, to)))
    }

    /// A booking that is born checked in. What binds is the programme's answer for those at the door; room, an open slot and one live
    /// claim for each dose bind as they do everybody. That the slot is reserved does not: who is offered a unit may not come, and this
    /// one stands there.
    // rule: WLK-1 a walk-in is born checked in, on a free unit of an open slot
    pub(super) fn walk_in(&self, claim: Claim, came_at: TimestampMs, context: Context<'_>) -> Answer {
        let Claim { party, slot, dose } = claim;
        let mut locked = Locked::lock(&self.inventory.parties, std::iter::once(party))
            .map_err(|party| Refusal::UnknownParty { party })?;
        let word = self.inventory.slots.word(slot).ok_or(Refusal::UnknownSlot { slot })?;
        self.judge_policy(&claim, &mut locked, |facts, slot| self.policy.may_walk_in(facts, slot, dose, came_at))?;
        self.judge_uniqueness(&claim, None, &mut locked)?;
        self.judge_invitation(&claim, None, came_at, &mut locked)?;
        self.judge_room(party, &mut locked)?;
        match word.book_passed(Units::ONE) {
            Take::Taken(_) => {}
            Take::Closed(counts) => return Err(Refusal::SlotClosed { slot, counts }.into()),
            Take::Full(counts) => return Err(Refusal::Full { slot, counts }.into()),
            Take::Reserved(counts) => return Err(Refusal::Reserved { slot, counts }.into()),
        }
        let taken: Demand = [(slot, 1)].into_iter().collect();
        let number = self.number(1).inspect_err(|_: &No| self.inventory.change_words(&taken, SlotWord::cancel))?;
        let numbered = NumberedClaim { number, claim };
        let appended = context.append(Event::WalkedIn { claim: numbered });
        let seq = appended.seq;
        self.inventory.record_claims(number, State::CheckedIn, TimestampMs(0), &[claim], &mut locked, seq);
        appended.keep(Remembered::WalkedIn { number });
        Ok((seq, Outcome::WalkedIn { claim: numbered }))
    }
}
