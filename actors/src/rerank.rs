//! Which of several documents answers a query: by how likely the model finds the query behind each of them.
//!
//! A document is read into a conversation of its own, the query is scored behind it, and the conversation is closed. What
//! it had read stays for a while as everything that was shared does, so that another query over the same documents reads
//! nothing but the query.

use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::{
    brain::{Brain, Many, Temporary},
    message::{BrainError, Context, Embed, Input, Part, Score, Sharing, Step, Terms, VectorTerms},
    vectors::Kind,
};

/// As many documents are read at once. Not a setting: it only keeps one request from taking every permit.
const AT_ONCE: usize = 16;

/// The most documents. Not a setting: it only keeps texts without content from being an input without a limit.
pub const DOCUMENTS_MAX: usize = 4096;

/// Where the query stands in a prompt.
const QUERY: &str = "{query}";

/// Where the document does.
const DOCUMENT: &str = "{document}";

/// Orders documents by how well they answer a query. While that is done, conversations are known whose names are `rerank ` and
/// a number that nobody guesses.
#[derive(Clone, Debug, PartialEq)]
pub struct Rerank {
    /// What is looked for. Not empty. Its words never become added tokens, nor do those of documents.
    pub query: String,
    /// Where: 1 to [`DOCUMENTS_MAX`]. A document that is longer than the window is judged by its end.
    pub documents: Vec<String>,
    /// What makes a document's score.
    pub relevance: Relevance,
    /// Adds the cosine of the vectors of query and document, of which the score is then so many parts: cosine + mix * score.
    pub mix: Option<f32>,
    /// With whom the documents' keys and values are shared; `None`: with all that name no scope.
    pub sharing: Option<Sharing>,
}

impl Rerank {
    /// Bytes of all texts.
    fn bytes(&self) -> usize {
        self.query.len() + self.documents.iter().map(String::len).sum::<usize>()
    }

    /// What can be judged without a model.
    fn check(&self) -> Result<(), BrainError> {
        if self.query.is_empty() {
            return Err(BrainError::EmptyInput { reason: "no query" });
        }
        let documents = self.documents.len();
        if documents == 0 || documents > DOCUMENTS_MAX {
            return Err(bad("documents", format!("{documents} of them"), format!("1 to {DOCUMENTS_MAX}")));
        }
        if let Some(mix) = self.mix.filter(|mix| !mix.is_finite()) {
            return Err(bad("mix", mix, "a finite number"));
        }
        self.relevance.check()
    }

    /// By the likelihood of the query, without vectors.
    pub fn new(query: impl Into<String>, documents: Vec<String>) -> Self {
        Self { query: query.into(), documents, relevance: Relevance::default(), mix: None, sharing: None }
    }
}

/// What makes a document's score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relevance {
    /// The mean log-probability of the query's tokens behind `before`, the document and `between`, less that behind
    /// `between` alone: queries that are likely anyway tell nothing (pointwise mutual information, a token).
    Likelihood {
        /// Stands before the document.
        before: String,
        /// Stands between document and query. Not empty.
        between: String,
    },
    /// By how much one answer is likelier than another behind a prompt: the difference of their log-probabilities.
    Answer {
        /// With `{query}` and `{document}` in it, in any order.
        prompt: String,
        /// That of a document which is relevant. Not empty.
        yes: String,
        /// That of one which is not. Not empty.
        no: String,
    },
}

impl Default for Relevance {
    fn default() -> Self {
        Self::Likelihood {
            before: "```\n".to_owned(),
            between: "\n```\n\nWhat this is about, in one sentence: ".to_owned(),
        }
    }
}

impl Relevance {
    /// What can be judged without a model.
    fn check(&self) -> Result<(), BrainError> {
        match self {
            Self::Likelihood { between, .. } if between.is_empty() => {
                Err(bad("between", "empty", "a text, which stands before the query where no document does"))
            }
            Self::Answer { prompt, .. } if !is_prompt(prompt) => {
                Err(bad("prompt", format!("{prompt:?}"), "a text with `{query}` and `{document}` in it"))
            }
            Self::Answer { yes, no, .. } if yes.is_empty() || no.is_empty() => {
                Err(bad("one of the answers", "empty", "a text"))
            }
            Self::Likelihood { .. } | Self::Answer { .. } => Ok(()),
        }
    }
}

/// Whether a text can be [`Relevance::Answer`]'s prompt.
pub fn is_prompt(text: &str) -> bool {
    text.contains(QUERY) && text.contains(DOCUMENT)
}

fn bad(what: &'static str, found: impl ToString, expected: impl Into<String>) -> BrainError {
    BrainError::BadRequest { what, found: found.to_string(), expected: expected.into() }
}

/// The reply to [`Rerank`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reranked {
    /// One for each document, in their order.
    pub scores: Vec<f32>,
    /// The documents' places, best first; of equal ones the earlier.
    pub order: Vec<usize>,
    /// Tokens that stood before queries.
    pub tokens: usize,
    /// How many of those need not be read.
    pub reused: usize,
}

impl Brain {
    /// See [`Rerank`]. A sixteenth as many as requests may be done at once; what they ask of the brain then waits for
    /// permits. Query and documents together have at most `limits.text_bytes`. A deadline is that of all of it.
    ///
    /// # Errors
    /// [`BrainError::EmptyInput`] without a query, [`BrainError::BadRequest`] for what may not be; that of the first
    /// document or of the query which fails: see [`BrainError`].
    pub async fn rerank(&self, rerank: Rerank) -> Result<Reranked, BrainError> {
        rerank.check()?;
        let many = self.many(rerank.bytes()).await?;
        let judge = Arc::new(Judge { many, rerank });
        judged(&judge).await.map_err(|error| judge.many.whole(error))
    }
}

/// Judges all documents.
async fn judged(judge: &Arc<Judge>) -> Result<Reranked, BrainError> {
    let count = judge.rerank.documents.len();
    let query = judge.query().await?;
    let mut under_way = JoinSet::new();
    let mut rest = 0..count;
    let mut found = vec![Judged::default(); count];
    loop {
        while under_way.len() < AT_ONCE
            && let Some(index) = rest.next()
        {
            let (judge, query) = (Arc::clone(judge), query.clone());
            let judged = async move { judge.document(index, &query).await.map(|judged| (index, judged)) };
            under_way.spawn(judged.in_current_span());
        }
        match under_way.join_next().await {
            None => break,
            Some(Ok(judged)) => {
                let (index, judged) = judged?;
                found[index] = judged;
            }
            Some(Err(error)) => return Err(BrainError::Engine { message: error.to_string() }),
        }
    }
    let scores: Vec<_> = found.iter().map(|judged| judged.score).collect();
    let sum = |of: fn(&Judged) -> usize| found.iter().map(of).sum::<usize>();
    Ok(Reranked {
        order: order(&scores),
        scores,
        tokens: query.tokens + sum(|judged| judged.tokens),
        reused: query.reused + sum(|judged| judged.reused),
    })
}

/// The places of scores, best first.
fn order(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<_> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order
}

/// What is known of the query alone.
#[derive(Clone, Debug, Default)]
struct Query {
    /// What a document's likelihood is compared with.
    alone: f32,
    /// Where vectors are mixed in.
    vector: Option<Vec<f32>>,
    tokens: usize,
    reused: usize,
}

#[derive(Clone, Debug, Default)]
struct Judged {
    score: f32,
    tokens: usize,
    reused: usize,
}

/// Judges documents.
struct Judge {
    many: Many,
    rerank: Rerank,
}

impl Judge {
    async fn query(&self) -> Result<Query, BrainError> {
        let mut query = Query { vector: self.vector(&self.rerank.query, Kind::Query).await?, ..Query::default() };
        if let Relevance::Likelihood { between, .. } = &self.rerank.relevance {
            let (asked, context) = self.read(vec![Part::Text(between.clone())]).await?;
            query.alone = mean(&self.score(&asked, &self.rerank.query).await?);
            (query.tokens, query.reused) = (context.context_len, context.reused);
            asked.close().await;
        }
        Ok(query)
    }

    async fn document(&self, index: usize, query: &Query) -> Result<Judged, BrainError> {
        let document = &self.rerank.documents[index];
        let literal = || Part::Literal(document.clone());
        let (score, context) = match &self.rerank.relevance {
            Relevance::Likelihood { before, between } => {
                let parts = vec![Part::Text(before.clone()), literal(), Part::Text(between.clone())];
                let (asked, context) = self.read(parts).await?;
                let score = mean(&self.score(&asked, &self.rerank.query).await?) - query.alone;
                asked.close().await;
                (score, context)
            }
            Relevance::Answer { prompt, yes, no } => {
                // What the first has read the second finds, unless it has slid, behind which there is no way back.
                let (yes, context) = self.answer(prompt, document, yes).await?;
                let score = yes - self.answer(prompt, document, no).await?.0;
                (score, context)
            }
        };
        let score = match (&query.vector, self.rerank.mix) {
            (Some(vector), Some(mix)) => {
                let other = match self.vector(document, Kind::Document).await {
                    Err(BrainError::EmptyInput { .. }) => Vec::new(), // without a direction, and so like nothing
                    other => other?.unwrap_or_default(),
                };
                cosine(vector, &other) + mix * score
            }
            _ => score,
        };
        // The difference of two that have no chance at all tells nothing for the document.
        let score = if score.is_nan() { f32::NEG_INFINITY } else { score };
        Ok(Judged { score, tokens: context.context_len, reused: context.reused })
    }

    /// How likely an answer is behind the prompt.
    async fn answer(&self, prompt: &str, document: &str, answer: &str) -> Result<(f32, Context), BrainError> {
        let (asked, context) = self.read(filled(prompt, &self.rerank.query, document)).await?;
        let likely = self.score(&asked, answer).await?.iter().sum();
        asked.close().await;
        Ok((likely, context))
    }

    /// A conversation that has read this and nothing else.
    async fn read(&self, parts: Vec<Part>) -> Result<(Temporary, Context), BrainError> {
        let asked = self.many.temporary("rerank");
        let terms = Terms { sharing: self.rerank.sharing.clone(), ..Terms::default() };
        let read = Step { terms, ..Step::greedy(asked.name().clone(), parts, 0) };
        loop {
            match self.many.brain()?.step(read.clone()).await {
                Ok(stepped) => return Ok((asked, stepped.context)),
                Err(error) => self.many.wait(error).await?,
            }
        }
    }

    /// Log-probabilities of a text's tokens behind all that a conversation holds.
    async fn score(&self, asked: &Temporary, text: &str) -> Result<Vec<f32>, BrainError> {
        let input = Input::Parts(vec![Part::Literal(text.to_owned())]);
        let score = Score::of(asked.name().clone(), input);
        let scored = self.many.brain()?.score(score).await?;
        Ok(scored.logprobs.into_iter().flatten().collect())
    }

    /// A text's vector, where vectors are mixed in.
    async fn vector(&self, text: &str, kind: Kind) -> Result<Option<Vec<f32>>, BrainError> {
        if self.rerank.mix.is_none() {
            return Ok(None);
        }
        let input = Input::Parts(vec![Part::Literal(text.to_owned())]);
        let embed = Embed { vector: VectorTerms { kind, ..VectorTerms::default() }, ..Embed::of(input) };
        self.many.brain()?.embed(embed).await.map(|embedded| Some(embedded.embedding))
    }
}

/// A prompt with its places filled, the texts in them inert.
fn filled(prompt: &str, query: &str, document: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = prompt;
    let places = [(QUERY, query), (DOCUMENT, document)];
    while let Some((at, (place, text))) =
        places.iter().filter_map(|place| rest.find(place.0).map(|at| (at, *place))).min_by_key(|(at, _)| *at)
    {
        parts.push(Part::Text(rest[..at].to_owned()));
        parts.push(Part::Literal(text.to_owned()));
        rest = &rest[at + place.len()..];
    }
    parts.push(Part::Text(rest.to_owned()));
    parts
}

fn mean(logprobs: &[f32]) -> f32 {
    logprobs.iter().sum::<f32>() / logprobs.len().max(1) as f32
}

/// 0 where one has no direction.
fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (dot(one, one) * dot(other, other)).sqrt();
    if lengths > 0.0 { (dot(one, other) / lengths) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_filled_in_any_order_and_what_fills_it_is_inert() {
        let text = |text: &str| Part::Text(text.into());
        let literal = |text: &str| Part::Literal(text.into());
        let parts = filled("Is {document} about {query}?", "a {document}", "b");
        assert_eq!(parts, [text("Is "), literal("b"), text(" about "), literal("a {document}"), text("?")]);
        assert_eq!(filled("{query}", "q", "d"), [text(""), literal("q"), text("")]);
        assert_eq!(filled("none", "q", "d"), [text("none")]);
    }

    #[test]
    fn the_best_stands_first_and_of_equals_the_earlier() {
        assert_eq!(order(&[0.5, 2.0, -1.0, 2.0]), [1, 3, 0, 2]);
        assert_eq!(cosine(&[3.0, 0.0], &[0.0, 1.0]), 0.0);
        assert_eq!(cosine(&[3.0, 0.0], &[2.0, 0.0]), 1.0);
        assert_eq!(cosine(&[0.0], &[1.0]), 0.0);
    }
}
