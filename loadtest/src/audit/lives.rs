//! What the history proves of each booking and each key, and what it leaves open.
//!
//! Everything other modules judge is read from here: a booking is *acknowledged* when a client was told its code; it is
//! *certainly live* from that moment until the earliest moment anything could have ended it, and *maybe live* from the sending of
//! what made it until the moment it was known to have ended; a key is *open* when it may or may not have had its effect.

use super::evidence::Evidence;
use super::record::{Claim, Operation, Told};
use super::{CLOCK_SLACK_US, EXPIRY_SLACK_US};
use crate::history::{Op, Outcome};
use crate::name::{Map, Name};

/// The history, by booking and by key.
#[derive(Debug)]
pub(crate) struct Lives<'a> {
    bookings: Bookings,
    /// In the order of their names.
    pub(crate) keys: Vec<Key<'a>>,
}

/// Lives side by side, and where each code's is: a map of them would leave room for as many again.
#[derive(Debug, Default)]
struct Bookings {
    places: Map<Name, u32>,
    lives: Vec<(Name, Life)>,
}

impl Bookings {
    fn get(&self, code: Name) -> Option<&Life> {
        let place = usize::try_from(*self.places.get(&code)?).ok()?;
        self.lives.get(place).map(|(_, life)| life)
    }

    fn get_mut(&mut self, code: Name) -> Option<&mut Life> {
        let place = usize::try_from(*self.places.get(&code)?).ok()?;
        self.lives.get_mut(place).map(|(_, life)| life)
    }

    fn add(&mut self, code: Name, life: Life) {
        self.places.insert(code, u32::try_from(self.lives.len()).unwrap_or(u32::MAX));
        self.lives.push((code, life));
    }

    /// Puts the lives into the order of their codes.
    fn sort(&mut self) {
        self.lives.sort_unstable_by_key(|(code, _)| *code);
        for (place, (code, _)) in (0..).zip(&self.lives) {
            self.places.insert(*code, place);
        }
    }
}

/// An acknowledged booking, or a claim of an acknowledged hold.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) claim: Claim,
    pub(crate) hold: Name,
    /// When what made it was first sent.
    pub(crate) asked_us: i64,
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
    /// What was done, or may have been, with the person at the door: checked in, given the dose. Neither ends the claim.
    pub(crate) door: Vec<End>,
    /// Another claim that was acknowledged under the same code: one of the two was lost, or both were never one.
    pub(crate) rival: Option<Box<Claim>>,
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
            Op::NoShow => "no_show",
            Op::CheckIn | Op::WalkIn => "checked_in",
            Op::Complete => "completed",
            _ => "moved",
        }
    }
}

/// All that was sent under one idempotency key.
#[derive(Debug)]
pub(crate) struct Key<'a> {
    pub(crate) name: Name,
    /// In the order they were received; `Outcome` reads of the key among them.
    pub(crate) sendings: &'a [&'a Operation],
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

impl Life {
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

    /// The span outside of which this was not live beyond doubt. A hold's end by the clock counts only where nothing was done
    /// to the server, which may give a grace.
    pub(crate) fn maybe_live(&self, was_hurt: bool) -> (i64, i64) {
        // Who did not come may or may not have given the unit back.
        let known = self.ends.iter().filter(|end| end.op != Op::NoShow).filter_map(|end| end.known_us).min();
        let runs_out = self.booked_us.is_none() && !self.maybe_confirmed && !was_hurt;
        let deadline_us = self.deadline_us.filter(|_| runs_out).map(|deadline_us| deadline_us + EXPIRY_SLACK_US);
        (self.asked_us, known.into_iter().chain(deadline_us).min().unwrap_or(i64::MAX))
    }
}

/// The operations of each key side by side, in the order of their keys and then of their answers. [`Lives`] borrows from it.
pub(crate) fn by_key(evidence: &Evidence) -> Vec<&Operation> {
    let key = |one: &Operation| if one.op == Op::Outcome { one.target } else { one.key };
    let keyed = evidence.operations.iter().filter(|one| key(one).is_some()).count();
    // Counted first: lists that grow take twice what they need.
    let mut places: Vec<(Name, i64, u32)> = Vec::with_capacity(keyed);
    let with_place = (0..).zip(&evidence.operations);
    places.extend(with_place.filter_map(|(place, one)| Some((key(one)?, one.received_us, place))));
    places.sort_unstable();
    let mut sorted = Vec::with_capacity(keyed);
    let found = places.iter().filter_map(|&(_, _, place)| evidence.operations.get(usize::try_from(place).ok()?));
    sorted.extend(found);
    sorted
}

impl<'a> Lives<'a> {
    pub(crate) fn of(evidence: &Evidence, by_key: &'a [&'a Operation]) -> Self {
        let keys = keys_of(evidence, by_key);
        let mut bookings = Bookings::default();
        let makes = |one: &&Operation| (one.op.claims() || one.op == Op::Move) && !one.replayed;
        bookings.lives.reserve(evidence.operations.iter().filter(makes).map(|one| one.told.len()).sum());
        // The codes of holds of several; one's own code is its hold's.
        let mut groups: Map<Name, Vec<Name>> = Map::default();
        for key in &keys {
            for answer in key.answers() {
                if key.op().claims() || key.op() == Op::Move {
                    for told in &answer.told {
                        born(&mut bookings, key, answer, told);
                    }
                }
                if let Some(hold) = answer.hold.filter(|_| key.op().claims())
                    && (answer.told.len() != 1 || answer.told[0].booking != hold)
                {
                    groups.insert(hold, answer.told.iter().map(|told| told.booking).collect());
                }
            }
        }
        for key in &keys {
            later(&mut bookings, &groups, key);
        }
        bookings.sort();
        Self { bookings, keys }
    }

    pub(crate) fn get(&self, code: Name) -> Option<&Life> {
        self.bookings.get(code)
    }

    pub(crate) fn len(&self) -> usize {
        self.bookings.lives.len()
    }

    /// Every booking in the order of the codes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Name, &Life)> {
        self.bookings.lives.iter().map(|(code, life)| (*code, life))
    }
}

impl<'a> Key<'a> {
    /// The answers that acknowledged its effect.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &'a Operation> + '_ {
        self.sendings.iter().copied().filter(|operation| operation.outcome == Outcome::Ok)
    }

    /// A sending, for what all of them have in common.
    fn one(&self) -> &'a Operation {
        self.sendings.iter().copied().find(|one| one.op != Op::Outcome).unwrap_or(self.sendings[0])
    }

    pub(crate) fn op(&self) -> Op {
        self.one().op
    }

    pub(crate) fn asked(&self) -> &'a [Claim] {
        &self.one().asked
    }

    pub(crate) fn target(&self) -> Option<Name> {
        self.one().target
    }

    pub(crate) fn first_sent_us(&self) -> i64 {
        let sent = self.sendings.iter().filter(|one| one.op != Op::Outcome).map(|one| one.sent_us);
        sent.min().unwrap_or(i64::MAX)
    }

    pub(crate) fn last_received_us(&self) -> i64 {
        self.sendings.iter().map(|one| one.received_us).max().unwrap_or(i64::MAX)
    }
}

fn keys_of<'a>(evidence: &Evidence, by_key: &'a [&'a Operation]) -> Vec<Key<'a>> {
    let key = |one: &Operation| if one.op == Op::Outcome { one.target } else { one.key };
    by_key
        .chunk_by(|one, next| key(one) == key(next))
        .filter(|sendings| sendings.iter().any(|one| one.op != Op::Outcome))
        .filter_map(|sendings| Some(Key { name: key(sendings.first()?)?, sendings, fate: fate(evidence, sendings) }))
        .collect()
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
                    && !later.is_turned_away()
                    && later.sent_us >= lost.received_us
                    && (later.op == Op::Outcome || evidence.died_between(lost, later))
            });
        !ruled_out
    });
    if open { Fate::Open } else { Fate::Nothing }
}

fn born(bookings: &mut Bookings, key: &Key<'_>, answer: &Operation, told: &Told) {
    let booked_us = (key.op() != Op::Hold).then_some(answer.received_us);
    let asked_us = key.first_sent_us();
    if bookings.get(told.booking).is_none() {
        let life = Life {
            claim: told.claim(),
            hold: answer.hold.unwrap_or(told.booking),
            asked_us,
            known_us: answer.received_us,
            deadline_us: None,
            booked_us,
            maybe_confirmed: false,
            ends: Vec::new(),
            door: Vec::new(),
            rival: None,
        };
        bookings.add(told.booking, life);
    }
    let Some(life) = bookings.get_mut(told.booking) else { return };
    if life.claim != told.claim() {
        life.rival = Some(Box::new(told.claim()));
    }
    life.known_us = life.known_us.min(answer.received_us);
    life.asked_us = life.asked_us.min(asked_us);
    if key.op() == Op::WalkIn {
        let end = End { op: key.op(), known_us: Some(answer.received_us), sent_us: asked_us };
        life.door.push(end);
    }
    if key.op() == Op::Hold {
        life.deadline_us = life.deadline_us.max(answer.expires_us());
    }
}

/// Applies what happened, or may have, to bookings that exist.
fn later(bookings: &mut Bookings, groups: &Map<Name, Vec<Name>>, key: &Key<'_>) {
    if key.fate == Fate::Nothing {
        return;
    }
    let Some(target) = key.target() else { return };
    let acknowledged_us = key.answers().map(|answer| answer.received_us).min();
    let end = End { op: key.op(), known_us: acknowledged_us, sent_us: key.first_sent_us() };
    let alone = [target];
    let group = groups.get(&target).map_or(&alone[..], Vec::as_slice);
    match key.op() {
        Op::Confirm => {
            for &code in group {
                if let Some(life) = bookings.get_mut(code) {
                    match acknowledged_us {
                        Some(at_us) => life.booked_us = Some(life.booked_us.map_or(at_us, |seen| seen.min(at_us))),
                        None => life.maybe_confirmed = true,
                    }
                }
            }
        }
        Op::Release => {
            for &code in group {
                if let Some(life) = bookings.get_mut(code) {
                    life.ends.push(end);
                }
            }
        }
        Op::Cancel | Op::Move | Op::NoShow => {
            if let Some(life) = bookings.get_mut(target) {
                life.ends.push(end);
            }
        }
        Op::CheckIn | Op::Complete => {
            if let Some(life) = bookings.get_mut(target) {
                life.door.push(end);
            }
        }
        Op::Search | Op::Hold | Op::Book | Op::Read | Op::Outcome | Op::WalkIn => {}
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
