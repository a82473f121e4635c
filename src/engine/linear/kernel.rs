//! The product itself: rows of rounded activations by panels of packed weights.
//!
//! A few rows unpack each code in registers and use it at once. More rows unpack a stretch of [`STRETCH`]
//! inputs into memory first, which stays in the nearest cache, and share it. Integers of a block are summed
//! exactly, and blocks in order, so that both give the same to the last bit.

use std::{hint::black_box, ops::Range};

use pulp::{Arch, NullaryFnOnce, Scalar};

use super::{
    columns::Columns,
    lanes::Lanes,
    packed::{Factors, Line, Offsets, PANEL, Packed, STEP},
    rounded::{Factor, Inputs, Precision, round},
};
use crate::engine::vector;

/// Inputs that are unpacked at a time: 8 KiB of a panel.
const STRETCH: usize = 128;

/// Bytes between what is multiplied and what is asked for meanwhile. By itself a thread looks a few hundred
/// bytes ahead, less than memory delivers while one line comes, and waits: without this a decode of one took 1.4
/// times as long on Zen 1 (`cargo xtask bench --only decode --context 64 --model smollm2`).
const AHEAD: usize = 2048;

/// Rows that are multiplied at once: with two vectors of outputs each, their sums fit the registers.
const ROWS: usize = 4;

/// Memory of one thread, kept from call to call.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[rows, PANEL]`: the last panel's sums, where it has more columns than there are outputs.
    sums: Vec<f32>,
    /// A stretch of a panel's codes, 16 bits each.
    words: Vec<Line>,
    /// A panel's scales and offsets where they are kept in f16.
    scales: Vec<f32>,
    offsets: Vec<f32>,
}

/// Some rows of a [`Rounded`](super::rounded::Rounded).
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// `[rows, inputs / Precision::packed]`.
    pub packed: &'a [i32],
    /// `[rows, blocks]`.
    pub factors: &'a [Factor],
    pub count: usize,
}

/// Work that is compiled for each kind of machine. A type rather than a closure: its method can be told to
/// be inlined, without which it would be compiled for the oldest machine.
trait Work {
    fn run<L: Lanes>(self, lanes: L);
}

struct With<L, W>(L, W);

impl<L: Lanes, W: Work> NullaryFnOnce for With<L, W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.1.run(self.0);
    }
}

fn dispatch(work: impl Work) {
    match Arch::new() {
        #[cfg(target_arch = "x86_64")]
        Arch::V3(lanes) => lanes.vectorize(With(lanes, work)),
        #[cfg(target_arch = "x86_64")]
        Arch::V4(lanes) => lanes.vectorize(With(lanes, work)),
        _ => work.run(Scalar::new()),
    }
}

/// Rounds rows for these weights.
pub(super) fn round_rows(weights: &Packed, rows: Inputs<'_>, packed: &mut [i32], factors: &mut [Factor]) {
    dispatch(Round(weights, rows, packed, factors));
}

/// A call of [`round_rows`].
struct Round<'a>(&'a Packed, Inputs<'a>, &'a mut [i32], &'a mut [Factor]);

impl Work for Round<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self(weights, rows, packed, factors) = self;
        round(lanes, rows, weights.block, weights.precision, packed, factors);
    }
}

/// Multiplies rows by some panels, whose outputs' columns are written.
pub(super) fn multiply(
    weights: &Packed,
    panels: Range<usize>,
    rows: Rows<'_>,
    scratch: &mut Scratch,
    to: &mut Columns<'_>,
) {
    dispatch(Multiply { weights, panels, rows, scratch, to });
}

/// A call of [`multiply`].
struct Multiply<'a, 'o> {
    weights: &'a Packed,
    panels: Range<usize>,
    rows: Rows<'a>,
    scratch: &'a mut Scratch,
    to: &'a mut Columns<'o>,
}

impl Work for Multiply<'_, '_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { weights, panels, rows, scratch, to } = self;
        let Scratch { sums, words, scales, offsets } = scratch;
        for (index, panel) in panels.enumerate() {
            let blocks = weights.blocks();
            let lines = weights.inputs / STEP * weights.lines();
            let range = panel * blocks * PANEL..(panel + 1) * blocks * PANEL;
            let panel = Panel {
                codes: &weights.codes[panel * lines..][..lines],
                scales: floats(&weights.scales, range.clone(), scales),
                offsets: match &weights.offsets {
                    Offsets::Scales(factor) => PanelOffsets::Scales(*factor),
                    Offsets::Each(each) => PanelOffsets::Each(floats(each, range, offsets)),
                },
                blocks,
                steps: weights.block / STEP,
            };
            let columns = index * PANEL..to.width().min((index + 1) * PANEL);
            let is_whole = columns.len() == PANEL;
            let mut target = if is_whole {
                to.narrow(columns.clone())
            } else {
                sums.resize(rows.count * PANEL, 0.0);
                Columns::all(sums, PANEL)
            };
            match (weights.bits, weights.precision) {
                (4, Precision::Bytes) => panel.multiply::<L, Quads>(lanes, rows, 0, &mut target),
                (4, Precision::Words) => panel.multiply_pairs::<L, Nibbles>(lanes, rows, words, &mut target),
                _ => panel.multiply_pairs::<L, Bytes>(lanes, rows, words, &mut target),
            }
            if !is_whole {
                for (row, sums) in sums.chunks_exact(PANEL).enumerate() {
                    to.row(row)[columns.clone()].copy_from_slice(&sums[..columns.len()]);
                }
            }
        }
    }
}

/// Factors as f32.
fn floats<'a>(factors: &'a Factors, range: Range<usize>, scratch: &'a mut Vec<f32>) -> &'a [f32] {
    match factors {
        Factors::Wide(floats) => &floats[range],
        Factors::Narrow(halves) => {
            scratch.resize(range.len(), 0.0);
            vector::widen(&halves[range], scratch);
            scratch
        }
    }
}

/// How codes lie in memory, and what they are multiplied by.
trait Source {
    /// The codes of [`STEP`] inputs of a panel.
    type Codes: bytemuck::Pod;
    /// As many activations of a row, some in each number.
    type Inputs: bytemuck::Pod + AsRef<[i32]>;

    /// A vector of outputs' codes that belong to the `part`th number of a step's inputs.
    fn codes<L: Lanes>(lanes: L, codes: &Self::Codes, part: usize, vector: usize) -> L::Ints;

    /// Asks for the codes [`AHEAD`] of these, which are read from memory one after the other.
    #[inline(always)]
    fn prefetch(codes: &Self::Codes) {
        for line in bytemuck::bytes_of(codes).chunks_exact(size_of::<Line>()) {
            vector::prefetch(line.as_ptr().wrapping_add(AHEAD));
        }
    }

    /// `sum` and the products of codes and activations.
    #[inline(always)]
    fn dot<L: Lanes>(lanes: L, codes: L::Ints, inputs: L::Ints, sum: L::Ints) -> L::Ints {
        lanes.dot(codes, inputs, sum)
    }

    /// Adds the products of `M` rows with `V` vectors of a block's codes.
    #[inline(always)]
    fn add<L: Lanes, const M: usize, const V: usize>(
        lanes: L,
        codes: &[Self::Codes],
        vector: usize,
        rows: [&[Self::Inputs]; M],
        sums: &mut [[L::Ints; V]; M],
    ) {
        add_steps::<L, Self, M, V>(lanes, codes, vector, rows, sums);
    }
}

/// Adds the products of some steps.
#[inline(always)]
fn add_steps<L: Lanes, S: Source + ?Sized, const M: usize, const V: usize>(
    lanes: L,
    codes: &[S::Codes],
    vector: usize,
    rows: [&[S::Inputs]; M],
    sums: &mut [[L::Ints; V]; M],
) {
    for (step, codes) in codes.iter().enumerate() {
        S::prefetch(codes);
        for part in 0..size_of::<S::Inputs>() / size_of::<i32>() {
            let mut weights = [lanes.splat(0); V];
            for (v, weights) in weights.iter_mut().enumerate() {
                *weights = S::codes(lanes, codes, part, vector + v);
            }
            for (sums, row) in sums.iter_mut().zip(&rows) {
                let x = lanes.splat(row[step].as_ref()[part]);
                for (sum, weights) in sums.iter_mut().zip(&weights) {
                    *sum = S::dot(lanes, *weights, x, *sum);
                }
            }
        }
    }
}

/// 4 bits, as in [`Packed`].
struct Nibbles;

impl Source for Nibbles {
    type Codes = [u8; STEP * PANEL / 2];
    type Inputs = [i32; STEP / 2];

    #[inline(always)]
    fn codes<L: Lanes>(lanes: L, codes: &Self::Codes, pair: usize, vector: usize) -> L::Ints {
        lanes.nibbles(&codes[vector * L::COUNT * 4..], pair)
    }
}

/// 8 bits, as in [`Packed`].
struct Bytes;

impl Source for Bytes {
    type Codes = [u8; STEP * PANEL];
    type Inputs = [i32; STEP / 2];

    #[inline(always)]
    fn codes<L: Lanes>(lanes: L, codes: &Self::Codes, pair: usize, vector: usize) -> L::Ints {
        lanes.bytes(&codes[pair * PANEL * 2 + vector * L::COUNT * 2..])
    }
}

/// 16 bits: unpacked.
struct Words;

impl Source for Words {
    type Codes = [u8; STEP * PANEL * 2];
    type Inputs = [i32; STEP / 2];

    #[inline(always)]
    fn codes<L: Lanes>(lanes: L, codes: &Self::Codes, pair: usize, vector: usize) -> L::Ints {
        lanes.words(&codes[pair * PANEL * 4 + vector * L::COUNT * 4..])
    }

    /// They are in the nearest cache.
    #[inline(always)]
    fn prefetch(_: &Self::Codes) {}
}

/// 4 bits by activations of 8.
struct Quads;

impl Source for Quads {
    type Codes = [u8; STEP * PANEL / 2];
    type Inputs = [i32; STEP / 4];

    #[inline(always)]
    fn codes<L: Lanes>(lanes: L, codes: &Self::Codes, quad: usize, vector: usize) -> L::Ints {
        lanes.quads(&codes[vector * L::COUNT * 4..], quad == 1)
    }

    #[inline(always)]
    fn dot<L: Lanes>(lanes: L, codes: L::Ints, inputs: L::Ints, sum: L::Ints) -> L::Ints {
        lanes.dot_bytes(codes, inputs, sum)
    }

    #[inline(always)]
    fn add<L: Lanes, const M: usize, const V: usize>(
        lanes: L,
        codes: &[Self::Codes],
        vector: usize,
        rows: [&[Self::Inputs]; M],
        sums: &mut [[L::Ints; V]; M],
    ) {
        // Most blocks are as short as that, and with nothing added before all sums fit the registers. A compiler
        // that knew how short would unroll the steps and add their products in pairs, for which there is no room.
        let mut end = black_box(codes.len().min(STEPS_MAX));
        add_short(lanes, &codes[..end], vector, rows.map(|row| &row[..end]), sums);
        while end < codes.len() {
            let steps = end..codes.len().min(end + STEPS_MAX);
            add_short(lanes, &codes[steps.clone()], vector, rows.map(|row| &row[steps.clone()]), sums);
            end = steps.end;
        }
    }
}

/// Steps whose products of `15 * 127`, two at a time, fit 16 bits when they are added.
const STEPS_MAX: usize = 4;
const _: () = assert!(STEPS_MAX * STEP / 2 * 15 * 127 <= i16::MAX as usize);

/// Adds the products of at most [`STEPS_MAX`] steps, which are summed in 16 bits first.
#[inline(always)]
fn add_short<L: Lanes, const M: usize, const V: usize>(
    lanes: L,
    codes: &[<Quads as Source>::Codes],
    vector: usize,
    rows: [&[<Quads as Source>::Inputs]; M],
    sums: &mut [[L::Ints; V]; M],
) {
    let mut halves = [[lanes.splat(0); V]; M];
    add_steps::<L, Quads, M, V>(lanes, codes, vector, rows, &mut halves);
    let ones = lanes.splat(0x0001_0001);
    for (sums, halves) in sums.iter_mut().zip(&halves) {
        for (sum, half) in sums.iter_mut().zip(halves) {
            *sum = lanes.dot(*half, ones, *sum);
        }
    }
}

/// One panel's part of the weights, or some blocks of it.
#[derive(Clone, Copy)]
struct Panel<'a> {
    codes: &'a [Line],
    scales: &'a [f32],
    offsets: PanelOffsets<'a>,
    blocks: usize,
    /// Steps of a block.
    steps: usize,
}

#[derive(Clone, Copy)]
enum PanelOffsets<'a> {
    Scales(f32),
    Each(&'a [f32]),
}

/// A row's part in some blocks.
#[derive(Clone, Copy)]
struct Row<'a, I> {
    inputs: &'a [I],
    factors: &'a [Factor],
}

impl<'a> Panel<'a> {
    /// Writes the products of all rows with a whole panel of pairs.
    #[inline(always)]
    fn multiply_pairs<L: Lanes, P: Source<Inputs = [i32; STEP / 2]>>(
        self,
        lanes: L,
        rows: Rows<'_>,
        words: &mut Vec<Line>,
        to: &mut Columns<'_>,
    ) {
        if rows.count <= ROWS {
            return self.multiply::<L, P>(lanes, rows, 0, to);
        }
        let blocks = (STRETCH / STEP / self.steps).max(1);
        for first in (0..self.blocks).step_by(blocks) {
            let part = self.part(first..(first + blocks).min(self.blocks)).unpacked::<L, P>(lanes, words);
            part.multiply::<L, Words>(lanes, rows, first, to);
        }
    }

    /// Some of its blocks.
    #[inline(always)]
    fn part(self, blocks: Range<usize>) -> Self {
        let lines = self.codes.len() / self.blocks;
        let factors = blocks.start * PANEL..blocks.end * PANEL;
        Self {
            codes: &self.codes[blocks.start * lines..blocks.end * lines],
            scales: &self.scales[factors.clone()],
            offsets: match self.offsets {
                PanelOffsets::Each(offsets) => PanelOffsets::Each(&offsets[factors]),
                scales => scales,
            },
            blocks: blocks.len(),
            steps: self.steps,
        }
    }

    /// The same with its codes as [`Words`].
    #[inline(always)]
    fn unpacked<'w, L: Lanes, P: Source>(self, lanes: L, words: &'w mut Vec<Line>) -> Panel<'w>
    where
        'a: 'w,
    {
        let steps: &[P::Codes] = bytemuck::cast_slice(self.codes);
        let lines = steps.len() * size_of::<<Words as Source>::Codes>() / size_of::<Line>();
        words.resize(words.len().max(lines), Line([0; 64]));
        let to: &mut [<Words as Source>::Codes] = bytemuck::cast_slice_mut(&mut words[..lines]);
        for (step, to) in steps.iter().zip(to) {
            P::prefetch(step);
            for pair in 0..STEP / 2 {
                for vector in 0..PANEL / L::COUNT {
                    let codes = P::codes(lanes, step, pair, vector);
                    lanes.store_words(codes, &mut to[pair * PANEL * 4 + vector * L::COUNT * 4..]);
                }
            }
        }
        Panel { codes: &words[..lines], ..self }
    }

    /// Adds the products of all rows with these blocks to what is there. The first is the rows' block `block`;
    /// where that is their first, nothing is there.
    #[inline(always)]
    fn multiply<L: Lanes, S: Source>(self, lanes: L, rows: Rows<'_>, block: usize, to: &mut Columns<'_>) {
        for first in (0..rows.count).step_by(ROWS) {
            match rows.count - first {
                1 => self.rows::<L, S, 1>(lanes, rows, block, first, to),
                2 => self.rows::<L, S, 2>(lanes, rows, block, first, to),
                3 => self.rows::<L, S, 3>(lanes, rows, block, first, to),
                _ => self.rows::<L, S, ROWS>(lanes, rows, block, first, to),
            }
        }
    }

    #[inline(always)]
    fn rows<L: Lanes, S: Source, const M: usize>(
        self,
        lanes: L,
        rows: Rows<'_>,
        block: usize,
        first: usize,
        to: &mut Columns<'_>,
    ) {
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
            return self.tile::<L, S, M, 4>(lanes, tile, block > 0, first, 0, to);
        }
        for vector in (0..PANEL / L::COUNT).step_by(2) {
            self.tile::<L, S, M, 2>(lanes, tile, block > 0, first, vector, to);
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::{
        super::{packed::pack, rounded::Rounded},
        *,
    };
    use crate::model::{LinearSource, ZeroPoints};

    /// A layer of any form with its weights as MatMulNBits has them, and the plain matrix they stand for.
    fn layer(
        inputs: usize,
        outputs: usize,
        bits: u32,
        block: usize,
        zeros: ZeroPoints,
        precision: Precision,
    ) -> (Packed, Vec<Vec<f64>>) {
        let blocks = inputs / block;
        let per_byte = 8 / bits as usize;
        let codes: Vec<u8> = (0..outputs * inputs / per_byte).map(|i| (i * 89 + i / 7) as u8).collect();
        // Those of every other form are numbers of f16.
        let exact = |x: f32| if block == 32 { half::f16::from_f32(x).to_f32() } else { x };
        let scales: Vec<f32> = (0..outputs * blocks).map(|i| exact(0.01 + (i % 13) as f32 * 0.003)).collect();
        let zero_floats: Vec<f32> = (0..outputs * blocks).map(|i| 7.25 + (i % 5) as f32).collect();
        let zero_row = (blocks * bits as usize).div_ceil(8);
        let zero_codes: Vec<u8> = (0..outputs * zero_row).map(|i| (i * 53 + 100) as u8).collect();
        let bytes = |floats: &[f32]| floats.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let zero_bytes = match zeros {
            ZeroPoints::Middle => Vec::new(),
            ZeroPoints::Codes => zero_codes.clone(),
            ZeroPoints::Floats => bytes(&zero_floats),
        };
        let source = LinearSource::for_test(inputs, outputs, bits, block, zeros);
        let packed = pack(&source, &codes, &bytes(&scales), &zero_bytes, precision).unwrap();
        let code = |row: &[u8], i: usize| if bits == 4 { (row[i / 2] >> (4 * (i % 2))) & 15 } else { row[i] };
        let weight = |output: usize, input: usize| {
            let at = output * blocks + input / block;
            let zero = match zeros {
                ZeroPoints::Middle => f64::from(1u32 << (bits - 1)),
                ZeroPoints::Codes => f64::from(code(&zero_codes[output * zero_row..], input / block)),
                ZeroPoints::Floats => f64::from(zero_floats[at]),
            };
            (f64::from(code(&codes[output * inputs / per_byte..], input)) - zero) * f64::from(scales[at])
        };
        let matrix = (0..outputs).map(|o| (0..inputs).map(|i| weight(o, i)).collect()).collect();
        (packed, matrix)
    }

    /// What vectors a product is compiled for.
    #[derive(Clone, Copy)]
    enum Kind {
        Chosen,
        Scalar,
        #[cfg(target_arch = "x86_64")]
        V3(pulp::x86::V3),
        #[cfg(target_arch = "x86_64")]
        V4(pulp::x86::V4),
    }

    impl Kind {
        /// Those that this machine has.
        fn all() -> Vec<Self> {
            let mut all = vec![Self::Chosen];
            all.push(Self::Scalar);
            #[cfg(target_arch = "x86_64")]
            {
                all.extend(pulp::x86::V3::try_new().map(Self::V3));
                all.extend(pulp::x86::V4::try_new().map(Self::V4));
            }
            all
        }

        fn run(self, work: impl Work) {
            match self {
                Self::Chosen => dispatch(work),
                Self::Scalar => work.run(Scalar::new()),
                #[cfg(target_arch = "x86_64")]
                Self::V3(lanes) => lanes.vectorize(With(lanes, work)),
                #[cfg(target_arch = "x86_64")]
                Self::V4(lanes) => lanes.vectorize(With(lanes, work)),
            }
        }

        /// The products of some rows, `[rows, outputs]`.
        fn product(self, weights: &Packed, rows: &[f32], count: usize) -> Vec<f32> {
            let (mut rounded, mut scratch) = (Rounded::default(), Scratch::default());
            rounded.resize(count, weights.inputs, weights.block, weights.precision);
            let Rounded { packed, factors } = &mut rounded;
            let inputs = Inputs::of(weights.inputs, weights.inputs, rows, None).unwrap();
            self.run(Round(weights, inputs, packed, factors));
            let (panels, rows) = (0..weights.panels(), Rows { packed, factors, count });
            // What was there before is nobody's.
            let mut product = vec![f32::NAN; count * weights.outputs];
            let to = &mut Columns::all(&mut product, weights.outputs);
            self.run(Multiply { weights, panels, rows, scratch: &mut scratch, to });
            product
        }
    }

    #[test]
    fn every_form_gives_the_plain_product() {
        for (bits, block, zeros, precision) in [
            (8, 32, ZeroPoints::Middle, Precision::Words),
            (8, 16, ZeroPoints::Codes, Precision::Words),
            (8, 512, ZeroPoints::Codes, Precision::Words),
            (4, 32, ZeroPoints::Middle, Precision::Words),
            (4, 64, ZeroPoints::Codes, Precision::Words),
            (4, 32, ZeroPoints::Floats, Precision::Words),
            (4, 256, ZeroPoints::Middle, Precision::Words),
            (4, 16, ZeroPoints::Middle, Precision::Bytes),
            (4, 32, ZeroPoints::Floats, Precision::Bytes),
            (4, 512, ZeroPoints::Codes, Precision::Bytes),
        ] {
            let (inputs, outputs) = (512, 70);
            let (packed, matrix) = layer(inputs, outputs, bits, block, zeros, precision);
            let all: Vec<f32> = (0..7 * inputs).map(|i| ((i * 31) % 17) as f32 / 8.0 - 1.0).collect();
            for kind in Kind::all() {
                let alone: Vec<f32> = all.chunks(inputs).flat_map(|x| kind.product(&packed, x, 1)).collect();
                for (sums, x) in alone.chunks(outputs).zip(all.chunks(inputs)) {
                    for (output, weights) in matrix.iter().enumerate() {
                        let expected: f64 = weights.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum();
                        let size: f64 = weights.iter().zip(x).map(|(w, x)| (w * f64::from(*x)).abs()).sum();
                        let found = f64::from(sums[output]);
                        // Activations lose half a step of a block's largest; the rest are some f32 sums.
                        let step = if precision == Precision::Words { 2e-5 } else { 5e-3 };
                        assert!((found - expected).abs() <= step * size, "{bits} {block}: {found} {expected}");
                    }
                }
                for count in [2, 3, 4, 7] {
                    let found = kind.product(&packed, &all[..count * inputs], count);
                    assert_eq!(found, alone[..count * outputs], "a row's result depends on the rows beside it");
                }
            }
        }
    }

    #[test]
    fn the_largest_numbers_fit_their_sums() {
        let (inputs, outputs) = (512, PANEL);
        let source = LinearSource::for_test(inputs, outputs, 4, inputs, ZeroPoints::Floats);
        let factors = |x: f32| x.to_le_bytes().repeat(outputs);
        let codes = vec![0xff; outputs * inputs / 2];
        let packed = pack(&source, &codes, &factors(1.0), &factors(0.0), Precision::Bytes).unwrap();
        for activation in [127.0, -127.0] {
            for kind in Kind::all() {
                let found = kind.product(&packed, &vec![activation; 3 * inputs], 3);
                assert!(found.iter().all(|x| *x == activation * 15.0 * inputs as f32), "{activation}: {found:?}");
            }
        }
    }
}
