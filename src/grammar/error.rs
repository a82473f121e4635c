use motorbrain_actors::{message::BrainError, shown::shown};

/// Why there is no grammar.
///
/// `Debug` is what a `main` that returns it prints: message, causes and hint, for people.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The model's vocabulary cannot spell.
    #[error("no grammar can hold this model: {reason}")]
    Vocabulary {
        /// What it lacks.
        reason: String,
    },
    /// What was asked for is none, or one that cannot be held to.
    #[error("this {what} cannot be held to: {reason}")]
    Refused {
        /// What kind of grammar.
        what: &'static str,
        /// The engine's own words.
        reason: String,
    },
    /// It is longer than anybody's should be.
    #[error("a {what} of {bytes} bytes is too long, at most {limit} are read")]
    TooLong {
        /// What kind of grammar.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
}

impl GrammarError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Vocabulary { .. } => Some("put the model's own `tokenizer.json` beside it".into()),
            Self::Refused { .. } | Self::TooLong { .. } => None,
        }
    }
}

impl From<GrammarError> for BrainError {
    /// A step whose grammar cannot be used is refused for it.
    fn from(error: GrammarError) -> Self {
        let (found, expected) = match error {
            GrammarError::Vocabulary { reason } => {
                (format!("asked of a model that cannot spell: {reason}"), "none".into())
            }
            GrammarError::Refused { what, reason } => {
                (format!("no {what} that can be held to: {reason}"), "one".into())
            }
            GrammarError::TooLong { what, bytes, limit } => {
                (format!("a {what} of {bytes} bytes"), format!("at most {limit}"))
            }
        };
        Self::BadRequest { what: "grammar", found, expected }
    }
}

impl std::fmt::Debug for GrammarError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        shown(f, self, self.hint())
    }
}
