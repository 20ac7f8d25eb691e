//! What the catalogue is made of. All of it immutable once shared, but for the sessions of a centre.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use berth_engine::{PoolId, ProductId, SlotId, TimestampMs};
use jiff::civil::Date;

use crate::position::Position;

/// Dense number of a centre in the order of publishing; the engine places slots by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CentreIndex(pub(crate) u32);

impl CentreIndex {
    pub(crate) fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// The level of a region. Ids are unique within a level: India numbers its states and its districts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegionKind {
    /// The upper level.
    State,
    /// The level centres belong to.
    District,
}

impl fmt::Display for RegionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RegionKind::State => "state",
            RegionKind::District => "district",
        })
    }
}

/// A state or a district.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Unique among regions of its kind.
    pub id: Arc<str>,
    /// Its level.
    pub kind: RegionKind,
    /// What people call it.
    pub name: Box<str>,
    /// The state of a district.
    pub parent: Option<Box<str>>,
}

/// A place with sessions.
#[derive(Clone, Debug)]
pub struct Centre {
    /// Unique.
    pub id: Arc<str>,
    /// What people call it.
    pub name: Box<str>,
    /// The id of its district.
    pub district: Arc<str>,
    /// Its postal code.
    pub pincode: Arc<str>,
    /// Where it is, for people.
    pub address: Option<Box<str>>,
    /// Where it is, for searches around a point.
    pub position: Option<Position>,
    /// Where it is rung up.
    pub phone: Option<Box<str>>,
    /// Its page.
    pub url: Option<Box<str>>,
    /// By date, then in the order of publishing.
    pub(super) sessions: Vec<Arc<Session>>,
    /// What there is of them by date, ascending: so that nobody who only counts, or looks for a date, goes to each session.
    pub(super) days: Vec<Day>,
}

/// Of a date that a centre has sessions on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Day {
    date: Date,
    /// On this date and all before it.
    sessions: u32,
    slots: u32,
}

/// How much there is to tell of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Sessions.
    pub sessions: usize,
    /// Their slots.
    pub slots: usize,
}

impl std::ops::AddAssign for Offered {
    fn add_assign(&mut self, more: Offered) {
        self.sessions += more.sessions;
        self.slots += more.slots;
    }
}

impl std::ops::Sub for Offered {
    type Output = Offered;

    fn sub(self, less: Offered) -> Offered {
        Offered { sessions: self.sessions.saturating_sub(less.sessions), slots: self.slots.saturating_sub(less.slots) }
    }
}

impl Centre {
    /// Its sessions, ascending by date; of one date in the order of publishing.
    #[must_use]
    pub fn sessions(&self) -> &[Arc<Session>] {
        &self.sessions
    }

    /// Its sessions from `first` on and before `end`.
    #[must_use]
    pub fn sessions_between(&self, first: Date, end: Date) -> &[Arc<Session>] {
        self.sessions.get(self.before(first).sessions..self.before(end).sessions).unwrap_or(&[])
    }

    /// How much it offers from `first` on and before `end`; none of it is looked at.
    #[must_use]
    pub fn offered(&self, first: Date, end: Date) -> Offered {
        self.before(end) - self.before(first)
    }

    /// The same date by date, of those that have anything.
    pub fn offered_by_date(&self, first: Date, end: Date) -> impl Iterator<Item = (Date, Offered)> {
        let place = |date: Date| self.days.partition_point(|day| day.date < date);
        let (from, to) = (place(first), place(end));
        let mut before = self.before(first);
        self.days.get(from..to).unwrap_or(&[]).iter().map(move |day| {
            let of_day = day.so_far() - before;
            before = day.so_far();
            (day.date, of_day)
        })
    }

    fn before(&self, date: Date) -> Offered {
        let days = self.days.partition_point(|day| day.date < date);
        days.checked_sub(1).and_then(|last| self.days.get(last)).map_or_else(Offered::default, Day::so_far)
    }

    /// More sessions.
    pub(super) fn add(&mut self, sessions: Vec<Arc<Session>>) {
        self.sessions.extend(sessions);
        // Stable, so sessions of one date stay in the order of publishing.
        self.sessions.sort_by_key(|s| s.date);
        self.days.clear();
        let mut so_far = Day { date: Date::MIN, sessions: 0, slots: 0 };
        for session in &self.sessions {
            let slots = u32::try_from(session.slots.len()).expect("a session has at most 1000 slots");
            so_far = Day { date: session.date, sessions: so_far.sessions + 1, slots: so_far.slots + slots };
            match self.days.last_mut().filter(|day| day.date == session.date) {
                Some(day) => *day = so_far,
                None => self.days.push(so_far),
            }
        }
    }
}

/// What a centre offers of one product on one date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Unique.
    pub id: Arc<str>,
    /// The id of its centre.
    pub centre: Arc<str>,
    /// Civil date in the programme's zone.
    pub date: Date,
    /// What is given.
    pub product: ProductId,
    /// Who it is for.
    pub ages: Ages,
    /// What it costs, in the smallest unit of the programme's currency; `None`: nothing.
    pub fee: Option<NonZeroU64>,
    /// Its windows, in the order of its line.
    pub windows: Box<[Window]>,
    /// Its slots, window by window.
    pub slots: Box<[SlotRef]>,
}

/// An age band in whole years, both ends in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// The youngest; `None`: anybody.
    pub min: Option<u8>,
    /// The oldest; `None`: anybody.
    pub max: Option<u8>,
}

impl Ages {
    /// Whether somebody of this age is in it.
    #[must_use]
    pub fn fit(self, age: u8) -> bool {
        self.min.is_none_or(|min| min <= age) && self.max.is_none_or(|max| age <= max)
    }
}

impl Day {
    fn so_far(&self) -> Offered {
        Offered { sessions: self.sessions as usize, slots: self.slots as usize }
    }
}

/// A span of time in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it opens.
    pub start: TimestampMs,
    /// When it closes.
    pub end: TimestampMs,
    /// Which of the session's slots lie in it.
    pub slots: Range<u16>,
}

/// One window x pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRef {
    /// Its number in the engine.
    pub slot: SlotId,
    /// Who it is for.
    pub pool: PoolId,
}

impl Session {
    /// The slots of one window of this session.
    #[must_use]
    pub fn slots_of(&self, window: &Window) -> &[SlotRef] {
        self.slots.get(usize::from(window.slots.start)..usize::from(window.slots.end)).unwrap_or(&[])
    }
}

/// A slot in its session.
#[derive(Clone, Debug)]
pub struct SlotPlace {
    /// The session it is of.
    pub session: Arc<Session>,
    /// Who it is for.
    pub pool: PoolId,
    /// When its window opens.
    pub start: TimestampMs,
    /// When its window closes.
    pub end: TimestampMs,
}

impl SlotPlace {
    pub(super) fn new(session: Arc<Session>, slot: SlotId) -> Option<SlotPlace> {
        let index = session.slots.iter().position(|s| s.slot == slot)?;
        let pool = session.slots.get(index)?.pool;
        let window = session.windows.iter().find(|w| w.slots.contains(&u16::try_from(index).unwrap_or(u16::MAX)))?;
        let (start, end) = (window.start, window.end);
        Some(SlotPlace { session, pool, start, end })
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;

    fn session(date: Date, slots: u32) -> Arc<Session> {
        let slots: Vec<SlotRef> = (0..slots).map(|slot| SlotRef { slot: SlotId(slot), pool: PoolId(0) }).collect();
        let (id, ages) = (Arc::from("s"), Ages::default());
        let (centre, windows) = (Arc::from("c"), Box::default());
        Arc::new(Session { id, centre, date, product: ProductId(0), ages, fee: None, windows, slots: slots.into() })
    }

    proptest! {
        /// What is counted by date is what a look at every session comes to, however they came.
        #[test]
        fn what_a_centre_offers_is_counted_without_a_look(
            published in proptest::collection::vec(proptest::collection::vec((0i32..12, 1u32..5), 0..6), 0..6),
            (first, end) in (0i32..14, 0i32..14),
        ) {
            let (id, district, pincode) = (Arc::from("c"), Arc::from("d"), Arc::from("p"));
            let mut centre = Centre {
                id, name: "C".into(), district, pincode, address: None, position: None, phone: None, url: None,
                sessions: Vec::new(), days: Vec::new(),
            };
            let date = |day: i32| Date::constant(2026, 11, 24).saturating_add(day.days());
            for sessions in &published {
                centre.add(sessions.iter().map(|(day, slots)| session(date(*day), *slots)).collect());
            }
            let (first, end) = (date(first), date(end));
            let all: Vec<_> = centre.sessions().iter().filter(|s| s.date >= first && s.date < end).collect();
            let between = centre.sessions_between(first, end);
            prop_assert!(between.iter().eq(all.iter().copied()));
            let of = |sessions: &[&Arc<Session>]| Offered {
                sessions: sessions.len(),
                slots: sessions.iter().map(|session| session.slots.len()).sum(),
            };
            prop_assert_eq!(centre.offered(first, end), of(&all));
            let mut dates: Vec<Date> = all.iter().map(|session| session.date).collect();
            dates.dedup();
            let by_date: Vec<_> = dates.into_iter().map(|date| {
                let of_date: Vec<_> = all.iter().copied().filter(|session| session.date == date).collect();
                (date, of(&of_date))
            }).collect();
            prop_assert_eq!(centre.offered_by_date(first, end).collect::<Vec<_>>(), by_date);
        }
    }
}
