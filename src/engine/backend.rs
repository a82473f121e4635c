//! What the engine needs of a graph in a session: rows in, logits and hidden states out, and keys and
//! values kept in whatever memory suits the graph.
//!
//! Two backends: [`Graph`](super::graph::Graph) runs a model's own graph, one row at a time, and is the
//! reference; [`PagedGraph`](super::paged::PagedGraph) runs all rows at once.

use std::sync::Arc;

use motorbrain_actors::{
    engine::{Held, Interrupt, Resident},
    tokens::TokenId,
};
use motorbrain_kernels::attention::{Kept, KvStore};

use super::rotations::LayerKeys;
use crate::model::Contract;

/// One row of a run.
pub(crate) struct Feed<'a> {
    /// Tokens to run, at least one.
    pub tokens: &'a [TokenId],
    /// How many tokens of the cache they follow: the first one's position.
    pub past: usize,
    /// How many tokens of the cache are there already: those, and of the tokens to run those that run again.
    pub cached: usize,
    /// Which of them give logits, as rising indices.
    pub logits_of: &'a [usize],
    /// Whether hidden states are wanted.
    pub hidden: bool,
}

/// What a run gave one row. Rows of f32 whatever the graph's own element type.
pub(crate) struct Given<'a, K> {
    /// `[logits_of, vocab]`.
    pub logits: &'a [f32],
    /// `[tokens, hidden]`, if wanted.
    pub hidden: &'a [f32],
    /// The cache to go on with, where the graph made a new one.
    pub kv: Option<K>,
}

/// A run's error and the row to blame, where there is one.
pub(crate) struct RunError {
    /// Its index in the run; `None`: nobody knows.
    pub row: Option<usize>,
    /// The runtime's.
    pub error: ort::Error,
}

/// A graph in a session, and the memory of its caches.
pub(crate) trait Backend {
    /// One conversation's keys and values. How many of its rows are filled is known by its slot.
    type Kv: 'static;

    /// What the graph takes and gives.
    fn contract(&self) -> &Contract;

    /// An empty cache.
    fn empty(&self) -> ort::Result<Self::Kv>;

    /// Tokens a cache has room for.
    fn capacity(&self, kv: &Self::Kv) -> usize;

    /// Makes room in `kv` for what the feed runs; returns a copy where that cannot be done in place. What is cached
    /// stays as it is.
    fn make_room(&self, kv: &mut Self::Kv, feed: &Feed<'_>) -> ort::Result<Option<Self::Kv>>;

    /// A run on `kv` is over, and its first `rows` are to stay as they are from now on.
    fn settle(&self, kv: &mut Self::Kv, rows: usize) {
        let _ = (kv, rows);
    }

    /// A copy of only the kept rows, one range after the other, ready for `new` more.
    fn copy(&self, from: &Self::Kv, kept: &[Kept<'_>], new: usize) -> ort::Result<Self::Kv>;

    /// Bytes of memory that a cache holds for itself alone.
    fn bytes(&self, kv: &Self::Kv) -> usize;

    /// Where the pages of its caches come from; `None`: their memory is their own.
    fn store(&self) -> Option<&Arc<KvStore>> {
        None
    }

    /// A cache of pages, and why they are none.
    fn adopt(&self, held: &Resident) -> Result<Self::Kv, String> {
        let _ = held;
        Err("this engine keeps keys and values to itself".to_owned())
    }

    /// What became of the pages of a cache with `rows` since it was adopted or this was last asked; `None` without
    /// pages. Between runs.
    fn take_held(&self, kv: &mut Self::Kv, rows: usize) -> Option<Held> {
        let _ = (kv, rows);
        None
    }

    /// Runs rows on caches that have room for them, and hands what each gave to `take`, in order. The
    /// filled rows of every cache stay as they are, whatever happens.
    fn run(
        &mut self,
        rows: &mut [(&mut Self::Kv, Feed<'_>)],
        take: &mut dyn FnMut(usize, Given<'_, Self::Kv>),
    ) -> Result<(), RunError>;

    /// Each layer's keys of the given tokens at position 0 and at `positions`, where nothing but the position
    /// differs: what rotations are measured on.
    fn keys_at(&mut self, positions: &[usize], tokens: &[TokenId]) -> ort::Result<Vec<LayerKeys>>;

    /// A handle that stops a run.
    fn interrupter(&self) -> Arc<dyn Interrupt>;

    /// Takes note of an interrupt since the last call: true once for each.
    fn take_interrupt(&self) -> bool;
}
