//! Stop texts: texts that end a step where its own text comes to one of them.
//!
//! Each is looked for by the algorithm of Knuth, Morris and Pratt ("Fast pattern matching in strings",
//! 1977), a byte at a time: how much of it the text's end is, is all that is remembered. So a text that
//! comes in pieces is searched as one, at a cost that is linear in it.

use std::sync::Arc;

use crate::message::BrainError;

/// The most stop texts of a step. Not a setting: it only bounds what each sampled token is compared with.
pub const STOPS_MAX: usize = 16;

/// The longest stop text, in bytes. Not a setting: so much of a stream may be held back.
pub const STOP_BYTES_MAX: usize = 1024;

/// A step's stop texts, ready to be looked for; clones share them.
#[derive(Clone, Debug, Default)]
pub struct StopTexts(Arc<[Stop]>);

#[derive(Debug)]
struct Stop {
    bytes: Box<[u8]>,
    /// For each length from 1: the longest beginning, not the whole, with which the stop text's first so many bytes end.
    borders: Box<[usize]>,
}

/// How far a text has come towards each stop text.
#[derive(Clone, Debug)]
pub(super) struct Search {
    stops: StopTexts,
    /// For each, how many bytes of it the text ends with.
    matched: Vec<usize>,
}

impl StopTexts {
    /// Texts to stop at; none is allowed.
    ///
    /// # Errors
    /// [`BrainError::BadRequest`]: more than [`STOPS_MAX`], an empty one, or one longer than [`STOP_BYTES_MAX`].
    pub fn new(texts: &[String]) -> Result<Self, BrainError> {
        let bad = |found, expected| Err(BrainError::BadRequest { what: "stop", found, expected });
        if texts.len() > STOPS_MAX {
            return bad(format!("{} texts", texts.len()), format!("at most {STOPS_MAX}"));
        }
        if let Some(text) = texts.iter().find(|text| text.is_empty() || text.len() > STOP_BYTES_MAX) {
            return bad(format!("a text of {} bytes", text.len()), format!("texts of 1 to {STOP_BYTES_MAX} bytes"));
        }
        Ok(Self(texts.iter().map(|text| Stop::new(text)).collect()))
    }

    /// Whether there is nothing to stop at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Stop {
    fn new(text: &str) -> Self {
        let bytes: Box<[u8]> = text.as_bytes().into();
        let mut borders = vec![0; bytes.len()];
        for end in 1..bytes.len() {
            borders[end] = Self::next(&bytes, &borders, borders[end - 1], bytes[end]);
        }
        Self { bytes, borders: borders.into() }
    }

    /// How much of it a text ends with that ended with `matched` bytes of it, less than all, before `byte`.
    fn next(bytes: &[u8], borders: &[usize], mut matched: usize, byte: u8) -> usize {
        while matched > 0 && bytes[matched] != byte {
            matched = borders[matched - 1];
        }
        matched + usize::from(bytes[matched] == byte)
    }
}

impl Search {
    pub(super) fn new(stops: StopTexts) -> Self {
        Self { matched: vec![0; stops.0.len()], stops }
    }

    /// Reads on. Where a stop text ends within `text`: how many bytes that end lies behind the beginning of `text`, and
    /// how long the stop text is; the longest of those that end there. Nothing must be read behind that.
    pub(super) fn read(&mut self, text: &str) -> Option<(usize, usize)> {
        for (place, &byte) in text.as_bytes().iter().enumerate() {
            let mut complete = None;
            for (stop, matched) in self.stops.0.iter().zip(&mut self.matched) {
                *matched = Stop::next(&stop.bytes, &stop.borders, *matched, byte);
                complete = complete.max((*matched == stop.bytes.len()).then_some(*matched));
            }
            if let Some(len) = complete {
                return Some((place + 1, len));
            }
        }
        None
    }

    /// How many bytes at the text's end may begin a stop text.
    pub(super) fn held(&self) -> usize {
        self.matched.iter().copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    /// The text before the first stop text, however it is cut, and what is held back at the end.
    fn check(stops: &[&str], pieces: &[&str], expected: (Option<&str>, usize)) {
        let mut search = Search::new(StopTexts::new(&texts(stops)).unwrap());
        let (mut text, mut found) = (String::new(), None);
        for piece in pieces {
            let at = search.read(piece);
            found = at.map(|(end, len)| text.len() + end - len);
            text += piece;
            if found.is_some() {
                break;
            }
        }
        let before = found.map(|end| &text[..end]);
        let held = if found.is_some() { 0 } else { search.held() };
        assert_eq!((before, held), expected, "{stops:?} in {pieces:?}");
    }

    #[test]
    fn stop_texts_are_found_over_the_borders_of_pieces() {
        check(&["END"], &["an END"], (Some("an "), 0));
        check(&["END"], &["an E", "N", "D of"], (Some("an "), 0));
        check(&["aab"], &["aa", "aab"], (Some("aa"), 0));
        check(&["→"], &["a→b"], (Some("a"), 0));
        check(&[], &["anything"], (None, 0));
    }

    #[test]
    fn the_first_to_end_stops_and_the_longest_of_those_that_end_there() {
        check(&["abcd", "bc"], &["xabcd"], (Some("xa"), 0));
        check(&["b", "ab"], &["xab"], (Some("x"), 0));
    }

    #[test]
    fn what_may_begin_a_stop_text_is_held() {
        check(&["END", "NDx"], &["an EN"], (None, 2));
        check(&["END"], &["an EN", "E"], (None, 1));
        check(&["abab"], &["aba"], (None, 3));
        check(&["END"], &["an EN", "x"], (None, 0));
    }

    #[test]
    fn stop_texts_are_bounded() {
        let refused = |stops: Vec<String>| StopTexts::new(&stops).unwrap_err().code().as_str();
        assert_eq!(refused(vec![String::new()]), "bad_request");
        assert_eq!(refused(vec!["x".repeat(STOP_BYTES_MAX + 1)]), "bad_request");
        assert_eq!(refused(vec!["x".to_owned(); STOPS_MAX + 1]), "bad_request");
        assert!(StopTexts::new(&vec!["x".repeat(STOP_BYTES_MAX); STOPS_MAX]).is_ok());
    }

    proptest! {
        #[test]
        fn the_search_finds_what_looking_at_every_end_finds(
            stops in prop::collection::vec("[ab]{1,4}", 0..4),
            pieces in prop::collection::vec("[abc]{0,5}", 0..8),
        ) {
            let whole = pieces.concat();
            let ends_at = |end: usize| {
                stops.iter().filter(|stop| whole[..end].ends_with(stop.as_str())).map(String::len).max()
            };
            let expected = (0..=whole.len()).find_map(|end| Some(end - ends_at(end)?));
            let mut search = Search::new(StopTexts::new(&stops).unwrap());
            let mut read = 0;
            let found = pieces.iter().find_map(|piece| {
                let found = search.read(piece).map(|(end, len)| read + end - len);
                read += piece.len();
                found
            });
            prop_assert_eq!(found, expected);
            if found.is_none() {
                let begins = |from: &usize| stops.iter().any(|stop| stop.starts_with(&whole[*from..]));
                let held = (0..=whole.len()).find(begins).map_or(0, |from| whole.len() - from);
                prop_assert_eq!(search.held(), held);
            }
        }
    }
}
