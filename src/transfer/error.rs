//! Why a conversation is not written to a file, or not taken over from one.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use motorbrain_actors::{
    engine::PageError,
    message::BrainError,
    shown::{shown, with_causes},
};
use tokio::task::JoinError;

use crate::{engine::IdentityError, safetensors::Misfit};

/// See the module's description. No conversation was changed.
///
/// `Debug` is what a `main` that returns it prints: message, causes and hint, for people.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// It is of another model, or the model is run in another way.
    #[error("the conversation is of another {what}: {found}, expected {expected}")]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// What the file says.
        found: String,
        /// What it is here.
        expected: String,
    },
    /// It is no file of a conversation.
    #[error("the file holds no conversation: {why}")]
    NoConversation {
        /// What was found.
        why: &'static str,
    },
    /// It was made by another version of this program.
    #[error("the file is of form {found}, expected {expected}")]
    Version {
        /// What it says.
        found: String,
        /// What is known here.
        expected: &'static str,
    },
    /// It says what cannot be.
    #[error("the file is not as one was written: {why}")]
    Malformed {
        /// What is wrong.
        why: &'static str,
    },
    /// It is not what was written.
    #[error("the file was damaged: its sum is another")]
    Damaged,
    /// It ends before its end.
    #[error("the file ends after {found} bytes, expected {expected}")]
    Cut {
        /// Bytes that could be read.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// It brings more keys and values than there may be.
    #[error("the file brings {needed} bytes of keys and values, all conversations together may take {limit}")]
    TooLarge {
        /// Bytes of its pages.
        needed: usize,
        /// The most there may be.
        limit: usize,
    },
    /// Pages cannot be made, or have no bytes.
    #[error(transparent)]
    Page(#[from] PageError),
    /// There is already something of that name.
    #[error("{} is there already", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The brain does not give the conversation, or does not take it.
    #[error(transparent)]
    Brain(#[from] BrainError),
    /// It is not known any more which model is served.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The program is stopping, or what reads and writes files panicked.
    #[error("the file was not read or written to its end")]
    Interrupted(#[source] JoinError),
    /// The system does not read or write it.
    #[error("{} cannot be {done}", path.display())]
    Io {
        /// `read` or `written`.
        done: &'static str,
        /// Where; empty where only the caller knows.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl TransferError {
    /// What to do about it, one sentence; `None` where only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Mismatch { what: "tokenizer", .. } => Some("import it where the same model is served".into()),
            Self::Mismatch { .. } => {
                Some("import it where the same model is served in the same window, or its tokens alone".into())
            }
            Self::Version { .. } => Some("export it again with this version".into()),
            Self::Damaged | Self::Cut { .. } => Some("copy the file again from where it was exported".into()),
            Self::NoConversation { .. } | Self::Malformed { .. } => {
                Some("name a file that `export` has written".into())
            }
            Self::Exists { .. } => Some("name a file that is not there yet".into()),
            Self::TooLarge { .. } => Some("raise `memory.kv_bytes`, or import its tokens alone".into()),
            Self::Identity(_) => Some("start again with the files that are there now".into()),
            Self::Brain(_) | Self::Page(_) | Self::Interrupted(_) | Self::Io { .. } => None,
        }
    }

    /// Where that was.
    pub(super) fn at(self, path: &Path) -> Self {
        match self {
            Self::Io { done, cause, .. } => Self::Io { done, path: path.to_owned(), cause },
            other => other,
        }
    }
}

impl fmt::Debug for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(f, self, self.hint())
    }
}

impl From<Misfit> for TransferError {
    fn from(misfit: Misfit) -> Self {
        match misfit {
            Misfit::NoSafetensors => Self::NoConversation { why: "it is not safetensors" },
            Misfit::Malformed(why) => Self::Malformed { why },
            Misfit::Length { found, expected } => Self::Cut { found, expected },
        }
    }
}

/// As whoever asks the brain is told it.
impl From<TransferError> for BrainError {
    fn from(error: TransferError) -> Self {
        let said = with_causes(&error);
        match error {
            TransferError::Brain(error) => error,
            TransferError::Mismatch { what, found, expected } => Self::Mismatch { what, found, expected },
            TransferError::TooLarge { needed, limit } => Self::TooLarge { needed, limit },
            TransferError::Page(_) => Self::Engine { message: said },
            TransferError::Identity(_) | TransferError::Interrupted(_) => Self::Unavailable { reason: said },
            TransferError::Exists { .. } => no_use(said, "one that is not there yet"),
            TransferError::Io { .. } => no_use(said, "one that can be read, or written where nothing is"),
            TransferError::NoConversation { .. }
            | TransferError::Version { .. }
            | TransferError::Malformed { .. }
            | TransferError::Damaged
            | TransferError::Cut { .. } => no_use(said, "a file as `export` of this version has written it"),
        }
    }
}

fn no_use(said: String, expected: &str) -> BrainError {
    BrainError::BadRequest { what: "path", found: format!("of no use here: {said}"), expected: expected.to_owned() }
}
