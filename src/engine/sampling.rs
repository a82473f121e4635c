//! Choosing the next token from a row of logits. Pure: the random draw is a function of the seed and
//! the token's number, so that a step done again draws the same.
//!
//! Log-probabilities are the model's own: before bias, penalties and all else that [`Sampling`] does.

#[cfg(test)]
mod tests;

use motorbrain_actors::{
    engine::{Sampled, Sampling},
    grammar::Mask,
    tokens::TokenId,
};
use motorbrain_kernels::{
    drawing::{Choice, Drawing},
    penalties::{Counts, Penalties, add_bias},
    ranking::{Ranked, Ranking},
    vector,
};

/// A row of logits that says nothing of what comes next: one is infinite or no number, or all are masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoDistribution;

/// Why no token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoChoice {
    /// See [`NoDistribution`].
    NoDistribution,
    /// The model gives none of those that are allowed a share.
    NothingAllowed,
}

impl From<NoDistribution> for NoChoice {
    fn from(NoDistribution: NoDistribution) -> Self {
        Self::NoDistribution
    }
}

/// The logarithm of the sum of exponentials, the normaliser of a row of logits. A token that is masked has negative
/// infinity; where all have it, one has its opposite, or one is no number, none has a share, nor has the sum a logarithm.
pub(crate) fn log_sum_exp(logits: &[f32]) -> Result<f64, NoDistribution> {
    finite(vector::log_sum_exp(logits))
}

fn finite(normaliser: f64) -> Result<f64, NoDistribution> {
    if normaliser.is_finite() { Ok(normaliser) } else { Err(NoDistribution) }
}

/// Log-probability of `token` in a row of logits with the given normaliser.
pub(crate) fn logprob(logits: &[f32], log_sum_exp: f64, token: TokenId) -> f32 {
    (f64::from(logits[token.0 as usize]) - log_sum_exp) as f32
}

/// Memory of a choice, kept from one to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    ranking: Ranking,
    drawing: Drawing,
    counts: Counts,
    /// Logits with what is added to them and taken off.
    changed: Vec<f32>,
}

/// Chooses the next token at the place `at`, from 0 to 1, of what may be drawn, and lists the `top` most likely ones.
/// `window`: the tokens that the window holds, where the sampling penalises. `allowed`: what may be drawn.
///
/// # Errors
/// The row is none, or nothing of it is allowed.
pub(crate) fn sample(
    logits: &[f32],
    sampling: &Sampling,
    at: f64,
    top: usize,
    window: &[u32],
    allowed: Option<&Mask>,
    Scratch { ranking, drawing, counts, changed }: &mut Scratch,
) -> Result<Sampled, NoChoice> {
    let mut row = ranking.of(logits);
    let most = row.most();
    let sum = vector::sum_exp_below(logits, most, 1.0);
    let normaliser = finite(f64::from(most) + sum.ln())?;
    let top = listed(&mut row, logits, normaliser, top);
    let token = if is_plain(sampling) && allowed.is_none() {
        // Of temperature 1 the mass is known.
        choose(row, sampling, at, (sampling.temperature == 1.0).then_some(sum), drawing)
    } else {
        changed.clear();
        changed.extend_from_slice(logits);
        change(changed, sampling, window, counts);
        allowed.into_iter().for_each(|allowed| keep_only(changed, allowed));
        let row = ranking.of(changed);
        if row.most() == f32::NEG_INFINITY {
            return Err(NoChoice::NothingAllowed);
        }
        choose(row, sampling, at, None, drawing)
    };
    Ok(Sampled { token, logprob: logprob(logits, normaliser, token), top })
}

/// So many of the most likely tokens of a row of logits with the given normaliser, with their log-probabilities, best first.
pub(crate) fn likeliest(logits: &[f32], log_sum_exp: f64, count: usize, scratch: &mut Scratch) -> Vec<(TokenId, f32)> {
    listed(&mut scratch.ranking.of(logits), logits, log_sum_exp, count)
}

fn listed(row: &mut Ranked<'_>, logits: &[f32], normaliser: f64, count: usize) -> Vec<(TokenId, f32)> {
    let with = |token: &u32| (TokenId(*token), logprob(logits, normaliser, TokenId(*token)));
    row.best_in_order(count).iter().map(with).collect()
}

/// Whether a choice is among the model's own logits.
fn is_plain(sampling: &Sampling) -> bool {
    sampling.logit_bias.is_empty() && !sampling.penalises()
}

/// Adds the bias, then takes off the penalties.
fn change(logits: &mut [f32], sampling: &Sampling, window: &[u32], counts: &mut Counts) {
    for (token, bias) in &*sampling.logit_bias {
        add_bias(&mut logits[token.0 as usize], *bias);
    }
    let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } = *sampling;
    let penalties =
        Penalties { repetition: repetition_penalty, presence: presence_penalty, frequency: frequency_penalty };
    penalties.apply(logits, window, counts);
}

/// Masks what is not allowed.
fn keep_only(logits: &mut [f32], allowed: &Mask) {
    let mut words = allowed.words().iter();
    for logits in logits.chunks_mut(u32::BITS as usize) {
        let word = words.next().copied().unwrap_or(0);
        for (bit, logit) in logits.iter_mut().enumerate() {
            if word >> bit & 1 == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

/// The largest of a row, or one that is drawn. `mass`: the sum of all weights, where it is known.
fn choose(row: Ranked<'_>, sampling: &Sampling, at: f64, mass: Option<f64>, drawing: &mut Drawing) -> TokenId {
    let Sampling { temperature, top_k, top_p, min_p, .. } = *sampling;
    TokenId(match temperature {
        0.0 => row.largest(),
        _ => drawing.draw(row, &Choice { temperature, top_k, top_p, min_p }, at, mass),
    })
}

/// A number in `[0, 1)` from a seed and a token's number since the last reset: SplitMix64 (Steele, Lea and Flood 2014)
/// of their sum in its own sequence, 53 bits of it.
pub(crate) fn uniform(seed: u64, number: u64) -> f64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    // The seed is mixed first, so that neighbouring seeds are not shifted copies of each other.
    let z = mix(mix(seed).wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    (z >> 11) as f64 / (1u64 << 53) as f64
}
