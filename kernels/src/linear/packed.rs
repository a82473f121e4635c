//! Weights as the kernel reads them: panels of [`PANEL`] outputs, in each [`STEP`] inputs after the other.
//!
//! From MatMulNBits: bytes `[outputs, inputs / block, block * bits / 8]`, scales `[outputs, inputs /
//! block]`, zero points packed like the weights, or floats like the scales, or absent (the middle of the
//! range). A weight is `(q - zero) * scale`; here `q * scale + offset` with `offset = -zero * scale`.

use half::{f16, slice::HalfFloatSliceExt};

use super::{
    rounded::Precision,
    shape::{LinearShape, ZeroPoints},
};
use crate::vector;

/// Outputs of a panel: four vectors of AVX2, two of AVX-512.
pub(super) const PANEL: usize = 32;

/// Inputs whose codes lie side by side: four pairs.
pub(super) const STEP: usize = 8;

/// Inputs that share a scale at most: a block's sum, `255 * 32_767 * 256`, still is an integer of 32 bits.
pub(super) const BLOCK_MAX: usize = 256;

/// A cache line, which no vector shall straddle.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line(pub [u8; 64]);

/// A layer's weights.
pub struct Packed {
    /// Numbers of a row that the product takes.
    pub(super) inputs: usize,
    /// Numbers of a row that it gives.
    pub(super) outputs: usize,
    /// Bits of a code: 4 or 8.
    pub(super) bits: u32,
    /// Inputs that share a scale.
    pub(super) block: usize,
    /// `[panels, inputs / STEP]` times, at 8 bits, four pairs `[PANEL, 2]`; at 4 bits `[PANEL, 2]` times 16
    /// bits, pair `i` in bits `4 * i` and up.
    pub(super) codes: Vec<Line>,
    /// `[panels, inputs / block, PANEL]`.
    pub(super) scales: Factors,
    /// What is added to each scaled code.
    pub(super) offsets: Offsets,
    /// What activations are rounded to.
    pub(super) precision: Precision,
}

/// What is added to a scaled code.
pub(super) enum Offsets {
    /// So many scales.
    Scales(f32),
    /// `[panels, inputs / block, PANEL]`.
    Each(Factors),
}

/// Numbers of panels, in f16 where that is what they are: a decode reads them all.
pub(super) enum Factors {
    /// As they came.
    Wide(Vec<f32>),
    /// Where f16 holds them all.
    Narrow(Vec<f16>),
}

/// A number is taken for an f16 that went through two roundings of f32.
const NARROW_TOLERANCE: f32 = 2.0 * f32::EPSILON;

impl Factors {
    fn of(wide: Vec<f32>) -> Self {
        let mut narrow = vec![f16::ZERO; wide.len()];
        narrow.convert_from_f32_slice(&wide);
        let mut back = vec![0.0; wide.len()];
        vector::widen(&narrow, &mut back);
        let is_near = |(back, x): (&f32, &f32)| (back - x).abs() <= NARROW_TOLERANCE * x.abs();
        if back.iter().zip(&wide).all(is_near) { Self::Narrow(narrow) } else { Self::Wide(wide) }
    }
}

/// Weights that are not what their node says.
#[derive(Debug, thiserror::Error)]
#[error("the {what} of a product of {inputs} inputs and {outputs} outputs have {found} bytes, expected {expected}")]
pub struct PackError {
    what: &'static str,
    inputs: usize,
    outputs: usize,
    found: usize,
    expected: usize,
}

impl Packed {
    /// Numbers of a row that the product takes.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Numbers of a row that it gives.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// What activations are rounded to.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Panels, the last of which may be filled up with zeros.
    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// Blocks of an output.
    pub(super) fn blocks(&self) -> usize {
        self.inputs / self.block
    }

    /// Lines of [`STEP`] inputs.
    pub(super) fn lines(&self) -> usize {
        STEP * PANEL * self.bits as usize / 8 / size_of::<Line>()
    }
}

/// Packs a layer's weights. Activations become `precision` where that can be had.
///
/// `codes`, `scales` and `zeros` are the tensors' bytes, see the module's description.
///
/// # Errors
/// The tensors are not as large as the node says.
pub fn pack(
    shape: &LinearShape,
    codes: &[u8],
    scales: &[u8],
    zeros: &[u8],
    precision: Precision,
) -> Result<Packed, PackError> {
    let tensors = Tensors { shape, codes, scales, zeros };
    tensors.check()?;
    let LinearShape { inputs, outputs, bits, zero_points, .. } = *shape;
    let offsets = match zero_points {
        ZeroPoints::Middle => Offsets::Scales(-middle(bits)),
        ZeroPoints::Codes => Offsets::Each(tensors.factors(Tensors::code_offsets)),
        ZeroPoints::Floats => Offsets::Each(tensors.factors(Tensors::float_offsets)),
    };
    let mut packed = Packed {
        inputs,
        outputs,
        bits,
        block: tensors.block(),
        codes: Vec::new(),
        scales: tensors.factors(Tensors::scales),
        offsets,
        precision: if bits == 4 { precision } else { Precision::Words },
    };
    packed.codes = vec![Line([0; 64]); packed.panels() * (inputs / STEP) * packed.lines()];
    tensors.pack_codes(&mut packed.codes);
    Ok(packed)
}

/// The same weights as numbers, `[outputs, inputs]`: `(q - zero) * scale`, nothing packed. Also of 2 bits, which no
/// product of ours takes.
///
/// # Errors
/// The tensors are not as large as the shape says.
pub fn unpack(shape: &LinearShape, codes: &[u8], scales: &[u8], zeros: &[u8]) -> Result<Vec<f32>, PackError> {
    let tensors = Tensors { shape, codes, scales, zeros };
    tensors.check()?;
    let LinearShape { inputs, bits, block, zero_points, .. } = *shape;
    let mut numbers = Vec::with_capacity(shape.outputs * inputs);
    let (mut scales, mut offsets) = (vec![0.0; tensors.blocks()], vec![0.0; tensors.blocks()]);
    for (output, codes) in tensors.codes.chunks_exact(inputs * bits as usize / 8).enumerate() {
        tensors.scales(output, &mut scales);
        match zero_points {
            ZeroPoints::Middle => offsets.iter_mut().zip(&scales).for_each(|(to, scale)| *to = -middle(bits) * scale),
            ZeroPoints::Codes => tensors.code_offsets(output, &mut offsets),
            ZeroPoints::Floats => tensors.float_offsets(output, &mut offsets),
        }
        let number = |index| f32::from(code(codes, index, bits)).mul_add(scales[index / block], offsets[index / block]);
        numbers.extend((0..inputs).map(number));
    }
    Ok(numbers)
}

/// A node's tensors. Blocks are the node's own.
struct Tensors<'a> {
    shape: &'a LinearShape,
    codes: &'a [u8],
    scales: &'a [u8],
    zeros: &'a [u8],
}

impl Tensors<'_> {
    /// Whether they are as large as the shape says.
    fn check(&self) -> Result<(), PackError> {
        let LinearShape { inputs, outputs, bits, .. } = *self.shape;
        let floats = outputs * self.blocks() * size_of::<f32>();
        let zeros = match self.shape.zero_points {
            ZeroPoints::Middle => self.zeros.len(),
            ZeroPoints::Codes => outputs * self.zero_row(),
            ZeroPoints::Floats => floats,
        };
        let parts = [
            ("weights", self.codes, outputs * inputs * bits as usize / 8),
            ("scales", self.scales, floats),
            ("zero points", self.zeros, zeros),
        ];
        parts.into_iter().try_for_each(|(what, bytes, expected)| {
            let found = bytes.len();
            if found == expected { Ok(()) } else { Err(PackError { what, inputs, outputs, found, expected }) }
        })
    }

    /// Blocks of an output.
    fn blocks(&self) -> usize {
        self.shape.inputs / self.shape.block
    }

    /// Bytes of an output's zero points where they are codes.
    fn zero_row(&self) -> usize {
        (self.blocks() * self.shape.bits as usize).div_ceil(8)
    }

    /// Inputs that share a scale once they are packed.
    fn block(&self) -> usize {
        self.shape.block.min(BLOCK_MAX)
    }

    /// Scales of an output, `[blocks]`.
    fn scales(&self, output: usize, to: &mut [f32]) {
        floats(self.scales, output, to);
    }

    /// Minus an output's zero points, which are codes, times its scales: `[blocks]`.
    fn code_offsets(&self, output: usize, to: &mut [f32]) {
        let row = &self.zeros[output * self.zero_row()..][..self.zero_row()];
        let zero = |block| f32::from(code(row, block, self.shape.bits));
        to.iter_mut().enumerate().for_each(|(block, to)| *to = zero(block));
        self.scale_negated(output, to);
    }

    /// Minus an output's zero points, which are floats, times its scales: `[blocks]`.
    fn float_offsets(&self, output: usize, to: &mut [f32]) {
        floats(self.zeros, output, to);
        self.scale_negated(output, to);
    }

    fn scale_negated(&self, output: usize, to: &mut [f32]) {
        let scales = self.scales[output * size_of_val(to)..].as_chunks().0;
        to.iter_mut().zip(scales).for_each(|(zero, scale)| *zero *= -f32::from_le_bytes(*scale));
    }

    /// What `row` writes for each output, in panels. Outputs behind the last of the last one get zeros: a scale of 0.
    fn factors(&self, row: impl Fn(&Self, usize, &mut [f32])) -> Factors {
        let LinearShape { inputs, outputs, .. } = *self.shape;
        let (blocks, parts) = (self.blocks(), self.shape.block / self.block());
        let mut values = vec![0.0; outputs.next_multiple_of(PANEL) * (inputs / self.block())];
        let mut numbers = vec![0.0; blocks];
        for (panel, values) in values.chunks_exact_mut(blocks * parts * PANEL).enumerate() {
            for output in panel * PANEL..outputs.min((panel + 1) * PANEL) {
                row(self, output, &mut numbers);
                for (number, parts) in numbers.iter().zip(values.chunks_exact_mut(parts * PANEL)) {
                    parts.chunks_exact_mut(PANEL).for_each(|part| part[output % PANEL] = *number);
                }
            }
        }
        Factors::of(values)
    }

    /// Puts each code in its place.
    fn pack_codes(&self, lines: &mut [Line]) {
        let LinearShape { inputs, outputs, bits, .. } = *self.shape;
        let row_bytes = inputs * bits as usize / 8;
        let steps = bytemuck::cast_slice_mut::<_, u8>(lines).chunks_exact_mut(STEP * PANEL * bits as usize / 8);
        for ((first, step), to) in panel_rows(outputs, inputs / STEP).zip(steps) {
            for output in first..outputs.min(first + PANEL) {
                let row = &self.codes[output * row_bytes..][..row_bytes];
                let at = output - first;
                if bits == 4 {
                    to[4 * at..][..4].copy_from_slice(&interleaved(&row[step * STEP / 2..]));
                    continue;
                }
                let pairs = row[step * STEP..][..STEP].as_chunks::<2>().0;
                for (index, pair) in pairs.iter().enumerate() {
                    to[2 * (index * PANEL + at)..][..2].copy_from_slice(pair);
                }
            }
        }
    }
}

/// Row number `index` of some little-endian floats, as many as there is room for.
fn floats(bytes: &[u8], index: usize, to: &mut [f32]) {
    let from = bytes[index * size_of_val(to)..].as_chunks().0;
    to.iter_mut().zip(from).for_each(|(to, from)| *to = f32::from_le_bytes(*from));
}

/// The code in the middle of the range.
fn middle(bits: u32) -> f32 {
    (1u32 << (bits - 1)) as f32
}

/// The first output of each panel, with each of `rows` rows of it.
fn panel_rows(outputs: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..outputs).step_by(PANEL).flat_map(move |first| (0..rows).map(move |row| (first, row)))
}

/// Eight codes of 4 bits at the front, one after the other: first the even ones, then the odd ones.
fn interleaved(codes: &[u8]) -> [u8; 4] {
    let all = u32::from_le_bytes([codes[0], codes[1], codes[2], codes[3]]);
    let gather = |x: u32| {
        let x = x & 0x0f0f_0f0f;
        let x = (x | x >> 4) & 0x00ff_00ff;
        (x | x >> 8) & 0xffff
    };
    (gather(all) | gather(all >> 4) << 16).to_le_bytes()
}

/// Code number `index` of a packed row, of 2, 4 or 8 bits.
fn code(row: &[u8], index: usize, bits: u32) -> u8 {
    let (bits, mask) = (bits as usize, u8::MAX >> (8 - bits));
    (row[index * bits / 8] >> (index * bits % 8)) & mask
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn what_is_unpacked_is_what_the_operator_says() {
        let floats = |floats: &[f32]| crate::bytes_of(floats);
        let (scales, codes) = (floats(&[0.5, 2.0]), [0b1110_0100, 0x10, 0x32, 0x54]);
        // Two outputs of one block of 16; each code is read as one of 2, of 4 and of 8 bits.
        for (bits, expected) in [(2, [0.0, 1.0, 2.0, 3.0, 0.0, 0.0]), (4, [4.0, 14.0, 0.0, 1.0, 2.0, 3.0])] {
            for zero_points in [ZeroPoints::Middle, ZeroPoints::Codes, ZeroPoints::Floats] {
                let shape = LinearShape { inputs: 16, outputs: 2, bits, block: 16, zero_points };
                let mut all = vec![0; 2 * 16 * bits as usize / 8];
                all[..4].copy_from_slice(&codes);
                let (zeros, [one, other]) = match zero_points {
                    ZeroPoints::Middle => (vec![], [middle(bits); 2]),
                    ZeroPoints::Codes => (vec![1, 2], [1.0, 2.0]),
                    ZeroPoints::Floats => (floats(&[0.25, 1.5]), [0.25, 1.5]),
                };
                let found = unpack(&shape, &all, &scales, &zeros).unwrap();
                assert_eq!(found.len(), 32);
                expected.iter().zip(&found).for_each(|(q, found)| assert_eq!(*found, (q - one) * 0.5));
                found[16..].iter().for_each(|found| assert_eq!(*found, -other * 2.0));
                assert!(unpack(&shape, &all[1..], &scales, &zeros).is_err());
            }
        }
        let shape = LinearShape { inputs: 16, outputs: 1, bits: 8, block: 16, zero_points: ZeroPoints::Middle };
        let found = unpack(&shape, &[200; 16], &floats(&[0.5]), &[]).unwrap();
        assert_eq!(found, [36.0; 16]);
    }

    #[test]
    fn tensors_of_another_size_are_refused() {
        let shape = LinearShape { inputs: 64, outputs: 3, bits: 4, block: 32, zero_points: ZeroPoints::Middle };
        assert!(pack(&shape, &[0; 96], &[0; 24], &[], Precision::Words).is_ok());
        let refused = pack(&shape, &[0; 95], &[0; 24], &[], Precision::Words).err().unwrap();
        assert_eq!(
            refused.to_string(),
            "the weights of a product of 64 inputs and 3 outputs have 95 bytes, expected 96"
        );
        assert!(pack(&shape, &[0; 96], &[0; 20], &[], Precision::Words).is_err());
    }
}
