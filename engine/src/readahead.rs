//! The log at a start, read ahead: one thread reads, checks and decodes it, one puts the idempotency keys back, and the caller's
//! applies the rest. None waits for another but when it is [`AHEAD`] portions before it.
//!
//! What may be told apart is the same as with one thread: what the reader finds damaged is reported for its place, and before
//! whatever did not fit in the entries ahead of it; entries are applied in order; a key's entries come to the map in order.

use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use arrayvec::ArrayVec;

use crate::booking::{State, Step};
use crate::clock::Stopwatch;
use crate::command::{Claim, Given};
use crate::dedupe::{KeyRow, Remembered, Sorter};
use crate::ids::{BookingNumber, CellId, Seq};
use crate::inventory::Inventory;
use crate::journal::brief::{Brief, BriefEvent};
use crate::journal::entry::{Entry, Event};
use crate::journal::frame::{Frame, FrameError};
use crate::journal::reader::{self, ReadError, Tail, read_directory};
use crate::journal::storage::Storage;
use crate::progress::{Progress, Stage};
use crate::replay::{Change, KeyReplayer, Replayer, key_row};
use crate::units::TimestampMs;

/// Entries that are handed over at once.
const PORTION: usize = 4096;
/// Bytes of frames after which fewer entries are handed over.
const PORTION_BYTES: u64 = 1 << 20;
/// Entries whose records are read together before they are applied.
const WARM: usize = 128;
/// Portions that may wait to be applied.
const AHEAD: usize = 16;
/// Keys that are put back at once: some dozens for each shard of the map.
pub(crate) const KEYS_AT_ONCE: usize = 1 << 16;

/// An entry in little, so that what passes from thread to thread stays small. Claims of groups and what is rare lie apart.
#[derive(Clone, Copy, Debug)]
enum Row {
    Claim {
        first: BookingNumber,
        state: State,
        expires_at: TimestampMs,
        claim: Claim,
    },
    Offer {
        number: BookingNumber,
        expires_at: TimestampMs,
        claim: Claim,
    },
    Steps {
        first: BookingNumber,
        len: u8,
        step: Step,
    },
    Given {
        booking: BookingNumber,
        given: Given,
    },
    /// An entry that changes no table.
    Nothing,
    /// The next event of [`Portion::events`].
    Apart,
}

/// Entries that follow one another.
#[derive(Debug, Default)]
struct Portion {
    first: Seq,
    rows: Vec<Row>,
    events: Vec<Event>,
    /// The newest time of an entry among them.
    newest: TimestampMs,
    /// Bytes of frames that were read with them.
    bytes: u64,
}

impl Portion {
    fn push(&mut self, seq: Seq, at: TimestampMs, row: Row) {
        if self.rows.is_empty() {
            self.first = seq;
        }
        self.newest = self.newest.max(at);
        self.rows.push(row);
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.events.clear();
        (self.newest, self.bytes) = (TimestampMs(0), 0);
    }

    fn apply(&self, replayer: &mut Replayer<'_>) {
        let mut events = self.events.iter();
        for (index, row) in self.rows.iter().enumerate() {
            let seq = Seq(self.first.0 + index as u64);
            if index % WARM == 0 {
                warm(&self.rows[index..self.rows.len().min(index + WARM)], replayer.inventory());
            }
            match row {
                Row::Claim { first, state, expires_at, claim } => {
                    let claims = std::slice::from_ref(claim);
                    let (first, state, expires_at) = (*first, *state, *expires_at);
                    replayer.apply(seq, self.newest, Change::Claims { first, state, expires_at, claims });
                }
                Row::Offer { number, expires_at, claim } => {
                    let (number, expires_at, claim) = (*number, *expires_at, *claim);
                    replayer.apply(seq, self.newest, Change::Offer { number, expires_at, claim });
                }
                Row::Steps { first, len, step } => {
                    replayer.apply(seq, self.newest, Change::Steps { first: *first, len: *len, step: *step });
                }
                Row::Given { booking, given } => {
                    replayer.apply(seq, self.newest, Change::Given { booking: *booking, given: *given });
                }
                Row::Nothing => replayer.apply(seq, self.newest, Change::Nothing),
                Row::Apart => {
                    let event = events.next().expect("one for each such row");
                    replayer.apply(seq, self.newest, Change::of(event));
                }
            }
        }
    }
}

/// Reads the records that these rows are about to change.
fn warm(rows: &[Row], inventory: &Inventory) {
    let claim_of = |number| Some(inventory.bookings.get(number)?.view(number)?.claim);
    let claims: ArrayVec<Claim, WARM> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Claim { claim, .. } | Row::Offer { claim, .. } => Some(*claim),
            // None yet if it is claimed among these rows.
            Row::Steps { first, .. } | Row::Given { booking: first, .. } => claim_of(*first),
            Row::Nothing | Row::Apart => None,
        })
        .collect();
    std::hint::black_box(inventory.warm(&claims));
}

/// Reads and applies the log behind `from`.
pub(crate) fn replay_log(
    storage: &dyn Storage,
    cell: CellId,
    from: Seq,
    replayer: &mut Replayer<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Tail, ReadError> {
    let watch = Stopwatch::start();
    let bytes_max = reader::bytes_behind(storage, from)?;
    let mut progress = Progress { stage: Stage::Log, entries: 0, bytes: 0, bytes_max, nanos: 0 };
    let keys = replayer.keys();
    let (send, portions) = sync_channel::<Portion>(AHEAD);
    let (send_keys, key_rows) = sync_channel::<Vec<KeyRow>>(2);
    // What was applied comes back to be filled again: fresh memory costs more than what is written to it.
    let (give_back, spare) = channel::<Portion>();
    let (give_keys_back, spare_keys) = channel::<Vec<KeyRow>>();
    std::thread::scope(|scope| {
        let ahead = scope.spawn(move || {
            let portion = Portion::default();
            let mut ahead = Ahead {
                from,
                send,
                spare,
                portion,
                send_keys,
                spare_keys,
                rows: Vec::new(),
                keys,
                reserved: false,
                read: 0,
                bytes_max,
            };
            let tail = read_directory(storage, cell, from, &mut |frame| ahead.frame(frame));
            ahead.hand_over();
            ahead.hand_over_keys();
            tail
        });
        let restoring = scope.spawn(move || {
            let mut sorter = Sorter::default();
            for mut rows in key_rows {
                keys.restore(&rows, &mut sorter);
                rows.clear();
                let _ = give_keys_back.send(rows);
            }
        });
        for mut portion in portions {
            portion.apply(replayer);
            progress.entries += portion.rows.len() as u64;
            progress.bytes += portion.bytes;
            progress.nanos = watch.nanos();
            on_progress(progress);
            portion.clear();
            // Nobody takes it back once all was read.
            let _ = give_back.send(portion);
        }
        restoring.join().expect("putting keys back does not panic");
        ahead.join().expect("reading does not panic")
    })
}

/// The reading side.
struct Ahead<'a> {
    from: Seq,
    keys: KeyReplayer<'a>,
    /// Bytes of frames read, of at most so many.
    read: u64,
    bytes_max: u64,
    send: SyncSender<Portion>,
    spare: Receiver<Portion>,
    portion: Portion,
    send_keys: SyncSender<Vec<KeyRow>>,
    spare_keys: Receiver<Vec<KeyRow>>,
    /// Whether room was made for the keys to come.
    reserved: bool,
    rows: Vec<KeyRow>,
}

impl Ahead<'_> {
    /// As [`Frame::entries`]; entries that a snapshot has are passed over.
    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), FrameError> {
        self.portion.bytes += frame.bytes.len() as u64;
        self.read += frame.bytes.len() as u64;
        let mut rest = frame.payload();
        for (seq, index) in (frame.header.first.0..).map(Seq).zip(0..frame.header.count) {
            let len = match Brief::read(rest) {
                Some((brief, len)) => {
                    if seq > self.from {
                        self.brief(seq, &brief);
                    }
                    len
                }
                None => {
                    let (entry, len) = Entry::decode(rest).map_err(|error| FrameError::Entry { index, error })?;
                    if seq > self.from {
                        self.entry(seq, entry);
                    }
                    len
                }
            };
            rest = &rest[len..];
        }
        if rest.is_empty() { Ok(()) } else { Err(FrameError::Count(frame.header.count)) }
    }

    #[inline]
    fn brief(&mut self, seq: Seq, brief: &Brief) {
        let (row, remembered) = match brief.event {
            BriefEvent::Held { first, expires_at, claim } => {
                (Row::Claim { first, state: State::Held, expires_at, claim }, Remembered::Held { first, len: 1 })
            }
            BriefEvent::Booked { first, claim } => {
                let expires_at = TimestampMs(0);
                (Row::Claim { first, state: State::Booked, expires_at, claim }, Remembered::Booked { first, len: 1 })
            }
            BriefEvent::Offered { number, expires_at, claim } => {
                (Row::Offer { number, expires_at, claim }, Remembered::Held { first: number, len: 1 })
            }
            BriefEvent::Confirmed { hold: first, len } => {
                (Row::Steps { first, len, step: Step::Confirm }, Remembered::Confirmed { first, len })
            }
            BriefEvent::Released { hold: first, len } => {
                (Row::Steps { first, len, step: Step::Release }, Remembered::Released { first, len })
            }
            BriefEvent::Expired { hold: first, len } => {
                (Row::Steps { first, len, step: Step::Expire }, Remembered::Expired { first, len })
            }
            BriefEvent::Cancelled { booking } => {
                (Row::Steps { first: booking, len: 1, step: Step::Cancel }, Remembered::Cancelled { booking })
            }
            BriefEvent::CheckedIn { booking } => {
                let to = State::CheckedIn;
                (Row::Steps { first: booking, len: 1, step: Step::CheckIn }, Remembered::Stepped { booking, to })
            }
            BriefEvent::NoShow { booking } => {
                let to = State::NoShow;
                (Row::Steps { first: booking, len: 1, step: Step::NoShow }, Remembered::Stepped { booking, to })
            }
            BriefEvent::Completed { booking, given } => {
                (Row::Given { booking, given }, Remembered::Stepped { booking, to: State::Completed })
            }
            BriefEvent::Recorded => (Row::Nothing, Remembered::Recorded),
            BriefEvent::WalkedIn { number, claim } => {
                let (state, expires_at) = (State::CheckedIn, TimestampMs(0));
                (Row::Claim { first: number, state, expires_at, claim }, Remembered::WalkedIn { number })
            }
        };
        if let Some(idempotency) = brief.idempotency {
            self.key(KeyRow::new(idempotency, brief.at, seq, remembered));
        }
        self.row(seq, brief.at, row);
    }

    fn entry(&mut self, seq: Seq, entry: Entry) {
        if let Some(row) = key_row(seq, &entry) {
            self.key(row);
        }
        self.portion.events.push(entry.event);
        self.row(seq, entry.at, Row::Apart);
    }

    fn key(&mut self, row: KeyRow) {
        self.rows.push(row);
        if self.rows.len() >= KEYS_AT_ONCE {
            self.hand_over_keys();
        }
    }

    fn row(&mut self, seq: Seq, at: TimestampMs, row: Row) {
        self.portion.push(seq, at, row);
        if self.portion.rows.len() >= PORTION || self.portion.bytes >= PORTION_BYTES {
            self.hand_over();
        }
    }

    // Nobody receives any more only if the other thread panicked, and that is told by itself.
    fn hand_over(&mut self) {
        let next = self.spare.try_recv().unwrap_or_default();
        let _ = self.send.send(std::mem::replace(&mut self.portion, next));
    }

    fn hand_over_keys(&mut self) {
        if self.rows.len() >= KEYS_AT_ONCE && !std::mem::replace(&mut self.reserved, true) {
            // As many as there will be if the rest of the log is like its beginning.
            self.keys.reserve((self.rows.len() as u64).saturating_mul(self.bytes_max) / self.read.max(1));
        }
        let next = self.spare_keys.try_recv().unwrap_or_default();
        let _ = self.send_keys.send(std::mem::replace(&mut self.rows, next));
    }
}
