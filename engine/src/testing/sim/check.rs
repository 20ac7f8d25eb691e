//! What the rules say about a cell, its log and what was told to its clients.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::history::History;
use super::{Broken, broken};
use crate::engine::Engine;
use crate::error::Refusal;
use crate::ids::{BookingNumber, CellId, PartyId, Seq, SlotId};
use crate::journal::entry::Entry;
use crate::journal::frame::Frame;
use crate::journal::reader::{ReadError, Tail, log_start, read_directory, segments};
use crate::journal::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::journal::storage::Storage;
use crate::listing::BookingPage;
use crate::testing::Model;
use crate::verify::Ledger;

/// The entries that the log has, the newest that it no longer has, and where it ends.
pub(super) struct Log {
    pub(super) start: Seq,
    pub(super) entries: Vec<Entry>,
    pub(super) tail: Tail,
}

pub(super) fn read_log(storage: &dyn Storage, cell: CellId) -> Result<Log, ReadError> {
    let start = log_start(storage)?;
    let mut entries = Vec::new();
    let tail = read_directory(storage, cell, start, &mut |frame| frame.entries(|_, entry| entries.push(entry)))?;
    Ok(Log { start, entries, tail })
}

/// Where a frame lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) segment: String,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) first: Seq,
}

/// Every frame of a log that is whole, in order.
pub(super) fn frames(storage: &dyn Storage) -> Vec<Place> {
    let mut places = Vec::new();
    for (_, segment) in segments(storage).unwrap_or_default() {
        let Ok(bytes) = storage.read(&segment) else { continue };
        let mut at = SEGMENT_HEADER_BYTES;
        if bytes.first_chunk().and_then(SegmentHeader::from_bytes).is_none() {
            continue;
        }
        while let Some(frame) = bytes.get(at..).and_then(|rest| Frame::read(rest).ok()) {
            let to = at + frame.bytes.len();
            places.push(Place { segment: segment.clone(), from: at, to, first: frame.header.first });
            at = to;
        }
    }
    places
}

/// The second reading of the rules over all entries from the first.
pub(super) fn ledger(entries: &[Entry]) -> Result<(), Broken> {
    let mut ledger = Ledger::new(Duration::from_secs(365 * 24 * 3600));
    for (seq, entry) in (1..).map(Seq).zip(entries) {
        ledger.apply(seq, entry);
    }
    match ledger.findings().first() {
        Some(finding) => broken(finding.rule, format!("entry {}: {}", finding.seq, finding.detail)),
        None => Ok(()),
    }
}

/// Memory is what the model is: slots, parties, bookings and keys, and units are neither lost nor made.
// rule: CAP-1
// rule: PTY-1
// rule: IDM-1
pub(super) fn state(engine: &Engine, model: &Model, history: &History) -> Result<(), Broken> {
    let mut seen = BTreeSet::new();
    let mut wrong = Ok(());
    engine.for_each_slot(&mut |slot, _, counts| {
        seen.insert(slot);
        let found = (counts.capacity().get(), counts.held().get(), counts.booked().get(), counts.is_open());
        let expected = Some(slot).filter(|slot| model.slots().any(|known| known == *slot)).map(|slot| {
            let (capacity, held, booked) = model.counts(slot);
            (capacity, held, booked, model.is_open(slot))
        });
        if Some(found) != expected && wrong.is_ok() {
            wrong = broken("CAP-1", format!("slot {slot} is {found:?}, and its live claims say {expected:?}"));
        }
    });
    wrong?;
    if let Some(slot) = model.slots().find(|slot: &SlotId| !seen.contains(slot)) {
        return broken("JNL-1", format!("slot {slot} is gone"));
    }
    let parties = engine.stats().parties;
    if parties != u64::from(model.parties()) {
        return broken("JNL-1", format!("{parties} parties where there were {}", model.parties()));
    }
    for party in (0..model.parties()).map(PartyId) {
        let Some(view) = engine.party_bookings(party) else {
            return broken("JNL-1", format!("party {party} is gone"));
        };
        if view.facts != model.facts(party) {
            let (found, expected) = (view.facts, model.facts(party));
            return broken("BKG-1", format!("party {party} is {found:?}, and should be {expected:?}"));
        }
        let mut found: Vec<_> = view.bookings.iter().map(|booking| (booking.number, booking.state)).collect();
        found.sort_unstable_by_key(|(number, _)| *number);
        if found != model.live(party) {
            return broken("PTY-1", format!("party {party} has {found:?}, and should have {:?}", model.live(party)));
        }
    }
    chains(engine, model)?;
    for (number, hold, state, claim, expires_at) in model.bookings() {
        let found = engine.booking(number).map(|view| (view.hold, view.state, view.claim, view.expires_at));
        if found != Some((hold, state, claim, expires_at)) {
            let expected = (hold, state, claim, expires_at);
            return broken("BKG-1", format!("booking {number} is {found:?}, and should be {expected:?}"));
        }
    }
    let (found, expected) = (engine.stats().bookings, model.bookings().count() as u64);
    if found != expected {
        return broken("BKG-1", format!("{found} booking numbers were given out, and should be {expected}"));
    }
    let known: std::collections::HashMap<_, _> = model.keys().collect();
    for (idempotency, _) in &history.asked {
        let found = engine.outcome(idempotency.key).map(|told| told.result);
        let expected = known.get(&idempotency.key).map(|outcome| Ok((*outcome).clone()));
        if found != expected {
            let what = format!("key {:?} stands for {found:?}, and should for {expected:?}", idempotency.key);
            return broken("IDM-1", what);
        }
    }
    Ok(())
}

/// Slots and parties list all that they ever had, newest first, whatever the length of a page.
fn chains(engine: &Engine, model: &Model) -> Result<(), Broken> {
    let told = |pages: &dyn Fn(Option<BookingNumber>) -> Result<BookingPage, Refusal>| {
        let (mut numbers, mut after) = (Vec::new(), None);
        while let Ok(page) = pages(after) {
            numbers.extend(page.bookings.iter().map(|view| view.number));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        numbers
    };
    for slot in model.slots() {
        let (found, expected) =
            (told(&|after| engine.slot_bookings(slot, after, 3)), model.history(|claim| claim.slot == slot));
        if found != expected {
            return broken("BKG-1", format!("slot {slot} lists {found:?}, and should {expected:?}"));
        }
    }
    for party in (0..model.parties()).map(PartyId) {
        let (found, expected) =
            (told(&|after| engine.party_history(party, after, 2)), model.history(|claim| claim.party == party));
        if found != expected {
            return broken("BKG-1", format!("party {party} lists {found:?}, and should {expected:?}"));
        }
    }
    Ok(())
}

/// The log on a disk that loses power now reaches as far as clients were told.
// rule: JNL-2
pub(super) fn durable(disk: &crate::testing::disk::MemoryDisk, cell: CellId, told: Seq) -> Result<(), Broken> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    match read_log(&*storage, cell) {
        Ok(log) if log.tail.last.max(log.start) >= told => Ok(()),
        Ok(log) => {
            let last = log.tail.last.max(log.start);
            broken("JNL-2", format!("{told} was acknowledged, and a power cut now leaves the log up to {last}"))
        }
        Err(error) => broken("JNL-4", format!("a power cut now leaves a log that cannot be read: {error}")),
    }
}
