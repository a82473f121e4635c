//! Products with a transposed constant, as one operator.
//!
//! An output projection that is the embedding again is exported as `MatMul(x, Transpose(embedding))`.
//! ONNX Runtime computes the transposed matrix while it loads, and each session keeps one of its own: half
//! a gigabyte for a vocabulary of 150,000. Its operator FusedMatMul reads the matrix the other way
//! round; the runtime packs it into the very same panels, so that not one sum differs.

use std::collections::{HashMap, HashSet};

use super::{
    build::int,
    onnx::{self, GraphProto, NodeProto, TensorProto},
};

/// Rewrites every such product of a graph; true where there was one. The transpositions stay, for whoever
/// else takes them.
pub(crate) fn fuse(graph: &mut GraphProto) -> bool {
    let matrices = graph.initializer.iter();
    let matrices = matrices.filter(|tensor| tensor.data_type() == onnx::FLOAT && tensor.dims.len() == 2);
    let matrices: HashSet<&str> = matrices.map(TensorProto::name).collect();
    let turned: HashMap<String, String> = graph
        .node
        .iter()
        .filter(|node| turns(node))
        .filter_map(|node| Some((node.output.first()?.clone(), node.input.first()?.clone())))
        .filter(|(_, matrix)| matrices.contains(matrix.as_str()))
        .collect();
    let mut fused = false;
    for node in graph.node.iter_mut().filter(|node| node.op_type() == "MatMul" && is_standard(node)) {
        let Some(matrix) = node.input.get(1).and_then(|input| turned.get(input)) else { continue };
        node.input[1].clone_from(matrix);
        node.op_type = Some("FusedMatMul".into());
        node.domain = Some(onnx::MICROSOFT.into());
        node.attribute = vec![int("transB", 1)];
        fused = true;
    }
    fused
}

fn turns(node: &NodeProto) -> bool {
    let order = node.attr("perm").map_or(&[1, 0][..], |perm| &perm.ints);
    node.op_type() == "Transpose" && is_standard(node) && order == [1, 0]
}

fn is_standard(node: &NodeProto) -> bool {
    matches!(node.domain(), "" | "ai.onnx")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::build::operator;

    #[test]
    fn only_products_with_a_turned_constant_change() {
        let constant = |name: &str, data_type| TensorProto {
            name: Some(name.into()),
            dims: vec![4, 8],
            data_type: Some(data_type),
            ..TensorProto::default()
        };
        let mut graph = GraphProto {
            node: vec![
                operator("Transpose", &["matrix"], &["turned"]),
                operator("MatMul", &["x", "turned"], &["y"]),
                operator("Transpose", &["half"], &["turned_half"]),
                operator("MatMul", &["y", "turned_half"], &["z"]),
                operator("Transpose", &["z"], &["turned_z"]),
                operator("MatMul", &["turned", "turned_z"], &["a"]),
            ],
            initializer: vec![constant("matrix", onnx::FLOAT), constant("half", onnx::FLOAT16)],
            ..GraphProto::default()
        };
        assert!(fuse(&mut graph));
        let found: Vec<_> = graph.node.iter().map(NodeProto::op_type).collect();
        assert_eq!(found, ["Transpose", "FusedMatMul", "Transpose", "MatMul", "Transpose", "MatMul"]);
        assert_eq!(graph.node[1].input, ["x", "matrix"]);
        assert_eq!(graph.node[1].int("transB"), Some(1));
        assert!(!fuse(&mut graph));
    }
}
