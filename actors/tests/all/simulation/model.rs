//! A language model in one line of arithmetic, and a conversation with it as nobody but its caller
//! sees it: a window of tokens. The simulated actors compute with it, and so does the check of what
//! they answered.

use std::sync::Arc;

use motorbrain_actors::{
    engine::{EngineInfo, Sampled, Window},
    job::{Commit, History, Outcome, Work},
    tokens::TokenId,
};

use super::rng::mix;

pub(crate) const VOCAB: u32 = 100;
pub(crate) const END: TokenId = TokenId(0);
pub(crate) const WINDOW: Window = Window { size: 12, sinks: 2, slide: 3, slides: true };

pub(crate) fn info() -> EngineInfo {
    EngineInfo {
        layers: 1,
        hidden: 1,
        vocab: VOCAB as usize,
        inputs: 1,
        embeds: true,
        window: WINDOW,
        end_tokens: vec![END],
        kv_bytes_per_token: 1,
        pages: None,
    }
}

/// A number for what the model sees, and for how long the conversation has been going on.
fn digest(history: &History) -> u64 {
    history.tokens.iter().fold(mix(history.total), |sum, token| mix(sum ^ u64::from(token.0)))
}

/// The next token.
pub(crate) fn next(history: &History, seed: u64) -> Sampled {
    let draw = mix(digest(history) ^ seed);
    // One in ten ends a step.
    let token = if draw.is_multiple_of(10) { END } else { TokenId(1 + (draw % u64::from(VOCAB - 1)) as u32) };
    Sampled { token, logprob: (draw % 1000) as f32, top: Vec::new() }
}

/// Appends a token; the oldest after the sinks leave where it does not fit.
pub(crate) fn append(history: &mut History, commit: &mut Commit, token: TokenId) {
    let tokens = Arc::make_mut(&mut history.tokens);
    if tokens.len() == WINDOW.size {
        tokens.drain(WINDOW.sinks..WINDOW.sinks + WINDOW.slide);
        commit.dropped += WINDOW.slide;
    }
    tokens.push(token);
    commit.appended.push(token);
    history.total += 1;
}

/// What a vector of the last token would be.
pub(crate) fn vector(history: &History) -> Vec<f32> {
    vec![(digest(history) % 4096) as f32]
}

/// Does all of a work at once.
pub(crate) fn perform(history: &mut History, commit: &mut Commit, work: &Work) -> Outcome {
    let was_empty = history.total == 0;
    match work {
        Work::Embed { tokens } => {
            tokens.iter().for_each(|&token| append(history, commit, token));
            Outcome::Embedded(vector(history))
        }
        Work::Score { tokens } => {
            tokens.iter().for_each(|&token| append(history, commit, token));
            let score = |(place, token): (usize, &TokenId)| (place > 0 || !was_empty).then_some(token.0 as f32);
            Outcome::Scored(tokens.iter().enumerate().map(score).collect())
        }
        Work::Step { tokens, count, seed, .. } => {
            tokens.iter().for_each(|&token| append(history, commit, token));
            let mut sampled: Vec<Sampled> = Vec::new();
            while sampled.len() < *count && !has_ended(&sampled) {
                let next = next(history, *seed);
                append(history, commit, next.token);
                sampled.push(next);
            }
            let stopped = has_ended(&sampled);
            Outcome::Stepped { sampled, stopped }
        }
        Work::Forget => Outcome::Forgotten,
    }
}

/// Whether the last token ends a step: as an end token, or, of which the policy knows nothing, at a stop text.
pub(crate) fn has_ended(sampled: &[Sampled]) -> bool {
    sampled.last().is_some_and(|last| last.token == END || last.token.0 % 20 == 7)
}
