//! A folder that is there when it is complete, and not before.
//!
//! It is filled inside a hidden folder of its own beside its place, and moved there at the end. A run that was
//! killed leaves the hidden folder, which nothing takes for a model.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::PrepareError;
use crate::model::weights::GRAPH;

/// A folder being filled; it goes away unless it is kept.
pub(super) struct Partial {
    hidden: TempDir,
    new: PathBuf,
    target: PathBuf,
    force: bool,
}

impl Partial {
    /// An empty folder that may become `target`, where there is nothing yet or, with `force`, a model that may
    /// be replaced. `model` is the folder that is read meanwhile.
    pub(super) fn begin(target: &Path, model: &Path, force: bool) -> Result<Self, PrepareError> {
        let io = |cause| PrepareError::Folder { dir: target.to_owned(), cause };
        let absolute = std::path::absolute(target).map_err(io)?;
        let (Some(parent), Some(_)) = (absolute.parent(), absolute.file_name()) else {
            return Err(PrepareError::NoName { dir: target.to_owned() });
        };
        let holds = |outer: PathBuf| model.canonicalize().is_ok_and(|model| model.starts_with(outer));
        if absolute.canonicalize().is_ok_and(holds) {
            return Err(PrepareError::HoldsTheModel { dir: target.to_owned() });
        }
        check(&absolute, force)?;
        fs::create_dir_all(parent).map_err(io)?;
        let hidden = tempfile::Builder::new().prefix(".motorbrain.").tempdir_in(parent).map_err(io)?;
        let new = hidden.path().join("new");
        fs::create_dir(&new).map_err(io)?;
        Ok(Self { hidden, new, target: absolute, force })
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        &self.new
    }

    /// Puts the folder in its place, unless something came there meanwhile that may not be replaced. What was
    /// there goes only when its successor is there.
    pub(super) fn keep(self) -> Result<PathBuf, PrepareError> {
        let Self { hidden, new, target, force } = self;
        check(&target, force)?;
        let old = hidden.path().join("old");
        // Only an empty folder can be removed this way, whatever came since the check.
        let cleared = if force { fs::rename(&target, &old) } else { fs::remove_dir(&target) };
        let placed = match cleared {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
            _ => fs::rename(&new, &target),
        };
        if let Err(cause) = placed {
            if old.exists()
                && let Err(cause) = fs::rename(&old, &target)
            {
                let kept = hidden.keep().join("old");
                tracing::error!(dir = %kept.display(), %cause, "what was in the folder's place stays here");
            }
            return Err(PrepareError::Folder { dir: target, cause });
        }
        if let Err(cause) = hidden.close() {
            tracing::warn!(dir = %target.display(), %cause, "the folder that was replaced cannot be removed");
        }
        Ok(target)
    }
}

/// Whether a folder may be put here: where nothing is or an empty folder, and with `force` where a model is.
fn check(target: &Path, force: bool) -> Result<(), PrepareError> {
    let dir = || target.to_owned();
    let mut entries = match fs::read_dir(target) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) if target.exists() && !target.is_dir() => return Err(PrepareError::NotAFolder { path: dir() }),
        Err(cause) => return Err(PrepareError::Folder { dir: dir(), cause }),
    };
    match entries.next() {
        None => Ok(()),
        Some(_) if !force => Err(PrepareError::NotEmpty { dir: dir() }),
        Some(_) if !target.join(GRAPH).is_file() => Err(PrepareError::NotAModel { dir: dir() }),
        Some(_) => Ok(()),
    }
}
