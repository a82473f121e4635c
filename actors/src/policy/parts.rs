//! What a request is made of that is done in parts: the parts, and what they have come to. Plain values.

use std::{collections::BTreeSet, ops::Range};

use super::state::State;
use crate::job::{Choice, RequestId};

/// What a part does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Reads the input.
    Reading,
    /// Gives the answer with this number.
    Answering(usize),
    /// Runs the probe behind what was read, for the vector.
    Probing,
    /// Reads the piece of the text with this number behind those before it, for the vector where no probe gives that.
    Next(usize),
    /// Gives the vector of the piece of the text with this number.
    Piece(usize),
}

/// A request's parts under way.
#[derive(Clone, Debug)]
pub(super) struct Several {
    /// The parts that are not done.
    pub(super) parts: BTreeSet<RequestId>,
    /// Where they begin, and where the conversation will stand.
    pub(super) start: State,
    /// Whether the conversation held tokens before.
    pub(super) had: bool,
    /// A part had to read again what had slid.
    pub(super) rebuilt: bool,
    /// The answers that are done: what each came to and where its conversation would stand.
    pub(super) done: Vec<Option<(Choice, State)>>,
    /// The pieces of a text, as ranges of its tokens: of one that is too long for one, or of which each has a vector.
    pub(super) pieces: Vec<Range<usize>>,
    /// How many of those are read that stand one behind the other.
    pub(super) read: usize,
    /// The vectors of those that are done.
    pub(super) vectors: Vec<Vec<f32>>,
}

impl Several {
    /// Where its answers stand, and where they began.
    pub(super) fn states(&self) -> impl Iterator<Item = &State> {
        std::iter::once(&self.start).chain(self.done.iter().flatten().map(|(_, state)| state))
    }
}

/// That a request is a part of another.
#[derive(Clone, Debug)]
pub(super) struct PartOf {
    /// The request that is done in parts.
    pub(super) whole: RequestId,
    /// What this part does.
    pub(super) part: Part,
    /// Where it begins.
    pub(super) state: State,
}

/// The pieces that end there, one behind the other.
pub(super) fn ending(ends: &[usize]) -> Vec<Range<usize>> {
    let begins = [0].into_iter().chain(ends.iter().copied());
    begins.zip(ends.iter().copied()).map(|(begin, end)| begin..end).collect()
}

/// The pieces of a text of `len` tokens where one has at most `most`: as few as overlap by an eighth of a piece or more,
/// all of one length, and spread evenly. Of a text that fits, or where nothing would, one.
pub(super) fn pieces(len: usize, most: usize) -> Vec<Range<usize>> {
    let gaps = if most == 0 { 0 } else { len.saturating_sub(most).div_ceil(most - most / 8) };
    let piece = if gaps == 0 { len } else { most };
    (0..=gaps).map(|index| index * (len - piece) / gaps.max(1)).map(|start| start..start + piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_text_and_overlap_by_an_eighth_at_least() {
        for most in 1..40 {
            for len in 1..300 {
                let pieces = pieces(len, most);
                assert_eq!((pieces[0].start, pieces[pieces.len() - 1].end), (0, len), "{len} by {most}");
                assert!(pieces.iter().all(|piece| piece.len() == most.min(len)), "{len} by {most}: {pieces:?}");
                for pair in pieces.array_windows::<2>() {
                    let (overlap, is_needed) =
                        (pair[0].end as isize - pair[1].start as isize, pair[1].start > pair[0].start);
                    assert!(overlap >= (most / 8) as isize && is_needed, "{len} by {most}: {pieces:?}");
                }
                let fewest = 1 + len.saturating_sub(most).div_ceil(most - most / 8);
                assert_eq!(pieces.len(), fewest, "{len} by {most}");
            }
        }
        assert!(pieces(7, 0).into_iter().eq(std::iter::once(0..7)));
    }
}
