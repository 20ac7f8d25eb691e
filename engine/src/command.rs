//! All that can be asked of the engine, and all it can answer.

use std::time::Duration;

use arrayvec::ArrayVec;

use crate::booking::State;
use crate::error::Refusal;
use crate::ids::{BookingNumber, CentreKey, Dose, Idempotency, PartyId, PoolId, ProductId, ProgrammeId, Seq, SlotId};
use crate::units::{TimestampMs, Units};

/// The most claims one request may make. A programme's own limit is at most this.
pub const GROUP_CLAIMS_MAX: usize = 16;

/// One party's wish for one unit of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub party: PartyId,
    /// Where and when.
    pub slot: SlotId,
    /// Which unit of the course, from 1.
    pub dose: Dose,
}

/// What the policy may know of a party. No personal data beyond the year of birth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartyFacts {
    /// 0 when unknown.
    pub birth_year: u16,
    /// One bit per cohort of the programme.
    pub cohorts: u32,
    /// Doses received.
    pub doses: u8,
    /// Product of the last dose.
    pub product: ProductId,
    /// Day of the last dose, in days since 1970-01-01; 0 when there was none.
    pub last_dose_day: u16,
}

/// What is fixed about a slot when it is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotFacts {
    /// The campaign.
    pub programme: ProgrammeId,
    /// The dose it is for; 0 means any.
    pub dose: Dose,
    /// What is given there.
    pub product: ProductId,
    /// Who it is for.
    pub pool: PoolId,
    /// When the window opens.
    pub starts_at: TimestampMs,
}

/// A slot to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotSpec {
    /// Slots of one centre are placed together.
    pub centre: CentreKey,
    /// Units on sale.
    pub capacity: Units,
    /// What is fixed about it.
    pub facts: SlotFacts,
}

/// What can be asked. Groups are all or nothing.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    /// Creates `count` parties with the same facts and consecutive numbers.
    AddParties {
        /// How many.
        count: u32,
        /// What the policy may know of each.
        facts: PartyFacts,
    },
    /// Publishes slots, open for claims, and keeps `note` in the same entry for whoever owns the catalogue.
    Publish {
        /// The slots.
        slots: &'a [SlotSpec],
        /// Opaque bytes, handed back at replay with the slots' numbers.
        note: &'a [u8],
    },
    /// Keeps opaque bytes in the journal, handed back at replay.
    Note {
        /// The bytes.
        note: &'a [u8],
    },
    /// Sets units aside for 1 to [`GROUP_CLAIMS_MAX`] parties until `ttl` from now.
    Hold {
        /// One claim per party.
        claims: &'a [Claim],
        /// How long the hold lives.
        ttl: Duration,
    },
    /// Hold and confirm in one step.
    Book {
        /// One claim per party.
        claims: &'a [Claim],
    },
    /// Makes a live hold a booking.
    Confirm {
        /// The hold, by its first number.
        hold: BookingNumber,
    },
    /// Gives a live hold back.
    Release {
        /// The hold, by its first number.
        hold: BookingNumber,
    },
    /// Gives one booking up.
    Cancel {
        /// The booking.
        booking: BookingNumber,
    },
    /// Moves one booking to another slot, which it takes before it gives the old one back. The booking
    /// gets a new number; the old one ends as `moved`.
    Move {
        /// The booking.
        booking: BookingNumber,
        /// Where to.
        to: SlotId,
    },
    /// Changes what is on sale. Never below what is taken.
    Resize {
        /// The slot.
        slot: SlotId,
        /// Units on sale from now on.
        capacity: Units,
    },
    /// Lets a slot take new claims again.
    Open {
        /// The slot.
        slot: SlotId,
    },
    /// Stops new claims on a slot; live holds may still be confirmed.
    Close {
        /// The slot.
        slot: SlotId,
    },
    /// Gives a hold back whose deadline has passed. Submitted by the engine's own wheel; from outside it
    /// is refused as `WrongState` while the hold is live.
    Expire {
        /// The hold, by its first number.
        hold: BookingNumber,
    },
}

/// A command with the client's key for it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What is asked.
    pub command: Command<'a>,
    /// `None` only where the caller can prove that it never repeats itself.
    pub idempotency: Option<Idempotency>,
}

/// A claim with the number it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberedClaim {
    /// Its number.
    pub number: BookingNumber,
    /// What was claimed.
    pub claim: Claim,
}

/// Claims made together.
pub type Group = ArrayVec<NumberedClaim, GROUP_CLAIMS_MAX>;

/// What a command did. A repeat under the same key gets the same outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Parties `first .. first + count` exist.
    PartiesAdded {
        /// The lowest number.
        first: PartyId,
        /// How many.
        count: u32,
    },
    /// The slots are open.
    Published {
        /// How many.
        count: u32,
        /// Their numbers, in the order of the request. Empty in the answer to a repeat.
        slots: Vec<SlotId>,
    },
    /// The note is kept.
    Noted,
    /// Units are set aside. The hold is named by the first number.
    Held {
        /// When it expires.
        expires_at: TimestampMs,
        /// The claims, in the order of the request.
        claims: Group,
    },
    /// Booked in one step.
    Booked {
        /// The claims, in the order of the request.
        claims: Group,
    },
    /// The hold is booked.
    Confirmed {
        /// The claims.
        claims: Group,
    },
    /// The hold is given back.
    Released {
        /// The claims.
        claims: Group,
    },
    /// The hold was given back by the clock.
    Expired {
        /// The claims.
        claims: Group,
    },
    /// The booking is given up.
    Cancelled {
        /// The claim.
        claim: NumberedClaim,
    },
    /// The booking lives on under a new number in another slot.
    Moved {
        /// The number that ended as `moved`.
        from: BookingNumber,
        /// The claim that replaced it.
        to: NumberedClaim,
    },
    /// The slot's capacity or flag changed.
    SlotChanged {
        /// The slot.
        slot: SlotId,
    },
}

/// The answer to a submit: await the ticket of `seq` before showing it to anyone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Submitted {
    /// What came of it.
    pub result: Result<Outcome, Refusal>,
    /// The newest journal position this answer rests on: its own entry, or the newest of the records it read.
    // rule: IDM-2 no answer shows what is not yet durable
    pub seq: Seq,
    /// The answer to an earlier request with the same key.
    pub replayed: bool,
}

/// A hold or booking, as it was at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookingView {
    /// Its number.
    pub number: BookingNumber,
    /// The first number of the group it was claimed in.
    pub hold: BookingNumber,
    /// How many were claimed together.
    pub group_len: u8,
    /// Where it stands.
    pub state: State,
    /// Who, where, which dose.
    pub claim: Claim,
    /// The campaign.
    pub programme: ProgrammeId,
    /// When the hold expires or expired; 0 for what was booked in one step.
    pub expires_at: TimestampMs,
    /// Its successor if it was moved, its predecessor if it came from a move.
    pub link: Option<BookingNumber>,
    /// The entry that last changed it: not to be shown before that is durable.
    pub seq: Seq,
}
