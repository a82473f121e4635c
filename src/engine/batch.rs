//! The run in progress, as the engine describes it to the operators of its session.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use motorbrain_kernels::attention::BatchRow;

/// The rows of the run in progress, in the order of their tokens.
#[derive(Clone, Default)]
pub(crate) struct Batch(Arc<Mutex<Vec<BatchRow>>>);

impl Batch {
    /// Describes a run's rows, before it.
    ///
    /// # Panics
    /// An earlier run's are still there.
    pub(super) fn fill(&self, rows: impl Iterator<Item = BatchRow>) {
        let mut filled = self.rows();
        assert!(filled.is_empty(), "{} rows of an earlier run are left", filled.len());
        filled.extend(rows);
    }

    /// The run is over.
    pub(super) fn clear(&self) {
        self.rows().clear();
    }

    /// The rows. Held by the engine while it fills them and by each layer's attention while it runs.
    pub(super) fn rows(&self) -> MutexGuard<'_, Vec<BatchRow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
