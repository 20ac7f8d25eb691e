//! What a token claims, held against what this server takes. Judged before the signature, because it is cheaper; believed
//! only after it.

use std::time::Duration;

use berth_engine::{CellId, PartyId, TimestampMs};
use berth_programme::is_name;
use serde_json::{Map, Value};

use super::super::sessions::MembersOf;
use super::super::{Caller, Role, Scope};
use crate::problem::{Code, Problem};
use crate::wire::numbered;

/// The longest account and token id.
const ID_LEN_MAX: usize = 128;

/// What a token must be like. Checked by [`crate::config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// `iss` is this.
    pub(crate) issuer: String,
    /// `aud` is or has one of these.
    pub(crate) audience: Vec<String>,
    /// Roles a token may carry.
    pub(crate) roles: Vec<Role>,
    /// The claims that say what it reaches.
    pub(crate) role_claim: String,
    pub(crate) parties_claim: String,
    pub(crate) centres_claim: String,
    pub(crate) districts_claim: String,
    /// How far the issuer's clock may be off ours.
    pub(crate) leeway: Duration,
    /// No token may be valid longer than this from when it was issued.
    pub(crate) life_max: Duration,
    /// Parties of other cells are not ours to know.
    pub(crate) cell: CellId,
    /// Where a citizen's parties are looked up, for tokens that name an account of ours and no party.
    pub(crate) members: Option<MembersOf>,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenFault {
    Oversized,
    Malformed,
    KeyId,
    Algorithm,
    Signature,
    Issuer,
    Audience,
    Expired,
    NotYet,
    TooLong,
    Role,
    Claims(&'static str),
    Revoked,
}

impl TokenFault {
    /// The answer: a code of its own where the client can do something about it by itself.
    pub(crate) fn problem(self) -> Problem {
        let (code, reason, detail) = match self {
            TokenFault::Expired => (Code::TokenExpired, "expired", "the token has expired: get a new one"),
            TokenFault::Revoked => (Code::TokenRevoked, "revoked", "the token was revoked"),
            TokenFault::Oversized => (Code::InvalidToken, "oversized", "the token is longer than this server reads"),
            TokenFault::Malformed => {
                (Code::InvalidToken, "malformed", "this is neither a known key nor a signed token")
            }
            TokenFault::KeyId => (Code::InvalidToken, "key_id", "no known key has the token's kid"),
            TokenFault::Algorithm => {
                (Code::InvalidToken, "algorithm", "the token's alg is not that of the key it names")
            }
            TokenFault::Signature => (Code::InvalidToken, "signature", "the token was not signed by the key it names"),
            TokenFault::Issuer => (Code::InvalidToken, "issuer", "the token's iss is not the issuer trusted here"),
            TokenFault::Audience => (Code::InvalidToken, "audience", "the token's aud is not this server"),
            TokenFault::NotYet => (Code::InvalidToken, "not_yet", "the token is not valid yet: are the clocks right?"),
            TokenFault::TooLong => {
                (Code::InvalidToken, "too_long", "the token is valid for longer than this server takes")
            }
            TokenFault::Role => {
                (Code::InvalidToken, "role", "the token carries no role that this server takes from tokens")
            }
            TokenFault::Claims(detail) => (Code::InvalidToken, "claims", detail),
        };
        Problem::new(code, detail).with("reason", reason)
    }
}

/// What a token grants, if it is signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) caller: Caller,
    /// Its id, by which it can be revoked.
    pub(crate) jti: String,
    /// From then on it has expired, leeway included.
    pub(crate) until: TimestampMs,
}

impl Rules {
    /// What the claims come to at this instant.
    pub(crate) fn judge(&self, json: &[u8], now: TimestampMs) -> Result<Granted, TokenFault> {
        let claims: Map<String, Value> = serde_json::from_slice(json).map_err(|_| TokenFault::Malformed)?;
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(TokenFault::Issuer);
        }
        if !texts(claims.get("aud")).is_some_and(|named| named.iter().any(|aud| self.audience.iter().any(|a| a == aud)))
        {
            return Err(TokenFault::Audience);
        }
        let until = self.time(&claims, now)?;
        let id = |name: &str, fault: &'static str| {
            let text = claims.get(name).and_then(Value::as_str).unwrap_or("");
            let good = (1..=ID_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
            if good { Ok(text.to_owned()) } else { Err(TokenFault::Claims(fault)) }
        };
        let jti = id("jti", "jti must be 1 to 128 bytes: a token that cannot be named cannot be revoked")?;
        let name = id("sub", "sub must be 1 to 128 bytes without control characters: it is the account")?;
        let role = match texts(claims.get(&self.role_claim)).as_deref() {
            Some([role]) => self.roles.iter().copied().find(|taken| taken.as_str() == *role).ok_or(TokenFault::Role)?,
            _ => return Err(TokenFault::Role),
        };
        let scope = match role {
            Role::Citizen => match &self.members {
                Some(members) => {
                    let fault = TokenFault::Claims("sub is no account of this server");
                    Scope::Account(members.of(&name).ok_or(fault)?)
                }
                None => Scope::Parties(self.parties(&claims)?),
            },
            Role::Operator => self.centres(&claims)?,
            Role::Public => Scope::Parties(Vec::new()),
            Role::Platform | Role::Admin => Scope::Everything,
        };
        Ok(Granted { caller: Caller::of_account(role, &name, scope), jti, until })
    }

    fn time(&self, claims: &Map<String, Value>, now: TimestampMs) -> Result<TimestampMs, TokenFault> {
        let malformed = TokenFault::Claims("exp, iat and nbf are seconds since 1970, and exp and iat must be there");
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => numeric_date(value).map(Some).ok_or(malformed),
        };
        let (exp, iat) = (time("exp")?.ok_or(malformed)?, time("iat")?.ok_or(malformed)?);
        let until = exp.plus(self.leeway);
        if now >= until {
            return Err(TokenFault::Expired);
        }
        let soonest = now.plus(self.leeway);
        if [time("nbf")?, Some(iat)].into_iter().flatten().any(|from| from > soonest) {
            return Err(TokenFault::NotYet);
        }
        // From when it was issued, not from now: one that is refused today must not pass later, when its revocation is over.
        if exp > iat.plus(self.life_max) { Err(TokenFault::TooLong) } else { Ok(until) }
    }

    /// Its parties of this cell, ascending.
    fn parties(&self, claims: &Map<String, Value>) -> Result<Vec<PartyId>, TokenFault> {
        let fault = TokenFault::Claims("the claim of parties is a list of names as p1.17");
        let Some(named) = claims.get(&self.parties_claim) else { return Ok(Vec::new()) };
        let mut parties = Vec::new();
        for text in texts(Some(named)).ok_or(fault)? {
            let (cell, number) = numbered(text, 'p').ok_or(fault)?;
            if cell == self.cell {
                parties.push(PartyId(number));
            }
        }
        parties.sort_unstable();
        parties.dedup();
        Ok(parties)
    }

    fn centres(&self, claims: &Map<String, Value>) -> Result<Scope, TokenFault> {
        let fault = TokenFault::Claims("an operator's token lists its centres or districts by their ids");
        let names = |claim: &str| {
            let Some(named) = claims.get(claim) else { return Ok(Vec::new()) };
            let names = texts(Some(named)).filter(|names| names.iter().all(|name| is_name(name))).ok_or(fault)?;
            let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            names.sort_unstable();
            names.dedup();
            Ok(names)
        };
        let (centres, districts) = (names(&self.centres_claim)?, names(&self.districts_claim)?);
        if centres.is_empty() && districts.is_empty() { Err(fault) } else { Ok(Scope::Centres { centres, districts }) }
    }
}

/// A text, or a list of texts.
fn texts(value: Option<&Value>) -> Option<Vec<&str>> {
    match value? {
        Value::String(text) => Some(vec![text]),
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Seconds since 1970, possibly with a fraction.
fn numeric_date(value: &Value) -> Option<TimestampMs> {
    // Past the year 9999 it is no date but a fault, or an attempt at one that never comes.
    const SECONDS_MAX: f64 = 253_402_300_799.0;
    let seconds = value.as_f64().filter(|s| (0.0..=SECONDS_MAX).contains(s))?;
    let millis = Duration::try_from_secs_f64(seconds).ok()?.as_millis();
    u64::try_from(millis).ok().map(TimestampMs)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in super::super) fn rules() -> Rules {
        Rules {
            issuer: "https://id.example.org".to_owned(),
            audience: vec!["berth".to_owned(), "berth-2".to_owned()],
            roles: vec![Role::Citizen, Role::Operator],
            role_claim: "role".to_owned(),
            parties_claim: "parties".to_owned(),
            centres_claim: "centres".to_owned(),
            districts_claim: "districts".to_owned(),
            leeway: Duration::from_secs(30),
            life_max: Duration::from_secs(3600),
            cell: CellId(1),
            members: None,
        }
    }

    pub(in super::super) fn good() -> Value {
        json!({"iss": "https://id.example.org", "aud": "berth", "sub": "account-7", "jti": "t1", "role": "citizen",
               "parties": ["p1.9", "p1.3", "p2.4", "p1.3"], "exp": 2000, "nbf": 1000, "iat": 1000})
    }

    fn judge(change: &[(&str, Value)], now_seconds: u64) -> Result<Granted, TokenFault> {
        let mut claims = good();
        for (name, value) in change {
            claims[name] = value.clone();
        }
        rules().judge(claims.to_string().as_bytes(), TimestampMs(now_seconds * 1000))
    }

    #[test]
    fn a_good_token_grants_its_parties_of_this_cell() {
        let granted = judge(&[], 1500).unwrap();
        assert_eq!(granted.caller.scope, Scope::Parties(vec![PartyId(3), PartyId(9)]));
        assert_eq!((granted.caller.role, granted.caller.name.as_str()), (Role::Citizen, "account:account-7"));
        assert_eq!((granted.jti.as_str(), granted.until), ("t1", TimestampMs(2_030_000)));
        assert_eq!(judge(&[("aud", json!(["other", "berth-2"])), ("role", json!(["citizen"]))], 1500), Ok(granted));
        assert_eq!(judge(&[("parties", json!([]))], 1500).unwrap().caller.scope, Scope::Parties(vec![]));
        let operator = [("role", json!("operator")), ("districts", json!(["396", "395"]))];
        let scope = Scope::Centres { centres: vec![], districts: vec!["395".to_owned(), "396".to_owned()] };
        assert_eq!(judge(&operator, 1500).unwrap().caller.scope, scope);
    }

    #[test]
    fn time_is_judged_with_leeway_on_both_sides() {
        assert!(judge(&[], 2029).is_ok());
        assert_eq!(judge(&[], 2030), Err(TokenFault::Expired));
        assert!(judge(&[], 970).is_ok());
        assert_eq!(judge(&[], 969), Err(TokenFault::NotYet));
        assert_eq!(judge(&[("nbf", Value::Null)], 1500).unwrap_err().problem().code(), Code::InvalidToken);
        assert_eq!(judge(&[("iat", json!(1999.5)), ("nbf", json!(0))], 1500), Err(TokenFault::NotYet));
        assert!(judge(&[("exp", json!(4600))], 1500).is_ok());
        for now in [1500, 4500] {
            assert_eq!(judge(&[("exp", json!(4601))], now), Err(TokenFault::TooLong), "today and later");
        }
        for exp in [json!("2000"), json!(-1), json!(1e300), json!(true), Value::Null] {
            assert!(matches!(judge(&[("exp", exp.clone())], 1500), Err(TokenFault::Claims(_))), "{exp}");
        }
    }

    #[test]
    fn each_fault_is_told_apart() {
        let one = |name: &str, value: Value| judge(&[(name, value)], 1500).unwrap_err();
        assert_eq!(one("iss", json!("https://evil.example.org")), TokenFault::Issuer);
        assert_eq!(one("iss", json!(["https://id.example.org"])), TokenFault::Issuer);
        assert_eq!(one("aud", json!("someone-else")), TokenFault::Audience);
        assert_eq!(one("aud", json!([])), TokenFault::Audience);
        assert_eq!(one("aud", Value::Null), TokenFault::Audience);
        for role in [json!("admin"), json!("king"), json!(["citizen", "operator"]), Value::Null] {
            assert_eq!(one("role", role), TokenFault::Role);
        }
        for (name, value) in [
            ("sub", json!("")),
            ("sub", json!("a\u{0}b")),
            ("sub", json!("x".repeat(129))),
            ("jti", Value::Null),
            ("parties", json!(["17"])),
            ("parties", json!([17])),
            ("role", json!("operator")),
        ] {
            assert!(matches!(one(name, value.clone()), TokenFault::Claims(_)), "{name} {value}");
        }
        assert_eq!(rules().judge(b"[]", TimestampMs(0)), Err(TokenFault::Malformed));
    }
}
