//! The constants of a graph that lie in files, and what its sessions may have in common of them.
//!
//! ONNX Runtime takes a value that is handed to it in the place of an initializer, as long as it has
//! the initializer's shape when the graph is ready to run. Some of the runtime's rewrites turn a constant
//! around under its own name, so only constants whose every use is known are shared: what products
//! multiply with, what is looked up, what attention rotates by.

use std::collections::HashSet;

use super::{
    external::{Reference, bytes_of},
    onnx::{self, GraphProto, NodeProto, TensorProto, ValueInfoProto},
    view::View,
};

/// More inputs than any operator has whose constants are known to stay.
const INPUTS_MAX: usize = 16;

/// From here up sharing is worth a look, in bytes.
const BYTES_MIN: u64 = 1024;

/// A constant that lies in a file of the model's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Initializer {
    pub(crate) name: String,
    /// The schema's number of its type.
    pub(crate) data_type: i32,
    pub(crate) dims: Vec<i64>,
    /// Relative to the folder.
    pub(crate) location: String,
    /// In bytes.
    pub(crate) offset: u64,
    /// In bytes, as many as shape and type ask for.
    pub(crate) bytes: u64,
    pub(crate) sharing: Sharing,
    /// Whether the runtime may compute with it while it makes a session, for which it reads the file by itself.
    pub(crate) folded: bool,
}

/// What sessions may have in common of a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Nothing: the runtime makes of it what it wants.
    Own,
    /// All of it.
    Lent,
    /// What the runtime packs it to: a matrix in f32 that is only multiplied with. Once it is packed, nobody looks at
    /// the constant again.
    Packed,
}

/// The constants of a graph that lie in files, those of subgraphs apart.
pub(crate) fn external(graph: &GraphProto) -> Vec<Initializer> {
    let view = View::new(graph);
    // Old graphs list initializers among their inputs: those are defaults, no constants.
    let given: HashSet<&str> = graph.input.iter().chain(&graph.output).map(ValueInfoProto::name).collect();
    let is_constant = |name: &str| !given.contains(name);
    let uses = |name: &str, known: fn(&NodeProto, &str) -> bool| {
        view.consumers(name).iter().all(|&index| known(&graph.node[index], name))
    };
    let sharing = |found: &Initializer| {
        let large = found.bytes >= BYTES_MIN && is_constant(&found.name);
        let whole = matches!(found.data_type, onnx::FLOAT | onnx::FLOAT16 | onnx::UINT8 | onnx::INT8);
        if !large || !whole || !uses(&found.name, takes_as_it_is) {
            Sharing::Own
        } else if found.data_type == onnx::FLOAT && found.dims.len() == 2 && uses(&found.name, packs) {
            Sharing::Packed
        } else {
            Sharing::Lent
        }
    };
    let found = graph.initializer.iter().filter_map(Initializer::of).map(|found| {
        let sharing = sharing(&found);
        // Turned around, or widened, since processors multiply by f32.
        let made_another =
            found.data_type == onnx::FLOAT16 || !uses(&found.name, |node, _| node.op_type() != "Transpose");
        let folded = sharing == Sharing::Own || made_another;
        Initializer { sharing, folded, ..found }
    });
    found.collect()
}

/// Whether the runtime packs a matrix of f32 that a node takes, and is done with it.
fn packs(node: &NodeProto, name: &str) -> bool {
    matches!(node.op_type(), "MatMul" | "FusedMatMul" | "Gemm") && takes_as_it_is(node, name)
}

/// Whether the runtime leaves a constant as it is, whatever it makes of a node that takes it.
fn takes_as_it_is(node: &NodeProto, name: &str) -> bool {
    let places = match node.op_type() {
        "MatMul" | "FusedMatMul" | "Gemm" | "MatMulInteger" => 1..=1,
        // Folded away, under a new name.
        "Transpose" | "Gather" => 0..=0,
        "GatherBlockQuantized" => 0..=3,
        "MatMulNBits" => 1..=3,
        "GroupQueryAttention" => 7..=8,
        _ => return false,
    };
    if node.input.len() > INPUTS_MAX {
        return false;
    }
    // A subgraph's use is no input.
    let mut uses = node.input.iter().enumerate().filter(|(_, input)| *input == name).peekable();
    uses.peek().is_some() && uses.all(|(place, _)| places.contains(&place))
}

impl Initializer {
    fn of(tensor: &TensorProto) -> Option<Self> {
        if tensor.data_location() != onnx::EXTERNAL {
            return None;
        }
        let Reference { location, offset, length } = Reference::of(tensor).ok()?;
        // What is empty lies nowhere.
        let bytes = bytes_of(tensor).filter(|&bytes| bytes > 0 && length.is_none_or(|length| length == bytes))?;
        Some(Self {
            name: tensor.name().to_owned(),
            data_type: tensor.data_type(),
            dims: tensor.dims.clone(),
            location: location.to_owned(),
            offset,
            bytes,
            sharing: Sharing::Own,
            folded: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{build::operator, onnx::StringStringEntryProto};

    fn constant(name: &str, dims: &[i64], data_type: i32) -> TensorProto {
        TensorProto {
            name: Some(name.into()),
            dims: dims.to_vec(),
            data_type: Some(data_type),
            data_location: Some(onnx::EXTERNAL),
            external_data: vec![
                StringStringEntryProto::new("location", "weights"),
                StringStringEntryProto::new("offset", "64"),
            ],
            ..TensorProto::default()
        }
    }

    #[test]
    fn what_is_turned_around_or_unknown_stays_the_sessions_own() {
        let value = |name: &str| ValueInfoProto { name: Some(name.into()), ..ValueInfoProto::default() };
        let large = |name| constant(name, &[32, 32], onnx::FLOAT);
        let graph = GraphProto {
            node: vec![
                operator("Gather", &["table", "ids"], &["x"]),
                operator("MatMul", &["x", "matrix"], &["y"]),
                operator("MatMul", &["left", "y"], &["z"]),
                operator("Add", &["z", "sum"], &["a"]),
                operator("MatMul", &["a", "also_added"], &["b"]),
                operator("Add", &["b", "also_added"], &["c"]),
                operator("MatMul", &["c", "small"], &["d"]),
                operator("MatMul", &["d", "default"], &["e"]),
                operator("MatMul", &["e", "whole_numbers"], &["f"]),
            ],
            initializer: ["table", "matrix", "left", "sum", "also_added", "default"]
                .into_iter()
                .map(large)
                .chain([constant("small", &[4, 4], onnx::FLOAT), constant("whole_numbers", &[32, 32], onnx::INT64)])
                .collect(),
            input: vec![value("ids"), value("default")],
            output: vec![value("f")],
            ..GraphProto::default()
        };
        let found = external(&graph);
        let of = |sharing| -> Vec<&str> {
            found.iter().filter(|found| found.sharing == sharing).map(|found| found.name.as_str()).collect()
        };
        assert_eq!(of(Sharing::Lent), ["table"]);
        assert_eq!(of(Sharing::Packed), ["matrix"]);
        assert_eq!(of(Sharing::Own), ["left", "sum", "also_added", "default", "small", "whole_numbers"]);
        let Initializer { dims, location, offset, bytes, .. } = &found[0];
        assert_eq!((dims.as_slice(), location.as_str(), *offset, *bytes), (&[32, 32][..], "weights", 64, 4096));
    }
}
