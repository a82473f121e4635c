//! What callers have seen, and the figures of it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Answer;

/// What callers have seen until the end. Times are in seconds.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// From a chat's request to its first piece.
    firsts: Vec<f64>,
    /// From one piece to the next.
    gaps: Vec<f64>,
    /// From a text to its vector.
    vectors: Vec<f64>,
    /// Tokens of chats, of one that was under way at the end as much as had come.
    tokens: f64,
    chats: usize,
    /// How often somebody was told to come again.
    pub(super) busy: usize,
}

impl Gathered {
    pub(super) fn take(&mut self, answer: &Answer, ends: Instant) {
        match answer {
            Answer::Chat { asked, came, tokens } => {
                let counted = came.iter().take_while(|at| **at <= ends).count();
                self.firsts.extend(came[..counted].first().map(|at| (*at - *asked).as_secs_f64()));
                self.gaps.extend(came[..counted].windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()));
                self.tokens += *tokens as f64 * counted as f64 / came.len().max(1) as f64;
                self.chats += usize::from(counted == came.len());
            }
            Answer::Vector { asked } if Instant::now() <= ends => self.vectors.push(asked.elapsed().as_secs_f64()),
            Answer::Vector { .. } | Answer::Busy(_) => {}
        }
    }

    pub(super) fn join(&mut self, other: Self) {
        self.firsts.extend(other.firsts);
        self.gaps.extend(other.gaps);
        self.vectors.extend(other.vectors);
        self.tokens += other.tokens;
        self.chats += other.chats;
        self.busy += other.busy;
    }

    /// The figures: rates are a second, the rest is seconds and bytes.
    pub(super) fn report(mut self, over: Duration, resident: &[u64]) -> Value {
        let seconds = over.as_secs_f64();
        let most = |looks: &[u64]| looks.iter().copied().max().unwrap_or(0);
        let (first, second) = resident.split_at(resident.len() / 2);
        json!({
            "tokens_per_second": self.tokens / seconds,
            "chats": self.chats,
            "vectors_per_second": self.vectors.len() as f64 / seconds,
            "busy": self.busy,
            "first": percentiles(&mut self.firsts),
            "gap": percentiles(&mut self.gaps),
            "vector": percentiles(&mut self.vectors),
            "resident": { "first_half": most(first), "second_half": most(second) },
        })
    }
}

fn percentiles(seconds: &mut [f64]) -> Value {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = seconds.len().checked_sub(1)?;
        Some(seconds[(share * last as f64).round() as usize])
    };
    json!({ "p50": at(0.5), "p99": at(0.99) })
}
