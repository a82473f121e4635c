//! By paths.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use sysinfo::Disks;

use crate::spill::disk::Unfit;

/// See the module's description.
pub(in crate::spill) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A folder that is there, and no link.
    pub(in crate::spill) fn open(path: &Path) -> io::Result<Self> {
        if !fs::symlink_metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path: path.to_owned() })
    }

    /// A folder in this one that is there, and no link.
    pub(in crate::spill) fn folder(&self, name: &str) -> io::Result<Self> {
        Self::open(&self.path.join(name))
    }

    /// A new one in this one.
    pub(in crate::spill) fn make(&self, name: &str) -> io::Result<Self> {
        fs::create_dir(self.path.join(name))?;
        self.folder(name)
    }

    /// A new file.
    pub(in crate::spill) fn create(&self, name: &str) -> io::Result<File> {
        File::options().read(true).write(true).create_new(true).open(self.path.join(name))
    }

    /// A file; who may have written it is not known.
    pub(in crate::spill) fn open_own(&self, name: &str) -> Result<File, Unfit> {
        let path = self.path.join(name);
        if !fs::symlink_metadata(&path)?.is_file() {
            return Err(Unfit::Distrusted("it is no file".into()));
        }
        Ok(File::open(path)?)
    }

    /// Nothing is known of who may write in it.
    pub(in crate::spill) fn check(&self) -> Result<(), Unfit> {
        Ok(())
    }

    /// A file to lock.
    pub(in crate::spill) fn open_any(&self, name: &str) -> io::Result<File> {
        File::options().read(true).write(true).open(self.path.join(name))
    }

    /// Whether there is a file of that name: one that is open is not replaced here.
    pub(in crate::spill) fn is(&self, _file: &File, name: &str) -> bool {
        self.path.join(name).exists()
    }

    pub(in crate::spill) fn rename(&self, name: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(name), self.path.join(to))
    }

    /// Removes a file.
    pub(in crate::spill) fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    /// Removes an empty folder.
    pub(in crate::spill) fn remove_folder(&self, name: &str) -> io::Result<()> {
        fs::remove_dir(self.path.join(name))
    }

    /// Folders are not synced here.
    pub(in crate::spill) fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// What lies in it, but for names that are no text.
    pub(in crate::spill) fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    pub(in crate::spill) fn path(&self) -> &Path {
        &self.path
    }
}

/// Bytes that can be written to the disk that a folder is on.
pub(in crate::spill) fn room(folder: &Path) -> io::Result<u64> {
    let folder = std::path::absolute(folder)?;
    let disks = Disks::new_with_refreshed_list().map_err(io::Error::other)?;
    let within = disks.iter().filter(|disk| folder.starts_with(disk.mount_point()));
    let disk = within.max_by_key(|disk| disk.mount_point().components().count());
    disk.map(|disk| disk.available_space()).ok_or_else(|| io::ErrorKind::NotFound.into())
}
