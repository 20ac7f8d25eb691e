//! The engine of one cell: an owned value that opens, answers reads, and closes. What it does to a command
//! is in [`kernel`](crate::kernel).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;

use arrayvec::ArrayVec;
use parking_lot::Mutex;

use crate::booking::State;
use crate::check_in::CodeTries;
use crate::clock::Clock;
use crate::code::BookingCodes;
use crate::command::{BookingView, Claim, Command, PartyFacts, Request, SlotFacts, Submitted};
use crate::dedupe::Sorter;
use crate::error::{Failure, Refusal};
use crate::ids::{BookingNumber, CellId, Epoch, Idempotency, IdempotencyKey, PartyId, Seq, SlotId};
use crate::inventory::{Inventory, Limits};
use crate::journal::buffer::{Buffer, KindCounts, Taken, recycle};
use crate::journal::directory::{Directory, OpenError};
use crate::journal::entry::Entry;
use crate::journal::frame::FRAME_HEADER_BYTES;
use crate::journal::removal::Removal;
use crate::journal::reserve::Reserve;
use crate::journal::shipper::{ShipperStats, ShipperThread, Shipping};
use crate::journal::watermark::{Ack, Ticket, Watermark};
use crate::kernel::TWIN_LOOKS;
use crate::party::LIVE_CLAIMS_MAX;
use crate::policy::Policy;
use crate::replay::{Change, Replayer, key_row};
use crate::slot::Counts;
use crate::snapshots::{SnapshotStats, Snapshots};
use crate::sync::atomic::Ordering::Relaxed;
use crate::tail::Readers;
use crate::units::TimestampMs;

/// The catalogue's own bytes, handed back at replay in journal order.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    /// The entry they were in.
    pub seq: Seq,
    /// The slots published in the same entry, in the order of the command; empty for [`Command::Note`].
    pub slots: &'a [SlotId],
    /// The bytes.
    pub note: &'a [u8],
}

/// A party's live holds and bookings at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartyView {
    /// What the policy knows of it, the doses given so far among it.
    pub facts: PartyFacts,
    /// In no particular order.
    pub bookings: ArrayVec<BookingView, LIVE_CLAIMS_MAX>,
    /// The newest entry this rests on: not to be shown before that is durable.
    pub seq: Seq,
}

/// Units of many slots together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitTotals {
    /// How many slots.
    pub slots: u64,
    /// Their units, taken or not.
    pub capacity: u64,
    /// Units in live holds.
    pub held: u64,
    /// Units in bookings.
    pub booked: u64,
}

/// Counters since the start and gauges of this instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Parties that exist.
    pub parties: u64,
    /// Slot numbers given out, the unused ends of blocks included.
    pub slots: u64,
    /// Booking numbers given out, over all runs.
    pub bookings: u64,
    /// Idempotency keys kept.
    pub idempotency_keys: u64,
    /// The newest entry.
    pub appended: u64,
    /// The newest durable entry.
    pub durable: u64,
    /// Frames written and synced.
    pub journal_batches: u64,
    /// Bytes of those.
    pub journal_bytes: u64,
    /// Bytes of all segments of the log, those made ahead included.
    pub log_bytes: u64,
    /// Nanoseconds spent in syncs.
    pub journal_sync_nanos: u64,
    /// 1 while no further segment can be made, and what takes units is refused with `journal_full`.
    pub journal_starved: u64,
    /// Why no further segment can be made, while that is so.
    pub journal_shortage: Option<String>,
    /// 1 once the thread that makes segments has panicked: what lies ready is the last, until a restart.
    pub journal_abandoned: u64,
    /// 1 if the journal has stopped.
    pub journal_stopped: u64,
    /// Why it has.
    pub journal_failure: Option<String>,
    /// Entries by kind since the start of this run.
    pub entries: Vec<(&'static str, u64)>,
    /// How snapshots fare.
    pub snapshots: SnapshotStats,
    /// Write-behind, where it is configured.
    pub redis: Option<ShipperStats>,
}

/// The booking engine of one cell. Share it as `Arc<Engine>`; every method may be called from any thread.
pub struct Engine {
    pub(crate) inventory: Inventory,
    pub(crate) policy: Arc<dyn Policy>,
    pub(crate) buffer: Arc<Buffer>,
    pub(crate) marks: Arc<Watermark>,
    pub(crate) clock: Clock,
    codes: BookingCodes,
    pub(crate) code_tries: CodeTries,
    cell: CellId,
    pub(crate) epoch: Epoch,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    /// How the write-behind stands, if there is one.
    pub(crate) shipping: Option<Arc<Shipping>>,
    pub(crate) shipper: Option<ShipperThread>,
    /// Who follows the log.
    pub(crate) readers: Readers,
    pub(crate) directory: Option<Directory>,
    /// One snapshot at a time.
    pub(crate) snapshots: Snapshots,
    /// How old snapshots and segments go.
    pub(crate) removal: Removal,
    /// Bytes of all segments there are.
    pub(crate) log_bytes: Arc<AtomicU64>,
    /// The segments made ahead, where the journal is on a disk.
    pub(crate) reserve: Option<Arc<Reserve>>,
    /// Where a simulator lets another caller in: a claim is about to end and its entry has no number yet.
    pub(crate) between_steps: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Engine {
    /// An engine that keeps its journal in memory: for tests, simulators and models. Nothing survives it, every ticket
    /// resolves at once, and [`Engine::journal_so_far`] reads what a file would hold.
    #[must_use]
    pub fn in_memory(limits: &Limits, policy: Arc<dyn Policy>) -> Engine {
        let buffer_bytes = if cfg!(shuttle) { 1 << 20 } else { 64 << 20 };
        let inventory = Inventory::new(limits);
        let engine = Self::without_writer(inventory, policy, CellId(1), [7; 16], Seq(0), buffer_bytes);
        engine.marks.advance(Seq(u64::MAX));
        engine
    }

    /// As [`Engine::in_memory`], with a disk that never answers: no ticket for it resolves. For tests of who waits for what.
    #[must_use]
    pub fn in_memory_stalled(limits: &Limits, policy: Arc<dyn Policy>) -> Engine {
        Self::without_writer(Inventory::new(limits), policy, CellId(1), [7; 16], Seq(0), 1 << 20)
    }

    /// An [`Engine::in_memory`] in the state that these entries lead to.
    ///
    /// # Errors
    /// The first entry that does not fit the ones before it.
    pub fn from_journal(
        limits: &Limits,
        policy: Arc<dyn Policy>,
        entries: &[(Seq, Entry)],
    ) -> Result<Engine, OpenError> {
        let inventory = Inventory::new(limits);
        let mut ignore = |_: Note<'_>| {};
        let mut replayer = Replayer::new(&inventory, &mut ignore);
        let keys = replayer.keys();
        entries.iter().for_each(|(seq, entry)| replayer.apply(*seq, entry.at, Change::of(&entry.event)));
        let rows: Vec<_> = entries.iter().filter_map(|(seq, entry)| key_row(*seq, entry)).collect();
        keys.restore(&rows, &mut Sorter::default());
        replayer.finish()?;
        let last = entries.last().map_or(Seq(0), |(seq, _)| *seq);
        let engine = Self::without_writer(inventory, policy, CellId(1), [7; 16], last, 1 << 20);
        engine.marks.advance(Seq(u64::MAX));
        Ok(engine)
    }

    pub(crate) fn without_writer(
        inventory: Inventory,
        policy: Arc<dyn Policy>,
        cell: CellId,
        code_key: [u8; 16],
        last: Seq,
        buffer_bytes: usize,
    ) -> Engine {
        let marks = Arc::new(Watermark::new(last));
        Engine {
            inventory,
            policy,
            buffer: Arc::new(Buffer::new(buffer_bytes, last.next(), Arc::clone(&marks))),
            marks,
            clock: Clock::start(TimestampMs(0)),
            codes: BookingCodes::new(cell, code_key),
            code_tries: CodeTries::default(),
            cell,
            epoch: Epoch(1),
            threads: Mutex::new(Vec::new()),
            shipping: None,
            shipper: None,
            readers: Readers::default(),
            directory: None,
            snapshots: Snapshots::default(),
            removal: Removal::default(),
            log_bytes: Arc::default(),
            reserve: None,
            between_steps: None,
        }
    }

    /// Takes the entries appended since the last call. Only of use on an [`Engine::in_memory`].
    #[must_use]
    pub fn journal_so_far(&self) -> Vec<(Seq, Entry)> {
        let Taken::Batch(batch) = self.buffer.take(&mut None) else {
            return Vec::new();
        };
        let mut rest = &batch.frame[FRAME_HEADER_BYTES..];
        let mut entries = Vec::new();
        for seq in batch.first.0..batch.first.0 + u64::from(batch.count) {
            let (entry, len) = Entry::decode(rest).expect("what was encoded decodes");
            entries.push((Seq(seq), entry));
            rest = &rest[len..];
        }
        entries
    }

    /// Drops the entries appended since the last call and returns how many. Only of use on an
    /// [`Engine::in_memory`] whose journal nobody will read, such as a bench's. `spare` is the buffer they were in,
    /// to be handed back at the next call.
    pub fn forget_journal(&self, spare: &mut Option<Vec<u8>>) -> u32 {
        match self.buffer.take(spare) {
            Taken::Batch(batch) => {
                *spare = Some(recycle(batch.frame));
                batch.count
            }
            Taken::Nothing | Taken::Closed => 0,
        }
    }

    /// The time of this run, as commands should be judged by.
    #[must_use]
    pub fn now(&self) -> TimestampMs {
        self.clock.now()
    }

    /// Resolves when the journal is durable up to `seq`.
    pub fn ticket(&self, seq: Seq) -> Ticket {
        self.ticket_for(seq, Ack::Disk)
    }

    /// Resolves when `seq` is as safe as `ack` says. A ticket for [`Ack::Redis`] of an engine without Redis never resolves.
    pub fn ticket_for(&self, seq: Seq, ack: Ack) -> Ticket {
        Ticket::new(Arc::clone(&self.marks), seq, ack)
    }

    /// From now on those whose tickets resolve together are handed to `waking` together, by the thread that found them so; it
    /// has to see that each is woken. An async runtime wakes its own tasks from inside for less than from another thread, and
    /// in their turn: what comes from outside waits behind what is ready there.
    pub fn wake_through(&self, waking: impl Fn(Vec<std::task::Waker>) + Send + Sync + 'static) {
        self.marks.wake_through(Arc::new(waking));
    }

    /// Whether a ticket for `ack` may ever resolve in this run: not where Redis is to be waited for and there is none, or
    /// shipping to it has stopped for good.
    #[must_use]
    pub fn can_acknowledge(&self, ack: Ack) -> bool {
        ack != Ack::Redis || self.shipping.is_some() && !self.marks.redis_stopped()
    }

    /// Why the journal has stopped, if it has.
    #[must_use]
    pub fn stopped(&self) -> Option<Failure> {
        self.marks.failure()
    }

    /// Which cell this is.
    #[must_use]
    pub fn cell(&self) -> CellId {
        self.cell
    }

    /// The epoch of this run.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Booking numbers to public codes and back.
    #[must_use]
    pub fn codes(&self) -> &BookingCodes {
        &self.codes
    }

    /// A hold or booking. Await the ticket of its `seq` before showing it.
    // rule: IDM-2
    #[must_use]
    pub fn booking(&self, number: BookingNumber) -> Option<BookingView> {
        let cell = self.inventory.bookings.get(number)?;
        let _lock = self.inventory.parties.lock(cell.party())?;
        cell.view(number)
    }

    /// A party's live holds and bookings. Await the ticket of `seq` before showing them.
    // rule: IDM-2
    #[must_use]
    pub fn party_bookings(&self, party: PartyId) -> Option<PartyView> {
        let record = self.inventory.parties.lock(party)?;
        let bookings = record
            .numbers()
            .into_iter()
            .filter_map(|number| self.inventory.bookings.get(number)?.view(number))
            .collect();
        Some(PartyView { facts: record.facts, bookings, seq: record.seq() })
    }

    /// What never changes about a hold or booking: its claim, and the first number of the group it was claimed in. Needs no
    /// lock and no ticket: whoever has the number from a durable entry may show it.
    #[must_use]
    pub fn claimed(&self, number: BookingNumber) -> Option<(Claim, BookingNumber)> {
        let view = self.inventory.bookings.get(number)?.view(number)?;
        Some((view.claim, view.hold))
    }

    /// A slot's counts at this instant.
    #[must_use]
    pub fn counts(&self, slot: SlotId) -> Option<Counts> {
        self.inventory.slots.counts(slot)
    }

    /// What is fixed about a slot.
    #[must_use]
    pub fn slot_facts(&self, slot: SlotId) -> Option<SlotFacts> {
        self.inventory.slots.facts(slot)
    }

    /// The outcome kept under a key, for a client that never saw its reply. `None` if the key has had no effect; a
    /// refusal only while the first request is still inside `submit`.
    #[must_use]
    pub fn outcome(&self, key: IdempotencyKey) -> Option<Submitted> {
        for _ in 0..TWIN_LOOKS {
            match self.inventory.keys.get(key)? {
                Some((seq, remembered)) => return Some(self.repeat(seq, remembered)),
                None => crate::sync::yield_now(),
            }
        }
        Some(Submitted { result: Err(Refusal::IdempotencyInFlight), seq: Seq(0), replayed: false })
    }

    /// What `submit` would answer to a request under this key if the key has had an effect: the first outcome, or the
    /// conflict with it. `None` if it would be executed. For callers with costly checks of their own before they submit.
    #[must_use]
    pub fn repeat_of(&self, idempotency: Idempotency) -> Option<Submitted> {
        let first = self.outcome(idempotency.key)?;
        if self.inventory.keys.fingerprint(idempotency.key) == Some(idempotency.fingerprint) || first.result.is_err() {
            return Some(first);
        }
        Some(Submitted { result: Err(Refusal::IdempotencyConflict), replayed: false, ..first })
    }

    /// Expires up to `budget` holds whose deadline has passed and forgets old idempotency keys; returns how many
    /// expired. To be called from one thread every few tens of milliseconds.
    pub fn expire_due(&self, now: TimestampMs, budget: usize) -> usize {
        let Some(passed) = sweep_at(now) else { return 0 };
        let mut expired = 0;
        for hold in self.inventory.wheel.due(passed, budget) {
            let request = Request { command: Command::Expire { hold }, idempotency: None };
            match self.submit(&request, now).map(|submitted| submitted.result) {
                Ok(Ok(_)) => expired += 1,
                // Due by an earlier call's time and not yet by this one's.
                Ok(Err(Refusal::WrongState { from: State::Held, .. })) => self.inventory.wheel.retry(hold),
                // Resolved before its deadline: the ordinary case.
                Ok(Err(refusal)) if refusal != Refusal::JournalFull => {}
                Ok(Err(_)) | Err(_) => self.inventory.wheel.retry(hold),
            }
        }
        self.inventory.keys.forget_old(now, budget.max(1));
        expired
    }

    /// Calls `each` for every published slot in ascending number. Slots may change between calls.
    pub fn for_each_slot(&self, each: &mut dyn FnMut(SlotId, SlotFacts, Counts)) {
        let end = self.inventory.blocks.lock().slots_end();
        for slot in (0..end).map(SlotId) {
            if let (Some(facts), Some(counts)) = (self.slot_facts(slot), self.counts(slot)) {
                each(slot, facts, counts);
            }
        }
    }

    /// Units of all slots that begin after this instant. A walk over every word, 8 bytes each: for who asks seldom. Slots may change
    /// meanwhile.
    #[must_use]
    pub fn unit_totals(&self, after: TimestampMs) -> UnitTotals {
        let mut totals = UnitTotals::default();
        self.for_each_slot(&mut |_, facts, counts| {
            if facts.starts_at > after {
                totals.slots += 1;
                totals.capacity += u64::from(counts.capacity().get());
                totals.held += u64::from(counts.held().get());
                totals.booked += u64::from(counts.booked().get());
            }
        });
        totals
    }

    /// Calls `each` for every hold and booking ever made, in ascending number. They may change between calls.
    pub fn for_each_booking(&self, each: &mut dyn FnMut(BookingView)) {
        for number in (0..self.inventory.bookings_end()).map(BookingNumber) {
            if let Some(view) = self.booking(number) {
                each(view);
            }
        }
    }

    /// The number of the newest entry.
    #[must_use]
    pub fn appended(&self) -> Seq {
        self.buffer.appended()
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let kinds: KindCounts = self.buffer.kinds();
        let failure = self.marks.failure();
        Stats {
            parties: u64::from(self.inventory.parties.count()),
            slots: u64::from(self.inventory.blocks.lock().slots_end()),
            bookings: self.inventory.bookings_end(),
            idempotency_keys: self.inventory.keys.len() as u64,
            appended: self.buffer.appended().0,
            durable: self.marks.durable().0,
            journal_batches: self.marks.batches.load(Relaxed),
            journal_bytes: self.marks.bytes.load(Relaxed),
            log_bytes: self.log_bytes.load(Relaxed),
            journal_sync_nanos: self.marks.sync_nanos.load(Relaxed),
            journal_starved: u64::from(self.buffer.is_settling()),
            journal_shortage: self.reserve.as_ref().and_then(|reserve| reserve.shortage()),
            journal_abandoned: u64::from(self.reserve.as_ref().is_some_and(|reserve| reserve.is_abandoned())),
            journal_stopped: u64::from(failure.is_some()),
            journal_failure: failure.map(|failure| failure.to_string()),
            entries: crate::journal::entry::KINDS.iter().zip(&kinds[1..]).map(|(kind, n)| (*kind, *n)).collect(),
            snapshots: self.snapshot_stats(),
            redis: self.shipping.as_ref().map(|shipping| shipping.stats()),
        }
    }

    /// Entries behind this one are still to be read by somebody: Redis does not have them yet, or who follows the log.
    pub(crate) fn needed_by_readers(&self) -> Option<Seq> {
        // rule: SNP-2
        let shipped = self.shipping.as_ref().and_then(|shipping| shipping.needs_behind());
        shipped.into_iter().chain(self.readers.needed()).min()
    }

    /// Gives the directory to the next process, which then need not wait until this one's memory is freed. After
    /// [`Engine::close`]; snapshots are not taken any more.
    pub fn leave(&self) {
        assert!(self.buffer.is_closing(), "who still writes keeps the lock");
        self.directory.iter().for_each(Directory::leave);
    }

    /// Takes no more commands, writes and syncs what was appended and ends the threads.
    ///
    /// # Errors
    /// The failure that kept something appended from becoming durable.
    pub fn close(&self) -> Result<(), Failure> {
        self.buffer.close();
        for thread in self.threads.lock().drain(..) {
            thread.thread().unpark();
            // However the writer ended, a panic included, it has told the watermark.
            let _ = thread.join();
        }
        if let Some(shipper) = &self.shipper {
            shipper.close();
        }
        // Everything appended is durable, or the journal stopped before it was.
        match self.marks.failure() {
            Some(failure) if self.marks.durable() < self.buffer.appended() => Err(failure),
            _ => Ok(()),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine(cell {}, epoch {})", self.cell, self.epoch)
    }
}

/// The time up to which deadlines count as passed: now, unless a fault is planted.
fn sweep_at(now: TimestampMs) -> Option<TimestampMs> {
    let late = |milliseconds| Some(TimestampMs(now.0.saturating_sub(milliseconds)));
    if crate::planted!("hold_never_expires") {
        return None;
    }
    if crate::planted!("late_expiry") {
        return late(6_000);
    }
    // Long enough for a confirmation to come meanwhile, and short enough to keep the promise of expiry.
    if crate::planted!("confirm_past_deadline") { late(2_600) } else { Some(now) }
}
