//! A machine's vectors, as products of integers see them. `pulp` has the registers and instructions, but
//! no common name for these.
//!
//! AVX2 multiplies 32 bytes as fast as 16 words (Zen 3), but sums them in 16 bits, so that only a few products are
//! summed before they are widened. VNNI sums four in 32 bits at once.

mod scalar;
#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

/// Vectors of [`Lanes::COUNT`] numbers of 32 bits. Codes are unsigned; a pair is two neighbouring inputs of
/// an output, each in 16 bits.
pub(super) trait Lanes: Copy {
    /// Integers, or pairs.
    type Ints: Copy;
    /// Numbers.
    type Floats: Copy;
    /// Numbers of a vector.
    const COUNT: usize;
    /// Whether three rows are a tile of their own: worth compiling where many machines run it.
    const HAS_THREES: bool;
    /// Whether [`Lanes::dot_bytes`] sums four products in 32 bits.
    const SUMS_QUADS: bool;

    /// One integer, or pair, everywhere.
    fn splat(self, x: i32) -> Self::Ints;
    /// `sum + a.0 * b.0 + a.1 * b.1` of pairs; wraps.
    fn dot(self, a: Self::Ints, b: Self::Ints, sum: Self::Ints) -> Self::Ints;
    /// Of four codes of 4 bits `a` and four signed bytes `b`: `sum` and all four products in 32 bits where
    /// [`Lanes::SUMS_QUADS`], else `sum + a.0 * b.0 + a.1 * b.1` in each half, which must stay in 16 bits.
    fn dot_bytes(self, a: Self::Ints, b: Self::Ints, sum: Self::Ints) -> Self::Ints;
    /// As numbers.
    fn float(self, x: Self::Ints) -> Self::Floats;
    /// One number everywhere.
    fn splat_float(self, x: f32) -> Self::Floats;
    /// `a * b`.
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, rounded once where the machine can.
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// The first numbers.
    fn load(self, from: &[f32]) -> Self::Floats;
    /// Writes to the front.
    fn store(self, x: Self::Floats, to: &mut [f32]);
    /// The pairs at the front, 4 bytes each.
    fn words(self, from: &[u8]) -> Self::Ints;
    /// The pairs at the front, a byte a code.
    fn bytes(self, from: &[u8]) -> Self::Ints;
    /// The `quarter`th of the four pairs in each 4 bytes at the front: bits `4 * quarter` and up of both
    /// halves.
    fn nibbles(self, from: &[u8], quarter: usize) -> Self::Ints;
    /// The low or the high four codes of 4 bits in each 4 bytes at the front.
    fn quads(self, from: &[u8], high: bool) -> Self::Ints;
    /// Writes pairs to the front.
    fn store_words(self, x: Self::Ints, to: &mut [u8]);
    /// The nearest integers of `values * factor`, at most 127 in magnitude, as bytes: of each eight 0, 4, 1,
    /// 5, 2, 6, 3, 7. Returns their sum.
    fn round_bytes(self, values: &[f32; ROUND], factor: f32, to: &mut [i32; ROUND / 4]) -> i32;
}

/// Numbers that [`Lanes::round_bytes`] rounds.
pub(super) const ROUND: usize = 16;

/// What is at the front.
#[inline(always)]
fn front<T: Copy + Default, const N: usize>(from: &[T]) -> [T; N] {
    let mut front = [T::default(); N];
    front.copy_from_slice(&from[..N]);
    front
}
