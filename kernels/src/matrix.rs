//! Matrices as a whole.

use pulp::{Arch, NullaryFnOnce};

/// `[rows, columns]` as `[columns, rows]`, in tiles that fit the nearest cache.
///
/// # Panics
/// Where there are fewer values than `rows * columns`.
pub fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut turned = vec![0.0; values.len()];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for row in top..rows.min(top + TILE) {
                for column in left..columns.min(left + TILE) {
                    turned[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    turned
}

/// A row times a matrix `[row, sums]`: `sums` numbers, each summed in the order of the row.
///
/// # Panics
/// Where the matrix has not as many numbers.
pub fn row_times(row: &[f32], matrix: &[f32], sums: usize) -> Vec<f32> {
    assert!(matrix.len() == row.len() * sums, "{} numbers for {} by {sums}", matrix.len(), row.len());
    Arch::new().dispatch(RowTimes(row, matrix, sums))
}

/// A call of [`row_times`].
struct RowTimes<'a>(&'a [f32], &'a [f32], usize);

impl NullaryFnOnce for RowTimes<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        /// Rows of the matrix that are read before the sums are written.
        const ROWS: usize = 4;
        let Self(row, matrix, sums) = self;
        let mut result = vec![0.0; sums];
        let mut lines = matrix.chunks(sums.max(1) * ROWS);
        let (fours, rest) = row.as_chunks::<ROWS>();
        for ([x, y, z, w], lines) in fours.iter().zip(&mut lines) {
            let (a, lines) = lines.split_at(sums);
            let (b, lines) = lines.split_at(sums);
            let (c, d) = lines.split_at(sums);
            for ((((sum, a), b), c), d) in result.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *sum = w.mul_add(*d, z.mul_add(*c, y.mul_add(*b, x.mul_add(*a, *sum))));
            }
        }
        for (x, line) in rest.iter().zip(lines.flat_map(|lines| lines.chunks(sums.max(1)))) {
            result.iter_mut().zip(line).for_each(|(sum, a)| *sum = x.mul_add(*a, *sum));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_times_a_matrix_is_its_definition_at_any_length() {
        for (rows, sums) in [(1, 1), (3, 5), (4, 2), (7, 19), (64, 33)] {
            let number = |index: usize| ((index * 37) % 101) as f32 / 16.0 - 3.0;
            let row: Vec<f32> = (0..rows).map(number).collect();
            let matrix: Vec<f32> = (7..7 + rows * sums).map(number).collect();
            let found = row_times(&row, &matrix, sums);
            for (column, found) in found.iter().enumerate() {
                let products = row.iter().enumerate().map(|(index, x)| x * matrix[index * sums + column]);
                // All of them are exact.
                assert_eq!(*found, products.sum::<f32>(), "{rows} by {sums}");
            }
        }
    }

    #[test]
    fn a_matrix_turned_twice_is_itself() {
        let values: Vec<f32> = (0..70 * 45).map(|x| x as f32).collect();
        let turned = transposed(&values, 70, 45);
        assert_eq!(turned[3 * 70 + 2], values[2 * 45 + 3]);
        assert_eq!(transposed(&turned, 45, 70), values);
    }
}
