//! How sure a mean is: the bootstrap (Efron 1979). Pure; the same seed draws the same resamples.
//!
//! All means of one run are taken over the same resamples, so that what they differ in is not chance.

use serde::Serialize;

/// A mean and between what it lies with a probability of 95 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// The mean.
    pub(crate) value: f64,
    /// The lower bound.
    pub(crate) low: f64,
    /// The upper bound.
    pub(crate) high: f64,
}

/// Which of `count` things each resample has, drawn with replacement.
pub(crate) struct Resamples {
    count: usize,
    drawn: Vec<Vec<u32>>,
}

impl Resamples {
    /// Draws `times` resamples of `count` things.
    pub(crate) fn new(count: usize, times: usize, seed: u64) -> Self {
        let mut draw = SplitMix(seed);
        Self { count, drawn: (0..times).map(|_| (0..count).map(|_| draw.below(count)).collect()).collect() }
    }

    /// The mean of a value each, and the percentiles 2.5 and 97.5 (nearest rank) of the resamples' means.
    ///
    /// # Panics
    /// If there are not as many values as things.
    pub(crate) fn mean(&self, values: &[f64]) -> Figure {
        assert_eq!(values.len(), self.count, "a value each");
        let mean = |sum: f64| sum / self.count as f64;
        let resampled = self.drawn.iter().map(|drawn| mean(drawn.iter().map(|at| values[*at as usize]).sum()));
        let mut means: Vec<f64> = resampled.collect();
        means.sort_by(f64::total_cmp);
        let rank = |share: f64| (share * means.len() as f64).ceil() as usize;
        Figure {
            value: mean(values.iter().sum()),
            low: means[rank(0.025).clamp(1, means.len()) - 1],
            high: means[rank(0.975).clamp(1, means.len()) - 1],
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): enough for this, and a few lines anywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`, each as likely up to one part in 2^32 or so.
    fn below(&mut self, count: usize) -> u32 {
        ((u128::from(self.next()) * count as u128) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_that_of_an_independent_computation() {
        // By Python: the same generator, `statistics.fmean` over each resample, sorted, the 25th and the 975th of 1,000.
        let values: Vec<f64> = (0..50).map(|at| f64::from(u32::from(at % 3 == 0))).collect();
        let figure = Resamples::new(50, 1000, 7).mean(&values);
        assert_eq!(figure, Figure { value: 0.34, low: 0.2, high: 0.46 });
    }

    #[test]
    fn numbers_are_those_of_the_published_generator() {
        // The first outputs of the reference implementation for the seed 1234567.
        let mut draw = SplitMix(1_234_567);
        assert_eq!(
            [draw.next(), draw.next(), draw.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn what_is_always_the_same_is_sure() {
        let figure = Resamples::new(4, 100, 1).mean(&[0.25; 4]);
        assert_eq!(figure, Figure { value: 0.25, low: 0.25, high: 0.25 });
    }
}
