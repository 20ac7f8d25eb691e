//! Durable bookings in bulk over HTTP: NDJSON in, NDJSON out, a real server in a process of its own, on a loopback connection.
//!
//! Each round books parties and keys that are new, every result is read, and the last line must say that all were done. The client
//! sends bytes made beforehand and counts line ends, so that it takes little of the two processors both sides share.
//!
//! `cargo build --release -p berth-api && cargo bench -p berth-benches --bench bulk`

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::Criterion;
use jiff::ToSpan;

/// SHA-256 of `bench-admin` and of `bench-platform`.
const ADMIN_SHA256: &str = "8bb8d0b4f04390d736d82ad01131c0cc2da7e222dbe064f4d31605dbca2d2afd";
const PLATFORM_SHA256: &str = "eb9cead609d2744a42fbddaaf67564586ee2215e34b99c07d1d741375319c912";
const SESSIONS: u32 = 20;
const WINDOWS: u32 = 48;
const SLOTS: u32 = SESSIONS * WINDOWS;
/// Parties that one request makes.
const PARTIES_AT_ONCE: u32 = 1_000_000;
/// Ticks of a second in `/proc/PID/stat`, as Linux has it on every machine of ours.
const TICKS: f64 = 100.0;

struct Server {
    child: Child,
    address: String,
    keys: u32,
    /// Parties below this have booked.
    booked: u32,
    parties: u32,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary beside this one: `target/release/berth` for `target/release/deps/bulk-..`.
fn berth() -> PathBuf {
    let here = std::env::current_exe().expect("this program has a path");
    let path = here.ancestors().nth(2).expect("it lies in deps").join("berth");
    assert!(path.exists(), "{} is not there: build it with `cargo build -p berth-api`, or --release", path.display());
    path
}

impl Server {
    fn start() -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let programme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../programmes/india-2021.toml");
        let mut child = Command::new(berth())
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir.path().join("data"))
            .arg("--programme")
            .arg(programme)
            .args(["--admin-key-sha256", ADMIN_SHA256, "--platform-key-sha256", PLATFORM_SHA256])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().rsplit('/').next().unwrap_or_default().to_owned();
        let mut server = Server { child, address, keys: 0, booked: 0, parties: 0, _dir: dir };
        server.publish();
        server
    }

    fn publish(&mut self) {
        let regions = "{\"id\":\"27\",\"kind\":\"state\",\"name\":\"M\"}\n\
                       {\"id\":\"395\",\"kind\":\"district\",\"name\":\"Mumbai\",\"parent\":\"27\"}";
        self.post("/v1/regions", regions);
        self.post("/v1/centres", "{\"id\":\"c1\",\"name\":\"One\",\"district\":\"395\",\"pincode\":\"400001\"}");
        let zone = jiff::tz::TimeZone::get("Asia/Kolkata").expect("the zones are built in");
        let tomorrow = jiff::Timestamp::now().to_zoned_datetime(zone).date().saturating_add(1.days());
        let mut sessions = String::new();
        for session in 0..SESSIONS {
            let windows: Vec<_> = (0..WINDOWS)
                .map(|window| {
                    let at = |half: u32| format!("{:02}:{:02}", half / 2, half % 2 * 30);
                    let end = if window + 1 == WINDOWS { "23:59".to_owned() } else { at(window + 1) };
                    format!("{{\"start\":\"{}\",\"end\":\"{end}\",\"pools\":{{\"dose1\":1000000}}}}", at(window))
                })
                .collect();
            let _ = writeln!(
                sessions,
                "{{\"id\":\"s{session}\",\"centre\":\"c1\",\"date\":\"{tomorrow}\",\"product\":\"covishield\",\"windows\":[{}]}}",
                windows.join(",")
            );
        }
        self.post("/v1/sessions", &sessions);
    }

    /// An administrator's request, which must succeed.
    fn post(&mut self, path: &str, body: &str) {
        self.keys += 1;
        let mut stream = TcpStream::connect(&self.address).expect("the server listens");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer bench-admin\r\nidempotency-key: setup-{}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            self.keys,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("the server reads");
        stream.write_all(body.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers");
        assert!(answer.starts_with("HTTP/1.1 20"), "{path}: {answer}");
    }

    /// Lines for parties that have not booked yet.
    fn lines(&mut self, count: u32) -> Vec<u8> {
        while self.parties < self.booked + count {
            self.post("/v1/parties", &format!("{{\"count\":{PARTIES_AT_ONCE},\"birth_year\":1980}}"));
            self.parties += PARTIES_AT_ONCE;
        }
        let mut lines = String::with_capacity(count as usize * 96);
        for party in self.booked..self.booked + count {
            let slot = party.wrapping_mul(2_654_435_761) % SLOTS;
            let claim = format!("{{\"party\":\"p1.{party}\",\"slot\":\"s1.{slot}\",\"dose\":1}}");
            let _ = writeln!(lines, "{{\"key\":\"bulk-{party:09}\",\"claims\":[{claim}]}}");
        }
        self.booked += count;
        lines.into_bytes()
    }

    /// A sample of `/metrics`.
    fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(&self.address).expect("the server listens");
        let head = "GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("the server reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("the server answers");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("NaN");
        line.parse().unwrap_or(f64::NAN)
    }
}

/// Seconds of processor time that a process has used.
fn cpu_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold anything; what follows its bracket are numbers.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    ticks / TICKS
}

/// Sends the lines and reads every result.
fn send(address: &str, lines: &[u8], count: u32) {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let head = format!(
        "POST /v1/bulk/bookings HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer bench-platform\r\n\
         connection: close\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        lines.len()
    );
    let mut writer = stream.try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(head.as_bytes()).expect("the server reads");
            writer.write_all(lines).expect("the server reads");
        });
        let mut buffer = vec![0; 256 << 10];
        let mut tail = Vec::new();
        loop {
            let read = stream.read(&mut buffer).expect("the server answers");
            if read == 0 {
                break;
            }
            tail.extend_from_slice(&buffer[read.saturating_sub(512)..read]);
            tail.drain(..tail.len().saturating_sub(1024));
        }
        let tail = String::from_utf8_lossy(&tail);
        let all = format!("\"lines\":{count},");
        let done = format!("\"done\":{count},");
        assert!(tail.contains("\"end\":true") && tail.contains(&all) && tail.contains(&done), "{tail}");
    });
}

/// Books `count` over so many connections at once; how long it took from the first byte to the last result.
fn round(server: &mut Server, count: u32, connections: u32) -> Duration {
    let each = count / connections;
    let bodies: Vec<_> = (0..connections).map(|_| server.lines(each)).collect();
    let address = server.address.clone();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for body in &bodies {
            scope.spawn(|| send(&address, body, each));
        }
    });
    started.elapsed()
}

fn measure(connections: u32, count: u32, rounds: u32) {
    let mut server = Server::start();
    let pid = server.child.id().to_string();
    let mut rates = Vec::new();
    let (mut server_cpu, mut client_cpu) = (0.0, 0.0);
    // The first touches fresh memory, as a server does once.
    round(&mut server, count, connections);
    let syncs = server.metric("berth_journal_syncs_total");
    for _ in 0..rounds {
        let before = (cpu_seconds(&pid), cpu_seconds("self"));
        let took = round(&mut server, count, connections);
        server_cpu += cpu_seconds(&pid) - before.0;
        client_cpu += cpu_seconds("self") - before.1;
        rates.push(f64::from(count) / took.as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let total = f64::from(count) * f64::from(rounds);
    let syncs = server.metric("berth_journal_syncs_total") - syncs;
    // A bench that cannot print has nobody to tell.
    let _ = writeln!(
        std::io::stdout(),
        "bulk, {connections} connections: {:.0} durable bookings/s ({:.0} to {:.0}), {rounds} rounds of {count}; server {:.2} \
         microseconds of processor time a booking, client {:.2} (making the lines included), {:.0} bookings a sync",
        rates[rates.len() / 2],
        rates[0],
        rates[rates.len() - 1],
        server_cpu / total * 1e6,
        client_cpu / total * 1e6,
        total / syncs,
    );
}

fn criterion(criterion: &mut Criterion) {
    let mut server = Server::start();
    criterion.bench_function("bulk_of_a_thousand_bookings", |b| {
        b.iter_custom(|n| (0..n).map(|_| round(&mut server, 1000, 1)).sum());
    });
}

fn main() {
    // `cargo bench` says --bench; as a test every bench runs once and tiny.
    if std::env::args().any(|arg| arg == "--bench") {
        for connections in [1, 4] {
            measure(connections, 1_000_000, 5);
        }
    }
    let mut harness = Criterion::default().configure_from_args().sample_size(10);
    criterion(&mut harness);
    harness.final_summary();
}
