//! Tokens as texts, for those who want to see each: what one adds to the text of those before it.

use std::collections::BTreeMap;

use motorbrain::{Scored, TokenId};
use motorbrain_actors::tokens::{BEFORE_LEN, Tokenizer};
use serde::Serialize;
use utoipa::ToSchema;

/// One entry a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = CompletionLogprobs)]
pub(crate) struct Logprobs {
    tokens: Vec<String>,
    /// Of a prompt's first token there is none.
    token_logprobs: Vec<Option<f32>>,
    /// The most likely ones by their text; of a prompt's first token there are none.
    top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where each stands in the answer's text, in characters.
    text_offset: Vec<usize>,
}

/// Writes tokens one behind the other.
pub(super) struct Writer<'a> {
    tokenizer: &'a dyn Tokenizer,
    /// All that came before.
    before: Vec<TokenId>,
    /// Characters of what was written.
    chars: usize,
}

impl<'a> Writer<'a> {
    /// Behind these tokens.
    pub(super) fn new(tokenizer: &'a dyn Tokenizer, prompt: &[TokenId]) -> Self {
        let before = prompt.iter().copied().filter(|token| tokenizer.knows(*token)).collect();
        Self { tokenizer, before, chars: 0 }
    }

    /// Behind tokens that the tokenizer knows, of which only the last ones matter.
    pub(super) fn behind(tokenizer: &'a dyn Tokenizer, known: &[TokenId]) -> Self {
        Self { tokenizer, before: known[known.len().saturating_sub(BEFORE_LEN)..].to_vec(), chars: 0 }
    }

    /// Characters of what was listed.
    pub(super) fn chars(&self) -> usize {
        self.chars
    }

    /// The text of what stands before.
    pub(super) fn prompt(&self) -> String {
        self.tokenizer.decode(&self.before)
    }

    /// Lists a prompt's tokens.
    pub(super) fn scored(&self, prompt: &[TokenId], scored: &Scored, logprobs: &mut Logprobs) {
        let mut writer = Self { before: Vec::new(), ..*self };
        for (index, (token, score)) in prompt.iter().zip(&scored.logprobs).enumerate() {
            writer.list(*token, *score, listed(&scored.top, index), 0, logprobs);
        }
    }

    /// Lists a token, and the most likely ones in its place. The text that it belongs to begins at `offset`.
    pub(super) fn list(
        &mut self,
        token: TokenId,
        logprob: Option<f32>,
        top: &[(TokenId, f32)],
        offset: usize,
        logprobs: &mut Logprobs,
    ) {
        let mut likely = BTreeMap::new();
        for (token, logprob) in top {
            // Of two that look alike the likelier one counts.
            likely.entry(self.text(*token)).or_insert(finite(*logprob));
        }
        let text = self.text(token);
        logprobs.text_offset.push(offset + self.chars);
        self.chars += text.chars().count();
        logprobs.tokens.push(text);
        logprobs.token_logprobs.push(logprob.map(finite));
        logprobs.top_logprobs.push(Some(likely).filter(|likely| !likely.is_empty()));
        if self.tokenizer.knows(token) {
            self.before.push(token);
        }
    }

    /// What a token would add; bytes that are no character by themselves are shown as U+FFFD.
    fn text(&self, token: TokenId) -> String {
        let mut bytes = Vec::new();
        let before = &self.before[self.before.len().saturating_sub(BEFORE_LEN)..];
        self.tokenizer.append(before, &[token], &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The most likely tokens in one of several places.
pub(super) fn listed(top: &[Vec<(TokenId, f32)>], index: usize) -> &[(TokenId, f32)] {
    top.get(index).map(Vec::as_slice).unwrap_or_default()
}

/// JSON has no infinity: a token that has no chance at all is as unlikely as a number can say.
pub(crate) fn finite(logprob: f32) -> f32 {
    logprob.max(f32::MIN)
}
