//! The files of who may ask, taken up while serving: when one changes, and on SIGHUP, which also begins the audit log anew.
//!
//! Each file is taken whole or not at all: one that is wrong leaves what was there, and the log says why, once.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use berth_engine::TimestampMs;
use tokio::signal::unix::{SignalKind, signal};

use super::Access;
use crate::app::App;

/// How often it is looked whether a file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What tells a file from the one that stood there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    /// Of its last change, of its mode and owner, too: what could not be read may be readable by that.
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Stamp {
            inode: metadata.ino(),
            bytes: metadata.len(),
            seconds: metadata.ctime(),
            nanoseconds: metadata.ctime_nsec(),
        })
    }
}

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Keys,
    Jwks,
    Revocations,
}

const PARTS: [Part; 3] = [Part::Keys, Part::Jwks, Part::Revocations];

impl Access {
    fn path(&self, part: Part) -> Option<&Path> {
        match part {
            Part::Keys => self.keys_file.as_deref(),
            Part::Jwks => self.tokens.as_ref().map(|tokens| tokens.jwks_file()),
            Part::Revocations => self.tokens.as_ref()?.revoked.file().map(AsRef::as_ref),
        }
    }

    fn stamps(&self) -> [Option<Stamp>; PARTS.len()] {
        PARTS.map(|part| self.path(part).and_then(Stamp::of))
    }

    /// Takes one file up again, and tells the log. Blocks on the file.
    fn take_up(&self, part: Part, now: TimestampMs) {
        let Some(path) = self.path(part) else { return };
        let taken = match (part, &self.tokens) {
            (Part::Keys, _) => self.reload_keys(),
            (Part::Jwks, Some(tokens)) => tokens.reload_keys(),
            (Part::Revocations, Some(tokens)) => tokens.revoked.reload(now),
            (_, None) => return,
        };
        match taken {
            Ok(entries) => {
                self.stats.reloads.fetch_add(1, Relaxed);
                tracing::info!(file = %path.display(), entries, "took up a changed file of who may ask");
            }
            Err(why) => {
                self.stats.reload_failures.fetch_add(1, Relaxed);
                tracing::error!(file = %path.display(), %why, "a file of who may ask is wrong: what was there before goes on");
            }
        }
    }
}

/// Follows the files until the server ends.
///
/// # Errors
/// The signal cannot be listened for.
pub(crate) fn follow(app: Arc<App>) -> std::io::Result<()> {
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut seen = app.access.stamps();
        loop {
            let asked = tokio::select! {
                received = hang_up.recv() => received.is_some(),
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let looking = Arc::clone(&app);
            // Files may lie on a disk that is slow to answer.
            let look = move || {
                let now = looking.campaign.engine.now();
                // Before they are read: what changes meanwhile is seen the next time.
                let found = looking.access.stamps();
                if let Some(audit) = looking.audit.as_ref().filter(|_| asked) {
                    audit.reopen();
                }
                for ((part, before), after) in PARTS.into_iter().zip(seen).zip(found) {
                    if asked || before != after {
                        looking.access.take_up(part, now);
                    }
                }
                found
            };
            match tokio::task::spawn_blocking(look).await {
                Ok(found) => seen = found,
                // The server is ending.
                Err(_) => return,
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{AccessConfig, KeyEntry, KeyRing, Role, hash};
    use super::*;

    const ROW: &str = "[[keys]]\nrole = 'platform'\nname = 'p'\n";

    #[test]
    fn a_bad_file_leaves_the_keys_that_were_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        let write = |key: &str| {
            std::fs::write(&path, format!("{ROW}sha256 = '{}'", super::super::hex(&hash(key)))).unwrap();
        };
        write("one");
        let inline = vec![KeyEntry::new(Role::Admin, "a", hash("inline"))];
        let config = AccessConfig { inline, keys_file: Some(path.clone()), tokens: None };
        let access = Access::open(&config, TimestampMs(0)).unwrap();
        let known = |key: &str| {
            let keys: Arc<KeyRing> = Arc::clone(&access.keys.read());
            keys.find(&hash(key)).is_some()
        };
        assert!(known("one") && known("inline"));
        let before = access.stamps();
        write("two and longer");
        let mut row = std::fs::read_to_string(&path).unwrap();
        row.push('\n');
        std::fs::write(&path, &row).unwrap();
        assert_ne!(before, access.stamps());
        access.take_up(Part::Keys, TimestampMs(0));
        assert!(!known("one") && known("two and longer") && known("inline"));
        for bad in ["[[keys]]\nrole = 'platform'", "no toml", &format!("{row}{row}")] {
            std::fs::write(&path, bad).unwrap();
            access.take_up(Part::Keys, TimestampMs(0));
            assert!(known("two and longer") && known("inline"), "{bad}");
        }
        std::fs::remove_file(&path).unwrap();
        access.take_up(Part::Keys, TimestampMs(0));
        assert!(known("two and longer"), "a file that is gone is a fault, not an empty list");
        assert_eq!((access.stats.reloads.load(Relaxed), access.stats.reload_failures.load(Relaxed)), (1, 4));
    }
}
