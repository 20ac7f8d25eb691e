//! The ledger as the store has it: a projection of the journal. Counters of each batch at each centre and of each centre's day are rows that
//! each entry moves, and doses are found by their batch and by their booking: nothing is made by reading through all doses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::{BookingNumber, Engine, PartyId, ProductId, Seq, TimestampMs};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entry::{RECORDED_SUPPLY, Said};
use super::lot::{Day, Effect, Held, Lot};
use super::rows::LOTS;
use super::shapes::{AMENDED_KEPT, Amended, BatchRow, Recall, Transfer, TransferState};
use super::uses::{self, Use};
use crate::calendar::Calendar;
use crate::catalogue::Catalogue;
use crate::store::{Change, Projection, Store, StoreError, Table};

/// The tables.
pub(super) struct Tables {
    engine: Arc<Engine>,
    catalogue: Arc<Catalogue>,
    calendar: Calendar,
    batches: Table,
    /// Batch and centre: its [`Lot`].
    lots: Table,
    /// Centre and batch: 1 if there is something of it, there or on the way from there, 0 if there was.
    places: Table,
    /// Centre: doses on hand, of all batches.
    on_hand: Table,
    /// Centre and day: its [`Day`].
    days: Table,
    transfers: Table,
    /// Transfers on the way.
    open: Table,
    /// Centre and transfer on the way, from there or to it.
    open_at: Table,
    /// Batch, centre and booking: a dose.
    doses: Table,
    /// Booking: its batch.
    uses: Table,
    meta: Table,
    /// The newest entry up to which doses were recorded whose batch is not in these tables.
    began: AtomicU64,
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

/// The rows of a table with this prefix, from this key on.
pub(super) fn within(
    table: &Table,
    prefix: Vec<u8>,
    start: &[u8],
) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + use<> {
    let rows = table.from(if start < prefix.as_slice() { &prefix } else { start });
    rows.take_while(move |row| row.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix)))
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
        let (open, open_at) = (store.table("supply.open")?, store.table("supply.open_at")?);
        let transfers = store.table("supply.transfers")?;
        // A store that was made before there were rows by centre has none of them, or some if its first start was cut off.
        for row in open.scan(b"") {
            let (seq, _) = row?;
            let transfer: Transfer = read(&transfers.get(&seq)?.ok_or_else(damaged)?)?;
            for centre in [&transfer.sending.from, &transfer.sending.to] {
                open_at.set(&below(centre, &seq), &[])?;
            }
        }
        Ok(Tables {
            engine,
            catalogue,
            calendar,
            batches: store.table("supply.batches")?,
            lots: store.table(LOTS)?,
            places: store.table("supply.places")?,
            on_hand: store.table("supply.on_hand")?,
            days: store.table("supply.days")?,
            transfers,
            open,
            open_at,
            doses: store.table(uses::DOSES)?,
            uses: store.table(uses::USES)?,
            meta,
            began: AtomicU64::new(began.0),
        })
    }

    pub(super) fn began(&self) -> Seq {
        // Relaxed: it says nothing about anything else.
        Seq(self.began.load(Ordering::Relaxed))
    }

    /// A dose of before the ledger: what it was of is sealed, and nothing of it can be found by its batch.
    fn of_before(&self, change: &mut Change, seq: Seq) {
        self.began.fetch_max(seq.0, Ordering::Relaxed);
        change.put(&self.meta, BEGAN, &self.began().0.to_be_bytes());
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

    /// The batches that a centre has, or has had, behind this one in the order of their numbers; and whether there is something of it.
    pub(super) fn batches_at(
        &self,
        centre: &str,
        after: &str,
    ) -> impl Iterator<Item = Result<(String, bool), StoreError>> + use<> {
        let prefix = below(centre, b"");
        let start = if after.is_empty() { prefix.clone() } else { [&prefix, after.as_bytes(), &[0]].concat() };
        within(&self.places, prefix, &start).map(|row| {
            let (key, row) = row?;
            let (_, batch) = split(&key).ok_or_else(damaged)?;
            Ok((String::from_utf8(batch.to_vec()).map_err(|_| damaged())?, row != [0]))
        })
    }

    /// Doses on hand at a centre, of all batches.
    pub(super) fn on_hand(&self, centre: &str) -> Result<u64, StoreError> {
        self.on_hand.get(centre.as_bytes())?.map_or(Ok(0), |row| number(&row))
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

    /// Those on the way from a centre or to it, behind one, in the order in which they were sent.
    pub(super) fn open_at(
        &self,
        centre: &str,
        after: Seq,
    ) -> impl Iterator<Item = Result<(Seq, Option<Transfer>), StoreError>> + use<> {
        let prefix = below(centre, b"");
        let transfers = self.transfers.clone();
        within(&self.open_at, prefix, &below(centre, &after.0.saturating_add(1).to_be_bytes())).map(move |row| {
            let (key, _) = row?;
            let (_, seq) = split(&key).ok_or_else(damaged)?;
            let row = transfers.get(seq)?.map(|row| read(&row)).transpose()?;
            Ok((Seq(number(seq)?), row))
        })
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

    /// Whose, where and on which day a booking was for; written before any entry that names it. Of a slot that is in no catalogue the
    /// centre is empty.
    fn place(&self, booking: BookingNumber, seq: Seq) -> Result<Place, StoreError> {
        let unknown = || StoreError::Broken(format!("journal entry {seq} names booking {booking}, which has no place"));
        let (claim, _) = self.engine.claimed(booking).ok_or_else(unknown)?;
        let Some(place) = self.catalogue.slot(claim.slot) else {
            // Slots of an embedder who publishes no centres: there is no stock to count, and doses are found all the same.
            let facts = self.engine.slot_facts(claim.slot).unwrap_or_default();
            let day = self.calendar.day(facts.starts_at);
            return Ok(Place { party: claim.party, centre: Arc::from(""), day, product: facts.product });
        };
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

    /// The row of a day; of no centre nothing is [written](Moved::write).
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
            None => self.tables.on_hand(centre)?,
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
        let Moved { tables, mut lots, mut days, mut on_hand, .. } = self;
        lots.retain(|(_, centre), _| !centre.is_empty());
        days.retain(|(centre, _), _| !centre.is_empty());
        on_hand.retain(|centre, _| !centre.is_empty());
        for ((batch, centre), lot) in lots {
            change.put(&tables.lots, &below(&batch, centre.as_bytes()), &lot.bytes());
            let there = lot.held != Held::default() || lot.on_the_way > 0;
            change.put(&tables.places, &below(&centre, batch.as_bytes()), &[u8::from(there)]);
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
                let mut row = self.batch(&batch.id)?.unwrap_or_else(|| BatchRow::unknown(&batch.id));
                row.spec.clone_from(batch);
                change.put(&self.batches, batch.id.as_bytes(), &json(&row));
            }
            Said::Amended { batch, reason } => {
                let mut row = self.batch(&batch.id)?.unwrap_or_else(|| BatchRow::unknown(&batch.id));
                let before = std::mem::replace(&mut row.spec, batch.clone());
                row.amended.push(Amended { at: at.0, reason: reason.clone(), before });
                row.amended.drain(..row.amended.len().saturating_sub(AMENDED_KEPT));
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
                for centre in [&sending.from, &sending.to] {
                    change.put(&self.open_at, &below(centre, &seq.0.to_be_bytes()), &[]);
                }
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
                for centre in [&sending.from, &sending.to] {
                    change.remove(&self.open_at, &below(centre, &of.0.to_be_bytes()));
                }
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
                if uses::is_of_before(note) {
                    self.of_before(change, seq);
                }
                let (batch, product) = uses::given(note);
                self.given(change, when, *booking, (&batch, product.unwrap_or(given.product)))
            }
            Event::FactsChanged { note, .. } => match uses::later(note) {
                Some(uses::Later::Corrected { booking, batch, product }) => {
                    self.corrected(change, when, booking, (batch, product))
                }
                Some(uses::Later::Revoked { booking }) => self.revoked(change, when, booking),
                None if uses::is_of_before(note) => {
                    self.of_before(change, seq);
                    Ok(())
                }
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
