//! Whether two forms of one model give the same numbers.
//!
//! Two engines score the same tokens, cut the same way: a prompt read at once, a second chunk on its past, tokens one
//! by one, two conversations in one run, and a context long enough for a rotation or a scale that is slightly wrong to
//! show. Tests compare rewritten graphs more closely, output by output (`graphs.rs`).

#[cfg(test)]
mod graphs;

use motorbrain_actors::{
    engine::{Engine, EngineError, Row, SlotIndex, Want},
    tokens::TokenId,
};
use motorbrain_kernels::linear::Precision;

use crate::model::{Contract, ElementType};

/// The largest difference allowed of two log-probabilities. f32 sums of some hundred terms in another
/// order differ by 1e-6 a layer, and logits are sums of many layers; what is wrong by a position, a
/// head or a scale differs by tenths.
const TOLERANCE_F32: f32 = 2e-3;
/// Products with weights of few bits round activations to 16 bits, which is 1e-5 a product.
const TOLERANCE_WORDS: f32 = 2e-2;
/// f16 rounds to 1e-3 of a number.
const TOLERANCE_F16: f32 = 5e-2;
/// Rounded activations alone make 0.09 on average on a trained model (and up to 0.8, so that the largest
/// difference says nothing); a wrong graph makes several on average.
const TOLERANCE_ROUNDED_MEAN: f32 = 0.35;

/// The longest context that is compared, in tokens; more where layers look back only so far, which would not show.
const CONTEXT_MAX: usize = 300;
/// What is compared beyond such a window.
const BEYOND_WINDOW: usize = 40;

/// Tokens of the long context's end that are compared in one run.
const SCORED_MAX: usize = 256;

/// Log-probabilities of fixed tokens, in a fixed order. `local_window`: the most keys that some layer sees.
///
/// # Errors
/// The engine's own.
pub(super) fn probe(engine: &mut dyn Engine, local_window: Option<usize>) -> Result<Vec<f32>, EngineError> {
    let (vocab, window) = (engine.info().vocab, engine.info().window.size);
    // A look back that is longer than the window never shows.
    let local = local_window.filter(|local| *local < window);
    let context = local.map_or(CONTEXT_MAX, |local| CONTEXT_MAX.max(local.saturating_add(BEYOND_WINDOW)));
    let token = |index: usize| TokenId(((index * 7919 + 31) % vocab) as u32);
    let tokens: Vec<TokenId> = (0..context.min(window.saturating_sub(1)).max(1)).map(token).collect();
    let (long, short) = (engine.open()?, engine.open()?);
    let mut scores = Vec::new();
    let (first, rest) = tokens.split_at(tokens.len().min(40));
    let (second, rest) = rest.split_at(rest.len().min(9));
    let (single, rest) = rest.split_at(rest.len().min(3));
    let mut score = |rows: &[Row<'_>]| -> Result<(), EngineError> {
        for output in engine.run(rows)? {
            scores.extend(output.scores);
        }
        Ok(())
    };
    // The shortest windows leave no second part: then what follows is not read, only predicted.
    score(&[row(long, first, Some(second.first().unwrap_or(&token(7))))])?;
    if !second.is_empty() {
        score(&[row(long, second, single.first()), row(short, first, None)])?;
    }
    for token in single.chunks(1) {
        score(&[row(long, token, None)])?;
    }
    // Logits of all that a long look back takes would be gigabytes.
    let (read, rest) = rest.split_at(rest.len().saturating_sub(SCORED_MAX));
    for tokens in read.chunks(SCORED_MAX) {
        score(&[Row { slot: long, tokens, want: Want::Nothing }])?;
    }
    if !rest.is_empty() {
        score(&[row(long, rest, Some(&token(7)))])?;
    }
    engine.close(long);
    engine.close(short);
    Ok(scores)
}

fn row<'a>(slot: SlotIndex, tokens: &'a [TokenId], next: Option<&TokenId>) -> Row<'a> {
    Row { slot, tokens, want: Want::Scores { first: false, next: next.copied(), top: 0 } }
}

/// How far two probes are apart, and how far two forms of the model may be: the largest difference, or
/// the mean one where activations are rounded to 8 bits. Infinite where they do not compare. `products`:
/// what those of our own round activations to, where there are any.
pub(super) fn compare(one: &[f32], other: &[f32], contract: &Contract, products: Option<Precision>) -> (f32, f32) {
    if contract.quantized_activations || products == Some(Precision::Bytes) {
        (differences(one, other).iter().sum::<f32>() / one.len().max(1) as f32, TOLERANCE_ROUNDED_MEAN)
    } else {
        let allowed = match products {
            _ if is_narrow(contract) => TOLERANCE_F16,
            Some(_) => TOLERANCE_WORDS,
            None => TOLERANCE_F32,
        };
        (largest_difference(one, other), allowed)
    }
}

/// The largest difference of two lists: infinite where they do not compare.
fn largest_difference(one: &[f32], other: &[f32]) -> f32 {
    differences(one, other).into_iter().fold(0.0, f32::max)
}

/// What each number differs by: infinitely where one is none, and where there are not as many of each.
fn differences(one: &[f32], other: &[f32]) -> Vec<f32> {
    if one.is_empty() || one.len() != other.len() {
        return vec![f32::INFINITY];
    }
    // A number that is none is as far from everything as can be; two equal infinities are equal.
    let difference = |(a, b): (&f32, &f32)| match (a - b).abs() {
        _ if a == b => 0.0,
        x if x.is_nan() => f32::INFINITY,
        x => x,
    };
    one.iter().zip(other).map(difference).collect()
}

/// Whether anything is kept in f16.
fn is_narrow(contract: &Contract) -> bool {
    let kv = contract.kv.iter().flat_map(|kv| [kv.key_type, kv.value_type]);
    kv.chain([contract.logits_type]).chain(contract.hidden_type).any(|element| element == ElementType::F16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_compare_is_infinitely_far() {
        assert_eq!(differences(&[1.0, 2.0], &[1.0, 2.5]), [0.0, 0.5]);
        assert_eq!(differences(&[1.0], &[1.0, 2.5]), [f32::INFINITY]);
        assert_eq!(differences(&[], &[]), [f32::INFINITY]);
        let (nan, inf) = (f32::NAN, f32::NEG_INFINITY);
        assert_eq!(differences(&[5.0, nan, inf, inf], &[0.0, 0.0, inf, 0.0]), [5.0, f32::INFINITY, 0.0, f32::INFINITY]);
    }

    #[test]
    fn the_largest_difference_is_found() {
        assert_eq!(largest_difference(&[1.0, 2.0], &[1.5, 2.0]), 0.5);
        assert_eq!(largest_difference(&[1.0], &[1.0, 2.0]), f32::INFINITY);
        assert_eq!(largest_difference(&[1.0], &[f32::NAN]), f32::INFINITY);
        assert_eq!(largest_difference(&[f32::NEG_INFINITY], &[f32::NEG_INFINITY]), 0.0);
    }
}
