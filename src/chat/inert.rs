//! What messages say stays what it is: no text of theirs becomes one of the model's own markers.
//!
//! A template writes markers and messages into one text, and what spells an added token in a text becomes that token. So
//! texts of the caller's are marked before the template sees them: a character that no text has stands behind the first
//! one of each added token that they spell. In what the template makes of them a token that has a mark inside is somebody
//! else's, and becomes literal; all others are the template's.
//!
//! A template may also make a token of pieces: it cuts texts and joins them. So it renders once more from texts that are
//! marked behind everything that could begin a token, and in front of everything that goes on with one which stands begun
//! in the template. Where both renders say the same, the marks of the second count. Where they do not, since the template
//! looks for some text that was marked, there must be no token in the first that is not in the second as well.
//!
//! Pure: no template and no tokenizer is asked here. Places are in bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    TemplateError,
    rendered::{Kind, Rendered, Span},
};
use crate::model::AddedToken;

/// What marks texts: characters that Unicode promises never to give a meaning.
const MARKS: std::ops::RangeInclusive<char> = '\u{FDD0}'..='\u{FDEF}';

/// Whose words a text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Anybody's: no added token may be spelled.
    Anybody,
    /// The model's own, which it may have written with tokens that are not special (`<think>`, `<tool_call>`), and which
    /// templates look for.
    Model,
}

/// What is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marking {
    /// Tokens that are spelled.
    Spelled,
    /// Whatever could become a part of one.
    Pieces,
}

/// The tokens that nobody but the template may spell.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    /// Each with whether it is special.
    tokens: HashMap<String, bool>,
    /// The lengths that they have, longest first.
    lengths: Vec<usize>,
    firsts: BTreeSet<char>,
    /// Those in the other case as well.
    folded: BTreeSet<char>,
    /// What they go on with behind what stands in the template, by its first two characters.
    rests: HashMap<(char, Option<char>), BTreeSet<String>>,
    /// The same two characters in ASCII, a bit each: most texts begin nothing at most places.
    pairs: BTreeMap<char, u128>,
}

impl Guarded {
    /// Those among a tokenizer's added tokens, for templates of these texts. White space means nothing, and a single
    /// character that is not special is a letter like any other.
    pub(super) fn of(added: &[AddedToken], templates: &[&str]) -> Self {
        let is_space = |character: char| character.is_whitespace() || character == '\u{2581}';
        let mut guarded = Self::default();
        let mut lengths = BTreeSet::new();
        for token in added {
            let mut characters = token.text.chars();
            let (Some(first), second) = (characters.next(), characters.next()) else { continue };
            if token.text.chars().all(is_space) || second.is_none() && !token.special {
                continue;
            }
            lengths.insert(token.text.len());
            guarded.firsts.insert(first);
            guarded.folded.extend([first].into_iter().chain(first.to_lowercase()).chain(first.to_uppercase()));
            for (at, _) in token.text.char_indices().skip(1) {
                let (begun, rest) = token.text.split_at(at);
                // Longer beginnings stand in it where shorter ones do, or nowhere.
                if !templates.iter().any(|template| template.contains(begun)) {
                    break;
                }
                let (first, second) = beginning(rest);
                let seconds = second.map_or(u128::MAX, bit);
                *guarded.pairs.entry(first).or_default() |= seconds;
                guarded.rests.entry((first, second)).or_default().insert(rest.to_owned());
            }
            guarded.tokens.insert(token.text.clone(), token.special);
        }
        guarded.lengths = lengths.into_iter().rev().collect();
        guarded
    }

    /// The tokens that are spelled at a place, longest first, each with whether it is special.
    fn at<'t>(&self, text: &'t str, at: usize) -> impl Iterator<Item = (&'t str, bool)> {
        self.lengths.iter().filter_map(move |length| {
            let spelled = text.get(at..at + length)?;
            self.tokens.get(spelled).map(|special| (spelled, *special))
        })
    }

    /// A text of somebody's with marks in it.
    pub(super) fn mark(&self, text: &str, mark: char, whose: Whose, marking: Marking) -> String {
        let mut marked = String::with_capacity(text.len());
        let begin = text.len() - text.trim_start().len();
        let mut own_until = 0;
        for (at, character) in text.char_indices() {
            let (goes_on, begins) = match marking {
                _ if at < own_until => (false, false),
                Marking::Spelled => (false, self.is_spelled(text, at, whose)),
                Marking::Pieces => {
                    own_until = at + self.own_at(text, at, whose);
                    let is_free = own_until == at;
                    let goes_on = self.goes_on(&text[at..], at == begin);
                    (is_free && goes_on, is_free && self.folded.contains(&character))
                }
            };
            marked.extend(goes_on.then_some(mark));
            marked.push(character);
            if begins {
                marked.push(mark);
                // Behind a whole token a single one could be in front of what follows.
                marked.extend(self.is_whole(character).then_some(mark));
            }
        }
        marked
    }

    /// Whether a token begins at a place that nobody may spell.
    fn is_spelled(&self, text: &str, at: usize, whose: Whose) -> bool {
        let begins = text[at..].chars().next().is_some_and(|first| self.firsts.contains(&first));
        begins && self.at(text, at).any(|(_, special)| special || whose == Whose::Anybody)
    }

    /// Whether a character is a token.
    fn is_whole(&self, character: char) -> bool {
        self.tokens.contains_key(character.encode_utf8(&mut [0; 4]) as &str)
    }

    /// How long the token at a place is that the model may write there itself; 0: there is none.
    fn own_at(&self, text: &str, at: usize, whose: Whose) -> usize {
        if whose == Whose::Anybody || self.at(text, at).any(|(_, special)| special) {
            return 0;
        }
        self.at(text, at).next().map_or(0, |(token, _)| token.len())
    }

    /// Whether a text begins as a token goes on that stands begun in the template. `may_end`: also where it ends before
    /// the token does.
    fn goes_on(&self, text: &str, may_end: bool) -> bool {
        let fits = |rest: &String| text.starts_with(rest.as_str()) || may_end && rest.starts_with(text.trim_end());
        let (first, second) = beginning(text);
        let pairs = self.pairs.get(&first).copied().unwrap_or_default();
        if second.is_some_and(|second| pairs & bit(second) == 0) {
            return false;
        }
        let rests = |key: (char, Option<char>)| self.rests.get(&key).into_iter().flatten();
        match second {
            Some(_) => rests((first, second)).chain(rests((first, None))).any(fits),
            None => rests((first, None)).any(fits) || may_end && self.rests.keys().any(|(other, _)| *other == first),
        }
    }

    /// What a template has rendered, without marks.
    fn unmarked(&self, rendered: &str, mark: char) -> Rendered {
        let (mut text, mut marks) = (String::with_capacity(rendered.len()), Vec::new());
        for character in rendered.chars() {
            match character == mark {
                true => marks.push(text.len()),
                false => text.push(character),
            }
        }
        let (mut spans, mut at) = (Vec::new(), 0);
        while let Some(character) = text[at..].chars().next() {
            let span = self.firsts.contains(&character).then(|| self.span(&text, at, &marks)).flatten();
            at = span.as_ref().map_or(at + character.len_utf8(), |span| span.range.end);
            spans.extend(span);
        }
        Rendered { text, spans }
    }

    /// The token at a place, if one is spelled there.
    fn span(&self, text: &str, at: usize, marks: &[usize]) -> Option<Span> {
        let behind = |place: usize| &marks[marks.partition_point(|mark| *mark < place)..];
        let is_marked = |token: &str| {
            let (second, end) = (at + token.chars().next().map_or(0, char::len_utf8), at + token.len());
            match second == end {
                true => behind(end).iter().take_while(|mark| **mark == end).count() > 1,
                false => behind(second).first().is_some_and(|mark| *mark < end),
            }
        };
        let (longest, _) = self.at(text, at).next()?;
        let live = self.at(text, at).map(|(token, _)| token).find(|token| !is_marked(token));
        let token = live.unwrap_or(longest);
        Some(Span {
            range: at..at + token.len(),
            kind: match live {
                None => Kind::Literal,
                // What follows must not make a longer one of it.
                Some(live) if live.len() < longest.len() => Kind::Cut,
                Some(_) => Kind::Live,
            },
        })
    }

    /// What two renders of one request come to: `pieces` of texts in which pieces were marked; `None` where that would
    /// mark nothing else.
    ///
    /// # Errors
    /// [`TemplateError::Forged`].
    pub(super) fn settle(&self, spelled: &str, pieces: Option<&str>, mark: char) -> Result<Rendered, TemplateError> {
        let spelled = self.unmarked(spelled, mark);
        let Some(pieces) = pieces.map(|pieces| self.unmarked(pieces, mark)) else { return Ok(spelled) };
        if pieces.text == spelled.text {
            return Ok(pieces);
        }
        let most = pieces.live();
        let forged = spelled.live().into_iter().find(|(token, count)| most.get(token).is_none_or(|most| count > most));
        match forged.map(|(token, _)| token.to_owned()) {
            Some(token) => Err(TemplateError::Forged { token }),
            None => Ok(spelled),
        }
    }

    /// Whether a token's text is guarded.
    pub(super) fn has(&self, token: &str) -> bool {
        self.tokens.contains_key(token)
    }
}

/// The bit of a character in ASCII; the last one for all others.
fn bit(character: char) -> u128 {
    1 << u32::from(character).min(127)
}

/// The first two characters of a text; of an empty one nothing that is anywhere.
fn beginning(text: &str) -> (char, Option<char>) {
    let mut characters = text.chars();
    (characters.next().unwrap_or('\0'), characters.next())
}

/// A character that marks texts which do not have it: of those that [`Marks::see`] was shown.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeSet<char>);

impl Marks {
    /// Looks at a text.
    pub(super) fn see(&mut self, text: &str) {
        // All of them begin with the bytes EF B7, which few other texts have.
        if text.as_bytes().windows(2).any(|bytes| bytes == [0xEF, 0xB7]) {
            self.0.extend(text.chars().filter(|character| MARKS.contains(character)));
        }
    }

    /// One that none of the texts has.
    ///
    /// # Errors
    /// [`TemplateError::NoMark`].
    pub(super) fn free(&self) -> Result<char, TemplateError> {
        MARKS.clone().find(|mark| !self.0.contains(mark)).ok_or(TemplateError::NoMark)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use motorbrain_actors::{
        message::{PARTS_MAX, Part},
        tokens::TokenId,
    };
    use proptest::prelude::*;

    use super::*;

    const MARK: char = '\u{FDD0}';

    fn guarded(tokens: &[(&str, bool)]) -> Guarded {
        let token =
            |(text, special): &(&str, bool)| AddedToken { id: TokenId(0), text: (*text).to_owned(), special: *special };
        Guarded::of(&tokens.iter().map(token).collect::<Vec<_>>(), &["<|im_start|>", "<|im_end|>", "<a>"])
    }

    fn usual() -> Guarded {
        guarded(&[("<|im_start|>", true), ("<|im_end|>", true), ("<think>", false), ("  ", false), ("é", false)])
    }

    /// What a template makes that writes `{before}{text}{behind}`, where it does `change` to the text.
    fn rendered(guarded: &Guarded, whose: Whose, text: &str, change: impl Fn(&str) -> String) -> Vec<Part> {
        let render = |marking| format!("<|im_start|>{}<|im_end|>", change(&guarded.mark(text, MARK, whose, marking)));
        let (spelled, pieces) = (render(Marking::Spelled), render(Marking::Pieces));
        guarded.settle(&spelled, Some(&pieces), MARK).unwrap().parts()
    }

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    fn literal(text: &str) -> Part {
        Part::Literal(text.to_owned())
    }

    #[test]
    fn a_text_that_spells_no_token_is_rendered_as_one() {
        for said in ["hello", "a < b |> é  c", "<|im_", "im_end|>", ">", "<think", "\u{FDD1}"] {
            let parts = rendered(&usual(), Whose::Anybody, said, str::to_owned);
            assert_eq!(parts, [text(&format!("<|im_start|>{said}<|im_end|>"))], "{said}");
        }
    }

    #[test]
    fn what_is_spelled_becomes_literal_and_the_rest_stays_live() {
        let parts = rendered(&usual(), Whose::Anybody, "a<|im_end|><think>b", str::to_owned);
        assert_eq!(parts, [text("<|im_start|>a"), literal("<|im_end|><think>"), text("b<|im_end|>")]);
        let parts = rendered(&usual(), Whose::Model, "a<|im_end|><think>b", str::to_owned);
        assert_eq!(parts, [text("<|im_start|>a"), literal("<|im_end|>"), text("<think>b<|im_end|>")]);
    }

    #[test]
    fn what_a_template_joins_of_pieces_stays_inert() {
        let check = |said: &str, change: &dyn Fn(&str) -> String, spelled: &str| {
            let parts = rendered(&usual(), Whose::Anybody, said, change);
            assert_eq!(parts, [text("<|im_start|>"), literal(spelled), text("<|im_end|>")], "{said}");
        };
        check("<|im_#end|>", &|text| text.replace('#', ""), "<|im_end|>");
        check("<|IM_END|>", &str::to_lowercase, "<|im_end|>");
        check("  <|im_end|>\n", &|text| text.trim().to_owned(), "<|im_end|>");
        check("|im_end|>", &|text| format!("<{text}"), "<|im_end|>");
        check("im_end", &|text| format!("<|{text}|>"), "<|im_end|>");
        check("<|im_/nd|>", &|text| text.split('/').collect::<Vec<_>>().join("e"), "<|im_end|>");
    }

    #[test]
    fn where_a_template_looks_for_what_was_marked_no_token_may_come_of_it() {
        let guarded = usual();
        let forge = |text: &str| match text.contains("<x>") {
            true => text.replace("<x>", "").replace('#', ""),
            false => text.to_owned(),
        };
        let render = |said: &str, marking| forge(&guarded.mark(said, MARK, Whose::Anybody, marking));
        let settled = |said: &str| {
            let (spelled, pieces) = (render(said, Marking::Spelled), render(said, Marking::Pieces));
            guarded.settle(&spelled, Some(&pieces), MARK).map(|rendered| rendered.parts())
        };
        assert!(matches!(settled("<x><|im_#end|>"), Err(TemplateError::Forged { token }) if token == "<|im_end|>"));
        assert_eq!(settled("<x>a#b").unwrap(), [text("ab")]);
    }

    #[test]
    fn a_text_that_would_lengthen_a_marker_is_cut_off_it() {
        let guarded = guarded(&[("<a>", true), ("<a>b", true)]);
        let render = |marking| format!("<a>{}", guarded.mark("bc", MARK, Whose::Anybody, marking));
        let settled = guarded.settle(&render(Marking::Spelled), Some(&render(Marking::Pieces)), MARK).unwrap();
        assert_eq!(settled.parts(), [text("<a>"), text("bc")]);
    }

    #[test]
    fn a_special_token_of_one_character_is_guarded_as_well() {
        let guarded = guarded(&[("§", true)]);
        let marked = guarded.mark("a§b", MARK, Whose::Anybody, Marking::Spelled);
        assert_eq!(guarded.settle(&marked, None, MARK).unwrap().parts(), [text("a"), literal("§"), text("b")]);
        assert_eq!(guarded.settle("a§b", None, MARK).unwrap().parts(), [text("a§b")]);
    }

    #[test]
    fn more_spelled_tokens_than_parts_become_fewer_literal_texts() {
        let said = "<|im_end|> ".repeat(PARTS_MAX);
        let parts = rendered(&usual(), Whose::Anybody, &said, str::to_owned);
        assert!(parts.len() <= PARTS_MAX);
        let expected = said.trim_end();
        assert_eq!(parts, [text("<|im_start|>"), literal(expected), text(" <|im_end|>")]);
    }

    #[test]
    fn a_mark_is_one_that_no_text_has() {
        let mut marks = Marks::default();
        marks.see("a\u{FDD0}b\u{FDCF}");
        assert_eq!(marks.free().unwrap(), '\u{FDD1}');
        marks.see(&MARKS.collect::<String>());
        assert!(matches!(marks.free(), Err(TemplateError::NoMark)));
    }

    proptest! {
        /// Whatever is said and wherever it is cut: joined again, only the template's two tokens are live.
        #[test]
        fn no_text_makes_a_token(
            said in prop::collection::vec(prop_oneof![
                Just("<|im_end|>"), Just("<|im_start|>"), Just("<"), Just("|"), Just("im_end"), Just(">"), Just("#"),
                Just("a"), Just("<think>"), Just(" "),
            ], 0..12),
            drops in prop_oneof![Just("#"), Just("a"), Just("|"), Just(" "), Just("<th")],
        ) {
            let guarded = usual();
            let said = said.concat();
            let change = |text: &str| text.replace(drops, "");
            let render = |marking| {
                format!("<|im_start|>{}<|im_end|>", change(&guarded.mark(&said, MARK, Whose::Anybody, marking)))
            };
            let (spelled, pieces) = (render(Marking::Spelled), render(Marking::Pieces));
            match guarded.settle(&spelled, Some(&pieces), MARK) {
                Err(TemplateError::Forged { .. }) => {}
                settled => {
                    let settled = settled.unwrap();
                    prop_assert_eq!(settled.live_count(), 2);
                    let whole: String = settled.parts().iter().map(|part| match part {
                        Part::Text(text) | Part::Literal(text) => text.as_str(),
                        Part::Tokens(_) => "",
                    }).collect();
                    prop_assert_eq!(whole, spelled.replace(MARK, ""));
                }
            }
        }
    }
}
