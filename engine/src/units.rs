//! Quantities: units of capacity and instants.

use std::time::Duration;

/// Units of a slot's capacity: how many parties it can serve. At most [`Units::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Units(u32);

impl Units {
    /// Twenty bits: three such counts and four flags fill one slot word.
    pub const MAX: Units = Units((1 << 20) - 1);
    /// No units.
    pub const ZERO: Units = Units(0);
    /// One unit: what one party claims.
    pub const ONE: Units = Units(1);

    /// `None` above [`Units::MAX`].
    #[must_use]
    pub const fn new(units: u32) -> Option<Units> {
        if units <= Units::MAX.0 { Some(Units(units)) } else { None }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for Units {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, without leap seconds (as Unix time counts).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampMs(pub u64);

impl TimestampMs {
    /// `duration` later; saturates at the end of time rather than wrapping to its beginning.
    #[must_use]
    pub fn plus(self, duration: Duration) -> TimestampMs {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        TimestampMs(self.0.saturating_add(ms))
    }
}
