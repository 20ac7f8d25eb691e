//! The grace that live holds get after an outage: nobody could confirm while the server was away.

use std::time::Duration;

use super::Context;
use crate::engine::Engine;
use crate::journal::entry::{Event, SMALL_ENTRY_BYTES_MAX};
use crate::units::TimestampMs;

impl Engine {
    /// Puts off every deadline that lay ahead when the journal ended and that is nearer than `grace`: to `grace` from now, by
    /// one entry. Returns how many holds that were. Called once, when the tables are replayed and nobody submits yet.
    ///
    /// A deadline that had passed by the newest entry stays: its hold had run out before the outage. Without room for the
    /// entry nothing is put off. A crash before the entry is durable loses the grace, and the next start gives another.
    // rule: HLD-5 an outage takes no time from a live hold: its deadline is put off by one entry, and never brought forward
    pub(crate) fn grace_holds(&self, newest: TimestampMs, grace: Duration) -> u64 {
        let now = self.now();
        let (from, until) = (newest.plus(Duration::from_millis(1)), now.plus(grace));
        if grace.is_zero() || from >= until {
            return 0;
        }
        let wheel = &self.inventory.wheel;
        let holds = wheel.take_between(from, until);
        let room = if holds.is_empty() { None } else { self.buffer.reserve(SMALL_ENTRY_BYTES_MAX) };
        let Some(room) = room else {
            holds.iter().for_each(|(hold, deadline)| wheel.add(*hold, *deadline));
            return 0;
        };
        let context = Context { room, key: None, idempotency: None, now };
        let seq = context.append(Event::HoldsGraced { from, until }).seq;
        for (hold, _) in &holds {
            self.inventory.record_grace(*hold, until, seq);
            wheel.add(*hold, until);
        }
        holds.len() as u64
    }
}
