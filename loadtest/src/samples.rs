//! What the server's process costs while it is driven, twice a second: CPU, memory, the journal's and Redis's lag. For the report
//! alone; nothing is judged by it.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::drive::Field;
use crate::error::{CannotRun, Doing};
use crate::seed::Admin;
use crate::share;
use crate::stop::Stop;

/// The server at one moment. What could not be seen is not there: it is dead, stands still, or runs on another machine.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(crate) struct Sample {
    pub(crate) at_us: i64,
    /// CPU time of the process so far; it begins anew with each start.
    pub(crate) cpu_us: Option<u64>,
    pub(crate) rss_mib: Option<f64>,
    /// CPU time of this program.
    pub(crate) generator_cpu_us: Option<u64>,
    /// Entries that are appended and not yet durable, and durable ones that are not in Redis.
    pub(crate) journal_lag: Option<u64>,
    pub(crate) redis_lag: Option<u64>,
    pub(crate) connections: Option<u64>,
    pub(crate) requests_open: Option<u64>,
}

/// How often it is looked, and how long an answer is waited for.
const EVERY: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_millis(400);

/// What a run's directory has of them.
pub(crate) const FILE: &str = "samples.ndjson";

/// Looks until it is stopped; what was seen is in `seen`.
pub(crate) async fn watch(field: Arc<Field>, admin: Admin, stop: Stop, seen: Arc<std::sync::Mutex<Vec<Sample>>>) {
    loop {
        let mut sample = Sample { at_us: field.clock.now_us(), ..Sample::default() };
        if let Some(pid) = stop.server() {
            sample.cpu_us = share::cpu_us(pid);
            sample.rss_mib = rss_mib(pid);
        }
        sample.generator_cpu_us = share::cpu_us(std::process::id());
        // Of a process that is known to be down nothing is asked.
        if *field.up.borrow()
            && let Ok(Ok(metrics)) = tokio::time::timeout(PATIENCE, admin.metrics()).await
        {
            let metric = |name: &str| metrics.get(name).copied();
            let (appended, durable) = (metric("berth_journal_appended_seq"), metric("berth_journal_durable_seq"));
            sample.journal_lag = appended.zip(durable).map(|(appended, durable)| appended.saturating_sub(durable));
            sample.redis_lag = metric("berth_redis_lag_entries");
            sample.connections = metric("berth_http_connections");
            sample.requests_open = metric("berth_http_inflight_requests");
        }
        seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(sample);
        tokio::time::sleep(EVERY).await;
    }
}

/// The memory that a process has in use, in MiB.
fn rss_mib(pid: u32) -> Option<f64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u32 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = u32::try_from(rustix::param::page_size()).ok()?;
    Some(f64::from(pages) * f64::from(page) / f64::from(1 << 20))
}

pub(crate) fn write(directory: &Path, samples: &[Sample]) -> Result<(), CannotRun> {
    let path = directory.join(FILE);
    let what = || format!("write {}", path.display());
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).doing(what)?);
    for sample in samples {
        serde_json::to_writer(&mut file, sample).doing(what)?;
        file.write_all(b"\n").doing(what)?;
    }
    file.flush().doing(what)
}

/// What was written; nothing of a run that has none.
pub(crate) fn read(directory: &Path) -> Result<Vec<Sample>, CannotRun> {
    let path = directory.join(FILE);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(Vec::new()) };
    text.lines().map(|line| serde_json::from_str(line).doing(|| format!("read {}", path.display()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), []);
        let rss_mib = rss_mib(std::process::id());
        assert!(rss_mib.unwrap() > 1.0);
        let sample = Sample { at_us: 5, rss_mib, journal_lag: Some(7), ..Sample::default() };
        write(directory.path(), std::slice::from_ref(&sample)).unwrap();
        assert_eq!(read(directory.path()).unwrap(), [sample]);
    }
}
