//! Two records of one person made one.
//!
//! The doses come over first, and the entry says whose they were: so whoever begins again, under whatever key and whichever way round,
//! knows what was brought over already. Then nothing can be claimed any more for who goes. Then the record goes.
// rule: PPL-4 a merge leaves the person one live claim for a dose

use berth_engine::{BookingView, Command, PartyFacts, PartyId, Refusal, TimestampMs};

use super::entry::{Head, MergeRecord, What};
use super::turns::Turn;
use super::{Done, Intent, People, PeopleError};
use crate::rules::PROGRAMME;

/// So many doses that no other is ever due: what the engine knows of a party whose record is gone, and nobody books for it.
pub const NOBODY_DOSES: u8 = u8::MAX;
const FACTS_TRIES: usize = 16;
/// What the note of an entry that brings doses over begins with; notes of doses begin otherwise.
const TAKEN: u8 = 6;

/// How a merge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Whose record stays.
    pub stays: PartyId,
    /// Whose went.
    pub goes: PartyId,
    /// Doses that the person has had, both records together.
    pub doses: u8,
}

/// Noted where what is known of who stays has the doses of who goes in it; none: not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) goes: PartyId,
    pub(super) doses: u8,
}

impl Taken {
    fn bytes(self) -> [u8; 6] {
        let [a, b, c, d] = self.goes.0.to_le_bytes();
        [TAKEN, a, b, c, d, self.doses]
    }

    pub(super) fn decode(note: &[u8]) -> Option<Taken> {
        let &[TAKEN, a, b, c, d, doses] = note else { return None };
        Some(Taken { goes: PartyId(u32::from_le_bytes([a, b, c, d])), doses })
    }
}

/// What was known of who stays before doses came over, and after; and how many had come over before that.
pub(super) struct TakenOver {
    before: PartyFacts,
    after: PartyFacts,
    had: u8,
}

impl People {
    /// Makes one record of two of the same person. `stays` keeps its number, its bookings and its account; of `goes` the doses, what was
    /// noted of them and the documents come over, its key is destroyed, and nothing can be booked for it any more.
    ///
    /// # Errors
    /// There is no record of one of them; or `goes` has a live claim, which stands with its own number: it is merged the other way
    /// round, or given up first.
    pub fn merge(
        &self,
        stays: PartyId,
        goes: PartyId,
        intent: &Intent,
        now: TimestampMs,
    ) -> Result<Done<Merged>, PeopleError> {
        if stays == goes {
            return Err(PeopleError::Itself);
        }
        let (one, two) = (stays.0.to_be_bytes(), goes.0.to_be_bytes());
        let mut turn = self.turns.take(&self.engine, &self.store, &[&one, &two])?;
        if let Some(seq) = self.repeat(intent.record)? {
            let doses = self.party(stays)?.facts.doses;
            return Ok(Done { what: Merged { stays, goes, doses }, seq, replayed: true });
        }
        let (kept, gone) = (self.row(stays, None)?, self.row(goes, None)?);
        let key = self.key_of(kept.key, stays)?;
        self.check_claims(stays, goes, self.doses_together(stays, goes)?)?;
        if self.party(stays)?.facts.doses == NOBODY_DOSES {
            // Its own erasure or merge broke off when it was closed: that is repeated, and nothing is added to what is nobody's.
            return Err(PeopleError::Unknown(stays));
        }
        // The doses first: a crash after them leaves a person who has had what was given to them.
        let over = self.take_doses(&mut turn, stays, goes, now)?;
        // From here on nothing is booked for a dose that they have had together; what was booked before is seen once more.
        let together = self.party(stays)?.facts.doses;
        let closed = match self.close_party(goes, now, || self.check_claims(stays, goes, together)) {
            Ok(closed) => closed,
            Err(error) => {
                self.give_back(&mut turn, stays, goes, over, now)?;
                return Err(error);
            }
        };
        let doses = self.party(stays)?.facts.doses;
        let head = Head { what: What::Merged, party: Some(stays), other: Some(goes), key: kept.key };
        let dose_keys = self.tables.dose_keys(goes, gone.key)?;
        let record = MergeRecord { documents: gone.documents, dose_keys };
        match self.append(&mut turn, &head.seal(&key, &record)?, Some(intent.record), now) {
            Ok(done) => Ok(Done { what: Merged { stays, goes, doses }, seq: done.seq, replayed: done.replayed }),
            Err(error) => {
                // A disk that is full takes no record: then all is as it was.
                self.open_party(goes, closed, now)?;
                self.give_back(&mut turn, stays, goes, over, now)?;
                Err(error)
            }
        }
    }

    /// What came over goes back, if this attempt brought it.
    fn give_back(
        &self,
        turn: &mut Turn<'_>,
        stays: PartyId,
        goes: PartyId,
        over: Option<TakenOver>,
        now: TimestampMs,
    ) -> Result<(), PeopleError> {
        let Some(TakenOver { before, after, had }) = over else { return Ok(()) };
        let note = Taken { goes, doses: had }.bytes();
        let command = Command::ChangeFacts { party: stays, facts: before, expected: Some(&after), note: &note };
        let back = self.submit(command, None, now)?;
        turn.appended(back.seq);
        back.result?;
        Ok(())
    }

    /// A party that was closed for a step that was refused after all is what it was. `known`: before it was closed, if this attempt did it.
    pub(super) fn open_party(
        &self,
        party: PartyId,
        known: Option<PartyFacts>,
        now: TimestampMs,
    ) -> Result<(), PeopleError> {
        let Some(facts) = known else { return Ok(()) };
        let closed = PartyFacts { doses: NOBODY_DOSES, ..facts };
        let command = Command::ChangeFacts { party, facts, expected: Some(&closed), note: b"" };
        self.submit(command, None, now)?.result?;
        Ok(())
    }

    /// Nobody is left with a place that is nobody's.
    pub(super) fn without_claims(&self, party: PartyId) -> Result<(), PeopleError> {
        let bookings: Vec<_> = self.party(party)?.bookings.iter().map(|view| view.number).collect();
        if bookings.is_empty() { Ok(()) } else { Err(PeopleError::LiveClaims { party, bookings }) }
    }

    /// `doses`: what both have had together.
    fn check_claims(&self, stays: PartyId, goes: PartyId, doses: u8) -> Result<(), PeopleError> {
        let (kept, gone) = (self.party(stays)?, self.party(goes)?);
        for claim in &gone.bookings {
            if let Some(same) = kept.bookings.iter().find(|own| own.claim.dose == claim.claim.dose) {
                let dose = claim.claim.dose.0;
                return Err(PeopleError::BothClaimed { dose, stays: same.number, goes: claim.number });
            }
        }
        self.without_claims(goes)?;
        // A dose that both records together have had already is not booked once more.
        let had = |view: &&BookingView| view.programme == PROGRAMME && view.claim.dose.0 <= doses;
        let bookings: Vec<_> = kept.bookings.iter().filter(had).map(|view| view.number).collect();
        if bookings.is_empty() { Ok(()) } else { Err(PeopleError::LiveClaims { party: stays, bookings }) }
    }

    /// What both have had, however far an attempt before this one came.
    fn doses_together(&self, stays: PartyId, goes: PartyId) -> Result<u8, PeopleError> {
        let (kept, gone) = (self.party(stays)?.facts.doses, self.party(goes)?.facts.doses);
        if gone == NOBODY_DOSES {
            // Closed: its doses are with who stays.
            return Ok(kept);
        }
        let own = kept.saturating_sub(self.tables.taken(stays, goes)?);
        Ok(own.saturating_add(gone.saturating_sub(self.tables.taken(goes, stays)?)))
    }

    /// From this entry on nothing can be claimed for the party, by whoever asks; what was claimed until then, as `check` says, stands in
    /// the way, and then all is as it was. What was known before, if it was closed now.
    pub(super) fn close_party(
        &self,
        party: PartyId,
        now: TimestampMs,
        check: impl Fn() -> Result<(), PeopleError>,
    ) -> Result<Option<PartyFacts>, PeopleError> {
        for _ in 0..FACTS_TRIES {
            check()?;
            let known = self.party(party)?.facts;
            if known.doses == NOBODY_DOSES {
                // An attempt before this one came so far.
                return Ok(None);
            }
            let facts = PartyFacts { doses: NOBODY_DOSES, ..known };
            let command = Command::ChangeFacts { party, facts, expected: Some(&known), note: b"" };
            match self.submit(command, None, now)?.result {
                Ok(_) => {}
                Err(Refusal::ChangedMeanwhile { .. }) => continue,
                Err(refusal) => return Err(refusal.into()),
            }
            if let Err(error) = check() {
                // Between the look and the entry: as it was before.
                self.open_party(party, Some(known), now)?;
                return Err(error);
            }
            return Ok(Some(known));
        }
        Err(PeopleError::Refused(Refusal::ChangedMeanwhile { party }))
    }

    /// Who stays has had what both have had. `None`: nothing has changed now.
    pub(super) fn take_doses(
        &self,
        turn: &mut Turn<'_>,
        stays: PartyId,
        goes: PartyId,
        now: TimestampMs,
    ) -> Result<Option<TakenOver>, PeopleError> {
        let mut had = self.party(goes)?.facts;
        if had.doses == NOBODY_DOSES {
            // An attempt before this one closed it, and brought its doses over before that.
            return Ok(None);
        }
        // Begun the other way round, they have some of who stays: those come back once.
        had.doses = had.doses.saturating_sub(self.tables.taken(goes, stays)?);
        // What an attempt that broke off has brought over; doses may have been given and revoked since.
        let over = self.tables.taken(stays, goes)?;
        if had.doses == over {
            return Ok(None);
        }
        let note = Taken { goes, doses: had.doses }.bytes();
        for _ in 0..FACTS_TRIES {
            let before = self.party(stays)?.facts;
            let own = PartyFacts { doses: before.doses.saturating_sub(over), ..before };
            let after = together(own, PartyFacts { cohorts: self.cohorts_alone(had.cohorts), ..had });
            let command = Command::ChangeFacts { party: stays, facts: after, expected: Some(&before), note: &note };
            let submitted = self.submit(command, None, now)?;
            match submitted.result {
                Ok(_) => {
                    turn.appended(submitted.seq);
                    return Ok(Some(TakenOver { before, after, had: over }));
                }
                Err(Refusal::ChangedMeanwhile { .. }) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Err(PeopleError::Refused(Refusal::ChangedMeanwhile { party: stays }))
    }

    /// Of whom somebody is one. An invitation is the other party's, and what spent it is a booking of that one.
    fn cohorts_alone(&self, cohorts: u32) -> u32 {
        let rules = self.rules();
        rules.programme.as_ref().map_or(cohorts, |programme| programme.get().cohorts_alone(cohorts))
    }
}

/// Doses of both records: each was given, to one person. The last is the later one.
fn together(one: PartyFacts, other: PartyFacts) -> PartyFacts {
    let last = if other.last_dose_day > one.last_dose_day { other } else { one };
    PartyFacts {
        doses: one.doses.saturating_add(other.doses).min(NOBODY_DOSES - 1),
        product: last.product,
        last_dose_day: last.last_dose_day,
        cohorts: one.cohorts | other.cohorts,
        ..one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_over_reads_back_and_is_no_note_of_a_dose() {
        let taken = Taken { goes: PartyId(0x0102_0304), doses: 2 };
        assert_eq!(Taken::decode(&taken.bytes()), Some(taken));
        assert_eq!(crate::doses::DoseNote::decode(&taken.bytes()), Ok(None));
        assert_eq!((Taken::decode(b""), Taken::decode(&[TAKEN, 1])), (None, None));
    }
}
