//! The thread that writes the audit log: in batches, synced now and then, set aside when large.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{AuditConfig, Record, Shared};

/// Lines written in one go.
const BATCH: usize = 1024;
/// Between attempts to write what could not be written.
const AGAIN: Duration = Duration::from_millis(200);
/// How often a line that cannot be written is tried once the server ends.
const LAST_TRIES: u32 = 5;

/// What the thread is told.
pub(super) enum Order {
    Write(Box<Record>),
    Reopen,
    Stop,
}

/// How long lines gather behind those that were just written.
const GATHER: Duration = Duration::from_millis(5);

pub(super) struct Writer {
    config: AuditConfig,
    shared: Arc<Shared>,
    file: File,
    bytes: u64,
    /// Since when there is something that is not synced.
    unsynced: Option<Instant>,
    /// Bytes of lines that the file may have cut short: they are written again, on a line of their own.
    torn: bool,
}

impl Writer {
    pub(super) fn open(config: AuditConfig, shared: Arc<Shared>) -> io::Result<Writer> {
        let (file, bytes, torn) = open(&config)?;
        Ok(Writer { config, shared, file, bytes, unsynced: None, torn })
    }

    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        let mut stopping = false;
        while !stopping {
            let wait = self
                .unsynced
                .map_or(Duration::from_secs(3600), |since| self.config.sync_every.saturating_sub(since.elapsed()));
            let first = match orders.recv_timeout(wait) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Order::Stop),
            };
            let mut lines = Vec::new();
            let mut count = 0;
            let mut reopen = false;
            for order in first.into_iter().chain(orders.try_iter().take(BATCH)) {
                match order {
                    Order::Write(record) => {
                        // Only names and ids: nothing in it can fail to be JSON.
                        if serde_json::to_writer(&mut lines, &record).is_ok() {
                            lines.push(b'\n');
                        }
                        count += 1;
                    }
                    // What comes after it belongs into the new file.
                    Order::Reopen => {
                        reopen = true;
                        break;
                    }
                    Order::Stop => {
                        stopping = true;
                        break;
                    }
                }
            }
            if count > 0 {
                self.write_all(&lines);
                self.shared.written.fetch_add(count as u64, Relaxed);
                self.shared.queued.fetch_sub(count, Relaxed);
            }
            let due = self.unsynced.is_some_and(|since| since.elapsed() >= self.config.sync_every);
            if (due || reopen || stopping) && self.unsynced.is_some() {
                self.until_done(|writer| writer.file.sync_data());
                self.unsynced = None;
            }
            if (1..BATCH).contains(&count) && !reopen && !stopping {
                // A thread that is woken for each line costs more than the lines.
                std::thread::sleep(GATHER);
            }
            let large = self.config.rotate_bytes.is_some_and(|max| self.bytes >= max);
            if reopen {
                self.until_done(Writer::reopen);
            } else if large && !stopping {
                // One that cannot be set aside grows on, and the next batch tries again.
                if let Err(error) = self.set_aside() {
                    tracing::warn!(%error, "the audit log could not be set aside: it grows on");
                }
            }
        }
    }

    /// Tries until it is written: meanwhile the queue fills, and who must be audited is refused.
    fn write_all(&mut self, lines: &[u8]) {
        self.until_done(|writer| {
            if writer.torn {
                writer.file.write_all(b"\n")?;
                writer.torn = false;
            }
            if let Err(error) = writer.file.write_all(lines) {
                // Some of it may be there. All of it is written again: a line twice is better than none.
                writer.torn = true;
                return Err(error);
            }
            Ok(())
        });
        self.bytes += lines.len() as u64;
        self.unsynced.get_or_insert_with(Instant::now);
    }

    fn until_done(&mut self, mut work: impl FnMut(&mut Writer) -> io::Result<()>) {
        let mut tries = 0;
        while let Err(error) = work(self) {
            if !self.shared.failing.swap(true, Relaxed) {
                tracing::error!(%error, file = %self.config.file.display(), "the audit log cannot be written");
            }
            tries += u32::from(self.shared.stopping.load(Relaxed));
            if tries >= LAST_TRIES {
                tracing::error!("the server ends, and the last lines of the audit log are lost");
                return;
            }
            std::thread::sleep(AGAIN);
            // Moved, removed, or on a disk that came back: only a fresh handle finds out.
            if let Ok((file, bytes, torn)) = open(&self.config) {
                (self.file, self.bytes, self.torn) = (file, bytes, torn);
            }
        }
        if self.shared.failing.swap(false, Relaxed) {
            tracing::info!("the audit log can be written again");
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.bytes, self.torn) = open(&self.config)?;
        Ok(())
    }

    /// Gives the file a name with the time in it, and begins a new one.
    fn set_aside(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.unsynced = None;
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string();
        let name = |suffix: &str| {
            let mut name = self.config.file.file_name().unwrap_or_default().to_owned();
            name.push(format!(".{now}{suffix}"));
            self.config.file.with_file_name(name)
        };
        // Two within a millisecond must not end in one.
        let free = |path: &PathBuf| !path.exists();
        let aside = (0..100).map(|i| if i == 0 { name("") } else { name(&format!("-{i}")) }).find(free);
        let aside = aside.ok_or(io::ErrorKind::AlreadyExists)?;
        std::fs::rename(&self.config.file, aside)?;
        self.shared.rotated.fetch_add(1, Relaxed);
        self.reopen()
    }
}

/// The file at its end, how long it is, and whether its last line was cut short.
fn open(config: &AuditConfig) -> io::Result<(File, u64, bool)> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&config.file)?;
    let bytes = file.metadata()?.len();
    let mut last = [b'\n'];
    if let Some(at) = bytes.checked_sub(1) {
        file.read_exact_at(&mut last, at)?;
    }
    Ok((file, bytes, last != [b'\n']))
}
