//! What a snapshot's chunks say, record by record. docs/journal-format.md has the bytes.

use crate::booking::{OFFERED, State};
use crate::command::{Claim, PartyFacts};
use crate::ids::{BookingNumber, Dose, IdempotencyKey, PartyId, ProductId, ProgrammeId, Seq, SlotId};
use crate::journal::Entry;
use crate::journal::snapshot::ChunkKind;
use crate::units::{TimestampMs, Units};

/// A hold or booking as a snapshot keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookingRecord {
    /// Its number.
    pub number: BookingNumber,
    /// Its state when it was scanned.
    pub state: State,
    /// Who, where, which dose.
    pub claim: Claim,
    /// The slot's programme.
    pub programme: ProgrammeId,
    /// Its place in its group, from 0.
    pub group_index: u8,
    /// How many are in the group.
    pub group_len: u8,
    /// Whether it was offered.
    pub offered: bool,
    /// The hold's deadline; 0 for one booked in one step.
    pub expires_at: TimestampMs,
    /// Successor of a moved booking, or predecessor.
    pub link: Option<BookingNumber>,
    /// The entry that last changed it.
    pub seq: Seq,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry of the catalogue: `published` or `note`.
    Catalogue(Seq, Box<Entry>),
    /// The next `count` parties have these facts.
    Parties {
        /// How many.
        count: u32,
        /// What the policy knows of each.
        facts: PartyFacts,
    },
    /// A slot that was changed since it was published.
    Slot {
        /// Which.
        slot: SlotId,
        /// Units on sale.
        capacity: Units,
        /// Whether new claims are taken.
        open: bool,
    },
    /// A hold or booking.
    Booking(BookingRecord),
    /// An idempotency key that had an effect.
    Key {
        /// The key, as the engine knows it.
        key: IdempotencyKey,
        /// The fingerprint of its request.
        fingerprint: u64,
        /// When the request was judged.
        at: TimestampMs,
        /// The entry it led to.
        seq: Seq,
    },
    /// The last chunk.
    End(Totals),
}

/// What the last chunk says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// No record has seen a later entry.
    pub s1: Seq,
    /// Parties.
    pub parties: u64,
    /// Booking numbers given out.
    pub bookings_end: u64,
    /// Keys.
    pub keys: u64,
    /// Entries of the catalogue.
    pub catalogue: u64,
}

/// Calls `each` for every record of a chunk. Allocates nothing that the bytes do not hold.
///
/// # Errors
/// What is wrong with the bytes. Never panics, whatever they are.
pub fn records(
    kind: ChunkKind,
    count: u32,
    payload: &[u8],
    each: &mut dyn FnMut(Record) -> Result<(), String>,
) -> Result<(), String> {
    let mut rest = payload;
    let mut number = 0;
    if kind == ChunkKind::Bookings {
        number = u64::from_le_bytes(take(&mut rest)?);
    }
    for _ in 0..count {
        match kind {
            ChunkKind::Catalogue => {
                let seq = Seq(u64::from_le_bytes(take(&mut rest)?));
                let (entry, len) = Entry::decode(rest).map_err(|error| error.to_string())?;
                rest = &rest[len..];
                each(Record::Catalogue(seq, Box::new(entry)))?;
            }
            ChunkKind::Parties => each(parties(take(&mut rest)?))?,
            ChunkKind::Slots => {
                let slot = SlotId(u32::from_le_bytes(take(&mut rest)?));
                let state = u32::from_le_bytes(take(&mut rest)?);
                let capacity =
                    Units::new(state & !(1 << 31)).ok_or_else(|| format!("slot {slot}: capacity {state}"))?;
                each(Record::Slot { slot, capacity, open: state >> 31 == 1 })?;
            }
            ChunkKind::Bookings => {
                if let Some(record) = booking(BookingNumber(number), take(&mut rest)?)? {
                    each(Record::Booking(record))?;
                }
                number = number.checked_add(1).ok_or("a booking number past the end")?;
            }
            ChunkKind::Keys => {
                let [low, high, at, kind_seq, fingerprint, _] = words(take::<48>(&mut rest)?);
                if !(1..=15).contains(&(kind_seq >> 60)) {
                    return Err("a key without an outcome".to_owned());
                }
                let key = IdempotencyKey(u128::from(low) | u128::from(high) << 64);
                let (at, seq) = (TimestampMs(at), Seq(kind_seq & ((1 << 60) - 1)));
                each(Record::Key { key, fingerprint, at, seq })?;
            }
            ChunkKind::End => {
                let [s1, parties, bookings_end, keys, catalogue] = words(take::<40>(&mut rest)?);
                each(Record::End(Totals { s1: Seq(s1), parties, bookings_end, keys, catalogue }))?;
            }
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes behind the last record", rest.len())) }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (taken, behind) = rest.split_first_chunk::<N>().ok_or("a record is cut short")?;
    *rest = behind;
    Ok(*taken)
}

fn words<const BYTES: usize, const N: usize>(bytes: [u8; BYTES]) -> [u64; N] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|index| u64::from_le_bytes(words[index]))
}

fn parties(bytes: [u8; 14]) -> Record {
    let [a, b, c, d, year_low, year_high, e, f, g, h, doses, product, day_low, day_high] = bytes;
    let facts = PartyFacts {
        birth_year: u16::from_le_bytes([year_low, year_high]),
        cohorts: u32::from_le_bytes([e, f, g, h]),
        doses,
        product: ProductId(product),
        last_dose_day: u16::from_le_bytes([day_low, day_high]),
    };
    Record::Parties { count: u32::from_le_bytes([a, b, c, d]), facts }
}

/// `None` for a number that was given out and never written.
fn booking(number: BookingNumber, bytes: [u8; 40]) -> Result<Option<BookingRecord>, String> {
    let [status, who_where, expires_at, link, seq] = words(bytes);
    if status == 0 {
        return Ok(None);
    }
    let [state, dose, group_index, group_len, programme_low, programme_high, _, _] = status.to_le_bytes();
    let (offered, group_len) = (group_len & OFFERED != 0, group_len & !OFFERED);
    let [p0, p1, p2, p3, s0, s1, s2, s3] = who_where.to_le_bytes();
    let state = usize::from(state).checked_sub(1).and_then(|code| State::ALL.get(code)).copied();
    let state = state.ok_or_else(|| format!("booking {number} has no state"))?;
    if group_index >= group_len || u64::from(group_index) > number.0 {
        return Err(format!("booking {number} is {group_index} of a group of {group_len}"));
    }
    Ok(Some(BookingRecord {
        number,
        state,
        claim: Claim {
            party: PartyId(u32::from_le_bytes([p0, p1, p2, p3])),
            slot: SlotId(u32::from_le_bytes([s0, s1, s2, s3])),
            dose: Dose(dose),
        },
        programme: ProgrammeId(u16::from_le_bytes([programme_low, programme_high])),
        group_index,
        group_len,
        offered,
        expires_at: TimestampMs(expires_at),
        link: link.checked_sub(1).map(BookingNumber),
        seq: Seq(seq),
    }))
}
