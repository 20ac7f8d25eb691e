//! One operation of the history as the auditor holds it: about a hundred bytes instead of some hundreds, its names packed.
//!
//! Read straight from a line of the history ([`crate::history`] writes it and docs/history.md describes it).

use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::history::{self, Op, Outcome};
use crate::name::{Name, Word};

/// A person's claim on a slot.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Claim {
    pub(crate) party: Name,
    pub(crate) slot: Name,
    pub(crate) dose: u8,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} for dose {}", self.party, self.slot, self.dose)
    }
}

/// A claim with the code the server gave it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) booking: Name,
    pub(crate) party: Name,
    pub(crate) slot: Name,
    pub(crate) dose: u8,
    #[serde(default)]
    pub(crate) state: Option<Word>,
}

impl Told {
    pub(crate) fn claim(&self) -> Claim {
        Claim { party: self.party, slot: self.slot, dose: self.dose }
    }
}

/// One request and what came back: [`history::Operation`], packed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operation {
    pub(crate) intended_us: i64,
    pub(crate) sent_us: i64,
    pub(crate) received_us: i64,
    pub(crate) key: Option<Name>,
    pub(crate) target: Option<Name>,
    pub(crate) hold: Option<Name>,
    pub(crate) asked: Box<[Claim]>,
    pub(crate) told: Box<[Told]>,
    /// What few operations have.
    pub(super) rare: Option<Box<Rare>>,
    pub(super) expires_us: i64,
    pub(crate) attempt: u32,
    pub(crate) code: Option<Word>,
    pub(crate) status: Option<u16>,
    pub(crate) op: Op,
    pub(crate) outcome: Outcome,
    pub(crate) replayed: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Rare {
    retry_after_s: Option<u64>,
    counts: Option<[u64; 3]>,
    shown: Option<Shown>,
}

/// What a search showed, of those that were written down.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) as_of_us: i64,
    /// Slots and the free units they were shown with.
    pub(crate) free: Box<[(Name, u64)]>,
}

/// A hundred bytes, so that ten million are a gigabyte.
const _: () = assert!(std::mem::size_of::<Operation>() <= 112);

impl Operation {
    pub(crate) fn expires_us(&self) -> Option<i64> {
        (self.expires_us != 0).then_some(self.expires_us)
    }

    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        self.rare.as_ref()?.retry_after_s
    }

    /// What a `full` refusal counted: capacity, held, booked.
    pub(crate) fn counts(&self) -> Option<[u64; 3]> {
        self.rare.as_ref()?.counts
    }

    pub(crate) fn shown(&self) -> Option<&Shown> {
        self.rare.as_ref()?.shown.as_ref()
    }

    /// Whether it was turned away before anybody looked at its key: that says nothing about what became of the key.
    pub(crate) fn is_turned_away(&self) -> bool {
        let code = self.code.as_deref();
        self.outcome == Outcome::Refused
            && matches!(code, Some("idempotency_in_flight" | "overloaded" | "rate_limited"))
    }

    /// Whether an answer refused it with this code.
    pub(crate) fn refused_as(&self, code: &str) -> bool {
        self.outcome == Outcome::Refused && self.code.as_deref() == Some(code)
    }
}

/// A line of the history with an operation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OperationLine {
    #[serde(rename = "line")]
    _line: IgnoredAny,
    #[serde(rename = "arrival")]
    _arrival: u64,
    op: Op,
    #[serde(default)]
    key: Option<Name>,
    attempt: u32,
    #[serde(default)]
    asked: Box<[Claim]>,
    #[serde(default)]
    target: Option<Name>,
    intended_us: i64,
    sent_us: i64,
    received_us: i64,
    outcome: Outcome,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    code: Option<Word>,
    #[serde(default)]
    replayed: bool,
    #[serde(default)]
    hold: Option<Name>,
    #[serde(default)]
    expires_us: Option<i64>,
    #[serde(default)]
    told: Box<[Told]>,
    #[serde(default)]
    retry_after_s: Option<u64>,
    #[serde(default)]
    counts: Option<[u64; 3]>,
    #[serde(default)]
    shown: Option<Shown>,
}

impl OperationLine {
    fn packed(self) -> Operation {
        let rare = Rare { retry_after_s: self.retry_after_s, counts: self.counts, shown: self.shown };
        let is_rare = rare.retry_after_s.is_some() || rare.counts.is_some() || rare.shown.is_some();
        Operation {
            intended_us: self.intended_us,
            sent_us: self.sent_us,
            received_us: self.received_us,
            key: self.key,
            target: self.target,
            hold: self.hold,
            asked: self.asked,
            told: self.told,
            rare: is_rare.then(|| Box::new(rare)),
            expires_us: self.expires_us.unwrap_or(0),
            attempt: self.attempt,
            code: self.code,
            status: self.status,
            op: self.op,
            outcome: self.outcome,
            replayed: self.replayed,
        }
    }
}

/// A line of the history, as the auditor reads it.
#[derive(Debug)]
pub(crate) enum Line {
    Operation(Operation),
    Mark(history::Mark),
    End { lines: u64 },
}

impl Line {
    /// Operations are nearly all lines, and are read without a detour; what they are is said first in the line.
    pub(crate) fn parse(line: &str) -> Result<Self, serde_json::Error> {
        if line.starts_with(r#"{"line":"operation","#) {
            return Ok(Self::Operation(serde_json::from_str::<OperationLine>(line)?.packed()));
        }
        Ok(match serde_json::from_str(line)? {
            history::Line::Operation(operation) => Self::Operation(Operation::from(&operation)),
            history::Line::Mark(mark) => Self::Mark(mark),
            history::Line::End { lines } => Self::End { lines },
        })
    }
}

impl From<&history::Claim> for Claim {
    fn from(claim: &history::Claim) -> Self {
        Self { party: Name::new(&claim.party), slot: Name::new(&claim.slot), dose: claim.dose }
    }
}

impl From<&history::Told> for Told {
    fn from(told: &history::Told) -> Self {
        Self {
            booking: Name::new(&told.booking),
            party: Name::new(&told.party),
            slot: Name::new(&told.slot),
            dose: told.dose,
            state: told.state.as_deref().map(Word::new),
        }
    }
}

impl From<&history::Operation> for Operation {
    fn from(one: &history::Operation) -> Self {
        let name = |text: &Option<String>| text.as_deref().map(Name::new);
        let shown = one.shown.as_ref().map(|shown| Shown {
            as_of_us: shown.as_of_us,
            free: shown.free.iter().map(|(slot, free)| (Name::new(slot), *free)).collect(),
        });
        OperationLine {
            _line: IgnoredAny,
            _arrival: one.arrival,
            op: one.op,
            key: name(&one.key),
            attempt: one.attempt,
            asked: one.asked.iter().map(Claim::from).collect(),
            target: name(&one.target),
            intended_us: one.intended_us,
            sent_us: one.sent_us,
            received_us: one.received_us,
            outcome: one.outcome,
            status: one.status,
            code: one.code.as_deref().map(Word::new),
            replayed: one.replayed,
            hold: name(&one.hold),
            expires_us: one.expires_us,
            told: one.told.iter().map(Told::from).collect(),
            retry_after_s: one.retry_after_s,
            counts: one.counts,
            shown,
        }
        .packed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_reading_a_line_come_to_the_same() {
        let operation = history::Operation {
            arrival: 3,
            op: Op::Hold,
            key: Some("surge-1-2".into()),
            attempt: 2,
            asked: vec![history::Claim { party: "p1.1".into(), slot: "s1.2".into(), dose: 1 }],
            intended_us: 1,
            sent_us: 2,
            received_us: 3,
            outcome: Outcome::Refused,
            status: Some(409),
            code: Some("full".into()),
            counts: Some([5, 3, 2]),
            retry_after_s: Some(1),
            shown: Some(history::Shown { as_of_us: 9, free: vec![("s1.2".into(), 4)] }),
            expires_us: Some(7),
            ..history::Operation::default()
        };
        let line = serde_json::to_string(&history::Line::Operation(operation.clone())).unwrap();
        let Line::Operation(read) = Line::parse(&line).unwrap() else { panic!("an operation: {line}") };
        assert_eq!(format!("{read:?}"), format!("{:?}", Operation::from(&operation)));
        assert_eq!((read.counts(), read.shown().unwrap().as_of_us, read.expires_us()), (Some([5, 3, 2]), 9, Some(7)));
        let other = line.replacen("\"attempt\"", "\"attempted\"", 1);
        assert!(Line::parse(&other).is_err(), "an unknown field is an error");
    }
}
