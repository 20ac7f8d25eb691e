//! The waitlist as the store has it: a projection of the journal. A row for each entry, and which entries are open.
//!
//! A row says what was wished, which slots were offered and not taken, the offer that stands, and why the entry ended. A start reads
//! the open ones, and goes on where it was.

use std::collections::HashMap;

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::{BookingNumber, PartyId, Seq, SlotId, TimestampMs};
use parking_lot::Mutex;

use super::entry::{RECORDED_WAITLIST, Said, Why, Wish, offered_for};
use crate::store::{Change, Store, StoreError, Table};

/// An entry as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) wish: Wish,
    /// When it was joined.
    pub(super) at: TimestampMs,
    /// Slots that were offered, and let pass or declined.
    pub(super) passed: Vec<SlotId>,
    /// The offer that was made last, until it was let pass or declined.
    pub(super) offer: Option<(BookingNumber, SlotId)>,
    pub(super) ended: Option<(Why, TimestampMs)>,
}

/// The tables.
pub(super) struct Rows {
    /// Entry: its row.
    entries: Table,
    /// Entries that have not ended.
    open: Table,
    /// Party and entry.
    parties: Table,
    offers: Mutex<Offers>,
}

/// The newest offer of each open entry. One that is over is forgotten only with the next, or with its entry: an entry of the log may
/// be shown twice.
#[derive(Default)]
struct Offers {
    entries: HashMap<BookingNumber, Seq>,
    numbers: HashMap<Seq, BookingNumber>,
}

impl Offers {
    fn forget(&mut self, entry: Seq) {
        if let Some(number) = self.numbers.remove(&entry) {
            self.entries.remove(&number);
        }
    }

    fn keep(&mut self, entry: Seq, number: BookingNumber) {
        self.forget(entry);
        self.entries.insert(number, entry);
        self.numbers.insert(entry, number);
    }
}

fn damaged() -> StoreError {
    StoreError::Broken("a row of the waitlist is damaged".to_owned())
}

impl Row {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.at.0.to_le_bytes().to_vec();
        let (why, when) = self.ended.map_or((0, 0), |(why, at)| (why as u8, at.0));
        bytes.push(why);
        bytes.extend(when.to_le_bytes());
        let (number, slot) = self.offer.map_or((u64::MAX, 0), |(number, slot)| (number.0, slot.0));
        bytes.extend(number.to_le_bytes());
        bytes.extend(slot.to_le_bytes());
        bytes.push(u8::try_from(self.passed.len()).unwrap_or(u8::MAX));
        self.passed.iter().take(usize::from(u8::MAX)).for_each(|slot| bytes.extend(slot.0.to_le_bytes()));
        bytes.extend(self.wish.bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Row> {
        let (at, rest) = bytes.split_first_chunk::<8>()?;
        let (why, rest) = rest.split_first()?;
        let (when, rest) = rest.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (slot, rest) = rest.split_first_chunk::<4>()?;
        let (count, mut rest) = rest.split_first()?;
        let mut passed = Vec::new();
        for _ in 0..*count {
            let (slot, more) = rest.split_first_chunk::<4>()?;
            passed.push(SlotId(u32::from_le_bytes(*slot)));
            rest = more;
        }
        let number = u64::from_le_bytes(*number);
        let offer = (number != u64::MAX).then_some((BookingNumber(number), SlotId(u32::from_le_bytes(*slot))));
        let when = TimestampMs(u64::from_le_bytes(*when));
        let ended = if *why == 0 { None } else { Some((Why::of(*why)?, when)) };
        Some(Row { wish: Wish::read(rest)?, at: TimestampMs(u64::from_le_bytes(*at)), passed, offer, ended })
    }
}

impl Rows {
    pub(super) fn open(store: &Store) -> Result<Rows, StoreError> {
        let rows = Rows {
            entries: store.table("waitlist.entries")?,
            open: store.table("waitlist.open")?,
            parties: store.table("waitlist.parties")?,
            offers: Mutex::default(),
        };
        for (seq, row) in rows.still_open()? {
            row.offer.iter().for_each(|(number, _)| rows.offers.lock().keep(seq, *number));
        }
        Ok(rows)
    }

    pub(super) fn get(&self, entry: Seq) -> Result<Option<Row>, StoreError> {
        let row = self.entries.get(&entry.0.to_be_bytes())?;
        row.map(|bytes| Row::read(&bytes).ok_or_else(damaged)).transpose()
    }

    /// Every entry that has not ended, in the order of joining.
    pub(super) fn still_open(&self) -> Result<Vec<(Seq, Row)>, StoreError> {
        let mut open = Vec::new();
        for row in self.open.scan(b"") {
            let (key, _) = row?;
            let seq = Seq(u64::from_be_bytes(key.as_slice().try_into().map_err(|_| damaged())?));
            open.push((seq, self.get(seq)?.ok_or_else(damaged)?));
        }
        Ok(open)
    }

    /// The entries of a party, newest last.
    pub(super) fn of_party(&self, party: PartyId) -> Result<Vec<Seq>, StoreError> {
        let entry = |row: Result<(Vec<u8>, Vec<u8>), StoreError>| {
            let (key, _) = row?;
            let (_, seq) = key.split_last_chunk::<8>().ok_or_else(damaged)?;
            Ok(Seq(u64::from_be_bytes(*seq)))
        };
        self.parties.scan(&party.0.to_be_bytes()).map(entry).collect()
    }

    pub(super) fn apply(&self, change: &mut Change, seq: Seq, entry: &Entry) -> Result<(), StoreError> {
        match &entry.event {
            Event::Recorded { kind: RECORDED_WAITLIST, bytes } => {
                let unknown = || StoreError::Broken(format!("journal entry {seq} of the waitlist is not understood"));
                match Said::read(bytes).ok_or_else(unknown)? {
                    Said::Joined(wish) => {
                        let party = wish.party.0.to_be_bytes();
                        let row = Row { wish, at: entry.at, passed: Vec::new(), offer: None, ended: None };
                        change.put(&self.entries, &seq.0.to_be_bytes(), &row.bytes());
                        change.put(&self.open, &seq.0.to_be_bytes(), &[]);
                        change.put(&self.parties, &[&party[..], &seq.0.to_be_bytes()].concat(), &[]);
                    }
                    Said::Ended { entry: of, why } => {
                        self.change(change, of, |row| row.ended = row.ended.or(Some((why, entry.at))))?;
                        change.remove(&self.open, &of.0.to_be_bytes());
                        self.offers.lock().forget(of);
                    }
                }
            }
            Event::Offered { number, claim, note, .. } => {
                if let Some(of) = offered_for(note) {
                    self.change(change, of, |row| row.offer = Some((*number, claim.slot)))?;
                    self.offers.lock().keep(of, *number);
                }
            }
            Event::Expired { hold, .. } | Event::Released { hold, .. } => {
                let of = self.offers.lock().entries.get(hold).copied();
                if let Some(of) = of {
                    self.change(change, of, |row| {
                        if let Some((_, slot)) = row.offer.take_if(|(number, _)| number == hold) {
                            row.passed.push(slot);
                        }
                    })?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Of an entry that the store does not have, made after the log was trimmed, nothing is kept.
    fn change(&self, change: &mut Change, entry: Seq, with: impl FnOnce(&mut Row)) -> Result<(), StoreError> {
        if let Some(mut row) = self.get(entry)? {
            with(&mut row);
            change.put(&self.entries, &entry.0.to_be_bytes(), &row.bytes());
        }
        Ok(())
    }
}
