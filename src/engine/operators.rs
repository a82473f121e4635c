//! Our own operators in ONNX Runtime's graph, and what they have in common.
//!
//! The runtime calls them through C, where a panic would end the process. So every panic is caught here
//! and becomes the run's error.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use motorbrain_kernels::Threads;
use ort::{
    operator::{ComputeContext, KernelContext, OperatorDomain, ShapeInferenceContext},
    value::{DynValue, ValueRef, ValueRefMut, ValueType},
};

use super::{batch::Batch, constants::Constants, packed_linear::PackedLinear, paged_attention::PagedAttention, side};
use crate::model::paged::DOMAIN;

/// The operators of a session whose runs are described by `batch`.
pub(crate) fn operators(batch: &Batch, constants: &Arc<Constants>) -> ort::Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?
        .add(PagedAttention::new(batch.clone(), Arc::clone(constants)))?
        .add(PackedLinear { constants: Arc::clone(constants) })
}

/// Makes a session with our operators. The first one tells the runtime of their domain, and two that do so
/// at once fail: it looks whether it knows the domain, and then adds it.
pub(crate) fn with_domain<T>(commit: impl FnOnce() -> ort::Result<T>) -> ort::Result<T> {
    static DOMAIN: First = First(Mutex::new(false));
    DOMAIN.run(commit)
}

/// Lets one in at a time until one has succeeded.
struct First(Mutex<bool>);

impl First {
    fn run<T, E>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *done {
            drop(done);
            return work();
        }
        let result = work();
        *done = result.is_ok();
        result
    }
}

/// Runs a kernel; a panic becomes an error.
pub(crate) fn guard(operator: &str, work: impl FnOnce() -> ort::Result<()>) -> ort::Result<()> {
    side::engine(|| catch_unwind(AssertUnwindSafe(work))).unwrap_or_else(|_| Err(panicked(operator)))
}

fn panicked(operator: &str) -> ort::Error {
    ort::Error::new(format!("{operator} panicked"))
}

/// The threads of the session that calls an operator.
pub(crate) struct SessionThreads<'a> {
    pub context: &'a ComputeContext,
    /// Whose tasks they do, as errors name it.
    pub operator: &'static str,
}

impl Threads for SessionThreads<'_> {
    type Error = ort::Error;

    fn share(&self, count: usize, task: &(dyn Fn(usize) + Sync + Send)) -> ort::Result<()> {
        let failed = AtomicBool::new(false);
        let task = |index| {
            if side::engine(|| catch_unwind(AssertUnwindSafe(|| task(index)))).is_err() {
                failed.store(true, Ordering::Release);
            }
        };
        side::runtime(|| self.context.par_for(count, 0, task))?;
        if failed.into_inner() { Err(panicked(self.operator)) } else { Ok(()) }
    }
}

/// A node's integer attribute.
pub(crate) fn size(context: &KernelContext<'_>, operator: &str, name: &str) -> ort::Result<usize> {
    let value = context.get::<i64>(name).and_then(|value| usize::try_from(value).ok());
    value.ok_or_else(|| ort::Error::new(format!("{operator} has no attribute `{name}`")))
}

/// A tensor's last dimension and its numbers; `None` where the graph leaves the input out.
pub(crate) fn floats(value: Option<&DynValue>) -> ort::Result<Option<(usize, &[f32])>> {
    let Some(value) = value else { return Ok(None) };
    let (shape, numbers) = value.try_extract_tensor::<f32>()?;
    let width = shape.last().and_then(|width| usize::try_from(*width).ok());
    Ok(Some((width.unwrap_or(0), numbers)))
}

/// One of the operator's inputs.
pub(crate) fn input(context: &ComputeContext, index: usize) -> ort::Result<Option<ValueRef<'_>>> {
    side::runtime(|| context.input(index))
}

/// The operator's one output.
pub(crate) fn output<'c>(context: &'c ComputeContext, operator: &str, shape: &[i64]) -> ort::Result<ValueRefMut<'c>> {
    let output = side::runtime(|| context.output(0, shape))?;
    output.ok_or_else(|| ort::Error::new(format!("{operator} has no output")))
}

/// The output has the first input's shape but for its last dimension: said while the graph is loaded, so
/// that the runtime can fuse what follows.
pub(crate) fn set_width(context: &mut ShapeInferenceContext, width: i64) -> ort::Result<()> {
    let Some(ValueType::Tensor { ty, mut shape, dimension_symbols }) = context.inputs().into_iter().next() else {
        return Ok(());
    };
    if let Some(last) = shape.last_mut() {
        *last = width;
    }
    context.set_output(0, &ValueType::Tensor { ty, shape, dimension_symbols })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::{
        sync::{Barrier, atomic::AtomicUsize},
        thread,
    };

    use super::*;

    #[test]
    fn one_after_the_other_until_one_succeeds_and_then_all_at_once() {
        let first = First(Mutex::new(false));
        let (inside, tries) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    first.run(|| {
                        let number = tries.fetch_add(1, Ordering::SeqCst);
                        let others = inside.fetch_add(1, Ordering::SeqCst);
                        assert!(number > 1 || others == 0, "{others} others");
                        inside.fetch_sub(1, Ordering::SeqCst);
                        // The first fails, so the second is alone as well.
                        if number == 0 { Err(()) } else { Ok(()) }
                    })
                });
            }
        });
        // Both must be inside to pass.
        let both = Barrier::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| first.run(|| Ok::<_, ()>(both.wait())).unwrap());
            }
        });
    }
}
