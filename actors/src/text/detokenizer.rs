//! Bytes of tokens become characters, and those of one that is not whole wait for the rest.
//!
//! The state is the last few tokens and at most three bytes, whatever came before, and each token costs
//! the same. Both can be found again in a conversation's last tokens: an incomplete character is among
//! the last three bytes of the text.

use std::collections::VecDeque;

use crate::tokens::{BEFORE_LEN, TokenId, Tokenizer};

/// The bytes of a character that is not whole yet, at most.
const INCOMPLETE_MAX: usize = 3;

/// Tokens to text, as they come. See the module's page.
#[derive(Clone, Debug, Default)]
pub struct Detokenizer {
    /// The last tokens that the tokenizer knows; all of them while they are fewer than [`BEFORE_LEN`].
    before: Vec<TokenId>,
    /// A character's first bytes, at most [`INCOMPLETE_MAX`].
    incomplete: Vec<u8>,
}

impl Detokenizer {
    /// One that has seen the tokens of `context`, of which it reads the last few. They are given last one first.
    pub fn behind(context: impl IntoIterator<Item = TokenId>, tokenizer: &(impl Tokenizer + ?Sized)) -> Self {
        let mut known = context.into_iter().filter(|&token| tokenizer.knows(token));
        let mut last = VecDeque::new();
        // Most tokens have a byte at least.
        let mut read = INCOMPLETE_MAX;
        loop {
            let lacking = (BEFORE_LEN + read).saturating_sub(last.len());
            known.by_ref().take(lacking).for_each(|token| last.push_front(token));
            // Where there are no more, the first of them is the conversation's first.
            let all = last.len() < BEFORE_LEN + read;
            let (before, behind) = last.make_contiguous().split_at(if all { 0 } else { BEFORE_LEN });
            let mut bytes = Vec::new();
            tokenizer.append(before, behind, &mut bytes);
            if all || bytes.len() >= INCOMPLETE_MAX {
                let rest = complete(&bytes, false, &mut String::new());
                let before = last.split_off(last.len().saturating_sub(BEFORE_LEN)).into();
                return Self { before, incomplete: bytes.split_off(bytes.len() - rest) };
            }
            read *= 2;
        }
    }

    /// Appends to `text` the characters that `tokens` complete.
    pub fn push(&mut self, tokens: &[TokenId], tokenizer: &(impl Tokenizer + ?Sized), text: &mut String) {
        let mut bytes = std::mem::take(&mut self.incomplete);
        tokenizer.append(&self.before, tokens, &mut bytes);
        self.before.extend(tokens.iter().copied().filter(|&token| tokenizer.knows(token)));
        self.before.drain(..self.before.len().saturating_sub(BEFORE_LEN));
        let rest = complete(&bytes, tokenizer.marks_each_byte(), text);
        bytes.drain(..bytes.len() - rest);
        self.incomplete = bytes;
    }

    /// Appends what is left of a character that nothing will complete.
    pub fn finish(self, tokenizer: &(impl Tokenizer + ?Sized), text: &mut String) {
        replace(self.incomplete.len(), tokenizer.marks_each_byte(), text);
    }
}

/// Appends the characters of `bytes` and U+FFFD for what is none. Returns how many bytes at the end are a character's
/// beginning.
fn complete(mut bytes: &[u8], marks_each_byte: bool, text: &mut String) -> usize {
    loop {
        let error = match std::str::from_utf8(bytes) {
            Ok(whole) => {
                text.push_str(whole);
                return 0;
            }
            Err(error) => error,
        };
        let (whole, rest) = bytes.split_at(error.valid_up_to());
        text.push_str(std::str::from_utf8(whole).unwrap_or_default());
        let Some(broken) = error.error_len() else {
            return rest.len();
        };
        replace(broken, marks_each_byte, text);
        bytes = &rest[broken..];
    }
}

fn replace(broken: usize, marks_each_byte: bool, text: &mut String) {
    let marks = if marks_each_byte { broken } else { broken.min(1) };
    text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, marks));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokens::{EncodeError, Spelled, TokenizerKind};

    /// A token a byte; those from 256 up are unknown, but for one that adds nothing.
    struct Bytes {
        marks_each_byte: bool,
    }

    impl Tokenizer for Bytes {
        fn encode_behind(&self, text: Spelled<'_>, _behind: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
            let (Spelled::Marked(text) | Spelled::Literal(text)) = text;
            Ok(text.bytes().map(|byte| TokenId(byte.into())).collect())
        }

        fn append(&self, _before: &[TokenId], tokens: &[TokenId], bytes: &mut Vec<u8>) {
            bytes.extend(tokens.iter().filter_map(|token| u8::try_from(token.0).ok()));
        }

        fn knows(&self, token: TokenId) -> bool {
            token.0 <= 256
        }

        fn marks_each_byte(&self) -> bool {
            self.marks_each_byte
        }

        fn kind(&self) -> TokenizerKind {
            TokenizerKind::Bytes
        }
    }

    const LOSSY: Bytes = Bytes { marks_each_byte: false };

    fn pieces(bytes: &[u8]) -> Vec<String> {
        let mut detokenizer = Detokenizer::default();
        let piece = |&byte: &u8| {
            let mut text = String::new();
            detokenizer.push(&[TokenId(byte.into())], &LOSSY, &mut text);
            text
        };
        bytes.iter().map(piece).collect()
    }

    #[test]
    fn no_piece_cuts_a_character() {
        assert_eq!(pieces("aß€".as_bytes()), ["a", "", "ß", "", "", "€"]);
        assert_eq!(pieces("😀z".as_bytes()), ["", "", "", "😀", "z"]);
    }

    #[test]
    fn what_never_becomes_a_character_is_shown_at_once() {
        assert_eq!(pieces(b"a\xffb"), ["a", "\u{fffd}", "b"]);
        assert_eq!(pieces(b"\xe4\xbdb"), ["", "", "\u{fffd}b"]);
        // The replacement character itself is a character like any other.
        assert_eq!(pieces("\u{fffd}".as_bytes()), ["", "", "\u{fffd}"]);
    }

    #[test]
    fn a_broken_character_is_marked_once_or_a_byte() {
        let broken: Vec<TokenId> = b"\xf0\x9f\x98a\xe4".iter().map(|&byte| TokenId(byte.into())).collect();
        assert_eq!(LOSSY.decode(&broken), "\u{fffd}a\u{fffd}");
        assert_eq!(Bytes { marks_each_byte: true }.decode(&broken), "\u{fffd}\u{fffd}\u{fffd}a\u{fffd}");
    }

    proptest! {
        /// However a row of tokens is cut, and also where all is forgotten but the tokens.
        #[test]
        fn cuts_change_no_text(
            tokens in prop::collection::vec(prop_oneof![0_u32..256, Just(300), Just(256), 0xe0..0xf8_u32, 0x80..0xc0_u32], 0..40),
            cut in 0_usize..40,
        ) {
            let tokens: Vec<TokenId> = tokens.into_iter().map(TokenId).collect();
            let bytes: Vec<u8> = tokens.iter().filter_map(|token| u8::try_from(token.0).ok()).collect();
            prop_assert_eq!(LOSSY.decode(&tokens), String::from_utf8_lossy(&bytes));
            let (before, behind) = tokens.split_at(cut.min(tokens.len()));
            let (mut first, mut second) = (String::new(), String::new());
            Detokenizer::default().push(before, &LOSSY, &mut first);
            let mut detokenizer = Detokenizer::behind(before.iter().rev().copied(), &LOSSY);
            detokenizer.push(behind, &LOSSY, &mut second);
            detokenizer.finish(&LOSSY, &mut second);
            prop_assert_eq!(first + &second, LOSSY.decode(&tokens));
        }
    }
}
