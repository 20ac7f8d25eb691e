//! What the configuration says of Redis: of the journal's copy, and of the events stream.

use std::fmt;
use std::path::PathBuf;

use berth_engine::journal::redis_stream::{self, RedisStream};
use berth_engine::{CellId, RedisConfig, RedisTls};
use serde::Deserialize;

use super::Faults;
use crate::events::EventsConfig;

/// Redis. docs/redis.md says how to set one up.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedisEntry {
    /// `redis://host:port/db`, or `rediss://` with TLS. Required.
    pub(crate) url: Option<String>,
    /// Prefix of the keys. Default `berth:{cell}`. Give each cell its own.
    pub(crate) prefix: Option<String>,
    /// A file whose first line is the password. Default the environment's `BERTH_REDIS_PASSWORD`, else the URL's.
    pub(crate) password_file: Option<PathBuf>,
    /// Who signed the server's certificate, as PEM. Default the system's roots.
    pub(crate) ca_file: Option<PathBuf>,
    /// Our certificate as PEM, for a server that asks for one; with `key_file`.
    pub(crate) cert_file: Option<PathBuf>,
    /// Its key as PEM.
    pub(crate) key_file: Option<PathBuf>,
    /// How long a connection may take to be made. 100 to 600000. Default 5000.
    pub(crate) connect_time_ms: Option<u64>,
    /// How long an answer may take; a slower Redis counts as gone. 100 to 600000. Default 10000.
    pub(crate) answer_time_ms: Option<u64>,
}

impl fmt::Debug for RedisEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisEntry").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The events stream.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsEntry {
    /// `redis://host:port/db`. Default that of `[redis]`; required without one. Where it leads to the host and port of `[redis]`,
    /// what is not said of the fields down to `answer_time_ms` is as there; to another no password of that one is sent.
    pub(crate) url: Option<String>,
    /// A file whose first line is the password. Else the environment's `BERTH_EVENTS_REDIS_PASSWORD`, else the URL's.
    pub(crate) password_file: Option<PathBuf>,
    /// Who signed the server's certificate, as PEM. Default the system's roots.
    pub(crate) ca_file: Option<PathBuf>,
    /// Our certificate as PEM, for a server that asks for one; with `key_file`.
    pub(crate) cert_file: Option<PathBuf>,
    /// Its key as PEM.
    pub(crate) key_file: Option<PathBuf>,
    /// How long a connection may take to be made. 100 to 600000. Default 5000.
    pub(crate) connect_time_ms: Option<u64>,
    /// How long an answer may take; a slower Redis counts as gone. 100 to 600000. Default 10000.
    pub(crate) answer_time_ms: Option<u64>,
    /// The stream's key; its cursor is `{stream}:cursor`. Default the prefix of `[redis]`, or `berth:{cell}`, and `:events`.
    pub(crate) stream: Option<String>,
    /// About how many events are kept; consumers further behind lose. 1000 to 10 thousand million. Default 1 million.
    pub(crate) len_max: Option<u64>,
    /// The attribute `source`: a URI reference without white space, such as the public base URL. Default `/cells/{cell}`.
    pub(crate) source: Option<String>,
    /// Whether events show booking codes, which let their bearer act. Default false.
    #[serde(default)]
    pub(crate) booking_codes: bool,
    /// Past this many entries of lag the log is no longer kept for the stream, which then has a gap. At least 1000. Default
    /// 100 million.
    pub(crate) lag_entries_max: Option<u64>,
}

impl fmt::Debug for EventsEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("EventsEntry").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Where a Redis is, and how to be let in.
struct Access {
    url: Option<String>,
    password_file: Option<PathBuf>,
    /// The variable that holds the password where no file does.
    password_variable: &'static str,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    connect_time_ms: Option<u64>,
    answer_time_ms: Option<u64>,
}

/// Host and port; `None` where the URL is none.
fn place(url: &str) -> Option<String> {
    redis_stream::client(&RedisConfig::new(url, "")).ok().map(|client| client.get_connection_info().addr().to_string())
}

impl Faults {
    pub(super) fn redis(&mut self, entry: RedisEntry, cell: CellId) -> RedisConfig {
        let prefix = entry.prefix.unwrap_or_else(|| format!("berth:{{{cell}}}"));
        if !visible(&prefix) {
            self.push("redis.prefix", VISIBLE);
        }
        let access = Access {
            url: entry.url,
            password_file: entry.password_file,
            password_variable: "BERTH_REDIS_PASSWORD",
            ca_file: entry.ca_file,
            cert_file: entry.cert_file,
            key_file: entry.key_file,
            connect_time_ms: entry.connect_time_ms,
            answer_time_ms: entry.answer_time_ms,
        };
        let redis = self.access("redis", access, RedisConfig::new("", prefix));
        if self.0.is_empty()
            && let Err(reason) = RedisStream::new(&redis)
        {
            // Without the URL: it may hold a password.
            self.push("redis", reason);
        }
        redis
    }

    /// `or` with all that is said.
    fn access(&mut self, table: &str, access: Access, or: RedisConfig) -> RedisConfig {
        let key = |name: &str| format!("{table}.{name}");
        let mut redis = or;
        redis.url = self.required(&key("url"), access.url).unwrap_or_default();
        let asked = access.password_file.is_some();
        let password = match self.file(&key("password_file"), access.password_file) {
            Some(bytes) => String::from_utf8(bytes).ok().and_then(|text| text.lines().next().map(str::to_owned)),
            None => std::env::var(access.password_variable).ok(),
        };
        if asked && password.as_ref().is_none_or(String::is_empty) {
            self.push(key("password_file"), "its first line must be the password");
        }
        redis.password = password.or(redis.password);
        let RedisTls { ca_pem, client_pem } = std::mem::take(&mut redis.tls);
        redis.tls.ca_pem = self.file(&key("ca_file"), access.ca_file).or(ca_pem);
        if access.cert_file.is_some() != access.key_file.is_some() {
            self.push(key("cert_file"), "cert_file and key_file go together");
        }
        let cert = self.file(&key("cert_file"), access.cert_file);
        redis.tls.client_pem = cert.zip(self.file(&key("key_file"), access.key_file)).or(client_pem);
        let (connect, answer) = (redis.timeouts.connect, redis.timeouts.answer);
        let default = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        redis.timeouts.connect =
            self.millis(&key("connect_time_ms"), access.connect_time_ms, default(connect), 100, 600_000);
        redis.timeouts.answer =
            self.millis(&key("answer_time_ms"), access.answer_time_ms, default(answer), 100, 600_000);
        redis
    }

    pub(super) fn events(&mut self, entry: EventsEntry, redis: Option<&RedisConfig>, cell: CellId) -> EventsConfig {
        let url = entry.url.or_else(|| redis.map(|redis| redis.url.clone()));
        let same =
            |redis: &&RedisConfig| url.as_deref().and_then(place).is_some_and(|at| place(&redis.url) == Some(at));
        let or = redis.filter(same).cloned().unwrap_or_else(|| RedisConfig::new("", ""));
        let access = Access {
            url,
            password_file: entry.password_file,
            password_variable: "BERTH_EVENTS_REDIS_PASSWORD",
            ca_file: entry.ca_file,
            cert_file: entry.cert_file,
            key_file: entry.key_file,
            connect_time_ms: entry.connect_time_ms,
            answer_time_ms: entry.answer_time_ms,
        };
        let said = access.url.is_some();
        let target = self.access("events", access, or);
        // Not shown: it may hold a password.
        if said && place(&target.url).is_none() {
            self.push("events.url", "is not of the form redis://host:port/db");
        } else if said && let Err(error) = redis_stream::client(&target) {
            self.push("events", error.to_string());
        }
        let prefix = redis.map_or_else(|| format!("berth:{{{cell}}}"), |redis| redis.prefix.clone());
        let stream = entry.stream.unwrap_or_else(|| format!("{prefix}:events"));
        let source = entry.source.unwrap_or_else(|| format!("/cells/{cell}"));
        for (key, text) in [("events.stream", &stream), ("events.source", &source)] {
            if !visible(text) {
                self.push(key, VISIBLE);
            }
        }
        let own = ["journal", "head"].iter().any(|key| stream == format!("{prefix}:{key}"));
        if own || stream.starts_with(&format!("{prefix}:snapshot:")) {
            self.push("events.stream", "is a key of the journal's copy");
        }
        EventsConfig {
            redis: target,
            stream,
            len_max: self.within("events.len_max", entry.len_max, 1_000_000, 1000, 10_000_000_000),
            source,
            booking_codes: entry.booking_codes,
            lag_entries_max: self.within("events.lag_entries_max", entry.lag_entries_max, 100_000_000, 1000, u64::MAX),
            resume: None,
        }
    }
}

const VISIBLE: &str = "must be 1 to 256 visible ASCII characters";

fn visible(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
