//! Nodes as these passes write them.

use bytes::Bytes;

use crate::model::onnx::{self, AttributeProto, NodeProto, TensorProto};

/// A node of the standard operators.
pub(crate) fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        name: Some(format!("motorbrain/{}", outputs.first().unwrap_or(&""))),
        op_type: Some(op_type.to_owned()),
        input: owned(inputs),
        output: owned(outputs),
        ..NodeProto::default()
    }
}

/// A node of ONNX Runtime's own operators.
pub(crate) fn microsoft(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto { domain: Some(onnx::MICROSOFT.to_owned()), ..node(op_type, inputs, outputs) }
}

/// An attribute that is an integer.
pub(crate) fn integer(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        i: Some(i),
        r#type: Some(onnx::ATTRIBUTE_INT),
        ..AttributeProto::default()
    }
}

/// An attribute that is a list of integers.
pub(crate) fn integers(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        ints,
        r#type: Some(onnx::ATTRIBUTE_INTS),
        ..AttributeProto::default()
    }
}

/// A vector of integers as an initializer.
pub(crate) fn vector(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: vec![i64::try_from(values.len()).unwrap_or(i64::MAX)],
        data_type: Some(onnx::INT64),
        raw_data: Some(Bytes::from(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())),
        ..TensorProto::default()
    }
}
