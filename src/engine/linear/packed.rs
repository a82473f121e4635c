//! Weights as the kernel reads them: panels of [`PANEL`] outputs, in each the inputs one after the other.
//!
//! From MatMulNBits: bytes `[outputs, inputs / block, block * bits / 8]`, scales `[outputs, inputs /
//! block]`, zero points packed like the weights, or floats like the scales, or absent (the middle of the
//! range). A weight is `(q - zero) * scale`; here `q * scale + offset` with `offset = -zero * scale`.

use half::f16;

use crate::model::{LinearSource, ZeroPoints};

/// Outputs of a panel: four vectors of AVX2, two of AVX-512.
pub(crate) const PANEL: usize = 32;

/// Bytes or numbers of one panel's outputs, aligned so that no vector straddles two cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Lane<T>(pub [T; PANEL]);

/// A layer's weights.
pub(crate) struct Packed {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) bits: u32,
    /// Inputs that share a scale.
    pub(super) block: usize,
    /// `[panels, inputs]` at 8 bits; at 4 `[panels, inputs / 2]`, the even input's in the low half.
    pub(super) codes: Vec<Lane<u8>>,
    /// `[panels, inputs / block]`.
    pub(super) scales: Factors,
    pub(super) offsets: Offsets,
}

/// What is added to a scaled code.
pub(super) enum Offsets {
    /// So many scales.
    Scales(f32),
    /// `[panels, inputs / block]`.
    Each(Factors),
}

/// Numbers of panels, in f16 where that is what they are: a decode reads them all.
pub(super) enum Factors {
    Wide(Vec<Lane<f32>>),
    Narrow(Vec<Lane<u16>>),
}

/// A number is taken for an f16 that went through two roundings of f32.
const NARROW_TOLERANCE: f32 = 2.0 * f32::EPSILON;

impl Factors {
    fn of(wide: Vec<Lane<f32>>) -> Self {
        let is_narrow = |x: &f32| {
            let half = f16::from_f32(*x).to_f32();
            (half - x).abs() <= NARROW_TOLERANCE * x.abs()
        };
        if !wide.iter().flat_map(|lane| &lane.0).all(is_narrow) {
            return Self::Wide(wide);
        }
        Self::Narrow(wide.iter().map(|lane| Lane(lane.0.map(|x| f16::from_f32(x).to_bits()))).collect())
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
    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    pub(super) fn blocks(&self) -> usize {
        self.inputs / self.block
    }

    /// Inputs of one row of codes.
    pub(super) fn inputs_per_code(&self) -> usize {
        if self.bits == 4 { 2 } else { 1 }
    }
}

/// Packs a layer's weights.
///
/// # Errors
/// The tensors are not as large as the node says.
pub(crate) fn pack(source: &LinearSource, codes: &[u8], scales: &[u8], zeros: &[u8]) -> Result<Packed, PackError> {
    let LinearSource { inputs, outputs, bits, block, .. } = *source;
    let blocks = inputs / block;
    let check = |what, found: usize, expected| {
        if found == expected { Ok(()) } else { Err(PackError { what, inputs, outputs, found, expected }) }
    };
    check("weights", codes.len(), outputs * inputs * bits as usize / 8)?;
    check("scales", scales.len(), outputs * blocks * 4)?;
    let zero_row = (blocks * bits as usize).div_ceil(8);
    match source.zero_points {
        ZeroPoints::Middle => {}
        ZeroPoints::Codes => check("zero points", zeros.len(), outputs * zero_row)?,
        ZeroPoints::Floats => check("zero points", zeros.len(), outputs * blocks * 4)?,
    }
    let float = |bytes: &[u8], index: usize| f32::from_le_bytes(std::array::from_fn(|i| bytes[4 * index + i]));
    let scale = |output: usize, block: usize| float(scales, output * blocks + block);
    let zero = |output: usize, block: usize| match source.zero_points {
        ZeroPoints::Middle => (1u32 << (bits - 1)) as f32,
        ZeroPoints::Codes => f32::from(code(&zeros[output * zero_row..], block, bits)),
        ZeroPoints::Floats => float(zeros, output * blocks + block),
    };
    // Outputs behind the last of the last panel are zeros: a scale of 0.
    let per_block = |value: &dyn Fn(usize, usize) -> f32| {
        panel_rows(outputs, blocks)
            .map(|(first, block)| {
                let lane = |i: usize| if first + i < outputs { value(first + i, block) } else { 0.0 };
                Lane(std::array::from_fn(lane))
            })
            .collect::<Vec<_>>()
    };
    let offsets = match source.zero_points {
        ZeroPoints::Middle => Offsets::Scales(-zero(0, 0)),
        _ => Offsets::Each(Factors::of(per_block(&|output, block| -zero(output, block) * scale(output, block)))),
    };
    let row_bytes = inputs * bits as usize / 8;
    let lanes = panel_rows(outputs, row_bytes).map(|(first, byte)| {
        let lane = |i: usize| if first + i < outputs { codes[(first + i) * row_bytes + byte] } else { 0 };
        Lane(std::array::from_fn(lane))
    });
    Ok(Packed { inputs, outputs, bits, block, codes: lanes.collect(), scales: Factors::of(per_block(&scale)), offsets })
}

/// The first output of each panel, with each of `rows` rows of it.
fn panel_rows(outputs: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..outputs).step_by(PANEL).flat_map(move |first| (0..rows).map(move |row| (first, row)))
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
        assert!(pack(&source, &[0; 96], &[0; 24], &[]).is_ok());
        let refused = pack(&source, &[0; 95], &[0; 24], &[]).err().unwrap();
        assert_eq!(
            refused.to_string(),
            "the weights of a product of 64 inputs and 3 outputs have 95 bytes, expected 96"
        );
        assert!(pack(&source, &[0; 96], &[0; 20], &[]).is_err());
    }
}
