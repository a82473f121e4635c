//! Why a model cannot be prepared.

use std::{fmt, io, path::PathBuf};

use motorbrain_actors::{
    engine::{EngineError, LoadError},
    shown::shown,
    tokens::EncodeError,
};

use super::Perplexity;
use crate::{
    engine::{IdentityError, WindowError},
    model::{ManifestError, ModelError},
};

/// Why a model cannot be prepared. It was not changed, and there is no new folder.
///
/// `Debug` is what a `main` that returns it prints: message, causes and hint, for people.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The model, or what was made of it, cannot be served.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's files cannot be read any more.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The new folder's manifest cannot be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The new folder has no name, such as `/` or `..`.
    #[error("{} is no name for a new folder", dir.display())]
    NoName {
        /// What was asked for.
        dir: PathBuf,
    },
    /// A file is in the new folder's place.
    #[error("{} is a file, expected a folder or nothing", path.display())]
    NotAFolder {
        /// The file.
        path: PathBuf,
    },
    /// Something is in the new folder already.
    #[error("the folder {} is not empty", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// What is in the new folder's place, to be replaced, is no model.
    #[error("the folder {} has no `model.onnx`, and only a model's folder is replaced", dir.display())]
    NotAModel {
        /// The folder.
        dir: PathBuf,
    },
    /// The new folder is the model's own, or the model lies in it.
    #[error("the folder {} holds the model itself", dir.display())]
    HoldsTheModel {
        /// The folder.
        dir: PathBuf,
    },
    /// The new folder cannot be made, or not put in its place.
    #[error("cannot write the folder {}", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// The system's own words.
        #[source]
        cause: io::Error,
    },
    /// A file beside the graph cannot be copied.
    #[error("cannot copy {} to {}", from.display(), to.display())]
    Copy {
        /// The model's own.
        from: PathBuf,
        /// In the new folder.
        to: PathBuf,
        /// The system's own words.
        #[source]
        cause: io::Error,
    },
    /// The model's context is no window.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// The library does not load the model, or what was made of it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The texts that are measured on cannot be cut into tokens.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A measurement failed.
    #[error("the model cannot be measured: {0}")]
    Run(#[from] EngineError),
    /// The window is too small to measure a text.
    #[error("a window of {window} tokens has none to score")]
    NoScores {
        /// Its size, in tokens.
        window: usize,
    },
    /// The new weights predict worse than `fast` may.
    #[error(
        "the new weights have perplexities of {:.3} (code) and {:.3} (English), the model {:.3} and {:.3}; allowed are {percent} % more",
        result.code, result.english, original.code, original.english
    )]
    Worse {
        /// The model's own.
        original: Perplexity,
        /// Those of the new weights.
        result: Perplexity,
        /// How much more is allowed, in percent.
        percent: f64,
    },
}

impl PrepareError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Model(error) => error.hint(),
            Self::Folder { .. } => Some("`--out` must be in a folder that can be written to".into()),
            Self::Identity(_) | Self::Manifest(_) | Self::Copy { .. } | Self::Encode(_) => None,
            Self::Window(error) => Some(error.hint().into()),
            Self::NoName { .. } | Self::NotAFolder { .. } | Self::NotAModel { .. } | Self::HoldsTheModel { .. } => {
                Some("name a folder that does not exist yet".into())
            }
            Self::NotEmpty { .. } => Some("name another folder, or replace this one with `--force`".into()),
            Self::Load(error) => error.hint.clone(),
            Self::Run(_) | Self::NoScores { .. } => {
                Some("`motorbrain doctor` shows what the model lacks; its quality must be known to be kept".into())
            }
            Self::Worse { .. } => Some(
                "use `--weights faithful`, which loses nothing, or `--weights small`, which says what it loses".into(),
            ),
        }
    }
}

impl fmt::Debug for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(f, self, self.hint())
    }
}
