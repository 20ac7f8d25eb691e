//! What the benches share: the engine under measure, the bare floor beside it, and the side-by-side ratio; the comparison over HTTP.

#![forbid(unsafe_code)]

pub mod centre;
pub mod floor;
pub mod http;
pub mod reserve;
pub mod sides;
