//! The threads that a kernel's tasks are shared among: whoever calls a kernel brings them.

/// A way to do many tasks at once.
pub trait Threads {
    /// Why tasks were not done.
    type Error;

    /// Calls `task` once for each index below `count`, in any order and on any threads, and returns when all are
    /// done.
    ///
    /// # Errors
    /// Not all of them were done.
    fn share(&self, count: usize, task: &(dyn Fn(usize) + Sync + Send)) -> Result<(), Self::Error>;
}
