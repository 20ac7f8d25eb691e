//! What the configuration says of certificates: where the keys lie that sign them.

use std::path::PathBuf;

use berth_programme::certificates::{CertificateKind, KeyRing, SigningKey, key_files};
use berth_programme::file::ProgrammeFile;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::Faults;

/// Certificates. docs/certificates.md tells more.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificatesEntry {
    /// Where the keys lie that sign them, as `berth certificate keygen` makes them; taken up again when `keys.toml` changes, and on SIGHUP.
    /// Required.
    pub(crate) keys_dir: Option<PathBuf>,
}

impl Faults {
    pub(super) fn certificates(&mut self, entry: CertificatesEntry) -> Option<PathBuf> {
        let dir = self.required("certificates.keys_dir", entry.keys_dir)?;
        if let Err(error) = key_files::load(&dir) {
            self.push("certificates.keys_dir", error.to_string());
        }
        Some(dir)
    }
}

/// A key that ends so soon, and has none behind it, is told of.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What of it is no fault, and keeps certificates from being signed, or from being verified by others. `keys`: none, where nothing is said of them.
pub(crate) fn warnings(
    file: &ProgrammeFile,
    keys: Option<&KeyRing>,
    public_url: Option<&str>,
    now: Timestamp,
) -> Vec<String> {
    let certificate = file.certificate.as_ref().filter(|certificate| !certificate.kinds.is_empty());
    let (certificate, keys) = match (certificate, keys) {
        (None, None) => return Vec::new(),
        (None, Some(_)) => {
            let told = "certificates.keys_dir: the programme issues none: its file has no [certificate] with kinds";
            return vec![told.to_owned()];
        }
        (Some(certificate), None) => {
            let kinds: Vec<&str> = certificate.kinds.iter().map(|kind| kind.name()).collect();
            let kinds = kinds.join(", ");
            return vec![format!(
                "certificates.keys_dir: is not set, and the programme issues {kinds}: none is signed"
            )];
        }
        (Some(certificate), Some(keys)) => (certificate, keys),
    };
    let mut warnings: Vec<String> =
        certificate.kinds.iter().filter_map(|kind| of_key(*kind, keys, certificate.valid_days, now)).collect();
    let address = certificate.uri.trim_end_matches('/');
    if certificate.kinds.contains(&CertificateKind::SmartHealthCard) && public_url != Some(address) {
        let here = public_url.map_or("which is not set".to_owned(), |url| format!("which is {url}"));
        warnings.push(format!(
            "public_url: verifiers of SMART Health Cards look for their keys at {address}/.well-known/jwks.json, by certificate.uri of the \
             programme: they find them only if that leads to public_url, {here}"
        ));
    }
    warnings
}

/// What is to be said of the key that signs this kind.
fn of_key(kind: CertificateKind, keys: &KeyRing, valid_days: u16, now: Timestamp) -> Option<String> {
    let Some(key) = keys.active(kind, now) else {
        return Some(format!("certificates.keys_dir: no key in it signs {kind} now, and the programme issues it"));
    };
    let (id, end) = (&key.public().key_id, key.not_after());
    if let Some(end) = end.filter(|end| now + SOON > *end && keys.active(kind, *end).is_none()) {
        return Some(format!(
            "certificates.keys_dir: key {id} of {kind} signs until {end}, and none behind it: `berth certificate keygen --from` makes the next"
        ));
    }
    let valid = SignedDuration::from_hours(24 * i64::from(valid_days));
    let certified = key.certified_until().filter(|until| now + valid > *until && next(kind, keys, key).is_none())?;
    Some(format!(
        "certificates.keys_dir: the X.509 certificate of key {id} of {kind} ends on {certified}, and so does what it signs, before the \
         {valid_days} days that the programme says"
    ))
}

/// The key that takes over from this one.
fn next<'k>(kind: CertificateKind, keys: &'k KeyRing, key: &SigningKey) -> Option<&'k SigningKey> {
    keys.signing().iter().find(|other| other.public().kind == kind && other.not_before() > key.not_before())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use berth_programme::certificates::key_files::NewKey;

    use super::*;

    const NOW: &str = "2026-11-27T10:00:00Z";

    fn programme(kinds: &str) -> ProgrammeFile {
        let text = include_str!("../../../programmes/india-2021.toml");
        ProgrammeFile::parse(&text.replace("kinds = [\"w3c\", \"eu_dcc\"]", &format!("kinds = [{kinds}]"))).unwrap()
    }

    fn make(dir: &Path, kind: CertificateKind, name: &str, from: &str, to: &str, certified: &str) {
        let (not_before, not_after) = (from.parse().unwrap(), to.parse().unwrap());
        let certified_until = certified.parse().unwrap();
        let new = NewKey { kind, name, not_before, not_after, certified_until, country: "IN", issuer: "Ministry" };
        key_files::make(dir, &new).unwrap();
    }

    fn warned(kinds: &str, dir: Option<&Path>, public_url: Option<&str>) -> Vec<String> {
        let keys = dir.map(|dir| key_files::load(dir).unwrap());
        warnings(&programme(kinds), keys.as_ref(), public_url, NOW.parse().unwrap())
    }

    fn told(warnings: &[String], wanted: &[&str]) {
        assert_eq!(warnings.len(), wanted.len(), "{warnings:?}");
        for (warning, wanted) in warnings.iter().zip(wanted) {
            assert!(warning.contains(wanted), "{wanted} in {warning}");
        }
    }

    #[test]
    fn what_keeps_certificates_from_being_signed_or_found_is_warned_of() {
        let (w3c, card, eu) = (CertificateKind::W3c, CertificateKind::SmartHealthCard, CertificateKind::EuDcc);
        told(&warned("", None, None), &[]);
        told(&warned("\"w3c\", \"eu_dcc\"", None, None), &["is not set, and the programme issues w3c, eu_dcc"]);
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (begun, later, long) = ("2026-01-01T00:00:00Z", "2027-06-01T00:00:00Z", "2030-01-01T00:00:00Z");
        make(dir, w3c, "a", begun, later, later);
        told(&warned("", Some(dir), None), &["no [certificate] with kinds"]);
        told(&warned("\"w3c\"", Some(dir), None), &[]);
        told(&warned("\"w3c\", \"eu_dcc\"", Some(dir), None), &["no key in it signs eu_dcc now"]);
        // One that only begins signs nothing now.
        make(dir, eu, "early", later, long, long);
        told(&warned("\"eu_dcc\"", Some(dir), None), &["no key in it signs eu_dcc now"]);
        // One that ends soon is told of until there is one behind it.
        make(dir, eu, "soon", begun, "2026-12-20T00:00:00Z", long);
        told(&warned("\"eu_dcc\"", Some(dir), None), &["signs until 2026-12-20T00:00:00Z"]);
        make(dir, eu, "behind", "2026-12-10T00:00:00Z", long, long);
        told(&warned("\"eu_dcc\"", Some(dir), None), &[]);
        // Cards are verified with keys that are found at the issuer's address.
        make(dir, card, "card", begun, long, long);
        let card = "\"smart_health_card\"";
        told(&warned(card, Some(dir), None), &["https://www.mohfw.gov.in/.well-known/jwks.json"]);
        told(&warned(card, Some(dir), Some("https://other.example.org")), &["which is https://other.example.org"]);
        told(&warned(card, Some(dir), Some("https://www.mohfw.gov.in")), &[]);
    }

    #[test]
    fn a_signer_whose_certificate_ends_before_what_it_signs_is_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let eu = CertificateKind::EuDcc;
        make(dir.path(), eu, "a", "2026-01-01T00:00:00Z", "2027-06-01T00:00:00Z", "2027-07-01T00:00:00Z");
        told(&warned("\"eu_dcc\"", Some(dir.path()), None), &["ends on 2027-07-01T00:00:00Z"]);
    }
}
