//! No vectors that are known here: what runs on every machine without AVX2, be it old or not x86-64.

use pulp::{Scalar, cast};

use super::{Lanes, ROUND, front};

/// Arrays, which a compiler makes vectors of where it knows how.
impl Lanes for Scalar {
    type Ints = [i32; 8];
    type Floats = [f32; 8];
    const COUNT: usize = 8;
    const HAS_THREES: bool = false;
    const SUMS_QUADS: bool = false;

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
