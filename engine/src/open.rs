//! How an engine is opened: the newest whole snapshot, the log behind it, the next epoch, and the threads that work behind
//! it. [`Engine::assemble`] makes all of it but the threads, so that a simulator can turn each part by hand.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock::{Clock, Stopwatch};
use crate::config::Config;
use crate::engine::{Engine, Note};
use crate::ids::{CellId, Epoch, Seq};
use crate::inventory::{Inventory, Limits};
use crate::journal::directory::{self, Directory, OpenError};
use crate::journal::fence::{self, Met};
use crate::journal::reader::{self, ReadError, Tail, Unused};
use crate::journal::redis_stream::RedisStream;
use crate::journal::removal;
use crate::journal::reserve::Reserve;
use crate::journal::segment::{self, SegmentFile};
use crate::journal::shipper::{Shipper, ShipperThread};
use crate::journal::snapshot::{self as snapshot_file, SnapshotError, SnapshotReader};
use crate::journal::storage::{Disk, Storage};
use crate::journal::stream::Stream;
use crate::journal::writer::Writer;
use crate::policy::Policy;
use crate::progress::Progress;
use crate::readahead::replay_log;
use crate::replay::Replayer;
use crate::snapshot;
use crate::snapshots::Snapshots;
use crate::units::TimestampMs;

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// The snapshot it began with: every entry up to here was in it.
    pub snapshot: Option<Seq>,
    /// Bytes of that.
    pub snapshot_bytes: u64,
    /// The newest time of an entry when it was taken.
    pub snapshot_at: TimestampMs,
    /// How long it took to check and load it, in nanoseconds.
    pub snapshot_nanos: u64,
    /// Newer snapshots that were damaged and passed over: the path and what is wrong.
    pub snapshots_damaged: Vec<(PathBuf, String)>,
    /// The newest entry there was, in the snapshot or in the log.
    pub last: Seq,
    /// Entries of the log behind it, or all.
    pub entries: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// How long it took to apply them, in nanoseconds.
    pub nanos: u64,
    /// Holds whose deadline was put off, because it lay in the outage or soon after.
    pub holds_graced: u64,
    /// The epoch this run took.
    pub epoch: Epoch,
    /// Redis is configured and could not be asked: why. What it holds is found when it is back.
    pub redis_unreachable: Option<String>,
    /// A torn last frame was cut: the segment's path and the offset.
    pub cut: Option<(PathBuf, u64)>,
}

/// What works behind an engine, each in a thread of its own.
pub(crate) struct Parts {
    pub(crate) writer: Writer,
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) shipper: Option<Shipper>,
    /// The time of the newest entry that was replayed.
    pub(crate) newest: TimestampMs,
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
        Self::open_watched(config, policy, on_note, &mut |_| {})
    }

    /// As [`Engine::open`]; `on_progress` is told how far it is, in this thread and many times a second.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_watched(
        config: Config,
        policy: Arc<dyn Policy>,
        on_note: &mut dyn FnMut(Note<'_>),
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(Engine, ReplayReport), OpenError> {
        config.validate()?;
        let journal = &config.journal;
        let disk = Disk::new(&journal.dir, journal.power_cut_rehearsal);
        let storage = Arc::new(disk.as_slow_as(journal.slow_disk_rehearsal.as_deref()));
        let redis = config.journal.redis.as_ref().map(RedisStream::new).transpose();
        let redis = redis.map_err(|reason| OpenError::Config { field: "journal.redis", reason })?;
        let stream = redis.map(|redis| -> Box<dyn Stream> { Box::new(redis) });
        let watch = Watch { on_note, on_progress };
        let clock = |newest| Clock::start_back(newest, config.journal.clock_back_rehearsal);
        let (mut engine, parts, report) = Self::assemble_watched(storage, stream, &config, policy, &clock, watch)?;
        let io = |error| OpenError::Io { path: config.journal.dir.clone(), error };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(io)
        };
        let Parts { mut writer, reserve, shipper, .. } = parts;
        if let Some(shipper) = shipper {
            let shipper = ShipperThread::spawn(shipper).map_err(io)?;
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

    /// Everything of [`Engine::open`] but the threads and the check of the configuration: a simulator takes segments of a few
    /// pages, and a clock of its own. With a stream there is a shipper among the parts.
    pub(crate) fn assemble(
        storage: Arc<dyn Storage>,
        stream: Option<Box<dyn Stream>>,
        config: &Config,
        policy: Arc<dyn Policy>,
        clock: &dyn Fn(TimestampMs) -> Clock,
        on_note: &mut dyn FnMut(Note<'_>),
    ) -> Result<(Engine, Parts, ReplayReport), OpenError> {
        Self::assemble_watched(storage, stream, config, policy, clock, Watch { on_note, on_progress: &mut |_| {} })
    }

    fn assemble_watched(
        storage: Arc<dyn Storage>,
        stream: Option<Box<dyn Stream>>,
        config: &Config,
        policy: Arc<dyn Policy>,
        clock: &dyn Fn(TimestampMs) -> Clock,
        watch: Watch<'_>,
    ) -> Result<(Engine, Parts, ReplayReport), OpenError> {
        let journal = &config.journal;
        let mut stream = stream;
        if let Some(stream) = &mut stream
            && !directory::check(&*storage, config.cell)?
        {
            fence::meet_empty(&mut **stream, &*storage)?;
        }
        let directory = Directory::open(Arc::clone(&storage), config.cell, config.lock_wait)?;
        let inventory = Inventory::new(&config.limits);
        let Replayed { mut tail, newest, mut report, damaged } = replay(&directory, config.cell, &inventory, watch)?;
        let mut met = Met::default();
        if let Some(stream) = &mut stream {
            stream.identify(directory::key_check(directory.code_key));
            let taken = directory.epoch_taken()?.max(tail.epoch);
            met = fence::meet(&mut **stream, &storage, &tail, taken)?;
        }
        // In both places before the log is touched: until it is in Redis, an owner that lives may still go on.
        let epoch = directory.next_epoch(tail.epoch)?;
        if let Some(stream) = stream.as_mut().filter(|_| met.unreachable.is_none()) {
            met = fence::take(&mut **stream, &storage, &tail, epoch)?;
        }
        if let Some(torn) = &tail.torn {
            directory::cut(&*storage, torn)?;
        }
        directory::settle(&*storage, &tail)?;
        for dir in [segment::DIR, snapshot_file::DIR] {
            // Before the reserve: on a full disk this is the room for it.
            // What cannot be removed is in nobody's way, and the next start tries again.
            let _ = removal::sweep(&*storage, dir);
        }
        for name in &damaged {
            let io = |error| OpenError::Io { path: storage.path(name), error };
            snapshot_file::set_aside(&*storage, name).map_err(io)?;
        }
        let ready = adopt(&*storage, &mut tail, journal.segment_bytes)?;
        let mut engine =
            Self::without_writer(inventory, policy, config.cell, directory.code_key, tail.last, journal.buffer_bytes);
        engine.clock = clock(newest);
        engine.epoch = epoch;
        engine.directory = Some(directory);
        let s0 = report.snapshot.unwrap_or_default();
        engine.snapshots = Snapshots::found(s0, report.snapshot_at, report.snapshot_bytes, report.bytes);
        engine.log_bytes.store(reader::bytes_behind(&*storage, Seq(0))?, Relaxed);
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
        let first = match reserve.next(0) {
            Some(first) => first,
            None => {
                reserve.make_first().map_err(io)?;
                reserve.next(0).ok_or_else(|| io(std::io::Error::other("no segment")))?
            }
        };
        reserve.written(journal.segment_bytes);
        let _ = reserve.make();
        let reserve = Arc::new(reserve);
        engine.reserve = Some(Arc::clone(&reserve));
        let writer = Writer::new(
            config.cell,
            epoch,
            tail.link,
            first,
            Arc::clone(&engine.buffer),
            Arc::clone(&engine.marks),
            Arc::clone(&reserve),
        );
        let shipper = stream
            .map(|stream| Shipper::new(stream, Arc::clone(&storage), config.cell, epoch, Arc::clone(&engine.marks)));
        engine.shipping = shipper.as_ref().map(Shipper::shared);
        if let Some(shipping) = &engine.shipping {
            // What the log holds behind that is counted when the shipper is there; until then, all that a start has read.
            let behind = if met.there < tail.last { tail.bytes } else { 0 };
            shipping.found(met.there, behind);
        }
        report.holds_graced = engine.grace_holds(newest, config.hold_grace);
        report.epoch = epoch;
        report.redis_unreachable = met.unreachable;
        report.cut = tail.torn.map(|torn| (storage.path(&torn.name), torn.offset));
        Ok((engine, Parts { writer, reserve, shipper, newest }, report))
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
        Self::open_read_only_watched(dir, limits, policy, on_note, &mut |_| {})
    }

    /// As [`Engine::open_read_only`]; `on_progress` is told how far it is, many times a second.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_read_only_watched(
        dir: &Path,
        limits: &Limits,
        policy: Arc<dyn Policy>,
        on_note: &mut dyn FnMut(Note<'_>),
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Engine, OpenError> {
        let (directory, cell) = directory::open_existing(dir)?;
        let inventory = Inventory::new(limits);
        let Replayed { tail, newest, .. } = replay(&directory, cell, &inventory, Watch { on_note, on_progress })?;
        let mut engine = Self::without_writer(inventory, policy, cell, directory.code_key, tail.last, 0);
        engine.clock = Clock::start(newest);
        engine.epoch = tail.epoch;
        engine.directory = Some(directory);
        engine.marks.fail("opened for reading only".to_owned());
        Ok(engine)
    }
}

/// Who is told what while a start goes on.
struct Watch<'a> {
    on_note: &'a mut dyn FnMut(Note<'_>),
    on_progress: &'a mut dyn FnMut(Progress),
}

/// What replay came to.
struct Replayed {
    tail: Tail,
    newest: TimestampMs,
    report: ReplayReport,
    /// Snapshots that are damaged, by name.
    damaged: Vec<String>,
}

/// Loads the newest whole snapshot, then applies the journal behind it.
fn replay(
    directory: &Directory,
    cell: CellId,
    inventory: &Inventory,
    Watch { on_note, on_progress }: Watch<'_>,
) -> Result<Replayed, OpenError> {
    let watch = Stopwatch::start();
    let storage = &*directory.storage;
    let io = |error| OpenError::Io { path: storage.path(snapshot_file::DIR), error };
    let mut report = ReplayReport::default();
    let mut damaged = Vec::new();
    let mut replayer = Replayer::new(inventory, on_note);
    let mut from = Seq(0);
    let mut reaches = Seq(0);
    for s0 in snapshot_file::list(storage).map_err(io)? {
        let name = snapshot_file::name(s0);
        let path = storage.path(&name);
        // Looked through before anything is loaded from it: what was loaded cannot be unloaded.
        let whole = SnapshotReader::open(storage, &name, cell)
            .and_then(|reader| snapshot::check_watched(&reader, on_progress).map(|totals| (reader, totals)));
        let (reader, totals) = match whole {
            Ok(whole) => whole,
            Err(error @ (SnapshotError::Damaged { .. } | SnapshotError::Io(_))) => {
                if matches!(error, SnapshotError::Damaged { .. }) {
                    damaged.push(name);
                }
                report.snapshots_damaged.push((path, error.to_string()));
                continue;
            }
            Err(error) => return Err(OpenError::Snapshot { path, error }),
        };
        let loaded =
            snapshot::load(&reader, &totals, inventory, &mut |seq, entry| replayer.catalogue(seq, entry), on_progress);
        loaded.map_err(|error| OpenError::Snapshot { path, error })?;
        replayer.begin_at(s0, totals.s1, reader.header().newest);
        (from, reaches) = (s0, totals.s1);
        report.snapshot = Some(s0);
        report.snapshot_bytes = reader.bytes();
        report.snapshot_at = reader.header().newest;
        break;
    }
    report.snapshot_nanos = watch.nanos();
    let watch = Stopwatch::start();
    let read = replay_log(storage, cell, from, &mut replayer, on_progress);
    let mut tail = read.map_err(|error| without_snapshots(error.into(), &report.snapshots_damaged))?;
    if tail.index == 0 {
        tail.last = from;
    }
    if tail.last < reaches {
        let what = format!("the log ends here, and the snapshot at {from} was taken when it reached {reaches}");
        // What would pass for a torn tail is damage: the snapshot was named when the log was durable up to there.
        return Err(match &tail.torn {
            Some(torn) => {
                let what = format!("a bad frame: {what}");
                ReadError::Damaged { path: storage.path(&torn.name), offset: torn.offset, what }.into()
            }
            None => OpenError::Replay { seq: tail.last, what },
        });
    }
    let newest = replayer.finish()?;
    report.last = tail.last;
    report.entries = tail.last.0 - from.0;
    report.bytes = tail.bytes;
    report.nanos = watch.nanos();
    Ok(Replayed { tail, newest, report, damaged })
}

/// A log that was trimmed begins behind its snapshots: what cannot be read without them is told together with why there are none.
fn without_snapshots(error: OpenError, damaged: &[(PathBuf, String)]) -> OpenError {
    if damaged.is_empty() {
        return error;
    }
    let snapshots: Vec<_> = damaged.iter().map(|(path, why)| format!("{}: {why}", path.display())).collect();
    OpenError::WithoutSnapshots { error: Box::new(error), snapshots: snapshots.join("; ") }
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

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests;
