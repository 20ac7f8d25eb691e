//! How exact the reported percentiles are: against a stub that stands still for a known time they must be what arithmetic says, and
//! clients that wait for each answer before they ask again must be shown to see almost nothing of it.
//!
//! The harness has fewer hands than people who wait, so most of them are sent only when the stall is over: what is reported must
//! count from when each was meant to be sent. The stall lasts so long that two percent of it are more than a busy machine's hiccups.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// People come for so long, at this rate; half a second into it the stub stands still until half a second before its end.
const SECONDS: u64 = 20;
const PER_SECOND: u64 = 8;
const BEFORE: Duration = Duration::from_millis(500);

/// A server that only lists nothing, and stands still once.
struct Stub {
    /// When the first search came.
    first: OnceLock<(Instant, SystemTime)>,
}

impl Stub {
    fn start() -> (SocketAddr, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stub = Arc::new(Self { first: OnceLock::new() });
        let own = Arc::clone(&stub);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stub = Arc::clone(&own);
                std::thread::spawn(move || {
                    // A client that hangs up ends its thread, nothing else.
                    let _ = stub.talk(stream?);
                    Ok::<(), std::io::Error>(())
                });
            }
        });
        (address, stub)
    }

    /// From when to when it stands still, counted from the first search.
    fn stall() -> (Duration, Duration) {
        (BEFORE, Duration::from_secs(SECONDS) - BEFORE)
    }

    /// The end of the stall, in microseconds since 1970.
    fn stall_us(&self) -> (i64, i64) {
        let (_, first) = *self.first.get().unwrap();
        let us =
            |after: Duration| i64::try_from((first + after).duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
        (us(Self::stall().0), us(Self::stall().1))
    }

    fn talk(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mut length = 0;
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let Some((name, value)) = header.trim().split_once(':') else { break };
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap_or(0);
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let answer = self.answer(&line, &String::from_utf8_lossy(&body));
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
            stream.write_all((head + &answer).as_bytes())?;
        }
    }

    fn answer(&self, line: &str, body: &str) -> String {
        if line.contains("/v1/availability") {
            let (first, _) = *self.first.get_or_init(|| (Instant::now(), SystemTime::now()));
            let (from, to) = Self::stall();
            let since = first.elapsed();
            if (from..to).contains(&since) {
                std::thread::sleep(to - since);
            }
            return r#"{"centres":[]}"#.into();
        }
        if line.contains("/v1/parties") {
            let asked: serde_json::Value = serde_json::from_str(body).unwrap();
            return format!("{{\"first\":\"p1.0\",\"count\":{}}}", asked["count"]);
        }
        if line.contains("/v1/export") {
            return "{\"kind\":\"end\",\"slots\":0,\"bookings\":0}\n".into();
        }
        r#"{"version":"stub"}"#.into()
    }
}

/// The smallest of the sorted times that a share `quantile` of them does not pass.
fn at(sorted: &[f64], quantile: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index within a short list"
    )]
    let index = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted[index.clamp(1, sorted.len()) - 1]
}

/// Four clients that ask, wait for the answer and ask again, until the stall is over: how long each answer took them.
fn closed_model(address: SocketAddr) -> Vec<f64> {
    let clients: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let began = Instant::now();
                let mut stream = TcpStream::connect(address).unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut took = Vec::new();
                while began.elapsed() < Duration::from_secs(SECONDS) {
                    let sent = Instant::now();
                    stream.write_all(b"GET /v1/availability HTTP/1.1\r\nhost: stub\r\n\r\n").unwrap();
                    let mut line = String::new();
                    while line != "\r\n" {
                        line.clear();
                        reader.read_line(&mut line).unwrap();
                    }
                    let mut body = [0; 14];
                    reader.read_exact(&mut body).unwrap();
                    took.push(sent.elapsed().as_secs_f64());
                    std::thread::sleep(Duration::from_millis(1));
                }
                took
            })
        })
        .collect();
    clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
}

fn surge(address: SocketAddr, directory: &Path) -> String {
    let scenario = format!(
        "name = \"precision\"\n[population]\nparties = 100\n\
         [inventory]\ndistricts = 1\ncentres_per_district = 1\ndays = 1\nwindows_per_day = 1\nproduct = \"covishield\"\n\
         pools = {{ dose1 = 1 }}\n[behaviours]\nbrowse = 1\n\
         [[arrivals]]\nkind = \"constant\"\nphase = \"all\"\nper_second = {PER_SECOND}.0\nseconds = {SECONDS}.0\n\
         [[objectives]]\nphase = \"all\"\noperation = \"search\"\np99_ms = 1000.0\n\
         [driver]\nworkers = 20\nlate_share_max = 1.0\nrequest_timeout_ms = 120000\ndrop_after_seconds = 600.0\n\
         [audit]\nsettle = false\nacknowledged_bookings_min = 0\n"
    );
    let path = directory.join("precision.toml");
    std::fs::write(&path, scenario).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_berth-surge"))
        .arg("run")
        .arg(&path)
        .args([
            "--target",
            &format!("http://{address}"),
            "--key-env",
            "PRECISION_KEY",
            "--admin-key-env",
            "PRECISION_KEY",
        ])
        .env("PRECISION_KEY", "of-no-use")
        .args(["--seed", "5", "--report-dir"])
        .arg(directory.join("report"))
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // The promises held, as there was nothing to break; a stall of 19 s is no p99 of a second.
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(!said.contains("of-no-use"));
    said
}

#[test]
fn the_percentiles_of_a_known_stall_are_what_arithmetic_says() {
    let ((open, stub), (closed, _)) = (Stub::start(), Stub::start());
    let closed = std::thread::spawn(move || closed_model(closed));
    let directory = tempfile::tempdir().unwrap();
    let said = surge(open, directory.path());

    // Whoever was meant to come in the stall waits until its end; nobody else waits.
    let (from_us, to_us) = stub.stall_us();
    let history = std::fs::read_to_string(directory.path().join("report/history.ndjson")).unwrap();
    let lines = history.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let intended: Vec<i64> = lines.filter_map(|line| line["intended_us"].as_i64()).collect();
    assert_eq!(u64::try_from(intended.len()).unwrap(), SECONDS * PER_SECOND);
    #[expect(clippy::cast_precision_loss, reason = "some seconds in microseconds")]
    let wait = |us: &i64| if (from_us..to_us).contains(us) { (to_us - us) as f64 / 1_000.0 } else { 0.0 };
    let mut expected: Vec<f64> = intended.iter().map(wait).collect();
    expected.sort_by(f64::total_cmp);

    let report = std::fs::read_to_string(directory.path().join("report/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let search = report["figures"]["by_operation"].as_array().unwrap().iter().find(|row| row["op"] == "search");
    for (field, quantile) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)] {
        let (reported, exact) = (search.unwrap()[field].as_f64().unwrap(), at(&expected, quantile));
        assert!(exact > 5_000.0, "the stall is long beside any hiccup: {exact}");
        let off = (reported - exact).abs() / exact;
        assert!(off < 0.02, "{field}: reported {reported} ms, by arithmetic {exact:.1} ms\n{said}");
    }

    // The same stall, seen by clients that ask nothing while they wait: four slow answers among all the quick ones.
    let mut closed = closed.join().unwrap();
    closed.sort_by(f64::total_cmp);
    assert!(at(&closed, 0.9) < 1.0, "nine of ten closed clients' answers were quick: {}", at(&closed, 0.9));
    assert!(closed.last().unwrap() > &5.0, "and the stall was there: {:?}", closed.last());
}
