//! Regions, centres and sessions as lines of a bulk body, checked against the catalogue and one another.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;

use berth_engine::{PoolId, ProductId, TimestampMs, Units};
use jiff::ToSpan;
use jiff::civil::Date;

use super::fields::{Fields, LineFaults};
use super::node::Node;
use crate::catalogue::{Ages, CentreIndex, RegionKind};
use crate::faults::Faults;
use crate::names::is_pincode;
use crate::position::Position;
use crate::programme::Programme;

/// Windows of one session.
const WINDOWS_MAX: usize = 96;
/// Slots of one session: windows x pools. Finding a slot's window looks through them.
const SLOTS_MAX: usize = 1000;
/// Sessions lie at most this far ahead.
const DAYS_AHEAD_MAX: i32 = 366;
/// Years.
const AGE_MAX: u8 = 150;
/// A thousand thousand million of the smallest unit: a slip of the keyboard, not a fee.
const FEE_MAX: u64 = 1_000_000_000_000;

/// A region to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionLine {
    pub(crate) id: String,
    pub(crate) kind: RegionKind,
    pub(crate) name: String,
    /// A district's state; a state has none.
    pub(crate) parent: Option<String>,
}

/// A centre to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CentreLine {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) district: String,
    pub(crate) pincode: String,
    pub(crate) address: Option<String>,
    pub(crate) position: Option<Position>,
    pub(crate) phone: Option<String>,
    pub(crate) url: Option<String>,
}

/// A session to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionLine {
    /// Where it stands, from 1.
    pub(crate) line: u32,
    pub(crate) id: String,
    pub(crate) centre: CentreIndex,
    pub(crate) date: Date,
    pub(crate) product: ProductId,
    pub(crate) ages: Ages,
    pub(crate) fee: Option<NonZeroU64>,
    pub(crate) windows: Vec<WindowLine>,
}

/// A window of a session; each of its pools becomes a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WindowLine {
    pub(crate) start: TimestampMs,
    pub(crate) end: TimestampMs,
    pub(crate) pools: Vec<(PoolId, Units)>,
}

/// What lines are checked against. The catalogue answers through these, so that a test needs none.
pub(crate) struct Checks<'a> {
    pub(crate) programme: &'a Programme,
    pub(crate) now: TimestampMs,
    pub(crate) has_region: &'a dyn Fn(RegionKind, &str) -> bool,
    pub(crate) centre: &'a dyn Fn(&str) -> Option<CentreIndex>,
    pub(crate) has_session: &'a dyn Fn(&str) -> bool,
}

/// Reads a body of regions. States may stand in the same body as their districts, in any order.
pub(crate) fn regions(body: &[u8], checks: &Checks<'_>) -> Result<Vec<RegionLine>, Faults> {
    let mut faults = Faults::default();
    let mut seen = HashMap::new();
    let mut lines = Vec::new();
    each_line(body, &mut faults, |mut fields, at| {
        let id = fields.take_name("id", at);
        let kind = fields.take_text("kind", at).and_then(|kind| match kind.as_str() {
            "state" => Some(RegionKind::State),
            "district" => Some(RegionKind::District),
            _ => {
                at.push("kind", "must be state or district");
                None
            }
        });
        let name = fields.take_title("name", at);
        let parent = fields.take_optional_text("parent", at);
        fields.finish(at);
        match (kind, &parent) {
            (Some(RegionKind::State), Some(_)) => at.push("parent", "a state has none"),
            (Some(RegionKind::District), None) => at.push("parent", "is missing: the state of the district"),
            _ => {}
        }
        let (Some(id), Some(kind)) = (id, kind) else { return };
        if (checks.has_region)(kind, &id) {
            at.push("id", format!("there is already a {kind} {id}"));
        }
        if let Some(first) = seen.insert((kind, id.clone()), at.line) {
            at.push("id", format!("stands already in line {first}"));
        }
        if let Some(name) = name {
            lines.push((at.line, RegionLine { id, kind, name, parent }));
        }
    });
    for (line, region) in &lines {
        if let Some(parent) = &region.parent
            && region.kind == RegionKind::District
            && !seen.contains_key(&(RegionKind::State, parent.clone()))
            && !(checks.has_region)(RegionKind::State, parent)
        {
            faults.push(*line, "parent", "there is no state of this id, here or in the catalogue");
        }
    }
    all_or_none(lines.into_iter().map(|(_, region)| region).collect(), faults)
}

/// Reads a body of centres.
pub(crate) fn centres(body: &[u8], checks: &Checks<'_>) -> Result<Vec<CentreLine>, Faults> {
    let mut faults = Faults::default();
    let mut seen = HashMap::new();
    let mut lines = Vec::new();
    each_line(body, &mut faults, |mut fields, at| {
        let id = fields.take_name("id", at);
        let name = fields.take_title("name", at);
        let district = fields.take_text("district", at);
        let pincode = fields.take_text("pincode", at);
        let address = fields.take_optional_title("address", at);
        let position = read_position(&mut fields, at);
        let phone = fields.take_optional_phone("phone", at);
        let url = fields.take_optional_url("url", at);
        fields.finish(at);
        if let Some(district) = &district
            && !(checks.has_region)(RegionKind::District, district)
        {
            at.push("district", "there is no district of this id in the catalogue");
        }
        if let Some(pincode) = &pincode
            && !is_pincode(pincode)
        {
            at.push("pincode", "must be 3 to 10 of A-Z 0-9 -");
        }
        let Some(id) = id else { return };
        if (checks.centre)(&id).is_some() {
            at.push("id", format!("there is already a centre {id}"));
        }
        if let Some(first) = seen.insert(id.clone(), at.line) {
            at.push("id", format!("stands already in line {first}"));
        }
        if let (Some(name), Some(district), Some(pincode)) = (name, district, pincode) {
            lines.push(CentreLine { id, name, district, pincode, address, position, phone, url });
        }
    });
    all_or_none(lines, faults)
}

/// Reads a body of sessions.
pub(crate) fn sessions(body: &[u8], checks: &Checks<'_>) -> Result<Vec<SessionLine>, Faults> {
    let mut faults = Faults::default();
    let mut seen = HashMap::new();
    let mut lines = Vec::new();
    let today = checks.programme.calendar().date(checks.now);
    let last_day = today.saturating_add(DAYS_AHEAD_MAX.days());
    each_line(body, &mut faults, |mut fields, at| {
        let id = fields.take_name("id", at);
        let centre = fields.take_text("centre", at).and_then(|centre| {
            let index = (checks.centre)(&centre);
            if index.is_none() {
                at.push("centre", "there is no centre of this id in the catalogue");
            }
            index
        });
        let date = fields.take_date("date", at);
        if let Some(date) = date {
            if date < today {
                at.push("date", format!("is past: today is {today}"));
            } else if date > last_day {
                at.push("date", format!("is too far ahead: sessions can be published up to {last_day}"));
            }
        }
        let product = fields.take_text("product", at).and_then(|product| {
            let number = checks.programme.product_number(&product);
            if number.is_none() {
                at.push("product", "is not a product of the programme");
            }
            number
        });
        let ages = read_ages(&mut fields, at);
        let fee = read_fee(&mut fields, checks.programme, at);
        let windows = fields.take("windows", at);
        fields.finish(at);
        let windows = windows.and_then(|node| read_windows(node, date, checks.programme, at));
        if let Some(windows) = &windows {
            keep_the_door_open(windows, checks.programme, at);
        }
        let Some(id) = id else { return };
        if (checks.has_session)(&id) {
            at.push("id", format!("there is already a session {id}"));
        }
        if let Some(first) = seen.insert(id.clone(), at.line) {
            at.push("id", format!("stands already in line {first}"));
        }
        if let (Some(centre), Some(date), Some(product), Some(windows)) = (centre, date, product, windows) {
            lines.push(SessionLine { line: at.line, id, centre, date, product, ages, fee, windows });
        }
    });
    all_or_none(lines, faults)
}

/// Both or neither of `lat` and `lon`.
fn read_position(fields: &mut Fields, at: &mut LineFaults<'_>) -> Option<Position> {
    let (north, east) = (fields.has("lat"), fields.has("lon"));
    let latitude = fields.take_optional_degrees("lat", 90, at);
    let longitude = fields.take_optional_degrees("lon", 180, at);
    if north != east {
        let (missing, other) = if north { ("lon", "lat") } else { ("lat", "lon") };
        at.push(missing, format!("is missing: there is a {other}"));
    }
    Position::from_degrees(latitude?, longitude?)
}

fn read_ages(fields: &mut Fields, at: &mut LineFaults<'_>) -> Ages {
    let mut age = |key| fields.take_optional_whole(key, AGE_MAX.into(), at).and_then(|age| u8::try_from(age).ok());
    let ages = Ages { min: age("min_age"), max: age("max_age") };
    if let Ages { min: Some(min), max: Some(max) } = ages
        && min > max
    {
        at.push("max_age", format!("must not be below min_age, {min}"));
    }
    ages
}

/// 0 is as good as absent.
fn read_fee(fields: &mut Fields, programme: &Programme, at: &mut LineFaults<'_>) -> Option<NonZeroU64> {
    let fee = fields.take_optional_whole("fee", FEE_MAX, at).and_then(NonZeroU64::new)?;
    if programme.file().currency.is_none() {
        at.push("fee", "the programme names no currency");
    }
    Some(fee)
}

fn read_windows(
    node: Node,
    date: Option<Date>,
    programme: &Programme,
    at: &mut LineFaults<'_>,
) -> Option<Vec<WindowLine>> {
    let Node::List(nodes) = node else {
        at.push("windows", format!("must be an array, is {}", node.kind()));
        return None;
    };
    if nodes.is_empty() || nodes.len() > WINDOWS_MAX {
        at.push("windows", format!("must be 1 to {WINDOWS_MAX} windows, are {}", nodes.len()));
        return None;
    }
    let asked = nodes.len();
    let mut spans = HashSet::new();
    let mut windows = Vec::with_capacity(asked);
    for (i, node) in nodes.into_iter().enumerate() {
        let path = format!("windows[{i}]");
        let Some(mut fields) = Fields::new(path.clone(), node, at) else {
            continue;
        };
        let start = fields.take_time("start", at);
        let end = fields.take_time("end", at);
        let pools = fields.take("pools", at);
        fields.finish(at);
        let pools = pools.and_then(|node| read_pools(&format!("{path}.pools"), node, programme, at));
        let (Some(date), Some(start), Some(end)) = (date, start, end) else {
            continue;
        };
        if !spans.insert((start, end)) {
            at.push(path, "another window of the session has the same start and end");
            continue;
        }
        let mut instant = |time, key: &str| {
            let instant = programme.calendar().instant(date, time);
            if instant.is_none() {
                let zone = &programme.file().time_zone;
                at.push(format!("{path}.{key}"), format!("there is no {time} on {date} in {zone}: clocks go forward"));
            }
            instant
        };
        let (Some(start), Some(end)) = (instant(start, "start"), instant(end, "end")) else {
            continue;
        };
        if end <= start {
            at.push(format!("{path}.end"), "must be after start");
            continue;
        }
        if let Some(pools) = pools {
            windows.push(WindowLine { start, end, pools });
        }
    }
    let slots: usize = windows.iter().map(|w| w.pools.len()).sum();
    if slots > SLOTS_MAX {
        at.push("windows", format!("must make at most {SLOTS_MAX} slots, windows x pools, make {slots}"));
        return None;
    }
    (windows.len() == asked).then_some(windows)
}

/// Enough of a session is for who comes without a booking.
fn keep_the_door_open(windows: &[WindowLine], programme: &Programme, at: &mut LineFaults<'_>) {
    let share = u64::from(programme.file().walk_in_share_percent);
    let units = |only: bool| -> u64 {
        let pools = windows.iter().flat_map(|window| &window.pools);
        let counted = pools.filter(|(pool, _)| !only || programme.is_walk_in_only(*pool));
        counted.map(|(_, units)| u64::from(units.get())).sum()
    };
    let (door, all) = (units(true), units(false));
    if door * 100 < all * share {
        let reason = format!("{door} of {all} units are for the door alone, the programme wants {share} percent");
        at.push("windows", reason);
    }
}

fn read_pools(path: &str, node: Node, programme: &Programme, at: &mut LineFaults<'_>) -> Option<Vec<(PoolId, Units)>> {
    let fields = Fields::new(path.to_owned(), node, at)?;
    let entries = fields.into_entries();
    if entries.is_empty() {
        at.push(path, "must name at least one pool");
        return None;
    }
    let asked = entries.len();
    let mut pools = Vec::with_capacity(asked);
    for (place, pool, node) in entries {
        let number = programme.pool_number(&pool);
        if number.is_none() {
            at.push(place.clone(), "is not a pool of the programme");
        }
        let units = match node {
            Node::Integer(n) if n < 0 => Err(format!("must not be negative, is {n}")),
            Node::Integer(n) => u32::try_from(n)
                .ok()
                .and_then(Units::new)
                .ok_or_else(|| format!("must be at most {}, is {n}", Units::MAX)),
            other => Err(format!("must be a whole number, is {}", other.kind())),
        };
        match units {
            Ok(units) => pools.extend(number.map(|number| (number, units))),
            Err(reason) => at.push(place, reason),
        }
    }
    (pools.len() == asked).then_some(pools)
}

/// Calls `read` with the fields of every line that is a JSON object; notes a fault for every other one.
fn each_line(body: &[u8], faults: &mut Faults, mut read: impl FnMut(Fields, &mut LineFaults<'_>)) {
    // Empty lines are welcome at the end only: inside, one more likely stands for a line that was lost.
    let body = body.trim_ascii_end();
    if body.is_empty() {
        faults.push(1, "", "the body has no lines");
        return;
    }
    for (index, text) in body.split(|&b| b == b'\n').enumerate() {
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let mut at = LineFaults { line, faults };
        if text.trim_ascii().is_empty() {
            at.push("", "is empty");
            continue;
        }
        match serde_json::from_slice::<Node>(text) {
            Ok(node) => {
                if let Some(fields) = Fields::new(String::new(), node, &mut at) {
                    read(fields, &mut at);
                }
            }
            Err(error) => at.push("", json_reason(&error)),
        }
    }
}

/// serde_json counts lines within the one line it was given, which would only confuse.
fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or("not JSON");
    format!("not JSON: {what} in column {}", error.column())
}

fn all_or_none<T>(lines: Vec<T>, faults: Faults) -> Result<Vec<T>, Faults> {
    if faults.is_empty() { Ok(lines) } else { Err(faults) }
}
