//! The ledger as it is read: of the store's rows, each a page at a time. What was appended is there once the store has
//! [reached](crate::store::Store::reached) it.

use berth_engine::{BookingNumber, Seq};

use super::ledger::Ledger;
use super::lot::{Day, Lot};
use super::shapes::{BatchRow, Transfer};
use super::uses::{self, Traced, Use};
use crate::store::StoreError;

impl Ledger {
    /// What reads go by: await [`Store::reached`] first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn batch(&self, id: &str) -> Result<Option<BatchRow>, StoreError> {
        self.tables.batch(id)
    }

    /// Batches in the order of their numbers, from this one on.
    ///
    /// # Errors
    /// As [`Ledger::batch`].
    pub fn batches_from(&self, id: &str) -> impl Iterator<Item = Result<BatchRow, StoreError>> + use<> {
        self.tables.batches_from(id)
    }

    /// What each centre has, or has had, of a batch.
    ///
    /// # Errors
    /// As [`Ledger::batch`].
    pub fn lots_of(&self, batch: &str) -> Result<Vec<(String, Lot)>, StoreError> {
        self.tables.lots(Some(batch)).map(|row| row.map(|(_, centre, lot)| (centre, lot))).collect()
    }

    /// What a centre has of each batch, behind one in the order of their numbers; with `all` also those of which nothing is left.
    ///
    /// # Errors
    /// As [`Ledger::batch`].
    pub fn stock<'a>(
        &'a self,
        centre: &'a str,
        after: &str,
        all: bool,
    ) -> impl Iterator<Item = Result<(String, Lot), StoreError>> + 'a {
        let there =
            self.tables.batches_at(centre, after).filter(move |row| row.as_ref().map_or(true, |row| all || row.1));
        there.map(|row| {
            let (batch, _) = row?;
            let lot = self.tables.lot(&batch, centre)?;
            Ok((batch, lot))
        })
    }

    /// Doses on hand at a centre, of all batches.
    ///
    /// # Errors
    /// As [`Ledger::batch`].
    pub fn on_hand(&self, centre: &str) -> Result<u64, StoreError> {
        self.tables.on_hand(centre)
    }

    /// A transfer.
    ///
    /// # Errors
    /// As [`Ledger::batch`].
    pub fn transfer(&self, transfer: Seq) -> Result<Option<Transfer>, StoreError> {
        self.tables.transfer(transfer)
    }

    /// Transfers on the way from or to a centre, behind one, in the order in which they were sent.
    ///
    /// # Errors
    /// As [`Ledger::batch`].
    pub fn transfers_at(
        &self,
        centre: &str,
        after: Seq,
    ) -> impl Iterator<Item = Result<(Seq, Transfer), StoreError>> + use<> {
        // One that ended while the list was read is on the way no more.
        self.tables.open_at(centre, after).filter_map(|row| match row {
            Ok((seq, transfer)) => transfer.map(|transfer| Ok((seq, transfer))),
            Err(error) => Some(Err(error)),
        })
    }

    /// The days of a centre on which something was counted, up to `last`.
    ///
    /// # Errors
    /// As [`Ledger::batch`].
    pub fn days(&self, centre: &str, last: u16) -> impl Iterator<Item = Result<(u16, Day), StoreError>> + use<> {
        self.tables.days(centre, last)
    }

    /// What a dose was of; `None`: there is none, or it is from before the ledger.
    ///
    /// # Errors
    /// As [`Ledger::batch`].
    pub fn use_of(&self, booking: BookingNumber) -> Result<Option<Use>, StoreError> {
        self.tables.use_of(booking)
    }

    /// The doses of a batch, at one centre or at all, behind a place in the list.
    ///
    /// # Errors
    /// As [`Ledger::batch`].
    pub fn doses_of(
        &self,
        batch: &str,
        centre: Option<&str>,
        after: Option<(&str, BookingNumber)>,
    ) -> impl Iterator<Item = Result<Traced, StoreError>> + use<> {
        uses::of_batch(self.tables.doses_table(), batch, centre, after)
    }

    /// As [`Ledger::doses_of`], at several centres, in the order of their ids; `None`: at all.
    pub fn doses_at<'a>(
        &'a self,
        batch: &'a str,
        centres: Option<&'a [String]>,
        after: Option<(&'a str, BookingNumber)>,
    ) -> Box<dyn Iterator<Item = Result<Traced, StoreError>> + 'a> {
        let Some(centres) = centres else { return Box::new(self.doses_of(batch, None, after)) };
        let begun = after.map(|(centre, _)| centre);
        let left = centres.iter().map(String::as_str).filter(move |centre| begun.is_none_or(|begun| *centre >= begun));
        Box::new(
            left.flat_map(move |centre| {
                self.doses_of(batch, Some(centre), after.filter(|(begun, _)| *begun == centre))
            }),
        )
    }

    /// Doses up to this entry may not be found by their batch; 0: all are.
    #[must_use]
    pub fn began(&self) -> Seq {
        self.tables.began().max(self.store.began())
    }
}
