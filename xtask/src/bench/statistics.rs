//! What samples say: their middle, how far they lie apart, and how sure the middle is.

/// The middle of the samples, the mean of the two in the middle where their number is even.
///
/// # Panics
/// If there are none.
pub(super) fn median(samples: &[f64]) -> f64 {
    assert!(!samples.is_empty(), "no samples, no median");
    let sorted = sorted(samples);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// The smallest and the largest.
pub(super) fn range(samples: &[f64]) -> (f64, f64) {
    samples.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &sample| (low.min(sample), high.max(sample)))
}

/// Between which the middle half of the samples lies.
///
/// # Panics
/// If there are none.
pub(super) fn quartiles(samples: &[f64]) -> (f64, f64) {
    (percentile(samples, 25.0), percentile(samples, 75.0))
}

/// Between which two of the samples the true median lies with a probability of 95 %, whatever their
/// distribution: as a sample is as likely above it as below, how many are below is a matter of coins. With
/// fewer than six samples there is no such pair, and it is the smallest and the largest.
///
/// # Panics
/// If there are none.
pub(super) fn median_interval(samples: &[f64]) -> (f64, f64) {
    assert!(!samples.is_empty(), "no samples, no interval");
    let sorted = sorted(samples);
    let outside = outside(sorted.len());
    (sorted[outside], sorted[sorted.len() - 1 - outside])
}

/// How many samples may be left out at either end: the most for which so few of that many coins fall on one
/// side with a probability of at most 2.5 %.
fn outside(count: usize) -> usize {
    let (mut outside, mut tail, mut term) = (0, 0.0, 0.5_f64.powi(count as i32));
    for fallen in 0..count / 2 {
        tail += term;
        if tail > 0.025 {
            break;
        }
        outside = fallen + 1;
        term *= (count - fallen) as f64 / (fallen + 1) as f64;
    }
    // A tail with `outside - 1` coins at most is what lies beyond the sample at `outside - 1`.
    outside.saturating_sub(1)
}

/// The smallest sample that at least `percent` of all do not exceed (nearest rank).
///
/// # Panics
/// If there are none.
pub(super) fn percentile(samples: &[f64], percent: f64) -> f64 {
    assert!(!samples.is_empty(), "no samples, no percentile");
    let rank = (percent / 100.0 * samples.len() as f64).ceil() as usize;
    sorted(samples)[rank.clamp(1, samples.len()) - 1]
}

/// Each sample of one over that of the other of the same round: what both rounds had to suffer from
/// other programs falls out.
pub(super) fn ratios(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| one / other).collect()
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&samples, 50.0), 100.0);
        assert_eq!(percentile(&samples, 99.0), 198.0);
        assert_eq!(percentile(&samples, 100.0), 200.0);
        assert_eq!(percentile(&[5.0], 1.0), 5.0);
        assert_eq!(quartiles(&samples), (50.0, 150.0));
    }

    #[test]
    fn the_medians_interval_is_that_of_the_sign_test() {
        // Tables of the sign test: of so many samples the interval leaves so many out at either end.
        for (count, left_out) in [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (12, 2), (15, 3), (20, 5), (24, 6), (25, 7)] {
            let samples: Vec<f64> = (0..count).rev().map(f64::from).collect();
            let expected = (f64::from(left_out), f64::from(count - 1 - left_out));
            assert_eq!(median_interval(&samples), expected, "of {count} samples");
        }
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        assert_eq!(ratios(&[2.0, 9.0], &[1.0, 3.0]), [2.0, 3.0]);
        assert_eq!(range(&ratios(&[2.0, 9.0], &[1.0, 3.0])), (2.0, 3.0));
    }
}
