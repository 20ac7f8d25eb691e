//! Who asks, and what they may do: keys, the roles and scopes they carry, and how both change while serving.
//!
//! The router asks once for each request ([`Access::identify`]) and hands the [`Caller`] to the route, which asks it about
//! parties, bookings and centres. docs/access.md is the operator's page.

mod caller;
mod key_ring;
mod role;
mod secret;

pub(crate) use caller::{Caller, NOBODY, Scope};
pub(crate) use key_ring::{KeyEntry, KeyRing};
pub(crate) use role::Role;
use secret::parse_hash;
pub(crate) use secret::{hash, hex, new_key};

use std::sync::Arc;

use berth_engine::TimestampMs;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use parking_lot::RwLock;

use crate::problem::{Code, Problem};

/// Everything that says who asks. Shared by all requests.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// Replaced as a whole, so that no request sees half of a new set.
    keys: RwLock<Arc<KeyRing>>,
}

impl Access {
    pub(crate) fn new(keys: KeyRing) -> Access {
        Access { keys: RwLock::new(Arc::new(keys)) }
    }

    /// Who a request comes from, if they have one of `roles`.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        roles: &[Role],
        now: TimestampMs,
    ) -> Result<Arc<Caller>, Problem> {
        let secret = bearer(headers)?;
        let keys = Arc::clone(&self.keys.read());
        let Some(found) = keys.find(&hash(secret)) else {
            return Err(Problem::new(Code::InvalidKey, "the key is not known here"));
        };
        if found.expires.is_some_and(|at| now >= at) {
            return Err(Problem::new(Code::KeyExpired, "the key is no longer valid: ask for a new one"));
        }
        let caller = Arc::clone(&found.caller);
        if roles.contains(&caller.role) { Ok(caller) } else { Err(wrong_role(caller.role, roles)) }
    }
}

fn wrong_role(role: Role, needed: &[Role]) -> Problem {
    let needed: Vec<_> = needed.iter().map(ToString::to_string).collect();
    Problem::new(Code::Forbidden, format!("the key is for {role}, this needs {}", needed.join(" or ")))
}

/// What the one `Authorization` header of a request bears.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(Problem::new(Code::Unauthenticated, "this needs an `Authorization: Bearer KEY` header"));
    };
    if values.next().is_some() {
        return Err(Problem::new(Code::Unauthenticated, "there is more than one Authorization header"));
    }
    let secret = value.to_str().ok().and_then(|header| {
        let (scheme, secret) = header.split_once(' ')?;
        let secret = secret.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then_some(secret)
    });
    secret.ok_or_else(|| Problem::new(Code::Unauthenticated, "the Authorization header is not `Bearer KEY`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let entry = |role, key: &str| KeyEntry::new(role, "test", hash(key));
        let passing = KeyEntry { expires: Some("1970-01-01T00:00:01Z".parse().unwrap()), ..entry(Role::Platform, "x") };
        let entries = [entry(Role::Admin, "a"), entry(Role::Platform, "p"), passing];
        Access::new(KeyRing::new(&entries, "keys").unwrap())
    }

    fn ask(values: &[&str], role: Role) -> Result<Role, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        access().identify(&headers, &[role], TimestampMs(1000)).map(|c| c.role).map_err(|p| p.code())
    }

    #[test]
    fn a_key_opens_its_role_and_no_other() {
        assert_eq!(ask(&["Bearer a"], Role::Admin), Ok(Role::Admin));
        assert_eq!(ask(&["bearer  p "], Role::Platform), Ok(Role::Platform));
        assert_eq!(ask(&["Bearer a"], Role::Platform), Err(Code::Forbidden));
        assert_eq!(ask(&["Bearer b"], Role::Admin), Err(Code::InvalidKey));
        assert_eq!(ask(&["Bearer x"], Role::Platform), Err(Code::KeyExpired));
        let nothing: [&[&str]; 6] = [&[], &["a"], &["Basic a"], &["Bearer"], &["Bearer  "], &["Bearer a", "Bearer a"]];
        for values in nothing {
            assert_eq!(ask(values, Role::Admin), Err(Code::Unauthenticated), "{values:?}");
        }
    }
}
