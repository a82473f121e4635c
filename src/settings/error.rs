//! What can be wrong with settings. Each error names the key, the value and what to write instead.

use std::{fmt, io, path::PathBuf};

use motorbrain_actors::shown::shown;

use super::load::Place;
use crate::engine::WindowError;

/// Why settings cannot be used.
///
/// `Debug` is what a `main` that returns it prints: message, causes and hint, for people.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file is not there or not readable.
    #[error("cannot read the settings file {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is no TOML.
    #[error("the settings file {path} is not TOML", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        cause: Box<config::ConfigError>,
    },
    /// An override without `=` or without a section.
    #[error("`{text}` is no override, expected `section.key=value`")]
    Override {
        /// What was given.
        text: String,
    },
    /// There is no such section or key.
    #[error("{place} has the unknown key `{key}`")]
    UnknownKey {
        /// The key as it was written.
        key: String,
        /// Where.
        place: Place,
        /// The known key that is spelled most like it.
        nearest: String,
    },
    /// A value of another type, or a word that means nothing.
    #[error("`{key}` is {value} in {place}, expected {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// Its value, shortened.
        value: String,
        /// Where.
        place: Place,
        /// What it may be.
        expected: &'static str,
    },
    /// A number below the least that makes sense.
    #[error("`{key}` is {found}, expected at least {least}")]
    TooSmall {
        /// The key.
        key: &'static str,
        /// Its value.
        found: u64,
        /// The least it may be.
        least: u64,
    },
    /// A number above the most that makes sense.
    #[error("`{key}` is {found}, expected at most {most}")]
    TooLarge {
        /// The key.
        key: &'static str,
        /// Its value.
        found: u64,
        /// The most it may be.
        most: u64,
    },
    /// A text that cannot be used for what it is for.
    #[error("`{key}` is {found:?}, expected {expected}")]
    Text {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A number that must not be above another.
    #[error("`{key}` is {found}, expected at most {limit}, the value of `{limit_key}`")]
    AboveOther {
        /// The key.
        key: &'static str,
        /// Its value.
        found: u64,
        /// The other key.
        limit_key: &'static str,
        /// The other's value.
        limit: u64,
    },
    /// The window contradicts itself.
    #[error(transparent)]
    Window(#[from] WindowError),
}

impl SettingsError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some("name a file that exists, or leave the file out to use the defaults".into()),
            Self::Parse { .. } => None,
            Self::Override { .. } => Some("for example `--set window.size=512`".into()),
            Self::UnknownKey { nearest, .. } => Some(format!("did you mean `{nearest}`?")),
            Self::WrongType { key, .. } => {
                Some(format!("`config/motorbrain.toml` shows `{key}` with its default and what it is for"))
            }
            Self::TooSmall { key, .. } => Some(format!("raise `{key}`, or leave it out for its default")),
            Self::TooLarge { key, .. } => Some(format!("lower `{key}`, or leave it out for its default")),
            Self::Text { key, .. } => Some(format!("change `{key}`, or leave it out for its default")),
            Self::AboveOther { key, limit_key, .. } => Some(format!("lower `{key}` or raise `{limit_key}`")),
            Self::Window(_) => Some("`window.sinks` and `window.slide` follow the size where they are left out".into()),
        }
    }
}

impl fmt::Debug for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(f, self, self.hint())
    }
}
