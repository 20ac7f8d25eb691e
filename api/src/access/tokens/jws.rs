//! A signed token as bytes: taken apart, and its signature held against a public key (RFC 7515, compact form).
//!
//! There are two algorithms here and no others, and which one it is comes from the key, never from the token: a token that
//! says `none`, or `HS256` with our public key as the secret, meets no code that would believe it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use serde::Deserialize;

/// The header's members that matter; others are ignored, as the RFC wants.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// Extensions that must be understood. None is.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// A token taken apart. Nothing in it is to be believed before [`Parts::is_signed_by`].
#[derive(Debug)]
pub(super) struct Parts<'t> {
    pub(super) header: Header,
    /// The claims, as JSON.
    pub(super) claims: Vec<u8>,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Parts<'t> {
    /// `None` if it is no signed token in compact form, or has extensions that must be understood.
    pub(super) fn of(token: &'t str) -> Option<Parts<'t>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        if header.crit.is_some() {
            return None;
        }
        Some(Parts { header, claims: decode(claims)?, signed, signature: decode(signature)? })
    }

    /// Whether whoever has the private half of `key` has signed it.
    pub(super) fn is_signed_by(&self, key: &PublicKey) -> bool {
        let signed = self.signed.as_bytes();
        match key {
            PublicKey::Ed25519(bytes) => UnparsedPublicKey::new(&ED25519, bytes).verify(signed, &self.signature),
            PublicKey::P256(bytes) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).verify(signed, &self.signature)
            }
        }
        .is_ok()
    }
}

/// Who signs tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublicKey {
    Ed25519([u8; 32]),
    /// The point, uncompressed.
    P256([u8; 65]),
}

impl PublicKey {
    /// Whether `alg` names the algorithm of this key.
    pub(super) fn is_for(&self, alg: &str) -> bool {
        match self {
            // RFC 9864 gives EdDSA with this curve a name of its own.
            PublicKey::Ed25519(_) => matches!(alg, "EdDSA" | "Ed25519"),
            PublicKey::P256(_) => alg == "ES256",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        URL_SAFE_NO_PAD.decode(text).unwrap().try_into().unwrap()
    }

    /// Appendix A.4 of RFC 8037.
    #[test]
    fn the_rfcs_ed25519_token_is_signed_by_its_key() {
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6d\
                     WbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let parts = Parts::of(token).unwrap();
        assert_eq!(parts.claims, b"Example of Ed25519 signing");
        let mut key = bytes("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert!(parts.is_signed_by(&PublicKey::Ed25519(key)));
        key[0] ^= 1;
        assert!(!parts.is_signed_by(&PublicKey::Ed25519(key)));
    }

    /// Appendix A.3 of RFC 7515.
    #[test]
    fn the_rfcs_es256_token_is_signed_by_its_key() {
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19y\
                     b290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let parts = Parts::of(token).unwrap();
        let mut point = [4; 65];
        point[1..33].copy_from_slice(&bytes::<32>("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"));
        point[33..].copy_from_slice(&bytes::<32>("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"));
        let key = PublicKey::P256(point);
        assert!(parts.is_signed_by(&key));
        let mut other = Parts::of(token).unwrap();
        other.signature[63] ^= 1;
        assert!(!other.is_signed_by(&key));
        assert!(!parts.is_signed_by(&PublicKey::Ed25519([9; 32])));
    }

    #[test]
    fn what_is_no_token_is_taken_for_none() {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let good = format!("{}.{}.", part(r#"{"alg":"none"}"#), part("{}"));
        assert!(Parts::of(&good).is_some_and(|parts| !parts.is_signed_by(&PublicKey::Ed25519([0; 32]))));
        let bad = [
            String::new(),
            "..".to_owned(),
            "a.b".to_owned(),
            format!("{}.{}", part(r#"{"alg":"EdDSA"}"#), part("{}")),
            format!("{}.{}.a.a", part(r#"{"alg":"EdDSA"}"#), part("{}")),
            format!("{}.{}.a=", part(r#"{"alg":"EdDSA"}"#), part("{}")),
            format!("{}.{}.", part(r#"{"alg":1}"#), part("{}")),
            format!("{}.{}.", part(r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#), part("{}")),
            format!("{}.{}.", part(r#"{"alg":"EdDSA","alg":"none"}"#), part("{}")),
        ];
        for text in bad {
            assert!(Parts::of(&text).is_none(), "{text}");
        }
    }
}
