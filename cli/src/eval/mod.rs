//! `motorbrain eval`: how good vectors and windows are, in numbers, on texts of one's own.
//!
//! Each of the three measures through the library what any caller gets, prints a table, and writes JSON and a picture
//! where that is asked for. What is computed of answers is pure and apart: `bootstrap`, `retrieval/metrics`,
//! `retrieval/bm25`, `perplexity/plan`, `perplexity/spans`.

mod bootstrap;
mod chart;
mod drift;
pub(crate) mod embed;
mod error;
mod perplexity;
pub(crate) mod retrieval;
mod sheet;

use std::{fs, path::PathBuf};

use clap::Subcommand;
use serde::Serialize;

use self::{chart::Chart, error::EvalError};
use crate::{args::Common, exit::Exit, failure::Failure, output};

/// What there is to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Eval {
    /// Do queries and the documents that answer them find each other by their vectors?
    #[command(after_help = "\
Examples:
  motorbrain eval retrieval pairs.jsonl
  motorbrain eval retrieval pairs.jsonl --dims 64,256 --plot retrieval.svg
  motorbrain eval retrieval pairs.jsonl --variant 'mean: embedding.pooling=mean' --variant 'last: embedding.pooling=last'
  motorbrain eval retrieval pairs.jsonl --variant 'f32: model.dir=models/mine-f32' --json | jq .compared")]
    Retrieval(retrieval::Request),

    /// What does a window cost in prediction, beside the whole context and beside a window that is read again?
    #[command(after_help = "\
Examples:
  motorbrain eval perplexity book.txt
  motorbrain eval perplexity book.txt --windows 256,1024 --sinks 0,4 --shares 2,4,8 --plot perplexity.svg")]
    Perplexity(perplexity::Request),

    /// Do vectors say the same early and late in a conversation, over slides and a restart?
    #[command(after_help = "\
Examples:
  motorbrain eval drift book.txt
  motorbrain eval drift book.txt --set window.size=512 --turns 100 --plot drift.svg")]
    Drift(drift::Request),
}

/// Measures, and prints.
pub(crate) async fn run(common: &Common, eval: Eval) -> Result<Exit, Failure> {
    match eval {
        Eval::Retrieval(request) => retrieval::run(common, request).await,
        Eval::Perplexity(request) => perplexity::run(common, request).await,
        Eval::Drift(request) => drift::run(common, request).await,
    }
}

/// Where what was found goes.
#[derive(Debug, clap::Args)]
struct Outputs {
    /// Write JSON for a program instead of a table
    #[arg(long)]
    json: bool,

    /// Draw it, as SVG
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

impl Outputs {
    fn write(&self, outcome: &impl Serialize, text: &str, chart: &Chart) -> Result<(), Failure> {
        if let Some(path) = &self.plot {
            fs::write(path, chart.svg()).map_err(|cause| EvalError::Write { path: path.clone(), cause })?;
        }
        if self.json { output::print_json(outcome) } else { output::print(text) }
    }
}
