//! Holding the server to a share of a CPU, by a control group of the run's own.
//!
//! The kernel lets the group run for `share` of each period and stops it for the rest. The period is short, 5 ms for a fifth of a CPU,
//! because each stop is a delay that no server can do anything about.

use std::path::{Path, PathBuf};

use crate::error::{CannotRun, Doing};

/// The least quota that the kernel takes, and the periods that it takes.
const QUOTA_US_MIN: f64 = 1_000.0;
const PERIODS_US: std::ops::RangeInclusive<f64> = 1_000.0..=1_000_000.0;

/// A control group. Removed when dropped; the process in it must have ended by then.
#[derive(Debug)]
pub(crate) struct CpuShare {
    group: PathBuf,
    unified: bool,
    period_us: u32,
    quota_us: u32,
}

impl CpuShare {
    /// Makes the group; nobody is in it, and nothing is limited yet.
    pub(crate) fn raise(share: f64, name: &str) -> Result<Self, CannotRun> {
        let (period_us, quota_us) = quota(share);
        let (root, unified) = root()?;
        let group = root.join(name);
        std::fs::create_dir(&group).doing(|| {
            format!(
                "make the control group {} (server.cpu_share needs to be root, or a delegated group)",
                group.display()
            )
        })?;
        Ok(Self { group, unified, period_us, quota_us })
    }

    /// Puts a process and all its threads into the group.
    pub(crate) fn take(&self, pid: u32) -> Result<(), CannotRun> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// From now on the group has its share only.
    pub(crate) fn hold(&self) -> Result<(), CannotRun> {
        if self.unified {
            return self.write("cpu.max", &format!("{} {}", self.quota_us, self.period_us));
        }
        self.write("cpu.cfs_period_us", &self.period_us.to_string())?;
        self.write("cpu.cfs_quota_us", &self.quota_us.to_string())
    }

    /// From now on it has all it wants.
    pub(crate) fn let_go(&self) -> Result<(), CannotRun> {
        if self.unified { self.write("cpu.max", "max") } else { self.write("cpu.cfs_quota_us", "-1") }
    }

    /// In words, for the report.
    pub(crate) fn words(&self) -> String {
        format!(
            "{:.1} % of one CPU ({} us of each {} us, by the kernel's {})",
            f64::from(self.quota_us) * 100.0 / f64::from(self.period_us),
            self.quota_us,
            self.period_us,
            if self.unified { "cpu.max" } else { "cpu.cfs_quota_us" }
        )
    }

    fn write(&self, file: &str, text: &str) -> Result<(), CannotRun> {
        let path = self.group.join(file);
        std::fs::write(&path, text).doing(|| format!("write {text} to {}", path.display()))
    }
}

impl Drop for CpuShare {
    fn drop(&mut self) {
        // A group that is not empty stays; the next run's has another name.
        let _ = std::fs::remove_dir(&self.group);
    }
}

/// Period and quota: the shortest period of which the share is a quota that the kernel takes.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what the kernel takes")]
fn quota(share: f64) -> (u32, u32) {
    let period = (QUOTA_US_MIN / share).clamp(*PERIODS_US.start(), *PERIODS_US.end());
    (period.round() as u32, (period * share).round().max(QUOTA_US_MIN) as u32)
}

/// Where groups are made: the first version's `cpu`, or the second's only tree.
fn root() -> Result<(PathBuf, bool), CannotRun> {
    let first = Path::new("/sys/fs/cgroup/cpu");
    if first.join("cpu.cfs_quota_us").exists() || first.join("cgroup.procs").exists() {
        return Ok((first.to_owned(), false));
    }
    let second = Path::new("/sys/fs/cgroup");
    let controllers = std::fs::read_to_string(second.join("cgroup.controllers")).unwrap_or_default();
    if controllers.split_whitespace().any(|controller| controller == "cpu") {
        // Already there where a service manager runs; without it the groups below have no `cpu.max`.
        let _ = std::fs::write(second.join("cgroup.subtree_control"), "+cpu");
        return Ok((second.to_owned(), true));
    }
    Err(CannotRun::because("server.cpu_share needs the kernel's cpu controller, and there is none at /sys/fs/cgroup"))
}

/// CPU time of a process so far, in microseconds, its ended threads included.
pub(crate) fn cpu_us(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in brackets and may hold anything; user and system time are the 14th and 15th field.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_period_is_as_short_as_the_kernel_lets_it_be() {
        assert_eq!(quota(0.2), (5_000, 1_000));
        assert_eq!(quota(0.05), (20_000, 1_000));
        assert_eq!(quota(1.0), (1_000, 1_000));
        assert_eq!(quota(1.5), (1_000, 1_500));
    }

    #[test]
    fn cpu_time_grows() {
        let before = cpu_us(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while cpu_us(std::process::id()).unwrap() == before {
            sum = std::hint::black_box((0..100_000).fold(sum, u64::wrapping_add));
        }
    }
}
