//! A certificate that somebody shows: what it is, whether it is true, and whether it still holds.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::opened::Opened;
use super::{PublicKeys, Refused, Revocations, Verified, dcc, inflate, shc, vc, zip};

/// Clocks at doors are not those of issuers: so much earlier than its beginning a certificate is taken.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Verifies a certificate in any of its forms: `HC1:...`, `shc:/...`, a JWS, a `.smart-health-card` file, the JSON of a Verifiable
/// Credential, or the ZIP archive of its QR image.
///
/// # Errors
/// Why it is not taken. All is looked at in the order of [`Refused`], so that what was changed is never called merely expired.
// rule: CRT-1
pub fn verify(
    input: &[u8],
    keys: &PublicKeys,
    revocations: &dyn Revocations,
    now: Timestamp,
) -> Result<Verified, Refused> {
    let Opened { kind, key_id, signed, signature, verified } = open(input)?;
    let Some(key) = keys.get(kind, &key_id) else { return Err(Refused::UnknownKey { key_id }) };
    if !key.verifies(&signed, &signature) {
        return Err(Refused::BadSignature);
    }
    // rule: CRT-2
    if revocations.is_revoked(&verified.id) {
        return Err(Refused::Revoked { id: verified.id });
    }
    if now.checked_add(SKEW).is_ok_and(|now| now < verified.issued_at) {
        return Err(Refused::NotYetValid { from: verified.issued_at });
    }
    match verified.expires_at {
        Some(at) if at <= now => Err(Refused::Expired { at }),
        _ => Ok(verified),
    }
}

/// A file of SMART Health Cards.
#[derive(Deserialize)]
struct CardFile {
    #[serde(rename = "verifiableCredential")]
    cards: Vec<String>,
}

/// What stands in a certificate, by how it begins. Whatever the bytes are, it costs no more than a certificate does.
// rule: CRT-4
fn open(input: &[u8]) -> Result<Opened, Refused> {
    if input.len() > inflate::BYTES_MAX {
        return Err(Refused::Malformed("is longer than a certificate"));
    }
    if zip::is_one(input) {
        let text = zip::unpack(input).ok_or(Refused::Malformed("is no ZIP archive with certificate.json alone"))?;
        return vc::open(&text);
    }
    let text = str::from_utf8(input).map_err(|_| Refused::Malformed("is no text"))?.trim();
    if text.starts_with(dcc::PREFIX) {
        dcc::open(text)
    } else if text.starts_with("shc:") {
        shc::open(&shc::jws(text)?)
    } else if text.starts_with('{') {
        match serde_json::from_str::<CardFile>(text) {
            Ok(CardFile { cards }) => match cards.as_slice() {
                [card] => shc::open(card),
                _ => Err(Refused::Malformed("has several cards: verify one at a time")),
            },
            Err(_) => vc::open(text.as_bytes()),
        }
    } else if text.starts_with("eyJ") {
        shc::open(text)
    } else {
        Err(Refused::Malformed("begins as none does"))
    }
}
