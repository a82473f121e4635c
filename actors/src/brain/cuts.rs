//! Where a text is cut whose pieces are to have a vector each: where a token begins and a character does, rather behind a
//! line or a sentence than inside. Pure; the text and where its tokens stand are all that is known.

use std::ops::Range;

use crate::message::BrainError;

/// The most pieces of a text. Not a setting: it only keeps an answer's vectors from being without a bound.
pub(super) const PIECES_MAX: usize = 4096;

/// As many bytes before a place tell how good it is: a text of blanks alone is cut in time in proportion to its length.
const SEEN: usize = 64;

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Its last token, and one.
    pub(super) end: usize,
    /// Where it stands in the text.
    pub(super) bytes: Range<usize>,
}

/// How good a place is to cut at, the better the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    InsideAWord,
    BetweenWords,
    BehindASentence,
    BehindALine,
    BehindAParagraph,
}

/// Cuts a text into pieces of at most `most` tokens, and of more than three quarters of that but for the last; where a
/// character has more tokens than fit, of more. `spans`: where each token stands. They cover the text without a gap.
///
/// # Errors
/// [`BrainError::BadRequest`] for more than [`PIECES_MAX`].
pub(super) fn cut(text: &str, spans: &[Range<usize>], most: usize) -> Result<Vec<Cut>, BrainError> {
    let mut cuts: Vec<Cut> = Vec::new();
    let (mut first, mut begin) = (0, 0);
    while first < spans.len() {
        let next = if spans.len() - first <= most { None } else { next(text, spans, first, begin, most) };
        let (end, at) = next.unwrap_or((spans.len(), text.len()));
        cuts.push(Cut { end, bytes: begin..at });
        (first, begin) = (end, at);
        if cuts.len() > PIECES_MAX {
            let found = format!("{most}, which cuts the text into more than {PIECES_MAX} pieces");
            return Err(BrainError::BadRequest { what: "piece_tokens", found, expected: "longer pieces".to_owned() });
        }
    }
    Ok(cuts)
}

/// The token and the byte at which the piece ends that begins with token `first` at byte `begin`.
fn next(text: &str, spans: &[Range<usize>], first: usize, begin: usize, most: usize) -> Option<(usize, usize)> {
    let mut covered = begin;
    let mut best: Option<(Place, usize, usize)> = None;
    for (end, pair) in (first + 1..).zip(spans[first..].array_windows::<2>()) {
        covered = covered.max(pair[0].end);
        let (len, at) = (end - first, pair[1].start);
        if len > most && best.is_some() {
            break;
        }
        // No token on either side has to do with a character on the other.
        if at < covered || at <= begin || !text.is_char_boundary(at) {
            continue;
        }
        // What is too short only counts where nothing else does.
        let seen = text.floor_char_boundary(at.saturating_sub(SEEN));
        let place = if 4 * len > 3 * most { place(&text[seen..at], &text[at..]) } else { Place::InsideAWord };
        if best.is_none_or(|(before, ..)| place >= before) {
            best = Some((place, end, at));
        }
    }
    best.map(|(_, end, at)| (end, at))
}

fn place(before: &str, behind: &str) -> Place {
    let words = before.trim_end();
    let gap = &before[words.len()..];
    let parted = !gap.is_empty() || behind.starts_with(char::is_whitespace);
    if gap.contains('\n') {
        return if gap.matches('\n').count() > 1 { Place::BehindAParagraph } else { Place::BehindALine };
    }
    match words.trim_end_matches(['"', '\'', ')', ']', '\u{201d}', '\u{2019}']).chars().next_back() {
        Some('.' | '!' | '?' | '\u{2026}') if parted => Place::BehindASentence,
        Some('\u{3002}' | '\u{ff01}' | '\u{ff1f}') => Place::BehindASentence,
        _ if parted => Place::BetweenWords,
        _ => Place::InsideAWord,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    /// A token a byte.
    fn bytes(text: &str) -> Vec<Range<usize>> {
        (0..text.len()).map(|at| at..at + 1).collect()
    }

    fn pieces<'t>(text: &'t str, spans: &[Range<usize>], most: usize) -> Vec<&'t str> {
        cut(text, spans, most).unwrap().into_iter().map(|cut| &text[cut.bytes]).collect()
    }

    fn check(text: &str, most: usize, expected: &[&str]) {
        assert_eq!(pieces(text, &bytes(text), most), expected, "{text:?} by {most}");
    }

    #[test]
    fn the_best_place_near_the_end_of_a_piece_counts() {
        check("", 8, &[]);
        check("short", 8, &["short"]);
        check("exactly8", 8, &["exactly8"]);
        check("one two three", 8, &["one two ", "three"]);
        check("in. two three", 8, &["in. two ", "three"]);
        check("ab to. of it", 8, &["ab to. ", "of it"]);
        check("a to.\n\nof it", 8, &["a to.\n\n", "of it"]);
        check("no.gap.here", 8, &["no.gap.h", "ere"]);
        check("a\nb cdefghij", 8, &["a\nb cdef", "ghij"]);
        check("(so is!) this", 8, &["(so is!)", " this"]);
    }

    #[test]
    fn a_character_is_never_cut_however_many_tokens_it_has() {
        check("\u{1F600}\u{1F600}", 1, &["\u{1F600}", "\u{1F600}"]);
        check("\u{1F600}\u{1F600}", 5, &["\u{1F600}", "\u{1F600}"]);
        check("\u{e4}\u{f6}\u{fc}", 4, &["\u{e4}\u{f6}", "\u{fc}"]);
        // Tokens that stand for the same character, as tokenizers say it.
        let spans = [0..4, 0..4, 4..5, 5..5, 5..9, 5..9];
        assert_eq!(pieces("\u{1F600}a\u{1F600}", &spans, 1), ["\u{1F600}", "a", "\u{1F600}"]);
    }

    #[test]
    fn white_space_that_is_no_tokens_belongs_to_what_is_before_it() {
        assert_eq!(pieces("ab  cd ", &[0..1, 1..2, 4..5, 5..6], 2), ["ab  ", "cd "]);
    }

    /// Were all that stands before a place looked at for each, this would take hours.
    #[test]
    fn blanks_are_cut_in_time_in_proportion_to_their_length() {
        for letter in ["\n", " ", "\""] {
            let text = letter.repeat(1 << 21);
            assert_eq!(cut(&text, &bytes(&text), 1 << 20).unwrap().len(), 2);
        }
    }

    #[test]
    fn too_many_pieces_are_refused() {
        let text = "x".repeat(PIECES_MAX + 1);
        assert_eq!(cut(&text[1..], &bytes(&text[1..]), 1).unwrap().len(), PIECES_MAX);
        assert!(matches!(cut(&text, &bytes(&text), 1), Err(BrainError::BadRequest { .. })));
    }

    /// Tokens as a tokenizer may give them: of some characters each, or several for one; some without a text.
    fn spanned() -> impl Strategy<Value = (String, Vec<Range<usize>>)> {
        let piece =
            (prop::sample::select(vec!["a", " b", ".", "\n", "\u{e4}", "\u{1F600}", " word", "\u{3002}"]), 0..4_usize);
        prop::collection::vec(piece, 0..80).prop_map(|pieces| {
            let (mut text, mut spans) = (String::new(), Vec::new());
            for (piece, tokens) in pieces {
                let begin = text.len();
                text += piece;
                spans.extend(std::iter::repeat_n(begin..text.len(), tokens));
                if tokens == 3 {
                    spans.push(text.len()..text.len());
                }
            }
            (text, spans)
        })
    }

    proptest! {
        #[test]
        fn pieces_join_to_the_whole_text_and_are_long_enough_and_no_longer((text, spans) in spanned(), most in 1..20_usize) {
            let cuts = cut(&text, &spans, most).unwrap();
            prop_assert_eq!(cuts.is_empty(), spans.is_empty());
            let (mut end, mut at) = (0, 0);
            for (index, cut) in cuts.iter().enumerate() {
                prop_assert!(cut.end > end && cut.bytes.start == at && text.is_char_boundary(cut.bytes.end));
                let (len, is_last) = (cut.end - end, index + 1 == cuts.len());
                // A character has up to four tokens here.
                prop_assert!(len < most + 4 && (is_last || cut.bytes.end > at), "{:?} by {}", cuts, most);
                (end, at) = (cut.end, cut.bytes.end);
            }
            prop_assert!(cuts.is_empty() || (end, at) == (spans.len(), text.len()));
        }
    }
}
