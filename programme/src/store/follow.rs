//! The thread: reads durable entries, has them applied, and lets the log go once they are on the disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_engine::{Engine, FollowError, LogTail, Seq};
use parking_lot::Mutex;

use super::database::Open;
use super::waiting::Shared;
use super::{At, CURSOR, Change, Projection, StoreError, Table, Told};

/// How often what was applied is synced, and the log let go. Each costs one fsync, and the log kept is no longer than what comes in it.
const PERSIST_EVERY: Duration = Duration::from_secs(1);
/// How often the log is looked at while nobody waits for the store. Whoever waits for each sync of the journal costs it a wake-up each
/// time, and leaves its writer no batch that nobody waits for.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a store that closes goes on applying: the next start does the rest.
const CLOSING_MAX: Duration = Duration::from_secs(2);
/// The first pause after a failure, and the longest.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);

pub(super) struct Follower {
    pub(super) engine: Arc<Engine>,
    pub(super) open: Arc<Open>,
    pub(super) meta: Table,
    pub(super) shared: Arc<Shared>,
    pub(super) projections: Vec<Arc<dyn Projection>>,
    /// Keeps the log for what is not on the disk yet. Never read.
    pub(super) pin: Arc<Mutex<Option<LogTail>>>,
    pub(super) at: At,
    /// The cursor that was synced last.
    pub(super) durable: At,
    pub(super) tell: Box<dyn Fn(Told) + Send>,
    /// It was told that the store stands still.
    pub(super) told: bool,
}

/// However the thread ends, nobody waits for it for ever.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stand_still(StoreError::Broken("the thread that follows the log has panicked".to_owned()));
        }
        self.0.end();
    }
}

impl Follower {
    pub(super) fn run(mut self) {
        let _ended = Ended(Arc::clone(&self.shared));
        let mut pause = AGAIN;
        loop {
            let before = self.at;
            let Err(why) = self.follow() else { return };
            if self.at != before {
                pause = AGAIN;
            }
            if matches!(why, StoreError::Gap(_)) {
                // No attempt helps: the log is not kept for what can never go on.
                self.let_go(Seq(u64::MAX));
            }
            self.shared.stand_still(why.clone());
            if !std::mem::replace(&mut self.told, true) {
                (self.tell)(Told::StandsStill(why));
            }
            if self.shared.is_closing() {
                return;
            }
            std::thread::park_timeout(pause);
            pause = (pause * 2).min(AGAIN_MAX);
            // While it cannot be, what is there is still read, and the next attempt says why.
            if self.open.has_stopped() && self.open_anew().is_ok() {
                pause = AGAIN;
            }
        }
    }

    /// Follows the log from where the store stands; ends when the store is to close.
    fn follow(&mut self) -> Result<(), StoreError> {
        let mut tail = self.tail()?;
        let mut synced = Instant::now();
        let mut ends = None;
        loop {
            // Asked before the log is: what was durable before it closes is still applied, unless that is much.
            let closing = self.shared.is_closing();
            let more = self.frame(&mut tail)?;
            let more = more && !(closing && ends.get_or_insert_with(Instant::now).elapsed() >= CLOSING_MAX);
            if self.at != self.durable && (!more && closing || synced.elapsed() >= PERSIST_EVERY) {
                self.persist()?;
                synced = Instant::now();
            }
            if std::mem::replace(&mut self.told, false) {
                self.shared.advance(self.at);
                (self.tell)(Told::GoesOn);
            }
            if more {
                continue;
            }
            if closing {
                return Ok(());
            }
            let left = PERSIST_EVERY.saturating_sub(synced.elapsed());
            let time = if self.at == self.durable { PERSIST_EVERY } else { left.max(Duration::from_millis(1)) };
            if !self.shared.is_waited_for() {
                std::thread::park_timeout(time.min(LOOK_EVERY));
            } else if tail.wait(time.min(PERSIST_EVERY / 5)).is_err() {
                // A journal that has stopped brings nothing more; the store may still be read, and closed.
                std::thread::park_timeout(time);
            }
        }
    }

    /// The database anew, from where its cursor stands: what was not synced is applied again.
    fn open_anew(&mut self) -> Result<(), StoreError> {
        self.open.open_anew()?;
        self.at = At::of(&self.meta)?;
        self.durable = self.at;
        self.shared.go_back(self.at);
        Ok(())
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.open.persist(&self.meta, self.at)?;
        self.durable = self.at;
        self.shared.persist(self.at);
        self.let_go(self.at.place.seq);
        Ok(())
    }

    fn let_go(&self, seq: Seq) {
        self.pin.lock().iter().for_each(|pin| pin.let_go(seq));
    }

    /// A tail behind the last whole frame. A store that is new may begin where the log does.
    fn tail(&mut self) -> Result<LogTail, StoreError> {
        let tail = |from| {
            let tail = self.engine.tail(from).ok_or_else(|| StoreError::Broken("there is no log".to_owned()))?;
            // It reads; what is kept is for `pin` alone, which lets go what is on the disk.
            tail.let_go(Seq(u64::MAX));
            Ok::<_, StoreError>(tail)
        };
        let mut probe = tail(self.at.place)?;
        // What cannot be followed is known by its first frame; nothing is applied here.
        match probe.next(&mut |_, _, _| {}) {
            Ok(_) => tail(self.at.place),
            Err(FollowError::Trimmed { oldest }) if self.at == At::default() => {
                self.at = At { place: oldest, applied: oldest.seq, began: oldest.seq };
                self.open.persist(&self.meta, self.at)?;
                (self.tell)(Told::BeganLate(oldest.seq));
                self.shared.advance(self.at);
                tail(oldest)
            }
            Err(error @ (FollowError::Trimmed { .. } | FollowError::OtherLog(_))) => {
                Err(StoreError::Gap(error.to_string()))
            }
            Err(FollowError::Unreadable(why)) => Err(StoreError::Broken(why)),
        }
    }

    /// Applies the entries of the next frame. False if there is none.
    fn frame(&mut self, tail: &mut LogTail) -> Result<bool, StoreError> {
        let Follower { open, meta, projections, at, .. } = self;
        let mut failed = None;
        let mut apply = |seq: Seq, _, entry: &_| {
            // Done before the frame could be finished.
            if failed.is_some() || seq <= at.applied {
                return;
            }
            let mut change = Change::default();
            let made = projections.iter().try_for_each(|projection| projection.apply(&mut change, seq, entry));
            let next = At { applied: seq, ..*at };
            let done = made.and_then(|()| {
                if change.is_empty() {
                    return Ok(());
                }
                change.put(meta, CURSOR, &next.bytes());
                open.commit(change)
            });
            match done {
                Ok(()) => *at = next,
                Err(why) => failed = Some(why),
            }
        };
        let more = tail.next(&mut apply);
        if let Some(why) = failed {
            return Err(why);
        }
        let more = more.map_err(|error| match error {
            FollowError::Unreadable(why) => StoreError::Broken(why),
            other => StoreError::Gap(other.to_string()),
        })?;
        if more {
            self.at.place = tail.place();
            self.at.applied = self.at.applied.max(self.at.place.seq);
            self.shared.advance(self.at);
        }
        Ok(more)
    }
}
