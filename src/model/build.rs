//! Small pieces that passes put into a graph.

use bytes::Bytes;
use half::f16;

use super::{
    contract::{ElementType, schema_number},
    onnx::{self, AttributeProto, NodeProto, TensorProto},
};

/// A node of the standard domain.
pub(crate) fn operator(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
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
pub(crate) fn cast(input: &str, output: &str, to: ElementType) -> NodeProto {
    with(operator("Cast", &[input], &[output]), vec![int("to", i64::from(schema_number(to)))])
}

/// A constant as a node: in old graphs an initializer would have to be an input, too.
pub(crate) fn constant(output: &str, value: TensorProto) -> NodeProto {
    let attribute = AttributeProto {
        name: Some("value".to_owned()),
        t: Some(Box::new(value)),
        r#type: Some(onnx::ATTRIBUTE_TENSOR),
        ..AttributeProto::default()
    };
    with(operator("Constant", &[], &[output]), vec![attribute])
}

/// The node with these attributes.
pub(crate) fn with(node: NodeProto, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { attribute, ..node }
}

/// The node in the domain of ONNX Runtime's own operators.
pub(crate) fn microsoft(node: NodeProto) -> NodeProto {
    NodeProto { domain: Some(onnx::MICROSOFT.to_owned()), ..node }
}

/// An integer attribute.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        i: Some(value),
        r#type: Some(onnx::ATTRIBUTE_INT),
        ..AttributeProto::default()
    }
}

/// An attribute of integers.
pub(crate) fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        ints,
        r#type: Some(onnx::ATTRIBUTE_INTS),
        ..AttributeProto::default()
    }
}

/// A float attribute.
pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        f: Some(value),
        r#type: Some(onnx::ATTRIBUTE_FLOAT),
        ..AttributeProto::default()
    }
}

/// Constant integers, `[values]`, or one without dimensions.
pub(crate) fn integers(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, dims, onnx::INT64, data)
}

/// Constant floats, rounded to their type.
pub(crate) fn floats(name: &str, dims: &[i64], element: ElementType, values: impl Iterator<Item = f64>) -> TensorProto {
    let data: Vec<u8> = match element {
        ElementType::F32 => values.flat_map(|value| (value as f32).to_le_bytes()).collect(),
        ElementType::F16 => values.flat_map(|value| f16::from_f64(value).to_le_bytes()).collect(),
    };
    tensor(name, dims, schema_number(element), data)
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
