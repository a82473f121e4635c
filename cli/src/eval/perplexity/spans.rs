//! How well tokens were predicted, early and late. Pure.
//!
//! A perplexity is `exp` of minus the mean log-probability of its tokens. A ratio of two is that of the same tokens; its
//! interval takes their differences for independent, which tokens next to each other are not quite.

use std::ops::Range;

use serde::Serialize;

use crate::eval::bootstrap::Figure;

/// 95 % of a normal distribution lie within so many standard deviations.
const DEVIATIONS: f64 = 1.96;

/// The tokens behind each of `after` windows and before the next of these; never the first, which nothing predicts.
pub(super) fn spans(len: usize, size: usize, after: &[usize]) -> Vec<(usize, Range<usize>)> {
    let mut starts: Vec<(usize, usize)> =
        after.iter().map(|windows| (*windows, windows.saturating_mul(size).max(1))).collect();
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).map(|(_, start)| (*start).min(len)).chain([len]);
    let spans = starts.iter().zip(ends).map(|((windows, start), end)| (*windows, *start..end));
    spans.filter(|(_, span)| span.start < span.end).collect()
}

/// The perplexity of tokens with these log-probabilities; `None` of none.
pub(super) fn perplexity(logprobs: &[f64]) -> Option<f64> {
    (!logprobs.is_empty()).then(|| (-mean(logprobs)).exp())
}

/// One's perplexity over another's, on the same tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Ratio(pub(super) Figure);

/// How much worse the first predicts; `None` of no token.
pub(super) fn ratio(logprobs: &[f64], others: &[f64]) -> Option<Ratio> {
    let differences: Vec<f64> = logprobs.iter().zip(others).map(|(one, other)| other - one).collect();
    if differences.is_empty() {
        return None;
    }
    let mean = mean(&differences);
    let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
    let count = differences.len() as f64;
    let error = DEVIATIONS * (squares / (count - 1.0).max(1.0) / count).sqrt();
    Some(Ratio(Figure { value: mean.exp(), low: (mean - error).exp(), high: (mean + error).exp() }))
}

/// Perplexities of runs of tokens, each with the place of its middle.
pub(super) fn course(logprobs: &[f64], from: usize, run: usize) -> Vec<(f64, f64)> {
    let runs = logprobs.get(from..).unwrap_or_default().chunks(run.max(1)).enumerate();
    let whole = runs.filter(|(_, chunk)| 2 * chunk.len() > run);
    whole.filter_map(|(at, chunk)| Some(((from + at * run + chunk.len() / 2) as f64, perplexity(chunk)?))).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_end_where_the_next_begins_or_the_text() {
        assert_eq!(spans(1000, 8, &[10, 1, 100]), [(1, 8..80), (10, 80..800), (100, 800..1000)]);
        assert_eq!(spans(80, 8, &[1, 10, 100]), [(1, 8..80)]);
        assert_eq!(spans(8, 8, &[1]), []);
        assert_eq!(spans(20, 8, &[0, 1]), [(0, 1..8), (1, 8..20)]);
    }

    #[test]
    fn perplexities_are_those_computed_by_hand() {
        // Probabilities of 1/2 and 1/8: the geometric mean is 1/4.
        let logprobs = [0.5_f64.ln(), 0.125_f64.ln()];
        assert!((perplexity(&logprobs).unwrap_or(0.0) - 4.0).abs() < 1e-12);
        assert_eq!(perplexity(&[]), None);
    }

    #[test]
    fn a_ratio_is_that_of_the_perplexities_with_its_error() {
        let (one, other) = ([-1.0, -2.0, -3.0, -4.0], [-1.1, -1.9, -2.8, -3.8]);
        let found = ratio(&one, &other).map(|Ratio(figure)| figure).unwrap_or_default();
        // By Python: statistics.fmean and statistics.stdev of the differences.
        let mean = 0.1_f64;
        let error = 1.96 * 0.141_421_356_237_309_5 / 2.0;
        for (found, expected) in [(found.value, mean), (found.low, mean - error), (found.high, mean + error)] {
            assert!((found - expected.exp()).abs() < 1e-12, "{found}, not {}", expected.exp());
        }
    }

    #[test]
    fn a_course_has_a_point_a_run() {
        let logprobs = [0.0, 0.5_f64.ln(), 0.5_f64.ln(), 0.25_f64.ln(), 0.25_f64.ln(), 0.0];
        let points = course(&logprobs, 1, 2);
        assert_eq!(points.iter().map(|point| point.0).collect::<Vec<_>>(), [2.0, 4.0]);
        assert!((points[0].1 - 2.0).abs() < 1e-12 && (points[1].1 - 4.0).abs() < 1e-12, "{points:?}");
    }
}
