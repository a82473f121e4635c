//! Means and covariances of rows that come one after the other.
//!
//! Sums and sums of products are kept in f64 and not centred: of a million rows whose means are a thousand times as
//! large as their deviations, ten digits are left. Rows wait until a few are together, since a product of matrices
//! reads the sums once for all of them.

use faer::{
    Accum, Par,
    linalg::matmul::triangular::{self, BlockStructure},
};

use crate::dense::{Dense, seen, seen_mut};

/// Rows that are multiplied at once.
const TOGETHER: usize = 128;

/// See the module's description.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    width: usize,
    /// Rows, those that wait among them.
    count: u64,
    /// `[width]`, of all rows.
    sum: Vec<f64>,
    /// `[width, width]`, of those that do not wait; only the lower half, with the diagonal.
    products: Vec<f64>,
    /// `[rows, width]`
    waiting: Vec<f64>,
}

/// What rows were like.
#[derive(Clone, Debug, PartialEq)]
pub struct Covariance {
    /// `[width]`
    pub mean: Vec<f64>,
    /// `[width, width]`, divided by the number of rows.
    pub matrix: Dense,
}

impl Moments {
    /// Of no rows yet, of so many numbers each.
    pub fn new(width: usize) -> Self {
        let (sum, products) = (vec![0.0; width], vec![0.0; width * width]);
        Self { width, count: 0, sum, products, waiting: Vec::with_capacity(TOGETHER * width) }
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows that were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds some rows, `[rows, width]`.
    ///
    /// # Panics
    /// Where the last one is not whole.
    pub fn add(&mut self, rows: &[f32]) {
        assert!(rows.len().is_multiple_of(self.width), "{} numbers for rows of {}", rows.len(), self.width);
        for row in rows.chunks_exact(self.width) {
            self.count += 1;
            self.sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            self.waiting.extend(row.iter().map(|x| f64::from(*x)));
            if self.waiting.len() == TOGETHER * self.width {
                multiply(&mut self.products, &self.waiting, self.width);
                self.waiting.clear();
            }
        }
    }

    /// What the rows were like; `None` where there were none.
    pub fn covariance(&self) -> Option<Covariance> {
        let (count, width) = (self.count as f64, self.width);
        let mean: Vec<f64> = self.sum.iter().map(|sum| sum / count).collect();
        let mut products = self.products.clone();
        multiply(&mut products, &self.waiting, width);
        for row in 0..width {
            for column in 0..=row {
                let covariance = products[row * width + column] / count - mean[row] * mean[column];
                products[row * width + column] = covariance;
                products[column * width + row] = covariance;
            }
        }
        (self.count > 0).then(|| Covariance { mean, matrix: Dense::of(width, width, products) })
    }

    /// All that is kept: the sums, the sums of products, and the rows that wait.
    pub fn parts(&self) -> [&[f64]; 3] {
        [&self.sum, &self.products, &self.waiting]
    }

    /// Rows that wait.
    pub fn waiting(&self) -> usize {
        Self::waiting_of(self.count)
    }

    /// Rows that wait where so many were added.
    pub fn waiting_of(count: u64) -> usize {
        (count % TOGETHER as u64) as usize
    }

    /// What [`Self::parts`] gave of so many rows, to the bit; `None` where it cannot be that.
    pub fn of_parts(width: usize, count: u64, [sum, products, waiting]: [Vec<f64>; 3]) -> Option<Self> {
        let is_one = sum.len() == width
            && Some(products.len()) == width.checked_mul(width)
            && waiting.len() == Self::waiting_of(count) * width;
        is_one.then_some(Self { width, count, sum, products, waiting })
    }
}

/// Adds the products of rows with themselves to the lower half of a matrix.
fn multiply(products: &mut [f64], rows: &[f64], width: usize) {
    if rows.is_empty() {
        return;
    }
    let rows = seen(rows, rows.len() / width, width);
    let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    let products = seen_mut(products, width, width);
    triangular::matmul(products, lower, Accum::Add, rows.transpose(), whole, rows, whole, 1.0, Par::Seq);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// Rows whose means are far from zero.
    fn rows(count: usize, width: usize) -> Vec<f32> {
        (0..count * width).map(|i| (i as f32 * 12.9898).sin() * 43.7 % 1.0 + (i % width) as f32 * 100.0).collect()
    }

    #[test]
    fn a_covariance_is_that_of_its_definition_however_the_rows_come() {
        for (count, width) in [(1, 3), (2, 5), (TOGETHER, 4), (3 * TOGETHER + 7, 11)] {
            let rows = rows(count, width);
            let mut moments = Moments::new(width);
            let (first, rest) = rows.split_at(count / 2 * width);
            moments.add(first);
            rest.chunks(width).for_each(|row| moments.add(row));
            let found = moments.covariance().unwrap();
            let mean = |column: usize| rows.chunks(width).map(|row| f64::from(row[column])).sum::<f64>() / count as f64;
            for one in 0..width {
                assert!((found.mean[one] - mean(one)).abs() < 1e-9);
                for other in 0..width {
                    let of = |row: &[f32]| (f64::from(row[one]) - mean(one)) * (f64::from(row[other]) - mean(other));
                    let expected = rows.chunks(width).map(of).sum::<f64>() / count as f64;
                    let value = found.matrix.values()[one * width + other];
                    assert!((value - expected).abs() < 1e-7, "{count} rows: {value}, expected {expected}");
                }
            }
        }
        assert_eq!(Moments::new(3).covariance(), None);
    }

    #[test]
    fn what_was_taken_apart_goes_on_to_the_bit() {
        let (width, rows) = (6, rows(2 * TOGETHER + 5, 6));
        for cut in [0, 1, TOGETHER, TOGETHER + 9] {
            let (first, rest) = rows.split_at(cut * width);
            let mut moments = Moments::new(width);
            moments.add(first);
            let parts = moments.parts().map(<[f64]>::to_vec);
            let mut again = Moments::of_parts(width, moments.count(), parts.clone()).unwrap();
            assert_eq!(Moments::of_parts(width, moments.count() + 1, parts.clone()), None);
            assert_eq!(Moments::of_parts(width + 1, moments.count(), parts), None);
            moments.add(rest);
            again.add(rest);
            assert_eq!(moments, again);
        }
    }
}
