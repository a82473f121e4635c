//! Numbers that lie in stretches, as those of some of a page's rows do, and how they are copied to where they lie alike.

use std::ptr;

use super::product::PANEL;
use crate::ElementType;

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strided {
    /// Stretches.
    pub(super) count: usize,
    /// Numbers of each.
    pub(super) len: usize,
    /// Numbers from where one begins to where the next does.
    pub(super) step: usize,
}

impl Strided {
    /// Numbers from where the first begins to where the last ends.
    pub(super) fn span(self) -> usize {
        self.count.saturating_sub(1) * self.step + self.len
    }

    /// All of them.
    pub(super) fn numbers(self) -> usize {
        self.count * self.len
    }

    /// Copies numbers of a type to bytes, without what lies between them.
    ///
    /// # Safety
    /// So they lie from `from` on, and there is room for their bytes from `to` on, wherever that is. Meanwhile nobody
    /// writes those of the one, nor reads or writes those of the other.
    #[expect(unsafe_code, reason = "see the contract")]
    pub(super) unsafe fn pack(self, element: ElementType, from: *const u8, to: *mut u8) {
        for (there, here, bytes) in self.stretches(element) {
            // SAFETY: the caller's.
            unsafe { ptr::copy_nonoverlapping(from.add(there), to.add(here), bytes) };
        }
    }

    /// The way back.
    ///
    /// # Safety
    /// As for [`Self::pack`], but that numbers go from where all follow each other to where they lie.
    #[expect(unsafe_code, reason = "see the contract")]
    pub(super) unsafe fn unpack(self, element: ElementType, from: *const u8, to: *mut u8) {
        for (there, here, bytes) in self.stretches(element) {
            // SAFETY: the caller's.
            unsafe { ptr::copy_nonoverlapping(from.add(here), to.add(there), bytes) };
        }
    }

    /// Where each stretch begins, where it does without what lies between them, and how long it is, in bytes.
    fn stretches(self, element: ElementType) -> impl Iterator<Item = (usize, usize, usize)> {
        let bytes = element.bytes();
        (0..self.count).map(move |index| (index * self.step * bytes, index * self.len * bytes, self.len * bytes))
    }

    /// Copies numbers of a type.
    ///
    /// # Safety
    /// So they lie from both places on, which are aligned for them and do not overlap. Meanwhile nobody writes those of
    /// the one, nor reads or writes those of the other.
    #[expect(unsafe_code, reason = "see the contract")]
    pub(super) unsafe fn copy(self, element: ElementType, from: *const u8, to: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            match element {
                ElementType::F32 => self.copy_words::<u32>(from.cast(), to.cast()),
                ElementType::F16 => self.copy_words::<u16>(from.cast(), to.cast()),
            }
        }
    }

    /// A call for each stretch, where these are so short, takes longer than all the rest of a slide. So they are copied
    /// by powers of two, each of which is a move or two.
    ///
    /// # Safety
    /// As for [`Self::copy`].
    #[expect(unsafe_code, reason = "see the contract")]
    #[inline(always)]
    unsafe fn copy_words<T>(self, from: *const T, to: *mut T) {
        const { assert!(PANEL == 16) };
        // SAFETY: the caller's.
        unsafe {
            if self.len < PANEL {
                self.copy_few::<T, 8>(from, to);
                self.copy_few::<T, 4>(from, to);
                self.copy_few::<T, 2>(from, to);
                self.copy_few::<T, 1>(from, to);
            } else {
                let starts = (0..self.count).map(|index| index * self.step);
                starts.for_each(|start| ptr::copy_nonoverlapping(from.add(start), to.add(start), self.len));
            }
        }
    }

    /// Copies of each stretch the `WORDS` that are one of the powers of two its length is a sum of, behind the larger ones.
    ///
    /// # Safety
    /// As for [`Self::copy`].
    #[expect(unsafe_code, reason = "see the contract")]
    #[inline(always)]
    unsafe fn copy_few<T, const WORDS: usize>(self, from: *const T, to: *mut T) {
        if self.len & WORDS != 0 {
            let before = self.len & !(2 * WORDS - 1);
            for start in (0..self.count).map(|index| index * self.step + before) {
                // SAFETY: the caller's, for all of them are within the stretch.
                unsafe { ptr::copy_nonoverlapping(from.add(start), to.add(start), WORDS) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(unsafe_code, reason = "see the comment")]
    use super::*;

    #[test]
    fn exactly_the_stretches_are_copied() {
        let from: Vec<u32> = (1..=100).collect();
        for (element, numbers) in [(ElementType::F32, 1), (ElementType::F16, 2)] {
            for len in 1..=33 {
                let numbers = Strided { count: 3, len: len * numbers, step: 33 * numbers };
                let mut to = vec![0u32; 100];
                // SAFETY: both have more numbers than these.
                unsafe { numbers.copy(element, from.as_ptr().cast(), to.as_mut_ptr().cast()) };
                let within = |place: &usize| place % 33 < len && *place < 99;
                let expected: Vec<u32> = (0..100).map(|place| if within(&place) { from[place] } else { 0 }).collect();
                assert_eq!(to, expected, "{numbers:?} of {element}");
            }
        }
    }

    #[test]
    fn stretches_are_packed_and_lie_again_as_they_did() {
        let from: Vec<u32> = (1..=100).collect();
        for (element, numbers) in [(ElementType::F32, 1), (ElementType::F16, 2)] {
            for len in 1..=33 {
                let numbers = Strided { count: 3, len: len * numbers, step: 33 * numbers };
                // At a place that is aligned for nothing.
                let mut packed = vec![0u8; 3 * 4 * len + 1];
                let mut to = vec![0u32; 100];
                // SAFETY: all have more numbers than these.
                unsafe {
                    numbers.pack(element, from.as_ptr().cast(), packed[1..].as_mut_ptr());
                    numbers.unpack(element, packed[1..].as_ptr(), to.as_mut_ptr().cast());
                }
                let within = |place: &usize| place % 33 < len && *place < 99;
                let words = packed[1..].as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word));
                assert!(words.eq((0..100).filter(within).map(|place| from[place])), "{numbers:?} of {element}");
                let expected: Vec<u32> = (0..100).map(|place| if within(&place) { from[place] } else { 0 }).collect();
                assert_eq!(to, expected, "{numbers:?} of {element}");
            }
        }
    }
}
