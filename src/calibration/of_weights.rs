//! A calibration that is made from the weights where a model has none, once on a machine.
//!
//! It is kept in the folder where forms of models are kept, in the same way: named by a hash of what it depends on,
//! sealed, and believed only where nobody else may have written.

use std::{path::Path, time::Instant};

use super::{
    Affine, CalibrationError, LogitSpace,
    sealed::{self, Kind, Opened},
};
use crate::engine::OnnxLoader;

const KIND: Kind = Kind { format: "motorbrain.calibration.weights", what: "calibration from weights" };

/// What kept calibrations' names begin with.
const PREFIX: &str = "calibration-";

/// Part of their names: raised with each change of how they are made.
const MAKING_VERSION: u32 = 1;

/// A model's calibration from its weights: kept by an earlier process, or made now and kept. Blocks, for seconds.
///
/// # Errors
/// The model's output projection cannot be read.
pub fn of_weights(loader: &OnnxLoader) -> Result<Affine, CalibrationError> {
    let model = loader.model();
    let hidden = model.contract.hidden.unwrap_or(0);
    let cache = loader.cache(PREFIX, MAKING_VERSION);
    let read = |bytes: &[u8]| {
        let path = Path::new("what was kept");
        Affine::opened(Opened::begin(bytes, bytes.len() as u64, path, KIND)?, hidden)
    };
    if let Ok(affine) = cache.get().map_err(drop).and_then(|bytes| read(&bytes).map_err(drop)) {
        tracing::debug!(model = %model.dir.display(), "the calibration from the weights was kept");
        return Ok(affine);
    }
    let began = Instant::now();
    tracing::info!(
        model = %model.dir.display(), vocab = model.contract.vocab, hidden,
        "a calibration is made from the weights, which takes seconds (a minute for billions); the start waits for it"
    );
    let affine = LogitSpace::of(model)?.affine()?;
    tracing::info!(seconds = began.elapsed().as_secs_f64(), "the calibration from the weights is made");
    // That it cannot be kept costs the time again, and was logged.
    let _ = cache.keep(&sealed::encode(KIND, &(), &affine.tensors()));
    Ok(affine)
}
