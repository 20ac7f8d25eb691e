//! What writes inventory: parties, slots, notes, changes of a slot. Under one administrative lock.

use std::collections::HashMap;

use super::{Answer, Context};
use crate::command::{Outcome, PartyFacts, SlotSpec};
use crate::dedupe::Remembered;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::ids::{CentreKey, PartyId, Seq, SlotId};
use crate::journal::entry::{Event, PublishedSlot};
use crate::slot::Resize;
use crate::units::Units;

impl Engine {
    pub(super) fn add_parties(&self, count: u32, facts: PartyFacts, context: Context<'_>) -> Answer {
        let _admin = self.inventory.blocks.lock();
        let parties = &self.inventory.parties;
        let first = parties.count();
        let (found, max) = (u64::from(first) + u64::from(count), u64::from(parties.len_max()));
        if count == 0 || found > max {
            return Err(Refusal::TooMany { what: "parties (and not none)", found, max }.into());
        }
        let appended = context.append(Event::PartiesAdded { first: PartyId(first), count, facts });
        let seq = appended.seq;
        parties.add(count, facts, seq);
        appended.keep(Remembered::PartiesAdded { first, count });
        Ok((seq, Outcome::PartiesAdded { first: PartyId(first), count }))
    }

    /// Opening a slot is a give: the entry comes first. All slots are in one entry, so a crash keeps all or none.
    // rule: JNL-1
    pub(super) fn publish(&self, specs: &[SlotSpec], note: &[u8], context: Context<'_>) -> Answer {
        let mut blocks = self.inventory.blocks.lock();
        let mut wanted: HashMap<CentreKey, u32> = HashMap::new();
        for spec in specs {
            *wanted.entry(spec.centre).or_default() += 1;
        }
        let (found, max) = (blocks.end_after(&wanted), u64::from(self.inventory.slots_max));
        if found > max {
            return Err(Refusal::TooMany { what: "slots", found, max }.into());
        }
        let published: Vec<PublishedSlot> = specs
            .iter()
            .map(|spec| PublishedSlot {
                slot: blocks.allocate(spec.centre),
                centre: spec.centre,
                capacity: spec.capacity,
                facts: spec.facts,
            })
            .collect();
        for slot in &published {
            assert!(self.inventory.slots.grow(slot.slot), "slot {} past the limit that was checked", slot.slot);
        }
        let count = u32::try_from(published.len()).expect("bounded by slots_max");
        let appended = context.append(Event::Published { slots: published.clone(), note: note.to_vec() });
        let seq = appended.seq;
        for PublishedSlot { slot, capacity, facts, .. } in &published {
            assert!(self.inventory.slots.publish(*slot, *facts, *capacity), "slot {slot} was published before");
        }
        appended.keep(Remembered::Published { count });
        Ok((seq, Outcome::Published { count, slots: published.iter().map(|slot| slot.slot).collect() }))
    }

    pub(super) fn note(&self, note: &[u8], context: Context<'_>) -> (Seq, Outcome) {
        let _admin = self.inventory.blocks.lock();
        let appended = context.append(Event::Note { note: note.to_vec() });
        let seq = appended.seq;
        appended.keep(Remembered::Noted);
        (seq, Outcome::Noted)
    }

    /// Growing is a give (entry first), shrinking a take (word first).
    // rule: JNL-1
    pub(super) fn resize(&self, slot: SlotId, capacity: Units, context: Context<'_>) -> Answer {
        let _admin = self.inventory.blocks.lock();
        let word = self.inventory.slots.word(slot).ok_or(Refusal::UnknownSlot { slot })?;
        let before = word.counts().ok_or(Refusal::UnknownSlot { slot })?;
        let open = before.is_open();
        let grows = capacity >= before.capacity();
        let change = || match word.resize(capacity) {
            Resize::Resized(_) => Ok(()),
            Resize::BelowTaken(counts) => Err(Refusal::BelowTaken { slot, asked: capacity, counts }),
        };
        if !grows {
            change()?;
        }
        let appended = context.append(Event::SlotChanged { slot, capacity, open });
        let seq = appended.seq;
        if grows {
            change().expect("growing is never below what is taken: the administrative lock is held");
        }
        self.inventory.slots.mark_changed(slot);
        appended.keep(Remembered::SlotChanged { slot: slot.0 });
        Ok((seq, Outcome::SlotChanged { slot }))
    }

    /// Opening is a give (entry first), closing a take (word first).
    pub(super) fn set_open(&self, slot: SlotId, open: bool, context: Context<'_>) -> Answer {
        let _admin = self.inventory.blocks.lock();
        let word = self.inventory.slots.word(slot).ok_or(Refusal::UnknownSlot { slot })?;
        let capacity = word.counts().ok_or(Refusal::UnknownSlot { slot })?.capacity();
        if !open {
            let _ = word.close();
        }
        let appended = context.append(Event::SlotChanged { slot, capacity, open });
        let seq = appended.seq;
        if open {
            let _ = word.open();
        }
        self.inventory.slots.mark_changed(slot);
        appended.keep(Remembered::SlotChanged { slot: slot.0 });
        Ok((seq, Outcome::SlotChanged { slot }))
    }
}
