//! A grammar without a language: what may come next, and what must, is told by a hash of what was said.

use motorbrain_actors::{
    grammar::{Constraint, Grammar, Mask, Spelling, SpellingError},
    tokens::TokenId,
};

use super::model::mix;

/// A grammar for a vocabulary of so many tokens, another for each seed. About half of the tokens may come next; at every
/// third place the next ones are forced; the end tokens `ends` are allowed now and then, and at some places it is over.
pub fn hashed_grammar(seed: u64, vocab: usize, ends: &[TokenId]) -> Constraint {
    Constraint::new(Hashed(At { state: mix(seed, 0x6a09), said: 0, vocab: vocab as u64, ends: ends.to_vec() }))
}

struct Hashed(At);

impl Grammar for Hashed {
    fn begin(&self) -> Box<dyn Spelling> {
        Box::new(self.0.clone())
    }
}

/// A place in it.
#[derive(Clone)]
struct At {
    state: u64,
    said: usize,
    vocab: u64,
    ends: Vec<TokenId>,
}

impl At {
    fn any(&self, salt: u64) -> TokenId {
        let first = mix(self.state, salt) % self.vocab;
        let mut others = (0..self.vocab).map(|more| TokenId(((first + more) % self.vocab) as u32));
        others.find(|token| !self.ends.contains(token)).unwrap_or(TokenId(0))
    }

    /// The token that must come next, where one must.
    fn must(&self) -> Option<TokenId> {
        (!self.over() && mix(self.state, 1).is_multiple_of(3)).then(|| self.any(2))
    }

    fn may(&self, token: TokenId) -> bool {
        match self.must() {
            Some(must) => token == must,
            None if self.over() => false,
            None if self.ends.contains(&token) => self.said > 0 && mix(self.state, 3).is_multiple_of(4),
            None => token == self.any(4) || mix(self.state, 16 + u64::from(token.0)).is_multiple_of(2),
        }
    }

    fn over(&self) -> bool {
        self.said > 0 && mix(self.state, 5).is_multiple_of(16)
    }

    fn take(&mut self, token: TokenId) {
        self.state = mix(self.state, u64::from(token.0));
        self.said += 1;
    }
}

impl Spelling for At {
    fn accept(&mut self, token: TokenId) -> Result<(), SpellingError> {
        if !self.may(token) || self.ends.contains(&token) {
            return Err(SpellingError { reason: format!("{token} may not come behind {} tokens", self.said) });
        }
        self.take(token);
        Ok(())
    }

    fn forced(&mut self) -> Vec<TokenId> {
        let mut behind = self.clone();
        let next = || {
            let must = behind.must()?;
            behind.take(must);
            Some(must)
        };
        // All of them, so that it does not matter where one asks.
        std::iter::from_fn(next).collect()
    }

    fn allowed(&mut self) -> Result<Mask, SpellingError> {
        Ok((0..self.vocab as u32).map(TokenId).filter(|token| self.may(*token)).collect())
    }

    fn is_over(&mut self) -> bool {
        self.over()
    }
}
