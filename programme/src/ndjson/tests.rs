//! Bulk bodies, good and bad, against a small catalogue that is made up on the spot.

use berth_engine::{PoolId, ProductId, TimestampMs, Units};
use jiff::civil::{date, time};
use proptest::prelude::*;

use super::{CentreLine, Checks, RegionLine, SessionLine, centres, regions, sessions};
use crate::catalogue::{CentreIndex, RegionKind};
use crate::faults::Faults;
use crate::programme::Programme;

const INDIA: &str = include_str!("../../../programmes/india-2021.toml");
const GOOD: &str = r#"{"id":"s1","centre":"c1","date":"2026-11-24","product":"covishield","windows":[{"start":"09:00","end":"11:00","pools":{"dose1":20,"dose2":10}}]}"#;

/// Runs `read` at noon of 2026-11-23 beside a catalogue of state 27, district 395, centre c1 and session taken.
fn with<T>(zone: &str, read: impl FnOnce(&Checks<'_>) -> T) -> T {
    let programme = Programme::from_toml(&INDIA.replace("Asia/Kolkata", zone)).unwrap();
    let now = programme.calendar().instant(date(2026, 11, 23), time(12, 0, 0, 0)).unwrap();
    read(&Checks {
        programme: &programme,
        now,
        has_region: &|kind, id| matches!((kind, id), (RegionKind::State, "27") | (RegionKind::District, "395")),
        centre: &|id| (id == "c1").then_some(CentreIndex(7)),
        has_session: &|id| id == "taken",
    })
}

fn read_sessions(body: &str) -> Result<Vec<SessionLine>, Faults> {
    with("Asia/Kolkata", |checks| sessions(body.as_bytes(), checks))
}

/// `line field: reason` of every fault.
fn told(faults: &Faults) -> Vec<String> {
    faults.listed().iter().map(|f| format!("{} {}: {}", f.line, f.field, f.reason)).collect()
}

#[track_caller]
fn assert_faults(body: &str, expected: &[&str]) {
    let faults = read_sessions(body).expect_err("the body is wrong");
    assert_eq!(told(&faults), expected);
}

#[test]
fn a_good_line_is_read() {
    let lines = read_sessions(&format!("{GOOD}\r\n\n  \n")).unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].centre, lines[0].product), (CentreIndex(7), ProductId(1)));
    let window = &lines[0].windows[0];
    assert_eq!(window.end.0 - window.start.0, 2 * 3600 * 1000);
    assert_eq!(window.start, TimestampMs(1_795_491_000_000), "2026-11-24T03:30:00Z");
    assert_eq!(window.pools, [(PoolId(1), Units::new(20).unwrap()), (PoolId(2), Units::new(10).unwrap())]);
}

#[test]
fn a_share_of_each_session_is_for_the_door() {
    let door = "[[pools]]\nid = \"door\"\nname = \"Door\"\nwalk_in = \"only\"\n\n[[cohorts]]";
    let text = INDIA.replacen("[[cohorts]]", door, 1).replace("currency = \"INR\"", "walk_in_share_percent = 25");
    let programme = Programme::from_toml(&text).unwrap();
    let now = programme.calendar().instant(date(2026, 11, 23), time(12, 0, 0, 0)).unwrap();
    let read = |door: u32| {
        let checks = Checks {
            programme: &programme,
            now,
            has_region: &|_, _| true,
            centre: &|_| Some(CentreIndex(7)),
            has_session: &|_| false,
        };
        let line = GOOD.replace("\"dose2\":10", &format!("\"dose2\":10,\"door\":{door}"));
        sessions(line.as_bytes(), &checks).map_err(|faults| told(&faults))
    };
    assert!(read(10).is_ok());
    assert_eq!(
        read(9),
        Err(vec!["1 windows: 9 of 39 units are for the door alone, the programme wants 25 percent".into()])
    );
}

#[test]
fn a_broken_line_3_is_named() {
    let body = format!("{GOOD}\n{}\n{{\"id\":\"s3\",", GOOD.replace("s1", "s2"));
    assert_faults(&body, &["3 : not JSON: EOF while parsing a value in column 11"]);
}

#[test]
fn all_faults_of_all_lines_are_named_at_once() {
    let body = [
        &GOOD.replace(":20", ":-1").replace("10}", "1048576}"),
        &GOOD.replace("\"id\":\"s1\"", "\"id\":\"s 1\",\"note\":1").replace("c1", "c9"),
        &GOOD.replace("s1", "taken").replace("covishield", "aspirin"),
        &GOOD.replace("dose1", "dose9").replace("\"end\":\"11:00\"", "\"end\":\"11:00\",\"until\":1"),
        &GOOD.replace("09:00", "9:00").replace("s1", "s5"),
        &GOOD.replace("09:00", "11:00").replace("s1", "s6"),
    ]
    .map(String::as_str)
    .join("\n");
    assert_faults(
        &body,
        &[
            "1 windows[0].pools.dose1: must not be negative, is -1",
            "1 windows[0].pools.dose2: must be at most 1048575, is 1048576",
            "2 id: must be 1 to 64 of A-Z a-z 0-9 . _ -",
            "2 centre: there is no centre of this id in the catalogue",
            "2 note: is not a field of this kind of line",
            "3 product: is not a product of the programme",
            "3 id: there is already a session taken",
            "4 windows[0].until: is not a field of this kind of line",
            "4 windows[0].pools.dose9: is not a pool of the programme",
            "4 id: stands already in line 1",
            "5 windows[0].start: must be a time of day as 09:00",
            "6 windows[0].end: must be after start",
        ],
    );
}

#[test]
fn every_shape_but_the_right_one_is_a_fault() {
    for (from, to, expected) in [
        (GOOD, "[]", "1 : must be an object, is an array"),
        (GOOD, "", "1 : the body has no lines"),
        (GOOD, "\n{}", "1 : is empty"),
        ("\"c1\"", "7", "1 centre: must be a string, is a number"),
        (
            ":20",
            ":2.5",
            "1 windows[0].pools.dose1: must be a whole number, is a number that is not whole or far too large",
        ),
        (":20", ":\"20\"", "1 windows[0].pools.dose1: must be a whole number, is a string"),
        (":20", ":20,\"dose1\":30", "1 windows[0].pools.dose1: stands twice"),
        ("{\"dose1\":20,\"dose2\":10}", "{}", "1 windows[0].pools: must name at least one pool"),
        ("\"id\":\"s1\",", "\"id\":\"s1\",\"id\":\"s2\",", "1 id: stands twice"),
        ("2026-11-24", "2026-11-22", "1 date: is past: today is 2026-11-23"),
        ("2026-11-24", "2027-11-25", "1 date: is too far ahead: sessions can be published up to 2027-11-24"),
        ("2026-11-24", "2026-11-31", "1 date: must be a date as 2026-11-24"),
        ("2026-11-24", "2026-11-24T09:00", "1 date: must be a date as 2026-11-24"),
        ("09:00", "T0900", "1 windows[0].start: must be a time of day as 09:00"),
        ("\"product\":\"covishield\",", "", "1 product: is missing"),
    ] {
        let faults = read_sessions(&GOOD.replacen(from, to, 1)).expect_err(expected);
        assert_eq!(told(&faults)[0], expected);
    }
    let twice = r#"{"start":"09:00","end":"11:00","pools":{"dose1":20,"dose2":10}}"#;
    assert_faults(
        &GOOD.replace(twice, &format!("{twice},{twice}")),
        &["1 windows[1]: another window of the session has the same start and end"],
    );
}

#[test]
fn a_time_that_the_clocks_skip_is_a_fault_with_its_place() {
    let gap = GOOD.replace("2026-11-24", "2027-03-28").replace("09:00", "02:30");
    let faults = with("Europe/Berlin", |checks| sessions(gap.as_bytes(), checks)).unwrap_err();
    assert_eq!(
        told(&faults),
        ["1 windows[0].start: there is no 02:30:00 on 2027-03-28 in Europe/Berlin: clocks go forward"]
    );
    assert!(with("Asia/Kolkata", |checks| sessions(gap.as_bytes(), checks)).is_ok(), "India has no such gap");
}

#[test]
fn sessions_of_more_slots_than_a_search_should_look_through_are_a_fault() {
    let windows: Vec<_> = (0..97)
        .map(|i| format!(r#"{{"start":"{:02}:{:02}","end":"23:59","pools":{{"dose1":1}}}}"#, i / 60, i % 60))
        .collect();
    let body = GOOD.replace(r#"{"start":"09:00","end":"11:00","pools":{"dose1":20,"dose2":10}}"#, &windows.join(","));
    assert_faults(&body, &["1 windows: must be 1 to 96 windows, are 97"]);
}

#[test]
fn an_object_of_very_many_fields_is_refused_before_it_costs_anything() {
    let fields: Vec<_> = (0..300).map(|i| format!("\"f{i}\":1")).collect();
    assert_faults(&format!("{{{}}}", fields.join(",")), &["1 : has 300 fields, more than 256"]);
}

#[test]
fn a_district_may_stand_before_its_state() {
    let body = concat!(
        r#"{"id":"1","kind":"district","name":"Nicobar","parent":"1"}"#,
        "\n",
        r#"{"id":"1","kind":"state","name":"Andaman and Nicobar Islands"}"#,
    );
    let lines = with("Asia/Kolkata", |checks| regions(body.as_bytes(), checks)).unwrap();
    assert_eq!(
        lines.iter().map(|l: &RegionLine| l.kind).collect::<Vec<_>>(),
        [RegionKind::District, RegionKind::State]
    );
}

#[test]
fn regions_that_do_not_fit_are_named() {
    let body = [
        r#"{"id":"27","kind":"state","name":"Maharashtra"}"#,
        r#"{"id":"396","kind":"district","name":"Thane","parent":"99"}"#,
        r#"{"id":"397","kind":"district","name":"Pune"}"#,
        r#"{"id":"28","kind":"state","name":"Goa","parent":"27"}"#,
        r#"{"id":"29","kind":"country","name":" "}"#,
    ]
    .join("\n");
    let faults = with("Asia/Kolkata", |checks| regions(body.as_bytes(), checks)).unwrap_err();
    assert_eq!(
        told(&faults),
        [
            "1 id: there is already a state 27",
            "2 parent: there is no state of this id, here or in the catalogue",
            "3 parent: is missing: the state of the district",
            "4 parent: a state has none",
            "5 kind: must be state or district",
            "5 name: must be 1 to 200 characters, none of them a control character",
        ]
    );
}

#[test]
fn centres_are_read_and_refused() {
    let body = r#"{"id":"c2","name":"PHC","district":"395","pincode":"400001"}"#;
    let lines = with("Asia/Kolkata", |checks| centres(body.as_bytes(), checks)).unwrap();
    let CentreLine { id, pincode, address, .. } = &lines[0];
    assert_eq!((id.as_str(), pincode.as_str(), address), ("c2", "400001", &None));
    let bad = r#"{"id":"c1","name":"PHC","district":"27","pincode":"4 0"}"#;
    let faults = with("Asia/Kolkata", |checks| centres(bad.as_bytes(), checks)).unwrap_err();
    assert_eq!(
        told(&faults),
        [
            "1 district: there is no district of this id in the catalogue",
            "1 pincode: must be 3 to 10 of A-Z 0-9 -",
            "1 id: there is already a centre c1",
        ]
    );
}

proptest! {
    #[test]
    fn reading_never_panics_on_any_bytes(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        with("Asia/Kolkata", |checks| {
            let _ = (regions(&body, checks), centres(&body, checks), sessions(&body, checks));
        });
    }

    /// Near-misses reach further than noise: a good line with one byte changed, dropped or doubled.
    #[test]
    fn reading_never_panics_on_a_damaged_line(at in 0..GOOD.len(), byte: u8, how in 0..3) {
        let mut body = GOOD.as_bytes().to_vec();
        match how {
            0 => body[at] = byte,
            1 => drop(body.remove(at)),
            _ => body.insert(at, byte),
        }
        let _ = with("Asia/Kolkata", |checks| sessions(&body, checks));
    }
}
