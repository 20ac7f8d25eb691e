//! Tools for tests, of this crate and of those that build on it: a plain reference model of the engine, and a disk
//! and a Redis that fail on purpose.

pub mod disk;
mod model;
pub mod random;
pub mod stream;

pub use model::{Model, ModelRefusal};
