//! All that can be asked of the engine, and all it can answer.

use std::time::Duration;

use arrayvec::ArrayVec;

use crate::booking::State;
use crate::error::Refusal;
use crate::ids::{BookingNumber, CentreKey, Dose, Idempotency, PartyId, PoolId, ProductId, ProgrammeId, Seq, SlotId};
use crate::units::{TimestampMs, Units};

/// The most claims one request may make. A programme's own limit is at most this.
pub const GROUP_CLAIMS_MAX: usize = 16;
/// The most bytes that a command may note beside what it does to a party or a booking.
pub const NOTE_BYTES_MAX: usize = 255;
/// The most bytes of one [`Command::Record`].
pub const RECORD_BYTES_MAX: usize = 64 << 10;

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

/// What a party's facts say of its doses once one was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Doses received.
    pub doses: u8,
    /// Product of the last dose.
    pub product: ProductId,
    /// Day of the last dose, in days since 1970-01-01.
    pub day: u16,
}

impl PartyFacts {
    /// The facts once this dose was given.
    #[must_use]
    pub fn after(self, given: Given) -> PartyFacts {
        PartyFacts { doses: given.doses, product: given.product, last_dose_day: given.day, ..self }
    }

    /// What these facts say once this dose was given, which may be told late: of two doses the later one is the last.
    #[must_use]
    pub fn told_late(self, given: Given) -> Given {
        if given.day >= self.last_dose_day {
            return given;
        }
        Given { doses: given.doses, product: self.product, day: self.last_dose_day }
    }
}

/// On whose behalf a booking is given up or moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum By {
    /// Its holder's: the programme's rules of time bind.
    #[default]
    Holder = 0,
    /// The administration's, because a session is called off or moved: they do not bind, and the journal says so.
    Administration = 1,
}

impl By {
    /// The name used in exports and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            By::Holder => "holder",
            By::Administration => "administration",
        }
    }
}

/// Some bookings of one group, by their places in it: one bit each, and never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places(u16);

impl Places {
    /// From one bit for each place; `None` if there is none.
    #[must_use]
    pub const fn new(bits: u16) -> Option<Places> {
        if bits == 0 { None } else { Some(Places(bits)) }
    }

    /// The places of these numbers in the group of `hold`; `None` if there is no number, or one is not within a group's reach.
    pub(crate) fn of(hold: BookingNumber, numbers: impl IntoIterator<Item = BookingNumber>) -> Option<Places> {
        let bit = |number: BookingNumber| 1u16.checked_shl(u32::try_from(number.0.checked_sub(hold.0)?).ok()?);
        numbers.into_iter().try_fold(0, |bits, number| Some(bits | bit(number)?)).and_then(Places::new)
    }

    /// One bit for each place.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The numbers at these places of the group of `hold`, ascending; those past the last number there can be are left out.
    pub fn numbers(self, hold: BookingNumber) -> impl Iterator<Item = BookingNumber> {
        let places = (0..u64::from(u16::BITS)).filter(move |place| self.0 >> place & 1 == 1);
        places.filter_map(move |place| hold.0.checked_add(place).map(BookingNumber))
    }
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
    /// A unit is offered to one party: a hold that takes a free unit of a reserved slot too ([`Engine::reserve`](crate::Engine::reserve)),
    /// and is not counted as the party's hoarding.
    Offer {
        /// To whom, where and which dose.
        claim: Claim,
        /// How long the offer stands.
        ttl: Duration,
        /// The programme's own, of why it is offered: at most [`NOTE_BYTES_MAX`] bytes.
        note: &'a [u8],
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
        /// For whom.
        by: By,
    },
    /// Gives several bookings of one group up, all or none.
    CancelGroup {
        /// 1 to [`GROUP_CLAIMS_MAX`] bookings that were claimed together, in any order.
        bookings: &'a [BookingNumber],
        /// For whom.
        by: By,
    },
    /// Moves one booking to another slot, which it takes before it gives the old one back. The booking
    /// gets a new number; the old one ends as `moved`.
    Move {
        /// The booking.
        booking: BookingNumber,
        /// Where to.
        to: SlotId,
        /// For whom.
        by: By,
    },
    /// The party of a booking is there.
    CheckIn {
        /// The booking.
        booking: BookingNumber,
    },
    /// The party of a booking that is checked in was served: its facts say so from the same entry on.
    Complete {
        /// The booking.
        booking: BookingNumber,
    },
    /// As [`Command::Complete`], with bytes of the programme's own (what was given, and by whom) in the same entry, and for
    /// a centre that tells it late.
    CompleteNoted {
        /// The booking.
        booking: BookingNumber,
        /// When it was. What lies ahead of the time of asking is taken for that.
        given_at: TimestampMs,
        /// What was given, where it is not what the slot is for. It was, so nobody is asked whether it may.
        product: Option<ProductId>,
        /// At most [`NOTE_BYTES_MAX`] bytes.
        note: &'a [u8],
    },
    /// Replaces what the policy knows of a party: something was wrong, or comes from elsewhere. Its live claims stay.
    ChangeFacts {
        /// Who.
        party: PartyId,
        /// All of it from now on.
        facts: PartyFacts,
        /// What the caller has read, if the change rests on that: it is refused if it is not so any more. By what it says and not by
        /// its entry, for bookings move that too.
        expected: Option<&'a PartyFacts>,
        /// The programme's own, at most [`NOTE_BYTES_MAX`] bytes.
        note: &'a [u8],
    },
    /// Writes bytes down for whoever follows the log ([`Engine::tail`](crate::Engine::tail)): sequenced, durable and done once, as anything
    /// else. The engine keeps nothing of them, and replay passes them over.
    Record {
        /// Whose they are: the embedder's own number.
        kind: u8,
        /// At most [`RECORD_BYTES_MAX`].
        bytes: &'a [u8],
        /// A warning that must not wait for room: where the disk has none for the next segment it goes into what is left, as what settles
        /// a claim does. For what is small and rare.
        urgent: bool,
    },
    /// Nobody came: the unit goes back, for a walk-in.
    NoShow {
        /// The booking.
        booking: BookingNumber,
    },
    /// A party without a booking is taken at the door, if there is a free unit: its booking is born checked in.
    WalkIn {
        /// Who, where and which dose.
        claim: Claim,
    },
    /// As [`Command::WalkIn`], of a centre that tells it late: the programme is asked as of when the party came.
    WalkInLate {
        /// Who, where and which dose.
        claim: Claim,
        /// When they came. What lies ahead of the time of asking is taken for that.
        came_at: TimestampMs,
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
    /// The booking is given up: of [`Command::Cancel`], and of [`Command::CancelGroup`] with one booking.
    Cancelled {
        /// The claim.
        claim: NumberedClaim,
    },
    /// Two or more bookings of one group are given up.
    GroupCancelled {
        /// The claims, in ascending number.
        claims: Group,
    },
    /// The booking lives on under a new number in another slot.
    Moved {
        /// The number that ended as `moved`.
        from: BookingNumber,
        /// The claim that replaced it.
        to: NumberedClaim,
    },
    /// The party is there.
    CheckedIn {
        /// The claim.
        claim: NumberedClaim,
    },
    /// The party was served.
    Completed {
        /// The claim.
        claim: NumberedClaim,
    },
    /// Nobody came, and the unit went back.
    NoShow {
        /// The claim.
        claim: NumberedClaim,
    },
    /// The party was taken at the door, and is checked in.
    WalkedIn {
        /// The claim.
        claim: NumberedClaim,
    },
    /// The slot's capacity or flag changed.
    SlotChanged {
        /// The slot.
        slot: SlotId,
    },
    /// The policy knows this of the party now.
    FactsChanged {
        /// Who.
        party: PartyId,
    },
    /// The bytes are written.
    Recorded,
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
    /// Whether it was offered, and not asked for.
    pub offered: bool,
    /// When the hold expires or expired; 0 for what was booked in one step.
    pub expires_at: TimestampMs,
    /// Its successor if it was moved, its predecessor if it came from a move.
    pub link: Option<BookingNumber>,
    /// The entry that last changed it: not to be shown before that is durable.
    pub seq: Seq,
}
