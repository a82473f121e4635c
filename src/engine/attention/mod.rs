//! Attention over paged keys and values: an operator of our own in ONNX Runtime's graph.
//!
//! The runtime calls it once a layer with the queries, keys and values of all new tokens of a run, the
//! rows of the [`Batch`] one after the other. It rotates the new keys, writes them and the values behind
//! their conversation's past ones, and mixes the values for each query. What it needs to know of the
//! run it reads in the batch, which the engine fills before it calls the session.
//!
//! Work is cut into tasks of one row, one KV head and a few tokens, and of one section of the keys where those
//! are too few, shared among the session's threads.
//! A task's arithmetic does not depend on what else is in the run.

mod attend;
mod head;
mod kernel;
mod operator;
mod product;

use std::{
    collections::TryReserveError,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

pub(crate) use head::KvHead;
pub(crate) use operator::PagedAttention;

use crate::model::Contract;

/// One conversation's keys and values in all layers. Shared with the run it is in.
pub(crate) struct PagedKv {
    /// `[layers, kv_heads]`. The locks are never waited for: a run's tasks write disjoint heads, and
    /// only between runs does the engine.
    heads: Box<[RwLock<KvHead>]>,
    kv_heads: usize,
}

impl PagedKv {
    /// Without room.
    pub(super) fn new(contract: &Contract) -> Self {
        let head = |layer: usize| {
            let kv = &contract.kv[layer];
            RwLock::new(KvHead::new(kv.key_type, kv.value_type, contract.head_dim))
        };
        let heads = (0..contract.layers).flat_map(|layer| (0..contract.kv_heads).map(move |_| head(layer))).collect();
        Self { heads, kv_heads: contract.kv_heads }
    }

    /// Of one layer.
    #[cfg(test)]
    fn of_heads(kv_heads: usize, head: impl Fn() -> KvHead) -> Self {
        Self { heads: (0..kv_heads).map(|_| RwLock::new(head())).collect(), kv_heads }
    }

    /// Makes room for `tokens` in all.
    ///
    /// # Errors
    /// The system has no more memory. What is filled stays as it is.
    pub(super) fn grow(&self, tokens: usize) -> Result<(), TryReserveError> {
        if self.capacity() < tokens {
            self.heads.iter().try_for_each(|head| write(head).grow(tokens))?;
        }
        Ok(())
    }

    /// Tokens there is room for: in the last head, since heads grow one after the other.
    pub(super) fn capacity(&self) -> usize {
        self.heads.last().map_or(0, |head| read(head).capacity())
    }

    /// One head, to be read.
    pub(super) fn read(&self, layer: usize, head: usize) -> RwLockReadGuard<'_, KvHead> {
        read(&self.heads[layer * self.kv_heads + head])
    }

    /// One head, to be written.
    pub(super) fn write(&self, layer: usize, head: usize) -> RwLockWriteGuard<'_, KvHead> {
        write(&self.heads[layer * self.kv_heads + head])
    }

    /// The heads of both, in pairs.
    pub(super) fn pairs<'a>(
        &'a self,
        to: &'a Self,
    ) -> impl Iterator<Item = (RwLockReadGuard<'a, KvHead>, RwLockWriteGuard<'a, KvHead>)> {
        self.heads.iter().zip(&to.heads).map(|(from, to)| (read(from), write(to)))
    }
}

/// A panic elsewhere leaves rows that no slot counts, so a poisoned lock is as good as another.
fn read(head: &RwLock<KvHead>) -> RwLockReadGuard<'_, KvHead> {
    head.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(head: &RwLock<KvHead>) -> RwLockWriteGuard<'_, KvHead> {
    head.write().unwrap_or_else(PoisonError::into_inner)
}

/// A row of a run as its attention sees it.
pub(crate) struct BatchRow {
    /// With room for the past and the new tokens.
    pub kv: Arc<PagedKv>,
    /// Rows of the cache before the new ones.
    pub past: usize,
    /// The first new token's position. It differs from `past` only where a rotation is measured.
    pub position: usize,
    /// New tokens.
    pub tokens: usize,
}

/// The rows of the run in progress, in the order of their tokens.
#[derive(Clone, Default)]
pub(crate) struct Batch(Arc<Mutex<Vec<BatchRow>>>);

impl Batch {
    /// The rows. Held by the engine while it fills them and by each layer's attention while it runs.
    pub(super) fn rows(&self) -> MutexGuard<'_, Vec<BatchRow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
