//! The fake's model: a running hash of the context's tokens stands for its keys and values, and from
//! the hash come logits and hidden states. Pure, and public, so that answers can be told from what was asked.

use motorbrain_actors::{
    engine::{Sampled, Sampling},
    grammar::Mask,
    tokens::TokenId,
};

use super::sampling::probabilities;

/// One step of splitmix64 over both numbers.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(b).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The state of a context that a token was appended to: a number in the place of its keys and values. That of an empty
/// context is 0. A context that has slid is as if it began with what is left of it.
pub fn state_behind(state: u64, token: TokenId) -> u64 {
    mix(state, u64::from(token.0) + 1)
}

/// The random number with which a token is drawn; `number`: how many tokens the conversation had before it.
pub fn draw(seed: u64, number: u64) -> u64 {
    mix(seed, number)
}

/// Uniform in [0, 1).
fn unit(x: u64) -> f64 {
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

/// The hidden state after a context whose hash is `state`, `[width]`, each in [-1, 1).
pub fn hidden(state: u64, width: usize) -> impl Iterator<Item = f32> {
    (0..width as u64).map(move |i| (2.0 * unit(mix(state ^ 0x5bd1, i)) - 1.0) as f32)
}

/// Log-probabilities of the next token after a context whose hash is `state`, `[vocab]`.
pub fn logprobs(state: u64, vocab: usize) -> Vec<f64> {
    let logits: Vec<f64> = (0..vocab as u64).map(|i| 8.0 * unit(mix(state, i))).collect();
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.into_iter().map(|logit| logit - sum.ln()).collect()
}

/// Draws the next token; `draw` is a random number, `window` what the context holds, `allowed` what may be drawn.
pub fn sample(
    logprobs: &[f64],
    sampling: &Sampling,
    window: &[TokenId],
    draw: u64,
    top: usize,
    allowed: Option<&Mask>,
) -> Sampled {
    let is_allowed = |token: usize| allowed.is_none_or(|allowed| allowed.allows(TokenId(token as u32)));
    let masked = |(token, &logprob): (usize, &f64)| if is_allowed(token) { logprob } else { f64::NEG_INFINITY };
    let masked: Vec<f64> = logprobs.iter().enumerate().map(masked).collect();
    let chosen = drawn(&probabilities(&masked, sampling, window), unit(draw));
    Sampled { token: TokenId(chosen as u32), logprob: logprobs[chosen] as f32, top: likeliest(logprobs, top) }
}

/// So many of the most likely tokens with their log-probabilities, best first.
pub fn likeliest(logprobs: &[f64], count: usize) -> Vec<(TokenId, f32)> {
    let mut order: Vec<usize> = (0..logprobs.len()).collect();
    // Stable, so that the smallest id wins a tie.
    order.sort_by(|&a, &b| logprobs[b].total_cmp(&logprobs[a]));
    order.iter().take(count).map(|&index| (TokenId(index as u32), logprobs[index] as f32)).collect()
}

/// The token at the place `at` of the probabilities.
fn drawn(probabilities: &[f64], at: f64) -> usize {
    let mut sum = 0.0;
    let reached = probabilities.iter().position(|probability| {
        sum += probability;
        sum > at
    });
    // Rounding may leave a rest: the last that can be drawn takes it.
    reached.or_else(|| probabilities.iter().rposition(|probability| *probability > 0.0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one() {
        let sum: f64 = logprobs(7, 64).iter().map(|logprob| logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn a_nucleus_of_one_is_greedy() {
        let logprobs = logprobs(7, 64);
        let greedy = sample(&logprobs, &Sampling::GREEDY, &[], 0, 3, None);
        assert_eq!(greedy.top[0].0, greedy.token);
        for draw in 0..20 {
            let narrow = Sampling { temperature: 1.0, top_p: 1e-6, ..Sampling::GREEDY };
            assert_eq!(sample(&logprobs, &narrow, &[], mix(draw, 1), 3, None), greedy);
            let one = Sampling { temperature: 2.0, top_k: 1, ..Sampling::GREEDY };
            assert_eq!(sample(&logprobs, &one, &[], mix(draw, 2), 3, None), greedy);
        }
    }

    #[test]
    fn different_draws_give_different_tokens() {
        let hot = Sampling { temperature: 1.0, ..Sampling::GREEDY };
        let logprobs = logprobs(7, 64);
        let drawn: std::collections::BTreeSet<_> =
            (0..50).map(|draw| sample(&logprobs, &hot, &[], mix(draw, 3), 0, None).token).collect();
        assert!(drawn.len() > 5, "{drawn:?}");
    }
}
