//! Attention over paged keys and values as an operator of ONNX Runtime: attributes, tensors, threads.
//!
//! The runtime calls it once a layer with the queries, keys and values of all new tokens of a run. What else it
//! needs to know of the run it reads in the [`Batch`], which the engine fills before it calls the session.

use std::{
    mem,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use motorbrain_actors::reuse::emptied;
use motorbrain_kernels::{
    attention::{Found, Heads, Layer, Plan, Shape},
    rotary::{Layout, Rotary},
};
use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::TensorElementType,
};

use super::{
    batch::Batch,
    constants::{Constants, Table},
    operators::{SessionThreads, floats, guard, input, output, set_width, size},
};
use crate::model::paged::ATTENTION;

/// Attention over the rows of a batch.
pub(crate) struct PagedAttention {
    batch: Batch,
    constants: Arc<Constants>,
    parts: Parts,
}

/// What tasks find in one section each, until it is added up. A session's layers run one after the other, so
/// they share it.
type Parts = Arc<Mutex<Vec<Mutex<Found>>>>;

impl PagedAttention {
    /// For a session whose runs are described by `batch`.
    pub(crate) fn new(batch: Batch, constants: Arc<Constants>) -> Self {
        Self { batch, constants, parts: Parts::default() }
    }
}

/// One node of the graph.
pub(crate) struct AttentionKernel {
    batch: Batch,
    shape: Shape,
    constants: Arc<Constants>,
    /// Which tables rotate queries and keys; `None`: they are rotated already.
    table: Option<usize>,
    layout: Layout,
    parts: Parts,
    /// Kept between runs for their memory.
    plan: Plan,
    pieces: Vec<Mutex<&'static mut [f32]>>,
}

impl Operator for PagedAttention {
    type Kernel<'attr> = AttentionKernel;

    fn name(&self) -> &str {
        ATTENTION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let optional = || OperatorInput::optional(TensorElementType::Float32);
        [OperatorInput::required(TensorElementType::Float32), optional(), optional()]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Self::Kernel<'attr>> {
        let size = |name| size(context, ATTENTION, name);
        let shape = Shape {
            layer: size("layer")?,
            heads: size("num_heads")?,
            kv_heads: size("kv_num_heads")?,
            head_dim: size("head_dim")?,
            scale: context.get("scale").ok_or_else(|| ort::Error::new(format!("{ATTENTION} has no `scale`")))?,
            softcap: context.get("softcap").filter(|cap| *cap > 0.0),
            window: NonZeroUsize::new(size("window")?),
        };
        let shared = shape.kv_heads > 0 && shape.heads.is_multiple_of(shape.kv_heads);
        if !shared || shape.heads == 0 || shape.head_dim == 0 {
            return Err(ort::Error::new(format!("{ATTENTION} cannot share heads: {shape:?}")));
        }
        let layout = if size("rotary_interleaved")? == 0 { Layout::Halves } else { Layout::Interleaved };
        let table = context.get::<i64>("table").and_then(|table| usize::try_from(table).ok());
        if table.is_some_and(|table| table >= self.constants.tables.len()) {
            return Err(ort::Error::new(format!("{ATTENTION} has no rotation tables {table:?}")));
        }
        let (batch, constants, parts) = (self.batch.clone(), Arc::clone(&self.constants), Arc::clone(&self.parts));
        let (plan, pieces) = (Plan::default(), Vec::new());
        Ok(AttentionKernel { batch, shape, constants, table, layout, parts, plan, pieces })
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let width = context.attr::<i64>("num_heads")? * context.attr::<i64>("head_dim")?;
        set_width(context, width)
    }
}

impl Kernel for AttentionKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        guard(ATTENTION, || self.run(context))
    }
}

impl AttentionKernel {
    fn run(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (query, key, value) = (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let query = floats(query.as_deref())?;
        let (key, value) = (floats(key.as_deref())?, floats(value.as_deref())?);
        let rotary = self.table.map(|table| {
            let Table { pairs, cosines, sines } = &self.constants.tables[table];
            Rotary { cosines, sines, pairs: *pairs, layout: self.layout }
        });
        let rows = self.batch.rows();
        let tokens: usize = rows.iter().map(|row| row.tokens).sum();
        let [queries, keys, values] = heads(&self.shape, query, key, value);
        let layer = Layer { shape: self.shape, rows: &rows, queries, keys, values, rotary };
        layer.check(tokens).map_err(ort::Error::new)?;
        let width = self.shape.heads * self.shape.head_dim;
        let mut output = output(context, ATTENTION, &[1, tokens as i64, width as i64])?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        layer.plan(&mut self.plan);
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.len() < self.plan.parts() {
            parts.resize_with(self.plan.parts(), Mutex::default);
        }
        let mut pieces = emptied(mem::take(&mut self.pieces));
        layer.cut(output, &mut pieces);
        layer.run(&self.plan, &parts, &pieces, &SessionThreads { context, operator: ATTENTION })?;
        self.pieces = emptied(pieces);
        Ok(())
    }
}

/// Where queries, keys and values lie: in three tensors, or packed in the first.
fn heads<'a>(
    shape: &Shape,
    query: Option<(usize, &'a [f32])>,
    key: Option<(usize, &'a [f32])>,
    value: Option<(usize, &'a [f32])>,
) -> [Heads<'a>; 3] {
    let head_dim = shape.head_dim;
    let at = |tensor: Option<(usize, &'a [f32])>, first| {
        let (width, data) = tensor.unwrap_or_default();
        Heads { data, width, first, head_dim }
    };
    let behind_queries = shape.heads * head_dim;
    let behind_keys = behind_queries + shape.kv_heads * head_dim;
    match key {
        Some(_) => [at(query, 0), at(key, 0), at(value, 0)],
        None => [at(query, 0), at(query, behind_queries), at(query, behind_keys)],
    }
}
