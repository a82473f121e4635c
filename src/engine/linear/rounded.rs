//! Activations as the kernel reads them: integers, scaled by the largest of a block.
//!
//! Products of integers are exact and faster than those of f32. A row is rounded by itself, so its result
//! depends on no other.

/// What activations are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// 16 bits: rounding moves none by more than 2^-16 of its block's largest, a thirtieth of what f16 does
    /// to that.
    Words,
    /// 8 bits, which only codes of 4 bits can be multiplied by: 2^-8, as in llama.cpp and at
    /// `accuracy_level` 4 of ONNX Runtime.
    Bytes,
}

impl Precision {
    /// What the largest activation of a block becomes.
    fn largest(self) -> f32 {
        match self {
            Self::Words => 32_767.0,
            Self::Bytes => 127.0,
        }
    }

    /// Activations in a number of 32 bits.
    pub(super) fn packed(self) -> usize {
        match self {
            Self::Words => 2,
            Self::Bytes => 4,
        }
    }
}

/// Blocks below this are taken for zeros: their scale would not be a normal number's inverse.
const LEAST: f32 = 1e-30;

/// Rows of activations.
#[derive(Default)]
pub(super) struct Rounded {
    /// `[rows, inputs / Precision::packed]`. Words in order, the first in the low half; bytes in the order
    /// [`BYTES`] of each eight.
    pub packed: Vec<i32>,
    /// `[rows, blocks]`.
    pub factors: Vec<Factor>,
}

/// What turns a block's integers into numbers.
#[derive(Clone, Copy, Default)]
pub(super) struct Factor {
    /// What 1 stands for.
    pub scale: f32,
    /// The sum of the block's integers.
    pub sum: i32,
}

impl Rounded {
    /// Makes room.
    pub(super) fn resize(&mut self, rows: usize, inputs: usize, block: usize, precision: Precision) {
        self.packed.resize(rows * inputs / precision.packed(), 0);
        self.factors.resize(rows * (inputs / block), Factor::default());
    }
}

/// The inputs of a step as its low and high quads have them: what lies in 4 bits, `[PANEL, 2]` times four
/// pairs, seen as bytes.
const BYTES: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Rounds some rows, block by block. What is not finite makes its block's scale not a number.
#[inline(always)]
pub(super) fn round(rows: &[f32], block: usize, precision: Precision, packed: &mut [i32], factors: &mut [Factor]) {
    let parts = rows.chunks_exact(block).zip(packed.chunks_exact_mut(block / precision.packed())).zip(factors);
    for ((values, packed), factor) in parts {
        *factor = match precision {
            Precision::Words => round_words(values, bytemuck::cast_slice_mut(packed)),
            Precision::Bytes => round_bytes(values, bytemuck::cast_slice_mut(packed)),
        };
    }
}

#[inline(always)]
fn round_words(values: &[f32], integers: &mut [i16]) -> Factor {
    let (scale, inverse) = scale(values, Precision::Words);
    let mut sum = 0;
    for (integer, value) in integers.iter_mut().zip(values) {
        *integer = nearest(*value, inverse) as i16;
        sum += i32::from(*integer);
    }
    Factor { scale, sum }
}

#[inline(always)]
fn round_bytes(values: &[f32], integers: &mut [i8]) -> Factor {
    let (scale, inverse) = scale(values, Precision::Bytes);
    let mut sum = 0;
    for (integers, values) in integers.as_chunks_mut::<8>().0.iter_mut().zip(values.as_chunks::<8>().0) {
        for (integer, index) in integers.iter_mut().zip(BYTES) {
            *integer = nearest(values[index], inverse) as i8;
            sum += i32::from(*integer);
        }
    }
    Factor { scale, sum }
}

/// What 1 stands for, and its inverse.
#[inline(always)]
fn scale(values: &[f32], precision: Precision) -> (f32, f32) {
    // Magnitudes are ordered like their bits, what is not finite above all others.
    let largest = f32::from_bits(values.iter().fold(0, |largest, x| largest.max(x.to_bits() & 0x7fff_ffff)));
    match largest {
        largest if !largest.is_finite() => (f32::NAN, 0.0),
        largest if largest < LEAST => (0.0, 0.0),
        largest => (largest / precision.largest(), precision.largest() / largest),
    }
}

/// The nearest integer of few bits, in the low ones.
#[inline(always)]
fn nearest(value: f32, factor: f32) -> u32 {
    // Adding 1.5 * 2^23 rounds and leaves the integer there.
    const ROUND: f32 = 12_582_912.0;
    value.mul_add(factor, ROUND).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(values: &[f32]) -> (Vec<i16>, Factor) {
        let mut integers = vec![0; values.len()];
        let factor = round_words(values, &mut integers);
        (integers, factor)
    }

    #[test]
    fn no_activation_moves_by_more_than_half_a_step() {
        let values: Vec<f32> = (0..64).map(|i| ((i * 37) % 101) as f32 * 1e-3 - 0.05).collect();
        let (integers, factor) = rounded(&values);
        let largest = values.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        for (value, integer) in values.iter().zip(&integers) {
            assert!((f32::from(*integer) * factor.scale - value).abs() <= largest / 65_000.0);
        }
        assert_eq!(factor.sum, integers.iter().copied().map(i32::from).sum::<i32>());
    }

    #[test]
    fn zeros_stay_and_what_is_not_finite_is_seen() {
        let (integers, factor) = rounded(&[0.0, -0.0, 1e-38, 0.0]);
        assert_eq!((integers, factor.scale, factor.sum), (vec![0; 4], 0.0, 0));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(rounded(&[1.0, bad, 0.0, 2.0]).1.scale.is_nan());
        }
    }
}
