//! Why there is no calibration.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use motorbrain_actors::shown::shown;

use super::Recipe;
use crate::{engine::IdentityError, model::ModelError, safetensors::Misfit};

/// Why there is no calibration. Nothing was changed.
///
/// `Debug` is what a `main` that returns it prints: message, causes and hint, for people.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// It is no such file.
    #[error("{} holds no {what}: {why}", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What was found.
        why: &'static str,
    },
    /// It was made by another version of this program.
    #[error("{} is of form {found}, expected {expected}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What is known here.
        expected: &'static str,
    },
    /// It is of another model.
    #[error("{} was made for {what} {found}, the model has {expected}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What differs: `the tokenizer`, `the weights`, `a hidden size of`.
        what: &'static str,
        /// What the file says.
        found: String,
        /// What it is here.
        expected: String,
    },
    /// It says what cannot be.
    #[error("{} is not as one was written: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// It is not what was written.
    #[error("{} was damaged: its sum is another", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It ends before its end, or behind it.
    #[error("{} has {found} bytes of numbers, expected {expected}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes that are there.
        found: u64,
        /// Bytes that it says it has.
        expected: u64,
    },
    /// The system does not read or write it.
    #[error("{} cannot be {done}", path.display())]
    Io {
        /// `read` or `written`.
        done: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A vector of another model, to calibrate from.
    #[error("a vector has {found} numbers, expected {expected}")]
    Size {
        /// Its numbers.
        found: usize,
        /// The model's.
        expected: usize,
    },
    /// What is calibrated from, vectors or weights, has a number that is none.
    #[error("a number to calibrate from is not finite")]
    NotFinite,
    /// There is too little to calibrate from.
    #[error("there are {found} {what}, expected at least {expected}")]
    TooFew {
        /// `texts` or `pairs`.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many are needed.
        expected: u64,
    },
    /// Something else is there where a calibration is to be written.
    #[error("{} is there, and is nothing that `motorbrain calibrate` has written", path.display())]
    Taken {
        /// What is there.
        path: PathBuf,
    },
    /// What there is to calibrate from does not differ.
    #[error("{what} are all the same, so that nothing can be learnt from them")]
    Alike {
        /// `the texts' vectors`, ..
        what: &'static str,
    },
    /// The model's output projection cannot be read.
    #[error("the output projection cannot be read")]
    Projection(#[source] ModelError),
    /// It is not known any more which model is served.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It is of vectors that are made in another way.
    #[error("{} was made for vectors by another recipe: {found}, expected {expected}", path.display())]
    Recipe {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: Recipe,
        /// What settings say.
        expected: Recipe,
    },
}

impl CalibrationError {
    /// What to do about it, one sentence; `None` where only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoFile { .. } | Self::Malformed { .. } => {
                Some("name a file that `motorbrain calibrate` has written".into())
            }
            Self::Version { .. } => Some("calibrate again with this version".into()),
            Self::Foreign { .. } => Some(
                "calibrate this model (`motorbrain calibrate`), or take the file away to use what its weights tell"
                    .into(),
            ),
            Self::Damaged { .. } | Self::Length { .. } => {
                Some("copy the file again from where it was made, or calibrate again".into())
            }
            Self::TooFew { .. } | Self::Alike { .. } => Some("name more texts, and different ones".into()),
            Self::Taken { .. } => Some("name another file, or take that one away".into()),
            Self::Projection(error) => error.hint(),
            Self::Identity(_) => Some("start again with the files that are there now".into()),
            Self::Recipe { .. } => Some(
                "set `embedding.recipe`, `prefix` and `probe` as it says, or calibrate with those that are set".into(),
            ),
            Self::Io { .. } | Self::Size { .. } | Self::NotFinite => None,
        }
    }

    /// What a header's fault is in a file that should hold `what`.
    pub(super) fn misfit(misfit: Misfit, path: &Path, what: &'static str) -> Self {
        let path = path.to_owned();
        match misfit {
            Misfit::NoSafetensors => Self::NoFile { path, what, why: "it is not safetensors" },
            Misfit::Malformed(why) => Self::Malformed { path, why },
            Misfit::Length { found, expected } => Self::Length { path, found, expected },
        }
    }
}

impl fmt::Debug for CalibrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(f, self, self.hint())
    }
}
