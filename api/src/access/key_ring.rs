//! The keys of a server: as they are written down, checked, and looked up.

use std::collections::HashMap;
use std::sync::Arc;

use berth_engine::TimestampMs;
use berth_programme::{KeyFault, is_name};
use serde::{Deserialize, Serialize};

use super::secret::{KeyHash, same};
use super::{Caller, Role, Scope, hex, parse_hash};

/// A key as it is written down, by its hash: in the configuration and in the keys file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyEntry {
    /// `public`, `platform`, `operator` or `admin`. Citizens come with tokens.
    pub(crate) role: Role,
    /// Whose it is. Two keys share role and name only while one takes over from the other: all but one of them expire.
    pub(crate) name: String,
    /// SHA-256 of the key, 64 hex digits: `printf %s KEY | sha256sum`.
    pub(crate) sha256: String,
    /// The centres an operator works at. An operator needs some, here or by district; nobody else has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) centres: Vec<String>,
    /// The districts at whose centres an operator works.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) districts: Vec<String>,
    /// From when on it opens nothing any more, as RFC 3339. Default never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<jiff::Timestamp>,
    /// When it was made; told by `berth key list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<jiff::Timestamp>,
}

impl KeyEntry {
    /// A key that reaches everything and never expires.
    pub(crate) fn new(role: Role, name: &str, hash: KeyHash) -> KeyEntry {
        KeyEntry {
            role,
            name: name.to_owned(),
            sha256: hex(&hash),
            centres: Vec::new(),
            districts: Vec::new(),
            expires: None,
            created: None,
        }
    }

    fn caller(&self) -> Caller {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names.dedup();
            names
        };
        let scope = match self.role {
            Role::Operator => Scope::Centres { centres: sorted(&self.centres), districts: sorted(&self.districts) },
            Role::Public | Role::Citizen => Scope::Parties(Vec::new()),
            Role::Platform | Role::Admin => Scope::Everything,
        };
        Caller::of_key(self.role, &self.name, scope)
    }
}

/// One key of the ring.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) caller: Arc<Caller>,
    pub(crate) expires: Option<TimestampMs>,
    hash: KeyHash,
}

/// All keys of a server.
///
/// Found by the first eight bytes of the digest, then compared in full, in the same time for every pair. What the time of a
/// lookup can tell is whether some key's digest begins like the digest of what was sent; who sends does not choose
/// digests, so to learn eight bytes of one takes 2^64 tries, and a digest known in full still opens nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRing(HashMap<[u8; 8], Vec<Credential>>);

impl KeyRing {
    /// A ring of these keys, if every one is right; `place` is what faults call the list.
    ///
    /// # Errors
    /// Every fault by its key.
    pub(crate) fn new(entries: &[KeyEntry], place: &str) -> Result<KeyRing, Vec<KeyFault>> {
        let mut ring = KeyRing::default();
        let mut faults = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let mut fault = |field: &str, reason: &str| {
                faults.push(KeyFault { key: format!("{place}[{i}].{field}"), reason: reason.to_owned() });
            };
            entry.check(entries.get(..i).unwrap_or(&[]), &mut fault);
            match parse_hash(&entry.sha256) {
                None => fault("sha256", "must be 64 hex digits: printf %s KEY | sha256sum"),
                Some(hash) if ring.find(&hash).is_some() => fault("sha256", "is the hash of another entry's key"),
                Some(hash) => ring.insert(entry, hash),
            }
        }
        if faults.is_empty() { Ok(ring) } else { Err(faults) }
    }

    fn insert(&mut self, entry: &KeyEntry, hash: KeyHash) {
        let expires = entry.expires.map(|at| TimestampMs(u64::try_from(at.as_millisecond()).unwrap_or(0)));
        let credential = Credential { caller: Arc::new(entry.caller()), expires, hash };
        self.0.entry(prefix(&hash)).or_default().push(credential);
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// The key of this hash.
    pub(crate) fn find(&self, hash: &KeyHash) -> Option<&Credential> {
        self.0.get(&prefix(hash))?.iter().find(|credential| same(&credential.hash, hash))
    }
}

impl KeyEntry {
    fn check(&self, before: &[KeyEntry], fault: &mut impl FnMut(&str, &str)) {
        if self.role == Role::Citizen {
            fault("role", "citizens come with tokens, not with keys");
        }
        if !is_name(&self.name) {
            fault("name", "must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        let mut twins = before.iter().filter(|other| other.role == self.role && other.name == self.name);
        if self.expires.is_none() && twins.clone().any(|other| other.expires.is_none()) {
            fault("name", &format!("there is another {} key of this name that does not expire", self.role));
        } else if twins.any(|other| (&other.centres, &other.districts) != (&self.centres, &self.districts)) {
            fault("name", "another key of this role and name has another scope");
        }
        let (centres, districts) = (&self.centres, &self.districts);
        let named = !(centres.is_empty() && districts.is_empty());
        if self.role == Role::Operator && !named {
            fault("centres", "an operator's key names its centres or districts");
        } else if self.role != Role::Operator && named {
            fault("centres", "only an operator's key has centres or districts");
        }
        for (field, names) in [("centres", centres), ("districts", districts)] {
            if names.iter().any(|name| !is_name(name)) {
                fault(field, "each must be 1 to 64 of A-Z a-z 0-9 . _ -");
            }
        }
    }
}

fn prefix(hash: &KeyHash) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    first
}

#[cfg(test)]
mod tests {
    use super::super::hash;
    use super::*;

    fn faults(entries: &[KeyEntry]) -> Vec<String> {
        KeyRing::new(entries, "keys").err().unwrap_or_default().into_iter().map(|f| f.key).collect()
    }

    #[test]
    fn keys_that_share_the_first_bytes_of_their_digest_are_told_apart() {
        let mut twin = hash("a");
        twin[31] ^= 1;
        let entries = [KeyEntry::new(Role::Admin, "one", hash("a")), KeyEntry::new(Role::Platform, "two", twin)];
        let ring = KeyRing::new(&entries, "keys").unwrap();
        assert_eq!(ring.find(&hash("a")).map(|c| c.caller.role), Some(Role::Admin));
        assert_eq!(ring.find(&twin).map(|c| c.caller.role), Some(Role::Platform));
        twin[30] ^= 1;
        assert!(ring.find(&twin).is_none());
    }

    #[test]
    fn a_scope_is_an_operators_and_every_operator_has_one() {
        let entry = |role| KeyEntry::new(role, "x", hash("x"));
        let scoped = |role| KeyEntry { centres: vec!["c1".to_owned()], ..entry(role) };
        assert_eq!(faults(&[entry(Role::Operator)]), ["keys[0].centres"]);
        assert_eq!(faults(&[scoped(Role::Platform)]), ["keys[0].centres"]);
        assert_eq!(faults(&[entry(Role::Citizen)]), ["keys[0].role"]);
        assert_eq!(faults(&[scoped(Role::Operator)]), [""; 0]);
        let bad = KeyEntry { districts: vec!["a b".to_owned()], ..scoped(Role::Operator) };
        assert_eq!(faults(&[bad]), ["keys[0].districts"]);
    }

    #[test]
    fn two_keys_share_a_name_only_while_one_takes_over() {
        let stays = |key: &str| KeyEntry::new(Role::Platform, "web", hash(key));
        let goes = |key: &str| KeyEntry { expires: Some(jiff::Timestamp::MAX), ..stays(key) };
        assert_eq!(faults(&[stays("a"), stays("b")]), ["keys[1].name"]);
        assert_eq!(faults(&[goes("a"), stays("b"), goes("c")]), [""; 0]);
        assert_eq!(faults(&[stays("a"), goes("a")]), ["keys[1].sha256"]);
        let elsewhere =
            |key, centre: &str| KeyEntry { role: Role::Operator, centres: vec![centre.to_owned()], ..goes(key) };
        assert_eq!(faults(&[elsewhere("a", "c1"), elsewhere("b", "c2")]), ["keys[1].name"]);
    }
}
