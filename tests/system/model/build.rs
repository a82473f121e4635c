//! A builder of small graphs: one layer of a language model that concatenates embeddings as keys, and
//! whatever head a test wants. They are read and checked, never run.

use std::{fs, path::Path};

use bytes::Bytes;
use motorbrain::model::onnx::{
    self, AttributeProto, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};
use prost::Message;
use tempfile::TempDir;

pub(crate) const VOCAB: i64 = 300;
pub(crate) const HIDDEN: i64 = 32;

/// A graph of one layer, 2 KV heads of 16, whose hidden states are `x` and whose head is given.
pub(crate) fn language_model(head: impl IntoIterator<Item = NodeProto>) -> GraphProto {
    let heads = |tokens: &str| [named("b"), sized(2), named(tokens), sized(16)].to_vec();
    let mut graph = GraphProto {
        name: Some("test".into()),
        input: vec![
            value("input_ids", onnx::INT64, vec![named("b"), named("s")]),
            value("past_key_values.0.key", onnx::FLOAT, heads("p")),
            value("past_key_values.0.value", onnx::FLOAT, heads("p")),
        ],
        output: vec![
            value("logits", onnx::FLOAT, vec![named("b"), named("s"), sized(VOCAB)]),
            value("present.0.key", onnx::FLOAT, heads("t")),
            value("present.0.value", onnx::FLOAT, heads("t")),
        ],
        node: vec![
            node("Gather", &["embedding", "input_ids"], &["embedded"]),
            node("Reshape", &["embedded", "heads"], &["k"]),
            node("Transpose", &["k"], &["new"]),
            node("Concat", &["past_key_values.0.key", "new"], &["present.0.key"]),
            node("Concat", &["past_key_values.0.value", "new"], &["present.0.value"]),
            node("Mul", &["norm", "embedded"], &["x"]),
        ],
        initializer: vec![
            floats("embedding", &[VOCAB, HIDDEN]),
            floats("projection", &[HIDDEN, VOCAB]),
            floats("norm", &[HIDDEN]),
            floats("bias", &[VOCAB]),
            floats("scalar", &[]),
            integers("heads", &[0, -1, 2, 16]),
        ],
        ..GraphProto::default()
    };
    graph.node.extend(head);
    graph
}

/// The plainest head.
pub(crate) fn projection() -> [NodeProto; 1] {
    [node("MatMul", &["x", "projection"], &["logits"])]
}

/// A folder with that graph alone.
pub(crate) fn folder(graph: GraphProto) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), graph);
    dir
}

/// Writes `model.onnx` with that graph.
pub(crate) fn write(dir: &Path, graph: GraphProto) {
    fs::write(dir.join("model.onnx"), model(graph).encode_to_vec()).unwrap();
}

pub(crate) fn model(graph: GraphProto) -> ModelProto {
    let operators = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version };
    ModelProto {
        ir_version: Some(8),
        graph: Some(graph),
        opset_import: vec![operators("", Some(18)), operators("com.microsoft", Some(1))],
        ..ModelProto::default()
    }
}

pub(crate) fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NodeProto { op_type: Some(op_type.into()), input: owned(inputs), output: owned(outputs), ..NodeProto::default() }
}

/// The same node with one more integer attribute.
pub(crate) fn with(mut node: NodeProto, name: &str, i: i64) -> NodeProto {
    node.attribute.push(AttributeProto {
        name: Some(name.into()),
        i: Some(i),
        r#type: Some(2),
        ..AttributeProto::default()
    });
    node
}

pub(crate) fn value(name: &str, elem_type: i32, dims: Vec<Dimension>) -> ValueInfoProto {
    ValueInfoProto::tensor(name, elem_type, dims)
}

pub(crate) fn floats(name: &str, dims: &[i64]) -> TensorProto {
    let elements = usize::try_from(dims.iter().product::<i64>()).unwrap();
    tensor(name, onnx::FLOAT, dims, vec![0; 4 * elements])
}

pub(crate) fn integers(name: &str, values: &[i64]) -> TensorProto {
    let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, onnx::INT64, &[i64::try_from(values.len()).unwrap()], raw)
}

pub(crate) fn tensor(name: &str, data_type: i32, dims: &[i64], raw: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(data_type),
        dims: dims.to_vec(),
        raw_data: Some(Bytes::from(raw)),
        ..TensorProto::default()
    }
}

pub(crate) fn named(name: &str) -> Dimension {
    Dimension::named(name)
}

pub(crate) fn sized(size: i64) -> Dimension {
    Dimension::size(usize::try_from(size).unwrap())
}
