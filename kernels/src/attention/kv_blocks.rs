//! Keys and values of one conversation for one layer and one of its KV heads, in blocks of [`BLOCK`] tokens.
//!
//! Blocks are allocated one by one, so that a conversation costs what it holds and growing copies
//! nothing. A block lies in panels of [`PANEL`] columns, as the products of attention read them: keys
//! transposed, `[BLOCK / PANEL, head_dim, PANEL]`, and values with zeros up to a whole panel,
//! `[ceil(head_dim / PANEL), BLOCK, PANEL]`.
//!
//! Keys are rotated already. How many of the rows are filled is known by the slot, not here; what lies
//! behind them is zeros or left over, and is never used.

use std::{collections::TryReserveError, ops::Range};

use half::{f16, slice::HalfFloatSliceExt};

use super::{
    paged_kv::KvTypes,
    product::{PANEL, Panels},
};
use crate::{ElementType, rotary::Turn, vector};

/// Tokens of a block: whole panels, and at most 31 rows stay unused.
pub(super) const BLOCK: usize = 2 * PANEL;

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

    fn element(&self) -> ElementType {
        match self {
            Self::F32(_) => ElementType::F32,
            Self::F16(_) => ElementType::F16,
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

    /// Writes `values` from `at` on, `step` apart.
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

    /// The memory of the block behind this one; where there is none, of this one, which is near already.
    fn next(&self, block: usize) -> &[u8] {
        let next = (block + 1).min(self.len() - 1);
        match self {
            Self::F32(blocks) => bytemuck::cast_slice(&blocks[next]),
            Self::F16(blocks) => bytemuck::cast_slice(blocks[next].reinterpret_cast()),
        }
    }

    /// A block as f32; `scratch` holds it where it is not.
    #[inline(always)]
    fn read<'a>(&'a self, block: usize, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        #[cfg(test)]
        BLOCKS_READ.set(BLOCKS_READ.get() + 1);
        match self {
            Self::F32(blocks) => &blocks[block],
            Self::F16(blocks) => {
                let block: &[f16] = &blocks[block];
                scratch.resize(block.len(), 0.0);
                vector::widen(block, scratch);
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
pub(super) struct KvBlocks {
    keys: Blocks,
    values: Blocks,
    head_dim: usize,
}

impl KvBlocks {
    /// Without room.
    pub(super) fn new(key: ElementType, value: ElementType, head_dim: usize) -> Self {
        Self { keys: Blocks::new(key), values: Blocks::new(value), head_dim }
    }

    /// Makes room for `tokens` in all.
    ///
    /// # Errors
    /// The system has no more memory. What is filled stays as it is.
    pub(super) fn grow(&mut self, tokens: usize) -> Result<(), TryReserveError> {
        let count = tokens.div_ceil(BLOCK);
        self.keys.grow(count, BLOCK * self.head_dim)?;
        self.values.grow(count, BLOCK * self.value_panels() * PANEL)
    }

    /// What keys and values are kept in.
    pub(super) fn types(&self) -> KvTypes {
        KvTypes { key: self.keys.element(), value: self.values.element() }
    }

    /// Panels of a block's values.
    pub(super) fn value_panels(&self) -> usize {
        self.head_dim.div_ceil(PANEL)
    }

    /// Rows there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.keys.len().min(self.values.len()) * BLOCK
    }

    /// Bytes of all blocks.
    pub(super) fn bytes(&self) -> usize {
        let keys = self.keys.len() * self.head_dim * self.keys.element().bytes();
        let values = self.values.len() * self.value_panels() * PANEL * self.values.element().bytes();
        (keys + values) * BLOCK
    }

    /// Writes one token's key and value, `[head_dim]` each.
    pub(super) fn write(&mut self, row: usize, key: &[f32], value: &[f32]) {
        let (block, row) = (row / BLOCK, row % BLOCK);
        self.keys.write(block, self.key_place(row), PANEL, key);
        for (panel, value) in value.chunks(PANEL).enumerate() {
            self.values.write(block, value_place(row, panel), 1, value);
        }
    }

    /// Where a row's key begins in its block; its numbers are a panel apart.
    fn key_place(&self, row: usize) -> usize {
        row / PANEL * self.head_dim * PANEL + row % PANEL
    }

    /// A block's keys, a panel for so many tokens.
    #[inline(always)]
    pub(super) fn keys<'a>(&'a self, block: usize, scratch: &'a mut Vec<f32>) -> Panels<'a> {
        Panels { data: self.keys.read(block, scratch), depth: self.head_dim, next: self.keys.next(block) }
    }

    /// A block's values, a panel for so many dimensions.
    #[inline(always)]
    pub(super) fn values<'a>(&'a self, block: usize, scratch: &'a mut Vec<f32>) -> Panels<'a> {
        Panels { data: self.values.read(block, scratch), depth: BLOCK, next: self.values.next(block) }
    }

    /// One token's key.
    pub(super) fn key(&self, row: usize) -> Vec<f32> {
        let (mut key, mut scratch) = (Vec::new(), Vec::new());
        self.read_key(row, &mut scratch, &mut key);
        key
    }

    fn read_key(&self, row: usize, scratch: &mut Vec<f32>, key: &mut Vec<f32>) {
        let block = self.keys.read(row / BLOCK, scratch);
        key.clear();
        key.extend(block[self.key_place(row % BLOCK)..].iter().step_by(PANEL).take(self.head_dim));
    }

    fn read_value(&self, row: usize, scratch: &mut Vec<f32>, value: &mut Vec<f32>) {
        let block = self.values.read(row / BLOCK, scratch);
        value.clear();
        value.extend((0..self.value_panels()).flat_map(|panel| &block[value_place(row % BLOCK, panel)..][..PANEL]));
        value.truncate(self.head_dim);
    }

    /// Appends rows of another conversation's behind the first `filled`, keys turned on the way. There
    /// must be room.
    pub(super) fn append(&mut self, filled: usize, from: &Self, rows: Range<usize>, turn: Option<&Turn>) {
        let (room, count) = (self.capacity(), rows.len());
        assert!(filled + count <= room, "{count} rows behind {filled} do not fit room for {room}");
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for (offset, row) in rows.enumerate() {
            from.read_key(row, &mut keys, &mut key);
            from.read_value(row, &mut values, &mut value);
            if let Some(turn) = turn {
                turn.apply(&mut key);
            }
            self.write(filled + offset, &key, &value);
        }
    }
}

/// Where a part of a row's value begins in its block.
fn value_place(row: usize, panel: usize) -> usize {
    (panel * BLOCK + row) * PANEL
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// What is asked for is what a panel's steps are multiplied by when its block's turn comes.
    #[test]
    fn the_next_block_is_asked_for_from_its_beginning_to_its_end() {
        for (element, bytes) in [(ElementType::F32, 4), (ElementType::F16, 2)] {
            let mut head = KvBlocks::new(element, element, 40);
            head.grow(2 * BLOCK).unwrap();
            let (mut this, mut next) = (Vec::new(), Vec::new());
            let place = |blocks: &Blocks, index: usize| match blocks {
                Blocks::F32(blocks) => blocks[index].as_ptr().cast::<u8>(),
                Blocks::F16(blocks) => blocks[index].as_ptr().cast(),
            };
            let (keys, values) = (place(&head.keys, 1), place(&head.values, 1));
            for (panels, following) in [(head.keys(0, &mut this), keys), (head.values(0, &mut next), values)] {
                let count = panels.data.len() / PANEL / panels.depth;
                for panel in 0..count {
                    let (start, stride) = panels.ahead(panel);
                    assert_eq!(stride, PANEL * bytes);
                    assert_eq!(start, following.wrapping_add(panel * panels.depth * stride));
                }
                assert_eq!(panels.ahead(count).0, following.wrapping_add(panels.next.len()));
            }
            assert_eq!(head.keys.next(1).as_ptr(), keys, "there is none behind the last");
        }
    }

    #[test]
    fn memory_that_the_system_does_not_have_is_an_error_and_changes_nothing() {
        let mut head = KvBlocks::new(ElementType::F32, ElementType::F16, 2);
        head.grow(40).unwrap();
        head.write(39, &[1.0, 2.0], &[3.0, 4.0]);
        assert!(head.grow(usize::MAX).is_err());
        assert_eq!(head.capacity(), 2 * BLOCK);
        assert_eq!(head.key(39), [1.0, 2.0]);
    }
}
