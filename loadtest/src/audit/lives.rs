//! What the history proves of each booking and each key, and what it leaves open.
//!
//! Everything other modules judge is read from here: a booking is *acknowledged* when a client was told its code; it is
//! *certainly live* from that moment until the earliest moment anything could have ended it; a key is *open* when it may
//! or may not have had its effect.

use std::collections::{BTreeMap, HashMap};

use super::CLOCK_SLACK_US;
use super::evidence::Evidence;
use crate::history::{Claim, Op, Operation, Outcome, Told};

/// The history, by booking and by key.
#[derive(Debug)]
pub(crate) struct Lives<'a> {
    /// Acknowledged bookings and holds, by booking code.
    pub(crate) bookings: BTreeMap<&'a str, Life<'a>>,
    pub(crate) keys: BTreeMap<&'a str, Key<'a>>,
}

/// An acknowledged booking, or a claim of an acknowledged hold.
#[derive(Debug)]
pub(crate) struct Life<'a> {
    pub(crate) claim: Claim,
    pub(crate) hold: &'a str,
    /// When its client first knew of it.
    pub(crate) known_us: i64,
    /// When its hold ran out, if it began as one.
    pub(crate) deadline_us: Option<i64>,
    /// When its client first knew that it is booked.
    pub(crate) booked_us: Option<i64>,
    /// Confirms that may have happened, but were not acknowledged.
    pub(crate) maybe_confirmed: bool,
    /// What may have ended it: acknowledged or open.
    pub(crate) ends: Vec<End>,
    /// Another claim that was acknowledged under the same code: one of the two was lost, or both were never one.
    pub(crate) rival: Option<Claim>,
}

/// A release, cancel or move that happened or may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) op: Op,
    /// When its client first knew of it; none while it is open.
    pub(crate) known_us: Option<i64>,
    /// Nothing ended before its request was first sent.
    pub(crate) sent_us: i64,
}

impl End {
    pub(crate) fn acknowledged(self) -> bool {
        self.known_us.is_some()
    }

    /// The state this leaves a booking in.
    pub(crate) fn state(self) -> &'static str {
        match self.op {
            Op::Release => "released",
            Op::Cancel => "cancelled",
            _ => "moved",
        }
    }
}

/// All that was sent under one idempotency key.
#[derive(Debug)]
pub(crate) struct Key<'a> {
    pub(crate) op: Op,
    pub(crate) asked: &'a [Claim],
    pub(crate) target: Option<&'a str>,
    pub(crate) first_sent_us: i64,
    /// In the order they were received; `Outcome` reads of the key among them.
    pub(crate) sendings: Vec<&'a Operation>,
    pub(crate) fate: Fate,
}

/// What the client can know of a key's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It took effect: an answer said so.
    Done,
    /// It did not, and cannot any more.
    Nothing,
    /// It may have.
    Open,
}

impl Life<'_> {
    /// The span, if any, in which this was live beyond doubt.
    pub(crate) fn certainly_live(&self) -> Option<(i64, i64)> {
        let mut until = i64::MAX;
        if self.booked_us.is_none() {
            until = self.deadline_us.map_or(i64::MAX, |deadline| deadline - CLOCK_SLACK_US);
        }
        for end in &self.ends {
            until = until.min(end.sent_us);
        }
        (self.known_us < until).then_some((self.known_us, until))
    }
}

impl<'a> Lives<'a> {
    pub(crate) fn of(evidence: &'a Evidence) -> Self {
        let keys = keys_of(evidence);
        let mut bookings = BTreeMap::new();
        let mut holds: HashMap<&str, Vec<&str>> = HashMap::new();
        for key in keys.values() {
            for answer in key.answers() {
                if key.op.claims() || key.op == Op::Move {
                    for told in &answer.told {
                        born(&mut bookings, key, answer, told);
                    }
                }
                if key.op.claims()
                    && let Some(hold) = &answer.hold
                {
                    holds.insert(hold, answer.told.iter().map(|told| told.booking.as_str()).collect());
                }
            }
        }
        for key in keys.values() {
            later(&mut bookings, &holds, key);
        }
        Self { bookings, keys }
    }
}

impl<'a> Key<'a> {
    /// The answers that acknowledged its effect.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &'a Operation> + '_ {
        self.sendings.iter().copied().filter(|operation| operation.outcome == Outcome::Ok)
    }
}

fn keys_of(evidence: &Evidence) -> BTreeMap<&str, Key<'_>> {
    let mut keys: BTreeMap<&str, Key<'_>> = BTreeMap::new();
    for operation in &evidence.operations {
        let Some(key) = operation.key.as_deref() else { continue };
        let entry = keys.entry(key).or_insert_with(|| Key {
            op: operation.op,
            asked: &operation.asked,
            target: operation.target.as_deref(),
            first_sent_us: operation.sent_us,
            sendings: Vec::new(),
            fate: Fate::Open,
        });
        entry.first_sent_us = entry.first_sent_us.min(operation.sent_us);
        entry.sendings.push(operation);
    }
    for operation in evidence.operations.iter().filter(|operation| operation.op == Op::Outcome) {
        if let Some(key) = operation.target.as_deref().and_then(|target| keys.get_mut(target)) {
            key.sendings.push(operation);
        }
    }
    for key in keys.values_mut() {
        key.sendings.sort_by_key(|operation| operation.received_us);
        key.fate = fate(evidence, &key.sendings);
    }
    keys
}

/// A refused key is free and has no effect. A sending that got no answer may still have one, unless something later
/// rules it out: it never reached the server, the server was killed before a later sending was refused, or the server
/// was asked at the end and knew nothing of it.
fn fate(evidence: &Evidence, sendings: &[&Operation]) -> Fate {
    if sendings.iter().any(|operation| operation.outcome == Outcome::Ok) {
        return Fate::Done;
    }
    let open = sendings.iter().filter(|one| one.outcome == Outcome::Unknown && one.op != Op::Outcome).any(|lost| {
        let ruled_out = lost.code.as_deref() == Some("no_connection")
            || sendings.iter().any(|later| {
                later.outcome == Outcome::Refused
                    && later.code.as_deref() != Some("idempotency_in_flight")
                    && later.sent_us >= lost.received_us
                    && (later.op == Op::Outcome || evidence.died_between(lost, later))
            });
        !ruled_out
    });
    if open { Fate::Open } else { Fate::Nothing }
}

fn born<'a>(bookings: &mut BTreeMap<&'a str, Life<'a>>, key: &Key<'a>, answer: &'a Operation, told: &'a Told) {
    let booked_us = (key.op != Op::Hold).then_some(answer.received_us);
    let life = bookings.entry(&told.booking).or_insert_with(|| Life {
        claim: told.claim(),
        hold: answer.hold.as_deref().unwrap_or(&told.booking),
        known_us: answer.received_us,
        deadline_us: None,
        booked_us,
        maybe_confirmed: false,
        ends: Vec::new(),
        rival: None,
    });
    if life.claim != told.claim() {
        life.rival = Some(told.claim());
    }
    life.known_us = life.known_us.min(answer.received_us);
    if key.op == Op::Hold {
        life.deadline_us = life.deadline_us.max(answer.expires_us);
    }
}

/// Applies what happened, or may have, to bookings that exist.
fn later<'a>(bookings: &mut BTreeMap<&'a str, Life<'a>>, holds: &HashMap<&str, Vec<&'a str>>, key: &Key<'a>) {
    if key.fate == Fate::Nothing {
        return;
    }
    let Some(target) = key.target else { return };
    let acknowledged_us = key.answers().map(|answer| answer.received_us).min();
    let end = End { op: key.op, known_us: acknowledged_us, sent_us: key.first_sent_us };
    match key.op {
        Op::Confirm => {
            for code in holds.get(target).into_iter().flatten() {
                if let Some(life) = bookings.get_mut(code) {
                    match acknowledged_us {
                        Some(at_us) => life.booked_us = Some(life.booked_us.map_or(at_us, |seen| seen.min(at_us))),
                        None => life.maybe_confirmed = true,
                    }
                }
            }
        }
        Op::Release => {
            for code in holds.get(target).into_iter().flatten() {
                if let Some(life) = bookings.get_mut(code) {
                    life.ends.push(end);
                }
            }
        }
        Op::Cancel | Op::Move => {
            if let Some(life) = bookings.get_mut(target) {
                life.ends.push(end);
            }
        }
        Op::Search | Op::Hold | Op::Book | Op::Read | Op::Outcome => {}
    }
}

/// One operation as a line of a story.
pub(crate) fn tell(operation: &Operation, began_us: i64) -> String {
    let seconds = |us: i64| {
        let us = us - began_us;
        format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
    };
    let mut line =
        format!("{}s..{}s {}", seconds(operation.sent_us), seconds(operation.received_us), operation.op.word());
    if let Some(target) = &operation.target {
        line.push_str(&format!(" of {target}"));
    }
    for claim in &operation.asked {
        line.push_str(&format!(" [{} {} dose {}]", claim.party, claim.slot, claim.dose));
    }
    if let Some(key) = &operation.key {
        line.push_str(&format!(" key {key} attempt {}", operation.attempt));
    }
    let outcome = match operation.outcome {
        Outcome::Ok => "ok",
        Outcome::Refused => "refused",
        Outcome::Unknown => "unknown",
    };
    line.push_str(&format!(": {outcome}"));
    if let Some(code) = &operation.code {
        line.push_str(&format!(" {code}"));
    }
    if operation.replayed {
        line.push_str(" (replayed)");
    }
    if let Some(hold) = &operation.hold {
        line.push_str(&format!(" hold {hold}"));
    }
    for told in &operation.told {
        line.push_str(&format!(" booking {} [{} {} dose {}]", told.booking, told.party, told.slot, told.dose));
    }
    line
}

/// The operations that speak of any of `codes` (bookings, holds or keys), as a story of at most a few lines.
pub(crate) fn story_of(evidence: &Evidence, codes: &[&str]) -> Vec<String> {
    const LINES_MAX: usize = 10;
    let speaks = |operation: &Operation| {
        let named = |text: &Option<String>| text.as_deref().is_some_and(|text| codes.contains(&text));
        named(&operation.key)
            || named(&operation.target)
            || named(&operation.hold)
            || operation.told.iter().any(|told| codes.contains(&told.booking.as_str()))
    };
    let mut lines: Vec<&Operation> = evidence.operations.iter().filter(|operation| speaks(operation)).collect();
    lines.sort_by_key(|operation| operation.sent_us);
    let began_us = evidence.began_us();
    lines.into_iter().take(LINES_MAX).map(|operation| tell(operation, began_us)).collect()
}
