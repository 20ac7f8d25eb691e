//! An offer: a free unit is set aside for one party, who did not ask for this one.

use std::time::Duration;

use super::{Answer, Context, No};
use crate::command::{Claim, NumberedClaim, Outcome};
use crate::dedupe::Remembered;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::ids::SlotId;
use crate::inventory::{Demand, Locked};
use crate::journal::entry::Event;
use crate::slot::{Counts, ReservedFor, SlotWord, Take};
use crate::units::Units;

impl Engine {
    /// A hold of one party that takes a free unit of an open slot, reserved or not. The programme is asked a question of its own; one
    /// live claim for each dose binds as it does everybody. Hoarding is not judged, for nobody hoards what is offered.
    // rule: WTL-1 an offer is one party's hold with a deadline
    pub(super) fn offer(&self, claim: Claim, ttl: Duration, note: &[u8], context: Context<'_>) -> Answer {
        let Claim { party, slot, dose } = claim;
        let expires_at = context.now.plus(ttl.min(self.policy.offer_ttl_max()));
        let mut locked = Locked::lock(&self.inventory.parties, std::iter::once(party))
            .map_err(|party| Refusal::UnknownParty { party })?;
        let word = self.inventory.slots.word(slot).ok_or(Refusal::UnknownSlot { slot })?;
        let now = context.now;
        self.judge_policy(&claim, &mut locked, |facts, slot| self.policy.may_be_offered(facts, slot, dose, now))?;
        self.judge_uniqueness(&claim, None, &mut locked)?;
        self.judge_invitation(&claim, None, now, &mut locked)?;
        self.judge_room(party, &mut locked)?;
        match word.hold_offered(Units::ONE) {
            Take::Taken(_) => {}
            Take::Closed(counts) => return Err(Refusal::SlotClosed { slot, counts }.into()),
            Take::Full(counts) => return Err(Refusal::Full { slot, counts }.into()),
            Take::Reserved(counts) => return Err(Refusal::Reserved { slot, counts }.into()),
        }
        let taken: Demand = [(slot, 1)].into_iter().collect();
        let number = self.number(1).inspect_err(|_: &No| self.inventory.change_words(&taken, SlotWord::release))?;
        let numbered = NumberedClaim { number, claim };
        let appended = context.append(Event::Offered { number, expires_at, claim, note: note.to_vec() });
        let seq = appended.seq;
        self.inventory.record_offer(number, expires_at, claim, &mut locked, seq);
        self.inventory.wheel.add(number, expires_at);
        appended.keep(Remembered::Held { first: number, len: 1 });
        Ok((seq, Outcome::Held { expires_at, claims: [numbered].into_iter().collect() }))
    }

    /// Keeps the free units of a slot for offers from now on, or does so no more, as far as this owner is concerned. Returns the counts
    /// just after; `None` if there is no such slot.
    ///
    /// One change of the slot's word, as every other: who takes a unit after it finds the flag, and who took one before it has it.
    /// Nothing is journaled: after a start no slot is reserved until the owner says so again.
    pub fn reserve(&self, slot: SlotId, owner: ReservedFor, reserved: bool) -> Option<Counts> {
        let word = self.inventory.slots.word(slot)?;
        Some(if reserved { word.reserve(owner) } else { word.unreserve(owner) })
    }
}
