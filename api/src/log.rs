//! What is told on standard error: lines for people or JSON for machines, and, if asked for, a line for some of the requests.
//!
//! No personal data, no keys, no codes: a request is its method, its route's template, its status and its trace.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::router::Endpoint;
use crate::trace::Trace;

/// `[log]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogEntry {
    /// `text` or `json`, one object a line. Default `text`.
    pub(crate) format: Option<LogFormat>,
    /// One request in so many has a line; 0: none, 1: all. 0 to 1000000. Default 0.
    pub(crate) access_one_in: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Begins to tell. `BERTH_LOG=debug` for more.
pub(crate) fn begin(format: LogFormat) {
    let filter = EnvFilter::try_from_env("BERTH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Only a second subscriber in one process could fail here; the first then serves both.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
}

/// Tells of one request in so many.
pub(crate) struct AccessLog {
    one_in: u64,
    seen: AtomicU64,
}

impl AccessLog {
    pub(crate) fn new(one_in: u64) -> AccessLog {
        AccessLog { one_in, seen: AtomicU64::new(0) }
    }

    pub(crate) fn request(
        &self,
        method: &Method,
        endpoint: Option<&Endpoint>,
        status: StatusCode,
        took: Duration,
        trace: &Trace,
    ) {
        // Relaxed: a count.
        if self.one_in == 0 || !self.seen.fetch_add(1, Relaxed).is_multiple_of(self.one_in) {
            return;
        }
        // Of a method or path that is not ours nothing is repeated.
        let method = endpoint.map_or("", |_| method.as_str());
        let route = endpoint.map_or("", |endpoint| endpoint.template);
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(method, route, status = status.as_u16(), microseconds, trace_id = %trace.id(), "request");
    }
}
