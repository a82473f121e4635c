//! The run in progress, as the engine describes it to the operators of its session.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use motorbrain_kernels::attention::BatchRow;

/// The rows of the run in progress, in the order of their tokens.
#[derive(Clone, Default)]
pub(crate) struct Batch(Arc<Mutex<Vec<BatchRow>>>);

impl Batch {
    /// The rows. Held by the engine while it fills them and by each layer's attention while it runs.
    pub(super) fn rows(&self) -> MutexGuard<'_, Vec<BatchRow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
