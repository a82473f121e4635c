//! Attention of a few queries to one KV head: softmax of scaled products with the keys, by the values.
//!
//! Keys are gone through in spans of [`SPAN`] tokens, and the softmax is kept up to date from span to
//! span (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022,
//! "FlashAttention"), so that memory does not grow with the context and keys that no query may see are
//! never read. Spans begin at multiples of their size: what a query gets depends on its keys alone.

use pulp::{Simd, WithSimd};

use super::head::{BLOCK, KvHead};
use crate::engine::{
    product::{Dims, product},
    vector,
};

/// Tokens whose scores are held at once.
const SPAN: usize = 4 * BLOCK;

/// Memory of one thread, kept from call to call.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[queries, head_dim]`, rotated and scaled.
    pub queries: Vec<f32>,
    /// `[queries, head_dim]`: the answer.
    pub mixed: Vec<f32>,
    /// `[queries, SPAN]`.
    scores: Vec<f32>,
    /// The largest score so far of each query.
    most: Vec<f32>,
    /// The sum of its exponentials so far.
    sums: Vec<f32>,
    /// `[head_dim]`: a key on its way into the cache, rotated.
    pub key: Vec<f32>,
    /// A block that is not kept as f32.
    block: Vec<f32>,
}

/// Queries and the keys they see. The queries are those of neighbouring tokens, `group` for each.
pub(super) struct Attend<'a> {
    pub head: &'a KvHead,
    pub head_dim: usize,
    /// Query heads that share this KV head.
    pub group: usize,
    /// How many keys the first token's queries see; each further token's see one more.
    pub visible: usize,
    pub scratch: &'a mut Scratch,
}

impl Attend<'_> {
    fn visible_to(&self, query: usize) -> usize {
        self.visible + query / self.group
    }
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let count = self.scratch.queries.len() / self.head_dim;
        self.scratch.mixed.clear();
        self.scratch.mixed.resize(count * self.head_dim, 0.0);
        self.scratch.scores.resize(count * SPAN, 0.0);
        self.scratch.most.clear();
        self.scratch.most.resize(count, f32::NEG_INFINITY);
        self.scratch.sums.clear();
        self.scratch.sums.resize(count, 0.0);
        let end = self.visible_to(count - 1);
        for start in (0..end).step_by(SPAN) {
            let width = (end - start).min(SPAN);
            self.score(simd, start, width, count);
            self.normalise(start, width, count);
            self.mix(simd, start, width, count);
        }
        let Scratch { mixed, sums, .. } = &mut *self.scratch;
        for (mixed, sum) in mixed.chunks_exact_mut(self.head_dim).zip(sums) {
            vector::scale(mixed, 1.0 / *sum);
        }
    }
}

impl Attend<'_> {
    /// Products of all queries with the keys of a span.
    #[inline(always)]
    fn score<S: Simd>(&mut self, simd: S, start: usize, width: usize, count: usize) {
        let dims =
            Dims { m: count, n: BLOCK, k: self.head_dim, a_stride: self.head_dim, b_stride: BLOCK, c_stride: SPAN };
        let Scratch { queries, scores, block, .. } = &mut *self.scratch;
        for offset in (0..width).step_by(BLOCK) {
            let keys = self.head.keys((start + offset) / BLOCK, block);
            product(simd, dims, queries, keys, &mut scores[offset..], false);
        }
    }

    /// Scores become weights; what was mixed so far is brought to the new scale.
    #[inline(always)]
    fn normalise(&mut self, start: usize, width: usize, count: usize) {
        for query in 0..count {
            let visible = self.visible_to(query).saturating_sub(start).min(width);
            let Scratch { scores, most, sums, mixed, .. } = &mut *self.scratch;
            let scores = &mut scores[query * SPAN..][..width];
            let (seen, unseen) = scores.split_at_mut(visible);
            unseen.fill(0.0);
            if seen.is_empty() {
                continue;
            }
            let before = most[query];
            let now = before.max(vector::max(seen));
            let sum = vector::exp_in_place(seen, now);
            if now > before && start > 0 {
                let factor = vector::exp(before - now);
                sums[query] *= factor;
                vector::scale(&mut mixed[query * self.head_dim..][..self.head_dim], factor);
            }
            sums[query] += sum;
            most[query] = now;
        }
    }

    /// Adds the values of a span by their weights.
    #[inline(always)]
    fn mix<S: Simd>(&mut self, simd: S, start: usize, width: usize, count: usize) {
        let Scratch { mixed, scores, block, .. } = &mut *self.scratch;
        for offset in (0..width).step_by(BLOCK) {
            let dims = Dims {
                m: count,
                n: self.head_dim,
                k: (width - offset).min(BLOCK),
                a_stride: SPAN,
                b_stride: self.head_dim,
                c_stride: self.head_dim,
            };
            let values = self.head.values((start + offset) / BLOCK, block);
            product(simd, dims, &scores[offset..], values, mixed, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::attention::head::BLOCKS_READ, model::ElementType};

    /// Nothing else of a decode depends on how long the context is.
    #[test]
    fn a_decode_reads_each_block_of_its_context_once() {
        let (head_dim, group) = (8, 3);
        for element in [ElementType::F32, ElementType::F16] {
            for visible in [1, 31, 32, 33, SPAN, SPAN + 1, 512, 1536, 1537] {
                let mut head = KvHead::new(element, element, head_dim);
                assert!(head.grow(visible + 3 * BLOCK).is_ok());
                let scratch = &mut Scratch { queries: vec![0.5; group * head_dim], ..Scratch::default() };
                BLOCKS_READ.set(0);
                pulp::Arch::new().dispatch(Attend { head: &head, head_dim, group, visible, scratch });
                assert_eq!(BLOCKS_READ.get(), 2 * visible.div_ceil(BLOCK), "keys and values of {visible} tokens");
            }
        }
    }
}
