//! Why a run could not take place: always one sentence that names what and where.

use std::fmt::Display;

/// A run that could not start or could not end. Never a verdict: those are [`crate::audit::Verdict`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CannotRun(String);

impl CannotRun {
    pub(crate) fn because(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

/// Adds what was being done to an error that only says what went wrong.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, CannotRun>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, CannotRun> {
        self.map_err(|error| CannotRun(format!("could not {}: {error}", what())))
    }
}
