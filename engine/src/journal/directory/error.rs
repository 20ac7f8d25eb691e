//! Why a data directory cannot be used, each in one sentence that says what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::LAYOUT_VERSION;
use crate::ids::{CellId, Epoch, Seq};
use crate::journal::lock::after;
use crate::journal::reader::ReadError;
use crate::journal::snapshot::SnapshotError;

/// What to do where Redis has what the directory has not.
const RECOVER: &str = "`berth recover --from URL --into NEW-DIR --old-owner-is-dead --code-key FILE`, where FILE is this \
                       directory's code.key";

/// Why a data directory cannot be used. Nothing was written to its log, and nothing at all to one that is empty.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns it.
    #[error("data directory {} is locked by another process{}", dir.display(), after(*waited))]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The log does not do without the snapshots it was trimmed behind, and they cannot be read.
    #[error(
        "{error}; of the snapshots it goes with none could be used: {snapshots}. `berth recover` rebuilds a directory from Redis, \
         `berth restore` from a backup"
    )]
    WithoutSnapshots {
        /// What was found in the log.
        error: Box<OpenError>,
        /// Each snapshot's path, and what is wrong with it.
        snapshots: String,
    },
    /// Written by another version.
    #[error("data directory {} has layout {found}, this build reads layout {LAYOUT_VERSION}", dir.display())]
    Version {
        /// The directory.
        dir: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// The key behind its booking codes is another than it was.
    #[error(
        "{} is not the key that the codes of this directory's bookings were made with; put the right one back",
        path.display()
    )]
    CodeKey {
        /// The key's file.
        path: PathBuf,
    },
    /// Another cell's.
    #[error("data directory {} is of cell {found}, not {expected}", dir.display())]
    OtherCell {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: CellId,
    },
    /// Not a data directory, and not empty.
    #[error("{} holds files but is not a berth data directory", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
    },
    /// The operating system said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The journal cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A snapshot is of another version or cell, or does not fit the configured limits.
    #[error("{}: {error}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: SnapshotError,
    },
    /// The journal does not fit the configured limits, or contradicts itself.
    #[error("the journal cannot be replayed: entry {seq}: {what}")]
    Replay {
        /// The entry.
        seq: crate::ids::Seq,
        /// Why.
        what: String,
    },
    /// A recovery or a restore began to fill it and did not end.
    #[error("{} is of a recovery or a restore that did not end: remove it and begin again", dir.display())]
    Recovering {
        /// The directory.
        dir: PathBuf,
    },
    /// A first start, and Redis cannot be asked whether it is one.
    #[error(
        "{} is empty, and Redis cannot be asked whether it holds entries of this cell ({why}): an empty directory begins \
         a cell only when Redis has nothing of it. Start Redis first, or begin without [redis] and add it later",
        dir.display()
    )]
    RedisUnknown {
        /// The directory.
        dir: PathBuf,
        /// Why it cannot be asked.
        why: String,
    },
    /// Not a first start: Redis holds entries of this cell.
    #[error(
        "{} is empty, and Redis holds {redis} entries of this cell. If their directory is lost, rebuild it with `berth \
         recover --from URL --into {} --old-owner-is-dead --code-key FILE`, where FILE is a copy of its code.key (without \
         one --new-code-key); if they are not of this cell, give it a redis.prefix of its own",
        dir.display(), dir.display()
    )]
    EmptyBehindRedis {
        /// The directory.
        dir: PathBuf,
        /// The newest entry in Redis.
        redis: Seq,
    },
    /// Not a first start: somebody owns the cell, and Redis has nothing of it.
    #[error(
        "{} is empty, and another owner has taken epoch {redis} of this cell in Redis, which holds no entry of it: there is \
         nothing to recover. If that owner is gone for good, remove the keys under redis.prefix and start again",
        dir.display()
    )]
    EmptyBehindOwner {
        /// The directory.
        dir: PathBuf,
        /// The epoch in Redis.
        redis: Epoch,
    },
    /// Redis holds entries that the log does not: a disk that lost what it had synced, or a copy of an older day.
    #[error(
        "Redis holds entries up to {redis}, the log only up to {log}: what was acknowledged is missing here. If the disk \
         has lost it, rebuild the directory as another with {RECOVER}"
    )]
    RedisAhead {
        /// The newest entry in Redis.
        redis: Seq,
        /// The newest entry in the log.
        log: Seq,
    },
    /// Redis holds a stream that did not come from this log.
    #[error(
        "Redis holds entries up to {redis} of another history than this log: give the cell a redis.prefix of its own, or, \
         if that history is the right one, rebuild it as another directory with {RECOVER}"
    )]
    RedisDiverged {
        /// The newest entry in Redis.
        redis: Seq,
    },
    /// Redis holds another cell under this prefix.
    #[error("Redis holds another cell under this prefix: give this one a redis.prefix of its own")]
    RedisOtherCell,
    /// Another owner has taken the cell over.
    #[error(
        "another owner took epoch {redis} in Redis, and this directory knows of {own}: it is an old copy, and must not \
         serve again. If the other is dead, what it shipped can be rebuilt as another directory with {RECOVER}"
    )]
    Fenced {
        /// The epoch in Redis.
        redis: Epoch,
        /// The newest epoch of this directory.
        own: Epoch,
    },
    /// A limit in the configuration that cannot be.
    #[error("{field}: {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// Why not.
        reason: String,
    },
}
