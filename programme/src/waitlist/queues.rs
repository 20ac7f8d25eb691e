//! Who waits, in order, and whose turn it is at each slot. Plain memory: nothing here asks the engine or the programme anything.
//!
//! A slot has a queue of those who wait for its centre and of those who wait for its district, told apart by the number of the
//! joining entry alone: that is the order. Of each slot it is known up to whom everybody was looked at (`tried`) and whether that one may
//! have it (`found`); so nobody is looked at twice for one slot until something changes about them, the rules or the day.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use berth_engine::{BookingNumber, PartyId, ProductId, Seq, SlotId, TimestampMs};

use super::entry::{Scope, Wish};

/// Where somebody who waits stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// They may be offered something.
    Waiting,
    /// They have a live claim of their own that stands in the way.
    Claimed,
    /// They have an offer.
    Offered(BookingNumber, SlotId),
}

/// Somebody who waits.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) wish: Wish,
    /// When they joined.
    pub(super) at: TimestampMs,
    pub(super) standing: Standing,
    /// What they were offered and did not take: not offered again.
    pub(super) passed: Vec<SlotId>,
}

/// What never changes about a slot, as far as it matters to those who wait.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) centre: Arc<str>,
    pub(super) district: Arc<str>,
    pub(super) day: u16,
    pub(super) product: ProductId,
    /// When its window closes.
    pub(super) end: TimestampMs,
    /// From then on nothing is offered.
    pub(super) until: TimestampMs,
}

impl Place {
    fn scopes(&self) -> [Scope; 2] {
        [Scope::Centre(Arc::clone(&self.centre)), Scope::District(Arc::clone(&self.district))]
    }
}

struct Slot {
    place: Place,
    /// Up to whom everybody was looked at.
    tried: Seq,
    /// Whether that one may have a unit. Nobody before may.
    found: bool,
    /// The earliest time at which the answer to somebody may be another.
    again: Option<TimestampMs>,
    /// Whether the engine was told to keep its free units.
    reserved: bool,
    /// When the oldest unit became free that nobody was offered yet.
    freed: Option<TimestampMs>,
}

/// Whether somebody may have a unit of a slot now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    Yes,
    /// From when the answer may be another, if that is known.
    No(Option<TimestampMs>),
}

/// Whose turn it is at a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Of(Seq),
    Nobodys,
    /// Not known yet: there was no more work to spend on it now.
    Later,
}

#[derive(Default)]
pub(super) struct Queues {
    waiters: BTreeMap<Seq, Waiter>,
    scopes: HashMap<Scope, BTreeSet<Seq>>,
    parties: HashMap<PartyId, BTreeSet<Seq>>,
    slots: HashMap<SlotId, Slot>,
    centres: HashMap<Arc<str>, BTreeSet<SlotId>>,
    districts: HashMap<Arc<str>, BTreeSet<SlotId>>,
    /// The slots at which it is somebody's turn.
    turns: HashMap<Seq, HashSet<SlotId>>,
    /// Slots with units that have just become free.
    hot: BTreeSet<SlotId>,
    /// Slots whose turn is not known.
    cold: BTreeSet<SlotId>,
    /// When to look at a slot again.
    timers: BTreeSet<(TimestampMs, SlotId)>,
}

impl Queues {
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(super) fn waiter(&self, entry: Seq) -> Option<&Waiter> {
        self.waiters.get(&entry)
    }

    pub(super) fn waiters(&self) -> impl Iterator<Item = (Seq, &Waiter)> {
        self.waiters.iter().map(|(seq, waiter)| (*seq, waiter))
    }

    /// The open entries of a party.
    pub(super) fn of_party(&self, party: PartyId) -> Vec<Seq> {
        self.parties.get(&party).into_iter().flatten().copied().collect()
    }

    /// The open entries of one scope, in order.
    pub(super) fn of_scope(&self, scope: &Scope) -> impl Iterator<Item = (Seq, &Waiter)> {
        let entries = self.scopes.get(scope).into_iter().flatten();
        entries.filter_map(|seq| Some((*seq, self.waiters.get(seq)?)))
    }

    /// How many of the same scope and dose joined before, wait, and want one of the same days.
    pub(super) fn ahead(&self, entry: Seq) -> usize {
        let Some(own) = self.waiters.get(&entry).map(|waiter| &waiter.wish) else { return 0 };
        let before = self.of_scope(&own.scope).take_while(|(seq, _)| *seq < entry);
        let same = |waiter: &Waiter| {
            let wish = &waiter.wish;
            wish.dose == own.dose && wish.first <= own.last && own.first <= wish.last
        };
        before.filter(|(_, waiter)| waiter.standing == Standing::Waiting && same(waiter)).count()
    }

    /// Somebody joins. Once more is nothing.
    pub(super) fn join(&mut self, entry: Seq, waiter: Waiter) {
        if self.waiters.contains_key(&entry) {
            return;
        }
        self.scopes.entry(waiter.wish.scope.clone()).or_default().insert(entry);
        self.parties.entry(waiter.wish.party).or_default().insert(entry);
        self.waiters.insert(entry, waiter);
        self.consider(entry);
    }

    /// An entry has ended.
    pub(super) fn end(&mut self, entry: Seq) -> Option<Waiter> {
        let waiter = self.waiters.remove(&entry)?;
        let Wish { scope, party, .. } = &waiter.wish;
        if let Some(entries) = self.scopes.get_mut(scope) {
            entries.remove(&entry);
            if entries.is_empty() {
                self.scopes.remove(scope);
            }
        }
        if let Some(entries) = self.parties.get_mut(party) {
            entries.remove(&entry);
            if entries.is_empty() {
                self.parties.remove(party);
            }
        }
        self.pass(entry);
        Some(waiter)
    }

    /// Somebody stands otherwise now: whoever waits again is looked at for each slot that they were passed over at.
    pub(super) fn stand(&mut self, entry: Seq, standing: Standing) {
        let Some(waiter) = self.waiters.get_mut(&entry) else { return };
        let before = std::mem::replace(&mut waiter.standing, standing);
        match (before, standing) {
            (Standing::Waiting, Standing::Waiting) => {}
            (_, Standing::Waiting) => self.consider(entry),
            _ => self.pass(entry),
        }
    }

    /// Something is known otherwise of somebody: what they may have is looked at anew.
    pub(super) fn changed(&mut self, entry: Seq) {
        self.pass(entry);
        self.consider(entry);
    }

    /// They did not take what they were offered.
    pub(super) fn not_taken(&mut self, entry: Seq, slot: SlotId) {
        let Some(waiter) = self.waiters.get_mut(&entry) else { return };
        if !waiter.passed.contains(&slot) {
            waiter.passed.push(slot);
        }
    }

    /// A slot that somebody may wait for, or its place as it was learnt before.
    pub(super) fn learn(&mut self, slot: SlotId, place: Place) {
        if self.slots.contains_key(&slot) {
            return;
        }
        self.timers.insert((place.until, slot));
        self.centres.entry(Arc::clone(&place.centre)).or_default().insert(slot);
        self.districts.entry(Arc::clone(&place.district)).or_default().insert(slot);
        let new = Slot { place, tried: Seq(0), found: false, again: None, reserved: false, freed: None };
        self.slots.insert(slot, new);
        self.cold.insert(slot);
    }

    pub(super) fn knows(&self, slot: SlotId) -> bool {
        self.slots.contains_key(&slot)
    }

    pub(super) fn place(&self, slot: SlotId) -> Option<&Place> {
        self.slots.get(&slot).map(|slot| &slot.place)
    }

    /// Forgets a slot; whether its free units were kept.
    pub(super) fn forget(&mut self, slot: SlotId) -> bool {
        let Some(gone) = self.slots.remove(&slot) else { return false };
        for (lists, id) in [(&mut self.centres, &gone.place.centre), (&mut self.districts, &gone.place.district)] {
            if let Some(slots) = lists.get_mut(id) {
                slots.remove(&slot);
            }
        }
        if gone.found
            && let Some(slots) = self.turns.get_mut(&gone.tried)
        {
            slots.remove(&slot);
        }
        self.timers.remove(&(gone.place.until, slot));
        if let Some(again) = gone.again {
            self.timers.remove(&(again, slot));
        }
        self.hot.remove(&slot);
        self.cold.remove(&slot);
        gone.reserved
    }

    /// Every slot that is known.
    pub(super) fn slots(&self) -> Vec<SlotId> {
        self.slots.keys().copied().collect()
    }

    /// A unit of a slot has become free.
    pub(super) fn freed(&mut self, slot: SlotId, at: TimestampMs) {
        if let Some(known) = self.slots.get_mut(&slot) {
            known.freed = Some(known.freed.map_or(at, |before| before.min(at)));
            self.hot.insert(slot);
        }
    }

    /// When the oldest unit became free that was not offered, told once.
    pub(super) fn take_freed(&mut self, slot: SlotId) -> Option<TimestampMs> {
        self.slots.get_mut(&slot)?.freed.take()
    }

    /// Slots whose time has come are looked at anew.
    pub(super) fn due(&mut self, now: TimestampMs) {
        while let Some((at, slot)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, slot));
            if let Some(known) = self.slots.get_mut(&slot) {
                known.again = known.again.filter(|again| *again != at);
                let before = std::mem::replace(&mut known.found, false).then_some(known.tried);
                known.tried = Seq(0);
                if let Some(slots) = before.and_then(|entry| self.turns.get_mut(&entry)) {
                    slots.remove(&slot);
                }
            }
            self.cold.insert(slot);
        }
    }

    /// The next slot to see to: one with a unit that has become free before all others.
    pub(super) fn next_slot(&mut self) -> Option<SlotId> {
        self.hot.pop_first().or_else(|| self.cold.pop_first())
    }

    /// Sees to this slot later on.
    pub(super) fn later(&mut self, slot: SlotId) {
        if self.slots.contains_key(&slot) {
            self.cold.insert(slot);
        }
    }

    /// When there will be something to look at.
    pub(super) fn next_timer(&self) -> Option<TimestampMs> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether anybody waits for this centre, or for any of this district.
    pub(super) fn is_waited_for(&self, centre: &Arc<str>, district: &Arc<str>) -> bool {
        self.scopes.contains_key(&Scope::Centre(Arc::clone(centre)))
            || self.scopes.contains_key(&Scope::District(Arc::clone(district)))
    }

    /// How many slots are reserved.
    pub(super) fn reserved(&self) -> usize {
        self.slots.values().filter(|slot| slot.reserved).count()
    }

    /// Notes whether the engine keeps the free units; whether that is news.
    pub(super) fn reserve(&mut self, slot: SlotId, reserved: bool) -> bool {
        self.slots.get_mut(&slot).is_some_and(|slot| std::mem::replace(&mut slot.reserved, reserved) != reserved)
    }

    /// Whose turn it is at a slot: the first of those who wait, in the order of joining, who may have a unit. At most `budget` of them are
    /// looked at.
    // rule: WTL-1 in the order of joining, and nobody who has an offer
    pub(super) fn turn(&mut self, id: SlotId, budget: &mut usize, mut may: impl FnMut(&Waiter, SlotId) -> May) -> Turn {
        loop {
            let Some(slot) = self.slots.get(&id) else { return Turn::Nobodys };
            if slot.found {
                return Turn::Of(slot.tried);
            }
            let after = (Bound::Excluded(slot.tried), Bound::Unbounded);
            let next = slot.place.scopes().into_iter();
            let next = next.filter_map(|scope| self.scopes.get(&scope)?.range(after).next().copied()).min();
            let Some(entry) = next else { return Turn::Nobodys };
            if *budget == 0 {
                return Turn::Later;
            }
            *budget -= 1;
            self.look(id, entry, &mut may);
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.tried = entry;
            }
        }
    }

    /// The one whose turn it was may not have it: the next is looked for.
    pub(super) fn refuse(&mut self, id: SlotId, again: Option<TimestampMs>) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.found = false;
            let tried = slot.tried;
            if let Some(slots) = self.turns.get_mut(&tried) {
                slots.remove(&id);
            }
            self.look_again(id, again);
        }
    }

    /// Looks whether this one may have a unit, and makes it their turn if so.
    fn look(&mut self, id: SlotId, entry: Seq, may: &mut impl FnMut(&Waiter, SlotId) -> May) {
        let (Some(slot), Some(waiter)) = (self.slots.get_mut(&id), self.waiters.get(&entry)) else { return };
        if !fits(waiter, id, &slot.place) {
            return;
        }
        match may(waiter, id) {
            May::Yes => {
                slot.found = true;
                self.turns.entry(entry).or_default().insert(id);
            }
            May::No(again) => self.look_again(id, again),
        }
    }

    fn look_again(&mut self, id: SlotId, again: Option<TimestampMs>) {
        let (Some(slot), Some(again)) = (self.slots.get_mut(&id), again) else { return };
        if again >= slot.place.until || slot.again.is_some_and(|before| before <= again) {
            return;
        }
        if let Some(before) = slot.again.replace(again) {
            self.timers.remove(&(before, id));
        }
        self.timers.insert((again, id));
    }

    /// It is nobody's turn any more where it was this one's.
    fn pass(&mut self, entry: Seq) {
        for id in self.turns.remove(&entry).unwrap_or_default() {
            if let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.tried == entry) {
                slot.found = false;
                self.cold.insert(id);
            }
        }
    }

    /// Somebody waits, or waits again: where they were passed over, or nobody was found yet, they are looked at.
    fn consider(&mut self, entry: Seq) {
        let Some(waiter) = self.waiters.get(&entry) else { return };
        let slots = match &waiter.wish.scope {
            Scope::Centre(id) => self.centres.get(id),
            Scope::District(id) => self.districts.get(id),
        };
        for id in slots.into_iter().flatten() {
            let Some(slot) = self.slots.get_mut(id) else { continue };
            if !fits(waiter, *id, &slot.place) || slot.found && slot.tried <= entry {
                continue;
            }
            if slot.tried >= entry {
                // All before this one were looked at; those behind are once more, if it is not its turn.
                if std::mem::replace(&mut slot.found, false)
                    && let Some(slots) = self.turns.get_mut(&slot.tried)
                {
                    slots.remove(id);
                }
                slot.tried = Seq(entry.0 - 1);
            }
            self.cold.insert(*id);
        }
    }
}

/// What is asked of the entry alone.
fn fits(waiter: &Waiter, slot: SlotId, place: &Place) -> bool {
    let wish = &waiter.wish;
    waiter.standing == Standing::Waiting
        && (wish.first..=wish.last).contains(&place.day)
        && (wish.product.0 == 0 || wish.product == place.product)
        && !waiter.passed.contains(&slot)
}
