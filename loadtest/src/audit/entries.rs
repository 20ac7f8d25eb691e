//! The journal's entries, as `berth export --entries` prints them: read one after the other, as often as they are wanted.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::lines::read_lines;
use super::record::Claim;
use crate::error::CannotRun;
use crate::name::{Name, Word};
use crate::wire::timestamp_us;

/// Where the entries are.
#[derive(Debug)]
pub(crate) enum Entries {
    File(PathBuf),
    /// In memory: of tests, and of a run without any.
    Listed(Vec<Entry>),
}

impl Default for Entries {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl Entries {
    /// All entries in the order of the journal.
    pub(crate) fn each(&self, mut each: impl FnMut(&Entry)) -> Result<(), CannotRun> {
        match self {
            Self::Listed(entries) => {
                entries.iter().for_each(each);
                Ok(())
            }
            Self::File(path) => read_lines(path, Entry::parse, |entry| {
                each(&entry);
                Ok(())
            }),
        }
    }
}

/// One line of the journal, as far as the auditor reads it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) at_us: Option<i64>,
    pub(crate) kind: Word,
    /// New claims with their codes: of a hold, a booking, or a move's new place.
    pub(crate) claims: Vec<EntryClaim>,
    /// Codes that this entry changes: a hold's, or a booking's.
    pub(crate) changes: Vec<Name>,
    pub(crate) expires_us: Option<i64>,
    /// Of a grace: deadlines from the first and before the second are put off to the second.
    pub(crate) grace_us: Option<(i64, i64)>,
    /// Slots and the capacity that this entry gives them, where it says so.
    pub(crate) capacities: Vec<(Name, u64)>,
    /// The engine's hash of the idempotency key it was written for.
    pub(crate) key: Option<u128>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            seq: 0,
            at_us: None,
            kind: Word::new(""),
            claims: Vec::new(),
            changes: Vec::new(),
            expires_us: None,
            grace_us: None,
            capacities: Vec::new(),
            key: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct EntryClaim {
    pub(crate) booking: Name,
    pub(crate) party: Name,
    pub(crate) slot: Name,
    pub(crate) dose: u8,
}

impl EntryClaim {
    pub(crate) fn claim(&self) -> Claim {
        Claim { party: self.party, slot: self.slot, dose: self.dose }
    }
}

/// The fields of all kinds. What an entry says beside them is nothing to the auditor.
#[derive(Deserialize)]
struct EntryLine<'a> {
    seq: u64,
    kind: Word,
    #[serde(borrow, default)]
    at: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    expires_at: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    claims: Vec<Named>,
    #[serde(default)]
    bookings: Vec<Named>,
    #[serde(default)]
    booking: Option<Name>,
    #[serde(default)]
    hold: Option<Name>,
    /// Of a move a code, of a grace a time.
    #[serde(borrow, default)]
    from: Option<Cow<'a, str>>,
    #[serde(default)]
    moved_from: Option<Name>,
    #[serde(borrow, default)]
    until: Option<Cow<'a, str>>,
    #[serde(default)]
    to: Option<EntryClaim>,
    #[serde(default)]
    slots: Vec<SlotIn>,
    #[serde(default)]
    slot: Option<Name>,
    #[serde(default)]
    capacity: Option<u64>,
}

#[derive(Deserialize)]
struct SlotIn {
    slot: Name,
    #[serde(default)]
    capacity: Option<u64>,
}

/// A code that stands alone, or with its claim.
struct Named {
    booking: Name,
    claim: Option<Claim>,
}

impl Named {
    fn entry_claim(&self) -> Option<EntryClaim> {
        let Claim { party, slot, dose } = self.claim?;
        Some(EntryClaim { booking: self.booking, party, slot, dose })
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            booking: Name,
            party: Option<Name>,
            slot: Option<Name>,
            dose: Option<u8>,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Named;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a code or a claim")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Named, E> {
                Ok(Named { booking: Name::new(text), claim: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Named, A::Error> {
                let fields = Fields::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let claim = fields.party.zip(fields.slot).zip(fields.dose);
                let claim = claim.map(|((party, slot), dose)| Claim { party, slot, dose });
                Ok(Named { booking: fields.booking, claim })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Entry {
    /// Reads one entry. Codes may stand alone (`booking`, `hold`, `from`, `moved_from`), in a list (`bookings`), or in
    /// claims.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let line: EntryLine<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let time = |text: &Option<Cow<'_, str>>| text.as_deref().and_then(timestamp_us);
        let mut entry = Self {
            seq: line.seq,
            kind: line.kind,
            at_us: time(&line.at),
            expires_us: time(&line.expires_at),
            key: line.key.as_deref().map(key_of),
            ..Self::default()
        };
        match &*line.kind {
            "held" | "offered" | "booked" | "walked_in" => {
                entry.claims = line.claims.iter().filter_map(Named::entry_claim).collect();
            }
            "moved" | "reassigned" => {
                let listed = line.claims.iter().filter_map(Named::entry_claim);
                entry.claims = line.to.map_or_else(|| listed.collect(), |to| vec![to]);
                let from = line.from.as_deref().map(Name::new);
                entry.changes = from.or(line.moved_from).or(line.booking).into_iter().collect();
            }
            "published" => {
                entry.capacities = line.slots.iter().filter_map(|slot| Some((slot.slot, slot.capacity?))).collect();
            }
            "holds_graced" => entry.grace_us = time(&line.from).zip(time(&line.until)),
            "slot_changed" => entry.capacities = line.slot.zip(line.capacity).into_iter().collect(),
            _ => {
                let listed = if line.claims.is_empty() { &line.bookings } else { &line.claims };
                entry.changes = listed.iter().map(|named| named.booking).collect();
                if entry.changes.is_empty() {
                    entry.changes = line.booking.or(line.hold).into_iter().collect();
                }
            }
        }
        let needs = matches!(&*entry.kind, "held" | "offered" | "booked" | "walked_in" | "moved" | "reassigned");
        if needs && entry.claims.is_empty() {
            return Err(format!("entry {} is {} and names no claims", entry.seq, entry.kind));
        }
        Ok(entry)
    }
}

/// A key's hash is 128 bits in hexadecimal digits; of anything else its name is as good.
pub(crate) fn key_of(text: &str) -> u128 {
    u128::from_str_radix(text, 16).unwrap_or_else(|_| u128::from(Name::new(text).bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_in_every_shape() {
        let held = Entry::parse(
            r#"{"seq":7,"at":"2026-11-23T10:00:00Z","kind":"held","claims":[{"booking":"B","party":"p1.1","slot":"s1.2","dose":1}],"expires_at":"2026-11-23T10:00:08Z"}"#,
        )
        .unwrap();
        assert_eq!((held.seq, held.claims.len(), held.expires_us.unwrap() - held.at_us.unwrap()), (7, 1, 8_000_000));
        let confirmed = Entry::parse(r#"{"seq":8,"kind":"confirmed","hold":"B"}"#).unwrap();
        assert_eq!(confirmed.changes, [Name::new("B")]);
        let graced = Entry::parse(
            r#"{"seq":8,"kind":"holds_graced","from":"2026-11-23T10:00:01Z","until":"2026-11-23T10:00:03Z"}"#,
        );
        assert_eq!(graced.unwrap().grace_us.map(|(from, until)| until - from), Some(2_000_000));
        let both = [Name::new("B"), Name::new("C")];
        let listed = Entry::parse(r#"{"seq":8,"kind":"expired","claims":[{"booking":"B"},{"booking":"C"}]}"#).unwrap();
        assert_eq!(listed.changes, both);
        let alone = Entry::parse(r#"{"seq":8,"kind":"group_cancelled","bookings":["B","C"]}"#).unwrap();
        assert_eq!(alone.changes, both);
        let moved = Entry::parse(
            r#"{"seq":9,"kind":"moved","from":"B","to":{"booking":"C","party":"p1.1","slot":"s1.3","dose":1}}"#,
        )
        .unwrap();
        assert_eq!((moved.changes[0], moved.claims[0].booking), (Name::new("B"), Name::new("C")));
        assert!(Entry::parse(r#"{"seq":9,"kind":"held"}"#).is_err());
        let published =
            Entry::parse(r#"{"seq":3,"kind":"published","slots":[{"capacity":12,"slot":"s1.0"}]}"#).unwrap();
        assert_eq!(published.capacities, [(Name::new("s1.0"), 12)]);
        let keyed = Entry::parse(r#"{"seq":3,"kind":"note","key":"46550262e11b08e6882365e15880dd03"}"#).unwrap();
        assert_eq!(keyed.key, Some(0x4655_0262_e11b_08e6_8823_65e1_5880_dd03));
    }
}
