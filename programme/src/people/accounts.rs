//! Accounts that change: another phone, and a person who is put into another account by those who help.

use berth_engine::{PartyId, TimestampMs};

use super::entry::{Account, AccountRecord, Head, MoveRecord, What};
use super::record::Phone;
use super::tables::PersonRow;
use super::turns::Turn;
use super::{Done, Intent, People, PeopleError};

impl People {
    /// Whether this was done before, under the same key: then nothing of it needs to be shown again.
    ///
    /// # Errors
    /// It was refused then.
    pub fn was_done(&self, intent: &Intent) -> Result<bool, PeopleError> {
        Ok(self.repeat(intent.record)?.is_some())
    }

    /// Gives an account another phone. Whoever asks has shown that the phone is theirs, or is somebody who helps. The old phone is nobody's
    /// from then on: it opens another account.
    ///
    /// # Errors
    /// There is no such account, or the phone has one of its own.
    pub fn change_phone(
        &self,
        account: Account,
        phone: &Phone,
        intent: &Intent,
        now: TimestampMs,
    ) -> Result<Done<Account>, PeopleError> {
        let print = self.phone_print(phone);
        let mut turn = self.turns.take(&self.engine, &self.store, &[&print, &account.0])?;
        if let Some(seq) = self.repeat(intent.record)? {
            return Ok(Done { what: account, seq, replayed: true });
        }
        let row = self.tables.account(account)?.ok_or(PeopleError::NoAccount)?;
        if self.tables.account_of_phone(&print)?.is_some_and(|other| other != account) {
            return Err(PeopleError::PhoneTaken);
        }
        let key = self.tables.keys.get(row.key)?.ok_or(PeopleError::NoAccount)?;
        let head = Head { what: What::Opened, party: None, other: None, key: row.key };
        let record = AccountRecord { account, phone: phone.clone(), print };
        let done = self.append(&mut turn, &head.seal(&key, &record)?, Some(intent.record), now)?;
        Ok(Done { what: account, seq: done.seq, replayed: done.replayed })
    }

    /// The account that a person is in.
    ///
    /// # Errors
    /// There is no such person, or they are in none.
    pub fn account_of_person(&self, party: PartyId) -> Result<Account, PeopleError> {
        self.row(party, None)?.account.ok_or(PeopleError::NoAccount)
    }

    /// Puts a person into another account, for who cannot offer them any more: a lost phone, a family that parts. An offer that stands is
    /// void.
    ///
    /// # Errors
    /// There is no such person or account, or it is full.
    pub fn put_into(
        &self,
        party: PartyId,
        to: Account,
        intent: &Intent,
        now: TimestampMs,
    ) -> Result<Done<PartyId>, PeopleError> {
        let number = party.0.to_be_bytes();
        let mut turn = self.turns.take(&self.engine, &self.store, &[&number, &to.0])?;
        if let Some(seq) = self.repeat(intent.record)? {
            return Ok(Done { what: party, seq, replayed: true });
        }
        let row = self.row(party, None)?;
        self.moved(&mut turn, party, &row, to, intent, now)
    }

    pub(super) fn moved(
        &self,
        turn: &mut Turn<'_>,
        party: PartyId,
        row: &PersonRow,
        to: Account,
        intent: &Intent,
        now: TimestampMs,
    ) -> Result<Done<PartyId>, PeopleError> {
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
        let done = self.append(turn, &head.seal(&key, &MoveRecord { to })?, Some(intent.record), now)?;
        Ok(Done { what: party, seq: done.seq, replayed: done.replayed })
    }
}
