//! Tokens that open nothing any more though they are signed and have not expired: their ids, in memory and in a file.
//!
//! An id is kept until no token of that name could be valid any more; so the list is as long as the tokens revoked within the
//! longest life of one. The file is written anew without the others when they are more than the rest of it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use berth_engine::TimestampMs;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::keys_file::{lock_folder, read_owners, replace};

/// Ids kept: 24 bytes each.
const REVOKED_MAX: usize = 1_000_000;

/// Lines that may mean nothing any more before the file is written anew, beside as many as there are good ones.
const DEAD_LINES: usize = 1000;

/// First bytes of the digest of an id.
type IdHash = [u8; 16];

/// A line of the file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    jti: String,
    /// When no token of this id can be valid any more.
    until: jiff::Timestamp,
}

/// The list.
#[derive(Debug)]
pub(crate) struct Revoked {
    file: Option<PathBuf>,
    by_id: RwLock<HashMap<IdHash, TimestampMs>>,
    /// What could not be written down: a reload must not forget it. Also the lock on the file.
    unwritten: Mutex<HashMap<IdHash, TimestampMs>>,
    /// So that who has revoked nothing pays nothing.
    len: AtomicUsize,
    /// Lines of the file.
    lines: AtomicUsize,
}

/// Why an id is not on the list, or not in the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotKept {
    /// There are too many.
    Full,
    /// It is in force until the server stops; the file could not be written.
    InMemoryOnly(String),
}

impl Revoked {
    /// The list in this file, which may not be there yet; without one, an empty list in memory.
    ///
    /// # Errors
    /// What is wrong with the file, in one sentence.
    pub(crate) fn open(file: Option<PathBuf>, now: TimestampMs) -> Result<Revoked, String> {
        let revoked = Revoked {
            file,
            by_id: RwLock::default(),
            unwritten: Mutex::default(),
            len: AtomicUsize::new(0),
            lines: AtomicUsize::new(0),
        };
        // Nothing is written: whoever only checks a configuration changes nothing.
        revoked.read(now)?;
        Ok(revoked)
    }

    /// Reads the file again, and writes it anew if most of it means nothing any more. On a fault the list stays as it is.
    ///
    /// # Errors
    /// What is wrong with the file, in one sentence.
    pub(crate) fn reload(&self, now: TimestampMs) -> Result<usize, String> {
        let len = self.read(now)?;
        let _unwritten = self.unwritten.lock();
        self.prune(now);
        Ok(len)
    }

    fn read(&self, now: TimestampMs) -> Result<usize, String> {
        let mut unwritten = self.unwritten.lock();
        unwritten.retain(|_, until| *until > now);
        let mut by_id = unwritten.clone();
        let mut lines = 0;
        if let Some(path) = &self.file {
            // Nothing was revoked yet; but a file that is gone lifts no revocation.
            let text = if path.try_exists().map_err(|error| error.to_string())? {
                String::from_utf8(read_owners(path)?).map_err(|error| error.to_string())?
            } else if self.by_id.read().len() > unwritten.len() {
                return Err("is gone: to lift revocations, take their lines out".to_owned());
            } else {
                String::new()
            };
            for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                lines += 1;
                let Some((id, until)) = parse(line).map_err(|error| format!("line {}: {error}", i + 1))? else {
                    continue;
                };
                if until > now {
                    by_id.insert(id, until);
                }
            }
        }
        if by_id.len() > REVOKED_MAX {
            return Err(format!("has {} ids, more than {REVOKED_MAX}", by_id.len()));
        }
        let len = by_id.len();
        *self.by_id.write() = by_id;
        self.len.store(len, Relaxed);
        self.lines.store(lines, Relaxed);
        drop(unwritten);
        Ok(len)
    }

    /// Writes the file anew without the lines that mean nothing any more, if they are many. Under the lock on the file. What fails
    /// here is tried again by the next: the file is only longer than it need be.
    fn prune(&self, now: TimestampMs) {
        let Some(path) = &self.file else { return };
        let alive = self.by_id.read().values().filter(|until| **until > now).count();
        if self.lines.load(Relaxed) <= 2 * alive + DEAD_LINES {
            return;
        }
        let rewrite = || {
            // A link stays one, and leads where it led.
            let path = &path.canonicalize().map_err(|error| error.to_string())?;
            let folder = lock_folder(path)?;
            let text = String::from_utf8(read_owners(path)?).map_err(|error| error.to_string())?;
            // A line that cannot be read is somebody's mistake, to be told and not to be thrown away.
            let read = |line| Ok::<_, String>(parse(line)?.filter(|(_, until)| *until > now));
            let told = || text.lines().filter(|line| !line.trim().is_empty());
            // One line for each id, the first of those that hold longest: a token revoked a thousand times has one.
            let mut longest: HashMap<IdHash, TimestampMs> = HashMap::new();
            for line in told() {
                let Some((id, until)) = read(line)? else { continue };
                let known = longest.entry(id).or_insert(until);
                *known = until.max(*known);
            }
            let (mut kept, mut lines) = (String::new(), 0);
            for line in told() {
                let Some((id, until)) = read(line)? else { continue };
                if longest.get(&id) == Some(&until) {
                    longest.remove(&id);
                    kept.push_str(line);
                    kept.push('\n');
                    lines += 1;
                }
            }
            replace(path, &folder, kept.as_bytes())?;
            Ok::<usize, String>(lines)
        };
        match rewrite() {
            Ok(lines) => {
                let before = self.lines.swap(lines, Relaxed);
                tracing::info!(file = %path.display(), before, lines, "took revocations out that mean nothing any more");
            }
            Err(why) => tracing::warn!(file = %path.display(), %why, "the revocations could not be written anew"),
        }
    }

    /// Whether the token of this id opens nothing any more.
    pub(crate) fn has(&self, id: &IdHash) -> bool {
        // Relaxed: who revokes is answered after the id is in the map, and who asks after that finds the count changed; a
        // request that runs at the same time may be judged either way.
        self.len.load(Relaxed) != 0 && self.by_id.read().contains_key(id)
    }

    /// Puts an id on the list; in force when this returns, also where it could not be written down. Blocks on the file.
    pub(crate) fn revoke(&self, jti: &str, until: TimestampMs, now: TimestampMs) -> Result<(), NotKept> {
        let mut unwritten = self.unwritten.lock();
        {
            let mut by_id = self.by_id.write();
            if by_id.len() >= REVOKED_MAX {
                by_id.retain(|_, until| *until > now);
            }
            if by_id.len() >= REVOKED_MAX {
                return Err(NotKept::Full);
            }
            by_id.insert(id_hash(jti), until);
            self.len.store(by_id.len(), Relaxed);
        }
        self.write(jti, until).map_err(|error| {
            unwritten.insert(id_hash(jti), until);
            NotKept::InMemoryOnly(error)
        })?;
        self.lines.fetch_add(1, Relaxed);
        self.prune(now);
        Ok(())
    }

    fn write(&self, jti: &str, until: TimestampMs) -> Result<(), String> {
        let Some(path) = &self.file else { return Ok(()) };
        // Where a link leads, as for who writes the file anew: both must hold the same lock.
        let path = &path.canonicalize().unwrap_or_else(|_| path.clone());
        let until = i64::try_from(until.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let line = Line { jti: jti.to_owned(), until: until.unwrap_or(jiff::Timestamp::MAX) };
        let mut line = serde_json::to_string(&line).map_err(|error| error.to_string())?;
        line.push('\n');
        // Whoever writes the file anew at this moment must not lose the line.
        let _folder = lock_folder(path)?;
        let append = || {
            let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
            let mut last = [b'\n'];
            if let Some(at) = file.metadata()?.len().checked_sub(1) {
                file.read_exact_at(&mut last, at)?;
            }
            if last != [b'\n'] {
                // Half a line of another time spoils this one otherwise.
                file.write_all(b"\n")?;
            }
            file.write_all(line.as_bytes())?;
            file.sync_data()
        };
        append().map_err(|error: std::io::Error| error.to_string())
    }

    /// The file, to see whether it has changed.
    pub(crate) fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }

    /// How many ids are on the list.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }
}

/// What a line of the file says; nothing, if it was cut short: a process was killed while it wrote it, and told nobody that it
/// had.
fn parse(line: &str) -> Result<Option<(IdHash, TimestampMs)>, String> {
    match serde_json::from_str::<Line>(line) {
        Ok(Line { jti, until }) => {
            let until = TimestampMs(u64::try_from(until.as_millisecond()).unwrap_or(0));
            Ok(Some((id_hash(&jti), until)))
        }
        Err(error) if error.is_eof() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// What is kept of an id.
pub(crate) fn id_hash(jti: &str) -> IdHash {
    let mut first = [0; 16];
    first.copy_from_slice(&Sha256::digest(jti.as_bytes())[..16]);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = TimestampMs(1000);
    const LATER: TimestampMs = TimestampMs(9000);

    #[test]
    fn what_is_revoked_is_so_at_once_and_after_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.ndjson");
        let list = Revoked::open(Some(path.clone()), NOW).unwrap();
        assert!(!list.has(&id_hash("a")));
        assert_eq!(list.revoke("a", LATER, NOW), Ok(()));
        assert_eq!(list.revoke("b\"\n", TimestampMs(2000), NOW), Ok(()));
        assert!(list.has(&id_hash("a")) && list.has(&id_hash("b\"\n")) && !list.has(&id_hash("c")));
        let again = Revoked::open(Some(path), TimestampMs(2000)).unwrap();
        assert!(again.has(&id_hash("a")));
        assert!(!again.has(&id_hash("b\"\n")), "no token of that id can be valid any more");
    }

    #[test]
    fn a_bad_line_leaves_the_list_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.ndjson");
        std::fs::write(&path, "{\"jti\":\"a\",\"until\":\"1970-01-01T00:00:09Z\"}\n\n").unwrap();
        let list = Revoked::open(Some(path.clone()), NOW).unwrap();
        std::fs::write(&path, "{\"jti\":\"b\",\"until\":\"1970-01-01T00:00:09Z\"}\n{\"jti\":1}\n").unwrap();
        assert!(list.reload(NOW).unwrap_err().starts_with("line 2: "));
        assert!(list.has(&id_hash("a")) && !list.has(&id_hash("b")));
        std::fs::write(&path, "").unwrap();
        assert_eq!(list.reload(NOW), Ok(0), "what is taken out of the file is valid again");
        assert!(!list.has(&id_hash("a")));
    }

    #[test]
    fn a_line_cut_short_spoils_no_other_and_a_file_that_is_gone_lifts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.ndjson");
        std::fs::write(&path, "{\"jti\":\"a\",\"until\":\"1970-01-01T00:00:09Z\"}\n{\"jti\":\"b").unwrap();
        let list = Revoked::open(Some(path.clone()), NOW).unwrap();
        assert!(list.has(&id_hash("a")) && !list.has(&id_hash("b")));
        assert_eq!(list.revoke("c", LATER, NOW), Ok(()));
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"b\n{\"jti\":\"c\""));
        let again = Revoked::open(Some(path.clone()), NOW).unwrap();
        assert!(again.has(&id_hash("a")) && again.has(&id_hash("c")));
        std::fs::remove_file(&path).unwrap();
        assert!(list.reload(NOW).unwrap_err().contains("is gone"));
        assert!(list.has(&id_hash("a")) && list.has(&id_hash("c")));
    }

    #[test]
    fn what_means_nothing_any_more_goes_when_it_is_most_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.ndjson");
        let line =
            |jti: &str, second: u32| format!("{{\"jti\":\"{jti}\",\"until\":\"1970-01-01T00:00:0{second}Z\"}}\n");
        let mut text: String = (0..DEAD_LINES).map(|i| line(&format!("old-{i}"), 2)).collect();
        text.push_str(&line("new", 9));
        std::fs::write(&path, &text).unwrap();
        let lines = || std::fs::read_to_string(&path).unwrap().lines().count();
        // All of it is in force still; a start changes nothing.
        let list = Revoked::open(Some(path.clone()), NOW).unwrap();
        assert_eq!((list.len(), lines()), (DEAD_LINES + 1, DEAD_LINES + 1));
        let then = TimestampMs(3000);
        assert_eq!(list.reload(then), Ok(1));
        assert_eq!(lines(), DEAD_LINES + 1, "not yet too many for one that is in force");
        // A line more, by another server of the same file.
        text.push_str(&line("old", 2));
        text.push_str(&line("older", 2));
        text.push_str(&line("oldest", 2));
        std::fs::write(&path, &text).unwrap();
        assert_eq!(list.revoke("newer", LATER, then), Ok(()));
        assert_eq!(lines(), DEAD_LINES + 5, "it knows of its own lines alone");
        assert_eq!(list.reload(then), Ok(2));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line("new", 9) + &line("newer", 9));
        let again = Revoked::open(Some(path), then).unwrap();
        assert!(again.has(&id_hash("new")) && again.has(&id_hash("newer")));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_token_that_is_revoked_again_and_again_has_one_line_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.ndjson");
        let line = "{\"jti\":\"again\",\"until\":\"1970-01-01T00:00:09Z\"}\n";
        std::fs::write(&path, line.repeat(DEAD_LINES + 3)).unwrap();
        let list = Revoked::open(Some(path.clone()), NOW).unwrap();
        for _ in 0..2 {
            assert_eq!(list.reload(NOW), Ok(1));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), line);
        }
    }

    #[test]
    fn two_who_revoke_at_once_lose_nothing_though_the_file_is_written_anew_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.ndjson");
        let lists = [0, 1].map(|_| Revoked::open(Some(path.clone()), NOW).unwrap());
        let dead = format!(
            "{}\n",
            serde_json::to_string(&Line { jti: "x".to_owned(), until: jiff::Timestamp::UNIX_EPOCH }).unwrap()
        );
        std::thread::scope(|scope| {
            for (i, list) in lists.iter().enumerate() {
                let dead = &dead;
                scope.spawn(move || {
                    for round in 0..20 {
                        list.revoke(&format!("{i}-{round}"), LATER, NOW).unwrap();
                        let file = list.file().unwrap();
                        if i == 0 {
                            let _lock = lock_folder(file).unwrap();
                            let mut file = OpenOptions::new().append(true).open(file).unwrap();
                            file.write_all(dead.repeat(2 * DEAD_LINES).as_bytes()).unwrap();
                        }
                        list.reload(NOW).unwrap();
                    }
                });
            }
        });
        let all = Revoked::open(Some(path.clone()), NOW).unwrap();
        assert_eq!(all.len(), 40);
        assert!(std::fs::read_to_string(&path).unwrap().lines().count() < 10 * DEAD_LINES);
    }

    #[test]
    fn what_could_not_be_written_down_is_in_force_and_no_reload_forgets_it() {
        let dir = tempfile::tempdir().unwrap();
        let list = Revoked::open(Some(dir.path().join("no/such/folder")), NOW).unwrap();
        assert!(matches!(list.revoke("a", LATER, NOW), Err(NotKept::InMemoryOnly(_))));
        assert!(list.has(&id_hash("a")));
        assert_eq!(list.reload(NOW), Ok(1));
        assert!(list.has(&id_hash("a")));
    }
}
