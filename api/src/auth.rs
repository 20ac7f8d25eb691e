//! Who asks: bearer keys, kept as their SHA-256, and the role each one carries.

use std::fmt;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::problem::{Code, Problem};

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Publishes, creates parties, exports.
    Admin,
    /// Holds, books, reads bookings.
    Platform,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Admin => "admin",
            Role::Platform => "platform",
        })
    }
}

/// SHA-256 of a key.
pub(crate) type KeyHash = [u8; 32];

/// One credential.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    /// What it may do.
    pub(crate) role: Role,
    /// Unique within its role; keys may be replaced under it. Idempotency keys are scoped to role and name, so a
    /// client that retries with its new key is still the same client.
    pub(crate) name: String,
    /// SHA-256 of the key; the key itself is nowhere.
    pub(crate) hash: KeyHash,
}

/// All credentials of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRing(Vec<Credential>);

impl KeyRing {
    pub(crate) fn new(credentials: Vec<Credential>) -> KeyRing {
        KeyRing(credentials)
    }

    /// The credential of a request, if it carries one of `roles`.
    pub(crate) fn authorize(&self, headers: &HeaderMap, roles: &[Role]) -> Result<&Credential, Problem> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Err(Problem::new(Code::Unauthenticated, "this needs an `Authorization: Bearer KEY` header"));
        };
        let key = value.to_str().ok().and_then(bearer);
        let Some(key) = key else {
            return Err(Problem::new(Code::Unauthenticated, "the Authorization header is not `Bearer KEY`"));
        };
        let Some(credential) = self.find(&hash(key)) else {
            return Err(Problem::new(Code::InvalidKey, "the key is not known here"));
        };
        if roles.contains(&credential.role) {
            Ok(credential)
        } else {
            let needed: Vec<_> = roles.iter().map(ToString::to_string).collect();
            let detail = format!("the key is for {}, this needs {}", credential.role, needed.join(" or "));
            Err(Problem::new(Code::Forbidden, detail))
        }
    }

    /// Compares with every credential in full, so that the time taken tells nothing about any of them.
    fn find(&self, hash: &KeyHash) -> Option<&Credential> {
        self.0
            .iter()
            .fold(None, |found, credential| if same(&credential.hash, hash) { Some(credential) } else { found })
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

/// What is kept of a key.
pub(crate) fn hash(key: &str) -> KeyHash {
    Sha256::digest(key.as_bytes()).into()
}

/// The same time for every pair.
fn same(a: &KeyHash, b: &KeyHash) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    difference == 0
}

/// 64 hex digits.
pub(crate) fn parse_hash(hex: &str) -> Option<KeyHash> {
    if hex.len() != 64 {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?;
    }
    Some(hash)
}

/// A fresh key: 160 random bits, printable, harmless in a shell.
pub(crate) fn new_key(role: Role) -> Result<String, getrandom::Error> {
    let mut random = [0u8; 20];
    getrandom::fill(&mut random)?;
    let hex: String = random.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("berth_{role}_{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> KeyRing {
        let credential = |role, key| Credential { role, name: "test".to_owned(), hash: hash(key) };
        KeyRing::new(vec![credential(Role::Admin, "a"), credential(Role::Platform, "p")])
    }

    fn ask(header: Option<&str>, role: Role) -> Result<Role, Code> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().unwrap());
        }
        ring().authorize(&headers, &[role]).map(|c| c.role).map_err(|p| p.code())
    }

    #[test]
    fn a_key_opens_its_role_and_no_other() {
        assert_eq!(ask(Some("Bearer a"), Role::Admin), Ok(Role::Admin));
        assert_eq!(ask(Some("bearer  p "), Role::Platform), Ok(Role::Platform));
        assert_eq!(ask(Some("Bearer a"), Role::Platform), Err(Code::Forbidden));
        assert_eq!(ask(Some("Bearer b"), Role::Admin), Err(Code::InvalidKey));
        for none in [None, Some("a"), Some("Basic a"), Some("Bearer"), Some("Bearer  ")] {
            assert_eq!(ask(none, Role::Admin), Err(Code::Unauthenticated), "{none:?}");
        }
    }

    #[test]
    fn hashes_are_64_hex_digits() {
        let hex = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert_eq!(parse_hash(hex), Some(hash("a")));
        assert_eq!(parse_hash(&hex.to_uppercase()), Some(hash("a")));
        assert_eq!((parse_hash(&hex[1..]), parse_hash(&hex.replace('c', "g"))), (None, None));
    }
}
