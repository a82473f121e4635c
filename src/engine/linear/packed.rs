//! Weights as the kernel reads them: panels of [`PANEL`] outputs, in each [`STEP`] inputs after the other.
//!
//! From MatMulNBits: bytes `[outputs, inputs / block, block * bits / 8]`, scales `[outputs, inputs /
//! block]`, zero points packed like the weights, or floats like the scales, or absent (the middle of the
//! range). A weight is `(q - zero) * scale`; here `q * scale + offset` with `offset = -zero * scale`.

use half::f16;

use super::rounded::Precision;
use crate::model::{LinearSource, ZeroPoints};

/// Outputs of a panel: four vectors of AVX2, two of AVX-512.
pub(crate) const PANEL: usize = 32;

/// Inputs whose codes lie side by side: four pairs.
pub(super) const STEP: usize = 8;

/// Inputs that share a scale at most: a block's sum, `255 * 32_767 * 256`, still is an integer of 32 bits.
pub(super) const BLOCK_MAX: usize = 256;

/// A cache line, which no vector shall straddle.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line(pub [u8; 64]);

/// A layer's weights.
pub(crate) struct Packed {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) bits: u32,
    /// Inputs that share a scale.
    pub(super) block: usize,
    /// `[panels, inputs / STEP]` times, at 8 bits, four pairs `[PANEL, 2]`; at 4 bits `[PANEL, 2]` times 16
    /// bits, pair `i` in bits `4 * i` and up.
    pub(super) codes: Vec<Line>,
    /// `[panels, inputs / block, PANEL]`.
    pub(super) scales: Factors,
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
    Wide(Vec<f32>),
    Narrow(Vec<f16>),
}

/// A number is taken for an f16 that went through two roundings of f32.
const NARROW_TOLERANCE: f32 = 2.0 * f32::EPSILON;

impl Factors {
    fn of(wide: Vec<f32>) -> Self {
        let is_narrow = |x: &f32| {
            let half = f16::from_f32(*x).to_f32();
            (half - x).abs() <= NARROW_TOLERANCE * x.abs()
        };
        if !wide.iter().all(is_narrow) {
            return Self::Wide(wide);
        }
        Self::Narrow(wide.iter().map(|x| f16::from_f32(*x)).collect())
    }
}

/// Weights that are not what their node says.
#[derive(Debug, thiserror::Error)]
#[error("the {what} of a product of {inputs} inputs and {outputs} outputs have {found} bytes, expected {expected}")]
pub(crate) struct PackError {
    what: &'static str,
    inputs: usize,
    outputs: usize,
    found: usize,
    expected: usize,
}

impl Packed {
    /// What activations are rounded to.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

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
/// # Errors
/// The tensors are not as large as the node says.
pub(crate) fn pack(
    source: &LinearSource,
    codes: &[u8],
    scales: &[u8],
    zeros: &[u8],
    precision: Precision,
) -> Result<Packed, PackError> {
    let LinearSource { inputs, outputs, bits, .. } = *source;
    let source_blocks = inputs / source.block;
    let check = |what, found: usize, expected| {
        if found == expected { Ok(()) } else { Err(PackError { what, inputs, outputs, found, expected }) }
    };
    check("weights", codes.len(), outputs * inputs * bits as usize / 8)?;
    check("scales", scales.len(), outputs * source_blocks * 4)?;
    let zero_row = (source_blocks * bits as usize).div_ceil(8);
    match source.zero_points {
        ZeroPoints::Middle => {}
        ZeroPoints::Codes => check("zero points", zeros.len(), outputs * zero_row)?,
        ZeroPoints::Floats => check("zero points", zeros.len(), outputs * source_blocks * 4)?,
    }
    let float = |bytes: &[u8], index: usize| f32::from_le_bytes(std::array::from_fn(|i| bytes[4 * index + i]));
    let scale = |output: usize, block: usize| float(scales, output * source_blocks + block);
    let zero = |output: usize, block: usize| match source.zero_points {
        ZeroPoints::Middle => (1u32 << (bits - 1)) as f32,
        ZeroPoints::Codes => f32::from(code(&zeros[output * zero_row..], block, bits)),
        ZeroPoints::Floats => float(zeros, output * source_blocks + block),
    };
    let block = source.block.min(BLOCK_MAX);
    // Outputs behind the last of the last panel are zeros: a scale of 0.
    let per_block = |value: &dyn Fn(usize, usize) -> f32| {
        let values = panel_rows(outputs, inputs / block).flat_map(|(first, index)| {
            let source_block = index * block / source.block;
            (first..first + PANEL).map(move |output| if output < outputs { value(output, source_block) } else { 0.0 })
        });
        Factors::of(values.collect())
    };
    let offsets = match source.zero_points {
        ZeroPoints::Middle => Offsets::Scales(-zero(0, 0)),
        _ => Offsets::Each(per_block(&|output, block| -zero(output, block) * scale(output, block))),
    };
    let row_bytes = inputs * bits as usize / 8;
    let mut packed = Packed {
        inputs,
        outputs,
        bits,
        block,
        codes: Vec::new(),
        scales: per_block(&scale),
        offsets,
        precision: if bits == 4 { precision } else { Precision::Words },
    };
    packed.codes = vec![Line([0; 64]); packed.panels() * (inputs / STEP) * packed.lines()];
    let steps = bytemuck::cast_slice_mut::<_, u8>(&mut packed.codes).chunks_exact_mut(STEP * PANEL * bits as usize / 8);
    for ((first, step), to) in panel_rows(outputs, inputs / STEP).zip(steps) {
        for output in first..outputs.min(first + PANEL) {
            let row = &codes[output * row_bytes..][..row_bytes];
            let at = output - first;
            match bits {
                4 => to[4 * at..][..4].copy_from_slice(&interleaved(&row[step * STEP / 2..])),
                _ => {
                    let pairs = row[step * STEP..][..STEP].as_chunks::<2>().0;
                    pairs
                        .iter()
                        .enumerate()
                        .for_each(|(i, pair)| to[2 * (i * PANEL + at)..][..2].copy_from_slice(pair));
                }
            }
        }
    }
    Ok(packed)
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

/// Code number `index` of a packed row.
fn code(row: &[u8], index: usize, bits: u32) -> u8 {
    match bits {
        4 => (row[index / 2] >> (4 * (index % 2))) & 15,
        _ => row[index],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn tensors_of_another_size_are_refused() {
        let source = LinearSource::for_test(64, 3, 4, 32, ZeroPoints::Middle);
        assert!(pack(&source, &[0; 96], &[0; 24], &[], Precision::Words).is_ok());
        let refused = pack(&source, &[0; 95], &[0; 24], &[], Precision::Words).err().unwrap();
        assert_eq!(
            refused.to_string(),
            "the weights of a product of 64 inputs and 3 outputs have 95 bytes, expected 96"
        );
        assert!(pack(&source, &[0; 96], &[0; 20], &[], Precision::Words).is_err());
    }
}
