//! What the store keeps of lotteries: rows by lottery, and below it by party or by place.

use berth_engine::journal::entry::{Entry, Event};
use berth_engine::{PartyId, Seq};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::draw::Preference;
use super::entry::{CameRow, RECORDED_LOTTERIES, Said, Spec};
use crate::store::{Change, Projection, Store, StoreError, Table};

/// How far a lottery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// People register, or will.
    Registering,
    /// The list is closed.
    Closed,
    /// Units are being offered.
    Drawing,
    /// Everything is offered; offers stand.
    Drawn,
    /// What is left is everybody's.
    Over,
}

impl State {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Registering => "registering",
            State::Closed => "closed",
            State::Drawing => "drawing",
            State::Drawn => "drawn",
            State::Over => "over",
        }
    }
}

/// What changes of a lottery, but for what people say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// How far it is.
    pub state: State,
    /// Of the list, once it is closed.
    pub digest: Option<String>,
    /// The seed, once it is drawn.
    pub seed: Option<String>,
    /// Units that were free when the draw began, slot by slot.
    pub units: Vec<u32>,
    /// How many were offered something.
    pub given: u64,
}

/// The tables.
pub(super) struct Tables {
    specs: Table,
    standings: Table,
    registrations: Table,
    counts: Table,
    came: Table,
    places: Table,
}

impl Tables {
    pub(super) fn open(store: &Store) -> Result<Tables, StoreError> {
        Ok(Tables {
            specs: store.table("lotteries.specs")?,
            standings: store.table("lotteries.standings")?,
            registrations: store.table("lotteries.registrations")?,
            counts: store.table("lotteries.counts")?,
            came: store.table("lotteries.came")?,
            places: store.table("lotteries.places")?,
        })
    }

    pub(super) fn specs(&self) -> Result<Vec<Spec>, StoreError> {
        self.specs.scan(b"").map(|row| read(&row?.1)).collect()
    }

    pub(super) fn spec(&self, id: &str) -> Result<Option<Spec>, StoreError> {
        self.specs.get(id.as_bytes())?.map(|row| read(&row)).transpose()
    }

    pub(super) fn standing(&self, id: &str) -> Result<Option<Standing>, StoreError> {
        self.standings.get(id.as_bytes())?.map(|row| read(&row)).transpose()
    }

    pub(super) fn count(&self, id: &str) -> Result<u64, StoreError> {
        self.counts.get(id.as_bytes())?.map_or(Ok(0), |row| read(&row))
    }

    pub(super) fn preferences(&self, id: &str, party: PartyId) -> Result<Option<Vec<Preference>>, StoreError> {
        self.registrations.get(&below(id, &party.0.to_be_bytes()))?.map(|row| read(&row)).transpose()
    }

    /// In the order of the parties.
    pub(super) fn registrations(
        &self,
        id: &str,
    ) -> impl Iterator<Item = Result<(PartyId, Vec<Preference>), StoreError>> + use<> {
        self.registrations.scan(&below(id, b"")).map(|row| {
            let (key, row) = row?;
            let party = key.last_chunk::<4>().ok_or_else(broken)?;
            Ok((PartyId(u32::from_be_bytes(*party)), read(&row)?))
        })
    }

    /// In the order of the draw.
    pub(super) fn came(&self, id: &str) -> impl Iterator<Item = Result<CameRow, StoreError>> + use<> {
        self.came.scan(&below(id, b"")).map(|row| read(&row?.1))
    }

    /// What came of a party's registration, and its place.
    pub(super) fn came_of(&self, id: &str, party: PartyId) -> Result<Option<(u64, CameRow)>, StoreError> {
        let Some(place) = self.places.get(&below(id, &party.0.to_be_bytes()))? else { return Ok(None) };
        let place: u64 = read(&place)?;
        let row = self.came.get(&below(id, &place.to_be_bytes()))?.ok_or_else(broken)?;
        Ok(Some((place, read(&row)?)))
    }

    fn change(
        &self,
        change: &mut Change,
        id: &str,
        from: &[State],
        then: impl FnOnce(&mut Standing),
    ) -> Result<(), StoreError> {
        // What came too late, or twice, changes nothing.
        if let Some(mut standing) = self.standing(id)?.filter(|standing| from.contains(&standing.state)) {
            then(&mut standing);
            change.put(&self.standings, id.as_bytes(), &json(&standing));
        }
        Ok(())
    }

    fn is_registering(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.standing(id)?.is_some_and(|standing| standing.state == State::Registering))
    }
}

impl Projection for Tables {
    fn apply(&self, change: &mut Change, seq: Seq, entry: &Entry) -> Result<(), StoreError> {
        let Event::Recorded { kind: RECORDED_LOTTERIES, bytes } = &entry.event else { return Ok(()) };
        let said = Said::read(bytes);
        match said.ok_or_else(|| StoreError::Broken(format!("journal entry {seq} of a lottery")))? {
            Said::Made { lottery } => {
                if self.spec(&lottery.id)?.is_none() {
                    let (state, digest, seed) = (State::Registering, None, None);
                    let standing = Standing { state, digest, seed, units: Vec::new(), given: 0 };
                    change.put(&self.specs, lottery.id.as_bytes(), &json(&lottery));
                    change.put(&self.standings, lottery.id.as_bytes(), &json(&standing));
                }
            }
            Said::Registered { id, party, preferences } => {
                if self.is_registering(&id)? {
                    let key = below(&id, &party.to_be_bytes());
                    if !self.registrations.has(&key)? {
                        change.put(&self.counts, id.as_bytes(), &json(&(self.count(&id)? + 1)));
                    }
                    change.put(&self.registrations, &key, &json(&preferences));
                }
            }
            Said::Withdrawn { id, party } => {
                let key = below(&id, &party.to_be_bytes());
                if self.is_registering(&id)? && self.registrations.has(&key)? {
                    change.put(&self.counts, id.as_bytes(), &json(&self.count(&id)?.saturating_sub(1)));
                    change.remove(&self.registrations, &key);
                }
            }
            Said::Closed { id, digest, .. } => self.change(change, &id, &[State::Registering], |standing| {
                standing.state = State::Closed;
                standing.digest = Some(digest);
            })?,
            Said::Drawing { id, seed, units } => self.change(change, &id, &[State::Closed], |standing| {
                standing.state = State::Drawing;
                standing.seed = Some(seed);
                standing.units = units;
            })?,
            Said::Came { id, place, came } => {
                change.put(&self.places, &below(&id, &came.party.to_be_bytes()), &json(&place));
                change.put(&self.came, &below(&id, &place.to_be_bytes()), &json(&came));
            }
            Said::Drawn { id, given } => self.change(change, &id, &[State::Drawing], |standing| {
                standing.state = State::Drawn;
                standing.given = given;
            })?,
            Said::Opened { id, .. } => {
                let from = [State::Closed, State::Drawing, State::Drawn];
                self.change(change, &id, &from, |standing| standing.state = State::Over)?;
            }
        }
        Ok(())
    }
}

/// No id has a zero byte, so none is another's beginning.
fn below(id: &str, rest: &[u8]) -> Vec<u8> {
    [id.as_bytes(), &[0], rest].concat()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it has only string keys, and memory takes it")
}

fn read<T: DeserializeOwned>(row: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(row).map_err(|_| broken())
}

fn broken() -> StoreError {
    StoreError::Broken("a row of a lottery".to_owned())
}
