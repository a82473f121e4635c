//! `motorbrain eval retrieval`: do queries and the documents that answer them find each other by their vectors?
//!
//! Every variant embeds all texts with a brain of its own; vectors are then cut to the dimensions asked for and
//! compared by cosine. BM25 and vectors that others have made stand in the same table, measured on the same pairs and
//! the same resamples.

mod bm25;
mod compared;
mod metrics;
mod pairs;
mod reranked;
mod variants;

use std::path::PathBuf;

use motorbrain::{Brain, Rerank, Settings, VectorTerms};
use serde::Serialize;

pub(crate) use self::variants::{External, Variant};
use self::{
    compared::{Compared, Confusion},
    metrics::{Answers, Ranks, Scores},
    pairs::Pair,
    reranked::Reranked,
};
use super::{
    EvalError, Outputs,
    bootstrap::{Figure, Resamples},
    chart::{Bar, Chart, Marks},
    embed::{self, Vectors},
    sheet::{Sheet, interval},
};
use crate::{args::Common, exit::Exit, failure::Failure, notice::Notice};

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// Pairs, a line each: {"query":"..","document":".."}
    #[arg(value_name = "PAIRS.jsonl")]
    pairs: PathBuf,

    /// Settings to compare, as 'NAME: KEY=VALUE; KEY=VALUE'; may be given again [default: the settings as they are]
    #[arg(long = "variant", value_name = "VARIANT")]
    variants: Vec<Variant>,

    /// How many numbers of each vector to compare by, such as 64,256 [default: all]
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    dims: Vec<u32>,

    /// Vectors of the same pairs made elsewhere, as NAME=FILE with lines {"query":[..],"document":[..]}
    #[arg(long = "vectors", value_name = "NAME=FILE")]
    external: Vec<External>,

    /// Order the first ten documents that the first row finds anew, by cosine and so many parts of what `rerank` says of each
    #[arg(long, value_name = "WEIGHT,..", value_delimiter = ',', value_parser = weight, allow_negative_numbers = true)]
    rerank: Vec<f32>,

    /// Only the first pairs of the file
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// How many pairs that were taken for others to show
    #[arg(long, value_name = "N", default_value_t = 3)]
    examples: usize,

    /// How many resamples the intervals are made of
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    resamples: u32,

    /// What the resamples are drawn with
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    #[command(flatten)]
    outputs: Outputs,
}

#[derive(Serialize)]
struct Outcome<'a> {
    pairs: usize,
    resamples: u32,
    seed: u64,
    compared: &'a [Compared],
    table: Sheet,
}

/// Embeds, compares, prints.
pub(crate) async fn run(common: &Common, request: Request) -> Result<Exit, Failure> {
    let pairs = pairs::read(&request.pairs, request.limit)?;
    let table = Table {
        answers: Answers::of(&pairs),
        resamples: Resamples::new(pairs.len(), request.resamples as usize, request.seed),
        examples: request.examples,
        pairs,
    };
    // Whatever is wrong with a file is said before a model is loaded.
    let mut others = Vec::new();
    for External { name, path } in &request.external {
        others.push((name, pairs::read_vectors(path, table.pairs.len())?));
    }
    let plain = [Variant::plain()];
    let variants = if request.variants.is_empty() { &plain[..] } else { &request.variants };
    let settings: Vec<Settings> = variants.iter().map(|variant| changed(common, variant)).collect::<Result<_, _>>()?;

    let mut rows: Vec<(Compared, Ranks)> = Vec::new();
    for (variant, settings) in variants.iter().zip(&settings) {
        let brain = motorbrain::start(settings).await?;
        let (queries, documents) = table.embedded(&brain, &variant.name).await?;
        let hidden = queries.first().map_or(0, Vec::len);
        let mut dims: Vec<usize> = request.dims.iter().map(|dim| (*dim as usize).min(hidden)).collect();
        dims.dedup();
        if dims.is_empty() {
            dims.push(hidden);
        }
        let is_first = rows.is_empty();
        rows.extend(dims.iter().map(|dim| table.by_vectors(&variant.name, *dim, &queries, &documents)));
        if is_first && !request.rerank.is_empty() {
            let cosines = compared::cosines(&queries, &documents, dims[0]);
            let asked = (settings.reranking(), &request.rerank[..]);
            rows.extend(table.by_likelihood(&brain, &variant.name, dims[0], &cosines, asked).await?);
        }
        brain.shutdown().await;
    }
    rows.extend(others.iter().map(|(name, (queries, documents))| {
        table.by_vectors(name, queries.first().map_or(0, Vec::len), queries, documents)
    }));
    rows.push(table.by_words());
    let compared = compared::against_the_first(rows, &table.resamples);

    let sheet = sheet(&compared);
    let outcome = Outcome {
        pairs: table.pairs.len(),
        resamples: request.resamples,
        seed: request.seed,
        compared: &compared,
        table: sheet.clone(),
    };
    let text = format!("{}\n\n{}", sheet.text(), words(&compared, table.pairs.len()));
    request.outputs.write(&outcome, &text, &chart(&compared))?;
    Ok(Exit::Fine)
}

/// How many of vectors that belong together, place by place, find each other first by their cosine, the mean of both ways.
pub(crate) fn recall_at_1(ones: &[Vec<f32>], others: &[Vec<f32>]) -> f64 {
    let scores = compared::cosines(ones, others, usize::MAX);
    metrics::ranks(&scores, &Answers::apart(ones.len())).recall_at_1()
}

/// Of the command line.
fn weight(text: &str) -> Result<f32, String> {
    let weight: Option<f32> = text.trim().parse().ok();
    weight.filter(|weight| weight.is_finite()).ok_or_else(|| "expected a number such as 0.2".into())
}

/// The settings of a variant.
fn changed(common: &Common, variant: &Variant) -> Result<Settings, Failure> {
    let mut common = common.clone();
    // `--model` beats the settings, and here a variant beats it.
    if variant.overrides.iter().any(|change| change.trim_start().starts_with("model.dir=")) {
        common.model = None;
    }
    common.overrides.extend(variant.overrides.iter().cloned());
    Ok(common.settings()?)
}

/// What all variants are measured on.
struct Table {
    pairs: Vec<Pair>,
    answers: Answers,
    resamples: Resamples,
    examples: usize,
}

impl Table {
    /// Vectors of queries and of documents.
    async fn embedded(&self, brain: &Brain, name: &str) -> Result<(Vectors, Vectors), EvalError> {
        let queries = self.pairs.iter().map(|pair| pair.query.clone());
        let texts: Vec<String> = queries.chain(self.pairs.iter().map(|pair| pair.document.clone())).collect();
        let mut notice = Notice::new();
        let what = format!("embedding ({name})");
        let tell = |done| notice.tell(&what, done, texts.len());
        let mut queries = embed::all(brain, &texts, VectorTerms::default(), tell).await?;
        let documents = queries.split_off(self.pairs.len());
        Ok((queries, documents))
    }

    /// A row a weight.
    async fn by_likelihood(
        &self,
        brain: &Brain,
        name: &str,
        dim: usize,
        cosines: &Scores,
        (rerank, weights): (Rerank, &[f32]),
    ) -> Result<Vec<(Compared, Ranks)>, EvalError> {
        let mut notice = Notice::new();
        let what = format!("reranking ({name})");
        let tell = |done| notice.tell(&what, done, self.pairs.len());
        let reranked = Reranked::by(brain, &rerank, cosines, &self.pairs, tell).await?;
        let before = metrics::ranks(cosines, &self.answers);
        let rows = weights.iter().map(|weight| {
            let ranks = reranked.ranks(&before, cosines, &self.answers, *weight);
            compared::ranked(&format!("{name}, reranked {weight}"), Some(dim), ranks, &self.resamples)
        });
        Ok(rows.collect())
    }

    fn by_vectors(&self, name: &str, dim: usize, queries: &[Vec<f32>], documents: &[Vec<f32>]) -> (Compared, Ranks) {
        let scores = compared::cosines(queries, documents, dim);
        compared::compare(name, Some(dim), &scores, self)
    }

    fn by_words(&self) -> (Compared, Ranks) {
        let queries: Vec<&str> = self.pairs.iter().map(|pair| pair.query.as_str()).collect();
        let documents: Vec<&str> = self.pairs.iter().map(|pair| pair.document.as_str()).collect();
        compared::compare("BM25", None, &bm25::scores(&queries, &documents), self)
    }
}

fn sheet(compared: &[Compared]) -> Sheet {
    let mut sheet = Sheet::new(&[
        "vectors",
        "size",
        "recall@1",
        "95 %",
        "q to d",
        "d to q",
        "@5",
        "@10",
        "MRR",
        "nDCG@10",
        "to the first",
    ]);
    for row in compared {
        let mean = row.measured.mean;
        let figure = |figure: Figure| format!("{:.3}", figure.value);
        sheet.rows.push(vec![
            row.name.clone(),
            row.dim.map_or("-".into(), |dim| dim.to_string()),
            figure(mean.recall_at_1),
            interval(mean.recall_at_1),
            figure(row.measured.query_to_document.recall_at_1),
            figure(row.measured.document_to_query.recall_at_1),
            figure(mean.recall_at_5),
            figure(mean.recall_at_10),
            figure(mean.mrr),
            figure(mean.ndcg_at_10),
            row.against_the_first.map_or("-".into(), |by| format!("{:+.3}±{:.3}", by.value, (by.high - by.low) / 2.0)),
        ]);
    }
    sheet
}

/// What stands below the table: how it is to be read, and what was taken for what.
fn words(compared: &[Compared], pairs: usize) -> String {
    let mut text = format!(
        "{pairs} pairs; by chance recall@1 is {:.3}. But for the columns of one way all are the mean of both.",
        1.0 / pairs as f64
    );
    let Some(first) = compared.first().filter(|first| !first.confusions.is_empty()) else { return text };
    text += &format!("\n\nTaken for another by {}:", first.name);
    for Confusion { query, document, found, rank } in &first.confusions {
        text += &format!("\n\n  query     {query}\n  found     {found}\n  expected  {document} (rank {rank})");
    }
    text
}

fn chart(compared: &[Compared]) -> Chart {
    let bar = |row: &Compared| Bar {
        name: row.dim.map_or(row.name.clone(), |dim| format!("{}, {dim}", row.name)),
        figure: row.measured.mean.recall_at_1,
    };
    Chart { title: "Retrieval, recall@1 of both ways".into(), marks: Marks::Bars(compared.iter().map(bar).collect()) }
}
