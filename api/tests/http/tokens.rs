//! Signed tokens: what a citizen may do with one, and what no token opens.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{PATIENCE, Reply};
use crate::server::{Home, Server, claim, claims};

/// Whoever signs tokens; its public key lies in a file.
pub(crate) struct Issuer {
    dir: TempDir,
    key: Ed25519KeyPair,
}

impl Issuer {
    pub(crate) fn new() -> Issuer {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let issuer =
            Issuer { dir: tempfile::tempdir().unwrap(), key: Ed25519KeyPair::from_seed_unchecked(&seed).unwrap() };
        issuer.publish("k1");
        issuer
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn publish(&self, kid: &str) {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key());
        let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x}]});
        std::fs::write(self.path("jwks.json"), set.to_string()).unwrap();
    }

    fn server(&self) -> Server {
        self.server_with("")
    }

    pub(crate) fn server_with(&self, more: &str) -> Server {
        Server::start_with(&self.config(more))
    }

    /// The same, with a programme of its own.
    pub(crate) fn server_of_programme(&self, more: &str, programme: &Path) -> Server {
        Home::with_programme(&self.config(more), programme).start()
    }

    fn config(&self, more: &str) -> String {
        let (jwks, revoked) = (self.path("jwks.json"), self.path("revoked.ndjson"));
        format!(
            "[tokens]\nissuer = 'https://id.example.org'\naudience = 'berth'\njwks_file = {jwks:?}\n\
             revocations_file = {revoked:?}\n{more}"
        )
    }

    /// A token of the account that expires in an hour, with these claims in the place of its own.
    pub(crate) fn token(&self, account: &str, change: &Value) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({"iss": "https://id.example.org", "aud": "berth", "sub": account, "jti": account,
                                "role": "citizen", "iat": now, "exp": now + 3600});
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        self.sign(&json!({"alg": "EdDSA", "kid": "k1"}), &claims)
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes())))
    }
}

fn ask(server: &Server, token: &str, method: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (bearer, key) = (format!("Bearer {token}"), server.fresh_key());
    server.send(method, path, &[("authorization", &bearer), ("idempotency-key", &key)], body.as_bytes())
}

#[test]
fn a_citizen_does_for_its_own_parties_what_a_platform_does_for_all() {
    let issuer = Issuer::new();
    let server = issuer.server();
    server.add_places();
    server.add_parties(10);
    let slots = server.add_slots("s", &[9, 9]);
    let mine = issuer.token("asha", &json!({"parties": ["p1.1", "p1.2"]}));
    let me = |method: &str, path: &str, body: &Value| ask(&server, &mine, method, path, body);

    let hold = me("POST", "/v1/holds", &claims(&[claim("p1.1", &slots[0]), claim("p1.2", &slots[0])])).expect(201);
    let code = hold["hold"].as_str().unwrap().to_owned();
    me("POST", &format!("/v1/holds/{code}/confirm"), &Value::Null).expect(200);
    let moved = me("POST", &format!("/v1/bookings/{code}/move"), &json!({"slot": slots[1]})).expect(200);
    let moved = format!("/v1/bookings/{}", moved["booking"].as_str().unwrap());
    assert_eq!(me("GET", &moved, &Value::Null).expect(200)["party"], "p1.1");
    me("POST", &format!("{moved}/cancel"), &Value::Null).expect(200);
    let left = me("GET", "/v1/parties/p1.2/bookings", &Value::Null).expect(200);
    assert_eq!(left["bookings"].as_array().unwrap().len(), 1);
    let hold = me("POST", "/v1/holds", &claims(&[claim("p1.1", &slots[0])])).expect(201);
    me("POST", &format!("/v1/holds/{}/release", hold["hold"].as_str().unwrap()), &Value::Null).expect(200);
    me("POST", "/v1/bookings", &claims(&[claim("p1.1", &slots[0])])).expect(201);
}

/// A token that nobody has looked at yet goes before nothing that anybody may ask, but it locks nobody out.
// rule: ADM-1
#[test]
fn a_fresh_token_confirms_a_live_hold_and_is_let_in_where_searches_are_not() {
    let issuer = Issuer::new();
    let server = issuer.server();
    server.add_places();
    server.add_parties(10);
    let slots = server.add_slots("s", &[9]);
    let fresh = |jti: &str| issuer.token("asha", &json!({"parties": ["p1.1"], "jti": jti}));
    let hold = claims(&[claim("p1.1", &slots[0])]);
    let held = ask(&server, &fresh("a"), "POST", "/v1/holds", &hold).expect(201);
    let confirm = format!("/v1/holds/{}/confirm", held["hold"].as_str().unwrap());
    let shed = |classes: Value| {
        let headers = [("authorization", "Bearer admin-key"), ("content-type", "application/json")];
        server
            .send("PATCH", "/v1/admin/admission", &headers, json!({"shed": classes}).to_string().as_bytes())
            .expect(200);
    };
    shed(json!(["settle", "claim", "search"]));
    let forged = fresh("b").replace('.', ".AA");
    ask(&server, &forged, "POST", &confirm, &Value::Null).expect_problem(401, "invalid_token");
    let others = issuer.token("ravi", &json!({"parties": ["p1.2"], "jti": "c"}));
    ask(&server, &others, "POST", "/v1/holds", &hold).expect_problem(503, "overloaded");
    // To who does not reach it, it is a code that is none.
    shed(json!(["settle", "claim", "search", "admin"]));
    ask(&server, &others, "POST", &confirm, &Value::Null).expect_problem(503, "overloaded");
    ask(&server, &fresh("d"), "POST", &confirm, &Value::Null).expect(200);
    shed(json!(["search"]));
    let read = "/v1/parties/p1.1/bookings";
    ask(&server, &fresh("e"), "GET", read, &Value::Null).expect(200);
    server.get("/v1/regions").expect_problem(503, "overloaded");
}

#[test]
fn an_outcome_is_shown_for_parties_that_one_still_reaches() {
    let issuer = Issuer::new();
    let server = issuer.server();
    server.add_places();
    server.add_parties(10);
    let slots = server.add_slots("s", &[9]);
    let token = |jti: &str, parties: Value| issuer.token("asha", &json!({"parties": parties, "jti": jti}));
    let both = token("a", json!(["p1.1", "p1.2"]));
    let bearer = format!("Bearer {both}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "mine")];
    let body = claims(&[claim("p1.1", &slots[0]), claim("p1.2", &slots[0])]).to_string();
    let booked = server.send("POST", "/v1/bookings", &headers, body.as_bytes()).expect(201);
    let outcome = |token: &str| ask(&server, token, "GET", "/v1/outcomes/mine", &Value::Null);
    assert_eq!(outcome(&both).expect(201), booked);
    // The same account, and one of its parties is with somebody else now.
    outcome(&token("b", json!(["p1.1"]))).expect_problem(404, "unknown_key");
    assert_eq!(outcome(&token("c", json!(["p1.1", "p1.2", "p1.3"]))).expect(201), booked);
}

#[test]
fn what_is_anothers_is_unknown_to_a_citizen() {
    let issuer = Issuer::new();
    let server = issuer.server();
    server.add_places();
    server.add_parties(10);
    let slots = server.add_slots("s", &[9, 9]);
    let mine = issuer.token("asha", &json!({"parties": ["p1.1", "p2.5"]}));
    let me = |method: &str, path: &str, body: &Value| ask(&server, &mine, method, path, body);
    // The second is mine, the hold as a whole is not.
    let hold = server.post("/v1/holds", &claims(&[claim("p1.5", &slots[0]), claim("p1.1", &slots[0])])).expect(201);
    let hold = hold["hold"].as_str().unwrap();
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.6", &slots[0])])).expect(201);
    let booked = booked["hold"].as_str().unwrap();
    let before = server.export();

    for (method, path, body) in [
        ("GET", format!("/v1/bookings/{booked}"), Value::Null),
        ("GET", format!("/v1/bookings/{hold}"), Value::Null),
        ("POST", format!("/v1/bookings/{booked}/cancel"), Value::Null),
        ("POST", format!("/v1/bookings/{booked}/move"), json!({"slot": slots[1]})),
        ("POST", format!("/v1/holds/{hold}/confirm"), Value::Null),
        ("POST", format!("/v1/holds/{hold}/release"), Value::Null),
    ] {
        let hidden = me(method, &path, &body).expect_problem(404, "unknown_booking");
        let code = path.split('/').nth(3).unwrap();
        assert_eq!(hidden["detail"], format!("there is no hold or booking {code}"), "as what does not exist");
    }
    for party in ["p1.5", "p1.99"] {
        let hidden = me("GET", &format!("/v1/parties/{party}/bookings"), &Value::Null);
        assert_eq!(hidden.expect_problem(404, "unknown_party")["detail"], format!("there is no party {party}"));
        for path in ["/v1/holds", "/v1/bookings"] {
            let body = claims(&[claim("p1.1", &slots[0]), claim(party, &slots[0])]);
            me("POST", path, &body).expect_problem(404, "unknown_party");
        }
    }
    // A citizen is nobody's platform, operator or admin.
    me("GET", "/v1/booking-references/b1.0", &Value::Null).expect_problem(403, "forbidden");
    me("GET", "/v1/export", &Value::Null).expect_problem(403, "forbidden");
    me("POST", "/v1/parties", &json!({"count": 1})).expect_problem(403, "forbidden");
    assert_eq!(server.export(), before, "nothing has changed");
}

#[test]
fn a_token_that_is_not_right_says_why_and_opens_nothing() {
    let issuer = Issuer::new();
    let server = issuer.server();
    let read = |token: &str| ask(&server, token, "GET", "/v1/parties/p1.1/bookings", &Value::Null);
    read(&issuer.token("asha", &json!({"parties": ["p1.1"]}))).expect_problem(404, "unknown_party");

    let refused = |token: &str, code: &str, reason: &str| {
        let reply = read(token);
        assert_eq!(reply.expect_problem(401, code)["reason"], reason);
        assert_eq!(reply.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    };
    let with = |name: &str, value: Value| issuer.token("asha", &json!({name: value}));
    refused(&with("exp", json!(1_600_000_000)), "token_expired", "expired");
    refused(&with("nbf", json!(9_000_000_000_u64)), "invalid_token", "not_yet");
    refused(&with("exp", json!(9_000_000_000_u64)), "invalid_token", "too_long");
    refused(&with("aud", json!("others")), "invalid_token", "audience");
    refused(&with("iss", json!("https://evil.example.org")), "invalid_token", "issuer");
    refused(&with("role", json!("admin")), "invalid_token", "role");
    refused(&with("parties", json!("all")), "invalid_token", "claims");
    refused(&with("pad", json!("x".repeat(4096))), "invalid_token", "oversized");
    refused(&Issuer::new().token("asha", &json!({})), "invalid_token", "signature");
    let claims = json!({"iss": "https://id.example.org", "aud": "berth", "sub": "asha", "jti": "1", "role": "citizen"});
    refused(&issuer.sign(&json!({"alg": "none", "kid": "k1"}), &claims), "invalid_token", "algorithm");
    refused(&issuer.sign(&json!({"alg": "HS256", "kid": "k1"}), &claims), "invalid_token", "algorithm");
    refused(&issuer.sign(&json!({"alg": "EdDSA", "kid": "k9"}), &claims), "invalid_token", "key_id");
    refused("not.a.token", "invalid_token", "malformed");
    server.wait_for_metric("berth_tokens_cached 1");
    let text = server.get("/metrics").text().to_owned();
    let count = |name: &str| text.lines().find_map(|l| l.strip_prefix(&format!("{name} "))).unwrap().to_owned();
    assert_eq!(count("berth_tokens_refused_total"), "13");
    assert_eq!(count("berth_tokens_verified_total"), "2", "the good one, and the one of another key");
}

#[test]
fn a_revoked_token_opens_nothing_any_more_also_after_a_restart() {
    let issuer = Issuer::new();
    let mut server = issuer.server();
    let token = issuer.token("asha", &json!({"parties": []}));
    let other = issuer.token("ravi", &json!({"parties": []}));
    let code = |server: &Server, token: &str| {
        ask(server, token, "GET", "/v1/parties/p1.1/bookings", &Value::Null).json()["code"].clone()
    };
    assert_eq!((code(&server, &token), code(&server, &other)), (json!("unknown_party"), json!("unknown_party")));
    let revoke = |body: &Value| ask(&server, "admin-key", "POST", "/v1/admin/revocations", body);
    let answer = revoke(&json!({"jti": "asha"})).expect(200);
    assert_eq!((&answer["jti"], &answer["kept"]), (&json!("asha"), &json!("file")));
    assert_eq!((code(&server, &token), code(&server, &other)), (json!("token_revoked"), json!("unknown_party")));
    assert_eq!(revoke(&json!({"jti": "asha"})).status, 200, "a repeat changes nothing");
    revoke(&json!({"jti": ""})).expect_problem(400, "malformed_request");
    revoke(&json!({})).expect_problem(400, "malformed_request");
    let platform = ask(&server, "platform-key", "POST", "/v1/admin/revocations", &json!({"jti": "x"}));
    platform.expect_problem(403, "forbidden");
    server = server.kill_and_restart();
    assert_eq!((code(&server, &token), code(&server, &other)), (json!("token_revoked"), json!("unknown_party")));
    // And by hand, as one who cannot reach the server does.
    let mut list = std::fs::read_to_string(issuer.path("revoked.ndjson")).unwrap();
    list.push_str("{\"jti\":\"ravi\",\"until\":\"2999-01-01T00:00:00Z\"}\n");
    std::fs::write(issuer.path("revoked.ndjson"), list).unwrap();
    let started = Instant::now();
    while code(&server, &other) != "token_revoked" {
        assert!(started.elapsed() < PATIENCE, "never taken up");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_account_stands_in_the_audit_log_by_a_digest_alone() {
    let issuer = Issuer::new();
    let log = issuer.path("audit.ndjson");
    let server = issuer.server_with(&format!("[audit]\nfile = {log:?}\nsync_ms = 0\n"));
    for (account, claims) in [
        ("+91-98765", json!({"parties": ["p1.1"]})),
        ("doctor@example.org", json!({"role": "operator", "centres": ["c1"]})),
    ] {
        ask(&server, &issuer.token(account, &claims), "GET", "/v1/bookings/x", &Value::Null)
            .expect_problem(400, "malformed_id");
    }
    server.wait_for_metric("berth_audit_records_total 2");
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["role"], &lines[1]["role"]), (&json!("citizen"), &json!("operator")));
    let who = |line: &Value| line["who"].as_str().unwrap().strip_prefix("account:").unwrap().len();
    assert_eq!((who(&lines[0]), who(&lines[1])), (16, 16));
    assert!(!text.contains("98765") && !text.contains("doctor"), "{text}");
}

#[test]
fn a_server_without_tokens_takes_none_and_says_so() {
    let server = Server::start();
    let token = Issuer::new().token("asha", &json!({}));
    ask(&server, &token, "GET", "/v1/bookings/x", &Value::Null).expect_problem(401, "invalid_key");
    ask(&server, "a.b.c", "GET", "/v1/bookings/x", &Value::Null).expect_problem(401, "invalid_key");
    ask(&server, "admin-key", "POST", "/v1/admin/revocations", &json!({"jti": "x"})).expect_problem(404, "not_found");
}

#[test]
fn keys_of_the_issuer_are_taken_up_while_serving() {
    let issuer = Issuer::new();
    let server = issuer.server();
    let token = issuer.token("asha", &json!({}));
    let code =
        |token: &str| ask(&server, token, "GET", "/v1/parties/p1.1/bookings", &Value::Null).json()["code"].clone();
    assert_eq!(code(&token), "unknown_party");
    issuer.publish("k2");
    let started = Instant::now();
    while code(&token) != "invalid_token" {
        assert!(started.elapsed() < PATIENCE, "its key is gone, and it still opens");
        std::thread::sleep(Duration::from_millis(20));
    }
}
