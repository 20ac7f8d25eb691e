//! The ledger as the store has it: a projection of the journal. Counters of each batch at each centre and of each centre's day are rows that
//! each entry moves, and doses are found by their batch and by their booking: nothing is made by reading through all doses.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::{BookingNumber, Engine, PartyId, ProductId, Seq, TimestampMs};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::entry::{BatchSpec, RECORDED_SUPPLY, Said, Sending};
use super::lot::{Day, Effect, Lot};
use super::rows::LOTS;
use super::uses::{self, Use};
use crate::calendar::Calendar;
use crate::catalogue::Catalogue;
use crate::store::{Change, Projection, Store, StoreError, Table};

/// A batch, and whether it may be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRow {
    /// As it was made.
    pub spec: BatchSpec,
    /// The recall that stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<Recall>,
    /// How often it was recalled.
    #[serde(default)]
    pub recalls: u64,
}

impl BatchRow {
    /// One of which nothing is known but its number.
    fn unknown(batch: &str) -> BatchRow {
        let spec = BatchSpec {
            id: batch.to_owned(),
            product: 0,
            quantity: 0,
            expires: jiff::civil::Date::MAX,
            manufacturer: String::new(),
            doses_per_vial: None,
        };
        BatchRow { spec, recall: None, recalls: 0 }
    }

    /// Whether it is known what it is.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.spec.quantity > 0
    }
}

impl Transfer {
    fn of(sending: Sending, at: TimestampMs) -> Transfer {
        Transfer { sending, sent_at: at.0, state: TransferState::Sent, arrived: None, ended_at: None }
    }
}

/// That a batch must not be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recall {
    /// Since when, in milliseconds.
    pub at: u64,
    /// Why, in a word.
    pub reason: String,
}

/// What became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// On the way.
    Sent,
    /// There, or what of it is.
    Arrived,
    /// It did not go.
    Cancelled,
}

impl TransferState {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            TransferState::Sent => "sent",
            TransferState::Arrived => "arrived",
            TransferState::Cancelled => "cancelled",
        }
    }
}

/// A transfer, from its sending on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// What was sent.
    pub sending: Sending,
    /// When, in milliseconds.
    pub sent_at: u64,
    /// What became of it.
    pub state: TransferState,
    /// How many arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrived: Option<u64>,
    /// When it arrived or was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
}

/// The tables.
pub(super) struct Tables {
    engine: Arc<Engine>,
    catalogue: Arc<Catalogue>,
    calendar: Calendar,
    batches: Table,
    /// Batch and centre: its [`Lot`].
    lots: Table,
    /// Centre and batch: that there is a lot.
    places: Table,
    /// Centre: doses on hand, of all batches.
    on_hand: Table,
    /// Centre and day: its [`Day`].
    days: Table,
    transfers: Table,
    /// Transfers on the way.
    open: Table,
    /// Batch, centre and booking: a dose.
    doses: Table,
    /// Booking: its batch.
    uses: Table,
    /// The newest entry before which doses were recorded that are not in these tables.
    began: Seq,
}

pub(super) fn damaged() -> StoreError {
    StoreError::Broken("a row of supply is damaged".to_owned())
}

/// Neither a batch nor a centre has a zero byte, so none is another's beginning.
pub(super) fn below(first: &str, rest: &[u8]) -> Vec<u8> {
    [first.as_bytes(), &[0], rest].concat()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it has only string keys, and memory takes it")
}

fn read<T: DeserializeOwned>(row: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(row).map_err(|_| damaged())
}

/// The text in front of a zero, and what is behind it.
pub(super) fn split(key: &[u8]) -> Option<(&str, &[u8])> {
    let at = key.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(key.get(..at)?).ok()?, key.get(at + 1..)?))
}

fn number(bytes: &[u8]) -> Result<u64, StoreError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| damaged())
}

const BEGAN: &[u8] = b"began";

impl Tables {
    pub(super) fn open(
        engine: Arc<Engine>,
        catalogue: Arc<Catalogue>,
        calendar: Calendar,
        store: &Store,
    ) -> Result<Tables, StoreError> {
        let meta = store.table("supply.meta")?;
        let began = match meta.get(BEGAN)? {
            Some(began) => Seq(number(&began)?),
            None => {
                // A store that followed the log before there was a ledger has not kept the doses of that time here.
                let began = store.applied();
                meta.set(BEGAN, &began.0.to_be_bytes())?;
                began
            }
        };
        Ok(Tables {
            engine,
            catalogue,
            calendar,
            batches: store.table("supply.batches")?,
            lots: store.table(LOTS)?,
            places: store.table("supply.places")?,
            on_hand: store.table("supply.on_hand")?,
            days: store.table("supply.days")?,
            transfers: store.table("supply.transfers")?,
            open: store.table("supply.open")?,
            doses: store.table(uses::DOSES)?,
            uses: store.table(uses::USES)?,
            began,
        })
    }

    pub(super) fn began(&self) -> Seq {
        self.began
    }

    pub(super) fn batch(&self, id: &str) -> Result<Option<BatchRow>, StoreError> {
        self.batches.get(id.as_bytes())?.map(|row| read(&row)).transpose()
    }

    /// From this id on, in order.
    pub(super) fn batches_from(&self, id: &str) -> impl Iterator<Item = Result<BatchRow, StoreError>> + use<> {
        self.batches.from(id.as_bytes()).map(|row| read(&row?.1))
    }

    pub(super) fn lot(&self, batch: &str, centre: &str) -> Result<Lot, StoreError> {
        let row = self.lots.get(&below(batch, centre.as_bytes()))?;
        row.map_or(Ok(Lot::default()), |row| Lot::read(&row).ok_or_else(damaged))
    }

    /// Every lot of a batch, or of all: batch, centre, lot.
    pub(super) fn lots(
        &self,
        batch: Option<&str>,
    ) -> impl Iterator<Item = Result<(String, String, Lot), StoreError>> + use<> {
        let prefix = batch.map(|batch| below(batch, b"")).unwrap_or_default();
        self.lots.scan(&prefix).map(|row| {
            let (key, row) = row?;
            let (batch, centre) = split(&key).ok_or_else(damaged)?;
            let centre = std::str::from_utf8(centre).map_err(|_| damaged())?;
            Ok((batch.to_owned(), centre.to_owned(), Lot::read(&row).ok_or_else(damaged)?))
        })
    }

    /// The batches that a centre has, or has had.
    pub(super) fn batches_at(&self, centre: &str) -> Result<Vec<String>, StoreError> {
        let batch = |row: Result<(Vec<u8>, Vec<u8>), StoreError>| {
            let (key, _) = row?;
            let (_, batch) = split(&key).ok_or_else(damaged)?;
            String::from_utf8(batch.to_vec()).map_err(|_| damaged())
        };
        self.places.scan(&below(centre, b"")).map(batch).collect()
    }

    pub(super) fn transfer(&self, transfer: Seq) -> Result<Option<Transfer>, StoreError> {
        self.transfers.get(&transfer.0.to_be_bytes())?.map(|row| read(&row)).transpose()
    }

    /// Those on the way, in the order in which they were sent.
    pub(super) fn open_transfers(&self) -> Result<Vec<(Seq, Transfer)>, StoreError> {
        let one = |row: Result<(Vec<u8>, Vec<u8>), StoreError>| {
            let seq = Seq(number(&row?.0)?);
            Ok((seq, self.transfer(seq)?.ok_or_else(damaged)?))
        };
        self.open.scan(b"").map(one).collect()
    }

    /// The days of a centre on which something was counted, up to `last`, in order.
    pub(super) fn days(&self, centre: &str, last: u16) -> impl Iterator<Item = Result<(u16, Day), StoreError>> + use<> {
        let rows = self.days.scan(&below(centre, b"")).map(|row| {
            let (key, row) = row?;
            let day = key.last_chunk::<2>().ok_or_else(damaged)?;
            Ok((u16::from_be_bytes(*day), Day::read(&row).ok_or_else(damaged)?))
        });
        rows.take_while(move |day| day.as_ref().map_or(true, |(day, _)| *day <= last))
    }

    pub(super) fn doses_table(&self) -> &Table {
        &self.doses
    }

    pub(super) fn use_of(&self, booking: BookingNumber) -> Result<Option<Use>, StoreError> {
        uses::of(&self.uses, booking)
    }

    /// Whose, where and on which day a booking was for; written before any entry that names it.
    fn place(&self, booking: BookingNumber, seq: Seq) -> Result<Place, StoreError> {
        let unknown = || StoreError::Broken(format!("journal entry {seq} names booking {booking}, which has no place"));
        let (claim, _) = self.engine.claimed(booking).ok_or_else(unknown)?;
        let place = self.catalogue.slot(claim.slot).ok_or_else(unknown)?;
        let day = Calendar::day_of(place.session.date).unwrap_or_default();
        let (centre, product) = (Arc::clone(&place.session.centre), place.session.product);
        Ok(Place { party: claim.party, centre, day, product })
    }
}

struct Place {
    party: PartyId,
    centre: Arc<str>,
    day: u16,
    product: ProductId,
}

/// The rows that one entry moves, read once and written once.
struct Moved<'a> {
    tables: &'a Tables,
    lots: BTreeMap<(String, String), Lot>,
    days: BTreeMap<(String, u16), Day>,
    on_hand: BTreeMap<String, u64>,
    /// The day on which it was written down.
    today: u16,
}

impl<'a> Moved<'a> {
    fn new(tables: &'a Tables, at: TimestampMs) -> Moved<'a> {
        let (lots, days, on_hand) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Moved { tables, lots, days, on_hand, today: tables.calendar.day(at) }
    }

    fn day(&mut self, centre: &str, day: u16) -> Result<&mut Day, StoreError> {
        let key = (centre.to_owned(), day);
        if !self.days.contains_key(&key) {
            let row = self.tables.days.get(&below(centre, &day.to_be_bytes()))?;
            let found = row.map_or(Ok(Day::default()), |row| Day::read(&row).ok_or_else(damaged))?;
            self.days.insert(key.clone(), found);
        }
        self.days.get_mut(&key).ok_or_else(damaged)
    }

    fn apply(&mut self, batch: &str, centre: &str, effect: Effect) -> Result<(), StoreError> {
        let key = (batch.to_owned(), centre.to_owned());
        if !self.lots.contains_key(&key) {
            let lot = self.tables.lot(batch, centre)?;
            self.lots.insert(key.clone(), lot);
        }
        let lot = self.lots.get_mut(&key).ok_or_else(damaged)?;
        let before = lot.held.on_hand;
        lot.apply(effect);
        let after = lot.held.on_hand;
        let there = match self.on_hand.get(centre) {
            Some(there) => *there,
            None => {
                let row = self.tables.on_hand.get(centre.as_bytes())?;
                row.map_or(Ok(0), |row| number(&row))?
            }
        };
        let there = (there + after).saturating_sub(before);
        self.on_hand.insert(centre.to_owned(), there);
        let today = self.today;
        let day = self.day(centre, today)?;
        day.apply(effect);
        day.ends_with(there);
        Ok(())
    }

    fn write(self, change: &mut Change) {
        let Moved { tables, lots, days, on_hand, .. } = self;
        for ((batch, centre), lot) in lots {
            change.put(&tables.lots, &below(&batch, centre.as_bytes()), &lot.bytes());
            change.put(&tables.places, &below(&centre, batch.as_bytes()), &[]);
        }
        for ((centre, day), row) in days {
            change.put(&tables.days, &below(&centre, &day.to_be_bytes()), &row.bytes());
        }
        for (centre, there) in on_hand {
            change.put(&tables.on_hand, centre.as_bytes(), &there.to_be_bytes());
        }
    }
}

impl Tables {
    fn apply_said(&self, change: &mut Change, seq: Seq, at: TimestampMs, said: &Said) -> Result<(), StoreError> {
        match said {
            Said::Batch { batch } => {
                let before = self.batch(&batch.id)?;
                let (recall, recalls) = before.map_or((None, 0), |row| (row.recall, row.recalls));
                let row = BatchRow { spec: batch.clone(), recall, recalls };
                change.put(&self.batches, batch.id.as_bytes(), &json(&row));
            }
            Said::Recalled { batch, .. } | Said::Lifted { batch, .. } => {
                // Made known in what a store that began late has not seen: that it is recalled is kept all the same.
                let mut row = self.batch(batch)?.unwrap_or_else(|| BatchRow::unknown(batch));
                if let Said::Recalled { reason, .. } = said {
                    row.recall = Some(Recall { at: at.0, reason: reason.clone() });
                    row.recalls += 1;
                } else {
                    row.recall = None;
                }
                change.put(&self.batches, batch.as_bytes(), &json(&row));
            }
            Said::Sent { sending } => {
                let row = Transfer::of(sending.clone(), at);
                change.put(&self.transfers, &seq.0.to_be_bytes(), &json(&row));
                change.put(&self.open, &seq.0.to_be_bytes(), &[]);
            }
            Said::Arrived { .. } | Said::Cancelled { .. } => {
                let of = said.ends().ok_or_else(damaged)?;
                let (Said::Arrived { sending, .. } | Said::Cancelled { sending, .. }) = said else { return Ok(()) };
                let late = || Transfer::of(sending.clone(), at);
                let mut row = self.transfer(of)?.unwrap_or_else(late);
                row.ended_at = Some(at.0);
                row.state = TransferState::Cancelled;
                if let Said::Arrived { arrived, .. } = said {
                    (row.state, row.arrived) = (TransferState::Arrived, Some(*arrived));
                }
                change.put(&self.transfers, &of.0.to_be_bytes(), &json(&row));
                change.remove(&self.open, &of.0.to_be_bytes());
            }
            Said::Received { .. } | Said::Wasted { .. } | Said::Counted { .. } => {}
        }
        let mut moved = Moved::new(self, at);
        for (batch, centre, effect) in said.effects() {
            moved.apply(batch, centre, effect)?;
        }
        moved.write(change);
        Ok(())
    }

    // rule: SUP-2 a dose is found by its batch, and its batch by the dose
    fn given(
        &self,
        change: &mut Change,
        (seq, at): (Seq, TimestampMs),
        booking: BookingNumber,
        (batch, product): (&str, ProductId),
    ) -> Result<(), StoreError> {
        let place = self.place(booking, seq)?;
        let mut moved = Moved::new(self, at);
        moved.day(&place.centre, place.day)?.given += 1;
        if !batch.is_empty() {
            moved.apply(batch, &place.centre, Effect::Given)?;
        }
        moved.write(change);
        let of = Use { batch: batch.to_owned(), product, valid: true };
        self.put(change, booking, &place, &of);
        Ok(())
    }

    fn put(&self, change: &mut Change, booking: BookingNumber, place: &Place, of: &Use) {
        change.put(&self.uses, &booking.0.to_be_bytes(), &of.bytes());
        if !of.batch.is_empty() {
            let key = uses::key(&of.batch, &place.centre, booking);
            change.put(&self.doses, &key, &uses::row(place.party, place.day, of));
        }
    }

    fn corrected(
        &self,
        change: &mut Change,
        (seq, at): (Seq, TimestampMs),
        booking: BookingNumber,
        (batch, product): (Option<String>, Option<ProductId>),
    ) -> Result<(), StoreError> {
        let place = self.place(booking, seq)?;
        // Of one from before the ledger nothing is kept but what is said of it now.
        let of_slot = || Use { batch: String::new(), product: place.product, valid: true };
        let before = self.use_of(booking)?.unwrap_or_else(of_slot);
        let after = Use {
            batch: batch.unwrap_or_else(|| before.batch.clone()),
            product: product.unwrap_or(before.product),
            valid: before.valid,
        };
        if after.batch != before.batch {
            let mut moved = Moved::new(self, at);
            let (off, on) = moves(before.valid);
            for (batch, effect) in [(&before.batch, off), (&after.batch, on)] {
                if !batch.is_empty() {
                    moved.apply(batch, &place.centre, effect)?;
                }
            }
            moved.write(change);
            if !before.batch.is_empty() {
                change.remove(&self.doses, &uses::key(&before.batch, &place.centre, booking));
            }
        }
        self.put(change, booking, &place, &after);
        Ok(())
    }

    fn revoked(
        &self,
        change: &mut Change,
        (seq, at): (Seq, TimestampMs),
        booking: BookingNumber,
    ) -> Result<(), StoreError> {
        let Some(before) = self.use_of(booking)?.filter(|before| before.valid) else { return Ok(()) };
        let place = self.place(booking, seq)?;
        let mut moved = Moved::new(self, at);
        let day = moved.day(&place.centre, place.day)?;
        day.given = day.given.saturating_sub(1);
        day.revoked += 1;
        if !before.batch.is_empty() {
            moved.apply(&before.batch, &place.centre, Effect::Revoked)?;
        }
        moved.write(change);
        self.put(change, booking, &place, &Use { valid: false, ..before });
        Ok(())
    }
}

/// What moving a dose to another batch does to the one, and to the other.
pub(super) fn moves(valid: bool) -> (Effect, Effect) {
    if valid { (Effect::NotGiven, Effect::Given) } else { (Effect::NotRevoked, Effect::GoneRevoked) }
}

impl Projection for Tables {
    fn apply(&self, change: &mut Change, seq: Seq, entry: &Entry) -> Result<(), StoreError> {
        let when = (seq, entry.at);
        match &entry.event {
            Event::Recorded { kind: RECORDED_SUPPLY, bytes } => {
                let said = Said::read(bytes);
                let said = said.ok_or_else(|| StoreError::Broken(format!("journal entry {seq} of supply")))?;
                self.apply_said(change, seq, entry.at, &said)
            }
            Event::Completed { booking, given } => self.given(change, when, *booking, ("", given.product)),
            Event::CompletedNoted { booking, given, note } => {
                let (batch, product) = uses::given(note);
                self.given(change, when, *booking, (&batch, product.unwrap_or(given.product)))
            }
            Event::FactsChanged { note, .. } => match uses::later(note) {
                Some(uses::Later::Corrected { booking, batch, product }) => {
                    self.corrected(change, when, booking, (batch, product))
                }
                Some(uses::Later::Revoked { booking }) => self.revoked(change, when, booking),
                None => Ok(()),
            },
            Event::NoShow { booking } => {
                let place = self.place(*booking, seq)?;
                let mut moved = Moved::new(self, entry.at);
                moved.day(&place.centre, place.day)?.no_shows += 1;
                moved.write(change);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
