//! Loops over rows of f32, written so that the compiler makes vector instructions of them.
//!
//! The small functions are inlined into whatever is compiled for wide vectors; those that are public and of many
//! numbers choose the widest of this machine themselves. No reduction has one accumulator: a sum kept in `LANES`
//! parts can be a vector, and loses fewer digits.

use half::{f16, slice::HalfFloatSliceExt};
use pulp::{Arch, NullaryFnOnce};

/// Parts of a reduction: two vectors of AVX2, one of AVX-512.
const LANES: usize = 16;

/// The logarithm of the sum of exponentials: finite where one of the numbers is, and none of them is infinite or a NaN.
/// Negative infinity counts as nothing, as long as there is something else.
pub fn log_sum_exp(values: &[f32]) -> f64 {
    Arch::new().dispatch(LogSumExp(values))
}

/// A call of [`log_sum_exp`]. A type rather than a closure: its method can be told to be inlined, without which it
/// would be compiled for the oldest machine.
struct LogSumExp<'a>(&'a [f32]);

impl NullaryFnOnce for LogSumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let max = max(self.0);
        f64::from(max) + sum_exp(self.0, max, 1.0).ln()
    }
}

/// The sum of `exp((x - most) * factor)`, where no `x` is above `most` and the factor is not negative.
pub fn sum_exp_below(values: &[f32], most: f32, factor: f32) -> f64 {
    Arch::new().dispatch(SumExpBelow(values, most, factor))
}

/// A call of [`sum_exp_below`].
struct SumExpBelow<'a>(&'a [f32], f32, f32);

impl NullaryFnOnce for SumExpBelow<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        sum_exp(self.0, self.1, self.2)
    }
}

/// Numbers that share a maximum, of which a row of 150,000 has some thousand: as many as a word has bits.
pub(crate) const BLOCK: usize = u64::BITS as usize;

/// The largest number of each block, the last of which may be shorter.
pub(crate) fn block_maxima(values: &[f32], maxima: &mut Vec<f32>) {
    Arch::new().dispatch(BlockMaxima(values, maxima));
}

/// A call of [`block_maxima`].
struct BlockMaxima<'a>(&'a [f32], &'a mut Vec<f32>);

impl NullaryFnOnce for BlockMaxima<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(values, maxima) = self;
        maxima.clear();
        maxima.extend(values.chunks(BLOCK).map(max));
    }
}

/// Appends the places of the numbers that are `least` or more, in order. `maxima`: of the blocks.
pub(crate) fn at_least(values: &[f32], maxima: &[f32], least: f32, places: &mut Vec<u32>) {
    Arch::new().dispatch(AtLeast(values, maxima, least, places));
}

/// A call of [`at_least`].
struct AtLeast<'a>(&'a [f32], &'a [f32], f32, &'a mut Vec<u32>);

impl NullaryFnOnce for AtLeast<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(values, maxima, least, places) = self;
        for (block, (values, _)) in values.chunks(BLOCK).zip(maxima).enumerate().filter(|(_, (_, max))| **max >= least)
        {
            // Found without a branch a number, of which most are too small.
            let hit = |(at, value): (usize, &f32)| u64::from(*value >= least) << at;
            let mut hits = values.iter().enumerate().map(hit).fold(0, |hits, hit| hits | hit);
            while hits != 0 {
                places.push((block * BLOCK) as u32 + hits.trailing_zeros());
                hits &= hits - 1;
            }
        }
    }
}

/// The exponential of `x <= 88`, within 1e-7 of its value; 0 is returned as a number below 1e-37.
///
/// Range reduction and polynomial of Cephes' `expf` (Moshier 1989), without branches.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Written so that what is no number stays none.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, so that `n * ln 2` is subtracted exactly.
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let p = [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5]
        .into_iter()
        .fold(1.987_569_1e-4f32, |p, coefficient| p.mul_add(r, coefficient));
    let power = p.mul_add(r * r, r) + 1.0;
    f32::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The largest of some numbers; negative infinity where there is none. A NaN among them may or may not
/// be passed over.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let (head, tail) = values.as_chunks::<LANES>();
    for chunk in head {
        most.iter_mut().zip(chunk).for_each(|(m, x)| *m = if *x > *m { *x } else { *m });
    }
    tail.iter().fold(folded(most, |x, y| if x > y { x } else { y }), |m, x| if *x > m { *x } else { m })
}

/// One of the parts of a reduction, halved until it is left: four steps that wait for each other, not sixteen.
#[inline(always)]
fn folded(mut parts: [f32; LANES], fold: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        let (low, high) = parts.split_at_mut(width);
        low.iter_mut().zip(high).for_each(|(x, y)| *x = fold(*x, *y));
    }
    parts[0]
}

/// Replaces each `x` by `exp(x - shift)` and returns their sum.
#[inline(always)]
pub(crate) fn exp_in_place(values: &mut [f32], shift: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (head, tail) = values.as_chunks_mut::<LANES>();
    for chunk in head {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = exp(*x - shift);
            *sum += *x;
        }
    }
    for x in tail.iter_mut() {
        *x = exp(*x - shift);
    }
    tail.iter().fold(folded(sums, |x, y| x + y), |sum, x| sum + x)
}

/// Replaces each `x` by `cap * tanh(x / cap)`, within 1e-7 of the cap.
#[inline(always)]
pub(crate) fn soft_cap(values: &mut [f32], cap: f32) {
    let (double, inverse) = (2.0 * cap, -2.0 / cap);
    for x in values {
        // tanh |y| = 2 / (1 + exp(-2 |y|)) - 1
        let capped = double / (1.0 + exp(x.abs() * inverse)) - cap;
        *x = capped.copysign(*x);
    }
}

/// The sum of `exp((x - shift) * factor)`, as good as one in f64.
///
/// Thousands of terms are summed in f32 at a time, and those sums in f64: a vocabulary of 150,000 small
/// terms would lose digits otherwise.
#[inline(always)]
fn sum_exp(values: &[f32], shift: f32, factor: f32) -> f64 {
    const BLOCK: usize = 4096;
    let mut total = 0f64;
    for block in values.chunks(BLOCK) {
        let mut sums = [0f32; LANES];
        let (head, tail) = block.as_chunks::<LANES>();
        for chunk in head {
            sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += exp((*x - shift) * factor));
        }
        total += sums.iter().copied().map(f64::from).sum::<f64>();
        total += tail.iter().map(|x| f64::from(exp((*x - shift) * factor))).sum::<f64>();
    }
    total
}

#[cfg(target_arch = "x86_64")]
pulp::simd_type! {
    /// Conversions from f16, which `pulp` counts among no kind of machine.
    struct F16c {
        avx: "avx",
        f16c: "f16c",
    }
}

/// Numbers of f16 as f32, exactly; as many of each.
///
/// `half` has the same, but calls a function for every eight numbers, which made decodes of one conversation 0.9
/// times as fast on Zen 1.
///
/// # Panics
/// Where there are not as many of each.
pub fn widen(narrow: &[f16], wide: &mut [f32]) {
    assert!(narrow.len() == wide.len(), "{} numbers of f16 for {} of f32", narrow.len(), wide.len());
    #[cfg(target_arch = "x86_64")]
    if let Some(f16c) = F16c::try_new() {
        return f16c.vectorize(Widen(f16c, narrow, wide));
    }
    narrow.convert_to_f32_slice(wide);
}

/// A call of [`widen`].
#[cfg(target_arch = "x86_64")]
struct Widen<'a>(F16c, &'a [f16], &'a mut [f32]);

#[cfg(target_arch = "x86_64")]
impl NullaryFnOnce for Widen<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(unsafe_code, reason = "`pulp` has no method for this instruction")]
    fn call(self) {
        let Self(F16c { .. }, narrow, wide) = self;
        let ((narrow, narrow_rest), (wide, wide_rest)) = (narrow.as_chunks::<8>(), wide.as_chunks_mut::<8>());
        for (narrow, wide) in narrow.iter().zip(wide) {
            // SAFETY: an `F16c` is the proof that this machine has the instruction: only `try_new` makes one.
            *wide = pulp::cast(unsafe { std::arch::x86_64::_mm256_cvtph_ps(pulp::cast(narrow.map(f16::to_bits))) });
        }
        narrow_rest.iter().zip(wide_rest).for_each(|(narrow, wide)| *wide = narrow.to_f32());
    }
}

/// Asks for a line of memory, of which nothing need be there.
#[inline(always)]
pub(crate) fn prefetch(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    if let Some(sse) = pulp::core_arch::x86::Sse::try_new() {
        sse._mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// Adds a row to another, number by number.
pub fn add(sum: &mut [f32], row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
}

/// Multiplies all by a factor.
#[inline(always)]
pub(crate) fn scale(values: &mut [f32], factor: f32) {
    values.iter_mut().for_each(|x| *x *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_a_few_roundings() {
        let mut worst = 0f64;
        for step in 0..90_000 {
            let x = step as f32 * 1e-3 - 85.0;
            worst = worst.max((f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs());
        }
        assert!(worst < 1e-7, "{worst}");
        assert!(exp(-1e4) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn a_soft_cap_is_a_scaled_tanh() {
        for cap in [0.5f32, 30.0, 50.0] {
            let mut values: Vec<f32> = (-4000..4000).map(|i| i as f32 / 20.0).chain([0.0, 1e30, -1e30]).collect();
            let expected: Vec<f64> =
                values.iter().map(|x| f64::from(cap) * (f64::from(*x) / f64::from(cap)).tanh()).collect();
            soft_cap(&mut values, cap);
            let off = values.iter().zip(expected).map(|(x, e)| (f64::from(*x) - e).abs()).fold(0.0, f64::max);
            assert!(off < 4e-7 * f64::from(cap), "{cap}: {off}");
        }
    }

    #[test]
    fn every_f16_is_widened_exactly() {
        // Also where there is no whole vector of them.
        let narrow: Vec<f16> = (0..=u16::MAX).chain(0..3).map(f16::from_bits).collect();
        let mut wide = vec![0.0; narrow.len()];
        widen(&narrow, &mut wide);
        for (narrow, wide) in narrow.into_iter().zip(wide) {
            assert!(narrow.to_f32().to_bits() == wide.to_bits() || narrow.is_nan() && wide.is_nan(), "{narrow} {wide}");
        }
    }

    #[test]
    fn reductions_are_those_of_f64_at_any_length() {
        for len in [0usize, 1, 15, 16, 17, 100, 9000] {
            let values: Vec<f32> = (0..len).map(|i| ((i * 37) % 101) as f32 / 7.0 - 9.0).collect();
            let expected: f64 = values.iter().map(|x| f64::from(x - 6.0).exp()).sum();
            assert!((sum_exp(&values, 6.0, 1.0) - expected).abs() <= 1e-6 * expected, "{len}");
            assert_eq!(max(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let mut replaced = values.clone();
            let sum = exp_in_place(&mut replaced, 6.0);
            assert!((f64::from(sum) - expected).abs() <= 1e-5 * expected, "{len}");
        }
    }
}
