//! The rows of doses by themselves, without a journal: put there in order for a measurement, and read as a ledger reads them.

use berth_engine::{BookingNumber, PartyId, ProductId};

use super::lot::{Effect, Lot};
use super::tables::{below, damaged};
use super::uses::{self, Traced, Use};
use crate::store::{Store, StoreError, Table};

/// A dose as it is put there.
#[derive(Clone, Debug)]
pub struct Filled {
    /// Its batch.
    pub batch: String,
    /// Where it was given.
    pub centre: String,
    /// On which booking, and to the party of that number.
    pub booking: u64,
}

/// Puts doses into a store that has none, table by table: `doses` gives the same ones each time, by batch, centre and booking, all
/// ascending. Each batch and centre gets its counters.
///
/// # Errors
/// The database cannot take them.
pub fn fill<I: Iterator<Item = Filled>>(store: &Store, doses: impl Fn() -> I) -> Result<(), StoreError> {
    let of = |batch: String| Use { batch, product: ProductId(1), valid: true };
    let party = |booking: u64| PartyId(u32::try_from(booking % u64::from(u32::MAX)).unwrap_or_default());
    store.table(uses::DOSES)?.fill(doses().map(|Filled { batch, centre, booking }| {
        let key = uses::key(&batch, &centre, BookingNumber(booking));
        (key, uses::row(party(booking), 20_000, &of(batch)).to_vec())
    }))?;
    store.table(uses::USES)?.fill(doses().map(|dose| (dose.booking.to_be_bytes().to_vec(), of(dose.batch).bytes())))?;
    let mut lots: Vec<(Vec<u8>, Lot)> = Vec::new();
    for Filled { batch, centre, .. } in doses() {
        let key = below(&batch, centre.as_bytes());
        if lots.last().is_none_or(|(last, _)| *last != key) {
            lots.push((key, Lot::default()));
        }
        if let Some((_, lot)) = lots.last_mut() {
            lot.apply(Effect::Received(1));
            lot.apply(Effect::Given);
        }
    }
    store.table(LOTS)?.fill(lots.into_iter().map(|(key, lot)| (key, lot.bytes())))
}

/// The table of counters by batch and centre.
pub(super) const LOTS: &str = "supply.lots";

/// Doses by their batch and by their booking.
pub struct DosesOf {
    doses: Table,
    uses: Table,
    lots: Table,
}

impl DosesOf {
    /// Those of a store.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn open(store: &Store) -> Result<DosesOf, StoreError> {
        let (doses, uses) = (store.table(uses::DOSES)?, store.table(uses::USES)?);
        Ok(DosesOf { doses, uses, lots: store.table(LOTS)? })
    }

    /// What a dose was of.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn batch_of(&self, booking: BookingNumber) -> Result<Option<Use>, StoreError> {
        uses::of(&self.uses, booking)
    }

    /// The doses of a batch behind a place in the list.
    ///
    /// # Errors
    /// In place of a dose: the database cannot be read.
    pub fn of(
        &self,
        batch: &str,
        after: Option<(&str, BookingNumber)>,
    ) -> impl Iterator<Item = Result<Traced, StoreError>> + use<> {
        uses::of_batch(&self.doses, batch, None, after)
    }

    /// The counters of a batch at all centres together.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn sums(&self, batch: &str) -> Result<Lot, StoreError> {
        let mut sum = Lot::default();
        for row in self.lots.scan(&below(batch, b"")) {
            sum.add(&Lot::read(&row?.1).ok_or_else(damaged)?);
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_there_is_found_as_the_ledger_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let doses = || {
            (0..60).map(|booking| Filled {
                batch: format!("B{}", booking / 20),
                centre: format!("c{}", booking % 20 / 10),
                booking,
            })
        };
        fill(&store, doses).unwrap();
        let all = DosesOf::open(&store).unwrap();
        let found: Vec<_> = all.of("B1", None).map(|dose| dose.unwrap().booking.0).collect();
        assert_eq!(found, (20..40).collect::<Vec<_>>());
        let rest: Vec<_> = all.of("B1", Some(("c1", BookingNumber(35)))).map(|dose| dose.unwrap().booking.0).collect();
        assert_eq!(rest, [36, 37, 38, 39]);
        assert_eq!(all.batch_of(BookingNumber(41)).unwrap().unwrap().batch, "B2");
        assert_eq!(all.batch_of(BookingNumber(60)).unwrap(), None);
        assert_eq!((all.sums("B2").unwrap().given, all.sums("B3").unwrap().given), (20, 0));
    }
}
