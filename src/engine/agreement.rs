//! Whether two engines of one model give the same numbers: both score the same tokens, cut the same way.
//!
//! A prompt read at once, a second chunk on its past, tokens one by one, two conversations in one run,
//! and a context long enough for a rotation or a scale that is slightly wrong to show.

use motorbrain_actors::{
    engine::{Engine, EngineError, Row, SlotIndex, Want},
    tokens::TokenId,
};

use crate::model::{Contract, ElementType};

/// The largest difference allowed of two log-probabilities. f32 sums of some hundred terms in another
/// order differ by 1e-6 a layer, and logits are sums of many layers; what is wrong by a position, a
/// head or a scale differs by tenths.
const TOLERANCE_F32: f32 = 2e-3;
/// f16 rounds to 1e-3 of a number.
const TOLERANCE_F16: f32 = 5e-2;
/// Rounded activations alone make 0.09 on average and up to 0.8 on a trained model, more on an
/// untrained one: a bound that only a wrong graph passes.
const TOLERANCE_ROUNDED: f32 = 2.0;

/// The longest context that is compared, in tokens.
const CONTEXT_MAX: usize = 300;

/// Log-probabilities of fixed tokens, in a fixed order.
///
/// # Errors
/// The engine's own.
pub(super) fn probe(engine: &mut dyn Engine) -> Result<Vec<f32>, EngineError> {
    let (vocab, window) = (engine.info().vocab, engine.info().window.size);
    let token = |index: usize| TokenId(((index * 7919 + 31) % vocab) as u32);
    let tokens: Vec<TokenId> = (0..CONTEXT_MAX.min(window.saturating_sub(1)).max(1)).map(token).collect();
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
    score(&[row(long, first, second.first())])?;
    if !second.is_empty() {
        score(&[row(long, second, single.first()), row(short, first, None)])?;
    }
    for token in single.chunks(1) {
        score(&[row(long, token, None)])?;
    }
    if !rest.is_empty() {
        score(&[row(long, rest, Some(&token(7)))])?;
    }
    engine.close(long);
    engine.close(short);
    Ok(scores)
}

fn row<'a>(slot: SlotIndex, tokens: &'a [TokenId], next: Option<&TokenId>) -> Row<'a> {
    Row { slot, tokens, want: Want::Scores { first: false, next: next.copied() } }
}

/// The largest difference of two probes, infinite where they do not compare.
pub(super) fn difference(one: &[f32], other: &[f32]) -> f32 {
    if one.len() != other.len() {
        return f32::INFINITY;
    }
    let differences = one.iter().zip(other).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |most, x| if x <= most { most } else { x })
}

/// How far two forms of a model may be apart.
pub(super) fn allowed(contract: &Contract) -> f32 {
    let narrow = contract.kv.iter().any(|kv| [kv.key_type, kv.value_type].contains(&ElementType::F16));
    let narrow = narrow || contract.logits_type == ElementType::F16 || contract.hidden_type == Some(ElementType::F16);
    match () {
        () if contract.quantized_activations => TOLERANCE_ROUNDED,
        () if narrow => TOLERANCE_F16,
        () => TOLERANCE_F32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_compare_is_infinitely_far() {
        assert_eq!(difference(&[1.0, 2.0], &[1.0, 2.5]), 0.5);
        assert_eq!(difference(&[1.0], &[1.0, 2.5]), f32::INFINITY);
        assert!(difference(&[f32::NAN, 1.0], &[1.0, 1.0]).is_nan());
    }
}
