//! The database copied while somebody may be writing to it, for a backup.
//!
//! Tables never change once they are written, and which of them count is said by small files that are replaced whole; only the database's own
//! journal grows. So a copy during which no file came, went or was replaced is what a crash at its beginning could have left, with as much of
//! the journal as was there. A copy that met a change is made again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use berth_engine::LogPlace;

use super::{Store, StoreError};

/// How often a copy is begun again because the database was put in order under it, and the pause before.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);
/// Who has the database open.
const LOCK: &str = "lock";
/// What a packed store begins with.
const MAGIC: &[u8; 16] = b"berth store 1\n\0\0";
/// The database's own journal.
const JOURNAL: &str = "jnl";

/// Everything below a directory: a file's length, and when it was written last; of a directory and of a growing file neither.
type Listing = BTreeMap<String, Option<(u64, Option<SystemTime>)>>;

/// Copies a store that somebody may be writing to into `scratch`, proves that the copy opens and reads, and packs its rows into one
/// file, which no version of the database is needed for. What it has come to is told: the log that goes with it must have that place.
///
/// # Errors
/// Why there is none; what is in `file` is then worth nothing.
pub fn pack(from: &Path, scratch: &Path, file: &Path) -> Result<LogPlace, StoreError> {
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(PAUSE);
            fs::remove_dir_all(scratch)?;
        }
        fs::create_dir_all(scratch)?;
        let before = listing(from)?;
        match copy_all(from, scratch, &before) {
            Ok(()) => {}
            // Gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        }
        if listing(from)? == before {
            let packed = pack_rows(scratch, file);
            fs::remove_dir_all(scratch)?;
            return packed;
        }
    }
    let why = format!("{}: it was put in order {ATTEMPTS} times under the copy; try again", from.display());
    Err(StoreError::Broken(why))
}

/// Every row of every table, the cursor's among them. Each block that is read has a checksum.
fn pack_rows(dir: &Path, file: &Path) -> Result<LogPlace, StoreError> {
    // A database that is there has one.
    File::create(dir.join(LOCK))?;
    let store = Store::open(dir)?;
    let mut out = BufWriter::new(File::create(file)?);
    out.write_all(MAGIC)?;
    let mut rows = 0u64;
    for name in store.open.names()? {
        for row in store.table(&name)?.scan(b"") {
            let (key, value) = row?;
            for piece in [name.as_bytes(), &key, &value] {
                out.write_all(&u32::try_from(piece.len()).map_err(io::Error::other)?.to_le_bytes())?;
                out.write_all(piece)?;
            }
            rows += 1;
        }
    }
    // No table is without a name.
    out.write_all(&0u32.to_le_bytes())?;
    out.write_all(&rows.to_le_bytes())?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(store.place())
}

/// Makes a store of what was packed, durably, in a directory that is not there yet.
///
/// # Errors
/// The file is cut or something else, or the store cannot be made.
pub fn unpack(file: &Path, to: &Path) -> Result<(), StoreError> {
    let cut = || StoreError::Broken(format!("{}: is cut, or is no packed store", file.display()));
    let store = Store::open(to)?;
    let mut input = BufReader::new(File::open(file)?);
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic).map_err(|_| cut())?;
    if magic != *MAGIC {
        return Err(cut());
    }
    let mut rows = 0u64;
    loop {
        let name = String::from_utf8(piece(&mut input).map_err(|_| cut())?).map_err(|_| cut())?;
        if name.is_empty() {
            break;
        }
        let (key, value) = (piece(&mut input).map_err(|_| cut())?, piece(&mut input).map_err(|_| cut())?);
        store.table(&name)?.set(&key, &value)?;
        rows += 1;
    }
    let mut end = [0; 8];
    input.read_exact(&mut end).map_err(|_| cut())?;
    if u64::from_le_bytes(end) != rows {
        return Err(cut());
    }
    store.open.sync()
}

/// Bytes behind their length: read as they come, so that a wrong length allocates no more than there is.
fn piece(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    input.read_exact(&mut len)?;
    let len = u64::from(u32::from_le_bytes(len));
    let mut bytes = Vec::new();
    if input.take(len).read_to_end(&mut bytes)? as u64 == len {
        Ok(bytes)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn listing(dir: &Path) -> io::Result<Listing> {
    let (mut found, mut todo) = (Listing::new(), vec![String::new()]);
    while let Some(below) = todo.pop() {
        for entry in fs::read_dir(dir.join(&below))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            let about = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                about => about?,
            };
            if about.is_dir() {
                found.insert(format!("{path}/"), None);
                todo.push(path);
            } else if path != LOCK {
                let grows = Path::new(&path).extension().is_some_and(|extension| extension == JOURNAL);
                found.insert(path, (!grows).then(|| (about.len(), about.modified().ok())));
            }
        }
    }
    Ok(found)
}

/// Journals first: what they have come to by then, the tables that are copied later have not left behind.
fn copy_all(from: &Path, to: &Path, files: &Listing) -> io::Result<()> {
    let (growing, tables): (Vec<_>, Vec<_>) = files.iter().partition(|(_, about)| about.is_none());
    let (directories, journals): (Vec<_>, Vec<_>) = growing.into_iter().partition(|(name, _)| name.ends_with('/'));
    for (name, _) in directories {
        fs::create_dir_all(to.join(name))?;
    }
    for (name, _) in journals.into_iter().chain(tables) {
        fs::copy(from.join(name), to.join(name))?;
    }
    Ok(())
}
