//! Limits of rate, and of what one account may set aside.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client::{PATIENCE, Reply};
use crate::server::{Server, claim, claims};

/// The tests are the proxy, and say from which address each request came.
const PROXY: &str = "[rates]\ntrusted_proxies = ['127.0.0.0/8']\n";

/// So slow that a test never sees a bucket fill again.
fn limited(rows: &[(&str, u32)]) -> Server {
    let rows: Vec<_> =
        rows.iter().map(|(row, burst)| format!("{row} = {{ per_second = 0.001, burst = {burst} }}\n")).collect();
    Server::start_with(&format!("{PROXY}{}", rows.concat()))
}

fn search(server: &Server, headers: &[(&str, &str)]) -> Reply {
    server.send("GET", "/v1/regions", headers, b"")
}

/// As the platform, for this account.
fn post_for(server: &Server, account: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let key = server.fresh_key();
    let headers =
        [("authorization", "Bearer platform-key"), ("idempotency-key", key.as_str()), ("berth-account", account)];
    server.send("POST", path, &headers, body.as_bytes())
}

#[test]
fn an_address_that_asks_too_often_is_told_when_to_come_again() {
    let server = limited(&[("address.search", 2)]);
    let from = |address: &str| search(&server, &[("x-forwarded-for", address)]);
    let first = from("203.0.113.5");
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), Some("\"address-search\";q=2;w=2000"));
    assert!(first.header("ratelimit").unwrap().starts_with("\"address-search\";r=1;t="), "{first:?}");
    assert_eq!(from("203.0.113.5").status, 200);
    let refused = from("203.0.113.5");
    let problem = refused.expect_problem(429, "rate_limited");
    assert_eq!((&problem["charged_to"], &problem["class"]), (&json!("address"), &json!("search")));
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((900..=1502).contains(&after), "{after}");
    assert!(refused.header("ratelimit").unwrap().starts_with("\"address-search\";r=0;t="), "{refused:?}");
    assert_eq!(from("203.0.113.6").status, 200, "another address is another");
    // The search that is asked most is no way around it.
    for (address, status) in [("203.0.113.5", 429), ("203.0.113.7", 404)] {
        let found = server.send("GET", "/v1/availability?district=1", &[("x-forwarded-for", address)], b"");
        assert_eq!(found.status, status, "{}", found.text());
        assert!(found.header("ratelimit").is_some());
    }
    // What the client wrote itself stands before what the proxy wrote.
    assert_eq!(from("198.51.100.9, 203.0.113.5").status, 429);
    assert_eq!(from("2001:db8::1").status, 200);
    assert_eq!(from("2001:db8::2").status, 200);
    assert_eq!(from("2001:db8::3").status, 429, "a household is one");
    assert_eq!(server.get("/healthz").status, 200);
    let metrics = server.get("/metrics");
    let line = "berth_rate_limited_total{charged_to=\"address\",class=\"search\"} 4\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

#[test]
fn who_has_an_account_or_a_key_is_not_charged_for_the_address_it_shares() {
    let server = limited(&[("address.search", 1), ("account.search", 2), ("key.search", 5)]);
    let from = |more: &[(&str, &str)]| search(&server, &[&[("x-forwarded-for", "203.0.113.5")], more].concat()).status;
    assert_eq!((from(&[]), from(&[])), (200, 429));
    let key = ("authorization", "Bearer platform-key");
    let account = |account| from(&[key, ("berth-account", account)]);
    assert_eq!((account("asha"), account("asha"), account("asha")), (200, 200, 429));
    assert_eq!((account("ravi"), account("ravi")), (200, 200));
    assert_eq!((from(&[key]), from(&[key])), (200, 429), "the key has its own, over all its accounts");
    assert_eq!(from(&[("authorization", "Bearer nobody")]), 429, "what opens nothing is the address's");
}

#[test]
fn a_known_key_is_not_charged_to_its_address_though_it_has_no_limit_of_its_own() {
    let server = limited(&[("address.search", 1)]);
    let from = |more: &[(&str, &str)]| search(&server, &[&[("x-forwarded-for", "203.0.113.5")], more].concat()).status;
    let key = [("authorization", "Bearer platform-key")];
    assert_eq!((from(&key), from(&key), from(&[]), from(&[]), from(&key)), (200, 200, 200, 429, 200));
}

#[test]
fn holding_is_limited_and_settling_is_not() {
    let server = limited(&[("account.hold", 2), ("account.other", 1)]);
    server.add_places();
    server.add_parties(9);
    let slots = server.add_slots("s", &[9]);
    let hold = |party: &str| post_for(&server, "asha", "/v1/holds", &claims(&[claim(party, &slots[0])]));
    let codes = ["p1.0", "p1.1"].map(|party| hold(party).expect(201)["hold"].as_str().unwrap().to_owned());
    hold("p1.2").expect_problem(429, "rate_limited");
    let booked = post_for(&server, "asha", "/v1/bookings", &claims(&[claim("p1.2", &slots[0])]));
    booked.expect_problem(429, "rate_limited");
    for _ in 0..3 {
        post_for(&server, "asha", &format!("/v1/holds/{}/confirm", codes[0]), &Value::Null);
    }
    post_for(&server, "asha", &format!("/v1/holds/{}/release", codes[1]), &Value::Null).expect(200);
    post_for(&server, "asha", &format!("/v1/bookings/{}/cancel", codes[0]), &Value::Null).expect(200);
    post_for(&server, "asha", "/v1/bookings/x/cancel", &Value::Null).expect_problem(429, "rate_limited");
    // Without the account it is the platform's own request.
    server.post("/v1/bookings", &claims(&[claim("p1.3", &slots[0])])).expect(201);
}

#[test]
fn keys_that_open_nothing_are_charged_to_the_address_they_come_from() {
    let server = limited(&[("address.refused", 2)]);
    let ask = |address: &str, key: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [("x-forwarded-for", address), ("authorization", &bearer)];
        server.send("GET", "/v1/bookings/x", &headers, b"").status
    };
    assert_eq!((ask("203.0.113.5", "a"), ask("203.0.113.5", "b"), ask("203.0.113.5", "c")), (401, 401, 429));
    assert_eq!(ask("203.0.113.5", "platform-key"), 400, "who shares the address and has a key goes on");
    assert_eq!(ask("203.0.113.6", "a"), 401);
}

#[test]
fn without_limits_nothing_is_said_of_them() {
    let server = Server::start();
    let found = search(&server, &[]);
    assert_eq!((found.status, found.header("ratelimit"), found.header("ratelimit-policy")), (200, None, None));
    let odd = post_for(&server, "a b", "/v1/holds", &Value::Null);
    odd.expect_problem(400, "malformed_request");
}

// rule: HLD-6
#[test]
fn an_account_sets_aside_so_much_and_no_more() {
    let server = Server::start_with("[accounts]\nholds_live_max = 2\nholds_expired_per_hour_max = 1\n");
    server.add_places();
    server.add_parties(20);
    let slots = server.add_slots("s", &[20]);
    let try_hold = |account: &str, party: u32, ttl: u32| {
        let body = json!({"claims": [claim(&format!("p1.{party}"), &slots[0])], "ttl_seconds": ttl});
        post_for(&server, account, "/v1/holds", &body)
    };
    let hold = |party, ttl| try_hold("asha", party, ttl).expect(201)["hold"].as_str().unwrap().to_owned();
    let (one, two) = (hold(0, 300), hold(1, 300));
    let refused = try_hold("asha", 2, 300).expect_problem(409, "hoarding");
    assert_eq!((&refused["max"], &refused["limit"]), (&json!(2), &json!("holds_live")));
    assert!(refused["from"].as_str().unwrap().ends_with("+05:30"), "{refused}");
    try_hold("ravi", 3, 300).expect(201);
    // What was settled counts no more.
    post_for(&server, "asha", &format!("/v1/holds/{one}/confirm"), &Value::Null).expect(200);
    let three = hold(4, 300);
    for code in [&two, &three] {
        post_for(&server, "asha", &format!("/v1/holds/{code}/release"), &Value::Null).expect(200);
    }
    let left = hold(5, 1);
    let started = Instant::now();
    while server.read(&format!("/v1/bookings/{left}")).expect(200)["state"] != "expired" {
        assert!(started.elapsed() < PATIENCE, "it does not expire");
    }
    let refused = try_hold("asha", 6, 300).expect_problem(409, "hoarding");
    assert_eq!(
        (&refused["max"], &refused["limit"]),
        (&json!(1), &json!("holds_expired_per_hour")),
        "one was left to expire within the hour: {refused}"
    );
    server.post("/v1/holds", &claims(&[claim("p1.7", &slots[0])])).expect(201);
}

// rule: HLD-6
#[test]
fn a_repeat_of_a_hold_is_answered_however_much_the_account_holds() {
    let server = Server::start_with("[accounts]\nholds_live_max = 1\n");
    server.add_places();
    server.add_parties(4);
    let slots = server.add_slots("s", &[4]);
    let hold = |key: &str, party: &str| {
        let headers = [("authorization", "Bearer platform-key"), ("idempotency-key", key), ("berth-account", "asha")];
        server.send("POST", "/v1/holds", &headers, claims(&[claim(party, &slots[0])]).to_string().as_bytes())
    };
    let first = hold("k1", "p1.0").expect(201);
    hold("k2", "p1.1").expect_problem(409, "hoarding");
    assert_eq!(hold("k1", "p1.0").expect(201), first);
    // One at a time, however many ask at once.
    let code = first["hold"].as_str().unwrap();
    post_for(&server, "asha", &format!("/v1/holds/{code}/release"), &Value::Null).expect(200);
    let made = std::thread::scope(|scope| {
        let racing: Vec<_> = (0..3)
            .map(|i| {
                let hold = &hold;
                scope.spawn(move || hold(&format!("race-{i}"), &format!("p1.{}", i + 1)).status)
            })
            .collect();
        racing.into_iter().map(|thread| thread.join().unwrap()).filter(|&s| s == 201).count()
    });
    assert_eq!(made, 1);
}
