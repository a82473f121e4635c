//! A product that several threads write side by side, each its own columns.
//!
//! Unsafe, since parts of a row lie between those of other rows, which no slice can say. With sums in a thread's own
//! memory, copied into place under a lock, a decode of one was 0.97 times as fast and an embed 0.98 (SmolLM2, Zen 1,
//! ten processes each).

use std::{marker::PhantomData, ops::Range, slice};

/// Some columns of some rows of a matrix, and the right to write them.
pub(super) struct Columns<'a> {
    start: *mut f32,
    /// Numbers from one row to the next.
    stride: usize,
    rows: usize,
    width: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

#[expect(unsafe_code, reason = "see the comment")]
// SAFETY: whoever shares these can only read its width and call `part`, whose caller answers for what threads do
// with it.
unsafe impl Sync for Columns<'_> {}

impl<'a> Columns<'a> {
    /// All rows of `width` numbers.
    pub(super) fn all(matrix: &'a mut [f32], width: usize) -> Self {
        let rows = matrix.len() / width;
        Self { start: matrix.as_mut_ptr(), stride: width, rows, width, matrix: PhantomData }
    }

    /// Numbers of a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// A part of it.
    ///
    /// # Safety
    /// While the part lives, nobody has another that shares a number with it, and nobody writes the whole.
    #[expect(unsafe_code, reason = "see the contract")]
    pub(super) unsafe fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Columns<'_> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "{rows:?} of {} rows", self.rows);
        assert!(columns.start <= columns.end && columns.end <= self.width, "{columns:?} of {}", self.width);
        let start = self.start.wrapping_add(rows.start * self.stride + columns.start);
        Columns { start, rows: rows.len(), width: columns.len(), ..*self }
    }

    /// Some of its columns.
    #[expect(unsafe_code, reason = "see the comment")]
    pub(super) fn narrow(&mut self, columns: Range<usize>) -> Columns<'_> {
        // SAFETY: this one is borrowed for as long.
        unsafe { self.part(0..self.rows, columns) }
    }

    /// A row's numbers.
    #[inline(always)]
    #[expect(unsafe_code, reason = "see the comment")]
    pub(super) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the row is within the matrix, of which this one alone has these columns: it is borrowed
        // from the matrix, cut from what is borrowed for as long, or its owner has promised it.
        unsafe { slice::from_raw_parts_mut(self.start.add(row * self.stride), self.width) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the parts have no number in common")]
    fn parts_are_written_side_by_side() {
        let mut matrix = [0.0; 12];
        let all = Columns::all(&mut matrix, 4);
        std::thread::scope(|threads| {
            for (rows, columns, value) in [(0..3, 0..1, 1.0), (0..1, 1..4, 2.0), (1..3, 1..3, 3.0), (3..3, 4..4, 9.0)] {
                let all = &all;
                threads.spawn(move || {
                    // SAFETY: see the list.
                    let mut part = unsafe { all.part(rows.clone(), columns.clone()) };
                    assert_eq!(part.width(), columns.len());
                    for row in 0..rows.len() {
                        part.narrow(0..columns.len()).row(row).fill(value);
                    }
                });
            }
        });
        assert_eq!(matrix, [1.0, 2.0, 2.0, 2.0, 1.0, 3.0, 3.0, 0.0, 1.0, 3.0, 3.0, 0.0]);
    }

    #[test]
    fn nothing_outside_is_given() {
        let mut matrix = [0.0; 12];
        for (columns, row) in [(0..5, 0), (2..4, 3)] {
            let mut all = Columns::all(&mut matrix, 4);
            let outside = std::panic::AssertUnwindSafe(|| all.narrow(columns).row(row).len());
            assert!(std::panic::catch_unwind(outside).is_err());
        }
    }
}
