//! What the server says over HTTP, as far as the harness reads it. The contract is `docs/http-api.md`.
//!
//! Unknown fields are ignored here on purpose: a server may say more than this harness needs.

use serde::{Deserialize, Serialize};

use crate::history::{Claim, Shown, Told};

/// The body of `POST /v1/holds` and `POST /v1/bookings`.
#[derive(Debug, Serialize)]
pub(crate) struct ClaimsAsked<'a> {
    pub(crate) claims: &'a [Claim],
}

/// Any answer that names a hold, bookings or one booking.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    pub(crate) hold: Option<String>,
    pub(crate) expires_at: Option<String>,
    claims: Vec<Told>,
    bookings: Vec<Told>,
    booking: Option<String>,
    party: Option<String>,
    slot: Option<String>,
    dose: Option<u8>,
    state: Option<String>,
}

impl Answer {
    /// Every booking the answer names, whichever shape it has.
    pub(crate) fn told(self) -> Vec<Told> {
        let mut told = if self.claims.is_empty() { self.bookings } else { self.claims };
        if let (Some(booking), Some(party), Some(slot), Some(dose)) = (self.booking, self.party, self.slot, self.dose) {
            told.push(Told { booking, party, slot, dose, state: self.state });
        }
        told
    }

    pub(crate) fn expires_us(&self) -> Option<i64> {
        timestamp_us(self.expires_at.as_deref()?)
    }
}

/// An RFC 3339 time as microseconds since 1970.
pub(crate) fn timestamp_us(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}

/// A refusal (RFC 9457).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) code: Option<String>,
    pub(crate) detail: Option<String>,
    /// Why there was no room, where the server says so: then nothing was done.
    pub(crate) reason: Option<String>,
    capacity: Option<u64>,
    held: Option<u64>,
    booked: Option<u64>,
}

impl Problem {
    pub(crate) fn counts(&self) -> Option<[u64; 3]> {
        Some([self.capacity?, self.held?, self.booked?])
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Availability {
    #[serde(default)]
    as_of: Option<String>,
    pub(crate) centres: Vec<CentreSeen>,
}

impl Availability {
    /// What the history keeps of it: not the whole, where it is long.
    pub(crate) fn shown(self) -> Option<Shown> {
        const SLOTS_MAX: usize = 50;
        let as_of_us = timestamp_us(self.as_of.as_deref()?)?;
        let sessions = self.centres.into_iter().flat_map(|centre| centre.sessions);
        let slots = sessions.flat_map(|session| session.slots).take(SLOTS_MAX);
        Some(Shown { as_of_us, free: slots.map(|slot| (slot.slot, slot.free)).collect() })
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct CentreSeen {
    pub(crate) sessions: Vec<SessionSeen>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SessionSeen {
    pub(crate) slots: Vec<SlotSeen>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SlotSeen {
    pub(crate) slot: String,
    pub(crate) pool: String,
    pub(crate) free: u64,
    /// `free`, or why it cannot be had. A server that does not say so means the count alone.
    #[serde(default)]
    pub(crate) status: Option<String>,
}

/// A booking as a platform reads it, as far as somebody at the door needs it. Never recorded.
#[derive(Debug, Deserialize)]
pub(crate) struct AtTheDoor {
    pub(crate) check_in_code: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PartiesMade {
    pub(crate) first: String,
    pub(crate) count: u64,
}

/// What the server says it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Version {
    pub(crate) version: String,
    pub(crate) fault: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_search_showed_is_kept_with_its_instant() {
        let seen: Availability = serde_json::from_str(
            r#"{"as_of":"2026-11-23T16:00:00.5+05:30","centres":[{"sessions":[{"slots":[{"slot":"s1.4","pool":"dose1","free":3}]}]}]}"#,
        )
        .unwrap();
        let shown = seen.shown().unwrap();
        assert_eq!((shown.as_of_us, shown.free), (1_795_429_800_500_000, vec![("s1.4".to_owned(), 3)]));
    }

    #[test]
    fn every_shape_of_answer_names_its_bookings() {
        let hold: Answer = serde_json::from_str(
            r#"{"hold":"H","expires_at":"2026-11-23T16:00:00.5+05:30","claims":[{"booking":"B","party":"p1.3","slot":"s1.4","dose":1}]}"#,
        )
        .unwrap();
        assert_eq!(hold.expires_us(), Some(1_795_429_800_500_000));
        assert_eq!(hold.told()[0].booking, "B");
        let moved: Answer = serde_json::from_str(
            r#"{"booking":"N","hold":"H","state":"booked","party":"p1.3","slot":"s1.4","dose":2,"moved_from":"B"}"#,
        )
        .unwrap();
        let told = moved.told().remove(0);
        assert_eq!((&*told.party, &*told.slot, told.dose), ("p1.3", "s1.4", 2));
        let released: Answer = serde_json::from_str(r#"{"hold":"H","state":"released"}"#).unwrap();
        assert!(released.told().is_empty());
    }
}
