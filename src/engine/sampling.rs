//! Choosing the next token from a row of logits. Pure: the random draw is a function of the seed and
//! the token's number, so that a step done again draws the same.
//!
//! Log-probabilities are the model's own: before temperature, top-k and top-p.

use motorbrain_actors::{
    engine::{Sampled, Sampling},
    tokens::TokenId,
};
use motorbrain_kernels::{
    ranking::{self, Ranking},
    vector,
};

/// The logarithm of the sum of exponentials, the normaliser of a row of logits.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    vector::log_sum_exp(logits)
}

/// Log-probability of `token` in a row of logits with the given normaliser.
pub(crate) fn logprob(logits: &[f32], log_sum_exp: f64, token: TokenId) -> f32 {
    (f64::from(logits[token.0 as usize]) - log_sum_exp) as f32
}

/// Whether logits say what comes next. A token that is masked has negative infinity; where all have it, one has its
/// opposite, or one is no number, none has a share.
pub(crate) fn is_distribution(logits: &[f32]) -> bool {
    !vector::has_nan(logits) && vector::most(logits).is_finite()
}

/// Memory of a draw, kept from one to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    ranking: Ranking,
    /// The tokens that may be drawn, the best first, with their weights.
    weighted: Vec<(TokenId, f64)>,
}

/// Draws the next token. `seed` and `number` (of the token since the last reset) determine the draw.
pub(crate) fn sample(
    logits: &[f32],
    sampling: &Sampling,
    seed: u64,
    number: u64,
    top: usize,
    scratch: &mut Scratch,
) -> Sampled {
    let normaliser = log_sum_exp(logits);
    let token = if sampling.temperature == 0.0 {
        TokenId(ranking::largest(logits))
    } else {
        draw(logits, sampling, uniform(seed, number), scratch)
    };
    let top = scratch.ranking.best(logits, top);
    Sampled {
        token,
        logprob: logprob(logits, normaliser, token),
        top: top.iter().map(|t| (TokenId(*t), logprob(logits, normaliser, TokenId(*t)))).collect(),
    }
}

/// Tokens that are ranked first where all may be drawn: mostly they have enough of the mass, and ranking the whole
/// vocabulary took longer than a small model's run.
const RANKED_FIRST: usize = 64;

/// The token at the place `at`, from 0 to 1, of what may be drawn: the `top_k` best, and of those the smallest set
/// whose share reaches `top_p` (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"), the best first.
fn draw(logits: &[f32], sampling: &Sampling, at: f64, Scratch { ranking, weighted }: &mut Scratch) -> TokenId {
    let (all, max) = (logits.len(), vector::most(logits));
    let temperature = f64::from(sampling.temperature);
    let weight = |token: u32| ((f64::from(logits[token as usize]) - f64::from(max)) / temperature).exp();
    let (kept, mass) = match sampling.top_k {
        0 => (all, Some(vector::sum_exp_below(logits, max, sampling.temperature.recip()))),
        kept => (kept.min(all), None),
    };
    let mut count = if mass.is_some() { RANKED_FIRST.min(kept) } else { kept };
    loop {
        weighted.clear();
        weighted.extend(ranking.best(logits, count).iter().map(|token| (TokenId(*token), weight(*token))));
        // Where all are ranked their own sum is the mass: the quick one is off by some 1e-6, so that a share may lie
        // behind the last token.
        let mass = mass.filter(|_| count < kept).unwrap_or_else(|| weighted.iter().map(|(_, weight)| weight).sum());
        match pick(weighted, mass, f64::from(sampling.top_p), at) {
            Some(token) => return token,
            None if count == kept => return last_possible(weighted),
            None => count = (count * 16).min(kept),
        }
    }
}

/// The last token of some weight: where rounding has left a last bit of the mass.
fn last_possible(weighted: &[(TokenId, f64)]) -> TokenId {
    weighted.iter().rfind(|(_, weight)| *weight > 0.0).unwrap_or(&weighted[0]).0
}

/// The token at the place `at` of the nucleus, which is all that is left of the tokens then; `None` where these, the
/// best ones of all whose weights make `mass`, do not reach so far.
fn pick(weighted: &mut Vec<(TokenId, f64)>, mut mass: f64, top_p: f64, at: f64) -> Option<TokenId> {
    if top_p < 1.0 {
        let (last, nucleus) = reach(weighted, top_p * mass)?;
        weighted.truncate(last + 1);
        mass = nucleus;
    }
    reach(weighted, at * mass).map(|(drawn, _)| weighted[drawn].0)
}

/// The first token at which the cumulated weights are `enough`, and what they are there.
fn reach(weighted: &[(TokenId, f64)], enough: f64) -> Option<(usize, f64)> {
    let mut sum = 0.0;
    let cumulated = weighted.iter().map(|(_, weight)| {
        sum += weight;
        sum
    });
    cumulated.enumerate().find(|(_, sum)| *sum >= enough)
}

/// A number in `[0, 1)` from a seed and a token's number: SplitMix64 (Steele, Lea and Flood 2014) of
/// their sum in its own sequence, 53 bits of it.
fn uniform(seed: u64, number: u64) -> f64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    // The seed is mixed first, so that neighbouring seeds are not shifted copies of each other.
    let z = mix(mix(seed).wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    (z >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 3.0, 2.0, -1.0];

    fn sample_once(logits: &[f32], sampling: &Sampling, seed: u64, number: u64, top: usize) -> Sampled {
        sample(logits, sampling, seed, number, top, &mut Scratch::default())
    }

    #[test]
    fn greedy_takes_the_smallest_of_the_best() {
        let sampled = sample_once(&LOGITS, &Sampling::GREEDY, 7, 7, 3);
        assert_eq!(sampled.token, TokenId(1));
        assert_eq!(sampled.top.iter().map(|(t, _)| t.0).collect::<Vec<_>>(), [1, 2, 3]);
        let total: f32 = sample_once(&LOGITS, &Sampling::GREEDY, 0, 0, 5).top.iter().map(|(_, l)| l.exp()).sum();
        assert!((total - 1.0).abs() < 1e-6, "{total}");
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let kept = |top_k, top_p| {
            let mut scratch = Scratch::default();
            sample(&LOGITS, &Sampling { temperature: 1.0, top_k, top_p }, 0, 0, 0, &mut scratch);
            scratch.weighted.iter().map(|(token, _)| token.0).collect::<Vec<_>>()
        };
        assert_eq!(kept(0, 1.0), [1, 2, 3, 0, 4]);
        assert_eq!(kept(3, 1.0), [1, 2, 3]);
        assert_eq!(kept(0, 1e-6), [1]);
        // The two best have 0.793 of the mass.
        assert_eq!(kept(0, 0.79), [1, 2]);
        assert_eq!(kept(0, 0.80), [1, 2, 3]);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let sampling = Sampling { temperature: 0.5, top_k: 0, top_p: 1.0 };
        let mut counts = [0usize; 5];
        let draws = 20_000;
        for number in 0..draws {
            counts[sample_once(&LOGITS, &sampling, 42, number, 0).token.0 as usize] += 1;
        }
        let scaled: Vec<f64> = LOGITS.iter().map(|l| f64::from(*l / 0.5).exp()).collect();
        let sum: f64 = scaled.iter().sum();
        for (count, weight) in counts.iter().zip(&scaled) {
            let expected = weight / sum;
            // Four standard deviations of a binomial share.
            let slack = 4.0 * (expected * (1.0 - expected) / draws as f64).sqrt() + 1e-4;
            assert!((*count as f64 / draws as f64 - expected).abs() < slack, "{counts:?}");
        }
    }

    #[test]
    fn a_long_vocabulary_is_drawn_from_as_if_all_were_ranked() {
        // From steep to flat: what is drawn lies among the first ranked, among more of them, and far behind.
        for steepness in [3.0, 0.3, 0.01, 0.0] {
            let logits: Vec<f32> = (0..5000).map(|i| -steepness * ((i * 2657) % 5000) as f32).collect();
            for (top_k, top_p) in [(0, 1.0), (0, 0.9), (3000, 0.9)] {
                let sampling = Sampling { temperature: 0.7, top_k, top_p };
                let mut ranked: Vec<(usize, f64)> =
                    logits.iter().enumerate().map(|(i, x)| (i, (f64::from(*x) / f64::from(0.7f32)).exp())).collect();
                ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                ranked.truncate(if top_k == 0 { logits.len() } else { top_k });
                let cumulated = |ranked: &[(usize, f64)], share: f64| {
                    let enough = share * ranked.iter().map(|(_, w)| w).sum::<f64>();
                    let mut sum = 0.0;
                    let reached = |(_, w): &(usize, f64)| {
                        sum += w;
                        sum >= enough
                    };
                    ranked.iter().position(reached).unwrap_or(ranked.len() - 1)
                };
                ranked.truncate(cumulated(&ranked, f64::from(top_p)) + 1);
                let scratch = &mut Scratch::default();
                for at in [0.0, 0.001, 0.25, 0.5, 0.75, 0.95] {
                    let place = cumulated(&ranked, at);
                    let found = draw(&logits, &sampling, at, scratch).0 as usize;
                    // The mass is a sum of f32's exponentials, good to some 1e-6: by so much a border may move.
                    let near = place.saturating_sub(1)..=place + 1;
                    let drawn = ranked.iter().position(|(token, _)| *token == found);
                    assert!(
                        drawn.is_some_and(|p| near.contains(&p)),
                        "{steepness} {top_k} {top_p} {at}: {drawn:?} {place}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_draw_depends_on_seed_and_number_alone() {
        let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 };
        let run = |seed| (0..64).map(|n| sample_once(&LOGITS, &sampling, seed, n, 0).token.0).collect::<Vec<_>>();
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert_ne!(run(1)[1..], run(2)[..63], "neighbouring seeds are no shifted copies");
    }

    #[test]
    fn the_ends_of_the_mass_are_tokens_that_may_be_drawn() {
        let scratch = &mut Scratch::default();
        // The quick sum of the masses is larger than theirs by more than what `top_p` leaves.
        let mut peaked = vec![-30.0; 1000];
        peaked[500] = 30.0;
        let nearly_all = Sampling { temperature: 5.0, top_k: 0, top_p: 0.999_999 };
        for at in [0.0, 0.2, 0.5, 0.77] {
            assert_eq!(draw(&peaked, &nearly_all, at, scratch), TokenId(500), "{at}");
        }
        // What is masked has no weight, and is drawn at no place.
        let masked: Vec<f32> = (0..4000).map(|i| if i < 3000 { 0.0 } else { f32::NEG_INFINITY }).collect();
        let all = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 };
        for gap in [1e-7, 1e-8, 1e-10, f64::EPSILON / 2.0] {
            let TokenId(drawn) = draw(&masked, &all, 1.0 - gap, scratch);
            assert!(drawn < 3000, "{gap}: {drawn}");
        }
        // Its inverse is infinite in f32, and the quick sum no number: all are ranked then.
        let coldest = Sampling { temperature: 1e-39, top_k: 0, top_p: 0.9 };
        assert_eq!(draw(&peaked, &coldest, 0.99, scratch), TokenId(500));
    }

    #[test]
    fn masked_tokens_are_fine_as_long_as_one_is_left() {
        const MASKED: f32 = f32::NEG_INFINITY;
        assert!(is_distribution(&[MASKED, 0.0, MASKED]) && is_distribution(&[-1e30]));
        for damaged in [[MASKED; 3], [0.0, f32::INFINITY, 1.0], [0.0, f32::NAN, MASKED]] {
            assert!(!is_distribution(&damaged), "{damaged:?}");
        }
    }

    #[test]
    fn extreme_logits_stay_finite() {
        let logits = [f32::NEG_INFINITY, 1e30, -1e30];
        let sampled = sample_once(&logits, &Sampling { temperature: 1e-6, top_k: 0, top_p: 0.9 }, 3, 3, 2);
        assert_eq!((sampled.token, sampled.logprob), (TokenId(1), 0.0));
    }
}
