//! A note of a dose that is sealed, where people register.
//!
//! ```text
//! u8  7                sealed
//! u8  which            as the first byte of the note
//! u64 key              the place of the person's key in the key table
//! u48 booking          0 of a dose that was given: its entry names the booking
//! u8  said             128: of which batch, 64: which product; below that the length of the batch's number
//! u8  product          if said
//! ... batch            if said; of no length if nobody knows
//! ...                  nonce, what else the note says, tag
//! ```
//! Before there was a ledger of supply this was 5, with a booking of eight bytes and no more in the open; it is read still.
//!
//! The head and the party are bound to what is sealed, so it can be put under no other. In the open stands what must be known also where
//! the key is gone: that a dose was given, of which batch, or revoked. A batch says nothing about a person, and a batch that is recalled
//! must be found when the keys are not at hand.

use std::io;

use berth_engine::{BookingNumber, PartyId, ProductId};

use super::Told;
use super::note::{BATCH_LEN_MAX, CORRECTED, DoseNote, GIVEN, REVOKED};

const SEALED_WHOLE: u8 = 5;
const SEALED: u8 = 7;
const WHOLE_HEAD_BYTES: usize = 1 + 1 + 8 + 8;
const KEY_BYTES: usize = 8;
const BOOKING_BYTES: usize = 6;
const BATCH_SAID: u8 = 128;
const PRODUCT_SAID: u8 = 64;
const LENGTH: u8 = 63;
const _: () = assert!(BATCH_LEN_MAX <= LENGTH as usize, "its length stands beside what is said");

/// A sealed note, as it stands in the journal.
pub(crate) struct Sealed<'a> {
    head: &'a [u8],
    which: u8,
    pub(super) key: u64,
    booking: BookingNumber,
    batch: Option<&'a str>,
    product: Option<ProductId>,
    pub(super) sealed: &'a [u8],
}

/// The bytes of a note of this party's, sealed by `seal`, which is given what is bound and what is to be sealed.
pub(crate) fn write(
    note: &DoseNote,
    key: u64,
    party: PartyId,
    seal: impl FnOnce(&[u8], &[u8]) -> io::Result<Vec<u8>>,
) -> io::Result<Vec<u8>> {
    let mut kept = note.clone();
    let (batch, product) = match &mut kept {
        DoseNote::Given { details, .. } => (Some(std::mem::take(&mut details.batch)), Some(details.product)),
        DoseNote::Corrected { correction, .. } => (correction.batch.as_mut().map(std::mem::take), correction.product),
        DoseNote::Revoked { .. } | DoseNote::Adverse { .. } => (None, None),
    };
    let bytes = kept.encode();
    let cut = || io::Error::other("a note without its head");
    let (which, rest) = bytes.split_first().ok_or_else(cut)?;
    let (booking, rest) = match *which {
        GIVEN => ([0; 8], rest),
        _ => rest.split_first_chunk::<8>().map(|(booking, rest)| (*booking, rest)).ok_or_else(cut)?,
    };
    let mut head = vec![SEALED, *which];
    head.extend(key.to_le_bytes());
    let (booking, high) = booking.split_at(BOOKING_BYTES);
    let len = batch.as_ref().map_or(0, String::len);
    if high != [0, 0] || len > BATCH_LEN_MAX {
        return Err(io::Error::other("a booking or a batch that has no room in a note"));
    }
    head.extend(booking);
    let len = u8::try_from(len).map_err(io::Error::other)?;
    let batch_said = if batch.is_some() { BATCH_SAID } else { 0 };
    let product_said = if product.is_some() { PRODUCT_SAID } else { 0 };
    head.push(batch_said | product_said | len);
    head.extend(product.map(|product| product.0));
    head.extend(batch.iter().flat_map(|batch| batch.bytes()));
    let sealed = seal(&bound(&head, party), rest)?;
    Ok([head, sealed].concat())
}

fn bound(head: &[u8], party: PartyId) -> Vec<u8> {
    [head, &party.0.to_le_bytes()].concat()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl<'a> Sealed<'a> {
    /// `None` if the bytes are no sealed note.
    pub(crate) fn split(note: &'a [u8]) -> Option<Sealed<'a>> {
        match *note.first()? {
            SEALED_WHOLE => {
                let (head, sealed) = note.split_at_checked(WHOLE_HEAD_BYTES)?;
                let (key, booking) = (number(head.get(2..10)?), BookingNumber(number(head.get(10..)?)));
                Some(Sealed { head, which: *head.get(1)?, key, booking, batch: None, product: None, sealed })
            }
            SEALED => {
                let (which, rest) = note.get(1..)?.split_first()?;
                let (key, rest) = rest.split_first_chunk::<KEY_BYTES>()?;
                let (booking, rest) = rest.split_first_chunk::<BOOKING_BYTES>()?;
                let (said, mut rest) = rest.split_first()?;
                let (mut batch, mut product) = (None, None);
                if said & PRODUCT_SAID != 0 {
                    let (number, more) = rest.split_first()?;
                    (product, rest) = (Some(ProductId(*number)), more);
                }
                if said & BATCH_SAID != 0 {
                    let (text, more) = rest.split_at_checked(usize::from(said & LENGTH))?;
                    (batch, rest) = (Some(std::str::from_utf8(text).ok()?), more);
                }
                let head = note.get(..note.len() - rest.len())?;
                let (key, booking) = (number(key), BookingNumber(number(booking)));
                Some(Sealed { head, which: *which, key, booking, batch, product, sealed: rest })
            }
            _ => None,
        }
    }

    /// Whether it was sealed before there was a ledger, and may say a batch: nobody finds the dose by it.
    pub(crate) fn hides_batch(&self) -> bool {
        self.head.first() == Some(&SEALED_WHOLE) && matches!(self.which, GIVEN | CORRECTED)
    }

    pub(crate) fn is_given(&self) -> bool {
        self.which == GIVEN
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.which == REVOKED
    }

    /// The booking of a dose that was corrected or revoked, or after which something happened.
    pub(crate) fn booking(&self) -> BookingNumber {
        self.booking
    }

    /// The batch, where the note says one: empty where nobody knows.
    pub(crate) fn batch(&self) -> Option<&'a str> {
        self.batch
    }

    /// The product, where the note says one.
    pub(crate) fn product(&self) -> Option<ProductId> {
        self.product
    }

    /// What it says was done to a dose that was on record before.
    pub(super) fn told(&self) -> Option<Told> {
        match self.which {
            CORRECTED => Some(Told::Corrected(self.booking)),
            REVOKED => Some(Told::Revoked(self.booking)),
            _ => None,
        }
    }

    /// What is bound to it, of a party.
    pub(super) fn bound(&self, party: PartyId) -> Vec<u8> {
        bound(self.head, party)
    }

    /// The note, once its text is there; without it as much as stands in the open.
    pub(super) fn note(&self, text: Option<&[u8]>) -> Option<DoseNote> {
        let Some(text) = text else {
            let revoked = || DoseNote::Revoked { booking: self.booking, reason: String::new(), author: String::new() };
            return self.is_revoked().then(revoked);
        };
        let booking = self.booking.0.to_le_bytes();
        let booking = if self.is_given() { &[][..] } else { &booking };
        let mut note = DoseNote::decode(&[&[self.which][..], booking, text].concat()).ok().flatten()?;
        if let Some(batch) = self.batch {
            match &mut note {
                DoseNote::Given { details, .. } => batch.clone_into(&mut details.batch),
                DoseNote::Corrected { correction, .. } => correction.batch = Some(batch.to_owned()),
                DoseNote::Revoked { .. } | DoseNote::Adverse { .. } => {}
            }
        }
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use berth_engine::{NOTE_BYTES_MAX, ProductId, TimestampMs};

    use super::super::note::{AUTHOR_LEN_MAX, STAFF_LEN_MAX, WORD_LEN_MAX};
    use super::super::{Correction, Details};
    use super::*;

    /// Nonce and tag.
    const SEAL_BYTES: usize = 12 + 16;

    fn plainly(bound: &[u8], text: &[u8]) -> io::Result<Vec<u8>> {
        assert!(bound.len() >= 1 + 1 + KEY_BYTES + BOOKING_BYTES + 1 + 4);
        Ok([&[7; SEAL_BYTES][..], text].concat())
    }

    #[test]
    fn the_longest_note_fits_an_entry_and_reads_back() {
        let text = |len| "x".repeat(len);
        let (batch, site, vaccinator) = (text(BATCH_LEN_MAX), text(WORD_LEN_MAX), text(STAFF_LEN_MAX));
        let (author, booking) = (text(AUTHOR_LEN_MAX), BookingNumber((1 << 48) - 1));
        let correction = Correction {
            given_at: Some(TimestampMs(1)),
            product: Some(ProductId(9)),
            batch: Some(batch.clone()),
            site: Some(site.clone()),
            vaccinator: Some(vaccinator.clone()),
        };
        let details = Details { given_at: TimestampMs(1), product: ProductId(9), batch, site, vaccinator };
        for note in [
            DoseNote::Given { details, author: author.clone() },
            DoseNote::Corrected { booking, correction, reason: text(WORD_LEN_MAX), author: author.clone() },
            DoseNote::Revoked { booking, reason: text(WORD_LEN_MAX), author },
        ] {
            let bytes = write(&note, u64::MAX, PartyId(3), plainly).unwrap();
            assert!(bytes.len() <= NOTE_BYTES_MAX, "{}", bytes.len());
            let sealed = Sealed::split(&bytes).unwrap();
            assert_eq!((sealed.key, sealed.note(Some(&sealed.sealed[SEAL_BYTES..]))), (u64::MAX, Some(note.clone())));
            assert_eq!(sealed.note(None).is_some(), matches!(note, DoseNote::Revoked { .. }));
            assert_ne!(sealed.bound(PartyId(3)), sealed.bound(PartyId(4)));
            assert_eq!(DoseNote::decode(&bytes), Ok(None), "nobody takes it for one in the open");
        }
        assert!(Sealed::split(&[SEALED_WHOLE; WHOLE_HEAD_BYTES - 1]).is_none() && Sealed::split(&[1; 40]).is_none());
        let far = write(&revoked(BookingNumber(1 << 48)), 5, PartyId(3), plainly);
        assert!(far.is_err(), "a number that does not fit is not cut");
    }

    fn revoked(booking: BookingNumber) -> DoseNote {
        DoseNote::Revoked { booking, reason: "typo".to_owned(), author: String::new() }
    }

    #[test]
    fn the_batch_stands_in_the_open_and_nothing_else_of_the_dose() {
        let details = Details { product: ProductId(2), batch: "4120Z001".to_owned(), ..Details::default() };
        let given = DoseNote::Given { details, author: "operator:c1".to_owned() };
        let hidden = |_: &[u8], text: &[u8]| Ok(vec![7; SEAL_BYTES + text.len()]);
        let bytes = write(&given, 5, PartyId(3), hidden).unwrap();
        let sealed = Sealed::split(&bytes).unwrap();
        assert_eq!((sealed.batch(), sealed.product()), (Some("4120Z001"), Some(ProductId(2))));
        assert!(!bytes.windows(4).any(|part| part == b"oper"));
        let correction = Correction { site: Some("left_arm".to_owned()), ..Correction::default() };
        let (booking, text) = (BookingNumber(9), String::new);
        let note = DoseNote::Corrected { booking, correction, reason: text(), author: text() };
        let bytes = write(&note, 5, PartyId(3), hidden).unwrap();
        let sealed = Sealed::split(&bytes).unwrap();
        assert_eq!((sealed.batch(), sealed.product(), sealed.booking()), (None, None, booking));
        for cut in 0..bytes.len() - SEAL_BYTES {
            assert!(Sealed::split(&bytes[..cut]).is_none_or(|cut| cut.sealed.len() < SEAL_BYTES + 9));
        }
    }

    #[test]
    fn a_note_of_before_the_ledger_is_read_still() {
        let note = revoked(BookingNumber(9));
        let text = note.encode();
        let mut bytes = vec![SEALED_WHOLE, REVOKED];
        bytes.extend(5u64.to_le_bytes());
        bytes.extend(9u64.to_le_bytes());
        bytes.extend(&text[9..]);
        let sealed = Sealed::split(&bytes).unwrap();
        assert_eq!((sealed.key, sealed.batch(), sealed.note(Some(&text[9..]))), (5, None, Some(note)));
        assert_eq!(sealed.bound(PartyId(3)), [&bytes[..WHOLE_HEAD_BYTES], &3u32.to_le_bytes()].concat());
    }
}
