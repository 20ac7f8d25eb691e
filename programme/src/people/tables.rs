//! People as the store has them: a projection of the journal. Rows hold what the journal held, sealed as it was there; in the open stand
//! numbers, keys' places, and keyed prints by which somebody is found again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::{PartyId, Seq};

use super::entry::{
    Account, AccountRecord, Head, MergeRecord, MoveRecord, OfferRecord, PersonRecord, RECORDED_PEOPLE, What,
};
use super::key_table::{KeyId, KeyTable, KeyTableError, SubjectKey};
use super::master::{KEY_BYTES, Print};
use super::merging::Taken;
use crate::store::{Change, Projection, Store, StoreError, Table};

/// The tables, and the keys by which they are read.
pub(super) struct Tables {
    /// Party: key's place, account or zeros, prints of documents; then head and what is sealed.
    persons: Table,
    /// Account: key's place, print of its phone; then head and what is sealed.
    accounts: Table,
    /// Print of a phone: account.
    phones: Table,
    /// Print of an identity document: party.
    documents: Table,
    /// Print of a person's own phone, and party.
    own_phones: Table,
    /// Account and party.
    members: Table,
    /// Party: until, code's print.
    offers: Table,
    /// Party whose record was merged: party that it went to.
    merged: Table,
    /// Who stays, and everybody whose record went to them, by whatever way.
    had: Table,
    /// Who stays, and the place of a key whose doses are theirs now: the entry that has the key of those doses.
    dose_keys: Table,
    /// Who is to stay and who is to go: doses that a merge which is not done yet has brought over.
    taken: Table,
    /// The key table that is this store's, and the newest key that an entry was sealed under.
    meta: Table,
    newest: AtomicU64,
    pub(super) keys: Arc<KeyTable>,
    /// Records whose key is gone, or was never in this table.
    pub(super) unreadable: AtomicU64,
}

/// A person's row.
#[derive(Clone)]
pub(super) struct PersonRow {
    pub(super) key: KeyId,
    pub(super) account: Option<Account>,
    pub(super) documents: Vec<Print>,
    pub(super) phone: Option<Print>,
    head: Vec<u8>,
}

/// An account's row.
#[derive(Clone)]
pub(super) struct AccountRow {
    pub(super) key: KeyId,
    print: Print,
    head: Vec<u8>,
}

const META: &str = "people.meta";
const KEY_TABLE_ID: &[u8] = b"key table";
const NEWEST_KEY: &[u8] = b"newest key";
/// How often the key table had destroyed one when this store last saw it.
const DESTROYED: &[u8] = b"destroyed";

fn destroyed(meta: &Table) -> Result<u64, StoreError> {
    Ok(meta.get(DESTROYED)?.and_then(|row| row.try_into().ok()).map_or(0, u64::from_le_bytes))
}

/// As the packed or resting store in this directory has it.
pub(super) fn destroyed_of(store: &Store) -> Result<u64, StoreError> {
    destroyed(&store.table(META)?)
}

fn damaged(what: &str) -> StoreError {
    StoreError::Broken(format!("a row of {what} is damaged"))
}

impl From<KeyTableError> for StoreError {
    fn from(error: KeyTableError) -> StoreError {
        StoreError::Broken(format!("the key table: {error}"))
    }
}

/// Reads a row from its front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn some<const N: usize>(&mut self) -> Option<Option<[u8; N]>> {
        let [there] = self.bytes::<1>()?;
        if there == 0 { Some(None) } else { self.bytes().map(Some) }
    }
}

impl PersonRow {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.key.0.to_le_bytes().to_vec();
        let mut some = |value: Option<[u8; 16]>| {
            bytes.push(u8::from(value.is_some()));
            bytes.extend(value.iter().flatten());
        };
        some(self.account.map(|account| account.0));
        some(self.phone);
        bytes.push(u8::try_from(self.documents.len()).unwrap_or(u8::MAX));
        self.documents.iter().take(usize::from(u8::MAX)).for_each(|print| bytes.extend(print));
        bytes.extend(&self.head);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<PersonRow> {
        let mut reader = Reader(bytes);
        let key = KeyId(u64::from_le_bytes(reader.bytes()?));
        let account = reader.some()?.map(Account);
        let phone = reader.some()?;
        let [count] = reader.bytes::<1>()?;
        let documents = (0..count).map(|_| reader.bytes()).collect::<Option<_>>()?;
        Some(PersonRow { key, account, documents, phone, head: reader.0.to_vec() })
    }
}

impl AccountRow {
    fn bytes(&self) -> Vec<u8> {
        [&self.key.0.to_le_bytes()[..], &self.print, &self.head].concat()
    }

    fn read(bytes: &[u8]) -> Option<AccountRow> {
        let mut reader = Reader(bytes);
        let key = KeyId(u64::from_le_bytes(reader.bytes()?));
        let print = reader.bytes()?;
        Some(AccountRow { key, print, head: reader.0.to_vec() })
    }
}

fn number(party: PartyId) -> [u8; 4] {
    party.0.to_be_bytes()
}

fn pair(first: &[u8; 16], party: PartyId) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(first);
    key[16..].copy_from_slice(&number(party));
    key
}

fn both(one: PartyId, other: PartyId) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&number(one));
    key[4..].copy_from_slice(&number(other));
    key
}

fn place_of(party: PartyId, key: KeyId) -> [u8; 12] {
    let mut row = [0; 12];
    row[..4].copy_from_slice(&number(party));
    row[4..].copy_from_slice(&key.0.to_be_bytes());
    row
}

fn party_of(bytes: &[u8]) -> Option<PartyId> {
    let (_, last) = bytes.split_last_chunk::<4>()?;
    Some(PartyId(u32::from_be_bytes(*last)))
}

impl Tables {
    pub(super) fn open(store: &Store, keys: Arc<KeyTable>) -> Result<Tables, StoreError> {
        let meta = store.table(META)?;
        let newest = meta.get(NEWEST_KEY)?.and_then(|row| row.try_into().ok()).map_or(0, u64::from_le_bytes);
        Ok(Tables {
            meta,
            newest: AtomicU64::new(newest),
            persons: store.table("people.persons")?,
            accounts: store.table("people.accounts")?,
            phones: store.table("people.phones")?,
            documents: store.table("people.documents")?,
            own_phones: store.table("people.own_phones")?,
            members: store.table("people.members")?,
            offers: store.table("people.offers")?,
            merged: store.table("people.merged")?,
            had: store.table("people.had")?,
            dose_keys: store.table("people.dose_keys")?,
            taken: store.table("people.taken")?,
            keys,
            unreadable: AtomicU64::new(0),
        })
    }

    /// The key table that this store was made with; `None`: it has seen none yet.
    pub(super) fn key_table(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.meta.get(KEY_TABLE_ID)
    }

    /// From now on it is this one.
    pub(super) fn keep_key_table(&self) -> Result<(), StoreError> {
        self.meta.set(KEY_TABLE_ID, &self.keys.id())
    }

    /// How often the key table had destroyed a key when this store last saw it: a copy from before knows of fewer.
    pub(super) fn destroyed(&self) -> Result<u64, StoreError> {
        destroyed(&self.meta)
    }

    /// Every key that a person or an account has.
    pub(super) fn live_keys(&self) -> Result<HashSet<KeyId>, StoreError> {
        let persons = self.persons_from(PartyId(0)).map(|row| Ok(row?.1.key));
        let accounts = self.accounts.scan(b"");
        let accounts = accounts.map(|row| Ok(AccountRow::read(&row?.1).ok_or_else(|| damaged("accounts"))?.key));
        persons.chain(accounts).collect()
    }

    /// The newest key under which anything was sealed.
    pub(super) fn newest_key(&self) -> KeyId {
        KeyId(self.newest.load(Relaxed))
    }

    pub(super) fn person(&self, party: PartyId) -> Result<Option<PersonRow>, StoreError> {
        let row = self.persons.get(&number(party))?;
        row.map(|bytes| PersonRow::read(&bytes).ok_or_else(|| damaged("persons"))).transpose()
    }

    /// The persons from this party on, ascending.
    pub(super) fn persons_from(
        &self,
        party: PartyId,
    ) -> impl Iterator<Item = Result<(PartyId, PersonRow), StoreError>> + use<> {
        self.persons.from(&number(party)).map(|row| {
            let (key, bytes) = row?;
            party_of(&key).zip(PersonRow::read(&bytes)).ok_or_else(|| damaged("persons"))
        })
    }

    pub(super) fn account(&self, account: Account) -> Result<Option<AccountRow>, StoreError> {
        let row = self.accounts.get(&account.0)?;
        row.map(|bytes| AccountRow::read(&bytes).ok_or_else(|| damaged("accounts"))).transpose()
    }

    pub(super) fn account_of_phone(&self, print: &Print) -> Result<Option<Account>, StoreError> {
        let row = self.phones.get(print)?;
        row.map(|bytes| bytes.try_into().map(Account).map_err(|_| damaged("phones"))).transpose()
    }

    pub(super) fn party_of_document(&self, print: &Print) -> Result<Option<PartyId>, StoreError> {
        let row = self.documents.get(print)?;
        row.map(|bytes| party_of(&bytes).ok_or_else(|| damaged("documents"))).transpose()
    }

    /// Everybody who has this phone as their own, ascending.
    pub(super) fn parties_of_phone(&self, print: &Print) -> Result<Vec<PartyId>, StoreError> {
        let found = self.own_phones.scan(print);
        found.map(|row| party_of(&row?.0).ok_or_else(|| damaged("own_phones"))).collect()
    }

    /// An account's people, ascending.
    pub(super) fn members(&self, account: Account) -> Result<Vec<PartyId>, StoreError> {
        self.members.scan(&account.0).map(|row| party_of(&row?.0).ok_or_else(|| damaged("members"))).collect()
    }

    pub(super) fn is_member(&self, account: Account, party: PartyId) -> Result<bool, StoreError> {
        self.members.has(&pair(&account.0, party))
    }

    /// The offer of a person: until when, and its code's print.
    pub(super) fn offer(&self, party: PartyId) -> Result<Option<OfferRecord>, StoreError> {
        let Some(bytes) = self.offers.get(&number(party))? else { return Ok(None) };
        let mut reader = Reader(&bytes);
        let record = reader.bytes().map(u64::from_le_bytes).zip(reader.bytes());
        record.map(|(until, code)| Some(OfferRecord { code, until })).ok_or_else(|| damaged("offers"))
    }

    /// The party that a merged one went to.
    pub(super) fn merged_into(&self, party: PartyId) -> Result<Option<PartyId>, StoreError> {
        Ok(self.merged.get(&number(party))?.as_deref().and_then(party_of))
    }

    /// Who a party is now: itself, or who its record was merged into, and so on.
    pub(super) fn owner(&self, party: PartyId) -> Result<PartyId, StoreError> {
        let mut owner = party;
        while let Some(into) = self.merged_into(owner)? {
            owner = into;
        }
        Ok(owner)
    }

    /// Everybody whose record went to this party.
    pub(super) fn had(&self, party: PartyId) -> Result<Vec<PartyId>, StoreError> {
        self.had.scan(&number(party)).map(|row| party_of(&row?.0).ok_or_else(|| damaged("had"))).collect()
    }

    /// Doses that a merge of these two, which is not done yet, has brought over.
    pub(super) fn taken(&self, stays: PartyId, goes: PartyId) -> Result<u8, StoreError> {
        Ok(self.taken.get(&both(stays, goes))?.and_then(|row| row.first().copied()).unwrap_or(0))
    }

    /// The key of what is noted of a party's doses: of its own, or of one whose record went to it. `None` once it is destroyed.
    pub(super) fn dose_key(&self, owner: PartyId, id: KeyId) -> Result<Option<[u8; KEY_BYTES]>, StoreError> {
        if let Some(key) = self.keys.get(id)? {
            return Ok(Some(key.of_doses()));
        }
        let Some(entry) = self.dose_keys.get(&place_of(owner, id))? else { return Ok(None) };
        let (head, sealed) = Head::split(&entry).ok_or_else(|| damaged("dose_keys"))?;
        let Some(key) = self.keys.get(head.key)? else { return Ok(None) };
        let record: MergeRecord = head.open(&key, sealed).ok_or_else(|| damaged("dose_keys"))?;
        Ok(record.dose_keys.into_iter().find(|(place, _)| *place == id.0).map(|(_, key)| key))
    }

    /// The keys of doses that go with a party's record: its own, and those that went to it before.
    pub(super) fn dose_keys(&self, party: PartyId, own: KeyId) -> Result<Vec<(u64, [u8; KEY_BYTES])>, StoreError> {
        let mut ids = vec![own];
        for row in self.dose_keys.scan(&number(party)) {
            let (key, _) = row?;
            let (_, place) = key.split_last_chunk::<8>().ok_or_else(|| damaged("dose_keys"))?;
            ids.push(KeyId(u64::from_be_bytes(*place)));
        }
        let keys = ids.into_iter().map(|id| Ok(self.dose_key(party, id)?.map(|key| (id.0, key))));
        keys.filter_map(Result::transpose).collect()
    }

    /// What is sealed in a person's row; `None` once the key is destroyed.
    pub(super) fn opened(&self, row: &PersonRow) -> Result<Option<(SubjectKey, PersonRecord)>, StoreError> {
        let Some(key) = self.keys.get(row.key)? else { return Ok(None) };
        let (head, sealed) = Head::split(&row.head).ok_or_else(|| damaged("persons"))?;
        let record = head.open(&key, sealed).ok_or_else(|| damaged("persons"))?;
        Ok(Some((key, record)))
    }

    /// What is sealed in an account's row.
    pub(super) fn opened_account(&self, row: &AccountRow) -> Result<Option<AccountRecord>, StoreError> {
        let Some(key) = self.keys.get(row.key)? else { return Ok(None) };
        let (head, sealed) = Head::split(&row.head).ok_or_else(|| damaged("accounts"))?;
        head.open(&key, sealed).map(Some).ok_or_else(|| damaged("accounts"))
    }

    fn apply_record(&self, change: &mut Change, seq: Seq, bytes: &[u8]) -> Result<(), StoreError> {
        let not_understood = || StoreError::Broken(format!("entry {seq} of people is not understood"));
        let (head, sealed) = Head::split(bytes).ok_or_else(not_understood)?;
        if head.key.0 > self.newest.fetch_max(head.key.0, Relaxed) {
            change.put(&self.meta, NEWEST_KEY, &head.key.0.to_le_bytes());
        }
        match (head.what, head.party) {
            // Before the rows go, and with them what knows of the key: a crash between does it again.
            (What::Erased, Some(party)) => {
                self.destroy(change, head.key)?;
                self.forget(change, party)?;
                return Ok(());
            }
            // Behind the head stands the account, in the open: it says nothing.
            (What::Closed, _) => {
                let account = Account(sealed.try_into().map_err(|_| not_understood())?);
                self.destroy(change, head.key)?;
                if let Some(row) = self.account(account)? {
                    change.remove(&self.phones, &row.print);
                }
                change.remove(&self.accounts, &account.0);
                return Ok(());
            }
            _ => {}
        }
        if let (What::Merged, Some(stays), Some(goes)) = (head.what, head.party, head.other) {
            // What is in the open is done whoever may be read: who stays may have been erased since.
            if let Some(row) = self.person(goes)? {
                self.destroy(change, row.key)?;
                self.unlink(change, goes, &row);
                change.remove(&self.persons, &number(goes));
            }
            change.remove(&self.offers, &number(goes));
            change.put(&self.merged, &number(goes), &number(stays));
            change.remove(&self.taken, &both(stays, goes));
            change.remove(&self.taken, &both(goes, stays));
            for one in self.had(goes)?.into_iter().chain([goes]) {
                change.put(&self.had, &both(stays, one), b"");
            }
            self.forget_dose_keys(change, goes)?;
        }
        let Some(key) = self.keys.get(head.key)? else {
            // Erased later in the log, or in a table that was put back from before: there is nothing to show.
            self.unreadable.fetch_add(1, Relaxed);
            return Ok(());
        };
        match (head.what, head.party, head.other) {
            (What::Opened, ..) => {
                let record: AccountRecord = head.open(&key, sealed).ok_or_else(not_understood)?;
                let row = AccountRow { key: head.key, print: record.print, head: bytes.to_vec() };
                // Its phone was changed.
                if let Some(before) = self.account(record.account)?.filter(|before| before.print != record.print) {
                    change.remove(&self.phones, &before.print);
                }
                change.put(&self.accounts, &record.account.0, &row.bytes());
                change.put(&self.phones, &record.print, &record.account.0);
            }
            (What::Kept | What::Restated, Some(party), _) => {
                let record: PersonRecord = head.open(&key, sealed).ok_or_else(not_understood)?;
                if let Some(before) = self.person(party)? {
                    self.unlink(change, party, &before);
                }
                let PersonRecord { account, documents, phone, .. } = record;
                let row = PersonRow { key: head.key, account, documents, phone, head: bytes.to_vec() };
                self.link(change, party, &row);
            }
            (What::Offered, Some(party), _) => {
                let record: OfferRecord = head.open(&key, sealed).ok_or_else(not_understood)?;
                let row = [&record.until.to_le_bytes()[..], &record.code].concat();
                change.put(&self.offers, &number(party), &row);
            }
            (What::Moved, Some(party), _) => {
                let record: MoveRecord = head.open(&key, sealed).ok_or_else(not_understood)?;
                if let Some(before) = self.person(party)? {
                    self.unlink(change, party, &before);
                    self.link(change, party, &PersonRow { account: Some(record.to), ..before });
                }
                change.remove(&self.offers, &number(party));
            }
            // Sealed under the key of who stays; the other's key is destroyed.
            (What::Merged, Some(stays), Some(_)) => {
                // Before doses were sealed an entry had the documents alone.
                let plain = || Some(MergeRecord { documents: head.open(&key, sealed)?, dose_keys: Vec::new() });
                let record = head.open::<MergeRecord>(&key, sealed).or_else(plain).ok_or_else(not_understood)?;
                let MergeRecord { documents, dose_keys } = record;
                for (place, _) in dose_keys {
                    change.put(&self.dose_keys, &place_of(stays, KeyId(place)), bytes);
                }
                if let Some(mut row) = self.person(stays)? {
                    let new: Vec<Print> =
                        documents.into_iter().filter(|print| !row.documents.contains(print)).collect();
                    row.documents.extend(new);
                    self.link(change, stays, &row);
                }
            }
            _ => return Err(not_understood()),
        }
        Ok(())
    }

    fn destroy(&self, change: &mut Change, key: KeyId) -> Result<(), StoreError> {
        // An older copy of the table counts fewer: that it is one must still be seen when a newer one takes its place.
        let ever = self.keys.destroy(key)?.max(destroyed(&self.meta)?);
        change.put(&self.meta, DESTROYED, &ever.to_le_bytes());
        Ok(())
    }

    fn forget(&self, change: &mut Change, party: PartyId) -> Result<(), StoreError> {
        if let Some(row) = self.person(party)? {
            self.unlink(change, party, &row);
        }
        change.remove(&self.persons, &number(party));
        change.remove(&self.offers, &number(party));
        self.forget_dose_keys(change, party)
    }

    fn forget_dose_keys(&self, change: &mut Change, party: PartyId) -> Result<(), StoreError> {
        for row in self.dose_keys.scan(&number(party)) {
            change.remove(&self.dose_keys, &row?.0);
        }
        Ok(())
    }

    fn link(&self, change: &mut Change, party: PartyId, row: &PersonRow) {
        change.put(&self.persons, &number(party), &row.bytes());
        for print in &row.documents {
            change.put(&self.documents, print, &number(party));
        }
        if let Some(account) = row.account {
            change.put(&self.members, &pair(&account.0, party), b"");
        }
        if let Some(phone) = row.phone {
            change.put(&self.own_phones, &pair(&phone, party), b"");
        }
    }

    fn unlink(&self, change: &mut Change, party: PartyId, row: &PersonRow) {
        for print in &row.documents {
            change.remove(&self.documents, print);
        }
        if let Some(account) = row.account {
            change.remove(&self.members, &pair(&account.0, party));
        }
        if let Some(phone) = row.phone {
            change.remove(&self.own_phones, &pair(&phone, party));
        }
    }
}

impl Projection for Tables {
    fn apply(&self, change: &mut Change, seq: Seq, entry: &Entry) -> Result<(), StoreError> {
        match &entry.event {
            Event::Recorded { kind: RECORDED_PEOPLE, bytes } => self.apply_record(change, seq, bytes),
            Event::FactsChanged { party, note, .. } => {
                if let Some(Taken { goes, doses }) = Taken::decode(note) {
                    match doses {
                        0 => change.remove(&self.taken, &both(*party, goes)),
                        doses => change.put(&self.taken, &both(*party, goes), &[doses]),
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
