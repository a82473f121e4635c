//! Keys and values of one conversation in one layer and one KV head, in blocks of [`BLOCK`] tokens.
//!
//! Blocks are allocated one by one, so that a conversation costs what it holds and growing copies
//! nothing. In a block keys lie transposed, `[head_dim, BLOCK]`, and values as they come,
//! `[BLOCK, head_dim]`: both products of attention then read whole vectors in order.
//!
//! Keys are rotated already. How many of the rows are filled is known by the slot, not here; what lies
//! behind them is zeros or left over, and is never used.

use std::{collections::TryReserveError, ops::Range};

use half::{f16, slice::HalfFloatSliceExt};

use crate::{engine::rotation::Turn, model::ElementType};

/// Tokens of a block: a whole number of vectors on every machine, and at most 31 rows stay unused.
pub(super) const BLOCK: usize = 32;

#[cfg(test)]
thread_local! {
    /// Blocks that this thread has read: what attention costs, for a test.
    pub(super) static BLOCKS_READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Blocks of one kind of tensor.
enum Blocks {
    F32(Vec<Box<[f32]>>),
    F16(Vec<Box<[f16]>>),
}

impl Blocks {
    fn new(element: ElementType) -> Self {
        match element {
            ElementType::F32 => Self::F32(Vec::new()),
            ElementType::F16 => Self::F16(Vec::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::F32(blocks) => blocks.len(),
            Self::F16(blocks) => blocks.len(),
        }
    }

    fn grow(&mut self, count: usize, size: usize) -> Result<(), TryReserveError> {
        match self {
            Self::F32(blocks) => grow(blocks, count, size),
            Self::F16(blocks) => grow(blocks, count, size),
        }
    }

    /// Writes `values` from `at`, `step` apart.
    fn write(&mut self, block: usize, at: usize, step: usize, values: &[f32]) {
        match self {
            Self::F32(blocks) => {
                blocks[block][at..].iter_mut().step_by(step).zip(values).for_each(|(to, x)| *to = *x);
            }
            Self::F16(blocks) => {
                blocks[block][at..].iter_mut().step_by(step).zip(values).for_each(|(to, x)| *to = f16::from_f32(*x));
            }
        }
    }

    /// A block as f32; `scratch` holds it where it is not.
    fn read<'a>(&'a self, block: usize, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        #[cfg(test)]
        BLOCKS_READ.set(BLOCKS_READ.get() + 1);
        match self {
            Self::F32(blocks) => &blocks[block],
            Self::F16(blocks) => {
                let block = &blocks[block];
                scratch.resize(block.len(), 0.0);
                block.convert_to_f32_slice(scratch);
                scratch
            }
        }
    }
}

/// Adds blocks of zeros until there are `count`; those that there was memory for stay.
fn grow<T: Clone + Default>(blocks: &mut Vec<Box<[T]>>, count: usize, size: usize) -> Result<(), TryReserveError> {
    blocks.try_reserve(count.saturating_sub(blocks.len()))?;
    while blocks.len() < count {
        let mut block = Vec::new();
        block.try_reserve_exact(size)?;
        block.resize(size, T::default());
        blocks.push(block.into());
    }
    Ok(())
}

/// See the module's description.
pub(crate) struct KvHead {
    keys: Blocks,
    values: Blocks,
    head_dim: usize,
}

impl KvHead {
    /// Without room.
    pub(crate) fn new(key: ElementType, value: ElementType, head_dim: usize) -> Self {
        Self { keys: Blocks::new(key), values: Blocks::new(value), head_dim }
    }

    /// Makes room for `tokens` in all.
    ///
    /// # Errors
    /// The system has no more memory. What is filled stays as it is.
    pub(crate) fn grow(&mut self, tokens: usize) -> Result<(), TryReserveError> {
        let (count, size) = (tokens.div_ceil(BLOCK), BLOCK * self.head_dim);
        self.keys.grow(count, size)?;
        self.values.grow(count, size)
    }

    /// Rows there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.keys.len().min(self.values.len()) * BLOCK
    }

    /// Writes one token's key and value, `[head_dim]` each.
    pub(super) fn write(&mut self, row: usize, key: &[f32], value: &[f32]) {
        let (block, row) = (row / BLOCK, row % BLOCK);
        self.keys.write(block, row, BLOCK, key);
        self.values.write(block, row * self.head_dim, 1, value);
    }

    /// A block's keys, `[head_dim, BLOCK]`.
    pub(super) fn keys<'a>(&'a self, block: usize, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        self.keys.read(block, scratch)
    }

    /// A block's values, `[BLOCK, head_dim]`.
    pub(super) fn values<'a>(&'a self, block: usize, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        self.values.read(block, scratch)
    }

    /// One token's key.
    pub(crate) fn key(&self, row: usize) -> Vec<f32> {
        let mut scratch = Vec::new();
        let block = self.keys(row / BLOCK, &mut scratch);
        block.iter().skip(row % BLOCK).step_by(BLOCK).copied().collect()
    }

    /// Appends rows of another head behind this one's first `filled`, keys turned on the way. There
    /// must be room.
    pub(crate) fn append(&mut self, filled: usize, from: &Self, rows: Range<usize>, turn: Option<&Turn<'_>>) {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut key = vec![0f32; self.head_dim];
        for (offset, row) in rows.enumerate() {
            let block = from.keys(row / BLOCK, &mut keys);
            key.iter_mut().zip(block.iter().skip(row % BLOCK).step_by(BLOCK)).for_each(|(to, x)| *to = *x);
            if let Some(turn) = turn {
                turn.apply(&mut key);
            }
            let value = from.values(row / BLOCK, &mut values);
            self.write(filled + offset, &key, &value[row % BLOCK * self.head_dim..][..self.head_dim]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn memory_that_the_system_does_not_have_is_an_error_and_changes_nothing() {
        let mut head = KvHead::new(ElementType::F32, ElementType::F16, 2);
        head.grow(40).unwrap();
        head.write(39, &[1.0, 2.0], &[3.0, 4.0]);
        assert!(head.grow(usize::MAX).is_err());
        assert_eq!(head.capacity(), 2 * BLOCK);
        assert_eq!(head.key(39), [1.0, 2.0]);
    }
}
