//! Tokens of our own: a citizen who has shown that a phone is theirs gets one, and it is taken as any other token is.
//!
//! It names the account and no party. Whom it reaches is asked of the store each time, so that who was registered a moment ago is
//! reached, and who went to another account is not any more. The signing key is derived from the master key of people: there is no
//! second secret to keep.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_engine::{CellId, PartyId, TimestampMs};
use berth_programme::people::{Account, MasterKey, People};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::tokens::{Jwks, Rules, Tokens, TokensConfig};
use super::{Role, hex};

/// Who signs, and for whom: nobody else's token says so and is signed with this key.
const ISSUER: &str = "berth";
const LEEWAY: Duration = Duration::from_secs(5);
const TOKEN_BYTES_MAX: usize = 1024;
const CACHED_MAX: usize = 100_000;

/// Whom an account reaches.
#[derive(Clone)]
pub(crate) struct Members {
    people: Arc<People>,
    account: Account,
}

impl Members {
    /// Whether this person is in the account now. Where it cannot be known they are not.
    pub(crate) fn has(&self, party: PartyId) -> bool {
        self.people.is_member(self.account, party).unwrap_or(false)
    }

    pub(crate) fn account(&self) -> Account {
        self.account
    }
}

impl PartialEq for Members {
    fn eq(&self, other: &Members) -> bool {
        self.account == other.account && Arc::ptr_eq(&self.people, &other.people)
    }
}

impl Eq for Members {}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Members")
    }
}

/// Where the rules of tokens look whom an account reaches.
#[derive(Clone)]
pub(crate) struct MembersOf(Arc<People>);

impl MembersOf {
    /// `None` if `sub` is no account of ours.
    pub(super) fn of(&self, sub: &str) -> Option<Members> {
        Account::parse(sub).map(|account| Members { people: Arc::clone(&self.0), account })
    }
}

impl PartialEq for MembersOf {
    fn eq(&self, other: &MembersOf) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for MembersOf {}

impl std::fmt::Debug for MembersOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MembersOf")
    }
}

/// The issuer of a cell's own tokens, and who takes them.
pub(crate) struct Sessions {
    key: Ed25519KeyPair,
    kid: String,
    audience: String,
    life: Duration,
    pub(crate) tokens: Tokens,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Sessions {
    /// # Errors
    /// The file of revoked tokens is wrong.
    pub(crate) fn open(
        master: &MasterKey,
        people: &Arc<People>,
        cell: CellId,
        life: Duration,
        revocations_file: PathBuf,
        now: TimestampMs,
    ) -> Result<Sessions, String> {
        let seed = master.derive("session tokens");
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|error| format!("the signing key: {error}"))?;
        let mut public = [0; 32];
        public.copy_from_slice(key.public_key().as_ref());
        let kid = format!("berth-{}", hex(&super::hash(&hex(&public))[..8]));
        let audience = format!("berth-cell-{cell}");
        let config = TokensConfig {
            rules: Rules {
                issuer: ISSUER.to_owned(),
                audience: vec![audience.clone()],
                roles: vec![Role::Citizen],
                role_claim: "role".to_owned(),
                parties_claim: "parties".to_owned(),
                centres_claim: "centres".to_owned(),
                districts_claim: "districts".to_owned(),
                leeway: LEEWAY,
                life_max: life,
                cell,
                members: Some(MembersOf(Arc::clone(people))),
            },
            jwks_file: PathBuf::new(),
            revocations_file: Some(revocations_file),
            bytes_max: TOKEN_BYTES_MAX,
            cached_max: CACHED_MAX,
            verifying_max: std::thread::available_parallelism().map_or(1, |count| (count.get() / 2).max(1)),
        };
        let keys = Jwks::one(&kid, public);
        let tokens = Tokens::with_keys(config, keys, now).map_err(|(_, fault)| fault)?;
        Ok(Sessions { key, kid, audience, life, tokens })
    }

    /// Whether a token says that it is ours. Nobody has looked at its signature.
    pub(super) fn claims_to_be_ours(&self, token: &str) -> bool {
        super::tokens::kid_of(token).is_some_and(|kid| kid == self.kid)
    }

    /// A token for whoever has shown that this account is theirs, and until when it is good.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn token(&self, account: Account, now: TimestampMs) -> Result<(String, TimestampMs), getrandom::Error> {
        let mut jti = [0; 16];
        getrandom::fill(&mut jti)?;
        // Whole seconds, as JWTs have them, and never past what is taken.
        let issued = now.0 / 1000;
        let expires = issued + self.life.as_secs();
        let claims = json!({
            "iss": ISSUER, "aud": self.audience, "sub": account.to_string(), "jti": hex(&jti),
            "role": Role::Citizen.as_str(), "iat": issued, "exp": expires,
        });
        let header = json!({"alg": "EdDSA", "kid": self.kid, "typ": "JWT"});
        let part = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        Ok((format!("{signed}.{signature}"), TimestampMs(expires * 1000)))
    }
}
