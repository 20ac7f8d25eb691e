//! Registering a person, correcting what is kept of them, and reading it.

use berth_engine::{Command, Idempotency, Outcome, PartyFacts, PartyId, Refusal, Submitted, TimestampMs};

use super::entry::{Account, AccountRecord, Head, PersonRecord, What};
use super::key_table::KeyId;
use super::master::{Print, random};
use super::record::{Person, Phone};
use super::tables::PersonRow;
use super::{Done, Intent, People, PeopleError};

/// How often facts that change meanwhile are read again.
const FACTS_TRIES: usize = 16;

/// What is kept of a person.
#[derive(Clone, PartialEq, Eq)]
pub struct View {
    /// Their number.
    pub party: PartyId,
    /// Whose account they are in, if anybody's.
    pub account: Option<Account>,
    /// The record.
    pub person: Person,
    /// The phone of the account they are in.
    pub account_phone: Option<Phone>,
}

impl People {
    /// The account of a phone, opened if there is none. Whoever asks has shown that the phone is theirs.
    ///
    /// # Errors
    /// Why not.
    pub fn open_account(&self, phone: &Phone, now: TimestampMs) -> Result<Done<Account>, PeopleError> {
        let print = self.phone_print(phone);
        let mut turn = self.turns.take(&self.engine, &self.store, &[&print])?;
        if let Some(account) = self.tables.account_of_phone(&print)? {
            return Ok(Done { what: account, seq: self.store.applied(), replayed: true });
        }
        let account = Account(random()?);
        let (id, key) = self.tables.keys.take()?;
        let head = Head { what: What::Opened, party: None, other: None, key: id };
        let record = AccountRecord { account, phone: phone.clone(), print };
        let done = self.append(&mut turn, &head.seal(&key, &record)?, None, now)?;
        Ok(Done { what: account, seq: done.seq, replayed: false })
    }

    /// The account of a phone, if there is one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn account_of(&self, phone: &Phone) -> Result<Option<Account>, PeopleError> {
        Ok(self.tables.account_of_phone(&self.phone_print(phone))?)
    }

    /// The phone of an account; `None` if there is no such account.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn account_phone(&self, account: Account) -> Result<Option<Phone>, PeopleError> {
        let Some(row) = self.tables.account(account)? else { return Ok(None) };
        Ok(self.tables.opened_account(&row)?.map(|record| record.phone))
    }

    /// An account's people, ascending.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn members(&self, account: Account) -> Result<Vec<PartyId>, PeopleError> {
        Ok(self.tables.members(account)?)
    }

    /// Whether this person is in this account.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn is_member(&self, account: Account, party: PartyId) -> Result<bool, PeopleError> {
        Ok(self.tables.is_member(account, party)?)
    }

    /// Registers a person, in an account or in none.
    ///
    /// # Errors
    /// Their document is another's, the account is full or gone, or why it could not be done.
    // rule: PPL-1 one identity document is one person's
    pub fn register(
        &self,
        account: Option<Account>,
        person: Person,
        intent: &Intent,
        now: TimestampMs,
    ) -> Result<Done<PartyId>, PeopleError> {
        let document = person.document.as_ref().map(|document| self.document_print(document));
        let phone = person.phone.as_ref().map(|phone| self.phone_print(phone));
        let key = intent.record.key.0.to_be_bytes();
        let mut things: Vec<&[u8]> = vec![&key];
        things.extend(document.as_ref().map(<[u8; 16]>::as_slice));
        things.extend(account.as_ref().map(|account| account.0.as_slice()));
        let mut turn = self.turns.take(&self.engine, &self.store, &things)?;
        if let Some(seq) = self.repeat(intent.record)? {
            let party = self.party_of(intent.party)?;
            return Ok(Done { what: party, seq, replayed: true });
        }
        if let Some(print) = &document
            && let Some(party) = self.tables.party_of_document(print)?
        {
            return Err(PeopleError::Registered(party));
        }
        if let Some(account) = account {
            if self.tables.account(account)?.is_none() {
                return Err(PeopleError::NoAccount);
            }
            if self.tables.members(account)?.len() >= self.config.members_max {
                return Err(PeopleError::Members(self.config.members_max));
            }
        }
        let (id, key) = self.tables.keys.take()?;
        let facts = PartyFacts { birth_year: person.born.facts_year(), ..PartyFacts::default() };
        let added = self.submit(Command::AddParties { count: 1, facts }, Some(intent.party), now)?;
        let Outcome::PartiesAdded { first: party, .. } = added.result? else {
            return Err(PeopleError::Refused(Refusal::IdempotencyConflict));
        };
        let head = Head { what: What::Kept, party: Some(party), other: None, key: id };
        let record = PersonRecord { account, documents: document.into_iter().collect(), phone, person };
        let done = self.append(&mut turn, &head.seal(&key, &record)?, Some(intent.record), now)?;
        Ok(Done { what: party, ..at(done) })
    }

    /// The party that an earlier attempt was given.
    fn party_of(&self, key: Idempotency) -> Result<PartyId, PeopleError> {
        match self.engine.repeat_of(key) {
            Some(Submitted { result: Ok(Outcome::PartiesAdded { first, .. }), .. }) => Ok(first),
            // Its key went before that of the record, which was made after it: the window ended between the two.
            _ => Err(PeopleError::Refused(Refusal::IdempotencyConflict)),
        }
    }

    /// Changes what is kept of a person. `change` is given what there is, and says what there is to be.
    ///
    /// # Errors
    /// There is no such person in this account, the new document is another's, or what `change` says. In an account birth and document
    /// stand once somebody has a place or has had a dose: else the rules are got round, and a dose given away.
    // rule: PPL-1 one identity document is one person's
    pub fn correct(
        &self,
        party: PartyId,
        of: Option<Account>,
        change: impl Fn(&Person) -> Result<Person, PeopleError>,
        intent: &Intent,
        now: TimestampMs,
    ) -> Result<Done<PartyId>, PeopleError> {
        // The document is known only once the record is read, and must be had before it is read for good.
        let mut wanted: Option<Print> = None;
        loop {
            let number = party.0.to_be_bytes();
            let mut things: Vec<&[u8]> = vec![&number];
            things.extend(wanted.as_ref().map(<[u8; 16]>::as_slice));
            let mut turn = self.turns.take(&self.engine, &self.store, &things)?;
            if let Some(seq) = self.repeat(intent.record)? {
                return Ok(Done { what: party, seq, replayed: true });
            }
            let row = self.row(party, of)?;
            let (key, record) = self.tables.opened(&row)?.ok_or_else(|| self.gone(party))?;
            let person = change(&record.person)?;
            let before = record.person.document.as_ref().map(|document| self.document_print(document));
            let after = person.document.as_ref().map(|document| self.document_print(document));
            if after != before && after != wanted {
                wanted = after;
                continue;
            }
            if of.is_some() && (after != before || person.born != record.person.born) {
                let known = self.party(party)?;
                if known.facts.doses > 0 || !known.bookings.is_empty() {
                    return Err(PeopleError::Fixed(party));
                }
            }
            let mut documents = row.documents.clone();
            if after != before {
                if let Some(print) = &after
                    && let Some(other) = self.tables.party_of_document(print)?.filter(|other| *other != party)
                {
                    return Err(PeopleError::Registered(other));
                }
                documents.retain(|print| Some(*print) != before && Some(*print) != after);
                documents.extend(after);
            }
            self.correct_year(party, person.born.facts_year(), intent.facts, now)?;
            let phone = person.phone.as_ref().map(|phone| self.phone_print(phone));
            let what = if person.is_certified_as(&record.person) { What::Kept } else { What::Restated };
            let head = Head { what, party: Some(party), other: None, key: row.key };
            let record = PersonRecord { account: row.account, documents, phone, person };
            let done = self.append(&mut turn, &head.seal(&key, &record)?, Some(intent.record), now)?;
            return Ok(Done { what: party, ..at(done) });
        }
    }

    /// Who judges by the year of birth judges by the new one from here on.
    fn correct_year(&self, party: PartyId, year: u16, key: Idempotency, now: TimestampMs) -> Result<(), PeopleError> {
        for _ in 0..FACTS_TRIES {
            let known = self.party(party)?.facts;
            if known.birth_year == year {
                return Ok(());
            }
            let facts = PartyFacts { birth_year: year, ..known };
            let command = Command::ChangeFacts { party, facts, expected: Some(&known), note: b"" };
            match self.submit(command, Some(key), now)?.result {
                Ok(_) => return Ok(()),
                // A dose was given meanwhile.
                Err(Refusal::ChangedMeanwhile { .. }) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Err(PeopleError::Refused(Refusal::ChangedMeanwhile { party }))
    }

    /// The row of somebody who is in this account, or in any.
    pub(super) fn row(&self, party: PartyId, of: Option<Account>) -> Result<PersonRow, PeopleError> {
        match self.tables.person(party)? {
            Some(row) if of.is_none() || row.account == of => Ok(row),
            Some(_) => Err(PeopleError::Unknown(party)),
            None => Err(self.gone(party)),
        }
    }

    /// What is kept of a person.
    ///
    /// # Errors
    /// Nothing, any more or ever.
    pub fn view(&self, party: PartyId) -> Result<View, PeopleError> {
        let row = self.row(party, None)?;
        let (_, record) = self.tables.opened(&row)?.ok_or_else(|| self.gone(party))?;
        let account_phone = row.account.map(|account| self.account_phone(account)).transpose()?.flatten();
        Ok(View { party, account: row.account, person: record.person, account_phone })
    }

    /// Everybody, from a number on, ascending.
    ///
    /// # Errors
    /// In place of a person: the store cannot be read.
    pub fn views_from(&self, party: PartyId) -> impl Iterator<Item = Result<View, PeopleError>> + '_ {
        self.tables.persons_from(party).filter_map(|row| {
            let (party, row) = match row {
                Ok(row) => row,
                Err(error) => return Some(Err(error.into())),
            };
            match self.tables.opened(&row) {
                Ok(Some((_, record))) => {
                    Some(Ok(View { party, account: row.account, person: record.person, account_phone: None }))
                }
                // Erased since the row was read.
                Ok(None) => None,
                Err(error) => Some(Err(error.into())),
            }
        })
    }

    /// Who has this phone: as their own, or as that of their account.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn of_phone(&self, phone: &Phone) -> Result<Vec<PartyId>, PeopleError> {
        let print = self.phone_print(phone);
        let mut parties = self.tables.parties_of_phone(&print)?;
        if let Some(account) = self.tables.account_of_phone(&print)? {
            parties.extend(self.tables.members(account)?);
        }
        parties.sort_unstable();
        parties.dedup();
        Ok(parties)
    }

    /// Whose document this is.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn of_document(&self, document: &super::Document) -> Result<Option<PartyId>, PeopleError> {
        Ok(self.tables.party_of_document(&self.document_print(document))?)
    }

    pub(super) fn key_of(&self, id: KeyId, party: PartyId) -> Result<super::key_table::SubjectKey, PeopleError> {
        self.tables.keys.get(id)?.ok_or_else(|| self.gone(party))
    }
}

/// The rest of what was done.
fn at(done: Done<()>) -> Done<PartyId> {
    Done { what: PartyId(0), seq: done.seq, replayed: done.replayed }
}
