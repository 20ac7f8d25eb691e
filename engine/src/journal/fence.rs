//! What a start learns from Redis before it writes anything, and how it takes its epoch there.
//!
//! A Redis that cannot be asked keeps no cell with a directory from starting: what it would have said is found when it is back, by
//! the shipper. What is found now is an error, because an operator is looking.

use std::sync::Arc;
use std::time::Duration;

use super::directory::OpenError;
use super::reader::{ReadError, Tail, log_start};
use super::storage::Storage;
use super::stream::{Head, Stream, StreamError};
use super::tail::{Cursor, TailError};
use crate::ids::{Epoch, Seq};

/// How long a start waits for a connection, and for an answer. An operator waits, and a Redis that hangs is met by the shipper too.
const PATIENCE: Duration = Duration::from_secs(2);

/// There once shipping has stopped because Redis holds another history: what the log has trimmed since cannot be compared.
pub(crate) const OTHER_HISTORY: &str = "redis-has-another-history";

/// What a start learnt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Met {
    /// Why Redis could not be asked, if so.
    pub(crate) unreachable: Option<String>,
    /// The newest entry of this log that Redis holds.
    pub(crate) there: Seq,
}

impl Met {
    fn nobody(error: &StreamError) -> Self {
        Self { unreachable: Some(error.to_string()), there: Seq(0) }
    }
}

/// Asks, with less patience than the shipper has.
fn ask(
    stream: &mut dyn Stream,
    ask: impl FnOnce(&mut dyn Stream) -> Result<Head, StreamError>,
) -> Result<Head, StreamError> {
    stream.hurry(Some(PATIENCE));
    let told = ask(stream);
    stream.hurry(None);
    told
}

/// Asks whether a directory that is empty or absent may become a cell's: a lost one is not replaced by an empty one, and who cannot
/// ask does not know. Neither side is changed.
// rule: FNC-5 a start that finds Redis ahead of its log, or of its epoch, writes nothing and names `berth recover`
pub(crate) fn meet_empty(stream: &mut dyn Stream, storage: &dyn Storage) -> Result<(), OpenError> {
    let dir = storage.path("");
    match ask(stream, |stream| stream.head()) {
        Err(error) => Err(OpenError::RedisUnknown { dir, why: error.to_string() }),
        Ok(head) if head.last > Seq(0) => Err(OpenError::EmptyBehindRedis { dir, redis: head.last }),
        Ok(head) if head.epoch > Epoch(0) => Err(OpenError::EmptyBehindOwner { dir, redis: head.epoch }),
        Ok(_) => Ok(()),
    }
}

/// Compares the stream with a log that was read to its end. `taken` is the newest epoch that the directory knows of.
/// Changes nothing.
// rule: FNC-5
pub(crate) fn meet(
    stream: &mut dyn Stream,
    storage: &Arc<dyn Storage>,
    tail: &Tail,
    taken: Epoch,
) -> Result<Met, OpenError> {
    let head = match ask(stream, |stream| stream.head()) {
        Ok(head) => head,
        Err(StreamError::OtherCell) => return Err(OpenError::RedisOtherCell),
        Err(error) => return Ok(Met::nobody(&error)),
    };
    if head.epoch > taken {
        return Err(OpenError::Fenced { redis: head.epoch, own: taken });
    }
    compare(&head, storage, tail)
}

/// Takes the epoch in Redis, so that an older owner is refused from here on, and compares again: until then one that lived may have
/// gone on. Nothing of the log may have been changed yet.
pub(crate) fn take(
    stream: &mut dyn Stream,
    storage: &Arc<dyn Storage>,
    tail: &Tail,
    epoch: Epoch,
) -> Result<Met, OpenError> {
    match ask(stream, |stream| stream.take(epoch)) {
        Ok(head) => compare(&head, storage, tail),
        Err(StreamError::Fenced { epoch: redis }) => Err(OpenError::Fenced { redis, own: epoch }),
        Err(StreamError::OtherCell) => Err(OpenError::RedisOtherCell),
        Err(error) => Ok(Met::nobody(&error)),
    }
}

fn compare(head: &Head, storage: &Arc<dyn Storage>, tail: &Tail) -> Result<Met, OpenError> {
    if head.last > tail.last {
        if let Some(torn) = &tail.torn {
            let what = format!(
                "a bad frame, and Redis holds entries up to {}, so what was here had been durable; the log ends at {}",
                head.last, tail.last
            );
            return Err(ReadError::Damaged { path: storage.path(&torn.name), offset: torn.offset, what }.into());
        }
        return Err(OpenError::RedisAhead { redis: head.last, log: tail.last });
    }
    if head.last > Seq(0) && !same_history(storage, head)? {
        return Err(OpenError::RedisDiverged { redis: head.last });
    }
    let there = if head.damaged.is_some() { Seq(0) } else { head.last };
    Ok(Met { unreachable: None, there })
}

/// Whether the log has the frame that the stream ends with. What was trimmed from the log cannot be compared.
fn same_history(storage: &Arc<dyn Storage>, head: &Head) -> Result<bool, OpenError> {
    if head.last < log_start(&**storage)? {
        return Ok(storage.open(OTHER_HISTORY).is_err());
    }
    match Cursor::after(Arc::clone(storage), head.last) {
        Ok(cursor) => Ok(head.link.is_none_or(|link| link == cursor.place().1)),
        Err(TailError::Never(_)) => Ok(false),
        // A log without a used segment; the shipper looks again.
        Err(TailError::Now(_)) => Ok(true),
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests;
