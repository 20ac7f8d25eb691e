//! Every subject's key, wrapped under the master key: one file of records of 64 bytes at fixed places. The one thing of people that is
//! changed where it lies: destroying a key is writing zeros over it, and with it everything sealed under it is gone, wherever it was
//! copied to.
//!
//! Keys are made a block ahead and synced before any of them is handed out, so no entry is ever sealed under a key that a crash could
//! lose, and no registration waits for this file. A crash leaves what was made ahead unused: 64 bytes each.
// rule: PPL-2 a subject's key is on the disk before anything sealed under it is

use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::{Condvar, Mutex};
use ring::aead::LessSafeKey;
use ring::hmac;

use super::master::{KEY_BYTES, MasterKey, WRAPPED_BYTES, aead_key, open, random, seal, sync_folder};

/// Bytes of a record, and of the head.
pub(super) const RECORD_BYTES: usize = 64;
/// Of a table whose prints are made of its master key.
const MAGIC: &[u8; 12] = b"berth keys 1";
/// Of one that was wrapped anew: behind the head lies what prints are made of, wrapped.
const MAGIC_ANEW: &[u8; 12] = b"berth keys 2";
/// Where that is bound to.
const ROOT: u64 = 0;
/// In the head: how often a key was destroyed, and whether some that were are there again.
const DESTROYED_AT: usize = 48;
const STALE_AT: usize = 56;
/// Bits of a key's id that are its place; those above are the table's own, random, so that an id of another table is nobody's here.
const PLACE_BITS: u32 = 40;
/// Keys made at once.
const BLOCK: u64 = 1024;
/// With fewer ready the next block is made.
const LOW: usize = 512;

/// The table of a key, and its place in it. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KeyId(pub(super) u64);

/// A subject's own key.
pub(super) struct SubjectKey {
    aead: LessSafeKey,
    bytes: [u8; KEY_BYTES],
}

impl SubjectKey {
    /// Seals a text; what is `bound` must be said again to open it.
    pub(super) fn seal(&self, bound: &[u8], text: &[u8]) -> io::Result<Vec<u8>> {
        seal(&self.aead, bound, text)
    }

    /// `None` if it was changed or sealed under another key.
    pub(super) fn open(&self, bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        open(&self.aead, bound, sealed)
    }

    fn new(bytes: &[u8; KEY_BYTES]) -> SubjectKey {
        SubjectKey { aead: aead_key(bytes), bytes: *bytes }
    }

    /// The key of what is noted of their doses: it can go to whoever their record is merged into, and opens nothing else.
    pub(super) fn of_doses(&self) -> [u8; KEY_BYTES] {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.bytes), b"berth doses 1");
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(derived.as_ref());
        key
    }
}

/// Why the table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyTableError {
    /// The file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is no key table, or one of a later version.
    #[error("is no key table of this version")]
    Shape,
    /// It was made under another master key: with this one nothing could be read.
    #[error("was made under another master key")]
    OtherMaster,
    /// A record that is there does not open: the file was damaged.
    #[error("the record of key {0} is damaged")]
    Damaged(u64),
}

/// The table.
pub(super) struct KeyTable {
    path: PathBuf,
    file: File,
    /// Made with it: by which a store knows that it is its table.
    id: [u8; 16],
    master: Arc<MasterKey>,
    /// What prints are made of.
    root: Arc<MasterKey>,
    /// Bytes between the head and the place of key 0, which there is none of.
    behind_head: u64,
    ready: Mutex<Ready>,
    made_more: Condvar,
    destroyed: AtomicU64,
    /// Keys that were ever destroyed, as the head has it.
    ever_destroyed: Mutex<u64>,
    stale: AtomicBool,
}

/// What the first bytes of a table say.
pub(super) struct TableHead {
    check: [u8; 16],
    id: [u8; 16],
    pub(super) destroyed: u64,
    stale: bool,
    anew: bool,
}

impl TableHead {
    pub(super) fn read(file: &File) -> Result<TableHead, KeyTableError> {
        let mut head = [0; RECORD_BYTES];
        file.read_exact_at(&mut head, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => KeyTableError::Shape,
            _ => error.into(),
        })?;
        let anew = head[..MAGIC.len()] == MAGIC_ANEW[..];
        if !anew && head[..MAGIC.len()] != MAGIC[..] {
            return Err(KeyTableError::Shape);
        }
        let part = |at: usize| head.get(at..at + 16)?.try_into().ok();
        let destroyed =
            head.get(DESTROYED_AT..STALE_AT).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        Ok(TableHead {
            check: part(16).ok_or(KeyTableError::Shape)?,
            id: part(32).ok_or(KeyTableError::Shape)?,
            destroyed: destroyed.ok_or(KeyTableError::Shape)?,
            stale: head[STALE_AT] != 0,
            anew,
        })
    }

    /// Whether this master key is the table's.
    pub(super) fn is_of(&self, master: &MasterKey) -> bool {
        self.check == master.check_value()
    }

    /// What prints are made of: the master key of the time before the first change, or of always.
    pub(super) fn root(&self, file: &File, master: &Arc<MasterKey>) -> Result<Arc<MasterKey>, KeyTableError> {
        if !self.anew {
            return Ok(Arc::clone(master));
        }
        let mut wrapped = [0; WRAPPED_BYTES];
        file.read_exact_at(&mut wrapped, RECORD_BYTES as u64)?;
        let root = master.unwrap_key(ROOT, &wrapped).ok_or(KeyTableError::Damaged(ROOT))?;
        Ok(Arc::new(MasterKey::new(&root)))
    }

    pub(super) fn behind_head(&self) -> u64 {
        if self.anew { RECORD_BYTES as u64 } else { 0 }
    }

    /// The head and the root of the same table under another master key.
    pub(super) fn anew(&self, root: &MasterKey, master: &MasterKey) -> io::Result<[u8; 2 * RECORD_BYTES]> {
        let mut bytes = [0; 2 * RECORD_BYTES];
        bytes[..MAGIC_ANEW.len()].copy_from_slice(MAGIC_ANEW);
        bytes[16..32].copy_from_slice(&master.check_value());
        bytes[32..DESTROYED_AT].copy_from_slice(&self.id);
        bytes[DESTROYED_AT..STALE_AT].copy_from_slice(&self.destroyed.to_le_bytes());
        bytes[STALE_AT] = u8::from(self.stale);
        bytes[RECORD_BYTES..RECORD_BYTES + WRAPPED_BYTES].copy_from_slice(&master.wrap(ROOT, root.secret())?);
        Ok(bytes)
    }

    /// The id of the key at this place.
    pub(super) fn key_id(&self, place: u64) -> KeyId {
        key_id(&self.id, place)
    }
}

fn key_id(table: &[u8; 16], place: u64) -> KeyId {
    let [a, b, c, ..] = *table;
    KeyId(u64::from_le_bytes([a, b, c, 0, 0, 0, 0, 0]) << PLACE_BITS | place)
}

struct Ready {
    keys: VecDeque<(KeyId, [u8; KEY_BYTES])>,
    /// The next place that was never used.
    next: u64,
    making: bool,
}

impl KeyTable {
    /// Whether a table is there.
    pub(super) fn exists(path: &Path) -> bool {
        path.exists()
    }

    /// Opens the table, made if it is not there.
    pub(super) fn open(path: &Path, master: Arc<MasterKey>) -> Result<KeyTable, KeyTableError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let len = file.metadata()?.len();
        if len < RECORD_BYTES as u64 {
            let mut head = [0; RECORD_BYTES];
            // The head is one sector: a crash leaves it whole or the file without it, and then nothing was handed out.
            head[..MAGIC.len()].copy_from_slice(MAGIC);
            head[16..32].copy_from_slice(&master.check_value());
            head[32..48].copy_from_slice(&random::<16>()?);
            file.write_all_at(&head, 0)?;
            file.sync_all()?;
            sync_folder(path)?;
        }
        let head = TableHead::read(&file)?;
        if !head.is_of(&master) {
            return Err(KeyTableError::OtherMaster);
        }
        let behind_head = head.behind_head();
        // Behind whatever was made, a torn record too.
        let next = len.saturating_sub(behind_head).div_ceil(RECORD_BYTES as u64).max(1);
        let ready = Ready { keys: VecDeque::new(), next, making: false };
        Ok(KeyTable {
            path: path.to_owned(),
            id: head.id,
            root: head.root(&file, &master)?,
            behind_head,
            file,
            master,
            ready: Mutex::new(ready),
            made_more: Condvar::new(),
            destroyed: AtomicU64::new(0),
            ever_destroyed: Mutex::new(head.destroyed),
            stale: AtomicBool::new(head.stale),
        })
    }

    /// What prints are made of: it stays where the master key is changed.
    pub(super) fn root(&self) -> &Arc<MasterKey> {
        &self.root
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether any key was ever made.
    pub(super) fn has_keys(&self) -> bool {
        self.ready.lock().next > 1
    }

    /// By which a store knows that it is its table.
    pub(super) fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The id of the key at this place.
    fn key_id(&self, place: u64) -> KeyId {
        key_id(&self.id, place)
    }

    /// Where the record of this place lies.
    fn at(&self, place: u64) -> u64 {
        self.behind_head + place * RECORD_BYTES as u64
    }

    /// Where a key lies; `None` if its id is another table's.
    pub(super) fn place(&self, id: KeyId) -> Option<u64> {
        let place = id.0 & ((1 << PLACE_BITS) - 1);
        (place > 0 && self.key_id(place) == id).then_some(place)
    }

    /// Gives no key of this id or below it any more: a table that was put back from a backup does not know which were used since.
    pub(super) fn pass(&self, newest: KeyId) {
        if let Some(place) = self.place(newest) {
            let mut ready = self.ready.lock();
            ready.keys.retain(|(id, _)| *id > newest);
            ready.next = ready.next.max(place + 1);
        }
    }

    /// Keys destroyed in this run.
    pub(super) fn destroyed(&self) -> u64 {
        self.destroyed.load(Relaxed)
    }

    /// A key that nobody has. Blocks now and then, while a block of them is made.
    pub(super) fn take(&self) -> io::Result<(KeyId, SubjectKey)> {
        let mut ready = self.ready.lock();
        loop {
            let taken = ready.keys.pop_front();
            if ready.keys.len() < LOW && !ready.making {
                ready.making = true;
                let first = ready.next;
                drop(ready);
                let made = self.make(first);
                ready = self.ready.lock();
                ready.making = false;
                self.made_more.notify_all();
                match made {
                    Ok(keys) => {
                        ready.next = first + BLOCK;
                        ready.keys.extend(keys);
                    }
                    // Who has one goes on with it.
                    Err(error) if taken.is_none() => return Err(error),
                    Err(_) => {}
                }
            } else if taken.is_none() {
                self.made_more.wait(&mut ready);
            }
            if let Some((id, key)) = taken {
                return Ok((id, SubjectKey::new(&key)));
            }
        }
    }

    /// Makes a block of keys from this place on; they are on the disk when it returns.
    fn make(&self, first: u64) -> io::Result<Vec<(KeyId, [u8; KEY_BYTES])>> {
        let mut keys = Vec::new();
        let mut bytes = Vec::new();
        for id in first..first + BLOCK {
            let key: [u8; KEY_BYTES] = random()?;
            let id = self.key_id(id);
            bytes.extend_from_slice(&self.master.wrap(id.0, &key)?);
            bytes.resize(bytes.len().next_multiple_of(RECORD_BYTES), 0);
            keys.push((id, key));
        }
        self.file.write_all_at(&bytes, self.at(first))?;
        self.file.sync_data()?;
        Ok(keys)
    }

    /// A subject's key; `None` once it was destroyed.
    pub(super) fn get(&self, id: KeyId) -> Result<Option<SubjectKey>, KeyTableError> {
        let mut record = [0; RECORD_BYTES];
        let Some(place) = self.place(id) else { return Ok(None) };
        match self.file.read_exact_at(&mut record, self.at(place)) {
            Ok(()) => {}
            // A table that was put back from before the key was made.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if record == [0; RECORD_BYTES] {
            return Ok(None);
        }
        let wrapped = record.first_chunk::<WRAPPED_BYTES>().ok_or(KeyTableError::Damaged(id.0))?;
        let key = self.master.unwrap_key(id.0, wrapped).ok_or(KeyTableError::Damaged(id.0))?;
        Ok(Some(SubjectKey::new(&key)))
    }

    /// Destroys a key: when this returns it is gone from the disk. A repeat changes nothing but the count that comes back: how often
    /// keys of this table were destroyed. A copy of the table from before has a lower one.
    // rule: PPL-3 erasure destroys the key
    pub(super) fn destroy(&self, id: KeyId) -> io::Result<u64> {
        let mut ever = self.ever_destroyed.lock();
        let Some(at) = self.place(id).map(|place| self.at(place)) else { return Ok(*ever) };
        if at + RECORD_BYTES as u64 > self.file.metadata()?.len() {
            return Ok(*ever);
        }
        self.file.write_all_at(&[0; RECORD_BYTES], at)?;
        self.file.write_all_at(&(*ever + 1).to_le_bytes(), DESTROYED_AT as u64)?;
        self.file.sync_data()?;
        *ever += 1;
        self.destroyed.fetch_add(1, Relaxed);
        Ok(*ever)
    }

    /// Keys that were ever destroyed in this table.
    pub(super) fn ever_destroyed(&self) -> u64 {
        *self.ever_destroyed.lock()
    }

    /// Notes, durably, that keys are there again which were destroyed: this is a copy from before.
    pub(super) fn mark_stale(&self) -> io::Result<()> {
        self.file.write_all_at(&[1], STALE_AT as u64)?;
        self.file.sync_data()?;
        self.stale.store(true, Relaxed);
        Ok(())
    }

    /// Whether it is such a copy, and [`KeyTable::sweep`] has not been done since.
    pub(super) fn is_stale(&self) -> bool {
        self.stale.load(Relaxed)
    }

    /// Places that were ever made, the one behind the last.
    pub(super) fn places(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().saturating_sub(self.behind_head) / RECORD_BYTES as u64)
    }

    /// Destroys every key that is not among these; the table is then as one in which so many were destroyed. How many it destroyed.
    // rule: PPL-3 an erasure is not undone by a copy from before it
    pub(super) fn sweep(&self, live: &HashSet<KeyId>, ever: u64) -> io::Result<u64> {
        let mut count = self.ever_destroyed.lock();
        let mut swept = 0;
        let mut record = [0; RECORD_BYTES];
        for place in 1..self.places()? {
            self.file.read_exact_at(&mut record, self.at(place))?;
            if record != [0; RECORD_BYTES] && !live.contains(&self.key_id(place)) {
                self.file.write_all_at(&[0; RECORD_BYTES], self.at(place))?;
                swept += 1;
            }
        }
        // Nothing is taken for done before it is: the mark goes behind what it is about.
        self.file.sync_data()?;
        *count = (*count).max(ever);
        self.file.write_all_at(&count.to_le_bytes(), DESTROYED_AT as u64)?;
        self.file.write_all_at(&[0], STALE_AT as u64)?;
        self.file.sync_data()?;
        self.stale.store(false, Relaxed);
        Ok(swept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(dir: &Path, secret: u8) -> Result<KeyTable, KeyTableError> {
        KeyTable::open(&dir.join("people.keys"), Arc::new(MasterKey::new(&[secret; 32])))
    }

    // rule: PPL-2
    #[test]
    fn a_key_is_on_the_disk_before_it_is_handed_out_and_no_place_is_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = HashSet::new();
        for _ in 0..3 {
            let keys = table(dir.path(), 1).unwrap();
            for _ in 0..BLOCK + 10 {
                let (id, key) = keys.take().unwrap();
                assert!(seen.insert(id), "{id:?} was given before");
                let sealed = key.seal(b"x", b"text").unwrap();
                // Another reader of the file: what another process would find after a crash.
                let other = table(dir.path(), 1).unwrap().get(id).unwrap().unwrap();
                assert_eq!(other.open(b"x", &sealed).unwrap(), b"text");
                assert_eq!(other.open(b"y", &sealed), None);
            }
        }
    }

    // rule: PPL-3
    #[test]
    fn a_destroyed_key_is_gone_from_the_file_and_no_other_is() {
        let dir = tempfile::tempdir().unwrap();
        let keys = table(dir.path(), 1).unwrap();
        let (one, _) = keys.take().unwrap();
        let (two, key) = keys.take().unwrap();
        let sealed = key.seal(b"", b"text").unwrap();
        let record = |id: KeyId| {
            let file = std::fs::read(dir.path().join("people.keys")).unwrap();
            let at = usize::try_from(id.0 & 0xff_ffff).unwrap() * RECORD_BYTES;
            file[at..at + RECORD_BYTES].to_vec()
        };
        let before = record(one);
        keys.destroy(one).unwrap();
        keys.destroy(one).unwrap();
        keys.destroy(KeyId(u64::MAX)).unwrap();
        keys.destroy(KeyId(0)).unwrap();
        assert!(record(one) == [0; RECORD_BYTES] && before != [0; RECORD_BYTES]);
        assert!(keys.get(one).unwrap().is_none() && keys.get(KeyId(1 << 40)).unwrap().is_none());
        assert_eq!(keys.get(two).unwrap().unwrap().open(b"", &sealed).unwrap(), b"text");
        drop(keys);
        assert!(table(dir.path(), 1).unwrap().get(one).unwrap().is_none());
    }

    #[test]
    fn a_key_of_another_table_is_nobodys_and_no_place_is_used_again_behind_an_older_copy() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let keys = table(dir.path(), 1).unwrap();
        let (one, _) = keys.take().unwrap();
        let elsewhere = table(other.path(), 1).unwrap();
        let (two, _) = elsewhere.take().unwrap();
        assert_ne!(one, two);
        assert!(elsewhere.get(one).unwrap().is_none());
        elsewhere.destroy(one).unwrap();
        assert!(elsewhere.get(two).unwrap().is_some(), "what is another table's destroys nothing here");
        let newest = KeyId(one.0 + 5000);
        keys.pass(newest);
        assert!(keys.take().unwrap().0 > newest);
    }

    #[test]
    fn another_master_key_and_damage_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("people.keys");
        let (id, _) = table(dir.path(), 1).unwrap().take().unwrap();
        assert!(matches!(table(dir.path(), 2), Err(KeyTableError::OtherMaster)));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[usize::try_from(id.0 & 0xff_ffff).unwrap() * RECORD_BYTES + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(table(dir.path(), 1).unwrap().get(id), Err(KeyTableError::Damaged(_))));
        std::fs::write(&path, [b'x'; 100]).unwrap();
        assert!(matches!(table(dir.path(), 1), Err(KeyTableError::Shape)));
    }

    #[test]
    fn racing_takers_get_keys_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let keys = table(dir.path(), 1).unwrap();
        let taken: Vec<KeyId> = std::thread::scope(|scope| {
            let takers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1000).map(|_| keys.take().unwrap().0).collect::<Vec<_>>())).collect();
            takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 4000);
    }
}
