//! What a start learns from Redis before it writes anything, and how it takes its epoch there.
//!
//! A Redis that cannot be asked keeps nobody from starting: what it would have said is found when it is back, by the
//! shipper. What is found now is an error, because an operator is looking.

use std::sync::Arc;

use super::directory::OpenError;
use super::reader::{ReadError, Tail, log_start};
use super::storage::Storage;
use super::stream::{Head, Stream, StreamError};
use super::tail::{Cursor, TailError};
use crate::ids::{Epoch, Seq};

/// Compares the stream with a log that was read to its end. `taken` is the newest epoch that the directory knows of.
/// Changes nothing; `Ok(Some(why))` if Redis could not be asked.
// rule: FNC-5 a start that finds Redis ahead of its log, or of its epoch, writes nothing and names `berth recover`
pub(crate) fn meet(
    stream: &mut dyn Stream,
    storage: &Arc<dyn Storage>,
    tail: &Tail,
    taken: Epoch,
) -> Result<Option<String>, OpenError> {
    let head = match stream.head() {
        Ok(head) => head,
        Err(error) => return Ok(Some(error.to_string())),
    };
    if head.epoch > taken {
        return Err(OpenError::Fenced { redis: head.epoch, own: taken });
    }
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
    if head.last > Seq(0) && !same_history(storage, &head)? {
        return Err(OpenError::RedisDiverged { redis: head.last });
    }
    Ok(None)
}

/// Takes the epoch in Redis, so that an older owner is refused from here on. `Ok(Some(why))` if Redis could not be asked.
pub(crate) fn take(stream: &mut dyn Stream, epoch: Epoch) -> Result<Option<String>, OpenError> {
    match stream.take(epoch) {
        Ok(_) => Ok(None),
        Err(StreamError::Fenced { epoch: redis }) => Err(OpenError::Fenced { redis, own: epoch }),
        Err(error) => Ok(Some(error.to_string())),
    }
}

/// Whether the log has the frame that the stream ends with. What was trimmed from the log cannot be compared.
fn same_history(storage: &Arc<dyn Storage>, head: &Head) -> Result<bool, OpenError> {
    if head.last < log_start(&**storage)? {
        return Ok(true);
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
