//! Tokens signed here and held against a server's rules.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::super::{Role, hash};
use super::*;

const NOW: TimestampMs = TimestampMs(1_500_000);

/// An issuer with a key of each kind, and a server that trusts it.
struct Issuer {
    dir: tempfile::TempDir,
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
}

impl Issuer {
    fn new() -> Issuer {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
        let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(kind, ec.as_ref(), &random).unwrap();
        let issuer = Issuer { dir: tempfile::tempdir().unwrap(), ed, ec };
        issuer.publish("ed");
        issuer
    }

    /// Writes the set, with the Ed25519 key under this id.
    fn publish(&self, ed_kid: &str) {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = self.ec.public_key().as_ref();
        let set = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": ed_kid, "x": encode(self.ed.public_key().as_ref())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": encode(&point[1..33]), "y": encode(&point[33..])},
        ]});
        std::fs::write(self.dir.path().join("jwks.json"), set.to_string()).unwrap();
    }

    fn tokens(&self) -> Tokens {
        let config = TokensConfig {
            rules: claims::tests::rules(),
            jwks_file: self.dir.path().join("jwks.json"),
            revocations_file: Some(self.dir.path().join("revoked.ndjson")),
            bytes_max: 4096,
            cached_max: 64,
            verifying_max: 1,
        };
        Tokens::open(config, NOW).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let encode = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = if header["alg"] == "ES256" {
            self.ec.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec()
        } else {
            self.ed.sign(signed.as_bytes()).as_ref().to_vec()
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

async fn ask(tokens: &Tokens, token: &str) -> Result<Arc<Caller>, (Code, String)> {
    ask_at(tokens, token, NOW).await
}

async fn ask_at(tokens: &Tokens, token: &str, now: TimestampMs) -> Result<Arc<Caller>, (Code, String)> {
    tokens.identify(token, hash(token), now, || Waits::ItsTurn).await.map_err(|problem| {
        let reason = problem.member("reason").and_then(Value::as_str).unwrap_or("").to_owned();
        (problem.code(), reason)
    })
}

fn refused(code: Code, reason: &str) -> Result<Arc<Caller>, (Code, String)> {
    Err((code, reason.to_owned()))
}

#[tokio::test]
async fn a_token_of_either_kind_is_verified_once_and_then_known() {
    let issuer = Issuer::new();
    let tokens = issuer.tokens();
    for (i, (alg, kid)) in [("EdDSA", "ed"), ("Ed25519", "ed"), ("ES256", "ec")].into_iter().enumerate() {
        let token = issuer.sign(&json!({"alg": alg, "kid": kid, "typ": "JWT"}), &claims::tests::good());
        for _ in 0..3 {
            assert_eq!(ask(&tokens, &token).await.unwrap().role, Role::Citizen);
        }
        let counts = (tokens.stats.verified.load(Relaxed), tokens.stats.cached.load(Relaxed));
        assert_eq!(counts, (i as u64 + 1, 2 * (i as u64 + 1)));
    }
}

#[tokio::test]
async fn forgeries_are_told_apart_and_none_is_believed() {
    let issuer = Issuer::new();
    let tokens = issuer.tokens();
    let claims = claims::tests::good();
    let good = issuer.sign(&json!({"alg": "EdDSA", "kid": "ed"}), &claims);
    let invalid = |reason: &str| refused(Code::InvalidToken, reason);

    let (signed, _) = good.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    for alg in ["none", "None", "HS256", "RS256", "EdDSA "] {
        let head = part(&json!({"alg": alg, "kid": "ed"}));
        assert_eq!(ask(&tokens, &format!("{head}.{}.", part(&claims))).await, invalid("algorithm"), "{alg}");
    }
    // HS256 with the public key as the secret: the algorithm is not there, whatever the signature is.
    let point = URL_SAFE_NO_PAD.encode(issuer.ed.public_key().as_ref());
    let head_hs = part(&json!({"alg": "HS256", "kid": "ed"}));
    assert_eq!(ask(&tokens, &format!("{head_hs}.{}.{point}", part(&claims))).await, invalid("algorithm"));
    let crossed = issuer.sign(&json!({"alg": "ES256", "kid": "ed"}), &claims);
    assert_eq!(ask(&tokens, &crossed).await, invalid("algorithm"));
    for kid in [json!("other"), json!(""), Value::Null] {
        let token = issuer.sign(&json!({"alg": "EdDSA", "kid": kid}), &claims);
        assert_eq!(ask(&tokens, &token).await, invalid("key_id"), "{kid}");
    }
    let stranger = Issuer::new().sign(&json!({"alg": "EdDSA", "kid": "ed"}), &claims);
    assert_eq!(ask(&tokens, &stranger).await, invalid("signature"));
    assert_eq!(ask(&tokens, signed).await, invalid("malformed"));
    assert_eq!(ask(&tokens, &format!("{signed}.")).await, invalid("signature"));
    let mut more = claims.clone();
    more["parties"] = json!(["p1.1"]);
    let (_, signature) = good.rsplit_once('.').unwrap();
    assert_eq!(ask(&tokens, &format!("{head}.{}.{signature}", part(&more))).await, invalid("signature"));

    let changed = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        issuer.sign(&json!({"alg": "EdDSA", "kid": "ed"}), &claims)
    };
    assert_eq!(ask(&tokens, &changed("exp", json!(1000))).await, refused(Code::TokenExpired, "expired"));
    assert_eq!(ask(&tokens, &changed("nbf", json!(1900))).await, invalid("not_yet"));
    assert_eq!(ask(&tokens, &changed("exp", json!(99_999))).await, invalid("too_long"));
    assert_eq!(ask(&tokens, &changed("aud", json!("other"))).await, invalid("audience"));
    assert_eq!(ask(&tokens, &changed("iss", json!("other"))).await, invalid("issuer"));
    assert_eq!(ask(&tokens, &changed("role", json!("admin"))).await, invalid("role"));
    assert_eq!(tokens.cached(), 0, "nothing was believed");
    assert!(ask(&tokens, &good).await.is_ok());
}

#[tokio::test]
async fn what_is_kept_ends_with_the_token_its_revocation_and_the_keys() {
    let issuer = Issuer::new();
    let tokens = issuer.tokens();
    let head = json!({"alg": "EdDSA", "kid": "ed"});
    let token = issuer.sign(&head, &claims::tests::good());
    assert!(ask(&tokens, &token).await.is_ok());
    assert_eq!(ask_at(&tokens, &token, TimestampMs(2_030_000)).await, refused(Code::TokenExpired, "expired"));
    tokens.revoked.revoke("t1", tokens.all_over(NOW), NOW).unwrap();
    assert_eq!(ask(&tokens, &token).await, refused(Code::TokenRevoked, "revoked"));
    // As well for who comes with it for the first time.
    let fresh = issuer.tokens();
    assert_eq!(ask(&fresh, &token).await, refused(Code::TokenRevoked, "revoked"));

    let mut other = claims::tests::good();
    other["jti"] = json!("t2");
    let token = issuer.sign(&head, &other);
    assert!(ask(&tokens, &token).await.is_ok());
    issuer.publish("ed-2");
    assert_eq!(tokens.reload_keys(), Ok(2));
    assert_eq!(ask(&tokens, &token).await, refused(Code::InvalidToken, "key_id"), "its key is gone");
    std::fs::write(tokens.jwks_file(), "{\"keys\":[]}").unwrap();
    assert_eq!(tokens.reload_keys(), Ok(0), "the only key was stolen");
    assert_eq!(
        ask(&tokens, &issuer.sign(&json!({"alg": "EdDSA", "kid": "ed-2"}), &other)).await,
        refused(Code::InvalidToken, "key_id")
    );
    issuer.publish("ed-2");
    assert_eq!(tokens.reload_keys(), Ok(2));
    std::fs::write(tokens.jwks_file(), "{").unwrap();
    assert!(tokens.reload_keys().unwrap_err().contains("jwks.json: is no JSON Web Key Set"));
    let token = issuer.sign(&json!({"alg": "EdDSA", "kid": "ed-2"}), &other);
    assert!(ask(&tokens, &token).await.is_ok(), "the last good set stays");
}

#[tokio::test]
async fn the_cache_is_bounded_and_verifying_waits_its_turn() {
    let issuer = Issuer::new();
    let tokens = issuer.tokens();
    for i in 0..200 {
        let mut claims = claims::tests::good();
        claims["jti"] = json!(format!("t{i}"));
        assert!(ask(&tokens, &issuer.sign(&json!({"alg": "EdDSA", "kid": "ed"}), &claims)).await.is_ok());
    }
    assert!((1..=64).contains(&tokens.cached()), "{}", tokens.cached());

    let turn = tokens.turn().await.unwrap();
    let waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(tokens.turn())).collect();
    let mut waiting = waiting;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.iter_mut().all(|wait| wait.as_mut().poll(&mut context).is_pending()));
    assert_eq!(tokens.turn().await.map(|_| ()).map_err(|p| p.code()), Err(Code::Overloaded));
    let mut claims = claims::tests::good();
    claims["jti"] = json!("fresh");
    let fresh = issuer.sign(&json!({"alg": "EdDSA", "kid": "ed"}), &claims);
    let mut settles = std::pin::pin!(tokens.identify(&fresh, hash(&fresh), NOW, || Waits::ForNobody));
    assert!(settles.as_mut().poll(&mut context).is_ready(), "a live claim is settled whoever else waits");
    drop(waiting);
    let mut claims = claims::tests::good();
    claims["jti"] = json!("fresher");
    let fresh = issuer.sign(&json!({"alg": "EdDSA", "kid": "ed"}), &claims);
    let suspect =
        || async { tokens.identify(&fresh, hash(&fresh), NOW, || Waits::NotAtAll).await.map_err(|p| p.code()) };
    let refused = std::pin::pin!(suspect()).poll(&mut context).map(|found| found.map(|_| ()));
    let overloaded = std::task::Poll::Ready(Err(Code::Overloaded));
    assert_eq!(refused, overloaded, "where rubbish comes from no turn is waited for");
    drop(turn);
    assert!(suspect().await.is_ok(), "and whoever shares that address is verified when there is one");
    assert!(tokens.turn().await.is_ok(), "who gave up waiting is not counted any more");
}
