//! A process's own folder below the one that the settings name, for as long as it lives.
//!
//! Beside it lies a file of the same name that the process has locked: the system unlocks it when the process ends,
//! however it does. The lock is taken before the folder is made and given up after it is gone. So a folder whose lock is
//! free, or is not there, is a dead process's, and is removed; whoever removes it has the lock meanwhile. A process
//! whose lock file was taken for a dead one's, between being made and being locked, finds that it is no longer the one
//! of that name, and takes another.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::{
    disk::{Disk, Unfit},
    error::SpillError,
    folder::Folder,
};
use crate::trust;

/// What the names of processes' folders begin with, after which come [`DIGITS`] hexadecimal digits.
const PREFIX: &str = "spill-";
const DIGITS: usize = 16;

/// Behind such a name that of its lock.
const LOCK: &str = ".lock";

/// How often another name is tried.
const TRIALS: usize = 100;

/// See the module's description.
pub(super) struct Claim {
    above: Folder,
    own: Folder,
    name: String,
    /// Locked while it is open.
    _lock: File,
}

impl Claim {
    /// Below a folder, which is made where it is missing. What dead processes have left there is gone.
    pub(super) fn of(folder: &Path) -> Result<Self, SpillError> {
        let folder = &itself(folder);
        let failed = |done| move |cause| SpillError::io(folder, done, cause);
        make(folder).map_err(failed("made"))?;
        check(folder)?;
        let above = Folder::open(folder).map_err(failed("opened"))?;
        for name in above.names().map_err(failed("read"))? {
            let process = name.strip_suffix(LOCK).unwrap_or(&name);
            if is_process(process)
                && let Err(error) = remove_dead(&above, process)
            {
                tracing::warn!(%error, folder = %above.path().join(process).display(), "what a dead process spilled stays");
            }
        }
        Self::below(above).map_err(failed("written"))
    }

    fn below(above: Folder) -> io::Result<Self> {
        for _ in 0..TRIALS {
            let mut chance = [0; DIGITS / 2];
            getrandom::fill(&mut chance).map_err(io::Error::other)?;
            let name = format!("{PREFIX}{}", super::hexadecimal(&chance, DIGITS));
            let lock_name = format!("{name}{LOCK}");
            let lock = match above.create(&lock_name) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                lock => lock?,
            };
            match lock.try_lock() {
                Ok(()) if above.is(&lock, &lock_name) => {
                    let own = above.make(&name)?;
                    return Ok(Self { above, own, name, _lock: lock });
                }
                Ok(()) | Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }
}

impl Drop for Claim {
    /// Whatever is still in it goes, too.
    fn drop(&mut self) {
        let removed = empty(&self.above, &self.own, &self.name);
        if let Err(error) = removed.and_then(|()| self.above.remove(&format!("{}{LOCK}", self.name))) {
            tracing::debug!(%error, folder = %self.own.path().display(), "spilled files are left to the next process");
        }
    }
}

impl Disk for Claim {
    type File = File;

    fn create(&self, name: &str) -> io::Result<File> {
        self.own.create(name)
    }

    fn finish(&self, file: File, name: &str, to: &str) -> io::Result<()> {
        file.sync_all()?;
        self.own.rename(name, to)?;
        self.own.sync()
    }

    fn open(&self, name: &str) -> Result<(File, u64), Unfit> {
        let file = self.own.open_own(name)?;
        let bytes = file.metadata()?.len();
        Ok((file, bytes))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.own.remove(name)
    }

    fn place(&self, name: &str) -> String {
        self.own.path().join(name).display().to_string()
    }
}

/// A folder's path by which a link is not what it leads to, as it would be with a slash behind it.
pub(super) fn itself(folder: &Path) -> PathBuf {
    folder.components().collect()
}

/// Whether a folder that is there may be used.
pub(super) fn check(folder: &Path) -> Result<(), SpillError> {
    let there = fs::symlink_metadata(folder).map_err(|cause| SpillError::io(folder, "looked at", cause))?;
    if there.is_symlink() {
        return Err(SpillError::Link { folder: folder.to_owned() });
    }
    Ok(trust::check(folder)?)
}

/// Makes a folder, and those above it that are missing, for this user alone.
fn make(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

fn is_process(name: &str) -> bool {
    let digits = name.strip_prefix(PREFIX);
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Removes a process's folder with its lock, if it is dead, and this user's.
fn remove_dead(above: &Folder, name: &str) -> io::Result<()> {
    let lock_name = format!("{name}{LOCK}");
    let lock = match above.open_any(&lock_name) {
        Ok(lock) => match lock.try_lock() {
            Ok(()) => Some(lock),
            Err(fs::TryLockError::WouldBlock) => return Ok(()),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match above.folder(name) {
        Ok(own) => match own.check() {
            Ok(()) => empty(above, &own, name)?,
            Err(Unfit::Distrusted(reason)) => return Err(io::Error::other(reason)),
            Err(Unfit::Io(error)) => return Err(error),
        },
        // It died before it had one, or somebody else has just removed it.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if lock.is_some() { ignore_missing(above.remove(&lock_name)) } else { Ok(()) }
}

/// Removes a folder with its files.
fn empty(above: &Folder, own: &Folder, name: &str) -> io::Result<()> {
    own.names()?.iter().try_for_each(|file| ignore_missing(own.remove(file)))?;
    ignore_missing(above.remove_folder(name))
}

fn ignore_missing(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
