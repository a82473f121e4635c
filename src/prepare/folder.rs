//! A folder that is there when it is complete, and not before.
//!
//! It is filled under a hidden name beside its place and renamed at the end. A run that was killed
//! leaves the hidden folder, which nothing takes for a model; the next run removes it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::PrepareError;

/// A folder being filled; it goes away unless it is kept.
pub(super) struct Partial {
    partial: PathBuf,
    target: PathBuf,
}

impl Partial {
    /// An empty folder beside `target`, where there is nothing yet or, with `force`, something that may
    /// be replaced. `model` is the folder that is read meanwhile.
    pub(super) fn begin(target: &Path, model: &Path, force: bool) -> Result<Self, PrepareError> {
        let given = || target.to_owned();
        let io = |cause| PrepareError::Folder { dir: given(), cause };
        let target = std::path::absolute(target).map_err(io)?;
        let Some(name) = target.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            return Err(PrepareError::NoName { dir: given() });
        };
        if target.exists() && !target.is_dir() {
            return Err(PrepareError::NotAFolder { path: given() });
        }
        let same = target.canonicalize().is_ok_and(|target| model.canonicalize().is_ok_and(|model| model == target));
        if same {
            return Err(PrepareError::IsTheModel { dir: given() });
        }
        if target.exists() && !force && fs::read_dir(&target).map_err(io)?.next().is_some() {
            return Err(PrepareError::NotEmpty { dir: given() });
        }
        let partial = target.with_file_name(format!(".{name}.partial"));
        remove(&partial).map_err(io)?;
        fs::create_dir_all(&partial).map_err(io)?;
        Ok(Self { partial, target })
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        &self.partial
    }

    /// Puts the folder in its place; what was there goes only when its successor is there.
    pub(super) fn keep(self) -> Result<PathBuf, PrepareError> {
        let name = self.target.file_name().unwrap_or_default().to_string_lossy();
        let old = self.target.with_file_name(format!(".{name}.old"));
        let replaced = || {
            remove(&old)?;
            if self.target.exists() {
                fs::rename(&self.target, &old)?;
            }
            fs::rename(&self.partial, &self.target)?;
            remove(&old)
        };
        replaced().map_err(|cause| PrepareError::Folder { dir: self.target.clone(), cause })?;
        Ok(self.target.clone())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Err(cause) = remove(&self.partial) {
            tracing::warn!(dir = %self.partial.display(), %cause, "a folder that is of no use cannot be removed");
        }
    }
}

/// Removes a folder and all in it, where there is one.
fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
