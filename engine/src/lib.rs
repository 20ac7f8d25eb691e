//! The booking kernel of Berth: slots, parties, holds, bookings and the journal of one cell.
//!
//! A synchronous library. It knows no HTTP, no async runtime, no vaccine and no personal data; it reads
//! the clock in one file and has no statics. One [`Engine`] is one cell, an owned value.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use berth_engine::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let (engine, _) = Engine::open(Config::new(dir.path()), Arc::new(AllowAll), &mut |_| {})?;
//! fn run(engine: &Engine, command: Command<'_>) -> Result<Submitted, Failure> {
//!     engine.submit(&Request { command, idempotency: None }, engine.now())
//! }
//! run(&engine, Command::AddParties { count: 2, facts: PartyFacts::default() })?.result?;
//! let facts = SlotFacts { starts_at: engine.now(), ..SlotFacts::default() };
//! let slots = [SlotSpec { centre: CentreKey(1), capacity: Units::ONE, facts }];
//! run(&engine, Command::Publish { slots: &slots, note: b"" })?.result?;
//!
//! let claim = |party| [Claim { party: PartyId(party), slot: SlotId(0), dose: Dose(1) }];
//! let held = run(&engine, Command::Hold { claims: &claim(0), ttl: Duration::from_secs(60) })?;
//! let rival = run(&engine, Command::Book { claims: &claim(1) })?;
//! assert!(matches!(rival.result, Err(Refusal::Full { .. })));
//! engine.ticket(held.seq).wait()?; // durable now: it may be shown
//! # Ok(()) }
//! ```
//!
//! Modules in reading order: [`ids`] [`units`] clock sync [`error`] <- [`slot`] [`booking`] party <- inventory
//! (with dedupe and expiry) <- kernel <- [`engine`]. The [`journal`] knows entries, never the inventory;
//! only replay knows both. [`verify`] reads a journal with books of its own.
#![cfg_attr(not(any(loom, shuttle)), warn(missing_docs))]

pub mod ids;
pub mod units;

mod clock;
mod sync;

pub mod error;
pub mod fault;

pub mod command;
pub mod policy;

pub mod booking;
pub mod slot;

mod party;

mod dedupe;
mod expiry;

mod inventory;

pub mod code;
pub mod config;
pub mod journal;

pub mod backup;
pub mod check_in;
pub mod engine;
mod kernel;
pub mod listing;
mod open;
pub mod progress;
mod readahead;
pub mod recover;
mod replay;
mod snapshot;
mod snapshots;
mod tail;

pub mod testing;
pub mod verify;

pub use booking::State;
pub use check_in::{CodeTry, WRONG_CODES_MAX};
pub use clock::Clock;
pub use code::{BookingCode, BookingCodes};
pub use command::{
    BookingView, By, Claim, Command, GROUP_CLAIMS_MAX, Given, Group, NOTE_BYTES_MAX, NumberedClaim, Outcome,
    PartyFacts, Places, RECORD_BYTES_MAX, Request, SlotFacts, SlotSpec, Submitted,
};
pub use config::{Config, JournalConfig, RedisConfig, RedisTls};
pub use engine::{Engine, Note, PartyView, Stats, UnitTotals};
pub use error::{Failure, HoardingLimit, Refusal};
pub use ids::*;
pub use inventory::Limits;
pub use journal::directory::{CodeKey, JournalFiles, OpenError};
pub use journal::{Ack, Ticket};
pub use listing::BookingPage;
pub use open::ReplayReport;
pub use party::LIVE_CLAIMS_MAX;
pub use policy::{AllowAll, HoldLimits, INVITATION_SPENT, Policy, PolicyRefusal};
pub use slot::{Counts, ReservedFor};
pub use snapshot::{SnapshotReport, TakeError};
pub use snapshots::SnapshotStats;
pub use tail::{FollowError, LogPlace, LogTail};
pub use units::{TimestampMs, Units};

/// The README's Rust compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct ReadmeDoctests;
