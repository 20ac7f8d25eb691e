//! The commonest entries read in little: claims of one party, and steps. A start reads millions of them, and an [`Entry`] has room
//! for a whole group. Bytes that the programme notes are passed over: replay does nothing with them.
//!
//! [`Brief::read`] says nothing about bytes that it does not know; whoever wants to know reads them with [`Entry::decode`], which
//! judges them alone.
//!
//! [`Entry`]: super::entry::Entry
//! [`Entry::decode`]: super::entry::Entry::decode

use super::entry::{DecodeError, FLAG_IDEMPOTENT};
use super::input::Input;
use crate::command::{Claim, Given, RECORD_BYTES_MAX};
use crate::ids::{BookingNumber, Idempotency, IdempotencyKey};
use crate::units::TimestampMs;

/// An entry of one of the commonest kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Brief {
    pub(crate) at: TimestampMs,
    pub(crate) idempotency: Option<Idempotency>,
    pub(crate) event: BriefEvent,
}

/// As the events of the same names, with one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BriefEvent {
    Held {
        first: BookingNumber,
        expires_at: TimestampMs,
        claim: Claim,
    },
    Offered {
        number: BookingNumber,
        expires_at: TimestampMs,
        claim: Claim,
    },
    Booked {
        first: BookingNumber,
        claim: Claim,
    },
    Confirmed {
        hold: BookingNumber,
        len: u8,
    },
    Released {
        hold: BookingNumber,
        len: u8,
    },
    Expired {
        hold: BookingNumber,
        len: u8,
    },
    Cancelled {
        booking: BookingNumber,
    },
    CheckedIn {
        booking: BookingNumber,
    },
    /// With a note or without.
    Completed {
        booking: BookingNumber,
        given: Given,
    },
    Recorded,
    NoShow {
        booking: BookingNumber,
    },
    WalkedIn {
        number: BookingNumber,
        claim: Claim,
    },
}

impl Brief {
    /// The entry at the front of `bytes` and how many bytes it took; `None` if it is none of these, or not whole.
    #[inline]
    pub(crate) fn read(bytes: &[u8]) -> Option<(Brief, usize)> {
        Self::read_or_error(bytes).ok()?
    }

    #[inline]
    fn read_or_error(bytes: &[u8]) -> Result<Option<(Brief, usize)>, DecodeError> {
        let mut input = Input(bytes);
        let body_len = input.u32()? as usize;
        let mut input = Input(input.take(body_len)?);
        let kind = input.u8()?;
        let flags = input.u8()?;
        if !matches!(kind, 4..=9 | 14..=17 | 20..=22) || flags & !FLAG_IDEMPOTENT != 0 {
            return Ok(None);
        }
        let at = TimestampMs(input.u48()?);
        let idempotency = match flags {
            0 => None,
            _ => Some(Idempotency { key: IdempotencyKey(input.u128()?), fingerprint: input.u64()? }),
        };
        if kind == 20 {
            input.u8()?;
            let fits = input.bytes()?.len() <= RECORD_BYTES_MAX && input.0.is_empty();
            return Ok(fits.then_some((Brief { at, idempotency, event: BriefEvent::Recorded }, 4 + body_len)));
        }
        let first = input.booking()?;
        let event = match kind {
            4 => {
                let expires_at = TimestampMs(input.u64()?);
                let 1 = input.u8()? else { return Ok(None) };
                BriefEvent::Held { first, expires_at, claim: input.claim()? }
            }
            5 => {
                let 1 = input.u8()? else { return Ok(None) };
                BriefEvent::Booked { first, claim: input.claim()? }
            }
            6 => BriefEvent::Confirmed { hold: first, len: input.group_len()? },
            7 => BriefEvent::Released { hold: first, len: input.group_len()? },
            8 => BriefEvent::Expired { hold: first, len: input.group_len()? },
            9 => BriefEvent::Cancelled { booking: first },
            14 => BriefEvent::CheckedIn { booking: first },
            15 => BriefEvent::Completed { booking: first, given: input.given()? },
            16 => BriefEvent::NoShow { booking: first },
            21 => {
                let given = input.given()?;
                input.note()?;
                BriefEvent::Completed { booking: first, given }
            }
            22 => {
                let (expires_at, claim) = (TimestampMs(input.u64()?), input.claim()?);
                input.note()?;
                BriefEvent::Offered { number: first, expires_at, claim }
            }
            _ => BriefEvent::WalkedIn { number: first, claim: input.claim()? },
        };
        Ok(input.0.is_empty().then_some((Brief { at, idempotency, event }, 4 + body_len)))
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::command::NumberedClaim;
    use crate::ids::{Dose, PartyId, ProductId, SlotId};
    use crate::journal::entry::{Claims, Entry, Event};

    /// The entry that was read in little, with the bytes that were passed over.
    fn whole(brief: Brief, of: &Event) -> Entry {
        let event = match brief.event {
            BriefEvent::Held { first, expires_at, claim } => {
                Event::Held { first, expires_at, claims: std::iter::once(claim).collect() }
            }
            BriefEvent::Booked { first, claim } => Event::Booked { first, claims: std::iter::once(claim).collect() },
            BriefEvent::Offered { number, expires_at, claim } => match of {
                Event::Offered { note, .. } => Event::Offered { number, expires_at, claim, note: note.clone() },
                other => panic!("an offer is read in little of {other:?}"),
            },
            BriefEvent::Confirmed { hold, len } => Event::Confirmed { hold, len },
            BriefEvent::Released { hold, len } => Event::Released { hold, len },
            BriefEvent::Expired { hold, len } => Event::Expired { hold, len },
            BriefEvent::Cancelled { booking } => Event::Cancelled { booking },
            BriefEvent::CheckedIn { booking } => Event::CheckedIn { booking },
            BriefEvent::Completed { booking, given } => match of {
                Event::CompletedNoted { note, .. } => Event::CompletedNoted { booking, given, note: note.clone() },
                _ => Event::Completed { booking, given },
            },
            BriefEvent::Recorded => of.clone(),
            BriefEvent::NoShow { booking } => Event::NoShow { booking },
            BriefEvent::WalkedIn { number, claim } => Event::WalkedIn { claim: NumberedClaim { number, claim } },
        };
        Entry { at: brief.at, idempotency: brief.idempotency, event }
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let claims = prop::collection::vec((any::<u32>(), any::<u32>(), any::<u8>()), 1..4);
        let key = prop::option::of((any::<u128>(), any::<u64>()));
        (prop_oneof![4u8..=9, 14u8..=17, 20u8..=22], 0u64..1 << 48, key, any::<u64>(), any::<u64>(), 1u8..=16, claims)
            .prop_map(|(kind, at, key, number, until, len, claims)| {
                let hold = BookingNumber(number);
                let claim = |(party, slot, dose)| Claim { party: PartyId(party), slot: SlotId(slot), dose: Dose(dose) };
                let claims: Claims = claims.into_iter().map(claim).collect();
                let event = match kind {
                    4 => Event::Held { first: hold, expires_at: TimestampMs(until), claims },
                    5 => Event::Booked { first: hold, claims },
                    6 => Event::Confirmed { hold, len },
                    7 => Event::Released { hold, len },
                    8 => Event::Expired { hold, len },
                    9 => Event::Cancelled { booking: hold },
                    14 => Event::CheckedIn { booking: hold },
                    15 => Event::Completed {
                        booking: hold,
                        given: Given { doses: len, product: ProductId(2), day: 20_000 },
                    },
                    16 => Event::NoShow { booking: hold },
                    20 => Event::Recorded { kind: len, bytes: vec![len; usize::from(len) * 9] },
                    21 => Event::CompletedNoted {
                        booking: hold,
                        given: Given { doses: len, product: ProductId(2), day: 20_000 },
                        note: vec![7; usize::from(len - 1) * 17],
                    },
                    22 => Event::Offered {
                        number: hold,
                        expires_at: TimestampMs(until),
                        claim: claims[0],
                        note: vec![7; usize::from(len - 1) * 17],
                    },
                    _ => Event::WalkedIn { claim: NumberedClaim { number: hold, claim: claims[0] } },
                };
                let key = key.map(|(key, fingerprint)| Idempotency { key: IdempotencyKey(key), fingerprint });
                Entry { at: TimestampMs(at), idempotency: key, event }
            })
    }

    proptest! {
        /// Whole, mutated at one byte, or cut: what is read in little is what is read at length, and never more.
        #[test]
        fn what_is_read_in_little_is_what_is_read_at_length(
            entry in entry(), at in any::<prop::sample::Index>(), flip in 0u8..=255, cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            let brief = Brief::read(&bytes).map(|(brief, len)| (whole(brief, &entry.event), len));
            let single = !matches!(&entry.event, Event::Held { claims, .. } | Event::Booked { claims, .. } if claims.len() > 1);
            prop_assert_eq!(brief, single.then(|| (entry.clone(), bytes.len())));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Some((brief, len)) = Brief::read(&bytes) {
                let read = Entry::decode(&bytes);
                prop_assert!(read.is_ok(), "{:?} is read in little, and not at length", brief);
                let (read, whole_len) = read.expect("just looked");
                prop_assert_eq!((whole(brief, &read.event), len), (read, whole_len));
            }
        }
    }
}
