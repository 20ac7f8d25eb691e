//! The journal: an append-only, segmented, checksummed log. Truth is local; Redis follows.
//!
//! The journal knows entries, never the inventory. In reading order:
//! [`entry`] (what one line says, as bytes), `sink` (where those go), `input` (its fields, read), `brief` (the commonest of them read in little), [`frame`] (how a batch of lines is framed and checked),
//! `buffer` (where `submit` appends), [`watermark`] (who waits for what), `segment` and `reserve` (files, and
//! those made ahead), `removal` (those no longer needed),
//! [`storage`] (what is asked of a disk), `writer` (group commit), [`reader`] (files back to entries), [`snapshot`] (files that say where all
//! entries so far lead), `tail` (frames behind
//! the watermark while it grows), [`stream`] (what is asked of Redis), [`redis_stream`] (the real one), `shipper` (write-behind),
//! `fence` (what a start asks Redis first). `lock` and `directory` own the place where all of it lies.

pub(crate) mod brief;
pub(crate) mod buffer;
pub(crate) mod directory;
pub mod entry;
pub(crate) mod fence;
pub mod frame;
mod input;
pub(crate) mod lock;
pub mod reader;
pub mod redis_stream;
pub(crate) mod removal;
pub(crate) mod reserve;
pub(crate) mod segment;
pub(crate) mod shipper;
mod sink;
pub mod snapshot;
pub mod storage;
pub mod stream;
pub(crate) mod tail;
pub mod watermark;
pub(crate) mod writer;

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod documented;

pub use entry::{DecodeError, Entry};
pub use shipper::ShipperStats;
pub use watermark::{Ack, Ticket};
