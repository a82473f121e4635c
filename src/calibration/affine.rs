//! `v = (h - mean) . matrix`.
//!
//! The matrix's numbers are f16, in which it lies in its file, so that a calibration is the same before it was written
//! and after. Its scale means nothing, since vectors are normalised: it is a power of two that makes the largest number
//! as large as f16 well holds, and so leaves the smallest ones eleven bits.

use half::f16;
use motorbrain_kernels::{dense::Dense, matrix::row_times};

/// Below this is the largest number of a matrix, and not below half of it.
const LARGEST: f64 = 16_384.0;

/// See the module's description.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    /// `[hidden]`
    mean: Vec<f32>,
    /// `[hidden, dim]`
    matrix: Vec<f32>,
    dim: usize,
}

impl Affine {
    /// `matrix` is `[hidden, dim]`, its scale of no account. `None` where a number is none, or all are zero.
    pub(super) fn of(mean: &[f64], matrix: &Dense) -> Option<Self> {
        let largest = matrix.values().iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let scale = (LARGEST / largest).log2().ceil().exp2() / 2.0;
        let rounded = |x: &f64| f16::from_f64(x * scale);
        let mean = mean.iter().map(|x| *x as f32).collect();
        Self::checked(mean, &matrix.values().iter().map(rounded).collect::<Vec<_>>(), matrix.columns())
    }

    /// Of the numbers of a file; `None` as for [`Self::of`], or where they are not as many as they should be.
    pub(super) fn checked(mean: Vec<f32>, matrix: &[f16], dim: usize) -> Option<Self> {
        let matrix: Vec<f32> = matrix.iter().map(|x| x.to_f32()).collect();
        let is_whole = dim > 0 && Some(matrix.len()) == mean.len().checked_mul(dim);
        let is_finite = mean.iter().chain(&matrix).all(|x| x.is_finite());
        (is_whole && is_finite && matrix.iter().any(|x| *x != 0.0)).then_some(Self { mean, matrix, dim })
    }

    /// Numbers of a hidden state.
    pub fn hidden(&self) -> usize {
        self.mean.len()
    }

    /// Numbers of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// A recipe's vector, straightened: not normalised, its directions in falling order.
    ///
    /// # Panics
    /// Where it has not [`Self::hidden`] numbers.
    pub fn apply(&self, hidden: &[f32]) -> Vec<f32> {
        assert!(hidden.len() == self.hidden(), "{} numbers, expected {}", hidden.len(), self.hidden());
        let centred: Vec<f32> = hidden.iter().zip(&self.mean).map(|(h, mean)| h - mean).collect();
        row_times(&centred, &self.matrix, self.dim)
    }

    /// `[hidden]`
    pub(super) fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// `[hidden, dim]`, exactly.
    pub(super) fn matrix(&self) -> Vec<f16> {
        self.matrix.iter().map(|x| f16::from_f32(*x)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_vector_is_centred_and_multiplied_at_any_scale_of_the_matrix() {
        let values = [3.0, -1.0, 0.5, 2.0, 0.0, 4.0];
        for scale in [1e-30, 1e-3, 1.0, 7.0, 1e30] {
            let matrix = Dense::of(3, 2, values.iter().map(|x| x * scale).collect());
            let affine = Affine::of(&[1.0, -2.0, 0.5], &matrix).unwrap();
            let largest = affine.matrix.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            assert!((8192.0..=16_384.0).contains(&largest), "{scale}: {largest}");
            let found = affine.apply(&[2.0, 0.0, 1.5]);
            let expected = [3.0 + 1.0 + 0.0, -1.0 + 4.0 + 4.0];
            for (found, expected) in found.iter().zip(expected) {
                assert!((found / largest * 4.0 - expected).abs() < 2e-3, "{scale}: {found}");
            }
            assert_eq!(Affine::checked(affine.mean.clone(), &affine.matrix(), 2), Some(affine));
        }
    }

    #[test]
    fn what_cannot_be_a_calibration_is_none() {
        for values in [[0.0, 0.0], [f64::NAN, 1.0], [f64::INFINITY, 1.0]] {
            assert_eq!(Affine::of(&[0.0, 0.0], &Dense::of(2, 1, values.to_vec())), None, "{values:?}");
        }
        assert_eq!(Affine::of(&[0.0, f64::NAN], &Dense::of(2, 1, vec![1.0, 2.0])), None);
        for (mean, matrix, dim) in [(2, 3, 1), (2, 2, 0), (0, 0, 1), (2, 2, 2)] {
            assert_eq!(Affine::checked(vec![0.0; mean], &vec![f16::ONE; matrix], dim), None);
        }
    }
}
