//! From the client's `Idempotency-Key` to the engine's key and fingerprint.
//!
//! The engine's key is a hash of the caller's role and name and the client's key: two platforms may use the same key without
//! meeting, and neither is stored. The fingerprint covers the endpoint and everything in the request
//! that decides its effect, in one canonical form, so that a repeat with other spacing or a lower-case code is
//! still the same request.

use berth_engine::{Idempotency, IdempotencyKey};
use hyper::HeaderMap;
use sha2::{Digest, Sha256};

use crate::access::Caller;
use crate::problem::{Code, Problem};

const HEADER: &str = "idempotency-key";
const LEN_MAX: usize = 128;

/// The engine's key for the request's header.
pub(crate) fn key_of(headers: &HeaderMap, caller: &Caller) -> Result<IdempotencyKey, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        let detail = "every POST needs an Idempotency-Key, made by the client before its first attempt";
        return Err(Problem::new(Code::IdempotencyKeyMissing, detail));
    };
    if values.next().is_some() {
        return Err(Problem::new(Code::IdempotencyKeyMalformed, "there is more than one Idempotency-Key header"));
    }
    let key = value.to_str().ok().filter(|key| is_key(key));
    key.map(|key| scoped(key, caller)).ok_or_else(|| {
        let detail = format!("an Idempotency-Key has 1 to {LEN_MAX} visible ASCII characters");
        Problem::new(Code::IdempotencyKeyMalformed, detail)
    })
}

/// Whether `text` can be a client's key.
pub(crate) fn is_key(text: &str) -> bool {
    (1..=LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The engine's key for a client's.
pub(crate) fn scoped(key: &str, caller: &Caller) -> IdempotencyKey {
    // Neither role nor name can hold a zero byte, so no two callers share a prefix.
    let digest = Sha256::new()
        .chain_update(caller.role.as_str())
        .chain_update([0])
        .chain_update(&caller.name)
        .chain_update([0])
        .chain_update(key)
        .finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    IdempotencyKey(u128::from_be_bytes(first))
}

/// A request's canonical form, hashed piece by piece. Every piece carries its length.
pub(crate) struct Fingerprint(Sha256);

impl Fingerprint {
    /// `endpoint` is the method and the route template.
    pub(crate) fn new(method: &str, template: &str) -> Fingerprint {
        Fingerprint(Sha256::new()).piece(method.as_bytes()).piece(template.as_bytes())
    }

    /// Takes a piece of the request into account.
    pub(crate) fn piece(self, bytes: &[u8]) -> Fingerprint {
        Fingerprint(self.0.chain_update((bytes.len() as u64).to_be_bytes()).chain_update(bytes))
    }

    /// Takes a number into account.
    pub(crate) fn number(self, number: u64) -> Fingerprint {
        self.piece(&number.to_be_bytes())
    }

    /// What the engine is told.
    pub(crate) fn under(self, key: IdempotencyKey) -> Idempotency {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0.finalize()[..8]);
        Idempotency { key, fingerprint: u64::from_be_bytes(first) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Role, Scope};

    fn caller(role: Role, name: &str) -> Caller {
        Caller { role, name: name.to_owned(), scope: Scope::Everything }
    }

    #[test]
    fn a_key_is_scoped_to_its_caller() {
        let mine = scoped("k", &caller(Role::Platform, "a"));
        assert_eq!(mine, scoped("k", &caller(Role::Platform, "a")));
        assert_ne!(mine, scoped("k", &caller(Role::Platform, "b")));
        assert_ne!(mine, scoped("k", &caller(Role::Admin, "a")));
        assert_ne!(mine, scoped("k2", &caller(Role::Platform, "a")));
    }

    #[test]
    fn pieces_do_not_run_into_each_other() {
        let key = IdempotencyKey(1);
        let print =
            |a: &str, b: &str| Fingerprint::new("POST", "/x").piece(a.as_bytes()).piece(b.as_bytes()).under(key);
        assert_eq!(print("ab", "c"), print("ab", "c"));
        assert_ne!(print("ab", "c"), print("a", "bc"));
    }

    #[test]
    fn keys_are_visible_ascii() {
        assert!(is_key("a") && is_key(&"!~".repeat(64)));
        for bad in ["", " ", "a b", "é", "\t", &"x".repeat(129)] {
            assert!(!is_key(bad), "{bad:?}");
        }
    }
}
