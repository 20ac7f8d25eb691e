//! A nation to search: 756 districts, as India has, and parties to book for.

use std::io;
use std::net::SocketAddr;

use jiff::ToSpan;
use jiff::civil::Date;

use super::client::exchange;
use super::wire;

/// Of a body; 8 MiB are the most.
const BULK_BYTES: usize = 4 << 20;
/// Slots of a session: two windows, two pools.
const SLOTS_PER_SESSION: u32 = 4;

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Districts, numbered from 0.
    pub districts: u32,
    /// Centres in each.
    pub centres: u32,
    /// Dates with a session at each centre, from tomorrow on.
    pub days: u32,
    /// People without a claim.
    pub parties: u32,
}

impl Size {
    /// Slots there are: of one district they lie together.
    #[must_use]
    pub fn slots_per_district(&self) -> u32 {
        self.centres * self.slots_per_centre()
    }

    /// The same of one centre.
    #[must_use]
    pub fn slots_per_centre(&self) -> u32 {
        self.days * SLOTS_PER_SESSION
    }
}

/// Tomorrow where the programme is.
#[must_use]
pub fn tomorrow() -> Date {
    let zone = jiff::tz::TimeZone::get("Asia/Kolkata").expect("the zone is bundled");
    jiff::Timestamp::now().to_zoned_datetime(zone).date().saturating_add(1.days())
}

/// Publishes it all.
///
/// # Errors
/// The server refuses a part of it.
pub fn publish(address: SocketAddr, size: &Size) -> io::Result<()> {
    let mut calls = 0;
    let mut bulk = |path: &str, lines: &mut dyn Iterator<Item = String>| {
        let mut body = String::new();
        loop {
            let line = lines.next();
            let last = line.is_none();
            body.extend(line);
            if !body.is_empty() && (last || body.len() > BULK_BYTES) {
                calls += 1;
                post(address, path, &format!("seed-{calls}"), "application/x-ndjson", &body)?;
                body.clear();
            }
            if last {
                return io::Result::Ok(());
            }
        }
    };
    let state = "{\"id\":\"1\",\"kind\":\"state\",\"name\":\"State\"}\n".to_owned();
    let district =
        |d: u32| format!("{{\"id\":\"{d}\",\"kind\":\"district\",\"name\":\"District {d}\",\"parent\":\"1\"}}\n");
    bulk("/v1/regions", &mut std::iter::once(state).chain((0..size.districts).map(district)))?;
    let places = || (0..size.districts).flat_map(|d| (0..size.centres).map(move |c| (d, c)));
    let centre = |(d, c): (u32, u32)| {
        format!(
            "{{\"id\":\"c{d}-{c}\",\"name\":\"Primary Health Centre {c} of District {d}\",\"district\":\"{d}\",\"pincode\":\"{}\",\"address\":\"{c} Station Road\"}}\n",
            100_000 + d * 100 + c
        )
    };
    bulk("/v1/centres", &mut places().map(centre))?;
    let tomorrow = tomorrow();
    let dates: Vec<Date> = (0..size.days).map(|day| tomorrow.saturating_add(i64::from(day).days())).collect();
    let session = |((d, c), date): ((u32, u32), Date)| {
        format!(
            "{{\"id\":\"c{d}-{c}-{date}\",\"centre\":\"c{d}-{c}\",\"date\":\"{date}\",\"product\":\"covishield\",\"windows\":[{{\"start\":\"09:00\",\"end\":\"13:00\",\"pools\":{{\"dose1\":100000,\"dose2\":500}}}},{{\"start\":\"14:00\",\"end\":\"17:00\",\"pools\":{{\"dose1\":100000,\"dose2\":500}}}}]}}\n"
        )
    };
    bulk("/v1/sessions", &mut places().flat_map(|place| dates.iter().map(move |&date| (place, date))).map(session))?;
    let mut left = size.parties;
    while left > 0 {
        let count = left.min(1_000_000);
        let body = format!("{{\"count\":{count},\"birth_year\":1980}}");
        post(address, "/v1/parties", &format!("parties-{left}"), "application/json", &body)?;
        left -= count;
    }
    Ok(())
}

/// An administrator's request, which must succeed.
///
/// # Errors
/// It does not.
pub fn post(address: SocketAddr, path: &str, key: &str, media: &str, body: &str) -> io::Result<()> {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer admin-key\r\nidempotency-key: {key}\r\n\
         content-type: {media}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(address, request.as_bytes())?;
    match wire::split(&answer).and_then(|(head, _)| wire::status(head)) {
        Some(200 | 201) => Ok(()),
        _ => Err(io::Error::other(format!("{path}: {}", String::from_utf8_lossy(&answer)))),
    }
}
