//! Files that are no longer needed, removed without haste.
//!
//! To give back the blocks of a large file in one go keeps the file system busy for so long that a sync of the log beside it
//! waits. So a file gets a name that nobody reads, is cut shorter step by step, each step made durable by itself, and is
//! removed when little is left. Between two steps the disk is left to the log for as long as the step took, at most a tenth of a second.
//!
//! Its own name goes first and durably: a segment that was cut shorter would be damage to whoever reads it. What a crash leaves
//! is removed at the next start.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use super::storage::Storage;
use crate::clock::Stopwatch;

/// What is added to the name of a file that is being removed.
pub(crate) const GONE: &str = ".gone";
/// Bytes given back in one step.
const STEP_BYTES: u64 = 4 << 20;
/// The longest rest behind a step.
const REST_MAX: Duration = Duration::from_millis(100);

/// How files go.
#[derive(Debug)]
pub(crate) struct Removal {
    step_bytes: AtomicU64,
    /// Somebody waits for the end: no rests, no steps.
    hurries: AtomicBool,
}

impl Default for Removal {
    fn default() -> Self {
        Self { step_bytes: AtomicU64::new(STEP_BYTES), hurries: AtomicBool::new(false) }
    }
}

impl Removal {
    /// From now on gives back at most so many bytes in one step.
    pub(crate) fn set_step(&self, bytes: u64) {
        self.step_bytes.store(bytes.max(1), Relaxed);
    }

    /// From now on removes everything in one go.
    pub(crate) fn hurry(&self) {
        self.hurries.store(true, Relaxed);
    }

    /// Removes files that [`set_aside`] has named. The first fault is told when all were tried.
    pub(crate) fn remove_all(&self, storage: &dyn Storage, gone: &[String]) -> io::Result<()> {
        let mut all = Ok(());
        for gone in gone {
            all = all.and(self.remove(storage, gone));
        }
        all
    }

    /// Removes a file that [`set_aside`] has named.
    pub(crate) fn remove(&self, storage: &dyn Storage, gone: &str) -> io::Result<()> {
        // What keeps it from being cut, no descriptor or no room for a shorter one, need not keep it from going.
        let _ = self.shorten(storage, gone);
        storage.remove(gone)
    }

    fn shorten(&self, storage: &dyn Storage, gone: &str) -> io::Result<()> {
        let step = self.step_bytes.load(Relaxed);
        let file = storage.open(gone)?;
        let mut left = file.len()?;
        while left > step && !self.hurries.load(Relaxed) {
            left -= step;
            let watch = Stopwatch::start();
            file.shrink(left)?;
            file.sync()?;
            // Woken early, it only goes on early.
            std::thread::park_timeout(Duration::from_nanos(watch.nanos()).min(REST_MAX));
        }
        // The handle goes here: the last blocks go when nobody has the file open.
        Ok(())
    }
}

/// Gives the file a name that nobody reads; the caller makes that durable before it is removed.
pub(crate) fn set_aside(storage: &dyn Storage, name: &str) -> io::Result<String> {
    let gone = format!("{name}{GONE}");
    storage.rename(name, &gone)?;
    Ok(gone)
}

/// Removes what a run has left that ended while it removed something.
pub(crate) fn sweep(storage: &dyn Storage, dir: &str) -> io::Result<()> {
    let names = match storage.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    names.iter().filter(|name| name.ends_with(GONE)).try_for_each(|name| storage.remove(&format!("{dir}/{name}")))
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;
    use crate::testing::disk::MemoryDisk;

    fn disk_with(bytes: usize) -> MemoryDisk {
        let disk = MemoryDisk::new(1);
        disk.create_dir("journal").unwrap();
        disk.create("journal/1.seg").unwrap().write_all_at(0, &vec![7; bytes]).unwrap();
        disk
    }

    /// The lengths at which the power can go, told by a disk that loses it at each operation in turn.
    fn lengths(removal: &Removal, bytes: usize) -> Vec<Option<u64>> {
        let mut seen = Vec::new();
        for operation in 1.. {
            let disk = disk_with(bytes);
            let gone = set_aside(&disk, "journal/1.seg").unwrap();
            disk.sync_dir("journal").unwrap();
            disk.cut_power_after(operation);
            let removed = removal.remove(&disk, &gone);
            let off = disk.is_off().is_some();
            disk.restart(true);
            disk.disarm();
            assert_eq!(removed.is_err(), off);
            let left = disk.open(&gone).ok().map(|file| file.len().unwrap());
            if seen.last() != Some(&left) {
                seen.push(left);
            }
            sweep(&disk, "journal").unwrap();
            assert!(disk.list("journal").unwrap().is_empty(), "a start removes what was left");
            if !off {
                return seen;
            }
        }
        seen
    }

    #[test]
    fn a_file_goes_in_steps_and_in_one_when_somebody_waits() {
        let removal = Removal::default();
        removal.set_step(4096);
        assert_eq!(lengths(&removal, 10_000), [Some(10_000), Some(5904), Some(1808), None]);
        assert_eq!(lengths(&removal, 4096), [Some(4096), None]);
        removal.hurry();
        assert_eq!(lengths(&removal, 10_000), [Some(10_000), None]);
    }
}
