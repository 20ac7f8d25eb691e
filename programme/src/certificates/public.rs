//! The keys by which certificates are verified, and the lists in which they are published.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::der;
use super::{CertificateId, CertificateKind};

/// A key that certificates of one kind are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Of which kind.
    pub kind: CertificateKind,
    /// What certificates call it: the first eight bytes of its certificate's SHA-256 as base64 for an EU certificate, its thumbprint (RFC
    /// 7638) for a SMART Health Card, a `did:key` for a Verifiable Credential.
    pub key_id: String,
    /// 32 bytes of Ed25519, or 65 of a point of P-256.
    pub(super) bytes: Vec<u8>,
    /// The signer's X.509 certificate, of EU keys.
    pub(super) certificate: Option<Vec<u8>>,
}

/// Why a text is no list of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyListError {
    /// It is no JSON, or not of the shape.
    #[error("is no list of keys: {{\"keys\": [...]}} as RFC 7517 has it")]
    Shape,
    /// One of its keys cannot be used.
    #[error("keys[{at}]: {why}")]
    Key {
        /// Which, from 0.
        at: usize,
        /// Why not.
        why: &'static str,
    },
}

impl PublicKey {
    /// A key for one kind; `None` if it is not of that kind's sort, or lacks its certificate.
    pub(super) fn new(kind: CertificateKind, bytes: &[u8], certificate: Option<Vec<u8>>) -> Option<PublicKey> {
        let key_id = match kind {
            CertificateKind::W3c if bytes.len() == 32 => did_key(bytes),
            CertificateKind::EuDcc => {
                let certificate = certificate.as_deref()?;
                if der::read(certificate)?.point != bytes {
                    return None;
                }
                STANDARD.encode(&Sha256::digest(certificate)[..8])
            }
            CertificateKind::SmartHealthCard if bytes.len() == 65 => thumbprint(bytes),
            _ => return None,
        };
        let certificate = certificate.filter(|_| kind == CertificateKind::EuDcc);
        Some(PublicKey { kind, key_id, bytes: bytes.to_vec(), certificate })
    }

    /// Whether the signature is of this key.
    #[must_use]
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn ring::signature::VerificationAlgorithm = match self.kind {
            CertificateKind::W3c => &ED25519,
            CertificateKind::EuDcc | CertificateKind::SmartHealthCard => &ECDSA_P256_SHA256_FIXED,
        };
        UnparsedPublicKey::new(algorithm, &self.bytes).verify(signed, signature).is_ok()
    }

    /// The signer's X.509 certificate as DER, of a key for EU certificates.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    fn jwk(&self) -> Value {
        if self.kind == CertificateKind::W3c {
            let x = URL_SAFE_NO_PAD.encode(&self.bytes);
            return json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.key_id, "x": x});
        }
        let (x, y) = coordinates(&self.bytes);
        let mut jwk =
            json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key_id, "x": x, "y": y});
        if let Some(certificate) = &self.certificate {
            jwk["x5c"] = json!([STANDARD.encode(certificate)]);
        }
        jwk
    }

    /// A key of a list. Its id must be the one that is derived from it, so that nobody trusts one key under the name of another.
    fn of_jwk(jwk: &Value) -> Result<PublicKey, &'static str> {
        let part = |name: &str| jwk[name].as_str().unwrap_or_default();
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(part(name)).map_err(|_| "x and y must be base64url");
        if jwk.get("d").is_some() {
            return Err("is a private key: it must not be in a list of public ones");
        }
        let (kind, bytes, certificate) = match (part("kty"), part("crv")) {
            ("OKP", "Ed25519") => (CertificateKind::W3c, bytes("x")?, None),
            ("EC", "P-256") => {
                let point = [vec![4], bytes("x")?, bytes("y")?].concat();
                let kind_of = |x5c: Option<&str>| match x5c {
                    None => Ok((CertificateKind::SmartHealthCard, None)),
                    Some(text) => STANDARD
                        .decode(text)
                        .map(|der| (CertificateKind::EuDcc, Some(der)))
                        .map_err(|_| "x5c must be base64"),
                };
                let (kind, certificate) = kind_of(jwk["x5c"][0].as_str())?;
                (kind, point, certificate)
            }
            _ => return Err("is of another sort: they are OKP with Ed25519 and EC with P-256"),
        };
        let key = PublicKey::new(kind, &bytes, certificate).ok_or("does not fit its parts or its x5c")?;
        if key.key_id == part("kid") { Ok(key) } else { Err("its kid is not derived from it") }
    }
}

/// Keys that are trusted. A retired key stays, as long as certificates that it signed are to verify.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicKeys {
    keys: BTreeMap<(CertificateKind, String), PublicKey>,
}

impl PublicKeys {
    /// From a list as [`PublicKeys::to_jwks`] writes it.
    ///
    /// # Errors
    /// It is none, or has a key that cannot be used.
    pub fn from_jwks(text: &str) -> Result<PublicKeys, KeyListError> {
        let list: Value = serde_json::from_str(text).map_err(|_| KeyListError::Shape)?;
        let mut keys = PublicKeys::default();
        for (at, jwk) in list["keys"].as_array().ok_or(KeyListError::Shape)?.iter().enumerate() {
            keys.add(PublicKey::of_jwk(jwk).map_err(|why| KeyListError::Key { at, why })?);
        }
        Ok(keys)
    }

    pub(super) fn add(&mut self, key: PublicKey) {
        self.keys.insert((key.kind, key.key_id.clone()), key);
    }

    pub(super) fn get(&self, kind: CertificateKind, key_id: &str) -> Option<&PublicKey> {
        self.keys.get(&(kind, key_id.to_owned()))
    }

    /// All of them, by kind.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.values()
    }

    fn of(&self, kind: CertificateKind) -> impl Iterator<Item = &PublicKey> {
        self.iter().filter(move |key| key.kind == kind)
    }

    /// All keys as a JSON Web Key Set (RFC 7517), those of EU certificates with their signer certificates (`x5c`): all that an offline
    /// verifier needs.
    #[must_use]
    pub fn to_jwks(&self) -> String {
        json!({"keys": self.iter().map(PublicKey::jwk).collect::<Vec<_>>()}).to_string()
    }

    /// The key set of SMART Health Cards, as it stands at `{issuer}/.well-known/jwks.json`: no other kind's keys, which some verifiers
    /// refuse. With a version, verifiers ask for the list of [`revoked_cards`], too, whenever it is another than theirs.
    #[must_use]
    pub fn smart_health_card_jwks(&self, revocations_version: Option<u64>) -> String {
        let keys = self.of(CertificateKind::SmartHealthCard).map(|key| {
            let mut jwk = key.jwk();
            if let Some(version) = revocations_version {
                jwk["crlVersion"] = version.into();
            }
            jwk
        });
        json!({"keys": keys.collect::<Vec<_>>()}).to_string()
    }

    /// The signer certificates of EU certificates as verifiers load them: `{"kid": [{"subjectPk": "...", "certificate": "..."}]}`, key and certificate as
    /// base64 of their DER.
    #[must_use]
    pub fn eu_signers(&self) -> String {
        let keys = self.of(CertificateKind::EuDcc).map(|key| {
            let certificate = STANDARD.encode(key.certificate().unwrap_or_default());
            let signer = json!([{"subjectPk": STANDARD.encode(der::spki(&key.bytes)), "certificate": certificate}]);
            (key.key_id.clone(), signer)
        });
        Value::Object(keys.collect()).to_string()
    }

    /// The DID documents of Verifiable Credentials' keys, which a verifier that knows `did:key` makes by itself.
    #[must_use]
    pub fn did_documents(&self) -> String {
        let documents = self.of(CertificateKind::W3c).map(|key| {
            let did = key.key_id.split('#').next().unwrap_or_default();
            let method = json!({
                "id": key.key_id, "type": "Ed25519VerificationKey2018", "controller": did, "publicKeyBase58": base58(&key.bytes),
            });
            json!({
                "@context": ["https://www.w3.org/ns/did/v1"], "id": did, "verificationMethod": [method], "assertionMethod": [key.key_id],
            })
        });
        Value::Array(documents.collect()).to_string()
    }
}

/// The cards of one key that were revoked, as it stands at `{issuer}/.well-known/crl/{kid}.json`. The version grows with the list.
#[must_use]
pub fn revoked_cards<'a>(key_id: &str, version: u64, ids: impl IntoIterator<Item = &'a CertificateId>) -> String {
    let ids: Vec<&str> = ids.into_iter().map(CertificateId::as_str).collect();
    json!({"kid": key_id, "method": "rid", "ctr": version, "rids": ids}).to_string()
}

/// The two coordinates of a point, as base64url.
fn coordinates(point: &[u8]) -> (String, String) {
    let half = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
    (half(1..33), half(33..65))
}

/// The SHA-256 of a key's members in their order (RFC 7638), as base64url.
fn thumbprint(point: &[u8]) -> String {
    let (x, y) = coordinates(point);
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}

/// The verification method of an Ed25519 key, which every resolver of `did:key` knows without asking anybody.
fn did_key(bytes: &[u8]) -> String {
    let name = base58(&[&[0xed, 0x01], bytes].concat());
    format!("did:key:z{name}#z{name}")
}

/// Bitcoin's base 58.
fn base58(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut digits: Vec<u32> = Vec::new();
    for &byte in bytes {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += *digit << 8;
            *digit = carry % 58;
            carry /= 58;
        }
        while carry > 0 {
            digits.push(carry % 58);
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = digits.iter().rev().map(|digit| char::from(ALPHABET[*digit as usize]));
    std::iter::repeat_n('1', zeros).chain(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_that_of_the_specification() {
        // The key of the SMART Health Cards framework's examples.
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let (x, y) = ("11XvRWy1I2S0EyJlyf_bWfw_TQ5CJJNLw78bHXNxcgw", "eZXwxvO1hvCY0KucrPfKo7yAyMT6Ajc3N7OkAB6VYy8");
        let point = [vec![4], part(x), part(y)].concat();
        assert_eq!(thumbprint(&point), "3Kfdg-XwP-7gXyywtUfUADwBumDOPKMQx-iELL11W9s");
    }

    #[test]
    fn a_list_of_revoked_cards_is_that_of_the_specification() {
        let ids: Vec<CertificateId> = vec!["A1".parse().unwrap(), "B2".parse().unwrap()];
        let list: Value = serde_json::from_str(&revoked_cards("kid", 7, &ids)).unwrap();
        assert_eq!(list, json!({"kid": "kid", "method": "rid", "ctr": 7, "rids": ["A1", "B2"]}));
        let key = PublicKey::new(CertificateKind::SmartHealthCard, &[4; 65], None).unwrap();
        let mut keys = PublicKeys::default();
        keys.add(key);
        assert!(!keys.smart_health_card_jwks(None).contains("crlVersion"));
        assert!(keys.smart_health_card_jwks(Some(7)).contains(r#""crlVersion":7"#));
    }

    #[test]
    fn a_did_is_that_of_the_specification() {
        // The first of the `did:key` specification's Ed25519 vectors.
        assert_eq!(base58(b"Hello World!"), "2NEpo7TZRRrLZSi2U");
        assert_eq!(base58(&[0, 0, 1]), "112");
        let bytes = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29";
        let byte = |at: usize| u8::from_str_radix(&bytes[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..64).step_by(2).map(byte).collect();
        let name = "z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp";
        assert_eq!(did_key(&bytes), format!("did:key:{name}#{name}"));
    }
}
