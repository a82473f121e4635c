//! The model's graph in a session of ONNX Runtime: one row in, hidden states and logits out.
//!
//! Everything about names, shapes and element types of the graph ends here; above it there are only
//! tokens, rows of f32 and [`KvCache`]s. Every run goes through one [`IoBinding`], so that keys and
//! values stay in the runtime's tensors and are never copied through a `Vec`.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use half::f16;
use motorbrain_actors::{
    engine::{EngineError, EngineErrorKind, Interrupt},
    tokens::TokenId,
};
use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{
        IoBinding, NoSelectedOutputs, RunOptions, Session,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::{DynTensor, DynTensorValueType, DynValue, Tensor, TensorElementType},
};

use super::{
    kv_cache::{KvCache, LayerKv},
    runtime::Runtime,
};
use crate::model::{Contract, Family, Head, Model};

/// How a session uses the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads that share the work of one run.
    pub threads: usize,
    /// Whether they spin while they wait: 1.65 times as fast for one session that has the cores to
    /// itself, a loss for several that share them.
    pub spinning: bool,
}

/// One row of a run.
pub(crate) struct Feed<'a> {
    /// Tokens to run, at least one.
    pub tokens: &'a [TokenId],
    /// How many tokens of the cache they follow: the first one's position.
    pub past: usize,
    /// Which of them give logits, as rising indices.
    pub logits_of: &'a [usize],
    /// Whether hidden states are wanted.
    pub hidden: bool,
}

/// What a run gave. Rows of f32 whatever the graph's own element type.
#[derive(Default)]
pub(crate) struct Outputs {
    /// `[logits_of, vocab]`.
    pub logits: Vec<f32>,
    /// `[tokens, hidden]`, if wanted.
    pub hidden: Vec<f32>,
    /// A plain graph's new cache.
    pub kv: Option<KvCache>,
}

/// See the module's description.
pub(crate) struct Graph {
    session: Session,
    binding: IoBinding,
    cpu: MemoryInfo<'static>,
    contract: Contract,
    head: Option<Head>,
    stop: Arc<Stop>,
}

/// Stops a run from another thread. The runtime's own error for it is a generic one, so the flag
/// tells a stopped run from a failed one.
struct Stop {
    options: RunOptions<NoSelectedOutputs>,
    requested: AtomicBool,
}

impl Interrupt for Stop {
    fn interrupt(&self) {
        self.requested.store(true, Ordering::Release);
        if let Err(error) = self.options.terminate() {
            tracing::warn!(%error, "the runtime does not stop its run");
        }
    }
}

impl Graph {
    /// Loads the model's overlay into a session.
    ///
    /// # Errors
    /// The runtime's own.
    pub(crate) fn load(runtime: &Runtime, model: &Model, options: SessionOptions) -> ort::Result<Self> {
        let session = builder(runtime, options, &model.overlay.folder)?.commit_from_memory(&model.overlay.bytes)?;
        let binding = session.create_binding()?;
        Ok(Self {
            session,
            binding,
            cpu: MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)?,
            contract: model.contract.clone(),
            head: model.overlay.head,
            stop: Arc::new(Stop { options: RunOptions::new()?, requested: AtomicBool::new(false) }),
        })
    }

    /// What the graph takes and gives.
    pub(crate) fn contract(&self) -> &Contract {
        &self.contract
    }

    /// A handle that stops a run.
    pub(crate) fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.stop.clone()
    }

    /// Takes note of an interrupt since the last call: true once for each.
    pub(crate) fn take_interrupt(&self) -> bool {
        let requested = self.stop.requested.swap(false, Ordering::AcqRel);
        if requested && let Err(error) = self.stop.options.unterminate() {
            tracing::warn!(%error, "the runtime stays stopped");
        }
        requested
    }

    /// Runs one row on a cache that [`KvMemory::fits`](super::kv_cache::KvMemory::fits) it. A GroupQueryAttention graph writes the new
    /// rows into `kv`, behind the past ones; a plain graph gives a new cache.
    pub(crate) fn run(&mut self, kv: &mut KvCache, feed: &Feed<'_>) -> ort::Result<Outputs> {
        let outputs = self.bind(kv, feed).and_then(|()| self.run_bound(feed));
        // The binding would keep this row's tensors alive until the next run.
        self.binding.clear();
        outputs
    }

    fn bind(&mut self, kv: &mut KvCache, feed: &Feed<'_>) -> ort::Result<()> {
        let new = feed.tokens.len();
        let binding = &mut self.binding;
        let row = |values: Vec<i64>| Tensor::from_array(([1, values.len()], values));
        binding.bind_input("input_ids", &row(feed.tokens.iter().map(|t| i64::from(t.0)).collect())?)?;
        if self.contract.attention_mask {
            binding.bind_input("attention_mask", &row(vec![1; feed.past + new])?)?;
        }
        if self.contract.position_ids {
            binding.bind_input("position_ids", &row((feed.past as i64..).take(new).collect())?)?;
        }
        if let Some(head) = &self.head {
            let rows: Vec<i64> = feed.logits_of.iter().map(|i| *i as i64).collect();
            binding.bind_input(head.row_index, &Tensor::from_array(([rows.len()], rows))?)?;
            if feed.hidden {
                binding.bind_output_to_device(head.hidden_output, &self.cpu)?;
            }
        }
        if !feed.logits_of.is_empty() {
            binding.bind_output_to_device("logits", &self.cpu)?;
        }
        for (names, layer) in self.contract.kv.iter().zip(&mut kv.layers) {
            for (past, present, tensor) in [
                (&names.past_key, &names.present_key, &mut layer.key),
                (&names.past_value, &names.present_value, &mut layer.value),
            ] {
                binding.bind_input(past, tensor)?;
                match self.contract.family {
                    Family::Plain => binding.bind_output_to_device(present, &self.cpu)?,
                    Family::GroupQueryAttention => binding.bind_output(present, tensor)?,
                }
            }
        }
        Ok(())
    }

    fn run_bound(&mut self, feed: &Feed<'_>) -> ort::Result<Outputs> {
        let mut given = self.session.run_binding_with_options(&self.binding, &self.stop.options)?;
        let mut outputs = Outputs::default();
        if !feed.logits_of.is_empty() {
            let logits = to_f32(&take(&mut given, "logits")?)?;
            outputs.logits = match self.head {
                Some(_) => logits,
                None => pick(&logits, self.contract.vocab, feed)?,
            };
        }
        if let Some(head) = self.head.as_ref().filter(|_| feed.hidden) {
            outputs.hidden = to_f32(&take(&mut given, head.hidden_output)?)?;
        }
        if self.contract.family == Family::Plain {
            let layers = self.contract.kv.iter().map(|names| {
                Ok(LayerKv {
                    key: take(&mut given, &names.present_key)?,
                    value: take(&mut given, &names.present_value)?,
                })
            });
            let layers = layers.collect::<ort::Result<_>>()?;
            outputs.kv = Some(KvCache { layers, capacity: feed.past + feed.tokens.len() });
        }
        Ok(outputs)
    }
}

fn builder(runtime: &Runtime, options: SessionOptions, folder: &std::path::Path) -> ort::Result<SessionBuilder> {
    let folder: PathBuf = folder.into();
    Ok(Session::builder(runtime.environment())?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(options.spinning)?
        .with_config_entry("session.model_external_initializers_file_folder_path", folder.to_string_lossy())?)
}

/// The wanted rows of a graph that gives logits of all tokens, or of the last one only.
fn pick(logits: &[f32], vocab: usize, feed: &Feed<'_>) -> ort::Result<Vec<f32>> {
    let first = feed.tokens.len().saturating_sub(logits.len() / vocab);
    let row = |index: &usize| logits.get(index.checked_sub(first)? * vocab..)?.get(..vocab);
    let rows: Option<Vec<&[f32]>> = feed.logits_of.iter().map(row).collect();
    let rows = rows
        .ok_or_else(|| ort::Error::new("the graph gives logits of the last token only: it steps, but cannot score"))?;
    Ok(rows.concat())
}

fn take(outputs: &mut ort::session::SessionOutputs<'_>, name: &str) -> ort::Result<DynTensor> {
    let value: DynValue = outputs.remove(name).ok_or_else(|| ort::Error::new(format!("the run gave no `{name}`")))?;
    value.downcast::<DynTensorValueType>()
}

fn to_f32(tensor: &DynTensor) -> ort::Result<Vec<f32>> {
    Ok(match tensor.data_type() {
        TensorElementType::Float16 => tensor.try_extract_tensor::<f16>()?.1.iter().map(|x| x.to_f32()).collect(),
        _ => tensor.try_extract_tensor::<f32>()?.1.to_vec(),
    })
}

/// An engine's error for one of the runtime's. Whatever a kernel refuses, the session stays usable.
pub(crate) fn engine_error(error: &ort::Error, row: Option<usize>) -> EngineError {
    let message = error.message().to_owned();
    let kind = if message.contains("bad_alloc") || message.contains("Failed to allocate memory") {
        EngineErrorKind::OutOfMemory
    } else if error.code() == ort::ErrorCode::DeviceReset {
        EngineErrorKind::Fatal
    } else {
        EngineErrorKind::Rejected
    };
    EngineError { kind, row, message }
}
