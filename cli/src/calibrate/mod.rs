//! `motorbrain calibrate`: makes a model's vectors worth comparing, from texts or pairs of one's own.
//!
//! Every tenth is held out, and tells what the calibration does. Sums are kept beside the result from time to time, so
//! that whoever is stopped goes on.

mod error;
mod recall;
mod sources;
mod sums;

use std::{fs, mem, path::PathBuf, sync::Arc};

use motorbrain::{
    Brain, Input, Parts, TokenId, VectorTerms,
    calibration::{self, Calibration, CalibrationError, LogitSpace, Maker, Recipe},
    model::RecipeName,
    vectors,
};
use motorbrain_actors::tokens::{Spelled, Tokenizer as _};
use serde::Serialize;
use tokio::task::spawn_blocking;

use self::{error::CalibrateError, sources::Source, sums::Sums};
use crate::{args::Common, eval::embed, exit::Exit, failure::Failure, notice::Notice, output};

/// Of so many one is held out.
const HELD_OUT: usize = 10;

/// Of so many at most: they are compared each with each.
const HELD_OUT_MAX: usize = 1000;

/// Behind so many the sums are kept.
const BATCH: usize = 512;

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// The model's folder
    #[arg(value_name = "MODEL_DIR")]
    model: PathBuf,

    /// Texts: folders, files of text (a blank line ends one), or .jsonl files with a string or {"text":".."} a line
    #[arg(long, value_name = "PATH", num_args = 1.., required_unless_present = "pairs", conflicts_with = "pairs")]
    texts: Vec<PathBuf>,

    /// Pairs that belong together, a line each: {"query":"..","document":".."}
    #[arg(long, value_name = "FILE.jsonl")]
    pairs: Option<PathBuf>,

    /// The file to write [default: calibration.safetensors in the model's folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Tokens of a text, the first ones
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..))]
    tokens: u32,

    /// Only so many texts or pairs, the first ones
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// What it says it was made from [default: the paths]
    #[arg(long, value_name = "WORDS")]
    made_from: Option<String>,

    /// Write JSON for a program instead of words
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Serialize)]
struct Outcome {
    file: PathBuf,
    bytes: u64,
    made_from: String,
    /// What it was made of, and what it was measured on.
    used: u64,
    held_out: usize,
    /// Recall@1 among those that were held out, mean of both ways: a pair's two texts, a text's two halves.
    uncalibrated: f64,
    calibrated: f64,
}

/// A text, or the two of a pair, as tokens.
type Item = Vec<Vec<TokenId>>;

/// Reads, embeds, makes, measures, writes.
pub(crate) async fn run(common: &Common, request: Request) -> Result<Exit, Failure> {
    let mut settings = common.settings()?;
    settings.model.dir = Some(request.model.clone());
    // A probe's vectors are what a calibration is for, whatever the model, unless others are asked for.
    if settings.embedding.pooling.is_none() {
        settings.embedding.recipe.get_or_insert(RecipeName::Probe);
    }
    // Whatever lies there is to be replaced, so it need not fit.
    settings.embedding.calibration = Some(calibration::Source::Nowhere);
    let source = Source::open(&request.texts, request.pairs.as_deref()).map_err(CalibrateError::from)?;
    let out = request.out.clone().unwrap_or_else(|| request.model.join(calibration::FILE));
    for path in [&out, &sums::place(&out)] {
        calibration::check_place(path).map_err(CalibrateError::from)?;
    }
    let parts = Parts::find(&settings).await?;
    let recipe = settings.calibrated_recipe(vectors::recipe(&settings, &parts.model));
    let brain = parts.clone().start(&settings, None).await?;
    let made = Work { brain: &brain, parts: &parts, request: &request, source: &source, out }.make(recipe).await;
    brain.shutdown().await;
    let outcome = made?;
    if request.json {
        output::print_json(&outcome)?;
    } else {
        output::print(&words(&outcome, source.is_pairs()))?;
    }
    Ok(Exit::Fine)
}

fn words(outcome: &Outcome, pairs: bool) -> String {
    let Outcome { file, bytes, made_from, used, held_out, uncalibrated, calibrated } = outcome;
    let what = if pairs { "pairs, each text among all others" } else { "texts, their halves among all others" };
    format!(
        "{held_out} held out {what}: {:.1} % find their own first uncalibrated, {:.1} % calibrated\n{} is written, {} kB, \
         made of {used} from {made_from}",
        100.0 * uncalibrated,
        100.0 * calibrated,
        file.display(),
        bytes / 1000
    )
}

/// What it takes.
struct Work<'a> {
    brain: &'a Brain,
    parts: &'a Parts,
    request: &'a Request,
    source: &'a Source,
    /// The file to write.
    out: PathBuf,
}

impl Work<'_> {
    async fn make(self, recipe: Recipe) -> Result<Outcome, Failure> {
        let Self { parts, request, source, .. } = self;
        let out = self.out.clone();
        let lineage = parts.loader.lineage().map_err(CalibrationError::from).map_err(CalibrateError::from)?;
        let about = format!("{} {} {:?} {recipe} {lineage:?}", source.about(), request.tokens, request.limit);
        let hidden = parts.model.contract.hidden.unwrap_or(0);
        let mut sums = Sums::begin(&out, about, hidden, source.is_pairs());
        let (mut held_out, mut batch, mut seen) = (Vec::new(), Vec::new(), 0);
        let (mut notice, files) = (Notice::new(), source.files());
        for (file, item) in source.items().take(request.limit.unwrap_or(usize::MAX)) {
            let item = self.cut(&item.map_err(CalibrateError::from)?)?;
            seen += 1;
            if seen % HELD_OUT == 0 {
                held_out.push(item);
            } else if seen > sums.seen() {
                batch.push(item);
            }
            if batch.len() == BATCH {
                notice.tell("embedding, file", file + 1, files);
                self.add(&mut sums, mem::take(&mut batch), seen).await?;
            }
        }
        self.add(&mut sums, batch, seen).await?;
        notice.tell("making the calibration", 0, 1);
        let (model, made, used) = (Arc::clone(&parts.model), sums.clone(), sums.count());
        let made = spawn_blocking(move || made.finish(&LogitSpace::of(&model)?)).await;
        let affine =
            made.map_err(|panic| Failure::new(Exit::Unexpected, panic, None))?.map_err(CalibrateError::from)?;
        notice.tell("measuring", 0, 1);
        held_out.truncate(HELD_OUT_MAX);
        let pairs: Vec<Item> = held_out.into_iter().filter_map(halved).collect();
        let vectors = self.vectors(&pairs).await?;
        let [uncalibrated, calibrated] = recall::before_and_after(&vectors, &affine);
        let made_from = request.made_from.clone().unwrap_or_else(|| source.told());
        let maker = if source.is_pairs() { Maker::Pairs } else { Maker::Texts };
        let calibration = Calibration { affine, recipe, lineage, maker, made_from: made_from.clone() };
        calibration.write(&out).map_err(CalibrateError::from)?;
        sums.forget();
        let bytes = fs::metadata(&out).map_or(0, |file| file.len());
        Ok(Outcome { file: out, bytes, made_from, used, held_out: pairs.len(), uncalibrated, calibrated })
    }

    async fn add(&self, sums: &mut Sums, batch: Vec<Item>, seen: usize) -> Result<(), Failure> {
        for vectors in self.vectors(&batch).await? {
            sums.add(&vectors).map_err(CalibrateError::from)?;
        }
        Ok(sums.keep(seen).map_err(CalibrateError::from)?)
    }

    /// The first tokens of texts, whose words become no added tokens.
    fn cut(&self, texts: &[String]) -> Result<Item, CalibrateError> {
        let tokenizer = &self.parts.model.tokenizer;
        let cut = |text: &String| {
            let mut tokens = tokenizer.encode_behind(Spelled::Literal(text), None)?;
            tokens.truncate(self.request.tokens as usize);
            Ok(tokens)
        };
        texts.iter().map(cut).collect()
    }

    /// Their vectors as the recipe makes them, as many to each as it has texts.
    async fn vectors(&self, items: &[Item]) -> Result<Vec<embed::Vectors>, Failure> {
        let inputs: Vec<Input> = items.iter().flatten().cloned().map(Input::from).collect();
        let raw = VectorTerms { raw: true, ..VectorTerms::default() };
        let found = embed::all(self.brain, &inputs, raw, |_| ()).await.map_err(CalibrateError::from)?;
        let mut found = found.into_iter();
        Ok(items.iter().map(|item| found.by_ref().take(item.len()).collect()).collect())
    }
}

/// Two texts that belong together: those of a pair, or a text's halves. `None` of one that has none.
fn halved(mut item: Item) -> Option<Item> {
    if let [text] = &mut item[..] {
        let rest = text.split_off(text.len() / 2);
        item.push(rest);
    }
    item.iter().all(|text| !text.is_empty()).then_some(item)
}
