//! A redis-server of a test's own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// So long that only what never comes meets it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Killed when dropped; what it acknowledged is on its disk.
pub(crate) struct Redis {
    child: Child,
    pub(crate) port: u16,
}

impl Redis {
    /// On `port`, with what `dir` keeps.
    pub(crate) fn start(dir: &Path, port: u16) -> Redis {
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(dir)
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on the path: apt-get install -y redis-server");
        let redis = Redis { child, port };
        drop(redis.connection());
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn connection(&self) -> ::redis::Connection {
        let client = ::redis::Client::open(self.url()).expect("a plain URL");
        patiently("Redis answers", || client.get_connection().ok())
    }

    /// Every event of a stream with its id, in order.
    pub(crate) fn events(&self, stream: &str) -> Vec<(String, Value)> {
        let read: Vec<(String, Vec<(String, String)>)> = ::redis::cmd("XRANGE")
            .arg(stream)
            .arg("-")
            .arg("+")
            .query(&mut self.connection())
            .expect("a stream, or nothing");
        read.into_iter()
            .map(|(id, fields)| {
                let [(name, json)] = fields.as_slice() else { panic!("one field: {fields:?}") };
                assert_eq!(name, "event");
                (id, serde_json::from_str(json).expect("JSON"))
            })
            .collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Waits for something that must come; how long it takes decides nothing.
#[track_caller]
pub(crate) fn patiently<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within a minute");
}
