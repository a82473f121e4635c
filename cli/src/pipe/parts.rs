//! The parts of a streamed step: one at a time is on its way out, and what comes meanwhile is gathered for the next.
//!
//! So a slow reader gets fewer and longer parts, and they take no more memory than the answer does. Pure.

use motorbrain_actors::engine::Sampled;
use motorbrain_protocol::Piece;

/// One streamed step's tokens on their way out.
#[derive(Debug, Default)]
pub(super) struct Parts {
    writing: bool,
    next: Piece,
}

impl Parts {
    /// Another token; what goes out now, if anything.
    pub(super) fn token(&mut self, sampled: Sampled, text: &str) -> Option<Piece> {
        self.next.sampled.push(sampled);
        self.next.text += text;
        if self.writing { None } else { self.take() }
    }

    /// The last part is written; what goes out now, if anything.
    pub(super) fn written(&mut self) -> Option<Piece> {
        self.writing = false;
        self.take()
    }

    /// What is gathered, for it goes before the answer.
    pub(super) fn take(&mut self) -> Option<Piece> {
        let some = !self.next.sampled.is_empty();
        self.writing |= some;
        some.then(|| std::mem::take(&mut self.next))
    }
}

#[cfg(test)]
mod tests {
    use motorbrain_actors::tokens::TokenId;

    use super::*;

    fn token(id: u32) -> Sampled {
        Sampled { token: TokenId(id), logprob: 0.0, top: Vec::new() }
    }

    /// The ids and the text of a part.
    fn seen(piece: Option<Piece>) -> Option<(Vec<u32>, String)> {
        piece.map(|piece| (piece.sampled.iter().map(|sampled| sampled.token.0).collect(), piece.text))
    }

    #[test]
    fn what_comes_while_a_part_is_written_is_the_next_one() {
        let mut parts = Parts::default();
        assert_eq!(seen(parts.token(token(1), "a")), Some((vec![1], "a".into())));
        assert_eq!(seen(parts.token(token(2), "")), None);
        assert_eq!(seen(parts.token(token(3), "bc")), None);
        assert_eq!(seen(parts.written()), Some((vec![2, 3], "bc".into())));
        assert_eq!(seen(parts.written()), None);
        assert_eq!(seen(parts.token(token(4), "d")), Some((vec![4], "d".into())));
        assert_eq!(seen(parts.token(token(5), "e")), None);
        // The step is over: the rest does not wait.
        assert_eq!(seen(parts.take()), Some((vec![5], "e".into())));
        assert_eq!(seen(parts.take()), None);
    }
}
