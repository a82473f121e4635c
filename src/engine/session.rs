//! What all sessions have in common: how they are made, stopped, fed and read.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use half::{f16, slice::HalfFloatSliceExt};
use motorbrain_actors::engine::{EngineError, EngineErrorKind, Interrupt};
use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{
        NoSelectedOutputs, RunOptions, Session, SessionOutputs,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::{DynTensor, DynTensorValueType, DynValue, Tensor, TensorElementType},
};

use super::{runtime::Runtime, side};

/// How a session uses the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads that share the work of one run.
    pub threads: usize,
    /// Whether they spin while they wait: 1.65 times as fast for one session that has the cores to
    /// itself, a loss for several that share them.
    pub spinning: bool,
}

/// A builder with the options of all sessions; `folder` is where the graph's weights lie.
pub(crate) fn builder(runtime: &Runtime, options: SessionOptions, folder: &Path) -> ort::Result<SessionBuilder> {
    Ok(Session::builder(runtime.environment())?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(options.spinning)?
        .with_config_entry("session.model_external_initializers_file_folder_path", folder.to_string_lossy())?)
}

/// Where outputs are wanted.
pub(crate) fn cpu() -> ort::Result<MemoryInfo<'static>> {
    MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)
}

/// Stops a run from another thread. The runtime's own error for it is a generic one, so the flag
/// tells a stopped run from a failed one.
pub(crate) struct Stop {
    /// To run with.
    pub options: RunOptions<NoSelectedOutputs>,
    requested: AtomicBool,
}

impl Stop {
    pub(crate) fn new() -> ort::Result<Arc<Self>> {
        Ok(Arc::new(Self { options: RunOptions::new()?, requested: AtomicBool::new(false) }))
    }

    /// Takes note of an interrupt since the last call: true once for each.
    pub(crate) fn take(&self) -> bool {
        let requested = self.requested.swap(false, Ordering::AcqRel);
        if requested && let Err(error) = self.options.unterminate() {
            tracing::warn!(%error, "the runtime stays stopped");
        }
        requested
    }
}

impl Interrupt for Stop {
    fn interrupt(&self) {
        self.requested.store(true, Ordering::Release);
        if let Err(error) = self.options.terminate() {
            tracing::warn!(%error, "the runtime does not stop its run");
        }
    }
}

/// A tensor `[1, values]`.
pub(crate) fn row(values: Vec<i64>) -> ort::Result<Tensor<i64>> {
    Tensor::from_array(([1, values.len()], values))
}

/// An output that was bound.
pub(crate) fn take(outputs: &mut SessionOutputs<'_>, name: &str) -> ort::Result<DynTensor> {
    let value: Option<DynValue> = side::runtime(|| outputs.remove(name));
    let value = value.ok_or_else(|| ort::Error::new(format!("the run gave no `{name}`")))?;
    side::runtime(|| value.downcast::<DynTensorValueType>())
}

/// A tensor's numbers as f32; `wide` holds them where the tensor's are narrower.
pub(crate) fn floats<'a>(tensor: &'a DynTensor, wide: &'a mut Vec<f32>) -> ort::Result<&'a [f32]> {
    match tensor.data_type() {
        TensorElementType::Float16 => {
            let narrow = tensor.try_extract_tensor::<f16>()?.1;
            wide.resize(narrow.len(), 0.0);
            narrow.convert_to_f32_slice(wide);
            Ok(wide)
        }
        _ => Ok(tensor.try_extract_tensor::<f32>()?.1),
    }
}

/// How the runtime begins to say that there is no memory.
pub(crate) const NO_MEMORY: &str = "Failed to allocate memory";

/// An engine's error for one of the runtime's. Whatever a kernel refuses, the session stays usable.
pub(crate) fn engine_error(error: &ort::Error, row: Option<usize>) -> EngineError {
    let message = error.message().to_owned();
    let kind = if message.contains("bad_alloc") || message.contains(NO_MEMORY) {
        EngineErrorKind::OutOfMemory
    } else if error.code() == ort::ErrorCode::DeviceReset {
        EngineErrorKind::Fatal
    } else {
        EngineErrorKind::Rejected
    };
    EngineError { kind, row, message }
}
