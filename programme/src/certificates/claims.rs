//! What a certificate says, in words of no format. It is of a person, so none of it prints itself.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;

use super::CertificateId;
use crate::file::{CertificateFile, ProductCodes, ProductFile};
use crate::people::Born;

/// What a certificate says. Of `doses` the last is certified; earlier ones travel along where the format has room for them.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// What it is known and revoked by.
    pub id: CertificateId,
    /// When it was made. Formats know whole seconds.
    pub issued_at: Timestamp,
    /// From when on it is good no more.
    pub expires_at: Timestamp,
    /// Who says so.
    pub issuer: Issuer,
    /// Against what.
    pub disease: Disease,
    /// Of whom.
    pub holder: Holder,
    /// What they had, the oldest first; at least one.
    pub doses: Vec<DoseClaim>,
}

/// Who says so.
#[derive(Clone, PartialEq, Eq)]
pub struct Issuer {
    /// For people.
    pub name: String,
    /// Two capital letters of ISO 3166-1.
    pub country: String,
    /// For machines.
    pub uri: String,
    /// In the identifier of an EU certificate.
    pub code: Option<String>,
}

/// Against what a dose is.
#[derive(Clone, PartialEq, Eq)]
pub struct Disease {
    /// For people.
    pub name: String,
    /// Of SNOMED CT.
    pub code: Option<String>,
}

/// Whom a certificate is of.
#[derive(Clone, PartialEq, Eq)]
pub struct Holder {
    /// What the issuer knows them by: a number that says nothing.
    pub reference: String,
    /// As it was registered.
    pub name: String,
    /// When they were born.
    pub born: Born,
    /// As it was registered: `female`, `male` or another word.
    pub sex: Option<String>,
    /// What shows who they are, as text and masked: `Aadhaar card xxxxxxxx1234`.
    pub document: Option<String>,
    /// In words.
    pub nationality: Option<String>,
    /// Where they live: a district.
    pub district: Option<String>,
    /// Where they live: a state.
    pub state: Option<String>,
    /// Where they live: a postal code.
    pub pincode: Option<String>,
}

/// One dose that was given.
#[derive(Clone, PartialEq, Eq)]
pub struct DoseClaim {
    /// Which of the course, from 1.
    pub number: u8,
    /// How many the course has.
    pub of: u8,
    /// The day, where it was given.
    pub given_on: Date,
    /// What.
    pub product: ProductClaim,
    /// Of which batch, if that was noted.
    pub batch: Option<String>,
    /// Where.
    pub facility: Facility,
    /// By whom, if that is said.
    pub vaccinator: Option<String>,
}

/// What was given.
#[derive(Clone, PartialEq, Eq)]
pub struct ProductClaim {
    /// As the programme names it.
    pub id: String,
    /// For people.
    pub name: String,
    /// Who makes it, for people.
    pub manufacturer: Option<String>,
    /// By which codes it is known.
    pub codes: ProductCodes,
}

/// Where it was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Facility {
    /// The centre.
    pub name: String,
    /// Its district.
    pub district: Option<String>,
    /// Its state.
    pub state: Option<String>,
    /// Its postal code.
    pub pincode: Option<String>,
    /// Two capital letters of ISO 3166-1.
    pub country: String,
}

impl Claims {
    /// The dose that is certified.
    #[must_use]
    pub fn dose(&self) -> Option<&DoseClaim> {
        self.doses.last()
    }
}

impl From<&CertificateFile> for Issuer {
    fn from(file: &CertificateFile) -> Issuer {
        Issuer {
            name: file.issuer.clone(),
            country: file.country.clone(),
            uri: file.uri.clone(),
            code: file.issuer_code.clone(),
        }
    }
}

impl From<&CertificateFile> for Disease {
    fn from(file: &CertificateFile) -> Disease {
        Disease { name: file.disease.clone().unwrap_or_default(), code: file.disease_code.clone() }
    }
}

impl From<&ProductFile> for ProductClaim {
    fn from(file: &ProductFile) -> ProductClaim {
        ProductClaim {
            id: file.id.clone(),
            name: file.name.clone(),
            manufacturer: file.manufacturer.clone(),
            codes: file.codes.clone(),
        }
    }
}

macro_rules! silent {
    ($($name:ident)*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        })*
    };
}

silent!(Claims Issuer Disease Holder DoseClaim ProductClaim Facility);
