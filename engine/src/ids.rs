//! Newtyped names. No bare integer meets another across a module boundary.
//!
//! Every number here is dense within one cell and means nothing outside it; whoever hands one to
//! another process pairs it with the [`CellId`]. The engine is an owned value, so a process may
//! host many cells and nothing here is global.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// One engine with its journal. At most [`CellId::MAX`], because a booking code spends two symbols on it.
    CellId(u16)
);
id!(
    /// One person, as the engine knows them: dense, issued by the engine, says nothing of who it is.
    PartyId(u32)
);
id!(
    /// One bookable window x pool. Dense but for the ends of a centre's blocks.
    SlotId(u32)
);
id!(
    /// One claim of one party on one unit of one slot, from its hold to its end. A hold of several
    /// parties takes consecutive numbers and is named by its first.
    BookingNumber(u64)
);
id!(
    /// A campaign: the scope of "one live claim per dose".
    ProgrammeId(u16)
);
id!(
    /// Which unit of a course this is: 1 is the first. 0 in a slot's facts means any.
    Dose(u8)
);
id!(
    /// What is given. Opaque to the engine; equality is all it knows.
    ProductId(u8)
);
id!(
    /// Who a part of the capacity is for. Opaque to the engine.
    PoolId(u8)
);
id!(
    /// Slots of one centre share blocks of the slot table, so that a search touches few cache lines.
    CentreKey(u32)
);
id!(
    /// Position in the journal. The first entry is 1; 0 means "before every entry".
    Seq(u64)
);
id!(
    /// Owner generation: every start of a cell takes the next one.
    Epoch(u32)
);

impl CellId {
    /// Ten bits: two symbols of a booking code.
    pub const MAX: CellId = CellId(1023);
}

impl Seq {
    /// The sequence number after this one.
    #[must_use]
    pub const fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

/// A client's name for one intent, already scoped to its credential and hashed to 128 bits by the
/// caller (the engine never sees the credential or the client's own spelling).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(pub u128);

/// An idempotency key with a fingerprint of the request it stands for.
// rule: IDM-1 one key has at most one effect
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The scoped, hashed key.
    pub key: IdempotencyKey,
    /// A hash of everything in the request that decides its effect. Same key, other fingerprint: a
    /// conflict.
    pub fingerprint: u64,
}
