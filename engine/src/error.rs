//! [`Refusal`]: a correct no, in one documented order. [`Failure`]: our own fault.

use crate::booking::State;
use crate::ids::{BookingNumber, Dose, PartyId, ProgrammeId, SlotId};
use crate::slot::Counts;
use crate::units::{TimestampMs, Units};

/// A limit on what one party may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoardingLimit {
    /// Live holds at once.
    Live,
    /// Holds that expired within an hour.
    ExpiredPerHour,
}

impl HoardingLimit {
    /// The name used on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            HoardingLimit::Live => "holds_live",
            HoardingLimit::ExpiredPerHour => "holds_expired_per_hour",
        }
    }
}

impl std::fmt::Display for HoardingLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rules say no. Nothing was changed and nothing was journaled.
///
/// **Precedence.** When several are true at once, the answer is always the variant that stands first
/// here: the variants are in the order in which `submit` meets them. Within one variant, the claim with the lowest
/// party number is told (of bookings to be given up together, the lowest number); of the slots, which are judged last and each whole, the one with the lowest number.
/// (`TooMany` bookings may come as the very last, of several that race for the table's last numbers.)
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request itself is out of bounds, whatever the state.
    #[error("a request names between 1 and {max} claims, this one {found}")]
    GroupSize {
        /// Claims in the request.
        found: usize,
        /// The most the engine takes.
        max: usize,
    },
    /// One party stands twice in a group.
    #[error("party {party} stands twice in one request")]
    PartyRepeated {
        /// The party.
        party: PartyId,
    },
    /// One booking stands twice in a request to give several up.
    #[error("booking {booking} stands twice in one request")]
    BookingRepeated {
        /// The booking.
        booking: BookingNumber,
    },
    /// More than the engine's tables or one entry may hold.
    #[error("{what}: {found} is more than the limit of {max}")]
    TooMany {
        /// What there would be too many of.
        what: &'static str,
        /// How many there would be.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// No room in the journal's buffer: the disk is slower than the arrivals, or full. Try again later.
    #[error("the journal has no room for another entry now")]
    JournalFull,
    /// This key already stands for another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyConflict,
    /// The first request with this key is being executed at this instant. Try again at once.
    #[error("the first request with this idempotency key is still running")]
    IdempotencyInFlight,
    /// No such party.
    #[error("party {party} is unknown")]
    UnknownParty {
        /// The party named.
        party: PartyId,
    },
    /// No such slot, or not yet published.
    #[error("slot {slot} is unknown")]
    UnknownSlot {
        /// The slot named.
        slot: SlotId,
    },
    /// No hold or booking has this number.
    #[error("booking {booking} is unknown")]
    UnknownBooking {
        /// The number named.
        booking: BookingNumber,
    },
    /// A number inside a group was used where the hold's own (its first) is needed.
    #[error("booking {booking} is not a hold's own number, the hold is {hold}")]
    NotTheHold {
        /// The number named.
        booking: BookingNumber,
        /// The number that names the hold.
        hold: BookingNumber,
    },
    /// Bookings that are to be given up together were not claimed together.
    #[error("booking {booking} is not of the group of {hold}")]
    NotOfGroup {
        /// The booking that is not.
        booking: BookingNumber,
        /// The first number of the group that the lowest number of the request is of.
        hold: BookingNumber,
    },
    /// The hold's deadline has passed, whether or not its units went back yet.
    #[error("hold {hold} expired at {} ms", expired_at.0)]
    HoldExpired {
        /// The hold.
        hold: BookingNumber,
        /// Its deadline.
        expired_at: TimestampMs,
    },
    /// The lifecycle has no such step from the state this booking is in.
    #[error("booking {booking} is {from}, it cannot become {to}")]
    WrongState {
        /// The hold or booking.
        booking: BookingNumber,
        /// The state it is in.
        from: State,
        /// The state the command would have led to.
        to: State,
    },
    /// A move to the slot it is already in.
    #[error("booking {booking} is already in slot {slot}")]
    SameSlot {
        /// The booking.
        booking: BookingNumber,
        /// Its slot.
        slot: SlotId,
    },
    /// What is known of the party is not what the caller has read.
    #[error("what is known of party {party} has changed meanwhile")]
    ChangedMeanwhile {
        /// The party.
        party: PartyId,
    },
    /// The programme's policy says no.
    #[error("party {party} may not have a unit of slot {slot}: rule {rule}")]
    NotEligible {
        /// The party.
        party: PartyId,
        /// The slot.
        slot: SlotId,
        /// The programme's name for its rule.
        rule: &'static str,
        /// From when the answer would be yes, where that is known.
        from: Option<TimestampMs>,
    },
    /// The party already has a live claim for this dose of this programme.
    #[error("party {party} already has a live claim, {booking}, for dose {dose} of programme {programme}")]
    AlreadyClaimed {
        /// The party.
        party: PartyId,
        /// The live claim.
        booking: BookingNumber,
        /// The programme.
        programme: ProgrammeId,
        /// The dose.
        dose: Dose,
    },
    /// The party's record has no room for another live claim.
    #[error("party {party} has {max} live claims, the most one party may have")]
    TooManyClaims {
        /// The party.
        party: PartyId,
        /// The limit.
        max: usize,
    },
    /// The party holds too much, or let too many holds expire.
    #[error("party {party} is at its limit of {max} {limit}, until {} ms", from.0)]
    Hoarding {
        /// The party.
        party: PartyId,
        /// Which limit.
        limit: HoardingLimit,
        /// The programme's number for it.
        max: u16,
        /// From when it may hold again, if nothing else happens.
        from: TimestampMs,
    },
    /// The slot takes no new claims at present.
    #[error("slot {slot} is closed")]
    SlotClosed {
        /// The slot.
        slot: SlotId,
        /// The counts at that instant.
        counts: Counts,
    },
    /// The slot had fewer free units than asked for. While `counts.held()` is not zero some may come back.
    #[error("slot {slot} is full: {counts}")]
    Full {
        /// The slot.
        slot: SlotId,
        /// The counts that left no room, true of the slot at one instant.
        counts: Counts,
    },
    /// The slot has enough free units, and they are taken by an offer only: they go to those who wait, or whom a lottery draws.
    #[error("the free units of slot {slot} are offered: {counts}")]
    Reserved {
        /// The slot.
        slot: SlotId,
        /// The counts at that instant.
        counts: Counts,
    },
    /// A resize below what is taken.
    #[error("slot {slot} cannot shrink to {asked}: {counts}")]
    BelowTaken {
        /// The slot.
        slot: SlotId,
        /// The capacity asked for.
        asked: Units,
        /// The counts at that instant.
        counts: Counts,
    },
}

/// We could not do our part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The journal stopped after a failed write or sync. What was not acknowledged may or may not be
    /// there after a restart: repeat it then, with the same idempotency key.
    #[error("the journal stopped: {reason}")]
    JournalStopped {
        /// What failed, for the operator.
        reason: String,
    },
    /// Nothing more reaches Redis in this run, so an answer that was to wait for it cannot be given. What was submitted
    /// is in the local log or on its way there.
    #[error("Redis takes nothing more: {reason}")]
    RedisStopped {
        /// Why, for the operator.
        reason: String,
    },
}

impl Failure {
    /// Whether repeating the call, with its key, is safe: always, but it can only help after a restart.
    #[must_use]
    pub const fn retry_is_safe(&self) -> bool {
        match self {
            Failure::JournalStopped { .. } | Failure::RedisStopped { .. } => true,
        }
    }
}
