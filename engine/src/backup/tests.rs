//! Copies of a log that grows and is trimmed while they are made, at every moment of it.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;

use super::*;
use crate::clock::Clock;
use crate::command::{Command, Request};
use crate::config::Config;
use crate::engine::Engine;
use crate::journal::removal;
use crate::journal::storage::StorageFile;
use crate::journal::writer::Turn;
use crate::open::Parts;
use crate::policy::AllowAll;
use crate::testing::disk::MemoryDisk;

/// A cell with segments of four pages, whose parts are turned by hand.
struct Living {
    engine: Engine,
    parts: Parts,
}

impl Living {
    fn new(disk: &MemoryDisk) -> Self {
        let mut config = Config::new("memory");
        config.journal.segment_bytes = 16 << 10;
        config.journal.buffer_bytes = 8 << 10;
        let (engine, parts, _) =
            Engine::assemble(Arc::new(disk.clone()), None, &config, Arc::new(AllowAll), &Clock::start, &mut |_| {})
                .unwrap();
        engine.set_removal_step(4096);
        Self { engine, parts }
    }

    fn note(&mut self, bytes: usize) {
        while self.parts.reserve.make().unwrap() {}
        let command = Command::Note { note: &vec![7; bytes] };
        self.engine.submit(&Request { command, idempotency: None }, self.engine.now()).unwrap().result.unwrap();
        assert_eq!(self.parts.writer.turn(), Turn::Wrote);
    }

    /// Fills three segments and takes a snapshot, behind which those before the last snapshot are trimmed; then goes on.
    fn grow(&mut self) {
        (0..12).for_each(|_| self.note(3000));
        let taken = self.engine.begin_snapshot().unwrap().unwrap();
        self.engine.publish_snapshot(taken).unwrap();
        self.note(30);
    }

    /// Takes two snapshots in the segment in use: what is before it is trimmed, and nothing else changes.
    fn trim(&mut self) {
        for _ in 0..2 {
            self.note(30);
            let taken = self.engine.begin_snapshot().unwrap().unwrap();
            self.engine.publish_snapshot(taken).unwrap();
        }
    }
}

/// At which call, of which file or directory.
type When = dyn Fn(u32, &str) -> bool + Send + Sync;

/// A disk on which something happens just before some of the calls that read it.
struct Meanwhile {
    disk: MemoryDisk,
    moments: Arc<Moments>,
}

struct Moments {
    calls: AtomicU32,
    when: Box<When>,
    happens: Mutex<Box<dyn FnMut() + Send>>,
}

impl Moments {
    fn call(&self, name: &str) {
        let call = self.calls.fetch_add(1, Relaxed) + 1;
        if (self.when)(call, name) {
            (self.happens.lock())();
        }
    }
}

impl Meanwhile {
    fn new(
        disk: MemoryDisk,
        when: impl Fn(u32, &str) -> bool + Send + Sync + 'static,
        happens: impl FnMut() + Send + 'static,
    ) -> Self {
        let happens = Mutex::new(Box::new(happens) as Box<dyn FnMut() + Send>);
        Self { disk, moments: Arc::new(Moments { calls: AtomicU32::new(0), when: Box::new(when), happens }) }
    }

    fn calls(&self) -> u32 {
        self.moments.calls.load(Relaxed)
    }
}

/// An open file of it: each read is a call too.
struct MeanwhileFile {
    file: Arc<dyn StorageFile>,
    moments: Arc<Moments>,
}

impl fmt::Debug for MeanwhileFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeanwhileFile")
    }
}

impl StorageFile for MeanwhileFile {
    fn write_all_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        panic!("the source is written to")
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.moments.call("read");
        self.file.read_at(at, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        panic!("the source is written to")
    }

    fn shrink(&self, _: u64) -> io::Result<()> {
        panic!("the source is written to")
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Storage for Meanwhile {
    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.moments.call(dir);
        self.disk.list(dir)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.moments.call(name);
        Ok(Arc::new(MeanwhileFile { file: self.disk.open(name)?, moments: Arc::clone(&self.moments) }))
    }

    /// As a real disk does it: what is left of the file when it is read.
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.moments.call(name);
        let file = self.disk.open(name)?;
        self.moments.call("read");
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_exact_at(0, &mut bytes)?;
        Ok(bytes)
    }

    fn create_dir(&self, _: &str) -> io::Result<()> {
        panic!("the source is written to")
    }

    fn create(&self, _: &str) -> io::Result<Arc<dyn StorageFile>> {
        panic!("the source is written to")
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        panic!("the source is written to")
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        panic!("the source is written to")
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        panic!("the source is written to")
    }

    fn lock(&self) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        panic!("the source is locked")
    }
}

/// Copies a cell that three snapshots were taken of, with another `grows`, or only a trim, whenever `when` says so. The copy, what was durable
/// before it began, and how many calls read the source.
fn copy_while(
    grows: u32,
    when: impl Fn(u32, &str) -> bool + Send + Sync + 'static,
) -> (Result<Copied, CopyError>, Seq, u32) {
    let disk = MemoryDisk::new(0);
    let mut living = Living::new(&disk);
    (0..3).for_each(|_| living.grow());
    let before = living.engine.durable();
    let happens = move || match grows {
        0 => living.trim(),
        grows => (0..grows).for_each(|_| living.grow()),
    };
    let source = Arc::new(Meanwhile::new(disk, when, happens));
    let files = JournalFiles::of(Arc::clone(&source) as _, CellId(1));
    let to: Arc<dyn Storage> = Arc::new(MemoryDisk::new(0));
    let window = Duration::from_secs(60);
    let copied = Copy::of(&files, &to, &mut |_| {}).and_then(|copy| copy.judge(&files, &to, window, &mut |_| {}));
    (copied, before, source.calls())
}

#[test]
fn a_copy_under_which_the_log_is_trimmed_at_any_moment_has_everything_durable_before_it() {
    let quiet = copy_while(0, |_, _| false);
    let (copied, _, calls) = (quiet.0.unwrap(), quiet.1, quiet.2);
    assert!(calls > 10 && copied.report.first > Seq(1), "the log was never trimmed");
    let mut begun_again = 0;
    // Not at all: the log goes up to the segment in use. Once: the snapshot that is copied stays and the log before it goes. Twice and
    // more: it goes too.
    for grows in 0..=3 {
        for moment in 1..=calls {
            let (copied, before, _) = copy_while(grows, move |call, _| call == moment);
            let copied = copied.unwrap_or_else(|error| panic!("{grows} at call {moment}: {error}"));
            let (first, last) = (copied.report.first, copied.report.last);
            assert!(last >= before, "{grows} at call {moment}: ends at {last}, and {before} was durable");
            assert!(first <= copied.snapshot.unwrap().next(), "{grows} at call {moment}: begins at {first}");
            begun_again += u32::from(copied.snapshot.unwrap() > before);
        }
    }
    assert!(begun_again > 10, "only {begun_again} copies began again");
}

#[test]
fn a_copy_that_is_trimmed_under_every_attempt_says_so() {
    let (copied, ..) = copy_while(2, |_, name| name == segment::DIR);
    assert!(matches!(copied, Err(CopyError::Restless)), "{copied:?}");
}

/// A segment that is read while it grows shows frames behind one that is not there yet, here at every look.
#[test]
fn a_growing_segment_is_copied_to_a_frame_that_was_whole_however_it_is_read() {
    let disk = MemoryDisk::new(0);
    let mut living = Living::new(&disk);
    (0..2 * LOOKS).for_each(|_| living.note(100));
    let name = segment::name(1);
    let whole = disk.read(&name).unwrap();
    let mut ends = vec![SEGMENT_HEADER_BYTES];
    while let Ok(frame) = Frame::read(&whole[ends[ends.len() - 1]..]) {
        ends.push(ends[ends.len() - 1] + frame.bytes.len());
    }
    assert_eq!(ends.len(), 2 * LOOKS as usize + 1);
    let write = {
        let (disk, name) = (disk.clone(), name.clone());
        move |bytes: &[u8]| disk.open(&name).and_then(|file| file.write_all_at(0, bytes)).unwrap()
    };
    let copied = |views: Vec<Vec<u8>>, looks: u32| {
        let (mut views, write) = (views.into_iter(), write.clone());
        // At each look, and not at what else is asked of the file.
        let look = Arc::new(AtomicU32::new(0));
        let when = |_: u32, name: &str| name == "read";
        let happens = {
            let look = Arc::clone(&look);
            move || {
                look.fetch_add(1, Relaxed);
                views.next().iter().for_each(|view| write(view));
            }
        };
        let source = Meanwhile::new(disk.clone(), when, happens);
        let to = MemoryDisk::new(0);
        to.create_dir(segment::DIR).unwrap();
        assert!(copy_growing(&source, &name, &to).unwrap());
        assert_eq!(look.load(Relaxed), looks);
        let mut frames = 0;
        let tail = reader::read_directory(&to, CellId(1), Seq(0), &mut |_| {
            frames += 1;
            Ok(())
        });
        tail.map(|tail| (frames, tail.torn.is_some(), tail.bytes))
    };
    // Frames up to here, then one that is not there yet, then the next.
    let view = |frames: usize| {
        let mut view = whole.clone();
        view[ends[frames]..ends[frames + 1]].fill(0);
        view[ends[frames + 2]..].fill(0);
        view
    };
    let growing = (3..3 + LOOKS as usize).map(view).collect();
    assert_eq!(copied(growing, 2).unwrap(), (4, false, (ends[4] - SEGMENT_HEADER_BYTES) as u64));
    // One look that was not of one instant, then all of it.
    assert_eq!(copied(vec![view(3), whole.clone()], 2).unwrap().0, 2 * LOOKS);
    // At rest it is damage, or a tear.
    assert!(copied(vec![view(3)], LOOKS).is_err());
    let mut torn = whole.clone();
    torn[ends[3] + 40..].fill(0);
    assert!(copied(vec![torn], LOOKS).unwrap().1);
}

/// Trimmed between the look at its name and the reading: what is read is cut short, here within the zeros behind the last frame.
#[test]
fn a_growing_segment_that_is_trimmed_while_it_is_read_is_not_copied() {
    let disk = MemoryDisk::new(0);
    let mut living = Living::new(&disk);
    living.note(100);
    let name = segment::name(1);
    let trimmed = {
        let (disk, name) = (disk.clone(), name.clone());
        move || {
            let gone = removal::set_aside(&disk, &name).unwrap();
            disk.open(&gone).and_then(|file| file.shrink(8192)).unwrap();
        }
    };
    let source = Meanwhile::new(disk, |_, name| name == "read", trimmed);
    let to = MemoryDisk::new(0);
    to.create_dir(segment::DIR).unwrap();
    assert!(!copy_growing(&source, &name, &to).unwrap());
}
