//! The oracle: what the engine should answer, written as plainly as possible.
//!
//! One thread, maps and loops, no bits, no locks, no journal. It shares the vocabulary with the engine
//! (commands, outcomes, refusals, the lifecycle table and the policy) and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::booking::{State, Step};
use crate::command::{
    By, Claim, Command, GROUP_CLAIMS_MAX, NOTE_BYTES_MAX, NumberedClaim, Outcome, PartyFacts, RECORD_BYTES_MAX,
    Request, SlotFacts,
};
use crate::error::{HoardingLimit, Refusal};
use crate::ids::{BookingNumber, Dose, Idempotency, IdempotencyKey, PartyId, ProgrammeId, SlotId};
use crate::party::LIVE_CLAIMS_MAX;
use crate::policy::{Policy, PolicyRefusal};
use crate::units::TimestampMs;

mod refusal;

pub use refusal::ModelRefusal;

#[derive(Clone, Debug)]
struct ModelSlot {
    facts: SlotFacts,
    capacity: u32,
    open: bool,
    reserved: bool,
}

#[derive(Clone, Debug)]
struct ModelBooking {
    state: State,
    claim: Claim,
    hold: u64,
    expires_at: TimestampMs,
    offered: bool,
}

/// Who asks for a unit, and how the claim begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Hold,
    Book,
    Offer,
    AtTheDoor,
}

/// The reference model of one cell.
pub struct Model {
    policy: Arc<dyn Policy>,
    parties: Vec<PartyFacts>,
    slots: BTreeMap<SlotId, ModelSlot>,
    bookings: Vec<ModelBooking>,
    keys: HashMap<IdempotencyKey, (u64, Outcome)>,
}

impl Model {
    /// An empty cell.
    #[must_use]
    pub fn new(policy: Arc<dyn Policy>) -> Self {
        Self { policy, parties: Vec::new(), slots: BTreeMap::new(), bookings: Vec::new(), keys: HashMap::new() }
    }

    /// Learns which numbers the engine gave to published slots: the one thing it may choose.
    pub fn publish(&mut self, slots: &[(SlotId, SlotFacts, u32)]) {
        for (slot, facts, capacity) in slots {
            self.slots.insert(*slot, ModelSlot { facts: *facts, capacity: *capacity, open: true, reserved: false });
        }
    }

    /// Keeps free units of a slot for offers, or does so no more: no command, and in no journal.
    pub fn reserve(&mut self, slot: SlotId, reserved: bool) {
        self.slots.entry(slot).and_modify(|slot| slot.reserved = reserved);
    }

    /// After an outage: every live hold with a deadline from `from` on and before `until` has the deadline `until`, and repeats of
    /// its request tell it. Returns how many holds that are, a group once.
    // rule: HLD-5
    pub fn grace(&mut self, from: TimestampMs, until: TimestampMs) -> u64 {
        let mut graced = Vec::new();
        for (number, booking) in (0u64..).zip(&mut self.bookings) {
            if booking.state == State::Held && from <= booking.expires_at && booking.expires_at < until {
                booking.expires_at = until;
                if booking.hold == number {
                    graced.push(BookingNumber(number));
                }
            }
        }
        for (_, outcome) in self.keys.values_mut() {
            if let Outcome::Held { expires_at, claims } = outcome
                && graced.contains(&claims[0].number)
            {
                *expires_at = until;
            }
        }
        graced.len() as u64
    }

    /// What the engine should answer to `request`, and whether it should be a repeat of an earlier answer.
    ///
    /// # Errors
    /// The refusal the engine should give. For `Full`, `Reserved`, `SlotClosed` and `BelowTaken` compare the variant and slot:
    /// the model does not build the engine's `Counts`.
    pub fn submit(&mut self, request: &Request<'_>, now: TimestampMs) -> (Result<Outcome, ModelRefusal>, bool) {
        if let Err(refusal) = Self::shape(&request.command) {
            return (Err(ModelRefusal::Exactly(refusal)), false);
        }
        if let Some(idempotency) = request.idempotency
            && let Some((fingerprint, outcome)) = self.keys.get(&idempotency.key)
        {
            if *fingerprint == idempotency.fingerprint {
                return (Ok(outcome.clone()), true);
            }
            return (Err(ModelRefusal::Exactly(Refusal::IdempotencyConflict)), false);
        }
        let result = self.run(&request.command, now);
        if let (Some(idempotency), Ok(outcome)) = (request.idempotency, &result) {
            self.keys.insert(idempotency.key, (idempotency.fingerprint, outcome.clone()));
        }
        (result, false)
    }

    /// Capacity, held and booked of a slot.
    #[must_use]
    pub fn counts(&self, slot: SlotId) -> (u32, u32, u32) {
        let of = |states: &[State]| {
            let here = |booking: &&ModelBooking| booking.claim.slot == slot && states.contains(&booking.state);
            u32::try_from(self.bookings.iter().filter(here).count()).expect("a model is small")
        };
        let booked = of(&[State::Booked, State::CheckedIn, State::Completed]);
        (self.slots[&slot].capacity, of(&[State::Held]), booked)
    }

    /// Whether a slot takes new claims.
    #[must_use]
    pub fn is_open(&self, slot: SlotId) -> bool {
        self.slots[&slot].open
    }

    /// Every slot, in ascending number.
    pub fn slots(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.slots.keys().copied()
    }

    /// How many parties there are.
    #[must_use]
    pub fn parties(&self) -> u32 {
        u32::try_from(self.parties.len()).expect("a model is small")
    }

    /// Every hold and booking ever made, in ascending number: its hold, its state, what was claimed and its deadline.
    pub fn bookings(&self) -> impl Iterator<Item = (BookingNumber, BookingNumber, State, Claim, TimestampMs)> + '_ {
        (0u64..).map(BookingNumber).zip(&self.bookings).map(|(number, booking)| {
            (number, BookingNumber(booking.hold), booking.state, booking.claim, booking.expires_at)
        })
    }

    /// Whether this very request has had its effect.
    #[must_use]
    pub fn knows(&self, idempotency: Idempotency) -> bool {
        self.keys.get(&idempotency.key).is_some_and(|(fingerprint, _)| *fingerprint == idempotency.fingerprint)
    }

    /// Every idempotency key that has had an effect, with the outcome it stands for, in no order.
    pub fn keys(&self) -> impl Iterator<Item = (IdempotencyKey, &Outcome)> + '_ {
        self.keys.iter().map(|(key, (_, outcome))| (*key, outcome))
    }

    /// Every hold and booking ever made that `which` is about, newest first.
    pub fn history(&self, which: impl Fn(&Claim) -> bool) -> Vec<BookingNumber> {
        let own = (0u64..).zip(&self.bookings).filter(|(_, booking)| which(&booking.claim));
        let mut numbers: Vec<_> = own.map(|(number, _)| BookingNumber(number)).collect();
        numbers.reverse();
        numbers
    }

    /// What the policy knows of a party.
    #[must_use]
    pub fn facts(&self, party: PartyId) -> PartyFacts {
        self.parties[party.0 as usize]
    }

    /// Whether a hold or booking was offered.
    #[must_use]
    pub fn is_offered(&self, booking: BookingNumber) -> bool {
        self.bookings[index(booking)].offered
    }

    /// The live claims of a party, in ascending number.
    #[must_use]
    pub fn live(&self, party: PartyId) -> Vec<(BookingNumber, State)> {
        (0u64..)
            .zip(&self.bookings)
            .filter(|(_, booking)| booking.claim.party == party && booking.state.is_live())
            .map(|(number, booking)| (BookingNumber(number), booking.state))
            .collect()
    }

    fn shape(command: &Command<'_>) -> Result<(), Refusal> {
        if let Command::CancelGroup { bookings, .. } = command {
            if bookings.is_empty() || bookings.len() > GROUP_CLAIMS_MAX {
                return Err(Refusal::GroupSize { found: bookings.len(), max: GROUP_CLAIMS_MAX });
            }
            for (index, booking) in bookings.iter().enumerate() {
                if bookings[..index].contains(booking) {
                    return Err(Refusal::BookingRepeated { booking: *booking });
                }
            }
        }
        let (what, found, max) = match command {
            Command::CompleteNoted { note, .. } | Command::ChangeFacts { note, .. } | Command::Offer { note, .. } => {
                ("bytes of a note", note.len() as u64, NOTE_BYTES_MAX as u64)
            }
            Command::Record { bytes, .. } => ("bytes of a record", bytes.len() as u64, RECORD_BYTES_MAX as u64),
            _ => ("", 0, 0),
        };
        if found > max {
            return Err(Refusal::TooMany { what, found, max });
        }
        if let Command::Hold { claims, .. } | Command::Book { claims } = command {
            if claims.is_empty() || claims.len() > GROUP_CLAIMS_MAX {
                return Err(Refusal::GroupSize { found: claims.len(), max: GROUP_CLAIMS_MAX });
            }
            for (index, claim) in claims.iter().enumerate() {
                if claims[..index].iter().any(|other| other.party == claim.party) {
                    return Err(Refusal::PartyRepeated { party: claim.party });
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, command: &Command<'_>, now: TimestampMs) -> Result<Outcome, ModelRefusal> {
        match *command {
            Command::AddParties { count, facts } => {
                let first = PartyId(u32::try_from(self.parties.len()).expect("a model is small"));
                self.parties.extend((0..count).map(|_| facts));
                Ok(Outcome::PartiesAdded { first, count })
            }
            Command::Publish { .. } => panic!("tell the model with Model::publish"),
            Command::Note { .. } => Ok(Outcome::Noted),
            Command::Hold { claims, ttl } => {
                let expires_at = now.plus(ttl.min(self.policy.hold_ttl_max()));
                let claims = self.claim(claims, Asks::Hold, expires_at, now)?;
                Ok(Outcome::Held { expires_at, claims: claims.into_iter().collect() })
            }
            Command::Offer { claim, ttl, .. } => {
                let expires_at = now.plus(ttl.min(self.policy.offer_ttl_max()));
                let claims = self.claim(&[claim], Asks::Offer, expires_at, now)?;
                Ok(Outcome::Held { expires_at, claims: claims.into_iter().collect() })
            }
            Command::Book { claims } => {
                let claims = self.claim(claims, Asks::Book, TimestampMs(0), now)?;
                Ok(Outcome::Booked { claims: claims.into_iter().collect() })
            }
            Command::Confirm { hold } => {
                let claims = self.resolve(hold, Step::Confirm, now)?;
                Ok(Outcome::Confirmed { claims: claims.into_iter().collect() })
            }
            Command::Release { hold } => {
                let claims = self.resolve(hold, Step::Release, now)?;
                Ok(Outcome::Released { claims: claims.into_iter().collect() })
            }
            Command::Expire { hold } => {
                let claims = self.resolve(hold, Step::Expire, now)?;
                Ok(Outcome::Expired { claims: claims.into_iter().collect() })
            }
            Command::Cancel { booking, by } => self.cancel(&[booking], by, now),
            Command::CancelGroup { bookings, by } => self.cancel(bookings, by, now),
            Command::Move { booking, to, by } => self.move_booking(booking, to, by, now),
            Command::CheckIn { booking } => {
                let claim = self.leave(booking, Step::CheckIn)?;
                self.allowed(&claim, |policy, _, slot| policy.may_check_in(slot, now))?;
                self.bookings[index(booking)].state = State::CheckedIn;
                Ok(Outcome::CheckedIn { claim: NumberedClaim { number: booking, claim } })
            }
            Command::Complete { booking } => {
                let claim = self.leave(booking, Step::Complete)?;
                let slot = self.slots[&claim.slot].facts;
                let party = &mut self.parties[claim.party.0 as usize];
                *party = party.after(self.policy.given(party, &slot, claim.dose, now));
                self.bookings[index(booking)].state = State::Completed;
                Ok(Outcome::Completed { claim: NumberedClaim { number: booking, claim } })
            }
            Command::CompleteNoted { booking, given_at, product, .. } => {
                let claim = self.leave(booking, Step::Complete)?;
                let given_at = TimestampMs(given_at.0.min(now.0));
                self.allowed(&claim, |policy, _, slot| policy.may_check_in(slot, given_at))?;
                let slot = self.slots[&claim.slot].facts;
                let party = &mut self.parties[claim.party.0 as usize];
                let given = self.policy.given(party, &slot, claim.dose, given_at);
                party.doses = given.doses;
                // Told late, it is not the last dose.
                if given.day >= party.last_dose_day {
                    (party.product, party.last_dose_day) = (product.unwrap_or(given.product), given.day);
                }
                self.bookings[index(booking)].state = State::Completed;
                Ok(Outcome::Completed { claim: NumberedClaim { number: booking, claim } })
            }
            Command::ChangeFacts { party, facts, expected, .. } => {
                let known = self.parties.get_mut(party.0 as usize).ok_or(Refusal::UnknownParty { party })?;
                if expected.is_some_and(|expected| expected != known) {
                    return Err(Refusal::ChangedMeanwhile { party }.into());
                }
                *known = facts;
                Ok(Outcome::FactsChanged { party })
            }
            Command::Record { .. } => Ok(Outcome::Recorded),
            Command::NoShow { booking } => {
                let claim = self.leave(booking, Step::NoShow)?;
                self.allowed(&claim, |policy, _, slot| policy.may_be_no_show(slot, now))?;
                self.bookings[index(booking)].state = State::NoShow;
                Ok(Outcome::NoShow { claim: NumberedClaim { number: booking, claim } })
            }
            Command::WalkInLate { claim, came_at } => {
                let claims = self.claim(&[claim], Asks::AtTheDoor, TimestampMs(0), came_at.min(now))?;
                Ok(Outcome::WalkedIn { claim: claims[0] })
            }
            Command::WalkIn { claim } => {
                let claims = self.claim(&[claim], Asks::AtTheDoor, TimestampMs(0), now)?;
                Ok(Outcome::WalkedIn { claim: claims[0] })
            }
            Command::Resize { slot, capacity } => {
                if !self.slots.contains_key(&slot) {
                    return Err(Refusal::UnknownSlot { slot }.into());
                }
                let (_, held, booked) = self.counts(slot);
                if held + booked > capacity.get() {
                    return Err(ModelRefusal::BelowTaken(slot));
                }
                self.slots.entry(slot).and_modify(|slot| slot.capacity = capacity.get());
                Ok(Outcome::SlotChanged { slot })
            }
            Command::Open { slot } | Command::Close { slot } => {
                let found = self.slots.get_mut(&slot).ok_or(Refusal::UnknownSlot { slot })?;
                found.open = matches!(command, Command::Open { .. });
                Ok(Outcome::SlotChanged { slot })
            }
        }
    }

    fn claim(
        &mut self,
        claims: &[Claim],
        asks: Asks,
        expires_at: TimestampMs,
        now: TimestampMs,
    ) -> Result<Vec<NumberedClaim>, ModelRefusal> {
        let mut sorted = claims.to_vec();
        sorted.sort_by_key(|claim| claim.party);
        for claim in &sorted {
            if claim.party.0 as usize >= self.parties.len() {
                return Err(Refusal::UnknownParty { party: claim.party }.into());
            }
        }
        for claim in &sorted {
            if !self.slots.contains_key(&claim.slot) {
                return Err(Refusal::UnknownSlot { slot: claim.slot }.into());
            }
        }
        for claim in &sorted {
            self.allowed(claim, |policy, party, slot| match asks {
                Asks::AtTheDoor => policy.may_walk_in(party, slot, claim.dose, now),
                Asks::Offer => policy.may_be_offered(party, slot, claim.dose, now),
                Asks::Hold | Asks::Book => policy.may_claim(party, slot, claim.dose, now),
            })?;
        }
        for claim in &sorted {
            self.unclaimed(claim, None)?;
        }
        for claim in &sorted {
            if self.live(claim.party).len() >= LIVE_CLAIMS_MAX {
                return Err(Refusal::TooManyClaims { party: claim.party, max: LIVE_CLAIMS_MAX }.into());
            }
        }
        if asks == Asks::Hold {
            for claim in &sorted {
                self.no_hoarding(claim, now)?;
            }
        }
        let mut wanted: BTreeMap<SlotId, u32> = BTreeMap::new();
        for claim in claims {
            *wanted.entry(claim.slot).or_default() += 1;
        }
        for (slot, units) in wanted {
            self.room(slot, units, matches!(asks, Asks::Offer | Asks::AtTheDoor))?;
        }
        let (state, offered) = match asks {
            Asks::Hold | Asks::Offer => (State::Held, asks == Asks::Offer),
            Asks::Book => (State::Booked, false),
            Asks::AtTheDoor => (State::CheckedIn, false),
        };
        let hold = self.bookings.len() as u64;
        for claim in claims {
            self.bookings.push(ModelBooking { state, claim: *claim, hold, expires_at, offered });
        }
        Ok((hold..)
            .map(BookingNumber)
            .zip(claims)
            .map(|(number, claim)| NumberedClaim { number, claim: *claim })
            .collect())
    }

    // rule: HLD-2
    fn no_hoarding(&self, claim: &Claim, now: TimestampMs) -> Result<(), ModelRefusal> {
        const HOUR_MS: u64 = 3_600_000;
        let (party, limits) = (claim.party, self.policy.hold_limits());
        let longest = u64::try_from(self.policy.hold_ttl_max().as_millis()).expect("a model's holds are short");
        let programme = |slot: SlotId| self.slots[&slot].facts.programme;
        let of_party = self.bookings.iter().rev().filter(|booking| booking.claim.party == party && !booking.offered);
        let recent: Vec<_> = of_party
            .take_while(|booking| booking.expires_at.0 == 0 || booking.expires_at.0 + HOUR_MS + longest >= now.0)
            .filter(|booking| programme(booking.claim.slot) == programme(claim.slot))
            .collect();
        let live = recent.iter().filter(|booking| booking.state == State::Held && booking.expires_at > now);
        let live: Vec<_> = live.map(|booking| booking.expires_at).collect();
        if limits.live_max > 0 && live.len() >= usize::from(limits.live_max) {
            let from = live.into_iter().min().unwrap_or_default();
            let (limit, max) = (HoardingLimit::Live, limits.live_max);
            return Err(Refusal::Hoarding { party, limit, max, from }.into());
        }
        let expired = recent.iter().filter(|booking| {
            let over = booking.state == State::Expired || booking.state == State::Held;
            over && booking.expires_at <= now && now.0 < booking.expires_at.0 + HOUR_MS
        });
        let max = usize::from(limits.expired_per_hour_max);
        let newest: Vec<_> = expired.map(|booking| booking.expires_at.0).take(max).collect();
        if let Some(oldest) = newest.iter().min().filter(|_| newest.len() == max) {
            let (limit, max, from) =
                (HoardingLimit::ExpiredPerHour, limits.expired_per_hour_max, TimestampMs(oldest + HOUR_MS));
            return Err(Refusal::Hoarding { party, limit, max, from }.into());
        }
        Ok(())
    }

    fn allowed(
        &self,
        claim: &Claim,
        ask: impl FnOnce(&dyn Policy, &PartyFacts, &SlotFacts) -> Result<(), PolicyRefusal>,
    ) -> Result<(), ModelRefusal> {
        let facts = self.slots[&claim.slot].facts;
        ask(&*self.policy, &self.parties[claim.party.0 as usize], &facts).map_err(|no| {
            Refusal::NotEligible { party: claim.party, slot: claim.slot, rule: no.rule, from: no.from }.into()
        })
    }

    fn unclaimed(&self, claim: &Claim, except: Option<BookingNumber>) -> Result<(), ModelRefusal> {
        let programme = self.slots[&claim.slot].facts.programme;
        let same = |booking: &ModelBooking| {
            let key: (PartyId, ProgrammeId, Dose) =
                (booking.claim.party, self.slots[&booking.claim.slot].facts.programme, booking.claim.dose);
            booking.state.is_live() && key == (claim.party, programme, claim.dose)
        };
        match (0u64..).map(BookingNumber).zip(&self.bookings).find(|(_, booking)| same(booking)) {
            Some((booking, _)) if Some(booking) != except => {
                Err(Refusal::AlreadyClaimed { party: claim.party, booking, programme, dose: claim.dose }.into())
            }
            _ => Ok(()),
        }
    }

    fn room(&self, slot: SlotId, units: u32, passes: bool) -> Result<(), ModelRefusal> {
        let (capacity, held, booked) = self.counts(slot);
        if !self.slots[&slot].open {
            return Err(ModelRefusal::Closed(slot));
        }
        if capacity - held - booked < units {
            return Err(ModelRefusal::Full(slot, held > 0));
        }
        if self.slots[&slot].reserved && !passes {
            return Err(ModelRefusal::Reserved(slot));
        }
        Ok(())
    }

    fn resolve(
        &mut self,
        hold: BookingNumber,
        step: Step,
        now: TimestampMs,
    ) -> Result<Vec<NumberedClaim>, ModelRefusal> {
        let (from, to) = step.row();
        let first = self.bookings.get(index(hold)).ok_or(Refusal::UnknownBooking { booking: hold })?;
        if first.hold != hold.0 {
            return Err(Refusal::NotTheHold { booking: hold, hold: BookingNumber(first.hold) }.into());
        }
        let late = first.expires_at <= now;
        let expired = Refusal::HoldExpired { hold, expired_at: first.expires_at };
        let wrong = Refusal::WrongState { booking: hold, from: first.state, to };
        match (first.state, step) {
            (State::Held, Step::Expire) if !late => return Err(wrong.into()),
            (State::Held, Step::Confirm | Step::Release) if late => return Err(expired.into()),
            (State::Expired, Step::Confirm | Step::Release) => return Err(expired.into()),
            (state, _) if state != from => return Err(wrong.into()),
            _ => {}
        }
        let group = (0u64..).zip(&mut self.bookings).filter(|(_, booking)| booking.hold == hold.0);
        Ok(group
            .map(|(number, booking)| {
                booking.state = to;
                NumberedClaim { number: BookingNumber(number), claim: booking.claim }
            })
            .collect())
    }

    fn leave(&self, booking: BookingNumber, step: Step) -> Result<Claim, ModelRefusal> {
        let found = self.bookings.get(index(booking)).ok_or(Refusal::UnknownBooking { booking })?;
        if found.state.after(step).is_none() {
            return Err(Refusal::WrongState { booking, from: found.state, to: step.row().1 }.into());
        }
        Ok(found.claim)
    }

    /// Several of one group, all or none.
    fn cancel(&mut self, bookings: &[BookingNumber], by: By, now: TimestampMs) -> Result<Outcome, ModelRefusal> {
        let mut bookings = bookings.to_vec();
        bookings.sort_unstable();
        if let Some(booking) = bookings.iter().copied().find(|number| index(*number) >= self.bookings.len()) {
            return Err(Refusal::UnknownBooking { booking }.into());
        }
        let hold = self.bookings[index(bookings[0])].hold;
        if let Some(booking) = bookings.iter().copied().find(|number| self.bookings[index(*number)].hold != hold) {
            return Err(Refusal::NotOfGroup { booking, hold: BookingNumber(hold) }.into());
        }
        let mut claims = Vec::new();
        for number in bookings {
            claims.push(NumberedClaim { number, claim: self.leave(number, Step::Cancel)? });
        }
        for NumberedClaim { claim, .. } in &claims {
            self.may_leave(claim, Step::Cancel, by, now)?;
        }
        for NumberedClaim { number, .. } in &claims {
            self.bookings[index(*number)].state = State::Cancelled;
        }
        Ok(match claims[..] {
            [claim] => Outcome::Cancelled { claim },
            _ => Outcome::GroupCancelled { claims: claims.into_iter().collect() },
        })
    }

    fn may_leave(&self, claim: &Claim, step: Step, by: By, now: TimestampMs) -> Result<(), ModelRefusal> {
        self.allowed(claim, |policy, _, slot| match (by, step) {
            (By::Holder, Step::Move) => policy.may_move_away(slot, now),
            (By::Holder, _) => policy.may_leave(slot, now),
            (By::Administration, _) => Ok(()),
        })
    }

    fn move_booking(
        &mut self,
        booking: BookingNumber,
        to: SlotId,
        by: By,
        now: TimestampMs,
    ) -> Result<Outcome, ModelRefusal> {
        if !self.slots.contains_key(&to) {
            return Err(Refusal::UnknownSlot { slot: to }.into());
        }
        let old = self.leave(booking, Step::Move)?;
        if old.slot == to {
            return Err(Refusal::SameSlot { booking, slot: to }.into());
        }
        self.may_leave(&old, Step::Move, by, now)?;
        let claim = Claim { slot: to, ..old };
        self.allowed(&claim, |policy, party, slot| match by {
            By::Holder => policy.may_claim(party, slot, claim.dose, now),
            By::Administration => policy.may_be_moved(party, slot, claim.dose, now),
        })?;
        self.unclaimed(&claim, Some(booking))?;
        self.room(to, 1, by == By::Administration)?;
        self.bookings[index(booking)].state = State::Moved;
        let number = self.bookings.len() as u64;
        let (state, expires_at, offered) = (State::Booked, TimestampMs(0), false);
        self.bookings.push(ModelBooking { state, claim, hold: number, expires_at, offered });
        Ok(Outcome::Moved { from: booking, to: NumberedClaim { number: BookingNumber(number), claim } })
    }
}

fn index(booking: BookingNumber) -> usize {
    usize::try_from(booking.0).unwrap_or(usize::MAX)
}
