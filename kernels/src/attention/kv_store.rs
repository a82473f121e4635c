//! Where pages of keys and values come from: what all of one model's have in common.
//!
//! It holds no page: whoever has one keeps it, and the store counts them. So it outlives every engine. It has some memory
//! for pages to come: an eighth of what there is in pages, and a few more.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    page_layout::{BLOCK, KvTypes, PageLayout},
    piece::{Piece, Spare},
};

/// Of the pages that there are, one part in so many may be spare.
const SPARE_PART: usize = 8;

/// So many may be anyway: a conversation's last ones come and go.
const SPARE_FEW: usize = 8;

/// See the module's description.
pub struct KvStore {
    /// The model's own, and that with keys in f32.
    layouts: [PageLayout; 2],
    /// Of each.
    spare: [Spare; 2],
    bytes: AtomicUsize,
}

impl KvStore {
    /// For layers of `kv_heads` of `head_dim` numbers each.
    pub fn new(layers: Vec<KvTypes>, kv_heads: usize, head_dim: usize) -> Arc<Self> {
        let own = PageLayout::new(layers, kv_heads, head_dim);
        let in_f32 = own.wide();
        let spare = [&own, &in_f32].map(|layout| Spare::new(layout.bytes()));
        Arc::new(Self { layouts: [own, in_f32], spare, bytes: AtomicUsize::new(0) })
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

    /// Memory for a page, zeros, which counts from now on; `None` where the system has none.
    pub(super) fn take(&self, wide: bool) -> Option<Piece> {
        let piece = self.spare(wide).take()?;
        self.bytes.fetch_add(self.layout(wide).bytes(), Ordering::Relaxed);
        Some(piece)
    }

    /// A page is gone.
    pub(super) fn put_back(&self, wide: bool, piece: Piece) {
        let bytes = self.layout(wide).bytes();
        let left = self.bytes.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        self.spare(wide).put_back(piece, left / bytes.max(1) / SPARE_PART + SPARE_FEW);
    }

    fn spare(&self, wide: bool) -> &Spare {
        let [own, in_f32] = &self.spare;
        if wide { in_f32 } else { own }
    }
}
