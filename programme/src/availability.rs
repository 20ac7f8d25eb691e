//! Searching: which slots of which centres, and what is free in them.
//!
//! The result is flat, three lists that refer to one another by ranges, because searches are most of all
//! requests: a district of a hundred centres costs a handful of allocations. Sessions without a slot that was
//! asked for, and centres without such a session, are left out.

use std::ops::Range;
use std::sync::Arc;

use berth_engine::{Counts, PoolId, ProductId, SlotId, TimestampMs};
use jiff::ToSpan;
use jiff::civil::Date;

use crate::catalogue::{Catalogue, Centre, Session, SlotRef, Window};

/// Where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// Every centre of a district.
    District(&'a str),
    /// Every centre of a postal code.
    Pincode(&'a str),
    /// One centre.
    Centre(&'a str),
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
    /// Only this product.
    pub product: Option<ProductId>,
    /// Only this pool.
    pub pool: Option<PoolId>,
    /// Only slots with free units that can be booked now.
    pub only_free: bool,
}

/// What was found. The counts of one slot are of one instant, two slots may be of two.
#[derive(Clone, Debug, Default)]
pub struct Availability {
    centres: Vec<CentreOffer>,
    sessions: Vec<SessionOffer>,
    slots: Vec<SlotOffer>,
}

/// A centre with something on offer.
#[derive(Clone, Debug)]
pub struct CentreOffer {
    /// The centre.
    pub centre: Arc<Centre>,
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
    /// The centres, in the order of publishing.
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

    /// The slots of a session, window by window.
    #[must_use]
    pub fn slots(&self, session: &SessionOffer) -> &[SlotOffer] {
        self.slots.get(session.slots.clone()).unwrap_or(&[])
    }
}

impl Catalogue {
    /// Searches. `None` if there is no such district or centre; a postal code without centres finds nothing.
    ///
    /// `in_time` is asked once per window whether what starts then can be booked now. `counts` is asked once per
    /// slot, without any lock held; a slot it does not know is left out.
    pub fn availability(
        &self,
        query: &Query<'_>,
        in_time: impl Fn(TimestampMs) -> bool,
        counts: impl Fn(SlotId) -> Option<Counts>,
    ) -> Option<Availability> {
        let centres = match query.place {
            Place::District(id) => self.centres_of_district(id)?,
            Place::Pincode(pincode) => self.centres_of_pincode(pincode),
            Place::Centre(id) => vec![self.centre(id)?],
        };
        let end = query.from.saturating_add(i32::from(query.days).days());
        let mut found = Availability::default();
        for centre in centres {
            let first = found.sessions.len();
            for session in centre.sessions_between(query.from, end) {
                if query.product.is_none_or(|product| product == session.product) {
                    found.offer(session, query, &in_time, &counts);
                }
            }
            if found.sessions.len() > first {
                let sessions = first..found.sessions.len();
                found.centres.push(CentreOffer { centre, sessions });
            }
        }
        Some(found)
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
                if query.pool.is_some_and(|pool| pool != slot.pool) {
                    continue;
                }
                let Some(counts) = counts(slot.slot) else { continue };
                if query.only_free && !(counts.is_open() && counts.free().get() > 0) {
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
