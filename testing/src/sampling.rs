//! What a sampling means, written down once more as plainly as it can be: the probability of each token, in 64 bits, by
//! sorting the whole vocabulary. The fake draws by it, and engines are measured against it.

use motorbrain_actors::{engine::Sampling, tokens::TokenId};

/// The probability with which each token is drawn, `[vocab]`. `window`: the tokens that the window holds.
pub fn probabilities(logits: &[f64], sampling: &Sampling, window: &[TokenId]) -> Vec<f64> {
    let logits = changed(logits, sampling, window);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    // Stable, so that the smaller id is the better of two equal ones.
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let mut drawn = vec![0.0; logits.len()];
    if sampling.temperature == 0.0 {
        drawn[order[0]] = 1.0;
        return drawn;
    }
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k);
    }
    let weight = |token: usize| ((logits[token] - logits[order[0]]) / f64::from(sampling.temperature)).exp();
    let mass: f64 = order.iter().map(|&token| weight(token)).sum();
    let mut before = 0.0;
    for &token in &order {
        let is_in_nucleus = sampling.top_p >= 1.0 || before < f64::from(sampling.top_p) * mass;
        if is_in_nucleus && weight(token) >= f64::from(sampling.min_p) {
            drawn[token] = weight(token);
        }
        before += weight(token);
    }
    let left: f64 = drawn.iter().sum();
    drawn.iter().map(|weight| weight / left).collect()
}

/// The logits behind bias and penalties.
fn changed(logits: &[f64], sampling: &Sampling, window: &[TokenId]) -> Vec<f64> {
    let mut logits = logits.to_vec();
    for &(token, bias) in &*sampling.logit_bias {
        logits[token.0 as usize] += f64::from(bias);
    }
    for (token, logit) in logits.iter_mut().enumerate() {
        let count = window.iter().filter(|held| held.0 as usize == token).count();
        if count > 0 {
            let repetition = f64::from(sampling.repetition_penalty);
            *logit = if *logit > 0.0 { *logit / repetition } else { *logit * repetition };
            *logit -= f64::from(sampling.presence_penalty) + count as f64 * f64::from(sampling.frequency_penalty);
        }
    }
    logits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sampling: Sampling, expected: [f64; 4]) {
        // 0.1, 0.2, 0.3 and 0.4.
        let logits = [1.0_f64, 2.0, 3.0, 4.0].map(f64::ln);
        let found = probabilities(&logits, &sampling, &[TokenId(3), TokenId(3), TokenId(0)]);
        let is_near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
        assert!(is_near, "{sampling:?}: {found:?}, expected {expected:?}");
    }

    #[test]
    fn each_setting_does_what_it_says() {
        let hot = Sampling { temperature: 1.0, ..Sampling::GREEDY };
        check(Sampling::GREEDY, [0.0, 0.0, 0.0, 1.0]);
        check(hot.clone(), [0.1, 0.2, 0.3, 0.4]);
        check(Sampling { temperature: 0.5, ..hot.clone() }, [1.0, 4.0, 9.0, 16.0].map(|x| x / 30.0));
        check(Sampling { top_k: 2, ..hot.clone() }, [0.0, 0.0, 3.0 / 7.0, 4.0 / 7.0]);
        check(Sampling { top_p: 0.75, ..hot.clone() }, [0.0, 2.0 / 9.0, 3.0 / 9.0, 4.0 / 9.0]);
        check(Sampling { min_p: 0.7, ..hot.clone() }, [0.0, 0.0, 3.0 / 7.0, 4.0 / 7.0]);
        // The nucleus is of what `top_k` leaves.
        check(Sampling { top_k: 2, top_p: 0.57, ..hot.clone() }, [0.0, 0.0, 0.0, 1.0]);
        let bias = vec![(TokenId(0), 4.0_f32.ln()), (TokenId(3), -100.0)];
        check(Sampling { logit_bias: bias.into(), ..hot.clone() }, [4.0, 2.0, 3.0, 0.0].map(|x| x / 9.0));
        let halves = Sampling { repetition_penalty: 2.0, ..hot.clone() };
        check(halves, [1.0, 2.0, 3.0, 2.0].map(|x| x / 8.0));
        let penalty = 2.0_f32.ln();
        check(Sampling { presence_penalty: penalty, ..hot.clone() }, [0.5, 2.0, 3.0, 2.0].map(|x| x / 7.5));
        check(Sampling { frequency_penalty: penalty, ..hot }, [0.5, 2.0, 3.0, 1.0].map(|x| x / 6.5));
    }
}
