//! A language model in one line of arithmetic, and a context of it as nobody but its caller sees it: tokens, and for
//! each that was read a number in the place of its keys and values. The simulated actors compute with it, and so does the
//! check of what they answered.

use std::sync::Arc;

use motorbrain_actors::{
    engine::{EngineInfo, PageSize, Sampled, Window},
    job::{Commit, History, Outcome, Work},
    tokens::TokenId,
};

use super::rng::mix;

pub(crate) const VOCAB: u32 = 100;
pub(crate) const END: TokenId = TokenId(0);
pub(crate) const WINDOW: Window = Window { size: 12, sinks: 2, slide: 3, slides: true };

pub(crate) fn info(pages: Option<PageSize>) -> EngineInfo {
    EngineInfo {
        layers: 1,
        hidden: 1,
        vocab: VOCAB as usize,
        inputs: 1,
        embeds: true,
        window: WINDOW,
        end_tokens: vec![END],
        kv_bytes_per_token: 1,
        pages,
    }
}

/// What the model sees. Every answer depends on every row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Context {
    pub(crate) history: History,
    /// As many as tokens were read: each stands for its token and all before it.
    pub(crate) rows: Vec<u64>,
    /// Tokens that the last slide left.
    pub(crate) floor: usize,
    /// Whether rows remember what has left with a slide, as keys and values do. Without pages they must not, since there
    /// a conversation that is rebuilt from its window shall be told from one that lived only by what its reply says.
    pub(crate) remembers: bool,
}

impl Context {
    pub(crate) fn new(remembers: bool) -> Self {
        Self { remembers, ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.history.tokens.len()
    }

    /// Reads what was not read yet.
    pub(crate) fn read(&mut self) {
        let mut row = self.rows.last().copied().unwrap_or_default();
        for &token in &self.history.tokens[self.rows.len()..] {
            row = row_behind(row, token);
            self.rows.push(row);
        }
    }

    /// Appends a token; the oldest after the sinks leave where it does not fit.
    pub(crate) fn append(&mut self, commit: &mut Commit, token: TokenId) {
        if self.len() == WINDOW.size {
            self.slide();
            commit.dropped += WINDOW.slide;
        }
        Arc::make_mut(&mut self.history.tokens).push(token);
        commit.appended.push(token);
        self.history.total += 1;
    }

    fn slide(&mut self) {
        self.read();
        let left = WINDOW.sinks..WINDOW.sinks + WINDOW.slide;
        Arc::make_mut(&mut self.history.tokens).drain(left.clone());
        if self.remembers {
            self.rows.drain(left);
            self.rows[WINDOW.sinks..].iter_mut().for_each(|row| *row = mix(*row ^ 1));
        } else {
            self.rows.clear();
            self.read();
        }
        self.floor = self.len();
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.history.truncate(len);
        self.rows.truncate(len);
    }

    fn digest(&mut self) -> u64 {
        self.read();
        self.rows.iter().fold(mix(self.history.total), |sum, row| mix(sum ^ row))
    }

    /// The next token.
    pub(crate) fn next(&mut self, seed: u64) -> Sampled {
        let draw = mix(self.digest() ^ seed);
        // One in ten ends a step.
        let token = if draw.is_multiple_of(10) { END } else { TokenId(1 + (draw % u64::from(VOCAB - 1)) as u32) };
        Sampled { token, logprob: (draw % 1000) as f32, top: Vec::new() }
    }

    /// Does all of a work at once.
    pub(crate) fn perform(&mut self, commit: &mut Commit, work: &Work) -> Outcome {
        let was_empty = self.history.total == 0;
        match work {
            Work::Embed { tokens } => {
                tokens.iter().for_each(|&token| self.append(commit, token));
                Outcome::Embedded(vec![(self.digest() % 4096) as f32])
            }
            Work::Score { tokens } => {
                tokens.iter().for_each(|&token| self.append(commit, token));
                let score = |(place, token): (usize, &TokenId)| (place > 0 || !was_empty).then_some(token.0 as f32);
                self.read();
                Outcome::Scored(tokens.iter().enumerate().map(score).collect())
            }
            Work::Step { tokens, count, seed, .. } => {
                tokens.iter().for_each(|&token| self.append(commit, token));
                let mut sampled: Vec<Sampled> = Vec::new();
                while sampled.len() < *count && !has_ended(&sampled) {
                    let next = self.next(*seed);
                    self.append(commit, next.token);
                    sampled.push(next);
                }
                let stopped = has_ended(&sampled);
                Outcome::Stepped { sampled, stopped }
            }
            Work::Forget => Outcome::Forgotten,
        }
    }
}

/// The row of a token that follows another's row, or none: 0.
pub(crate) fn row_behind(row: u64, token: TokenId) -> u64 {
    mix(row ^ (u64::from(token.0) << 1 | 1 << 40))
}

/// Whether the last token ends a step: as an end token, or, of which the policy knows nothing, at a stop text.
pub(crate) fn has_ended(sampled: &[Sampled]) -> bool {
    sampled.last().is_some_and(|last| last.token == END || last.token.0 % 20 == 7)
}
