//! Files of text and of JSON lines that commands are given, and what is wrong with them.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{exit::Exit, failure::Failure};

/// What each line of a file has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    Text,
    Pair,
    Vectors,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "a string, or `text`",
            Self::Pair => "`query` and `document`",
            Self::Vectors => "`query` and `document`, each a list of numbers",
        })
    }
}

/// What a file is as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whole {
    Schema,
    Messages,
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Schema => "JSON schema",
            Self::Messages => "list of messages",
        })
    }
}

/// What is wrong with a file of texts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TextsError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{path}, line {line}, has no {expected}")]
    Line {
        path: PathBuf,
        line: usize,
        expected: Row,
        #[source]
        cause: serde_json::Error,
    },
    #[error("{path} holds no {expected}")]
    Whole {
        path: PathBuf,
        expected: Whole,
        #[source]
        cause: serde_json::Error,
    },
}

impl TextsError {
    /// What to do about it, one sentence.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "name a file of text that can be read",
            Self::Line { expected, .. } => match expected {
                Row::Text => "each line is JSON of its own, such as \"..\" or {\"text\":\"..\"}",
                Row::Pair => "each line is JSON of its own, such as {\"query\":\"..\",\"document\":\"..\"}",
                Row::Vectors => "each line is JSON of its own, such as {\"query\":[0.5,-1],\"document\":[1,0.25]}",
            },
            Self::Whole { expected, .. } => match expected {
                Whole::Schema => "a schema is JSON, such as {\"type\":\"object\"}",
                Whole::Messages => {
                    "name a file that `/save` has written, or write one such as [{\"role\":\"user\",\"content\":\"..\"}]"
                }
            },
        }
    }
}

impl From<TextsError> for Failure {
    fn from(error: TextsError) -> Self {
        let hint = error.hint().to_owned();
        Self::new(Exit::Settings, error, Some(hint))
    }
}

/// A text in JSON, which has something in it.
pub(crate) fn filled<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() { Err(D::Error::custom("the text is empty")) } else { Ok(text) }
}

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String, TextsError> {
    fs::read_to_string(path).map_err(|cause| TextsError::Read { path: path.to_owned(), cause })
}

/// The JSON of a file; `expected`: what it is as a whole.
pub(crate) fn whole<T: for<'a> Deserialize<'a>>(path: &Path, expected: Whole) -> Result<T, TextsError> {
    let whole_of = |cause| TextsError::Whole { path: path.to_owned(), expected, cause };
    serde_json::from_str(&read(path)?).map_err(whole_of)
}

/// What the lines of a file are, but for empty ones; `expected`: what each should have.
pub(crate) fn lines<T: for<'a> Deserialize<'a>>(
    path: &Path,
    text: &str,
    expected: Row,
) -> impl Iterator<Item = Result<T, TextsError>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(move |(at, line)| {
        let line_of = |cause| TextsError::Line { path: path.to_owned(), line: at + 1, expected, cause };
        serde_json::from_str(line).map_err(line_of)
    })
}
