//! What is noted of doses, sealed under the key of whose they are: who is erased takes it along, and a merge gives it to who stays.
// rule: PPL-6 no personal data stands in the open

use berth_engine::PartyId;

use super::People;
use super::key_table::KeyId;
use super::master::{aead_key, open, seal};
use crate::doses::{DoseNote, NoteKeys};
use crate::store::StoreError;

impl NoteKeys for People {
    fn seal(&self, party: PartyId, note: &DoseNote) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(row) = self.tables.person(party)? else { return Ok(None) };
        // Nothing of somebody who is registered is written in the open because a key is missing.
        let missing = || StoreError::Broken(format!("the key of party {party} is not in the key table"));
        let key = self.tables.keys.get(row.key)?.ok_or_else(missing)?;
        let key = aead_key(&key.of_doses());
        let sealed = crate::doses::sealed::write(note, row.key.0, party, |bound, text| seal(&key, bound, text));
        sealed.map(Some).map_err(|error| StoreError::Broken(format!("a note of a dose cannot be sealed: {error}")))
    }

    fn open(&self, owner: PartyId, key: u64, bound: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(key) = self.tables.dose_key(owner, KeyId(key))? else { return Ok(None) };
        let text = open(&aead_key(&key), bound, sealed);
        text.map(Some).ok_or_else(|| StoreError::Broken(format!("a sealed note of a dose of party {owner} is damaged")))
    }

    fn owner(&self, party: PartyId) -> Result<PartyId, StoreError> {
        self.tables.owner(party)
    }

    fn had(&self, party: PartyId) -> Result<Vec<PartyId>, StoreError> {
        self.tables.had(party)
    }
}
