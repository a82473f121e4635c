//! What a handful of samples says: their middle and how far they lie apart.

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
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        assert_eq!(ratios(&[2.0, 9.0], &[1.0, 3.0]), [2.0, 3.0]);
        assert_eq!(range(&ratios(&[2.0, 9.0], &[1.0, 3.0])), (2.0, 3.0));
    }
}
