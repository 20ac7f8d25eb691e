//! A server of its own for each test, and the calls tests make most.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::client::{PATIENCE, Reply, exchange, request};
use crate::contract;

pub(crate) const ADMIN: &str = "admin-key";
pub(crate) const PLATFORM: &str = "platform-key";

pub(crate) fn sha256(key: &str) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn programme_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../programmes/india-2021.toml")
}

/// `berth` with these arguments, not yet started.
pub(crate) fn berth(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command.args(arguments);
    command
}

/// Tomorrow where the programme is; the same to the end of the process, though midnight come.
pub(crate) fn tomorrow() -> Date {
    static TOMORROW: LazyLock<Date> = LazyLock::new(|| {
        let zone = jiff::tz::TimeZone::get("Asia/Kolkata").unwrap();
        jiff::Timestamp::now().to_zoned_datetime(zone).date().saturating_add(1.days())
    });
    *TOMORROW
}

/// A running server. Dropped, it is killed.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) home: Home,
    keys: AtomicU32,
}

/// The server's directory: its configuration, its log and, in `data`, its journal. It outlives its servers.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new(config: &str) -> Home {
        Home::with_programme(config, &programme_path())
    }

    pub(crate) fn with_programme(config: &str, programme: &Path) -> Home {
        let home = tempfile::tempdir().unwrap();
        let text = format!(
            "listen = '127.0.0.1:0'\ndata_dir = {data:?}\nprogramme = {programme:?}\n\
             segment_mib = 5\nbuffer_mib = 4\n{config}\n\
             [[keys]]\nrole = 'admin'\nname = 'a'\nsha256 = '{admin}'\n\
             [[keys]]\nrole = 'platform'\nname = 'p'\nsha256 = '{platform}'\n",
            data = home.path().join("data"),
            admin = sha256(ADMIN),
            platform = sha256(PLATFORM),
        );
        // What a test did shows in its next search, unless it says otherwise.
        let search = if config.contains("[search]") { "" } else { "[search]\nstaleness_ms = 0\n" };
        std::fs::write(home.path().join("berth.toml"), text + search).unwrap();
        Home(home)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn serve(&self) -> Command {
        berth(&["serve", "--config", self.path("berth.toml").to_str().unwrap()])
    }

    pub(crate) fn start(self) -> Server {
        self.start_with_flags(&[])
    }

    pub(crate) fn start_with_flags(self, flags: &[&str]) -> Server {
        let log = File::options().create(true).append(true).open(self.path("stderr.log")).unwrap();
        let mut child = self.serve().args(flags).stdout(Stdio::piped()).stderr(log).spawn().expect("the binary starts");
        let stdout = child.stdout.take().unwrap();
        let process = Process(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("berth listening on ").and_then(|url| url.split_once("://")?.1.parse().ok());
        let Some(address) = address else {
            panic!("{line:?} {}", std::fs::read_to_string(self.path("stderr.log")).unwrap());
        };
        Server { process, address, home: self, keys: AtomicU32::new(0) }
    }

    /// What the servers of this directory told on standard error.
    pub(crate) fn told(&self) -> String {
        std::fs::read_to_string(self.path("stderr.log")).unwrap()
    }
}

/// A process that waits for a server to leave.
pub(crate) struct Successor(Process);

impl Successor {
    /// Once it serves, in the place of the one before.
    pub(crate) fn serves(mut self, home: Home, address: SocketAddr) -> Server {
        let mut line = String::new();
        BufReader::new(self.0.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, format!("berth listening on http://{address}\n"), "{}", home.told());
        Server { process: self.0, address, home, keys: AtomicU32::new(1_000_000) }
    }
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// In a fresh directory.
    pub(crate) fn start() -> Server {
        Server::start_with("")
    }

    /// In a fresh directory, with more lines of configuration.
    pub(crate) fn start_with(config: &str) -> Server {
        Home::new(config).start()
    }

    pub(crate) fn data_dir(&self) -> String {
        self.home.path("data").to_str().unwrap().to_owned()
    }

    /// Starts the process that is to take over, and waits until it says that it waits.
    pub(crate) fn successor(&self) -> Successor {
        let log = File::options().append(true).open(self.home.path("stderr.log")).unwrap();
        let mut command = self.home.serve();
        command.args(["--listen", &self.address.to_string(), "--wait-for-lock", "60"]);
        let child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the binary starts");
        let successor = Successor(Process(child));
        let started = Instant::now();
        while !self.home.told().contains("waiting for the process that serves here") {
            assert!(started.elapsed() < PATIENCE, "it does not wait: {}", self.home.told());
            std::thread::sleep(Duration::from_millis(5));
        }
        successor
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    pub(crate) fn signal(&self, signal: &str) {
        let killed = Command::new("kill").args([signal, &self.process.0.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for the process to end, and hands back its directory.
    pub(crate) fn ended(mut self) -> (ExitStatus, Home) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.0.try_wait().unwrap() {
                return (status, self.home);
            }
            assert!(started.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> Home {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
        self.home
    }

    /// `kill -9`, then a new server on the same directory.
    pub(crate) fn kill_and_restart(self) -> Server {
        drop(self.process);
        self.home.start()
    }

    /// An `Idempotency-Key` that this server has not seen.
    pub(crate) fn fresh_key(&self) -> String {
        format!("test-{}", self.keys.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut all = vec![("connection", "close")];
        all.extend(headers);
        let reply = exchange(self.address, &request(method, path, &all, body));
        contract::check(method, path, &reply);
        reply
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    /// As the platform.
    pub(crate) fn read(&self, path: &str) -> Reply {
        self.send("GET", path, &[("authorization", "Bearer platform-key")], b"")
    }

    /// As the platform, under a fresh key.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_under(&self.fresh_key(), path, body)
    }

    /// As the platform, under this key. `null` is no body.
    pub(crate) fn post_under(&self, key: &str, path: &str, body: &Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers =
            [("authorization", "Bearer platform-key"), ("idempotency-key", key), ("content-type", "application/json")];
        self.send("POST", path, &headers, body.as_bytes())
    }

    /// NDJSON as the admin, under a fresh key.
    pub(crate) fn publish(&self, path: &str, body: &str) -> Reply {
        let key = self.fresh_key();
        let headers = [
            ("authorization", "Bearer admin-key"),
            ("idempotency-key", &key),
            ("content-type", "application/x-ndjson"),
        ];
        self.send("POST", path, &headers, body.as_bytes())
    }

    /// Parties from `p1.0` on, in a fresh directory.
    pub(crate) fn add_parties(&self, count: u32) {
        let key = self.fresh_key();
        let headers = [("authorization", "Bearer admin-key"), ("idempotency-key", key.as_str())];
        let body = json!({"count": count, "birth_year": 1980}).to_string();
        self.send("POST", "/v1/parties", &headers, body.as_bytes()).expect(201);
    }

    /// State 27, district 395 and centre c1.
    pub(crate) fn add_places(&self) {
        let regions = concat!(
            r#"{"id":"27","kind":"state","name":"Maharashtra"}"#,
            "\n",
            r#"{"id":"395","kind":"district","name":"Mumbai","parent":"27"}"#,
        );
        assert_eq!(self.publish("/v1/regions", regions).expect(200), json!({"published": 2}));
        let centre = r#"{"id":"c1","name":"PHC One","district":"395","pincode":"400001"}"#;
        assert_eq!(self.publish("/v1/centres", centre).expect(200), json!({"published": 1}));
    }

    /// A session of centre c1 tomorrow with these windows; the names of its slots, window by window.
    pub(crate) fn add_session(&self, id: &str, windows: &Value) -> Vec<String> {
        let line = session_line(id, windows);
        self.publish("/v1/sessions", &line).expect(200);
        let found = self.get(&format!("/v1/availability?centre=c1&from={}&days=1", tomorrow())).expect(200);
        let sessions = found["centres"][0]["sessions"].as_array().unwrap();
        let session = sessions.iter().find(|s| s["id"] == id).expect("what was published is found");
        session["slots"].as_array().unwrap().iter().map(|s| s["slot"].as_str().unwrap().to_owned()).collect()
    }

    /// Places, ten parties and one session with slots of these capacities in pool `dose1`.
    pub(crate) fn with_slots(capacities: &[u32]) -> (Server, Vec<String>) {
        let server = Server::start();
        server.add_places();
        server.add_parties(10);
        let slots = server.add_slots("s", capacities);
        (server, slots)
    }

    /// One more session, with one window for each of these capacities in pool `dose1`.
    pub(crate) fn add_slots(&self, id: &str, capacities: &[u32]) -> Vec<String> {
        let window = |(hour, capacity): (usize, &u32)| json!({"start": format!("{:02}:00", 9 + hour), "end": format!("{:02}:00", 10 + hour), "pools": {"dose1": capacity}});
        self.add_session(id, &capacities.iter().enumerate().map(window).collect())
    }

    /// Scrapes until this line shows.
    #[track_caller]
    pub(crate) fn wait_for_metric(&self, line: &str) {
        let started = Instant::now();
        while !self.get("/metrics").text().lines().any(|l| l == line) {
            assert!(started.elapsed() < PATIENCE, "{line} never shows");
        }
    }

    /// The export's lines; the last is `end`.
    pub(crate) fn export(&self) -> Vec<Value> {
        let reply = self.send("GET", "/v1/export", &[("authorization", "Bearer admin-key")], b"");
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")));
        lines(reply.text())
    }

    /// Capacity, held and booked of a slot, by the export.
    pub(crate) fn slot_counts(&self, slot: &str) -> (u64, u64, u64) {
        let export = self.export();
        let line = export.iter().find(|l| l["kind"] == "slot" && l["slot"] == slot).expect("the slot is exported");
        let count = |name: &str| line[name].as_u64().unwrap();
        (count("capacity"), count("held"), count("booked"))
    }
}

pub(crate) fn session_line(id: &str, windows: &Value) -> String {
    json!({"id": id, "centre": "c1", "date": tomorrow().to_string(), "product": "covishield", "windows": windows})
        .to_string()
}

pub(crate) fn claim(party: &str, slot: &str) -> Value {
    json!({"party": party, "slot": slot, "dose": 1})
}

pub(crate) fn claims(claims: &[Value]) -> Value {
    json!({"claims": claims})
}

/// NDJSON.
pub(crate) fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
