//! What a step's sampled tokens must spell: the port of grammar engines, and how an actor asks one.
//!
//! A [`Grammar`] is compiled once and shared. Each step that it holds has a [`Guide`], which knows how far the step has
//! spelled: which tokens may come next, and which must. That is asked for before a run and needed behind it, so it is
//! worked out on a thread of its own while the model runs.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, mpsc},
    thread,
};

use crate::{job::lock, tokens::TokenId};

/// A grammar, compiled for a vocabulary.
pub trait Grammar: Send + Sync + 'static {
    /// Begins to spell.
    fn begin(&self) -> Box<dyn Spelling>;
}

/// How far one step has spelled its grammar.
pub trait Spelling: Send {
    /// The next token. End tokens are never given.
    ///
    /// # Errors
    /// The grammar does not allow it, or what it takes to know that is too much; nothing more is asked then.
    fn accept(&mut self, token: TokenId) -> Result<(), SpellingError>;

    /// The tokens that come next whatever is chosen, as the tokenizer would write them; none where there is a choice, or
    /// where it is not worth finding out.
    fn forced(&mut self) -> Vec<TokenId>;

    /// Which tokens may come next: where the grammar may end here, end tokens are among them.
    ///
    /// # Errors
    /// What it takes to know is too much.
    fn allowed(&mut self) -> Result<Mask, SpellingError>;

    /// Whether the grammar ends here and nothing may follow.
    fn is_over(&mut self) -> bool;
}

/// Why a step cannot go on as its grammar says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the grammar cannot go on: {reason}")]
pub struct SpellingError {
    /// The engine's own words.
    pub reason: String,
}

/// A set of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// A bit for each token, the lowest of the first word for token 0. Tokens beyond its end are not in it.
    words: Vec<u32>,
}

impl Mask {
    /// The tokens whose bits are set, that of token 0 the lowest of the first word.
    pub fn new(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// Whether the token is in it.
    pub fn allows(&self, token: TokenId) -> bool {
        self.words.get(token.0 as usize / 32).is_some_and(|word| word >> (token.0 % 32) & 1 == 1)
    }

    /// Its bits.
    pub fn words(&self) -> &[u32] {
        &self.words
    }
}

impl FromIterator<TokenId> for Mask {
    fn from_iter<T: IntoIterator<Item = TokenId>>(tokens: T) -> Self {
        let mut words = Vec::new();
        for token in tokens {
            let word = token.0 as usize / 32;
            words.resize(words.len().max(word + 1), 0);
            words[word] |= 1 << (token.0 % 32);
        }
        Self { words }
    }
}

/// A grammar as requests carry it; two are equal where they are the same.
#[derive(Clone)]
pub struct Constraint(Arc<dyn Grammar>);

impl Constraint {
    /// Of a compiled grammar.
    pub fn new(grammar: impl Grammar) -> Self {
        Self(Arc::new(grammar))
    }

    /// Begins to spell.
    pub fn begin(&self) -> Box<dyn Spelling> {
        self.0.begin()
    }
}

impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Constraint")
    }
}

/// Where a step stands in its grammar; clones are one.
#[derive(Clone)]
pub struct Guide(Arc<Shared>);

struct Shared {
    spelling: Mutex<Box<dyn Spelling>>,
    next: Mutex<Next>,
    told: Condvar,
}

/// Which tokens may come next, as far as that is known.
enum Next {
    Unasked,
    Asked,
    Known(Result<Arc<Mask>, SpellingError>),
}

impl Guide {
    /// Behind the tokens that a step has sampled already. Those that end texts spell nothing and are not among them.
    ///
    /// # Errors
    /// See [`Spelling::accept`].
    pub fn behind(constraint: &Constraint, tokens: impl IntoIterator<Item = TokenId>) -> Result<Self, SpellingError> {
        let mut spelling = constraint.begin();
        tokens.into_iter().try_for_each(|token| spelling.accept(token))?;
        let (spelling, next) = (Mutex::new(spelling), Mutex::new(Next::Unasked));
        Ok(Self(Arc::new(Shared { spelling, next, told: Condvar::new() })))
    }

    /// Goes on behind a token, and behind those that it forces, of which these are the first `most`.
    ///
    /// # Errors
    /// See [`Spelling::accept`].
    pub(crate) fn accept(&self, token: Option<TokenId>, most: usize) -> Result<Vec<TokenId>, SpellingError> {
        let mut spelling = lock(&self.0.spelling);
        *lock(&self.0.next) = Next::Unasked;
        token.map_or(Ok(()), |token| spelling.accept(token))?;
        let mut forced = if most > 0 { spelling.forced() } else { Vec::new() };
        forced.truncate(most);
        forced.iter().try_for_each(|token| spelling.accept(*token))?;
        Ok(forced)
    }

    /// See [`Spelling::is_over`].
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.0.spelling).is_over()
    }

    /// Which tokens may come next. Waits where that is being worked out.
    ///
    /// # Errors
    /// See [`Spelling::allowed`].
    pub fn allowed(&self) -> Result<Arc<Mask>, SpellingError> {
        let mut next = lock(&self.0.next);
        loop {
            match &*next {
                Next::Known(known) => return known.clone(),
                Next::Asked => next = self.0.told.wait(next).unwrap_or_else(|poisoned| poisoned.into_inner()),
                Next::Unasked => {
                    *next = Next::Asked;
                    drop(next);
                    self.0.work_out();
                    next = lock(&self.0.next);
                }
            }
        }
    }
}

impl PartialEq for Guide {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guide")
    }
}

impl Shared {
    /// Whoever waits is told, also of an engine that panics.
    fn work_out(&self) {
        let allowed = catch_unwind(AssertUnwindSafe(|| lock(&self.spelling).allowed()));
        let panicked = |_| Err(SpellingError { reason: "its engine panicked".to_owned() });
        *lock(&self.next) = Next::Known(allowed.unwrap_or_else(panicked).map(Arc::new));
        self.told.notify_all();
    }
}

/// A thread that works out which tokens may come next while the model runs. It ends when this is dropped.
pub(crate) struct Foresight(Option<mpsc::Sender<Arc<Shared>>>);

impl Foresight {
    /// Where there is no thread to be had, it is worked out behind the run.
    pub(crate) fn new() -> Self {
        let (asks, asked) = mpsc::channel::<Arc<Shared>>();
        let work = move || asked.into_iter().for_each(|shared| shared.work_out());
        let spawned = thread::Builder::new().name("motorbrain-grammar".to_owned()).spawn(work);
        Self(spawned.is_ok().then_some(asks))
    }

    /// Begins to work out what may come next, unless that is known or on its way.
    pub(crate) fn begin(&self, guide: &Guide) {
        let Some(asks) = &self.0 else { return };
        let mut next = lock(&guide.0.next);
        if matches!(*next, Next::Unasked) && asks.send(Arc::clone(&guide.0)).is_ok() {
            *next = Next::Asked;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spells its tokens in their order, then ends; it panics where it is asked behind a 7.
    struct Spells(Vec<u32>);

    struct At {
        tokens: Vec<u32>,
        next: usize,
    }

    impl Grammar for Spells {
        fn begin(&self) -> Box<dyn Spelling> {
            Box::new(At { tokens: self.0.clone(), next: 0 })
        }
    }

    impl Spelling for At {
        fn accept(&mut self, token: TokenId) -> Result<(), SpellingError> {
            if self.tokens.get(self.next) != Some(&token.0) {
                return Err(SpellingError { reason: format!("{token} at {}", self.next) });
            }
            self.next += 1;
            Ok(())
        }

        fn forced(&mut self) -> Vec<TokenId> {
            self.tokens[self.next..].iter().copied().map(TokenId).collect()
        }

        fn allowed(&mut self) -> Result<Mask, SpellingError> {
            assert!(self.next == 0 || self.tokens[self.next - 1] != 7, "behind a 7");
            Ok(self.tokens.get(self.next).copied().map(TokenId).into_iter().collect())
        }

        fn is_over(&mut self) -> bool {
            self.next == self.tokens.len()
        }
    }

    fn guide(tokens: &[u32], said: &[u32]) -> Result<Guide, SpellingError> {
        Guide::behind(&Constraint::new(Spells(tokens.to_vec())), said.iter().copied().map(TokenId))
    }

    #[test]
    fn a_mask_has_the_tokens_that_it_was_made_of() {
        let mask: Mask = [0, 31, 32, 70].map(TokenId).into_iter().collect();
        let found: Vec<u32> = (0..200).filter(|token| mask.allows(TokenId(*token))).collect();
        assert_eq!(found, [0, 31, 32, 70]);
    }

    #[test]
    fn a_guide_goes_on_behind_what_was_said_and_takes_no_more_than_it_may() {
        let guide = guide(&[1, 2, 3, 4], &[1]).expect("it may begin so");
        assert!(guide.allowed().is_ok_and(|mask| mask.allows(TokenId(2)) && !mask.allows(TokenId(1))));
        assert_eq!(guide.accept(Some(TokenId(2)), 1), Ok(vec![TokenId(3)]));
        assert!(!guide.is_over() && guide.allowed().is_ok_and(|mask| mask.allows(TokenId(4))));
        assert!(guide.accept(Some(TokenId(9)), 0).is_err(), "the grammar has no 9");
        assert!(super::tests::guide(&[1], &[2]).is_err());
    }

    #[test]
    fn what_is_worked_out_beside_a_run_is_what_is_worked_out_behind_it() {
        let foresight = Foresight::new();
        for _ in 0..100 {
            let guide = guide(&[1, 2, 7, 3], &[]).expect("nothing is said");
            for token in [1, 2, 7] {
                foresight.begin(&guide);
                assert!(guide.allowed().is_ok_and(|mask| mask.allows(TokenId(token))));
                assert_eq!(guide.accept(Some(TokenId(token)), 0), Ok(vec![]));
            }
            foresight.begin(&guide);
            assert!(guide.allowed().is_err(), "its engine panicked, and whoever waits is told");
        }
    }
}
