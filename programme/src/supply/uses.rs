//! Which dose was of which batch: what a note says of that in the open, and the rows by which the one is found by the other.
//!
//! ```text
//! supply.doses   batch, 0, centre, 0, booking (8, big end first)  ->  party (4), day of the session (2), product, 1 if it stands
//! supply.uses    booking (8, big end first)                       ->  1 if it stands, product, batch
//! ```

use berth_engine::{BookingNumber, PartyId, ProductId};

use super::tables::{below, damaged, split, within};
use crate::doses::DoseNote;
use crate::doses::sealed::Sealed;
use crate::store::{StoreError, Table};

/// The table of doses by batch.
pub(super) const DOSES: &str = "supply.doses";
/// The table of batches by dose.
pub(super) const USES: &str = "supply.uses";

/// What a dose was of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The batch; empty where nobody said.
    pub batch: String,
    /// The product.
    pub product: ProductId,
    /// Whether it stands.
    pub valid: bool,
}

impl Use {
    pub(super) fn bytes(&self) -> Vec<u8> {
        [&[u8::from(self.valid), self.product.0][..], self.batch.as_bytes()].concat()
    }

    fn read(row: &[u8]) -> Option<Use> {
        let [valid, product, batch @ ..] = row else { return None };
        let batch = String::from_utf8(batch.to_vec()).ok()?;
        Some(Use { batch, product: ProductId(*product), valid: *valid == 1 })
    }
}

/// A dose of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The booking that it was given on.
    pub booking: BookingNumber,
    /// The party that it was given to, whose record may have gone to another's since.
    pub party: PartyId,
    /// Where.
    pub centre: String,
    /// The day of its session.
    pub day: u16,
    /// What.
    pub product: ProductId,
    /// Whether it stands.
    pub valid: bool,
}

pub(super) fn key(batch: &str, centre: &str, booking: BookingNumber) -> Vec<u8> {
    below(batch, &below(centre, &booking.0.to_be_bytes()))
}

pub(super) fn row(party: PartyId, day: u16, of: &Use) -> [u8; 8] {
    let ([p0, p1, p2, p3], [d0, d1]) = (party.0.to_le_bytes(), day.to_le_bytes());
    [p0, p1, p2, p3, d0, d1, of.product.0, u8::from(of.valid)]
}

fn traced(key: &[u8], row: &[u8]) -> Option<Traced> {
    let (_, rest) = split(key)?;
    let (centre, booking) = split(rest)?;
    let booking = BookingNumber(u64::from_be_bytes(booking.try_into().ok()?));
    let [p0, p1, p2, p3, d0, d1, product, valid] = *row else { return None };
    let (party, day) = (PartyId(u32::from_le_bytes([p0, p1, p2, p3])), u16::from_le_bytes([d0, d1]));
    Some(Traced { booking, party, centre: centre.to_owned(), day, product: ProductId(product), valid: valid == 1 })
}

/// What a dose was of.
pub(super) fn of(uses: &Table, booking: BookingNumber) -> Result<Option<Use>, StoreError> {
    let row = uses.get(&booking.0.to_be_bytes())?;
    row.map(|row| Use::read(&row).ok_or_else(damaged)).transpose()
}

/// The doses of a batch behind this place, at one centre or at all, by centre and booking: what is read is what is asked for.
pub(super) fn of_batch(
    doses: &Table,
    batch: &str,
    centre: Option<&str>,
    after: Option<(&str, BookingNumber)>,
) -> impl Iterator<Item = Result<Traced, StoreError>> + use<> {
    let prefix = match centre {
        Some(centre) => below(batch, &below(centre, b"")),
        None => below(batch, b""),
    };
    let start = match after {
        // The place behind it in the order of the keys.
        Some((centre, booking)) => [key(batch, centre, booking), vec![0]].concat(),
        None => prefix.clone(),
    };
    within(doses, prefix, &start).map(|row| {
        let (key, row) = row?;
        traced(&key, &row).ok_or_else(damaged)
    })
}

/// What the note of a dose that was given says in the open: its batch, and its product where it is told.
pub(super) fn given(note: &[u8]) -> (String, Option<ProductId>) {
    if let Some(sealed) = Sealed::split(note) {
        return (sealed.batch().unwrap_or_default().to_owned(), sealed.product());
    }
    match DoseNote::decode(note) {
        Ok(Some(DoseNote::Given { details, .. })) => (details.batch, Some(details.product)),
        _ => (String::new(), None),
    }
}

/// Whether a note that says what a dose was of was sealed whole, before there was a ledger.
pub(super) fn is_of_before(note: &[u8]) -> bool {
    Sealed::split(note).is_some_and(|sealed| sealed.hides_batch())
}

/// What comes after a dose and is of supply.
pub(super) enum Later {
    Corrected { booking: BookingNumber, batch: Option<String>, product: Option<ProductId> },
    Revoked { booking: BookingNumber },
}

/// What a later note says in the open.
pub(super) fn later(note: &[u8]) -> Option<Later> {
    if let Some(sealed) = Sealed::split(note) {
        let (booking, batch, product) = (sealed.booking(), sealed.batch(), sealed.product());
        if sealed.is_revoked() {
            return Some(Later::Revoked { booking });
        }
        let said = batch.is_some() || product.is_some();
        return said.then(|| Later::Corrected { booking, batch: batch.map(str::to_owned), product });
    }
    match DoseNote::decode(note) {
        Ok(Some(DoseNote::Corrected { booking, correction, .. })) => {
            let (batch, product) = (correction.batch, correction.product);
            (batch.is_some() || product.is_some()).then_some(Later::Corrected { booking, batch, product })
        }
        Ok(Some(DoseNote::Revoked { booking, .. })) => Some(Later::Revoked { booking }),
        _ => None,
    }
}
