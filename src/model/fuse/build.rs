//! Small pieces that the passes put into a graph.

use bytes::Bytes;
use half::f16;

use crate::model::{
    contract::ElementType,
    onnx::{self, AttributeProto, NodeProto, TensorProto},
};

/// The domain of ONNX Runtime's own operators.
pub(super) const MICROSOFT: &str = "com.microsoft";

// `type` of an `AttributeProto`.
const ATTRIBUTE_FLOAT: i32 = 1;
const ATTRIBUTE_INT: i32 = 2;

/// A node of the standard domain.
pub(super) fn operator(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        input: owned(inputs),
        output: owned(outputs),
        // Unique, as outputs are.
        name: outputs.first().map(|output| format!("motorbrain/{output}")),
        op_type: Some(op_type.to_owned()),
        ..NodeProto::default()
    }
}

/// A cast of `input` to a float type.
pub(super) fn cast(input: &str, output: &str, to: ElementType) -> NodeProto {
    with(operator("Cast", &[input], &[output]), vec![int("to", i64::from(to.schema_number()))])
}

/// The node with these attributes.
pub(super) fn with(node: NodeProto, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { attribute, ..node }
}

/// The node in the domain of ONNX Runtime's own operators.
pub(super) fn microsoft(node: NodeProto) -> NodeProto {
    NodeProto { domain: Some(MICROSOFT.to_owned()), ..node }
}

/// An integer attribute.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        i: Some(value),
        r#type: Some(ATTRIBUTE_INT),
        ..AttributeProto::default()
    }
}

/// A float attribute.
pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        f: Some(value),
        r#type: Some(ATTRIBUTE_FLOAT),
        ..AttributeProto::default()
    }
}

/// Constant integers, `[values]`, or one without dimensions.
pub(super) fn integers(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, dims, onnx::INT64, data)
}

/// Constant floats, rounded to their type.
pub(super) fn floats(name: &str, dims: &[i64], element: ElementType, values: impl Iterator<Item = f64>) -> TensorProto {
    let data: Vec<u8> = match element {
        ElementType::F32 => values.flat_map(|value| (value as f32).to_le_bytes()).collect(),
        ElementType::F16 => values.flat_map(|value| f16::from_f64(value).to_le_bytes()).collect(),
    };
    tensor(name, dims, element.schema_number(), data)
}

fn tensor(name: &str, dims: &[i64], data_type: i32, data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(data_type),
        raw_data: Some(Bytes::from(data)),
        ..TensorProto::default()
    }
}
