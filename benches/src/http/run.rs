//! The comparisons, one after another.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use super::client::{Asker, drive, exchange};
use super::inventory::{self, Size};
use super::process::{self, Server};
use super::wire;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The inventory.
    pub size: Size,
    /// One round of one side.
    pub round: Duration,
    /// Rounds of each side.
    pub rounds: usize,
    /// Threads of the client.
    pub threads: usize,
    /// Connections of each: so many requests run at once.
    pub connections: usize,
    /// Bookings meanwhile, where the inventory changes.
    pub bookings_per_second: u32,
    /// Only cases whose title has this in it.
    pub only: Option<String>,
}

impl Plan {
    /// What `cargo bench` runs.
    #[must_use]
    pub fn whole() -> Plan {
        Plan {
            size: Size { districts: 756, centres: 20, days: 7, parties: 8_000_000 },
            round: Duration::from_secs(2),
            rounds: 7,
            threads: 2,
            connections: 16,
            bookings_per_second: 100,
            only: None,
        }
    }

    /// The same, to see that it runs.
    #[must_use]
    pub fn tiny() -> Plan {
        Plan {
            size: Size { districts: 7, centres: 3, days: 2, parties: 50_000 },
            round: Duration::from_millis(150),
            rounds: 1,
            threads: 1,
            connections: 2,
            bookings_per_second: 50,
            only: None,
        }
    }

    fn wants(&self, title: &str) -> bool {
        self.only.as_ref().is_none_or(|only| title.contains(only.as_str()))
    }
}

/// CPU per request of one side, in microseconds: one value a round.
#[derive(Clone, Debug, Default)]
struct Side(Vec<f64>);

impl Side {
    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn told(&self) -> String {
        let (least, most) = self.0.iter().fold((f64::MAX, 0.0f64), |(least, most), &x| (least.min(x), most.max(x)));
        format!("{:.2} us ({least:.2} to {most:.2})", self.median())
    }
}

/// What a comparison came to.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was compared.
    pub title: &'static str,
    /// Requests that berth answered.
    pub requests: u64,
    /// Requests that the bare server answered.
    pub bare_requests: u64,
    /// berth's CPU per request over the bare server's, of the medians.
    pub ratio: f64,
}

struct Measure<'a> {
    plan: &'a Plan,
    /// Of each thread of the client.
    connections: usize,
    out: &'a mut dyn Write,
    figures: Vec<Figure>,
}

/// Runs every comparison and prints a line for each.
///
/// # Errors
/// A server does not start, or answers something else than it must.
pub fn run(plan: &Plan, out: &mut dyn Write) -> io::Result<Vec<Figure>> {
    let (berth, echo) = (process::binary("berth")?, process::binary("bare-echo")?);
    let home = tempfile::tempdir()?;
    let home = home.path();
    let server = process::berth(&berth, home, CONFIG)?;
    inventory::publish(server.address, &plan.size)?;
    let mut measure = Measure { plan, connections: plan.connections, out, figures: Vec::new() };
    for (title, encoding) in [
        ("search, one district, zstd", "zstd"),
        ("search, one district, gzip", "gzip"),
        ("search, one district, identity", "identity"),
    ] {
        if plan.wants(title) {
            measure.one_district(title, encoding, &server, (&echo, home))?;
        }
    }
    // The same centre twice: what FHIR costs beside a search, where both are kept.
    for (title, path) in [
        ("search, one centre, zstd", "/v1/availability?centre=c0-0&days=7"),
        ("FHIR slots of that centre, zstd", "/fhir/Slot?schedule.actor=Location/c0-0"),
    ] {
        if plan.wants(title) {
            measure.kept(title, path, &server, (&echo, home))?;
        }
    }
    let title = "search, Zipf over all districts, inventory changing, zstd";
    let parties = Arc::new(AtomicU32::new(0));
    if plan.wants(title) {
        measure.zipf(title, &server, (&echo, home), &parties)?;
    }
    // The second with so many requests at once as a server sees in a surge: more of them share a sync and a wake-up.
    for (title, times) in [("one durable booking", 1), ("one durable booking, eight times the connections", 8)] {
        if plan.wants(title) {
            measure.connections = plan.connections * times;
            measure.booking(title, &server, (&echo, home), &parties)?;
        }
    }
    drop(server);
    if plan.wants("miss") {
        let server = process::berth(&berth, home, &format!("{CONFIG}[search]\nstaleness_ms = 0\n"))?;
        for encoding in ["zstd", "gzip", "identity"] {
            measure.miss(encoding, &server)?;
        }
    }
    if plan.wants("published") {
        let server = process::berth(
            &berth,
            home,
            &format!(
                "public_url = 'https://book.example.org'\n{CONFIG}[fhir]\nphone = '1075'\nstaleness_seconds = 0\n"
            ),
        )?;
        measure.published("zstd", &server)?;
    }
    Ok(measure.figures)
}

/// What is not measured here must not refuse.
const CONFIG: &str = "";

impl Measure<'_> {
    fn one_district(
        &mut self,
        title: &'static str,
        encoding: &str,
        server: &Server,
        (echo, home): (&Path, &Path),
    ) -> io::Result<()> {
        let asker = Districts::new(1, encoding, 1);
        let (bare, bytes) = bare_beside(server, asker.request(0), (echo, home))?;
        let mut askers = self.askers(|seed| Box::new(Districts::new(1, encoding, seed)));
        let (mut ours, mut floor) = self.in_turns(&mut askers, server, &bare)?;
        self.tell(title, &mut ours, &mut floor, &format!("{bytes} bytes each"))
    }

    /// One path, again and again.
    fn kept(
        &mut self,
        title: &'static str,
        path: &str,
        server: &Server,
        (echo, home): (&Path, &Path),
    ) -> io::Result<()> {
        let asker = || One(get(path, "zstd"));
        let (bare, bytes) = bare_beside(server, &asker().0, (echo, home))?;
        let mut askers = self.askers(|_| Box::new(asker()));
        let (mut ours, mut floor) = self.in_turns(&mut askers, server, &bare)?;
        self.tell(title, &mut ours, &mut floor, &format!("{bytes} bytes each"))
    }

    /// A published file that is rendered and compressed for each request.
    fn published(&mut self, encoding: &str, server: &Server) -> io::Result<()> {
        let path = "/smart/slots/1/0.ndjson";
        let (mut side, mut bytes) = (Side::default(), 0);
        let mut askers: Vec<Box<dyn Asker>> = vec![Box::new(One(get(path, encoding)))];
        for _ in 0..self.plan.rounds.min(3) {
            let (sent, cpu) = self.round(&mut askers, server)?;
            side.0.push(cpu);
            bytes = sent.1 / sent.0.max(1);
        }
        // Centres of a file, or all there are.
        let slots = 32.min(self.plan.size.districts * self.plan.size.centres) * self.plan.size.slots_per_centre();
        writeln!(self.out, "a published file of slots, {encoding}: {}; {bytes} bytes of {slots} slots", side.told())
    }

    fn zipf(
        &mut self,
        title: &'static str,
        server: &Server,
        (echo, home): (&Path, &Path),
        parties: &Arc<AtomicU32>,
    ) -> io::Result<()> {
        let districts = self.plan.size.districts;
        let asker = Districts::new(districts, "zstd", 1);
        let (bare, bytes) = bare_beside(server, asker.request(0), (echo, home))?;
        let mut askers = self.askers(|seed| Box::new(Districts::new(districts, "zstd", seed)));
        let before = Counters::read(server.address)?;
        let stop = Arc::new(AtomicBool::new(false));
        let booker = {
            let (stop, address, plan) = (Arc::clone(&stop), server.address, self.plan.clone());
            let mut bookings = Bookings::new(Arc::clone(parties), &plan.size, 7);
            std::thread::spawn(move || book_steadily(address, &mut bookings, plan.bookings_per_second, &stop))
        };
        let sides = self.in_turns(&mut askers, server, &bare);
        stop.store(true, Relaxed);
        let booked = booker.join().expect("the booker does not panic")?;
        let (mut ours, mut floor) = sides?;
        let after = Counters::read(server.address)?;
        let note = format!("{bytes} bytes each, {booked} bookings meanwhile, {}", after.since(&before));
        self.tell(title, &mut ours, &mut floor, &note)
    }

    fn booking(
        &mut self,
        title: &'static str,
        server: &Server,
        (echo, home): (&Path, &Path),
        parties: &Arc<AtomicU32>,
    ) -> io::Result<()> {
        let mut request = Vec::new();
        Bookings::new(Arc::clone(parties), &self.plan.size, 1).next(&mut request);
        let (bare, bytes) = bare_beside(server, &request, (echo, home))?;
        let size = self.plan.size;
        let mut askers = self.askers(|seed| Box::new(Bookings::new(Arc::clone(parties), &size, seed)));
        let (mut ours, mut floor) = self.in_turns(&mut askers, server, &bare)?;
        let open = self.plan.threads * self.connections;
        let note = format!("{open} connections, {} bytes asked, {bytes} bytes answered, disk mode", request.len());
        self.tell(title, &mut ours, &mut floor, &note)
    }

    /// Without a cache: each request is rendered and compressed.
    fn miss(&mut self, encoding: &str, server: &Server) -> io::Result<()> {
        let districts = self.plan.size.districts;
        let mut askers = self.askers(|seed| Box::new(Districts::new(districts, encoding, seed)));
        let mut side = Side::default();
        let mut bytes = 0;
        for _ in 0..self.plan.rounds.min(3) {
            let (sent, cpu) = self.round(&mut askers, server)?;
            side.0.push(cpu);
            bytes = sent.1 / sent.0.max(1);
        }
        let slots = self.plan.size.slots_per_district();
        writeln!(self.out, "a miss, {encoding}: {}; {bytes} bytes of {slots} slots", side.told())
    }

    fn askers(&self, make: impl Fn(u64) -> Box<dyn Asker>) -> Vec<Box<dyn Asker>> {
        (1..=self.plan.threads as u64).map(make).collect()
    }

    fn in_turns(
        &self,
        askers: &mut [Box<dyn Asker>],
        berth: &Server,
        bare: &Server,
    ) -> io::Result<((Side, u64), (Side, u64))> {
        let (mut ours, mut floor) = ((Side::default(), 0), (Side::default(), 0));
        // Not counted: the first touches of everything.
        self.round(askers, berth)?;
        for _ in 0..self.plan.rounds {
            for (server, (side, requests)) in [(berth, &mut ours), (bare, &mut floor)] {
                let (sent, cpu) = self.round(askers, server)?;
                side.0.push(cpu);
                *requests += sent.0;
            }
        }
        Ok((ours, floor))
    }

    /// Requests and bytes, and CPU per request in microseconds.
    fn round(&self, askers: &mut [Box<dyn Asker>], server: &Server) -> io::Result<((u64, u64), f64)> {
        let before = server.cpu()?;
        let sent = drive(server.address, askers, self.connections, self.plan.round)?;
        let cpu = server.cpu()?.saturating_sub(before);
        #[expect(clippy::cast_precision_loss, reason = "a printed figure")]
        let each = cpu.as_secs_f64() * 1e6 / sent.requests.max(1) as f64;
        Ok(((sent.requests, sent.bytes), each))
    }

    fn tell(
        &mut self,
        title: &'static str,
        ours: &mut (Side, u64),
        floor: &mut (Side, u64),
        note: &str,
    ) -> io::Result<()> {
        let ratio = ours.0.median() / floor.0.median();
        writeln!(
            self.out,
            "{title}: berth {}; bare {}; {ratio:.2}x; {} and {} requests, {note}",
            ours.0.told(),
            floor.0.told(),
            ours.1,
            floor.1
        )?;
        self.figures.push(Figure { title, requests: ours.1, bare_requests: floor.1, ratio });
        Ok(())
    }
}

/// A bare server that answers what `server` answers to this request, and how many bytes that is.
fn bare_beside(server: &Server, request: &[u8], (echo, home): (&Path, &Path)) -> io::Result<(Server, usize)> {
    let answer = exchange(server.address, request)?;
    let bare = process::bare(echo, home, &answer)?;
    if exchange(bare.address, request)?.len() != answer.len() {
        return Err(io::Error::other("the bare server answers other bytes"));
    }
    Ok((bare, answer.len()))
}

/// A request as a browser would send it that takes this encoding best.
pub(super) fn get(path: &str, encoding: &str) -> Vec<u8> {
    let takes = if encoding == "zstd" { "gzip, deflate, br, zstd" } else { encoding };
    format!(
        "GET {path} HTTP/1.1\r\nhost: bench\r\naccept: */*\r\naccept-encoding: {takes}\r\nuser-agent: bench\r\n\r\n"
    )
    .into_bytes()
}

/// The same each time.
struct One(Vec<u8>);

impl Asker for One {
    fn next(&mut self, request: &mut Vec<u8>) {
        request.extend_from_slice(&self.0);
    }

    fn status(&self) -> u16 {
        200
    }
}

/// xorshift: a bench needs no better one.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `end`.
    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end.max(1))).unwrap_or(0)
    }
}

/// Searches by district, the first ones most: the n-th is asked for in proportion to 1/n.
struct Districts {
    requests: Vec<Vec<u8>>,
    /// Up to which part of `u32::MAX` each is meant.
    shares: Vec<u32>,
    random: Random,
}

impl Districts {
    fn new(districts: u32, encoding: &str, seed: u64) -> Districts {
        let weight = |d: u32| 1.0 / f64::from(d + 1);
        let all: f64 = (0..districts).map(weight).sum();
        let mut sum = 0.0;
        let mut shares = Vec::new();
        for d in 0..districts {
            sum += weight(d) / all;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to u32::MAX")]
            shares.push((sum.min(1.0) * f64::from(u32::MAX)) as u32);
        }
        // As a browser would ask that takes this encoding best.
        let takes = if encoding == "zstd" { "gzip, deflate, br, zstd" } else { encoding };
        let request = |d: u32| {
            format!("GET /v1/availability?district={d}&days=7 HTTP/1.1\r\nhost: bench\r\naccept: application/json\r\naccept-encoding: {takes}\r\nuser-agent: bench\r\n\r\n").into_bytes()
        };
        let random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        Districts { requests: (0..districts).map(request).collect(), shares, random }
    }

    fn request(&self, district: usize) -> &[u8] {
        self.requests.get(district).map_or(&[], Vec::as_slice)
    }
}

impl Asker for Districts {
    fn next(&mut self, request: &mut Vec<u8>) {
        let at = u32::try_from(self.random.next() >> 32).unwrap_or(0);
        let district = self.shares.partition_point(|&share| share < at).min(self.requests.len() - 1);
        request.extend_from_slice(self.request(district));
    }

    fn status(&self) -> u16 {
        200
    }
}

/// Bookings in one step, each for somebody else, anywhere.
pub(super) struct Bookings {
    parties: Arc<AtomicU32>,
    slots: u32,
    random: Random,
    body: String,
}

impl Bookings {
    pub(super) fn new(parties: Arc<AtomicU32>, size: &Size, seed: u64) -> Bookings {
        let slots = size.districts * size.slots_per_district();
        Bookings { parties, slots, random: Random(seed.wrapping_mul(0xD134_2543_DE82_EF95) | 1), body: String::new() }
    }
}

impl Asker for Bookings {
    fn next(&mut self, request: &mut Vec<u8>) {
        let party = self.parties.fetch_add(1, Relaxed);
        // Every second slot is one of 100,000 units for the first dose.
        let slot = self.random.below(self.slots / 64) * 64;
        self.body.clear();
        // Writing to memory cannot fail.
        let _ = write!(self.body, "{{\"claims\":[{{\"party\":\"p1.{party}\",\"slot\":\"s1.{slot}\",\"dose\":1}}]}}");
        let _ = io::Write::write_fmt(
            request,
            format_args!(
                "POST /v1/bookings HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer platform-key\r\nidempotency-key: booking-{party:012}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
                self.body.len(),
                self.body
            ),
        );
    }

    fn status(&self) -> u16 {
        201
    }
}

/// Books at a steady rate until it is told to stop; how often.
fn book_steadily(address: SocketAddr, bookings: &mut Bookings, per_second: u32, stop: &AtomicBool) -> io::Result<u64> {
    let mut booked = 0;
    let mut request = Vec::new();
    while !stop.load(Relaxed) {
        request.clear();
        bookings.next(&mut request);
        let answer = exchange(address, &request)?;
        if wire::split(&answer).and_then(|(head, _)| wire::status(head)) != Some(201) {
            return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
        }
        booked += 1;
        std::thread::sleep(Duration::from_secs(1) / per_second);
    }
    Ok(booked)
}

/// What the server says of its searches.
struct Counters {
    cache: f64,
    rendered: f64,
    waited: f64,
    changed: f64,
    unchanged: f64,
    seconds: f64,
}

impl Counters {
    fn read(address: SocketAddr) -> io::Result<Counters> {
        let answer = exchange(address, b"GET /metrics HTTP/1.1\r\nhost: bench\r\n\r\n")?;
        let page = String::from_utf8_lossy(&answer).into_owned();
        let value = |name: &str| {
            let found = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
            found.ok_or_else(|| io::Error::other(format!("the server has no metric {name}")))
        };
        Ok(Counters {
            cache: value("berth_search_answers_total{source=\"cache\"}")?,
            rendered: value("berth_search_answers_total{source=\"rendered\"}")?,
            waited: value("berth_search_answers_total{source=\"waited\"}")?,
            changed: value("berth_search_renders_total{changed=\"yes\"}")?,
            unchanged: value("berth_search_renders_total{changed=\"no\"}")?,
            seconds: value("berth_search_render_seconds_total")?,
        })
    }

    fn since(&self, before: &Counters) -> String {
        let (hits, misses) = (self.cache - before.cache, self.rendered - before.rendered);
        let waited = self.waited - before.waited;
        let (changed, unchanged) = (self.changed - before.changed, self.unchanged - before.unchanged);
        let each = (self.seconds - before.seconds) * 1e6 / (changed + unchanged).max(1.0);
        format!(
            "hit rate {:.2}%, {misses:.0} misses, {waited:.0} waited; rendered {changed:.0} that had changed and {unchanged:.0} that had not, {each:.0} us each",
            100.0 * hits / (hits + misses + waited).max(1.0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_districts_are_asked_for_most() {
        let mut districts = Districts::new(100, "zstd", 1);
        let mut asked = vec![0u32; 100];
        for _ in 0..100_000 {
            let mut request = Vec::new();
            districts.next(&mut request);
            let text = String::from_utf8(request).unwrap();
            let district = text.split("district=").nth(1).unwrap().split('&').next().unwrap().parse::<usize>().unwrap();
            asked[district] += 1;
        }
        assert!((18_000..21_000).contains(&asked[0]) && (9_000..10_500).contains(&asked[1]), "{asked:?}");
        assert!(asked[99] > 100, "{asked:?}");
    }
}
