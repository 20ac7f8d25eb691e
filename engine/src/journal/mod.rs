//! The journal: an append-only, segmented, checksummed log. Truth is local; Redis follows.
//!
//! The journal knows entries, never the inventory. In reading order:
//! [`entry`] (what one line says, as bytes), [`frame`] (how a batch of lines is framed and checked),
//! `buffer` (where `submit` appends), [`watermark`] (who waits for what), `segment` (files),
//! `writer` (group commit), [`reader`] (files back to entries), `shipper` (write-behind to Redis).

pub(crate) mod buffer;
pub(crate) mod directory;
pub mod entry;
pub mod frame;
pub mod reader;
pub(crate) mod segment;
pub(crate) mod shipper;
pub mod watermark;
pub(crate) mod writer;

pub use entry::{DecodeError, Entry};
pub use watermark::Ticket;
