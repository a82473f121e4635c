//! Small dense matrices of f64: products, and the directions of symmetric ones.
//!
//! The arithmetic is `faer`'s. It stands here because it is generic, and so is compiled with whoever calls it: this
//! crate is optimised in every profile.

use faer::{Accum, MatMut, MatRef, Par, Side, linalg::matmul::matmul};

/// A matrix, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

/// A symmetric matrix as `vectors . diagonal(values) . vectors'`.
#[derive(Clone, Debug, PartialEq)]
pub struct Directions {
    /// Falling.
    pub values: Vec<f64>,
    /// A column each, orthonormal.
    pub vectors: Dense,
}

impl Dense {
    /// A matrix of these values.
    ///
    /// # Panics
    /// Where they are not as many.
    pub fn of(rows: usize, columns: usize, values: Vec<f64>) -> Self {
        assert!(values.len() == rows * columns, "{} numbers for {rows} by {columns}", values.len());
        Self { rows, columns, values }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// `[rows, columns]`
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// `self . other`
    ///
    /// # Panics
    /// Where the one has not as many columns as the other rows.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        product(self.seen(), other.seen())
    }

    /// `self' . other . self`, for a symmetric other.
    ///
    /// # Panics
    /// Where the other has not as many rows and columns as this has rows.
    #[must_use]
    pub fn around(&self, other: &Self) -> Self {
        product(self.seen().transpose(), other.times(self).seen())
    }

    /// Each column times its factor, the first ones: `[rows, factors]`.
    #[must_use]
    pub fn scaled(&self, factors: &[f64]) -> Self {
        let rows = self.values.chunks_exact(self.columns.max(1));
        let values = rows.flat_map(|row| row.iter().zip(factors).map(|(x, factor)| x * factor)).collect();
        Self::of(self.rows, factors.len().min(self.columns), values)
    }

    /// The sum of the diagonal, divided by its length.
    pub fn mean_of_diagonal(&self) -> f64 {
        let diagonal = self.values.iter().step_by(self.columns + 1).take(self.rows);
        diagonal.sum::<f64>() / self.rows as f64
    }

    /// The directions of a symmetric matrix, of which the lower half is read; `None` where it has a number that is none.
    ///
    /// The sign of a direction means nothing and is made the same everywhere: the largest of its numbers is positive.
    pub fn directions(&self) -> Option<Directions> {
        if self.values.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let found = self.seen().self_adjoint_eigen(Side::Lower).ok()?;
        let n = self.rows;
        let (values, vectors) = (found.S(), found.U());
        // They come rising.
        let falling = (0..n).rev();
        let signs: Vec<f64> = falling.clone().map(|column| sign(vectors.col(column).iter())).collect();
        let values = falling.clone().map(|index| values.column_vector()[index]).collect();
        let row = |row: usize| {
            let columns = falling.clone().zip(&signs);
            columns.map(move |(column, sign)| vectors[(row, column)] * sign)
        };
        Some(Directions { values, vectors: Self::of(n, n, (0..n).flat_map(row).collect()) })
    }

    fn seen(&self) -> MatRef<'_, f64> {
        seen(&self.values, self.rows, self.columns)
    }
}

fn sign<'x>(numbers: impl Iterator<Item = &'x f64>) -> f64 {
    let largest = numbers.fold(0.0_f64, |largest, x| if x.abs() > largest.abs() { *x } else { largest });
    if largest < 0.0 { -1.0 } else { 1.0 }
}

fn product(one: MatRef<'_, f64>, other: MatRef<'_, f64>) -> Dense {
    let (rows, columns) = (one.nrows(), other.ncols());
    let mut values = vec![0.0; rows * columns];
    matmul(seen_mut(&mut values, rows, columns), Accum::Replace, one, other, 1.0, Par::Seq);
    Dense::of(rows, columns, values)
}

/// Numbers, row-major, as `faer` sees them.
pub(crate) fn seen(values: &[f64], rows: usize, columns: usize) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(values, rows, columns)
}

/// Likewise, to be written.
pub(crate) fn seen_mut(values: &mut [f64], rows: usize, columns: usize) -> MatMut<'_, f64> {
    MatMut::from_row_major_slice_mut(values, rows, columns)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn noise(rows: usize, columns: usize) -> Dense {
        Dense::of(rows, columns, (0..rows * columns).map(|i| (i as f64 * 12.9898).sin() * 437.58 % 1.0).collect())
    }

    fn assert_near(found: &Dense, expected: &Dense) {
        assert_eq!((found.rows, found.columns), (expected.rows, expected.columns));
        for (x, y) in found.values.iter().zip(&expected.values) {
            assert!((x - y).abs() < 1e-10, "{x}, expected {y}");
        }
    }

    #[test]
    fn directions_make_the_matrix_again_and_are_orthonormal() {
        for n in [1, 2, 7, 40] {
            let identity = Dense::of(n, n, (0..n * n).map(|i| f64::from(u8::from(i % (n + 1) == 0))).collect());
            // Of a rank below n, where eigenvalues are zero.
            for rank in [1, n.div_ceil(2), n] {
                let symmetric = noise(rank, n).around(&Dense::of(rank, rank, {
                    (0..rank * rank).map(|i| f64::from(u8::from(i % (rank + 1) == 0))).collect()
                }));
                let Directions { values, vectors } = symmetric.directions().unwrap();
                assert!(values.is_sorted_by(|x, y| x >= y), "{values:?}");
                assert_near(&vectors.around(&identity), &identity);
                let turned = Dense::of(n, n, (0..n * n).map(|i| vectors.values[i % n * n + i / n]).collect());
                assert_near(&vectors.scaled(&values).times(&turned), &symmetric);
                assert!((symmetric.mean_of_diagonal() * n as f64 - values.iter().sum::<f64>()).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn what_is_no_number_has_no_directions() {
        assert_eq!(Dense::of(2, 2, vec![1.0, 0.0, 0.0, f64::NAN]).directions(), None);
        assert_eq!(Dense::of(1, 1, vec![f64::INFINITY]).directions(), None);
    }
}
