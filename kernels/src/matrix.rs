//! Matrices as a whole.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_turned_twice_is_itself() {
        let values: Vec<f32> = (0..70 * 45).map(|x| x as f32).collect();
        let turned = transposed(&values, 70, 45);
        assert_eq!(turned[3 * 70 + 2], values[2 * 45 + 3]);
        assert_eq!(transposed(&turned, 45, 70), values);
    }
}
