//! Vectors as what the model would say: `h . G` and `k . G` have the dot product of `h`'s and `k`'s logits, each less their
//! mean.
//!
//! Logits are `E h` with `E` the output projection, a row for each of the vocabulary's tokens; less their mean they are
//! `(E - mean) h`. Their dot products are `h' C k` with `C` the covariance of the rows (but for a factor, the number of
//! rows), and any `G` with `G G' = C` gives these. With `C = U e U'` it is `U sqrt(e)` here, its directions sorted by
//! `e`: what is cut off is the least of what the logits say of a random hidden state.

use motorbrain_kernels::{
    dense::{Dense, Directions},
    moments::Moments,
};

use super::{Affine, CalibrationError};
use crate::model::{
    Model,
    weights::{HeadRows, each_head_row},
};

/// Products that may be summed. Where a vocabulary has more for its width, every second row is taken, or every third, ..:
/// a covariance of 3,584 numbers is known well enough from 19,000 rows, and the sums take half a minute at most on a slow core.
const PRODUCTS_MAX: usize = 1 << 38;

/// See the module's description.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitSpace {
    /// `[hidden, hidden]`
    g: Dense,
}

impl LogitSpace {
    /// That of a model, from the weights of its output projection, which are read some rows at a time. Takes seconds, and
    /// for billions of weights a minute: run it on a thread that may block.
    ///
    /// # Errors
    /// The model has no output projection, or one whose weights cannot be read.
    pub fn of(model: &Model) -> Result<Self, CalibrationError> {
        let mut moments: Option<Moments> = None;
        let mut add = |rows: HeadRows<'_>| {
            let HeadRows { vocab, hidden, first, values } = rows;
            let moments = moments.get_or_insert_with(|| Moments::new(hidden));
            let every = every(vocab, hidden);
            if every == 1 {
                return moments.add(values);
            }
            let rows = values.chunks_exact(hidden).enumerate();
            rows.filter(|(index, _)| (first + index).is_multiple_of(every)).for_each(|(_, row)| moments.add(row));
        };
        each_head_row(&model.graph, &mut add).map_err(CalibrationError::Projection)?;
        let covariance = moments.as_ref().and_then(Moments::covariance);
        let directions = covariance.and_then(|covariance| covariance.matrix.directions());
        let Directions { values, vectors } = directions.ok_or(CalibrationError::NotFinite)?;
        let lengths: Vec<f64> = values.iter().map(|e| e.max(0.0).sqrt()).collect();
        Ok(Self { g: vectors.scaled(&lengths) })
    }

    /// Numbers of a hidden state.
    pub fn hidden(&self) -> usize {
        self.g.rows()
    }

    /// As a calibration that needs nothing but the weights. It centres nothing: no text was read.
    ///
    /// # Errors
    /// All of the vocabulary has the same weights.
    pub fn affine(&self) -> Result<Affine, CalibrationError> {
        let what = "the rows of the output projection";
        Affine::of(&vec![0.0; self.hidden()], &self.g).ok_or(CalibrationError::Alike { what })
    }

    /// `[hidden, hidden]`
    pub(super) fn g(&self) -> &Dense {
        &self.g
    }

    /// Another one, for tests.
    #[cfg(test)]
    pub(super) fn of_matrix(g: Dense) -> Self {
        Self { g }
    }
}

/// Of how many rows one is taken.
fn every(vocab: usize, hidden: usize) -> usize {
    vocab.saturating_mul(hidden).saturating_mul(hidden).div_ceil(PRODUCTS_MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_bounded_and_whole_where_they_can_be() {
        for (vocab, hidden, expected) in
            [(49_152, 576, 1), (151_936, 896, 1), (151_936, 1536, 2), (152_064, 3584, 8), (1, usize::MAX, 1 << 26)]
        {
            assert_eq!(every(vocab, hidden), expected, "{vocab} by {hidden}");
            let products = (vocab / expected) as u128 * hidden as u128 * hidden as u128;
            assert!(products <= PRODUCTS_MAX as u128 || vocab == 1);
        }
    }
}
