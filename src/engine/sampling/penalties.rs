//! What a sampling adds to logits and takes off them: the bias of named tokens, then the penalties of those that the
//! window holds. Each is defined at [`Sampling`]'s own fields; they work in the order of those.
//!
//! A token that the model masks stays masked, and no finite logit becomes infinite: what may be drawn has a share.

use motorbrain_actors::{engine::Sampling, tokens::TokenId};

/// Memory for logits as they are changed.
#[derive(Default)]
pub(super) struct Penalties {
    changed: Vec<f32>,
    /// How often the window holds each token; all zero between two calls, so that nothing is cleared that was not used.
    counts: Vec<u32>,
}

impl Penalties {
    /// The row as it is drawn from. `window`: the tokens that the window holds.
    pub(super) fn apply(&mut self, logits: &[f32], sampling: &Sampling, window: &[TokenId]) -> &[f32] {
        let Self { changed, counts } = self;
        changed.clear();
        changed.extend_from_slice(logits);
        for (token, bias) in &*sampling.logit_bias {
            change(&mut changed[token.0 as usize], |logit| logit + bias);
        }
        if sampling.penalises() {
            counts.resize(logits.len(), 0);
            for token in window {
                counts[token.0 as usize] += 1;
            }
            for token in window {
                let count = std::mem::take(&mut counts[token.0 as usize]);
                // Its first place in the window has taken the whole count.
                if count > 0 {
                    change(&mut changed[token.0 as usize], |logit| penalised(logit, sampling, count));
                }
            }
        }
        changed
    }
}

/// The logit of a token that the window holds `count` times.
fn penalised(logit: f32, sampling: &Sampling, count: u32) -> f32 {
    let repeated = if logit > 0.0 { logit / sampling.repetition_penalty } else { logit * sampling.repetition_penalty };
    repeated - sampling.frequency_penalty * count as f32 - sampling.presence_penalty
}

/// Changes a logit that is not masked.
fn change(logit: &mut f32, to: impl FnOnce(f32) -> f32) {
    if *logit > f32::NEG_INFINITY {
        *logit = to(*logit).clamp(f32::MIN, f32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sampling: &Sampling, window: &[u32], expected: [f32; 4]) {
        let logits = [2.0, -2.0, 0.0, f32::NEG_INFINITY];
        let window: Vec<TokenId> = window.iter().copied().map(TokenId).collect();
        let mut penalties = Penalties::default();
        // Twice: nothing is left of the first time.
        for _ in 0..2 {
            assert_eq!(penalties.apply(&logits, sampling, &window), expected, "{sampling:?} {window:?}");
        }
    }

    #[test]
    fn each_penalty_is_as_its_source_defines_it() {
        const MASKED: f32 = f32::NEG_INFINITY;
        let off = Sampling::GREEDY;
        let repetition = Sampling { repetition_penalty: 2.0, ..off.clone() };
        check(&repetition, &[], [2.0, -2.0, 0.0, MASKED]);
        check(&repetition, &[0, 0, 1, 2, 3], [1.0, -4.0, 0.0, MASKED]);
        let presence = Sampling { presence_penalty: 0.5, ..off.clone() };
        check(&presence, &[0, 0, 3], [1.5, -2.0, 0.0, MASKED]);
        let frequency = Sampling { frequency_penalty: 0.5, ..off.clone() };
        check(&frequency, &[0, 2, 0, 3, 0], [0.5, -2.0, -0.5, MASKED]);
        let bias =
            Sampling { logit_bias: vec![(TokenId(2), 5.0), (TokenId(3), 100.0), (TokenId(0), -100.0)].into(), ..off };
        check(&bias, &[0, 1, 2, 3], [-98.0, -2.0, 5.0, MASKED]);
    }

    #[test]
    fn the_bias_comes_before_the_penalties() {
        let all = Sampling {
            repetition_penalty: 4.0,
            presence_penalty: 1.0,
            frequency_penalty: 0.25,
            logit_bias: vec![(TokenId(0), 6.0), (TokenId(1), 10.0)].into(),
            ..Sampling::GREEDY
        };
        check(&all, &[1, 0, 0], [8.0 / 4.0 - 0.5 - 1.0, 8.0 / 4.0 - 0.25 - 1.0, 0.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn no_logit_leaves_the_finite_numbers() {
        let huge = [f32::MAX, f32::MIN, 0.0];
        let all = [TokenId(0), TokenId(1), TokenId(2)];
        let strong = Sampling { repetition_penalty: 1e-30, presence_penalty: -2.0, ..Sampling::GREEDY };
        assert_eq!(Penalties::default().apply(&huge, &strong, &all), [f32::MAX, 2.0 + f32::MIN * 1e-30, 2.0]);
        let weak = Sampling { repetition_penalty: 1e30, frequency_penalty: 2.0, ..Sampling::GREEDY };
        assert_eq!(Penalties::default().apply(&huge, &weak, &all), [f32::MAX / 1e30 - 2.0, f32::MIN, -2.0]);
    }
}
