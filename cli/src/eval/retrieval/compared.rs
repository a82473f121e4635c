//! One way to score pairs, measured: vectors cut and compared, ranks, and where it goes wrong. Pure.

use serde::Serialize;

use super::{
    Table,
    metrics::{self, Measured, Ranks, Scores},
};
use crate::eval::bootstrap::{Figure, Resamples};

/// How much of a text an example shows.
const SHOWN_LEN: usize = 80;

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Compared {
    /// Whose scores.
    pub(super) name: String,
    /// Numbers of each vector that count; `None` where there is no vector.
    pub(super) dim: Option<usize>,
    /// How good they are.
    #[serde(flatten)]
    pub(super) measured: Measured,
    /// How much above the first row's recall at 1 (the mean of both ways), on the same resamples; `None` of the first.
    pub(super) against_the_first: Option<Figure>,
    /// Queries whose best document is a wrong one, those by the most first.
    pub(super) confusions: Vec<Confusion>,
}

/// A query that finds another's document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Confusion {
    /// What was asked, shortened like all texts here.
    pub(super) query: String,
    /// What answers it.
    pub(super) document: String,
    /// What was found instead.
    pub(super) found: String,
    /// Where the answer stands.
    pub(super) rank: usize,
}

/// Cosines of the first `dim` numbers of all queries and all documents.
pub(super) fn cosines(queries: &[Vec<f32>], documents: &[Vec<f32>], dim: usize) -> Scores {
    let documents: Vec<Vec<f32>> = documents.iter().map(|vector| unit(vector, dim)).collect();
    Scores::of(queries.len(), |query| {
        let query = unit(&queries[query], dim);
        documents.iter().map(|document| document.iter().zip(&query).map(|(one, other)| one * other).sum()).collect()
    })
}

/// The first numbers of a vector, as one of length 1.
fn unit(vector: &[f32], dim: usize) -> Vec<f32> {
    let cut = &vector[..dim.min(vector.len())];
    let length = cut.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    cut.iter().map(|x| (f64::from(*x) / length) as f32).collect()
}

/// Ranks and measures scores.
pub(super) fn compare(name: &str, dim: Option<usize>, scores: &Scores, table: &Table) -> (Compared, Ranks) {
    let (mut compared, ranks) = ranked(name, dim, metrics::ranks(scores, &table.answers), &table.resamples);
    compared.confusions = confusions(scores, &ranks, table);
    (compared, ranks)
}

/// Measures ranks.
pub(super) fn ranked(name: &str, dim: Option<usize>, ranks: Ranks, resamples: &Resamples) -> (Compared, Ranks) {
    let measured = metrics::measure(&ranks, resamples);
    (Compared { name: name.into(), dim, measured, against_the_first: None, confusions: Vec::new() }, ranks)
}

/// Rows that say how they differ from the first.
pub(super) fn against_the_first(rows: Vec<(Compared, Ranks)>, resamples: &Resamples) -> Vec<Compared> {
    let (mut compared, ranks): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    if let Some((first, others)) = ranks.split_first() {
        for (row, ranks) in compared.iter_mut().skip(1).zip(others) {
            row.against_the_first = Some(metrics::difference(ranks, first, resamples));
        }
    }
    compared
}

fn confusions(scores: &Scores, ranks: &Ranks, table: &Table) -> Vec<Confusion> {
    let count = table.pairs.len();
    let wrong = |query: usize| {
        let others = (0..count).filter(|document| !table.answers.are(query, *document));
        let best = others.max_by(|one, other| scores.at(query, *one).total_cmp(&scores.at(query, *other)))?;
        Some((query, best, scores.at(query, best) - scores.at(query, query)))
    };
    let mut found: Vec<_> = (0..count).filter(|query| ranks.documents[*query] > 1).filter_map(wrong).collect();
    found.sort_by(|one, other| other.2.total_cmp(&one.2));
    let shown = found.into_iter().take(table.examples).map(|(query, best, _)| Confusion {
        query: shortened(&table.pairs[query].query),
        document: shortened(&table.pairs[query].document),
        found: shortened(&table.pairs[best].document),
        rank: ranks.documents[query],
    });
    shown.collect()
}

/// The beginning of a text, in one line.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_LEN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_are_those_of_the_first_numbers() {
        let scores = cosines(&[vec![3.0, 4.0, 9.0], vec![0.0; 3]], &[vec![5.0, 0.0, 1.0], vec![0.0, 2.0, 7.0]], 2);
        let found = [scores.at(0, 0), scores.at(0, 1), scores.at(1, 0)];
        for (found, expected) in found.into_iter().zip([0.6, 0.8, 0.0]) {
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        assert_eq!(shortened("a\n  b"), "a b");
        assert_eq!(shortened(&"ä".repeat(81)), format!("{}…", "ä".repeat(80)));
    }
}
