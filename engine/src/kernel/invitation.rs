//! Invitations: a pool that serves who was invited to it, once for each invitation. Judged under the party's lock, from its own
//! bookings: so nothing is kept of what is spent, and a replay has nothing to get wrong.

use super::No;
use crate::booking::State;
use crate::command::{BookingView, Claim};
use crate::engine::Engine;
use crate::error::Refusal;
use crate::ids::{BookingNumber, PartyId, PoolId, ProgrammeId};
use crate::inventory::Locked;
use crate::policy::INVITATION_SPENT;
use crate::units::TimestampMs;

/// A party's bookings that are looked at. Whoever has made more is told that its invitations are spent: it was no person.
const LOOKED_AT_MAX: usize = 4096;

impl Engine {
    /// Is an invitation left for this claim, beside what the party's other bookings have spent? `except` is the booking that it takes
    /// the place of.
    // rule: ELG-3 an invitation is spent by one booking, and judged in the same lock
    pub(super) fn judge_invitation(
        &self,
        claim: &Claim,
        except: Option<BookingNumber>,
        now: TimestampMs,
        locked: &mut Locked<'_>,
    ) -> Result<(), No> {
        let Claim { party, slot, dose } = *claim;
        let facts = self.inventory.slots.facts(slot).ok_or(Refusal::UnknownSlot { slot })?;
        let record = locked.of(party);
        let Some(given) = self.policy.invitations(&record.facts, &facts, dose, now) else { return Ok(()) };
        if self.spent(record.newest(), facts.programme, facts.pool, except, now) < given {
            return Ok(());
        }
        let refusal = Refusal::NotEligible { party, slot, rule: INVITATION_SPENT, from: None };
        Err(No::resting_on(record.seq(), refusal))
    }

    /// Invitations to a pool that this party's bookings have spent; `None` if there is no such party. A live hold counts, for it may be
    /// booked; one that was released or expired has spent nothing, and one that was given up later has.
    #[must_use]
    pub fn invitations_spent(
        &self,
        party: PartyId,
        programme: ProgrammeId,
        pool: PoolId,
        now: TimestampMs,
    ) -> Option<u32> {
        let record = self.inventory.parties.lock(party)?;
        Some(self.spent(record.newest(), programme, pool, None, now))
    }

    /// Along the chain of a party's bookings, under its lock.
    fn spent(
        &self,
        newest: Option<BookingNumber>,
        programme: ProgrammeId,
        pool: PoolId,
        except: Option<BookingNumber>,
        now: TimestampMs,
    ) -> u32 {
        let (bookings, slots) = (&self.inventory.bookings, &self.inventory.slots);
        let is_of_pool = |view: &BookingView| {
            view.programme == programme && slots.facts(view.claim.slot).is_some_and(|facts| facts.pool == pool)
        };
        let view_of = |number: BookingNumber| bookings.get(number)?.view(number);
        let spends = |view: &BookingView| match view.state {
            State::Held => now < view.expires_at,
            State::Booked | State::CheckedIn | State::Completed | State::Cancelled | State::NoShow => true,
            // What it became counts in its place, if that is of the same pool.
            State::Moved => !view.link.and_then(view_of).is_some_and(|successor| is_of_pool(&successor)),
            State::Released | State::Expired => false,
        };
        let (mut spent, mut next) = (0, newest);
        for _ in 0..LOOKED_AT_MAX {
            let Some(cell) = next.and_then(|number| bookings.get(number)) else { return spent };
            let Some(view) = next.and_then(|number| cell.view(number)) else { return spent };
            if Some(view.number) != except && is_of_pool(&view) && spends(&view) {
                spent += 1;
            }
            next = cell.before_of_party();
        }
        u32::MAX
    }
}
