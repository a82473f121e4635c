//! What the laws share: tokens, rows that are given again until they are read, and comparisons.

use super::Tolerance;
use motorbrain_actors::{
    engine::{Engine, Pooling, Row, RowOutput, Sampled, Sampling, SlotIndex, Want},
    tokens::TokenId,
};

use crate::model::mix;

/// `count` tokens of the engine's vocabulary; another `seed` gives others.
pub(super) fn tokens(engine: &dyn Engine, seed: u64, count: usize) -> Vec<TokenId> {
    let vocab = engine.info().vocab as u64;
    (0..count as u64).map(|i| TokenId((mix(seed, i) % vocab) as u32)).collect()
}

/// A greedy sample that lists the five most likely tokens.
pub(super) const fn greedy(number: u64) -> Want<'static> {
    Want::Next { sampling: &Sampling::GREEDY, seed: 1, number, top: 5, guide: None }
}

/// A fresh slot.
pub(super) fn open(engine: &mut dyn Engine) -> SlotIndex {
    engine.open().expect("a slot opens")
}

/// One row in a run of its own.
pub(super) fn run_one(engine: &mut dyn Engine, slot: SlotIndex, tokens: &[TokenId], want: Want<'_>) -> RowOutput {
    let mut outputs = engine.run(&[Row { slot, tokens, want }]).expect("the row runs");
    assert_eq!(outputs.len(), 1, "one output for one row");
    outputs.next().expect("there is one")
}

/// Reads all `tokens` in chunks, giving the rest again where a row was taken partly.
pub(super) fn read(engine: &mut dyn Engine, slot: SlotIndex, tokens: &[TokenId], chunk: usize) {
    each_row(engine, slot, tokens, chunk, |_, _, _| Want::Nothing);
}

/// Reads all `tokens` and samples greedily after the last one.
pub(super) fn read_and_sample(engine: &mut dyn Engine, slot: SlotIndex, tokens: &[TokenId], chunk: usize) -> Sampled {
    let ends = |_: &Gathered, rest: usize, given: usize| {
        if given == rest { greedy(0) } else { Want::Nothing }
    };
    each_row(engine, slot, tokens, chunk, ends).sampled.expect("a token is sampled once all are read")
}

/// Each of `tokens` but a context's very first with its log-probability, and the five most likely ones in its place.
pub(super) fn score(
    engine: &mut dyn Engine,
    slot: SlotIndex,
    tokens: &[TokenId],
    chunk: usize,
    fresh: bool,
) -> Vec<Sampled> {
    let unscored = usize::from(fresh);
    let want = |gathered: &Gathered, rest: usize, given: usize| {
        let read = tokens.len() - rest;
        let first = gathered.scores.len() + unscored == read;
        Want::Scores { first, next: tokens.get(read + given).copied(), top: 5 }
    };
    let Gathered { scores, top, .. } = each_row(engine, slot, tokens, chunk, want);
    assert_eq!(scores.len() + unscored, tokens.len(), "one score a token");
    assert_eq!(top.len(), scores.len(), "one list a score");
    let scored = tokens[unscored..].iter().zip(scores).zip(top);
    scored.map(|((&token, logprob), top)| Sampled { token, logprob, top }).collect()
}

/// The sum of the hidden states of `tokens`, and that of the last one.
pub(super) fn hidden(
    engine: &mut dyn Engine,
    slot: SlotIndex,
    tokens: &[TokenId],
    chunk: usize,
    pooling: Pooling,
) -> Vec<f32> {
    each_row(engine, slot, tokens, chunk, |_, _, _| Want::Hidden(pooling)).hidden
}

/// What all rows of a text gave together.
#[derive(Default)]
pub(super) struct Gathered {
    scores: Vec<f32>,
    top: Vec<Vec<(TokenId, f32)>>,
    /// Summed where `Sum` was asked for, the last one under `Last`.
    hidden: Vec<f32>,
    sampled: Option<Sampled>,
}

/// `want` is given what was gathered, how many tokens are left and how many of them this row gives.
fn each_row(
    engine: &mut dyn Engine,
    slot: SlotIndex,
    tokens: &[TokenId],
    chunk: usize,
    want: impl Fn(&Gathered, usize, usize) -> Want<'static>,
) -> Gathered {
    let mut gathered = Gathered::default();
    let mut rest = tokens;
    // Every row makes progress: at worst one takes a token and another does what comes before it.
    for _ in 0..=3 * tokens.len() {
        if rest.is_empty() {
            return gathered;
        }
        let given = &rest[..rest.len().min(chunk)];
        let want = want(&gathered, rest.len(), given.len());
        let output = run_one(engine, slot, given, want);
        assert!(output.taken <= given.len(), "{} of {} tokens taken", output.taken, given.len());
        rest = &rest[output.taken..];
        assert!(output.sampled.is_none() || rest.is_empty(), "sampled before all was taken");
        gathered.sampled = output.sampled;
        gathered.scores.extend(output.scores);
        gathered.top.extend(output.top);
        match want {
            Want::Hidden(Pooling::Sum) if !gathered.hidden.is_empty() => {
                gathered.hidden.iter_mut().zip(output.hidden).for_each(|(sum, value)| *sum += value);
            }
            _ if output.taken == 0 => {
                assert!(output.hidden.is_empty(), "hidden states of no token")
            }
            _ => gathered.hidden = output.hidden,
        }
    }
    panic!("{} of {} tokens are still not taken", rest.len(), tokens.len());
}

/// Compares log-probabilities.
pub(super) fn assert_close(found: &[f32], expected: &[f32], tolerance: Tolerance, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: how many");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (found - expected).abs();
        assert!(apart <= tolerance.logprob, "{what}: at {index} {found}, expected {expected}, {apart} apart");
    }
}

/// Compares samples by the log-probabilities of the most likely tokens: where two are close, which
/// one is the first may differ within the tolerance.
pub(super) fn assert_same(found: &Sampled, expected: &Sampled, tolerance: Tolerance, what: &str) {
    let logprobs = |sampled: &Sampled| -> Vec<f32> { sampled.top.iter().map(|(_, logprob)| *logprob).collect() };
    assert_close(&logprobs(found), &logprobs(expected), tolerance, what);
    assert_close(&[found.logprob], &[expected.logprob], tolerance, what);
}

/// Compares scores as samples are compared.
pub(super) fn assert_all_same(found: &[Sampled], expected: &[Sampled], tolerance: Tolerance, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: how many");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_same(found, expected, tolerance, &format!("{what}, at {index}"));
    }
}

/// Compares hidden states.
pub(super) fn assert_parallel(found: &[f32], expected: &[f32], tolerance: Tolerance, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: how many");
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (found - expected).abs();
        assert!(
            apart <= tolerance.hidden * largest + f32::EPSILON * largest * 8.0,
            "{what}: at {index} {found}, expected {expected}"
        );
    }
}
