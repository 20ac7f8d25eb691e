//! The demo's made-up inventory: three states, twenty districts, a hundred centres, sessions by the day.
//!
//! Names and numbers of states and districts are India's; centres, pincodes and capacities are invented, the same
//! in every run.

use jiff::ToSpan;
use jiff::civil::{Date, Weekday};
use serde_json::{Value, json};

/// A state: id, name, districts (id, name, first three digits of its pincodes).
type State = (&'static str, &'static str, &'static [(&'static str, &'static str, u32)]);

const STATES: [State; 3] = [
    (
        "9",
        "Delhi",
        &[
            ("141", "Central Delhi", 110),
            ("145", "East Delhi", 111),
            ("140", "New Delhi", 112),
            ("146", "North Delhi", 113),
            ("149", "South Delhi", 114),
            ("142", "West Delhi", 115),
        ],
    ),
    (
        "16",
        "Karnataka",
        &[
            ("276", "Bangalore Rural", 562),
            ("265", "Bangalore Urban", 560),
            ("264", "Belgaum", 590),
            ("269", "Dakshina Kannada", 575),
            ("267", "Gulbarga", 585),
            ("266", "Mysore", 570),
        ],
    ),
    (
        "21",
        "Maharashtra",
        &[
            ("391", "Ahmednagar", 414),
            ("397", "Aurangabad", 431),
            ("371", "Kolhapur", 416),
            ("395", "Mumbai", 400),
            ("365", "Nagpur", 440),
            ("389", "Nashik", 422),
            ("363", "Pune", 411),
            ("392", "Thane", 421),
        ],
    ),
];

const KINDS: [&str; 5] =
    ["District Hospital", "Urban Health Centre", "Community Health Centre", "Medical College", "Government School"];

const WINDOWS: [(&str, &str); 3] = [("09:00", "11:00"), ("11:00", "13:00"), ("14:00", "17:00")];

/// The district shown in the first lines the demo prints.
pub(super) const FAVOURITE_DISTRICT: &str = "395";

/// India's health line: whom to ring up where a centre has no phone of its own.
pub(super) const HELPLINE: &str = "1075";

/// Every state and district, one per line.
pub(super) fn regions() -> String {
    let mut lines = Vec::new();
    for (id, name, districts) in STATES {
        lines.push(json!({"id": id, "kind": "state", "name": name}));
        for (district, name, _) in districts {
            lines.push(json!({"id": district, "kind": "district", "name": name, "parent": id}));
        }
    }
    ndjson(&lines)
}

/// Every centre, one per line.
pub(super) fn centres() -> String {
    let mut lines = Vec::new();
    for (district, name, pincode) in districts() {
        for (number, kind) in (1u32..).zip(KINDS) {
            let pincode = (pincode * 1000 + number).to_string();
            lines.push(json!({
                "id": centre_id(district, number),
                "name": format!("{kind}, {name}"),
                "district": district,
                "pincode": pincode,
                "address": format!("{number} Station Road, {name} {pincode}"),
            }));
        }
    }
    ndjson(&lines)
}

/// The sessions of `days` from `first` on, for centres and dates that `exists` does not know yet.
pub(super) fn sessions(first: Date, days: i32, exists: impl Fn(&str, Date) -> bool) -> String {
    let mut lines = Vec::new();
    for (district, _, pincode) in districts() {
        for number in (1u32..).take(KINDS.len()) {
            let centre = centre_id(district, number);
            for date in (0..days).filter_map(|day| first.checked_add(day.days()).ok()) {
                // Schools vaccinate on Sundays only, everybody else on the other days.
                let open = (date.weekday() == Weekday::Sunday) == (number == 5);
                if open && !exists(&centre, date) {
                    lines.push(session(&centre, date, pincode + number));
                }
            }
        }
    }
    ndjson(&lines)
}

fn session(centre: &str, date: Date, variety: u32) -> Value {
    let windows = WINDOWS.iter().zip(0u32..).map(|((start, end), window)| {
        let dose1 = 4 + (variety + window * 7) % 37;
        json!({"start": start, "end": end, "pools": {"dose1": dose1, "dose2": dose1 / 2 + 1}})
    });
    json!({
        "id": format!("{centre}-{date}"),
        "centre": centre,
        "date": date.to_string(),
        "product": if variety.is_multiple_of(4) { "covaxin" } else { "covishield" },
        "windows": windows.collect::<Vec<_>>(),
    })
}

fn districts() -> impl Iterator<Item = (&'static str, &'static str, u32)> {
    STATES.iter().flat_map(|(_, _, districts)| districts.iter().copied())
}

/// The ids of every centre.
pub(super) fn centre_ids() -> impl Iterator<Item = String> {
    districts().flat_map(|(district, _, _)| (1u32..).take(KINDS.len()).map(move |number| centre_id(district, number)))
}

fn centre_id(district: &str, number: u32) -> String {
    format!("c{district}-{number:02}")
}

fn ndjson(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}
