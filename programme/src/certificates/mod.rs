//! Proof without fragile paper: what was given to whom, signed, so that anybody can verify it without asking us.
//!
//! Pure functions: no HTTP, no store, no clock. Which certificate exists and which was revoked is told to them.
//!
//! - [`Claims`] are what a certificate says, in words of no format; [`CertificateId`] is what it is known and revoked by.
//! - [`CertificateKind`] is a format of it.
//! - [`qr`] draws it, [`paper`] sets it as PDF, in [`words`] of its language and [`fonts`] that lie in the binary.
//! - [`Issued`] or [`IssueError`] comes of issuing, [`Verified`] or [`Refused`] of verifying.

mod claims;
pub mod fonts;
mod id;
mod kind;
mod outcome;
pub mod paper;
pub mod qr;
pub mod words;

pub use claims::{Claims, Disease, DoseClaim, Facility, Holder, Issuer, ProductClaim};
pub use id::{CertificateId, IdError, Revocations};
pub use kind::CertificateKind;
pub use outcome::{IssueError, Issued, Refused, Verified};
