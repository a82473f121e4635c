//! The second port: what MotorBrain needs from a tokenizer.
//!
//! Text becomes tokens once, off the actors' threads; the same tokenizer turns sampled tokens back
//! into text. No special token is added unasked, and text that spells one becomes that token.

use std::fmt;

/// A token of the model's vocabulary. Checked against the vocabulary before it reaches a runtime,
/// because some graphs accept any id in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TokenId(pub u32);

impl From<u32> for TokenId {
    fn from(id: u32) -> Self {
        Self(id)
    }
}

impl From<TokenId> for u32 {
    fn from(token: TokenId) -> Self {
        token.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which rule turns text into tokens; callers are told when it is only the fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerKind {
    /// The model's own `tokenizer.json`.
    Model,
    /// The fallback: byte `b` is token id `b`, ids from 256 up decode to U+FFFD.
    Bytes,
}

/// Turns text into tokens and back. Shared by all threads.
pub trait Tokenizer: Send + Sync + 'static {
    /// The tokens of `text`, nothing added at either end.
    ///
    /// # Errors
    /// The tokenizer's own words when it refuses the text.
    fn encode(&self, text: &str) -> Result<Vec<TokenId>, EncodeError>;

    /// The text of `tokens`. Bytes that are no UTF-8 (a character cut in two) become U+FFFD, ids
    /// the tokenizer does not know become nothing.
    fn decode(&self, tokens: &[TokenId]) -> String;

    /// Whether this is the model's own tokenizer or the byte fallback.
    fn kind(&self) -> TokenizerKind;
}

/// The tokenizer refused a text.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the tokenizer refused the text: {reason}")]
pub struct EncodeError {
    /// The tokenizer's own words.
    pub reason: String,
}
