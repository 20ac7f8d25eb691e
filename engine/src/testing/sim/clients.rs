//! What the clients of a simulated cell do, and what their answers are held against.

use std::sync::Arc;
use std::time::Duration;

use super::history::{Deed, Done};
use super::life::{Answer, Asked, Life};
use super::load::index;
use super::world::World;
use super::{Broken, broken};
use crate::booking::State;
use crate::command::{By, Claim, Outcome, Request};
use crate::engine::Engine;
use crate::error::Refusal;
use crate::ids::{BookingNumber, Idempotency, PartyId, SlotId};
use crate::journal::entry::{Entry, SMALL_ENTRY_BYTES_MAX};
use crate::journal::watermark::Ack;
use crate::testing::ModelRefusal;

impl World {
    pub(super) fn ask(&mut self, life: &mut Life, deed: Deed, idempotency: Option<Idempotency>) -> Result<(), Broken> {
        let asked = prepare(&life.engine, deed, idempotency);
        let request = Request { command: asked.deed.command(), idempotency };
        let answer = life.engine.submit(&request, asked.now);
        self.judge(life, asked, answer)
    }

    /// Holds an answer against the oracle's.
    // rule: JNL-5
    pub(super) fn judge(&mut self, life: &mut Life, asked: Asked, answer: Answer) -> Result<(), Broken> {
        let Asked { deed, idempotency, now, settling, no_room } = asked;
        self.note(format!("{deed:?} key {:?} -> {answer:?}", idempotency.map(|known| known.key)));
        let submitted = match answer {
            Ok(submitted) => submitted,
            Err(_) if life.engine.marks.failure().is_some() => return Ok(()),
            Err(failure) => {
                return broken("JNL-3", format!("{deed:?} failed and the journal has not stopped: {failure}"));
            }
        };
        let shut = settling && deed.takes_more();
        // A repeat writes nothing, so it needs no room.
        let known = idempotency.is_some_and(|idempotency| self.history.model.knows(idempotency));
        if submitted.result == Err(Refusal::JournalFull) {
            if known {
                return broken("IDM-1", format!("{deed:?} was refused with journal_full, and it is a repeat"));
            }
            if !shut && !no_room {
                return broken("JNL-5", format!("{deed:?} was refused with journal_full while there was room"));
            }
            self.tally.work(if shut { "journal_full of the disk" } else { "journal_full of the buffer" }, 1);
            return Ok(());
        }
        let shapeless = matches!(submitted.result, Err(Refusal::GroupSize { .. } | Refusal::PartyRepeated { .. }));
        if shut && !shapeless && !known {
            return broken("JNL-5", format!("{deed:?} was taken by a full disk: {:?}", submitted.result));
        }
        self.tally.work("commands", 1);
        if let (Deed::Publish(..), Ok(Outcome::Published { slots, .. })) = (&deed, &submitted.result) {
            let done = Done { deed: deed.clone(), idempotency, at: now, slots: slots.clone() };
            self.history.keep(submitted.seq, done);
        } else {
            let (expected, replayed) = self.history.expect(&deed, idempotency, now);
            let found = submitted.result.as_ref().map_err(ModelRefusal::from);
            if found != expected.as_ref().map_err(Clone::clone) || submitted.replayed != replayed {
                let rule = match (&submitted.result, &expected) {
                    _ if replayed || submitted.replayed => "IDM-1",
                    (Ok(_), Err(ModelRefusal::Full(..))) => "CAP-1",
                    (Err(Refusal::Full { .. }), Ok(_)) => "CAP-2",
                    (Ok(_), Err(ModelRefusal::Exactly(Refusal::AlreadyClaimed { .. }))) => "PTY-1",
                    (Ok(_), Err(ModelRefusal::Exactly(Refusal::Hoarding { .. }))) => "HLD-2",
                    _ => "BKG-1",
                };
                let found = &submitted.result;
                return broken(rule, format!("{deed:?} at {}: {found:?}, and should be {expected:?}", now.0));
            }
            if replayed {
                self.tally.work("repeats answered", 1);
            }
            if submitted.result.is_ok() && !replayed {
                self.history.keep(submitted.seq, Done { deed, idempotency, at: now, slots: Vec::new() });
            }
        }
        if submitted.result.is_ok() && submitted.seq > life.engine.appended() {
            return broken("IDM-2", format!("an answer rests on {}, and nothing has that number", submitted.seq));
        }
        let ack = match self.random.below(10) {
            0 => Ack::Memory,
            1..4 if self.with_redis => Ack::Redis,
            _ => Ack::Disk,
        };
        life.waiting.push((life.engine.ticket_for(submitted.seq, ack), ack, submitted.seq));
        Ok(())
    }

    /// A second caller begins to end a claim and stops before its entry has a number.
    pub(super) fn second_caller(&mut self, life: &mut Life) -> Result<(), Broken> {
        let now = life.engine.now();
        let live: Vec<_> = self.history.model.bookings().filter(|row| row.2.is_live() && row.0 == row.1).collect();
        if live.is_empty() {
            return Ok(());
        }
        let (number, _, state, _, expires_at) = live[index(&mut self.random, live.len())];
        let deed = match state {
            State::Held if expires_at <= now => Deed::Expire(number),
            State::Held => Deed::Release(number),
            State::Booked if self.random.chance(30) => Deed::NoShow(number),
            _ => Deed::Cancel(number, By::Holder),
        };
        let asked = prepare(&life.engine, deed.clone(), None);
        let engine = Arc::clone(&life.engine);
        let caller = self.stage.act(move || {
            let request = Request { command: deed.command(), idempotency: None };
            engine.submit(&request, now)
        });
        self.tally.work("second callers", 1);
        life.caller = Some((caller, asked));
        Ok(())
    }

    /// While a caller stands between two steps its parties are locked: others ask for the units it is about to give back.
    // rule: JNL-1
    pub(super) fn beside_a_caller(&mut self, life: &mut Life) -> Result<(), Broken> {
        let Some((caller, asked)) = life.caller.take() else { return Ok(()) };
        if !caller.is_over() && self.random.chance(60) {
            let (Deed::Cancel(number, _) | Deed::NoShow(number) | Deed::Release(number) | Deed::Expire(number)) =
                asked.deed
            else {
                unreachable!("a second caller ends a claim")
            };
            let rival = self.rival(number);
            life.caller = Some((caller, asked));
            return match rival {
                Some(deed) => self.ask(life, deed, None),
                None => Ok(()),
            };
        }
        let answer = caller.finish().map_err(|panic| Broken { rule: "panic", what: super::told(&*panic) })?;
        self.judge(life, asked, answer)
    }

    /// Somebody who wants the unit that `number` has, and whose party nobody has locked.
    pub(super) fn rival(&mut self, number: BookingNumber) -> Option<Deed> {
        let group: Vec<(PartyId, SlotId)> = {
            let rows = self.history.model.bookings();
            rows.filter(|row| row.1 == number || row.0 == number).map(|row| (row.3.party, row.3.slot)).collect()
        };
        let free: Vec<PartyId> = (0..self.history.model.parties())
            .map(PartyId)
            .filter(|party| group.iter().all(|(locked, _)| locked != party))
            .collect();
        let (_, slot) = *group.first()?;
        let party = *free.get(index(&mut self.random, free.len().max(1)))?;
        let claims = vec![Claim { party, slot, dose: crate::ids::Dose(1) }];
        Some(if self.random.chance(50) { Deed::Book(claims) } else { Deed::Hold(claims, Duration::from_secs(20)) })
    }
}

fn prepare(engine: &Engine, deed: Deed, idempotency: Option<Idempotency>) -> Asked {
    let bytes = match &deed {
        Deed::Publish(slots, note) => Entry::bytes_max(slots.len(), note.len()),
        Deed::Note(note)
        | Deed::Offer(.., note)
        | Deed::CompleteNoted(.., note)
        | Deed::ChangeFacts(.., note)
        | Deed::Record(_, note, _) => Entry::bytes_max(0, note.len()),
        _ => SMALL_ENTRY_BYTES_MAX,
    };
    let no_room = engine.buffer.reserve(bytes).is_none();
    Asked { deed, idempotency, now: engine.now(), settling: engine.buffer.is_settling(), no_room }
}
