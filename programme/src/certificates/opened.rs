//! A certificate that was read and is not believed yet.

use super::{CertificateKind, Verified};

/// What a certificate says of itself: who signed what, and what it would say if it is true.
pub(super) struct Opened {
    pub(super) kind: CertificateKind,
    pub(super) key_id: String,
    /// The bytes that the signature is of.
    pub(super) signed: Vec<u8>,
    pub(super) signature: Vec<u8>,
    pub(super) verified: Verified,
}
