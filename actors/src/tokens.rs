//! The second port: what MotorBrain needs from a tokenizer.
//!
//! Text becomes tokens once, off the actors' threads; the same tokenizer turns sampled tokens back
//! into text. No special token is added unasked. Both ways know what stands before: a word's space
//! belongs to its token, and only a conversation's very first word may be without one.

use std::{fmt, ops::Range};

use crate::text::Detokenizer;

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

/// A text and what may become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelled<'a> {
    /// Text that spells an added token (a special one, a chat marker) becomes that token.
    Marked(&'a str),
    /// Text that never becomes an added token, save one of white space.
    Literal(&'a str),
}

impl<'a> Spelled<'a> {
    /// The text.
    pub fn as_str(self) -> &'a str {
        let (Self::Marked(text) | Self::Literal(text)) = self;
        text
    }
}

/// A token with where it stands in the text that it was made of, in bytes. Tokens that spell one character between them
/// overlap, or stand for nothing; white space that a tokenizer leaves out is no token's.
pub type Spanned = (TokenId, Range<usize>);

/// How many of the tokens before it decide what a token adds to a text: the last of them, and, while there are fewer
/// than this, that the text has only begun.
pub const BEFORE_LEN: usize = 5;

/// Turns text into tokens and back. Shared by all threads.
pub trait Tokenizer: Send + Sync + 'static {
    /// The tokens of a text that stands behind the token `behind`; `None`: at a conversation's beginning. Nothing is
    /// added at either end, but what the tokenizer writes before a text's first word.
    ///
    /// # Errors
    /// The tokenizer's own words when it refuses the text; literal text that only an added token can spell.
    fn encode_behind(&self, text: Spelled<'_>, behind: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError>;

    /// The same with where each of them stands. Unless a tokenizer knows better, by what each adds to a text, which is right
    /// where it normalises nothing.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_behind`].
    fn encode_spans(&self, text: Spelled<'_>, behind: Option<TokenId>) -> Result<Vec<Spanned>, EncodeError> {
        let tokens = self.encode_behind(text, behind)?;
        let before: Vec<TokenId> = behind.into_iter().chain(tokens.iter().copied()).collect();
        let (mut bytes, mut at) = (Vec::new(), 0);
        let mut span = |index: usize| {
            let place = index + before.len() - tokens.len();
            self.append(&before[place.saturating_sub(BEFORE_LEN)..place], &tokens[index..=index], &mut bytes);
            let from = at;
            at += bytes.drain(..).len();
            from..at
        };
        Ok(tokens.iter().enumerate().map(|(index, token)| (*token, span(index))).collect())
    }

    /// Appends the bytes that `tokens` add to a text. `before` are the tokens ahead of them that the tokenizer knows: all
    /// of them, or at least the last [`BEFORE_LEN`]. Ids that it does not know add nothing.
    ///
    /// What is appended does not depend on how a row of tokens is cut, and never changes what was appended before.
    fn append(&self, before: &[TokenId], tokens: &[TokenId], bytes: &mut Vec<u8>);

    /// Whether the tokenizer knows the id; others leave no trace in a text.
    fn knows(&self, _token: TokenId) -> bool {
        true
    }

    /// Whether each byte that belongs to no character is shown as a U+FFFD of its own; otherwise those that begin a
    /// character are shown as one, as [`String::from_utf8_lossy`] does.
    fn marks_each_byte(&self) -> bool {
        false
    }

    /// Whether this is the model's own tokenizer or the byte fallback.
    fn kind(&self) -> TokenizerKind;

    /// The tokens of a text at a conversation's beginning.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_behind`].
    fn encode(&self, text: &str) -> Result<Vec<TokenId>, EncodeError> {
        self.encode_behind(Spelled::Marked(text), None)
    }

    /// The text of `tokens` from a conversation's beginning. Bytes that are no UTF-8 (a character cut in two) become
    /// U+FFFD, ids the tokenizer does not know become nothing.
    fn decode(&self, tokens: &[TokenId]) -> String {
        let (mut text, mut detokenizer) = (String::new(), Detokenizer::default());
        detokenizer.push(tokens, self, &mut text);
        detokenizer.finish(self, &mut text);
        text
    }
}

/// The tokenizer refused a text.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the tokenizer refused the text: {reason}")]
pub struct EncodeError {
    /// The tokenizer's own words.
    pub reason: String,
}
