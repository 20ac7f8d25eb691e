//! The roles.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a key or token is for. Each route says which of them it takes; none of them includes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Searches, as everybody may without a key, under limits of its own.
    Public,
    /// Holds, books and reads for any party: the systems in front of the citizens.
    Platform,
    /// Holds, books and reads for its own parties. Comes as a token, never as a key.
    Citizen,
    /// Works at its own centres.
    Operator,
    /// Publishes, creates parties, exports.
    Admin,
}

impl Role {
    /// As it is spelled in the configuration, in tokens and in answers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Role::Public => "public",
            Role::Platform => "platform",
            Role::Citizen => "citizen",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
