//! What reranking adds: the first few that vectors find are put in another order by how likely the query is behind each.
//!
//! A document's score does not depend on the weight it is mixed with, so the model is asked once and every weight is
//! tried on its answers.

use std::collections::BTreeMap;

use motorbrain::{Brain, BrainError, Rerank};

use super::{
    metrics::{Answers, Ranks, Scores},
    pairs::Pair,
};

/// As many of those that vectors find are looked at again.
pub(super) const DEPTH: usize = 10;

/// What the model says of the first documents of each query: of a place among the documents, its score.
type Judged = Vec<BTreeMap<usize, f32>>;

/// What the model says of the first few, both ways.
pub(super) struct Reranked {
    documents: Judged,
    queries: Judged,
}

impl Reranked {
    /// Asks the model; `tell` is called with how many of the texts that look for others are done.
    pub(super) async fn by(
        brain: &Brain,
        rerank: &Rerank,
        cosines: &Scores,
        pairs: &[Pair],
        mut tell: impl FnMut(usize),
    ) -> Result<Self, BrainError> {
        let count = pairs.len();
        let queries: Vec<_> = pairs.iter().map(|pair| pair.query.as_str()).collect();
        let documents: Vec<_> = pairs.iter().map(|pair| pair.document.as_str()).collect();
        let of_documents = |query: usize| first(count, |document| cosines.at(query, document));
        let of_queries = |document: usize| first(count, |query| cosines.at(query, document));
        Ok(Self {
            documents: judged(brain, rerank, &queries, &documents, of_documents, &mut tell).await?,
            queries: judged(brain, rerank, &documents, &queries, of_queries, |done| tell(count + done)).await?,
        })
    }

    /// Where partners stand when the first few are ordered by cosine and so many parts of the model's score; all others
    /// stay where vectors have them.
    pub(super) fn ranks(&self, before: &Ranks, cosines: &Scores, answers: &Answers, mix: f32) -> Ranks {
        let rank = |asked: usize, found: &BTreeMap<usize, f32>, cosine: &dyn Fn(usize) -> f32, before: usize| {
            let mixed = |place: usize, score: f32| cosine(place) + mix * score;
            let Some(own) = found.get(&asked).map(|score| mixed(asked, *score)) else { return before };
            let wrong = found.iter().filter(|(place, _)| !answers.are(asked, **place));
            1 + wrong.filter(|(place, score)| mixed(**place, **score) >= own).count()
        };
        let way = |judged: &Judged, before: &[usize], cosine: &dyn Fn(usize, usize) -> f32| {
            let asked = judged.iter().zip(before).enumerate();
            asked.map(|(asked, (found, before))| rank(asked, found, &|place| cosine(asked, place), *before)).collect()
        };
        Ranks {
            documents: way(&self.documents, &before.documents, &|query, document| cosines.at(query, document)),
            queries: way(&self.queries, &before.queries, &|document, query| cosines.at(query, document)),
        }
    }
}

/// The places of the highest scores, best first; of equal ones the earlier.
fn first(count: usize, score: impl Fn(usize) -> f32) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_by(|one, other| score(*other).total_cmp(&score(*one)));
    places.truncate(DEPTH);
    places
}

/// What the model says of those that each text has found.
async fn judged(
    brain: &Brain,
    rerank: &Rerank,
    asked: &[&str],
    others: &[&str],
    found: impl Fn(usize) -> Vec<usize>,
    mut tell: impl FnMut(usize),
) -> Result<Judged, BrainError> {
    let mut judged = Vec::with_capacity(asked.len());
    for (at, query) in asked.iter().enumerate() {
        let found = found(at);
        let documents = found.iter().map(|place| others[*place].to_owned()).collect();
        // Weights are tried on what comes of it.
        let asked = Rerank { query: (*query).to_owned(), documents, mix: None, ..rerank.clone() };
        let reranked = brain.rerank(asked).await?;
        judged.push(found.into_iter().zip(reranked.scores).collect());
        tell(at + 1);
    }
    Ok(judged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_few_are_ordered_anew_and_the_others_stay() {
        let cosines =
            Scores::of(3, |query| [vec![0.5, 0.6, 0.1], vec![0.2, 0.9, 0.8], vec![0.3, 0.2, 0.1]][query].clone());
        let answers = Answers::apart(3);
        let before = super::super::metrics::ranks(&cosines, &answers);
        let judged = |scores: &[(usize, f32)]| scores.iter().copied().collect::<BTreeMap<_, _>>();
        let reranked = Reranked {
            // The second's own is pushed back, the third's is not among those that were looked at.
            documents: vec![
                judged(&[(0, 2.0), (1, 0.0)]),
                judged(&[(1, -1.0), (2, 0.0)]),
                judged(&[(0, 1.0), (1, 1.0)]),
            ],
            queries: vec![judged(&[]), judged(&[]), judged(&[])],
        };
        let ranks = |mix| reranked.ranks(&before, &cosines, &answers, mix);
        assert_eq!(ranks(0.0).documents, [2, 1, 3]);
        assert_eq!(ranks(0.2).documents, [1, 2, 3]);
        assert_eq!(ranks(0.2).queries, before.queries);
    }

    #[test]
    fn of_equal_ones_the_earlier_stands_first() {
        assert_eq!(first(3, |place| [0.1, 0.5, 0.5][place]), [1, 2, 0]);
        assert_eq!(first(20, |_| 0.0).len(), DEPTH);
    }
}
