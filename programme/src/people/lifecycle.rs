//! What becomes of a record: given to another account, or erased. Merging is in [`merging`](super::merging).

use berth_engine::{By, Command, Idempotency, PartyId, State, TimestampMs};

use super::entry::{Account, Head, OfferRecord, What};
use super::master::Print;
use super::{Done, Intent, People, PeopleError};

/// What the code of an offer is made of: nothing that looks like something else.
const CODE_SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Fifty bits: at any rate of asking it is not guessed within the days that an offer stands.
const CODE_LEN: usize = 10;

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
        self.moved(&mut turn, party, &row, to, intent, now)
    }

    fn offer_print(&self, party: PartyId, code: &str) -> Print {
        self.offers.of(&[b"print", &party.0.to_be_bytes(), code.as_bytes()])
    }

    /// Forgets a person: their key is destroyed, and with it whatever is sealed under it, in the journal, its copies and backups of the
    /// store. What the engine counts stays; nothing can be claimed for the party any more.
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
        // rule: PPL-3 nobody takes a place for a number that is nobody any more
        let closed = self.close_party(party, now, || self.without_claims(party))?;
        let head = Head { what: What::Erased, party: Some(party), other: None, key: row.key };
        let done = match self.append(&mut turn, &head.bytes(), Some(idempotency), now) {
            Ok(done) => done,
            Err(error) => {
                // A disk that is full takes no record: then all is as it was.
                self.open_party(party, closed, now)?;
                return Err(error);
            }
        };
        drop(turn);
        // Nothing could be claimed any more; what is there all the same, by whatever way, nobody could give back.
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
