//! Crashes and starts of a simulated cell, and what a start must find.

use std::sync::Arc;
use std::time::Duration;

use super::check;
use super::history::PICKY;
use super::life::{Life, Pen, Ship, Shot};
use super::load::index;
use super::redis::{Line, Wire};
use super::stage::Stage;
use super::world::{BEGINNING, Crash, World};
use super::{Broken, broken};
use crate::booking::State;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::journal::directory::OpenError;
use crate::journal::entry::{Entry, Event};
use crate::journal::storage::Storage;
use crate::journal::stream::Stream;
use crate::open::{Parts, ReplayReport};
use crate::testing::disk::{DiskFault, OPERATIONS};
use crate::units::TimestampMs;

impl World {
    pub(super) fn crash(&mut self, life: Life, crash: Crash) -> Result<(), Broken> {
        if let (Ship::Shipping(..), Some(call)) = (&life.ship, *life.line.within.lock()) {
            self.tally.point(call);
        }
        self.disk.cut_power();
        self.ended_at = life.engine.now();
        life.end().map_err(|what| Broken { rule: "panic", what })?;
        self.restart_disk(crash);
        if self.random.chance(30) {
            self.time.pass(self.random.below(300_000));
        }
        if self.random.chance(15) {
            let by = self.random.below(3_600_000);
            let wall = self.time.wall().0;
            let to = if self.random.chance(50) { wall + by } else { (wall - by).max(BEGINNING.0 / 2) };
            self.time.set_wall(TimestampMs(to));
            self.tally.fault("clock set", 1);
        }
        Ok(())
    }

    pub(super) fn restart_disk(&mut self, crash: Crash) {
        if crash == Crash::Power && self.random.chance(40) {
            self.disk.arm(DiskFault::TornWrite);
        }
        self.disk.restart(crash == Crash::Kill);
        self.note(format!("crash: {crash:?}"));
        self.tally.fault(if crash == Crash::Kill { "killed" } else { "power cut" }, 1);
    }

    /// Starts the cell from what the disk kept, as often as it takes, and checks what it found.
    pub(super) fn start(&mut self) -> Result<Life, Broken> {
        self.flips()?;
        loop {
            self.trouble_at_start();
            let before = self.disk.hits();
            let mut notes = Vec::new();
            let storage: Arc<dyn Storage> = Arc::<Stage>::clone(&self.stage);
            let connection = self.redis.connect();
            let wire = Wire::new(connection.twin(), Arc::clone(&self.stage));
            let line = Arc::clone(&wire.line);
            let stream = self.with_redis.then(|| -> Box<dyn Stream> { Box::new(wire) });
            self.config.hold_grace = Duration::from_secs([0, 5, 30, 120][index(&mut self.random, 4)]);
            let clock = |newest| Clock::simulated(Arc::clone(&self.time), newest);
            let opened = Engine::assemble(storage, stream, &self.config, Arc::new(PICKY), &clock, &mut |note| {
                notes.push(note.note.to_vec());
            });
            let error = match opened {
                Ok(opened) => {
                    // Segments and snapshots here are of a few pages: with more, none would ever go in steps.
                    opened.0.set_removal_step(4096);
                    let life = self.started(opened, &notes, line)?;
                    self.old_owner = self.owner.replace((connection, life.engine.epoch()));
                    return Ok(life);
                }
                Err(error) => error,
            };
            if let Some(operation) = self.disk.is_off() {
                self.tally.point(operation.unwrap_or("a start"));
                self.tally.point("a start");
                self.restart_disk(Crash::Power);
                continue;
            }
            let failed = [DiskFault::ShortWrite, DiskFault::SyncFails, DiskFault::NoSpace]
                .iter()
                .any(|fault| self.disk.hits().get(fault) > before.get(fault));
            if matches!(error, OpenError::RedisUnknown { .. }) {
                self.tally.work("first starts that could not ask Redis", 1);
                self.redis.mend();
                continue;
            }
            if !failed {
                let rule = if matches!(error, OpenError::RedisAhead { .. }) { "JNL-2" } else { "JNL-4" };
                return broken(rule, format!("what a crash left does not open: {error}"));
            }
            self.tally.work("starts refused by a failing disk", 1);
            self.disk.set_space(None);
            let crash = if self.random.chance(50) { Crash::Kill } else { Crash::Power };
            self.restart_disk(crash);
        }
    }

    pub(super) fn trouble_at_start(&mut self) {
        if self.calm {
            self.disk.disarm();
            return;
        }
        match self.random.below(20) {
            0 | 1 => {
                let n = 1 + self.random.below(30);
                self.disk.cut_power_after(n);
            }
            2 => self.disk.cut_power_in(OPERATIONS[index(&mut self.random, OPERATIONS.len())]),
            3 => self.disk.arm(DiskFault::ShortWrite),
            4 => self.disk.arm(DiskFault::SyncFails),
            5 => {
                let left = self.random.below(3 * self.config.journal.segment_bytes);
                self.disk.set_space(Some(left));
            }
            _ => {}
        }
    }

    pub(super) fn started(
        &mut self,
        opened: (Engine, Parts, ReplayReport),
        notes: &[Vec<u8>],
        line: Arc<Line>,
    ) -> Result<Life, Broken> {
        let (mut engine, parts, report) = opened;
        self.note(format!("started with {} entries: {report:?}", engine.appended()));
        let Parts { writer, reserve, shipper, newest } = parts;
        let stage = Arc::clone(&self.stage);
        engine.between_steps = Some(Box::new(move || stage.place()));
        self.check_start(&engine, &report, newest, notes)?;
        self.tally.work("starts", 1);
        self.tally.work("starts from a snapshot", u64::from(report.snapshot.is_some()));
        self.tally.work("torn tails cut", u64::from(report.cut.is_some()));
        Ok(Life {
            engine: Arc::new(engine),
            pen: Pen::Here(writer),
            reserve,
            making: None,
            shot: Shot::None,
            ship: shipper.map_or(Ship::None, |shipper| Ship::Here(Box::new(shipper))),
            line,
            caller: None,
            waiting: Vec::new(),
        })
    }

    pub(super) fn check_start(
        &mut self,
        engine: &Engine,
        report: &ReplayReport,
        newest: TimestampMs,
        notes: &[Vec<u8>],
    ) -> Result<(), Broken> {
        let last = report.last;
        if last < self.acked {
            return broken("JNL-2", format!("{} was acknowledged, and the log ends at {last}", self.acked));
        }
        if last > self.history.last() {
            return broken(
                "JNL-1",
                format!("the log ends at {last}, and {} is all that was done", self.history.last()),
            );
        }
        if self.history.cut(last) {
            self.tally.fault("crash before a grace was safe", 1);
        }
        // Whoever asks by key or number is shown it from now on.
        self.acked = last;
        if engine.epoch() <= self.epoch {
            return broken("FNC-1", format!("epoch {} after {}", engine.epoch(), self.epoch));
        }
        self.epoch = engine.epoch();
        let key = engine.directory.as_ref().map(|directory| directory.code_key);
        if self.code_key.is_some() && key != self.code_key {
            return broken("JNL-1", "the key behind the booking codes has changed");
        }
        self.code_key = key;
        if engine.now() < newest {
            return broken("TIM-1", format!("a start at {} behind the newest entry at {}", engine.now().0, newest.0));
        }
        self.check_grace(engine, report, newest)?;
        match (&self.damaged, report.snapshots_damaged.first()) {
            (None, Some((path, what))) => {
                return broken(
                    "SNP-1",
                    format!("a crash left a snapshot that is not whole: {}: {what}", path.display()),
                );
            }
            (Some(_), _) => self.damaged = None,
            (None, None) => {}
        }
        check::state(engine, &self.history.model, &self.history)?;
        self.archive.truncate(usize::try_from(last.0).expect("a small log"));
        if self.disk.is_off().is_none() {
            self.keep_log()?;
            if self.archive.len() as u64 != last.0 {
                return broken("JNL-1", format!("replay came to {last}, the log has {}", self.archive.len()));
            }
            let expected: Vec<&[u8]> = self.archive.iter().filter_map(note_of).collect();
            if notes.iter().map(Vec::as_slice).ne(expected.iter().copied()) {
                return broken(
                    "SNP-3",
                    format!("{} notes came back, not the {} that were kept", notes.len(), expected.len()),
                );
            }
        }
        Ok(())
    }

    /// Every hold whose deadline lay ahead when the life before ended has the grace, and nobody else.
    // rule: HLD-5
    fn check_grace(&mut self, engine: &Engine, report: &ReplayReport, newest: TimestampMs) -> Result<(), Broken> {
        let (now, grace) = (engine.now(), self.config.hold_grace);
        if newest < self.history.newest() || newest > self.ended_at {
            let (entry, end) = (self.history.newest().0, self.ended_at.0);
            let what =
                format!("the outage begins at {}, the newest entry is of {entry}, the end was at {end}", newest.0);
            return broken("HLD-5", what);
        }
        let (from, until) = (newest.plus(Duration::from_millis(1)), now.plus(grace));
        let mut rows = self.history.model.bookings();
        let passed = rows.any(|(_, _, state, _, at)| state == State::Held && from <= at && at <= now);
        drop(rows);
        let seq = report.last.next();
        let holds = if grace.is_zero() { 0 } else { self.history.grace((from, until), seq, now) };
        let appended = engine.appended();
        if holds != report.holds_graced || appended != self.history.last() {
            let found = report.holds_graced;
            let what =
                format!("{found} holds were graced by entry {seq}, and should be {holds}; the log is at {appended}");
            return broken("HLD-5", what);
        }
        self.tally.fault("outage past a deadline", u64::from(passed && holds > 0));
        self.tally.work("holds graced", holds);
        Ok(())
    }
}

fn note_of(entry: &Entry) -> Option<&[u8]> {
    match &entry.event {
        Event::Published { note, .. } | Event::Note { note } => Some(note),
        _ => None,
    }
}
