//! Why a chat is not answered.

use motorbrain_actors::message::{BrainError, ErrorCode};

use super::{GrammarError, TemplateError};

/// Why a chat is not answered, or a model has none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// What was asked for may not be.
    #[error("{what} is {found}, expected {expected}")]
    BadRequest {
        /// The field.
        what: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// The messages are longer than the window. Nothing is cut off: a chat that forgets its first messages in silence
    /// would be a surprise.
    #[error("the chat has {prompt} tokens, which leaves no room for an answer in the window of {size}")]
    ContextFull {
        /// Tokens of the rendered messages.
        prompt: usize,
        /// `window.size`.
        size: usize,
    },
    /// Somebody else changed the conversation while it was answered.
    #[error(
        "the conversation has {found} tokens behind the answer, expected {expected}: somebody else uses it as well"
    )]
    Disturbed {
        /// Tokens in its context.
        found: usize,
        /// Tokens of prompt and answer.
        expected: usize,
    },
    /// The template cannot be used, or refuses the messages.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The grammar or the schema cannot be used.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// The brain refuses.
    #[error(transparent)]
    Brain(#[from] BrainError),
    /// A thread of the runtime ended in the middle of it.
    #[error("the work was interrupted: {reason}")]
    Interrupted {
        /// What is known of why.
        reason: String,
    },
}

impl ChatError {
    /// The error's code, as other requests have it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::BadRequest { .. } | Self::Template(_) | Self::Grammar(_) => ErrorCode::BadRequest,
            Self::ContextFull { .. } => ErrorCode::ContextFull,
            Self::Disturbed { .. } => ErrorCode::BadRequest,
            Self::Brain(error) => error.code(),
            Self::Interrupted { .. } => ErrorCode::Unavailable,
        }
    }

    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::ContextFull { .. } => Some("leave out messages, or raise `window.size`".into()),
            Self::Disturbed { .. } => Some("give each chat a conversation of its own".into()),
            Self::Template(error) => error.hint(),
            Self::Grammar(error) => error.hint(),
            Self::BadRequest { .. } | Self::Brain(_) | Self::Interrupted { .. } => None,
        }
    }
}
