//! Supply: how what there is of a product is shared out ([`plan`]), and where each dose of it came from and went.
//!
//! The ledger: batches, what came into a centre's stock, what went to another centre, what was wasted, and what was given. Each is a
//! `Recorded` entry ([`entry`](BatchSpec)), a dose is the entry by which it was recorded; the store has the counters and finds doses by
//! their batch ([`tables`](BatchRow)). What is judged by is in memory ([`books`](Doubt)), under one lock that is held while the entry is appended: so
//! the books and the journal have the same order, and stock is never negative whoever races.
//!
//! - [`Ledger`]: what is asked and done.
//! - [`Enforce`](crate::file::Enforce): whether a dose without stock is refused, as the programme says.

mod books;
mod entry;
mod ledger;
mod lot;
mod offer;
pub mod plan;
mod reading;
mod recording;
pub mod rows;
mod shapes;
mod tables;
mod uses;

pub use books::Doubt;
pub use entry::{Amendment, BatchSpec, DOSES_MAX, RECORDED_SUPPLY, Sending, Waste};
pub use ledger::{Done, Ledger, SupplyError};
pub use lot::{Day, Held, Lot};
pub use offer::Beyond;
pub use recording::{Dose, Recorded, Unrecorded};
pub use shapes::{AMENDED_KEPT, Amended, BatchRow, Recall, Transfer, TransferState};
pub use uses::{Traced, Use};

#[cfg(test)]
mod tests;
