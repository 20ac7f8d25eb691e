//! The formats of certificates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A format of certificates. Its name is that of the programme file, of the API and of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub enum CertificateKind {
    /// W3C Verifiable Credential in the shape of DIVOC (CoWIN).
    #[serde(rename = "w3c")]
    W3c,
    /// EU Digital COVID Certificate, `HC1:`.
    #[serde(rename = "eu_dcc")]
    EuDcc,
    /// SMART Health Card, `shc:/`.
    #[serde(rename = "smart_health_card")]
    SmartHealthCard,
}

impl CertificateKind {
    /// All of them.
    pub const ALL: [CertificateKind; 3] =
        [CertificateKind::W3c, CertificateKind::EuDcc, CertificateKind::SmartHealthCard];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CertificateKind::W3c => "w3c",
            CertificateKind::EuDcc => "eu_dcc",
            CertificateKind::SmartHealthCard => "smart_health_card",
        }
    }
}

impl fmt::Display for CertificateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CertificateKind {
    type Err = String;

    fn from_str(text: &str) -> Result<CertificateKind, String> {
        let found = CertificateKind::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("{text:?} is no kind of certificate; they are w3c, eu_dcc, smart_health_card"))
    }
}
