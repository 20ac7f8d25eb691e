//! A slot: its capacity word, what is fixed about it, and the table both lie in.

mod table;
mod word;

pub(crate) use table::{ChunkTable, SlotTable};
pub use word::{Counts, Give, ReservedFor, Resize, SlotWord, Take};
