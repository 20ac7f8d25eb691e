//! The ledger in memory, as of the newest entry that was appended: what a recording, a transfer or a recall is judged by. It is made of the
//! store's rows at a start, and moved under one lock together with the journal, so that both have the same order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use berth_engine::{BookingNumber, ProductId, Seq, TimestampMs};
use jiff::civil::Date;

use super::entry::{BatchSpec, Said, Sending};
use super::lot::{Effect, Held};
use super::shapes::BatchRow;
use super::tables::Tables;
use super::uses::Use;
use crate::store::StoreError;

/// What stands against a dose of a batch, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// The batch is of another product.
    OtherProduct,
    /// The batch is recalled; of what a centre tells, was before the dose was given.
    Recalled,
    /// The batch had expired by the day on which the dose was given.
    Expired,
    /// No batch is named, or none that anybody has made known.
    Unknown,
    /// The books say that the centre had none of it.
    NoStock,
}

impl Doubt {
    /// Every one.
    pub const ALL: [Doubt; 5] = [Doubt::OtherProduct, Doubt::Recalled, Doubt::Expired, Doubt::Unknown, Doubt::NoStock];

    /// The name used on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Doubt::OtherProduct => "batch_other_product",
            Doubt::Recalled => "batch_recalled",
            Doubt::Expired => "batch_expired",
            Doubt::Unknown => "batch_unknown",
            Doubt::NoStock => "no_stock",
        }
    }

    /// Whether it is certain whatever the books of stock say: it is refused at the door whatever the programme says.
    #[must_use]
    pub const fn is_certain(self) -> bool {
        matches!(self, Doubt::OtherProduct | Doubt::Recalled | Doubt::Expired)
    }
}

pub(super) struct Known {
    pub(super) spec: BatchSpec,
    pub(super) recalled: Option<TimestampMs>,
    /// From outside, at all centres.
    pub(super) received: u64,
}

impl Known {
    pub(super) fn of(row: BatchRow) -> Known {
        let recalled = row.recall.as_ref().map(|recall| TimestampMs(recall.at));
        Known { spec: row.spec, recalled, received: 0 }
    }

    /// One of which only its number is known: it was recalled, or lies somewhere, and what made it known is lost.
    fn unknown(batch: &str) -> Known {
        Known::of(BatchRow::unknown(batch))
    }

    /// Whether anybody has made it known.
    pub(super) fn is_known(&self) -> bool {
        self.spec.quantity > 0
    }

    /// What stands against a dose whatever is in stock.
    pub(super) fn doubts(&self, product: ProductId, by: TimestampMs, day: Date) -> Vec<Doubt> {
        let known = self.is_known();
        let all = [
            (Doubt::OtherProduct, known && self.spec.product() != product),
            (Doubt::Recalled, self.recalled.is_some_and(|at| at <= by)),
            (Doubt::Expired, self.spec.expires < day),
            (Doubt::Unknown, !known),
        ];
        all.into_iter().filter_map(|(doubt, stands)| stands.then_some(doubt)).collect()
    }
}

#[derive(Default)]
pub(super) struct Books {
    pub(super) batches: BTreeMap<Arc<str>, Known>,
    /// By batch, then by centre.
    held: HashMap<Arc<str>, HashMap<Arc<str>, Held>>,
    /// On the way.
    pub(super) transfers: BTreeMap<Seq, Sending>,
    /// What doses are of that were corrected, until the store knows of it for good.
    moved: HashMap<BookingNumber, (Use, Seq)>,
    /// Corrections up to this entry are forgotten here: the store has them.
    pub(super) forgotten: Seq,
}

impl Books {
    pub(super) fn load(tables: &Tables) -> Result<Books, StoreError> {
        let mut books = Books::default();
        for row in tables.batches_from("") {
            let row = row?;
            let known = Known::of(row);
            books.batches.insert(Arc::from(known.spec.id.as_str()), known);
        }
        for row in tables.lots(None) {
            let (batch, centre, lot) = row?;
            books.known_mut(&batch).received += lot.received;
            *books.held_mut(&batch, &centre) = lot.held;
        }
        for (seq, transfer) in tables.open_transfers()? {
            books.transfers.insert(seq, transfer.sending);
        }
        Ok(books)
    }

    pub(super) fn held(&self, batch: &str, centre: &str) -> Held {
        self.held.get(batch).and_then(|centres| centres.get(centre)).copied().unwrap_or_default()
    }

    fn known_mut(&mut self, batch: &str) -> &mut Known {
        self.batches.entry(Arc::from(batch)).or_insert_with(|| Known::unknown(batch))
    }

    /// What a dose is of, as of the newest entry appended, where `found` is what the store said no longer ago than [forgotten](Books::forgotten).
    pub(super) fn corrected(&self, booking: BookingNumber) -> Option<&Use> {
        self.moved.get(&booking).map(|(of, _)| of)
    }

    /// A dose was corrected; what the store has for good by now is forgotten.
    pub(super) fn correct(&mut self, booking: BookingNumber, of: Use, seq: Seq, persisted: Seq) {
        self.moved.retain(|_, (_, seq)| *seq > persisted);
        self.forgotten = self.forgotten.max(persisted);
        self.moved.insert(booking, (of, seq));
    }

    fn held_mut(&mut self, batch: &str, centre: &str) -> &mut Held {
        if !self.held.contains_key(batch) {
            self.held.insert(Arc::from(batch), HashMap::new());
        }
        let centres = self.held.get_mut(batch).expect("it was put there");
        if !centres.contains_key(centre) {
            centres.insert(Arc::from(centre), Held::default());
        }
        centres.get_mut(centre).expect("it was put there")
    }

    pub(super) fn apply(&mut self, batch: &str, centre: &str, effect: Effect) {
        self.held_mut(batch, centre).apply(effect);
    }

    /// What the journal has taken.
    pub(super) fn take_in(&mut self, seq: Seq, now: TimestampMs, said: &Said) {
        match said {
            // Its recall stands, and what was received of it.
            Said::Batch { batch } | Said::Amended { batch, .. } => self.known_mut(&batch.id).spec.clone_from(batch),
            Said::Received { batch, quantity, .. } => self.known_mut(batch).received += quantity,
            Said::Recalled { batch, .. } | Said::Lifted { batch, .. } => {
                self.known_mut(batch).recalled = matches!(said, Said::Recalled { .. }).then_some(now);
            }
            Said::Sent { sending } => {
                self.transfers.insert(seq, sending.clone());
            }
            Said::Arrived { .. } | Said::Cancelled { .. } => {
                said.ends().and_then(|transfer| self.transfers.remove(&transfer));
            }
            Said::Wasted { .. } | Said::Counted { .. } => {}
        }
        for (batch, centre, effect) in said.effects() {
            self.apply(batch, centre, effect);
        }
    }

    /// What stands against a dose, the worst first.
    // rule: SUP-3 a batch that is recalled, expired or of another product is not given
    pub(super) fn doubts(&self, dose: &Asked<'_>) -> Vec<Doubt> {
        let Asked { centre, batch, product, by, day } = *dose;
        let Some(known) = self.batches.get(batch) else { return vec![Doubt::Unknown] };
        let mut doubts = known.doubts(product, by, day);
        // Of what nobody knows nobody says that there is none.
        if known.is_known() && self.held(batch, centre).on_hand == 0 {
            doubts.push(Doubt::NoStock);
        }
        doubts
    }
}

/// A dose that is to be recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) centre: &'a str,
    /// Empty: nobody says.
    pub(super) batch: &'a str,
    pub(super) product: ProductId,
    /// A recall from before then stands against it.
    pub(super) by: TimestampMs,
    pub(super) day: Date,
}
