//! A rendered text, in which it is known what is whose, and the input that it becomes.

use std::{collections::BTreeMap, ops::Range};

use motorbrain_actors::message::{PARTS_MAX, Part};

/// A rendered text, in which it is known what is whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) text: String,
    /// Where tokens are spelled, in order.
    pub(super) spans: Vec<Span>,
}

/// A token that is spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) range: Range<usize>,
    pub(super) kind: Kind,
}

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The template's.
    Live,
    /// The same, in front of somebody's text that would make a longer token of it.
    Cut,
    /// Somebody else's.
    Literal,
}

impl Rendered {
    /// How often each token is the template's.
    pub(super) fn live(&self) -> BTreeMap<&str, usize> {
        let mut live = BTreeMap::new();
        for span in self.spans.iter().filter(|span| span.kind != Kind::Literal) {
            *live.entry(&self.text[span.range.clone()]).or_default() += 1;
        }
        live
    }

    /// How many tokens are the template's.
    pub(super) fn live_count(&self) -> usize {
        self.spans.iter().filter(|span| span.kind != Kind::Literal).count()
    }

    /// The text as an input: all of it one live text where nobody spells a token.
    pub(super) fn parts(&self) -> Vec<Part> {
        let parts = self.cut(false);
        if parts.len() <= PARTS_MAX { parts } else { self.cut(true) }
    }

    /// `coarsely`: what stands between two literal texts without a token of the template's is literal, too.
    fn cut(&self, coarsely: bool) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let (mut from, mut has_live) = (0, false);
        let text = |range: Range<usize>| self.text[range].to_owned();
        for span in &self.spans {
            let Range { start, end } = span.range.clone();
            match span.kind {
                Kind::Live => has_live = true,
                Kind::Cut => {
                    parts.push(Part::Text(text(from..end)));
                    (from, has_live) = (end, false);
                }
                Kind::Literal => {
                    match parts.last_mut() {
                        Some(Part::Literal(before)) if from == start || coarsely && !has_live => {
                            before.push_str(&self.text[from..end]);
                        }
                        _ => {
                            if from < start {
                                parts.push(Part::Text(text(from..start)));
                            }
                            parts.push(Part::Literal(text(start..end)));
                        }
                    }
                    (from, has_live) = (end, false);
                }
            }
        }
        if from < self.text.len() {
            parts.push(Part::Text(text(from..self.text.len())));
        }
        parts
    }
}
