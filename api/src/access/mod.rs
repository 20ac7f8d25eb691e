//! Who asks, and what they may do: keys and tokens, the roles and scopes they carry, and how all of it changes while serving.
//!
//! The router asks once for each request ([`Access::recognise`], [`Access::verify`]) and hands the [`Caller`] to the route, which asks it about
//! parties, bookings and centres. docs/access.md is the operator's page.

mod accounts;
mod caller;
mod generations;
pub(crate) mod key_command;
mod key_ring;
mod keys_file;
pub(crate) mod reload;
mod role;
mod secret;
mod sessions;
mod standing;
mod tokens;

pub(crate) use accounts::{AccountId, Accounts, AccountsConfig, Admitted, RECENT_MAX};
#[cfg(test)]
pub(crate) use caller::tests::held;
pub(crate) use caller::{Caller, NOBODY, Scope, Sight, account_id};
pub(crate) use generations::Generations;
pub(crate) use key_ring::{KeyEntry, KeyRing};
use keys_file::KeysFile;
pub(crate) use role::Role;
use secret::{KeyHash, parse_hash};
pub(crate) use secret::{hash, hex, new_key};
pub(crate) use sessions::{Members, Sessions};
pub(crate) use standing::Standing;
use tokens::TokenFault;
pub(crate) use tokens::Waits;
pub(crate) use tokens::{NotKept, Rules, Tokens, TokensConfig};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use berth_engine::TimestampMs;
use berth_programme::KeyFault;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use parking_lot::RwLock;

use crate::problem::{Code, Problem};

/// The longest key. A token may be longer, where there are tokens.
const KEY_BYTES_MAX: usize = 512;

/// What the configuration says of who may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccessConfig {
    /// Keys in the configuration itself.
    pub(crate) inline: Vec<KeyEntry>,
    /// More keys, that may change while serving.
    pub(crate) keys_file: Option<PathBuf>,
    pub(crate) tokens: Option<TokensConfig>,
}

/// Everything that says who asks. Shared by all requests.
#[derive(Debug, Default)]
pub(crate) struct Access {
    inline: Vec<KeyEntry>,
    keys_file: Option<PathBuf>,
    /// Replaced as a whole, so that no request sees half of a new set.
    keys: RwLock<Arc<KeyRing>>,
    pub(crate) tokens: Option<Tokens>,
    /// Tokens of our own, where people register here.
    pub(crate) sessions: Option<Sessions>,
    pub(crate) stats: AccessStats,
}

/// What the head of a request says of who asks.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// Its key is known, or its token was verified before.
    Known(Arc<Caller>),
    /// It bears what may be a token. Nobody has looked at the signature.
    Token,
}

/// Counters for the metrics page.
#[derive(Debug, Default)]
pub(crate) struct AccessStats {
    /// Files taken up again.
    pub(crate) reloads: AtomicU64,
    /// Files that were wrong.
    pub(crate) reload_failures: AtomicU64,
}

impl Access {
    /// Reads the files, too.
    ///
    /// # Errors
    /// Every fault by its key.
    pub(crate) fn open(config: &AccessConfig, now: TimestampMs) -> Result<Access, Vec<KeyFault>> {
        let mut faults = Vec::new();
        let keys = key_ring(&config.inline, config.keys_file.as_ref()).unwrap_or_else(|found| {
            faults.extend(found);
            KeyRing::default()
        });
        let tokens = config.tokens.clone().map(|tokens| Tokens::open(tokens, now)).transpose();
        let tokens = tokens.unwrap_or_else(|(field, reason)| {
            faults.push(KeyFault { key: format!("tokens.{field}"), reason });
            None
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Access {
            inline: config.inline.clone(),
            keys_file: config.keys_file.clone(),
            keys: RwLock::new(Arc::new(keys)),
            tokens,
            sessions: None,
            stats: AccessStats::default(),
        })
    }

    /// Reads the keys file again. On a fault the keys stay as they are.
    fn reload_keys(&self) -> Result<usize, String> {
        let keys = key_ring(&self.inline, self.keys_file.as_ref()).map_err(|faults| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            faults.join("; ")
        })?;
        let len = keys.len();
        *self.keys.write() = Arc::new(keys);
        Ok(len)
    }

    /// Keys there are.
    pub(crate) fn key_count(&self) -> usize {
        self.keys.read().len()
    }

    /// Who bears a token that was not verified yet. `waits` is asked before a signature is looked at.
    pub(crate) async fn verify(
        &self,
        headers: &HeaderMap,
        now: TimestampMs,
        waits: impl FnOnce() -> Waits,
    ) -> Result<Arc<Caller>, Problem> {
        let secret = bearer(headers)?;
        let ours = self.sessions.as_ref().filter(|sessions| sessions.claims_to_be_ours(secret));
        let tokens = ours.map(|sessions| &sessions.tokens).or(self.tokens.as_ref());
        let Some(tokens) = tokens else { return Err(unknown_key()) };
        tokens.identify(secret, hash(secret), now, waits).await
    }

    /// What a head says of who asks, for the price of a digest and a lookup: no signature is looked at.
    pub(crate) fn recognise(&self, headers: &HeaderMap, now: TimestampMs) -> Result<Seen, Problem> {
        let (digest, dotted) = self.borne(headers)?;
        let seen = self.seen(&digest, dotted, now)?;
        if let (true, Seen::Known(_), Some(tokens)) = (dotted, &seen, &self.tokens) {
            tokens.stats.cached.fetch_add(1, Relaxed);
        }
        Ok(seen)
    }

    /// The digest of what a head bears, and whether it is meant as a token: a key has no dots.
    fn borne(&self, headers: &HeaderMap) -> Result<(KeyHash, bool), Problem> {
        let secret = bearer(headers)?;
        let longest = self.issuers().map(Tokens::bytes_max).fold(KEY_BYTES_MAX, usize::max);
        if secret.len() > longest {
            if let Some(tokens) = &self.tokens {
                tokens.stats.refused.fetch_add(1, Relaxed);
            }
            return Err(TokenFault::Oversized.problem());
        }
        Ok((hash(secret), secret.contains('.')))
    }

    fn seen(&self, digest: &KeyHash, dotted: bool, now: TimestampMs) -> Result<Seen, Problem> {
        let keys = Arc::clone(&self.keys.read());
        match (keys.find(digest), self.issuers().next().is_some()) {
            (Some(found), _) if found.expires.is_some_and(|at| now >= at) => {
                Err(Problem::new(Code::KeyExpired, "the key is no longer valid: ask for a new one"))
            }
            (Some(found), _) => Ok(Seen::Known(Arc::clone(&found.caller))),
            (None, true) if dotted => {
                for tokens in self.issuers() {
                    if let Some(caller) = tokens.verified(digest, now)? {
                        return Ok(Seen::Known(caller));
                    }
                }
                Ok(Seen::Token)
            }
            (None, _) => Err(unknown_key()),
        }
    }

    /// Whose tokens are taken.
    pub(crate) fn issuers(&self) -> impl Iterator<Item = &Tokens> {
        self.tokens.iter().chain(self.sessions.iter().map(|sessions| &sessions.tokens))
    }
}

fn unknown_key() -> Problem {
    Problem::new(Code::InvalidKey, "the key is not known here")
}

/// The keys of the configuration and of the file, checked together.
fn key_ring(inline: &[KeyEntry], file: Option<&PathBuf>) -> Result<KeyRing, Vec<KeyFault>> {
    let Some(path) = file else { return KeyRing::new(inline, "keys") };
    let file = KeysFile::read(path).map_err(|reason| {
        vec![KeyFault { key: "keys_file".to_owned(), reason: format!("{}: {reason}", path.display()) }]
    })?;
    // A fault in the file is told by its place there.
    let in_file = |mut fault: KeyFault| {
        let index = fault.key.strip_prefix("keys[").and_then(|rest| rest.split_once(']'));
        if let Some((index, field)) = index.and_then(|(i, field)| Some((i.parse::<usize>().ok()?, field)))
            && let Some(index) = index.checked_sub(inline.len())
        {
            fault.key = format!("keys_file: {}: keys[{index}]{field}", path.display());
        }
        fault
    };
    let all = [inline, &file.keys].concat();
    KeyRing::new(&all, "keys").map_err(|faults| faults.into_iter().map(in_file).collect())
}

/// The answer to who has another role than is needed.
pub(crate) fn wrong_role(role: Role, needed: &[Role]) -> Problem {
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
        Access::open(&AccessConfig { inline: entries.to_vec(), ..AccessConfig::default() }, TimestampMs(0)).unwrap()
    }

    fn ask(values: &[&str]) -> Result<Role, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        match access().recognise(&headers, TimestampMs(1000)).map_err(|p| p.code())? {
            Seen::Known(caller) => Ok(caller.role),
            Seen::Token => panic!("there are no tokens here"),
        }
    }

    #[test]
    fn a_key_says_who_asks_and_nothing_else_does() {
        assert_eq!(ask(&["Bearer a"]), Ok(Role::Admin));
        assert_eq!(ask(&["bearer  p "]), Ok(Role::Platform));
        assert_eq!(ask(&["Bearer b"]), Err(Code::InvalidKey));
        assert_eq!(ask(&["Bearer x"]), Err(Code::KeyExpired));
        assert_eq!(ask(&[&format!("Bearer {}", "a".repeat(513))]), Err(Code::InvalidToken));
        assert_eq!(ask(&["Bearer a.b.c"]), Err(Code::InvalidKey), "there are no tokens here");
        let nothing: [&[&str]; 6] = [&[], &["a"], &["Basic a"], &["Bearer"], &["Bearer  "], &["Bearer a", "Bearer a"]];
        for values in nothing {
            assert_eq!(ask(values), Err(Code::Unauthenticated), "{values:?}");
        }
    }
}
