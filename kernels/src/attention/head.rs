//! One layer's keys and values of one KV head in a conversation's pages, as attention reads them.

use super::{
    page::Block,
    page_layout::{BLOCK, Part},
    paged_kv::PagedKv,
    product::Panels,
};

#[cfg(test)]
thread_local! {
    /// Blocks that this thread has read: what attention costs, for a test.
    pub(super) static BLOCKS_READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// See the module's description.
pub(super) struct Head<'a> {
    kv: &'a PagedKv,
    keys: Part,
    values: Part,
    head_dim: usize,
}

impl<'a> Head<'a> {
    /// # Safety
    /// Nobody writes keys and values of this head while it lives.
    #[expect(unsafe_code, reason = "see the contract")]
    pub(super) unsafe fn new(kv: &'a PagedKv, layer: usize, head: usize) -> Self {
        let layout = kv.layout();
        let [keys, values] = layout.parts(layer, head);
        Self { kv, keys, values, head_dim: layout.head_dim() }
    }

    /// Panels of a block's values.
    pub(super) fn value_panels(&self) -> usize {
        self.kv.layout().value_panels()
    }

    /// A block's keys, a panel for so many tokens; `scratch` holds them where they are not f32.
    #[inline(always)]
    pub(super) fn keys<'s>(&'s self, block: usize, scratch: &'s mut Vec<f32>) -> Panels<'s> {
        self.panels(self.keys, block, self.head_dim, scratch)
    }

    /// A block's values, a panel for so many dimensions.
    #[inline(always)]
    pub(super) fn values<'s>(&'s self, block: usize, scratch: &'s mut Vec<f32>) -> Panels<'s> {
        self.panels(self.values, block, BLOCK, scratch)
    }

    #[inline(always)]
    fn panels<'s>(&'s self, part: Part, block: usize, depth: usize, scratch: &'s mut Vec<f32>) -> Panels<'s> {
        #[cfg(test)]
        BLOCKS_READ.set(BLOCKS_READ.get() + 1);
        // Where there is none behind it, this one, which is near already.
        let next = (block + 1).min(self.kv.pages() - 1);
        Panels { data: self.block(part, block).numbers(scratch), depth, next: self.block(part, next).bytes() }
    }

    #[inline(always)]
    fn block(&self, part: Part, block: usize) -> Block<'_> {
        #[expect(unsafe_code, reason = "see the comment")]
        // SAFETY: who made this one has promised it.
        unsafe {
            self.kv.block(part, block)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    #![expect(unsafe_code, reason = "nobody writes")]
    use super::*;
    use crate::{
        ElementType,
        attention::{KvStore, KvTypes, product::PANEL},
    };

    /// What is asked for is what a panel's steps are multiplied by when its block's turn comes.
    #[test]
    fn the_next_block_is_asked_for_from_its_beginning_to_its_end() {
        for (element, bytes) in [(ElementType::F32, 4), (ElementType::F16, 2)] {
            let mut kv = PagedKv::new(&KvStore::new(vec![KvTypes { key: element, value: element }], 1, 40), 0);
            kv.make_room(0, 2 * BLOCK).unwrap();
            // SAFETY: nobody writes.
            let head = unsafe { Head::new(&kv, 0, 0) };
            let (mut this, mut next) = (Vec::new(), Vec::new());
            let place = |part| head.block(part, 1).bytes().as_ptr();
            let (keys, values) = (place(head.keys), place(head.values));
            for (panels, following) in [(head.keys(0, &mut this), keys), (head.values(0, &mut next), values)] {
                let count = panels.data.len() / PANEL / panels.depth;
                for panel in 0..count {
                    let (start, stride) = panels.ahead(panel);
                    assert_eq!(stride, PANEL * bytes);
                    assert_eq!(start, following.wrapping_add(panel * panels.depth * stride));
                }
                assert_eq!(panels.ahead(count).0, following.wrapping_add(panels.next.len()));
            }
            assert_eq!(head.keys(1, &mut Vec::new()).next.as_ptr(), keys, "there is none behind the last");
        }
    }
}
