//! How far a start is, for whoever waits for it.

/// What a start is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Checking a snapshot, before anything is loaded from it.
    CheckSnapshot,
    /// Loading it.
    LoadSnapshot,
    /// Applying the log.
    Log,
}

/// How far a start is. `entries` and `nanos` are of the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub stage: Stage,
    /// Entries of the log applied, or records of the snapshot.
    pub entries: u64,
    /// Bytes behind it.
    pub bytes: u64,
    /// Bytes there are. Of the log more than will be applied: its last segments are not full.
    pub bytes_max: u64,
    /// Since the stage was begun, in nanoseconds.
    pub nanos: u64,
}
