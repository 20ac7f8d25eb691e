//! A nation's slots as they are published, and who copies them: the manifest, one file, all of them by one copier and by three at
//! once, searches of FHIR, and what is booked beside a copier that never ends.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::client::{Asker, Connection, drive};
use super::inventory::{self, Size};
use super::process::{self, Server};
use super::run::{Bookings, get};
use super::wire;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The inventory.
    pub size: Size,
    /// Questions of each kind that are asked one after another.
    pub looks: u32,
    /// One round of bookings.
    pub round: Duration,
    /// Rounds with and without a copier, in turns.
    pub rounds: usize,
    /// MiB of files that are kept.
    pub cache_mib: u32,
}

impl Plan {
    /// What `cargo bench` runs: a million slots, which may have 50 million units.
    #[must_use]
    pub fn whole() -> Plan {
        Plan {
            size: Size { districts: 756, centres: 48, days: 7, parties: 4_000_000 },
            looks: 100,
            round: Duration::from_secs(3),
            rounds: 3,
            cache_mib: 256,
        }
    }

    /// The same, to see that it runs.
    #[must_use]
    pub fn tiny() -> Plan {
        Plan {
            size: Size { districts: 4, centres: 20, days: 2, parties: 50_000 },
            looks: 3,
            round: Duration::from_millis(150),
            rounds: 1,
            cache_mib: 48,
        }
    }
}

/// What it came to, beside what was written.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Files that the manifest names.
    pub files: usize,
    /// Lines of the files of slots.
    pub slots: usize,
    /// Bookings of the rounds without a copier, and of those with one.
    pub bookings: [u64; 2],
}

/// Where it is published.
const BASE: &str = "https://book.example.org";
/// Of a page of slots, so many centres at once.
const CENTRES: u32 = 50;

fn config(staleness_seconds: u32, cache_mib: u32) -> String {
    format!(
        "public_url = '{BASE}'\n[search]\nstaleness_ms = 60000\n[fhir]\nphone = '1075'\nstaleness_seconds = {staleness_seconds}\n\
         booking_link = '{BASE}/?slot={{slot}}'\ncache_mib = {cache_mib}\n"
    )
}

/// Runs it and prints a line for each figure.
///
/// # Errors
/// The server does not start, or answers something else than it must.
pub fn run(plan: &Plan, out: &mut dyn Write) -> io::Result<Figures> {
    let berth = process::binary("berth")?;
    let home = tempfile::tempdir()?;
    let mut figures = Figures::default();
    let began = Instant::now();
    let server = process::berth(&berth, home.path(), &config(3600, plan.cache_mib))?;
    inventory::publish(server.address, &plan.size)?;
    let size = &plan.size;
    writeln!(
        out,
        "{} centres, {} sessions, {} slots, published in {:.1} s; {} MiB of files are kept",
        size.districts * size.centres,
        size.districts * size.centres * size.days,
        size.districts * size.slots_per_district(),
        began.elapsed().as_secs_f64(),
        plan.cache_mib,
    )?;
    let files = manifest(plan, &server, out)?;
    figures.files = files.len();
    one_file(&files, &server, plan, out)?;
    figures.slots = copies(&files, &server, out)?;
    searches(plan, &server, out)?;
    drop(server);
    beside_a_copier(plan, (&berth, home.path()), &mut figures, out)?;
    Ok(figures)
}

/// An answer that must be 200, how long it took, and the length of its body.
fn ask(connection: &mut Connection, path: &str, encoding: &str) -> io::Result<(Duration, usize)> {
    let began = Instant::now();
    let answer = connection.ask(&get(path, encoding))?;
    let took = began.elapsed();
    Ok((took, body(path, answer)?.len()))
}

fn body<'a>(path: &str, answer: &'a [u8]) -> io::Result<&'a [u8]> {
    match wire::split(answer) {
        Some((head, body)) if wire::status(head) == Some(200) => Ok(body),
        _ => Err(io::Error::other(format!("{path}: {}", String::from_utf8_lossy(answer)))),
    }
}

/// Median, least and most in milliseconds.
fn told(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
    format!("{:.2} ms ({:.2} to {:.2})", ms(times.get(times.len() / 2)), ms(times.first()), ms(times.last()))
}

/// The paths of all files, and what the manifest takes.
fn manifest(plan: &Plan, server: &Server, out: &mut dyn Write) -> io::Result<Vec<String>> {
    let path = "/smart/$bulk-publish";
    let mut connection = Connection::new(server.address)?;
    // Each of an encoding of its own, so each is rendered.
    let cold = ["identity", "gzip", "zstd"].map(|encoding| ask(&mut connection, path, encoding));
    let mut cold = cold.into_iter().map(|asked| Ok(asked?.0)).collect::<io::Result<Vec<_>>>()?;
    let kept = (0..plan.looks).map(|_| Ok(ask(&mut connection, path, "gzip")?.0));
    let mut kept = kept.collect::<io::Result<Vec<_>>>()?;
    let answer = connection.ask(&get(path, "identity"))?;
    let text = String::from_utf8_lossy(body(path, answer)?).into_owned();
    let files: Vec<String> = text
        .split("\"url\":\"")
        .skip(1)
        .filter_map(|rest| Some(rest.split('"').next()?.strip_prefix(BASE)?.to_owned()))
        .collect();
    writeln!(
        out,
        "manifest of {} files, {} bytes: rendered {}, kept {}",
        files.len(),
        text.len(),
        told(&mut cold),
        told(&mut kept)
    )?;
    Ok(files)
}

/// Some files of slots, each rendered once and then kept.
fn one_file(files: &[String], server: &Server, plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    let mut connection = Connection::new(server.address)?;
    let slots: Vec<_> = files.iter().filter(|path| path.contains("/slots/")).collect();
    let step = (slots.len() / plan.looks as usize).max(1);
    for encoding in ["zstd", "gzip"] {
        let mut times = [Vec::new(), Vec::new()];
        let mut bytes = 0;
        for path in slots.iter().step_by(step) {
            for times in &mut times {
                let (took, len) = ask(&mut connection, path, encoding)?;
                times.push(took);
                bytes += len;
            }
        }
        let each = bytes / times.iter().map(Vec::len).sum::<usize>().max(1);
        let [mut cold, mut kept] = times;
        let looked = cold.len();
        let (cold, kept) = (told(&mut cold), told(&mut kept));
        writeln!(out, "a file of slots, {encoding}, {each} bytes, {looked} of them: rendered {cold}, kept {kept}")?;
    }
    Ok(())
}

/// What one copier read.
#[derive(Clone, Copy, Debug, Default)]
struct Copied {
    bytes: usize,
    /// Of the files of slots.
    lines: usize,
    took: Duration,
}

/// Every file by one connection, one after another. Lines are counted where they can be read as they come.
fn copy(address: SocketAddr, files: &[String], encoding: &str) -> io::Result<Copied> {
    let mut connection = Connection::new(address)?;
    let (began, mut copied) = (Instant::now(), Copied::default());
    for path in files {
        let answer = connection.ask(&get(path, encoding))?;
        let body = body(path, answer)?;
        copied.bytes += body.len();
        if encoding == "identity" && path.contains("/slots/") {
            copied.lines += body.iter().filter(|&&byte| byte == b'\n').count();
        }
    }
    copied.took = began.elapsed();
    Ok(copied)
}

/// The whole, by one and by three at once; the lines of all files of slots.
fn copies(files: &[String], server: &Server, out: &mut dyn Write) -> io::Result<usize> {
    let mut slots = 0;
    for (encoding, what) in [
        ("gzip", "one copier, most of it rendered"),
        ("gzip", "one copier again"),
        ("identity", "one copier, as it is"),
        ("identity", "one copier again, as it is"),
    ] {
        let before = server.cpu()?;
        let copied = copy(server.address, files, encoding)?;
        slots = slots.max(copied.lines);
        tell(out, (what, encoding), &[copied], server.cpu()?.saturating_sub(before))?;
    }
    // Three who begin together, of what nobody has asked for: each file is rendered once.
    let others = ["three at once, most of it rendered", "three at once again"];
    for what in others {
        let before = server.cpu()?;
        let copied = std::thread::scope(|scope| {
            let copiers: Vec<_> = (0..3).map(|_| scope.spawn(|| copy(server.address, files, "zstd"))).collect();
            let copied = copiers.into_iter().map(|copier| copier.join().expect("the copier does not panic"));
            copied.collect::<io::Result<Vec<_>>>()
        })?;
        tell(out, (what, "zstd"), &copied, server.cpu()?.saturating_sub(before))?;
    }
    Ok(slots)
}

fn tell(out: &mut dyn Write, (what, encoding): (&str, &str), copied: &[Copied], cpu: Duration) -> io::Result<()> {
    let times: Vec<_> = copied.iter().map(|copied| format!("{:.2}", copied.took.as_secs_f64())).collect();
    let bytes = copied.first().map_or(0, |copied| copied.bytes);
    writeln!(
        out,
        "a copy of everything, {encoding}, {what}: {} s; {:.1} MB each; {:.2} s of the server's CPU",
        times.join(", "),
        bytes as f64 / 1e6,
        cpu.as_secs_f64()
    )
}

/// Searches by centre, each made once and then kept.
fn searches(plan: &Plan, server: &Server, out: &mut dyn Write) -> io::Result<()> {
    let mut connection = Connection::new(server.address)?;
    let size = plan.size;
    let some = |first: u32, count: u32| {
        let centre = |n: u32| format!("c{}-{}", n / size.centres % size.districts, n % size.centres);
        (first..first + count).map(centre).collect::<Vec<_>>().join(",")
    };
    for (what, path, centres) in [
        ("slots of one centre", "/fhir/Slot?schedule.actor=", 1),
        ("slots of fifty centres, the first hundred", "/fhir/Slot?schedule.actor=", CENTRES),
        ("free slots of fifty centres, one", "/fhir/Slot?status=free&_count=1&schedule.actor=", CENTRES),
        ("schedules of fifty centres, the first hundred", "/fhir/Schedule?actor=", CENTRES),
    ] {
        let (mut cold, mut kept, mut bytes) = (Vec::new(), Vec::new(), 0);
        for look in 0..plan.looks {
            let path = format!("{path}{}", some(look * CENTRES, centres));
            let (took, len) = ask(&mut connection, &path, "gzip")?;
            cold.push(took);
            kept.push(ask(&mut connection, &path, "gzip")?.0);
            bytes += len;
        }
        let each = bytes / cold.len().max(1);
        writeln!(out, "{what}, gzip, {each} bytes: rendered {}, kept {}", told(&mut cold), told(&mut kept))?;
    }
    Ok(())
}

/// Bookings alone and beside somebody who copies everything and never finds a file kept, in turns.
fn beside_a_copier(
    plan: &Plan,
    (berth, home): (&Path, &Path),
    figures: &mut Figures,
    out: &mut dyn Write,
) -> io::Result<()> {
    let server = process::berth(berth, home, &config(0, plan.cache_mib))?;
    let files = manifest(plan, &server, &mut io::sink())?;
    let parties = Arc::new(AtomicU32::new(0));
    let mut askers: Vec<Box<dyn Asker>> = vec![
        Box::new(Bookings::new(Arc::clone(&parties), &plan.size, 1)),
        Box::new(Bookings::new(parties, &plan.size, 2)),
    ];
    let mut rates = [Vec::new(), Vec::new()];
    let mut rendered = 0;
    for _ in 0..plan.rounds {
        for (is_beside, rates) in rates.iter_mut().enumerate() {
            let stop = AtomicBool::new(is_beside == 0);
            let began = Instant::now();
            let (sent, read) = std::thread::scope(|scope| {
                let copier = scope.spawn(|| copy_until(server.address, &files, &stop));
                let sent = drive(server.address, &mut askers, 16, plan.round);
                stop.store(true, Relaxed);
                (sent, copier.join().expect("the copier does not panic"))
            });
            let sent = sent?;
            rendered += read?;
            figures.bookings[is_beside] += sent.requests;
            rates.push(sent.requests as f64 / began.elapsed().as_secs_f64());
        }
    }
    let [mut alone, mut beside] = rates;
    let all = plan.round.as_secs_f64() * plan.rounds as f64;
    writeln!(
        out,
        "bookings, 32 connections, disk mode: alone {}, beside a copier {}; the copier had {:.0} files a second rendered",
        per_second(&mut alone),
        per_second(&mut beside),
        rendered as f64 / all
    )
}

/// Files, again and again until it is told to stop; how many.
fn copy_until(address: SocketAddr, files: &[String], stop: &AtomicBool) -> io::Result<u64> {
    let mut connection = Connection::new(address)?;
    let mut read = 0;
    for path in files.iter().cycle() {
        if stop.load(Relaxed) {
            break;
        }
        ask(&mut connection, path, "gzip")?;
        read += 1;
    }
    Ok(read)
}

fn per_second(rates: &mut [f64]) -> String {
    rates.sort_unstable_by(f64::total_cmp);
    let rate = |rate: Option<&f64>| rate.copied().unwrap_or(f64::NAN);
    format!("{:.0}/s ({:.0} to {:.0})", rate(rates.get(rates.len() / 2)), rate(rates.first()), rate(rates.last()))
}
