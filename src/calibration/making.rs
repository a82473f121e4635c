//! A calibration that is made from the weights while the model is loaded, on a thread of its own: a text that needs it
//! meanwhile waits.
//!
//! It is kept in the folder where forms of models are kept, in the same way: named by a hash of what it depends on,
//! sealed, and believed only where nobody else may have written.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{Arc, OnceLock},
    thread,
    time::Instant,
};

use tokio::sync::watch;

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

/// What came of it.
type Outcome = Result<Arc<Affine>, Arc<CalibrationError>>;

/// A calibration that may not be there yet; cheap to clone.
#[derive(Clone)]
pub struct Making {
    shared: Arc<Shared>,
    hidden: usize,
}

struct Shared {
    outcome: OnceLock<Outcome>,
    /// Whether there is one, for those who wait and do not block.
    done: watch::Sender<bool>,
}

impl Making {
    /// One that is there.
    pub fn done(affine: Affine) -> Self {
        let making = Self::new(affine.hidden());
        making.shared.finish(Ok(Arc::new(affine)));
        making
    }

    /// Begins to make the model's from its weights, unless an earlier process has kept it. The thread ends with it, whether
    /// anybody waits or not.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn begin(loader: &Arc<OnnxLoader>) -> io::Result<Self> {
        let (making, loader) = (Self::new(loader.model().contract.hidden.unwrap_or(0)), Arc::clone(loader));
        making.clone().run(move || made(&loader))?;
        Ok(making)
    }

    fn new(hidden: usize) -> Self {
        Self { shared: Arc::new(Shared { outcome: OnceLock::new(), done: watch::Sender::new(false) }), hidden }
    }

    fn run(self, make: impl FnOnce() -> Result<Affine, CalibrationError> + Send + 'static) -> io::Result<()> {
        let work = move || {
            let made = panic::catch_unwind(AssertUnwindSafe(make)).unwrap_or(Err(CalibrationError::Interrupted));
            self.shared.finish(made.map(Arc::new).map_err(Arc::new));
        };
        thread::Builder::new().name("motorbrain-calibration".to_owned()).spawn(work).map(drop)
    }

    /// Numbers of a vector: as many as of a hidden state, which is known before.
    pub fn dim(&self) -> usize {
        self.hidden
    }

    /// What came of it, if that is known.
    pub fn get(&self) -> Option<Result<Arc<Affine>, Arc<CalibrationError>>> {
        self.shared.outcome.get().cloned()
    }

    /// Blocks until it is there.
    ///
    /// # Errors
    /// Why there is none and will be none.
    pub fn wait(&self) -> Result<Arc<Affine>, Arc<CalibrationError>> {
        self.shared.outcome.wait().clone()
    }

    /// Waits until it is there, and blocks no thread.
    ///
    /// # Errors
    /// Why there is none and will be none.
    pub async fn ready(&self) -> Result<Arc<Affine>, Arc<CalibrationError>> {
        // The sender lives as long as this does, so that there is no error.
        let _ = self.shared.done.subscribe().wait_for(|is_done| *is_done).await;
        self.wait()
    }
}

impl Shared {
    fn finish(&self, outcome: Outcome) {
        if let Err(error) = &outcome {
            tracing::warn!(%error, "there is no calibration from the weights; vectors are as the model gives them");
        }
        let _ = self.outcome.set(outcome);
        self.done.send_replace(true);
    }
}

/// A model's calibration from its weights: kept by an earlier process, or made now and kept.
fn made(loader: &OnnxLoader) -> Result<Affine, CalibrationError> {
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
        "a calibration is made from the weights, which takes seconds (a minute for billions); texts to embed wait for it"
    );
    let affine = LogitSpace::of(model)?.affine()?;
    tracing::info!(seconds = began.elapsed().as_secs_f64(), "the calibration from the weights is made");
    // That it cannot be kept costs the time again, and was logged.
    let _ = cache.keep(&sealed::encode(KIND, &(), &affine.tensors()));
    Ok(affine)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::mpsc;

    use motorbrain_kernels::dense::Dense;

    use super::*;

    fn affine() -> Affine {
        Affine::of(&[0.0, 0.0], &Dense::of(2, 2, vec![2.0, 0.0, 0.0, 1.0])).unwrap()
    }

    #[tokio::test]
    async fn whoever_comes_before_it_is_made_waits_and_gets_it() {
        let making = Making::new(2);
        let (go, wait) = mpsc::channel::<()>();
        let make = move || {
            wait.recv().unwrap();
            Ok(affine())
        };
        making.clone().run(make).unwrap();
        assert!(making.get().is_none());
        assert_eq!(making.dim(), 2);
        let blocked = thread::spawn({
            let making = making.clone();
            move || making.wait().unwrap()
        });
        let ready = tokio::spawn({
            let making = making.clone();
            async move { making.ready().await.unwrap() }
        });
        go.send(()).unwrap();
        assert_eq!(*ready.await.unwrap(), affine());
        assert_eq!(*blocked.join().unwrap(), affine());
        assert_eq!(*making.get().unwrap().unwrap(), affine());
        assert_eq!(*making.ready().await.unwrap(), affine());
        assert_eq!(*Making::done(affine()).wait().unwrap(), affine());
    }

    #[test]
    fn nobody_waits_for_what_has_failed() {
        for panics in [false, true] {
            let making = Making::new(2);
            let make = move || if panics { panic!("a test's") } else { Err(CalibrationError::NotFinite) };
            making.clone().run(make).unwrap();
            let told = making.wait().unwrap_err();
            assert_eq!(panics, matches!(*told, CalibrationError::Interrupted), "{told:?}");
        }
    }
}
