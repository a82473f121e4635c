//! What queries have found among some of their keys, and how that is put together.
//!
//! A softmax over keys that come in parts keeps the largest score so far and sums relative to it (Milakov and
//! Gimelshein 2018, "Online normalizer calculation for softmax").

use pulp::{Simd, WithSimd};

use crate::vector;

/// What some queries have found among some of their keys.
#[derive(Default)]
pub struct Found {
    /// `[queries, width]`: values by the exponentials of their scores less `most`, with zeros up to a whole
    /// panel.
    pub(super) mixed: Vec<f32>,
    /// The largest score of each query; negative infinity where it has seen no key.
    pub(super) most: Vec<f32>,
    /// The sum of its exponentials.
    pub(super) sums: Vec<f32>,
}

impl Found {
    /// Makes room for so many queries, each with `width` numbers of values, who have seen no key.
    pub(super) fn clear(&mut self, queries: usize, width: usize) {
        let Self { mixed, most, sums } = self;
        let cleared = [(mixed, queries * width, 0.0), (most, queries, f32::NEG_INFINITY), (sums, queries, 0.0)];
        for (numbers, len, value) in cleared {
            numbers.clear();
            numbers.resize(len, value);
        }
    }

    /// Adds what the same queries have found among further keys.
    pub(super) fn add(&mut self, further: &Self) {
        pulp::Arch::new().dispatch(Add { to: self, further });
    }

    /// The mean of the values by their weights, a row with zeros up to a whole panel for each query. To be
    /// asked for once, when all keys were seen.
    pub(super) fn finish(&mut self) -> impl Iterator<Item = &[f32]> {
        let width = self.mixed.len() / self.sums.len().max(1);
        self.mixed.chunks_exact_mut(width.max(1)).zip(&self.sums).map(|(mixed, sum)| {
            vector::scale(mixed, 1.0 / *sum);
            &*mixed
        })
    }
}

/// A call of [`Found::add`].
struct Add<'a> {
    to: &'a mut Found,
    further: &'a Found,
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { to, further } = self;
        let width = to.mixed.len() / to.most.len().max(1);
        let rows = to.mixed.chunks_exact_mut(width.max(1)).zip(further.mixed.chunks_exact(width.max(1)));
        for (query, (mixed, more)) in rows.enumerate() {
            if further.most[query] == f32::NEG_INFINITY {
                continue;
            }
            let now = to.most[query].max(further.most[query]);
            let (old, new) = (vector::exp(to.most[query] - now), vector::exp(further.most[query] - now));
            mixed.iter_mut().zip(more).for_each(|(x, more)| *x = more.mul_add(new, *x * old));
            to.sums[query] = further.sums[query].mul_add(new, to.sums[query] * old);
            to.most[query] = now;
        }
    }
}
