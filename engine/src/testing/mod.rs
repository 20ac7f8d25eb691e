//! Tools for tests, of this crate and of those that build on it: a plain reference model of the engine.

mod model;

pub use model::{Model, ModelRefusal};
