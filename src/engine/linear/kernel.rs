//! The product itself: rows of activations by panels of packed weights.
//!
//! One or two rows widen each weight in registers and use it at once. More rows widen a stretch of
//! [`STRETCH`] inputs into memory first, which stays in the nearest cache, and share it. Both sum over
//! the inputs in the same order with the same roundings.

use std::ops::Range;

use pulp::{NullaryFnOnce, Scalar, Simd};

use super::packed::{Factors, Lane, Offsets, PANEL, Packed};
use crate::engine::product::{Dims, product};

/// Inputs that are widened at a time: 16 KiB of a panel.
const STRETCH: usize = 128;

/// A machine's vectors, with what `pulp` has no common name for: bytes to floats.
trait Widen: Simd {
    /// [`PANEL`] floats.
    type Row: Copy + AsRef<[Self::f32s]> + AsMut<[Self::f32s]>;

    /// Zeros.
    fn zeros(self) -> Self::Row;

    /// Numbers.
    fn load(self, lane: &Lane<f32>) -> Self::Row;

    /// Bytes as numbers from 0 to 255.
    fn widen(self, codes: &Lane<u8>) -> Self::Row;

    /// The low and the high halves of bytes as numbers from 0 to 15.
    fn widen_halves(self, codes: &Lane<u8>) -> [Self::Row; 2];
}

impl Widen for Scalar {
    type Row = [f32; PANEL];

    fn zeros(self) -> Self::Row {
        [0.0; PANEL]
    }

    fn load(self, lane: &Lane<f32>) -> Self::Row {
        lane.0
    }

    fn widen(self, codes: &Lane<u8>) -> Self::Row {
        codes.0.map(f32::from)
    }

    fn widen_halves(self, codes: &Lane<u8>) -> [Self::Row; 2] {
        [codes.0.map(|code| f32::from(code & 15)), codes.0.map(|code| f32::from(code >> 4))]
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use pulp::{
        cast,
        x86::{V3, V4},
    };

    use super::{Lane, PANEL, Widen};

    /// The low and high halves of bytes.
    #[inline(always)]
    fn halves(simd: V3, codes: &Lane<u8>) -> [[pulp::u8x16; 2]; 2] {
        let mask = simd.splat_u8x16(15);
        let [a, b]: [pulp::u8x16; 2] = cast(codes.0);
        [[simd.and_u8x16(a, mask), simd.and_u8x16(b, mask)], [high(simd, a, mask), high(simd, b, mask)]]
    }

    #[inline(always)]
    fn high(simd: V3, codes: pulp::u8x16, mask: pulp::u8x16) -> pulp::u8x16 {
        simd.and_u8x16(cast(simd.shr_const_u16x8::<4>(cast(codes))), mask)
    }

    impl Widen for V3 {
        type Row = [pulp::f32x8; PANEL / 8];

        #[inline(always)]
        fn zeros(self) -> Self::Row {
            [self.splat_f32x8(0.0); PANEL / 8]
        }

        #[inline(always)]
        fn load(self, lane: &Lane<f32>) -> Self::Row {
            cast(lane.0)
        }

        #[inline(always)]
        fn widen(self, codes: &Lane<u8>) -> Self::Row {
            widen_v3(self, cast(codes.0))
        }

        #[inline(always)]
        fn widen_halves(self, codes: &Lane<u8>) -> [Self::Row; 2] {
            let [low, high] = halves(self, codes);
            [widen_v3(self, low), widen_v3(self, high)]
        }
    }

    #[inline(always)]
    fn widen_v3(simd: V3, codes: [pulp::u8x16; 2]) -> [pulp::f32x8; PANEL / 8] {
        let [first, second] = codes;
        [
            eight(simd, first),
            eight(simd, cast(simd.sse2._mm_srli_si128::<8>(cast(first)))),
            eight(simd, second),
            eight(simd, cast(simd.sse2._mm_srli_si128::<8>(cast(second)))),
        ]
    }

    /// The lower eight bytes.
    #[inline(always)]
    fn eight(simd: V3, codes: pulp::u8x16) -> pulp::f32x8 {
        simd.convert_i32x8_to_f32x8(simd.convert_u8x16_to_i32x8(codes))
    }

    impl Widen for V4 {
        type Row = [pulp::f32x16; PANEL / 16];

        #[inline(always)]
        fn zeros(self) -> Self::Row {
            [self.splat_f32x16(0.0); PANEL / 16]
        }

        #[inline(always)]
        fn load(self, lane: &Lane<f32>) -> Self::Row {
            cast(lane.0)
        }

        #[inline(always)]
        fn widen(self, codes: &Lane<u8>) -> Self::Row {
            widen_v4(self, cast(codes.0))
        }

        #[inline(always)]
        fn widen_halves(self, codes: &Lane<u8>) -> [Self::Row; 2] {
            let [low, high] = halves(*self, codes);
            [widen_v4(self, low), widen_v4(self, high)]
        }
    }

    #[inline(always)]
    fn widen_v4(simd: V4, codes: [pulp::u8x16; 2]) -> [pulp::f32x16; PANEL / 16] {
        let [first, second] = codes;
        [sixteen(simd, first), sixteen(simd, second)]
    }

    #[inline(always)]
    fn sixteen(simd: V4, codes: pulp::u8x16) -> pulp::f32x16 {
        simd.convert_i32x16_to_f32x16(simd.convert_u8x16_to_i32x16(codes))
    }
}

/// Memory of one thread, kept from call to call.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[rows, panels * PANEL]`: the answer.
    pub sums: Vec<f32>,
    /// A stretch of a panel's weights, widened.
    wide: Vec<f32>,
}

/// Multiplies `rows` (`[rows, inputs]`) by some panels; the answer is in `scratch.sums`.
pub(super) fn multiply(weights: &Packed, panels: Range<usize>, rows: &[f32], scratch: &mut Scratch) {
    match pulp::Arch::new() {
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V4(simd) => simd.vectorize(Multiply { simd, weights, panels, rows, scratch }),
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V3(simd) => simd.vectorize(Multiply { simd, weights, panels, rows, scratch }),
        _ => Multiply { simd: Scalar::new(), weights, panels, rows, scratch }.call(),
    }
}

/// A call of [`multiply`]. Not a closure: those between here and the arithmetic might not be inlined, and
/// would then be compiled for the oldest machine of its kind.
struct Multiply<'a, S> {
    simd: S,
    weights: &'a Packed,
    panels: Range<usize>,
    rows: &'a [f32],
    scratch: &'a mut Scratch,
}

impl<S: Widen> NullaryFnOnce for Multiply<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        run(self.simd, self.weights, self.panels, self.rows, self.scratch);
    }
}

#[inline(always)]
fn run<S: Widen>(simd: S, weights: &Packed, panels: Range<usize>, rows: &[f32], scratch: &mut Scratch) {
    let Scratch { sums, wide } = scratch;
    let count = rows.len() / weights.inputs;
    let width = panels.len() * PANEL;
    sums.clear();
    sums.resize(count * width, 0.0);
    for (index, panel) in panels.enumerate() {
        let panel = Panel::of(weights, panel);
        let sums = &mut sums[index * PANEL..];
        match count {
            1 => panel.direct(simd, [rows], sums, width),
            2 => {
                let (first, second) = rows.split_at(weights.inputs);
                panel.direct(simd, [first, second], sums, width);
            }
            _ => panel.widened(simd, rows, count, sums, width, wide),
        }
    }
}

/// One panel's part of the weights.
struct Panel<'a> {
    codes: &'a [Lane<u8>],
    scales: PanelFactors<'a>,
    offsets: PanelOffsets<'a>,
    inputs: usize,
    block: usize,
    bits: u32,
}

#[derive(Clone, Copy)]
enum PanelOffsets<'a> {
    Scales(f32),
    Each(PanelFactors<'a>),
}

#[derive(Clone, Copy)]
enum PanelFactors<'a> {
    Wide(&'a [Lane<f32>]),
    Narrow(&'a [Lane<u16>]),
}

impl<'a> PanelFactors<'a> {
    #[inline(always)]
    fn of(factors: &'a Factors, range: Range<usize>) -> Self {
        match factors {
            Factors::Wide(lanes) => Self::Wide(&lanes[range]),
            Factors::Narrow(lanes) => Self::Narrow(&lanes[range]),
        }
    }

    #[inline(always)]
    fn load<S: Widen>(self, simd: S, block: usize) -> S::Row {
        match self {
            Self::Wide(lanes) => simd.load(&lanes[block]),
            Self::Narrow(lanes) => simd.load(&widen_halves_of(&lanes[block])),
        }
    }
}

/// f16 as f32: sign apart, exponent and fraction shifted into place are the number times 2^-112 (exactly,
/// also where the f16 is subnormal).
#[inline(always)]
fn widen_halves_of(lane: &Lane<u16>) -> Lane<f32> {
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    let mut wide = Lane([0f32; PANEL]);
    for (to, bits) in wide.0.iter_mut().zip(lane.0) {
        let bits = u32::from(bits);
        *to = f32::from_bits((bits & 0x8000) << 16 | (bits & 0x7fff) << 13) * SCALE;
    }
    wide
}

impl<'a> Panel<'a> {
    #[inline(always)]
    fn of(weights: &'a Packed, panel: usize) -> Self {
        let (codes, blocks) = (weights.inputs / weights.inputs_per_code(), weights.blocks());
        Self {
            codes: &weights.codes[panel * codes..][..codes],
            scales: PanelFactors::of(&weights.scales, panel * blocks..(panel + 1) * blocks),
            offsets: match &weights.offsets {
                Offsets::Scales(factor) => PanelOffsets::Scales(*factor),
                Offsets::Each(offsets) => {
                    PanelOffsets::Each(PanelFactors::of(offsets, panel * blocks..(panel + 1) * blocks))
                }
            },
            inputs: weights.inputs,
            block: weights.block,
            bits: weights.bits,
        }
    }

    /// A block's scales and offsets.
    #[inline(always)]
    fn factors<S: Widen>(&self, simd: S, block: usize) -> (S::Row, S::Row) {
        let scales = self.scales.load(simd, block);
        let offsets = match self.offsets {
            PanelOffsets::Each(offsets) => offsets.load(simd, block),
            PanelOffsets::Scales(factor) => {
                let (factor, mut offsets) = (simd.splat_f32s(factor), scales);
                for offset in offsets.as_mut() {
                    *offset = simd.mul_f32s(*offset, factor);
                }
                offsets
            }
        };
        (scales, offsets)
    }

    /// Gives `taker` each input's weights, in order.
    #[inline(always)]
    fn each<S: Widen>(&self, simd: S, inputs: Range<usize>, taker: &mut impl Take<S>) {
        for start in inputs.clone().step_by(self.block) {
            let factors = self.factors(simd, start / self.block);
            let end = (start + self.block).min(inputs.end);
            if self.bits == 4 {
                for (pair, codes) in self.codes[start / 2..end / 2].iter().enumerate() {
                    let [even, odd] = simd.widen_halves(codes);
                    taker.take(simd, start + 2 * pair, weigh(simd, even, &factors));
                    taker.take(simd, start + 2 * pair + 1, weigh(simd, odd, &factors));
                }
            } else {
                for (offset, codes) in self.codes[start..end].iter().enumerate() {
                    taker.take(simd, start + offset, weigh(simd, simd.widen(codes), &factors));
                }
            }
        }
    }

    #[inline(always)]
    fn direct<S: Widen, const M: usize>(&self, simd: S, rows: [&[f32]; M], sums: &mut [f32], width: usize) {
        let mut direct = Direct { rows, totals: [simd.zeros(); M] };
        self.each(simd, 0..self.inputs, &mut direct);
        for (row, total) in direct.totals.iter().enumerate() {
            S::as_mut_simd_f32s(&mut sums[row * width..][..PANEL]).0.copy_from_slice(total.as_ref());
        }
    }

    #[inline(always)]
    fn widened<S: Widen>(
        &self,
        simd: S,
        rows: &[f32],
        count: usize,
        sums: &mut [f32],
        width: usize,
        wide: &mut Vec<f32>,
    ) {
        let stretch = STRETCH.next_multiple_of(self.block);
        wide.resize(stretch * PANEL + PANEL, 0.0);
        // No vector shall straddle two cache lines.
        let aligned = wide.as_ptr().align_offset(64).min(PANEL);
        let wide = &mut wide[aligned..];
        for start in (0..self.inputs).step_by(stretch) {
            let end = (start + stretch).min(self.inputs);
            self.each(simd, start..end, &mut Keep { start, wide });
            let dims =
                Dims { m: count, n: PANEL, k: end - start, a_stride: self.inputs, b_stride: PANEL, c_stride: width };
            product(simd, dims, &rows[start..], wide, sums, start > 0);
        }
    }
}

/// Codes become weights.
#[inline(always)]
fn weigh<S: Widen>(simd: S, mut codes: S::Row, (scales, offsets): &(S::Row, S::Row)) -> S::Row {
    for (code, (scale, offset)) in codes.as_mut().iter_mut().zip(scales.as_ref().iter().zip(offsets.as_ref())) {
        *code = simd.mul_add_f32s(*code, *scale, *offset);
    }
    codes
}

/// What is done with each input's weights. A trait rather than a closure: its method can be told to be
/// inlined, without which it would be compiled for the oldest machine.
trait Take<S: Widen> {
    fn take(&mut self, simd: S, input: usize, weights: S::Row);
}

/// Multiplies a few rows at once.
struct Direct<'a, S: Widen, const M: usize> {
    rows: [&'a [f32]; M],
    totals: [S::Row; M],
}

impl<S: Widen, const M: usize> Take<S> for Direct<'_, S, M> {
    #[inline(always)]
    fn take(&mut self, simd: S, input: usize, weights: S::Row) {
        for (total, row) in self.totals.iter_mut().zip(&self.rows) {
            let x = simd.splat_f32s(row[input]);
            for (total, weight) in total.as_mut().iter_mut().zip(weights.as_ref()) {
                *total = simd.mul_add_f32s(x, *weight, *total);
            }
        }
    }
}

/// Keeps a stretch of weights, `[inputs, PANEL]`.
struct Keep<'a> {
    start: usize,
    wide: &'a mut [f32],
}

impl<S: Widen> Take<S> for Keep<'_> {
    #[inline(always)]
    fn take(&mut self, _simd: S, input: usize, weights: S::Row) {
        let to = &mut self.wide[(input - self.start) * PANEL..][..PANEL];
        S::as_mut_simd_f32s(to).0.copy_from_slice(weights.as_ref());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::{super::packed::pack, *};
    use crate::model::{LinearSource, ZeroPoints};

    /// A layer of any form with its weights as MatMulNBits has them, and the plain matrix they stand for.
    fn layer(inputs: usize, outputs: usize, bits: u32, block: usize, zeros: ZeroPoints) -> (Packed, Vec<Vec<f64>>) {
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
        let packed = pack(&source, &codes, &bytes(&scales), &zero_bytes).unwrap();
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

    #[test]
    fn every_form_gives_the_plain_product() {
        for (bits, block, zeros) in [
            (8, 32, ZeroPoints::Middle),
            (8, 16, ZeroPoints::Codes),
            (4, 32, ZeroPoints::Middle),
            (4, 64, ZeroPoints::Codes),
            (4, 32, ZeroPoints::Floats),
            (4, 256, ZeroPoints::Middle),
        ] {
            let (inputs, outputs) = (512, 70);
            let (packed, matrix) = layer(inputs, outputs, bits, block, zeros);
            let all: Vec<f32> = (0..7 * inputs).map(|i| ((i * 31) % 17) as f32 / 8.0 - 1.0).collect();
            let mut alone = Vec::new();
            for count in [1, 2, 3, 7] {
                let rows = &all[..count * inputs];
                let mut scratch = Scratch::default();
                multiply(&packed, 0..packed.panels(), rows, &mut scratch);
                let sums = scratch.sums;
                let width = packed.panels() * PANEL;
                for (row, x) in rows.chunks(inputs).enumerate() {
                    for (output, weights) in matrix.iter().enumerate() {
                        let expected: f64 = weights.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum();
                        let size: f64 = weights.iter().zip(x).map(|(w, x)| (w * f64::from(*x)).abs()).sum();
                        let found = f64::from(sums[row * width + output]);
                        // Roundings of some hundred f32 sums, and of an offset as large as the weights.
                        assert!((found - expected).abs() <= 1e-5 * size, "{bits} {block}: {found} {expected}");
                    }
                }
                if count == 1 {
                    alone = sums[..outputs].to_vec();
                }
                assert_eq!(&sums[..outputs], &alone[..], "a row's result depends on the rows beside it");
            }
        }
    }
}
