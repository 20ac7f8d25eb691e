//! A note of a dose that is sealed, where people register.
//!
//! ```text
//! u8  5                sealed
//! u8  which            as the first byte of the note
//! u64 key              the place of the person's key in the key table
//! u64 booking          0 of a dose that was given: its entry names the booking
//! ...                  nonce, what else the note says, tag
//! ```
//! The head and the party are bound to what is sealed, so it can be put under no other. In the open stands what must be known also where
//! the key is gone: that a dose was given, or revoked.

use std::io;

use berth_engine::{BookingNumber, PartyId};

use super::note::{DoseNote, GIVEN, REVOKED};

const SEALED: u8 = 5;
const HEAD_BYTES: usize = 1 + 1 + 8 + 8;

/// A sealed note, as it stands in the journal.
pub(super) struct Sealed<'a> {
    head: &'a [u8; HEAD_BYTES],
    which: u8,
    pub(super) key: u64,
    booking: BookingNumber,
    pub(super) sealed: &'a [u8],
}

/// The bytes of a note of this party's, sealed by `seal`, which is given what is bound and what is to be sealed.
pub(crate) fn write(
    note: &DoseNote,
    key: u64,
    party: PartyId,
    seal: impl FnOnce(&[u8], &[u8]) -> io::Result<Vec<u8>>,
) -> io::Result<Vec<u8>> {
    let bytes = note.encode();
    let cut = || io::Error::other("a note without its head");
    let (which, rest) = bytes.split_first().ok_or_else(cut)?;
    let (booking, rest) = match *which {
        GIVEN => ([0; 8], rest),
        _ => rest.split_first_chunk::<8>().map(|(booking, rest)| (*booking, rest)).ok_or_else(cut)?,
    };
    let mut head = [0; HEAD_BYTES];
    (head[0], head[1]) = (SEALED, *which);
    head[2..10].copy_from_slice(&key.to_le_bytes());
    head[10..].copy_from_slice(&booking);
    Ok([&head[..], &seal(&bound(&head, party), rest)?].concat())
}

fn bound(head: &[u8; HEAD_BYTES], party: PartyId) -> Vec<u8> {
    [&head[..], &party.0.to_le_bytes()].concat()
}

impl<'a> Sealed<'a> {
    /// `None` if the bytes are no sealed note.
    pub(super) fn split(note: &'a [u8]) -> Option<Sealed<'a>> {
        let (head, sealed) = note.split_first_chunk::<HEAD_BYTES>()?;
        let [SEALED, which, ..] = *head else { return None };
        let number = |at: usize| head.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        Some(Sealed { head, which, key: number(2)?, booking: BookingNumber(number(10)?), sealed })
    }

    pub(super) fn is_given(&self) -> bool {
        self.which == GIVEN
    }

    /// What is bound to it, of a party.
    pub(super) fn bound(&self, party: PartyId) -> Vec<u8> {
        bound(self.head, party)
    }

    /// The note, once its text is there; without it as much as stands in the open.
    pub(super) fn note(&self, text: Option<&[u8]>) -> Option<DoseNote> {
        let Some(text) = text else {
            let revoked = || DoseNote::Revoked { booking: self.booking, reason: String::new(), author: String::new() };
            return (self.which == REVOKED).then(revoked);
        };
        let booking = self.booking.0.to_le_bytes();
        let booking = if self.is_given() { &[][..] } else { &booking };
        DoseNote::decode(&[&[self.which][..], booking, text].concat()).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use berth_engine::{NOTE_BYTES_MAX, ProductId, TimestampMs};

    use super::super::note::{AUTHOR_LEN_MAX, BATCH_LEN_MAX, STAFF_LEN_MAX, WORD_LEN_MAX};
    use super::super::{Correction, Details};
    use super::*;

    /// Nonce and tag.
    const SEAL_BYTES: usize = 12 + 16;

    fn plainly(bound: &[u8], text: &[u8]) -> io::Result<Vec<u8>> {
        assert_eq!(bound.len(), HEAD_BYTES + 4);
        Ok([&[7; SEAL_BYTES][..], text].concat())
    }

    #[test]
    fn the_longest_note_fits_an_entry_and_reads_back() {
        let text = |len| "x".repeat(len);
        let (batch, site, vaccinator) = (text(BATCH_LEN_MAX), text(WORD_LEN_MAX), text(STAFF_LEN_MAX));
        let (author, booking) = (text(AUTHOR_LEN_MAX), BookingNumber(u64::MAX));
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
            let bytes = write(&note, 5, PartyId(3), plainly).unwrap();
            assert!(bytes.len() <= NOTE_BYTES_MAX, "{}", bytes.len());
            let sealed = Sealed::split(&bytes).unwrap();
            assert_eq!((sealed.key, sealed.note(Some(&sealed.sealed[SEAL_BYTES..]))), (5, Some(note.clone())));
            assert_eq!(sealed.note(None).is_some(), matches!(note, DoseNote::Revoked { .. }));
            assert_ne!(sealed.bound(PartyId(3)), sealed.bound(PartyId(4)));
            assert_eq!(DoseNote::decode(&bytes), Ok(None), "nobody takes it for one in the open");
        }
        assert!(Sealed::split(&[SEALED; HEAD_BYTES - 1]).is_none() && Sealed::split(&[1; 40]).is_none());
    }
}
