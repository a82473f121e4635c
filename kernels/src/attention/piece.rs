//! Memory of a page, and pieces that are kept for the next one.
//!
//! Pages are made and dropped on many threads: engines make them, files give them back, conversations let go of them. An
//! allocator with a heap for each of these threads would keep as much in each as that one ever had; so a store keeps a few
//! pieces itself, whoever dropped them, and gives them to whoever comes next.

use std::{
    alloc::{self, Layout},
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::page_layout::ALIGN;

/// Zeros at first, of one size and aligned for every type of numbers.
pub(super) struct Piece {
    memory: NonNull<u8>,
    layout: Layout,
}

#[expect(unsafe_code, reason = "see the comment")]
// SAFETY: it owns its memory, which no thread is bound to; to read or write it is unsafe.
unsafe impl Send for Piece {}
#[expect(unsafe_code, reason = "see the comment")]
// SAFETY: as above.
unsafe impl Sync for Piece {}

impl Piece {
    /// `None`: the system has no memory of so many bytes.
    fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.max(ALIGN), ALIGN).ok()?;
        #[expect(unsafe_code, reason = "see the comment")]
        // SAFETY: the layout is not of size 0.
        let memory = NonNull::new(unsafe { alloc::alloc_zeroed(layout) })?;
        Some(Self { memory, layout })
    }

    /// Where it begins.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.memory
    }

    /// The same, zeros again.
    fn cleared(self) -> Self {
        #[expect(unsafe_code, reason = "see the comment")]
        // SAFETY: it is so long, and whoever has it has it alone.
        unsafe {
            self.memory.write_bytes(0, self.layout.size());
        }
        self
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "see the comment")]
        // SAFETY: it was allocated so, and is dropped once.
        unsafe {
            alloc::dealloc(self.memory.as_ptr(), self.layout);
        }
    }
}

/// Pieces of one size that nobody has.
pub(super) struct Spare {
    bytes: usize,
    // Held for a push or a pop.
    pieces: Mutex<Vec<Piece>>,
}

impl Spare {
    /// Of none yet, each to have so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes, pieces: Mutex::default() }
    }

    /// A piece of zeros; `None` where the system has no memory.
    pub(super) fn take(&self) -> Option<Piece> {
        let spare = self.pieces().pop();
        spare.map(Piece::cleared).or_else(|| Piece::new(self.bytes))
    }

    /// Keeps a piece for the next, unless so many are kept already.
    pub(super) fn put_back(&self, piece: Piece, most: usize) {
        let mut pieces = self.pieces();
        pieces.push(piece);
        // One more than comes in, where fewer are worth keeping than before.
        let excess = [(); 2].map(|()| if pieces.len() > most { pieces.pop() } else { None });
        // Memory is given back behind the lock.
        drop(pieces);
        drop(excess);
    }

    fn pieces(&self) -> MutexGuard<'_, Vec<Piece>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn pieces_are_used_again_as_zeros_and_no_more_are_kept_than_may_be() {
        let spare = Spare::new(256);
        let kept = || spare.pieces().len();
        let pieces: Vec<_> = (0..4).map(|_| spare.take().unwrap()).collect();
        #[expect(unsafe_code, reason = "see the comment")]
        // SAFETY: it has so many bytes, and nobody else has it.
        unsafe {
            pieces[0].start().write_bytes(7, 256);
        }
        let first = pieces[0].start();
        pieces.into_iter().for_each(|piece| spare.put_back(piece, 2));
        assert_eq!(kept(), 2);
        let again = [spare.take().unwrap(), spare.take().unwrap()];
        assert_eq!((again[1].start(), kept()), (first, 0));
        #[expect(unsafe_code, reason = "see the comment")]
        // SAFETY: likewise.
        let bytes = unsafe { std::slice::from_raw_parts(again[1].start().as_ptr(), 256) };
        assert!(bytes.iter().all(|byte| *byte == 0));
        again.into_iter().for_each(|piece| spare.put_back(piece, 2));
        spare.put_back(spare.take().unwrap(), 0);
        spare.put_back(spare.take().unwrap(), 0);
        assert_eq!(kept(), 0, "fewer are worth keeping");
        assert!(Spare::new(usize::MAX).take().is_none());
    }
}
