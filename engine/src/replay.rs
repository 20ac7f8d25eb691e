//! Journal entries back into the tables. Applies and never re-decides.
//!
//! The only part that knows both the journal and the inventory. An entry that does not fit what came before is
//! an error: no crash can have written it.

mod keys;
mod settle;

use arrayvec::ArrayVec;

use crate::booking::{Birth, BookingCell, State, Step};
use crate::command::{Claim, GROUP_CLAIMS_MAX, Given, Group, NumberedClaim, Places};
use crate::engine::Note;
use crate::ids::{BookingNumber, PartyId, ProgrammeId, Seq, SlotId};
use crate::inventory::{Inventory, LockedUpTo, demand};
use crate::journal::directory::OpenError;
use crate::journal::entry::{Entry, Event, PublishedSlot};
use crate::slot::{Give, SlotWord, Take};
use crate::sync::atomic::Ordering::Relaxed;
use crate::units::{TimestampMs, Units};
pub(crate) use keys::{KeyReplayer, key_row};

/// Applies entries in order.
pub(crate) struct Replayer<'a> {
    inventory: &'a Inventory,
    on_note: &'a mut dyn FnMut(Note<'_>),
    newest: TimestampMs,
    /// From a snapshot: entries up to the first are in it, records in it may have seen entries up to the second.
    span: Option<(Seq, Seq)>,
    last: Seq,
    fault: Option<(Seq, String)>,
}

impl<'a> Replayer<'a> {
    pub(crate) fn new(inventory: &'a Inventory, on_note: &'a mut dyn FnMut(Note<'_>)) -> Self {
        Self { inventory, on_note, newest: TimestampMs(0), span: None, last: Seq(0), fault: None }
    }

    /// Goes on from a loaded snapshot: nothing up to `s0` is applied again, and words and claims are counted at `s1`.
    pub(crate) fn begin_at(&mut self, s0: Seq, s1: Seq, newest: TimestampMs) {
        self.span = Some((s0, s1));
        self.last = s0;
        self.newest = newest;
    }

    /// The catalogue's part of a snapshot.
    pub(crate) fn catalogue(&mut self, seq: Seq, entry: &Entry) -> Result<(), String> {
        match &entry.event {
            Event::Published { slots, note } => self.published(seq, slots, note),
            Event::Note { note } => {
                (self.on_note)(Note { seq, slots: &[], note });
                Ok(())
            }
            other => Err(format!("entry {seq} of kind {} is none of the catalogue's", other.kind())),
        }
    }

    /// Applies one entry to all tables but the keys. After a fault the rest is passed over; [`Replayer::finish`] tells of it.
    // rule: SNP-3 replay skips what a snapshot has seen, and counts units and claims afresh once it has passed S1
    pub(crate) fn apply(&mut self, seq: Seq, at: TimestampMs, change: Change<'_>) {
        if self.fault.is_some() || seq <= self.last {
            return;
        }
        self.last = seq;
        self.newest = self.newest.max(at);
        let applied = match self.span {
            Some((_, s1)) if seq <= s1 => self.seen_or_change(seq, change),
            Some(_) => self.settle().and_then(|()| self.change(seq, change)),
            None => self.change(seq, change),
        };
        if let Err(what) = applied {
            self.fault = Some((seq, what));
        }
    }

    /// The tables, to be read ahead.
    pub(crate) fn inventory(&self) -> &'a Inventory {
        self.inventory
    }

    /// What puts the entries' keys back, beside this or in another thread: it needs nothing of the other tables.
    pub(crate) fn keys(&self) -> KeyReplayer<'a> {
        let seen = self.span.map_or(Seq(0), |(_, s1)| s1);
        KeyReplayer::new(&self.inventory.keys, seen)
    }

    /// Sets the timers of what is still held, and says the time of the newest entry.
    pub(crate) fn finish(mut self) -> Result<TimestampMs, OpenError> {
        if let (None, Some((_, s1))) = (&self.fault, self.span) {
            if self.last < s1 {
                let what = format!("the log ends at {}, and the snapshot was taken when it reached {s1}", self.last);
                return Err(OpenError::Replay { seq: self.last, what });
            }
            if let Err(what) = self.settle() {
                self.fault = Some((self.last, what));
            }
        }
        if let Some((seq, what)) = self.fault {
            return Err(OpenError::Replay { seq, what });
        }
        let Inventory { bookings, wheel, .. } = self.inventory;
        for number in (0..self.inventory.bookings_end()).map(BookingNumber) {
            let view = bookings.get(number).and_then(|cell| cell.view(number));
            if let Some(held) = view.filter(|view| view.state == State::Held && view.hold == number) {
                wheel.add(number, held.expires_at);
            }
        }
        Ok(self.newest)
    }

    /// An entry that the records of a snapshot may have seen. Each record tells for itself.
    fn seen_or_change(&mut self, seq: Seq, change: Change<'_>) -> Result<(), String> {
        let inventory = self.inventory;
        match change {
            Change::Claims { first, state, expires_at, claims } => self.births(seq, first, state, expires_at, claims),
            Change::Steps { first, len, step } => {
                let end = first.0.checked_add(u64::from(len)).ok_or("a booking number past the end")?;
                self.late_steps(seq, (first.0..end).map(BookingNumber), step)
            }
            Change::Given { booking, given } => {
                self.late_steps(seq, std::iter::once(booking), Step::Complete)?;
                // What a party's facts say is of the newest dose that was given: a later entry of the span says it again.
                let party = inventory.bookings.get(booking).map(BookingCell::party);
                if let Some(mut record) = party.and_then(|party| inventory.parties.lock(party)) {
                    record.facts = record.facts.after(given);
                }
                Ok(())
            }
            Change::Offer { number, expires_at, claim } => {
                self.birth(seq, number, Birth { expires_at, offered: true, ..alone(State::Held, claim) })
            }
            Change::Nothing => Ok(()),
            Change::Other(Event::GroupCancelled { hold, places, .. }) => {
                self.late_steps(seq, places.numbers(*hold), Step::Cancel)
            }
            Change::Other(Event::PartiesAdded { first, count, .. })
                if u64::from(first.0) + u64::from(*count) <= u64::from(inventory.parties.count()) =>
            {
                Ok(())
            }
            Change::Other(Event::Moved { from, to, .. }) => {
                let old = inventory.bookings.get(*from).ok_or_else(|| format!("booking {from} is unknown"))?;
                if old.seq() < seq {
                    self.check_step(*from, Step::Move)?;
                    old.set_state(State::Moved, Some(to.number), seq);
                }
                self.birth(seq, to.number, Birth { link: Some(*from), ..alone(State::Booked, to.claim) })
            }
            Change::Other(_) => self.change(seq, change),
        }
    }

    fn births(
        &self,
        seq: Seq,
        first: BookingNumber,
        state: State,
        expires_at: TimestampMs,
        claims: &[Claim],
    ) -> Result<(), String> {
        for (claim, index) in claims.iter().zip(0u8..) {
            let number = BookingNumber(first.0.checked_add(u64::from(index)).ok_or("a booking number past the end")?);
            let birth = Birth { expires_at, group_index: index, group_len: len(claims), ..alone(state, *claim) };
            self.birth(seq, number, birth)?;
        }
        Ok(())
    }

    /// Writes a record whose programme is that of its slot.
    fn birth(&self, seq: Seq, number: BookingNumber, birth: Birth) -> Result<(), String> {
        let (inventory, claim) = (self.inventory, birth.claim);
        match inventory.bookings.get(number) {
            Some(cell) if cell.seq() >= seq => return Ok(()),
            Some(_) => return Err(format!("booking {number} was given out before")),
            None => {}
        }
        if !inventory.parties.exists(claim.party) {
            return Err(format!("party {} is unknown", claim.party));
        }
        let facts = inventory.slots.facts(claim.slot).ok_or_else(|| format!("slot {} is unknown", claim.slot))?;
        let cell = inventory.bookings.blank(number).filter(|_| number.0 < inventory.bookings.len_max());
        let cell = cell.ok_or_else(|| format!("booking {number} is over the limit"))?;
        cell.create(&Birth { programme: facts.programme, ..birth }, None, seq);
        inventory.next_booking.fetch_max(number.0 + 1, Relaxed);
        Ok(())
    }

    fn late_steps(&self, seq: Seq, numbers: impl Iterator<Item = BookingNumber>, step: Step) -> Result<(), String> {
        for number in numbers {
            let cell = self.inventory.bookings.get(number).ok_or_else(|| format!("booking {number} is unknown"))?;
            if cell.seq() < seq {
                self.check_step(number, step)?;
                cell.set_state(step.row().1, None, seq);
            }
        }
        Ok(())
    }

    /// Counts the units and the parties' claims from the records, once all of them have come to the same entry.
    fn settle(&mut self) -> Result<(), String> {
        if self.span.take().is_none() { Ok(()) } else { settle::settle(self.inventory) }
    }

    fn change(&mut self, seq: Seq, change: Change<'_>) -> Result<(), String> {
        match change {
            // The same with room for one on the stack: what is most of a journal moves no more than it has.
            Change::Claims { first, state, expires_at, claims: claims @ [_] } => {
                self.claims::<1>(seq, first, state, expires_at, claims)
            }
            Change::Claims { first, state, expires_at, claims } => {
                self.claims::<GROUP_CLAIMS_MAX>(seq, first, state, expires_at, claims)
            }
            Change::Steps { first, len: 1, step } => self.steps::<1>(seq, first, 1, step),
            Change::Steps { first, len, step } => self.steps::<GROUP_CLAIMS_MAX>(seq, first, len, step),
            Change::Offer { number, expires_at, claim } => self.offer(seq, number, expires_at, claim),
            Change::Given { booking, given } => self.given(seq, booking, given),
            Change::Nothing => Ok(()),
            Change::Other(event) => self.other(seq, event),
        }
    }

    fn other(&mut self, seq: Seq, event: &Event) -> Result<(), String> {
        let inventory = self.inventory;
        match event {
            Event::PartiesAdded { first, count, facts } => {
                let parties = &inventory.parties;
                let fits = first.0.checked_add(*count).is_some_and(|end| end <= parties.len_max());
                if first.0 != parties.count() || !fits {
                    return Err(format!("parties from {first} where {} was due, or over the limit", parties.count()));
                }
                parties.add(*count, *facts, seq);
                Ok(())
            }
            Event::Published { slots, note } => self.published(seq, slots, note),
            Event::Note { note } => {
                (self.on_note)(Note { seq, slots: &[], note });
                Ok(())
            }
            Event::Moved { from, to, .. } => self.moved(seq, *from, to.number, to.claim),
            Event::GroupCancelled { hold, places, .. } => self.group_cancelled(seq, *hold, *places),
            Event::SlotChanged { slot, capacity, open } => {
                let word = self.word(*slot)?;
                if let crate::slot::Resize::BelowTaken(counts) = word.resize(*capacity) {
                    return Err(format!("slot {slot} shrinks to {capacity} below what is taken: {counts}"));
                }
                let _ = if *open { word.open() } else { word.close() };
                inventory.slots.mark_changed(*slot);
                Ok(())
            }
            Event::HoldsGraced { from, until } => {
                self.graced(seq, *from, *until);
                Ok(())
            }
            // Also of a span that a snapshot has seen: a later change of the same party's facts says them again.
            Event::FactsChanged { party, facts, .. } => {
                let mut record = inventory.parties.lock(*party).ok_or_else(|| format!("party {party} is unknown"))?;
                record.facts = *facts;
                record.set_seq(seq);
                Ok(())
            }
            Event::Held { .. }
            | Event::Offered { .. }
            | Event::Booked { .. }
            | Event::Confirmed { .. }
            | Event::Released { .. }
            | Event::Expired { .. }
            | Event::Cancelled { .. }
            | Event::CheckedIn { .. }
            | Event::Completed { .. }
            | Event::CompletedNoted { .. }
            | Event::Recorded { .. }
            | Event::NoShow { .. }
            | Event::WalkedIn { .. } => self.change(seq, Change::of(event)),
        }
    }

    /// Records that are at or past the entry have seen it, or came after it.
    fn graced(&self, seq: Seq, from: TimestampMs, until: TimestampMs) {
        let bookings = &self.inventory.bookings;
        for number in (0..self.inventory.bookings_end()).map(BookingNumber) {
            let Some(view) = bookings.get(number).and_then(|cell| cell.view(number)) else { continue };
            let within = from <= view.expires_at && view.expires_at < until;
            if view.state == State::Held && view.hold == number && view.seq < seq && within {
                self.inventory.record_grace(number, until, seq);
            }
        }
    }

    fn published(&mut self, seq: Seq, slots: &[PublishedSlot], note: &[u8]) -> Result<(), String> {
        let mut blocks = self.inventory.blocks.lock();
        for PublishedSlot { slot, centre, capacity, facts } in slots {
            if slot.0 >= self.inventory.slots_max || !self.inventory.slots.publish(*slot, *facts, *capacity) {
                return Err(format!("slot {slot} was published before, or is over the limit"));
            }
            blocks.restore(*centre, *slot);
        }
        drop(blocks);
        let numbers: Vec<SlotId> = slots.iter().map(|slot| slot.slot).collect();
        (self.on_note)(Note { seq, slots: &numbers, note });
        Ok(())
    }

    fn claims<const N: usize>(
        &self,
        seq: Seq,
        first: BookingNumber,
        state: State,
        expires_at: TimestampMs,
        claims: &[Claim],
    ) -> Result<(), String> {
        for (index, claim) in claims.iter().enumerate() {
            if claims[..index].iter().any(|other| other.party == claim.party) {
                return Err(format!("PTY-1: party {} stands twice in one group", claim.party));
            }
        }
        let mut locked: LockedUpTo<'_, N> = self.lock(claims.iter().map(|claim| claim.party))?;
        self.give_out(first, claims.len())?;
        for claim in claims {
            self.check_uniqueness(claim, None, &mut locked)?;
        }
        for (slot, units) in demand::<N>(claims.iter().map(|claim| claim.slot)) {
            let word = self.word(slot)?;
            let units = Units::new(units).ok_or("a group over Units::MAX")?;
            let took = if state == State::Held { word.replay_hold(units) } else { word.replay_book(units) };
            if let Take::Full(counts) | Take::Closed(counts) | Take::Reserved(counts) = took {
                return Err(format!("CAP-1: slot {slot} has no room for {units}: {counts}"));
            }
        }
        self.inventory.record_claims(first, state, expires_at, claims, &mut locked, seq);
        Ok(())
    }

    fn offer(&self, seq: Seq, number: BookingNumber, expires_at: TimestampMs, claim: Claim) -> Result<(), String> {
        let mut locked: LockedUpTo<'_, 1> = self.lock(std::iter::once(claim.party))?;
        self.give_out(number, 1)?;
        self.check_uniqueness(&claim, None, &mut locked)?;
        if let Take::Full(counts) | Take::Closed(counts) | Take::Reserved(counts) =
            self.word(claim.slot)?.replay_hold(Units::ONE)
        {
            return Err(format!("CAP-1: slot {} has no room: {counts}", claim.slot));
        }
        self.inventory.record_offer(number, expires_at, claim, &mut locked, seq);
        Ok(())
    }

    fn steps<const N: usize>(&self, seq: Seq, first: BookingNumber, len: u8, step: Step) -> Result<(), String> {
        let born = self.inventory.bookings.get(first).and_then(|cell| cell.view(first));
        let born = born.ok_or_else(|| format!("booking {first} is unknown"))?;
        let whole_hold = step.row().0 == State::Held;
        if whole_hold && (born.hold, born.group_len) != (first, len) {
            return Err(format!("{first} and {len} is not a hold; the hold is {} and {}", born.hold, born.group_len));
        }
        let group: ArrayVec<_, N> = self.inventory.bookings.claims(first, len);
        let mut locked: LockedUpTo<'_, N> = self.lock(group.iter().map(|numbered| numbered.claim.party))?;
        for numbered in &group {
            self.check_step(numbered.number, step)?;
        }
        self.inventory.record_step(first, len, step.row().1, &mut locked, seq);
        for (slot, units) in demand::<N>(group.iter().map(|numbered| numbered.claim.slot)) {
            self.change_word(slot, units, step)?;
        }
        Ok(())
    }

    fn change_word(&self, slot: SlotId, units: u32, step: Step) -> Result<(), String> {
        let units = Units::new(units).ok_or("a group over Units::MAX")?;
        match step_word(step, self.word(slot)?, units) {
            Some(Give::Missing(counts)) => Err(format!("slot {slot} has not the {units} units to change: {counts}")),
            Some(Give::Given(_)) | None => Ok(()),
        }
    }

    fn given(&self, seq: Seq, booking: BookingNumber, given: Given) -> Result<(), String> {
        let born = self.inventory.bookings.get(booking).and_then(|cell| cell.view(booking));
        let born = born.ok_or_else(|| format!("booking {booking} is unknown"))?;
        let mut locked: LockedUpTo<'_, 1> = self.lock(std::iter::once(born.claim.party))?;
        self.check_step(booking, Step::Complete)?;
        if given.doses < born.claim.dose.0 {
            return Err(format!("booking {booking} was dose {}, and {} were had since", born.claim.dose, given.doses));
        }
        self.inventory.record_given(booking, given, &mut locked, seq);
        Ok(())
    }

    fn group_cancelled(&self, seq: Seq, hold: BookingNumber, places: Places) -> Result<(), String> {
        let bookings = &self.inventory.bookings;
        let mut group = Group::new();
        for number in places.numbers(hold) {
            let view = bookings.get(number).and_then(|cell| cell.view(number));
            let view = view.ok_or_else(|| format!("booking {number} is unknown"))?;
            if view.hold != hold {
                return Err(format!("booking {number} is of the group of {}, not of {hold}", view.hold));
            }
            group.push(NumberedClaim { number, claim: view.claim });
        }
        let mut locked: LockedUpTo<'_, GROUP_CLAIMS_MAX> = self.lock(group.iter().map(|of| of.claim.party))?;
        for of in &group {
            self.check_step(of.number, Step::Cancel)?;
        }
        self.inventory.record_steps(group.iter().map(|of| of.number), State::Cancelled, &mut locked, seq);
        for (slot, units) in demand::<GROUP_CLAIMS_MAX>(group.iter().map(|of| of.claim.slot)) {
            self.change_word(slot, units, Step::Cancel)?;
        }
        Ok(())
    }

    fn moved(&self, seq: Seq, from: BookingNumber, to: BookingNumber, claim: Claim) -> Result<(), String> {
        let mut locked: LockedUpTo<'_, 1> = self.lock(std::iter::once(claim.party))?;
        self.check_step(from, Step::Move)?;
        let old = self.inventory.bookings.get(from).and_then(|cell| cell.view(from)).ok_or("booking vanished")?;
        let same = (old.claim.party, old.claim.dose) == (claim.party, claim.dose);
        if !same || old.claim.slot == claim.slot {
            return Err(format!("booking {from} moves from {:?} to {claim:?}", old.claim));
        }
        self.give_out(to, 1)?;
        self.check_uniqueness(&claim, Some(from), &mut locked)?;
        if let Take::Full(counts) | Take::Closed(counts) | Take::Reserved(counts) =
            self.word(claim.slot)?.replay_book(Units::ONE)
        {
            return Err(format!("CAP-1: slot {} has no room: {counts}", claim.slot));
        }
        self.inventory.record_move(from, to, claim, &mut locked, seq);
        if let Give::Missing(counts) = self.word(old.claim.slot)?.cancel(Units::ONE) {
            return Err(format!("slot {} has not the unit to give back: {counts}", old.claim.slot));
        }
        Ok(())
    }

    fn lock<const N: usize>(&self, parties: impl Iterator<Item = PartyId>) -> Result<LockedUpTo<'a, N>, String> {
        LockedUpTo::lock(&self.inventory.parties, parties).map_err(|party| format!("party {party} is unknown"))
    }

    fn word(&self, slot: SlotId) -> Result<&'a SlotWord, String> {
        self.inventory.slots.word(slot).ok_or_else(|| format!("slot {slot} is unknown"))
    }

    /// Numbers may be out of order, for they are given out before the entry's place is; never twice.
    fn give_out(&self, first: BookingNumber, len: usize) -> Result<(), String> {
        let end = first.0.checked_add(len as u64).ok_or("a booking number past the end")?;
        if end > self.inventory.bookings.len_max() {
            return Err(format!("booking {first} is over the limit of {}", self.inventory.bookings.len_max()));
        }
        if (first.0..end).any(|number| self.inventory.bookings.get(BookingNumber(number)).is_some()) {
            return Err(format!("booking {first} was given out before"));
        }
        self.inventory.next_booking.fetch_max(end, Relaxed);
        Ok(())
    }

    fn check_uniqueness<const N: usize>(
        &self,
        claim: &Claim,
        except: Option<BookingNumber>,
        locked: &mut LockedUpTo<'_, N>,
    ) -> Result<(), String> {
        let facts = self.inventory.slots.facts(claim.slot).ok_or_else(|| format!("slot {} is unknown", claim.slot))?;
        let record = locked.of(claim.party);
        if crate::planted!("two_claims_per_dose") || crate::planted!("unwritten_expiry") {
            return Ok(());
        }
        if let Some(other) = record.live_claim(facts.programme, claim.dose).filter(|other| Some(*other) != except) {
            return Err(format!("PTY-1: party {} has the live claim {other} already", claim.party));
        }
        if except.is_none() && record.is_full() {
            return Err(format!("party {} has no room for another live claim", claim.party));
        }
        Ok(())
    }

    fn check_step(&self, number: BookingNumber, step: Step) -> Result<(), String> {
        let view = self.inventory.bookings.get(number).and_then(|cell| cell.view(number));
        let state = view.ok_or_else(|| format!("booking {number} is unknown"))?.state;
        match state.after(step) {
            Some(_) => Ok(()),
            None => Err(format!("BKG-1: booking {number} is {state}, it cannot become {}", step.row().1)),
        }
    }
}

/// What a step does to the units of a slot, if anything.
fn step_word(step: Step, word: &SlotWord, units: Units) -> Option<Give> {
    match step {
        Step::Confirm => Some(word.confirm(units)),
        Step::Release => Some(word.release(units)),
        Step::Expire => Some(word.expire(units)),
        Step::Cancel | Step::Move | Step::NoShow => Some(word.cancel(units)),
        Step::CheckIn | Step::Complete => None,
    }
}

/// An entry's event as replay takes it: what is common borrows no more than its claims.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    /// Claims numbered from `first` came to be.
    Claims { first: BookingNumber, state: State, expires_at: TimestampMs, claims: &'a [Claim] },
    /// The records from `first` on took a step; never [`Step::Move`] or [`Step::Complete`].
    Steps { first: BookingNumber, len: u8, step: Step },
    /// A unit was offered.
    Offer { number: BookingNumber, expires_at: TimestampMs, claim: Claim },
    /// A booking was completed.
    Given { booking: BookingNumber, given: Given },
    /// No table changes.
    Nothing,
    /// Anything else.
    Other(&'a Event),
}

impl<'a> Change<'a> {
    pub(crate) fn of(event: &'a Event) -> Self {
        let steps = |first: &BookingNumber, len: &u8, step| Change::Steps { first: *first, len: *len, step };
        match event {
            Event::Held { first, expires_at, claims } => {
                Change::Claims { first: *first, state: State::Held, expires_at: *expires_at, claims }
            }
            Event::Booked { first, claims } => {
                Change::Claims { first: *first, state: State::Booked, expires_at: TimestampMs(0), claims }
            }
            Event::Offered { number, expires_at, claim, .. } => {
                Change::Offer { number: *number, expires_at: *expires_at, claim: *claim }
            }
            Event::Confirmed { hold, len } => steps(hold, len, Step::Confirm),
            Event::Released { hold, len } => steps(hold, len, Step::Release),
            Event::Expired { hold, len } => steps(hold, len, Step::Expire),
            Event::Cancelled { booking } => steps(booking, &1, Step::Cancel),
            Event::CheckedIn { booking } => steps(booking, &1, Step::CheckIn),
            Event::NoShow { booking } => steps(booking, &1, Step::NoShow),
            Event::Completed { booking, given } | Event::CompletedNoted { booking, given, .. } => {
                Change::Given { booking: *booking, given: *given }
            }
            Event::Recorded { .. } => Change::Nothing,
            Event::WalkedIn { claim: NumberedClaim { number, claim } } => {
                let claims = std::slice::from_ref(claim);
                Change::Claims { first: *number, state: State::CheckedIn, expires_at: TimestampMs(0), claims }
            }
            Event::PartiesAdded { .. }
            | Event::Published { .. }
            | Event::Note { .. }
            | Event::Moved { .. }
            | Event::SlotChanged { .. }
            | Event::GroupCancelled { .. }
            | Event::FactsChanged { .. }
            | Event::HoldsGraced { .. } => Change::Other(event),
        }
    }
}

/// A claim in a group of its own, without a deadline, of a programme that is still to be looked up.
fn alone(state: State, claim: Claim) -> Birth {
    let (programme, expires_at) = (ProgrammeId(0), TimestampMs(0));
    Birth { state, claim, programme, group_index: 0, group_len: 1, expires_at, offered: false, link: None }
}

fn len(claims: &[Claim]) -> u8 {
    u8::try_from(claims.len()).expect("an entry has at most GROUP_CLAIMS_MAX claims")
}
