//! `motorbrain eval perplexity`: what a window costs in prediction, early and late in a long text.
//!
//! Three ways to read it: with a window that slides, with one whose tokens are read again wherever the first one
//! slides, and with as much context as the model has or is asked for (a window of that size, read again after half of it).
//! What the first loses to the second is lost by moving keys and values; what both lose to the third, by having less to look
//! at.

mod plan;
mod scoring;
mod spans;

use std::{path::PathBuf, sync::Arc};

use motorbrain::{
    Brain, Parts, Settings, TokenId,
    engine::{OnnxLoader, WindowPolicy},
};
use serde::Serialize;

use self::{
    plan::Shape,
    spans::{Ratio, course, perplexity, ratio, spans},
};
use super::{
    EvalError, Outputs,
    chart::{Chart, Line, Marks},
    sheet::{Sheet, with_interval},
};
use crate::{args::Common, exit::Exit, failure::Failure, notice::Notice, texts};

/// Points of a line, more or less.
const POINTS: usize = 24;

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// The text
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Sizes of windows, in tokens
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "256,512,1024")]
    windows: Vec<usize>,

    /// How many first tokens never leave
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "4")]
    sinks: Vec<usize>,

    /// Which share of a window leaves at once: 4 is a quarter
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "4")]
    shares: Vec<usize>,

    /// Behind how many windows to look, each up to the next
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,10,100")]
    after: Vec<usize>,

    /// Only the first tokens of the text
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,

    /// The most context to compare with; left out, the model's
    #[arg(long, value_name = "N")]
    context: Option<usize>,

    #[command(flatten)]
    outputs: Outputs,
}

/// A window behind so many of its sizes.
#[derive(Clone, Debug, Serialize)]
struct Found {
    #[serde(flatten)]
    shape: Shape,
    after_windows: usize,
    tokens: usize,
    whole: Option<f64>,
    read_again: Option<f64>,
    slid: Option<f64>,
    /// Slid over read again.
    lost_by_moving: Option<Ratio>,
    /// Slid over the whole context.
    lost: Option<Ratio>,
}

#[derive(Serialize)]
struct Outcome<'a> {
    tokens: usize,
    context: usize,
    found: &'a [Found],
    table: Sheet,
}

/// Reads, compares, prints.
pub(crate) async fn run(common: &Common, request: Request) -> Result<Exit, Failure> {
    let shapes = shapes(&request)?;
    let text = texts::read(&request.file).map_err(EvalError::from)?;
    let settings = common.settings()?;
    let parts = Parts::find(&settings).await?;
    let context = parts.model.context.tokens.min(request.context.unwrap_or(usize::MAX));
    let mut notice = Notice::new();

    // No text has more tokens than bytes, and what it does not fill is not worth memory.
    let widest = context.min(text.len()).max(2);
    let widest = Shape::new(widest, 0, widest / 2)?;
    let brain = start(&parts, &settings, widest).await?;
    let read = async {
        let mut tokens = brain.tokenize(text.as_str()).await?;
        tokens.truncate(request.tokens.unwrap_or(tokens.len()));
        let total = tokens.len();
        let whole = scoring::read_again(&brain, &tokens, widest, |done| notice.tell("the whole context", done, total));
        let whole = whole.await?;
        Ok::<_, EvalError>((tokens, whole))
    };
    let read = read.await;
    brain.shutdown().await;
    let (tokens, whole) = read?;
    let least = shapes.iter().map(|shape| shape.size).min().unwrap_or(0) + 1;
    if tokens.len() < least {
        return Err(EvalError::TooFew { path: request.file, what: "tokens", found: tokens.len(), least }.into());
    }

    let (mut found, mut lines) = (Vec::new(), vec![Line { name: "whole context".into(), points: Vec::new() }]);
    let run = (tokens.len() / POINTS).max(1);
    for shape in shapes {
        let brain = start(&parts, &settings, shape).await?;
        let scored = both(&brain, &tokens, shape, &mut notice).await;
        brain.shutdown().await;
        let (slid, read_again) = scored?;
        found.extend(behind(shape, &request.after, &whole, &read_again, &slid));
        lines.push(Line { name: format!("{}, slid", named(shape)), points: course(&slid, 1, run) });
        lines.push(Line { name: format!("{}, read again", named(shape)), points: course(&read_again, 1, run) });
    }
    lines[0].points = course(&whole, 1, run);
    drop(notice);

    let sheet = sheet(&found);
    let text = format!(
        "{}\n\n{} tokens; the whole context is {context}. Below 1 is better than what it is compared with.",
        sheet.text(),
        tokens.len()
    );
    let outcome = Outcome { tokens: tokens.len(), context, found: &found, table: sheet };
    let marks = Marks::Lines { across: "tokens of the text".into(), least: None, events: Vec::new(), lines };
    request.outputs.write(&outcome, &text, &Chart { title: "Perplexity".into(), marks })?;
    Ok(Exit::Fine)
}

/// All windows that are asked for; those without room for their sinks and slide are an error.
fn shapes(request: &Request) -> Result<Vec<Shape>, EvalError> {
    let mut shapes = Vec::new();
    for size in &request.windows {
        for sinks in &request.sinks {
            for share in &request.shares {
                shapes.push(Shape::new(*size, *sinks, size.checked_div(*share).unwrap_or(0))?);
            }
        }
    }
    Ok(shapes)
}

/// A brain with this window on parts that were found for another.
async fn start(parts: &Parts, settings: &Settings, shape: Shape) -> Result<Brain, Failure> {
    let mut settings = settings.clone();
    (settings.window.size, settings.window.sinks, settings.window.slide) =
        (Some(shape.size), Some(shape.sinks), Some(shape.slide));
    // Reading again is done here, by conversations that know nothing else.
    settings.window.policy = WindowPolicy::Shift;
    let options = motorbrain::engine_options(&settings);
    let loader = OnnxLoader::new(parts.runtime.clone(), Arc::clone(&parts.model), options);
    let loader = Arc::new(loader.map_err(motorbrain::StartError::from)?);
    Ok(Parts { loader, ..parts.clone() }.start(&settings, None).await?)
}

/// Slid and read again.
async fn both(
    brain: &Brain,
    tokens: &[TokenId],
    shape: Shape,
    notice: &mut Notice,
) -> Result<(Vec<f64>, Vec<f64>), EvalError> {
    let (name, total) = (named(shape), tokens.len());
    let slid = scoring::slid(brain, tokens, |done| notice.tell(&format!("{name}, slid"), done, total)).await?;
    let again = |done| notice.tell(&format!("{name}, read again"), done, total);
    let read_again = scoring::read_again(brain, tokens, shape, again).await?;
    Ok((slid, read_again))
}

fn behind(shape: Shape, after: &[usize], whole: &[f64], read_again: &[f64], slid: &[f64]) -> Vec<Found> {
    let found = spans(slid.len(), shape.size, after).into_iter().map(|(after_windows, span)| {
        let (whole, read_again, slid) = (&whole[span.clone()], &read_again[span.clone()], &slid[span]);
        Found {
            shape,
            after_windows,
            tokens: slid.len(),
            whole: perplexity(whole),
            read_again: perplexity(read_again),
            slid: perplexity(slid),
            lost_by_moving: ratio(slid, read_again),
            lost: ratio(slid, whole),
        }
    });
    found.collect()
}

fn named(shape: Shape) -> String {
    format!("{} ({} + {})", shape.size, shape.sinks, shape.slide)
}

fn sheet(found: &[Found]) -> Sheet {
    let mut sheet = Sheet::new(&[
        "window (sinks + slide)",
        "after windows",
        "tokens",
        "whole context",
        "read again",
        "slid",
        "slid / read again",
        "slid / whole",
    ]);
    let figure = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
    let ratio = |ratio: Option<Ratio>| ratio.map_or("-".into(), |Ratio(figure)| with_interval(figure));
    for row in found {
        sheet.rows.push(vec![
            named(row.shape),
            row.after_windows.to_string(),
            row.tokens.to_string(),
            figure(row.whole),
            figure(row.read_again),
            figure(row.slid),
            ratio(row.lost_by_moving),
            ratio(row.lost),
        ]);
    }
    sheet
}
