//! Products with packed weights as an operator of ONNX Runtime: attributes, tensors, threads.

use std::sync::Arc;

use motorbrain_kernels::linear::{Inputs, multiply};
use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::TensorElementType,
};

use super::{
    constants::Constants,
    operators::{SessionThreads, floats, guard, input, output, set_width, size},
};
use crate::model::paged::LINEAR;

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
        let Some(rows) = Inputs::of(weights.inputs(), width, numbers, second) else {
            let (takes, rows) = (weights.inputs(), numbers.len() / width.max(1));
            let gate =
                second.map_or_else(String::new, |second| format!(" and a second input of {} numbers", second.len()));
            let message = format!(
                "{LINEAR} takes rows of {takes} numbers, twice as many for a gate, or two inputs of one size; it was \
                 given {rows} rows of {width}{gate}"
            );
            return Err(ort::Error::new(message));
        };
        self.shape.clear();
        self.shape.extend_from_slice(first.shape());
        if let Some(last) = self.shape.last_mut() {
            *last = weights.outputs() as i64;
        }
        let mut output = output(context, LINEAR, &self.shape)?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        multiply(weights, rows, output, &SessionThreads { context, operator: LINEAR })
    }
}
