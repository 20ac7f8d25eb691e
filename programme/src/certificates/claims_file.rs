//! Claims as a platform writes them down: JSON of what is the person's and the doses'. The rest the programme file says.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::Deserialize;

use super::claims::{Claims, Disease, DoseClaim, Facility, Holder, Issuer, ProductClaim};
use super::id::CertificateId;
use crate::file::{KeyFault, ProgrammeFile};
use crate::people::Born;

/// Characters of a text about somebody at most: what is longer fits no code, and nobody is called so.
const TEXT_LEN_MAX: usize = 200;

/// What is to stand in a certificate. Of a person, so it does not print itself.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimsFile {
    /// Absent: drawn at random.
    pub id: Option<String>,
    /// Absent: now.
    pub issued_at: Option<Timestamp>,
    /// Absent: `valid_days` of the programme after it was issued.
    pub expires_at: Option<Timestamp>,
    /// Of whom.
    pub holder: HolderFile,
    /// The oldest first.
    pub doses: Vec<DoseFile>,
}

/// See [`Holder`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HolderFile {
    #[serde(default)]
    reference: String,
    name: String,
    born: String,
    sex: Option<String>,
    document: Option<String>,
    nationality: Option<String>,
    district: Option<String>,
    state: Option<String>,
    pincode: Option<String>,
}

/// See [`DoseClaim`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoseFile {
    product: String,
    number: u8,
    /// Absent: as many as the product's course has.
    of: Option<u8>,
    given_on: Date,
    batch: Option<String>,
    facility: FacilityFile,
    vaccinator: Option<String>,
}

/// See [`Facility`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FacilityFile {
    name: String,
    district: Option<String>,
    state: Option<String>,
    pincode: Option<String>,
    /// Absent: the issuer's.
    country: Option<String>,
}

impl ClaimsFile {
    /// The claims, with what the programme says of issuer, disease and products.
    ///
    /// # Errors
    /// What is wrong, by its key. Nothing of the person is in it.
    pub fn claims(self, programme: &ProgrammeFile, now: Timestamp) -> Result<Claims, KeyFault> {
        let fault = |key: &str, reason: String| KeyFault { key: key.to_owned(), reason };
        let certificate = programme.certificate.as_ref();
        let certificate =
            certificate.ok_or_else(|| fault("certificate", "is missing in the programme file".to_owned()))?;
        let id = match self.id {
            Some(id) => id.parse::<CertificateId>().map_err(|error| fault("id", error.to_string()))?,
            None => CertificateId::random().map_err(|error| fault("id", error.to_string()))?,
        };
        let issued_at = self.issued_at.unwrap_or(now);
        let days = || TimeZone::UTC.to_datetime(issued_at).checked_add(i64::from(certificate.valid_days).days());
        let expires_at = match self.expires_at {
            Some(at) => at,
            None => days()
                .and_then(|end| TimeZone::UTC.to_timestamp(end))
                .map_err(|_| fault("expires_at", "is beyond the calendar".to_owned()))?,
        };
        let holder = self.holder.holder(TimeZone::UTC.to_datetime(issued_at).date())?;
        let dose = |(at, dose): (usize, DoseFile)| {
            let DoseFile { product: id, number, of, given_on, batch, facility, vaccinator } = dose;
            let product = programme.products.iter().find(|product| product.id == id);
            let product = product.ok_or_else(|| {
                fault(&format!("doses[{at}].product"), format!("{id:?} is no product of the programme"))
            })?;
            let of = of.unwrap_or(product.doses);
            if number == 0 || number > of {
                return Err(fault(&format!("doses[{at}].number"), format!("must be from 1 to {of}")));
            }
            let FacilityFile { name, district, state, pincode, country } = facility;
            let country = country.unwrap_or_else(|| certificate.country.clone());
            let facility = Facility { name, district, state, pincode, country };
            Ok(DoseClaim { number, of, given_on, product: ProductClaim::from(product), batch, facility, vaccinator })
        };
        let doses = self.doses.into_iter().enumerate().map(dose).collect::<Result<_, _>>()?;
        let (issuer, disease) = (Issuer::from(certificate), Disease::from(certificate));
        Ok(Claims { id, issued_at, expires_at, issuer, disease, holder, doses })
    }
}

impl HolderFile {
    /// Whom it is of, said on this day.
    ///
    /// # Errors
    /// What is wrong, by its key. Nothing of the person is in it.
    pub fn holder(self, today: Date) -> Result<Holder, KeyFault> {
        let fault = |key: &str, reason: &str| KeyFault { key: format!("holder.{key}"), reason: reason.to_owned() };
        let HolderFile { reference, name, born, sex, document, nationality, district, state, pincode } = self;
        if name.trim().is_empty() {
            return Err(fault("name", "must not be empty"));
        }
        let texts = [("reference", Some(&reference)), ("name", Some(&name)), ("sex", sex.as_ref())].into_iter();
        let texts = texts.chain([("document", document.as_ref()), ("nationality", nationality.as_ref())]);
        let texts = texts.chain([("district", district.as_ref()), ("state", state.as_ref())]);
        for (key, text) in texts.chain([("pincode", pincode.as_ref())]) {
            if text.is_some_and(|text| text.chars().count() > TEXT_LEN_MAX) {
                return Err(fault(key, "must be at most 200 characters"));
            }
        }
        let born = Born::parse(&born).filter(|born| born.is_past(today));
        let born = born.ok_or_else(|| fault("born", "must be YYYY-MM-DD or YYYY, and not in the future"))?;
        Ok(Holder { reference, name, born, sex, document, nationality, district, state, pincode })
    }
}

impl fmt::Debug for ClaimsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimsFile(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDIA: &str = include_str!("../../../programmes/india-2021.toml");

    fn claims(json: &str) -> Result<Claims, String> {
        let programme = ProgrammeFile::parse(INDIA).unwrap();
        let file: ClaimsFile = serde_json::from_str(json).map_err(|error| error.to_string())?;
        file.claims(&programme, "2026-11-27T10:00:00Z".parse().unwrap()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_is_not_said_is_the_programmes() {
        let dose = r#"{"product": "covaxin", "number": 2, "given_on": "2021-05-01", "facility": {"name": "F"}}"#;
        let short = claims(&format!(r#"{{"holder": {{"name": "A", "born": "1970"}}, "doses": [{dose}]}}"#)).unwrap();
        assert_eq!((short.issuer.country.as_str(), short.disease.name.as_str()), ("IN", "COVID-19"));
        assert_eq!(short.expires_at.to_string(), "2027-11-27T10:00:00Z");
        let dose = short.dose().unwrap();
        assert_eq!((dose.of, dose.facility.country.as_str(), dose.product.name.as_str()), (2, "IN", "Covaxin"));
        assert_eq!(dose.product.codes.eu_holder.as_deref(), Some("Bharat-Biotech"));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_key() {
        let told = |id: &str, born: &str, product: &str, number: u8| {
            let dose = format!(
                r#"{{"product": "{product}", "number": {number}, "given_on": "2021-05-01", "facility": {{"name": "F"}}}}"#
            );
            let holder = format!(r#"{{"name": "Asha", "born": "{born}"}}"#);
            claims(&format!(r#"{{"id": "{id}", "holder": {holder}, "doses": [{dose}]}}"#)).unwrap_err()
        };
        assert_eq!(told("a b", "1970", "covaxin", 1), "id: is no certificate id: 1 to 24 of A-Z 0-9");
        let born = "holder.born: must be YYYY-MM-DD or YYYY, and not in the future";
        for future in ["70", "2027", "2026-11-28"] {
            assert_eq!(told("A", future, "covaxin", 1), born);
        }
        assert!(!told("A", "2026-11-27", "x", 1).starts_with("holder"), "born on the day");
        assert_eq!(told("A", "1970", "x", 1), "doses[0].product: \"x\" is no product of the programme");
        assert_eq!(told("A", "1970", "covaxin", 3), "doses[0].number: must be from 1 to 2");
        let long = |key: &str, len: usize| {
            let holder = format!(r#"{{"name": "A", "born": "1970", "{key}": "{}"}}"#, "é".repeat(len));
            claims(&format!(r#"{{"holder": {holder}, "doses": []}}"#))
        };
        for key in ["reference", "sex", "document", "nationality", "district", "state", "pincode"] {
            assert!(long(key, 200).is_ok(), "{key}");
            assert_eq!(long(key, 201).err(), Some(format!("holder.{key}: must be at most 200 characters")));
        }
        let named = format!(r#"{{"holder": {{"name": "{}", "born": "1970"}}, "doses": []}}"#, "A".repeat(201));
        assert_eq!(claims(&named).err().as_deref(), Some("holder.name: must be at most 200 characters"));
        assert!(claims(r#"{"holder": {"name": "Asha", "born": "1970", "phone": "1"}, "doses": []}"#).is_err());
    }
}
