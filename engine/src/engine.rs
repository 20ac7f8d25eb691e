//! The engine of one cell: an owned value that opens, answers reads, and closes. What it does to a command
//! is in [`kernel`](crate::kernel).

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;

use arrayvec::ArrayVec;
use parking_lot::Mutex;

use crate::booking::State;
use crate::clock::{Clock, Stopwatch};
use crate::code::BookingCodes;
use crate::command::{BookingView, Command, Request, SlotFacts, Submitted};
use crate::config::Config;
use crate::error::{Failure, Refusal};
use crate::ids::{BookingNumber, CellId, Epoch, Idempotency, IdempotencyKey, PartyId, Seq, SlotId};
use crate::inventory::{Inventory, Limits};
use crate::journal::buffer::{Buffer, KindCounts, RoomLeft, Taken, recycle};
use crate::journal::directory::{self, Directory, OpenError};
use crate::journal::entry::Entry;
use crate::journal::frame::FRAME_HEADER_BYTES;
use crate::journal::reader::{self, Tail, Unused, read_directory};
use crate::journal::reserve::Reserve;
use crate::journal::segment::{self, SegmentFile};
use crate::journal::shipper::{self, ShipperStats};
use crate::journal::snapshot::{self as snapshot_file, SnapshotError, SnapshotReader};
use crate::journal::storage::{Disk, Storage};
use crate::journal::watermark::{Ticket, Watermark};
use crate::journal::writer::Writer;
use crate::kernel::TWIN_LOOKS;
use crate::party::LIVE_CLAIMS_MAX;
use crate::policy::Policy;
use crate::replay::Replayer;
use crate::slot::Counts;
use crate::snapshot;
use crate::sync::atomic::Ordering::Relaxed;
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

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// The snapshot it began with: every entry up to here was in it.
    pub snapshot: Option<Seq>,
    /// Bytes of that.
    pub snapshot_bytes: u64,
    /// How long it took to check and load it, in nanoseconds.
    pub snapshot_nanos: u64,
    /// Newer snapshots that were damaged and passed over: the path and what is wrong.
    pub snapshots_damaged: Vec<(std::path::PathBuf, String)>,
    /// Entries of the log behind it, or all.
    pub entries: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// How long it took to apply them, in nanoseconds.
    pub nanos: u64,
    /// The epoch this run took.
    pub epoch: Epoch,
    /// A torn last frame was cut: the segment's path and the offset.
    pub cut: Option<(std::path::PathBuf, u64)>,
}

/// A party's live holds and bookings at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartyView {
    /// In no particular order.
    pub bookings: ArrayVec<BookingView, LIVE_CLAIMS_MAX>,
    /// The newest entry this rests on: not to be shown before that is durable.
    pub seq: Seq,
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
    /// 1 if the journal has stopped.
    pub journal_stopped: u64,
    /// Entries by kind since the start of this run.
    pub entries: Vec<(&'static str, u64)>,
    /// Write-behind, where it is configured.
    pub redis: Option<ShipperStats>,
}

/// What works behind an engine, each in a thread of its own.
struct Parts {
    writer: Writer,
    reserve: Arc<Reserve>,
    storage: Arc<dyn Storage>,
}

/// The booking engine of one cell. Share it as `Arc<Engine>`; every method may be called from any thread.
pub struct Engine {
    pub(crate) inventory: Inventory,
    pub(crate) policy: Arc<dyn Policy>,
    pub(crate) buffer: Arc<Buffer>,
    pub(crate) marks: Arc<Watermark>,
    clock: Clock,
    codes: BookingCodes,
    cell: CellId,
    epoch: Epoch,
    threads: Mutex<Vec<JoinHandle<()>>>,
    shipper: Option<shipper::Shipper>,
    pub(crate) directory: Option<Directory>,
    /// One snapshot at a time.
    pub(crate) snapshots: Mutex<()>,
    /// Bytes of all segments there are.
    pub(crate) log_bytes: Arc<AtomicU64>,
}

impl Engine {
    /// Opens a cell: locks its directory, replays its journal, cuts a torn tail, takes the next epoch and
    /// starts the writer (and the shipper, if Redis is configured).
    ///
    /// `on_note` sees the catalogue's notes in journal order.
    ///
    /// # Errors
    /// One sentence that says what and where. An existing directory is not written to before everything in
    /// it was read and found whole.
    pub fn open(
        config: Config,
        policy: Arc<dyn Policy>,
        on_note: &mut dyn FnMut(Note<'_>),
    ) -> Result<(Engine, ReplayReport), OpenError> {
        let storage = Arc::new(Disk::new(&config.journal.dir, config.journal.power_cut_rehearsal));
        let (mut engine, parts, report) = Self::assemble(storage, &config, policy, on_note)?;
        let io = |error| OpenError::Io { path: config.journal.dir.clone(), error };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(io)
        };
        let Parts { mut writer, reserve, storage } = parts;
        if let Some(redis) = &config.journal.redis {
            let shipper = shipper::Shipper::spawn(redis.clone(), storage, engine.epoch, Arc::clone(&engine.marks));
            let shipper = shipper.map_err(io)?;
            let bell = shipper.bell();
            writer.on_durable(Box::new(move || bell.ring()));
            engine.shipper = Some(shipper);
        }
        let threads = [
            spawn("berth-journal", Box::new(move || writer.run()))?,
            spawn("berth-segments", Box::new(move || reserve.keep()))?,
        ];
        engine.threads.lock().extend(threads);
        Ok((engine, report))
    }

    /// Everything of [`Engine::open`] but the threads.
    fn assemble(
        storage: Arc<dyn Storage>,
        config: &Config,
        policy: Arc<dyn Policy>,
        on_note: &mut dyn FnMut(Note<'_>),
    ) -> Result<(Engine, Parts, ReplayReport), OpenError> {
        config.validate()?;
        let journal = &config.journal;
        let directory = Directory::open(Arc::clone(&storage), config.cell)?;
        let inventory = Inventory::new(&config.limits);
        let Replayed { mut tail, newest, mut report } = replay(&directory, config.cell, &inventory, on_note)?;
        if let Some(torn) = &tail.torn {
            directory::cut(&*storage, torn)?;
        }
        let ready = adopt(&*storage, &mut tail, journal.segment_bytes)?;
        let epoch = directory.next_epoch(tail.epoch)?;
        let mut engine =
            Self::without_writer(inventory, policy, config.cell, directory.code_key, tail.last, journal.buffer_bytes);
        engine.clock = Clock::start(newest);
        engine.epoch = epoch;
        engine.directory = Some(directory);
        let log_bytes = reader::segments(&*storage)?.len() as u64 * journal.segment_bytes;
        engine.log_bytes = Arc::new(AtomicU64::new(log_bytes));
        let reserve = Reserve::new(
            Arc::clone(&storage),
            journal.segment_bytes,
            Arc::clone(&engine.log_bytes),
            journal.log_bytes_max,
            Arc::clone(&engine.buffer),
            ready,
            tail.index + 1,
        );
        // The segment to begin and the reserve are there before the first command; a disk too full for the reserve
        // lets settle what is live.
        let io = |error| OpenError::Io { path: storage.path(segment::DIR), error };
        let first = match reserve.next() {
            Some(first) => first,
            None => {
                reserve.make().map_err(io)?;
                reserve.next().ok_or_else(|| io(std::io::Error::other("no segment")))?
            }
        };
        reserve.written(journal.segment_bytes);
        let _ = reserve.make();
        let reserve = Arc::new(reserve);
        let writer = Writer::new(
            config.cell,
            epoch,
            tail.link,
            first,
            Arc::clone(&engine.buffer),
            Arc::clone(&engine.marks),
            Arc::clone(&reserve),
        );
        report.epoch = epoch;
        report.cut = tail.torn.map(|torn| (storage.path(&torn.name), torn.offset));
        Ok((engine, Parts { writer, reserve, storage }, report))
    }

    /// Replays an existing directory that no other process owns, to read from. Every submit fails.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_read_only(
        dir: &Path,
        limits: &Limits,
        policy: Arc<dyn Policy>,
        on_note: &mut dyn FnMut(Note<'_>),
    ) -> Result<Engine, OpenError> {
        let (directory, cell) = directory::open_existing(dir)?;
        let inventory = Inventory::new(limits);
        let Replayed { tail, newest, .. } = replay(&directory, cell, &inventory, on_note)?;
        let mut engine = Self::without_writer(inventory, policy, cell, directory.code_key, tail.last, 0);
        engine.clock = Clock::start(newest);
        engine.epoch = tail.epoch;
        engine.directory = Some(directory);
        engine.marks.fail("opened for reading only".to_owned());
        Ok(engine)
    }

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
        entries.iter().for_each(|(seq, entry)| replayer.apply(*seq, entry));
        replayer.finish()?;
        let last = entries.last().map_or(Seq(0), |(seq, _)| *seq);
        let engine = Self::without_writer(inventory, policy, CellId(1), [7; 16], last, 1 << 20);
        engine.marks.advance(Seq(u64::MAX));
        Ok(engine)
    }

    fn without_writer(
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
            cell,
            epoch: Epoch(1),
            threads: Mutex::new(Vec::new()),
            shipper: None,
            directory: None,
            snapshots: Mutex::new(()),
            log_bytes: Arc::default(),
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
        Ticket::new(Arc::clone(&self.marks), seq)
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
        Some(PartyView { bookings, seq: record.seq() })
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
                Some((seq, remembered)) => {
                    return Some(Submitted { result: Ok(self.recall(remembered)), seq, replayed: true });
                }
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
        let mut expired = 0;
        for hold in self.inventory.wheel.due(now, budget) {
            let request = Request { command: Command::Expire { hold }, idempotency: None };
            match self.submit(&request, now).map(|submitted| submitted.result) {
                Ok(Ok(_)) => expired += 1,
                // Due by an earlier call's time and not yet by this one's.
                Ok(Err(Refusal::WrongState { from: State::Held, .. })) => self.inventory.wheel.retry(hold),
                // Resolved before its deadline: the ordinary case.
                Ok(Err(refusal)) if refusal != Refusal::JournalFull => {}
                Ok(Err(_)) | Err(Failure::JournalStopped { .. }) => self.inventory.wheel.retry(hold),
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
            journal_starved: u64::from(self.buffer.room_left() != RoomLeft::Plenty),
            journal_stopped: u64::from(self.marks.failure().is_some()),
            entries: crate::journal::entry::KINDS.iter().zip(&kinds[1..]).map(|(kind, n)| (*kind, *n)).collect(),
            redis: self.shipper.as_ref().map(shipper::Shipper::stats),
        }
    }

    /// Entries behind this one are still to be read by somebody: Redis does not have them yet.
    pub(crate) fn needed_by_readers(&self) -> Option<Seq> {
        self.shipper.as_ref().map(|shipper| Seq(shipper.stats().shipped))
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

/// What replay came to.
struct Replayed {
    tail: Tail,
    newest: TimestampMs,
    report: ReplayReport,
}

/// Loads the newest whole snapshot, then applies the journal behind it.
fn replay(
    directory: &Directory,
    cell: CellId,
    inventory: &Inventory,
    on_note: &mut dyn FnMut(Note<'_>),
) -> Result<Replayed, OpenError> {
    let watch = Stopwatch::start();
    let storage = &*directory.storage;
    let io = |error| OpenError::Io { path: storage.path(snapshot_file::DIR), error };
    let mut report = ReplayReport::default();
    let mut replayer = Replayer::new(inventory, on_note);
    let mut from = Seq(0);
    let mut reaches = Seq(0);
    for s0 in snapshot_file::list(storage).map_err(io)? {
        let name = snapshot_file::name(s0);
        let path = storage.path(&name);
        // Looked through before anything is loaded from it: what was loaded cannot be unloaded.
        let whole = SnapshotReader::open(storage, &name, cell)
            .and_then(|reader| snapshot::check(&reader).map(|totals| (reader, totals)));
        let (reader, totals) = match whole {
            Ok(whole) => whole,
            Err(error @ (SnapshotError::Damaged { .. } | SnapshotError::Io(_))) => {
                report.snapshots_damaged.push((path, error.to_string()));
                continue;
            }
            Err(error) => return Err(OpenError::Snapshot { path, error }),
        };
        let loaded = snapshot::load(&reader, &totals, inventory, &mut |seq, entry| replayer.catalogue(seq, entry));
        loaded.map_err(|error| OpenError::Snapshot { path, error })?;
        replayer.begin_at(s0, totals.s1, reader.header().newest);
        (from, reaches) = (s0, totals.s1);
        report.snapshot = Some(s0);
        report.snapshot_bytes = reader.bytes();
        break;
    }
    report.snapshot_nanos = watch.nanos();
    let watch = Stopwatch::start();
    let mut tail =
        read_directory(storage, cell, from, &mut |frame| frame.entries(|seq, entry| replayer.apply(seq, &entry)))?;
    if tail.index == 0 {
        tail.last = from;
    }
    if tail.last < reaches {
        let what = format!("the log ends here, and the snapshot at {from} was taken when it reached {reaches}");
        return Err(OpenError::Replay { seq: tail.last, what });
    }
    let newest = replayer.finish()?;
    report.entries = tail.last.0 - from.0;
    report.bytes = tail.bytes;
    report.nanos = watch.nanos();
    Ok(Replayed { tail, newest, report })
}

/// Takes over the segments that an earlier run made ready; removes those that do not fit.
fn adopt(storage: &dyn Storage, tail: &mut Tail, segment_bytes: u64) -> Result<VecDeque<SegmentFile>, OpenError> {
    if let Some(torn) = tail.torn.as_ref().filter(|torn| torn.offset == 0) {
        // Torn in its very header and zeroed since: as good as never used.
        let (index, name) = (tail.index + 1, torn.name.clone());
        let bytes = storage.open(&name).and_then(|file| file.len());
        let bytes = bytes.map_err(|error| OpenError::Io { path: storage.path(&name), error })?;
        tail.unused.insert(0, Unused { index, name, bytes });
    }
    let mut ready = VecDeque::new();
    for Unused { index, name, bytes } in &tail.unused {
        if *index == tail.index + 1 && *bytes == segment_bytes {
            let segment = SegmentFile::adopt(storage, *index, *bytes);
            ready.push_back(segment.map_err(|error| OpenError::Io { path: storage.path(name), error })?);
            tail.index += 1;
        } else {
            directory::remove(storage, name)?;
        }
    }
    Ok(ready)
}
