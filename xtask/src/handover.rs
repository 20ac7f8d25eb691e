//! `cargo xtask handover`: a planned restart under load, on a data directory of some size: how long it takes, and that nothing
//! is lost.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::shell::{Show, cargo, root, run, target_dir, typed};
use crate::usage;

const HELP: &str = "\
cargo xtask handover [--holds N] [--clients N] [--seconds N]

Builds `berth` for release, fills a data directory with live holds, lets clients book one after another, and hands over to a
second process (docs/operations.md) while they do. A client that gets no answer sends its request again under its key. Prints
how long nobody was answered, and fails if what was acknowledged is not what is kept.

    --holds N     live holds before (default 1000000)
    --clients N   clients (default 32)
    --seconds N   load before and after (default 5)
";

/// Only this run's server knows the keys.
const ADMIN: &str = "admin-key";
const ADMIN_SHA256: &str = "69a5265506c94c77b787a7d7377b7685a0eff82e33920a71e7ee22cd6154953e";
const PLATFORM: &str = "platform-key";
const PLATFORM_SHA256: &str = "e75390981221aacccfa975cd11ebea289217120269f33b1b4f9f67cd5af67c54";

/// Claims of one hold: as many as the programme allows.
const GROUP: u32 = 4;
const SLOTS: u32 = 8;
const SLOT_UNITS: u32 = 1_000_000;
const PARTIES_AT_ONCE: u64 = 1_000_000;
/// So many people may book in a second, at most.
const BOOKERS_EACH_SECOND: u64 = 15_000;
/// After this long a process or an answer does not come any more.
const PATIENCE: Duration = Duration::from_secs(120);

struct Options {
    holds: u32,
    clients: u32,
    seconds: u64,
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let done = match parse(args) {
        Ok(options) => hand_over(&options),
        Err(sentence) => return usage(&sentence),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(told) => {
            eprintln!("xtask: {told}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options { holds: 1_000_000, clients: 32, seconds: 5 };
    let mut words = args.iter();
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{name}` needs a value; see `cargo xtask handover --help`"))?;
        let number = value.parse::<u32>().map_err(|_| format!("`{name} {value}`: that is no whole number"))?;
        match name.as_str() {
            "--holds" if number.is_multiple_of(GROUP) && number <= SLOTS * SLOT_UNITS / 2 => options.holds = number,
            "--clients" if (1..=1000).contains(&number) => options.clients = number,
            "--seconds" if (1..=600).contains(&number) => options.seconds = u64::from(number),
            "--holds" | "--clients" | "--seconds" => return Err(format!("`{name} {value}` is out of range")),
            _ => return Err(format!("there is no option `{name}`; see `cargo xtask handover --help`")),
        }
    }
    Ok(options)
}

fn hand_over(options: &Options) -> Result<(), String> {
    let program = build()?;
    let home = Home::make(&program)?;
    let mut old = home.start("old", "127.0.0.1:0", &[])?;
    let address = old.ready()?;
    let bookers = BOOKERS_EACH_SECOND * (2 * options.seconds + 10);
    let slots = seed(address, u64::from(options.holds) + bookers)?;
    let filled = fill(address, options.holds, &slots)?;
    println!("{} live holds in {:.1} s; {} MiB of journal", options.holds, filled.as_secs_f64(), home.journal_mib());

    let stop = AtomicBool::new(false);
    let load = Duration::from_secs(options.seconds);
    let (clients, times) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..options.clients)
            .map(|number| {
                let slot = &slots[number as usize % slots.len()];
                let stop = &stop;
                scope.spawn(move || book(address, slot, options.holds + number, options.clients, stop))
            })
            .collect();
        let times = take_turns(&home, old, address, load);
        stop.store(true, Relaxed);
        let clients: Result<Vec<Client>, String> =
            clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect();
        (clients, times)
    });
    let (clients, (times, new)) = (clients?, times?);
    new.end()?;
    tell(&clients, &times);
    check(&home, options, &clients)
}

/// When what happened.
struct Times {
    load_began: Instant,
    told: Instant,
    old_ended: Instant,
    new_ready: Instant,
}

fn take_turns(home: &Home, old: Process, address: SocketAddr, load: Duration) -> Result<(Times, Process), String> {
    let load_began = Instant::now();
    let mut new = home.start("new", &address.to_string(), &["--wait-for-lock", "60"])?;
    new.says("waiting for the process that serves here")?;
    std::thread::sleep(load);
    let told = Instant::now();
    old.end()?;
    let old_ended = Instant::now();
    new.ready()?;
    let new_ready = Instant::now();
    std::thread::sleep(load);
    Ok((Times { load_began, told, old_ended, new_ready }, new))
}

fn tell(clients: &[Client], times: &Times) {
    let Times { load_began, told, old_ended, new_ready } = *times;
    let mut answers: Vec<Instant> =
        clients.iter().flat_map(|client| client.answers.iter().map(|answer| answer.1)).collect();
    answers.sort_unstable();
    let before = answers.iter().filter(|at| **at < told).count() as u128;
    let rate = before * 1000 / told.duration_since(load_began).as_millis().max(1);
    let gap = answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    let waits = clients.iter().flat_map(|client| client.answers.iter().map(|(sent, answered)| *answered - *sent));
    let again: u64 = clients.iter().map(|client| client.again).sum();
    let line = |what: &str, seconds: f64| println!("{what:<52} {seconds:>8.2} s");
    println!("{} clients, {rate} bookings/s before the stop", clients.len());
    line("SIGTERM to the end of the old process", (old_ended - told).as_secs_f64());
    line("its end to the new one's first word", (new_ready - old_ended).as_secs_f64());
    line("the whole hand-over", (new_ready - told).as_secs_f64());
    line("longest time in which nobody was answered", gap.as_secs_f64());
    line("longest wait of one client", waits.max().unwrap_or_default().as_secs_f64());
    println!("{again} requests were sent again");
}

/// What was acknowledged is what is kept, once each, and the holds of before are live.
fn check(home: &Home, options: &Options, clients: &[Client]) -> Result<(), String> {
    let acknowledged: usize = clients.iter().map(|client| client.answers.len()).sum();
    let mut export = Command::new(&home.program);
    export.arg("export").arg("--data-dir").arg(home.data()).stdout(Stdio::piped());
    let mut child = export.spawn().map_err(|error| format!("could not run `{}`: {error}", typed(&export)))?;
    let (mut held, mut booked, mut other) = (0usize, 0usize, 0usize);
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line.map_err(|error| format!("the export cannot be read: {error}"))?;
        if line.contains("\"kind\":\"booking\"") {
            let state = [(&mut held, "\"held\""), (&mut booked, "\"booked\"")];
            match state.into_iter().find(|(_, state)| line.contains(&format!("\"state\":{state}"))) {
                Some((count, _)) => *count += 1,
                None => other += 1,
            }
        }
    }
    let status = child.wait().map_err(|error| format!("the export does not end: {error}"))?;
    println!(
        "{acknowledged} bookings were acknowledged, {booked} are kept; {} holds before, {held} after",
        options.holds
    );
    if !status.success() || (held, booked, other) != (options.holds as usize, acknowledged, 0) {
        return Err(format!("what is kept is not what was acknowledged ({other} in another state, {status})"));
    }
    Ok(())
}

fn build() -> Result<PathBuf, String> {
    let mut build = cargo();
    build.args(["build", "--release", "-p", "berth-api", "--bin", "berth"]);
    let built = run(&mut build, Show::Live)?;
    if !built.ok() {
        return Err(format!("`{}` ended with {}", typed(&build), built.status()));
    }
    Ok(target_dir().join("release").join("berth"))
}

/// Where the two processes' files lie.
struct Home {
    program: PathBuf,
    dir: PathBuf,
}

impl Home {
    /// Anew, with a programme whose holds outlive the run.
    fn make(program: &Path) -> Result<Home, String> {
        let dir = target_dir().join("handover");
        let wrong = |error: std::io::Error| format!("{}: {error}", dir.display());
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(wrong(error)),
            _ => fs::create_dir_all(&dir).map_err(wrong)?,
        }
        let programme = fs::read_to_string(root().join("programmes/india-2021.toml")).map_err(wrong)?;
        let programme = programme.replace("hold_seconds = 300", "hold_seconds = 3600");
        fs::write(dir.join("programme.toml"), programme).map_err(wrong)?;
        Ok(Home { program: program.to_owned(), dir })
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn start(&self, name: &str, listen: &str, flags: &[&str]) -> Result<Process, String> {
        let log = self.dir.join(format!("{name}.log"));
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = Command::new(&self.program);
        command.args(["serve", "--listen", listen, "--data-dir"]).arg(self.data()).arg("--programme");
        command.arg(self.dir.join("programme.toml"));
        command.args(["--admin-key-sha256", ADMIN_SHA256, "--platform-key-sha256", PLATFORM_SHA256]);
        // The worst case: the start puts off every live hold's deadline.
        command.args(["--hold-grace-seconds", "7200"]).args(flags);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).spawn();
        let child = child.map_err(|error| format!("could not run `{}`: {error}", typed(&command)))?;
        Ok(Process { child, log })
    }

    fn journal_mib(&self) -> u64 {
        let files = fs::read_dir(self.data().join("journal")).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum::<u64>() >> 20
    }
}

/// A server. Dropped, it is killed.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Waits until it listens.
    fn ready(&mut self) -> Result<SocketAddr, String> {
        let mut line = String::new();
        if let Some(stdout) = self.child.stdout.take() {
            // It says one line.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let address = line.trim().strip_prefix("berth listening on http://").and_then(|address| address.parse().ok());
        address.ok_or_else(|| format!("the server does not start; see {}", self.log.display()))
    }

    fn says(&self, words: &str) -> Result<(), String> {
        let began = Instant::now();
        while !fs::read_to_string(&self.log).is_ok_and(|text| text.contains(words)) {
            if began.elapsed() > PATIENCE {
                return Err(format!("the server never says {words:?}; see {}", self.log.display()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// SIGTERM, and its end.
    fn end(mut self) -> Result<(), String> {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        if !killed.is_ok_and(|status| status.success()) {
            return Err("the server cannot be sent SIGTERM".to_owned());
        }
        let status = self.child.wait().map_err(|error| format!("the server does not end: {error}"))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the server ended with {status}; see {}", self.log.display()))
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One client of the API, with a connection that it keeps.
#[derive(Default)]
struct Client {
    stream: Option<BufReader<TcpStream>>,
    /// Of each booking: when it was first sent, and when it was acknowledged.
    answers: Vec<(Instant, Instant)>,
    again: u64,
}

impl Client {
    /// Status and body; nothing if the connection did not last.
    fn ask(&mut self, address: SocketAddr, request: &str) -> Option<(u16, String)> {
        let answer = self.exchange(address, request);
        if answer.is_none() {
            self.stream = None;
        }
        answer
    }

    fn exchange(&mut self, address: SocketAddr, request: &str) -> Option<(u16, String)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(address).ok()?;
                stream.set_nodelay(true).ok()?;
                stream.set_read_timeout(Some(PATIENCE)).ok()?;
                BufReader::new(stream)
            }
        };
        stream.get_mut().write_all(request.as_bytes()).ok()?;
        let (mut status, mut length, mut closes) = (None, 0usize, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if status.is_none() {
                status = Some(line.split(' ').nth(1)?.parse().ok()?);
            } else if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            } else if line == "connection: close" {
                closes = true;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        self.stream = Some(stream).filter(|_| !closes);
        Some((status?, String::from_utf8(body).ok()?))
    }

    /// Until it is answered, again under the same key.
    fn insist(&mut self, address: SocketAddr, request: &str) -> Result<String, String> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.ask(address, request) {
                Some((200 | 201, body)) => return Ok(body),
                None | Some((503, _)) => {}
                Some((409, body)) if body.contains("idempotency_in_flight") => {}
                Some((status, body)) => return Err(format!("refused with {status}: {body}")),
            }
            self.again += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
        Err("a request is never answered".to_owned())
    }
}

fn request(path: &str, bearer: &str, key: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: berth\r\nauthorization: Bearer {bearer}\r\nidempotency-key: {key}\r\n{headers}\
         content-length: {length}\r\n\r\n{body}"
    )
}

/// Publishes one centre with some large slots, and creates everybody.
fn seed(address: SocketAddr, parties: u64) -> Result<Vec<String>, String> {
    let mut client = Client::default();
    let mut publish = |path: &str, body: &str| {
        client.insist(address, &request(path, ADMIN, path, "content-type: application/x-ndjson\r\n", body)).map(drop)
    };
    let state = r#"{"id":"27","kind":"state","name":"Maharashtra"}"#;
    let district = r#"{"id":"395","kind":"district","name":"Mumbai","parent":"27"}"#;
    publish("/v1/regions", &format!("{state}\n{district}"))?;
    publish("/v1/centres", r#"{"id":"c1","name":"PHC One","district":"395","pincode":"400001"}"#)?;
    let date = tomorrow()?;
    let windows: Vec<String> = (9..9 + SLOTS)
        .map(|hour| {
            format!(r#"{{"start":"{hour:02}:00","end":"{:02}:00","pools":{{"dose1":{SLOT_UNITS}}}}}"#, hour + 1)
        })
        .collect();
    let windows = windows.join(",");
    let session = format!(r#"{{"id":"s","centre":"c1","date":"{date}","product":"covishield","windows":[{windows}]}}"#);
    publish("/v1/sessions", &session)?;
    let mut left = parties;
    while left > 0 {
        let count = left.min(PARTIES_AT_ONCE);
        let body = format!(r#"{{"count":{count}}}"#);
        client.insist(address, &request("/v1/parties", ADMIN, &format!("parties-{left}"), "", &body))?;
        left -= count;
    }
    let path = format!("/v1/availability?centre=c1&from={date}&days=1");
    let search = format!("GET {path} HTTP/1.1\r\nhost: berth\r\ncontent-length: 0\r\n\r\n");
    let found = client.insist(address, &search)?;
    let slots: Vec<String> =
        found.split("\"slot\":\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect();
    if slots.len() == SLOTS as usize { Ok(slots) } else { Err(format!("{SLOTS} slots were published: {found}")) }
}

/// Where the programme is.
fn tomorrow() -> Result<String, String> {
    let ended = run(Command::new("date").args(["-d", "tomorrow", "+%F"]).env("TZ", "Asia/Kolkata"), Show::Kept)?;
    Ok(ended.text.trim().to_owned())
}

/// Holds for everybody below `holds`, in groups. Answered from memory: they are durable long before anything ends.
fn fill(address: SocketAddr, holds: u32, slots: &[String]) -> Result<Duration, String> {
    const FILLERS: u32 = 16;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let fillers: Vec<_> = (0..FILLERS)
            .map(|filler| {
                scope.spawn(move || {
                    let mut client = Client::default();
                    for group in (filler..holds / GROUP).step_by(FILLERS as usize) {
                        let slot = &slots[group as usize % slots.len()];
                        let claims: Vec<String> = (group * GROUP..(group + 1) * GROUP)
                            .map(|party| format!(r#"{{"party":"p1.{party}","slot":"{slot}","dose":1}}"#))
                            .collect();
                        let body = format!(r#"{{"claims":[{}]}}"#, claims.join(","));
                        let key = format!("hold-{group}");
                        let headers = "berth-ack: memory\r\n";
                        client.insist(address, &request("/v1/holds", PLATFORM, &key, headers, &body))?;
                    }
                    Ok(())
                })
            })
            .collect();
        fillers.into_iter().try_for_each(|filler| filler.join().expect("a filler does not panic"))
    })
    .map(|()| began.elapsed())
}

/// Books for party after party until it is told to stop.
fn book(address: SocketAddr, slot: &str, first: u32, step: u32, stop: &AtomicBool) -> Result<Client, String> {
    let mut client = Client::default();
    for party in (first..).step_by(step as usize) {
        if stop.load(Relaxed) {
            break;
        }
        let body = format!(r#"{{"claims":[{{"party":"p1.{party}","slot":"{slot}","dose":1}}]}}"#);
        let sent = Instant::now();
        client.insist(address, &request("/v1/bookings", PLATFORM, &format!("book-{party}"), "", &body))?;
        client.answers.push((sent, Instant::now()));
    }
    client.stream = None;
    Ok(client)
}
