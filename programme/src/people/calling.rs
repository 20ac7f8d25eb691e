//! Many persons at once, for a list of whom to call: read in the order in which they lie.

use std::collections::{BTreeSet, HashMap};

use berth_engine::PartyId;

use super::members::View;
use super::{People, PeopleError};

impl People {
    /// What is kept of these, by their numbers. Of whom nothing is kept, any more or ever, and of whom the record went to another, there is
    /// nothing.
    ///
    /// # Errors
    /// The store or the keys cannot be read.
    pub fn views_of(&self, parties: &[PartyId]) -> Result<HashMap<PartyId, View>, PeopleError> {
        let parties: Vec<PartyId> = parties.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let mut rows = read_all(&parties, |party| Ok(self.tables.person(*party)?.map(|row| (*party, row))))?;
        let accounts: Vec<_> =
            rows.iter().filter_map(|(_, row)| row.account).collect::<BTreeSet<_>>().into_iter().collect();
        let phones = read_all(&accounts, |account| Ok(self.account_phone(*account)?.map(|phone| (*account, phone))))?;
        let phones: HashMap<_, _> = phones.into_iter().collect();
        rows.sort_unstable_by_key(|(_, row)| row.key);
        let views = read_all(&rows, |(party, row)| {
            // Erased since the row was read: nothing.
            let opened = self.tables.opened(row)?;
            let account_phone = row.account.and_then(|account| phones.get(&account)).cloned();
            Ok(opened.map(|(_, record)| View {
                party: *party,
                account: row.account,
                person: record.person,
                account_phone,
            }))
        })?;
        Ok(views.into_iter().map(|view| (view.party, view)).collect())
    }
}

/// Reads each, in order.
fn read_all<T, R>(all: &[T], read: impl Fn(&T) -> Result<Option<R>, PeopleError>) -> Result<Vec<R>, PeopleError> {
    all.iter().filter_map(|one| read(one).transpose()).collect()
}
