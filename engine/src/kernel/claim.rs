//! Hold and book: parties claim units.

use std::time::Duration;

use super::{Answer, Context, No};
use crate::booking::State;
use crate::command::{Claim, Command, NumberedClaim, Outcome, PartyFacts, SlotFacts};
use crate::dedupe::Remembered;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::ids::{BookingNumber, PartyId, Seq};
use crate::inventory::{Demand, Locked, demand};
use crate::journal::entry::{Claims, Event};
use crate::policy::PolicyRefusal;
use crate::slot::{Give, SlotWord, Take};
use crate::sync::atomic::Ordering::Relaxed;
use crate::units::{TimestampMs, Units};

/// Whether a claim begins as a hold or as a booking.
#[derive(Clone, Copy)]
enum Birth {
    Held { expires_at: TimestampMs },
    Booked,
}

impl Birth {
    fn take(self, word: &SlotWord, units: Units) -> Take {
        match self {
            Birth::Held { .. } => word.hold(units),
            Birth::Booked => word.book(units),
        }
    }

    fn undo(self, word: &SlotWord, units: Units) -> Give {
        match self {
            Birth::Held { .. } => word.release(units),
            Birth::Booked => word.cancel(units),
        }
    }

    fn event(self, first: BookingNumber, claims: &[Claim]) -> Event {
        let claims: Claims = claims.iter().copied().collect();
        match self {
            Birth::Held { expires_at } => Event::Held { first, expires_at, claims },
            Birth::Booked => Event::Booked { first, claims },
        }
    }

    fn remembered(self, first: BookingNumber, claims: &[Claim]) -> Remembered {
        match self {
            Birth::Held { .. } => Remembered::Held { first, len: len(claims) },
            Birth::Booked => Remembered::Booked { first, len: len(claims) },
        }
    }

    const fn state(self) -> (State, TimestampMs) {
        match self {
            Birth::Held { expires_at } => (State::Held, expires_at),
            Birth::Booked => (State::Booked, TimestampMs(0)),
        }
    }
}

impl Engine {
    pub(super) fn hold(&self, claims: &[Claim], ttl: Duration, context: Context<'_>) -> Answer {
        let claims = part_of(claims);
        let expires_at = context.now.plus(ttl.min(self.policy.hold_ttl_max()));
        let (seq, first) = self.claim(claims, Birth::Held { expires_at }, context)?;
        Ok((seq, Outcome::Held { expires_at, claims: numbered(first, claims) }))
    }

    pub(super) fn book(&self, claims: &[Claim], context: Context<'_>) -> Answer {
        let claims = part_of(claims);
        let (seq, first) = self.claim(claims, Birth::Booked, context)?;
        Ok((seq, Outcome::Booked { claims: numbered(first, claims) }))
    }

    // rule: PTY-1 eligibility, uniqueness and claim are one decision inside the parties' locks
    fn claim(&self, claims: &[Claim], birth: Birth, context: Context<'_>) -> Result<(Seq, BookingNumber), No> {
        let inventory = &self.inventory;
        let lock = || {
            Locked::lock(&inventory.parties, claims.iter().map(|claim| claim.party))
                .map_err(|party| Refusal::UnknownParty { party })
        };
        let mut locked = lock()?;
        self.judge(claims, birth, context.now, &mut locked)?;
        let demand = demand(claims.iter().map(|claim| claim.slot));

        if cfg!(berth_fault = "unlock_before_append") {
            drop(locked);
            crate::sync::yield_now();
            locked = lock()?;
        }
        if cfg!(berth_fault = "append_before_take") {
            let first = self.number(claims.len())?;
            let appended = context.append(birth.event(first, claims));
            crate::sync::yield_now();
            self.take_all(&demand, birth)?;
            let (state, expires_at) = birth.state();
            inventory.record_claims(first, state, expires_at, claims, &mut locked, appended.seq);
            let seq = appended.seq;
            appended.keep(birth.remembered(first, claims));
            return Ok((seq, first));
        }

        self.take_all(&demand, birth)?;
        let first = self.number(claims.len()).inspect_err(|_| {
            inventory.change_words(&demand, |word, units| birth.undo(word, units));
        })?;
        let appended = context.append(birth.event(first, claims));
        let (state, expires_at) = birth.state();
        inventory.record_claims(first, state, expires_at, claims, &mut locked, appended.seq);
        if let Birth::Held { expires_at } = birth {
            inventory.wheel.add(first, expires_at);
        }
        let seq = appended.seq;
        // Within the parties' locks, as all that an entry changes: a snapshot that has passed a party has seen it.
        appended.keep(birth.remembered(first, claims));
        Ok((seq, first))
    }

    /// Step 4, refusals in their documented order; within one, the lowest party number first.
    fn judge(&self, claims: &[Claim], birth: Birth, now: TimestampMs, locked: &mut Locked<'_>) -> Result<(), No> {
        let mut sorted: Claims = claims.iter().copied().collect();
        sorted.sort_unstable_by_key(|claim| claim.party);
        for claim in &sorted {
            if self.inventory.slots.counts(claim.slot).is_none() {
                return Err(Refusal::UnknownSlot { slot: claim.slot }.into());
            }
        }
        for claim in &sorted {
            self.judge_policy(claim, locked, |party, slot| self.policy.may_claim(party, slot, claim.dose, now))?;
        }
        for claim in &sorted {
            self.judge_uniqueness(claim, None, locked)?;
        }
        for claim in &sorted {
            self.judge_invitation(claim, None, now, locked)?;
        }
        for claim in &sorted {
            self.judge_room(claim.party, locked)?;
        }
        if let Birth::Held { .. } = birth {
            sorted.iter().try_for_each(|claim| self.judge_hoarding(claim, now, locked))?;
        }
        Ok(())
    }

    /// Asks the programme about a claim, whichever of its questions `may` is.
    pub(super) fn judge_policy(
        &self,
        claim: &Claim,
        locked: &mut Locked<'_>,
        may: impl FnOnce(&PartyFacts, &SlotFacts) -> Result<(), PolicyRefusal>,
    ) -> Result<(), No> {
        let facts = self.inventory.slots.facts(claim.slot).ok_or(Refusal::UnknownSlot { slot: claim.slot })?;
        let record = locked.of(claim.party);
        may(&record.facts, &facts).map_err(|no| {
            let refusal = Refusal::NotEligible { party: claim.party, slot: claim.slot, rule: no.rule, from: no.from };
            No::resting_on(record.seq(), refusal)
        })
    }

    /// The party's record has a place left for another live claim.
    pub(super) fn judge_room(&self, party: PartyId, locked: &mut Locked<'_>) -> Result<(), No> {
        let record = locked.of(party);
        if record.is_full() {
            let refusal = Refusal::TooManyClaims { party, max: crate::party::LIVE_CLAIMS_MAX };
            return Err(No::resting_on(record.seq(), refusal));
        }
        Ok(())
    }

    /// The party's other live claim for the dose, but for `except`, is a refusal.
    // rule: PTY-1
    pub(super) fn judge_uniqueness(
        &self,
        claim: &Claim,
        except: Option<BookingNumber>,
        locked: &mut Locked<'_>,
    ) -> Result<(), No> {
        let programme = self.inventory.slots.facts(claim.slot).map(|facts| facts.programme).unwrap_or_default();
        let record = locked.of(claim.party);
        if crate::planted!("two_claims_per_dose") {
            return Ok(());
        }
        match record.live_claim(programme, claim.dose) {
            Some(booking) if Some(booking) != except => {
                let refusal = Refusal::AlreadyClaimed { party: claim.party, booking, programme, dose: claim.dose };
                Err(No::resting_on(record.seq(), refusal))
            }
            _ => Ok(()),
        }
    }

    /// Step 5: every word in ascending slot number, all or none.
    // rule: CAP-3 a group takes all its units in one step or none
    fn take_all(&self, demand: &Demand, birth: Birth) -> Result<(), No> {
        for (index, (slot, units)) in demand.iter().enumerate() {
            let slot = *slot;
            let refusal = match self.inventory.slots.word(slot) {
                None => Refusal::UnknownSlot { slot },
                Some(word) => {
                    let units = Units::new(*units).expect("a group is far below Units::MAX");
                    match birth.take(word, units) {
                        Take::Taken(_) => continue,
                        Take::Closed(counts) => Refusal::SlotClosed { slot, counts },
                        Take::Full(counts) => Refusal::Full { slot, counts },
                        Take::Reserved(counts) => Refusal::Reserved { slot, counts },
                    }
                }
            };
            let taken: Demand = demand[..index].iter().copied().collect();
            self.inventory.change_words(&taken, |word, units| birth.undo(word, units));
            return Err(refusal.into());
        }
        Ok(())
    }

    /// Whether the table has numbers left for the command. Judged early, so that the refusal stands in its place in
    /// the order of precedence; of several that race for the last numbers, some are refused late by
    /// [`Engine::number`].
    pub(super) fn check_booking_limit(&self, command: &Command<'_>) -> Result<(), Refusal> {
        let numbers = match command {
            Command::Hold { claims, .. } | Command::Book { claims } => claims.len() as u64,
            Command::Offer { .. } | Command::Move { .. } | Command::WalkIn { .. } | Command::WalkInLate { .. } => 1,
            _ => return Ok(()),
        };
        self.within_limit(self.inventory.bookings_end() + numbers)
    }

    /// `len` consecutive booking numbers, never given out again in this run.
    pub(super) fn number(&self, len: usize) -> Result<BookingNumber, No> {
        let first = self.inventory.next_booking.fetch_add(len as u64, Relaxed);
        self.within_limit(first + len as u64)?;
        Ok(BookingNumber(first))
    }

    fn within_limit(&self, found: u64) -> Result<(), Refusal> {
        let max = self.inventory.bookings.len_max();
        if found <= max { Ok(()) } else { Err(Refusal::TooMany { what: "holds and bookings ever made", found, max }) }
    }
}

/// All of them; where half a group is planted, the first.
fn part_of(claims: &[Claim]) -> &[Claim] {
    if crate::planted!("half_group") { &claims[..1] } else { claims }
}

fn len(claims: &[Claim]) -> u8 {
    u8::try_from(claims.len()).expect("check_shape: at most GROUP_CLAIMS_MAX")
}

fn numbered(first: BookingNumber, claims: &[Claim]) -> crate::command::Group {
    (first.0..).map(BookingNumber).zip(claims).map(|(number, claim)| NumberedClaim { number, claim: *claim }).collect()
}

/// The parties of a group, for its lock.
pub(super) fn parties(group: &crate::command::Group) -> impl Iterator<Item = PartyId> + '_ {
    group.iter().map(|numbered| numbered.claim.party)
}
