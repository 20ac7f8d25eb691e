//! The witnesses, read from a run's directory.
//!
//! What grows with the run is held packed ([`super::record`]) or not held at all ([`super::entries`]).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::entries::Entries;
use super::lines::read_lines;
use super::overload::OverloadFacts;
use super::record::{Claim, Line, Operation};
use crate::error::{CannotRun, Doing};
use crate::ground::Witness;
use crate::history::{Mark, MarkKind};
use crate::inventory::Published;
use crate::name::{Map, Name, Word};
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
    /// Of the running server, a moment earlier; none where it says the same, which at rest it should.
    pub(crate) live_export: Option<Export>,
    pub(crate) entries: Entries,
    pub(crate) verify: Verify,
    /// What the run published, where that is known.
    pub(crate) published: Option<Published>,
    /// When the exports were begun, if every hold had been given the time to run out before.
    pub(crate) settled_us: Option<i64>,
    /// With what `berth verify` ended, where that is known.
    pub(crate) verify_exit: Option<i32>,
    /// How old the counts of a search may be.
    pub(crate) search_staleness_us: i64,
    /// Redis's copy of the journal, of a run that had one.
    pub(crate) redis: Option<Witness>,
    /// What was noted of an overload, of a run that had one.
    pub(crate) overload: OverloadFacts,
}

/// An export: every slot, and every hold and booking ever made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Export {
    pub(crate) slots: BTreeMap<Name, SlotLine>,
    pub(crate) bookings: Map<Name, BookingLine>,
    /// Booking codes that stood on more than one line.
    pub(crate) repeated: Vec<Name>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct SlotLine {
    pub(crate) slot: Name,
    #[serde(default)]
    pub(crate) session: String,
    #[serde(default)]
    pub(crate) pool: String,
    pub(crate) capacity: u64,
    pub(crate) held: u64,
    pub(crate) booked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BookingLine {
    pub(crate) party: Name,
    pub(crate) slot: Name,
    expires_us: i64,
    pub(crate) state: Word,
    pub(crate) dose: u8,
}

impl BookingLine {
    pub(crate) fn new(claim: Claim, state: &str, expires_us: Option<i64>) -> Self {
        let Claim { party, slot, dose } = claim;
        Self { party, slot, expires_us: expires_us.unwrap_or(0), state: Word::new(state), dose }
    }

    pub(crate) fn claim(&self) -> Claim {
        Claim { party: self.party, slot: self.slot, dose: self.dose }
    }

    pub(crate) fn expires_us(&self) -> Option<i64> {
        (self.expires_us != 0).then_some(self.expires_us)
    }

    /// Whether it is a claim that keeps others out.
    pub(crate) fn is_live(&self) -> bool {
        matches!(&*self.state, "held" | "booked" | "checked_in" | "completed")
    }
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
        // The exports first: where both say the same, only one is kept.
        let export = Export::read(&files.export)?;
        let live_export = Some(Export::read(&files.live_export)?).filter(|live| *live != export);
        let (operations, marks) = read_history(&files.history)?;
        let verify = std::fs::read_to_string(&files.verify).doing(|| format!("read {}", files.verify.display()))?;
        Ok(Self {
            operations,
            marks,
            export,
            live_export,
            entries: Entries::File(files.entries.clone()),
            redis: Witness::read(&files.redis)?,
            verify: serde_json::from_str(&verify).doing(|| format!("read {}", files.verify.display()))?,
            ..Self::default()
        })
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

    /// Whether anything was done to the server or to what it stands on.
    pub(crate) fn was_hurt(&self) -> bool {
        self.marks.iter().any(|mark| matches!(mark.mark, MarkKind::Killed { .. } | MarkKind::Hurt { .. }))
    }
}

/// A history that was cut proves nothing of what is missing, so it is an error.
fn read_history(path: &Path) -> Result<(Vec<Operation>, Vec<Mark>), CannotRun> {
    let (mut operations, mut marks, mut ended, mut count) = (Vec::new(), Vec::new(), None, 0_u64);
    let parse = |line: &str| Line::parse(line).map_err(|error| error.to_string());
    read_lines(path, parse, |line| {
        if ended.is_some() {
            return Err("it goes on after its end line".to_owned());
        }
        count += 1;
        match line {
            Line::Operation(operation) => operations.push(operation),
            Line::Mark(mark) => marks.push(mark),
            Line::End { lines } => ended = Some(lines),
        }
        Ok(())
    })?;
    let lines = count.saturating_sub(1);
    match ended {
        None => Err(CannotRun::because(format!("{} has no end line: the history was cut", path.display()))),
        Some(said) if said != lines => {
            Err(CannotRun::because(format!("{} has {lines} lines, and its end line counts {said}", path.display())))
        }
        Some(_) => Ok((operations, marks)),
    }
}

/// Every operation of a history, one after the other; none is kept.
pub(crate) fn for_each_operation(path: &Path, mut each: impl FnMut(Operation)) -> Result<(), CannotRun> {
    let parse = |line: &str| Line::parse(line).map_err(|error| error.to_string());
    read_lines(path, parse, |line| {
        if let Line::Operation(operation) = line {
            each(operation);
        }
        Ok(())
    })
}

/// One line of an export.
enum ExportLine {
    Slot(SlotLine),
    Booking(Name, BookingLine),
    End { slots: Option<u64>, bookings: Option<u64> },
}

impl ExportLine {
    fn parse(line: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Booking<'a> {
            booking: Name,
            state: Word,
            party: Name,
            slot: Name,
            dose: u8,
            #[serde(borrow, default)]
            expires_at: Option<Cow<'a, str>>,
        }
        let said = |error: serde_json::Error| error.to_string();
        // Nearly all lines, read without a detour.
        if line.starts_with(r#"{"kind":"booking","#) {
            let read: Booking<'_> = serde_json::from_str(line).map_err(said)?;
            let claim = Claim { party: read.party, slot: read.slot, dose: read.dose };
            let expires_us = read.expires_at.as_deref().and_then(timestamp_us);
            return Ok(Self::Booking(read.booking, BookingLine::new(claim, &read.state, expires_us)));
        }
        let value: Value = serde_json::from_str(line).map_err(said)?;
        match value["kind"].as_str() {
            Some("slot") => serde_json::from_str(line).map(Self::Slot).map_err(said),
            Some("booking") => Self::parse(&reordered(&value)),
            Some("end") => Ok(Self::End { slots: value["slots"].as_u64(), bookings: value["bookings"].as_u64() }),
            other => Err(format!("an export has no kind {other:?}")),
        }
    }
}

/// The same line with its kind in the first place.
fn reordered(value: &Value) -> String {
    let mut line = r#"{"kind":"booking""#.to_owned();
    for (field, value) in value.as_object().into_iter().flatten().filter(|(field, _)| *field != "kind") {
        line.push_str(&format!(",{}:{value}", Value::from(field.as_str())));
    }
    line + "}"
}

impl Export {
    fn read(path: &Path) -> Result<Self, CannotRun> {
        let mut export = Self::default();
        let mut ended = None;
        read_lines(path, ExportLine::parse, |line| {
            match line {
                ExportLine::Slot(slot) => drop(export.slots.insert(slot.slot, slot)),
                ExportLine::Booking(code, booking) => export.add(code, booking),
                ExportLine::End { slots, bookings } => ended = Some((slots, bookings)),
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

    pub(crate) fn add(&mut self, code: Name, booking: BookingLine) {
        if self.bookings.insert(code, booking).is_some() {
            self.repeated.push(code);
        }
    }

    /// The codes in order, so that a judgement of the same evidence reads the same each time.
    pub(crate) fn codes(&self) -> Vec<Name> {
        let mut codes: Vec<Name> = self.bookings.keys().copied().collect();
        codes.sort_unstable();
        codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{MarkKind, Recorder};

    #[test]
    fn a_cut_history_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.ndjson");
        let (recorder, recording) = Recorder::create(&path).unwrap();
        recorder.mark(1, MarkKind::DriveBegan);
        recorder.mark(2, MarkKind::DriveEnded);
        recording.finish(&recorder).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        let said = |kept: &[&str]| {
            std::fs::write(&path, kept.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
            read_history(&path).map_err(|error| error.to_string())
        };
        assert_eq!(said(&lines).unwrap().1.len(), 2);
        assert!(said(&lines[..2]).unwrap_err().contains("no end line"));
        assert!(said(&lines[1..]).unwrap_err().contains("has 1 lines, and its end line counts 2"));
        assert!(said(&[lines[0], lines[1], lines[2], lines[0]]).unwrap_err().contains("goes on after"));
    }

    #[test]
    fn a_cut_export_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("export");
        let slot = r#"{"kind":"slot","slot":"s1.1","session":"x","pool":"dose1","capacity":3,"held":0,"booked":0}"#;
        std::fs::write(&path, format!("{slot}\n")).unwrap();
        assert!(Export::read(&path).unwrap_err().to_string().contains("no end line"));
        std::fs::write(&path, format!("{slot}\n{}\n", r#"{"kind":"end","slots":1,"bookings":0,"seq":1}"#)).unwrap();
        assert_eq!(Export::read(&path).unwrap().slots[&Name::new("s1.1")].capacity, 3);
        std::fs::write(&path, format!("{slot}\n{}\n", r#"{"kind":"end","slots":2,"bookings":0,"seq":1}"#)).unwrap();
        assert!(Export::read(&path).is_err());
    }

    #[test]
    fn a_booking_is_read_whatever_the_order_of_its_fields() {
        let first = r#"{"kind":"booking","booking":"B","hold":"B","state":"held","party":"p1.1","slot":"s1.2","dose":1,"expires_at":"2026-11-23T10:00:00Z"}"#;
        let last = r#"{"booking":"B","state":"held","party":"p1.1","slot":"s1.2","dose":1,"expires_at":"2026-11-23T10:00:00Z","kind":"booking"}"#;
        for line in [first, last] {
            let Ok(ExportLine::Booking(code, read)) = ExportLine::parse(line) else { panic!("a booking: {line}") };
            assert_eq!((code, &*read.state, read.dose), (Name::new("B"), "held", 1));
            assert!(read.expires_us().is_some());
        }
    }
}
