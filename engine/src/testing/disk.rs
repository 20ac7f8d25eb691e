//! A disk in memory that fails on purpose, and keeps after a power cut only what it promised.
//!
//! What is written and not synced may be kept, lost, or torn at any sector; a sector holds a prefix of what was written to it. Names behave as on a journaling file system:
//! after a power cut a prefix of the changes since the last sync of the directory is there. Everything is decided by one
//! seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::random::Random;
use crate::journal::storage::{Storage, StorageFile};

/// Bytes that a device writes all or none of.
const SECTOR: usize = 512;

/// A way for the disk to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskFault {
    /// The next write stops half-way with an error.
    ShortWrite,
    /// The next sync fails, and what it should have kept is dropped.
    SyncFails,
    /// The next sync takes long: other things happen before it is done.
    Slow,
    /// The power goes in the middle of a write: sectors of it are kept and lost in any mixture.
    TornWrite,
    /// The power goes and takes with it what was written and not synced.
    LostWrite,
    /// Nothing more can be made or grown.
    NoSpace,
    /// A bit flips in what is at rest.
    BitFlip,
}

impl DiskFault {
    /// Every fault.
    pub const ALL: [DiskFault; 7] = [
        DiskFault::ShortWrite,
        DiskFault::SyncFails,
        DiskFault::Slow,
        DiskFault::TornWrite,
        DiskFault::LostWrite,
        DiskFault::NoSpace,
        DiskFault::BitFlip,
    ];
}

/// The kinds of operation in which the power can go: all that change something.
pub const OPERATIONS: [&str; 8] = ["create_dir", "create", "write", "sync", "shrink", "rename", "remove", "sync_dir"];

/// One change that a sync has not covered.
#[derive(Clone, Debug)]
struct Write {
    at: usize,
    bytes: Vec<u8>,
    /// Nothing is written: the file ends at `at`.
    ends: bool,
}

impl Write {
    /// All of it is there.
    fn apply(&self, file: &mut Vec<u8>) {
        if self.ends {
            file.truncate(self.at);
            return;
        }
        let end = self.at + self.bytes.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[self.at..end].copy_from_slice(&self.bytes);
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    synced: Vec<u8>,
    unsynced: Vec<Write>,
    /// What a reader sees.
    view: Vec<u8>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(String, usize),
    Gone(String),
    Renamed(String, String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Set(name, inode) => drop(names.insert(name.clone(), *inode)),
            NameChange::Gone(name) => drop(names.remove(name)),
            NameChange::Renamed(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }

    fn dir(&self) -> &str {
        let (NameChange::Set(name, _) | NameChange::Gone(name) | NameChange::Renamed(name, _)) = self;
        name.rsplit_once('/').map_or("", |(dir, _)| dir)
    }
}

#[derive(Debug)]
struct State {
    random: Random,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    dirs: Vec<String>,
    locked: bool,
    armed: Option<DiskFault>,
    hits: BTreeMap<DiskFault, u64>,
    /// Operations until the power goes.
    fuse: Option<u64>,
    /// The power goes in the next operation of this kind.
    fuse_in: Option<&'static str>,
    off: bool,
    /// The operation in which the power went.
    off_in: Option<&'static str>,
    space_left: Option<u64>,
    slept_ms: u64,
    /// Counts restarts: a handle from before one is dead.
    life: u64,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct MemoryDisk(Arc<Mutex<State>>);

fn off() -> io::Error {
    io::Error::other("the power is off")
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    fn hit(&mut self, fault: DiskFault) {
        *self.hits.entry(fault).or_default() += 1;
    }

    fn take(&mut self, fault: DiskFault) -> bool {
        let armed = self.armed == Some(fault);
        if armed {
            self.armed = None;
            self.hit(fault);
        }
        armed
    }

    /// Before every operation that changes something.
    fn burn(&mut self, what: &'static str) -> io::Result<()> {
        let burnt = self.fuse.as_mut().is_some_and(|fuse| {
            *fuse = fuse.saturating_sub(1);
            *fuse == 0
        });
        if !self.off && (burnt || self.fuse_in == Some(what)) {
            (self.fuse, self.fuse_in) = (None, None);
            self.off = true;
            self.off_in = Some(what);
        }
        if self.off { Err(off()) } else { Ok(()) }
    }

    fn room(&mut self, bytes: u64) -> io::Result<()> {
        match &mut self.space_left {
            Some(left) if *left < bytes => {
                self.hit(DiskFault::NoSpace);
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(left) => {
                *left -= bytes;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}

impl MemoryDisk {
    /// An empty disk whose accidents follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            dirs: Vec::new(),
            locked: false,
            armed: None,
            hits: BTreeMap::new(),
            fuse: None,
            fuse_in: None,
            off: false,
            off_in: None,
            space_left: None,
            slept_ms: 0,
            life: 0,
        })))
    }

    /// The next operation that it can happen to meets this fault.
    pub fn arm(&self, fault: DiskFault) {
        self.0.lock().armed = Some(fault);
    }

    /// Whatever was to happen does not; there is room for everything.
    pub fn disarm(&self) {
        let mut state = self.0.lock();
        (state.armed, state.fuse, state.fuse_in, state.space_left) = (None, None, None, None);
    }

    /// The power goes at the `n`-th operation from now that changes something.
    pub fn cut_power_after(&self, n: u64) {
        self.0.lock().fuse = Some(n.max(1));
    }

    /// The power goes in the next operation of this kind, one of [`OPERATIONS`].
    pub fn cut_power_in(&self, operation: &'static str) {
        self.0.lock().fuse_in = Some(operation);
    }

    /// The power goes now.
    pub fn cut_power(&self) {
        self.0.lock().off = true;
    }

    /// Whether the power is off, and the operation in which it went.
    #[must_use]
    pub fn is_off(&self) -> Option<Option<&'static str>> {
        let state = self.0.lock();
        state.off.then_some(state.off_in)
    }

    /// So many bytes can still be made; `None` takes the bound away.
    pub fn set_space(&self, left: Option<u64>) {
        self.0.lock().space_left = left;
    }

    /// Milliseconds that slow operations have taken since the last call.
    #[must_use]
    pub fn slept_ms(&self) -> u64 {
        std::mem::take(&mut self.0.lock().slept_ms)
    }

    /// How often each fault has happened.
    #[must_use]
    pub fn hits(&self) -> BTreeMap<DiskFault, u64> {
        self.0.lock().hits.clone()
    }

    /// What a power cut leaves, and the power back on. Open handles are dead. With `kill`, only the process died: everything
    /// written is there.
    pub fn restart(&self, kill: bool) {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let torn = state.armed.take() == Some(DiskFault::TornWrite);
        if !kill {
            for inode in &mut state.inodes {
                // A sector holds what was written to it in order: who has a later write to it has the earlier ones.
                let mut lost = BTreeSet::new();
                for write in std::mem::take(&mut inode.unsynced) {
                    if write.ends {
                        // Of one piece: it is there or not.
                        if state.random.below(2) == 0 {
                            write.apply(&mut inode.synced);
                        }
                        continue;
                    }
                    // The two ends are the likely ones; a mixture of sectors is what breaks parsers.
                    let fate = if torn { 2 } else { state.random.below(3) };
                    let keep = |random: &mut Random| match fate {
                        0 => false,
                        1 => true,
                        _ => random.below(2) == 0,
                    };
                    let end = write.at + write.bytes.len();
                    let fault = match fate {
                        0 => Some(DiskFault::LostWrite),
                        1 => None,
                        _ => Some(DiskFault::TornWrite),
                    };
                    if let Some(fault) = fault {
                        *state.hits.entry(fault).or_default() += 1;
                    }
                    let mut at = write.at;
                    while at < end {
                        let next = ((at / SECTOR + 1) * SECTOR).min(end);
                        let kept = keep(&mut state.random) && !lost.contains(&(at / SECTOR));
                        if !kept {
                            lost.insert(at / SECTOR);
                        }
                        if kept {
                            if inode.synced.len() < next {
                                inode.synced.resize(next, 0);
                            }
                            inode.synced[at..next].copy_from_slice(&write.bytes[at - write.at..next - write.at]);
                        }
                        at = next;
                    }
                }
                inode.view.clone_from(&inode.synced);
            }
            let kept = state.random.below(state.name_changes.len() as u64 + 1);
            let kept = usize::try_from(kept).expect("at most the number of changes");
            for change in state.name_changes.drain(..).take(kept) {
                change.apply(&mut state.durable_names);
            }
            state.names = state.durable_names.clone();
            // Without a name and without anybody who has it open.
            let named: Vec<usize> = state.names.values().copied().collect();
            for (index, inode) in state.inodes.iter_mut().enumerate() {
                if !named.contains(&index) {
                    *inode = Inode::default();
                }
            }
        }
        state.off = false;
        state.off_in = None;
        state.fuse = None;
        state.fuse_in = None;
        state.locked = false;
        state.life += 1;
    }

    /// Flips one bit of a file, at rest, and says where; `None` if there is no such file or it is empty.
    pub fn flip_bit(&self, name: &str, from: usize, to: usize) -> Option<usize> {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let inode = *state.names.get(name)?;
        let file = &mut state.inodes[inode];
        let span = to.min(file.view.len()).checked_sub(from).filter(|span| *span > 0)?;
        let at = from + usize::try_from(state.random.below(span as u64)).ok()?;
        let bit = 1u8 << state.random.below(8);
        file.view[at] ^= bit;
        if let Some(byte) = file.synced.get_mut(at) {
            *byte ^= bit;
        }
        state.hit(DiskFault::BitFlip);
        Some(at)
    }

    /// A copy of everything as it is now, unsynced writes included, as a disk of its own.
    #[must_use]
    pub fn copy(&self) -> MemoryDisk {
        self.copy_with(1)
    }

    /// As [`MemoryDisk::copy`]; the copy's accidents follow from `seed`.
    #[must_use]
    pub fn copy_with(&self, seed: u64) -> MemoryDisk {
        let state = self.0.lock();
        let copy = MemoryDisk::new(seed);
        {
            let mut new = copy.0.lock();
            new.inodes.clone_from(&state.inodes);
            new.names.clone_from(&state.names);
            new.durable_names.clone_from(&state.durable_names);
            new.name_changes.clone_from(&state.name_changes);
            new.dirs.clone_from(&state.dirs);
        }
        copy
    }
}

impl Storage for MemoryDisk {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory:").join(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        if state.off {
            return Err(off());
        }
        if !dir.is_empty() && !state.dirs.iter().any(|made| made == dir) {
            return Err(not_found());
        }
        let inside = |name: &String| match name.rsplit_once('/') {
            Some((above, name)) if above == dir => Some(name.to_owned()),
            None if dir.is_empty() => Some(name.clone()),
            _ => None,
        };
        Ok(state.names.keys().filter_map(inside).collect())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.burn("create_dir")?;
        // Made once and there for good: what can go wrong with files in it is tried enough.
        if !dir.is_empty() && !state.dirs.iter().any(|made| made == dir) {
            state.dirs.push(dir.to_owned());
        }
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let state = self.0.lock();
        if state.off {
            return Err(off());
        }
        let inode = *state.names.get(name).ok_or_else(not_found)?;
        Ok(Arc::new(MemoryFile { disk: self.clone(), inode, life: state.life }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.0.lock();
        state.burn("create")?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.room(SECTOR as u64)?;
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.name(NameChange::Set(name.to_owned(), inode));
        Ok(Arc::new(MemoryFile { disk: self.clone(), inode, life: state.life }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.burn("rename")?;
        if !state.names.contains_key(from) {
            return Err(not_found());
        }
        state.name(NameChange::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.burn("remove")?;
        let inode = *state.names.get(name).ok_or_else(not_found)?;
        let freed = state.inodes[inode].view.len() as u64 + SECTOR as u64;
        if let Some(left) = &mut state.space_left {
            *left += freed;
        }
        state.name(NameChange::Gone(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.burn("sync_dir")?;
        let changes = std::mem::take(&mut state.name_changes);
        for change in changes {
            if change.dir() == dir {
                change.apply(&mut state.durable_names);
            } else {
                state.name_changes.push(change);
            }
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        let mut state = self.0.lock();
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(Box::new(MemoryLock { disk: self.clone(), life: state.life }))
    }
}

#[derive(Debug)]
struct MemoryLock {
    disk: MemoryDisk,
    life: u64,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut state = self.disk.0.lock();
        if state.life == self.life {
            state.locked = false;
        }
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    inode: usize,
    life: u64,
}

impl MemoryFile {
    fn state(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.disk.0.lock();
        if state.life == self.life { Ok(state) } else { Err(off()) }
    }
}

impl StorageFile for MemoryFile {
    fn write_all_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut guard = self.state()?;
        let state = &mut *guard;
        if state.off {
            return Err(off());
        }
        let before = state.burn("write");
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let short = before.is_err() || state.take(DiskFault::ShortWrite);
        let bytes = if short {
            let kept = usize::try_from(state.random.below(bytes.len() as u64 + 1)).expect("at most its length");
            &bytes[..kept]
        } else {
            bytes
        };
        let grown = (at + bytes.len()).saturating_sub(state.inodes[self.inode].view.len());
        state.room(grown as u64)?;
        let file = &mut state.inodes[self.inode];
        if grown > 0 {
            file.view.resize(at + bytes.len(), 0);
        }
        file.view[at..at + bytes.len()].copy_from_slice(bytes);
        file.unsynced.push(Write { at, bytes: bytes.to_vec(), ends: false });
        before?;
        if short { Err(io::Error::other("short write")) } else { Ok(()) }
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let state = self.state()?;
        if state.off {
            return Err(off());
        }
        let view = &state.inodes[self.inode].view;
        let Some(rest) = usize::try_from(at).ok().and_then(|at| view.get(at..)) else { return Ok(0) };
        let len = rest.len().min(bytes.len());
        bytes[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut guard = self.state()?;
        let state = &mut *guard;
        state.burn("sync")?;
        if state.take(DiskFault::Slow) {
            state.slept_ms += 1 + state.random.below(90_000);
        }
        if state.take(DiskFault::SyncFails) {
            // The pages are clean now, and gone: as Linux does it. A second sync would succeed.
            let file = &mut state.inodes[self.inode];
            file.unsynced.clear();
            return Err(io::Error::other("the sync failed"));
        }
        let file = &mut state.inodes[self.inode];
        for write in file.unsynced.drain(..) {
            write.apply(&mut file.synced);
        }
        Ok(())
    }

    fn shrink(&self, to: u64) -> io::Result<()> {
        let mut guard = self.state()?;
        let state = &mut *guard;
        state.burn("shrink")?;
        let at = usize::try_from(to).map_err(io::Error::other)?;
        let file = &mut state.inodes[self.inode];
        let freed = file.view.len().saturating_sub(at);
        let shrink = Write { at, bytes: Vec::new(), ends: true };
        shrink.apply(&mut file.view);
        file.unsynced.push(shrink);
        if let Some(left) = &mut state.space_left {
            *left += freed as u64;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.inodes[self.inode].view.len() as u64)
    }
}
