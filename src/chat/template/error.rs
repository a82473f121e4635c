//! Why a template cannot be used, or refuses the messages.

use std::{error::Error as _, fmt, io, path::PathBuf};

use minijinja::{Error, ErrorKind};

/// Why a template cannot be used, or refuses the messages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A file is there, but cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's own words.
        #[source]
        cause: io::Error,
    },
    /// A file is larger than any such file.
    #[error("{} has {bytes} bytes, at most {limit} are read", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// How many bytes it has.
        bytes: u64,
        /// How many it may have.
        limit: u64,
    },
    /// A file is no JSON, or not what is expected of it.
    #[error("{} has {what}, expected {expected}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// What is in it.
        what: String,
        /// What should be.
        expected: &'static str,
    },
    /// There is no template, and the model does not know the markers of ChatML.
    #[error("{} has no chat template: neither `chat_template.jinja` nor one in `tokenizer_config.json`", dir.display())]
    Missing {
        /// The model's folder.
        dir: PathBuf,
    },
    /// A template is none.
    #[error("line {line} of the chat template `{name}`: {reason}")]
    Syntax {
        /// Its name.
        name: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The template itself refuses the messages.
    #[error("the model's chat template refuses the messages: {reason}")]
    Refused {
        /// Its own words.
        reason: String,
    },
    /// The template fails on these messages, as it would elsewhere.
    #[error("line {line} of the model's chat template fails on the messages: {reason}")]
    Failed {
        /// The line, counted from 1.
        line: usize,
        /// What went wrong.
        reason: String,
    },
    /// The template takes too long, or too much memory.
    #[error("the model's chat template takes more steps or memory than it may")]
    Exhausted,
    /// What messages say would become one of the model's own markers.
    #[error("the model's chat template would make the marker {token} of what the messages say")]
    Forged {
        /// Which.
        token: String,
    },
    /// What messages say has all characters that could mark it.
    #[error("the messages have all of the characters U+FDD0 to U+FDEF, which no text has")]
    NoMark,
}

impl TemplateError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooLarge { .. } | Self::Value { .. } | Self::Syntax { .. } => {
                Some("fetch the file again, from the same model, or name another template".into())
            }
            Self::Missing { .. } => {
                Some("put the `chat_template.jinja` or the `tokenizer_config.json` of this very model beside it".into())
            }
            Self::NoMark => Some("leave them out".into()),
            Self::Read { .. } | Self::Refused { .. } | Self::Failed { .. } | Self::Exhausted | Self::Forged { .. } => {
                None
            }
        }
    }

    pub(super) fn syntax(name: &str, error: &Error) -> Self {
        Self::Syntax { name: name.to_owned(), line: error.line().unwrap_or(1), reason: words(error) }
    }

    pub(super) fn failed(error: &Error) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.kind() == ErrorKind::OutOfFuel {
                return Self::Exhausted;
            }
            let source = error.source();
            if let Some(refusal) = source.and_then(|source| source.downcast_ref::<Refusal>()) {
                return Self::Refused { reason: refusal.0.clone() };
            }
            cause = source.and_then(|source| source.downcast_ref::<Error>());
        }
        Self::Failed { line: error.line().unwrap_or(1), reason: words(error) }
    }
}

fn words(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// What a template says by `raise_exception`.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}
