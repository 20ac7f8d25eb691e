//! A day of a campaign against `berth serve` in a process of its own: people are registered, checked in by what they say at the door, and
//! their dose is recorded; each durable before it is answered, and each of its own party.
//!
//! First at the rates a nation needs, all three at once and each at its own pace whatever the server does (a call waits from when it
//! was due): what counts is the share of the machine's processors that the server takes, beside that of a bare hyper server which answers the
//! same calls at the same pace and does nothing. Then each alone, as fast as callers who wait for their answers bring it.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use jiff::ToSpan;

use crate::http::client::Connection;
use crate::http::inventory::{post, tomorrow};
use crate::http::process::{Server, bare, berth, binary};
use crate::http::wire;

/// Of `operator-key`.
const OPERATOR_SHA256: &str = "c9736463f555cdb7d2a78cfd7aa8b8c4f09d906d78f8dab9228eda30a28c2818";
/// Callers of a lane at its own pace: enough that none is late for want of one.
const CALLERS: usize = 16;
/// Bookings made by one request.
const BOOKED_AT_ONCE: usize = 50_000;

/// As long as a booking's.
const BARE_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 31\r\n\r\n{\"state\":\"completed\",\"dose\":1}\n";

/// How much.
pub struct Plan {
    /// How long the three run at once.
    pub paced: Duration,
    /// Registrations a second meanwhile.
    pub registrations: f64,
    /// Check-ins a second, and as many doses.
    pub doses: f64,
    /// Calls of each kind after that, as fast as they go.
    pub flat_out: usize,
    /// By so many callers.
    pub callers: usize,
}

impl Plan {
    /// What the figures in the docs are of.
    #[must_use]
    pub fn whole() -> Plan {
        let (registrations, doses) = (1000.0, 700.0);
        Plan { paced: Duration::from_secs(30), registrations, doses, flat_out: 60_000, callers: 64 }
    }

    /// For a test: that it runs.
    #[must_use]
    pub fn tiny() -> Plan {
        Plan { paced: Duration::from_millis(400), registrations: 50.0, doses: 50.0, flat_out: 40, callers: 4 }
    }
}

/// What came of one kind of call.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Which.
    pub name: &'static str,
    /// Calls answered.
    pub calls: usize,
    /// From the first due to the last answered.
    pub time: Duration,
    /// How long each took from when it was due, ascending.
    took: Vec<Duration>,
}

impl Lane {
    /// In milliseconds.
    fn at(&self, percent: usize) -> f64 {
        self.took.get((self.took.len().max(1) - 1) * percent / 100).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    }

    #[expect(clippy::cast_precision_loss, reason = "a printed rate")]
    fn rate(&self) -> f64 {
        self.calls as f64 / self.time.as_secs_f64()
    }
}

/// What came of it all.
pub struct Figures {
    /// At their own pace, all at once.
    pub paced: Vec<Lane>,
    /// The server's share of the machine meanwhile.
    pub share: f64,
    /// That of a server which does nothing.
    pub bare_share: f64,
    /// Each alone.
    pub flat_out: Vec<Lane>,
}

/// A booking of today and what its party says at the door.
struct Booked {
    booking: String,
    code: String,
}

type Make<'a> = &'a (dyn Fn(usize) -> Vec<u8> + Sync);

/// Runs the plan and tells it.
///
/// # Errors
/// The server cannot be started, or an answer is not what it must be.
pub fn run(plan: &Plan, out: &mut dyn Write) -> io::Result<Figures> {
    let home = tempfile::tempdir()?;
    let config = format!(
        "[audit]\nfile = {audit:?}\n[people]\nmaster_key_file = {key:?}\ncountry_code = '91'\n\
         [[keys]]\nrole = 'operator'\nname = 'o'\nsha256 = '{OPERATOR_SHA256}'\ncentres = ['c1']\n",
        audit = home.path().join("audit.ndjson"),
        key = home.path().join("people.key"),
    );
    let server = berth(&binary("berth")?, home.path(), &config)?;
    let address = server.address;
    let paced_doses = count(plan.doses, plan.paced);
    let booked = book(address, paced_doses + plan.flat_out)?;
    let paced_people = count(plan.registrations, plan.paced);

    let register = |n: usize| {
        let body = format!(
            "{{\"name\":\"Person {n} of Somewhere\",\"born\":\"1975-03-01\",\"sex\":\"f\",\"document\":{{\"kind\":\"passport\",\"number\":\"Z{n:07}\"}}}}"
        );
        request("/v1/people", "platform-key", &format!("person-{n}"), "berth-reason: bench: by phone\r\n", &body)
    };
    let check_in = |n: usize| {
        let Booked { booking, code } = &booked[n];
        let (path, body) = (format!("/v1/bookings/{booking}/check-in"), format!("{{\"code\":\"{code}\"}}"));
        request(&path, "operator-key", &format!("came-{n}"), "", &body)
    };
    let dose = |n: usize| {
        let path = format!("/v1/bookings/{}/complete", booked[n].booking);
        let body = "{\"batch\":\"4120Z001\",\"site\":\"left_arm\",\"vaccinator\":\"nurse-17\"}";
        request(&path, "operator-key", &format!("dose-{n}"), "", body)
    };

    // Whom a dose is given to came a moment before.
    let ahead = count(plan.doses, (plan.paced / 4).min(Duration::from_secs(1)));
    lane("check-ins ahead", address, None, 0..ahead, CALLERS, &check_in)?;
    let lanes = [
        ("registrations", plan.registrations, 0..paced_people, &register as Make<'_>),
        ("check-ins", plan.doses, ahead..paced_doses, &check_in),
        ("doses", plan.doses, 0..paced_doses - ahead, &dose),
    ];
    let (paced, share) = at_their_pace(&server, lanes.clone())?;
    let floor = bare(&binary("bare-echo")?, home.path(), BARE_ANSWER)?;
    let (_, bare_share) = at_their_pace(&floor, lanes)?;
    writeln!(out, "at their own pace, all three at once, {:.1} s:", plan.paced.as_secs_f64())?;
    tell(out, &paced)?;
    let (ours, its) = (share * 100.0, bare_share * 100.0);
    writeln!(out, "  the server took {ours:.1} % of the machine's processors, a bare one {its:.1} %")?;

    lane("doses behind", address, None, paced_doses - ahead..paced_doses, CALLERS, &dose)?;
    let mut flat_out = Vec::new();
    let people = paced_people..paced_people + plan.flat_out;
    let came = paced_doses..paced_doses + plan.flat_out;
    writeln!(out, "each alone, {} callers who wait for their answers:", plan.callers)?;
    for (name, range, make) in [
        ("registrations", people, &register as Make<'_>),
        ("check-ins", came.clone(), &check_in),
        ("doses", came, &dose),
    ] {
        let before = server.cpu()?;
        let lane = lane(name, address, None, range, plan.callers, make)?;
        let cpu = (server.cpu()? - before).as_secs_f64() * 1e6;
        tell(out, std::slice::from_ref(&lane))?;
        #[expect(clippy::cast_precision_loss, reason = "a printed mean")]
        writeln!(out, "    {:.0} microseconds of the server's processor time each", cpu / lane.calls.max(1) as f64)?;
        flat_out.push(lane);
    }
    Ok(Figures { paced, share, bare_share, flat_out })
}

/// Calls of all kinds at once, each at its own pace, and the share of the machine that the server took meanwhile.
fn at_their_pace(
    server: &Server,
    lanes: [(&'static str, f64, Range<usize>, Make<'_>); 3],
) -> io::Result<(Vec<Lane>, f64)> {
    let (before, started, address) = (server.cpu()?, Instant::now(), server.address);
    let told: io::Result<Vec<Lane>> = std::thread::scope(|scope| {
        let run =
            |(name, rate, range, make)| scope.spawn(move || lane(name, address, Some(rate), range, CALLERS, make));
        lanes.map(run).into_iter().map(|lane| lane.join().expect("the client does not panic")).collect()
    });
    let took = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a printed share")]
    let processors = std::thread::available_parallelism()?.get() as f64;
    Ok((told?, (server.cpu()? - before).as_secs_f64() / took / processors))
}

fn tell(out: &mut dyn Write, lanes: &[Lane]) -> io::Result<()> {
    for lane in lanes {
        let (p50, p99, max) = (lane.at(50), lane.at(99), lane.at(100));
        let (name, calls, rate) = (lane.name, lane.calls, lane.rate());
        writeln!(out, "  {name}: {rate:.0}/s ({calls}), p50 {p50:.2} ms, p99 {p99:.2} ms, longest {max:.2} ms")?;
    }
    Ok(())
}

/// How many calls fall due at this rate.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn count(rate: f64, time: Duration) -> usize {
    (rate * time.as_secs_f64()).round() as usize
}

/// Calls of one kind: at a pace, or as fast as these callers get their answers.
fn lane(
    name: &'static str,
    address: SocketAddr,
    rate: Option<f64>,
    range: Range<usize>,
    callers: usize,
    make: Make<'_>,
) -> io::Result<Lane> {
    let next = AtomicUsize::new(range.start);
    let started = Instant::now();
    let caller = || -> io::Result<Vec<Duration>> {
        let mut connection = Connection::new(address)?;
        let mut took = Vec::new();
        loop {
            let n = next.fetch_add(1, Relaxed);
            if n >= range.end {
                return Ok(took);
            }
            let request = make(n);
            #[expect(clippy::cast_precision_loss, reason = "a small count")]
            let due = rate.map(|rate| started + Duration::from_secs_f64((n - range.start) as f64 / rate));
            let begun = due.unwrap_or_else(Instant::now);
            std::thread::sleep(begun.saturating_duration_since(Instant::now()));
            let answer = connection.ask(&request)?;
            let status = wire::split(answer).and_then(|(head, _)| wire::status(head));
            if !matches!(status, Some(200 | 201)) {
                return Err(io::Error::other(format!("{name}: {}", String::from_utf8_lossy(answer))));
            }
            took.push(begun.elapsed());
        }
    };
    let told: Vec<io::Result<Vec<Duration>>> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().map(|caller| caller.join().expect("the client does not panic")).collect()
    });
    let mut took = Vec::new();
    for one in told {
        took.extend(one?);
    }
    took.sort_unstable();
    Ok(Lane { name, calls: took.len(), time: started.elapsed(), took })
}

fn request(path: &str, bearer: &str, key: &str, more: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {bearer}\r\nidempotency-key: {key}\r\n{more}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Bookings of today for so many parties. What has begun cannot be booked, so they book tomorrow and the administration moves
/// them.
fn book(address: SocketAddr, parties: usize) -> io::Result<Vec<Booked>> {
    let ndjson = "application/x-ndjson";
    let regions = "{\"id\":\"1\",\"kind\":\"state\",\"name\":\"State\"}\n\
                   {\"id\":\"2\",\"kind\":\"district\",\"name\":\"District\",\"parent\":\"1\"}\n";
    post(address, "/v1/regions", "regions", ndjson, regions)?;
    let centre = "{\"id\":\"c1\",\"name\":\"One\",\"district\":\"2\",\"pincode\":\"400001\"}\n";
    post(address, "/v1/centres", "centres", ndjson, centre)?;
    let session = |id: &str, date: jiff::civil::Date| {
        format!(
            "{{\"id\":\"{id}\",\"centre\":\"c1\",\"date\":\"{date}\",\"product\":\"covishield\",\"windows\":[{{\"start\":\"00:00\",\"end\":\"23:59\",\"pools\":{{\"dose1\":1000000}}}}]}}\n"
        )
    };
    let sessions = session("next", tomorrow()) + &session("today", tomorrow().saturating_sub(1.days()));
    post(address, "/v1/sessions", "sessions", ndjson, &sessions)?;
    let body = format!("{{\"count\":{parties},\"birth_year\":1980}}");
    post(address, "/v1/parties", "parties", "application/json", &body)?;
    let mut first = 0;
    while first < parties {
        let end = parties.min(first + BOOKED_AT_ONCE);
        let mut lines = String::new();
        for n in first..end {
            let claim = format!("{{\"party\":\"p1.{n}\",\"slot\":\"s1.0\",\"dose\":1}}");
            let _ = writeln!(lines, "{{\"key\":\"book-{n}\",\"claims\":[{claim}]}}");
        }
        stream(address, "/v1/bulk/bookings", "platform-key", &format!("book-{first}"), ndjson, &lines)?;
        first = end;
    }
    let to = "{\"to\":\"today\",\"windows\":\"any\"}";
    stream(address, "/v1/sessions/next/move-bookings", "admin-key", "move", "application/json", to)?;
    let mut connection = Connection::new(address)?;
    (0..parties).map(|n| read_booking(&mut connection, n)).collect()
}

/// A request whose answer is lines, the last of which must say that nothing was refused.
fn stream(address: SocketAddr, path: &str, bearer: &str, key: &str, media: &str, body: &str) -> io::Result<()> {
    use std::io::Read as _;
    let mut connection = std::net::TcpStream::connect(address)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {bearer}\r\nidempotency-key: {key}\r\n\
         connection: close\r\ncontent-type: {media}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut writer = connection.try_clone()?;
    let mut answer = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body.as_bytes())));
        connection.read_to_end(&mut answer)
    })?;
    let tail = String::from_utf8_lossy(&answer[answer.len().saturating_sub(300)..]).into_owned();
    let whole = tail.contains("\"end\":true") && tail.contains("\"refused\":0");
    if whole { Ok(()) } else { Err(io::Error::other(format!("{path}: {tail}"))) }
}

fn read_booking(connection: &mut Connection, party: usize) -> io::Result<Booked> {
    let request = format!(
        "GET /v1/parties/p1.{party}/bookings HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer platform-key\r\n\r\n"
    );
    let answer = String::from_utf8_lossy(connection.ask(request.as_bytes())?).into_owned();
    let member = |name: &str| {
        let (_, rest) = answer.split_once(&format!("\"{name}\":\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    match (member("booking"), member("check_in_code")) {
        (Some(booking), Some(code)) => Ok(Booked { booking, code }),
        _ => Err(io::Error::other(format!("a party's bookings: {answer}"))),
    }
}
