//! Recording a dose against the books: judged, appended and taken off stock under one lock.

use berth_engine::{BookingNumber, ProductId, Submitted, TimestampMs};
use jiff::civil::Date;
use parking_lot::MutexGuard;

use super::books::{Asked, Books, Doubt, Known};
use super::ledger::Ledger;
use super::lot::Effect;
use super::tables::moves;
use super::uses::Use;
use crate::file::Enforce;
use crate::store::StoreError;

/// A dose that is to be recorded, or has been.
#[derive(Clone, Copy, Debug)]
pub struct Dose<'a> {
    /// On which booking.
    pub booking: BookingNumber,
    /// Of which batch; empty where nobody says.
    pub batch: &'a str,
    /// Of what.
    pub product: ProductId,
    /// When it was given.
    pub given_at: TimestampMs,
}

/// What was appended, and what stands against it all the same.
#[derive(Debug)]
pub struct Recorded {
    /// The engine's answer.
    pub submitted: Submitted,
    /// The worst first. Of a repeat none are told.
    pub doubts: Vec<Doubt>,
}

impl Recorded {
    /// Nothing stands against it.
    #[must_use]
    pub fn plain(submitted: Submitted) -> Recorded {
        Recorded { submitted, doubts: Vec::new() }
    }
}

/// Why nothing was appended.
#[derive(Debug)]
pub enum Unrecorded<E> {
    /// The worst thing that stands against it, and where.
    Doubt(Doubt, String),
    /// The store cannot be read.
    Store(StoreError),
    /// What `submit` said.
    Submit(E),
}

impl Ledger {
    /// Records a dose: refused if something stands against it that the programme does not let pass. `told` is of a centre that tells
    /// what it gave before: a dose that is in somebody's arm is on record whatever stands against it, or nobody can call them. `repeated`
    /// is whether this request was answered before, and `submit` appends.
    ///
    /// # Errors
    /// Nothing was appended.
    // rule: SUP-3
    pub fn give<E>(
        &self,
        dose: Dose<'_>,
        told: bool,
        repeated: impl FnOnce() -> bool,
        submit: impl FnOnce() -> Result<Submitted, E>,
    ) -> Result<Recorded, Unrecorded<E>> {
        let enforce = self.enforce();
        // Without the books what is certain is in the rows. Read before the lock is had, for a disk may be asked.
        let alone = self.books_if_there().is_none();
        let row = if alone { self.tables.batch(dose.batch).map_err(Unrecorded::Store)? } else { None };
        let mut books = self.books_if_there();
        let Some(centre) = self.centre_of(dose.booking).filter(|_| !repeated()) else {
            return Ok(Recorded { submitted: submit().map_err(Unrecorded::Submit)?, doubts: Vec::new() });
        };
        // At the door a recalled batch is refused whenever the dose is said to have been given; what a centre tells is judged by that.
        let by = if told { dose.given_at } else { dose.given_at.max(self.engine.now()) };
        // What has ended is told that, and not what stands against a dose. All else may be checked in by the time of the entry.
        let ended = self.engine.booking(dose.booking).is_none_or(|view| !view.state.is_live());
        let doubts = match books.as_ref() {
            _ if ended => Vec::new(),
            Some(books) => self.doubts(books, &dose, by, &centre),
            // Nobody knows what is in stock: who insists on that waits for the books.
            None if enforce == Enforce::Refuse && !told => {
                return Err(Unrecorded::Store(StoreError::Behind(self.engine.appended())));
            }
            None => {
                let day = self.programme.calendar().date(dose.given_at);
                row.map(|row| Known::of(row).doubts(dose.product, by, day)).unwrap_or_default()
            }
        };
        let stands = |doubt: &&Doubt| !told && (doubt.is_certain() || enforce == Enforce::Refuse);
        if let Some(doubt) = doubts.iter().find(stands) {
            return Err(Unrecorded::Doubt(*doubt, centre));
        }
        let submitted = submit().map_err(Unrecorded::Submit)?;
        if submitted.result.is_ok() && !submitted.replayed && !dose.batch.is_empty() {
            match books.as_mut() {
                Some(books) => books.apply(dose.batch, &centre, Effect::Given),
                None => self.appended_without(submitted.seq),
            }
        }
        // Of an order that nobody gave nothing is told.
        let tells = |doubt: &Doubt| doubt.is_certain() || enforce != Enforce::Off;
        Ok(Recorded { submitted, doubts: doubts.into_iter().filter(tells).collect() })
    }

    /// Corrects a dose: what was given was given, so only what cannot be is refused, a batch of another product, and where stock is enforced
    /// one that nobody knows. `dose` is as it is after the correction where that says something.
    ///
    /// # Errors
    /// Nothing was appended.
    // rule: SUP-2
    pub fn correct<E>(
        &self,
        booking: BookingNumber,
        (batch, product): (Option<&str>, Option<ProductId>),
        submit: impl FnOnce() -> Result<Submitted, E>,
    ) -> Result<Recorded, Unrecorded<E>> {
        if batch.is_none() && product.is_none() {
            return submit().map(Recorded::plain).map_err(Unrecorded::Submit);
        }
        let enforce = self.enforce();
        let (mut books, found) = self.books_and_use(booking).map_err(Unrecorded::Store)?;
        let (Some(books), Some(centre)) = (books.as_mut(), self.centre_of(booking)) else {
            let submitted = submit().map_err(Unrecorded::Submit)?;
            self.appended_without(submitted.seq);
            return Ok(Recorded::plain(submitted));
        };
        let before = match books.corrected(booking).cloned().or(found) {
            Some(before) => before,
            // One from before the ledger.
            None if self.began().0 > 0 => {
                let facts = self.engine.claimed(booking).and_then(|(claim, _)| self.engine.slot_facts(claim.slot));
                Use { batch: String::new(), product: facts.unwrap_or_default().product, valid: true }
            }
            None => return Err(Unrecorded::Store(StoreError::Behind(self.engine.appended()))),
        };
        let after = Use {
            batch: batch.map_or_else(|| before.batch.clone(), str::to_owned),
            product: product.unwrap_or(before.product),
            valid: before.valid,
        };
        match books.batches.get(after.batch.as_str()).filter(|known| known.is_known()) {
            Some(known) if known.spec.product() != after.product => {
                return Err(Unrecorded::Doubt(Doubt::OtherProduct, centre));
            }
            None if enforce == Enforce::Refuse && batch.is_some() => {
                return Err(Unrecorded::Doubt(Doubt::Unknown, centre));
            }
            _ => {}
        }
        // The day on which it was given is told to nobody here: that the batch had expired by then is not looked at.
        let asked = Asked {
            centre: &centre,
            batch: &after.batch,
            product: after.product,
            by: self.engine.now(),
            day: Date::MIN,
        };
        let mut doubts = if batch.is_some() && after.batch != before.batch { books.doubts(&asked) } else { Vec::new() };
        doubts.retain(|doubt| doubt.is_certain() || enforce != Enforce::Off);
        let submitted = submit().map_err(Unrecorded::Submit)?;
        let stands = submitted.result.is_ok() && !submitted.replayed;
        if stands {
            if after.batch != before.batch {
                let (off, on) = moves(before.valid);
                for (batch, effect) in [(before.batch.as_str(), off), (after.batch.as_str(), on)] {
                    if !batch.is_empty() {
                        books.apply(batch, &centre, effect);
                    }
                }
            }
            books.correct(booking, after, submitted.seq, self.store.persisted());
        }
        Ok(Recorded { submitted, doubts: if stands { doubts } else { Vec::new() } })
    }

    /// The books, locked, and what the store says a dose was of: read before the lock is had, for a disk may be asked, and anew where what
    /// has been corrected since is neither in it nor in the books any more.
    fn books_and_use(
        &self,
        booking: BookingNumber,
    ) -> Result<(MutexGuard<'_, Option<Books>>, Option<Use>), StoreError> {
        loop {
            // Before the row is read, which is then at least as new. Once there the books stay.
            let (seen, there) = (self.store.applied(), self.books_if_there().is_some());
            let found = self.tables.use_of(booking)?;
            let books = self.books_if_there();
            // Books that were made meanwhile know nothing of corrections that were made without them.
            if books.as_ref().is_none_or(|books| there && books.forgotten <= seen) {
                return Ok((books, found));
            }
        }
    }

    fn doubts(&self, books: &Books, dose: &Dose<'_>, by: TimestampMs, centre: &str) -> Vec<Doubt> {
        let Dose { batch, product, given_at, .. } = *dose;
        let day = self.programme.calendar().date(given_at);
        books.doubts(&Asked { centre, batch, product, by, day })
    }

    fn centre_of(&self, booking: BookingNumber) -> Option<String> {
        let (claim, _) = self.engine.claimed(booking)?;
        Some(self.catalogue.slot(claim.slot)?.session.centre.to_string())
    }
}
