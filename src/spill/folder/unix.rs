//! By file descriptors.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};

use crate::{
    spill::disk::Unfit,
    trust::{self, Account, Kind, Node},
};

/// Bits of a mode that say what others than the owner may do.
const OTHERS: u32 = 0o077;

/// Bits of a mode that are permissions.
const PERMISSIONS: u32 = 0o7777;

/// What a file or folder is opened with, whatever it is for: no link is followed, and nothing that only looks like a file
/// is waited for.
const ALWAYS: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// See the module's description.
pub(in crate::spill) struct Folder {
    folder: OwnedFd,
    path: PathBuf,
    account: Account,
}

impl Folder {
    /// A folder that is there, and no link.
    pub(in crate::spill) fn open(path: &Path) -> io::Result<Self> {
        let folder = rustix::fs::openat(CWD, path, OFlags::DIRECTORY | ALWAYS, Mode::empty())?;
        Ok(Self { folder, path: path.to_owned(), account: Account::of_process() })
    }

    /// A folder in this one that is there, and no link.
    pub(in crate::spill) fn folder(&self, name: &str) -> io::Result<Self> {
        let folder = rustix::fs::openat(&self.folder, name, OFlags::DIRECTORY | ALWAYS, Mode::empty())?;
        Ok(Self { folder, path: self.path.join(name), account: self.account })
    }

    /// A new one in this one, for this user alone.
    pub(in crate::spill) fn make(&self, name: &str) -> io::Result<Self> {
        rustix::fs::mkdirat(&self.folder, name, Mode::RWXU)?;
        self.folder(name)
    }

    /// A new file, for this user alone.
    pub(in crate::spill) fn create(&self, name: &str) -> io::Result<File> {
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        Ok(rustix::fs::openat(&self.folder, name, new | ALWAYS, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// A file that only this user can have written, in a folder of which the same is true.
    pub(in crate::spill) fn open_own(&self, name: &str) -> Result<File, Unfit> {
        self.check()?;
        let opened = rustix::fs::openat(&self.folder, name, OFlags::RDONLY | ALWAYS, Mode::empty());
        let file = opened.map_err(|error| match error {
            rustix::io::Errno::LOOP => Unfit::Distrusted("it is a link".into()),
            error => Unfit::Io(error.into()),
        })?;
        self.judge(&rustix::fs::fstat(&file).map_err(io::Error::from)?, FileType::RegularFile, self.path.join(name))?;
        Ok(file.into())
    }

    /// Whether only this user can have written in it.
    pub(in crate::spill) fn check(&self) -> Result<(), Unfit> {
        let stat = rustix::fs::fstat(&self.folder).map_err(io::Error::from)?;
        self.judge(&stat, FileType::Directory, self.path.clone())
    }

    fn judge(&self, stat: &Stat, expected: FileType, path: PathBuf) -> Result<(), Unfit> {
        let found = FileType::from_raw_mode(stat.st_mode);
        if found != expected {
            return Err(Unfit::Distrusted(format!("it is {found:?}, expected {expected:?}")));
        }
        let kind = if found == FileType::Directory { Kind::Folder } else { Kind::File };
        #[allow(clippy::unnecessary_cast, reason = "it is shorter on macOS")]
        let mode = stat.st_mode as u32 & PERMISSIONS;
        let node = Node { path, kind, owner: stat.st_uid, group: stat.st_gid, mode };
        trust::judge(&[node], self.account).map_err(|distrust| Unfit::Distrusted(distrust.to_string()))?;
        if mode & OTHERS != 0 {
            return Err(Unfit::Distrusted(format!("its mode is {mode:o}, expected nothing for others")));
        }
        Ok(())
    }

    /// A file to lock, whatever it is.
    pub(in crate::spill) fn open_any(&self, name: &str) -> io::Result<File> {
        Ok(rustix::fs::openat(&self.folder, name, OFlags::RDWR | ALWAYS, Mode::empty())?.into())
    }

    /// Whether a file that is open is the one of that name.
    pub(in crate::spill) fn is(&self, file: &File, name: &str) -> bool {
        let here = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW);
        match (here, rustix::fs::fstat(file)) {
            (Ok(here), Ok(open)) => (here.st_dev, here.st_ino) == (open.st_dev, open.st_ino),
            _ => false,
        }
    }

    pub(in crate::spill) fn rename(&self, name: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.folder, name, &self.folder, to)?)
    }

    /// Removes a file.
    pub(in crate::spill) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?)
    }

    /// Removes an empty folder.
    pub(in crate::spill) fn remove_folder(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.folder, name, AtFlags::REMOVEDIR)?)
    }

    /// Makes names that were given last beyond a loss of power.
    pub(in crate::spill) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.folder)?)
    }

    /// What lies in it, but for names that are no text.
    pub(in crate::spill) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.folder)? {
            let name = entry?.file_name().to_str().map(str::to_owned);
            names.extend(name.ok().filter(|name| name != "." && name != ".."));
        }
        Ok(names)
    }

    pub(in crate::spill) fn path(&self) -> &Path {
        &self.path
    }
}

/// Bytes that this user can write to the disk that a folder is on.
pub(in crate::spill) fn room(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
