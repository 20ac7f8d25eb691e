//! Names and shapes on the wire. The only file that spells a slot, a party or a booking, and that says
//! `busy-tentative` (FHIR's word for a slot whose last units are held) and `busy-unavailable` (its word for one that
//! cannot be scheduled: closed, too late, too early).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use berth_engine::{BookingCodes, BookingNumber, CellId, Claim, Counts, Dose, PartyId, SlotId, TimestampMs};
use berth_programme::Calendar;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::problem::{Code, Problem};

/// How this cell's things are named.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) cell: CellId,
    pub(crate) codes: &'a BookingCodes,
    pub(crate) calendar: &'a Calendar,
}

impl Names<'_> {
    pub(crate) fn party(&self, party: PartyId) -> String {
        format!("p{}.{party}", self.cell)
    }

    pub(crate) fn slot(&self, slot: SlotId) -> String {
        format!("s{}.{slot}", self.cell)
    }

    pub(crate) fn booking(&self, booking: BookingNumber) -> String {
        self.codes.encode(booking).to_string()
    }

    /// What names a booking where its code must not stand: says nothing, opens nothing.
    pub(crate) fn reference(&self, booking: BookingNumber) -> String {
        format!("b{}.{booking}", self.cell)
    }

    /// The number of a dose, by the booking it was given on.
    pub(crate) fn dose(&self, booking: BookingNumber) -> String {
        format!("D-{}", self.codes.doses().encode(booking))
    }

    pub(crate) fn time(&self, at: TimestampMs) -> String {
        self.calendar.rfc3339(at)
    }

    /// A party of this cell; another cell's is unknown here.
    pub(crate) fn parse_party(&self, text: &str) -> Result<PartyId, Problem> {
        let (cell, number) = numbered(text, 'p').ok_or_else(|| malformed(text, "a party as p1.17"))?;
        if cell == self.cell {
            Ok(PartyId(number))
        } else {
            Err(Problem::new(Code::UnknownParty, format!("party {text} is of another cell")))
        }
    }

    /// A slot of this cell; another cell's is unknown here.
    pub(crate) fn parse_slot(&self, text: &str) -> Result<SlotId, Problem> {
        let (cell, number) = numbered(text, 's').ok_or_else(|| malformed(text, "a slot as s1.42"))?;
        if cell == self.cell {
            Ok(SlotId(number))
        } else {
            Err(Problem::new(Code::UnknownSlot, format!("slot {text} is of another cell")))
        }
    }

    /// A hold or booking code. A wrong check symbol is malformed, and so is a code of another cell.
    pub(crate) fn parse_booking(&self, text: &str) -> Result<BookingNumber, Problem> {
        self.codes.decode(text).ok_or_else(|| malformed(text, "a code as 0126-YN8ZR-4W7CK with its check symbol"))
    }

    /// The booking of a dose by its number. A wrong check symbol is malformed, and so is another cell's.
    pub(crate) fn parse_dose(&self, text: &str) -> Result<BookingNumber, Problem> {
        let code = text.strip_prefix("D-").or_else(|| text.strip_prefix("d-"));
        let booking = code.and_then(|code| self.codes.doses().decode(code));
        booking.ok_or_else(|| malformed(text, "the number of a dose as D-0126-YN8ZR-4W7CK with its check symbol"))
    }

    /// A reference from an event; another cell's is unknown here.
    pub(crate) fn parse_reference(&self, text: &str) -> Result<BookingNumber, Problem> {
        let (cell, number) = numbered(text, 'b').ok_or_else(|| malformed(text, "a booking reference as b1.7"))?;
        if cell == self.cell {
            Ok(BookingNumber(number))
        } else {
            Err(Problem::new(Code::UnknownBooking, format!("booking {text} is of another cell")))
        }
    }

    /// The claims of a request.
    pub(crate) fn parse_claims(&self, claims: &[Object<ClaimRequest<'_>>]) -> Result<Vec<Claim>, Problem> {
        let claim = |Object(c): &Object<ClaimRequest<'_>>| {
            Ok(Claim { party: self.parse_party(&c.party)?, slot: self.parse_slot(&c.slot)?, dose: Dose(c.dose) })
        };
        claims.iter().map(claim).collect()
    }
}

fn malformed(text: &str, what: &str) -> Problem {
    let shown: String = text.chars().take(80).collect();
    Problem::new(Code::MalformedId, format!("{shown:?} is not {what}"))
}

/// `p1.17`: letter, cell, number, each number in its one shortest spelling.
pub(crate) fn numbered<N: FromStr>(text: &str, letter: char) -> Option<(CellId, N)> {
    let (cell, number) = text.strip_prefix(letter)?.split_once('.')?;
    let plain = |t: &str| t.bytes().all(|b| b.is_ascii_digit()) && (t == "0" || !t.starts_with('0'));
    if !plain(cell) || !plain(number) {
        return None;
    }
    Some((CellId(cell.parse().ok()?), number.parse().ok()?))
}

/// FHIR's word for what can be had of a slot; `in_time`: the rules of time let it be booked now.
pub(crate) fn slot_status(counts: Counts, in_time: bool) -> &'static str {
    if !counts.is_open() {
        "busy-unavailable"
    } else if counts.free_to_all().get() > 0 {
        if in_time { "free" } else { "busy-unavailable" }
    } else if counts.held().get() > 0 && !counts.is_reserved() {
        "busy-tentative"
    } else {
        "busy"
    }
}

/// An object, and only that: what serde derives takes an array of the values in its place, too.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct MapOnly<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for MapOnly<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        from.deserialize_map(MapOnly(PhantomData))
    }
}

/// `{"party","slot","dose"}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimRequest<'a> {
    #[serde(borrow)]
    pub(crate) party: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) slot: Cow<'a, str>,
    pub(crate) dose: u8,
}

/// `POST /v1/holds`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HoldRequest<'a> {
    #[serde(borrow)]
    pub(crate) claims: Vec<Object<ClaimRequest<'a>>>,
    pub(crate) ttl_seconds: Option<u32>,
}

/// `POST /v1/bookings`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BookRequest<'a> {
    #[serde(borrow)]
    pub(crate) claims: Vec<Object<ClaimRequest<'a>>>,
}

/// `POST /v1/bookings/{booking}/move`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveRequest<'a> {
    #[serde(borrow)]
    pub(crate) slot: Cow<'a, str>,
}

/// `POST /v1/bookings/cancel`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelRequest {
    pub(crate) bookings: Vec<String>,
}

/// `POST /v1/bookings/{booking}/check-in`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckInRequest<'a> {
    #[serde(borrow)]
    pub(crate) code: Cow<'a, str>,
}

/// `POST /v1/sessions/{session}/move-bookings`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveBookingsRequest {
    /// The session to go to.
    pub(crate) to: String,
    #[serde(default)]
    pub(crate) windows: Windows,
    /// Which pool of the other session takes the place of which; else each its own.
    #[serde(default)]
    pub(crate) pools: BTreeMap<String, String>,
}

/// Which windows a moved booking may go to, by the time of day at which they open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Windows {
    /// Its own time only.
    Same,
    /// Its own time or the next with room.
    #[default]
    Later,
    /// And then earlier ones, the latest first.
    Any,
}

impl Windows {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Windows::Same => "same",
            Windows::Later => "later",
            Windows::Any => "any",
        }
    }
}

/// `POST /v1/sessions/{session}/resize`: a slot by its name or by its window and pool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResizeRequest {
    pub(crate) slot: Option<String>,
    /// When its window opens, `HH:MM` on the session's date.
    pub(crate) window: Option<String>,
    pub(crate) pool: Option<String>,
    pub(crate) capacity: u32,
}

/// `POST /v1/parties`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartiesRequest {
    pub(crate) count: u32,
    pub(crate) birth_year: Option<u16>,
    #[serde(default)]
    pub(crate) cohorts: Vec<String>,
}

/// `POST /v1/admin/revocations`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevocationRequest<'a> {
    #[serde(borrow)]
    pub(crate) jti: Cow<'a, str>,
}

/// A hold or booking, as every answer shows it.
#[derive(Debug, Serialize)]
pub(crate) struct BookingAnswer {
    pub(crate) booking: String,
    pub(crate) hold: String,
    pub(crate) state: &'static str,
    pub(crate) party: String,
    pub(crate) slot: String,
    pub(crate) dose: u8,
    pub(crate) session: String,
    pub(crate) centre: String,
    pub(crate) start: String,
    pub(crate) end: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) moved_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) moved_from: Option<String>,
    /// The number of the dose that was given on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dose_record: Option<String>,
    /// Four digits, for its holder to say at the door.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) check_in_code: Option<String>,
}

/// A claim of a hold.
#[derive(Debug, Serialize)]
pub(crate) struct HeldClaim {
    pub(crate) booking: String,
    pub(crate) party: String,
    pub(crate) slot: String,
    pub(crate) dose: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        assert_eq!(numbered("s1.42", 's'), Some((CellId(1), 42)));
        assert_eq!(numbered("p0.0", 'p'), Some((CellId(0), 0)));
        for bad in
            ["", "s", "s1", "s1.", "s.1", "p1.42", "s1.42.3", "s01.4", "s1.042", "s1.+4", "s1.4294967296", "S1.4"]
        {
            assert_eq!(numbered::<u32>(bad, 's'), None, "{bad:?}");
        }
    }
}
