//! What stands of people in the journal: a `Recorded` entry's bytes. In the open it says which kind of thing was done, under which key, and
//! to which party; everything else is sealed under the subject's own key.
//!
//! ```text
//! u8  version          1
//! u8  what
//! u32 party            or u32::MAX
//! u32 other party      or u32::MAX
//! u64 key              the place of the subject's key in the key table
//! ...                  nonce, sealed JSON, tag; nothing where a key is destroyed, but the account that is closed
//! ```
//! The head is bound to what is sealed, so none can be put under another's.
// rule: PPL-6 no personal data stands in the open

use berth_engine::PartyId;
use serde::{Deserialize, Serialize};

use super::key_table::{KeyId, SubjectKey};
use super::master::{KEY_BYTES, Print};
use super::record::{Person, Phone};

/// The kind of `Recorded` entries that are of people.
pub const RECORDED_PEOPLE: u8 = 1;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 1 + 4 + 4 + 8;

/// An account: random, says nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Account(pub [u8; 16]);

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Account {
    /// From its 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Account> {
        let good = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        good.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(|number| Account(number.to_be_bytes()))
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum What {
    /// An account was opened, or its phone changed: all of it anew.
    Opened = 1,
    /// A person was registered, or their record changed: all of it anew.
    Kept = 2,
    /// A person's key is to be destroyed.
    Erased = 3,
    /// An account's key is to be destroyed.
    Closed = 4,
    /// A person is offered to another account.
    Offered = 5,
    /// A person went to another account.
    Moved = 6,
    /// A record was of a person who has another: that one stays.
    Merged = 7,
    /// As [`What::Kept`], and something changed of what certificates say of them.
    Restated = 8,
}

impl What {
    fn of(byte: u8) -> Option<What> {
        const ALL: [What; 8] = [
            What::Opened,
            What::Kept,
            What::Erased,
            What::Closed,
            What::Offered,
            What::Moved,
            What::Merged,
            What::Restated,
        ];
        ALL.into_iter().find(|what| *what as u8 == byte)
    }
}

/// The part in the open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) what: What,
    pub(super) party: Option<PartyId>,
    pub(super) other: Option<PartyId>,
    pub(super) key: KeyId,
}

/// What is sealed of an account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AccountRecord {
    pub(super) account: Account,
    pub(super) phone: Phone,
    pub(super) print: Print,
}

/// What is sealed of a person.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PersonRecord {
    pub(super) account: Option<Account>,
    /// Of every document by which they are known.
    pub(super) documents: Vec<Print>,
    /// Of a phone of their own, by which a call centre finds them.
    pub(super) phone: Option<Print>,
    pub(super) person: Person,
}

/// What is sealed of an offer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OfferRecord {
    pub(super) code: Print,
    /// Milliseconds since 1970.
    pub(super) until: u64,
}

/// What is sealed of a merge, under the key of who stays.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MergeRecord {
    /// The documents of who goes.
    pub(super) documents: Vec<Print>,
    /// The keys of what is noted of their doses, by the place of the key that each is derived of; what went to them before, too.
    pub(super) dose_keys: Vec<(u64, [u8; KEY_BYTES])>,
}

/// What is sealed of a transfer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MoveRecord {
    pub(super) to: Account,
}

impl Head {
    pub(super) fn bytes(&self) -> [u8; HEAD_BYTES] {
        let party = |party: Option<PartyId>| party.map_or(u32::MAX, |party| party.0).to_le_bytes();
        let mut bytes = [0; HEAD_BYTES];
        bytes[0] = VERSION;
        bytes[1] = self.what as u8;
        bytes[2..6].copy_from_slice(&party(self.party));
        bytes[6..10].copy_from_slice(&party(self.other));
        bytes[10..].copy_from_slice(&self.key.0.to_le_bytes());
        bytes
    }

    /// The head of an entry and what is sealed behind it; `None` if it is not of this version.
    pub(super) fn split(bytes: &[u8]) -> Option<(Head, &[u8])> {
        let (head, sealed) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let party = |at: usize| {
            let number = u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?);
            Some((number != u32::MAX).then_some(PartyId(number)))
        };
        let key = KeyId(u64::from_le_bytes(head.get(10..)?.try_into().ok()?));
        let what = What::of(head[1])?;
        (head[0] == VERSION).then_some((Head { what, party: party(2)?, other: party(6)?, key }, sealed))
    }

    /// An entry with this head.
    pub(super) fn seal(&self, key: &SubjectKey, record: &impl Serialize) -> std::io::Result<Vec<u8>> {
        let text = serde_json::to_vec(record)?;
        let head = self.bytes();
        Ok([&head[..], &key.seal(&head, &text)?].concat())
    }

    /// What is sealed behind it; `None` if it was changed, or is of another shape.
    pub(super) fn open<T: for<'de> Deserialize<'de>>(&self, key: &SubjectKey, sealed: &[u8]) -> Option<T> {
        serde_json::from_slice(&key.open(&self.bytes(), sealed)?).ok()
    }
}

/// The party that a `Recorded` entry says is no more: erased, or merged into another.
pub(crate) fn no_more(kind: u8, bytes: &[u8]) -> Option<PartyId> {
    let (head, _) = (kind == RECORDED_PEOPLE).then(|| Head::split(bytes))??;
    match head.what {
        What::Erased => head.party,
        What::Merged => head.other,
        What::Opened | What::Kept | What::Closed | What::Offered | What::Moved | What::Restated => None,
    }
}

/// What changes the certificates of a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Something of what they say of the person.
    Restated(PartyId),
    /// Two records went together.
    Merged {
        /// Whose they are now.
        stays: PartyId,
        /// Whose some were.
        goes: PartyId,
    },
}

/// What a `Recorded` entry changes of certificates.
pub(crate) fn changed(kind: u8, bytes: &[u8]) -> Option<Changed> {
    let (head, _) = (kind == RECORDED_PEOPLE).then(|| Head::split(bytes))??;
    match (head.what, head.party, head.other) {
        (What::Restated, Some(party), _) => Some(Changed::Restated(party)),
        (What::Merged, Some(stays), Some(goes)) => Some(Changed::Merged { stays, goes }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::key_table::KeyTable;
    use super::super::master::MasterKey;
    use super::*;

    #[test]
    fn an_entry_says_key_and_party_in_the_open_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyTable::open(&dir.path().join("keys"), Arc::new(MasterKey::new(&[1; 32]))).unwrap();
        let (id, key) = keys.take().unwrap();
        let head = Head { what: What::Moved, party: Some(PartyId(7)), other: None, key: id };
        let record = MoveRecord { to: Account([0xaa; 16]) };
        let entry = head.seal(&key, &record).unwrap();
        let (read, sealed) = Head::split(&entry).unwrap();
        assert_eq!(read, head);
        assert!(read.open::<MoveRecord>(&key, sealed) == Some(record));
        let other = Head { party: Some(PartyId(8)), ..head };
        assert!(other.open::<MoveRecord>(&key, sealed).is_none(), "put under another's head");
        assert!(!entry.windows(3).any(|three| three == b"170" || three == b"\"to"), "nothing is readable");
        for len in 0..HEAD_BYTES {
            assert!(Head::split(&entry[..len]).is_none());
        }
        for (at, byte) in [(0, 2), (1, 0), (1, 9)] {
            let mut changed = entry.clone();
            changed[at] = byte;
            assert!(Head::split(&changed).is_none(), "byte {at} is {byte}");
        }
    }

    #[test]
    fn an_account_has_one_spelling() {
        let account = Account([0x0f; 16]);
        assert_eq!(Account::parse(&account.to_string()), Some(account));
        for bad in ["", "0f", &"0F".repeat(16), &"+f".repeat(16)] {
            assert_eq!(Account::parse(bad), None, "{bad}");
        }
    }
}
