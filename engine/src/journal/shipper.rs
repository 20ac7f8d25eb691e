//! Write-behind to Redis: one thread tails the log behind the durable watermark and appends each frame to a stream.
//!
//! Redis is a copy, never asked whether a unit is free. While it is slow, full, restarted or gone, booking goes
//! on and the lag grows; when it is back the shipper reads its head and goes on from there. One server-side
//! function appends: it checks the epoch, that the frame follows the head, and the link, so a retry cannot
//! duplicate, a lost append cannot leave a hole, and an older owner is fenced.
//!
//! Keys: `{prefix}:journal`, a stream whose entry `<last sequence>-0` has the field `f`, one frame as it lies
//! in the segment; `{prefix}:head`, a hash of `last`, `link` and `epoch`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use parking_lot::Mutex;
use redis::Commands;

use super::storage::Storage;
use super::tail::{Cursor, Shipment, TailError};
use super::watermark::Watermark;
use crate::clock::Stopwatch;
use crate::config::RedisConfig;
use crate::error::Failure;
use crate::ids::{Epoch, Seq};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// How long the shipper sleeps when nobody rings, and between attempts to connect.
const IDLE: Duration = Duration::from_millis(200);
/// The longest wait between attempts to connect.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A Redis slower than this counts as gone; the append it may still do is found at the next connect.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a closing engine waits for Redis to take what it has not. The log has it, and the next start ships it.
const CLOSING_MAX: Duration = Duration::from_secs(2);

// rule: FNC-1 an append to the stream names its epoch, its place and the link before it, and is refused otherwise
const APPEND: &str = r"
local head = redis.call('HMGET', KEYS[2], 'last', 'link', 'epoch')
local last = tonumber(head[1] or '0')
if head[3] and tonumber(head[3]) > tonumber(ARGV[1]) then return 'fenced' end
if last + 1 ~= tonumber(ARGV[2]) then return 'elsewhere' end
if head[2] and head[2] ~= ARGV[4] then return 'diverged' end
redis.call('XADD', KEYS[1], ARGV[3] .. '-0', 'f', ARGV[6])
redis.call('HSET', KEYS[2], 'last', ARGV[3], 'link', ARGV[5], 'epoch', ARGV[1])
return 'ok'
";

/// How the write-behind stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShipperStats {
    /// 1 while connected.
    pub connected: u64,
    /// The newest entry known to be in Redis.
    pub shipped: u64,
    /// Durable entries not yet there.
    pub lag_entries: u64,
    /// Frames appended in this run.
    pub frames: u64,
    /// Connections lost and failed.
    pub errors: u64,
    /// 1 once shipping has stopped for good: another owner took over, or Redis holds another history.
    pub stopped: u64,
    /// Why it stopped, or the last error.
    pub last_error: Option<String>,
}

#[derive(Debug)]
struct Shared {
    marks: Arc<Watermark>,
    connected: AtomicBool,
    stopped: AtomicBool,
    closing: AtomicBool,
    frames: AtomicU64,
    errors: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// Wakes the shipper when the watermark has moved.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Thread);

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.unpark();
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Debug)]
pub(crate) struct Shipper {
    shared: Arc<Shared>,
    bell: Bell,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Shipper {
    pub(crate) fn spawn(
        config: RedisConfig,
        storage: Arc<dyn Storage>,
        epoch: Epoch,
        marks: Arc<Watermark>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            marks,
            connected: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            frames: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            last_error: Mutex::new(None),
        });
        let worker = Worker { config, storage, epoch, shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new().name("berth-shipper".to_owned()).spawn(move || worker.run())?;
        let bell = Bell(thread.thread().clone());
        Ok(Self { shared, bell, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    pub(crate) fn stats(&self) -> ShipperStats {
        let shared = &self.shared;
        let shipped = shared.marks.in_redis().0;
        ShipperStats {
            connected: u64::from(shared.connected.load(Relaxed)),
            shipped,
            lag_entries: shared.marks.durable().0.saturating_sub(shipped),
            frames: shared.frames.load(Relaxed),
            errors: shared.errors.load(Relaxed),
            stopped: u64::from(shared.stopped.load(Relaxed)),
            last_error: shared.last_error.lock().clone(),
        }
    }

    /// Ships what is durable, if Redis takes it within [`CLOSING_MAX`], and ends. A thread that waits for a silent
    /// Redis is left to its own time-out.
    pub(crate) fn close(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        self.shared.closing.store(true, Release);
        self.bell.ring();
        let watch = Stopwatch::start();
        while !thread.is_finished() && watch.elapsed() < CLOSING_MAX + IDLE {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    config: RedisConfig,
    storage: Arc<dyn Storage>,
    epoch: Epoch,
    shared: Arc<Shared>,
}

/// Why a connection was given up.
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

impl From<TailError> for Ended {
    fn from(error: TailError) -> Self {
        match error {
            TailError::Never(why) => Ended::Stopped(why),
            TailError::Now(why) => Ended::Lost(why),
        }
    }
}

impl Worker {
    fn run(self) {
        let mut backoff = IDLE;
        loop {
            let shipped = self.shared.frames.load(Relaxed);
            let Err(ended) = self.connection();
            self.shared.connected.store(false, Relaxed);
            match ended {
                Ended::Closing => return,
                Ended::Stopped(why) => {
                    self.shared.marks.fail_redis(Failure::RedisStopped { reason: why.clone() });
                    *self.shared.last_error.lock() = Some(why);
                    self.shared.stopped.store(true, Relaxed);
                    return;
                }
                Ended::Lost(why) => {
                    *self.shared.last_error.lock() = Some(why);
                    self.shared.errors.fetch_add(1, Relaxed);
                    let went_on = self.shared.frames.load(Relaxed) > shipped;
                    backoff = if went_on { IDLE } else { (backoff * 2).min(BACKOFF_MAX) };
                    if !self.sleep(backoff) {
                        return;
                    }
                }
            }
        }
    }

    /// Sleeps through the bell; false if the engine is closing.
    fn sleep(&self, time: Duration) -> bool {
        let watch = Stopwatch::start();
        while !self.is_closing() {
            match time.checked_sub(watch.elapsed()) {
                Some(left) if !left.is_zero() => std::thread::park_timeout(left),
                _ => return true,
            }
        }
        false
    }

    fn is_closing(&self) -> bool {
        self.shared.closing.load(Acquire)
    }

    /// One connection from its first command to its end.
    fn connection(&self) -> Result<std::convert::Infallible, Ended> {
        let client = redis::Client::open(self.config.url.as_str())?;
        let mut connection = client.get_connection_with_timeout(TIMEOUT)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.set_write_timeout(Some(TIMEOUT))?;
        let append = redis::Script::new(APPEND);
        let (stream, head_key) = (format!("{}:journal", self.config.prefix), format!("{}:head", self.config.prefix));
        let head: Option<u64> = connection.hget(&head_key, "last")?;
        let head = Seq(head.unwrap_or(0));
        if head > self.shared.marks.durable() {
            let durable = self.shared.marks.durable();
            return Err(Ended::Stopped(format!("Redis is ahead of the log: it holds {head}, the log {durable}")));
        }
        self.shared.marks.set_in_redis(head);
        self.shared.connected.store(true, Relaxed);
        // A fresh log has no segment in use yet: there is nothing to ship until the watermark has moved.
        while self.shared.marks.durable() == head {
            self.rest(&mut connection, &head_key)?;
        }
        let mut cursor = Cursor::after(Arc::clone(&self.storage), head)?;
        let mut closing: Option<Stopwatch> = None;
        loop {
            while let Some(frame) = cursor.next(self.shared.marks.durable())? {
                if self.is_closing() && closing.get_or_insert_with(Stopwatch::start).elapsed() > CLOSING_MAX {
                    return Err(Ended::Closing);
                }
                let Shipment { header, link, bytes } = &frame;
                let said: String = append
                    .key(&stream)
                    .key(&head_key)
                    .arg(self.epoch.0)
                    .arg(header.first.0)
                    .arg(header.last().0)
                    .arg(format!("{:016x}", header.previous.0))
                    .arg(format!("{:016x}", link.0))
                    .arg(bytes.as_slice())
                    .invoke(&mut connection)?;
                match said.as_str() {
                    "ok" => {
                        self.shared.marks.set_in_redis(header.last());
                        self.shared.frames.fetch_add(1, Relaxed);
                    }
                    // Its head is not where it was: read it again.
                    "elsewhere" => return Err(Ended::Lost("the head of the stream moved".to_owned())),
                    "fenced" => return Err(Ended::Stopped("a newer epoch owns the stream".to_owned())),
                    _ => {
                        return Err(Ended::Stopped("the stream holds another history than the log".to_owned()));
                    }
                }
            }
            self.rest(&mut connection, &head_key)?;
        }
    }

    /// Waits for the bell. When none rang, looks whether the head is still where it was: a Redis that was restarted
    /// empty, or lost its tail, is noticed while there is nothing to ship.
    fn rest(&self, connection: &mut redis::Connection, head_key: &str) -> Result<(), Ended> {
        if self.is_closing() {
            return Err(Ended::Closing);
        }
        let watch = Stopwatch::start();
        std::thread::park_timeout(IDLE);
        if watch.elapsed() < IDLE {
            return Ok(());
        }
        let seen: Option<u64> = connection.hget(head_key, "last")?;
        if seen.unwrap_or(0) != self.shared.marks.in_redis().0 {
            return Err(Ended::Lost("the head of the stream moved".to_owned()));
        }
        Ok(())
    }
}
