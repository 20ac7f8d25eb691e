//! How safe an effect is when its answer comes: in memory, on disk, in Redis.
//!
//! Needs `redis-server` on the path; `cargo xtask test` installs it where it may.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::Commands as _;
use serde_json::{Value, json};

use crate::client::{PATIENCE, Reply};
use crate::server::{Server, berth, claim, claims};

/// A redis-server of the test's own, which forgets all when it ends; killed when dropped.
pub(crate) struct Redis(Child, pub(crate) u16);

impl Redis {
    pub(crate) fn start(port: u16) -> Redis {
        let port_text = port.to_string();
        let arguments = ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let child = Command::new("redis-server").args(arguments).stdout(Stdio::null()).spawn();
        let redis = Redis(child.expect("redis-server is on the path: apt-get install -y redis-server"), port);
        drop(redis.connection());
        redis
    }

    fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.1)).unwrap();
        let started = Instant::now();
        loop {
            match client.get_connection() {
                Ok(connection) => return connection,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn with_redis(port: u16, more: &str) -> String {
    format!("{more}\nredis.url = 'redis://127.0.0.1:{port}'\nredis.prefix = 'acks'")
}

/// As the platform.
fn ask(server: &Server, ack: &str, key: &str, method: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = [("authorization", "Bearer platform-key"), ("idempotency-key", key), ("berth-ack", ack)];
    server.send(method, path, &headers, body.as_bytes())
}

pub(crate) fn ready(server: &Server) -> Vec<String> {
    server.add_places();
    server.add_parties(10);
    server.add_slots("s", &[5])
}

#[test]
fn what_is_acknowledged_in_redis_mode_is_in_the_stream_when_the_answer_comes() {
    let redis = Redis::start(free_port());
    let mut connection = redis.connection();
    let server = Server::start_with(&with_redis(redis.1, "ack = 'redis'"));
    let mut last = || connection.hget::<_, _, u64>("acks:head", "last").unwrap();
    // The programme, regions and centres, then parties, then a session: one entry each.
    server.add_places();
    assert_eq!(last(), 3);
    server.add_parties(10);
    assert_eq!(last(), 4);
    let slots = server.add_slots("s", &[5]);
    assert_eq!(last(), 5);
    for (party, seq) in (0..5).zip(6..) {
        server.post("/v1/bookings", &claims(&[claim(&format!("p1.{party}"), &slots[0])])).expect(201);
        assert_eq!(last(), seq);
    }
    server.wait_for_metric("berth_http_acks_total{ack=\"disk\"} 0");
    assert_eq!(server.export().last().unwrap()["seq"], 10);
}

/// A server whose Redis was there when the cell began and is gone from then on, the slots to book there, and that port.
pub(crate) fn without_its_redis() -> (Server, Vec<String>, u16) {
    without_its_redis_and("ack_redis_time_ms = 50")
}

/// With these lines of configuration.
pub(crate) fn without_its_redis_and(config: &str) -> (Server, Vec<String>, u16) {
    let port = free_port();
    let redis = Redis::start(port);
    let server = Server::start_with(&with_redis(port, config));
    server.wait_for_metric("berth_redis_connected 1");
    drop(redis);
    server.wait_for_metric("berth_redis_connected 0");
    let slots = ready(&server);
    (server, slots, port)
}

/// Redis is down: whoever waits for it is told, in whatever way a claim would be shown; whoever does not goes on.
// rule: IDM-2
#[test]
fn while_redis_is_down_nothing_is_shown_in_redis_mode_and_disk_goes_on() {
    let (server, slots, port) = without_its_redis();
    let body = claims(&[claim("p1.0", &slots[0])]);
    let late = |reply: Reply| {
        assert_eq!(reply.header("retry-after"), Some("1"));
        reply.expect_problem(503, "redis_late");
    };
    late(ask(&server, "redis", "k", "POST", "/v1/bookings", &body));
    let outcome = ask(&server, "disk", "", "GET", "/v1/outcomes/k", &Value::Null).expect(201);
    let booking = format!("/v1/bookings/{}", outcome["hold"].as_str().unwrap());
    for path in ["/v1/outcomes/k", &booking, "/v1/parties/p1.0/bookings"] {
        late(ask(&server, "redis", "", "GET", path, &Value::Null));
        assert!(ask(&server, "disk", "", "GET", path, &Value::Null).status < 300);
        assert!(ask(&server, "Memory", "", "GET", path, &Value::Null).status < 300);
    }
    late(ask(&server, "redis", "other", "POST", "/v1/bookings", &body));
    ask(&server, "disk", "other", "POST", "/v1/bookings", &body).expect_problem(409, "already_claimed");
    late(ask(&server, "redis", "k", "POST", "/v1/bookings", &body));
    let replayed = ask(&server, "disk", "k", "POST", "/v1/bookings", &body);
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    assert_eq!(replayed.expect(201), outcome);
    let region = [("authorization", "Bearer admin-key"), ("idempotency-key", "r"), ("berth-ack", "redis")];
    late(server.send("POST", "/v1/regions", &region, br#"{"id":"28","kind":"state","name":"Goa"}"#));
    assert!(server.export().last().unwrap()["kind"] == "end");

    // Back again: the same key gets the answer that was due.
    let _redis = Redis::start(port);
    server.wait_for_metric("berth_redis_lag_entries 0");
    assert_eq!(ask(&server, "redis", "k", "POST", "/v1/bookings", &body).expect(201), outcome);
    assert_eq!(server.export().iter().filter(|line| line["kind"] == "booking").count(), 1, "one effect");
}

#[test]
fn what_is_acknowledged_in_redis_survives_a_power_cut_with_all_before_it() {
    let redis = Redis::start(free_port());
    let home = crate::server::Home::new(&with_redis(redis.1, "ack = 'memory'"));
    let mut server = home.start_with_flags(&["--power-cut-rehearsal"]);
    let slots = ready(&server);
    for party in 0..4 {
        server.post("/v1/bookings", &claims(&[claim(&format!("p1.{party}"), &slots[0])])).expect(201);
        if party == 3 {
            let last = claims(&[claim("p1.4", &slots[0])]);
            ask(&server, "redis", "last", "POST", "/v1/bookings", &last).expect(201);
            server = server.kill().start_with_flags(&["--power-cut-rehearsal"]);
        }
    }
    let booked = server.export().into_iter().filter(|line| line["kind"] == "booking");
    let parties: Vec<_> = booked.map(|line| line["party"].clone()).collect();
    assert_eq!(parties, (0..5).map(|party| json!(format!("p1.{party}"))).collect::<Vec<_>>());
}

#[test]
fn a_mode_that_cannot_be_had_is_refused_before_anything_is_done() {
    let server = Server::start();
    let slots = ready(&server);
    let body = claims(&[claim("p1.0", &slots[0])]);
    ask(&server, "redis", "k", "POST", "/v1/bookings", &body).expect_problem(503, "ack_unavailable");
    ask(&server, "disk", "", "GET", "/v1/outcomes/k", &Value::Null).expect_problem(404, "unknown_key");
    ask(&server, "paper", "k", "POST", "/v1/bookings", &body).expect_problem(400, "malformed_request");
    ask(&server, "disk\r\nberth-ack: disk", "k", "POST", "/v1/bookings", &body)
        .expect_problem(400, "malformed_request");
    server.get("/v1/regions").expect(200);

    let config = server.home.path("berth.toml");
    let refused = berth(&["serve", "--ack", "redis", "--config", config.to_str().unwrap()]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("ack: is redis, and there is no [redis]"));
}

/// Memory promises nothing by itself; but what is acknowledged on disk takes with it all that came before.
#[test]
fn what_is_acknowledged_on_disk_survives_a_power_cut_with_all_before_it() {
    let home = crate::server::Home::new("ack = 'memory'");
    let server = home.start_with_flags(&["--power-cut-rehearsal"]);
    server.add_places();
    server.add_parties(12);
    let slots = server.add_slots("s", &[12]);
    for party in 0..4 {
        server.post("/v1/bookings", &claims(&[claim(&format!("p1.{party}"), &slots[0])])).expect(201);
    }
    let acks = |mode: &str| format!("berth_http_acks_total{{ack=\"{mode}\"}}");
    let metrics = server.get("/metrics");
    // Two places, parties, a session and four bookings.
    assert!(metrics.text().contains(&format!("{} 8\n", acks("memory"))), "{}", metrics.text());
    assert!(metrics.text().contains(&format!("{} 0\n{} 0\n", acks("disk"), acks("redis"))));
    // Killed at once: a sync that came only after the answer would be too late, more often than not in so many rounds.
    let mut server = server;
    for party in 4..12 {
        let last = claims(&[claim(&format!("p1.{party}"), &slots[0])]);
        ask(&server, "disk", &format!("last-{party}"), "POST", "/v1/bookings", &last).expect(201);
        server = server.kill().start_with_flags(&["--power-cut-rehearsal"]);
        let booked = server.export().into_iter().filter(|line| line["kind"] == "booking");
        let parties: Vec<_> = booked.map(|line| line["party"].clone()).collect();
        assert_eq!(parties, (0..=party).map(|party| json!(format!("p1.{party}"))).collect::<Vec<_>>());
    }
}
