//! What was done in all lives of a simulated cell, by the number of its entry, and the oracle that it was told to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::command::{By, Claim, Command, Outcome, PartyFacts, Request, SlotSpec};
use crate::ids::{BookingNumber, Idempotency, PartyId, ProductId, Seq, SlotId};
use crate::testing::{Model, ModelRefusal, Picky};
use crate::units::{TimestampMs, Units};

/// The longest hold of a simulated programme.
pub(super) const PICKY: Picky = Picky { hold_ttl_max: Duration::from_secs(120) };

/// A command that owns what it names.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    AddParties(u32, PartyFacts),
    Publish(Vec<SlotSpec>, Vec<u8>),
    Note(Vec<u8>),
    Hold(Vec<Claim>, Duration),
    Offer(Claim, Duration, Vec<u8>),
    Book(Vec<Claim>),
    Confirm(BookingNumber),
    Release(BookingNumber),
    Expire(BookingNumber),
    Cancel(BookingNumber, By),
    CancelGroup(Vec<BookingNumber>, By),
    Move(BookingNumber, SlotId, By),
    CheckIn(BookingNumber),
    Complete(BookingNumber),
    CompleteNoted(BookingNumber, TimestampMs, Option<ProductId>, Vec<u8>),
    ChangeFacts(PartyId, PartyFacts, Option<PartyFacts>, Vec<u8>),
    /// The last: whether it is urgent.
    Record(u8, Vec<u8>, bool),
    NoShow(BookingNumber),
    WalkIn(Claim),
    WalkInLate(Claim, TimestampMs),
    Resize(SlotId, Units),
    Open(SlotId),
    Close(SlotId),
    /// What a start does for the holds that lived through the outage; no client asks for it.
    Grace(TimestampMs, TimestampMs),
}

impl Deed {
    pub(super) fn command(&self) -> Command<'_> {
        match self {
            Deed::AddParties(count, facts) => Command::AddParties { count: *count, facts: *facts },
            Deed::Publish(slots, note) => Command::Publish { slots, note },
            Deed::Note(note) => Command::Note { note },
            Deed::Hold(claims, ttl) => Command::Hold { claims, ttl: *ttl },
            Deed::Book(claims) => Command::Book { claims },
            Deed::Confirm(hold) => Command::Confirm { hold: *hold },
            Deed::Release(hold) => Command::Release { hold: *hold },
            Deed::Expire(hold) => Command::Expire { hold: *hold },
            Deed::Cancel(booking, by) => Command::Cancel { booking: *booking, by: *by },
            Deed::CancelGroup(bookings, by) => Command::CancelGroup { bookings, by: *by },
            Deed::Move(booking, to, by) => Command::Move { booking: *booking, to: *to, by: *by },
            Deed::CheckIn(booking) => Command::CheckIn { booking: *booking },
            Deed::Complete(booking) => Command::Complete { booking: *booking },
            Deed::CompleteNoted(booking, given_at, product, note) => {
                Command::CompleteNoted { booking: *booking, given_at: *given_at, product: *product, note }
            }
            Deed::ChangeFacts(party, facts, expected, note) => {
                Command::ChangeFacts { party: *party, facts: *facts, expected: expected.as_ref(), note }
            }
            Deed::Offer(claim, ttl, note) => Command::Offer { claim: *claim, ttl: *ttl, note },
            Deed::Record(kind, bytes, urgent) => Command::Record { kind: *kind, bytes, urgent: *urgent },
            Deed::NoShow(booking) => Command::NoShow { booking: *booking },
            Deed::WalkInLate(claim, came_at) => Command::WalkInLate { claim: *claim, came_at: *came_at },
            Deed::WalkIn(claim) => Command::WalkIn { claim: *claim },
            Deed::Resize(slot, capacity) => Command::Resize { slot: *slot, capacity: *capacity },
            Deed::Open(slot) => Command::Open { slot: *slot },
            Deed::Close(slot) => Command::Close { slot: *slot },
            Deed::Grace(..) => unreachable!("a start gives it, and nobody asks for it"),
        }
    }

    /// Whether a full disk refuses it.
    pub(super) fn takes_more(&self) -> bool {
        matches!(
            self,
            Deed::AddParties(..)
                | Deed::Publish(..)
                | Deed::Note(_)
                | Deed::Record(.., false)
                | Deed::Hold(..)
                | Deed::Offer(..)
                | Deed::Book(_)
                | Deed::WalkIn(_)
                | Deed::WalkInLate(..)
                | Deed::Move(..)
        )
    }
}

/// A command that has an entry.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) deed: Deed,
    pub(super) idempotency: Option<Idempotency>,
    pub(super) at: TimestampMs,
    /// The slots that a publish made.
    pub(super) slots: Vec<SlotId>,
}

/// Everything done, and the state it leads to by the plain model.
pub(super) struct History {
    done: BTreeMap<Seq, Done>,
    /// Everything with a key, that which was refused or lost too: what a client may repeat.
    pub(super) asked: Vec<(Idempotency, Deed)>,
    pub(super) model: Model,
}

impl History {
    pub(super) fn new() -> Self {
        Self { done: BTreeMap::new(), asked: Vec::new(), model: Model::new(Arc::new(PICKY)) }
    }

    /// What the model answers; a publish is told with [`History::keep`].
    pub(super) fn expect(
        &mut self,
        deed: &Deed,
        idempotency: Option<Idempotency>,
        now: TimestampMs,
    ) -> (Result<Outcome, ModelRefusal>, bool) {
        self.model.submit(&Request { command: deed.command(), idempotency }, now)
    }

    /// Keeps what has got an entry.
    pub(super) fn keep(&mut self, seq: Seq, done: Done) {
        if let Deed::Publish(specs, _) = &done.deed {
            publish(&mut self.model, &done.slots, specs);
        }
        self.done.insert(seq, done);
    }

    /// What a start at `at` puts off, by the entry `seq`. Returns how many holds that are; without any there is no entry.
    // rule: HLD-5
    pub(super) fn grace(&mut self, (from, until): (TimestampMs, TimestampMs), seq: Seq, at: TimestampMs) -> u64 {
        let holds = self.model.grace(from, until);
        if holds > 0 {
            let deed = Deed::Grace(from, until);
            self.done.insert(seq, Done { deed, idempotency: None, at, slots: Vec::new() });
        }
        holds
    }

    /// The newest time of an entry.
    pub(super) fn newest(&self) -> TimestampMs {
        self.done.values().map(|done| done.at).max().unwrap_or_default()
    }

    /// The number of the newest entry.
    pub(super) fn last(&self) -> Seq {
        self.done.last_key_value().map_or(Seq(0), |(seq, _)| *seq)
    }

    /// Forgets what a crash has lost: all behind `last`. Returns whether a grace was among it.
    pub(super) fn cut(&mut self, last: Seq) -> bool {
        if self.last() <= last {
            return false;
        }
        let lost = self.done.split_off(&last.next());
        self.model = self.model_at(last);
        lost.values().any(|done| matches!(done.deed, Deed::Grace(..)))
    }

    /// The state that the entries up to `last` lead to.
    pub(super) fn model_at(&self, last: Seq) -> Model {
        let mut model = Model::new(Arc::new(PICKY));
        for done in self.done.range(..=last).map(|(_, done)| done) {
            match &done.deed {
                Deed::Publish(specs, _) => publish(&mut model, &done.slots, specs),
                Deed::Grace(from, until) => drop(model.grace(*from, *until)),
                deed => {
                    let request = Request { command: deed.command(), idempotency: done.idempotency };
                    // It did so before; a difference shows in the state.
                    let _ = model.submit(&request, done.at);
                }
            }
        }
        model
    }
}

fn publish(model: &mut Model, slots: &[SlotId], specs: &[SlotSpec]) {
    let told: Vec<_> = slots.iter().zip(specs).map(|(slot, spec)| (*slot, spec.facts, spec.capacity.get())).collect();
    model.publish(&told);
}
