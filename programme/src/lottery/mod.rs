//! Lotteries: units that are drawn among those who registered for them, by a seed that was committed to before and told after.
//!
//! - **Made.** The slots are reserved at once, so nobody gets a unit of them before the draw. A seed is derived from the cell's key and
//!   a nonce, and its SHA-256 published; it is stored nowhere.
//! - **Registered.** One registration for each party, the newest counts. Each is a `Recorded` entry ([`entry`]).
//! - **Closed.** What is in the journal by then is the list; its digest is published.
//! - **Drawn.** Order and allocation are functions of published things ([`draw`]); a unit is an offer, which is confirmed as any hold.
//!   What came of each is an entry behind its offer, so a draw that breaks off goes on where it was.
//! - **Over.** When the offers have run out the slots are everybody's.

pub mod draw;
mod drawing;
pub mod entry;
pub mod result;
mod tables;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use berth_engine::{
    CellId, Command, Engine, Failure, Idempotency, PartyId, Refusal, Request, ReservedFor, Seq, SlotId, Submitted,
    TimestampMs,
};
use parking_lot::{Mutex, RwLock};
use ring::hkdf;

use self::draw::{DrawnSlot, PREFERENCES_MAX, Preference, commitment, hex, unhex};
use self::entry::{CameRow, RECORDED_LOTTERIES, Said, Spec};
use self::tables::Tables;
pub use self::tables::{Standing, State};
use crate::campaign::Campaign;
use crate::catalogue::Catalogue;
use crate::file::KeyFault;
use crate::names::{NAME_RULE, is_name};
use crate::store::{Projection, Store, StoreError};

/// Slots of one lottery: their numbers fit one entry.
pub const SLOTS_MAX: usize = 4000;
/// Offers stand no longer than an offer may.
pub const OFFERS_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the store may take to see an entry that is durable.
const STORE_WAIT: Duration = Duration::from_secs(30);
/// Entries are tried again so long while the journal's buffer is full.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// What somebody who makes a lottery says.
#[derive(Clone, Debug)]
pub struct Making {
    /// As in [`Spec`].
    pub id: String,
    /// As in [`Spec`].
    pub name: String,
    /// As in [`Spec`].
    pub dose: u8,
    /// What is drawn for, in any order.
    pub slots: Vec<SlotId>,
    /// As in [`Spec`].
    pub opens_at: TimestampMs,
    /// As in [`Spec`].
    pub closes_at: TimestampMs,
    /// As in [`Spec`].
    pub draws_at: TimestampMs,
    /// As in [`Spec`].
    pub offers_until: TimestampMs,
}

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LotteryError {
    /// What was said is wrong: every fault by its key.
    #[error("{}", crate::faults::joined(.0))]
    Faults(Vec<KeyFault>),
    /// There is none of this id.
    #[error("there is no lottery {0}")]
    Unknown(String),
    /// It is not so far, or further.
    #[error("{1}")]
    State(State, String),
    /// The party is not registered.
    #[error("party {0} is not registered")]
    NotRegistered(PartyId),
    /// The seed that the cell's key gives is not what was committed to.
    #[error("the seed of lottery {0} is lost: code.key is not the one it was made with")]
    SeedLost(String),
    /// The draw is broken off: the server stops. It goes on at the next start.
    #[error("the server is stopping")]
    Stopping,
    /// The engine says no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The journal could not do its part.
    #[error("{0}")]
    Failed(#[from] Failure),
    /// The store could not.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// A lottery as everybody may see it.
#[derive(Clone, Debug)]
pub struct Lottery {
    /// As it was made.
    pub spec: Spec,
    /// How far it is.
    pub standing: Standing,
    /// How many are registered.
    pub registrations: u64,
}

/// A party's registration.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The best first.
    pub preferences: Vec<Preference>,
    /// Its place in the order and what came of it, once its turn has been.
    pub came: Option<(u64, CameRow)>,
}

/// The lotteries of a cell.
pub struct Lotteries {
    engine: Arc<Engine>,
    catalogue: Arc<Catalogue>,
    store: Arc<Store>,
    cell: CellId,
    tables: Arc<Tables>,
    /// Registrations have it together; who closes a list has it alone: so what was told to be registered is in the list.
    registering: RwLock<()>,
    /// One is made, drawn or opened at a time.
    turn: Mutex<()>,
    stopping: AtomicBool,
}

impl Lotteries {
    /// The tables of lotteries in this store, which is to follow the log with what comes back.
    ///
    /// # Errors
    /// The database cannot make them.
    pub fn open(
        campaign: &Campaign,
        store: &Arc<Store>,
        cell: CellId,
    ) -> Result<(Lotteries, Arc<dyn Projection>), StoreError> {
        let tables = Arc::new(Tables::open(store)?);
        let projection: Arc<dyn Projection> = Arc::<Tables>::clone(&tables);
        let lotteries = Lotteries {
            engine: Arc::clone(&campaign.engine),
            catalogue: Arc::clone(&campaign.catalogue),
            store: Arc::clone(store),
            cell,
            tables,
            registering: RwLock::new(()),
            turn: Mutex::new(()),
            stopping: AtomicBool::new(false),
        };
        Ok((lotteries, projection))
    }

    /// Reserves what is drawn for: at a start, once the store has seen the log, and before anybody may claim.
    ///
    /// # Errors
    /// The store cannot be read.
    // rule: LOT-2
    pub fn reserve_all(&self) -> Result<(), StoreError> {
        for spec in self.tables.specs()? {
            if self.tables.standing(&spec.id)?.is_some_and(|standing| standing.state != State::Over) {
                self.reserve(&spec, true);
            }
        }
        Ok(())
    }

    fn reserve(&self, spec: &Spec, reserved: bool) {
        for slot in &spec.slots {
            self.engine.reserve(SlotId(*slot), ReservedFor::Lottery, reserved);
        }
    }

    /// Makes a lottery. Its slots are nobody's from now on until they are drawn.
    ///
    /// # Errors
    /// Nothing was made, and nothing is reserved; except after [`LotteryError::Failed`], when a restart shows.
    // rule: LOT-2 reserved before anybody is told of it
    pub fn make(&self, making: Making, idempotency: Idempotency, now: TimestampMs) -> Result<Done, LotteryError> {
        let _turn = self.turn.lock();
        if let Some(Submitted { result, seq, .. }) = self.engine.repeat_of(idempotency) {
            result?;
            return Ok(Done { seq, replayed: true });
        }
        let spec = self.checked(making, now)?;
        self.reserve(&spec, true);
        match self.submit(&Said::Made { lottery: spec.clone() }, Some(idempotency), now) {
            Ok(done) => {
                self.wait(done.seq)?;
                Ok(done)
            }
            Err(error) => {
                self.reserve(&spec, false);
                Err(error)
            }
        }
    }

    fn checked(&self, making: Making, now: TimestampMs) -> Result<Spec, LotteryError> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, reason: String| faults.push(KeyFault { key: key.to_owned(), reason });
        let Making { id, name, dose, mut slots, opens_at, closes_at, draws_at, offers_until } = making;
        if !is_name(&id) {
            fault("id", NAME_RULE.to_owned());
        } else if self.tables.spec(&id)?.is_some() {
            fault("id", format!("there is already a lottery {id}"));
        }
        if name.trim().is_empty() || name.chars().count() > 200 {
            fault("name", "must be 1 to 200 characters".to_owned());
        }
        if !(1..=10).contains(&dose) {
            fault("dose", format!("must be from 1 to 10, is {dose}"));
        }
        for (key, earlier, later) in [
            ("registration.closes_at", opens_at, closes_at),
            ("registration.closes_at", now, closes_at),
            ("offers_until", draws_at, offers_until),
        ] {
            if later <= earlier {
                fault(key, "must be later than what comes before it, and than now".to_owned());
            }
        }
        if draws_at < closes_at {
            fault("draws_at", "must not be before registration closes".to_owned());
        }
        if offers_until > draws_at.plus(OFFERS_MAX) {
            fault("offers_until", "must be within seven days of the draw".to_owned());
        }
        let starts = |slot: &SlotId| self.catalogue.slot(*slot).map_or(TimestampMs(0), |place| place.start);
        let earliest = slots.iter().filter_map(|slot| Some(self.catalogue.slot(*slot)?.start)).min();
        if earliest.is_some_and(|earliest| offers_until > earliest) {
            fault("offers_until", "must not be later than the start of the earliest slot".to_owned());
        }
        slots.sort_by_key(|slot| (starts(slot), *slot));
        slots.dedup();
        if !(1..=SLOTS_MAX).contains(&slots.len()) {
            fault("sessions", format!("must have 1 to {SLOTS_MAX} slots for the pool, have {}", slots.len()));
        }
        for other in self.tables.specs()? {
            let runs = self.tables.standing(&other.id)?.is_some_and(|standing| standing.state != State::Over);
            if runs && slots.iter().any(|slot| other.slots.contains(&slot.0)) {
                fault("sessions", format!("are drawn for by lottery {}", other.id));
            }
        }
        if !faults.is_empty() {
            return Err(LotteryError::Faults(faults));
        }
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| StoreError::Broken(format!("no randomness: {error}")))?;
        let commitment = hex(&commitment(&self.seed(&id, &nonce)));
        let slots = slots.iter().map(|slot| slot.0).collect();
        let (opens_at, closes_at, draws_at, offers_until) = (opens_at.0, closes_at.0, draws_at.0, offers_until.0);
        Ok(Spec { id, name, dose, slots, opens_at, closes_at, draws_at, offers_until, nonce: hex(&nonce), commitment })
    }

    /// What the cell's key and a nonce give: the same at every time, and nobody's to know who has not both.
    fn seed(&self, id: &str, nonce: &[u8; 32]) -> [u8; 32] {
        let info = format!("berth lottery {} {id}", self.cell);
        let mut seed = [0; 32];
        let secret = self.engine.codes().secret();
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, nonce).extract(&secret);
        let filled = derived.expand(&[info.as_bytes()], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut seed));
        filled.expect("as long as one digest");
        seed
    }

    /// The seed, if it is what was committed to.
    fn own_seed(&self, spec: &Spec) -> Result<[u8; 32], LotteryError> {
        let seed = unhex(&spec.nonce).map(|nonce| self.seed(&spec.id, &nonce));
        let seed = seed.filter(|seed| hex(&commitment(seed)) == spec.commitment);
        seed.ok_or_else(|| LotteryError::SeedLost(spec.id.clone()))
    }

    /// Registers a party, or changes what it would like to have.
    ///
    /// # Errors
    /// Registration is not open, or what was said cannot be had there.
    pub fn register(
        &self,
        id: &str,
        party: PartyId,
        preferences: Vec<Preference>,
        idempotency: Idempotency,
        now: TimestampMs,
    ) -> Result<Done, LotteryError> {
        // Shared with others who register, and not with who closes the list.
        let _registering = self.registering.read();
        if let Some(Submitted { result, seq, .. }) = self.engine.repeat_of(idempotency) {
            result?;
            return Ok(Done { seq, replayed: true });
        }
        let spec = self.registering(id, now)?;
        if self.engine.party_bookings(party).is_none() {
            return Err(Refusal::UnknownParty { party }.into());
        }
        self.check_preferences(&spec, &preferences)?;
        self.submit(&Said::Registered { id: spec.id, party: party.0, preferences }, Some(idempotency), now)
    }

    fn check_preferences(&self, spec: &Spec, preferences: &[Preference]) -> Result<(), LotteryError> {
        let mut faults = Vec::new();
        let mut fault = |key: String, reason: String| faults.push(KeyFault { key, reason });
        if !(1..=PREFERENCES_MAX).contains(&preferences.len()) {
            let reason = format!("must be 1 to {PREFERENCES_MAX}, are {}", preferences.len());
            fault("preferences".to_owned(), reason);
        }
        let slots = self.slots(spec, &[]);
        for (at, preference) in preferences.iter().enumerate() {
            if preferences[..at].contains(preference) {
                fault(format!("preferences[{at}]"), "stands twice".to_owned());
            } else if !slots.iter().any(|slot| slot.is_of(preference)) {
                fault(format!("preferences[{at}]"), "is not drawn for in this lottery".to_owned());
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(LotteryError::Faults(faults)) }
    }

    /// Takes a registration back.
    ///
    /// # Errors
    /// Registration is not open, or there is none.
    pub fn withdraw(
        &self,
        id: &str,
        party: PartyId,
        idempotency: Idempotency,
        now: TimestampMs,
    ) -> Result<Done, LotteryError> {
        let _registering = self.registering.read();
        if let Some(Submitted { result, seq, .. }) = self.engine.repeat_of(idempotency) {
            result?;
            return Ok(Done { seq, replayed: true });
        }
        let spec = self.registering(id, now)?;
        if self.tables.preferences(id, party)?.is_none() {
            return Err(LotteryError::NotRegistered(party));
        }
        self.submit(&Said::Withdrawn { id: spec.id, party: party.0 }, Some(idempotency), now)
    }

    /// A lottery for which people register now.
    fn registering(&self, id: &str, now: TimestampMs) -> Result<Spec, LotteryError> {
        let Lottery { spec, standing, .. } = self.get(id)?;
        if standing.state == State::Registering && spec.registers_at(now) {
            return Ok(spec);
        }
        let begun = now.0 >= spec.opens_at;
        let told = if begun { "registration has closed" } else { "registration has not opened yet" };
        Err(LotteryError::State(standing.state, told.to_owned()))
    }

    /// A lottery.
    ///
    /// # Errors
    /// There is none, or the store cannot be read.
    pub fn get(&self, id: &str) -> Result<Lottery, LotteryError> {
        let unknown = || LotteryError::Unknown(id.chars().take(80).collect());
        let spec = self.tables.spec(id)?.ok_or_else(unknown)?;
        let standing = self.tables.standing(id)?.ok_or_else(unknown)?;
        Ok(Lottery { registrations: self.tables.count(id)?, spec, standing })
    }

    /// All of them, in the order of their ids.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn all(&self) -> Result<Vec<Lottery>, LotteryError> {
        self.tables.specs()?.iter().map(|spec| self.get(&spec.id)).collect()
    }

    /// A party's registration.
    ///
    /// # Errors
    /// There is none, or the store cannot be read.
    pub fn registration(&self, id: &str, party: PartyId) -> Result<Registered, LotteryError> {
        self.get(id)?;
        let preferences = self.tables.preferences(id, party)?.ok_or(LotteryError::NotRegistered(party))?;
        Ok(Registered { preferences, came: self.tables.came_of(id, party)? })
    }

    /// What is drawn for, with its units once they are known.
    #[must_use]
    pub fn slots(&self, spec: &Spec, units: &[u32]) -> Vec<DrawnSlot> {
        let slots = spec.slots.iter().enumerate().filter_map(|(at, slot)| {
            let place = self.catalogue.slot(SlotId(*slot))?;
            Some(DrawnSlot {
                slot: self.slot_name(*slot),
                session: place.session.id.to_string(),
                centre: place.session.centre.to_string(),
                date: place.session.date,
                units: units.get(at).copied().unwrap_or(0),
            })
        });
        slots.collect()
    }

    fn slot_name(&self, slot: u32) -> String {
        format!("s{}.{slot}", self.cell)
    }

    fn party_name(&self, party: PartyId) -> String {
        format!("p{}.{party}", self.cell)
    }

    /// Writes an entry down; waits while the journal's buffer is full.
    fn submit(&self, said: &Said, idempotency: Option<Idempotency>, now: TimestampMs) -> Result<Done, LotteryError> {
        let bytes = said.bytes();
        let command = Command::Record { kind: RECORDED_LOTTERIES, bytes: &bytes, urgent: false };
        let Submitted { result, seq, replayed } = self.engine.submit(&Request { command, idempotency }, now)?;
        result?;
        Ok(Done { seq, replayed })
    }

    /// Waits until an entry is durable, and reads see it.
    fn wait(&self, seq: Seq) -> Result<(), LotteryError> {
        self.engine.ticket(seq).wait()?;
        Ok(self.store.wait(seq, STORE_WAIT)?)
    }
}

/// What was done, and the entry that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The entry.
    pub seq: Seq,
    /// The answer to an earlier request with the same key.
    pub replayed: bool,
}

#[cfg(test)]
mod draw_tests;
#[cfg(test)]
mod tests;
