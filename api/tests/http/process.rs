//! The server as a process: starting, not starting, draining, ending.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::client::{PATIENCE, attempt, connect, read_reply, request};
use crate::server::{Home, Server, berth, claim, claims, programme_path};

/// Runs to the end; a server that starts after all is killed.
#[track_caller]
fn finish(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the process does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// The process must end with status 2 and one sentence that holds all of `words`.
#[track_caller]
pub(crate) fn cannot_start(output: &Output, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty());
    let sentences: Vec<_> = stderr.lines().filter(|l| l.starts_with("berth: ")).collect();
    assert_eq!(sentences.len(), 1, "{stderr}");
    for word in words {
        assert!(sentences[0].contains(word), "{word:?} in {stderr}");
    }
}

/// Every file below `dir` with its bytes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn sigterm_drains_and_what_was_acknowledged_is_there_again() {
    let (server, slots) = Server::with_slots(&[3]);
    let booked = server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    let before = server.export();
    server.terminate();
    let (status, home) = server.ended();
    assert_eq!(status.code(), Some(0));
    let server = home.start();
    assert_eq!(server.export(), before);
    let code = booked["hold"].as_str().unwrap();
    assert_eq!(server.read(&format!("/v1/bookings/{code}")).expect(200), booked["bookings"][0]);
}

#[test]
fn draining_lets_running_requests_end_and_takes_no_new_ones() {
    let server = Server::start_with("http.drain_notice_ms = 0");
    let region: &[u8] = b"{\"id\":\"27\",\"kind\":\"state\",\"name\":\"Maharashtra\"}";
    // One that blocks a thread and one that does not; of both the body is still on its way.
    let running = [("/v1/regions", region), ("/v1/parties", b"{\"count\":12345}")].map(|(path, body)| {
        let length = body.len().to_string();
        let headers =
            [("authorization", "Bearer admin-key"), ("idempotency-key", path), ("content-length", length.as_str())];
        let mut stream = connect(server.address);
        stream.write_all(&request("POST", path, &headers, &body[..10])).unwrap();
        (stream, &body[10..])
    });
    server.wait_for_metric("berth_http_inflight_requests 2");
    server.terminate();
    let started = Instant::now();
    while let Ok(mut stream) = std::net::TcpStream::connect(server.address) {
        assert!(started.elapsed() < PATIENCE, "the listener never closes");
        // What it says meanwhile is its own affair.
        let _ = stream.write_all(&request("GET", "/readyz", &[("connection", "close")], b""));
        let _ = stream.read_to_end(&mut Vec::new());
    }
    for (mut stream, rest) in running {
        stream.write_all(rest).unwrap();
        let reply = read_reply(&mut stream, false);
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text());
    }
    let (status, home) = server.ended();
    assert_eq!(status.code(), Some(0));
    let server = home.start();
    assert_eq!(server.get("/v1/regions").expect(200)["regions"].as_array().unwrap().len(), 1);
    server.read("/v1/parties/p1.12344/bookings").expect(200);
}

#[test]
fn readyz_says_no_before_requests_are_refused() {
    let server = Server::start_with("http.drain_notice_ms = 60000");
    server.get("/readyz").expect(200);
    server.terminate();
    let started = Instant::now();
    let not_ready = loop {
        let reply = server.get("/readyz");
        if reply.status != 200 {
            break reply;
        }
        assert!(started.elapsed() < PATIENCE, "readiness never drops");
    };
    assert_eq!(not_ready.expect(503)["reason"], "draining");
    // Everything else is still answered.
    server.get("/v1/regions").expect(200);
    server.get("/healthz").expect(200);
}

#[test]
fn a_taken_port_is_one_sentence_and_nothing_is_written() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new("");
    let output = finish(home.serve().args(["--listen", &address]));
    cannot_start(&output, &["cannot listen", &address]);
    assert!(!home.path("data").exists());
}

#[test]
fn a_locked_directory_is_one_sentence() {
    let server = Server::start();
    let before = server.export();
    let output = finish(&mut server.home.serve());
    cannot_start(&output, &["locked by another process", &server.data_dir()]);
    assert_eq!(server.export(), before);
}

#[test]
fn a_directory_of_another_version_or_damaged_is_one_sentence_and_stays_as_it_was() {
    let (server, slots) = Server::with_slots(&[3]);
    server.post("/v1/bookings", &claims(&[claim("p1.0", &slots[0])])).expect(201);
    server.terminate();
    let (_, home) = server.ended();
    let data = home.path("data");

    let meta = data.join("berth.meta");
    let text = std::fs::read_to_string(&meta).unwrap();
    std::fs::write(&meta, text.replace("layout=1", "layout=99")).unwrap();
    let before = files(&data);
    cannot_start(&finish(&mut home.serve()), &["99", data.to_str().unwrap()]);
    assert_eq!(files(&data), before);
    std::fs::write(&meta, text).unwrap();

    // A flipped byte in the first batch, with good ones after it.
    let journal = data.join("journal");
    let segment = std::fs::read_dir(&journal).unwrap().map(|e| e.unwrap().path()).min().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(11).position(|w| w == b"Maharashtra").expect("the first note is in the first segment");
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let before = files(&data);
    cannot_start(&finish(&mut home.serve()), &[segment.to_str().unwrap()]);
    assert_eq!(files(&data), before);
}

#[test]
fn a_programme_that_renumbers_what_the_journal_keeps_is_refused() {
    let (server, _) = Server::with_slots(&[3]);
    server.terminate();
    let (_, home) = server.ended();
    let text = std::fs::read_to_string(programme_path()).unwrap();
    let swapped = text
        .replace("\"covaxin\"", "\"x\"")
        .replace("\"covishield\"", "\"covaxin\"")
        .replace("\"x\"", "\"covishield\"");
    let programme = home.path("swapped.toml");
    std::fs::write(&programme, swapped).unwrap();
    let output = finish(home.serve().args(["--programme", programme.to_str().unwrap()]));
    cannot_start(&output, &["covishield", "covaxin", "order"]);
}

#[test]
fn a_wrong_configuration_is_named_whole() {
    let home = Home::new("cell = 5000\nhttp.body_time_ms = 1");
    let output = finish(home.serve().args(["--admin-key-sha256", "12"]));
    cannot_start(&output, &["cell: ", "http.body_time_ms: ", "keys[2].sha256: "]);
    assert!(!home.path("data").exists());
    cannot_start(&finish(&mut berth(&["serve"])), &["listen: ", "data_dir: ", "programme: ", "keys: "]);
    let missing = finish(&mut berth(&["serve", "--config", "/no/such/file"]));
    cannot_start(&missing, &["/no/such/file"]);
}

#[test]
fn check_names_every_fault_of_both_files() {
    let home = Home::new("");
    let config = home.path("berth.toml");
    let check = || berth(&["check", "--config", config.to_str().unwrap()]).output().unwrap();
    let good = check();
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    assert!(!home.path("data").exists(), "checking writes nothing");

    let programme = home.path("programme.toml");
    let text = std::fs::read_to_string(programme_path()).unwrap();
    std::fs::write(&programme, text.replace("hold_seconds = 300", "hold_seconds = 1")).unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace(programme_path().to_str().unwrap(), programme.to_str().unwrap());
    std::fs::write(&config, format!("cell = 5000\n{text}")).unwrap();
    let bad = check();
    let stderr = String::from_utf8_lossy(&bad.stderr);
    assert_eq!(bad.status.code(), Some(2));
    assert!(stderr.contains("hold_seconds: ") && stderr.contains("cell: "), "{stderr}");
}

#[test]
fn connections_leave_descriptors_for_the_journal() {
    let home = Home::new("");
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 84 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_berth"), "serve", "--config"])
        .arg(home.path("berth.toml"))
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(home.path("stderr.log")).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address: SocketAddr = line.trim().strip_prefix("berth listening on http://").unwrap().parse().unwrap();
    let probe = || crate::client::exchange(address, &request("GET", "/metrics", &[("connection", "close")], b""));
    let idle: Vec<_> = (0..100).map(|_| connect(address)).collect();
    // More wait in the backlog than there is room for; then all leave.
    drop(idle);
    let metrics = probe();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(metrics.status, 200);
    let log = std::fs::read_to_string(home.path("stderr.log")).unwrap();
    assert!(log.contains("connections_max=20") && log.contains("descriptors=84"), "{log}");
    assert!(!log.contains("could not accept"), "{log}");
}

#[test]
fn flags_alone_start_a_server() {
    let home = tempfile::tempdir().unwrap();
    let mut child = berth(&["serve", "--listen", "127.0.0.1:0", "--power-cut-rehearsal"])
        .args(["--data-dir", home.path().join("data").to_str().unwrap()])
        .args(["--programme", programme_path().to_str().unwrap()])
        .args(["--admin-key-sha256", &crate::server::sha256("a"), "--platform-key-sha256", &crate::server::sha256("p")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.starts_with("berth listening on http://127.0.0.1:"), "{line:?}");
}

// rule: TIM-1
#[test]
fn a_clock_that_was_set_back_and_a_slow_disk_change_nothing_but_the_time_it_takes() {
    let server = Home::new("").start_with_flags(&[]);
    server.add_places();
    server.add_parties(3);
    let slot = server.add_slots("s", &[5]).remove(0);
    let hold = |server: &Server, party: u32| {
        let reply = server.post("/v1/holds", &claims(&[claim(&format!("p1.{party}"), &slot)]));
        assert_eq!(reply.status, 201);
        reply.json()["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let first = hold(&server, 0);
    let slow = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(slow.path(), "150").unwrap();
    let flag = slow.path().to_str().unwrap();
    let server = server.kill().start_with_flags(&["--clock-back-rehearsal", "7200", "--slow-disk-rehearsal", flag]);
    let began = Instant::now();
    let second = hold(&server, 1);
    assert!(began.elapsed() >= Duration::from_millis(150), "a sync takes that much longer");
    assert!(second >= first, "two hours back, and no deadline before an earlier one");
}

/// Reads a demo's text up to its sixth `curl` line.
fn demo(dir: &Path) -> (std::process::Child, Vec<String>) {
    let mut child = berth(&["demo", "--listen", "127.0.0.1:0", "--dir", dir.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let curls = lines.filter(|l| l.starts_with("curl ")).take(6).collect();
    (child, curls)
}

#[test]
fn the_demo_prints_lines_that_work_and_a_second_run_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let mut bookings = Vec::new();
    for _ in 0..2 {
        let (mut child, curls) = demo(&home.path().join("demo"));
        let run = |line: &str| {
            let output = Command::new("sh").args(["-c", line]).output().expect("sh and curl are there");
            let text = String::from_utf8(output.stdout).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{error}: {line}: {text}"))
        };
        let [search, book, read, stock, trace, waste] = curls.as_slice() else { panic!("six lines: {curls:?}") };
        assert!(!run(search)["centres"].as_array().unwrap().is_empty());
        let booked = run(book);
        assert_eq!(booked["bookings"][0]["state"], "booked", "{booked}");
        assert_eq!(run(read)["bookings"], booked["bookings"]);
        // The same in both runs: what is there is not written down again.
        assert_eq!(run(trace)["doses"].as_array().unwrap().len(), 5);
        let sum = &run(waste)["sum"];
        assert_eq!((&sum["given"], &sum["wasted"]), (&5.into(), &serde_json::json!({"opened_unused": 3})));
        let stock = run(stock);
        assert_eq!(stock["batches"][0]["on_hand"], 3000 - 3 - 5, "{stock}");
        bookings.push(booked["bookings"][0]["booking"].as_str().unwrap().to_owned());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_ne!(bookings[0], bookings[1]);
}

/// Books for party after party until the server is gone; the codes of what was acknowledged.
fn book_until_gone(address: SocketAddr, slot: &str, parties: Range<u32>, acknowledged: &AtomicU32) -> Vec<String> {
    let mut codes = Vec::new();
    for party in parties {
        let key = format!("cut-{party}");
        let headers =
            [("authorization", "Bearer platform-key"), ("idempotency-key", key.as_str()), ("connection", "close")];
        let body = claims(&[claim(&format!("p1.{party}"), slot)]).to_string();
        let Some((201, booked)) = attempt(address, &request("POST", "/v1/bookings", &headers, body.as_bytes())) else {
            return codes;
        };
        codes.push(booked["hold"].as_str().unwrap().to_owned());
        acknowledged.fetch_add(1, Relaxed);
    }
    panic!("the server outlived {} bookings", codes.len());
}

// rule: IDM-2
#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    const CALLERS: u32 = 8;
    const PARTIES_EACH: u32 = 5000;
    const ROUNDS: u32 = 4;
    let flags = ["--power-cut-rehearsal"];
    let mut server = Home::new("").start_with_flags(&flags);
    server.add_places();
    server.add_parties(CALLERS * PARTIES_EACH * ROUNDS);
    let slot = server.add_slots("s", &[1_000_000]).remove(0);
    let mut codes: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let (address, acknowledged) = (server.address, AtomicU32::new(0));
        let home = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS)
                .map(|caller| {
                    let first = (round * CALLERS + caller) * PARTIES_EACH;
                    let (slot, acknowledged) = (slot.as_str(), &acknowledged);
                    scope.spawn(move || book_until_gone(address, slot, first..first + PARTIES_EACH, acknowledged))
                })
                .collect();
            while acknowledged.load(Relaxed) < 50 {
                std::thread::yield_now();
            }
            let home = server.kill();
            codes.extend(callers.into_iter().flat_map(|caller| caller.join().unwrap()));
            home
        });
        server = home.start_with_flags(&flags);
        for code in &codes {
            let reply = server.read(&format!("/v1/bookings/{code}"));
            assert_eq!(reply.status, 200, "round {round}: {code} was acknowledged: {}", reply.text());
        }
    }
}

#[test]
fn the_environment_goes_before_the_file_and_its_faults_name_the_variable() {
    let home = Home::new("http.body_time_ms = 2000");
    let mut command = home.serve();
    command.env("BERTH_HTTP__HEAD_TIME_MS", "soon").env("BERTH_HTTP__HAED_TIME_MS", "1").env("BERTH_CELL", "x");
    let output = finish(&mut command);
    cannot_start(&output, &["BERTH_HTTP__HEAD_TIME_MS: ", "BERTH_HTTP__HAED_TIME_MS: unknown field", "BERTH_CELL: "]);
    let mut command = home.serve();
    command.env("BERTH_HTTP__BODY_TIME_MS", "1").env("BERTH_CELL", "4000");
    cannot_start(
        &finish(&mut command),
        &["BERTH_HTTP__BODY_TIME_MS (http.body_time_ms): must be", "BERTH_CELL (cell): "],
    );
    assert!(!home.path("data").exists());

    let config = home.path("berth.toml");
    let mut command = berth(&["check", "--config", config.to_str().unwrap()]);
    command.env("BERTH_HTTP__HEAD_TIME_MS", "500").env("BERTH_SERVICE_PORT", "tcp://10.0.0.1:1");
    let output = finish(&mut command);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "http.head_time_ms = 500  # BERTH_HTTP__HEAD_TIME_MS",
        "http.body_time_ms = 2000  # file",
        "http.send_time_ms = 30000  # default",
        "keys = admin a, platform p  # file",
    ] {
        assert!(said.lines().any(|l| l == line), "{line} in {said}");
    }
    assert!(!said.contains("sha256 ="), "no hash is shown");
}
