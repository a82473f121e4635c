//! One conversation's place in an engine: which tokens its context holds, and how many of them are cached.
//!
//! A slot changes in two ways only: it takes over what a run did, or goes back to an earlier length. Lengths are in
//! tokens.

use motorbrain_actors::{
    engine::{Row, RowOutput, Window},
    tokens::TokenId,
};

use super::planned::Executed;

/// One conversation. Invariants: `kv_len <= context.len() <= window.size`, and at most the last
/// token of the context has no keys and values yet. One more was sampled where the slot's owner slides and has not yet.
pub(super) struct Slot<K> {
    /// With room for a full window and the token that makes it slide, from the beginning.
    pub(super) context: Vec<TokenId>,
    /// Its keys and values, rows behind the filled ones being anything.
    pub(super) kv: K,
    /// Tokens of the context whose keys and values are cached.
    pub(super) kv_len: usize,
    /// So many of the first tokens never leave, those to come among them, or as many as the window's sinks.
    pub(super) pinned: usize,
    /// A rewind below this length would need tokens that left with the last slide.
    pub(super) floor: usize,
}

impl<K> Slot<K> {
    /// Without tokens, in a window of `size`.
    pub(super) fn new(kv: K, size: usize) -> Self {
        Self { context: Vec::with_capacity(size + 1), kv, kv_len: 0, pinned: 0, floor: 0 }
    }

    /// Goes back to `context_len` tokens, which lie between the floor and the context's length.
    pub(super) fn rewind(&mut self, context_len: usize) {
        let (least, most) = (self.floor, self.context.len());
        assert!((least..=most).contains(&context_len), "a rewind to {context_len} of {least} to {most} tokens");
        self.kv_len = self.kv_len.min(context_len);
        self.context.truncate(context_len);
    }

    /// Takes over what a row's run did.
    pub(super) fn commit(&mut self, row: &Row<'_>, executed: Executed<K>, window: &Window) -> RowOutput {
        let Executed { kv, kv_len, mut output } = executed;
        let (before, new, slide) = (self.context.len(), row.tokens.len(), window.slide);
        let (taken, dropped) = (output.taken, output.dropped);
        assert!(taken <= new, "{taken} tokens were taken of {new}");
        assert!(dropped.is_multiple_of(slide.max(1)), "{dropped} tokens left by slides of {slide}");
        self.context.extend_from_slice(&row.tokens[..output.taken]);
        self.context.extend(output.sampled.iter().map(|s| s.token));
        if output.dropped > 0 {
            // Each slide drops what stands behind those that stay, so together they drop one range.
            let first = window.kept_first(self.pinned);
            self.context.drain(first..first + output.dropped);
            self.floor = window.size - window.slide;
        }
        if let Some(kv) = kv {
            self.kv = kv;
        }
        self.kv_len = kv_len;
        let (after, gained) = (self.context.len(), taken + usize::from(output.sampled.is_some()));
        assert!(after + dropped == before + gained, "{after} tokens: {before} and {gained} new ones less {dropped}");
        output.context_len = after;
        output
    }

    /// What holds between two runs; `capacity`: rows that the cache has room for, `size`: the window's.
    pub(super) fn check_invariants(&self, capacity: usize, size: usize) {
        let (kv_len, context_len) = (self.kv_len, self.context.len());
        assert!(kv_len <= capacity, "{kv_len} tokens are cached in {capacity} rows");
        assert!(kv_len <= context_len, "{kv_len} tokens are cached, the context has {context_len}");
        assert!(context_len - kv_len <= 1, "only {kv_len} of {context_len} tokens are cached");
        assert!(self.floor <= context_len, "the context has {context_len} tokens, its floor is {}", self.floor);
        // One more was sampled where the owner slides, and is not run before that.
        let most = size + (context_len - kv_len);
        assert!(kv_len <= size && context_len <= most, "the context has {context_len} tokens, the window {size}");
    }
}
