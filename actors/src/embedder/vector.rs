//! From hidden states to the vector that a caller gets: pooling over chunks, then its length.

use crate::engine;

/// How a text's hidden states become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean, over the text's own tokens.
    #[default]
    Mean,
    /// That of the text's last token.
    Last,
}

/// How vectors are made, the same for every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingConfig {
    /// How a text's hidden states become one vector.
    pub pooling: Pooling,
    /// Whether the vector is scaled to length 1.
    pub normalize: bool,
}

impl Default for EmbeddingConfig {
    fn default() -> Self {
        Self { pooling: Pooling::Mean, normalize: true }
    }
}

impl EmbeddingConfig {
    /// What to ask of a row. `ends`: whether the row reaches the text's last token.
    pub(super) fn want(self, ends: bool) -> engine::Want<'static> {
        match self.pooling {
            Pooling::Mean => engine::Want::Hidden(engine::Pooling::Sum),
            Pooling::Last if ends => engine::Want::Hidden(engine::Pooling::Last),
            Pooling::Last => engine::Want::Nothing,
        }
    }

    /// Takes in what a row gave; empty where nothing was asked or nothing was read.
    pub(super) fn absorb(self, pooled: &mut Vec<f32>, hidden: Vec<f32>) {
        if hidden.is_empty() {
            return;
        }
        if pooled.is_empty() || self.pooling == Pooling::Last {
            *pooled = hidden;
        } else {
            let (before, now) = (pooled.len(), hidden.len());
            assert!(before == now, "a hidden state of {now} numbers is added to one of {before}");
            for (sum, value) in pooled.iter_mut().zip(hidden) {
                *sum += value;
            }
        }
    }

    /// The finished vector of a text of `tokens` tokens.
    pub(super) fn finish(self, mut pooled: Vec<f32>, tokens: usize) -> Vec<f32> {
        if self.pooling == Pooling::Mean {
            let factor = 1.0 / tokens as f32;
            pooled.iter_mut().for_each(|value| *value *= factor);
        }
        if self.normalize {
            // In f64, which the squares of large numbers fit.
            let length = pooled.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            // A zero vector has no direction; dividing would make it NaN.
            if length > 0.0 {
                pooled.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
            }
        }
        pooled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pooling: Pooling, normalize: bool, chunks: &[&[f32]], tokens: usize, expected: &[f32]) {
        let config = EmbeddingConfig { pooling, normalize };
        let mut pooled = Vec::new();
        for chunk in chunks {
            config.absorb(&mut pooled, chunk.to_vec());
        }
        assert_eq!(config.finish(pooled, tokens), expected);
    }

    #[test]
    fn the_mean_is_over_all_chunks() {
        check(Pooling::Mean, false, &[&[2.0, 4.0], &[], &[1.0, 2.0]], 3, &[1.0, 2.0]);
        check(Pooling::Mean, true, &[&[6.0, 8.0]], 2, &[0.6, 0.8]);
    }

    #[test]
    fn the_last_chunk_wins_under_last() {
        check(Pooling::Last, false, &[&[2.0, 4.0], &[1.0, 2.0]], 3, &[1.0, 2.0]);
        check(Pooling::Last, true, &[&[0.0, 2.0]], 9, &[0.0, 1.0]);
    }

    #[test]
    fn squares_of_large_numbers_do_not_make_a_vector_zero() {
        check(Pooling::Last, true, &[&[3e38, -3e38]], 1, &[0.5f32.sqrt(), -0.5f32.sqrt()]);
    }

    #[test]
    fn a_zero_vector_stays_zero() {
        check(Pooling::Mean, true, &[&[0.0, 0.0]], 2, &[0.0, 0.0]);
    }
}
