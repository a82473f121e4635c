//! The operator as ONNX Runtime sees it: attributes, tensors, threads.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError},
};

use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::TensorElementType,
};

use super::{
    columns::Columns,
    kernel::{Rows, Scratch, multiply, round_rows},
    packed::{PANEL, Packed},
    rounded::{Inputs, Rounded},
};
use crate::{
    engine::{
        constants::Constants,
        operators::{floats, guard, input, output, set_width, share, size},
    },
    model::paged::LINEAR,
};

/// Tasks of a product, where it is large enough: several for each thread, so that none waits long for another.
const TASKS: usize = 32;

/// Rows of a task at most: enough to share the unpacking of weights, and they stay in the second cache.
const ROWS_MAX: usize = 64;

/// Products with packed weights, which the attribute `index` counts.
pub(crate) struct PackedLinear {
    pub constants: Arc<Constants>,
}

/// One node of the graph.
pub(crate) struct LinearKernel {
    constants: Arc<Constants>,
    index: usize,
    /// Of the output; kept between runs for its memory.
    shape: Vec<i64>,
}

impl Operator for PackedLinear {
    type Kernel<'attr> = LinearKernel;

    fn name(&self) -> &str {
        LINEAR
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32), OperatorInput::optional(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Self::Kernel<'attr>> {
        let index = size(context, LINEAR, "index")?;
        let count = self.constants.linears.len();
        if index >= count {
            return Err(ort::Error::new(format!("{LINEAR} {index} has no weights, there are {count}")));
        }
        Ok(LinearKernel { constants: Arc::clone(&self.constants), index, shape: Vec::new() })
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let width = context.attr::<i64>("outputs")?;
        set_width(context, width)
    }
}

impl Kernel for LinearKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        guard(LINEAR, || self.run(context))
    }
}

impl LinearKernel {
    fn run(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let weights = &self.constants.linears[self.index];
        let (first, second) = (input(context, 0)?, input(context, 1)?);
        let first = first.as_deref().ok_or_else(|| ort::Error::new(format!("{LINEAR} has no input")))?;
        let (width, numbers) = floats(Some(first))?.unwrap_or_default();
        let second = floats(second.as_deref())?.map(|(_, numbers)| numbers);
        let Some(rows) = Inputs::of(weights.inputs, width, numbers, second) else {
            return Err(ort::Error::new(format!("{LINEAR} takes {} numbers a row, not {width}", weights.inputs)));
        };
        self.shape.clear();
        self.shape.extend_from_slice(first.shape());
        if let Some(last) = self.shape.last_mut() {
            *last = weights.outputs as i64;
        }
        let mut output = output(context, LINEAR, &self.shape)?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        if output.is_empty() {
            return Ok(());
        }
        thread_local! {
            static ROUNDED: RefCell<Rounded> = RefCell::default();
        }
        ROUNDED.with_borrow_mut(|rounded| {
            let count = numbers.len() / width;
            rounded.resize(count, weights.inputs, weights.block, weights.precision);
            round_all(context, weights, rows, rounded)?;
            multiply_all(context, weights, rounded, count, output)
        })
    }
}

fn round_all(context: &ComputeContext, weights: &Packed, rows: Inputs<'_>, rounded: &mut Rounded) -> ort::Result<()> {
    let chunk = ROWS_MAX * weights.inputs / weights.precision.packed();
    if rounded.packed.len() <= chunk {
        round_rows(weights, rows, &mut rounded.packed, &mut rounded.factors);
        return Ok(());
    }
    let factors = rounded.factors.chunks_mut(ROWS_MAX * weights.blocks());
    let parts: Vec<_> = rounded.packed.chunks_mut(chunk).zip(factors).map(Mutex::new).collect();
    share(context, LINEAR, parts.len(), |task| {
        let mut part = parts[task].lock().unwrap_or_else(PoisonError::into_inner);
        let (packed, factors) = &mut *part;
        round_rows(weights, rows.from(task * ROWS_MAX), packed, factors);
    })
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn multiply_all(
    context: &ComputeContext,
    weights: &Packed,
    rounded: &Rounded,
    count: usize,
    output: &mut [f32],
) -> ort::Result<()> {
    let chunks = count.div_ceil(ROWS_MAX);
    let all = weights.panels();
    let parts = TASKS.div_ceil(chunks).min(all);
    let output = Columns::all(output, weights.outputs);
    share(context, LINEAR, chunks * parts, |task| {
        let (chunk, part) = (task / parts, task % parts);
        let panels = part * all / parts..(part + 1) * all / parts;
        let (first, last) = (chunk * ROWS_MAX, count.min((chunk + 1) * ROWS_MAX));
        let (row, blocks) = (weights.inputs / weights.precision.packed(), weights.blocks());
        let rows = Rows {
            packed: &rounded.packed[first * row..last * row],
            factors: &rounded.factors[first * blocks..last * blocks],
            count: last - first,
        };
        let columns = panels.start * PANEL..weights.outputs.min(panels.end * PANEL);
        // SAFETY: each task is run once, and no two have the same rows and panels.
        #[expect(unsafe_code, reason = "see the comment")]
        let mut to = unsafe { output.part(first..last, columns) };
        SCRATCH.with_borrow_mut(|scratch| multiply(weights, panels, rows, scratch, &mut to));
    })
}
