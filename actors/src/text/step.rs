//! The text of one step: what its sampled tokens add to the text before them, up to a stop text.
//!
//! The tokenizer is somebody else's code and is called here by the brain and by actors, for whom a panic would be the
//! end of more than one step: it breaks this text and nothing else.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    Detokenizer,
    stops::{Search, StopTexts},
};
use crate::{
    message::BrainError,
    tokens::{TokenId, Tokenizer},
};

/// A step's own text so far. A clone goes on by itself, so that a step that is done again begins anew.
#[derive(Clone)]
pub struct StepText {
    tokenizer: Arc<dyn Tokenizer>,
    detokenizer: Detokenizer,
    search: Search,
    /// What was added, up to the stop text.
    text: String,
    /// How many bytes of it were taken.
    taken: usize,
    /// How many tokens added to it.
    tokens: usize,
    stopped: bool,
    broken: bool,
}

impl StepText {
    /// The text of a step behind the tokens of `context`, which are given last one first.
    pub fn behind(context: impl IntoIterator<Item = TokenId>, stops: StopTexts, tokenizer: Arc<dyn Tokenizer>) -> Self {
        let detokenizer = catch_unwind(AssertUnwindSafe(|| Detokenizer::behind(context, &*tokenizer)));
        let (search, broken) = (Search::new(stops), detokenizer.is_err());
        let detokenizer = detokenizer.unwrap_or_default();
        Self { tokenizer, detokenizer, search, text: String::new(), taken: 0, tokens: 0, stopped: false, broken }
    }

    /// Takes in sampled tokens; true where they complete a stop text. The end token is no part of a step's text and must
    /// not be given.
    ///
    /// # Errors
    /// [`BrainError::Engine`]: the text is broken.
    pub fn push(&mut self, tokens: &[TokenId]) -> Result<bool, BrainError> {
        self.tokens += tokens.len();
        if self.broken {
            return Err(broken());
        }
        if self.stopped {
            return Ok(true);
        }
        let from = self.text.len();
        let added = catch_unwind(AssertUnwindSafe(|| {
            self.detokenizer.push(tokens, &*self.tokenizer, &mut self.text);
        }));
        if added.is_err() {
            self.broken = true;
            return Err(broken());
        }
        if let Some((end, len)) = self.search.read(&self.text[from..]) {
            self.text.truncate(from + end - len);
            self.stopped = true;
        }
        Ok(self.stopped)
    }

    /// Whether the tokenizer has panicked on it.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The text that is complete and was not taken before. What may begin a stop text is held back until it is known that
    /// it does not, which it is at the `last` token.
    pub fn take(&mut self, last: bool) -> String {
        let held = if last || self.stopped { 0 } else { self.search.held() };
        // Never less than before: what now may begin a stop text was held as the beginning of one all the while.
        let end = self.text.len() - held;
        let piece = self.text[self.taken..end].to_owned();
        self.taken = end;
        piece
    }

    /// How many tokens it was given.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Everything, taken or not.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// What the caller of a step is told that has no text.
pub(crate) fn broken() -> BrainError {
    BrainError::Engine { message: "the tokenizer panicked on the step's text".to_owned() }
}

impl fmt::Debug for StepText {
    /// Without the text, which is a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepText").field("tokens", &self.tokens).field("stopped", &self.stopped).finish_non_exhaustive()
    }
}
