//! Write-behind to a real redis-server: shipped whole and in order, caught up after an outage, fenced.
//!
//! Needs `redis-server` on the path; `cargo xtask test` installs it where it may.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use berth_engine::journal::frame::Frame;
use berth_engine::*;
use redis::Commands;
use support::{book, config, open, seed};

/// A redis-server of the test's own; killed when dropped.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// Appends every write to disk at once, so that a restart has what it acknowledged.
    fn start(dir: &Path, port: u16) -> Self {
        let child = Process::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(dir)
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on the path: apt-get install -y redis-server");
        Self { child, port }
    }

    fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        patiently("redis answers", || client.get_connection().ok())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for something that must come; how long it takes decides nothing.
fn patiently<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("{what}: not within a minute");
}

fn shipped(engine: &Engine) -> u64 {
    let seq = engine.appended().0;
    patiently("everything is shipped", || {
        let redis = engine.stats().redis.unwrap();
        (redis.shipped == seq).then_some(redis.shipped)
    })
}

/// A stream entry: its id and its fields.
type Read = (String, Vec<(String, Vec<u8>)>);

/// Every entry in the stream, in order, with whole frames under explicit ids.
fn entries(connection: &mut redis::Connection) -> Vec<u64> {
    let read: Vec<Read> = redis::cmd("XRANGE").arg("berth:1:journal").arg("-").arg("+").query(connection).unwrap();
    let mut seqs = Vec::new();
    for (id, fields) in read {
        let frame = Frame::read(&fields[0].1).unwrap();
        assert_eq!(id, format!("{}-0", frame.header.last()));
        frame.entries(|seq, _| seqs.push(seq.0)).unwrap();
    }
    seqs
}

fn with_redis(dir: &Path, port: u16) -> Config {
    let mut config = config(dir);
    let url = format!("redis://127.0.0.1:{port}");
    config.journal.redis = Some(RedisConfig::new(url, "berth:1"));
    config
}

// rule: FNC-1
#[test]
fn the_stream_holds_the_log_through_outage_wipe_and_restart() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let redis = Redis::start(store.path(), port);
    drop(redis.connection());
    let config = with_redis(data.path(), port);
    let engine = open(&config);
    let slot = seed(&engine, 1000, 1000);
    for party in 0..100 {
        book(&engine, party, slot);
    }
    let seq = shipped(&engine);
    assert_eq!(entries(&mut redis.connection()), (1..=seq).collect::<Vec<_>>());

    // Redis gone: booking goes on and is durable; the lag is told; Redis back: it catches up.
    drop(redis);
    for party in 100..200 {
        let (_, seq) = book(&engine, party, slot);
        engine.ticket(seq).wait().unwrap();
    }
    patiently("the loss is noticed", || (engine.stats().redis.unwrap().connected == 0).then_some(()));
    assert!(engine.stats().redis.unwrap().lag_entries >= 100);
    let redis = Redis::start(store.path(), port);
    let seq = shipped(&engine);
    assert_eq!(entries(&mut redis.connection()), (1..=seq).collect::<Vec<_>>());

    // Wiped: noticed without new entries, and shipped again from the start of the log.
    let () = redis::cmd("FLUSHALL").query(&mut redis.connection()).unwrap();
    patiently("the wipe is healed", || (entries(&mut redis.connection()).len() as u64 == seq).then_some(()));

    // A restarted engine goes on where the stream ends, in a new epoch.
    engine.close().unwrap();
    drop(engine);
    let engine = open(&config);
    for party in 200..300 {
        book(&engine, party, slot);
    }
    let seq = shipped(&engine);
    assert_eq!(entries(&mut redis.connection()), (1..=seq).collect::<Vec<_>>());
    let epoch: u32 = redis.connection().hget("berth:1:head", "epoch").unwrap();
    assert_eq!(Epoch(epoch), engine.epoch());
}

/// A copy of the directory started elsewhere, an older owner, or a stream of another history does not ship.
// rule: FNC-1, FNC-3
#[test]
fn an_older_epoch_and_another_history_are_fenced() {
    let (data, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(store.path(), free_port());
    let mut connection = redis.connection();
    let engine = open(&with_redis(data.path(), redis.port));
    seed(&engine, 1000, 1000);
    let before = shipped(&engine);
    let () = connection.hset("berth:1:head", "epoch", 99).unwrap();
    patiently("it is fenced", || (engine.stats().redis.unwrap().fenced == 1).then_some(()));
    assert_eq!(entries(&mut connection).len() as u64, before);
    // Fail-stop: nothing more is acknowledged.
    let command = Command::AddParties { count: 1, facts: PartyFacts::default() };
    assert!(engine.submit(&Request { command, idempotency: None }, engine.now()).is_err());

    let (other, mut config) = (tempfile::tempdir().unwrap(), config(data.path()));
    config.journal = with_redis(other.path(), redis.port).journal;
    let () = connection.hset("berth:1:head", "epoch", 0).unwrap();
    let engine = open(&config);
    let slot = seed(&engine, 10, 10);
    book(&engine, 1, slot);
    patiently("it stops", || (engine.stats().redis.unwrap().stopped == 1).then_some(()));
    assert_eq!(entries(&mut connection).len() as u64, before, "another history was mixed in");
}
