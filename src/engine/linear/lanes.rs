//! A machine's vectors, as products of integers see them. `pulp` has the registers and instructions, but
//! no common name for these.
//!
//! Zen 3 multiplies 32 bytes as fast as 16 words or twice 8 floats; sums of bytes' products must be short
//! enough for 16 bits, so that few need more instructions.

use pulp::{Scalar, cast};

/// Vectors of [`Lanes::COUNT`] numbers of 32 bits. Codes are unsigned; a pair is two neighbouring inputs of
/// an output, each in 16 bits.
pub(super) trait Lanes: Copy {
    /// Integers, or pairs.
    type Ints: Copy;
    /// Numbers.
    type Floats: Copy;
    /// Numbers of a vector.
    const COUNT: usize;

    /// One integer, or pair, everywhere.
    fn splat(self, x: i32) -> Self::Ints;
    /// `sum + a.0 * b.0 + a.1 * b.1` of pairs; wraps.
    fn dot(self, a: Self::Ints, b: Self::Ints, sum: Self::Ints) -> Self::Ints;
    /// `sum + a.0 * b.0 + a.1 * b.1` in each half, of four codes of 4 bits `a` and four signed bytes `b`. The
    /// sum must stay in 16 bits.
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

/// Arrays, which a compiler makes vectors of where it knows how.
impl Lanes for Scalar {
    type Ints = [i32; 8];
    type Floats = [f32; 8];
    const COUNT: usize = 8;

    #[inline(always)]
    fn splat(self, x: i32) -> Self::Ints {
        [x; 8]
    }

    #[inline(always)]
    fn dot(self, a: Self::Ints, b: Self::Ints, mut sum: Self::Ints) -> Self::Ints {
        for (sum, (a, b)) in sum.iter_mut().zip(a.iter().zip(&b)) {
            let low = i32::from(*a as i16) * i32::from(*b as i16);
            *sum = sum.wrapping_add(low.wrapping_add((a >> 16) * (b >> 16)));
        }
        sum
    }

    #[inline(always)]
    fn dot_bytes(self, a: Self::Ints, b: Self::Ints, sum: Self::Ints) -> Self::Ints {
        let (a, b): ([u8; 32], [i8; 32]) = (cast(a), cast(b));
        let mut halves: [i16; 16] = cast(sum);
        for (half, (a, b)) in halves.iter_mut().zip(a.as_chunks::<2>().0.iter().zip(b.as_chunks::<2>().0)) {
            *half += i16::from(a[0]) * i16::from(b[0]) + i16::from(a[1]) * i16::from(b[1]);
        }
        cast(halves)
    }

    #[inline(always)]
    fn float(self, x: Self::Ints) -> Self::Floats {
        x.map(|x| x as f32)
    }

    #[inline(always)]
    fn splat_float(self, x: f32) -> Self::Floats {
        [x; 8]
    }

    #[inline(always)]
    fn mul(self, mut a: Self::Floats, b: Self::Floats) -> Self::Floats {
        a.iter_mut().zip(&b).for_each(|(a, b)| *a *= b);
        a
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Floats, b: Self::Floats, mut c: Self::Floats) -> Self::Floats {
        c.iter_mut().zip(a.iter().zip(&b)).for_each(|(c, (a, b))| *c += a * b);
        c
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::Floats {
        front(from)
    }

    #[inline(always)]
    fn store(self, x: Self::Floats, to: &mut [f32]) {
        to[..8].copy_from_slice(&x);
    }

    #[inline(always)]
    fn words(self, from: &[u8]) -> Self::Ints {
        cast(front::<_, 32>(from))
    }

    #[inline(always)]
    fn bytes(self, from: &[u8]) -> Self::Ints {
        cast(front::<_, 16>(from).map(i16::from))
    }

    #[inline(always)]
    fn nibbles(self, from: &[u8], quarter: usize) -> Self::Ints {
        self.words(from).map(|x| (x >> (4 * quarter)) & 0x000f_000f)
    }

    #[inline(always)]
    fn quads(self, from: &[u8], high: bool) -> Self::Ints {
        self.words(from).map(|x| (x >> if high { 4 } else { 0 }) & 0x0f0f_0f0f)
    }

    #[inline(always)]
    fn store_words(self, x: Self::Ints, to: &mut [u8]) {
        to[..32].copy_from_slice(&cast::<_, [u8; 32]>(x));
    }

    #[inline(always)]
    fn round_bytes(self, values: &[f32; ROUND], factor: f32, to: &mut [i32; ROUND / 4]) -> i32 {
        let bytes = values.map(|value| (value * factor).round_ties_even() as i8);
        let mixed: [i8; ROUND] = std::array::from_fn(|i| bytes[i / 8 * 8 + i % 8 / 2 + i % 2 * 4]);
        *to = cast(mixed);
        bytes.iter().copied().map(i32::from).sum()
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m128i, __m256, __m256i, __m512, __m512i};

    use pulp::{
        cast,
        x86::{V3, V4},
    };

    use super::{Lanes, ROUND, front};

    /// Of 16 bits the low four.
    const NIBBLE: i16 = 15;

    impl Lanes for V3 {
        type Ints = __m256i;
        type Floats = __m256;
        const COUNT: usize = 8;

        #[inline(always)]
        fn splat(self, x: i32) -> __m256i {
            self.avx._mm256_set1_epi32(x)
        }

        #[inline(always)]
        fn dot(self, a: __m256i, b: __m256i, sum: __m256i) -> __m256i {
            self.avx2._mm256_add_epi32(sum, self.avx2._mm256_madd_epi16(a, b))
        }

        #[inline(always)]
        fn dot_bytes(self, a: __m256i, b: __m256i, sum: __m256i) -> __m256i {
            self.avx2._mm256_add_epi16(sum, self.avx2._mm256_maddubs_epi16(a, b))
        }

        #[inline(always)]
        fn float(self, x: __m256i) -> __m256 {
            self.avx._mm256_cvtepi32_ps(x)
        }

        #[inline(always)]
        fn splat_float(self, x: f32) -> __m256 {
            self.avx._mm256_set1_ps(x)
        }

        #[inline(always)]
        fn mul(self, a: __m256, b: __m256) -> __m256 {
            self.avx._mm256_mul_ps(a, b)
        }

        #[inline(always)]
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            self.fma._mm256_fmadd_ps(a, b, c)
        }

        #[inline(always)]
        fn load(self, from: &[f32]) -> __m256 {
            cast(front::<_, 8>(from))
        }

        #[inline(always)]
        fn store(self, x: __m256, to: &mut [f32]) {
            to[..8].copy_from_slice(&cast::<_, [f32; 8]>(x));
        }

        #[inline(always)]
        fn words(self, from: &[u8]) -> __m256i {
            cast(front::<_, 32>(from))
        }

        #[inline(always)]
        fn bytes(self, from: &[u8]) -> __m256i {
            self.avx2._mm256_cvtepu8_epi16(cast(front::<_, 16>(from)))
        }

        #[inline(always)]
        fn nibbles(self, from: &[u8], quarter: usize) -> __m256i {
            let (all, mask) = (self.words(from), self.avx._mm256_set1_epi16(NIBBLE));
            match quarter {
                0 => self.avx2._mm256_and_si256(all, mask),
                1 => self.avx2._mm256_and_si256(self.avx2._mm256_srli_epi16::<4>(all), mask),
                2 => self.avx2._mm256_and_si256(self.avx2._mm256_srli_epi16::<8>(all), mask),
                _ => self.avx2._mm256_srli_epi16::<12>(all),
            }
        }

        #[inline(always)]
        fn quads(self, from: &[u8], high: bool) -> __m256i {
            let (all, mask) = (self.words(from), self.avx._mm256_set1_epi8(NIBBLE as i8));
            let codes = if high { self.avx2._mm256_srli_epi16::<4>(all) } else { all };
            self.avx2._mm256_and_si256(codes, mask)
        }

        #[inline(always)]
        fn store_words(self, x: __m256i, to: &mut [u8]) {
            to[..32].copy_from_slice(&cast::<_, [u8; 32]>(x));
        }

        #[inline(always)]
        fn round_bytes(self, values: &[f32; ROUND], factor: f32, to: &mut [i32; ROUND / 4]) -> i32 {
            let factor = self.splat_float(factor);
            let [low, high]: [__m256; 2] = cast(*values);
            let rounded = |values| self.avx._mm256_cvtps_epi32(self.mul(values, factor));
            // Both pack within halves of 128 bits: 0 to 3 and 8 to 11 in the first, the others in the second.
            let words = self.avx2._mm256_packs_epi32(rounded(low), rounded(high));
            let bytes: [__m128i; 2] = cast(self.avx2._mm256_packs_epi16(words, words));
            *to = cast(self.sse2._mm_unpacklo_epi8(bytes[0], bytes[1]));
            let sums = self.avx2._mm256_madd_epi16(words, self.avx._mm256_set1_epi16(1));
            cast::<_, [i32; 8]>(sums).iter().sum()
        }
    }

    impl Lanes for V4 {
        type Ints = __m512i;
        type Floats = __m512;
        const COUNT: usize = 16;

        #[inline(always)]
        fn splat(self, x: i32) -> __m512i {
            self.avx512f._mm512_set1_epi32(x)
        }

        #[inline(always)]
        fn dot(self, a: __m512i, b: __m512i, sum: __m512i) -> __m512i {
            self.avx512f._mm512_add_epi32(sum, self.avx512bw._mm512_madd_epi16(a, b))
        }

        #[inline(always)]
        fn dot_bytes(self, a: __m512i, b: __m512i, sum: __m512i) -> __m512i {
            self.avx512bw._mm512_add_epi16(sum, self.avx512bw._mm512_maddubs_epi16(a, b))
        }

        #[inline(always)]
        fn float(self, x: __m512i) -> __m512 {
            self.avx512f._mm512_cvtepi32_ps(x)
        }

        #[inline(always)]
        fn splat_float(self, x: f32) -> __m512 {
            self.avx512f._mm512_set1_ps(x)
        }

        #[inline(always)]
        fn mul(self, a: __m512, b: __m512) -> __m512 {
            self.avx512f._mm512_mul_ps(a, b)
        }

        #[inline(always)]
        fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            self.avx512f._mm512_fmadd_ps(a, b, c)
        }

        #[inline(always)]
        fn load(self, from: &[f32]) -> __m512 {
            cast(front::<_, 16>(from))
        }

        #[inline(always)]
        fn store(self, x: __m512, to: &mut [f32]) {
            to[..16].copy_from_slice(&cast::<_, [f32; 16]>(x));
        }

        #[inline(always)]
        fn words(self, from: &[u8]) -> __m512i {
            cast(front::<_, 64>(from))
        }

        #[inline(always)]
        fn bytes(self, from: &[u8]) -> __m512i {
            self.avx512bw._mm512_cvtepu8_epi16(cast(front::<_, 32>(from)))
        }

        #[inline(always)]
        fn nibbles(self, from: &[u8], quarter: usize) -> __m512i {
            let (all, mask) = (self.words(from), self.avx512f._mm512_set1_epi16(NIBBLE));
            match quarter {
                0 => self.avx512f._mm512_and_si512(all, mask),
                1 => self.avx512f._mm512_and_si512(self.avx512bw._mm512_srli_epi16::<4>(all), mask),
                2 => self.avx512f._mm512_and_si512(self.avx512bw._mm512_srli_epi16::<8>(all), mask),
                _ => self.avx512bw._mm512_srli_epi16::<12>(all),
            }
        }

        #[inline(always)]
        fn quads(self, from: &[u8], high: bool) -> __m512i {
            let (all, mask) = (self.words(from), self.avx512f._mm512_set1_epi8(NIBBLE as i8));
            let codes = if high { self.avx512bw._mm512_srli_epi16::<4>(all) } else { all };
            self.avx512f._mm512_and_si512(codes, mask)
        }

        #[inline(always)]
        fn store_words(self, x: __m512i, to: &mut [u8]) {
            to[..64].copy_from_slice(&cast::<_, [u8; 64]>(x));
        }

        #[inline(always)]
        fn round_bytes(self, values: &[f32; ROUND], factor: f32, to: &mut [i32; ROUND / 4]) -> i32 {
            (*self).round_bytes(values, factor, to)
        }
    }
}
