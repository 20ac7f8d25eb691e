//! The campaign's people: accounts, who is in them, what is kept of each, and how it is forgotten.
//!
//! The engine knows a party by its number and its year of birth. Everything else lies here, sealed under a key of its own for each person
//! and each account: in the journal (a `Recorded` entry), in the store (a projection of the journal), and nowhere in the open.
//!
//! - [`MasterKey`] wraps the keys and keys the prints by which somebody is found again; it lies outside journal, store and stream.
//! - the key table is the one thing changed where it lies: destroying a key is the erasure of everything sealed under it.
//! - [`People`] does what is asked: it looks, and appends. It holds the locks of what it looks at meanwhile, so that of two who
//!   register one document one is refused; and it looks only at a store that has seen what was appended under those locks before.
//!
//! A registration is two entries: the engine's party, then the record. A crash between leaves a party that nobody knows of, which is
//! harmless; a repeat with the same key finds that party again and goes on with it.

mod accounts;
mod calling;
mod codes;
mod dose_notes;
mod entry;
mod key_table;
mod lifecycle;
mod master;
mod members;
mod merging;
mod record;
mod rekey;
mod tables;
mod turns;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use berth_engine::{
    BookingNumber, Command, Engine, Failure, Idempotency, PartyId, Refusal, Request, Seq, Submitted, TimestampMs,
};

pub use self::codes::{Address, CodeDesk, CodeLimit, CodeLimits, CodeRefusal, Sent};
pub(crate) use self::entry::no_more;
pub use self::entry::{Account, RECORDED_PEOPLE};
pub(crate) use self::entry::{Changed, changed};
pub use self::key_table::KeyTableError;
use self::key_table::{KeyId, KeyTable};
pub use self::master::{MasterError, MasterKey};
use self::master::{Print, Prints};
pub use self::members::View;
pub use self::merging::{Merged, NOBODY_DOSES};
pub use self::record::{Born, Document, PHONE_RULE, Person, Phone, RecordRules, Said};
pub use self::rekey::{Rekeyed, rekey};
use self::tables::Tables;
use self::turns::{Turn, Turns};
use crate::file::KeyFault;
use crate::store::{Projection, Store, StoreError};

/// The key table, in the data directory.
pub const KEY_TABLE: &str = "people.keys";

/// How long a step waits for the store. Past that it stands still, and says so.
const STORE_WAIT: Duration = Duration::from_secs(10);

/// What a cell keeps of people, and how.
#[derive(Clone, Debug)]
pub struct PeopleConfig {
    /// Where the key table lies.
    pub key_table: PathBuf,
    /// What a record must be like.
    pub rules: RecordRules,
    /// People of one account.
    pub members_max: usize,
    /// How long a person is offered to another account.
    pub offer_ms: u64,
}

/// Why something was not done. Nothing was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeopleError {
    /// What was said cannot be kept: every fault by its field, and nothing of what was said.
    #[error("{}", crate::faults::joined(.0))]
    Faults(Vec<KeyFault>),
    /// There is nobody of this number here, or not any more.
    #[error("there is no record of party {0}")]
    Unknown(PartyId),
    /// The record went to another party's.
    #[error("the record of party {0} was merged into that of {1}")]
    Merged(PartyId, PartyId),
    /// The document is another person's already.
    #[error("the document is that of party {0}")]
    Registered(PartyId),
    /// The account has as many people as it may.
    #[error("an account has at most {0} people")]
    Members(usize),
    /// The account is not there any more.
    #[error("there is no such account")]
    NoAccount,
    /// The account still has people.
    #[error("the account still has {0} people")]
    NotEmpty(usize),
    /// The phone has an account of its own.
    #[error("the phone has an account already")]
    PhoneTaken,
    /// The code is not that of an offer that still stands.
    #[error("this is not the code of an offer that stands")]
    NoOffer,
    /// The person is there already.
    #[error("the person is in this account already")]
    SameAccount,
    /// Who has a place or has had a dose stays who they are: birth and document are put right by those who help.
    #[error("birth and document of party {0} stand: it has a live booking, or has had a dose")]
    Fixed(PartyId),
    /// A live hold or booking stands in the way.
    #[error("party {party} has a live hold or booking")]
    LiveClaims {
        /// Whose.
        party: PartyId,
        /// Which.
        bookings: Vec<BookingNumber>,
    },
    /// Both records have a live claim for the same dose.
    #[error("both parties have a live claim for dose {dose}")]
    BothClaimed {
        /// The dose.
        dose: u8,
        /// That of who would stay.
        stays: BookingNumber,
        /// That of who would go.
        goes: BookingNumber,
    },
    /// Two records of one party.
    #[error("a record is not merged into itself")]
    Itself,
    /// The engine says no.
    #[error("{0}")]
    Refused(Refusal),
    /// The journal could not do its part.
    #[error("{0}")]
    Failed(Failure),
    /// The store could not.
    #[error("{0}")]
    Store(StoreError),
    /// Keys could not be had.
    #[error("keys: {0}")]
    Keys(String),
}

impl From<Refusal> for PeopleError {
    fn from(refusal: Refusal) -> Self {
        PeopleError::Refused(refusal)
    }
}

impl From<Failure> for PeopleError {
    fn from(failure: Failure) -> Self {
        PeopleError::Failed(failure)
    }
}

impl From<StoreError> for PeopleError {
    fn from(error: StoreError) -> Self {
        PeopleError::Store(error)
    }
}

impl From<KeyTableError> for PeopleError {
    fn from(error: KeyTableError) -> Self {
        PeopleError::Keys(error.to_string())
    }
}

impl From<std::io::Error> for PeopleError {
    fn from(error: std::io::Error) -> Self {
        PeopleError::Keys(error.to_string())
    }
}

/// Why people cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The key table.
    #[error("{}: {error}", path.display())]
    Keys {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong.
        error: KeyTableError,
    },
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The store was made with another key table.
    #[error(
        "{} is not the key table that the store was made with: it is gone, or another's was put in its place; put the right one back",
        .0.display()
    )]
    KeysLost(PathBuf),
    /// There are keys, and no store, and the log does not reach back: people are lost who were registered.
    #[error(
        "the store of projections is gone or was made anew, and the log begins behind entry {0}: the records of people before it \
         are not there; put the store back from a backup"
    )]
    StoreLost(Seq),
}

/// The keys of one intent, one for each entry that it may take: all have one fingerprint, so a repeat is known whichever was reached.
#[derive(Clone, Copy, Debug)]
pub struct Intent {
    /// Of the record: the intent's own.
    pub record: Idempotency,
    /// Of the party.
    pub party: Idempotency,
    /// Of what the engine knows of it.
    pub facts: Idempotency,
}

/// What was done. To be shown when `seq` is as safe as was asked, and the store has reached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Done<T> {
    /// What came of it.
    pub what: T,
    /// The entry it rests on.
    pub seq: Seq,
    /// It was done before, under the same key.
    pub replayed: bool,
}

/// What a start found of a key table that is a copy from before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Checked {
    /// Keys that were there again, of who was erased or merged since, and are destroyed again.
    pub destroyed_again: u64,
    /// People and accounts whose keys are not in it: nobody can read what is kept of them.
    pub missing: u64,
}

/// How many erasures a key table that is put beside a store knows nothing of: it is a copy from before them.
///
/// # Errors
/// One of them cannot be read.
pub fn erasures_behind(key_table: &Path, store: &Path) -> Result<u64, OpenError> {
    let keys = |error| OpenError::Keys { path: key_table.to_owned(), error };
    let file = std::fs::File::open(key_table).map_err(|error| keys(error.into()))?;
    let known = key_table::TableHead::read(&file).map_err(keys)?.destroyed;
    Ok(tables::destroyed_of(&Store::open(store)?)?.saturating_sub(known))
}

/// Numbers for the metrics page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeopleStats {
    /// Keys destroyed in this run.
    pub keys_destroyed: u64,
    /// Entries passed over in this run because their key is gone.
    pub unreadable: u64,
}

/// The people of a cell. Shared; every call may block for a moment.
pub struct People {
    engine: Arc<Engine>,
    store: Arc<Store>,
    tables: Arc<Tables>,
    turns: Turns,
    phones: Prints,
    documents: Prints,
    offers: Prints,
    requests: Prints,
    config: PeopleConfig,
}

impl People {
    /// Opens the tables. What comes back besides is to be handed to [`Store::follow`] before anything is asked.
    ///
    /// # Errors
    /// The key table is another's or damaged, or the database.
    pub fn open(
        engine: &Arc<Engine>,
        store: &Arc<Store>,
        master: &Arc<MasterKey>,
        config: PeopleConfig,
    ) -> Result<(People, Arc<dyn Projection>), OpenError> {
        let path = config.key_table.clone();
        let keys = KeyTable::open(&path, Arc::clone(master)).map_err(|error| OpenError::Keys { path, error })?;
        let tables = Arc::new(Tables::open(store, Arc::new(keys))?);
        // Before a single entry is applied: under another table it would find no keys, or destroy them.
        if tables.key_table()?.is_some_and(|id| id != tables.keys.id()) {
            return Err(OpenError::KeysLost(config.key_table));
        }
        // Known before the first entry is applied: what is destroyed then counts, too.
        if tables.destroyed()? > tables.keys.ever_destroyed() {
            let path = config.key_table.clone();
            tables.keys.mark_stale().map_err(|error| OpenError::Keys { path, error: error.into() })?;
        }
        let root = tables.keys.root();
        let people = People {
            engine: Arc::clone(engine),
            store: Arc::clone(store),
            tables: Arc::clone(&tables),
            turns: Turns::new(),
            phones: Prints::new(root, "phones"),
            documents: Prints::new(root, "documents"),
            offers: Prints::new(root, "offers"),
            requests: Prints::new(root, "requests"),
            config,
        };
        Ok((people, tables))
    }

    /// Whether a key table is there, which only this master key opens.
    #[must_use]
    pub fn has_key_table(path: &Path) -> bool {
        KeyTable::exists(path)
    }

    /// To be asked once the store has seen what the log holds. A key table that is a copy from before is brought to where the store is:
    /// what was destroyed since is destroyed again.
    ///
    /// # Errors
    /// People were registered, and the store does not reach back to them; or the key table cannot be written.
    pub fn check(&self) -> Result<Checked, OpenError> {
        let began = self.store.began();
        if self.tables.key_table()?.is_none() {
            // Before the first key nobody was registered, so nothing is missing; and a log that is whole brings back who was.
            if began > Seq(0) && self.tables.keys.has_keys() {
                return Err(OpenError::StoreLost(began));
            }
            self.tables.keep_key_table()?;
        }
        let newest = self.tables.newest_key();
        let checked = self.mend_keys(newest).map_err(|error| match error {
            PeopleError::Store(error) => OpenError::Store(error),
            error => OpenError::Store(StoreError::Broken(error.to_string())),
        })?;
        self.tables.keys.pass(newest);
        Ok(checked)
    }

    fn mend_keys(&self, newest: KeyId) -> Result<Checked, PeopleError> {
        let keys = &self.tables.keys;
        let short = keys.place(newest).is_some_and(|newest| keys.places().is_ok_and(|places| newest >= places));
        if !keys.is_stale() && !short {
            return Ok(Checked::default());
        }
        let live = self.tables.live_keys()?;
        let mut missing = 0;
        for id in &live {
            missing += u64::from(keys.get(*id)?.is_none());
        }
        let destroyed_again = if keys.is_stale() { keys.sweep(&live, self.tables.destroyed()?)? } else { 0 };
        Ok(Checked { destroyed_again, missing })
    }

    /// What a record must be like.
    #[must_use]
    pub fn rules(&self) -> &RecordRules {
        &self.config.rules
    }

    /// How many people one account may have.
    #[must_use]
    pub fn members_max(&self) -> usize {
        self.config.members_max
    }

    /// The store behind it: what is shown waits for it.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// A digest of a request that holds what must not be guessed from a plain one: keyed.
    #[must_use]
    pub fn request_print(&self, body: &[u8]) -> [u8; 16] {
        self.requests.of(&[body])
    }

    /// Numbers for the metrics page.
    #[must_use]
    pub fn stats(&self) -> PeopleStats {
        let keys_destroyed = self.tables.keys.destroyed();
        PeopleStats { keys_destroyed, unreadable: self.tables.unreadable.load(Relaxed) }
    }

    /// Where the key table lies.
    #[must_use]
    pub fn key_table(&self) -> &Path {
        self.tables.keys.path()
    }

    /// Waits until an entry is durable, and reads see it.
    ///
    /// # Errors
    /// The journal has stopped, or the store stands still.
    pub fn wait(&self, seq: Seq) -> Result<(), PeopleError> {
        self.engine.ticket(seq).wait()?;
        Ok(self.store.wait(seq, STORE_WAIT)?)
    }

    fn phone_print(&self, phone: &Phone) -> Print {
        self.phones.of(&[phone.as_str().as_bytes()])
    }

    fn document_print(&self, document: &Document) -> Print {
        self.documents.of(&[document.kind.as_bytes(), document.number.as_bytes()])
    }

    fn submit(
        &self,
        command: Command<'_>,
        idempotency: Option<Idempotency>,
        now: TimestampMs,
    ) -> Result<Submitted, PeopleError> {
        Ok(self.engine.submit(&Request { command, idempotency }, now)?)
    }

    /// Appends what was done; whoever looks at the same after this waits for it.
    fn append(
        &self,
        turn: &mut Turn<'_>,
        bytes: &[u8],
        idempotency: Option<Idempotency>,
        now: TimestampMs,
    ) -> Result<Done<()>, PeopleError> {
        let submitted =
            self.submit(Command::Record { kind: RECORDED_PEOPLE, bytes, urgent: false }, idempotency, now)?;
        submitted.result?;
        turn.appended(submitted.seq);
        Ok(Done { what: (), seq: submitted.seq, replayed: submitted.replayed })
    }

    /// What was done under this key before.
    fn repeat(&self, idempotency: Idempotency) -> Result<Option<Seq>, PeopleError> {
        let Some(Submitted { result, seq, .. }) = self.engine.repeat_of(idempotency) else { return Ok(None) };
        result?;
        Ok(Some(seq))
    }

    /// What the engine knows of a party, and its live claims.
    fn party(&self, party: PartyId) -> Result<berth_engine::PartyView, PeopleError> {
        self.engine.party_bookings(party).ok_or(PeopleError::Unknown(party))
    }

    /// Who is not here: never was, erased, or merged.
    fn gone(&self, party: PartyId) -> PeopleError {
        match self.tables.merged_into(party) {
            Ok(Some(into)) => PeopleError::Merged(party, into),
            Ok(None) => PeopleError::Unknown(party),
            Err(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests;
