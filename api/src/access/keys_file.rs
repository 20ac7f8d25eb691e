//! The keys file: what `berth key` writes and the server reads, beside the keys in its configuration.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use berth_programme::toml_fault;
use serde::{Deserialize, Serialize};

use super::KeyEntry;

/// Bits of a file's mode that let others than its owner write.
const OTHERS_WRITE: u32 = 0o022;

const HEAD: &str = "# Keys of a Berth server, by their SHA-256. Written by `berth key`; a running server takes changes up by itself.\n";

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeysFile {
    #[serde(default)]
    pub(crate) keys: Vec<KeyEntry>,
}

impl KeysFile {
    /// Reads a file that a server is to go by.
    ///
    /// # Errors
    /// Why not, in one sentence, without the path.
    pub(crate) fn read(path: &Path) -> Result<KeysFile, String> {
        let text = String::from_utf8(read_owners(path)?).map_err(|error| error.to_string())?;
        toml::from_str(&text).map_err(|error: toml::de::Error| toml_fault(&text, error.message(), error.span()))
    }
}

/// Reads a file that says who may ask, and that only its owner may therefore write.
pub(super) fn read_owners(path: &Path) -> Result<Vec<u8>, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err("others than its owner may write it, and so let themselves in: chmod go-w".to_owned());
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// A keys file that this process alone changes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Locked {
    path: PathBuf,
    /// The lock is on the folder: the file itself is replaced by every change.
    folder: File,
    pub(crate) file: KeysFile,
}

impl Locked {
    /// Waits for others who change it. A file that is not there is empty.
    ///
    /// # Errors
    /// Why not, in one sentence, with the path.
    pub(crate) fn open(path: &Path) -> Result<Locked, String> {
        let place = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        // A link stays one, and leads where it led.
        let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = lock_folder(path)?;
        let there = path.try_exists().map_err(|error| place(&error))?;
        let file = if there { KeysFile::read(path).map_err(|fault| place(&fault))? } else { KeysFile::default() };
        Ok(Locked { path: path.to_owned(), folder, file })
    }

    /// Puts the file in the place of the one before, whole: readers see the old one or the new one. For its owner alone.
    ///
    /// # Errors
    /// Why not, in one sentence, with the path. The old file is still there.
    pub(crate) fn write(&self) -> Result<(), String> {
        let text = toml::to_string(&self.file).map_err(|error| format!("{}: {error}", self.path.display()))?;
        replace(&self.path, &self.folder, format!("{HEAD}{text}").as_bytes())
    }
}

/// Waits for others who change files in the folder of this one, until the lock is dropped.
///
/// # Errors
/// Why not, in one sentence, with the path.
pub(super) fn lock_folder(path: &Path) -> Result<File, String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = |error: std::io::Error| format!("{}: {error}", parent.display());
    let folder = File::open(parent).map_err(place)?;
    folder.lock().map_err(place)?;
    Ok(folder)
}

/// Puts these bytes in the place of a file, whole: readers see the old one or the new one. For its owner alone, or as it was.
///
/// # Errors
/// Why not, in one sentence, with the path. The old file is still there.
pub(super) fn replace(path: &Path, folder: &File, bytes: &[u8]) -> Result<(), String> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = path.with_file_name(name);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        if let Ok(old) = std::fs::metadata(path) {
            // Whoever runs the server reads it as before, also when somebody else has changed it.
            let now = file.metadata()?;
            if (now.uid(), now.gid()) != (old.uid(), old.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
            file.set_permissions(Permissions::from_mode(old.mode() & 0o777 & !OTHERS_WRITE))?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        folder.sync_all()
    };
    write().map_err(|error: std::io::Error| {
        // What was half written is nobody's.
        let _ = std::fs::remove_file(&new);
        format!("{}: {error}", path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Role, hash};
    use super::*;

    #[test]
    fn what_was_written_is_read_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        let mut locked = Locked::open(&path).unwrap();
        let entry = KeyEntry {
            districts: vec!["395".to_owned()],
            expires: Some("2999-01-01T00:00:00Z".parse().unwrap()),
            ..KeyEntry::new(Role::Operator, "mumbai", hash("k"))
        };
        locked.file.keys.push(entry);
        locked.file.keys.push(KeyEntry::new(Role::Admin, "ops", hash("l")));
        locked.write().unwrap();
        assert_eq!(KeysFile::read(&path), Ok(locked.file));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o620)).unwrap();
        assert!(KeysFile::read(&path).unwrap_err().contains("chmod go-w"));
    }

    #[test]
    fn a_changed_file_stays_whose_it_was_and_where_it_lay() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.toml"), dir.path().join("keys.toml"));
        std::fs::write(&real, "").unwrap();
        std::fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut locked = Locked::open(&link).unwrap();
        locked.file.keys.push(KeyEntry::new(Role::Admin, "ops", hash("l")));
        locked.write().unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
        assert_eq!(KeysFile::read(&link).unwrap().keys.len(), 1);
    }

    #[test]
    fn a_fault_of_shape_says_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        std::fs::write(&path, "[[keys]]\nrole = 'king'\n").unwrap();
        let fault = KeysFile::read(&path).unwrap_err();
        assert!(fault.starts_with("line 2, column 8: "), "{fault}");
        assert!(Locked::open(&path).unwrap_err().contains("keys.toml: line 2"));
    }

    #[test]
    fn two_who_change_it_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        std::thread::scope(|scope| {
            for i in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let mut locked = Locked::open(path).unwrap();
                    locked.file.keys.push(KeyEntry::new(Role::Platform, &format!("p{i}"), hash(&i.to_string())));
                    locked.write().unwrap();
                });
            }
        });
        assert_eq!(KeysFile::read(&path).unwrap().keys.len(), 8);
    }
}
