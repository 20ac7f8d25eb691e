//! The simulated cell and its surroundings, and what happens to them step by step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::check::{self, Log};
use super::history::{History, PICKY};
use super::life::Life;
use super::load::{self, index};
use super::stage::Stage;
use super::{Broken, Tally, broken};
use crate::clock::SimulatedTime;
use crate::config::Config;
use crate::engine::Engine;
use crate::ids::{Epoch, Seq};
use crate::inventory::Limits;
use crate::journal::entry::Entry;
use crate::journal::watermark::Ack;
use crate::testing::disk::{DiskFault, MemoryDisk, OPERATIONS};
use crate::testing::random::Random;
use crate::testing::stream::{MemoryRedis, MemoryStream};
use crate::units::TimestampMs;

/// Far from any wall clock of today, which a start also looks at.
pub(super) const BEGINNING: TimestampMs = TimestampMs(5_000_000_000_000);

pub(super) struct World {
    pub(super) step: u64,
    pub(super) random: Random,
    pub(super) time: Arc<SimulatedTime>,
    pub(super) disk: MemoryDisk,
    pub(super) stage: Arc<Stage>,
    pub(super) redis: MemoryRedis,
    pub(super) with_redis: bool,
    /// How much goes wrong, in a hundred: little in some runs, so that they get far.
    harsh: u64,
    /// How often Redis had lost something when it last had all that the cell thought it had.
    pub(super) losses_at_ship: u64,
    /// The connection and epoch of the life before.
    pub(super) old_owner: Option<(MemoryStream, Epoch)>,
    /// Those of this life.
    pub(super) owner: Option<(MemoryStream, Epoch)>,
    pub(super) config: Config,
    pub(super) history: History,
    /// Every entry that was ever seen in the log and not lost, from the first.
    pub(super) archive: Vec<Entry>,
    /// The newest entry that a client was told is on disk.
    pub(super) acked: Seq,
    pub(super) epoch: Epoch,
    /// When the life before ended, by its own clock.
    pub(super) ended_at: TimestampMs,
    pub(super) code_key: Option<[u8; 16]>,
    /// A snapshot in which a bit was flipped.
    pub(super) damaged: Option<String>,
    pub(super) tally: Tally,
    /// The end of the run: nothing fails any more.
    pub(super) calm: bool,
    /// What happened last, oldest first.
    pub(super) trail: VecDeque<String>,
}

/// Lines of the trail that are kept.
const TRAIL: usize = 25;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// The process dies; what it wrote is in the operating system's hands.
    Kill,
    Power,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ 0x5EED);
        let disk = MemoryDisk::new(random.next());
        let stage = Stage::new(disk.clone());
        let mut config = Config::new("memory:");
        config.limits = Limits {
            parties_max: 1 << 14,
            slots_max: 1 << 14,
            bookings_max: 1 << 14,
            idempotency_keys_max: 100_000,
            idempotency_window: Duration::from_secs(365 * 24 * 3600),
        };
        config.journal.buffer_bytes = 4096;
        config.journal.segment_bytes = 4096 * (2 + random.below(3));
        config.journal.log_bytes_max =
            if random.chance(30) { config.journal.segment_bytes * (8 + random.below(8)) } else { u64::MAX };
        let redis = MemoryRedis::new(random.next());
        let with_redis = random.chance(70);
        let harsh = [12, 30, 80][index(&mut random, 3)];
        let time = Arc::new(SimulatedTime::default());
        time.set_wall(BEGINNING);
        Self {
            step: 0,
            random,
            time,
            disk,
            stage,
            redis,
            with_redis,
            harsh,
            losses_at_ship: 0,
            old_owner: None,
            owner: None,
            config,
            history: History::new(),
            archive: Vec::new(),
            acked: Seq(0),
            epoch: Epoch(0),
            ended_at: TimestampMs(0),
            code_key: None,
            damaged: None,
            tally: Tally::default(),
            calm: false,
            trail: VecDeque::new(),
        }
    }

    pub(super) fn tally(mut self) -> Tally {
        for (fault, times) in self.disk.hits() {
            self.tally.fault(&format!("{fault:?}"), times);
        }
        for (fault, times) in self.redis.hits() {
            self.tally.fault(&format!("redis {fault:?}"), times);
        }
        self.tally
    }

    pub(super) fn note(&mut self, line: String) {
        if self.trail.len() == TRAIL {
            self.trail.pop_front();
        }
        self.trail.push_back(format!("{:>5}  {line}", self.step));
    }

    pub(super) fn run(&mut self) -> Result<(), Broken> {
        let steps = 150 + self.random.below(450);
        let mut life = self.start()?;
        while self.step < steps {
            self.step += 1;
            if let Some(crash) = self.turn(&mut life)? {
                self.crash(life, crash)?;
                life = self.start()?;
            } else {
                self.look(&mut life)?;
            }
        }
        self.close(life)?;
        self.calm = true;
        let mut life = self.start()?;
        // The start's own entry too.
        while life.engine.marks.durable() < life.engine.appended() {
            self.write(&mut life)?;
        }
        self.keep_log()?;
        check::ledger(&self.archive)?;
        self.whole_log_leads_here(&life)?;
        if self.with_redis {
            self.settle_redis(&mut life)?;
        }
        self.crash(life, Crash::Power)?;
        drop(self.start()?);
        self.tally.work("steps", self.step);
        Ok(())
    }

    /// One thing happens. `Some` if it ends this life.
    fn turn(&mut self, life: &mut Life) -> Result<Option<Crash>, Broken> {
        if life.caller.is_some() {
            self.beside_a_caller(life)?;
            return Ok(self.went_off(life));
        }
        match self.random.below(if self.with_redis { 126 } else { 100 }) {
            0..42 => {
                let now = life.engine.now();
                let (deed, idempotency) = load::next(&mut self.random, &mut self.history, now);
                self.ask(life, deed, idempotency)?;
            }
            42..46 => self.second_caller(life)?,
            46..64 => self.write(life)?,
            64..69 => self.make(life)?,
            69..75 => self.expire(life)?,
            75..83 => {
                let longest = if self.random.chance(5) { 60_000 } else { 800 };
                let ms = self.random.below(longest);
                self.time.pass(ms);
            }
            83..92 => self.shoot(life)?,
            92..94 => self.probe(life)?,
            94..96 => {
                if self.random.chance(self.harsh) {
                    self.arm();
                }
            }
            96 => self.disk.set_space(None),
            100..122 => {
                // An outage ends some time: without that a run would be spent in its first.
                if self.random.chance(8) {
                    self.redis.mend();
                }
                self.ship(life)?;
                if self.dies_in_a_rare_call(life) {
                    return Ok(Some(if self.random.chance(50) { Crash::Kill } else { Crash::Power }));
                }
            }
            122.. => self.trouble_in_redis()?,
            _ => {
                if self.random.chance(self.harsh / 2) {
                    self.tally.point("between operations");
                    let crash = if self.random.chance(50) { Crash::Kill } else { Crash::Power };
                    return Ok(Some(crash));
                }
            }
        }
        Ok(self.went_off(life))
    }

    /// What happens once in many turns of the shipper would hardly ever meet a crash.
    fn dies_in_a_rare_call(&mut self, life: &Life) -> bool {
        let within = *life.line.within.lock();
        within.is_some_and(|call| !["redis take", "redis append", "redis put_piece"].contains(&call))
            && self.random.chance(if within == Some("redis install") { 95 } else { 20 })
    }

    /// Whether the power went in what was done, or the journal stopped and the process with it.
    fn went_off(&mut self, life: &Life) -> Option<Crash> {
        match self.disk.is_off() {
            Some(operation) => {
                self.tally.point(operation.unwrap_or("between operations"));
                Some(Crash::Power)
            }
            None if life.engine.marks.failure().is_some() => {
                self.tally.fault("journal stopped", 1);
                Some(if self.random.chance(50) { Crash::Kill } else { Crash::Power })
            }
            None => None,
        }
    }

    /// Something that makes the disk fail soon.
    fn arm(&mut self) {
        if self.history.model.slots().next().is_none() && self.random.chance(80) {
            return;
        }
        match self.random.below(12) {
            0 => self.disk.arm(DiskFault::ShortWrite),
            1 => self.disk.arm(DiskFault::SyncFails),
            2 | 3 => self.disk.arm(DiskFault::Slow),
            4 | 5 => {
                let left = self.random.below(4 * self.config.journal.segment_bytes);
                self.disk.set_space(Some(left));
            }
            6..10 => self.disk.set_space(None),
            10 => {
                let n = 1 + self.random.below(12);
                self.disk.cut_power_after(n);
            }
            _ => self.disk.cut_power_in(OPERATIONS[index(&mut self.random, OPERATIONS.len())]),
        }
    }

    /// After every step: who waits is told, and what was told counts.
    pub(super) fn look(&mut self, life: &mut Life) -> Result<(), Broken> {
        let acked = &mut self.acked;
        let mut in_redis = Seq(0);
        life.waiting.retain(|(ticket, ack, seq)| {
            let reached = ticket.is_reached();
            // What is in Redis came from the log.
            if reached && *ack >= Ack::Disk {
                *acked = (*acked).max(*seq);
            }
            if reached && *ack == Ack::Redis {
                in_redis = in_redis.max(*seq);
            }
            !reached
        });
        let head = if in_redis > Seq(0) { self.redis.head().last } else { in_redis };
        if in_redis > head && self.losses() == self.losses_at_ship {
            return broken("FNC-2", format!("{in_redis} was acknowledged to be in Redis, whose head is {head}"));
        }
        self.tally.work("acknowledged by Redis", u64::from(in_redis > Seq(0)));
        if life.caller.is_none() && self.random.chance(2) {
            check::state(&life.engine, &self.history.model, &self.history)?;
            self.tally.work("states compared", 1);
        }
        Ok(())
    }

    /// If the power went now, would everything that was told be there?
    fn probe(&mut self, life: &mut Life) -> Result<(), Broken> {
        self.look(life)?;
        if self.disk.is_off().is_some() {
            return Ok(());
        }
        let copy = self.disk.copy_with(self.random.next());
        copy.restart(false);
        check::durable(&copy, self.config.cell, self.acked)?;
        self.tally.work("power cuts on a copy", 1);
        Ok(())
    }

    /// Keeps the entries that the log has, and holds those that were kept against it.
    pub(super) fn keep_log(&mut self) -> Result<(), Broken> {
        if self.disk.is_off().is_some() {
            return Ok(());
        }
        let Log { start, entries, .. } = match check::read_log(&*self.stage, self.config.cell) {
            Ok(log) => log,
            Err(error) => return broken("JNL-4", format!("the log of a serving cell cannot be read: {error}")),
        };
        let from = usize::try_from(start.0).expect("a small log");
        if from > self.archive.len() {
            return broken("SNP-2", format!("the log begins behind {start}, kept are {}", self.archive.len()));
        }
        let both = self.archive.len() - from;
        if let Some(at) = self.archive[from..].iter().zip(&entries).position(|(kept, found)| kept != found) {
            return broken("JNL-1", format!("entry {} has changed in the log", from + at + 1));
        }
        self.archive.extend(entries.into_iter().skip(both));
        Ok(())
    }

    /// Without its snapshots, a log that was not trimmed leads to the same state.
    // rule: SNP-3
    fn whole_log_leads_here(&mut self, life: &Life) -> Result<(), Broken> {
        let entries: Vec<(Seq, Entry)> = (1..).map(Seq).zip(self.archive.iter().cloned()).collect();
        match Engine::from_journal(&self.config.limits, Arc::new(PICKY), &entries) {
            Ok(engine) => {
                check::state(&engine, &self.history.model, &self.history).map_err(|Broken { rule, what }| Broken {
                    rule,
                    what: format!("all entries from the first, replayed: {what}"),
                })?
            }
            Err(error) => return broken("SNP-3", format!("all entries together do not replay: {error}")),
        }
        check::state(&life.engine, &self.history.model, &self.history)
    }

    /// An orderly end keeps everything.
    fn close(&mut self, mut life: Life) -> Result<(), Broken> {
        self.disk.set_space(None);
        let mut turns = 0;
        while life.caller.is_some() {
            self.beside_a_caller(&mut life)?;
        }
        life.engine.buffer.close();
        while life.engine.marks.failure().is_none() && turns < 1000 {
            drop(life.reserve.make());
            self.write(&mut life)?;
            self.look(&mut life)?;
            turns += 1;
        }
        let all = life.engine.marks.durable() == life.engine.appended();
        let (appended, whole) = (life.engine.appended(), all && self.disk.is_off().is_none());
        self.crash(life, Crash::Kill)?;
        if whole {
            self.acked = self.acked.max(appended);
        }
        Ok(())
    }
}
