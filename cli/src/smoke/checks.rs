//! Whether what a smoke test saw is as it should be. Pure.

use motorbrain::{Slides, Window};
use serde::Serialize;

/// How equal two vectors of the same text must be. Models with quantised activations read a text that
/// is cut differently a little differently; the same text alone twice differs by rounding only.
const SAME_COSINE: f64 = 0.999;

/// Vectors of different texts that are closer than this are one and the same.
const STUCK_COSINE: f64 = 0.999_999;

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Turn {
    /// Counted from 1.
    pub(super) turn: usize,
    /// Tokens of the turn's text.
    pub(super) tokens: usize,
    /// Tokens in the context afterwards.
    pub(super) context_len: usize,
    /// Bytes of the context's keys and values.
    pub(super) kv_bytes: usize,
    /// Cosine of the turn's vector and the one before.
    pub(super) cosine: Option<f64>,
    /// Length of the turn's vector.
    pub(super) length: f64,
    /// How long it took.
    pub(super) ms: f64,
}

/// Everything the test saw.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The window in force.
    pub(super) window: Window,
    /// The turns until the window had slid, or was full.
    pub(super) turns: Vec<Turn>,
    /// Bytes of KV memory as the actor last reported them, while the conversation was alive.
    pub(super) resident: usize,
    /// Whether a turn was refused with `context_full`.
    pub(super) refused: bool,
    /// After a reset, the first text again.
    pub(super) again: Again,
    /// How many tokens were sampled at the end.
    pub(super) sampled: usize,
    /// Their text.
    pub(super) text: String,
}

/// The first text, embedded again after a reset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    /// With the vector of the first time.
    pub(super) cosine: f64,
    /// Tokens of the text.
    pub(super) tokens: usize,
    /// Tokens in the context afterwards.
    pub(super) context_len: usize,
}

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Check {
    /// What it is about.
    pub(super) name: &'static str,
    /// Whether it holds.
    pub(super) passed: bool,
    /// What was seen.
    pub(super) seen: String,
}

/// Every check, in the order of the test.
pub(super) fn all(seen: &Seen, normalize: bool) -> Vec<Check> {
    vec![cache_grows(seen), vectors(seen, normalize), drift(seen), slide(seen), reset(seen), step(seen)]
}

/// Whether a turn's context is longer by just its tokens than the one before.
fn grew(before: usize, turn: &Turn) -> bool {
    turn.context_len == before + turn.tokens
}

/// The contexts before each turn.
fn before(turns: &[Turn]) -> impl Iterator<Item = usize> {
    std::iter::once(0).chain(turns.iter().map(|turn| turn.context_len))
}

/// The index of the first turn in which tokens left.
fn first_slide(turns: &[Turn]) -> Option<usize> {
    before(turns).zip(turns).position(|(before, turn)| !grew(before, turn))
}

/// How many turns there were since the first one in which tokens left, that one among them.
pub(super) fn turns_since_slide(turns: &[Turn]) -> usize {
    first_slide(turns).map_or(0, |first| turns.len() - first)
}

fn cache_grows(seen: &Seen) -> Check {
    let growing = first_slide(&seen.turns).unwrap_or(seen.turns.len());
    let context_len = seen.turns.get(growing.wrapping_sub(1)).map_or(0, |turn| turn.context_len);
    Check {
        name: "the cache grows",
        passed: growing > 0 && seen.resident > 0,
        seen: format!(
            "by each turn's own tokens, to {context_len} in {growing} turns; {} KiB resident",
            seen.resident / 1024
        ),
    }
}

fn vectors(seen: &Seen, normalize: bool) -> Check {
    let lengths = seen.turns.iter().map(|turn| turn.length);
    let good = |length: f64| length.is_finite() && length > 0.0 && (!normalize || (length - 1.0).abs() < 1e-3);
    let (least, most) = lengths.clone().fold((f64::INFINITY, 0.0), |(least, most), x| (x.min(least), x.max(most)));
    Check {
        name: "vectors are vectors",
        passed: !seen.turns.is_empty() && lengths.into_iter().all(good),
        seen: format!("lengths from {least:.4} to {most:.4}"),
    }
}

fn drift(seen: &Seen) -> Check {
    let cosines: Vec<_> = seen.turns.iter().filter_map(|turn| turn.cosine).collect();
    let (least, most) = cosines.iter().fold((1.0_f64, -1.0_f64), |(least, most), x| (x.min(least), x.max(most)));
    Check {
        name: "vectors drift",
        passed: !cosines.is_empty() && cosines.iter().all(|cosine| cosine.abs() < STUCK_COSINE),
        seen: format!("from one turn to the next by a cosine of {least:.4} to {most:.4}"),
    }
}

fn slide(seen: &Seen) -> Check {
    let size = seen.window.size;
    let inside = seen.turns.iter().all(|turn| turn.context_len <= size);
    let (slid, slides) = (first_slide(&seen.turns), seen.window.slides != Slides::Never);
    let (passed, seen) = match (slid, seen.refused) {
        (Some(first), _) => (slides, format!("in turn {}, never above {size} tokens", seen.turns[first].turn)),
        (None, true) => (!slides, format!("never: the window of {size} refuses what does not fit")),
        (None, false) => (false, format!("never, in {} turns; choose a smaller `window.size`", seen.turns.len())),
    };
    Check { name: "the window slides", passed: passed && inside, seen }
}

fn reset(seen: &Seen) -> Check {
    let again = seen.again;
    Check {
        name: "a reset empties",
        passed: again.cosine > SAME_COSINE && again.context_len == again.tokens,
        seen: format!("the first text again: {} tokens of context, cosine {:.6}", again.context_len, again.cosine),
    }
}

fn step(seen: &Seen) -> Check {
    Check {
        name: "a step goes on",
        passed: seen.sampled > 0,
        seen: format!("{} tokens: {:?}", seen.sampled, seen.text),
    }
}

/// The cosine of two vectors; 0 where one has no length.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let lengths = length(a) * length(b);
    if lengths > 0.0 { dot / lengths } else { 0.0 }
}

/// The length of a vector.
pub(super) fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test of three growing turns, then two behind a slide.
    fn seen() -> Seen {
        let turn = |turn, context_len, cosine| Turn {
            turn,
            tokens: 10,
            context_len,
            kv_bytes: 1,
            cosine,
            length: 1.0,
            ms: 0.1,
        };
        let turns = vec![
            turn(1, 10, None),
            turn(2, 20, Some(0.5)),
            turn(3, 30, Some(0.7)),
            turn(4, 32, Some(0.6)),
            turn(5, 26, Some(0.4)),
        ];
        Seen {
            window: Window { size: 32, sinks: 4, slide: 8, slides: Slides::Shift },
            turns,
            resident: 1,
            refused: false,
            again: Again { cosine: 1.0, tokens: 10, context_len: 10 },
            sampled: 8,
            text: "x".into(),
        }
    }

    /// The checks that fail after a change.
    fn check(change: impl FnOnce(&mut Seen)) -> Vec<&'static str> {
        let mut seen = seen();
        change(&mut seen);
        all(&seen, true).into_iter().filter(|check| !check.passed).map(|check| check.name).collect()
    }

    #[test]
    fn what_is_as_it_should_be_passes() {
        assert_eq!(check(|_| ()), [""; 0]);
        assert_eq!(turns_since_slide(&seen().turns), 2);
    }

    #[test]
    fn each_thing_that_is_wrong_fails_its_check() {
        assert_eq!(check(|seen| seen.resident = 0), ["the cache grows"]);
        assert_eq!(check(|seen| seen.turns[1].length = f64::NAN), ["vectors are vectors"]);
        assert_eq!(check(|seen| seen.turns[1].length = 2.0), ["vectors are vectors"]);
        assert_eq!(check(|seen| seen.turns[1].cosine = Some(1.0)), ["vectors drift"]);
        assert_eq!(check(|seen| seen.turns[3].context_len = 33), ["the window slides"]);
        assert_eq!(check(|seen| seen.turns.truncate(3)), ["the window slides"]);
        assert_eq!(check(|seen| seen.again.context_len = 36), ["a reset empties"]);
        assert_eq!(check(|seen| seen.again.cosine = 0.9), ["a reset empties"]);
        assert_eq!(check(|seen| seen.sampled = 0), ["a step goes on"]);
    }

    #[test]
    fn a_window_that_does_not_slide_must_refuse() {
        let full = |seen: &mut Seen| {
            seen.turns.truncate(3);
            seen.refused = true;
        };
        assert_eq!(check(full), ["the window slides"]);
        let no_slide = |seen: &mut Seen| {
            full(seen);
            seen.window.slides = Slides::Never;
        };
        assert_eq!(check(no_slide), [""; 0]);
    }

    #[test]
    fn cosines_are_those_of_the_angle() {
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 2.0]), 0.0);
        assert!((cosine(&[1.0, 1.0], &[3.0, 3.0]) - 1.0).abs() < 1e-12);
        assert_eq!(cosine(&[0.0], &[1.0]), 0.0);
    }
}
