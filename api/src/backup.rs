//! `berth backup` and `berth restore`: a data directory copied beside a running server, proven, and put back elsewhere.
//!
//! The engine copies and judges ([`berth_engine::backup`]); here are the manifest, the checksums of its files and the names.

mod keys;

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use berth_engine::backup::{self, CODE_KEY, Copied, Progress};
use berth_engine::verify::directory::{Report, verify};
use berth_engine::{JournalFiles, Limits, LogPlace};
use berth_programme::people::KEY_TABLE;
use berth_programme::store::copy as store_copy;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::cli;
use crate::meter::{Meter, Unit};
use crate::offline;

/// The manifest's file, and the version of what it says.
const MANIFEST: &str = "backup.json";
const MANIFEST_VERSION: u32 = 1;
/// The manifest's own checksum, as `sha256sum` writes and checks it.
const MANIFEST_SUM: &str = "backup.json.sha256";
/// The store of projections in a data directory, and its rows in a backup.
const STORE: &str = crate::store::DIR;
const PACKED: &str = "store.rows";

/// What to back up.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The data directory. A server may be serving from it.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The backup: a directory that does not exist yet. It gets this name when it is whole and proven.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// Put the key behind the booking codes into the backup too. Without it whoever has the backup cannot make codes, and a
    /// restore needs the key from elsewhere.
    #[arg(long)]
    with_code_key: bool,
    /// Put the keys of people (`people.keys`, each wrapped under the master key) into the backup too. Without it nobody's record can be read
    /// from the backup alone. With it whoever has the master key can read those who are erased later: say with --keep-days how
    /// long you keep it.
    #[arg(long)]
    with_people_keys: bool,
    /// How long a backup with keys of people is to be kept: what the erasure of a person promises. A restore after that asks back.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    keep_days: u32,
    /// The server's configuration file, for how long it keeps idempotency keys. Without it the default is taken.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Show no progress on standard error.
    #[arg(long)]
    quiet: bool,
}

/// What to restore.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The data directory to make; absent or empty.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// The code key's file, where the backup has none.
    #[arg(long, value_name = "FILE")]
    code_key: Option<PathBuf>,
    /// A copy of `people.keys`, where the backup has none: the newest there is. Of who was erased since the copy the keys are destroyed again
    /// at the first start.
    #[arg(long, value_name = "FILE", conflicts_with = "without_people_keys")]
    people_keys: Option<PathBuf>,
    /// Restore without the keys of people: nobody's record can be read then.
    #[arg(long)]
    without_people_keys: bool,
    /// Restore keys of people from a backup that was to be destroyed by now.
    #[arg(long)]
    past_its_time: bool,
    /// Says that the server this is a backup of will never run again. Two that go on from one journal give the same places, and
    /// the same codes, to different people.
    #[arg(long)]
    old_owner_is_dead: bool,
    /// The server's configuration file, for how long it keeps idempotency keys. Without it the default is taken.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Show no progress on standard error.
    #[arg(long)]
    quiet: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    berth_backup: u32,
    /// Of the program that made it.
    version: String,
    taken_at: String,
    cell: u16,
    epoch: u32,
    /// S0 of the snapshot in it.
    snapshot: Option<u64>,
    /// The first and the last entry in its log.
    first: u64,
    last: u64,
    code_key: bool,
    /// The entry up to which it has the store of projections, if it has it.
    #[serde(default)]
    store: Option<u64>,
    /// Whether it has the keys of people; none, where nobody registers.
    #[serde(default)]
    people_keys: Option<bool>,
    /// Until when it is to be kept, for those keys.
    #[serde(default)]
    keep_until: Option<String>,
    files: Vec<Listed>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    name: String,
    bytes: u64,
    sha256: String,
}

/// `berth backup`
pub(crate) fn backup(args: &BackupArgs, limits: &Limits) -> Result<ExitCode, String> {
    let BackupArgs { into, quiet, .. } = args;
    if into.exists() {
        return Err(format!("{} exists; a backup gets a directory of its own", into.display()));
    }
    let partial = beside(into)?;
    [partial.clone(), aside(&partial), scratch(&aside(&partial))].iter().try_for_each(|path| fresh(path))?;
    let made = make(args, &partial, limits.idempotency_window, &mut Meter::new(*quiet))
        .and_then(|told| name_it(&partial, into).map(|()| told));
    match made {
        Ok(manifest) => {
            let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
            let Manifest {
                cell,
                epoch,
                snapshot,
                first,
                last,
                code_key,
                taken_at,
                store,
                files,
                people_keys,
                keep_until,
                ..
            } = &manifest;
            let told = json!({
                "backup": into.display().to_string(), "cell": cell, "epoch": epoch, "snapshot": snapshot, "first": first,
                "last": last, "code_key": code_key, "store": store, "taken_at": taken_at, "files": files.len(), "bytes": bytes,
                "people_keys": people_keys, "keep_until": keep_until, "verdict": "held",
            });
            cli::tell(&format!(
                "berth: backed up and proven: everything acknowledged before, entries to {last}, {bytes} bytes"
            ));
            if let Some(until) = keep_until {
                cli::tell(&format!(
                    "berth: the keys of people are in it: destroy it by {until}, or who is erased meanwhile is not"
                ));
            }
            if *people_keys == Some(false) {
                cli::tell(
                    "berth: NOT in the backup: the keys of people (people.keys), without which their records cannot be read: copy \
                     that file now, behind the backup, or say --with-people-keys; docs/people.md tells more",
                );
            }
            cli::say(&told.to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            // What is there is no backup. That it cannot be removed changes nothing about that.
            let _ = fs::remove_dir_all(&partial);
            let _ = fs::remove_file(aside(&partial));
            let _ = fs::remove_dir_all(scratch(&aside(&partial)));
            Err(error)
        }
    }
}

fn make(args: &BackupArgs, partial: &Path, window: Duration, meter: &mut Meter) -> Result<Manifest, String> {
    let BackupArgs { data_dir, with_code_key, with_people_keys, keep_days, .. } = args;
    let with_code_key = *with_code_key;
    let taken_at = jiff::Timestamp::now();
    // First, so that the log that is copied behind it has all that it has come to. Aside, for the log wants an empty directory.
    let aside = aside(partial);
    let store = pack_store(data_dir, &aside, meter)?;
    fs::create_dir_all(partial).map_err(|error| at(partial, &error))?;
    let copied = backup::copy(data_dir, partial, with_code_key, window, &mut |progress| show(meter, progress));
    meter.clear();
    let copied = copied.map_err(|error| error.to_string())?;
    let Copied { cell, epoch, snapshot, snapshots_damaged, mut files, report } = copied;
    for (path, error) in snapshots_damaged {
        cli::tell(&format!("berth: a damaged snapshot was left out, {}: {error}", path.display()));
    }
    let store = store.filter(|place| {
        let fits = place.seq.next() >= report.first && place.seq <= report.last;
        if !fits {
            let (at, first) = (place.seq, report.first);
            cli::tell(&format!(
                "berth: the store of projections had come to entry {at}, and the log begins at {first}: it is left out"
            ));
        }
        fits
    });
    let packed = partial.join(PACKED);
    if store.is_some() {
        fs::rename(&aside, &packed).map_err(|error| at(&packed, &error))?;
        files.push(PACKED.to_owned());
    } else if aside.exists() {
        fs::remove_file(&aside).map_err(|error| at(&aside, &error))?;
    }
    // Behind the log: whatever is sealed in it has its key in the table by then.
    let people_keys = data_dir.join(KEY_TABLE).exists().then_some(*with_people_keys);
    let mut keep_until = None;
    if people_keys == Some(true) {
        let (from, to) = (data_dir.join(KEY_TABLE), partial.join(KEY_TABLE));
        keys::copy(&from, &to).map_err(|error| at(&from, &error))?;
        files.push(KEY_TABLE.to_owned());
        keep_until = Some(keys::keep_until(taken_at, *keep_days));
    }
    let files = files.into_iter().map(|name| (partial.join(&name), name));
    let files: Vec<_> = files.map(|(path, name)| (path.metadata().map_or(0, |file| file.len()), name)).collect();
    let mut sums = Sums::new(files.iter().map(|(bytes, _)| bytes).sum(), meter);
    let files = files.into_iter().map(|(_, name)| sums.listed(partial, name)).collect::<Result<_, _>>()?;
    meter.clear();
    let manifest = Manifest {
        berth_backup: MANIFEST_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        taken_at: taken_at.to_string(),
        cell: cell.0,
        epoch: epoch.0,
        snapshot: snapshot.map(|s0| s0.0),
        first: report.first.0,
        last: report.last.0,
        code_key: with_code_key,
        store: store.map(|place| place.seq.0),
        people_keys,
        keep_until,
        files,
    };
    let path = partial.join(MANIFEST);
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| at(&path, &error))?;
    let sum = format!("{}  {MANIFEST}\n", hex(&Sha256::digest(text.as_bytes())));
    for (name, text) in [(MANIFEST, text), (MANIFEST_SUM, sum)] {
        let path = partial.join(name);
        fs::write(&path, text).and_then(|()| File::open(&path)?.sync_all()).map_err(|error| at(&path, &error))?;
    }
    File::open(partial).and_then(|dir| dir.sync_all()).map_err(|error| at(partial, &error))?;
    Ok(manifest)
}

/// `berth restore`
pub(crate) fn restore(args: &RestoreArgs, limits: &Limits) -> Result<ExitCode, String> {
    let RestoreArgs { from, into, code_key, old_owner_is_dead, quiet, .. } = args;
    if !old_owner_is_dead {
        return Err(
            "a restored copy beside its original would give the same places to different people: make sure the \
                    original never runs again, then say --old-owner-is-dead"
                .to_owned(),
        );
    }
    let mut meter = Meter::new(*quiet);
    let manifest = check(from, &mut meter)?;
    let key = match (code_key, manifest.code_key) {
        (Some(path), _) => path.clone(),
        (None, true) => from.join(CODE_KEY),
        (None, false) => return Err("the backup has no code.key: name its file with --code-key".to_owned()),
    };
    let key = fs::read(&key).map_err(|error| at(&key, &error))?;
    let people_keys = keys::to_restore(from, &manifest, args)?;
    let names = manifest.files.iter().map(|file| file.name.clone()).filter(|name| name != KEY_TABLE);
    let (packed, names): (Vec<_>, Vec<_>) = names.partition(|name| name == PACKED);
    let window = limits.idempotency_window;
    let restored = backup::restore(from, into, &names, &key, window, &mut |progress| show(&mut meter, progress));
    drop(meter);
    let report = restored.map_err(|error| error.to_string())?;
    // Last: a data directory without it is one, too, and makes it anew from its log.
    if !packed.is_empty() {
        store_copy::unpack(&from.join(PACKED), &into.join(STORE)).map_err(|error| error.to_string())?;
    }
    if let Some(keys) = people_keys {
        keys::restore(&keys, into, !packed.is_empty())?;
    }
    let told = json!({
        "restored": into.display().to_string(), "cell": manifest.cell, "last": report.last.0,
        "taken_at": manifest.taken_at, "verdict": "held",
    });
    cli::tell(&format!(
        "berth: restored and proven, entries to {}; what was acknowledged after {} is not in it",
        report.last, manifest.taken_at
    ));
    cli::say(&told.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Packs the store of projections, if there is one.
fn pack_store(data_dir: &Path, packed: &Path, meter: &mut Meter) -> Result<Option<LogPlace>, String> {
    let store = data_dir.join(STORE);
    if !store.exists() {
        return Ok(None);
    }
    meter.show("copying the store of projections", 0, 0, Unit::Bytes);
    let placed = store_copy::pack(&store, &scratch(packed), packed);
    meter.clear();
    placed.map(Some).map_err(|error| error.to_string())
}

/// Reads the manifest and holds it and every file against their checksums.
fn check(from: &Path, meter: &mut Meter) -> Result<Manifest, String> {
    let path = from.join(MANIFEST);
    let text = fs::read(&path).map_err(|error| at(&path, &error))?;
    let sum = from.join(MANIFEST_SUM);
    let sum = fs::read_to_string(&sum).map_err(|error| at(&sum, &error))?;
    if sum.split_whitespace().next() != Some(&hex(&Sha256::digest(&text))) {
        return Err(format!("damaged backup: {} is not what {MANIFEST_SUM} was made of", path.display()));
    }
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| at(&path, &error))?;
    if manifest.berth_backup != MANIFEST_VERSION {
        let found = manifest.berth_backup;
        return Err(format!("{}: backup version {found}, this build reads {MANIFEST_VERSION}", path.display()));
    }
    let mut sums = Sums::new(manifest.files.iter().map(|file| file.bytes).sum(), meter);
    for file in &manifest.files {
        // Names of our own making: nothing that leads out of the directory.
        if file.name.starts_with('/') || file.name.split('/').any(|part| part == "..") {
            return Err(format!("{}: {:?} is not inside the backup", path.display(), file.name));
        }
        let found = sums.listed(from, file.name.clone())?;
        if found != *file {
            let path = from.join(&file.name);
            return Err(format!("damaged backup: {} {}", path.display(), difference(from, file, &found)));
        }
    }
    Ok(manifest)
}

/// What is wrong with a file, and where: its checksum does not tell, but those inside logs and snapshots do.
fn difference(from: &Path, was: &Listed, found: &Listed) -> String {
    if found.bytes != was.bytes {
        return format!("has {} bytes and had {}", found.bytes, was.bytes);
    }
    let judged = JournalFiles::open_beside(from).and_then(|files| verify(&files, Duration::ZERO, &mut |_| {}));
    let place = match judged {
        Err(error) => Some(error.to_string()),
        Ok(Report { torn: Some((path, offset)), .. }) => Some(format!("{} at offset {offset}", path.display())),
        Ok(report) => report.snapshots.into_iter().find_map(|seen| seen.fault),
    };
    let place = place.map_or_else(String::new, |place| format!(": {place}"));
    format!("is not what was backed up{place}")
}

/// The checksums of many files, and how far they are.
struct Sums<'a> {
    bytes: u64,
    of: u64,
    meter: &'a mut Meter,
}

impl<'a> Sums<'a> {
    fn new(of: u64, meter: &'a mut Meter) -> Self {
        Self { bytes: 0, of, meter }
    }

    fn listed(&mut self, dir: &Path, name: String) -> Result<Listed, String> {
        let path = dir.join(&name);
        let mut file = File::open(&path).map_err(|error| at(&path, &error))?;
        let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0u64, vec![0; 1 << 20]);
        loop {
            let len = file.read(&mut piece).map_err(|error| at(&path, &error))?;
            if len == 0 {
                break;
            }
            hash.update(&piece[..len]);
            bytes += len as u64;
            self.bytes += len as u64;
            self.meter.show("making checksums", self.bytes, self.of, Unit::Bytes);
        }
        Ok(Listed { name, bytes, sha256: hex(&hash.finalize()) })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `DIR.partial`, on the same file system as `DIR`.
fn beside(dir: &Path) -> Result<PathBuf, String> {
    let name = dir.file_name().ok_or_else(|| format!("{} is no name for a directory", dir.display()))?;
    let mut name = name.to_owned();
    name.push(".partial");
    Ok(dir.with_file_name(name))
}

/// Where the store is packed to until the log is there.
fn aside(partial: &Path) -> PathBuf {
    with_end(partial, "-store")
}

/// Where it is copied to before that.
fn scratch(aside: &Path) -> PathBuf {
    with_end(aside, "-scratch")
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// What an interrupted run left is not removed unasked: the name is not only ours to use.
fn fresh(partial: &Path) -> Result<(), String> {
    if partial.exists() {
        return Err(format!(
            "{} is in the way, left by a run that was interrupted: remove it first",
            partial.display()
        ));
    }
    Ok(())
}

/// Gives what is whole its name, and makes that durable.
fn name_it(partial: &Path, dir: &Path) -> Result<(), String> {
    fs::rename(partial, dir).map_err(|error| at(dir, &error))?;
    let above = dir.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
    let synced = above.map_or(Ok(()), |above| File::open(above)?.sync_all());
    synced.map_err(|error| at(dir, &error))
}

fn show(meter: &mut Meter, progress: Progress) {
    match progress {
        Progress::Copying { bytes, of } => meter.show("copying", bytes, of, Unit::Bytes),
        Progress::Judging(progress) => offline::judged(meter, progress),
    }
}

fn at(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}
