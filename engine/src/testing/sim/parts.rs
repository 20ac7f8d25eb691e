//! The turns of the cell's own parts: writer, reserve, expiry, snapshots.

use std::sync::Arc;
use std::time::Duration;

use super::history::{Deed, Done};
use super::life::{Life, Pen, Shot};
use super::world::World;
use super::{Broken, broken};
use crate::booking::State;
use crate::ids::{BookingNumber, Seq};
use crate::journal::entry::SMALL_ENTRY_BYTES_MAX;
use crate::journal::writer::Turn;
use crate::snapshot::{SnapshotReport, TakeError};

impl World {
    // rule: JNL-5
    pub(super) fn write(&mut self, life: &mut Life) -> Result<(), Broken> {
        let stopped = life.engine.marks.failure().is_some();
        let before = life.engine.marks.durable();
        let (pen, turn) = match std::mem::replace(&mut life.pen, Pen::Gone) {
            Pen::Here(mut writer) if self.random.chance(85) => {
                let turn = writer.turn();
                (Pen::Here(writer), Some(turn))
            }
            Pen::Here(mut writer) => {
                let writing = self.stage.act(move || {
                    let turn = writer.turn();
                    (writer, turn)
                });
                (Pen::Writing(writing), None)
            }
            Pen::Writing(writing) => {
                let places = self.random.below(2);
                writing.resume(places);
                if writing.is_over() {
                    let done = writing.finish().map_err(|panic| Broken { rule: "panic", what: super::told(&*panic) });
                    let (writer, turn) = done?;
                    (Pen::Here(writer), Some(turn))
                } else {
                    (Pen::Writing(writing), None)
                }
            }
            Pen::Gone => (Pen::Gone, None),
        };
        life.pen = pen;
        self.note(format!("writer: {turn:?}, durable {}", life.engine.marks.durable()));
        self.time.pass(self.disk.slept_ms());
        match turn {
            Some(Turn::Wrote) => self.tally.work("batches", 1),
            Some(Turn::Waits) => return broken("JNL-5", "a batch was accepted and has no place on the disk"),
            _ => {}
        }
        if stopped && life.engine.marks.durable() > before {
            return broken(
                "JNL-3",
                format!("the watermark went on to {} after it stopped", life.engine.marks.durable()),
            );
        }
        Ok(())
    }

    pub(super) fn make(&mut self, life: &mut Life) -> Result<(), Broken> {
        match life.making.take() {
            Some(making) => {
                let places = self.random.below(3);
                making.resume(places);
                if making.is_over() {
                    drop(making.finish().map_err(|panic| Broken { rule: "panic", what: super::told(&*panic) })?);
                } else {
                    life.making = Some(making);
                }
            }
            None if self.random.chance(75) => drop(life.reserve.make()),
            None => {
                let reserve = Arc::clone(&life.reserve);
                life.making = Some(self.stage.act(move || reserve.make()));
            }
        }
        Ok(())
    }

    /// The wheel's turn; which holds it ended is read from their records.
    // rule: HLD-3
    pub(super) fn expire(&mut self, life: &mut Life) -> Result<(), Broken> {
        let now = life.engine.now();
        let before = life.engine.appended();
        let budget = if self.random.chance(30) { 1 } else { 1000 };
        let expired = life.engine.expire_due(now, budget);
        let after = life.engine.appended();
        let mut ended: Vec<(Seq, BookingNumber)> = Vec::new();
        for (number, hold, state, _, expires_at) in self.history.model.bookings() {
            if state != State::Held || number != hold || expires_at > now {
                continue;
            }
            let view = life.engine.booking(number);
            match view.filter(|view| view.state == State::Expired) {
                Some(view) => ended.push((view.seq, number)),
                None if budget == 1000
                    && expires_at.plus(Duration::from_millis(64)) < now
                    && life.engine.buffer.reserve(SMALL_ENTRY_BYTES_MAX).is_some()
                    && life.engine.marks.failure().is_none() =>
                {
                    return broken(
                        "HLD-3",
                        format!("hold {number} was due at {} and is live at {}", expires_at.0, now.0),
                    );
                }
                None => {}
            }
        }
        ended.sort_unstable();
        if ended.len() != expired || after.0 - before.0 != expired as u64 {
            return broken("HLD-1", format!("{expired} expired, {} entries, {ended:?}", after.0 - before.0));
        }
        for (seq, number) in ended {
            let deed = Deed::Expire(number);
            let (expected, _) = self.history.expect(&deed, None, now);
            if let Err(refusal) = expected {
                return broken("HLD-4", format!("hold {number} expired, and should be refused: {refusal:?}"));
            }
            self.history.keep(seq, Done { deed, idempotency: None, at: now, slots: Vec::new() });
        }
        self.tally.work("expired", expired as u64);
        Ok(())
    }

    /// A snapshot is begun, goes on, or gets its name.
    // rule: SNP-1
    pub(super) fn shoot(&mut self, life: &mut Life) -> Result<(), Broken> {
        let panicked = |panic: Box<dyn std::any::Any + Send>| Broken { rule: "panic", what: super::told(&*panic) };
        life.shot = match std::mem::replace(&mut life.shot, Shot::None) {
            Shot::None if self.random.chance(40) => {
                let engine = Arc::clone(&life.engine);
                self.note(format!("snapshot begins, durable {}", engine.marks.durable()));
                Shot::Scanning(self.stage.act(move || engine.begin_snapshot()))
            }
            Shot::None => Shot::None,
            Shot::Scanning(scanning) => {
                let places = self.random.below(8);
                scanning.resume(places);
                if scanning.is_over() {
                    match scanning.finish().map_err(panicked)? {
                        Ok(Some(taken)) => Shot::Taken(taken),
                        Ok(None) => Shot::None,
                        Err(error) => self.not_taken(&error)?,
                    }
                } else {
                    Shot::Scanning(scanning)
                }
            }
            Shot::Taken(taken) if life.engine.marks.durable() >= taken.s1 => {
                self.keep_log()?;
                let engine = Arc::clone(&life.engine);
                Shot::Publishing(self.stage.act(move || engine.publish_snapshot(taken)))
            }
            Shot::Taken(taken) => Shot::Taken(taken),
            Shot::Publishing(publishing) => {
                let places = self.random.below(4);
                publishing.resume(places);
                if publishing.is_over() {
                    match publishing.finish().map_err(panicked)? {
                        Ok(report) => {
                            self.published(life, &report)?;
                            Shot::None
                        }
                        Err(error) => self.not_taken(&error)?,
                    }
                } else {
                    Shot::Publishing(publishing)
                }
            }
        };
        Ok(())
    }

    pub(super) fn published(&mut self, life: &Life, report: &SnapshotReport) -> Result<(), Broken> {
        let SnapshotReport { s0, s1, segments_trimmed, .. } = *report;
        self.note(format!("snapshot: {report:?}"));
        if s0 > s1 || s1 > life.engine.marks.durable() {
            return broken(
                "SNP-1",
                format!("published with S0 {s0}, S1 {s1}, durable {}", life.engine.marks.durable()),
            );
        }
        self.tally.work("snapshots", 1);
        self.tally.work("snapshots of a moving cell", u64::from(s0 < s1));
        self.tally.work("segments trimmed", segments_trimmed);
        Ok(())
    }

    /// A snapshot may fail when the disk does, and at no other time.
    pub(super) fn not_taken(&mut self, error: &TakeError) -> Result<Shot, Broken> {
        let disk_failed = self.disk.is_off().is_some()
            || error.to_string().contains("the sync failed")
            || error.to_string().contains("short write")
            || error.to_string().contains("no storage space");
        if !disk_failed {
            return broken("SNP-1", format!("no snapshot can be taken: {error}"));
        }
        self.tally.work("snapshots that failed", 1);
        Ok(Shot::None)
    }
}
