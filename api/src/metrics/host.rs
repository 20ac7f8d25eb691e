//! What the process uses, under the names that every Prometheus client has for it, and the room on its disk.
//!
//! A disk that does not answer, and a long list of descriptors, must not keep a thread of the runtime ([`Sampler`]).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Page;
use super::sampler::Sampler;

/// What was seen longer ago is told to nobody.
const AGE_MAX: Duration = Duration::from_secs(60);

/// Who looks.
pub(crate) struct Host(Sampler<Sample>);

/// What was seen.
pub(crate) struct Sample {
    stat: Option<Stat>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
    /// Free and all bytes of the filesystem of the data directory.
    pub(crate) room: Option<(u64, u64)>,
}

impl Host {
    pub(crate) fn new() -> Host {
        Host(Sampler::new(AGE_MAX))
    }

    /// What the host says, at most so old; older, if it does not say anything now; nothing, if it has not for a while.
    pub(crate) async fn sample(&self, data_dir: &Path, age: Duration) -> Option<Arc<Sample>> {
        let look = || {
            let data_dir = data_dir.to_owned();
            move || Sample::read(&data_dir)
        };
        self.0.sample(|_| age, look).await
    }
}

impl Sample {
    /// Blocks on the disk.
    fn read(data_dir: &Path) -> Sample {
        Sample {
            stat: Stat::read(),
            open_fds: std::fs::read_dir("/proc/self/fd").ok().map(|open| open.count() as u64),
            max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            room: room(data_dir),
        }
    }
}

/// CPU, memory, descriptors, start. Nothing where `/proc` does not tell.
pub(super) fn process(page: &mut Page, sample: &Sample) {
    let Some(stat) = &sample.stat else { return };
    page.family("process_cpu_seconds_total", "counter", "CPU time used, of user and system together.");
    page.bare("process_cpu_seconds_total", stat.cpu_seconds);
    page.gauge("process_resident_memory_bytes", "Memory in use.", stat.resident_bytes);
    page.family("process_start_time_seconds", "gauge", "When the process was started, in seconds since 1970.");
    page.bare("process_start_time_seconds", stat.started_seconds);
    page.gauge("process_threads", "Threads.", stat.threads);
    if let Some(open) = sample.open_fds {
        page.gauge("process_open_fds", "File descriptors open.", open);
    }
    if let Some(most) = sample.max_fds {
        page.gauge("process_max_fds", "File descriptors that may be open.", most);
    }
}

/// The filesystem of the data directory.
pub(super) fn disk(page: &mut Page, sample: &Sample) {
    let Some((free, size)) = sample.room else { return };
    page.gauge("berth_disk_free_bytes", "Bytes that may still be written to the data directory's filesystem.", free);
    page.gauge("berth_disk_size_bytes", "Bytes of that filesystem.", size);
}

/// Free and all bytes of the filesystem there.
fn room(data_dir: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(data_dir).ok()?;
    Some((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

struct Stat {
    cpu_seconds: f64,
    resident_bytes: u64,
    started_seconds: f64,
    threads: u64,
}

impl Stat {
    fn read() -> Option<Stat> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let booted = std::fs::read_to_string("/proc/stat").ok()?;
        let booted = booted.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Stat::parse(&stat, booted, rustix::param::clock_ticks_per_second(), rustix::param::page_size() as u64)
    }

    /// Of the line in `/proc/self/stat`. The name of the process is in brackets and may hold anything.
    #[expect(clippy::cast_precision_loss, reason = "ticks and seconds, for a graph")]
    fn parse(stat: &str, booted: u64, ticks_per_second: u64, page_bytes: u64) -> Option<Stat> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // Counted from the third field, the state.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second as f64;
        Some(Stat {
            cpu_seconds: seconds(field(14)? + field(15)?),
            threads: field(20)?,
            started_seconds: booted as f64 + seconds(field(22)?),
            resident_bytes: field(24)? * page_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let line = "17 (a (b) c) S 1 17 17 0 -1 4194304 9 0 0 0 150 50 0 0 20 0 7 0 3000 99 12 18446744073709551615";
        let stat = Stat::parse(line, 1_700_000_000, 100, 4096).unwrap();
        assert!((stat.cpu_seconds - 2.0).abs() < 1e-9 && (stat.started_seconds - 1_700_000_030.0).abs() < 1e-3);
        assert_eq!((stat.threads, stat.resident_bytes), (7, 12 * 4096));
        assert!(Stat::parse("17 (x) S", 0, 100, 4096).is_none());
    }
}
