//! The thread: reads the log, makes events, has them told, and begins again from the cursor whenever anything is in doubt.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use berth_engine::journal::entry::Entry;
use berth_engine::{FollowError, LogPlace, LogTail, Seq};
use berth_programme::Campaign;

use super::project::{Cannot, Projector};
use super::stream::{Connection, Position, Ready, Said};
use super::{EventsConfig, Shared};
use crate::panics::OnPanic;

/// How often an idle thread looks whether Redis still has its cursor, and the first pause after a loss.
const IDLE: Duration = Duration::from_millis(200);
/// The longest pause between attempts to connect.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How soon to look again for a session that is not in the catalogue yet.
const CATALOGUE_AGAIN: Duration = Duration::from_millis(1);
/// How long the journal may be starved before the log is no longer kept for a Redis that is gone or too slow.
const STARVED_MAX: Duration = Duration::from_secs(2);
/// Events and bytes told in one step: Redis does nothing else meanwhile, for a millisecond or two.
const BATCH_EVENTS: usize = 512;
const BATCH_BYTES: usize = 512 << 10;

/// Why a connection was given up.
#[derive(Debug)]
enum Ended {
    /// Try again.
    Lost(String),
    /// Never again in this run.
    Stopped(String),
    Closing,
}

impl From<redis::RedisError> for Ended {
    fn from(error: redis::RedisError) -> Self {
        // The kind and Redis's own words; never the URL, which may hold a password.
        Ended::Lost(error.to_string())
    }
}

pub(super) struct Worker {
    config: EventsConfig,
    projector: Projector,
    /// Keeps the log for what is not told yet. Never read.
    pin: LogTail,
    /// Where in the log the stream stood when it was last heard of.
    frame: Cell<LogPlace>,
    /// As configured, until it was done.
    resume: Cell<Option<Seq>>,
    /// Since when the journal has been found starved at every look.
    starved: Cell<Option<Instant>>,
    shared: Arc<Shared>,
}

/// The log from one position on, an entry at a time.
struct Source {
    tail: LogTail,
    /// Entries of the frame read last that are not told yet.
    entries: VecDeque<(Seq, Entry)>,
    at: Position,
}

impl Worker {
    pub(super) fn new(config: EventsConfig, campaign: Campaign, pin: LogTail, shared: Arc<Shared>) -> Worker {
        let projector = Projector::new(campaign, &config);
        let resume = Cell::new(config.resume);
        Worker { config, projector, pin, frame: Cell::default(), resume, starved: Cell::default(), shared }
    }

    pub(super) fn run(self) {
        let shared = Arc::clone(&self.shared);
        // The stream would stand still, and nobody would know.
        let _told = OnPanic(move || {
            tracing::error!("the events thread panicked: nothing more is told in this run");
            shared.connected.store(false, Relaxed);
            shared.stopped.store(true, Relaxed);
        });
        let mut backoff = IDLE;
        let mut told_of_loss = false;
        loop {
            let before = self.shared.told.load(Relaxed);
            let Err(ended) = self.connection(&mut told_of_loss);
            self.shared.connected.store(false, Relaxed);
            match ended {
                Ended::Closing => return,
                Ended::Stopped(why) => {
                    tracing::error!(why, "the events stream has stopped: nothing more is told in this run");
                    self.shared.stopped.store(true, Relaxed);
                    // The worker ends, and with it what kept the log for it.
                    return;
                }
                Ended::Lost(why) => {
                    self.shared.errors.fetch_add(1, Relaxed);
                    if !std::mem::replace(&mut told_of_loss, true) {
                        tracing::warn!(why, "the events stream is not connected: it lags");
                    }
                    let went_on = self.shared.told.load(Relaxed) != before;
                    backoff = if went_on { IDLE } else { (backoff * 2).min(BACKOFF_MAX) };
                    if !self.sleep(backoff) {
                        return;
                    }
                }
            }
        }
    }

    /// False if the server is closing.
    fn sleep(&self, time: Duration) -> bool {
        let started = Instant::now();
        while !self.shared.is_closing() {
            self.look_at_the_lag();
            match time.checked_sub(started.elapsed()) {
                Some(left) if !left.is_zero() => std::thread::park_timeout(left.min(IDLE)),
                _ => return true,
            }
        }
        false
    }

    /// Notes since when something waits, and lets the log go where the lag is past its bound.
    fn look_at_the_lag(&self) {
        self.let_go();
        self.let_go_if_starved();
        let told = self.shared.told.load(Relaxed);
        if told >= self.projector.engine().durable().0 {
            self.shared.oldest.store(0, Relaxed);
        } else if self.shared.oldest.load(Relaxed) == 0 {
            self.shared.oldest.store(self.oldest_untold(Seq(told)).unwrap_or(0), Relaxed);
        }
    }

    /// What is told is not needed any more; nor is, past the bound, what is not.
    fn let_go(&self) {
        let bound = self.projector.engine().durable().0.saturating_sub(self.config.lag_entries_max);
        self.pin.let_go(self.frame.get().seq.max(Seq(bound)));
    }

    /// Bookings go before events: where no further segment can be made, the log is not kept for a Redis that is gone or too slow. For a
    /// moment that is ordinary, while a segment is being made.
    fn let_go_if_starved(&self) {
        let engine = self.projector.engine();
        if engine.stats().journal_starved == 0 {
            self.starved.set(None);
            return;
        }
        let since = self.starved.get().unwrap_or_else(Instant::now);
        self.starved.set(Some(since));
        if since.elapsed() >= STARVED_MAX {
            self.pin.let_go(engine.durable());
        }
    }

    /// When the first entry behind `told` was judged.
    fn oldest_untold(&self, told: Seq) -> Option<u64> {
        let mut tail = self.tail(self.frame.get());
        let mut oldest = None;
        loop {
            let mut note = |seq: Seq, _, entry: &Entry| {
                if seq > told {
                    oldest.get_or_insert(entry.at.0);
                }
            };
            match tail.next(&mut note) {
                Ok(true) if oldest.is_none() => {}
                Err(FollowError::Trimmed { oldest }) => tail = self.tail(oldest),
                Ok(_) | Err(_) => return oldest,
            }
        }
    }

    fn tail(&self, from: LogPlace) -> LogTail {
        self.projector.engine().tail(from).expect("there was a log to follow at the start")
    }

    /// One connection from its first command to its end.
    fn connection(&self, told_of_loss: &mut bool) -> Result<Infallible, Ended> {
        let mut redis = Connection::open(&self.config, self.projector.engine().epoch())?;
        let mut at = match redis.position()? {
            Some(at) => at,
            None => {
                let why = "the stream holds events and its cursor is gone, so nobody knows how far it was told";
                self.withdraw(&mut redis, Seq(0), why.to_owned())?
            }
        };
        self.tell(&mut redis, &at, &at, &[])?;
        self.shared.connected.store(true, Relaxed);
        if std::mem::replace(told_of_loss, false) {
            tracing::info!(entry = at.entry.0, "the events stream is connected again");
        }
        let mut source = self.begin(&mut redis, &mut at)?;
        let mut behind = Some((Instant::now(), self.shared.events.load(Relaxed)));
        loop {
            self.let_go_if_starved();
            let (events, late) = self.gather(&mut source)?;
            if source.at != at {
                self.tell(&mut redis, &at, &source.at, &events)?;
                at = source.at;
                self.advanced(&at, events.len());
                self.shared.oldest.store(source.oldest(), Relaxed);
            } else if late {
                if self.shared.is_closing() {
                    return Err(Ended::Closing);
                }
                std::thread::park_timeout(CATALOGUE_AGAIN);
            } else {
                if let Some((since, before)) = behind.take() {
                    let events = self.shared.events.load(Relaxed) - before;
                    let milliseconds = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(events, milliseconds, entry = at.entry.0, "the events stream has caught up");
                }
                self.rest(&mut redis, &source)?;
            }
        }
    }

    /// The log from `at` on, to be read and not to be kept: that is for `pin` alone, which lets go what is told.
    fn source(&self, from: LogPlace, at: Position) -> Source {
        let tail = self.tail(from);
        tail.let_go(Seq(u64::MAX));
        Source { tail, entries: VecDeque::new(), at }
    }

    fn advanced(&self, at: &Position, events: usize) {
        self.shared.told.store(at.entry.0, Relaxed);
        self.shared.events.fetch_add(events as u64, Relaxed);
        self.frame.set(at.frame);
        self.let_go();
    }

    fn tell(&self, redis: &mut Connection, at: &Position, to: &Position, events: &[Ready]) -> Result<(), Ended> {
        match redis.tell(at, to, events)? {
            Said::Done => Ok(()),
            Said::Elsewhere => Err(Ended::Lost("the cursor has moved".to_owned())),
            Said::Fenced => Err(Ended::Stopped("another server of a later epoch writes this stream".to_owned())),
        }
    }

    /// The log from the cursor on. Where it was trimmed past the cursor, a gap event is told first.
    fn begin(&self, redis: &mut Connection, at: &mut Position) -> Result<Source, Ended> {
        let engine = self.projector.engine();
        if at.entry > engine.durable() {
            let (entry, durable) = (at.entry, engine.durable());
            let why = format!("the stream tells of entry {entry} and the log ends at {durable}: it is of another log");
            return self.begin_again(redis, at, why);
        }
        let mut source = self.source(at.frame, *at);
        match source.read() {
            Ok(_) => {}
            Err(FollowError::Trimmed { oldest }) => {
                let gap = self.gap(at, oldest);
                self.tell(redis, at, &gap.0, &gap.1)?;
                *at = gap.0;
                self.shared.gaps.fetch_add(gap.1.len() as u64, Relaxed);
                self.advanced(at, gap.1.len());
                source = self.source(oldest, *at);
            }
            Err(error @ FollowError::OtherLog(_)) => return self.begin_again(redis, at, error.to_string()),
            Err(error @ FollowError::Unreadable(_)) => return Err(Ended::Lost(error.to_string())),
        }
        self.advanced(at, 0);
        Ok(source)
    }

    /// The stream is not of this log: begins where it was told to, once.
    fn begin_again(&self, redis: &mut Connection, at: &mut Position, why: String) -> Result<Source, Ended> {
        *at = self.withdraw(redis, at.entry, why)?;
        self.begin(redis, at)
    }

    /// Takes back what was told of entries that this log does not have, if that was asked for; what was told up to `told`.
    fn withdraw(&self, redis: &mut Connection, told: Seq, why: String) -> Result<Position, Ended> {
        let Some(keep) = self.resume.get() else { return Err(Ended::Stopped(why)) };
        let engine = self.projector.engine();
        let durable = engine.durable();
        if keep > durable {
            let why = format!("the stream is to go on behind entry {keep}, and the log ends at {durable}");
            return Err(Ended::Stopped(why));
        }
        let frame = self.place_before(keep)?;
        let last = told.max(redis.newest()?).max(keep);
        let json = self.projector.withdrawn(keep, last, engine.now());
        if redis.withdraw(keep, frame, &json)? != Said::Done {
            return Err(Ended::Stopped("another server of a later epoch writes this stream".to_owned()));
        }
        self.resume.set(None);
        tracing::warn!(
            why,
            entry = keep.0,
            last = last.0,
            "what the events stream told of later entries is taken back"
        );
        self.shared.events.fetch_add(1, Relaxed);
        Ok(Position { entry: keep, told: 0, frame })
    }

    /// Where in the log to read on behind entry `keep`: at or before it.
    fn place_before(&self, keep: Seq) -> Result<LogPlace, Ended> {
        let mut tail = self.tail(LogPlace::default());
        let mut place = LogPlace::default();
        loop {
            match tail.next(&mut |_, _, _| {}) {
                Ok(true) if tail.place().seq <= keep => place = tail.place(),
                Ok(_) => return Ok(place),
                // Trimmed past it: what is missing is told as a gap.
                Err(FollowError::Trimmed { oldest }) if oldest.seq > keep => {
                    return Ok(LogPlace { seq: keep, ..LogPlace::default() });
                }
                Err(FollowError::Trimmed { oldest }) => (tail, place) = (self.tail(oldest), oldest),
                Err(error) => return Err(Ended::Lost(error.to_string())),
            }
        }
    }

    // rule: EVT-1 what the log no longer has is named
    /// What is lost when the log begins at `oldest`, said in the stream, and where it goes on.
    fn gap(&self, at: &Position, oldest: LogPlace) -> (Position, Vec<Ready>) {
        let (first, last) = (at.entry.next(), oldest.seq);
        tracing::warn!(first = first.0, last = last.0, "the log no longer has what the events stream was not told");
        // Ids ascend, also where the entry was told in part.
        let n = if last == first { at.told } else { 0 };
        let json = self.projector.gap(first, last, n, self.projector.engine().now());
        (Position { entry: last, told: 0, frame: oldest }, vec![Ready { seq: last, n, json }])
    }

    /// The next events, and the position behind them in `source.at`. True: what comes next waits for the catalogue.
    fn gather(&self, source: &mut Source) -> Result<(Vec<Ready>, bool), Ended> {
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < BATCH_EVENTS && bytes < BATCH_BYTES {
            let Some((seq, entry)) = source.entries.front() else {
                match source.read() {
                    Ok(true) => continue,
                    Ok(false) => break,
                    Err(error) => return Err(Ended::Lost(error.to_string())),
                }
            };
            if source.at.told == self.projector.count(entry) {
                source.step(*seq);
                continue;
            }
            if events.is_empty() {
                self.shared.oldest.store(entry.at.0, Relaxed);
            }
            let n = source.at.told;
            let json = match self.projector.event(*seq, entry, n) {
                Ok(json) => json,
                Err(Cannot::NotYet) => return Ok((events, true)),
                Err(cannot @ Cannot::NoRecord(_)) => return Err(Ended::Stopped(cannot.to_string())),
            };
            bytes += json.len();
            events.push(Ready { seq: *seq, n, json });
            source.at.told += 1;
        }
        Ok((events, false))
    }

    /// Nothing to tell: waits for the log, and looks whether Redis still has what it was told.
    fn rest(&self, redis: &mut Connection, source: &Source) -> Result<(), Ended> {
        self.shared.oldest.store(0, Relaxed);
        if self.shared.is_closing() {
            return Err(Ended::Closing);
        }
        match source.tail.wait(IDLE) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // The journal has ended: this server will soon.
            Err(_) => std::thread::park_timeout(IDLE),
        }
        if redis.position()? == Some(source.at) {
            Ok(())
        } else {
            Err(Ended::Lost("Redis has lost its end of the stream".to_owned()))
        }
    }
}

impl Source {
    /// Reads a frame, if there is one.
    fn read(&mut self) -> Result<bool, FollowError> {
        let (entries, told) = (&mut self.entries, self.at.entry);
        self.tail.next(&mut |seq, _, entry| {
            if seq > told {
                entries.push_back((seq, entry.clone()));
            }
        })
    }

    /// The front entry is told.
    fn step(&mut self, seq: Seq) {
        self.entries.pop_front();
        self.at.entry = seq;
        self.at.told = 0;
        if self.entries.is_empty() {
            self.at.frame = self.tail.place();
        }
    }

    /// When the oldest entry that was read and may not be told yet was judged; 0 if there is none.
    fn oldest(&self) -> u64 {
        self.entries.front().map_or(0, |(_, entry)| entry.at.0)
    }
}
