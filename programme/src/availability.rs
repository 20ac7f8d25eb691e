//! Searching: which slots of which centres, and what is free in them.
//!
//! The result is flat, three lists that refer to one another by ranges, because searches are most of all
//! requests: a district of a hundred centres costs a handful of allocations. Sessions without a slot that was
//! asked for, and centres without such a session, are left out.
//!
//! A search stops after so many centres or slots, or once it has looked at very many, and says where to go on ([`Cursor`]): centres
//! have an order, and one that is there keeps its place in it. What is published meanwhile comes last, but for searches around a
//! point.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use berth_engine::{Counts, PoolId, SlotId, TimestampMs};
use jiff::ToSpan;
use jiff::civil::Date;

use crate::catalogue::{Catalogue, Centre, CentreIndex, Session, SlotRef, Window};
use crate::position::Position;

/// Where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// Every centre of these districts.
    Districts(&'a [String]),
    /// Every centre of these postal codes.
    Pincodes(&'a [String]),
    /// These centres.
    Centres(&'a [String]),
    /// Every centre around a point, nearest first.
    Near(Position, u32),
}

/// What a search names that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No district of this id.
    District(String),
    /// No centre of this id.
    Centre(String),
}

/// Some of the numbers of products, or of pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberSet([u64; 4]);

impl NumberSet {
    /// Every number.
    pub const ALL: NumberSet = NumberSet([u64::MAX; 4]);

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, number: u8) -> bool {
        self.0.get(usize::from(number / 64)).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

impl FromIterator<u8> for NumberSet {
    fn from_iter<I: IntoIterator<Item = u8>>(numbers: I) -> NumberSet {
        let mut set = [0; 4];
        for number in numbers {
            if let Some(word) = set.get_mut(usize::from(number / 64)) {
                *word |= 1 << (number % 64);
            }
        }
        NumberSet(set)
    }
}

/// Pools that serve whoever searches only from a time before the start of a slot on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spilled<'a> {
    /// As [`crate::Programme::spills_to_dose`] has them.
    pub pools: &'a [(PoolId, u64)],
    /// When it is looked.
    pub now: TimestampMs,
}

impl Spilled<'_> {
    fn has(&self, pool: PoolId, starts_at: TimestampMs) -> bool {
        let spilled = |before_ms: u64| self.now.0 >= starts_at.0.saturating_sub(before_ms);
        self.pools.iter().any(|&(of, before_ms)| of == pool && spilled(before_ms))
    }
}

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Where.
    pub place: Place<'a>,
    /// The first date.
    pub from: Date,
    /// How many dates.
    pub days: u16,
    /// Only these products.
    pub products: NumberSet,
    /// Only these pools.
    pub pools: NumberSet,
    /// And these, where they have spilled.
    pub spilled: Spilled<'a>,
    /// Only sessions for somebody of this age.
    pub age: Option<u8>,
    /// Only sessions that are free of charge, or only those that are not.
    pub free_of_charge: Option<bool>,
    /// Only slots with free units that can be booked now.
    pub only_free: bool,
    /// At most so many centres.
    pub centres_max: usize,
    /// It ends after the centre with which it has so many slots.
    pub slots_max: usize,
    /// It ends after the centre with which it has looked at so many slots and sessions, found or not.
    pub looked_max: usize,
    /// Only what comes behind this.
    pub after: Option<Cursor>,
}

impl<'a> Query<'a> {
    /// Everything of a place.
    #[must_use]
    pub fn all(place: Place<'a>, from: Date, days: u16) -> Query<'a> {
        Query {
            place,
            from,
            days,
            products: NumberSet::ALL,
            pools: NumberSet::ALL,
            spilled: Spilled::default(),
            age: None,
            free_of_charge: None,
            only_free: false,
            centres_max: usize::MAX,
            slots_max: usize::MAX,
            looked_max: usize::MAX,
            after: None,
        }
    }

    fn wants_pool(&self, pool: PoolId, starts_at: TimestampMs) -> bool {
        self.pools.contains(pool.0) || self.spilled.has(pool, starts_at)
    }

    fn wants(&self, session: &Session) -> bool {
        self.products.contains(session.product.0)
            && self.age.is_none_or(|age| session.ages.fit(age))
            && self.free_of_charge.is_none_or(|free| free == session.fee.is_none())
    }
}

/// Behind which centre a search goes on. As text it is opaque: where it stood is nobody's business but ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// 0 unless the search is one around a point.
    distance_m: u32,
    centre: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.distance_m, self.centre)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Cursor, ()> {
        let (distance, centre) = text.split_once('-').ok_or(())?;
        let number = |text: &str| u32::from_str_radix(text, 16).map_err(|_| ());
        let cursor = Cursor { distance_m: number(distance)?, centre: number(centre)? };
        // One cursor has one spelling.
        if cursor.to_string() == text { Ok(cursor) } else { Err(()) }
    }
}

/// What was found. The counts of one slot are of one instant, two slots may be of two.
#[derive(Clone, Debug, Default)]
pub struct Availability {
    centres: Vec<CentreOffer>,
    sessions: Vec<SessionOffer>,
    slots: Vec<SlotOffer>,
    next: Option<Cursor>,
    looked: usize,
}

/// A centre with something on offer.
#[derive(Clone, Debug)]
pub struct CentreOffer {
    /// The centre.
    pub centre: Arc<Centre>,
    /// How far it is from the point that was asked for.
    pub distance_m: Option<u32>,
    sessions: Range<usize>,
}

/// A session with something on offer.
#[derive(Clone, Debug)]
pub struct SessionOffer {
    /// The session.
    pub session: Arc<Session>,
    slots: Range<usize>,
}

/// A slot with its counts.
#[derive(Clone, Copy, Debug)]
pub struct SlotOffer {
    /// Its number and pool.
    pub slot: SlotRef,
    /// Index of its window in its session.
    pub window: usize,
    /// Its counts, at one instant of the search.
    pub counts: Counts,
    /// Whether it can be booked now, as far as time goes.
    pub in_time: bool,
}

impl SlotOffer {
    /// When it is.
    #[must_use]
    pub fn window_of<'s>(&self, session: &'s Session) -> Option<&'s Window> {
        session.windows.get(self.window)
    }
}

impl Availability {
    /// The centres: around a point nearest first, else in the order of publishing.
    #[must_use]
    pub fn centres(&self) -> &[CentreOffer] {
        &self.centres
    }

    /// The sessions of a centre, by date.
    #[must_use]
    pub fn sessions(&self, centre: &CentreOffer) -> &[SessionOffer] {
        self.sessions.get(centre.sessions.clone()).unwrap_or(&[])
    }

    /// Every slot found, in the order of centres, sessions and windows.
    pub fn all_slots(&self) -> impl Iterator<Item = &SlotOffer> {
        self.slots.iter()
    }

    /// How many slots were found.
    #[must_use]
    pub fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// The slots of a session, window by window.
    #[must_use]
    pub fn slots(&self, session: &SessionOffer) -> &[SlotOffer] {
        self.slots.get(session.slots.clone()).unwrap_or(&[])
    }

    /// Where to go on, if there is more.
    #[must_use]
    pub fn next(&self) -> Option<Cursor> {
        self.next
    }
}

/// A centre to look through, and where it stands in the order of the search.
pub(crate) struct Candidate {
    pub(crate) index: CentreIndex,
    pub(crate) distance_m: Option<u32>,
    pub(crate) centre: Arc<Centre>,
}

impl Candidate {
    fn cursor(&self) -> Cursor {
        Cursor { distance_m: self.distance_m.unwrap_or(0), centre: self.index.0 }
    }
}

impl Catalogue {
    /// Searches. Postal codes without centres find nothing.
    ///
    /// `in_time` is asked once per window whether what starts then can be booked now. `counts` is asked once per
    /// slot, without any lock held; a slot it does not know is left out.
    ///
    /// # Errors
    /// The first thing the query names that is not there.
    pub fn availability(
        &self,
        query: &Query<'_>,
        in_time: impl Fn(TimestampMs) -> bool,
        counts: impl Fn(SlotId) -> Option<Counts>,
    ) -> Result<Availability, Unknown> {
        let candidates = self.candidates(&query.place)?;
        let end = query.from.saturating_add(i32::from(query.days).days());
        let mut found = Availability::default();
        let mut last = None;
        for candidate in candidates {
            let cursor = candidate.cursor();
            if query.after.is_some_and(|after| cursor <= after) {
                continue;
            }
            if found.looked >= query.looked_max {
                found.next = last;
                break;
            }
            let full = found.centres.len() >= query.centres_max || found.slots.len() >= query.slots_max;
            let first = found.sessions.len();
            for session in candidate.centre.sessions_between(query.from, end) {
                found.looked += 1;
                if query.wants(session) {
                    found.looked += session.slots.len();
                    found.offer(session, query, &in_time, &counts);
                }
            }
            if found.sessions.len() == first {
                if !full {
                    last = Some(cursor);
                }
                continue;
            }
            if full {
                // Only now is it known that there is more.
                found.slots.truncate(found.sessions.get(first).map_or(0, |s| s.slots.start));
                found.sessions.truncate(first);
                found.next = last;
                break;
            }
            let sessions = first..found.sessions.len();
            found.centres.push(CentreOffer { centre: candidate.centre, distance_m: candidate.distance_m, sessions });
            last = Some(cursor);
        }
        Ok(found)
    }
}

impl Availability {
    fn offer(
        &mut self,
        session: &Arc<Session>,
        query: &Query<'_>,
        in_time: &impl Fn(TimestampMs) -> bool,
        counts: &impl Fn(SlotId) -> Option<Counts>,
    ) {
        let first = self.slots.len();
        for (window, span) in session.windows.iter().enumerate() {
            let in_time = in_time(span.start);
            if query.only_free && !in_time {
                continue;
            }
            for &slot in session.slots_of(span) {
                if !query.wants_pool(slot.pool, span.start) {
                    continue;
                }
                let Some(counts) = counts(slot.slot) else { continue };
                if query.only_free && !(counts.is_open() && counts.free_to_all().get() > 0) {
                    continue;
                }
                self.slots.push(SlotOffer { slot, window, counts, in_time });
            }
        }
        if self.slots.len() > first {
            let slots = first..self.slots.len();
            self.sessions.push(SessionOffer { session: Arc::clone(session), slots });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_one_spelling() {
        let cursor = Cursor { distance_m: 1_200, centre: 70_000 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "-", "1", "1-", "01-1", "+1-1", "A-1", "1-1-1", "100000000-1", "1- 1"] {
            assert_eq!(bad.parse::<Cursor>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn a_set_has_its_numbers_and_no_others() {
        let set: NumberSet = [1, 63, 64, 255].into_iter().collect();
        let has: Vec<u8> = (0..=255).filter(|&number| set.contains(number)).collect();
        assert_eq!(has, [1, 63, 64, 255]);
        assert!((0..=255).all(|number| NumberSet::ALL.contains(number)));
    }
}
