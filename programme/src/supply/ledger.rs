//! The ledger as its owner asks it: makes batches, moves doses between stocks, recalls, and reads.
//!
//! **Order.** Who changes it looks at the books, appends and moves the books under one lock. Nothing waits for the disk under it.
//! **A crash** loses nothing that was told to anybody: the books of the next start are made of the journal.

use std::sync::Arc;

use berth_engine::{Command, Engine, Failure, Idempotency, Refusal, Request, Seq, Submitted, TimestampMs};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::books::Books;
use super::entry::{Amendment, BatchSpec, DOSES_MAX, RECORDED_SUPPLY, Said, Sending, Waste};
use super::tables::Tables;
use crate::campaign::Campaign;
use crate::catalogue::Catalogue;
use crate::doses::note::{BATCH_RULE, WORD_RULE, is_batch, is_word};
use crate::file::{Enforce, KeyFault};
use crate::in_force::InForce;
use crate::store::{Projection, Store, StoreError};

/// Of a maker's name and a note, in characters.
const TEXT_LEN_MAX: usize = 80;

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SupplyError {
    /// What was said is wrong: every fault by its key.
    #[error("{}", crate::faults::joined(.0))]
    Faults(Vec<KeyFault>),
    /// There is no such batch.
    #[error("there is no batch {0}")]
    UnknownBatch(String),
    /// It is there, and says something else.
    #[error("there is already a batch {0}")]
    BatchThere(String),
    /// There is no such transfer.
    #[error("there is no such transfer")]
    UnknownTransfer(Seq),
    /// It has arrived, or was cancelled.
    #[error("the transfer is not on the way any more")]
    TransferOver(Seq),
    /// There is not so much of it.
    #[error("centre {centre} has {on_hand} doses of batch {batch}, and not {wanted}")]
    NoStock {
        /// Of what.
        batch: String,
        /// Where.
        centre: String,
        /// What is there.
        on_hand: u64,
        /// What was to go.
        wanted: u64,
    },
    /// More than was made.
    #[error("batch {batch} has {quantity} doses in all: with {wanted} more there would be more than that")]
    BeyondBatch {
        /// Of what.
        batch: String,
        /// Doses that there are.
        quantity: u64,
        /// Doses that were received.
        received: u64,
        /// Doses that are to be.
        wanted: u64,
    },
    /// So many were received of it that it cannot have been made of so few.
    #[error("{received} doses of batch {batch} were received: it has more than {wanted}")]
    BelowReceived {
        /// Of what.
        batch: String,
        /// Doses that were received.
        received: u64,
        /// What it was to have.
        wanted: u64,
    },
    /// It is recalled already, or is not.
    #[error("{0}")]
    RecallState(&'static str),
    /// It must not leave.
    #[error("batch {0} is recalled: it goes nowhere but back, and is wasted as recalled")]
    Recalled(String),
    /// The engine says no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The journal could not do its part.
    #[error("{0}")]
    Failed(#[from] Failure),
    /// The store could not.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// What was done, and the entry that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The entry; of a transfer that is sent also its name.
    pub seq: Seq,
    /// The answer to an earlier request with the same key.
    pub replayed: bool,
}

/// The ledger of a cell.
pub struct Ledger {
    pub(super) engine: Arc<Engine>,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) programme: Arc<InForce>,
    pub(super) store: Arc<Store>,
    pub(super) tables: Arc<Tables>,
    /// `None` until the store has seen what is in the log.
    books: Mutex<Option<Books>>,
    /// The newest entry that the store must have seen before they are made. A leaf.
    newest: Mutex<Seq>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl Ledger {
    /// The ledger's tables in this store, which is to follow the log with what comes back.
    ///
    /// # Errors
    /// The database cannot make them.
    pub fn open(campaign: &Campaign, store: &Arc<Store>) -> Result<(Ledger, Arc<dyn Projection>), StoreError> {
        let Campaign { engine, programme, catalogue, .. } = campaign.clone();
        let calendar = programme.calendar().clone();
        let tables = Arc::new(Tables::open(Arc::clone(&engine), Arc::clone(&catalogue), calendar, store)?);
        let projection: Arc<dyn Projection> = Arc::<Tables>::clone(&tables);
        let store = Arc::clone(store);
        let newest = Mutex::new(engine.appended());
        Ok((Ledger { engine, catalogue, programme, store, tables, books: Mutex::new(None), newest }, projection))
    }

    /// Makes the books, if the store has seen all that is in the log: at a start, before anybody is served. Where it has not, who asks
    /// first when it has makes them.
    ///
    /// # Errors
    /// The store cannot be read, or has not come so far.
    pub fn begin(&self) -> Result<(), StoreError> {
        self.books().map(drop)
    }

    /// The books, locked: nothing that moves them is appended meanwhile.
    pub(super) fn books(&self) -> Result<MappedMutexGuard<'_, Books>, StoreError> {
        let mut books = self.books.lock();
        if books.is_none() {
            // Of those that move the books none is appended meanwhile.
            let newest = *self.newest.lock();
            if self.store.applied() < newest {
                return Err(StoreError::Behind(newest));
            }
            *books = Some(Books::load(&self.tables)?);
        }
        Ok(MutexGuard::map(books, |books| books.get_or_insert_default()))
    }

    /// The books if they are there, locked, for who goes on without them and waits for nothing.
    pub(super) fn books_if_there(&self) -> MutexGuard<'_, Option<Books>> {
        self.books.lock()
    }

    /// An entry was appended without books that they are to have seen.
    pub(super) fn appended_without(&self, seq: Seq) {
        let mut newest = self.newest.lock();
        *newest = newest.max(seq);
    }

    /// What the programme says of doses without stock.
    #[must_use]
    pub fn enforce(&self) -> Enforce {
        self.programme.get().file().supply.map(|supply| supply.enforce).unwrap_or_default()
    }

    /// Does what the books allow: appends what `said` makes of them.
    fn act(
        &self,
        idempotency: Idempotency,
        now: TimestampMs,
        said: impl FnOnce(&Books) -> Result<Said, SupplyError>,
    ) -> Result<Done, SupplyError> {
        // A repeat needs no books.
        if let Some(done) = self.repeat(idempotency) {
            return done;
        }
        let mut books = self.books()?;
        // And under the lock, for the first of two.
        if let Some(done) = self.repeat(idempotency) {
            return done;
        }
        let said = said(&books)?;
        let bytes = said.bytes();
        // Days and recalls are in the order of the entries: who waited for the books comes later than it was asked.
        let now = now.max(self.engine.now());
        let command = Command::Record { kind: RECORDED_SUPPLY, bytes: &bytes, urgent: said.is_urgent() };
        let request = Request { command, idempotency: Some(idempotency) };
        let Submitted { result, seq, replayed } = self.engine.submit(&request, now)?;
        result?;
        if !replayed {
            books.take_in(seq, now, &said);
        }
        Ok(Done { seq, replayed })
    }

    fn repeat(&self, idempotency: Idempotency) -> Option<Result<Done, SupplyError>> {
        let Submitted { result, seq, .. } = self.engine.repeat_of(idempotency)?;
        Some(result.map(|_| Done { seq, replayed: true }).map_err(SupplyError::Refused))
    }

    /// Makes a batch known.
    ///
    /// # Errors
    /// It is wrong, or there is another of its number.
    pub fn make_batch(&self, spec: BatchSpec, key: Idempotency, now: TimestampMs) -> Result<Done, SupplyError> {
        let mut faults = Faults::default();
        // A path with a part of dots, or of nothing, is another to who passes it on.
        let lost = spec.id.split('/').any(|part| part.bytes().all(|byte| byte == b'.'));
        faults.when(!is_batch(&spec.id), "id", BATCH_RULE);
        faults.when(
            lost && is_batch(&spec.id),
            "id",
            "must have something but dots before, between and behind its slashes",
        );
        faults.spec(&spec);
        faults.none()?;
        self.act(key, now, |books| match books.batches.get(spec.id.as_str()) {
            Some(known) if known.is_known() => Err(SupplyError::BatchThere(spec.id)),
            _ => Ok(Said::Batch { batch: spec }),
        })
    }

    /// Puts right what a batch was said to be. Its recall stands, and so does what was received, given and wasted of it.
    ///
    /// # Errors
    /// There is no such batch, what it is to be is wrong, or more was received of it.
    pub fn amend_batch(
        &self,
        batch: &str,
        change: Amendment,
        reason: &str,
        key: Idempotency,
        now: TimestampMs,
    ) -> Result<Done, SupplyError> {
        let mut faults = Faults::default();
        faults.when(!is_word(reason), "reason", WORD_RULE);
        faults.when(change == Amendment::default(), "batch", "nothing is said that is to be put right");
        faults.none()?;
        self.act(key, now, |books| {
            let known = known(books, batch)?;
            let spec = change.of(known.spec.clone());
            let mut faults = Faults::default();
            faults.spec(&spec);
            faults.none()?;
            if spec.quantity < known.received {
                let (batch, received, wanted) = (spec.id, known.received, spec.quantity);
                return Err(SupplyError::BelowReceived { batch, received, wanted });
            }
            Ok(Said::Amended { batch: spec, reason: reason.to_owned() })
        })
    }

    /// Doses came into a centre's stock from outside. `note` is for people: the number of a paper.
    ///
    /// # Errors
    /// There is no such batch or centre, or not so many doses of it.
    pub fn receive(
        &self,
        (batch, centre): (&str, &str),
        quantity: u64,
        note: &str,
        key: Idempotency,
        now: TimestampMs,
    ) -> Result<Done, SupplyError> {
        let mut faults = Faults::default();
        faults.doses("quantity", quantity, 1);
        faults.when(!note.is_empty() && !is_batch(note), "note", BATCH_RULE);
        self.place("centre", centre, &mut faults);
        faults.none()?;
        self.act(key, now, |books| {
            let known = known(books, batch)?;
            if known.received.saturating_add(quantity) > known.spec.quantity {
                let (received, batch) = (known.received, batch.to_owned());
                let (quantity, wanted) = (known.spec.quantity, quantity);
                return Err(SupplyError::BeyondBatch { batch, quantity, received, wanted });
            }
            Ok(Said::Received { batch: batch.to_owned(), centre: centre.to_owned(), quantity, note: note.to_owned() })
        })
    }

    /// Doses leave for another centre: they are on hand no more.
    ///
    /// # Errors
    /// There are not so many, or the batch is recalled.
    pub fn send(&self, sending: Sending, key: Idempotency, now: TimestampMs) -> Result<Done, SupplyError> {
        let mut faults = Faults::default();
        faults.doses("quantity", sending.quantity, 1);
        faults.when(sending.from == sending.to, "to", "must be another centre");
        self.place("from", &sending.from, &mut faults);
        self.place("to", &sending.to, &mut faults);
        faults.none()?;
        self.act(key, now, |books| {
            if known(books, &sending.batch)?.recalled.is_some() {
                return Err(SupplyError::Recalled(sending.batch));
            }
            enough(books, &sending.batch, &sending.from, sending.quantity)?;
            Ok(Said::Sent { sending })
        })
    }

    /// What was sent is there, or as much of it as arrived: the rest is wasted, lost in transit.
    ///
    /// # Errors
    /// It is not on the way.
    pub fn arrive(&self, transfer: Seq, arrived: u64, key: Idempotency, now: TimestampMs) -> Result<Done, SupplyError> {
        let known = self.has_seen(transfer);
        self.act(key, now, |books| {
            let sending = on_the_way(books, transfer, known)?;
            let mut faults = Faults::default();
            let more = arrived > sending.quantity;
            faults.when(more, "arrived", &format!("must be at most {}, which were sent", sending.quantity));
            faults.none()?;
            Ok(Said::Arrived { transfer: transfer.0, sending, arrived })
        })
    }

    /// What was sent does not go: it is on hand again.
    ///
    /// # Errors
    /// It is not on the way.
    pub fn cancel(&self, transfer: Seq, key: Idempotency, now: TimestampMs) -> Result<Done, SupplyError> {
        let known = self.has_seen(transfer);
        self.act(key, now, |books| {
            Ok(Said::Cancelled { transfer: transfer.0, sending: on_the_way(books, transfer, known)? })
        })
    }

    /// Whether the store knows such a transfer: it only tells one that is over from one that never was. A store that cannot be read stops
    /// nothing.
    fn has_seen(&self, transfer: Seq) -> bool {
        self.tables.transfer(transfer).is_ok_and(|row| row.is_some())
    }

    /// Doses are thrown away.
    ///
    /// # Errors
    /// There are not so many.
    pub fn waste(
        &self,
        (batch, centre): (&str, &str),
        quantity: u64,
        reason: Waste,
        key: Idempotency,
        now: TimestampMs,
    ) -> Result<Done, SupplyError> {
        let mut faults = Faults::default();
        faults.doses("quantity", quantity, 1);
        self.place("centre", centre, &mut faults);
        faults.none()?;
        self.act(key, now, |books| {
            known(books, batch)?;
            enough(books, batch, centre, quantity)?;
            Ok(Said::Wasted { batch: batch.to_owned(), centre: centre.to_owned(), quantity, reason })
        })
    }

    /// So many were counted: from now on that is what is on hand, and what was given without cover is covered.
    ///
    /// # Errors
    /// There is no such batch or centre.
    pub fn count(
        &self,
        (batch, centre): (&str, &str),
        counted: u64,
        reason: &str,
        key: Idempotency,
        now: TimestampMs,
    ) -> Result<Done, SupplyError> {
        let mut faults = Faults::default();
        faults.doses("counted", counted, 0);
        faults.when(!is_word(reason), "reason", WORD_RULE);
        self.place("centre", centre, &mut faults);
        faults.none()?;
        self.act(key, now, |books| {
            known(books, batch)?;
            let held = books.held(batch, centre);
            let (before, uncovered) = (held.on_hand, held.uncovered);
            let (batch, centre, reason) = (batch.to_owned(), centre.to_owned(), reason.to_owned());
            Ok(Said::Counted { batch, centre, before, uncovered, counted, reason })
        })
    }

    /// A batch must not be given any more, from this moment on.
    ///
    /// # Errors
    /// It is recalled already.
    pub fn recall(&self, batch: &str, reason: &str, key: Idempotency, now: TimestampMs) -> Result<Done, SupplyError> {
        self.recalled(batch, reason, true, key, now)
    }

    /// It may be given again.
    ///
    /// # Errors
    /// It is not recalled.
    pub fn lift_recall(
        &self,
        batch: &str,
        reason: &str,
        key: Idempotency,
        now: TimestampMs,
    ) -> Result<Done, SupplyError> {
        self.recalled(batch, reason, false, key, now)
    }

    fn recalled(
        &self,
        batch: &str,
        reason: &str,
        recalled: bool,
        key: Idempotency,
        now: TimestampMs,
    ) -> Result<Done, SupplyError> {
        let mut faults = Faults::default();
        faults.when(!is_word(reason), "reason", WORD_RULE);
        faults.none()?;
        self.act(key, now, |books| {
            let (is, reason) = (known(books, batch)?.recalled.is_some(), reason.to_owned());
            match (is, recalled) {
                (true, true) => Err(SupplyError::RecallState("the batch is recalled already")),
                (false, false) => Err(SupplyError::RecallState("the batch is not recalled")),
                (false, true) => Ok(Said::Recalled { batch: batch.to_owned(), reason }),
                (true, false) => Ok(Said::Lifted { batch: batch.to_owned(), reason }),
            }
        })
    }

    fn place(&self, key: &str, centre: &str, faults: &mut Faults) {
        faults.when(self.catalogue.centre(centre).is_none(), key, "there is no such centre");
    }
}

/// What is on the way under this name; `known`: the store has seen such a transfer, so that it has ended.
fn on_the_way(books: &Books, transfer: Seq, known: bool) -> Result<Sending, SupplyError> {
    match books.transfers.get(&transfer) {
        Some(sending) => Ok(sending.clone()),
        None if known => Err(SupplyError::TransferOver(transfer)),
        None => Err(SupplyError::UnknownTransfer(transfer)),
    }
}

fn known<'b>(books: &'b Books, batch: &str) -> Result<&'b super::books::Known, SupplyError> {
    let known = books.batches.get(batch).filter(|known| known.is_known());
    known.ok_or_else(|| SupplyError::UnknownBatch(batch.chars().take(80).collect()))
}

// rule: SUP-1 nothing leaves that is not there
fn enough(books: &Books, batch: &str, centre: &str, wanted: u64) -> Result<(), SupplyError> {
    let on_hand = books.held(batch, centre).on_hand;
    if on_hand >= wanted {
        return Ok(());
    }
    Err(SupplyError::NoStock { batch: batch.to_owned(), centre: centre.to_owned(), on_hand, wanted })
}

#[derive(Default)]
struct Faults(Vec<KeyFault>);

impl Faults {
    fn when(&mut self, wrong: bool, key: &str, reason: &str) {
        if wrong {
            self.0.push(KeyFault { key: key.to_owned(), reason: reason.to_owned() });
        }
    }

    fn doses(&mut self, key: &str, doses: u64, min: u64) {
        self.when(!(min..=DOSES_MAX).contains(&doses), key, &format!("must be from {min} to {DOSES_MAX}, is {doses}"));
    }

    fn text(&mut self, key: &str, text: &str) {
        let wrong = text.chars().count() > TEXT_LEN_MAX || text.chars().any(char::is_control);
        self.when(wrong, key, &format!("must be at most {TEXT_LEN_MAX} characters of one line"));
    }

    fn spec(&mut self, spec: &BatchSpec) {
        self.doses("quantity", spec.quantity, 1);
        let vial = spec.doses_per_vial.is_some_and(|doses| !(1..=1000).contains(&doses));
        self.when(vial, "doses_per_vial", "must be from 1 to 1000");
        self.text("manufacturer", &spec.manufacturer);
    }

    fn none(self) -> Result<(), SupplyError> {
        if self.0.is_empty() { Ok(()) } else { Err(SupplyError::Faults(self.0)) }
    }
}
