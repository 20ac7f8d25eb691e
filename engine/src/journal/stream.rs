//! What the write-behind asks of Redis: a trait, so that it can be run against a twin that fails on purpose.
//!
//! A stream of frames with a head, and snapshots beside it from which a lost machine is rebuilt. Every change is one
//! step on the server: it checks the epoch and the owner, and is done wholly or not at all. All that may be relied on:
//! changes are done in the order they were asked for, and a server that loses some loses the newest ones. A
//! [`StreamError::Lost`] means that nobody knows whether the change was done: the head tells.
//!
//! An owner is an epoch and a random token, so that two copies of one directory that take the same epoch are told
//! apart. A [`Stream`] carries its token; the epoch is said in every call.

use std::fmt;
use std::time::Duration;

use super::frame::{Frame, FrameHeader, Link};
use crate::ids::{Epoch, Seq};

/// Snapshots kept beside the stream: the newest and the one before it.
pub const SNAPSHOTS_KEPT: usize = 2;

/// One frame of the log, as it lies in the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipment {
    /// Its header.
    pub header: FrameHeader,
    /// Its own link, which the next frame names.
    pub link: Link,
    /// All its bytes.
    pub bytes: Vec<u8>,
}

impl Shipment {
    /// The frame at the front of `bytes`, checked.
    ///
    /// # Errors
    /// Why there is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, super::frame::FrameError> {
        let Frame { header, link, bytes } = Frame::read(bytes)?;
        Ok(Self { header, link, bytes: bytes.to_vec() })
    }
}

/// A snapshot of which every piece is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Every entry up to here is in it.
    pub s0: Seq,
    /// It can be used by who has every entry up to here.
    pub s1: Seq,
    /// Of so many pieces: the file's header, then each of its chunks.
    pub pieces: u64,
    /// Bytes of those.
    pub bytes: u64,
}

/// Where the stream stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The newest entry in it; 0 if nothing was ever appended.
    pub last: Seq,
    /// The link of the frame that it ends; `None` if nothing was ever appended or installed.
    pub link: Option<Link>,
    /// The newest epoch that was taken; 0 if none was.
    pub epoch: Epoch,
    /// The stream has the entries behind this one. Those up to it were trimmed, or never there.
    pub base: Seq,
    /// The snapshots that are whole, newest first.
    pub snapshots: Vec<Whole>,
    /// What is not as it was left: keys that were removed by hand. The owner clears the stream and ships it anew.
    pub damaged: Option<String>,
}

impl Head {
    /// The newest snapshot from which everything up to the head can be rebuilt, if the stream alone does not do.
    #[must_use]
    pub fn usable(&self) -> Option<&Whole> {
        self.snapshots.iter().find(|whole| whole.s0 >= self.base && whole.s1 <= self.last)
    }
}

/// How a server holds memory, and what of that an operator should change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerState {
    /// Bytes in use.
    pub memory_used_bytes: u64,
    /// Bytes that it may use; 0 is no bound.
    pub memory_max_bytes: u64,
    /// What an operator should change, in sentences; empty if nothing.
    pub warnings: Vec<String>,
}

/// Why a call did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The connection is gone or no answer came in time: what was asked may or may not have been done.
    #[error("{0}")]
    Lost(String),
    /// The server answers and takes no writes for now. Nothing was done.
    #[error("Redis takes no writes: {0}")]
    Refused(String),
    /// The server has no memory left. Nothing was done.
    #[error("Redis is out of memory")]
    OutOfMemory,
    /// The server may never be shipped to as it is set up: it evicts, or is too old.
    #[error("{0}")]
    Unfit(String),
    /// The head is not where it was thought to be. Nothing was done.
    #[error("the head of the stream moved")]
    Elsewhere,
    /// A newer epoch was taken, or another owner took this one. Nothing was done, and nothing ever will be.
    #[error("another owner took epoch {epoch}")]
    Fenced {
        /// The epoch in force.
        epoch: Epoch,
    },
    /// The stream is of another cell: of a directory with another `code.key`. Nothing was done, its owner's epoch stands.
    #[error("the stream is of another cell")]
    OtherCell,
    /// The stream holds another history: the frame before this one is another. Nothing was done.
    #[error("the stream holds another history than the log")]
    Diverged,
    /// A snapshot is to be kept or trimmed behind, and is not whole. Nothing was done.
    #[error("the snapshot is not whole in Redis")]
    NotWhole,
}

/// A connection of one owner to one cell's stream. Used by one thread; blocks it for as long as the time-outs allow.
///
/// Connects when it is first used, and again at the first call after a [`StreamError::Lost`].
pub trait Stream: Send + fmt::Debug {
    /// From now on waits at most this long for a connection and for an answer; with `None` as long as it was configured to.
    fn hurry(&mut self, _at_most: Option<Duration>) {}

    /// Says which cell asks, from now on: what copies of one directory share, and no two cells do. A stream that knows its cell
    /// takes nothing from another ([`StreamError::OtherCell`]), and one that is not told goes by epoch and token alone.
    fn identify(&mut self, _identity: u64) {}

    /// Where the stream stands. Changes nothing.
    ///
    /// # Errors
    /// Lost, refused or unfit.
    fn head(&mut self) -> Result<Head, StreamError>;

    /// Takes `epoch` and says where the stream stands: from then on every older owner is refused. Taking the same epoch
    /// again is fine for its owner. Goes through when the server is out of memory.
    ///
    /// # Errors
    /// [`StreamError::Fenced`] if a newer one was taken, or the same by another owner; [`StreamError::OtherCell`].
    fn take(&mut self, epoch: Epoch) -> Result<Head, StreamError>;

    /// Asks that the frames, which follow each other, are appended: all or none. Does not wait for the answer, which
    /// [`Stream::appended`] gives; more may be sent before that. An append that follows one that was refused is refused, too, because
    /// its first frame does not follow the head.
    ///
    /// Every other call, and an error of this one, forgets the answers that are still to come: what they were about may have been
    /// done.
    ///
    /// # Errors
    /// Lost.
    fn send(&mut self, epoch: Epoch, frames: &[Shipment]) -> Result<(), StreamError>;

    /// Waits for the answer to the oldest append that was sent and not answered.
    ///
    /// # Errors
    /// Fenced; elsewhere, if its first frame did not follow the head; diverged, if that followed another frame than the head's. The
    /// answers behind this one are then forgotten.
    fn appended(&mut self) -> Result<(), StreamError>;

    /// Appends the frames and waits for the answer.
    ///
    /// # Errors
    /// As [`Stream::send`] and [`Stream::appended`].
    fn append(&mut self, epoch: Epoch, frames: &[Shipment]) -> Result<(), StreamError> {
        self.send(epoch, frames)?;
        self.appended()
    }

    /// Whether this server can say when an append is as durable as it can make it: then [`Stream::settle`] waits for that,
    /// else an append that was answered is all there is. May change when the server is asked how it stands.
    fn settles(&self) -> bool;

    /// Waits until all that was appended on this connection is on the server's disk; false if it was not in time.
    ///
    /// # Errors
    /// Lost or refused.
    fn settle(&mut self) -> Result<bool, StreamError>;

    /// How the server stands. Changes nothing.
    ///
    /// # Errors
    /// Lost or refused.
    fn server(&mut self) -> Result<ServerState, StreamError>;

    /// Stores piece `number` of the snapshot at `s0`; piece 0 does away with those that were there.
    ///
    /// # Errors
    /// Fenced, out of memory.
    fn put_piece(&mut self, epoch: Epoch, s0: Seq, number: u64, bytes: &[u8]) -> Result<(), StreamError>;

    /// How many pieces of the snapshot at `s0` are there: those from 0 up.
    ///
    /// # Errors
    /// Lost or refused.
    fn pieces(&mut self, s0: Seq) -> Result<u64, StreamError>;

    /// From now on the snapshot is among those kept beside the stream; the one that is then one too many goes.
    ///
    /// # Errors
    /// [`StreamError::NotWhole`] if a piece is missing or the stream does not reach S1.
    fn keep(&mut self, epoch: Epoch, snapshot: Whole) -> Result<(), StreamError>;

    /// Drops the frames up to entry `behind`, which ends one.
    ///
    /// # Errors
    /// [`StreamError::NotWhole`] if no kept snapshot covers them.
    fn trim(&mut self, epoch: Epoch, behind: Seq) -> Result<(), StreamError>;

    /// In one step does away with the frames and the snapshots and begins anew behind entry `base`, whose frame has
    /// `link`; with the snapshot, whose pieces are there already.
    ///
    /// # Errors
    /// [`StreamError::NotWhole`] if a piece is missing.
    fn install(&mut self, epoch: Epoch, base: Seq, link: Link, snapshot: Option<Whole>) -> Result<(), StreamError>;

    /// The frames behind entry `after` in order, at most `count` of them. As they are: the reader checks.
    ///
    /// # Errors
    /// Lost or refused.
    fn frames(&mut self, after: Seq, count: usize) -> Result<Vec<Vec<u8>>, StreamError>;

    /// A piece of the snapshot at `s0`. As it is: the reader checks.
    ///
    /// # Errors
    /// Lost or refused.
    fn piece(&mut self, s0: Seq, number: u64) -> Result<Option<Vec<u8>>, StreamError>;
}

/// Time-outs of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to be made. Default 5 s.
    pub connect: Duration,
    /// For an answer. Default 10 s. A server slower than this counts as gone; what it may still do is found at the next
    /// connect.
    pub answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), answer: Duration::from_secs(10) }
    }
}
