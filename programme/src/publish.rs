//! Bulk publishing: a body of lines in, one journal entry, then visible.
//!
//! **Order.** One publish runs at a time, from its checks against the catalogue to its showing in it: two
//! bodies that name the same session cannot both pass, and the catalogue sees entries in journal order. The
//! turn is held while the entry is made durable, which costs other publishers a disk sync and nobody
//! else anything.
//!
//! **Visibility.** Searches see what a publish brought only after its entry is durable. A crash before that
//! loses all of it, a crash after nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use berth_engine::{
    CentreKey, Command, Engine, Failure, Idempotency, Outcome, Refusal, Request, SlotFacts, SlotId, SlotSpec,
    Submitted, TimestampMs,
};
use parking_lot::{Mutex, MutexGuard};

use crate::catalogue::Catalogue;
use crate::faults::Faults;
use crate::file::Enforce;
use crate::in_force::InForce;
use crate::ndjson::{self, Checks, SessionLine};
use crate::note::{self, CatalogueNote, NotedSession, NotedWindow, Numbering};
use crate::rules::PROGRAMME;
use crate::store::StoreError;
use crate::supply::{Beyond, Ledger};

/// What the lines of a body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkKind {
    /// States and districts.
    Regions,
    /// Centres.
    Centres,
    /// Sessions with their windows and pools.
    Sessions,
}

/// What a publish did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Lines published.
    pub lines: u64,
    /// Slots they made.
    pub slots: u64,
    /// The answer to an earlier request with the same key.
    pub replayed: bool,
}

/// Why nothing was published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Lines are wrong.
    #[error("{0}")]
    Lines(Faults),
    /// The engine says no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The engine could not. Whether it is published shows after a restart.
    #[error("{0}")]
    Failed(#[from] Failure),
}

/// Publishes into one engine and its catalogue.
#[derive(Debug)]
pub struct Publisher {
    engine: Arc<Engine>,
    programme: Arc<InForce>,
    catalogue: Arc<Catalogue>,
    /// What sessions may offer, where stock is kept.
    ledger: OnceLock<Arc<Ledger>>,
    turn: Mutex<()>,
}

/// What lines become: the note to keep, the same decoded, and the slots to publish with it.
struct Prepared {
    note: Vec<u8>,
    decoded: CatalogueNote,
    slots: Vec<SlotSpec>,
}

impl Publisher {
    pub(crate) fn new(engine: Arc<Engine>, programme: Arc<InForce>, catalogue: Arc<Catalogue>) -> Publisher {
        Publisher { engine, programme, catalogue, ledger: OnceLock::new(), turn: Mutex::new(()) }
    }

    /// Checks every line and publishes all of them or none. Blocks until the entry is durable, so call it where
    /// blocking is welcome; once called it runs to its end whatever becomes of the caller.
    ///
    /// # Errors
    /// Nothing was published; except after [`PublishError::Failed`], when a restart shows.
    pub fn publish(
        &self,
        kind: BulkKind,
        body: &[u8],
        idempotency: Option<Idempotency>,
        now: TimestampMs,
    ) -> Result<Published, PublishError> {
        let _turn = self.turn.lock();
        // Before the lines are checked: what the first request published would make every line of its repeat a fault.
        if let Some(earlier) = idempotency.map(|i| self.earlier(i)).transpose()?.flatten() {
            return Ok(earlier);
        }
        let Prepared { note, decoded, slots } = self.prepare(kind, body, now).map_err(PublishError::Lines)?;
        let command = match kind {
            BulkKind::Regions | BulkKind::Centres => Command::Note { note: &note },
            BulkKind::Sessions => Command::Publish { slots: &slots, note: &note },
        };
        let Submitted { result, seq, replayed } = self.engine.submit(&Request { command, idempotency }, now)?;
        // rule: IDM-2 a refusal too rests on entries that must be durable before it is told
        self.engine.ticket(seq).wait()?;
        let outcome = result?;
        if replayed {
            return Ok(self.repeat_of(seq, &outcome));
        }
        let numbers: &[SlotId] = match &outcome {
            Outcome::Published { slots, .. } => slots,
            _ => &[],
        };
        Ok(self.catalogue.apply(seq, decoded, numbers).expect("the note was made from lines checked in this very turn"))
    }

    /// From now on sessions offer no more than their centres can give, where the programme says so.
    pub fn bound_by(&self, ledger: Arc<Ledger>) {
        // Whoever came first stays: there is one ledger.
        let _ = self.ledger.set(ledger);
    }

    /// Makes a capacity larger or smaller by `submit`, if the centre can give so much; in turn with what is published, so that two do not
    /// count on the same doses.
    ///
    /// # Errors
    /// The books of stock cannot be had.
    // rule: SUP-4
    pub fn resize<T>(
        &self,
        (slot, capacity): (SlotId, u32),
        repeated: impl FnOnce() -> bool,
        submit: impl FnOnce() -> T,
        now: TimestampMs,
    ) -> Result<Result<T, Beyond>, StoreError> {
        let Some(ledger) = self.ledger.get().filter(|ledger| ledger.enforce() == Enforce::Refuse) else {
            return Ok(Ok(submit()));
        };
        let _turn = self.turn.lock();
        if !repeated() {
            match ledger.may_resize(slot, capacity, now)? {
                Ok(()) => {}
                Err(beyond) => return Ok(Err(beyond)),
            }
        }
        Ok(Ok(submit()))
    }

    /// The faults of sessions that offer more than their centre can give: each line is held against those before it, too.
    // rule: SUP-4
    fn beyond(&self, lines: &[SessionLine], now: TimestampMs) -> Result<(), Faults> {
        let Some(ledger) = self.ledger.get().filter(|ledger| ledger.enforce() == Enforce::Refuse) else {
            return Ok(());
        };
        let today = self.programme.calendar().date(now);
        let (mut faults, mut offered) = (Faults::default(), BTreeMap::new());
        for line in lines {
            let Some(centre) = self.catalogue.centre_at(line.centre) else { continue };
            // Once for each centre and product: who records a dose waits for the same books.
            let (all, at_hand) = offered.entry((Arc::clone(&centre.id), line.product)).or_insert_with(|| {
                // What is offered first: a dose that is given between the two then counts against the publish, and not for it.
                let offered = ledger.offered(&centre.id, line.product, today);
                (offered, ledger.at_hand(&centre.id, line.product))
            });
            let pools = line.windows.iter().flat_map(|window| &window.pools);
            let units: u64 = pools.map(|(_, capacity)| u64::from(capacity.get())).sum();
            *all.entry(line.date).or_default() += units;
            let judged =
                at_hand.as_ref().map(|at_hand| at_hand.as_ref().map(|all_of| all_of.may_offer(all, line.date)));
            match judged {
                Ok(None | Some(Ok(()))) => {}
                Ok(Some(Err(beyond))) => {
                    faults.push(line.line, "windows", format!("centre {} has not so much: {beyond}", centre.id));
                    // The next lines are held against what can be had without this one.
                    all.entry(line.date).and_modify(|all| *all -= units);
                }
                Err(error) => faults.push(line.line, "", format!("the books of stock cannot be had now: {error}")),
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// One at a time: bodies, and programmes that are taken up.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn in_force(&self) -> &InForce {
        &self.programme
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The answer to an earlier request with this key, if there was one.
    fn earlier(&self, idempotency: Idempotency) -> Result<Option<Published>, PublishError> {
        let Some(Submitted { result, seq, .. }) = self.engine.repeat_of(idempotency) else { return Ok(None) };
        // rule: IDM-2 a refusal too rests on entries that must be durable before it is told
        self.engine.ticket(seq).wait()?;
        let outcome = result?;
        Ok(Some(self.repeat_of(seq, &outcome)))
    }

    fn repeat_of(&self, seq: berth_engine::Seq, outcome: &Outcome) -> Published {
        let slots = if let Outcome::Published { count, .. } = outcome { u64::from(*count) } else { 0 };
        let first = self.catalogue.published(seq).unwrap_or(Published { lines: 0, slots, replayed: true });
        Published { replayed: true, ..first }
    }

    fn prepare(&self, kind: BulkKind, body: &[u8], now: TimestampMs) -> Result<Prepared, Faults> {
        // One programme for all of it: none is taken up while it is this one's turn.
        let programme = self.programme.get();
        let checks = Checks {
            programme: &programme,
            now,
            has_region: &|kind, id| self.catalogue.has_region(kind, id),
            centre: &|id| self.catalogue.centre_index(id),
            has_session: &|id| self.catalogue.has_session(id),
        };
        Ok(match kind {
            BulkKind::Regions => {
                let lines = ndjson::regions(body, &checks)?;
                let note = note::encode_regions(&lines);
                Prepared { note, decoded: CatalogueNote::Regions(lines), slots: Vec::new() }
            }
            BulkKind::Centres => {
                let lines = ndjson::centres(body, &checks)?;
                let note = note::encode_centres(&lines);
                Prepared { note, decoded: CatalogueNote::Centres(lines), slots: Vec::new() }
            }
            BulkKind::Sessions => {
                let lines = ndjson::sessions(body, &checks)?;
                self.beyond(&lines, now)?;
                let numbering = Numbering::of(&lines, &programme);
                let note = note::encode_sessions(&lines, &numbering);
                let slots = self.slot_specs(&lines);
                let decoded = CatalogueNote::Sessions(numbering, lines.into_iter().map(noted).collect());
                Prepared { note, decoded, slots }
            }
        })
    }

    /// One slot per window and pool, in the order in which the note names them.
    fn slot_specs(&self, lines: &[SessionLine]) -> Vec<SlotSpec> {
        let programme = self.programme.get();
        let mut specs = Vec::new();
        for line in lines {
            for window in &line.windows {
                specs.extend(window.pools.iter().map(|&(pool, capacity)| SlotSpec {
                    centre: CentreKey(line.centre.0),
                    capacity,
                    facts: SlotFacts {
                        programme: PROGRAMME,
                        dose: programme.pool_dose(pool),
                        product: line.product,
                        pool,
                        starts_at: window.start,
                    },
                }));
            }
        }
        specs
    }
}

fn noted(line: SessionLine) -> NotedSession {
    let SessionLine { id, centre, date, product, ages, fee, windows, .. } = line;
    let windows = windows
        .into_iter()
        .map(|w| NotedWindow { start: w.start, end: w.end, pools: w.pools.iter().map(|p| p.0).collect() })
        .collect();
    NotedSession { id, centre, date, product, ages, fee, windows }
}
