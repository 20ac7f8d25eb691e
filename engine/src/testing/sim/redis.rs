//! The Redis beside a simulated cell: the shipper's turns, what happens to the server, and what the stream must be.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

use super::flip::{grace, same_records};
use super::history::PICKY;
use super::life::{Life, Ship};
use super::load::index;
use super::stage::Stage;
use super::world::World;
use super::{Broken, broken};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::ids::{Epoch, Seq};
use crate::journal::frame::{Frame, Link};
use crate::journal::shipper::ShipTurn;
use crate::journal::storage::Storage;
use crate::journal::stream::{Head, ServerState, Shipment, Stream, StreamError, Whole};
use crate::recover::{RecoverError, Recovery, recover_into};
use crate::testing::disk::MemoryDisk;
use crate::testing::stream::{MemoryStream, StreamFault};

/// A connection of one life: it ends with it, and a shipper may stop before and behind every call that changes something.
#[derive(Debug)]
pub(super) struct Wire {
    stream: MemoryStream,
    stage: Arc<Stage>,
    pub(super) line: Arc<Line>,
}

/// What the simulator knows of a connection.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The process is dead.
    pub(super) cut: AtomicBool,
    /// The call in which the shipper stands.
    pub(super) within: Mutex<Option<&'static str>>,
}

impl Wire {
    pub(super) fn new(stream: MemoryStream, stage: Arc<Stage>) -> Self {
        Self { stream, stage, line: Arc::default() }
    }

    fn alive(&self) -> Result<(), StreamError> {
        if self.line.cut.load(Relaxed) { Err(StreamError::Lost("the process is dead".to_owned())) } else { Ok(()) }
    }

    fn change<T>(
        &mut self,
        call: &'static str,
        does: impl FnOnce(&mut MemoryStream) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        *self.line.within.lock() = Some(call);
        self.stage.place();
        self.alive()?;
        let done = does(&mut self.stream);
        self.stage.place();
        self.alive()?;
        *self.line.within.lock() = None;
        done
    }
}

impl Stream for Wire {
    fn head(&mut self) -> Result<Head, StreamError> {
        self.alive()?;
        self.stream.head()
    }

    fn take(&mut self, epoch: Epoch) -> Result<Head, StreamError> {
        self.change("redis take", |stream| stream.take(epoch))
    }

    fn send(&mut self, epoch: Epoch, frames: &[Shipment]) -> Result<(), StreamError> {
        self.change("redis append", |stream| stream.send(epoch, frames))
    }

    fn appended(&mut self) -> Result<(), StreamError> {
        self.change("redis append", MemoryStream::appended)
    }

    fn settles(&self) -> bool {
        self.stream.settles()
    }

    fn settle(&mut self) -> Result<bool, StreamError> {
        self.alive()?;
        self.stream.settle()
    }

    fn server(&mut self) -> Result<ServerState, StreamError> {
        self.alive()?;
        self.stream.server()
    }

    fn put_piece(&mut self, epoch: Epoch, s0: Seq, number: u64, bytes: &[u8]) -> Result<(), StreamError> {
        self.change("redis put_piece", |stream| stream.put_piece(epoch, s0, number, bytes))
    }

    fn pieces(&mut self, s0: Seq) -> Result<u64, StreamError> {
        self.alive()?;
        self.stream.pieces(s0)
    }

    fn keep(&mut self, epoch: Epoch, snapshot: Whole) -> Result<(), StreamError> {
        self.change("redis keep", |stream| stream.keep(epoch, snapshot))
    }

    fn trim(&mut self, epoch: Epoch, behind: Seq) -> Result<(), StreamError> {
        self.change("redis trim", |stream| stream.trim(epoch, behind))
    }

    fn install(&mut self, epoch: Epoch, base: Seq, link: Link, snapshot: Option<Whole>) -> Result<(), StreamError> {
        self.change("redis install", |stream| stream.install(epoch, base, link, snapshot))
    }

    fn frames(&mut self, after: Seq, count: usize) -> Result<Vec<Vec<u8>>, StreamError> {
        self.alive()?;
        self.stream.frames(after, count)
    }

    fn piece(&mut self, s0: Seq, number: u64) -> Result<Option<Vec<u8>>, StreamError> {
        self.alive()?;
        self.stream.piece(s0, number)
    }
}

impl World {
    /// How often Redis has lost something.
    pub(super) fn losses(&self) -> u64 {
        let hits = self.redis.hits();
        [StreamFault::Wiped, StreamFault::LostTail].iter().filter_map(|fault| hits.get(fault)).sum()
    }

    /// The shipper's turn, or a part of one.
    pub(super) fn ship(&mut self, life: &mut Life) -> Result<(), Broken> {
        let (ship, turn) = match std::mem::replace(&mut life.ship, Ship::None) {
            Ship::None => return Ok(()),
            Ship::Here(mut shipper) => {
                let look = self.random.chance(15);
                let turn = move |shipper: &mut crate::journal::shipper::Shipper| {
                    if look { shipper.look() } else { shipper.turn() }
                };
                if self.random.chance(50) {
                    let mut turns = self.random.below(5);
                    while turns > 0 && shipper.turn() == ShipTurn::Shipped {
                        turns -= 1;
                    }
                    let turn = turn(&mut shipper);
                    (Ship::Here(shipper), Some(turn))
                } else {
                    let shipping = self.stage.act(move || {
                        let turn = turn(&mut shipper);
                        (shipper, turn)
                    });
                    (Ship::Shipping(shipping), None)
                }
            }
            Ship::Shipping(shipping) => {
                let places = self.random.below(3);
                shipping.resume(places);
                if shipping.is_over() {
                    let (shipper, turn) = super::finished(shipping)?;
                    (Ship::Here(shipper), Some(turn))
                } else {
                    (Ship::Shipping(shipping), None)
                }
            }
        };
        life.ship = ship;
        self.time.pass(self.redis.slept_ms());
        // What Redis has lost without a word it is not blamed for, until both sides agree again.
        let (in_redis, head) = (life.engine.marks.in_redis(), self.redis.head().last);
        if turn.is_some() && in_redis <= head {
            self.losses_at_ship = self.losses();
        }
        self.note(format!("shipper: {turn:?}, in Redis {in_redis}, its head {head}"));
        match turn {
            Some(ShipTurn::Stopped) if life.engine.marks.failure().is_none() => {
                let why = life.engine.stats().redis.and_then(|stats| stats.last_error);
                return broken("FNC-2", format!("the shipper has stopped for good: {why:?}"));
            }
            Some(ShipTurn::Shipped) => self.tally.work("turns that shipped", 1),
            _ => {}
        }
        if self.random.chance(15) { self.check_stream() } else { Ok(()) }
    }

    /// Something happens to Redis, or somebody looks at it.
    pub(super) fn trouble_in_redis(&mut self) -> Result<(), Broken> {
        match self.random.below(13) {
            0..5 => self.redis.arm(StreamFault::ALL[index(&mut self.random, StreamFault::ALL.len())]),
            5 | 6 => self.redis.flush(),
            7..9 => self.redis.mend(),
            9 => return self.old_owner(),
            _ => return self.recover(),
        }
        Ok(())
    }

    /// The owner before this one, which thinks that it still is one.
    // rule: FNC-1
    fn old_owner(&mut self) -> Result<(), Broken> {
        let Some((old, epoch)) = &mut self.old_owner else { return Ok(()) };
        if self.redis.head().epoch <= *epoch {
            return Ok(());
        }
        self.tally.work("old owners refused", 1);
        match old.take(*epoch) {
            Err(StreamError::Fenced { .. } | StreamError::Lost(_)) => Ok(()),
            other => broken("FNC-1", format!("an owner of epoch {epoch} is told {other:?}")),
        }
    }

    /// The stream is a part of the log, without a hole, a duplicate or a frame that follows another than it says.
    // rule: FNC-2
    pub(super) fn check_stream(&mut self) -> Result<(), Broken> {
        self.keep_log()?;
        let (head, frames) = (self.redis.head(), self.redis.frames());
        let (mut last, mut link) = (head.base, None);
        for shipment in &frames {
            let header = shipment.header;
            if header.first != last.next() || link.is_some_and(|link| link != header.previous) {
                return broken("FNC-2", format!("in Redis entry {} follows {last}", header.first));
            }
            (last, link) = (header.last(), Some(shipment.link));
            if self.disk.is_off().is_some() {
                continue;
            }
            let mut wrong = None;
            let read = Frame::read(&shipment.bytes).and_then(|frame| {
                frame.entries(|seq, entry| {
                    let at = usize::try_from(seq.0 - 1).unwrap_or(usize::MAX);
                    if self.archive.get(at) != Some(&entry) {
                        wrong.get_or_insert(seq);
                    }
                })
            });
            if let Some(seq) = wrong {
                return broken("FNC-2", format!("entry {seq} is another in Redis than in the log"));
            }
            if let Err(error) = read {
                return broken("FNC-2", format!("a frame from {} on in Redis is not whole: {error}", header.first));
            }
        }
        if last != head.last {
            return broken("FNC-2", format!("the stream ends at {last}, and its head says {}", head.last));
        }
        self.tally.work("streams compared", 1);
        Ok(())
    }

    /// A machine lost with its disk: what Redis has is the state up to its head.
    // rule: FNC-4
    fn recover(&mut self) -> Result<(), Broken> {
        let redis = self.redis.copy();
        let head = redis.head();
        let disk = MemoryDisk::new(self.random.next());
        let storage: Arc<dyn Storage> = Arc::new(disk);
        let segment_bytes = self.config.journal.segment_bytes;
        let recovery = Recovery { dir: "memory:".into(), cell: self.config.cell, segment_bytes, code_key: None };
        match recover_into(&mut redis.connect(), &storage, &recovery, &mut |_| {}) {
            Ok(report) if report.last == head.last => {}
            Err(RecoverError::Nothing) if head.last == Seq(0) => return Ok(()),
            // Just healed by a snapshot: until the stream has come to S1 there is nothing to recover, as there was before.
            Err(RecoverError::Damaged(_))
                if head.snapshots.iter().any(|whole| whole.s0 == head.base && whole.s1 > head.last) =>
            {
                self.tally.work("streams healed and not yet usable", 1);
                return Ok(());
            }
            Ok(report) => {
                return broken("FNC-4", format!("recovered up to {}, and Redis had {}", report.last, head.last));
            }
            Err(error) => return broken("FNC-4", format!("a stream up to {} cannot be recovered: {error}", head.last)),
        }
        let clock = |newest| Clock::simulated(Arc::clone(&self.time), newest);
        let opened = Engine::assemble(storage, None, &self.config, Arc::new(PICKY), &clock, &mut |_| {});
        let (engine, newest, last) = match opened {
            Ok((engine, parts, report)) => (engine, parts.newest, report.last),
            Err(error) => return broken("FNC-4", format!("what was recovered does not open: {error}")),
        };
        self.tally.work("recoveries from Redis", 1);
        let mut model = self.history.model_at(last);
        grace(&mut model, &engine, newest, self.config.hold_grace);
        same_records(&engine, &model)
            .map_err(|Broken { rule, what }| Broken { rule, what: format!("recovered up to {}: {what}", head.last) })
    }

    /// With a Redis that does its part everything comes to be there.
    pub(super) fn settle_redis(&mut self, life: &mut Life) -> Result<(), Broken> {
        self.redis.mend();
        for _ in 0..2000 {
            if self.redis.head().last == life.engine.appended() {
                return self.check_stream();
            }
            self.write(life)?;
            self.ship(life)?;
        }
        let (head, appended) = (self.redis.head().last, life.engine.appended());
        broken("FNC-2", format!("Redis stays at {head}, and the log has {appended}"))
    }
}
