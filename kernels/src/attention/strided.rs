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
}
