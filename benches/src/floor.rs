//! The bare floor of hold + confirm: the table writes, read-modify-writes and copies that the engine's promises
//! need, on flat arrays, and nothing else. No rules, no checks, no answers.
//!
//! Per hold + confirm: two takes of a key cell (insert, done) twice, two locks of a party, two writes of its
//! record, two read-modify-writes of a slot word, one booking record written twice, one number, one timer,
//! two journal room reservations and returns, two locked copies of entry bytes.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};

use parking_lot::Mutex;

/// Bytes of the two entries the engine would write: a hold of one party with a key, and its confirmation.
const HELD_BYTES: usize = 62;
const CONFIRMED_BYTES: usize = 45;
const JOURNAL_BYTES: usize = 16 << 20;

/// One bucket of a timer wheel: deadlines and numbers.
type Timers = Mutex<Vec<(u64, u64)>>;

/// Flat tables.
pub struct Floor {
    words: Box<[AtomicU64]>,
    parties: Box<[Mutex<[u64; 5]>]>,
    bookings: Box<[[AtomicU64; 5]]>,
    keys: Box<[Mutex<[u64; 6]>]>,
    timers: Box<[Timers]>,
    journal: Mutex<Vec<u8>>,
    room: AtomicUsize,
    next: AtomicU64,
}

impl Floor {
    /// Tables for `pairs` hold + confirms over `slots` words.
    #[must_use]
    pub fn new(pairs: usize, slots: usize) -> Self {
        Self {
            words: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            parties: (0..pairs).map(|_| Mutex::new([0; 5])).collect(),
            bookings: (0..pairs).map(|_| Default::default()).collect(),
            keys: (0..(4 * pairs).next_power_of_two()).map(|_| Mutex::new([0; 6])).collect(),
            timers: (0..1 << 14).map(|_| Mutex::new(Vec::new())).collect(),
            journal: Mutex::new(Vec::with_capacity(JOURNAL_BYTES)),
            room: AtomicUsize::new(0),
            next: AtomicU64::new(0),
        }
    }

    /// One hold and one confirm; returns a checksum of what it did.
    pub fn hold_confirm(&self, party: usize, slot: usize, now: u64) -> u64 {
        let number = self.step(party, slot, 2 * party, now, HELD_BYTES, None);
        self.step(party, slot, 2 * party + 1, now, CONFIRMED_BYTES, Some(number))
    }

    fn step(&self, party: usize, slot: usize, key: usize, now: u64, bytes: usize, booked: Option<u64>) -> u64 {
        self.room.fetch_add(bytes, AcqRel);
        let spread = (key as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mask = self.keys.len() as u64 - 1;
        let cell = &self.keys[usize::try_from((spread ^ spread >> 32) & mask).unwrap_or(0)];
        cell.lock()[0] = key as u64;
        let mut record = self.parties[party].lock();
        self.words[slot].fetch_add(1, AcqRel);
        let number = booked.unwrap_or_else(|| self.next.fetch_add(1, Relaxed));
        let seq = {
            let mut journal = self.journal.lock();
            if journal.len() + bytes > JOURNAL_BYTES {
                journal.clear();
            }
            journal.extend_from_slice(&[7u8; HELD_BYTES][..bytes]);
            journal.len() as u64
        };
        record[0] = number;
        record[1] = seq;
        let booking = &self.bookings[usize::try_from(number).unwrap_or(0)];
        for (field, value) in booking.iter().zip([number, party as u64, slot as u64, now, seq]) {
            field.store(value, Relaxed);
        }
        if booked.is_none() {
            self.timers[usize::try_from(now / 64 % (1 << 14)).unwrap_or(0)].lock().push((now, number));
        }
        *cell.lock() = [key as u64, 0, number, seq, now, 1];
        self.room.fetch_sub(bytes, Relaxed);
        number
    }
}
