//! What of a text is read when, so that each of its tokens is predicted from just what a window would hold. Pure.
//!
//! A conversation whose window slides is read in one go. The same window read again begins anew wherever the other one
//! slides: with the tokens that stay there, sinks and the newest, and nothing else. Both predict each token from the same
//! tokens at the same places, so whatever they differ in comes of keys and values that have moved.

use std::ops::Range;

use serde::Serialize;

use crate::eval::EvalError;

/// A window to try.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Shape {
    /// The most tokens kept.
    pub(super) size: usize,
    /// The first tokens, which never leave.
    pub(super) sinks: usize,
    /// How many leave at once.
    pub(super) slide: usize,
}

impl Shape {
    /// A window that exists.
    pub(super) fn new(size: usize, sinks: usize, slide: usize) -> Result<Self, EvalError> {
        if slide == 0 || sinks + slide > size {
            return Err(EvalError::Window { size, sinks, slide });
        }
        Ok(Self { size, sinks, slide })
    }

    /// Where the window has just slid: the first run of a text, then one from slide to slide.
    pub(super) fn pieces(self, len: usize) -> Vec<Piece> {
        let first = Piece { sinks: 0, kept: 0..0, new: 0..self.size.min(len) };
        let starts = (self.size..len).step_by(self.slide);
        let later = starts.map(|start| Piece {
            sinks: self.sinks,
            kept: start - (self.size - self.slide - self.sinks)..start,
            new: start..(start + self.slide).min(len),
        });
        [first].into_iter().filter(|piece| !piece.new.is_empty()).chain(later).collect()
    }
}

/// A conversation of its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    /// How many of the text's first tokens are read first.
    pub(super) sinks: usize,
    /// What is read then.
    pub(super) kept: Range<usize>,
    /// What is predicted.
    pub(super) new: Range<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: (usize, usize, usize), len: usize, expected: &[(usize, Range<usize>, Range<usize>)]) {
        let pieces = Shape::new(shape.0, shape.1, shape.2).map(|shape| shape.pieces(len));
        let expected = expected.iter().cloned().map(|(sinks, kept, new)| Piece { sinks, kept, new });
        assert_eq!(pieces.ok(), Some(expected.collect()));
    }

    #[test]
    fn a_piece_begins_with_what_the_slid_window_holds() {
        check((8, 2, 3), 15, &[(0, 0..0, 0..8), (2, 5..8, 8..11), (2, 8..11, 11..14), (2, 11..14, 14..15)]);
        check((8, 0, 4), 12, &[(0, 0..0, 0..8), (0, 4..8, 8..12)]);
        check((8, 2, 6), 9, &[(0, 0..0, 0..8), (2, 8..8, 8..9)]);
        check((8, 2, 3), 5, &[(0, 0..0, 0..5)]);
        check((8, 2, 3), 0, &[]);
    }

    #[test]
    fn every_token_is_predicted_once_from_no_more_than_the_window() {
        for (size, sinks, slide) in [(8, 2, 3), (16, 4, 4), (5, 0, 5), (7, 6, 1)] {
            let pieces = Shape::new(size, sinks, slide).map(|shape| shape.pieces(50)).unwrap_or_default();
            let predicted: Vec<usize> = pieces.iter().flat_map(|piece| piece.new.clone()).collect();
            assert_eq!(predicted, (0..50).collect::<Vec<_>>());
            assert!(pieces.iter().all(|piece| piece.sinks + piece.kept.len() + piece.new.len() <= size));
        }
    }

    #[test]
    fn a_window_that_cannot_slide_is_refused() {
        assert!(Shape::new(8, 4, 5).is_err());
        assert!(Shape::new(8, 4, 0).is_err());
    }
}
