//! A layer's sizes, and where its queries, keys and values lie.

use std::{num::NonZeroUsize, ops::Range};

/// A layer's sizes.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Which layer of the model it is.
    pub layer: usize,
    /// Query heads: a multiple of the KV heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Factor of the products of queries and keys.
    pub scale: f32,
    /// What their scaled products stay below: each becomes `cap * tanh(score / cap)` (Gemma Team 2024, "Gemma 2",
    /// 2.3); `None`: they stay as they are.
    pub softcap: Option<f32>,
    /// The most keys that a token sees, its own and those right before it (Beltagy et al. 2020, "Longformer", 3.1);
    /// `None`: all.
    pub window: Option<NonZeroUsize>,
}

impl Shape {
    /// Query heads that share a KV head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The keys that a token sees behind `past` others.
    pub(super) fn seen(&self, past: usize) -> Range<usize> {
        let window = self.window.map_or(usize::MAX, NonZeroUsize::get);
        (past + 1).saturating_sub(window)..past + 1
    }
}

/// Rows of a tensor `[tokens, width]`, of which each head's numbers begin at `first + head * head_dim`.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    /// The tensor.
    pub data: &'a [f32],
    /// Numbers from one token's row to the next.
    pub width: usize,
    /// Where the first head begins in a row.
    pub first: usize,
    /// Numbers of a head.
    pub head_dim: usize,
}

impl<'a> Heads<'a> {
    /// One head's numbers of one token.
    pub(super) fn row(&self, token: usize, head: usize) -> &'a [f32] {
        &self.data[token * self.width + self.first + head * self.head_dim..][..self.head_dim]
    }
}
