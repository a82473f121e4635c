//! Files of text and of JSON lines that commands are given, and what is wrong with them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// What is wrong with a file of texts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TextsError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// `expected` is what each line has.
    #[error("{path}, line {line}, has no {expected}")]
    Line {
        path: PathBuf,
        line: usize,
        expected: &'static str,
        #[source]
        cause: serde_json::Error,
    },
}

impl TextsError {
    /// What to do about it, one sentence.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "name a file of text that can be read",
            Self::Line { .. } => "each line is JSON of its own, such as {\"query\":\"..\",\"document\":\"..\"}",
        }
    }
}

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String, TextsError> {
    fs::read_to_string(path).map_err(|cause| TextsError::Read { path: path.to_owned(), cause })
}

/// What the lines of a file are, but for empty ones; `expected` says what each should have.
pub(crate) fn lines<T: for<'a> Deserialize<'a>>(
    path: &Path,
    text: &str,
    expected: &'static str,
) -> impl Iterator<Item = Result<T, TextsError>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(move |(at, line)| {
        let line_of = |cause| TextsError::Line { path: path.to_owned(), line: at + 1, expected, cause };
        serde_json::from_str(line).map_err(line_of)
    })
}
