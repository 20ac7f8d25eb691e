//! What the benches share: the engine under measure, the bare floor beside it, and the side-by-side ratio.

#![forbid(unsafe_code)]

pub mod floor;
pub mod reserve;
pub mod sides;
