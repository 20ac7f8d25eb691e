//! What becomes of a record: given to another account, merged with another of the same person, erased.

use berth_engine::{By, Command, Idempotency, PartyFacts, PartyId, Refusal, State, TimestampMs};

use super::entry::{Account, Head, MoveRecord, OfferRecord, What};
use super::master::Print;
use super::{Done, Intent, People, PeopleError};

/// What the code of an offer is made of: nothing that looks like something else.
const CODE_SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Fifty bits: at any rate of asking it is not guessed within the days that an offer stands.
const CODE_LEN: usize = 10;
/// So many doses that no other is ever due: what the engine knows of a party whose record went to another's, and nobody books for it.
const NOBODY_DOSES: u8 = u8::MAX;
const FACTS_TRIES: usize = 16;

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

impl People {
    /// Offers a person of an account to another. The code is told to whoever is to take them, and opens it once; an offer before this one
    /// is void.
    ///
    /// # Errors
    /// There is no such person in the account.
    pub fn offer(
        &self,
        party: PartyId,
        of: Account,
        intent: &Intent,
        now: TimestampMs,
    ) -> Result<Done<(String, TimestampMs)>, PeopleError> {
        let number = party.0.to_be_bytes();
        let mut turn = self.turns.take(&self.engine, &self.store, &[&number])?;
        let row = self.row(party, Some(of))?;
        let key = self.key_of(row.key, party)?;
        // Of the request's key, so that a repeat is told the same code, which is kept nowhere.
        let code = code(&self.offers.of(&[b"code", &intent.record.key.0.to_be_bytes(), &number]));
        let until = TimestampMs(now.0.saturating_add(self.config.offer_ms));
        if let Some(seq) = self.repeat(intent.record)? {
            let until = self.tables.offer(party)?.map_or(now, |offer| TimestampMs(offer.until));
            return Ok(Done { what: (code, until), seq, replayed: true });
        }
        let head = Head { what: What::Offered, party: Some(party), other: None, key: row.key };
        let record = OfferRecord { code: self.offer_print(party, &code), until: until.0 };
        let done = self.append(&mut turn, &head.seal(&key, &record)?, Some(intent.record), now)?;
        Ok(Done { what: (code, until), seq: done.seq, replayed: done.replayed })
    }

    /// Takes a person who was offered into an account.
    ///
    /// # Errors
    /// The code opens no offer that stands, or the account is full.
    pub fn accept(
        &self,
        party: PartyId,
        to: Account,
        code: &str,
        intent: &Intent,
        now: TimestampMs,
    ) -> Result<Done<PartyId>, PeopleError> {
        let number = party.0.to_be_bytes();
        let mut turn = self.turns.take(&self.engine, &self.store, &[&number, &to.0])?;
        if let Some(seq) = self.repeat(intent.record)? {
            return Ok(Done { what: party, seq, replayed: true });
        }
        let print = self.offer_print(party, &normalised(code));
        // Whoever has no code learns nothing of whether there is an offer, or a person.
        let offer = self.tables.offer(party)?.filter(|offer| offer.code == print && now.0 < offer.until);
        offer.ok_or(PeopleError::NoOffer)?;
        let row = self.row(party, None)?;
        if row.account == Some(to) {
            return Err(PeopleError::SameAccount);
        }
        if self.tables.account(to)?.is_none() {
            return Err(PeopleError::NoAccount);
        }
        if self.tables.members(to)?.len() >= self.config.members_max {
            return Err(PeopleError::Members(self.config.members_max));
        }
        let key = self.key_of(row.key, party)?;
        let head = Head { what: What::Moved, party: Some(party), other: None, key: row.key };
        let done = self.append(&mut turn, &head.seal(&key, &MoveRecord { to })?, Some(intent.record), now)?;
        Ok(Done { what: party, seq: done.seq, replayed: done.replayed })
    }

    fn offer_print(&self, party: PartyId, code: &str) -> Print {
        self.offers.of(&[b"print", &party.0.to_be_bytes(), code.as_bytes()])
    }

    /// Forgets a person: their key is destroyed, and with it whatever is sealed under it, in the journal, its copies and backups of the
    /// store. What the engine counts stays.
    ///
    /// # Errors
    /// There is no such person in the account, or a live claim is still theirs.
    // rule: PPL-3 erasure destroys the key
    pub fn erase(
        &self,
        party: PartyId,
        of: Option<Account>,
        idempotency: Idempotency,
        now: TimestampMs,
    ) -> Result<Done<PartyId>, PeopleError> {
        let number = party.0.to_be_bytes();
        let mut turn = self.turns.take(&self.engine, &self.store, &[&number])?;
        if let Some(seq) = self.repeat(idempotency)? {
            return Ok(Done { what: party, seq, replayed: true });
        }
        let row = self.row(party, of)?;
        self.without_claims(party)?;
        let head = Head { what: What::Erased, party: Some(party), other: None, key: row.key };
        let done = self.append(&mut turn, &head.bytes(), Some(idempotency), now)?;
        drop(turn);
        // From then on nobody reaches the person; what was booked in the moment between is given back, for nobody could.
        self.wait(done.seq)?;
        for view in self.party(party)?.bookings {
            if view.state == State::Booked {
                let command = Command::Cancel { booking: view.number, by: By::Administration };
                // Ended meanwhile: as well.
                let _ = self.submit(command, None, now)?.result;
            }
        }
        Ok(Done { what: party, seq: done.seq, replayed: done.replayed })
    }

    /// Closes an account without people: its phone is forgotten.
    ///
    /// # Errors
    /// It has people.
    pub fn close_account(
        &self,
        account: Account,
        idempotency: Idempotency,
        now: TimestampMs,
    ) -> Result<Done<()>, PeopleError> {
        let mut turn = self.turns.take(&self.engine, &self.store, &[&account.0])?;
        if let Some(seq) = self.repeat(idempotency)? {
            return Ok(Done { what: (), seq, replayed: true });
        }
        let row = self.tables.account(account)?.ok_or(PeopleError::NoAccount)?;
        let members = self.tables.members(account)?.len();
        if members > 0 {
            return Err(PeopleError::NotEmpty(members));
        }
        let head = Head { what: What::Closed, party: None, other: None, key: row.key };
        self.append(&mut turn, &[&head.bytes()[..], &account.0].concat(), Some(idempotency), now)
    }

    /// Nobody is left with a place that is nobody's.
    fn without_claims(&self, party: PartyId) -> Result<PartyFacts, PeopleError> {
        let view = self.party(party)?;
        let bookings: Vec<_> = view.bookings.iter().map(|view| view.number).collect();
        if bookings.is_empty() { Ok(view.facts) } else { Err(PeopleError::LiveClaims { party, bookings }) }
    }

    /// Makes one record of two of the same person. `stays` keeps its number, its bookings and its account; of `goes` the doses and the
    /// documents come over, its key is destroyed, and nothing can be booked for it any more.
    ///
    /// # Errors
    /// There is no record of one of them; or `goes` has a live claim, which stands with its own number: it is merged the other way
    /// round, or given up first.
    // rule: PPL-4 a merge leaves the person one live claim for a dose
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
        self.check_claims(stays, goes)?;
        let had = self.party(goes)?.facts;
        // The doses first: a crash after them leaves a person who has had what was given to them, and the repeat goes on from there.
        let before = self.take_doses(stays, had, intent.facts, now)?;
        if let Err(error) = self.close_party(stays, goes, intent.other, now) {
            if let Some((before, after)) = before {
                let command = Command::ChangeFacts { party: stays, facts: before, expected: Some(&after), note: b"" };
                self.submit(command, None, now)?.result?;
            }
            return Err(error);
        }
        let doses = self.party(stays)?.facts.doses;
        let head = Head { what: What::Merged, party: Some(stays), other: Some(goes), key: kept.key };
        let done = self.append(&mut turn, &head.seal(&key, &gone.documents)?, Some(intent.record), now)?;
        Ok(Done { what: Merged { stays, goes, doses }, seq: done.seq, replayed: done.replayed })
    }

    fn check_claims(&self, stays: PartyId, goes: PartyId) -> Result<(), PeopleError> {
        let (kept, gone) = (self.party(stays)?, self.party(goes)?);
        for claim in &gone.bookings {
            if let Some(same) = kept.bookings.iter().find(|own| own.claim.dose == claim.claim.dose) {
                let dose = claim.claim.dose.0;
                return Err(PeopleError::BothClaimed { dose, stays: same.number, goes: claim.number });
            }
        }
        self.without_claims(goes).map(|_| ())
    }

    /// From this entry on nothing can be claimed for the party; what was claimed until then stands in the way.
    fn close_party(
        &self,
        stays: PartyId,
        goes: PartyId,
        key: Idempotency,
        now: TimestampMs,
    ) -> Result<(), PeopleError> {
        for _ in 0..FACTS_TRIES {
            let known = self.party(goes)?.facts;
            if known.doses == NOBODY_DOSES {
                // An attempt before this one came so far.
                return Ok(());
            }
            let facts = PartyFacts { doses: NOBODY_DOSES, ..known };
            let command = Command::ChangeFacts { party: goes, facts, expected: Some(&known), note: b"" };
            match self.submit(command, Some(key), now)?.result {
                Ok(_) => {}
                Err(Refusal::ChangedMeanwhile { .. }) => continue,
                Err(refusal) => return Err(refusal.into()),
            }
            let claimed = self.check_claims(stays, goes);
            if claimed.is_err() {
                // Between the look and the entry: as it was before.
                let command = Command::ChangeFacts { party: goes, facts: known, expected: Some(&facts), note: b"" };
                self.submit(command, None, now)?.result?;
            }
            return claimed;
        }
        Err(PeopleError::Refused(Refusal::ChangedMeanwhile { party: goes }))
    }

    /// Who stays has had what both have had. What was known before and after it, if that changed anything now.
    fn take_doses(
        &self,
        stays: PartyId,
        had: PartyFacts,
        key: Idempotency,
        now: TimestampMs,
    ) -> Result<Option<(PartyFacts, PartyFacts)>, PeopleError> {
        // An attempt before this one came so far, or further: then what it closed says nothing any more.
        if had.doses == 0 || had.doses == NOBODY_DOSES || self.repeat(key)?.is_some() {
            return Ok(None);
        }
        for _ in 0..FACTS_TRIES {
            let known = self.party(stays)?.facts;
            let facts = together(known, had);
            let command = Command::ChangeFacts { party: stays, facts, expected: Some(&known), note: b"" };
            match self.submit(command, Some(key), now)?.result {
                Ok(_) => return Ok(Some((known, facts))),
                Err(Refusal::ChangedMeanwhile { .. }) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Err(PeopleError::Refused(Refusal::ChangedMeanwhile { party: stays }))
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

/// A code of these bytes, ten symbols.
fn code(print: &Print) -> String {
    let symbol = |byte: &u8| char::from(CODE_SYMBOLS[usize::from(byte % 32)]);
    print.iter().take(CODE_LEN).map(symbol).collect()
}

/// As it is read over the phone.
fn normalised(code: &str) -> String {
    let same = |c: char| match c {
        'O' => Some('0'),
        'I' | 'L' => Some('1'),
        '-' | ' ' => None,
        c => Some(c),
    };
    code.chars().flat_map(char::to_uppercase).filter_map(same).collect()
}
