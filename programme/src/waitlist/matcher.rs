//! Who is offered what: one turn after the other, with bounded work in each.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use berth_engine::{
    Claim, Command, Dose, Outcome, PartyView, Policy as _, Refusal, Request, ReservedFor, Seq, SlotId, State,
    TimestampMs,
};

use super::entry::{RECORDED_WAITLIST, Said, Scope, Why, offer_note};
use super::queues::{May, Place, Standing, Turn, Waiter};
use super::{Core, LOOK_EVERY, Waitlist};
use crate::calendar::Calendar;
use crate::catalogue::Session;
use crate::file::WaitlistFile;
use crate::rules::PROGRAMME;
use crate::store::Store;

/// Slots seen to in one turn, and those who wait looked at: what is left is the next turn's, so that nobody waits long for the lock.
const SLOTS_A_TURN: usize = 256;
const LOOKED_AT_A_TURN: usize = 4096;
/// The pause after the journal took nothing.
const AGAIN: Duration = Duration::from_millis(50);

/// Whether a party has what an entry waits for: the dose, or a booking for it.
pub(super) fn is_served(party: &PartyView, dose: Dose) -> bool {
    let booked = |state| matches!(state, State::Booked | State::CheckedIn);
    party.facts.doses >= dose.0
        || party
            .bookings
            .iter()
            .any(|booking| booking.programme == PROGRAMME && booking.claim.dose == dose && booked(booking.state))
}

/// The journal takes nothing now.
struct NotNow;

impl Waitlist {
    /// The thread: until the waitlist is closed, or the journal has stopped.
    pub(super) fn run(&self, store: &Store) {
        while !self.closing.load(Relaxed) && self.engine.stopped().is_none() {
            if self.rules().is_some() && self.begin(store).is_err() {
                // The store stands still, of which it tells by itself.
                self.pause(self.core.lock());
                continue;
            }
            let more = self.turn(self.engine.now());
            let mut core = self.core.lock();
            if more || self.closing.load(Relaxed) || std::mem::take(&mut core.news) {
                continue;
            }
            let now = self.engine.now();
            let until = core.queues.next_timer().map(|at| Duration::from_millis(at.0.saturating_sub(now.0)));
            // The catalogue is about to learn of what was published.
            let most = if core.unplaced.is_empty() { LOOK_EVERY } else { AGAIN };
            let time = until.map_or(most, |until| until.min(most)).max(Duration::from_millis(1));
            self.woken.wait_for(&mut core, time);
        }
    }

    /// Puts somebody into the queue, with the slots that they may come to.
    pub(super) fn join_queue(&self, core: &mut Core, entry: Seq, waiter: Waiter) {
        if let Some(rules) = self.rules() {
            self.learn_scope(core, &waiter, &rules);
        }
        core.queues.join(entry, waiter);
    }

    fn learn_scope(&self, core: &mut Core, waiter: &Waiter, rules: &WaitlistFile) {
        let (first, end) = (waiter.wish.first, waiter.wish.last.saturating_add(1));
        let (first, end) = (Calendar::date_of(first), Calendar::date_of(end));
        let centres = match &waiter.wish.scope {
            Scope::Centre(id) => self.catalogue.centre(id).into_iter().collect(),
            Scope::District(id) => self.catalogue.centres_of(id),
        };
        for centre in centres {
            for session in centre.sessions_between(first, end) {
                self.learn_session(core, session, &centre.district, rules, None);
            }
        }
    }

    /// Learns the slots of a session, or one of them, that may still be offered.
    fn learn_session(
        &self,
        core: &mut Core,
        session: &Session,
        district: &Arc<str>,
        rules: &WaitlistFile,
        only: Option<SlotId>,
    ) {
        let Some(day) = Calendar::day_of(session.date) else { return };
        let now = self.engine.now();
        for window in &session.windows {
            let until = TimestampMs(window.end.0.saturating_sub(u64::from(rules.cutoff_minutes_before_end) * 60_000));
            if until <= now {
                continue;
            }
            let slots = session.slots_of(window).iter().map(|slot| slot.slot);
            for slot in slots.filter(|slot| only.is_none_or(|only| only == *slot)) {
                if !core.queues.knows(slot) {
                    let (centre, district) = (Arc::clone(&session.centre), Arc::clone(district));
                    let place = Place { centre, district, day, product: session.product, end: window.end, until };
                    core.queues.learn(slot, place);
                }
            }
        }
    }

    /// Sees to what has happened, as far as one turn goes. Returns whether there is more to do at once.
    pub(super) fn turn(&self, now: TimestampMs) -> bool {
        let Some(rules) = self.rules() else {
            self.stand_down();
            return false;
        };
        let mut core = self.core.lock();
        (core.news, core.refused) = (false, false);
        self.follow_rules(&mut core, &rules, now);
        if self.see_to_parties(&mut core, &rules, now).is_err() {
            return self.pause(core);
        }
        self.place(&mut core, &rules);
        core.queues.due(now);
        drop(core);
        let mut budget = LOOKED_AT_A_TURN;
        for _ in 0..SLOTS_A_TURN {
            // The lock is let go between slots, so that whoever joins or asks does not wait for a turn.
            let mut core = self.core.lock();
            let Some(slot) = core.queues.next_slot() else { return !core.looks.is_empty() };
            if self.see_to_slot(&mut core, slot, &rules, now, &mut budget).is_err() {
                return self.pause(core);
            }
            if budget == 0 {
                break;
            }
        }
        true
    }

    /// The journal took nothing: tried again in a moment.
    fn pause(&self, mut core: parking_lot::MutexGuard<'_, Core>) -> bool {
        core.refused = true;
        if !self.closing.load(Relaxed) {
            self.woken.wait_for(&mut core, AGAIN);
        }
        self.engine.stopped().is_none() && !self.closing.load(Relaxed)
    }

    /// The programme has no waitlist any more: nothing is kept for anybody. Entries stay, should it have one again.
    fn stand_down(&self) {
        let mut core = self.core.lock();
        for slot in core.queues.slots() {
            if core.queues.forget(slot) {
                let _ = self.engine.reserve(slot, ReservedFor::Waitlist, false);
            }
        }
        core.looked = None;
    }

    /// By other rules, or on another day, others may have what is free.
    fn follow_rules(&self, core: &mut Core, rules: &WaitlistFile, now: TimestampMs) {
        let standing = self.programme.get();
        let looked = (*standing.sha256(), standing.since, self.programme.calendar().day(now));
        drop(standing);
        if core.looked.replace(looked) == Some(looked) {
            return;
        }
        // The cut-off may be another, too.
        let slots = core.queues.slots();
        let kept: Vec<SlotId> = slots.into_iter().filter(|slot| core.queues.forget(*slot)).collect();
        let waiting: Vec<(Seq, Waiter)> = core.queues.waiters().map(|(seq, waiter)| (seq, waiter.clone())).collect();
        for (entry, waiter) in waiting {
            self.learn_scope(core, &waiter, rules);
            core.looks.insert(entry);
        }
        // What stays reserved is known to be; what is no longer waited for is let go.
        for slot in kept {
            if !core.queues.reserve(slot, true) {
                let _ = self.engine.reserve(slot, ReservedFor::Waitlist, false);
            }
        }
    }

    /// Slots just published, once the catalogue knows them.
    fn place(&self, core: &mut Core, rules: &WaitlistFile) {
        for slot in std::mem::take(&mut core.unplaced) {
            match self.catalogue.slot(slot) {
                Some(place) => {
                    let Some(centre) = self.catalogue.centre(&place.session.centre) else { continue };
                    if core.queues.is_waited_for(&centre.id, &centre.district) {
                        self.learn_session(core, &place.session, &centre.district, rules, Some(slot));
                    }
                }
                None if self.engine.slot_facts(slot).is_some() => core.unplaced.push(slot),
                None => {}
            }
        }
    }

    /// Those of whom something was heard.
    fn see_to_parties(&self, core: &mut Core, rules: &WaitlistFile, now: TimestampMs) -> Result<(), NotNow> {
        while let Some(entry) = core.gone.pop_first() {
            if let Err(no) = self.end(core, entry, Why::Gone, now) {
                core.gone.insert(entry);
                return Err(no);
            }
        }
        for _ in 0..SLOTS_A_TURN {
            let Some(entry) = core.looks.pop_first() else { break };
            if let Err(no) = self.look(core, entry, rules, now) {
                core.looks.insert(entry);
                return Err(no);
            }
        }
        Ok(())
    }

    fn look(&self, core: &mut Core, entry: Seq, rules: &WaitlistFile, now: TimestampMs) -> Result<(), NotNow> {
        let Some(waiter) = core.queues.waiter(entry).cloned() else { return Ok(()) };
        let Some(party) = self.engine.party_bookings(waiter.wish.party) else {
            return self.end(core, entry, Why::Gone, now);
        };
        let dose = waiter.wish.dose;
        if is_served(&party, dose) {
            return self.end(core, entry, Why::Served, now);
        }
        let mut claims = party.bookings.iter();
        let claim = claims.find(|booking| booking.programme == PROGRAMME && booking.claim.dose == dose);
        if matches!(waiter.standing, Standing::Offered(..)) && !self.offer_is_over(&waiter) {
            // It stands, or the log is about to say how it ended.
            return Ok(());
        }
        if claim.is_some() || party.bookings.is_full() {
            core.queues.stand(entry, Standing::Claimed);
            return Ok(());
        }
        if waiter.passed.len() >= usize::from(rules.offers_max) {
            return self.end(core, entry, Why::Missed, now);
        }
        if waiter.wish.last < self.programme.calendar().day(now) {
            return self.end(core, entry, Why::Past, now);
        }
        core.queues.stand(entry, Standing::Waiting);
        Ok(())
    }

    /// Whether what the store says of an offer is all that there is: at a start it may have been confirmed and given up since.
    fn offer_is_over(&self, waiter: &Waiter) -> bool {
        let Standing::Offered(number, _) = waiter.standing else { return false };
        self.engine
            .booking(number)
            .is_none_or(|booking| !matches!(booking.state, State::Held | State::Expired | State::Released))
    }

    fn end(&self, core: &mut Core, entry: Seq, why: Why, now: TimestampMs) -> Result<(), NotNow> {
        let bytes = Said::Ended { entry, why }.bytes();
        let command = Command::Record { kind: RECORDED_WAITLIST, bytes: &bytes, urgent: false };
        match self.engine.submit(&Request { command, idempotency: None }, now) {
            Ok(submitted) if submitted.result.is_ok() => {
                core.end(entry, why, now, submitted.seq);
                Ok(())
            }
            Ok(_) | Err(_) => Err(NotNow),
        }
    }

    /// Offers what is free of a slot, and says whether the rest is kept.
    // rule: WTL-2 reserved while somebody waits who may have it, and only then
    fn see_to_slot(
        &self,
        core: &mut Core,
        slot: SlotId,
        rules: &WaitlistFile,
        now: TimestampMs,
        budget: &mut usize,
    ) -> Result<(), NotNow> {
        loop {
            let Some(place) = core.queues.place(slot).cloned() else { return Ok(()) };
            if now >= place.until {
                if core.queues.forget(slot) {
                    let _ = self.engine.reserve(slot, ReservedFor::Waitlist, false);
                }
                return Ok(());
            }
            let turn = core.queues.turn(slot, budget, |waiter, slot| self.may(waiter, slot, now));
            let kept = match turn {
                Turn::Later => {
                    core.queues.later(slot);
                    return Ok(());
                }
                Turn::Of(_) => true,
                Turn::Nobodys => false,
            };
            if core.queues.reserve(slot, kept) {
                let _ = self.engine.reserve(slot, ReservedFor::Waitlist, kept);
            }
            // rule: LOT-2 what is drawn is nobody's until it has been
            let free = self.engine.counts(slot).is_some_and(|counts| {
                counts.is_open() && counts.free().get() > 0 && !counts.is_reserved_for(ReservedFor::Lottery)
            });
            let (Turn::Of(entry), true) = (turn, free) else {
                let _ = core.queues.take_freed(slot);
                return Ok(());
            };
            self.offer(core, slot, &place, entry, rules, now)?;
        }
    }

    fn may(&self, waiter: &Waiter, slot: SlotId, now: TimestampMs) -> May {
        let party = self.engine.party_bookings(waiter.wish.party);
        let (Some(party), Some(slot)) = (party, self.engine.slot_facts(slot)) else { return May::No(None) };
        match self.programme.may_be_offered(&party.facts, &slot, waiter.wish.dose, now) {
            Ok(()) => May::Yes,
            Err(no) => May::No(no.from.filter(|from| *from > now)),
        }
    }

    // rule: WTL-1 one at a time, with a deadline
    fn offer(
        &self,
        core: &mut Core,
        slot: SlotId,
        place: &Place,
        entry: Seq,
        rules: &WaitlistFile,
        now: TimestampMs,
    ) -> Result<(), NotNow> {
        let Some(wish) = core.queues.waiter(entry).map(|waiter| waiter.wish.clone()) else { return Ok(()) };
        let on_the_day = self.programme.calendar().day(now) == place.day;
        let minutes = if on_the_day { rules.offer_minutes_on_the_day() } else { rules.offer_minutes };
        let left = Duration::from_millis(place.end.0.saturating_sub(now.0));
        let ttl = Duration::from_secs(u64::from(minutes) * 60).min(left);
        let claim = Claim { party: wish.party, slot, dose: wish.dose };
        let (note, idempotency) = (offer_note(entry), None);
        let command = Command::Offer { claim, ttl, note: &note };
        let Ok(submitted) = self.engine.submit(&Request { command, idempotency }, now) else {
            core.queues.later(slot);
            return Err(NotNow);
        };
        match submitted.result {
            Ok(Outcome::Held { claims, .. }) => {
                let number = claims.first().map(|claim| claim.number);
                number.iter().for_each(|number| core.queues.stand(entry, Standing::Offered(*number, slot)));
                self.counts.offers.fetch_add(1, Relaxed);
                if let Some(freed) = core.queues.take_freed(slot) {
                    self.counts.freed_to_offered.fetch_add(1, Relaxed);
                    self.counts.freed_to_offered_ms.fetch_add(now.0.saturating_sub(freed.0), Relaxed);
                }
            }
            // They claimed something at this very moment: the log tells of it.
            Err(Refusal::AlreadyClaimed { .. } | Refusal::TooManyClaims { .. }) => {
                core.queues.stand(entry, Standing::Claimed);
                core.looks.insert(entry);
            }
            // Whoever stood at the door has it.
            Err(Refusal::Full { .. } | Refusal::SlotClosed { .. }) => {}
            Err(Refusal::NotEligible { from, .. }) => core.queues.refuse(slot, from.filter(|from| *from > now)),
            Err(Refusal::JournalFull) => {
                core.queues.later(slot);
                return Err(NotNow);
            }
            Ok(_) | Err(_) => core.queues.refuse(slot, None),
        }
        Ok(())
    }
}
