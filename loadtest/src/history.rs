//! The history: every operation as its client saw it, one JSON object per line, written while the run goes on.
//!
//! It is the witness the server cannot influence. The format is documented in `docs/history.md`; the auditor needs
//! nothing else from the drive. Times are microseconds since 1970 from one monotonic clock anchored at the start.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use crate::error::{CannotRun, Doing};

/// One line of the history.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "line", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "nearly every line is an operation")]
pub(crate) enum Line {
    Operation(Operation),
    Mark(Mark),
    /// The last line: how many stand before it. A history without it was cut.
    End {
        lines: u64,
    },
}

/// One request and what came back, or that nothing did.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Operation {
    /// Which person of the plan this belongs to.
    pub(crate) arrival: u64,
    pub(crate) op: Op,
    /// The idempotency key; reads have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// 1 for the first sending of this request, more for each repetition.
    pub(crate) attempt: u32,
    /// The claims a hold or booking asked for, or the slot a move asked for (with the booking's party and dose).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) asked: Vec<Claim>,
    /// The hold, booking or key acted on, or the district searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    /// When this should have been sent.
    pub(crate) intended_us: i64,
    pub(crate) sent_us: i64,
    pub(crate) received_us: i64,
    pub(crate) outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// The refusal's code, or what kept the outcome unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// The answer said `Idempotent-Replayed: true`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) replayed: bool,
    /// The hold an ok answer named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hold: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_us: Option<i64>,
    /// The bookings (or claims of a hold) an ok answer named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) told: Vec<Told>,
    /// What the answer's `Retry-After` said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_s: Option<u64>,
    /// What a `full` refusal counted: capacity, held, booked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) counts: Option<[u64; 3]>,
    /// What a search showed, of one search in some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shown: Option<Shown>,
}

/// The counts that a search showed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub(crate) struct Shown {
    /// The instant that the answer said it is of.
    pub(crate) as_of_us: i64,
    /// Slots, with the units that were shown as free; slots with none are left out as the search leaves them out.
    pub(crate) free: Vec<(String, u64)>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What was asked of the server.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    #[default]
    Search,
    Hold,
    Confirm,
    Release,
    Book,
    Cancel,
    Move,
    Read,
    /// `GET /v1/outcomes/{key}`: what became of a request whose answer was lost.
    Outcome,
    /// At the door of a centre.
    CheckIn,
    Complete,
    NoShow,
    WalkIn,
}

impl Op {
    pub(crate) const ALL: [Self; 13] = [
        Self::Search,
        Self::Hold,
        Self::Confirm,
        Self::Release,
        Self::Book,
        Self::Cancel,
        Self::Move,
        Self::Read,
        Self::Outcome,
        Self::CheckIn,
        Self::Complete,
        Self::NoShow,
        Self::WalkIn,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Hold => "hold",
            Self::Confirm => "confirm",
            Self::Release => "release",
            Self::Book => "book",
            Self::Cancel => "cancel",
            Self::Move => "move",
            Self::Read => "read",
            Self::Outcome => "outcome",
            Self::CheckIn => "check_in",
            Self::Complete => "complete",
            Self::NoShow => "no_show",
            Self::WalkIn => "walk_in",
        }
    }

    /// Whether it changes state when it succeeds.
    pub(crate) fn changes(self) -> bool {
        !matches!(self, Self::Search | Self::Read | Self::Outcome)
    }

    /// Whether it makes claims that did not exist before.
    pub(crate) fn claims(self) -> bool {
        matches!(self, Self::Hold | Self::Book | Self::WalkIn)
    }
}

/// What the client knows.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Acknowledged.
    Ok,
    /// A correct no, with a code.
    Refused,
    /// It may have happened or not.
    #[default]
    Unknown,
}

/// A person's claim on a slot.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Claim {
    pub(crate) party: String,
    pub(crate) slot: String,
    pub(crate) dose: u8,
}

/// A claim with the code the server gave it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) booking: String,
    pub(crate) party: String,
    pub(crate) slot: String,
    pub(crate) dose: u8,
    /// The booking's state, where the answer said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
}

/// Something that happened to the run as a whole.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Mark {
    pub(crate) at_us: i64,
    pub(crate) mark: MarkKind,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum MarkKind {
    DriveBegan,
    /// `kill -9`, with what the harness counted as in flight when it struck.
    Killed {
        fault: u32,
        how: String,
        changes_in_flight: u64,
        operations_in_flight: u64,
    },
    /// The server answers again.
    Restarted {
        fault: u32,
    },
    /// What the server stands on is hurt from now on: which fault, and what it is called.
    Hurt {
        fault: u32,
        what: String,
    },
    /// It is whole again; of Redis also how many entries its stream has lost meanwhile.
    Healed {
        fault: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lost_entries: Option<u64>,
    },
    /// The server was asked for a snapshot.
    SnapshotAsked,
    DriveEnded,
}

/// The anchored clock of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall_us: i64,
    started: std::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall_us = jiff::Timestamp::now().as_microsecond();
        Self { wall_us, started: std::time::Instant::now() }
    }

    pub(crate) fn now_us(&self) -> i64 {
        self.at_us(self.started.elapsed())
    }

    /// The time `after` this clock's start.
    pub(crate) fn at_us(&self, after: std::time::Duration) -> i64 {
        self.wall_us + i64::try_from(after.as_micros()).unwrap_or(i64::MAX / 2)
    }

    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.started.elapsed()
    }
}

/// Appends lines from many tasks to one file, on its own thread.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(mpsc::Sender<Option<Line>>);

/// The thread behind a [`Recorder`].
#[derive(Debug)]
pub(crate) struct Recording(JoinHandle<std::io::Result<()>>);

impl Recorder {
    pub(crate) fn create(path: &Path) -> Result<(Self, Recording), CannotRun> {
        let file = File::create(path).doing(|| format!("create the history {}", path.display()))?;
        // Unbounded: a slow disk must not slow the people down, and a run's operations fit in memory by design.
        let (sender, receiver) = mpsc::channel::<Option<Line>>();
        let thread = std::thread::Builder::new()
            .name("history".into())
            .spawn(move || write_lines(file, &receiver))
            .doing(|| "start the history thread".into())?;
        Ok((Self(sender), Recording(thread)))
    }

    pub(crate) fn operation(&self, operation: Operation) {
        let _ = self.0.send(Some(Line::Operation(operation)));
    }

    pub(crate) fn mark(&self, at_us: i64, mark: MarkKind) {
        let _ = self.0.send(Some(Line::Mark(Mark { at_us, mark })));
    }
}

impl Recording {
    /// Ends the history and waits until all its lines are in the file. What is recorded afterwards is dropped.
    pub(crate) fn finish(self, recorder: &Recorder) -> Result<(), CannotRun> {
        let _ = recorder.0.send(None);
        let written = self.0.join().map_err(|_| CannotRun::because("the history thread panicked"))?;
        written.doing(|| "write the history".into())
    }
}

fn write_lines(file: File, lines: &mpsc::Receiver<Option<Line>>) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut written = 0;
    let mut write = |line: &Line| {
        serde_json::to_writer(&mut out, line)?;
        out.write_all(b"\n")
    };
    while let Ok(message) = lines.recv() {
        let Some(line) = message else {
            write(&Line::End { lines: written })?;
            break;
        };
        write(&line)?;
        written += 1;
    }
    out.flush()
}

/// Reads a history file back in the shape it was written in, without its end line. The auditor has its own way
/// ([`crate::audit`]), which holds less and finds what was cut.
#[cfg(test)]
pub(crate) fn read(path: &Path) -> Result<Vec<Line>, CannotRun> {
    let text = std::fs::read_to_string(path).doing(|| format!("read the history {}", path.display()))?;
    let lines = text.lines().map(|line| serde_json::from_str(line).doing(|| format!("read {line}")));
    lines.filter(|line| !matches!(line, Ok(Line::End { .. }))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_history_reads_back_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.ndjson");
        let (recorder, recording) = Recorder::create(&path).unwrap();
        let operation = Operation {
            arrival: 3,
            op: Op::Hold,
            key: Some("k".into()),
            attempt: 2,
            asked: vec![Claim { party: "p1.1".into(), slot: "s1.2".into(), dose: 1 }],
            intended_us: 1,
            sent_us: 2,
            received_us: 3,
            outcome: Outcome::Ok,
            replayed: true,
            ..Operation::default()
        };
        recorder.operation(operation.clone());
        recorder.mark(9, MarkKind::Restarted { fault: 0 });
        recording.finish(&recorder).unwrap();
        let lines = read(&path).unwrap();
        assert_eq!(lines.len(), 2);
        assert!(matches!(&lines[0], Line::Operation(read) if *read == operation));
        assert!(matches!(&lines[1], Line::Mark(Mark { at_us: 9, mark: MarkKind::Restarted { fault: 0 } })));
    }
}
