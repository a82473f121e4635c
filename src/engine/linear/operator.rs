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
    kernel::{Scratch, multiply},
    packed::{PANEL, Packed},
};
use crate::{
    engine::{
        constants::Constants,
        operators::{floats, guard, output, set_width, share, size},
    },
    model::paged::LINEAR,
};

/// Tasks of a product at most: several for each thread, so that none waits long for another.
const TASKS_MAX: usize = 32;

/// Products with packed weights, which the attribute `index` counts.
pub(crate) struct PackedLinear {
    pub constants: Arc<Constants>,
}

/// One node of the graph.
pub(crate) struct LinearKernel {
    constants: Arc<Constants>,
    index: usize,
}

impl Operator for PackedLinear {
    type Kernel<'attr> = LinearKernel;

    fn name(&self) -> &str {
        LINEAR
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
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
        Ok(LinearKernel { constants: Arc::clone(&self.constants), index })
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let width = context.attr::<i64>("outputs")?;
        set_width(context, width)
    }
}

impl Kernel for LinearKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        guard(LINEAR, || run(&self.constants.linears[self.index], context))
    }
}

fn run(weights: &Packed, context: &ComputeContext) -> ort::Result<()> {
    let input = context.input(0)?;
    let input = input.as_deref().ok_or_else(|| ort::Error::new(format!("{LINEAR} has no input")))?;
    let mut shape = input.shape().to_vec();
    let (width, rows) = floats(Some(input))?.unwrap_or_default();
    if width != weights.inputs {
        return Err(ort::Error::new(format!("{LINEAR} takes {} numbers a row, not {width}", weights.inputs)));
    }
    if let Some(last) = shape.last_mut() {
        *last = weights.outputs as i64;
    }
    let mut output = output(context, LINEAR, &shape)?;
    let (_, output) = output.try_extract_tensor_mut::<f32>()?;
    if output.is_empty() {
        return Ok(());
    }
    let panels = weights.panels();
    let tasks = panels.min(TASKS_MAX);
    // Each task's outputs are columns, so rows are what tasks take turns to write to.
    let output: Vec<Mutex<&mut [f32]>> = output.chunks_mut(weights.outputs).map(Mutex::new).collect();
    share(context, LINEAR, tasks, |task| {
        let panels = task * panels / tasks..(task + 1) * panels / tasks;
        give(weights, panels, rows, &output);
    })
}

fn give(weights: &Packed, panels: std::ops::Range<usize>, rows: &[f32], output: &[Mutex<&mut [f32]>]) {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    SCRATCH.with_borrow_mut(|scratch| {
        multiply(weights, panels.clone(), rows, scratch);
        let columns = panels.start * PANEL..weights.outputs.min(panels.end * PANEL);
        for (row, sums) in output.iter().zip(scratch.sums.chunks_exact(panels.len() * PANEL)) {
            let mut row = row.lock().unwrap_or_else(PoisonError::into_inner);
            let to = &mut row[columns.clone()];
            to.copy_from_slice(&sums[..to.len()]);
        }
    });
}
