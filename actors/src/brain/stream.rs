//! A streamed step: its text piece by piece on the brain's side, its items on the caller's.

use tokio::sync::mpsc;

use super::message::{StepItem, stopped};
use crate::tokens::{TokenId, Tokenizer};

/// What the caller of a streamed step holds. Dropping it cancels the step; tokens that were shown stay.
#[derive(Debug)]
pub struct StepStream {
    items: mpsc::UnboundedReceiver<StepItem>,
    shown: usize,
    ended: bool,
}

impl StepStream {
    pub(super) fn new(items: mpsc::UnboundedReceiver<StepItem>) -> Self {
        Self { items, shown: 0, ended: false }
    }

    /// The next item; `None` after the last, which is [`StepItem::Stepped`] or [`StepItem::Failed`].
    pub async fn next(&mut self) -> Option<StepItem> {
        if self.ended {
            return None;
        }
        let item =
            self.items.recv().await.unwrap_or_else(|| StepItem::Failed { error: stopped(), committed: self.shown });
        match item {
            StepItem::Token { .. } => self.shown += 1,
            StepItem::Stepped(_) | StepItem::Failed { .. } => self.ended = true,
        }
        Some(item)
    }
}

/// The text of tokens that come one by one, cut between characters.
///
/// What a token adds depends on those before it (a space, a character's first bytes), so the tokens
/// since the last cut are decoded with and without the new one.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// The last ones that completed a piece, then those that have not yet.
    tokens: Vec<TokenId>,
    /// How many of them are shown.
    shown: usize,
}

impl Pieces {
    /// The text that `token` completes; empty while a character is incomplete.
    pub(super) fn push(&mut self, token: TokenId, tokenizer: &dyn Tokenizer) -> String {
        self.tokens.push(token);
        let before = tokenizer.decode(&self.tokens[..self.shown]);
        let after = tokenizer.decode(&self.tokens);
        if after.ends_with(char::REPLACEMENT_CHARACTER) {
            return String::new();
        }
        let Some(piece) = after.strip_prefix(&before) else {
            return String::new();
        };
        self.tokens.drain(..self.shown);
        self.shown = self.tokens.len();
        piece.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{EncodeError, TokenizerKind};

    struct Bytes;

    impl Tokenizer for Bytes {
        fn encode(&self, text: &str) -> Result<Vec<TokenId>, EncodeError> {
            Ok(text.bytes().map(|byte| TokenId(byte.into())).collect())
        }

        fn decode(&self, tokens: &[TokenId]) -> String {
            let bytes: Vec<u8> = tokens.iter().map(|token| u8::try_from(token.0).unwrap_or(0xff)).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }

        fn kind(&self) -> TokenizerKind {
            TokenizerKind::Bytes
        }
    }

    fn pieces(bytes: &[u8]) -> Vec<String> {
        let mut pieces = Pieces::default();
        bytes.iter().map(|&byte| pieces.push(TokenId(byte.into()), &Bytes)).collect()
    }

    #[test]
    fn no_piece_cuts_a_character() {
        let text = "aß€😀z";
        let shown = pieces(text.as_bytes());
        assert_eq!(shown.concat(), text);
        assert!(shown.iter().all(|piece| !piece.contains(char::REPLACEMENT_CHARACTER)), "{shown:?}");
    }

    #[test]
    fn what_never_becomes_a_character_is_shown_with_the_next_that_does() {
        assert_eq!(pieces(b"a\xffb"), ["a", "", "\u{fffd}b"]);
    }
}
