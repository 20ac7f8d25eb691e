//! What `berth serve` is told: a TOML file, flags that override it, and every fault of the two at once.

use std::fmt;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

use berth_engine::{CellId, Config, JournalConfig, Limits, RedisConfig};
use berth_programme::{KeyFault, toml_fault};
use serde::Deserialize;

use crate::access::{AccessConfig, AccountsConfig, KeyEntry};
use crate::ack::AckMode;
use crate::admission;
use crate::app::HttpLimits;
use crate::audit::AuditConfig;
use crate::events::EventsConfig;
use crate::fhir::FhirConfig;
use crate::log::{LogEntry, LogFormat};
use crate::rates::RatesConfig;
use crate::search::SearchConfig;
use crate::snapshots::SnapshotPolicy;
use crate::tls::TlsFiles;

pub(crate) use self::access::TokensEntry;
pub(crate) use self::audit::AuditEntry;
pub(crate) use self::fhir::FhirEntry;
pub(crate) use self::rates::{AccountsEntry, RatesEntry};
pub(crate) use self::redis::{EventsEntry, RedisEntry};
pub(crate) use self::search::SearchEntry;
pub(crate) use self::tls::TlsEntry;

mod access;
mod audit;
pub(crate) mod certificates;
pub(crate) mod effective;
pub(crate) mod environment;
pub(crate) mod fhir;
pub(crate) mod people;
mod rates;
mod redis;
mod search;
mod tls;

/// The configuration file. Everything is optional here, because a flag may say it instead.
///
/// Relative paths are relative to where the server is started.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigFile {
    /// `HOST:PORT`; port 0 picks a free one. Required.
    pub(crate) listen: Option<String>,
    /// How others reach this server, as `https://book.example.org`: stands in every address that it tells them. Default none.
    pub(crate) public_url: Option<String>,
    /// Where the journal lies; created if absent. Required.
    pub(crate) data_dir: Option<PathBuf>,
    /// The programme file. Required.
    pub(crate) programme: Option<PathBuf>,
    /// Who may ask. At least one, here or in `keys_file`; without an admin nothing can be published.
    #[serde(default)]
    pub(crate) keys: Vec<KeyEntry>,
    /// More keys, made and revoked by `berth key`; taken up again when it changes, and on SIGHUP. Default none.
    pub(crate) keys_file: Option<PathBuf>,
    /// Signed tokens. Default none are taken.
    pub(crate) tokens: Option<TokensEntry>,
    /// How often who may ask. Default no limits.
    #[serde(default)]
    pub(crate) rates: RatesEntry,
    /// What one account may set aside.
    #[serde(default)]
    pub(crate) accounts: AccountsEntry,
    /// Who read whom, and what admins and operators did. Default no audit log.
    pub(crate) audit: Option<AuditEntry>,
    /// Registration of people. Default none: parties are numbers, and who they are is the platform's business.
    pub(crate) people: Option<people::PeopleEntry>,
    /// Certificates. Default none are signed here.
    pub(crate) certificates: Option<certificates::CertificatesEntry>,
    /// Which cell this is, 0 to 1023. Default 1. Part of every name on the wire: never change it.
    pub(crate) cell: Option<u16>,
    /// How safe an effect must be before its answer is shown, where a request's `Berth-Ack` does not say: `memory`,
    /// `disk` or `redis`. Default `disk`; `redis` needs `[redis]`.
    pub(crate) ack: Option<AckMode>,
    /// How long an answer waits for Redis, once it is on disk, before it is told `redis_late`. 1 to 600000. Default 5000.
    pub(crate) ack_redis_time_ms: Option<u64>,
    /// Write-behind to Redis. Default none.
    pub(crate) redis: Option<RedisEntry>,
    /// The events stream. Default none.
    pub(crate) events: Option<EventsEntry>,
    /// MiB of one journal segment, 1 to 4096. Default 64.
    pub(crate) segment_mib: Option<u64>,
    /// MiB of entries that may wait for the disk, 1 to 1024. Default 16; also bounds one publish.
    pub(crate) buffer_mib: Option<usize>,
    /// MiB of all segments together, past which what takes units is refused with `journal_full` until the log is trimmed.
    /// At least three times `snapshots.log_mib` and eight segments. Default no bound but the disk's.
    pub(crate) log_mib_max: Option<u64>,
    /// After an outage every live hold has at least so many seconds. 0 to 86400; 0: deadlines run on. Default 120.
    pub(crate) hold_grace_seconds: Option<u64>,
    /// How long a start waits for a process that still serves to give address and data directory up. 0 to 86400; 0: such a
    /// start is refused at once. Default 0.
    pub(crate) wait_for_lock_seconds: Option<u64>,
    /// When snapshots are taken.
    #[serde(default)]
    pub(crate) snapshots: SnapshotsEntry,
    /// How large the cell may grow.
    #[serde(default)]
    pub(crate) limits: LimitsEntry,
    /// The HTTP side.
    #[serde(default)]
    pub(crate) http: HttpEntry,
    /// Who is refused when more come than can be served.
    #[serde(default)]
    pub(crate) admission: admission::Entry,
    /// With less than so many MiB free on the data directory's disk `/readyz` says `disk_low`, and goes on saying yes. 0 to 1048576.
    /// Default 1024.
    pub(crate) disk_low_mib: Option<u64>,
    /// TLS on `listen`. Default none.
    pub(crate) tls: Option<TlsEntry>,
    /// What is told on standard error.
    #[serde(default)]
    pub(crate) log: LogEntry,
    /// Which fields the environment said, and by which variable.
    #[serde(skip)]
    pub(crate) said: environment::Said,
    /// Searching.
    #[serde(default)]
    pub(crate) search: SearchEntry,
    /// FHIR and SMART Scheduling Links.
    #[serde(default)]
    pub(crate) fhir: FhirEntry,
}

/// When snapshots are taken while serving. The log is trimmed behind the older of the newest two.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotsEntry {
    /// So many minutes after the last one, if anything has happened since. 0 to 10080; 0: never by the clock. Default 60.
    pub(crate) every_minutes: Option<u64>,
    /// When a start would have to replay so many MiB of the log. 0 to 1048576; 0: never by size. Default 1024, or what
    /// `log_mib_max` leaves.
    pub(crate) log_mib: Option<u64>,
    /// One more before a planned stop, when the next start would have to replay so many MiB. 0 to 1048576. Default 64.
    pub(crate) stop_log_mib: Option<u64>,
}

/// How large the cell may grow; only directories are allocated ahead. Defaults are the engine's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsEntry {
    /// 48 bytes each. Default 300 million.
    pub(crate) parties_max: Option<u32>,
    /// 32 bytes each and 12 in the catalogue. Default 50 million.
    pub(crate) slots_max: Option<u32>,
    /// Holds and bookings ever made; 48 bytes each. Default 1 thousand million.
    pub(crate) bookings_max: Option<u64>,
    /// Default 32 million.
    pub(crate) idempotency_keys_max: Option<usize>,
    /// 1 to 720. Default 24.
    pub(crate) idempotency_window_hours: Option<u64>,
}

/// The HTTP side.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpEntry {
    /// A request's head must be there this long after its connection is ready for it; also how long an idle
    /// connection is kept. 100 to 600000. Default 30000.
    pub(crate) head_time_ms: Option<u64>,
    /// A request's body must be there this long after its head. 100 to 600000. Default 15000.
    pub(crate) body_time_ms: Option<u64>,
    /// An answer must be taken this long after it was made, or its connection is cut. 100 to 600000. Default 30000.
    pub(crate) send_time_ms: Option<u64>,
    /// `HOST:PORT` of a second listener, without TLS, that answers probes and `/metrics` alone and is never gated. Default none.
    pub(crate) probes_listen: Option<String>,
    /// Connections open at once. 1 to 1000000. Default 20000, but at most the file
    /// descriptors of the process less 64.
    pub(crate) connections_max: Option<usize>,
    /// Requests answered at once; more are told `overloaded`. 1 to 1000000. Default 20000.
    pub(crate) inflight_requests_max: Option<usize>,
    /// How long `/readyz` says no before new requests are refused. 0 to 60000. Default 500; longer than a
    /// balancer's probe interval loses no request.
    pub(crate) drain_notice_ms: Option<u64>,
    /// How long running requests may take to end after that. 0 to 600000. Default 30000.
    pub(crate) drain_time_ms: Option<u64>,
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `HOST:PORT`.
    pub(crate) listen: String,
    /// The programme file.
    pub(crate) programme: PathBuf,
    /// Who may ask.
    pub(crate) access: AccessConfig,
    /// How often they may.
    pub(crate) rates: RatesConfig,
    /// What one account may set aside.
    pub(crate) accounts: AccountsConfig,
    /// The audit log, if there is one.
    pub(crate) audit: Option<AuditConfig>,
    /// Registration of people, if there is any.
    pub(crate) people: Option<crate::people::PeopleSettings>,
    /// Where the keys of certificates lie, if any are signed here.
    pub(crate) certificates: Option<PathBuf>,
    /// What the engine is opened with.
    pub(crate) engine: Config,
    /// Limits of the HTTP side.
    pub(crate) http: HttpLimits,
    /// TLS, if there is any.
    pub(crate) tls: Option<TlsFiles>,
    /// `HOST:PORT` of the listener for probes.
    pub(crate) probes: Option<String>,
    /// How the log is written.
    pub(crate) log: LogFormat,
    /// When snapshots are taken.
    pub(crate) snapshots: SnapshotPolicy,
    /// The events stream, if there is one.
    pub(crate) events: Option<EventsConfig>,
}

impl ConfigFile {
    /// Reads the file's text; checks its shape, not its values.
    ///
    /// # Errors
    /// The first fault of shape, on one line.
    pub(crate) fn parse(text: &str) -> Result<ConfigFile, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| toml_fault(text, error.message(), error.span()))
    }

    /// The limits alone, for who reads a directory that a server with this file has written.
    ///
    /// # Errors
    /// Every fault by its key.
    pub(crate) fn limits(&self) -> Result<Limits, Vec<KeyFault>> {
        let mut faults = Faults::default();
        let limits = faults.limits(&self.limits);
        if faults.0.is_empty() { Ok(limits) } else { Err(environment::named(faults.0, &self.said)) }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// Every fault by its key, not only the first.
    pub(crate) fn validate(mut self) -> Result<Settings, Vec<KeyFault>> {
        let said = std::mem::take(&mut self.said);
        self.checked().map_err(|faults| environment::named(faults, &said))
    }

    fn checked(self) -> Result<Settings, Vec<KeyFault>> {
        let mut faults = Faults::default();
        let listen = faults.required("listen", self.listen);
        let listen = faults.address("listen", listen);
        let data_dir = faults.required("data_dir", self.data_dir);
        let programme = faults.required("programme", self.programme);
        let cell = CellId(faults.within("cell", self.cell, 1, 0, CellId::MAX.0));
        let access = faults.who_may_ask(self.keys, self.keys_file, self.tokens, cell);
        let rates = faults.rates(self.rates);
        let accounts = faults.accounts(self.accounts);
        let audit = self.audit.map(|entry| faults.audit(entry));
        let people = self.people.map(|entry| faults.people(entry, data_dir.as_deref(), audit.is_some()));
        let certificates = self.certificates.and_then(|entry| faults.certificates(entry));
        let segment_mib = faults.within("segment_mib", self.segment_mib, 64, 1, 4096);
        let buffer_mib = faults.within("buffer_mib", self.buffer_mib, 16, 1, 1024);
        if segment_mib <= buffer_mib as u64 {
            faults.push("segment_mib", format!("must be more than buffer_mib, {buffer_mib}, so that a batch fits"));
        }
        let (snapshots, log_bytes_max) = faults.snapshots(&self.snapshots, self.log_mib_max, segment_mib);
        let redis = self.redis.map(|redis| faults.redis(redis, cell));
        let grace = Duration::from_secs(faults.within("hold_grace_seconds", self.hold_grace_seconds, 120, 0, 86_400));
        let wait = faults.within("wait_for_lock_seconds", self.wait_for_lock_seconds, 0, 0, 86_400);
        let lock_wait = Duration::from_secs(wait);
        let events = self.events.map(|entry| faults.events(entry, redis.as_ref(), cell));
        let limits = faults.limits(&self.limits);
        let mut http = faults.http(&self.http);
        http.admission = faults.admission(&self.admission, http.inflight_requests_max);
        http.search = faults.search(&self.search);
        http.fhir = faults.fhir(self.public_url, self.fhir);
        http.ack = self.ack.unwrap_or(AckMode::Disk);
        http.ack_redis_time = faults.millis("ack_redis_time_ms", self.ack_redis_time_ms, 5000, 1, 600_000);
        if http.ack == AckMode::Redis && redis.is_none() {
            faults.push("ack", "is redis, and there is no [redis]");
        }
        http.access_one_in = faults.within("log.access_one_in", self.log.access_one_in, 0, 0, 1_000_000);
        http.disk_low_bytes = faults.within("disk_low_mib", self.disk_low_mib, 1024, 0, 1 << 20) << 20;
        let tls = self.tls.and_then(|entry| faults.tls(entry));
        let probes = faults.address("http.probes_listen", self.http.probes_listen);
        let log = self.log.format.unwrap_or_default();
        match (listen, data_dir, programme) {
            (Some(listen), Some(data_dir), Some(programme)) if faults.0.is_empty() => {
                let journal = JournalConfig {
                    segment_bytes: segment_mib << 20,
                    buffer_bytes: buffer_mib << 20,
                    redis,
                    log_bytes_max,
                    ..JournalConfig::new(data_dir)
                };
                Ok(Settings {
                    listen,
                    programme,
                    access,
                    rates,
                    accounts,
                    audit,
                    people,
                    certificates,
                    engine: Config { cell, limits, journal, hold_grace: grace, lock_wait },
                    http,
                    tls,
                    probes,
                    log,
                    snapshots,
                    events,
                })
            }
            _ => Err(faults.0),
        }
    }
}

impl ConfigFile {
    /// What `berth recover` needs of the file: the cell, bytes per segment, and Redis as `entry` has it.
    ///
    /// # Errors
    /// Every fault by its key.
    pub(crate) fn for_recovery(self, entry: RedisEntry) -> Result<(CellId, u64, RedisConfig), Vec<KeyFault>> {
        let mut faults = Faults::default();
        let cell = CellId(faults.within("cell", self.cell, 1, 0, CellId::MAX.0));
        let segment_mib = faults.within("segment_mib", self.segment_mib, 64, 1, 4096);
        let redis = faults.redis(entry, cell);
        if faults.0.is_empty() { Ok((cell, segment_mib << 20, redis)) } else { Err(faults.0) }
    }
}

#[derive(Default)]
struct Faults(Vec<KeyFault>);

impl Faults {
    fn push(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        self.0.push(KeyFault { key: key.into(), reason: reason.into() });
    }

    fn required<T>(&mut self, key: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.push(key, "is missing");
        }
        value
    }

    fn within<T: PartialOrd + fmt::Display + Copy>(&mut self, key: &str, value: Option<T>, or: T, min: T, max: T) -> T {
        let value = value.unwrap_or(or);
        if value < min || value > max {
            self.push(key, format!("must be from {min} to {max}, is {value}"));
        }
        value
    }

    /// `HOST:PORT`.
    fn address(&mut self, key: &str, address: Option<String>) -> Option<String> {
        if let Some(address) = address.as_ref().filter(|address| address.to_socket_addrs().is_err()) {
            self.push(key, format!("{address:?} is not HOST:PORT, or the host is unknown"));
        }
        address
    }

    /// The bytes of a file that a field names.
    fn file(&mut self, key: &str, path: Option<PathBuf>) -> Option<Vec<u8>> {
        let path = path?;
        match std::fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.push(key, format!("{}: {error}", path.display()));
                None
            }
        }
    }

    fn millis(&mut self, key: &str, value: Option<u64>, or: u64, min: u64, max: u64) -> Duration {
        Duration::from_millis(self.within(key, value, or, min, max))
    }

    fn limits(&mut self, entry: &LimitsEntry) -> Limits {
        let or = Limits::default();
        let hours = self.within("limits.idempotency_window_hours", entry.idempotency_window_hours, 24, 1, 720);
        Limits {
            parties_max: self.within("limits.parties_max", entry.parties_max, or.parties_max, 1, u32::MAX - 1),
            slots_max: self.within("limits.slots_max", entry.slots_max, or.slots_max, 1, u32::MAX - 1),
            bookings_max: self.within("limits.bookings_max", entry.bookings_max, or.bookings_max, 1, (1 << 39) - 2),
            idempotency_keys_max: self.within(
                "limits.idempotency_keys_max",
                entry.idempotency_keys_max,
                or.idempotency_keys_max,
                1,
                1 << 32,
            ),
            idempotency_window: Duration::from_secs(hours * 3600),
        }
    }

    /// The policy, and the most bytes of the log.
    fn snapshots(&mut self, entry: &SnapshotsEntry, max: Option<u64>, segment_mib: u64) -> (SnapshotPolicy, u64) {
        let max = max.map(|max| self.within("log_mib_max", Some(max), 0, 8 * segment_mib, 1 << 40));
        // Two snapshots apart, and what is written while the second is taken.
        let most = max.map_or(1 << 20, |max| max / 3);
        // Trimming takes two snapshots: the second has to be taken before the budget is spent, for after that nothing may happen.
        let least = u64::from(max.is_some());
        let log_mib = self.within("snapshots.log_mib", entry.log_mib, 1024.min(most), least, most);
        let every = self.within("snapshots.every_minutes", entry.every_minutes, 60, 0, 10_080);
        let stop_mib = self.within("snapshots.stop_log_mib", entry.stop_log_mib, 64, 0, 1 << 20);
        let policy = SnapshotPolicy {
            every: (every > 0).then(|| Duration::from_secs(every * 60)),
            log_bytes: (log_mib > 0).then_some(log_mib << 20),
            stop_log_bytes: stop_mib << 20,
        };
        (policy, max.map_or(u64::MAX, |max| max << 20))
    }

    fn admission(&mut self, entry: &admission::Entry, running_max: usize) -> admission::Settings {
        let or = admission::Settings::default();
        let or = admission::Settings { limit_min: or.limit_min.min(running_max), limit_max: running_max, ..or };
        entry.over(&or).unwrap_or_else(|wrong| {
            for (field, reason) in wrong {
                self.push(format!("admission.{field}"), reason);
            }
            or
        })
    }

    fn http(&mut self, entry: &HttpEntry) -> HttpLimits {
        HttpLimits {
            head_time: self.millis("http.head_time_ms", entry.head_time_ms, 30_000, 100, 600_000),
            body_time: self.millis("http.body_time_ms", entry.body_time_ms, 15_000, 100, 600_000),
            send_time: self.millis("http.send_time_ms", entry.send_time_ms, 30_000, 100, 600_000),
            connections_max: self.within("http.connections_max", entry.connections_max, 20_000, 1, 1_000_000),
            inflight_requests_max: self.within(
                "http.inflight_requests_max",
                entry.inflight_requests_max,
                20_000,
                1,
                1_000_000,
            ),
            admission: admission::Settings::default(),
            disk_low_bytes: 0,
            access_one_in: 0,
            ack: AckMode::Disk,
            ack_redis_time: Duration::ZERO,
            search: SearchConfig { staleness: Duration::ZERO, cache_bytes: 0 },
            fhir: FhirConfig::default(),
            drain_notice: self.millis("http.drain_notice_ms", entry.drain_notice_ms, 500, 0, 60_000),
            drain_time: self.millis("http.drain_time_ms", entry.drain_time_ms, 30_000, 0, 600_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        listen = "127.0.0.1:0"
        data_dir = "data"
        programme = "programmes/india-2021.toml"
        [[keys]]
        role = "admin"
        name = "ministry"
        sha256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    "#;

    fn keys_of(text: &str) -> Vec<String> {
        let faults = ConfigFile::parse(text).unwrap().validate().expect_err("the file is wrong");
        faults.into_iter().map(|f| f.key).collect()
    }

    #[test]
    fn defaults_fill_what_is_not_said() {
        let settings = ConfigFile::parse(GOOD).unwrap().validate().unwrap();
        assert_eq!(settings.engine.cell, CellId(1));
        assert_eq!(settings.engine.journal, JournalConfig::new("data"));
        assert_eq!(settings.engine.limits, Limits::default());
        assert_eq!(settings.http.head_time, Duration::from_secs(30));
        assert_eq!(
            settings.http.search,
            SearchConfig { staleness: Duration::from_millis(500), cache_bytes: 128 << 20 }
        );
    }

    #[test]
    fn redis_defaults_are_the_engines_and_those_that_the_sample_shows() {
        let settings = ConfigFile::parse(&format!("{GOOD}[redis]\nurl = 'redis://127.0.0.1:1'")).unwrap().validate();
        let redis = settings.unwrap().engine.journal.redis.unwrap();
        assert_eq!(
            redis,
            RedisConfig { password: redis.password.clone(), ..RedisConfig::new("redis://127.0.0.1:1", "berth:{1}") }
        );
        let sample = include_str!("../../berth.toml");
        let shown = |name: &str, time: Duration| format!("# {name} = {} ", time.as_millis());
        for line in [
            shown("connect_time_ms", redis.timeouts.connect),
            shown("answer_time_ms", redis.timeouts.answer),
            format!("# prefix = {:?} ", redis.prefix),
        ] {
            assert!(sample.contains(&line), "{line}");
        }
        assert_eq!(keys_of(&format!("{GOOD}[redis]\nconnect_time_ms = 1")), ["redis.url", "redis.connect_time_ms"]);
        for prefix in ["", "a b", "é"] {
            let text = format!("{GOOD}[redis]\nurl = 'redis://127.0.0.1:1'\nprefix = '{prefix}'");
            assert_eq!(keys_of(&text), ["redis.prefix"], "{prefix:?}");
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let entry = "[[keys]]\nrole = \"admin\"\nname = \"ministry\"\nsha256 = \"12\"\n";
        let text = GOOD.replace("listen = \"127.0.0.1:0\"", "cell = 1024\nsegment_mib = 16")
            + entry
            + "[limits]\nidempotency_window_hours = 0\n[http]\nbody_time_ms = 1\n[search]\nstaleness_ms = 60001\ncache_mib = 0";
        assert_eq!(
            keys_of(&text),
            [
                "listen",
                "cell",
                "keys[1].name",
                "keys[1].sha256",
                "segment_mib",
                "limits.idempotency_window_hours",
                "http.body_time_ms",
                "search.staleness_ms",
                "search.cache_mib",
            ]
        );
        assert_eq!(keys_of(""), ["listen", "data_dir", "programme", "keys"]);
    }

    #[test]
    fn the_events_stream_has_its_own_redis_or_that_of_the_journal() {
        let events = |text: &str| ConfigFile::parse(&format!("{GOOD}\n{text}")).unwrap().validate().unwrap().events;
        assert_eq!(events(""), None);
        let alone = events("[events]\nurl = \"redis://h:1\"").unwrap();
        assert_eq!((alone.stream.as_str(), alone.source.as_str()), ("berth:{1}:events", "/cells/1"));
        assert!(!alone.booking_codes, "codes are capabilities");
        let shared =
            events("[redis]\nurl = \"redis://h:1/2\"\nprefix = \"b\"\n[events]\nbooking_codes = true").unwrap();
        assert_eq!((shared.redis.url.as_str(), shared.stream.as_str()), ("redis://h:1/2", "b:events"));
        assert!(shared.booking_codes);
        let faulty =
            "[events]\nurl = \"http://:secret@h\"\nstream = \"\"\nsource = \"a b\"\nlen_max = 1\nlag_entries_max = 1";
        let faults = ConfigFile::parse(&format!("{GOOD}\n{faulty}")).unwrap().validate().unwrap_err();
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["events.url", "events.stream", "events.source", "events.len_max", "events.lag_entries_max"]);
        assert!(!format!("{faults:?}").contains("secret"));
        assert_eq!(keys_of(&format!("{GOOD}\n[events]")), ["events.url"]);
        assert_eq!(
            keys_of(&format!("{GOOD}\n[redis]\nurl = \"redis://h\"\n[events]\nstream = \"berth:{{1}}:journal\"")),
            ["events.stream"]
        );
    }

    /// A password goes to the server that it was given for, and to no other.
    #[test]
    fn the_events_stream_is_let_in_as_the_journals_copy_where_both_are_one_server() {
        let home = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(home.path().join(name), text).unwrap();
            home.path().join(name).display().to_string()
        };
        let (one, two) = (file("one", "sesame\n"), file("two", "barley\n"));
        let redis = format!("[redis]\nurl = 'redis://h:1'\npassword_file = '{one}'\nanswer_time_ms = 700\n");
        let events = |text: &str| {
            let settings = ConfigFile::parse(&format!("{GOOD}\n{redis}[events]\n{text}")).unwrap().validate().unwrap();
            let redis = settings.events.unwrap().redis;
            (redis.password, redis.timeouts.answer.as_millis())
        };
        let sesame = Some("sesame".to_owned());
        assert_eq!(events(""), (sesame.clone(), 700));
        assert_eq!(events("url = 'redis://h:1/5'"), (sesame, 700));
        assert_eq!(events("url = 'redis://h:2'"), (None, 10_000));
        let barley = Some("barley".to_owned());
        assert_eq!(events(&format!("url = 'redis://h:2'\npassword_file = '{two}'")), (barley.clone(), 10_000));
        assert_eq!(events(&format!("password_file = '{two}'\nanswer_time_ms = 900")), (barley, 900));
        let faulty = "[events]\nurl = 'redis://h'\nca_file = '/no/such'\ncert_file = '/no/such'\nconnect_time_ms = 1";
        assert_eq!(
            keys_of(&format!("{GOOD}\n{faulty}")),
            ["events.ca_file", "events.cert_file", "events.cert_file", "events.connect_time_ms"]
        );
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = ConfigFile::parse(&format!("port = 1\n{GOOD}")).unwrap_err();
        assert!(error.starts_with("line 1, column 1: unknown field `port`"), "{error}");
        assert!(!error.contains(['\n', '|']), "{error}");
    }

    #[test]
    fn what_is_not_toml_is_one_sentence_with_its_place() {
        let error = ConfigFile::parse("listen = '127.0.0.1:0'\ndata_dir = data\n").unwrap_err();
        assert!(error.starts_with("line 2, column 12: "), "{error}");
        assert!(!error.contains(['\n', '|']), "{error}");
    }
}
