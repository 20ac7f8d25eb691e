//! What an engine is opened with.

use std::path::PathBuf;
use std::time::Duration;

use crate::ids::CellId;
use crate::inventory::Limits;
use crate::journal::directory::OpenError;
use crate::journal::entry::ENTRY_BYTES_MAX;
use crate::journal::stream::Timeouts;

/// Redis as the write-behind copy of the journal.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// `redis://host:port/db`, or `rediss://` with TLS; may hold a password, so it is never logged.
    pub url: String,
    /// Prefix of the keys: `{prefix}:journal` is the stream, `{prefix}:head` its head. Give each cell its own.
    pub prefix: String,
    /// The password, where it is not in the URL. Never logged.
    pub password: Option<String>,
    /// With TLS: whom to trust and who we are, where the system's roots and no certificate will not do.
    pub tls: RedisTls,
    /// How long to wait for a connection and for an answer.
    pub timeouts: Timeouts,
}

/// Certificates for a Redis with TLS, in PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Who signed the server's certificate. Default the system's roots.
    pub ca_pem: Option<Vec<u8>>,
    /// Our certificate and its key, for a server that asks for one.
    pub client_pem: Option<(Vec<u8>, Vec<u8>)>,
}

impl RedisConfig {
    /// With the default time-outs and no password but the URL's.
    #[must_use]
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: prefix.into(),
            password: None,
            tls: RedisTls::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl std::fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisConfig({})", self.prefix)
    }
}

/// The journal of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// The data directory; created if absent.
    pub dir: PathBuf,
    /// Bytes per segment, preallocated. Default 64 MiB, minimum [`JournalConfig::SEGMENT_BYTES_MIN`]; at least
    /// `buffer_bytes` plus 1 KiB, so that every batch fits one. Better twice `buffer_bytes`: with less, a moment of `journal_full` may
    /// come whenever a new segment is begun, until the one after it is made.
    pub segment_bytes: u64,
    /// Bytes of entries that may wait for the disk before `submit` refuses with `journal_full`. Default 16 MiB,
    /// minimum 64 KiB. Also bounds one publish.
    pub buffer_bytes: usize,
    /// Bytes of all segments together, past which what takes units is refused with `journal_full` until the log is
    /// trimmed. Default no bound but the disk's.
    pub log_bytes_max: u64,
    /// For rehearsals: what is written stays in process memory until it is synced, so that `kill -9` loses what
    /// a power cut could. Costs a copy of every batch.
    pub power_cut_rehearsal: bool,
    /// For rehearsals: a file that says how many milliseconds longer each sync is to take, read at each. It may change any time.
    pub slow_disk_rehearsal: Option<PathBuf>,
    /// For rehearsals: the wall clock is so much further back than it is, when it is read: once, at the start.
    pub clock_back_rehearsal: Duration,
    /// Write-behind to Redis. Booking goes on without it.
    pub redis: Option<RedisConfig>,
}

impl JournalConfig {
    /// The least [`JournalConfig::segment_bytes`].
    pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
    /// The least [`JournalConfig::buffer_bytes`].
    pub const BUFFER_BYTES_MIN: usize = 64 << 10;

    /// The defaults, in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            buffer_bytes: ENTRY_BYTES_MAX,
            log_bytes_max: u64::MAX,
            power_cut_rehearsal: false,
            slow_disk_rehearsal: None,
            clock_back_rehearsal: Duration::ZERO,
            redis: None,
        }
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which cell this is. Default 1.
    pub cell: CellId,
    /// How large it may grow.
    pub limits: Limits,
    /// Its journal.
    pub journal: JournalConfig,
    /// After an outage every live hold has at least so long. Default none: deadlines run on.
    pub hold_grace: Duration,
    /// How long to wait for a process that owns the directory to end, before anything in it is read. Default not at all.
    pub lock_wait: Duration,
}

impl Config {
    /// The defaults, in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            cell: CellId(1),
            limits: Limits::default(),
            journal: JournalConfig::new(dir),
            hold_grace: Duration::ZERO,
            lock_wait: Duration::ZERO,
        }
    }

    /// Checked once, when the engine opens.
    pub(crate) fn validate(&self) -> Result<(), OpenError> {
        let fault = |field, reason: &str| Err(OpenError::Config { field, reason: reason.to_owned() });
        if self.cell > CellId::MAX {
            return fault("cell", "at most 1023");
        }
        if self.journal.buffer_bytes < JournalConfig::BUFFER_BYTES_MIN || self.journal.buffer_bytes > 1 << 30 {
            return fault("journal.buffer_bytes", "64 KiB to 1 GiB");
        }
        if self.journal.segment_bytes < JournalConfig::SEGMENT_BYTES_MIN
            || self.journal.segment_bytes < self.journal.buffer_bytes as u64 + 1024
        {
            return fault("journal.segment_bytes", "at least 1 MiB and buffer_bytes plus 1 KiB");
        }
        if !self.journal.segment_bytes.is_multiple_of(4096) || self.journal.segment_bytes > 1 << 40 {
            return fault("journal.segment_bytes", "a multiple of 4096, at most 1 TiB");
        }
        if self.journal.log_bytes_max / 8 < self.journal.segment_bytes {
            return fault("journal.log_bytes_max", "at least eight segments");
        }
        // A live claim keeps its booking number in forty bits.
        if self.limits.bookings_max >= 1 << 40 {
            return fault("limits.bookings_max", "below 2^40");
        }
        Ok(())
    }
}
