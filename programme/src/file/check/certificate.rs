//! The faults of what the file says of certificates.

use super::{Checker, is_capitals};
use crate::certificates::CertificateKind;
use crate::file::ProductCodes;

const VALID_DAYS_MAX: u64 = 3650;
/// An EU certificate counts doses to this.
const EU_DOSES_MAX: u8 = 9;
/// The longest code of the EU's value sets and of an EU certificate's fields.
const CODE_LEN_MAX: usize = 50;
/// The longest issuer of an EU certificate.
const EU_ISSUER_CHARS_MAX: usize = 80;

impl Checker<'_> {
    pub(super) fn maker_and_codes(&mut self, key: &str, manufacturer: Option<&str>, codes: &ProductCodes) {
        if let Some(manufacturer) = manufacturer {
            self.title(format!("{key}.manufacturer"), manufacturer);
        }
        self.code(&format!("{key}.codes.cvx"), codes.cvx.as_deref(), 3, |b| b.is_ascii_digit());
        for (name, code) in
            [("eu_vaccine", &codes.eu_vaccine), ("eu_product", &codes.eu_product), ("eu_holder", &codes.eu_holder)]
        {
            self.code(&format!("{key}.codes.{name}"), code.as_deref(), CODE_LEN_MAX, |b| b.is_ascii_graphic());
        }
    }

    pub(super) fn certificate(&mut self) {
        let file = self.file;
        let Some(certificate) = &file.certificate else { return };
        self.title("certificate.issuer".to_owned(), &certificate.issuer);
        self.names("certificate.names", &certificate.names);
        if !is_address(&certificate.uri) {
            self.fault("certificate.uri", format!("must be an https address, is {:?}", certificate.uri));
        }
        if !is_capitals(&certificate.country, 2) {
            let reason = format!("must be two capital letters, as IN, is {:?}", certificate.country);
            self.fault("certificate.country", reason);
        }
        self.within("certificate.valid_days", certificate.valid_days, 1, VALID_DAYS_MAX);
        if let Some(disease) = &certificate.disease {
            self.title("certificate.disease".to_owned(), disease);
        }
        self.code("certificate.disease_code", certificate.disease_code.as_deref(), 18, |b| b.is_ascii_digit());
        self.code("certificate.issuer_code", certificate.issuer_code.as_deref(), 20, |b| {
            b.is_ascii_uppercase() || b.is_ascii_digit()
        });
        for (i, kind) in certificate.kinds.iter().enumerate() {
            if certificate.kinds[..i].contains(kind) {
                self.fault(format!("certificate.kinds[{i}]"), format!("{kind} stands twice"));
            }
        }
        if !certificate.kinds.is_empty() && certificate.disease.is_none() {
            self.fault("certificate.disease", "is missing: a certificate says against what");
        }
        if certificate.kinds.contains(&CertificateKind::EuDcc) {
            if certificate.disease_code.is_none() {
                self.fault("certificate.disease_code", "is missing, and certificate.kinds has eu_dcc");
            }
            if certificate.issuer.chars().count() > EU_ISSUER_CHARS_MAX {
                let reason =
                    format!("must be at most {EU_ISSUER_CHARS_MAX} characters, for certificate.kinds has eu_dcc");
                self.fault("certificate.issuer", reason);
            }
        }
        for &kind in &certificate.kinds {
            self.products_have_codes(kind);
        }
    }

    /// Whether each product has what a certificate of this kind says of it.
    fn products_have_codes(&mut self, kind: CertificateKind) {
        let file = self.file;
        for (i, product) in file.products.iter().enumerate() {
            let key = format!("products[{i}]");
            let codes = &product.codes;
            let needed: &[(&str, bool)] = match kind {
                CertificateKind::W3c => &[("manufacturer", product.manufacturer.is_some())],
                CertificateKind::EuDcc => &[
                    ("codes.eu_vaccine", codes.eu_vaccine.is_some()),
                    ("codes.eu_product", codes.eu_product.is_some()),
                    ("codes.eu_holder", codes.eu_holder.is_some()),
                ],
                CertificateKind::SmartHealthCard => &[("codes.cvx", codes.cvx.is_some())],
            };
            for (name, _) in needed.iter().filter(|(_, there)| !there) {
                self.fault(format!("{key}.{name}"), format!("is missing, and certificate.kinds has {kind}"));
            }
            if kind == CertificateKind::EuDcc && product.doses > EU_DOSES_MAX {
                self.fault(
                    format!("{key}.doses"),
                    format!("must be at most {EU_DOSES_MAX}, for certificate.kinds has {kind}"),
                );
            }
        }
    }

    fn code(&mut self, key: &str, code: Option<&str>, len_max: usize, of: fn(&u8) -> bool) {
        let Some(code) = code else { return };
        if !(1..=len_max).contains(&code.len()) || !code.as_bytes().iter().all(of) {
            self.fault(key, format!("is no such code: {code:?}"));
        }
    }
}

/// An address whose certificate says who answers there; on this machine one without will do. Nothing in it needs escaping, wherever a
/// certificate puts it.
fn is_address(uri: &str) -> bool {
    let host = match (uri.strip_prefix("https://"), uri.strip_prefix("http://")) {
        (Some(host), _) => host,
        (None, Some(host)) if ["127.0.0.1", "localhost", "[::1]"].iter().any(|here| is_host(host, here)) => host,
        _ => return false,
    };
    !host.is_empty()
        && !host.starts_with('/')
        && uri.len() <= 200
        && uri.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}#?".contains(&b))
}

fn is_host(rest: &str, host: &str) -> bool {
    rest.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::ProgrammeFile;

    fn faults(certificate: &str, product: &str) -> Vec<String> {
        let text = format!(
            "name = \"P\"\ntime_zone = \"Asia/Kolkata\"\nhold_seconds = 60\ngroup_claims_max = 4\n\
             booking_horizon_days = 28\nbooking_cutoff_minutes = 0\ncancel_cutoff_minutes = 0\n\
             certificate = {{ issuer = \"I\", uri = \"https://x.example\", country = \"IN\", {certificate} }}\n\
             [[products]]\nid = \"a\"\nname = \"A\"\n{product}\n[[pools]]\nid = \"p\"\nname = \"P\"\n"
        );
        let faults = ProgrammeFile::parse(&text).unwrap().validate().err().unwrap_or_default();
        faults.into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn a_kind_needs_what_it_says_of_a_product() {
        let disease = "disease = \"D\", disease_code = \"840539006\"";
        assert_eq!(faults("", ""), [""; 0], "no certificates need no codes");
        assert_eq!(
            faults("kinds = [\"w3c\", \"eu_dcc\", \"smart_health_card\"]", ""),
            [
                "certificate.disease",
                "certificate.disease_code",
                "products[0].manufacturer",
                "products[0].codes.eu_vaccine",
                "products[0].codes.eu_product",
                "products[0].codes.eu_holder",
                "products[0].codes.cvx"
            ]
        );
        let all = "manufacturer = \"M\"\ncodes = { cvx = \"208\", eu_vaccine = \"J07BX03\", eu_product = \"EU/1/20/1528\", eu_holder = \"ORG-1\" }";
        let kinds = format!("{disease}, kinds = [\"w3c\", \"eu_dcc\", \"smart_health_card\"]");
        assert_eq!(faults(&kinds, all), [""; 0]);
        assert_eq!(faults(&kinds, &format!("{all}\ndoses = 10")), ["products[0].doses"]);
    }

    #[test]
    fn a_code_is_looked_at_whatever_is_issued() {
        let wrong = "manufacturer = \"\"\ncodes = { cvx = \"2O8\", eu_vaccine = \"\", eu_product = \"E U\", eu_holder = \"é\" }";
        assert_eq!(
            faults("kinds = [], valid_days = 0, disease = \"\", disease_code = \"x\", issuer_code = \"cnam\"", wrong),
            [
                "products[0].manufacturer",
                "products[0].codes.cvx",
                "products[0].codes.eu_vaccine",
                "products[0].codes.eu_product",
                "products[0].codes.eu_holder",
                "certificate.valid_days",
                "certificate.disease",
                "certificate.disease_code",
                "certificate.issuer_code"
            ]
        );
        let twice = "kinds = [\"w3c\", \"w3c\"], disease = \"D\"";
        assert_eq!(faults(twice, "manufacturer = \"M\""), ["certificate.kinds[1]"]);
    }

    #[test]
    fn an_address_says_who_answers_there() {
        for good in ["https://x.example", "https://x.example/a/", "http://127.0.0.1:8080", "http://localhost/x"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "http://x.example",
            "http://127.0.0.1.example",
            "https://",
            "https:///x",
            "ftp://x",
            "https://x y",
            "https://x.example/#a",
            "https://x.example/\"",
            "https://é.example",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
