//! The grammar engine behind the actors' port.

use std::sync::Arc;

use llguidance::Matcher;
use motorbrain_actors::{
    grammar::{Grammar, Mask, Spelling, SpellingError},
    tokens::TokenId,
};

use super::vocabulary::Vocabulary;

/// A grammar at its beginning.
pub(super) struct Compiled {
    matcher: Matcher,
    vocabulary: Arc<Vocabulary>,
}

impl Compiled {
    pub(super) fn new(matcher: Matcher, vocabulary: Arc<Vocabulary>) -> Self {
        Self { matcher, vocabulary }
    }
}

impl Grammar for Compiled {
    fn begin(&self) -> Box<dyn Spelling> {
        // Whole: steps are worked out on several threads, and share no cache that one of them could hold up.
        Box::new(At { matcher: self.matcher.deep_clone(), vocabulary: Arc::clone(&self.vocabulary) })
    }
}

/// A place in a grammar.
struct At {
    matcher: Matcher,
    vocabulary: Arc<Vocabulary>,
}

fn failed(error: impl std::fmt::Display) -> SpellingError {
    SpellingError { reason: format!("{error:#}") }
}

impl Spelling for At {
    fn accept(&mut self, token: TokenId) -> Result<(), SpellingError> {
        self.matcher.consume_token(token.0).map_err(failed)
    }

    fn forced(&mut self) -> Vec<TokenId> {
        if self.matcher.is_stopped() {
            return Vec::new();
        }
        let forced = self.matcher.compute_ff_tokens().into_iter().map(TokenId);
        // An end is told by what may come next.
        forced.take_while(|token| !self.vocabulary.ends.contains(token)).collect()
    }

    fn allowed(&mut self) -> Result<Mask, SpellingError> {
        let mask = Mask::new(self.matcher.compute_mask_or_eos().map_err(failed)?.into());
        match mask.words().iter().all(|word| *word == 0) {
            true => Err(SpellingError { reason: "no token of the vocabulary may come next".to_owned() }),
            false => Ok(mask),
        }
    }

    fn is_over(&mut self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }
}
