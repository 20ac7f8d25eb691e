//! A Redis in memory that fails on purpose, with the semantics of the real one's server-side functions.
//!
//! Everything is decided by one seed. Connections share the server; each is an owner of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::random::Random;
use crate::ids::{Epoch, Seq};
use crate::journal::frame::Link;
use crate::journal::stream::{Head, SNAPSHOTS_KEPT, ServerState, Shipment, Stream, StreamError, Whole};

/// A way for Redis to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamFault {
    /// The next change is done, and its answer lost.
    ReplyLost,
    /// The connection is lost before the next call is done.
    ConnectionLost,
    /// Everything is gone, and the connection with it: restarted empty, or flushed.
    Wiped,
    /// Failed over to a replica that lacks the newest changes.
    LostTail,
    /// No memory left, until room is made.
    Full,
    /// The next call takes long; past the time-out its answer is lost.
    Slow,
    /// Nobody answers, until it is back.
    Gone,
}

impl StreamFault {
    /// Every fault.
    pub const ALL: [StreamFault; 7] = [
        StreamFault::ReplyLost,
        StreamFault::ConnectionLost,
        StreamFault::Wiped,
        StreamFault::LostTail,
        StreamFault::Full,
        StreamFault::Slow,
        StreamFault::Gone,
    ];
}

/// A call slower than this counts as lost.
const TIMEOUT_MS: u64 = 10_000;
/// A replica is brought up to date at one change in so many.
const REPLICATE_ONE_IN: u64 = 4;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    /// The cell, if it said so.
    identity: Option<u64>,
    token: u64,
}

#[derive(Clone, Debug, Default)]
struct Data {
    head: Option<(Seq, Link)>,
    owner: Option<(Epoch, Owner)>,
    base: Seq,
    /// By the last entry of each.
    frames: BTreeMap<Seq, Arc<Shipment>>,
    snapshots: Vec<Whole>,
    pieces: BTreeMap<Seq, BTreeMap<u64, Arc<Vec<u8>>>>,
}

impl Data {
    fn head(&self) -> Head {
        let last = self.head.map_or(Seq(0), |(last, _)| last);
        let whole = last == self.base || self.frames.contains_key(&last);
        Head {
            last,
            link: self.head.map(|(_, link)| link),
            epoch: self.owner.map_or(Epoch(0), |(epoch, _)| epoch),
            base: self.base,
            snapshots: self.snapshots.clone(),
            damaged: (!whole).then(|| "frames are missing".to_owned()),
        }
    }

    fn meet(&self, asker: Owner) -> Result<(), StreamError> {
        let theirs = self.owner.and_then(|(_, owner)| owner.identity);
        let other = theirs.zip(asker.identity).is_some_and(|(theirs, ours)| theirs != ours);
        if other { Err(StreamError::OtherCell) } else { Ok(()) }
    }

    fn guard(&self, epoch: Epoch, asker: Owner) -> Result<(), StreamError> {
        self.meet(asker)?;
        match self.owner {
            Some((newest, _)) if newest > epoch => Err(StreamError::Fenced { epoch: newest }),
            Some((newest, owner)) if newest == epoch && owner.token != asker.token => {
                Err(StreamError::Fenced { epoch: newest })
            }
            _ => Ok(()),
        }
    }

    fn is_whole(&self, snapshot: &Whole) -> bool {
        self.pieces.get(&snapshot.s0).map_or(0, |pieces| pieces.len() as u64) == snapshot.pieces
    }
}

#[derive(Clone, Debug)]
struct Server {
    random: Random,
    data: Data,
    replica: Data,
    armed: Option<StreamFault>,
    hits: BTreeMap<StreamFault, u64>,
    full: bool,
    gone: bool,
    slept_ms: u64,
    tokens: u64,
    /// Connections made before this are dead.
    life: u64,
    state: ServerState,
    /// With an append-only file that can be waited for: whether the disk under it keeps up.
    keeps_up: Option<bool>,
    panics: bool,
}

/// The server. Clones are the same server.
#[derive(Clone, Debug)]
pub struct MemoryRedis(Arc<Mutex<Server>>);

impl MemoryRedis {
    /// An empty server whose accidents follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Server {
            random: Random::new(seed),
            data: Data::default(),
            replica: Data::default(),
            armed: None,
            hits: BTreeMap::new(),
            full: false,
            gone: false,
            slept_ms: 0,
            tokens: 0,
            life: 0,
            state: ServerState::default(),
            keeps_up: None,
            panics: false,
        })))
    }

    /// A connection of a new owner.
    #[must_use]
    pub fn connect(&self) -> MemoryStream {
        let mut server = self.0.lock();
        server.tokens += 1;
        let settles = server.keeps_up.is_some();
        let owner = Owner { identity: None, token: server.tokens };
        MemoryStream { server: self.clone(), owner, life: server.life, settles, answers: VecDeque::new() }
    }

    /// The next call that it can happen to meets this fault. [`StreamFault::Full`] and [`StreamFault::Gone`] last until
    /// [`MemoryRedis::mend`].
    pub fn arm(&self, fault: StreamFault) {
        let mut server = self.0.lock();
        match fault {
            StreamFault::Full => server.full = true,
            StreamFault::Gone => server.gone = true,
            _ => server.armed = Some(fault),
        }
    }

    /// Room is made, and the server is back.
    pub fn mend(&self) {
        let mut server = self.0.lock();
        server.full = false;
        server.gone = false;
        server.armed = None;
    }

    /// It has an append-only file that can be waited for, on a disk that keeps up or does not; or none.
    pub fn set_append_only(&self, keeps_up: Option<bool>) {
        self.0.lock().keeps_up = keeps_up;
    }

    /// What it says of itself from now on.
    pub fn set_state(&self, state: ServerState) {
        self.0.lock().state = state;
    }

    /// The next call panics, as one with a bug would.
    pub fn plant_panic(&self) {
        self.0.lock().panics = true;
    }

    /// Everything is gone now.
    pub fn wipe(&self) {
        self.0.lock().wipe();
    }

    /// Everything is gone now, and the connections stay: somebody flushed it.
    pub fn flush(&self) {
        let mut server = self.0.lock();
        server.wipe();
        server.life -= 1;
    }

    /// What it has now, on a server of its own to which nothing happens.
    #[must_use]
    pub fn copy(&self) -> MemoryRedis {
        let mut server = self.0.lock().clone();
        (server.full, server.gone, server.armed) = (false, false, None);
        MemoryRedis(Arc::new(Mutex::new(server)))
    }

    /// The replica, which may lack the newest changes, is the server now.
    pub fn fail_over(&self) {
        self.0.lock().fail_over();
    }

    /// Milliseconds that slow calls have taken since the last time this was asked.
    #[must_use]
    pub fn slept_ms(&self) -> u64 {
        std::mem::take(&mut self.0.lock().slept_ms)
    }

    /// How often each fault has happened.
    #[must_use]
    pub fn hits(&self) -> BTreeMap<StreamFault, u64> {
        self.0.lock().hits.clone()
    }

    /// The frames that are there, in order.
    #[must_use]
    pub fn frames(&self) -> Vec<Shipment> {
        self.0.lock().data.frames.values().map(|frame| Shipment::clone(frame)).collect()
    }

    /// The frames are removed by hand, and the head stays.
    pub fn lose_frames(&self) {
        self.0.lock().data.frames.clear();
    }

    /// Flips a bit of the frame that entry `last` ends.
    pub fn spoil_frame(&self, last: Seq) {
        let mut server = self.0.lock();
        if let Some(frame) = server.data.frames.get_mut(&last) {
            let mut spoilt = Shipment::clone(frame);
            if let Some(byte) = spoilt.bytes.last_mut() {
                *byte ^= 1;
            }
            *frame = Arc::new(spoilt);
        }
    }

    /// Where the stream stands.
    #[must_use]
    pub fn head(&self) -> Head {
        self.0.lock().data.head()
    }
}

impl Server {
    fn hit(&mut self, fault: StreamFault) {
        *self.hits.entry(fault).or_default() += 1;
    }

    fn wipe(&mut self) {
        self.hit(StreamFault::Wiped);
        self.data = Data::default();
        self.replica = Data::default();
        self.life += 1;
    }

    fn fail_over(&mut self) {
        self.hit(StreamFault::LostTail);
        self.data = self.replica.clone();
        self.life += 1;
    }
}

/// A connection to a [`MemoryRedis`].
#[derive(Debug)]
pub struct MemoryStream {
    server: MemoryRedis,
    owner: Owner,
    life: u64,
    settles: bool,
    /// Answers to what was sent, not yet asked for.
    answers: VecDeque<Result<(), StreamError>>,
}

/// What a call needs of the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing: it reads.
    Nothing,
    /// It changes something.
    Change,
    /// It changes something and takes memory.
    Memory,
}

fn lost(what: &str) -> StreamError {
    StreamError::Lost(what.to_owned())
}

impl MemoryStream {
    /// Another connection of the same owner.
    pub(crate) fn twin(&self) -> MemoryStream {
        MemoryStream { server: self.server.clone(), answers: VecDeque::new(), ..*self }
    }

    fn call<T>(
        &mut self,
        needs: Needs,
        does: impl FnOnce(&mut Data, Owner) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        self.answers.clear();
        self.call_behind(needs, does)
    }

    /// A call behind those whose answers are still to come.
    fn call_behind<T>(
        &mut self,
        needs: Needs,
        does: impl FnOnce(&mut Data, Owner) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        let mut guard = self.server.0.lock();
        let server = &mut *guard;
        assert!(!std::mem::take(&mut server.panics), "a panic that a test planted");
        if server.gone {
            server.hit(StreamFault::Gone);
            return Err(lost("nobody answers"));
        }
        if self.life != server.life {
            // The first call on a dead connection fails; the next makes a new one.
            self.life = server.life;
            return Err(lost("the connection was closed"));
        }
        let mut answered = true;
        match server.armed {
            Some(StreamFault::ReplyLost) if needs == Needs::Nothing => {}
            Some(fault @ StreamFault::ReplyLost) => {
                server.armed = None;
                server.hit(fault);
                answered = false;
            }
            Some(fault @ StreamFault::ConnectionLost) => {
                server.armed = None;
                server.hit(fault);
                return Err(lost("the connection was reset"));
            }
            Some(fault @ StreamFault::Slow) => {
                server.armed = None;
                server.hit(fault);
                let took = 1 + server.random.below(2 * TIMEOUT_MS);
                server.slept_ms += took.min(TIMEOUT_MS);
                answered = took <= TIMEOUT_MS;
            }
            Some(StreamFault::Wiped) => {
                server.armed = None;
                server.wipe();
                return Err(lost("the server restarted"));
            }
            Some(StreamFault::LostTail) => {
                server.armed = None;
                server.fail_over();
                return Err(lost("the server failed over"));
            }
            Some(StreamFault::Full | StreamFault::Gone) | None => {}
        }
        if server.full && needs == Needs::Memory {
            server.hit(StreamFault::Full);
            return Err(StreamError::OutOfMemory);
        }
        let done = does(&mut server.data, self.owner);
        if needs != Needs::Nothing && server.random.below(REPLICATE_ONE_IN) == 0 {
            server.replica = server.data.clone();
        }
        if answered { done } else { Err(lost("no answer came in time")) }
    }
}

impl Stream for MemoryStream {
    fn identify(&mut self, identity: u64) {
        self.owner.identity = Some(identity);
    }

    fn head(&mut self) -> Result<Head, StreamError> {
        self.call(Needs::Nothing, |data, owner| data.meet(owner).map(|()| data.head()))
    }

    fn take(&mut self, epoch: Epoch) -> Result<Head, StreamError> {
        self.call(Needs::Change, |data, owner| {
            data.guard(epoch, owner)?;
            data.owner = Some((epoch, owner));
            Ok(data.head())
        })
    }

    /// Done at once, also where the one before it was lost on the way: whether it is depends on the head alone.
    fn send(&mut self, epoch: Epoch, frames: &[Shipment]) -> Result<(), StreamError> {
        let done = self.call_behind(Needs::Memory, |data, owner| {
            data.guard(epoch, owner)?;
            let Some(first) = frames.first() else { return Ok(()) };
            let head = data.head();
            let checks = !crate::planted!("skip_head_check");
            if checks && (first.header.first != head.last.next() || head.damaged.is_some()) {
                return Err(StreamError::Elsewhere);
            }
            if checks && head.link.is_some_and(|link| link != first.header.previous) {
                return Err(StreamError::Diverged);
            }
            for frame in frames {
                data.frames.insert(frame.header.last(), Arc::new(frame.clone()));
                data.head = Some((frame.header.last(), frame.link));
            }
            data.owner = Some((epoch, owner));
            Ok(())
        });
        self.answers.push_back(done);
        Ok(())
    }

    fn appended(&mut self) -> Result<(), StreamError> {
        let done = self.answers.pop_front().unwrap_or_else(|| Err(lost("an append that was never sent")));
        if done.is_err() {
            self.answers.clear();
        }
        done
    }

    fn settles(&self) -> bool {
        self.settles
    }

    fn settle(&mut self) -> Result<bool, StreamError> {
        let on_disk = self.server.0.lock().keeps_up;
        self.call(Needs::Nothing, |_, _| match on_disk {
            Some(on_disk) => Ok(on_disk),
            None => Err(StreamError::Refused("WAITAOF cannot be used when appendonly is disabled".to_owned())),
        })
    }

    fn server(&mut self) -> Result<ServerState, StreamError> {
        let (state, settles) = {
            let server = self.server.0.lock();
            (server.state.clone(), server.keeps_up.is_some())
        };
        self.call(Needs::Nothing, |_, _| Ok(state)).inspect(|_| self.settles = settles)
    }

    fn put_piece(&mut self, epoch: Epoch, s0: Seq, number: u64, bytes: &[u8]) -> Result<(), StreamError> {
        self.call(Needs::Memory, |data, owner| {
            data.guard(epoch, owner)?;
            let pieces = data.pieces.entry(s0).or_default();
            if number == 0 {
                pieces.clear();
            }
            pieces.insert(number, Arc::new(bytes.to_vec()));
            Ok(())
        })
    }

    fn pieces(&mut self, s0: Seq) -> Result<u64, StreamError> {
        self.call(Needs::Nothing, |data, _| Ok(data.pieces.get(&s0).map_or(0, |pieces| pieces.len() as u64)))
    }

    fn keep(&mut self, epoch: Epoch, snapshot: Whole) -> Result<(), StreamError> {
        self.call(Needs::Memory, |data, owner| {
            data.guard(epoch, owner)?;
            if !data.is_whole(&snapshot) || data.head().last < snapshot.s1 {
                return Err(StreamError::NotWhole);
            }
            data.snapshots.retain(|other| other.s0 != snapshot.s0);
            data.snapshots.push(snapshot);
            data.snapshots.sort_by_key(|whole| std::cmp::Reverse(whole.s0));
            data.snapshots.truncate(SNAPSHOTS_KEPT);
            let Data { pieces, snapshots, .. } = data;
            pieces.retain(|s0, _| snapshots.iter().any(|whole| whole.s0 == *s0));
            Ok(())
        })
    }

    // rule: FNC-4
    fn trim(&mut self, epoch: Epoch, behind: Seq) -> Result<(), StreamError> {
        self.call(Needs::Change, |data, owner| {
            data.guard(epoch, owner)?;
            let last = data.head().last;
            if !data.snapshots.iter().any(|whole| whole.s0 >= behind && whole.s1 <= last && data.is_whole(whole)) {
                return Err(StreamError::NotWhole);
            }
            data.frames = data.frames.split_off(&behind.next());
            data.base = data.base.max(behind);
            Ok(())
        })
    }

    fn install(&mut self, epoch: Epoch, base: Seq, link: Link, snapshot: Option<Whole>) -> Result<(), StreamError> {
        self.call(Needs::Change, |data, owner| {
            data.guard(epoch, owner)?;
            if snapshot.is_some_and(|whole| !data.is_whole(&whole)) {
                return Err(StreamError::NotWhole);
            }
            data.frames.clear();
            data.pieces.retain(|s0, _| snapshot.is_some_and(|whole| whole.s0 == *s0));
            data.snapshots = snapshot.into_iter().collect();
            data.head = (base != Seq(0)).then_some((base, link));
            data.base = base;
            data.owner = Some((epoch, owner));
            Ok(())
        })
    }

    fn frames(&mut self, after: Seq, count: usize) -> Result<Vec<Vec<u8>>, StreamError> {
        self.call(Needs::Nothing, |data, _| {
            Ok(data.frames.range(after.next()..).take(count).map(|(_, frame)| frame.bytes.clone()).collect())
        })
    }

    fn piece(&mut self, s0: Seq, number: u64) -> Result<Option<Vec<u8>>, StreamError> {
        self.call(Needs::Nothing, |data, _| {
            Ok(data.pieces.get(&s0).and_then(|pieces| pieces.get(&number)).map(|piece| piece.to_vec()))
        })
    }
}
