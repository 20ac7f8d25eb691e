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
    needed(headers).map(|key| scoped(key, caller))
}

/// The key in the request's header, which must be there.
pub(crate) fn needed(headers: &HeaderMap) -> Result<&str, Problem> {
    given(headers)?.ok_or_else(|| {
        let detail = "every POST needs an Idempotency-Key, made by the client before its first attempt";
        Problem::new(Code::IdempotencyKeyMissing, detail)
    })
}

/// The key in the request's header, if there is one.
pub(crate) fn given(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::new(Code::IdempotencyKeyMalformed, "there is more than one Idempotency-Key header"));
    }
    let key = value.to_str().ok().filter(|key| is_key(key));
    key.map(Some).ok_or_else(malformed)
}

/// The no to a key that cannot be one.
pub(crate) fn malformed() -> Problem {
    let detail = format!("an Idempotency-Key has 1 to {LEN_MAX} visible ASCII characters");
    Problem::new(Code::IdempotencyKeyMalformed, detail)
}

/// Whether `text` can be a client's key.
pub(crate) fn is_key(text: &str) -> bool {
    (1..=LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The engine's key for a client's.
pub(crate) fn scoped(key: &str, caller: &Caller) -> IdempotencyKey {
    KeySpace::of(caller).key(key)
}

/// Whose keys they are; for who makes many.
#[derive(Clone)]
pub(crate) struct KeySpace(Sha256);

impl KeySpace {
    pub(crate) fn of(caller: &Caller) -> KeySpace {
        // Neither role nor name can hold a zero byte, so no two callers share a prefix.
        let digest = Sha256::new()
            .chain_update(caller.role.as_str())
            .chain_update([0])
            .chain_update(&caller.name)
            .chain_update([0]);
        KeySpace(digest)
    }

    /// The engine's key for a client's.
    pub(crate) fn key(&self, key: &str) -> IdempotencyKey {
        finished(self.0.clone().chain_update(key))
    }

    /// The engine's key for one of the many steps of the request under a client's key. No client's key has a zero byte, so
    /// none is the same.
    pub(crate) fn step(&self, key: &str, kind: &str, number: u64) -> IdempotencyKey {
        let digest = self.0.clone().chain_update(key).chain_update([0]).chain_update(kind).chain_update([0]);
        finished(digest.chain_update(number.to_be_bytes()))
    }
}

fn finished(digest: Sha256) -> IdempotencyKey {
    let mut first = [0; 16];
    first.copy_from_slice(&digest.finalize()[..16]);
    IdempotencyKey(u128::from_be_bytes(first))
}

/// A request's canonical form, hashed piece by piece. Every piece carries its length.
#[derive(Clone)]
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
        Caller::of_key(role, name, Scope::Everything)
    }

    #[test]
    fn a_key_is_scoped_to_its_caller() {
        let mine = scoped("k", &caller(Role::Platform, "a"));
        assert_eq!(mine, scoped("k", &caller(Role::Platform, "a")));
        assert_ne!(mine, scoped("k", &caller(Role::Platform, "b")));
        assert_ne!(mine, scoped("k", &caller(Role::Admin, "a")));
        assert_ne!(mine, scoped("k2", &caller(Role::Platform, "a")));
        let account = Caller::of_account(Role::Platform, "a", Scope::Everything);
        assert_ne!(mine, scoped("k", &account), "a token's account never passes for a key");
    }

    #[test]
    fn the_steps_of_a_request_have_keys_of_their_own() {
        let scope = KeySpace::of(&caller(Role::Platform, "a"));
        let step = scope.step("k", "line", 7);
        assert_eq!(step, scope.step("k", "line", 7));
        let others =
            [scope.key("k"), scope.step("k", "line", 8), scope.step("k", "move", 7), scope.step("k2", "line", 7)];
        assert!(others.iter().all(|other| *other != step));
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
