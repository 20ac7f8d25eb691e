//! The master key changed: every key of the table wrapped anew under another one.
//!
//! The new table is written beside the old one, whole and synced, and then takes its name; so a crash leaves the one or the other, each
//! opened by its own master key. What prints are made of stays, wrapped under the new key: nothing in store or journal has to change.
//! The old file is then written over, so that who finds the old master key finds nothing that it opens on this disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use super::key_table::{KeyTableError, RECORD_BYTES, TableHead};
use super::master::{MasterKey, WRAPPED_BYTES, sync_folder};

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// Keys that were wrapped anew.
    pub keys: u64,
    /// Places of keys that were destroyed.
    pub destroyed: u64,
    /// It was done before: nothing was to do.
    pub already: bool,
}

/// Wraps every key of a table, which nobody serves from, under another master key.
///
/// # Errors
/// It is not the table of the old key, a record of it is damaged, or the new one cannot be written. The old one is then as it was.
pub fn rekey(path: &Path, old: &Arc<MasterKey>, new: &MasterKey) -> Result<Rekeyed, KeyTableError> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let head = TableHead::read(&file)?;
    if head.is_of(new) {
        return Ok(Rekeyed { already: true, ..Rekeyed::default() });
    }
    if !head.is_of(old) {
        return Err(KeyTableError::OtherMaster);
    }
    let root = head.root(&file, old)?;
    let mut making = path.as_os_str().to_owned();
    making.push(".rekeying");
    let making = Path::new(&making);
    match fs::remove_file(making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(making)?;
    let mut out = BufWriter::new(made);
    out.write_all(&head.anew(&root, new)?)?;
    file.seek(SeekFrom::Start(head.behind_head() + RECORD_BYTES as u64))?;
    let mut done = Rekeyed::default();
    let mut records = BufReader::new(&file);
    for place in 1.. {
        let mut record = [0; RECORD_BYTES];
        match records.read_exact(&mut record) {
            // A torn record at the end was never handed out.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            read => read?,
        }
        if record == [0; RECORD_BYTES] {
            done.destroyed += 1;
        } else {
            let id = head.key_id(place).0;
            let wrapped = record.first_chunk::<WRAPPED_BYTES>().ok_or(KeyTableError::Damaged(id))?;
            let key = old.unwrap_key(id, wrapped).ok_or(KeyTableError::Damaged(id))?;
            record[..WRAPPED_BYTES].copy_from_slice(&new.wrap(id, &key)?);
            done.keys += 1;
        }
        out.write_all(&record)?;
    }
    drop(records);
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(making, path)?;
    sync_folder(path)?;
    write_over(&mut file)?;
    Ok(done)
}

/// The old file has no name any more; its bytes are still on the disk.
fn write_over(file: &mut File) -> io::Result<()> {
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(0))?;
    io::copy(&mut io::repeat(0).take(len), file)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::key_table::KeyTable;
    use super::*;

    #[test]
    fn every_key_opens_under_the_new_master_key_alone_and_prints_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("people.keys");
        let [one, two, three] = [1, 2, 3].map(|byte| Arc::new(MasterKey::new(&[byte; 32])));
        let open = |master: &Arc<MasterKey>| KeyTable::open(&path, Arc::clone(master));
        let keys = open(&one).unwrap();
        let (kept, key) = keys.take().unwrap();
        let (gone, _) = keys.take().unwrap();
        let sealed = key.seal(b"x", b"text").unwrap();
        keys.destroy(gone).unwrap();
        drop(keys);
        // What a run that was cut off left is in nobody's way.
        fs::write(dir.path().join("people.keys.rekeying"), "half").unwrap();
        let old = File::open(&path).unwrap();
        let before = fs::read(&path).unwrap();
        assert!(matches!(rekey(&path, &two, &three), Err(KeyTableError::OtherMaster)));
        assert_eq!(fs::read(&path).unwrap(), before, "nothing was touched");
        let done = rekey(&path, &one, &two).unwrap();
        assert_eq!((done.keys, done.destroyed, done.already), (1023, 1, false));
        assert!(rekey(&path, &one, &two).unwrap().already);
        let mut left = Vec::new();
        (&old).read_to_end(&mut left).unwrap();
        assert!(left.len() == before.len() && left.iter().all(|byte| *byte == 0), "the old file is written over");
        assert!(matches!(open(&one), Err(KeyTableError::OtherMaster)));
        for (from, to) in [(&two, &three), (&three, &two)] {
            let keys = open(from).unwrap();
            assert_eq!(keys.root().derive("phones"), one.derive("phones"), "prints are made of the same");
            assert_eq!(keys.get(kept).unwrap().unwrap().open(b"x", &sealed).unwrap(), b"text");
            assert!(keys.get(gone).unwrap().is_none());
            assert_eq!(keys.ever_destroyed(), 1);
            let (next, key) = keys.take().unwrap();
            let sealed = key.seal(b"y", b"new").unwrap();
            assert!(next > kept && keys.get(next).unwrap().unwrap().open(b"y", &sealed).is_some());
            drop(keys);
            rekey(&path, from, to).unwrap();
            assert!(open(to).unwrap().get(next).unwrap().unwrap().open(b"y", &sealed).is_some());
        }
    }

    #[test]
    fn a_damaged_record_stops_it_and_the_table_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("people.keys");
        let (one, two) = (Arc::new(MasterKey::new(&[1; 32])), MasterKey::new(&[2; 32]));
        KeyTable::open(&path, Arc::clone(&one)).unwrap().take().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[5 * RECORD_BYTES] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(rekey(&path, &one, &two), Err(KeyTableError::Damaged(_))));
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}
