//! One journal entry as bytes. Little-endian throughout.
//!
//! ```text
//! u32 body length (what follows this field)
//! u8  kind
//! u8  flags           bit 0: idempotency present
//! u48 at              milliseconds since 1970, when the command was judged
//! [u128 key, u64 fingerprint]   if bit 0
//! ...                 by kind
//! ```
//! Its sequence number is not in it: a frame names its first, the others count up.
//! Entry times may lag their neighbours'; a deadline was judged once, before the append.

use arrayvec::ArrayVec;

pub use super::input::DecodeError;
use super::input::Input;
use super::sink::Sink;
use crate::command::{
    By, Claim, GROUP_CLAIMS_MAX, Given, NumberedClaim, PartyFacts, Places, RECORD_BYTES_MAX, SlotFacts,
};
use crate::ids::{
    BookingNumber, CentreKey, Dose, Idempotency, IdempotencyKey, PartyId, PoolId, ProductId, ProgrammeId, SlotId,
};
use crate::units::{TimestampMs, Units};

/// Bytes of the fixed head, its length field and the idempotency fields included.
const HEAD_BYTES_MAX: usize = 4 + 1 + 1 + 6 + 16 + 8;
/// Bytes of one claim: party, slot, dose.
const CLAIM_BYTES: usize = 4 + 4 + 1;
/// The longest entry but for what hands bytes of its own along: a publish, a note, what was noted or recorded.
pub const SMALL_ENTRY_BYTES_MAX: usize = HEAD_BYTES_MAX + 8 + 8 + 1 + GROUP_CLAIMS_MAX * CLAIM_BYTES + 64;
/// Bytes of one published slot.
const SLOT_BYTES: usize = 4 + 4 + 4 + 2 + 1 + 1 + 1 + 8;
/// The longest entry there may be: a publish with its note.
pub const ENTRY_BYTES_MAX: usize = 16 << 20;

pub(super) const FLAG_IDEMPOTENT: u8 = 1;

/// A slot as a publish entry lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedSlot {
    /// The number it got.
    pub slot: SlotId,
    /// The centre whose block it lies in.
    pub centre: CentreKey,
    /// Units on sale.
    pub capacity: Units,
    /// What is fixed about it.
    pub facts: SlotFacts,
}

/// Claims of one entry, numbered from `first`.
pub type Claims = ArrayVec<Claim, GROUP_CLAIMS_MAX>;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Parties `first .. first + count` came to be.
    PartiesAdded {
        /// The lowest number.
        first: PartyId,
        /// How many.
        count: u32,
        /// The facts of each.
        facts: PartyFacts,
    },
    /// Slots were put on sale, all at once.
    Published {
        /// The slots.
        slots: Vec<PublishedSlot>,
        /// The catalogue's own bytes.
        note: Vec<u8>,
    },
    /// The catalogue's own bytes.
    Note {
        /// The bytes.
        note: Vec<u8>,
    },
    /// Units were set aside.
    Held {
        /// The number of the first claim; the others follow.
        first: BookingNumber,
        /// The deadline.
        expires_at: TimestampMs,
        /// The claims.
        claims: Claims,
    },
    /// Units were booked in one step.
    Booked {
        /// The number of the first claim; the others follow.
        first: BookingNumber,
        /// The claims.
        claims: Claims,
    },
    /// A hold became a booking.
    Confirmed {
        /// Its first number.
        hold: BookingNumber,
        /// How many numbers.
        len: u8,
    },
    /// A hold was given back by its holder.
    Released {
        /// Its first number.
        hold: BookingNumber,
        /// How many numbers.
        len: u8,
    },
    /// A hold was given back by the clock.
    Expired {
        /// Its first number.
        hold: BookingNumber,
        /// How many numbers.
        len: u8,
    },
    /// A booking was given up.
    Cancelled {
        /// The booking.
        booking: BookingNumber,
    },
    /// A booking went to another slot.
    Moved {
        /// The number that ended.
        from: BookingNumber,
        /// The number that replaced it, with its claim.
        to: NumberedClaim,
        /// For whom. What the administration moves is of a kind of its own.
        by: By,
    },
    /// A slot's capacity and flag are now these.
    SlotChanged {
        /// The slot.
        slot: SlotId,
        /// Units on sale.
        capacity: Units,
        /// Whether new claims may be taken.
        open: bool,
    },
    /// After an outage, every hold that is live at this place in the journal and whose deadline lies in `from..until` now has
    /// the deadline `until`.
    HoldsGraced {
        /// The earliest deadline that is put off.
        from: TimestampMs,
        /// To when.
        until: TimestampMs,
    },
    /// Bookings of one group were given up together.
    GroupCancelled {
        /// The first number of the group.
        hold: BookingNumber,
        /// Which of it.
        places: Places,
        /// For whom.
        by: By,
    },
    /// The party of a booking is there.
    CheckedIn {
        /// The booking.
        booking: BookingNumber,
    },
    /// The party of a booking was served.
    Completed {
        /// The booking.
        booking: BookingNumber,
        /// What its facts say from now on.
        given: Given,
    },
    /// Nobody came for a booking.
    NoShow {
        /// The booking.
        booking: BookingNumber,
    },
    /// A party was taken at the door: its booking was born checked in.
    WalkedIn {
        /// The booking with its claim.
        claim: NumberedClaim,
    },
    /// The policy knows this of a party from now on.
    FactsChanged {
        /// Who.
        party: PartyId,
        /// All of it.
        facts: PartyFacts,
        /// The programme's own bytes, at most [`NOTE_BYTES_MAX`](crate::NOTE_BYTES_MAX).
        note: Vec<u8>,
    },
    /// Bytes for whoever follows the log.
    Recorded {
        /// Whose they are.
        kind: u8,
        /// At most [`RECORD_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// A unit was offered to a party: a hold of its own kind.
    Offered {
        /// Its number.
        number: BookingNumber,
        /// The deadline.
        expires_at: TimestampMs,
        /// To whom, where and which dose.
        claim: Claim,
        /// Why, in the programme's own bytes, at most [`NOTE_BYTES_MAX`](crate::NOTE_BYTES_MAX).
        note: Vec<u8>,
    },
    /// The party of a booking was served, with the programme's own bytes about it.
    CompletedNoted {
        /// The booking.
        booking: BookingNumber,
        /// What its facts say from now on.
        given: Given,
        /// At most [`NOTE_BYTES_MAX`](crate::NOTE_BYTES_MAX).
        note: Vec<u8>,
    },
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When the command was judged.
    pub at: TimestampMs,
    /// The client's key for it, if it had one.
    pub idempotency: Option<Idempotency>,
    /// What happened.
    pub event: Event,
}

/// The kinds' names, in the order of their codes from 1.
pub(crate) const KINDS: [&str; Event::CODES - 1] = [
    "parties_added",
    "published",
    "note",
    "held",
    "booked",
    "confirmed",
    "released",
    "expired",
    "cancelled",
    "moved",
    "slot_changed",
    "holds_graced",
    "group_cancelled",
    "checked_in",
    "completed",
    "no_show",
    "walked_in",
    "reassigned",
    "facts_changed",
    "recorded",
    "completed_noted",
    "offered",
];

impl Event {
    pub(crate) const fn code(&self) -> usize {
        match self {
            Event::PartiesAdded { .. } => 1,
            Event::Published { .. } => 2,
            Event::Note { .. } => 3,
            Event::Held { .. } => 4,
            Event::Booked { .. } => 5,
            Event::Confirmed { .. } => 6,
            Event::Released { .. } => 7,
            Event::Expired { .. } => 8,
            Event::Cancelled { .. } => 9,
            Event::Moved { by: By::Holder, .. } => 10,
            Event::SlotChanged { .. } => 11,
            Event::HoldsGraced { .. } => 12,
            Event::GroupCancelled { .. } => 13,
            Event::CheckedIn { .. } => 14,
            Event::Completed { .. } => 15,
            Event::NoShow { .. } => 16,
            Event::WalkedIn { .. } => 17,
            Event::Moved { by: By::Administration, .. } => 18,
            Event::FactsChanged { .. } => 19,
            Event::Recorded { .. } => 20,
            Event::CompletedNoted { .. } => 21,
            Event::Offered { .. } => 22,
        }
    }

    /// One more than the highest kind code.
    pub(crate) const CODES: usize = 23;

    /// How many bytes of somebody else's it hands along, which no bound of the small entries covers; `None` for a small entry.
    pub(crate) fn own_bytes(&self) -> Option<usize> {
        match self {
            Event::Published { slots, note } => Some(slots.len() * SLOT_BYTES + note.len()),
            Event::Note { note }
            | Event::FactsChanged { note, .. }
            | Event::CompletedNoted { note, .. }
            | Event::Offered { note, .. } => Some(note.len()),
            Event::Recorded { bytes, .. } => Some(bytes.len()),
            _ => None,
        }
    }

    /// Every kind's name.
    #[must_use]
    pub const fn kinds() -> &'static [&'static str] {
        &KINDS
    }

    /// The name used in exports.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        KINDS[self.code() - 1]
    }
}

fn put_claim(out: &mut impl Sink, claim: &Claim) {
    let mut bytes = [0u8; CLAIM_BYTES];
    bytes[..4].copy_from_slice(&claim.party.0.to_le_bytes());
    bytes[4..8].copy_from_slice(&claim.slot.0.to_le_bytes());
    bytes[8] = claim.dose.0;
    out.put(&bytes);
}

fn put_numbered(out: &mut impl Sink, numbered: &NumberedClaim) {
    out.put(&numbered.number.0.to_le_bytes());
    put_claim(out, &numbered.claim);
}

fn put_len(out: &mut impl Sink, len: usize) {
    out.put(&u32::try_from(len).expect("bounded by ENTRY_BYTES_MAX").to_le_bytes());
}

fn put_facts(out: &mut impl Sink, facts: &PartyFacts) {
    out.put(&facts.birth_year.to_le_bytes());
    out.put(&facts.cohorts.to_le_bytes());
    out.put(&[facts.doses, facts.product.0]);
    out.put(&facts.last_dose_day.to_le_bytes());
}

fn put_given(out: &mut impl Sink, booking: BookingNumber, given: &Given) {
    out.put(&booking.0.to_le_bytes());
    out.put(&[given.doses, given.product.0]);
    out.put(&given.day.to_le_bytes());
}

fn put_note(out: &mut impl Sink, note: &[u8]) {
    out.put(&[u8::try_from(note.len()).expect("NOTE_BYTES_MAX fits a byte")]);
    out.put(note);
}

impl Entry {
    /// An upper bound on the bytes of an entry with this many slots and note bytes.
    pub(crate) const fn bytes_max(slots: usize, note: usize) -> usize {
        SMALL_ENTRY_BYTES_MAX + slots.saturating_mul(SLOT_BYTES).saturating_add(note)
    }

    /// Appends the entry's bytes.
    pub(crate) fn encode(&self, out: &mut impl Sink) {
        let start = out.filled();
        let mut head = [0u8; 12];
        head[4] = u8::try_from(self.event.code()).expect("codes are below CODES");
        head[5] = if self.idempotency.is_some() { FLAG_IDEMPOTENT } else { 0 };
        head[6..12].copy_from_slice(&self.at.0.to_le_bytes()[..6]);
        out.put(&head);
        if let Some(idempotency) = &self.idempotency {
            out.put(&idempotency.key.0.to_le_bytes());
            out.put(&idempotency.fingerprint.to_le_bytes());
        }
        self.event.encode(out);
        let body = u32::try_from(out.filled() - start - 4).expect("bounded by ENTRY_BYTES_MAX");
        out.patch(start, body.to_le_bytes());
    }

    /// Reads one entry from the front of `bytes` and says how many bytes it took.
    ///
    /// # Errors
    /// What is wrong with the bytes. Never panics, whatever they are.
    pub fn decode(bytes: &[u8]) -> Result<(Entry, usize), DecodeError> {
        let mut input = Input(bytes);
        let body_len = input.u32()? as usize;
        let body = input.take(body_len)?;
        let mut input = Input(body);
        let kind = input.u8()?;
        let flags = input.u8()?;
        if flags & !FLAG_IDEMPOTENT != 0 {
            return Err(DecodeError::OutOfRange("flags"));
        }
        let at = input.u48()?;
        let idempotency = if flags & FLAG_IDEMPOTENT != 0 {
            Some(Idempotency { key: IdempotencyKey(input.u128()?), fingerprint: input.u64()? })
        } else {
            None
        };
        let event = Event::decode(kind, &mut input)?;
        if !input.0.is_empty() {
            return Err(DecodeError::TrailingBytes(input.0.len()));
        }
        Ok((Entry { at: TimestampMs(at), idempotency, event }, 4 + body_len))
    }
}

/// The bytes of the entry at the front of `bytes`, and its kind code, without reading the rest of it.
pub(crate) fn peek(bytes: &[u8]) -> Result<(&[u8], u8), DecodeError> {
    let mut input = Input(bytes);
    let body = input.u32()? as usize;
    let kind = *input.take(body)?.first().ok_or(DecodeError::Short)?;
    Ok((&bytes[..4 + body], kind))
}

impl Event {
    /// Whether entries of this kind hand bytes to the catalogue.
    pub(crate) const fn is_catalogue(code: u8) -> bool {
        matches!(code, 2 | 3)
    }

    fn encode(&self, out: &mut impl Sink) {
        match self {
            Event::PartiesAdded { first, count, facts } => {
                out.put(&first.0.to_le_bytes());
                out.put(&count.to_le_bytes());
                put_facts(out, facts);
            }
            Event::Published { slots, note } => {
                put_len(out, slots.len());
                for slot in slots {
                    out.put(&slot.slot.0.to_le_bytes());
                    out.put(&slot.centre.0.to_le_bytes());
                    out.put(&slot.capacity.get().to_le_bytes());
                    out.put(&slot.facts.programme.0.to_le_bytes());
                    out.put(&[slot.facts.dose.0, slot.facts.product.0, slot.facts.pool.0]);
                    out.put(&slot.facts.starts_at.0.to_le_bytes());
                }
                put_len(out, note.len());
                out.put(note);
            }
            Event::Note { note } => {
                put_len(out, note.len());
                out.put(note);
            }
            Event::Held { first, expires_at, claims } => {
                out.put(&first.0.to_le_bytes());
                out.put(&expires_at.0.to_le_bytes());
                put_claims(out, claims);
            }
            Event::Booked { first, claims } => {
                out.put(&first.0.to_le_bytes());
                put_claims(out, claims);
            }
            Event::Confirmed { hold, len } | Event::Released { hold, len } | Event::Expired { hold, len } => {
                out.put(&hold.0.to_le_bytes());
                out.put(&[*len]);
            }
            Event::Cancelled { booking } | Event::CheckedIn { booking } | Event::NoShow { booking } => {
                out.put(&booking.0.to_le_bytes());
            }
            Event::Moved { from, to, .. } => {
                out.put(&from.0.to_le_bytes());
                put_numbered(out, to);
            }
            Event::GroupCancelled { hold, places, by } => {
                out.put(&hold.0.to_le_bytes());
                out.put(&places.bits().to_le_bytes());
                out.put(&[*by as u8]);
            }
            Event::Completed { booking, given } => put_given(out, *booking, given),
            Event::CompletedNoted { booking, given, note } => {
                put_given(out, *booking, given);
                put_note(out, note);
            }
            Event::FactsChanged { party, facts, note } => {
                out.put(&party.0.to_le_bytes());
                put_facts(out, facts);
                put_note(out, note);
            }
            Event::Recorded { kind, bytes } => {
                out.put(&[*kind]);
                put_len(out, bytes.len());
                out.put(bytes);
            }
            Event::WalkedIn { claim } => put_numbered(out, claim),
            Event::Offered { number, expires_at, claim, note } => {
                out.put(&number.0.to_le_bytes());
                out.put(&expires_at.0.to_le_bytes());
                put_claim(out, claim);
                put_note(out, note);
            }
            Event::SlotChanged { slot, capacity, open } => {
                out.put(&slot.0.to_le_bytes());
                out.put(&capacity.get().to_le_bytes());
                out.put(&[u8::from(*open)]);
            }
            Event::HoldsGraced { from, until } => {
                out.put(&from.0.to_le_bytes());
                out.put(&until.0.to_le_bytes());
            }
        }
    }

    fn decode(kind: u8, input: &mut Input<'_>) -> Result<Event, DecodeError> {
        Ok(match kind {
            1 => Event::PartiesAdded { first: PartyId(input.u32()?), count: input.u32()?, facts: input.facts()? },
            2 => {
                let count = input.u32()? as usize;
                // The bytes bound the count before anything is allocated for it.
                let mut bytes = Input(input.take(count.checked_mul(SLOT_BYTES).ok_or(DecodeError::Short)?)?);
                let slots = (0..count).map(|_| PublishedSlot::decode(&mut bytes)).collect::<Result<_, _>>()?;
                Event::Published { slots, note: input.bytes()?.to_vec() }
            }
            3 => Event::Note { note: input.bytes()?.to_vec() },
            4 => {
                Event::Held { first: input.booking()?, expires_at: TimestampMs(input.u64()?), claims: input.claims()? }
            }
            5 => Event::Booked { first: input.booking()?, claims: input.claims()? },
            6 => Event::Confirmed { hold: input.booking()?, len: input.group_len()? },
            7 => Event::Released { hold: input.booking()?, len: input.group_len()? },
            8 => Event::Expired { hold: input.booking()?, len: input.group_len()? },
            9 => Event::Cancelled { booking: input.booking()? },
            10 | 18 => {
                let by = if kind == 10 { By::Holder } else { By::Administration };
                Event::Moved { from: input.booking()?, to: input.numbered()?, by }
            }
            11 => Event::SlotChanged {
                slot: SlotId(input.u32()?),
                capacity: input.units()?,
                open: match input.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(DecodeError::OutOfRange("open")),
                },
            },
            12 => {
                let (from, until) = (TimestampMs(input.u64()?), TimestampMs(input.u64()?));
                if until <= from {
                    return Err(DecodeError::OutOfRange("until"));
                }
                Event::HoldsGraced { from, until }
            }
            13 => Event::GroupCancelled { hold: input.booking()?, places: input.places()?, by: input.by()? },
            14 => Event::CheckedIn { booking: input.booking()? },
            15 => Event::Completed { booking: input.booking()?, given: input.given()? },
            16 => Event::NoShow { booking: input.booking()? },
            17 => Event::WalkedIn { claim: input.numbered()? },
            19 => Event::FactsChanged {
                party: PartyId(input.u32()?),
                facts: input.facts()?,
                note: input.note()?.to_vec(),
            },
            20 => {
                let (kind, bytes) = (input.u8()?, input.bytes()?);
                if bytes.len() > RECORD_BYTES_MAX {
                    return Err(DecodeError::OutOfRange("bytes"));
                }
                Event::Recorded { kind, bytes: bytes.to_vec() }
            }
            21 => {
                Event::CompletedNoted { booking: input.booking()?, given: input.given()?, note: input.note()?.to_vec() }
            }
            22 => Event::Offered {
                number: input.booking()?,
                expires_at: TimestampMs(input.u64()?),
                claim: input.claim()?,
                note: input.note()?.to_vec(),
            },
            other => return Err(DecodeError::UnknownKind(other)),
        })
    }
}

fn put_claims(out: &mut impl Sink, claims: &Claims) {
    out.put(&[u8::try_from(claims.len()).expect("GROUP_CLAIMS_MAX fits a byte")]);
    for claim in claims {
        put_claim(out, claim);
    }
}

impl PublishedSlot {
    fn decode(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            slot: SlotId(input.u32()?),
            centre: CentreKey(input.u32()?),
            capacity: input.units()?,
            facts: SlotFacts {
                programme: ProgrammeId(input.u16()?),
                dose: Dose(input.u8()?),
                product: ProductId(input.u8()?),
                pool: PoolId(input.u8()?),
                starts_at: TimestampMs(input.u64()?),
            },
        })
    }
}
