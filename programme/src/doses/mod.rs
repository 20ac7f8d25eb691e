//! Doses: what was given to whom, with all that was corrected, revoked and noted since.
//!
//! A dose is a booking that was completed, so there is none without a check-in; the engine knows of it what its policy needs, and the
//! rest is noted in the same entry ([`note`]). The details lie in the [store](crate::store), a projection of the journal: one row for each entry
//! about a dose, by party. What they come to is made when it is asked for ([`history`]), and never edited.

pub mod history;
pub mod note;
pub(crate) mod sealed;

use std::sync::{Arc, OnceLock};

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::{BookingNumber, Engine, PartyId, ProductId, Seq, TimestampMs};

pub use self::history::{CannotChange, DoseRecord, Line, Noted};
pub use self::note::{AdverseEvent, Correction, Details, DoseNote, Severity};
use self::sealed::Sealed;
use crate::store::{Change, Projection, Store, StoreError, Table};

/// Rows by party and entry.
const TABLE: &str = "doses.lines";
const BARE: u8 = 15;
const LATER: u8 = 19;
const GIVEN: u8 = 21;
/// As [`GIVEN`], and sealed: booking and product stand before it.
const SEALED: u8 = 22;

/// Who has the keys of people, where they register: what is noted of their doses is sealed.
pub trait NoteKeys: Send + Sync {
    /// The bytes of a note of this party's, sealed; `None` if nothing is kept of it.
    ///
    /// # Errors
    /// Its key cannot be had.
    fn seal(&self, party: PartyId, note: &DoseNote) -> Result<Option<Vec<u8>>, StoreError>;

    /// What was sealed under this key, which is the party's own or that of one whose record went to it; `None` once it is destroyed.
    ///
    /// # Errors
    /// It cannot be read, or was changed.
    fn open(&self, owner: PartyId, key: u64, bound: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Who a party is, after whatever merges.
    ///
    /// # Errors
    /// It cannot be read.
    fn owner(&self, party: PartyId) -> Result<PartyId, StoreError>;

    /// Everybody whose record went to this party.
    ///
    /// # Errors
    /// It cannot be read.
    fn had(&self, party: PartyId) -> Result<Vec<PartyId>, StoreError>;
}

/// The doses of a cell.
pub struct Doses {
    engine: Arc<Engine>,
    table: Table,
    keys: OnceLock<Arc<dyn NoteKeys>>,
}

impl Doses {
    /// The table of doses in this store.
    ///
    /// # Errors
    /// The database cannot make it.
    pub fn open(engine: Arc<Engine>, store: &Store) -> Result<Doses, StoreError> {
        Ok(Doses { engine, table: store.table(TABLE)?, keys: OnceLock::new() })
    }

    /// From now on what is noted is sealed: to be called before anything is asked.
    pub fn seal_with(&self, keys: Arc<dyn NoteKeys>) {
        // Whoever came first stays: there is one key table.
        let _ = self.keys.set(keys);
    }

    /// The bytes of a note, sealed where the party is somebody who has registered.
    ///
    /// # Errors
    /// Its key cannot be had.
    pub fn bytes(&self, party: PartyId, note: &DoseNote) -> Result<Vec<u8>, StoreError> {
        let sealed = self.keys.get().map(|keys| keys.seal(party, note)).transpose()?.flatten();
        Ok(sealed.unwrap_or_else(|| note.encode()))
    }

    /// Whose doses those of this party are: its own, or those of who its record went to.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn owner(&self, party: PartyId) -> Result<PartyId, StoreError> {
        self.keys.get().map_or(Ok(party), |keys| keys.owner(party))
    }

    /// A party and everybody whose record went to it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn family(&self, party: PartyId) -> Result<Vec<PartyId>, StoreError> {
        let had = self.keys.get().map(|keys| keys.had(party)).transpose()?.unwrap_or_default();
        Ok(had.into_iter().chain([party]).collect())
    }

    /// Every entry about doses of this party, and of those whose record went to it, in order, as far as the store has come: await [`Store::reached`] first.
    ///
    /// # Errors
    /// The store cannot be read, or keeps what nobody wrote.
    pub fn lines(&self, party: PartyId) -> Result<Vec<Line>, StoreError> {
        let mut lines = Vec::new();
        for of in self.family(party)? {
            for row in self.table.scan(&of.0.to_be_bytes()) {
                let (key, value) = row?;
                lines.extend(self.line(of, party, &key, &value)?);
            }
        }
        lines.sort_by_key(|line: &Line| line.seq);
        Ok(lines)
    }

    /// A row, as it is told: nothing of what was noted once its key is destroyed, but that there was a dose.
    fn line(&self, of: PartyId, owner: PartyId, key: &[u8], value: &[u8]) -> Result<Option<Line>, StoreError> {
        let broken = || StoreError::Broken(format!("a row of doses of party {of}"));
        let row = row(key, value).ok_or_else(broken)?;
        let told = |note| Some(Line { seq: row.seq, at: row.at, of, note });
        let sealed = match row.what {
            Row::Open(note) => return Ok(told(note)),
            Row::SealedGiven { ref sealed, .. } | Row::SealedLater(ref sealed) => sealed,
        };
        let opened = match self.keys.get() {
            Some(keys) => keys.open(owner, sealed.key, &sealed.bound(of), sealed.sealed)?,
            None => None,
        };
        let note = match (&opened, sealed.note(opened.as_deref())) {
            (Some(_), None) => return Err(broken()),
            (_, note) => note,
        };
        Ok(match (row.what, note) {
            (Row::SealedGiven { booking, .. }, Some(DoseNote::Given { details, author })) => {
                told(Noted::Given { booking, details, author })
            }
            (Row::SealedGiven { booking, product, .. }, _) => told(Noted::Bare { booking, product }),
            (_, note) => note.and_then(|note| told(Noted::Later(note))),
        })
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
                if Sealed::split(note).is_some_and(|sealed| sealed.is_given()) {
                    let rest = [&[SEALED][..], &booking.0.to_le_bytes(), &[given.product.0], note].concat();
                    return self.put(change, self.party_of(*booking, seq)?, seq, entry, &rest);
                }
                let rest = match noted(seq, note)? {
                    Some(DoseNote::Given { .. }) => [&[GIVEN][..], &booking.0.to_le_bytes(), note].concat(),
                    // Of somebody who embeds the engine and notes something of their own.
                    _ => [&[BARE][..], &booking.0.to_le_bytes(), &[given.product.0]].concat(),
                };
                (self.party_of(*booking, seq)?, rest)
            }
            Event::FactsChanged { party, note, .. } if Sealed::split(note).is_some() => {
                (*party, [&[LATER][..], note].concat())
            }
            Event::FactsChanged { party, note, .. } => match noted(seq, note)? {
                Some(_) => (*party, [&[LATER][..], note].concat()),
                // What is known of a party changes for other reasons, too.
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        self.put(change, party, seq, entry, &rest)
    }
}

impl Doses {
    fn put(&self, change: &mut Change, party: PartyId, seq: Seq, entry: &Entry, rest: &[u8]) -> Result<(), StoreError> {
        let value = [&entry.at.0.to_le_bytes()[..], rest].concat();
        row(&key(party, seq), &value).ok_or_else(|| StoreError::Broken(format!("journal entry {seq} of a dose")))?;
        change.put(&self.table, &key(party, seq), &value);
        Ok(())
    }

    /// Whose booking it is: never changes, and is written before any entry that names the booking.
    fn party_of(&self, booking: BookingNumber, seq: Seq) -> Result<PartyId, StoreError> {
        let claimed = self.engine.claimed(booking);
        let unknown =
            || StoreError::Broken(format!("journal entry {seq} names booking {booking}, which has no record"));
        claimed.map(|(claim, _)| claim.party).ok_or_else(unknown)
    }
}

/// What was done to a dose that was on record before, as it stands in the open.
pub(crate) enum Told {
    Corrected(BookingNumber),
    Revoked(BookingNumber),
}

/// What a note says was done to a dose; `None` if it is of something else.
pub(crate) fn told(note: &[u8]) -> Option<Told> {
    if let Some(sealed) = Sealed::split(note) {
        return sealed.told();
    }
    match DoseNote::decode(note).ok()?? {
        DoseNote::Corrected { booking, .. } => Some(Told::Corrected(booking)),
        DoseNote::Revoked { booking, .. } => Some(Told::Revoked(booking)),
        DoseNote::Given { .. } | DoseNote::Adverse { .. } => None,
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

/// A row as it lies there.
struct Stored<'a> {
    seq: Seq,
    at: TimestampMs,
    what: Row<'a>,
}

enum Row<'a> {
    Open(Noted),
    SealedGiven { booking: BookingNumber, product: ProductId, sealed: Sealed<'a> },
    SealedLater(Sealed<'a>),
}

fn row<'a>(key: &[u8], value: &'a [u8]) -> Option<Stored<'a>> {
    let seq = Seq(u64::from_be_bytes(*key.get(4..)?.first_chunk()?));
    let (at, rest) = value.split_first_chunk::<8>()?;
    let at = TimestampMs(u64::from_le_bytes(*at));
    let (kind, rest) = rest.split_first()?;
    let booking =
        || rest.split_first_chunk::<8>().map(|(number, rest)| (BookingNumber(u64::from_le_bytes(*number)), rest));
    let what = match *kind {
        BARE => {
            let (booking, rest) = booking()?;
            let [product] = rest else { return None };
            Row::Open(Noted::Bare { booking, product: ProductId(*product) })
        }
        GIVEN => {
            let (booking, note) = booking()?;
            let DoseNote::Given { details, author } = DoseNote::decode(note).ok()?? else { return None };
            Row::Open(Noted::Given { booking, details, author })
        }
        SEALED => {
            let (booking, rest) = booking()?;
            let (product, note) = rest.split_first()?;
            Row::SealedGiven { booking, product: ProductId(*product), sealed: Sealed::split(note)? }
        }
        LATER => match Sealed::split(rest) {
            Some(sealed) => Row::SealedLater(sealed),
            None => Row::Open(Noted::Later(DoseNote::decode(rest).ok()??)),
        },
        _ => return None,
    };
    Some(Stored { seq, at, what })
}
