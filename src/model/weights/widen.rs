//! f16 becomes f32 wherever a graph says it: in casts, constants, inputs and outputs.
//!
//! ONNX Runtime's CPU kernels compute in f32 and cast every f16 tensor there and back. Initializers
//! are widened when they are written, see `settle.rs`.

use bytes::Bytes;
use half::f16;
use motorbrain_kernels::ElementType;

use super::floats::bytes_of;
use crate::model::onnx::{self, GraphProto, TensorProto, ValueInfoProto, type_proto};

/// Changes the types that a graph and its subgraphs declare, and the constants in attributes.
pub(crate) fn types(graph: &mut GraphProto) {
    let values = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
    values.for_each(declared);
    for node in &mut graph.node {
        let cast = node.op_type() == "Cast";
        for attribute in &mut node.attribute {
            if cast && attribute.name() == "to" && attribute.i == Some(i64::from(onnx::FLOAT16)) {
                attribute.i = Some(i64::from(onnx::FLOAT));
            }
            attribute.t.as_deref_mut().into_iter().for_each(constant);
            attribute.g.as_deref_mut().into_iter().chain(&mut attribute.graphs).for_each(|graph| {
                types(graph);
                graph.initializer.iter_mut().for_each(constant);
            });
        }
    }
}

fn declared(value: &mut ValueInfoProto) {
    if let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|r#type| r#type.value.as_mut())
        && tensor.elem_type == Some(onnx::FLOAT16)
    {
        tensor.elem_type = Some(onnx::FLOAT);
    }
}

/// A constant whose bytes are in the graph.
fn constant(tensor: &mut TensorProto) {
    if tensor.data_type() != onnx::FLOAT16 {
        return;
    }
    let values: Vec<f32> = match &tensor.raw_data {
        Some(raw) => ElementType::F16.numbers(raw),
        None => tensor.int32_data.drain(..).map(|bits| f16::from_bits(bits as u16).to_f32()).collect(),
    };
    tensor.raw_data = Some(Bytes::from(bytes_of(&values)));
    tensor.data_type = Some(onnx::FLOAT);
}
