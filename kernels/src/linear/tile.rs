//! Tiles: a few rows by a few vectors of outputs, whose sums stay in registers from a panel's first block to its
//! last.
//!
//! Blocks are summed exactly as integers and added up in order, so that every tile gives the same to the last bit.
//! What is compiled is one function for each kind of vectors ([`Lanes`]) and of codes ([`Source`]), with a tile for
//! each number of rows in it:
//!
//! | rows of a tile | without vectors | AVX2 (8 numbers a vector) | AVX-512 (16 numbers a vector) |
//! |---|---|---|---|
//! | 1 | 4 vectors: a whole panel | 4 vectors | 2 vectors: a whole panel |
//! | 2 | 4 vectors | 4 vectors | 2 vectors |
//! | 3 | none: 2 rows and 1 | 2 vectors, twice | 2 vectors |
//! | 4 | 2 vectors, twice | 2 vectors, twice | 2 vectors |
//!
//! Four kinds of vectors (AVX-512 with VNNI and without) and four of codes: 16 functions with 60 tiles. The loop over
//! panels is in them, since a call for each panel made a decode of one 0.93 times as fast. A panel's scales and
//! offsets are f32 when they come here, so their kinds multiply nothing.

use super::{
    codes::Source,
    columns::Columns,
    lanes::Lanes,
    packed::PANEL,
    panel::{Panel, PanelOffsets},
    rounded::{Factor, Rows},
};

/// Rows that are multiplied at once: with two vectors of outputs each, their sums fit the registers.
pub(super) const ROWS: usize = 4;

/// Adds the products of all rows with a panel's blocks to what is there. The first is the rows' block `block`;
/// where that is their first, nothing is there.
#[inline(always)]
pub(super) fn multiply<L: Lanes, S: Source>(
    lanes: L,
    panel: Panel<'_>,
    rows: Rows<'_>,
    block: usize,
    to: &mut Columns<'_>,
) {
    let mut first = 0;
    while first < rows.count {
        first += match rows.count - first {
            1 => panel.rows::<L, S, 1>(lanes, rows, block, first, to),
            3 if L::HAS_THREES => panel.rows::<L, S, 3>(lanes, rows, block, first, to),
            2 | 3 => panel.rows::<L, S, 2>(lanes, rows, block, first, to),
            _ => panel.rows::<L, S, ROWS>(lanes, rows, block, first, to),
        }
    }
}

/// A row's part in some blocks.
#[derive(Clone, Copy)]
struct Row<'a, I> {
    inputs: &'a [I],
    factors: &'a [Factor],
}

impl Panel<'_> {
    /// Rows `first` to `first + M`, by all of the panel's outputs. Returns `M`.
    #[inline(always)]
    fn rows<L: Lanes, S: Source, const M: usize>(
        self,
        lanes: L,
        rows: Rows<'_>,
        block: usize,
        first: usize,
        to: &mut Columns<'_>,
    ) -> usize {
        let all = rows.factors.len() / rows.count;
        let inputs: &[S::Inputs] = bytemuck::cast_slice(rows.packed);
        let mut tile = [Row { inputs: &[], factors: &[] }; M];
        for (index, row) in tile.iter_mut().enumerate() {
            let at = (first + index) * all + block;
            row.inputs = &inputs[at * self.steps..][..self.blocks * self.steps];
            row.factors = &rows.factors[at..][..self.blocks];
        }
        if M <= 2 && L::COUNT * 4 == PANEL {
            // One way through memory, as it lies.
            self.tile::<L, S, M, 4>(lanes, tile, block > 0, first, 0, to);
        } else {
            for vector in (0..PANEL / L::COUNT).step_by(2) {
                self.tile::<L, S, M, 2>(lanes, tile, block > 0, first, vector, to);
            }
        }
        M
    }

    /// `M` rows by `V` vectors of outputs, kept in registers.
    #[inline(always)]
    fn tile<L: Lanes, S: Source, const M: usize, const V: usize>(
        self,
        lanes: L,
        rows: [Row<'_, S::Inputs>; M],
        is_begun: bool,
        first: usize,
        vector: usize,
        to: &mut Columns<'_>,
    ) {
        let codes: &[S::Codes] = bytemuck::cast_slice(self.codes);
        let mut totals = [[lanes.splat_float(0.0); V]; M];
        if is_begun {
            for (m, totals) in totals.iter_mut().enumerate() {
                let row = &to.row(first + m)[vector * L::COUNT..];
                for (v, total) in totals.iter_mut().enumerate() {
                    *total = lanes.load(&row[v * L::COUNT..]);
                }
            }
        }
        // Slices of lengths that are known need no check each.
        let width = V * L::COUNT;
        let codes = &codes[..self.blocks * self.steps];
        let factors = rows.map(|row| &row.factors[..self.blocks]);
        let mut inputs = rows.map(|row| row.inputs);
        for (block, codes) in codes.chunks_exact(self.steps).take(self.blocks).enumerate() {
            let mut integers = [[lanes.splat(0); V]; M];
            let mut now: [&[S::Inputs]; M] = [&[]; M];
            for (now, inputs) in now.iter_mut().zip(&mut inputs) {
                (*now, *inputs) = inputs.split_at(self.steps);
            }
            S::add(lanes, codes, vector, now, &mut integers);
            let at = block * PANEL + vector * L::COUNT;
            let scales = &self.scales[at..][..width];
            for v in 0..V {
                let scale = lanes.load(&scales[v * L::COUNT..]);
                let offset = match self.offsets {
                    PanelOffsets::Scales(factor) => lanes.mul(scale, lanes.splat_float(factor)),
                    PanelOffsets::Each(offsets) => lanes.load(&offsets[at..][..width][v * L::COUNT..]),
                };
                for (m, factors) in factors.iter().enumerate() {
                    let Factor { scale: step, sum } = factors[block];
                    let factor = lanes.mul(scale, lanes.splat_float(step));
                    let total = lanes.mul_add(lanes.float(integers[m][v]), factor, totals[m][v]);
                    totals[m][v] = lanes.mul_add(offset, lanes.splat_float(sum), total);
                }
            }
        }
        for (m, totals) in totals.iter().enumerate() {
            let row = &mut to.row(first + m)[vector * L::COUNT..];
            for (v, total) in totals.iter().enumerate() {
                lanes.store(*total, &mut row[v * L::COUNT..]);
            }
        }
    }
}
