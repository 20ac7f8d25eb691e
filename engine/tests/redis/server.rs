//! A real redis-server, and what the tests that need one ask of it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use berth_engine::journal::frame::Frame;
use berth_engine::*;

use crate::support::config;

/// A redis-server of the test's own; killed when dropped.
pub(crate) struct Redis {
    pub(crate) child: Child,
    pub(crate) port: u16,
}

impl Redis {
    /// Appends every write to disk at once, so that a restart has what it acknowledged.
    pub(crate) fn start(dir: &Path, port: u16) -> Self {
        Self::start_with(dir, port, &[])
    }

    pub(crate) fn start_with(dir: &Path, port: u16, settings: &[&str]) -> Self {
        let child = Process::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(dir)
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
            .args(settings)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on the path: apt-get install -y redis-server");
        patiently("it listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { child, port }
    }

    /// Stops answering, and keeps its connections: as a machine that hangs.
    pub(crate) fn hang(&self, hangs: bool) {
        let signal = if hangs { "-STOP" } else { "-CONT" };
        let told = Process::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    pub(crate) fn connection(&self) -> redis::Connection {
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

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for something that must come; how long it takes decides nothing.
pub(crate) fn patiently<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("{what}: not within a minute");
}

pub(crate) fn shipped(engine: &Engine) -> u64 {
    let seq = engine.appended().0;
    patiently("everything is shipped", || {
        let redis = engine.stats().redis.unwrap();
        (redis.shipped == seq).then_some(redis.shipped)
    })
}

/// A stream entry: its id and its fields.
type Read = (String, Vec<(String, Vec<u8>)>);

/// Every entry in the stream, in order, with whole frames under explicit ids.
pub(crate) fn entries(connection: &mut redis::Connection) -> Vec<u64> {
    let read: Vec<Read> = redis::cmd("XRANGE").arg("berth:1:journal").arg("-").arg("+").query(connection).unwrap();
    let mut seqs = Vec::new();
    for (id, fields) in read {
        let frame = Frame::read(&fields[0].1).unwrap();
        assert_eq!(id, format!("{}-0", frame.header.last()));
        frame.entries(|seq, _| seqs.push(seq.0)).unwrap();
    }
    seqs
}

pub(crate) fn with_redis(dir: &Path, port: u16) -> Config {
    let mut config = config(dir);
    let url = format!("redis://127.0.0.1:{port}");
    config.journal.redis = Some(RedisConfig::new(url, "berth:1"));
    config
}
