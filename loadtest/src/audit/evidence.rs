//! The witnesses, read from a run's directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::overload::OverloadFacts;
use crate::error::{CannotRun, Doing};
use crate::ground::Witness;
use crate::history::{self, Claim, Line, Mark, MarkKind, Operation};
use crate::inventory::Published;
use crate::wire::timestamp_us;

/// Where a run keeps what it is judged by.
#[derive(Clone, Debug)]
pub(crate) struct EvidenceFiles {
    pub(crate) history: PathBuf,
    /// `GET /v1/export`, from the running server.
    pub(crate) live_export: PathBuf,
    /// `berth export --data-dir`, after it left.
    pub(crate) export: PathBuf,
    /// `berth export --data-dir --entries`.
    pub(crate) entries: PathBuf,
    /// `berth verify --data-dir`.
    pub(crate) verify: PathBuf,
    /// What Redis held at the end beside what the log held; only of a run with Redis.
    pub(crate) redis: PathBuf,
}

impl EvidenceFiles {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self {
            history: directory.join("history.ndjson"),
            live_export: directory.join("live-export.ndjson"),
            export: directory.join("export.ndjson"),
            entries: directory.join("entries.ndjson"),
            verify: directory.join("verify.json"),
            redis: directory.join("redis.ndjson"),
        }
    }
}

/// All that a run is judged by.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) operations: Vec<Operation>,
    pub(crate) marks: Vec<Mark>,
    /// Of the data directory, which no server owned any more: the authority.
    pub(crate) export: Export,
    /// Of the running server, a moment earlier.
    pub(crate) live_export: Export,
    pub(crate) entries: Vec<Entry>,
    pub(crate) verify: Verify,
    /// What the run published, where that is known.
    pub(crate) published: Option<Published>,
    /// When the exports were begun, if every hold had been given the time to run out before.
    pub(crate) settled_us: Option<i64>,
    /// With what `berth verify` ended, where that is known.
    pub(crate) verify_exit: Option<i32>,
    /// Redis's copy of the journal, of a run that had one.
    pub(crate) redis: Option<Witness>,
    /// What was noted of an overload, of a run that had one.
    pub(crate) overload: OverloadFacts,
}

/// An export: every slot, and every hold and booking ever made.
#[derive(Debug, Default)]
pub(crate) struct Export {
    pub(crate) slots: BTreeMap<String, SlotLine>,
    pub(crate) bookings: BTreeMap<String, BookingLine>,
    /// Booking codes that stood on more than one line.
    pub(crate) repeated: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SlotLine {
    pub(crate) slot: String,
    #[serde(default)]
    pub(crate) session: String,
    #[serde(default)]
    pub(crate) pool: String,
    pub(crate) capacity: u64,
    pub(crate) held: u64,
    pub(crate) booked: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BookingLine {
    pub(crate) booking: String,
    pub(crate) state: String,
    pub(crate) party: String,
    pub(crate) slot: String,
    pub(crate) dose: u8,
    #[serde(default)]
    expires_at: Option<String>,
}

impl BookingLine {
    pub(crate) fn claim(&self) -> Claim {
        Claim { party: self.party.clone(), slot: self.slot.clone(), dose: self.dose }
    }

    pub(crate) fn expires_us(&self) -> Option<i64> {
        timestamp_us(self.expires_at.as_deref()?)
    }
}

/// One line of the journal, as far as the auditor reads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) at_us: Option<i64>,
    pub(crate) kind: String,
    /// New claims with their codes: of a hold, a booking, or a move's new place.
    pub(crate) claims: Vec<EntryClaim>,
    /// Codes that this entry changes: a hold's, or a booking's.
    pub(crate) changes: Vec<String>,
    pub(crate) expires_us: Option<i64>,
    /// Of a grace: deadlines from the first and before the second are put off to the second.
    pub(crate) grace_us: Option<(i64, i64)>,
    /// Slots and the capacity that this entry gives them, where it says so.
    pub(crate) capacities: Vec<(String, u64)>,
    /// The engine's hash of the idempotency key it was written for.
    pub(crate) key: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EntryClaim {
    pub(crate) booking: String,
    pub(crate) party: String,
    pub(crate) slot: String,
    pub(crate) dose: u8,
}

/// What `berth verify` printed.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Verify {
    pub(crate) verdict: String,
    #[serde(default)]
    pub(crate) entries: u64,
    #[serde(default)]
    pub(crate) findings: Vec<Value>,
}

impl Evidence {
    pub(crate) fn read(files: &EvidenceFiles) -> Result<Self, CannotRun> {
        let mut evidence = Self {
            export: Export::read(&files.export)?,
            live_export: Export::read(&files.live_export)?,
            redis: Witness::read(&files.redis)?,
            ..Self::default()
        };
        for line in history::read(&files.history)? {
            match line {
                Line::Operation(operation) => evidence.operations.push(operation),
                Line::Mark(mark) => evidence.marks.push(mark),
                Line::End { .. } => {}
            }
        }
        for_each_line(&files.entries, |line| {
            evidence.entries.push(Entry::parse(line)?);
            Ok(())
        })?;
        let verify = std::fs::read_to_string(&files.verify).doing(|| format!("read {}", files.verify.display()))?;
        evidence.verify = serde_json::from_str(&verify).doing(|| format!("read {}", files.verify.display()))?;
        Ok(evidence)
    }

    /// Whether the process that `lost` was sent to was gone for certain when `later` was sent: a new process was up by
    /// then, and `lost` had left before the kill that ended the old one, or had lost its connection before the new one.
    pub(crate) fn died_between(&self, lost: &Operation, later: &Operation) -> bool {
        let mut killed_us = None;
        for mark in &self.marks {
            match mark.mark {
                MarkKind::Killed { .. } => killed_us = Some(mark.at_us),
                MarkKind::Restarted { .. }
                    if mark.at_us <= later.sent_us
                        && (lost.received_us <= mark.at_us
                            || killed_us.is_some_and(|killed_us| lost.sent_us <= killed_us)) =>
                {
                    return true;
                }
                _ => {}
            }
        }
        false
    }

    /// When the history begins; stories count from here.
    pub(crate) fn began_us(&self) -> i64 {
        self.operations.iter().map(|operation| operation.sent_us).min().unwrap_or(0)
    }
}

impl Export {
    fn read(path: &Path) -> Result<Self, CannotRun> {
        let mut export = Self::default();
        let mut ended = None;
        for_each_line(path, |line| {
            let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            match value["kind"].as_str() {
                Some("slot") => {
                    let slot: SlotLine = serde_json::from_value(value).map_err(|error| error.to_string())?;
                    export.slots.insert(slot.slot.clone(), slot);
                }
                Some("booking") => {
                    let booking: BookingLine = serde_json::from_value(value).map_err(|error| error.to_string())?;
                    export.add(booking);
                }
                Some("end") => ended = Some((value["slots"].as_u64(), value["bookings"].as_u64())),
                other => return Err(format!("an export has no kind {other:?}")),
            }
            Ok(())
        })?;
        let counted = |count: usize| u64::try_from(count).ok();
        let bookings = export.bookings.len() + export.repeated.len();
        match ended {
            None => Err(CannotRun::because(format!("{} has no end line: the export was cut", path.display()))),
            Some((slots, ends)) if slots != counted(export.slots.len()) || ends != counted(bookings) => {
                Err(CannotRun::because(format!("{} has other counts in its end line than lines", path.display())))
            }
            Some(_) => Ok(export),
        }
    }

    pub(crate) fn add(&mut self, booking: BookingLine) {
        let code = booking.booking.clone();
        if self.bookings.insert(code.clone(), booking).is_some() {
            self.repeated.push(code);
        }
    }
}

impl Entry {
    /// Reads one entry. Codes may stand alone (`booking`, `hold`, `from`, `moved_from`), in a list (`bookings`), or in
    /// claims.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let kind = value["kind"].as_str().ok_or("an entry without kind")?.to_owned();
        let mut entry = Self {
            seq: value["seq"].as_u64().ok_or("an entry without seq")?,
            at_us: value["at"].as_str().and_then(timestamp_us),
            expires_us: value["expires_at"].as_str().and_then(timestamp_us),
            key: value["key"].as_str().map(str::to_owned),
            kind,
            ..Self::default()
        };
        let claims = |value: &Value| serde_json::from_value::<Vec<EntryClaim>>(value.clone()).unwrap_or_default();
        match entry.kind.as_str() {
            "held" | "booked" | "walked_in" => entry.claims = claims(&value["claims"]),
            "moved" | "reassigned" => {
                entry.claims = match &value["to"] {
                    to @ Value::Object(_) => serde_json::from_value(to.clone()).into_iter().collect(),
                    _ => claims(&value["claims"]),
                };
                entry.changes = ["from", "moved_from", "booking"]
                    .iter()
                    .filter_map(|field| value[*field].as_str())
                    .take(1)
                    .map(str::to_owned)
                    .collect();
            }
            "published" => {
                let slots = value["slots"].as_array().map(Vec::as_slice).unwrap_or_default();
                entry.capacities = slots.iter().filter_map(capacity_of).collect();
            }
            "holds_graced" => {
                let time = |field: &str| value[field].as_str().and_then(timestamp_us);
                entry.grace_us = time("from").zip(time("until"));
            }
            "slot_changed" => entry.capacities = capacity_of(&value).into_iter().collect(),
            _ => entry.changes = codes_of(&value),
        }
        let needs = matches!(entry.kind.as_str(), "held" | "booked" | "walked_in" | "moved" | "reassigned");
        if needs && entry.claims.is_empty() {
            return Err(format!("entry {} is {} and names no claims", entry.seq, entry.kind));
        }
        Ok(entry)
    }
}

fn capacity_of(value: &Value) -> Option<(String, u64)> {
    Some((value["slot"].as_str()?.to_owned(), value["capacity"].as_u64()?))
}

fn codes_of(value: &Value) -> Vec<String> {
    let code = |value: &Value| value.as_str().or_else(|| value["booking"].as_str()).map(str::to_owned);
    for list in ["claims", "bookings"] {
        if let Some(list) = value[list].as_array() {
            return list.iter().filter_map(code).collect();
        }
    }
    ["booking", "hold"].iter().find_map(|field| value[*field].as_str()).map(str::to_owned).into_iter().collect()
}

fn for_each_line(path: &Path, mut each: impl FnMut(&str) -> Result<(), String>) -> Result<(), CannotRun> {
    let file = File::open(path).doing(|| format!("open {}", path.display()))?;
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.doing(|| format!("read {}", path.display()))?;
        if !line.trim().is_empty() {
            each(&line).doing(|| format!("read line {} of {}", index + 1, path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_in_every_shape() {
        let held = Entry::parse(
            r#"{"seq":7,"at":"2026-11-23T10:00:00Z","kind":"held","claims":[{"booking":"B","party":"p1.1","slot":"s1.2","dose":1}],"expires_at":"2026-11-23T10:00:08Z"}"#,
        )
        .unwrap();
        assert_eq!((held.seq, held.claims.len(), held.expires_us.unwrap() - held.at_us.unwrap()), (7, 1, 8_000_000));
        let confirmed = Entry::parse(r#"{"seq":8,"kind":"confirmed","hold":"B"}"#).unwrap();
        assert_eq!(confirmed.changes, ["B"]);
        let graced = Entry::parse(
            r#"{"seq":8,"kind":"holds_graced","from":"2026-11-23T10:00:01Z","until":"2026-11-23T10:00:03Z"}"#,
        );
        assert_eq!(graced.unwrap().grace_us.map(|(from, until)| until - from), Some(2_000_000));
        let listed = Entry::parse(r#"{"seq":8,"kind":"expired","claims":[{"booking":"B"},{"booking":"C"}]}"#).unwrap();
        assert_eq!(listed.changes, ["B", "C"]);
        let moved = Entry::parse(
            r#"{"seq":9,"kind":"moved","from":"B","to":{"booking":"C","party":"p1.1","slot":"s1.3","dose":1}}"#,
        )
        .unwrap();
        assert_eq!((moved.changes[0].as_str(), moved.claims[0].booking.as_str()), ("B", "C"));
        assert!(Entry::parse(r#"{"seq":9,"kind":"held"}"#).is_err());
        let published =
            Entry::parse(r#"{"seq":3,"kind":"published","slots":[{"capacity":12,"slot":"s1.0"}]}"#).unwrap();
        assert_eq!(published.capacities, [("s1.0".to_owned(), 12)]);
    }

    #[test]
    fn a_cut_export_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("export");
        let slot = r#"{"kind":"slot","slot":"s1.1","session":"x","pool":"dose1","capacity":3,"held":0,"booked":0}"#;
        std::fs::write(&path, format!("{slot}\n")).unwrap();
        assert!(Export::read(&path).unwrap_err().to_string().contains("no end line"));
        std::fs::write(&path, format!("{slot}\n{}\n", r#"{"kind":"end","slots":1,"bookings":0,"seq":1}"#)).unwrap();
        assert_eq!(Export::read(&path).unwrap().slots["s1.1"].capacity, 3);
        std::fs::write(&path, format!("{slot}\n{}\n", r#"{"kind":"end","slots":2,"bookings":0,"seq":1}"#)).unwrap();
        assert!(Export::read(&path).is_err());
    }
}
