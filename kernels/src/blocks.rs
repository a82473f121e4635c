//! Matrices in blocks of few bits, as ONNX Runtime's MatMulNBits and GatherBlockQuantized read them.
//!
//! A block is some neighbouring inputs of one output, with one scale. A stored `q` of `bits` bits means
//! `(q - 2^(bits - 1)) * scale`: that zero point is the operators' own where none is given, so none is
//! stored.

use std::{num::NonZero, thread};

/// How a matrix is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Bits of a number: 4 or 8.
    pub bits: u8,
    /// Neighbouring inputs of one output that share a scale.
    pub block_size: usize,
}

/// A quantised matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantized {
    /// `[n, k / block_size, block_size * bits / 8]`; of two numbers in a byte the first is the low half.
    pub values: Vec<u8>,
    /// `[n, k / block_size]`.
    pub scales: Vec<f32>,
}

/// Quantises a matrix `[n, k]` whose `k` is a multiple of the block; shares the rows among the machine's cores.
pub fn quantize(matrix: &[f32], k: usize, format: Format) -> Quantized {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let piece = (matrix.len() / k.max(1)).div_ceil(threads).max(1) * k.max(1);
    let pieces = thread::scope(|scope| {
        let started: Vec<_> =
            matrix.chunks(piece).map(|values| scope.spawn(move || quantize_blocks(values, format))).collect();
        // A thread that panicked has met a mistake of ours: its panic goes on here.
        started
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    pieces.into_iter().fold(Quantized::default(), |mut all, piece| {
        all.values.extend(piece.values);
        all.scales.extend(piece.scales);
        all
    })
}

fn quantize_blocks(values: &[f32], format: Format) -> Quantized {
    let mut quantized = Quantized::default();
    let mut steps = vec![0; format.block_size];
    for block in values.chunks_exact(format.block_size) {
        let scale = match format.bits {
            8 => eight_bits(block, &mut steps),
            _ => four_bits(block, &mut steps),
        };
        quantized.scales.push(scale);
        match format.bits {
            8 => quantized.values.extend(&steps),
            _ => quantized.values.extend(steps.as_chunks().0.iter().map(|[low, high]| low | high << 4)),
        }
    }
    quantized
}

/// The largest number becomes 127 steps; the error is half a step at most.
fn eight_bits(block: &[f32], steps: &mut [u8]) -> f32 {
    let scale = largest(block).abs() / 127.0;
    let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
    for (step, value) in steps.iter_mut().zip(block) {
        *step = (value * inverse).round_ties_even().clamp(-127.0, 127.0) as i8 as u8 ^ 128;
    }
    scale
}

/// Sixteen steps from -8 to 7: the number farthest from zero, of either sign, becomes -8, so that no step
/// is lost and scales may be negative. Scales with a smaller squared error were tried (clipping, and
/// the best scale for the steps): on SmolLM2-135M they predict prose worse.
fn four_bits(block: &[f32], steps: &mut [u8]) -> f32 {
    let scale = -largest(block) / 8.0;
    let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
    for (step, value) in steps.iter_mut().zip(block) {
        *step = ((value * inverse).round_ties_even().clamp(-8.0, 7.0) + 8.0) as u8;
    }
    scale
}

/// The number farthest from zero.
fn largest(block: &[f32]) -> f32 {
    block.iter().fold(0.0, |largest: f32, &value| if value.abs() > largest.abs() { value } else { largest })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -1 and 1 that look random.
    fn matrix(n: usize, k: usize) -> Vec<f32> {
        let noise = |index: usize| (index as f32 * 12.9898).sin() * 43758.547 % 1.0;
        (0..n * k).map(noise).collect()
    }

    /// What the operators make of it.
    fn restored(quantized: &Quantized, format: Format) -> Vec<f32> {
        let steps: Vec<f32> = match format.bits {
            8 => quantized.values.iter().map(|&value| f32::from(value) - 128.0).collect(),
            _ => quantized
                .values
                .iter()
                .flat_map(|&value| [value & 15, value >> 4])
                .map(|q| f32::from(q) - 8.0)
                .collect(),
        };
        let blocks = steps.chunks(format.block_size).zip(&quantized.scales);
        blocks.flat_map(|(steps, scale)| steps.iter().map(move |step| step * scale)).collect()
    }

    #[test]
    fn numbers_are_off_by_half_a_step_at_most_but_for_the_end_of_the_scale() {
        for (format, most) in [(Format { bits: 8, block_size: 64 }, 0.5), (Format { bits: 4, block_size: 32 }, 1.0)] {
            let matrix = matrix(7, 192);
            let quantized = quantize(&matrix, 192, format);
            let count = 7 * 192;
            assert_eq!(quantized.values.len(), count * usize::from(format.bits) / 8);
            assert_eq!(quantized.scales.len(), count / format.block_size);
            for (index, (value, restored)) in matrix.iter().zip(restored(&quantized, format)).enumerate() {
                // Of 4 bits, the end opposite to the largest number is a whole step away.
                let steps = (value - restored).abs() / quantized.scales[index / format.block_size].abs();
                assert!(steps <= most * 1.001, "{index}: {value} became {restored}, {steps} steps away");
            }
        }
    }

    #[test]
    fn the_largest_number_of_a_block_is_kept() {
        for format in [Format { bits: 8, block_size: 32 }, Format { bits: 4, block_size: 32 }] {
            let matrix = matrix(3, 64);
            let restored = restored(&quantize(&matrix, 64, format), format);
            for (before, after) in matrix.chunks(32).zip(restored.chunks(32)) {
                assert!((largest(before) - largest(after)).abs() < 1e-6, "{format:?}: {before:?} {after:?}");
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for bits in [4, 8] {
            let format = Format { bits, block_size: 32 };
            let quantized = quantize(&[0.0; 32], 32, format);
            assert_eq!(restored(&quantized, format), vec![0.0; 32]);
        }
    }
}
