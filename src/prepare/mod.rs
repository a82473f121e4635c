//! Preparing a model for this machine: a new folder with the same model, its weights rewritten.
//!
//! The rewrite itself is `model::weights`. Here it is given a folder of its own, which takes its place
//! only when all went well, and its quality is measured before anybody can rely on it.

mod error;
mod folder;
mod measure;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

pub use self::{
    error::PrepareError,
    measure::{Measured, Perplexity},
};
use self::{
    folder::Partial,
    measure::{Measurer, Texts},
};
use crate::{
    calibration,
    engine::{Lineage, Runtime, SessionOptions},
    model::{
        Manifest, Model, ModelOptions, Rewritten, Weights,
        weights::{bytes_of_file, rewrite_file},
    },
};

/// How much larger a perplexity may get where the weights are [`Weights::Fast`].
const LOSS_MAX: f64 = 0.02;

/// Files that a model's folder may have beside graph and weights. A calibration is for every form of a model.
const COMPANIONS: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "genai_config.json",
    calibration::FILE,
];

/// A folder of files that it may have as well.
const TEMPLATES: &str = "additional_chat_templates";

/// What to prepare, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct PrepareOptions {
    /// The model to begin with; it stays as it is.
    pub model: ModelOptions,
    /// The new folder. There may be none yet, or an empty one.
    pub out: PathBuf,
    /// What the weights become.
    pub weights: Weights,
    /// Whether what is in the new folder's place may be replaced.
    pub force: bool,
    /// How the measurements use the machine.
    pub session: SessionOptions,
}

/// A model that was prepared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prepared {
    /// Its folder.
    pub dir: PathBuf,
    /// What its weights are.
    pub weights: Weights,
    /// What was done to them.
    pub rewritten: Rewritten,
    /// The model as it was.
    pub original: Measured,
    /// The model as it is. Where nothing was changed that is what was measured before.
    pub result: Measured,
}

/// How far a preparation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is done now.
    pub what: &'static str,
    /// Parts of it that are done.
    pub done: usize,
    /// All of its parts.
    pub total: usize,
}

/// Writes the model into a new folder and measures both. Takes as long as it must: run it on a thread
/// that may block.
///
/// # Errors
/// See [`PrepareError`]. The model was not changed, and there is no new folder.
pub fn prepare(
    runtime: &Runtime,
    options: &PrepareOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared, PrepareError> {
    let model = Arc::new(Model::open(&options.model)?);
    let partial = Partial::begin(&options.out, &model.dir, options.force)?;
    let measurer = Measurer { runtime, session: options.session, texts: Texts::of(&model)? };
    progress(Progress { what: "measuring the model as it is", done: 0, total: 1 });
    let original = measurer.measure(&model, bytes_of_file(&model.graph)?)?;
    let lineage = Lineage::of(&model)?;

    let mut block_sizes = options.weights.block_sizes().iter().copied().peekable();
    while let Some(block_size) = block_sizes.next() {
        let rewritten = write(&model, partial.path(), (options.weights, block_size), progress)?;
        progress(Progress { what: "hashing", done: 0, total: 1 });
        Manifest::write_from(partial.path(), &lineage.weights)?;
        let new = ModelOptions { dir: partial.path().to_owned(), ..ModelOptions::default() };
        let new = Arc::new(Model::open(&new)?);
        if !rewritten.changed {
            // What differed would be the machine's mood.
            let dir = partial.keep()?;
            return Ok(Prepared { dir, weights: options.weights, rewritten, result: original, original });
        }
        progress(Progress { what: "measuring the new model", done: 0, total: 1 });
        let result = measurer.measure(&new, rewritten.bytes)?;
        match result.perplexity.check(options.weights, original.perplexity) {
            Err(error) if block_sizes.peek().is_some() => {
                tracing::info!(%error, block_size, "smaller blocks are tried")
            }
            checked => {
                checked?;
                let dir = partial.keep()?;
                return Ok(Prepared { dir, weights: options.weights, rewritten, original, result });
            }
        }
    }
    unreachable!("all weights have a block size, and the last one returns");
}

/// Writes all files of the new model but its manifest.
fn write(
    model: &Model,
    folder: &Path,
    weights: (Weights, usize),
    progress: &mut dyn FnMut(Progress),
) -> Result<Rewritten, PrepareError> {
    let mut told = |done, total| progress(Progress { what: "rewriting weights", done, total });
    let rewritten = rewrite_file(&model.graph, folder, weights, &mut told)?;
    for name in COMPANIONS {
        copy(&model.dir.join(name), &folder.join(name))?;
    }
    let (from, to) = (model.dir.join(TEMPLATES), folder.join(TEMPLATES));
    let Ok(templates) = fs::read_dir(&from) else { return Ok(rewritten) };
    fs::create_dir_all(&to).map_err(|cause| PrepareError::Copy { from, to: to.clone(), cause })?;
    for template in templates.filter_map(Result::ok).filter(|entry| entry.path().is_file()) {
        copy(&template.path(), &to.join(template.file_name()))?;
    }
    Ok(rewritten)
}

/// Copies a file, if it is there.
fn copy(from: &Path, to: &Path) -> Result<(), PrepareError> {
    match fs::copy(from, to) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        copied => {
            copied.map(drop).map_err(|cause| PrepareError::Copy { from: from.to_owned(), to: to.to_owned(), cause })
        }
    }
}

impl Perplexity {
    /// Whether the result may be as far from the original as it is.
    fn check(self, weights: Weights, original: Self) -> Result<(), PrepareError> {
        // Not the other way round, since a number that is none must not pass.
        let good = |result: f64, original: f64| result <= original * (1.0 + LOSS_MAX);
        if weights != Weights::Fast || good(self.code, original.code) && good(self.english, original.english) {
            return Ok(());
        }
        Err(PrepareError::Worse { original, result: self, percent: LOSS_MAX * 100.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_percent_more_are_allowed_on_each_text() {
        let original = Perplexity { code: 10.0, english: 20.0 };
        for (code, english, allowed) in
            [(10.19, 20.39, true), (5.0, 15.0, true), (10.21, 20.0, false), (10.0, 20.41, false)]
        {
            let checked = Perplexity { code, english }.check(Weights::Fast, original);
            assert_eq!(checked.is_ok(), allowed, "{code} {english}");
            assert!(matches!(checked, Ok(()) | Err(PrepareError::Worse { .. })));
            assert!(Perplexity { code, english }.check(Weights::Small, original).is_ok(), "what it loses is told");
        }
        // Numbers that are none are worse than anything.
        assert!(Perplexity { code: f64::NAN, english: 20.0 }.check(Weights::Fast, original).is_err());
    }
}
