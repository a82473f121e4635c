//! Where in a page the keys and values of each layer and KV head lie.
//!
//! A block of [`BLOCK`] tokens lies in panels of [`PANEL`] columns, as the products of attention read them: keys
//! transposed, `[BLOCK / PANEL, head_dim, PANEL]`, and values with zeros up to a whole panel,
//! `[ceil(head_dim / PANEL), BLOCK, PANEL]`. In a page head follows head, and of each come keys, then values.

use std::{iter, ops::Range};

use super::{product::PANEL, strided::Strided};
use crate::ElementType;

/// Tokens of a page: whole panels, and at most 31 rows stay unused.
pub(super) const BLOCK: usize = 2 * PANEL;

/// Where blocks begin: at lines of the processor's cache, which each is whole ones of.
pub(super) const ALIGN: usize = 64;

/// The types that one layer's keys and values are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvTypes {
    /// Of keys.
    pub key: ElementType,
    /// Of values.
    pub value: ElementType,
}

/// One head's keys or values in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Bytes before it.
    pub(super) offset: usize,
    /// Its numbers.
    pub(super) len: usize,
    pub(super) element: ElementType,
}

impl Part {
    /// Bytes up to its end.
    pub(super) fn end(self) -> usize {
        self.offset.saturating_add(self.len.saturating_mul(self.element.bytes()))
    }
}

/// See the module's description.
pub(super) struct PageLayout {
    /// Of each layer.
    types: Vec<KvTypes>,
    /// Bytes before each layer.
    starts: Vec<usize>,
    kv_heads: usize,
    head_dim: usize,
    bytes: usize,
}

impl PageLayout {
    /// For layers of `kv_heads` of `head_dim` numbers each.
    pub(super) fn new(types: Vec<KvTypes>, kv_heads: usize, head_dim: usize) -> Self {
        let mut layout = Self { types, starts: Vec::new(), kv_heads, head_dim, bytes: 0 };
        for layer in 0..layout.types.len() {
            layout.starts.push(layout.bytes);
            layout.bytes = layout.bytes.saturating_add(layout.head_bytes(layer).saturating_mul(kv_heads));
        }
        layout
    }

    /// The same with keys in f32.
    pub(super) fn wide(&self) -> Self {
        let types = self.types.iter().map(|types| KvTypes { key: ElementType::F32, ..*types });
        Self::new(types.collect(), self.kv_heads, self.head_dim)
    }

    /// Bytes of a page; sizes that no memory holds are the largest number.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn layers(&self) -> usize {
        self.types.len()
    }

    pub(super) fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    pub(super) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Each layer with each head.
    pub(super) fn heads(&self) -> impl Iterator<Item = (usize, usize)> {
        let kv_heads = self.kv_heads;
        (0..self.layers()).flat_map(move |layer| (0..kv_heads).map(move |head| (layer, head)))
    }

    /// Panels of a block's values.
    pub(super) fn value_panels(&self) -> usize {
        self.head_dim.div_ceil(PANEL)
    }

    /// One head's keys and values.
    pub(super) fn parts(&self, layer: usize, head: usize) -> [Part; 2] {
        let (layers, heads) = (self.layers(), self.kv_heads);
        assert!(layer < layers && head < heads, "head {head} of layer {layer} in {layers} layers of {heads}");
        let KvTypes { key, value } = self.types[layer];
        let offset = self.starts[layer] + head * self.head_bytes(layer);
        let keys = Part { offset, len: BLOCK * self.head_dim, element: key };
        let values = Part { offset: keys.end(), len: self.value_len(), element: value };
        [keys, values]
    }

    fn value_len(&self) -> usize {
        self.value_panels().saturating_mul(BLOCK * PANEL)
    }

    fn head_bytes(&self, layer: usize) -> usize {
        let KvTypes { key, value } = self.types[layer];
        let keys = self.head_dim.saturating_mul(BLOCK * key.bytes());
        keys.saturating_add(self.value_len().saturating_mul(value.bytes()))
    }

    /// Where a row's key begins in its block, in numbers, which are a panel apart.
    pub(super) fn key_place(&self, row: usize) -> usize {
        row / PANEL * self.head_dim * PANEL + row % PANEL
    }

    /// The keys of so many rows of one panel, from where the first one begins.
    pub(super) fn keys_of(&self, rows: usize) -> Strided {
        match rows {
            PANEL => Strided { count: 1, len: self.head_dim * PANEL, step: 0 },
            _ => Strided { count: self.head_dim, len: rows, step: PANEL },
        }
    }

    /// The values of so many rows, from where the first one begins.
    pub(super) fn values_of(&self, rows: usize) -> Strided {
        Strided { count: self.value_panels(), len: rows * PANEL, step: BLOCK * PANEL }
    }
}

/// Where a part of a row's value begins in its block, in numbers.
pub(super) fn value_place(row: usize, panel: usize) -> usize {
    (panel * BLOCK + row) * PANEL
}

/// Cuts rows that go to `place` and behind it wherever a multiple of `unit` lies between two of them, here or there:
/// the rows of each piece, and where they go.
pub(super) fn cut(rows: Range<usize>, place: usize, unit: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
    let mut next = rows.start;
    iter::from_fn(move || {
        let (first, to) = (next, place + next - rows.start);
        let within = unit - (first % unit).max(to % unit);
        next = rows.end.min(first + within);
        (first < next).then_some((first..next, to))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_each_other_at_whole_lines() {
        let (f32, f16) = (ElementType::F32, ElementType::F16);
        for head_dim in [1, 2, 8, 18, 40, 64] {
            let types = vec![KvTypes { key: f16, value: f32 }, KvTypes { key: f32, value: f16 }];
            for layout in [PageLayout::new(types.clone(), 3, head_dim), PageLayout::new(types, 3, head_dim).wide()] {
                let heads = (0..2).flat_map(|layer| (0..3).map(move |head| (layer, head)));
                let end = heads.flat_map(|(layer, head)| layout.parts(layer, head)).fold(0, |end, part| {
                    assert_eq!((part.offset, part.offset % ALIGN), (end, 0), "{head_dim}");
                    part.end()
                });
                assert_eq!(end, layout.bytes());
            }
        }
    }

    #[test]
    fn rows_are_cut_where_a_unit_ends_here_or_there() {
        let pieces = |rows, place| cut(rows, place, 16).collect::<Vec<_>>();
        assert_eq!(pieces(20..52, 4), [(20..32, 4), (32..48, 16), (48..52, 32)], "both at once");
        assert_eq!(pieces(5..30, 0), [(5..16, 0), (16..21, 11), (21..30, 16)]);
        assert_eq!(pieces(7..8, 31), [(7..8, 31)]);
        assert_eq!(pieces(7..7, 3), []);
    }

    #[test]
    fn sizes_that_no_memory_holds_are_the_largest() {
        let types = vec![KvTypes { key: ElementType::F32, value: ElementType::F32 }; 2];
        assert_eq!(PageLayout::new(types.clone(), 2, usize::MAX / 3).bytes(), usize::MAX);
        assert_eq!(PageLayout::new(types, usize::MAX / 2, 64).bytes(), usize::MAX);
    }
}
