//! Signed tokens: JWTs with EdDSA or ES256, by an issuer whose public keys lie in a file.
//!
//! What is cheap to see is seen first, and a signature is looked at last: length, shape, key, algorithm, issuer, audience,
//! time, claims, then the signature. What was verified is kept by the SHA-256 of the whole token, until it expires, is
//! revoked, or the keys change. Signatures are verified by so many at once and no more, so that who sends rubbish cannot
//! have all processors.

mod claims;
mod jwks;
mod jws;
mod revoked;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use berth_engine::TimestampMs;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

pub(crate) use self::claims::{Rules, TokenFault};
pub(super) use self::jwks::Jwks;
use self::jws::Parts;
pub(crate) use self::revoked::{NotKept, Revoked, id_hash};
use super::Caller;
use super::generations::Generations;
use super::keys_file::read_owners;
use super::secret::KeyHash;
use crate::problem::{Code, Problem};

/// Parts of the cache, each with a lock of its own.
const SHARDS: usize = 16;
/// Requests that may wait for their turn to verify.
const WAITING_MAX: usize = 256;
/// How long one may wait.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What the configuration says of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokensConfig {
    pub(crate) rules: Rules,
    pub(crate) jwks_file: PathBuf,
    pub(crate) revocations_file: Option<PathBuf>,
    pub(crate) bytes_max: usize,
    pub(crate) cached_max: usize,
    pub(crate) verifying_max: usize,
}

/// Tokens of one issuer.
#[derive(Debug)]
pub(crate) struct Tokens {
    config: TokensConfig,
    /// Replaced as a whole, so that nothing verified under keys that are gone is believed.
    keyed: RwLock<Arc<Keyed>>,
    pub(crate) revoked: Revoked,
    verifying: Semaphore,
    waiting: AtomicUsize,
    pub(crate) stats: TokenStats,
}

/// Counters for the metrics page.
#[derive(Debug, Default)]
pub(crate) struct TokenStats {
    /// Signatures looked at.
    pub(crate) verified: AtomicU64,
    /// Requests answered from the cache.
    pub(crate) cached: AtomicU64,
    /// Requests refused for their token.
    pub(crate) refused: AtomicU64,
}

#[derive(Debug)]
struct Keyed {
    keys: Jwks,
    cache: [Mutex<Generations<KeyHash, Verified>>; SHARDS],
}

#[derive(Clone, Debug)]
struct Verified {
    caller: Arc<Caller>,
    jti: [u8; 16],
    until: TimestampMs,
}

impl Tokens {
    /// # Errors
    /// The field of the configuration whose file is wrong, and why.
    pub(crate) fn open(config: TokensConfig, now: TimestampMs) -> Result<Tokens, (&'static str, String)> {
        let keys = read_keys(&config.jwks_file).map_err(|fault| ("jwks_file", fault))?;
        if keys.len() == 0 {
            let fault =
                format!("{}: has no key that signs with EdDSA (Ed25519) or ES256 (P-256)", config.jwks_file.display());
            return Err(("jwks_file", fault));
        }
        Tokens::with_keys(config, keys, now)
    }

    /// With these keys, whatever the file says.
    ///
    /// # Errors
    /// As [`Tokens::open`].
    pub(in crate::access) fn with_keys(
        config: TokensConfig,
        keys: Jwks,
        now: TimestampMs,
    ) -> Result<Tokens, (&'static str, String)> {
        let revoked = Revoked::open(config.revocations_file.clone(), now);
        let revoked = revoked.map_err(|fault| ("revocations_file", fault))?;
        Ok(Tokens {
            keyed: RwLock::new(Arc::new(Keyed::new(keys, config.cached_max))),
            revoked,
            verifying: Semaphore::new(config.verifying_max),
            waiting: AtomicUsize::new(0),
            stats: TokenStats::default(),
            config,
        })
    }

    /// Where the public keys lie.
    pub(crate) fn jwks_file(&self) -> &Path {
        &self.config.jwks_file
    }

    /// Reads the public keys again; what was verified under the old ones is verified anew. On a fault they stay.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn reload_keys(&self) -> Result<usize, String> {
        let keys = read_keys(&self.config.jwks_file)?;
        let len = keys.len();
        if len == 0 {
            // The way to stop whoever has stolen the only key.
            tracing::warn!("the issuer has no key that signs any more: no token is taken");
        }
        let mut keyed = self.keyed.write();
        if keyed.keys != keys {
            *keyed = Arc::new(Keyed::new(keys, self.config.cached_max));
        }
        Ok(len)
    }

    /// The longest token that is read.
    pub(crate) fn bytes_max(&self) -> usize {
        self.config.bytes_max
    }

    /// When no token that could be valid now is valid any more.
    pub(crate) fn all_over(&self, now: TimestampMs) -> TimestampMs {
        let rules = &self.config.rules;
        // Twice the leeway: once for the issuer's clock, once for the end.
        now.plus(rules.life_max).plus(rules.leeway).plus(rules.leeway)
    }

    /// Tokens in the cache.
    pub(crate) fn cached(&self) -> usize {
        let keyed = Arc::clone(&self.keyed.read());
        keyed.cache.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Who bears the token of this digest, if it was verified before.
    pub(crate) fn verified(&self, digest: &KeyHash, now: TimestampMs) -> Result<Option<Arc<Caller>>, Problem> {
        let keyed = Arc::clone(&self.keyed.read());
        let Some(verified) = keyed.cached(digest) else { return Ok(None) };
        if now >= verified.until {
            return Err(TokenFault::Expired.problem());
        }
        if self.revoked.has(&verified.jti) {
            return Err(TokenFault::Revoked.problem());
        }
        Ok(Some(verified.caller))
    }

    /// Who bears this token; `digest` is its SHA-256.
    pub(crate) async fn identify(
        &self,
        token: &str,
        digest: KeyHash,
        now: TimestampMs,
        waits: impl FnOnce() -> Waits,
    ) -> Result<Arc<Caller>, Problem> {
        let found = self.find(token, digest, now, waits).await;
        if found.is_err() {
            self.stats.refused.fetch_add(1, Relaxed);
        }
        found
    }

    async fn find(
        &self,
        token: &str,
        digest: KeyHash,
        now: TimestampMs,
        waits: impl FnOnce() -> Waits,
    ) -> Result<Arc<Caller>, Problem> {
        if let Some(caller) = self.verified(&digest, now)? {
            self.stats.cached.fetch_add(1, Relaxed);
            return Ok(caller);
        }
        let keyed = Arc::clone(&self.keyed.read());
        let (parts, granted) = self.unverified(token, &keyed, now).map_err(TokenFault::problem)?;
        let kid = parts.header.kid.as_deref().unwrap_or("");
        let key = keyed.keys.get(kid).ok_or_else(|| TokenFault::KeyId.problem())?;
        let turn = match waits() {
            Waits::ItsTurn => Some(self.turn().await?),
            Waits::NotAtAll => {
                let busy = || Problem::new(Code::Overloaded, "too many new tokens are waiting to be verified");
                Some(self.verifying.try_acquire().map_err(|_| busy())?)
            }
            Waits::ForNobody => None,
        };
        self.stats.verified.fetch_add(1, Relaxed);
        let signed = parts.is_signed_by(key);
        drop(turn);
        if !signed {
            return Err(TokenFault::Signature.problem());
        }
        let verified = Verified { caller: Arc::new(granted.caller), jti: id_hash(&granted.jti), until: granted.until };
        // Not before the signature is good: whether an id was revoked is told to who had the token.
        if self.revoked.has(&verified.jti) {
            return Err(TokenFault::Revoked.problem());
        }
        let caller = Arc::clone(&verified.caller);
        keyed.keep(digest, verified);
        Ok(caller)
    }

    /// All that can be seen without looking at the signature.
    fn unverified<'t>(
        &self,
        token: &'t str,
        keyed: &Keyed,
        now: TimestampMs,
    ) -> Result<(Parts<'t>, claims::Granted), TokenFault> {
        let parts = Parts::of(token).ok_or(TokenFault::Malformed)?;
        let key = parts.header.kid.as_deref().and_then(|kid| keyed.keys.get(kid));
        match key {
            // `none` and the like are told for what they are, whatever key they name.
            _ if !matches!(parts.header.alg.as_str(), "EdDSA" | "Ed25519" | "ES256") => {
                return Err(TokenFault::Algorithm);
            }
            None => return Err(TokenFault::KeyId),
            Some(key) if !key.is_for(&parts.header.alg) => return Err(TokenFault::Algorithm),
            Some(_) => {}
        }
        let granted = self.config.rules.judge(&parts.claims, now)?;
        Ok((parts, granted))
    }

    /// A turn to verify.
    async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Problem> {
        if let Ok(turn) = self.verifying.try_acquire() {
            return Ok(turn);
        }
        let busy = || Problem::new(Code::Overloaded, "too many new tokens are waiting to be verified");
        // Relaxed: a count, nothing is published by it.
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Relaxed) >= WAITING_MAX {
            return Err(busy());
        }
        let turn = tokio::time::timeout(WAIT_MAX, self.verifying.acquire()).await;
        drop(waiting);
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }
}

/// How long a token waits to be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Until its turn comes among the others, for a bounded time.
    ItsTurn,
    /// From where much came that opens nothing, one that may be good is verified if nobody waits: who shares that address is
    /// not locked out, and no queue is filled from there.
    NotAtAll,
    /// With it a live claim is settled: whoever has the code of one, which cannot be guessed, is looked at at once.
    // rule: ADM-1
    ForNobody,
}

/// Counted while it waits, also when its client is gone meanwhile.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Keyed {
    fn new(keys: Jwks, cached_max: usize) -> Keyed {
        let shard = (cached_max / SHARDS).max(1);
        Keyed { keys, cache: std::array::from_fn(|_| Mutex::new(Generations::new(shard))) }
    }

    fn shard(&self, digest: &KeyHash) -> &Mutex<Generations<KeyHash, Verified>> {
        // The digest is as good as random.
        &self.cache[usize::from(digest[31]) % SHARDS]
    }

    fn cached(&self, digest: &KeyHash) -> Option<Verified> {
        self.shard(digest).lock().get(digest).map(|verified| verified.clone())
    }

    fn keep(&self, digest: KeyHash, verified: Verified) {
        self.shard(&digest).lock().insert(digest, verified);
    }
}

/// The key that a token names. Nobody has looked at its signature.
pub(super) fn kid_of(token: &str) -> Option<String> {
    Parts::of(token)?.header.kid
}

fn read_keys(path: &Path) -> Result<Jwks, String> {
    let place = |fault: &dyn std::fmt::Display| format!("{}: {fault}", path.display());
    let json = read_owners(path).map_err(|fault| place(&fault))?;
    Jwks::parse(&json).map_err(|fault| place(&fault))
}

#[cfg(test)]
mod tests;
