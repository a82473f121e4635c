//! The value of a tensor that is one constant number, computed where exporters left it as arithmetic
//! on constants (a softmax scale as a root, an epsilon behind a cast).

use half::f16;

use crate::model::{
    onnx::{self, TensorProto},
    view::View,
};

/// How many nodes may lie between the number and the constants it is made from.
const DEPTH_MAX: usize = 8;

const DOUBLE: i32 = 11;

/// The number, where the tensor is one.
pub(super) fn scalar(view: &View<'_>, tensor: &str) -> Option<f64> {
    within(view, tensor, DEPTH_MAX)
}

fn within(view: &View<'_>, tensor: &str, depth: usize) -> Option<f64> {
    if let Some(constant) = view.constant(tensor) {
        return number(constant);
    }
    let (_, node) = view.producer(tensor).filter(|_| depth > 0)?;
    let input = |index: usize| within(view, node.input.get(index)?, depth - 1);
    Some(match node.op_type() {
        "Constant" => f64::from(node.attr("value_float")?.f?),
        "Cast" | "Identity" | "Unsqueeze" | "Squeeze" | "Reshape" => input(0)?,
        "Sqrt" => input(0)?.sqrt(),
        "Reciprocal" => input(0)?.recip(),
        "Mul" => input(0)? * input(1)?,
        "Div" => input(0)? / input(1)?,
        "Pow" => input(0)?.powf(input(1)?),
        _ => return None,
    })
}

/// The number of a constant of one element.
fn number(tensor: &TensorProto) -> Option<f64> {
    if tensor.dims.iter().any(|&dim| dim != 1) || tensor.data_location() == onnx::EXTERNAL {
        return None;
    }
    let raw = tensor.raw_data.as_deref();
    match tensor.data_type() {
        onnx::FLOAT => match raw {
            Some(raw) => Some(f64::from(f32::from_le_bytes(raw.try_into().ok()?))),
            None => tensor.float_data.first().map(|&value| f64::from(value)),
        },
        onnx::FLOAT16 => {
            let bits = match raw {
                Some(raw) => u16::from_le_bytes(raw.try_into().ok()?),
                None => u16::try_from(*tensor.int32_data.first()?).ok()?,
            };
            Some(f16::from_bits(bits).to_f64())
        }
        DOUBLE => match raw {
            Some(raw) => Some(f64::from_le_bytes(raw.try_into().ok()?)),
            None => tensor.double_data.first().copied(),
        },
        onnx::INT64 => match raw {
            Some(raw) => Some(i64::from_le_bytes(raw.try_into().ok()?) as f64),
            None => tensor.int64_data.first().map(|&value| value as f64),
        },
        _ => None,
    }
}
