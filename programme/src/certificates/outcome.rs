//! What comes of issuing and of verifying.

use std::fmt;

use jiff::Timestamp;

use super::{CertificateId, CertificateKind};

/// A certificate that was made. Of a person, so it does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// In which format.
    pub kind: CertificateKind,
    /// What it is known and revoked by.
    pub id: CertificateId,
    /// By which key it was signed.
    pub key_id: String,
    /// The certificate: JSON, `HC1:...` or `shc:/...`.
    pub text: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issued({} {})", self.kind, self.id)
    }
}

/// Why a certificate cannot be issued. None of it says anything of the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// No key signs this kind at that time.
    #[error("no key signs {kind} at {at}")]
    NoKey {
        /// Of which kind.
        kind: CertificateKind,
        /// When it was to be issued.
        at: Timestamp,
    },
    /// What the format needs is not among the claims.
    #[error("{kind} needs {what}, which is missing")]
    Missing {
        /// In which format.
        kind: CertificateKind,
        /// What.
        what: &'static str,
    },
    /// What is among the claims has no place in the format.
    #[error("{kind} has no place for {what}")]
    Unfit {
        /// In which format.
        kind: CertificateKind,
        /// What.
        what: &'static str,
    },
    /// It is too long for its QR image.
    #[error("{kind} has room for {max} characters, and this one has {len}: {advice}")]
    TooLong {
        /// In which format.
        kind: CertificateKind,
        /// How long it came out.
        len: usize,
        /// How long it may be.
        max: usize,
        /// What may be made shorter.
        advice: &'static str,
    },
    /// The key does not sign.
    #[error("the key {key_id} does not sign")]
    Signing {
        /// Which key.
        key_id: String,
    },
}

/// What a good certificate says. Of a person, so it does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    /// In which format.
    pub kind: CertificateKind,
    /// What it is known and revoked by.
    pub id: CertificateId,
    /// By which key it is signed.
    pub key_id: String,
    /// Who says so: the country of an EU certificate, else an address.
    pub issuer: String,
    /// When it was made.
    pub issued_at: Timestamp,
    /// From when on it is good no more.
    pub expires_at: Option<Timestamp>,
    /// Of whom.
    pub name: String,
    /// `YYYY-MM-DD` or `YYYY`, if it is said.
    pub born: Option<String>,
    /// What was given: a name or a code.
    pub product: String,
    /// Which dose, and of how many, if it is said.
    pub dose: Option<(u64, u64)>,
    /// On which day.
    pub given_on: String,
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({} {})", self.kind, self.id)
    }
}

/// Why a certificate is not taken. The first that holds is told, in this order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is none, or is damaged.
    #[error("it is no certificate, or is damaged: {0}")]
    Malformed(&'static str),
    /// Its key is not among those that are trusted.
    #[error("it is signed by a key that is not known here: {key_id}")]
    UnknownKey {
        /// Which.
        key_id: String,
    },
    /// It was changed after it was signed, or was not signed by whom it says.
    #[error("its signature does not fit: it was changed, or another signed it")]
    BadSignature,
    /// It was revoked.
    #[error("it was revoked: {id}")]
    Revoked {
        /// Which.
        id: CertificateId,
    },
    /// It is not good yet.
    #[error("it is good only from {from} on")]
    NotYetValid {
        /// From when on.
        from: Timestamp,
    },
    /// It is good no more.
    #[error("it was good until {at}")]
    Expired {
        /// Until when.
        at: Timestamp,
    },
}

impl Refused {
    /// The reason as a word that never changes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Refused::Malformed(_) => "malformed",
            Refused::UnknownKey { .. } => "unknown_key",
            Refused::BadSignature => "bad_signature",
            Refused::Revoked { .. } => "revoked",
            Refused::NotYetValid { .. } => "not_yet_valid",
            Refused::Expired { .. } => "expired",
        }
    }
}
