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
        let from = self.sessions.partition_point(|s| s.date < first);
        let to = self.sessions.partition_point(|s| s.date < end);
        self.sessions.get(from..to).unwrap_or(&[])
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
