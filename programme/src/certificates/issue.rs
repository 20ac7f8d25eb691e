//! A certificate made from what it is to say.

use super::claims::{Claims, DoseClaim};
use super::qr::{Payload, Qr, TooLong};
use super::{CertificateKind, IssueError, Issued, KeyRing, dcc, shc, vc, zip};

/// Makes a certificate of this kind, signed by the key that is active when it is issued.
///
/// # Errors
/// No key signs that kind then, or what the format needs is missing or has no place in it. Nothing is left out in silence but earlier
/// doses of a SMART Health Card, and what a name has over 80 characters in an EU certificate.
pub fn issue(kind: CertificateKind, claims: &Claims, keys: &KeyRing) -> Result<Issued, IssueError> {
    check(kind, claims)?;
    let at = claims.issued_at;
    let key = keys.active(kind, at).ok_or(IssueError::NoKey { kind, at })?;
    let text = match kind {
        CertificateKind::W3c => vc::issue(claims, key)?,
        CertificateKind::EuDcc => dcc::issue(claims, key)?,
        CertificateKind::SmartHealthCard => shc::issue(claims, key)?,
    };
    Ok(Issued { kind, id: claims.id.clone(), key_id: key.public().key_id.clone(), text })
}

impl Issued {
    /// What its QR image holds: the text itself, or of a Verifiable Credential a ZIP archive with it as `certificate.json`.
    #[must_use]
    pub fn qr_payload(&self) -> Vec<u8> {
        qr_payload(self.kind, &self.text)
    }

    /// Its QR image, in the segments and at the level that readers of its kind expect.
    ///
    /// # Errors
    /// It does not fit one.
    pub fn qr(&self) -> Result<Qr, TooLong> {
        match self.kind {
            CertificateKind::EuDcc => Qr::of(Payload::EuDcc(&self.text)),
            CertificateKind::SmartHealthCard => Qr::of(Payload::SmartHealthCard(&self.text)),
            CertificateKind::W3c => Qr::of(Payload::Bytes(&self.qr_payload())),
        }
    }
}

/// What the QR image of a certificate holds that was issued before and is still at hand as text.
#[must_use]
pub fn qr_payload(kind: CertificateKind, text: &str) -> Vec<u8> {
    match kind {
        CertificateKind::W3c => zip::pack(text),
        CertificateKind::EuDcc | CertificateKind::SmartHealthCard => text.as_bytes().to_vec(),
    }
}

/// What no format can say.
fn check(kind: CertificateKind, claims: &Claims) -> Result<(), IssueError> {
    let unfit = |what| Err(IssueError::Unfit { kind, what });
    let holder = &claims.holder;
    if holder.name.trim().is_empty() {
        return Err(IssueError::Missing { kind, what: "the holder's name" });
    }
    if claims.expires_at.as_second() <= claims.issued_at.as_second() {
        return unfit("an end that is not after the beginning");
    }
    // An address stands in places where nothing is escaped.
    if claims.issuer.uri.bytes().any(|byte| !byte.is_ascii_graphic() || b"\"<>\\^`{|}#".contains(&byte)) {
        return unfit("such an address of the issuer");
    }
    let mut texts =
        vec![&holder.reference, &holder.name, &claims.issuer.name, &claims.issuer.country, &claims.disease.name];
    texts.extend(
        [&holder.sex, &holder.document, &holder.nationality, &holder.district, &holder.state, &holder.pincode]
            .into_iter()
            .flatten(),
    );
    for DoseClaim { product, batch, facility, vaccinator, .. } in &claims.doses {
        texts.extend([&product.name, &facility.name, &facility.country]);
        let optional =
            [&product.manufacturer, batch, &facility.district, &facility.state, &facility.pincode, vaccinator];
        texts.extend(optional.into_iter().flatten());
    }
    if texts.iter().any(|text| text.chars().any(char::is_control)) { unfit("control characters") } else { Ok(()) }
}
