//! The waitlist: what is given back goes to those who wait for it, in the order in which they joined.
//!
//! Somebody waits for a dose at a centre, or anywhere in a district, on some days. Every unit that becomes free there, by a release, an
//! expiry, a cancellation, a move, a no-show, a larger capacity, a new session, or because a pool spills over, is offered to the
//! first of them who may have it: a hold in their name with a deadline of minutes. Who confirms it has it; who declines or lets it
//! pass is not offered the same slot again, and after some such offers their entry ends.
//!
//! While somebody waits who may have a unit of a slot, the slot is reserved: nobody else takes what becomes free there, but who stands at the
//! door. Where nobody who waits may have it, it is everybody's, so no unit rots. That holds up to a cut-off before the end of the slot's window.
//!
//! - [`entry`](Wish): what stands in the journal. [`Rows`](rows): the same in the store, which a start goes on from.
//! - [`Queues`](queues): who waits and whose turn it is, in memory.
//! - [`Waitlist`]: joins, leaves, tells; follows the log as one of the store's projections; a thread makes the offers (`matcher`).
//!
//! **A crash** loses no entry that was told to anybody, and no place in the order: both are the number of the joining entry in the journal. An offer is
//! in the journal, too, so nobody is offered twice. The flags of slots are in none: [`Waitlist::begin`] sets them before anybody is served.

mod entry;
mod matcher;
mod queues;
mod rows;
mod signals;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use berth_engine::journal::entry::Entry;
use berth_engine::{
    BookingNumber, Command, Engine, Failure, Idempotency, PartyId, Refusal, Request, Seq, SlotId, TimestampMs,
};
use parking_lot::{Condvar, Mutex};

use self::entry::Said;
pub use self::entry::{RECORDED_WAITLIST, Scope, Why, Wish};
use self::queues::{Queues, Standing, Waiter};
use self::rows::Rows;
use crate::campaign::Campaign;
use crate::catalogue::{Catalogue, RegionKind};
use crate::file::WaitlistFile;
use crate::in_force::InForce;
use crate::store::{Change, Projection, Store, StoreError};

/// The longest that the thread sleeps while nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Those who wait in a cell.
pub struct Waitlist {
    engine: Arc<Engine>,
    programme: Arc<InForce>,
    catalogue: Arc<Catalogue>,
    rows: Rows,
    core: Mutex<Core>,
    woken: Condvar,
    closing: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    counts: Counts,
}

/// What changes under one lock.
#[derive(Default)]
struct Core {
    queues: Queues,
    /// Entries whose party is to be looked at.
    looks: BTreeSet<Seq>,
    /// Entries whose party is no more.
    gone: BTreeSet<Seq>,
    /// Slots just published: the catalogue may not know them yet.
    unplaced: Vec<SlotId>,
    /// Entries that have ended, and the log has not told of it yet.
    ended: BTreeMap<Seq, Over>,
    /// The rules and the day by which everybody was looked at.
    looked: Option<([u8; 32], TimestampMs, u16)>,
    /// Something has happened since the thread looked.
    news: bool,
    /// The journal took nothing in the last turn.
    refused: bool,
    begun: bool,
    /// The newest entry that was passed over because nobody had begun.
    unseen: Seq,
}

/// How an entry ended.
struct Over {
    waiter: Waiter,
    why: Why,
    at: TimestampMs,
    /// The entry of the journal that says so.
    seq: Seq,
}

#[derive(Default)]
struct Counts {
    offers: AtomicU64,
    taken: AtomicU64,
    missed: AtomicU64,
    declined: AtomicU64,
    freed_to_offered_ms: AtomicU64,
    freed_to_offered: AtomicU64,
}

/// How the waitlist fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitlistStats {
    /// Entries that wait, those passed over for now among them.
    pub waiting: u64,
    /// Entries that have an offer.
    pub offered: u64,
    /// Slots whose free units are kept.
    pub slots_reserved: u64,
    /// Offers made by this run.
    pub offers: u64,
    /// Offers that were confirmed.
    pub taken: u64,
    /// Offers that were let pass.
    pub missed: u64,
    /// Offers that were declined.
    pub declined: u64,
    /// Offers of a unit that had just become free.
    pub freed_to_offered: u64,
    /// From when those became free to their offers, in milliseconds, summed.
    pub freed_to_offered_ms: u64,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// So many of the same place and dose joined before and wait for one of the same days.
    Waiting {
        /// How many.
        ahead: usize,
    },
    /// The party has a claim of its own that stands in the way: nothing is offered while it has.
    PassedOver,
    /// A unit is offered: a hold that its party confirms or releases.
    Offered {
        /// The hold.
        booking: BookingNumber,
    },
    /// Over.
    Ended {
        /// Why.
        why: Why,
        /// When.
        at: TimestampMs,
    },
}

/// An entry, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its name: the number of its joining entry in the journal.
    pub entry: Seq,
    /// What is waited for.
    pub wish: Wish,
    /// When it was joined.
    pub joined: TimestampMs,
    /// Offers that were let pass or declined.
    pub not_taken: usize,
    /// Where it stands.
    pub stand: Stand,
    /// The newest journal position that this rests on, but for what is offered.
    pub seq: Seq,
}

/// Why somebody cannot wait.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JoinError {
    /// The programme has no waitlist.
    #[error("this programme has no waitlist")]
    Off,
    /// No such party.
    #[error("party {0} is unknown")]
    UnknownParty(PartyId),
    /// No such centre or district.
    #[error("there is no {0:?}")]
    UnknownScope(Scope),
    /// The days are none to wait for.
    #[error("the days must be today or later, in order, and at most {max}")]
    Days {
        /// The most.
        max: u16,
    },
    /// The party waits already as often as it may.
    #[error("party {party} has {max} entries, the most it may have")]
    TooMany {
        /// Who.
        party: PartyId,
        /// The most.
        max: u16,
    },
    /// It waits for this already.
    #[error("entry {0} is the same")]
    Twice(Seq),
    /// It has what it would wait for: a booking, or the dose itself.
    #[error("party {0} has the dose, or a booking for it")]
    Served(PartyId),
    /// The engine's no.
    #[error("{0}")]
    Refused(Refusal),
    /// The journal has stopped.
    #[error("{0}")]
    Failed(Failure),
    /// The store cannot be read.
    #[error("{0}")]
    Store(StoreError),
}

impl From<StoreError> for JoinError {
    fn from(error: StoreError) -> Self {
        JoinError::Store(error)
    }
}

impl From<Failure> for JoinError {
    fn from(failure: Failure) -> Self {
        JoinError::Failed(failure)
    }
}

impl Waitlist {
    /// The waitlist of a campaign, with its tables in this store, which is to follow the log with it as a projection. Nothing is offered
    /// before [`Waitlist::begin`].
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(campaign: &Campaign, store: &Store) -> Result<Arc<Waitlist>, StoreError> {
        let Campaign { engine, programme, catalogue, .. } = campaign.clone();
        Ok(Arc::new(Waitlist {
            engine,
            programme,
            catalogue,
            rows: Rows::open(store)?,
            core: Mutex::default(),
            woken: Condvar::new(),
            closing: AtomicBool::new(false),
            thread: Mutex::new(None),
            counts: Counts::default(),
        }))
    }

    /// Takes up those who waited when the process before this one ended, and reserves what is theirs. To be called when the store has
    /// seen the whole log, and before anybody may submit; only where the programme gets its waitlist later, later.
    ///
    /// # Errors
    /// The store cannot be read, or stands still.
    // rule: WTL-2 before anybody is served, each slot is reserved that somebody waits for
    pub fn begin(&self, store: &Store) -> Result<(), StoreError> {
        {
            let mut core = self.core.lock();
            if core.begun {
                return Ok(());
            }
            // What was passed over is in the store once that has come so far; while the lock is held nothing more is.
            while store.applied() < core.unseen {
                let unseen = core.unseen;
                drop(core);
                store.wait(unseen, LOOK_EVERY)?;
                core = self.core.lock();
            }
            for (entry, row) in self.rows.still_open()? {
                let standing = row.offer.map_or(Standing::Waiting, |(number, slot)| Standing::Offered(number, slot));
                let waiter = Waiter { wish: row.wish, at: row.at, standing, passed: row.passed };
                self.join_queue(&mut core, entry, waiter);
                core.looks.insert(entry);
            }
            core.begun = true;
        }
        // A journal that takes nothing now, because the disk is full, keeps nobody from serving: the thread goes on where this ends, and
        // until then nobody can claim either.
        while self.turn(self.engine.now()) && !self.core.lock().refused {}
        Ok(())
    }

    /// Starts the thread that makes the offers; `ended` is called should it panic.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(self: &Arc<Self>, store: &Arc<Store>, ended: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (waitlist, store) = (Arc::clone(self), Arc::clone(store));
        let run = move || {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waitlist.run(&store)));
            if ran.is_err() {
                ended();
            }
        };
        let thread = std::thread::Builder::new().name("berth-waitlist".to_owned()).spawn(run)?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// Ends the thread. Before the engine is closed.
    pub fn close(&self) {
        self.closing.store(true, Relaxed);
        self.wake(&mut self.core.lock());
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }

    fn wake(&self, core: &mut Core) {
        core.news = true;
        self.woken.notify_one();
    }

    /// What the programme in force says of the waitlist.
    #[must_use]
    pub fn rules(&self) -> Option<WaitlistFile> {
        self.programme.get().file().waitlist
    }

    /// Somebody joins. Returns the entry's name, which is also the journal position that the answer rests on.
    ///
    /// # Errors
    /// Why not.
    pub fn join(&self, wish: Wish, idempotency: Option<Idempotency>, now: TimestampMs) -> Result<Seq, JoinError> {
        let rules = self.rules().ok_or(JoinError::Off)?;
        let known = match &wish.scope {
            Scope::Centre(id) => self.catalogue.centre(id).is_some(),
            Scope::District(id) => self.catalogue.has_region(RegionKind::District, id),
        };
        if !known {
            return Err(JoinError::UnknownScope(wish.scope));
        }
        let party = self.engine.party_bookings(wish.party).ok_or(JoinError::UnknownParty(wish.party))?;
        // A repeat is told what the first was, whatever has happened since.
        let repeated = idempotency.is_some_and(|known| self.engine.outcome(known.key).is_some());
        let mut core = self.core.lock();
        if !repeated {
            let today = self.programme.calendar().day(now);
            let days = wish.last.checked_sub(wish.first).map(|days| u32::from(days) + 1);
            if wish.first < today || days.is_none_or(|days| days > u32::from(rules.days_max)) {
                return Err(JoinError::Days { max: rules.days_max });
            }
            if matcher::is_served(&party, wish.dose) {
                return Err(JoinError::Served(wish.party));
            }
            let own = core.queues.of_party(wish.party);
            let same = own.iter().find(|entry| core.queues.waiter(**entry).is_some_and(|waiter| waiter.wish == wish));
            if let Some(entry) = same {
                return Err(JoinError::Twice(*entry));
            }
            if own.len() >= usize::from(rules.entries_per_party_max) {
                return Err(JoinError::TooMany { party: wish.party, max: rules.entries_per_party_max });
            }
        }
        let bytes = Said::Joined(wish.clone()).bytes();
        let command = Command::Record { kind: RECORDED_WAITLIST, bytes: &bytes, urgent: false };
        let submitted = self.engine.submit(&Request { command, idempotency }, now)?;
        submitted.result.map_err(JoinError::Refused)?;
        if !submitted.replayed {
            let waiter = Waiter { wish, at: now, standing: Standing::Waiting, passed: Vec::new() };
            self.join_queue(&mut core, submitted.seq, waiter);
            core.looks.insert(submitted.seq);
            self.wake(&mut core);
        }
        Ok(submitted.seq)
    }

    /// An entry is taken back, and with it what is offered. Returns the newest journal position that this rests on; of one that has ended
    /// already nothing changes.
    ///
    /// # Errors
    /// The engine's no.
    pub fn leave(&self, entry: Seq, idempotency: Option<Idempotency>, now: TimestampMs) -> Result<Seq, JoinError> {
        let mut core = self.core.lock();
        let Some(waiter) = core.queues.waiter(entry).cloned() else { return Ok(entry) };
        let bytes = Said::Ended { entry, why: Why::Left }.bytes();
        let command = Command::Record { kind: RECORDED_WAITLIST, bytes: &bytes, urgent: false };
        let submitted = self.engine.submit(&Request { command, idempotency }, now)?;
        submitted.result.map_err(JoinError::Refused)?;
        let mut seq = submitted.seq;
        core.end(entry, Why::Left, now, seq);
        if let Standing::Offered(hold, _) = waiter.standing {
            let release = Request { command: Command::Release { hold }, idempotency: None };
            // Of an offer that was taken or is over there is nothing to give back.
            seq = seq.max(self.engine.submit(&release, now)?.seq);
        }
        self.wake(&mut core);
        Ok(seq)
    }

    /// An entry; `None` if there is none. Await the ticket of its `seq`, and of what is offered.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn see(&self, entry: Seq) -> Result<Option<Seen>, StoreError> {
        let core = self.core.lock();
        if let Some(waiter) = core.queues.waiter(entry) {
            let stand = match waiter.standing {
                Standing::Waiting => Stand::Waiting { ahead: core.queues.ahead(entry) },
                Standing::Claimed => Stand::PassedOver,
                Standing::Offered(booking, _) => Stand::Offered { booking },
            };
            let (wish, not_taken) = (waiter.wish.clone(), waiter.passed.len());
            return Ok(Some(Seen { entry, wish, joined: waiter.at, not_taken, stand, seq: entry }));
        }
        if let Some(Over { waiter, why, at, seq }) = core.ended.get(&entry) {
            let (wish, not_taken, stand) =
                (waiter.wish.clone(), waiter.passed.len(), Stand::Ended { why: *why, at: *at });
            return Ok(Some(Seen { entry, wish, joined: waiter.at, not_taken, stand, seq: *seq }));
        }
        drop(core);
        let seen = self.rows.get(entry)?.map(|row| {
            let stand = match (row.ended, row.offer) {
                (Some((why, at)), _) => Stand::Ended { why, at },
                (None, Some((booking, _))) => Stand::Offered { booking },
                (None, None) => Stand::PassedOver,
            };
            Seen { entry, wish: row.wish, joined: row.at, not_taken: row.passed.len(), stand, seq: entry }
        });
        Ok(seen)
    }

    /// The entries of a party, the newest first, those that ended among them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn of_party(&self, party: PartyId, max: usize) -> Result<Vec<Seen>, StoreError> {
        let mut entries: BTreeSet<Seq> = self.rows.of_party(party)?.into_iter().collect();
        entries.extend(self.core.lock().queues.of_party(party));
        let newest = entries.into_iter().rev().take(max);
        newest.filter_map(|entry| self.see(entry).transpose()).collect()
    }

    /// Who waits for this centre, or for any of this district: day, dose, how many wait, how many have an offer. Ascending.
    #[must_use]
    pub fn waiting_for(&self, scope: &Scope) -> Vec<(u16, u8, u64, u64)> {
        let mut days = BTreeMap::<(u16, u8), (u64, u64)>::new();
        for (_, waiter) in self.core.lock().queues.of_scope(scope) {
            for day in waiter.wish.first..=waiter.wish.last {
                let (waiting, offered) = days.entry((day, waiter.wish.dose.0)).or_default();
                *(if matches!(waiter.standing, Standing::Offered(..)) { offered } else { waiting }) += 1;
            }
        }
        days.into_iter().map(|((day, dose), (waiting, offered))| (day, dose, waiting, offered)).collect()
    }

    /// How it fares.
    #[must_use]
    pub fn stats(&self) -> WaitlistStats {
        let (offered, open, slots_reserved) = {
            let core = self.core.lock();
            let offered = core.queues.waiters().filter(|(_, waiter)| matches!(waiter.standing, Standing::Offered(..)));
            (offered.count() as u64, core.queues.waiters().count() as u64, core.queues.reserved() as u64)
        };
        let read = |count: &AtomicU64| count.load(Relaxed);
        WaitlistStats {
            waiting: open - offered,
            offered,
            slots_reserved,
            offers: read(&self.counts.offers),
            taken: read(&self.counts.taken),
            missed: read(&self.counts.missed),
            declined: read(&self.counts.declined),
            freed_to_offered: read(&self.counts.freed_to_offered),
            freed_to_offered_ms: read(&self.counts.freed_to_offered_ms),
        }
    }
}

impl Core {
    fn end(&mut self, entry: Seq, why: Why, at: TimestampMs, seq: Seq) {
        if let Some(waiter) = self.queues.end(entry) {
            self.ended.insert(entry, Over { waiter, why, at, seq });
        }
    }
}

impl Projection for Waitlist {
    fn apply(&self, change: &mut Change, seq: Seq, entry: &Entry) -> Result<(), StoreError> {
        self.rows.apply(change, seq, entry)?;
        self.seen(seq, entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
