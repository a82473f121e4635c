//! From pairs of texts that belong together: linear discriminant analysis, each pair a class of two.
//!
//! The scatter within pairs is what differs though the meaning is the same: it is whitened, with shrinkage, so that such
//! directions count less. Of what is left, the directions in which vectors vary most are kept. A pair's difference is
//! taken as it is: what all first texts have and no second one has (one is code, the other prose) differs within each pair
//! as well, and goes with the rest. All this happens in the space of logits, whose directions are of like size: hidden
//! states have a few that are a hundred times as large as others, and shrinkage by their mean would drown the rest.

use std::path::Path;

use motorbrain_kernels::{
    dense::{Dense, Directions},
    moments::{Covariance, Moments},
};

use super::{
    Affine, CalibrationError, LogitSpace,
    sealed::{self, Kind, Opened},
    sums::{About, check, of_file, tensors},
};

/// Of the mean of the scatter within pairs, so much is added to each direction.
const SHRINKAGE: f64 = 0.1;

/// Directions that are kept, at most: more were no better on docstrings and their code.
const DIM_MAX: usize = 256;

/// The fewest pairs that have a scatter.
const PAIRS_MIN: u64 = 2;

pub(super) const KIND: Kind = Kind { format: "motorbrain.calibration.pairs", what: "sums of pairs" };
const NAMES: [[&str; 3]; 2] = [["sum", "products", "waiting"], ["within.sum", "within.products", "within.waiting"]];

/// Sums over pairs of vectors, to which more can be added at any time; as large for one pair as for a million.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs {
    /// Of all vectors.
    all: Moments,
    /// Of each pair's difference.
    within: Moments,
}

impl Pairs {
    /// Of no pairs yet, for hidden states of this size.
    pub fn new(hidden: usize) -> Self {
        Self { all: Moments::new(hidden), within: Moments::new(hidden) }
    }

    /// Adds the vectors of two texts that belong together, as the recipe gives them.
    ///
    /// # Errors
    /// One is of another size, or has a number that is none. Nothing was added.
    pub fn add(&mut self, one: &[f32], other: &[f32]) -> Result<(), CalibrationError> {
        let differences: Vec<f32> = one.iter().zip(other).map(|(one, other)| one - other).collect();
        [one, other, &differences].into_iter().try_for_each(|vector| check(vector, self.all.width()))?;
        self.all.add(one);
        self.all.add(other);
        self.within.add(&differences);
        Ok(())
    }

    /// Pairs that were added.
    pub fn count(&self) -> u64 {
        self.within.count()
    }

    /// The calibration, 256 directions at most. Takes seconds for some thousand numbers.
    ///
    /// # Errors
    /// There are too few pairs, or all are the same.
    pub fn finish(&self, space: &LogitSpace) -> Result<Affine, CalibrationError> {
        let (found, expected) = (self.count(), PAIRS_MIN);
        let too_few = || CalibrationError::TooFew { what: "pairs", found, expected };
        let Covariance { mean, matrix: total } =
            self.all.covariance().filter(|_| found >= expected).ok_or_else(too_few)?;
        let within = space.g().around(&scatter(&self.within.covariance().ok_or_else(too_few)?));
        let shrinkage = match within.mean_of_diagonal() {
            mean if mean > 0.0 => SHRINKAGE * mean,
            // Of pairs that are the same text twice all directions are as good.
            _ => 1.0,
        };
        let Directions { values, vectors } = within.directions().ok_or(CalibrationError::NotFinite)?;
        let scales: Vec<f64> = values.iter().map(|e| (e.max(0.0) + shrinkage).sqrt().recip()).collect();
        let whitening = space.g().times(&vectors.scaled(&scales));
        let Directions { values, vectors } =
            whitening.around(&total).directions().ok_or(CalibrationError::NotFinite)?;
        let kept = vec![1.0; DIM_MAX.min(values.len())];
        let alike = CalibrationError::Alike { what: "the pairs' vectors" };
        let differs = values.first().is_some_and(|most| *most > 0.0);
        Affine::of(&mean, &whitening.times(&vectors.scaled(&kept))).filter(|_| differs).ok_or(alike)
    }

    /// Writes the sums to a file, to go on from later: to the bit as if there had been no pause. `note` is kept beside
    /// them, for whoever has to know which pairs these are.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path, note: &str) -> Result<(), CalibrationError> {
        let about = About { counts: vec![self.all.count(), self.within.count()], note: note.to_owned() };
        sealed::write(path, &sealed::encode(KIND, &about, &tensors([&self.all, &self.within], NAMES)))
    }

    /// What [`Self::save`] wrote for hidden states of this size, with its note.
    ///
    /// # Errors
    /// It is another file, or damaged.
    pub fn load(path: &Path, hidden: usize) -> Result<(Self, String), CalibrationError> {
        let ([all, within], note) = of_file(Opened::open(path, KIND)?, hidden, NAMES)?;
        Ok((Self { all, within }, note))
    }
}

/// Of differences: half of their mean square, which is the scatter of both texts around their middle.
fn scatter(differences: &Covariance) -> Dense {
    let Covariance { mean, matrix } = differences;
    let n = mean.len();
    let value = |index: usize| (matrix.values()[index] + mean[index / n] * mean[index % n]) / 2.0;
    Dense::of(n, n, (0..n * n).map(value).collect())
}
