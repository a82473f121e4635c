//! A product of two small matrices, the heart of attention and of the linear layers: `[m, k]` by `[k, n]`, all row-major.
//!
//! Every element is summed over `k` in order, whatever the number of rows: what a query gets does not
//! depend on the queries beside it.

use pulp::Simd;

/// Sizes and row strides, in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a_stride: usize,
    pub b_stride: usize,
    pub c_stride: usize,
}

/// Rows that share the loading of `b`: with two vectors each, as many sums as hide a multiply-add's
/// latency and still fit the registers.
const ROWS: usize = 4;

/// `c = a * b`, or `c += a * b` where `add` says so.
#[inline(always)]
pub(crate) fn product<S: Simd>(simd: S, dims: Dims, a: &[f32], b: &[f32], c: &mut [f32], add: bool) {
    let mut row = 0;
    while row < dims.m {
        let (a, c) = (&a[row * dims.a_stride..], &mut c[row * dims.c_stride..]);
        let count = (dims.m - row).min(ROWS);
        match count {
            1 => rows::<S, 1>(simd, dims, a, b, c, add),
            2 => rows::<S, 2>(simd, dims, a, b, c, add),
            3 => rows::<S, 3>(simd, dims, a, b, c, add),
            _ => rows::<S, ROWS>(simd, dims, a, b, c, add),
        }
        row += count;
    }
}

#[inline(always)]
fn rows<S: Simd, const M: usize>(simd: S, dims: Dims, a: &[f32], b: &[f32], c: &mut [f32], add: bool) {
    let lanes = S::F32_LANES;
    let a: [&[f32]; M] = std::array::from_fn(|row| &a[row * dims.a_stride..][..dims.k]);
    let mut column = 0;
    while column + 2 * lanes <= dims.n {
        tile::<S, M, 2>(simd, dims, a, &b[column..], &mut c[column..], add);
        column += 2 * lanes;
    }
    while column + lanes <= dims.n {
        tile::<S, M, 1>(simd, dims, a, &b[column..], &mut c[column..], add);
        column += lanes;
    }
    for column in column..dims.n {
        for (row, a) in a.iter().enumerate() {
            let c = &mut c[row * dims.c_stride + column];
            let start = if add { *c } else { 0.0 };
            *c = a.iter().enumerate().fold(start, |sum, (k, x)| x.mul_add(b[k * dims.b_stride + column], sum));
        }
    }
}

/// `M` rows by `V` vectors, kept in registers.
#[inline(always)]
fn tile<S: Simd, const M: usize, const V: usize>(
    simd: S,
    dims: Dims,
    a: [&[f32]; M],
    b: &[f32],
    c: &mut [f32],
    add: bool,
) {
    let width = V * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); V]; M];
    if add {
        for (row, sums) in sums.iter_mut().enumerate() {
            sums.copy_from_slice(S::as_simd_f32s(&c[row * dims.c_stride..][..width]).0);
        }
    }
    // By index into slices of known length: one check here instead of one a step.
    let a = a.map(|a| &a[..dims.k]);
    for (k, b) in b.chunks(dims.b_stride).take(dims.k).enumerate() {
        let b = S::as_simd_f32s(&b[..width]).0;
        for (sums, a) in sums.iter_mut().zip(&a) {
            let x = simd.splat_f32s(a[k]);
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = simd.mul_add_f32s(x, *b, *sum);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        S::as_mut_simd_f32s(&mut c[row * dims.c_stride..][..width]).0.copy_from_slice(sums);
    }
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;

    struct Product<'a>(Dims, &'a [f32], &'a [f32], &'a mut [f32], bool);

    impl WithSimd for Product<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            product(simd, self.0, self.1, self.2, self.3, self.4);
        }
    }

    #[test]
    fn any_size_and_stride_gives_the_plain_sum() {
        for (m, n, k, pad) in [(1, 1, 1, 0), (3, 17, 5, 2), (4, 32, 64, 0), (7, 40, 33, 1), (9, 9, 2, 3)] {
            let value = |i: usize| ((i * 29) % 13) as f32 - 6.0;
            let dims = Dims { m, n, k, a_stride: k + pad, b_stride: n + pad, c_stride: n + pad };
            let a: Vec<f32> = (0..m * dims.a_stride).map(value).collect();
            let b: Vec<f32> = (0..k * dims.b_stride).map(|i| value(i + 5)).collect();
            let mut c = vec![1f32; m * dims.c_stride];
            pulp::Arch::new().dispatch(Product(dims, &a, &b, &mut c, true));
            for i in 0..m {
                for j in 0..n + pad {
                    let sum: f32 = (0..k).map(|p| a[i * dims.a_stride + p] * b[p * dims.b_stride + j]).sum();
                    // Small integers: every order of summing is exact.
                    assert_eq!(c[i * dims.c_stride + j], if j < n { 1.0 + sum } else { 1.0 }, "{dims:?} {i} {j}");
                }
            }
        }
    }
}
