//! What the policy knows of a party, replaced; and bytes that the engine only writes down.

use super::{Answer, Context, No};
use crate::command::{Outcome, PartyFacts};
use crate::dedupe::Remembered;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::ids::{PartyId, Seq};
use crate::inventory::LockedUpTo;
use crate::journal::entry::Event;

impl Engine {
    /// Inside the party's lock, so that a claim is judged by the facts before or by those after, and a dose that is given meanwhile
    /// is not written over by who does not know of it.
    // rule: PTY-2 facts that were read are not written over once they have changed
    pub(super) fn change_facts(
        &self,
        party: PartyId,
        facts: PartyFacts,
        expected: Option<&PartyFacts>,
        note: &[u8],
        context: Context<'_>,
    ) -> Answer {
        let mut locked: LockedUpTo<'_, 1> = LockedUpTo::lock(&self.inventory.parties, std::iter::once(party))
            .map_err(|party| Refusal::UnknownParty { party })?;
        let record = locked.of(party);
        if expected.is_some_and(|expected| *expected != record.facts) {
            return Err(No::resting_on(record.seq(), Refusal::ChangedMeanwhile { party }));
        }
        let appended = context.append(Event::FactsChanged { party, facts, note: note.to_vec() });
        let seq = appended.seq;
        record.facts = facts;
        record.set_seq(seq);
        appended.keep(Remembered::FactsChanged { party: party.0 });
        Ok((seq, Outcome::FactsChanged { party }))
    }

    /// Under the lock of records, which whoever takes a snapshot has had since: the key of what is durable by then is kept by then. Not under
    /// the administrative one: a bulk publish has that for as long as it takes, and a recall does not wait for it.
    // rule: SNP-1
    pub(super) fn record(&self, kind: u8, bytes: &[u8], context: Context<'_>) -> (Seq, Outcome) {
        let _records = self.inventory.records.lock();
        let appended = context.append(Event::Recorded { kind, bytes: bytes.to_vec() });
        let seq = appended.seq;
        appended.keep(Remembered::Recorded);
        (seq, Outcome::Recorded)
    }
}
