//! Where pages of keys and values come from: what all of one model's have in common.
//!
//! It holds no page: whoever has one keeps it, and the store counts them. So it outlives every engine and costs
//! nothing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::page_layout::{BLOCK, KvTypes, PageLayout};

/// See the module's description.
pub struct KvStore {
    /// The model's own, and that with keys in f32.
    layouts: [PageLayout; 2],
    bytes: AtomicUsize,
}

impl KvStore {
    /// For layers of `kv_heads` of `head_dim` numbers each.
    pub fn new(layers: Vec<KvTypes>, kv_heads: usize, head_dim: usize) -> Arc<Self> {
        let own = PageLayout::new(layers, kv_heads, head_dim);
        let in_f32 = own.wide();
        Arc::new(Self { layouts: [own, in_f32], bytes: AtomicUsize::new(0) })
    }

    /// Tokens of a page.
    pub fn page_tokens(&self) -> usize {
        BLOCK
    }

    /// Bytes of a page as the model's own keys and values are kept; of keys in f32 it has more.
    pub fn page_bytes(&self) -> usize {
        self.layout(false).bytes()
    }

    /// Bytes of all pages that there are.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// `wide`: with keys in f32.
    pub(super) fn layout(&self, wide: bool) -> &PageLayout {
        let [own, in_f32] = &self.layouts;
        if wide { in_f32 } else { own }
    }

    /// A page was made.
    pub(super) fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A page is gone.
    pub(super) fn uncount(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
