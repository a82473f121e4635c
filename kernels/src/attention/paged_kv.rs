//! Conversations' keys and values in all layers, as a run's attention sees them.

use std::{
    collections::TryReserveError,
    ops::Range,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::kv_blocks::KvBlocks;
use crate::{ElementType, rotary::Turn};

/// The types that one layer's keys and values are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvTypes {
    /// Of keys.
    pub key: ElementType,
    /// Of values.
    pub value: ElementType,
}

/// Rows that a copy keeps, and how their keys turn on the way.
pub struct Kept<'a> {
    /// Which rows.
    pub rows: Range<usize>,
    /// `None`: their keys stay as they are.
    pub turns: Option<Turns<'a>>,
}

/// How keys turn on their way into a copy.
#[derive(Clone, Copy)]
pub struct Turns<'a> {
    /// One a layer.
    pub layers: &'a [Turn],
    /// Whether the copy's keys are kept in f32 whatever they were kept in. Each turn rounds them, in f16 by up to
    /// 2^-11 of itself, half a step, in which what turns slowly would not move at all, and that adds up where keys are
    /// turned many times.
    pub in_f32: bool,
}

/// One conversation's keys and values in all layers. Shared with the run it is in.
///
/// How many of its rows are filled is known by whoever has it, not here.
pub struct PagedKv {
    /// `[layers, kv_heads]`. The locks are never waited for: a run's tasks write disjoint heads, and
    /// only between runs does the engine.
    heads: Box<[RwLock<KvBlocks>]>,
    kv_heads: usize,
    head_dim: usize,
}

impl PagedKv {
    /// Without room, for layers of `kv_heads` of `head_dim` numbers each.
    pub fn new(layers: &[KvTypes], kv_heads: usize, head_dim: usize) -> Self {
        let head = |types: KvTypes| RwLock::new(KvBlocks::new(types.key, types.value, head_dim));
        let heads = layers.iter().flat_map(|types| (0..kv_heads).map(move |_| head(*types))).collect();
        Self { heads, kv_heads, head_dim }
    }

    /// Makes room for `tokens` in all.
    ///
    /// # Errors
    /// The system has no more memory. What is filled stays as it is.
    pub fn grow(&self, tokens: usize) -> Result<(), TryReserveError> {
        if self.capacity() < tokens {
            self.heads.iter().try_for_each(|head| write(head).grow(tokens))?;
            let room = self.capacity();
            assert!(room >= tokens || self.heads.is_empty(), "room for {room} rows after growing to {tokens}");
        }
        Ok(())
    }

    /// Tokens there is room for: in the last head, since heads grow one after the other.
    pub fn capacity(&self) -> usize {
        self.heads.last().map_or(0, |head| read(head).capacity())
    }

    /// A copy of only the kept rows, one range after the other, with room for `new` more.
    ///
    /// # Errors
    /// The system has no more memory.
    ///
    /// # Panics
    /// Where a row is asked for that there is no room for here.
    pub fn copy(&self, kept: &[Kept<'_>], new: usize) -> Result<Self, TryReserveError> {
        let in_f32 = kept.iter().any(|kept| kept.turns.is_some_and(|turns| turns.in_f32));
        let types = |head: &RwLock<KvBlocks>| {
            let kept = read(head).types();
            KvTypes { key: if in_f32 { ElementType::F32 } else { kept.key }, ..kept }
        };
        let layers: Vec<_> = self.heads.iter().step_by(self.kv_heads.max(1)).map(types).collect();
        let (room, end) = (self.capacity(), kept.iter().map(|kept| kept.rows.end).max().unwrap_or(0));
        assert!(end <= room, "rows up to {end} are to be copied of {room}");
        let count: usize = kept.iter().map(|kept| kept.rows.len()).sum();
        let to = Self::new(&layers, self.kv_heads, self.head_dim);
        to.grow(count + new)?;
        for (index, (from, to)) in self.heads.iter().zip(&to.heads).enumerate() {
            let (from, mut to) = (read(from), write(to));
            let mut filled = 0;
            for Kept { rows, turns } in kept {
                let turn = turns.map(|turns| &turns.layers[index / self.kv_heads]);
                to.append(filled, &from, rows.clone(), turn);
                filled += rows.len();
            }
        }
        Ok(to)
    }

    /// Bytes of all blocks.
    pub fn bytes(&self) -> usize {
        self.heads.iter().map(|head| read(head).bytes()).sum()
    }

    /// The keys of one token in one layer, `[kv_heads, head_dim]`.
    pub fn keys(&self, layer: usize, row: usize) -> Vec<f32> {
        (0..self.kv_heads).flat_map(|head| self.read(layer, head).key(row)).collect()
    }

    /// One head, to be read.
    pub(super) fn read(&self, layer: usize, head: usize) -> RwLockReadGuard<'_, KvBlocks> {
        read(&self.heads[layer * self.kv_heads + head])
    }

    /// One head, to be written.
    pub(super) fn write(&self, layer: usize, head: usize) -> RwLockWriteGuard<'_, KvBlocks> {
        write(&self.heads[layer * self.kv_heads + head])
    }
}

/// A panic elsewhere leaves rows that nobody counts, so a poisoned lock is as good as another.
fn read(head: &RwLock<KvBlocks>) -> RwLockReadGuard<'_, KvBlocks> {
    head.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(head: &RwLock<KvBlocks>) -> RwLockWriteGuard<'_, KvBlocks> {
    head.write().unwrap_or_else(PoisonError::into_inner)
}

/// A row of a run as its attention sees it.
pub struct BatchRow {
    /// With room for the past and the new tokens.
    pub kv: Arc<PagedKv>,
    /// Rows of the cache before the new ones.
    pub past: usize,
    /// The first new token's position. It differs from `past` only where a rotation is measured.
    pub position: usize,
    /// New tokens.
    pub tokens: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::rotary::Layout;

    #[test]
    fn a_copy_has_the_kept_rows_one_after_the_other() {
        let types = KvTypes { key: ElementType::F32, value: ElementType::F16 };
        let kv = PagedKv::new(&[types; 2], 3, 4);
        kv.grow(50).unwrap();
        let number = |layer: usize, head: usize, row: usize| (row + 100 * head + 1000 * layer) as f32;
        for (layer, head, row) in (0..2).flat_map(|l| (0..3).flat_map(move |h| (0..50).map(move |row| (l, h, row)))) {
            kv.write(layer, head).write(row, &[number(layer, head, row), 0.0, 0.0, 0.0], &[row as f32; 4]);
        }
        let half = |frequency| Turn::new(Layout::Halves, &[frequency, 1.0], -1.0);
        let layers = [half(0.0), half(std::f64::consts::PI)];
        let turns = Turns { layers: &layers, in_f32: false };
        let kept = [Kept { rows: 0..2, turns: None }, Kept { rows: 40..50, turns: Some(turns) }];
        let copy = kv.copy(&kept, 30).unwrap();
        assert!(copy.capacity() >= 42);
        for (to, (from, sign)) in [(0, 1.0), (1, 1.0)].into_iter().chain((40..50).map(|row| (row, -1.0))).enumerate() {
            for (layer, sign) in [(0, 1.0), (1, sign)] {
                let expected: Vec<f32> = (0..3).map(|head| sign * number(layer, head, from)).collect();
                let found: Vec<f32> = copy.keys(layer, to).chunks(4).map(|key| key[0].round()).collect();
                assert_eq!(found, expected, "row {to} of layer {layer}");
            }
        }
    }

    #[test]
    fn keys_that_turn_often_are_kept_in_f32() {
        let types = KvTypes { key: ElementType::F16, value: ElementType::F16 };
        let once = PagedKv::new(&[types], 1, 2);
        once.grow(1).unwrap();
        once.write(0, 0).write(0, &[1.0, 0.5], &[1.0, 1.0]);
        // Slower than f16 could show: 200 times a ten thousandth of a radian.
        let turned = |in_f32| {
            let layers = [Turn::new(Layout::Halves, &[1e-4], -1.0)];
            let slide = |kv: PagedKv| {
                let turns = Some(Turns { layers: &layers, in_f32 });
                kv.copy(&[Kept { rows: 0..1, turns }], 0).unwrap()
            };
            let first = once.copy(&[Kept { rows: 0..1, turns: None }], 0).unwrap();
            let kv = (0..200).fold(first, |kv, _| slide(kv));
            (kv.keys(0, 0), kv.bytes())
        };
        let (sin, cos) = 0.02f32.sin_cos();
        let expected = [cos + 0.5 * sin, 0.5 * cos - sin];
        let off = |keys: &[f32]| keys.iter().zip(expected).map(|(k, e)| (k - e).abs()).fold(0.0, f32::max);
        let ((narrow, less), (wide, more)) = (turned(false), turned(true));
        assert!(off(&wide) < 1e-5 && off(&narrow) > 1e-3, "{wide:?} {narrow:?} {expected:?}");
        assert!(more > less, "{more} {less}");
    }
}
