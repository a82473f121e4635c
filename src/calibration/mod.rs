//! What makes vectors of a causal model worth comparing: `v = (h - mean) . matrix`, behind a recipe and before a vector is
//! cut and normalised.
//!
//! A model's hidden states lie in a narrow cone, and a few of their directions drown the others. Three makers straighten
//! that in closed form, each from more than the one before:
//!
//! - [`LogitSpace`], from the weights alone: dot products become those of what the model would say (`logits.rs`);
//! - [`Texts`], from texts that nobody has labelled: there, centred, and its directions evened out (`texts.rs`);
//! - [`Pairs`], from pairs that belong together: what differs within a pair counts less (`pairs.rs`).
//!
//! Directions are in falling order, so that the first numbers of a vector say the most. A calibration fits one model,
//! in whatever form: it names the tokenizer and what the weights go back to ([`Lineage`]), and another model refuses it.
//! `file.rs` is how it lies on disk, `of_weights.rs` makes one from the weights where a model has none.

mod affine;
mod error;
mod file;
mod logits;
mod of_weights;
mod pairs;
mod sealed;
mod sums;
#[cfg(test)]
mod tests;
mod texts;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use motorbrain_actors::vectors::Straighten;
use serde::{Deserialize, Serialize};

pub use self::{
    affine::Affine, error::CalibrationError, logits::LogitSpace, of_weights::of_weights, pairs::Pairs, texts::Texts,
};
use crate::engine::{Lineage, OnnxLoader};
pub use crate::model::CALIBRATION as FILE;

/// What is done to a recipe's vectors, and for which these are.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// What is done.
    pub affine: Affine,
    /// What the vectors come from. Those of another recipe lie elsewhere.
    pub recipe: Recipe,
    /// The model.
    pub lineage: Lineage,
    /// How it was made.
    pub maker: Maker,
    /// What of, for people: how many texts, and which.
    pub made_from: String,
}

/// How a text's hidden states become a vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// The last one of the probe, behind prefix and text.
    Probe {
        /// Before the text.
        prefix: String,
        /// Behind it.
        probe: String,
    },
    /// The mean of the text's own.
    Mean,
    /// The text's last one.
    Last,
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probe { prefix, probe } => write!(f, "prefix {prefix:?} and probe {probe:?}"),
            Self::Mean => f.write_str("the mean of a text's states"),
            Self::Last => f.write_str("a text's last state"),
        }
    }
}

/// How a calibration was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maker {
    /// From the weights alone.
    Weights,
    /// From unlabelled texts.
    Texts,
    /// From pairs of texts.
    Pairs,
}

/// Where settings may say that the calibration comes from; where they say nothing, it is the file in the model's folder, and
/// without one, for vectors by a probe, [`Source::Weights`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// There is none.
    Nowhere,
    /// The weights alone, whatever lies beside them.
    Weights,
    /// This file.
    File(PathBuf),
}

/// The model's own calibration; `None` where there is none.
pub fn beside(model: &Path) -> Option<PathBuf> {
    Some(model.join(FILE)).filter(|file| file.exists())
}

/// That a calibration, or what it is made from so far, may be written at `path`: a file may be made in its folder, and what is
/// there already, if anything, is empty or one of the two.
///
/// # Errors
/// [`CalibrationError::Taken`], or the folder is none that may be written to.
pub fn check_place(path: &Path) -> Result<(), CalibrationError> {
    sealed::check_place(path, &[file::KIND, texts::KIND, pairs::KIND])
}

/// The calibration of a model that is loaded, read and checked. Blocks; where the model does not say what its weights go
/// back to, all of their bytes are read.
///
/// # Errors
/// It cannot be read, is damaged, or is another model's.
pub fn open(loader: &OnnxLoader, path: &Path) -> Result<Calibration, CalibrationError> {
    Calibration::read(path, loader.model().contract.hidden.unwrap_or(0), &loader.lineage()?)
}

impl Calibration {
    /// Numbers of a vector.
    pub fn dim(&self) -> usize {
        self.affine.dim()
    }

    /// A recipe's vector, straightened: not normalised, its directions in falling order.
    ///
    /// # Panics
    /// Where it has not as many numbers as the model's hidden states.
    pub fn apply(&self, hidden: &[f32]) -> Vec<f32> {
        self.affine.apply(hidden)
    }
}

impl Straighten for Affine {
    fn dim(&self) -> usize {
        self.dim()
    }

    fn straighten(&self, hidden: &[f32]) -> Vec<f32> {
        self.apply(hidden)
    }
}
