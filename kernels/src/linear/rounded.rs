//! Activations as the kernel reads them: integers, scaled by the largest of a block.
//!
//! Products of integers are exact and faster than those of f32. A row is rounded by itself, so its result
//! depends on no other.

use super::{lanes::Lanes, packed::BLOCK_MAX};
use crate::vector::exp;

/// What activations are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
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
    /// `[rows, inputs / Precision::packed]`. Words in order, the first in the low half; of each eight bytes
    /// 0, 4, 1, 5, 2, 6, 3, 7: so lie codes of 4 bits, packed as four pairs of words, in the low and in the
    /// high halves of bytes.
    pub packed: Vec<i32>,
    /// `[rows, blocks]`.
    pub factors: Vec<Factor>,
}

/// What turns a block's integers into numbers.
#[derive(Clone, Copy, Default)]
pub(super) struct Factor {
    /// What 1 stands for.
    pub scale: f32,
    /// The sum of the block's rounded activations.
    pub sum: f32,
}

impl Rounded {
    /// Makes room.
    pub(super) fn resize(&mut self, rows: usize, inputs: usize, block: usize, precision: Precision) {
        self.packed.resize(rows * inputs / precision.packed(), 0);
        self.factors.resize(rows * (inputs / block), Factor::default());
    }
}

/// Some rows of a [`Rounded`].
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// `[rows, inputs / Precision::packed]`.
    pub packed: &'a [i32],
    /// `[rows, blocks]`.
    pub factors: &'a [Factor],
    /// How many rows.
    pub count: usize,
}

/// What a product is given: rows of numbers, or of two whose gate they are, `silu(first) * second`.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    first: &'a [f32],
    second: Option<&'a [f32]>,
    /// Numbers of a row.
    inputs: usize,
    /// From one row to the next.
    stride: usize,
}

impl<'a> Inputs<'a> {
    /// Rows of `width` numbers; twice the `inputs` are both of a gate's. `None` where sizes do not fit.
    pub fn of(inputs: usize, width: usize, first: &'a [f32], second: Option<&'a [f32]>) -> Option<Self> {
        let halves = || first.get(inputs..).unwrap_or_default();
        let second = match second {
            _ if width == 0 => return None,
            None if width == inputs => None,
            None if width == 2 * inputs => Some(halves()),
            Some(second) if width == inputs && second.len() == first.len() => Some(second),
            _ => return None,
        };
        Some(Self { first, second, inputs, stride: width })
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.first.len() / self.stride
    }

    /// The rows behind the first `skipped`.
    pub(super) fn from(self, skipped: usize) -> Self {
        let at = skipped * self.stride;
        Self { first: &self.first[at..], second: self.second.map(|second| &second[at..]), ..self }
    }
}

/// Rounds as many rows as there is room for, block by block. What is not finite makes its block's scale not
/// a number.
#[inline(always)]
pub(super) fn round<L: Lanes>(
    lanes: L,
    rows: Inputs<'_>,
    block: usize,
    precision: Precision,
    packed: &mut [i32],
    factors: &mut [Factor],
) {
    let Inputs { first, second, inputs, stride } = rows;
    let mut gated = [0.0; BLOCK_MAX];
    let parts = packed.chunks_exact_mut(block / precision.packed()).zip(factors);
    for (index, (packed, factor)) in parts.enumerate() {
        let (row, column) = (index / (inputs / block), index % (inputs / block) * block);
        let at = row * stride + column;
        let mut values = &first[at..][..block];
        if let Some(second) = second {
            let gated = &mut gated[..block];
            for ((gated, gate), up) in gated.iter_mut().zip(values).zip(&second[at..][..block]) {
                *gated = silu(*gate) * up;
            }
            values = gated;
        }
        *factor = match precision {
            Precision::Words => round_words(values, bytemuck::cast_slice_mut(packed)),
            Precision::Bytes => round_bytes(lanes, values, packed),
        };
    }
}

/// `x / (1 + e^-x)` (Elfwing et al. 2017).
#[inline(always)]
fn silu(x: f32) -> f32 {
    // Written so that what is no number stays none; the exponential's own bound is 88.
    let minus = if -x > 88.0 { 88.0 } else { -x };
    x / (1.0 + exp(minus))
}

#[inline(always)]
fn round_words(values: &[f32], integers: &mut [i16]) -> Factor {
    let (scale, inverse) = scale(values, Precision::Words);
    let mut sum = 0;
    for (integer, value) in integers.iter_mut().zip(values) {
        *integer = nearest(*value, inverse) as i16;
        sum += i32::from(*integer);
    }
    Factor { scale, sum: scale * sum as f32 }
}

#[inline(always)]
fn round_bytes<L: Lanes>(lanes: L, values: &[f32], packed: &mut [i32]) -> Factor {
    let (scale, inverse) = scale(values, Precision::Bytes);
    let mut sum = 0;
    for (values, packed) in values.as_chunks().0.iter().zip(packed.as_chunks_mut().0) {
        sum += lanes.round_bytes(values, inverse, packed);
    }
    Factor { scale, sum: scale * sum as f32 }
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
        assert_eq!(factor.sum, factor.scale * integers.iter().copied().map(i32::from).sum::<i32>() as f32);
    }

    #[test]
    fn a_gate_is_computed_on_the_way() {
        let numbers: Vec<f32> = (0..128).map(|i| ((i * 37) % 101) as f32 * 0.3 - 15.0).collect();
        let (mut packed, mut factors) = (vec![0; 32], vec![Factor::default(); 2]);
        // One row of 64 in one tensor, then in two.
        for (width, second) in [(128, None), (64, Some(&numbers[64..]))] {
            let first = if second.is_none() { &numbers[..] } else { &numbers[..64] };
            let rows = Inputs::of(64, width, first, second).unwrap_or_else(|| panic!("sizes fit"));
            round(pulp::Scalar::new(), rows, 32, Precision::Words, &mut packed, &mut factors);
            let integers: &[i16] = bytemuck::cast_slice(&packed);
            for (i, integer) in integers.iter().enumerate() {
                let (gate, up) = (f64::from(numbers[i]), f64::from(numbers[64 + i]));
                let expected = gate / (1.0 + (-gate).exp()) * up;
                let scale = f64::from(factors[i / 32].scale);
                assert!((f64::from(*integer) * scale - expected).abs() <= 0.51 * scale, "{i}");
            }
        }
        assert!(Inputs::of(64, 96, &numbers[..96], None).is_none());
        assert!(Inputs::of(64, 64, &numbers[..64], Some(&numbers[..32])).is_none());
        assert!(silu(-1e4).abs() < 1e-30 && silu(1e4) == 1e4 && silu(f32::NAN).is_nan());
    }

    #[test]
    fn zeros_stay_and_what_is_not_finite_is_seen() {
        let (integers, factor) = rounded(&[0.0, -0.0, 1e-38, 0.0]);
        assert_eq!((integers, factor.scale, factor.sum), (vec![0; 4], 0.0, 0.0));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(rounded(&[1.0, bad, 0.0, 2.0]).1.scale.is_nan());
        }
    }
}
