//! What the server says over HTTP, as far as the harness reads it. The contract is `docs/http-api.md`.
//!
//! Unknown fields are ignored here on purpose: a server may say more than this harness needs.

use serde::{Deserialize, Serialize};

use crate::history::{Claim, Told};

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
    pub(crate) centres: Vec<CentreSeen>,
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
        assert_eq!(moved.told()[0].claim(), Claim { party: "p1.3".into(), slot: "s1.4".into(), dose: 2 });
        let released: Answer = serde_json::from_str(r#"{"hold":"H","state":"released"}"#).unwrap();
        assert!(released.told().is_empty());
    }
}
