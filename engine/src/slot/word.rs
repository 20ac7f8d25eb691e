//! THE capacity word: one `AtomicU64` per slot, and every way it may change.
//!
//! Bits 0..20 held, 20..40 booked, 40..60 capacity, 60 open, 61 published, 62 and 63 reserved ([`ReservedFor`]). Every transition
//! is one read-modify-write in this file; no other file compares or exchanges, and no lock guards a count.
//!
//! What concurrent callers may see: [`SlotWord::counts`] is one instant of one slot. Two slots read one
//! after the other may be of two instants. A refusal carries the counts that caused it.
//!
//! What a crash loses: nothing here is stored. Replay recounts the words from the journal.

use std::fmt;

use crate::planted;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::units::Units;

const HELD_SHIFT: u32 = 0;
const BOOKED_SHIFT: u32 = 20;
const CAPACITY_SHIFT: u32 = 40;
const COUNT_MASK: u64 = (1 << 20) - 1;
/// New claims may be taken.
const OPEN: u64 = 1 << 60;
/// The word has been published; before that every bit is zero.
const PUBLISHED: u64 = 1 << 61;

const _: () = assert!(COUNT_MASK == Units::MAX.get() as u64, "a count field is as wide as Units");

/// Why free units of a slot are taken by an offer only: a bit for each owner of a reason, who alone sets it and takes it away.
///
/// No journal has them. Whoever owns the reason sets the bit again after a start, before anybody may submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReservedFor {
    /// Those who wait for a freed unit.
    Waitlist = 62,
    /// Those whom a lottery draws.
    Lottery = 63,
}

impl ReservedFor {
    const fn bit(self) -> u64 {
        1 << self as u8
    }
}

const RESERVED: u64 = ReservedFor::Waitlist.bit() | ReservedFor::Lottery.bit();

/// A copy of a slot word: what one slot looked like at one instant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Counts(u64);

impl Counts {
    /// Units on sale.
    #[must_use]
    pub const fn capacity(self) -> Units {
        self.field(CAPACITY_SHIFT)
    }

    /// Units in live holds: they may come back.
    #[must_use]
    pub const fn held(self) -> Units {
        self.field(HELD_SHIFT)
    }

    /// Units in bookings.
    #[must_use]
    pub const fn booked(self) -> Units {
        self.field(BOOKED_SHIFT)
    }

    /// Units that nobody has. While the slot is reserved, only an offer takes them.
    #[must_use]
    pub const fn free(self) -> Units {
        let taken = self.held().get() + self.booked().get();
        match Units::new(self.capacity().get().saturating_sub(taken)) {
            Some(free) => free,
            None => Units::ZERO,
        }
    }

    /// Units that anybody may take: none of a reserved slot.
    #[must_use]
    pub const fn free_to_all(self) -> Units {
        if self.is_reserved() { Units::ZERO } else { self.free() }
    }

    /// Whether free units are taken by an offer only.
    #[must_use]
    pub const fn is_reserved(self) -> bool {
        self.0 & RESERVED != 0
    }

    /// Whether they are so for this reason.
    #[must_use]
    pub const fn is_reserved_for(self, owner: ReservedFor) -> bool {
        self.0 & owner.bit() != 0
    }

    /// Whether new claims may be taken.
    #[must_use]
    pub const fn is_open(self) -> bool {
        self.0 & OPEN != 0
    }

    const fn is_published(self) -> bool {
        self.0 & PUBLISHED != 0
    }

    const fn field(self, shift: u32) -> Units {
        match Units::new(((self.0 >> shift) & COUNT_MASK) as u32) {
            Some(units) => units,
            None => Units::MAX,
        }
    }

    const fn plus(self, shift: u32, units: Units) -> Counts {
        Counts(self.0 + ((units.get() as u64) << shift))
    }

    const fn minus(self, shift: u32, units: Units) -> Counts {
        Counts(self.0 - ((units.get() as u64) << shift))
    }

    const fn with_capacity(self, units: Units) -> Counts {
        Counts((self.0 & !(COUNT_MASK << CAPACITY_SHIFT)) | ((units.get() as u64) << CAPACITY_SHIFT))
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counts({self})")
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.is_open() { "open" } else { "closed" };
        let reserved = if self.is_reserved() { ", reserved" } else { "" };
        write!(f, "capacity {}, held {}, booked {}, {open}{reserved}", self.capacity(), self.held(), self.booked())
    }
}

/// What a take ([`SlotWord::hold`], [`SlotWord::book`]) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Take {
    /// Taken; the counts just after.
    Taken(Counts),
    /// Untouched: the slot takes no new claims. The counts at that instant.
    Closed(Counts),
    /// Untouched: the counts that left no room.
    Full(Counts),
    /// Untouched: there is room, and it is taken by an offer only. The counts at that instant.
    Reserved(Counts),
}

/// What a give or a change of units already taken did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Give {
    /// Done; the counts just after.
    Given(Counts),
    /// Untouched: the word had fewer such units than were to be given. The caller's records and the word
    /// disagree, which only a bug or a damaged journal can bring about.
    Missing(Counts),
}

/// What a [`SlotWord::resize`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Resize {
    /// Done; the counts just after.
    Resized(Counts),
    /// Untouched: held + booked exceed the capacity asked for.
    BelowTaken(Counts),
}

/// Who takes units.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Road {
    /// Of an open slot that is not reserved.
    Everybody,
    /// Of an open slot, reserved or not.
    Passed,
    /// Whatever the flags: it was decided before.
    Replay,
}

/// The counting truth of one slot.
// rule: CAP-1 held + booked never exceeds capacity
#[derive(Debug)]
pub struct SlotWord(AtomicU64);

impl Default for SlotWord {
    fn default() -> Self {
        Self::new()
    }
}

impl SlotWord {
    /// A word that is not published: no capacity, closed.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The counts at this instant; `None` before [`SlotWord::publish`].
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        // Acquire pairs with the release in `publish`: who sees the word published sees the slot's facts.
        let seen = Counts(self.0.load(Acquire));
        seen.is_published().then_some(seen)
    }

    /// Puts `capacity` units on sale, once. Returns false, untouched, if the word was published before.
    #[must_use]
    pub fn publish(&self, capacity: Units) -> bool {
        let next = Counts(PUBLISHED | OPEN).with_capacity(capacity);
        // AcqRel: Release publishes the slot's facts, written before this call, to whoever sees the word
        // published. Relaxed on failure: nothing is read then.
        self.0.compare_exchange(0, next.0, AcqRel, Relaxed).is_ok()
    }

    /// Free to held, all `units` or none.
    pub fn hold(&self, units: Units) -> Take {
        self.take(HELD_SHIFT, units, Road::Everybody)
    }

    /// Free to booked, all `units` or none.
    pub fn book(&self, units: Units) -> Take {
        self.take(BOOKED_SHIFT, units, Road::Everybody)
    }

    /// As [`SlotWord::hold`], of a reserved slot too: for whom it is reserved.
    pub fn hold_offered(&self, units: Units) -> Take {
        self.take(HELD_SHIFT, units, Road::Passed)
    }

    /// As [`SlotWord::book`], of a reserved slot too: for who stands at the door, and for the administration.
    pub fn book_passed(&self, units: Units) -> Take {
        self.take(BOOKED_SHIFT, units, Road::Passed)
    }

    /// As [`SlotWord::hold`], on a closed slot too: a claim that took its units before a close may have got
    /// its number after it, and replay does not decide again.
    pub(crate) fn replay_hold(&self, units: Units) -> Take {
        self.take(HELD_SHIFT, units, Road::Replay)
    }

    /// As [`SlotWord::book`], on a closed slot too.
    pub(crate) fn replay_book(&self, units: Units) -> Take {
        self.take(BOOKED_SHIFT, units, Road::Replay)
    }

    /// Held to booked.
    pub fn confirm(&self, units: Units) -> Give {
        self.give(HELD_SHIFT, units, |left| left.plus(BOOKED_SHIFT, units))
    }

    /// Held to free, because the holder gives it back.
    pub fn release(&self, units: Units) -> Give {
        self.give(HELD_SHIFT, units, |left| left)
    }

    /// Held to free, because the deadline passed.
    pub fn expire(&self, units: Units) -> Give {
        self.release(units)
    }

    /// Booked to free.
    pub fn cancel(&self, units: Units) -> Give {
        self.give(BOOKED_SHIFT, units, |left| left)
    }

    /// Changes what is on sale; refused below what is taken.
    pub fn resize(&self, capacity: Units) -> Resize {
        let mut seen = Counts(self.0.load(Relaxed));
        loop {
            if seen.held().get() + seen.booked().get() > capacity.get() {
                return Resize::BelowTaken(seen);
            }
            let next = seen.with_capacity(capacity);
            match self.exchange(seen, next) {
                Ok(()) => return Resize::Resized(next),
                Err(actual) => seen = actual,
            }
        }
    }

    /// Lets new claims in. Idempotent.
    pub fn open(&self) -> Counts {
        // AcqRel as in `exchange`: who takes after this sees what the opener wrote before it.
        Counts(self.0.fetch_or(OPEN, AcqRel) | OPEN)
    }

    /// Keeps new claims out. Idempotent. Units already taken may still be confirmed or given back.
    pub fn close(&self) -> Counts {
        Counts(self.0.fetch_and(!OPEN, AcqRel) & !OPEN)
    }

    /// Keeps free units for offers, for this reason. Idempotent. Units already taken stay taken.
    // rule: WTL-2 nobody passes those who wait
    pub fn reserve(&self, owner: ReservedFor) -> Counts {
        // AcqRel as in `open`.
        Counts(self.0.fetch_or(owner.bit(), AcqRel) | owner.bit())
    }

    /// Takes this reason away. Idempotent.
    pub fn unreserve(&self, owner: ReservedFor) -> Counts {
        Counts(self.0.fetch_and(!owner.bit(), AcqRel) & !owner.bit())
    }

    // rule: CAP-1 the capacity is read from the very word that is exchanged
    // rule: CAP-2 a refusal carries the counts it was true of
    fn take(&self, shift: u32, units: Units, road: Road) -> Take {
        let needed = if road == Road::Replay { PUBLISHED } else { OPEN };
        // Relaxed: a first guess. The compare-exchange below decides a take; a refusal was true of the word
        // at the instant of this load, which coherence puts no earlier than anything the caller has seen of it.
        let mut seen = Counts(self.0.load(Relaxed));
        loop {
            if seen.0 & needed == 0 {
                return Take::Closed(seen);
            }
            let oversells = planted!("skip_capacity_check") || (needed == PUBLISHED && replays_too_much());
            if seen.free() < units && !oversells {
                return Take::Full(seen);
            }
            if planted!("false_full") && needed == OPEN && seen.free().get() <= 2 {
                // The planted fault never sells the last two, and its counts lie as well.
                return Take::Full(seen.plus(HELD_SHIFT, seen.free()));
            }
            if road == Road::Everybody && seen.is_reserved() {
                return Take::Reserved(seen);
            }
            let next = seen.plus(shift, units);
            match self.exchange(seen, next) {
                Ok(()) => return Take::Taken(next),
                Err(actual) => seen = actual,
            }
        }
    }

    fn give(&self, shift: u32, units: Units, then: impl Fn(Counts) -> Counts) -> Give {
        let mut seen = Counts(self.0.load(Relaxed));
        loop {
            if seen.field(shift) < units {
                return Give::Missing(seen);
            }
            let next = then(seen.minus(shift, units));
            match self.exchange(seen, next) {
                Ok(()) => return Give::Given(next),
                Err(actual) => seen = actual,
            }
        }
    }

    fn exchange(&self, seen: Counts, next: Counts) -> Result<(), Counts> {
        // AcqRel: Release in a give publishes the giver's journal entry, appended before it, to the next taker,
        // whose Acquire here makes its own entry come later in the journal (JNL-1).
        // Relaxed on failure: `actual` is only the next guess.
        match self.0.compare_exchange_weak(seen.0, next.0, AcqRel, Relaxed) {
            Ok(_) => Ok(()),
            Err(actual) => Err(Counts(actual)),
        }
    }
}

/// Where a planted fault leaves a log over capacity, it is read all the same, so that others can find what is wrong with it.
fn replays_too_much() -> bool {
    planted!("unwritten_expiry") || planted!("give_twice")
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn units(n: u32) -> Units {
        Units::new(n).unwrap()
    }

    fn word(capacity: u32) -> SlotWord {
        let word = SlotWord::new();
        assert!(word.publish(units(capacity)));
        word
    }

    fn of(counts: Counts) -> (u32, u32, u32) {
        (counts.capacity().get(), counts.held().get(), counts.booked().get())
    }

    // rule: CAP-1
    #[test]
    fn last_unit_is_sold_once() {
        let word = word(1);
        assert!(matches!(word.hold(Units::ONE), Take::Taken(_)));
        let Take::Full(counts) = word.hold(Units::ONE) else { panic!("sold twice") };
        assert_eq!(of(counts), (1, 1, 0));
        assert!(matches!(word.confirm(Units::ONE), Give::Given(_)));
        assert!(matches!(word.book(Units::ONE), Take::Full(_)));
        assert!(matches!(word.cancel(Units::ONE), Give::Given(_)));
        assert!(matches!(word.book(Units::ONE), Take::Taken(_)));
    }

    #[test]
    fn a_group_takes_all_or_none() {
        let word = word(3);
        assert!(matches!(word.hold(units(2)), Take::Taken(_)));
        let Take::Full(counts) = word.hold(units(2)) else { panic!("took half a group") };
        assert_eq!(of(counts), (3, 2, 0));
        assert!(matches!(word.hold(units(1)), Take::Taken(_)));
    }

    /// Every road but everybody's own passes the flag, and what there is no room for is full on each.
    // rule: CAP-2
    // rule: WTL-2
    #[test]
    fn reserved_is_told_from_full_and_only_an_offer_or_the_door_takes() {
        let word = word(3);
        for owner in [ReservedFor::Waitlist, ReservedFor::Lottery] {
            assert!(word.reserve(owner).is_reserved_for(owner));
        }
        let Take::Reserved(counts) = word.hold(units(3)) else { panic!("passed those who wait") };
        assert_eq!((counts.free(), counts.free_to_all(), of(counts)), (units(3), Units::ZERO, (3, 0, 0)));
        assert!(matches!(word.book(Units::ONE), Take::Reserved(_)));
        assert!(matches!(word.hold(units(4)), Take::Full(_)), "there is no room, reserved or not");
        assert!(matches!(word.hold_offered(Units::ONE), Take::Taken(_)));
        assert!(matches!(word.book_passed(Units::ONE), Take::Taken(_)));
        assert!(matches!(word.replay_book(Units::ONE), Take::Taken(_)));
        assert!(matches!(word.hold_offered(Units::ONE), Take::Full(_)));
        assert!(matches!(word.release(Units::ONE), Give::Given(_)));
        assert!(word.unreserve(ReservedFor::Waitlist).is_reserved(), "the other reason stands");
        assert!(matches!(word.hold(Units::ONE), Take::Reserved(_)));
        let _ = word.close();
        assert!(matches!(word.hold_offered(Units::ONE), Take::Closed(_)), "nothing is offered of a closed slot");
        let _ = word.open();
        assert!(!word.unreserve(ReservedFor::Lottery).is_reserved());
        assert!(matches!(word.hold(Units::ONE), Take::Taken(_)));
    }

    // rule: CAP-2
    #[test]
    fn closed_is_told_from_full() {
        let word = word(1);
        let _ = word.close();
        assert!(matches!(word.hold(Units::ONE), Take::Closed(_)));
        let _ = word.open();
        assert!(matches!(word.hold(Units::ONE), Take::Taken(_)));
        let Take::Full(counts) = word.hold(Units::ONE) else { panic!("not full") };
        assert_eq!(counts.held(), Units::ONE, "a full answer shows the holds that may return");
    }

    #[test]
    fn an_unpublished_word_takes_nothing_and_publishes_once() {
        let word = SlotWord::new();
        assert_eq!(word.counts(), None);
        assert!(matches!(word.hold(Units::ONE), Take::Closed(_)));
        assert!(word.publish(Units::MAX));
        assert!(!word.publish(Units::ONE));
        assert_eq!(word.counts().map(of), Some((Units::MAX.get(), 0, 0)));
    }

    #[test]
    fn giving_what_is_not_there_changes_nothing() {
        let word = word(5);
        assert!(matches!(word.release(Units::ONE), Give::Missing(_)));
        assert!(matches!(word.confirm(Units::ONE), Give::Missing(_)));
        assert!(matches!(word.cancel(Units::ONE), Give::Missing(_)));
        assert_eq!(word.counts().map(of), Some((5, 0, 0)));
    }

    proptest! {
        /// Every sequence of transitions equals three plain integers, at the edges of the fields too.
        // rule: CAP-1
        #[test]
        fn a_word_equals_plain_integers(
            capacity in prop_oneof![0u32..8, Just(Units::MAX.get()), Just(Units::MAX.get() - 1)],
            steps in prop::collection::vec((0u8..11, prop_oneof![0u32..5, Just(Units::MAX.get())]), 0..40),
        ) {
            let word = word(capacity);
            let (mut c, mut h, mut b, mut open, mut reserved) = (capacity, 0u32, 0u32, true, false);
            for (step, n) in steps {
                let u = units(n);
                match step {
                    0 | 1 => {
                        let took = if step == 0 { word.hold(u) } else { word.book(u) };
                        match took {
                            Take::Taken(_) => {
                                prop_assert!(open && !reserved && c - h - b >= n);
                                if step == 0 { h += n } else { b += n }
                            }
                            Take::Reserved(_) => prop_assert!(open && reserved && c - h - b >= n),
                            Take::Full(_) => prop_assert!(open && c - h - b < n),
                            Take::Closed(_) => prop_assert!(!open),
                        }
                    }
                    2 => if let Give::Given(_) = word.confirm(u) { h -= n; b += n } else { prop_assert!(h < n) },
                    3 => if let Give::Given(_) = word.release(u) { h -= n } else { prop_assert!(h < n) },
                    4 => if let Give::Given(_) = word.cancel(u) { b -= n } else { prop_assert!(b < n) },
                    5 => if let Resize::Resized(_) = word.resize(u) { c = n } else { prop_assert!(h + b > n) },
                    6 => { open = true; let _ = word.open(); }
                    8 => { reserved = true; let _ = word.reserve(ReservedFor::Lottery); }
                    9 => { reserved = false; let _ = word.unreserve(ReservedFor::Lottery); }
                    10 => if let Take::Taken(_) = word.hold_offered(u) { h += n } else { prop_assert!(!open || c - h - b < n) },
                    _ => { open = false; let _ = word.close(); }
                }
                prop_assert!(h + b <= c);
                let counts = word.counts().unwrap();
                prop_assert_eq!(of(counts), (c, h, b));
                prop_assert_eq!((counts.is_open(), counts.is_reserved()), (open, reserved));
                prop_assert_eq!(counts.free().get(), c - h - b);
            }
        }
    }
}
