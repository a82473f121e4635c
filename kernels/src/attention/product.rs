//! A product of two small matrices, the heart of attention: `[m, k]` by `[k, n]`.
//!
//! The right one lies in panels of [`PANEL`] columns, so that a tile reads one stretch of memory in
//! order. Every element is summed over `k` in order, whatever the number of rows: what a query gets does
//! not depend on the queries beside it.

use std::array;

use pulp::{Simd, WithSimd};

use crate::vector;

/// Columns of a panel: whole vectors on every machine.
pub(super) const PANEL: usize = 16;

/// Rows of a tile at most. With the two vectors that a panel has on most machines, as many sums as hide a
/// multiply-add's latency and, with what is multiplied, fit sixteen registers.
pub(super) const ROWS: usize = 6;

/// Rows of a tile that wait for memory rather than for their sums, as those of decodes do. Asking ahead made decodes
/// at contexts of 64 and 1,536 tokens 1.04 times as fast on Zen 1; beside six rows it made embeds 0.96 times as fast.
const WAITING_ROWS: usize = 3;

/// The left matrix.
pub(super) trait Left: Copy {
    /// The numbers of `M` rows from `row` on, step by step.
    fn steps<const M: usize>(self, row: usize) -> impl Iterator<Item = [f32; M]>;
}

/// Rows packed by [`pack`].
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    /// `[tiles, k, rows of the tile]`.
    pub data: &'a [f32],
    /// Numbers of a row.
    pub k: usize,
}

impl Left for Packed<'_> {
    #[inline(always)]
    fn steps<const M: usize>(self, row: usize) -> impl Iterator<Item = [f32; M]> {
        self.data[row * self.k..][..M * self.k].as_chunks().0.iter().copied()
    }
}

/// Appends the rows of `[m, k]`, step by step for the rows of each tile.
pub(super) fn pack(rows: &[f32], k: usize, packed: &mut Vec<f32>) {
    for tile in rows.chunks(ROWS * k) {
        let first = packed.len();
        packed.resize(first + tile.len(), 0.0);
        for (row, numbers) in tile.chunks_exact(k).enumerate() {
            let places = packed[first + row..].iter_mut().step_by(tile.len() / k);
            places.zip(numbers).for_each(|(to, number)| *to = *number);
        }
    }
}

/// Rows of a length that is known, of which the first `k` numbers count.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, const N: usize> {
    /// `[m, N]`.
    pub rows: &'a [[f32; N]],
    /// How many numbers of a row count.
    pub k: usize,
}

impl<const N: usize> Left for Rows<'_, N> {
    #[inline(always)]
    fn steps<const M: usize>(self, row: usize) -> impl Iterator<Item = [f32; M]> {
        let rows: [&[f32; N]; M] = array::from_fn(|offset| &self.rows[row + offset]);
        (0..self.k.min(N)).map(move |step| rows.map(|row| row[step]))
    }
}

/// The right matrix: panels of `depth` steps each, of which as many count as the left one has.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    /// `[panels, depth, PANEL]`.
    pub data: &'a [f32],
    /// Steps of a panel.
    pub depth: usize,
    /// The next block's memory, asked for meanwhile.
    pub next: &'a [u8],
}

impl<'a> Panels<'a> {
    fn panel(self, index: usize) -> &'a [[f32; PANEL]] {
        self.data[index * self.depth * PANEL..][..self.depth * PANEL].as_chunks().0
    }

    /// Where the part of what is next begins that lies as a panel does in these, and the bytes of a step.
    #[inline(always)]
    pub(super) fn ahead(self, panel: usize) -> (*const u8, usize) {
        let stride = self.next.len() * PANEL / self.data.len();
        (self.next.as_ptr().wrapping_add(panel * self.depth * stride), stride)
    }
}

/// The result: rows of whole panels.
pub(super) struct Sums<'a> {
    /// `[m, stride]`.
    pub data: &'a mut [f32],
    /// Numbers from one row to the next.
    pub stride: usize,
    /// Panels of a row that are written.
    pub panels: usize,
    /// Whether it is added to.
    pub add: bool,
}

/// `sums = left * right` or, where they say so, `sums += left * right`. `m`: rows.
#[inline(always)]
pub(super) fn product<S: Simd>(simd: S, m: usize, left: impl Left, right: Panels<'_>, sums: &mut Sums<'_>) {
    for row in (0..m).step_by(ROWS) {
        match m - row {
            1 => rows::<S, 1, 2>(simd, row, left, right, sums),
            2 => rows::<S, 2, 2>(simd, row, left, right, sums),
            3 => rows::<S, 3, 2>(simd, row, left, right, sums),
            4 => rows::<S, 4, 1>(simd, row, left, right, sums),
            5 => rows::<S, 5, 1>(simd, row, left, right, sums),
            _ => rows::<S, ROWS, 1>(simd, row, left, right, sums),
        }
    }
}

/// `M` rows, in a function of their own: inlined among others the sums do not stay in registers.
#[inline(never)]
fn rows<S: Simd, const M: usize, const P: usize>(
    simd: S,
    row: usize,
    left: impl Left,
    right: Panels<'_>,
    sums: &mut Sums<'_>,
) {
    simd.vectorize(RowsOf::<_, M, P> { row, left, right, sums });
}

struct RowsOf<'a, 's, L, const M: usize, const P: usize> {
    row: usize,
    left: L,
    right: Panels<'a>,
    sums: &'a mut Sums<'s>,
}

impl<L: Left, const M: usize, const P: usize> WithSimd for RowsOf<'_, '_, L, M, P> {
    type Output = ();

    /// `P` panels at a time and what remains by one.
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut panel = 0;
        while panel + P <= self.sums.panels {
            self.panels::<S, P>(simd, panel);
            panel += P;
        }
        while panel < self.sums.panels {
            self.panels::<S, 1>(simd, panel);
            panel += 1;
        }
    }
}

impl<L: Left, const M: usize, const P: usize> RowsOf<'_, '_, L, M, P> {
    /// Chooses how many vectors are a panel.
    #[inline(always)]
    fn panels<S: Simd, const N: usize>(&mut self, simd: S, panel: usize) {
        match PANEL / S::F32_LANES {
            1 => self.tile::<S, N, 1>(simd, panel),
            2 => self.tile::<S, N, 2>(simd, panel),
            4 => self.tile::<S, N, 4>(simd, panel),
            _ => self.tile::<S, N, PANEL>(simd, panel),
        }
    }

    /// `M` rows by `N` panels of `V` vectors, kept in registers.
    #[inline(always)]
    fn tile<S: Simd, const N: usize, const V: usize>(&mut self, simd: S, panel: usize) {
        let Self { row, left, right, sums } = self;
        let (row, left) = (*row, *left);
        let mut tile = [[[simd.splat_f32s(0.0); V]; N]; M];
        let place = |offset: usize, index: usize| (row + offset) * sums.stride + (panel + index) * PANEL;
        if sums.add {
            for (offset, tile) in tile.iter_mut().enumerate() {
                for (index, tile) in tile.iter_mut().enumerate() {
                    tile.copy_from_slice(S::as_simd_f32s(&sums.data[place(offset, index)..][..PANEL]).0);
                }
            }
        }
        let ahead: [_; N] = array::from_fn(|index| right.ahead(panel + index));
        let right: [_; N] = array::from_fn(|index| right.panel(panel + index));
        // As long as the first: no check a step.
        let right = right.map(|panel| &panel[..right[0].len()]);
        for (step, x) in left.steps::<M>(row).take(right[0].len()).enumerate() {
            let b: [[_; V]; N] = array::from_fn(|index| {
                let b = S::as_simd_f32s(&right[index][step]).0;
                array::from_fn(|vector| b[vector])
            });
            if M <= WAITING_ROWS {
                for (next, stride) in ahead {
                    vector::prefetch(next.wrapping_add(step * stride));
                }
            }
            // The fewer are kept in registers while the more pass by.
            if M > N * V {
                for (tile, x) in tile.iter_mut().zip(x) {
                    let x = simd.splat_f32s(x);
                    for (tile, b) in tile.as_flattened_mut().iter_mut().zip(b.as_flattened()) {
                        *tile = simd.mul_add_f32s(x, *b, *tile);
                    }
                }
            } else {
                let x = x.map(|x| simd.splat_f32s(x));
                for index in 0..N {
                    for vector in 0..V {
                        for (tile, x) in tile.iter_mut().zip(x) {
                            tile[index][vector] = simd.mul_add_f32s(x, b[index][vector], tile[index][vector]);
                        }
                    }
                }
            }
        }
        for (offset, tile) in tile.iter().enumerate() {
            for (index, tile) in tile.iter().enumerate() {
                let to = &mut sums.data[place(offset, index)..][..PANEL];
                S::as_mut_simd_f32s(to).0.copy_from_slice(tile);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Product<'a, L>(usize, L, Panels<'a>, Sums<'a>);

    impl<L: Left> WithSimd for Product<'_, L> {
        type Output = ();

        fn with_simd<S: Simd>(mut self, simd: S) {
            product(simd, self.0, self.1, self.2, &mut self.3);
        }
    }

    #[test]
    fn any_size_gives_the_plain_sum() {
        const N: usize = 40;
        for (m, panels, k) in [(1, 1, 1), (2, 3, 5), (3, 2, 40), (4, 4, 33), (5, 1, 7), (6, 5, 16), (19, 3, 39)] {
            let value = |i: usize| ((i * 29) % 13) as f32 - 6.0;
            let rows: Vec<[f32; N]> = (0..m).map(|row| array::from_fn(|step| value(row * N + step))).collect();
            let (depth, stride) = (k + 2, panels * PANEL + 3);
            let right: Vec<f32> = (0..panels * depth * PANEL).map(|i| value(i + 5)).collect();
            let right = Panels { data: &right, depth, next: &[] };
            let mut packed = Vec::new();
            let short: Vec<f32> = rows.iter().flat_map(|row| &row[..k]).copied().collect();
            pack(&short, k, &mut packed);
            for is_packed in [true, false] {
                let mut c = vec![1f32; m * stride];
                let sums = Sums { data: &mut c, stride, panels, add: !is_packed };
                if is_packed {
                    pulp::Arch::new().dispatch(Product(m, Packed { data: &packed, k }, right, sums));
                } else {
                    pulp::Arch::new().dispatch(Product(m, Rows { rows: &rows, k }, right, sums));
                }
                for (i, row) in rows.iter().enumerate() {
                    for j in 0..stride {
                        let of = |step: usize| right.panel(j / PANEL)[step][j % PANEL];
                        let sum = if j < panels * PANEL { (0..k).map(|step| row[step] * of(step)).sum() } else { 1.0 };
                        // Small integers: every order of summing is exact.
                        let before = if !is_packed && j < panels * PANEL { 1.0 } else { 0.0 };
                        assert_eq!(c[i * stride + j], before + sum, "{m} {panels} {k} {i} {j}");
                    }
                }
            }
        }
    }
}
