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

/// What the model says of the first few documents that each query finds.
///
/// Queries that documents find keep their places: nobody reranks that way, and it would take several times as long, since
/// what is read anew behind each candidate is what is looked for. Of a place among the documents, its score.
pub(super) struct Reranked(Vec<BTreeMap<usize, f32>>);

impl Reranked {
    /// Asks the model; `tell` is called with how many queries are done.
    pub(super) async fn by(
        brain: &Brain,
        rerank: &Rerank,
        cosines: &Scores,
        pairs: &[Pair],
        mut tell: impl FnMut(usize),
    ) -> Result<Self, BrainError> {
        let mut judged = Vec::with_capacity(pairs.len());
        for (query, pair) in pairs.iter().enumerate() {
            let found = first(pairs.len(), |document| cosines.at(query, document));
            let documents = found.iter().map(|place| pairs[*place].document.clone()).collect();
            // Weights are tried on what comes of it.
            let asked = Rerank { query: pair.query.clone(), documents, mix: None, ..rerank.clone() };
            let reranked = brain.rerank(asked).await?;
            judged.push(found.into_iter().zip(reranked.scores).collect());
            tell(query + 1);
        }
        Ok(Self(judged))
    }

    /// Where partners stand when the first few documents are ordered by cosine and so many parts of the model's score; all
    /// others stay where vectors have them.
    pub(super) fn ranks(&self, before: &Ranks, cosines: &Scores, answers: &Answers, mix: f32) -> Ranks {
        let rank = |(query, (found, before)): (usize, (&BTreeMap<usize, f32>, &usize))| {
            let mixed = |place: usize, score: f32| cosines.at(query, place) + mix * score;
            let Some(own) = found.get(&query).map(|score| mixed(query, *score)) else { return *before };
            let wrong = found.iter().filter(|(place, _)| !answers.are(query, **place));
            1 + wrong.filter(|(place, score)| mixed(**place, **score) >= own).count()
        };
        let documents = self.0.iter().zip(&before.documents).enumerate().map(rank).collect();
        Ranks { documents, queries: before.queries.clone() }
    }
}

/// The places of the highest scores, best first; of equal ones the earlier.
fn first(count: usize, score: impl Fn(usize) -> f32) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_by(|one, other| score(*other).total_cmp(&score(*one)));
    places.truncate(DEPTH);
    places
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
        // The second's own is pushed back, the third's is not among those that were looked at.
        let reranked = Reranked(vec![
            judged(&[(0, 2.0), (1, 0.0)]),
            judged(&[(1, -1.0), (2, 0.0)]),
            judged(&[(0, 1.0), (1, 1.0)]),
        ]);
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
