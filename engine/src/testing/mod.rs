//! Tools for tests, of this crate and of those that build on it: a plain reference model of the engine, a disk and a
//! Redis that fail on purpose, and a simulator that drives the one against the others.

pub mod decoders;
pub mod disk;
mod model;
mod picky;
pub mod random;
pub mod seeds;
pub mod shipping;
pub mod sim;
pub mod stream;

pub use model::{Model, ModelRefusal};
pub use picky::Picky;
