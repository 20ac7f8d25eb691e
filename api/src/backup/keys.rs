//! The keys of people in a backup, by an explicit choice: beside it they are another copy to keep and to destroy.
//!
//! A copy from before an erasure brings back nobody: the first start compares it with the store, and destroys those keys again.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use berth_programme::people::{KEY_TABLE, erasures_behind};
use jiff::{Timestamp, ToSpan as _};

use super::{Manifest, RestoreArgs, STORE, at};
use crate::cli;

/// Copies a key table, durably, for its owner alone.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::set_permissions(to, Permissions::from_mode(0o600))?;
    File::open(to)?.sync_all()
}

pub(super) fn keep_until(taken_at: Timestamp, days: u32) -> String {
    let until = taken_at.checked_add((i64::from(days) * 24).hours());
    until.unwrap_or(Timestamp::MAX).to_string()
}

/// Which key table is to be put into the restored directory; `None`: nobody has registered, or the choice is to do without.
pub(super) fn to_restore(from: &Path, manifest: &Manifest, args: &RestoreArgs) -> Result<Option<PathBuf>, String> {
    let inside = from.join(KEY_TABLE);
    match (manifest.people_keys, &args.people_keys) {
        (None, None) => Ok(None),
        (_, Some(path)) if path.exists() => Ok(Some(path.clone())),
        (_, Some(path)) => Err(format!("--people-keys {}: there is no such file", path.display())),
        (Some(_), None) if args.without_people_keys => Ok(None),
        (Some(false), None) => Err(
            "people registered in this cell, and the backup has not their keys: name the newest copy of people.keys with --people-keys, or \
             say --without-people-keys, and then nobody's record can be read"
                .to_owned(),
        ),
        (Some(true), None) => match manifest.keep_until.as_deref().map(str::parse::<Timestamp>) {
            Some(Ok(until)) if until < Timestamp::now() && !args.past_its_time => Err(format!(
                "the keys of people in this backup were to be destroyed by {until}: name a newer copy with --people-keys, or say \
                 --past-its-time"
            )),
            _ => Ok(Some(inside)),
        },
    }
}

/// Puts the key table into a restored directory, and tells how old it is.
pub(super) fn restore(keys: &Path, into: &Path, with_store: bool) -> Result<(), String> {
    let table = into.join(KEY_TABLE);
    copy(keys, &table).map_err(|error| at(keys, &error))?;
    File::open(into).and_then(|dir| dir.sync_all()).map_err(|error| at(into, &error))?;
    if !with_store {
        return Ok(());
    }
    let behind = erasures_behind(&table, &into.join(STORE)).map_err(|error| error.to_string())?;
    if behind > 0 {
        cli::tell(&format!(
            "berth: the keys of people are a copy from before {behind} erasures and merges: the first start destroys those keys again"
        ));
    }
    Ok(())
}
