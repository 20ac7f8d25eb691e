//! Doses: what was given to whom, with all that was corrected, revoked and noted since.
//!
//! A dose is a booking that was completed, so there is none without a check-in; the engine knows of it what its policy needs, and the
//! rest is noted in the same entry ([`note`]). The details lie in the [store](crate::store), a projection of the journal: one row for each entry
//! about a dose, by party. What they come to is made when it is asked for ([`history`]), and never edited.

pub mod history;
pub mod note;

use std::sync::Arc;

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::{BookingNumber, Engine, PartyId, ProductId, Seq, TimestampMs};

pub use self::history::{CannotChange, DoseRecord, Line, Noted};
pub use self::note::{AdverseEvent, Correction, Details, DoseNote, Severity};
use crate::store::{Change, Projection, Store, StoreError, Table};

/// Rows by party and entry.
const TABLE: &str = "doses.lines";
const BARE: u8 = 15;
const LATER: u8 = 19;
const GIVEN: u8 = 21;

/// The doses of a cell.
pub struct Doses {
    engine: Arc<Engine>,
    table: Table,
}

impl Doses {
    /// The table of doses in this store.
    ///
    /// # Errors
    /// The database cannot make it.
    pub fn open(engine: Arc<Engine>, store: &Store) -> Result<Doses, StoreError> {
        Ok(Doses { engine, table: store.table(TABLE)? })
    }

    /// Every entry about doses of this party, in order, as far as the store has come: await [`Store::reached`] first.
    ///
    /// # Errors
    /// The store cannot be read, or keeps what nobody wrote.
    pub fn lines(&self, party: PartyId) -> Result<Vec<Line>, StoreError> {
        self.table
            .scan(&party.0.to_be_bytes())
            .map(|row| {
                let (key, value) = row?;
                line(&key, &value).ok_or_else(|| StoreError::Broken(format!("a row of doses of party {party}")))
            })
            .collect()
    }

    /// What they come to.
    ///
    /// # Errors
    /// As [`Doses::lines`].
    pub fn records(&self, party: PartyId) -> Result<Vec<DoseRecord>, StoreError> {
        Ok(history::records(&self.lines(party)?))
    }
}

impl Projection for Doses {
    fn apply(&self, change: &mut Change, seq: Seq, entry: &Entry) -> Result<(), StoreError> {
        let (party, rest) = match &entry.event {
            Event::Completed { booking, given } => {
                let rest = [&[BARE][..], &booking.0.to_le_bytes(), &[given.product.0]].concat();
                (self.party_of(*booking, seq)?, rest)
            }
            Event::CompletedNoted { booking, given, note } => {
                let rest = match noted(seq, note)? {
                    Some(DoseNote::Given { .. }) => [&[GIVEN][..], &booking.0.to_le_bytes(), note].concat(),
                    // Of somebody who embeds the engine and notes something of their own.
                    _ => [&[BARE][..], &booking.0.to_le_bytes(), &[given.product.0]].concat(),
                };
                (self.party_of(*booking, seq)?, rest)
            }
            Event::FactsChanged { party, note, .. } => match noted(seq, note)? {
                Some(_) => (*party, [&[LATER][..], note].concat()),
                // What is known of a party changes for other reasons, too.
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        let value = [&entry.at.0.to_le_bytes()[..], &rest].concat();
        line(&key(party, seq), &value).ok_or_else(|| StoreError::Broken(format!("journal entry {seq} of a dose")))?;
        change.put(&self.table, &key(party, seq), &value);
        Ok(())
    }
}

impl Doses {
    /// Whose booking it is: never changes, and is written before any entry that names the booking.
    fn party_of(&self, booking: BookingNumber, seq: Seq) -> Result<PartyId, StoreError> {
        let claimed = self.engine.claimed(booking);
        let unknown =
            || StoreError::Broken(format!("journal entry {seq} names booking {booking}, which has no record"));
        claimed.map(|(claim, _)| claim.party).ok_or_else(unknown)
    }
}

fn noted(seq: Seq, note: &[u8]) -> Result<Option<DoseNote>, StoreError> {
    DoseNote::decode(note).map_err(|bad| StoreError::Broken(format!("journal entry {seq}: {bad}")))
}

fn key(party: PartyId, seq: Seq) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&party.0.to_be_bytes());
    key[4..].copy_from_slice(&seq.0.to_be_bytes());
    key
}

fn line(key: &[u8], value: &[u8]) -> Option<Line> {
    let seq = Seq(u64::from_be_bytes(*key.get(4..)?.first_chunk()?));
    let (at, rest) = value.split_first_chunk::<8>()?;
    let at = TimestampMs(u64::from_le_bytes(*at));
    let (kind, rest) = rest.split_first()?;
    let booking =
        || rest.split_first_chunk::<8>().map(|(number, rest)| (BookingNumber(u64::from_le_bytes(*number)), rest));
    let note = match *kind {
        BARE => {
            let (booking, rest) = booking()?;
            let [product] = rest else { return None };
            Noted::Bare { booking, product: ProductId(*product) }
        }
        GIVEN => {
            let (booking, note) = booking()?;
            let DoseNote::Given { details, author } = DoseNote::decode(note).ok()?? else { return None };
            Noted::Given { booking, details, author }
        }
        LATER => Noted::Later(DoseNote::decode(rest).ok()??),
        _ => return None,
    };
    Some(Line { seq, at, note })
}
