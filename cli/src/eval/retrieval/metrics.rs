//! How well queries and documents find each other. Pure.
//!
//! Each pair's own partner is looked for among all others, both ways: its rank is 1 plus how many wrong ones score
//! at least as high, so that ties help nobody. Another pair with the same query or the same document is not wrong.

use std::{cmp::Ordering, collections::HashMap};

use serde::Serialize;

use super::pairs::Pair;
use crate::eval::bootstrap::{Figure, Resamples};

/// The ranks beyond which nobody looks.
const NDCG_DEPTH: usize = 10;

/// How alike each query is to each document, `[pairs, pairs]`, a row a query.
pub(super) struct Scores {
    count: usize,
    values: Vec<f32>,
}

impl Scores {
    /// Of rows that `row` gives, one a query.
    ///
    /// # Panics
    /// If a row is not as long as there are queries.
    pub(super) fn of(count: usize, mut row: impl FnMut(usize) -> Vec<f32>) -> Self {
        let mut values = Vec::with_capacity(count * count);
        for query in 0..count {
            values.extend(row(query));
            assert_eq!(values.len(), (query + 1) * count, "a score a document");
        }
        Self { count, values }
    }

    /// Of a query and a document.
    pub(super) fn at(&self, query: usize, document: usize) -> f32 {
        self.values[query * self.count + document]
    }
}

/// Which documents answer which queries: a pair's own, and those of pairs that are equal in one of the two.
pub(super) struct Answers {
    queries: Vec<usize>,
    documents: Vec<usize>,
}

impl Answers {
    /// By the pairs' texts.
    pub(super) fn of(pairs: &[Pair]) -> Self {
        Self {
            queries: groups(pairs.iter().map(|pair| pair.query.as_str())),
            documents: groups(pairs.iter().map(|pair| pair.document.as_str())),
        }
    }

    /// So many pairs of which no two are alike.
    pub(super) fn apart(count: usize) -> Self {
        let own: Vec<_> = (0..count).collect();
        Self { queries: own.clone(), documents: own }
    }

    /// Whether one pair's document answers another's query.
    pub(super) fn are(&self, query: usize, document: usize) -> bool {
        self.queries[query] == self.queries[document] || self.documents[query] == self.documents[document]
    }
}

/// Equal texts get equal numbers.
fn groups<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let mut known = HashMap::new();
    texts
        .map(|text| {
            let next = known.len();
            *known.entry(text).or_insert(next)
        })
        .collect()
}

/// Where each pair's partner stands, from 1: its document for its query, and its query for its document.
#[derive(Debug, PartialEq)]
pub(super) struct Ranks {
    /// Of documents, a query each.
    pub(super) documents: Vec<usize>,
    /// Of queries, a document each.
    pub(super) queries: Vec<usize>,
}

impl Ranks {
    /// How many partners stand first, the mean of both ways; of no pairs 0.
    pub(super) fn recall_at_1(&self) -> f64 {
        let all = self.documents.iter().chain(&self.queries);
        all.clone().map(|rank| recall(*rank, 1)).sum::<f64>() / all.count().max(1) as f64
    }
}

/// Ranks both ways.
pub(super) fn ranks(scores: &Scores, answers: &Answers) -> Ranks {
    let mut ranks = Ranks { documents: vec![1; scores.count], queries: vec![1; scores.count] };
    for query in 0..scores.count {
        for document in (0..scores.count).filter(|document| !answers.are(query, *document)) {
            let score = scores.at(query, document);
            // What is no number does not help either.
            let above = |partner: usize| score.partial_cmp(&scores.at(partner, partner)) != Some(Ordering::Less);
            ranks.documents[query] += usize::from(above(query));
            ranks.queries[document] += usize::from(above(document));
        }
    }
    ranks
}

/// What is measured of one way, each the mean over pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Measures {
    /// How many partners stand first.
    pub(super) recall_at_1: Figure,
    /// How many are among the first 5.
    pub(super) recall_at_5: Figure,
    /// How many are among the first 10.
    pub(super) recall_at_10: Figure,
    /// One over the rank (mean reciprocal rank).
    pub(super) mrr: Figure,
    /// Discounted cumulative gain of the first 10: one partner at rank `r` is worth `1 / log2(1 + r)` (Järvelin and
    /// Kekäläinen 2002), which is 1 at best.
    pub(super) ndcg_at_10: Figure,
}

/// What is measured of both ways, and of both together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Measured {
    /// Documents found by queries.
    pub(super) query_to_document: Measures,
    /// Queries found by documents.
    pub(super) document_to_query: Measures,
    /// The mean of the two.
    pub(super) mean: Measures,
}

/// Measures ranks, with intervals.
pub(super) fn measure(ranks: &Ranks, resamples: &Resamples) -> Measured {
    let both = |gain: fn(usize) -> f64| -> Vec<f64> {
        ranks.documents.iter().zip(&ranks.queries).map(|(one, other)| (gain(*one) + gain(*other)) / 2.0).collect()
    };
    let one = |ranks: &[usize], gain: fn(usize) -> f64| -> Vec<f64> { ranks.iter().map(|rank| gain(*rank)).collect() };
    let of = |gains: &dyn Fn(fn(usize) -> f64) -> Vec<f64>| Measures {
        recall_at_1: resamples.mean(&gains(|rank| recall(rank, 1))),
        recall_at_5: resamples.mean(&gains(|rank| recall(rank, 5))),
        recall_at_10: resamples.mean(&gains(|rank| recall(rank, 10))),
        mrr: resamples.mean(&gains(|rank| 1.0 / rank as f64)),
        ndcg_at_10: resamples.mean(&gains(ndcg)),
    };
    Measured {
        query_to_document: of(&|gain| one(&ranks.documents, gain)),
        document_to_query: of(&|gain| one(&ranks.queries, gain)),
        mean: of(&both),
    }
}

/// By how much one's recall at 1, the mean of both ways, is above another's on the same pairs.
pub(super) fn difference(ranks: &Ranks, others: &Ranks, resamples: &Resamples) -> Figure {
    let hits = |ranks: &Ranks, pair: usize| recall(ranks.documents[pair], 1) + recall(ranks.queries[pair], 1);
    let pairs = 0..ranks.documents.len();
    resamples.mean(&pairs.map(|pair| (hits(ranks, pair) - hits(others, pair)) / 2.0).collect::<Vec<_>>())
}

fn recall(rank: usize, depth: usize) -> f64 {
    if rank <= depth { 1.0 } else { 0.0 }
}

fn ndcg(rank: usize) -> f64 {
    if rank <= NDCG_DEPTH { 1.0 / (1.0 + rank as f64).log2() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(texts: &[(&str, &str)]) -> Vec<Pair> {
        let pair = |(query, document): &(&str, &str)| Pair { query: (*query).into(), document: (*document).into() };
        texts.iter().map(pair).collect()
    }

    /// Ranks of pairs whose scores are these.
    fn ranked(texts: &[(&str, &str)], scores: [[f32; 3]; 3]) -> Ranks {
        ranks(&Scores::of(3, |query| scores[query].to_vec()), &Answers::of(&pairs(texts)))
    }

    const THREE: [(&str, &str); 3] = [("a", "A"), ("b", "B"), ("c", "C")];

    #[test]
    fn of_pairs_that_are_apart_each_finds_its_own_or_does_not() {
        let recall = |values: [[f32; 2]; 2]| {
            ranks(&Scores::of(2, |query| values[query].to_vec()), &Answers::apart(2)).recall_at_1()
        };
        assert_eq!(recall([[1.0, 0.0], [0.0, 1.0]]), 1.0);
        // Both queries are as near to the first document: it finds neither, and the second query does not find its own.
        assert_eq!(recall([[1.0, 0.0], [1.0, 0.5]]), 0.5);
        assert_eq!(ranks(&Scores::of(0, |_| Vec::new()), &Answers::apart(0)).recall_at_1(), 0.0);
    }

    #[test]
    fn a_rank_counts_the_wrong_ones_above() {
        let found = ranked(&THREE, [[0.9, 0.1, 0.2], [0.8, 0.7, 0.6], [0.5, 0.4, 0.3]]);
        assert_eq!(found, Ranks { documents: vec![1, 2, 3], queries: vec![1, 1, 2] });
    }

    #[test]
    fn ties_and_what_is_no_number_help_nobody() {
        let same = ranked(&THREE, [[0.5; 3]; 3]);
        assert_eq!(same, Ranks { documents: vec![3; 3], queries: vec![3; 3] });
        let none = ranked(&THREE, [[f32::NAN; 3]; 3]);
        assert_eq!(none, same);
    }

    #[test]
    fn what_answers_as_well_is_not_wrong() {
        // The second pair has the first one's document, the third the first one's query.
        let texts = [("a", "A"), ("b", "A"), ("a", "C")];
        let found = ranked(&texts, [[0.5; 3]; 3]);
        assert_eq!(found, Ranks { documents: vec![1, 2, 2], queries: vec![1, 2, 2] });
    }

    #[test]
    fn measures_are_those_computed_by_hand() {
        let ranks = Ranks { documents: vec![1, 2, 11, 6], queries: vec![1, 1, 1, 4] };
        let measured = measure(&ranks, &Resamples::new(4, 10, 1));
        let expect = |figure: Figure, expected: f64| assert!((figure.value - expected).abs() < 1e-12, "{figure:?}");
        expect(measured.query_to_document.recall_at_1, 0.25);
        expect(measured.query_to_document.recall_at_5, 0.5);
        expect(measured.query_to_document.recall_at_10, 0.75);
        expect(measured.query_to_document.mrr, (1.0 + 0.5 + 1.0 / 11.0 + 1.0 / 6.0) / 4.0);
        // 1 / log2(2), 1 / log2(3) and 1 / log2(7), by an independent computation.
        expect(measured.query_to_document.ndcg_at_10, (1.0 + 0.630_929_753_571_457_4 + 0.356_207_187_108_022_2) / 4.0);
        expect(measured.document_to_query.recall_at_1, 0.75);
        expect(measured.document_to_query.recall_at_5, 1.0);
        expect(measured.mean.recall_at_1, 0.5);
        expect(measured.mean.mrr, (measured.query_to_document.mrr.value + measured.document_to_query.mrr.value) / 2.0);
    }

    #[test]
    fn a_difference_is_that_of_the_same_pairs() {
        let one = Ranks { documents: vec![1, 1, 3, 1], queries: vec![1, 2, 2, 1] };
        let other = Ranks { documents: vec![1, 2, 3, 1], queries: vec![1, 2, 2, 5] };
        assert!((difference(&one, &other, &Resamples::new(4, 10, 1)).value - 0.25).abs() < 1e-12);
    }
}
