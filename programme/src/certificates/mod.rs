//! Proof without fragile paper: what was given to whom, signed, so that anybody can verify it without asking us.
//!
//! The formats are pure functions: no HTTP, no store, no clock; which certificate exists and which was revoked is told to them. [`register`] knows that, and
//! [`record`] what one says; [`sheet`] sets it on paper.
//!
//! - [`Claims`] are what a certificate says, in words of no format; [`CertificateId`] is what it is known and revoked by.
//!   [`ClaimsFile`] is how a platform writes them down.
//! - [`CertificateKind`] is a format of it.
//! - [`KeyRing`] are the keys that sign, each for one kind and a time; [`PublicKeys`] those that verify, and the lists to publish them in.
//!   [`key_files`] is the directory they lie in.
//! - [`issue`] makes a certificate, [`verify`] judges one: [`Issued`] or [`IssueError`] comes of the one, [`Verified`] or [`Refused`] of
//!   the other.
//! - [`qr`] draws it, [`paper`] sets it as PDF, in [`words`] of its language and [`fonts`] that lie in the binary.

mod claims;
mod claims_file;
pub mod fonts;
mod id;
mod kind;
mod modules;
mod outcome;
pub mod paper;
pub mod qr;
pub mod record;
pub mod register;
pub mod sheet;
pub mod words;

mod der;
mod keys;
mod public;

pub mod key_files;

mod inflate;
mod nquads;
mod opened;
mod transliteration;
mod uvci;
mod zip;

mod dcc;
mod shc;
mod vc;

mod issue;
mod verify;

pub use claims::{Claims, Disease, DoseClaim, Facility, Holder, Issuer, ProductClaim};
pub use claims_file::{ClaimsFile, HolderFile};
pub use id::{CertificateId, IdError, Revocations};
pub use issue::{issue, qr_payload};
pub use keys::{KeyRing, SigningKey};
pub use kind::CertificateKind;
pub use outcome::{IssueError, Issued, Refused, Verified};
pub use public::{KeyListError, PublicKey, PublicKeys, revoked_cards};
pub use verify::verify;

#[cfg(test)]
mod register_tests;
#[cfg(test)]
mod tests;
