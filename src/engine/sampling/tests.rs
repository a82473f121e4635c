//! Choices against what a sampling means (`motorbrain_testing::probabilities`), written there in 64 bits by sorting.

use motorbrain_testing::probabilities;
use proptest::prelude::*;

use super::*;

const LOGITS: [f32; 5] = [1.0, 3.0, 3.0, 2.0, -1.0];
const MASKED: f32 = f32::NEG_INFINITY;
const HOT: Sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };

fn sample_once(logits: &[f32], sampling: &Sampling, at: f64, top: usize) -> Sampled {
    sample(logits, sampling, at, top, &[], None, &mut Scratch::default()).expect("a distribution")
}

#[test]
fn greedy_takes_the_smallest_of_the_best() {
    let sampled = sample_once(&LOGITS, &Sampling::GREEDY, 0.5, 3);
    assert_eq!(sampled.token, TokenId(1));
    assert_eq!(sampled.top.iter().map(|(t, _)| t.0).collect::<Vec<_>>(), [1, 2, 3]);
    let total: f32 = sample_once(&LOGITS, &Sampling::GREEDY, 0.0, 5).top.iter().map(|(_, l)| l.exp()).sum();
    assert!((total - 1.0).abs() < 1e-6, "{total}");
}

#[test]
fn greedy_heeds_bias_and_penalties_and_logprobs_do_not() {
    let plain = sample_once(&LOGITS, &Sampling::GREEDY, 0.0, 5);
    let check = |sampling: Sampling, window: &[u32], expected: u32| {
        let found = sample(&LOGITS, &sampling, 0.0, 5, window, None, &mut Scratch::default()).expect("a distribution");
        let own = plain.top.iter().find(|(token, _)| token.0 == expected).expect("all are listed");
        assert_eq!((found.token, found.logprob, &found.top), (own.0, own.1, &plain.top), "{sampling:?}");
    };
    check(Sampling { logit_bias: vec![(TokenId(1), -100.0)].into(), ..Sampling::GREEDY }, &[], 2);
    check(Sampling { logit_bias: vec![(TokenId(4), 4.5)].into(), ..Sampling::GREEDY }, &[], 4);
    check(Sampling { presence_penalty: 0.5, ..Sampling::GREEDY }, &[1], 2);
    check(Sampling { frequency_penalty: 0.75, ..Sampling::GREEDY }, &[1, 2, 2, 1], 3);
    check(Sampling { repetition_penalty: 1.6, ..Sampling::GREEDY }, &[2, 1], 3);
    check(Sampling { presence_penalty: -2.0, frequency_penalty: -2.0, ..Sampling::GREEDY }, &[0], 0);
}

#[test]
fn a_row_that_is_no_distribution_is_told() {
    let of = |logits: &[f32], sampling: &Sampling| sample(logits, sampling, 0.5, 2, &[], None, &mut Scratch::default());
    for sampling in [&Sampling::GREEDY, &HOT, &Sampling { logit_bias: vec![(TokenId(0), 1.0)].into(), ..HOT }] {
        for damaged in [[MASKED; 3], [0.0, f32::INFINITY, 1.0], [0.0, f32::NAN, MASKED], [f32::NAN; 3]] {
            assert_eq!(of(&damaged, sampling), Err(NoChoice::NoDistribution), "{damaged:?}");
            assert_eq!(log_sum_exp(&damaged), Err(NoDistribution), "{damaged:?}");
            // Also far behind in a long row, in its vectors and behind them.
            for at in [0, 20, 8190] {
                let mut long = vec![damaged[0]; 8191];
                long[at] = damaged[1];
                assert_eq!(of(&long, sampling), Err(NoChoice::NoDistribution), "{damaged:?} {at}");
            }
        }
        assert_eq!(of(&[MASKED, 0.0, MASKED], sampling).map(|sampled| sampled.token), Ok(TokenId(1)));
        assert!(of(&[-1e30, MASKED, f32::MIN, f32::MAX], sampling).is_ok());
    }
}

#[test]
fn what_a_bias_leaves_can_be_drawn() {
    // Everything is banned, but for what was masked: then it is as if nothing were.
    let bias: Vec<_> = (0..5).map(|token| (TokenId(token), -100.0)).collect();
    let banned = Sampling { logit_bias: bias.into(), ..HOT };
    for at in [0.0, 0.3, 0.6, 0.9, 0.999] {
        assert_eq!(sample_once(&LOGITS, &banned, at, 0).token, sample_once(&LOGITS, &HOT, at, 0).token, "{at}");
    }
    let masked = [MASKED, -300.0, MASKED, MASKED, MASKED];
    assert_eq!(sample_once(&masked, &banned, 0.5, 0).token, TokenId(1));
}

#[test]
fn a_draw_depends_on_seed_and_number_alone() {
    let run = |seed| (0..64).map(|n| sample_once(&LOGITS, &HOT, uniform(seed, n), 0).token.0).collect::<Vec<_>>();
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert_ne!(run(1)[1..], run(2)[..63], "neighbouring seeds are no shifted copies");
}

/// As models have it, for 150 tokens: 100,000 draws reach most of them, and they are more than two blocks of a ranking.
fn row_of_a_model() -> Vec<f32> {
    (0..VOCAB).map(|i| 12.0 - 1.7 * (1.0 + shuffled(i)).ln()).collect()
}

const VOCAB: usize = 150;

fn shuffled(i: usize) -> f32 {
    ((i * 67) % VOCAB) as f32
}

/// Rows as models hardly have them.
fn other_rows() -> Vec<Vec<f32>> {
    let of = |f: &dyn Fn(usize) -> f32| (0..VOCAB).map(f).collect::<Vec<f32>>();
    vec![
        of(&|i| -2.0 * shuffled(i)),
        of(&|i| 1.0 - 1e-3 * shuffled(i)),
        vec![-7.0; VOCAB],
        of(&|i| if i % 17 == 5 { shuffled(i) / 50.0 } else { MASKED }),
    ]
}

/// Each setting alone and in combinations.
fn settings() -> Vec<Sampling> {
    let bias = [(0, -0.7), (1, 1.5), (9, -100.0), (56, 0.5), (140, 3.0)].map(|(token, bias)| (TokenId(token), bias));
    let bias = Vec::from(bias);
    let penalties =
        Sampling { repetition_penalty: 1.3, presence_penalty: 0.4, frequency_penalty: 0.2, ..Sampling::GREEDY };
    vec![
        HOT,
        Sampling { temperature: 0.6, ..HOT },
        Sampling { temperature: 2.5, ..HOT },
        Sampling { top_k: 3, ..HOT },
        Sampling { top_p: 0.9, ..HOT },
        Sampling { min_p: 0.05, ..HOT },
        Sampling { top_p: 0.9, min_p: 0.05, ..HOT },
        Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.1, ..HOT },
        Sampling { repetition_penalty: 1.3, ..HOT },
        Sampling { presence_penalty: 1.0, ..HOT },
        Sampling { frequency_penalty: -0.3, ..HOT },
        Sampling { logit_bias: bias.clone().into(), ..HOT },
        Sampling { temperature: 1.0, top_p: 0.8, logit_bias: bias.clone().into(), ..penalties.clone() },
        Sampling { temperature: 1.4, top_k: 30, top_p: 0.97, min_p: 0.02, logit_bias: bias.into(), ..penalties },
    ]
}

/// What the penalties count: the best tokens and others.
const WINDOW: [u32; 10] = [0, 103, 0, 56, 0, 9, 103, 0, 1, 140];

const DRAWS: u64 = 100_000;

/// Chi-square of so many draws at these probabilities, and its degrees of freedom. Tokens that are expected fewer than
/// five times are one.
fn chi_square(counts: &[u64], probabilities: &[f64]) -> (f64, usize) {
    let (mut square, mut cells, mut rare) = (0.0, 0, (0, 0.0));
    let mut add = |count: u64, expected: f64| {
        square += (count as f64 - expected).powi(2) / expected;
        cells += 1;
    };
    for (count, probability) in counts.iter().zip(probabilities) {
        match probability * DRAWS as f64 {
            expected if expected >= 5.0 => add(*count, expected),
            expected => rare = (rare.0 + count, rare.1 + expected),
        }
    }
    if rare.1 >= 5.0 {
        add(rare.0, rare.1);
    }
    (square, cells.max(1) - 1)
}

/// What chi-square exceeds with a probability of one in a million: by Wilson and Hilferty's approximation (1931), which
/// is right to a percent here; 4.753 is the normal distribution's own place of it.
fn bound(freedom: usize) -> f64 {
    let step = 2.0 / (9.0 * freedom as f64);
    freedom as f64 * (1.0 - step + 4.753 * step.sqrt()).powi(3)
}

/// Draws so often by `drawn`; what chi-square is, and may be, if it was meant to be `meant`.
fn compare(logits: &[f32], drawn: &Sampling, meant: &Sampling, seed: u64) -> (f64, f64) {
    let scratch = &mut Scratch::default();
    let wide: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
    let exact = probabilities(&wide, meant, &WINDOW.map(TokenId));
    let mut counts = vec![0; logits.len()];
    for number in 0..DRAWS {
        let sampled = sample(logits, drawn, uniform(seed, number), 0, &WINDOW, None, scratch).expect("a distribution");
        counts[sampled.token.0 as usize] += 1;
    }
    if counts.iter().zip(&exact).any(|(count, exact)| *count > 0 && *exact == 0.0) {
        return (f64::INFINITY, 0.0);
    }
    let (square, freedom) = chi_square(&counts, &exact);
    (square, if freedom == 0 { f64::INFINITY } else { bound(freedom) })
}

#[test]
fn draws_follow_the_distribution_of_every_setting() {
    let check = |logits: &[f32], sampling: &Sampling, seed| {
        let (square, most) = compare(logits, sampling, sampling, seed);
        assert!(square < most, "{sampling:?}: {square}, at most {most}, {:?}", &logits[..5]);
    };
    let settings = settings();
    for (seed, sampling) in settings.iter().enumerate() {
        check(&row_of_a_model(), sampling, seed as u64);
    }
    for (seed, logits) in other_rows().iter().enumerate() {
        for sampling in [&settings[0], &settings[6], &settings[13]] {
            check(logits, sampling, 100 + seed as u64);
        }
    }
}

#[test]
fn a_distribution_that_is_a_little_wrong_is_noticed() {
    for (drawn, meant) in [
        (Sampling { top_p: 0.88, ..HOT }, Sampling { top_p: 0.9, ..HOT }),
        (Sampling { temperature: 1.03, ..HOT }, HOT),
        (Sampling { frequency_penalty: 0.13, ..HOT }, Sampling { frequency_penalty: 0.1, ..HOT }),
    ] {
        let (square, most) = compare(&row_of_a_model(), &drawn, &meant, 1);
        assert!(square > most, "{drawn:?}: {square}, at most {most}");
    }
}

fn any_sampling() -> impl Strategy<Value = Sampling> {
    let temperature = prop_oneof![Just(0.0_f32), Just(1.0), 1e-3..5.0_f32];
    let top_p = prop_oneof![Just(1.0_f32), 0.01..1.0_f32];
    let min_p = prop_oneof![Just(0.0_f32), 0.0..=1.0_f32];
    let penalties = prop_oneof![Just((1.0_f32, 0.0_f32, 0.0_f32)), (0.5..2.0_f32, -2.0..2.0_f32, -2.0..2.0_f32)];
    let bias = prop::collection::btree_map(0_u32..300, -100.0..100.0_f32, 0..6);
    (temperature, 0_usize..400, top_p, min_p, penalties, bias).prop_map(
        |(temperature, top_k, top_p, min_p, p, bias)| Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty: p.0,
            presence_penalty: p.1,
            frequency_penalty: p.2,
            logit_bias: bias.into_iter().map(|(token, bias)| (TokenId(token), bias)).collect(),
        },
    )
}

proptest! {
    /// Whatever the row, the settings and what was drawn before with the same memory: a token is drawn that may be.
    #[test]
    fn only_what_may_be_drawn_is_drawn(
        logits in prop::collection::vec(prop_oneof![9 => -20.0..20.0_f32, 1 => Just(MASKED)], 300),
        sampling in any_sampling(),
        window in prop::collection::vec(0_u32..300, 0..50),
        at in prop_oneof![Just(0.0), Just(1.0 - f64::EPSILON / 2.0), 0.0..1.0_f64],
    ) {
        let scratch = &mut Scratch::default();
        let mut draw = |sampling: &Sampling, window: &[u32]| sample(&logits, sampling, at, 4, window, None, scratch);
        let first = draw(&sampling, &window).expect("a distribution");
        draw(&HOT, &[]).expect("a distribution");
        let again = draw(&sampling, &window).expect("a distribution");
        prop_assert_eq!(&first, &again);
        // In f32 a border may lie a little elsewhere: settings that are as near as that.
        let wide: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
        let window: Vec<TokenId> = window.into_iter().map(TokenId).collect();
        let is_drawn = |slack: f32| {
            let top_p = if sampling.top_p < 1.0 { (sampling.top_p * (1.0 + slack)).min(1.0) } else { 1.0 };
            let near = Sampling { top_p, min_p: sampling.min_p * (1.0 - 1e-4), ..sampling.clone() };
            probabilities(&wide, &near, &window)[first.token.0 as usize] > 0.0
        };
        prop_assert!(is_drawn(0.0) || is_drawn(1e-5), "{:?}", first);
    }
}

#[test]
fn what_is_not_allowed_is_not_drawn_and_changes_no_logprob() {
    let plain = sample_once(&LOGITS, &HOT, 0.0, 5);
    let allowed: Mask = [0, 3].map(TokenId).into_iter().collect();
    for at in [0.0, 0.3, 0.6, 0.9, 0.999] {
        for sampling in [HOT, Sampling::GREEDY, Sampling { top_k: 4, top_p: 0.9, min_p: 0.01, ..HOT }] {
            let scratch = &mut Scratch::default();
            let found = sample(&LOGITS, &sampling, at, 5, &[], Some(&allowed), scratch).expect("two are allowed");
            let own = plain.top.iter().find(|(token, _)| *token == found.token).expect("all are listed");
            assert!(allowed.allows(found.token) && found.logprob == own.1 && found.top == plain.top, "{found:?}");
        }
    }
    let of = |logits: &[f32]| sample(logits, &HOT, 0.5, 0, &[], Some(&allowed), &mut Scratch::default());
    assert_eq!(of(&[MASKED, 1.0, 2.0, MASKED]), Err(NoChoice::NothingAllowed));
}
