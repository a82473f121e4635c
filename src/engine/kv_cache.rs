//! Conversations' keys and values, kept in tensors of the runtime.
//!
//! Two shapes of memory, as the two families of graphs want them. A plain graph concatenates: it
//! takes tensors of exactly the rows that are cached and gives new ones. A GroupQueryAttention graph
//! takes one tensor as past and present, with room for more rows than are filled, and appends to it
//! in place.
//!
//! Tensors are `[1, kv_heads, capacity, head_dim]`, keys rotated. Lengths are in tokens. How many
//! rows of a cache are filled is known by its slot, not here.

use half::f16;
use motorbrain_kernels::attention::Kept;
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
            .map(|kv| Ok(LayerKv { key: tensor(kv.key_type)?, value: tensor(kv.value_type)? }))
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
        let kept_values: Vec<_> = kept.iter().map(|k| Kept { rows: k.rows.clone(), turn: None }).collect();
        for (from, to) in from.layers.iter().zip(&mut to.layers) {
            shape.copy(&from.key, &mut to.key, kept)?;
            shape.copy(&from.value, &mut to.value, &kept_values)?;
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

impl Shape {
    fn copy(&self, from: &DynTensor, to: &mut DynTensor, kept: &[Kept<'_>]) -> ort::Result<()> {
        match from.data_type() {
            _ if self.from == 0 || self.to == 0 => {}
            TensorElementType::Float16 => self.copy_rows::<f16>(extract(from)?, extract_mut(to)?, kept),
            _ => self.copy_rows::<f32>(extract(from)?, extract_mut(to)?, kept),
        }
        Ok(())
    }

    /// From `[kv_heads, from, head_dim]` to `[kv_heads, to, head_dim]`.
    fn copy_rows<T: Element>(&self, from: &[T], to: &mut [T], kept: &[Kept<'_>]) {
        let mut key = vec![0f32; self.head_dim];
        let heads_from = from.chunks_exact(self.from * self.head_dim);
        let heads_to = to.chunks_exact_mut(self.to * self.head_dim);
        for (from, to) in heads_from.zip(heads_to) {
            let mut filled = 0;
            for Kept { rows, turn } in kept {
                let from = &from[rows.start * self.head_dim..rows.end * self.head_dim];
                let to = &mut to[filled..filled + from.len()];
                filled += from.len();
                let Some(turn) = turn else {
                    to.copy_from_slice(from);
                    continue;
                };
                for (from, to) in from.chunks_exact(self.head_dim).zip(to.chunks_exact_mut(self.head_dim)) {
                    key.iter_mut().zip(from).for_each(|(k, f)| *k = f.widen());
                    turn.apply(&mut key);
                    to.iter_mut().zip(&key).for_each(|(t, k)| *t = T::round(*k));
                }
            }
        }
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
