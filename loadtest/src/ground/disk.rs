//! A filesystem small enough to be filled: a tmpfs of the run's own, with a ballast file that takes what is left.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{CannotRun, Doing};
use crate::stop::Stop;

/// A mounted tmpfs. Dropping it unmounts it, with all that lies on it.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    root: PathBuf,
    ballast: Option<File>,
    stop: Stop,
}

/// What the ballast file is called.
const BALLAST: &str = "ballast";

impl SmallDisk {
    /// Mounts `mib` MiB at `root`, which is created. Only root may do that.
    pub(crate) fn mount(root: &Path, mib: u64, stop: &Stop) -> Result<Self, CannotRun> {
        if !rustix::process::geteuid().is_root() {
            return Err(CannotRun::because(
                "not run: needs root, because a scenario with [disk] mounts a small filesystem for its data directory",
            ));
        }
        std::fs::create_dir_all(root).doing(|| format!("create {}", root.display()))?;
        let options = format!("size={mib}m,mode=0700");
        run("mount", &["-t", "tmpfs", "-o", &options, "berth-surge"], root)?;
        stop.guard_mount(Some(root.to_owned()));
        Ok(Self { root: root.to_owned(), ballast: None, stop: stop.clone() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Takes every byte that is free now. Called again, it takes what has become free since.
    pub(crate) fn fill(&mut self) -> Result<(), CannotRun> {
        let path = self.root.join(BALLAST);
        let what = || format!("fill {}", path.display());
        let ballast = match &mut self.ballast {
            Some(ballast) => ballast,
            none => none.insert(OpenOptions::new().create(true).append(true).open(&path).doing(what)?),
        };
        let block = vec![0x42_u8; 64 << 10];
        let mut len = block.len();
        loop {
            match ballast.write(&block[..len]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull && len > 512 => len /= 2,
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).doing(what),
            }
        }
    }

    /// Gives back what [`SmallDisk::fill`] took.
    pub(crate) fn free(&mut self) -> Result<(), CannotRun> {
        self.ballast = None;
        let path = self.root.join(BALLAST);
        std::fs::remove_file(&path).doing(|| format!("remove {}", path.display()))
    }

    /// Copies the data directory to `to`, for after the unmounting.
    pub(crate) fn keep(&self, from: &Path, to: &Path) -> Result<(), CannotRun> {
        copy(from, to).doing(|| format!("copy {} to {}", from.display(), to.display()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.ballast = None;
        unmount(&self.root);
        self.stop.guard_mount(None);
        let _ = std::fs::remove_dir(&self.root);
    }
}

/// Unmounts, lazily if somebody still holds a file there. Nobody is left to be told if it fails.
pub(crate) fn unmount(root: &Path) {
    if run("umount", &[], root).is_err() {
        let _ = run("umount", &["-l"], root);
    }
}

fn run(program: &str, arguments: &[&str], at: &Path) -> Result<(), CannotRun> {
    let what = || format!("{program} {}", at.display());
    let output = Command::new(program).args(arguments).arg(at).output().doing(what)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(CannotRun::because(format!("could not {}: {}: {said}", what(), output.status)))
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_is_filled_to_the_last_page_and_freed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("disk");
        let mut disk = match SmallDisk::mount(&root, 8, &Stop::default()) {
            Ok(disk) => disk,
            Err(error) => {
                // Only root may mount; anybody else is told so, in one sentence.
                assert!(error.to_string().starts_with("not run: needs root"), "{error}");
                return;
            }
        };
        std::fs::write(root.join("prepared"), [0; 4096]).unwrap();
        disk.fill().unwrap();
        let full = std::fs::write(root.join("more"), [1; 4096]).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        std::fs::remove_file(root.join("more")).unwrap();
        std::fs::remove_file(root.join("prepared")).unwrap();
        disk.fill().unwrap();
        assert!(std::fs::write(root.join("again"), [1; 4096]).is_err(), "what became free is taken too");
        disk.free().unwrap();
        std::fs::write(root.join("again"), [1; 4096]).unwrap();
        drop(disk);
        assert!(!root.exists(), "the mount is gone, and so is its place");
    }
}
