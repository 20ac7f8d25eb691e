//! Work that stops in the middle: a snapshot between two writes, a batch before its sync, a cancel between two of its steps.
//!
//! Each piece runs in a thread of its own, in lockstep with the simulator: one of the two runs, the other waits. So what
//! comes in between is the simulator's choice, and the same for the same seed.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId};

use parking_lot::{Condvar, Mutex};

use crate::journal::storage::{Storage, StorageFile};
use crate::testing::disk::MemoryDisk;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Simulator,
    /// May pass so many places before it stops at one.
    Actor(u64),
    Over,
}

#[derive(Debug)]
struct Baton {
    turn: Mutex<Turn>,
    changed: Condvar,
}

impl Baton {
    fn give(&self, turn: Turn) {
        *self.turn.lock() = turn;
        self.changed.notify_all();
    }

    fn await_not(&self, not: impl Fn(Turn) -> bool) -> Turn {
        let mut turn = self.turn.lock();
        while not(*turn) {
            self.changed.wait(&mut turn);
        }
        *turn
    }
}

/// However an actor ends, a panic included, the simulator goes on.
struct Over(Arc<Baton>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.give(Turn::Over);
    }
}

/// The storage of a simulated engine: the disk, with a place to stop before every operation that changes something.
#[derive(Debug)]
pub(super) struct Stage {
    disk: MemoryDisk,
    actors: Arc<Mutex<HashMap<ThreadId, Arc<Baton>>>>,
}

impl Stage {
    pub(super) fn new(disk: MemoryDisk) -> Arc<Self> {
        Arc::new(Self { disk, actors: Arc::default() })
    }

    /// A place where an actor may stop; nothing for anybody else.
    pub(super) fn place(&self) {
        pause(&self.actors);
    }

    /// Begins `work`, up to its first place or its end.
    pub(super) fn act<T: Send + 'static>(self: &Arc<Self>, work: impl FnOnce() -> T + Send + 'static) -> Actor<T> {
        let baton = Arc::new(Baton { turn: Mutex::new(Turn::Simulator), changed: Condvar::new() });
        let (stage, own) = (Arc::clone(self), Arc::clone(&baton));
        let thread = std::thread::Builder::new().name("berth-simulated".to_owned()).spawn(move || {
            let over = Over(Arc::clone(&own));
            own.await_not(|turn| turn == Turn::Simulator);
            let me = std::thread::current().id();
            stage.actors.lock().insert(me, own);
            let done = work();
            stage.actors.lock().remove(&me);
            drop(over);
            done
        });
        let actor = Actor { baton, thread: thread.expect("a thread for a simulated part") };
        actor.resume(0);
        actor
    }
}

fn pause(actors: &Mutex<HashMap<ThreadId, Arc<Baton>>>) {
    let baton = actors.lock().get(&std::thread::current().id()).cloned();
    let Some(baton) = baton else { return };
    let passes = match *baton.turn.lock() {
        Turn::Actor(passes) => passes,
        Turn::Simulator | Turn::Over => 0,
    };
    if let Some(left) = passes.checked_sub(1) {
        baton.give(Turn::Actor(left));
        return;
    }
    baton.give(Turn::Simulator);
    baton.await_not(|turn| turn == Turn::Simulator);
}

/// A piece of work that may be stopped at a place.
#[derive(Debug)]
pub(super) struct Actor<T> {
    baton: Arc<Baton>,
    thread: JoinHandle<T>,
}

impl<T> Actor<T> {
    /// Runs it past so many places to the next, or to its end.
    pub(super) fn resume(&self, places: u64) {
        {
            let mut turn = self.baton.turn.lock();
            if *turn == Turn::Over {
                return;
            }
            *turn = Turn::Actor(places);
        }
        self.baton.changed.notify_all();
        self.baton.await_not(|turn| matches!(turn, Turn::Actor(_)));
    }

    pub(super) fn is_over(&self) -> bool {
        *self.baton.turn.lock() == Turn::Over
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// What it panicked with.
    pub(super) fn finish(self) -> std::thread::Result<T> {
        while !self.is_over() {
            self.resume(u64::MAX);
        }
        self.thread.join()
    }
}

impl Storage for Stage {
    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.place();
        self.disk.create_dir(dir)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(StageFile { file: self.disk.open(name)?, actors: Arc::clone(&self.actors) }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.place();
        Ok(Arc::new(StageFile { file: self.disk.create(name)?, actors: Arc::clone(&self.actors) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.place();
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.place();
        self.disk.remove(name)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.place();
        self.disk.sync_dir(dir)
    }

    fn lock(&self) -> io::Result<Box<dyn std::fmt::Debug + Send + Sync>> {
        self.disk.lock()
    }
}

#[derive(Debug)]
struct StageFile {
    file: Arc<dyn StorageFile>,
    actors: Arc<Mutex<HashMap<ThreadId, Arc<Baton>>>>,
}

impl StorageFile for StageFile {
    fn write_all_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        pause(&self.actors);
        self.file.write_all_at(at, bytes)
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(at, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        pause(&self.actors);
        self.file.sync()
    }

    fn shrink(&self, to: u64) -> io::Result<()> {
        pause(&self.actors);
        self.file.shrink(to)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
