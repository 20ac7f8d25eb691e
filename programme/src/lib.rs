//! What a country configures and a campaign does, on top of [`berth_engine`].
//!
//! - [`ProgrammeFile`] is the TOML file a health ministry reads; [`Programme`] is the same, checked, and
//!   answers the engine's questions as its [`berth_engine::Policy`].
//! - [`Catalogue`] knows regions, centres and sessions. It is a projection of the journal: what is in it was
//!   put there by a note of an entry, when the entry became durable or when it was replayed.
//! - [`Publisher`] checks bulk NDJSON line by line, publishes it as one entry, all or nothing, and then
//!   shows it in the catalogue.
//! - [`doses`] are what was given to whom, with all that was said of it since: a projection of the journal in the [`store`].
//! - [`supply`] shares batches out among regions.
//! - [`certificates`] write what was given as proofs that verify offline, and read them.
//! - [`Campaign`] opens the three together with their engine.
//! - [`waitlist::Waitlist`] offers what is given back to those who wait for it.
//! - [`store::Store`] keeps on disk what projections make of the journal; [`people::People`] are one of them.
//!
//! Nothing here knows HTTP, and nothing here keeps a count: those are the engine's.

#![forbid(unsafe_code)]

mod names;
mod position;

pub mod calendar;
mod compiled;
pub mod file;
pub mod invitations;
pub mod programme;
mod rules;

pub mod explain;
pub mod in_force;
pub mod take_up;

pub mod catalogue;
pub mod certificates;
pub mod faults;
mod ndjson;
mod note;

pub mod availability;
pub mod campaign;
pub mod publish;

pub mod doses;
pub mod lottery;
pub mod people;
pub mod store;
pub mod supply;
pub mod waitlist;

pub use availability::{
    Availability, CentreOffer, Cursor, NumberSet, Place, Query, SessionOffer, SlotOffer, Spilled, Unknown,
};
pub use calendar::Calendar;
pub use campaign::{Campaign, CampaignError, open_read_only};
pub use catalogue::{
    Ages, Catalogue, Centre, KeptProgramme, Numbered, Offered, Region, RegionKind, Session, SlotPlace, SlotRef, Window,
};
pub use explain::{Explanation, Passed, Question};
pub use faults::{FAULTS_LISTED_MAX, Faults, LineFault};
pub use file::{KeyFault, ProgrammeFile, ProgrammeFileError, toml_fault};
pub use in_force::{InForce, Rules, Standing};
pub use names::{PHONE_RULE, URL_RULE, is_name, is_phone_line, is_pincode, is_web_address};
pub use position::Position;
pub use programme::Programme;
pub use publish::{BulkKind, PublishError, Published, Publisher};
pub use rules::{PROGRAMME, RULES, sentence};
pub use take_up::{Source, TakeUpError, TakenUp};
