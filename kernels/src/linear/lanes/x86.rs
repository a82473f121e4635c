//! Vectors of AVX2 (with FMA) and of AVX-512 (with BW), the latter with and without VNNI.

use std::arch::x86_64::{__m128i, __m256, __m256i, __m512, __m512i, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32};

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
    const HAS_THREES: bool = true;
    const SUMS_QUADS: bool = false;

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

/// Vectors of AVX-512 and how they multiply integers.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx512<D>(pub V4, pub D);

/// How vectors of AVX-512 multiply integers.
pub(in super::super) trait Dots: Copy {
    /// See [`Lanes::SUMS_QUADS`].
    const SUMS_QUADS: bool;

    /// See [`Lanes::dot`].
    fn dot(self, v4: V4, a: __m512i, b: __m512i, sum: __m512i) -> __m512i;
    /// See [`Lanes::dot_bytes`].
    fn dot_bytes(self, v4: V4, a: __m512i, b: __m512i, sum: __m512i) -> __m512i;
}

/// Products of pairs, and their sums after them.
#[derive(Clone, Copy)]
pub(in super::super) struct Madd;

impl Dots for Madd {
    const SUMS_QUADS: bool = false;

    #[inline(always)]
    fn dot(self, v4: V4, a: __m512i, b: __m512i, sum: __m512i) -> __m512i {
        v4.avx512f._mm512_add_epi32(sum, v4.avx512bw._mm512_madd_epi16(a, b))
    }

    #[inline(always)]
    fn dot_bytes(self, v4: V4, a: __m512i, b: __m512i, sum: __m512i) -> __m512i {
        v4.avx512bw._mm512_add_epi16(sum, v4.avx512bw._mm512_maddubs_epi16(a, b))
    }
}

pulp::simd_type! {
    /// All of [`V4`]'s features, which its methods are inlined with, and VNNI.
    pub(in super::super) struct Vnni {
        sse: "sse",
        sse2: "sse2",
        fxsr: "fxsr",
        sse3: "sse3",
        ssse3: "ssse3",
        sse4_1: "sse4.1",
        sse4_2: "sse4.2",
        popcnt: "popcnt",
        avx: "avx",
        avx2: "avx2",
        bmi1: "bmi1",
        bmi2: "bmi2",
        fma: "fma",
        lzcnt: "lzcnt",
        avx512f: "avx512f",
        avx512bw: "avx512bw",
        avx512cd: "avx512cd",
        avx512dq: "avx512dq",
        avx512vl: "avx512vl",
        avx512vnni: "avx512vnni",
    }
}

#[expect(unsafe_code, reason = "`pulp` has no methods for these instructions")]
impl Dots for Vnni {
    const SUMS_QUADS: bool = true;

    #[inline(always)]
    fn dot(self, _: V4, a: __m512i, b: __m512i, sum: __m512i) -> __m512i {
        // SAFETY: a `Vnni` is the proof that this machine has the instruction: only `try_new` makes one.
        unsafe { _mm512_dpwssd_epi32(sum, a, b) }
    }

    #[inline(always)]
    fn dot_bytes(self, _: V4, a: __m512i, b: __m512i, sum: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_dpbusd_epi32(sum, a, b) }
    }
}

impl<D: Dots> Lanes for Avx512<D> {
    type Ints = __m512i;
    type Floats = __m512;
    const COUNT: usize = 16;
    const HAS_THREES: bool = true;
    const SUMS_QUADS: bool = D::SUMS_QUADS;

    #[inline(always)]
    fn splat(self, x: i32) -> __m512i {
        self.0.avx512f._mm512_set1_epi32(x)
    }

    #[inline(always)]
    fn dot(self, a: __m512i, b: __m512i, sum: __m512i) -> __m512i {
        self.1.dot(self.0, a, b, sum)
    }

    #[inline(always)]
    fn dot_bytes(self, a: __m512i, b: __m512i, sum: __m512i) -> __m512i {
        self.1.dot_bytes(self.0, a, b, sum)
    }

    #[inline(always)]
    fn float(self, x: __m512i) -> __m512 {
        self.0.avx512f._mm512_cvtepi32_ps(x)
    }

    #[inline(always)]
    fn splat_float(self, x: f32) -> __m512 {
        self.0.avx512f._mm512_set1_ps(x)
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        self.0.avx512f._mm512_mul_ps(a, b)
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.0.avx512f._mm512_fmadd_ps(a, b, c)
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
        self.0.avx512bw._mm512_cvtepu8_epi16(cast(front::<_, 32>(from)))
    }

    #[inline(always)]
    fn nibbles(self, from: &[u8], quarter: usize) -> __m512i {
        let (all, mask) = (self.words(from), self.0.avx512f._mm512_set1_epi16(NIBBLE));
        match quarter {
            0 => self.0.avx512f._mm512_and_si512(all, mask),
            1 => self.0.avx512f._mm512_and_si512(self.0.avx512bw._mm512_srli_epi16::<4>(all), mask),
            2 => self.0.avx512f._mm512_and_si512(self.0.avx512bw._mm512_srli_epi16::<8>(all), mask),
            _ => self.0.avx512bw._mm512_srli_epi16::<12>(all),
        }
    }

    #[inline(always)]
    fn quads(self, from: &[u8], high: bool) -> __m512i {
        let (all, mask) = (self.words(from), self.0.avx512f._mm512_set1_epi8(NIBBLE as i8));
        let codes = if high { self.0.avx512bw._mm512_srli_epi16::<4>(all) } else { all };
        self.0.avx512f._mm512_and_si512(codes, mask)
    }

    #[inline(always)]
    fn store_words(self, x: __m512i, to: &mut [u8]) {
        to[..64].copy_from_slice(&cast::<_, [u8; 64]>(x));
    }

    #[inline(always)]
    fn round_bytes(self, values: &[f32; ROUND], factor: f32, to: &mut [i32; ROUND / 4]) -> i32 {
        (*self.0).round_bytes(values, factor, to)
    }
}
