//! What the programme file says of certificates: who signs them, which kinds, and by which codes a product is known abroad.

use serde::{Deserialize, Serialize};

use super::Names;
use crate::certificates::CertificateKind;

/// Who signs certificates, which kinds of them, and for how long they are good.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFile {
    /// Who issues them, for people.
    pub issuer: String,
    /// The same in other languages.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub names: Names,
    /// The issuer for machines: an `https` address, under which the keys of SMART Health Cards are found. `http` is for an address of
    /// this machine alone, to try things out.
    pub uri: String,
    /// The country, two capital letters of ISO 3166-1.
    pub country: String,
    /// Which kinds are issued. Absent: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<CertificateKind>,
    /// Against what: the disease, for people. Needed with any of `kinds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disease: Option<String>,
    /// The same as a code of SNOMED CT, as `840539006`. Needed with `eu_dcc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disease_code: Option<String>,
    /// Who issues it within the country, as it stands in the identifier of an EU certificate (UVCI): 1 to 20 of A-Z 0-9. Absent: nothing
    /// stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer_code: Option<String>,
    /// So many days after it was issued a certificate is good. 1 to 3650; default 365.
    #[serde(default = "valid_days")]
    pub valid_days: u16,
}

/// By which codes a product is known to who reads a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProductCodes {
    /// Of the CDC's list CVX, as `208`. Needed for a SMART Health Card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cvx: Option<String>,
    /// The kind of vaccine (`vp` of an EU certificate), as `1119349007` of SNOMED CT or `J07BX03` of the ATC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eu_vaccine: Option<String>,
    /// The product (`mp`), as `EU/1/20/1528`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eu_product: Option<String>,
    /// Who holds its marketing authorisation, or makes it (`ma`), as `ORG-100030215`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eu_holder: Option<String>,
}

impl ProductCodes {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == ProductCodes::default()
    }
}

const fn valid_days() -> u16 {
    365
}
