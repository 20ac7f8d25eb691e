//! What is on record of a party's doses: the entries about them, one after the other, and what they come to.

use berth_engine::{BookingNumber, PartyFacts, PartyId, ProductId, Seq, TimestampMs};

use super::note::{AdverseEvent, Correction, Details, DoseNote};
use crate::calendar::Calendar;

/// One entry about a dose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The entry.
    pub seq: Seq,
    /// When it was judged.
    pub at: TimestampMs,
    /// The party it was told of: this one, or one whose record went to it.
    pub of: PartyId,
    /// What it says.
    pub note: Noted,
}

/// What an entry about a dose says, of one with a note and of one without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// A booking was completed, and nothing noted beside it.
    Bare {
        /// The booking.
        booking: BookingNumber,
        /// What its slot was for.
        product: ProductId,
    },
    /// A booking was completed.
    Given {
        /// The booking.
        booking: BookingNumber,
        /// What was given.
        details: Details,
        /// Who wrote it down.
        author: String,
    },
    /// Anything later.
    Later(DoseNote),
}

/// Something that came after a dose was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The entry.
    pub seq: Seq,
    /// When.
    pub at: TimestampMs,
    /// Who says so.
    pub author: String,
    /// What.
    pub what: What,
}

/// What came after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Something was wrong.
    Corrected {
        /// What is right.
        correction: Correction,
        /// Why.
        reason: String,
    },
    /// It was never given.
    Revoked {
        /// Why.
        reason: String,
    },
    /// Something happened to the person.
    Adverse(AdverseEvent),
}

/// A dose with all that was said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoseRecord {
    /// The booking it was given on.
    pub booking: BookingNumber,
    /// The party that it was given to, whose record may have gone to another's since.
    pub of: PartyId,
    /// What was given, as it stands now.
    pub details: Details,
    /// As it was written down first.
    pub first: Details,
    /// Whether it stands.
    pub valid: bool,
    /// When it was written down.
    pub recorded_at: TimestampMs,
    /// By whom; empty where nobody said.
    pub author: String,
    /// The entry it came by.
    pub seq: Seq,
    /// All that came after, in order.
    pub changes: Vec<Change>,
}

/// What the entries come to, in the order in which doses were written down. An entry about a dose that was never given is
/// passed over: nothing writes one.
#[must_use]
pub fn records(lines: &[Line]) -> Vec<DoseRecord> {
    let mut records: Vec<DoseRecord> = Vec::new();
    for Line { seq, at, of, note } in lines {
        let (seq, at, of) = (*seq, *at, *of);
        let born = |booking, details: Details, author| DoseRecord {
            booking,
            of,
            first: details.clone(),
            details,
            valid: true,
            recorded_at: at,
            author,
            seq,
            changes: Vec::new(),
        };
        let (booking, author, what) = match note.clone() {
            Noted::Bare { booking, product } => {
                records.push(born(booking, Details { given_at: at, product, ..Details::default() }, String::new()));
                continue;
            }
            Noted::Given { booking, details, author } => {
                records.push(born(booking, details, author));
                continue;
            }
            Noted::Later(DoseNote::Given { .. }) => continue,
            Noted::Later(DoseNote::Corrected { booking, correction, reason, author }) => {
                (booking, author, What::Corrected { correction, reason })
            }
            Noted::Later(DoseNote::Revoked { booking, reason, author }) => (booking, author, What::Revoked { reason }),
            Noted::Later(DoseNote::Adverse { booking, event, author }) => (booking, author, What::Adverse(event)),
        };
        let Some(record) = records.iter_mut().find(|record| record.booking == booking) else { continue };
        match &what {
            What::Corrected { correction, .. } => correction.apply(&mut record.details),
            What::Revoked { .. } => record.valid = false,
            What::Adverse(_) => {}
        }
        record.changes.push(Change { seq, at, author, what });
    }
    records
}

/// Why a dose cannot be changed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotChange {
    /// It was revoked.
    #[error("the dose was revoked")]
    Revoked,
    /// What is said to have come after it began before.
    #[error("it began before the dose")]
    Before,
    /// A later dose is on record: that goes first.
    #[error("a later dose is on record")]
    LaterDose,
}

/// What the policy knows of a party once a dose of its was corrected: the facts follow the dose that they rest on.
///
/// # Errors
/// The dose does not stand any more.
pub fn corrected(
    facts: PartyFacts,
    records: &[DoseRecord],
    booking: BookingNumber,
    correction: &Correction,
    calendar: &Calendar,
) -> Result<PartyFacts, CannotChange> {
    let mut records = records.to_vec();
    let Some(record) = records.iter_mut().find(|record| record.booking == booking && record.valid) else {
        return Err(CannotChange::Revoked);
    };
    let rested = rests_on(&facts, record, calendar);
    correction.apply(&mut record.details);
    let is_last = calendar.day(record.details.given_at) >= facts.last_dose_day;
    Ok(if rested || is_last { last_of(facts, &records, calendar) } else { facts })
}

/// What the policy knows of a party once a dose of its was revoked. `dose` is which of the course it was; where doses of two records came
/// together their numbers say nothing any more, and the order in which they were given does.
///
/// # Errors
/// It was revoked before, or a later one is on record: the last is revoked first.
pub fn revoked(
    facts: PartyFacts,
    records: &[DoseRecord],
    booking: BookingNumber,
    dose: u8,
    calendar: &Calendar,
) -> Result<PartyFacts, CannotChange> {
    let mut records = records.to_vec();
    let Some(found) = records.iter().find(|record| record.booking == booking && record.valid) else {
        return Err(CannotChange::Revoked);
    };
    let merged = records.iter().any(|record| record.of != found.of);
    let dose = if merged { ordinal(&facts, &records, booking, calendar) } else { dose };
    let Some(record) = records.iter_mut().find(|record| record.booking == booking && record.valid) else {
        return Err(CannotChange::Revoked);
    };
    if facts.doses > dose {
        return Err(CannotChange::LaterDose);
    }
    let rested = rests_on(&facts, record, calendar);
    record.valid = false;
    let left = PartyFacts { doses: facts.doses.min(dose.saturating_sub(1)), ..facts };
    Ok(if rested { last_of(left, &records, calendar) } else { left })
}

/// Which of the doses that a party has had this one is, by the order in which they were given: those behind it are on record.
#[must_use]
pub fn ordinal(facts: &PartyFacts, records: &[DoseRecord], booking: BookingNumber, calendar: &Calendar) -> u8 {
    let at = |record: &DoseRecord| (calendar.day(record.details.given_at), record.seq);
    let found = records.iter().find(|record| record.booking == booking).map(at);
    let later = records.iter().filter(|record| record.valid && Some(at(record)) > found).count();
    facts.doses.saturating_sub(u8::try_from(later).unwrap_or(u8::MAX))
}

fn rests_on(facts: &PartyFacts, record: &DoseRecord, calendar: &Calendar) -> bool {
    facts.product == record.details.product && facts.last_dose_day == calendar.day(record.details.given_at)
}

/// The facts with the last of the doses that stand; where none is on record and some were had, of a day that nobody knows.
fn last_of(facts: PartyFacts, records: &[DoseRecord], calendar: &Calendar) -> PartyFacts {
    let standing = records.iter().filter(|record| record.valid);
    match standing.max_by_key(|record| (calendar.day(record.details.given_at), record.seq)) {
        Some(last) if facts.doses > 0 => {
            PartyFacts { product: last.details.product, last_dose_day: calendar.day(last.details.given_at), ..facts }
        }
        _ if facts.doses > 0 => PartyFacts { last_dose_day: 0, ..facts },
        _ => PartyFacts { product: ProductId::default(), last_dose_day: 0, ..facts },
    }
}
