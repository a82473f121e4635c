//! Why a folder is not used for spilled files.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::trust::Distrust;

/// See the module's description. Nothing was changed, but for folders that were made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpillError {
    /// Others may write to it.
    #[error("conversations are not spilled where others may write: {0}")]
    Distrusted(#[from] Distrust),
    /// It is a link, and where it leads may change.
    #[error("{} is a link, expected a folder", folder.display())]
    Link {
        /// Which one.
        folder: PathBuf,
    },
    /// The system does not let us.
    #[error("the folder for spilled conversations {} cannot be {done}", folder.display())]
    Io {
        /// Which one.
        folder: PathBuf,
        /// What cannot be done with it.
        done: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl SpillError {
    pub(super) fn io(folder: &Path, done: &'static str, cause: io::Error) -> Self {
        Self::Io { folder: folder.to_owned(), done, cause }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Distrusted(distrust) => {
                format!("name a folder of your own in `memory.spill`, or {}", distrust.hint())
            }
            Self::Link { .. } => "name the folder itself in `memory.spill`".into(),
            Self::Io { .. } => "name a folder that can be written in `memory.spill`, or leave it out".into(),
        }
    }
}
