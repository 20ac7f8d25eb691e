//! Who may sign tokens: a JSON Web Key Set from a file (RFC 7517).

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::jws::PublicKey;

/// Public keys by their id.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::access) struct Jwks(HashMap<String, PublicKey>);

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

impl Jwks {
    /// One key of Ed25519.
    pub(in crate::access) fn one(kid: &str, key: [u8; 32]) -> Jwks {
        Jwks(HashMap::from([(kid.to_owned(), PublicKey::Ed25519(key))]))
    }

    /// Reads a set. Keys of other kinds, and keys for encryption, are passed over: issuers publish all they have.
    ///
    /// # Errors
    /// The first fault, in one sentence.
    pub(super) fn parse(json: &[u8]) -> Result<Jwks, String> {
        let set: Set = serde_json::from_slice(json).map_err(|error| format!("is no JSON Web Key Set: {error}"))?;
        let mut keys = HashMap::new();
        for (i, jwk) in set.keys.iter().enumerate() {
            if jwk.d.is_some() {
                return Err(format!("keys[{i}]: has a private half, which belongs to the issuer alone"));
            }
            if jwk.used_for.as_deref().is_some_and(|used_for| used_for != "sig") {
                continue;
            }
            let Some(key) = jwk.public_key().map_err(|fault| format!("keys[{i}]: {fault}"))? else {
                continue;
            };
            let kid = jwk.kid.clone().ok_or_else(|| format!("keys[{i}]: has no kid, by which tokens name it"))?;
            if keys.insert(kid, key).is_some() {
                return Err(format!("keys[{i}]: has the kid of another key"));
            }
        }
        Ok(Jwks(keys))
    }

    /// The key of an id.
    pub(super) fn get(&self, kid: &str) -> Option<&PublicKey> {
        self.0.get(kid)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Jwk {
    /// `None` for a key of another kind.
    fn public_key(&self) -> Result<Option<PublicKey>, String> {
        let coordinate = |name: &str, text: &Option<String>| {
            let bytes = text.as_deref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            bytes.ok_or_else(|| format!("{name} is not 32 bytes in base64url"))
        };
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => PublicKey::Ed25519(coordinate("x", &self.x)?),
            ("EC", Some("P-256")) => {
                let mut point = [4; 65];
                let (x, y) = (coordinate("x", &self.x)?, coordinate("y", &self.y)?);
                point.iter_mut().skip(1).zip(x.into_iter().chain(y)).for_each(|(to, from)| *to = from);
                PublicKey::P256(point)
            }
            _ => return Ok(None),
        };
        match &self.alg {
            Some(alg) if !key.is_for(alg) => Err(format!("alg {alg:?} is not one of its curve")),
            _ => Ok(Some(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    const EC: &str = r#"{"kty":"EC","crv":"P-256","kid":"ec","use":"sig","alg":"ES256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

    fn parse(keys: &[&str]) -> Result<Jwks, String> {
        Jwks::parse(format!("{{\"keys\":[{}]}}", keys.join(",")).as_bytes())
    }

    #[test]
    fn usable_keys_are_taken_and_others_passed_over() {
        let rsa = r#"{"kty":"RSA","kid":"rsa","n":"AQ","e":"AQAB"}"#;
        let seals = EC.replace("\"sig\"", "\"enc\"").replace("\"ec\"", "\"seals\"").replace("ES256", "ECDH-ES");
        let keys = parse(&[rsa, ED, EC, &seals]).unwrap();
        assert_eq!(keys.len(), 2);
        assert!(keys.get("ed").is_some_and(|key| key.is_for("EdDSA") && !key.is_for("ES256") && !key.is_for("none")));
        assert!(keys.get("ec").is_some_and(|key| key.is_for("ES256") && !key.is_for("HS256")));
        assert!(keys.get("rsa").is_none() && keys.get("seals").is_none());
    }

    #[test]
    fn a_fault_is_named() {
        let told = |keys: &[&str]| parse(keys).unwrap_err();
        assert_eq!(parse(&[]).map(|keys| keys.len()), Ok(0));
        assert!(told(&[ED, ED]).contains("keys[1]: has the kid of another"));
        assert!(told(&[&ED.replace("\"kid\":\"ed\",", "")]).contains("has no kid"));
        assert!(told(&[&ED.replace("11qY", "")]).contains("x is not 32 bytes"));
        assert!(told(&[&EC.replace("\"ES256\"", "\"EdDSA\"")]).contains("alg \"EdDSA\""));
        assert!(told(&[&ED.replace("\"x\"", "\"d\":\"AA\",\"x\"")]).contains("private half"));
        assert!(Jwks::parse(b"[]").unwrap_err().contains("no JSON Web Key Set"));
    }
}
