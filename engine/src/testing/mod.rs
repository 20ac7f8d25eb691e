//! Tools for tests, of this crate and of those that build on it: a plain reference model of the engine, and a disk that
//! fails on purpose.

pub mod disk;
mod model;
pub mod random;

pub use model::{Model, ModelRefusal};
