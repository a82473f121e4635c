//! From unlabelled texts: what their vectors have in common is taken off, and what they differ in most is held back.
//!
//! In the space of logits (`y = h . G`), with `U e U'` the covariance of the texts' vectors, direction `i` is scaled by
//! `(e_i + 0.1 mean(e))^(-1/4)`: half of what would make all directions alike, and less where few texts say little of a
//! direction. Both numbers were the best on docstrings and their code. The mean is kept in the hidden states' own space, and `G` and
//! directions are one matrix.

use std::path::Path;

use motorbrain_kernels::{
    dense::Directions,
    moments::{Covariance, Moments},
};

use super::{
    Affine, CalibrationError, LogitSpace,
    sealed::{self, Kind, Opened},
    sums::{About, check, of_file, tensors},
};

/// Of the mean eigenvalue, so much is added to each.
const SHRINKAGE: f64 = 0.1;

/// Directions are scaled by this power of their eigenvalue.
const POWER: f64 = -0.25;

/// The fewest texts that have a covariance.
const TEXTS_MIN: u64 = 2;

pub(super) const KIND: Kind = Kind { format: "motorbrain.calibration.texts", what: "sums of texts" };
const NAMES: [[&str; 3]; 1] = [["sum", "products", "waiting"]];

/// Sums over texts' vectors, to which more can be added at any time; as large for one text as for a million.
#[derive(Clone, Debug, PartialEq)]
pub struct Texts {
    moments: Moments,
}

impl Texts {
    /// Of no texts yet, for hidden states of this size.
    pub fn new(hidden: usize) -> Self {
        Self { moments: Moments::new(hidden) }
    }

    /// Adds a text's vector, as the recipe gives it.
    ///
    /// # Errors
    /// It is of another size, or has a number that is none. Nothing was added.
    pub fn add(&mut self, hidden: &[f32]) -> Result<(), CalibrationError> {
        check(hidden, self.moments.width())?;
        self.moments.add(hidden);
        Ok(())
    }

    /// Texts that were added.
    pub fn count(&self) -> u64 {
        self.moments.count()
    }

    /// The calibration, all directions. Takes seconds for some thousand numbers.
    ///
    /// # Errors
    /// There are too few texts, or all are the same.
    pub fn finish(&self, space: &LogitSpace) -> Result<Affine, CalibrationError> {
        let (found, expected) = (self.count(), TEXTS_MIN);
        let too_few = CalibrationError::TooFew { what: "texts", found, expected };
        let covariance = self.moments.covariance().filter(|_| found >= expected).ok_or(too_few)?;
        let Covariance { mean, matrix } = covariance;
        let directions = space.g().around(&matrix).directions();
        let Directions { values, vectors } = directions.ok_or(CalibrationError::NotFinite)?;
        let shrinkage = SHRINKAGE * values.iter().sum::<f64>() / values.len() as f64;
        let scales: Vec<f64> = values.iter().map(|e| (e.max(0.0) + shrinkage).powf(POWER)).collect();
        let whitening = space.g().times(&vectors.scaled(&scales));
        let alike = CalibrationError::Alike { what: "the texts' vectors" };
        Affine::of(&mean, &whitening).filter(|_| shrinkage > 0.0).ok_or(alike)
    }

    /// Writes the sums to a file, to go on from later: to the bit as if there had been no pause. `note` is kept beside
    /// them, for whoever has to know which texts these are.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path, note: &str) -> Result<(), CalibrationError> {
        let about = About { counts: vec![self.count()], note: note.to_owned() };
        sealed::write(path, &sealed::encode(KIND, &about, &tensors([&self.moments], NAMES)))
    }

    /// What [`Self::save`] wrote for hidden states of this size, with its note.
    ///
    /// # Errors
    /// It is another file, or damaged.
    pub fn load(path: &Path, hidden: usize) -> Result<(Self, String), CalibrationError> {
        let ([moments], note) = of_file(Opened::open(path, KIND)?, hidden, NAMES)?;
        Ok((Self { moments }, note))
    }
}
