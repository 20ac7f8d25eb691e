//! The submit kernel: every command goes through one order (DESIGN 4.5).
//!
//! 1. reserve journal room, 2. the idempotency key, 3. the locks of every party, ascending, 4. the policy,
//!    pure, 5. takes on the words, ascending, undone on a later refusal, 6. append, 7. write records and the
//!    held-to-booked changes, 8. give capacity back, 9. unlock.
//!
//! So capacity is taken before an entry gets its number and given back after (JNL-1): every prefix of the
//! journal is a state that could have been. Three swaps of this order can be planted (`--cfg berth_fault`);
//! the racing tests find each.

mod admin;
mod claim;
mod door;
mod facts;
mod grace;
mod hoard;
mod invitation;
mod offer;
mod resolve;

use arrayvec::ArrayVec;

use crate::command::{Command, GROUP_CLAIMS_MAX, NOTE_BYTES_MAX, Outcome, RECORD_BYTES_MAX, Request, Submitted};
use crate::dedupe::{Begun, KeyClaim, Remembered};
use crate::engine::Engine;
use crate::error::{Failure, Refusal};
use crate::ids::{BookingNumber, Idempotency, Seq};
use crate::journal::buffer::Room;
use crate::journal::entry::{ENTRY_BYTES_MAX, Entry, Event, SMALL_ENTRY_BYTES_MAX};
use crate::sync;
use crate::units::TimestampMs;

/// How often a twin looks whether the first request with its key is through `submit`, which takes
/// microseconds and never blocks, before it is told to try again.
pub(crate) const TWIN_LOOKS: u32 = 200;

/// Entries keep their time in 48 bits: enough until the year 10889.
const AT_MAX: TimestampMs = TimestampMs((1 << 48) - 1);

/// A refusal with the entry it rests on, where it tells of a claim.
pub(super) struct No {
    refusal: Refusal,
    seq: Seq,
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, seq: Seq(0) }
    }
}

impl No {
    /// A refusal that tells of records changed as late as `seq`.
    // rule: IDM-2
    fn resting_on(seq: Seq, refusal: Refusal) -> Self {
        Self { refusal, seq }
    }
}

/// What one command carries through the kernel.
pub(super) struct Context<'a> {
    room: Room<'a>,
    key: Option<KeyClaim<'a>>,
    idempotency: Option<Idempotency>,
    now: TimestampMs,
}

type Answer = Result<(Seq, Outcome), No>;

impl<'a> Context<'a> {
    /// Step 6. Cannot fail: room was reserved.
    // rule: JNL-1 capacity is taken before this and given back after
    fn append(self, event: Event) -> Appended<'a> {
        let code = event.code();
        let own = event.own_bytes();
        let entry = Entry { at: self.now, idempotency: self.idempotency, event };
        let seq = if let Some(own) = own {
            let mut bytes = Vec::with_capacity(SMALL_ENTRY_BYTES_MAX + own);
            entry.encode(&mut bytes);
            self.room.append(&bytes, code)
        } else {
            let mut bytes = ArrayVec::<u8, SMALL_ENTRY_BYTES_MAX>::new();
            entry.encode(&mut bytes);
            self.room.append(&bytes, code)
        };
        Appended { seq, key: self.key }
    }
}

/// What is left of a command once its entry has a number.
#[must_use]
struct Appended<'a> {
    seq: Seq,
    key: Option<KeyClaim<'a>>,
}

impl Appended<'_> {
    /// Keeps the outcome under the key. Only after the records are written: a twin reads them.
    fn keep(self, outcome: Remembered) {
        if let Some(key) = self.key {
            key.done(self.seq, outcome);
        }
    }
}

/// Judged before anything is reserved: what is wrong whatever the state.
fn check_shape(command: &Command<'_>) -> Result<(), Refusal> {
    if let Command::CancelGroup { bookings, .. } = command {
        if bookings.is_empty() || bookings.len() > GROUP_CLAIMS_MAX {
            return Err(Refusal::GroupSize { found: bookings.len(), max: GROUP_CLAIMS_MAX });
        }
        let twice = |(index, booking): (usize, &BookingNumber)| bookings[..index].contains(booking).then_some(*booking);
        return match bookings.iter().enumerate().find_map(twice) {
            Some(booking) => Err(Refusal::BookingRepeated { booking }),
            None => Ok(()),
        };
    }
    if let Some((what, found, max)) = own_bytes(command) {
        let (found, max) = (found as u64, max as u64);
        return if found > max { Err(Refusal::TooMany { what, found, max }) } else { Ok(()) };
    }
    let (Command::Hold { claims, .. } | Command::Book { claims }) = command else {
        return Ok(());
    };
    if claims.is_empty() || claims.len() > GROUP_CLAIMS_MAX {
        return Err(Refusal::GroupSize { found: claims.len(), max: GROUP_CLAIMS_MAX });
    }
    for (index, claim) in claims.iter().enumerate() {
        if claims[..index].iter().any(|earlier| earlier.party == claim.party) {
            return Err(Refusal::PartyRepeated { party: claim.party });
        }
    }
    Ok(())
}

/// Bytes that a command brings along for its entry, by what they are, and the most there may be.
fn own_bytes(command: &Command<'_>) -> Option<(&'static str, usize, usize)> {
    match command {
        Command::CompleteNoted { note, .. } | Command::ChangeFacts { note, .. } | Command::Offer { note, .. } => {
            Some(("bytes of a note", note.len(), NOTE_BYTES_MAX))
        }
        Command::Record { bytes, .. } => Some(("bytes of a record", bytes.len(), RECORD_BYTES_MAX)),
        _ => None,
    }
}

/// Whether a command is refused while the disk has no room for the next segment: what would take units or memory. What
/// ends or settles a claim, and a warning, goes on, in the room that is left.
fn takes_more(command: &Command<'_>) -> bool {
    match command {
        Command::AddParties { .. }
        | Command::Publish { .. }
        | Command::Note { .. }
        | Command::Record { urgent: false, .. }
        | Command::Hold { .. }
        | Command::Offer { .. }
        | Command::Book { .. }
        | Command::WalkIn { .. }
        | Command::WalkInLate { .. }
        | Command::Move { .. } => true,
        Command::Confirm { .. }
        | Command::Release { .. }
        | Command::Expire { .. }
        | Command::Cancel { .. }
        | Command::CancelGroup { .. }
        | Command::CheckIn { .. }
        | Command::Complete { .. }
        | Command::CompleteNoted { .. }
        | Command::ChangeFacts { .. }
        | Command::Record { urgent: true, .. }
        | Command::NoShow { .. }
        | Command::Resize { .. }
        | Command::Open { .. }
        | Command::Close { .. } => false,
    }
}

impl Engine {
    /// The one road: judges a command, changes memory, appends its entry. Never blocks on I/O.
    ///
    /// The answer must not be shown before [`Engine::ticket`] of its `seq` has resolved. Concurrent callers see a
    /// command whole or not at all, but for one thing: a claim that is refused late may hold units for an
    /// instant, so that a rival is told `full` with `held_may_return`.
    /// A crash loses what no ticket had resolved for, newest first, and nothing else.
    ///
    /// # Errors
    /// [`Failure`] when the journal has stopped; the inner [`Refusal`] when the rules say no.
    pub fn submit(&self, request: &Request<'_>, now: TimestampMs) -> Result<Submitted, Failure> {
        if let Some(failure) = self.marks.failure() {
            return Err(failure);
        }
        if self.buffer.is_closing() {
            return Err(Failure::JournalStopped { reason: "the engine is closing".to_owned() });
        }
        let now = now.min(AT_MAX);
        Ok(match self.execute(request, now) {
            Ok(submitted) => submitted,
            Err(No { refusal, seq }) => Submitted { result: Err(refusal), seq, replayed: false },
        })
    }

    fn execute(&self, request: &Request<'_>, now: TimestampMs) -> Result<Submitted, No> {
        let Request { command, idempotency } = request;
        check_shape(command)?;
        self.check_booking_limit(command)?;
        let bytes = match command {
            Command::Publish { slots, note } => Entry::bytes_max(slots.len(), note.len()),
            Command::Note { note } => Entry::bytes_max(0, note.len()),
            _ => SMALL_ENTRY_BYTES_MAX + own_bytes(command).map_or(0, |(_, found, _)| found),
        };
        let bytes_max = ENTRY_BYTES_MAX.min(self.buffer.capacity());
        if bytes > bytes_max {
            let (found, max) = (bytes as u64, bytes_max as u64);
            return Err(Refusal::TooMany { what: "bytes of one entry", found, max }.into());
        }
        let room = if self.buffer.is_settling() && takes_more(command) { None } else { self.buffer.reserve(bytes) };
        let Some(room) = room else {
            return self.repeated(idempotency.as_ref()).ok_or(No::from(Refusal::JournalFull));
        };
        let idempotency = if crate::planted!("forget_keys") { &None } else { idempotency };
        let key = match idempotency {
            None => None,
            Some(idempotency) => match self.begin(*idempotency, now) {
                Begun::Fresh(claim) => Some(claim),
                Begun::Done { seq, outcome } => return Ok(self.repeat(seq, outcome)),
                Begun::Conflict { seq } => return Err(No::resting_on(seq, Refusal::IdempotencyConflict)),
                Begun::Running => return Err(Refusal::IdempotencyInFlight.into()),
            },
        };
        let context = Context { room, key, idempotency: *idempotency, now };
        let (seq, outcome) = match *command {
            Command::Hold { claims, ttl } => self.hold(claims, ttl, context),
            Command::Offer { claim, ttl, note } => self.offer(claim, ttl, note, context),
            Command::Book { claims } => self.book(claims, context),
            Command::Confirm { hold } => self.confirm(hold, context),
            Command::Release { hold } => self.release(hold, context),
            Command::Expire { hold } => self.expire(hold, context),
            Command::Cancel { booking, by } => self.cancel(booking, by, context),
            Command::CancelGroup { bookings, by } => self.cancel_group(bookings, by, context),
            Command::Move { booking, to, by } => self.move_booking(booking, to, by, context),
            Command::CheckIn { booking } => self.check_in(booking, context),
            Command::Complete { booking } => self.complete(booking, None, context),
            Command::CompleteNoted { booking, given_at, product, note } => {
                self.complete(booking, Some((given_at, product, note)), context)
            }
            Command::ChangeFacts { party, facts, expected, note } => {
                self.change_facts(party, facts, expected, note, context)
            }
            Command::Record { kind, bytes, .. } => Ok(self.record(kind, bytes, context)),
            Command::NoShow { booking } => self.no_show(booking, context),
            Command::WalkIn { claim } => self.walk_in(claim, context.now, context),
            Command::WalkInLate { claim, came_at } => self.walk_in(claim, came_at.min(context.now), context),
            Command::AddParties { count, facts } => self.add_parties(count, facts, context),
            Command::Publish { slots, note } => self.publish(slots, note, context),
            Command::Note { note } => Ok(self.note(note, context)),
            Command::Resize { slot, capacity } => self.resize(slot, capacity, context),
            Command::Open { slot } => self.set_open(slot, true, context),
            Command::Close { slot } => self.set_open(slot, false, context),
        }?;
        Ok(Submitted { result: Ok(outcome), seq, replayed: false })
    }

    /// The first answer to a request that has had its effect: a repeat writes nothing, so it needs no room.
    // rule: IDM-1 every repeat gets the first answer, on a full disk too
    #[cold]
    fn repeated(&self, idempotency: Option<&Idempotency>) -> Option<Submitted> {
        let idempotency = idempotency?;
        let (seq, outcome) = self.inventory.keys.get(idempotency.key)??;
        let same = self.inventory.keys.fingerprint(idempotency.key) == Some(idempotency.fingerprint);
        same.then(|| self.repeat(seq, outcome))
    }

    /// Claims a key; a twin waits out the microseconds in which the first request runs.
    fn begin(&self, idempotency: Idempotency, now: TimestampMs) -> Begun<'_> {
        let keys = &self.inventory.keys;
        for _ in 0..TWIN_LOOKS {
            match keys.begin(idempotency, now) {
                Begun::Running => sync::yield_now(),
                other => return other,
            }
        }
        Begun::Running
    }

    /// The first answer once more. A hold's is told with the deadline it has by now, so it rests on the entry that put that off.
    // rule: IDM-2
    pub(crate) fn repeat(&self, seq: Seq, outcome: Remembered) -> Submitted {
        let seq = match outcome {
            Remembered::Held { first, .. } => {
                self.inventory.bookings.get(first).map_or(seq, |cell| seq.max(cell.seq()))
            }
            _ => seq,
        };
        Submitted { result: Ok(self.recall(outcome)), seq, replayed: true }
    }

    /// The outcome a key stands for, from what was remembered and from what never changes in the records while somebody may
    /// submit.
    fn recall(&self, remembered: Remembered) -> Outcome {
        let bookings = &self.inventory.bookings;
        let one = |number| bookings.claims::<1>(number, 1)[0];
        match remembered {
            Remembered::PartiesAdded { first, count } => {
                Outcome::PartiesAdded { first: crate::ids::PartyId(first), count }
            }
            Remembered::Published { count } => Outcome::Published { count, slots: Vec::new() },
            Remembered::Noted => Outcome::Noted,
            Remembered::Held { first, len } => {
                let expires_at = bookings.get(first).and_then(|cell| cell.view(first)).map(|view| view.expires_at);
                Outcome::Held { expires_at: expires_at.unwrap_or_default(), claims: bookings.claims(first, len) }
            }
            Remembered::Booked { first, len } => Outcome::Booked { claims: bookings.claims(first, len) },
            Remembered::Confirmed { first, len } => Outcome::Confirmed { claims: bookings.claims(first, len) },
            Remembered::Released { first, len } => Outcome::Released { claims: bookings.claims(first, len) },
            Remembered::Expired { first, len } => Outcome::Expired { claims: bookings.claims(first, len) },
            Remembered::Cancelled { booking } => Outcome::Cancelled { claim: one(booking) },
            Remembered::GroupCancelled { hold, places } => {
                Outcome::GroupCancelled { claims: places.numbers(hold).map(one).collect() }
            }
            Remembered::Stepped { booking, to } => door::stepped(one(booking), to),
            Remembered::WalkedIn { number } => Outcome::WalkedIn { claim: one(number) },
            Remembered::Moved { from } => {
                // The successor never changes once it is there, and a move ends its booking.
                let to = bookings.get(from).and_then(|cell| cell.view(from)?.link).expect("a moved booking is linked");
                Outcome::Moved { from, to: one(to) }
            }
            Remembered::SlotChanged { slot } => Outcome::SlotChanged { slot: crate::ids::SlotId(slot) },
            Remembered::FactsChanged { party } => Outcome::FactsChanged { party: crate::ids::PartyId(party) },
            Remembered::Recorded => Outcome::Recorded,
        }
    }
}
