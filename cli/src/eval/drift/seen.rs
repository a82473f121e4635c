//! What is seen turn by turn, and what it comes to. Pure.

use serde::Serialize;

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Turn {
    /// Counted from 1.
    pub(super) turn: usize,
    /// Tokens in the context behind it.
    pub(super) context_len: usize,
    /// Whether tokens left the window for it.
    pub(super) slid: bool,
    /// Cosine of its vector and the one before.
    pub(super) to_the_last: Option<f64>,
    /// Cosine of one and the same text's vector behind this turn and behind the first.
    pub(super) same_text: Option<f64>,
    /// The same behind this turn and behind the last turn before it where that was looked at.
    pub(super) same_text_to_the_last: Option<f64>,
}

/// What happens to vectors under some condition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Which.
    pub(super) what: &'static str,
    /// How many cosines there were.
    pub(super) count: usize,
    /// The lowest.
    pub(super) low: f64,
    /// Their mean.
    pub(super) mean: f64,
    /// The highest.
    pub(super) high: f64,
}

/// Whatever there is at least one cosine of.
pub(super) fn summaries(turns: &[Turn], restarts: &[f64], alone: &[f64]) -> Vec<Summary> {
    let (slid, grown): (Vec<&Turn>, Vec<&Turn>) = turns.iter().partition(|turn| turn.slid);
    let of = |turns: &[&Turn], value: fn(&Turn) -> Option<f64>| -> Vec<f64> {
        turns.iter().filter_map(|turn| value(turn)).collect()
    };
    let (early, late) = turns.split_at(turns.len() / 2);
    let first_half: Vec<&Turn> = early.iter().collect();
    let second_half: Vec<&Turn> = late.iter().collect();
    let all = [
        ("one turn to the next, nothing left", of(&grown, |turn| turn.to_the_last)),
        ("one turn to the next, over a slide", of(&slid, |turn| turn.to_the_last)),
        ("one text, now and at the beginning, first half", of(&first_half, |turn| turn.same_text)),
        ("one text, now and at the beginning, second half", of(&second_half, |turn| turn.same_text)),
        ("one text, from look to look", of(&turns.iter().collect::<Vec<_>>(), |turn| turn.same_text_to_the_last)),
        ("one text, before and after a restart", restarts.to_vec()),
        ("one text without a conversation, now and at the beginning", alone.to_vec()),
    ];
    all.into_iter().filter_map(|(what, cosines)| summary(what, &cosines)).collect()
}

fn summary(what: &'static str, cosines: &[f64]) -> Option<Summary> {
    let (low, high) =
        cosines.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
    let count = cosines.len();
    (count > 0).then(|| Summary { what, count, low, mean: cosines.iter().sum::<f64>() / count as f64, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(turn: usize, slid: bool, to_the_last: Option<f64>, same_text: Option<f64>) -> Turn {
        Turn { turn, context_len: 8, slid, to_the_last, same_text, same_text_to_the_last: None }
    }

    #[test]
    fn each_condition_has_its_own_cosines() {
        let turns = [
            turn(1, false, None, Some(1.0)),
            turn(2, false, Some(0.5), Some(0.9)),
            turn(3, true, Some(0.1), None),
            turn(4, false, Some(0.7), Some(0.8)),
        ];
        let found: Vec<_> =
            summaries(&turns, &[], &[1.0]).into_iter().map(|row| (row.count, row.low, row.high)).collect();
        assert_eq!(found, [(2, 0.5, 0.7), (1, 0.1, 0.1), (2, 0.9, 1.0), (1, 0.8, 0.8), (1, 1.0, 1.0)]);
        assert!((summaries(&turns, &[], &[])[0].mean - 0.6).abs() < 1e-12);
    }
}
