//! What a row of the ledger says of a batch and of a transfer.

use berth_engine::TimestampMs;
use serde::{Deserialize, Serialize};

use super::entry::{BatchSpec, Sending};

/// A batch, and whether it may be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRow {
    /// As it was made.
    pub spec: BatchSpec,
    /// The recall that stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<Recall>,
    /// How often it was recalled.
    #[serde(default)]
    pub recalls: u64,
    /// What was corrected of it, the oldest first; of many the newest [`AMENDED_KEPT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amended: Vec<Amended>,
}

/// A correction of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amended {
    /// When, in milliseconds.
    pub at: u64,
    /// Why, in a word.
    pub reason: String,
    /// As it was before.
    pub before: BatchSpec,
}

/// Corrections of a batch that are kept with it. All of them are in the audit log.
pub const AMENDED_KEPT: usize = 50;

impl BatchRow {
    /// One of which nothing is known but its number.
    pub(super) fn unknown(batch: &str) -> BatchRow {
        let spec = BatchSpec {
            id: batch.to_owned(),
            product: 0,
            quantity: 0,
            expires: jiff::civil::Date::MAX,
            manufacturer: String::new(),
            doses_per_vial: None,
        };
        BatchRow { spec, recall: None, recalls: 0, amended: Vec::new() }
    }

    /// Whether it is known what it is.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.spec.quantity > 0
    }
}

impl Transfer {
    pub(super) fn of(sending: Sending, at: TimestampMs) -> Transfer {
        Transfer { sending, sent_at: at.0, state: TransferState::Sent, arrived: None, ended_at: None }
    }
}

/// That a batch must not be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recall {
    /// Since when, in milliseconds.
    pub at: u64,
    /// Why, in a word.
    pub reason: String,
}

/// What became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// On the way.
    Sent,
    /// There, or what of it is.
    Arrived,
    /// It did not go.
    Cancelled,
}

impl TransferState {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            TransferState::Sent => "sent",
            TransferState::Arrived => "arrived",
            TransferState::Cancelled => "cancelled",
        }
    }
}

/// A transfer, from its sending on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// What was sent.
    pub sending: Sending,
    /// When, in milliseconds.
    pub sent_at: u64,
    /// What became of it.
    pub state: TransferState,
    /// How many arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrived: Option<u64>,
    /// When it arrived or was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
}
