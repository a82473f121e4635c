//! Why nothing could be measured.

use std::{io, path::PathBuf};

use motorbrain::BrainError;

use crate::{exit::Exit, failure::Failure, texts::TextsError};

/// What is wrong with a file of texts, or with a brain that was to read them.
#[derive(Debug, thiserror::Error)]
pub(super) enum EvalError {
    #[error(transparent)]
    Texts(#[from] TextsError),
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{path} has {found} {what}, expected at least {least}")]
    TooFew { path: PathBuf, what: &'static str, found: usize, least: usize },
    /// Vectors are compared number by number.
    #[error("{path}, line {line}, has vectors of another length than {expected}, or of none")]
    Lengths { path: PathBuf, line: usize, expected: usize },
    #[error("a window of {size} tokens, of which {sinks} stay and {slide} leave at once, is none")]
    Window { size: usize, sinks: usize, slide: usize },
    #[error(transparent)]
    Brain(#[from] BrainError),
}

impl EvalError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Texts(error) => error.hint(),
            Self::Write { .. } => "name a file in a folder that is there and that you may write to",
            Self::TooFew { .. } => "take a longer file",
            Self::Lengths { .. } => "all vectors of a file come from one model",
            Self::Window { .. } => "`sinks + slide` are at most the window's size, and `slide` is at least 1",
            Self::Brain(_) => return None,
        };
        Some(hint.into())
    }
}

impl From<EvalError> for Failure {
    fn from(error: EvalError) -> Self {
        let exit = if matches!(error, EvalError::Brain(_)) { Exit::Unexpected } else { Exit::Settings };
        let hint = error.hint();
        Self::new(exit, error, hint)
    }
}
