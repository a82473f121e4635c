//! Conversations' keys and values, kept in tensors of the runtime.
//!
//! Two shapes of memory, as the two families of graphs want them. A plain graph concatenates: it
//! takes tensors of exactly the rows that are cached and gives new ones. A GroupQueryAttention graph
//! takes one tensor as past and present, with room for more rows than are filled, and appends to it
//! in place.
//!
//! Tensors are `[1, kv_heads, capacity, head_dim]`, keys rotated. Lengths are in tokens. How many
//! rows of a cache are filled is known by its slot, not here.

use std::{ops::Range, sync::Arc};

use half::f16;
use motorbrain_kernels::{
    attention::{Kept, Turns},
    rotary::Turn,
};
use ort::{
    memory::Allocator,
    value::{DynTensor, PrimitiveTensorElementType, TensorElementType},
};

use crate::model::{Contract, ElementType, Family};

/// Buffers grow by whole blocks of so many tokens, and at least by half.
const BLOCK: usize = 128;

/// Keys and values of one layer.
#[derive(Debug)]
pub(crate) struct LayerKv {
    /// `[1, kv_heads, capacity, head_dim]`, rotated.
    pub key: DynTensor,
    /// `[1, kv_heads, capacity, head_dim]`.
    pub value: DynTensor,
    /// Keys of the first rows as a slide has turned them, `[kv_heads, rows, head_dim]`, where `key` holds them rounded
    /// and they are turned so often that this would add up.
    pub turned: Option<Arc<[f32]>>,
}

/// One conversation's keys and values; see the module's description.
#[derive(Debug)]
pub(crate) struct KvCache {
    /// In order.
    pub layers: Vec<LayerKv>,
    /// Rows of every tensor.
    pub capacity: usize,
}

impl KvCache {
    /// The keys of one token in one layer, `[kv_heads, head_dim]`.
    pub(crate) fn key_row(&self, layer: usize, row: usize, head_dim: usize) -> ort::Result<Vec<f32>> {
        let key = &self.layers[layer].key;
        Ok(match key.data_type() {
            TensorElementType::Float16 => widened_row::<f16>(extract(key)?, self.capacity, row, head_dim),
            _ => widened_row::<f32>(extract(key)?, self.capacity, row, head_dim),
        })
    }

    /// Bytes of all tensors, of which keys and values of a token take `per_token`.
    pub(crate) fn bytes(&self, per_token: usize) -> usize {
        let turned = self.layers.iter().filter_map(|layer| layer.turned.as_deref());
        self.capacity * per_token + turned.map(size_of_val).sum::<usize>()
    }

    /// Takes over what `earlier` knows of its first rows, which are the same here.
    pub(crate) fn remember(&mut self, earlier: &Self) {
        for (layer, earlier) in self.layers.iter_mut().zip(&earlier.layers) {
            layer.turned.clone_from(&earlier.turned);
        }
    }
}

fn widened_row<T: Element>(keys: &[T], capacity: usize, row: usize, head_dim: usize) -> Vec<f32> {
    let heads = keys.chunks_exact(capacity * head_dim);
    heads.flat_map(|head| &head[row * head_dim..(row + 1) * head_dim]).map(|x| x.widen()).collect()
}

/// Makes caches for one graph.
pub(crate) struct KvMemory {
    contract: Contract,
    allocator: Allocator,
    capacity_max: usize,
}

impl KvMemory {
    /// Caches as `contract` wants them, of at most `capacity_max` tokens.
    pub(crate) fn new(contract: Contract, capacity_max: usize) -> Self {
        Self { contract, allocator: Allocator::default(), capacity_max }
    }

    /// Whether `kv`, with `filled` rows, can be run with `new` more rows as it is.
    pub(crate) fn fits(&self, kv: &KvCache, filled: usize, new: usize) -> bool {
        match self.contract.family {
            Family::Plain => filled == kv.capacity,
            Family::GroupQueryAttention => filled + new <= kv.capacity,
        }
    }

    /// A cache of `capacity` rows of zeros.
    pub(crate) fn zeros(&self, capacity: usize) -> ort::Result<KvCache> {
        let tensor = |element: ElementType| {
            let shape = [1, self.contract.kv_heads, capacity, self.contract.head_dim];
            let element = match element {
                ElementType::F32 => TensorElementType::Float32,
                ElementType::F16 => TensorElementType::Float16,
            };
            DynTensor::new(&self.allocator, element, shape)
        };
        let layers = self
            .contract
            .kv
            .iter()
            .map(|kv| Ok(LayerKv { key: tensor(kv.key_type)?, value: tensor(kv.value_type)?, turned: None }))
            .collect::<ort::Result<_>>()?;
        Ok(KvCache { layers, capacity })
    }

    /// A copy of only the kept rows, one range after the other, ready for `new` more.
    pub(crate) fn copy(&self, from: &KvCache, kept: &[Kept<'_>], new: usize) -> ort::Result<KvCache> {
        let filled = kept.iter().map(|k| k.rows.len()).sum::<usize>();
        let (room, end) = (from.capacity, kept.iter().map(|k| k.rows.end).max().unwrap_or(0));
        assert!(end <= room, "rows up to {end} are to be copied of {room}");
        let mut to = self.zeros(self.capacity(from.capacity, filled, new))?;
        let shape = Shape { head_dim: self.contract.head_dim, from: from.capacity, to: to.capacity };
        // Values are not rotated, so nothing turns them.
        let unturned: Vec<_> = kept.iter().map(|k| (k.rows.clone(), None)).collect();
        for (index, (from, to)) in from.layers.iter().zip(&mut to.layers).enumerate() {
            let turned: Vec<_> =
                kept.iter().map(|k| (k.rows.clone(), k.turns.map(|turns| &turns.layers[index]))).collect();
            let exact = shape.copy(&from.key, from.turned.as_deref(), &mut to.key, &turned)?;
            shape.copy(&from.value, None, &mut to.value, &unturned)?;
            let narrow = self.contract.kv[index].key_type != ElementType::F32;
            let wanted = narrow && kept.iter().any(|k| k.turns.is_some_and(|Turns { in_f32, .. }| in_f32));
            to.turned = wanted.then(|| exact.into());
        }
        Ok(to)
    }

    /// A cache of `count` rows, and room for one more, whose values are all those of row `row` in `from`; of keys,
    /// zeros.
    pub(crate) fn repeated(&self, from: &KvCache, row: usize, count: usize) -> ort::Result<KvCache> {
        let mut to = self.zeros(self.capacity(0, count, 1))?;
        let shape = Shape { head_dim: self.contract.head_dim, from: from.capacity, to: to.capacity };
        let rows: Vec<_> = (0..count).map(|_| (row..row + 1, None)).collect();
        for (from, to) in from.layers.iter().zip(&mut to.layers) {
            shape.copy(&from.value, None, &mut to.value, &rows)?;
        }
        Ok(to)
    }

    fn capacity(&self, now: usize, filled: usize, new: usize) -> usize {
        match self.contract.family {
            Family::Plain => filled,
            Family::GroupQueryAttention if filled + new <= now => now,
            Family::GroupQueryAttention => {
                (filled + new).max(now + now / 2).next_multiple_of(BLOCK).min(self.capacity_max).max(filled + new)
            }
        }
    }
}

/// What two tensors of a copy look like; capacities in tokens.
struct Shape {
    head_dim: usize,
    from: usize,
    to: usize,
}

/// Rows that are copied, and how they turn.
type Rows<'a> = (Range<usize>, Option<&'a Turn>);

impl Shape {
    /// Copies rows, one range after the other, and gives what turned as it was before it was rounded, `[kv_heads,
    /// rows, head_dim]`. The first rows of `exact` are taken instead of those of `from`.
    fn copy(
        &self,
        from: &DynTensor,
        exact: Option<&[f32]>,
        to: &mut DynTensor,
        rows: &[Rows<'_>],
    ) -> ort::Result<Vec<f32>> {
        Ok(match from.data_type() {
            _ if self.from == 0 || self.to == 0 => Vec::new(),
            TensorElementType::Float16 => self.copy_rows::<f16>(extract(from)?, exact, extract_mut(to)?, rows),
            _ => self.copy_rows::<f32>(extract(from)?, exact, extract_mut(to)?, rows),
        })
    }

    /// From `[kv_heads, from, head_dim]` to `[kv_heads, to, head_dim]`.
    fn copy_rows<T: Element>(&self, from: &[T], exact: Option<&[f32]>, to: &mut [T], rows: &[Rows<'_>]) -> Vec<f32> {
        let turns = rows.iter().any(|(_, turn)| turn.is_some());
        let (mut key, mut turned) = (vec![0f32; self.head_dim], Vec::new());
        let heads_from = from.chunks_exact(self.from * self.head_dim);
        let heads = heads_from.len();
        let exact_of = |head: usize| {
            let exact = exact.unwrap_or_default();
            &exact[exact.len() / heads * head..exact.len() / heads * (head + 1)]
        };
        let heads_to = to.chunks_exact_mut(self.to * self.head_dim);
        for (head, (from, to)) in heads_from.zip(heads_to).enumerate() {
            let (exact, mut to) = (exact_of(head), to.chunks_exact_mut(self.head_dim));
            for (rows, turn) in rows {
                for (row, to) in rows.clone().zip(&mut to) {
                    let place = row * self.head_dim..(row + 1) * self.head_dim;
                    if !turns {
                        to.copy_from_slice(&from[place]);
                        continue;
                    }
                    match exact.get(place.clone()) {
                        Some(exact) => key.copy_from_slice(exact),
                        None => key.iter_mut().zip(&from[place]).for_each(|(k, f)| *k = f.widen()),
                    }
                    if let Some(turn) = turn {
                        turn.apply(&mut key);
                    }
                    to.iter_mut().zip(&key).for_each(|(t, k)| *t = T::round(*k));
                    turned.extend_from_slice(&key);
                }
            }
        }
        turned
    }
}

fn extract<T: Element>(tensor: &DynTensor) -> ort::Result<&[T]> {
    Ok(tensor.try_extract_tensor()?.1)
}

fn extract_mut<T: Element>(tensor: &mut DynTensor) -> ort::Result<&mut [T]> {
    Ok(tensor.try_extract_tensor_mut()?.1)
}

/// A number of a KV tensor. Turning is computed in f32 and rounded once.
trait Element: PrimitiveTensorElementType + Copy + std::fmt::Debug {
    fn widen(self) -> f32;
    fn round(x: f32) -> Self;
}

impl Element for f32 {
    fn widen(self) -> f32 {
        self
    }

    fn round(x: f32) -> Self {
        x
    }
}

impl Element for f16 {
    fn widen(self) -> f32 {
        self.to_f32()
    }

    fn round(x: f32) -> Self {
        Self::from_f32(x)
    }
}
