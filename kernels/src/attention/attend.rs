//! Attention of a few queries to one KV head: softmax of scaled products with the keys, by the values.
//!
//! Keys are gone through in spans of [`SPAN`] tokens, and the softmax is kept up to date from span to
//! span (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022,
//! "FlashAttention"), so that a thread's memory does not grow with the context and keys that no query may see are
//! never read. From section to section ([`SECTION`] tokens) it is begun anew and what was found is added up,
//! so that sections of a long context can be shared among threads (Dao et al. 2023, "Flash-Decoding"). Both
//! begin at multiples of their size, and sections are added in order wherever they were computed: what a
//! query gets depends on its keys alone.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{
    found::Found,
    head::Head,
    page_layout::BLOCK,
    product::{PANEL, Packed, Rows, Sums, pack, product},
    shape::Shape,
};
use crate::vector;

/// Tokens whose scores are held at once.
const SPAN: usize = 4 * BLOCK;

/// Tokens of a section: enough that what is done once for each is nothing beside them, few enough that a long
/// context has sections for every thread.
pub(super) const SECTION: usize = 8 * SPAN;

/// Memory of one thread, kept from call to call.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[queries, head_dim]`, rotated and scaled.
    pub queries: Vec<f32>,
    /// The same, packed for the products.
    packed: Vec<f32>,
    /// `[SPAN / BLOCK, queries, BLOCK]`.
    scores: Vec<[f32; BLOCK]>,
    /// A block that is not kept as f32.
    block: Vec<f32>,
}

/// Queries and the keys they see in one section. The queries are those of neighbouring tokens, `group` for each.
pub(super) struct Attend<'a> {
    /// Of the one KV head that they share.
    pub kv: &'a Head<'a>,
    /// The layer's sizes.
    pub shape: &'a Shape,
    /// Rows before the first token, which sees [`Shape::seen`] of them; each further token has one more.
    pub past: usize,
    /// Which [`SECTION`] of the keys.
    pub section: usize,
    /// Holds the queries, and what is needed on the way.
    pub scratch: &'a mut Scratch,
    /// What is found, in place of what was there.
    pub found: &'a mut Found,
}

impl Attend<'_> {
    /// The keys that a query sees.
    fn seen_by(&self, query: usize) -> Range<usize> {
        self.shape.seen(self.past + query / self.shape.group())
    }
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let head_dim = self.shape.head_dim;
        let count = self.scratch.queries.len() / head_dim;
        let Scratch { queries, packed, scores, .. } = &mut *self.scratch;
        packed.clear();
        pack(queries, head_dim, packed);
        scores.resize(SPAN / BLOCK * count, [0.0; BLOCK]);
        self.found.clear(count, self.kv.value_panels() * PANEL);
        let section = self.section * SECTION;
        let end = self.seen_by(count - 1).end.min(section + SECTION);
        // Spans begin at multiples of their size wherever the first key lies that is seen.
        let first = section.max(self.seen_by(0).start / SPAN * SPAN);
        for start in (first..end).step_by(SPAN) {
            let tokens = (end - start).min(SPAN);
            self.score(simd, start, tokens, count);
            if let Some(cap) = self.shape.softcap {
                vector::soft_cap(self.scratch.scores[..tokens.div_ceil(BLOCK) * count].as_flattened_mut(), cap);
            }
            self.normalise(start, tokens, count);
            self.mix(simd, start, tokens, count);
        }
    }
}

impl Attend<'_> {
    /// Products of all queries with the keys of a span.
    #[inline(always)]
    fn score<S: Simd>(&mut self, simd: S, start: usize, tokens: usize, count: usize) {
        let Scratch { packed, scores, block, .. } = &mut *self.scratch;
        let queries = Packed { data: packed, k: self.shape.head_dim };
        for (offset, scores) in (0..tokens).step_by(BLOCK).zip(scores.chunks_exact_mut(count)) {
            let keys = self.kv.keys((start + offset) / BLOCK, block);
            let data = scores.as_flattened_mut();
            product(simd, count, queries, keys, &mut Sums { data, stride: BLOCK, panels: BLOCK / PANEL, add: false });
        }
    }

    /// Scores become weights; what was mixed so far is brought to the new scale.
    #[inline(always)]
    fn normalise(&mut self, start: usize, tokens: usize, count: usize) {
        let width = self.kv.value_panels() * PANEL;
        for query in 0..count {
            let seen = self.seen_by(query);
            let seen = seen.start.saturating_sub(start)..seen.end.saturating_sub(start).min(tokens);
            let Found { mixed, most, sums } = &mut *self.found;
            let scores = &mut self.scratch.scores;
            let in_block = |first: usize| [seen.start, seen.end].map(|at| at.saturating_sub(first).min(BLOCK));
            let blocks = || (0..tokens).step_by(BLOCK).map(in_block);
            if seen.is_empty() {
                scores.iter_mut().skip(query).step_by(count).for_each(|scores| scores.fill(0.0));
                continue;
            }
            let mut now = most[query];
            for (scores, [from, to]) in scores.iter_mut().skip(query).step_by(count).zip(blocks()) {
                scores[..from].fill(f32::NEG_INFINITY);
                scores[to..].fill(f32::NEG_INFINITY);
                now = now.max(vector::max(scores));
            }
            if now > most[query] && most[query] > f32::NEG_INFINITY {
                let factor = vector::exp(most[query] - now);
                sums[query] *= factor;
                vector::scale(&mut mixed[query * width..][..width], factor);
            }
            most[query] = now;
            for (scores, [from, to]) in scores.iter_mut().skip(query).step_by(count).zip(blocks()) {
                // What is not seen adds less than the last digit of the largest, which is 1.
                sums[query] += vector::exp_in_place(scores, now);
                scores[..from].fill(0.0);
                scores[to..].fill(0.0);
            }
        }
    }

    /// Adds the values of a span by their weights.
    #[inline(always)]
    fn mix<S: Simd>(&mut self, simd: S, start: usize, tokens: usize, count: usize) {
        let panels = self.kv.value_panels();
        let Scratch { scores, block, .. } = &mut *self.scratch;
        for (offset, rows) in (0..tokens).step_by(BLOCK).zip(scores.chunks_exact(count)) {
            let weights = Rows { rows, k: (tokens - offset).min(BLOCK) };
            let values = self.kv.values((start + offset) / BLOCK, block);
            product(
                simd,
                count,
                weights,
                values,
                &mut Sums { data: &mut self.found.mixed, stride: panels * PANEL, panels, add: true },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(unsafe_code, reason = "one thread writes, then reads")]
    use std::num::NonZeroUsize;

    use super::*;
    use crate::{
        ElementType,
        attention::{KvStore, KvTypes, PagedKv, head::BLOCKS_READ},
    };

    /// Softmax of the products with all keys that a query sees, by the values: in f64 and in one go.
    fn plain(query: &[f32], rows: &[(Vec<f32>, Vec<f32>)], cap: Option<f32>) -> Vec<f64> {
        let product = |key: &[f32]| query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
        let score = |key: &[f32]| match cap.map(f64::from) {
            Some(cap) => cap * (product(key) / cap).tanh(),
            None => product(key),
        };
        let scores: Vec<f64> = rows.iter().map(|(key, _)| score(key)).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let value = |dim: usize| rows.iter().zip(&weights).map(move |((_, v), w)| f64::from(v[dim]) * w / sum).sum();
        (0..query.len()).map(value).collect()
    }

    /// One head with room for so many tokens.
    fn kv(element: ElementType, head_dim: usize, tokens: usize) -> PagedKv {
        let store = KvStore::new(vec![KvTypes { key: element, value: element }], 1, head_dim);
        let mut kv = PagedKv::new(&store, tokens);
        assert!(kv.make_room(0, tokens).is_ok());
        kv
    }

    /// All sections, the last first, added in order.
    fn attend(kv: &PagedKv, shape: &Shape, past: usize, scratch: &mut Scratch) -> Found {
        let tokens = scratch.queries.len() / shape.head_dim / shape.group();
        // SAFETY: nobody writes.
        let kv = &unsafe { Head::new(kv, 0, 0) };
        let found = |section| {
            let mut found = Found::default();
            let scratch = &mut *scratch;
            pulp::Arch::new().dispatch(Attend { kv, shape, past, section, scratch, found: &mut found });
            found
        };
        let first = shape.seen(past).start / SECTION;
        let sections: Vec<Found> = (first..(past + tokens).div_ceil(SECTION)).rev().map(found).collect();
        let sum = |mut whole: Found, further: Found| {
            whole.add(&further);
            whole
        };
        sections.into_iter().rev().reduce(sum).unwrap_or_default()
    }

    /// Within the roundings of f32: sums of some hundred numbers of about one.
    #[test]
    fn each_query_gets_the_softmax_of_the_keys_that_it_sees() {
        let plain_ones =
            [(8, 1, 1, 0), (18, 3, 5, 29), (16, 7, 3, 126), (64, 3, 16, 249), (40, 2, 9, 379), (8, 2, 9, 2042)];
        let plain_ones = plain_ones.map(|sizes| (sizes, None, None));
        // Windows of one key, within a block, over spans and over sections; also with capped scores.
        let windows = [(1, 70), (5, 379), (300, 379), (130, 1030), (1500, 2042)];
        let with_windows = windows.map(|(window, past)| ((16, 2, 16, past), NonZeroUsize::new(window), None));
        let capped =
            [(None, 40), (NonZeroUsize::new(20), 200)].map(|(window, past)| ((16, 2, 5, past), window, Some(1.5)));
        for ((head_dim, group, tokens, past), window, softcap) in
            plain_ones.into_iter().chain(with_windows).chain(capped)
        {
            let shape = Shape { layer: 0, heads: group, kv_heads: 1, head_dim, scale: 1.0, softcap, window };
            let visible = past + 1;
            // Of f16, so that both caches hold them exactly. Later keys score more, so that the largest moves.
            let number = |row: usize, dim: usize| ((row * 31 + dim * 17) % 23) as f32 / 16.0 - 0.6875;
            let rows: Vec<(Vec<f32>, Vec<f32>)> = (0..visible + tokens)
                .map(|row| {
                    let key = (0..head_dim).map(|dim| number(row, dim) + (row / 64) as f32 / 8.0).collect();
                    (key, (0..head_dim).map(|dim| number(row + 5, dim)).collect())
                })
                .collect();
            let queries: Vec<f32> = (0..tokens * group * head_dim).map(|i| number(i / 7, i) + 0.25).collect();
            for element in [ElementType::F32, ElementType::F16] {
                let kv = kv(element, head_dim, rows.len());
                // SAFETY: nobody reads.
                let write = |(row, (key, value)): (_, &(Vec<_>, Vec<_>))| unsafe { kv.write(0, 0, row, key, value) };
                rows.iter().enumerate().for_each(write);
                let scratch = &mut Scratch { queries: queries.clone(), ..Scratch::default() };
                let mut whole = attend(&kv, &shape, past, scratch);
                for ((index, query), found) in queries.chunks_exact(head_dim).enumerate().zip(whole.finish()) {
                    let expected = plain(query, &rows[shape.seen(past + index / group)], softcap);
                    let found = &found[..head_dim];
                    let near = expected.iter().zip(found).all(|(e, f)| (e - f64::from(*f)).abs() < 1e-5);
                    assert!(near, "{element:?} {shape:?} {past}, {index}: {expected:?} {found:?}");
                }
            }
        }
    }

    /// Nothing else of a decode depends on how long the context is.
    #[test]
    fn a_decode_reads_each_block_of_its_context_once() {
        let (head_dim, group) = (8, 3);
        let all = Shape { layer: 0, heads: group, kv_heads: 1, head_dim, scale: 1.0, softcap: None, window: None };
        for element in [ElementType::F32, ElementType::F16] {
            for visible in [1, 31, 32, 33, SPAN, SPAN + 1, 512, 1536, 1537] {
                let kv = kv(element, head_dim, visible + 3 * BLOCK);
                let scratch = &mut Scratch { queries: vec![0.5; group * head_dim], ..Scratch::default() };
                BLOCKS_READ.set(0);
                attend(&kv, &all, visible - 1, scratch);
                assert_eq!(BLOCKS_READ.get(), 2 * visible.div_ceil(BLOCK), "keys and values of {visible} tokens");
                // Of a window at most a span more than what is seen.
                BLOCKS_READ.set(0);
                scratch.queries.resize(group * head_dim, 0.5);
                attend(&kv, &Shape { window: NonZeroUsize::new(40), ..all }, visible - 1, scratch);
                assert!(BLOCKS_READ.get() <= 2 * (40 + 2 * SPAN) / BLOCK, "{visible}: {}", BLOCKS_READ.get());
            }
        }
    }
}
